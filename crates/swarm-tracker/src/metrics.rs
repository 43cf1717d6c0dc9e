//! Counters, named once. No info hash, site or address is ever a label.

use std::collections::BTreeMap;
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
    pub(crate) calls: Counter,
    pub(crate) calls_unproven: Counter,
    pub(crate) audits: Counter,
    pub(crate) audits_missed: Counter,
    pub(crate) evictions: Counter,
    pub(crate) alarms: Counter,
    pub(crate) alarms_refused: Counter,
    pub(crate) records: Counter,
    pub(crate) records_refused: Counter,
    pub(crate) consents_asked: Counter,
    pub(crate) consents_over_rate: Counter,
    pub(crate) connections: Counter,
    pub(crate) connections_refused: Counter,
    /// Of those accepted.
    pub(crate) connections_ended: Counter,
    pub(crate) proxies_refused: Counter,
    pub(crate) offers: Counter,
    pub(crate) answers: Counter,
    pub(crate) ws_malformed: Counter,
    pub(crate) ws_overflows: Counter,
    pub(crate) certificate_orders: Counter,
    pub(crate) certificate_failures: Counter,
    pub(crate) store_written: Counter,
    pub(crate) store_read: Counter,
    pub(crate) store_dropped: Counter,
    pub(crate) store_refused: Counter,
    pub(crate) store_lost: Counter,
}

/// A number that only rises.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn add_many(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A figure of [`Metrics`]: its name, what it counts, and the counter.
type Named<'m> = (&'static str, &'static str, &'m Counter);

impl Metrics {
    /// All counters, in the order in which they are shown.
    fn counters(&self) -> [Named<'_>; 39] {
        [
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
            ("bridge_calls", "Bridges asked for proof", &self.calls),
            (
                "bridge_calls_unproven",
                "Bridges asked for proof that gave none",
                &self.calls_unproven,
            ),
            ("audits", "Audits of bridges ended", &self.audits),
            (
                "audits_missed",
                "Audits to which a bridge had nothing to show",
                &self.audits_missed,
            ),
            (
                "evictions",
                "Bridges evicted for what they showed",
                &self.evictions,
            ),
            ("alarms", "Alarms taken", &self.alarms),
            ("alarms_refused", "Alarms refused", &self.alarms_refused),
            ("records", "Site records taken", &self.records),
            (
                "records_refused",
                "Site records refused",
                &self.records_refused,
            ),
            (
                "consents_asked",
                "Sites whose consent was looked up in DNS",
                &self.consents_asked,
            ),
            (
                "consents_over_rate",
                "Sites whose consent was not looked up, for too many were",
                &self.consents_over_rate,
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
            ("offers", "Offers passed on over WebSocket", &self.offers),
            ("answers", "Answers passed on over WebSocket", &self.answers),
            (
                "ws_malformed",
                "WebSocket messages that were no request",
                &self.ws_malformed,
            ),
            (
                "ws_overflows",
                "WebSockets closed, too slow a reader",
                &self.ws_overflows,
            ),
            (
                "certificate_orders",
                "Certificates asked for",
                &self.certificate_orders,
            ),
            (
                "certificate_failures",
                "Certificates asked for in vain",
                &self.certificate_failures,
            ),
            (
                "store_written",
                "Changes written to the shared store",
                &self.store_written,
            ),
            (
                "store_read",
                "Changes of other trackers read from the shared store",
                &self.store_read,
            ),
            (
                "store_dropped",
                "Changes that the shared store was too slow for",
                &self.store_dropped,
            ),
            (
                "store_refused",
                "Entries of the shared store that nobody of ours has written",
                &self.store_refused,
            ),
            (
                "store_lost",
                "Times that the shared store was lost",
                &self.store_lost,
            ),
        ]
    }

    /// All counters by name.
    pub(crate) fn by_name(&self) -> BTreeMap<&'static str, u64> {
        let counters = self.counters();
        counters
            .iter()
            .map(|(name, _, counter)| (*name, counter.get()))
            .collect()
    }

    /// Connections that are open now.
    pub(crate) fn connections_open(&self) -> u64 {
        let ended = self.connections_ended.get();
        self.connections.get().saturating_sub(ended)
    }

    /// The Prometheus text format. `started`: seconds since 1970. `certificates`: how many the tracker
    /// got itself and holds, and when the first of them ends.
    pub(crate) fn render(
        &self,
        totals: &Totals,
        carried: usize,
        started: u64,
        certificates: (usize, Option<u64>),
    ) -> String {
        let gauges = [
            ("swarms", "Swarms known", totals.swarms as u64),
            ("peers", "Peers in all swarms", totals.peers as u64),
            ("web_peers", "Peers on WebSockets", totals.web_peers as u64),
            ("bundles", "Bundles registered", totals.bundles as u64),
            (
                "sites",
                "Sites whose root key is pinned",
                totals.sites as u64,
            ),
            (
                "sites_in_need",
                "Sites whose alarm stands",
                totals.alarms as u64,
            ),
            (
                "sites_carried",
                "Sites that install nothing and are carried",
                carried as u64,
            ),
            (
                "bridges",
                "Bridges that visitors are sent to",
                totals.bridges as u64,
            ),
            (
                "connections_open",
                "Connections that are open",
                self.connections_open(),
            ),
            (
                "certificates",
                "Certificates that the tracker got itself and holds",
                certificates.0 as u64,
            ),
        ];
        let mut text = String::with_capacity(4096);
        // Writing to a String does not fail.
        let _ = write!(
            text,
            "# HELP swarm_tracker_build_info Version of this program.\n\
             # TYPE swarm_tracker_build_info gauge\n\
             swarm_tracker_build_info{{version=\"{}\"}} 1\n",
            env!("CARGO_PKG_VERSION")
        );
        let mut put = |name: &str, kind: &str, help: &str, value: u64| {
            let _ = write!(
                text,
                "# HELP {name} {help}.\n# TYPE {name} {kind}\n{name} {value}\n"
            );
        };
        for (name, help, counter) in self.counters() {
            let name = format!("swarm_tracker_{name}_total");
            put(&name, "counter", help, counter.get());
        }
        for (name, help, value) in gauges {
            put(&format!("swarm_tracker_{name}"), "gauge", help, value);
        }
        // Those of the process have the names that every Prometheus client library gives them.
        for (name, help, value) in [
            (
                "swarm_tracker_certificates_end_seconds",
                "When the first of these certificates ends, seconds since 1970",
                certificates.1,
            ),
            (
                "process_start_time_seconds",
                "Start of this process, seconds since 1970",
                Some(started),
            ),
            (
                "process_resident_memory_bytes",
                "Memory of this process in use",
                resident_memory(),
            ),
            (
                "process_open_fds",
                "Descriptors that this process has open",
                open_descriptors(),
            ),
        ] {
            if let Some(value) = value {
                put(name, "gauge", help, value);
            }
        }
        text
    }
}

/// `None` where there is no `/proc`.
fn resident_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// `None` where there is no `/proc`.
fn open_descriptors() -> Option<u64> {
    // The one that reads the directory is among them.
    let count = std::fs::read_dir("/proc/self/fd").ok()?.count();
    Some(count.saturating_sub(1) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_is_rendered_once() {
        let metrics = Metrics::default();
        metrics.announces.add();
        metrics.announces.add();
        let totals = Totals {
            peers: 7,
            ..Totals::default()
        };
        let text = metrics.render(&totals, 3, 1_000, (2, Some(2_000)));
        assert!(text.contains("\nswarm_tracker_announces_total 2\n"));
        assert!(text.contains("\nswarm_tracker_peers 7\n"));
        assert!(text.contains("\nprocess_start_time_seconds 1000\n"));
        let names: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE "))
            .collect();
        assert_eq!(names.len(), 1 + 39 + 10 + 4);
        for name in &names {
            let name = name.split(' ').next().unwrap_or_default();
            let value = |line: &&str| {
                line.strip_prefix(name)
                    .is_some_and(|rest| rest.starts_with([' ', '{']))
            };
            assert_eq!(text.lines().filter(value).count(), 1, "{name}");
        }
    }

    #[test]
    fn what_is_said_of_the_process_is_so() {
        let held = vec![1_u8; 64 << 20];
        let with = resident_memory().expect("Linux");
        assert!(with > 64 << 20, "{with}");
        drop(std::hint::black_box(held));
        let before = open_descriptors().expect("Linux");
        let files: Vec<_> = (0..50)
            .map(|_| std::fs::File::open("/proc/self/stat"))
            .collect();
        let after = open_descriptors().expect("Linux");
        assert!(after >= before + 40, "{before} {after}");
        assert_eq!(files.len(), 50);
    }
}
