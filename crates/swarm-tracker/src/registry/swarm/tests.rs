use std::collections::{HashMap, HashSet};
use std::time::Duration;

use rand::SeedableRng as _;
use rand::rngs::SmallRng;

use super::*;
use crate::registry::Moment;
use crate::registry::age::AgeClock;

fn clock() -> AgeClock {
    AgeClock::new(Duration::from_secs(120))
}

fn moment(secs: u64) -> Moment {
    Moment {
        elapsed: Duration::from_secs(secs),
        unix: 0,
    }
}

/// A swarm in a room of its own. Its time is in seconds.
#[derive(Default)]
struct Alone {
    swarm: Swarm,
    room: Room,
    now: u64,
}

impl Alone {
    fn put(&mut self, peer: SocketAddr, standing: Standing, expires: u64) -> Put {
        let age = Duration::from_secs(expires - 1 - self.now);
        let expires = clock().expiry(moment(self.now), age);
        self.swarm
            .put(&mut self.room, peer, standing, expires, true)
    }

    /// Whether the peer is in then.
    fn insert(&mut self, peer: SocketAddr, standing: Standing, expires: u64) -> bool {
        self.put(peer, standing, expires) != Put::Crowded
    }

    fn remove(&mut self, peer: SocketAddr) -> bool {
        self.swarm.remove(&mut self.room, peer)
    }

    fn sweep(&mut self, now: u64) -> usize {
        self.now = now;
        self.swarm.sweep(&mut self.room, clock().units(moment(now)))
    }

    fn figures(&self) -> (usize, usize) {
        (self.swarm.seeds(&self.room), self.swarm.leeches(&self.room))
    }

    fn len(&self) -> usize {
        self.swarm.len(&self.room)
    }

    fn sample(
        &self,
        asking: SocketAddr,
        standing: Standing,
        wanted: usize,
        rng: &mut SmallRng,
    ) -> Vec<SocketAddr> {
        let families = Families::Both;
        (self.swarm).sample(&self.room, asking, standing, wanted, families, rng)
    }
}

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
    let mut swarm = Alone::default();
    for n in 1..=5 {
        swarm.insert(v4(n), Standing::Seed, 9);
        swarm.insert(v6(n), Standing::Seed, 9);
    }
    swarm.insert(v4(6), Standing::Leech, 9);
    assert_eq!(swarm.sample(v4(1), Standing::Seed, 50, &mut rng()), [v4(6)]);
    assert_eq!(
        swarm.sample(v4(6), Standing::Leech, 50, &mut rng()).len(),
        10
    );
}

#[test]
fn own_family_comes_first_and_the_other_fills_up() {
    let mut swarm = Alone::default();
    for n in 1..=4 {
        swarm.insert(v4(n), Standing::Leech, 9);
        swarm.insert(v6(n), Standing::Leech, 9);
    }
    let found = swarm.sample(v6(1), Standing::Leech, 5, &mut rng());
    assert_eq!(found.iter().filter(|peer| peer.is_ipv6()).count(), 3);
    assert_eq!(found.len(), 5);
    assert!(!found.contains(&v6(1)), "itself");
}

#[test]
fn every_peer_is_chosen_equally_often() {
    let mut swarm = Alone::default();
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
        let found = swarm.sample(v4(999), Standing::Leech, 10, &mut rng);
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
    let mut swarm = Alone::default();
    swarm.insert(v4(1), Standing::Leech, 9);
    swarm.insert(v4(1), Standing::Seed, 9);
    assert_eq!(swarm.figures(), (1, 0));
    let again = swarm.put(v4(1), Standing::Leech, 9);
    assert_eq!(again, Put::Renewed(Standing::Seed));
    assert_eq!(swarm.figures(), (0, 1));
    assert!(swarm.remove(v4(1)) && !swarm.remove(v4(1)));
    assert_eq!(swarm.len(), 0);
}

#[test]
fn index_survives_removal_and_sweep() {
    let mut swarm = Alone::default();
    for n in 1..=200 {
        swarm.insert(v4(n), Standing::Leech, u64::from(n).div_ceil(2));
    }
    for n in (1..=200).step_by(3) {
        assert!(swarm.remove(v4(n)));
    }
    // 34 of 1..=100 are gone already.
    assert_eq!(swarm.sweep(50), 66);
    for n in 1..=200 {
        let kept = n > 100 && n % 3 != 1;
        assert_eq!(swarm.remove(v4(n)), kept, "{n}");
    }
    assert_eq!(swarm.len(), 0);
}

#[test]
fn t17_fakes_of_four_networks_leave_half_of_each_reply_to_others() {
    let mut swarm = Alone::default();
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
    assert_eq!(kept as usize, 4 * PER_SWARM_MAX);
    assert_eq!(swarm.len(), kept as usize + 100);
    let mut rng = rng();
    for n in 0..1000 {
        let asking = honest(200 + n);
        let found = swarm.sample(asking, Standing::Leech, 50, &mut rng);
        let good = found.iter().filter(|peer| peer.port() == 6881).count();
        assert!(found.len() == 50 && good >= 25, "{good} of {}", found.len());
    }
    // One that is in is renewed, whoever else is; and whoever leaves makes room.
    assert!(swarm.insert(fake(0), Standing::Leech, 9));
    assert!(!swarm.insert(fake(999_996), Standing::Seed, 9));
    assert!(swarm.remove(fake(0)));
    assert!(swarm.insert(fake(999_996), Standing::Seed, 9));
    assert_eq!(swarm.sweep(9), kept as usize + 100);
}

#[test]
fn a_swarm_of_one_network_is_told_all_the_same() {
    let mut swarm = Alone::default();
    for n in 1..=60 {
        let peer = SocketAddr::from(([198, 51, 100, n], 6881));
        swarm.insert(peer, Standing::Leech, 9);
    }
    let asking = SocketAddr::from(([8, 8, 8, 8], 1));
    let found = swarm.sample(asking, Standing::Leech, 50, &mut rng());
    let distinct: std::collections::HashSet<_> = found.iter().collect();
    assert_eq!((found.len(), distinct.len()), (50, 50));
}

#[test]
fn joined_swarms_count_a_common_peer_once() {
    let mut swarm = Alone::default();
    swarm.insert(v4(1), Standing::Leech, 9);
    swarm.insert(v4(2), Standing::Leech, 9);
    let mut one = std::mem::take(&mut swarm.swarm);
    swarm.insert(v4(2), Standing::Seed, 9);
    swarm.insert(v6(3), Standing::Seed, 9);
    swarm.swarm.downloaded = 4;
    let other = std::mem::take(&mut swarm.swarm);
    assert_eq!(one.absorb(&mut swarm.room, other), 1);
    assert_eq!(one.downloaded, 4);
    swarm.swarm = one;
    assert_eq!(swarm.figures(), (2, 1));
}

/// A peer anywhere.
fn far(n: u32) -> SocketAddr {
    let n = n.wrapping_mul(0x9e37_79b1);
    if n.is_multiple_of(3) {
        let [a, b, c, d] = n.to_be_bytes().map(u16::from);
        SocketAddr::from(([0x2a00 + a, b, c, d, 0, 0, 0, 1], 6881))
    } else {
        let [a, b, c, d] = n.to_be_bytes();
        SocketAddr::from(([11 + a % 80, b, c, d], 6881))
    }
}

#[test]
fn swarms_of_any_size_hold_what_a_simple_set_holds() {
    let mut rng = rng();
    for most in [3, 60, 400, 6000] {
        let (mut swarm, mut known) = (Alone::default(), HashMap::new());
        let mut now = 0;
        for round in 0..6 {
            // Grows, then shrinks, so that chains come and go.
            let odds = if round % 2 == 0 { 4 } else { 1 };
            for _ in 0..most * 3 {
                let peer = far(rng.random_range(0..most));
                if rng.random_range(0..5) < odds {
                    let standing = match rng.random() {
                        true => Standing::Seed,
                        false => Standing::Leech,
                    };
                    let before = known.get(&peer).map(|(standing, _)| *standing);
                    let expires = now + rng.random_range(1..100);
                    let put = match before {
                        Some(before) => Put::Renewed(before),
                        None => Put::New,
                    };
                    assert_eq!(swarm.put(peer, standing, expires), put);
                    known.insert(peer, (standing, expires));
                } else {
                    assert_eq!(swarm.remove(peer), known.remove(&peer).is_some());
                }
            }
            let sampled = swarm.sample(v4(1), Standing::Leech, 6000, &mut rng);
            let distinct: HashSet<_> = sampled.iter().collect();
            assert_eq!(distinct.len(), sampled.len(), "nobody twice");
            assert!(sampled.iter().all(|peer| known.contains_key(peer)));
            now += 20;
            let over = known.extract_if(|_, (_, expires)| *expires <= now).count();
            assert_eq!(swarm.sweep(now), over);
            let seeds = |(standing, _): &&(Standing, u64)| *standing == Standing::Seed;
            let seeds = known.values().filter(seeds).count();
            assert_eq!(swarm.figures(), (seeds, known.len() - seeds));
            swarm.room.tidy(std::iter::once(&mut swarm.swarm));
        }
        for peer in known.into_keys() {
            assert!(swarm.remove(peer) && !swarm.remove(peer));
        }
        assert_eq!(swarm.len(), 0);
    }
}

#[test]
fn in_a_large_swarm_too_every_peer_is_chosen_equally_often() {
    let mut swarm = Alone::default();
    // Some networks with many peers, so that chains are of very different lengths.
    for n in 0..1000_u32 {
        let network = if n % 4 == 0 { 1 } else { n as u8 };
        let ip = [11, network, 1, (n / 256) as u8];
        let standing = if n % 10 == 0 {
            Standing::Seed
        } else {
            Standing::Leech
        };
        swarm.insert(SocketAddr::from((ip, 2000 + n as u16)), standing, 9);
    }
    let (mut rng, mut seen) = (rng(), HashMap::new());
    // One at a time: which is chosen first depends on nothing but chance.
    for _ in 0..400_000 {
        for peer in swarm.sample(v4(1), Standing::Leech, 1, &mut rng) {
            *seen.entry(peer).or_insert(0_u32) += 1;
        }
    }
    // 400 expected each; 5 standard deviations are 100.
    assert_eq!(seen.len(), 1000);
    assert!(seen.values().all(|n| (300..500).contains(n)), "{seen:?}");
}

#[test]
fn a_seed_is_told_of_the_only_leech_among_many_seeds() {
    let mut swarm = Alone::default();
    for n in 0..5000 {
        swarm.insert(far(n), Standing::Seed, 9);
    }
    swarm.insert(v4(7), Standing::Leech, 9);
    let told = swarm.sample(far(1), Standing::Seed, 50, &mut rng());
    assert_eq!(told, [v4(7)]);
}

#[test]
fn t17_nobody_can_choose_who_makes_a_chain_long() {
    // Addresses that share a chain in one tracker are spread in the next.
    let peers: Vec<[u8; 6]> = (0..4096_u32)
        .map(|n| {
            let [_, b, c, d] = n.to_be_bytes();
            [11 + b, c, d, 1, 0x1a, 0xe1]
        })
        .collect();
    let longest = |chosen: &[[u8; 6]]| {
        let (mut pools, mut pool) = (Pools::<_, BLOCK_V4>::default(), Pool::default());
        let expires = clock().expiry(moment(0), Duration::from_secs(9));
        for peer in chosen {
            let entry = Entry {
                peer: *peer,
                expires,
            };
            pools.insert(&mut pool, entry);
        }
        let chain = pools.longest_chain(&pool);
        (chain.len(), chain)
    };
    let (_, together) = longest(&peers);
    assert!(
        together.len() > 40,
        "the longest of 128 chains: {together:?}"
    );
    // The same peers among as many others.
    let mut others: Vec<[u8; 6]> = peers
        .iter()
        .map(|[_, b, c, d, e, f]| [200, *b, *c, *d, *e, *f])
        .collect();
    others.extend(&together);
    let (_, next) = longest(&others);
    let again = next.iter().filter(|peer| together.contains(peer)).count();
    assert!(
        again < 10,
        "{again} of {} are together again",
        together.len()
    );
}
