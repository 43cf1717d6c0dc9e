//! [`Stamp`]: "this manifest is still the newest", said anew at least once a day (spec 0002, 6).

use super::envelope::{Envelope, Lifetime, PayloadType};
use super::error::{FormatError, TrustError};
use super::fields::{Fields as _, decode_dict, int};
use super::key::{Role, SecretKey};
use super::keyset::KeySet;
use super::name::SiteName;
use super::signed::SignedManifest;
use crate::bencode::Item;
use crate::id::Digest;
use crate::limits;

/// What the alarm key signs about a manifest. It ends a freeze: who withholds newer manifests can
/// do so for as long as a stamp lives, and no longer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// The site.
    pub site: SiteName,
    /// Sequence of the manifest.
    pub sequence: u64,
    /// [`SignedManifest::digest`] of the manifest.
    pub manifest: Digest,
    /// Seconds since 1970.
    pub issued: u64,
    /// Seconds since 1970, at most a day after `issued`.
    pub expires: u64,
}

impl Stamp {
    /// A stamp for a manifest, from `now` for `secs` seconds.
    pub fn of(manifest: &SignedManifest, now: u64, secs: u64) -> Self {
        let head = manifest.claimed();
        Self {
            site: head.site.clone(),
            sequence: head.sequence,
            manifest: manifest.digest(),
            issued: now,
            expires: now.saturating_add(secs),
        }
    }

    pub(super) fn lifetime(&self) -> Lifetime {
        Lifetime {
            what: "stamp",
            made: self.issued,
            expires: self.expires,
            max: limits::STAMP_LIFETIME_SECS_MAX,
        }
    }

    fn from_payload(payload: &[u8]) -> Result<Self, FormatError> {
        let dict = decode_dict("stamp", payload, limits::ENVELOPE_LEN_MAX, 64)?;
        Ok(Self {
            site: dict.need_site()?,
            sequence: dict.need_u64("sequence")?,
            manifest: Digest::new(dict.need_array("manifest")?),
            issued: dict.need_u64("issued")?,
            expires: dict.need_u64("expires")?,
        })
    }
}

/// A stamp as it travels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedStamp {
    envelope: Envelope,
    claimed: Stamp,
}

impl SignedStamp {
    /// Signs a stamp with an alarm key.
    ///
    /// # Errors
    /// [`TrustError::LivesTooLong`] or [`TrustError::Malformed`]: it would be refused by readers.
    pub fn sign(stamp: &Stamp, key: &SecretKey) -> Result<Self, TrustError> {
        stamp.lifetime().check_span()?;
        let payload = Item::dict([
            ("expires", int("expires", stamp.expires)?),
            ("issued", int("issued", stamp.issued)?),
            ("manifest", Item::bytes(stamp.manifest)),
            ("sequence", int("sequence", stamp.sequence)?),
            ("site", Item::bytes(stamp.site.as_str())),
        ])
        .to_bytes();
        Ok(Self {
            envelope: Envelope::sign(PayloadType::Stamp, payload, &[key]),
            claimed: stamp.clone(),
        })
    }

    /// Reads a stamp.
    ///
    /// # Errors
    /// [`TrustError::Malformed`] or [`TrustError::WrongType`].
    pub fn parse(bytes: &[u8]) -> Result<Self, TrustError> {
        let envelope = Envelope::parse(PayloadType::Stamp, bytes)?;
        let claimed = Stamp::from_payload(envelope.payload())?;
        Ok(Self { envelope, claimed })
    }

    /// Canonical bencode.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.envelope.to_bytes()
    }

    /// The stamp as it claims to be; nothing is verified.
    pub fn claimed(&self) -> &Stamp {
        &self.claimed
    }

    /// Parses and verifies in one step; see [`SignedStamp::verify`].
    ///
    /// # Errors
    /// As [`SignedStamp::parse`] and [`SignedStamp::verify`].
    pub fn open(bytes: &[u8], keys: &KeySet, now: u64) -> Result<Stamp, TrustError> {
        Self::parse(bytes)?.verify(keys, now)
    }

    /// Believes the stamp, or names the reason not to.
    ///
    /// # Errors
    /// [`TrustError`]: signature, site, or time.
    pub fn verify(&self, keys: &KeySet, now: u64) -> Result<Stamp, TrustError> {
        self.envelope.verify(Role::Alarm, &keys.alarm, 1)?;
        if self.claimed.site != keys.site {
            return Err(TrustError::WrongSite {
                expected: keys.site.clone(),
                got: self.claimed.site.clone(),
            });
        }
        self.claimed.lifetime().check(now)?;
        Ok(self.claimed.clone())
    }
}
