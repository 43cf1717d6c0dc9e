//! A hybrid describes its files twice. Both must say the same, or one swarm would spread two
//! contents under one name.

use super::HybridMismatch;
use super::list::FileList;

/// Compares the v1 list with the files of the v2 tree, and gives each v1 entry its root.
///
/// Files must be the same in order, path and length. Every file with content must begin on the
/// piece boundary that the v2 layout gives it; pad files may stand before or after empty files, as
/// libtorrent accepts too. The end may be padded to a whole piece or not at all.
pub(super) fn join<'a>(
    v1: FileList<'a>,
    v2: &FileList<'a>,
    piece_length: u32,
) -> Result<FileList<'a>, HybridMismatch> {
    let piece_length = u64::from(piece_length.max(1));
    let counts = HybridMismatch::FileCount {
        v1: v1.content_count,
        v2: v2.content_count,
    };
    let mut described = v2.files().filter(|file| !file.pad);

    let mut offset = 0_u64;
    let mut content_end = 0_u64;
    let mut number = 0;
    for file in v1.files() {
        if !file.pad {
            let Some(twin) = described.next() else {
                return Err(counts);
            };
            if file.path != twin.path {
                return Err(HybridMismatch::Path(number));
            }
            if file.length != twin.length {
                return Err(HybridMismatch::Length(number));
            }
            if file.symlink != twin.symlink {
                return Err(HybridMismatch::Symlink(number));
            }
            if file.length > 0 {
                if offset != content_end.next_multiple_of(piece_length) {
                    return Err(HybridMismatch::Alignment(number));
                }
                content_end = offset.saturating_add(file.length);
            }
            number += 1;
        }
        offset = offset.saturating_add(file.length);
    }
    if described.next().is_some() {
        return Err(counts);
    }
    if offset != content_end && offset != content_end.next_multiple_of(piece_length) {
        return Err(HybridMismatch::TailPadding);
    }
    // The tree of a directory that holds one file looks like that of a single file; the v1 list tells
    // them apart, so its word counts.
    Ok(v1.joined_with(v2))
}
