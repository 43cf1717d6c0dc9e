//! A visitor in, 302 to a volunteer's bridge or to the site itself out (spec 0006, 5).
//!
//! He comes by `/r/<url>`, or with the name of a site as his `Host`: then the site has sent
//! everything here.

use std::net::IpAddr;

use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, StatusCode};
use swarm_proto::manifest::SiteName;

use super::http::{Reply, empty, not_allowed, set, text};
use super::page::html;
use super::target::{self, Target};
use crate::app::App;
use crate::registry::Route;

/// What a page asks for to run or apply it (`Sec-Fetch-Dest`). That is fetched at home: a
/// stranger's bytes would act in the page's own origin.
const CODE_DESTINATIONS: [&str; 12] = [
    "audioworklet",
    "embed",
    "json",
    "manifest",
    "object",
    "paintworklet",
    "script",
    "serviceworker",
    "sharedworker",
    "style",
    "worker",
    "xslt",
];

/// Seconds after which a visitor whom nobody can serve may ask again: about as long as it takes a
/// volunteer to fetch a bundle.
const RETRY_SECS: &str = "60";

/// Answers `/r/<url>`.
pub(super) fn linked<B>(app: &App, source: IpAddr, request: &Request<B>) -> Reply {
    let uri = request.uri();
    match target::parse(uri.path(), uri.query()) {
        Ok(target) => send(app, source, request, &target, false),
        Err(_) => {
            app.metrics.redirects_refused.add();
            html(
                StatusCode::NOT_FOUND,
                "No such page",
                "<p>What follows <code>/r/</code> is not the address of a page of a site.</p>",
            )
        }
    }
}

/// The site whose public name a request bears, if it is one: everything at that name is the
/// site's.
pub(super) fn named_site<B>(request: &Request<B>) -> Option<SiteName> {
    let authority = match request.uri().authority() {
        // What an absolute target says goes before `Host` (RFC 9112, 3.2.2).
        Some(authority) => authority.as_str(),
        None => {
            let mut hosts = request.headers().get_all(header::HOST).iter();
            let host = hosts.next()?.to_str().ok()?;
            // Two of them are a riddle with two answers (T45).
            if hosts.next().is_some() {
                return None;
            }
            host
        }
    };
    // Which of the two is the usual one depends on a scheme that only a proxy in front knows.
    let usual = [":80", ":443"];
    let host = usual.iter().find_map(|port| authority.strip_suffix(port));
    SiteName::parse(host.unwrap_or(authority)).ok()
}

/// The site that `/r/<url>` leads to.
pub(super) fn linked_site<B>(request: &Request<B>) -> Option<SiteName> {
    let uri = request.uri();
    let target = target::parse(uri.path(), uri.query());
    target.ok().map(|target| target.site)
}

/// Answers a request at a site's own name.
pub(super) fn hosted<B>(app: &App, source: IpAddr, site: SiteName, request: &Request<B>) -> Reply {
    let uri = request.uri();
    if !uri.path().starts_with('/') {
        // `OPTIONS *` asks for nothing of the site's, CONNECT for what is not to be had.
        return match *request.method() {
            Method::OPTIONS => empty(StatusCode::NO_CONTENT),
            _ => not_allowed("GET, HEAD"),
        };
    }
    let target = Target::hosted(site, uri.path(), uri.query());
    send(app, source, request, &target, true)
}

fn send<B>(
    app: &App,
    source: IpAddr,
    request: &Request<B>,
    target: &Target,
    hosted: bool,
) -> Reply {
    let metrics = &app.metrics;
    let reads = match *request.method() {
        Method::GET | Method::HEAD => true,
        Method::CONNECT | Method::TRACE => return not_allowed("GET, HEAD"),
        _ => false,
    };
    let now = app.now();
    if !app.may_ask(now, source, 1) {
        let mut reply = text(
            StatusCode::TOO_MANY_REQUESTS,
            "too many requests from your network\n",
        );
        set(
            &mut reply,
            header::RETRY_AFTER,
            HeaderValue::from_static("1"),
        );
        return reply;
    }
    if hosted && target.bounces() > 1 {
        metrics.redirects_looped.add();
        return html(
            StatusCode::LOOP_DETECTED,
            "Sent in circles",
            "<p>This site's visitors are sent to this tracker, which sends home whoever no \
             volunteer can serve; and the address it knows for home sends them back here.</p>",
        );
    }
    let elsewhere = reads && !target.has_query() && !stays_home(request);
    let path = target.path.as_ref().filter(|_| elsewhere);
    let route = app.registry().route(now, &target.site, path, source);
    // What no site can publish is asked for by programs: volunteers look for keys there.
    if reads
        && target.path.is_some()
        && let Some(operator) = app.operator.get()
    {
        let missing = target.path.as_ref().filter(|path| {
            let found = matches!(route, Route::Bridge { .. });
            !found && !target.asks() && !app.registry().has(&target.site, path)
        });
        operator.visited(now, &target.site, missing, hosted);
    }
    if let Route::Bridge {
        bridge,
        others,
        path,
    } = &route
    {
        metrics.redirects_bridge.add();
        let mut reply = found(StatusCode::FOUND, &bridge.url_for(&target.site, path));
        let others = others.iter().map(|other| other.url_for(&target.site, path));
        if let Some(links) = links(others) {
            set(&mut reply, header::LINK, links);
        }
        return reply;
    }
    // A form is sent on as it is: a 302 would make a GET of it.
    let status = match reads {
        true => StatusCode::FOUND,
        false => StatusCode::TEMPORARY_REDIRECT,
    };
    let home = match (app.home(&target.site), &route) {
        (Some(home), _) => Some(target.below(home.base(), 2)),
        // The public name leads here: it is no way home.
        (None, _) if hosted => None,
        (None, Route::Home(signed)) => Some(target.at_public_name(signed.as_deref())),
        (None, _) => None,
    };
    match (home, route) {
        (Some(url), _) => {
            metrics.redirects_home.add();
            found(status, &url)
        }
        (None, Route::UnknownSite) => {
            metrics.redirects_refused.add();
            html(
                StatusCode::NOT_FOUND,
                "Unknown site",
                "<p>This tracker only sends visitors on to sites that have registered with it, \
                 and the one asked for has not. It may be in the best of health.</p>",
            )
        }
        (None, Route::NoManifest) if !hosted => {
            metrics.redirects_refused.add();
            html(
                StatusCode::NOT_FOUND,
                "Nothing published",
                "<p>This tracker knows the site, but the site has not told it which pages \
                 volunteers may serve. It may be in the best of health.</p>",
            )
        }
        (None, Route::NoManifest) => {
            metrics.redirects_nowhere.add();
            unavailable(
                "<p>This site sends its visitors to this tracker, but has published nothing that \
                 volunteers could serve, and has not said where else it can be reached.</p>",
            )
        }
        (None, _) => {
            metrics.redirects_nowhere.add();
            unavailable(
                "<p>This site sends its visitors to volunteers who hold copies of it. None of them \
                 can serve this page just now, and this tracker was not told where the site itself \
                 can be reached.</p><p>It is worth trying again in a minute.</p>",
            )
        }
    }
}

fn unavailable(why: &str) -> Reply {
    let mut reply = html(
        StatusCode::SERVICE_UNAVAILABLE,
        "Not to be had just now",
        why,
    );
    let seconds = HeaderValue::from_static(RETRY_SECS);
    set(&mut reply, header::RETRY_AFTER, seconds);
    reply
}

/// Whether the answer is for the eyes of the site alone, or would run.
fn stays_home<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    headers.contains_key(header::AUTHORIZATION)
        || headers.get_all("sec-fetch-dest").iter().any(|destination| {
            let destination = destination.as_bytes();
            let mut known = CODE_DESTINATIONS.iter();
            known.any(|code| destination.eq_ignore_ascii_case(code.as_bytes()))
        })
}

fn found(status: StatusCode, url: &str) -> Reply {
    let Ok(location) = HeaderValue::from_str(url) else {
        // Sites, addresses and re-encoded paths are ASCII without control characters.
        return empty(StatusCode::INTERNAL_SERVER_ERROR);
    };
    let mut reply = empty(status);
    set(&mut reply, header::LOCATION, location);
    for (name, value) in [
        // Fonts, and fetches of a page's own, follow no other redirect.
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        set(&mut reply, name, HeaderValue::from_static(value));
    }
    reply
}

/// Where else the same bytes are (RFC 8288, RFC 6249).
fn links(urls: impl Iterator<Item = String>) -> Option<HeaderValue> {
    let links: Vec<String> = urls
        .enumerate()
        .map(|(at, url)| format!("<{url}>; rel=\"duplicate\"; pri={}", at + 1))
        .collect();
    match links.is_empty() {
        true => None,
        false => HeaderValue::from_str(&links.join(", ")).ok(),
    }
}

#[cfg(test)]
mod tests;
