//! What becomes of whole pieces.

use std::collections::BTreeSet;
use std::time::Instant;

use bytes::Bytes;

use super::assemble::Senders;
use super::{Action, Download};
use crate::geometry::{BLOCK_LEN, PieceIndex};
use crate::session::{CloseReason, Command, ConnectionId, Misbehaviour};
use crate::verify::{AssembledPiece, VerifyError, VerifyFault};

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
        if let Some((bytes, _)) = self.take_verifying(piece) {
            for (liar, blocks) in self.suspects.settle(piece, &bytes) {
                let blocks: Vec<_> = blocks.iter().map(ToString::to_string).collect();
                let what = format!("false block {} of piece {}", blocks.join(", "), piece.get());
                self.ban(now, liar, piece, what);
            }
        }
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
        self.totals.wasted += bytes.len() as u64;
        let distinct: BTreeSet<ConnectionId> = senders.iter().flatten().copied().collect();
        match distinct.first() {
            // Without a hash nobody can be blamed.
            _ if error.fault == VerifyFault::Unknown => {}
            Some(only) if distinct.len() == 1 => {
                let blocks = bytes.len().div_ceil(BLOCK_LEN as usize);
                let what = format!(
                    "false piece {}, all of whose blocks (0 to {}) it sent",
                    piece.get(),
                    blocks.saturating_sub(1)
                );
                self.ban(now, *only, piece, what);
            }
            Some(_) => self.suspects.add(piece, &bytes, &senders),
            None => tracing::error!(piece = piece.get(), "padding alone is false"),
        }
        self.refresh(piece);
        self.fill_all(now);
    }

    /// The piece could not be stored; it is to be fetched again, and nobody is to blame.
    pub fn piece_lost(&mut self, now: Instant, piece: PieceIndex) {
        self.take_verifying(piece);
        self.have.remove(piece);
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
            for range in peer.asked.iter().filter(|range| range.piece() == piece) {
                cancels.push((*conn, *range));
            }
            peer.asked.retain(|range| range.piece() != piece);
        }
        for (conn, range) in cancels {
            self.command(conn, Command::Cancel(range));
        }
    }

    /// This peer lied about a block of the piece.
    fn ban(&mut self, now: Instant, conn: ConnectionId, piece: PieceIndex, what: String) {
        let Some(identity) = self.identity(conn) else {
            return;
        };
        if self.bans.contains_exactly(&identity) {
            return;
        }
        tracing::info!(addr = %identity.addr, piece = piece.get(), "false block, peer banned");
        self.bans.insert(identity);
        self.totals.banned += 1;
        self.actions.push_back(Action::Ban {
            addr: identity.addr,
            peer_id: identity.peer_id,
            reason: what,
        });
        self.assembler.forget(conn);
        if self.peers.contains_key(&conn) {
            self.close(
                conn,
                CloseReason::Misbehaved(Misbehaviour::FalseBlock(piece.get())),
            );
            self.peer_left(now, conn);
        }
    }
}
