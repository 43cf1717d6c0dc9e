//! A volunteer's bridge played by the test: it answers calls with its key, shows what it is told
//! to, and keeps what it was asked.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use swarm_proto::id::PeerId;
use swarm_proto::manifest::SecretKey;
use swarm_proto::tracker::http::encode_query;
use swarm_proto::tracker::proof::{PROOF_PATH, ProofRequest};
use swarm_proto::tracker::{AnnounceRequest, BridgeOffer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::site::v1;

/// How a bridge answers a visitor who asked for this path.
pub(crate) type Show = fn(&str) -> Shown;

/// What it sends.
pub(crate) enum Shown {
    /// A page of this body.
    Page(String),
    /// A page that comes a byte a second.
    Drip(String),
}

/// Who asked, and the head of the request.
pub(crate) type Asked = (IpAddr, String);

pub(crate) struct FakeBridge {
    pub(crate) addr: SocketAddr,
    pub(crate) key: SecretKey,
    asked: Arc<Mutex<Vec<Asked>>>,
    listening: tokio::task::AbortHandle,
}

impl FakeBridge {
    /// Listens no more.
    pub(crate) fn shut(&self) {
        self.listening.abort();
    }

    /// One that answers calls.
    pub(crate) async fn start(seed: u8, show: Show) -> Self {
        let key = SecretKey::new([seed; 32]);
        Self::listen(key.clone(), Some(key), show).await
    }

    /// A web server that never heard of us.
    pub(crate) async fn victim(show: Show) -> Self {
        Self::listen(SecretKey::new([99; 32]), None, show).await
    }

    async fn listen(key: SecretKey, answers: Option<SecretKey>, show: Show) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("bound");
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let book = Arc::clone(&asked);
        let listening = tokio::spawn(async move {
            while let Ok((stream, peer)) = listener.accept().await {
                let (key, book) = (answers.clone(), Arc::clone(&book));
                tokio::spawn(serve(stream, peer.ip(), key, show, book));
            }
        });
        Self {
            addr,
            key,
            asked,
            listening: listening.abort_handle(),
        }
    }

    /// All that came to its port, in order.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("not poisoned").clone()
    }

    /// Those of it that a visitor could have asked.
    pub(crate) fn visits(&self) -> Vec<Asked> {
        let mut asked = self.asked();
        asked.retain(|(_, head)| !head.contains(PROOF_PATH));
        asked
    }

    /// The query of an announce as the seed of bundle `n` with this bridge.
    pub(crate) fn announce(&self, n: u8) -> String {
        encode_query(&AnnounceRequest {
            left: Some(0),
            bridge: Some(BridgeOffer {
                domain: Some("localhost".into()),
                key: Some(self.key.public()),
                ..BridgeOffer::new(self.addr.port())
            }),
            ..AnnounceRequest::new(v1(n), PeerId::new([n; 20]), self.addr.port())
        })
    }
}

async fn serve(
    mut stream: TcpStream,
    peer: IpAddr,
    key: Option<SecretKey>,
    show: Show,
    book: Arc<Mutex<Vec<Asked>>>,
) {
    let at = {
        let mut book = book.lock().expect("not poisoned");
        // A connection counts even if nothing comes.
        book.push((peer, String::new()));
        book.len() - 1
    };
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else {
            return;
        };
        head.push(byte);
        let text = String::from_utf8_lossy(&head).into_owned();
        book.lock().expect("not poisoned")[at].1 = text;
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let target = head.split(' ').nth(1).unwrap_or_default();
    if let (Some(key), Some((PROOF_PATH, query))) = (key, target.split_once('?')) {
        let host = header(&head, "host").parse().expect("called by address");
        let proof = ProofRequest::parse(query, host)
            .expect("a good call")
            .sign(&key);
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 64\r\n\r\n";
        let _ = stream.write_all(&[head.as_bytes(), &proof].concat()).await;
        return;
    }
    let shown = show(target);
    let (Shown::Page(body) | Shown::Drip(body)) = &shown;
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all(head.as_bytes()).await;
    for byte in body.bytes() {
        if stream.write_all(&[byte]).await.is_err() {
            return;
        }
        if matches!(shown, Shown::Drip(_)) {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

/// A field of a head.
pub(crate) fn header(head: &str, name: &str) -> String {
    let line = head.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    });
    line.unwrap_or_default().to_owned()
}
