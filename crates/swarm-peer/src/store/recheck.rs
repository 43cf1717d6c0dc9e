//! Looking again at pieces that could not be read, or that somebody else may have written to.

use std::collections::BTreeSet;

use swarm_proto::bitfield::Bitfield;
use swarm_proto::geometry::PieceIndex;
use swarm_proto::metainfo::Metainfo;
use swarm_proto::verify::{AssembledPiece, verify};

use super::PieceStore;

/// Which of the pieces in `had` are not there any more. Blocks.
///
/// Looks at `doubted` and, where a file of theirs was changed by somebody else, at all pieces of
/// that file. A file that stayed as it was meanwhile is believed again from then on.
pub(crate) fn recheck(
    meta: &Metainfo,
    store: &dyn PieceStore,
    doubted: &[PieceIndex],
    had: &Bitfield,
) -> Vec<PieceIndex> {
    let geometry = meta.geometry();
    let files_of = |piece: PieceIndex| store.files_of(&geometry.piece_range(piece));
    let before = store.stamps();
    let changed: BTreeSet<usize> = doubted
        .iter()
        .flat_map(|&piece| files_of(piece))
        .filter(|&file| !store.is_untouched(file, before.get(file).copied().flatten()))
        .collect();
    let mut pieces: BTreeSet<PieceIndex> = doubted.iter().copied().collect();
    if !changed.is_empty() {
        let touched = |piece: &PieceIndex| files_of(*piece).iter().any(|f| changed.contains(f));
        pieces.extend(geometry.pieces().filter(touched));
    }
    let is_right = |piece: PieceIndex| {
        store
            .read_doubted(&geometry.piece_range(piece))
            .is_ok_and(|bytes| verify(meta, AssembledPiece { piece, bytes }).is_ok())
    };
    let lost: Vec<_> = pieces
        .into_iter()
        .filter(|&piece| had.contains(piece) && !is_right(piece))
        .collect();
    // Before files are believed: requests for these pieces may be on their way to the store.
    store.lose(&lost);
    let after = store.stamps();
    for file in changed {
        if before.get(file) == after.get(file) {
            store.believe(file, after.get(file).copied().flatten());
            store.unsynced(file);
        }
    }
    lost
}
