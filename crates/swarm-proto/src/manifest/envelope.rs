//! [`Envelope`]: exact bytes, and who signed them as what (spec 0002, 3).
//!
//! A signature is over `"spikeswarm " type NUL payload`, so bytes signed as one type never pass
//! for another (a freshness stamp for a manifest, say), nor for something outside Spikeswarm.

use super::error::{FormatError, TrustError};
use super::fields::{Fields as _, decode_dict, field, only};
use super::key::{PublicKey, Role, SecretKey};
use crate::bencode::Item;
use crate::id::Digest;
use crate::limits;

/// What a payload is. Its text is part of what is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayloadType {
    /// A [`KeySet`](super::KeySet).
    Keys,
    /// The head of a manifest.
    Manifest,
    /// A freshness [`Stamp`](super::Stamp).
    Stamp,
    /// An [`Alarm`](super::Alarm).
    Alarm,
}

impl PayloadType {
    /// Every type there is.
    pub const ALL: [PayloadType; 4] = [
        PayloadType::Keys,
        PayloadType::Manifest,
        PayloadType::Stamp,
        PayloadType::Alarm,
    ];

    /// As it stands in the envelope and in the signed bytes.
    pub const fn as_str(self) -> &'static str {
        match self {
            PayloadType::Keys => "keys",
            PayloadType::Manifest => "manifest",
            PayloadType::Stamp => "stamp",
            PayloadType::Alarm => "alarm",
        }
    }
}

/// A payload with its signatures. Nothing in it is believed before [`Envelope::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    kind: PayloadType,
    payload: Vec<u8>,
    /// Rising by key, no key twice. The keys of strangers may be no keys at all.
    signatures: Vec<([u8; 32], [u8; 64])>,
}

/// The bytes that are signed.
fn message(kind: PayloadType, payload: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(32 + payload.len());
    message.extend_from_slice(b"spikeswarm ");
    message.extend_from_slice(kind.as_str().as_bytes());
    message.push(0);
    message.extend_from_slice(payload);
    message
}

impl Envelope {
    /// Signs `payload` as `kind` with each of `keys`.
    pub(super) fn sign(kind: PayloadType, payload: Vec<u8>, keys: &[&SecretKey]) -> Self {
        let message = message(kind, &payload);
        let mut signatures: Vec<_> = keys
            .iter()
            .map(|key| (*key.public().as_bytes(), key.sign(&message)))
            .collect();
        signatures.sort_unstable_by_key(|(key, _)| *key);
        signatures.dedup_by_key(|(key, _)| *key);
        Self {
            kind,
            payload,
            signatures,
        }
    }

    /// Reads an envelope that must be of `kind`.
    ///
    /// # Errors
    /// [`TrustError::WrongType`] for another type, [`TrustError::Malformed`] for anything else.
    pub fn parse(kind: PayloadType, bytes: &[u8]) -> Result<Self, TrustError> {
        // A dictionary, two keys and two values each signature, and what stands around them.
        let tokens_max = 5 * limits::SIGNATURES_MAX + 16;
        let dict = decode_dict("envelope", bytes, limits::ENVELOPE_LEN_MAX, tokens_max)?;
        let found = dict.need_str("type", 32)?;
        if found != kind.as_str() {
            return Err(TrustError::WrongType {
                expected: kind.as_str(),
                got: found.to_owned(),
            });
        }
        // Nothing may stand where no signature covers it: one statement has one spelling.
        only(dict, 3)?;
        let mut signatures: Vec<([u8; 32], [u8; 64])> = Vec::new();
        for value in dict.need_list("signatures", limits::SIGNATURES_MAX)? {
            let one = value
                .as_dict()
                .ok_or(field("signatures", "not a dictionary"))?;
            only(one, 2)?;
            let key = one.need_array("key")?;
            if signatures.last().is_some_and(|(last, _)| *last >= key) {
                return Err(field("signatures", "keys are not in rising order").into());
            }
            signatures.push((key, one.need_array("sig")?));
        }
        if signatures.is_empty() {
            return Err(field("signatures", "none at all").into());
        }
        Ok(Self {
            kind,
            payload: dict.need_bytes("payload")?.to_vec(),
            signatures,
        })
    }

    /// The type a file claims, if it is an envelope at all. Nothing is verified.
    pub fn claimed_type(bytes: &[u8]) -> Option<PayloadType> {
        PayloadType::ALL
            .into_iter()
            .find(|kind| Self::parse(*kind, bytes).is_ok())
    }

    /// Canonical bencode.
    pub fn to_bytes(&self) -> Vec<u8> {
        Item::dict([
            ("payload", Item::bytes(&self.payload)),
            (
                "signatures",
                Item::list(self.signatures.iter().map(|(key, sig)| {
                    Item::dict([("key", Item::bytes(key)), ("sig", Item::bytes(sig))])
                })),
            ),
            ("type", Item::bytes(self.kind.as_str())),
        ])
        .to_bytes()
    }

    /// The signed bytes, to be read only after [`Envelope::verify`], or to be shown as a claim.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// SHA-256 of the payload: names this statement in another one.
    pub fn payload_digest(&self) -> Digest {
        Digest::of(&self.payload)
    }

    /// The keys that are said to have signed; nothing is verified.
    pub fn claimed_signers(&self) -> impl Iterator<Item = &[u8; 32]> {
        self.signatures.iter().map(|(key, _)| key)
    }

    /// Checks that at least `threshold` of `keys` signed. Signatures of other keys are left alone.
    /// Returns the first key that signed.
    ///
    /// # Errors
    /// [`TrustError::UnknownKey`] when none of `keys` signed, [`TrustError::BadSignature`] when
    /// one is named and did not, [`TrustError::TooFewSignatures`] below the threshold.
    pub fn verify(
        &self,
        role: Role,
        keys: &[PublicKey],
        threshold: usize,
    ) -> Result<PublicKey, TrustError> {
        let message = message(self.kind, &self.payload);
        let mut first = None;
        let mut good = 0_usize;
        for (bytes, signature) in &self.signatures {
            let Some(key) = keys.iter().find(|key| key.as_bytes() == bytes) else {
                continue;
            };
            if !key.verifies(&message, signature) {
                return Err(TrustError::BadSignature { key: *key });
            }
            good += 1;
            first.get_or_insert(*key);
        }
        let Some(first) = first else {
            return Err(TrustError::UnknownKey { role });
        };
        if good < threshold {
            return Err(TrustError::TooFewSignatures {
                role,
                needed: threshold,
                got: good,
            });
        }
        Ok(first)
    }
}

/// Times of a statement that lives from `made` to `expires`.
pub(super) struct Lifetime {
    pub(super) what: &'static str,
    pub(super) made: u64,
    pub(super) expires: u64,
    pub(super) max: u64,
}

impl Lifetime {
    /// Whether it could hold at all: an end after its beginning, and not too far after it.
    pub(super) fn check_span(&self) -> Result<(), TrustError> {
        let secs = self
            .expires
            .checked_sub(self.made)
            .ok_or(FormatError::Field {
                field: self.what,
                why: "expires before it was made",
            })?;
        if secs > self.max {
            return Err(TrustError::LivesTooLong {
                what: self.what,
                secs,
                max: self.max,
            });
        }
        Ok(())
    }

    /// Whether it holds at `now`.
    pub(super) fn check(&self, now: u64) -> Result<(), TrustError> {
        self.check_span()?;
        if self.made > now.saturating_add(limits::CLOCK_SKEW_SECS_MAX) {
            return Err(TrustError::NotYetValid {
                what: self.what,
                made: self.made,
                now,
            });
        }
        if self.expires <= now {
            return Err(TrustError::Expired {
                what: self.what,
                expires: self.expires,
                now,
            });
        }
        Ok(())
    }
}
