//! Bodies as they come, for what is too large to be held: web seeds.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::LOCATION;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::BodyExt as _;
use url::Url;

use super::{HttpClient, HttpError, Pooled, REDIRECTS_MAX, chain, host_of, parse};
use crate::connector::{Scope, Trust, scope_of};

/// Connections for one server, kept from request to request.
#[derive(Clone)]
pub struct Lane {
    client: HttpClient,
    trust: Trust,
    pooled: Pooled,
}

/// An answer whose body is still to come.
#[derive(Debug)]
pub struct Streaming {
    /// The status of the last hop.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// The address that answered.
    pub remote: Option<IpAddr>,
    /// Who was asked, for messages.
    host: String,
    body: hyper::body::Incoming,
}

impl HttpClient {
    /// A lane to URLs that `trust` named.
    pub fn lane(&self, trust: Trust) -> Lane {
        Lane {
            client: self.clone(),
            trust,
            pooled: self.pool(trust),
        }
    }
}

impl Lane {
    /// GETs `url` and gives the answer as soon as its headers are here, which must be within
    /// `deadline`, redirects included. Redirects are followed as [`HttpClient::get`] does: to
    /// another origin with a stranger's rights only. No credentials are sent anywhere.
    ///
    /// # Errors
    /// [`HttpError`]; an error status is an answer and no error.
    pub async fn get(
        &self,
        url: &str,
        headers: HeaderMap,
        deadline: Duration,
    ) -> Result<Streaming, HttpError> {
        let url = parse(url)?;
        let host = host_of(&url);
        match tokio::time::timeout(deadline, self.follow(url, headers)).await {
            Ok(result) => result,
            Err(_) => Err(HttpError::TimedOut { host, deadline }),
        }
    }

    /// As [`get`](Self::get), but a redirect is an answer as any other.
    ///
    /// # Errors
    /// [`HttpError`]; an error status is an answer and no error.
    pub async fn get_once(
        &self,
        url: &str,
        headers: HeaderMap,
        deadline: Duration,
    ) -> Result<Streaming, HttpError> {
        let url = parse(url)?;
        let host = host_of(&url);
        let one = self
            .client
            .one(&self.pooled, &Method::GET, &url, headers, Bytes::new());
        match tokio::time::timeout(deadline, one).await {
            Ok(result) => result.map(|(response, remote)| Streaming::new(response, remote, host)),
            Err(_) => Err(HttpError::TimedOut { host, deadline }),
        }
    }

    async fn follow(&self, mut url: Url, headers: HeaderMap) -> Result<Streaming, HttpError> {
        let mut trust = self.trust;
        let mut pooled = self.pooled.clone();
        for _ in 0..=REDIRECTS_MAX {
            let (response, remote) = self
                .client
                .one(&pooled, &Method::GET, &url, headers.clone(), Bytes::new())
                .await?;
            let target = response
                .headers()
                .get(LOCATION)
                .filter(|_| response.status().is_redirection())
                .and_then(|to| to.to_str().ok())
                .and_then(|to| url.join(to).ok());
            let Some(target) = target else {
                return Ok(Streaming::new(response, remote, host_of(&url)));
            };
            let target = parse(target.as_str())?;
            let then = redirected(trust, remote, target.origin() == url.origin());
            if then != trust {
                trust = then;
                pooled = self.client.pool(trust);
            }
            url = target;
        }
        Err(HttpError::RedirectLoop(host_of(&url)))
    }
}

/// Whose word a redirect is: within one origin still that of whoever named the URL, else that of
/// the server, which may be as near to us as it is itself.
pub(super) fn redirected(trust: Trust, remote: Option<IpAddr>, same_origin: bool) -> Trust {
    match remote {
        _ if same_origin => trust,
        Some(ip) if scope_of(ip) != Scope::Global => Trust::Neighbour(ip),
        _ => Trust::Stranger,
    }
}

impl Streaming {
    fn new(
        response: http::Response<hyper::body::Incoming>,
        remote: Option<IpAddr>,
        host: String,
    ) -> Self {
        let (head, body) = response.into_parts();
        Self {
            status: head.status,
            headers: head.headers,
            remote,
            host,
            body,
        }
    }

    /// The next bytes of the body, `None` at its end.
    ///
    /// # Errors
    /// [`HttpError::Exchange`]: the connection broke, or the framing is wrong.
    pub async fn chunk(&mut self) -> Option<Result<Bytes, HttpError>> {
        loop {
            let frame = match self.body.frame().await? {
                Ok(frame) => frame,
                Err(error) => {
                    return Some(Err(HttpError::Exchange {
                        host: self.host.clone(),
                        reason: chain(&error),
                    }));
                }
            };
            if let Ok(data) = frame.into_data() {
                return Some(Ok(data));
            }
        }
    }
}
