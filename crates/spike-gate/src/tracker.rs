//! The tracker, in this process or elsewhere: where the site is registered, the alarm raised, and
//! bridges learnt of.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use swarm_peer::connector::Trust;
use swarm_peer::http::{HttpClient, HttpError, Response};
use swarm_proto::manifest::{PublicKey, SiteName};
use swarm_proto::tracker::register::{
    ALARM_PATH, BRIDGES_PATH, BridgeView, BridgesReply, SITE_PATH, register_url,
};
use swarm_tracker::TrackerHandle;

/// Whatever a tracker answers is shorter.
const REPLY_LEN_MAX: usize = 4 << 20;
/// Time for one exchange with a tracker elsewhere.
const DEADLINE: Duration = Duration::from_secs(10);
/// How much of a refusal is repeated in our log.
const REASON_LEN_MAX: usize = 200;

/// Which tracker.
#[derive(Debug, Clone)]
pub enum TrackerLink {
    /// In this process.
    Embedded {
        /// The tracker.
        handle: TrackerHandle,
        /// Its announce URL, as volunteers reach it.
        announce: String,
    },
    /// Somewhere else, by its announce URL or any other of its URLs.
    Remote(String),
}

/// Why a tracker did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrackerError {
    /// It cannot be reached, or breaks off.
    #[error("tracker cannot be reached")]
    Http(#[from] HttpError),
    /// It says no.
    #[error("tracker refuses ({status}): {reason}")]
    Refused {
        /// Its status.
        status: StatusCode,
        /// Its words, shortened.
        reason: String,
    },
    /// It answers, but not as a tracker does.
    #[error("tracker answers rubbish: {0}")]
    Rubbish(String),
}

/// Bridges, and who named them.
#[derive(Debug, Clone)]
pub struct Named {
    /// What the tracker lists.
    pub bridges: Vec<BridgeView>,
    /// How far the tracker's word goes as to addresses.
    pub trust: Trust,
}

impl TrackerLink {
    /// The tracker in this process. One that listens on every address is reached by `host`.
    pub fn embedded(handle: TrackerHandle, host: &str) -> Self {
        let addr = handle.http_addr();
        let announce = if addr.ip().is_unspecified() {
            format!("http://{host}:{}/announce", addr.port())
        } else {
            format!("http://{addr}/announce")
        };
        Self::Embedded { handle, announce }
    }

    /// Where peers and volunteers announce.
    pub fn announce_url(&self) -> String {
        match self {
            Self::Embedded { announce, .. } => announce.clone(),
            Self::Remote(url) => register_url(url, "/announce").unwrap_or_else(|| url.clone()),
        }
    }

    /// Makes the site known to a tracker of our own; one elsewhere has its operator for that.
    pub async fn pin(&self, site: &SiteName, root: &PublicKey) {
        if let Self::Embedded { handle, .. } = self {
            handle.pin_site_key(site.clone(), *root).await;
        }
    }

    /// Registers a site record.
    ///
    /// # Errors
    /// [`TrackerError`].
    pub async fn register(&self, http: &HttpClient, record: Bytes) -> Result<(), TrackerError> {
        match self {
            Self::Embedded { handle, .. } => handle
                .register_site(record)
                .await
                .map_err(|error| refused(&error)),
            Self::Remote(url) => {
                let url = at(url, SITE_PATH)?;
                accepted(
                    http.put(&url, record, REPLY_LEN_MAX, DEADLINE, Trust::CommandLine)
                        .await?,
                )
            }
        }
    }

    /// Raises, renews or lowers an alarm.
    ///
    /// # Errors
    /// [`TrackerError`].
    pub async fn alarm(&self, http: &HttpClient, alarm: Bytes) -> Result<(), TrackerError> {
        match self {
            Self::Embedded { handle, .. } => {
                handle.raise_alarm(alarm).map_err(|error| refused(&error))
            }
            Self::Remote(url) => {
                let url = at(url, ALARM_PATH)?;
                accepted(
                    http.post(&url, alarm, REPLY_LEN_MAX, DEADLINE, Trust::CommandLine)
                        .await?,
                )
            }
        }
    }

    /// The bridges that hold bundles of `site`.
    ///
    /// # Errors
    /// [`TrackerError`].
    pub async fn bridges(&self, http: &HttpClient, site: &SiteName) -> Result<Named, TrackerError> {
        match self {
            Self::Embedded { handle, .. } => Ok(Named {
                bridges: handle.bridges_for(site),
                trust: Trust::Neighbour(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            }),
            Self::Remote(url) => {
                let url = at(url, &format!("{BRIDGES_PATH}?site={site}"))?;
                let reply = http
                    .get(&url, REPLY_LEN_MAX, DEADLINE, Trust::CommandLine)
                    .await?;
                let trust = reply.trust_in_contents();
                if reply.status != StatusCode::OK {
                    return accepted(reply)
                        .and(Err(TrackerError::Rubbish("no list of bridges".into())));
                }
                let decoded = BridgesReply::decode(&reply.body)
                    .map_err(|error| TrackerError::Rubbish(error.to_string()))?;
                Ok(Named {
                    bridges: decoded.bridges,
                    trust,
                })
            }
        }
    }
}

fn at(tracker: &str, path: &str) -> Result<String, TrackerError> {
    register_url(tracker, path)
        .ok_or_else(|| TrackerError::Rubbish(format!("{tracker} is no http or https URL")))
}

fn refused(error: &(dyn std::error::Error + 'static)) -> TrackerError {
    TrackerError::Refused {
        status: StatusCode::FORBIDDEN,
        reason: swarm_peer::http::chain(error),
    }
}

fn accepted(reply: Response) -> Result<(), TrackerError> {
    if reply.status.is_success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&reply.body);
    let reason = text
        .chars()
        .filter(|c| !c.is_control())
        .take(REASON_LEN_MAX)
        .collect();
    Err(TrackerError::Refused {
        status: reply.status,
        reason,
    })
}
