//! Building and hashing.

use super::support::*;
use super::*;
use crate::id::Digest;

#[test]
fn hashes_are_the_same_however_the_file_is_cut() {
    for piece_length in [16_384_u32, 32_768, 131_072] {
        let p = piece_length as usize;
        for length in [
            0,
            1,
            16_383,
            16_384,
            16_385,
            p - 1,
            p,
            p + 1,
            2 * p,
            2 * p + 1,
            5 * p + 777,
        ] {
            let bytes = content(3, length);
            let whole = hashes(&bytes, piece_length);
            for cut in [61, 1000, 4096, 16_384, 16_385, 100_000] {
                let mut hasher = FileHasher::new(piece_length);
                bytes.chunks(cut).for_each(|part| hasher.update(part));
                hasher.update(&[]);
                assert_eq!(hasher.finish(), whole, "{length} bytes in parts of {cut}");
            }
        }
    }
}

#[test]
fn hashes_are_those_of_the_definition() {
    use sha1::{Digest as _, Sha1};
    for length in [
        0_usize, 1, 63, 64, 65, 120, 16_384, 20_000, 32_760, 32_768, 32_769, 40_037, 65_536,
        100_000,
    ] {
        let bytes = content(4, length);
        let got = hashes(&bytes, 32_768);
        assert_eq!(got.length, length as u64);
        assert_eq!(got.digest, Digest::of(&bytes));
        let v1: Vec<[u8; 20]> = bytes
            .chunks(32_768)
            .map(|p| Sha1::digest(p).into())
            .collect();
        assert_eq!(got.v1, v1);
        let mut padded = bytes.clone();
        padded.resize(length.next_multiple_of(32_768), 0);
        let last: Option<[u8; 20]> = padded.chunks(32_768).last().map(|p| Sha1::digest(p).into());
        assert_eq!(got.v1_last_padded, last.unwrap_or_default());
        let leaves = merkle::leaves(&bytes);
        if length > 0 {
            assert_eq!(got.pieces_root, merkle::root_of_leaves(&leaves));
        }
        let layer = if length > 32_768 {
            merkle::piece_layer(&leaves, 1)
        } else {
            vec![]
        };
        assert_eq!(got.layer, layer);
    }
}

fn builder(files: &[(&str, usize)]) -> MetainfoBuilder {
    let mut builder = MetainfoBuilder::new("example.org", 16_384);
    for (name, length) in files {
        builder.file(path(name), hashes(&content(1, *length), 16_384));
    }
    builder
}

#[test]
fn files_that_make_no_torrent_are_refused() {
    let refused = |files: &[(&str, usize)]| builder(files).build().unwrap_err();
    assert_eq!(refused(&[]), BuildError::Refused(MetainfoError::Empty));
    assert_eq!(
        refused(&[("a", 0), ("b", 0)]),
        BuildError::Refused(MetainfoError::Empty)
    );
    assert_eq!(
        refused(&[("a", 1), ("a", 2)]),
        BuildError::Duplicate("a".into())
    );
    assert_eq!(
        refused(&[("a", 1), ("a/b", 2)]),
        BuildError::Duplicate("a".into())
    );
    assert_eq!(
        refused(&[("x/a", 1), ("x/a/b/c", 2), ("x/a.b", 1)]),
        BuildError::Duplicate("x/a".into())
    );
    for name in [
        "..",
        ".",
        "a/../b",
        "a//b",
        "",
        "a\0",
        "a\nb",
        "a\\b",
        "a/\u{202e}b",
        "\u{7f}",
    ] {
        let error = refused(&[(name, 1)]);
        assert!(matches!(error, BuildError::Name(_)), "{name:?}: {error}");
    }
    let deep = "d/".repeat(101) + "f";
    assert_eq!(
        refused(&[(&deep, 1)]),
        BuildError::Refused(MetainfoError::Path)
    );

    let mut empty_path = builder(&[]);
    empty_path.file(vec![], hashes(b"x", 16_384));
    assert!(empty_path.build().is_err());
    let mut other = builder(&[]);
    other.file(path("a"), hashes(b"x", 32_768));
    assert_eq!(other.build(), Err(BuildError::PieceLength(32_768)));
    for length in [0, 1, 8192, 16_385, 1 << 27, u32::MAX] {
        let builder = MetainfoBuilder::new("n", length);
        assert_eq!(builder.build(), Err(BuildError::PieceLength(length)));
    }
    for name in ["", "a/b", "..", "x\r"] {
        let mut named = MetainfoBuilder::new(name, 16_384);
        named.file(path("a"), hashes(b"x", 16_384));
        assert_eq!(named.build(), Err(BuildError::Name(name.into())));
    }
}

#[test]
fn names_of_web_sites_are_kept() {
    let names = [
        "aux.html",
        ".swarm/br/index.html",
        "wiki/Main:Page",
        "q?a=b",
        "ü/日本",
    ];
    let files: Vec<(&str, usize)> = names.iter().map(|name| (*name, 7)).collect();
    let mut builder = builder(&files);
    builder
        .tracker("http://t.example/announce")
        .web_seed("http://w.example/");
    let meta = builder.build().unwrap();
    assert_eq!(meta.trackers(), ["http://t.example/announce"]);
    assert_eq!(meta.web_seeds(), ["http://w.example/"]);
    for name in names {
        let found = meta.files().iter().any(|file| file.path == path(name));
        // Read back, a device name of Windows is made harmless.
        assert!(found || name == "aux.html", "{name}");
        let raw = name.rsplit('/').next().unwrap().as_bytes();
        assert!(meta.raw_info().windows(raw.len()).any(|bytes| bytes == raw));
    }
}

#[test]
fn files_as_deep_as_allowed_can_be_built_and_read() {
    let deep = "d/".repeat(100) + "f";
    let meta = builder(&[(&deep, 1)]).build().unwrap();
    assert_eq!(meta.files()[0].path.len(), 101);
    assert_eq!(Metainfo::parse(&meta.to_bytes()), Ok(meta));
}

#[test]
fn piece_lengths_grow_with_the_content() {
    for (total, length) in [
        (0, 16 << 10),
        (1, 16 << 10),
        (32 << 20, 16 << 10),
        ((32 << 20) + 1, 32 << 10),
        (1 << 30, 512 << 10),
        (32 << 30, 16 << 20),
        (1 << 40, 16 << 20),
        (u64::MAX, 16 << 20),
    ] {
        assert_eq!(piece_length_for(total), length, "{total}");
    }
}
