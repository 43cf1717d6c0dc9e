//! Many bundles at once within the memory that the operator allows.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use swarm_peer::{AddBundle, Node, NodeConfig, Source, Storage};
use swarm_proto::metainfo::{FileHasher, Metainfo, MetainfoBuilder};
use tokio_util::sync::CancellationToken;

const PIECE: u32 = 64 * 1024;
const BUNDLES: u32 = 50;

/// A torrent of one file whose bytes are its own, and the file.
fn torrent(dir: &Path, nth: u32) -> Arc<Metainfo> {
    let name = format!("bundle-{nth}");
    let bytes: Vec<u8> = (0..10 * PIECE + 1000)
        .map(|at| ((at + nth * 7919).wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let mut hasher = FileHasher::new(PIECE);
    hasher.update(&bytes);
    let mut builder = MetainfoBuilder::new(&name, PIECE);
    builder.file(vec![name.clone()], hasher.finish());
    std::fs::create_dir_all(dir.join(&name)).unwrap();
    std::fs::write(dir.join(&name).join(&name), &bytes).unwrap();
    Arc::new(builder.build().unwrap())
}

async fn node(memory: u64) -> Node {
    let config = NodeConfig {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        memory,
        ..NodeConfig::default()
    };
    Node::start(config, CancellationToken::new()).await.unwrap()
}

/// Fetches all bundles at once, and gives the most that was held of pieces and of links.
async fn fetched(memory: u64) -> (u64, u64) {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (node(memory).await, node(memory).await);
    let metas: Vec<_> = (0..BUNDLES).map(|nth| torrent(dir.path(), nth)).collect();
    let mut leeches = Vec::new();
    for meta in &metas {
        let storage = Storage::Folder {
            dir: dir.path().to_owned(),
        };
        let mut bundle = AddBundle::new(Source::Metainfo(Arc::clone(meta)), storage);
        bundle.seed_only = true;
        bundle.state_dir = Some(dir.path().join("state"));
        from.add(bundle)
            .await
            .unwrap()
            .wait_complete()
            .await
            .unwrap();
    }
    for meta in metas {
        let mut bundle = AddBundle::new(Source::Metainfo(meta), Storage::Memory);
        bundle.peers = vec![from.listen_addr()];
        leeches.push(to.add(bundle).await.unwrap());
    }
    for leech in leeches {
        let whole = tokio::time::timeout(Duration::from_secs(120), leech.wait_complete());
        whole.await.expect("nobody is left behind").unwrap();
    }
    let (sent, got) = (from.memory(), to.memory());
    assert_eq!((sent.limit, got.limit), (memory, memory));
    (got.pieces_max, sent.links_max.max(got.links_max))
}

#[tokio::test(flavor = "multi_thread")]
async fn f15_fifty_bundles_at_once_share_the_memory_and_all_become_whole() {
    let memory = 2 * 1024 * 1024;
    let (pieces, links) = fetched(memory).await;
    assert!(pieces <= memory / 2, "{pieces} bytes of pieces");
    // One block for each connection is beyond all bounds.
    let least = u64::from(BUNDLES) * 16 * 1024;
    assert!(links <= memory / 2 + least, "{links} bytes of buffers");
}

#[tokio::test(flavor = "multi_thread")]
async fn f15_memory_for_less_than_a_piece_of_each_bundle_is_had_in_turns() {
    let memory = 2 * u64::from(PIECE) * 3;
    let (pieces, _) = fetched(memory).await;
    assert!(pieces <= memory / 2, "{pieces} bytes of pieces");
}

#[tokio::test(flavor = "multi_thread")]
async fn f15_memory_for_less_than_one_piece_is_enough_for_one_at_a_time() {
    let (pieces, _) = fetched(u64::from(PIECE)).await;
    assert!(pieces <= u64::from(PIECE), "{pieces} bytes of pieces");
}
