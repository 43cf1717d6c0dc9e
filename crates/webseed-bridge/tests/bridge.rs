//! A bridge that holds nothing, a seed that holds a site, and visitors between them; all in one
//! process, over loopback.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, ETAG, HeaderName, IF_NONE_MATCH, RANGE};
use http::{HeaderMap, HeaderValue, Method};
use swarm_peer::connector::{AddressPolicy, Trust};
use swarm_peer::http::{HttpClient, HttpError, Response};
use swarm_peer::publish::Published;
use swarm_peer::uplink::Uplink;
use swarm_peer::{AddBundle, Node, NodeConfig, Storage};
use swarm_proto::id::Digest;
use swarm_proto::manifest::SiteName;
use tokio_util::sync::CancellationToken;
use webseed_bridge::config::JoinConfig;
use webseed_bridge::plain::{carry_published, publish_folder};
use webseed_bridge::{Bridge, BridgeConfig, BridgeHandle, Carry, Standing};

const SITE: &str = "in.test";
const HOST: &str = "in-test.localhost";

/// What the folder holds, by path within the site.
fn make_site(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let noise = |len: usize, seed: u32| -> Vec<u8> {
        let mut state = seed;
        std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .take(len)
        .collect()
    };
    let text = "<p>The quick brown fox jumps over the lazy dog.</p>\n".repeat(400);
    let files: BTreeMap<String, Vec<u8>> = [
        ("/index.html".into(), text.clone().into_bytes()),
        (
            "/docs/index.html".into(),
            format!("docs {text}").into_bytes(),
        ),
        (
            "/css/site.css".into(),
            "body { color: red }\n".repeat(200).into_bytes(),
        ),
        ("/img/small.png".into(), noise(3000, 1)),
        ("/img/b c \u{e9}.png".into(), noise(20_000, 2)),
        ("/media/large.bin".into(), noise(2_500_000, 3)),
        ("/empty.txt".into(), vec![]),
        ("/404.html".into(), b"<p>not here</p>".to_vec()),
    ]
    .into();
    for (path, bytes) in &files {
        let path = root.join(path.trim_start_matches('/'));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    files
}

struct Swarm {
    dir: tempfile::TempDir,
    shutdown: CancellationToken,
    /// Stops the bridge and leaves the nodes running.
    serving: CancellationToken,
    published: Published,
    seed: Node,
    bridge: BridgeHandle,
    files: BTreeMap<String, Vec<u8>>,
}

impl Drop for Swarm {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

async fn node(uplink: Uplink, shutdown: &CancellationToken) -> Node {
    let config = NodeConfig {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        uplink,
        ..NodeConfig::default()
    };
    Node::start(config, shutdown.child_token()).await.unwrap()
}

/// `seeded`: whether the seed has the bundles, or only listens.
async fn swarm(seeded: bool, standing: Standing, tweak: impl FnOnce(&mut BridgeConfig)) -> Swarm {
    swarm_with(Uplink::unlimited(), seeded, standing, tweak).await
}

async fn swarm_with(
    uplink: Uplink,
    seeded: bool,
    standing: Standing,
    tweak: impl FnOnce(&mut BridgeConfig),
) -> Swarm {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    let files = make_site(&root);
    let site = SiteName::parse(SITE).unwrap();
    let published = publish_folder(site, &root, &dir.path().join("work"))
        .await
        .unwrap();
    let shutdown = CancellationToken::new();
    let seed = node(Uplink::unlimited(), &shutdown).await;
    if seeded {
        for bundle in &published.bundles {
            let paths = bundle.files.clone();
            let mut add = AddBundle::new(bundle.metainfo.clone().into(), Storage::Files { paths });
            add.seed_only = true;
            seed.add(add).await.unwrap();
        }
    }
    let mut config = BridgeConfig {
        join: JoinConfig {
            store: Some(dir.path().join("store")),
            peers: vec![seed.listen_addr()],
            ..JoinConfig::default()
        },
        ..BridgeConfig::default()
    };
    tweak(&mut config);
    let serving = shutdown.child_token();
    let node = node(uplink, &shutdown).await;
    let bridge = Bridge::start(config, node, serving.clone()).await.unwrap();
    let home = Some(format!("https://{SITE}/"));
    let mut carry = Carry::named(&published.record, published.manifest.clone(), home);
    carry.standing = standing;
    bridge.add_site(carry).await.unwrap();
    Swarm {
        dir,
        shutdown,
        serving,
        published,
        seed,
        bridge,
        files,
    }
}

async fn ask(
    bridge: &BridgeHandle,
    method: Method,
    host: &str,
    path: &str,
    fields: &[(HeaderName, &str)],
) -> Result<Response, HttpError> {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(name, HeaderValue::from_str(value).unwrap());
    }
    if !host.is_empty() {
        headers.insert(http::header::HOST, HeaderValue::from_str(host).unwrap());
    }
    let client = HttpClient::new(AddressPolicy::default()).unwrap();
    let url = format!("http://{}{path}", bridge.addr());
    let deadline = Duration::from_secs(30);
    client
        .request(
            method,
            &url,
            headers,
            Bytes::new(),
            1 << 26,
            deadline,
            Trust::CommandLine,
        )
        .await
}

async fn get(bridge: &BridgeHandle, path: &str, fields: &[(HeaderName, &str)]) -> Response {
    ask(bridge, Method::GET, HOST, path, fields).await.unwrap()
}

/// A site path as a URL has it.
fn target(path: &str) -> String {
    swarm_proto::manifest::SitePath::from_decoded(path)
        .unwrap()
        .to_url()
}

fn header(response: &Response, name: impl http::header::AsHeaderName) -> String {
    let value = response.headers.get(name);
    value.map_or_else(String::new, |v| v.to_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_file_comes_out_of_the_swarm_as_it_went_in() {
    let swarm = swarm(true, Standing::Named, |_| {}).await;
    let bridge = &swarm.bridge;
    let first = get(bridge, "/", &[]).await;
    assert!(
        header(&first, "server-timing").starts_with("swarm;"),
        "{first:?}"
    );
    for (path, bytes) in &swarm.files {
        let plain = get(bridge, &target(path), &[]).await;
        assert_eq!(plain.status, 200, "{path}");
        assert_eq!(Digest::of(&plain.body), Digest::of(bytes), "{path}");
        assert_eq!(
            header(&plain, "content-length"),
            bytes.len().to_string(),
            "{path}"
        );
        let by_path = ask(
            bridge,
            Method::GET,
            "",
            &format!("/{SITE}{}", target(path)),
            &[],
        )
        .await;
        assert!(by_path.unwrap().body == *bytes, "{path}");
        let head = ask(bridge, Method::HEAD, HOST, &target(path), &[])
            .await
            .unwrap();
        assert_eq!(
            header(&head, "content-length"),
            bytes.len().to_string(),
            "{path}"
        );
        let etag = header(&plain, ETAG);
        let again = get(bridge, &target(path), &[(IF_NONE_MATCH, &etag)]).await;
        assert_eq!(
            (again.status.as_u16(), again.body.len()),
            (304, 0),
            "{path}"
        );
    }
    let again = get(bridge, "/", &[]).await;
    assert!(
        header(&again, "server-timing").starts_with("store;"),
        "{again:?}"
    );
    let stats = bridge.stats();
    assert!(
        stats.hits > 16 && stats.bytes_served > 5_000_000,
        "{stats:?}"
    );
    assert_eq!(stats.sites[0].site.as_str(), SITE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ranges_are_fetched_first_and_exactly() {
    let swarm = swarm(true, Standing::Named, |_| {}).await;
    let large = &swarm.files["/media/large.bin"];
    for (range, start, end) in [
        ("bytes=2000000-2000999", 2_000_000, 2_001_000),
        ("bytes=-1", 2_499_999, 2_500_000),
        ("bytes=0-", 0, 2_500_000),
    ] {
        let got = get(&swarm.bridge, "/media/large.bin", &[(RANGE, range)]).await;
        assert_eq!(got.status, 206, "{range}");
        assert!(got.body == large[start..end], "{range}");
        assert_eq!(
            header(&got, "content-range"),
            format!("bytes {start}-{}/2500000", end - 1)
        );
    }
    let several = get(
        &swarm.bridge,
        "/media/large.bin",
        &[(RANGE, "bytes=0-9,1000000-1000009")],
    )
    .await;
    assert_eq!(several.status, 206);
    assert!(
        several
            .body
            .windows(10)
            .any(|w| w == &large[1_000_000..1_000_010])
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stored_variants_are_sent_as_they_are() {
    let swarm = swarm(true, Standing::Named, |_| {}).await;
    let plain = get(&swarm.bridge, "/css/site.css", &[]).await;
    assert_eq!(header(&plain, "vary"), "accept-encoding");
    for coding in ["br", "zstd"] {
        let got = get(&swarm.bridge, "/css/site.css", &[(ACCEPT_ENCODING, coding)]).await;
        assert_eq!(header(&got, "content-encoding"), coding);
        assert!(got.body.len() < plain.body.len());
        assert_ne!(header(&got, ETAG), header(&plain, ETAG));
        let path = swarm_proto::manifest::SitePath::parse("/css/site.css").unwrap();
        let variants = &swarm.published.manifest.files[&path].variants;
        let variant = variants
            .iter()
            .find(|v| v.encoding.as_str() == coding)
            .unwrap();
        assert_eq!(Digest::of(&got.body), variant.digest);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_peers_a_visitor_is_told_to_come_again() {
    let swarm = swarm(false, Standing::Named, |config| {
        config.http.first_byte_timeout = Duration::from_millis(300);
    })
    .await;
    let got = get(&swarm.bridge, "/", &[]).await;
    assert_eq!(
        (got.status.as_u16(), header(&got, "retry-after")),
        (504, "5".into())
    );
    // A visitor who gave up takes nothing from those who come when the swarm is there.
    for bundle in &swarm.published.bundles {
        let paths = bundle.files.clone();
        let add = AddBundle::new(bundle.metainfo.clone().into(), Storage::Files { paths });
        swarm.seed.add(add).await.unwrap();
    }
    let mut status = 0;
    for _ in 0..100 {
        status = get(&swarm.bridge, "/", &[]).await.status.as_u16();
        if status == 200 {
            break;
        }
    }
    assert_eq!(status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_alarm_ends_visitors_go_home_and_then_the_site_is_left() {
    let swarm = swarm(true, Standing::Alarmed { until: u64::MAX }, |_| {}).await;
    let site = SiteName::parse(SITE).unwrap();
    let bridge = &swarm.bridge;
    assert_eq!(get(bridge, "/docs/", &[]).await.status, 200);
    bridge.set_standing(&site, Standing::Alarmed { until: 1 }, None);
    // The client would follow.
    let raw = raw(bridge, "GET /docs/?a=b HTTP/1.1").await;
    assert!(raw.starts_with("HTTP/1.1 302 "), "{raw}");
    assert!(
        raw.contains(&format!(
            "location: https://{SITE}/docs/?a=b&spikeswarm=home\r\n"
        )),
        "{raw}"
    );
    bridge.remove_site(&site).await;
    assert_eq!(get(bridge, "/docs/", &[]).await.status, 421);
    assert_eq!(bridge.stats().sites, []);
    assert_eq!(bridge.stats().hits, 1);
    // What was fetched goes too.
    let store = swarm.dir.path().join("store");
    let started = Instant::now();
    while std::fs::read_dir(&store).unwrap().count() > 0 {
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "bundles are still on disk"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn raw(bridge: &BridgeHandle, line: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(bridge.addr()).await.unwrap();
    let request = format!("{line}\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_request_lines_are_refused() {
    let swarm = swarm(true, Standing::Named, |_| {}).await;
    for line in [
        "CONNECT 127.0.0.1:22 HTTP/1.1",
        "GET http://elsewhere.test/ HTTP/1.1",
        "GET https://in.test/ HTTP/1.1",
        "POST / HTTP/1.1",
        "GET /../../etc/passwd HTTP/1.1",
        "GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1",
        "GET / HTTP/1.1\r\nHost: in-test.localhost",
        "GET nonsense",
        "\0\0\0",
    ] {
        let answer = raw(&swarm.bridge, line).await;
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
            "{line}: {answer}"
        );
    }
    let many = format!("GET / HTTP/1.1\r\n{}X: y", "X: y\r\n".repeat(100));
    assert!(raw(&swarm.bridge, &many).await.starts_with("HTTP/1.1 431"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_is_a_plain_web_server_for_any_host() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    let files = make_site(&root);
    let shutdown = CancellationToken::new();
    let _ends = shutdown.clone().drop_guard();
    let config = BridgeConfig {
        any_host: true,
        ..BridgeConfig::default()
    };
    let node = node(Uplink::unlimited(), &shutdown).await;
    let bridge = Bridge::start(config, node.clone(), shutdown.child_token())
        .await
        .unwrap();
    let site = SiteName::parse("localhost").unwrap();
    let published = publish_folder(site, &root, dir.path()).await.unwrap();
    carry_published(&bridge, &node, published).await.unwrap();
    for host in ["any.example", "127.0.0.1:80", ""] {
        for (path, bytes) in &files {
            let got = ask(&bridge, Method::GET, host, &target(path), &[])
                .await
                .unwrap();
            assert!(
                got.status == 200 && got.body == *bytes,
                "{host} {path} {}",
                got.status
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_out_is_paced_and_an_answer_survives_the_stop() {
    // 2.5 MB at 20 Mbit/s are a second.
    let uplink = Uplink::new(20_000_000);
    let swarm = swarm_with(uplink.clone(), true, Standing::Named, |_| {}).await;
    let large = &swarm.files["/media/large.bin"];
    assert!(get(&swarm.bridge, "/media/large.bin", &[]).await.body == *large);
    let before = uplink.sent_total();
    let (bridge, started) = (swarm.bridge.clone(), Instant::now());
    let answer = tokio::spawn(async move { get(&bridge, "/media/large.bin", &[]).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(swarm.bridge.stats().connections, 1);
    swarm.serving.cancel();
    swarm.bridge.join().await;
    assert!(
        started.elapsed() > Duration::from_millis(800),
        "{:?}",
        started.elapsed()
    );
    assert!(answer.await.unwrap().body == *large);
    assert!(uplink.sent_total() - before >= large.len() as u64);
    assert!(
        ask(&swarm.bridge, Method::GET, HOST, "/", &[])
            .await
            .is_err(),
        "no more answers"
    );
}
