//! [`Node`]: one listening port and all the bundles behind it. What the bridge and gate embed.

mod bundle;
mod config;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use swarm_proto::id::{PeerId, SwarmId};
use swarm_proto::session::ConnectionId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::announce::{self, Announcing, Route};
use crate::connector::{Connector, Trust};
use crate::descriptors::{self, Room};
use crate::discovery::dht::{self, DhtNode};
use crate::discovery::{DhtMode, lsd};
use crate::http::{HttpClient, HttpError};
use crate::link::accept::Lobby;
use crate::link::port::Port;
use crate::link::tcp;
use crate::link::utp::{self, Utp};
use crate::memory::{Memory, MemoryReport};
use crate::places::Places;
use crate::swarm::{Shared, SwarmHandle};
use crate::swarm_task::SwarmTask;
use crate::uplink::{Downlink, Uplink};

pub use bundle::{AddBundle, Source};
pub(crate) use config::MEMORY;
pub use config::NodeConfig;

/// Bundles checked at a time, each on all cores, with a whole piece in memory for each: a second
/// one, so that small bundles need not wait for a large one.
const CHECKS_MAX: usize = 2;

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
///
/// It lives in a tokio runtime, and until the token that it was started with is cancelled;
/// dropping it ends nothing.
///
/// ```
/// use swarm_peer::{AddBundle, Node, NodeConfig, Source, Storage};
/// use swarm_proto::metainfo::{FileHasher, MetainfoBuilder};
/// use tokio_util::sync::CancellationToken;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// // A torrent of one file in a folder, in pieces of 64 KiB.
/// std::fs::create_dir(dir.path().join("films"))?;
/// std::fs::write(dir.path().join("films/night.mkv"), [7; 100_000])?;
/// let mut file = FileHasher::new(65_536);
/// file.update(&[7; 100_000]);
/// let mut torrent = MetainfoBuilder::new("films", 65_536);
/// torrent.file(vec!["night.mkv".into()], file.finish());
/// let torrent = torrent.build()?;
///
/// let shutdown = CancellationToken::new();
/// let listen = ([127, 0, 0, 1], 0).into(); // any free port
/// let config = NodeConfig { listen, ..NodeConfig::default() };
/// let node = Node::start(config, shutdown.clone()).await?;
///
/// let storage = Storage::Folder { dir: dir.path().into() };
/// let films = node.add(AddBundle::new(Source::from(torrent), storage)).await?;
/// films.wait_complete().await?; // hashed, found whole, and served from now on
/// println!("{} bundles at {}", node.bundles().len(), node.listen_addr());
///
/// node.remove(&films.swarm_ids()[0]);
/// assert!(node.bundles().is_empty());
/// shutdown.cancel();
/// node.join().await;
/// # Ok(())
/// # }
/// ```
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
    /// How trackers are told of us.
    routes: Arc<[Route]>,
    utp: Option<Utp>,
    /// Set once it has been entered.
    dht: watch::Sender<Option<DhtNode>>,
    memory: Arc<Memory>,
    places: Arc<Places>,
    checks: Arc<Semaphore>,
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
        Self::starting(config, shutdown).await
    }

    /// In a box, so that all of a node is compiled here, and not once more in each program that
    /// starts one.
    fn starting(
        config: NodeConfig,
        shutdown: CancellationToken,
    ) -> Pin<Box<dyn Future<Output = Result<Self, NodeError>> + Send>> {
        Box::pin(Self::open(config, shutdown))
    }

    async fn open(config: NodeConfig, shutdown: CancellationToken) -> Result<Self, NodeError> {
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
        // What it is in the end: there may be no IPv6.
        let source = port.addr.ip();
        let http = HttpClient::from_address(config.policy.clone(), source)?;
        let connector =
            Connector::new(config.policy.clone(), config.dial_timeout).with_source(source);
        let inner = Inner {
            addr: port.addr,
            peer_id,
            key,
            routes: announce::routes(&http, &connector, source),
            http,
            connector,
            utp: port.utp,
            dht: watch::Sender::new(None),
            memory: Memory::new(config.memory),
            checks: Arc::new(Semaphore::new(CHECKS_MAX)),
            places: Places::new(config.peers_max),
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

    /// What is held of [`NodeConfig::memory`].
    pub fn memory(&self) -> MemoryReport {
        self.inner.memory.report()
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
                    shared.paused.send_replace(bundle.paused);
                    let handle = SwarmHandle {
                        shared: Arc::clone(&shared),
                    };
                    for id in &swarm_ids {
                        swarms.insert(*id, handle.clone());
                    }
                    let task = SwarmTask::new(self.clone(), shared, bundle, messages);
                    self.run(task);
                    return Ok(handle);
                }
            }
        };
        existing.add_peers(bundle.peers, Trust::CommandLine).await;
        Ok(existing)
    }

    /// Not within `add`, so that it is compiled here alone, as [`starting`](Self::starting) is.
    fn run(&self, task: SwarmTask) {
        self.inner.tasks.spawn(task.run());
    }

    /// The bundle with this id, v1 or v2, if it is here.
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

    /// Stops a bundle: peers are left, trackers told. What is stored of it stays; its handles and
    /// readers fail with [`SwarmError::Stopped`](crate::SwarmError::Stopped) from now on. Whether it
    /// was there.
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

    pub(crate) fn shared_memory(&self) -> &Arc<Memory> {
        &self.inner.memory
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
        Some(dht.local_addr())
    }

    pub(crate) fn announcing(&self) -> Announcing {
        Announcing {
            routes: Arc::clone(&self.inner.routes),
            peer_id: self.inner.peer_id,
            key: self.inner.key,
            listen: self.inner.addr,
        }
    }

    /// Resolves when a bundle more may be checked.
    pub(crate) async fn check_permit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.inner.checks).acquire_owned().await.ok()
    }

    pub(crate) fn places(&self) -> &Arc<Places> {
        &self.inner.places
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
mod tests;
