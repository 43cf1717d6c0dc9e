//! Networks of peers, so that none of them fills a swarm or a reply (T17).
//!
//! A network is an IPv4 /24 or an IPv6 /48: as much as one customer is easily given. Addresses that
//! only mean something nearby are of no network: there everybody may look alike.

use std::collections::HashMap;
use std::net::IpAddr;

/// Peers of one network in one swarm. Four networks of fakes then are some thousand entries, which
/// [`SCAN_MAX`] looks past.
pub(super) const PER_SWARM_MAX: usize = 256;

/// Entries that are looked at for one reply at most.
pub(super) const SCAN_MAX: usize = 2048;

/// The part of a reply that one network gets while others could be named: an eighth.
const SHARE: usize = 8;

/// Numbers by which a reply tells networks apart; two that fall on one share its eighth.
const NUMBERS: usize = 256;

/// A network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Network(u64);

impl Network {
    /// The network of an address; `None` for one of this host or of a private network.
    pub(super) fn of(ip: IpAddr) -> Option<Self> {
        match ip {
            IpAddr::V4(ip) => {
                let near = ip.is_loopback() || ip.is_private() || ip.is_link_local();
                (!near).then(|| Self(u64::from(ip.to_bits() >> 8)))
            }
            IpAddr::V6(ip) => {
                let near = ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local();
                // Above all of IPv4.
                (!near).then(|| Self((ip.to_bits() >> 80) as u64 | 1 << 63))
            }
        }
    }
}

/// How many peers of each network the web peers of a swarm have.
#[derive(Debug, Default)]
pub(super) struct Crowds(HashMap<Network, u16>);

impl Crowds {
    /// Those of these peers.
    pub(super) fn of(peers: impl Iterator<Item = IpAddr>) -> Self {
        let mut crowds = Self::default();
        peers.for_each(|ip| crowds.add(ip));
        crowds
    }

    /// Whether no more peers of there are to be taken.
    pub(super) fn is_full(&self, ip: IpAddr) -> bool {
        let known = Network::of(ip).and_then(|network| self.0.get(&network));
        known.is_some_and(|count| usize::from(*count) >= PER_SWARM_MAX)
    }

    pub(super) fn add(&mut self, ip: IpAddr) {
        if let Some(network) = Network::of(ip) {
            let count = self.0.entry(network).or_default();
            *count = count.saturating_add(1);
        }
    }

    pub(super) fn remove(&mut self, ip: IpAddr) {
        if let Some(network) = Network::of(ip)
            && let Some(count) = self.0.get_mut(&network)
        {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.0.remove(&network);
            }
        }
    }
}

/// How much of one reply each network has.
#[derive(Debug)]
pub(super) struct Spread {
    named: [u8; NUMBERS],
    each: u8,
}

impl Spread {
    /// For a reply of `wanted` peers.
    pub(super) fn new(wanted: usize) -> Self {
        Self {
            named: [0; NUMBERS],
            each: u8::try_from(wanted / SHARE).unwrap_or(u8::MAX).max(1),
        }
    }

    /// Counts a peer in; `false`: its network has its share.
    pub(super) fn take(&mut self, ip: IpAddr) -> bool {
        let Some(Network(number)) = Network::of(ip) else {
            return true;
        };
        // Fibonacci hashing: neighbouring networks part.
        let number = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56;
        let Some(named) = self.named.get_mut(number as usize) else {
            return false;
        };
        let room = *named < self.each;
        *named += u8::from(room);
        room
    }
}
