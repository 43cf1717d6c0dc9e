//! `spec/vectors/manifest*.json`: worked bytes of everything a site signs, and the name of each
//! refusal. Any implementation can read them; ours is held to them here.
//!
//! `SWARM_WRITE_VECTORS=1 cargo test -p swarm-proto --test manifest_vectors` writes the signed ones anew,
//! which changes nothing unless a format changed: keys, times and order are fixed.

mod generate;

use std::fs;

use data_encoding::HEXLOWER;
use generate::generate;
use serde_json::Value;
use swarm_proto::manifest::{
    Anchor, Envelope, KeySet, PayloadType, PublicKey, Role, SecretKey, SignedAlarm, SignedKeySet,
    SignedManifest, SignedStamp, SiteName, SitePath, SiteRecord, TrustError,
};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../spec/vectors/");
const NOW: u64 = 1_800_000_000;
const DAY: u64 = 86_400;

fn read(name: &str) -> Value {
    let text = fs::read_to_string(format!("{FOLDER}{name}")).expect("the vectors are there");
    serde_json::from_str(&text).expect("the vectors are JSON")
}

fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value[field]
        .as_str()
        .unwrap_or_else(|| panic!("{field} of {value}"))
}

fn bytes(value: &Value, field: &str) -> Vec<u8> {
    HEXLOWER
        .decode(text(value, field).as_bytes())
        .expect("hexadecimal")
}

/// `ok`, or the name of the refusal.
fn outcome<T>(result: Result<T, TrustError>) -> String {
    match result {
        Ok(_) => "ok".into(),
        Err(error) => {
            let text = format!("{error:?}");
            let end = text.find([' ', '(', '{']).unwrap_or(text.len());
            text[..end].to_owned()
        }
    }
}

/// What a reader with a pinned root key makes of `bytes`.
fn open(
    kind: &str,
    bytes: &[u8],
    root: &PublicKey,
    site: &SiteName,
    now: u64,
    keys: &[u8],
) -> String {
    let set = || -> Result<KeySet, TrustError> {
        SignedKeySet::parse(keys)?.verify(Anchor::Pinned(std::slice::from_ref(root)), site, now)
    };
    match kind {
        "record" => {
            outcome(SiteRecord::parse(bytes).and_then(|record| record.open(root, site, now)))
        }
        "keys" => {
            outcome(SignedKeySet::parse(bytes).and_then(|chain| {
                chain.verify(Anchor::Pinned(std::slice::from_ref(root)), site, now)
            }))
        }
        "manifest" => {
            outcome(set().and_then(|keys| SignedManifest::open(bytes, &keys, now, Some(7), None)))
        }
        "stamp" => outcome(set().and_then(|keys| SignedStamp::open(bytes, &keys, now))),
        "alarm" => outcome(set().and_then(|keys| SignedAlarm::open(bytes, &keys, now))),
        other => panic!("no such kind: {other}"),
    }
}

#[test]
fn everything_signed_is_judged_as_the_vectors_say() {
    let vectors = read("manifest.json");
    let site = SiteName::parse(text(&vectors, "site")).unwrap();
    let root: PublicKey = text(&vectors["keys"]["root"], "public").parse().unwrap();
    let chain = bytes(&vectors, "chain");
    let cases = vectors["cases"].as_array().unwrap();
    assert!(cases.len() >= 25, "{}", cases.len());
    for case in cases {
        let site = match case.get("site") {
            Some(name) => SiteName::parse(name.as_str().unwrap()).unwrap(),
            None => site.clone(),
        };
        let now = case.get("now").map_or(NOW, |now| now.as_u64().unwrap());
        let got = open(
            text(case, "open"),
            &bytes(case, "bytes"),
            &root,
            &site,
            now,
            &chain,
        );
        assert_eq!(got, text(case, "expect"), "{}", text(case, "name"));
    }
}

#[test]
fn keys_signatures_and_payloads_are_those_of_the_vectors() {
    let vectors = read("manifest.json");
    for (_, one) in vectors["keys"].as_object().unwrap() {
        let seed: [u8; 32] = bytes(one, "seed").try_into().unwrap();
        assert_eq!(
            SecretKey::new(seed).public().to_string(),
            text(one, "public")
        );
    }
    for one in vectors["signatures"].as_array().unwrap() {
        let name = text(one, "name");
        let key: Result<PublicKey, _> = text(one, "public").parse();
        let envelope = Envelope::parse(PayloadType::Alarm, &bytes(one, "envelope"));
        let holds = match (key, envelope) {
            (Ok(key), Ok(envelope)) => envelope.verify(Role::Alarm, &[key], 1).is_ok(),
            _ => false,
        };
        assert_eq!(holds, one["holds"].as_bool().unwrap(), "{name}");
    }
}

#[test]
fn the_generator_still_makes_the_vectors() {
    assert_eq!(generate(), read("manifest.json"));
}

#[test]
fn names_and_paths_are_read_as_the_vectors_say() {
    let vectors = read("manifest-names.json");
    for case in vectors["sites"].as_array().unwrap() {
        let parsed = SiteName::parse(text(case, "text"));
        match case.get("name") {
            Some(name) => {
                let parsed = parsed.unwrap_or_else(|error| panic!("{case}: {error}"));
                assert_eq!(parsed.as_str(), name, "{case}");
                assert_eq!(parsed.label(), text(case, "label"), "{case}");
            }
            None => assert!(parsed.is_err(), "{case}"),
        }
    }
    for case in vectors["paths"].as_array().unwrap() {
        let parsed = SitePath::parse(text(case, "url"));
        match case.get("path") {
            Some(path) => {
                let parsed = parsed.unwrap_or_else(|error| panic!("{case}: {error}"));
                assert_eq!(parsed.as_str(), path, "{case}");
                assert_eq!(parsed.to_url(), text(case, "back"), "{case}");
            }
            None => {
                let error = parsed.expect_err("a path that must be refused");
                assert_eq!(format!("{error:?}"), text(case, "expect"), "{case}");
            }
        }
    }
}

/// With `SWARM_WRITE_VECTORS` set the file is written anew first.
#[test]
fn the_file_holds_what_is_generated() {
    let text = serde_json::to_string_pretty(&generate()).unwrap() + "\n";
    let path = format!("{FOLDER}manifest.json");
    if std::env::var_os("SWARM_WRITE_VECTORS").is_some() {
        fs::write(&path, &text).unwrap();
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
}
