//! A tracker and those who say to be bridges: whom it calls, whom it looks at, and where its
//! visitors go.

mod common;

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use common::bridge::{FakeBridge, Shown, header};
use common::site::TestSite;
use common::{config, get, start, unix};
use swarm_proto::tracker::proof::PROOF_PATH;
use swarm_tracker::{TrackerConfig, TrackerHandle};
use tokio_util::sync::CancellationToken;

const FILES: &[(&str, u8)] = &[("/index.html", 1), ("/a.png", 1)];
const PAGE: &str = "/r/http://example.org/a.png";
const LOOKUP: &str = "/lookup?url=example.org/a.png";
const HOME: &str = "http://example.org/a.png?spikeswarm=home";

/// The content of every file of a test site is its path.
fn honest(path: &str) -> Shown {
    Shown::Page(path.to_owned())
}

fn liar(path: &str) -> Shown {
    Shown::Page(format!("{path}, or so"))
}

fn slow(path: &str) -> Shown {
    Shown::Drip(path.to_owned())
}

async fn tracker(
    change: impl FnOnce(&mut TrackerConfig),
) -> (TrackerHandle, CancellationToken, TestSite) {
    let site = TestSite::new("example.org", 1);
    let mut config = config();
    config.site_keys.insert(site.name.clone(), site.root());
    config.volunteers.audit_interval = Duration::from_secs(2);
    config.volunteers.audit_idle_interval = Duration::from_secs(2);
    change(&mut config);
    let (tracker, shutdown) = start(config).await;
    let record = site.record(1, unix(), FILES);
    tracker.register_site(record).await.expect("good");
    (tracker, shutdown, site)
}

async fn announce(tracker: SocketAddr, bridge: &FakeBridge) -> String {
    let reply = get(tracker, &format!("/announce?{}", bridge.announce(1))).await;
    assert_eq!(reply.status, 200);
    reply.text()
}

fn is_listed(tracker: &TrackerHandle, site: &TestSite, bridge: &FakeBridge) -> bool {
    let listed = tracker.bridges_for(&site.name);
    listed
        .iter()
        .any(|view| view.address() == Some(bridge.addr))
}

async fn until(what: &str, limit: Duration, mut holds: impl AsyncFnMut() -> bool) {
    let from = Instant::now();
    while !holds().await {
        assert!(from.elapsed() < limit, "{what}: not within {limit:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn metric(tracker: &TrackerHandle, name: &str) -> u64 {
    let text = get(tracker.http_addr(), "/metrics").await.text();
    let name = format!("swarm_tracker_{name} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&name));
    line.and_then(|value| value.parse().ok()).expect("a figure")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bridge_is_listed_within_a_second_of_its_announce() {
    let (tracker, _shutdown, site) = tracker(|_| {}).await;
    let bridge = FakeBridge::start(1, honest).await;
    announce(tracker.http_addr(), &bridge).await;
    until("listed", Duration::from_secs(2), async || {
        is_listed(&tracker, &site, &bridge)
    })
    .await;
    let asked = bridge.asked();
    let (_, head) = asked.first().expect("called");
    assert!(
        head.starts_with(&format!("GET {PROOF_PATH}?nonce=")),
        "{head}"
    );
    assert_eq!(header(head, "host"), bridge.addr.to_string());
    assert_eq!(metric(&tracker, "bridge_calls_total").await, 1);
    assert_eq!(metric(&tracker, "bridge_calls_unproven_total").await, 0);
    assert_eq!(metric(&tracker, "bridges").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t15_a_victims_web_server_is_called_once_and_no_visitor_is_sent_there() {
    let (tracker, _shutdown, site) = tracker(|_| {}).await;
    // Sixty-four bytes, as a proof has.
    let victim = FakeBridge::victim(|_| Shown::Page("x".repeat(64))).await;
    let bridge = FakeBridge::start(1, honest).await;
    announce(tracker.http_addr(), &bridge).await;
    for round in 0..40 {
        let mut attack = victim.announce(1);
        if round % 2 == 1 {
            // With the key of a bridge that does answer, elsewhere.
            let (own, other) = (victim.key.public(), bridge.key.public());
            attack = attack.replace(&own.to_string(), &other.to_string());
        }
        let reply = get(tracker.http_addr(), &format!("/announce?{attack}")).await;
        assert_eq!(reply.status, 200);
        let location = get(tracker.http_addr(), PAGE).await;
        let location = location.header("location");
        assert!(
            !location.contains(&victim.addr.port().to_string()),
            "{location}"
        );
        assert!(!is_listed(&tracker, &site, &victim));
        let found = get(tracker.http_addr(), LOOKUP).await.text();
        assert!(!found.contains(&victim.addr.to_string()), "{found}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(is_listed(&tracker, &site, &bridge), "others are");
    let found = get(tracker.http_addr(), LOOKUP).await.text();
    assert!(found.contains(&bridge.addr.to_string()), "{found}");
    let asked = victim.asked();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert!(asked[0].1.starts_with(&format!("GET {PROOF_PATH}?")));
    assert!(asked[0].1.len() < 300);
    assert_eq!(metric(&tracker, "bridge_calls_unproven_total").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t57_a_liar_is_evicted_by_fetches_that_look_like_a_visitors() {
    let from: IpAddr = "127.0.0.9".parse().expect("an address");
    let (tracker, _shutdown, site) = tracker(|config| {
        config.volunteers.audit_from = vec![from];
    })
    .await;
    let addr = tracker.http_addr();
    let (one, two) = (
        FakeBridge::start(1, honest).await,
        FakeBridge::start(2, liar).await,
    );
    for bridge in [&one, &two] {
        announce(addr, bridge).await;
        until("listed", Duration::from_secs(2), async || {
            is_listed(&tracker, &site, bridge)
        })
        .await;
    }
    until("evicted", Duration::from_secs(10), async || {
        get(addr, PAGE).await;
        !is_listed(&tracker, &site, &two)
    })
    .await;
    assert!(announce(addr, &two).await.contains("wrong bytes"));
    until(
        "the other one looked at",
        Duration::from_secs(10),
        async || one.visits().len() >= 3,
    )
    .await;
    assert!(is_listed(&tracker, &site, &one));
    let port = one.addr.port().to_string();
    let location = get(addr, PAGE).await.header("location").to_owned();
    assert_eq!(
        location,
        format!("http://example-org.localhost:{port}/a.png")
    );
    assert_eq!(metric(&tracker, "evictions_total").await, 1);
    assert!(metric(&tracker, "audits_total").await >= 3);

    for (peer, head) in one.visits().iter().chain(&two.visits()) {
        let line = head.lines().next().unwrap_or_default();
        let known = ["GET /a.png HTTP/1.1", "GET /index.html HTTP/1.1"];
        assert!(known.contains(&line), "{line}");
        assert_eq!(*peer, from, "from where it was told to");
        assert!(header(head, "host").starts_with("example-org.localhost:"));
        assert!(
            header(head, "user-agent").starts_with("Mozilla/5.0 ("),
            "{head}"
        );
        assert_eq!(header(head, "accept-encoding"), "gzip, deflate");
        assert!(!head.to_lowercase().contains("swarm"), "{head}");
        assert!(
            head.starts_with("GET ") && head.contains("\r\nHost: "),
            "spelt as browsers do"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t57_a_bridge_of_a_byte_a_second_hides_no_liar_and_gets_no_visitors() {
    let (tracker, _shutdown, site) = tracker(|config| {
        config.volunteers.audit_timeout = Duration::from_secs(3);
        config.volunteers.audits_max = 2;
    })
    .await;
    let addr = tracker.http_addr();
    let creeping = FakeBridge::start(3, slow).await;
    announce(addr, &creeping).await;
    until("looked at", Duration::from_secs(5), async || {
        !creeping.visits().is_empty()
    })
    .await;
    let two = FakeBridge::start(2, liar).await;
    let one = FakeBridge::start(1, honest).await;
    announce(addr, &two).await;
    announce(addr, &one).await;
    until("shown", Duration::from_secs(4), async || {
        !two.visits().is_empty()
    })
    .await;
    until("evicted", Duration::from_secs(2), async || {
        !is_listed(&tracker, &site, &two)
    })
    .await;
    until("unlisted", Duration::from_secs(20), async || {
        !is_listed(&tracker, &site, &creeping)
    })
    .await;
    assert!(is_listed(&tracker, &site, &one));
    assert_eq!(
        metric(&tracker, "evictions_total").await,
        1,
        "slow is no liar"
    );
    assert!(metric(&tracker, "audits_missed_total").await >= 2);
    assert_ne!(get(addr, PAGE).await.header("location"), HOME);
}
