//! [`load`]: what was published, read back for seeding.

use std::path::Path;

use swarm_proto::limits;
use swarm_proto::manifest::SiteRecord;
use swarm_proto::metainfo::Metainfo;

use super::error::PublishError;
use super::files::read_limited;
use super::layout::Layout;
use super::run::torrent_path;
use super::{Published, PublishedBundle};

/// Reads a published folder.
///
/// The folder is the operator's own, so nothing is judged here but whether it is whole: an expired
/// manifest loads, and bytes are verified piece by piece when they are served.
///
/// # Errors
/// [`PublishError::Read`] or [`PublishError::Damaged`], naming the file.
pub fn load(out: &Path) -> Result<Published, PublishError> {
    let path = out.join("manifest");
    let bytes = read_limited(&path, limits::SITE_RECORD_LEN_MAX)?;
    let record = SiteRecord::parse(&bytes).map_err(|error| PublishError::damaged(&path, error))?;
    let manifest = record
        .manifest
        .claimed_manifest()
        .map_err(|error| PublishError::damaged(&path, error))?;
    let layout_path = Layout::path(out);
    let layout = Layout::read(out)?
        .ok_or_else(|| PublishError::damaged(&layout_path, "it is missing; publish again"))?;
    let bundles = manifest
        .bundles
        .iter()
        .map(|bundle| {
            let path = torrent_path(out, &bundle.v2);
            let bytes = read_limited(&path, limits::METAINFO_LEN_MAX)?;
            let metainfo = Metainfo::parse(&bytes).map_err(|source| PublishError::Metainfo {
                path: path.clone(),
                source,
            })?;
            let same = metainfo.info_hash_v2() == Some(bundle.v2)
                && metainfo.info_hash_v1() == Some(bundle.v1);
            if !same {
                return Err(PublishError::damaged(
                    &path,
                    "another torrent than its name says",
                ));
            }
            let laid = layout.bundles.get(&bundle.v2).ok_or_else(|| {
                PublishError::damaged(&layout_path, "a bundle is missing; publish again")
            })?;
            let files: Vec<_> = laid
                .files
                .iter()
                .map(|place| layout.disk(out, place))
                .collect();
            if files.len() != metainfo.files().iter().filter(|file| !file.pad).count() {
                return Err(PublishError::damaged(
                    &layout_path,
                    "files are missing; publish again",
                ));
            }
            Ok(PublishedBundle {
                metainfo,
                files,
                unchanged: true,
            })
        })
        .collect::<Result<_, _>>()?;
    Ok(Published {
        keys: record.keys.newest_claimed().clone(),
        record,
        manifest,
        bundles,
        skipped: Vec::new(),
    })
}
