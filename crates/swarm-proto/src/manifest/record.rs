//! [`SiteRecord`]: all that a stranger needs to believe a site, in one file (spec 0002, 8).

use super::error::TrustError;
use super::fields::{Fields as _, decode_dict};
use super::key::PublicKey;
use super::keyset::{Anchor, KeySet, SignedKeySet};
use super::name::SiteName;
use super::signed::SignedManifest;
use super::site::SiteManifest;
use super::stamp::SignedStamp;
use crate::bencode::Item;
use crate::limits;

/// Keys, manifest and stamp of a site: what `/.well-known/swarm/manifest` serves and
/// `PUT <tracker>/swarm/site` registers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteRecord {
    /// The chain of keys.
    pub keys: SignedKeySet,
    /// The manifest.
    pub manifest: SignedManifest,
    /// The stamp, which a manifest that says `stamped` needs.
    pub stamp: Option<SignedStamp>,
}

impl SiteRecord {
    /// Reads a record. Nothing is verified, and the manifest's body is not looked into.
    ///
    /// # Errors
    /// [`TrustError::Malformed`], [`TrustError::WrongType`] or [`TrustError::BrokenChain`].
    pub fn parse(bytes: &[u8]) -> Result<Self, TrustError> {
        let dict = decode_dict("site record", bytes, limits::SITE_RECORD_LEN_MAX, 16)?;
        let stamp = match dict.get(b"stamp") {
            None => None,
            Some(_) => Some(SignedStamp::parse(dict.need_bytes("stamp")?)?),
        };
        Ok(Self {
            keys: SignedKeySet::parse(dict.need_bytes("keys")?)?,
            manifest: SignedManifest::parse(dict.need_bytes("manifest")?)?,
            stamp,
        })
    }

    /// Canonical bencode.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut entries = vec![
            ("keys", Item::bytes(self.keys.to_bytes())),
            ("manifest", Item::bytes(self.manifest.to_bytes())),
        ];
        if let Some(stamp) = &self.stamp {
            entries.push(("stamp", Item::bytes(stamp.to_bytes())));
        }
        Item::dict(entries).to_bytes()
    }

    /// The site the record claims to be of; nothing is verified.
    pub fn claimed_site(&self) -> &SiteName {
        &self.manifest.claimed().site
    }

    /// Believes the record of `site` on the strength of a pinned root key, without any memory of
    /// earlier ones. Who has such a memory uses [`SiteTrust`](super::SiteTrust), which also
    /// catches rollback. `now` is seconds since 1970.
    ///
    /// # Errors
    /// [`TrustError`]: the first refusal met.
    pub fn open(
        &self,
        root: &PublicKey,
        site: &SiteName,
        now: u64,
    ) -> Result<(KeySet, SiteManifest), TrustError> {
        self.open_from(Anchor::Pinned(std::slice::from_ref(root)), site, now)
    }

    /// As [`SiteRecord::open`], on the strength of any anchor.
    ///
    /// # Errors
    /// [`TrustError`]: the first refusal met.
    pub fn open_from(
        &self,
        anchor: Anchor<'_>,
        site: &SiteName,
        now: u64,
    ) -> Result<(KeySet, SiteManifest), TrustError> {
        let keys = self.keys.verify(anchor, site, now)?;
        let stamp = self
            .stamp
            .as_ref()
            .map(|stamp| stamp.verify(&keys, now))
            .transpose()?;
        let manifest = self.manifest.verify(&keys, now, None, stamp.as_ref())?;
        Ok((keys, manifest))
    }
}
