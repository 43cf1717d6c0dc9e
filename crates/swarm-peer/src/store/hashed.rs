//! Bundles by hash: `dir/<info hash>/data`, for who holds bundles of strangers.

use std::path::Path;

use swarm_proto::metainfo::Metainfo;

use super::{FileStore, StoreError, hash_name};

/// A store in `dir/<info hash>/data`. The torrent itself is kept beside it, so that the directory
/// says what it holds.
///
/// # Errors
/// [`StoreError::Io`]: the directory cannot be made.
pub(super) fn hashed(meta: &Metainfo, dir: &Path) -> Result<FileStore, StoreError> {
    let home = dir.join(hash_name(meta));
    let torrent = home.join("bundle.torrent");
    if !torrent.exists() {
        super::write_atomic(&torrent, &meta.to_bytes())
            .map_err(|source| StoreError::io("write", &torrent, source))?;
    }
    Ok(FileStore::single(meta, home.join("data")))
}
