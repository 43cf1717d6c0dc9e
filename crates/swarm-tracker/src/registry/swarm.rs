//! The peers of one swarm, and the fair choice of those an announce is answered with.
//!
//! A peer is its address: two that announce from one address and port are one. Seeds and leeches
//! are kept apart so that a seed is never told of seeds, and IPv4 apart from IPv6 so that an
//! entry costs no more than its address needs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rand::{Rng, RngExt as _};

use super::Families;
use super::age::{Expiry, Units};
use super::blocks::Entry;
use super::network::{PER_SWARM_MAX, SCAN_MAX, Spread};
use super::pools::{Found, Packed, Pool, Pools};

/// Peers in a block: the more, the fewer places in memory an announce has to look at, and the more
/// of the last block is free. Four cache lines of IPv4.
const BLOCK_V4: usize = 35;

/// As much as 24 bytes a peer allow.
const BLOCK_V6: usize = 12;

/// What an announce does to a swarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Has everything.
    Seed,
    /// Lacks something, or does not know.
    Leech,
}

impl Standing {
    const fn other(self) -> Self {
        match self {
            Self::Seed => Self::Leech,
            Self::Leech => Self::Seed,
        }
    }
}

/// The peers of all swarms.
#[derive(Debug, Default)]
pub(super) struct Room {
    v4: Pools<[u8; 6], BLOCK_V4>,
    v6: Pools<[u8; 18], BLOCK_V6>,
}

/// One swarm; its peers are in the [`Room`] that all its methods are given.
#[derive(Debug, Default)]
pub(super) struct Swarm {
    v4: Family,
    v6: Family,
    /// Downloads completed, as told by `completed` of peers that were leeches here.
    pub(super) downloaded: u32,
}

/// Seeds and leeches of one address family.
#[derive(Debug, Default)]
struct Family {
    leeches: Pool,
    seeds: Pool,
}

/// What came of a peer that was to be put in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Put {
    /// It was in as this, and is renewed.
    Renewed(Standing),
    /// It was not.
    New,
    /// It was not and is not: there was to be no more.
    Full,
    /// It was not and is not: its network has enough in this swarm.
    Crowded,
}

fn pack_v4(ip: Ipv4Addr, port: u16) -> [u8; 6] {
    let [a, b, c, d] = ip.octets();
    let [high, low] = port.to_be_bytes();
    [a, b, c, d, high, low]
}

fn pack_v6(ip: Ipv6Addr, port: u16) -> [u8; 18] {
    let mut packed = [0; 18];
    packed[..16].copy_from_slice(&ip.octets());
    packed[16..].copy_from_slice(&port.to_be_bytes());
    packed
}

impl Swarm {
    /// Puts a peer in, or renews it, until `expires`; a new one only where there is `space`.
    pub(super) fn put(
        &mut self,
        room: &mut Room,
        peer: SocketAddr,
        standing: Standing,
        expires: Expiry,
        space: bool,
    ) -> Put {
        match peer.ip() {
            IpAddr::V4(ip) => {
                let peer = pack_v4(ip, peer.port());
                let entry = Entry { peer, expires };
                self.v4.put(&mut room.v4, entry, standing, space)
            }
            IpAddr::V6(ip) => {
                let peer = pack_v6(ip, peer.port());
                let entry = Entry { peer, expires };
                self.v6.put(&mut room.v6, entry, standing, space)
            }
        }
    }

    /// Takes a peer out. Returns whether it was in.
    pub(super) fn remove(&mut self, room: &mut Room, peer: SocketAddr) -> bool {
        match peer.ip() {
            IpAddr::V4(ip) => self.v4.remove(&mut room.v4, &pack_v4(ip, peer.port())),
            IpAddr::V6(ip) => self.v6.remove(&mut room.v6, &pack_v6(ip, peer.port())),
        }
    }

    /// Takes out all peers whose time is over. Returns how many.
    pub(super) fn sweep(&mut self, room: &mut Room, now: Units) -> usize {
        self.v4.sweep(&mut room.v4, now) + self.v6.sweep(&mut room.v6, now)
    }

    /// Takes out all peers. Returns how many.
    pub(super) fn clear(&mut self, room: &mut Room) -> usize {
        self.v4.clear(&mut room.v4) + self.v6.clear(&mut room.v6)
    }

    /// Moves all peers of `other` in; its completions count here. Returns how many of them were
    /// in both.
    pub(super) fn absorb(&mut self, room: &mut Room, mut other: Self) -> usize {
        self.downloaded = self.downloaded.saturating_add(other.downloaded);
        self.v4.absorb(&mut room.v4, &mut other.v4) + self.v6.absorb(&mut room.v6, &mut other.v6)
    }

    /// How many seeds.
    pub(super) fn seeds(&self, room: &Room) -> usize {
        room.v4.len(&self.v4.seeds) + room.v6.len(&self.v6.seeds)
    }

    /// How many leeches.
    pub(super) fn leeches(&self, room: &Room) -> usize {
        room.v4.len(&self.v4.leeches) + room.v6.len(&self.v6.leeches)
    }

    /// How many peers.
    pub(super) fn len(&self, room: &Room) -> usize {
        self.seeds(room) + self.leeches(room)
    }

    /// Up to `wanted` peers for `asking`: leeches only for a seed, never itself, its own address
    /// family first, each as likely as any other.
    pub(super) fn sample(
        &self,
        room: &Room,
        asking: SocketAddr,
        standing: Standing,
        wanted: usize,
        families: Families,
        rng: &mut impl Rng,
    ) -> Vec<SocketAddr> {
        let mut peers = Vec::with_capacity(wanted.min(self.len(room)));
        let seeds_too = standing == Standing::Leech;
        let order = match asking.is_ipv4() {
            true => [false, true],
            false => [true, false],
        };
        let families = match families {
            Families::Both => &order[..],
            Families::Own => &order[..1],
        };
        let mut choice = Choice {
            asking,
            seeds_too,
            wanted,
            spread: Spread::new(wanted),
            peers: &mut peers,
        };
        for v6 in families {
            match v6 {
                false => choice.take(&room.v4, &self.v4, rng),
                true => choice.take(&room.v6, &self.v6, rng),
            }
        }
        peers
    }
}

impl Room {
    /// Gives memory back that peers who left have held, where that is much. `swarms` are all that
    /// there are.
    pub(super) fn tidy<'s>(&mut self, swarms: impl Iterator<Item = &'s mut Swarm>) {
        let (mut v4, mut v6) = (self.v4.begin_tidy(), self.v6.begin_tidy());
        if v4.is_none() && v6.is_none() {
            return;
        }
        for swarm in swarms {
            if let Some(tidy) = &mut v4 {
                tidy.pool(&mut swarm.v4.leeches);
                tidy.pool(&mut swarm.v4.seeds);
            }
            if let Some(tidy) = &mut v6 {
                tidy.pool(&mut swarm.v6.leeches);
                tidy.pool(&mut swarm.v6.seeds);
            }
        }
        if let Some(tidy) = v4 {
            tidy.end();
        }
        if let Some(tidy) = v6 {
            tidy.end();
        }
    }

    /// Bytes of memory.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.v4.bytes() + self.v6.bytes()
    }
}

impl Family {
    fn find<A: Packed, const K: usize>(
        &self,
        pools: &Pools<A, K>,
        peer: &A,
        likely: Standing,
    ) -> Option<(Standing, Found)> {
        let (first, other) = match likely {
            Standing::Seed => (&self.seeds, &self.leeches),
            Standing::Leech => (&self.leeches, &self.seeds),
        };
        if let Some(found) = pools.find(first, peer) {
            return Some((likely, found));
        }
        let found = pools.find(other, peer)?;
        Some((likely.other(), found))
    }

    fn pool(&mut self, standing: Standing) -> &mut Pool {
        match standing {
            Standing::Seed => &mut self.seeds,
            Standing::Leech => &mut self.leeches,
        }
    }

    fn put<A: Packed, const K: usize>(
        &mut self,
        pools: &mut Pools<A, K>,
        entry: Entry<A>,
        standing: Standing,
        space: bool,
    ) -> Put {
        let put = match self.find(pools, &entry.peer, standing) {
            Some((before, found)) if before == standing => {
                pools.renew(found, entry.expires);
                return Put::Renewed(before);
            }
            Some((before, found)) => {
                pools.remove(self.pool(before), found);
                Put::Renewed(before)
            }
            None if !space => return Put::Full,
            None if self.is_crowded(pools, &entry.peer) => return Put::Crowded,
            None => Put::New,
        };
        pools.insert(self.pool(standing), entry);
        put
    }

    /// Whether no more peers of this one's network are to be taken.
    fn is_crowded<A: Packed, const K: usize>(&self, pools: &Pools<A, K>, peer: &A) -> bool {
        pools.len(&self.leeches) + pools.len(&self.seeds) >= PER_SWARM_MAX
            && pools.count_network(&self.leeches, peer) + pools.count_network(&self.seeds, peer)
                >= PER_SWARM_MAX
    }

    fn remove<A: Packed, const K: usize>(&mut self, pools: &mut Pools<A, K>, peer: &A) -> bool {
        let Some((standing, found)) = self.find(pools, peer, Standing::Leech) else {
            return false;
        };
        pools.remove(self.pool(standing), found);
        true
    }

    fn sweep<A: Packed, const K: usize>(&mut self, pools: &mut Pools<A, K>, now: Units) -> usize {
        pools.sweep(&mut self.leeches, now) + pools.sweep(&mut self.seeds, now)
    }

    fn clear<A: Packed, const K: usize>(&mut self, pools: &mut Pools<A, K>) -> usize {
        pools.clear(&mut self.leeches) + pools.clear(&mut self.seeds)
    }

    fn absorb<A: Packed, const K: usize>(
        &mut self,
        pools: &mut Pools<A, K>,
        other: &mut Self,
    ) -> usize {
        let mut twice = 0;
        for standing in [Standing::Leech, Standing::Seed] {
            let pool = other.pool(standing);
            let entries: Vec<Entry<A>> = pools.entries(pool).copied().collect();
            pools.clear(pool);
            for entry in entries {
                if let Some((before, found)) = self.find(pools, &entry.peer, standing) {
                    pools.remove(self.pool(before), found);
                    twice += 1;
                }
                pools.insert(self.pool(standing), entry);
            }
        }
        twice
    }
}

/// A choice of peers for one reply.
struct Choice<'p> {
    asking: SocketAddr,
    seeds_too: bool,
    wanted: usize,
    spread: Spread,
    peers: &'p mut Vec<SocketAddr>,
}

impl Choice<'_> {
    /// A window at a random place in the ring of leeches, then seeds: removal and arrival keep the
    /// ring mixed, so neighbours mean nothing, and every peer is in a window equally often. Peers
    /// of a network that has its share come in only where nobody else is left (T17).
    fn take<A: Packed, const K: usize>(
        &mut self,
        pools: &Pools<A, K>,
        family: &Family,
        rng: &mut impl Rng,
    ) {
        let leeches = pools.len(&family.leeches);
        let seeds = if self.seeds_too {
            pools.len(&family.seeds)
        } else {
            0
        };
        if leeches + seeds == 0 || self.peers.len() >= self.wanted {
            return;
        }
        let (first, other) = match rng.random_range(0..leeches + seeds) {
            at if at < leeches => (&family.leeches, &family.seeds),
            _ => (&family.seeds, &family.leeches),
        };
        let Some(start) = pools.start(first, rng) else {
            return;
        };
        let other = self.seeds_too.then(|| pools.entries(other));
        let ring = pools.from(first, start);
        let ring = ring.chain(other.into_iter().flatten());
        let ring = ring.chain(pools.until(first, start));
        let mut crowded = Vec::new();
        for entry in ring.take(SCAN_MAX) {
            if self.peers.len() >= self.wanted {
                return;
            }
            let peer = entry.peer.unpack();
            if peer == self.asking {
                continue;
            }
            if self.spread.take(peer.ip()) {
                self.peers.push(peer);
            } else if crowded.len() < self.wanted {
                crowded.push(peer);
            }
        }
        crowded.truncate(self.wanted.saturating_sub(self.peers.len()));
        self.peers.append(&mut crowded);
    }
}

mod shared;
#[cfg(test)]
mod tests;
