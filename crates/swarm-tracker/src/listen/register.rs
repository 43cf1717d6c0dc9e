//! Records, alarms, the list of sites in need, and who serves them (spec 0006).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, StatusCode};
use swarm_proto::limits::{ENVELOPE_LEN_MAX, SITE_RECORD_LEN_MAX};
use swarm_proto::manifest::{SiteName, TrustError};
use swarm_proto::tracker::BridgesReply;

use super::http::{Reply, bencoded, empty, not_allowed, set, text, with_type};
use crate::app::{AlarmRefused, App, RegisterRefused};

/// `POST /swarm/alarm`.
pub(super) async fn alarm(app: &Arc<App>, request: Request<Incoming>) -> Reply {
    if request.method() != Method::POST {
        return not_allowed("POST");
    }
    let body = match body(app, request, ENVELOPE_LEN_MAX).await {
        Ok(body) => body,
        Err(refused) => return refused,
    };
    match app.alarm(body) {
        Ok(()) => empty(StatusCode::NO_CONTENT),
        Err(refused) => {
            let status = match &refused {
                AlarmRefused::UnknownSite(_) => StatusCode::FORBIDDEN,
                AlarmRefused::NoRecord(_) | AlarmRefused::Superseded(_) => StatusCode::CONFLICT,
                AlarmRefused::TooLong => StatusCode::PAYLOAD_TOO_LARGE,
                AlarmRefused::Trust(error) => trust_status(error),
            };
            line(status, &refused)
        }
    }
}

/// `PUT /swarm/site`.
pub(super) async fn put_site(app: &Arc<App>, request: Request<Incoming>) -> Reply {
    if request.method() != Method::PUT {
        return not_allowed("PUT");
    }
    let Ok(_slot) = app.uploads.try_acquire() else {
        let mut reply = text(StatusCode::SERVICE_UNAVAILABLE, "too many uploads\n");
        let seconds = HeaderValue::from_static("5");
        set(&mut reply, header::RETRY_AFTER, seconds);
        return reply;
    };
    let body = match body(app, request, SITE_RECORD_LEN_MAX).await {
        Ok(body) => body,
        Err(refused) => return refused,
    };
    match app.register(body).await {
        Ok(()) => empty(StatusCode::NO_CONTENT),
        Err(refused) => {
            let status = match &refused {
                RegisterRefused::UnknownSite(_) => StatusCode::FORBIDDEN,
                RegisterRefused::BundleTaken(_) => StatusCode::CONFLICT,
                RegisterRefused::TooLong => StatusCode::PAYLOAD_TOO_LARGE,
                RegisterRefused::Trust(error) => trust_status(error),
                RegisterRefused::State(_) => StatusCode::INTERNAL_SERVER_ERROR,
            };
            line(status, &refused)
        }
    }
}

/// `GET /swarm/site/<site>`.
pub(super) fn get_site<B>(app: &App, request: &Request<B>, site: &str) -> Reply {
    lookup(request, || {
        let Some(site) = site_name(site) else {
            return text(StatusCode::BAD_REQUEST, "no site name\n");
        };
        match app.registry().record(&site) {
            Some(record) => with_type(StatusCode::OK, "application/octet-stream", record),
            None => text(StatusCode::NOT_FOUND, "site has no record here\n"),
        }
    })
}

/// `GET /swarm/sites`.
pub(super) async fn sites<B>(app: &App, request: &Request<B>) -> Reply {
    if let Some(reply) = preflight(request) {
        return reply;
    }
    let (mut since, mut wait) = (None, 0);
    for (key, value) in query(request) {
        let number = value.parse::<u64>();
        match (&*key, number) {
            ("since", Ok(number)) => since = Some(number),
            ("wait", Ok(number)) => wait = number,
            ("since" | "wait", Err(_)) => {
                let why = "since and wait must be numbers\n";
                return open(text(StatusCode::BAD_REQUEST, why));
            }
            _ => {}
        }
    }
    let reply = app.sites(since, Duration::from_secs(wait)).await;
    open(bencoded(reply.to_bytes()))
}

/// `GET /swarm/bridges?site=`.
pub(super) fn bridges<B>(app: &App, source: IpAddr, request: &Request<B>) -> Reply {
    lookup(request, || {
        let site = query(request).find(|(key, _)| key == "site");
        let Some(site) = site.and_then(|(_, site)| SiteName::parse(&site).ok()) else {
            return text(StatusCode::BAD_REQUEST, "site is missing or no site name\n");
        };
        let bridges = app.bridges(&site, source);
        bencoded(BridgesReply { bridges }.to_bytes())
    })
}

/// A question that any page may ask (CORS): nothing secret is in the answer.
fn lookup<B>(request: &Request<B>, answer: impl FnOnce() -> Reply) -> Reply {
    preflight(request).unwrap_or_else(|| open(answer()))
}

/// What is answered to anything but GET and HEAD.
pub(super) fn preflight<B>(request: &Request<B>) -> Option<Reply> {
    match *request.method() {
        Method::GET | Method::HEAD => None,
        Method::OPTIONS => {
            let mut reply = open(empty(StatusCode::NO_CONTENT));
            for (name, value) in [
                (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD"),
                (header::ACCESS_CONTROL_MAX_AGE, "3600"),
            ] {
                set(&mut reply, name, HeaderValue::from_static(value));
            }
            Some(reply)
        }
        _ => Some(not_allowed("GET, HEAD, OPTIONS")),
    }
}

/// Lets any page read an answer.
pub(super) fn open(mut reply: Reply) -> Reply {
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        set(&mut reply, name, HeaderValue::from_static(value));
    }
    reply
}

/// Keys and values of the query, decoded.
pub(super) fn query<B>(request: &Request<B>) -> impl Iterator<Item = (String, String)> + '_ {
    let query = request.uri().query().unwrap_or_default();
    url::form_urlencoded::parse(query.as_bytes())
        .map(|(key, value)| (key.into_owned(), value.into_owned()))
}

/// A site name as a path component, percent-encoded or not.
fn site_name(component: &str) -> Option<SiteName> {
    // The form's decoder also turns `+` into a space, which no site name has.
    let (name, _) = url::form_urlencoded::parse(component.as_bytes()).next()?;
    SiteName::parse(&name).ok()
}

fn trust_status(error: &TrustError) -> StatusCode {
    match error {
        TrustError::Malformed(_) | TrustError::WrongType { .. } => StatusCode::BAD_REQUEST,
        TrustError::Rollback { .. } | TrustError::Equivocation { .. } => StatusCode::CONFLICT,
        _ => StatusCode::FORBIDDEN,
    }
}

/// One line that says why, with what is behind it.
fn line(status: StatusCode, error: &(dyn std::error::Error + 'static)) -> Reply {
    let mut line = swarm_peer::http::chain(error).replace(['\r', '\n'], " ");
    line.push('\n');
    text(status, line)
}

/// Reads a body, bounded in length and time.
async fn body(app: &App, request: Request<Incoming>, len_max: usize) -> Result<Bytes, Reply> {
    let too_long = || text(StatusCode::PAYLOAD_TOO_LARGE, "body is too long\n");
    if request.body().size_hint().lower() > len_max as u64 {
        return Err(too_long());
    }
    let whole = Limited::new(request.into_body(), len_max).collect();
    match tokio::time::timeout(app.connections.body_timeout, whole).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_long()),
        Ok(Err(_)) => Err(text(StatusCode::BAD_REQUEST, "body is cut off\n")),
        Err(_) => Err(text(StatusCode::REQUEST_TIMEOUT, "body took too long\n")),
    }
}
