//! Who lied, when a false piece had many senders.
//!
//! The first try of a piece comes from many peers, and when it is false nobody can tell whose
//! block it was. So each block's sender and hash are remembered, and the piece is fetched again
//! from one peer alone. If that is false too, its single sender lied. If it is true, those lied
//! whose blocks differ from it. Nobody else is ever banned.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use sha2::{Digest as _, Sha256};

use super::assemble::Senders;
use crate::geometry::{BLOCK_LEN, PieceIndex};
use crate::limits;
use crate::session::ConnectionId;

/// One false try: for each block its sender and hash.
type Try = Vec<(Option<ConnectionId>, [u8; 32])>;

/// False tries of pieces that are not yet had.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    tries: BTreeMap<PieceIndex, Vec<Try>>,
    order: VecDeque<PieceIndex>,
}

impl Suspects {
    /// Whether an earlier try of the piece was false.
    pub(super) fn contains(&self, piece: PieceIndex) -> bool {
        self.tries.contains_key(&piece)
    }

    /// Whether the peer sent a block of a false try of the piece.
    pub(super) fn is_sender(&self, piece: PieceIndex, conn: ConnectionId) -> bool {
        self.tries.get(&piece).is_some_and(|tries| {
            tries
                .iter()
                .flatten()
                .any(|(sender, _)| *sender == Some(conn))
        })
    }

    /// Pieces that are to be fetched from a single peer.
    pub(super) fn pieces(&self) -> impl Iterator<Item = PieceIndex> + '_ {
        self.tries.keys().copied()
    }

    /// Remembers a false try.
    pub(super) fn add(&mut self, piece: PieceIndex, bytes: &[u8], senders: &Senders) {
        if !self.tries.contains_key(&piece) {
            self.order.push_back(piece);
        }
        let tries = self.tries.entry(piece).or_default();
        if tries.len() < limits::SUSPECT_TRIES_MAX {
            tries.push(senders.iter().copied().zip(hashes(bytes)).collect());
        }
        while self.order.len() > limits::SUSPECT_PIECES_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.tries.remove(&oldest);
            }
        }
    }

    /// The piece is known now: those that sent something else, and which blocks that was.
    pub(super) fn settle(
        &mut self,
        piece: PieceIndex,
        bytes: &[u8],
    ) -> BTreeMap<ConnectionId, BTreeSet<usize>> {
        let mut liars: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        let Some(tries) = self.tries.remove(&piece) else {
            return liars;
        };
        self.order.retain(|listed| *listed != piece);
        let truth: Vec<_> = hashes(bytes).collect();
        for blocks in &tries {
            for (index, ((sender, sent), truth)) in blocks.iter().zip(&truth).enumerate() {
                if let Some(sender) = sender
                    && sent != truth
                {
                    liars.entry(*sender).or_default().insert(index);
                }
            }
        }
        liars
    }
}

fn hashes(bytes: &[u8]) -> impl Iterator<Item = [u8; 32]> + '_ {
    bytes
        .chunks(BLOCK_LEN as usize)
        .map(|block| Sha256::digest(block).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Geometry;

    const BLOCK: usize = BLOCK_LEN as usize;

    #[test]
    fn exactly_the_senders_of_differing_blocks_are_named() {
        let geometry = Geometry::new(4 * BLOCK_LEN, 400 * u64::from(BLOCK_LEN)).unwrap();
        let piece = geometry.piece(3).unwrap();
        let truth = vec![1; 4 * BLOCK];
        let mut lie = truth.clone();
        lie[BLOCK] ^= 1;
        lie[4 * BLOCK - 1] ^= 1;
        let senders = [10, 11, 12, 13].map(|id| Some(ConnectionId(id))).to_vec();
        let mut suspects = Suspects::default();
        suspects.add(piece, &lie, &senders);
        assert!(suspects.contains(piece) && suspects.is_sender(piece, ConnectionId(10)));
        let liars = suspects.settle(piece, &truth);
        let liars: Vec<_> = liars.into_keys().collect();
        assert_eq!(liars, [ConnectionId(11), ConnectionId(13)]);
        assert!(!suspects.contains(piece));
        assert!(suspects.settle(piece, &truth).is_empty());
    }

    #[test]
    fn padding_has_no_sender_to_name() {
        let geometry = Geometry::new(2 * BLOCK_LEN, 4 * u64::from(BLOCK_LEN)).unwrap();
        let piece = geometry.piece(0).unwrap();
        let mut suspects = Suspects::default();
        suspects.add(
            piece,
            &vec![1; 2 * BLOCK],
            &vec![Some(ConnectionId(1)), None],
        );
        let liars = suspects.settle(piece, &vec![2; 2 * BLOCK]);
        assert_eq!(
            liars.into_iter().collect::<Vec<_>>(),
            [(ConnectionId(1), BTreeSet::from([0]))]
        );
    }

    #[test]
    fn memory_is_bounded() {
        let geometry = Geometry::new(BLOCK_LEN, 1000 * u64::from(BLOCK_LEN)).unwrap();
        let mut suspects = Suspects::default();
        for piece in geometry.pieces() {
            for _ in 0..20 {
                suspects.add(piece, &[1], &vec![Some(ConnectionId(1))]);
            }
        }
        assert_eq!(suspects.tries.len(), limits::SUSPECT_PIECES_MAX);
        assert!(
            suspects
                .tries
                .values()
                .all(|tries| tries.len() <= limits::SUSPECT_TRIES_MAX)
        );
        assert_eq!(suspects.order.len(), suspects.tries.len());
    }
}
