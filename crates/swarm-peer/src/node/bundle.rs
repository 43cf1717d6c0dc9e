//! What a node is given to serve and fetch: [`AddBundle`].

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use swarm_proto::download::Want;
use swarm_proto::id::SwarmId;
use swarm_proto::magnet::Magnet;
use swarm_proto::metainfo::Metainfo;
use swarm_proto::tracker::BridgeOffer;

use crate::connector::Trust;
use crate::store::Storage;

/// What a bundle is known by.
#[derive(Debug, Clone)]
pub enum Source {
    /// The whole metainfo.
    Metainfo(Arc<Metainfo>),
    /// Only its info hash; the rest is asked of peers.
    Magnet(Box<Magnet>),
}

/// A bundle for [`Node::add`](crate::Node::add).
#[derive(Debug, Clone)]
pub struct AddBundle {
    /// What it is.
    pub source: Source,
    /// Where its bytes are kept.
    pub storage: Storage,
    /// Trackers named by the operator, besides those that `source` names: each is announced to,
    /// whatever others answer.
    pub trackers: Vec<String>,
    /// Who vouches for trackers that `source` names, as far as asking them is harmless whoever
    /// listens: at the path `/announce` without a query. Default [`Trust::Stranger`].
    pub tracker_trust: Trust,
    /// Peers named by the operator.
    pub peers: Vec<SocketAddr>,
    /// Who vouches for trackers and peers that `source` itself names. Default [`Trust::Stranger`].
    pub trust: Trust,
    /// Web seeds named by the operator, besides those that `source` names.
    pub web_seeds: Vec<String>,
    /// Who vouches for web seeds that `source` itself names, see
    /// [`named_by_torrent`](crate::named_by_torrent). Default [`Trust::Stranger`].
    pub web_seed_trust: Trust,
    /// Sent along with announces.
    pub bridge: Option<BridgeOffer>,
    /// What to fetch. Default everything; of a magnet link that chooses files (`so`, BEP 53), those.
    pub want: Want,
    /// Never fetch, only serve what is there and right.
    pub seed_only: bool,
    /// Rest from the start, once what is on the disk is checked: see
    /// [`SwarmHandle::set_paused`](crate::SwarmHandle::set_paused).
    pub paused: bool,
    /// Set room aside on the disk for all that is wanted before any of it is fetched. Default
    /// false: files take room as they come.
    pub preallocate: bool,
    /// Where to remember what was verified; overrides [`NodeConfig::state_dir`](crate::NodeConfig::state_dir).
    pub state_dir: Option<PathBuf>,
    /// What it may send, in bits per second; overrides [`NodeConfig::bundle_upload`](crate::NodeConfig::bundle_upload).
    pub upload: Option<u64>,
    /// What it may receive, in bits per second; overrides [`NodeConfig::bundle_download`](crate::NodeConfig::bundle_download).
    pub download: Option<u64>,
}

impl AddBundle {
    /// Everything of `source`, kept in `storage`.
    pub fn new(source: Source, storage: Storage) -> Self {
        Self {
            source,
            storage,
            trackers: Vec::new(),
            tracker_trust: Trust::Stranger,
            peers: Vec::new(),
            trust: Trust::Stranger,
            web_seeds: Vec::new(),
            web_seed_trust: Trust::Stranger,
            bridge: None,
            want: Want::All,
            seed_only: false,
            paused: false,
            preallocate: false,
            state_dir: None,
            upload: None,
            download: None,
        }
    }
}

impl From<Metainfo> for Source {
    fn from(meta: Metainfo) -> Self {
        Self::Metainfo(Arc::new(meta))
    }
}

impl From<Magnet> for Source {
    fn from(magnet: Magnet) -> Self {
        Self::Magnet(Box::new(magnet))
    }
}

impl Source {
    /// The ids under which peers and trackers know it, v1 first; that of aria2 last.
    pub fn swarm_ids(&self) -> Vec<SwarmId> {
        match self {
            Self::Metainfo(meta) => {
                let alias = meta.alias_id();
                meta.swarm_ids().into_iter().chain(alias).collect()
            }
            Self::Magnet(magnet) => magnet.swarm_ids(),
        }
    }

    /// The name to show.
    pub fn name(&self) -> String {
        match self {
            Self::Metainfo(meta) => meta.name().to_owned(),
            Self::Magnet(magnet) => magnet.name.clone().unwrap_or_default(),
        }
    }

    /// Trackers named within.
    pub fn trackers(&self) -> &[String] {
        match self {
            Self::Metainfo(meta) => meta.trackers(),
            Self::Magnet(magnet) => &magnet.trackers,
        }
    }

    /// The same in tiers (BEP 12). A link's trackers are a tier each, as libtorrent has it: the
    /// first is asked, the others only if it fails.
    pub fn tracker_tiers(&self) -> Vec<&[String]> {
        match self {
            Self::Metainfo(meta) => meta.tracker_tiers().collect(),
            Self::Magnet(magnet) => magnet.trackers.chunks(1).collect(),
        }
    }

    /// Web seeds named within.
    pub fn web_seeds(&self) -> &[String] {
        match self {
            Self::Metainfo(meta) => meta.web_seeds(),
            Self::Magnet(magnet) => &magnet.web_seeds,
        }
    }
}
