//! What sites say in DNS: whom they let carry them (spec 0006, 10).
//!
//! Addresses are not asked for here; that is the [`connector`](crate::connector)'s.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError as Answered, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::RData;
use swarm_proto::manifest::{CONSENTS_MAX, Consent, SiteName, consent_name};

/// Time for one answer; asked twice at most.
const TIMEOUT: Duration = Duration::from_secs(2);
/// How often one question is put.
const ATTEMPTS: usize = 2;
/// Answers kept until they end.
const CACHE_MAX: u64 = 1024;
/// Whatever an answer says, it is taken for no shorter and no longer than this: not asked for by
/// every visitor, and a site that changes its mind is heard within the hour.
const VALID: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(3600));
/// The same for the answer that there is nothing: a site that just wrote its record is heard soon.
const ABSENT: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(300));

/// Why it is not known what a site says.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DnsError {
    /// The configuration of this machine's resolver cannot be used.
    #[error("no resolver: {0}")]
    Setup(#[source] Box<NetError>),
    /// Nobody answered, or only that it cannot be told now.
    #[error("{name} cannot be looked up: {source}")]
    Lookup {
        /// The name asked for.
        name: String,
        /// What happened.
        #[source]
        source: Box<NetError>,
    },
}

/// What a site says of who may carry it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consents {
    /// The good ones, in the order of the answer; none: nobody may.
    pub list: Vec<Consent>,
    /// How long this may be taken for true.
    pub valid_for: Duration,
}

/// Asks for records. Cheap to clone; clones share what was answered.
#[derive(Clone)]
pub struct Dns {
    resolver: TokioResolver,
}

impl Dns {
    /// Asks whom this machine asks (`/etc/resolv.conf`).
    ///
    /// # Errors
    /// [`DnsError::Setup`].
    pub fn system() -> Result<Self, DnsError> {
        Self::built(TokioResolver::builder_tokio())
    }

    /// Asks this server and no other.
    ///
    /// # Errors
    /// [`DnsError::Setup`].
    pub fn at(server: SocketAddr) -> Result<Self, DnsError> {
        let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
        let connections = connections.map(|mut connection| {
            connection.port = server.port();
            connection
        });
        let server = NameServerConfig::new(server.ip(), true, connections.into());
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
        let provider = TokioRuntimeProvider::default();
        Self::built(Ok(TokioResolver::builder_with_config(config, provider)))
    }

    fn built(
        builder: Result<hickory_resolver::ResolverBuilder<TokioRuntimeProvider>, NetError>,
    ) -> Result<Self, DnsError> {
        let setup = |error| DnsError::Setup(Box::new(error));
        let mut builder = builder.map_err(setup)?;
        let options = builder.options_mut();
        options.timeout = TIMEOUT;
        options.attempts = ATTEMPTS;
        options.cache_size = CACHE_MAX;
        let resolver = builder.build().map_err(setup)?;
        Ok(Self { resolver })
    }

    /// Whom a site lets carry it.
    ///
    /// # Errors
    /// [`DnsError::Lookup`]: it could not be told; that says nothing about the site.
    pub async fn consents(&self, site: &SiteName) -> Result<Consents, DnsError> {
        let Some(name) = consent_name(site) else {
            return Ok(Consents::nobody(ABSENT.1));
        };
        let answer = match self.resolver.txt_lookup(name.as_str()).await {
            Ok(answer) => answer,
            Err(error) => {
                return match absent_for(&error) {
                    Some(valid_for) => Ok(Consents::nobody(valid_for)),
                    None => Err(DnsError::Lookup {
                        name,
                        source: Box::new(error),
                    }),
                };
            }
        };
        let mut list = Vec::new();
        for record in answer.answers() {
            let RData::TXT(txt) = &record.data else {
                continue;
            };
            let text = txt.txt_data.concat();
            match Consent::parse(site, &String::from_utf8_lossy(&text)) {
                Ok(Some(consent)) if list.len() < CONSENTS_MAX => list.push(consent),
                Ok(_) => {}
                Err(error) => tracing::info!(name, %error, "record of consent not taken"),
            }
        }
        let left = answer
            .valid_until()
            .saturating_duration_since(Instant::now());
        Ok(Consents {
            list,
            valid_for: left.clamp(VALID.0, VALID.1),
        })
    }
}

impl Consents {
    fn nobody(valid_for: Duration) -> Self {
        Self {
            list: Vec::new(),
            valid_for: valid_for.clamp(ABSENT.0, ABSENT.1),
        }
    }
}

/// For how long there is no such record, where that is what the answer says.
fn absent_for(error: &NetError) -> Option<Duration> {
    let NetError::Dns(Answered::NoRecordsFound(none)) = error else {
        return None;
    };
    let sure = matches!(
        none.response_code,
        ResponseCode::NXDomain | ResponseCode::NoError
    );
    sure.then(|| Duration::from_secs(none.negative_ttl.map_or(0, u64::from)))
}

impl std::fmt::Debug for Dns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dns").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
