//! What peers say to have and to have lost.

use std::time::Instant;

use super::Download;
use super::peers::Peer;
use super::picker::PiecePicker;
use crate::bitfield::Bitfield;
use crate::geometry::PieceIndex;
use crate::session::{ConnectionId, PieceSet};

impl Download {
    pub(super) fn peer_has(&mut self, now: Instant, conn: ConnectionId, set: PieceSet) {
        let Some(count) = self.geometry().map(|geometry| geometry.piece_count()) else {
            return;
        };
        let Some(peer) = self.peers.get_mut(&conn) else {
            return;
        };
        let all = match set {
            PieceSet::One(piece) => Err(piece),
            PieceSet::All => Ok(Bitfield::all(count)),
            PieceSet::None => Ok(Bitfield::none(count)),
            PieceSet::Bits(bits) => Ok(bits),
        };
        match all {
            Ok(pieces) => self.replace(conn, pieces),
            Err(piece) => {
                if !peer.gains(&mut self.picker, count, piece) {
                    return;
                }
                self.suggested_is_had(now, conn, piece);
                if !self.missing.contains(piece) {
                    return;
                }
            }
        }
        if let Some(peer) = self.peers.get_mut(&conn) {
            peer.idle_at = None;
        }
        self.update_interest_of(conn);
        self.fill(now, conn);
    }

    /// The peer has these, and no others.
    fn replace(&mut self, conn: ConnectionId, pieces: Bitfield) {
        self.unlist(conn);
        if let Some(peer) = self.peers.get_mut(&conn) {
            peer.replace(&mut self.picker, pieces);
            // What seeds have is no copy to count on.
            if !peer.is_seed() {
                self.list(conn);
            }
        }
    }

    /// The peer no longer has the piece (BEP 54): others are asked for what it owes of it.
    pub(super) fn peer_lacks(&mut self, now: Instant, conn: ConnectionId, piece: PieceIndex) {
        let Some(peer) = self.peers.get_mut(&conn) else {
            return;
        };
        let was_listed = peer.listed;
        if !peer.loses(&mut self.picker, piece) {
            return;
        }
        peer.suggestions.retain(|suggested| *suggested != piece);
        let asked = peer.take_asked_of(piece);
        self.ahead.settled(asked.len());
        for range in asked {
            self.assembler.released(range, conn);
            self.cancel(conn, range);
        }
        match was_listed {
            true => self.suggested_is_gone(conn, piece),
            // It came as a seed and is none any more: from now on it is counted piece by piece.
            false => self.list(conn),
        }
        if self.assembler.owner(piece) == Some(conn) {
            self.abandon(piece);
            self.refresh(piece);
        }
        self.update_interest_of(conn);
        self.fill_all(now);
    }
}

impl Peer {
    /// It has these, and no others.
    fn replace(&mut self, picker: &mut PiecePicker, pieces: Bitfield) {
        self.uncount(picker);
        self.counted |= !pieces.is_all();
        if self.counted {
            pieces.iter().for_each(|index| picker.gained(index));
        }
        self.pieces = Some(pieces);
    }

    /// It has one more; `false` if that is no news.
    fn gains(&mut self, picker: &mut PiecePicker, count: u32, piece: PieceIndex) -> bool {
        let pieces = self.pieces.get_or_insert_with(|| Bitfield::none(count));
        if !pieces.insert(piece) {
            return false;
        }
        self.tells = true;
        match pieces.is_all() && !self.lost_some {
            // It is a seed now, and those are not counted piece by piece.
            true => {
                let others = (0..count).filter(|index| *index != piece.get());
                others.for_each(|index| picker.lost(index));
                self.counted = false;
            }
            false => {
                self.counted = true;
                picker.gained(piece.get());
            }
        }
        true
    }

    /// It has one less; `false` if it never had it. From now on it is counted piece by piece,
    /// whatever it has: to gain and lose the same piece for ever costs us little.
    fn loses(&mut self, picker: &mut PiecePicker, piece: PieceIndex) -> bool {
        let Some(pieces) = &mut self.pieces else {
            return false;
        };
        if !pieces.remove(piece) {
            return false;
        }
        match self.counted {
            true => picker.lost(piece.get()),
            false => pieces.iter().for_each(|index| picker.gained(index)),
        }
        self.counted = true;
        self.lost_some = true;
        true
    }

    /// What it has counts no more.
    pub(super) fn uncount(&mut self, picker: &mut PiecePicker) {
        let pieces = self.pieces.iter().filter(|_| self.counted);
        pieces
            .flat_map(|pieces| pieces.iter())
            .for_each(|index| picker.lost(index));
        self.counted = self.lost_some;
    }
}
