//! Torrents made by libtorrent and mktorrent, read, rebuilt and verified against their content.

use bytes::Bytes;
use serde_json::Value as Json;

use super::support::{content, hashes, path};
use super::*;
use crate::verify::{AssembledPiece, Voucher, verify};

const DIRECTORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../spec/vectors/metainfo/");

struct Vector {
    torrent: Vec<u8>,
    expected: Json,
}

impl Vector {
    fn text(&self, key: &str) -> Option<&str> {
        self.expected[key].as_str()
    }

    /// Path, length and bytes of every file.
    fn content(&self) -> Vec<(Vec<String>, Vec<u8>)> {
        let files = self.expected["content"].as_array().unwrap();
        files
            .iter()
            .map(|file| {
                let length = file["length"].as_u64().unwrap() as usize;
                let bytes = content(file["seed"].as_u64().unwrap(), length);
                (path(file["path"].as_str().unwrap()), bytes)
            })
            .collect()
    }
}

fn vectors() -> Vec<Vector> {
    let list = std::fs::read(format!("{DIRECTORY}expected.json")).unwrap();
    let list: Vec<Json> = serde_json::from_slice(&list).unwrap();
    assert!(list.len() >= 16);
    list.into_iter()
        .map(|expected| {
            let file = format!("{DIRECTORY}{}", expected["torrent"].as_str().unwrap());
            Vector {
                torrent: std::fs::read(file).unwrap(),
                expected,
            }
        })
        .collect()
}

#[test]
fn hashes_files_and_geometry_are_those_that_libtorrent_computes() {
    for vector in vectors() {
        let meta = Metainfo::parse(&vector.torrent).unwrap();
        let about = vector.text("torrent").unwrap();
        let v1 = meta.info_hash_v1().map(|hash| hash.to_string());
        let v2 = meta.info_hash_v2().map(|hash| hash.to_string());
        assert_eq!(v1.as_deref(), vector.text("info_hash_v1"), "{about}");
        assert_eq!(v2.as_deref(), vector.text("info_hash_v2"), "{about}");
        assert_eq!(Some(meta.name()), vector.text("name"), "{about}");
        assert_eq!(meta.is_single_file(), vector.expected["single"], "{about}");

        let geometry = meta.geometry();
        assert_eq!(
            geometry.piece_length(),
            vector.expected["piece_length"],
            "{about}"
        );
        assert_eq!(geometry.piece_count(), vector.expected["pieces"], "{about}");
        assert_eq!(geometry.total_length(), vector.expected["total"], "{about}");
        let files = vector.expected["files"].as_array().unwrap();
        assert_eq!(meta.files().len(), files.len(), "{about}");
        // libtorrent moves padding before an empty file that the v1 list has behind it. Neither
        // changes where any byte lies.
        let ours = meta.files().iter().filter(|file| !file.pad);
        let theirs = files.iter().filter(|file| file["pad"] == false);
        for (file, expected) in ours.zip(theirs) {
            // It lets device names of Windows pass where it doesn't run on Windows.
            let expected_path: Vec<String> = path(expected["path"].as_str().unwrap())
                .iter()
                .map(|component| path::sanitise(component.as_bytes()))
                .collect();
            assert_eq!(file.path, expected_path, "{about}");
            assert_eq!(file.length, expected["length"], "{about}");
            let has = |attribute: &str| expected[attribute] == true;
            assert_eq!(file.executable, has("executable"), "{about}");
            assert_eq!(file.symlink, has("symlink"), "{about}");
            assert!(
                file.length == 0 || file.offset == expected["offset"],
                "{about}"
            );
        }
        let ours = meta
            .files()
            .iter()
            .filter(|file| file.pad)
            .map(|f| (f.offset, f.length));
        let theirs = files.iter().filter(|file| file["pad"] == true).map(|file| {
            (
                file["offset"].as_u64().unwrap(),
                file["length"].as_u64().unwrap(),
            )
        });
        assert!(ours.eq(theirs), "{about}");
        assert_eq!(meta.missing_layers().count(), 0, "{about}");
        assert_eq!(
            meta.trackers()[0],
            "http://127.0.0.1:6969/announce",
            "{about}"
        );
        let again = Metainfo::parse(&meta.to_bytes()).unwrap();
        assert_eq!(again, meta, "{about}");
    }
}

#[test]
fn rebuilt_hybrids_have_the_info_hashes_and_layers_of_libtorrent() {
    let mut rebuilt = 0;
    for vector in vectors() {
        let meta = Metainfo::parse(&vector.torrent).unwrap();
        let padded = vector.text("torrent").unwrap().contains("-padded-");
        // What links lead to is nothing that we publish.
        let links = meta.files().iter().any(|file| file.symlink);
        if meta.kind() != Kind::Hybrid || meta.is_single_file() || padded || links {
            continue;
        }
        let piece_length = meta.geometry().piece_length();
        let mut builder = MetainfoBuilder::new(meta.name(), piece_length);
        // The order of calls must not matter.
        for (path, bytes) in vector.content().into_iter().rev() {
            let entry = meta.files().iter().find(|file| file.path == path);
            let hashes = hashes(&bytes, piece_length);
            match entry.is_some_and(|entry| entry.executable) {
                true => builder.executable(path, hashes),
                false => builder.file(path, hashes),
            };
        }
        meta.trackers().iter().for_each(|url| {
            builder.tracker(url);
        });
        meta.web_seeds().iter().for_each(|url| {
            builder.web_seed(url);
        });
        let ours = builder.build().unwrap();
        assert_eq!(
            ours.raw_info(),
            meta.raw_info(),
            "{:?}",
            vector.text("torrent")
        );
        assert_eq!(ours, meta, "{:?}", vector.text("torrent"));
        rebuilt += 1;
    }
    assert!(rebuilt >= 8);
}

#[test]
fn symlinks_of_libtorrent_are_read_with_where_they_lead() {
    let mut read = 0;
    for vector in vectors() {
        let meta = Metainfo::parse(&vector.torrent).unwrap();
        if !vector.text("torrent").unwrap().starts_with("links-") {
            assert!(meta.symlink_targets().is_empty());
            continue;
        }
        let links = meta.symlink_targets();
        let links: Vec<_> = links
            .iter()
            .map(|(file, target)| (meta.files()[*file].path.join("/"), target.as_str()))
            .collect();
        let wanted = [
            ("a/link".to_owned(), "a/file"),
            ("z".to_owned(), "../../etc/passwd"),
        ];
        assert_eq!(links, wanted);
        read += 1;
    }
    assert_eq!(read, 3);
}

#[test]
fn every_piece_of_the_content_verifies_and_no_altered_one_does() {
    for vector in vectors() {
        let meta = Metainfo::parse(&vector.torrent).unwrap();
        let geometry = meta.geometry().clone();
        let files = vector.content();
        let mut whole = Vec::new();
        for entry in meta.files() {
            let length = entry.length as usize;
            // Lengths tell the files of a vector apart, or their content is the same.
            let bytes = files
                .iter()
                .find(|(_, bytes)| bytes.len() == length && !entry.pad);
            whole.extend(bytes.map_or_else(|| vec![0; length], |(_, bytes)| bytes.clone()));
        }
        let whole = Bytes::from(whole);
        assert_eq!(whole.len() as u64, geometry.total_length());
        let voucher = if meta.kind() == Kind::V1 {
            Voucher::Sha1
        } else {
            Voucher::Sha256Tree
        };
        for piece in geometry.pieces() {
            let range = geometry.piece_range(piece);
            let bytes = whole.slice(range.start as usize..range.end as usize);
            let verified = verify(
                &meta,
                AssembledPiece {
                    piece,
                    bytes: bytes.clone(),
                },
            )
            .unwrap();
            assert_eq!(verified.voucher(), voucher);
            assert_eq!(verified.bytes(), &bytes);
            for flip in [0, bytes.len() / 2, bytes.len() - 1] {
                let mut bad = bytes.to_vec();
                bad[flip] ^= 1;
                let bad = AssembledPiece {
                    piece,
                    bytes: bad.into(),
                };
                assert_eq!(verify(&meta, bad).unwrap_err().piece, piece);
            }
            let short = AssembledPiece {
                piece,
                bytes: bytes.slice(1..),
            };
            assert!(verify(&meta, short).is_err());
        }
    }
}
