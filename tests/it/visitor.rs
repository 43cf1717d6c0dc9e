//! A visitor with nothing but HTTP, at a bridge and at the tracker's redirect.

use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use swarm_e2e::http::{raw, send};
use swarm_e2e::process::run_ok;
use swarm_e2e::{Proc, Tree, get, small_site};

use crate::{Published, SOON, publish, seed, text, tracker};

const HOST: &str = "visitor.test";
const LABEL: &str = "visitor-test.localhost";

struct Carried {
    scratch: tempfile::TempDir,
    published: Published,
    truth: Tree,
    tracker_addr: SocketAddr,
    http: SocketAddr,
    bridge: Proc,
    _running: Vec<Proc>,
}

/// A site published and registered, one seed, and a bridge that holds nothing yet.
fn carried() -> Carried {
    let scratch = tempfile::tempdir().expect("scratch");
    let root = scratch.path().join("root");
    small_site(&root);
    let published = publish(
        scratch.path(),
        &format!("http://{HOST}"),
        &root,
        &["--bundle-target", "2MiB"],
    );
    let key = format!("{HOST}={}", published.root_key());
    let (tracker, announce) = tracker(&["--site-key", &key]);
    let keys = scratch.path().join("keys");
    run_ok(
        "swarm-peer",
        [
            "publish",
            "--site",
            &format!("http://{HOST}"),
            "--root",
            text(&root),
            "--out",
            text(&published.out),
            "--keys",
            text(&keys),
            "--bundle-target",
            "2MiB",
            "--tracker",
            &announce,
            "--register",
        ],
    );
    let (seed, _) = seed(&[text(&published.out)], &[]);
    let store = scratch.path().join("store");
    let args = [
        "run",
        "--json",
        "--tracker",
        &announce,
        "--site",
        HOST,
        "--site-key",
        &key,
        "--listen",
        "127.0.0.1:0",
        "--peer-listen",
        "127.0.0.1:0",
        "--domain",
        "localhost",
        "--store",
        text(&store),
    ];
    let mut bridge = Proc::start("webseed-bridge", args);
    let listening = bridge.event("listening", SOON);
    let http = listening["http"]
        .as_str()
        .expect("an address")
        .parse()
        .expect("an address");
    let tracker_addr = announce
        .trim_start_matches("http://")
        .trim_end_matches("/announce")
        .parse()
        .expect("an address");
    Carried {
        truth: Tree::of(&root),
        scratch,
        published,
        tracker_addr,
        http,
        bridge,
        _running: vec![tracker, seed],
    }
}

/// `/a b` as a URL has it.
fn target(path: &str) -> String {
    path.bytes().fold(String::from("/"), |mut url, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            url.push(char::from(byte));
        } else {
            url.push_str(&format!("%{byte:02X}"));
        }
        url
    })
}

#[test]
fn every_file_of_the_site_is_right_through_a_bridge_and_through_the_tracker() {
    let site = carried();
    let root = site.scratch.path().join("root");
    for path in site.truth.0.keys() {
        let right = fs::read(root.join(path)).expect("it was published");
        let reply = get(site.http, LABEL, &target(path));
        assert_eq!(reply.status, 200, "{path}: {}", site.bridge.said());
        assert!(reply.body == right, "{path}: wrong bytes");
        assert_eq!(reply.header("x-content-type-options"), "nosniff", "{path}");
        let by_path = get(
            site.http,
            &site.http.to_string(),
            &format!("/{HOST}{}", target(path)),
        );
        assert!(
            by_path.status == 200 && by_path.body == right,
            "{path} by path: {}",
            by_path.status
        );
    }
    range_and_conditions(&site);
    let reply = get(site.http, LABEL, "/pages/p3");
    assert!((301..=308).contains(&reply.status), "{reply:?}");
    assert!(
        reply.header("location").ends_with("/pages/p3/"),
        "{reply:?}"
    );
    assert_eq!(get(site.http, LABEL, "/pages/p3/").status, 200);
    assert_eq!(get(site.http, LABEL, "/.secret").status, 404);
    assert_eq!(get(site.http, LABEL, "/no-such-page").status, 404);
    redirects(&site);
    no_open_proxy(&site);
    assert!(site.published.torrents().len() > 1);
}

fn range_and_conditions(site: &Carried) {
    let right =
        fs::read(site.scratch.path().join("root/media/large.bin")).expect("it was published");
    let large = "/media/large.bin";
    let len = right.len();
    for (range, from, to) in [
        ("bytes=0-0", 0, 1),
        ("bytes=1000000-1999999", 1_000_000, 2_000_000),
        ("bytes=-500", len - 500, len),
        ("bytes=2999999-", 2_999_999, len),
        ("bytes=2999000-99999999", 2_999_000, len),
    ] {
        let reply = send(site.http, "GET", LABEL, large, &[("Range", range)]);
        assert_eq!(reply.status, 206, "{range}: {reply:?}");
        assert!(reply.body == right[from..to], "{range}: wrong bytes");
        assert_eq!(
            reply.header("content-range"),
            format!("bytes {from}-{}/{len}", to - 1)
        );
    }
    let reply = send(
        site.http,
        "GET",
        LABEL,
        large,
        &[("Range", "bytes=3000000-")],
    );
    assert_eq!(
        (reply.status, reply.header("content-range")),
        (416, "bytes */3000000")
    );
    let head = send(site.http, "HEAD", LABEL, large, &[]);
    assert_eq!(
        (head.status, head.header("content-length")),
        (200, "3000000")
    );
    let etag = head.header("etag").to_owned();
    assert!(etag.starts_with('"'), "a strong ETag: {etag}");
    assert_eq!(
        send(site.http, "GET", LABEL, large, &[("If-None-Match", &etag)]).status,
        304
    );
    let other = send(
        site.http,
        "GET",
        LABEL,
        large,
        &[("If-Range", "\"other\""), ("Range", "bytes=0-9")],
    );
    assert_eq!((other.status, other.body.len()), (200, len));
    let brotli = send(
        site.http,
        "GET",
        LABEL,
        "/css/site.css",
        &[("Accept-Encoding", "br")],
    );
    assert_eq!(brotli.header("content-encoding"), "br", "{brotli:?}");
    assert!(
        brotli
            .header("vary")
            .to_ascii_lowercase()
            .contains("accept-encoding")
    );
    assert_ne!(
        brotli.header("etag"),
        get(site.http, LABEL, "/css/site.css").header("etag")
    );
    assert!(brotli.header("content-type").starts_with("text/css"));
}

fn redirects(site: &Carried) {
    let tracker = site.tracker_addr;
    let host = tracker.to_string();
    let page = format!("/r/http://{HOST}/pages/p1/");
    // The bridge is listed once the tracker has called it back; until then visitors go home.
    let asked_at = Instant::now();
    let mut reply = get(tracker, &host, &page);
    while reply.header("location").contains("spikeswarm=home") && asked_at.elapsed() < SOON {
        std::thread::sleep(Duration::from_millis(50));
        reply = get(tracker, &host, &page);
    }
    assert_eq!(reply.status, 302, "{reply:?}");
    assert_eq!(
        reply.header("location"),
        format!("http://{LABEL}:{}/pages/p1/", site.http.port())
    );
    assert!(reply.header("cache-control").contains("no-store"));
    assert_eq!(get(tracker, &host, "/r/http://unknown.test/").status, 404);
    let home = get(
        tracker,
        &host,
        &format!("/r/http://{HOST}/not-in-the-manifest"),
    );
    assert!(
        home.status == 302
            && home
                .header("location")
                .starts_with(&format!("http://{HOST}/")),
        "{home:?}"
    );
}

fn no_open_proxy(site: &Carried) {
    let ask = |request: &str| {
        String::from_utf8_lossy(&raw(site.http, request.as_bytes()).expect("an answer"))
            .into_owned()
    };
    for request in [
        "CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: 127.0.0.1:22\r\nConnection: close\r\n\r\n",
        "GET http://elsewhere.test/ HTTP/1.1\r\nHost: elsewhere.test\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: evil-visitor-test.localhost\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: visitor-test.localhost.evil.test\r\nConnection: close\r\n\r\n",
        "GET /elsewhere.test/index.html HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: visitor-test.localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        "GET /../../etc/passwd HTTP/1.1\r\nHost: visitor-test.localhost\r\nConnection: close\r\n\r\n",
        "GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nHost: visitor-test.localhost\r\nConnection: close\r\n\r\n",
    ] {
        let answer = ask(request);
        assert!(answer.starts_with("HTTP/1.1 4"), "{request:?}: {answer}");
    }
}
