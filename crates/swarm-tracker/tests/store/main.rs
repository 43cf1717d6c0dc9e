//! Trackers that share what they know by a Redis server: announced to one, found through the other.

mod away;
mod bridges;
#[path = "../common/mod.rs"]
mod common;
mod load;
mod tls;

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use common::redis::Redis;
use common::site::{TestSite, v1};
use common::{get, send, start, unix};
use swarm_proto::id::{PeerId, SwarmId};
use swarm_proto::tracker::http::{decode_reply, encode_query};
use swarm_proto::tracker::udp::{Request, Response};
use swarm_proto::tracker::{AnnounceEvent, AnnounceReply, AnnounceRequest};
use swarm_tracker::{TrackerConfig, TrackerHandle};
use tokio_util::sync::CancellationToken;

/// Within which what happens at one tracker is known at another.
const SECOND: Duration = Duration::from_secs(1);
const SWARM: SwarmId = SwarmId::new([0xe9; 20]);
const FILES: &[(&str, u8)] = &[("/index.html", 1), ("/a.png", 1)];

/// A tracker of a fleet.
struct Member {
    tracker: TrackerHandle,
    shutdown: CancellationToken,
}

impl Member {
    /// One that takes any swarm.
    async fn open(redis: &Redis) -> Self {
        Self::with(redis, |config| config.open = true).await
    }

    /// One that works for this site.
    async fn of(redis: &Redis, site: &TestSite) -> Self {
        Self::with(redis, |config| {
            config.site_keys.insert(site.name.clone(), site.root());
        })
        .await
    }

    async fn with(redis: &Redis, change: impl FnOnce(&mut TrackerConfig)) -> Self {
        let mut config = common::config();
        config.store = redis.url().parse().expect("a good URL");
        change(&mut config);
        let (tracker, shutdown) = start(config).await;
        Self { tracker, shutdown }
    }

    fn http(&self) -> SocketAddr {
        self.tracker.http_addr()
    }

    async fn end(self) {
        self.shutdown.cancel();
        self.tracker.join().await;
    }

    async fn announce(&self, request: &AnnounceRequest) -> AnnounceReply {
        let target = format!("/announce?{}", encode_query(request));
        let reply = get(self.http(), &target).await;
        decode_reply(&reply.body).expect("a good reply")
    }

    /// Ports of the peers that a leech hears of. It is one of them, and leaves at once.
    async fn peers(&self) -> Vec<u16> {
        let asking = AnnounceRequest {
            numwant: Some(200),
            ..peer(65_000, 1, AnnounceEvent::Regular)
        };
        let reply = self.announce(&asking).await;
        self.announce(&peer(65_000, 1, AnnounceEvent::Stopped))
            .await;
        let mut ports: Vec<u16> = reply.peers.iter().map(SocketAddr::port).collect();
        ports.retain(|port| *port != 65_000);
        ports.sort_unstable();
        ports
    }

    /// `complete`, `downloaded` and `incomplete` of a scrape.
    async fn scrape(&self) -> String {
        let id: String = SWARM
            .as_bytes()
            .iter()
            .map(|b| format!("%{b:02x}"))
            .collect();
        let target = format!("/scrape?info_hash={id}");
        get(self.http(), &target).await.text()
    }

    async fn metric(&self, name: &str) -> u64 {
        let text = get(self.http(), "/metrics").await.text();
        let name = format!("swarm_tracker_{name} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&name));
        line.and_then(|value| value.parse().ok()).expect("a figure")
    }

    /// What the status says of the store.
    async fn word(&self) -> String {
        let status = get(self.http(), "/api/v1/status").await;
        let status: serde_json::Value = serde_json::from_slice(&status.body).expect("JSON");
        status["store"].as_str().expect("a word").to_owned()
    }
}

fn peer(port: u16, left: u64, event: AnnounceEvent) -> AnnounceRequest {
    AnnounceRequest {
        left: Some(left),
        event,
        ..AnnounceRequest::new(SWARM, PeerId::new([7; 20]), port)
    }
}

fn regular(port: u16, left: u64) -> AnnounceRequest {
    peer(port, left, AnnounceEvent::Regular)
}

async fn until(what: &str, limit: Duration, mut holds: impl AsyncFnMut() -> bool) {
    let from = Instant::now();
    while !holds().await {
        assert!(from.elapsed() < limit, "{what}: not within {limit:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn announce_by_udp(tracker: SocketAddr, announce: AnnounceRequest) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    socket.connect(tracker).expect("connected");
    socket
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("settable");
    let ask = |request: &Request| {
        socket.send(&request.encode()).expect("sent");
        let mut buf = [0; 4096];
        let len = socket.recv(&mut buf).expect("an answer");
        Response::decode(&buf[..len], false).expect("a good answer")
    };
    let Response::Connect { token, .. } = ask(&Request::Connect { transaction: 1 }) else {
        panic!("no token");
    };
    let announced = ask(&Request::Announce {
        token,
        transaction: 2,
        announce,
        path: String::new(),
    });
    assert!(
        matches!(announced, Response::Announce { .. }),
        "{announced:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_announces_to_one_is_found_through_the_other() {
    let redis = Redis::start();
    let (one, two) = (Member::open(&redis).await, Member::open(&redis).await);
    assert_eq!(
        (&*one.word().await, &*two.word().await),
        ("shared", "shared")
    );
    one.announce(&regular(2000, 1)).await;
    announce_by_udp(one.tracker.udp_addrs()[0], regular(2001, 0));
    until("over HTTP", SECOND, async || {
        two.peers().await == [2000, 2001]
    })
    .await;
    // And the other way.
    announce_by_udp(two.tracker.udp_addrs()[0], regular(2002, 1));
    until("over UDP", SECOND, async || {
        one.peers().await == [2000, 2001, 2002]
    })
    .await;

    one.announce(&peer(2000, 0, AnnounceEvent::Completed)).await;
    two.announce(&peer(2002, 0, AnnounceEvent::Completed)).await;
    for member in [&one, &two] {
        until("completed at both", SECOND, async || {
            let figures = member.scrape().await;
            figures.contains("8:completei3e10:downloadedi2e10:incompletei0e")
        })
        .await;
    }
    one.announce(&peer(2000, 0, AnnounceEvent::Stopped)).await;
    until("gone", SECOND, async || two.peers().await == [2001, 2002]).await;
    assert!(one.metric("store_written_total").await >= 4);
    assert!(two.metric("store_read_total").await >= 4);
    assert_eq!(two.metric("store_connected").await, 1);
    for name in [
        "store_refused_total",
        "store_dropped_total",
        "store_lost_total",
    ] {
        assert_eq!(one.metric(name).await, 0, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tracker_that_takes_the_place_of_another_knows_all_that_it_knew() {
    let redis = Redis::start();
    let one = Member::open(&redis).await;
    for port in 2000..2150 {
        one.announce(&regular(port, u64::from(port % 2))).await;
    }
    for port in 2000..2007 {
        let done = peer(port, 0, AnnounceEvent::Completed);
        one.announce(&done).await;
    }
    // Its last words are heard as well.
    one.announce(&regular(3000, 1)).await;
    one.end().await;
    let two = Member::open(&redis).await;
    // At once: it has read before it answered.
    let peers = two.peers().await;
    assert_eq!(peers.len(), 151, "{peers:?}");
    assert!(peers.contains(&3000));
    let downloaded = ":downloadedi3e";
    let figures = two.scrape().await;
    assert!(figures.contains(downloaded), "{figures}");
    // And counts on when the log no longer says so.
    redis.say("DEL spikeswarm:changes");
    two.end().await;
    let three = Member::open(&redis).await;
    three.announce(&regular(2000, 1)).await;
    three.end().await;
    let four = Member::open(&redis).await;
    let figures = four.scrape().await;
    assert!(figures.contains(downloaded), "{figures}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_registered_and_in_need_at_one_is_so_at_the_other() {
    let redis = Redis::start();
    let site = TestSite::new("example.org", 1);
    let (one, two) = (
        Member::of(&redis, &site).await,
        Member::of(&redis, &site).await,
    );
    let stranger = Member::with(&redis, |_| {}).await;
    let record = site.record(1, unix(), FILES);
    let put = send(one.http(), "PUT", "/swarm/site", &record).await;
    assert_eq!(put.status, 204);
    let issued = unix();
    let alarm = site.alarm(issued, issued + 600);
    let raised = send(one.http(), "POST", "/swarm/alarm", &alarm).await;
    assert_eq!(raised.status, 204);
    let path = "/swarm/site/example.org";
    until("registered", SECOND, async || {
        get(two.http(), path).await.body == record
    })
    .await;
    until("in need", SECOND, async || {
        two.tracker.sites_in_need().sites.len() == 1
    })
    .await;
    assert_eq!(get(stranger.http(), path).await.status, 404);

    // Who comes later knows at once; and lowers it for all.
    let three = Member::of(&redis, &site).await;
    assert_eq!(get(three.http(), path).await.body, record);
    assert_eq!(three.tracker.sites_in_need().sites.len(), 1);
    let lowered = site.alarm(issued, issued);
    three.tracker.raise_alarm(lowered).expect("good");
    for member in [&one, &two] {
        until("lowered", SECOND, async || {
            member.tracker.sites_in_need().sites.is_empty()
        })
        .await;
    }
    // A site that is pinned later is looked up then.
    let late = Member::with(&redis, |_| {}).await;
    late.tracker
        .pin_site_key(site.name.clone(), site.root())
        .await;
    until("pinned late", SECOND, async || {
        get(late.http(), path).await.body == record
    })
    .await;
    for member in [&one, &two, &three, &late] {
        assert_eq!(member.metric("store_refused_total").await, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t33_what_is_older_or_forged_in_the_store_is_not_taken_and_makes_way() {
    let redis = Redis::start();
    let site = TestSite::new("example.org", 1);
    let forger = TestSite::new("example.org", 9);
    let key = b"spikeswarm:site:example-org";
    let put = |record: &[u8], alarm: &[u8]| {
        redis.ask(&[b"HSET", key, b"record", record, b"alarm", alarm]);
        // Rung by somebody: an entry that says no more than "look".
        let entry = [&[1][..], &[5; 16], b"\x09\x00\x0bexample.org"].concat();
        redis.ask(&[b"XADD", b"spikeswarm:changes", b"*", b"c", &entry]);
    };
    let one = Member::of(&redis, &site).await;
    let newest = site.record(2, unix(), FILES);
    one.tracker
        .register_site(newest.clone())
        .await
        .expect("good");
    let alarm = site.alarm(unix(), unix() + 600);
    one.tracker.raise_alarm(alarm.clone()).expect("good");
    let stored = |field: &[u8]| match redis.ask(&[b"HGET", key, field]) {
        common::redis::Answer::Text(text) => text,
        _ => Vec::new(),
    };
    until("stored", SECOND, async || {
        stored(b"record") == newest && stored(b"alarm") == alarm
    })
    .await;
    let older = site.record(1, unix(), &[("/index.html", 1)]);
    let before = site.alarm(unix() - 60, unix() + 600);
    for (record, alarm_there) in [
        (older, before),
        (b"rubbish".to_vec(), b"rubbish".to_vec()),
        (Vec::new(), Vec::new()),
    ] {
        put(&record, &alarm_there);
        until("put right", 2 * SECOND, async || {
            stored(b"record") == newest && stored(b"alarm") == alarm
        })
        .await;
        let path = "/swarm/site/example.org";
        assert_eq!(get(one.http(), path).await.body, newest);
        assert_eq!(one.tracker.sites_in_need().sites[0].alarm, alarm);
    }
    // Of a higher sequence, but by nobody whom the operator has pinned.
    let forged = forger.record(7, unix(), FILES);
    put(&forged, &forger.alarm(unix() + 5, unix() + 5));
    let two = Member::of(&redis, &site).await;
    assert_eq!(get(two.http(), "/swarm/site/example.org").await.status, 404);
    assert_eq!(one.tracker.sites_in_need().sites.len(), 1);
    // Until the site says more.
    let next = site.record(3, unix(), FILES);
    two.tracker.register_site(next.clone()).await.expect("good");
    let renewed = site.alarm(unix() + 2, unix() + 900);
    two.tracker.raise_alarm(renewed.clone()).expect("good");
    until("put right", SECOND, async || {
        stored(b"record") == next && stored(b"alarm") == renewed
    })
    .await;
    until("there too", SECOND, async || {
        get(one.http(), "/swarm/site/example.org").await.body == next
            && one.tracker.sites_in_need().sites[0].alarm == renewed
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rubbish_in_the_store_is_skipped_and_counted() {
    let redis = Redis::start();
    let (one, two) = (Member::open(&redis).await, Member::open(&redis).await);
    let log: &[u8] = b"spikeswarm:changes";
    let entries: [&[&[u8]]; 6] = [
        &[b"c", b""],
        &[b"c", b"\xff\xff\xff"],
        &[b"other", b"field"],
        &[b"\xff\xfe", b"no text"],
        &[b"c", b"\x01two", b"d", b"fields"],
        // Ten peers are promised, and none comes.
        &[
            b"c",
            b"\x010123456789abcdef\x01iiiiiiiiiiiiiiiiiiii\x00\x0a",
        ],
    ];
    for fields in entries {
        redis.ask(&[&[b"XADD", log, b"*"], fields].concat());
    }
    redis.ask(&[b"XADD", log, b"*", b"c", &vec![1; 1_000_000]]);
    redis.ask(&[b"ZADD", b"spikeswarm:barred", b"9e15", b"rubbish"]);
    redis.ask(&[b"HSET", b"spikeswarm:completed", b"short", b"x"]);
    one.announce(&regular(2000, 1)).await;
    until("past it", SECOND, async || two.peers().await == [2000]).await;
    until("counted", SECOND, async || {
        two.metric("store_refused_total").await == 7
    })
    .await;
    assert_eq!(two.metric("store_lost_total").await, 0);
    // Who starts later reads the same.
    let three = Member::open(&redis).await;
    assert_eq!(three.peers().await, [2000]);
    assert_eq!(three.metric("store_refused_total").await, 8);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trackers_that_disagree_about_a_sites_key_do_not_contradict_each_other_for_ever() {
    let redis = Redis::start();
    let (site, other) = (
        TestSite::new("example.org", 1),
        TestSite::new("example.org", 9),
    );
    let one = Member::of(&redis, &site).await;
    let two = Member::of(&redis, &other).await;
    let now = unix();
    for (member, site) in [(&one, &site), (&two, &other)] {
        let record = site.record(1, now, FILES);
        member.tracker.register_site(record).await.expect("good");
        let alarm = site.alarm(unix(), unix() + 600);
        member.tracker.raise_alarm(alarm).expect("good");
        tokio::time::sleep(SECOND / 2).await;
    }
    let written = redis.say("XLEN spikeswarm:changes");
    tokio::time::sleep(SECOND).await;
    assert_eq!(redis.say("XLEN spikeswarm:changes"), written);
    // Each goes by its own.
    for (member, site) in [(&one, &site), (&two, &other)] {
        let record = get(member.http(), "/swarm/site/example.org").await.body;
        assert_eq!(record, site.record(1, now, FILES));
    }
}
