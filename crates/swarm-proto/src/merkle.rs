//! SHA-256 Merkle trees of BEP 52: roots, piece layers, proofs.
//!
//! A file's leaves are the hashes of its 16 KiB blocks (the last may be short). Level 0 is the leaf
//! level; a node at level `n` covers `2^n` blocks. A tree is filled up to the next power of two
//! with all-zero leaves, so the pad hash of level `n` is the root over `2^n` zero leaves.
//!
//! Everything here is arithmetic on hashes; no data is held longer than the call.

use sha2::{Digest as _, Sha256};

use crate::geometry::BLOCK_LEN;
use crate::lanes::two_sha256;

/// A node of a tree.
pub type Hash = [u8; 32];

/// Levels a tree can have: a file of `2^63` bytes has `2^49` blocks.
pub const HEIGHT_MAX: u32 = 49;

/// The leaf hash of one block, at most [`BLOCK_LEN`] bytes.
pub fn leaf(block: &[u8]) -> Hash {
    Sha256::digest(block).into()
}

/// The hash of a node from its two children.
pub fn parent(left: &Hash, right: &Hash) -> Hash {
    let mut hasher = Sha256::new();
    hasher.update(left);
    hasher.update(right);
    hasher.finalize().into()
}

/// What fills a tree at that level: the root over `2^level` zero leaves.
pub fn pad(level: u32) -> Hash {
    (0..level).fold([0; 32], |hash, _| parent(&hash, &hash))
}

/// The leaf hashes of `data`, block by block. Empty data has none.
pub fn leaves(data: &[u8]) -> Vec<Hash> {
    let mut leaves = Vec::with_capacity(data.len().div_ceil(BLOCK_LEN as usize));
    for pair in data.chunks(2 * BLOCK_LEN as usize) {
        match pair.split_at_checked(BLOCK_LEN as usize) {
            Some((left, right)) if !right.is_empty() => leaves.extend(two_sha256(left, right)),
            _ => leaves.push(leaf(pair)),
        }
    }
    leaves
}

/// Number of blocks of a file, bytes to leaves.
pub const fn block_count(length: u64) -> u64 {
    length.div_ceil(BLOCK_LEN as u64)
}

/// The root's level in the tree over `nodes` leaves (or, of a layer: levels above that layer).
/// One node, or none, needs no level above.
pub const fn height(nodes: u64) -> u32 {
    if nodes <= 1 {
        0
    } else {
        u64::BITS - (nodes - 1).leading_zeros()
    }
}

/// The root `height` levels above `nodes`, which stand at level `base` and are filled up with that
/// level's pad hash. Without nodes it is the pad hash itself.
///
/// Nodes past `2^height` are not looked at.
pub fn root_above(nodes: &[Hash], base: u32, height: u32) -> Hash {
    let wanted = 1_usize.checked_shl(height).unwrap_or(usize::MAX);
    // The left halves whose right halves are still to come, by level: no level is ever held as a
    // whole, since a stranger chooses how long it is.
    let mut lefts: Vec<Option<Hash>> = vec![None; height as usize];
    'nodes: for node in nodes.iter().take(wanted) {
        let mut hash = *node;
        for left in &mut lefts {
            match left.take() {
                Some(left) => hash = parent(&left, &hash),
                None => {
                    *left = Some(hash);
                    continue 'nodes;
                }
            }
        }
        return hash;
    }
    let mut filler = pad(base);
    let mut right: Option<Hash> = None;
    for left in lefts {
        right = match (left, right) {
            (Some(left), right) => Some(parent(&left, right.as_ref().unwrap_or(&filler))),
            (None, Some(lone)) => Some(parent(&lone, &filler)),
            (None, None) => None,
        };
        filler = parent(&filler, &filler);
    }
    right.unwrap_or(filler)
}

/// The root of a whole file from its leaves (its `pieces root`), filled to the next power of two.
pub fn root_of_leaves(leaves: &[Hash]) -> Hash {
    root_above(leaves, 0, height(leaves.len() as u64))
}

/// The root of a whole file from its piece layer, whose nodes stand `piece_level` levels above the
/// leaves ([`piece_level`]).
pub fn root_of_layer(layer: &[Hash], piece_level: u32) -> Hash {
    root_above(layer, piece_level, height(layer.len() as u64))
}

/// The level of a piece's root: 0 for pieces of 16 KiB. `piece_length` is a power of two.
pub const fn piece_level(piece_length: u32) -> u32 {
    height((piece_length / BLOCK_LEN) as u64)
}

/// The piece layer of a file that is longer than one piece, from its leaves.
pub fn piece_layer(leaves: &[Hash], piece_level: u32) -> Vec<Hash> {
    let per_piece = 1_usize.checked_shl(piece_level).unwrap_or(usize::MAX);
    leaves
        .chunks(per_piece)
        .map(|piece| root_above(piece, 0, piece_level))
        .collect()
}

/// Which hashes of a file's tree a hash request names (BEP 52).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashSpan {
    /// Level of the hashes asked for; 0 is the leaves.
    pub base: u32,
    /// The first of them, counted within its level; a multiple of `length`.
    pub index: u32,
    /// How many; a power of two, at least 2.
    pub length: u32,
    /// Levels above `base`, the root's not counted, for which the requester wants to be able to
    /// compute the hash on the way up. Uncles are sent where it cannot from the hashes alone.
    pub proof_layers: u32,
}

impl HashSpan {
    /// Whether the span lies in a tree whose root stands at level `tree_height`.
    pub fn is_within(&self, tree_height: u32) -> bool {
        let Some(levels) = tree_height.checked_sub(self.base) else {
            return false;
        };
        tree_height <= HEIGHT_MAX
            && self.length >= 2
            && self.length.is_power_of_two()
            && self.index.is_multiple_of(self.length)
            && u64::from(self.index) + u64::from(self.length) <= 1 << levels
            && (self.proof_layers == 0 || self.proof_layers < levels)
    }

    /// Levels between the span's hashes and the node that covers exactly them.
    fn own_levels(&self) -> u32 {
        self.length.trailing_zeros()
    }

    /// How many uncle hashes follow the span's own in the answer.
    ///
    /// The node over the span is computed from its hashes; the first uncle is that node's sibling.
    pub fn uncle_count(&self) -> u32 {
        self.proof_layers
            .saturating_sub(self.own_levels().saturating_sub(1))
    }

    /// Proof layers with which the answer reaches the root of a tree of that height.
    pub const fn proof_layers_to_root(base: u32, tree_height: u32) -> u32 {
        tree_height.saturating_sub(base).saturating_sub(1)
    }
}

/// Answers a hash request from one whole layer of a file's tree: the span's hashes, then uncles
/// from the lowest up.
///
/// `layer` are the nodes at level `span.base`, without filling. `None` when the span doesn't lie in
/// the tree.
pub fn prove(layer: &[Hash], tree_height: u32, span: &HashSpan) -> Option<Vec<Hash>> {
    if !span.is_within(tree_height) {
        return None;
    }
    let first = span.index as usize;
    let filler = pad(span.base);
    let mut hashes: Vec<Hash> = (first..first + span.length as usize)
        .map(|at| layer.get(at).copied().unwrap_or(filler))
        .collect();
    let lowest = span.own_levels();
    let mut node = u64::from(span.index) >> lowest;
    for height in lowest..lowest + span.uncle_count() {
        let start = usize::try_from((node ^ 1).checked_shl(height)?).ok()?;
        let nodes = layer.get(start..).unwrap_or_default();
        hashes.push(root_above(nodes, span.base, height));
        node >>= 1;
    }
    Some(hashes)
}

/// Checks the answer to a hash request against a file's root.
///
/// `hashes` are the span's own hashes followed by the uncles, as [`prove`] makes them. Only an
/// answer whose uncles reach the root can be checked; any other is `false`, as is a wrong number of
/// hashes.
pub fn check(root: &Hash, tree_height: u32, span: &HashSpan, hashes: &[Hash]) -> bool {
    if !span.is_within(tree_height) {
        return false;
    }
    let Some((own, uncles)) = hashes.split_at_checked(span.length as usize) else {
        return false;
    };
    let own_levels = span.own_levels();
    let to_root = tree_height
        .saturating_sub(span.base)
        .saturating_sub(own_levels);
    if uncles.len() != to_root as usize {
        return false;
    }
    let mut node = u64::from(span.index) >> own_levels;
    let mut hash = root_above(own, span.base, own_levels);
    for uncle in uncles {
        hash = if node & 1 == 0 {
            parent(&hash, uncle)
        } else {
            parent(uncle, &hash)
        };
        node >>= 1;
    }
    hash == *root
}

#[cfg(test)]
mod tests;
