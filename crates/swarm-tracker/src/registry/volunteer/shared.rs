//! Bridges of which another tracker tells, and what is told to others of ours.
//!
//! A bridge is called, and audited, by the tracker to which it announces; others believe what that
//! one found, for as long as it goes on saying so. Own doubts outweigh another's word.

use std::net::SocketAddr;
use std::time::Duration;

use rand::Rng;
use swarm_proto::id::SwarmId;
use swarm_proto::tracker::BridgeOffer;

use super::{Announced, BridgeId, VolunteerBook, id_of};
use crate::registry::Moment;
use crate::registry::eviction::Barred;
use crate::registry::shared::{Barring, Change, SharedOffer, Visits};

impl VolunteerBook {
    /// An offer was taken up here; `domain` is what is left of the one it names.
    pub(super) fn tell_offer(&mut self, said: &Announced<'_>, id: BridgeId) {
        let proven = self.bridges.get(&id).is_some_and(|bridge| bridge.listed);
        self.news.offer(id, || SharedOffer {
            swarm: said.swarm,
            peer: said.peer,
            offer: BridgeOffer {
                domain: said.domain.map(str::to_owned),
                ..said.offer.clone()
            },
            proven,
            age: 0,
        });
    }

    /// An offer was taken up or renewed elsewhere.
    pub(in crate::registry) fn learn_offer(
        &mut self,
        now: Moment,
        said: Announced<'_>,
        proven: bool,
        rng: &mut impl Rng,
    ) -> bool {
        let Some(id) = id_of(said.peer, said.offer) else {
            return false;
        };
        let Ok(lease_end) = Self::terms(now, said.offer) else {
            return false;
        };
        let holders = self.holders.get(&said.swarm).into_iter().flatten();
        let known = holders.filter(|hold| hold.bridge == id);
        if known.into_iter().any(|hold| hold.expires > said.expires) {
            // It announced here since.
            return true;
        }
        if self.make_room(id, said.swarm).is_err() {
            return false;
        }
        self.enter(id, &said, lease_end);
        if proven {
            self.learn_proven(now, id, said.expires, rng);
        }
        true
    }

    /// What a peer said about a bundle was taken back elsewhere. `until`: what it said before that
    /// holds no longer.
    pub(in crate::registry) fn learn_withdrawn(
        &mut self,
        swarm: SwarmId,
        peer: SocketAddr,
        until: Duration,
    ) {
        self.retain(swarm, |hold| hold.peer != peer || hold.expires > until);
    }

    /// A bridge has proven itself elsewhere, and is believed to `until` then.
    pub(in crate::registry) fn learn_proven(
        &mut self,
        now: Moment,
        id: BridgeId,
        until: Duration,
        rng: &mut impl Rng,
    ) -> bool {
        let Some(bridge) = self.bridges.get_mut(&id) else {
            return false;
        };
        if until <= now.elapsed || self.doors.doubts(id.address) {
            return false;
        }
        bridge.vouched_until = bridge.vouched_until.max(until);
        self.list_bridge(now.elapsed, id, rng);
        true
    }

    /// A bridge that had proven itself elsewhere no longer did. Where it announces to us we ask it
    /// ourselves.
    pub(in crate::registry) fn learn_unproven(&mut self, now: Moment, id: BridgeId) -> bool {
        let Some(bridge) = self.bridges.get(&id) else {
            return false;
        };
        if bridge.here_until <= now.elapsed {
            self.remove(id);
        }
        true
    }

    /// A bridge had nothing to show at an audit made elsewhere.
    pub(in crate::registry) fn learn_doubted(
        &mut self,
        now: Moment,
        ago: Duration,
        id: BridgeId,
        rng: &mut impl Rng,
    ) -> bool {
        let Some(bridge) = self.bridges.get_mut(&id) else {
            return false;
        };
        bridge.vouched_until = Duration::ZERO;
        let since = bridge.proven_at > now.elapsed.saturating_sub(ago);
        if bridge.listed && !since {
            self.unlist(now.elapsed, id, rng);
        }
        true
    }

    /// A bridge has shown wrong bytes elsewhere.
    pub(in crate::registry) fn learn_barred(
        &mut self,
        now: Moment,
        barring: &Barring,
        left: Duration,
        rng: &mut impl Rng,
    ) {
        let until = now.elapsed.saturating_add(left);
        let lie = barring.lie.clone();
        self.evictions.bar(now.elapsed, barring.barred, until, lie);
        let there = |id: &&BridgeId| match barring.barred {
            Barred::Door(address) => id.address == address,
            Barred::Key(key) => id.key == key,
            Barred::Place(_) => false,
        };
        let there: Vec<BridgeId> = self.bridges.keys().filter(there).copied().collect();
        for id in there {
            self.doors
                .distrust(now.elapsed, &self.config, id.address, rng);
            self.remove(id);
        }
    }

    /// Visitors were sent to a bridge elsewhere, `ago`. `until`: when an offer of that time ends.
    pub(in crate::registry) fn learn_visits(
        &mut self,
        now: Moment,
        ago: Duration,
        until: Duration,
        visits: &Visits,
        rng: &mut impl Rng,
    ) -> bool {
        let Some(bridge) = self.bridges.get_mut(&visits.bridge) else {
            return false;
        };
        bridge.load.add_late(now.elapsed, ago, visits.bits);
        // An offer counts from its announce on.
        let counted = until >= bridge.offered_until;
        if let Some(hits) = bridge.hits_left.as_mut().filter(|_| counted) {
            *hits = hits.saturating_sub(visits.count.into());
        }
        let page = (&visits.page.0, &visits.page.1);
        self.visit(now, visits.bridge, page, rng);
        true
    }

    /// What is known of bridges that can be told now.
    pub(in crate::registry) fn retell(
        &self,
        now: Moment,
        bridge_age: Duration,
        max: usize,
    ) -> Vec<Change> {
        let holds = self.holders.iter();
        let holds = holds.flat_map(|(swarm, holds)| holds.iter().map(move |hold| (swarm, hold)));
        holds
            .filter(|(_, hold)| hold.expires > now.elapsed)
            .filter_map(|(swarm, hold)| {
                let bridge = self.bridges.get(&hold.bridge)?;
                let left = hold.expires.saturating_sub(now.elapsed);
                let lease = bridge.lease_end.map(|end| {
                    let left = end.saturating_sub(now.elapsed).as_secs();
                    now.unix.saturating_add(left)
                });
                let age = bridge_age.saturating_sub(left).as_secs();
                Some(Change::Offer(Box::new(SharedOffer {
                    swarm: *swarm,
                    peer: hold.peer,
                    offer: BridgeOffer {
                        domain: bridge.domain.clone(),
                        until: lease,
                        hits: bridge.hits_left,
                        rate: Some(bridge.rate),
                        key: Some(hold.bridge.key),
                        ..BridgeOffer::new(hold.bridge.address.port())
                    },
                    proven: bridge.listed,
                    // Rounded up: nothing lives longer for being told.
                    age: u32::try_from(age).map_or(u32::MAX, |age| age.saturating_add(1)),
                })))
            })
            .take(max)
            .collect()
    }

    /// Who is barred.
    pub(in crate::registry) fn barrings(&self, now: Moment) -> Vec<Barring> {
        self.evictions.all(now.elapsed).collect()
    }
}
