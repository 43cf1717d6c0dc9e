//! What an authority finds at a tracker while it looks, and what others do.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, StreamOwned,
};
use swarm_proto::manifest::SiteName;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{Tracker, TrackerHandle};

/// An authority believes in nobody: it looks at what it is shown.
#[derive(Debug)]
struct Looks;

impl ServerCertVerifier for Looks {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        // The extension of RFC 8737 with its digest, which is critical.
        let digest = [&[0x04, 0x22, 0x04, 0x20][..], &[7; 32]].concat();
        let has = |what: &[u8]| shown.windows(what.len()).any(|part| part == what);
        let oid = [0x06, 0x08, 0x2b, 6, 1, 5, 5, 7, 1, 0x1f, 0x01, 0x01, 0xff];
        match has(&oid) && has(&digest) {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(Error::General("no answer to the challenge".to_owned())),
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let provider: CryptoProvider = aws_lc_rs::default_provider();
        provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// What comes back, if the handshake does not fail.
fn look(addr: SocketAddr, name: &str, protocols: &[&str]) -> Result<String, String> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("some version")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Looks))
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let connection = ClientConnection::new(Arc::new(config), name).expect("a client");
    let stream = TcpStream::connect(addr).expect("it listens");
    let limit = Some(std::time::Duration::from_secs(5));
    stream.set_read_timeout(limit).expect("settable");
    let mut stream = StreamOwned::new(connection, stream);
    stream
        .write_all(b"GET /healthz HTTP/1.0\r\n\r\n")
        .map_err(|error| error.to_string())?;
    let mut heard = String::new();
    match stream.read_to_string(&mut heard) {
        // It may be gone before it has heard our request.
        Err(error) if error.kind() != std::io::ErrorKind::ConnectionReset => Err(error.to_string()),
        _ => Ok(heard),
    }
}

/// Status and body of an answer over HTTP.
fn ask(addr: SocketAddr, method: &str, host: &str, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(addr).expect("it listens");
    let request = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut heard = String::new();
    stream.read_to_string(&mut heard).expect("an answer");
    let (head, body) = heard.split_once("\r\n\r\n").expect("a head");
    (head[9..12].to_owned(), body.to_owned())
}

async fn tracker(dir: &Path) -> (TrackerHandle, CancellationToken) {
    let local = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
    let site = SiteName::parse("site.example").expect("a site");
    let config = TrackerConfig {
        http: local.clone(),
        https: local,
        homes: [(site, "https://origin.example".parse().expect("a home"))].into(),
        acme: Some(AcmeConfig {
            // Nobody is there.
            directory: "https://127.0.0.1:1/".to_owned(),
            names: vec!["t.example".parse().expect("a name")],
            dir: Some(dir.to_owned()),
            terms_agreed: true,
            ..AcmeConfig::default()
        }),
        ..TrackerConfig::default()
    };
    let shutdown = CancellationToken::new();
    let started = Tracker::start(config, shutdown.clone()).await;
    (started.expect("loopback has a free port"), shutdown)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_found_at_every_name_while_it_is_looked_for() {
    let dir = tempfile::tempdir().expect("a directory");
    let (tracker, shutdown) = tracker(dir.path()).await;
    let challenges = &tracker.app.certificates.as_ref().expect("set").challenges;
    let (addr, path) = (tracker.http_addr(), format!("{CHALLENGE_PATH}token"));
    let ask = |method: &str, host: &str| ask(addr, method, host, &path);
    assert_eq!(ask("GET", "t.example").0, "404");
    assert_eq!(ask("GET", "site.example").0, "302");
    let pending = challenges.put_file("token", "token.thumb");
    for host in ["t.example", "site.example", "other.example"] {
        let found = ("200".to_owned(), "token.thumb".to_owned());
        assert_eq!(ask("GET", host), found, "{host}");
        assert_eq!(ask("POST", host).0, "405");
    }
    drop(pending);
    assert_eq!(ask("GET", "t.example").0, "404");
    assert_eq!(ask("GET", "site.example").0, "302");
    shutdown.cancel();
    tracker.join().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_shown_to_who_looks_for_that_alone_and_then_it_is_over() {
    let dir = tempfile::tempdir().expect("a directory");
    let (tracker, shutdown) = tracker(dir.path()).await;
    let challenges = &tracker.app.certificates.as_ref().expect("set").challenges;
    let look = |name: &str, protocols: &[&str]| look(tracker.https_addrs()[0], name, protocols);
    assert!(look("t.example", &["acme-tls/1"]).is_err());
    let name = "t.example".parse().expect("a name");
    let provider = aws_lc_rs::default_provider();
    let pending = challenges.put_certificate(&name, &[7; 32], &provider);
    // Nothing is served there.
    assert_eq!(look("t.example", &["acme-tls/1"]), Ok(String::new()));
    for (name, protocols) in [
        ("other.example", &["acme-tls/1"][..]),
        ("t.example", &["http/1.1"]),
        ("t.example", &["acme-tls/1", "http/1.1"]),
        ("t.example", &[]),
    ] {
        assert!(look(name, protocols).is_err(), "{name} {protocols:?}");
    }
    drop(pending);
    assert!(look("t.example", &["acme-tls/1"]).is_err());
    shutdown.cancel();
    tracker.join().await;
}
