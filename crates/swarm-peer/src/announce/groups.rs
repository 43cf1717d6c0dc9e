//! Which trackers of a bundle are told of us, and who vouches for them.

use std::collections::BTreeSet;

use url::Url;

use crate::connector::Trust;
use crate::node::AddBundle;
use crate::report::shown_url;

/// Trackers announced to, of those that a stranger's torrent names.
const TRACKERS_MAX: usize = 16;

/// Trackers in tiers, each with whoever vouches for it.
pub(crate) type Tiers = Vec<Vec<(String, Trust)>>;

/// Lists of trackers, of each of which one is to hear of us: every tracker that the operator names
/// is a list of its own, so that each of them hears of us; the rest of what the torrent names is
/// one list (BEP 12). Over UDP only if `udp`.
pub(crate) fn groups(bundle: &AddBundle, udp: bool) -> Vec<Tiers> {
    let mut seen = BTreeSet::new();
    let mut take = |url: &String| {
        let new = seen.len() < TRACKERS_MAX && seen.insert(url.clone());
        if new && !is_supported(url, udp) {
            let tracker = shown_url(url);
            tracing::info!(tracker, "tracker skipped: not spoken here");
            return false;
        }
        new
    };
    let own = bundle.trackers.iter().filter(|url| take(url));
    let own = own.map(|url| vec![vec![(url.clone(), Trust::CommandLine)]]);
    let mut groups: Vec<Tiers> = own.collect();
    let named = bundle.source.tracker_tiers().into_iter().map(|tier| {
        let urls = tier.iter().filter(|url| take(url));
        urls.map(|url| (url.clone(), trust(bundle, url))).collect()
    });
    let named: Tiers = named.filter(|tier: &Vec<_>| !tier.is_empty()).collect();
    if !named.is_empty() {
        groups.push(named);
    }
    groups
}

/// A torrent that a stranger made may name a tracker inside our network, and asking it is a request
/// to an address of the stranger's choice. As libtorrent does, only the path `/announce` without a
/// query is asked there: harmless whoever listens.
fn trust(bundle: &AddBundle, url: &str) -> Trust {
    let harmless =
        Url::parse(url).is_ok_and(|url| url.path() == "/announce" && url.query().is_none());
    match (harmless, bundle.tracker_trust) {
        (false, _) | (_, Trust::Stranger) => bundle.trust,
        (true, trust) => trust,
    }
}

/// Whether this build can announce to the URL; over UDP only if `udp`.
fn is_supported(url: &str, udp: bool) -> bool {
    url.starts_with("http://") || url.starts_with("https://") || (udp && url.starts_with("udp://"))
}
