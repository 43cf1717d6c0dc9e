//! T33 to T38 of the threats: rollback, freeze, mix-and-match, fast-forward, stolen keys, replay.

use super::*;

#[test]
fn t33_an_older_manifest_is_a_rollback_also_after_a_restart() {
    let site = Site::new("example.org", 1);
    let mut trust = site.trust();
    trust.accept_manifest(&site.signed(7), None, NOW).unwrap();
    let refused = trust.accept_manifest(&site.signed(6), None, NOW);
    assert!(matches!(
        refused,
        Err(TrustError::Rollback { seen: 7, got: 6 })
    ));
    // What was stored is all that a restarted reader knows.
    let mut restarted = SiteTrust::from_bytes(&trust.to_bytes()).unwrap();
    assert_eq!(restarted, trust);
    assert_eq!(
        name(restarted.accept_manifest(&site.signed(6), None, NOW)),
        "Rollback"
    );
    assert_eq!(restarted, trust, "a refusal changes nothing");
    // The same again is no rollback, and a newer one is welcome.
    restarted
        .accept_manifest(&site.signed(7), None, NOW)
        .unwrap();
    restarted
        .accept_manifest(&site.signed(8), None, NOW)
        .unwrap();
}

#[test]
fn t33_an_older_set_of_keys_is_a_rollback() {
    let mut site = Site::new("example.org", 1);
    let old = site.chain();
    site.publish = key(90);
    let new = old.rolled(&site.set(2), &[&site.root]).unwrap();
    let mut trust = site.trust_in(&old);
    trust.accept_keys(&new, NOW).unwrap();
    assert!(matches!(
        trust.accept_keys(&old, NOW),
        Err(TrustError::Rollback { seen: 2, got: 1 })
    ));
    trust.accept_keys(&new, NOW).unwrap();
}

impl Site {
    fn trust_in(&self, chain: &SignedKeySet) -> SiteTrust {
        SiteTrust::begin(Anchor::Introduced, &self.name, chain, NOW).unwrap()
    }
}

#[test]
fn t33_one_sequence_has_one_manifest() {
    let site = Site::new("example.org", 1);
    let mut trust = site.trust();
    trust.accept_manifest(&site.signed(7), None, NOW).unwrap();
    let mut other = site.manifest(7);
    other.bundles[0].length += 1;
    let other = SignedManifest::sign(&other, &site.publish).unwrap();
    assert_eq!(
        name(trust.accept_manifest(&other, None, NOW)),
        "Equivocation"
    );
}

#[test]
fn t34_a_frozen_manifest_is_stale_a_day_after_its_last_stamp() {
    let site = Site::new("example.org", 1);
    let mut trust = site.trust();
    let manifest = site.stamped(7);
    let stamp = site.stamp(&manifest, NOW);
    trust
        .accept_manifest(&manifest, Some(&stamp), NOW + 23 * 3600)
        .unwrap();
    let later = NOW + 25 * 3600;
    assert_eq!(
        name(trust.accept_manifest(&manifest, Some(&stamp), later)),
        "Expired"
    );
    assert_eq!(name(trust.accept_manifest(&manifest, None, later)), "Stale");
    // A stamp kept by a reader ages there too.
    let kept = stamp.verify(&site.set(1), NOW).unwrap();
    assert_eq!(
        name(manifest.verify(&site.set(1), later, None, Some(&kept))),
        "Expired"
    );
    let renewed = site.stamp(&manifest, later);
    trust
        .accept_manifest(&manifest, Some(&renewed), later)
        .unwrap();
}

#[test]
fn t34_a_stamp_is_for_one_manifest_and_lives_a_day_at_most() {
    let site = Site::new("example.org", 1);
    let (six, seven) = (site.stamped(6), site.stamped(7));
    let mut trust = site.trust();
    let stamp = site.stamp(&seven, NOW);
    assert_eq!(
        name(trust.accept_manifest(&six, Some(&stamp), NOW)),
        "Stale"
    );
    let same_number = SignedManifest::sign(
        &SiteManifest {
            created: NOW - 1,
            stamped: true,
            ..site.manifest(7)
        },
        &site.publish,
    )
    .unwrap();
    assert_eq!(
        name(trust.accept_manifest(&same_number, Some(&stamp), NOW)),
        "Stale"
    );
    let long = Stamp::of(&seven, NOW, DAY + 1);
    assert_eq!(name(SignedStamp::sign(&long, &site.alarm)), "LivesTooLong");
    let by_publish_key = SignedStamp::sign(&Stamp::of(&seven, NOW, DAY), &site.publish).unwrap();
    assert_eq!(
        name(trust.accept_manifest(&seven, Some(&by_publish_key), NOW)),
        "UnknownKey"
    );
}

#[test]
fn t34_an_expired_manifest_stays_expired_when_the_clock_goes_back() {
    let site = Site::new("example.org", 1);
    let mut trust = site.trust();
    let old = site.signed(7);
    let expired = NOW + 30 * DAY;
    assert_eq!(name(trust.accept_manifest(&old, None, expired)), "Expired");
    // Something signed shows that it is at least that late, whatever the clock says afterwards.
    let newer = SiteManifest {
        created: expired,
        expires: expired + DAY,
        ..site.manifest(8)
    };
    let newer = SignedManifest::sign(&newer, &site.publish).unwrap();
    trust.accept_manifest(&newer, None, expired).unwrap();
    let short = SiteManifest {
        created: NOW,
        expires: NOW + 30 * DAY,
        ..site.manifest(9)
    };
    let short = SignedManifest::sign(&short, &site.publish).unwrap();
    assert_eq!(name(trust.accept_manifest(&short, None, NOW)), "Expired");
}

#[test]
fn t34_nothing_comes_from_the_future_or_lives_for_ever() {
    let site = Site::new("example.org", 1);
    let keys = site.set(1);
    let early = SiteManifest {
        created: NOW + 601,
        ..site.manifest(1)
    };
    let early = SignedManifest::sign(&early, &site.publish).unwrap();
    assert_eq!(name(early.verify(&keys, NOW, None, None)), "NotYetValid");
    early.verify(&keys, NOW + 1, None, None).unwrap();
    let eternal = SiteManifest {
        expires: NOW + 32 * DAY,
        ..site.manifest(1)
    };
    assert_eq!(
        name(SignedManifest::sign(&eternal, &site.publish)),
        "LivesTooLong"
    );
    let mut alarm = site.alarm();
    alarm.until = alarm.issued + 3601;
    assert_eq!(name(SignedAlarm::sign(&alarm, &site.alarm)), "LivesTooLong");
}

#[test]
fn t35_a_bundle_of_one_manifest_does_not_fit_into_another() {
    let site = Site::new("example.org", 1);
    let (six, seven) = (site.signed(6), site.signed(7));
    let mut mixed = site.manifest(7);
    mixed.bundles = site.manifest(6).bundles;
    let mixed = SignedManifest::sign(&mixed, &site.publish).unwrap();
    // The head of 7 with the body in which one bundle of 6 was put.
    let bytes = with_body_of(&seven, &mixed);
    assert_eq!(name(open(&site, &bytes)), "BodyMismatch");
    assert_eq!(
        name(open(&site, &with_body_of(&seven, &six))),
        "BodyMismatch"
    );
    open(&site, &with_body_of(&seven, &seven)).unwrap();
}

fn open(site: &Site, bytes: &[u8]) -> Result<SiteManifest, TrustError> {
    SignedManifest::open(bytes, &site.set(1), NOW, None, None)
}

fn with_body_of(head: &SignedManifest, body: &SignedManifest) -> Vec<u8> {
    use crate::bencode::{Item, Rules, decode};
    let part = |bytes: &[u8], key: &[u8]| {
        let value = decode(bytes, &Rules::SIGNED).unwrap();
        Item::bytes(
            value
                .as_dict()
                .unwrap()
                .get(key)
                .unwrap()
                .as_bytes()
                .unwrap(),
        )
    };
    Item::dict([
        ("body", part(&body.to_bytes(), b"body")),
        ("head", part(&head.to_bytes(), b"head")),
    ])
    .to_bytes()
}

#[test]
fn t36_a_thief_cannot_block_a_site_with_the_highest_number() {
    let mut site = Site::new("example.org", 1);
    let first = site.chain();
    let mut trust = site.trust();
    let highest = site.signed(i64::MAX as u64);
    trust.accept_manifest(&highest, None, NOW).unwrap();
    assert_eq!(
        name(trust.accept_manifest(&site.signed(8), None, NOW)),
        "Rollback"
    );
    site.publish = key(90);
    let rolled = first.rolled(&site.set(2), &[&site.root]).unwrap();
    trust.accept_keys(&rolled, NOW).unwrap();
    trust.accept_manifest(&site.signed(8), None, NOW).unwrap();
    assert_eq!(trust.highest_sequence(), Some(8));
    assert_eq!(
        name(trust.accept_manifest(&highest, None, NOW)),
        "UnknownKey"
    );
}

#[test]
fn t36_a_key_that_stays_keeps_its_sequence_through_a_roll() {
    let mut site = Site::new("example.org", 1);
    let first = site.chain();
    let mut trust = site.trust();
    trust.accept_manifest(&site.signed(7), None, NOW).unwrap();
    site.alarm = key(90);
    let rolled = first.rolled(&site.set(2), &[&site.root]).unwrap();
    trust.accept_keys(&rolled, NOW).unwrap();
    assert_eq!(
        name(trust.accept_manifest(&site.signed(6), None, NOW)),
        "Rollback"
    );
}

#[test]
fn t37_no_single_stolen_key_can_forge_what_it_was_not_made_for() {
    let site = Site::new("example.org", 1);
    let roots = [key(50), key(51), key(52)];
    let set = KeySet {
        root: roots.iter().map(SecretKey::public).collect(),
        threshold: 2,
        ..site.set(1)
    }
    .checked()
    .unwrap();
    let chain = SignedKeySet::first(&set, &[&roots[0], &roots[1]]).unwrap();
    let thief = key(99);
    let stolen_set = KeySet {
        sequence: 2,
        publish: vec![thief.public()],
        ..set.clone()
    };
    // With any one key: no new keys.
    for stolen in [&roots[0], &roots[1], &roots[2], &site.publish, &site.alarm] {
        let refused = name(chain.rolled(&stolen_set, &[stolen, &thief]));
        assert!(
            refused == "TooFewSignatures" || refused == "UnknownKey",
            "{refused}"
        );
    }
    chain.rolled(&stolen_set, &[&roots[2], &roots[0]]).unwrap();
    // With the alarm key or one root: no manifest. With the publish key: no alarm, no stamp.
    for stolen in [&site.alarm, &roots[0], &thief] {
        let forged = SignedManifest::sign(&site.manifest(8), stolen).unwrap();
        assert_eq!(name(forged.verify(&set, NOW, None, None)), "UnknownKey");
    }
    for stolen in [&site.publish, &roots[0], &thief] {
        let forged = SignedAlarm::sign(&site.alarm(), stolen).unwrap();
        assert_eq!(name(forged.verify(&set, NOW)), "UnknownKey");
        let stamp = Stamp::of(&site.stamped(8), NOW, DAY);
        let forged = SignedStamp::sign(&stamp, stolen).unwrap();
        assert_eq!(name(forged.verify(&set, NOW)), "UnknownKey");
    }
    // Nor can a key be named twice, to have two roles.
    let both = KeySet {
        alarm: vec![site.publish.public()],
        ..set
    };
    assert!(both.checked().is_err());
}

#[test]
fn t37_a_fork_signed_by_one_stolen_root_does_not_pass_two_pins() {
    let site = Site::new("example.org", 1);
    let roots = [key(50), key(51), key(52)];
    let fork = KeySet {
        root: vec![roots[0].public()],
        publish: vec![key(99).public()],
        ..site.set(1)
    };
    let fork = SignedKeySet::first(&fork, &[&roots[0]]).unwrap();
    let pins = [roots[0].public(), roots[1].public()];
    let refused = fork.verify(Anchor::Pinned(&pins), &site.name, NOW);
    assert_eq!(name(refused), "NotAnchored");
    // Naming the other root without its signature does not help.
    let fork = KeySet {
        root: vec![roots[0].public(), roots[1].public()],
        ..site.set(1)
    };
    let fork = SignedKeySet::first(&fork.checked().unwrap(), &[&roots[0]]).unwrap();
    let refused = fork.verify(Anchor::Pinned(&pins), &site.name, NOW);
    assert_eq!(name(refused), "TooFewSignatures");
}

#[test]
fn t37_fifty_rolls_of_the_root_lead_from_the_first_pin_to_the_last_key() {
    let mut site = Site::new("example.org", 1);
    let pin = [site.root.public()];
    let mut chain = site.chain();
    let mut known = site.set(1);
    for n in 2..=51_u8 {
        let old = std::mem::replace(&mut site.root, key(100 + n));
        let next = site.set(u64::from(n));
        // Signed by the old root alone, or the new one alone, nothing follows.
        assert_eq!(name(chain.rolled(&next, &[&old])), "UnknownKey");
        assert_eq!(name(chain.rolled(&next, &[&site.root])), "UnknownKey");
        chain = chain.rolled(&next, &[&old, &site.root]).unwrap();
        if n == 30 {
            known = next;
        }
    }
    let parsed = SignedKeySet::parse(&chain.to_bytes()).unwrap();
    let newest = parsed
        .verify(Anchor::Pinned(&pin), &site.name, NOW)
        .unwrap();
    assert_eq!(newest, site.set(51));
    let from_known = parsed.verify(Anchor::Known(&known), &site.name, NOW);
    assert_eq!(from_known.unwrap(), newest);
    let stranger = [key(240).public()];
    let refused = parsed.verify(Anchor::Pinned(&stranger), &site.name, NOW);
    assert_eq!(name(refused), "NotAnchored");
    let expired = parsed.verify(Anchor::Pinned(&pin), &site.name, NOW + 300 * DAY);
    assert_eq!(name(expired), "Expired");
}

#[test]
fn t37_a_chain_that_forks_from_what_is_known_breaks() {
    let site = Site::new("example.org", 1);
    let trusting = site.trust();
    let fork = KeySet {
        publish: vec![key(99).public()],
        ..site.set(1)
    };
    let fork = SignedKeySet::first(&fork, &[&site.root]).unwrap();
    let mut trust = trusting.clone();
    assert_eq!(name(trust.accept_keys(&fork, NOW)), "BrokenChain");
    let longer = fork.rolled(&site.set(2), &[&site.root]).unwrap();
    assert_eq!(name(trust.accept_keys(&longer, NOW)), "BrokenChain");
    assert_eq!(trust, trusting);
}

#[test]
fn t38_what_another_site_signed_is_refused() {
    let site = Site::new("example.org", 1);
    // The other site uses the same keys: only the name inside the signature tells.
    let mut other = Site::new("example.net", 1);
    let mut trust = site.trust();
    assert_eq!(
        name(trust.accept_manifest(&other.signed(7), None, NOW)),
        "WrongSite"
    );
    assert_eq!(name(trust.accept_keys(&other.chain(), NOW)), "WrongSite");
    let alarm = SignedAlarm::sign(&other.alarm(), &other.alarm).unwrap();
    assert_eq!(name(alarm.verify(&site.set(1), NOW)), "WrongSite");
    let stamp = other.stamp(&other.stamped(7), NOW);
    assert_eq!(name(stamp.verify(&site.set(1), NOW)), "WrongSite");
    // A whole record of another site, whose keys are its own.
    other = Site::new("example.net", 40);
    let record = SiteRecord {
        keys: other.chain(),
        manifest: other.signed(7),
        stamp: None,
    };
    assert_eq!(name(trust.accept_record(&record, NOW)), "WrongSite");
    let refused = record.open(&site.root.public(), &site.name, NOW);
    assert_eq!(name(refused), "WrongSite");
    let refused = record.open(&site.root.public(), &other.name, NOW);
    assert_eq!(name(refused), "NotAnchored");
}

#[test]
fn t38_one_kind_of_statement_never_passes_for_another() {
    let site = Site::new("example.org", 1);
    let manifest = site.stamped(7);
    let stamp = site.stamp(&manifest, NOW);
    let alarm = SignedAlarm::sign(&site.alarm(), &site.alarm).unwrap();
    assert_eq!(name(SignedAlarm::parse(&stamp.to_bytes())), "WrongType");
    assert_eq!(name(SignedStamp::parse(&alarm.to_bytes())), "WrongType");
    // The label alone is not enough: the signature covers it.
    let relabelled = replace(&alarm.to_bytes(), b"5:alarme", b"5:stampe");
    let envelope = Envelope::parse(PayloadType::Stamp, &relabelled).unwrap();
    assert_eq!(
        name(envelope.verify(Role::Alarm, &site.set(1).alarm, 1)),
        "BadSignature"
    );
}

fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = bytes
        .windows(from.len())
        .rposition(|window| window == from)
        .unwrap();
    [&bytes[..at], to, &bytes[at + from.len()..]].concat()
}

#[test]
fn t38_an_alarm_sends_nobody_to_another_site() {
    let site = Site::new("example.org", 1);
    for home in [
        "https://example.net/",
        "https://example.org:8080/",
        "https://example.org@example.net/",
        "javascript:alert(1)",
        "//example.org/",
        "https://example.org/\r\nSet-Cookie: a=b",
        "https://example.org/\u{1b}[31m",
    ] {
        let alarm = Alarm {
            home: home.into(),
            ..site.alarm()
        };
        assert_eq!(name(SignedAlarm::sign(&alarm, &site.alarm)), "Malformed");
    }
}

#[test]
fn a_whole_record_is_believed_from_its_pin_alone() {
    let site = Site::new("example.org", 1);
    let manifest = site.stamped(7);
    let record = SiteRecord {
        keys: site.chain(),
        stamp: Some(site.stamp(&manifest, NOW)),
        manifest,
    };
    let parsed = SiteRecord::parse(&record.to_bytes()).unwrap();
    assert_eq!(parsed, record);
    assert_eq!(parsed.claimed_site(), &site.name);
    let (keys, manifest) = parsed.open(&site.root.public(), &site.name, NOW).unwrap();
    assert_eq!(keys, site.set(1));
    assert!(manifest.stamped);
    let mut trust = site.trust();
    assert_eq!(trust.accept_record(&parsed, NOW).unwrap(), manifest);
    let without = SiteRecord {
        stamp: None,
        ..parsed
    };
    assert_eq!(name(trust.accept_record(&without, NOW)), "Stale");
}
