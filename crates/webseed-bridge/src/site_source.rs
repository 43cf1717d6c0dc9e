//! Where sites' records come from, and what must hold before one is believed.
//!
//! A record proves itself by a site's keys. The keys rest on a root key that the operator gave
//! (`--site-key`), or on what the site says itself: see [`introduction`](super::introduction). What
//! was seen of a site is remembered, on disk where there is a place for it, so that an older manifest is
//! refused even after a restart (T33).

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use swarm_peer::connector::Trust;
use swarm_peer::dns::{Dns, DnsError};
use swarm_peer::http::{HttpClient, HttpError, Response};
use swarm_peer::store::write_atomic;
use swarm_proto::id::Digest;
use swarm_proto::limits::SITE_RECORD_LEN_MAX;
use swarm_proto::manifest::{
    Anchor, KeySet, PublicKey, SiteManifest, SiteName, SiteRecord, SiteTrust, TrustError,
};
use swarm_proto::tracker::register::{
    RegisterError, SITE_PATH, SITES_PATH, SitesReply, register_url,
};

use crate::bridge::fresh_until;
use crate::introduction::{Asked, Introduction};
use crate::limits::{SITES_KNOWN_MAX, SITES_REPLY_LEN_MAX};

/// Time for one fetch.
const FETCH_DEADLINE: Duration = Duration::from_secs(20);
/// How soon a site whose record was refused is asked for again.
const RETRY: Duration = Duration::from_secs(10);

/// Why there is no believable record of a site.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// Nobody to ask.
    #[error("no tracker is given")]
    NoTracker,
    /// The tracker's or site's server did not answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// It answered with an error status.
    #[error("{url} answers {status}")]
    Status {
        /// What was asked.
        url: String,
        /// The answer.
        status: http::StatusCode,
    },
    /// It answered with something else.
    #[error("{url} does not speak the register's language")]
    Rubbish {
        /// What was asked.
        url: String,
        /// What is wrong with it.
        #[source]
        source: RegisterError,
    },
    /// The record, or the keys, are not to be believed.
    #[error("record of {site} refused")]
    Refused {
        /// The site.
        site: SiteName,
        /// Why.
        #[source]
        source: TrustError,
    },
    /// Another site answered for its keys, or nobody vouches for who answered.
    #[error("keys of {site} came from {url}")]
    WrongKeySource {
        /// The site asked.
        site: SiteName,
        /// Who answered in the end.
        url: String,
    },
    /// The site does not show its keys, and DNS could not be asked either.
    #[error(transparent)]
    Dns(#[from] DnsError),
    /// It failed a moment ago.
    #[error("asked for {0} a moment ago")]
    TooSoon(SiteName),
    /// The memory of what was seen cannot be read or written.
    #[error("cannot keep what is known of {site} in {path}")]
    Memory {
        /// The site.
        site: SiteName,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// A record that was believed.
#[derive(Debug, Clone)]
pub struct Opened {
    /// The site's keys.
    pub keys: KeySet,
    /// Its manifest.
    pub manifest: SiteManifest,
    /// When the record ends, in Unix seconds.
    pub fresh_until: u64,
}

/// Fetches and judges records. Cheap to clone; clones share their memory.
#[derive(Clone)]
pub struct SiteSource {
    inner: Arc<Inner>,
}

struct Inner {
    http: HttpClient,
    trackers: Vec<String>,
    pins: HashMap<SiteName, Vec<PublicKey>>,
    dir: Option<PathBuf>,
    dns: Option<Dns>,
    /// At most [`SITES_KNOWN_MAX`].
    known: Mutex<HashMap<SiteName, Known>>,
}

/// What trust in a site began with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begun {
    /// Keys that the operator of this bridge gave.
    Pins,
    /// The site's own word.
    Site,
    /// What the site's DNS says.
    Dns,
}

#[derive(Default)]
struct Known {
    trust: Option<(SiteTrust, Begun)>,
    opened: Option<Arc<Opened>>,
    failed: Option<Instant>,
}

impl SiteSource {
    /// Asks `trackers` (announce URLs) in order; believes `pins`; remembers in `dir`. Of sites that
    /// show no keys themselves, `dns` is asked for the key of whom they let carry them.
    pub fn new(
        http: HttpClient,
        trackers: Vec<String>,
        pins: HashMap<SiteName, Vec<PublicKey>>,
        dir: Option<PathBuf>,
        dns: Option<Dns>,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                http,
                trackers,
                pins,
                dir,
                dns,
                known: Mutex::default(),
            }),
        }
    }

    /// The sites in need, as soon as the list differs from version `since`, or after `wait`.
    ///
    /// # Errors
    /// [`SourceError`]: no tracker answered in its language; the last one's fault.
    pub async fn sites_in_need(
        &self,
        since: u64,
        wait: Duration,
    ) -> Result<SitesReply, SourceError> {
        let path = format!("{SITES_PATH}?since={since}&wait={}", wait.as_secs());
        let (url, answer) = self
            .ask(
                &path,
                SITES_REPLY_LEN_MAX,
                FETCH_DEADLINE.saturating_add(wait),
            )
            .await?;
        SitesReply::decode(&answer.body).map_err(|source| SourceError::Rubbish { url, source })
    }

    /// Fetches the record of `site` from a tracker and judges it.
    ///
    /// # Errors
    /// [`SourceError`]. What was believed before stays.
    pub async fn refresh(&self, site: &SiteName) -> Result<Arc<Opened>, SourceError> {
        {
            let mut known = self.known();
            if let Some(failed) = known.get(site).and_then(|known| known.failed)
                && failed.elapsed() < RETRY
            {
                return Err(SourceError::TooSoon(site.clone()));
            }
            if known.len() >= SITES_KNOWN_MAX && !known.contains_key(site) {
                // What is on disk is read again when it is needed.
                known.retain(|_, known| known.opened.is_some());
            }
        }
        let result = self.fetch(site).await;
        let mut known = self.known();
        if known.len() < SITES_KNOWN_MAX || known.contains_key(site) {
            let failed = result.is_err().then(Instant::now);
            known.entry(site.clone()).or_default().failed = failed;
        }
        result
    }

    async fn fetch(&self, site: &SiteName) -> Result<Arc<Opened>, SourceError> {
        let path = format!("{SITE_PATH}/{site}");
        let (_, answer) = self.ask(&path, SITE_RECORD_LEN_MAX, FETCH_DEADLINE).await?;
        let record = SiteRecord::parse(&answer.body).map_err(|source| SourceError::Refused {
            site: site.clone(),
            source,
        })?;
        let asked = Asked {
            http: &self.inner.http,
            dns: self.inner.dns.as_ref(),
            named_by: answer.trust_in_contents(),
        };
        let known = match self.inner.pins.contains_key(site) {
            true => None,
            false => self.recall(site)?,
        };
        let introduced = match known {
            None if self.inner.pins.contains_key(site) => None,
            None => Some(asked.introduction(site).await?),
            // A site that lets somebody else carry it says so where it said so before.
            Some((trust, Begun::Dns)) if !shares_root(&trust, &record) => {
                let operators = asked.operators(site).await?;
                Some(Introduction::Operators(operators))
            }
            Some(_) => None,
        };
        self.believe(site, &record, introduced.as_ref())
    }

    /// Judges a record that the operator gave. Without a root key for the site, the operator's
    /// word is enough.
    ///
    /// # Errors
    /// [`SourceError::Refused`], [`SourceError::Memory`].
    pub fn accept(&self, site: &SiteName, bytes: &[u8]) -> Result<Arc<Opened>, SourceError> {
        let record = SiteRecord::parse(bytes).map_err(|source| SourceError::Refused {
            site: site.clone(),
            source,
        })?;
        let known = self.inner.pins.contains_key(site) || self.recall(site)?.is_some();
        let introduced = (!known).then(|| Introduction::Keys(record.keys.clone()));
        self.believe(site, &record, introduced.as_ref())
    }

    /// What was believed last.
    pub fn opened(&self, site: &SiteName) -> Option<Arc<Opened>> {
        self.known().get(site)?.opened.clone()
    }

    /// Frees the manifest of a site that is no longer carried; what protects against rollback
    /// stays.
    pub fn forget_manifest(&self, site: &SiteName) {
        if let Some(known) = self.known().get_mut(site) {
            known.opened = None;
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<SiteName, Known>> {
        let known = self.inner.known.lock();
        known.unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks each tracker until one answers with success.
    async fn ask(
        &self,
        path: &str,
        cap: usize,
        deadline: Duration,
    ) -> Result<(String, Response), SourceError> {
        let mut last = SourceError::NoTracker;
        for tracker in &self.inner.trackers {
            let Some(url) = register_url(tracker, path) else {
                continue;
            };
            match self
                .inner
                .http
                .get(&url, cap, deadline, Trust::CommandLine)
                .await
            {
                Ok(answer) if answer.status.is_success() => return Ok((url, answer)),
                Ok(answer) => {
                    let status = answer.status;
                    last = SourceError::Status { url, status };
                }
                Err(error) => last = error.into(),
            }
        }
        Err(last)
    }

    /// Judges a record by what is remembered; by `introduced`, where that is given, anew.
    fn believe(
        &self,
        site: &SiteName,
        record: &SiteRecord,
        introduced: Option<&Introduction>,
    ) -> Result<Arc<Opened>, SourceError> {
        let now = unix_now();
        let refused = |source| SourceError::Refused {
            site: site.clone(),
            source,
        };
        let begin =
            |anchor: Anchor<'_>| SiteTrust::begin(anchor, site, &record.keys, now).map_err(refused);
        let known = match introduced {
            None => self.recall(site)?,
            Some(_) => None,
        };
        let (mut trust, begun) = match (known, introduced, self.inner.pins.get(site)) {
            (Some(known), ..) => known,
            (None, _, Some(pins)) => (begin(Anchor::Pinned(pins))?, Begun::Pins),
            (None, Some(Introduction::Keys(keys)), None) => {
                let trust = SiteTrust::begin(Anchor::Introduced, site, keys, now);
                (trust.map_err(refused)?, Begun::Site)
            }
            (None, Some(Introduction::Operators(operators)), None) => {
                let roots = &record.keys.newest_claimed().root;
                let named = operators.iter().find(|operator| roots.contains(operator));
                let root = *named.ok_or_else(|| refused(TrustError::NotAnchored))?;
                (begin(Anchor::Pinned(&[root]))?, Begun::Dns)
            }
            (None, None, None) => return Err(refused(TrustError::NotAnchored)),
        };
        let before = trust.clone();
        let manifest = trust.accept_record(record, now).map_err(refused)?;
        // The memory is durable before anything is served on the strength of it.
        if before != trust || introduced.is_some() {
            self.remember(site, &trust, begun)?;
        }
        let opened = Arc::new(Opened {
            keys: trust.keys().clone(),
            fresh_until: fresh_until(record, &manifest),
            manifest,
        });
        let mut known = self.known();
        if known.len() < SITES_KNOWN_MAX || known.contains_key(site) {
            let known = known.entry(site.clone()).or_default();
            known.trust = Some((trust, begun));
            known.opened = Some(opened.clone());
        }
        Ok(opened)
    }

    fn file(&self, site: &SiteName, begun: Begun) -> Option<PathBuf> {
        // Another root key on the command line is a fresh start, so the key is part of the name.
        let begun = match (begun, self.inner.pins.get(site)) {
            (Begun::Pins, pins) => {
                let pins = pins.into_iter().flatten();
                let pins: Vec<u8> = pins.flat_map(|pin| *pin.as_bytes()).collect();
                Digest::of(&pins).to_string()
            }
            (Begun::Site, _) => "tls".into(),
            (Begun::Dns, _) => "dns".into(),
        };
        let name = format!("{}.{}", site.label(), begun.get(..16).unwrap_or(&begun));
        Some(self.inner.dir.as_ref()?.join(name))
    }

    fn recall(&self, site: &SiteName) -> Result<Option<(SiteTrust, Begun)>, SourceError> {
        if let Some(trust) = self.known().get(site).and_then(|k| k.trust.clone()) {
            return Ok(Some(trust));
        }
        let ways: &[Begun] = match self.inner.pins.contains_key(site) {
            true => &[Begun::Pins],
            // What the site said itself goes before what is said of it.
            false => &[Begun::Site, Begun::Dns],
        };
        for begun in ways {
            if let Some(path) = self.file(site, *begun)
                && let Some(trust) = read_trust(site, &path)?
            {
                return Ok(Some((trust, *begun)));
            }
        }
        Ok(None)
    }

    fn remember(
        &self,
        site: &SiteName,
        trust: &SiteTrust,
        begun: Begun,
    ) -> Result<(), SourceError> {
        let Some(path) = self.file(site, begun) else {
            return Ok(());
        };
        write_atomic(&path, &trust.to_bytes()).map_err(|source| SourceError::Memory {
            site: site.clone(),
            path,
            source,
        })
    }
}

fn read_trust(site: &SiteName, path: &Path) -> Result<Option<SiteTrust>, SourceError> {
    let failed = |source| SourceError::Memory {
        site: site.clone(),
        path: path.to_owned(),
        source,
    };
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let trust = SiteTrust::from_bytes(&bytes)
        .map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidData, error)))?;
    if trust.site() != site {
        return Err(failed(io::ErrorKind::InvalidData.into()));
    }
    Ok(Some(trust))
}

/// Whether a record claims a root key that is known.
fn shares_root(trust: &SiteTrust, record: &SiteRecord) -> bool {
    let claimed = &record.keys.newest_claimed().root;
    trust.keys().root.iter().any(|root| claimed.contains(root))
}

impl std::fmt::Debug for SiteSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SiteSource")
            .field("trackers", &self.inner.trackers)
            .finish_non_exhaustive()
    }
}

/// Seconds since 1970 by the machine's clock.
pub fn unix_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
