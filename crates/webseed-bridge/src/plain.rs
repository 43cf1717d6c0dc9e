//! A folder as a plain web server: published at start under throw-away keys, and served at once.

use std::path::Path;

use swarm_peer::publish::{self, PublishConfig, PublishError, Published};
use swarm_peer::store::Storage;
use swarm_peer::{AddBundle, Node, NodeError};
use swarm_proto::manifest::SiteName;

use crate::bridge::{BridgeHandle, Carry};
use crate::error::StartError;
use crate::site::Standing;
use crate::site_source::unix_now;

/// Why a folder is not served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlainError {
    /// It cannot be published.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The publishing thread ended early.
    #[error("publishing was broken off")]
    BrokenOff,
    /// The node does not take its bundles.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The bridge does not take the site.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// Publishes `root` as `site`, with what must be kept of it, keys included, in `work`.
///
/// # Errors
/// [`PlainError::Publish`].
pub async fn publish_folder(
    site: SiteName,
    root: &Path,
    work: &Path,
) -> Result<Published, PlainError> {
    let now = unix_now();
    let config = PublishConfig::new(site, root, work.join("out"), work.join("keys"), now);
    let published = tokio::task::spawn_blocking(move || publish::publish(&config, &()));
    Ok(published.await.map_err(|_| PlainError::BrokenOff)??)
}

/// Seeds what was published from where it lies, and carries the site without end.
///
/// # Errors
/// [`PlainError::Node`], [`PlainError::Start`].
pub async fn carry_published(
    bridge: &BridgeHandle,
    node: &Node,
    published: Published,
) -> Result<(), PlainError> {
    for bundle in published.bundles {
        let storage = Storage::Files {
            paths: bundle.files,
        };
        let added = AddBundle {
            seed_only: true,
            ..AddBundle::new(bundle.metainfo.into(), storage)
        };
        node.add(added).await?;
    }
    let mut manifest = published.manifest;
    // The folder is the operator's own, read at this start: it does not go stale.
    manifest.expires = u64::MAX;
    let carry = Carry {
        manifest,
        fresh_until: u64::MAX,
        standing: Standing::Named,
        home: None,
    };
    Ok(bridge.add_site(carry).await?)
}
