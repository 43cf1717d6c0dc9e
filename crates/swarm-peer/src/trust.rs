//! Which site record to believe: keys pinned, remembered, or vouched for by TLS.
//!
//! What was believed is remembered on disk *before* it is used, so that an older record is caught
//! even after a crash.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use swarm_proto::limits;
use swarm_proto::manifest::{
    Anchor, FormatError, KeySet, PublicKey, SignedKeySet, SiteManifest, SiteName, SiteRecord,
    SiteTrust, TrustError,
};
use url::Url;

use crate::connector::{Scope, Trust, scope_of};
use crate::dns::Dns;
use crate::http::{HttpClient, HttpError, Response};
use crate::store::sealed::{seal, unseal};
use crate::store::write_atomic;

/// Time to fetch a record or keys.
const DEADLINE: Duration = Duration::from_secs(30);

/// Where a site serves its record and keys.
pub const RECORD_PATH: &str = "/.well-known/swarm/manifest";
/// The chain of key sets.
pub const KEYS_PATH: &str = "/.well-known/swarm/keys";

/// Why a record is not used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// It could not be fetched.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The server has none.
    #[error("{url} answered {status}")]
    Status {
        /// Who was asked.
        url: String,
        /// What it said.
        status: http::StatusCode,
    },
    /// It is not to be believed. Somebody on the way, or the site, is at fault.
    #[error("site record refused: {0}")]
    Refused(#[from] TrustError),
    /// Nobody vouches for the site's keys.
    #[error(
        "no root key of {0} is known, nor whom it lets carry it: give it by --site-key HOST=KEY"
    )]
    NoKey(SiteName),
    /// What is remembered of the site cannot be read.
    #[error("what is remembered of the site in {} is damaged: {source}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: FormatError,
    },
    /// What was learnt cannot be remembered.
    #[error("cannot remember the site in {}: {source}", path.display())]
    Store {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl RecordError {
    /// Whether the bytes themselves were refused.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::NoKey(_))
    }
}

/// Who says that keys are the site's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Voucher {
    /// The operator, who named this root key.
    Pinned(PublicKey),
    /// The channel: the record came from the site itself over TLS, or from this machine's or
    /// network's own server, or from the operator's disk.
    Channel,
    /// Nobody: only what is remembered counts.
    Nobody,
}

/// A record that is believed.
#[derive(Debug, Clone)]
pub struct Believed {
    /// The manifest.
    pub manifest: SiteManifest,
    /// The keys it was judged by.
    pub keys: KeySet,
}

/// What is remembered of sites, a file each.
#[derive(Debug, Clone)]
pub struct TrustStore {
    dir: Option<PathBuf>,
}

impl TrustStore {
    /// Remembers in `dir`; with `None` nothing outlives the call.
    pub fn new(dir: Option<PathBuf>) -> Self {
        Self { dir }
    }

    fn path(&self, site: &SiteName) -> Option<PathBuf> {
        let dir = self.dir.as_ref()?;
        // Files named `.trust` are of builds that wrote no seal; they are left alone.
        Some(dir.join(format!("{}.sealed", site.label())))
    }

    fn load(&self, site: &SiteName) -> Result<Option<SiteTrust>, RecordError> {
        let Some(path) = self.path(site) else {
            return Ok(None);
        };
        match std::fs::read(&path) {
            Ok(sealed) => match read_trust(&sealed) {
                Ok(trust) if trust.site() == site => Ok(Some(trust)),
                Ok(_) => Ok(None),
                Err(source) => Err(RecordError::Damaged { path, source }),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(RecordError::Store { path, source }),
        }
    }

    fn save(&self, trust: &SiteTrust) -> Result<(), RecordError> {
        let Some(path) = self.path(trust.site()) else {
            return Ok(());
        };
        write_atomic(&path, &seal(trust.to_bytes()))
            .map_err(|source| RecordError::Store { path, source })
    }

    /// Judges a record by pinned keys, by what is remembered, or on its channel's word, in this
    /// order, and remembers it. Blocks on the disk.
    ///
    /// A pinned key that the remembered keys do not hold is the operator's newer word, and begins
    /// anew.
    ///
    /// # Errors
    /// [`RecordError`]: the record must not be used.
    pub fn judge(
        &self,
        record: &SiteRecord,
        site: &SiteName,
        voucher: Voucher,
        now: u64,
    ) -> Result<Believed, RecordError> {
        let known = match (self.load(site)?, voucher) {
            (Some(known), Voucher::Pinned(key)) if !known.keys().root.contains(&key) => {
                tracing::warn!(%site, "another root key is pinned than remembered: beginning anew");
                None
            }
            (known, _) => known,
        };
        let begin = |anchor| SiteTrust::begin(anchor, site, &record.keys, now);
        let mut trust = match (known, voucher) {
            (Some(known), _) => known,
            (None, Voucher::Pinned(key)) => begin(Anchor::Pinned(&[key]))?,
            (None, Voucher::Channel) => begin(Anchor::Introduced)?,
            (None, Voucher::Nobody) => return Err(RecordError::NoKey(site.clone())),
        };
        let manifest = trust.accept_record(record, now)?;
        self.save(&trust)?;
        Ok(Believed {
            manifest,
            keys: trust.keys().clone(),
        })
    }

    fn remembers(&self, site: &SiteName) -> bool {
        self.path(site).is_some_and(|path| path.exists())
    }

    /// Finds out who vouches for a record that nobody pinned: what is remembered, the channel it
    /// came by, the site's keys over TLS, or whom the site lets carry it, as `dns` says.
    ///
    /// # Errors
    /// [`RecordError`]: the keys were served and are not the record's.
    pub async fn voucher(
        &self,
        http: &HttpClient,
        dns: Option<&Dns>,
        record: &SiteRecord,
        site: &SiteName,
        came: Option<&Came>,
    ) -> Result<Voucher, RecordError> {
        if came.is_some_and(|came| came.vouches_for(site)) {
            return Ok(Voucher::Channel);
        }
        if self.remembers(site) {
            return Ok(Voucher::Nobody);
        }
        let url = format!("https://{site}{KEYS_PATH}");
        let cap = limits::SITE_RECORD_LEN_MAX;
        let answer = http.get(&url, cap, DEADLINE, Trust::Stranger).await;
        // A redirect may lead to plain HTTP, or to somebody else.
        let own = |answer: &Response| {
            answer.url.scheme() == "https" && SiteName::of(&answer.url).is_ok_and(|of| of == *site)
        };
        let served = match answer {
            Ok(answer) if answer.status.is_success() && own(&answer) => {
                match SignedKeySet::parse(&answer.body) {
                    Ok(keys) => keys,
                    // Many a site answers everything with a page.
                    Err(error) => {
                        tracing::info!(url, "what the site serves are no keys: {error}");
                        return Ok(consented(dns, record, site).await);
                    }
                }
            }
            Ok(answer) => {
                tracing::info!(url, status = %answer.status, "site serves no keys");
                return Ok(consented(dns, record, site).await);
            }
            Err(error) => {
                tracing::info!(url, "cannot ask the site for its keys: {error}");
                return Ok(consented(dns, record, site).await);
            }
        };
        let keys = served.verify(Anchor::Introduced, site, now())?;
        match keys.root.first() {
            Some(root) if record.keys.newest_claimed().root.contains(root) => {
                Ok(Voucher::Pinned(*root))
            }
            _ => Ok(Voucher::Nobody),
        }
    }
}

/// Whether the record is by somebody whom the site lets carry it.
async fn consented(dns: Option<&Dns>, record: &SiteRecord, site: &SiteName) -> Voucher {
    let Some(dns) = dns else {
        return Voucher::Nobody;
    };
    let consents = match dns.consents(site).await {
        Ok(consents) => consents.list,
        Err(error) => {
            tracing::info!(%error, "cannot ask whom the site lets carry it");
            return Voucher::Nobody;
        }
    };
    let roots = &record.keys.newest_claimed().root;
    let operators = consents.iter().map(|one| one.operator);
    let mut known = operators.filter(|operator| roots.contains(operator));
    known.next().map_or(Voucher::Nobody, Voucher::Pinned)
}

fn read_trust(sealed: &[u8]) -> Result<SiteTrust, FormatError> {
    let bytes = unseal(sealed).ok_or(FormatError::Field {
        field: "digest",
        why: "not that of the bytes before it",
    })?;
    SiteTrust::from_bytes(bytes)
}

/// How a record came here over HTTP.
#[derive(Debug, Clone)]
pub struct Came {
    /// The URL that answered, after redirects.
    pub url: Url,
    /// The address that answered.
    pub remote: Option<IpAddr>,
}

impl Came {
    /// Whether this is the site itself over TLS, or over plain HTTP within this machine or a
    /// private network, where nobody can have a certificate.
    pub fn vouches_for(&self, site: &SiteName) -> bool {
        let near = self.remote.is_some_and(|ip| scope_of(ip) != Scope::Global);
        SiteName::of(&self.url).is_ok_and(|from| from == *site)
            && (self.url.scheme() == "https" || near)
    }

    /// How far addresses in the record may be trusted.
    pub fn trust_in_contents(&self) -> Trust {
        self.remote.map_or(Trust::Stranger, Trust::Neighbour)
    }
}

/// Fetches a site record that the operator named by URL: of the record itself, or of any page of
/// the site.
///
/// # Errors
/// [`RecordError`]: unreachable, absent, or no record.
pub async fn fetch_record(
    http: &HttpClient,
    url: &Url,
    trust: Trust,
) -> Result<(SiteRecord, Came), RecordError> {
    let mut wanted = url.clone();
    if !url.path().ends_with("/manifest") {
        wanted.set_path(RECORD_PATH);
        wanted.set_query(None);
    }
    let cap = limits::SITE_RECORD_LEN_MAX;
    let answer = http.get(wanted.as_str(), cap, DEADLINE, trust).await?;
    if !answer.status.is_success() {
        return Err(RecordError::Status {
            url: wanted.into(),
            status: answer.status,
        });
    }
    let record = SiteRecord::parse(&answer.body)?;
    let came = Came {
        url: answer.url,
        remote: answer.remote,
    };
    Ok((record, came))
}

/// Seconds since 1970.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use swarm_proto::manifest::{SecretKey, SignedManifest};

    use super::*;
    use crate::store::sealed::damaged;

    fn came(url: &str, remote: &str) -> Came {
        Came {
            url: Url::parse(url).unwrap(),
            remote: Some(remote.parse().unwrap()),
        }
    }

    #[test]
    fn plain_http_vouches_only_nearby_and_only_for_the_same_site() {
        let site = SiteName::parse("site.test:8080").unwrap();
        assert!(came("http://site.test:8080/x", "127.0.0.1").vouches_for(&site));
        assert!(came("https://site.test:8080/x", "8.8.8.8").vouches_for(&site));
        assert!(!came("http://site.test:8080/x", "8.8.8.8").vouches_for(&site));
        assert!(!came("https://site.test/x", "127.0.0.1").vouches_for(&site));
        assert!(!came("https://mirror.test:8080/x", "8.8.8.8").vouches_for(&site));
    }

    /// A record of the site with this sequence, by the keys of these seeds.
    fn record(root: u8, sequence: u64) -> SiteRecord {
        let site = SiteName::parse("site.test").unwrap();
        let key = |n| SecretKey::new([n; 32]);
        let set = KeySet {
            site: site.clone(),
            sequence: 1,
            expires: NOW + 10_000,
            root: vec![key(root).public()],
            threshold: 1,
            publish: vec![key(root + 1).public()],
            alarm: vec![key(root + 2).public()],
        };
        let manifest = SiteManifest {
            site,
            sequence,
            created: NOW - 10,
            expires: NOW + 1000,
            stamped: false,
            bundles: Vec::new(),
            files: Default::default(),
        };
        SiteRecord {
            keys: SignedKeySet::first(&set, &[&key(root)]).unwrap(),
            manifest: SignedManifest::sign(&manifest, &key(root + 1)).unwrap(),
            stamp: None,
        }
    }

    const NOW: u64 = 1_800_000_000;

    #[test]
    fn an_older_record_is_refused_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let site = SiteName::parse("site.test").unwrap();
        let judge = |record: &SiteRecord, voucher| {
            // Each time a new store, as after a restart.
            let store = TrustStore::new(Some(dir.path().join("trust")));
            let believed = store.judge(record, &site, voucher, NOW);
            believed.map(|believed| believed.manifest.sequence)
        };
        assert!(matches!(
            judge(&record(1, 5), Voucher::Nobody),
            Err(RecordError::NoKey(_))
        ));
        let pin = Voucher::Pinned(SecretKey::new([1; 32]).public());
        assert_eq!(judge(&record(1, 5), pin).unwrap(), 5);
        assert_eq!(judge(&record(1, 6), Voucher::Nobody).unwrap(), 6);
        for voucher in [pin, Voucher::Nobody, Voucher::Channel] {
            assert!(matches!(
                judge(&record(1, 5), voucher),
                Err(RecordError::Refused(TrustError::Rollback { .. }))
            ));
        }
        // Another root is not believed on a channel's word once one is remembered ...
        assert!(judge(&record(9, 7), Voucher::Channel).is_err());
        assert!(judge(&record(9, 7), pin).is_err());
        // ... but on the operator's.
        let other = Voucher::Pinned(SecretKey::new([9; 32]).public());
        assert_eq!(judge(&record(9, 1), other).unwrap(), 1);
    }

    #[test]
    fn f18_damaged_memory_is_named_and_nothing_is_believed() {
        let dir = tempfile::tempdir().unwrap();
        let site = SiteName::parse("site.test").unwrap();
        let store = TrustStore::new(Some(dir.path().to_owned()));
        store
            .judge(&record(1, 5), &site, Voucher::Channel, NOW)
            .unwrap();
        let path = store.path(&site).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let next = record(1, 6);
        for bytes in damaged(&whole) {
            std::fs::write(&path, &bytes).unwrap();
            let refused = store.judge(&next, &site, Voucher::Channel, NOW);
            assert!(
                matches!(refused, Err(RecordError::Damaged { .. })),
                "{}: {refused:?}",
                bytes.escape_ascii()
            );
        }
    }
}
