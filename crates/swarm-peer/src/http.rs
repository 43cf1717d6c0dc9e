//! One small HTTP client, in which every fetch has a byte cap and a deadline.
//!
//! Trackers, sites and bridges are asked through it. Addresses are vetted by the [`Connector`] for
//! each connection, redirects included; no credentials are ever sent.

mod stream;

use std::future::Future;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderValue, LOCATION, USER_AGENT};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::{ConfigBuilder, WantsVerifier};
use tokio::net::TcpStream;
use tower_service::Service;
use url::Url;

use crate::connector::{AddressPolicy, ConnectError, Connector, Family, Trust};
use crate::report::shown_url;

pub use stream::{Lane, Streaming};

/// Redirects followed for one fetch, as a bound on loops.
const REDIRECTS_MAX: usize = 5;
/// How long one connection attempt may take; the fetch's own deadline holds as well.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Idle connections kept to one host.
const IDLE_PER_HOST_MAX: usize = 4;

type Pooled = Client<HttpsConnector<Vetted>, Full<Bytes>>;

/// An HTTP/1.1 client over TCP and TLS. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct HttpClient {
    inner: Arc<Inner>,
}

struct Inner {
    connector: Connector,
    tls: Arc<rustls::ClientConfig>,
    for_operator: Pooled,
    for_strangers: Pooled,
}

/// What a server answered, whole.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status of the last hop.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, within the cap.
    pub body: Bytes,
    /// The address that answered; says how far what it names may be trusted.
    pub remote: Option<IpAddr>,
    /// The URL that answered, after redirects.
    pub url: Url,
}

impl Response {
    /// How addresses named in this answer are to be treated.
    pub fn trust_in_contents(&self) -> Trust {
        self.remote.map_or(Trust::Stranger, Trust::Neighbour)
    }
}

/// Why a fetch brought nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// Not an `http` or `https` URL with a host.
    #[error("{0} is no http or https URL")]
    BadUrl(String),
    /// No connection, or one we may not make.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The exchange failed: TLS, framing, or a broken connection.
    #[error("request to {host} failed: {reason}")]
    Exchange {
        /// Who was asked.
        host: String,
        /// The chain of causes.
        reason: String,
    },
    /// The body is larger than the caller will take.
    #[error("{host} sent more than {cap} bytes")]
    TooLarge {
        /// Who was asked.
        host: String,
        /// The cap in bytes.
        cap: usize,
    },
    /// Not done by the deadline.
    #[error("{host} did not finish answering within {deadline:?}")]
    TimedOut {
        /// Who was asked.
        host: String,
        /// The time given.
        deadline: Duration,
    },
    /// Redirected too often.
    #[error("{0} redirects in circles")]
    RedirectLoop(String),
    /// TLS cannot be set up on this machine.
    #[error("TLS is not available")]
    Tls(#[source] rustls::Error),
}

impl HttpClient {
    /// A client whose connections obey `policy`. TLS trusts the Mozilla roots built in.
    ///
    /// # Errors
    /// [`HttpError::Tls`]: the crypto provider refuses its own defaults.
    pub fn new(policy: AddressPolicy) -> Result<Self, HttpError> {
        Self::from_address(policy, Ipv6Addr::UNSPECIFIED.into())
    }

    /// [`Self::new`], with connections that leave from `source` (see [`Connector::with_source`]).
    ///
    /// # Errors
    /// As there.
    pub fn from_address(policy: AddressPolicy, source: IpAddr) -> Result<Self, HttpError> {
        let connector = Connector::new(policy, CONNECT_TIMEOUT).with_source(source);
        let tls = tls()?.with_webpki_roots().with_no_client_auth();
        Ok(Self::over(connector, tls))
    }

    fn over(connector: Connector, tls: rustls::ClientConfig) -> Self {
        Self::with(connector, Arc::new(tls))
    }

    /// Another client, with connections of its own, that calls names by this family only.
    pub(crate) fn only_by(&self, family: Family) -> Self {
        let connector = self.inner.connector.clone().only_by(family);
        Self::with(connector, Arc::clone(&self.inner.tls))
    }

    fn with(connector: Connector, tls: Arc<rustls::ClientConfig>) -> Self {
        Self {
            inner: Arc::new(Inner {
                for_operator: pooled(&connector, &tls, Trust::CommandLine),
                for_strangers: pooled(&connector, &tls, Trust::Stranger),
                connector,
                tls,
            }),
        }
    }

    /// The policy in force.
    pub fn policy(&self) -> &AddressPolicy {
        self.inner.connector.policy()
    }

    /// GETs `url`, following redirects, within `cap` bytes of body and `deadline` for all of it.
    ///
    /// # Errors
    /// [`HttpError`]; an error status is an answer and no error.
    pub async fn get(
        &self,
        url: &str,
        cap: usize,
        deadline: Duration,
        trust: Trust,
    ) -> Result<Response, HttpError> {
        self.request(
            Method::GET,
            url,
            HeaderMap::new(),
            Bytes::new(),
            cap,
            deadline,
            trust,
        )
        .await
    }

    /// POSTs `body` as bytes; redirects are not followed.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn post(
        &self,
        url: &str,
        body: Bytes,
        cap: usize,
        deadline: Duration,
        trust: Trust,
    ) -> Result<Response, HttpError> {
        self.request(Method::POST, url, octets(), body, cap, deadline, trust)
            .await
    }

    /// PUTs `body` as bytes; redirects are not followed.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn put(
        &self,
        url: &str,
        body: Bytes,
        cap: usize,
        deadline: Duration,
        trust: Trust,
    ) -> Result<Response, HttpError> {
        self.request(Method::PUT, url, octets(), body, cap, deadline, trust)
            .await
    }

    /// Any request; only GET and HEAD follow redirects.
    ///
    /// # Errors
    /// As [`Self::get`].
    #[allow(clippy::too_many_arguments)]
    pub async fn request(
        &self,
        method: Method,
        url: &str,
        headers: HeaderMap,
        body: Bytes,
        cap: usize,
        deadline: Duration,
        trust: Trust,
    ) -> Result<Response, HttpError> {
        let url = parse(url)?;
        let host = host_of(&url);
        let all = self.follow(method, url, headers, body, cap, trust);
        match tokio::time::timeout(deadline, all).await {
            Ok(result) => result,
            Err(_) => Err(HttpError::TimedOut { host, deadline }),
        }
    }

    async fn follow(
        &self,
        method: Method,
        mut url: Url,
        headers: HeaderMap,
        body: Bytes,
        cap: usize,
        mut trust: Trust,
    ) -> Result<Response, HttpError> {
        for _ in 0..=REDIRECTS_MAX {
            let (response, remote) = self
                .one(
                    &self.pool(trust),
                    &method,
                    &url,
                    headers.clone(),
                    body.clone(),
                )
                .await?;
            let target = response
                .headers()
                .get(LOCATION)
                .filter(|_| response.status().is_redirection())
                .filter(|_| method == Method::GET || method == Method::HEAD)
                .and_then(|to| to.to_str().ok())
                .and_then(|to| url.join(to).ok());
            let Some(target) = target else {
                let (head, body) = response.into_parts();
                let body = collect(body, cap, &host_of(&url)).await?;
                return Ok(Response {
                    status: head.status,
                    headers: head.headers,
                    body,
                    remote,
                    url,
                });
            };
            // Where a redirect leads is the word of whoever sent it, not the operator's.
            trust = stream::redirected(trust, remote, target.origin() == url.origin());
            url = parse(target.as_str())?;
        }
        Err(HttpError::RedirectLoop(host_of(&url)))
    }

    /// The connections that may be used for what `trust` named.
    fn pool(&self, trust: Trust) -> Pooled {
        match trust {
            Trust::CommandLine => self.inner.for_operator.clone(),
            Trust::Stranger => self.inner.for_strangers.clone(),
            // Kept apart from the pools, whose connections were vetted for somebody else.
            Trust::Neighbour(_) => pooled(&self.inner.connector, &self.inner.tls, trust),
        }
    }

    async fn one(
        &self,
        pool: &Pooled,
        method: &Method,
        url: &Url,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<(http::Response<hyper::body::Incoming>, Option<IpAddr>), HttpError> {
        let host = host_of(url);
        let uri: Uri = url
            .as_str()
            .parse()
            .map_err(|_| HttpError::BadUrl(shown_url(url.as_str())))?;
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        request
            .headers_mut()
            .entry(USER_AGENT)
            .or_insert(HeaderValue::from_static(concat!(
                "swarm-peer/",
                env!("CARGO_PKG_VERSION")
            )));
        let sent = pool.request(request);
        let response = sent.await.map_err(|error| explain(host, &error))?;
        let remote = response.extensions().get::<Remote>().map(|r| r.0.ip());
        Ok((response, remote))
    }
}

impl std::fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpClient")
            .field("policy", self.policy())
            .finish_non_exhaustive()
    }
}

/// TLS as all fetches speak it, but for whom it trusts.
fn tls() -> Result<ConfigBuilder<rustls::ClientConfig, WantsVerifier>, HttpError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(HttpError::Tls)
}

/// Adds a `Host` header, for a server that is dialled by address and answers for several names.
pub fn host_header(host: &str) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    headers.insert(HOST, HeaderValue::from_str(host).ok()?);
    Some(headers)
}

fn octets() -> HeaderMap {
    let mut headers = HeaderMap::new();
    let value = HeaderValue::from_static("application/octet-stream");
    headers.insert(CONTENT_TYPE, value);
    headers
}

fn parse(url: &str) -> Result<Url, HttpError> {
    let bad = || HttpError::BadUrl(shown_url(url));
    let mut parsed = Url::parse(url).map_err(|_| bad())?;
    parsed.set_fragment(None);
    // Credentials in a URL would be sent on, and end up in logs.
    let anonymous = parsed.username().is_empty() && parsed.password().is_none();
    let web = matches!(parsed.scheme(), "http" | "https") && parsed.host().is_some();
    if web && anonymous {
        Ok(parsed)
    } else {
        Err(bad())
    }
}

/// Host and port only: a URL's path and query may hold what logs should not.
fn host_of(url: &Url) -> String {
    match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (Some(host), None) => host.to_owned(),
        (None, _) => String::new(),
    }
}

async fn collect(
    mut body: hyper::body::Incoming,
    cap: usize,
    host: &str,
) -> Result<Bytes, HttpError> {
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| HttpError::Exchange {
            host: host.to_owned(),
            reason: chain(&error),
        })?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if data.len() > cap.saturating_sub(all.len()) {
            let host = host.to_owned();
            return Err(HttpError::TooLarge { host, cap });
        }
        all.extend_from_slice(&data);
    }
    Ok(all.freeze())
}

/// Finds our own [`ConnectError`] in the client's chain, for a better message than its own.
fn explain(host: String, error: &hyper_util::client::legacy::Error) -> HttpError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(current) = cause {
        if let Some(shared) = current.downcast_ref::<SharedError>() {
            return HttpError::Connect(shared.again());
        }
        cause = current.source();
    }
    HttpError::Exchange {
        host,
        reason: chain(error),
    }
}

/// The causes of an error in one line.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(current) = cause {
        let next = current.to_string();
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = current.source();
    }
    text
}

fn pooled(connector: &Connector, tls: &Arc<rustls::ClientConfig>, trust: Trust) -> Pooled {
    let vetted = Vetted {
        connector: connector.clone(),
        trust,
    };
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(Duration::from_secs(30))
        .pool_max_idle_per_host(IDLE_PER_HOST_MAX)
        .http1_max_headers(100)
        .build(HttpsConnector::from((vetted, Arc::clone(tls))))
}

/// The [`Connector`] as the client wants it.
#[derive(Clone)]
struct Vetted {
    connector: Connector,
    trust: Trust,
}

/// The address a response came from.
#[derive(Clone, Copy)]
struct Remote(SocketAddr);

#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct SharedError(ConnectError);

impl SharedError {
    fn again(&self) -> ConnectError {
        let same = |error: &std::io::Error| std::io::Error::new(error.kind(), error.to_string());
        match &self.0 {
            ConnectError::Refused(ip) => ConnectError::Refused(*ip),
            ConnectError::TimedOut(addr) => ConnectError::TimedOut(*addr),
            ConnectError::Family { host } => ConnectError::Family { host: host.clone() },
            ConnectError::Resolve { host, source } => ConnectError::Resolve {
                host: host.clone(),
                source: same(source),
            },
            ConnectError::Io { addr, source } => ConnectError::Io {
                addr: *addr,
                source: same(source),
            },
        }
    }
}

impl Service<Uri> for Vetted {
    type Response = Wire;
    type Error = SharedError;
    type Future = Pin<Box<dyn Future<Output = Result<Wire, SharedError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), SharedError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let host = uri.host().unwrap_or_default().to_owned();
            let default_port = if uri.scheme_str() == Some("https") {
                443
            } else {
                80
            };
            let port = uri.port_u16().unwrap_or(default_port);
            let (stream, addr) = this
                .connector
                .dial_host(&host, port, this.trust)
                .await
                .map_err(SharedError)?;
            let stream = TokioIo::new(stream);
            Ok(Wire { stream, addr })
        })
    }
}

/// A TCP stream that remembers whom it was dialled to.
struct Wire {
    stream: TokioIo<TcpStream>,
    addr: SocketAddr,
}

impl Connection for Wire {
    fn connected(&self) -> Connected {
        Connected::new().extra(Remote(self.addr))
    }
}

impl Read for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl Write for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
