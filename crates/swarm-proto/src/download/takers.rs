//! Who takes and passes nothing on.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::Download;
use super::host::{host, is_shared};
use super::peers::Peer;
use crate::bitfield::Bitfield;
use crate::limits;

/// Bytes sent to an address beyond those of the pieces it says to have: pieces under way.
const TAKEN_MIN: u64 = 256 * 1024;

/// Half of what an address took is forgotten so long after its last connection.
pub(super) const HALF_FORGOTTEN: Duration = Duration::from_secs(2 * 60);

/// What an address does with what it is sent, as far as it says. The best is the least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Taking {
    /// It says to have what it was sent.
    Fairly,
    /// It never said that it got anything, and was sent no more than it lacks.
    Quietly,
    /// It was sent far more than it says to have.
    Only,
}

/// What was sent to an address.
#[derive(Debug, Default)]
struct Sent {
    /// By connections that are gone.
    before: u64,
    taken: u64,
    /// Bytes of what it says to have.
    had: u64,
    tells: bool,
}

impl Sent {
    /// Of a torrent of so many bytes, with so many under way.
    fn judge(&self, copy: u64, slack: u64) -> Taking {
        // Whoever tells is not to blame for who had its address before.
        let before = match self.tells {
            true => 0,
            false => self.before,
        };
        if self.taken + before <= self.had + slack {
            Taking::Fairly
        } else if !self.tells
            && self.taken + before.saturating_sub(self.had) <= copy.saturating_sub(self.had) + slack
        {
            Taking::Quietly
        } else {
            Taking::Only
        }
    }
}

/// What addresses took with connections that are gone, beyond what those said to have: to call
/// again is to begin no second copy.
#[derive(Debug, Default)]
pub(super) struct Gone {
    taken: BTreeMap<IpAddr, (u64, Instant)>,
}

impl Gone {
    pub(super) fn add(&mut self, now: Instant, addr: IpAddr, taken: u64) {
        let taken = self.of(now, addr).saturating_add(taken);
        if self.taken.len() >= limits::TAKERS_MAX && !self.taken.contains_key(&addr) {
            let left = |(addr, _): &(&IpAddr, _)| self.of(now, **addr);
            if let Some(least) = self.taken.iter().min_by_key(left).map(|(addr, _)| *addr) {
                self.taken.remove(&least);
            }
        }
        self.taken.insert(addr, (taken, now));
    }

    /// What is still held against it.
    pub(super) fn of(&self, now: Instant, addr: IpAddr) -> u64 {
        let Some((taken, at)) = self.taken.get(&addr) else {
            return 0;
        };
        let halves = now.saturating_duration_since(*at).as_secs() / HALF_FORGOTTEN.as_secs();
        u32::try_from(halves).map_or(0, |halves| taken.checked_shr(halves).unwrap_or(0))
    }
}

impl Download {
    /// The connection of this peer is gone.
    pub(super) fn remember_taken(&mut self, now: Instant, peer: &Peer) {
        let Some(geometry) = self.geometry() else {
            return;
        };
        let said = u64::from(peer.said()) * u64::from(geometry.piece_length());
        // Some of it may not have been sent.
        let beyond = peer.sent.saturating_sub(said + TAKEN_MIN);
        let ip = peer.info.addr.ip();
        if beyond > 0 && !is_shared(ip) {
            self.gone.add(now, host(ip), beyond);
        }
    }

    /// Who may have a slot: those that take fairly; quiet ones while the others don't need all;
    /// and who only takes while nobody else wants anything.
    pub(super) fn slots_allowed(&self) -> Taking {
        let want = |taking| {
            let peers = self.peers.values();
            peers.filter(|p| p.wants && p.taking == taking).count()
        };
        match (want(Taking::Fairly), want(Taking::Quietly)) {
            (0, 0) => Taking::Only,
            (fair, _) if fair < self.slots() => Taking::Quietly,
            _ => Taking::Fairly,
        }
    }

    /// Finds the addresses that were sent far more than they say to have, and chokes them while
    /// others want something: they pass nothing on.
    ///
    /// There are clients that tell a seed nothing of what they get (rqbit 9). An address that never
    /// told of anything is not judged before it took all that it lacks; until then it has the slots
    /// that are free, and after a long wait one by turns.
    pub(super) fn choke_takers(&mut self, now: Instant) {
        let Some(geometry) = self.geometry() else {
            return;
        };
        let piece_len = u64::from(geometry.piece_length());
        let slack = TAKEN_MIN.max(2 * piece_len);
        let copy = u64::from(geometry.piece_count()) * piece_len;
        let mut sent: HashMap<IpAddr, Sent> = HashMap::new();
        for peer in self.peers.values() {
            let addr = host(peer.info.addr.ip());
            let sent = sent.entry(addr).or_insert_with(|| Sent {
                before: self.gone.of(now, addr),
                ..Sent::default()
            });
            sent.taken += peer.sent;
            sent.had += u64::from(peer.said()) * piece_len;
            sent.tells |= peer.tells;
        }
        for peer in self.peers.values_mut() {
            let sent = sent.get(&host(peer.info.addr.ip()));
            peer.taking = sent.map_or(Taking::Only, |sent| sent.judge(copy, slack));
        }
        let allowed = self.slots_allowed();
        let served = self.peers.iter().filter(|(_, peer)| !peer.we_choke);
        let takers = served.filter(|(_, peer)| peer.taking > allowed && !peer.has_turn(now));
        let takers: Vec<_> = takers.map(|(conn, _)| *conn).collect();
        for conn in takers {
            self.set_choke(now, conn, true);
        }
    }
}

impl Peer {
    /// It wants a slot and passes on what it gets.
    pub(super) fn is_waiting(&self) -> bool {
        self.wants && self.we_choke && self.taking == Taking::Fairly
    }

    /// Pieces that it says to have.
    fn said(&self) -> u32 {
        self.pieces.as_ref().map_or(0, Bitfield::count)
    }
}
