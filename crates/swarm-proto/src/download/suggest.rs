//! Distinct pieces for each leech of a seed (BEP 6, suggest).
//!
//! Leeches that begin together pick alike: what another is about to get shows only once it has it,
//! and the seed sends the same piece many times. So a seed with several leeches suggests to each
//! the next pieces of one shuffled list, and leeches of ours follow. Unlike super-seeding this
//! hides nothing from clients that don't.

use rand::rngs::SmallRng;
use rand::seq::SliceRandom;

use super::Download;
use crate::geometry::PieceIndex;
use crate::session::{Command, ConnectionId};

/// Bytes of pieces that stand suggested to a peer.
const AHEAD_BYTES: u32 = 128 * 1024;

/// The list, and how far it is handed out.
#[derive(Debug)]
pub(super) struct Handout {
    order: Vec<PieceIndex>,
    next: usize,
}

impl Handout {
    fn new(pieces: impl Iterator<Item = PieceIndex>, rng: &mut SmallRng) -> Self {
        let mut order: Vec<_> = pieces.collect();
        order.shuffle(rng);
        Self { order, next: 0 }
    }

    /// The next piece that fits. Each is handed out once: after that the rarest are those that
    /// got lost, and every leech sees which these are.
    fn next(&mut self, fits: impl Fn(PieceIndex) -> bool) -> Option<PieceIndex> {
        let left = self.order.get(self.next..)?;
        match left.iter().position(|piece| fits(*piece)) {
            Some(at) => {
                self.order.swap(self.next, self.next + at);
                self.next += 1;
                self.order.get(self.next - 1).copied()
            }
            None => None,
        }
    }
}

impl Download {
    /// Suggests pieces to every leech that is served, if there are several.
    pub(super) fn suggest_to_all(&mut self) {
        if !self.is_complete() {
            return;
        }
        let conns: Vec<_> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.wants && !peer.we_choke && !peer.is_seed())
            .map(|(conn, _)| *conn)
            .collect();
        match conns.len() {
            // The next crowd gets the whole list again.
            0 => self.handout = None,
            1 => {}
            _ => conns.into_iter().for_each(|conn| self.suggest(conn)),
        }
    }

    /// Keeps a leech that follows our suggestions supplied with them: it asks for this piece.
    pub(super) fn suggest_more(&mut self, conn: ConnectionId, asked: PieceIndex) {
        if let Some(peer) = self.peers.get_mut(&conn)
            && peer.suggested.remove(&asked)
        {
            self.suggest(conn);
        }
    }

    fn suggest(&mut self, conn: ConnectionId) {
        let Some(torrent) = &self.torrent else {
            return;
        };
        let geometry = torrent.meta.geometry();
        let ahead = (AHEAD_BYTES / geometry.piece_length().max(1)).clamp(2, 8) as usize;
        let handout = self
            .handout
            .get_or_insert_with(|| Handout::new(geometry.pieces(), &mut self.rng));
        let Some(peer) = self.peers.get_mut(&conn) else {
            return;
        };
        let mut suggestions = Vec::new();
        while peer.suggested.len() < ahead {
            let fits =
                |piece: PieceIndex| !peer.has(piece.get()) && !peer.suggested.contains(&piece);
            let Some(piece) = handout.next(fits) else {
                break;
            };
            peer.suggested.insert(piece);
            suggestions.push(piece);
        }
        for piece in suggestions {
            self.command(conn, Command::Suggest(piece));
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::geometry::Geometry;

    #[test]
    fn every_piece_is_handed_out_once() {
        let geometry = Geometry::new(16_384, 100 * 16_384).unwrap();
        let mut handout = Handout::new(geometry.pieces(), &mut SmallRng::seed_from_u64(1));
        assert_eq!(handout.next(|_| false), None);
        assert_eq!(
            handout.next(|piece| piece.get() == 7).map(PieceIndex::get),
            Some(7)
        );
        let mut round: Vec<_> = (0..99).filter_map(|_| handout.next(|_| true)).collect();
        assert_ne!(round[..10], geometry.pieces().take(10).collect::<Vec<_>>());
        assert_eq!(handout.next(|_| true), None);
        round.push(geometry.piece(7).unwrap());
        round.sort_unstable();
        assert_eq!(round, geometry.pieces().collect::<Vec<_>>());
    }
}
