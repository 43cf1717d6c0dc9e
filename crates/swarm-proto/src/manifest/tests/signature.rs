//! T12 of the threats: signatures that weak verifiers take, in the manner of Wycheproof.

use super::*;
use crate::bencode::Item;

/// The order of the group, little-endian.
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

/// Points of small order, by their encodings (as listed for X25519 and Ed25519 everywhere).
const SMALL_ORDER: [&str; 8] = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
];

/// Encodings that are no canonical point: y not below the prime, a sign where x is zero, no point.
const NOT_CANONICAL: [&str; 5] = [
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0100000000000000000000000000000000000000000000000000000000000080",
    "0200000000000000000000000000000000000000000000000000000000000000",
];

fn bytes32(hex: &str) -> [u8; 32] {
    let bytes = data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap();
    bytes.try_into().unwrap()
}

/// `S + L`: the same number to who reduces it.
fn with_order_added(signature: [u8; 64]) -> [u8; 64] {
    let mut out = signature;
    let mut carry = 0_u16;
    for (byte, order) in out[32..].iter_mut().zip(ORDER) {
        carry += u16::from(*byte) + u16::from(order);
        *byte = u8::try_from(carry & 0xff).unwrap();
        carry >>= 8;
    }
    assert_eq!(carry, 0, "S + L fits");
    out
}

fn envelope(payload: &[u8], signatures: &[([u8; 32], [u8; 64])]) -> Vec<u8> {
    Item::dict([
        ("payload", Item::bytes(payload)),
        (
            "signatures",
            Item::list(signatures.iter().map(|(key, sig)| {
                Item::dict([("key", Item::bytes(key)), ("sig", Item::bytes(sig))])
            })),
        ),
        ("type", Item::bytes("alarm")),
    ])
    .to_bytes()
}

fn verify(payload: &[u8], key: &PublicKey, signature: [u8; 64]) -> Result<PublicKey, TrustError> {
    let bytes = envelope(payload, &[(*key.as_bytes(), signature)]);
    Envelope::parse(PayloadType::Alarm, &bytes)?.verify(Role::Alarm, &[*key], 1)
}

const PAYLOAD: &[u8] = b"a payload";
const MESSAGE: &[u8] = b"spikeswarm alarm\0a payload";

#[test]
fn t12_a_signature_is_over_prefix_type_and_payload_and_nothing_less() {
    let secret = key(1);
    let public = secret.public();
    verify(PAYLOAD, &public, secret.sign(MESSAGE)).unwrap();
    for (message, what) in [
        (&b"a payload"[..], "the bare payload"),
        (b"spikeswarm stamp\0a payload", "another type"),
        (b"spikeswarm alarma payload", "no separator"),
        (b"spikeswarm\0alarm\0a payload", "another separator"),
        (b"spikeswarm alarm\0a payloa", "less"),
        (b"spikeswarm alarm\0a payload\0", "more"),
        (b"Spikeswarm alarm\0a payload", "another prefix"),
    ] {
        let refused = verify(PAYLOAD, &public, secret.sign(message));
        assert_eq!(name(refused), "BadSignature", "{what}");
    }
}

#[test]
fn t12_a_signature_that_was_touched_does_not_hold() {
    let secret = key(1);
    let public = secret.public();
    let good = secret.sign(MESSAGE);
    verify(PAYLOAD, &public, good).unwrap();
    for bit in 0..512 {
        let mut bad = good;
        bad[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(
            name(verify(PAYLOAD, &public, bad)),
            "BadSignature",
            "bit {bit}"
        );
    }
    for (bad, what) in [
        ([0; 64], "zeros"),
        ([0xff; 64], "ones"),
        (with_order_added(good), "S + L, the malleable form"),
        (
            {
                let mut bad = good;
                bad[32..].copy_from_slice(&ORDER);
                bad
            },
            "S = L",
        ),
        (key(2).sign(MESSAGE), "another key's"),
    ] {
        assert_eq!(
            name(verify(PAYLOAD, &public, bad)),
            "BadSignature",
            "{what}"
        );
    }
}

#[test]
fn t12_points_of_small_order_are_no_keys() {
    for hex in SMALL_ORDER {
        assert_eq!(
            PublicKey::from_bytes(&bytes32(hex)),
            Err(KeyError::Weak),
            "{hex}"
        );
        assert!(hex.parse::<PublicKey>().is_err());
    }
    for hex in NOT_CANONICAL {
        assert!(PublicKey::from_bytes(&bytes32(hex)).is_err(), "{hex}");
    }
}

#[test]
fn t12_a_small_order_r_is_refused_whatever_the_key() {
    let public = key(1).public();
    for hex in SMALL_ORDER.into_iter().chain(NOT_CANONICAL) {
        let mut bad = [0; 64];
        bad[..32].copy_from_slice(&bytes32(hex));
        assert_eq!(name(verify(PAYLOAD, &public, bad)), "BadSignature", "{hex}");
    }
}

#[test]
fn t12_a_signature_with_a_neutral_r_is_refused_although_the_equation_holds() {
    // Made with the secret key of `key(1)`: R is the neutral point and S = k * a, so that
    // S * B = R + k * A. Verifiers that only look at the equation take it.
    let mut forged = [0; 64];
    forged[..32].copy_from_slice(&bytes32(SMALL_ORDER[0]));
    forged[32..].copy_from_slice(&bytes32(
        "23ac17f56b717faca41bcf8de5699668df5cfeb4abfd1ec6a33149f19f4fa706",
    ));
    let key = ed25519_dalek::VerifyingKey::from_bytes(key(1).public().as_bytes()).unwrap();
    let loose = ed25519_dalek::Verifier::verify(
        &key,
        MESSAGE,
        &ed25519_dalek::Signature::from_bytes(&forged),
    );
    assert!(loose.is_ok(), "the vector is what it says");
    let public = PublicKey::from_bytes(key.as_bytes()).unwrap();
    assert_eq!(name(verify(PAYLOAD, &public, forged)), "BadSignature");
}

#[test]
fn t12_a_signature_of_a_weak_key_counts_for_nobody() {
    // R = A = the neutral point, S = 0: holds for any message under a cofactored verifier.
    let neutral = bytes32(SMALL_ORDER[0]);
    let mut forged = [0; 64];
    forged[..32].copy_from_slice(&neutral);
    let bytes = envelope(PAYLOAD, &[(neutral, forged)]);
    let parsed = Envelope::parse(PayloadType::Alarm, &bytes).unwrap();
    let refused = parsed.verify(Role::Alarm, &[key(1).public()], 1);
    assert_eq!(name(refused), "UnknownKey");
}

#[test]
fn t12_one_key_does_not_count_twice_towards_a_threshold() {
    let (one, two) = (key(1), key(2));
    let keys = [one.public(), two.public()];
    let signature = (*one.public().as_bytes(), one.sign(MESSAGE));
    let twice = envelope(PAYLOAD, &[signature, signature]);
    assert_eq!(
        name(Envelope::parse(PayloadType::Alarm, &twice)),
        "Malformed"
    );
    let both = Envelope::sign(PayloadType::Alarm, PAYLOAD.to_vec(), &[&one, &two, &one]);
    both.verify(Role::Alarm, &keys, 2).unwrap();
    let single = Envelope::sign(PayloadType::Alarm, PAYLOAD.to_vec(), &[&one, &one]);
    assert_eq!(
        name(single.verify(Role::Alarm, &keys, 2)),
        "TooFewSignatures"
    );
}

#[test]
fn t12_secret_keys_are_never_printed() {
    let secret = key(7);
    let printed = format!("{secret:?}");
    assert!(
        !printed.contains("7, 7") && !printed.contains("0707"),
        "{printed}"
    );
    assert_eq!(SecretKey::new(secret.seed()).public(), secret.public());
}

#[test]
fn keys_are_read_as_hexadecimal_and_base32() {
    let public = key(1).public();
    let hex = public.to_string();
    assert_eq!(hex.len(), 64);
    assert_eq!(hex.parse::<PublicKey>(), Ok(public));
    let base32 = data_encoding::BASE32_NOPAD.encode(public.as_bytes());
    assert_eq!(base32.parse::<PublicKey>(), Ok(public));
    assert_eq!(base32.to_lowercase().parse::<PublicKey>(), Ok(public));
    for text in [
        "",
        "zz",
        &hex[1..],
        &format!("{hex}0"),
        &"g".repeat(64),
        &"1".repeat(52),
    ] {
        assert!(text.parse::<PublicKey>().is_err(), "{text}");
    }
}
