//! Bundles to swarms: how a site's manifest becomes files that can be read.
//!
//! A bundle that the node holds already, as a gate's own seed does, is used as it is. Others are
//! joined by their info hash alone and left again when no edition needs them.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use swarm_peer::store::Storage;
use swarm_peer::{AddBundle, Node, NodeError};
use swarm_peer::{SwarmHandle, SwarmState};
use swarm_proto::geometry::ByteRange;
use swarm_proto::id::{InfoHashV1, SwarmId};
use swarm_proto::magnet::Magnet;
use swarm_proto::manifest::{BundleEntry, SiteManifest, SiteName};
use swarm_proto::tracker::BridgeOffer;

use crate::body::{ByteStream, Source};
use crate::config::JoinConfig;

/// The files of one bundle, wherever its bytes come from.
pub trait BundleFiles: Send + Sync {
    /// The file at `index` of the bundle's metainfo.
    fn file(&self, index: u32) -> Arc<dyn Source>;
}

/// A bundle of an edition.
pub type Bundle = Arc<dyn BundleFiles>;

/// Why a site's bundles were not joined.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The bundles are larger than what the operator gives.
    #[error("{needed} more bytes do not fit in the {max} that may be held")]
    Disk {
        /// Bytes of the bundles not held yet.
        needed: u64,
        /// The operator's limit.
        max: u64,
    },
    /// The node refused.
    #[error("bundle {0} cannot be joined")]
    Node(InfoHashV1, #[source] NodeError),
}

/// Joins and leaves swarms on behalf of sites.
pub(crate) struct Joiner {
    node: Node,
    config: JoinConfig,
    offer: Option<BridgeOffer>,
    /// Bundles joined here, with their length and how many editions use them.
    joined: Arc<Joined>,
}

type Joined = Mutex<HashMap<SwarmId, Use>>;

struct Use {
    editions: usize,
    length: u64,
}

impl Joiner {
    pub(crate) fn new(node: Node, config: JoinConfig, offer: Option<BridgeOffer>) -> Self {
        Self {
            node,
            config,
            offer,
            joined: Arc::default(),
        }
    }

    fn joined(&self) -> std::sync::MutexGuard<'_, HashMap<SwarmId, Use>> {
        self.joined.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins all bundles of a manifest; they are in the manifest's order. Each call is undone by
    /// one of [`Self::leave`].
    pub(crate) async fn join(&self, manifest: &SiteManifest) -> Result<Vec<Bundle>, JoinError> {
        self.fits(manifest)?;
        let mut bundles: Vec<Bundle> = Vec::with_capacity(manifest.bundles.len());
        for (done, entry) in manifest.bundles.iter().enumerate() {
            match self.join_one(&manifest.site, entry).await {
                Ok(handle) => bundles.push(Arc::new(SwarmBundle(handle))),
                Err(error) => {
                    let entries = manifest.bundles.iter().take(done);
                    self.leave_all(entries);
                    return Err(JoinError::Node(entry.v1, error));
                }
            }
        }
        Ok(bundles)
    }

    async fn join_one(
        &self,
        site: &SiteName,
        entry: &BundleEntry,
    ) -> Result<SwarmHandle, NodeError> {
        let id = entry.v1.swarm_id();
        if let Some(known) = self.joined().get_mut(&id) {
            known.editions += 1;
        } else if let Some(handle) = self.node.get(&id) {
            return Ok(handle); // somebody else's, who also leaves it
        } else {
            let used = Use {
                editions: 1,
                length: entry.length,
            };
            self.joined().insert(id, used);
        }
        if let Some(handle) = self.node.get(&id) {
            return Ok(handle);
        }
        let storage = match &self.config.store {
            Some(dir) => Storage::Store { dir: dir.clone() },
            None => Storage::Memory,
        };
        let magnet = Magnet {
            v1: Some(entry.v1),
            v2: Some(entry.v2),
            name: Some(site.to_string()),
            trackers: entry.trackers.clone(),
            ..Magnet::default()
        };
        let added = self
            .node
            .add(AddBundle {
                trackers: self.config.trackers.clone(),
                peers: self.config.peers.clone(),
                bridge: self.offer.clone(),
                ..AddBundle::new(magnet.into(), storage)
            })
            .await;
        if added.is_err() {
            self.joined().remove(&id);
        }
        added
    }

    fn fits(&self, manifest: &SiteManifest) -> Result<(), JoinError> {
        let max = self.config.disk_max;
        if max == 0 {
            return Ok(());
        }
        let joined = self.joined();
        let held = joined
            .values()
            .fold(0u64, |sum, u| sum.saturating_add(u.length));
        let needed = manifest
            .bundles
            .iter()
            .filter(|entry| {
                let id = entry.v1.swarm_id();
                !joined.contains_key(&id) && self.node.get(&id).is_none()
            })
            .fold(0u64, |sum, entry| sum.saturating_add(entry.length));
        if held.saturating_add(needed) > max {
            return Err(JoinError::Disk { needed, max });
        }
        Ok(())
    }

    /// Tells trackers that visitors of these bundles may be sent here, or no longer.
    pub(crate) fn offer(&self, manifest: &SiteManifest, offered: bool) {
        let offer = self.offer.as_ref().filter(|_| offered);
        for entry in &manifest.bundles {
            let id = entry.v1.swarm_id();
            if self.joined().contains_key(&id)
                && let Some(handle) = self.node.get(&id)
            {
                handle.set_bridge(offer.cloned());
                handle.announce_now();
            }
        }
    }

    /// Undoes one [`Self::join`] of the manifest.
    pub(crate) fn leave(&self, manifest: &SiteManifest) {
        self.leave_all(manifest.bundles.iter());
    }

    fn leave_all<'a>(&self, entries: impl Iterator<Item = &'a BundleEntry>) {
        for entry in entries {
            let id = entry.v1.swarm_id();
            let last = {
                let mut joined = self.joined();
                match joined.get_mut(&id) {
                    None => false,
                    Some(known) => {
                        known.editions = known.editions.saturating_sub(1);
                        let last = known.editions == 0;
                        if last {
                            joined.remove(&id);
                        }
                        last
                    }
                }
            };
            if last {
                let handle = self.node.get(&id);
                self.node.remove(&id);
                if let (Some(handle), Some(dir)) = (handle, &self.config.store) {
                    let joined = self.joined.clone();
                    tokio::spawn(discard(handle, id, dir.join(entry.v2.to_string()), joined));
                }
            }
        }
    }
}

/// Deletes what is kept of a bundle that was left, once its swarm has closed its files: what is
/// held is what the operator gave space for, and nothing else. Not done at shutdown, so that a
/// restart finds what was fetched.
async fn discard(handle: SwarmHandle, id: SwarmId, home: PathBuf, joined: Arc<Joined>) {
    let ended = async {
        while !matches!(handle.state(), SwarmState::Stopped | SwarmState::Failed(_)) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    if tokio::time::timeout(Duration::from_secs(60), ended)
        .await
        .is_err()
    {
        return;
    }
    let gone = home.with_extension("gone");
    {
        // Joined anew meanwhile: it stays.
        let joined = joined.lock().unwrap_or_else(PoisonError::into_inner);
        if joined.contains_key(&id) || std::fs::rename(&home, &gone).is_err() {
            return;
        }
    }
    if let Err(error) = tokio::fs::remove_dir_all(&gone).await {
        tracing::warn!(path = %gone.display(), %error, "bundle left behind on disk");
    }
}

/// A bundle in the node.
struct SwarmBundle(SwarmHandle);

impl BundleFiles for SwarmBundle {
    fn file(&self, index: u32) -> Arc<dyn Source> {
        Arc::new(SwarmFile {
            handle: self.0.clone(),
            index: usize::try_from(index).unwrap_or(usize::MAX),
        })
    }
}

/// A file of a bundle in the node.
struct SwarmFile {
    handle: SwarmHandle,
    index: usize,
}

impl Source for SwarmFile {
    fn open(&self, range: ByteRange) -> ByteStream {
        if self.handle.try_metainfo().is_some() {
            return match self.handle.file_reader(self.index, range) {
                Ok(reader) => reader.boxed(),
                Err(error) => failed(error),
            };
        }
        // Joined by info hash, and the metainfo is still on its way.
        let (handle, index) = (self.handle.clone(), self.index);
        let opened = async move {
            let reader = match handle.metainfo().await {
                Ok(_) => handle.file_reader(index, range),
                Err(error) => Err(error),
            };
            match reader {
                Ok(reader) => reader.boxed(),
                Err(error) => failed(error),
            }
        };
        stream::once(opened).flatten().boxed()
    }

    fn holds(&self, range: ByteRange) -> bool {
        let Some(meta) = self.handle.try_metainfo() else {
            return false;
        };
        let Some(file) = meta.files().get(self.index) else {
            return false;
        };
        let at = |offset: u64| file.offset.saturating_add(offset);
        self.handle
            .holds(&ByteRange::new(at(range.start), at(range.end)))
    }
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> ByteStream {
    let error = io::Error::other(error);
    stream::iter([Err(error)]).boxed()
}
