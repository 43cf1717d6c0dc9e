use super::*;
use crate::download::webseed::plan::{file_url, parts};

#[test]
fn every_byte_is_asked_for_once_and_padding_never() {
    let lens = [5, 3 * PIECE as usize, 1, 0, 100_000, PIECE as usize + 1];
    for chunk in [1000, 16_384, 1 << 20] {
        let mut stage = Stage::new(&lens);
        stage.seed(1, "http://w.example/");
        while stage.answer(chunk, |_, _| {}) {
            stage.verify();
        }
        assert!(stage.download.is_complete());
        let asked: u64 = stage.made.iter().map(|fetch| fetch.range.len()).sum();
        assert_eq!(asked, lens.iter().sum::<usize>() as u64);
        assert_eq!(stage.download.stats().wasted, 0);
        assert_eq!(stage.download.stats().downloaded, asked);
    }
}

#[test]
fn neighbouring_pieces_are_asked_for_together_up_to_the_bound() {
    let mut stage = Stage::new(&[40 << 20]);
    stage.seed(1, "http://w.example/");
    assert_eq!(stage.open.len(), 1, "not proven yet");
    assert_eq!(stage.open[0].range.len(), u64::from(PIECE));
    stage.run();
    assert!(stage.download.is_complete());
    let longest = stage.made.iter().map(|fetch| fetch.range.len()).max();
    assert!(longest > Some(2 << 20), "{longest:?}");
    assert!(stage.made.len() < 60, "{} requests", stage.made.len());
}

#[test]
fn parts_join_within_a_file_and_end_with_it() {
    let (meta, _) = torrent(&[100, 3 * PIECE as usize]);
    let geometry = meta.geometry();
    let blocks: Vec<_> = geometry
        .pieces()
        .flat_map(|piece| geometry.blocks(piece))
        .filter(|block| !meta.is_pad(&geometry.block_bytes(block)))
        .collect();
    let got: Vec<_> = parts(&meta, &blocks)
        .into_iter()
        .map(|part| (part.file, part.bytes.start, part.bytes.end))
        .collect();
    let second = u64::from(PIECE);
    assert_eq!(got, [(0, 0, 100), (2, second, 4 * second)]);
    let apart = parts(&meta, &[blocks[1], blocks[3]]);
    assert_eq!(apart.len(), 2, "a gap is not fetched");
}

#[test]
fn urls_follow_bep_19() {
    let (meta, _) = torrent(&[1]);
    for (base, url) in [
        ("http://w.example", "http://w.example/a%20site/dir/f%200"),
        ("http://w.example/", "http://w.example/a%20site/dir/f%200"),
        (
            "http://w.example/x#y",
            "http://w.example/x/a%20site/dir/f%200",
        ),
    ] {
        assert_eq!(file_url(base, &meta, 0).as_deref(), Some(url));
    }
    assert_eq!(file_url("http://w.example", &meta, 9), None);
    let name = "50% of ü?.bin";
    let mut torrent = format!("d4:infod6:lengthi1e4:name{}:{name}", name.len()).into_bytes();
    torrent.extend(b"12:piece lengthi32768e6:pieces20:aaaaaaaaaaaaaaaaaaaaee");
    let meta = Metainfo::parse(&torrent).unwrap();
    for (base, url) in [
        ("http://w.example/other.bin", "http://w.example/other.bin"),
        (
            "http://w.example/d/",
            "http://w.example/d/50%25%20of%20%C3%BC%3F.bin",
        ),
        ("http://w.example/get?f=1", "http://w.example/get?f=1"),
    ] {
        assert_eq!(file_url(base, &meta, 0).as_deref(), Some(url));
    }
}
