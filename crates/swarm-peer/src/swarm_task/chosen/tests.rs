use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use swarm_proto::geometry::ByteRange;
use swarm_proto::metainfo::{FileHasher, Metainfo, MetainfoBuilder};
use tokio::io::AsyncReadExt as _;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{AddBundle, Node, NodeConfig, Source, Storage, SwarmHandle};

const PIECE: u32 = 16_384;

const FILES: [(&str, usize); 4] = [
    ("a", 3 * PIECE as usize),
    ("b", 40 * PIECE as usize),
    ("none", 0),
    ("nothing", 0),
];

fn bytes(name: &str, len: usize) -> Vec<u8> {
    let byte = |n: usize| (n / 251) as u8 ^ (n % 241) as u8 ^ name.as_bytes()[0];
    (0..len).map(byte).collect()
}

fn torrent() -> Metainfo {
    let mut builder = MetainfoBuilder::new("chosen.test", PIECE);
    for (name, len) in FILES {
        let mut hasher = FileHasher::new(PIECE);
        hasher.update(&bytes(name, len));
        builder.file(vec![name.into()], hasher.finish());
    }
    builder.build().unwrap()
}

fn write(dir: &Path) {
    std::fs::create_dir_all(dir.join("chosen.test")).unwrap();
    for (name, len) in FILES {
        std::fs::write(dir.join("chosen.test").join(name), bytes(name, len)).unwrap();
    }
}

async fn node() -> Node {
    let config = NodeConfig {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        ..NodeConfig::default()
    };
    Node::start(config, CancellationToken::new()).await.unwrap()
}

fn in_folder(dir: &Path) -> AddBundle {
    let storage = Storage::Folder { dir: dir.into() };
    AddBundle::new(Source::from(torrent()), storage)
}

async fn seed(dir: &Path) -> Node {
    write(dir);
    let node = node().await;
    let handle = node.add(in_folder(dir)).await.unwrap();
    handle.wait_complete().await.unwrap();
    node
}

fn range(name: &str) -> ByteRange {
    let meta = torrent();
    let file = meta.files().iter().find(|file| file.path == [name]);
    file.unwrap().range()
}

async fn until(handle: &SwarmHandle, wanted: SwarmState) {
    let mut state = handle.state();
    while state != wanted {
        let change = tokio::time::timeout(Duration::from_secs(30), handle.state_after(&state));
        state = change
            .await
            .unwrap_or_else(|_| panic!("{state:?} and never {wanted:?}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_finished_when_all_that_was_chosen_is_in_its_files() {
    let dir = tempfile::tempdir().unwrap();
    let seed = seed(&dir.path().join("seed")).await;
    let out = dir.path().join("out");
    let there = |name: &str| out.join("chosen.test").join(name).exists();
    let node = node().await;
    let mut bundle = in_folder(&out);
    bundle.peers.push(seed.listen_addr());
    bundle.want = Want::Ranges(vec![range("a"), range("none")]);
    let handle = node.add(bundle).await.unwrap();
    until(&handle, SwarmState::Finished).await;
    let stats = handle.stats();
    assert_eq!((stats.have, stats.pieces, stats.complete), (3, 43, false));
    // An empty file lies at the edge of others, and is chosen only by itself.
    assert!(there("a") && there("none") && !there("b"));
    // Both empty files lie in the same place, so that a range cannot tell them apart.
    assert_eq!(range("none"), range("nothing"));
    // It rests, goes on, and is finished still.
    handle.set_paused(true);
    until(&handle, SwarmState::Paused).await;
    handle.set_paused(false);
    until(&handle, SwarmState::Finished).await;
    // More is wanted, and it is fetched.
    handle.downlink().set_rate(Some(4_000_000));
    handle.set_want(Want::All).await;
    until(&handle, SwarmState::Fetching).await;
    handle.downlink().set_rate(None);
    until(&handle, SwarmState::Seeding).await;
    assert!(there("b") && there("nothing"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_chosen_and_lost_is_fetched_again() {
    let dir = tempfile::tempdir().unwrap();
    let seed = seed(&dir.path().join("seed")).await;
    let out = dir.path().join("out");
    let node = node().await;
    let mut bundle = in_folder(&out);
    bundle.peers.push(seed.listen_addr());
    bundle.want = Want::Ranges(vec![range("a")]);
    let handle = node.add(bundle).await.unwrap();
    until(&handle, SwarmState::Finished).await;
    std::fs::write(out.join("chosen.test/a"), "not this").unwrap();
    // Who reads finds out; what it read is nothing.
    let mut reader = handle.reader(range("a")).unwrap();
    assert!(reader.read_to_end(&mut Vec::new()).await.is_err());
    for _ in 0..600 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let found = std::fs::read(out.join("chosen.test/a")).unwrap();
        if handle.state() == SwarmState::Finished && found == bytes("a", FILES[0].1) {
            return;
        }
    }
    panic!("not whole again: {:?}", handle.stats());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_only_seeds_fetches_nothing_of_what_it_lacks() {
    let dir = tempfile::tempdir().unwrap();
    let other = seed(&dir.path().join("other")).await;
    let here = dir.path().join("here");
    write(&here);
    let torn = here.join("chosen.test/a");
    let mut wrong = bytes("a", FILES[0].1);
    wrong[20_000] ^= 1;
    std::fs::write(&torn, &wrong).unwrap();
    let node = node().await;
    let mut bundle = in_folder(&here);
    // As a folder that was published is seeded: nothing may be written there.
    let paths = FILES.map(|(name, _)| here.join("chosen.test").join(name));
    bundle.storage = Storage::Files {
        paths: paths.into(),
    };
    bundle.seed_only = true;
    bundle.peers.push(other.listen_addr());
    let handle = node.add(bundle).await.unwrap();
    until(&handle, SwarmState::Finished).await;
    // Connected to who has it.
    for _ in 0..200 {
        if handle.stats().peers > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let stats = handle.stats();
    assert_eq!((stats.have, stats.down_bytes), (42, 0), "{stats:?}");
    assert_eq!(stats.state, SwarmState::Finished);
    assert!(std::fs::read(&torn).unwrap() == wrong);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_waited_through_a_rest_is_served_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let seed = seed(&dir.path().join("seed")).await;
    let node = node().await;
    let mut bundle = in_folder(&dir.path().join("out"));
    bundle.want = Want::None;
    let handle = node.add(bundle).await.unwrap();
    handle.wait_checked().await.unwrap();
    let mut reader = handle.reader(range("a")).unwrap();
    let read = tokio::spawn(async move {
        let mut all = Vec::new();
        reader.read_to_end(&mut all).await.unwrap();
        all
    });
    // Its wish was heard before the rest.
    tokio::time::sleep(Duration::from_millis(300)).await;
    handle.set_paused(true);
    until(&handle, SwarmState::Paused).await;
    let trust = crate::Trust::CommandLine;
    handle.add_peers(vec![seed.listen_addr()], trust).await;
    handle.set_paused(false);
    let all = tokio::time::timeout(Duration::from_secs(20), read).await;
    assert!(all.unwrap().unwrap() == bytes("a", FILES[0].1));
}
