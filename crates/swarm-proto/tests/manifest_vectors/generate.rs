//! Makes `spec/vectors/manifest.json` out of fixed keys and times.

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;
use serde_json::{Value, json};
use swarm_proto::bencode::{Item, Rules, decode};
use swarm_proto::id::{Digest, InfoHashV1, InfoHashV2};
use swarm_proto::manifest::{
    Alarm, BundleEntry, Encoding, Envelope, FileEntry, KeySet, PayloadType, SecretKey, SignedAlarm,
    SignedKeySet, SignedManifest, SignedStamp, SiteManifest, SiteName, SitePath, SiteRecord, Stamp,
    Variant,
};

use crate::{DAY, NOW};

fn hex(bytes: impl AsRef<[u8]>) -> String {
    HEXLOWER.encode(bytes.as_ref())
}

fn key(seed: u8) -> SecretKey {
    SecretKey::new([seed; 32])
}

struct Site {
    name: SiteName,
    root: SecretKey,
    publish: SecretKey,
    alarm: SecretKey,
}

impl Site {
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

    fn manifest(&self, sequence: u64, stamped: bool) -> SiteManifest {
        let page = FileEntry {
            bundle: 0,
            file: 2,
            length: 6000,
            digest: Digest::of(b"index.html"),
            media_type: "text/html;charset=utf-8".into(),
            cache_secs: 60,
            modified: NOW - DAY,
            variants: vec![
                Variant {
                    encoding: Encoding::Brotli,
                    file: 0,
                    length: 1500,
                    digest: Digest::of(b"br"),
                },
                Variant {
                    encoding: Encoding::Zstd,
                    file: 4,
                    length: 1600,
                    digest: Digest::of(b"zstd"),
                },
            ],
        };
        let photo = FileEntry {
            bundle: 1,
            file: 0,
            length: 3_000_000,
            digest: Digest::of(b"photo.jpg"),
            media_type: "image/jpeg".into(),
            cache_secs: 3600,
            variants: vec![],
            ..page.clone()
        };
        let bundle = |byte, length| BundleEntry {
            v1: InfoHashV1::new([byte; 20]),
            v2: InfoHashV2::new([byte; 32]),
            alias: None,
            length,
            trackers: vec!["http://tracker.example/announce".into()],
        };
        SiteManifest {
            site: self.name.clone(),
            sequence,
            created: NOW,
            expires: NOW + 30 * DAY,
            stamped,
            bundles: vec![bundle(0x11, 9100), bundle(0x22, 3_000_000)],
            files: BTreeMap::from([
                (SitePath::from_decoded("/index.html").unwrap(), page),
                (SitePath::from_decoded("/img/a b.jpg").unwrap(), photo),
            ]),
        }
    }

    fn signed(&self, sequence: u64, stamped: bool) -> SignedManifest {
        SignedManifest::sign(&self.manifest(sequence, stamped), &self.publish).unwrap()
    }

    fn stamp(&self, manifest: &SignedManifest) -> SignedStamp {
        SignedStamp::sign(&Stamp::of(manifest, NOW, DAY), &self.alarm).unwrap()
    }

    fn alarm(&self, by: &SecretKey) -> Vec<u8> {
        let alarm = Alarm {
            site: self.name.clone(),
            issued: NOW,
            until: NOW + 600,
            level: 2,
            home: format!("https://{}/", self.name),
            manifest_sequence: 7,
        };
        SignedAlarm::sign(&alarm, by).unwrap().to_bytes()
    }
}

/// The same dictionary with one string put in the place of another.
fn with(bytes: &[u8], field: &str, value: &[u8]) -> Vec<u8> {
    let decoded = decode(bytes, &Rules::SIGNED).unwrap();
    let dict = decoded.as_dict().unwrap();
    let entries = dict.iter().map(|(key, old)| {
        let item = match key == field.as_bytes() {
            true => Item::bytes(value),
            false => Item::from(old),
        };
        (key, item)
    });
    Item::dict(entries).to_bytes()
}

fn string(bytes: &[u8], field: &str) -> Vec<u8> {
    let decoded = decode(bytes, &Rules::SIGNED).unwrap();
    let value = decoded.as_dict().unwrap().get(field.as_bytes()).unwrap();
    value.as_bytes().unwrap().to_vec()
}

/// The vectors as they have to be.
pub(crate) fn generate() -> Value {
    let mut site = Site {
        name: SiteName::parse("example.org").unwrap(),
        root: key(1),
        publish: key(2),
        alarm: key(3),
    };
    let first = SignedKeySet::first(&site.set(1), &[&site.root]).unwrap();
    site.publish = key(4);
    let second = site.set(2);
    let chain = first.rolled(&second, &[&site.root]).unwrap();
    let manifest = site.signed(7, false);
    let stamped = site.signed(7, true);
    let stamp = site.stamp(&stamped);
    let record = |manifest: &SignedManifest, stamp: Option<&SignedStamp>| {
        SiteRecord {
            keys: chain.clone(),
            manifest: manifest.clone(),
            stamp: stamp.cloned(),
        }
        .to_bytes()
    };
    let whole = record(&stamped, Some(&stamp));
    let alarm = site.alarm(&site.alarm);
    let other = Site {
        name: SiteName::parse("example.net").unwrap(),
        root: key(1),
        publish: key(4),
        alarm: key(3),
    };
    let six = site.signed(6, false);
    let by = |key: &SecretKey| {
        SignedManifest::sign(&site.manifest(7, false), key)
            .unwrap()
            .to_bytes()
    };
    let flipped = |bytes: &[u8], at: usize| {
        let mut bytes = bytes.to_vec();
        bytes[at] ^= 1;
        bytes
    };
    let in_signature = |bytes: &[u8]| {
        let at = bytes.windows(7).rposition(|w| w == b"3:sig64").unwrap();
        flipped(bytes, at + 20)
    };
    let manifest_bytes = manifest.to_bytes();
    let broken_head = with(
        &manifest_bytes,
        "head",
        &in_signature(&string(&manifest_bytes, "head")),
    );
    let mixed = with(
        &manifest_bytes,
        "body",
        &string(&six.to_bytes(), "body")
            .iter()
            .map(|byte| if *byte == 0x22 { 0x33 } else { *byte })
            .collect::<Vec<_>>(),
    );
    let stranger = SignedKeySet::first(
        &KeySet {
            root: vec![key(9).public()],
            ..site.set(1)
        },
        &[&key(9)],
    )
    .unwrap();
    let stolen = Envelope::parse(PayloadType::Alarm, &alarm).unwrap();
    let relabelled = with(&alarm, "type", b"stamp");
    let unsorted = [b"d4:head0:4:body0:e".to_vec()].concat();
    let alone = first.to_bytes();

    let case = |name: &str, open: &str, bytes: &[u8], expect: &str| json!({"name": name, "open": open, "bytes": hex(bytes), "expect": expect});
    let at = |mut case: Value, now: u64| {
        case["now"] = json!(now);
        case
    };
    let for_site = |mut case: Value, site: &str| {
        case["site"] = json!(site);
        case
    };
    let cases = vec![
        case("a record with its stamp", "record", &whole, "ok"),
        case(
            "a record that needs no stamp",
            "record",
            &record(&manifest, None),
            "ok",
        ),
        case("a chain of two sets", "keys", &chain.to_bytes(), "ok"),
        case("a manifest", "manifest", &manifest_bytes, "ok"),
        case("a stamp", "stamp", &stamp.to_bytes(), "ok"),
        case("an alarm", "alarm", &alarm, "ok"),
        case(
            "a stamped manifest without its stamp",
            "record",
            &record(&stamped, None),
            "Stale",
        ),
        case(
            "the stamp of another manifest",
            "record",
            &record(&stamped, Some(&site.stamp(&site.signed(8, true)))),
            "Stale",
        ),
        at(
            case("a stamp a day later", "stamp", &stamp.to_bytes(), "Expired"),
            NOW + DAY,
        ),
        at(
            case("a stamped record a day later", "record", &whole, "Expired"),
            NOW + DAY,
        ),
        at(
            case(
                "a manifest after 30 days",
                "manifest",
                &manifest_bytes,
                "Expired",
            ),
            NOW + 30 * DAY,
        ),
        at(
            case("an alarm after ten minutes", "alarm", &alarm, "Expired"),
            NOW + 600,
        ),
        at(
            case("keys after 300 days", "keys", &chain.to_bytes(), "Expired"),
            NOW + 300 * DAY,
        ),
        at(
            case(
                "a manifest from the future",
                "manifest",
                &manifest_bytes,
                "NotYetValid",
            ),
            NOW - 601,
        ),
        at(
            case(
                "clocks that differ by ten minutes",
                "manifest",
                &manifest_bytes,
                "ok",
            ),
            NOW - 600,
        ),
        case(
            "sequence 6 after 7",
            "manifest",
            &six.to_bytes(),
            "Rollback",
        ),
        case(
            "signed by the rolled publish key",
            "manifest",
            &by(&key(2)),
            "UnknownKey",
        ),
        case(
            "signed by the alarm key",
            "manifest",
            &by(&key(3)),
            "UnknownKey",
        ),
        case(
            "signed by the root key",
            "manifest",
            &by(&key(1)),
            "UnknownKey",
        ),
        case(
            "an alarm by the publish key",
            "alarm",
            &site.alarm(&key(4)),
            "UnknownKey",
        ),
        case(
            "a body with one bundle of another",
            "manifest",
            &mixed,
            "BodyMismatch",
        ),
        case(
            "a flipped bit in the signature",
            "manifest",
            &broken_head,
            "BadSignature",
        ),
        case(
            "a flipped bit in an alarm's signature",
            "alarm",
            &in_signature(&alarm),
            "BadSignature",
        ),
        case(
            "an alarm relabelled as a stamp",
            "stamp",
            &relabelled,
            "Malformed",
        ),
        case(
            "an alarm where a stamp is due",
            "stamp",
            &alarm,
            "WrongType",
        ),
        case(
            "a stamp where an alarm is due",
            "alarm",
            &stamp.to_bytes(),
            "WrongType",
        ),
        case(
            "another site's manifest, same keys",
            "manifest",
            &other.signed(7, false).to_bytes(),
            "WrongSite",
        ),
        case(
            "another site's alarm, same keys",
            "alarm",
            &other.alarm(&key(3)),
            "WrongSite",
        ),
        for_site(
            case(
                "a record offered as another site's",
                "record",
                &whole,
                "WrongSite",
            ),
            "example.net",
        ),
        case(
            "keys of a stranger",
            "keys",
            &stranger.to_bytes(),
            "NotAnchored",
        ),
        case("the first set alone", "keys", &alone, "ok"),
        case(
            "unsorted keys of a dictionary",
            "manifest",
            &unsorted,
            "Malformed",
        ),
        case(
            "a byte too many",
            "record",
            &[&whole[..], b"e"].concat(),
            "Malformed",
        ),
        case(
            "a byte too few",
            "record",
            &whole[..whole.len() - 1],
            "Malformed",
        ),
        case("nothing", "record", b"", "Malformed"),
    ];
    let keys: BTreeMap<&str, Value> = [
        ("root", &site.root),
        ("publish", &site.publish),
        ("alarm", &site.alarm),
    ]
    .into_iter()
    .map(|(role, key)| {
        let public = key.public().to_string();
        (role, json!({"seed": hex(key.seed()), "public": public}))
    })
    .collect();
    json!({
        "about": "Spec 0002. Times are seconds since 1970; `now` is 1800000000 unless a case says otherwise. `root` is pinned; `chain` leads from it to the keys for manifest, stamp and alarm; 7 is the highest sequence seen for a bare manifest.",
        "now": NOW,
        "site": site.name.as_str(),
        "keys": keys,
        "chain": hex(chain.to_bytes()),
        "cases": cases,
        "signatures": signatures(stolen.payload()),
    })
}

/// Envelopes of one alarm payload with signatures that weak verifiers take.
fn signatures(payload: &[u8]) -> Vec<Value> {
    let secret = key(3);
    let public = *secret.public().as_bytes();
    let good = {
        let site = Site {
            name: SiteName::parse("example.org").unwrap(),
            root: key(1),
            publish: key(4),
            alarm: key(3),
        };
        let alarm = site.alarm(&secret);
        let decoded = decode(&alarm, &Rules::SIGNED).unwrap();
        let list = decoded.as_dict().unwrap().get(b"signatures").unwrap();
        let one = list
            .as_list()
            .unwrap()
            .iter()
            .next()
            .unwrap()
            .as_dict()
            .unwrap();
        let signature = one.get(b"sig").unwrap().as_bytes().unwrap();
        <[u8; 64]>::try_from(signature).unwrap()
    };
    let mut order = [0; 32];
    order[..16].copy_from_slice(
        &HEXLOWER
            .decode(b"edd3f55c1a631258d69cf7a2def9de14")
            .unwrap(),
    );
    order[31] = 0x10;
    let mut malleable = good;
    let mut carry = 0_u16;
    for (byte, add) in malleable[32..].iter_mut().zip(order) {
        carry += u16::from(*byte) + u16::from(add);
        *byte = u8::try_from(carry & 0xff).unwrap();
        carry >>= 8;
    }
    let mut neutral = [0; 32];
    neutral[0] = 1;
    let mut of_neutral = [0; 64];
    of_neutral[0] = 1;
    let mut low_r = good;
    low_r[..32].copy_from_slice(&neutral);
    let envelope = |key: [u8; 32], signature: [u8; 64]| {
        let one = Item::dict([("key", Item::bytes(key)), ("sig", Item::bytes(signature))]);
        let envelope = Item::dict([
            ("payload", Item::bytes(payload)),
            ("signatures", Item::list([one])),
            ("type", Item::bytes("alarm")),
        ]);
        hex(envelope.to_bytes())
    };
    [
        ("as signed", public, good, true),
        ("S + L, the malleable form", public, malleable, false),
        ("zeros", public, [0; 64], false),
        ("R of small order", public, low_r, false),
        ("neutral point as key, R = A, S = 0", neutral, of_neutral, false),
        ("the key of another", *key(5).public().as_bytes(), good, false),
    ]
    .into_iter()
    .map(|(name, key, signature, holds)| {
        json!({"name": name, "public": hex(key), "envelope": envelope(key, signature), "holds": holds})
    })
    .collect()
}
