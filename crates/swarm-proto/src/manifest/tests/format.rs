//! Bytes that are none of our formats, and what a manifest answers when asked.

use super::*;
use crate::bencode::Item;

fn signed_head(payload: Vec<u8>) -> Vec<u8> {
    Envelope::sign(PayloadType::Manifest, payload, &[&key(2)]).to_bytes()
}

/// A signed manifest with this body, whatever it is.
fn with_body(body: &[u8]) -> Vec<u8> {
    let head = Item::dict([
        ("body", Item::bytes(Digest::of(body))),
        ("created", Item::int(NOW as i64)),
        ("expires", Item::int((NOW + DAY) as i64)),
        ("length", Item::int(body.len() as i64)),
        ("sequence", Item::int(7)),
        ("site", Item::bytes("example.org")),
        ("stamped", Item::int(0)),
    ]);
    Item::dict([
        ("body", Item::bytes(body)),
        ("head", Item::bytes(signed_head(head.to_bytes()))),
    ])
    .to_bytes()
}

fn open(bytes: &[u8]) -> Result<SiteManifest, TrustError> {
    SignedManifest::open(bytes, &Site::new("example.org", 1).set(1), NOW, None, None)
}

/// Entries of a dictionary, with one replaced, or removed by `None`.
fn patched(base: &[(&'static str, Item)], field: &'static str, value: Option<Item>) -> Item {
    let mut entries: Vec<_> = base
        .iter()
        .filter(|(name, _)| *name != field)
        .cloned()
        .collect();
    entries.extend(value.map(|value| (field, value)));
    Item::dict(entries)
}

fn bundle() -> Vec<(&'static str, Item)> {
    vec![
        ("length", Item::int(5)),
        (
            "trackers",
            Item::list([Item::bytes("http://t.example/announce")]),
        ),
        ("v1", Item::bytes([1; 20])),
        ("v2", Item::bytes([1; 32])),
    ]
}

fn entry() -> Vec<(&'static str, Item)> {
    vec![
        ("bundle", Item::int(0)),
        ("cache", Item::int(60)),
        ("digest", Item::bytes([2; 32])),
        ("file", Item::int(0)),
        ("length", Item::int(5)),
        ("modified", Item::int(1)),
        ("type", Item::bytes("text/html;charset=utf-8")),
    ]
}

fn variant() -> Vec<(&'static str, Item)> {
    vec![
        ("digest", Item::bytes([3; 32])),
        ("encoding", Item::bytes("br")),
        ("file", Item::int(1)),
        ("length", Item::int(3)),
    ]
}

fn body(bundles: Vec<Item>, files: Vec<(&str, Item)>) -> Vec<u8> {
    Item::dict([
        ("bundles", Item::List(bundles)),
        ("files", Item::dict(files)),
    ])
    .to_bytes()
}

#[test]
fn every_bad_body_is_refused_although_it_is_signed() {
    let good = || Item::dict(bundle());
    let page = || Item::dict(entry());
    open(&with_body(&body(vec![good()], vec![("/a", page())]))).unwrap();
    let file = |field, value| body(vec![good()], vec![("/a", patched(&entry(), field, value))]);
    let one_bundle =
        |field, value| body(vec![patched(&bundle(), field, value)], vec![("/a", page())]);
    let variants = |items: Vec<Item>| file("variants", Some(Item::List(items)));
    let one_variant = |field, value| variants(vec![patched(&variant(), field, value)]);
    open(&with_body(&variants(vec![Item::dict(variant())]))).unwrap();

    let mut bad: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", Vec::new()),
        ("no dictionary", b"le".to_vec()),
        (
            "no bundles",
            Item::dict([("files", Item::dict::<&str>([]))]).to_bytes(),
        ),
        (
            "no files",
            Item::dict([("bundles", Item::list([]))]).to_bytes(),
        ),
        (
            "trailing bytes",
            [body(vec![good()], vec![]), b"0:".to_vec()].concat(),
        ),
        ("unsorted keys", b"d5:filesde7:bundleslee".to_vec()),
        (
            "doubled keys",
            b"d7:bundlesle7:bundlesle5:filesdee".to_vec(),
        ),
        ("a bundle twice", body(vec![good(), good()], vec![])),
        ("bundles no dictionaries", body(vec![Item::int(1)], vec![])),
        (
            "a file no dictionary",
            body(vec![good()], vec![("/a", Item::int(1))]),
        ),
        ("no such bundle", file("bundle", Some(Item::int(1)))),
        ("no bundle at all", body(vec![], vec![("/a", page())])),
        ("bundle below zero", file("bundle", Some(Item::int(-1)))),
        ("bundle too large", file("bundle", Some(Item::int(1 << 32)))),
        ("length below zero", file("length", Some(Item::int(-1)))),
        ("length no number", file("length", Some(Item::bytes("5")))),
        (
            "digest too short",
            file("digest", Some(Item::bytes([2; 31]))),
        ),
        (
            "digest too long",
            file("digest", Some(Item::bytes([2; 33]))),
        ),
        ("cache too large", file("cache", Some(Item::int(1 << 32)))),
        (
            "type with a line break",
            file("type", Some(Item::bytes("text/html\r\nSet-Cookie: a"))),
        ),
        (
            "type without a slash",
            file("type", Some(Item::bytes("html"))),
        ),
        ("type of nothing", file("type", Some(Item::bytes("/html")))),
        (
            "type with a blank",
            file("type", Some(Item::bytes("text /html"))),
        ),
        (
            "type not ASCII",
            file("type", Some(Item::bytes("text/html;a=\u{e9}"))),
        ),
        (
            "type too long",
            file(
                "type",
                Some(Item::bytes("a/".to_owned() + &"b".repeat(126))),
            ),
        ),
        (
            "type not UTF-8",
            file("type", Some(Item::bytes(b"text/\xff"))),
        ),
        ("variants no list", file("variants", Some(Item::int(1)))),
        ("variant no dictionary", variants(vec![Item::int(1)])),
        (
            "unknown encoding",
            one_variant("encoding", Some(Item::bytes("gzip"))),
        ),
        (
            "an encoding twice",
            variants(vec![Item::dict(variant()), Item::dict(variant())]),
        ),
        (
            "encodings out of order",
            variants(vec![
                patched(&variant(), "encoding", Some(Item::bytes("zstd"))),
                Item::dict(variant()),
            ]),
        ),
        (
            "too many variants",
            variants(vec![Item::dict(variant()); 3]),
        ),
        ("v1 too short", one_bundle("v1", Some(Item::bytes([1; 19])))),
        ("v2 too short", one_bundle("v2", Some(Item::bytes([1; 20])))),
        (
            "tracker no URL",
            one_bundle("trackers", Some(Item::list([Item::bytes("nowhere")]))),
        ),
        (
            "tracker with a script",
            one_bundle("trackers", Some(Item::list([Item::bytes("javascript:a")]))),
        ),
        (
            "tracker with a line break",
            one_bundle("trackers", Some(Item::list([Item::bytes("http://a/\n")]))),
        ),
        (
            "tracker no string",
            one_bundle("trackers", Some(Item::list([Item::int(1)]))),
        ),
        (
            "too many trackers",
            one_bundle(
                "trackers",
                Some(Item::List(vec![Item::bytes("http://a/"); 17])),
            ),
        ),
    ];
    for (field, _) in entry() {
        bad.push((field, file(field, None)));
    }
    for (field, _) in bundle() {
        bad.push((field, one_bundle(field, None)));
    }
    for (field, _) in variant() {
        bad.push((field, one_variant(field, None)));
    }
    for path in [
        "", "a", "/", "/a/", "//", "/../a", "/.git", "/a//b", "/a\\b", "/a\0", "/a\nb",
    ] {
        bad.push((path, body(vec![good()], vec![(path, page())])));
    }
    for (what, bytes) in bad {
        assert_eq!(name(open(&with_body(&bytes))), "Malformed", "{what}");
    }
    let not_utf8 = Item::dict([
        ("bundles", Item::List(vec![good()])),
        ("files", Item::dict([(&b"/\xff"[..], page())])),
    ]);
    assert_eq!(name(open(&with_body(&not_utf8.to_bytes()))), "Malformed");
}

#[test]
fn more_files_than_a_manifest_holds_are_refused() {
    let page = Item::dict(entry());
    let names: Vec<String> = (0..=crate::limits::MANIFEST_FILES_MAX)
        .map(|n| format!("/{n}"))
        .collect();
    let files = names.iter().map(|name| (name.as_str(), page.clone()));
    let bytes = body(vec![Item::dict(bundle())], files.collect());
    let error = open(&with_body(&bytes)).unwrap_err();
    assert!(
        matches!(
            error,
            TrustError::Malformed(FormatError::TooMany { what: "files", .. })
        ),
        "{error:?}"
    );
    let tokens = [
        b"d7:bundlesl".to_vec(),
        b"le".repeat(3_000_000),
        b"e5:filesdee".to_vec(),
    ];
    assert_eq!(name(open(&with_body(&tokens.concat()))), "Malformed");
}

#[test]
fn bytes_of_strangers_never_pass_for_a_statement() {
    let nested = |depth: usize| [b"l".repeat(depth), b"e".repeat(depth)].concat();
    for bytes in [
        &b""[..],
        b"d",
        b"de",
        b"le",
        b"i0e",
        b"0:",
        b"d4:body0:4:head0:e",
        b"d7:payload0:10:signaturesle4:type8:manifeste",
        b"d4:keys0:8:manifest0:e",
        b"d4:keysle8:manifestdee",
        b"99999999999999999999:",
        &nested(65),
        &nested(100_000),
        &b"d1:a".repeat(10_000),
    ] {
        assert!(SiteRecord::parse(bytes).is_err());
        assert!(SignedManifest::parse(bytes).is_err());
        assert!(SignedKeySet::parse(bytes).is_err());
        assert!(SignedStamp::parse(bytes).is_err());
        assert!(SignedAlarm::parse(bytes).is_err());
        assert!(SiteTrust::from_bytes(bytes).is_err());
        assert_eq!(Envelope::claimed_type(bytes), None);
    }
}

#[test]
fn oversized_files_are_refused_before_they_are_read() {
    let long = vec![b'x'; crate::limits::ENVELOPE_LEN_MAX + 1];
    for refused in [
        name(SignedAlarm::parse(&long)),
        name(SignedStamp::parse(&long)),
        name(SignedKeySet::parse(&vec![
            b'x';
            crate::limits::KEY_CHAIN_LEN_MAX
                + 1
        ])),
        name(SignedManifest::parse(&vec![
            b'x';
            crate::limits::MANIFEST_LEN_MAX
                + 1
        ])),
        name(SiteRecord::parse(&vec![
            b'x';
            crate::limits::SITE_RECORD_LEN_MAX
                + 1
        ])),
    ] {
        assert_eq!(refused, "Malformed");
    }
}

/// One flipped bit anywhere in a record: never a panic, never another site than was signed.
#[test]
fn no_flipped_bit_changes_what_is_believed() {
    let site = Site::new("example.org", 1);
    let manifest = site.stamped(7);
    let record = SiteRecord {
        keys: site.chain(),
        stamp: Some(site.stamp(&manifest, NOW)),
        manifest,
    };
    let bytes = record.to_bytes();
    let pin = site.root.public();
    let truth = record.open(&pin, &site.name, NOW).unwrap();
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        if let Ok(parsed) = SiteRecord::parse(&flipped)
            && let Ok(believed) = parsed.open(&pin, &site.name, NOW)
        {
            // Nothing but what no signature covers may differ, and that says nothing.
            assert_eq!(believed, truth, "byte {at}");
            panic!("byte {at} is covered by no signature and no format");
        }
    }
}

#[test]
fn nothing_stands_outside_the_signature() {
    use crate::bencode::{Rules, decode};
    let site = Site::new("example.org", 1);
    let with_more = |bytes: &[u8]| {
        let value = decode(bytes, &Rules::SIGNED).unwrap();
        let entries = value.as_dict().unwrap().iter();
        let entries = entries.map(|(key, value)| (key, Item::from(value)));
        Item::dict(entries.chain([(&b"more"[..], Item::int(1))])).to_bytes()
    };
    let alarm = SignedAlarm::sign(&site.alarm(), &site.alarm).unwrap();
    let manifest = site.signed(7);
    assert_eq!(
        name(SignedAlarm::parse(&with_more(&alarm.to_bytes()))),
        "Malformed"
    );
    assert_eq!(
        name(SignedManifest::parse(&with_more(&manifest.to_bytes()))),
        "Malformed"
    );
}

#[test]
fn key_sets_that_make_no_sense_are_refused() {
    let site = Site::new("example.org", 1);
    let good = site.set(1);
    let many: Vec<PublicKey> = (100..117).map(|seed| key(seed).public()).collect();
    for (what, set) in [
        (
            "no root",
            KeySet {
                root: vec![],
                ..good.clone()
            },
        ),
        (
            "no publish key",
            KeySet {
                publish: vec![],
                ..good.clone()
            },
        ),
        (
            "threshold of none",
            KeySet {
                threshold: 0,
                ..good.clone()
            },
        ),
        (
            "threshold too high",
            KeySet {
                threshold: 2,
                ..good.clone()
            },
        ),
        (
            "sequence 0",
            KeySet {
                sequence: 0,
                ..good.clone()
            },
        ),
        (
            "too many keys",
            KeySet {
                publish: many,
                ..good.clone()
            },
        ),
        (
            "root publishes",
            KeySet {
                publish: good.root.clone(),
                ..good.clone()
            },
        ),
        (
            "root alarms",
            KeySet {
                alarm: good.root.clone(),
                ..good.clone()
            },
        ),
        (
            "publish alarms",
            KeySet {
                alarm: good.publish.clone(),
                ..good.clone()
            },
        ),
    ] {
        assert!(set.checked().is_err(), "{what}");
    }
    KeySet {
        alarm: vec![],
        ..good
    }
    .checked()
    .unwrap();
}

#[test]
fn lookup_finds_pages_folders_and_nothing_else() {
    let manifest = Site::new("example.org", 1).manifest(1);
    let at = |path: &str| manifest.lookup(&SitePath::parse(path).unwrap());
    let found = |path: &str| match at(path) {
        Lookup::File(path, _) => path.as_str().to_owned(),
        other => format!("{other:?}"),
    };
    assert_eq!(found("/"), "/index.html");
    assert_eq!(found("/index.html"), "/index.html");
    assert_eq!(found("/docs/"), "/docs/index.html");
    assert_eq!(found("/a%20b.png"), "/a b.png");
    assert_eq!(at("/docs"), Lookup::RedirectSlash);
    assert_eq!(at("/index.html/"), Lookup::Missing);
    assert_eq!(at("/nothing"), Lookup::Missing);
    assert_eq!(at("/nothing/"), Lookup::Missing);
}

#[test]
fn unknown_fields_are_left_alone() {
    let payload = Item::dict([
        ("body", Item::bytes(Digest::of(b"d7:bundlesle5:filesdee"))),
        ("created", Item::int(NOW as i64)),
        ("expires", Item::int((NOW + DAY) as i64)),
        ("later", Item::int(1)),
        ("length", Item::int(22)),
        ("sequence", Item::int(7)),
        ("site", Item::bytes("example.org")),
        ("stamped", Item::int(0)),
    ]);
    let bytes = Item::dict([
        ("body", Item::bytes(b"d7:bundlesle5:filesdee")),
        ("head", Item::bytes(signed_head(payload.to_bytes()))),
    ])
    .to_bytes();
    open(&bytes).unwrap();
}

/// The body of the fuzz target, over what the vectors hold.
#[test]
fn fuzz_body_holds_for_changed_vectors() {
    const VECTORS: &str = include_str!("../../../../../spec/vectors/manifest.json");
    let vectors: serde_json::Value = serde_json::from_str(VECTORS).unwrap();
    let decode = |value: &serde_json::Value| {
        data_encoding::HEXLOWER
            .decode(value.as_str().unwrap().as_bytes())
            .unwrap()
    };
    let cases = vectors["cases"].as_array().unwrap();
    let mut corpus: Vec<Vec<u8>> = cases.iter().map(|case| decode(&case["bytes"])).collect();
    corpus.extend(
        vectors["signatures"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| decode(&one["envelope"])),
    );
    corpus.extend([b"example.org:8080".to_vec(), b"/docs/a%20b.html".to_vec()]);
    let site = Site::new("example.org", 1);
    let mut trust = site.trust();
    trust.accept_manifest(&site.signed(7), None, NOW).unwrap();
    corpus.push(trust.to_bytes());
    crate::fuzzing::tests::hammer(&corpus, 4, 4000, crate::fuzzing::manifest);
}
