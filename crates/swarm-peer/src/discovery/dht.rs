//! The DHT (BEP 5), by the `mainline` crate: one node of it for all bundles.
//!
//! It runs on a thread of its own and speaks IPv4 only: of IPv6 (BEP 32) the crate says "KrpcSocket
//! does not support Ipv6". Every id of a bundle is looked up and
//! announced. What the DHT says comes from strangers, and is vetted as that.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use mainline::async_dht::AsyncDht;
use mainline::{Dht, Id, RequestFilter, RequestSpecific, ServerSettings};
use swarm_proto::id::SwarmId;
use swarm_proto::limits;
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::{DhtMode, Discovery};
use crate::connector::Trust;
use crate::node::Node;
use crate::swarm::{Message, Shared};

/// Between rounds: nodes forget a peer after 30 minutes or more.
const EVERY: Duration = Duration::from_secs(15 * 60);
/// Between rounds while there is nobody to fetch from; doubled each time.
const HUNGRY: Duration = Duration::from_secs(15);
/// Time for one query. The slowest node decides; most answer within two seconds.
const QUERY_MAX: Duration = Duration::from_secs(60);
/// Queries under way at a time, over all bundles; each asks some dozens of nodes.
const QUERIES_MAX: usize = 8;

/// How long our node may know nobody before it enters anew, by nodes that peers told of.
const LOST_FOR: Duration = Duration::from_secs(10);
/// Between such attempts.
const ENTER_EVERY: Duration = Duration::from_secs(60);

/// Our node of the DHT. Cheap to clone; its thread ends with the last clone.
#[derive(Clone)]
pub(crate) struct DhtNode {
    inner: Arc<Inner>,
}

struct Inner {
    config: Discovery,
    bind: Ipv4Addr,
    /// The node, where it is, and how often it was made anew. The crate takes other nodes to enter
    /// by when a node is made, and never again.
    node: watch::Sender<Running>,
    /// Nodes that peers told of, the latest last.
    heard: Mutex<VecDeque<SocketAddrV4>>,
    heard_more: Notify,
    queries: Semaphore,
}

#[derive(Clone)]
struct Running {
    dht: AsyncDht,
    addr: SocketAddrV4,
}

/// For who asks and does not answer.
#[derive(Debug, Clone)]
struct AnswerNobody;

impl RequestFilter for AnswerNobody {
    fn allow_request(&self, _: &RequestSpecific, _: SocketAddrV4) -> bool {
        false
    }
}

/// Enters the DHT, so that all bundles may. Where that fails the node does without.
pub(crate) async fn start(node: Node) {
    let entering = DhtNode::start(&node.config().discovery, node.listen_addr().ip());
    tokio::select! {
        () = node.shutdown().cancelled() => {}
        entered = entering => match entered {
            Ok(dht) => {
                node.set_dht(dht.clone());
                let shutdown = node.shutdown().clone();
                // The node must not keep itself alive.
                drop(node);
                dht.stay(shutdown).await;
            }
            Err(error) => tracing::warn!("cannot take part in the DHT: {error}"),
        },
    }
}

/// Looks for peers of a swarm in the DHT and announces it there, as soon as that is entered.
pub(crate) async fn run(
    mut ready: watch::Receiver<Option<DhtNode>>,
    shared: Arc<Shared>,
    port: u16,
) {
    let life = shared.life();
    let entered = async { ready.wait_for(Option::is_some).await.ok()?.clone() };
    let dht = tokio::select! {
        () = life.cancelled() => return,
        dht = entered => dht,
    };
    if let Some(dht) = dht {
        dht.look_up_all(shared, port).await;
    }
}

impl DhtNode {
    /// Starts to take part, from the address that is listened on.
    ///
    /// # Errors
    /// No socket, or an address of IPv6 only.
    async fn start(config: &Discovery, listen: IpAddr) -> io::Result<Self> {
        let bind = match listen {
            IpAddr::V4(ip) => ip,
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv4Addr::UNSPECIFIED,
            IpAddr::V6(_) => {
                let text = "the DHT is spoken over IPv4 only, and not listened on";
                return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, text));
            }
        };
        let node = build(config.clone(), bind, Vec::new()).await?;
        let inner = Inner {
            config: config.clone(),
            bind,
            node: watch::Sender::new(node),
            heard: Mutex::default(),
            heard_more: Notify::new(),
            queries: Semaphore::new(QUERIES_MAX),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    fn node(&self) -> Running {
        self.inner.node.borrow().clone()
    }

    /// Where our node is: other nodes may enter by it.
    pub(crate) fn local_addr(&self) -> SocketAddr {
        SocketAddr::V4(self.node().addr)
    }

    /// A peer has a node there: we enter by it should we know nobody else. Otherwise lookups find
    /// it, if it is worth anything.
    pub(crate) fn heard_of(&self, addr: SocketAddrV4) {
        let heard = self.inner.heard.lock();
        let mut heard = heard.unwrap_or_else(PoisonError::into_inner);
        if heard.contains(&addr) {
            return;
        }
        if heard.len() >= limits::DHT_NODES_HEARD_MAX {
            heard.pop_front();
        }
        heard.push_back(addr);
        self.inner.heard_more.notify_one();
    }

    /// Sees to it that we are in the DHT, as far as peers can help.
    async fn stay(&self, shutdown: CancellationToken) {
        let staying = async {
            loop {
                self.inner.heard_more.notified().await;
                if self.is_lost().await {
                    self.enter_anew().await;
                    tokio::time::sleep(ENTER_EVERY).await;
                }
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = staying => {}
        }
    }

    /// Whether our node knows nobody, also after it had the time to ask.
    async fn is_lost(&self) -> bool {
        let known = async {
            let dht = self.node().dht;
            while dht.to_bootstrap().await.is_empty() {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        };
        tokio::time::timeout(LOST_FOR, known).await.is_err()
    }

    async fn enter_anew(&self) {
        let heard = self.inner.heard.lock();
        let heard: Vec<_> = heard
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .copied()
            .collect();
        let by = heard.iter().map(ToString::to_string).collect();
        match build(self.inner.config.clone(), self.inner.bind, by).await {
            Ok(node) => {
                tracing::info!(nodes = heard.len(), "entering the DHT by nodes of peers");
                self.inner.node.send_replace(node);
            }
            Err(error) => tracing::warn!("cannot enter the DHT anew: {error}"),
        }
    }

    /// Looks for peers and announces, until the swarm stops or turns out to be private.
    async fn look_up_all(self, shared: Arc<Shared>, port: u16) {
        let life = shared.life();
        let mut hunger = 0_u32;
        let mut node = self.inner.node.subscribe();
        let mut told = None;
        while !is_private(&shared) {
            let at = node.borrow_and_update().addr.port();
            if told != Some(at) {
                shared.tell(Message::DhtPort(at)).await;
                told = Some(at);
            }
            let round = async {
                for &swarm_id in &shared.swarm_ids {
                    self.look_up(&shared, swarm_id, port).await;
                }
            };
            tokio::select! {
                () = life.cancelled() => return,
                () = round => {}
            }
            hunger = match is_hungry(&shared) {
                true => hunger.saturating_add(1),
                false => 0,
            };
            let pause = match hunger {
                0 => EVERY,
                n => (HUNGRY * (1 << (n - 1).min(6))).min(EVERY),
            };
            let pause = pause.mul_f64(1.0 + rand::random::<f64>() / 10.0);
            let mut meta = shared.meta.subscribe();
            meta.mark_unchanged();
            tokio::select! {
                () = life.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
                // It may be private.
                _ = meta.changed() => {}
                // Others are met now. The sender lives as long as `self`.
                _ = node.changed() => hunger = 0,
            }
        }
        tracing::debug!("private: not looked up in the DHT");
    }

    async fn look_up(&self, shared: &Shared, swarm_id: SwarmId, port: u16) {
        let (Ok(_permit), Ok(id)) = (
            self.inner.queries.acquire().await,
            Id::from_bytes(swarm_id.as_bytes()),
        ) else {
            return;
        };
        let mut found = 0;
        let dht = self.node().dht;
        let mut peers = dht.get_peers(id);
        let query = async {
            while let Some(addrs) = peers.next().await {
                let room = limits::PEERS_PER_REPLY_MAX.saturating_sub(found);
                let addrs = addrs.into_iter().filter(|addr| addr.port() != 0);
                let addrs: Vec<_> = addrs.take(room).map(SocketAddr::V4).collect();
                found += addrs.len();
                let peers = Message::Peers {
                    addrs,
                    swarm_id,
                    trust: Trust::Stranger,
                };
                shared.tell(peers).await;
            }
        };
        let in_time = tokio::time::timeout(QUERY_MAX, query).await.is_ok();
        tracing::debug!(swarm = %swarm_id, found, in_time, "looked up in the DHT");
        if is_private(shared) {
            return;
        }
        let announced = dht.announce_peer(id, Some(port));
        match tokio::time::timeout(QUERY_MAX, announced).await {
            Ok(Ok(_)) => tracing::debug!(swarm = %swarm_id, "announced in the DHT"),
            Ok(Err(error)) => {
                tracing::debug!(swarm = %swarm_id, "not announced in the DHT: {error}");
            }
            Err(_) => tracing::debug!(swarm = %swarm_id, "not announced in the DHT in time"),
        }
    }
}

/// Starts a node; `by`, besides what the operator named, are others to enter by.
async fn build(config: Discovery, bind: Ipv4Addr, by: Vec<String>) -> io::Result<Running> {
    // Names of bootstrap nodes are resolved on the way.
    let built = tokio::task::spawn_blocking(move || {
        let mut builder = Dht::builder();
        builder.bind_address(bind);
        match config.dht_bootstrap.is_empty() {
            true => builder.bootstrap(&mainline::DEFAULT_BOOTSTRAP_NODES),
            false => builder.bootstrap(&config.dht_bootstrap),
        };
        builder.extra_bootstrap(&by);
        match config.dht {
            DhtMode::On => builder.server_mode(),
            _ => builder.server_settings(ServerSettings {
                filter: Box::new(AnswerNobody),
                ..ServerSettings::default()
            }),
        };
        builder.build()
    });
    let dht = built.await.map_err(io::Error::other)??.as_async();
    let addr = dht.info().await.local_addr();
    Ok(Running { dht, addr })
}

fn is_private(shared: &Shared) -> bool {
    let meta = shared.meta.borrow();
    meta.as_ref().is_some_and(|meta| meta.is_private())
}

fn is_hungry(shared: &Shared) -> bool {
    let stats = shared.stats.lock();
    let peers = stats.unwrap_or_else(PoisonError::into_inner).peers;
    peers == 0 && !shared.state.borrow().fetches_nothing()
}
