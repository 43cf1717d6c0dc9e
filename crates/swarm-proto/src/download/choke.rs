//! Whom to serve.
//!
//! A slot that is free is given at once: a peer that waits for the next round to be unchoked loses
//! seconds in which nobody gains. While more peers want than there are slots, a seed passes half
//! of the slots on each round, to those that waited longest. A leech keeps those that give it
//! most, and one more by turns, so that a peer with nothing to give yet gets something.

use std::time::Instant;

use super::Download;
use super::peers::Peer;
use crate::session::{Command, ConnectionId};

impl Download {
    /// Gives free slots away.
    pub(super) fn fill_slots(&mut self, now: Instant) {
        loop {
            if self.served() >= self.config.upload_slots {
                return;
            }
            let waiting = self.peers.iter().filter(|(_, peer)| {
                peer.wants && peer.we_choke && !self.should_await_suggestion(now, peer)
            });
            let Some(conn) = waiting
                .min_by_key(|(_, peer)| peer.choke_since)
                .map(|(conn, _)| *conn)
            else {
                return;
            };
            self.set_choke(now, conn, false);
        }
    }

    /// Slots in use.
    pub(super) fn served(&self) -> usize {
        let served = |peer: &&Peer| !peer.we_choke && peer.wants;
        self.peers.values().filter(served).count()
    }

    /// Gives the slots anew.
    pub(super) fn rechoke(&mut self, now: Instant) {
        let slots = self.config.upload_slots;
        let mut served: Vec<ConnectionId> = Vec::new();
        let mut waiting: Vec<ConnectionId> = Vec::new();
        for (conn, peer) in &self.peers {
            match (peer.wants, peer.we_choke) {
                (true, true) => waiting.push(*conn),
                (true, false) => served.push(*conn),
                _ => {}
            }
        }
        if served.len() + waiting.len() <= slots {
            return self.fill_slots(now);
        }
        let since = |conn: &ConnectionId| self.peers.get(conn).map(|peer| peer.choke_since);
        waiting.sort_by_key(since);
        served.sort_by_key(since);
        if !self.is_complete() {
            // The best givers come last, and so keep their slots.
            let given = |conn: &ConnectionId| {
                self.peers
                    .get(conn)
                    .map_or(0, |peer| peer.down.per_sec() as u64)
            };
            served.sort_by_key(given);
            let worst_served = served.first().map_or(0, given);
            // Whoever waits and gives more than somebody served gets a slot, and one more by turns.
            let turns = waiting.first().copied();
            waiting.retain(|conn| given(conn) > worst_served || Some(*conn) == turns);
        }
        let passed_on = waiting.len().min(slots.div_ceil(2)).min(served.len());
        let losers: Vec<_> = served.drain(..passed_on).collect();
        for conn in losers {
            self.set_choke(now, conn, true);
        }
        for conn in waiting.into_iter().take(passed_on) {
            self.set_choke(now, conn, false);
        }
        self.fill_slots(now);
    }

    pub(super) fn set_choke(&mut self, now: Instant, conn: ConnectionId, choke: bool) {
        if let Some(peer) = self.peers.get_mut(&conn)
            && peer.we_choke != choke
        {
            peer.we_choke = choke;
            peer.choke_since = now;
            self.command(conn, Command::Choke(choke));
        }
    }
}
