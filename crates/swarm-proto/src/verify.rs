//! The only maker of [`VerifiedBytes`] and [`VerifiedBlock`].
//!
//! Whoever asks "can a lie reach a browser?" reads this file: a piece that was fetched, or read
//! back from a disk, passes through [`verify`] (or [`verify_two`]) or goes nowhere, and a block that
//! a reader may have before its piece is whole through [`verify_block`]. "Verified" means that this
//! process compared the bytes with the hashes of the metainfo it holds. Whether that metainfo is the
//! site's is the manifest's business, and a visitor of a volunteer's bridge still trusts that
//! bridge.

use bytes::Bytes;
use sha1::{Digest as _, Sha1};

use crate::geometry::{BLOCK_LEN, BlockRange, PieceIndex};
use crate::lanes::two_sha1;
use crate::merkle::{self, Hash};
use crate::metainfo::{Kind, Metainfo, PieceTree};

/// A whole piece, still only a claim: from peers, from a web seed, or from a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssembledPiece {
    /// Which piece it claims to be.
    pub piece: PieceIndex,
    /// Its bytes, padding included.
    pub bytes: Bytes,
}

/// Which hash vouches for bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Voucher {
    /// The SHA-256 tree of BEP 52.
    Sha256Tree,
    /// The SHA-1 of BEP 3: all that a v1 torrent has, and a hybrid whose layers aren't known yet.
    Sha1,
}

/// A piece whose bytes are those of the metainfo. Made by [`verify`] and
/// [`verify_two`] only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedBytes {
    piece: PieceIndex,
    bytes: Bytes,
    voucher: Voucher,
}

impl VerifiedBytes {
    /// Which piece it is.
    pub fn piece(&self) -> PieceIndex {
        self.piece
    }

    /// Its bytes, padding included.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Its bytes, padding included.
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// Which hash vouches for them.
    pub fn voucher(&self) -> Voucher {
        self.voucher
    }
}

/// A piece whose bytes are not those of the metainfo: the fault of whoever sent one of its blocks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("piece {} is wrong: {fault}", piece.get())]
pub struct VerifyError {
    /// The piece.
    pub piece: PieceIndex,
    /// What is wrong.
    pub fault: VerifyFault,
    /// The hash of each block of the file's data as found, so that a liar can be named once the
    /// right bytes are here. Empty where the SHA-256 tree was not asked.
    pub leaves: Vec<Hash>,
}

/// What is wrong with a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyFault {
    /// Not as long as the piece is.
    #[error("{got} bytes instead of {expected}")]
    Length {
        /// Bytes of the piece.
        expected: u32,
        /// Bytes given.
        got: usize,
    },
    /// The tree of its blocks has another root.
    #[error("SHA-256 differs")]
    Sha256,
    /// Its SHA-1 differs.
    #[error("SHA-1 differs")]
    Sha1,
    /// Padding that is not zero.
    #[error("padding is not zero")]
    Padding,
    /// No hash is known yet: a v2 torrent whose piece layers are missing. Nobody's fault.
    #[error("no hash is known")]
    Unknown,
}

/// Compares a piece with the metainfo.
///
/// Where the SHA-256 tree is known it decides alone, whatever the SHA-1 says: SHA-1 can be made to
/// collide. Padding must be zero, since BEP 52's tree doesn't cover it. Otherwise the SHA-1 of the
/// whole piece decides.
///
/// # Errors
/// [`VerifyError`]: the bytes must go nowhere.
pub fn verify(meta: &Metainfo, assembled: AssembledPiece) -> Result<VerifiedBytes, VerifyError> {
    compare(meta, assembled, |bytes| Sha1::digest(bytes).into())
}

/// [`verify`] of two pieces: where SHA-1 decides, for 0.6 of the price.
///
/// # Errors
/// As there, for each of them.
pub fn verify_two(
    meta: &Metainfo,
    [first, second]: [AssembledPiece; 2],
) -> [Result<VerifiedBytes, VerifyError>; 2] {
    if !(is_sha1_decisive(meta, first.piece) && is_sha1_decisive(meta, second.piece)) {
        return [verify(meta, first), verify(meta, second)];
    }
    let [one, other] = two_sha1(&first.bytes, &second.bytes);
    [
        compare(meta, first, |_| one),
        compare(meta, second, |_| other),
    ]
}

/// Whether a piece is held against its SHA-1, and not against a SHA-256 tree.
pub fn is_sha1_decisive(meta: &Metainfo, piece: PieceIndex) -> bool {
    meta.piece_tree(piece)
        .is_none_or(|tree| tree.root.is_none())
}

fn compare(
    meta: &Metainfo,
    assembled: AssembledPiece,
    sha1: impl FnOnce(&[u8]) -> [u8; 20],
) -> Result<VerifiedBytes, VerifyError> {
    let AssembledPiece { piece, bytes } = assembled;
    let fail = |fault, leaves| VerifyError {
        piece,
        fault,
        leaves,
    };
    let expected = meta.geometry().piece_len(piece);
    if bytes.len() as u64 != u64::from(expected) || bytes.is_empty() {
        let fault = VerifyFault::Length {
            expected,
            got: bytes.len(),
        };
        return Err(fail(fault, Vec::new()));
    }

    if let Some(PieceTree {
        data_len,
        height,
        root: Some(root),
        ..
    }) = meta.piece_tree(piece)
    {
        let (data, padding) = bytes.split_at(bytes.len().min(data_len as usize));
        let leaves = merkle::leaves(data);
        if merkle::root_above(&leaves, 0, height) != root {
            return Err(fail(VerifyFault::Sha256, leaves));
        }
        if padding.iter().any(|byte| *byte != 0) {
            return Err(fail(VerifyFault::Padding, leaves));
        }
        return Ok(VerifiedBytes {
            piece,
            bytes,
            voucher: Voucher::Sha256Tree,
        });
    }

    match meta.v1_hash(piece) {
        Some(hash) if meta.kind() != Kind::V2 => {
            if sha1(&bytes)[..] != hash {
                return Err(fail(VerifyFault::Sha1, Vec::new()));
            }
            Ok(VerifiedBytes {
                piece,
                bytes,
                voucher: Voucher::Sha1,
            })
        }
        _ => Err(fail(VerifyFault::Unknown, Vec::new())),
    }
}

/// The leaf hashes of one piece: they were seen to lead to the piece's root, so whoever sent them
/// need not be believed. Made by [`PieceLeaves::prove`] only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PieceLeaves {
    piece: PieceIndex,
    /// Bytes of the piece that the leaves cover; what follows is padding.
    data_len: u32,
    leaves: Box<[Hash]>,
}

impl PieceLeaves {
    /// Holds leaf hashes of a piece against its root. `leaves` has one hash for each block of the
    /// file's data in the piece, in order; filling of the tree after them is not looked at.
    ///
    /// `None`: they are not the piece's, or its root is not known (a v1 torrent, or a layer that
    /// is missing).
    pub fn prove(meta: &Metainfo, piece: PieceIndex, leaves: &[Hash]) -> Option<Self> {
        let tree = meta.piece_tree(piece)?;
        let leaves = leaves.get(..tree.data_len.div_ceil(BLOCK_LEN) as usize)?;
        (merkle::root_above(leaves, 0, tree.height) == tree.root?).then(|| Self {
            piece,
            data_len: tree.data_len,
            leaves: leaves.into(),
        })
    }

    /// Which piece they are of.
    pub const fn piece(&self) -> PieceIndex {
        self.piece
    }

    /// The hashes, one for each block of data.
    pub const fn hashes(&self) -> &[Hash] {
        &self.leaves
    }
}

/// One block whose bytes are those of the metainfo. Made by [`verify_block`] only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedBlock {
    range: BlockRange,
    bytes: Bytes,
}

impl VerifiedBlock {
    /// Where it lies.
    pub const fn range(&self) -> BlockRange {
        self.range
    }

    /// Its bytes.
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

/// A block whose bytes are not those of the metainfo: the fault of whoever sent it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("block at {} of piece {} is wrong: {fault}", range.begin(), range.piece().get())]
pub struct VerifyBlockError {
    /// The block.
    pub range: BlockRange,
    /// What is wrong.
    pub fault: VerifyFault,
}

/// Compares one block with the proven leaves of its piece, so that a reader need not wait for the
/// whole piece, and a liar is known at once.
///
/// The block begins where a leaf does and covers all of the leaf's data; padding behind that must
/// be zero.
///
/// # Errors
/// [`VerifyBlockError`]: the bytes must go nowhere. [`VerifyFault::Unknown`] if the leaves are
/// another piece's, or the range is no leaf's: nobody's fault.
pub fn verify_block(
    leaves: &PieceLeaves,
    range: BlockRange,
    bytes: Bytes,
) -> Result<VerifiedBlock, VerifyBlockError> {
    let fail = |fault| Err(VerifyBlockError { range, fault });
    if bytes.len() as u64 != u64::from(range.len()) {
        return fail(VerifyFault::Length {
            expected: range.len(),
            got: bytes.len(),
        });
    }
    let leaf_len = leaves.data_len.saturating_sub(range.begin()).min(BLOCK_LEN);
    let is_leaf = range.begin().is_multiple_of(BLOCK_LEN) && range.len() >= leaf_len;
    if range.piece() != leaves.piece || !is_leaf {
        return fail(VerifyFault::Unknown);
    }
    let (data, padding) = bytes.split_at(bytes.len().min(leaf_len as usize));
    if !data.is_empty() {
        let leaf = leaves.leaves.get((range.begin() / BLOCK_LEN) as usize);
        match leaf {
            Some(leaf) if merkle::leaf(data) == *leaf => {}
            Some(_) => return fail(VerifyFault::Sha256),
            None => return fail(VerifyFault::Unknown),
        }
    }
    if padding.iter().any(|byte| *byte != 0) {
        return fail(VerifyFault::Padding);
    }
    Ok(VerifiedBlock { range, bytes })
}

#[cfg(test)]
mod tests;
