//! The site's statements: what is believed, and what is refused by which name.

mod format;
mod lookalikes;
mod signature;
mod trust;

use std::collections::BTreeMap;

use super::*;
use crate::id::{Digest, InfoHashV1, InfoHashV2};

/// Some time in 2027.
const NOW: u64 = 1_800_000_000;
const DAY: u64 = 86_400;

fn key(seed: u8) -> SecretKey {
    SecretKey::new([seed; 32])
}

/// A site with one key for each role, and room to roll them.
struct Site {
    name: SiteName,
    root: SecretKey,
    publish: SecretKey,
    alarm: SecretKey,
}

impl Site {
    fn new(name: &str, seed: u8) -> Self {
        Self {
            name: SiteName::parse(name).unwrap(),
            root: key(seed),
            publish: key(seed + 1),
            alarm: key(seed + 2),
        }
    }

    fn set(&self, sequence: u64) -> KeySet {
        KeySet {
            site: self.name.clone(),
            sequence,
            expires: NOW + 300 * DAY,
            root: vec![self.root.public()],
            threshold: 1,
            publish: vec![self.publish.public()],
            alarm: vec![self.alarm.public()],
        }
        .checked()
        .unwrap()
    }

    fn chain(&self) -> SignedKeySet {
        SignedKeySet::first(&self.set(1), &[&self.root]).unwrap()
    }

    fn trust(&self) -> SiteTrust {
        let pin = [self.root.public()];
        SiteTrust::begin(Anchor::Pinned(&pin), &self.name, &self.chain(), NOW).unwrap()
    }

    /// A manifest whose only bundle is named after `sequence`.
    fn manifest(&self, sequence: u64) -> SiteManifest {
        let bundle = u8::try_from(sequence % 251).unwrap();
        SiteManifest {
            site: self.name.clone(),
            sequence,
            created: NOW,
            expires: NOW + 30 * DAY,
            stamped: false,
            bundles: vec![BundleEntry {
                v1: InfoHashV1::new([bundle; 20]),
                v2: InfoHashV2::new([bundle; 32]),
                alias: None,
                length: 1000,
                trackers: vec!["http://tracker.example/announce".into()],
            }],
            files: BTreeMap::from([
                file("/index.html", "text/html;charset=utf-8"),
                file("/docs/index.html", "text/html;charset=utf-8"),
                file("/a b.png", "image/png"),
            ]),
        }
    }

    fn signed(&self, sequence: u64) -> SignedManifest {
        SignedManifest::sign(&self.manifest(sequence), &self.publish).unwrap()
    }

    fn stamped(&self, sequence: u64) -> SignedManifest {
        let manifest = SiteManifest {
            stamped: true,
            ..self.manifest(sequence)
        };
        SignedManifest::sign(&manifest, &self.publish).unwrap()
    }

    fn stamp(&self, manifest: &SignedManifest, now: u64) -> SignedStamp {
        SignedStamp::sign(&Stamp::of(manifest, now, DAY), &self.alarm).unwrap()
    }

    fn alarm(&self) -> Alarm {
        Alarm {
            site: self.name.clone(),
            issued: NOW,
            until: NOW + 300,
            level: 2,
            home: format!("https://{}/", self.name),
            manifest_sequence: 7,
        }
    }
}

fn file(path: &str, media_type: &str) -> (SitePath, FileEntry) {
    let entry = FileEntry {
        bundle: 0,
        file: 0,
        length: 1000,
        digest: Digest::of(path.as_bytes()),
        media_type: media_type.into(),
        cache_secs: 60,
        modified: NOW - DAY,
        variants: vec![Variant {
            encoding: Encoding::Zstd,
            file: 1,
            length: 10,
            digest: Digest::of(b"variant"),
        }],
    };
    (SitePath::from_decoded(path).unwrap(), entry)
}

/// The name of a refusal, without its details.
fn name<T: std::fmt::Debug>(result: Result<T, TrustError>) -> String {
    let error = result.expect_err("it was believed");
    let text = format!("{error:?}");
    text.split([' ', '(', '{']).next().unwrap().to_owned()
}
