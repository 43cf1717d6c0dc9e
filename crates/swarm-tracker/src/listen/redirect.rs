//! `GET /r/<url>`: a visitor in, 302 to a volunteer's bridge or to the site itself out
//! (spec 0006, 5).
//!
//! Nothing of the visitor's URL is copied into `Location`: the site must be one we know, its
//! path goes through [`SitePath`] and is encoded anew, and so is its query (T48).

use std::net::IpAddr;

use hyper::header::{self, HeaderValue};
use hyper::{StatusCode, Uri};
use swarm_proto::limits::URL_LEN_MAX;
use swarm_proto::manifest::{SiteName, SitePath};
use swarm_proto::tracker::register::{HOME_MARKER, REDIRECT_PATH};

use super::http::{Reply, empty, set};
use super::status::html;
use crate::app::App;
use crate::registry::Route;

/// The page that a visitor asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Target {
    site: SiteName,
    /// `http` or `https`, where the URL said so.
    scheme: Option<&'static str>,
    path: SitePath,
    /// As it came, decoded no further; not empty.
    query: Option<String>,
}

/// The URL names no page. The fault of whoever wrote the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct NoTarget;

/// Answers a visitor.
pub(super) fn visitor(app: &App, source: IpAddr, uri: &Uri) -> Reply {
    let Ok(target) = parse(uri.path(), uri.query()) else {
        app.metrics.redirects_refused.add();
        return html(
            StatusCode::NOT_FOUND,
            "No such page",
            "<p>What follows <code>/r/</code> is not the address of a page of a site.</p>",
        );
    };
    // No manifest lists pages with a query yet: only the site itself can answer them.
    let path = target.query.is_none().then_some(&target.path);
    let route = app.registry().route(app.now(), &target.site, path, source);
    match route {
        Route::Bridge { bridge, path, .. } => {
            app.metrics.redirects_bridge.add();
            found(&bridge.url_for(&target.site, &path))
        }
        Route::Home(home) => {
            app.metrics.redirects_home.add();
            found(&target.home_url(home.as_deref()))
        }
        Route::UnknownSite | Route::NoManifest => {
            app.metrics.redirects_refused.add();
            html(
                StatusCode::NOT_FOUND,
                "Unknown site",
                "<p>This tracker only sends visitors on to sites that have registered with it, \
                 and the one asked for has not. It may be in the best of health.</p>",
            )
        }
    }
}

fn found(url: &str) -> Reply {
    let Ok(location) = HeaderValue::from_str(url) else {
        // Sites, addresses and re-encoded paths are ASCII without control characters.
        return empty(StatusCode::INTERNAL_SERVER_ERROR);
    };
    let mut reply = empty(StatusCode::FOUND);
    set(&mut reply, header::LOCATION, location);
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        set(&mut reply, name, HeaderValue::from_static(value));
    }
    reply
}

impl Target {
    /// The page at the site itself, with the mark that keeps its gate from sending the visitor
    /// away again. `home` is what the site signed; it bears the same name, so only its scheme
    /// says anything new.
    fn home_url(&self, home: Option<&str>) -> String {
        let signed = home.and_then(|home| scheme_of(home).map(|(scheme, _)| scheme));
        let scheme = signed.or(self.scheme).unwrap_or_else(|| {
            let host = self.site.host();
            let local = host == "localhost" || host.ends_with(".localhost");
            let address = host.starts_with('[') || host.parse::<IpAddr>().is_ok();
            if local || address { "http" } else { "https" }
        });
        let mut url = format!("{scheme}://{}{}?", self.site, self.path.to_url());
        for pair in self.query.iter().flat_map(|query| query.split('&')) {
            if pair != HOME_MARKER && !pair.is_empty() {
                encode_query_into(&mut url, pair);
                url.push('&');
            }
        }
        url.push_str(HOME_MARKER);
        url
    }
}

/// Takes apart what stands after `/r/`: `https://host/path`, the same percent-encoded as a
/// whole, or `host/path`.
fn parse(path: &str, query: Option<&str>) -> Result<Target, NoTarget> {
    let rest = path
        .strip_prefix(REDIRECT_PATH)
        .and_then(|rest| rest.strip_prefix('/'))
        .ok_or(NoTarget)?;
    if rest.len() > URL_LEN_MAX * 3 {
        return Err(NoTarget);
    }
    if scheme_of(rest).is_some() {
        return split(rest, query);
    }
    // Encoded as a whole, its own query has become part of the path.
    match decode(rest).filter(|url| scheme_of(url).is_some()) {
        None => split(rest, query),
        Some(url) => {
            let url = url.split('#').next().unwrap_or_default();
            match url.split_once('?') {
                None => split(url, query),
                Some((front, inner)) => split(front, Some(inner)),
            }
        }
    }
}

/// `[scheme://]authority[/path]`.
fn split(url: &str, query: Option<&str>) -> Result<Target, NoTarget> {
    let (scheme, rest) = match scheme_of(url) {
        Some((scheme, rest)) => (Some(scheme), rest),
        None => (None, url),
    };
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    };
    let authority = decode(authority).ok_or(NoTarget)?;
    let site = SiteName::parse(&authority).map_err(|_| NoTarget)?;
    let site = match scheme {
        // Drops the scheme's own port, as a site's name does.
        Some(scheme) => SiteName::from_url(&format!("{scheme}://{site}")).map_err(|_| NoTarget)?,
        None => site,
    };
    Ok(Target {
        site,
        scheme,
        path: SitePath::parse(path).map_err(|_| NoTarget)?,
        query: query.filter(|query| !query.is_empty()).map(str::to_owned),
    })
}

/// The scheme and what follows `://`; a single slash will do, for proxies in between join two.
fn scheme_of(url: &str) -> Option<(&'static str, &str)> {
    ["http", "https"].into_iter().find_map(|scheme| {
        let front = url.get(..scheme.len())?;
        let rest = url.get(scheme.len()..)?.strip_prefix(":/")?;
        front
            .eq_ignore_ascii_case(scheme)
            .then(|| (scheme, rest.strip_prefix('/').unwrap_or(rest)))
    })
}

/// Undoes percent-encoding; `None` where it is broken or no UTF-8.
fn decode(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let mut digit = || char::from(bytes.next()?).to_digit(16);
            let (high, low) = (digit()?, digit()?);
            out.push(u8::try_from(high << 4 | low).ok()?);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}

/// Keeps what a query may hold (RFC 3986, 3.4) and encodes the rest.
fn encode_query_into(out: &mut String, text: &str) {
    for byte in text.bytes() {
        let kept = byte.is_ascii_alphanumeric() || b"-._~!$()*+,;=:@/?%".contains(&byte);
        if kept {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
}

#[cfg(test)]
mod tests;
