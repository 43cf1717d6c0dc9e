//! What was asked of the peer, until when.

use bytes::Bytes;

use crate::geometry::BlockRange;

/// A block that was asked for: it exists, and has as many bytes as it should. Whether they are
/// true is another question. Made by the ledger only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    range: BlockRange,
    bytes: Bytes,
}

impl Block {
    /// Where it lies.
    pub const fn range(&self) -> BlockRange {
        self.range
    }

    /// The bytes.
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The bytes.
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }
}
