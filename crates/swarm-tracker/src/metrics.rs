//! Counters, named once. No info hash, site or address is ever a label.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::registry::Totals;

/// What has happened since the start.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) announces: Counter,
    pub(crate) announces_refused: Counter,
    pub(crate) scrapes: Counter,
    pub(crate) over_rate: Counter,
    pub(crate) udp_connects: Counter,
    pub(crate) udp_forged: Counter,
    pub(crate) udp_malformed: Counter,
    pub(crate) redirects_bridge: Counter,
    pub(crate) redirects_home: Counter,
    pub(crate) redirects_nowhere: Counter,
    pub(crate) redirects_looped: Counter,
    pub(crate) redirects_refused: Counter,
    pub(crate) lookups_found: Counter,
    pub(crate) lookups_missing: Counter,
    pub(crate) alarms: Counter,
    pub(crate) alarms_refused: Counter,
    pub(crate) records: Counter,
    pub(crate) records_refused: Counter,
    pub(crate) connections: Counter,
    pub(crate) connections_refused: Counter,
    pub(crate) proxies_refused: Counter,
}

/// A number that only rises.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Metrics {
    /// The Prometheus text format.
    pub(crate) fn render(&self, totals: &Totals) -> String {
        let counters = [
            (
                "announces",
                "Announces answered with peers",
                &self.announces,
            ),
            (
                "announces_refused",
                "Announces answered with a failure reason",
                &self.announces_refused,
            ),
            ("scrapes", "Scrapes answered", &self.scrapes),
            (
                "over_rate",
                "Announces, scrapes, visitors and lookups refused, too many from there",
                &self.over_rate,
            ),
            (
                "udp_connects",
                "Connection tokens given, and packets refused with a word",
                &self.udp_connects,
            ),
            (
                "udp_forged",
                "Packets without a token of theirs, not answered",
                &self.udp_forged,
            ),
            (
                "udp_malformed",
                "Packets of no tracker protocol, not answered",
                &self.udp_malformed,
            ),
            (
                "redirects_bridge",
                "Visitors sent to a bridge",
                &self.redirects_bridge,
            ),
            (
                "redirects_home",
                "Visitors sent to the site itself",
                &self.redirects_home,
            ),
            (
                "redirects_nowhere",
                "Visitors of a site's own name whom nobody could serve",
                &self.redirects_nowhere,
            ),
            (
                "redirects_looped",
                "Visitors whom a site's home sent back here",
                &self.redirects_looped,
            ),
            (
                "redirects_refused",
                "Visitors of unknown sites or impossible paths",
                &self.redirects_refused,
            ),
            (
                "lookups_found",
                "Lookups of pages that the swarm has",
                &self.lookups_found,
            ),
            (
                "lookups_missing",
                "Lookups of anything else",
                &self.lookups_missing,
            ),
            ("alarms", "Alarms taken", &self.alarms),
            ("alarms_refused", "Alarms refused", &self.alarms_refused),
            ("records", "Site records taken", &self.records),
            (
                "records_refused",
                "Site records refused",
                &self.records_refused,
            ),
            ("connections", "Connections accepted", &self.connections),
            (
                "connections_refused",
                "Connections closed at once, too many from there",
                &self.connections_refused,
            ),
            (
                "proxies_refused",
                "Requests of a proxy that does not say who asks",
                &self.proxies_refused,
            ),
        ];
        let gauges = [
            ("swarms", "Swarms known", totals.swarms),
            ("peers", "Peers in all swarms", totals.peers),
            ("bundles", "Bundles registered", totals.bundles),
            ("sites", "Sites whose root key is pinned", totals.sites),
            ("sites_in_need", "Sites whose alarm stands", totals.alarms),
            ("bridges", "Bridges of volunteers", totals.bridges),
        ];
        let mut text = String::with_capacity(2048);
        let mut put = |name: &str, suffix: &str, kind: &str, help: &str, value: u64| {
            // Writing to a String does not fail.
            let _ = write!(
                text,
                "# HELP swarm_tracker_{name}{suffix} {help}.\n# TYPE swarm_tracker_{name}{suffix} {kind}\nswarm_tracker_{name}{suffix} {value}\n"
            );
        };
        for (name, help, counter) in counters {
            put(name, "_total", "counter", help, counter.get());
        }
        for (name, help, value) in gauges {
            put(name, "", "gauge", help, value as u64);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_is_rendered_once() {
        let metrics = Metrics::default();
        metrics.announces.add();
        metrics.announces.add();
        let text = metrics.render(&Totals {
            peers: 7,
            ..Totals::default()
        });
        assert!(text.contains("\nswarm_tracker_announces_total 2\n"));
        assert!(text.contains("\nswarm_tracker_peers 7\n"));
        assert_eq!(text.matches("# TYPE").count(), 27);
    }
}
