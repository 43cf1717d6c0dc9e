//! Who serves which bundle to browsers, and who is next (spec 0006, 3 and 4).
//!
//! A bridge is its address: the one its announce came from, with the port it named. It is listed
//! for a bundle while it announces that it holds all of it, and forgotten with its last bundle.
//! Whether it answers from outside, and rightly, is not tested here yet (T15, T57).

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use swarm_proto::id::SwarmId;
use swarm_proto::limits::BRIDGES_PER_REPLY_MAX;
use swarm_proto::tracker::register::reaches;
use swarm_proto::tracker::{BridgeOffer, BridgeView};

mod choice;

use super::Moment;
pub use choice::ALTERNATIVES_MAX;

/// Bridges in all: each costs some 200 bytes and 50 for each bundle.
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

/// Why an offer was not taken up. The words go back to the volunteer as a warning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum OfferRefused {
    /// The lease has ended or no visitor is wanted.
    #[error("bridge not listed: the lease is over")]
    LeaseOver,
    /// One of the bounds above.
    #[error("bridge not listed: too many bridges")]
    TooMany,
}

/// A bridge to send a visitor to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chosen {
    pub(super) address: SocketAddr,
    pub(super) domain: Option<String>,
}

impl Chosen {
    /// As visitors reach it.
    pub(super) fn view(&self) -> BridgeView {
        BridgeView::new(self.address, self.domain.as_deref(), Vec::new())
    }
}

/// All volunteers' bridges.
#[derive(Debug, Default)]
pub(super) struct VolunteerBook {
    bridges: HashMap<SocketAddr, Bridge>,
    holders: HashMap<SwarmId, Vec<Hold>>,
    per_address: HashMap<IpAddr, usize>,
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
    /// How many entries of `holders` name it; it goes with the last.
    holds: usize,
}

/// That a bridge holds one bundle whole.
#[derive(Debug)]
struct Hold {
    bridge: SocketAddr,
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
        self.weight = self.now(now) + bits.max(VISIT_BITS_MIN) as f64;
        self.at = now;
    }
}

impl Bridge {
    fn open(&self, now: Duration) -> bool {
        self.lease_end.is_none_or(|end| end > now) && self.hits_left != Some(0)
    }

    /// How much of its rate is taken up: at 1 it is full.
    fn strain(&self, now: Duration) -> f64 {
        // Rates are within RATE_RANGE, far below 2^52.
        self.load.now(now) / (self.rate as f64 * LOAD_MEAN_LIFE)
    }
}

impl VolunteerBook {
    /// Takes up or renews the offer of `peer` to serve the bundle `swarm` at `bridge`, which it
    /// says to hold whole. The caller has vetted `offer.domain`.
    pub(super) fn offer(
        &mut self,
        now: Moment,
        swarm: SwarmId,
        peer: SocketAddr,
        offer: &BridgeOffer,
        domain: Option<&str>,
        expires: Duration,
    ) -> Result<(), OfferRefused> {
        let address = SocketAddr::new(peer.ip(), offer.port);
        let lease_end = match offer.until {
            None => None,
            Some(until) if until <= now.unix => return Err(OfferRefused::LeaseOver),
            Some(until) => Some(now.deadline(until)),
        };
        if offer.hits == Some(0) {
            return Err(OfferRefused::LeaseOver);
        }
        let known = self.bridges.contains_key(&address);
        let at_address = self.per_address.get(&address.ip()).copied().unwrap_or(0);
        let full = self.bridges.len() >= BRIDGES_MAX || at_address >= BRIDGES_PER_ADDRESS_MAX;
        if !known && full {
            return Err(OfferRefused::TooMany);
        }
        let holders = self.holders.entry(swarm).or_default();
        let full = holders.len() >= HOLDERS_PER_BUNDLE_MAX;
        let new_hold = match holders.iter_mut().find(|hold| hold.bridge == address) {
            Some(hold) => {
                hold.peer = peer;
                hold.expires = expires;
                false
            }
            None if full => return Err(OfferRefused::TooMany),
            None => {
                holders.push(Hold {
                    bridge: address,
                    peer,
                    expires,
                });
                true
            }
        };
        let bridge = self.bridges.entry(address).or_insert_with(|| Bridge {
            domain: None,
            rate: RATE_DEFAULT,
            lease_end: None,
            hits_left: None,
            load: Load::default(),
            holds: 0,
        });
        bridge.domain = domain.map(str::to_owned);
        bridge.rate = offer
            .rate
            .unwrap_or(RATE_DEFAULT)
            .clamp(RATE_RANGE.0, RATE_RANGE.1);
        bridge.lease_end = lease_end;
        bridge.hits_left = offer.hits;
        bridge.holds += usize::from(new_hold);
        if !known {
            *self.per_address.entry(address.ip()).or_default() += 1;
        }
        Ok(())
    }

    /// Takes back what `peer` said about the bundle `swarm`: it left, or no longer holds all of
    /// it, or offers no bridge any more.
    pub(super) fn withdraw(&mut self, swarm: SwarmId, peer: SocketAddr) {
        if self.holders.contains_key(&swarm) {
            self.retain(swarm, |hold| hold.peer != peer);
        }
    }

    /// Forgets all bridges of a bundle that no site has any more.
    pub(super) fn forget(&mut self, swarm: SwarmId) {
        self.retain(swarm, |_| false);
    }

    /// Forgets what has aged, and bridges whose lease is over.
    pub(super) fn sweep(&mut self, now: Moment) {
        let over: Vec<SocketAddr> = self
            .bridges
            .iter()
            .filter(|(_, bridge)| !bridge.open(now.elapsed))
            .map(|(address, _)| *address)
            .collect();
        let swarms: Vec<SwarmId> = self.holders.keys().copied().collect();
        for swarm in swarms {
            self.retain(swarm, |hold| {
                hold.expires > now.elapsed && !over.contains(&hold.bridge)
            });
        }
    }

    fn retain(&mut self, swarm: SwarmId, mut keep: impl FnMut(&Hold) -> bool) {
        let Some(holders) = self.holders.get_mut(&swarm) else {
            return;
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
        for address in gone {
            self.release(address);
        }
    }

    /// One hold less for the bridge, which goes with its last.
    fn release(&mut self, address: SocketAddr) {
        let Some(bridge) = self.bridges.get_mut(&address) else {
            return;
        };
        bridge.holds = bridge.holds.saturating_sub(1);
        if bridge.holds > 0 {
            return;
        }
        self.bridges.remove(&address);
        if let Some(count) = self.per_address.get_mut(&address.ip()) {
            *count -= 1;
            if *count == 0 {
                self.per_address.remove(&address.ip());
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
        let mut found: HashMap<SocketAddr, Vec<SwarmId>> = HashMap::new();
        for swarm in swarms {
            for hold in self.holders.get(&swarm).into_iter().flatten() {
                if hold.expires > now.elapsed && reaches(visitor, hold.bridge.ip()) {
                    found.entry(hold.bridge).or_default().push(swarm);
                }
            }
        }
        found
            .into_iter()
            .filter_map(|(address, bundles)| {
                let bridge = self.bridges.get(&address)?;
                bridge
                    .open(now.elapsed)
                    .then(|| BridgeView::new(address, bridge.domain.as_deref(), bundles))
            })
            .take(BRIDGES_PER_REPLY_MAX)
            .collect()
    }

    /// How many bridges say that they hold a bundle.
    pub(super) fn holders(&self, swarm: SwarmId) -> usize {
        self.holders.get(&swarm).map_or(0, Vec::len)
    }

    /// How many bridges are listed.
    pub(super) fn len(&self) -> usize {
        self.bridges.len()
    }
}

#[cfg(test)]
mod tests;
