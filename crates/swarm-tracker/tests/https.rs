//! HTTPS over real sockets: announces, WebSockets, and a certificate that is replaced.

mod common;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{config, connect, get, read_reply, start};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};
use swarm_proto::id::{PeerId, SwarmId};
use swarm_proto::tracker::AnnounceRequest;
use swarm_proto::tracker::http::{decode_reply, encode_query};
use swarm_tracker::config::TlsConfig;
use swarm_tracker::{Tracker, TrackerConfig, TrackerError, TrackerHandle};
use tokio_tungstenite::tungstenite::{Message, client};
use tokio_util::sync::CancellationToken;

const NAME: &str = "tracker.test";
const SWARM: SwarmId = SwarmId::new([0xe8; 20]);

type Secure = StreamOwned<ClientConnection, TcpStream>;

/// Writes a certificate for [`NAME`] and its key; gives it to trust in.
fn write_certificate(dir: &Path) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).expect("made");
    std::fs::write(dir.join("cert.pem"), made.cert.pem()).expect("written");
    std::fs::write(dir.join("key.pem"), made.signing_key.serialize_pem()).expect("written");
    made.cert.der().clone()
}

fn secure(dir: &Path) -> TrackerConfig {
    let mut config = TrackerConfig {
        open: true,
        https: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
        tls: Some(TlsConfig {
            certificate: dir.join("cert.pem"),
            key: dir.join("key.pem"),
        }),
        ..config()
    };
    config.connections.head_timeout = Duration::from_millis(700);
    config.connections.write_timeout = Duration::from_millis(500);
    config
}

fn call(tracker: &TrackerHandle, trusted: &CertificateDer<'static>) -> Secure {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).expect("a certificate");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("some version")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(NAME).expect("a name");
    let connection = ClientConnection::new(Arc::new(config), name).expect("a client");
    StreamOwned::new(connection, connect(tracker.https_addrs()[0]))
}

fn announce(stream: &mut Secure, port: u16) -> Option<usize> {
    let peer = PeerId::new([port.to_be_bytes()[1]; 20]);
    let query = encode_query(&AnnounceRequest::new(SWARM, peer, 7000 + port));
    let request = format!("GET /announce?{query} HTTP/1.1\r\nHost: {NAME}\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let reply = decode_reply(&read_reply(stream)?.body).expect("a good reply");
    Some(reply.peers.len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_announce_and_browsers_meet_them() {
    let dir = tempfile::tempdir().expect("a directory");
    let trusted = write_certificate(dir.path());
    let (tracker, shutdown) = start(secure(dir.path())).await;
    let mut stream = call(&tracker, &trusted);
    // Kept alive between them.
    assert_eq!(announce(&mut stream, 1), Some(0));
    assert_eq!(announce(&mut stream, 2), Some(1));
    let url = format!("wss://{NAME}/");
    let (mut socket, _) = client(url, call(&tracker, &trusted)).expect("an upgrade");
    let ask = json!({
        "action": "announce", "info_hash": "\u{e8}".repeat(20), "peer_id": "w".repeat(20),
        "numwant": 0, "left": 1, "uploaded": 0, "downloaded": 0, "event": "started",
    });
    socket.send(Message::text(ask.to_string())).expect("sent");
    let told = socket.read().expect("an answer").into_text().expect("text");
    let told: Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!(told["incomplete"], 3, "{told}");
    shutdown.cancel();
    tracker.join().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_speaks_no_tls_or_says_nothing_is_left() {
    let dir = tempfile::tempdir().expect("a directory");
    let trusted = write_certificate(dir.path());
    let (tracker, shutdown) = start(secure(dir.path())).await;
    let ends = |said: &[u8]| {
        let mut stream = connect(tracker.https_addrs()[0]);
        let began = Instant::now();
        stream.write_all(said).expect("sent");
        let mut heard = Vec::new();
        let _ = stream.read_to_end(&mut heard);
        assert!(!heard.starts_with(b"HTTP"), "{heard:?}");
        began.elapsed()
    };
    assert!(ends(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") < Duration::from_millis(500));
    for quiet in [&b""[..], b"\x16\x03\x01\x02\x00\x01"] {
        let elapsed = ends(quiet);
        assert!(
            (Duration::from_millis(600)..Duration::from_secs(5)).contains(&elapsed),
            "{elapsed:?}"
        );
    }
    // Nor does who is secure and then says nothing hold anything.
    let mut stream = call(&tracker, &trusted);
    assert_eq!(announce(&mut stream, 1), Some(0));
    let began = Instant::now();
    let _ = stream.read(&mut [0; 1]);
    assert!(began.elapsed() < Duration::from_secs(5));
    shutdown.cancel();
    tracker.join().await;
}

/// TLS takes in what it cannot send, so that the deadline has to be below it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t55_who_takes_no_replies_in_is_given_up() {
    const ASKED: usize = 4000;
    let dir = tempfile::tempdir().expect("a directory");
    let trusted = write_certificate(dir.path());
    let (tracker, shutdown) = start(secure(dir.path())).await;
    let mut stream = call(&tracker, &trusted);
    assert_eq!(announce(&mut stream, 1), Some(0));
    let small = socket2::SockRef::from(&stream.sock).set_recv_buffer_size(4096);
    small.expect("settable");
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {NAME}\r\n\r\n");
    stream
        .write_all(request.repeat(ASKED).as_bytes())
        .expect("sent");
    // But for the connection that asks for it.
    let open = || async {
        let figures = get(tracker.http_addr(), "/metrics").await.text();
        let open = figures.lines().find_map(|line| {
            let count = line.strip_prefix("swarm_tracker_connections_open ")?;
            count.parse::<u64>().ok()
        });
        open.expect("a figure") - 1
    };
    let began = Instant::now();
    while open().await > 0 {
        assert!(began.elapsed() < Duration::from_secs(10), "still held");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(began.elapsed() >= Duration::from_millis(400));
    shutdown.cancel();
    tracker.join().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handshake_under_way_does_not_delay_the_end() {
    let dir = tempfile::tempdir().expect("a directory");
    write_certificate(dir.path());
    let mut config = secure(dir.path());
    config.connections.head_timeout = Duration::from_secs(60);
    let (tracker, shutdown) = start(config).await;
    let _silent = connect(tracker.https_addrs()[0]);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let began = Instant::now();
    shutdown.cancel();
    tracker.join().await;
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_is_replaced_is_shown_to_whoever_comes_next() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = write_certificate(dir.path());
    let (tracker, shutdown) = start(secure(dir.path())).await;
    let mut kept = call(&tracker, &first);
    assert_eq!(announce(&mut kept, 1), Some(0));
    let second = write_certificate(dir.path());
    tracker.reload_certificate().await;
    assert_eq!(announce(&mut call(&tracker, &first), 2), None);
    assert_eq!(announce(&mut call(&tracker, &second), 2), Some(1));
    // Who was there before goes on.
    assert_eq!(announce(&mut kept, 3), Some(2));
    // One of no use changes nothing.
    std::fs::write(dir.path().join("key.pem"), "no key").expect("written");
    tracker.reload_certificate().await;
    assert_eq!(announce(&mut call(&tracker, &second), 4), Some(3));
    shutdown.cancel();
    tracker.join().await;
    let again = Tracker::start(secure(dir.path()), CancellationToken::new()).await;
    assert!(matches!(again, Err(TrackerError::Certificate(_))));
}
