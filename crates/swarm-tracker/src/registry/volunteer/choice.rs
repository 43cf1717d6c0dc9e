//! Which bridge is next: near ones first, then the one of two with more room (spec 0006, 4).

use std::net::IpAddr;
use std::time::Duration;

use rand::seq::SliceRandom as _;
use rand::{Rng, RngExt as _};
use swarm_proto::id::SwarmId;
use swarm_proto::tracker::register::reaches;

use super::{BridgeId, Chosen, Hold, Moment, VolunteerBook};

/// Bridges named to a visitor beside the one he is sent to.
pub const ALTERNATIVES_MAX: usize = 3;

/// How much of a near bridge's rate may be taken up before others are looked at: past it those who
/// are further off and idle are the better choice.
const NEAR_STRAIN_MAX: f64 = 0.5;

/// Holders of a bundle up to which each is looked at; of more, some at random.
const SCAN_MAX: usize = 64;

impl VolunteerBook {
    /// The bridge for one visitor of a file of `length` bytes in the bundle `swarm`, and counts the
    /// visit; with it others for the case that it fails, which are not counted.
    ///
    /// Not `avoid`, if there is another. Bridges in the visitor's network are asked first; then any. Of two chosen at random the one
    /// with more room gets him: two choices keep the busiest bridge close to the average without
    /// all visitors following the same stale figure (Mitzenmacher 2001).
    pub(in crate::registry) fn choose(
        &mut self,
        now: Moment,
        swarm: SwarmId,
        visitor: IpAddr,
        length: u64,
        avoid: Option<BridgeId>,
        rng: &mut impl Rng,
    ) -> Option<(Chosen, Vec<Chosen>)> {
        let mut any = self.sample(now, swarm, visitor, 2 + ALTERNATIVES_MAX, rng);
        let mut near = self.near(now, swarm, visitor, rng);
        // Rather the one he comes from than none.
        if any.iter().any(|id| Some(*id) != avoid) {
            any.retain(|id| Some(*id) != avoid);
            near.retain(|id| Some(*id) != avoid);
        }
        let pair = if near.is_empty() { &any } else { &near };
        let id = self.idler(now.elapsed, pair)?;
        let others = any.iter().filter(|other| **other != id);
        let others = others
            .take(ALTERNATIVES_MAX)
            .filter_map(|other| self.chosen(*other))
            .collect();
        let bridge = self.bridges.get_mut(&id)?;
        bridge.load.add(now.elapsed, length.saturating_mul(8));
        if let Some(hits) = &mut bridge.hits_left {
            *hits = hits.saturating_sub(1);
        }
        Some((self.chosen(id)?, others))
    }

    /// Up to `wanted` bridges of the bundle that may be given a visitor, in random order.
    pub(in crate::registry) fn sample(
        &self,
        now: Moment,
        swarm: SwarmId,
        visitor: IpAddr,
        wanted: usize,
        rng: &mut impl Rng,
    ) -> Vec<BridgeId> {
        let Some(holders) = self.holders.get(&swarm) else {
            return Vec::new();
        };
        let good = |hold: &&Hold| self.has_room(hold, now.elapsed, visitor, 1.0);
        if holders.len() > SCAN_MAX {
            let mut picked = Vec::with_capacity(wanted);
            for _ in 0..SCAN_MAX {
                let hold = holders.get(rng.random_range(0..holders.len()));
                if let Some(hold) = hold.filter(good)
                    && !picked.contains(&hold.bridge)
                {
                    picked.push(hold.bridge);
                    if picked.len() == wanted {
                        return picked;
                    }
                }
            }
            // Most of them are full or out of reach: then all are looked at.
        }
        reservoir(holders.iter().filter(good), wanted, rng)
    }

    /// Two bridges in the visitor's network that are not busy.
    fn near(
        &self,
        now: Moment,
        swarm: SwarmId,
        visitor: IpAddr,
        rng: &mut impl Rng,
    ) -> Vec<BridgeId> {
        let holders = self.holders.get(&swarm).into_iter().flatten();
        let near = holders.filter(|hold| {
            is_near(visitor, hold.bridge.address.ip())
                && self.has_room(hold, now.elapsed, visitor, NEAR_STRAIN_MAX)
        });
        reservoir(near, 2, rng)
    }

    /// Whether a visitor may be sent there: in reach, listed, its lease goes on, and less than
    /// `strain` of its rate is taken up.
    fn has_room(&self, hold: &Hold, now: Duration, visitor: IpAddr, strain: f64) -> bool {
        hold.expires > now
            && reaches(visitor, hold.bridge.address.ip())
            && self
                .bridges
                .get(&hold.bridge)
                .is_some_and(|bridge| bridge.takes_visitors(now) && bridge.strain(now) < strain)
    }

    /// Of the first two the one with more room.
    fn idler(&self, now: Duration, pair: &[BridgeId]) -> Option<BridgeId> {
        let strain = |id: &BridgeId| {
            self.bridges
                .get(id)
                .map_or(f64::INFINITY, |bridge| bridge.strain(now))
        };
        match pair {
            [first, second, ..] if strain(second) < strain(first) => Some(*second),
            [first, ..] => Some(*first),
            [] => None,
        }
    }

    /// How a listed bridge is reached.
    pub(in crate::registry) fn chosen(&self, id: BridgeId) -> Option<Chosen> {
        let bridge = self.bridges.get(&id)?;
        Some(Chosen {
            bridge: id,
            domain: bridge.domain.clone(),
        })
    }
}

/// Some of them in random order, each set of `wanted` equally likely.
fn reservoir<'h>(
    holds: impl Iterator<Item = &'h Hold>,
    wanted: usize,
    rng: &mut impl Rng,
) -> Vec<BridgeId> {
    let mut picked: Vec<BridgeId> = Vec::with_capacity(wanted);
    for (seen, hold) in holds.enumerate() {
        if picked.len() < wanted {
            picked.push(hold.bridge);
        } else if let Some(place) = picked.get_mut(rng.random_range(0..=seen)) {
            *place = hold.bridge;
        }
    }
    picked.shuffle(rng);
    picked
}

/// Whether two addresses are of one network: IPv4 /16, IPv6 /32, which is what a provider has.
fn is_near(one: IpAddr, other: IpAddr) -> bool {
    match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => one.to_bits() >> 16 == other.to_bits() >> 16,
        (IpAddr::V6(one), IpAddr::V6(other)) => one.to_bits() >> 96 == other.to_bits() >> 96,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::net::SocketAddr;

    use rand::SeedableRng as _;
    use rand::rngs::SmallRng;
    use swarm_proto::manifest::{SecretKey, SiteName};
    use swarm_proto::tracker::BridgeOffer;

    use super::super::Announced;
    use super::*;
    use crate::config::VolunteerConfig;
    use crate::testing::v1;

    fn at(secs: u64) -> Moment {
        Moment {
            elapsed: Duration::from_secs(secs),
            unix: 1_000_000 + secs,
        }
    }

    fn empty_book() -> VolunteerBook {
        VolunteerBook::new(VolunteerConfig::default())
    }

    /// An offer of a bridge that proves itself at once.
    fn offer(book: &mut VolunteerBook, ip: &str, rate: u64) {
        let key = SecretKey::new([1; 32]);
        let mut rng = SmallRng::seed_from_u64(5);
        let peer = SocketAddr::new(ip.parse().expect("an address"), 6881);
        let offer = BridgeOffer {
            key: Some(key.public()),
            rate: Some(rate),
            ..BridgeOffer::new(8000)
        };
        let tracker = SiteName::parse("tracker.example:6969").expect("a host");
        let said = Announced {
            swarm: v1(1),
            peer,
            offer: &offer,
            domain: None,
            expires: Duration::from_secs(1000),
            tracker: Some(&tracker),
        };
        book.offer(at(0), said, &mut rng).expect("room");
        let call = book.next_call(at(0), [9; 32]).expect("due at once");
        let proof = call.sign(&key);
        assert!(book.finish_call(at(0), &call, Ok(proof), &mut rng));
    }

    /// Where so many visitors at `visitor` are sent, each for so many bytes.
    fn sent(
        book: &mut VolunteerBook,
        visitor: &str,
        visits: usize,
        bytes: u64,
    ) -> HashMap<String, usize> {
        let visitor = visitor.parse().expect("an address");
        let mut rng = SmallRng::seed_from_u64(3);
        let mut sent = HashMap::new();
        for _ in 0..visits {
            let chosen = book.choose(at(1), v1(1), visitor, bytes, None, &mut rng);
            let address = chosen.map_or("home".into(), |(c, _)| c.bridge.address.ip().to_string());
            *sent.entry(address).or_default() += 1;
        }
        sent
    }

    #[test]
    fn a_near_bridge_comes_first_until_half_of_it_is_taken_up() {
        for (near, far, visitor) in [
            ("198.51.9.1", "203.0.113.1", "198.51.100.7"),
            ("2001:db8:9::1", "2001:db9::1", "2001:db8:1::7"),
        ] {
            let mut book = empty_book();
            offer(&mut book, near, 10_000_000);
            offer(&mut book, far, 10_000_000);
            // 72 Mbit are half of what it can give in the 14.4 s that count; 10 are 10 Mbit each.
            let first = sent(&mut book, visitor, 8, 1_250_000);
            assert_eq!(first.get(near), Some(&8), "{first:?}");
            let next = sent(&mut book, visitor, 6, 1_250_000);
            assert!(next.get(far).is_some_and(|n| *n >= 5), "{next:?}");
            // Who comes from elsewhere sees no difference.
            let mut book = empty_book();
            offer(&mut book, near, 10_000_000);
            offer(&mut book, far, 10_000_000);
            let elsewhere = if visitor.contains(':') {
                "2001:dba::1"
            } else {
                "192.0.2.1"
            };
            let even = sent(&mut book, elsewhere, 10, 1_250_000);
            assert_eq!((even[near], even[far]), (5, 5));
        }
    }

    #[test]
    fn full_bridges_get_nobody() {
        let mut book = empty_book();
        offer(&mut book, "203.0.113.1", 10_000_000);
        // 144 Mbit in all, 10 Mbit for each.
        let found = sent(&mut book, "192.0.2.1", 100, 1_250_000);
        assert_eq!(found["203.0.113.1"], 15, "{found:?}");
        assert_eq!(found["home"], 85);
        // An idle one beside it gets them, and after a while the first has room again.
        offer(&mut book, "203.0.113.2", 10_000_000);
        let found = sent(&mut book, "192.0.2.1", 10, 1_250_000);
        assert_eq!(found["203.0.113.2"], 10);
        let visitor = "192.0.2.1".parse().expect("an address");
        let mut rng = SmallRng::seed_from_u64(3);
        let room = book.sample(at(12), v1(1), visitor, 5, &mut rng);
        assert_eq!(room.len(), 2);
    }

    #[test]
    fn alternatives_are_others_that_have_room_and_are_not_counted() {
        let mut book = empty_book();
        for n in 1..=100 {
            offer(&mut book, &format!("203.0.113.{n}"), 10_000_000);
        }
        let visitor = "192.0.2.1".parse().expect("an address");
        let mut rng = SmallRng::seed_from_u64(3);
        for _ in 0..200 {
            let chosen = book.choose(at(1), v1(1), visitor, 1, None, &mut rng);
            let (chosen, others) = chosen.expect("a bridge");
            assert_eq!(others.len(), ALTERNATIVES_MAX);
            let mut all: Vec<_> = others.iter().map(|other| other.bridge.address).collect();
            all.push(chosen.bridge.address);
            all.sort_unstable();
            all.dedup();
            assert_eq!(all.len(), ALTERNATIVES_MAX + 1);
        }
        let visits: f64 = book
            .bridges
            .values()
            .map(|bridge| bridge.load.now(Duration::from_secs(1)))
            .sum();
        assert!((visits / super::super::VISIT_BITS_MIN as f64 - 200.0).abs() < 1e-6);
    }

    #[test]
    fn every_bridge_of_many_is_chosen_as_often() {
        let mut book = empty_book();
        for n in 0..200 {
            offer(&mut book, &format!("203.0.113.{n}"), 1_000_000_000);
        }
        let mut rng = SmallRng::seed_from_u64(3);
        let visitor = "192.0.2.1".parse().expect("an address");
        let mut seen: HashMap<SocketAddr, u32> = HashMap::new();
        for _ in 0..10_000 {
            for id in book.sample(at(1), v1(1), visitor, 5, &mut rng) {
                *seen.entry(id.address).or_default() += 1;
            }
        }
        assert_eq!(seen.len(), 200);
        assert!(seen.values().all(|n| (180..330).contains(n)), "{seen:?}");
    }
}
