//! Visitors at the origin, over real sockets.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use swarm_peer::publish::{PublishConfig, publish};
use swarm_peer::uplink::Uplink;
use swarm_proto::manifest::SiteName;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::expect::Expected;
use super::visitor::{Street, Tally};
use super::{origin, site};

struct Scene {
    street: Street,
    root: PathBuf,
    _folder: tempfile::TempDir,
    _stop: tokio_util::sync::DropGuard,
}

/// The shipped site behind `uplink`, published as what `meddle` made of the folder afterwards.
async fn scene(uplink: Uplink, patience: Duration, meddle: impl Fn(&Path)) -> Scene {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    site::unpack(&root).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let name = SiteName::parse(&format!("larkmoor.localhost:{port}")).unwrap();
    let (out, keys) = (folder.path().join("out"), folder.path().join("keys"));
    let now = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap()
        .as_secs();
    let mut config = PublishConfig::new(name, &root, out, keys, now);
    config.variants = false;
    let published = publish(&config, &()).unwrap();
    let expected = Expected::new(published.manifest, &root).unwrap();
    meddle(&root);
    let stop = CancellationToken::new();
    tokio::spawn(origin::serve(listener, root.clone(), uplink, stop.clone()));
    Scene {
        street: Street {
            home: Url::parse(&format!("http://larkmoor.localhost:{port}/")).unwrap(),
            expected: Arc::new(expected),
            patience,
            tally: Tally::default(),
        },
        root,
        _folder: folder,
        _stop: stop.drop_guard(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_of_the_shipped_site_loads_whole_and_as_signed() {
    let scene = scene(Uplink::unlimited(), Duration::from_secs(20), |_| {}).await;
    let pages = site::pages(&scene.root).unwrap();
    for page in &pages {
        let before = scene.street.tally.counts().bytes.values().sum::<u64>();
        scene.street.visit(&page.url_path).await;
        let counts = scene.street.tally.counts();
        assert_eq!(counts.failed, 0, "{}: {:?}", page.url_path, counts.reasons);
        let loaded = counts.bytes.values().sum::<u64>() - before;
        assert_eq!(loaded, page.weight, "{}", page.url_path);
    }
    let counts = scene.street.tally.counts();
    assert_eq!(counts.completed.len(), pages.len());
    assert_eq!(counts.wrong_bytes, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_flipped_byte_is_a_failed_page() {
    for name in [
        "img/logo.svg",
        "js/menu.js",
        "font/larkmoor-caps.woff2",
        "index.html",
    ] {
        let scene = scene(Uplink::unlimited(), Duration::from_secs(20), |root| {
            let file = root.join(name);
            let mut bytes = std::fs::read(&file).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(file, bytes).unwrap();
        })
        .await;
        scene.street.visit("/").await;
        let counts = scene.street.tally.counts();
        assert_eq!(counts.failed, 1, "{name}");
        assert!(counts.wrong_bytes > 0, "{name}: {:?}", counts.reasons);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visitor_at_a_thin_line_gives_up_in_time() {
    let uplink = Uplink::new(400_000);
    let scene = scene(uplink.clone(), Duration::from_millis(700), |_| {}).await;
    let started = Instant::now();
    scene.street.visit("/").await;
    assert!(started.elapsed() < Duration::from_millis(1500));
    let counts = scene.street.tally.counts();
    assert_eq!(counts.failed, 1);
    assert!(
        counts.reasons.contains_key("gave up waiting"),
        "{:?}",
        counts.reasons
    );
    assert!(uplink.sent_total() < 120_000, "{}", uplink.sent_total());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_picture_is_a_failed_page() {
    let scene = scene(Uplink::unlimited(), Duration::from_secs(20), |root| {
        std::fs::remove_file(root.join("img/saturn.webp")).unwrap();
    })
    .await;
    scene.street.visit("/").await;
    let counts = scene.street.tally.counts();
    assert!(
        counts.reasons.contains_key("status 404"),
        "{:?}",
        counts.reasons
    );
}
