//! Nodes of our own, over loopback.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use swarm_peer::connector::Trust;
use swarm_peer::uplink::Uplink;
use swarm_peer::{AddBundle, Node, NodeConfig, Source, Storage, SwarmHandle};
use swarm_proto::download::Want;
use swarm_proto::geometry::ByteRange;
use swarm_proto::magnet::Magnet;
use swarm_proto::metainfo::{FileHasher, Metainfo, MetainfoBuilder};
use tokio::io::AsyncReadExt;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes that differ from block to block, the same each time.
fn noise(len: usize, seed: u32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[0]
    };
    (0..len).map(|_| next()).collect()
}

struct Site {
    meta: Arc<Metainfo>,
    files: Vec<(String, Vec<u8>)>,
}

/// A hybrid torrent of files of odd sizes, an empty one among them.
fn site(piece_length: u32) -> Site {
    let files = vec![
        ("a.txt".to_owned(), noise(10, 1)),
        ("big.bin".to_owned(), noise(700_001, 2)),
        ("empty".to_owned(), Vec::new()),
        ("sub/c.bin".to_owned(), noise(65_536, 3)),
    ];
    let mut builder = MetainfoBuilder::new("site.test", piece_length);
    for (path, bytes) in &files {
        let mut hasher = FileHasher::new(piece_length);
        hasher.update(bytes);
        let path = path.split('/').map(str::to_owned).collect();
        builder.file(path, hasher.finish());
    }
    let meta = Arc::new(builder.build().unwrap());
    Site { meta, files }
}

impl Site {
    fn write(&self, dir: &Path) {
        for (path, bytes) in &self.files {
            let path = dir.join("site.test").join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
    }

    fn assert_in(&self, dir: &Path) {
        for (path, bytes) in &self.files {
            let found = std::fs::read(dir.join("site.test").join(path)).unwrap();
            assert!(found == *bytes, "{path} differs");
        }
    }
}

async fn node(shutdown: &CancellationToken) -> Node {
    let config = NodeConfig {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        ..NodeConfig::default()
    };
    Node::start(config, shutdown.clone()).await.unwrap()
}

async fn seed(shutdown: &CancellationToken, site: &Site, dir: &Path) -> Node {
    let node = node(shutdown).await;
    site.write(dir);
    let storage = Storage::Folder {
        dir: dir.to_owned(),
    };
    let mut bundle = AddBundle::new(Source::Metainfo(Arc::clone(&site.meta)), storage);
    bundle.seed_only = true;
    let handle = node.add(bundle).await.unwrap();
    within(handle.wait_complete()).await.unwrap();
    node
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("in time")
}

fn folder(dir: &Path) -> Storage {
    Storage::Folder {
        dir: dir.to_owned(),
    }
}

async fn fetch(node: &Node, source: Source, storage: Storage, from: SocketAddr) -> SwarmHandle {
    let mut bundle = AddBundle::new(source, storage);
    bundle.peers = vec![from];
    node.add(bundle).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bundle_travels_from_folder_to_every_kind_of_store() {
    let site = site(32 * 1024);
    let dir = tempfile::tempdir().unwrap();
    let shutdown = CancellationToken::new();
    let from = seed(&shutdown, &site, &dir.path().join("seed")).await;
    let out = dir.path().join("out");
    let store = Storage::Store {
        dir: dir.path().join("store"),
    };
    for storage in [folder(&out), store, Storage::Memory] {
        let node = node(&shutdown).await;
        let source = Source::Metainfo(Arc::clone(&site.meta));
        let handle = fetch(&node, source, storage, from.listen_addr()).await;
        within(handle.wait_complete()).await.unwrap();
        for (index, file) in site.meta.files().iter().enumerate() {
            if file.pad {
                continue;
            }
            let mut read = Vec::new();
            let whole = ByteRange::new(0, file.length);
            let mut reader = handle.file_reader(index, whole).unwrap();
            reader.read_to_end(&mut read).await.unwrap();
            let path = file.path.join("/");
            let (_, bytes) = site.files.iter().find(|(name, _)| *name == path).unwrap();
            assert!(read == *bytes, "{path} differs");
        }
        node.remove(&handle.swarm_ids()[0]);
    }
    site.assert_in(&out);
    shutdown.cancel();
    within(from.join()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_magnet_link_is_enough() {
    let site = site(16 * 1024);
    let dir = tempfile::tempdir().unwrap();
    let shutdown = CancellationToken::new();
    let from = seed(&shutdown, &site, &dir.path().join("seed")).await;
    let (v1, v2) = (site.meta.info_hash_v1(), site.meta.info_hash_v2());
    let v2 = format!("xt=urn:btmh:1220{}", v2.unwrap());
    let links = [
        format!("magnet:?xt=urn:btih:{}", v1.unwrap()),
        format!("magnet:?{v2}"),
        format!("magnet:?xt=urn:btih:{}&{v2}", v1.unwrap()),
    ];
    for (n, link) in links.iter().enumerate() {
        let node = node(&shutdown).await;
        let out = dir.path().join(format!("out{n}"));
        let source = Source::from(Magnet::parse(link).unwrap());
        let handle = fetch(&node, source, folder(&out), from.listen_addr()).await;
        within(handle.wait_complete()).await.unwrap();
        site.assert_in(&out);
    }
    shutdown.cancel();
}

/// BEP 53.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_magnet_link_that_chooses_files_those_are_fetched() {
    let site = site(16 * 1024);
    let dir = tempfile::tempdir().unwrap();
    let shutdown = CancellationToken::new();
    let from = seed(&shutdown, &site, &dir.path().join("seed")).await;
    let files = site.meta.files();
    let chosen = files.iter().position(|file| file.length == 65_536).unwrap();
    let mut magnet = site.meta.magnet();
    magnet.select_only = vec![u32::try_from(chosen).map(|n| n..=n).unwrap()];
    let node = node(&shutdown).await;
    let handle = fetch(&node, magnet.into(), Storage::Memory, from.listen_addr()).await;
    within(handle.wait_held(files[chosen].range()))
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(handle.stats().have, 65_536 / (16 * 1024));
    // Whoever wants more says so.
    handle.set_want(Want::All).await;
    within(handle.wait_complete()).await.unwrap();
    shutdown.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_gets_its_bytes_though_nothing_is_wanted() {
    let site = site(16 * 1024);
    let dir = tempfile::tempdir().unwrap();
    let shutdown = CancellationToken::new();
    let from = seed(&shutdown, &site, &dir.path().join("seed")).await;
    let node = node(&shutdown).await;
    let source = Source::Metainfo(Arc::clone(&site.meta));
    let mut bundle = AddBundle::new(source, Storage::Memory);
    bundle.want = Want::None;
    let handle = node.add(bundle).await.unwrap();
    within(handle.wait_checked()).await.unwrap();
    let big = site.meta.files().iter().position(|f| f.length == 700_001);
    let range = ByteRange::new(300_000, 400_123);
    let mut reader = handle.file_reader(big.unwrap(), range).unwrap();
    handle
        .add_peers(vec![from.listen_addr()], Trust::CommandLine)
        .await;
    let mut read = Vec::new();
    within(reader.read_to_end(&mut read)).await.unwrap();
    assert!(read == site.files[1].1[300_000..400_123]);
    tokio::time::sleep(Duration::from_millis(600)).await;
    let stats = handle.stats();
    assert!(
        stats.have < stats.pieces / 2,
        "fetched {} pieces",
        stats.have
    );
    assert!(handle.reader(ByteRange::new(0, u64::MAX)).is_err());
    // Whoever waits when the swarm goes is told, and does not hang. Nobody is to answer before.
    from.remove(&handle.swarm_ids()[0]);
    while !handle.peers().await.is_empty() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut waiting = handle.reader(ByteRange::new(0, 100)).unwrap();
    node.remove(&handle.swarm_ids()[1]);
    assert!(within(waiting.read_to_end(&mut read)).await.is_err());
    shutdown.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_on_disk_are_believed_only_as_far_as_they_are_right() {
    let site = site(16 * 1024);
    let dir = tempfile::tempdir().unwrap();
    let shutdown = CancellationToken::new();
    site.write(dir.path());
    let path: PathBuf = dir.path().join("site.test/big.bin");
    let add = async |node: &Node, seed_only| {
        let source = Source::Metainfo(Arc::clone(&site.meta));
        let mut bundle = AddBundle::new(source, folder(dir.path()));
        bundle.seed_only = seed_only;
        let handle = node.add(bundle).await.unwrap();
        within(handle.wait_checked()).await.unwrap();
        handle
    };
    // All right: recorded, and believed the second time.
    let first = CancellationToken::new();
    let node_one = node(&first).await;
    within(add(&node_one, true).await.wait_complete())
        .await
        .unwrap();
    first.cancel();
    within(node_one.join()).await;
    // A flipped bit changes the time of change, and is found.
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[123_456] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let node_two = node(&shutdown).await;
    let handle = add(&node_two, true).await;
    let piece = (site.meta.files().iter().find(|f| f.length == 700_001))
        .map(|f| (f.offset + 123_456) / 16_384)
        .unwrap();
    let stats = handle.stats();
    assert_eq!(stats.wrong, [u32::try_from(piece).unwrap()]);
    assert_eq!(stats.have, stats.pieces - 1);
    assert!(!stats.complete);
    // A leech repairs it from a good seed.
    let good = seed(&shutdown, &site, &dir.path().join("good")).await;
    let other = node(&shutdown).await;
    let leech = add(&other, false).await;
    leech
        .add_peers(vec![good.listen_addr()], Trust::CommandLine)
        .await;
    within(leech.wait_complete()).await.unwrap();
    assert!(leech.stats().down_bytes < 100_000);
    site.assert_in(dir.path());
    shutdown.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limited_uplink_holds_for_all_peers_together() {
    let site = site(16 * 1024);
    let dir = tempfile::tempdir().unwrap();
    let shutdown = CancellationToken::new();
    site.write(dir.path());
    let uplink = Uplink::new(8_000_000);
    let config = NodeConfig {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        uplink: uplink.clone(),
        ..NodeConfig::default()
    };
    let from = Node::start(config, shutdown.clone()).await.unwrap();
    let source = Source::Metainfo(Arc::clone(&site.meta));
    let bundle = AddBundle::new(source.clone(), folder(dir.path()));
    within(from.add(bundle).await.unwrap().wait_complete())
        .await
        .unwrap();
    let started = std::time::Instant::now();
    let mut leeches = Vec::new();
    for _ in 0..2 {
        let node = node(&shutdown).await;
        let handle = fetch(&node, source.clone(), Storage::Memory, from.listen_addr()).await;
        leeches.push((node, handle));
    }
    for (_, handle) in &leeches {
        within(handle.wait_complete()).await.unwrap();
    }
    let took = started.elapsed().as_secs_f64();
    let sent = uplink.sent_total();
    let floor = sent as f64 / 1_000_000.0;
    assert!(sent > 1_500_000, "sent {sent}");
    assert!(took > floor * 0.9, "{sent} bytes in {took} s");
    shutdown.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f6_bits_that_flip_while_seeding_are_never_sent_and_come_back_right() {
    let site = site(16 * 1024);
    let dir = tempfile::tempdir().unwrap();
    let shutdown = CancellationToken::new();
    let good = seed(&shutdown, &site, &dir.path().join("good")).await;
    let ours = node(&shutdown).await;
    let out = dir.path().join("ours");
    let source = Source::Metainfo(Arc::clone(&site.meta));
    let ours_at = fetch(&ours, source.clone(), folder(&out), good.listen_addr()).await;
    within(ours_at.wait_complete()).await.unwrap();
    // Another inode under the old name, and a change in place: to look at names is not enough.
    for (path, bytes) in &site.files {
        let mut bytes = bytes.clone();
        let Some(last) = bytes.last_mut() else {
            continue;
        };
        *last ^= 0x10;
        let path = out.join("site.test").join(path);
        if path.ends_with("c.bin") {
            std::fs::remove_file(&path).unwrap();
        }
        std::fs::write(&path, &bytes).unwrap();
    }
    let leech = node(&shutdown).await;
    let handle = fetch(&leech, source, Storage::Memory, ours.listen_addr()).await;
    within(handle.wait_complete()).await.unwrap();
    within(ours_at.wait_complete()).await.unwrap();
    site.assert_in(&out);
    let stats = handle.stats();
    assert_eq!(stats.wasted_bytes, 0, "false bytes were sent");
    assert_eq!(stats.peers, 1, "the leech banned its only peer");
    shutdown.cancel();
}

/// Blocks of 512 bytes that the site's files take below `dir`.
fn blocks(site: &Site, dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let paths = site
        .files
        .iter()
        .map(|(path, _)| dir.join("site.test").join(path));
    paths
        .filter_map(|path| std::fs::metadata(path).ok())
        .map(|found| found.blocks())
        .sum()
}

#[tokio::test]
async fn room_is_set_aside_before_anything_comes_if_that_is_wanted_and_only_then() {
    let shutdown = CancellationToken::new();
    let site = site(16 * 1024);
    let total: u64 = site.files.iter().map(|(_, bytes)| bytes.len() as u64).sum();
    for preallocate in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let first = CancellationToken::new();
        let leech = node(&first).await;
        // Nobody to fetch from.
        let source = Source::Metainfo(Arc::clone(&site.meta));
        let mut bundle = AddBundle::new(source, folder(dir.path()));
        bundle.preallocate = preallocate;
        let handle = leech.add(bundle).await.unwrap();
        match preallocate {
            true => {
                within(async {
                    while blocks(&site, dir.path()) * 512 < total {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                })
                .await
            }
            false => {
                tokio::time::sleep(Duration::from_millis(500)).await;
                assert_eq!(blocks(&site, dir.path()), 0);
            }
        }
        drop(handle);
        first.cancel();
        within(leech.join()).await;
        // It comes whole all the same, and what was set aside was not taken for content.
        let from_dir = tempfile::tempdir().unwrap();
        let from = seed(&shutdown, &site, from_dir.path()).await;
        let source = Source::Metainfo(Arc::clone(&site.meta));
        let mut bundle = AddBundle::new(source, folder(dir.path()));
        bundle.preallocate = preallocate;
        bundle.peers = vec![from.listen_addr()];
        let leech = node(&shutdown).await;
        let handle = leech.add(bundle).await.unwrap();
        within(handle.wait_complete()).await.unwrap();
        assert!(handle.stats().wrong.is_empty());
        site.assert_in(dir.path());
    }
}
