//! The reverse proxy: one request to the origin, its answer back, both streaming.
//!
//! `Host` stays as it came. There is no cache, and no retry of anything that could have had an
//! effect: only a `GET` or `HEAD` whose pooled connection broke is asked once more.

pub mod body;
pub mod check;
pub mod framing;
pub mod headers;

use std::net::IpAddr;
use std::time::Duration;

use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::copy_bidirectional;
use url::Url;

use crate::facts::strip_marker;
use body::{AnyBody, Patient};

/// The origin, and how patient the gate is with it.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// `http://host:port`; a path is put before every request's own.
    pub origin: Url,
    /// To a connection.
    pub connect_timeout: Duration,
    /// From the request to the answer's head.
    pub head_timeout: Duration,
    /// Between two parts of a body, in either direction.
    pub idle_timeout: Duration,
    /// Idle connections kept.
    pub idle_max: usize,
    /// Whether another proxy of the operator's stands before the gate.
    pub trust_forwarded: bool,
}

/// Why there is no answer of the origin's.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// The origin refuses connections, breaks them, or answers rubbish.
    #[error("origin does not answer")]
    Unreachable(#[source] hyper_util::client::legacy::Error),
    /// The origin took too long.
    #[error("origin did not answer within {0:?}")]
    TimedOut(Duration),
    /// The request cannot be put into words for the origin.
    #[error("request cannot be passed on")]
    Unspeakable(#[source] http::Error),
}

impl ProxyError {
    /// What the visitor is told.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Unreachable(_) => StatusCode::BAD_GATEWAY,
            Self::TimedOut(_) => StatusCode::GATEWAY_TIMEOUT,
            Self::Unspeakable(_) => StatusCode::BAD_REQUEST,
        }
    }
}

/// The reverse proxy.
#[derive(Debug, Clone)]
pub struct Proxy {
    client: Client<HttpsConnector<HttpConnector>, AnyBody>,
    upstream: Upstream,
    scheme: Scheme,
    authority: Authority,
    prefix: String,
}

/// What becomes of the visitor's side.
#[derive(Debug, Clone, Copy)]
pub struct Visitor {
    /// Where the visitor calls from.
    pub ip: IpAddr,
    /// Whether visitors come by https.
    pub secure: bool,
}

impl Proxy {
    /// A proxy to `upstream`.
    ///
    /// # Errors
    /// One line: the origin is no plain http or https URL.
    pub fn new(upstream: Upstream) -> Result<Self, String> {
        let origin = &upstream.origin;
        let wrong = || format!("{origin} is no origin: write http://HOST:PORT");
        let scheme = match origin.scheme() {
            "http" => Scheme::HTTP,
            "https" => Scheme::HTTPS,
            _ => return Err(wrong()),
        };
        let plain = origin.username().is_empty()
            && origin.password().is_none()
            && origin.query().is_none()
            && origin.fragment().is_none();
        let host = origin.host_str().filter(|_| plain).ok_or_else(wrong)?;
        let authority = match origin.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        let mut http = HttpConnector::new();
        http.set_connect_timeout(Some(upstream.connect_timeout));
        http.set_nodelay(true);
        http.enforce_http(false);
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_webpki_roots()
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(upstream.idle_max)
            .build(connector);
        Ok(Self {
            client,
            scheme,
            authority: authority.parse().map_err(|_| wrong())?,
            prefix: origin.path().trim_end_matches('/').to_owned(),
            upstream,
        })
    }

    /// Passes a checked request on. `plain`: the answer is to be uncompressed, since it may be
    /// rewritten.
    ///
    /// # Errors
    /// [`ProxyError`]: there is no answer.
    pub async fn pass(
        &self,
        mut parts: Parts,
        body: Incoming,
        visitor: Visitor,
        plain: bool,
    ) -> Result<Response<AnyBody>, ProxyError> {
        let tunnel = wants_tunnel(&parts)
            .then(|| parts.extensions.remove::<OnUpgrade>())
            .flatten();
        // A pooled connection may close just as it is used. What has no effect is asked again.
        let again = (matches!(parts.method, Method::GET | Method::HEAD)
            && body.is_end_stream()
            && tunnel.is_none())
        .then(|| parts.clone());
        let body = Patient::new(body, self.upstream.idle_timeout).boxed_unsync();
        let request = self.request(parts, body, visitor, plain, tunnel.is_some())?;
        let mut answered = self.ask(request).await;
        if let (Err(ProxyError::Unreachable(error)), Some(parts)) = (&answered, again)
            && !error.is_connect()
        {
            let request = self.request(parts, body::empty(), visitor, plain, false)?;
            answered = self.ask(request).await;
        }
        let mut response = answered?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let Some(visitor) = tunnel else {
                // Nobody asked for this.
                let mut refused = Response::new(body::empty());
                *refused.status_mut() = StatusCode::BAD_GATEWAY;
                return Ok(refused);
            };
            let origin = hyper::upgrade::on(&mut response);
            tokio::spawn(join(visitor, origin));
            return Ok(response.map(|_| body::empty()));
        }
        let (mut parts, body) = response.into_parts();
        headers::strip_hop_by_hop(&mut parts.headers);
        let body = Patient::new(body, self.upstream.idle_timeout).boxed_unsync();
        Ok(Response::from_parts(parts, body))
    }

    async fn ask(&self, request: Request<AnyBody>) -> Result<Response<Incoming>, ProxyError> {
        let patience = self.upstream.head_timeout;
        match tokio::time::timeout(patience, self.client.request(request)).await {
            Ok(answer) => answer.map_err(ProxyError::Unreachable),
            Err(_) => Err(ProxyError::TimedOut(patience)),
        }
    }

    fn request(
        &self,
        mut parts: Parts,
        body: AnyBody,
        visitor: Visitor,
        plain: bool,
        tunnel: bool,
    ) -> Result<Request<AnyBody>, ProxyError> {
        parts.uri = self.target(&parts.uri)?;
        let upgrade = parts.headers.get(header::UPGRADE).cloned();
        headers::strip_hop_by_hop(&mut parts.headers);
        if let Some(upgrade) = upgrade.filter(|_| tunnel) {
            parts.headers.insert(header::UPGRADE, upgrade);
            parts
                .headers
                .insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        }
        // The gate's own server has answered it; the origin needs no second question.
        parts.headers.remove(header::EXPECT);
        if plain {
            parts.headers.insert(
                header::ACCEPT_ENCODING,
                HeaderValue::from_static("identity"),
            );
        }
        let proto = if visitor.secure { "https" } else { "http" };
        headers::set_forwarded(
            &mut parts.headers,
            visitor.ip,
            proto,
            self.upstream.trust_forwarded,
        );
        let mut request = Request::builder().method(parts.method).uri(parts.uri);
        if let Some(headers) = request.headers_mut() {
            *headers = parts.headers;
        }
        request.body(body).map_err(ProxyError::Unspeakable)
    }

    /// The same target at the origin, without the loop marker.
    fn target(&self, uri: &Uri) -> Result<Uri, ProxyError> {
        let path = uri.path();
        let mut target = if path == "*" {
            String::new()
        } else {
            self.prefix.clone()
        };
        target.push_str(path);
        if let Some(query) = uri.query().and_then(strip_marker) {
            target.push('?');
            target.push_str(&query);
        }
        let target =
            PathAndQuery::try_from(target).map_err(|e| ProxyError::Unspeakable(e.into()))?;
        Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(target)
            .build()
            .map_err(ProxyError::Unspeakable)
    }
}

/// Only WebSocket is tunnelled; any other protocol's `Upgrade` is dropped, and the request goes
/// on without it.
fn wants_tunnel(parts: &Parts) -> bool {
    let is = |name, word: &str| {
        parts
            .headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|token| token.trim().eq_ignore_ascii_case(word))
    };
    parts.method == Method::GET
        && is(header::UPGRADE, "websocket")
        && is(header::CONNECTION, "upgrade")
}

async fn join(visitor: OnUpgrade, origin: OnUpgrade) {
    let Ok((visitor, origin)) = tokio::try_join!(visitor, origin) else {
        return;
    };
    let (mut visitor, mut origin) = (TokioIo::new(visitor), TokioIo::new(origin));
    // A broken tunnel has nobody left to be told.
    let _ = copy_bidirectional(&mut visitor, &mut origin).await;
}
