//! Which piece to start next: the rarest that a peer has.

use rand::{Rng, RngExt};

use crate::bitfield::Bitfield;
use crate::geometry::PieceIndex;

/// Until we have so many pieces any will do: to have something to trade soon is worth more than
/// rarity, and leeches that start together don't start alike.
const RANDOM_FIRST: u32 = 4;

/// Pieces that may be started, ordered by how many peers have them.
///
/// Peers that have everything don't change the order and are only counted, so a seed that comes
/// and goes costs nothing.
#[derive(Debug)]
pub(super) struct PiecePicker {
    /// For each piece, how many connected peers have it, those with everything left out.
    availability: Vec<u32>,
    /// Startable pieces by availability. Order within a bucket means nothing.
    buckets: Vec<Vec<u32>>,
    /// Where in its bucket a startable piece is.
    position: Vec<Option<u32>>,
    startable: usize,
}

impl PiecePicker {
    pub(super) fn new(piece_count: u32) -> Self {
        let count = piece_count as usize;
        Self {
            availability: vec![0; count],
            buckets: Vec::new(),
            position: vec![None; count],
            startable: 0,
        }
    }

    /// Number of pieces that may be started.
    pub(super) fn startable(&self) -> usize {
        self.startable
    }

    /// Whether the piece may be started.
    pub(super) fn is_startable(&self, piece: PieceIndex) -> bool {
        self.position
            .get(piece.get() as usize)
            .copied()
            .flatten()
            .is_some()
    }

    /// The piece may be started from now on, or no more.
    pub(super) fn set_startable(&mut self, piece: PieceIndex, startable: bool) {
        if self.is_startable(piece) != startable {
            match startable {
                true => self.insert(piece.get()),
                false => self.remove(piece.get()),
            }
        }
    }

    /// How many peers have the piece, those with everything left out as they are not counted.
    #[cfg(test)]
    pub(super) fn availability(&self, piece: PieceIndex) -> Option<u32> {
        self.availability.get(piece.get() as usize).copied()
    }

    /// Whether there is a piece that no peer has, those with everything left out.
    pub(super) fn has_unseen(&self) -> bool {
        self.availability.contains(&0)
    }

    /// One more peer has the piece.
    pub(super) fn gained(&mut self, index: u32) {
        self.shift(index, |count| count.saturating_add(1));
    }

    /// One peer less has the piece.
    pub(super) fn lost(&mut self, index: u32) {
        self.shift(index, |count| count.saturating_sub(1));
    }

    /// The rarest startable piece that is in `has` and allowed, any of the rarest with equal
    /// chance.
    ///
    /// `had` is the number of pieces we have: while that is small, rarity doesn't count.
    pub(super) fn pick(
        &self,
        has: &Bitfield,
        allowed: impl Fn(u32) -> bool,
        had: u32,
        rng: &mut impl Rng,
    ) -> Option<u32> {
        let fits = |index: &u32| has.bit(*index) && allowed(*index);
        if had < RANDOM_FIRST {
            let choices = self.startable;
            let from = rng.random_range(0..choices.max(1));
            let all = || self.buckets.iter().flatten().copied();
            return all().skip(from).chain(all().take(from)).find(fits);
        }
        self.buckets
            .iter()
            .filter(|bucket| !bucket.is_empty())
            .find_map(|bucket| {
                let from = rng.random_range(0..bucket.len());
                let (before, after) = bucket.split_at_checked(from)?;
                after.iter().chain(before).copied().find(fits)
            })
    }

    fn shift(&mut self, index: u32, change: impl Fn(u32) -> u32) {
        let at = index as usize;
        let Some(count) = self.availability.get(at).copied() else {
            return;
        };
        let listed = self.position.get(at).copied().flatten().is_some();
        if listed {
            self.remove(index);
        }
        if let Some(slot) = self.availability.get_mut(at) {
            *slot = change(count);
        }
        if listed {
            self.insert(index);
        }
    }

    fn insert(&mut self, index: u32) {
        let at = index as usize;
        let Some(count) = self.availability.get(at) else {
            return;
        };
        let count = *count as usize;
        if self.buckets.len() <= count {
            self.buckets.resize_with(count + 1, Vec::new);
        }
        if let (Some(bucket), Some(slot)) = (self.buckets.get_mut(count), self.position.get_mut(at))
        {
            *slot = u32::try_from(bucket.len()).ok();
            bucket.push(index);
            self.startable += 1;
        }
    }

    fn remove(&mut self, index: u32) {
        let at = index as usize;
        let Some(count) = self.availability.get(at) else {
            return;
        };
        let slot = self.position.get_mut(at).and_then(Option::take);
        if let (Some(slot), Some(bucket)) = (slot, self.buckets.get_mut(*count as usize))
            && (slot as usize) < bucket.len()
        {
            bucket.swap_remove(slot as usize);
            self.startable -= 1;
            if let Some(moved) = bucket.get(slot as usize)
                && let Some(place) = self.position.get_mut(*moved as usize)
            {
                *place = Some(slot);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;
    use crate::geometry::Geometry;

    fn picker(count: u32) -> (Geometry, PiecePicker, SmallRng) {
        let geometry = Geometry::new(16_384, 16_384 * u64::from(count)).unwrap();
        let mut picker = PiecePicker::new(count);
        geometry
            .pieces()
            .for_each(|piece| picker.set_startable(piece, true));
        (geometry, picker, SmallRng::seed_from_u64(1))
    }

    #[test]
    fn rarest_piece_comes_first() {
        let (geometry, mut picker, mut rng) = picker(10);
        for index in 0..10 {
            for _ in 0..10 - index {
                picker.gained(index);
            }
        }
        let all = Bitfield::all(10);
        for expected in (0..10).rev() {
            assert_eq!(
                picker.pick(&all, |_| true, RANDOM_FIRST, &mut rng),
                Some(expected)
            );
            picker.set_startable(geometry.piece(expected).unwrap(), false);
        }
        assert_eq!(picker.pick(&all, |_| true, RANDOM_FIRST, &mut rng), None);
        assert_eq!(picker.startable(), 0);
    }

    #[test]
    fn only_pieces_of_the_peer_are_picked() {
        let (geometry, picker, mut rng) = picker(10);
        let mut has = Bitfield::none(10);
        assert_eq!(picker.pick(&has, |_| true, 0, &mut rng), None);
        has.insert(geometry.piece(7).unwrap());
        for had in [0, RANDOM_FIRST] {
            assert_eq!(picker.pick(&has, |_| true, had, &mut rng), Some(7));
        }
    }

    #[test]
    fn equals_are_picked_with_equal_chance() {
        let (_, picker, mut rng) = picker(8);
        let all = Bitfield::all(8);
        for had in [0, RANDOM_FIRST] {
            let mut counts = [0_u32; 8];
            for _ in 0..8000 {
                counts[picker.pick(&all, |_| true, had, &mut rng).unwrap() as usize] += 1;
            }
            assert!(
                counts.iter().all(|count| (800..1200).contains(count)),
                "{counts:?}"
            );
        }
    }

    #[test]
    fn buckets_stay_whole_under_random_changes() {
        let (geometry, mut picker, mut rng) = picker(50);
        for _ in 0..20_000 {
            let index = rng.random_range(0..50);
            match rng.random_range(0..4) {
                0 => picker.gained(index),
                1 => picker.lost(index),
                n => picker.set_startable(geometry.piece(index).unwrap(), n == 2),
            }
        }
        let mut listed = 0;
        for (count, bucket) in picker.buckets.iter().enumerate() {
            for (at, index) in bucket.iter().enumerate() {
                assert_eq!(picker.availability[*index as usize] as usize, count);
                assert_eq!(picker.position[*index as usize], Some(at as u32));
                listed += 1;
            }
        }
        assert_eq!(listed, picker.startable());
        assert_eq!(picker.position.iter().flatten().count(), listed);
    }
}
