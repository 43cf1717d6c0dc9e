//! Where sites' records come from, and what must hold before one is believed.
//!
//! A record proves itself by a site's keys. The keys rest on a root key that the operator gave
//! (`--site-key`), or on the site's own `/.well-known/swarm/keys` read over TLS; plain HTTP will do
//! only within this machine or a private network, where nobody has a certificate. What was seen of
//! a site is remembered, on disk where there is a place for it, so that an older manifest is
//! refused even after a restart (T33).

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use swarm_peer::connector::{Scope, Trust, scope_of};
use swarm_peer::http::{HttpClient, HttpError, Response};
use swarm_peer::store::write_atomic;
use swarm_proto::id::Digest;
use swarm_proto::limits::{KEY_CHAIN_LEN_MAX, SITE_RECORD_LEN_MAX};
use swarm_proto::manifest::{
    Anchor, KeySet, PublicKey, SignedKeySet, SiteManifest, SiteName, SiteRecord, SiteTrust,
    TrustError,
};
use swarm_proto::tracker::register::{
    RegisterError, SITE_PATH, SITES_PATH, SitesReply, register_url,
};

use crate::bridge::fresh_until;
use crate::limits::{SITES_KNOWN_MAX, SITES_REPLY_LEN_MAX};

/// Time for one fetch.
const FETCH_DEADLINE: Duration = Duration::from_secs(20);
/// Time for a site to show its keys; while it is overloaded, others wait for this.
const KEYS_DEADLINE: Duration = Duration::from_secs(5);
/// Where a site shows its keys.
const KEYS_PATH: &str = "/.well-known/swarm/keys";
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
    /// At most [`SITES_KNOWN_MAX`].
    known: Mutex<HashMap<SiteName, Known>>,
}

#[derive(Default)]
struct Known {
    trust: Option<SiteTrust>,
    opened: Option<Arc<Opened>>,
    failed: Option<Instant>,
}

impl SiteSource {
    /// Asks `trackers` (announce URLs) in order; believes `pins`; remembers in `dir`.
    pub fn new(
        http: HttpClient,
        trackers: Vec<String>,
        pins: HashMap<SiteName, Vec<PublicKey>>,
        dir: Option<PathBuf>,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                http,
                trackers,
                pins,
                dir,
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
        let introduced = match self.needs_introduction(site)? {
            true => Some(self.introduction(site, answer.trust_in_contents()).await?),
            false => None,
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
        let introduced = self.needs_introduction(site)?.then(|| record.keys.clone());
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

    /// Whether neither memory nor the operator knows a key of the site.
    fn needs_introduction(&self, site: &SiteName) -> Result<bool, SourceError> {
        Ok(!self.inner.pins.contains_key(site) && self.recall(site)?.is_none())
    }

    /// The chain of keys as the site itself gives it. TLS vouches for it, or that the site is
    /// near; `named_by` is who named the site, and so says how near that may be.
    async fn introduction(
        &self,
        site: &SiteName,
        named_by: Trust,
    ) -> Result<SignedKeySet, SourceError> {
        let mut first = None;
        for scheme in ["https", "http"] {
            let url = format!("{scheme}://{site}{KEYS_PATH}");
            match self.keys_at(site, url, named_by).await {
                Ok(keys) => return Ok(keys),
                // What TLS says about it is what the operator wants to read.
                Err(error) => first = first.or(Some(error)),
            }
        }
        Err(first.unwrap_or(SourceError::NoTracker))
    }

    async fn keys_at(
        &self,
        site: &SiteName,
        url: String,
        named_by: Trust,
    ) -> Result<SignedKeySet, SourceError> {
        let http = &self.inner.http;
        let answer = http
            .get(&url, KEY_CHAIN_LEN_MAX, KEYS_DEADLINE, named_by)
            .await?;
        if !answer.status.is_success() {
            let status = answer.status;
            return Err(SourceError::Status { url, status });
        }
        let near = answer
            .remote
            .is_some_and(|ip| scope_of(ip) != Scope::Global);
        let vouched = (answer.url.scheme() == "https" || near)
            && SiteName::of(&answer.url).is_ok_and(|name| name == *site);
        if !vouched {
            return Err(SourceError::WrongKeySource {
                site: site.clone(),
                url: answer.url.to_string(),
            });
        }
        SignedKeySet::parse(&answer.body).map_err(|source| SourceError::Refused {
            site: site.clone(),
            source,
        })
    }

    fn believe(
        &self,
        site: &SiteName,
        record: &SiteRecord,
        introduced: Option<&SignedKeySet>,
    ) -> Result<Arc<Opened>, SourceError> {
        let now = unix_now();
        let refused = |source| SourceError::Refused {
            site: site.clone(),
            source,
        };
        let mut trust = match (self.recall(site)?, introduced, self.inner.pins.get(site)) {
            (Some(trust), ..) => trust,
            (None, _, Some(pins)) => {
                SiteTrust::begin(Anchor::Pinned(pins), site, &record.keys, now).map_err(refused)?
            }
            (None, Some(keys), None) => {
                SiteTrust::begin(Anchor::Introduced, site, keys, now).map_err(refused)?
            }
            (None, None, None) => return Err(refused(TrustError::NotAnchored)),
        };
        let before = trust.clone();
        let manifest = trust.accept_record(record, now).map_err(refused)?;
        // The memory is durable before anything is served on the strength of it.
        if before != trust {
            self.remember(site, &trust)?;
        }
        let opened = Arc::new(Opened {
            keys: trust.keys().clone(),
            fresh_until: fresh_until(record, &manifest),
            manifest,
        });
        let mut known = self.known();
        if known.len() < SITES_KNOWN_MAX || known.contains_key(site) {
            let known = known.entry(site.clone()).or_default();
            known.trust = Some(trust);
            known.opened = Some(opened.clone());
        }
        Ok(opened)
    }

    fn file(&self, site: &SiteName) -> Option<PathBuf> {
        // Another root key on the command line is a fresh start, so the key is part of the name.
        let begun = match self.inner.pins.get(site) {
            Some(pins) => {
                let pins: Vec<u8> = pins.iter().flat_map(|pin| *pin.as_bytes()).collect();
                Digest::of(&pins).to_string()
            }
            None => "tls".into(),
        };
        let name = format!("{}.{}", site.label(), begun.get(..16).unwrap_or(&begun));
        Some(self.inner.dir.as_ref()?.join(name))
    }

    fn recall(&self, site: &SiteName) -> Result<Option<SiteTrust>, SourceError> {
        if let Some(trust) = self.known().get(site).and_then(|k| k.trust.clone()) {
            return Ok(Some(trust));
        }
        let Some(path) = self.file(site) else {
            return Ok(None);
        };
        let failed = |source| SourceError::Memory {
            site: site.clone(),
            path: path.clone(),
            source,
        };
        let bytes = match std::fs::read(&path) {
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

    fn remember(&self, site: &SiteName, trust: &SiteTrust) -> Result<(), SourceError> {
        let Some(path) = self.file(site) else {
            return Ok(());
        };
        write_atomic(&path, &trust.to_bytes()).map_err(|source| SourceError::Memory {
            site: site.clone(),
            path,
            source,
        })
    }
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
