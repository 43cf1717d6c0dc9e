//! Who has what, who is in need, where to send a visitor: every decision of the tracker.
//!
//! Pure: time is an argument ([`Moment`]), chance comes from a seed, nothing here blocks. The
//! listeners hold it behind one lock and check signatures before they take that lock.

mod again;
mod age;
mod announce;
mod audit;
mod blocks;
mod bundles;
mod calls;
mod eviction;
mod lookup;
mod moment;
mod network;
mod pools;
mod proof;
pub(crate) mod shared;
mod sites;
mod swarm;
mod swarms;
mod volunteer;
mod ws;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use swarm_proto::id::SwarmId;
use swarm_proto::limits::SITES_PER_REPLY_MAX;
use swarm_proto::manifest::{KeySet, PublicKey, SiteManifest, SiteName, SitePath, SiteTrust};
use swarm_proto::tracker::{BridgeView, SiteInNeed, SitesReply};

use crate::config::{AnnounceConfig, VolunteerConfig};
use again::Visits;
use age::AgeClock;
use announce::Families;
pub use announce::{AnnounceRefused, Via};
pub use audit::{Audit, Finding, Shown, Verdict, essence};
pub use bundles::BundleTaken;
use bundles::{Bundles, Pair};
pub use lookup::{Found, NotHeld, SiteOverview};
use lookup::{page, runs};
pub use moment::Moment;
pub use proof::{Answer, NoAnswer};
use shared::Outbox;
pub use sites::{AlarmSuperseded, CheckedAlarm, CheckedRecord, check_alarm, check_record};
use sites::{Site, Sites};
use swarms::Swarms;
pub use volunteer::ALTERNATIVES_MAX;
pub(crate) use volunteer::is_blocked_port;
use volunteer::{Chosen, VolunteerBook};
use ws::WebPeers;
pub use ws::{PassAnswer, PassOffer, SocketId};

/// How long the bundles of a replaced manifest stay in the tracker: visitors and volunteers
/// that hold the old one finish with it.
const RETIRED_FOR: Duration = Duration::from_secs(3600);

/// What the registry is told at its start.
#[derive(Debug, Clone)]
pub struct RegistryConfig {
    /// Whether any info hash may be announced, not only those of registered manifests.
    pub open: bool,
    /// Intervals, ages, bounds.
    pub announce: AnnounceConfig,
    /// How bridges are proven and audited.
    pub volunteers: VolunteerConfig,
    /// Domains that a volunteer from elsewhere may name for its bridge, with those below them.
    pub bridge_domains: Vec<String>,
    /// Seed of all choices by chance.
    pub seed: u64,
}

/// Where a visitor is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// To a bridge.
    Bridge {
        /// This one.
        bridge: BridgeView,
        /// Others that would do as well, should it fail; at most [`ALTERNATIVES_MAX`].
        others: Vec<BridgeView>,
        /// Path of the site to ask them for.
        path: SitePath,
    },
    /// To the site itself. The URL it gave for itself, where it gave one.
    Home(Option<String>),
    /// The site has never registered a manifest.
    NoManifest,
    /// The tracker knows nothing of this site.
    UnknownSite,
}

/// Figures for the status page and for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Swarms with a peer, or registered.
    pub swarms: usize,
    /// Peers in all swarms.
    pub peers: usize,
    /// Those of them that speak WebSocket.
    pub web_peers: usize,
    /// Bundles of registered manifests.
    pub bundles: usize,
    /// Sites whose root is pinned.
    pub sites: usize,
    /// Sites whose alarm stands.
    pub alarms: usize,
    /// Bridges of volunteers that are proven and trusted.
    pub bridges: usize,
}

/// All that the tracker knows.
#[derive(Debug)]
pub struct Registry {
    config: RegistryConfig,
    swarms: Swarms,
    ages: AgeClock,
    /// In all swarms together, but for those of `web`.
    peers: usize,
    /// A swarm that has any of these is in `swarms`, too.
    web: WebPeers,
    bundles: Bundles,
    sites: Sites,
    volunteers: VolunteerBook,
    visits: Visits,
    /// Of the list of sites in need.
    version: u64,
    rng: SmallRng,
    /// For other trackers.
    outbox: Outbox,
}

impl Registry {
    /// An empty registry.
    pub fn new(config: RegistryConfig, now: Moment) -> Self {
        let ages = config.announce.peer_age.max(config.announce.bridge_age);
        let mut rng = SmallRng::seed_from_u64(config.seed);
        Self {
            visits: Visits::new((rng.random(), rng.random())),
            rng,
            volunteers: VolunteerBook::new(config.volunteers.clone()),
            config,
            swarms: Swarms::default(),
            ages: AgeClock::new(ages),
            peers: 0,
            web: WebPeers::default(),
            bundles: Bundles::default(),
            sites: Sites::default(),
            // So that a list learnt before a restart is not taken for the present one.
            version: now.unix.saturating_mul(1000),
            outbox: Outbox::default(),
        }
    }

    /// Makes a site known. With another root than before, all that rested on the old one goes.
    pub fn pin(&mut self, now: Moment, site: SiteName, root: PublicKey) {
        match self.sites.get(&site) {
            Some(known) if known.root == root => {}
            _ => {
                if let Some(old) = self.sites.insert(site, Site::new(root)) {
                    let pairs = old.into_pairs();
                    self.release(now, &pairs);
                    self.version += 1;
                }
            }
        }
    }

    /// Bundles of a site's older manifests are tracked no longer: nobody is to finish with them.
    pub fn end_retired(&mut self, now: Moment, site: &SiteName) {
        let site = self.sites.get_mut(site);
        let over = site.map_or_else(Vec::new, |site| site.take_retired(Duration::MAX));
        self.release(now, &over);
    }

    /// Forgets a site whose operator we are no longer; what was known of it is returned.
    pub fn withdraw(
        &mut self,
        now: Moment,
        site: &SiteName,
    ) -> Option<(PublicKey, Option<SiteTrust>)> {
        let old = self.sites.remove(site)?;
        self.version += 1;
        let known = (old.root, old.trust.clone());
        let pairs = old.into_pairs();
        self.release(now, &pairs);
        Some(known)
    }

    /// What a record of this site is to be checked against; `None`: the site is not known here.
    pub fn anchor(&self, site: &SiteName) -> Option<(PublicKey, Option<SiteTrust>)> {
        let site = self.sites.get(site)?;
        Some((site.root, site.trust.clone()))
    }

    /// Remembers what is known of a site whose record has expired meanwhile.
    pub fn remember(&mut self, site: &SiteName, trust: SiteTrust) {
        if let Some(site) = self.sites.get_mut(site) {
            site.trust = Some(trust);
        }
    }

    /// Whether the bundles of a record are free for its site.
    ///
    /// # Errors
    /// [`BundleTaken`], as [`install`](Self::install) would find.
    pub fn check_bundles(&self, checked: &CheckedRecord) -> Result<(), BundleTaken> {
        let pairs: Vec<Pair> = checked.manifest.bundles.iter().map(Pair::of).collect();
        self.bundles.check(&pairs)
    }

    /// Puts a checked record in force.
    ///
    /// # Errors
    /// [`BundleTaken`]; the old record stays then.
    pub fn install(&mut self, now: Moment, checked: CheckedRecord) -> Result<(), BundleTaken> {
        let name = checked.manifest.site.clone();
        let pairs: Vec<Pair> = checked.manifest.bundles.iter().map(Pair::of).collect();
        self.bundles.claim(&pairs)?;
        for pair in &pairs {
            self.join(*pair);
        }
        let site = self
            .sites
            .entry(name)
            .or_insert_with(|| Site::new(checked.root));
        let in_need = site.standing_alarm().is_some();
        let retire_at = now.elapsed.saturating_add(RETIRED_FOR);
        let over = site.install(checked, pairs, retire_at);
        self.release(now, &over);
        self.version += u64::from(in_need);
        Ok(())
    }

    /// Makes one swarm of what an open tracker has kept as two.
    fn join(&mut self, pair: Pair) {
        for id in [Some(pair.other), pair.alias].into_iter().flatten() {
            self.web.rename(id, pair.id);
            self.peers -= self.swarms.join(pair.id, &id);
        }
    }

    fn release(&mut self, now: Moment, pairs: &[Pair]) {
        for pair in self.bundles.release(now.tick(), pairs.iter()) {
            self.volunteers.forget(pair.id);
            if !self.config.open {
                self.web.forget(pair.id);
                self.peers -= self.swarms.remove(&pair.id);
            }
            self.drop_if_idle(pair.id);
        }
    }

    fn drop_if_idle(&mut self, id: SwarmId) {
        let idle = self.swarms.is_idle(&id) && !self.web.has(&id);
        if idle && self.bundles.canonical(&id).is_none() {
            self.swarms.remove(&id);
        }
    }

    /// The record of a site as it was registered.
    pub fn record(&self, site: &SiteName) -> Option<Bytes> {
        let record = self.sites.get(site)?.record.as_ref()?;
        Some(record.bytes.clone())
    }

    /// The manifest of a site's record.
    pub fn manifest(&self, site: &SiteName) -> Option<Arc<SiteManifest>> {
        let record = self.sites.get(site)?.record.as_ref()?;
        Some(record.manifest.clone())
    }

    /// What alarms of a site are to be checked against: keys that came with a record.
    pub fn keys(&self, site: &SiteName) -> Option<KeySet> {
        let trust = self.sites.get(site)?.trust.as_ref()?;
        Some(trust.keys().clone())
    }

    /// Takes a checked alarm; `Ok(true)` where the list of sites in need has changed.
    ///
    /// # Errors
    /// [`AlarmSuperseded`]: it is older than what is known.
    pub fn take_alarm(
        &mut self,
        now: Moment,
        checked: CheckedAlarm,
    ) -> Result<bool, AlarmSuperseded> {
        let Some(site) = self.sites.get_mut(&checked.alarm.site) else {
            return Ok(false);
        };
        let changed = site.take_alarm(now, checked)?;
        let swarms: Vec<SwarmId> = match (&site.record, site.standing_alarm()) {
            (Some(record), Some(_)) if changed => record.pairs.iter().map(|pair| pair.id).collect(),
            _ => Vec::new(),
        };
        self.hasten_audits(now, &swarms);
        self.version += u64::from(changed);
        Ok(changed)
    }

    /// Rises with each change of the list of sites in need.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The sites whose alarm stands.
    pub fn sites_in_need(&self) -> SitesReply {
        let sites = self
            .sites
            .iter()
            .filter_map(|(name, site)| {
                let record = site.record.as_ref()?;
                Some(SiteInNeed {
                    site: name.clone(),
                    alarm: site.standing_alarm()?.to_vec(),
                    bundles: record.manifest.bundles.iter().map(|b| b.v2).collect(),
                })
            })
            .take(SITES_PER_REPLY_MAX)
            .collect();
        SitesReply {
            version: self.version,
            sites,
        }
    }

    /// The bridges that hold bundles of a site and that `visitor` can reach.
    pub fn bridges(&self, now: Moment, site: &SiteName, visitor: IpAddr) -> Vec<BridgeView> {
        let Some(record) = self.sites.get(site).and_then(|site| site.record.as_ref()) else {
            return Vec::new();
        };
        let swarms = record.pairs.iter().map(|pair| pair.id);
        self.volunteers.list(now, swarms, visitor.to_canonical())
    }

    /// Where to send the visitor of a page. `path` is `None` where the URL asks for what no
    /// manifest can name: a query, a dotfile.
    pub fn route(
        &mut self,
        now: Moment,
        name: &SiteName,
        path: Option<&SitePath>,
        visitor: IpAddr,
    ) -> Route {
        let Some(site) = self.sites.get_mut(name) else {
            return Route::UnknownSite;
        };
        let home = Route::Home(site.home().map(str::to_owned));
        let Some(record) = &site.record else {
            return Route::NoManifest;
        };
        let manifest = &record.manifest;
        if !site.lends_visitors(now) {
            return home;
        }
        let page = path.and_then(|path| page(manifest, path));
        let Some((path, file)) = page.filter(|(_, file)| !runs(&file.media_type)) else {
            return home;
        };
        let Some(bundle) = manifest.bundle_of(file) else {
            return home;
        };
        let visitor = visitor.to_canonical();
        // Whoever comes back at once has most likely met one that is gone.
        let avoid = self.visits.last(now.elapsed, visitor, (name, &path));
        let chosen = self.volunteers.choose(
            now,
            bundle.v1.swarm_id(),
            visitor,
            file.length,
            avoid,
            &mut self.rng,
        );
        let Some((chosen, others)) = chosen else {
            return home;
        };
        let bridge = chosen.bridge;
        self.visits
            .sent(now.elapsed, visitor, (name, &path), bridge);
        site.sent = site.sent.saturating_add(1);
        self.volunteers
            .visit(now, chosen.bridge, (name, &path), &mut self.rng);
        self.volunteers
            .tell_visit(chosen.bridge, file.length, (name, &path));
        Route::Bridge {
            bridge: chosen.view(),
            others: others.iter().map(Chosen::view).collect(),
            path,
        }
    }

    /// Ends alarms whose time has come; to be called often. Returns whether any did.
    pub fn expire_alarms(&mut self, now: Moment) -> bool {
        let mut changed = false;
        for site in self.sites.values_mut() {
            changed |= site.expire_alarm(now);
        }
        self.version += u64::from(changed);
        changed
    }

    /// Forgets bridges that have aged or whose lease is over.
    pub fn sweep_bridges(&mut self, now: Moment) {
        self.volunteers.sweep(now);
    }

    /// Forgets peers that have aged, and bundles of manifests long replaced.
    pub fn sweep_peers(&mut self, now: Moment) {
        let over: Vec<Pair> = self
            .sites
            .values_mut()
            .flat_map(|site| site.take_retired(now.elapsed))
            .collect();
        self.release(now, &over);
        self.web.sweep(now.tick());
        let (bundles, web) = (&self.bundles, &self.web);
        let keep = |id: &SwarmId| web.has(id) || bundles.canonical(id).is_some();
        self.peers -= self.swarms.sweep(self.ages.units(now), keep);
    }

    /// Figures of the whole.
    pub fn totals(&self) -> Totals {
        Totals {
            swarms: self.swarms.len(),
            peers: self.peers + self.web.len(),
            web_peers: self.web.len(),
            bundles: self.bundles.len(),
            sites: self.sites.len(),
            alarms: self
                .sites
                .values()
                .filter(|site| site.standing_alarm().is_some())
                .count(),
            bridges: self.volunteers.len(),
        }
    }
}

#[cfg(test)]
mod tests;
