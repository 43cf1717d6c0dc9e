//! Where pieces are kept: [`PieceStore`], whose write takes [`VerifiedBytes`] and nothing else.
//!
//! All of it blocks but `read_at_once`, and runs on blocking threads. Bytes are addressed in the torrent's content
//! (`Geometry`); pad files are never stored, and read as zeros.

mod attributes;
mod check;
pub(crate) mod durable;
mod fs;
mod hashed;
mod layout;
mod mem;
mod open_files;
mod preallocate;
mod recheck;
mod resume;
pub(crate) mod sealed;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use swarm_proto::geometry::{ByteRange, PieceIndex};
use swarm_proto::id::Digest;
use swarm_proto::metainfo::Metainfo;
use swarm_proto::verify::VerifiedBytes;

pub use check::{Checked, check};
pub use durable::write_atomic;
pub(crate) use fs::FileStore;
pub use fs::folder_paths;
use hashed::hashed;
use mem::MemoryStore;
pub(crate) use recheck::recheck;
pub use resume::{ResumeState, Stamp};

/// How and where the bytes of one bundle are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Storage {
    /// By the torrent's (sanitised) names below this directory, as other clients do it.
    Folder {
        /// The directory that holds the torrent's top-level name.
        dir: PathBuf,
    },
    /// Read only: each file of the torrent, pad files left out, lies at the path of the same index.
    Files {
        /// Paths in the order of `Metainfo::files` without pad files.
        paths: Vec<PathBuf>,
    },
    /// By hash: `dir/<info hash>/data`. No name chosen by a stranger reaches the disk.
    Store {
        /// The directory shared by all bundles.
        dir: PathBuf,
    },
    /// In memory; gone with the process.
    Memory,
}

/// Why bytes could not be stored or read. The machine's fault, never a peer's.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The file system said no.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// "read", "write" and so on.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The bytes are not there (yet).
    #[error("bytes {start}..{end} are not stored")]
    Missing {
        /// First byte asked for.
        start: u64,
        /// First byte not asked for.
        end: u64,
    },
    /// A published file is no longer what was checked.
    #[error("{} has changed since it was checked", .0.display())]
    Changed(PathBuf),
    /// A sync failed before; what was written by then may be lost, and no later sync tells.
    #[error("what was written before a failed sync may be lost")]
    Unsound,
    /// A store of published files is never written to.
    #[error("the store is read only")]
    ReadOnly,
    /// Paths and files of the torrent do not match in number.
    #[error("{paths} paths for {files} files")]
    PathCount {
        /// Paths given.
        paths: usize,
        /// Files of the torrent.
        files: usize,
    },
}

impl StoreError {
    pub(crate) fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            doing,
            path: path.to_owned(),
            source,
        }
    }

    /// What the system said, where it was the system.
    fn fault(&self) -> Option<&io::Error> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }

    /// Whether it may pass (no room, a flaky disk): a reason to wait and try again, not to give up.
    pub fn may_pass(&self) -> bool {
        use io::ErrorKind as Kind;
        matches!(self, Self::Io { source, .. } if !matches!(
            source.kind(),
            Kind::PermissionDenied
                | Kind::ReadOnlyFilesystem
                | Kind::NotADirectory
                | Kind::IsADirectory
                | Kind::InvalidFilename
                | Kind::FileTooLarge
        ))
    }
}

/// Keeps the pieces of one bundle. Every method but `read_at_once` may block.
pub trait PieceStore: Send + Sync + 'static {
    /// Bytes of every piece but the last.
    fn piece_length(&self) -> u64;

    /// Stores a verified piece. Durable only after [`Self::sync`].
    ///
    /// # Errors
    /// [`StoreError`]: the piece counts as missing.
    fn write(&self, piece: &VerifiedBytes) -> Result<(), StoreError>;

    /// Fills `out` with the content from byte `at` on. Whoever asks has seen to it that the pieces
    /// there were verified.
    ///
    /// # Errors
    /// [`StoreError`]: `out` holds nothing of use.
    fn read_into(&self, at: u64, out: &mut [u8]) -> Result<(), StoreError>;

    /// [`Self::read_into`] if nobody has to wait for it: `None` if the bytes would have to come
    /// from a disk. The only method that does not block.
    ///
    /// # Errors
    /// As there.
    fn read_at_once(&self, _at: u64, _out: &mut [u8]) -> Option<Result<(), StoreError>> {
        None
    }

    /// Makes all that was written durable, and what [`Self::unsynced`] named.
    ///
    /// # Errors
    /// [`StoreError`]: what was written since the last success may be lost. Every later sync of
    /// files fails too.
    fn sync(&self) -> Result<(), StoreError>;

    /// Has the disk set aside room for these bytes of the content, so that a disk too full is known
    /// at once and files lie in few places. `false` where the file system cannot do that.
    ///
    /// # Errors
    /// [`StoreError`]: there is no room, and what was set aside is given back.
    fn preallocate(&self, _ranges: &[ByteRange]) -> Result<bool, StoreError> {
        Ok(true)
    }

    /// Called when every piece is there, or every piece of the chosen ranges: makes what has no
    /// bytes (empty files), and gives files what else the torrent says of them. Of chosen ranges
    /// only files that lie in one of them, and empty ones that are one of them.
    ///
    /// # Errors
    /// [`StoreError`]: some file could not be made.
    fn finish(&self, chosen: Option<&[ByteRange]>) -> Result<(), StoreError>;

    /// Length and time of change of each file, to tell whether somebody else touched it.
    fn stamps(&self) -> Vec<Option<Stamp>>;

    /// The stamps to record with what was verified: those that the files had then.
    fn stamps_to_record(&self) -> Vec<Option<Stamp>> {
        self.stamps()
    }

    /// Whether all bytes of the range may be stored, going by [`Self::stamps`] taken before.
    fn may_hold(&self, range: &ByteRange, stamps: &[Option<Stamp>]) -> bool;

    /// Which entry of [`Self::stamps`] each part of the range lies in.
    fn files_of(&self, range: &ByteRange) -> Vec<usize>;

    /// [`Self::read`], whoever may have written there: for who verifies what comes out.
    ///
    /// # Errors
    /// As [`Self::read_into`].
    fn read_doubted(&self, range: &ByteRange) -> Result<Bytes, StoreError> {
        self.read(range)
    }

    /// Whether the file with that stamp is as the store knows it.
    fn is_untouched(&self, _file: usize, _stamp: Option<Stamp>) -> bool {
        true
    }

    /// These pieces are not there: they are not to be read until they are written anew.
    fn lose(&self, _pieces: &[PieceIndex]) {}

    /// What was verified of the file holds for this stamp of it.
    fn believe(&self, _file: usize, _stamp: Option<Stamp>) {}

    /// What was verified of the file may be in memory only, left there by who wrote it: the next
    /// sync covers it.
    fn unsynced(&self, _file: usize) {}

    /// [`Self::read_into`] with its own buffer.
    ///
    /// # Errors
    /// As there.
    fn read(&self, range: &ByteRange) -> Result<Bytes, StoreError> {
        let len = usize::try_from(range.len()).map_err(|_| StoreError::Missing {
            start: range.start,
            end: range.end,
        })?;
        let mut bytes = vec![0; len];
        self.read_into(range.start, &mut bytes)?;
        Ok(bytes.into())
    }

    /// Bytes of one piece, as blocks name them.
    ///
    /// # Errors
    /// As [`Self::read_into`].
    fn read_in_piece(&self, piece: PieceIndex, begin: u32, len: u32) -> Result<Bytes, StoreError> {
        let start = u64::from(piece.get()) * self.piece_length() + u64::from(begin);
        self.read(&ByteRange::new(start, start + u64::from(len)))
    }
}

impl Storage {
    /// Opens the store for this torrent. Nothing is written yet.
    ///
    /// # Errors
    /// [`StoreError`]: paths do not match the torrent, or the directory cannot be made.
    pub fn open(&self, meta: &Metainfo) -> Result<Arc<dyn PieceStore>, StoreError> {
        Ok(match self {
            Self::Folder { dir } => Arc::new(FileStore::folder(meta, dir)),
            Self::Files { paths } => Arc::new(FileStore::published(meta, paths)?),
            Self::Store { dir } => Arc::new(hashed(meta, dir)?),
            Self::Memory => Arc::new(MemoryStore::new(meta)),
        })
    }

    /// Tells the same bundle in two places apart.
    fn place_name(&self) -> String {
        let digest = match self {
            Self::Folder { dir } => {
                let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.clone());
                Digest::of(dir.as_os_str().as_encoded_bytes())
            }
            Self::Files { paths } => {
                let all: Vec<&[u8]> = paths
                    .iter()
                    .map(|path| path.as_os_str().as_encoded_bytes())
                    .collect();
                Digest::of(&all.join(&0))
            }
            Self::Store { .. } | Self::Memory => return String::new(),
        };
        let mut text = digest.to_string();
        text.truncate(16);
        format!("-{text}")
    }

    /// Where this bundle's resume state lies: in `state_dir` if there is one, else beside the data.
    pub fn state_path(&self, meta: &Metainfo, state_dir: Option<&Path>) -> Option<PathBuf> {
        let name = format!("{}{}.state", hash_name(meta), self.place_name());
        match (self, state_dir) {
            (Self::Memory, _) => None,
            (Self::Store { dir }, _) => Some(dir.join(hash_name(meta)).join("state")),
            (_, Some(state_dir)) => Some(state_dir.join(name)),
            (Self::Folder { dir }, None) => Some(dir.join(".swarm-state").join(name)),
            (Self::Files { .. }, None) => None,
        }
    }
}

/// The info hash that names a bundle on our disks: v2 where there is one.
pub fn hash_name(meta: &Metainfo) -> String {
    match (meta.info_hash_v2(), meta.info_hash_v1()) {
        (Some(v2), _) => v2.to_string(),
        (None, Some(v1)) => v1.to_string(),
        (None, None) => String::from("none"),
    }
}

#[cfg(test)]
mod tests;
