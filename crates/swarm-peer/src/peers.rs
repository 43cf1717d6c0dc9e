//! Addresses of peers, and when to call them.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use swarm_proto::download::{Prefix, canonical_priority};
use swarm_proto::id::SwarmId;

use crate::connector::{AddressPolicy, Trust, canonical};

/// Addresses kept for one swarm, some 200 bytes each (libtorrent's `max_peerlist_size`).
const ADDRESSES_MAX: usize = 3000;

/// Addresses kept of one public network ([`Prefix`]): a tenth, so that whoever has many there does
/// not fill the book.
const ADDRESSES_PER_PREFIX_MAX: usize = ADDRESSES_MAX / 10;

/// Calls in vain after which an address is forgotten, unless the operator named it.
const TRIES_MAX: u32 = 6;

/// Connections that only peers of networks we have called nobody of may take, for each one that
/// is missing to so many networks. Strangers who have all their addresses in a few networks, and
/// come in any number, leave these to others.
const RESERVED: usize = 4;

/// Before it is looked again whether anybody may be called, where all that wait may not.
const HELD: Duration = Duration::from_secs(10);

/// Peers one swarm may call.
pub(crate) struct AddressBook {
    known: HashMap<SocketAddr, Known>,
    /// Those that may be called, and when.
    queue: BTreeSet<(Instant, SocketAddr)>,
    prefixes: HashMap<Prefix, Count>,
    /// Networks of addresses that are called or connected.
    prefixes_busy: usize,
    /// All that are due have to wait for somebody to leave, be it another bundle's peer.
    held_until: Option<Instant>,
    /// What priorities are reckoned from: our address where that is known, else any.
    own: SocketAddr,
}

struct Known {
    trust: Trust,
    swarm_id: SwarmId,
    priority: u32,
    /// Calls in vain since the last success.
    tries: u32,
    /// When it may be called (again); `None` while it is being called or is connected.
    due: Option<Instant>,
}

/// Addresses of one network.
#[derive(Default)]
struct Count {
    known: usize,
    busy: usize,
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
    /// An empty book of who is known at `own`; where that is no address of ours, any that nobody
    /// can guess keeps others from choosing addresses that we would prefer.
    pub(crate) fn new(own: SocketAddr) -> Self {
        Self {
            known: HashMap::new(),
            queue: BTreeSet::new(),
            prefixes: HashMap::new(),
            prefixes_busy: 0,
            held_until: None,
            own,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }

    /// How well a connection to the address would do where there are too many (BEP 40).
    pub(crate) fn priority(&self, addr: SocketAddr) -> u32 {
        canonical_priority(self.own, addr)
    }

    /// Notes an address, if the policy lets who named it name it; whether it does. The
    /// better-trusted source of the same address wins.
    pub(crate) fn add(
        &mut self,
        addr: SocketAddr,
        swarm_id: SwarmId,
        trust: Trust,
        policy: &AddressPolicy,
        now: Instant,
    ) -> bool {
        let addr = canonical(addr);
        if !policy.permits(addr.ip(), trust) {
            return false;
        }
        if let Some(known) = self.known.get_mut(&addr) {
            if trust == Trust::CommandLine || known.trust == Trust::Stranger {
                known.trust = trust;
            }
            return true;
        }
        let prefix = Prefix::of(addr);
        let of_prefix = self.prefixes.get(&prefix).map_or(0, |count| count.known);
        let full = self.known.len() >= ADDRESSES_MAX || of_prefix >= ADDRESSES_PER_PREFIX_MAX;
        if addr.port() == 0 || (full && trust != Trust::CommandLine) {
            return true;
        }
        let priority = self.priority(addr);
        let known = Known {
            trust,
            swarm_id,
            priority,
            tries: 0,
            due: Some(now),
        };
        self.known.insert(addr, known);
        self.queue.insert((now, addr));
        let count = self.prefixes.entry(prefix).or_default();
        count.known += 1;
        if count.busy == 0 {
            self.held_until = None;
        }
        true
    }

    /// The address to call now, where `free` connections are left of `all`, among those that the
    /// node `admits`; it counts as being called from here on. The operator's come first, then those that never failed, those of
    /// networks that nobody is connected to, and those of higher priority.
    pub(crate) fn take_due(
        &mut self,
        now: Instant,
        free: usize,
        all: usize,
        admits: impl Fn(SocketAddr) -> bool,
    ) -> Option<(SocketAddr, SwarmId, Trust)> {
        let reserved = self.reserved(all);
        let due = self.queue.iter().take_while(|(at, _)| *at <= now);
        let ranked = due.filter_map(|(_, addr)| {
            let known = self.known.get(addr)?;
            let strange = known.trust != Trust::CommandLine;
            let count = self.prefixes.get(&Prefix::of(*addr));
            let crowded = count.is_some_and(|count| count.busy > 0);
            if !admits(*addr) || (strange && crowded && free <= reserved) {
                return None;
            }
            let rank = (strange, known.tries, crowded, Reverse(known.priority));
            Some((rank, *addr))
        });
        let Some((_, addr)) = ranked.min_by_key(|(rank, _)| *rank) else {
            self.hold(now);
            return None;
        };
        let known = self.known.get_mut(&addr)?;
        let taken = (addr, known.swarm_id, known.trust);
        if let Some(at) = known.due.take() {
            self.queue.remove(&(at, addr));
        }
        let count = self.prefixes.entry(Prefix::of(addr)).or_default();
        count.busy += 1;
        self.prefixes_busy += usize::from(count.busy == 1);
        Some(taken)
    }

    /// Has all that are due wait for a while: there is no connection to call them by.
    pub(crate) fn hold(&mut self, now: Instant) {
        self.held_until = Some(now + HELD);
    }

    /// Of `all` connections, those that are kept for peers of networks that nobody is called of:
    /// an eighth at most, so that the smallest swarms work as well.
    pub(crate) fn reserved(&self, all: usize) -> usize {
        RESERVED.min(all / 8).saturating_sub(self.prefixes_busy)
    }

    /// When the next address falls due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let (due, _) = self.queue.first()?;
        Some(self.held_until.map_or(*due, |until| until.max(*due)))
    }

    /// The best priority among those that could be called now and never failed.
    pub(crate) fn best_waiting(&self, now: Instant) -> Option<u32> {
        let due = self.queue.iter().take_while(|(at, _)| *at <= now);
        let known = due.filter_map(|(_, addr)| self.known.get(addr));
        let fresh = known.filter(|known| known.tries == 0);
        fresh.map(|known| known.priority).max()
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
        let due = now + Duration::from_secs(wait);
        let forgotten = known.tries > TRIES_MAX && !ours;
        let before = known.due.replace(due);
        let prefix = Prefix::of(*addr);
        let count = self.prefixes.entry(prefix).or_default();
        match before {
            Some(at) => {
                self.queue.remove(&(at, *addr));
            }
            None => {
                count.busy = count.busy.saturating_sub(1);
                self.prefixes_busy -= usize::from(count.busy == 0 && self.prefixes_busy > 0);
            }
        }
        self.held_until = None;
        match forgotten {
            false => {
                self.queue.insert((due, *addr));
            }
            true => {
                self.known.remove(addr);
                count.known = count.known.saturating_sub(1);
                if count.known == 0 {
                    self.prefixes.remove(&prefix);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
