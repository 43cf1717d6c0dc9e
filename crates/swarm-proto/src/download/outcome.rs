//! What becomes of whole pieces.

use std::time::Instant;

use bytes::Bytes;

use super::assemble::Senders;
use super::peers::Peer;
use super::{Action, Download, suspects};
use crate::geometry::{BLOCK_LEN, PieceIndex};
use crate::merkle::Hash;
use crate::session::{CloseReason, Command, ConnectionId, Misbehaviour};
use crate::verify::{AssembledPiece, VerifyError, VerifyFault};

/// The peer that sent all of a piece, if it was one.
fn only_sender(senders: &Senders) -> Option<ConnectionId> {
    let mut of = senders.iter().flatten();
    let first = *of.next()?;
    of.all(|sender| *sender == first).then_some(first)
}

impl Download {
    pub(super) fn assembled(&mut self, piece: PieceIndex, bytes: Bytes, senders: Senders) {
        self.verifying_bytes += bytes.len() as u64;
        self.verifying.insert(piece, (bytes.clone(), senders));
        self.actions
            .push_back(Action::Verify(AssembledPiece { piece, bytes }));
    }

    /// The piece is verified and stored, wherever it came from: all peers are told.
    pub fn piece_verified(&mut self, now: Instant, piece: PieceIndex) {
        if self
            .geometry()
            .and_then(|geometry| geometry.piece(piece.get()))
            .is_none()
        {
            return;
        }
        if let Some((bytes, senders)) = self.take_verifying(piece) {
            if let Some(only) = only_sender(&senders) {
                self.suspects.clear(only);
            }
            if self.suspects.contains(piece) {
                let truth = self.block_hashes(piece, &bytes);
                let liars = self.suspects.settle(piece, &truth);
                self.ban_all(now, piece, liars);
            }
            let room = self.pending_max().saturating_sub(self.verifying_bytes);
            self.assembler.recycle(bytes, room);
        }
        self.proofs.forget(piece);
        self.abandon(piece);
        if self.have.insert(piece) {
            let conns: Vec<_> = self.peers.keys().copied().collect();
            for conn in conns {
                self.command(conn, Command::Have(piece));
            }
        }
        self.deadlines.remove(&piece);
        self.refresh(piece);
        if self.have.is_all() && !std::mem::replace(&mut self.completed, true) {
            self.actions.push_back(Action::Completed);
        }
        if self.missing.is_none() {
            self.update_interest();
        }
        // There is room again for pieces under way.
        self.fill_all(now);
    }

    /// The piece is not what the torrent says: finds who lied, now or at the next try.
    pub fn piece_failed(&mut self, now: Instant, error: &VerifyError) {
        let piece = error.piece;
        let Some((bytes, senders)) = self.take_verifying(piece) else {
            return;
        };
        // Without a hash nobody can be blamed.
        if error.fault != VerifyFault::Unknown {
            self.raise_alarm(now);
            let hashes = match error.leaves.is_empty() {
                true => self.block_hashes(piece, &bytes),
                false => error.leaves.clone(),
            };
            let rescued =
                !error.leaves.is_empty() && self.rescue(now, piece, &bytes, &senders, &hashes);
            if !rescued {
                self.totals.wasted += bytes.len() as u64;
                self.suspect(piece, &senders, hashes);
            }
            if let Some(only) = only_sender(&senders) {
                let blocks = bytes.len().div_ceil(BLOCK_LEN as usize);
                let what = format!(
                    "false piece {}, all of whose blocks (0 to {}) it sent",
                    piece.get(),
                    blocks.saturating_sub(1)
                );
                self.ban(now, only, piece, what);
            }
        }
        self.refresh(piece);
        self.fill_all(now);
    }

    /// A false piece whose true blocks nobody can tell: it is fetched again from one peer alone.
    pub(super) fn suspect(&mut self, piece: PieceIndex, senders: &Senders, hashes: Vec<Hash>) {
        // A single sender needs no suspicion.
        if only_sender(senders).is_none() && senders.iter().any(Option::is_some) {
            self.suspects.add(piece, hashes, senders);
        }
    }

    /// The hash of each block of a piece, as [`VerifyError::leaves`] has them: padding is in none,
    /// whether the tree's hashes are known or not.
    fn block_hashes(&self, piece: PieceIndex, bytes: &[u8]) -> Vec<Hash> {
        let tree = self.meta().and_then(|meta| meta.piece_tree(piece));
        let data = tree.map_or(bytes.len(), |tree| tree.data_len as usize);
        suspects::hashes(bytes.get(..data).unwrap_or(bytes))
    }

    /// The piece could not be stored; it is to be fetched again, and nobody is to blame.
    pub fn piece_lost(&mut self, now: Instant, piece: PieceIndex) {
        self.take_verifying(piece);
        self.proofs.forget(piece);
        if let Some(torrent) = &mut self.torrent {
            torrent.hashes.lost(piece);
        }
        if self.have.remove(piece) {
            let conns: Vec<_> = self.peers.keys().copied().collect();
            for conn in conns {
                self.command(conn, Command::DontHave(piece));
            }
        }
        self.completed &= self.have.is_all();
        self.refresh(piece);
        self.update_interest();
        self.fill_all(now);
    }

    fn take_verifying(&mut self, piece: PieceIndex) -> Option<(Bytes, Senders)> {
        let taken = self.verifying.remove(&piece)?;
        self.verifying_bytes -= taken.0.len() as u64;
        Some(taken)
    }

    /// Gives up a piece under way, and takes back what was asked for it.
    pub(super) fn abandon(&mut self, piece: PieceIndex) {
        if !self.assembler.contains(piece) {
            return;
        }
        if let Some(torrent) = &self.torrent {
            self.assembler.abandon(torrent.meta.geometry(), piece);
        }
        let mut cancels = Vec::new();
        for (conn, peer) in &mut self.peers {
            cancels.extend(
                peer.take_asked_of(piece)
                    .into_iter()
                    .map(|range| (*conn, range)),
            );
        }
        self.ahead.settled(cancels.len());
        for (conn, range) in cancels {
            self.cancel(conn, range);
        }
    }

    /// This peer lied about a block of the piece.
    pub(super) fn ban(
        &mut self,
        now: Instant,
        conn: ConnectionId,
        piece: PieceIndex,
        what: String,
    ) {
        if self.ban_web_seed(now, conn, piece, &what) {
            return;
        }
        let Some(identity) = self.identity(conn) else {
            return;
        };
        if !self.bans.contains_exactly(&identity) {
            tracing::info!(addr = %identity.addr, piece = piece.get(), "false block, peer banned");
            self.bans.insert(identity);
            self.totals.banned += 1;
            self.actions.push_back(Action::Ban {
                addr: identity.addr,
                peer_id: identity.peer_id,
                reason: what,
            });
        }
        self.assembler.forget(conn);
        self.suspects.clear(conn);
        // It may have come back since it lied, by another connection.
        let banned =
            |(_, peer): &(&ConnectionId, &Peer)| self.bans.contains(peer.info.addr, peer.peer_id);
        let closed: Vec<_> = self
            .peers
            .iter()
            .filter(banned)
            .map(|(conn, _)| *conn)
            .collect();
        for conn in closed {
            self.assembler.forget(conn);
            self.suspects.clear(conn);
            self.close(
                conn,
                CloseReason::Misbehaved(Misbehaviour::FalseBlock(piece.get())),
            );
            self.peer_left(now, conn);
        }
    }
}
