//! Bad input, row by row.

use super::*;
use BencodeError as E;

/// Rows that no rules accept.
fn rows() -> Vec<(Vec<u8>, BencodeError)> {
    let mut rows: Vec<(Vec<u8>, BencodeError)> = Vec::new();
    let mut add = |input: &[u8], error: BencodeError| rows.push((input.to_vec(), error));

    // Nothing, or less than one value.
    let good = b"d1:ai-12e1:bl3:xyzd1:ci0eeee";
    for end in 0..good.len() {
        add(&good[..end], truncated(&good[..end]));
    }

    // Bytes that begin no value, alone and within.
    for byte in (0..=255_u8)
        .filter(|b| !b"0123456789dile".contains(b))
        .step_by(5)
    {
        add(&[byte], E::UnexpectedByte { at: 0, byte });
        add(&[b'l', byte, b'e'], E::UnexpectedByte { at: 1, byte });
        add(
            &[b'd', b'1', b':', b'a', byte, b'e'],
            E::UnexpectedByte { at: 4, byte },
        );
    }
    add(b"e", E::UnexpectedByte { at: 0, byte: b'e' });
    add(b"-1:a", E::UnexpectedByte { at: 0, byte: b'-' });
    add(b":a", E::UnexpectedByte { at: 0, byte: b':' });
    add(b"I1e", E::UnexpectedByte { at: 0, byte: b'I' });
    add(b"\xef\xbb\xbfi1e", E::UnexpectedByte { at: 0, byte: 0xef });

    // Integers out of form.
    for int in [
        "ie",
        "i-e",
        "i-0e",
        "i00e",
        "i01e",
        "i-01e",
        "i--1e",
        "i+1e",
        "i 1e",
        "i1 e",
        "i1.0e",
        "i1,e",
        "i0x1e",
        "i1-e",
        "i-1-e",
        "i1e1",
        "ii1ee",
        "i\0e",
        "i1\0e",
        "ie1:a",
        "i-",
        "i-1",
        "i1",
        "i",
        "i000000000000000000000000e",
        "i-00e",
        "i0-e",
        "i1i2ee",
        "i\u{661}e",
        "i1\ne",
    ] {
        let error = match int {
            "i" | "i-" | "i1" | "i-1" => E::Truncated,
            "i1e1" => E::TrailingBytes { at: 3 },
            _ => E::MalformedInt { at: 0 },
        };
        add(int.as_bytes(), error.clone());
        if error != (E::TrailingBytes { at: 3 }) {
            let within = format!("l{int}");
            let error = if error == E::Truncated {
                error
            } else {
                E::MalformedInt { at: 1 }
            };
            add(within.as_bytes(), error);
        }
    }

    // Integers beyond 64 bits.
    for int in [
        "9223372036854775808",
        "-9223372036854775809",
        "18446744073709551615",
        "18446744073709551616",
        "-18446744073709551616",
        "99999999999999999999",
        "340282366920938463463374607431768211456",
        "10000000000000000000000000000000000000000000000000000000000000000000000000000000000000",
    ] {
        add(format!("i{int}e").as_bytes(), E::IntRange { at: 0 });
        add(format!("d1:xi{int}ee").as_bytes(), E::IntRange { at: 4 });
    }

    // Lengths out of form.
    for string in [
        "00:", "01:a", "001:a", "000:", "09:", "1-:a", "1 :a", "1e", "1.5:a", "0x1:a",
    ] {
        add(string.as_bytes(), E::MalformedLength { at: 0 });
        add(
            format!("l{string}e").as_bytes(),
            E::MalformedLength { at: 1 },
        );
        add(
            format!("d{string}i1ee").as_bytes(),
            E::MalformedLength { at: 1 },
        );
    }
    for open in ["1", "12", "0", "99999999999999999999", "l5", "d3"] {
        add(open.as_bytes(), E::Truncated);
    }

    // Lengths beyond the input, or beyond any.
    for len in [
        "1",
        "2",
        "5",
        "255",
        "65536",
        "2147483647",
        "2147483648",
        "4294967295",
        "4294967296",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551614",
        "18446744073709551615",
        "18446744073709551616",
        "99999999999999999999",
        "340282366920938463463374607431768211456",
    ] {
        add(format!("{len}:").as_bytes(), E::LengthRange { at: 0 });
        add(format!("l{len}:").as_bytes(), E::LengthRange { at: 1 });
        add(format!("d{len}:").as_bytes(), E::LengthRange { at: 1 });
        add(format!("d1:k{len}:").as_bytes(), E::LengthRange { at: 4 });
    }
    add(b"4:abc", E::LengthRange { at: 0 });
    add(b"l1:a2:be", E::Truncated);

    // Dictionaries.
    for (input, at) in [
        ("di1ei2ee", 1),
        ("dlei1ee", 1),
        ("ddei1ee", 1),
        ("d-1:ai1ee", 1),
        ("d:i1ee", 1),
        ("d1:ai1ei2ei3ee", 7),
        ("d1:ai1elee", 7),
        ("ld1:ai1edeeee", 8),
        ("d ", 1),
    ] {
        add(input.as_bytes(), E::KeyType { at });
    }
    for (input, at) in [
        ("d1:ae", 4),
        ("d1:ai1e1:be", 10),
        ("ld1:aee", 5),
        ("d1:ad1:bee", 8),
        ("d0:e", 3),
    ] {
        add(input.as_bytes(), E::MissingValue { at });
    }
    for (input, at) in [
        ("d1:ai1e1:ai2ee", 0),
        ("d0:i1e0:i2ee", 0),
        ("ld1:ai1e1:ai2eee", 1),
        ("d1:xd1:ai1e1:ai2eee", 4),
    ] {
        add(input.as_bytes(), E::DuplicateKey { at });
    }
    add(b"d1:al1:bed1:ce", E::KeyType { at: 9 });

    // One value too much.
    for (input, at) in [
        ("i1ei2e", 3),
        ("0:0:", 2),
        ("lele", 2),
        ("dede", 2),
        ("i1ee", 3),
        ("dee", 2),
        ("i1e\n", 3),
        ("4:spam\0", 6),
        ("d1:ai1ee ", 8),
    ] {
        add(input.as_bytes(), E::TrailingBytes { at });
    }
    rows
}

/// What a front part of the good value fails with: early end, or a string that leaves the input.
fn truncated(front: &[u8]) -> BencodeError {
    let Some(colon) = front.iter().rposition(|byte| *byte == b':') else {
        return E::Truncated;
    };
    let at = colon - 1;
    let len = usize::from(front[at] - b'0');
    if front.len() - colon - 1 < len {
        E::LengthRange { at }
    } else {
        E::Truncated
    }
}

#[test]
fn bad_input_is_refused_by_name_whatever_the_rules() {
    let rows = rows();
    assert!(rows.len() >= 200, "{} rows", rows.len());
    for (input, error) in rows {
        for rules in [Rules::NETWORK, Rules::METAINFO, Rules::SIGNED] {
            let got = decode(&input, &rules);
            assert_eq!(got, Err(error.clone()), "{}", input.escape_ascii());
        }
    }
}

#[test]
fn unsorted_keys_are_refused_only_where_form_is_canonical() {
    for (input, at) in [
        ("d1:bi1e1:ai2ee", 0),
        ("d2:aai1e1:ai2ee", 0),
        ("d1:ai1e0:i2ee", 0),
        ("d1:a0:1:B0:e", 0),
        ("ld1:bi1e1:ai2eee", 1),
        ("d1:xd1:bi1e1:ai2eee", 4),
        ("d1:\u{ff}0:1:a0:e", 0),
        ("d2:ab0:1:a0:e", 0),
    ] {
        // The one with a byte that isn't text.
        let input: Vec<u8> = input.chars().map(|c| c as u8).collect();
        assert_eq!(decode(&input, &Rules::SIGNED), Err(E::UnsortedKey { at }));
        assert!(lenient(&input).is_ok(), "{}", input.escape_ascii());
    }
}

#[test]
fn duplicate_keys_are_found_however_far_apart() {
    for input in [
        "d1:bi1e1:ai2e1:bi3ee",
        "d1:ai1e1:bi2e1:ai3ee",
        "d1:ci1e1:bi2e1:ai3e1:ci4ee",
    ] {
        assert_eq!(
            lenient(input.as_bytes()),
            Err(E::DuplicateKey { at: 0 }),
            "{input}"
        );
        // Canonical form already fails at the key that sorts before the last.
        let strict = decode(input.as_bytes(), &Rules::SIGNED);
        assert_eq!(strict, Err(E::UnsortedKey { at: 0 }), "{input}");
    }
}

#[test]
fn every_single_flipped_bit_gives_a_value_or_an_error() {
    let good = b"d1:ai-12e1:bl3:xyzd1:ci0eee4:long26:abcdefghijklmnopqrstuvwxyze";
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bad = good.to_vec();
            bad[at] ^= 1 << bit;
            for rules in [Rules::NETWORK, Rules::SIGNED] {
                if let Ok(value) = decode(&bad, &rules) {
                    let again = Item::from(&value).to_bytes();
                    assert_eq!(again.len(), bad.len());
                }
            }
        }
    }
}
