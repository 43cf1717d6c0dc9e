//! Where pieces, blocks and bytes lie in a torrent's content.
//!
//! The space is the v1 layout with its pad files. Torrents that are v2 only have no such list; they
//! get the same layout as if every file but the last were padded to a piece boundary, so that one
//! arithmetic serves all three kinds (as in libtorrent).
//!
//! A [`PieceIndex`] or [`BlockRange`] comes only from a [`Geometry`]: to hold one is proof that it
//! exists there. The wire carries plain integers.

use crate::limits;

/// Bytes of a block: 16 KiB, the unit of requests (BEP 3) and the leaf of Merkle trees (BEP 52).
pub const BLOCK_LEN: u32 = 16 * 1024;

/// A piece that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PieceIndex(u32);

impl PieceIndex {
    /// The number that the wire carries.
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// Bytes within one piece that exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockRange {
    piece: PieceIndex,
    begin: u32,
    len: u32,
}

#[expect(clippy::len_without_is_empty, reason = "never empty")]
impl BlockRange {
    /// The piece.
    pub const fn piece(&self) -> PieceIndex {
        self.piece
    }

    /// First byte, counted from the piece's start.
    pub const fn begin(&self) -> u32 {
        self.begin
    }

    /// Bytes, 1 to [`limits::BLOCK_LEN_MAX`].
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// First byte past the range, counted from the piece's start.
    pub const fn end(&self) -> u32 {
        self.begin + self.len
    }
}

/// Bytes `start..end` of a torrent's content, or of a file. Empty when `end <= start`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteRange {
    /// First byte.
    pub start: u64,
    /// First byte past the range.
    pub end: u64,
}

impl ByteRange {
    /// Bytes `start..end`.
    pub const fn new(start: u64, end: u64) -> Self {
        Self { start, end }
    }

    /// Number of bytes.
    pub const fn len(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// Whether there is no byte in it.
    pub const fn is_empty(&self) -> bool {
        self.end <= self.start
    }

    /// The bytes in both; empty when there are none.
    pub fn intersect(&self, other: &ByteRange) -> ByteRange {
        let start = self.start.max(other.start);
        ByteRange {
            start,
            end: self.end.min(other.end).max(start),
        }
    }

    /// Whether every byte of `other` is in `self`. An empty range is in any.
    pub const fn contains(&self, other: &ByteRange) -> bool {
        other.is_empty() || (self.start <= other.start && other.end <= self.end)
    }
}

/// A piece or block that doesn't exist. The fault of whoever named it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no such bytes: piece {index}, {len} bytes at {begin}")]
pub struct OutOfRange {
    /// Piece as named.
    pub index: u32,
    /// First byte as named.
    pub begin: u32,
    /// Bytes as named.
    pub len: u32,
}

/// Lengths that no torrent may have. The fault of whoever made the metainfo.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GeometryError {
    /// Zero, or above [`limits::PIECE_LENGTH_MAX`].
    #[error("piece length of {0} bytes is out of bounds")]
    PieceLength(u64),
    /// Above [`limits::PIECES_MAX`].
    #[error("{0} pieces are too many")]
    PieceCount(u64),
}

/// Piece length and total length, with the arithmetic that follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Geometry {
    piece_length: u32,
    total_length: u64,
    piece_count: u32,
}

impl Geometry {
    /// `piece_length` in bytes, not necessarily a power of two (old v1 torrents);
    /// `total_length` in bytes, pad files included. No content means no pieces.
    ///
    /// # Errors
    /// [`GeometryError`]: a piece length of zero or above [`limits::PIECE_LENGTH_MAX`], or more
    /// than [`limits::PIECES_MAX`] pieces.
    pub fn new(piece_length: u32, total_length: u64) -> Result<Self, GeometryError> {
        if piece_length == 0 || piece_length > limits::PIECE_LENGTH_MAX {
            return Err(GeometryError::PieceLength(piece_length.into()));
        }
        let count = total_length.div_ceil(piece_length.into());
        match u32::try_from(count) {
            Ok(piece_count) if piece_count <= limits::PIECES_MAX => Ok(Self {
                piece_length,
                total_length,
                piece_count,
            }),
            _ => Err(GeometryError::PieceCount(count)),
        }
    }

    /// Number of pieces.
    pub const fn piece_count(&self) -> u32 {
        self.piece_count
    }

    /// Bytes of every piece but the last.
    pub const fn piece_length(&self) -> u32 {
        self.piece_length
    }

    /// Bytes of the whole content, pad files included.
    pub const fn total_length(&self) -> u64 {
        self.total_length
    }

    /// The piece of that number, if there is one.
    pub fn piece(&self, index: u32) -> Option<PieceIndex> {
        (index < self.piece_count).then_some(PieceIndex(index))
    }

    /// Every piece in order.
    pub fn pieces(
        &self,
    ) -> impl ExactSizeIterator<Item = PieceIndex> + DoubleEndedIterator + use<> {
        (0..self.piece_count).map(PieceIndex)
    }

    /// First byte of the piece.
    pub fn piece_offset(&self, piece: PieceIndex) -> u64 {
        u64::from(piece.0) * u64::from(self.piece_length)
    }

    /// Bytes of the piece; the last may be short. Zero for a piece of another, larger geometry.
    pub fn piece_len(&self, piece: PieceIndex) -> u32 {
        let left = self.total_length.saturating_sub(self.piece_offset(piece));
        u32::try_from(left).map_or(self.piece_length, |left| left.min(self.piece_length))
    }

    /// Bytes of the piece within the content.
    pub fn piece_range(&self, piece: PieceIndex) -> ByteRange {
        let start = self.piece_offset(piece);
        ByteRange {
            start,
            end: start + u64::from(self.piece_len(piece)),
        }
    }

    /// Bytes of the block within the content.
    pub fn block_bytes(&self, block: &BlockRange) -> ByteRange {
        let start = self.piece_offset(block.piece) + u64::from(block.begin);
        ByteRange {
            start,
            end: start + u64::from(block.len),
        }
    }

    /// Checks `index, begin, len` of a `request` or `piece` message (BEP 3).
    ///
    /// `begin` and `len` are bytes within the piece; `len` is 1 to [`limits::BLOCK_LEN_MAX`]. BEP 3
    /// asks for no alignment, so none is checked here; our own requests are aligned.
    ///
    /// # Errors
    /// [`OutOfRange`]: no such piece, or the range leaves it. Reject such a request, as libtorrent
    /// does; close the connection on such a block.
    pub fn block(&self, index: u32, begin: u32, len: u32) -> Result<BlockRange, OutOfRange> {
        let error = OutOfRange { index, begin, len };
        let Some(piece) = self.piece(index) else {
            return Err(error);
        };
        match begin.checked_add(len) {
            Some(end)
                if (1..=limits::BLOCK_LEN_MAX).contains(&len) && end <= self.piece_len(piece) =>
            {
                Ok(BlockRange { piece, begin, len })
            }
            _ => Err(error),
        }
    }

    /// Number of blocks of [`BLOCK_LEN`] in the piece; the last may be short.
    pub fn block_count(&self, piece: PieceIndex) -> u32 {
        self.piece_len(piece).div_ceil(BLOCK_LEN)
    }

    /// The `n`th aligned block of the piece.
    pub fn nth_block(&self, piece: PieceIndex, n: u32) -> Option<BlockRange> {
        let begin = n.checked_mul(BLOCK_LEN)?;
        let left = self.piece_len(piece).checked_sub(begin)?;
        (left > 0).then(|| BlockRange {
            piece,
            begin,
            len: left.min(BLOCK_LEN),
        })
    }

    /// Every aligned block of the piece.
    pub fn blocks(&self, piece: PieceIndex) -> impl Iterator<Item = BlockRange> + '_ {
        (0..self.block_count(piece)).filter_map(move |n| self.nth_block(piece, n))
    }

    /// The piece that holds the byte.
    pub fn piece_at(&self, offset: u64) -> Option<PieceIndex> {
        if offset >= self.total_length {
            return None;
        }
        u32::try_from(offset / u64::from(self.piece_length))
            .ok()
            .map(PieceIndex)
    }

    /// The pieces that hold at least one byte of the range; what lies past the end is ignored.
    pub fn pieces_of(
        &self,
        range: &ByteRange,
    ) -> impl ExactSizeIterator<Item = PieceIndex> + DoubleEndedIterator + use<> {
        let end = range.end.min(self.total_length);
        let pieces = match (end > range.start)
            .then(|| (self.piece_at(range.start), self.piece_at(end - 1)))
        {
            Some((Some(first), Some(last))) => first.0..last.0 + 1,
            _ => 0..0,
        };
        pieces.map(PieceIndex)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn geometry(piece_length: u32, total_length: u64) -> Geometry {
        Geometry::new(piece_length, total_length).unwrap()
    }

    #[test]
    fn last_piece_and_last_block_are_short() {
        let g = geometry(32_768, 100_000);
        assert_eq!(g.piece_count(), 4);
        let last = g.piece(3).unwrap();
        assert_eq!(g.piece(4), None);
        assert_eq!(g.piece_offset(last), 98_304);
        assert_eq!(g.piece_len(last), 1_696);
        assert_eq!(g.block_count(last), 1);
        assert_eq!(g.nth_block(last, 0).unwrap().len(), 1_696);
        assert_eq!(g.nth_block(last, 1), None);
        assert_eq!(g.nth_block(last, u32::MAX), None);
        assert_eq!(g.block_count(g.piece(0).unwrap()), 2);
    }

    #[test]
    fn odd_piece_lengths_work() {
        let g = geometry(40_000, 120_001);
        assert_eq!(g.piece_count(), 4);
        let first = g.piece(0).unwrap();
        let lens: Vec<u32> = g.blocks(first).map(|b| b.len()).collect();
        assert_eq!(lens, [16_384, 16_384, 7_232]);
        assert_eq!(g.piece_len(g.piece(3).unwrap()), 1);
    }

    #[test]
    fn blocks_outside_the_piece_are_refused() {
        let g = geometry(32_768, 100_000);
        let cases = [
            (0, 0, 16_384, true),
            (0, 16_384, 16_384, true),
            (0, 1, 16_384, true),
            (0, 16_385, 16_384, false),
            (0, 32_768, 1, false),
            (0, 0, 0, false),
            (0, 0, 16_385, false),
            (0, u32::MAX, 2, false),
            (0, 2, u32::MAX, false),
            (3, 0, 1_696, true),
            (3, 0, 1_697, false),
            (3, 1_695, 1, true),
            (4, 0, 1, false),
            (u32::MAX, 0, 1, false),
        ];
        for (index, begin, len, good) in cases {
            assert_eq!(
                g.block(index, begin, len).is_ok(),
                good,
                "{index} {begin} {len}"
            );
        }
    }

    #[test]
    fn pieces_of_a_range_are_those_it_touches() {
        let g = geometry(10, 35);
        let of = |start, end| -> Vec<u32> {
            g.pieces_of(&ByteRange { start, end })
                .map(PieceIndex::get)
                .collect()
        };
        assert_eq!(of(0, 1), [0]);
        assert_eq!(of(9, 11), [0, 1]);
        assert_eq!(of(10, 20), [1]);
        assert_eq!(of(0, 35), [0, 1, 2, 3]);
        assert_eq!(of(34, u64::MAX), [3]);
        assert!(of(35, 40).is_empty());
        assert!(of(5, 5).is_empty());
        assert!(of(6, 5).is_empty());
        assert!(of(u64::MAX, 0).is_empty());
    }

    #[test]
    fn impossible_lengths_are_refused() {
        assert_eq!(Geometry::new(0, 1), Err(GeometryError::PieceLength(0)));
        assert!(Geometry::new(limits::PIECE_LENGTH_MAX + 1, 1).is_err());
        assert_eq!(
            Geometry::new(1024, u64::MAX),
            Err(GeometryError::PieceCount(1 << 54))
        );
        let most = u64::from(limits::PIECES_MAX) * 1024;
        assert!(Geometry::new(1024, most).is_ok());
        assert!(Geometry::new(1024, most + 1).is_err());
        assert_eq!(geometry(1024, 0).piece_count(), 0);
    }

    #[test]
    fn pieces_and_blocks_tile_the_content() {
        for (piece_length, total) in [
            (16_384, 1),
            (16_384, 50_000),
            (1000, 12_345),
            (65_536, 65_536 * 3),
        ] {
            let g = geometry(piece_length, total);
            let mut at = 0;
            for piece in g.pieces() {
                for block in g.blocks(piece) {
                    let bytes = g.block_bytes(&block);
                    assert_eq!(bytes.start, at);
                    assert!(g.piece_range(piece).contains(&bytes));
                    at = bytes.end;
                    assert_eq!(
                        g.block(piece.get(), block.begin(), block.len()).as_ref(),
                        Ok(&block)
                    );
                }
                assert_eq!(at, g.piece_range(piece).end);
            }
            assert_eq!(at, total);
        }
    }
}
