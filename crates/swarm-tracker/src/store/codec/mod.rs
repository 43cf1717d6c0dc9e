//! Changes as bytes: what an entry of the shared log holds (spec 0006, 9.2).
//!
//! It is the operator's own store, but others may write to it, or another version of this program:
//! what is not as we would write it is refused as a whole, and nothing is allocated by a number
//! that was read.

mod read;
mod write;

use crate::registry::shared::{Change, PeerChange};
pub(crate) use read::{decode, decode_barring};
pub(crate) use write::{encode, encode_barring};

/// Bytes of an entry that we write; one change more may go into it.
const ENTRY_LEN: usize = 256 * 1024;
/// Bytes of an entry that is read.
pub(crate) const ENTRY_LEN_MAX: usize = 2 * ENTRY_LEN;
/// Of this form of entries.
const VERSION: u8 = 1;

mod kind {
    pub(super) const PEERS: u8 = 1;
    pub(super) const OFFER: u8 = 2;
    pub(super) const WITHDRAWN: u8 = 3;
    pub(super) const PROVEN: u8 = 4;
    pub(super) const UNPROVEN: u8 = 5;
    pub(super) const DOUBTED: u8 = 6;
    pub(super) const BARRED: u8 = 7;
    pub(super) const VISITS: u8 = 8;
    pub(super) const SITE: u8 = 9;
    pub(super) const ALARM: u8 = 10;
}

mod flag {
    pub(super) const SEED: u8 = 1;
    pub(super) const GONE: u8 = 2;
    pub(super) const COMPLETED: u8 = 4;
    pub(super) const BRIDGE: u8 = 8;
    pub(super) const V6: u8 = 16;
    pub(super) const AGED: u8 = 32;
    pub(super) const PEER: u8 = 63;

    pub(super) const PROVEN: u8 = 1;
    pub(super) const UNTIL: u8 = 2;
    pub(super) const HITS: u8 = 4;
    pub(super) const RATE: u8 = 8;
    pub(super) const DOMAIN: u8 = 16;
    pub(super) const OFFER: u8 = 31;
}

/// Who wrote an entry: 16 bytes by chance, new at each start.
pub(crate) type Writer = [u8; 16];

/// Why an entry is not read: nobody who runs this program has written it, or a later version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Damaged {
    #[error("longer than {ENTRY_LEN_MAX} bytes")]
    TooLong,
    #[error("of another version")]
    Version,
    #[error("cut off")]
    CutOff,
    #[error("bad {0}")]
    Bad(&'static str),
}

/// What an entry holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) writer: Writer,
    pub(crate) peers: Vec<PeerChange>,
    pub(crate) others: Vec<Change>,
}

#[cfg(test)]
mod tests;
