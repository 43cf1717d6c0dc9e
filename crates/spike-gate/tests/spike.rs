//! One whole spike in one process: calm, warming, spike, redirect, cooling, calm.

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use spike_gate::{GateEvent, State};
use support::{Origin, Scene, get, raw, until};
use swarm_peer::{Node, NodeConfig};
use swarm_proto::manifest::{Anchor, SiteRecord};
use tokio_util::sync::CancellationToken;
use webseed_bridge::bridge::{Bridge, BridgeHandle, Carry};
use webseed_bridge::config::{BridgeConfig, JoinConfig};

const PAGE: &str = "<!doctype html><html><head><link rel=stylesheet href=/site.css>\
                    <script src=/site.js></script></head><body><img src=/a.png></body></html>";

fn site(root: &Path) {
    std::fs::create_dir_all(root).unwrap();
    std::fs::write(root.join("index.html"), PAGE).unwrap();
    std::fs::write(root.join("site.css"), "body{background:url(a.png)}").unwrap();
    std::fs::write(root.join("site.js"), "console.log('hello')").unwrap();
    std::fs::write(root.join("a.png"), png()).unwrap();
}

fn png() -> Vec<u8> {
    (0..200_000_u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect()
}

async fn origin() -> Origin {
    Origin::start(|request| {
        let path = request.split(' ').nth(1).unwrap_or("/");
        let (media_type, body) = match path {
            "/a.png" => ("image/png", png()),
            "/site.css" => ("text/css", b"body{background:url(a.png)}".to_vec()),
            "/site.js" => ("text/javascript", b"console.log('hello')".to_vec()),
            _ => ("text/html; charset=utf-8", PAGE.as_bytes().to_vec()),
        };
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {media_type}\r\nETag: \"v1\"\r\nLast-Modified: Sun, 22 Nov 2026 12:00:00 GMT\r\n\
             Cache-Control: max-age=600\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        [head.into_bytes(), body].concat()
    })
    .await
}

async fn scene(origin: &Origin) -> Scene {
    Scene::start(origin.addr, |config, scratch| {
        let root = scratch.join("root");
        site(&root);
        config.root = Some(root);
        config.pace.knock_every = Duration::from_millis(100);
        let overload = &mut config.overload;
        overload.sample_every = Duration::from_millis(50);
        overload.rate_window = Duration::from_millis(500);
        overload.trend_window = Duration::from_secs(2);
        overload.warm_after = Duration::from_millis(200);
        overload.spike_after = Duration::from_millis(400);
        overload.spike_within = Duration::from_secs(2);
        overload.relax_after = Duration::from_secs(5);
        overload.end_after = Duration::from_millis(1500);
        overload.spike_least = Duration::from_secs(2);
        overload.cooling_for = Duration::from_secs(1);
    })
    .await
}

/// A volunteer elsewhere: a node and a bridge of its own that fetch from the gate's seed.
async fn volunteer(scene: &Scene, stop: &CancellationToken) -> BridgeHandle {
    let node = NodeConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        ..NodeConfig::default()
    };
    let node = Node::start(node, stop.clone()).await.unwrap();
    let config = BridgeConfig {
        join: JoinConfig {
            trackers: vec![format!("http://{}/announce", scene.tracker.http_addr())],
            offer: true,
            ..JoinConfig::default()
        },
        ..BridgeConfig::default()
    };
    let bridge = Bridge::start(config, node, stop.clone()).await.unwrap();
    let well_known = get(scene.gate.addr(), "/.well-known/swarm/manifest", &[]).await;
    let record = SiteRecord::parse(&well_known.body).unwrap();
    let root = [scene.gate.root_key()];
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let (_, manifest) = record
        .open_from(Anchor::Pinned(&root), scene.gate.site(), now)
        .expect("the gate's record holds");
    bridge
        .add_site(Carry::named(&record, manifest, None))
        .await
        .unwrap();
    bridge
}

const IMAGE: [(&str, &str); 1] = [("Sec-Fetch-Dest", "image")];
const DOCUMENT: [(&str, &str); 1] = [("Sec-Fetch-Dest", "document")];

#[tokio::test(flavor = "multi_thread")]
async fn a_spike_is_carried_by_a_volunteer_and_leaves_nothing_behind() {
    let origin = origin().await;
    let scene = scene(&origin).await;
    let gate = &scene.gate;
    let mut events = gate.events();
    let manifest = gate.published().await.expect("published");
    assert_eq!(manifest.files.len(), 4);
    let stop = CancellationToken::new();
    let volunteer = volunteer(&scene, &stop).await;
    until("the volunteer is known", async || {
        !gate.bridges().is_empty()
    })
    .await;

    // Calm: a bridge stands ready, and nobody is sent there.
    let page = get(gate.addr(), "/", &DOCUMENT).await;
    assert_eq!((page.status, page.text().as_str()), (200, PAGE));
    assert_eq!(page.header("etag"), Some("\"v1\""));
    assert_eq!(get(gate.addr(), "/a.png", &IMAGE).await.body, png());
    assert_eq!(
        get(gate.addr(), "/.well-known/swarm/alarm", &[])
            .await
            .status,
        204
    );
    assert_eq!(gate.state(), State::Calm);

    // The wave: one visitor after the other for a large picture.
    let wave_stop = CancellationToken::new();
    let (wave, addr) = (wave_stop.clone(), gate.addr());
    let crowd = tokio::spawn(async move {
        let mut redirects = 0;
        while !wave.is_cancelled() {
            let reply = get(addr, "/a.png", &IMAGE).await;
            match reply.status {
                302 => redirects += 1,
                status => assert_eq!((status, reply.body.len()), (200, png().len())),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        redirects
    });
    until("spike", async || gate.state() == State::Spike).await;
    assert_eq!(
        get(gate.addr(), "/.well-known/swarm/alarm", &[])
            .await
            .status,
        200
    );
    until("in need", async || {
        !scene.tracker.sites_in_need().sites.is_empty()
    })
    .await;
    until("redirected", async || {
        get(gate.addr(), "/a.png", &IMAGE).await.status == 302
    })
    .await;

    let host = format!(
        "http://{}.localhost:{}",
        gate.site().label(),
        volunteer.addr().port()
    );
    let reply = get(gate.addr(), "/a.png", &IMAGE).await;
    assert_eq!(
        reply.header("location"),
        Some(format!("{host}/a.png").as_str())
    );
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    assert_eq!(reply.header("set-cookie"), None);
    let bridge_host = host.trim_start_matches("http://");
    let request =
        format!("GET /a.png HTTP/1.1\r\nHost: {bridge_host}\r\nConnection: close\r\n\r\n");
    assert_eq!(raw(volunteer.addr(), request.as_bytes()).await.body, png());

    let page = get(gate.addr(), "/", &DOCUMENT).await;
    let html = page.text();
    for moved in ["a.png", "site.css", "site.js"] {
        assert!(
            html.contains(&format!("{host}/{moved}")),
            "{moved} in {html}"
        );
    }
    assert_eq!(html.matches("integrity=\"sha256-").count(), 2, "{html}");
    assert!(
        html.contains("data-spikeswarm-banner") && html.ends_with("</body></html>"),
        "{html}"
    );
    assert_eq!(
        (page.header("etag"), page.header("last-modified")),
        (None, None)
    );
    assert_eq!(page.header("cache-control"), Some("private, no-cache"));
    let home = get(gate.addr(), "/a.png?spikeswarm=home", &IMAGE).await;
    assert_eq!((home.status, home.body.len()), (200, png().len()));
    for (path, dest) in [
        ("/site.js", "script"),
        ("/site.css", "style"),
        ("/site.js", "image"),
    ] {
        assert_eq!(
            get(gate.addr(), path, &[("Sec-Fetch-Dest", dest)])
                .await
                .status,
            200,
            "{path}"
        );
    }
    // What is sent away counts: the spike lasts as long as the crowd does.
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(gate.state(), State::Spike);
    let stats = gate.stats();
    assert!(stats.redirects > 0 && stats.redirected_bytes >= 200_000 * stats.redirects / 2);
    assert!(
        stats.pages_rewritten == 1 && stats.files_moved == 3,
        "{stats:?}"
    );
    let (overload, redirect) = (stats.first_overload.unwrap(), stats.first_redirect.unwrap());
    assert!(redirect >= overload && redirect - overload < Duration::from_secs(20));

    wave_stop.cancel();
    assert!(crowd.await.unwrap() > 0);
    let mut left = Vec::new();
    let end = Instant::now() + Duration::from_secs(30);
    while left.last() != Some(&State::Calm) {
        assert!(Instant::now() < end, "only {left:?}");
        if let Ok(Ok(GateEvent::State { to, .. })) =
            tokio::time::timeout(Duration::from_secs(1), events.recv()).await
        {
            left.push(to);
        }
    }
    assert_eq!(
        left,
        [State::Warming, State::Spike, State::Cooling, State::Calm]
    );
    until("no longer in need", async || {
        scene.tracker.sites_in_need().sites.is_empty()
    })
    .await;
    assert_eq!(
        get(gate.addr(), "/.well-known/swarm/alarm", &[])
            .await
            .status,
        204
    );
    assert_eq!(get(gate.addr(), "/a.png", &IMAGE).await.status, 200);
    assert_eq!(get(gate.addr(), "/", &DOCUMENT).await.text(), PAGE);
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_volunteers_a_spike_changes_nothing() {
    let origin = origin().await;
    let scene = scene(&origin).await;
    let gate = &scene.gate;
    gate.published().await.expect("published");
    let addr = gate.addr();
    let crowd = tokio::spawn(async move {
        loop {
            assert_eq!(get(addr, "/a.png", &IMAGE).await.status, 200);
        }
    });
    until("spike", async || gate.state() == State::Spike).await;
    assert_eq!(get(addr, "/", &DOCUMENT).await.text(), PAGE);
    assert!(
        !crowd.is_finished(),
        "a visitor got something else than the file"
    );
    crowd.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shadow_only_watches() {
    let origin = origin().await;
    let scene = Scene::start(origin.addr, |config, scratch| {
        let root = scratch.join("root");
        site(&root);
        config.root = Some(root);
        config.shadow = true;
        config.pace.knock_every = Duration::from_millis(100);
        config.overload.sample_every = Duration::from_millis(50);
        config.overload.rate_window = Duration::from_millis(200);
        config.overload.warm_after = Duration::from_millis(100);
        config.overload.spike_after = Duration::from_millis(200);
    })
    .await;
    let gate = &scene.gate;
    gate.published().await.expect("published");
    let stop = CancellationToken::new();
    let _volunteer = volunteer(&scene, &stop).await;
    until("the volunteer is known", async || {
        !gate.bridges().is_empty()
    })
    .await;
    until("spike", async || {
        get(gate.addr(), "/a.png", &IMAGE).await;
        gate.state() == State::Spike
    })
    .await;
    assert_eq!(get(gate.addr(), "/a.png", &IMAGE).await.status, 200);
    assert_eq!(get(gate.addr(), "/", &DOCUMENT).await.text(), PAGE);
    assert_eq!(gate.stats().redirects, 0);
    stop.cancel();
}
