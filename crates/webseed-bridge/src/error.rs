//! What can go wrong with one request, and the answer each case gets.

use http::StatusCode;

/// Why a request is not answered with the file it names. Each variant has its status.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BridgeError {
    /// The request line or `Host` is malformed or ambiguous. The client's fault.
    #[error("bad request: {0}")]
    BadRequest(&'static str),
    /// Neither GET, HEAD nor OPTIONS. The client's fault.
    #[error("only GET and HEAD are answered here")]
    Method,
    /// The host named is none that this bridge answers for (RFC 9110, 15.5.20).
    #[error("this bridge does not answer for that host")]
    UnknownHost,
    /// A path on the bare address names a site that is not carried.
    #[error("this bridge does not carry that site")]
    UnknownSite,
    /// The site's manifest has no such path.
    #[error("the site has no such page")]
    NotFound,
    /// A service worker was asked for on an address that sites share (spec 0007).
    #[error("service workers are not served on a shared address")]
    SharedOrigin,
    /// A precondition of the request does not hold (RFC 9110, 13).
    #[error("precondition failed")]
    Precondition,
    /// No asked range lies within the file (RFC 9110, 15.5.17).
    #[error("the file has no such range")]
    Range,
    /// The manifest has expired and no newer one came: it may say what the site no longer does.
    #[error("the copy is too old to be shown")]
    Stale,
    /// Manifest and bundle contradict each other. The publisher's fault.
    #[error("the site's manifest contradicts its bundle")]
    Inconsistent,
    /// The swarm delivered nothing in time. Nobody's fault here; another try may work.
    #[error("the swarm did not deliver the file in time")]
    Unobtainable,
    /// Too much is under way already.
    #[error("the bridge is full")]
    Full,
    /// The node under the bridge failed.
    #[error("the bridge failed")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl BridgeError {
    /// The status that says it.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::UnknownHost => StatusCode::MISDIRECTED_REQUEST,
            Self::UnknownSite | Self::NotFound => StatusCode::NOT_FOUND,
            Self::SharedOrigin => StatusCode::FORBIDDEN,
            Self::Precondition => StatusCode::PRECONDITION_FAILED,
            Self::Range => StatusCode::RANGE_NOT_SATISFIABLE,
            Self::Stale => StatusCode::SERVICE_UNAVAILABLE,
            Self::Inconsistent => StatusCode::BAD_GATEWAY,
            Self::Unobtainable => StatusCode::GATEWAY_TIMEOUT,
            Self::Full => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Seconds after which the same request may be worth another try.
    pub fn retry_after_secs(&self) -> Option<u32> {
        match self {
            Self::Unobtainable => Some(5),
            Self::Full => Some(2),
            Self::Stale => Some(60),
            _ => None,
        }
    }
}

/// Why a bridge did not start, or a site could not be added.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The HTTP address cannot be listened on, for instance because it is in use.
    #[error("cannot listen on {addr}")]
    Listen {
        /// The address asked for.
        addr: std::net::SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The bridge carries as many sites as it may ([`crate::limits::SITES_MAX`]).
    #[error("no room for another site")]
    SitesFull,
    /// The site's bundles could not be joined.
    #[error("the site's bundles cannot be joined")]
    Join(#[from] crate::join::JoinError),
    /// A manifest older than the one already carried was offered.
    #[error("manifest {got} of {site} is older than {held}")]
    Older {
        /// The site.
        site: String,
        /// The sequence number carried.
        held: u64,
        /// The sequence number offered.
        got: u64,
    },
}
