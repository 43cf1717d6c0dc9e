//! Which request is answered by whom; announce and scrape themselves (spec 0005).

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri};
use swarm_proto::tracker::http as codec;
use swarm_proto::tracker::register::{
    ALARM_PATH, BRIDGES_PATH, LOOKUP_PATH, REDIRECT_PATH, SITE_PATH, SITES_PATH,
};

use super::page::html;
use super::{Link, lookup, proxy, redirect, register, status, ws};
use crate::acme::CHALLENGE_PATH;
use crate::app::App;
use crate::registry::{AnnounceRefused, Via};

/// Every answer is made in memory and bounded by what it is made of.
pub(super) type Reply = Response<Full<Bytes>>;

/// Answers one request of the client at `source`.
pub(super) async fn answer(
    app: Arc<App>,
    source: IpAddr,
    request: Request<Incoming>,
    link: Arc<Link>,
) -> Result<Reply, Infallible> {
    let source = match proxy::source_of(&app.proxies, source, request.headers()) {
        Ok(source) => source,
        Err(bad) => {
            app.metrics.proxies_refused.add();
            return Ok(text(StatusCode::BAD_REQUEST, format!("{bad}\n")));
        }
    };
    let path = request.uri().path();
    if let Some(reply) = challenge(&app, &request) {
        return Ok(reply);
    }
    if !is_for_tracker(request.uri())
        && let Some(site) = redirect::named_site(&request)
        && app.carries(&site, source).await
    {
        return Ok(redirect::hosted(&app, source, site, &request));
    }
    if matches!(path, "/" | "/announce") && ws::is_asked_for(&request) {
        return Ok(ws::upgrade(&app, source, request, &link));
    }
    let reply = match path {
        "/announce" => get(&request, |query| {
            told(announce(&app, source, host(&request), query))
        }),
        "/scrape" => get(&request, |query| told(scrape(&app, source, query))),
        // Whoever was sent here with the name of a site is told that nothing of it is here.
        "/" if is_for_site(&app, &request) => nothing(),
        "/" => get(&request, |query| status::page(&app, query)),
        "/status.css" => get(&request, |_| status::style()),
        "/status.js" => get(&request, |_| status::script()),
        "/api/v1/status" => get(&request, |_| status::json(&app)),
        "/healthz" => get(&request, |_| text(StatusCode::OK, "ok\n")),
        "/readyz" => get(&request, |_| status::ready(&app)),
        "/metrics" => get(&request, |_| status::metrics(&app)),
        LOOKUP_PATH => lookup::lookup(&app, source, &request),
        "/robots.txt" => get(&request, |_| {
            text(StatusCode::OK, "User-agent: *\nDisallow: /\n")
        }),
        ALARM_PATH => register::alarm(&app, request).await,
        SITE_PATH => register::put_site(&app, request).await,
        SITES_PATH => register::sites(&app, &request).await,
        BRIDGES_PATH => register::bridges(&app, source, &request),
        _ => {
            let below = |base: &str| path.strip_prefix(base)?.strip_prefix('/');
            if let Some(site) = below(SITE_PATH) {
                register::get_site(&app, &request, site)
            } else if below(REDIRECT_PATH).is_some() {
                if let Some(site) = redirect::linked_site(&request) {
                    // A site that is carried from now on is known below.
                    app.carries(&site, source).await;
                }
                redirect::linked(&app, source, &request)
            } else {
                nothing()
            }
        }
    };
    Ok(reply)
}

/// What a certificate authority looks for at a name that leads here, while it may look. What is
/// not there now is whoever's it was.
fn challenge<B>(app: &App, request: &Request<B>) -> Option<Reply> {
    let token = request.uri().path().strip_prefix(CHALLENGE_PATH)?;
    let file = app.certificates.as_ref()?.challenges.file(token)?;
    Some(get(request, |_| {
        with_type(StatusCode::OK, "application/octet-stream", file)
    }))
}

/// Whether a request is a peer's, whatever name it was sent to: a site's own name may be its
/// tracker's as well, and no manifest lists a page with a query.
fn is_for_tracker(uri: &Uri) -> bool {
    matches!(uri.path(), "/announce" | "/scrape")
        && uri
            .query()
            .is_some_and(|query| query.contains("info_hash="))
}

/// Whether a request bears a name that is not ours, where sites can have theirs lead here.
fn is_for_site<B>(app: &App, request: &Request<B>) -> bool {
    let operator = app.operator.get();
    let named = redirect::named_site(request);
    operator
        .zip(named)
        .is_some_and(|(operator, name)| !operator.is_own_name(&name))
}

/// What there is at any other path, for whoever was sent here with the name of a site.
fn nothing() -> Reply {
    html(
        StatusCode::NOT_FOUND,
        "No such page",
        "<p>This is a tracker of Spikeswarm. If you were looking for a site: it has neither \
         registered here nor agreed to be served from here, so nothing of it is held.</p>",
    )
}

/// Answers GET and HEAD (hyper leaves out the body), refuses the rest.
fn get<B>(request: &Request<B>, answer: impl FnOnce(&str) -> Reply) -> Reply {
    match *request.method() {
        Method::GET | Method::HEAD => answer(request.uri().query().unwrap_or_default()),
        _ => not_allowed("GET, HEAD"),
    }
}

/// The host by which the client knows us, as it names it.
fn host<B>(request: &Request<B>) -> Option<&str> {
    match request.uri().authority() {
        Some(authority) => Some(authority.as_str()),
        None => request.headers().get(header::HOST)?.to_str().ok(),
    }
}

/// Answers the query of an announce: status, and body in bencode. A refused one is 200 as well:
/// many clients read the reason only then. `host` is how the client names us.
pub(super) fn announce(
    app: &App,
    source: IpAddr,
    host: Option<&str>,
    query: &str,
) -> (StatusCode, Vec<u8>) {
    let now = app.now();
    if !app.may_ask(now, source, 1) {
        return too_many();
    }
    let outcome = match codec::parse_announce(query) {
        Ok(request) => app
            .registry()
            .announce(now, source, &request, Via::Http(host))
            .map(|reply| codec::encode_reply(&reply, request.compact))
            .map_err(|error| (error.to_string(), error == AnnounceRefused::Withdrawn)),
        Err(error) => Err((error.to_string(), false)),
    };
    match outcome {
        Ok(body) => {
            app.metrics.announces.add();
            (StatusCode::OK, body)
        }
        Err((reason, for_good)) => {
            app.metrics.announces_refused.add();
            // 410 is what makes clients stop asking (T16).
            let status = match for_good {
                true => StatusCode::GONE,
                false => StatusCode::OK,
            };
            (status, codec::encode_failure(&reason))
        }
    }
}

/// Answers the query of a scrape, as [`announce`] does.
pub(super) fn scrape(app: &App, source: IpAddr, query: &str) -> (StatusCode, Vec<u8>) {
    let request = match codec::parse_scrape(query) {
        Ok(request) => request,
        Err(error) => return (StatusCode::OK, codec::encode_failure(&error.to_string())),
    };
    let cost = App::scrape_cost(request.swarm_ids.len());
    if !app.may_ask(app.now(), source, cost) {
        return too_many();
    }
    app.metrics.scrapes.add();
    let reply = app.registry().scrape(&request);
    (StatusCode::OK, codec::encode_scrape_reply(&reply))
}

fn too_many() -> (StatusCode, Vec<u8>) {
    let reason = "too many requests from your network";
    (StatusCode::OK, codec::encode_failure(reason))
}

fn told((status, body): (StatusCode, Vec<u8>)) -> Reply {
    let mut reply = bencoded(body);
    *reply.status_mut() = status;
    reply
}

/// A reply of tracker or register.
pub(super) fn bencoded(body: Vec<u8>) -> Reply {
    with_type(StatusCode::OK, "text/plain", body)
}

/// A line of text.
pub(super) fn text(status: StatusCode, body: impl Into<Bytes>) -> Reply {
    with_type(status, "text/plain; charset=utf-8", body)
}

/// Any body.
pub(super) fn with_type(
    status: StatusCode,
    media_type: &'static str,
    body: impl Into<Bytes>,
) -> Reply {
    let mut reply = Response::new(Full::new(body.into()));
    *reply.status_mut() = status;
    let media_type = HeaderValue::from_static(media_type);
    set(&mut reply, header::CONTENT_TYPE, media_type);
    reply
}

/// No body at all.
pub(super) fn empty(status: StatusCode) -> Reply {
    let mut reply = Reply::default();
    *reply.status_mut() = status;
    reply
}

/// 405 with the methods that would do.
pub(super) fn not_allowed(methods: &'static str) -> Reply {
    let mut reply = text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n");
    let methods = HeaderValue::from_static(methods);
    set(&mut reply, header::ALLOW, methods);
    reply
}

/// Sets a header field.
pub(super) fn set(reply: &mut Reply, name: HeaderName, value: HeaderValue) {
    reply.headers_mut().insert(name, value);
}
