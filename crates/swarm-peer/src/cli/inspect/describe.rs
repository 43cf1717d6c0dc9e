//! Each of our files as an object: what `--json` prints, and what people get line by line.

use serde_json::{Value, json};
use swarm_proto::manifest::{
    Anchor, KeySet, PublicKey, SignedAlarm, SignedKeySet, SignedManifest, SignedStamp,
    SiteManifest, SiteRecord, TrustError,
};
use swarm_proto::metainfo::{Kind, Magnet, Metainfo};

use crate::cli::units::show_time;

fn strings<T: ToString>(items: impl IntoIterator<Item = T>) -> Vec<String> {
    items.into_iter().map(|item| item.to_string()).collect()
}

fn judged<T>(result: Result<T, TrustError>) -> Value {
    match result {
        Ok(_) => json!("holds, if its root key does"),
        Err(error) => json!(format!("refused: {}", swarm_peer::http::chain(&error))),
    }
}

fn time(secs: u64) -> Value {
    json!(show_time(secs))
}

/// A .torrent file.
pub(super) fn torrent(meta: &Metainfo, files: bool) -> Value {
    let content = || meta.files().iter().filter(|file| !file.pad);
    // Padding is counted, as `so=` of magnet links counts it.
    let numbered = || {
        meta.files()
            .iter()
            .enumerate()
            .filter(|(_, file)| !file.pad)
    };
    let list: Option<Vec<Value>> = files.then(|| {
        let mut targets = meta.symlink_targets();
        numbered()
            .map(|(index, file)| {
                let mut described = json!({
                    "index": index,
                    "path": file.path.join("/"),
                    "length": file.length,
                    "pieces_root": file.pieces_root.map(|root| hex(&root)),
                });
                // Named only where it is so, as in the torrent.
                if file.executable {
                    described["executable"] = true.into();
                }
                if file.symlink {
                    // Shown, never followed.
                    described["symlink"] = targets.remove(&index).unwrap_or_default().into();
                }
                described
            })
            .collect()
    });
    let magnet = Magnet {
        v1: meta.info_hash_v1(),
        v2: meta.info_hash_v2(),
        name: Some(meta.name().to_owned()),
        trackers: meta.trackers().to_vec(),
        web_seeds: meta.web_seeds().to_vec(),
        peers: Vec::new(),
        select_only: Vec::new(),
    };
    json!({
        "kind": "torrent",
        "version": match meta.kind() {
            Kind::V1 => "v1",
            Kind::V2 => "v2",
            Kind::Hybrid => "hybrid",
        },
        "name": meta.name(),
        "info_hash_v1": meta.info_hash_v1().map(|hash| hash.to_string()),
        "info_hash_v2": meta.info_hash_v2().map(|hash| hash.to_string()),
        "length": content().map(|file| file.length).sum::<u64>(),
        "space": meta.geometry().total_length(),
        "piece_length": meta.geometry().piece_length(),
        "pieces": meta.geometry().piece_count(),
        "file_count": content().count(),
        "private": meta.is_private(),
        "trackers": meta.trackers(),
        "web_seeds": meta.web_seeds(),
        "magnet": magnet.to_string(),
        "files": list,
    })
}

/// A magnet link.
pub(super) fn magnet(magnet: &Magnet) -> Value {
    json!({
        "kind": "magnet",
        "name": magnet.name,
        "info_hash_v1": magnet.v1.map(|hash| hash.to_string()),
        "info_hash_v2": magnet.v2.map(|hash| hash.to_string()),
        "trackers": magnet.trackers,
        "web_seeds": magnet.web_seeds,
        "peers": strings(&magnet.peers),
        "select_only": magnet.select_only.iter().map(|r| [*r.start(), *r.end()]).collect::<Vec<_>>(),
    })
}

fn key_set(keys: &KeySet) -> Value {
    json!({
        "sequence": keys.sequence,
        "expires": keys.expires,
        "expires_at": time(keys.expires),
        "root": strings(&keys.root),
        "threshold": keys.threshold,
        "publish": strings(&keys.publish),
        "alarm": strings(&keys.alarm),
    })
}

fn root_key(chain: &SignedKeySet) -> Option<String> {
    let root: Option<&PublicKey> = chain.newest_claimed().root.first();
    root.map(ToString::to_string)
}

/// A chain of keys.
pub(super) fn keys(chain: &SignedKeySet, now: u64) -> Value {
    let newest = chain.newest_claimed();
    json!({
        "kind": "keys",
        "site": newest.site.as_str(),
        "root_key": root_key(chain),
        "signatures": judged(chain.verify(Anchor::Introduced, &newest.site, now)),
        "sets": chain.claimed().count(),
        "newest": key_set(newest),
    })
}

/// Head of a manifest, and its body where it is readable.
pub(super) fn manifest(signed: &SignedManifest, files: bool) -> Value {
    let head = signed.claimed();
    let mut value = json!({
        "kind": "manifest",
        "site": head.site.as_str(),
        "sequence": head.sequence,
        "created": head.created,
        "created_at": time(head.created),
        "expires": head.expires,
        "expires_at": time(head.expires),
        "stamped": head.stamped,
        "digest": signed.digest().to_string(),
    });
    let body = match signed.claimed_manifest() {
        Ok(manifest) => body(&manifest, files),
        Err(error) => json!({"body": judged::<()>(Err(error))}),
    };
    if let (Value::Object(value), Value::Object(body)) = (&mut value, body) {
        value.extend(body);
    }
    value
}

fn body(manifest: &SiteManifest, files: bool) -> Value {
    let bundles: Vec<Value> = manifest
        .bundles
        .iter()
        .map(|bundle| {
            json!({
                "info_hash_v1": bundle.v1.to_string(),
                "info_hash_v2": bundle.v2.to_string(),
                "length": bundle.length,
                "trackers": bundle.trackers,
            })
        })
        .collect();
    let list: Option<Vec<Value>> = files.then(|| {
        manifest
            .files
            .iter()
            .map(|(path, file)| {
                let variants: Vec<Value> = file
                    .variants
                    .iter()
                    .map(|one| json!({"encoding": one.encoding.as_str(), "file": one.file, "length": one.length}))
                    .collect();
                json!({
                    "path": path.as_str(),
                    "bundle": file.bundle,
                    "file": file.file,
                    "length": file.length,
                    "digest": file.digest.to_string(),
                    "type": file.media_type,
                    "cache": file.cache_secs,
                    "modified": file.modified,
                    "variants": variants,
                })
            })
            .collect()
    });
    json!({
        "length": manifest.files.values().map(|file| file.length).sum::<u64>(),
        "file_count": manifest.files.len(),
        "bundles": bundles,
        "files": list,
    })
}

/// A site record: keys, manifest and stamp together.
pub(super) fn record(record: &SiteRecord, files: bool, now: u64) -> Value {
    let mut value = manifest(&record.manifest, files);
    let judgement = judged(record.open_from(Anchor::Introduced, record.claimed_site(), now));
    if let Value::Object(fields) = &mut value {
        fields.insert("kind".into(), json!("site record"));
        fields.insert("root_key".into(), json!(root_key(&record.keys)));
        fields.insert("signatures".into(), judgement);
        fields.insert("keys".into(), key_set(record.keys.newest_claimed()));
        let stamp = record.stamp.as_ref().map(stamp);
        fields.insert("stamp".into(), stamp.unwrap_or(Value::Null));
    }
    value
}

/// A freshness stamp.
pub(super) fn stamp(signed: &SignedStamp) -> Value {
    let stamp = signed.claimed();
    json!({
        "kind": "stamp",
        "site": stamp.site.as_str(),
        "sequence": stamp.sequence,
        "manifest": stamp.manifest.to_string(),
        "issued": stamp.issued,
        "issued_at": time(stamp.issued),
        "expires": stamp.expires,
        "expires_at": time(stamp.expires),
    })
}

/// An alarm.
pub(super) fn alarm(signed: &SignedAlarm) -> Value {
    let alarm = signed.claimed();
    json!({
        "kind": "alarm",
        "site": alarm.site.as_str(),
        "level": alarm.level,
        "home": alarm.home,
        "manifest_sequence": alarm.manifest_sequence,
        "issued": alarm.issued,
        "issued_at": time(alarm.issued),
        "until": alarm.until,
        "until_at": time(alarm.until),
    })
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}
