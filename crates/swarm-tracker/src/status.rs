//! How the tracker stands: what the status page and `GET /api/v1/status` show (spec 0005, 2.9).
//!
//! Counts, rates and names of sites; never an address or an info hash.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

use crate::acme::CertificateStatus;
use crate::app::App;
use crate::history::{STEP, rate};

/// How long one view of the figures does for all who ask: to make it takes the registry's lock.
const FRESH_FOR: Duration = Duration::from_secs(1);

/// Sites that are shown.
const SITES_MAX: usize = 100;

/// One view of the figures.
#[derive(Debug, Serialize)]
pub(crate) struct Status {
    pub(crate) version: &'static str,
    /// Seconds since 1970, as all times here.
    pub(crate) started: u64,
    pub(crate) now: u64,
    pub(crate) open: bool,
    pub(crate) ready: bool,
    /// By which sites name this operator in DNS.
    pub(crate) operator: Option<String>,
    pub(crate) store: &'static str,
    pub(crate) totals: Totals,
    pub(crate) rates: Rates,
    pub(crate) counters: BTreeMap<&'static str, u64>,
    pub(crate) sites: Vec<SiteStatus>,
    pub(crate) sites_left_off: usize,
    pub(crate) certificates: Vec<CertificateStatus>,
    pub(crate) certificates_left_off: usize,
    pub(crate) history: HistoryView,
}

/// What there is now.
#[derive(Debug, Serialize)]
pub(crate) struct Totals {
    pub(crate) sites: usize,
    pub(crate) sites_in_need: usize,
    pub(crate) sites_carried: usize,
    pub(crate) bundles: usize,
    pub(crate) bridges: usize,
    pub(crate) swarms: usize,
    pub(crate) peers: usize,
    pub(crate) connections: u64,
}

/// A second, over the last 5 to 15 s.
#[derive(Debug, Serialize)]
pub(crate) struct Rates {
    pub(crate) announces: f64,
    pub(crate) redirects: f64,
}

/// One site.
#[derive(Debug, Serialize)]
pub(crate) struct SiteStatus {
    pub(crate) site: String,
    pub(crate) in_need_until: Option<u64>,
    pub(crate) sequence: Option<u64>,
    pub(crate) bundles: usize,
    pub(crate) files: usize,
    pub(crate) bridges: usize,
    pub(crate) sent: u64,
}

/// The last hour, the oldest first; all lists are of one length.
#[derive(Debug, Serialize)]
pub(crate) struct HistoryView {
    pub(crate) step_seconds: u64,
    /// When the last figures were taken.
    pub(crate) until: u64,
    pub(crate) bridges: Vec<usize>,
    pub(crate) peers: Vec<usize>,
    /// A second.
    pub(crate) announces: Vec<f64>,
    /// A second.
    pub(crate) redirects: Vec<f64>,
}

/// The newest view.
#[derive(Debug, Default)]
pub(crate) struct StatusCache(Mutex<Option<(Duration, Arc<Status>)>>);

impl App {
    /// The figures, no older than a second.
    pub(crate) fn status(&self) -> Arc<Status> {
        let mut shown = self.shown.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.now().elapsed;
        match &*shown {
            Some((at, status)) if now.saturating_sub(*at) < FRESH_FOR => Arc::clone(status),
            _ => {
                let status = Arc::new(self.view());
                *shown = Some((now, Arc::clone(&status)));
                status
            }
        }
    }

    fn view(&self) -> Status {
        let now = self.now();
        let (totals, (sites, sites_left_off)) = {
            let registry = self.registry();
            (registry.totals(), registry.overview(SITES_MAX))
        };
        let sites = sites.into_iter().map(|site| SiteStatus {
            site: site.site.to_string(),
            in_need_until: site.in_need_until,
            sequence: site.sequence,
            bundles: site.bundles,
            files: site.files,
            bridges: site.bridges,
            sent: site.sent,
        });
        let certificates = self.certificates.as_ref().map(|held| held.status());
        let (certificates, certificates_left_off) = certificates.unwrap_or_default();
        let redirects = self.redirects();
        let history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        let rates = history.before(now.elapsed).map(|before| {
            let time = now.elapsed.saturating_sub(before.at);
            let announces = self
                .metrics
                .announces
                .get()
                .saturating_sub(before.announces);
            let redirects = redirects.saturating_sub(before.redirects);
            (rate(announces, time), rate(redirects, time))
        });
        let (announces, redirects) = rates.unwrap_or_default();
        let last = history.samples().next_back();
        let age = last.map_or(Duration::ZERO, |last| now.elapsed.saturating_sub(last.at));
        let operator = self.operator.get();
        Status {
            version: env!("CARGO_PKG_VERSION"),
            started: self.started_unix,
            now: now.unix,
            open: self.open,
            ready: self.unready().is_none(),
            operator: operator.map(|operator| operator.public_key().to_string()),
            store: self.store.word(),
            totals: Totals {
                sites: totals.sites,
                sites_in_need: totals.alarms,
                sites_carried: self.carried(),
                bundles: totals.bundles,
                bridges: totals.bridges,
                swarms: totals.swarms,
                peers: totals.peers,
                connections: self.metrics.connections_open(),
            },
            rates: Rates {
                announces,
                redirects,
            },
            counters: self.metrics.by_name(),
            sites: sites.collect(),
            sites_left_off,
            certificates,
            certificates_left_off,
            history: HistoryView {
                step_seconds: STEP.as_secs(),
                until: now.unix.saturating_sub(age.as_secs()),
                bridges: history.samples().skip(1).map(|s| s.bridges).collect(),
                peers: history.samples().skip(1).map(|s| s.peers).collect(),
                announces: history.rates(|sample| sample.announces),
                redirects: history.rates(|sample| sample.redirects),
            },
        }
    }
}
