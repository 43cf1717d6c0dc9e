//! Peers that speak WebSocket: npm's `bittorrent-tracker`, and ten thousand at once.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use swarm_e2e::flood::Memory;
use swarm_e2e::{Proc, beside, get, tool};
use swarm_proto::id::{PeerId, SwarmId};
use swarm_proto::tracker::ws::{Announce, Offer, Request};

use crate::{SOON, text, tracker};

/// Peers connected at once.
const PEERS: usize = 10_000;
/// What each may cost the tracker, in bytes. bittorrent-tracker 11 for Node takes 12.8 KB.
const BYTES_PER_PEER_MAX: u64 = 8192;

fn figure(addr: SocketAddr, name: &str) -> u64 {
    let figures = get(addr, "t", "/metrics").body;
    let figures = String::from_utf8_lossy(&figures).into_owned();
    let name = format!("swarm_tracker_{name} ");
    let line = figures.lines().find_map(|line| line.strip_prefix(&name));
    let value = line.and_then(|value| value.parse().ok());
    value.unwrap_or_else(|| panic!("no {name}in {figures}"))
}

#[test]
fn bittorrent_tracker_of_npm_announces_scrapes_and_exchanges_offer_and_answer() {
    let modules = beside("webtorrent/node_modules/bittorrent-tracker");
    assert!(
        modules.is_dir(),
        "{} is missing: tests/run install, or npm ci --ignore-scripts there",
        modules.display()
    );
    let (_tracker, announce) = tracker(&["--open"]);
    let script = beside("webtorrent/meet.mjs");
    let args = [text(&script), &announce.replace("http://", "ws://")];
    let mut met = Proc::start_program("node", &tool("node", "nodejs"), args);
    let told = met.event("met", SOON);
    assert!(met.end(SOON).success(), "{}", met.said());
    // What the script has not compared itself.
    assert_eq!(told["pairs"], 2, "{told}");
    let addr = announce
        .strip_prefix("http://")
        .and_then(|url| url.strip_suffix("/announce"));
    let addr = addr.and_then(|addr| addr.parse().ok()).expect("an address");
    assert_eq!(figure(addr, "ws_malformed_total"), 0);
    assert_eq!(figure(addr, "answers_total"), 2);
    let until = Instant::now() + SOON;
    while figure(addr, "web_peers") > 0 {
        assert!(Instant::now() < until, "peers of sockets that are gone");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A peer that has announced, with five offers of the usual size.
fn connect(addr: SocketAddr, n: usize) -> TcpStream {
    let mut stream = TcpStream::connect(addr).expect("it listens");
    stream.set_read_timeout(Some(SOON)).expect("settable");
    let request = format!(
        "GET /announce HTTP/1.1\r\nHost: {addr}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).expect("sent");
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("an answer");
        head.push(byte[0]);
    }
    assert!(
        head.starts_with(b"HTTP/1.1 101 "),
        "{}",
        String::from_utf8_lossy(&head)
    );
    let mut id = [0; 20];
    id[..8].copy_from_slice(&n.to_be_bytes());
    let offers = (0..5).map(|offer| {
        id[19] = offer;
        let sdp = "a=candidate:1 1 udp 2113937151 192.0.2.1 50000 typ host\r\n".repeat(22);
        Offer { id, sdp }
    });
    let announce = Announce {
        left: Some(1),
        offers: offers.collect(),
        ..Announce::new(SwarmId::new([1; 20]), PeerId::new(id))
    };
    let message = Request::Announce(announce).encode();
    let len = u16::try_from(message.len()).expect("some 7 KB");
    let [high, low] = len.to_be_bytes();
    // One text frame, masked with zeros.
    let head = [0x81, 0x80 | 126, high, low, 0, 0, 0, 0];
    stream
        .write_all(&[&head, message.as_bytes()].concat())
        .expect("sent");
    stream
}

#[test]
fn ten_thousand_peers_cost_the_tracker_a_few_kilobytes_each() {
    // Both ends of each connection.
    let room = Command::new(tool("prlimit", "util-linux"))
        .args(["--pid", &std::process::id().to_string(), "--nofile=12000:"])
        .output()
        .expect("prlimit starts");
    assert!(
        room.status.success(),
        "12,000 descriptors are needed: {room:?}"
    );
    let scratch = tempfile::tempdir().expect("scratch");
    let config = scratch.path().join("tracker.toml");
    std::fs::write(&config, "[connections]\nmax = 11000\n").expect("scratch");
    let (tracker, announce) = tracker(&["--open", "--config", text(&config)]);
    let addr = announce
        .strip_prefix("http://")
        .and_then(|url| url.strip_suffix("/announce"));
    let addr: SocketAddr = addr.and_then(|addr| addr.parse().ok()).expect("an address");
    // What code and allocator take once.
    drop((0..50).map(|n| connect(addr, n)).collect::<Vec<_>>());
    let until = Instant::now() + SOON;
    while figure(addr, "web_peers") > 0 {
        assert!(Instant::now() < until, "peers of sockets that are gone");
        std::thread::sleep(Duration::from_millis(50));
    }
    let before = Memory::of(tracker.pid()).anon;
    let mut peers: Vec<_> = (0..PEERS).map(|n| connect(addr, n)).collect();
    let until = Instant::now() + SOON;
    while figure(addr, "web_peers") < PEERS as u64 {
        assert!(
            Instant::now() < until,
            "{} peers",
            figure(addr, "web_peers")
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    std::thread::sleep(Duration::from_secs(2));
    // Each has its answer, and has had its share of the others' offers.
    let mut heard = 0;
    for peer in &mut peers {
        peer.set_nonblocking(true).expect("settable");
        let mut all = Vec::new();
        let error = peer.read_to_end(&mut all).expect_err("it is not closed");
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
        assert!(!all.is_empty(), "no answer");
        heard += all.len();
    }
    let after = Memory::of(tracker.pid()).anon;
    let each = (after - before) * 1024 / PEERS as u64;
    println!(
        "{PEERS} peers, {before} KiB before, {after} KiB after: {each} bytes each; they heard {heard} bytes"
    );
    assert!(figure(addr, "offers_total") > 4 * PEERS as u64);
    assert!(each < BYTES_PER_PEER_MAX, "{each} bytes a peer");
}
