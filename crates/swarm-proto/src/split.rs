//! Stable splitting: which files of a site share a bundle (spec 0003, 7).
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

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};

    use rand::rngs::SmallRng;
    use rand::{RngExt as _, SeedableRng as _};

    use super::*;

    type Site = BTreeMap<String, u64>;

    /// The bundles of a site as sets of paths with weights: two are equal when their content is.
    fn bundles(site: &Site, config: &SplitConfig) -> HashSet<Vec<(String, u64)>> {
        let items: Vec<SplitItem<'_>> = site
            .iter()
            .map(|(path, weight)| SplitItem {
                path,
                weight: *weight,
            })
            .collect();
        let split = split(&items, config);
        let mut seen = HashSet::new();
        for index in split.iter().flatten() {
            assert!(seen.insert(*index), "a file in two bundles");
        }
        assert_eq!(seen.len(), items.len(), "a file in no bundle");
        split
            .into_iter()
            .map(|bundle| {
                assert!(!bundle.is_empty());
                bundle
                    .into_iter()
                    .map(|index| (items[index].path.to_owned(), items[index].weight))
                    .collect()
            })
            .collect()
    }

    fn weight(rng: &mut SmallRng, config: &SplitConfig) -> u64 {
        match rng.random_range(0..23_u32) {
            0 => 0,
            20.. => rng.random_range(config.alone() / 2..=config.alone() * 4),
            // Around the weight from which a file stands alone.
            1 => config.alone() - 1 + rng.random_range(0..3_u64),
            2 => rng.random_range(config.alone()..=config.target * 2),
            3..10 => rng.random_range(1..=config.alone()),
            _ => rng.random_range(1..=config.alone() / 16 + 1),
        }
    }

    fn path(rng: &mut SmallRng, folders: u32) -> String {
        let mut path = String::new();
        for _ in 0..rng.random_range(0..4_u32) {
            path.push_str(&format!("/d{}", rng.random_range(0..folders)));
        }
        format!("{path}/f{}.html", rng.random_range(0..u32::MAX))
    }

    #[test]
    fn one_edit_changes_at_most_two_bundles() {
        let mut rng = SmallRng::seed_from_u64(2);
        let mut distribution: BTreeMap<(&str, usize), u32> = BTreeMap::new();
        let mut sites = 0;
        let mut edits = 0;
        while edits < 3000 {
            let config = SplitConfig {
                target: 1 << rng.random_range(10..26_u32),
            };
            let folders = [1, 3, 40][rng.random_range(0..3_usize)];
            let mut site = Site::new();
            for _ in 0..rng.random_range(100..300_u32) {
                site.insert(path(&mut rng, folders), weight(&mut rng, &config));
            }
            let mut before = bundles(&site, &config);
            if before.len() < 5 {
                continue;
            }
            sites += 1;
            for _ in 0..40 {
                let any = site.keys().nth(rng.random_range(0..site.len())).cloned();
                let any = any.expect("a site has files");
                let kind = match rng.random_range(0..3_u32) {
                    0 => {
                        site.insert(path(&mut rng, folders), weight(&mut rng, &config));
                        "added"
                    }
                    1 => {
                        site.remove(&any);
                        "removed"
                    }
                    _ => {
                        let changed = weight(&mut rng, &config);
                        site.insert(any, changed);
                        "changed"
                    }
                };
                let after = bundles(&site, &config);
                let new = after.difference(&before).count();
                assert!(new <= 2, "{new} new bundles of {} by one edit", after.len());
                *distribution.entry((kind, new)).or_default() += 1;
                before = after;
                edits += 1;
            }
        }
        println!("{edits} edits of {sites} sites with 5 bundles or more");
        for ((kind, new), count) in distribution {
            println!("one file {kind}: {new} bundles new {count} times");
        }
    }

    #[test]
    fn bundles_are_neither_dust_nor_mountains() {
        let mut rng = SmallRng::seed_from_u64(3);
        let config = SplitConfig::default();
        for folders in [1, 3, 40] {
            let site: Site = (0..20_000)
                .map(|_| (path(&mut rng, folders), rng.random_range(1..200_000)))
                .collect();
            let totals: Vec<u64> = bundles(&site, &config)
                .iter()
                .map(|bundle| bundle.iter().map(|(_, weight)| weight).sum())
                .collect();
            let mean = totals.iter().sum::<u64>() / totals.len() as u64;
            println!(
                "{folders} folders: {} bundles, mean {mean}, least {}, greatest {}",
                totals.len(),
                totals.iter().min().expect("some"),
                totals.iter().max().expect("some"),
            );
            assert!((config.target / 4..=config.target * 3 / 2).contains(&mean));
            assert!(totals.iter().all(|total| *total <= config.target * 2));
        }
    }

    #[test]
    fn the_order_of_items_does_not_matter() {
        let mut items: Vec<SplitItem<'_>> = ["/a", "/b/c", "/b/d", "/e/f/g", "/z"]
            .iter()
            .map(|path| SplitItem { path, weight: 60 })
            .collect();
        let config = SplitConfig { target: 1024 };
        let named = |items: &[SplitItem<'_>]| -> Vec<Vec<String>> {
            split(items, &config)
                .iter()
                .map(|bundle| bundle.iter().map(|at| items[*at].path.to_owned()).collect())
                .collect()
        };
        let forward = named(&items);
        items.reverse();
        assert_eq!(named(&items), forward);
        assert!(split(&[], &config).is_empty());
        let zero = SplitConfig { target: 0 };
        assert_eq!(split(&items, &zero).len(), items.len());
    }
}
