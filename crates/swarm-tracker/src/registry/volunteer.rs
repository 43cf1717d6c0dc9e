//! Who serves which bundle to browsers, and who is next (spec 0006, 3 and 4).
//!
//! A bridge is an address, the one its announce came from with the port it named, and a key. It is
//! listed for a bundle while it announces that it holds all of it, once it has proven that the key
//! answers at the address ([`Doors`], T15) and until it shows a wrong byte ([`Audits`], T57); it is
//! forgotten with its last bundle.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rand::Rng;
use swarm_proto::id::SwarmId;
use swarm_proto::limits::BRIDGES_PER_REPLY_MAX;
use swarm_proto::manifest::{PublicKey, SiteName};
use swarm_proto::tracker::register::reaches;
use swarm_proto::tracker::{BridgeOffer, BridgeView};

mod choice;
mod shared;

use super::Moment;
use super::audit::{Audits, Watch};
use super::eviction::{Evictions, Lie};
use super::proof::{Claim, Doors};
use super::shared::{Change, News};
use crate::config::VolunteerConfig;
pub use choice::ALTERNATIVES_MAX;

/// Bridges in all: each costs some 300 bytes and 120 for each bundle.
pub(super) const BRIDGES_MAX: usize = 65_536;
/// Bridges of one bundle. A redirect looks at each.
const HOLDERS_PER_BUNDLE_MAX: usize = 4096;
/// Bridges at one address, so that one host cannot crowd out the others with its ports.
const BRIDGES_PER_ADDRESS_MAX: usize = 64;

/// Time in which a redirect loses half of its weight: about as long as a page's load lasts.
const LOAD_HALF_LIFE: Duration = Duration::from_secs(10);
/// How long, at a steady rate, what is not yet forgotten took to come, seconds: the half-life over
/// ln 2.
const LOAD_MEAN_LIFE: f64 = 14.427;
/// Bits that a visitor is taken to draw from a bridge at least: a small page comes with others, and
/// with its images.
const VISIT_BITS_MIN: u64 = 8 * 64 * 1024;
/// What a volunteer is taken to give where it does not say, bits per second.
const RATE_DEFAULT: u64 = 10_000_000;
/// Bounds of the claim, which nobody has checked: a larger one only draws more visitors.
const RATE_RANGE: (u64, u64) = (1_000_000, 1_000_000_000);

/// Ports to which browsers do not let themselves be sent (WHATWG Fetch, 2.9): a bridge there helps
/// nobody, and who listens there may take an HTTP request for something else.
const BLOCKED_PORTS: [u16; 82] = [
    1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102,
    103, 104, 109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465,
    512, 513, 514, 515, 526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993,
    995, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668,
    6669, 6679, 6697, 10080,
];

/// Whether browsers let themselves be sent nowhere with this port.
pub(crate) fn is_blocked_port(port: u16) -> bool {
    BLOCKED_PORTS.contains(&port)
}

/// Why an offer was not taken up. The words go back to the volunteer as a warning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum OfferRefused {
    /// The lease has ended or no visitor is wanted.
    #[error("bridge not listed: the lease is over")]
    LeaseOver,
    /// One of the bounds above.
    #[error("bridge not listed: too many bridges")]
    TooMany,
    /// Nothing that an answer could be compared with.
    #[error("bridge not listed: bridge_key is missing")]
    NoKey,
    /// Nothing to name ourselves by when we call.
    #[error("bridge not listed: the announce names no host")]
    NoHost,
    /// One of [`BLOCKED_PORTS`].
    #[error("bridge not listed: browsers go to no such port")]
    BlockedPort,
    /// It was called in vain.
    #[error("bridge not listed: it did not answer the tracker; next call in {0} s")]
    Unanswered(u64),
    /// It has shown wrong bytes, or somebody at its address has.
    #[error("bridge not listed: wrong bytes came from there")]
    Evicted,
}

/// A bridge: who it is, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct BridgeId {
    pub(crate) address: SocketAddr,
    pub(crate) key: PublicKey,
}

/// What `peer` says about one bundle and its bridge.
#[derive(Debug, Clone, Copy)]
pub(super) struct Announced<'a> {
    /// The bundle, which it says to hold whole.
    pub(super) swarm: SwarmId,
    pub(super) peer: SocketAddr,
    pub(super) offer: &'a BridgeOffer,
    /// Of the offer, where it may name one.
    pub(super) domain: Option<&'a str>,
    /// Until when it counts.
    pub(super) expires: Duration,
    /// The host by which it knows us.
    pub(super) tracker: Option<&'a SiteName>,
}

/// A bridge to send a visitor to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chosen {
    pub(super) bridge: BridgeId,
    pub(super) domain: Option<String>,
}

impl Chosen {
    /// As visitors reach it.
    pub(super) fn view(&self) -> BridgeView {
        BridgeView::new(self.bridge.address, self.domain.as_deref(), Vec::new())
    }
}

/// All volunteers' bridges.
#[derive(Debug)]
pub(super) struct VolunteerBook {
    config: VolunteerConfig,
    bridges: HashMap<BridgeId, Bridge>,
    holders: HashMap<SwarmId, Vec<Hold>>,
    per_address: HashMap<IpAddr, usize>,
    doors: Doors,
    audits: Audits,
    evictions: Evictions,
    /// For other trackers.
    pub(super) news: News,
}

#[derive(Debug)]
struct Bridge {
    domain: Option<String>,
    rate: u64,
    /// `None`: as long as it announces.
    lease_end: Option<Duration>,
    /// Visitors it still takes; `None`: any number.
    hits_left: Option<u64>,
    load: Load,
    /// Whose entries of `holders` name it; it goes with the last.
    holds: Vec<SwarmId>,
    /// Whether it has proven itself, and is trusted.
    listed: bool,
    watch: Watch,
    /// Until when it is a bridge that announces to us, which we call and audit.
    here_until: Duration,
    /// Until when another tracker's word that it is proven holds.
    vouched_until: Duration,
    /// When it last proved itself to us.
    proven_at: Duration,
    /// Until when its last offer holds; what was told of an earlier time counts no more.
    offered_until: Duration,
}

/// That a bridge holds one bundle whole.
#[derive(Debug)]
struct Hold {
    bridge: BridgeId,
    /// The peer that said so; when it leaves, so does this.
    peer: SocketAddr,
    expires: Duration,
}

/// Bits of the files that visitors were sent for of late, weighing half as much after each
/// half-life.
#[derive(Debug, Default, Clone, Copy)]
struct Load {
    weight: f64,
    at: Duration,
}

impl Load {
    fn now(self, now: Duration) -> f64 {
        let half_lives = now.saturating_sub(self.at).as_secs_f64() / LOAD_HALF_LIFE.as_secs_f64();
        self.weight * 0.5_f64.powf(half_lives)
    }

    fn add(&mut self, now: Duration, bits: u64) {
        self.weight = self.now(now) + weight_of(bits) as f64;
        self.at = now;
    }

    /// Adds the weight of visitors who were sent `ago`.
    fn add_late(&mut self, now: Duration, ago: Duration, weight: u64) {
        let half_lives = ago.as_secs_f64() / LOAD_HALF_LIFE.as_secs_f64();
        self.weight = self.now(now) + weight as f64 * 0.5_f64.powf(half_lives);
        self.at = now;
    }
}

/// What a visitor of a file of so many bits weighs.
fn weight_of(bits: u64) -> u64 {
    bits.max(VISIT_BITS_MIN)
}

impl Bridge {
    fn open(&self, now: Duration) -> bool {
        self.lease_end.is_none_or(|end| end > now) && self.hits_left != Some(0)
    }

    /// Whether visitors may be sent there.
    fn takes_visitors(&self, now: Duration) -> bool {
        self.listed && self.open(now)
    }

    /// How much of its rate is taken up: at 1 it is full.
    fn strain(&self, now: Duration) -> f64 {
        // Rates are within RATE_RANGE, far below 2^52.
        self.load.now(now) / (self.rate as f64 * LOAD_MEAN_LIFE)
    }
}

impl VolunteerBook {
    pub(super) fn new(config: VolunteerConfig) -> Self {
        Self {
            config,
            bridges: HashMap::new(),
            holders: HashMap::new(),
            per_address: HashMap::new(),
            doors: Doors::default(),
            audits: Audits::default(),
            evictions: Evictions::default(),
            news: News::default(),
        }
    }

    /// What bars the bridge of an offer, if anything does: what it once showed, or nothing that
    /// could excuse it.
    pub(super) fn bars(
        &self,
        now: Moment,
        peer: SocketAddr,
        offer: &BridgeOffer,
    ) -> Option<Option<Lie>> {
        let id = id_of(peer, offer)?;
        let known = self.bridges.contains_key(&id);
        self.evictions.bars(now.elapsed, id, known)
    }

    /// What was shown was true after all.
    pub(super) fn excuse(&mut self, lie: &Lie) {
        self.evictions.excuse(lie);
    }

    /// Takes up or renews an offer that nothing [`bars`](Self::bars). The bridge is listed once
    /// it has proven itself.
    pub(super) fn offer(
        &mut self,
        now: Moment,
        said: Announced<'_>,
        rng: &mut impl Rng,
    ) -> Result<(), OfferRefused> {
        let Announced { peer, offer, .. } = said;
        let id = id_of(peer, offer).ok_or(OfferRefused::NoKey)?;
        let tracker = said.tracker.ok_or(OfferRefused::NoHost)?;
        let lease_end = Self::terms(now, offer)?;
        self.make_room(id, said.swarm)?;
        let listed = self.bridges.get(&id).is_some_and(|bridge| bridge.listed);
        let proven = listed || {
            let (now, address) = (now.elapsed, id.address);
            let claim = self
                .doors
                .claim(now, &self.config, address, id.key, tracker);
            match claim {
                Claim::Proven => true,
                Claim::Waiting => false,
                Claim::Refused(until) => {
                    let wait = until.saturating_sub(now).as_secs();
                    return Err(OfferRefused::Unanswered(wait));
                }
            }
        };
        self.enter(id, &said, lease_end);
        if let Some(bridge) = self.bridges.get_mut(&id) {
            bridge.here_until = bridge.here_until.max(said.expires);
        }
        if listed {
            let (config, address) = (&self.config, id.address);
            self.doors
                .adopt(now.elapsed, config, address, id.key, tracker, rng);
        }
        if proven {
            self.list_bridge(now.elapsed, id, rng);
        }
        self.tell_offer(&said, id);
        Ok(())
    }

    /// When the lease of an offer ends.
    fn terms(now: Moment, offer: &BridgeOffer) -> Result<Option<Duration>, OfferRefused> {
        if is_blocked_port(offer.port) {
            return Err(OfferRefused::BlockedPort);
        }
        if offer.hits == Some(0) {
            return Err(OfferRefused::LeaseOver);
        }
        match offer.until {
            None => Ok(None),
            Some(until) if until <= now.unix => Err(OfferRefused::LeaseOver),
            Some(until) => Ok(Some(now.deadline(until))),
        }
    }

    /// Whether a bridge may hold one bundle more.
    fn make_room(&self, id: BridgeId, swarm: SwarmId) -> Result<(), OfferRefused> {
        let at_address = self.per_address.get(&id.address.ip()).copied().unwrap_or(0);
        let full = self.bridges.len() >= BRIDGES_MAX || at_address >= BRIDGES_PER_ADDRESS_MAX;
        if full && !self.bridges.contains_key(&id) {
            return Err(OfferRefused::TooMany);
        }
        let holders = self.holders.get(&swarm).map_or(&[][..], Vec::as_slice);
        let crowded = holders.len() >= HOLDERS_PER_BUNDLE_MAX;
        if crowded && !holders.iter().any(|hold| hold.bridge == id) {
            return Err(OfferRefused::TooMany);
        }
        Ok(())
    }

    /// Takes note of an offer for which there is room.
    fn enter(&mut self, id: BridgeId, said: &Announced<'_>, lease_end: Option<Duration>) {
        let Announced { peer, offer, .. } = *said;
        let hold = Hold {
            bridge: id,
            peer,
            expires: said.expires,
        };
        let holders = self.holders.entry(said.swarm).or_default();
        let held = holders.iter_mut().find(|hold| hold.bridge == id);
        let new = held.is_none();
        match held {
            Some(known) => *known = hold,
            None => holders.push(hold),
        }
        if !self.bridges.contains_key(&id) {
            *self.per_address.entry(id.address.ip()).or_default() += 1;
        }
        let bridge = self.bridges.entry(id).or_insert_with(|| Bridge {
            domain: None,
            rate: RATE_DEFAULT,
            lease_end: None,
            hits_left: None,
            load: Load::default(),
            holds: Vec::new(),
            listed: false,
            watch: Watch::default(),
            here_until: Duration::ZERO,
            vouched_until: Duration::ZERO,
            proven_at: Duration::ZERO,
            offered_until: Duration::ZERO,
        });
        // Of a later time is what it has said of another bundle since.
        if said.expires >= bridge.offered_until {
            bridge.domain = said.domain.map(str::to_owned);
            bridge.rate = offer
                .rate
                .unwrap_or(RATE_DEFAULT)
                .clamp(RATE_RANGE.0, RATE_RANGE.1);
            bridge.lease_end = lease_end;
            bridge.hits_left = offer.hits;
            bridge.offered_until = said.expires;
        }
        if new {
            bridge.holds.push(said.swarm);
        }
    }

    /// Forgets a bridge with all that it holds.
    fn remove(&mut self, id: BridgeId) {
        let holds = self.bridges.get(&id).map(|bridge| bridge.holds.clone());
        for swarm in holds.into_iter().flatten() {
            self.retain(swarm, |hold| hold.bridge != id);
        }
    }

    /// Takes back what `peer` said about the bundle `swarm`: it left, or no longer holds all of
    /// it, or offers no bridge any more.
    pub(super) fn withdraw(&mut self, swarm: SwarmId, peer: SocketAddr) {
        if self.holders.contains_key(&swarm) && self.retain(swarm, |hold| hold.peer != peer) {
            self.news.tell(|| Change::Withdrawn { swarm, peer });
        }
    }

    /// Forgets all bridges of a bundle that no site has any more.
    pub(super) fn forget(&mut self, swarm: SwarmId) {
        self.retain(swarm, |_| false);
    }

    /// Forgets what has aged, and bridges whose lease is over.
    pub(super) fn sweep(&mut self, now: Moment) {
        self.doors.sweep(now.elapsed, &self.config);
        self.evictions.sweep(now.elapsed);
        let over: Vec<BridgeId> = self
            .bridges
            .iter()
            .filter(|(_, bridge)| !bridge.open(now.elapsed))
            .map(|(id, _)| *id)
            .collect();
        let swarms: Vec<SwarmId> = self.holders.keys().copied().collect();
        for swarm in swarms {
            self.retain(swarm, |hold| {
                hold.expires > now.elapsed && !over.contains(&hold.bridge)
            });
        }
        self.hand_over(now.elapsed);
    }

    /// Bridges that announce to others only are no longer called or audited by us; nor are visitors
    /// sent to those for which nobody vouches any more.
    fn hand_over(&mut self, now: Duration) {
        for (id, bridge) in &mut self.bridges {
            if bridge.here_until > now {
                continue;
            }
            if !bridge.here_until.is_zero() {
                bridge.here_until = Duration::ZERO;
                let audit_due = self.audits.drop(*id, &mut bridge.watch);
                self.doors.release(id.address, &id.key, audit_due);
            }
            bridge.listed &= bridge.vouched_until > now;
        }
    }

    /// Returns whether any was not kept.
    fn retain(&mut self, swarm: SwarmId, mut keep: impl FnMut(&Hold) -> bool) -> bool {
        let Some(holders) = self.holders.get_mut(&swarm) else {
            return false;
        };
        let mut gone = Vec::new();
        holders.retain(|hold| {
            let kept = keep(hold);
            if !kept {
                gone.push(hold.bridge);
            }
            kept
        });
        if holders.is_empty() {
            self.holders.remove(&swarm);
        }
        let any = !gone.is_empty();
        for id in gone {
            self.release(id, swarm);
        }
        any
    }

    /// One hold less for the bridge, which goes with its last.
    fn release(&mut self, id: BridgeId, swarm: SwarmId) {
        let Some(bridge) = self.bridges.get_mut(&id) else {
            return;
        };
        bridge.holds.retain(|held| *held != swarm);
        if !bridge.holds.is_empty() {
            return;
        }
        let audit_due = self.audits.drop(id, &mut bridge.watch);
        self.bridges.remove(&id);
        self.doors.release(id.address, &id.key, audit_due);
        let ip = id.address.ip();
        if let Some(count) = self.per_address.get_mut(&ip) {
            *count -= 1;
            if *count == 0 {
                self.per_address.remove(&ip);
            }
        }
    }

    /// The bridges of some bundles that `visitor` can reach, each with those it holds.
    pub(super) fn list(
        &self,
        now: Moment,
        swarms: impl Iterator<Item = SwarmId>,
        visitor: IpAddr,
    ) -> Vec<BridgeView> {
        let mut found: HashMap<BridgeId, Vec<SwarmId>> = HashMap::new();
        for swarm in swarms {
            for hold in self.holders.get(&swarm).into_iter().flatten() {
                if hold.expires > now.elapsed && reaches(visitor, hold.bridge.address.ip()) {
                    found.entry(hold.bridge).or_default().push(swarm);
                }
            }
        }
        found
            .into_iter()
            .filter_map(|(id, bundles)| {
                let bridge = self.bridges.get(&id)?;
                let domain = bridge.domain.as_deref();
                bridge
                    .takes_visitors(now.elapsed)
                    .then(|| BridgeView::new(id.address, domain, bundles))
            })
            .take(BRIDGES_PER_REPLY_MAX)
            .collect()
    }

    /// How many listed bridges hold a bundle.
    pub(super) fn holders(&self, swarm: SwarmId) -> usize {
        let holders = self.holders.get(&swarm).into_iter().flatten();
        let listed = |hold: &&Hold| self.bridges.get(&hold.bridge).is_some_and(|b| b.listed);
        holders.filter(listed).count()
    }

    /// How many bridges are listed.
    pub(super) fn len(&self) -> usize {
        self.bridges.values().filter(|bridge| bridge.listed).count()
    }
}

fn id_of(peer: SocketAddr, offer: &BridgeOffer) -> Option<BridgeId> {
    Some(BridgeId {
        address: SocketAddr::new(peer.ip(), offer.port),
        key: offer.key?,
    })
}

mod calls;
#[cfg(test)]
mod tests;
