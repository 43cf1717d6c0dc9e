//! A tiny origin, a tiny visitor, and a gate between them.
#![allow(dead_code, unreachable_pub)]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use spike_gate::{Gate, GateConfig, GateHandle, Parts, TrackerLink};
use swarm_peer::{Node, NodeConfig};
use swarm_tracker::{Tracker, TrackerConfig, TrackerHandle};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};
use url::Url;

/// What an origin does with a request's head: the raw bytes it answers.
pub type Answer = dyn Fn(&str) -> Vec<u8> + Send + Sync;

/// An origin that reads one request per connection, keeps what it read, and answers raw bytes.
pub struct Origin {
    pub addr: SocketAddr,
    seen: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Origin {
    pub async fn start(answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let answer: Arc<Answer> = Arc::new(answer);
        let book = seen.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, answer.clone(), book.clone()));
            }
        });
        Self { addr, seen }
    }

    /// Everything each connection sent, as text.
    pub fn seen(&self) -> Vec<String> {
        let seen = self.seen.lock().unwrap();
        seen.iter()
            .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
            .collect()
    }
}

async fn serve(mut stream: TcpStream, answer: Arc<Answer>, book: Arc<Mutex<Vec<Vec<u8>>>>) {
    let mut bytes = Vec::new();
    let mut buf = [0; 4096];
    let at = book.lock().unwrap().len();
    let mut answered = false;
    loop {
        let Ok(count) = stream.read(&mut buf).await else {
            return;
        };
        if count == 0 {
            return;
        }
        bytes.extend_from_slice(&buf[..count]);
        {
            let mut book = book.lock().unwrap();
            while book.len() <= at {
                book.push(Vec::new());
            }
            book[at] = bytes.clone();
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if !answered && text.contains("\r\n\r\n") {
            answered = true;
            if stream.write_all(&answer(&text)).await.is_err() {
                return;
            }
            if !text.to_ascii_lowercase().contains("upgrade: websocket") {
                let _ = stream.shutdown().await;
            }
        } else if answered {
            // A tunnel: say it back.
            let _ = stream.write_all(&buf[..count]).await;
        }
    }
}

/// One answer, taken apart.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Sends raw bytes, reads to the end. Chunked bodies are put together.
pub async fn raw(addr: SocketAddr, request: &[u8]) -> Reply {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut bytes)).await;
    read.expect("the connection ends").unwrap();
    let split = bytes
        .windows(4)
        .position(|w| w == b"\r\n\r\n")
        .unwrap_or(bytes.len());
    let head = String::from_utf8_lossy(&bytes[..split]).into_owned();
    let mut body = bytes.get(split + 4..).unwrap_or_default().to_vec();
    if head
        .to_ascii_lowercase()
        .contains("transfer-encoding: chunked")
    {
        body = dechunk(&body);
    }
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .unwrap_or(0);
    Reply { status, head, body }
}

fn dechunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some(end) = bytes.windows(2).position(|w| w == b"\r\n") {
        let size = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let size = usize::from_str_radix(size.trim(), 16).unwrap();
        if size == 0 {
            break;
        }
        out.extend_from_slice(&bytes[end + 2..end + 2 + size]);
        bytes = &bytes[end + 4 + size..];
    }
    out
}

/// A `GET` on a connection of its own.
pub async fn get(addr: SocketAddr, target: &str, headers: &[(&str, &str)]) -> Reply {
    let mut request = format!("GET {target} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    raw(addr, request.as_bytes()).await
}

/// A gate with its own tracker.
pub struct Scene {
    pub gate: GateHandle,
    pub tracker: TrackerHandle,
    pub scratch: tempfile::TempDir,
    _stop: DropGuard,
}

impl Scene {
    pub async fn start(origin: SocketAddr, change: impl FnOnce(&mut GateConfig, &Path)) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let stop = CancellationToken::new();
        let listen = "127.0.0.1:0".parse().unwrap();
        let config = TrackerConfig {
            http: vec![listen],
            ..TrackerConfig::default()
        };
        let tracker = Tracker::start(config, stop.clone()).await.unwrap();
        let node = NodeConfig {
            listen,
            ..NodeConfig::default()
        };
        let node = Node::start(node, stop.clone()).await.unwrap();
        let origin = Url::parse(&format!("http://{origin}")).unwrap();
        let mut config = GateConfig::new(origin, scratch.path().join("state"), 8_000_000);
        change(&mut config, scratch.path());
        let parts = Parts {
            node,
            tracker: TrackerLink::embedded(tracker.clone(), "127.0.0.1"),
            listener: None,
        };
        let gate = Gate::start(config, parts, stop.clone()).await.unwrap();
        Self {
            gate,
            tracker,
            scratch,
            _stop: stop.drop_guard(),
        }
    }
}

/// Waits until `what` holds.
pub async fn until(name: &str, what: impl AsyncFn() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !what().await {
        assert!(Instant::now() < end, "never: {name}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
