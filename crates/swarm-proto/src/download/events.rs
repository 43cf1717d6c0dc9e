//! What peers do.

use std::time::Instant;

use bytes::Bytes;

use super::assemble::Placed;
use super::peers::{Identity, Peer};
use super::{Action, Download, Fetch, PeerInfo, TICK};
use crate::bitfield::Bitfield;
use crate::geometry::{BlockRange, PieceIndex};
use crate::id::{PeerId, SwarmId};
use crate::session::{Block, CloseReason, Command, ConnectionId, SessionEvent};

impl Download {
    /// A connection came about; its events may follow. Call it before any of them.
    pub fn peer_joined(&mut self, now: Instant, conn: ConnectionId, info: PeerInfo) {
        self.ticked_at.get_or_insert(now);
        self.rechoke_at.get_or_insert(now + self.config.rechoke);
        if self.bans.contains(info.addr, None) {
            return self.close(conn, CloseReason::Banned);
        }
        if !self.make_slot(now, info.addr) {
            return self.close(conn, CloseReason::TooManyPeers);
        }
        self.peers.insert(conn, Peer::new(info, now, &self.config));
        self.punches.joined(conn, info.addr, info.outgoing);
        self.introduce(now, conn);
    }

    /// Tells a session what we have.
    pub(super) fn introduce(&mut self, now: Instant, conn: ConnectionId) {
        match &self.torrent {
            Some(torrent) => {
                let geometry = torrent.meta.geometry().clone();
                let len = torrent.meta.raw_info().len();
                self.command(conn, Command::SetGeometry(geometry));
                if let Ok(len) = u32::try_from(len) {
                    self.command(conn, Command::SetMetadataSize(len));
                }
                // Some see everything, others piece by piece: that depends on who they are.
                if !self.may_hide(now) || self.peers.get(&conn).is_some_and(|p| p.established) {
                    self.show_pieces(now, conn);
                }
            }
            None => self.command(conn, Command::Bitfield(Bitfield::none(0))),
        }
    }

    /// The connection is gone. May be called more than once.
    pub fn peer_left(&mut self, now: Instant, conn: ConnectionId) {
        self.punches.left(conn);
        let Some(mut peer) = self.peers.remove(&conn) else {
            return;
        };
        let identity = Identity {
            addr: peer.info.addr,
            peer_id: peer.peer_id,
        };
        self.departed.insert(conn, identity);
        if peer.is_seed() {
            self.seed_left_at = Some(now);
        }
        self.remember_taken(now, &peer);
        peer.uncount(&mut self.picker);
        self.suggested_is_lost(&peer);
        self.ahead.settled(peer.asked.len());
        for range in peer.asked.into_keys() {
            self.assembler.released(range, conn);
        }
        self.disown(conn);
        self.proofs.left(conn);
        self.suspects.clear(conn);
        if let Some(torrent) = &mut self.torrent {
            torrent.hashes.left(conn);
        }
        match &mut self.fetch {
            Some(Fetch::Metadata(fetch)) => fetch.left(conn),
            Some(Fetch::Layers(fetch)) => fetch.left(conn),
            _ => {}
        }
        self.fill_slots(now);
        self.advance_fetch(now);
        self.fill_all(now);
    }

    /// Pieces that only this peer was to send are begun anew by another.
    pub(super) fn disown(&mut self, conn: ConnectionId) {
        for piece in self.assembler.owned_by(conn) {
            self.abandon(piece);
            self.refresh(piece);
        }
    }

    /// A session tells something.
    pub fn handle_event(&mut self, now: Instant, conn: ConnectionId, event: SessionEvent) {
        if !self.peers.contains_key(&conn) {
            return;
        }
        match event {
            SessionEvent::Established {
                peer_id,
                swarm_id,
                reserved,
            } => {
                if let Some(peer) = self.peers.get_mut(&conn) {
                    peer.knows_v2 = reserved.v2();
                }
                self.established(now, conn, peer_id, swarm_id);
            }
            SessionEvent::ExtendedHandshake(said) => {
                if let Some(peer) = self.peers.get_mut(&conn) {
                    peer.metadata_size = said.ut_metadata.and(said.metadata_size);
                    peer.upload_only = said.upload_only;
                    peer.queues = said.request_queue;
                }
                self.named(conn, said.client.as_deref());
                self.punches.said(conn, &said);
                self.advance_fetch(now);
            }
            SessionEvent::PeerHas(set) => self.peer_has(now, conn, set),
            SessionEvent::PeerLacks(piece) => self.peer_lacks(now, conn, piece),
            SessionEvent::Suggested(piece) => self.suggested(now, conn, piece),
            SessionEvent::AllowedFast(piece) => self.allowed(now, conn, piece),
            SessionEvent::Choked(choked) => {
                if let Some(peer) = self.peers.get_mut(&conn) {
                    peer.chokes_us = choked;
                    peer.idle_at = None;
                }
                match choked {
                    true => {
                        self.disown(conn);
                        self.fill_all(now);
                    }
                    false => self.fill(now, conn),
                }
            }
            SessionEvent::PeerInterested(wants) => {
                if let Some(peer) = self.peers.get_mut(&conn) {
                    peer.wants = wants;
                }
                if !wants {
                    self.set_choke(now, conn, true);
                }
                self.suggest_more(now);
                self.fill_slots(now);
            }
            SessionEvent::Requested(range) => {
                self.requested(conn, range);
                self.suggested_is_asked(now, conn, range);
            }
            // Of whom else it knows is for the driver to hear.
            SessionEvent::Pex(_) | SessionEvent::DhtPort(_) => {}
            SessionEvent::Cancelled(range) => self.count_unsent(range.len()),
            SessionEvent::Block(block) => self.block(now, conn, block),
            SessionEvent::Rejected(range) => {
                let range = self.our_range(conn, range);
                self.refused(now, conn, range.piece());
                self.released(now, conn, range);
            }
            SessionEvent::TimedOut(range) => {
                let range = self.our_range(conn, range);
                if let Some(peer) = self.peers.get_mut(&conn) {
                    peer.timed_out();
                }
                if self.assembler.owner(range.piece()) == Some(conn) {
                    self.disown(conn);
                }
                self.released(now, conn, range);
            }
            SessionEvent::MetadataRequested(piece) => self.metadata_requested(conn, piece),
            SessionEvent::MetadataPiece {
                piece,
                total,
                bytes,
            } => {
                self.metadata_piece(now, conn, (piece, total, bytes));
            }
            SessionEvent::MetadataRejected(_) => {
                if let Some(Fetch::Metadata(fetch)) = &mut self.fetch {
                    fetch.rejected(now, conn);
                }
                self.advance_fetch(now);
            }
            SessionEvent::HashesRequested(request) => self.hashes_requested(conn, request),
            SessionEvent::Hashes { request, hashes } => {
                self.hashes(now, conn, &request, &hashes);
            }
            SessionEvent::HashesRejected(request) => {
                self.hashes_rejected(now, conn, &request);
            }
            SessionEvent::Holepunch(message) => self.holepunch(now, conn, message),
            SessionEvent::Closed(_) => self.peer_left(now, conn),
        }
    }

    fn established(
        &mut self,
        now: Instant,
        conn: ConnectionId,
        peer_id: PeerId,
        swarm_id: SwarmId,
    ) {
        let Some(peer) = self.peers.get_mut(&conn) else {
            return;
        };
        peer.established = true;
        peer.peer_id = Some(peer_id);
        peer.swarm_id = Some(swarm_id);
        let info = peer.info;
        if self.bans.contains(info.addr, Some(peer_id)) {
            self.close(conn, CloseReason::Banned);
            return self.peer_left(now, conn);
        }
        if let Some(loser) = self.duplicate(conn, info, peer_id) {
            self.close(loser, CloseReason::Duplicate);
            self.peer_left(now, loser);
        }
        if self.torrent.is_some() && self.peers.get(&conn).is_some_and(|peer| !peer.told) {
            self.show_pieces(now, conn);
            self.suggest_more(now);
        }
    }

    /// The connection to give up, if this peer is connected twice.
    ///
    /// Two that call each other at the same time must give up the same one: the one that the
    /// greater peer id opened.
    fn duplicate(
        &self,
        conn: ConnectionId,
        info: PeerInfo,
        peer_id: PeerId,
    ) -> Option<ConnectionId> {
        let (other, twin) = self.peers.iter().find(|(other, twin)| {
            **other != conn
                && twin.established
                && twin.peer_id == Some(peer_id)
                && twin.info.addr.ip() == info.addr.ip()
        })?;
        match self.config.peer_id {
            Some(ours) if twin.info.outgoing != info.outgoing => {
                let keep_ours = ours < peer_id;
                Some(if info.outgoing == keep_ours {
                    *other
                } else {
                    conn
                })
            }
            _ => Some(conn),
        }
    }

    fn requested(&mut self, conn: ConnectionId, range: BlockRange) {
        let Some(torrent) = &self.torrent else {
            return self.command(conn, Command::RejectRequest(range));
        };
        if !self.have.contains(range.piece()) {
            return self.command(conn, Command::RejectRequest(range));
        }
        let is_pad = torrent
            .meta
            .is_pad(&torrent.meta.geometry().block_bytes(&range));
        self.count_sent(conn, range.len());
        match is_pad {
            // What v1 clients ask for between files: nobody needs a store to know it.
            true => {
                let zeros = Bytes::from(vec![0; range.len() as usize]);
                self.command(conn, Command::SendBlock(range, zeros));
            }
            false => self.actions.push_back(Action::ReadBlock { conn, range }),
        }
    }

    fn block(&mut self, now: Instant, conn: ConnectionId, block: Block) {
        let (range, len) = (self.our_range(conn, block.range()), block.range().len());
        self.totals.downloaded += u64::from(len);
        self.room.moved_at = Some(now);
        self.totals.down.add(len);
        let Some(peer) = self.peers.get_mut(&conn) else {
            return;
        };
        let asked_at = peer.asked.remove(&range);
        let was_full = self.ahead.is_full();
        self.ahead.settled(usize::from(asked_at.is_some()));
        if let Some(asked_at) = asked_at {
            let waited = now.saturating_duration_since(asked_at);
            self.ahead.block_came(waited);
        }
        peer.block_came(now, len, asked_at, &self.config);
        if !peer.guided_lately(now) {
            self.crowd_at = Some(now);
        }
        if let Some(block) = self.our_block(now, conn, block) {
            self.place(now, conn, block);
        }
        self.fill(now, conn);
        if was_full && !self.ahead.is_full() {
            self.fill_all(now);
        }
    }

    /// A block of a peer or a web seed is here: it goes to its place if it can't be told to be
    /// false, and nobody else needs to send it.
    pub(super) fn place(&mut self, now: Instant, conn: ConnectionId, block: Block) {
        let range = block.range();
        let Some(block) = self.check_block(now, conn, block) else {
            return;
        };
        let Some(torrent) = &self.torrent else {
            return;
        };
        let (placed, others) = self.assembler.place(torrent.meta.geometry(), block, conn);
        for other in others {
            self.web.cancelled(other, &range);
            if let Some(peer) = self.peers.get_mut(&other) {
                let owed = peer.asked.remove(&range).is_some();
                self.ahead.settled(usize::from(owed));
                self.cancel(other, range);
                self.fill(now, other);
            }
        }
        match placed {
            Placed::Kept => {}
            Placed::Useless => self.totals.wasted += u64::from(range.len()),
            Placed::Piece(bytes, senders) => self.assembled(range.piece(), bytes, senders),
        }
    }

    /// The peer will not send the block, or not soon.
    fn released(&mut self, now: Instant, conn: ConnectionId, range: BlockRange) {
        let Some(peer) = self.peers.get_mut(&conn) else {
            return;
        };
        if peer.asked.remove(&range).is_none() {
            return;
        }
        self.ahead.settled(1);
        if self.assembler.released(range, conn) {
            // Others first: this one just failed to send it.
            peer.idle_at = Some(self.changes + 1);
            self.fill_all(now);
        }
    }

    /// Time went by.
    pub fn handle_timeout(&mut self, now: Instant) {
        let Some(ticked_at) = self.ticked_at else {
            return;
        };
        let elapsed = now.saturating_duration_since(ticked_at);
        if elapsed < TICK {
            return;
        }
        self.ticked_at = Some(now);
        let came = self.totals.down.tick(elapsed);
        self.totals.up.tick(elapsed);
        for peer in self.peers.values_mut() {
            peer.tick(elapsed, &self.config);
        }
        self.tick_ahead(now, came, elapsed);
        if self.rechoke_at.is_some_and(|at| at <= now) {
            self.rechoke_at = Some(now + self.config.rechoke);
            self.rechoke(now);
        }
        self.tick_web(now, elapsed);
        self.advance_fetch(now);
        self.advance_proofs(now);
        if let Some(torrent) = &mut self.torrent {
            torrent.hashes.tick(now);
        }
        self.update_interest();
        self.fill_all(now);
        self.take_unheeded(now);
        self.choke_takers(now);
        self.review_shown(now);
        self.suggest_more(now);
        self.fill_slots(now);
        self.close_useless(now);
    }

    /// Tells every peer whether we want something of it.
    pub(super) fn update_interest(&mut self) {
        self.update_wants();
        let conns: Vec<_> = self.peers.keys().copied().collect();
        for conn in conns {
            self.update_interest_of(conn);
        }
    }

    pub(super) fn update_interest_of(&mut self, conn: ConnectionId) {
        let Some(peer) = self.peers.get_mut(&conn) else {
            return;
        };
        let want = peer
            .pieces
            .as_ref()
            .is_some_and(|has| has.intersects(&self.missing));
        if peer.we_want != want {
            peer.we_want = want;
            self.command(conn, Command::Interested(want));
        }
    }

    /// Takes back requests for blocks that nobody waits for, at the end of full queues, so that
    /// an urgent piece can be asked for now.
    pub(super) fn make_room_for(&mut self, urgent: PieceIndex) {
        if !self.missing.contains(urgent) || self.verifying.contains_key(&urgent) {
            return;
        }
        let blocks = self
            .geometry()
            .map_or(0, |geometry| geometry.blocks(urgent).count());
        // No more than the piece has: what is taken back may be on its way and come for nothing.
        let mut needed = blocks;
        let mut cancels = Vec::new();
        for (conn, peer) in &mut self.peers {
            let is_full = peer.asked.len() >= peer.depth() || self.ahead.is_full();
            if !peer.has(urgent.get()) || peer.chokes_us || !is_full {
                continue;
            }
            let mut room = peer.asked.len().div_ceil(2).min(needed);
            needed -= room;
            while room > 0
                && let Some(last) = peer
                    .asked
                    .keys()
                    .rev()
                    .find(|range| !self.deadlines.contains_key(&range.piece()))
                    .copied()
            {
                peer.asked.remove(&last);
                cancels.push((*conn, last));
                room -= 1;
            }
        }
        self.ahead.settled(cancels.len());
        for (conn, range) in cancels {
            self.assembler.released(range, conn);
            self.cancel(conn, range);
        }
    }
}
