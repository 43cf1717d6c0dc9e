//! The peers of one swarm, and the fair choice of those an announce is answered with.
//!
//! A peer is its address: two that announce from one address and port are one. Seeds and leeches
//! are kept apart so that a seed is never told of seeds, and IPv4 apart from IPv6 so that an
//! entry costs no more than its address needs.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rand::{Rng, RngExt as _};

use super::Families;
use super::network::{Crowds, PER_SWARM_MAX, SCAN_MAX, Spread};

/// Seconds since the registry was made. Four bytes a peer instead of sixteen; 136 years.
pub(super) type Tick = u32;

/// What an announce does to a swarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Has everything.
    Seed,
    /// Lacks something, or does not know.
    Leech,
}

/// The peers of one swarm.
#[derive(Debug, Default)]
pub(super) struct SwarmPeers {
    v4: Family<[u8; 6]>,
    v6: Family<[u8; 18]>,
    /// Kept from the size on that makes a difference.
    crowds: Option<Box<Crowds>>,
    /// Downloads completed, as told by `completed` of peers that were leeches here.
    pub(super) downloaded: u32,
}

/// Seeds and leeches of one address family.
#[derive(Debug)]
struct Family<A> {
    seeds: Pool<A>,
    leeches: Pool<A>,
}

/// A set with O(1) insertion, removal and choice at random: dense entries and an index to them.
#[derive(Debug)]
struct Pool<A> {
    entries: Vec<(A, Tick)>,
    index: HashMap<A, u32>,
}

/// An address as it is stored: the bytes of compact peers (BEP 23 and 7).
trait Packed: Copy + Eq + Hash {
    fn unpack(self) -> SocketAddr;
}

impl Packed for [u8; 6] {
    fn unpack(self) -> SocketAddr {
        let [a, b, c, d, high, low] = self;
        SocketAddr::new(
            Ipv4Addr::new(a, b, c, d).into(),
            u16::from_be_bytes([high, low]),
        )
    }
}

impl Packed for [u8; 18] {
    fn unpack(self) -> SocketAddr {
        let [ip @ .., high, low] = self;
        SocketAddr::new(Ipv6Addr::from(ip).into(), u16::from_be_bytes([high, low]))
    }
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

impl SwarmPeers {
    /// Whether the peer is known, and as what.
    pub(super) fn standing(&self, peer: SocketAddr) -> Option<Standing> {
        match peer.ip() {
            IpAddr::V4(ip) => self.v4.standing(&pack_v4(ip, peer.port())),
            IpAddr::V6(ip) => self.v6.standing(&pack_v6(ip, peer.port())),
        }
    }

    /// Puts a peer in, or renews it, until the tick `expires`. `false`: it is new, and its network
    /// has enough in this swarm.
    pub(super) fn insert(&mut self, peer: SocketAddr, standing: Standing, expires: Tick) -> bool {
        let ip = peer.ip();
        if self.crowds.is_none() && self.len() >= usize::from(PER_SWARM_MAX) {
            self.count_crowds();
        }
        if let Some(crowds) = &self.crowds
            && crowds.is_full(ip)
            && self.standing(peer).is_none()
        {
            return false;
        }
        let before = self.len();
        match ip {
            IpAddr::V4(ip) => self.v4.insert(pack_v4(ip, peer.port()), standing, expires),
            IpAddr::V6(ip) => self.v6.insert(pack_v6(ip, peer.port()), standing, expires),
        }
        if self.len() > before
            && let Some(crowds) = &mut self.crowds
        {
            crowds.add(ip);
        }
        true
    }

    /// Counts anew, or no more where the swarm has become small.
    fn count_crowds(&mut self) {
        let v4 = self.v4.addresses();
        let crowds = (self.len() >= usize::from(PER_SWARM_MAX) / 2)
            .then(|| Box::new(Crowds::of(v4.chain(self.v6.addresses()))));
        self.crowds = crowds;
    }

    /// Takes a peer out. Returns whether it was in.
    pub(super) fn remove(&mut self, peer: SocketAddr) -> bool {
        let was_in = match peer.ip() {
            IpAddr::V4(ip) => self.v4.remove(&pack_v4(ip, peer.port())),
            IpAddr::V6(ip) => self.v6.remove(&pack_v6(ip, peer.port())),
        };
        if was_in && let Some(crowds) = &mut self.crowds {
            crowds.remove(peer.ip());
        }
        was_in
    }

    /// Takes out all peers whose tick has come. Returns how many.
    pub(super) fn sweep(&mut self, now: Tick) -> usize {
        let gone = self.v4.sweep(now) + self.v6.sweep(now);
        if gone > 0 && self.crowds.is_some() {
            self.count_crowds();
        }
        gone
    }

    /// Moves all peers of `other` in; its completions count here. Returns how many of them were
    /// in both.
    pub(super) fn absorb(&mut self, other: SwarmPeers) -> usize {
        self.downloaded = self.downloaded.saturating_add(other.downloaded);
        let twice = self.v4.absorb(other.v4) + self.v6.absorb(other.v6);
        self.count_crowds();
        twice
    }

    /// How many seeds.
    pub(super) fn seeds(&self) -> usize {
        self.v4.seeds.len() + self.v6.seeds.len()
    }

    /// How many leeches.
    pub(super) fn leeches(&self) -> usize {
        self.v4.leeches.len() + self.v6.leeches.len()
    }

    /// How many peers.
    pub(super) fn len(&self) -> usize {
        self.seeds() + self.leeches()
    }

    /// Up to `wanted` peers for `asking`: leeches only for a seed, never itself, its own address
    /// family first, each as likely as any other.
    pub(super) fn sample(
        &self,
        asking: SocketAddr,
        standing: Standing,
        wanted: usize,
        families: Families,
        rng: &mut impl Rng,
    ) -> Vec<SocketAddr> {
        let mut peers = Vec::with_capacity(wanted.min(self.len()));
        let seeds_too = standing == Standing::Leech;
        let order = match asking.is_ipv4() {
            true => [false, true],
            false => [true, false],
        };
        let families = match families {
            Families::Both => &order[..],
            Families::Own => &order[..1],
        };
        let mut spread = Spread::new(wanted);
        for v6 in families {
            let spread = &mut spread;
            match v6 {
                false => (self.v4).sample(asking, seeds_too, wanted, &mut peers, spread, rng),
                true => (self.v6).sample(asking, seeds_too, wanted, &mut peers, spread, rng),
            }
        }
        peers
    }
}

impl<A: Packed> Family<A> {
    fn standing(&self, peer: &A) -> Option<Standing> {
        if self.leeches.index.contains_key(peer) {
            Some(Standing::Leech)
        } else if self.seeds.index.contains_key(peer) {
            Some(Standing::Seed)
        } else {
            None
        }
    }

    fn insert(&mut self, peer: A, standing: Standing, expires: Tick) {
        let (to, from) = match standing {
            Standing::Seed => (&mut self.seeds, &mut self.leeches),
            Standing::Leech => (&mut self.leeches, &mut self.seeds),
        };
        if !to.insert(peer, expires) {
            from.remove(&peer);
        }
    }

    fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let all = self.leeches.entries.iter().chain(&self.seeds.entries);
        all.map(|(peer, _)| peer.unpack().ip())
    }

    fn remove(&mut self, peer: &A) -> bool {
        self.seeds.remove(peer) || self.leeches.remove(peer)
    }

    fn sweep(&mut self, now: Tick) -> usize {
        self.seeds.sweep(now) + self.leeches.sweep(now)
    }

    fn absorb(&mut self, other: Self) -> usize {
        let mut twice = 0;
        for (pool, standing) in [
            (other.leeches, Standing::Leech),
            (other.seeds, Standing::Seed),
        ] {
            for (peer, expires) in pool.entries {
                if self.standing(&peer).is_some() {
                    twice += 1;
                }
                self.insert(peer, standing, expires);
            }
        }
        twice
    }

    /// A window at a random place in the ring of leeches, then seeds: swap-removal and arrival
    /// keep the ring mixed, so neighbours mean nothing, and every peer is in a window equally
    /// often. Peers of a network that has its share come in only where nobody else is left (T17).
    fn sample(
        &self,
        asking: SocketAddr,
        seeds_too: bool,
        wanted: usize,
        peers: &mut Vec<SocketAddr>,
        spread: &mut Spread,
        rng: &mut impl Rng,
    ) {
        let leeches = self.leeches.len();
        let total = leeches + if seeds_too { self.seeds.len() } else { 0 };
        if total == 0 || peers.len() >= wanted {
            return;
        }
        let start = rng.random_range(0..total);
        let ring = self.leeches.entries.iter().chain(&self.seeds.entries);
        let ring = ring.take(total);
        let mut crowded = Vec::new();
        let ring = ring.clone().skip(start).chain(ring.take(start));
        for (peer, _) in ring.take(SCAN_MAX) {
            if peers.len() >= wanted {
                return;
            }
            let peer = peer.unpack();
            if peer == asking {
                continue;
            }
            if spread.take(peer.ip()) {
                peers.push(peer);
            } else if crowded.len() < wanted {
                crowded.push(peer);
            }
        }
        crowded.truncate(wanted.saturating_sub(peers.len()));
        peers.append(&mut crowded);
    }
}

impl<A> Default for Family<A> {
    fn default() -> Self {
        Self {
            seeds: Pool::default(),
            leeches: Pool::default(),
        }
    }
}

impl<A> Default for Pool<A> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            index: HashMap::new(),
        }
    }
}

impl<A> Pool<A> {
    fn len(&self) -> usize {
        self.entries.len()
    }
}

impl<A: Packed> Pool<A> {
    /// Returns whether it was in already.
    fn insert(&mut self, peer: A, expires: Tick) -> bool {
        if let Some(&at) = self.index.get(&peer) {
            if let Some(entry) = self.entries.get_mut(at as usize) {
                entry.1 = expires;
            }
            return true;
        }
        // The registry's own limit on peers is far below 2^32.
        let at = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        self.entries.push((peer, expires));
        self.index.insert(peer, at);
        false
    }

    fn remove(&mut self, peer: &A) -> bool {
        let Some(at) = self.index.remove(peer) else {
            return false;
        };
        self.entries.swap_remove(at as usize);
        if let Some((moved, _)) = self.entries.get(at as usize) {
            self.index.insert(*moved, at);
        }
        true
    }

    fn sweep(&mut self, now: Tick) -> usize {
        let before = self.entries.len();
        self.entries.retain(|(_, expires)| *expires > now);
        let gone = before - self.entries.len();
        if gone > 0 {
            self.index.clear();
            self.index.extend(
                self.entries
                    .iter()
                    .zip(0..)
                    .map(|((peer, _), at)| (*peer, at)),
            );
            if self.entries.capacity() / 4 > self.entries.len() {
                self.entries.shrink_to_fit();
                self.index.shrink_to_fit();
            }
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use rand::SeedableRng as _;
    use rand::rngs::SmallRng;

    use super::*;

    fn v4(n: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], n))
    }

    fn v6(n: u16) -> SocketAddr {
        SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], n))
    }

    fn rng() -> SmallRng {
        SmallRng::seed_from_u64(1)
    }

    #[test]
    fn seeds_are_not_given_to_seeds() {
        let mut swarm = SwarmPeers::default();
        for n in 1..=5 {
            swarm.insert(v4(n), Standing::Seed, 9);
            swarm.insert(v6(n), Standing::Seed, 9);
        }
        swarm.insert(v4(6), Standing::Leech, 9);
        assert_eq!(
            swarm.sample(v4(1), Standing::Seed, 50, Families::Both, &mut rng()),
            [v4(6)]
        );
        assert_eq!(
            swarm
                .sample(v4(6), Standing::Leech, 50, Families::Both, &mut rng())
                .len(),
            10
        );
    }

    #[test]
    fn own_family_comes_first_and_the_other_fills_up() {
        let mut swarm = SwarmPeers::default();
        for n in 1..=4 {
            swarm.insert(v4(n), Standing::Leech, 9);
            swarm.insert(v6(n), Standing::Leech, 9);
        }
        let found = swarm.sample(v6(1), Standing::Leech, 5, Families::Both, &mut rng());
        assert_eq!(found.iter().filter(|peer| peer.is_ipv6()).count(), 3);
        assert_eq!(found.len(), 5);
        assert!(!found.contains(&v6(1)), "itself");
    }

    #[test]
    fn every_peer_is_chosen_equally_often() {
        let mut swarm = SwarmPeers::default();
        for n in 1..=100 {
            let standing = if n % 3 == 0 {
                Standing::Seed
            } else {
                Standing::Leech
            };
            swarm.insert(v4(n), standing, 9);
        }
        let (mut rng, mut seen) = (rng(), HashMap::new());
        for _ in 0..20_000 {
            let found = swarm.sample(v4(999), Standing::Leech, 10, Families::Both, &mut rng);
            assert_eq!(found.len(), 10);
            for peer in found {
                *seen.entry(peer).or_insert(0_u32) += 1;
            }
        }
        // 2,000 expected each; 5 standard deviations are some 210.
        assert_eq!(seen.len(), 100);
        assert!(
            seen.values().all(|n| (1_750..2_250).contains(n)),
            "{seen:?}"
        );
    }

    #[test]
    fn a_peer_is_seed_or_leech_never_both() {
        let mut swarm = SwarmPeers::default();
        swarm.insert(v4(1), Standing::Leech, 9);
        swarm.insert(v4(1), Standing::Seed, 9);
        assert_eq!((swarm.seeds(), swarm.leeches()), (1, 0));
        assert_eq!(swarm.standing(v4(1)), Some(Standing::Seed));
        swarm.insert(v4(1), Standing::Leech, 9);
        assert_eq!((swarm.seeds(), swarm.leeches()), (0, 1));
        assert!(swarm.remove(v4(1)) && !swarm.remove(v4(1)));
        assert_eq!(swarm.len(), 0);
    }

    #[test]
    fn index_survives_removal_and_sweep() {
        let mut swarm = SwarmPeers::default();
        for n in 1..=200 {
            swarm.insert(v4(n), Standing::Leech, Tick::from(n));
        }
        for n in (1..=200).step_by(3) {
            assert!(swarm.remove(v4(n)));
        }
        // 34 of 1..=100 are gone already.
        assert_eq!(swarm.sweep(100), 66);
        for n in 1..=200 {
            let kept = n > 100 && n % 3 != 1;
            assert_eq!(swarm.remove(v4(n)), kept, "{n}");
        }
        assert_eq!(swarm.len(), 0);
    }

    #[test]
    fn t17_fakes_of_four_networks_leave_half_of_each_reply_to_others() {
        let mut swarm = SwarmPeers::default();
        let fake = |n: u32| {
            let ip = [198, 51, 100 + (n % 4) as u8, (n >> 2) as u8];
            SocketAddr::from((ip, 1024 + (n >> 10) as u16))
        };
        let honest = |n: u16| SocketAddr::from(([8, (n >> 8) as u8, n as u8, 1], 6881));
        let mut kept = 0;
        for n in 0..1_000_000 {
            kept += u32::from(swarm.insert(fake(n), Standing::Seed, 9));
            if n % 10_000 == 0 {
                let new = swarm.insert(honest((n / 10_000) as u16), Standing::Leech, 9);
                assert!(new, "nobody else is kept out");
            }
        }
        assert_eq!(kept, 4 * u32::from(PER_SWARM_MAX));
        assert_eq!(swarm.len(), kept as usize + 100);
        let mut rng = rng();
        for n in 0..1000 {
            let asking = honest(200 + n);
            let found = swarm.sample(asking, Standing::Leech, 50, Families::Both, &mut rng);
            let good = found.iter().filter(|peer| peer.port() == 6881).count();
            assert!(found.len() == 50 && good >= 25, "{good} of {}", found.len());
        }
        // One that is in is renewed, whoever else is; and whoever leaves makes room.
        assert!(swarm.insert(fake(0), Standing::Leech, 9));
        assert!(!swarm.insert(fake(999_996), Standing::Seed, 9));
        assert!(swarm.remove(fake(0)));
        assert!(swarm.insert(fake(999_996), Standing::Seed, 9));
        assert_eq!(
            swarm.sweep(9),
            swarm.downloaded as usize + kept as usize + 100
        );
        assert!(
            swarm.crowds.is_none(),
            "nothing is counted in a small swarm"
        );
    }

    #[test]
    fn a_swarm_of_one_network_is_told_all_the_same() {
        let mut swarm = SwarmPeers::default();
        for n in 1..=60 {
            let peer = SocketAddr::from(([198, 51, 100, n], 6881));
            swarm.insert(peer, Standing::Leech, 9);
        }
        let asking = SocketAddr::from(([8, 8, 8, 8], 1));
        let found = swarm.sample(asking, Standing::Leech, 50, Families::Both, &mut rng());
        let distinct: std::collections::HashSet<_> = found.iter().collect();
        assert_eq!((found.len(), distinct.len()), (50, 50));
    }

    #[test]
    fn joined_swarms_count_a_common_peer_once() {
        let (mut one, mut other) = (SwarmPeers::default(), SwarmPeers::default());
        one.insert(v4(1), Standing::Leech, 9);
        one.insert(v4(2), Standing::Leech, 9);
        other.insert(v4(2), Standing::Seed, 9);
        other.insert(v6(3), Standing::Seed, 9);
        other.downloaded = 4;
        assert_eq!(one.absorb(other), 1);
        assert_eq!((one.seeds(), one.leeches(), one.downloaded), (2, 1, 4));
    }
}
