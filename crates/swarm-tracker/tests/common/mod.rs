//! A tracker on loopback and an HTTP client of twenty lines, so that tests see every byte.

#![allow(dead_code, reason = "no test binary uses all of it")]

pub(crate) mod bridge;
pub(crate) mod dns;
pub(crate) mod redis;
pub(crate) mod site;
pub(crate) mod web;

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use swarm_tracker::{Tracker, TrackerConfig, TrackerHandle};
use tokio_util::sync::CancellationToken;

/// Longer than any answer takes, shorter than patience.
const SOON: Duration = Duration::from_secs(10);

/// Seconds since 1970.
pub(crate) fn unix() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("a clock after 1970").as_secs()
}

/// A configuration for loopback and a free port.
pub(crate) fn config() -> TrackerConfig {
    TrackerConfig {
        http: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
        ..TrackerConfig::default()
    }
}

/// A running tracker and what stops it.
pub(crate) async fn start(config: TrackerConfig) -> (TrackerHandle, CancellationToken) {
    let shutdown = CancellationToken::new();
    let tracker = Tracker::start(config, shutdown.clone()).await;
    (tracker.expect("loopback has a free port"), shutdown)
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// Lower case, one `name: value` a line.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> &str {
        let line = self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        });
        line.unwrap_or_default()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

pub(crate) fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).expect("it listens");
    stream.set_read_timeout(Some(SOON)).expect("settable");
    stream
}

/// Reads one answer off a connection; `None` at its end.
pub(crate) fn read_reply(stream: &mut impl std::io::Read) -> Option<Reply> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            Ok(_) => return None,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
            Err(error) => panic!("no answer: {error}"),
        }
    }
    let head = String::from_utf8(head).expect("a head is text");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    let mut reply = Reply {
        status: status.expect("a status"),
        head,
        body: Vec::new(),
    };
    let len: usize = reply.header("content-length").parse().unwrap_or(0);
    reply.body.resize(len, 0);
    stream.read_exact(&mut reply.body).expect("the whole body");
    Some(reply)
}

/// One request on a connection of its own.
pub(crate) async fn send(addr: SocketAddr, method: &str, target: &str, body: &[u8]) -> Reply {
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: t\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let request = [head.as_bytes(), body].concat();
    tokio::task::spawn_blocking(move || {
        let mut stream = connect(addr);
        stream.write_all(&request).expect("it takes requests");
        read_reply(&mut stream).expect("an answer")
    })
    .await
    .expect("no panic")
}

pub(crate) async fn get(addr: SocketAddr, target: &str) -> Reply {
    send(addr, "GET", target, b"").await
}
