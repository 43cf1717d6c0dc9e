//! What is chosen of a bundle when it is added.

use std::time::Duration;

use serde_json::json;
use swarm_proto::geometry::ByteRange;
use swarm_proto::metainfo::Metainfo;

use super::*;
use crate::SwarmHandle;

const PIECE: u32 = 16_384;

/// Two pictures and a text of some pieces each, no piece like another, in `dir`.
fn pictures(dir: &Path) -> Metainfo {
    let mut builder = MetainfoBuilder::new("pictures", PIECE);
    std::fs::create_dir_all(dir.join("pictures")).unwrap();
    for (name, len) in [
        ("a.jpg", 40 * PIECE + 5),
        ("b.txt", 20 * PIECE),
        ("c.jpg", 3 * PIECE),
    ] {
        let bytes: Vec<u8> = (0..len)
            .map(|n| (n.wrapping_mul(n) >> 9) as u8 ^ name.as_bytes()[0])
            .collect();
        let mut hasher = FileHasher::new(PIECE);
        hasher.update(&bytes);
        builder.file(vec![name.into()], hasher.finish());
        std::fs::write(dir.join("pictures").join(name), bytes).unwrap();
    }
    builder.build().unwrap()
}

/// A node that has them.
async fn seed(dir: &Path, meta: &Metainfo) -> (Node, CancellationToken) {
    let shutdown = CancellationToken::new();
    let config = NodeConfig {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        ..NodeConfig::default()
    };
    let node = Node::start(config, shutdown.clone()).await.unwrap();
    let here = Storage::Folder { dir: dir.into() };
    let bundle = AddBundle::new(Source::from(meta.clone()), here);
    let handle = node.add(bundle).await.unwrap();
    handle.wait_complete().await.unwrap();
    (node, shutdown)
}

async fn soon(what: &str, done: impl Fn() -> bool) {
    for _ in 0..1200 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("never {what}");
}

/// The bundle that was added last, beside the one of [`controlled`].
fn added(node: &Node) -> SwarmHandle {
    let mut bundles = node.bundles().into_iter();
    bundles.find(|one| one.stats().name == "pictures").unwrap()
}

fn file(meta: &Metainfo, name: &str) -> ByteRange {
    let found = meta.files().iter().find(|file| file.path == [name]);
    found.unwrap().range()
}

/// What a user may name the torrent by: a file and a link.
fn ways(dir: &Path, meta: &Metainfo) -> [String; 2] {
    let torrent = dir.join("a.torrent");
    std::fs::write(&torrent, meta.to_bytes()).unwrap();
    [
        torrent.to_str().unwrap().to_owned(),
        meta.magnet().to_string(),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_chosen_by_torrent_and_by_link() {
    let dir = tempfile::tempdir().unwrap();
    let meta = pictures(dir.path());
    let (seed, _stop_seed) = seed(dir.path(), &meta).await;
    for (nth, what) in ways(dir.path(), &meta).into_iter().enumerate() {
        let path = dir.path().join(format!("{nth}.sock"));
        let (node, _stop, _control) = controlled(&path).await;
        let out = dir.path().join(nth.to_string());
        let add = |files: &[&str]| {
            Request::Add(Added {
                what: what.clone(),
                out: out.clone(),
                peers: vec![seed.listen_addr()],
                files: files.iter().map(|text| (*text).to_owned()).collect(),
                ..Added::default()
            })
        };
        let bad = asked(&path, add(&["a.jpg", "["])).await;
        let Err(AskError::Refused(why)) = bad else {
            panic!("{bad:?}");
        };
        assert!(why.contains("bad pattern ["), "{why}");
        asked(&path, add(&["*.jpg"])).await.unwrap();
        // What is here is not changed by who adds it again ...
        let again = asked(&path, add(&["*.txt"])).await;
        let Err(AskError::Refused(why)) = again else {
            panic!("{again:?}");
        };
        assert!(why.ends_with("it is here already"), "{why}");
        // ... and takes the peers of who wants nothing else.
        asked(&path, add(&[])).await.unwrap();
        let handle = added(&node);
        let pictures = [file(&meta, "a.jpg"), file(&meta, "c.jpg")];
        soon("two pictures", || {
            pictures.iter().all(|range| handle.holds(range))
        })
        .await;
        tokio::time::sleep(Duration::from_millis(600)).await;
        assert_eq!(handle.held_bytes(&[file(&meta, "b.txt")]), 0);
        assert!(!out.join("pictures/b.txt").exists());
        for name in ["a.jpg", "c.jpg"] {
            let [was, is] = [dir.path(), &out].map(|dir| {
                let bytes = std::fs::read(dir.join("pictures").join(name));
                bytes.unwrap()
            });
            assert!(was == is, "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pick_that_names_no_file_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let meta = pictures(dir.path());
    let (seed, _stop_seed) = seed(dir.path(), &meta).await;
    let torrent = dir.path().join("a.torrent");
    std::fs::write(&torrent, meta.to_bytes()).unwrap();
    let path = dir.path().join("peer.sock");
    let (node, _stop, _control) = controlled(&path).await;
    let add = |what: &str| {
        Request::Add(Added {
            what: what.to_owned(),
            out: dir.path().join("out"),
            peers: vec![seed.listen_addr()],
            files: vec!["*.png".into()],
            ..Added::default()
        })
    };
    let refused = asked(&path, add(torrent.to_str().unwrap())).await;
    let Err(AskError::Refused(why)) = refused else {
        panic!("{refused:?}");
    };
    assert!(why.contains("*.png: no such file"), "{why}");
    assert_eq!(node.bundles().len(), 1);
    // Of a link nobody can know yet.
    asked(&path, add(&meta.magnet().to_string())).await.unwrap();
    let handle = added(&node);
    soon("told", || handle.stats().trouble.is_some()).await;
    let told = asked(&path, Request::Status { peers: false })
        .await
        .unwrap();
    let bundles = told["bundles"].as_array().unwrap();
    let told = bundles
        .iter()
        .find(|one| one["name"] == "pictures")
        .unwrap();
    let trouble = told["trouble"].as_str().unwrap();
    assert!(trouble.starts_with("*.png: no such file"), "{trouble}");
    assert_eq!(
        (&told["have"], &told["state"]),
        (&json!(0), &json!("fetching"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_added_paused_asks_nobody_until_it_is_told_to_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let meta = pictures(dir.path());
    let (seed, _stop_seed) = seed(dir.path(), &meta).await;
    let seeding = seed.bundles().remove(0);
    for (nth, what) in ways(dir.path(), &meta).into_iter().enumerate() {
        let path = dir.path().join(format!("{nth}.sock"));
        let (node, _stop, _control) = controlled(&path).await;
        let rests = Added {
            what: what.clone(),
            out: dir.path().join(nth.to_string()),
            peers: vec![seed.listen_addr()],
            paused: true,
            ..Added::default()
        };
        asked(&path, Request::Add(rests)).await.unwrap();
        let handle = added(&node);
        soon("paused", || handle.state() == SwarmState::Paused).await;
        tokio::time::sleep(Duration::from_millis(700)).await;
        assert_eq!(seeding.peers().await.len(), 0);
        assert_eq!(handle.stats().down_bytes, 0);
        asked(&path, Request::Resume { bundle: None })
            .await
            .unwrap();
        handle.wait_complete().await.unwrap();
        let id = handle.swarm_ids()[0].to_string();
        asked(&path, Request::Remove { bundle: id }).await.unwrap();
        soon("alone", || seeding.stats().peers == 0).await;
    }
}

/// Of the pieces had, how many lie before the first that is missing, when a third of all is here.
async fn prefix(sequential: bool) -> (u32, u32) {
    let dir = tempfile::tempdir().unwrap();
    let meta = pictures(dir.path());
    let (seed, _stop_seed) = seed(dir.path(), &meta).await;
    let path = dir.path().join("peer.sock");
    let (node, _stop, _control) = controlled(&path).await;
    node.downlink().set_rate(Some(1_600_000));
    let ordered = Added {
        what: meta.magnet().to_string(),
        out: dir.path().join("out"),
        peers: vec![seed.listen_addr()],
        sequential,
        ..Added::default()
    };
    asked(&path, Request::Add(ordered)).await.unwrap();
    let handle = added(&node);
    let whole = ByteRange::new(0, meta.geometry().total_length());
    let had = || handle.held_bytes(&[whole]) / u64::from(PIECE);
    soon("a third", || had() >= 20).await;
    let missing = handle.first_missing(&[whole]).unwrap().start;
    let had = u32::try_from(had()).unwrap();
    (u32::try_from(missing).unwrap() / PIECE, had)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_added_to_come_in_order_does() {
    let (before, had) = prefix(true).await;
    assert!(before * 4 >= had * 3, "{before} of {had} in order");
    let (before, had) = prefix(false).await;
    assert!(before * 2 < had, "{before} of {had} in order by chance");
}
