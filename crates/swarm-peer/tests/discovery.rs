//! Nodes that find each other without a tracker, over loopback.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use swarm_peer::connector::AddressPolicy;
use swarm_peer::discovery::{DhtMode, Discovery};
use swarm_peer::{AddBundle, Node, NodeConfig, Source, Storage, SwarmHandle};
use swarm_proto::download::Want;
use swarm_proto::metainfo::{FileHasher, Metainfo, MetainfoBuilder};
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(60);

fn meta(private: bool) -> Arc<Metainfo> {
    let mut hasher = FileHasher::new(16 * 1024);
    hasher.update(&vec![7; 100_000]);
    let mut builder = MetainfoBuilder::new("found", 16 * 1024);
    builder.file(vec!["a.bin".to_owned()], hasher.finish());
    let meta = builder.build().unwrap();
    if !private {
        return Arc::new(meta);
    }
    // The last key in order is the last of the dictionary.
    let raw = meta.raw_info();
    let raw = [&raw[..raw.len() - 1], b"7:privatei1ee"].concat();
    let meta = Metainfo::from_info(&raw).unwrap();
    assert!(meta.is_private());
    Arc::new(meta)
}

async fn node(shutdown: &CancellationToken, discovery: Discovery, near: bool) -> Node {
    let allow_net = match near {
        true => vec!["127.0.0.0/8".parse().unwrap()],
        false => Vec::new(),
    };
    let config = NodeConfig {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        policy: AddressPolicy { allow_net },
        discovery,
        ..NodeConfig::default()
    };
    Node::start(config, shutdown.clone()).await.unwrap()
}

/// Somebody who neither has nor wants a byte: connections to it stay.
async fn idler(node: &Node, meta: &Arc<Metainfo>, peer: Option<SocketAddr>) -> SwarmHandle {
    let source = Source::Metainfo(Arc::clone(meta));
    let mut bundle = AddBundle::new(source, Storage::Memory);
    bundle.want = Want::None;
    bundle.peers.extend(peer);
    let handle = node.add(bundle).await.unwrap();
    handle.wait_checked().await.unwrap();
    handle
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let all = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, all).await.expect(what);
}

/// Two that know only a third; what the second then knows and is connected to.
async fn introduced(private: bool, discovery: &Discovery) -> (SwarmHandle, CancellationToken) {
    let shutdown = CancellationToken::new();
    let meta = meta(private);
    let middle = node(&shutdown, discovery.clone(), false).await;
    let from = middle.listen_addr();
    let handle = idler(&middle, &meta, None).await;
    let first = node(&shutdown, discovery.clone(), false).await;
    idler(&first, &meta, Some(from)).await;
    until("the first comes", || handle.stats().peers == 1).await;
    let second = node(&shutdown, discovery.clone(), false).await;
    let second = idler(&second, &meta, Some(from)).await;
    until("the second comes", || handle.stats().peers == 2).await;
    (second, shutdown)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_are_told_of_each_other() {
    let (second, shutdown) = introduced(false, &Discovery::default()).await;
    until("the first is called", || second.stats().peers == 2).await;
    shutdown.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_told_of_peers_of_a_private_torrent_nor_where_pex_is_off() {
    let off = Discovery {
        pex: false,
        ..Discovery::default()
    };
    let on = Discovery::default();
    let (private, off) = tokio::join!(introduced(true, &on), introduced(false, &off));
    tokio::time::sleep(Duration::from_secs(6)).await;
    for (second, shutdown) in [private, off] {
        let stats = second.stats();
        assert_eq!((stats.peers, stats.known_peers), (1, 1));
        shutdown.cancel();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_magnet_without_tracker_is_fetched_by_the_dht_alone() {
    let net = tokio::task::spawn_blocking(|| mainline::Testnet::builder(6).build());
    let net = net.await.unwrap().unwrap();
    let shutdown = CancellationToken::new();
    let discovery = Discovery {
        dht: DhtMode::On,
        dht_bootstrap: net.bootstrap.clone(),
        ..Discovery::default()
    };
    let meta = meta(false);
    let dir = tempfile::tempdir().unwrap();
    let storage = Storage::Folder {
        dir: dir.path().to_owned(),
    };
    std::fs::create_dir(dir.path().join("found")).unwrap();
    std::fs::write(dir.path().join("found/a.bin"), vec![7; 100_000]).unwrap();
    let seed = node(&shutdown, discovery.clone(), true).await;
    let mut bundle = AddBundle::new(Source::Metainfo(Arc::clone(&meta)), storage);
    bundle.seed_only = true;
    let seeding = seed.add(bundle).await.unwrap();
    seeding.wait_complete().await.unwrap();
    assert!(seed.dht_addr().await.unwrap().ip().is_loopback());

    for mode in [DhtMode::On, DhtMode::Client] {
        let discovery = Discovery {
            dht: mode,
            ..discovery.clone()
        };
        let leech = node(&shutdown, discovery, true).await;
        let mut magnet = meta.magnet();
        magnet.trackers.clear();
        let fetched = leech.add(AddBundle::new(Source::from(magnet), Storage::Memory));
        let fetched = fetched.await.unwrap();
        let complete = tokio::time::timeout(PATIENCE, fetched.wait_complete());
        complete.await.expect("in time").unwrap();
    }
    shutdown.cancel();
    seed.join().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_private_torrent_is_not_looked_up_in_the_dht() {
    let net = tokio::task::spawn_blocking(|| mainline::Testnet::builder(3).build());
    let net = net.await.unwrap().unwrap();
    let shutdown = CancellationToken::new();
    let discovery = Discovery {
        dht: DhtMode::On,
        dht_bootstrap: net.bootstrap.clone(),
        ..Discovery::default()
    };
    let one = node(&shutdown, discovery.clone(), true).await;
    let two = node(&shutdown, discovery, true).await;
    let (secret, open) = (meta(true), meta(false));
    idler(&one, &secret, None).await;
    idler(&one, &open, None).await;
    let secretly = idler(&two, &secret, None).await;
    let openly = idler(&two, &open, None).await;
    until("the open one is found", || openly.stats().known_peers > 0).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(secretly.stats().known_peers, 0);
    shutdown.cancel();
}

/// A node in the DHT, and another that knows none but meets it over a torrent; whether the second
/// then finds who the DHT alone names.
async fn enters_by_a_peer(private: bool, mode: DhtMode) -> (SwarmHandle, CancellationToken) {
    let net = tokio::task::spawn_blocking(|| mainline::Testnet::builder(4).build());
    let net = net.await.unwrap().unwrap();
    let shutdown = CancellationToken::new();
    let inside = Discovery {
        dht: DhtMode::On,
        dht_bootstrap: net.bootstrap.clone(),
        pex: false,
        ..Discovery::default()
    };
    // Nobody answers there, for as long as the socket lives.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let outside = Discovery {
        dht: mode,
        dht_bootstrap: vec![silent.local_addr().unwrap().to_string()],
        ..inside.clone()
    };
    let shared = meta(private);
    let other = other_meta();
    let one = node(&shutdown, inside, true).await;
    idler(&one, &shared, None).await;
    idler(&one, &other, None).await;
    one.dht_addr().await.unwrap();
    let two = node(&shutdown, outside, true).await;
    let met = idler(&two, &shared, Some(one.listen_addr())).await;
    let sought = idler(&two, &other, None).await;
    until("they meet", || met.stats().peers == 1).await;
    // Both live as long as the nodes do.
    tokio::spawn(async move {
        one.join().await;
        drop((net, silent));
    });
    (sought, shutdown)
}

/// Another torrent than [`meta`]'s.
fn other_meta() -> Arc<Metainfo> {
    let mut hasher = FileHasher::new(16 * 1024);
    hasher.update(&vec![8; 100_000]);
    let mut builder = MetainfoBuilder::new("sought", 16 * 1024);
    builder.file(vec!["b.bin".to_owned()], hasher.finish());
    Arc::new(builder.build().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_knows_no_node_enters_the_dht_by_that_of_a_peer() {
    let (sought, shutdown) = enters_by_a_peer(false, DhtMode::On).await;
    until("found in the DHT", || sought.stats().peers == 1).await;
    shutdown.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_are_not_told_in_a_private_torrent_nor_to_who_answers_nobody() {
    let (private, client) = tokio::join!(
        enters_by_a_peer(true, DhtMode::On),
        enters_by_a_peer(false, DhtMode::Client)
    );
    tokio::time::sleep(Duration::from_secs(25)).await;
    for (sought, shutdown) in [private, client] {
        assert_eq!(sought.stats().known_peers, 0);
        shutdown.cancel();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neighbours_meet_by_multicast_but_not_for_a_private_torrent() {
    let shutdown = CancellationToken::new();
    let discovery = Discovery {
        lsd: true,
        pex: false,
        ..Discovery::default()
    };
    let one = node(&shutdown, discovery.clone(), false).await;
    let two = node(&shutdown, discovery, false).await;
    let (secret, open) = (meta(true), meta(false));
    let secretly = idler(&one, &secret, None).await;
    let openly = idler(&one, &open, None).await;
    idler(&two, &secret, None).await;
    idler(&two, &open, None).await;
    until("neighbours meet", || openly.stats().peers == 1).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(secretly.stats().known_peers, 0);
    // Nobody takes itself for a neighbour.
    assert_eq!(openly.stats().known_peers, 1);
    shutdown.cancel();
}
