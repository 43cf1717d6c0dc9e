//! What stands around the info dictionary of a .torrent file: trackers, web seeds, piece layers.
//!
//! None of it is covered by an info hash, so whoever passes the file on can change it. URLs that we
//! could not use are left out rather than refused.

use std::collections::{BTreeMap, HashSet};

use url::Url;

use super::Metainfo;
use crate::bencode::{Dict, Item, List, Value};
use crate::limits;

/// Whether a URL can be a tracker's: `http`, `https`, `udp`, `ws` or `wss`, printable, bounded.
pub fn is_tracker_url(url: &str) -> bool {
    is_plain(url) && has_scheme(url, &["http://", "https://", "udp://", "ws://", "wss://"])
}

/// Whether a URL can be a web seed's: `http` or `https`, printable, bounded, without credentials:
/// those would be sent on, and end up in logs.
pub fn is_web_seed_url(url: &str) -> bool {
    let anonymous = |url: &str| {
        let parsed = Url::parse(url);
        parsed.is_ok_and(|url| url.username().is_empty() && url.password().is_none())
    };
    is_plain(url) && has_scheme(url, &["http://", "https://"]) && anonymous(url)
}

fn is_plain(url: &str) -> bool {
    url.len() <= limits::URL_LEN_MAX && !url.chars().any(|c| c.is_control() || c.is_whitespace())
}

/// A scheme of the list, any case, with something behind it.
fn has_scheme(url: &str, schemes: &[&str]) -> bool {
    schemes.iter().any(|scheme| {
        url.get(..scheme.len())
            .is_some_and(|front| front.eq_ignore_ascii_case(scheme))
            && url.len() > scheme.len()
    })
}

/// The first `max` different strings.
pub(super) fn bounded(urls: impl IntoIterator<Item = String>, max: usize) -> Vec<String> {
    let mut seen = HashSet::new();
    urls.into_iter()
        .filter(|url| seen.insert(url.clone()))
        .take(max)
        .collect()
}

/// Trackers in tiers (BEP 12), each URL once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Tiers {
    pub(super) urls: Vec<String>,
    /// Where each tier ends in `urls`; none is empty.
    pub(super) ends: Vec<usize>,
}

impl Tiers {
    /// Up to [`limits::TRACKERS_MAX`] different URLs; tiers that are left empty are left out.
    fn bounded<U>(tiers: impl IntoIterator<Item = U>) -> Self
    where
        U: IntoIterator<Item = String>,
    {
        let mut seen = HashSet::new();
        let (mut urls, mut ends) = (Vec::new(), Vec::new());
        for tier in tiers {
            let before = urls.len();
            let room = limits::TRACKERS_MAX.saturating_sub(before);
            let new = tier.into_iter().filter(|url| seen.insert(url.clone()));
            urls.extend(new.take(room));
            if urls.len() > before {
                ends.push(urls.len());
            }
        }
        Self { urls, ends }
    }

    /// Each URL a tier of its own: the first is asked, the others only if it fails.
    pub(super) fn in_turn(urls: impl IntoIterator<Item = String>) -> Self {
        Self::bounded(urls.into_iter().map(std::iter::once))
    }

    /// The tiers, first first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[String]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let ranges = starts.zip(&self.ends);
        ranges.filter_map(|(start, end)| self.urls.get(start..*end))
    }
}

/// `announce-list` (BEP 12), else `announce`, as BEP 12 has it.
pub(super) fn trackers(torrent: Dict<'_>) -> Tiers {
    let tiers = torrent
        .get(b"announce-list")
        .and_then(Value::as_list)
        .unwrap_or_default();
    let usable = |value: Value<'_>| {
        let url = value.as_str().map(str::trim);
        url.filter(|url| is_tracker_url(url)).map(str::to_owned)
    };
    let listed = Tiers::bounded(tiers.iter().map(|tier| {
        let urls = tier.as_list().unwrap_or_default();
        urls.iter().filter_map(usable)
    }));
    if !listed.urls.is_empty() {
        return listed;
    }
    Tiers::in_turn(torrent.get(b"announce").and_then(usable))
}

/// `url-list` (BEP 19): one string or a list of them.
pub(super) fn web_seeds(torrent: Dict<'_>) -> Vec<String> {
    let (one, several) = match torrent.get(b"url-list") {
        Some(Value::List(urls)) => (None, urls),
        one => (one, List::default()),
    };
    let urls = one
        .into_iter()
        .chain(several)
        .filter_map(Value::as_str)
        .map(str::trim)
        .filter(|url| is_web_seed_url(url));
    bounded(urls.map(str::to_owned), limits::WEB_SEEDS_MAX)
}

pub(super) fn write(meta: &Metainfo) -> Vec<u8> {
    // Not one `Item`: the info dictionary goes in as it is, whatever its form.
    let mut entries: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
    entries.insert("info", meta.raw_info.to_vec());
    let urls = |urls: &[String]| Item::list(urls.iter().map(Item::bytes));
    if let Some(first) = meta.trackers.urls.first() {
        entries.insert("announce", Item::bytes(first).to_bytes());
        if meta.trackers.urls.len() > 1 {
            let tiers = meta.trackers.iter().map(urls);
            entries.insert("announce-list", Item::list(tiers).to_bytes());
        }
    }
    if !meta.web_seeds.is_empty() {
        entries.insert("url-list", urls(&meta.web_seeds).to_bytes());
    }
    if meta.info_hash_v2.is_some() {
        let known = meta.layers.iter().filter_map(|(root, layer)| {
            layer
                .hashes
                .as_ref()
                .map(|hashes| (root, Item::bytes(hashes)))
        });
        entries.insert("piece layers", Item::dict(known).to_bytes());
    }

    let mut out = vec![b'd'];
    for (key, value) in entries {
        out.extend_from_slice(&Item::bytes(key).to_bytes());
        out.extend_from_slice(&value);
    }
    out.push(b'e');
    out
}
