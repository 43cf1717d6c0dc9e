//! Volunteers' bridges that announce to one tracker and get visitors of another.

use std::time::Duration;

use swarm_proto::id::PeerId;
use swarm_proto::tracker::http::encode_query;
use swarm_proto::tracker::proof::PROOF_PATH;
use swarm_proto::tracker::{AnnounceRequest, BridgeOffer};
use swarm_tracker::TrackerConfig;

use crate::common::bridge::{FakeBridge, Shown};
use crate::common::redis::Redis;
use crate::common::site::TestSite;
use crate::{FILES, Member, SECOND, get, unix, until, v1};

const PAGE: &str = "/r/http://example.org/a.png";

/// The content of every file of a test site is its path.
pub(crate) fn honest(path: &str) -> Shown {
    Shown::Page(path.to_owned())
}

fn liar(path: &str) -> Shown {
    Shown::Page(format!("{path}, or so"))
}

async fn member(redis: &Redis, site: &TestSite) -> Member {
    Member::with(redis, |config: &mut TrackerConfig| {
        config.site_keys.insert(site.name.clone(), site.root());
        config.volunteers.audit_interval = Duration::from_secs(2);
        config.volunteers.audit_idle_interval = Duration::from_secs(2);
    })
    .await
}

/// Two trackers of a site that has published.
async fn two(redis: &Redis) -> (Member, Member, TestSite) {
    let site = TestSite::new("example.org", 1);
    let (one, two) = (member(redis, &site).await, member(redis, &site).await);
    let record = site.record(1, unix(), FILES);
    one.tracker.register_site(record).await.expect("good");
    until("registered at both", SECOND, async || {
        get(two.http(), "/swarm/site/example.org").await.status == 200
    })
    .await;
    (one, two, site)
}

async fn announce(to: &Member, bridge: &FakeBridge) -> String {
    let reply = get(to.http(), &format!("/announce?{}", bridge.announce(1))).await;
    assert_eq!(reply.status, 200);
    reply.text()
}

/// Whether a visitor was sent to this bridge.
async fn sends_to(member: &Member, bridge: &FakeBridge) -> bool {
    let location = get(member.http(), PAGE).await;
    let port = format!(":{}/", bridge.addr.port());
    location.header("location").contains(&port)
}

fn calls(bridge: &FakeBridge) -> usize {
    let asked = bridge.asked();
    let calls = asked.iter().filter(|(_, head)| head.contains(PROOF_PATH));
    calls.count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bridge_proven_at_one_gets_visitors_of_the_other_and_of_who_starts_later() {
    let redis = Redis::start();
    let (one, two, site) = two(&redis).await;
    let bridge = FakeBridge::start(1, honest).await;
    announce(&one, &bridge).await;
    until("listed", SECOND, async || sends_to(&one, &bridge).await).await;
    until("there too", SECOND, async || sends_to(&two, &bridge).await).await;
    let three = member(&redis, &site).await;
    assert!(sends_to(&three, &bridge).await, "at once");
    assert_eq!(calls(&bridge), 1, "called by its own tracker alone");
    // A web server that says nothing gets nobody, whoever is asked.
    let victim = FakeBridge::victim(honest).await;
    announce(&one, &victim).await;
    tokio::time::sleep(SECOND).await;
    for member in [&one, &two, &three] {
        for _ in 0..10 {
            assert!(!sends_to(member, &victim).await);
        }
    }
    assert_eq!(calls(&victim), 1);
    // It leaves for all.
    let leave = format!("/announce?{}&event=stopped", bridge.announce(1));
    get(one.http(), &leave).await;
    for member in [&one, &two, &three] {
        until("left", SECOND, async || !sends_to(member, &bridge).await).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_visitors_of_a_lease_are_counted_across_the_fleet() {
    const HITS: usize = 60;
    let redis = Redis::start();
    let (one, two, site) = two(&redis).await;
    let bridge = FakeBridge::start(1, honest).await;
    let offer = AnnounceRequest {
        left: Some(0),
        bridge: Some(BridgeOffer {
            domain: Some("localhost".into()),
            key: Some(bridge.key.public()),
            hits: Some(HITS as u64),
            rate: Some(1_000_000_000),
            ..BridgeOffer::new(bridge.addr.port())
        }),
        ..AnnounceRequest::new(v1(1), PeerId::new([1; 20]), bridge.addr.port())
    };
    let offer = format!("/announce?{}", encode_query(&offer));
    get(one.http(), &offer).await;
    for member in [&one, &two] {
        until("listed", SECOND, async || {
            !member.tracker.bridges_for(&site.name).is_empty()
        })
        .await;
    }
    // Forty a second. What one does not know of the other is at most the visitors of a pause
    // between two writes, and of as long again for a slow machine.
    let mut sent = [0; 2];
    for round in 0..3 * HITS {
        let (at, member) = match round % 2 {
            0 => (0, &one),
            _ => (1, &two),
        };
        sent[at] += usize::from(sends_to(member, &bridge).await);
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    let all = sent[0] + sent[1];
    assert!((HITS..=HITS + 10).contains(&all), "{sent:?}");
    assert!(sent.iter().all(|n| *n >= HITS / 3), "by both: {sent:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t57_who_lied_to_one_is_evicted_at_all_and_at_who_starts_later() {
    let redis = Redis::start();
    let (one, two, site) = two(&redis).await;
    let (good, bad) = (
        FakeBridge::start(1, honest).await,
        FakeBridge::start(2, liar).await,
    );
    for bridge in [&good, &bad] {
        announce(&one, bridge).await;
        until("listed there too", 2 * SECOND, async || {
            sends_to(&two, bridge).await
        })
        .await;
    }
    until("evicted", Duration::from_secs(10), async || {
        one.metric("evictions_total").await == 1
    })
    .await;
    until("evicted there too", SECOND, async || {
        two.metric("bridges").await == 1
    })
    .await;
    assert!(announce(&two, &bad).await.contains("wrong bytes"));
    // Long after, when the log says no more of it.
    redis.say("DEL spikeswarm:changes");
    let three = member(&redis, &site).await;
    assert!(announce(&three, &bad).await.contains("wrong bytes"));
    for member in [&one, &two, &three] {
        for _ in 0..10 {
            assert!(!sends_to(member, &bad).await);
        }
        assert!(!announce(member, &good).await.contains("wrong bytes"));
    }
    assert_eq!(two.metric("evictions_total").await, 0, "it has not looked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bridge_that_shuts_is_taken_off_by_all() {
    let redis = Redis::start();
    let (one, two, _) = two(&redis).await;
    let bridge = FakeBridge::start(1, honest).await;
    announce(&one, &bridge).await;
    until("listed there too", 2 * SECOND, async || {
        sends_to(&two, &bridge).await
    })
    .await;
    bridge.shut();
    // Found by the one that looks, at the latest two seconds after a visitor of the other.
    until("taken off there", Duration::from_secs(6), async || {
        !sends_to(&one, &bridge).await
    })
    .await;
    until("and here", SECOND, async || !sends_to(&two, &bridge).await).await;
}
