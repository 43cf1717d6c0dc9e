//! [`SiteTrust`]: what one reader remembers of one site, so that yesterday cannot be sold as today.
//!
//! A pure state: the driver stores [`SiteTrust::to_bytes`] durably *before* it uses what
//! [`SiteTrust::accept_record`] returned, or a crash in between would forget the highest sequence.

use std::collections::BTreeMap;

use super::error::{FormatError, TrustError};
use super::fields::{Fields as _, decode_dict, field, int};
use super::key::PublicKey;
use super::keyset::{Anchor, KeySet, SignedKeySet};
use super::name::SiteName;
use super::record::SiteRecord;
use super::signed::SignedManifest;
use super::site::SiteManifest;
use super::stamp::SignedStamp;
use crate::bencode::Item;
use crate::id::Digest;
use crate::limits;

/// Memory of one site: its keys, the highest manifest of each publish key, and the latest time
/// that something signed proved to have come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteTrust {
    keys: KeySet,
    /// Only keys that `keys` names: what a dropped key signed no longer counts, so that a thief
    /// cannot block a site by signing the highest number there is.
    highest: BTreeMap<PublicKey, (u64, Digest)>,
    /// Seconds since 1970. A clock that is set back does not bring expired things to life.
    clock_floor: u64,
}

impl SiteTrust {
    /// Begins with keys that hold from `anchor` on.
    ///
    /// # Errors
    /// As [`SignedKeySet::verify`].
    pub fn begin(
        anchor: Anchor<'_>,
        site: &SiteName,
        keys: &SignedKeySet,
        now: u64,
    ) -> Result<Self, TrustError> {
        Ok(Self {
            keys: keys.verify(anchor, site, now)?,
            highest: BTreeMap::new(),
            clock_floor: 0,
        })
    }

    /// The site.
    pub fn site(&self) -> &SiteName {
        &self.keys.site
    }

    /// The keys that are believed now.
    pub fn keys(&self) -> &KeySet {
        &self.keys
    }

    /// The highest sequence seen under keys that are believed now.
    pub fn highest_sequence(&self) -> Option<u64> {
        self.highest.values().map(|(sequence, _)| *sequence).max()
    }

    /// Goes on to newer keys; the same keys again are fine, older ones are not.
    ///
    /// # Errors
    /// As [`SignedKeySet::verify`] with [`Anchor::Known`].
    pub fn accept_keys(&mut self, keys: &SignedKeySet, now: u64) -> Result<(), TrustError> {
        let now = now.max(self.clock_floor);
        let site = self.keys.site.clone();
        self.keys = keys.verify(Anchor::Known(&self.keys), &site, now)?;
        self.highest
            .retain(|key, _| self.keys.publish.contains(key));
        Ok(())
    }

    /// Believes a manifest and remembers its sequence, or names the reason not to and changes
    /// nothing.
    ///
    /// # Errors
    /// [`TrustError`]; on top of what [`SignedManifest::verify`] finds,
    /// [`TrustError::Equivocation`] for a second manifest under the highest sequence.
    pub fn accept_manifest(
        &mut self,
        manifest: &SignedManifest,
        stamp: Option<&SignedStamp>,
        now: u64,
    ) -> Result<SiteManifest, TrustError> {
        let now = now.max(self.clock_floor);
        let stamp = stamp
            .map(|stamp| stamp.verify(&self.keys, now))
            .transpose()?;
        let highest = self
            .highest
            .values()
            .max_by_key(|(sequence, _)| *sequence)
            .copied();
        let seen = highest.map(|(sequence, _)| sequence);
        let believed = manifest.believe(&self.keys, now, seen, stamp.as_ref())?;
        if let Some((sequence, head)) = highest
            && sequence == believed.manifest.sequence
            && head != believed.head
        {
            return Err(TrustError::Equivocation { sequence });
        }
        let made = stamp.map_or(0, |stamp| stamp.issued);
        self.clock_floor = self.clock_floor.max(made).max(believed.manifest.created);
        self.highest
            .insert(believed.signer, (believed.manifest.sequence, believed.head));
        Ok(believed.manifest)
    }

    /// Keys, stamp and manifest of a record at once; a refusal changes nothing.
    ///
    /// # Errors
    /// As [`SiteTrust::accept_keys`] and [`SiteTrust::accept_manifest`].
    pub fn accept_record(
        &mut self,
        record: &SiteRecord,
        now: u64,
    ) -> Result<SiteManifest, TrustError> {
        let mut next = self.clone();
        next.accept_keys(&record.keys, now)?;
        let manifest = next.accept_manifest(&record.manifest, record.stamp.as_ref(), now)?;
        *self = next;
        Ok(manifest)
    }

    /// The state, to be stored where only the reader itself writes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let highest = self.highest.iter().map(|(key, (sequence, head))| {
            // Both came out of bencode integers, which are below 2^63.
            let sequence = int("sequence", *sequence).unwrap_or(Item::int(i64::MAX));
            let entry = Item::dict([("head", Item::bytes(head)), ("sequence", sequence)]);
            (key.as_bytes().to_vec(), entry)
        });
        Item::dict([
            (
                "clock",
                int("clock", self.clock_floor).unwrap_or(Item::int(i64::MAX)),
            ),
            ("highest", Item::dict(highest)),
            ("keys", Item::bytes(self.keys.to_state())),
        ])
        .to_bytes()
    }

    /// Reads a stored state.
    ///
    /// # Errors
    /// [`FormatError`]: the file is not one of ours, or was damaged.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FormatError> {
        let dict = decode_dict("trust state", bytes, limits::TRUST_STATE_LEN_MAX, 1024)?;
        let keys = KeySet::from_state(dict.need_bytes("keys")?)?;
        let mut highest = BTreeMap::new();
        let entries = dict
            .need("highest")?
            .as_dict()
            .ok_or(field("highest", "not a dictionary"))?;
        for (key, value) in entries.iter() {
            let entry = value
                .as_dict()
                .ok_or(field("highest", "not a dictionary"))?;
            highest.insert(
                PublicKey::try_from(key)?,
                (
                    entry.need_u64("sequence")?,
                    Digest::new(entry.need_array("head")?),
                ),
            );
        }
        Ok(Self {
            keys,
            highest,
            clock_floor: dict.need_u64("clock")?,
        })
    }
}
