//! Certificates from an authority: Debian's pebble, which refuses one nonce in twenty.

mod common;
#[path = "common/pebble.rs"]
mod pebble;

use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{config, dns, get, read_reply, start};
use pebble::{Pebble, Places, Plan, free_addr, https, name_server};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, ClientConfig, ClientConnection, RootCertStore};
use serde_json::{Value, json};
use swarm_proto::manifest::SiteName;
use swarm_tracker::config::{AcmeConfig, ChallengeKind, OperatorConfig, TlsConfig};
use swarm_tracker::{Tracker, TrackerConfig, TrackerError, TrackerHandle, WantRefused};
use tokio_util::sync::CancellationToken;

const NAME: &str = "tracker.test";
/// How the certificate of that name alone is told of.
const OWN_ALONE: &str = "DnsName(\"tracker.test\")";
/// Longer than an order takes that is made once more after a minute's pause.
const PATIENCE: Duration = Duration::from_secs(100);

/// A place for a tracker and its authority.
struct Rig {
    plan: Plan,
    places: Places,
    http: SocketAddr,
    tls: SocketAddr,
    dir: tempfile::TempDir,
}

impl Rig {
    fn new() -> Self {
        let (http, tls) = (free_addr(), free_addr());
        Self {
            plan: Plan::new(),
            places: Places {
                http: http.port(),
                tls: tls.port(),
                dns: name_server(&["nowhere.test"]),
            },
            http,
            tls,
            dir: tempfile::tempdir().expect("a directory"),
        }
    }

    fn authority(&self) -> Pebble {
        self.plan.start(self.places)
    }

    fn config(&self, names: &[&str]) -> TrackerConfig {
        TrackerConfig {
            http: vec![self.http],
            https: vec![self.tls],
            udp: Some(Vec::new()),
            drain: Duration::from_secs(1),
            state: Some(self.dir.path().to_owned()),
            acme: Some(AcmeConfig {
                directory: self.plan.directory(),
                names: names.iter().map(|n| n.parse().expect("a name")).collect(),
                contact: vec!["mailto:who@example.org".to_owned()],
                ca_file: Some(self.plan.ca_file()),
                terms_agreed: true,
                ..AcmeConfig::default()
            }),
            ..config()
        }
    }

    /// The file of a name.
    fn file(&self, name: &str) -> PathBuf {
        self.of_authority()
            .join("names")
            .join(format!("{name}.pem"))
    }

    fn of_authority(&self) -> PathBuf {
        let below = self.dir.path().join("acme");
        let mut all = std::fs::read_dir(below).expect("there");
        all.next().expect("one authority").expect("readable").path()
    }

    /// The certificate that who asks for a name is shown, if he can believe in it.
    fn shown(
        &self,
        name: Option<&str>,
        trusted: &CertificateDer<'static>,
    ) -> Option<CertificateDer<'static>> {
        let mut stream = https(self.tls, name, trusted);
        let request = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
        stream.write_all(request.as_bytes()).ok()?;
        assert_eq!(read_reply(&mut stream)?.body, b"ok\n");
        Some(stream.conn.peer_certificates()?[0].clone())
    }
}

/// How a name stands, by the status.
async fn standing(tracker: &TrackerHandle, name: &str) -> Value {
    let status = get(tracker.http_addr(), "/api/v1/status").await.text();
    let status: Value = serde_json::from_str(&status).expect("JSON");
    let all = status["certificates"].as_array().expect("a list").clone();
    let mut all = all.into_iter();
    all.find(|one| one["name"] == name).unwrap_or(Value::Null)
}

/// Waits until a name has, or has not, ...
async fn until(tracker: &TrackerHandle, name: &str, is: impl Fn(&Value) -> bool) -> Value {
    let began = Instant::now();
    loop {
        let standing = standing(tracker, name).await;
        if is(&standing) {
            return standing;
        }
        assert!(began.elapsed() < PATIENCE, "{standing}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn until_held(tracker: &TrackerHandle, name: &str) {
    until(tracker, name, |one| !one["not_after"].is_null()).await;
}

async fn figure(tracker: &TrackerHandle, name: &str) -> u64 {
    let figures = get(tracker.http_addr(), "/metrics").await.text();
    let line = figures.lines().find_map(|line| line.strip_prefix(name));
    let value = line.and_then(|value| value.trim().parse().ok());
    value.unwrap_or_else(|| panic!("no {name} in {figures}"))
}

async fn stop(tracker: TrackerHandle, shutdown: CancellationToken) {
    shutdown.cancel();
    tracker.join().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_01_for_the_tracker_and_its_sites_and_a_restart_asks_for_nothing() {
    let mut rig = Rig::new();
    // Nothing is to be found over TLS.
    rig.places.tls = free_addr().port();
    let authority = rig.authority();
    let root = authority.root();
    let mut config = rig.config(&[NAME]);
    config.acme.as_mut().expect("set").sites = true;
    let site = SiteName::parse("site.test").expect("a site");
    let home = "https://origin.test".parse().expect("a home");
    config.homes.insert(site, home);
    let (tracker, shutdown) = start(config.clone()).await;
    for name in [NAME, "site.test"] {
        until_held(&tracker, name).await;
        assert!(rig.shown(Some(name), &root).is_some(), "{name}");
    }
    let own = rig.shown(Some(NAME), &root).expect("believed");
    let of_site = rig.shown(Some("site.test"), &root).expect("believed");
    assert_ne!(own, of_site);
    // Whoever asks for another name, or for none, sees the tracker's own, which is none of his.
    for asked in [Some("other.test"), None] {
        assert_eq!(
            names_shown(rig.tls, asked, &root).as_deref(),
            Some(OWN_ALONE),
            "{asked:?}"
        );
    }
    // One that agrees later, and then no longer.
    let later = "later.test".parse().expect("a name");
    tracker.want_certificate(&later).expect("room");
    until_held(&tracker, "later.test").await;
    assert!(rig.shown(Some("later.test"), &root).is_some());
    tracker.unwant_certificate(&later);
    let shown = names_shown(rig.tls, Some("later.test"), &root);
    assert_eq!(shown.as_deref(), Some(OWN_ALONE));

    assert_eq!(figure(&tracker, "swarm_tracker_certificates ").await, 2);
    let end = figure(&tracker, "swarm_tracker_certificates_end_seconds ").await;
    let days = (end - common::unix()) / 86_400;
    assert!((88..=90).contains(&days), "{days}");
    // Nothing is to be found when nothing is looked for; a site's own path is the site's.
    let path = "/.well-known/acme-challenge/AAAA";
    assert_eq!(get(rig.http, path).await.status, 404);
    let request = format!("GET {path} HTTP/1.1\r\nHost: site.test\r\n\r\n");
    let mut stream = common::connect(rig.http);
    stream.write_all(request.as_bytes()).expect("sent");
    let reply = read_reply(&mut stream).expect("an answer");
    assert!(
        reply
            .header("location")
            .starts_with("https://origin.test/.well-known/")
    );
    // For nobody else's eyes.
    for path in [rig.file(NAME), rig.of_authority().join("account.json")] {
        let mode = std::fs::metadata(&path)
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{}", path.display());
    }
    stop(tracker, shutdown).await;

    let orders = authority.orders();
    assert!(orders >= 3, "{}", authority.log());
    let (tracker, shutdown) = start(config).await;
    assert_eq!(rig.shown(Some(NAME), &root), Some(own), "at once");
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(authority.orders(), orders);
    assert_eq!(
        figure(&tracker, "swarm_tracker_certificate_orders_total ").await,
        0
    );
    stop(tracker, shutdown).await;
}

/// The names of the certificate that whoever asks for another name, or for none, is shown.
fn names_shown(
    addr: SocketAddr,
    name: Option<&str>,
    trusted: &CertificateDer<'static>,
) -> Option<String> {
    let mut stream = https(addr, name, trusted);
    let error = stream
        .conn
        .complete_io(&mut stream.sock)
        .expect_err("of another name");
    match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::InvalidCertificate(CertificateError::NotValidForNameContext {
            presented,
            ..
        }) => Some(presented.join(" ")),
        rustls::Error::AlertReceived(_) => None,
        other => panic!("{other}"),
    }
}

/// What becomes of who comes as an authority does.
fn as_authority(addr: SocketAddr, name: &str) -> std::io::Error {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("some version")
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = vec![b"acme-tls/1".to_vec()];
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let mut connection = ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut stream = common::connect(addr);
    connection.complete_io(&mut stream).expect_err("refused")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_alpn_01_where_nothing_is_to_be_found_over_http() {
    let mut rig = Rig::new();
    rig.places.http = free_addr().port();
    let authority = rig.authority();
    let mut config = rig.config(&[NAME]);
    config.acme.as_mut().expect("set").challenge = Some(ChallengeKind::TlsAlpn01);
    let (tracker, shutdown) = start(config).await;
    until_held(&tracker, NAME).await;
    assert!(rig.shown(Some(NAME), &authority.root()).is_some());
    // When nothing is looked for, there is nothing to be seen: no alert about an unknown root.
    for name in [NAME, "other.test"] {
        let refused = as_authority(rig.tls, name).to_string();
        assert!(refused.contains("alert"), "{refused}");
    }
    stop(tracker, shutdown).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authority_that_is_down_keeps_nobody_from_anything() {
    let rig = Rig::new();
    // For the directory to be there.
    let (tracker, shutdown) = start(rig.config(&[NAME])).await;
    let refused = until(&tracker, NAME, |one| one["error"].is_string()).await;
    assert_eq!(refused["error"], "the authority cannot be talked to");
    assert_eq!(refused["not_after"], json!(null));
    assert_eq!(get(rig.http, "/healthz").await.status, 200);
    stop(tracker, shutdown).await;
    // Who is started again and again asks no more often.
    let (tracker, shutdown) = start(rig.config(&[NAME])).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(
        figure(&tracker, "swarm_tracker_certificate_orders_total ").await,
        0
    );
    stop(tracker, shutdown).await;
    // One that has a day left of ninety.
    let old = write_certificate(&rig.file(NAME), 89, 1);
    std::fs::remove_file(rig.of_authority().join("past.json")).expect("there");
    let (tracker, shutdown) = start(rig.config(&[NAME])).await;
    assert!(rig.shown(Some(NAME), &old).is_some(), "at once");
    until(&tracker, NAME, |one| one["error"].is_string()).await;
    assert!(rig.shown(Some(NAME), &old).is_some(), "and still");
    assert_eq!(
        figure(&tracker, "swarm_tracker_certificate_failures_total ").await,
        1
    );
    // It comes up, and is asked again by itself.
    let authority = rig.authority();
    let root = authority.root();
    assert!(rig.shown(Some(NAME), &old).is_some());
    until(&tracker, NAME, |one| one["error"].is_null()).await;
    assert!(rig.shown(Some(NAME), &old).is_none());
    assert!(rig.shown(Some(NAME), &root).is_some());
    stop(tracker, shutdown).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_leads_nowhere_holds_up_no_other() {
    let rig = Rig::new();
    let authority = rig.authority();
    let names = ["nowhere.test", "a.test", "b.test", "c.test"];
    let (tracker, shutdown) = start(rig.config(&names)).await;
    for name in &names[1..] {
        until_held(&tracker, name).await;
    }
    let refused = until(&tracker, "nowhere.test", |one| one["error"].is_string()).await;
    let why = refused["error"].as_str().expect("text");
    assert!(
        why.starts_with("the name does not lead here (http-01): "),
        "{why}"
    );
    assert_eq!(refused["not_after"], json!(null));
    // The first of the tracker's names that there is one for.
    let shown = names_shown(rig.tls, Some("nowhere.test"), &authority.root());
    assert!(shown.is_some_and(|names| names.contains("a.test")));
    stop(tracker, shutdown).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_damaged_is_got_anew_even_from_an_authority_that_has_forgotten_us() {
    let rig = Rig::new();
    let authority = rig.authority();
    let (tracker, shutdown) = start(rig.config(&[NAME])).await;
    until_held(&tracker, NAME).await;
    stop(tracker, shutdown).await;
    drop(authority);
    let good = std::fs::read(rig.file(NAME)).expect("there");
    std::fs::write(rig.file(NAME), &good[..good.len() / 2]).expect("written");
    let authority = rig.authority();
    let (tracker, shutdown) = start(rig.config(&[NAME])).await;
    until_held(&tracker, NAME).await;
    assert!(rig.shown(Some(NAME), &authority.root()).is_some());
    stop(tracker, shutdown).await;
    // So is the account.
    let account = rig.of_authority().join("account.json");
    for path in [&account, &rig.file(NAME)] {
        std::fs::write(path, "{").expect("written");
    }
    let (tracker, shutdown) = start(rig.config(&[NAME])).await;
    until_held(&tracker, NAME).await;
    assert!(std::fs::read(account).expect("there").len() > 100);
    stop(tracker, shutdown).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_serve_the_names_they_bear_and_nothing_is_asked_for_these() {
    let rig = Rig::new();
    let authority = rig.authority();
    let pem = rig.dir.path().join("both.pem");
    let of_files = write_certificate(&pem, 1, 80);
    let mut config = rig.config(&[NAME, "other.test"]);
    config.tls = Some(TlsConfig {
        certificate: pem.clone(),
        key: pem,
    });
    let (tracker, shutdown) = start(config).await;
    until_held(&tracker, "other.test").await;
    assert!(rig.shown(Some("other.test"), &authority.root()).is_some());
    assert!(rig.shown(Some(NAME), &of_files).is_some());
    let shown = names_shown(rig.tls, Some("third.test"), &of_files);
    assert!(shown.is_some_and(|names| names.contains(NAME)));
    assert_eq!(standing(&tracker, NAME).await["not_after"], json!(null));
    assert_eq!(
        figure(&tracker, "swarm_tracker_certificate_orders_total ").await,
        1
    );
    stop(tracker, shutdown).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_done_is_said_at_the_start() {
    let rig = Rig::new();
    let starts = |change: fn(&mut TrackerConfig, &Path)| {
        let mut config = rig.config(&[NAME]);
        change(&mut config, rig.dir.path());
        Tracker::start(config, CancellationToken::new())
    };
    let unagreed = starts(|config, _| config.acme.as_mut().expect("set").terms_agreed = false);
    let error = unagreed.await.expect_err("refused");
    assert!(matches!(error, TrackerError::Config(_)), "{error}");
    assert!(error.to_string().contains("--acme-agree-terms"), "{error}");
    let no_roots = starts(|config, dir| {
        std::fs::write(dir.join("empty.pem"), "no PEM").expect("written");
        config.acme.as_mut().expect("set").ca_file = Some(dir.join("empty.pem"));
    });
    let error = no_roots.await.expect_err("refused").to_string();
    assert!(error.contains("empty.pem"), "{error}");
    let no_dir = starts(|config, dir| {
        std::fs::write(dir.join("file"), "").expect("written");
        config.acme.as_mut().expect("set").dir = Some(dir.join("file"));
    });
    let error = no_dir.await.expect_err("refused").to_string();
    assert!(error.contains("cannot be made"), "{error}");
    // Nor is anything got for a site where the operator has not said so.
    let (tracker, shutdown) = start(rig.config(&[NAME])).await;
    let site = "site.test".parse().expect("a name");
    assert_eq!(
        tracker.want_certificate(&site),
        Err(WantRefused::NotForSites)
    );
    stop(tracker, shutdown).await;
}

/// Key and certificate of [`NAME`], so many days old, and with so many to go.
fn write_certificate(path: &Path, old: u64, left: u64) -> CertificateDer<'static> {
    let day = Duration::from_secs(86_400);
    let mut params = CertificateParams::new([NAME.to_owned()]).expect("a name");
    let now = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(common::unix());
    params.not_before = now - day * u32::try_from(old).expect("few");
    params.not_after = now + day * u32::try_from(left).expect("few");
    let key = KeyPair::generate().expect("made");
    let made = params.self_signed(&key).expect("made");
    let pem = format!("{}{}", key.serialize_pem(), made.pem());
    std::fs::write(path, pem).expect("written");
    made.der().clone()
}

/// What a visitor of this host is told.
fn status(addr: SocketAddr, host: &str, target: &str) -> u16 {
    let mut stream = common::connect(addr);
    let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("sent");
    read_reply(&mut stream).expect("an answer").status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_that_installs_nothing_has_its_certificate_once_its_name_leads_here() {
    const SITE: &str = "carried.test";
    let rig = Rig::new();
    let authority = rig.authority();
    let root = authority.root();
    let seed = swarm_proto::manifest::SecretKey::new([5; 32]);
    let key = rig.dir.path().join("operator.key");
    std::fs::write(&key, "05".repeat(32)).expect("written");
    let text = format!(
        "v=1; origin=http://127.0.0.1:9999; operator={}",
        seed.public()
    );
    let mut config = rig.config(&[NAME]);
    config.acme.as_mut().expect("it is there").sites = true;
    config.operator = Some(OperatorConfig {
        listen: "127.0.0.1:0".parse().expect("an address"),
        dns: Some(dns::name_server(move |name, _| {
            (name == format!("_spikeswarm.{SITE}.")).then(|| dns::text(text.clone()))
        })),
        allow_net: vec!["127.0.0.0/8".parse().expect("a network")],
        ..OperatorConfig::new(key, format!("http://{}/announce", rig.http))
    });
    let (tracker, shutdown) = start(config).await;
    until_held(&tracker, NAME).await;
    // By way of the tracker's name only: who asks for that certificate would not find us there.
    assert_eq!(status(rig.http, NAME, &format!("/r/http://{SITE}/")), 302);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(standing(&tracker, SITE).await, Value::Null);
    assert_eq!(status(rig.http, SITE, "/"), 302);
    until_held(&tracker, SITE).await;
    assert!(rig.shown(Some(SITE), &root).is_some());
    stop(tracker, shutdown).await;
}
