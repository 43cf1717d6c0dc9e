//! The folder of a site's keys.
//!
//! ```text
//! root.key, publish.key, alarm.key   seed of each secret key, 64 hexadecimal digits, mode 0600
//! keys                               the signed chain of public keys; may be shown to everybody
//! sequence                           number of the last manifest signed, decimal
//! ```
//!
//! `root.key` is only needed to make or change the chain and may be kept elsewhere afterwards.
//! Removing `publish.key` or `alarm.key` while `root.key` is there rolls that key: a new one is made
//! and named by a new set in the chain.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use swarm_proto::limits;
use swarm_proto::manifest::{
    Anchor, KeySet, PublicKey, Role, SecretKey, SignedKeySet, SiteName, TrustError,
};

use super::error::PublishError;
use super::files::{read_limited, write_atomically};
use crate::store::durable::sync_name_of;

/// How long a set of keys holds, seconds.
const KEYS_LIFETIME_SECS: u64 = 365 * 86_400;

/// When so little of it is left, publishing renews it, as long as the root key is there.
const KEYS_RENEWAL_SECS: u64 = 90 * 86_400;

/// A site's keys, as far as they are on this machine.
#[derive(Debug)]
pub struct KeyStore {
    folder: PathBuf,
    publish: SecretKey,
    alarm: Option<SecretKey>,
    chain: SignedKeySet,
    keys: KeySet,
}

impl KeyStore {
    /// Where keys lie unless told otherwise: `$XDG_STATE_HOME/swarm-peer/keys/<label>`, with
    /// `~/.local/state` for a missing `XDG_STATE_HOME`. `None` without a home.
    pub fn default_folder(site: &SiteName) -> Option<PathBuf> {
        let state = std::env::var_os("XDG_STATE_HOME")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
            .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/state")))?;
        Some(state.join("swarm-peer/keys").join(site.label()))
    }

    /// Opens the keys in `folder`, and makes whatever is missing and can be made. `now` is seconds
    /// since 1970.
    ///
    /// # Errors
    /// [`PublishError::OtherSite`], [`PublishError::Damaged`], [`PublishError::NoRootKey`], or a
    /// file that cannot be read or written.
    pub fn open(folder: &Path, site: &SiteName, now: u64) -> Result<Self, PublishError> {
        make_private(folder).map_err(PublishError::write(folder))?;
        let chain_path = folder.join("keys");
        if !chain_path.exists() {
            return Self::begin(folder, site, now);
        }
        let bytes = read_limited(&chain_path, limits::KEY_CHAIN_LEN_MAX)?;
        let chain = SignedKeySet::parse(&bytes)
            .map_err(|error| PublishError::damaged(&chain_path, error))?;
        if chain.newest_claimed().site != *site {
            return Err(PublishError::OtherSite {
                path: folder.to_owned(),
                found: chain.newest_claimed().site.to_string(),
                wanted: site.to_string(),
            });
        }
        // Whether it has expired is judged below, where it can still be renewed.
        let keys = chain
            .verify(Anchor::Introduced, site, 0)
            .map_err(|error| PublishError::damaged(&chain_path, error))?;
        let publish = read_key(folder, Role::Publish)?;
        let alarm = read_key(folder, Role::Alarm)?;
        let root_is_here = key_path(folder, Role::Root).exists();
        let named = |key: &SecretKey, role| keys.of(role).contains(&key.public());
        // Without the root here, an alarm key that only the gate holds is nobody's mistake.
        let alarm_is_right = alarm
            .as_ref()
            .map_or(!root_is_here, |key| named(key, Role::Alarm));
        let margin = if root_is_here { KEYS_RENEWAL_SECS } else { 0 };
        let fresh = keys.expires > now.saturating_add(margin);
        match publish {
            Some(publish) if named(&publish, Role::Publish) && alarm_is_right && fresh => {
                Ok(Self {
                    folder: folder.to_owned(),
                    publish,
                    alarm,
                    chain,
                    keys,
                })
            }
            _ => Self::roll(folder, &chain, now),
        }
    }

    fn begin(folder: &Path, site: &SiteName, now: u64) -> Result<Self, PublishError> {
        let root = read_or_make_key(folder, Role::Root)?;
        let publish = read_or_make_key(folder, Role::Publish)?;
        let alarm = read_or_make_key(folder, Role::Alarm)?;
        // Keys that others are about to trust: their folder is to stay, too.
        sync_name_of(folder).map_err(PublishError::write(folder))?;
        let keys = KeySet {
            site: site.clone(),
            sequence: 1,
            expires: now.saturating_add(KEYS_LIFETIME_SECS),
            root: vec![root.public()],
            threshold: 1,
            publish: vec![publish.public()],
            alarm: vec![alarm.public()],
        }
        .checked()?;
        let chain = SignedKeySet::first(&keys, &[&root])?;
        write_atomically(&folder.join("keys"), &chain.to_bytes(), 0o644)?;
        Ok(Self {
            folder: folder.to_owned(),
            publish,
            alarm: Some(alarm),
            chain,
            keys,
        })
    }

    /// One more set in the chain: the same roots, the keys that are here, another year.
    fn roll(folder: &Path, chain: &SignedKeySet, now: u64) -> Result<Self, PublishError> {
        let old = chain.newest_claimed();
        let root = read_key(folder, Role::Root)?.ok_or_else(|| PublishError::NoRootKey {
            path: key_path(folder, Role::Root),
            why: "the set of keys has to be renewed or changed",
        })?;
        let publish = read_or_make_key(folder, Role::Publish)?;
        let alarm = read_or_make_key(folder, Role::Alarm)?;
        let keys = KeySet {
            site: old.site.clone(),
            sequence: old.sequence.saturating_add(1),
            expires: now.saturating_add(KEYS_LIFETIME_SECS),
            root: old.root.clone(),
            threshold: old.threshold,
            publish: vec![publish.public()],
            alarm: vec![alarm.public()],
        }
        .checked()?;
        let chain = chain.rolled(&keys, &[&root]).map_err(|error| match error {
            TrustError::UnknownKey { .. } | TrustError::TooFewSignatures { .. } => {
                PublishError::NoRootKey {
                    path: key_path(folder, Role::Root),
                    why: "the one that is there does not suffice to change the set of keys",
                }
            }
            other => other.into(),
        })?;
        write_atomically(&folder.join("keys"), &chain.to_bytes(), 0o644)?;
        tracing::info!(sequence = keys.sequence, "rolled the site's keys");
        Ok(Self {
            folder: folder.to_owned(),
            publish,
            alarm: Some(alarm),
            chain,
            keys,
        })
    }

    /// Signs manifests.
    pub fn publish_key(&self) -> &SecretKey {
        &self.publish
    }

    /// Signs alarms and stamps, if it is on this machine.
    pub fn alarm_key(&self) -> Option<&SecretKey> {
        self.alarm.as_ref()
    }

    /// The chain to be shown to everybody.
    pub fn chain(&self) -> &SignedKeySet {
        &self.chain
    }

    /// The newest set of the chain.
    pub fn keys(&self) -> &KeySet {
        &self.keys
    }

    /// The root key that others pin: the first, where there are several.
    pub fn root(&self) -> Option<&PublicKey> {
        self.keys.root.first()
    }

    /// The sequence of the last manifest, 0 before the first.
    pub fn last_sequence(&self) -> Result<u64, PublishError> {
        let path = self.folder.join("sequence");
        if !path.exists() {
            return Ok(0);
        }
        let bytes = read_limited(&path, 32)?;
        std::str::from_utf8(&bytes)
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .ok_or_else(|| PublishError::damaged(&path, "not a number"))
    }

    /// Remembers a sequence, durably. To be called before anything is signed with it.
    pub fn remember_sequence(&self, sequence: u64) -> Result<(), PublishError> {
        let path = self.folder.join("sequence");
        write_atomically(&path, format!("{sequence}\n").as_bytes(), 0o644)
    }
}

fn key_path(folder: &Path, role: Role) -> PathBuf {
    folder.join(format!("{role}.key"))
}

fn make_private(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

fn read_key(folder: &Path, role: Role) -> Result<Option<SecretKey>, PublishError> {
    let path = key_path(folder, role);
    let metadata = match fs::metadata(&path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(PublishError::read(&path)(error)),
    };
    #[cfg(unix)]
    if std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o077 != 0 {
        tracing::warn!(path = %path.display(), "others can read this secret key");
    }
    #[cfg(not(unix))]
    let _ = metadata;
    let text = read_limited(&path, 256)?;
    HEXLOWER_PERMISSIVE
        .decode(text.trim_ascii())
        .ok()
        .and_then(|seed| <[u8; 32]>::try_from(seed).ok())
        .map(|seed| Some(SecretKey::new(seed)))
        .ok_or_else(|| PublishError::damaged(&path, "not 64 hexadecimal digits"))
}

fn read_or_make_key(folder: &Path, role: Role) -> Result<SecretKey, PublishError> {
    if let Some(key) = read_key(folder, role)? {
        return Ok(key);
    }
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|_| PublishError::Random)?;
    let text = format!("{}\n", HEXLOWER.encode(&seed));
    write_atomically(&key_path(folder, role), text.as_bytes(), 0o600)?;
    Ok(SecretKey::new(seed))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn site() -> SiteName {
        SiteName::parse("example.org").unwrap()
    }

    #[test]
    fn keys_are_made_once_and_stay() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("keys/example-org");
        let first = KeyStore::open(&folder, &site(), NOW).unwrap();
        let again = KeyStore::open(&folder, &site(), NOW + 1).unwrap();
        assert_eq!(first.keys(), again.keys());
        assert_eq!(first.publish_key().seed(), again.publish_key().seed());
        assert_eq!(again.last_sequence().unwrap(), 0);
        again.remember_sequence(7).unwrap();
        assert_eq!(again.last_sequence().unwrap(), 7);
        let other = SiteName::parse("example.net").unwrap();
        let refused = KeyStore::open(&folder, &other, NOW);
        assert!(matches!(refused, Err(PublishError::OtherSite { .. })));
    }

    /// 258 keys of 256 bits: the bounds are eight standard deviations wide.
    #[test]
    fn t60_fresh_keys_differ_and_their_bits_are_balanced() {
        let parent = tempfile::tempdir().unwrap();
        let mut seeds = Vec::new();
        for n in 0..86 {
            let folder = parent.path().join(n.to_string());
            KeyStore::open(&folder, &site(), NOW).unwrap();
            for role in [Role::Root, Role::Publish, Role::Alarm] {
                seeds.push(read_key(&folder, role).unwrap().unwrap().seed());
            }
        }
        let different: std::collections::BTreeSet<_> = seeds.iter().collect();
        assert_eq!(different.len(), 258);
        let ones: u32 = seeds.iter().flatten().map(|byte| byte.count_ones()).sum();
        assert!(
            ones.abs_diff(258 * 128) < 1028,
            "{ones} of {} bits",
            258 * 256
        );
        for bit in 0..256 {
            let set = |seed: &&[u8; 32]| seed[bit / 8] >> (bit % 8) & 1 == 1;
            let ones = seeds.iter().filter(set).count();
            assert!(ones.abs_diff(129) < 65, "bit {bit}: {ones} of 258");
        }
    }

    #[cfg(unix)]
    #[test]
    fn secret_keys_are_for_their_owner_only() {
        use std::os::unix::fs::PermissionsExt as _;
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("keys");
        KeyStore::open(&folder, &site(), NOW).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder), 0o700);
        for role in [Role::Root, Role::Publish, Role::Alarm] {
            assert_eq!(mode(&key_path(&folder, role)), 0o600);
        }
    }

    #[test]
    fn a_removed_publish_key_is_rolled_by_the_root() {
        let folder = tempfile::tempdir().unwrap();
        let first = KeyStore::open(folder.path(), &site(), NOW).unwrap();
        fs::remove_file(key_path(folder.path(), Role::Publish)).unwrap();
        let rolled = KeyStore::open(folder.path(), &site(), NOW).unwrap();
        assert_eq!(rolled.keys().sequence, 2);
        assert_ne!(rolled.keys().publish, first.keys().publish);
        assert_eq!(rolled.keys().alarm, first.keys().alarm);
        let known = rolled
            .chain()
            .verify(Anchor::Known(first.keys()), &site(), NOW)
            .unwrap();
        assert_eq!(known, *rolled.keys());
    }

    #[test]
    fn without_the_root_keys_are_used_until_they_expire() {
        let folder = tempfile::tempdir().unwrap();
        let first = KeyStore::open(folder.path(), &site(), NOW).unwrap();
        let late = first.keys().expires - 86_400;
        let root = key_path(folder.path(), Role::Root);
        let kept = fs::read(&root).unwrap();
        fs::remove_file(&root).unwrap();
        assert_eq!(
            KeyStore::open(folder.path(), &site(), late).unwrap().keys(),
            first.keys()
        );
        let expired = KeyStore::open(folder.path(), &site(), late + 86_400);
        assert!(matches!(expired, Err(PublishError::NoRootKey { .. })));
        fs::write(&root, kept).unwrap();
        let renewed = KeyStore::open(folder.path(), &site(), late).unwrap();
        assert_eq!(renewed.keys().sequence, 2);
        assert_eq!(renewed.keys().publish, first.keys().publish);
    }

    #[test]
    fn damaged_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        KeyStore::open(folder.path(), &site(), NOW).unwrap();
        for name in ["publish.key", "keys"] {
            let path = folder.path().join(name);
            let kept = fs::read(&path).unwrap();
            fs::write(&path, b"rubbish").unwrap();
            let refused = KeyStore::open(folder.path(), &site(), NOW);
            assert!(
                matches!(&refused, Err(PublishError::Damaged { path: named, .. }) if *named == path),
                "{refused:?}"
            );
            fs::write(&path, kept).unwrap();
        }
    }
}
