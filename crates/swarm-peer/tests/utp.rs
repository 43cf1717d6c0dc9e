//! Peers over uTP: our own, and whoever forges an address.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use swarm_peer::uplink::Uplink;
use swarm_peer::{AddBundle, Node, NodeConfig, Source, Storage, SwarmHandle, Transport};
use swarm_proto::id::PeerId;
use swarm_proto::metainfo::{FileHasher, Metainfo, MetainfoBuilder};
use swarm_proto::wire::{Handshake, ReservedBits};
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(60);

/// One file of bytes that differ from block to block.
fn torrent(len: usize) -> (Arc<Metainfo>, Vec<u8>) {
    let bytes: Vec<u8> = (0..len as u32)
        .map(|n| n.wrapping_mul(0x9e37_79b9).rotate_left(n / 7919) as u8)
        .collect();
    let mut hasher = FileHasher::new(65_536);
    hasher.update(&bytes);
    let mut builder = MetainfoBuilder::new("big.bin", 65_536);
    builder.file(vec!["big.bin".to_owned()], hasher.finish());
    (Arc::new(builder.build().unwrap()), bytes)
}

fn config(transport: Transport) -> NodeConfig {
    NodeConfig {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        transport,
        ..NodeConfig::default()
    }
}

async fn seed(config: NodeConfig, len: usize, shutdown: &CancellationToken) -> (Node, Source) {
    let (meta, bytes) = torrent(len);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("big.bin");
    std::fs::create_dir_all(&path).unwrap();
    std::fs::write(path.join("big.bin"), bytes).unwrap();
    let node = Node::start(config, shutdown.clone()).await.unwrap();
    let source = Source::Metainfo(meta);
    let storage = Storage::Folder { dir: dir.keep() };
    let mut bundle = AddBundle::new(source.clone(), storage);
    bundle.seed_only = true;
    let handle = node.add(bundle).await.unwrap();
    within(handle.wait_complete()).await.unwrap();
    (node, source)
}

async fn fetch(node: &Node, source: Source, from: SocketAddr) -> SwarmHandle {
    let mut bundle = AddBundle::new(source, Storage::Memory);
    bundle.peers = vec![from];
    node.add(bundle).await.unwrap()
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("in time")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bundle_travels_by_utp_alone_and_where_tcp_is_refused() {
    let shutdown = CancellationToken::new();
    let (from, source) = seed(config(Transport::Utp), 3_000_000, &shutdown).await;
    for transport in [Transport::Utp, Transport::Both] {
        let node = Node::start(config(transport), shutdown.clone())
            .await
            .unwrap();
        let handle = fetch(&node, source.clone(), from.listen_addr()).await;
        within(handle.wait_complete()).await.unwrap();
    }
    // Who speaks TCP alone does not get through, so the others did not use it.
    let node = Node::start(config(Transport::Tcp), shutdown.clone())
        .await
        .unwrap();
    let handle = fetch(&node, source, from.listen_addr()).await;
    let complete = tokio::time::timeout(Duration::from_secs(3), handle.wait_complete());
    assert!(complete.await.is_err(), "fetched by TCP");
    shutdown.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_port_number_serves_both() {
    let shutdown = CancellationToken::new();
    let (from, source) = seed(config(Transport::Both), 200_000, &shutdown).await;
    for transport in [Transport::Utp, Transport::Tcp, Transport::Both] {
        let node = Node::start(config(transport), shutdown.clone())
            .await
            .unwrap();
        let handle = fetch(&node, source.clone(), from.listen_addr()).await;
        within(handle.wait_complete()).await.unwrap();
    }
    // Taken for UDP by somebody else: TCP alone, and no failure.
    let taken = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut config = config(Transport::Both);
    config.listen = taken.local_addr().unwrap();
    let node = Node::start(config, shutdown.clone()).await.unwrap();
    let handle = fetch(&node, source, from.listen_addr()).await;
    within(handle.wait_complete()).await.unwrap();
    shutdown.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_of_both_families_calls_and_is_called_by_ipv4_over_utp() {
    let shutdown = CancellationToken::new();
    let both = || NodeConfig {
        listen: "[::]:0".parse().unwrap(),
        ..config(Transport::Utp)
    };
    let (from, source) = seed(both(), 200_000, &shutdown).await;
    for config in [config(Transport::Utp), both()] {
        let node = Node::start(config, shutdown.clone()).await.unwrap();
        let at = SocketAddr::from(([127, 0, 0, 1], from.listen_addr().port()));
        let handle = fetch(&node, source.clone(), at).await;
        within(handle.wait_complete()).await.unwrap();
    }
    shutdown.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limited_uplink_holds_for_utp_as_well() {
    let shutdown = CancellationToken::new();
    let uplink = Uplink::new(8_000_000);
    let config_limited = NodeConfig {
        uplink: uplink.clone(),
        ..config(Transport::Utp)
    };
    let (from, source) = seed(config_limited, 2_000_000, &shutdown).await;
    let node = Node::start(config(Transport::Utp), shutdown.clone())
        .await
        .unwrap();
    let started = Instant::now();
    let handle = fetch(&node, source, from.listen_addr()).await;
    within(handle.wait_complete()).await.unwrap();
    let (took, sent) = (started.elapsed().as_secs_f64(), uplink.sent_total());
    assert!(sent >= 2_000_000, "sent {sent}");
    assert!(took > sent as f64 / 1e6 * 0.9, "{sent} bytes in {took} s");
    shutdown.cancel();
}

/// A uTP packet, version 1.
fn packet(kind: u8, id: u16, seq: u16, ack: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind << 4 | 1, 0];
    bytes.extend(id.to_be_bytes());
    bytes.extend([0; 8]);
    bytes.extend(1_000_000_u32.to_be_bytes());
    bytes.extend(seq.to_be_bytes());
    bytes.extend(ack.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Bytes and packets that come in until nothing has come for longer than any retransmission.
async fn drain(socket: &UdpSocket) -> (usize, Vec<Vec<u8>>) {
    let (mut bytes, mut packets) = (0, Vec::new());
    let mut buf = [0; 2048];
    let quiet = Duration::from_secs(12);
    while let Ok(Ok(len)) = tokio::time::timeout(quiet, socket.recv(&mut buf)).await {
        bytes += len;
        packets.push(buf[..len].to_vec());
    }
    (bytes, packets)
}

/// Whoever forges an address sends what he likes and sees no answer: neither opening packets nor
/// a handshake behind them may draw more than three times their bytes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t24_a_forged_address_is_sent_at_most_three_bytes_for_each() {
    let shutdown = CancellationToken::new();
    let (node, source) = seed(config(Transport::Both), 200_000, &shutdown).await;
    let handshake = Handshake {
        reserved: ReservedBits::OURS,
        swarm_id: source.swarm_ids()[0],
        peer_id: PeerId::new([7; 20]),
    };
    let handshake = handshake.encode();
    let syn = packet(4, 300, 1, 0, b"");
    let alone = vec![syn.clone()];
    let with_data = vec![syn.clone(), packet(0, 301, 2, 4242, &handshake)];
    let with_fin = vec![syn.clone(), packet(1, 301, 2, 4242, b"")];
    let with_reset = vec![syn.clone(), packet(3, 301, 2, 4242, b"")];
    let many = (0..40).map(|n| packet(4, 400 + 2 * n, 1, 0, b"")).collect();
    let garbage = vec![vec![0x41; 19], vec![0xff; 600], b"d1:ad2:id20:".to_vec()];
    let mut trials = Vec::new();
    for forged in [alone, with_data, with_fin, with_reset, many, garbage] {
        let to = node.listen_addr();
        trials.push(tokio::spawn(async move {
            let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            socket.connect(to).await.unwrap();
            let mut sent = 0;
            for packet in &forged {
                sent += socket.send(packet).await.unwrap();
            }
            let (got, packets) = drain(&socket).await;
            (sent, got, packets)
        }));
    }
    for (n, trial) in trials.into_iter().enumerate() {
        let (sent, got, packets) = trial.await.unwrap();
        assert!(got <= 3 * sent, "trial {n}: {got} bytes for {sent}");
        assert!(packets.iter().all(|packet| packet.len() <= 32), "trial {n}");
        assert_eq!(packets.is_empty(), n == 5, "trial {n}");
    }
    shutdown.cancel();
}
