//! In calm the gate is a plain reverse proxy, and a strict one.

mod support;

use std::time::Duration;

use support::{Origin, Scene, get, raw};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

async fn scene(origin: &Origin) -> Scene {
    Scene::start(origin.addr, |_, _| {}).await
}

fn answer(head: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

#[tokio::test]
async fn a_request_arrives_as_it_was_sent_but_for_this_hop() {
    let origin = Origin::start(|_| {
        b"HTTP/1.1 200 OK\r\nConnection: x-hop\r\nX-Hop: 1\r\nX-End: 2\r\nETag: \"e\"\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 2\r\n\r\nhi".to_vec()
    })
    .await;
    let scene = scene(&origin).await;
    let request = "GET /a%20b?q=1&spikeswarm=home HTTP/1.1\r\nHost: site.example\r\nCookie: s=1\r\nX-Secret: 1\r\n\
                   Connection: close, X-Secret\r\nKeep-Alive: 5\r\nTE: trailers\r\nUpgrade: h2c\r\nProxy-Connection: x\r\n\
                   X-Forwarded-For: 10.0.0.1\r\nAccept-Encoding: br\r\n\r\n";
    let reply = raw(scene.gate.addr(), request.as_bytes()).await;
    assert_eq!((reply.status, reply.text().as_str()), (200, "hi"));
    assert_eq!(reply.header("etag"), Some("\"e\""));
    assert_eq!(reply.header("x-end"), Some("2"));
    assert_eq!(reply.header("x-hop"), None);
    assert_eq!(reply.head.matches("set-cookie").count(), 2);
    let seen = origin.seen().remove(0).to_ascii_lowercase();
    assert!(seen.starts_with("get /a%20b?q=1 http/1.1\r\n"), "{seen}");
    for there in [
        "host: site.example\r\n",
        "cookie: s=1\r\n",
        "accept-encoding: br\r\n",
        "x-forwarded-for: 127.0.0.1\r\n",
        "x-forwarded-proto: http\r\n",
        "x-forwarded-host: site.example\r\n",
        "via: 1.1 spike-gate\r\n",
    ] {
        assert!(seen.contains(there), "{there:?} in {seen}");
    }
    for gone in [
        "x-secret",
        "keep-alive: 5",
        "te: ",
        "upgrade",
        "proxy-connection",
        "10.0.0.1",
    ] {
        assert!(!seen.contains(gone), "{gone:?} in {seen}");
    }
}

#[tokio::test]
async fn heads_and_not_modified_pass_without_a_body() {
    let origin = Origin::start(|request| {
        if request.starts_with("HEAD") {
            b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\nETag: \"e\"\r\n\r\n".to_vec()
        } else {
            b"HTTP/1.1 304 Not Modified\r\nETag: \"e\"\r\n\r\n".to_vec()
        }
    })
    .await;
    let scene = scene(&origin).await;
    let head = b"HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let reply = raw(scene.gate.addr(), head).await;
    assert_eq!((reply.status, reply.body.len()), (200, 0));
    assert_eq!(reply.header("content-length"), Some("12345"));
    let reply = get(scene.gate.addr(), "/", &[("If-None-Match", "\"e\"")]).await;
    assert_eq!((reply.status, reply.body.len()), (304, 0));
    assert_eq!(reply.header("etag"), Some("\"e\""));
    assert!(
        origin.seen()[1]
            .to_ascii_lowercase()
            .contains("if-none-match: \"e\"")
    );
}

#[tokio::test]
async fn bodies_stream_both_ways_before_they_are_complete() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut seen = Vec::new();
        let mut buf = [0; 1024];
        // Answers as soon as the first half of the request's body is here.
        while !seen.ends_with(b"first\r\n") {
            let count = stream.read(&mut buf).await.unwrap();
            seen.extend_from_slice(&buf[..count]);
        }
        let half = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
        stream.write_all(half).await.unwrap();
        while !seen.ends_with(b"0\r\n\r\n") {
            let count = stream.read(&mut buf).await.unwrap();
            seen.extend_from_slice(&buf[..count]);
        }
        stream.write_all(b"5\r\nworld\r\n0\r\n\r\n").await.unwrap();
    });
    let scene = Scene::start(addr, |_, _| {}).await;
    let mut stream = TcpStream::connect(scene.gate.addr()).await.unwrap();
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n";
    stream.write_all(head).await.unwrap();
    let mut seen = Vec::new();
    let mut buf = [0; 1024];
    while !String::from_utf8_lossy(&seen).contains("hello") {
        let count = stream.read(&mut buf).await.unwrap();
        assert_ne!(count, 0);
        seen.extend_from_slice(&buf[..count]);
    }
    stream.write_all(b"6\r\nsecond\r\n0\r\n\r\n").await.unwrap();
    while !String::from_utf8_lossy(&seen).contains("world") {
        let count = stream.read(&mut buf).await.unwrap();
        assert_ne!(count, 0);
        seen.extend_from_slice(&buf[..count]);
    }
}

#[tokio::test]
async fn an_origin_that_is_gone_or_silent_is_said_so() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = gone.local_addr().unwrap();
    drop(gone);
    let scene = Scene::start(addr, |_, _| {}).await;
    assert_eq!(get(scene.gate.addr(), "/?secret=1", &[]).await.status, 502);
    assert_eq!(scene.gate.stats().origin_failures, 1);
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = silent.local_addr().unwrap();
    let scene = Scene::start(addr, |config, _| {
        config.upstream.head_timeout = Duration::from_millis(300);
    })
    .await;
    assert_eq!(get(scene.gate.addr(), "/", &[]).await.status, 504);
}

#[tokio::test]
async fn an_answer_cut_short_is_not_passed_off_as_whole() {
    let origin =
        Origin::start(|_| b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf".to_vec()).await;
    let scene = scene(&origin).await;
    let mut stream = TcpStream::connect(scene.gate.addr()).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    let mut bytes = Vec::new();
    // The connection ends, by close or reset, with less than was promised.
    let _ = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut bytes))
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&bytes);
    assert!(
        text.contains("content-length: 100") && text.ends_with("half") || text.is_empty(),
        "{text}"
    );
}

#[tokio::test]
async fn doubtful_requests_end_at_the_gate() {
    let origin = Origin::start(|_| answer("200 OK", "ok")).await;
    let scene = scene(&origin).await;
    let host = "Host: a\r\n";
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let refused = [
        "GET / HTTP/1.1\r\n\r\n".to_owned(),
        format!("GET / HTTP/1.1\r\n{host}{host}\r\n"),
        "GET / HTTP/1.1\r\nHost: a b\r\n\r\n".to_owned(),
        format!("GET http://other/ HTTP/1.1\r\n{host}\r\n"),
        format!("TRACE / HTTP/1.1\r\n{host}Connection: close\r\n\r\n"),
        "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n".to_owned(),
        format!(
            "POST / HTTP/1.1\r\n{host}Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello{smuggled}"
        ),
        format!("POST / HTTP/1.1\r\n{host}Content-Length: +5\r\n\r\nhello{smuggled}"),
        format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{smuggled}"),
        format!(
            "POST / HTTP/1.1\r\n{host}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n{smuggled}"
        ),
        format!(
            "POST / HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n{smuggled}"
        ),
        format!(
            "POST / HTTP/1.1\r\n{host}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}"
        ),
        format!("POST / HTTP/1.0\r\n{host}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}"),
        format!("GET / HTTP/1.1\r\n{host}Broken Name: 1\r\n\r\n"),
        format!("GET / HTTP/1.1\r\n{host}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n{smuggled}"),
        format!("GET  / HTTP/1.1\r\n{host}\r\n"),
    ];
    for request in &refused {
        let before = origin.seen().len();
        let reply = raw(scene.gate.addr(), request.as_bytes()).await;
        assert!(
            matches!(reply.status, 400 | 405),
            "{request:?} was answered {}",
            reply.head
        );
        assert_eq!(
            origin.seen().len(),
            before,
            "{request:?} reached the origin"
        );
    }
    let seen = origin.seen().concat();
    assert!(!seen.contains("smuggled"), "{seen}");
    // A plain one still passes.
    assert_eq!(get(scene.gate.addr(), "/", &[]).await.status, 200);
}

#[tokio::test]
async fn websockets_are_tunnelled() {
    let origin = Origin::start(|request| {
        assert!(request.to_ascii_lowercase().contains("upgrade: websocket"));
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
            .to_vec()
    })
    .await;
    let scene = scene(&origin).await;
    let mut stream = TcpStream::connect(scene.gate.addr()).await.unwrap();
    let hello = b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    stream.write_all(hello).await.unwrap();
    let mut seen = Vec::new();
    let mut buf = [0; 1024];
    while !seen.ends_with(b"\r\n\r\n") {
        let count = stream.read(&mut buf).await.unwrap();
        assert_ne!(count, 0, "{}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&buf[..count]);
    }
    assert!(String::from_utf8_lossy(&seen).starts_with("HTTP/1.1 101"));
    stream.write_all(b"ping").await.unwrap();
    stream.read_exact(&mut buf[..4]).await.unwrap();
    assert_eq!(&buf[..4], b"ping");
}

#[tokio::test]
async fn bytes_to_visitors_are_counted_as_they_leave() {
    let origin = Origin::start(|_| answer("200 OK", &"x".repeat(100_000))).await;
    let scene = scene(&origin).await;
    let reply = get(scene.gate.addr(), "/", &[]).await;
    assert_eq!(reply.body.len(), 100_000);
    let stats = scene.gate.stats();
    assert_eq!(stats.requests, 1);
    let whole = (reply.head.len() + 4 + reply.body.len()) as u64;
    assert_eq!(stats.passed_bytes, whole);
}
