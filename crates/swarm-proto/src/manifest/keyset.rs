//! [`KeySet`] and the chain of signatures by which one set follows another (spec 0002, 4).

use super::envelope::{Envelope, PayloadType};
use super::error::{FormatError, TrustError};
use super::fields::{Fields as _, check_len, decode_dict, field, int, keys_item};
use super::key::{PublicKey, Role, SecretKey};
use super::name::SiteName;
use crate::bencode::{Item, Rules, Value, decode};
use crate::limits;

/// Which keys speak for a site, and as what.
///
/// Each list is rising, and no key stands in two of them: a key that signs manifests must not be
/// able to name keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySet {
    /// The site the keys are for.
    pub site: SiteName,
    /// From 1, one more at each change.
    pub sequence: u64,
    /// Seconds since 1970; past it no new trust is taken from this set.
    pub expires: u64,
    /// Keys that name keys. At least one.
    pub root: Vec<PublicKey>,
    /// How many of `root` must sign a set of keys. At least one.
    pub threshold: u32,
    /// Keys that sign manifests. At least one.
    pub publish: Vec<PublicKey>,
    /// Keys that sign alarms and freshness stamps.
    pub alarm: Vec<PublicKey>,
}

impl KeySet {
    /// Sorts the lists and checks the set.
    ///
    /// # Errors
    /// [`FormatError`]: a list that is empty or too long, a threshold that cannot be met, a key
    /// with two roles.
    pub fn checked(mut self) -> Result<Self, FormatError> {
        for list in [&mut self.root, &mut self.publish, &mut self.alarm] {
            list.sort_unstable();
            list.dedup();
        }
        self.check()?;
        Ok(self)
    }

    fn check(&self) -> Result<(), FormatError> {
        for (name, list, min) in [
            ("root", &self.root, 1),
            ("publish", &self.publish, 1),
            ("alarm", &self.alarm, 0),
        ] {
            if list.len() < min {
                return Err(field(name, "no key"));
            }
            if list.len() > limits::ROLE_KEYS_MAX {
                return Err(FormatError::TooMany {
                    what: name,
                    max: limits::ROLE_KEYS_MAX,
                });
            }
        }
        if self.sequence == 0 {
            return Err(field("sequence", "below 1"));
        }
        if self.threshold == 0 || self.threshold as usize > self.root.len() {
            return Err(field("threshold", "cannot be met"));
        }
        let shared = |one: &[PublicKey], other: &[PublicKey]| one.iter().any(|k| other.contains(k));
        if shared(&self.root, &self.publish)
            || shared(&self.root, &self.alarm)
            || shared(&self.publish, &self.alarm)
        {
            return Err(field("keys", "a key has two roles"));
        }
        Ok(())
    }

    fn to_payload(&self) -> Result<Vec<u8>, FormatError> {
        self.check()?;
        Ok(Item::dict([
            ("alarm", keys_item(&self.alarm)),
            ("expires", int("expires", self.expires)?),
            ("publish", keys_item(&self.publish)),
            ("root", keys_item(&self.root)),
            ("sequence", int("sequence", self.sequence)?),
            ("site", Item::bytes(self.site.as_str())),
            ("threshold", int("threshold", self.threshold.into())?),
        ])
        .to_bytes())
    }

    fn from_payload(payload: &[u8]) -> Result<Self, FormatError> {
        let dict = decode_dict("keys", payload, limits::ENVELOPE_LEN_MAX, 256)?;
        let set = Self {
            site: dict.need_site()?,
            sequence: dict.need_u64("sequence")?,
            expires: dict.need_u64("expires")?,
            root: dict.need_keys("root")?,
            threshold: dict.need_u32("threshold")?,
            publish: dict.need_keys("publish")?,
            alarm: dict.need_keys("alarm")?,
        };
        set.check()?;
        Ok(set)
    }

    /// The keys of a role.
    pub fn of(&self, role: Role) -> &[PublicKey] {
        match role {
            Role::Root => &self.root,
            Role::Publish => &self.publish,
            Role::Alarm => &self.alarm,
        }
    }

    /// Canonical bencode of the bare set, for a driver's own state; nothing is signed in it.
    pub(super) fn to_state(&self) -> Vec<u8> {
        self.to_payload().unwrap_or_default()
    }

    pub(super) fn from_state(bytes: &[u8]) -> Result<Self, FormatError> {
        Self::from_payload(bytes)
    }
}

/// On what the first believed set of a chain rests.
#[derive(Debug, Clone, Copy)]
pub enum Anchor<'a> {
    /// Root keys learnt before (`--site-key HOST=KEY`): the first set that names them all must be
    /// signed by them all. More than one key keeps a thief of one from a fresh client.
    Pinned(&'a [PublicKey]),
    /// A set that was verified before: the chain must contain it, or go on from it.
    Known(&'a KeySet),
    /// Whoever gave us the bytes vouches for them. Only for bytes read over TLS from the site
    /// itself, or from the operator's own disk.
    Introduced,
}

/// A chain of key sets, oldest first; each is signed by enough roots of its predecessor and of its
/// own. This is what `/.well-known/swarm/keys` serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedKeySet {
    /// Oldest first; with `newest` rising by one in sequence.
    older: Vec<Link>,
    newest: Link,
}

type Link = (KeySet, Envelope);

impl SignedKeySet {
    /// The first set of a site, signed by enough of its own roots.
    ///
    /// # Errors
    /// [`TrustError::Malformed`] for a set that is none, or what is wrong with the signatures.
    pub fn first(set: &KeySet, signers: &[&SecretKey]) -> Result<Self, TrustError> {
        let envelope = Envelope::sign(PayloadType::Keys, set.to_payload()?, signers);
        signed_by_roots(&envelope, set)?;
        Ok(Self {
            older: Vec::new(),
            newest: (set.clone(), envelope),
        })
    }

    /// This chain with one more set. `signers` are roots of the newest set and of the next one.
    ///
    /// # Errors
    /// [`TrustError`]: the set does not follow, signatures are too few, or the chain is full.
    pub fn rolled(&self, next: &KeySet, signers: &[&SecretKey]) -> Result<Self, TrustError> {
        if self.links().count() >= limits::KEY_CHAIN_MAX {
            return Err(FormatError::TooMany {
                what: "key sets in the chain",
                max: limits::KEY_CHAIN_MAX,
            }
            .into());
        }
        let envelope = Envelope::sign(PayloadType::Keys, next.to_payload()?, signers);
        follows(self.newest_claimed(), next, &envelope)?;
        Ok(Self {
            older: self.links().cloned().collect(),
            newest: (next.clone(), envelope),
        })
    }

    fn links(&self) -> impl Iterator<Item = &Link> {
        self.older.iter().chain(std::iter::once(&self.newest))
    }

    /// Reads a chain. Nothing is verified yet but that sequences rise by one.
    ///
    /// # Errors
    /// [`TrustError::Malformed`], [`TrustError::WrongType`] or [`TrustError::BrokenChain`].
    pub fn parse(bytes: &[u8]) -> Result<Self, TrustError> {
        check_len("chain of keys", bytes.len(), limits::KEY_CHAIN_LEN_MAX)?;
        let rules = Rules {
            tokens_max: limits::KEY_CHAIN_MAX + 2,
            ..Rules::SIGNED
        };
        let value = decode(bytes, &rules).map_err(FormatError::from)?;
        let Value::List(values) = value else {
            return Err(field("keys", "not a list").into());
        };
        if values.len() > limits::KEY_CHAIN_MAX {
            return Err(FormatError::TooMany {
                what: "key sets in the chain",
                max: limits::KEY_CHAIN_MAX,
            }
            .into());
        }
        let mut older: Vec<Link> = Vec::with_capacity(values.len());
        for value in values {
            let bytes = value.as_bytes().ok_or(field("keys", "not a string"))?;
            let envelope = Envelope::parse(PayloadType::Keys, bytes)?;
            let set = KeySet::from_payload(envelope.payload())?;
            if let Some((last, _)) = older.last()
                && last.sequence.checked_add(1) != Some(set.sequence)
            {
                return Err(TrustError::BrokenChain {
                    sequence: set.sequence,
                });
            }
            older.push((set, envelope));
        }
        let newest = older.pop().ok_or(field("keys", "an empty chain"))?;
        Ok(Self { older, newest })
    }

    /// Canonical bencode: a list of envelopes.
    pub fn to_bytes(&self) -> Vec<u8> {
        Item::list(
            self.links()
                .map(|(_, envelope)| Item::bytes(envelope.to_bytes())),
        )
        .to_bytes()
    }

    /// Follows the chain from its anchor to its newest set, which must be for `site` and not have
    /// expired at `now` (seconds since 1970).
    ///
    /// # Errors
    /// [`TrustError::NotAnchored`], [`TrustError::BrokenChain`], [`TrustError::Rollback`] against
    /// a known set, [`TrustError::WrongSite`], [`TrustError::Expired`], and what is wrong with a
    /// signature.
    pub fn verify(
        &self,
        anchor: Anchor<'_>,
        site: &SiteName,
        now: u64,
    ) -> Result<KeySet, TrustError> {
        if let Some((set, _)) = self.links().find(|(set, _)| set.site != *site) {
            return Err(TrustError::WrongSite {
                expected: site.clone(),
                got: set.site.clone(),
            });
        }
        let mut rest = self.links();
        let mut believed = match anchor {
            Anchor::Introduced => {
                let (set, envelope) = rest.next().ok_or(TrustError::NotAnchored)?;
                signed_by_roots(envelope, set)?;
                set
            }
            Anchor::Pinned(pins) => {
                let (set, envelope) = rest
                    .find(|(set, _)| {
                        !pins.is_empty() && pins.iter().all(|pin| set.root.contains(pin))
                    })
                    .ok_or(TrustError::NotAnchored)?;
                envelope.verify(Role::Root, pins, pins.len())?;
                signed_by_roots(envelope, set)?;
                set
            }
            Anchor::Known(known) => self.skip_to(known, &mut rest)?,
        };
        for (set, envelope) in rest {
            follows(believed, set, envelope)?;
            believed = set;
        }
        if believed.expires <= now {
            return Err(TrustError::Expired {
                what: "keys",
                expires: believed.expires,
                now,
            });
        }
        Ok(believed.clone())
    }

    /// Leaves `rest` after the set that is known, or at the start when the chain goes on from it.
    fn skip_to<'s, 'k>(
        &'s self,
        known: &'k KeySet,
        rest: &mut impl Iterator<Item = &'s Link>,
    ) -> Result<&'k KeySet, TrustError> {
        let newest = self.newest_claimed();
        if newest.sequence < known.sequence {
            return Err(TrustError::Rollback {
                seen: known.sequence,
                got: newest.sequence,
            });
        }
        let starts_after = self
            .links()
            .next()
            .is_some_and(|(first, _)| known.sequence.checked_add(1) == Some(first.sequence));
        if starts_after {
            return Ok(known);
        }
        match rest.find(|(set, _)| set.sequence == known.sequence) {
            Some((set, _)) if set == known => Ok(known),
            _ => Err(TrustError::BrokenChain {
                sequence: known.sequence,
            }),
        }
    }

    /// The newest set as the chain claims it; nothing is verified.
    pub fn newest_claimed(&self) -> &KeySet {
        &self.newest.0
    }

    /// Each set as the chain claims it, oldest first; nothing is verified.
    pub fn claimed(&self) -> impl Iterator<Item = &KeySet> {
        self.links().map(|(set, _)| set)
    }
}

fn signed_by_roots(envelope: &Envelope, set: &KeySet) -> Result<(), TrustError> {
    envelope
        .verify(Role::Root, &set.root, set.threshold as usize)
        .map(drop)
}

/// TUF's rule for a new root: signed by enough of the old roots and enough of the new ones.
fn follows(old: &KeySet, next: &KeySet, envelope: &Envelope) -> Result<(), TrustError> {
    if old.sequence.checked_add(1) != Some(next.sequence) || old.site != next.site {
        return Err(TrustError::BrokenChain {
            sequence: next.sequence,
        });
    }
    envelope.verify(Role::Root, &old.root, old.threshold as usize)?;
    signed_by_roots(envelope, next)
}
