//! What a good torrent says, and what we forgive.

use super::support::*;
use super::*;
use crate::bencode::Item;
use crate::geometry::PieceIndex;

fn parse(torrent: &Item) -> Metainfo {
    Metainfo::parse(&torrent.to_bytes()).unwrap()
}

fn piece(meta: &Metainfo, index: u32) -> PieceIndex {
    meta.geometry().piece(index).unwrap()
}

#[test]
fn kinds_have_the_info_hashes_and_swarms_they_should() {
    let (v1, v2, hybrid) = (parse(&v1()), parse(&v2()), parse(&hybrid()));
    assert_eq!(
        (v1.kind(), v2.kind(), hybrid.kind()),
        (Kind::V1, Kind::V2, Kind::Hybrid)
    );
    assert!(v1.info_hash_v1().is_some() && v1.info_hash_v2().is_none());
    assert!(v2.info_hash_v1().is_none() && v2.info_hash_v2().is_some());
    let ids = hybrid.swarm_ids();
    assert_eq!(ids[0], hybrid.info_hash_v1().unwrap().swarm_id());
    assert_eq!(ids[1], hybrid.info_hash_v2().unwrap().swarm_id());
    assert_eq!(v2.swarm_ids().len(), 1);
}

#[test]
fn keys_we_do_not_know_are_kept_and_hashed() {
    let mut torrent = hybrid();
    put(&mut torrent, &["info"], "source", s("somewhere"));
    put(
        &mut torrent,
        &["info"],
        "x",
        Item::list([Item::int(-5), dict([("y", s("z"))])]),
    );
    let with = parse(&torrent);
    let without = parse(&hybrid());
    assert_ne!(with.info_hash_v2(), without.info_hash_v2());
    assert!(
        with.raw_info()
            .windows(9)
            .any(|bytes| bytes == b"somewhere")
    );
    assert_eq!(Metainfo::parse(&with.to_bytes()).unwrap(), with);
}

#[test]
fn unsorted_keys_are_forgiven_and_hashed_as_they_are() {
    let mut pieces = b"d4:infod6:pieces20:".to_vec();
    pieces.extend([7; 20]);
    pieces.extend(b"12:piece lengthi16384e4:name1:a6:lengthi5eee");
    let meta = Metainfo::parse(&pieces).unwrap();
    assert_eq!(meta.raw_info()[..], pieces[7..pieces.len() - 1]);
    assert_eq!(
        meta.info_hash_v1(),
        Some(InfoHashV1::of_info(&pieces[7..pieces.len() - 1]))
    );
    assert_eq!(meta.v1_hash(piece(&meta, 0)), Some([7; 20]));
    assert!(Metainfo::parse(&meta.to_bytes()).unwrap().raw_info() == meta.raw_info());
}

#[test]
fn odd_piece_lengths_of_old_v1_torrents_are_read() {
    for (length, pieces) in [
        (1024, 20),
        (10_000, 2),
        (19_999, 2),
        (20_000, 1),
        (1 << 26, 1),
    ] {
        let mut torrent = v1_single();
        put(&mut torrent, &["info"], "piece length", Item::int(length));
        put(
            &mut torrent,
            &["info"],
            "pieces",
            Item::bytes(vec![1; pieces * 20]),
        );
        assert_eq!(parse(&torrent).geometry().piece_count() as usize, pieces);
    }
}

#[test]
fn v2_files_begin_on_pieces_and_the_end_is_padded() {
    let meta = parse(&v2());
    let layout: Vec<(u64, u64, bool)> = meta
        .files()
        .iter()
        .map(|file| (file.offset, file.length, file.pad))
        .collect();
    let expected = [
        (0, 5000, false),
        (5000, 11_384, true),
        (16_384, 20_000, false),
        (36_384, 12_768, true),
    ];
    assert_eq!(layout, expected);
    assert_eq!(meta.files()[2].path, ["b", "c.txt"]);
    assert_eq!(meta.files()[1].path, [".pad", "11384"]);
    assert_eq!(meta.geometry().piece_count(), 3);
}

#[test]
fn trees_of_pieces_are_as_high_as_their_file_needs() {
    for torrent in [v2(), hybrid()] {
        let meta = parse(&torrent);
        let short = meta.piece_tree(piece(&meta, 0)).unwrap();
        assert_eq!((short.file, short.data_len, short.height), (0, 5000, 0));
        assert_eq!(short.root, Some(root_of(5000)));
        let last = meta.piece_tree(piece(&meta, 2)).unwrap();
        assert_eq!((last.file, last.data_len), (2, 20_000 - 16_384));
        assert_eq!(last.root, Some(layer_of(20_000)[1]));
        assert_eq!(meta.v2_root(piece(&meta, 1)), Some(layer_of(20_000)[0]));
        assert_eq!(meta.file_of(piece(&meta, 1)), Some(2));
    }
    let v1 = parse(&v1());
    assert_eq!(v1.v2_root(piece(&v1, 0)), None);
    assert_eq!(v1.file_of(piece(&v1, 0)), None);
}

#[test]
fn layers_can_come_later_and_only_the_right_ones() {
    let mut torrent = v2();
    cut(&mut torrent, &[], "piece layers");
    let mut meta = parse(&torrent);
    let root = root_of(20_000);
    assert_eq!(meta.missing_layers().collect::<Vec<_>>(), [root]);
    assert_eq!(meta.v2_root(piece(&meta, 1)), None);
    assert_eq!(meta.piece_layer(root), None);
    assert_eq!(
        meta.set_piece_layer([1; 32], layer_of(20_000)),
        Err(MetainfoError::LayerUnknown)
    );
    let short = vec![root];
    let error = MetainfoError::LayerLength {
        expected: 64,
        got: 32,
    };
    assert_eq!(meta.set_piece_layer(root, short), Err(error));
    assert_eq!(
        meta.set_piece_layer(root, vec![[1; 32]; 2]),
        Err(MetainfoError::LayerRoot)
    );
    assert_eq!(meta.missing_layers().count(), 1);
    meta.set_piece_layer(root, layer_of(20_000)).unwrap();
    assert_eq!(meta.missing_layers().count(), 0);
    assert_eq!(meta, parse(&v2()));
    assert_eq!(meta.piece_layer(root), Some(&layer_of(20_000)[..]));
    // A layer of no file here is ignored, as it harms nobody.
    put(
        &mut torrent,
        &[],
        "piece layers",
        Item::dict([([9; 32], s("x"))]),
    );
    assert_eq!(parse(&torrent).missing_layers().count(), 1);
}

#[test]
fn spans_cut_a_range_into_files_and_padding() {
    let meta = parse(&hybrid());
    let spans: Vec<(usize, u64, u64, bool)> = meta
        .spans(&ByteRange::new(4_999, 16_385))
        .map(|span| (span.file, span.offset, span.length, span.pad))
        .collect();
    assert_eq!(
        spans,
        [(0, 4_999, 1, false), (1, 0, 11_384, true), (2, 0, 1, false)]
    );
    assert_eq!(meta.spans(&ByteRange::new(0, u64::MAX)).count(), 3);
    assert_eq!(meta.spans(&ByteRange::new(36_384, u64::MAX)).count(), 0);
    assert_eq!(meta.spans(&ByteRange::new(5, 5)).count(), 0);
    assert!(meta.is_pad(&ByteRange::new(5_000, 16_384)));
    assert!(meta.is_pad(&ByteRange::new(6_000, 6_001)));
    assert!(!meta.is_pad(&ByteRange::new(4_999, 6_000)));
    assert!(!meta.is_pad(&ByteRange::new(16_383, 16_385)));
    assert!(!meta.is_pad(&ByteRange::new(6_000, 6_000)));
    assert!(!meta.is_pad(&ByteRange::new(36_384, 40_000)));
}

#[test]
fn trackers_and_web_seeds_are_filtered_and_bounded() {
    let mut torrent = v1();
    put(
        &mut torrent,
        &[],
        "announce",
        s("http://only.example/announce"),
    );
    assert_eq!(parse(&torrent).trackers(), ["http://only.example/announce"]);
    let tiers = Item::list([
        Item::list([
            s("http://a.example/"),
            s("javascript:alert(1)"),
            s("http://a.example/"),
        ]),
        Item::list([
            s("UDP://b.example:1"),
            Item::int(1),
            s("http://"),
            Item::bytes([0xff]),
        ]),
        s("http://not-in-a-tier.example/"),
        Item::list([
            s(" wss://c.example/ "),
            s("http://d.example/\r\nHost: x"),
            s("file:///etc"),
        ]),
    ]);
    put(&mut torrent, &[], "announce-list", tiers);
    let expected = ["http://a.example/", "UDP://b.example:1", "wss://c.example/"];
    let meta = parse(&torrent);
    assert_eq!(meta.trackers(), expected);
    let tiers: Vec<_> = meta.tracker_tiers().map(<[_]>::len).collect();
    assert_eq!(tiers, [1, 1, 1]);
    put(&mut torrent, &[], "announce-list", Item::list([]));
    assert_eq!(parse(&torrent).trackers(), ["http://only.example/announce"]);

    put(&mut torrent, &[], "url-list", s("https://w.example/"));
    assert_eq!(parse(&torrent).web_seeds(), ["https://w.example/"]);
    let many = (0..1000).map(|n| Item::bytes(format!("http://w.example/{n}")));
    put(&mut torrent, &[], "url-list", Item::list(many));
    assert_eq!(parse(&torrent).web_seeds().len(), limits::WEB_SEEDS_MAX);
    put(
        &mut torrent,
        &[],
        "url-list",
        s(&format!("http://{}", "x".repeat(3000))),
    );
    assert!(parse(&torrent).web_seeds().is_empty());

    let changed = parse(&torrent).set_trackers(["http://x.example/".to_owned()]);
    assert_eq!(changed.trackers(), ["http://x.example/"]);
    assert_eq!(changed.tracker_tiers().count(), 1);
    let again = Metainfo::parse(&changed.to_bytes()).unwrap();
    assert_eq!(again, changed);
    assert_eq!(again.info_hash_v1(), parse(&torrent).info_hash_v1());
}

#[test]
fn private_is_read() {
    let mut torrent = v1();
    assert!(!parse(&torrent).is_private());
    put(&mut torrent, &["info"], "private", Item::int(1));
    assert!(parse(&torrent).is_private());
}

#[test]
fn symlinks_have_no_bytes_and_old_pad_files_stay() {
    let mut link = v1_file("link", 0);
    put(&mut link, &[], "attr", s("l"));
    put(
        &mut link,
        &[],
        "symlink path",
        Item::list([s(".."), s("etc")]),
    );
    let mut short = link.clone();
    cut(&mut short, &[], "length");
    let mut torrent = v1();
    let old = v1_file("_____padding_file_0_if you see this file, update", 3);
    put(
        &mut torrent,
        &["info"],
        "files",
        Item::list([link, short, old, v1_file("a", 40_000)]),
    );
    let meta = parse(&torrent);
    assert_eq!(meta.files()[0].path, ["link"]);
    assert_eq!(meta.files()[1].path, ["link.1"]);
    assert!(
        meta.files()[..2]
            .iter()
            .all(|file| file.length == 0 && !file.pad && file.symlink)
    );
    let leads = |file: usize| meta.symlink_targets().remove(&file);
    assert_eq!(
        [0, 1, 2].map(leads),
        [Some("../etc".into()), Some("../etc".into()), None]
    );
    assert!(!meta.files()[3].symlink);
    assert!(!meta.files()[2].pad);
}

#[test]
fn programs_are_told_from_other_files() {
    let with = |mut file: Item, attr: &str| {
        put(&mut file, &[], "attr", s(attr));
        file
    };
    let mut torrent = v1();
    let files = [
        with(v1_file("run", 40_000), "x"),
        with(v1_file("hidden", 1), "hx"),
        with(v1_file("text", 1), "h"),
        with(v1_file("link", 0), "lx"),
        with(v1_file("pad", 7), "px"),
    ];
    put(&mut torrent, &["info"], "files", Item::list(files));
    let mut meta = parse(&torrent).files().to_vec();
    let found: Vec<bool> = meta.drain(..).map(|file| file.executable).collect();
    assert_eq!(found, [true, true, false, false, false]);
    // Of a single file it stands beside the length.
    let mut single = v1();
    cut(&mut single, &["info"], "files");
    put(&mut single, &["info"], "length", Item::int(40_009));
    assert!(!parse(&single).files()[0].executable);
    put(&mut single, &["info"], "attr", s("x"));
    assert!(parse(&single).files()[0].executable);
}

#[test]
fn utf_8_names_win_over_others() {
    let mut torrent = v1();
    put(&mut torrent, &["info"], "name.utf-8", s("größe"));
    put(&mut torrent, &["info"], "name", Item::bytes(b"gr\xf6\xdfe"));
    put(
        &mut torrent,
        &["info", "files", "0"],
        "path.utf-8",
        Item::list([s("ö")]),
    );
    let meta = parse(&torrent);
    assert_eq!(meta.name(), "größe");
    assert_eq!(meta.files()[0].path, ["ö"]);
}

#[test]
fn names_of_strangers_are_made_harmless_in_all_kinds() {
    for (given, name) in [
        ("../../etc", ".._.._etc"),
        ("..", "__"),
        ("", "_"),
        ("a\0b", "a_b"),
    ] {
        for good in [v1(), v1_single(), v2()] {
            let mut torrent = good;
            put(&mut torrent, &["info"], "name", s(given));
            assert_eq!(parse(&torrent).name(), name);
        }
    }
    let mut torrent = v2();
    let mut tree = dict([("..", dict([("..", leaf(1)), ("/etc/passwd", leaf(2))]))]);
    put(&mut tree, &[], "C:\\x", leaf(3));
    put(&mut torrent, &["info"], "file tree", tree);
    let paths: Vec<String> = parse(&torrent)
        .files()
        .iter()
        .filter(|file| !file.pad)
        .map(|file| file.path.join("/"))
        .collect();
    assert_eq!(paths, ["__/__", "__/_etc_passwd", "C:_x"]);
}

#[test]
fn the_magnet_of_a_torrent_names_the_same_swarms() {
    for good in [v1(), v2(), hybrid()] {
        let meta = parse(&good).set_trackers(["http://t.example/".to_owned()]);
        let magnet = Magnet::parse(&meta.magnet().to_string()).unwrap();
        assert_eq!(magnet.swarm_ids(), meta.swarm_ids());
        assert_eq!(magnet.name.as_deref(), Some(meta.name()));
        assert_eq!(magnet.trackers, meta.trackers());
    }
}

#[test]
fn tiers_are_kept_as_they_are_found() {
    let tiers = Item::list([
        Item::list([s("http://a.example/"), s("http://b.example/")]),
        Item::list([s("http://a.example/"), s("no tracker")]),
        Item::list([]),
        Item::list([s("udp://c.example:1")]),
    ]);
    let mut torrent = v1();
    put(&mut torrent, &[], "announce-list", tiers);
    let meta = parse(&torrent);
    let expected = [
        &["http://a.example/", "http://b.example/"][..],
        &["udp://c.example:1"],
    ];
    assert!(meta.tracker_tiers().eq(expected));
    let again = Metainfo::parse(&meta.to_bytes()).unwrap();
    assert_eq!(again, meta, "and written so");
    // The bound is one of all tiers together.
    let many = (0..300).map(|tier| {
        let url = |n| s(&format!("http://t.example/{tier}/{n}"));
        Item::list((0..3).map(url))
    });
    put(&mut torrent, &[], "announce-list", Item::list(many));
    let meta = parse(&torrent);
    assert_eq!(meta.trackers().len(), limits::TRACKERS_MAX);
    assert_eq!(
        meta.tracker_tiers().count(),
        limits::TRACKERS_MAX.div_ceil(3)
    );
}
