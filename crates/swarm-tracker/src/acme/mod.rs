//! Certificates by ACME (RFC 8555) for the names that lead here: the tracker's own, and those of
//! sites whose DNS points at it (spec 0006, 5.4).
//!
//! [`schedule`] decides when which name is asked for, [`keep`] does it.

mod ca;
mod challenges;
mod error;
mod held;
mod keep;
mod past;
mod schedule;
mod shown;
mod store;
mod web;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use rustls::crypto::aws_lc_rs;
use rustls::sign::CertifiedKey;
use serde::Serialize;
use tokio::sync::Notify;

use crate::config::{ACME_NAMES_MAX, AcmeConfig, CertificateName, TrackerConfig};
use crate::registry::Moment;
use crate::tls::Certificate;
use ca::Ca;
use challenges::Challenges;
pub use error::AcmeError;
use held::Held;
pub(crate) use held::bears;
pub(crate) use keep::keep;
use schedule::{Schedule, Who};
pub(crate) use shown::{ACME_ALPN, Shown};
use store::Store;

/// Names that the status shows.
const SHOWN_MAX: usize = 100;

/// Where an authority looks for a file (RFC 8555, 8.3).
pub(crate) const CHALLENGE_PATH: &str = "/.well-known/acme-challenge/";

/// Why a name is not looked after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WantRefused {
    /// The operator has not set up `acme`, or not for sites.
    #[error("this tracker gets no certificates for sites")]
    NotForSites,
    /// As many names as there may be.
    #[error("this tracker looks after {ACME_NAMES_MAX} names already")]
    TooMany,
}

/// All certificates that the tracker gets itself.
#[derive(Debug)]
pub(crate) struct Certificates {
    /// Names of the tracker, the first before the others.
    own: Vec<CertificateName>,
    for_sites: bool,
    ca: Ca,
    store: Arc<Store>,
    /// A certificate that the operator gave for some names.
    files: Option<Arc<Certificate>>,
    schedule: Mutex<Schedule>,
    held: RwLock<HashMap<CertificateName, Held>>,
    pub(crate) challenges: Arc<Challenges>,
    /// The names have changed.
    changed: Notify,
}

/// How a name stands, for whoever may see the status.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct CertificateStatus {
    pub(crate) name: String,
    /// Seconds since 1970.
    pub(crate) not_after: Option<u64>,
    pub(crate) error: Option<String>,
}

impl Certificates {
    /// Reads what is on disk, and has the names of the configuration looked after. Blocks.
    pub(crate) fn open(
        acme: &AcmeConfig,
        config: &TrackerConfig,
        files: Option<Arc<Certificate>>,
        now: Moment,
    ) -> Result<Self, AcmeError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let below = || config.state.as_deref().map(|state| state.join("acme"));
        // Checked by the configuration: one of them is there.
        let dir = acme.dir.clone().or_else(below).unwrap_or_default();
        let store = Arc::new(Store::open(&dir, &acme.directory, Arc::clone(&provider))?);
        let certificates = Self {
            own: acme.names.clone(),
            for_sites: acme.sites,
            ca: Ca::open(acme, Arc::clone(&store), provider)?,
            schedule: Mutex::new(Schedule::new(store.load_past())),
            store,
            files,
            held: RwLock::default(),
            challenges: Arc::default(),
            changed: Notify::new(),
        };
        let sites = config.site_keys.keys().chain(config.homes.keys());
        let sites = sites.filter(|_| acme.sites);
        let sites = sites.filter_map(|site| CertificateName::try_from(site).ok());
        for name in acme.names.iter().cloned().chain(sites) {
            let wanted = certificates.schedule().want(&name, Who::Operator, now);
            if wanted.is_err() {
                tracing::error!(%name, "no certificate: more than {ACME_NAMES_MAX} names");
            }
        }
        certificates
            .store
            .sweep(now.unix, |name| certificates.schedule().wants(name));
        // So that they are there for the first who comes.
        while let Some(name) = certificates.unread() {
            certificates.look(&name);
        }
        Ok(certificates)
    }

    /// A name that the disk was not looked at for.
    fn unread(&self) -> Option<CertificateName> {
        self.schedule().unread()
    }

    /// Has a name of a site looked after, which has agreed to that.
    pub(crate) fn want(&self, name: &CertificateName, now: Moment) -> Result<(), WantRefused> {
        if !self.for_sites {
            return Err(WantRefused::NotForSites);
        }
        let wanted = self.schedule().want(name, Who::Site, now);
        self.changed.notify_one();
        wanted.map_err(|_| WantRefused::TooMany)
    }

    /// The name's site no longer agrees, or no longer leads here. What the operator wants stays. The
    /// certificate stays on disk, for when it comes back.
    pub(crate) fn unwant(&self, name: &CertificateName) {
        let mut schedule = self.schedule();
        if schedule.unwant(name, Who::Site) {
            self.held_mut(|held| held.remove(name));
            drop(schedule);
            self.changed.notify_one();
        }
    }

    /// The certificate of a name.
    fn of(&self, name: &CertificateName) -> Option<Arc<CertifiedKey>> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(&held.get(name)?.key))
    }

    /// One of the tracker's own.
    fn own(&self) -> Option<Arc<CertifiedKey>> {
        self.own.iter().find_map(|name| self.of(name))
    }

    /// Reads the certificate of a name from disk, if there is one. Blocks.
    fn look(&self, name: &CertificateName) {
        if let Some(found) = self.store.load(name) {
            let mut schedule = self.schedule();
            schedule.found(name, found.validity, rand::random());
            self.install(&schedule, name, found);
        }
    }

    /// Shows a certificate from now on, if its name is still wanted.
    fn install(&self, schedule: &Schedule, name: &CertificateName, held: Held) {
        if schedule.wants(name) {
            self.held_mut(|all| all.insert(name.clone(), held));
        }
    }

    fn held_mut<T>(&self, change: impl FnOnce(&mut HashMap<CertificateName, Held>) -> T) -> T {
        change(&mut self.held.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whoever holds it neither blocks nor awaits.
    fn schedule(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many are held, and when the first of them ends.
    pub(crate) fn summary(&self) -> (usize, Option<u64>) {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        let ends = held.values().map(|held| held.validity.not_after);
        (held.len(), ends.min())
    }

    /// The names, those in trouble first, as many as are shown; and how many more there are.
    pub(crate) fn status(&self) -> (Vec<CertificateStatus>, usize) {
        let mut all: Vec<_> = self.schedule().standings().collect();
        all.sort_by_key(|standing| standing.error.is_none());
        let left_off = all.len().saturating_sub(SHOWN_MAX);
        all.truncate(SHOWN_MAX);
        let shown = all.into_iter().map(|standing| CertificateStatus {
            name: standing.name.into(),
            not_after: standing.not_after,
            error: standing.error,
        });
        (shown.collect(), left_off)
    }
}

#[cfg(test)]
pub(crate) mod tests;
