//! Which bridge is looked at next, at which page, and what follows from what it showed (spec
//! 0006, 3.3; T57).
//!
//! An audit is a fetch such as a visitor makes, at a moment nobody can foresee, of a page that
//! visitors were sent to or of any other; its bytes are compared with the site's manifest.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::{Rng, RngExt as _};
use swarm_proto::id::{Digest, SwarmId};
use swarm_proto::manifest::{FileEntry, Lookup, SiteManifest, SiteName, SitePath};
use swarm_proto::tracker::BridgeView;

use super::volunteer::BridgeId;
use crate::config::VolunteerConfig;

/// Audits in a row that may fail before visitors are no longer sent there: one is a packet lost,
/// or a line that was full for a moment.
const MISSES_MAX: u8 = 2;
/// Time after an audit that failed in which the next one comes.
const SECOND_LOOK: Duration = Duration::from_secs(5);

/// One bridge to be looked at.
#[derive(Debug, Clone)]
pub struct Audit {
    pub(super) bridge: BridgeId,
    pub(super) domain: Option<String>,
    /// The site whose page is fetched.
    pub site: SiteName,
    /// Its manifest.
    pub manifest: Arc<SiteManifest>,
    /// Those of its bundles that the bridge says to hold.
    pub(super) bundles: Vec<SwarmId>,
    /// A page that a visitor was sent to of late.
    pub(super) visited: Option<SitePath>,
}

/// What was shown under a path: bytes, and what they were called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// SHA-256 of the body.
    pub digest: Digest,
    /// Media type without parameters, in lower case.
    pub media_type: String,
}

impl Shown {
    /// What a manifest says.
    pub fn of(file: &FileEntry) -> Self {
        Self {
            digest: file.digest,
            media_type: essence(&file.media_type),
        }
    }
}

/// A media type without its parameters, in lower case.
pub fn essence(media_type: &str) -> String {
    let front = media_type.split(';').next().unwrap_or_default();
    front.trim().to_ascii_lowercase()
}

/// What an audit found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// What the manifest says.
    Right,
    /// A whole answer of other bytes, or of another type, for this path.
    Wrong(SitePath, Shown),
    /// What no manifest can ever have said, such as a redirect to elsewhere.
    Forged(&'static str),
    /// An honest no: the visitor is sent home, or to try again later.
    Away,
    /// Nothing, or not all of it, in time.
    Silent,
    /// Nobody listens there any more.
    Shut,
    /// Nothing was asked: no file is short enough.
    Unasked,
}

/// What follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Passed,
    /// Once more, soon.
    Missed,
    /// No visitors until it has proven itself again.
    Unlisted,
    /// No visitors for long.
    Evicted,
}

impl Audit {
    /// Where the bridge is called.
    pub fn address(&self) -> SocketAddr {
        self.bridge.address
    }

    /// The URL that a visitor of the page would be sent to.
    pub fn url_for(&self, path: &SitePath) -> String {
        let view = BridgeView::new(self.bridge.address, self.domain.as_deref(), Vec::new());
        view.url_for(&self.site, path)
    }

    /// Chooses what to fetch: as often as not a page that visitors were sent to of late, else any
    /// file of the bundles, each equally likely; none longer than `len_max`, for a part of a file
    /// has no digest. `None`: there is no such file.
    pub fn pick(&self, len_max: u64, rng: &mut impl Rng) -> Option<(SitePath, &FileEntry)> {
        let manifest = &self.manifest;
        let held: Vec<bool> = manifest
            .bundles
            .iter()
            .map(|bundle| self.bundles.contains(&bundle.v1.swarm_id()))
            .collect();
        let fits = |file: &FileEntry| {
            let held = held.get(file.bundle as usize).copied().unwrap_or(false);
            held && (1..=len_max).contains(&file.length)
        };
        if let Some(path) = &self.visited
            && let Lookup::File(_, file) = manifest.lookup(path)
            && fits(file)
            && rng.random()
        {
            return Some((path.clone(), file));
        }
        let count = manifest.files.values().filter(|file| fits(file)).count();
        if count == 0 {
            return None;
        }
        let (path, file) = manifest
            .files
            .iter()
            .filter(|(_, file)| fits(file))
            .nth(rng.random_range(0..count))?;
        Some((path.clone(), file))
    }
}

/// When to look at which bridge.
#[derive(Debug, Default)]
pub(super) struct Audits {
    due: BTreeSet<(Duration, BridgeId)>,
    under_way: usize,
    /// When the bytes fetched so far are paid for, at the rate that audits may take.
    paid_at: Duration,
}

/// What is remembered of one bridge for its audits.
#[derive(Debug, Default)]
pub(super) struct Watch {
    due: Option<Duration>,
    under_way: bool,
    misses: u8,
    /// Visitors sent there since the last audit, and one of their pages, each equally likely.
    visits: u64,
    visited: Option<(SiteName, SitePath)>,
}

impl Watch {
    /// A page that a visitor was sent to of late.
    pub(super) fn visited(&self) -> Option<&(SiteName, SitePath)> {
        self.visited.as_ref()
    }

    /// Whether an audit is due some time, or under way.
    pub(super) fn is_planned(&self) -> bool {
        self.due.is_some() || self.under_way
    }

    /// Whether any visitor was sent there since the last audit.
    pub(super) fn is_visited(&self) -> bool {
        self.visits > 0
    }

    /// Counts an audit; says what follows.
    fn judge(&mut self, finding: &Finding) -> Verdict {
        match finding {
            Finding::Right => {
                self.misses = 0;
                Verdict::Passed
            }
            Finding::Unasked => Verdict::Passed,
            Finding::Wrong(..) | Finding::Forged(_) => Verdict::Evicted,
            Finding::Shut => Verdict::Unlisted,
            Finding::Away | Finding::Silent => {
                self.misses = self.misses.saturating_add(1);
                match self.misses >= MISSES_MAX {
                    true => Verdict::Unlisted,
                    false => Verdict::Missed,
                }
            }
        }
    }
}

impl Audits {
    /// Takes note that a visitor was sent to a page at this bridge, which is looked at within
    /// [`VolunteerConfig::audit_interval`] from now on.
    pub(super) fn visit(
        &mut self,
        now: Duration,
        config: &VolunteerConfig,
        id: BridgeId,
        watch: &mut Watch,
        page: (&SiteName, &SitePath),
        rng: &mut impl Rng,
    ) {
        watch.visits = watch.visits.saturating_add(1);
        if rng.random_range(0..watch.visits) == 0 {
            watch.visited = Some((page.0.clone(), page.1.clone()));
        }
        if watch.visits == 1 {
            self.hasten(now, config, id, watch, rng);
        }
    }

    /// Looks at the bridge within [`VolunteerConfig::audit_interval`].
    pub(super) fn hasten(
        &mut self,
        now: Duration,
        config: &VolunteerConfig,
        id: BridgeId,
        watch: &mut Watch,
        rng: &mut impl Rng,
    ) {
        let latest = now.saturating_add(config.audit_interval);
        if watch.due.is_some_and(|due| due > latest) {
            self.plan(now, config.audit_interval, id, watch, rng);
        }
    }

    /// Plans the next audit at any moment within `interval`.
    pub(super) fn plan(
        &mut self,
        now: Duration,
        interval: Duration,
        id: BridgeId,
        watch: &mut Watch,
        rng: &mut impl Rng,
    ) {
        self.drop(id, watch);
        let at = now.saturating_add(interval.mul_f64(rng.random_range(0.0..1.0)));
        watch.due = Some(at);
        self.due.insert((at, id));
    }

    /// Has the next audit no later than `latest`.
    pub(super) fn advance(&mut self, latest: Duration, id: BridgeId, watch: &mut Watch) {
        if watch.due.is_some_and(|due| due > latest) {
            self.drop(id, watch);
            watch.due = Some(latest);
            self.due.insert((latest, id));
        }
    }

    /// Plans none; returns when there was to be one.
    pub(super) fn drop(&mut self, id: BridgeId, watch: &mut Watch) -> Option<Duration> {
        let due = watch.due.take()?;
        self.due.remove(&(due, id));
        Some(due)
    }

    /// The bridge whose audit is due, as far as there is room and rate for one more.
    pub(super) fn next(&mut self, now: Duration, config: &VolunteerConfig) -> Option<BridgeId> {
        if self.under_way >= config.audits_max || self.paid_at > now {
            return None;
        }
        let (at, id) = self.due.first().copied().filter(|(at, _)| *at <= now)?;
        self.due.remove(&(at, id));
        Some(id)
    }

    /// The audit that [`next`](Self::next) named is made.
    pub(super) fn begin(&mut self, watch: &mut Watch) {
        watch.due = None;
        watch.under_way = true;
        watch.visits = 0;
        self.under_way += 1;
    }

    /// An audit has ended that took `bytes`. `watch` is what is still known of its bridge.
    pub(super) fn end(
        &mut self,
        now: Duration,
        config: &VolunteerConfig,
        bytes: u64,
        watch: Option<&mut Watch>,
        finding: &Finding,
    ) -> Verdict {
        self.under_way = self.under_way.saturating_sub(1);
        let seconds = bytes as f64 / config.audit_rate.max(1) as f64;
        let takes = Duration::try_from_secs_f64(seconds).unwrap_or_default();
        self.paid_at = self.paid_at.max(now).saturating_add(takes);
        // A bridge that has left meanwhile has missed nothing; a lie is one all the same.
        let lie = matches!(finding, Finding::Wrong(..) | Finding::Forged(_));
        let watch = watch.and_then(|watch| {
            let audited = std::mem::take(&mut watch.under_way);
            audited.then_some(watch)
        });
        match watch {
            _ if lie => Verdict::Evicted,
            Some(watch) => watch.judge(finding),
            None => Verdict::Passed,
        }
    }

    /// Time within which the bridge is looked at after this.
    pub(super) fn interval(config: &VolunteerConfig, verdict: Verdict, in_use: bool) -> Duration {
        match (verdict, in_use) {
            (Verdict::Missed, _) => SECOND_LOOK,
            (_, true) => config.audit_interval,
            (_, false) => config.audit_idle_interval,
        }
    }
}

#[cfg(test)]
mod tests;
