//! Small torrents to take apart, and content that anybody can make again.

use sha2::{Digest as _, Sha256};

use crate::bencode::Item;
use crate::metainfo::{FileHasher, FileHashes};

/// The stream that `spec/vectors/metainfo/make.py` makes too.
pub(crate) fn content(seed: u64, length: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(length + 32);
    let mut counter = 0_u64;
    while out.len() < length {
        let mut hasher = Sha256::new();
        hasher.update(seed.to_be_bytes());
        hasher.update(counter.to_be_bytes());
        out.extend_from_slice(&hasher.finalize());
        counter += 1;
    }
    out.truncate(length);
    out
}

pub(crate) fn hashes(bytes: &[u8], piece_length: u32) -> FileHashes {
    let mut hasher = FileHasher::new(piece_length);
    hasher.update(bytes);
    hasher.finish()
}

pub(crate) fn path(path: &str) -> Vec<String> {
    path.split('/').map(str::to_owned).collect()
}

pub(crate) fn s(text: &str) -> Item {
    Item::bytes(text)
}

/// A dictionary of text keys.
pub(crate) fn dict<const N: usize>(entries: [(&str, Item); N]) -> Item {
    Item::dict(entries)
}

/// The item at a path of keys (or list indexes), to be changed.
pub(crate) fn at<'i>(item: &'i mut Item, keys: &[&str]) -> &'i mut Item {
    keys.iter().fold(item, |item, key| match item {
        Item::Dict(entries) => entries
            .get_mut(key.as_bytes())
            .unwrap_or_else(|| panic!("no key {key}")),
        Item::List(items) => &mut items[key.parse::<usize>().expect("an index")],
        _ => panic!("nothing below {key}"),
    })
}

/// Sets a key of the dictionary at a path of keys.
pub(crate) fn put(item: &mut Item, keys: &[&str], key: &str, value: Item) {
    match at(item, keys) {
        Item::Dict(entries) => entries.insert(key.as_bytes().to_vec(), value),
        _ => panic!("no dictionary"),
    };
}

/// Removes a key of the dictionary at a path of keys.
pub(crate) fn cut(item: &mut Item, keys: &[&str], key: &str) {
    match at(item, keys) {
        Item::Dict(entries) => {
            assert!(entries.remove(key.as_bytes()).is_some(), "no key {key}");
        }
        _ => panic!("no dictionary"),
    }
}

pub(crate) fn torrent(info: Item) -> Item {
    dict([("info", info)])
}

/// A good v1 torrent of two files and three pieces.
pub(crate) fn v1() -> Item {
    torrent(dict([
        (
            "files",
            Item::list([v1_file("a.txt", 20_000), v1_file("b/c.txt", 20_000)]),
        ),
        ("name", s("site")),
        ("piece length", Item::int(16_384)),
        ("pieces", Item::bytes([7; 60])),
    ]))
}

pub(crate) fn v1_file(name: &str, length: i64) -> Item {
    dict([
        ("length", Item::int(length)),
        ("path", Item::list(name.split('/').map(s))),
    ])
}

pub(crate) fn v1_pad(length: i64) -> Item {
    let mut pad = v1_file(&format!(".pad/{length}"), length);
    put(&mut pad, &[], "attr", s("p"));
    pad
}

/// A good v1 torrent of one file.
pub(crate) fn v1_single() -> Item {
    torrent(dict([
        ("length", Item::int(20_000)),
        ("name", s("blob.bin")),
        ("piece length", Item::int(16_384)),
        ("pieces", Item::bytes([7; 40])),
    ]))
}

/// A leaf of a file tree whose root is made of the length.
pub(crate) fn leaf(length: i64) -> Item {
    let mut file = dict([("length", Item::int(length))]);
    if length > 0 {
        put(&mut file, &[], "pieces root", Item::bytes(root_of(length)));
    }
    dict([("", file)])
}

/// The root and the piece layer of a file whose content is made of its length.
pub(crate) fn root_of(length: i64) -> [u8; 32] {
    let length = usize::try_from(length).expect("not negative");
    hashes(&content(length as u64, length), 16_384).pieces_root
}

pub(crate) fn layer_of(length: i64) -> Vec<[u8; 32]> {
    let length = usize::try_from(length).expect("not negative");
    hashes(&content(length as u64, length), 16_384).layer
}

/// A good v2 torrent of two files, one of them longer than a piece.
pub(crate) fn v2() -> Item {
    let info = dict([
        (
            "file tree",
            dict([
                ("a.txt", leaf(5_000)),
                ("b", dict([("c.txt", leaf(20_000))])),
            ]),
        ),
        ("meta version", Item::int(2)),
        ("name", s("site")),
        ("piece length", Item::int(16_384)),
    ]);
    let layers = Item::dict([(
        root_of(20_000),
        Item::bytes(layer_of(20_000).as_flattened()),
    )]);
    dict([("info", info), ("piece layers", layers)])
}

/// The same files as [`v2`] as a hybrid.
pub(crate) fn hybrid() -> Item {
    let mut torrent = v2();
    let files = [
        v1_file("a.txt", 5_000),
        v1_pad(11_384),
        v1_file("b/c.txt", 20_000),
    ];
    put(&mut torrent, &["info"], "files", Item::list(files));
    put(&mut torrent, &["info"], "pieces", Item::bytes([7; 60]));
    torrent
}
