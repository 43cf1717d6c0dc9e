//! The sites this tracker knows: their pinned roots, records and alarms.
//!
//! Signatures are checked by [`check_record`] and [`check_alarm`], which need no registry, so that
//! a driver can do it without holding a lock; what comes out of them is then installed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use swarm_proto::id::{Digest, SwarmId};
use swarm_proto::manifest::{
    Alarm, Anchor, INDEX_PAGES, KeySet, Lookup, PublicKey, SignedAlarm, SiteManifest, SiteName,
    SitePath, SiteRecord, SiteTrust, TrustError,
};

use super::Moment;
use super::audit::Shown;
use super::bundles::Pair;

/// Older manifests of one site whose bundles are still served for a while.
const RETIRED_MAX: usize = 16;

/// A site record that was found good.
#[derive(Debug, Clone)]
pub struct CheckedRecord {
    /// The root it was checked against.
    pub root: PublicKey,
    /// What is to be remembered of the site from now on; store it before installing the record.
    pub trust: SiteTrust,
    /// The manifest inside.
    pub manifest: Arc<SiteManifest>,
    /// The record as it came.
    pub bytes: Bytes,
}

/// Checks a record against the root key and what is remembered of the site (T33 to T38).
///
/// # Errors
/// [`TrustError`], the first refusal met; nothing is to be remembered then.
pub fn check_record(
    root: PublicKey,
    site: &SiteName,
    trust: Option<&SiteTrust>,
    bytes: Bytes,
    unix: u64,
) -> Result<CheckedRecord, TrustError> {
    let record = SiteRecord::parse(&bytes)?;
    // What is remembered lets parts of the chain go unread, but others will read the record from
    // us knowing only the root: it must convince them too.
    record.open(&root, site, unix)?;
    let mut trust = match trust {
        Some(trust) => trust.clone(),
        None => SiteTrust::begin(Anchor::Pinned(&[root]), site, &record.keys, unix)?,
    };
    let manifest = Arc::new(trust.accept_record(&record, unix)?);
    Ok(CheckedRecord {
        root,
        trust,
        manifest,
        bytes,
    })
}

/// An alarm that was found good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedAlarm {
    /// What it says.
    pub alarm: Alarm,
    /// Whether it ends the alarm: its `until` has come.
    pub lowers: bool,
    /// The alarm as it came.
    pub bytes: Bytes,
}

/// Checks an alarm against the site's alarm keys. One whose `until` has come is good too: a site
/// says with it that the spike is over (spec 0006, 2).
///
/// # Errors
/// [`TrustError`], the first refusal met.
pub fn check_alarm(bytes: Bytes, keys: &KeySet, unix: u64) -> Result<CheckedAlarm, TrustError> {
    let signed = SignedAlarm::parse(&bytes)?;
    let (alarm, lowers) = match signed.verify(keys, unix) {
        Ok(alarm) => (alarm, false),
        // `verify` looks at the time last: signature and site are good.
        Err(TrustError::Expired { .. }) => (signed.claimed().clone(), true),
        Err(error) => return Err(error),
    };
    Ok(CheckedAlarm {
        alarm,
        lowers,
        bytes,
    })
}

/// An older alarm than the newest known: a replay, or two gates with clocks apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("alarm issued at {got} is older than the one of {seen}")]
pub struct AlarmSuperseded {
    /// `issued` of the newest known, Unix seconds.
    pub seen: u64,
    /// `issued` of this one.
    pub got: u64,
}

/// One site.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) root: PublicKey,
    pub(super) trust: Option<SiteTrust>,
    pub(super) record: Option<Record>,
    /// The newest alarm ever seen, standing or not.
    alarm: Option<KnownAlarm>,
    /// Manifests before this one.
    retired: Vec<Retired>,
    /// Visitors sent to bridges, since the start.
    pub(super) sent: u64,
}

/// A manifest that was replaced.
#[derive(Debug)]
struct Retired {
    /// Until when its bundles are served.
    until: Duration,
    pairs: Vec<Pair>,
    /// What it said and its successor did not, as [`saying`]s, rising.
    said: Vec<[u8; 16]>,
}

/// Stands for what a manifest says of one path. 16 bytes, for a manifest may have 100,000.
fn saying(path: &SitePath, shown: &Shown) -> [u8; 16] {
    let said = [
        path.as_str().as_bytes(),
        b"\0",
        shown.media_type.as_bytes(),
        b"\0",
        shown.digest.as_bytes(),
    ];
    let digest = Digest::of(&said.concat());
    let mut front = [0; 16];
    front.copy_from_slice(&digest.as_bytes()[..16]);
    front
}

/// What `old` says and `new` does not.
fn unsaid(old: &SiteManifest, new: &SiteManifest) -> Vec<[u8; 16]> {
    let mut newer = new.files.iter().peekable();
    let mut said = Vec::new();
    for (path, file) in &old.files {
        while newer.next_if(|(other, _)| *other < path).is_some() {}
        let same = newer.peek().is_some_and(|(other, newer)| {
            let same = newer.digest == file.digest && newer.media_type == file.media_type;
            *other == path && same
        });
        if !same {
            said.push(saying(path, &Shown::of(file)));
        }
    }
    said.sort_unstable();
    said
}

/// The record in force.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) bytes: Bytes,
    pub(super) manifest: Arc<SiteManifest>,
    pub(super) pairs: Vec<Pair>,
}

#[derive(Debug)]
struct KnownAlarm {
    alarm: Alarm,
    bytes: Bytes,
    /// `None` once it is over.
    standing_until: Option<Duration>,
}

impl Site {
    pub(super) fn new(root: PublicKey) -> Self {
        Self {
            root,
            trust: None,
            record: None,
            alarm: None,
            retired: Vec::new(),
            sent: 0,
        }
    }

    /// Until when the alarm that stands was signed, seconds since 1970.
    pub(super) fn in_need_until(&self) -> Option<u64> {
        let known = self.alarm.as_ref()?;
        known.standing_until.map(|_| known.alarm.until)
    }

    /// The alarm that stands, as it was signed.
    pub(super) fn standing_alarm(&self) -> Option<&Bytes> {
        let known = self.alarm.as_ref()?;
        known.standing_until.is_some().then_some(&known.bytes)
    }

    /// The newest alarm ever seen, as it was signed.
    pub(super) fn newest_alarm(&self) -> Option<&Bytes> {
        self.alarm.as_ref().map(|known| &known.bytes)
    }

    /// Whether the site has said that its spike is over, or let its alarm lapse: its visitors
    /// are to come home. A site that never raised one has said nothing of the kind.
    pub(super) fn is_calm_again(&self) -> bool {
        self.alarm
            .as_ref()
            .is_some_and(|known| known.standing_until.is_none())
    }

    /// The URL the site gave for itself in its newest alarm.
    pub(super) fn home(&self) -> Option<&str> {
        self.alarm.as_ref().map(|known| known.alarm.home.as_str())
    }

    /// Takes an alarm; returns whether the list of sites in need changes.
    pub(super) fn take_alarm(
        &mut self,
        now: Moment,
        checked: CheckedAlarm,
    ) -> Result<bool, AlarmSuperseded> {
        let new = &checked.alarm;
        if let Some(known) = &self.alarm {
            let seen = &known.alarm;
            let same = known.bytes == checked.bytes;
            let newer =
                new.issued > seen.issued || new.issued == seen.issued && new.until < seen.until;
            if !same && !newer {
                return Err(AlarmSuperseded {
                    seen: seen.issued,
                    got: new.issued,
                });
            }
            if same {
                return Ok(false);
            }
        }
        let stood = self.standing_alarm().is_some();
        let standing_until = (!checked.lowers).then(|| now.deadline(new.until));
        self.alarm = Some(KnownAlarm {
            alarm: checked.alarm,
            bytes: checked.bytes,
            standing_until,
        });
        Ok(stood || standing_until.is_some())
    }

    /// Ends an alarm whose time has come; returns whether it did.
    pub(super) fn expire_alarm(&mut self, now: Moment) -> bool {
        match &mut self.alarm {
            Some(known) if known.standing_until.is_some_and(|end| end <= now.elapsed) => {
                known.standing_until = None;
                true
            }
            _ => false,
        }
    }

    /// Puts a record in force; returns bundles to be released at once.
    pub(super) fn install(
        &mut self,
        checked: CheckedRecord,
        pairs: Vec<Pair>,
        retire_at: Duration,
    ) -> Vec<Pair> {
        self.root = checked.root;
        self.trust = Some(checked.trust);
        let record = Record {
            bytes: checked.bytes,
            manifest: checked.manifest,
            pairs,
        };
        let Some(old) = self.record.replace(record) else {
            return Vec::new();
        };
        let new = self.record.as_ref().map(|record| &record.manifest);
        let said = new.map_or_else(Vec::new, |new| unsaid(&old.manifest, new));
        self.retired.push(Retired {
            until: retire_at,
            pairs: old.pairs,
            said,
        });
        if self.retired.len() > RETIRED_MAX {
            self.retired.remove(0).pairs
        } else {
            Vec::new()
        }
    }

    /// Whether the manifest, or one that was replaced of late, says that this is what a visitor
    /// of `path` is shown. A bridge may be behind, or ahead of what we knew then.
    pub(super) fn vouches_for(&self, path: &SitePath, shown: &Shown) -> bool {
        let now = self.record.as_ref().map(|record| &record.manifest);
        let now = now.is_some_and(|manifest| match manifest.lookup(path) {
            Lookup::File(_, file) => Shown::of(file) == *shown,
            _ => false,
        });
        let pages: Vec<SitePath> = match path.is_folder() {
            true => INDEX_PAGES
                .iter()
                .filter_map(|page| SitePath::from_decoded(&format!("{path}{page}")).ok())
                .collect(),
            false => vec![path.clone()],
        };
        now || pages.iter().any(|page| {
            let saying = saying(page, shown);
            let said = |retired: &Retired| retired.said.binary_search(&saying).is_ok();
            self.retired.iter().any(said)
        })
    }

    /// Whether visitors may be sent to bridges now.
    pub(super) fn lends_visitors(&self, now: Moment) -> bool {
        let record = self.record.as_ref();
        !self.is_calm_again() && record.is_some_and(|r| r.manifest.expires > now.unix)
    }

    /// Those of the bundles in `held` that are in its manifest.
    pub(super) fn bundles_among(&self, held: &[SwarmId]) -> Vec<SwarmId> {
        let pairs = self.record.iter().flat_map(|record| &record.pairs);
        pairs
            .map(|pair| pair.id)
            .filter(|id| held.contains(id))
            .collect()
    }

    /// The bundles of older manifests whose time has come.
    pub(super) fn take_retired(&mut self, now: Duration) -> Vec<Pair> {
        let mut over = Vec::new();
        self.retired.retain_mut(|retired| {
            let keep = retired.until > now;
            if !keep {
                over.append(&mut retired.pairs);
            }
            keep
        });
        over
    }

    /// All bundles it has claimed.
    pub(super) fn into_pairs(self) -> Vec<Pair> {
        let mut pairs: Vec<Pair> = self.record.map_or_else(Vec::new, |record| record.pairs);
        pairs.extend(self.retired.into_iter().flat_map(|retired| retired.pairs));
        pairs
    }
}

/// All sites, by name.
pub(super) type Sites = BTreeMap<SiteName, Site>;
