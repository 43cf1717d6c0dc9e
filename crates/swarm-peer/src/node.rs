//! [`Node`]: one listening port and all the bundles behind it. What the bridge and gate embed.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use swarm_proto::download::Want;
use swarm_proto::id::{PeerId, SwarmId};
use swarm_proto::magnet::Magnet;
use swarm_proto::metainfo::Metainfo;
use swarm_proto::session::{ConnectionId, Timeouts};
use swarm_proto::tracker::BridgeOffer;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::announce::Announcing;
use crate::connector::{AddressPolicy, Connector, Trust};
use crate::descriptors::{self, Room};
use crate::discovery::dht::{self, DhtNode};
use crate::discovery::{DhtMode, Discovery, lsd};
use crate::http::{HttpClient, HttpError};
use crate::link::accept::Lobby;
use crate::link::port::{Port, Transport};
use crate::link::tcp;
use crate::link::utp::{self, Utp};
use crate::store::Storage;
use crate::swarm::{Shared, SwarmHandle};
use crate::swarm_task::SwarmTask;
use crate::uplink::{Downlink, Uplink};

/// How a node behaves. The defaults are for one site's bundles on one machine.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// Where peers may call; port 0 lets the system choose. Where it names one address, calls and
    /// announces leave from that one too. Default `0.0.0.0:0`.
    pub listen: SocketAddr,
    /// First eight bytes of our peer id: client and version.
    pub peer_id_prefix: [u8; 8],
    /// What may be sent, shared with whatever else draws on it. Default unlimited.
    pub uplink: Uplink,
    /// What may be received from peers. Default unlimited.
    pub downlink: Downlink,
    /// What one bundle may send, in bits per second, where it does not say otherwise. Default
    /// unlimited.
    pub bundle_upload: Option<u64>,
    /// What one bundle may receive, in bits per second, where it does not say otherwise. Default
    /// unlimited.
    pub bundle_download: Option<u64>,
    /// Connections of all bundles together. Default 500; each may cost 1 MiB at full speed.
    pub peers_max: usize,
    /// Connections of one bundle. Default 80.
    pub peers_per_swarm_max: usize,
    /// Calls under way at a time for one bundle. Default 16.
    pub dials_max: usize,
    /// Peers of one bundle that are served at a time. Default 8.
    pub upload_slots: usize,
    /// Which addresses may be dialled. Default: strangers may name public ones only.
    pub policy: AddressPolicy,
    /// Time for one call. Default 5 s.
    pub dial_timeout: Duration,
    /// Whether peers are met by TCP, uTP or both. Default both.
    pub transport: Transport,
    /// How long connections wait for what.
    pub timeouts: Timeouts,
    /// Callers that have not said which bundle they want; beyond, who waited longest is dropped.
    /// Default 128, and as many again by uTP.
    pub handshakes_max: usize,
    /// Where to remember what was verified, for storage that has no place of its own.
    pub state_dir: Option<PathBuf>,
    /// Where to look for peers. Default: peers' word and trackers, but neither DHT nor multicast.
    pub discovery: Discovery,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([0, 0, 0, 0], 0)),
            peer_id_prefix: *b"-SK0010-",
            uplink: Uplink::unlimited(),
            downlink: Downlink::unlimited(),
            bundle_upload: None,
            bundle_download: None,
            peers_max: 500,
            peers_per_swarm_max: 80,
            dials_max: 16,
            upload_slots: 8,
            policy: AddressPolicy::default(),
            dial_timeout: Duration::from_secs(5),
            transport: Transport::default(),
            timeouts: Timeouts::default(),
            handshakes_max: 128,
            state_dir: None,
            discovery: Discovery::default(),
        }
    }
}

/// What a bundle is known by.
#[derive(Debug, Clone)]
pub enum Source {
    /// The whole metainfo.
    Metainfo(Arc<Metainfo>),
    /// Only its info hash; the rest is asked of peers.
    Magnet(Box<Magnet>),
}

/// A bundle for [`Node::add`].
#[derive(Debug, Clone)]
pub struct AddBundle {
    /// What it is.
    pub source: Source,
    /// Where its bytes are kept.
    pub storage: Storage,
    /// Trackers named by the operator, besides those that `source` names.
    pub trackers: Vec<String>,
    /// Peers named by the operator.
    pub peers: Vec<SocketAddr>,
    /// Who vouches for trackers and peers that `source` itself names. Default [`Trust::Stranger`].
    pub trust: Trust,
    /// Web seeds named by the operator, besides those that `source` names.
    pub web_seeds: Vec<String>,
    /// Who vouches for web seeds that `source` itself names, see
    /// [`named_by_torrent`](crate::webseed::named_by_torrent). Default [`Trust::Stranger`].
    pub web_seed_trust: Trust,
    /// Sent along with announces.
    pub bridge: Option<BridgeOffer>,
    /// What to fetch. Default everything.
    pub want: Want,
    /// Never fetch, only serve what is there and right.
    pub seed_only: bool,
    /// Set room aside on the disk for all that is wanted before any of it is fetched. Default
    /// false: files take room as they come.
    pub preallocate: bool,
    /// Where to remember what was verified; overrides [`NodeConfig::state_dir`].
    pub state_dir: Option<PathBuf>,
    /// What it may send, in bits per second; overrides [`NodeConfig::bundle_upload`].
    pub upload: Option<u64>,
    /// What it may receive, in bits per second; overrides [`NodeConfig::bundle_download`].
    pub download: Option<u64>,
}

impl AddBundle {
    /// Everything of `source`, kept in `storage`.
    pub fn new(source: Source, storage: Storage) -> Self {
        Self {
            source,
            storage,
            trackers: Vec::new(),
            peers: Vec::new(),
            trust: Trust::Stranger,
            web_seeds: Vec::new(),
            web_seed_trust: Trust::Stranger,
            bridge: None,
            want: Want::All,
            seed_only: false,
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

    /// Web seeds named within.
    pub fn web_seeds(&self) -> &[String] {
        match self {
            Self::Metainfo(meta) => meta.web_seeds(),
            Self::Magnet(magnet) => &magnet.web_seeds,
        }
    }
}

/// Why a node does not start, or does not take a bundle.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// The listening address is taken, or not ours.
    #[error("cannot listen on {addr}: {source}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// TLS for trackers is not available.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The source has no info hash.
    #[error("the magnet link names no torrent")]
    NoInfoHash,
    /// The system has no random bytes.
    #[error("no random bytes: {0}")]
    Random(String),
    /// The node is shutting down.
    #[error("shutting down")]
    ShuttingDown,
}

/// One listening port and all the bundles behind it. Cheap to clone.
#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

struct Inner {
    config: NodeConfig,
    addr: SocketAddr,
    peer_id: PeerId,
    key: u32,
    http: HttpClient,
    connector: Connector,
    utp: Option<Utp>,
    /// Set once it has been entered.
    dht: watch::Sender<Option<DhtNode>>,
    permits: Arc<Semaphore>,
    next_conn: AtomicU64,
    /// Both ids of a hybrid lead to the same swarm.
    swarms: Mutex<HashMap<SwarmId, SwarmHandle>>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

impl Node {
    /// Opens the listening port. The node stops when `shutdown` is cancelled; see [`Self::join`].
    ///
    /// # Errors
    /// [`NodeError`]: most likely the port is in use.
    pub async fn start(config: NodeConfig, shutdown: CancellationToken) -> Result<Self, NodeError> {
        let mut config = config;
        let room = descriptors::room(Room {
            peers: config.peers_max,
            handshakes: config.handshakes_max,
        });
        config.peers_max = room.peers;
        let listen = config.listen;
        let opened = Port::open(&config, &shutdown).await;
        let port = opened.map_err(|source| NodeError::Listen {
            addr: listen,
            source,
        })?;
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|error| NodeError::Random(error.to_string()))?;
        let (peer_id, key) = identity(config.peer_id_prefix, random);
        let inner = Inner {
            addr: port.addr,
            peer_id,
            key,
            http: HttpClient::from_address(config.policy.clone(), listen.ip())?,
            connector: Connector::new(config.policy.clone(), config.dial_timeout)
                .with_source(listen.ip()),
            utp: port.utp,
            dht: watch::Sender::new(None),
            permits: Arc::new(Semaphore::new(config.peers_max)),
            next_conn: AtomicU64::new(1),
            swarms: Mutex::default(),
            tasks: TaskTracker::new(),
            shutdown,
            config,
        };
        let node = Self {
            inner: Arc::new(inner),
        };
        if node.config().discovery.dht != DhtMode::Off {
            node.inner.tasks.spawn(dht::start(node.clone()));
        }
        if node.config().discovery.lsd {
            node.inner.tasks.spawn(lsd::run(node.clone()));
        }
        let tasks = &node.inner.tasks;
        if let Some(listener) = port.tcp {
            tasks.spawn(tcp::accept(
                listener,
                node.clone(),
                Lobby::new(room.handshakes),
            ));
        }
        if let Some(utp) = &node.inner.utp {
            // Its own lobby: whoever forges addresses must not keep callers by TCP out.
            let lobby = Lobby::new(node.config().handshakes_max);
            tasks.spawn(utp::accept(utp.clone(), node.clone(), lobby));
        }
        Ok(node)
    }

    /// Where peers may call.
    pub fn listen_addr(&self) -> SocketAddr {
        self.inner.addr
    }

    /// What we call ourselves.
    pub fn peer_id(&self) -> PeerId {
        self.inner.peer_id
    }

    /// The HTTP client, whose connections obey the node's address policy.
    pub fn http(&self) -> &HttpClient {
        &self.inner.http
    }

    /// The limit on what is sent.
    pub fn uplink(&self) -> &Uplink {
        &self.inner.config.uplink
    }

    /// The limit on what is received.
    pub fn downlink(&self) -> &Downlink {
        &self.inner.config.downlink
    }

    /// Adds a bundle and begins to check what is stored of it. A bundle that is here already is left
    /// as it is, but for the peers named; its handle is returned.
    ///
    /// # Errors
    /// [`NodeError`]: no info hash, or the node is shutting down.
    pub async fn add(&self, bundle: AddBundle) -> Result<SwarmHandle, NodeError> {
        if self.inner.shutdown.is_cancelled() {
            return Err(NodeError::ShuttingDown);
        }
        let swarm_ids = bundle.source.swarm_ids();
        if swarm_ids.is_empty() {
            return Err(NodeError::NoInfoHash);
        }
        let existing = {
            let mut swarms = self.swarms();
            // What has ended makes way.
            swarms.retain(|_, swarm| swarm.shared.ended().is_none());
            match swarm_ids.iter().find_map(|id| swarms.get(id)) {
                Some(existing) => existing.clone(),
                None => {
                    let stop = self.inner.shutdown.child_token();
                    let name = bundle.source.name();
                    let bridge = bundle.bridge.clone();
                    let (shared, messages) = Shared::new(name, swarm_ids.clone(), bridge, stop);
                    let config = &self.inner.config;
                    let (up, down) = (bundle.upload, bundle.download);
                    shared.uplink.set_rate(up.or(config.bundle_upload));
                    shared.downlink.set_rate(down.or(config.bundle_download));
                    let handle = SwarmHandle {
                        shared: Arc::clone(&shared),
                    };
                    for id in &swarm_ids {
                        swarms.insert(*id, handle.clone());
                    }
                    let task = SwarmTask::new(self.clone(), shared, bundle, messages);
                    self.inner.tasks.spawn(task.run());
                    return Ok(handle);
                }
            }
        };
        existing.add_peers(bundle.peers, Trust::CommandLine).await;
        Ok(existing)
    }

    /// The bundle with this id, v1 or v2.
    pub fn get(&self, id: &SwarmId) -> Option<SwarmHandle> {
        self.swarms().get(id).cloned()
    }

    /// All bundles, each once.
    pub fn bundles(&self) -> Vec<SwarmHandle> {
        let swarms = self.swarms();
        let mut all: Vec<_> = swarms
            .iter()
            .filter(|(id, swarm)| swarm.swarm_ids().first() == Some(id))
            .map(|(_, swarm)| swarm.clone())
            .collect();
        all.sort_by_key(|swarm| swarm.swarm_ids().first().copied());
        all
    }

    /// Stops a bundle: peers are left, trackers told. Whether it was there.
    pub fn remove(&self, id: &SwarmId) -> bool {
        let mut swarms = self.swarms();
        let Some(swarm) = swarms.get(id).cloned() else {
            return false;
        };
        for id in swarm.swarm_ids() {
            swarms.remove(id);
        }
        swarm.shared.stop.cancel();
        true
    }

    /// Waits, after the shutdown token was cancelled, until peers are left, trackers told and
    /// states saved.
    pub async fn join(&self) {
        self.inner.shutdown.cancelled().await;
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    fn swarms(&self) -> std::sync::MutexGuard<'_, HashMap<SwarmId, SwarmHandle>> {
        let swarms = self.inner.swarms.lock();
        swarms.unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn config(&self) -> &NodeConfig {
        &self.inner.config
    }

    pub(crate) fn connector(&self) -> &Connector {
        &self.inner.connector
    }

    pub(crate) fn utp(&self) -> Option<&Utp> {
        self.inner.utp.as_ref()
    }

    pub(crate) fn shutdown(&self) -> &CancellationToken {
        &self.inner.shutdown
    }

    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.inner.tasks
    }

    /// Our node of the DHT, once it is there; `None` if it never will.
    pub(crate) fn dht(&self) -> Option<watch::Receiver<Option<DhtNode>>> {
        let on = self.config().discovery.dht != DhtMode::Off;
        on.then(|| self.inner.dht.subscribe())
    }

    pub(crate) fn set_dht(&self, dht: DhtNode) {
        self.inner.dht.send_replace(Some(dht));
    }

    /// Where our node of the DHT is, for others to enter by; waits until it is there. `None` if it
    /// is off or could not start before the node shut down.
    pub async fn dht_addr(&self) -> Option<SocketAddr> {
        let mut ready = self.dht()?;
        let dht = tokio::select! {
            dht = ready.wait_for(Option::is_some) => dht.ok()?.clone()?,
            () = self.inner.shutdown.cancelled() => return None,
        };
        Some(dht.local_addr().await)
    }

    pub(crate) fn announcing(&self) -> Announcing {
        Announcing {
            http: self.inner.http.clone(),
            peer_id: self.inner.peer_id,
            connector: self.inner.connector.clone(),
            key: self.inner.key,
            listen: self.inner.addr,
        }
    }

    pub(crate) fn connection_permit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.inner.permits).try_acquire_owned().ok()
    }

    pub(crate) fn next_connection(&self) -> ConnectionId {
        ConnectionId(self.inner.next_conn.fetch_add(1, Ordering::Relaxed))
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node")
            .field("addr", &self.inner.addr)
            .field("bundles", &self.bundles().len())
            .finish_non_exhaustive()
    }
}

/// A peer id of twelve random letters and digits after the prefix, as all clients have it, and the
/// key that trackers know us by.
fn identity(prefix: [u8; 8], random: [u8; 16]) -> (PeerId, u32) {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let (key, letters) = random.split_at(4);
    let mut id = [0; 20];
    let tail = letters.iter().map(|byte| {
        let at = usize::from(byte % 32);
        ALPHABET.get(at).copied().unwrap_or(b'A')
    });
    for (slot, byte) in id.iter_mut().zip(prefix.into_iter().chain(tail)) {
        *slot = byte;
    }
    let key = key.iter().fold(0, |key, byte| key << 8 | u32::from(*byte));
    (PeerId::new(id), key)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 256 ids of twelve letters, five bits each, and 32 bits of key: the bounds are eight standard
    /// deviations wide.
    #[tokio::test]
    async fn t60_fresh_peer_ids_differ_and_their_bits_are_balanced() {
        let mut ids = std::collections::BTreeSet::new();
        let mut ones = [0_usize; 12 * 5 + 32];
        for _ in 0..256 {
            let shutdown = CancellationToken::new();
            let config = NodeConfig {
                listen: SocketAddr::from(([127, 0, 0, 1], 0)),
                ..NodeConfig::default()
            };
            let node = Node::start(config, shutdown.clone()).await.unwrap();
            let id = node.peer_id();
            let (prefix, letters) = id.as_ref().split_at(8);
            assert_eq!(prefix, NodeConfig::default().peer_id_prefix);
            let letters = letters.iter().map(|letter| match letter {
                b'A'..=b'Z' => u32::from(letter - b'A'),
                b'2'..=b'7' => u32::from(letter - b'2') + 26,
                _ => panic!("no letter of base 32: {letter}"),
            });
            let bits = letters.flat_map(|letter| (0..5).map(move |bit| letter >> bit & 1));
            let key = node.inner.key;
            let bits = bits.chain((0..32).map(|bit| key >> bit & 1));
            for (ones, bit) in ones.iter_mut().zip(bits) {
                *ones += bit as usize;
            }
            ids.insert(id.as_ref().to_vec());
            shutdown.cancel();
            node.join().await;
        }
        assert_eq!(ids.len(), 256);
        for (bit, ones) in ones.into_iter().enumerate() {
            assert!(ones.abs_diff(128) < 64, "bit {bit}: {ones} of 256");
        }
    }
}
