//! What to ask of whom.

use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::peers::Peer;
use super::view::content_len;
use super::{Deadline, Download};
use crate::geometry::{BlockRange, PieceIndex};
use crate::limits;
use crate::session::ConnectionId;

/// Until we have so many pieces, peers help each other with those under way.
const FIRST_TOGETHER: u32 = 1;
/// In the endgame, a block is asked of a second peer once the first owes it for so long, or is
/// much slower.
const ENDGAME_PATIENCE: Duration = Duration::from_secs(1);
/// For a block that a reader waits for.
const DEADLINE_PATIENCE: Duration = Duration::from_millis(500);
/// Once the others have sent nothing for so long, a peer that suggests is asked for all that it has:
/// the crowd that was to have the rest is gone.
const CROWD_PATIENCE: Duration = Duration::from_millis(1500);

impl Download {
    /// Asks the peer for as much as its depth allows.
    pub(super) fn fill(&mut self, now: Instant, conn: ConnectionId) {
        loop {
            let Some(peer) = self.peers.get(&conn) else {
                return;
            };
            let depth = match self.ahead.is_scarce() {
                true => 1,
                false => peer.depth(),
            };
            if !peer.serves_us()
                || (self.ahead.is_full() && !self.may_try(now, conn))
                || peer.asked.len() >= depth
                || peer.idle_at == Some(self.changes)
                || self.verifying_bytes >= self.pending_max()
            {
                return;
            }
            match self.pick(now, conn) {
                Some(range) => {
                    self.assembler.asked(range, conn, now);
                    if let Some(peer) = self.peers.get_mut(&conn) {
                        peer.asked.insert(range, now);
                    }
                    self.ahead.asked();
                    self.tell_patience(conn);
                    self.ask(conn, range);
                }
                None => {
                    let changes = self.changes;
                    if let Some(peer) = self.peers.get_mut(&conn) {
                        peer.idle_at = Some(changes);
                    }
                    return;
                }
            }
        }
    }

    /// Something may be asked for that could not before.
    pub(super) fn fill_all(&mut self, now: Instant) {
        self.changes += 1;
        let mut conns: Vec<_> = self.peers.keys().copied().collect();
        if self.ahead.is_late() && !conns.is_empty() {
            // Who comes first has what little there is: each in its turn.
            let first = self.changes % conns.len() as u64;
            conns.rotate_left(first as usize);
        }
        for conn in conns {
            self.fill(now, conn);
        }
        self.fill_web(now);
    }

    fn pick(&mut self, now: Instant, conn: ConnectionId) -> Option<BlockRange> {
        if self.peers.get(&conn)?.chokes_us {
            return self.pick_allowed(conn);
        }
        if let Some(range) = self.pick_deadline(now, conn) {
            return Some(range);
        }
        if let Some(range) = self.pick_suspect(conn) {
            return Some(range);
        }
        if self.is_guided_by(now, conn) {
            return self
                .pick_suggested(now, conn)
                .or_else(|| self.pick_begun(conn))
                .or_else(|| self.pick_orphan(conn))
                .or_else(|| self.pick_last(conn))
                .or_else(|| self.pick_endgame(now, conn));
        }
        self.pick_own(conn)
            .or_else(|| self.pick_new(conn))
            .or_else(|| self.pick_open(conn))
            .or_else(|| self.pick_endgame(now, conn))
    }

    /// A block that a reader waits for, the most urgent first.
    fn pick_deadline(&mut self, now: Instant, conn: ConnectionId) -> Option<BlockRange> {
        if self.deadlines.is_empty() {
            return None;
        }
        let mut urgent: Vec<_> = self
            .deadlines
            .iter()
            .map(|(piece, deadline)| (*deadline, *piece))
            .collect();
        urgent.sort_unstable();
        for (Deadline { first, .. }, piece) in urgent {
            let peer = self.peers.get(&conn)?;
            if !peer.has(piece.get()) {
                continue;
            }
            if self.picker.is_startable(piece) && self.may_start(piece, conn) {
                self.start(piece, conn);
            }
            if let Some(range) = self.unasked(piece, first, conn) {
                return Some(range);
            }
            let range = self.asked_once(now, (piece, first), conn, DEADLINE_PATIENCE);
            if range.is_some() {
                return range;
            }
        }
        None
    }

    /// A piece of which an earlier try was false: from this peer alone.
    fn pick_suspect(&mut self, conn: ConnectionId) -> Option<BlockRange> {
        let peer = self.peers.get(&conn)?;
        let piece = self.suspects.pieces().find(|piece| {
            self.picker.is_startable(*piece)
                && peer.has(piece.get())
                && self.may_start(*piece, conn)
        })?;
        self.start(piece, conn);
        self.unasked(piece, 0, conn)
    }

    /// A block of a piece that this peer began: a piece from one sender is done no later than
    /// many pieces from many, and when it is false that sender is known at once.
    fn pick_own(&self, conn: ConnectionId) -> Option<BlockRange> {
        // The first pieces are got together, to have something to trade soon; and what a peer
        // began that sends no more is gone on with by any.
        let together = self.have.count() < FIRST_TOGETHER;
        let is_ours = |piece: &PieceIndex| {
            let starter = self.assembler.starter(*piece);
            let other = starter.and_then(|starter| self.peers.get(&starter));
            together
                || starter == Some(conn)
                || other.is_none_or(|peer| peer.snubs || peer.chokes_us)
        };
        self.assembler
            .open()
            .filter(is_ours)
            .find_map(|piece| self.unasked(piece, 0, conn))
    }

    /// A block of a piece that was begun with this peer: it will be suggested to nobody else.
    fn pick_begun(&self, conn: ConnectionId) -> Option<BlockRange> {
        let begun = self.assembler.open();
        begun
            .filter(|piece| self.assembler.starter(*piece) == Some(conn))
            .find_map(|piece| self.unasked(piece, 0, conn))
    }

    /// A block of a piece that is under way.
    fn pick_open(&self, conn: ConnectionId) -> Option<BlockRange> {
        self.assembler
            .open()
            .find_map(|piece| self.unasked(piece, 0, conn))
    }

    /// A block of a piece under way, when every piece that is missing is: what is left is had of
    /// whoever has it.
    fn pick_last(&self, conn: ConnectionId) -> Option<BlockRange> {
        match self.picker.startable() {
            0 => self.pick_open(conn),
            _ => None,
        }
    }

    /// A block of a piece under way that of all who are not silent this peer alone has: whatever
    /// else it suggests, there is nobody to wait for.
    fn pick_orphan(&self, conn: ConnectionId) -> Option<BlockRange> {
        let is_orphan = |piece: &PieceIndex| {
            let mut others = self.peers.iter().filter(|(other, _)| **other != conn);
            !others.any(|(_, peer)| !peer.snubs && peer.has(piece.get()))
        };
        self.assembler
            .open()
            .filter(is_orphan)
            .find_map(|piece| self.unasked(piece, 0, conn))
    }

    /// The peer suggests a piece (BEP 6).
    pub(super) fn suggested(&mut self, now: Instant, conn: ConnectionId, piece: PieceIndex) {
        if !self.missing.contains(piece) {
            return;
        }
        if let Some(peer) = self.peers.get_mut(&conn) {
            peer.suggestions.push_back(piece);
            while peer.suggestions.len() > limits::SUGGESTIONS_MAX {
                peer.suggestions.pop_front();
            }
            peer.guided(now);
            peer.idle_at = None;
        }
        self.fill(now, conn);
    }

    /// Whether a peer that suggests is asked for nothing else: what it doesn't suggest, others
    /// have or will have soon, and what it sends twice, the crowd lacks.
    fn is_guided_by(&mut self, now: Instant, conn: ConnectionId) -> bool {
        let missing = &self.missing;
        let Some(peer) = self.peers.get_mut(&conn) else {
            return false;
        };
        peer.suggestions.retain(|piece| missing.contains(*piece));
        match self.crowd_at {
            Some(at) => now < at + CROWD_PATIENCE && peer.guided_lately(now),
            None => peer.guides(now),
        }
    }

    /// A block of a piece that the peer suggests.
    fn pick_suggested(&mut self, now: Instant, conn: ConnectionId) -> Option<BlockRange> {
        let room = self.held_bytes() < self.pending_max();
        let suggestions = self.peers.get(&conn)?.suggestions.clone();
        for piece in suggestions {
            if room
                && self.picker.is_startable(piece)
                && self.peers.get(&conn)?.has(piece.get())
                && self.may_start(piece, conn)
            {
                self.start(piece, conn);
            }
            if let Some(range) = self.unasked(piece, 0, conn) {
                self.peers.get_mut(&conn)?.guided(now);
                return Some(range);
            }
        }
        None
    }

    /// The first block of a new piece, the rarest.
    fn pick_new(&mut self, conn: ConnectionId) -> Option<BlockRange> {
        if self.held_bytes() >= self.pending_max() || !self.has_room() {
            return None;
        }
        // A piece that is all padding is done as soon as it is started; take the next then.
        while self.picker.startable() > 0 {
            let mut rng = SmallRng::from_rng(&mut self.rng);
            let has = self.peers.get(&conn)?.pieces.as_ref()?;
            let allowed = |index: u32| {
                let piece = self.geometry().and_then(|geometry| geometry.piece(index));
                piece.is_some_and(|piece| self.may_start(piece, conn))
            };
            let index = self.picker.pick(has, allowed, self.have.count(), &mut rng);
            let piece = self.geometry()?.piece(index?)?;
            self.start(piece, conn);
            if let Some(range) = self.unasked(piece, 0, conn) {
                return Some(range);
            }
        }
        None
    }

    /// A block that another peer owes for long, when there is nothing else left.
    fn pick_endgame(&self, now: Instant, conn: ConnectionId) -> Option<BlockRange> {
        if self.picker.startable() > 0 || self.assembler.has_open() {
            return None;
        }
        let peer = self.peers.get(&conn)?;
        self.assembler
            .pieces()
            .filter(|piece| peer.has(piece.get()))
            .find_map(|piece| self.asked_once(now, (piece, 0), conn, ENDGAME_PATIENCE))
    }

    pub(super) fn unasked(
        &self,
        piece: PieceIndex,
        first: usize,
        conn: ConnectionId,
    ) -> Option<BlockRange> {
        if !self.peers.get(&conn)?.has(piece.get()) {
            return None;
        }
        match self.assembler.owner(piece) {
            Some(owner) if owner != conn => None,
            None if self.is_kept_alone(piece, conn) => None,
            _ => self.assembler.unasked(self.geometry()?, piece, first),
        }
    }

    fn asked_once(
        &self,
        now: Instant,
        (piece, first): (PieceIndex, usize),
        conn: ConnectionId,
        patience: Duration,
    ) -> Option<BlockRange> {
        let peer = self.peers.get(&conn)?;
        // Two that are gone would hand a block to each other for ever.
        if peer.snubs || self.is_kept_alone(piece, conn) {
            return None;
        }
        let rate = peer.down.per_sec();
        let is_slow = |other: ConnectionId, since: Instant| {
            let theirs = self
                .peers
                .get(&other)
                .map_or_else(|| self.web.rate(other), |peer| peer.down.per_sec());
            since + patience <= now || theirs * 4.0 < rate
        };
        self.assembler
            .asked_once(self.geometry()?, (piece, first), conn, is_slow)
    }

    /// Whether the peer may begin the piece. What is fetched from one peer alone is begun by one that is under
    /// suspicion there only if nobody else could, and by one that fell silent last of all.
    pub(super) fn may_start(&self, piece: PieceIndex, conn: ConnectionId) -> bool {
        if !self.has_room_for(piece) {
            return false;
        }
        let alone = self.suspects.contains(piece) || self.is_kept_alone(piece, conn);
        if !alone {
            return true;
        }
        let silent = |conn| self.peers.get(&conn).is_some_and(|peer| peer.snubs);
        let rank = |conn| (silent(conn), self.suspects.is_sender(piece, conn));
        let could = |peer: &Peer| peer.established && !peer.chokes_us && peer.has(piece.get());
        let mut others = self.peers.iter().filter(|(_, peer)| could(peer));
        others.all(|(other, _)| rank(conn) <= rank(*other))
    }

    pub(super) fn start(&mut self, piece: PieceIndex, conn: ConnectionId) {
        let Some(torrent) = &self.torrent else {
            return;
        };
        let geometry = torrent.meta.geometry();
        let alone = self.suspects.contains(piece) || self.is_kept_alone(piece, conn);
        self.picker.set_startable(piece, false);
        self.room.moved_at = self.ticked_at;
        let content = |range: &_| content_len(&torrent.meta, range);
        let started = self.assembler.start(geometry, piece, conn, alone, content);
        self.piece_started(piece);
        if let Some((bytes, senders)) = started {
            self.assembled(piece, bytes, senders);
        }
    }
}
