//! Who takes and passes nothing on.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::Download;
use super::host::host;
use super::peers::Peer;
use crate::bitfield::Bitfield;
use crate::limits;

/// Bytes sent to an address beyond those of the pieces it says to have: pieces under way.
const TAKEN_MIN: u64 = 256 * 1024;

/// For so long after its last connection, what an address took is held against its next.
const REMEMBERED: Duration = Duration::from_secs(10 * 60);

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
    taken: u64,
    /// Bytes of what it says to have.
    had: u64,
    tells: bool,
}

/// What addresses took with connections that are gone, beyond what those said to have: to call
/// again is to begin no second copy.
#[derive(Debug, Default)]
pub(super) struct Gone {
    taken: HashMap<IpAddr, (u64, Instant)>,
}

impl Gone {
    fn add(&mut self, now: Instant, addr: IpAddr, taken: u64) {
        self.taken.retain(|_, (_, at)| *at + REMEMBERED > now);
        if self.taken.len() >= limits::TAKERS_MAX && !self.taken.contains_key(&addr) {
            let least = self.taken.iter().min_by_key(|(_, (taken, _))| *taken);
            if let Some(addr) = least.map(|(addr, _)| *addr) {
                self.taken.remove(&addr);
            }
        }
        let (sum, at) = self.taken.entry(addr).or_insert((0, now));
        (*sum, *at) = (sum.saturating_add(taken), now);
    }

    fn of(&self, now: Instant, addr: IpAddr) -> u64 {
        let known = self.taken.get(&addr);
        known.map_or(0, |(taken, at)| match *at + REMEMBERED > now {
            true => *taken,
            false => 0,
        })
    }
}

impl Download {
    /// The connection of this peer is gone.
    pub(super) fn remember_taken(&mut self, now: Instant, peer: &Peer) {
        let Some(geometry) = self.geometry() else {
            return;
        };
        let said = u64::from(peer.said()) * u64::from(geometry.piece_length());
        let beyond = peer.sent.saturating_sub(said);
        if beyond > 0 {
            self.gone.add(now, host(peer.info.addr.ip()), beyond);
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
                taken: self.gone.of(now, addr),
                ..Sent::default()
            });
            sent.taken += peer.sent;
            sent.had += u64::from(peer.said()) * piece_len;
            sent.tells |= peer.tells;
        }
        for peer in self.peers.values_mut() {
            let sent = sent.get(&host(peer.info.addr.ip()));
            peer.taking = match sent {
                Some(sent) if sent.taken <= sent.had + slack => Taking::Fairly,
                Some(sent)
                    if !sent.tells && sent.taken <= copy.saturating_sub(sent.had) + slack =>
                {
                    Taking::Quietly
                }
                _ => Taking::Only,
            };
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
