//! What is shown to people, proxies and load balancers, and what visitors of a site's own name get,
//! over real sockets.

mod common;

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use common::bridge::{FakeBridge, Shown};
use common::site::{TestSite, v1};
use common::{Reply, config, connect, get, read_reply, start, unix};
use socket2::{Domain, Socket, Type};
use swarm_proto::id::{PeerId, SwarmId};
use swarm_proto::tracker::http::{decode_reply, encode_query};
use swarm_proto::tracker::{AnnounceReply, AnnounceRequest, BridgeOffer};
use swarm_tracker::TrackerConfig;

/// One GET with header fields of its own, each `Name: value\r\n`.
async fn get_with(addr: SocketAddr, target: &str, fields: &str) -> Reply {
    get_from([127, 0, 0, 1], addr, target, fields).await
}

/// The same from another address of this host.
async fn get_from(from: [u8; 4], addr: SocketAddr, target: &str, fields: &str) -> Reply {
    let request = format!("GET {target} HTTP/1.1\r\n{fields}\r\n");
    tokio::task::spawn_blocking(move || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket
            .bind(&SocketAddr::from((from, 0)).into())
            .expect("loopback");
        socket.connect(&addr.into()).expect("it listens");
        let mut stream = TcpStream::from(socket);
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .expect("settable");
        stream.write_all(request.as_bytes()).expect("it listens");
        read_reply(&mut stream).expect("an answer")
    })
    .await
    .expect("no panic")
}

/// A tracker on loopback that takes loopback for its proxy.
fn behind_proxy() -> TrackerConfig {
    TrackerConfig {
        open: true,
        trusted_proxies: vec!["127.0.0.0/8".parse().expect("a network")],
        ..config()
    }
}

fn announce(port: u16) -> String {
    let request = AnnounceRequest {
        left: Some(1),
        ..AnnounceRequest::new(SwarmId::new([0xe9; 20]), PeerId::new([7; 20]), port)
    };
    format!("/announce?{}", encode_query(&request))
}

fn peers(reply: &Reply) -> AnnounceReply {
    assert_eq!(reply.status, 200, "{reply:?}");
    decode_reply(&reply.body).expect("a good reply")
}

/// A bridge that holds bundle 1 and has proven itself, announced with these header fields; its URL.
async fn listed_bridge(addr: SocketAddr, fields: &str) -> String {
    // The content of every file of a test site is its path, and each has but this one.
    let bridge = FakeBridge::start(1, |_| Shown::Page("/index.html".to_owned())).await;
    let volunteer = AnnounceRequest {
        left: Some(0),
        bridge: Some(BridgeOffer {
            key: Some(bridge.key.public()),
            ..BridgeOffer::new(bridge.addr.port())
        }),
        ..AnnounceRequest::new(v1(1), PeerId::new([1; 20]), 2001)
    };
    let target = format!("/announce?{}", encode_query(&volunteer));
    assert_eq!(peers(&get_with(addr, &target, fields).await).warning, None);
    let from = Instant::now();
    while !get(addr, "/metrics")
        .await
        .text()
        .contains("\nswarm_tracker_bridges 1\n")
    {
        assert!(from.elapsed() < Duration::from_secs(5), "not listed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    format!("http://{}", bridge.addr)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_behind_the_operators_proxy_have_their_own_addresses() {
    let (tracker, _shutdown) = start(behind_proxy()).await;
    let addr = tracker.http_addr();
    let fields = "Host: t\r\nX-Forwarded-For: 198.51.100.9, 203.0.113.7\r\n";
    peers(&get_with(addr, &announce(2001), fields).await);
    let fields = "Host: t\r\nForwarded: for=\"[2001:db8::7]:4711\";proto=https\r\n";
    peers(&get_with(addr, &announce(2002), fields).await);
    let fields = "Host: t\r\nX-Forwarded-For: 192.0.2.1\r\n";
    let mut found = peers(&get_with(addr, &announce(2003), fields).await).peers;
    found.sort();
    let expected = ["203.0.113.7:2001", "[2001:db8::7]:2002"];
    assert_eq!(found, expected.map(|peer| peer.parse().expect("a peer")));
    // A proxy that does not say who asks makes nobody a peer.
    for bad in ["unknown", "_x", "203.0.113.7, -", "0.0.0.0"] {
        let fields = format!("Host: t\r\nX-Forwarded-For: {bad}\r\n");
        let reply = get_with(addr, &announce(2004), &fields).await;
        assert_eq!(reply.status, 400, "{bad}");
    }
    assert_eq!(tracker.totals().peers, 3);
    let figures = get(addr, "/metrics").await.text();
    assert!(figures.contains("\nswarm_tracker_proxies_refused_total 4\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_too_much_through_the_proxy_is_refused_and_nobody_else() {
    let mut config = behind_proxy();
    config.announce.per_address_rate = 3;
    config.connections.per_address_max = 1;
    let (tracker, _shutdown) = start(config).await;
    let addr = tracker.http_addr();
    let greedy = "Host: t\r\nX-Forwarded-For: 203.0.113.7\r\n";
    let mut refused = 0;
    for _ in 0..30 {
        let reply = get_with(addr, &announce(2001), greedy).await;
        refused += usize::from(reply.text().contains("too many requests"));
    }
    assert!(refused >= 15, "{refused}");
    let other = "Host: t\r\nX-Forwarded-For: 198.51.100.7\r\n";
    peers(&get_with(addr, &announce(2001), other).await);
    // Of its connections there may be many.
    let held: Vec<_> = (0..5).map(|_| connect(addr)).collect();
    assert_eq!(get(addr, "/healthz").await.status, 200);
    drop(held);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn visitors_behind_the_proxy_are_sent_where_they_can_reach() {
    let site = TestSite::new("example.org", 1);
    let mut config = config();
    config.site_keys.insert(site.name.clone(), site.root());
    config.trusted_proxies = vec!["127.0.0.2/32".parse().expect("a network")];
    let (tracker, _shutdown) = start(config).await;
    let addr = tracker.http_addr();
    let record = site.record(1, unix(), &[("/index.html", 1)]);
    tracker.register_site(record).await.expect("good");
    let base = listed_bridge(addr, "Host: t\r\n").await;
    let bridge = format!("{base}/example.org/");
    let bridge = bridge.as_str();
    let home = "http://example.org/?spikeswarm=home";
    for (connection, says, location) in [
        ([127, 0, 0, 1], "127.0.0.9", bridge),
        ([127, 0, 0, 2], "127.0.0.9", bridge),
        ([127, 0, 0, 2], "203.0.113.9", home),
        // Not the operator's proxy: not believed.
        ([127, 0, 0, 3], "203.0.113.9", bridge),
    ] {
        let fields = format!("Host: t\r\nX-Forwarded-For: {says}\r\n");
        let reply = get_from(connection, addr, "/r/http://example.org/", &fields).await;
        assert_eq!(
            reply.header("location"),
            location,
            "{says} by {connection:?}"
        );
        let reply = get_from(connection, addr, "/lookup?url=example.org", &fields).await;
        let named = reply.text().contains(&base);
        assert_eq!(named, location == bridge, "{says} by {connection:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sites_own_name_is_the_sites_and_any_other_the_trackers() {
    let site = TestSite::new("example.org", 1);
    let mut config = config();
    config.site_keys.insert(site.name.clone(), site.root());
    let home = "https://origin.example.org".parse().expect("a home");
    config.homes.insert(site.name.clone(), home);
    let (tracker, _shutdown) = start(config).await;
    let addr = tracker.http_addr();
    let record = site.record(1, unix(), &[("/index.html", 1)]);
    tracker.register_site(record).await.expect("good");
    let named = "Host: example.org\r\n";
    for target in [
        "/",
        "/metrics",
        "/healthz",
        "/swarm/sites",
        "/robots.txt",
        "/announce",
    ] {
        let reply = get_with(addr, target, named).await;
        assert_eq!(reply.status, 302, "{target}");
        let home = format!("https://origin.example.org{target}?spikeswarm=home&spikeswarm=home");
        assert_eq!(reply.header("location"), home);
    }
    // Peers may know the tracker by the site's name.
    let bridge = listed_bridge(addr, named).await;
    let reply = get_with(addr, "/", named).await;
    assert_eq!(reply.header("location"), format!("{bridge}/example.org/"));
    // At any other name the tracker answers for itself.
    let reply = get_with(addr, "/", "Host: other.example\r\n").await;
    assert!(reply.status == 200 && reply.text().contains("Spikeswarm tracker"));
    let reply = get_with(addr, "/a/page", "Host: other.example\r\n").await;
    assert!(reply.status == 404 && reply.text().contains("neither registered"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_face_is_there_and_loads_nothing_from_elsewhere() {
    let (tracker, shutdown) = start(config()).await;
    let addr = tracker.http_addr();
    for (target, media_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/?part=main", "text/html; charset=utf-8"),
        ("/status.css", "text/css; charset=utf-8"),
        ("/status.js", "text/javascript; charset=utf-8"),
        ("/api/v1/status", "application/json"),
        ("/metrics", "text/plain; version=0.0.4"),
        ("/healthz", "text/plain; charset=utf-8"),
        ("/readyz", "text/plain; charset=utf-8"),
    ] {
        let reply = get(addr, target).await;
        assert_eq!(
            (reply.status, reply.header("content-type")),
            (200, media_type)
        );
        let text = reply.text();
        assert!(
            !text.contains("://") && !text.contains("url(//"),
            "{target}: {text}"
        );
    }
    let page = get(addr, "/").await;
    assert_eq!(page.header("cache-control"), "no-store");
    assert!(
        page.header("content-security-policy")
            .contains("default-src 'none'")
    );
    assert_eq!(tracker.unready(), None);
    // The connection that is open when it stops learns that it is not ready.
    let late = tokio::task::spawn_blocking(move || {
        let mut stream = connect(addr);
        stream
            .write_all(b"GET /swarm/sites?since=1 HTTP/1.1\r\nHost: t\r\n\r\n")
            .expect("open");
        read_reply(&mut stream).expect("an answer");
        stream.write_all(b"GET /readyz HTTP/1.1\r\n").expect("open");
        std::thread::sleep(Duration::from_millis(100));
        shutdown.cancel();
        std::thread::sleep(Duration::from_millis(100));
        stream.write_all(b"Host: t\r\n\r\n").expect("open");
        read_reply(&mut stream).map(|reply| (reply.status, reply.text()))
    });
    let late = late.await.expect("no panic");
    // Or hyper closes what it takes for idle: both say that there is nothing more to be had.
    assert!(late.is_none_or(|late| late == (503, "stopping\n".into())));
    assert_eq!(tracker.unready(), Some("stopping"));
}
