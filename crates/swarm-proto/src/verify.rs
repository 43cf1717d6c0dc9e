//! The only maker of [`VerifiedBytes`].
//!
//! Whoever asks "can a lie reach a browser?" reads this file: a piece that was fetched, or read
//! back from a disk, passes through [`verify`] or goes nowhere. "Verified" means that this process
//! compared the bytes with the hashes of the metainfo it holds. Whether that metainfo is the site's
//! is the manifest's business, and a visitor of a volunteer's bridge still trusts that bridge.

use bytes::Bytes;
use sha1::{Digest as _, Sha1};

use crate::geometry::PieceIndex;
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

/// A piece whose bytes are those of the metainfo. Made by [`verify`] only.
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
            if Sha1::digest(&bytes)[..] != hash {
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

#[cfg(test)]
mod tests;
