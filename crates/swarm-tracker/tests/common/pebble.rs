//! Debian's `pebble`, a certificate authority for tests, and a name server that it asks.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_resolver::proto::rr::{RData, RecordType};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::common::dns;

/// Where the authority looks for a name, and who tells it where that is.
#[derive(Clone, Copy)]
pub(crate) struct Places {
    pub(crate) http: u16,
    pub(crate) tls: u16,
    pub(crate) dns: SocketAddr,
}

/// An authority. It forgets everything when it ends.
pub(crate) struct Pebble {
    child: Child,
    dir: tempfile::TempDir,
    management: SocketAddr,
    trusted: CertificateDer<'static>,
}

/// Where one will be, its certificate included, before it is there.
pub(crate) struct Plan {
    addr: SocketAddr,
    management: SocketAddr,
    dir: tempfile::TempDir,
    certificate: rcgen::CertifiedKey<rcgen::KeyPair>,
}

impl Plan {
    pub(crate) fn new() -> Self {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let certificate = rcgen::generate_simple_self_signed(names).expect("made");
        let dir = tempfile::tempdir().expect("a directory");
        let write = |name: &str, text: String| {
            std::fs::write(dir.path().join(name), text).expect("written");
        };
        write("cert.pem", certificate.cert.pem());
        write("key.pem", certificate.signing_key.serialize_pem());
        let (addr, management) = (free_addr(), free_addr());
        Self {
            addr,
            management,
            dir,
            certificate,
        }
    }

    pub(crate) fn directory(&self) -> String {
        format!("https://{}/dir", self.addr)
    }

    /// What a client of the authority has to believe in.
    pub(crate) fn ca_file(&self) -> PathBuf {
        self.dir.path().join("cert.pem")
    }

    /// Starts one there, new each time.
    pub(crate) fn start(&self, places: Places) -> Pebble {
        let dir = tempfile::tempdir().expect("a directory");
        let config = serde_json::json!({"pebble": {
            "listenAddress": self.addr.to_string(),
            "managementListenAddress": self.management.to_string(),
            "certificate": self.dir.path().join("cert.pem"),
            "privateKey": self.dir.path().join("key.pem"),
            "httpPort": places.http,
            "tlsPort": places.tls,
            "certificateValidityPeriod": 90 * 86_400,
        }});
        let path = dir.path().join("config.json");
        std::fs::write(&path, config.to_string()).expect("written");
        let log = File::create(dir.path().join("log")).expect("made");
        let child = Command::new(tool("pebble", "pebble"))
            .arg("-config")
            .arg(&path)
            .args(["-dnsserver", &places.dns.to_string()])
            // It waits for up to 15 s else before it looks. A share of nonces it refuses all the same.
            .env("PEBBLE_VA_NOSLEEP", "1")
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("open"))
            .stderr(log)
            .spawn()
            .expect("it runs");
        let mut pebble = Pebble {
            child,
            dir,
            management: self.management,
            trusted: self.certificate.cert.der().clone(),
        };
        let began = Instant::now();
        while [self.addr, self.management]
            .map(TcpStream::connect)
            .iter()
            .any(Result::is_err)
        {
            let ended = pebble.child.try_wait().expect("it is ours");
            assert!(ended.is_none(), "{}", pebble.log());
            assert!(
                began.elapsed() < Duration::from_secs(20),
                "{}",
                pebble.log()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        pebble
    }
}

impl Pebble {
    /// The root of all that it gives.
    pub(crate) fn root(&self) -> CertificateDer<'static> {
        let mut stream = https(self.management, Some("localhost"), &self.trusted);
        let request = "GET /roots/0 HTTP/1.0\r\nHost: localhost\r\n\r\n";
        stream.write_all(request.as_bytes()).expect("sent");
        let mut reply = Vec::new();
        let _ = stream.read_to_end(&mut reply);
        CertificateDer::from_pem_slice(&reply).expect("a certificate")
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).expect("text")
    }

    /// How many orders were made.
    pub(crate) fn orders(&self) -> usize {
        self.log().matches("Added order ").count()
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A connection to whoever has this name, or to whoever answers, if none is asked for.
pub(crate) fn https(
    addr: SocketAddr,
    name: Option<&str>,
    trusted: &CertificateDer<'static>,
) -> StreamOwned<ClientConnection, TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).expect("a certificate");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("some version")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let server = match name {
        Some(name) => ServerName::try_from(name.to_owned()).expect("a name"),
        // With an address no name is asked for.
        None => ServerName::from(addr.ip()),
    };
    let connection = ClientConnection::new(Arc::new(config), server).expect("a client");
    let stream = TcpStream::connect(addr).expect("it listens");
    let limit = Some(Duration::from_secs(10));
    stream.set_read_timeout(limit).expect("settable");
    StreamOwned::new(connection, stream)
}

/// A name server: each name leads to this host, but those that lead nowhere.
pub(crate) fn name_server(nowhere: &[&str]) -> SocketAddr {
    let nowhere: BTreeSet<String> = nowhere.iter().map(|name| format!("{name}.")).collect();
    dns::name_server(move |name, kind| match kind {
        _ if nowhere.contains(name) => None,
        RecordType::A => Some(vec![RData::A(Ipv4Addr::LOCALHOST.into())]),
        _ => Some(Vec::new()),
    })
}

/// A loopback address nobody listens at right now.
pub(crate) fn free_addr() -> SocketAddr {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
    socket.local_addr().expect("bound")
}

/// A program of the machine.
fn tool(name: &str, package: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut all = std::env::split_paths(&path).map(|dir| dir.join(name));
    all.find(|path| Path::is_file(path))
        .unwrap_or_else(|| panic!("{name} is missing: apt-get install {package}"))
}
