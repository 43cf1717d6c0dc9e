//! [`Places`]: the connections of one node, counted by network, so that no network takes them all
//! (T22).
//!
//! A bundle shares its own connections out in the same way (`Download::admits`). Here it is done
//! for all of them together, else the callers of one network would take the whole node by calling
//! several bundles.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use swarm_proto::download::Prefix;
use tokio_util::sync::CancellationToken;

/// Connections on trial at a time, of calls and of callers each, beside those that count: where
/// all are taken, whoever comes has to show first that a bundle and a peer meet.
const TRIALS_MAX: usize = 8;

/// Who opened a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// A caller.
    In,
    /// We did.
    Out,
}

/// The places of one node.
#[derive(Debug)]
pub(crate) struct Places {
    max: usize,
    trials_max: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    by: BTreeMap<u64, Holder>,
}

#[derive(Debug)]
struct Holder {
    network: Prefix,
    /// It does not count yet; who opened it.
    trial: Option<Way>,
    /// The operator named it: it counts, and yields to nobody.
    kept: bool,
    /// What comes from it, in bytes a second.
    rate: u64,
    lost: CancellationToken,
}

/// A place for one connection; free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    of: Arc<Places>,
    number: u64,
    lost: CancellationToken,
}

/// Who would be let in at one moment.
pub(crate) struct Census {
    free: bool,
    /// Places on trial are left, for calls and for callers.
    trials: [bool; 2],
    held: HashMap<Prefix, usize>,
    /// What the network holds that would have to give one up; 0 if none may.
    most: usize,
}

impl Census {
    /// Whether a peer at that address gets a place: a free one, or one of the network that holds
    /// most, to which it leaves no fewer than its own has then.
    pub(crate) fn admits(&self, addr: SocketAddr, way: Way) -> bool {
        self.free || (self.trials(way) && self.has_more(Prefix::of(addr)))
    }

    fn trials(&self, way: Way) -> bool {
        let [incoming, outgoing] = self.trials;
        match way {
            Way::In => incoming,
            Way::Out => outgoing,
        }
    }

    fn share(&self, network: Prefix) -> usize {
        self.held.get(&network).copied().unwrap_or_default()
    }

    fn has_more(&self, than: Prefix) -> bool {
        self.most > self.share(than) + 1
    }
}

impl Taken {
    fn census(&self, max: usize, trials_max: usize) -> Census {
        let on_trial = |way| {
            let trials = self.by.values().filter(|holder| holder.trial == Some(way));
            trials.count()
        };
        let (incoming, outgoing) = (on_trial(Way::In), on_trial(Way::Out));
        let mut census = Census {
            free: self.by.len() - incoming - outgoing < max,
            trials: [incoming < trials_max, outgoing < trials_max],
            held: HashMap::new(),
            most: 0,
        };
        if census.free {
            return census;
        }
        for holder in self.by.values().filter(|holder| holder.trial.is_none()) {
            *census.held.entry(holder.network).or_default() += 1;
        }
        let may_yield = self.by.values().filter(|holder| holder.may_yield());
        let most = may_yield.map(|holder| census.share(holder.network)).max();
        census.most = most.unwrap_or_default();
        census
    }

    /// Takes the place of somebody in a network of the most: who sends us least, and of those who
    /// came last.
    fn evict(&mut self, census: &Census) {
        let crowd = self.by.iter().filter(|(_, holder)| {
            holder.may_yield() && census.share(holder.network) == census.most
        });
        let loser = crowd.min_by_key(|(number, holder)| (holder.rate, Reverse(**number)));
        let loser = loser.map(|(number, _)| *number);
        if let Some(loser) = loser.and_then(|number| self.by.remove(&number)) {
            loser.lost.cancel();
        }
    }
}

impl Holder {
    const fn may_yield(&self) -> bool {
        self.trial.is_none() && !self.kept
    }
}

impl Places {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            max,
            trials_max: (max / 8).clamp(1, TRIALS_MAX),
            taken: Mutex::default(),
        })
    }

    /// Who would be let in just now.
    pub(crate) fn census(&self) -> Census {
        self.taken().census(self.max, self.trials_max)
    }

    /// A place for a connection to that address: a free one, else one on trial if somebody would
    /// make way for it.
    pub(crate) fn enter(self: &Arc<Self>, addr: SocketAddr, way: Way) -> Option<Place> {
        let mut taken = self.taken();
        let census = taken.census(self.max, self.trials_max);
        if !census.admits(addr, way) {
            return None;
        }
        let lost = CancellationToken::new();
        let holder = Holder {
            network: Prefix::of(addr),
            trial: (!census.free).then_some(way),
            kept: false,
            rate: 0,
            lost: lost.clone(),
        };
        let number = taken.next;
        taken.next += 1;
        taken.by.insert(number, holder);
        Some(Place {
            of: Arc::clone(self),
            number,
            lost,
        })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// The peer is there and has said who it is: from now on its place counts. One on trial takes
    /// that of another; `false` if there is none for it any more.
    pub(crate) fn settle(&self) -> bool {
        let mut taken = self.of.taken();
        let Some(holder) = taken.by.get(&self.number) else {
            return false;
        };
        if holder.trial.is_none() {
            return true;
        }
        let network = holder.network;
        let census = taken.census(self.of.max, self.of.trials_max);
        if !census.free {
            if !census.has_more(network) {
                return false;
            }
            taken.evict(&census);
        }
        if let Some(holder) = taken.by.get_mut(&self.number) {
            holder.trial = None;
        }
        true
    }

    /// It yields to nobody: the operator named the peer.
    pub(crate) fn keep(&self) {
        if let Some(holder) = self.of.taken().by.get_mut(&self.number) {
            holder.kept = true;
        }
    }

    /// Notes what comes by it, in bytes a second.
    pub(crate) fn brings(&self, rate: f64) {
        if let Some(holder) = self.of.taken().by.get_mut(&self.number) {
            holder.rate = rate as u64;
        }
    }

    /// Cancelled when somebody else has the place.
    pub(crate) fn lost(&self) -> CancellationToken {
        self.lost.clone()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.of.taken().by.remove(&self.number);
    }
}

#[cfg(test)]
mod tests;
