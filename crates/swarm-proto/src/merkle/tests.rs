use super::*;

/// `n` different hashes.
fn hashes(n: u32) -> Vec<Hash> {
    (0..n).map(|i| leaf(&i.to_be_bytes())).collect()
}

/// The tree by its definition: fill with zero leaves to a power of two, then pair up.
fn plain_root(leaves: &[Hash], width: usize) -> Hash {
    let mut level = leaves.to_vec();
    level.resize(width, [0; 32]);
    while level.len() > 1 {
        level = level
            .chunks(2)
            .map(|pair| parent(&pair[0], &pair[1]))
            .collect();
    }
    level[0]
}

#[test]
fn roots_equal_those_of_the_definition() {
    for n in 1..=40 {
        let leaves = hashes(n);
        let width = (n as usize).next_power_of_two();
        assert_eq!(
            root_of_leaves(&leaves),
            plain_root(&leaves, width),
            "{n} leaves"
        );
        assert_eq!(1 << height(n.into()), width);
        for level in 0..4 {
            let layer = piece_layer(&leaves, level);
            assert_eq!(layer.len(), (n as usize).div_ceil(1 << level));
            if layer.len() > 1 {
                assert_eq!(root_of_layer(&layer, level), plain_root(&leaves, width));
            }
        }
    }
}

#[test]
fn pad_hashes_are_roots_over_zero_leaves() {
    for level in 0..8 {
        assert_eq!(pad(level), plain_root(&[], 1 << level));
        assert_eq!(root_above(&[], 0, level), pad(level));
    }
}

#[test]
fn heights_are_binary_logarithms_rounded_up() {
    let cases = [
        (0, 0),
        (1, 0),
        (2, 1),
        (3, 2),
        (4, 2),
        (5, 3),
        (1 << 49, 49),
        (u64::MAX, 64),
    ];
    for (nodes, levels) in cases {
        assert_eq!(height(nodes), levels, "{nodes}");
    }
    assert_eq!(piece_level(16_384), 0);
    assert_eq!(piece_level(1 << 20), 6);
}

#[test]
fn every_proof_that_reaches_the_root_checks_and_no_altered_one_does() {
    for n in [1_u32, 2, 3, 5, 8, 13, 33] {
        let leaves = hashes(n);
        let tree_height = height(n.into());
        let root = root_of_leaves(&leaves);
        for base in 0..=tree_height {
            let layer = piece_layer(&leaves, base);
            let width = 1_u32 << (tree_height - base);
            let mut length = 2;
            while length <= width {
                for index in (0..width).step_by(length as usize) {
                    let proof_layers = HashSpan::proof_layers_to_root(base, tree_height);
                    let span = HashSpan {
                        base,
                        index,
                        length,
                        proof_layers,
                    };
                    let good = prove(&layer, tree_height, &span).unwrap();
                    assert!(check(&root, tree_height, &span, &good), "{n} {span:?}");
                    for at in 0..good.len() {
                        let mut bad = good.clone();
                        bad[at][31] ^= 1;
                        assert!(!check(&root, tree_height, &span, &bad), "{n} {span:?} {at}");
                    }
                    assert!(!check(&root, tree_height, &span, &good[1..]));
                    let mut long = good.clone();
                    long.push([0; 32]);
                    assert!(!check(&root, tree_height, &span, &long));
                }
                length *= 2;
            }
        }
    }
}

#[test]
fn spans_that_leave_the_tree_are_refused() {
    let good = HashSpan {
        base: 0,
        index: 4,
        length: 4,
        proof_layers: 3,
    };
    assert!(good.is_within(4));
    let bad = [
        (HashSpan { base: 5, ..good }, 4),
        (
            HashSpan {
                base: u32::MAX,
                ..good
            },
            4,
        ),
        (HashSpan { index: 2, ..good }, 4),
        (HashSpan { index: 16, ..good }, 4),
        (
            HashSpan {
                index: u32::MAX - 3,
                ..good
            },
            4,
        ),
        (HashSpan { length: 0, ..good }, 4),
        (HashSpan { length: 1, ..good }, 4),
        (HashSpan { length: 3, ..good }, 4),
        (
            HashSpan {
                index: 0,
                length: 32,
                ..good
            },
            4,
        ),
        (
            HashSpan {
                proof_layers: 4,
                ..good
            },
            4,
        ),
        (
            HashSpan {
                proof_layers: u32::MAX,
                ..good
            },
            4,
        ),
        (good, 1),
        (good, 64),
        (good, u32::MAX),
    ];
    for (span, tree_height) in bad {
        assert!(!span.is_within(tree_height), "{span:?} {tree_height}");
        assert_eq!(prove(&hashes(16), tree_height, &span), None);
        assert!(!check(&[0; 32], tree_height, &span, &hashes(8)));
    }
}

/// `spec/vectors/merkle`, made by the definition in another language.
#[test]
fn trees_and_answers_are_those_of_the_vectors() {
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../spec/vectors/merkle/merkle.json"
    );
    let cases: Vec<serde_json::Value> =
        serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let hash = |hex: &serde_json::Value| -> Hash {
        let bytes = data_encoding::HEXLOWER
            .decode(hex.as_str().unwrap().as_bytes())
            .unwrap();
        bytes.try_into().unwrap()
    };
    let number = |value: &serde_json::Value| u32::try_from(value.as_u64().unwrap()).unwrap();
    let mut answers = 0;
    for case in &cases {
        let leaves = hashes(number(&case["blocks"]));
        let root = hash(&case["root"]);
        let tree_height = number(&case["height"]);
        assert_eq!(height(leaves.len() as u64), tree_height);
        assert_eq!(root_of_leaves(&leaves), root);
        for layer in case["layers"].as_array().unwrap() {
            let level = piece_level(number(&layer["piece_length"]));
            let expected: Vec<Hash> = layer["layer"]
                .as_array()
                .unwrap()
                .iter()
                .map(hash)
                .collect();
            assert_eq!(piece_layer(&leaves, level), expected);
            assert_eq!(root_of_layer(&expected, level), root);
        }
        for answer in case["answers"].as_array().unwrap() {
            let span = HashSpan {
                base: number(&answer["base"]),
                index: number(&answer["index"]),
                length: number(&answer["length"]),
                proof_layers: number(&answer["proof_layers"]),
            };
            let expected: Vec<Hash> = answer["hashes"]
                .as_array()
                .unwrap()
                .iter()
                .map(hash)
                .collect();
            let layer = piece_layer(&leaves, span.base);
            assert_eq!(
                prove(&layer, tree_height, &span),
                Some(expected.clone()),
                "{span:?}"
            );
            let reaches = span.length + span.uncle_count() == expected.len() as u32
                && span.base + span.length.trailing_zeros() + span.uncle_count() == tree_height;
            assert_eq!(
                check(&root, tree_height, &span, &expected),
                reaches,
                "{span:?}"
            );
            answers += 1;
        }
    }
    assert!(answers > 100);
}
