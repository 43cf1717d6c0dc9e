//! Hybrids whose two descriptions differ, and those that differ in form only.

use super::support::*;
use super::*;
use crate::bencode::Item;
use HybridMismatch as H;

/// A hybrid over the tree `{a: 5000, b/c: 20000, d: 0, e: 16384}` with another v1 list.
fn with_list(files: impl IntoIterator<Item = Item>, pieces: usize) -> Item {
    let mut torrent = base();
    put(&mut torrent, &["info"], "files", Item::list(files));
    put(
        &mut torrent,
        &["info"],
        "pieces",
        Item::bytes(vec![7; 20 * pieces]),
    );
    torrent
}

fn base() -> Item {
    let tree = dict([
        ("a", leaf(5000)),
        ("b", dict([("c", leaf(20_000))])),
        ("d", leaf(0)),
        ("e", leaf(16_384)),
    ]);
    let info = dict([
        ("file tree", tree),
        ("meta version", Item::int(2)),
        ("name", s("site")),
        ("piece length", Item::int(16_384)),
    ]);
    torrent(info)
}

fn good_list() -> Vec<Item> {
    vec![
        v1_file("a", 5000),
        v1_pad(11_384),
        v1_file("b/c", 20_000),
        v1_file("d", 0),
        v1_pad(12_768),
        v1_file("e", 16_384),
    ]
}

/// The good list with one entry replaced, removed or added.
fn list(change: impl FnOnce(&mut Vec<Item>)) -> Vec<Item> {
    let mut files = good_list();
    change(&mut files);
    files
}

fn attr(mut file: Item, attr: &str) -> Item {
    put(&mut file, &[], "attr", s(attr));
    file
}

#[test]
fn t10_hybrids_that_describe_different_files_are_refused() {
    let count = |v1, v2| H::FileCount { v1, v2 };
    let lists: Vec<(&str, Vec<Item>, HybridMismatch)> = vec![
        ("nothing", vec![], count(0, 4)),
        ("only padding", vec![v1_pad(16_384)], count(0, 4)),
        ("first file only", vec![v1_file("a", 5000)], count(1, 4)),
        ("last file missing", list(|f| drop(f.pop())), count(3, 4)),
        (
            "empty file missing",
            list(|f| drop(f.remove(3))),
            H::Path(2),
        ),
        (
            "file more at the end",
            list(|f| f.push(v1_file("f", 1))),
            count(5, 4),
        ),
        (
            "empty file more",
            list(|f| f.push(v1_file("f", 0))),
            count(5, 4),
        ),
        (
            "file more at the front",
            list(|f| f.insert(0, v1_file("0", 0))),
            H::Path(0),
        ),
        (
            "file twice",
            list(|f| f.insert(1, v1_file("a", 5000))),
            H::Path(1),
        ),
        (
            "other name",
            list(|f| f[0] = v1_file("A", 5000)),
            H::Path(0),
        ),
        (
            "other directory",
            list(|f| f[2] = v1_file("x/c", 20_000)),
            H::Path(1),
        ),
        (
            "no directory",
            list(|f| f[2] = v1_file("c", 20_000)),
            H::Path(1),
        ),
        (
            "one directory more",
            list(|f| f[2] = v1_file("b/b/c", 20_000)),
            H::Path(1),
        ),
        (
            "name of the directory",
            list(|f| f[2] = v1_file("b", 20_000)),
            H::Path(1),
        ),
        (
            "empty file elsewhere",
            list(|f| f[3] = v1_file("b/d", 0)),
            H::Path(2),
        ),
        (
            "name with a dot",
            list(|f| f[0] = v1_file("./a", 5000)),
            H::Path(0),
        ),
        (
            "way up and down again",
            list(|f| f[2] = v1_file("x/../b/c", 20_000)),
            H::Path(1),
        ),
        (
            "names swapped",
            list(|f| {
                f[0] = v1_file("e", 5000);
                f[5] = v1_file("a", 16_384);
            }),
            H::Path(0),
        ),
        (
            "order swapped",
            vec![
                v1_file("e", 16_384),
                v1_file("a", 5000),
                v1_pad(11_384),
                v1_file("b/c", 20_000),
                v1_file("d", 0),
            ],
            H::Path(0),
        ),
        (
            "one byte more",
            list(|f| f[0] = v1_file("a", 5001)),
            H::Length(0),
        ),
        (
            "one byte less",
            list(|f| f[2] = v1_file("b/c", 19_999)),
            H::Length(1),
        ),
        (
            "empty file with content",
            list(|f| f[3] = v1_file("d", 1)),
            H::Length(2),
        ),
        (
            "content emptied",
            list(|f| f[5] = v1_file("e", 0)),
            H::Length(3),
        ),
        (
            "padding counted to the file",
            list(|f| {
                f.remove(1);
                f[0] = v1_file("a", 16_384);
            }),
            H::Length(0),
        ),
        (
            "file made padding",
            list(|f| f[5] = attr(v1_file("e", 16_384), "p")),
            count(3, 4),
        ),
        (
            "padding made a file",
            list(|f| f[1] = v1_file(".pad/11384", 11_384)),
            H::Path(1),
        ),
        (
            "old padding file",
            list(|f| f[1] = v1_file("_____padding_file_0", 11_384)),
            H::Path(1),
        ),
        (
            "symlink in v1 only",
            list(|f| f[3] = attr(v1_file("d", 0), "l")),
            H::Symlink(2),
        ),
        (
            "no padding",
            list(|f| {
                f.remove(4);
                f.remove(1);
            }),
            H::Alignment(1),
        ),
        (
            "first padding missing",
            list(|f| drop(f.remove(1))),
            H::Alignment(1),
        ),
        (
            "second padding missing",
            list(|f| drop(f.remove(4))),
            H::Alignment(3),
        ),
        (
            "padding one short",
            list(|f| f[1] = v1_pad(11_383)),
            H::Alignment(1),
        ),
        (
            "padding one long",
            list(|f| f[1] = v1_pad(11_385)),
            H::Alignment(1),
        ),
        (
            "padding of a piece more",
            list(|f| f[1] = v1_pad(11_384 + 16_384)),
            H::Alignment(1),
        ),
        (
            "padding at the front",
            list(|f| f.insert(0, v1_pad(16_384))),
            H::Alignment(0),
        ),
        (
            "padding at the front, not whole",
            list(|f| f.insert(0, v1_pad(1))),
            H::Alignment(0),
        ),
        (
            "padding at the end",
            list(|f| f.push(v1_pad(16_384))),
            H::TailPadding,
        ),
        (
            "padding at the end, not whole",
            list(|f| f.push(v1_pad(1))),
            H::TailPadding,
        ),
    ];
    assert!(lists.len() >= 30);
    for (about, files, mismatch) in lists {
        // However many pieces it claims to have: the descriptions are compared first.
        for pieces in [1, 4, 5] {
            let torrent = with_list(files.clone(), pieces).to_bytes();
            let got = Metainfo::parse(&torrent);
            assert_eq!(got, Err(mismatch.clone().into()), "{about}");
        }
    }
}

#[test]
fn t10_a_single_file_and_a_tree_must_name_the_same_file() {
    let single = |tree: Item, name: &str, length: i64| {
        torrent(dict([
            ("file tree", tree),
            ("length", Item::int(length)),
            ("meta version", Item::int(2)),
            ("name", s(name)),
            ("piece length", Item::int(16_384)),
            ("pieces", Item::bytes([7; 20])),
        ]))
        .to_bytes()
    };
    assert!(Metainfo::parse(&single(dict([("n", leaf(5))]), "n", 5)).is_ok());
    let cases: [(Vec<u8>, HybridMismatch); 5] = [
        (single(dict([("m", leaf(5))]), "n", 5), H::Path(0)),
        (single(dict([("n", leaf(5))]), "n", 6), H::Length(0)),
        (
            single(dict([("n", dict([("n", leaf(5))]))]), "n", 5),
            H::Path(0),
        ),
        (
            single(dict([("n", leaf(5)), ("o", leaf(0))]), "n", 5),
            H::FileCount { v1: 1, v2: 2 },
        ),
        (single(dict([]), "n", 5), H::FileCount { v1: 1, v2: 0 }),
    ];
    for (bytes, mismatch) in cases {
        assert_eq!(Metainfo::parse(&bytes), Err(mismatch.into()));
    }
}

#[test]
fn differences_that_move_no_byte_are_accepted() {
    let four = |files: Vec<Item>| Metainfo::parse(&with_list(files, 4).to_bytes()).unwrap();
    let plain = four(good_list());
    let content = |meta: &Metainfo| -> Vec<FileEntry> {
        meta.files()
            .iter()
            .filter(|file| file.length > 0)
            .cloned()
            .collect()
    };
    // Padding before the empty file instead of behind it, in two parts, named otherwise, unnamed.
    let before = four(list(|f| f.swap(3, 4)));
    assert_eq!(content(&before), content(&plain));
    let parts = four(list(|f| {
        f[1] = v1_pad(384);
        f.insert(1, v1_pad(11_000));
    }));
    assert_eq!(parts.files().len(), plain.files().len() + 1);
    let named = four(list(|f| f[1] = attr(v1_file("whatever/0", 11_384), "p")));
    assert_eq!(content(&named), content(&plain));
    let unnamed = four(list(|f| cut(&mut f[1], &[], "path")));
    assert_eq!(content(&unnamed), content(&plain));
    // Attributes that mean nothing to us, and one that only one half knows.
    let half = four(list(|f| f[0] = attr(v1_file("a", 5000), "xh")));
    assert!(half.files().iter().all(|file| !file.executable));
}

#[test]
fn the_end_may_be_padded_to_a_whole_piece() {
    let mut torrent = hybrid();
    let files = [
        v1_file("a.txt", 5_000),
        v1_pad(11_384),
        v1_file("b/c.txt", 20_000),
        v1_pad(12_768),
    ];
    put(&mut torrent, &["info"], "files", Item::list(files));
    let meta = Metainfo::parse(&torrent.to_bytes()).unwrap();
    assert_eq!(meta.geometry().total_length(), 3 * 16_384);
    assert_eq!(meta.geometry().piece_count(), 3);
}
