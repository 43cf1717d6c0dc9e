//! Limits on what is sent and received, counted between real nodes over loopback.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use swarm_peer::uplink::{Downlink, Uplink};
use swarm_peer::{AddBundle, Node, NodeConfig, Source, Storage, SwarmHandle};
use swarm_proto::metainfo::{FileHasher, Metainfo, MetainfoBuilder};
use tokio_util::sync::CancellationToken;

/// 4 Mbit/s, in bytes.
const RATE: u64 = 500_000;
const BITS: u64 = RATE * 8;

/// A torrent of one file of zeros, and the file.
fn torrent(dir: &Path, name: &str, len: usize) -> Arc<Metainfo> {
    let bytes = vec![0; len];
    let mut hasher = FileHasher::new(65_536);
    hasher.update(&bytes);
    let mut builder = MetainfoBuilder::new(name, 65_536);
    builder.file(vec![name.to_owned()], hasher.finish());
    std::fs::create_dir_all(dir.join(name)).unwrap();
    std::fs::write(dir.join(name).join(name), &bytes).unwrap();
    Arc::new(builder.build().unwrap())
}

async fn node(config: NodeConfig) -> Node {
    let config = NodeConfig {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        ..config
    };
    let node = Node::start(config, CancellationToken::new()).await;
    node.unwrap()
}

/// A seed of the torrent, and a leech that fetches it.
async fn joined(
    dir: &Path,
    meta: &Arc<Metainfo>,
    from: &Node,
    to: &Node,
    set: impl FnOnce(&mut AddBundle, &mut AddBundle),
) -> (SwarmHandle, SwarmHandle) {
    let storage = Storage::Folder {
        dir: dir.to_owned(),
    };
    let mut seeding = AddBundle::new(Source::Metainfo(Arc::clone(meta)), storage);
    seeding.state_dir = Some(dir.join("state"));
    seeding.seed_only = true;
    let mut leeching = AddBundle::new(Source::Metainfo(Arc::clone(meta)), Storage::Memory);
    leeching.peers = vec![from.listen_addr()];
    set(&mut seeding, &mut leeching);
    let seed = from.add(seeding).await.unwrap();
    seed.wait_complete().await.unwrap();
    (seed, to.add(leeching).await.unwrap())
}

/// Watches a counter for three seconds. However busy the machine, it never runs ahead of the rate;
/// and for a while at least it keeps up with it.
async fn holds(what: &str, rate: u64, count: impl Fn() -> u64) {
    while count() < rate / 10 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (began, first) = (Instant::now(), count());
    let mut best: f64 = 0.0;
    for _ in 0..6 {
        let (at, before) = (Instant::now(), count());
        tokio::time::sleep(Duration::from_millis(500)).await;
        let window = (count() - before) as f64 / at.elapsed().as_secs_f64();
        best = best.max(window / rate as f64);
        let all = (count() - first) as f64;
        // What one turn and the idle burst add is 30 ms of the rate.
        let allowed = rate as f64 * (began.elapsed().as_secs_f64() * 1.05 + 0.03);
        assert!(all <= allowed, "{what}: {all} bytes of {allowed}");
    }
    assert!(best > 0.95, "{what}: {best} of the rate at best");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_on_what_comes_holds_for_all_bundles_together_and_can_change() {
    let dir = tempfile::tempdir().unwrap();
    let from = node(NodeConfig::default()).await;
    let to = node(NodeConfig {
        downlink: Downlink::limited(Some(BITS)),
        ..NodeConfig::default()
    })
    .await;
    let mut handles = Vec::new();
    for name in ["one", "two"] {
        let meta = torrent(dir.path(), name, 8_000_000);
        handles.push(joined(dir.path(), &meta, &from, &to, |_, _| {}).await);
    }
    holds("both", RATE, || to.downlink().received_total()).await;
    let each: Vec<u64> = handles
        .iter()
        .map(|(_, leech)| leech.downlink().received_total())
        .collect();
    assert_eq!(each.iter().sum::<u64>(), to.downlink().received_total());
    assert!(each.iter().all(|bytes| *bytes > RATE / 2), "{each:?}");
    to.downlink().set_rate(None);
    for (_, leech) in &handles {
        let whole = tokio::time::timeout(Duration::from_secs(60), leech.wait_complete());
        whole.await.expect("no limit any more").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limits_of_one_bundle_leave_the_other_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (
        node(NodeConfig::default()).await,
        node(NodeConfig::default()).await,
    );
    let slow = torrent(dir.path(), "slow", 8_000_000);
    let (_, slow) = joined(dir.path(), &slow, &from, &to, |_, leech| {
        leech.download = Some(BITS);
    })
    .await;
    let free = torrent(dir.path(), "free", 3_000_000);
    let (_, free) = joined(dir.path(), &free, &from, &to, |_, _| {}).await;
    free.wait_complete().await.unwrap();
    assert!(slow.stats().have < slow.stats().pieces);
    holds("the slow one", RATE, || slow.downlink().received_total()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_obeys_the_narrower_of_both_limits() {
    let dir = tempfile::tempdir().unwrap();
    let from = node(NodeConfig {
        uplink: Uplink::new(BITS * 2),
        ..NodeConfig::default()
    })
    .await;
    let to = node(NodeConfig::default()).await;
    let meta = torrent(dir.path(), "one", 16_000_000);
    let (seed, _) = joined(dir.path(), &meta, &from, &to, |seed, _| {
        seed.upload = Some(BITS);
    })
    .await;
    holds("the bundle", RATE, || from.uplink().sent_total()).await;
    seed.uplink().set_rate(Some(BITS * 5));
    // The turn under way when the limit changed counts at the old rate.
    tokio::time::sleep(Duration::from_millis(100)).await;
    holds("the host", RATE * 2, || from.uplink().sent_total()).await;
}
