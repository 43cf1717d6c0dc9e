//! Addresses of peers, and when to call them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use swarm_proto::id::SwarmId;

use crate::connector::Trust;

/// Addresses kept for one swarm; 50 bytes each. Trackers give 50 to 200 a time.
const ADDRESSES_MAX: usize = 2000;

/// Calls in vain after which an address is forgotten, unless the operator named it.
const TRIES_MAX: u32 = 6;

/// Peers one swarm may call.
#[derive(Default)]
pub(crate) struct AddressBook {
    known: HashMap<SocketAddr, Known>,
}

struct Known {
    trust: Trust,
    swarm_id: SwarmId,
    /// Calls in vain since the last success.
    tries: u32,
    /// When it may be called (again); `None` while it is being called or is connected.
    due: Option<Instant>,
}

/// How a connection to a known address ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It could not be reached, or did not talk.
    Failed,
    /// It was there and went.
    Left,
    /// Nothing to get or give at the moment, or connected the other way round.
    Needless,
    /// It misbehaved, or is ourselves.
    Never,
}

impl AddressBook {
    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }

    /// Notes an address. The better-trusted source of the same address wins.
    pub(crate) fn add(&mut self, addr: SocketAddr, swarm_id: SwarmId, trust: Trust, now: Instant) {
        if addr.port() == 0 {
            return;
        }
        if let Some(known) = self.known.get_mut(&addr) {
            if trust == Trust::CommandLine || known.trust == Trust::Stranger {
                known.trust = trust;
            }
            return;
        }
        if self.known.len() < ADDRESSES_MAX {
            let known = Known {
                trust,
                swarm_id,
                tries: 0,
                due: Some(now),
            };
            self.known.insert(addr, known);
        }
    }

    /// Up to `count` addresses to call now; each counts as being called from here on. The
    /// operator's come first, then those that never failed.
    pub(crate) fn take_due(
        &mut self,
        now: Instant,
        count: usize,
    ) -> Vec<(SocketAddr, SwarmId, Trust)> {
        if count == 0 {
            return Vec::new();
        }
        let mut due: Vec<_> = self
            .known
            .iter()
            .filter(|(_, known)| known.due.is_some_and(|at| at <= now))
            .map(|(addr, known)| ((known.trust != Trust::CommandLine, known.tries), *addr))
            .collect();
        due.sort_unstable_by_key(|(rank, _)| *rank);
        due.truncate(count);
        let mut taken = Vec::new();
        for (_, addr) in due {
            if let Some(known) = self.known.get_mut(&addr) {
                known.due = None;
                taken.push((addr, known.swarm_id, known.trust));
            }
        }
        taken
    }

    /// When the next address falls due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.known.values().filter_map(|known| known.due).min()
    }

    /// Who named the address, if anybody did.
    pub(crate) fn trust_of(&self, addr: &SocketAddr) -> Option<Trust> {
        self.known.get(addr).map(|known| known.trust)
    }

    /// The address answered.
    pub(crate) fn reached(&mut self, addr: &SocketAddr) {
        if let Some(known) = self.known.get_mut(addr) {
            known.tries = 0;
        }
    }

    /// A call to it, or the connection, has ended.
    pub(crate) fn ended(&mut self, addr: &SocketAddr, ending: Ending, now: Instant) {
        let Some(known) = self.known.get_mut(addr) else {
            return;
        };
        let ours = known.trust == Trust::CommandLine;
        known.tries = match ending {
            Ending::Failed => known.tries.saturating_add(1),
            _ => 0,
        };
        let doubled = 1u64 << known.tries.min(8);
        let wait = match (ending, ours) {
            (Ending::Failed, true) => doubled.min(16),
            (Ending::Failed, false) => doubled.saturating_mul(3).min(600),
            (Ending::Left, true) => 2,
            (Ending::Left, false) => 15,
            (Ending::Needless, _) => 120,
            (Ending::Never, _) => 24 * 3600,
        };
        known.due = now.checked_add(Duration::from_secs(wait));
        if known.tries > TRIES_MAX && !ours {
            self.known.remove(addr);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    const ID: SwarmId = SwarmId::new([1; 20]);

    #[test]
    fn an_address_is_called_once_and_again_after_a_pause() {
        let mut book = AddressBook::default();
        let now = Instant::now();
        book.add(addr(1), ID, Trust::Stranger, now);
        assert_eq!(book.take_due(now, 9), [(addr(1), ID, Trust::Stranger)]);
        assert_eq!(book.take_due(now, 9), []);
        assert_eq!(book.next_due(), None);
        book.ended(&addr(1), Ending::Failed, now);
        assert_eq!(book.take_due(now, 9), []);
        let later = now + Duration::from_secs(6);
        assert_eq!(book.take_due(later, 9).len(), 1);
    }

    #[test]
    fn the_operators_peers_come_first_and_are_never_forgotten() {
        let mut book = AddressBook::default();
        let mut now = Instant::now();
        book.add(addr(1), ID, Trust::Stranger, now);
        book.add(addr(2), ID, Trust::CommandLine, now);
        assert_eq!(book.take_due(now, 1), [(addr(2), ID, Trust::CommandLine)]);
        assert_eq!(book.take_due(now, 1).len(), 1);
        for _ in 0..20 {
            book.ended(&addr(1), Ending::Failed, now);
            book.ended(&addr(2), Ending::Failed, now);
            now += Duration::from_secs(3600);
            book.take_due(now, 9);
        }
        assert_eq!(book.len(), 1);
    }

    #[test]
    fn a_flood_of_addresses_stops_at_the_bound() {
        let mut book = AddressBook::default();
        let now = Instant::now();
        for n in 0..100_000u32 {
            let [_, a, b, c] = n.to_be_bytes();
            book.add(
                SocketAddr::from(([9, a, b, c], 1)),
                ID,
                Trust::Stranger,
                now,
            );
        }
        book.add(addr(0), ID, Trust::Stranger, now);
        assert_eq!(book.len(), ADDRESSES_MAX);
    }
}
