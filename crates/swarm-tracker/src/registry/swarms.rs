//! All swarms by their ids.

use std::collections::HashMap;

use swarm_proto::id::SwarmId;

use super::age::Units;
use super::swarm::{Room, Swarm};

/// All swarms, and their peers.
#[derive(Debug, Default)]
pub(super) struct Swarms {
    by_id: HashMap<SwarmId, Swarm>,
    room: Room,
    swept: Units,
}

impl Swarms {
    /// How many swarms.
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// A swarm, if it is known.
    pub(super) fn get(&self, id: &SwarmId) -> Option<(&Swarm, &Room)> {
        Some((self.by_id.get(id)?, &self.room))
    }

    /// The ids of all swarms.
    pub(super) fn ids(&self) -> impl Iterator<Item = SwarmId> {
        self.by_id.keys().copied()
    }

    /// A swarm to be changed, if it is known.
    pub(super) fn get_mut(&mut self, id: &SwarmId) -> Option<(&mut Swarm, &mut Room)> {
        Some((self.by_id.get_mut(id)?, &mut self.room))
    }

    /// A swarm to be changed, known from now on.
    pub(super) fn open(&mut self, id: SwarmId) -> (&mut Swarm, &mut Room) {
        (self.by_id.entry(id).or_default(), &mut self.room)
    }

    /// Whether a swarm is known that has no peers.
    pub(super) fn is_idle(&self, id: &SwarmId) -> bool {
        (self.by_id.get(id)).is_some_and(|swarm| swarm.len(&self.room) == 0)
    }

    /// Forgets a swarm; returns how many peers it had.
    pub(super) fn remove(&mut self, id: &SwarmId) -> usize {
        let swarm = self.by_id.remove(id);
        swarm.map_or(0, |mut swarm| swarm.clear(&mut self.room))
    }

    /// Makes the swarm of `other` part of that of `id`; returns how many peers were in both.
    pub(super) fn join(&mut self, id: SwarmId, other: &SwarmId) -> usize {
        let other = self.by_id.remove(other);
        let swarm = self.by_id.entry(id).or_default();
        other.map_or(0, |other| swarm.absorb(&mut self.room, other))
    }

    /// Forgets peers whose time is over, and swarms without peers but those of `keep`; returns how
    /// many peers that were. Memory that is much more than those need which remain is given back.
    pub(super) fn sweep(&mut self, now: Units, keep: impl Fn(&SwarmId) -> bool) -> usize {
        let all_over = std::mem::replace(&mut self.swept, now).is_age_before(now);
        let (room, mut gone) = (&mut self.room, 0);
        self.by_id.retain(|id, swarm| {
            gone += if all_over {
                swarm.clear(room)
            } else {
                swarm.sweep(room, now)
            };
            swarm.len(room) > 0 || keep(id)
        });
        if self.by_id.capacity() / 4 > self.by_id.len() {
            self.by_id.shrink_to_fit();
        }
        room.tidy(self.by_id.values_mut());
        gone
    }

    /// Bytes of memory.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        // As hashbrown has it: eight buckets for seven entries, and a byte to each.
        let buckets = (self.by_id.capacity() * 8 / 7).next_power_of_two();
        self.room.bytes() + buckets * (size_of::<(SwarmId, Swarm)>() + 1)
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use super::*;
    use crate::registry::Moment;
    use crate::registry::age::AgeClock;
    use crate::registry::swarm::{Put, Standing};

    const SWARMS: u32 = 1000;
    const PEERS: u32 = 100;

    fn id(n: u32) -> SwarmId {
        let mut id = [7; 20];
        id[..4].copy_from_slice(&n.wrapping_mul(0x9e37_79b1).to_be_bytes());
        SwarmId::new(id)
    }

    fn peer(v6: bool, n: u32) -> SocketAddr {
        let [a, b, c, d] = n.to_be_bytes();
        match v6 {
            false => SocketAddr::from(([11 + a, b, c, d], 6881)),
            true => SocketAddr::from((
                [0x2a00, a.into(), b.into(), c.into(), 0, 0, 0, d.into()],
                6881,
            )),
        }
    }

    fn moment(secs: u64) -> Moment {
        Moment {
            elapsed: Duration::from_secs(secs),
            unix: 0,
        }
    }

    #[test]
    fn a_peer_costs_16_bytes_or_24_and_none_once_it_has_left() {
        let clock = AgeClock::new(Duration::from_secs(300));
        for (v6, most) in [(false, 16), (true, 24)] {
            let mut swarms = Swarms::default();
            // All swarms grow together, as at a tracker that was started just now.
            for n in 0..PEERS {
                for swarm in 0..SWARMS {
                    let (swarm, room) = swarms.open(id(swarm));
                    let standing = if n % 10 < 3 {
                        Standing::Seed
                    } else {
                        Standing::Leech
                    };
                    // One of ten lives on.
                    let age = if n % 10 == 0 { 300 } else { 75 };
                    let expires = clock.expiry(moment(0), Duration::from_secs(age));
                    let put = swarm.put(room, peer(v6, n), standing, expires, true);
                    assert_eq!(put, Put::New);
                }
            }
            let full = swarms.bytes();
            assert!(full <= (SWARMS * PEERS * most) as usize, "{full}");
            let gone = swarms.sweep(clock.units(moment(100)), |_| false);
            assert_eq!(gone, (SWARMS * PEERS) as usize / 10 * 9);
            let fewer = swarms.bytes();
            // A block for each swarm, and the swarms themselves.
            assert!(fewer < full / 2, "{fewer} of {full} are still held");
            for n in (0..PEERS).step_by(10) {
                for swarm in 0..SWARMS {
                    let (swarm, room) = swarms.get_mut(&id(swarm)).expect("known");
                    assert!(swarm.remove(room, peer(v6, n)), "{n} lives on");
                }
            }
            swarms.sweep(clock.units(moment(101)), |_| false);
            assert_eq!(swarms.len(), 0);
            assert!(
                swarms.bytes() < 20_000,
                "{} are held for nobody",
                swarms.bytes()
            );
        }
    }

    #[test]
    fn after_a_long_pause_nobody_is_left() {
        // So long that the age of who is over looks young again.
        let clock = AgeClock::new(Duration::from_secs(300));
        for pause in (400..20_000).step_by(37) {
            let mut swarms = Swarms::default();
            let (swarm, room) = swarms.open(id(1));
            let expires = clock.expiry(moment(0), Duration::from_secs(300));
            swarm.put(room, peer(false, 1), Standing::Seed, expires, true);
            assert_eq!(
                swarms.sweep(clock.units(moment(pause)), |_| true),
                1,
                "{pause}"
            );
        }
    }
}
