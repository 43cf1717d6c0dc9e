//! A volunteer with a tracker played by the test, and a site whose alarm comes and goes.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use swarm_peer::publish::{KeyStore, Published};
use swarm_peer::{AddBundle, Node, NodeConfig, Storage};
use swarm_proto::manifest::{Alarm, SecretKey, SignedAlarm, SiteName};
use swarm_proto::tracker::register::{SITE_PATH, SITES_PATH, SiteInNeed, SitesReply};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use webseed_bridge::config::{JoinConfig, LeaseConfig};
use webseed_bridge::plain::publish_folder;
use webseed_bridge::site_source::{SiteSource, SourceError, unix_now};
use webseed_bridge::volunteer::Volunteer;
use webseed_bridge::{Bridge, BridgeConfig, BridgeHandle};

/// What the tracker of the test says.
#[derive(Default)]
struct Register {
    version: u64,
    alarm: Option<Vec<u8>>,
    record: Vec<u8>,
}

struct Setup {
    dir: tempfile::TempDir,
    site: SiteName,
    shutdown: CancellationToken,
    register: Arc<Mutex<Register>>,
    tracker: String,
    alarm_key: SecretKey,
    published: Published,
    seed: Node,
}

impl Drop for Setup {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

async fn tracker(site: SiteName, register: Arc<Mutex<Register>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/announce", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(answer(stream, site.clone(), register.clone()));
        }
    });
    url
}

async fn answer(mut stream: TcpStream, site: SiteName, register: Arc<Mutex<Register>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else {
            return;
        };
        head.push(byte);
    }
    let line = String::from_utf8(head).unwrap();
    let target = line.split(' ').nth(1).unwrap().to_owned();
    let (status, body) = if let Some(query) = target.strip_prefix(SITES_PATH) {
        let since: u64 = query.split(['=', '&']).nth(1).unwrap().parse().unwrap();
        // Held open while nothing changes, as the register does it.
        while register.lock().unwrap().version == since {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let register = register.lock().unwrap();
        let entry = |alarm: &Vec<u8>| SiteInNeed {
            site: site.clone(),
            alarm: alarm.clone(),
            bundles: vec![],
        };
        let reply = SitesReply {
            version: register.version,
            sites: register.alarm.iter().map(entry).collect(),
        };
        ("200 OK", reply.to_bytes())
    } else if target == format!("{SITE_PATH}/{site}") {
        ("200 OK", register.lock().unwrap().record.clone())
    } else {
        ("404 Not Found", vec![])
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all(&[head.into_bytes(), body].concat()).await;
}

async fn publish(dir: &Path, site: &SiteName, text: &str) -> Published {
    let root = dir.join("root");
    std::fs::create_dir_all(&root).unwrap();
    std::fs::write(root.join("index.html"), text).unwrap();
    publish_folder(site.clone(), &root, &dir.join("work"))
        .await
        .unwrap()
}

async fn node(shutdown: &CancellationToken) -> Node {
    let config = NodeConfig {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        ..NodeConfig::default()
    };
    Node::start(config, shutdown.child_token()).await.unwrap()
}

async fn setup() -> Setup {
    let dir = tempfile::tempdir().unwrap();
    let site = SiteName::parse("need.test").unwrap();
    let published = publish(dir.path(), &site, "in need").await;
    let keys = KeyStore::open(&dir.path().join("work/keys"), &site, unix_now()).unwrap();
    let alarm_key = keys.alarm_key().expect("made by publishing").clone();
    let shutdown = CancellationToken::new();
    let seed = node(&shutdown).await;
    for bundle in &published.bundles {
        let paths = bundle.files.clone();
        let add = AddBundle::new(bundle.metainfo.clone().into(), Storage::Files { paths });
        seed.add(add).await.unwrap();
    }
    let register = Arc::new(Mutex::new(Register {
        version: 1,
        alarm: None,
        record: published.record.to_bytes(),
    }));
    let tracker = tracker(site.clone(), register.clone()).await;
    Setup {
        dir,
        site,
        shutdown,
        register,
        tracker,
        alarm_key,
        published,
        seed,
    }
}

impl Setup {
    fn alarm(&self, key: &SecretKey, lasts: u64) -> Vec<u8> {
        let now = unix_now();
        let alarm = Alarm {
            site: self.site.clone(),
            issued: now,
            until: now + lasts,
            level: 1,
            home: format!("https://{}/", self.site),
            manifest_sequence: self.published.manifest.sequence,
        };
        SignedAlarm::sign(&alarm, key).unwrap().to_bytes()
    }

    fn say(&self, alarm: Option<Vec<u8>>) {
        let mut register = self.register.lock().unwrap();
        register.version += 1;
        register.alarm = alarm;
    }

    fn source(&self, node: &Node) -> SiteSource {
        let root = self.published.keys.root.clone();
        SiteSource::new(
            node.http().clone(),
            vec![self.tracker.clone()],
            HashMap::from([(self.site.clone(), root)]),
            Some(self.dir.path().join("trust")),
            None,
        )
    }

    async fn volunteer(&self, lease: LeaseConfig) -> BridgeHandle {
        let node = node(&self.shutdown).await;
        let config = BridgeConfig {
            join: JoinConfig {
                peers: vec![self.seed.listen_addr()],
                offer: true,
                ..JoinConfig::default()
            },
            ..BridgeConfig::default()
        };
        let shutdown = self.shutdown.child_token();
        let bridge = Bridge::start(config, node.clone(), shutdown.clone())
            .await
            .unwrap();
        let volunteer = Volunteer::new(bridge.clone(), self.source(&node), lease, []);
        tokio::spawn(volunteer.run(shutdown));
        bridge
    }
}

async fn get(bridge: &BridgeHandle, path: &str) -> String {
    let mut stream = TcpStream::connect(bridge.addr()).await.unwrap();
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: need-test.localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

async fn until(bridge: &BridgeHandle, path: &str, status: &str) -> String {
    let started = Instant::now();
    loop {
        let answer = get(bridge, path).await;
        if answer.starts_with(&format!("HTTP/1.1 {status}")) {
            return answer;
        }
        assert!(
            started.elapsed() < Duration::from_secs(15),
            "not {status}: {answer}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_is_helped_while_it_asks_and_left_afterwards() {
    let setup = setup().await;
    let lease = LeaseConfig {
        linger: Duration::from_secs(3),
        ..LeaseConfig::default()
    };
    let bridge = setup.volunteer(lease).await;
    assert!(get(&bridge, "/").await.starts_with("HTTP/1.1 421"));
    setup.say(Some(setup.alarm(&setup.alarm_key, 3)));
    assert!(until(&bridge, "/", "200").await.ends_with("in need"));
    setup.say(None);
    let home = until(&bridge, "/x?y", "302").await;
    assert!(
        home.contains("location: https://need.test/x?y&spikeswarm=home\r\n"),
        "{home}"
    );
    until(&bridge, "/", "421").await;
    assert_eq!(bridge.stats().sites, []);
    // And once more; this time the site takes its alarm back long before its end.
    setup.say(Some(setup.alarm(&setup.alarm_key, 3600)));
    until(&bridge, "/", "200").await;
    setup.say(None);
    until(&bridge, "/", "302").await;
    setup.say(Some(setup.alarm(&setup.alarm_key, 3600)));
    until(&bridge, "/", "200").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alarm_of_a_strangers_key_moves_nobody() {
    let setup = setup().await;
    let bridge = setup.volunteer(LeaseConfig::default()).await;
    setup.say(Some(setup.alarm(&SecretKey::new([7; 32]), 60)));
    tokio::time::sleep(Duration::from_secs(1)).await;
    setup.say(Some(b"d5:alarmlee".to_vec()));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(get(&bridge, "/").await.starts_with("HTTP/1.1 421"));
    assert_eq!(bridge.stats().sites, []);
    // A true one is heeded nevertheless.
    setup.say(Some(setup.alarm(&setup.alarm_key, 60)));
    until(&bridge, "/", "200").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_used_up_is_not_renewed_by_the_same_alarm() {
    let setup = setup().await;
    let lease = LeaseConfig {
        hits: 3,
        ..LeaseConfig::default()
    };
    let bridge = setup.volunteer(lease).await;
    let alarm = setup.alarm(&setup.alarm_key, 60);
    setup.say(Some(alarm.clone()));
    for _ in 0..3 {
        until(&bridge, "/", "200").await;
    }
    until(&bridge, "/", "421").await;
    setup.say(Some(alarm));
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(get(&bridge, "/").await.starts_with("HTTP/1.1 421"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_record_is_refused_also_after_a_restart() {
    let setup = setup().await;
    let node = node(&setup.shutdown).await;
    let older = setup.published.record.to_bytes();
    let newer = publish(setup.dir.path(), &setup.site, "in need still").await;
    assert!(newer.manifest.sequence > setup.published.manifest.sequence);
    setup.register.lock().unwrap().record = newer.record.to_bytes();
    let source = setup.source(&node);
    assert_eq!(
        source.refresh(&setup.site).await.unwrap().manifest,
        newer.manifest
    );
    setup.register.lock().unwrap().record = older.clone();
    for source in [source, setup.source(&node)] {
        let error = source.refresh(&setup.site).await.unwrap_err();
        assert!(matches!(error, SourceError::Refused { .. }), "{error}");
        let soon = source.refresh(&setup.site).await.unwrap_err();
        assert!(matches!(soon, SourceError::TooSoon(_)), "{soon}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_with_one_flipped_bit_is_refused() {
    let setup = setup().await;
    let node = node(&setup.shutdown).await;
    let record = setup.published.record.to_bytes();
    let pins = HashMap::from([(setup.site.clone(), setup.published.keys.root.clone())]);
    let step = record.len() / 50;
    for at in (0..record.len()).step_by(step) {
        let mut flipped = record.clone();
        flipped[at] ^= 1 << (at % 8);
        let source = SiteSource::new(node.http().clone(), vec![], pins.clone(), None, None);
        assert!(source.accept(&setup.site, &flipped).is_err(), "byte {at}");
        assert!(source.opened(&setup.site).is_none());
        assert!(source.accept(&setup.site, &record).is_ok());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_that_nobody_vouches_for_is_not_believed() {
    let setup = setup().await;
    let node = node(&setup.shutdown).await;
    let source = SiteSource::new(
        node.http().clone(),
        vec![setup.tracker.clone()],
        HashMap::new(),
        None,
        None,
    );
    let error = source.refresh(&setup.site).await.unwrap_err();
    // `need.test` does not resolve, so there are no keys of its own to be had.
    assert!(matches!(error, SourceError::Http(_)), "{error}");
}
