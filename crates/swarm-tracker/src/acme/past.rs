//! What was asked of the authority, so that a tracker that is started again and again does not ask
//! more than one that runs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::CertificateName;

/// What the limits of Let's Encrypt are counted over.
pub(super) const WEEK: u64 = 7 * 86_400;

/// Names that are remembered at most: those that are wanted, and some that were.
const RECORDS_MAX: usize = 5000;

/// All names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Past(pub(super) BTreeMap<CertificateName, Record>);

/// One name. Times are seconds since 1970.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Record {
    /// When it was last asked for.
    pub(super) tried: u64,
    /// How often in a row in vain.
    pub(super) failures: u32,
    /// When there was a first certificate for it.
    pub(super) first: u64,
    /// When there was one, in the last week.
    pub(super) issued: Vec<u64>,
}

impl Past {
    pub(super) fn of(&self, name: &CertificateName) -> Option<&Record> {
        self.0.get(name)
    }

    pub(super) fn record(&mut self, name: &CertificateName) -> &mut Record {
        self.0.entry(name.clone()).or_default()
    }

    /// How often a name was given a certificate in the week before `now`.
    pub(super) fn issued(&self, name: &CertificateName, now: u64) -> usize {
        let issued = self.of(name).map_or(&[][..], |record| &record.issued);
        issued.iter().filter(|at| is_within(**at, now)).count()
    }

    /// How many names of a registered domain were given their first certificate in that week.
    pub(super) fn first_of(&self, domain: &str, now: u64) -> usize {
        let of_domain = self.0.iter().filter(|(name, _)| registered(name) == domain);
        of_domain
            .filter(|(_, record)| is_within(record.first, now))
            .count()
    }

    /// Forgets what counts no longer.
    pub(super) fn forget(&mut self, now: u64, wanted: impl Fn(&CertificateName) -> bool) {
        self.0.retain(|name, record| {
            record.issued.retain(|at| is_within(*at, now));
            wanted(name) || is_within(record.tried, now)
        });
        while self.0.len() > RECORDS_MAX {
            let unwanted = self.0.iter().filter(|(name, _)| !wanted(name));
            let oldest = unwanted.min_by_key(|(_, record)| record.tried);
            let Some(oldest) = oldest.map(|(name, _)| name.clone()) else {
                return;
            };
            self.0.remove(&oldest);
        }
    }
}

/// What lies ahead was written by a clock that has been set back, and does not count.
fn is_within(at: u64, now: u64) -> bool {
    at != 0 && at <= now && now - at < WEEK
}

/// The domain that somebody has registered, to which a name belongs.
pub(super) fn registered(name: &CertificateName) -> &str {
    psl::domain_str(name.as_str()).unwrap_or(name.as_str())
}
