//! State files that know when they are damaged: bytes, then the SHA-256 of them.
//!
//! A flipped bit in a list of verified pieces, or in a number that must never go back, reads as
//! well as the right one.

use sha2::{Digest as _, Sha256};

const SEAL_LEN: usize = 32;

/// The bytes with their seal.
pub(crate) fn seal(mut bytes: Vec<u8>) -> Vec<u8> {
    let digest = Sha256::digest(&bytes);
    bytes.extend_from_slice(&digest);
    bytes
}

/// The bytes under the seal; `None` if any of them, or the seal, is not what was written.
pub(crate) fn unseal(sealed: &[u8]) -> Option<&[u8]> {
    let at = sealed.len().checked_sub(SEAL_LEN)?;
    let (bytes, seal) = sealed.split_at_checked(at)?;
    (Sha256::digest(bytes).as_slice() == seal).then_some(bytes)
}

/// A bit flipped in every byte, every length that is too short, and too much at the end.
#[cfg(test)]
pub(crate) fn damaged(whole: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    let flipped = (0..whole.len()).map(|at| {
        let mut bytes = whole.to_vec();
        bytes[at] ^= 1 << (at % 8);
        bytes
    });
    let cut = (0..whole.len()).map(|len| whole[..len].to_vec());
    let longer = [0, b'e', 0xff].map(|byte| [whole, &[byte]].concat());
    flipped.chain(cut).chain(longer)
}
