//! [`SignedManifest`]: a small signed head that commits to the body beside it (spec 0002, 5).

use std::collections::BTreeMap;

use super::envelope::{Envelope, Lifetime, PayloadType};
use super::error::{FormatError, TrustError};
use super::fields::{Fields as _, check_len, decode_dict, int, only};
use super::key::{PublicKey, Role, SecretKey};
use super::keyset::KeySet;
use super::name::SiteName;
use super::site::SiteManifest;
use super::stamp::Stamp;
use crate::bencode::Item;
use crate::id::Digest;
use crate::limits;

/// What the publish key signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestHead {
    /// The site.
    pub site: SiteName,
    /// Rises with each manifest of the site.
    pub sequence: u64,
    /// Seconds since 1970.
    pub created: u64,
    /// Seconds since 1970.
    pub expires: u64,
    /// Whether a fresh stamp is needed beside it.
    pub stamped: bool,
    /// SHA-256 of the body.
    pub body: Digest,
    /// Bytes of the body.
    pub length: u64,
}

impl ManifestHead {
    fn to_payload(&self) -> Result<Vec<u8>, FormatError> {
        Ok(Item::dict([
            ("body", Item::bytes(self.body)),
            ("created", int("created", self.created)?),
            ("expires", int("expires", self.expires)?),
            ("length", int("length", self.length)?),
            ("sequence", int("sequence", self.sequence)?),
            ("site", Item::bytes(self.site.as_str())),
            ("stamped", Item::int(self.stamped.into())),
        ])
        .to_bytes())
    }

    fn from_payload(payload: &[u8]) -> Result<Self, FormatError> {
        let dict = decode_dict("manifest head", payload, limits::ENVELOPE_LEN_MAX, 64)?;
        Ok(Self {
            site: dict.need_site()?,
            sequence: dict.need_u64("sequence")?,
            created: dict.need_u64("created")?,
            expires: dict.need_u64("expires")?,
            stamped: dict.need_bool("stamped")?,
            body: Digest::new(dict.need_array("body")?),
            length: dict.need_u64("length")?,
        })
    }

    fn lifetime(&self) -> Lifetime {
        Lifetime {
            what: "manifest",
            made: self.created,
            expires: self.expires,
            max: limits::MANIFEST_LIFETIME_SECS_MAX,
        }
    }
}

/// A manifest as it travels: `{body, head}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedManifest {
    head: Envelope,
    claimed: ManifestHead,
    body: Vec<u8>,
}

/// A manifest that was believed, with what a [`SiteTrust`](super::SiteTrust) remembers of it.
#[derive(Debug, Clone)]
pub(super) struct Believed {
    pub(super) manifest: SiteManifest,
    pub(super) signer: PublicKey,
    pub(super) head: Digest,
}

impl SignedManifest {
    /// Signs a manifest with a publish key.
    ///
    /// # Errors
    /// [`TrustError::Malformed`] or [`TrustError::LivesTooLong`]: it would be refused by readers.
    pub fn sign(manifest: &SiteManifest, key: &SecretKey) -> Result<Self, TrustError> {
        let body = manifest.body_to_bytes()?;
        let claimed = ManifestHead {
            site: manifest.site.clone(),
            sequence: manifest.sequence,
            created: manifest.created,
            expires: manifest.expires,
            stamped: manifest.stamped,
            body: Digest::of(&body),
            length: body.len() as u64,
        };
        claimed.lifetime().check_span()?;
        let head = Envelope::sign(PayloadType::Manifest, claimed.to_payload()?, &[key]);
        Ok(Self {
            head,
            claimed,
            body,
        })
    }

    /// Reads a signed manifest. The body is not looked into.
    ///
    /// # Errors
    /// [`TrustError::Malformed`] or [`TrustError::WrongType`].
    pub fn parse(bytes: &[u8]) -> Result<Self, TrustError> {
        let dict = decode_dict("manifest", bytes, limits::MANIFEST_LEN_MAX, 16)?;
        only(dict, 2)?;
        let head = Envelope::parse(PayloadType::Manifest, dict.need_bytes("head")?)?;
        let claimed = ManifestHead::from_payload(head.payload())?;
        let body = dict.need_bytes("body")?;
        check_len("manifest body", body.len(), limits::MANIFEST_BODY_LEN_MAX)?;
        Ok(Self {
            head,
            claimed,
            body: body.to_vec(),
        })
    }

    /// Canonical bencode.
    pub fn to_bytes(&self) -> Vec<u8> {
        Item::dict([
            ("body", Item::bytes(&self.body)),
            ("head", Item::bytes(self.head.to_bytes())),
        ])
        .to_bytes()
    }

    /// The head as it claims to be; nothing is verified.
    pub fn claimed(&self) -> &ManifestHead {
        &self.claimed
    }

    /// The manifest as it claims to be, for tools that show files; nothing is verified.
    ///
    /// # Errors
    /// [`TrustError::BodyMismatch`] or [`TrustError::Malformed`].
    pub fn claimed_manifest(&self) -> Result<SiteManifest, TrustError> {
        let head = &self.claimed;
        if self.body.len() as u64 != head.length || Digest::of(&self.body) != head.body {
            return Err(TrustError::BodyMismatch);
        }
        let mut manifest = SiteManifest {
            site: head.site.clone(),
            sequence: head.sequence,
            created: head.created,
            expires: head.expires,
            stamped: head.stamped,
            bundles: Vec::new(),
            files: BTreeMap::new(),
        };
        manifest.read_body(&self.body)?;
        Ok(manifest)
    }

    /// Names this manifest in a stamp: SHA-256 of the head's payload.
    pub fn digest(&self) -> Digest {
        self.head.payload_digest()
    }

    /// Parses and verifies in one step; see [`SignedManifest::verify`].
    ///
    /// # Errors
    /// As [`SignedManifest::parse`] and [`SignedManifest::verify`].
    pub fn open(
        bytes: &[u8],
        keys: &KeySet,
        now: u64,
        min_sequence: Option<u64>,
        stamp: Option<&Stamp>,
    ) -> Result<SiteManifest, TrustError> {
        Self::parse(bytes)?.verify(keys, now, min_sequence, stamp)
    }

    /// Believes the manifest, or names the reason not to.
    ///
    /// `min_sequence` is the highest sequence seen before. `stamp` must have come out of
    /// [`SignedStamp::open`](super::SignedStamp::open); a manifest that says `stamped` needs one.
    ///
    /// # Errors
    /// [`TrustError`]: signature, site, rollback, expiry, staleness, body; in this order.
    pub fn verify(
        &self,
        keys: &KeySet,
        now: u64,
        min_sequence: Option<u64>,
        stamp: Option<&Stamp>,
    ) -> Result<SiteManifest, TrustError> {
        self.believe(keys, now, min_sequence, stamp)
            .map(|believed| believed.manifest)
    }

    pub(super) fn believe(
        &self,
        keys: &KeySet,
        now: u64,
        min_sequence: Option<u64>,
        stamp: Option<&Stamp>,
    ) -> Result<Believed, TrustError> {
        let signer = self.head.verify(Role::Publish, &keys.publish, 1)?;
        let head = &self.claimed;
        if head.site != keys.site {
            return Err(TrustError::WrongSite {
                expected: keys.site.clone(),
                got: head.site.clone(),
            });
        }
        if let Some(seen) = min_sequence
            && head.sequence < seen
        {
            return Err(TrustError::Rollback {
                seen,
                got: head.sequence,
            });
        }
        head.lifetime().check(now)?;
        if head.stamped {
            let fresh = stamp.is_some_and(|stamp| {
                stamp.site == head.site
                    && stamp.sequence == head.sequence
                    && stamp.manifest == self.digest()
            });
            if !fresh {
                return Err(TrustError::Stale);
            }
            // The stamp was fresh when it was opened; it may have been kept since.
            stamp.map_or(Ok(()), |stamp| stamp.lifetime().check(now))?;
        }
        Ok(Believed {
            manifest: self.claimed_manifest()?,
            signer,
            head: self.digest(),
        })
    }
}
