//! Which pieces somebody has.

use crate::geometry::{Geometry, PieceIndex};

/// One bit for each piece of a torrent, first piece in the highest bit of the first byte (BEP 3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bitfield {
    bytes: Vec<u8>,
    len: u32,
    ones: u32,
}

/// Bytes that are no bitfield of that torrent. The fault of whoever sent them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BitfieldError {
    /// Not one bit for each piece, rounded up to bytes.
    #[error("bitfield of {got} bytes, expected {expected}")]
    Length {
        /// Bytes that the number of pieces asks for.
        expected: usize,
        /// Bytes that were given.
        got: usize,
    },
    /// A bit past the last piece is set; BEP 3 asks for zeros.
    #[error("a bit past the last piece is set")]
    SpareBits,
}

impl Bitfield {
    /// Has none of `len` pieces.
    pub fn none(len: u32) -> Self {
        Self {
            bytes: vec![0; bytes_for(len)],
            len,
            ones: 0,
        }
    }

    /// Has all of `len` pieces.
    pub fn all(len: u32) -> Self {
        let mut bytes = vec![0xff; bytes_for(len)];
        if let Some(last) = bytes.last_mut() {
            *last = !spare_mask(len);
        }
        Self {
            bytes,
            len,
            ones: len,
        }
    }

    /// Has none of the pieces of `geometry`.
    pub fn none_of(geometry: &Geometry) -> Self {
        Self::none(geometry.piece_count())
    }

    /// Reads the payload of a `bitfield` message for a torrent of `len` pieces.
    ///
    /// # Errors
    /// [`BitfieldError`]: the wrong number of bytes, or a bit past the last piece.
    pub fn from_bytes(bytes: &[u8], len: u32) -> Result<Self, BitfieldError> {
        let expected = bytes_for(len);
        if bytes.len() != expected {
            return Err(BitfieldError::Length {
                expected,
                got: bytes.len(),
            });
        }
        if bytes.last().is_some_and(|last| last & spare_mask(len) != 0) {
            return Err(BitfieldError::SpareBits);
        }
        let ones = bytes.iter().map(|byte| byte.count_ones()).sum();
        Ok(Self {
            bytes: bytes.to_vec(),
            len,
            ones,
        })
    }

    /// The payload of a `bitfield` message.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Number of pieces, had or not.
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// Whether the torrent has no pieces at all.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Number of pieces had.
    pub const fn count(&self) -> u32 {
        self.ones
    }

    /// Whether every piece is had.
    pub const fn is_all(&self) -> bool {
        self.ones == self.len
    }

    /// Whether no piece is had.
    pub const fn is_none(&self) -> bool {
        self.ones == 0
    }

    /// Whether the piece is had; false for one that doesn't exist.
    pub fn contains(&self, piece: PieceIndex) -> bool {
        self.bit(piece.get())
    }

    /// Like [`contains`](Self::contains), for the number that the wire carries.
    pub fn bit(&self, index: u32) -> bool {
        let mask = 0x80_u8 >> (index % 8);
        index < self.len
            && self
                .bytes
                .get(index as usize / 8)
                .is_some_and(|b| b & mask != 0)
    }

    /// Marks the piece as had; true if it was not yet. A piece past the end is ignored.
    pub fn insert(&mut self, piece: PieceIndex) -> bool {
        let index = piece.get();
        let mask = 0x80_u8 >> (index % 8);
        match self.bytes.get_mut(index as usize / 8) {
            Some(byte) if index < self.len && *byte & mask == 0 => {
                *byte |= mask;
                self.ones += 1;
                true
            }
            _ => false,
        }
    }

    /// Marks the piece as not had; true if it was.
    pub fn remove(&mut self, piece: PieceIndex) -> bool {
        let index = piece.get();
        let mask = 0x80_u8 >> (index % 8);
        match self.bytes.get_mut(index as usize / 8) {
            Some(byte) if index < self.len && *byte & mask != 0 => {
                *byte &= !mask;
                self.ones -= 1;
                true
            }
            _ => false,
        }
    }

    /// The numbers of the pieces had, in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.bytes
            .iter()
            .zip(0_u32..)
            .filter(|(byte, _)| **byte != 0)
            .flat_map(|(byte, at)| {
                (0..8)
                    .filter(move |bit| byte & (0x80 >> bit) != 0)
                    .map(move |bit| at * 8 + bit)
            })
    }

    /// Whether `self` has a piece that is also in `other`.
    pub fn intersects(&self, other: &Bitfield) -> bool {
        self.bytes.iter().zip(&other.bytes).any(|(a, b)| a & b != 0)
    }
}

fn bytes_for(len: u32) -> usize {
    len.div_ceil(8) as usize
}

/// The bits of the last byte that stand for no piece.
fn spare_mask(len: u32) -> u8 {
    match len % 8 {
        0 => 0,
        used => 0xff >> used,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_piece_is_the_highest_bit() {
        let bits = Bitfield::from_bytes(&[0b1000_0001, 0b0100_0000], 10).unwrap();
        assert_eq!(bits.iter().collect::<Vec<_>>(), [0, 7, 9]);
        assert_eq!(bits.count(), 3);
        assert!(bits.bit(9) && !bits.bit(8) && !bits.bit(10) && !bits.bit(u32::MAX));
    }

    #[test]
    fn all_leaves_spare_bits_zero() {
        for len in 0..40 {
            let all = Bitfield::all(len);
            assert!(all.is_all());
            assert_eq!(
                Bitfield::from_bytes(all.as_bytes(), len),
                Ok(all.clone()),
                "{len}"
            );
            assert_eq!(all.iter().count(), len as usize);
        }
    }

    #[test]
    fn wrong_lengths_and_spare_bits_are_refused() {
        let cases: &[(&[u8], u32, bool)] = &[
            (&[], 0, true),
            (&[0], 0, false),
            (&[], 1, false),
            (&[0x80], 1, true),
            (&[0x40], 1, false),
            (&[0xff], 8, true),
            (&[0xff, 0], 8, false),
            (&[0xff], 9, false),
            (&[0xff, 0x80], 9, true),
            (&[0xff, 0xc0], 9, false),
        ];
        for (bytes, len, good) in cases {
            assert_eq!(
                Bitfield::from_bytes(bytes, *len).is_ok(),
                *good,
                "{bytes:?} {len}"
            );
        }
    }

    #[test]
    fn insert_and_remove_keep_count() {
        let geometry = Geometry::new(16_384, 16_384 * 20).unwrap();
        let mut bits = Bitfield::none_of(&geometry);
        let piece = geometry.piece(19).unwrap();
        assert!(bits.insert(piece) && !bits.insert(piece));
        assert!(bits.contains(piece));
        assert_eq!(bits.count(), 1);
        assert!(bits.remove(piece) && !bits.remove(piece));
        assert!(bits.is_none());
        assert!(!Bitfield::none(3).insert(piece));
    }
}
