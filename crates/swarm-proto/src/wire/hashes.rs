//! Hash requests of BEP 52: layers of a file's Merkle tree, on the wire.

use bytes::{Buf, BufMut, BytesMut};

/// Which hashes of a file's Merkle tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HashRequest {
    /// Root of the file's tree.
    pub pieces_root: [u8; 32],
    /// Layer of the tree, leaves (16 KiB blocks) are zero.
    pub base_layer: u32,
    /// First hash, counted within the layer; a multiple of `length`.
    pub index: u32,
    /// Number of hashes; a power of two, at least two.
    pub length: u32,
    /// Layers above the base layer for which uncle hashes are asked.
    pub proof_layers: u32,
}

/// Bytes of a hash request on the wire, message id not counted.
pub(crate) const HASH_REQUEST_LEN: usize = 48;

impl HashRequest {
    /// Whether the numbers keep the rules of BEP 52 and the limits, for some file.
    pub fn is_well_formed(&self) -> bool {
        self.length.is_power_of_two()
            && self.length >= 2
            && self.length <= crate::limits::HASHES_PER_REQUEST_MAX
            && self.index.is_multiple_of(self.length)
            && self.base_layer < 40
            && self.proof_layers < 40
    }

    /// Number of hashes that a full answer holds: the layer's, then the uncles that can't be
    /// computed from those.
    pub fn answer_len(&self) -> u32 {
        let computed = self.length.max(1).ilog2().saturating_sub(1);
        self.length
            .saturating_add(self.proof_layers.saturating_sub(computed))
    }

    pub(crate) fn encode(&self, out: &mut BytesMut) {
        out.put_slice(&self.pieces_root);
        out.put_u32(self.base_layer);
        out.put_u32(self.index);
        out.put_u32(self.length);
        out.put_u32(self.proof_layers);
    }

    /// Reads the 48 bytes at the front; `None` if there are fewer.
    pub(crate) fn decode(bytes: &mut impl Buf) -> Option<Self> {
        if bytes.remaining() < HASH_REQUEST_LEN {
            return None;
        }
        let mut pieces_root = [0; 32];
        bytes.copy_to_slice(&mut pieces_root);
        Some(Self {
            pieces_root,
            base_layer: bytes.get_u32(),
            index: bytes.get_u32(),
            length: bytes.get_u32(),
            proof_layers: bytes.get_u32(),
        })
    }
}

/// A `hashes` message: an answer to a [`HashRequest`], not checked against anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawHashes {
    /// The request that is answered, repeated by the sender.
    pub request: HashRequest,
    /// The layer's hashes, then uncle hashes from the lowest up.
    pub hashes: Vec<[u8; 32]>,
}
