//! A volunteer that is honest until it is told to lie: it hands out what another bridge gives it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use swarm_proto::id::{PeerId, SwarmId};
use swarm_proto::manifest::{SecretKey, SiteRecord};
use swarm_proto::tracker::http::encode_query;
use swarm_proto::tracker::proof::{PROOF_PATH, ProofRequest};
use swarm_proto::tracker::{AnnounceRequest, BridgeOffer};

/// A running liar; it ends with the test's process.
pub struct LyingBridge {
    /// Where it listens.
    pub addr: SocketAddr,
    inner: Arc<Inner>,
}

struct Inner {
    key: SecretKey,
    /// Whom it asks for what it hands out.
    honest: SocketAddr,
    lies: AtomicBool,
    told: AtomicUsize,
}

impl LyingBridge {
    /// Volunteers at `tracker` for all bundles of `site`, and goes on announcing.
    pub fn start(tracker: SocketAddr, honest: SocketAddr, site: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let addr = listener
            .local_addr()
            .expect("a bound socket has an address");
        let inner = Arc::new(Inner {
            key: SecretKey::new([77; 32]),
            honest,
            lies: AtomicBool::new(false),
            told: AtomicUsize::new(0),
        });
        let served = Arc::clone(&inner);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let served = Arc::clone(&served);
                // A visitor who hangs up ends his thread; that is no failure of the test.
                std::thread::spawn(move || drop(served.serve(stream)));
            }
        });
        let offering = Arc::clone(&inner);
        let site = site.to_owned();
        std::thread::spawn(move || {
            loop {
                for bundle in bundles(tracker, &site) {
                    let request = AnnounceRequest {
                        left: Some(0),
                        bridge: Some(BridgeOffer {
                            domain: Some("localhost".into()),
                            key: Some(offering.key.public()),
                            ..BridgeOffer::new(addr.port())
                        }),
                        ..AnnounceRequest::new(bundle, PeerId::new([77; 20]), addr.port())
                    };
                    let target = format!("/announce?{}", encode_query(&request));
                    // The tracker may be gone by now.
                    let _ =
                        crate::http::try_send(tracker, "GET", &tracker.to_string(), &target, &[]);
                }
                std::thread::sleep(Duration::from_secs(5));
            }
        });
        Self { addr, inner }
    }

    /// From now on every page is wrong.
    pub fn lie(&self) {
        self.inner.lies.store(true, Ordering::SeqCst);
    }

    /// Wrong pages handed out.
    pub fn told(&self) -> usize {
        self.inner.told.load(Ordering::SeqCst)
    }
}

/// The bundles of a site, as its newest record says; none where there is none yet.
fn bundles(tracker: SocketAddr, site: &str) -> Vec<SwarmId> {
    let target = format!("/swarm/site/{site}");
    let reply = crate::http::try_send(tracker, "GET", &tracker.to_string(), &target, &[]);
    let record = reply
        .ok()
        .and_then(|reply| SiteRecord::parse(&reply.body).ok());
    let manifest = record.and_then(|record| record.manifest.claimed_manifest().ok());
    let bundles = manifest.map_or_else(Vec::new, |manifest| manifest.bundles);
    bundles.iter().map(|bundle| bundle.v1.swarm_id()).collect()
}

impl Inner {
    fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut writer = stream;
        let (mut first, mut host) = (String::new(), String::new());
        reader.read_line(&mut first)?;
        loop {
            let mut field = String::new();
            if reader.read_line(&mut field)? == 0 || field.trim().is_empty() {
                break;
            }
            if let Some(value) = field.to_ascii_lowercase().strip_prefix("host:") {
                host = value.trim().to_owned();
            }
        }
        let target = first.split(' ').nth(1).unwrap_or("/").to_owned();
        if let Some((PROOF_PATH, query)) = target.split_once('?') {
            let bad = |_| std::io::Error::from(std::io::ErrorKind::InvalidData);
            let called = host.parse().map_err(bad)?;
            let Some(call) = ProofRequest::parse(query, called) else {
                return Ok(());
            };
            writer
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 64\r\nConnection: close\r\n\r\n")?;
            return writer.write_all(&call.sign(&self.key));
        }
        let label = host.split(':').next().unwrap_or_default();
        let mut honest = TcpStream::connect(self.honest)?;
        let ask = format!("GET {target} HTTP/1.1\r\nHost: {label}\r\nConnection: close\r\n\r\n");
        honest.write_all(ask.as_bytes())?;
        let mut answer = Vec::new();
        honest.read_to_end(&mut answer)?;
        if self.lies.load(Ordering::SeqCst) && answer.starts_with(b"HTTP/1.1 200") {
            self.told.fetch_add(1, Ordering::SeqCst);
            if let Some(last) = answer.last_mut() {
                *last ^= 1;
            }
        }
        writer.write_all(&answer)
    }
}
