//! Records, alarms and bridges over real sockets, and what survives a restart.

mod common;

use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use common::bridge::{FakeBridge, Shown};
use common::site::{TestSite, v1, v2};
use common::{config, get, send, start, unix};
use swarm_proto::id::PeerId;
use swarm_proto::limits::{ENVELOPE_LEN_MAX, SITE_RECORD_LEN_MAX};
use swarm_proto::tracker::http::encode_query;
use swarm_proto::tracker::{AnnounceEvent, AnnounceRequest, BridgeOffer, BridgesReply, SitesReply};
use swarm_tracker::{RegisterRefused, StateError, Tracker, TrackerConfig, TrackerError};

const FILES: &[(&str, u8)] = &[("/index.html", 1), ("/big.bin", 2)];

fn for_site(site: &TestSite) -> TrackerConfig {
    let mut config = config();
    config.site_keys.insert(site.name.clone(), site.root());
    config
}

async fn sites(addr: SocketAddr, query: &str) -> SitesReply {
    let reply = get(addr, &format!("/swarm/sites{query}")).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(reply.header("access-control-allow-origin"), "*");
    SitesReply::decode(&reply.body).expect("a good reply")
}

async fn bridges(addr: SocketAddr, site: &TestSite) -> BridgesReply {
    let reply = get(addr, &format!("/swarm/bridges?site={}", site.name)).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    BridgesReply::decode(&reply.body).expect("a good reply")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_is_put_and_got() {
    let site = TestSite::new("example.org:8080", 1);
    let (tracker, _shutdown) = start(for_site(&site)).await;
    let addr = tracker.http_addr();
    assert_eq!(get(addr, "/swarm/site/example.org:8080").await.status, 404);
    let record = site.record(3, unix(), FILES);
    let put = send(addr, "PUT", "/swarm/site", &record).await;
    assert_eq!((put.status, put.body.len()), (204, 0), "{put:?}");
    for name in ["example.org:8080", "Example.org%3A8080"] {
        let got = get(addr, &format!("/swarm/site/{name}")).await;
        assert_eq!((got.status, &got.body), (200, &record));
        assert_eq!(got.header("access-control-allow-origin"), "*");
    }
    assert_eq!(get(addr, "/swarm/site/a%20b").await.status, 400);
    let preflight = send(addr, "OPTIONS", "/swarm/site/example.org:8080", b"").await;
    assert_eq!(preflight.status, 204);
    assert_eq!(
        preflight.header("access-control-allow-methods"),
        "GET, HEAD"
    );
    // One line says why not.
    let unknown = TestSite::new("example.net", 2);
    let thief = TestSite::new("example.org:8080", 2);
    let table = [
        (site.record(2, unix(), FILES), 409, "rolled back"),
        (site.record(3, unix(), &FILES[..1]), 409, "sequence 3"),
        (
            unknown.record(1, unix(), FILES),
            403,
            "example.net is not known",
        ),
        (thief.record(4, unix(), FILES), 403, "refused"),
        (site.record(4, unix() - 90_000, FILES), 403, "expired"),
        (record[..record.len() - 1].to_vec(), 400, "malformed"),
        (site.alarm(unix(), unix() + 60), 400, "refused"),
        (Vec::new(), 400, "malformed"),
    ];
    for (body, status, why) in table {
        let refused = send(addr, "PUT", "/swarm/site", &body).await;
        assert_eq!(refused.status, status, "{why}: {refused:?}");
        let text = refused.text();
        assert!(
            text.contains(why) && text.lines().count() == 1,
            "{why}: {text}"
        );
    }
    assert_eq!(get(addr, "/swarm/site/example.org:8080").await.body, record);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_past_their_cap_are_refused_unread() {
    let site = TestSite::new("example.org", 1);
    let (tracker, _shutdown) = start(for_site(&site)).await;
    let addr = tracker.http_addr();
    let alarm = send(
        addr,
        "POST",
        "/swarm/alarm",
        &vec![b'd'; ENVELOPE_LEN_MAX + 1],
    )
    .await;
    assert_eq!(alarm.status, 413);
    // Only announced, never sent.
    let refused = tokio::task::spawn_blocking(move || {
        use std::io::Write as _;
        let mut stream = common::connect(addr);
        let len = SITE_RECORD_LEN_MAX + 1;
        write!(
            stream,
            "PUT /swarm/site HTTP/1.1\r\nHost: t\r\nContent-Length: {len}\r\n\r\n"
        )
        .expect("it listens");
        common::read_reply(&mut stream).map(|reply| reply.status)
    });
    assert_eq!(refused.await.expect("no panic"), Some(413));
    // Not announced at all.
    let chunked = tokio::task::spawn_blocking(move || {
        use std::io::Write as _;
        let mut stream = common::connect(addr);
        let head = "POST /swarm/alarm HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes()).expect("it listens");
        let chunk = format!("1000\r\n{}\r\n", "a".repeat(0x1000));
        for _ in 0..=ENVELOPE_LEN_MAX / 0x1000 {
            let _ = stream.write_all(chunk.as_bytes());
        }
        common::read_reply(&mut stream).map(|reply| reply.status)
    });
    assert_eq!(chunked.await.expect("no panic"), Some(413));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alarm_reaches_those_who_wait_within_a_second() {
    let site = TestSite::new("example.org", 1);
    let (tracker, _shutdown) = start(for_site(&site)).await;
    let addr = tracker.http_addr();
    let now = unix();
    let early = send(addr, "POST", "/swarm/alarm", &site.alarm(now, now + 60)).await;
    assert_eq!(early.status, 409, "keys come with the record");
    tracker
        .register_site(site.record(1, now, FILES))
        .await
        .expect("good");
    let calm = sites(addr, "").await;
    assert!(calm.sites.is_empty());

    let since = format!("?since={}&wait=20", calm.version);
    let waiting = tokio::spawn(async move {
        let reply = sites(addr, &since).await;
        (reply, Instant::now())
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!waiting.is_finished(), "nothing has changed yet");
    let forged = send(
        addr,
        "POST",
        "/swarm/alarm",
        &site.forged_alarm(now, now + 60),
    )
    .await;
    assert_eq!(forged.status, 403);
    let raised = Instant::now();
    let alarm = site.alarm(now, now + 60);
    assert_eq!(send(addr, "POST", "/swarm/alarm", &alarm).await.status, 204);
    let (in_need, learnt) = waiting.await.expect("no panic");
    assert!(
        learnt - raised < Duration::from_secs(1),
        "{:?}",
        learnt - raised
    );
    assert!(in_need.version > calm.version);
    assert_eq!(in_need.sites.len(), 1);
    assert_eq!(
        (&in_need.sites[0].site, &in_need.sites[0].alarm),
        (&site.name, &alarm)
    );
    assert_eq!(in_need.sites[0].bundles.len(), 2);

    // An old version is answered at once, the present one after the wait.
    assert_eq!(sites(addr, "?since=1&wait=20").await, in_need);
    let from = Instant::now();
    let same = sites(addr, &format!("?since={}&wait=1", in_need.version)).await;
    assert_eq!(same, in_need);
    assert!(from.elapsed() >= Duration::from_secs(1));
    assert_eq!(get(addr, "/swarm/sites?since=x").await.status, 400);

    // Lowered, and by no replay raised again.
    let lower = site.alarm(now + 1, now + 1);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(send(addr, "POST", "/swarm/alarm", &lower).await.status, 204);
    assert!(sites(addr, "").await.sites.is_empty());
    let replay = send(addr, "POST", "/swarm/alarm", &alarm).await;
    assert_eq!(replay.status, 409);
    assert!(replay.text().contains("older"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alarm_lapses_without_anybody_asking() {
    let site = TestSite::new("example.org", 1);
    let (tracker, _shutdown) = start(for_site(&site)).await;
    let now = unix();
    tracker
        .register_site(site.record(1, now, FILES))
        .await
        .expect("good");
    tracker.raise_alarm(site.alarm(now, now + 2)).expect("good");
    let standing = tracker.sites_in_need();
    assert_eq!(standing.sites.len(), 1);
    let after = tracker
        .wait_sites(standing.version, Duration::from_secs(9))
        .await;
    assert!(after.sites.is_empty() && unix() >= now + 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_visitor_finds_the_bridge_and_loses_it() {
    let site = TestSite::new("example.org", 1);
    let (tracker, _shutdown) = start(for_site(&site)).await;
    let addr = tracker.http_addr();
    tracker
        .register_site(site.record(1, unix(), FILES))
        .await
        .expect("good");
    let page = "/r/http://example.org/index.html";
    let home = "http://example.org/index.html?spikeswarm=home";
    assert_eq!(get(addr, page).await.header("location"), home);
    let bridge = FakeBridge::start(1, |path| Shown::Page(path.to_owned())).await;
    let mut volunteer = AnnounceRequest {
        left: Some(4),
        bridge: Some(BridgeOffer {
            domain: Some("localhost".into()),
            key: Some(bridge.key.public()),
            ..BridgeOffer::new(bridge.addr.port())
        }),
        ..AnnounceRequest::new(v2(1), PeerId::new([1; 20]), 2001)
    };
    let mut announce = async |change: &dyn Fn(&mut AnnounceRequest), expected: &str| {
        change(&mut volunteer);
        let target = format!("/announce?{}", encode_query(&volunteer));
        assert_eq!(get(addr, &target).await.status, 200);
        let from = Instant::now();
        loop {
            let reply = get(addr, page).await;
            assert_eq!(reply.status, 302);
            assert_eq!(reply.header("cache-control"), "no-store");
            if reply.header("location") == expected {
                return;
            }
            assert!(from.elapsed() < Duration::from_secs(5), "{reply:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    announce(&|_| {}, home).await;
    assert!(bridge.asked().is_empty(), "not whole yet");
    let there = format!(
        "http://example-org.localhost:{}/index.html",
        bridge.addr.port()
    );
    announce(&|v| v.left = Some(0), &there).await;
    assert_eq!(
        get(addr, "/r/http://example.org/big.bin")
            .await
            .header("location"),
        "http://example.org/big.bin?spikeswarm=home",
        "held by nobody"
    );
    let listed = bridges(addr, &site).await.bridges;
    assert_eq!(listed, tracker.bridges_for(&site.name));
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].bundles, [v1(1)]);
    announce(&|v| v.event = AnnounceEvent::Stopped, home).await;
    assert!(bridges(addr, &site).await.bridges.is_empty());
    assert_eq!(get(addr, "/r/http://other.example/").await.status, 404);
    assert_eq!(get(addr, "/swarm/bridges").await.status, 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_older_record_is_accepted_after_a_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    let site = TestSite::new("example.org", 1);
    let config = TrackerConfig {
        state: Some(dir.path().join("state")),
        ..for_site(&site)
    };
    let now = unix();
    let (tracker, shutdown) = start(config.clone()).await;
    tracker
        .register_site(site.record(6, now, FILES))
        .await
        .expect("good");
    let newest = site.record(7, now, FILES);
    tracker.register_site(newest.clone()).await.expect("good");
    shutdown.cancel();
    tracker.join().await;

    let (tracker, shutdown) = start(config.clone()).await;
    let addr = tracker.http_addr();
    assert_eq!(get(addr, "/swarm/site/example.org").await.body, newest);
    let old = tracker.register_site(site.record(6, now, FILES)).await;
    assert!(matches!(old, Err(RegisterRefused::Trust(_))), "{old:?}");
    tracker
        .raise_alarm(site.alarm(now, now + 60))
        .expect("keys are known");
    shutdown.cancel();
    tracker.join().await;

    // Not pinned at the start, but later, as a gate does that embeds a tracker.
    let bare = TrackerConfig {
        site_keys: Default::default(),
        ..config.clone()
    };
    let (tracker, shutdown) = start(bare).await;
    assert_eq!(
        get(tracker.http_addr(), "/swarm/site/example.org")
            .await
            .status,
        404
    );
    tracker.pin_site_key(site.name.clone(), site.root()).await;
    assert!(
        tracker
            .register_site(site.record(6, now, FILES))
            .await
            .is_err()
    );
    assert_eq!(tracker.totals().bundles, 2);
    shutdown.cancel();
    tracker.join().await;

    // With another root the old memory counts for nothing.
    let heir = TestSite::new("example.org", 2);
    let (tracker, _shutdown) = start(TrackerConfig {
        state: config.state,
        ..for_site(&heir)
    })
    .await;
    assert_eq!(tracker.totals().bundles, 0);
    tracker
        .register_site(heir.record(1, now, FILES))
        .await
        .expect("a new beginning");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_state_stops_the_start_and_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let site = TestSite::new("example.org", 1);
    let config = TrackerConfig {
        state: Some(dir.path().to_owned()),
        ..for_site(&site)
    };
    let (tracker, shutdown) = start(config.clone()).await;
    tracker
        .register_site(site.record(7, unix(), FILES))
        .await
        .expect("good");
    shutdown.cancel();
    tracker.join().await;
    let path = dir.path().join("sites/example-org.site");
    let good = fs::read(&path).expect("it was stored");
    let refused = async |bytes: &[u8], what: &str| {
        fs::write(&path, bytes).expect("writable");
        match Tracker::start(config.clone(), Default::default()).await {
            Err(error @ TrackerError::State(StateError::Damaged { .. })) => {
                assert!(error.to_string().contains("example-org.site"), "{error}");
            }
            other => panic!("{what}: {other:?}"),
        }
    };
    for len in (0..good.len()).step_by(31) {
        refused(&good[..len], &format!("cut at {len}")).await;
    }
    for at in (0..good.len()).step_by(37) {
        let mut bad = good.clone();
        bad[at] ^= 4;
        refused(&bad, &format!("flipped at {at}")).await;
    }
    // A crash while writing leaves the new file aside and the old one whole.
    fs::write(&path, &good).expect("writable");
    fs::write(path.with_extension("new"), &good[..9]).expect("writable");
    let (tracker, _shutdown) = start(config.clone()).await;
    assert_eq!(tracker.totals().bundles, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_stored_is_not_used() {
    let dir = tempfile::tempdir().expect("a directory");
    let site = TestSite::new("example.org", 1);
    let config = TrackerConfig {
        state: Some(dir.path().to_owned()),
        ..for_site(&site)
    };
    let (tracker, _shutdown) = start(config).await;
    // A directory where the file would go; being root is no help against that.
    fs::create_dir(dir.path().join("sites/example-org.site")).expect("made");
    let record = site.record(1, unix(), FILES);
    let put = send(tracker.http_addr(), "PUT", "/swarm/site", &record).await;
    assert_eq!(put.status, 500, "{put:?}");
    assert_eq!(tracker.totals().bundles, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_wait_are_answered_when_the_tracker_stops() {
    let (tracker, shutdown) = start(config()).await;
    let addr = tracker.http_addr();
    let version = sites(addr, "").await.version;
    let since = format!("?since={version}&wait=30");
    let waiting = tokio::spawn(async move { sites(addr, &since).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let from = Instant::now();
    shutdown.cancel();
    tracker.join().await;
    assert_eq!(waiting.await.expect("no panic").version, version);
    assert!(
        from.elapsed() < Duration::from_secs(5),
        "{:?}",
        from.elapsed()
    );
}
