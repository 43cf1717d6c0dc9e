//! What to tell each peer of the others, and how much to take of what it tells (BEP 11).
//!
//! Never in a private torrent: that is for the driver to see to, which knows what is private.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::limits;
use crate::session::ConnectionId;
use crate::wire::{PexMessage, PexPeer};

/// BEP 11: "Clients must batch updates and send no more than 1 PEX message per minute."
const EVERY: Duration = Duration::from_secs(60);

/// Before the first message to a peer: who has just joined too is then in it.
const FIRST_AFTER: Duration = Duration::from_secs(2);

/// BEP 11: "no more than 50 added and 50 dropped".
const PER_MESSAGE_MAX: usize = 50;

/// Who told whom of whom, in one swarm.
#[derive(Debug, Default)]
pub struct PexExchange {
    sides: BTreeMap<ConnectionId, Side>,
}

#[derive(Debug)]
struct Side {
    /// Whom the peer was told of and not yet told of the leaving of.
    told: BTreeSet<SocketAddr>,
    next_at: Instant,
    /// Peers taken of it since `taken_since`.
    taken: usize,
    taken_since: Instant,
}

impl PexExchange {
    /// The peer speaks ut_pex.
    pub fn joined(&mut self, now: Instant, conn: ConnectionId) {
        self.sides.entry(conn).or_insert_with(|| Side {
            told: BTreeSet::new(),
            next_at: now + FIRST_AFTER,
            taken: 0,
            taken_since: now,
        });
    }

    /// The connection is gone, or the peer speaks ut_pex no more.
    pub fn left(&mut self, conn: ConnectionId) {
        self.sides.remove(&conn);
    }

    /// When to call [`messages`](Self::messages).
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.sides.values().map(|side| side.next_at).min()
    }

    /// The messages that are due: each tells what of `peers` (whom we are connected to, at their
    /// listening addresses) is news to the receiver. `may_tell` says of whom a peer may be told;
    /// it should never be itself.
    pub fn messages(
        &mut self,
        now: Instant,
        peers: &[PexPeer],
        may_tell: impl Fn(ConnectionId, SocketAddr) -> bool,
    ) -> Vec<(ConnectionId, PexMessage)> {
        let connected: BTreeSet<_> = peers.iter().map(|peer| peer.addr).collect();
        let mut messages = Vec::new();
        for (&conn, side) in &mut self.sides {
            if now < side.next_at {
                continue;
            }
            side.next_at = now + EVERY;
            let gone = side.told.difference(&connected).copied();
            let dropped: Vec<_> = gone.take(PER_MESSAGE_MAX).collect();
            for addr in &dropped {
                side.told.remove(addr);
            }
            let mut added = Vec::new();
            for peer in peers {
                if added.len() == PER_MESSAGE_MAX {
                    break;
                }
                if may_tell(conn, peer.addr) && side.told.insert(peer.addr) {
                    added.push(*peer);
                }
            }
            if !(added.is_empty() && dropped.is_empty()) {
                messages.push((conn, PexMessage { added, dropped }));
            }
        }
        messages
    }

    /// What to believe of a message: hints, at most [`limits::PEX_PEERS_PER_MINUTE_MAX`] a minute of
    /// each peer. That a peer was dropped by another tells us nothing.
    pub fn take(&mut self, now: Instant, conn: ConnectionId, message: PexMessage) -> Vec<PexPeer> {
        let Some(side) = self.sides.get_mut(&conn) else {
            return Vec::new();
        };
        if now.saturating_duration_since(side.taken_since) >= EVERY {
            side.taken_since = now;
            side.taken = 0;
        }
        let room = limits::PEX_PEERS_PER_MINUTE_MAX.saturating_sub(side.taken);
        let mut peers = message.added;
        peers.truncate(room);
        side.taken += peers.len();
        peers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::pex::PexFlags;

    fn peers(numbers: std::ops::Range<u32>) -> Vec<PexPeer> {
        numbers
            .map(|n| PexPeer {
                addr: (n.to_be_bytes(), 1).into(),
                flags: PexFlags::default(),
            })
            .collect()
    }

    #[test]
    fn a_peer_is_told_at_most_fifty_a_minute_and_never_of_itself() {
        let began = Instant::now();
        let conn = ConnectionId(1);
        let all = peers(1..121);
        let itself = all[0].addr;
        let mut pex = PexExchange::default();
        pex.joined(began, conn);
        let mut told = BTreeSet::new();
        let mut now = began;
        for minute in 0..4 {
            assert_eq!(pex.messages(now, &all, |_, _| true), [], "too soon");
            now = pex.poll_timeout().unwrap();
            assert_eq!(now, began + FIRST_AFTER + EVERY * minute);
            for (to, message) in pex.messages(now, &all, |_, addr| addr != itself) {
                assert_eq!(to, conn);
                assert!(message.added.len() <= 50 && message.dropped.is_empty());
                told.extend(message.added.iter().map(|peer| peer.addr));
            }
        }
        assert_eq!(told.len(), 119);
        assert!(!told.contains(&itself));
        // Of those that left it hears as slowly.
        let mut dropped = 0;
        for _ in 0..3 {
            now += EVERY;
            for (_, message) in pex.messages(now, &all[100..], |_, _| false) {
                assert!(message.added.is_empty() && message.dropped.len() <= 50);
                dropped += message.dropped.len();
            }
        }
        assert_eq!(dropped, 99);
        pex.left(conn);
        assert_eq!(pex.poll_timeout(), None);
    }

    #[test]
    fn t21_of_a_million_entries_a_minutes_worth_is_taken() {
        let now = Instant::now();
        let mut pex = PexExchange::default();
        let conn = ConnectionId(1);
        let flood = |from| PexMessage {
            added: peers(from..from + 200),
            dropped: Vec::new(),
        };
        assert_eq!(
            pex.take(now, conn, flood(1)),
            [],
            "it never said it speaks PEX"
        );
        pex.joined(now, conn);
        let take = |pex: &mut PexExchange, now| -> usize {
            let taken = (0..5000).map(|n| pex.take(now, conn, flood(1 + n * 200)).len());
            taken.sum()
        };
        assert_eq!(take(&mut pex, now), limits::PEX_PEERS_PER_MINUTE_MAX);
        assert_eq!(take(&mut pex, now + EVERY / 2), 0);
        assert_eq!(
            take(&mut pex, now + EVERY),
            limits::PEX_PEERS_PER_MINUTE_MAX
        );
    }
}
