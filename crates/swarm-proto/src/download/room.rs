//! How many bytes of pieces may be under way: by the download's own measure, and by what all
//! downloads of the process share.

use std::time::{Duration, Instant};

use super::Download;
use super::budget::{Need, Room};
use super::peers::Peer;
use crate::geometry::PieceIndex;

/// Pieces of which no block came for so long are given up, where others wait for their memory.
const STILL: Duration = Duration::from_secs(10);

/// What the process allows.
#[derive(Debug)]
pub(super) struct Allowed {
    bytes: u64,
    /// When a block last came, or a piece was begun.
    pub(super) moved_at: Option<Instant>,
}

impl Default for Allowed {
    fn default() -> Self {
        Self {
            bytes: u64::MAX,
            moved_at: None,
        }
    }
}

impl Download {
    /// What is held of pieces that are not stored yet, and what could be used: for
    /// [`PieceBudget::ask`](super::PieceBudget::ask).
    pub fn need(&self) -> Need {
        let piece = self.piece_length();
        let peers = || self.peers.values();
        let is_served = || peers().any(Peer::serves_us);
        let wishes = !self.missing.is_none() && (is_served() || self.web.is_any_usable());
        let urgent = piece.saturating_mul(self.deadlines.len() as u64);
        Need {
            held: self.held_of_room(),
            wish: match wishes {
                true => self.own_max().saturating_add(urgent),
                false => 0,
            },
            piece,
        }
    }

    /// From now on no piece is begun beyond so many bytes, and what is held beyond is given up;
    /// before this is called there is no bound but the download's own. Where others wait, pieces
    /// that stand still are given up.
    pub fn set_room(&mut self, now: Instant, room: Room) {
        let before = std::mem::replace(&mut self.room.bytes, room.bytes);
        let still = self.room.moved_at.is_some_and(|at| at + STILL <= now);
        if room.others_wait && still {
            self.give_up_down_to(0);
        } else if self.held_of_room() > room.bytes {
            self.give_up_down_to(room.bytes);
        }
        let room = self.pending_max().saturating_sub(self.verifying_bytes);
        self.assembler.trim(room);
        if self.room.bytes > before {
            self.fill_all(now);
        }
    }

    /// Gives pieces up until no more than so many bytes are held, or none is left but what is being
    /// verified: first false ones kept for their true blocks, then those that no reader waits for,
    /// and of them those of which the least is there.
    fn give_up_down_to(&mut self, bytes: u64) {
        let mut given_up = self.give_up_all_rescues();
        let mut pieces: Vec<_> = self.assembler.pieces().collect();
        pieces.sort_by_key(|piece| {
            let urgent = self.deadlines.contains_key(piece);
            (urgent, self.assembler.blocks_here(*piece))
        });
        for piece in pieces {
            if self.held_of_room() <= bytes {
                break;
            }
            given_up += 1;
            self.proofs.forget(piece);
            self.abandon(piece);
            self.refresh(piece);
        }
        if given_up > 0 {
            tracing::debug!(pieces = given_up, "pieces given up, for others wait");
        }
    }

    /// Bytes of pieces that may be under way or waiting for verification.
    pub(super) fn pending_max(&self) -> u64 {
        self.own_max().min(self.room.bytes)
    }

    /// Bytes of pieces that are under way or wait for verification.
    pub(super) fn held_bytes(&self) -> u64 {
        self.assembler.bytes() + self.verifying_bytes
    }

    /// With false pieces kept for their true blocks.
    pub(super) fn held_of_room(&self) -> u64 {
        self.held_bytes() + self.proofs.held() as u64
    }

    /// Whether a piece more may be under way.
    pub(super) fn has_room(&self) -> bool {
        self.fits(self.piece_length())
    }

    /// Whether this piece more may be under way, whoever needs it.
    pub(super) fn has_room_for(&self, piece: PieceIndex) -> bool {
        let len = self.geometry().map_or(0, |g| g.piece_len(piece));
        self.fits(len.into())
    }

    fn fits(&self, len: u64) -> bool {
        self.held_of_room().saturating_add(len) <= self.room.bytes
    }

    fn own_max(&self) -> u64 {
        let usual = self.config.pending_bytes_max.max(4 * self.piece_length());
        usual.max(self.ahead.far_bytes())
    }

    pub(super) fn piece_length(&self) -> u64 {
        self.geometry()
            .map_or(0, |geometry| geometry.piece_length().into())
    }
}
