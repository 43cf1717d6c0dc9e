//! What happened at another tracker is taken up here.
//!
//! What is known here of a later time wins: entries are read late at a start, and announces go on
//! meanwhile. All bounds of this tracker hold for what others tell, too.

use std::time::Duration;

use swarm_proto::tracker::BridgeOffer;

use super::{Barring, Change, PeerChange, PeerState, SharedOffer};
use crate::registry::swarm::{Put, Standing};
use crate::registry::volunteer::Announced;
use crate::registry::{Moment, Registry};

fn seconds(age: u32) -> Duration {
    Duration::from_secs(age.into())
}

impl Registry {
    /// Takes up an announce that was told `ago`. Returns whether it is of use here.
    pub(crate) fn apply_peer(&mut self, now: Moment, ago: Duration, said: &PeerChange) -> bool {
        let Ok((id, _)) = self.admit(now, &said.swarm) else {
            return false;
        };
        let announce = &self.config.announce;
        if said.peer.port() < announce.port_min {
            return false;
        }
        let age = match said.bridge {
            true => announce.bridge_age,
            false => announce.peer_age,
        };
        let left = age.saturating_sub(ago.saturating_add(seconds(said.age)));
        if left.is_zero() {
            return true;
        }
        let expires = self.ages.expiry(now, left);
        let units = self.ages.units(now);
        let known = self.swarms.get(&id);
        let known = known.and_then(|(swarm, room)| swarm.expiry_of(room, said.peer));
        if known.is_some_and(|known| known.left(units) > expires.left(units)) {
            // It announced here since.
            return true;
        }
        let standing = match said.state {
            PeerState::Seed => Standing::Seed,
            PeerState::Leech => Standing::Leech,
            PeerState::Gone => {
                if known.is_some() {
                    self.forget_peer(id, said.peer);
                }
                return true;
            }
        };
        let space = self.peers + self.web.len() < announce.peers_max;
        let (swarm, room) = if space {
            self.swarms.open(id)
        } else {
            match self.swarms.get_mut(&id) {
                Some(known) => known,
                None => return false,
            }
        };
        match swarm.put(room, said.peer, standing, expires, space) {
            Put::New => self.peers += 1,
            Put::Renewed(_) => {}
            Put::Full | Put::Crowded => return false,
        }
        if said.completed {
            swarm.downloaded = swarm.downloaded.saturating_add(1);
        }
        true
    }

    /// Takes up something else that was told `ago`. Returns whether it is of use here. What sites
    /// have to say is in the store itself, and is checked as if they had sent it.
    pub(crate) fn apply(&mut self, now: Moment, ago: Duration, change: &Change) -> bool {
        let left = self.config.announce.bridge_age.saturating_sub(ago);
        let until = now.elapsed.saturating_add(left);
        let (volunteers, rng) = (&mut self.volunteers, &mut self.rng);
        match change {
            Change::Offer(said) => self.apply_offer(now, ago, said),
            Change::Withdrawn { swarm, peer } => {
                let Some(id) = self.bundles.canonical(swarm) else {
                    return false;
                };
                volunteers.learn_withdrawn(id, *peer, until);
                true
            }
            Change::Proven(bridge) => volunteers.learn_proven(now, *bridge, until, rng),
            Change::Unproven(bridge) => volunteers.learn_unproven(now, *bridge),
            Change::Doubted(bridge) => volunteers.learn_doubted(now, ago, *bridge, rng),
            Change::Barred(barring) => self.apply_barring(now, ago, barring),
            Change::Visits(visits) => volunteers.learn_visits(now, ago, until, visits, rng),
            Change::Site(_) | Change::Alarm(_) => false,
        }
    }

    fn apply_offer(&mut self, now: Moment, ago: Duration, said: &SharedOffer) -> bool {
        let Some(id) = self.bundles.canonical(&said.swarm) else {
            return false;
        };
        let ago = ago.saturating_add(seconds(said.age));
        let left = self.config.announce.bridge_age.saturating_sub(ago);
        if left.is_zero() {
            return true;
        }
        if self.is_barred(now, said.peer, &said.offer) {
            return false;
        }
        let domain = said.offer.domain.as_deref();
        let announced = Announced {
            swarm: id,
            peer: said.peer,
            offer: &said.offer,
            domain: domain.filter(|domain| self.may_name(said.peer.ip(), domain)),
            expires: now.elapsed.saturating_add(left),
            tracker: None,
        };
        self.volunteers
            .learn_offer(now, announced, said.proven, &mut self.rng)
    }

    fn apply_barring(&mut self, now: Moment, ago: Duration, barring: &Barring) -> bool {
        let lasts = seconds(barring.left).min(self.config.volunteers.eviction);
        let left = lasts.saturating_sub(ago);
        if left.is_zero() {
            return true;
        }
        let lie = barring.lie.as_ref();
        let site = lie.and_then(|lie| self.sites.get(&lie.site));
        // Of a manifest that the other tracker had not seen yet.
        let vouched = lie.zip(site);
        if vouched.is_some_and(|(lie, site)| site.vouches_for(&lie.path, &lie.shown)) {
            return false;
        }
        self.volunteers
            .learn_barred(now, barring, left, &mut self.rng);
        true
    }

    /// Whether the bridge of an offer is evicted. What it showed may turn out to have been of a
    /// manifest that was not known here yet; then it is excused.
    pub(in crate::registry) fn is_barred(
        &mut self,
        now: Moment,
        peer: std::net::SocketAddr,
        offer: &BridgeOffer,
    ) -> bool {
        let Some(lie) = self.volunteers.bars(now, peer, offer) else {
            return false;
        };
        let site = lie.as_ref().and_then(|lie| self.sites.get(&lie.site));
        match (lie, site) {
            (Some(lie), Some(site)) if site.vouches_for(&lie.path, &lie.shown) => {
                self.volunteers.excuse(&lie);
                false
            }
            _ => true,
        }
    }
}
