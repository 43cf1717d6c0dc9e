//! How a site that is met for the first time shows whose keys to believe.
//!
//! Its own `/.well-known/swarm/keys`, read over TLS, goes first; plain HTTP will do only within this
//! machine or a private network, where nobody has a certificate. A site that shows none may have
//! installed nothing, and name in DNS whom it lets carry it.

use std::time::Duration;

use swarm_peer::connector::{Scope, Trust, scope_of};
use swarm_peer::dns::Dns;
use swarm_peer::http::HttpClient;
use swarm_proto::limits::KEY_CHAIN_LEN_MAX;
use swarm_proto::manifest::{PublicKey, SignedKeySet, SiteName};

use crate::site_source::SourceError;

/// Time for a site to show its keys; while it is overloaded, others wait for this.
const KEYS_DEADLINE: Duration = Duration::from_secs(5);
/// Where a site shows its keys.
const KEYS_PATH: &str = "/.well-known/swarm/keys";

/// What a site says of whom to believe.
pub(crate) enum Introduction {
    /// Its own keys.
    Keys(SignedKeySet),
    /// Those whom it lets carry it; the key of one of them is the root of its keys.
    Operators(Vec<PublicKey>),
}

/// Who is asked.
pub(crate) struct Asked<'a> {
    pub(crate) http: &'a HttpClient,
    pub(crate) dns: Option<&'a Dns>,
    /// Who named the site, and so how near to us it may be.
    pub(crate) named_by: Trust,
}

impl Asked<'_> {
    /// Asks the site, and then DNS.
    pub(crate) async fn introduction(&self, site: &SiteName) -> Result<Introduction, SourceError> {
        let mut first = None;
        for scheme in ["https", "http"] {
            let url = format!("{scheme}://{site}{KEYS_PATH}");
            match self.keys_at(site, url).await {
                Ok(keys) => return Ok(Introduction::Keys(keys)),
                // What TLS says about it is what the operator wants to read.
                Err(error) => first = first.or(Some(error)),
            }
        }
        match self.operators(site).await {
            Ok(operators) if !operators.is_empty() => Ok(Introduction::Operators(operators)),
            Err(error) if first.is_none() => Err(error),
            _ => Err(first.unwrap_or(SourceError::NoTracker)),
        }
    }

    /// Whom the site lets carry it.
    pub(crate) async fn operators(&self, site: &SiteName) -> Result<Vec<PublicKey>, SourceError> {
        let Some(dns) = self.dns else {
            return Ok(Vec::new());
        };
        let consents = dns.consents(site).await?;
        Ok(consents.list.iter().map(|one| one.operator).collect())
    }

    async fn keys_at(&self, site: &SiteName, url: String) -> Result<SignedKeySet, SourceError> {
        let answer = self
            .http
            .get(&url, KEY_CHAIN_LEN_MAX, KEYS_DEADLINE, self.named_by)
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
}
