//! The id under which aria2 finds a hybrid.
//!
//! aria2 (1.37 and before) drops dictionary keys of no length when it reads a torrent, and hashes
//! what it read instead of the bytes. In a v2 file tree every file's properties stand under such a
//! key, so aria2 computes an info hash that nobody else has, and finds no peer. It downloads the v1
//! half well once somebody answers to that id.

use sha1::{Digest as _, Sha1};

use crate::bencode::{Dict, Value};
use crate::id::SwarmId;

/// SHA-1 of the info dictionary as aria2 would write it.
pub(super) fn without_empty_keys(info: Dict<'_>) -> SwarmId {
    let mut hasher = Sha1::new();
    dict(&mut hasher, info);
    SwarmId::new(hasher.finalize().into())
}

/// Recursion is as deep as the decoder let the value be. Returns what follows the value, where the
/// walk came across it.
fn value<'a>(hasher: &mut Sha1, value: Value<'a>) -> Option<&'a [u8]> {
    match value {
        Value::Int(number) => hasher.update(format!("i{number}e")),
        Value::Bytes(text) => bytes(hasher, text),
        Value::List(items) => {
            hasher.update(b"l");
            let mut items = items.iter();
            while let Some(item) = items.next() {
                if let Some(behind) = self::value(hasher, item) {
                    items.resume(behind);
                }
            }
            hasher.update(b"e");
            return items.behind();
        }
        Value::Dict(entries) => return dict(hasher, entries),
    }
    None
}

fn dict<'a>(hasher: &mut Sha1, entries: Dict<'a>) -> Option<&'a [u8]> {
    hasher.update(b"d");
    let mut found = entries.iter();
    if entries.is_sorted() {
        while let Some((key, item)) = found.next() {
            if key.is_empty() {
                continue;
            }
            bytes(hasher, key);
            if let Some(behind) = value(hasher, item) {
                found.resume(behind);
            }
        }
    } else {
        let mut sorted: Vec<_> = found.by_ref().filter(|(key, _)| !key.is_empty()).collect();
        sorted.sort_unstable_by_key(|(key, _)| *key);
        for (key, item) in sorted {
            bytes(hasher, key);
            value(hasher, item);
        }
    }
    hasher.update(b"e");
    found.behind()
}

fn bytes(hasher: &mut Sha1, text: &[u8]) {
    hasher.update(format!("{}:", text.len()));
    hasher.update(text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bencode::{Rules, decode};

    fn alias(info: &[u8]) -> SwarmId {
        without_empty_keys(decode(info, &Rules::METAINFO).unwrap().as_dict().unwrap())
    }

    #[test]
    fn empty_keys_are_dropped_at_any_depth_and_the_rest_is_hashed_as_it_stands() {
        let hash = |bytes: &[u8]| SwarmId::new(Sha1::digest(bytes).into());
        assert_eq!(
            alias(b"d9:file treed1:ad0:d6:lengthi1eeee6:lengthi-7e4:listl1:xd0:1:yeee"),
            hash(b"d9:file treed1:adee6:lengthi-7e4:listl1:xdeee")
        );
        let plain = b"d6:lengthi3e4:name1:a12:piece lengthi16384ee";
        assert_eq!(alias(plain), hash(plain));
    }

    #[test]
    fn aria2_shows_the_same_ids_for_torrents_made_by_libtorrent() {
        // As `aria2c --show-files` (1.36.0) prints them.
        let cases = [
            ("big-hybrid-32k", "793fd5360ab5c165aea22892c7f03020b40f0dd0"),
            (
                "equal-hybrid-16k",
                "a823284580ea87934ba520bdecc699c2fd8032e9",
            ),
            (
                "names-hybrid-16k",
                "f7938df279fa9ecb70e1b65ec3ef43a6df70b6ed",
            ),
            (
                "single-hybrid-16k",
                "d07899a4207b8e7eb314f58df6fa0b1c59b0be37",
            ),
            (
                "site-hybrid-64k",
                "67c34c132b76a7ebde2aaa9fa0083434994c7631",
            ),
        ];
        for (name, expected) in cases {
            let root = env!("CARGO_MANIFEST_DIR");
            let path = format!("{root}/../../spec/vectors/metainfo/{name}.torrent");
            let meta = crate::metainfo::Metainfo::parse(&std::fs::read(path).unwrap()).unwrap();
            assert_eq!(meta.alias_id(), Some(expected.parse().unwrap()), "{name}");
        }
    }
}
