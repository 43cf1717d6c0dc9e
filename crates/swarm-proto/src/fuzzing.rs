//! Bodies of the fuzz targets, compiled with every build so that they can't rot.
//!
//! Each takes bytes from a stranger, runs a parser over them and asserts a property: what was read
//! can be written and read again, nothing is lost, nothing disagrees with itself. A panic is a bug
//! of ours. `fuzz/` calls them with a fuzzer; `cargo test` runs them over a bounded, seeded corpus.

use crate::bencode::{self, Item, Rules, Value};
use crate::geometry::ByteRange;
use crate::magnet::Magnet;
use crate::merkle::{self, HashSpan};
use crate::metainfo::{Kind, Metainfo, path};
use crate::verify::{AssembledPiece, verify};

mod discovery;
mod download;
#[cfg(test)]
pub(crate) mod tests;
mod utp;
mod webseed;
mod wire;

pub use discovery::{lsd, pex, udp_packet, udp_server, ws_message};
pub use download::download;
pub use utp::{holepunch, utp};
pub use webseed::web_answer;
pub use wire::{frame, handshake, session};

// ---- bencode, metainfo, magnet, merkle ----

/// Bencode: writing undoes reading, raw dictionaries are what they were read from, and stricter
/// rules accept nothing that laxer ones refuse.
pub fn bencode(data: &[u8]) {
    for rules in [Rules::NETWORK, Rules::METAINFO, Rules::SIGNED] {
        let Ok((value, rest)) = bencode::decode_prefix(data, &rules) else {
            assert!(bencode::decode(data, &rules).is_err());
            continue;
        };
        assert_eq!(bencode::decode(data, &rules).is_ok(), rest.is_empty());
        let read = &data[..data.len() - rest.len()];
        assert!(
            bencode::decode(&read[..read.len() - 1], &rules).is_err(),
            "a part is no whole"
        );
        assert_eq!(bencode::decode(read, &rules).as_ref(), Ok(&value));
        if let Some(dict) = value.as_dict() {
            assert_eq!(dict.raw(), read);
        }
        for_each_dict(value, &mut |raw| {
            assert!(bencode::decode(raw, &rules).is_ok())
        });

        let item = Item::from(&value);
        let written = item.to_bytes();
        assert_eq!(
            written.len(),
            read.len(),
            "only the order of keys can differ"
        );
        if rules.canonical {
            assert_eq!(written, read);
            assert!(
                bencode::decode(
                    read,
                    &Rules {
                        canonical: false,
                        ..rules
                    }
                )
                .is_ok()
            );
        } else {
            let canonical = Rules {
                canonical: true,
                ..rules
            };
            let again = bencode::decode(&written, &canonical);
            assert_eq!(again.as_ref().map(Item::from), Ok(item));
        }
    }
}

/// Calls with the raw bytes of the dictionaries directly inside a value.
fn for_each_dict(value: Value<'_>, f: &mut impl FnMut(&[u8])) {
    match value {
        Value::Int(_) | Value::Bytes(_) => {}
        Value::List(values) => {
            values
                .iter()
                .filter_map(Value::as_dict)
                .for_each(|dict| f(dict.raw()));
        }
        Value::Dict(dict) => {
            dict.iter()
                .filter_map(|(_, value)| value.as_dict())
                .for_each(|dict| f(dict.raw()));
        }
    }
}

/// A .torrent file, and the same bytes as an info dictionary: the raw dictionary is kept, writing
/// undoes reading, files tile the content, names are harmless, pieces agree with files.
pub fn metainfo(data: &[u8]) {
    if let Ok(meta) = Metainfo::parse(data) {
        let raw: &[u8] = meta.raw_info();
        assert!(
            data.windows(raw.len()).any(|window| window == raw),
            "raw info was changed"
        );
        assert_eq!(
            Metainfo::parse(&meta.to_bytes()).as_ref(),
            Ok(&meta),
            "writing lost something"
        );
        let bare = Metainfo::from_info(raw);
        assert_eq!(bare.map(|bare| bare.swarm_ids()), Ok(meta.swarm_ids()));
        check_metainfo(&meta);
    }
    if let Ok(meta) = Metainfo::from_info(data) {
        assert_eq!(meta.raw_info(), data);
        assert!(meta.trackers().is_empty() && meta.web_seeds().is_empty());
        check_metainfo(&meta);
    }
}

fn check_metainfo(meta: &Metainfo) {
    let geometry = meta.geometry();
    assert!(geometry.piece_count() > 0);
    assert!(path::is_sane(meta.name()), "{:?}", meta.name());
    let mut at = 0;
    for (index, file) in meta.files().iter().enumerate() {
        assert_eq!(file.offset, at);
        at += file.length;
        assert!(!file.path.is_empty() && file.path.iter().all(|part| path::is_sane(part)));
        assert_eq!(meta.is_pad(&file.range()), file.pad && file.length > 0);
        if file.length > 0 {
            let span = meta
                .spans(&ByteRange::new(file.offset, file.offset + 1))
                .next();
            assert_eq!(span.map(|span| (span.file, span.offset)), Some((index, 0)));
        }
        if meta.kind() != Kind::V1 && !file.pad {
            assert_eq!(file.pieces_root.is_some(), file.length > 0);
            let boundary = file.offset.is_multiple_of(geometry.piece_length().into());
            assert!(file.length == 0 || boundary, "a v2 file begins on a piece");
        }
    }
    assert_eq!(at, geometry.total_length());
    // Whether it says where they lead is the author's business.
    let links = meta.symlink_targets().into_keys();
    let is_link = |index: usize| meta.files().get(index).is_some_and(|file| file.symlink);
    assert!(links.into_iter().all(is_link));
    let files = meta.files().iter();
    assert!(
        files
            .filter(|file| file.symlink)
            .all(|link| link.length == 0 && !link.executable)
    );

    // The first pieces and the last stand for all.
    let last = geometry.piece_count().checked_sub(1);
    for piece in geometry
        .pieces()
        .take(32)
        .chain(last.and_then(|last| geometry.piece(last)))
    {
        let len = geometry.piece_len(piece);
        assert!(len > 0 && len <= geometry.piece_length());
        assert_eq!(meta.v1_hash(piece).is_some(), meta.kind() != Kind::V2);
        let tree = meta.piece_tree(piece);
        assert_eq!(tree.is_some(), meta.kind() != Kind::V1);
        if let Some(tree) = tree {
            assert!(tree.data_len > 0 && tree.data_len <= len);
            assert!(merkle::block_count(tree.data_len.into()) <= 1 << tree.height);
            assert_eq!(meta.v2_root(piece), tree.root);
        }
        let range = geometry.piece_range(piece);
        assert_eq!(
            meta.spans(&range).map(|span| span.length).sum::<u64>(),
            range.len()
        );
        if len <= 1 << 16 {
            let bytes = vec![0xa5; len as usize].into();
            // No hash in a corpus is that of these bytes.
            assert!(verify(meta, AssembledPiece { piece, bytes }).is_err());
        }
    }
}

/// A magnet link: writing undoes reading, and one info hash is there at least.
pub fn magnet(data: &[u8]) {
    let Ok(link) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(magnet) = Magnet::parse(link) {
        assert!(!magnet.swarm_ids().is_empty());
        let again = Magnet::parse(&magnet.to_string());
        assert_eq!(again.as_ref(), Ok(&magnet), "writing lost something");
    }
}

/// A hash request over a tree of our own: whatever span is proven checks, nothing else does.
pub fn hash_span(data: &[u8]) {
    let Some((
        [
            leaves,
            base,
            index,
            length,
            proof_layers,
            tree_height,
            flip,
            ..,
        ],
        _,
    )) = data.split_first_chunk::<8>()
    else {
        return;
    };
    let layer: Vec<merkle::Hash> = (0..=*leaves % 40).map(|n| merkle::leaf(&[n])).collect();
    // Small numbers mostly lie in the tree, large ones never.
    let wide = |byte: u8| {
        if byte < 0xf0 {
            u32::from(byte)
        } else {
            u32::MAX - u32::from(byte)
        }
    };
    let span = HashSpan {
        base: wide(*base % 4),
        index: wide(*index),
        length: wide(*length),
        proof_layers: wide(*proof_layers),
    };
    let layer_height = merkle::height(layer.len() as u64);
    let tree_height = match *tree_height {
        0xff => u32::MAX,
        other => layer_height + span.base + u32::from(other % 2),
    };
    let root = merkle::root_above(
        &layer,
        span.base,
        tree_height.saturating_sub(span.base).min(8),
    );
    let Some(mut hashes) = merkle::prove(&layer, tree_height, &span) else {
        assert!(!merkle::check(&root, tree_height, &span, &layer));
        return;
    };
    let to_root = HashSpan::proof_layers_to_root(span.base, tree_height);
    let good = merkle::check(&root, tree_height, &span, &hashes);
    assert!(good || span.proof_layers != to_root, "{span:?}");
    let at = usize::from(*flip) % hashes.len();
    if let Some(byte) = hashes.get_mut(at).and_then(|hash| hash.first_mut()) {
        *byte ^= 1;
    }
    assert!(
        !merkle::check(&root, tree_height, &span, &hashes),
        "an altered proof passed"
    );
}

// ---- tracker ----

/// An announce or scrape query: what is accepted survives being written and read again. The
/// same bytes as a reply: whatever is accepted, neither form loses a peer.
pub fn announce(data: &[u8]) {
    use crate::tracker::http;

    if let Ok(query) = std::str::from_utf8(data) {
        if let Ok(request) = http::parse_announce(query) {
            let again = http::parse_announce(&http::encode_query(&request));
            assert_eq!(again, Ok(request), "announce changed on the way");
        }
        if let Ok(request) = http::parse_scrape(query) {
            let again = http::parse_scrape(&http::encode_scrape_query(&request));
            assert_eq!(again, Ok(request), "scrape changed on the way");
        }
    }
    if let Ok(mut reply) = http::decode_reply(data) {
        // Compact replies group by family.
        reply.peers.sort_by_key(std::net::SocketAddr::is_ipv6);
        for compact in [true, false] {
            let again = http::decode_reply(&http::encode_reply(&reply, compact));
            assert_eq!(again.as_ref(), Ok(&reply), "reply changed on the way");
        }
    }
    let _ = http::decode_scrape_reply(data);
}

/// Replies of the register: whatever is taken survives being written and read again.
pub fn register(data: &[u8]) {
    use crate::tracker::register::{BridgesReply, SitesReply};

    if let Ok(reply) = SitesReply::decode(data) {
        assert_eq!(SitesReply::decode(&reply.to_bytes()).as_ref(), Ok(&reply));
    }
    if let Ok(reply) = BridgesReply::decode(data) {
        assert_eq!(BridgesReply::decode(&reply.to_bytes()).as_ref(), Ok(&reply));
    }
}

/// The query of a tracker that calls a bridge back: what is taken can be said again, and goes
/// into a header and into a signature as it is.
pub fn proof(data: &[u8]) {
    use crate::tracker::proof::ProofRequest;

    let bridge = std::net::SocketAddr::from(([192, 0, 2, 1], 8080));
    let Ok(query) = std::str::from_utf8(data) else {
        return;
    };
    if let Some(request) = ProofRequest::parse(query, bridge) {
        let target = request.target();
        assert!(target.bytes().all(|byte| byte.is_ascii_graphic()));
        let again = target.split_once('?');
        let again = again.and_then(|(_, query)| ProofRequest::parse(query, bridge));
        assert_eq!(again, Some(request), "call changed on the way");
    }
}

// ---- site manifest ----

/// Everything a site signs: writing undoes reading, what is believed was signed, and names and
/// paths survive being written and read again.
pub fn manifest(data: &[u8]) {
    use crate::manifest::{
        Anchor, SignedAlarm, SignedKeySet, SignedManifest, SignedStamp, SiteName, SitePath,
        SiteRecord, SiteTrust,
    };

    const NOW: u64 = 1_800_000_000;
    if let Ok(keys) = SignedKeySet::parse(data) {
        assert_eq!(keys.to_bytes(), data, "a chain has one spelling");
        let site = keys.newest_claimed().site.clone();
        if let Ok(set) = keys.verify(Anchor::Introduced, &site, NOW) {
            assert_eq!(set.site, site, "keys of another site were believed");
        }
    }
    if let Ok(manifest) = SignedManifest::parse(data) {
        if let Ok(claimed) = manifest.claimed_manifest() {
            let bundles = claimed.bundles.len();
            let inside = |file: &crate::manifest::FileEntry| (file.bundle as usize) < bundles;
            assert!(claimed.files.values().all(inside), "a file in no bundle");
        }
        assert_eq!(
            SignedManifest::parse(&manifest.to_bytes()).ok(),
            Some(manifest)
        );
    }
    if let Ok(record) = SiteRecord::parse(data) {
        let site = record.claimed_site().clone();
        let _ = record.open_from(Anchor::Introduced, &site, NOW);
        assert_eq!(SiteRecord::parse(&record.to_bytes()).ok(), Some(record));
    }
    if let Ok(stamp) = SignedStamp::parse(data) {
        assert_eq!(SignedStamp::parse(&stamp.to_bytes()).ok(), Some(stamp));
    }
    if let Ok(alarm) = SignedAlarm::parse(data) {
        assert_eq!(SignedAlarm::parse(&alarm.to_bytes()).ok(), Some(alarm));
    }
    if let Ok(trust) = SiteTrust::from_bytes(data) {
        assert_eq!(SiteTrust::from_bytes(&trust.to_bytes()).ok(), Some(trust));
    }
    if let Ok(text) = std::str::from_utf8(data) {
        if let Ok(name) = SiteName::parse(text) {
            assert_eq!(SiteName::parse_canonical(name.as_str()).as_ref(), Ok(&name));
            let label = name.label();
            assert!(
                (1..=63).contains(&label.len()) && label.is_ascii(),
                "{label}"
            );
        }
        if let Ok(path) = SitePath::parse(text) {
            assert_eq!(SitePath::parse(&path.to_url()).as_ref(), Ok(&path));
            assert!(path.components().all(|part| !part.starts_with('.')));
        }
    }
}
