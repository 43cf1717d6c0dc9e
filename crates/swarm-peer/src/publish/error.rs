//! What keeps a folder from being published.

use std::io;
use std::path::PathBuf;

use swarm_proto::manifest::{FormatError, TrustError};
use swarm_proto::metainfo::{BuildError, MetainfoError};

/// Why publishing, or loading what was published, failed. Nothing of it is a stranger's fault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// A file or folder that cannot be read. Publishing stops rather than leave it out silently.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file or folder that cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The root is no folder.
    #[error("{} is not a folder", .0.display())]
    NotAFolder(PathBuf),
    /// The root has no file that may be published.
    #[error("nothing to publish in {}", .0.display())]
    EmptySite(PathBuf),
    /// More files than a manifest names.
    #[error("{} has more than {max} files", path.display())]
    TooManyFiles {
        /// The root.
        path: PathBuf,
        /// The limit.
        max: usize,
    },
    /// Output or keys inside the folder that is published.
    #[error("{} is inside the folder that is published", .0.display())]
    Inside(PathBuf),
    /// A file that changed between two looks at it. Publishing again helps.
    #[error("{} changed while it was read; publish again", .0.display())]
    Changed(PathBuf),
    /// A file of ours (key, layout, record) that is not what it should be.
    #[error("{} is damaged: {why}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Keys for another site.
    #[error("the keys in {} are for {found}, not for {wanted}", path.display())]
    OtherSite {
        /// The folder of keys.
        path: PathBuf,
        /// The site they are for.
        found: String,
        /// The site to be published.
        wanted: String,
    },
    /// Only the root key could do what is needed, and it is not here.
    #[error("{} is missing: {why}", path.display())]
    NoRootKey {
        /// Where it was looked for.
        path: PathBuf,
        /// What it is needed for.
        why: &'static str,
    },
    /// A torrent could not be built.
    #[error("cannot build a bundle")]
    Bundle(#[from] BuildError),
    /// A torrent on disk could not be read.
    #[error("{} is no bundle", path.display())]
    Metainfo {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: MetainfoError,
    },
    /// A manifest could not be signed, or one on disk is not to be trusted.
    #[error("manifest")]
    Manifest(#[from] TrustError),
    /// A value that no manifest can hold.
    #[error("manifest")]
    Format(#[from] FormatError),
    /// No randomness for a new key.
    #[error("the system has no random numbers for a new key")]
    Random,
}

impl PublishError {
    pub(super) fn read(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Read { path, source }
    }

    pub(super) fn write(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Write { path, source }
    }

    pub(super) fn damaged(path: impl Into<PathBuf>, why: impl ToString) -> Self {
        Self::Damaged {
            path: path.into(),
            why: why.to_string(),
        }
    }
}
