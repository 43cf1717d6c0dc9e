//! Room set aside on the disk for files that are to come.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::MetadataExt as _;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;
use swarm_proto::geometry::ByteRange;

use super::layout::Part;
use super::{FileStore, PieceStore as _, StoreError};

/// Bytes of one block that `st_blocks` counts, whatever the file system's own blocks are.
const STAT_BLOCK_LEN: u64 = 512;

impl FileStore {
    /// Files grow no longer by it: what no piece was written to yet is not taken for content at the
    /// next start.
    pub(super) fn set_aside(&self, ranges: &[ByteRange]) -> Result<bool, StoreError> {
        if self.read_only {
            return Ok(true);
        }
        let mut begun = BTreeSet::new();
        for part in ranges.iter().flat_map(|range| self.layout.parts(range)) {
            let Some(index) = part.file else { continue };
            begun.insert(index);
            match self.set_aside_part(index, &part) {
                Ok(()) => {}
                Err(StoreError::Io { source, .. }) if is_unable(&source) => return Ok(false),
                Err(error) => {
                    for index in begun {
                        self.give_back(index);
                    }
                    return Err(error);
                }
            }
        }
        Ok(true)
    }

    fn set_aside_part(&self, index: usize, part: &Part) -> Result<(), StoreError> {
        let failed = |source| StoreError::io("set aside room for", self.path(index), source);
        let opened = self.handle(index, true)?;
        let _turn = self.turn(index);
        let before = opened.file.metadata().map_err(failed)?;
        let length = self.layout.lengths().get(index).copied().unwrap_or(0);
        // Left alone, or its time of change would move, and it would be hashed again.
        if before.blocks().saturating_mul(STAT_BLOCK_LEN) >= length {
            return Ok(());
        }
        let is_ours = self.is_untouched(index, opened.stamp().map_err(failed)?);
        fallocate(&opened.file, FallocateFlags::KEEP_SIZE, part.at, part.len)
            .map_err(|error| failed(error.into()))?;
        if is_ours {
            self.note(index, opened.stamp().map_err(failed)?);
        }
        Ok(())
    }

    /// Frees what lies past the end of the file, as far as the file system lets us.
    fn give_back(&self, index: usize) {
        if let Ok(opened) = self.handle(index, true) {
            let _turn = self.turn(index);
            let cut = || opened.file.set_len(opened.file.metadata()?.len());
            let is_ours = opened
                .stamp()
                .is_ok_and(|stamp| self.is_untouched(index, stamp));
            if let (Ok(()), true, Ok(stamp)) = (cut(), is_ours, opened.stamp()) {
                self.note(index, stamp);
            }
        }
    }
}

/// Whether the file system knows no such thing, rather than having no room.
fn is_unable(error: &io::Error) -> bool {
    [Errno::OPNOTSUPP, Errno::NOSYS].contains(&Errno::from_io_error(error).unwrap_or(Errno::IO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_file_system_that_cannot_is_passed_over() {
        for (errno, unable) in [
            (Errno::OPNOTSUPP, true),
            (Errno::NOSYS, true),
            (Errno::NOSPC, false),
            (Errno::FBIG, false),
            (Errno::DQUOT, false),
        ] {
            assert_eq!(is_unable(&errno.into()), unable, "{errno}");
        }
    }
}
