//! Who has what, who is in need, where to send a visitor: every decision of the tracker.
//!
//! Pure: time is an argument ([`Moment`]), chance comes from a seed, nothing here blocks. The
//! listeners hold it behind one lock and check signatures before they take that lock.

mod bundles;
mod moment;
mod sites;
mod swarm;
mod volunteer;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use swarm_proto::id::SwarmId;
use swarm_proto::limits::{PEERS_PER_REPLY_MAX, SITES_PER_REPLY_MAX};
use swarm_proto::manifest::{
    KeySet, Lookup, PublicKey, SiteManifest, SiteName, SitePath, SiteTrust,
};
use swarm_proto::tracker::{
    AnnounceEvent, AnnounceReply, AnnounceRequest, BridgeView, ScrapeEntry, ScrapeReply,
    ScrapeRequest, SiteInNeed, SitesReply,
};

use crate::config::AnnounceConfig;
pub use bundles::BundleTaken;
use bundles::{Bundles, Pair};
pub use moment::Moment;
pub use sites::{AlarmSuperseded, CheckedAlarm, CheckedRecord, check_alarm, check_record};
use sites::{Site, Sites};
use swarm::{Standing, SwarmPeers};
use volunteer::VolunteerBook;

/// How long the bundles of a replaced manifest stay in the tracker: visitors and volunteers
/// that hold the old one finish with it.
const RETIRED_FOR: Duration = Duration::from_secs(3600);

/// Peers of all kinds that a peer is told of which starts with nothing left, where fewer leeches
/// are there: aria2 says so of a magnet link, of which it knows no length, and wants seeds.
const SEEDS_FOR_A_STARTER: usize = 10;

/// What the registry is told at its start.
#[derive(Debug, Clone)]
pub struct RegistryConfig {
    /// Whether any info hash may be announced, not only those of registered manifests.
    pub open: bool,
    /// Intervals, ages, bounds.
    pub announce: AnnounceConfig,
    /// Domains that a volunteer from elsewhere may name for its bridge, with those below them.
    pub bridge_domains: Vec<String>,
    /// Seed of all choices by chance.
    pub seed: u64,
}

/// Why an announce is refused; the words go back as the failure reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AnnounceRefused {
    /// Not in any registered manifest, and the tracker is not open.
    #[error("info hash is not registered at this tracker")]
    UnknownSwarm,
    /// A port that belongs to somebody else's service (T14).
    #[error("port is below the least this tracker accepts")]
    LowPort,
}

/// What a visitor of `/r/` gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// To this bridge, at this path of the site.
    Bridge(BridgeView, SitePath),
    /// To the site itself. The URL it gave for itself, where it gave one.
    Home(Option<String>),
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
    /// Bundles of registered manifests.
    pub bundles: usize,
    /// Sites whose root is pinned.
    pub sites: usize,
    /// Sites whose alarm stands.
    pub alarms: usize,
    /// Bridges of volunteers.
    pub bridges: usize,
}

/// All that the tracker knows.
#[derive(Debug)]
pub struct Registry {
    config: RegistryConfig,
    swarms: HashMap<SwarmId, SwarmPeers>,
    /// In all swarms together.
    peers: usize,
    bundles: Bundles,
    sites: Sites,
    volunteers: VolunteerBook,
    /// Of the list of sites in need.
    version: u64,
    rng: SmallRng,
}

impl Registry {
    /// An empty registry.
    pub fn new(config: RegistryConfig, now: Moment) -> Self {
        Self {
            rng: SmallRng::seed_from_u64(config.seed),
            config,
            swarms: HashMap::new(),
            peers: 0,
            bundles: Bundles::default(),
            sites: Sites::default(),
            volunteers: VolunteerBook::default(),
            // So that a list learnt before a restart is not taken for the present one.
            version: now.unix.saturating_mul(1000),
        }
    }

    /// Answers an announce that came from the address `source`.
    ///
    /// # Errors
    /// [`AnnounceRefused`]; nothing is stored then.
    pub fn announce(
        &mut self,
        now: Moment,
        source: IpAddr,
        request: &AnnounceRequest,
    ) -> Result<AnnounceReply, AnnounceRefused> {
        let registered = self.bundles.canonical(&request.swarm_id);
        let id = match registered {
            Some(id) => id,
            None if self.config.open => request.swarm_id,
            None => return Err(AnnounceRefused::UnknownSwarm),
        };
        let AnnounceConfig {
            port_min,
            min_interval,
            interval,
            bridge_interval,
            ..
        } = self.config.announce;
        if request.port < port_min {
            return Err(AnnounceRefused::LowPort);
        }
        let peer = SocketAddr::new(source.to_canonical(), request.port);
        let standing = match request.left {
            Some(0) => Standing::Seed,
            _ => Standing::Leech,
        };
        let interval = match request.bridge {
            Some(_) => bridge_interval,
            None => interval,
        };
        let mut reply = AnnounceReply {
            interval: self.spread(interval),
            min_interval: Some(whole_seconds(min_interval.min(interval))),
            ..AnnounceReply::default()
        };
        if request.event == AnnounceEvent::Stopped {
            self.stopped(id, peer);
        } else {
            let stored = self.store(now, id, peer, standing, request);
            let offered = self.take_offer(now, registered, peer, standing, request);
            reply.warning = stored.or(offered);
        }
        if let Some(swarm) = self.swarms.get(&id) {
            reply.complete = count(swarm.seeds());
            reply.incomplete = count(swarm.leeches());
            if request.event != AnnounceEvent::Stopped {
                let config = &self.config.announce;
                let wanted = request.numwant.map_or(config.peers_per_reply, |wanted| {
                    (wanted as usize).min(config.peers_per_reply_max)
                });
                let wanted = wanted.min(PEERS_PER_REPLY_MAX);
                reply.peers = swarm.sample(peer, standing, wanted, &mut self.rng);
                let room = wanted.min(SEEDS_FOR_A_STARTER);
                if standing == Standing::Seed
                    && request.event == AnnounceEvent::Started
                    && reply.peers.len() < room
                {
                    let others = swarm.sample(peer, Standing::Leech, room, &mut self.rng);
                    for other in others {
                        if reply.peers.len() < room && !reply.peers.contains(&other) {
                            reply.peers.push(other);
                        }
                    }
                }
            }
        }
        Ok(reply)
    }

    /// The interval and up to a sixteenth more, so that those who came together part.
    fn spread(&mut self, interval: Duration) -> u32 {
        let seconds = whole_seconds(interval);
        seconds.saturating_add(self.rng.random_range(0..=seconds / 16))
    }

    fn stopped(&mut self, id: SwarmId, peer: SocketAddr) {
        self.volunteers.withdraw(id, peer);
        if let Some(swarm) = self.swarms.get_mut(&id)
            && swarm.remove(peer)
        {
            self.peers -= 1;
            self.drop_if_idle(id);
        }
    }

    /// Returns a warning where the peer is not kept.
    fn store(
        &mut self,
        now: Moment,
        id: SwarmId,
        peer: SocketAddr,
        standing: Standing,
        request: &AnnounceRequest,
    ) -> Option<String> {
        let full = self.peers >= self.config.announce.peers_max;
        let before = self.swarms.get(&id).and_then(|swarm| swarm.standing(peer));
        if before.is_none() && full {
            return Some("tracker is full: you are not listed".to_owned());
        }
        let age = if request.bridge.is_some() {
            self.config.announce.bridge_age
        } else {
            self.config.announce.peer_age
        };
        let swarm = self.swarms.entry(id).or_default();
        swarm.insert(peer, standing, now.tick_after(age));
        if before.is_none() {
            self.peers += 1;
        }
        // A seed that says "completed" again has not downloaded again.
        if request.event == AnnounceEvent::Completed && before != Some(Standing::Seed) {
            swarm.downloaded = swarm.downloaded.saturating_add(1);
        }
        None
    }

    /// Takes up, renews or takes back a volunteer's offer. Returns a warning where it is not
    /// taken as it was meant.
    fn take_offer(
        &mut self,
        now: Moment,
        registered: Option<SwarmId>,
        peer: SocketAddr,
        standing: Standing,
        request: &AnnounceRequest,
    ) -> Option<String> {
        // A bundle of no site has no visitors.
        let id = registered?;
        let offer = match &request.bridge {
            Some(offer) if standing == Standing::Seed => offer,
            _ => {
                self.volunteers.withdraw(id, peer);
                return None;
            }
        };
        let domain = offer.domain.as_deref();
        let allowed = domain.filter(|domain| self.may_name(peer.ip(), domain));
        let expires = now.elapsed.saturating_add(self.config.announce.bridge_age);
        match self
            .volunteers
            .offer(now, id, peer, offer, allowed, expires)
        {
            Ok(()) if domain != allowed => {
                Some("bridge_domain not accepted: the bridge is listed by its address".to_owned())
            }
            Ok(()) => None,
            Err(refused) => {
                self.volunteers.withdraw(id, peer);
                Some(refused.to_string())
            }
        }
    }

    /// Whether a volunteer may have visitors sent to names under `domain`: below one the
    /// operator allows, or `localhost` from this very host.
    fn may_name(&self, source: IpAddr, domain: &str) -> bool {
        let allowed = |suffix: &String| {
            domain
                .strip_suffix(suffix.as_str())
                .is_some_and(|front| front.is_empty() || front.ends_with('.'))
        };
        source.is_loopback() && domain == "localhost"
            || self.config.bridge_domains.iter().any(allowed)
    }

    /// Answers a scrape; unknown and unregistered swarms are left out.
    pub fn scrape(&self, request: &ScrapeRequest) -> ScrapeReply {
        let files = request
            .swarm_ids
            .iter()
            .filter_map(|asked| {
                let id = self.bundles.canonical(asked).unwrap_or(*asked);
                let swarm = self.swarms.get(&id)?;
                let entry = ScrapeEntry {
                    complete: count(swarm.seeds()),
                    downloaded: swarm.downloaded,
                    incomplete: count(swarm.leeches()),
                };
                Some((*asked, entry))
            })
            .collect();
        ScrapeReply { files }
    }

    /// Makes a site known. With another root than before, all that rested on the old one goes.
    pub fn pin(&mut self, site: SiteName, root: PublicKey) {
        match self.sites.get(&site) {
            Some(known) if known.root == root => {}
            _ => {
                if let Some(old) = self.sites.insert(site, Site::new(root)) {
                    let pairs = old.into_pairs();
                    self.release(&pairs);
                    self.version += 1;
                }
            }
        }
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
        self.release(&over);
        self.version += u64::from(in_need);
        Ok(())
    }

    /// Makes one swarm of what an open tracker has kept as two.
    fn join(&mut self, pair: Pair) {
        let swarm = self.swarms.entry(pair.id).or_default();
        let mut other = SwarmPeers::default();
        std::mem::swap(swarm, &mut other);
        for id in [Some(pair.other), pair.alias].into_iter().flatten() {
            if let Some(same) = self.swarms.remove(&id) {
                self.peers -= other.absorb(same);
            }
        }
        self.swarms.insert(pair.id, other);
    }

    fn release(&mut self, pairs: &[Pair]) {
        for pair in self.bundles.release(pairs.iter()) {
            self.volunteers.forget(pair.id);
            if !self.config.open
                && let Some(swarm) = self.swarms.remove(&pair.id)
            {
                self.peers -= swarm.len();
            }
            self.drop_if_idle(pair.id);
        }
    }

    fn drop_if_idle(&mut self, id: SwarmId) {
        let empty = self.swarms.get(&id).is_some_and(|swarm| swarm.len() == 0);
        if empty && self.bundles.canonical(&id).is_none() {
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
        site: &SiteName,
        path: Option<&SitePath>,
        visitor: IpAddr,
    ) -> Route {
        let Some(site) = self.sites.get(site) else {
            return Route::UnknownSite;
        };
        let Some(record) = &site.record else {
            return Route::UnknownSite;
        };
        let home = || Route::Home(site.home().map(str::to_owned));
        let manifest = &record.manifest;
        let Some(path) = path else {
            return home();
        };
        if site.is_calm_again() || manifest.expires <= now.unix {
            return home();
        }
        let (path, file) = match manifest.lookup(path) {
            Lookup::File(_, file) => (path.clone(), file),
            Lookup::RedirectSlash => {
                let folder = SitePath::from_decoded(&format!("{}/", path.as_str())).ok();
                match folder.as_ref().map(|folder| manifest.lookup(folder)) {
                    Some(Lookup::File(_, file)) => (folder.unwrap_or_else(|| path.clone()), file),
                    _ => return home(),
                }
            }
            Lookup::Missing => return home(),
        };
        let Some(bundle) = manifest.bundle_of(file) else {
            return home();
        };
        let chosen = self.volunteers.choose(
            now,
            bundle.v1.swarm_id(),
            visitor.to_canonical(),
            &mut self.rng,
        );
        match chosen {
            None => home(),
            Some(chosen) => {
                let domain = chosen.domain.as_deref();
                Route::Bridge(BridgeView::new(chosen.address, domain, Vec::new()), path)
            }
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
        self.release(&over);
        let (bundles, peers) = (&self.bundles, &mut self.peers);
        self.swarms.retain(|id, swarm| {
            *peers -= swarm.sweep(now.tick());
            swarm.len() > 0 || bundles.canonical(id).is_some()
        });
    }

    /// Figures of the whole.
    pub fn totals(&self) -> Totals {
        Totals {
            swarms: self.swarms.len(),
            peers: self.peers,
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

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// At least one: an interval of 0 would be no interval.
fn whole_seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests;
