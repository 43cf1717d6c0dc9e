//! What a request says that a decision needs: no header map, no address, no body.

use http::request::Parts;
use http::{HeaderMap, HeaderName, Method, header};

use swarm_proto::manifest::SitePath;

/// The loop marker: a bridge that sends a visitor home appends it, and such a request is never
/// sent away again.
pub const HOME_MARKER: &str = "spikeswarm=home";

/// `Sec-Fetch-Dest`, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dest {
    /// No such header: not a browser, or an old one.
    Absent,
    /// A page, or whatever a link or the address bar leads to.
    Document,
    /// A page in a frame.
    Frame,
    /// A picture.
    Image,
    /// A web font.
    Font,
    /// Sound or film.
    Media,
    /// Scripts, styles, workers, `fetch()` and everything else: never redirected.
    Other,
}

/// The facts of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// `GET`, `HEAD` or something else.
    pub method: Method,
    /// The decoded path, where it is one that a site can publish.
    pub path: Option<SitePath>,
    /// Whether there is a query string, the marker not counted.
    pub query: bool,
    /// Whether the request carries the loop marker.
    pub sent_home: bool,
    /// What the browser wants it for.
    pub dest: Dest,
    /// Whether it is a navigation (`Sec-Fetch-Mode: navigate`), or nothing says otherwise.
    pub navigation: bool,
    /// Whether a page would be welcome (`Accept: text/html`).
    pub accepts_html: bool,
    /// Whether pictures are asked for by name (`Accept: image/...`), not by `*/*` alone.
    pub accepts_image: bool,
    /// `Authorization` is there: the answer is somebody's own.
    pub authorized: bool,
    /// A `Cookie` is there.
    pub cookie: bool,
    /// Asked for by a script (`X-Requested-With`) or ahead of need (`Sec-Purpose`, `Purpose`).
    pub scripted: bool,
    /// Bytes a single `Range` asks for, where it names both ends; `Some(None)` for other ranges.
    pub range: Option<Option<u64>>,
    /// Asked for by a page of another origin that wants to read the answer: a redirect without
    /// the origin's own CORS fields would break it.
    pub foreign: bool,
    /// Asks for another protocol.
    pub upgrade: bool,
    /// The path of the page that asked, if it is of the same host.
    pub referer: Option<String>,
}

impl Facts {
    /// Reads them off a request.
    pub fn of(parts: &Parts) -> Self {
        let headers = &parts.headers;
        let query = parts.uri.query();
        Self {
            method: parts.method.clone(),
            path: SitePath::parse(parts.uri.path()).ok(),
            query: query.is_some_and(|query| strip_marker(query).is_some()),
            sent_home: query.is_some_and(|query| query.split('&').any(|pair| pair == HOME_MARKER)),
            dest: dest(headers),
            navigation: text(headers, SEC_FETCH_MODE).is_none_or(|mode| mode == "navigate"),
            accepts_html: accepts(headers, "text/html"),
            accepts_image: accepts(headers, "image/"),
            authorized: headers.contains_key(header::AUTHORIZATION),
            cookie: headers.contains_key(header::COOKIE),
            scripted: [X_REQUESTED_WITH, SEC_PURPOSE, PURPOSE, X_MOZ]
                .iter()
                .any(|name| headers.contains_key(name)),
            range: headers
                .get(header::RANGE)
                .map(|range| range.to_str().ok().and_then(range_length)),
            foreign: headers.contains_key(header::ORIGIN) && !is_own_origin(headers),
            upgrade: headers.contains_key(header::UPGRADE),
            referer: referer(parts),
        }
    }
}

const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const SEC_PURPOSE: HeaderName = HeaderName::from_static("sec-purpose");
const PURPOSE: HeaderName = HeaderName::from_static("purpose");
const X_MOZ: HeaderName = HeaderName::from_static("x-moz");
const X_REQUESTED_WITH: HeaderName = HeaderName::from_static("x-requested-with");

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

fn accepts(headers: &HeaderMap, what: &str) -> bool {
    text(headers, header::ACCEPT).is_some_and(|accept| accept.to_ascii_lowercase().contains(what))
}

fn dest(headers: &HeaderMap) -> Dest {
    if !headers.contains_key(SEC_FETCH_DEST) {
        return Dest::Absent;
    }
    match text(headers, SEC_FETCH_DEST).unwrap_or_default() {
        "document" => Dest::Document,
        "iframe" | "frame" => Dest::Frame,
        "image" => Dest::Image,
        "font" => Dest::Font,
        "audio" | "video" => Dest::Media,
        _ => Dest::Other,
    }
}

fn is_own_origin(headers: &HeaderMap) -> bool {
    let host = text(headers, header::HOST).unwrap_or_default();
    text(headers, header::ORIGIN)
        .and_then(|origin| origin.split_once("://"))
        .is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host))
}

/// `bytes=5-9` is five bytes; anything else is left open.
fn range_length(range: &str) -> Option<u64> {
    let (first, last) = range.trim().strip_prefix("bytes=")?.split_once('-')?;
    let (first, last): (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    last.checked_sub(first)?.checked_add(1)
}

/// The path of a `Referer` that names the host the request is for.
fn referer(parts: &Parts) -> Option<String> {
    let referer = text(&parts.headers, header::REFERER)?;
    let host = text(&parts.headers, header::HOST)?;
    let rest = referer
        .strip_prefix("http://")
        .or_else(|| referer.strip_prefix("https://"))?;
    let path = rest.strip_prefix(host)?;
    let path = path.split(['?', '#']).next().unwrap_or("");
    path.starts_with('/').then(|| path.to_owned())
}

/// The query without the loop marker; `None` if nothing is left of it.
pub fn strip_marker(query: &str) -> Option<String> {
    let kept: Vec<&str> = query
        .split('&')
        .filter(|pair| *pair != HOME_MARKER)
        .collect();
    let marked = kept.len() != query.split('&').count();
    (!marked || !kept.is_empty())
        .then(|| kept.join("&"))
        .filter(|rest| !(marked && rest.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(uri: &str, headers: &[(&str, &str)]) -> Facts {
        let mut request = http::Request::get(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Facts::of(&request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn the_marker_is_seen_and_stripped() {
        for (query, rest) in [
            ("spikeswarm=home", None),
            ("a=1&spikeswarm=home", Some("a=1")),
            ("spikeswarm=home&a=1&spikeswarm=home", Some("a=1")),
            ("a=1", Some("a=1")),
            ("", Some("")),
            ("xspikeswarm=home", Some("xspikeswarm=home")),
            ("spikeswarm=homes", Some("spikeswarm=homes")),
            ("a=%20b&c", Some("a=%20b&c")),
        ] {
            assert_eq!(strip_marker(query).as_deref(), rest, "{query}");
        }
        let found = facts("/a.png?spikeswarm=home", &[]);
        assert!(found.sent_home && !found.query);
        let found = facts("/a.png?spikeswarm=home&v=1", &[]);
        assert!(found.sent_home && found.query);
        let found = facts("/a.png?v=1", &[]);
        assert!(!found.sent_home && found.query);
    }

    #[test]
    fn ranges_count_what_they_ask_for() {
        for (range, length) in [
            ("bytes=0-99", Some(100)),
            ("bytes=5-5", Some(1)),
            ("bytes=5-", None),
            ("bytes=-5", None),
            ("bytes=0-1,5-9", None),
            ("bytes=9-5", None),
            ("bytes=0-18446744073709551615", None),
            ("lines=1-2", None),
        ] {
            assert_eq!(
                facts("/", &[("range", range)]).range,
                Some(length),
                "{range}"
            );
        }
        assert_eq!(facts("/", &[]).range, None);
    }

    #[test]
    fn only_a_page_of_the_same_host_is_a_referer() {
        let of =
            |referer: &str| facts("/a", &[("host", "h.example"), ("referer", referer)]).referer;
        assert_eq!(of("http://h.example/p/q?x#y").as_deref(), Some("/p/q"));
        assert_eq!(of("https://h.example/").as_deref(), Some("/"));
        for other in [
            "http://h.example",
            "http://h.example.org/",
            "http://x/h.example/",
            "h.example/",
            "",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn odd_paths_have_no_site_path() {
        for uri in [
            "/../etc/passwd",
            "/.git/config",
            "/a%00b",
            "/a%2fb",
            "/a//b",
            "*",
        ] {
            assert_eq!(facts(uri, &[]).path, None, "{uri}");
        }
        assert_eq!(facts("/a%20b.png", &[]).path.unwrap().as_str(), "/a b.png");
    }
}
