use std::time::Duration;

use swarm_proto::metainfo::{FileHasher, MetainfoBuilder};
use swarm_proto::wire::{Handshake, ReservedBits};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::link::Stream;
use crate::link::accept::greet;
use crate::store::Storage;

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

/// Bundles of one byte each, that wait for peers.
async fn bundles(node: &Node, count: u8) -> Vec<SwarmHandle> {
    let mut handles = Vec::new();
    for n in 0..count {
        let mut hasher = FileHasher::new(16_384);
        hasher.update(&[n]);
        let mut builder = MetainfoBuilder::new("crowded.test", 16_384);
        builder.file(vec!["a".into()], hasher.finish());
        let source = Source::from(builder.build().unwrap());
        let handle = node.add(AddBundle::new(source, Storage::Memory)).await;
        let handle = handle.unwrap();
        handle.wait_checked().await.unwrap();
        handles.push(handle);
    }
    handles
}

/// The handshake of somebody, and that it is interested, lest it be left as useless.
fn hello(swarm_id: SwarmId, number: u8) -> Vec<u8> {
    let handshake = Handshake {
        reserved: ReservedBits::OURS,
        swarm_id,
        peer_id: PeerId::new([number; 20]),
    };
    [&handshake.encode()[..], &[0, 0, 0, 1, 2]].concat()
}

/// A caller from that address, as far as the node can tell; whether it is answered.
async fn call(node: &Node, bundle: &SwarmHandle, addr: String, number: u8) -> (TcpStream, bool) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let caller = TcpStream::connect(listener.local_addr().unwrap()).await;
    let mut caller = caller.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    let addr: SocketAddr = addr.parse().unwrap();
    let seat = Lobby::new(1).enter(addr.ip());
    let greeting = greet(node.clone(), Stream::Tcp(stream), addr, seat);
    let hello = hello(bundle.swarm_ids()[0], number);
    caller.write_all(&hello).await.unwrap();
    greeting.await;
    let answered = caller.read_exact(&mut [0; 68]).await.is_ok();
    (caller, answered)
}

/// How many connections of that network there are, once there are `wanted`, or after a while.
async fn of(handles: &[SwarmHandle], network: &str, wanted: usize) -> usize {
    let mut seen = 0;
    for _ in 0..200 {
        seen = 0;
        for handle in handles {
            let peers = handle.peers().await;
            let addrs = peers.iter().map(|peer| peer.addr.to_string());
            seen += addrs.filter(|addr| addr.starts_with(network)).count();
        }
        if seen == wanted {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    seen
}

#[tokio::test]
async fn t22_callers_of_one_network_leave_places_of_the_node_to_others() {
    let config = NodeConfig {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        peers_max: 24,
        ..NodeConfig::default()
    };
    let node = Node::start(config, CancellationToken::new()).await.unwrap();
    let handles = bundles(&node, 7).await;
    let mut callers = Vec::new();
    let mut answered = 0;
    for n in 0..100 {
        let bundle = &handles[usize::from(n) % handles.len()];
        let (caller, heard) = call(&node, bundle, format!("9.8.{n}.1:1"), n).await;
        callers.push(caller);
        answered += usize::from(heard);
    }
    assert_eq!((answered, of(&handles, "9.8.", 24).await), (24, 24));
    for n in 0..4 {
        let (caller, heard) = call(&node, &handles[0], format!("60.{n}.1.1:1"), 100 + n).await;
        callers.push(caller);
        assert!(heard, "a caller of another network is refused");
    }
    assert_eq!(of(&handles, "60.", 4).await, 4);
    assert_eq!(of(&handles, "9.8.", 20).await, 20);
    // Whom we call finds a place too, but only once it has said who it is.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peer = listener.local_addr().unwrap();
    handles[0].add_peers(vec![peer], Trust::CommandLine).await;
    let called = tokio::time::timeout(Duration::from_secs(20), listener.accept());
    let (mut stream, _) = called.await.expect("nobody is called").unwrap();
    stream.read_exact(&mut [0; 68]).await.unwrap();
    assert_eq!(of(&handles, "9.8.", 20).await, 20);
    let hello = hello(handles[0].swarm_ids()[0], 200);
    stream.write_all(&hello).await.unwrap();
    assert_eq!(of(&handles, "9.8.", 19).await, 19);
    assert_eq!(of(&handles, &peer.to_string(), 1).await, 1);
}
