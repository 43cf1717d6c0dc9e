//! Runs fuzz bodies over a bounded corpus: known good inputs, each changed at random from a fixed
//! seed. Not a replacement for a fuzzer that sees coverage, but it runs with every test run.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

const VECTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../spec/vectors/metainfo/");

/// Pieces of grammar that random bytes would take long to find.
const TOKENS: [&[u8]; 20] = [
    b"e",
    b"d",
    b"l",
    b"i0e",
    b"i-1e",
    b"0:",
    b"1:a",
    b"de",
    b"le",
    b"99999999999:",
    b"4:infod",
    b"i9223372036854775807e",
    b"6:lengthi0e",
    b"4:attr1:p",
    b"12:meta versioni2e",
    b"%",
    b"&",
    b"xt=urn:btih:",
    b"..",
    b"i16384e",
];

/// Calls `target` with every input, then with `rounds` changed ones.
pub(crate) fn hammer(corpus: &[Vec<u8>], seed: u64, rounds: usize, target: impl Fn(&[u8])) {
    corpus.iter().for_each(|input| target(input));
    let mut rng = StdRng::seed_from_u64(seed);
    for _ in 0..rounds {
        let mut input = corpus[rng.random_range(0..corpus.len())].clone();
        for _ in 0..rng.random_range(1..=4) {
            mutate(&mut input, &mut rng, corpus);
        }
        target(&input);
    }
}

fn mutate(input: &mut Vec<u8>, rng: &mut StdRng, corpus: &[Vec<u8>]) {
    let at = rng.random_range(0..=input.len());
    let end = (at + rng.random_range(0..=16)).min(input.len());
    match rng.random_range(0..8) {
        0 => input.truncate(at),
        1 => drop(input.drain(at..end)),
        2 => {
            let copy = input[at..end].to_vec();
            input.splice(at..at, copy);
        }
        3 => {
            let token = TOKENS[rng.random_range(0..TOKENS.len())];
            input.splice(at..end, token.iter().copied());
        }
        4 => {
            let token = TOKENS[rng.random_range(0..TOKENS.len())];
            input.splice(at..at, token.iter().copied());
        }
        5 => {
            let other = &corpus[rng.random_range(0..corpus.len())];
            let from = rng.random_range(0..=other.len());
            input.splice(at.., other[from..].iter().copied());
        }
        _ => {
            if let Some(byte) = input.get_mut(at) {
                *byte = match rng.random_range(0..3) {
                    0 => *byte ^ (1 << rng.random_range(0..8)),
                    1 => byte.wrapping_add(1),
                    _ => rng.random(),
                };
            }
        }
    }
}

fn torrents() -> Vec<Vec<u8>> {
    let mut torrents: Vec<Vec<u8>> = std::fs::read_dir(VECTORS)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "torrent")
        })
        .map(|path| std::fs::read(path).unwrap())
        .collect();
    assert!(torrents.len() >= 16);
    torrents.sort();
    torrents
}

#[test]
fn bencode_survives_changed_input() {
    let mut corpus: Vec<Vec<u8>> = ["", "i1e", "le", "de", "d1:bi1e1:al0:dee1:cd1:xd1:ylei-5eee"]
        .iter()
        .map(|text| text.as_bytes().to_vec())
        .collect();
    hammer(&corpus, 1, 30_000, super::bencode);
    corpus = torrents();
    hammer(&corpus, 2, 500, super::bencode);
}

#[test]
fn metainfo_survives_changed_input() {
    let mut corpus = torrents();
    // Info dictionaries alone, as peers send them.
    for torrent in torrents() {
        let meta = crate::metainfo::Metainfo::parse(&torrent).unwrap();
        corpus.push(meta.raw_info().to_vec());
    }
    hammer(&corpus, 3, 6_000, super::metainfo);
}

#[test]
fn magnets_survive_changed_input() {
    let hash = "c12fe1c06bba254a9dc9f519b335aa7c1367a88a";
    let corpus = [
        format!("magnet:?xt=urn:btih:{hash}"),
        format!("magnet:?xt=urn:btmh:1220{hash}{}&dn=a%20b+c", &hash[..24]),
        format!("magnet:?xt=urn:btih:{hash}&tr=http%3A%2F%2Ft%2F&ws=http://w/&x.pe=[::1]:80&tr.1=udp://x:1"),
    ]
    .map(String::into_bytes);
    hammer(&corpus, 4, 30_000, super::magnet);
}

#[test]
fn hash_spans_survive_changed_input() {
    let corpus = [
        vec![12, 0, 4, 4, 2, 0, 3, 0],
        vec![33, 1, 0, 2, 5, 1, 0, 0],
        vec![0xff; 8],
    ];
    hammer(&corpus, 5, 30_000, super::hash_span);
}

#[test]
fn answers_of_web_seeds_survive_changed_input() {
    let corpus = [
        b"\x01\x0a\x0a\x50\x0abytes 10-19/100\nidentity".to_vec(),
        b"\x01\x00\x64\x00\x00bytes 0-99/*".to_vec(),
        b"\x00\x00\x64\x00\x64\ngzip".to_vec(),
    ];
    hammer(&corpus, 9, 60_000, super::web_answer);
}
