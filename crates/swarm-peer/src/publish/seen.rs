//! What a file was like when it was looked at, to tell whether it changed since.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Which file has a name, how long it is and when it last changed. The time of the last change to
/// the inode is one that nobody can set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    file: (u64, u64),
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Seen {
    pub(super) fn of(found: &Metadata) -> Self {
        Self {
            file: (found.dev(), found.ino()),
            length: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        }
    }

    /// Whether the file of that name is still the one that was seen, as it was then.
    pub(super) fn is_still(&self, path: &Path) -> bool {
        fs::metadata(path).is_ok_and(|found| Self::of(&found) == *self)
    }
}
