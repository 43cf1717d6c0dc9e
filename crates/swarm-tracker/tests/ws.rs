//! WebTorrent's signalling over real sockets, from good peers and bad.

mod common;

use std::io::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use common::site::{TestSite, v1, v2};
use common::web::{CONTINUATION, PING, RawSocket, TEXT, WebPeer, latin1};
use common::{config, connect, get, read_reply, start, unix};
use serde_json::{Value, json};
use swarm_proto::id::{PeerId, SwarmId};
use swarm_proto::limits::{WS_MESSAGE_LEN_MAX, WS_SDP_LEN_MAX};
use swarm_proto::tracker::http::{
    decode_reply, decode_scrape_reply, encode_query, encode_scrape_query,
};
use swarm_proto::tracker::ws::{Announce, Request};
use swarm_proto::tracker::{AnnounceEvent, AnnounceReply, AnnounceRequest, ScrapeRequest};
use swarm_tracker::{TrackerConfig, TrackerHandle};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

const SWARM: SwarmId = SwarmId::new([0xe9; 20]);

fn open() -> TrackerConfig {
    TrackerConfig {
        open: true,
        ..config()
    }
}

fn quick() -> TrackerConfig {
    let mut config = open();
    config.connections.websocket_idle = Duration::from_millis(1000);
    config.connections.write_timeout = Duration::from_millis(500);
    config
}

async fn over_http(addr: SocketAddr, port: u16) -> AnnounceReply {
    let request = AnnounceRequest::new(SWARM, PeerId::new([7; 20]), port);
    let reply = get(addr, &format!("/announce?{}", encode_query(&request))).await;
    decode_reply(&reply.body).expect("a good reply")
}

async fn figure(addr: SocketAddr, name: &str) -> u64 {
    let figures = get(addr, "/metrics").await.text();
    let name = format!("swarm_tracker_{name} ");
    let line = figures.lines().find_map(|line| line.strip_prefix(&name));
    line.and_then(|value| value.parse().ok())
        .unwrap_or_else(|| panic!("no {name}in {figures}"))
}

async fn soon(what: &str, holds: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < until, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn peers(tracker: &TrackerHandle) -> usize {
    tracker.totals().web_peers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_peers_meet_and_all_transports_count_them() {
    let (tracker, shutdown) = start(open()).await;
    let addr = tracker.http_addr();
    let swarm_text = latin1(SWARM.as_ref());
    let mut one = WebPeer::connect_to(addr, "/", 0xfe);
    let mut two = WebPeer::connect_to(addr, "/announce?x", 2);
    let told = one.join(SWARM, 0, 5);
    assert_eq!(
        (&told["action"], &told["info_hash"]),
        (&json!("announce"), &json!(swarm_text))
    );
    assert_eq!(
        (&told["complete"], &told["incomplete"]),
        (&json!(1), &json!(0))
    );
    assert!(
        (120..=127).contains(&told["interval"].as_u64().expect("a number")),
        "{told}"
    );
    let told = two.join(SWARM, 9, 5);
    assert_eq!(
        (&told["complete"], &told["incomplete"]),
        (&json!(1), &json!(1))
    );
    let offer = one.hear();
    assert_eq!(
        offer,
        json!({"action": "announce", "info_hash": swarm_text, "peer_id": latin1(&[2; 20]),
            "offer_id": latin1(&[0; 20]), "offer": {"type": "offer", "sdp": "offer 0\r\n"}})
    );
    one.answer(SWARM, &offer);
    let answer = two.hear();
    assert_eq!(
        answer,
        json!({"action": "announce", "info_hash": swarm_text, "peer_id": latin1(&[0xfe; 20]),
            "offer_id": latin1(&[0; 20]), "answer": {"type": "answer", "sdp": "an answer"}})
    );
    // A second answer is not passed on, nor anything else.
    one.answer(SWARM, &offer);
    assert!(two.hears_nothing_for(Duration::from_millis(200)));

    // Others count them, and are not told of them: nobody can call a browser.
    let reply = over_http(addr, 2001).await;
    assert_eq!((reply.complete, reply.incomplete), (1, 2));
    assert_eq!(reply.peers, []);
    let done = Announce {
        event: AnnounceEvent::Completed,
        ..two.announce(SWARM, 0, 0)
    };
    two.say(&Request::Announce(done));
    assert_eq!(two.hear()["complete"], 2);
    let asked = vec![SWARM, SwarmId::new([1; 20])];
    let asked = ScrapeRequest { swarm_ids: asked };
    two.say(&Request::Scrape(asked.clone()));
    let expected = json!({"action": "scrape", "files": {
        swarm_text.clone(): {"complete": 2, "downloaded": 1, "incomplete": 1},
        latin1(&[1; 20]): {"complete": 0, "downloaded": 0, "incomplete": 0}}});
    assert_eq!(two.hear(), expected);
    let raw = get(addr, &format!("/scrape?{}", encode_scrape_query(&asked))).await;
    let files = decode_scrape_reply(&raw.body).expect("a good reply").files;
    assert_eq!((files[0].1.complete, files[0].1.incomplete), (2, 1));
    for (name, value) in [("web_peers", 2), ("offers_total", 1), ("answers_total", 1)] {
        assert_eq!(figure(addr, name).await, value, "{name}");
    }

    // One says that it leaves, the other just does.
    let stopped = Announce {
        event: AnnounceEvent::Stopped,
        ..one.announce(SWARM, 0, 5)
    };
    one.say(&Request::Announce(stopped));
    assert_eq!(one.hear()["complete"], 1);
    drop(two);
    soon("the peer is gone", || peers(&tracker) == 0).await;
    assert_eq!(over_http(addr, 2001).await.complete, 0);

    // The end is said.
    shutdown.cancel();
    assert_eq!(one.closed(), Some(CloseCode::Away));
    let ended = tokio::time::timeout(Duration::from_secs(5), tracker.join());
    ended.await.expect("nobody is waited for");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_bundles_of_sites_are_tracked_and_both_ids_of_one_lead_to_the_other() {
    let site = TestSite::new("example.org", 1);
    let mut config = config();
    config.site_keys.insert(site.name.clone(), site.root());
    let (tracker, _shutdown) = start(config).await;
    let addr = tracker.http_addr();
    let record = site.record(1, unix(), &[("/index.html", 1)]);
    tracker.register_site(record).await.expect("a good record");
    let (mut one, mut two) = (WebPeer::connect(addr, 1), WebPeer::connect(addr, 2));
    let refused = one.join(SWARM, 0, 5);
    let reason = "info hash is not registered at this tracker";
    assert_eq!(
        refused,
        json!({"action": "announce", "info_hash": latin1(SWARM.as_ref()), "failure reason": reason})
    );
    one.join(v1(1), 0, 0);
    let told = two.join(v2(1), 1, 1);
    assert_eq!(
        (&told["complete"], &told["incomplete"]),
        (&json!(1), &json!(1))
    );
    let offer = one.hear();
    assert_eq!(offer["info_hash"], latin1(v1(1).as_ref()), "as it calls it");
    one.answer(v1(1), &offer);
    assert_eq!(
        two.hear()["info_hash"],
        latin1(v2(1).as_ref()),
        "as it calls it"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_request_for_a_socket_is_answered_as_before() {
    let (tracker, _shutdown) = start(open()).await;
    let addr = tracker.http_addr();
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (head, status) in [
        (
            format!("GET / HTTP/1.1\r\nHost: t\r\n{upgrade}{key}Sec-WebSocket-Version: 8\r\n"),
            400,
        ),
        (
            format!("GET / HTTP/1.1\r\nHost: t\r\n{upgrade}Sec-WebSocket-Version: 13\r\n"),
            400,
        ),
        (
            format!(
                "GET / HTTP/1.1\r\nHost: t\r\nUpgrade: websocket\r\n{key}Sec-WebSocket-Version: 13\r\n"
            ),
            400,
        ),
        (
            format!(
                "GET /scrape HTTP/1.1\r\nHost: t\r\n{upgrade}{key}Sec-WebSocket-Version: 13\r\n"
            ),
            200,
        ),
        (
            format!("GET /x HTTP/1.1\r\nHost: t\r\n{upgrade}{key}Sec-WebSocket-Version: 13\r\n"),
            404,
        ),
        (
            format!(
                "POST /announce HTTP/1.1\r\nHost: t\r\n{upgrade}{key}Sec-WebSocket-Version: 13\r\n"
            ),
            405,
        ),
        (
            "GET / HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n".into(),
            200,
        ),
    ] {
        let mut stream = connect(addr);
        stream
            .write_all(format!("{head}\r\n").as_bytes())
            .expect("it listens");
        let reply = read_reply(&mut stream).expect("an answer");
        assert_eq!(reply.status, status, "{head}");
    }
    assert_eq!(peers(&tracker), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_messages_are_answered_with_a_reason_and_the_socket_goes_on() {
    let (tracker, _shutdown) = start(open()).await;
    let mut peer = WebPeer::connect(tracker.http_addr(), 1);
    let good = Request::Announce(peer.announce(SWARM, 0, 1)).encode();
    for (text, reason) in [
        ("rubbish".to_owned(), "message is not JSON"),
        (
            "[".repeat(60_000),
            "message has a value of the wrong type, or a key twice",
        ),
        ("{}".into(), "action is missing"),
        (good.replace("announce", "anounce"), "action is not known"),
        (
            good.replace("\"info_hash\"", "\"info_hsah\""),
            "info_hash is missing",
        ),
        (
            good.replace("\"offer 0\\r\\n\"", "7"),
            "message has a value of the wrong type, or a key twice",
        ),
    ] {
        peer.say_text(&text);
        assert_eq!(peer.hear(), json!({"failure reason": reason}), "{text:.60}");
    }
    peer.say_text(&good);
    assert_eq!(peer.hear()["complete"], 1);
    assert_eq!(figure(tracker.http_addr(), "ws_malformed_total").await, 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t19_a_message_past_the_bound_is_refused_before_it_has_come() {
    let (tracker, _shutdown) = start(open()).await;
    let addr = tracker.http_addr();
    let mut peer = WebPeer::connect(addr, 1);
    // One of the greatest length is read, in one frame.
    let sdp = "x".repeat(WS_SDP_LEN_MAX);
    let mut announce = peer.announce(SWARM, 0, 7);
    announce
        .offers
        .iter_mut()
        .for_each(|offer| offer.sdp.clone_from(&sdp));
    let text = Request::Announce(announce).encode();
    let pad = "x".repeat(WS_MESSAGE_LEN_MAX - text.len() - ",\"x\":\"\"}".len() + 1);
    let text = format!("{},\"x\":\"{pad}\"}}", &text[..text.len() - 1]);
    assert_eq!(text.len(), WS_MESSAGE_LEN_MAX);
    peer.say_text(&text);
    assert_eq!(peer.hear()["complete"], 1);
    // A byte more is not, nor what only says that it will be long.
    peer.try_say(&text.replace("\"x\":\"", "\"x\":\"x"));
    peer.closed();
    for len in [WS_MESSAGE_LEN_MAX as u64 + 1, 10_000_000, u64::MAX / 2] {
        let mut raw = RawSocket::connect(addr);
        raw.0
            .write_all(&RawSocket::head(true, TEXT, len))
            .expect("sent");
        assert!(raw.ends_within(Duration::from_secs(5)), "{len}");
    }
    soon("all are gone", || peers(&tracker) == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t19_a_message_in_fragments_without_end_is_cut_at_the_bound() {
    let (tracker, _shutdown) = start(open()).await;
    let mut raw = RawSocket::connect(tracker.http_addr());
    let part = [b' '; 1000];
    let mut sent = 0;
    let from = Instant::now();
    let mut opcode = TEXT;
    while raw.send(false, opcode, &part) {
        (opcode, sent) = (CONTINUATION, sent + part.len());
        assert!(sent < 20_000_000, "20 MB of one message were taken in");
        assert!(from.elapsed() < Duration::from_secs(10), "{sent} bytes");
    }
    assert!(raw.ends_within(Duration::from_secs(5)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t19_who_says_nothing_whole_is_closed() {
    let (tracker, _shutdown) = start(quick()).await;
    let addr = tracker.http_addr();
    std::thread::scope(|scope| {
        // Each is closed after a second; those who send on only while they do not.
        let check = |name: &'static str,
                     mut go_on: Box<dyn FnMut(&mut RawSocket) -> bool + Send>| {
            let mut raw = RawSocket::connect(addr);
            scope.spawn(move || {
                let from = Instant::now();
                while go_on(&mut raw) && !raw.ends_within(Duration::from_millis(20)) {
                    assert!(
                        from.elapsed() < Duration::from_secs(6),
                        "{name} was never closed"
                    );
                }
                assert!(
                    raw.ends_within(Duration::from_secs(5)),
                    "{name} was never closed"
                );
                assert!(
                    from.elapsed() > Duration::from_millis(800),
                    "{name}: too soon"
                );
            });
        };
        check("silence", Box::new(|_| true));
        let mut head = vec![0x80 | PING, 0x80 | 125, 0, 0, 0, 0].into_iter();
        check(
            "a ping, byte by byte",
            Box::new(move |raw| raw.0.write_all(&[head.next().unwrap_or(b'x')]).is_ok()),
        );
        let mut first = true;
        check(
            "empty fragments",
            Box::new(move |raw| {
                let opcode = if std::mem::take(&mut first) {
                    TEXT
                } else {
                    CONTINUATION
                };
                raw.send(false, opcode, b"")
            }),
        );
    });
    assert_eq!(tracker.totals().peers, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_answers_pings_stays_and_who_only_does_that_is_closed_when_its_peers_are_forgotten() {
    let mut config = quick();
    config.announce.interval = Duration::from_secs(1);
    config.announce.bridge_interval = Duration::from_secs(1);
    config.announce.peer_age = Duration::from_secs(4);
    let (tracker, _shutdown) = start(config).await;
    let mut peer = WebPeer::connect(tracker.http_addr(), 1);
    peer.join(SWARM, 0, 0);
    // Reading answers pings.
    assert!(peer.hears_nothing_for(Duration::from_millis(3000)));
    assert_eq!(peer.join(SWARM, 0, 0)["complete"], 1);
    let from = Instant::now();
    assert_eq!(peer.closed(), Some(CloseCode::Policy));
    let after = from.elapsed();
    assert!(after > Duration::from_millis(3500), "{after:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t19_of_hundreds_of_offers_ten_are_passed_on() {
    let (tracker, _shutdown) = start(open()).await;
    let addr = tracker.http_addr();
    let mut others: Vec<_> = (1..=20).map(|n| WebPeer::connect(addr, n)).collect();
    for other in &mut others {
        other.join(SWARM, 1, 0);
    }
    let mut peer = WebPeer::connect(addr, 99);
    let many = |n: usize| {
        let mut announce = peer.announce(SWARM, 1, 1);
        announce.offers = vec![announce.offers[0].clone(); n];
        Request::Announce(announce).encode()
    };
    let (most, too_many) = (many(300), many(10_000));
    peer.say_text(&most);
    assert_eq!(peer.hear()["incomplete"], 21);
    assert_eq!(figure(addr, "offers_total").await, 10);
    // Ten thousand are no message at all.
    peer.try_say(&too_many);
    peer.closed();
    assert_eq!(figure(addr, "offers_total").await, 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t19_who_never_reads_is_closed() {
    let (tracker, _shutdown) = start(quick()).await;
    let addr = tracker.http_addr();
    // It asks and asks, and takes no answer: 70 swarms are 6 KB.
    let ids = (0..70).map(|n| SwarmId::new([n; 20])).collect();
    let scrape = Request::Scrape(ScrapeRequest { swarm_ids: ids }).encode();
    let mut raw = RawSocket::connect(addr);
    let timeout = Some(Duration::from_secs(5));
    raw.0.set_write_timeout(timeout).expect("settable");
    let (mut sent, from) = (0, Instant::now());
    while raw.send(true, TEXT, scrape.as_bytes()) {
        sent += 1;
        assert!(
            from.elapsed() < Duration::from_secs(20),
            "{sent} scrapes were taken"
        );
    }
    let after = from.elapsed();
    assert!(
        after < Duration::from_secs(5),
        "not closed, but no longer read: {after:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t19_who_is_slower_than_what_is_passed_on_to_it_is_closed() {
    let mut config = open();
    // Only the queue counts here.
    config.connections.write_timeout = Duration::from_secs(600);
    let (tracker, _shutdown) = start(config).await;
    let addr = tracker.http_addr();
    let mut victim = RawSocket::connect(addr);
    let announce = Request::Announce(Announce::new(SWARM, PeerId::new([1; 20])));
    assert!(victim.send(true, TEXT, announce.encode().as_bytes()));
    // Its answers fill what the system holds for it, until it is not read any more either.
    let ids = (0..70).map(|n| SwarmId::new([n; 20])).collect();
    let scrape = Request::Scrape(ScrapeRequest { swarm_ids: ids }).encode();
    let timeout = Some(Duration::from_secs(1));
    victim.0.set_write_timeout(timeout).expect("settable");
    while victim.send(true, TEXT, scrape.as_bytes()) {}
    assert_eq!(peers(&tracker), 1, "slow, and not yet too slow");
    let sdp = "x".repeat(WS_SDP_LEN_MAX);
    for n in 1..=16 {
        let mut other = WebPeer::connect(addr, n);
        let mut announce = other.announce(SWARM, 0, 1);
        announce.offers[0].sdp.clone_from(&sdp);
        other.say(&Request::Announce(announce));
        other.hear();
    }
    soon("only those are there who read", || peers(&tracker) == 0).await;
    assert_eq!(figure(addr, "ws_overflows_total").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t55_a_socket_is_a_connection_as_any_other() {
    let mut config = open();
    config.connections.max = 3;
    config.connections.head_timeout = Duration::from_millis(300);
    let (tracker, _shutdown) = start(config).await;
    let addr = tracker.http_addr();
    let mut held: Vec<_> = (1..=3).map(|n| WebPeer::connect(addr, n)).collect();
    for peer in &mut held {
        peer.join(SWARM, 0, 0);
    }
    let mut waiting = connect(addr);
    waiting
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: t\r\n\r\n")
        .expect("the system takes it");
    waiting
        .set_read_timeout(Some(Duration::from_millis(1000)))
        .expect("settable");
    let mut byte = [0];
    let error = std::io::Read::read(&mut waiting, &mut byte).expect_err("all slots are taken");
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    drop(held.pop());
    waiting
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("settable");
    assert_eq!(
        read_reply(&mut waiting).map(|reply| reply.status),
        Some(200)
    );
    assert_eq!(held[0].join(SWARM, 0, 0)["complete"], Value::from(2));
}
