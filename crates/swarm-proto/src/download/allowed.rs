//! Pieces that a peer answers for though it chokes us (allowed fast, BEP 6): a newcomer has something
//! to trade sooner.
//!
//! We allow none ourselves. A slot that is free is given at once, so who is choked here waits since
//! all are taken; and what a seed sends beside them is sent twice as long as the crowd lacks other
//! pieces.

use std::time::Instant;

use super::Download;
use crate::geometry::{BlockRange, PieceIndex};
use crate::session::ConnectionId;

impl Download {
    pub(super) fn allowed(&mut self, now: Instant, conn: ConnectionId, piece: PieceIndex) {
        if let Some(peer) = self.peers.get_mut(&conn) {
            peer.allowed.push(piece);
            peer.idle_at = None;
        }
        self.fill(now, conn);
    }

    /// The peer refused a request. If it chokes us, it doesn't hold to what it allowed: once we
    /// have some pieces it need not.
    pub(super) fn refused(&mut self, now: Instant, conn: ConnectionId, piece: PieceIndex) {
        let Some(peer) = self.peers.get_mut(&conn).filter(|peer| peer.chokes_us) else {
            return;
        };
        peer.allowed.retain(|allowed| *allowed != piece);
        if self.assembler.owner(piece) == Some(conn) {
            self.disown(conn);
            self.fill_all(now);
        }
    }

    /// A block of a piece that the peer allows.
    pub(super) fn pick_allowed(&mut self, conn: ConnectionId) -> Option<BlockRange> {
        let allowed = self.peers.get(&conn)?.allowed.clone();
        for piece in allowed {
            let startable =
                self.picker.is_startable(piece) && self.peers.get(&conn)?.has(piece.get());
            if startable && self.held_bytes() < self.pending_max() && self.may_start(piece, conn) {
                self.start(piece, conn);
            }
            if let Some(range) = self.unasked(piece, 0, conn) {
                return Some(range);
            }
        }
        None
    }
}
