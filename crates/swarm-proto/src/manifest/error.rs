//! Two boundaries: bytes that are none of our formats, and good bytes that are not to be trusted.

use super::key::{KeyError, PublicKey, Role};
use super::name::{NameError, SiteName};
use super::path::PathError;
use crate::bencode::BencodeError;

/// Bytes, or a value about to be signed, that break the format. Whoever made them is at fault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// No canonical bencode.
    #[error("bad bencode")]
    Bencode(#[from] BencodeError),
    /// More bytes than the limit for this kind of file.
    #[error("{what} of {len} bytes is over the limit of {max}")]
    TooLong {
        /// Which file or field.
        what: &'static str,
        /// Its length.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// More entries than the limit.
    #[error("more than {max} {what}")]
    TooMany {
        /// Entries of what.
        what: &'static str,
        /// The limit.
        max: usize,
    },
    /// A field that must be there is not.
    #[error("{0:?} is missing")]
    Missing(&'static str),
    /// A field has the wrong type, or a value out of its bounds.
    #[error("bad {field:?}: {why}")]
    Field {
        /// The field's name.
        field: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A site name that is none.
    #[error("bad site name")]
    Name(#[from] NameError),
    /// A path that must never be published.
    #[error("bad path {path:?}")]
    Path {
        /// The path, cut to a readable length.
        path: String,
        /// Why it is refused.
        source: PathError,
    },
    /// A key that is none, or a weak one.
    #[error("bad key")]
    Key(#[from] KeyError),
}

/// Why something signed is not to be believed. Each variant is one refusal, named as logs name it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// Not even the right format.
    #[error("malformed")]
    Malformed(#[from] FormatError),
    /// Signed as something else: a stamp offered as a manifest, say.
    #[error("signed as {got:?}, not as {expected:?}")]
    WrongType {
        /// What the caller asked for.
        expected: &'static str,
        /// What the envelope says it is.
        got: String,
    },
    /// Signed for another site.
    #[error("signed for the site {got}, not for {expected}")]
    WrongSite {
        /// The site asked for.
        expected: SiteName,
        /// The site inside the signature.
        got: SiteName,
    },
    /// A key of the right role is named, but its signature does not hold.
    #[error("signature of {key} does not hold")]
    BadSignature {
        /// The key that is said to have signed.
        key: PublicKey,
    },
    /// No key of the role signed at all.
    #[error("not signed by a {role} key of the site")]
    UnknownKey {
        /// The role that had to sign.
        role: Role,
    },
    /// Some keys of the role signed, but fewer than the threshold.
    #[error("{got} of {needed} {role} signatures")]
    TooFewSignatures {
        /// The role that had to sign.
        role: Role,
        /// How many had to.
        needed: usize,
        /// How many did.
        got: usize,
    },
    /// Past its own expiry.
    #[error("{what} expired at {expires} (now {now})")]
    Expired {
        /// Keys, manifest, stamp or alarm.
        what: &'static str,
        /// Seconds since 1970.
        expires: u64,
        /// The time it was judged at.
        now: u64,
    },
    /// Made in the future, by more than clocks may differ.
    #[error("{what} is from the future: made at {made} (now {now})")]
    NotYetValid {
        /// Keys, manifest, stamp or alarm.
        what: &'static str,
        /// Seconds since 1970.
        made: u64,
        /// The time it was judged at.
        now: u64,
    },
    /// Valid for longer than this kind of statement may be.
    #[error("{what} would live {secs} s, more than {max} s")]
    LivesTooLong {
        /// Manifest, stamp or alarm.
        what: &'static str,
        /// From made to expires.
        secs: u64,
        /// The limit.
        max: u64,
    },
    /// A manifest that needs a freshness stamp came with none, or with one for another manifest.
    #[error("stale: no freshness stamp for this manifest")]
    Stale,
    /// Older than what was seen before.
    #[error("rolled back: sequence {got} after {seen}")]
    Rollback {
        /// The highest sequence seen.
        seen: u64,
        /// The sequence offered.
        got: u64,
    },
    /// Another content under a sequence number that was seen before.
    #[error("two different manifests have the sequence {sequence}")]
    Equivocation {
        /// The number they share.
        sequence: u64,
    },
    /// The body is not the one the signed head commits to.
    #[error("manifest body does not match its signed head")]
    BodyMismatch,
    /// The chain of keys does not hold between two of its sets, or forks from what is known.
    #[error("chain of keys breaks at sequence {sequence}")]
    BrokenChain {
        /// The set that does not follow.
        sequence: u64,
    },
    /// No set of the chain is vouched for by the pinned root key.
    #[error("chain of keys is not anchored in the pinned root key")]
    NotAnchored,
}
