//! Re-hashing what is on disk, through the same door as what comes from peers.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use swarm_proto::bitfield::Bitfield;
use swarm_proto::geometry::PieceIndex;
use swarm_proto::metainfo::Metainfo;
use swarm_proto::verify::{AssembledPiece, verify};

use super::{PieceStore, ResumeState};

/// What [`check`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// Pieces that are right.
    pub have: Bitfield,
    /// Pieces whose bytes are there and wrong; the first 1,000 of them.
    pub wrong: Vec<PieceIndex>,
    /// How many pieces were hashed; the others were known from the resume state or absent.
    pub hashed: u32,
}

/// How many wrong pieces are listed by number.
const WRONG_MAX: usize = 1000;

/// Finds out which pieces the store holds. Blocks, and hashes on all cores.
///
/// Pieces that `known` records are believed if every file they touch still has its stamp; all
/// others whose bytes are there are hashed. `done` counts pieces dealt with; `stop` ends the check
/// early with what is known by then.
pub fn check(
    meta: &Metainfo,
    store: &dyn PieceStore,
    known: Option<&ResumeState>,
    done: &AtomicU32,
    stop: &AtomicBool,
) -> Checked {
    let geometry = meta.geometry();
    let stamps = store.stamps();
    let same: Vec<bool> = stamps
        .iter()
        .enumerate()
        .map(|(at, now)| now.is_some() && known.and_then(|k| k.stamps.get(at)) == Some(now))
        .collect();
    let believed = |piece: PieceIndex| {
        known.is_some_and(|known| known.pieces.contains(piece))
            && store
                .files_of(&geometry.piece_range(piece))
                .iter()
                .all(|&file| same.get(file) == Some(&true))
    };
    let found = Mutex::new(Checked {
        have: Bitfield::none_of(geometry),
        wrong: Vec::new(),
        hashed: 0,
    });
    let next = AtomicU32::new(0);
    let work = || {
        while !stop.load(Ordering::Relaxed) {
            let Some(piece) = geometry.piece(next.fetch_add(1, Ordering::Relaxed)) else {
                break;
            };
            let range = geometry.piece_range(piece);
            let there = store.may_hold(&range, &stamps);
            let known = there && believed(piece);
            let right = known
                || there
                    && store
                        .read_doubted(&range)
                        .is_ok_and(|bytes| verify(meta, AssembledPiece { piece, bytes }).is_ok());
            let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
            found.hashed += u32::from(there && !known);
            if right {
                found.have.insert(piece);
            } else if there && found.wrong.len() < WRONG_MAX {
                found.wrong.push(piece);
            }
            done.fetch_add(1, Ordering::Relaxed);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = threads.min(geometry.piece_count() as usize).max(1);
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    for (file, stamp) in stamps.iter().enumerate() {
        store.believe(file, *stamp);
        // Whoever wrote it may have been killed before it was synced.
        if stamp.is_some() && same.get(file) != Some(&true) {
            store.unsynced(file);
        }
    }
    let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.wrong.sort_unstable();
    found
}
