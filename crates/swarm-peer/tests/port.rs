//! One listening port: both ids of a hybrid, and callers that say nothing.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use swarm_peer::{AddBundle, Node, NodeConfig, Source, Storage, Transport};
use swarm_proto::id::{PeerId, SwarmId};
use swarm_proto::metainfo::{FileHasher, MetainfoBuilder};
use swarm_proto::wire::{Handshake, ReservedBits};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(20);

async fn node(config: NodeConfig, shutdown: &CancellationToken) -> (Node, Vec<SwarmId>) {
    let mut hasher = FileHasher::new(16_384);
    hasher.update(&[7; 40_000]);
    let mut builder = MetainfoBuilder::new("one.bin", 16_384);
    builder.file(vec!["one.bin".to_owned()], hasher.finish());
    let source = Source::from(builder.build().unwrap());
    let ids = source.swarm_ids();
    let node = Node::start(config, shutdown.clone()).await.unwrap();
    let bundle = AddBundle::new(source, Storage::Memory);
    let handle = node.add(bundle).await.unwrap();
    handle.wait_checked().await.unwrap();
    (node, ids)
}

fn config() -> NodeConfig {
    NodeConfig {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        ..NodeConfig::default()
    }
}

/// Calls with this id and reads the answering handshake.
async fn call(to: SocketAddr, swarm_id: SwarmId, peer_id: u8) -> (TcpStream, Handshake) {
    let mut stream = TcpStream::connect(to).await.unwrap();
    let handshake = Handshake {
        reserved: ReservedBits::OURS,
        swarm_id,
        peer_id: PeerId::new([peer_id; 20]),
    };
    stream.write_all(&handshake.encode()).await.unwrap();
    let mut answer = [0; 68];
    stream.read_exact(&mut answer).await.unwrap();
    (stream, Handshake::decode(&answer).unwrap().unwrap())
}

/// Whether the other side ends the connection within a while.
async fn ends(stream: &mut TcpStream, patience: Duration) -> bool {
    let mut buf = [0; 4096];
    let until_end = async { while let Ok(1..) = stream.read(&mut buf).await {} };
    tokio::time::timeout(patience, until_end).await.is_ok()
}

#[tokio::test]
async fn a_peer_that_calls_by_both_ids_of_a_hybrid_is_one_peer() {
    let shutdown = CancellationToken::new();
    let (node, ids) = node(config(), &shutdown).await;
    let [v1, v2, ..] = ids[..] else {
        panic!("a hybrid has two ids");
    };
    let to = node.listen_addr();
    let (mut first, answer) = call(to, v1, 1).await;
    assert_eq!(answer.swarm_id, v1);
    let (mut other, answer) = call(to, v2, 2).await;
    assert_eq!(answer.swarm_id, v2);
    let (mut twin, _) = call(to, v2, 1).await;
    assert!(ends(&mut twin, PATIENCE).await, "the same peer twice");
    assert!(!ends(&mut first, Duration::from_millis(500)).await);
    assert!(!ends(&mut other, Duration::from_millis(500)).await);
    let swarm = node.get(&v2).unwrap();
    let seen = tokio::time::timeout(PATIENCE, async {
        while swarm.stats().peers != 2 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    assert!(seen.await.is_ok(), "{} peers", swarm.stats().peers);
    shutdown.cancel();
}

#[tokio::test]
async fn callers_by_ipv4_at_a_port_of_both_families_are_known_by_their_ipv4_address() {
    let shutdown = CancellationToken::new();
    let both = NodeConfig {
        listen: "[::]:0".parse().unwrap(),
        ..config()
    };
    let (node, ids) = node(both, &shutdown).await;
    let port = node.listen_addr().port();
    let swarm = node.get(&ids[0]).unwrap();
    let mut streams = Vec::new();
    for (n, ip) in ["127.0.0.1", "::1"].into_iter().enumerate() {
        let to = SocketAddr::new(ip.parse().unwrap(), port);
        streams.push(call(to, ids[0], n as u8).await.0);
    }
    let seen = tokio::time::timeout(PATIENCE, async {
        loop {
            let peers = swarm.peers().await;
            if peers.len() == streams.len() {
                return peers;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let seen = seen.await.expect("both are there");
    let mut seen: Vec<_> = seen.iter().map(|peer| peer.addr).collect();
    let mut own: Vec<_> = streams.iter().map(|s| s.local_addr().unwrap()).collect();
    seen.sort_unstable();
    own.sort_unstable();
    assert_eq!(seen, own);
    shutdown.cancel();
}

#[tokio::test]
async fn t22_callers_that_say_nothing_are_few_and_soon_gone() {
    let shutdown = CancellationToken::new();
    let mut config = NodeConfig {
        handshakes_max: 4,
        ..config()
    };
    config.timeouts.handshake = Duration::from_secs(3);
    let (node, ids) = node(config, &shutdown).await;
    let to = node.listen_addr();
    let began = Instant::now();
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(to).await.unwrap());
    }
    // Those that came first make way at once, the last four when their time is up.
    for stream in &mut silent[..16] {
        assert!(
            ends(stream, Duration::from_secs(2)).await,
            "more than four wait"
        );
    }
    // Whoever speaks is heard meanwhile.
    let (_stream, answer) = call(to, ids[0], 9).await;
    assert_eq!(answer.swarm_id, ids[0]);
    for stream in &mut silent[16..] {
        assert!(ends(stream, PATIENCE).await, "a silent caller is kept");
    }
    assert!(began.elapsed() >= Duration::from_secs(2), "not waited for");
    shutdown.cancel();
}

/// A node as it comes is called, and calls, by both families and both transports.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_met_by_both_families_unless_told_otherwise() {
    let shutdown = CancellationToken::new();
    let mut hasher = FileHasher::new(16_384);
    hasher.update(&[7; 40_000]);
    let mut builder = MetainfoBuilder::new("one.bin", 16_384);
    builder.file(vec!["one.bin".to_owned()], hasher.finish());
    let meta = builder.build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("one.bin")).unwrap();
    std::fs::write(dir.path().join("one.bin/one.bin"), [7; 40_000]).unwrap();
    let storage = Storage::Folder {
        dir: dir.path().to_owned(),
    };
    let as_it_comes = |transport| NodeConfig {
        transport,
        ..NodeConfig::default()
    };
    let seed = Node::start(as_it_comes(Transport::Both), shutdown.clone());
    let seed = seed.await.unwrap();
    let seeding = AddBundle::new(Source::from(meta.clone()), storage);
    let seeding = seed.add(seeding).await.unwrap();
    let whole = tokio::time::timeout(PATIENCE, seeding.wait_complete()).await;
    whole.expect("checked").unwrap();
    let port = seed.listen_addr().port();
    for (ip, transport) in [
        ("127.0.0.1", Transport::Tcp),
        ("::1", Transport::Tcp),
        // As a tracker may have it.
        ("::ffff:127.0.0.1", Transport::Tcp),
        ("127.0.0.1", Transport::Utp),
        ("::1", Transport::Utp),
    ] {
        let node = Node::start(as_it_comes(transport), shutdown.clone());
        let node = node.await.unwrap();
        let at = SocketAddr::new(ip.parse().unwrap(), port);
        let link = format!("{}&x.pe={at}", meta.magnet());
        let mut magnet = swarm_proto::magnet::Magnet::parse(&link).unwrap();
        magnet.trackers.clear();
        let mut bundle = AddBundle::new(Source::from(magnet), Storage::Memory);
        bundle.trust = swarm_peer::connector::Trust::CommandLine;
        let handle = node.add(bundle).await.unwrap();
        let whole = tokio::time::timeout(PATIENCE, handle.wait_complete()).await;
        whole
            .unwrap_or_else(|_| panic!("{ip}: not whole in time"))
            .unwrap();
        let peers = handle.peers().await;
        let canonical = SocketAddr::new(at.ip().to_canonical(), port);
        assert!(peers.iter().all(|peer| peer.addr == canonical), "{peers:?}");
    }
    shutdown.cancel();
}
