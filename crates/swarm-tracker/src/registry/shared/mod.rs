//! What trackers of one fleet tell each other: what happened here, to be taken up elsewhere, and
//! what happened elsewhere, taken up here (spec 0006, 9).
//!
//! Each tracker answers from its own registry alone. With a store that is shared it keeps besides
//! what has changed since the store was last written to; without one nothing is kept.

mod apply;
mod retell;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;

use swarm_proto::id::SwarmId;
use swarm_proto::manifest::{SiteName, SitePath};
use swarm_proto::tracker::BridgeOffer;

use super::Registry;
pub(crate) use super::eviction::{Barred, Lie};
pub(crate) use super::volunteer::BridgeId;
pub(crate) use retell::{Retelling, SitePapers};

/// Announces kept until they are written, 72 bytes each: what a full core answers in half a second,
/// five times the pause between two writes.
const PEERS_MAX: usize = 131_072;
/// Other changes kept until they are written, some 300 bytes each.
const NEWS_MAX: usize = 16_384;

/// What an announce said of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PeerState {
    Seed,
    Leech,
    /// It stopped.
    Gone,
}

/// An announce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PeerChange {
    pub(crate) swarm: SwarmId,
    pub(crate) peer: SocketAddr,
    pub(crate) state: PeerState,
    /// Whether it is remembered no longer than a bridge.
    pub(crate) bridge: bool,
    /// Whether a download was completed by it.
    pub(crate) completed: bool,
    /// Seconds from the announce until it was told.
    pub(crate) age: u32,
}

/// A volunteer's offer as a tracker has taken it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SharedOffer {
    pub(crate) swarm: SwarmId,
    pub(crate) peer: SocketAddr,
    /// With its key, always.
    pub(crate) offer: BridgeOffer,
    /// Whether that tracker sends visitors there.
    pub(crate) proven: bool,
    /// Seconds from the announce until it was told.
    pub(crate) age: u32,
}

/// Visitors sent to a bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Visits {
    pub(crate) bridge: BridgeId,
    pub(crate) count: u32,
    /// Of the files they were sent for.
    pub(crate) bits: u64,
    /// A page of one of them.
    pub(crate) page: (SiteName, SitePath),
}

/// That no visitor is sent somewhere, since wrong bytes came from there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Barring {
    pub(crate) barred: Barred,
    pub(crate) lie: Option<Lie>,
    /// Seconds for which it goes on.
    pub(crate) left: u32,
}

/// What else can change than peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// A volunteer's offer was taken up or renewed.
    Offer(Box<SharedOffer>),
    /// A peer no longer offers a bridge for a bundle.
    Withdrawn { swarm: SwarmId, peer: SocketAddr },
    /// A bridge has proven itself.
    Proven(BridgeId),
    /// A bridge that had proven itself no longer does.
    Unproven(BridgeId),
    /// A bridge had nothing to show to visitors.
    Doubted(BridgeId),
    /// A bridge has shown wrong bytes.
    Barred(Box<Barring>),
    /// Visitors were sent to a bridge.
    Visits(Box<Visits>),
    /// A site has a new record, and perhaps alarm.
    Site(SiteName),
    /// A site has a new alarm.
    Alarm(SiteName),
}

/// What of a site is new. A record may have 32 MB and an alarm has a few hundred bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Paper {
    Alarm,
    /// And the alarm, perhaps.
    Record,
}

impl Paper {
    pub(crate) const fn change(self, site: SiteName) -> Change {
        match self {
            Self::Alarm => Change::Alarm(site),
            Self::Record => Change::Site(site),
        }
    }
}

/// What has changed since this was last taken.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Changes {
    pub(crate) peers: Vec<PeerChange>,
    pub(crate) others: Vec<Change>,
    /// Of which nothing is known any more: there were too many.
    pub(crate) dropped: u64,
}

impl Changes {
    /// How many that are known.
    pub(crate) fn len(&self) -> usize {
        self.peers.len() + self.others.len()
    }
}

/// Announces to be told, and sites.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    on: bool,
    peers: Vec<PeerChange>,
    sites: BTreeMap<SiteName, Paper>,
    dropped: u64,
}

impl Outbox {
    pub(super) fn peer(&mut self, change: PeerChange) {
        if !self.on {
            return;
        }
        if self.peers.len() < PEERS_MAX {
            self.peers.push(change);
        } else {
            self.dropped += 1;
        }
    }
}

/// What is to be told of bridges, in the order in which it happened.
#[derive(Debug, Default)]
pub(super) struct News {
    on: bool,
    said: Vec<Change>,
    /// Added up until they are told.
    visits: HashMap<BridgeId, Visits>,
    dropped: u64,
}

impl News {
    pub(super) fn tell(&mut self, change: impl FnOnce() -> Change) {
        if !self.on {
            return;
        }
        if self.said.len() < NEWS_MAX {
            self.said.push(change());
        } else {
            self.dropped += 1;
        }
    }

    /// An offer begins the count of hits anew: visits before it are told before it.
    pub(super) fn offer(&mut self, bridge: BridgeId, offer: impl FnOnce() -> SharedOffer) {
        if let Some(visits) = self.visits.remove(&bridge) {
            self.tell(|| Change::Visits(Box::new(visits)));
        }
        self.tell(|| Change::Offer(Box::new(offer())));
    }

    pub(super) fn visit(&mut self, bridge: BridgeId, bits: u64, page: (&SiteName, &SitePath)) {
        if !self.on {
            return;
        }
        if let Some(known) = self.visits.get_mut(&bridge) {
            known.count = known.count.saturating_add(1);
            known.bits = known.bits.saturating_add(bits);
        } else if self.visits.len() < NEWS_MAX {
            let visits = Visits {
                bridge,
                count: 1,
                bits,
                page: (page.0.clone(), page.1.clone()),
            };
            self.visits.insert(bridge, visits);
        } else {
            self.dropped += 1;
        }
    }
}

impl Registry {
    /// Whether changes are kept from now on; those that were kept are forgotten.
    pub(crate) fn share(&mut self, on: bool) {
        self.outbox = Outbox {
            on,
            ..Outbox::default()
        };
        self.volunteers.news = News {
            on,
            ..News::default()
        };
    }

    /// What has changed since this was last asked.
    pub(crate) fn take_changes(&mut self) -> Changes {
        let outbox = &mut self.outbox;
        let news = &mut self.volunteers.news;
        let mut others = std::mem::take(&mut news.said);
        let visits = news.visits.drain();
        others.extend(visits.map(|(_, visits)| Change::Visits(Box::new(visits))));
        let sites = std::mem::take(&mut outbox.sites);
        others.extend(sites.into_iter().map(|(site, paper)| paper.change(site)));
        Changes {
            peers: std::mem::take(&mut outbox.peers),
            others,
            dropped: std::mem::take(&mut outbox.dropped) + std::mem::take(&mut news.dropped),
        }
    }

    /// A site is to be looked at in the store: something of it is new here.
    pub(crate) fn tell_site(&mut self, site: &SiteName, paper: Paper) {
        // Only sites that the operator knows, so there is no bound.
        if self.outbox.on {
            let known = self.outbox.sites.entry(site.clone()).or_insert(paper);
            *known = paper.max(*known);
        }
    }
}

#[cfg(test)]
mod tests;
