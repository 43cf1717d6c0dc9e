//! Announce and scrape over real sockets, byte by byte, from good clients and bad.

mod common;

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use common::{Reply, config, connect, get, read_reply, send, start};
use swarm_proto::id::{PeerId, SwarmId};
use swarm_proto::tracker::http::{
    ReplyError, decode_reply, decode_scrape_reply, encode_query, encode_scrape_query,
};
use swarm_proto::tracker::{AnnounceEvent, AnnounceReply, AnnounceRequest, ScrapeRequest};
use swarm_tracker::TrackerConfig;

const THREADS: usize = 4;

fn open() -> TrackerConfig {
    TrackerConfig {
        open: true,
        ..config()
    }
}

fn request(port: u16, left: u64) -> AnnounceRequest {
    AnnounceRequest {
        left: Some(left),
        ..AnnounceRequest::new(SwarmId::new([0xe9; 20]), PeerId::new([7; 20]), port)
    }
}

fn target(request: &AnnounceRequest) -> String {
    format!("/announce?{}", encode_query(request))
}

async fn announce(addr: SocketAddr, request: &AnnounceRequest) -> AnnounceReply {
    let reply = get(addr, &target(request)).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    decode_reply(&reply.body).expect("a good reply")
}

fn failure(reply: &Reply) -> String {
    match decode_reply(&reply.body) {
        Err(ReplyError::Failure { reason, .. }) => reason,
        other => panic!("not a failure: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_meet_over_http() {
    let (tracker, shutdown) = start(open()).await;
    let addr = tracker.http_addr();
    announce(addr, &request(2001, 0)).await;
    let reply = announce(addr, &request(2002, 9)).await;
    assert_eq!((reply.complete, reply.incomplete), (1, 1));
    assert_eq!(reply.peers, [SocketAddr::from(([127, 0, 0, 1], 2001))]);
    let listed = AnnounceRequest {
        compact: false,
        ..request(2002, 9)
    };
    let raw = get(addr, &target(&listed)).await;
    assert!(
        raw.text()
            .contains("5:peersld2:ip9:127.0.0.14:porti2001eee")
    );
    // What the query or a proxy says about the address counts for nothing.
    let victim = "&ip=203.0.113.7&ipv4=203.0.113.7&ipv6=2001:db8::7";
    get(addr, &format!("{}{victim}", target(&request(2003, 9)))).await;
    let forwarded = format!(
        "GET {} HTTP/1.1\r\nHost: t\r\nX-Forwarded-For: 203.0.113.7\r\nX-Real-IP: 203.0.113.7\r\nForwarded: for=203.0.113.7\r\n\r\n",
        target(&request(2004, 9))
    );
    raw_exchange(addr, forwarded.into_bytes()).await;
    let reply = announce(addr, &request(2002, 9)).await;
    assert_eq!(reply.peers.len(), 3);
    assert!(reply.peers.iter().all(|peer| peer.ip().is_loopback()));
    let asked = ScrapeRequest {
        swarm_ids: vec![SwarmId::new([0xe9; 20]), SwarmId::new([1; 20])],
    };
    let raw = get(addr, &format!("/scrape?{}", encode_scrape_query(&asked))).await;
    let files = decode_scrape_reply(&raw.body).expect("a good reply").files;
    assert_eq!(files.len(), 1);
    assert_eq!((files[0].1.complete, files[0].1.incomplete), (1, 3));
    shutdown.cancel();
    tracker.join().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ipv6_peers_are_given_as_such() {
    let mut config = open();
    config.http.push("[::1]:0".parse().expect("an address"));
    let (tracker, _shutdown) = start(config).await;
    let [v4, v6] = *tracker.http_addrs() else {
        panic!("two addresses");
    };
    announce(v6, &request(2006, 0)).await;
    announce(v4, &request(2004, 0)).await;
    for (addr, own) in [(v6, 2007), (v4, 2008)] {
        let stopped = AnnounceRequest {
            event: AnnounceEvent::Stopped,
            ..request(own, 1)
        };
        let mut peers = announce(addr, &request(own, 1)).await.peers;
        peers.sort();
        let both = ["127.0.0.1:2004", "[::1]:2006"].map(|p| p.parse().expect("an address"));
        assert_eq!(peers, both);
        announce(addr, &stopped).await;
    }
}

async fn raw_exchange(addr: SocketAddr, bytes: Vec<u8>) -> Vec<Reply> {
    tokio::task::spawn_blocking(move || {
        let mut stream = connect(addr);
        // A server that has refused may close before it has read all.
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(Shutdown::Write);
        std::iter::from_fn(|| read_reply(&mut stream)).collect()
    })
    .await
    .expect("no panic")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipelined_requests_are_all_answered_in_order() {
    let (tracker, _shutdown) = start(open()).await;
    let addr = tracker.http_addr();
    for port in 2000..2020 {
        announce(addr, &request(port, 0)).await;
    }
    // libtorrent at its end: all its `stopped` at once, then it shuts its side down.
    let bytes: Vec<u8> = (2000..2020)
        .flat_map(|port| {
            let stop = AnnounceRequest {
                event: AnnounceEvent::Stopped,
                ..request(port, 0)
            };
            format!("GET {} HTTP/1.1\r\nHost: t\r\n\r\n", target(&stop)).into_bytes()
        })
        .collect();
    let replies = raw_exchange(addr, bytes).await;
    assert_eq!(replies.len(), 20);
    let left: Vec<u32> = replies
        .iter()
        .map(|reply| decode_reply(&reply.body).expect("good").complete)
        .collect();
    assert_eq!(left, (0..20).rev().collect::<Vec<u32>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_serves_many_requests_however_they_are_cut() {
    let (tracker, _shutdown) = start(open()).await;
    let addr = tracker.http_addr();
    let line = format!(
        "GET {} HTTP/1.1\r\nHost: t\r\n\r\n",
        target(&request(2001, 0))
    );
    tokio::task::spawn_blocking(move || {
        let mut stream = connect(addr);
        stream.set_nodelay(true).expect("settable");
        for size in [1, 7, 40, 10_000] {
            for piece in line.as_bytes().chunks(size) {
                stream.write_all(piece).expect("it listens");
            }
            let reply = read_reply(&mut stream).expect("an answer");
            assert_eq!(decode_reply(&reply.body).expect("good").complete, 1);
        }
        // HTTP/1.0 and "close" end it.
        for last in [
            line.replace("HTTP/1.1", "HTTP/1.0"),
            line.replace("Host: t", "Host: t\r\nConnection: close"),
        ] {
            let mut stream = connect(addr);
            stream.write_all(last.as_bytes()).expect("it listens");
            assert!(read_reply(&mut stream).is_some());
            assert!(read_reply(&mut stream).is_none(), "closed");
        }
    })
    .await
    .expect("no panic");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn announces_and_other_requests_are_answered_in_order_on_one_connection() {
    let (tracker, _shutdown) = start(open()).await;
    let addr = tracker.http_addr();
    let line = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: t\r\n\r\n");
    let announce = line(&target(&request(2001, 0)));
    let bytes = [
        &announce,
        &announce,
        &line("/healthz"),
        &announce,
        &line("/nowhere"),
        &announce,
    ];
    let bytes: String = bytes.into_iter().map(String::as_str).collect();
    for size in [1, 100, 10_000] {
        let pieces = bytes.clone().into_bytes();
        let replies = tokio::task::spawn_blocking(move || {
            let mut stream = connect(addr);
            stream.set_nodelay(true).expect("settable");
            for piece in pieces.chunks(size) {
                stream.write_all(piece).expect("it listens");
            }
            stream.shutdown(Shutdown::Write).expect("open");
            std::iter::from_fn(|| read_reply(&mut stream)).collect::<Vec<Reply>>()
        })
        .await
        .expect("no panic");
        let statuses: Vec<u16> = replies.iter().map(|reply| reply.status).collect();
        assert_eq!(
            statuses,
            [200, 200, 200, 200, 404, 200],
            "in pieces of {size}"
        );
        assert_eq!(replies[2].text(), "ok\n");
        for at in [0, 1, 3, 5] {
            assert_eq!(decode_reply(&replies[at].body).expect("good").complete, 1);
            assert!(replies[at].header("date").ends_with(" GMT"));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t55_who_asks_on_and_reads_nothing_is_heard_no_further_and_then_closed() {
    let mut config = open();
    config.connections.write_timeout = Duration::from_millis(700);
    let (tracker, _shutdown) = start(config).await;
    let addr = tracker.http_addr();
    for port in 2000..2200 {
        announce(addr, &request(port, 9)).await;
    }
    // Lists of 200 dictionaries: the longest answers there are.
    let asked = AnnounceRequest {
        numwant: Some(200),
        compact: false,
        ..request(2001, 9)
    };
    let line = format!("GET {} HTTP/1.1\r\nHost: t\r\n\r\n", target(&asked));
    let requests = line.repeat(100).into_bytes();
    let ended = tokio::task::spawn_blocking(move || {
        let mut stream = connect(addr);
        let soon = Some(Duration::from_secs(8));
        stream.set_write_timeout(soon).expect("settable");
        let from = Instant::now();
        let mut written = 0;
        while from.elapsed() < Duration::from_secs(8) {
            match stream.write(&requests) {
                Ok(len) => written += len,
                Err(error) => return (error.kind(), written),
            }
        }
        (std::io::ErrorKind::TimedOut, written)
    });
    let (error, written) = ended.await.expect("no panic");
    let closed = [
        std::io::ErrorKind::ConnectionReset,
        std::io::ErrorKind::BrokenPipe,
    ];
    assert!(closed.contains(&error), "{error:?} after {written} bytes");
    assert!(written < 32 << 20, "{written} bytes were heard");
    assert_eq!(announce(addr, &request(2001, 9)).await.incomplete, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_the_end_idle_connections_are_closed_at_once() {
    let (tracker, shutdown) = start(open()).await;
    let addr = tracker.http_addr();
    let line = format!(
        "GET {} HTTP/1.1\r\nHost: t\r\n\r\n",
        target(&request(2001, 0))
    );
    let idle = tokio::task::spawn_blocking(move || {
        let mut stream = connect(addr);
        stream.write_all(line.as_bytes()).expect("it listens");
        assert!(read_reply(&mut stream).is_some());
        (connect(addr), stream)
    });
    let _idle = idle.await.expect("no panic");
    shutdown.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(5), tracker.join()).await;
    assert!(ended.is_ok(), "it waits for who says nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_announces_get_a_reason_and_leave_nothing() {
    let (tracker, _shutdown) = start(open()).await;
    let addr = tracker.http_addr();
    let good = target(&request(2001, 0));
    let table = [
        ("/announce".to_owned(), "info_hash is missing"),
        (
            good.replace("info_hash", "infohash"),
            "info_hash is missing",
        ),
        (good.replace("%E9%E9", "%E9"), "info_hash must be 20 bytes"),
        (
            good.replace("port=2001", "port=0"),
            "port is not a valid port",
        ),
        (
            good.replace("port=2001", "port=80"),
            "port is below the least this tracker accepts",
        ),
        (
            good.replace("port=2001", "port=70000"),
            "port is not a valid port",
        ),
        (
            good.replace("left=0", "left=x"),
            "left is not a valid number",
        ),
        (format!("{good}&x=%"), "broken percent-encoding"),
        (
            format!("{good}&x={}", "a".repeat(9000)),
            "query is too long",
        ),
    ];
    for (target, reason) in table {
        let reply = get(addr, &target).await;
        assert_eq!(reply.status, 200);
        assert_eq!(failure(&reply), reason, "{target}");
    }
    let refused = get(addr, "/scrape").await;
    assert_eq!(failure(&refused), "info_hash is missing");
    assert_eq!(tracker.totals().peers, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rubbish_ends_the_connection_and_nothing_else() {
    let (tracker, _shutdown) = start(open()).await;
    let addr = tracker.http_addr();
    let endless = format!("GET /announce?{} HTTP/1.1\r\n\r\n", "a".repeat(100_000));
    let headers = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(500));
    let mut rubbish: Vec<Vec<u8>> = [
        "\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "GET /announce?info_hash=\u{7f}\0 HTTP/1.1\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}",
        "BitTorrent protocol\0\0\0\0\0\0\0\0",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "POST /swarm/alarm HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        "POST /swarm/alarm HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        "POST /swarm/alarm HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "POST /swarm/alarm HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        &endless,
        &headers,
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect();
    rubbish.push(vec![0xff; 70_000]);
    rubbish.push(vec![0; 70_000]);
    for bytes in rubbish {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
        for reply in raw_exchange(addr, bytes).await {
            assert!((400..500).contains(&reply.status), "{shown:?}: {reply:?}");
        }
    }
    for (method, target, status) in [
        ("POST", "/announce", 405),
        ("DELETE", "/swarm/site", 405),
        ("GET", "/swarm/alarm", 405),
        ("PUT", "/r/http://x.org/", 404),
        ("TRACE", "/r/http://x.org/", 405),
        ("GET", "/nowhere", 404),
        ("GET", "/announce/", 404),
        ("GET", "/r", 404),
        ("CONNECT", "x.org:80", 404),
    ] {
        let reply = send(addr, method, target, b"").await;
        assert_eq!(reply.status, status, "{method} {target}");
    }
    assert_eq!(announce(addr, &request(2001, 0)).await.complete, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_and_idle_clients_are_closed() {
    let mut config = open();
    config.connections.head_timeout = Duration::from_millis(400);
    config.connections.body_timeout = Duration::from_millis(400);
    let (tracker, _shutdown) = start(config).await;
    let addr = tracker.http_addr();
    tokio::task::spawn_blocking(move || {
        let begins = [
            // Says nothing; begins a head and goes on a byte at a time; idles after an answer.
            "",
            "GET / HTTP/1.1\r\nA: ",
            "GET /healthz HTTP/1.1\r\nHost: t\r\n\r\n",
        ];
        std::thread::scope(|scope| {
            for begin in begins {
                scope.spawn(move || {
                    let mut stream = connect(addr);
                    stream.write_all(begin.as_bytes()).expect("it listens");
                    let from = Instant::now();
                    let mut ended = false;
                    while from.elapsed() < Duration::from_secs(8) && !ended {
                        if begin.ends_with("A: ") {
                            ended = stream.write_all(b"a").is_err();
                        } else {
                            let mut rest = Vec::new();
                            ended = stream.read_to_end(&mut rest).is_ok();
                        }
                        std::thread::sleep(Duration::from_millis(20));
                    }
                    assert!(ended, "{begin:?} was never closed");
                });
            }
            scope.spawn(move || {
                let mut stream = connect(addr);
                let head = "POST /swarm/alarm HTTP/1.1\r\nHost: t\r\nContent-Length: 9\r\n\r\nabc";
                stream.write_all(head.as_bytes()).expect("it listens");
                assert_eq!(read_reply(&mut stream).map(|reply| reply.status), Some(408));
            });
        });
    })
    .await
    .expect("no panic");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_the_limit_of_connections_more_wait_their_turn() {
    let mut config = open();
    config.connections.max = THREADS;
    config.connections.head_timeout = Duration::from_millis(500);
    let (tracker, _shutdown) = start(config).await;
    let addr = tracker.http_addr();
    let held: Vec<_> = (0..THREADS).map(|_| connect(addr)).collect();
    // All slots are taken by clients that say nothing; they run out, and this one is served.
    assert_eq!(get(addr, "/healthz").await.text(), "ok\n");
    drop(held);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_and_the_figures_are_there() {
    let (tracker, _shutdown) = start(open()).await;
    let addr = tracker.http_addr();
    announce(addr, &request(2001, 0)).await;
    let page = get(addr, "/").await;
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    assert!(page.text().contains("No site is in need"));
    let figures = get(addr, "/metrics").await.text();
    assert!(figures.contains("\nswarm_tracker_peers 1\n"), "{figures}");
    assert!(figures.contains("\nswarm_tracker_announces_total 1\n"));
    let head = tokio::task::spawn_blocking(move || {
        let mut stream = connect(addr);
        let request = b"HEAD / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n";
        stream.write_all(request).expect("it listens");
        let mut head = String::new();
        stream.read_to_string(&mut head).expect("an answer");
        head
    });
    let head = head.await.expect("no panic");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(head.ends_with("\r\n\r\n"), "no body: {head}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_in_use_is_said() {
    let (tracker, _shutdown) = start(open()).await;
    let taken = TrackerConfig {
        http: vec![tracker.http_addr()],
        ..config()
    };
    let again = swarm_tracker::Tracker::start(taken, Default::default()).await;
    let line = again.expect_err("in use").to_string();
    assert!(line.contains(&tracker.http_addr().to_string()), "{line}");
}
