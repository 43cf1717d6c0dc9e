//! Reading in the middle of a large file from a slow seed: what comes before the first byte is
//! counted in bytes, since a clock would tell more of the machine.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use swarm_peer::connector::Trust;
use swarm_peer::uplink::Uplink;
use swarm_peer::{AddBundle, Node, NodeConfig, Source, Storage, SwarmHandle};
use swarm_proto::download::Want;
use swarm_proto::geometry::ByteRange;
use swarm_proto::metainfo::{FileHasher, Metainfo, MetainfoBuilder};
use tokio::io::AsyncReadExt;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(60);
const PIECE: u32 = 1024 * 1024;
/// Slow enough that a megabyte takes 8 s: whoever waits for a piece has received one.
const SLOW_BITS: u64 = 1_000_000;

fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[0]
    };
    (0..len).map(|_| next()).collect()
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("in time")
}

async fn node(uplink: Uplink, shutdown: &CancellationToken) -> Node {
    let config = NodeConfig {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        uplink,
        ..NodeConfig::default()
    };
    Node::start(config, shutdown.clone()).await.unwrap()
}

struct Stage {
    bytes: Vec<u8>,
    seed: Node,
    leech: SwarmHandle,
    _node: Node,
    shutdown: CancellationToken,
    _dir: tempfile::TempDir,
}

/// A slow seed of a hybrid torrent of one file, and a leech that wants nothing but what is read.
async fn stage() -> Stage {
    let dir = tempfile::tempdir().unwrap();
    let bytes = noise(6 * PIECE as usize);
    let meta = torrent(dir.path(), &bytes);
    let shutdown = CancellationToken::new();
    let seed = node(Uplink::new(SLOW_BITS), &shutdown).await;
    let storage = Storage::Folder {
        dir: dir.path().to_owned(),
    };
    let mut bundle = AddBundle::new(Source::Metainfo(Arc::clone(&meta)), storage);
    bundle.seed_only = true;
    let seeding = seed.add(bundle).await.unwrap();
    within(seeding.wait_complete()).await.unwrap();
    let node = node(Uplink::unlimited(), &shutdown).await;
    let mut bundle = AddBundle::new(Source::Metainfo(meta), Storage::Memory);
    bundle.want = Want::None;
    let leech = node.add(bundle).await.unwrap();
    within(leech.wait_checked()).await.unwrap();
    Stage {
        bytes,
        seed,
        leech,
        _node: node,
        shutdown,
        _dir: dir,
    }
}

fn torrent(dir: &Path, bytes: &[u8]) -> Arc<Metainfo> {
    std::fs::create_dir_all(dir.join("film")).unwrap();
    std::fs::write(dir.join("film/film.bin"), bytes).unwrap();
    let mut hasher = FileHasher::new(PIECE);
    hasher.update(bytes);
    let mut builder = MetainfoBuilder::new("film", PIECE);
    builder.file(vec!["film.bin".to_owned()], hasher.finish());
    Arc::new(builder.build().unwrap())
}

impl Stage {
    async fn meet(&self) {
        let seed = vec![self.seed.listen_addr()];
        self.leech.add_peers(seed, Trust::CommandLine).await;
    }

    fn received(&self) -> u64 {
        self.leech.downlink().received_total()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_byte_in_the_middle_of_a_large_piece_comes_before_the_piece() {
    let stage = stage().await;
    // Near the end of a piece, so that its beginning would come first.
    let start = u64::from(3 * PIECE) + 700_001;
    let end = u64::from(4 * PIECE) + 100_000;
    let mut reader = stage.leech.reader(ByteRange::new(start, end)).unwrap();
    stage.meet().await;
    let first = within(reader.read_u8()).await.unwrap();
    let received = stage.received();
    println!("{received} bytes received before the first byte");
    assert_eq!(first, stage.bytes[start as usize]);
    assert!(
        received < u64::from(PIECE / 3),
        "{received} bytes received before the first byte"
    );
    let piece = ByteRange::new(start, start + 1);
    assert!(!stage.leech.holds(&piece), "the piece is stored already");
    stage.seed.uplink().set_rate(None);
    let mut rest = Vec::new();
    within(reader.read_to_end(&mut rest)).await.unwrap();
    assert!(rest == stage.bytes[start as usize + 1..end as usize]);
    stage.shutdown.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn piece_that_was_read_of_is_fetched_to_its_end_though_the_reader_left() {
    let stage = stage().await;
    let start = u64::from(2 * PIECE) + 500_000;
    let range = ByteRange::new(start, start + 1000);
    let mut reader = stage.leech.reader(range).unwrap();
    stage.meet().await;
    let mut read = Vec::new();
    within(reader.read_to_end(&mut read)).await.unwrap();
    assert!(read == stage.bytes[start as usize..][..1000]);
    assert!(!stage.leech.holds(&range), "the piece is stored already");
    drop(reader);
    // Slow enough that the download has looked again at whom it is interested in.
    stage.seed.uplink().set_rate(Some(4 * SLOW_BITS));
    let stored = async {
        while !stage.leech.holds(&range) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within(stored).await;
    // That piece, and nothing beside it.
    let (before, behind) = (u64::from(2 * PIECE), u64::from(3 * PIECE));
    let holds = |start, end| stage.leech.holds(&ByteRange::new(start, end));
    assert!(holds(before, behind));
    assert!(!holds(before - 1, behind) && !holds(before, behind + 1));
    let end = stage.bytes.len() as u64;
    assert!(holds(behind, behind) && holds(end, end));
    assert!(!holds(end, end + 1) && !holds(end + 1, end + 1));
    stage.shutdown.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn second_reader_has_what_was_proven_for_the_first_before_the_piece_is_whole() {
    let stage = stage().await;
    let start = u64::from(2 * PIECE) + 500_000;
    let range = ByteRange::new(start, start + 1000);
    let mut first = stage.leech.reader(range).unwrap();
    stage.meet().await;
    let mut read = Vec::new();
    within(first.read_to_end(&mut read)).await.unwrap();
    // One that is at its end, and one that is gone: neither keeps blocks for others.
    let mut second = stage.leech.reader(range).unwrap();
    // From here on next to nothing comes.
    stage.seed.uplink().set_rate(Some(1_000));
    let mut again = Vec::new();
    within(second.read_to_end(&mut again)).await.unwrap();
    drop((first, second));
    let mut third = stage.leech.reader(range).unwrap();
    let mut anew = Vec::new();
    within(third.read_to_end(&mut anew)).await.unwrap();
    assert!(read == stage.bytes[start as usize..][..1000]);
    assert!(again == read && anew == read);
    assert!(!stage.leech.holds(&range), "the piece is stored already");
    stage.shutdown.cancel();
}
