//! Who lied, when a false piece had many senders and no leaf hashes are to be had (v1).
//!
//! The first try of a piece comes from many peers, and when it is false nobody can tell whose
//! block it was. So each block's sender and hash are remembered, and the piece is fetched again
//! from one peer alone. If that is false too, its single sender lied. If it is true, those lied
//! whose blocks differ from it. Nobody else is ever banned.
//!
//! Until that is known its senders are on parole: they are asked for whole pieces only, each of
//! one sender, so that a further lie names them. One whole piece that is true ends it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use sha2::{Digest as _, Sha256};

use super::assemble::Senders;
use crate::geometry::{BLOCK_LEN, PieceIndex};
use crate::limits;
use crate::merkle::Hash;
use crate::session::ConnectionId;

/// One false try: for each block its sender and hash.
type Try = Vec<(Option<ConnectionId>, Hash)>;

/// False tries of pieces that are not yet had.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    tries: BTreeMap<PieceIndex, Vec<Try>>,
    order: VecDeque<PieceIndex>,
    /// Peers on parole, and for which piece.
    parole: BTreeMap<ConnectionId, PieceIndex>,
}

impl Suspects {
    /// Whether the peer is to be asked for whole pieces alone.
    pub(super) fn is_on_parole(&self, conn: ConnectionId) -> bool {
        self.parole.contains_key(&conn)
    }

    /// The peer sent a whole piece, and it is true; or it is gone.
    pub(super) fn clear(&mut self, conn: ConnectionId) {
        self.parole.remove(&conn);
    }

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

    /// Remembers a false try by the hashes of its blocks.
    pub(super) fn add(&mut self, piece: PieceIndex, hashes: Vec<Hash>, senders: &Senders) {
        if !self.tries.contains_key(&piece) {
            self.order.push_back(piece);
        }
        let parole = senders.iter().flatten().map(|sender| (*sender, piece));
        self.parole.extend(parole);
        let tries = self.tries.entry(piece).or_default();
        if tries.len() < limits::SUSPECT_TRIES_MAX {
            tries.push(senders.iter().copied().zip(hashes).collect());
        }
        while self.order.len() > limits::SUSPECT_PIECES_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.tries.remove(&oldest);
                self.parole.retain(|_, of| *of != oldest);
            }
        }
    }

    /// The true hashes of the piece's blocks are known now: those that sent something else, and
    /// which blocks that was. All others are off parole.
    pub(super) fn settle(
        &mut self,
        piece: PieceIndex,
        truth: &[Hash],
    ) -> BTreeMap<ConnectionId, BTreeSet<usize>> {
        let mut liars: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        let Some(tries) = self.tries.remove(&piece) else {
            return liars;
        };
        self.order.retain(|listed| *listed != piece);
        self.parole.retain(|_, of| *of != piece);
        for blocks in &tries {
            for (index, ((sender, sent), truth)) in blocks.iter().zip(truth).enumerate() {
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

/// The hash of each block.
pub(super) fn hashes(bytes: &[u8]) -> Vec<Hash> {
    bytes
        .chunks(BLOCK_LEN as usize)
        .map(|block| Sha256::digest(block).into())
        .collect()
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
        suspects.add(piece, hashes(&lie), &senders);
        assert!(
            senders
                .iter()
                .flatten()
                .all(|conn| suspects.is_on_parole(*conn))
        );
        assert!(suspects.contains(piece) && suspects.is_sender(piece, ConnectionId(10)));
        let truth = hashes(&truth);
        let liars = suspects.settle(piece, &truth);
        assert!(!suspects.is_on_parole(ConnectionId(10)));
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
            hashes(&vec![1; 2 * BLOCK]),
            &vec![Some(ConnectionId(1)), None],
        );
        let liars = suspects.settle(piece, &hashes(&vec![2; 2 * BLOCK]));
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
                suspects.add(piece, hashes(&[1]), &vec![Some(ConnectionId(1))]);
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
