//! Bad metainfo, row by row: a good torrent with one thing wrong, and the error it must give.

use super::support::*;
use super::*;
use crate::bencode::{BencodeError, Item};
use crate::geometry::GeometryError;
use MetainfoError as E;

struct Rows(Vec<(String, Vec<u8>, MetainfoError)>);

impl Rows {
    fn raw(&mut self, about: &str, bytes: &[u8], error: E) {
        self.0.push((about.to_owned(), bytes.to_vec(), error));
    }

    /// A good torrent, changed.
    fn row(&mut self, about: &str, good: &Item, error: E, change: impl FnOnce(&mut Item)) {
        let mut torrent = good.clone();
        change(&mut torrent);
        assert_ne!(torrent, *good, "{about}: nothing changed");
        self.raw(about, &torrent.to_bytes(), error);
    }

    /// One row for each kind of torrent that has the key.
    fn set(&mut self, key: &str, value: &Item, error: &E, kinds: &[(&str, Item)]) {
        for (kind, good) in kinds {
            let about = format!("{kind}: {key} = {value:?}");
            self.row(&about, good, error.clone(), |t| {
                put(t, &["info"], key, value.clone())
            });
        }
    }
}

fn rows() -> Vec<(String, Vec<u8>, MetainfoError)> {
    let mut rows = Rows(Vec::new());
    outside(&mut rows);
    numbers(&mut rows);
    v1_lists(&mut rows);
    v2_trees(&mut rows);
    layers(&mut rows);
    rows.0
}

/// No bencode, no torrent, no info.
fn outside(rows: &mut Rows) {
    rows.raw("nothing", b"", E::Bencode(BencodeError::Truncated));
    rows.raw(
        "html",
        b"<html>",
        E::Bencode(BencodeError::UnexpectedByte { at: 0, byte: b'<' }),
    );
    let good = hybrid().to_bytes();
    for end in [1, good.len() / 3, good.len() / 2] {
        let front = &good[..end];
        let error = bencode::decode(front, &Rules::METAINFO).unwrap_err();
        rows.raw("cut", front, E::Bencode(error));
    }
    rows.raw(
        "cut by one",
        &good[..good.len() - 1],
        E::Bencode(BencodeError::Truncated),
    );
    let mut long = good.clone();
    long.push(b'e');
    let error = BencodeError::TrailingBytes { at: good.len() };
    rows.raw("one byte more", &long, E::Bencode(error));
    for depth in [109, 10_000] {
        let error = E::Bencode(BencodeError::Depth {
            max: limits::METAINFO_DEPTH_MAX,
        });
        rows.raw("lists", "l".repeat(depth).as_bytes(), error.clone());
        rows.raw("dictionaries", "d1:a".repeat(depth).as_bytes(), error);
    }
    let huge = vec![b'0'; limits::METAINFO_LEN_MAX + 1];
    rows.raw("long", &huge, E::TooLong(huge.len()));
    let twice = b"d4:infod4:name1:a4:name1:bee";
    rows.raw(
        "key twice",
        twice,
        E::Bencode(BencodeError::DuplicateKey { at: 7 }),
    );
    for other in [Item::int(1), s("x"), Item::list([])] {
        rows.raw("no dictionary", &other.to_bytes(), E::WrongType("torrent"));
        rows.raw(
            "info of another type",
            &torrent(other).to_bytes(),
            E::WrongType("info"),
        );
    }
    rows.raw("no info", b"de", E::Missing("info"));
    rows.raw("empty info", b"d4:infodee", E::Missing("piece length"));
}

fn kinds() -> [(&'static str, Item); 4] {
    [
        ("v1", v1()),
        ("v1 single", v1_single()),
        ("v2", v2()),
        ("hybrid", hybrid()),
    ]
}

/// Keys that every torrent has.
fn numbers(rows: &mut Rows) {
    let kinds = kinds();
    for key in ["name", "piece length"] {
        for (kind, good) in &kinds {
            let error = E::Missing(key);
            rows.row(&format!("{kind} without {key}"), good, error, |t| {
                cut(t, &["info"], key)
            });
        }
    }
    rows.set("name", &Item::int(1), &E::WrongType("name"), &kinds);
    rows.set("name", &Item::list([s("a")]), &E::WrongType("name"), &kinds);
    rows.set(
        "piece length",
        &s("16384"),
        &E::WrongType("piece length"),
        &kinds,
    );
    rows.set(
        "meta version",
        &s("2"),
        &E::WrongType("meta version"),
        &kinds,
    );
    for version in [0, 3, -1, -2, i64::MAX] {
        rows.set(
            "meta version",
            &Item::int(version),
            &E::Version(version),
            &kinds,
        );
    }
    let too_long = i64::from(limits::PIECE_LENGTH_MAX) + 1;
    for length in [
        0,
        -1,
        -16_384,
        1,
        1023,
        too_long,
        1 << 31,
        1 << 32,
        (1 << 32) + 16_384,
        i64::MAX,
        i64::MIN,
    ] {
        rows.set(
            "piece length",
            &Item::int(length),
            &E::PieceLength(length),
            &kinds,
        );
    }
    // No power of two, or too short for a leaf: BEP 52 only.
    for length in [8192, 1024, 16_383, 16_385, 20_000, 3 * 16_384] {
        rows.set(
            "piece length",
            &Item::int(length),
            &E::PieceLength(length),
            &kinds[2..],
        );
    }
    rows.set(
        "pieces",
        &Item::int(1),
        &E::WrongType("pieces"),
        &[v1_kind(), single_kind()],
    );
    rows.set(
        "pieces",
        &Item::list([]),
        &E::WrongType("pieces"),
        &[v1_kind(), hybrid_kind()],
    );
    for (kind, good, expected) in [
        ("v1", v1(), 60),
        ("single", v1_single(), 40),
        ("hybrid", hybrid(), 60),
    ] {
        for got in [0, 19, 20, 21, expected - 1, expected + 1, expected + 20] {
            let error = E::PiecesLength {
                expected: expected as u64,
                got,
            };
            if got != expected {
                let value = Item::bytes(vec![7; got]);
                rows.row(
                    &format!("{kind}: {got} bytes of pieces"),
                    &good,
                    error,
                    |t| put(t, &["info"], "pieces", value),
                );
            }
        }
        let error = E::Missing("pieces");
        rows.row(&format!("{kind} without pieces"), &good, error, |t| {
            cut(t, &["info"], "pieces")
        });
    }
}

fn v1_kind() -> (&'static str, Item) {
    ("v1", v1())
}

fn single_kind() -> (&'static str, Item) {
    ("v1 single", v1_single())
}

fn hybrid_kind() -> (&'static str, Item) {
    ("hybrid", hybrid())
}

fn v1_lists(rows: &mut Rows) {
    let first = &["info", "files", "0"];
    rows.row("neither", &v1(), E::LengthOrFiles, |t| {
        cut(t, &["info"], "files")
    });
    rows.row("neither", &v1_single(), E::LengthOrFiles, |t| {
        cut(t, &["info"], "length")
    });
    rows.row("both", &v1(), E::LengthOrFiles, |t| {
        put(t, &["info"], "length", Item::int(40_000))
    });
    for value in [Item::int(1), s("x"), Item::dict::<&str>([])] {
        rows.set("files", &value, &E::WrongType("files"), &[v1_kind()]);
        rows.set(
            "files",
            &Item::list([value.clone()]),
            &match value {
                Item::Dict(_) => E::Missing("length"),
                _ => E::WrongType("files"),
            },
            &[v1_kind()],
        );
    }
    rows.set("files", &Item::list([]), &E::Empty, &[v1_kind()]);
    let empties = Item::list([v1_file("a", 0), v1_file("b", 0)]);
    rows.set("files", &empties, &E::Empty, &[v1_kind()]);
    rows.set("length", &Item::int(0), &E::Empty, &[single_kind()]);
    rows.set("length", &s("1"), &E::WrongType("length"), &[single_kind()]);
    for length in [-1, i64::MIN] {
        rows.set(
            "length",
            &Item::int(length),
            &E::FileLength(length),
            &[single_kind()],
        );
        rows.row("negative file", &v1(), E::FileLength(length), |t| {
            put(t, first, "length", Item::int(length))
        });
    }
    rows.set(
        "length",
        &Item::int(i64::MAX),
        &too_many_pieces(i64::MAX),
        &[single_kind()],
    );
    let most = i64::from(limits::PIECES_MAX) * 16_384;
    rows.set(
        "length",
        &Item::int(most + 1),
        &too_many_pieces(most + 1),
        &[single_kind()],
    );
    rows.row("sum beyond 63 bits", &v1(), E::FileLength(i64::MAX), |t| {
        put(t, first, "length", Item::int(i64::MAX))
    });
    rows.row("no length", &v1(), E::Missing("length"), |t| {
        cut(t, first, "length")
    });
    rows.row(
        "length of another type",
        &v1(),
        E::WrongType("length"),
        |t| put(t, first, "length", s("1")),
    );
    rows.row("no path", &v1(), E::Missing("path"), |t| {
        cut(t, first, "path")
    });
    rows.row("empty path", &v1(), E::Path, |t| {
        put(t, first, "path", Item::list([]))
    });
    for path in [
        s("a"),
        Item::int(1),
        Item::list([Item::int(1)]),
        Item::list([s("a"), Item::list([])]),
    ] {
        rows.row("path of another type", &v1(), E::WrongType("path"), |t| {
            put(t, first, "path", path)
        });
    }
    for parts in [102, 1000] {
        let path = Item::list(std::iter::repeat_n(s("d"), parts));
        rows.row("deep path", &v1(), E::Path, |t| put(t, first, "path", path));
    }
    for (parts, len) in [(1, 4096), (2, 2048), (1, 1 << 20), (50, 100)] {
        let path = Item::list(std::iter::repeat_n(Item::bytes(vec![b'd'; len]), parts));
        rows.row("long path", &v1(), E::Path, |t| put(t, first, "path", path));
    }
    rows.row("symlink with content", &v1(), E::SymlinkContent, |t| {
        put(t, first, "attr", s("l"))
    });
    for (name, count) in [("a", 502), ("A.TXT", 600)] {
        let files = Item::list(std::iter::repeat_n(v1_file(name, 1), count));
        rows.row("duplicates", &v1(), E::DuplicateNames, |t| {
            put(t, &["info"], "files", files);
            put(t, &["info"], "pieces", Item::bytes([7; 20]));
        });
    }
}

fn too_many_pieces(length: i64) -> E {
    E::Geometry(GeometryError::PieceCount((length as u64).div_ceil(16_384)))
}

fn v2_trees(rows: &mut Rows) {
    let root = &["info", "file tree"];
    let file = &["info", "file tree", "a.txt", ""];
    for (kind, mut good) in [("v2", v2()), ("hybrid", hybrid())] {
        let plain = at(&mut good, file).clone();
        let mut row = |about: &str, error: E, change: &dyn Fn(&mut Item)| {
            rows.row(&format!("{kind}: {about}"), &good, error, change);
        };
        row("no tree", E::Missing("file tree"), &|t| {
            cut(t, &["info"], "file tree")
        });
        for value in [Item::int(1), s("x"), Item::list([])] {
            row("tree of another type", E::WrongType("file tree"), &|t| {
                put(t, &["info"], "file tree", value.clone())
            });
            row("node of another type", E::WrongType("file tree"), &|t| {
                put(t, root, "a.txt", value.clone())
            });
            row("file of another type", E::WrongType("file tree"), &|t| {
                put(t, &["info", "file tree", "a.txt"], "", value.clone())
            });
        }
        row("file without a name", E::TreeNode, &|t| {
            put(t, root, "", plain.clone())
        });
        row("file and directory", E::TreeNode, &|t| {
            put(t, &["info", "file tree", "a.txt"], "x", leaf(1))
        });
        row("directory and file", E::TreeNode, &|t| {
            put(t, &["info", "file tree", "b"], "", plain.clone())
        });
        row("no length", E::Missing("length"), &|t| {
            cut(t, file, "length")
        });
        row("length of another type", E::WrongType("length"), &|t| {
            put(t, file, "length", s("1"))
        });
        row("negative", E::FileLength(-1), &|t| {
            put(t, file, "length", Item::int(-1))
        });
        row("sum beyond 63 bits", E::FileLength(i64::MAX), &|t| {
            put(t, file, "length", Item::int(i64::MAX))
        });
        row("pad file", E::TreePad, &|t| put(t, file, "attr", s("p")));
        row("symlink with content", E::SymlinkContent, &|t| {
            put(t, file, "attr", s("lx"))
        });
        row("no root", E::PiecesRoot, &|t| cut(t, file, "pieces root"));
        for root in [
            Item::bytes([1; 31]),
            Item::bytes([1; 33]),
            Item::bytes([]),
            Item::bytes([0; 32]),
            Item::int(1),
        ] {
            row("malformed root", E::PiecesRoot, &|t| {
                put(t, file, "pieces root", root.clone())
            });
        }
        row("root of an empty file", E::PiecesRoot, &|t| {
            put(t, file, "length", Item::int(0))
        });
        let deep = (0..101).fold(leaf(1), |node, _| dict([("d", node)]));
        row("deep tree", E::Path, &|t| put(t, root, "d", deep.clone()));
        let long = Item::dict([("x".repeat(5000), leaf(1))]);
        row("long name", E::Path, &|t| put(t, root, "c", long.clone()));
    }
    let v2 = v2();
    rows.row("empty tree", &v2, E::Empty, |t| {
        put(t, &["info"], "file tree", dict([]))
    });
    rows.row("empty files", &v2, E::Empty, |t| {
        put(t, &["info"], "file tree", dict([("a", leaf(0))]))
    });
    let most = i64::from(limits::PIECES_MAX) * 16_384;
    rows.row(
        "too many pieces",
        &v2,
        E::Geometry(GeometryError::PieceCount(u64::from(limits::PIECES_MAX) + 3)),
        |t| {
            put(t, file, "length", Item::int(most + 1));
        },
    );
    rows.row("one root, two lengths", &v2, E::RootReused, |t| {
        put(t, file, "pieces root", Item::bytes(root_of(20_000)));
        put(t, file, "length", Item::int(20_001));
    });
    // The keys of a tree decide about piece numbers, so their order isn't left to readers.
    let mut unsorted = b"d4:infod9:file treed1:bd0:d6:lengthi1e11:pieces root32:".to_vec();
    unsorted.extend([1; 32]);
    unsorted.extend(b"ee1:ad0:d6:lengthi1e11:pieces root32:");
    unsorted.extend([2; 32]);
    unsorted.extend(b"eee12:meta versioni2e4:name1:n12:piece lengthi16384eee");
    rows.raw("unsorted tree", &unsorted, E::TreeOrder);
    // One deep directory, named once, shared by very many files.
    let files = (0..2000).map(|n| (format!("{n:04}"), leaf(1)));
    let shared = (0..90).fold(Item::dict(files), |node, _| dict([("dddddddddd", node)]));
    rows.row("paths longer than the metainfo", &v2, E::PathsLength, |t| {
        put(t, root, "z", shared)
    });
}

fn layers(rows: &mut Rows) {
    for (kind, good) in [("v2", v2()), ("hybrid", hybrid())] {
        let root = root_of(20_000);
        let layer = layer_of(20_000).concat();
        let with = |layer: Item| Item::dict([(root, layer)]);
        let mut row = |about: &str, layers: Item, error: E| {
            rows.row(&format!("{kind}: {about}"), &good, error, |t| {
                put(t, &[], "piece layers", layers)
            });
        };
        for value in [Item::int(1), s("x"), Item::list([])] {
            row(
                "layers of another type",
                value,
                E::WrongType("piece layers"),
            );
        }
        row(
            "layer of another type",
            with(Item::int(1)),
            E::WrongType("piece layers"),
        );
        for got in [0, 1, 31, 32, 33, 63, 65, 96] {
            let bytes: Vec<u8> = layer.iter().copied().cycle().take(got).collect();
            row(
                "layer of another length",
                with(Item::bytes(bytes)),
                E::LayerLength { expected: 64, got },
            );
        }
        for at in [0, 31, 32, 63] {
            let mut bytes = layer.clone();
            bytes[at] ^= 0x80;
            row(
                "layer of another file",
                with(Item::bytes(bytes)),
                E::LayerRoot,
            );
        }
        let swapped = [&layer[32..], &layer[..32]].concat();
        row(
            "layer in another order",
            with(Item::bytes(swapped)),
            E::LayerRoot,
        );
    }
}

#[test]
fn bad_metainfo_is_refused_by_name() {
    let rows = rows();
    assert!(rows.len() >= 150, "{} rows", rows.len());
    for (about, bytes, error) in rows {
        let got = Metainfo::parse(&bytes).map(|meta| format!("{meta:?}"));
        assert_eq!(got, Err(error), "{about}");
    }
}

#[test]
fn the_good_torrents_that_rows_start_from_are_good() {
    for (kind, torrent) in kinds() {
        let meta = Metainfo::parse(&torrent.to_bytes());
        assert!(meta.is_ok(), "{kind}: {meta:?}");
    }
}

#[test]
fn an_info_dictionary_from_peers_meets_the_same_rules() {
    for (kind, torrent) in kinds() {
        let Item::Dict(mut torrent) = torrent else {
            panic!("a dictionary")
        };
        let info = torrent.remove(&b"info"[..]).unwrap().to_bytes();
        let meta = Metainfo::from_info(&info).unwrap();
        assert_eq!(meta.raw_info()[..], info[..], "{kind}");
        let trailing = [&info[..], b"e"].concat();
        assert!(matches!(Metainfo::from_info(&trailing), Err(E::Bencode(_))));
        assert!(matches!(
            Metainfo::from_info(&info[..info.len() - 1]),
            Err(E::Bencode(_))
        ));
    }
    assert_eq!(Metainfo::from_info(b"le"), Err(E::WrongType("info")));
    let long = vec![b'l'; limits::INFO_LEN_MAX + 1];
    assert_eq!(Metainfo::from_info(&long), Err(E::TooLong(long.len())));
}

#[test]
fn a_good_torrent_with_any_byte_changed_never_panics() {
    for (_, good) in kinds() {
        let good = good.to_bytes();
        for at in 0..good.len() {
            for change in [0x01, 0x10, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[at] ^= change;
                let _ = Metainfo::parse(&bad);
            }
            let _ = Metainfo::parse(&good[..at]);
        }
    }
}

#[test]
fn t3_a_list_of_more_files_than_the_bound_is_refused() {
    let file = b"d6:lengthi0e4:pathl1:aee";
    let info = |files: usize| {
        let mut info = b"d5:filesl".to_vec();
        info.extend(file.repeat(files));
        info.extend(b"e4:name1:n12:piece lengthi16384e6:pieces0:e");
        assert!(info.len() <= limits::INFO_LEN_MAX);
        Metainfo::from_info(&info).unwrap_err()
    };
    assert_eq!(info(limits::FILES_MAX), E::Empty);
    assert_eq!(info(limits::FILES_MAX + 1), E::FileCount);
}
