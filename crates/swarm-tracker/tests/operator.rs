//! Sites that install nothing, as a tracker carries them: what is adopted, what is let go.

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::dns::{name_server, text};
use common::redis::Redis;
use common::{config, read_reply, start};
use swarm_proto::manifest::{SecretKey, SiteRecord};
use swarm_tracker::config::{OperatorConfig, PullConfig};
use swarm_tracker::{TrackerConfig, TrackerHandle};

/// What the world around the tracker says: DNS by name, the origin to everybody.
#[derive(Clone, Default)]
struct World {
    origins: Arc<Mutex<BTreeMap<String, String>>>,
    says: Arc<Mutex<String>>,
}

impl World {
    /// `site` consents, and is at home there.
    fn consents(&self, site: &str, origin: &str) {
        let mut origins = self.origins.lock().expect("nobody panics with it");
        origins.insert(format!("_spikeswarm.{site}."), origin.to_owned());
    }

    /// What the origin sends with each page.
    fn says(&self, header: &str) {
        *self.says.lock().expect("nobody panics with it") = header.to_owned();
    }

    /// A name server, whose records hold for 30 s as far as the tracker is concerned.
    fn dns(&self) -> SocketAddr {
        let origins = Arc::clone(&self.origins);
        name_server(move |name, _| {
            let origins = origins.lock().expect("nobody panics with it");
            let key = SecretKey::new([5; 32]).public();
            let origin = origins.get(name)?;
            Some(text(format!("v=1; origin={origin}; operator={key}")))
        })
    }

    /// An origin with one page.
    fn origin(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("bound");
        let says = Arc::clone(&self.says);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let says = Arc::clone(&says);
                std::thread::spawn(move || {
                    let mut reader = BufReader::new(stream.try_clone().expect("a socket"));
                    let mut head = String::new();
                    while reader.read_line(&mut head).unwrap_or(0) > 2 {}
                    let page = head.starts_with("GET / ");
                    let says = says.lock().expect("nobody panics with it").clone();
                    let status = if page { "200 OK" } else { "404 Not Found" };
                    let answer = format!(
                        "HTTP/1.1 {status}\r\nContent-Type: text/html\r\n{says}\r\n\
                         Content-Length: 5\r\nConnection: close\r\n\r\nhello"
                    );
                    let mut stream = stream;
                    let _ = stream.write_all(answer.as_bytes());
                });
            }
        });
        addr
    }

    fn config(&self, dir: &Path) -> TrackerConfig {
        let key = dir.join("operator.key");
        std::fs::write(&key, "05".repeat(32)).expect("written");
        TrackerConfig {
            state: Some(dir.join("state")),
            drain: Duration::from_secs(1),
            operator: Some(OperatorConfig {
                listen: "127.0.0.1:0".parse().expect("an address"),
                dns: Some(self.dns()),
                allow_net: vec!["127.0.0.0/8".parse().expect("a network")],
                pull: PullConfig {
                    refresh: Duration::from_secs(1),
                    ..PullConfig::default()
                },
                ..OperatorConfig::new(key, "http://tracker.test/announce".to_owned())
            }),
            ..config()
        }
    }
}

/// Status and `Location` of what a visitor of this host is told.
fn visit(tracker: &TrackerHandle, host: &str, target: &str) -> (u16, String) {
    let mut stream = common::connect(tracker.http_addr());
    let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("sent");
    let reply = read_reply(&mut stream).expect("an answer");
    (reply.status, reply.header("location").to_owned())
}

async fn until(what: &str, mut is: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is() {
        assert!(began.elapsed() < Duration::from_secs(60), "{what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The record that the tracker has of the site, if any.
fn record(tracker: &TrackerHandle, site: &str) -> Option<Vec<u8>> {
    let mut stream = common::connect(tracker.http_addr());
    let request = format!(
        "GET /swarm/site/{site} HTTP/1.1\r\nHost: tracker.test\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).expect("sent");
    let reply = read_reply(&mut stream).expect("an answer");
    (reply.status == 200).then_some(reply.body)
}

/// Whether the tracker has a record of the site.
fn has_record(tracker: &TrackerHandle, site: &str) -> bool {
    record(tracker, site).is_some()
}

/// How many files the site has published here.
fn files(tracker: &TrackerHandle, site: &str) -> Option<usize> {
    let record = SiteRecord::parse(&record(tracker, site)?).expect("a record");
    let manifest = record.manifest.claimed_manifest().expect("a manifest");
    Some(manifest.files.len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_is_published_from_behind_a_link_and_withdrawn_when_it_takes_all_back() {
    let world = World::default();
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(dir.path().join("real")).expect("made");
    let link = dir.path().join("state");
    std::os::unix::fs::symlink(dir.path().join("real"), link).expect("linked");
    world.says("Cache-Control: max-age=1");
    world.consents("site.test", &format!("http://{}", world.origin()));
    let (tracker, shutdown) = start(world.config(dir.path())).await;
    let (status, home) = visit(&tracker, "site.test", "/");
    assert_eq!(status, 302, "{home}");
    takes_all_back(&world, &tracker).await;
    shutdown.cancel();
    tracker.join().await;
    // Nor does a restart bring it back.
    let (tracker, shutdown) = start(world.config(dir.path())).await;
    until("taken up again", || has_record(&tracker, "site.test")).await;
    assert_eq!(files(&tracker, "site.test"), Some(0));
    assert_eq!(tracker.totals().bundles, 0);
    shutdown.cancel();
    tracker.join().await;
}

/// `site.test` is published, and then takes all of it back.
async fn takes_all_back(world: &World, tracker: &TrackerHandle) {
    until("published", || {
        visit(tracker, "site.test", "/");
        files(tracker, "site.test") == Some(1)
    })
    .await;
    until("in need", || tracker.sites_in_need().sites.len() == 1).await;
    world.says("Cache-Control: no-store");
    until("withdrawn", || {
        visit(tracker, "site.test", "/");
        files(tracker, "site.test") == Some(0)
    })
    .await;
    assert_eq!(tracker.totals().bundles, 0);
    assert!(tracker.sites_in_need().sites.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_site_took_back_does_not_come_back_from_the_store() {
    let world = World::default();
    let dir = tempfile::tempdir().expect("a directory");
    let redis = Redis::start();
    world.says("Cache-Control: max-age=1");
    world.consents("site.test", &format!("http://{}", world.origin()));
    let mut config = world.config(dir.path());
    config.store = redis.url().parse().expect("a good URL");
    let (tracker, shutdown) = start(config.clone()).await;
    takes_all_back(&world, &tracker).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(files(&tracker, "site.test"), Some(0));
    assert!(tracker.sites_in_need().sites.is_empty());
    shutdown.cancel();
    tracker.join().await;
    // Its disk is lost, the store is not; the key is the same.
    std::fs::remove_dir_all(dir.path().join("state/sites")).expect("there");
    let (tracker, shutdown) = start(config).await;
    until("taken up again", || has_record(&tracker, "site.test")).await;
    assert_eq!(files(&tracker, "site.test"), Some(0));
    assert!(tracker.sites_in_need().sites.is_empty());
    shutdown.cancel();
    tracker.join().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t55_names_with_ports_and_quiet_sites_keep_nobody_out() {
    let world = World::default();
    let dir = tempfile::tempdir().expect("a directory");
    world.says("Cache-Control: max-age=60");
    for site in ["one.test", "two.test"] {
        world.consents(site, &format!("http://{}", world.origin()));
    }
    let mut config = world.config(dir.path());
    if let Some(operator) = &mut config.operator {
        operator.sites_max = 1;
        operator.quiet_after = Duration::from_secs(2);
    }
    let (tracker, shutdown) = start(config).await;
    for port in [81, 82, 8080] {
        let told = visit(
            &tracker,
            "tracker.test",
            &format!("/r/http://one.test:{port}/"),
        );
        assert_eq!(told.0, 404, "one record is for one site");
    }
    assert_eq!(visit(&tracker, "one.test", "/").0, 302);
    until("published", || has_record(&tracker, "one.test")).await;
    // There is no room, and then whom nobody visits makes some.
    assert_eq!(visit(&tracker, "two.test", "/").0, 404);
    tokio::time::sleep(Duration::from_secs(3)).await;
    until("two.test is carried", || {
        std::thread::sleep(Duration::from_secs(1));
        visit(&tracker, "two.test", "/").0 == 302
    })
    .await;
    assert!(!has_record(&tracker, "one.test"));
    shutdown.cancel();
    tracker.join().await;
    let left = std::fs::read_dir(dir.path().join("state/operator")).expect("there");
    let left = left
        .flatten()
        .next()
        .expect("of the key")
        .path()
        .join("one-test");
    let left: Vec<_> = std::fs::read_dir(left).expect("there").flatten().collect();
    assert_eq!(left.len(), 1, "keys alone: {left:?}");
}
