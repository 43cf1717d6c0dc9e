//! Torrents to simulate with, and their content with padding.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use swarm_proto::bencode::{Item, Rules, decode};
use swarm_proto::metainfo::{FileHasher, Metainfo, MetainfoBuilder};

/// A torrent and its bytes.
#[derive(Debug, Clone)]
pub(crate) struct Torrent {
    pub(crate) meta: Arc<Metainfo>,
    pub(crate) content: Bytes,
}

fn build(piece_length: u32, lengths: &[usize]) -> Torrent {
    let mut rng = SmallRng::seed_from_u64(7);
    let mut builder = MetainfoBuilder::new("site", piece_length);
    let mut files = BTreeMap::new();
    for (nth, len) in lengths.iter().enumerate() {
        let mut bytes = vec![0; *len];
        rng.fill_bytes(&mut bytes);
        let mut hasher = FileHasher::new(piece_length);
        hasher.update(&bytes);
        let name = format!("file {nth}");
        builder.file(vec![name.clone()], hasher.finish());
        files.insert(name, bytes);
    }
    let meta = builder.build().unwrap();
    let mut content = vec![0; meta.geometry().total_length() as usize];
    for file in meta.files().iter().filter(|file| !file.pad) {
        let bytes = &files[&file.path[0]];
        content[file.offset as usize..][..bytes.len()].copy_from_slice(bytes);
    }
    Torrent {
        meta: Arc::new(meta),
        content: content.into(),
    }
}

/// The same torrent as BEP 3 has it, without a tree.
fn without_v2(torrent: &Torrent) -> Torrent {
    let bytes = torrent.meta.to_bytes();
    let value = decode(&bytes, &Rules::METAINFO).unwrap();
    let Item::Dict(mut outer) = Item::from(&value) else {
        panic!("a torrent is a dictionary");
    };
    outer.remove(&b"piece layers"[..]);
    if let Some(Item::Dict(info)) = outer.get_mut(&b"info"[..]) {
        info.remove(&b"meta version"[..]);
        info.remove(&b"file tree"[..]);
    }
    let meta = Metainfo::parse(&Item::Dict(outer).to_bytes()).unwrap();
    assert_eq!(meta.info_hash_v2(), None);
    Torrent {
        meta: Arc::new(meta),
        content: torrent.content.clone(),
    }
}

/// A hybrid of some small files: 1.3 MB, pieces of four blocks.
pub(crate) fn small() -> &'static Torrent {
    static TORRENT: OnceLock<Torrent> = OnceLock::new();
    TORRENT.get_or_init(|| build(65_536, &[300_000, 70_000, 10, 900_000, 20_000]))
}

/// [`small`] as a v1 torrent.
pub(crate) fn small_v1() -> &'static Torrent {
    static TORRENT: OnceLock<Torrent> = OnceLock::new();
    TORRENT.get_or_init(|| without_v2(small()))
}

/// A hybrid of two files: 12 MB, pieces of eight blocks.
pub(crate) fn large() -> &'static Torrent {
    static TORRENT: OnceLock<Torrent> = OnceLock::new();
    TORRENT.get_or_init(|| build(131_072, &[9_000_000, 3_000_000]))
}

/// [`large`] as a v1 torrent.
pub(crate) fn large_v1() -> &'static Torrent {
    static TORRENT: OnceLock<Torrent> = OnceLock::new();
    TORRENT.get_or_init(|| without_v2(large()))
}
