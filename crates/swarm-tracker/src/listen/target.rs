//! The page of a site that a visitor's URL names.
//!
//! Nothing of the URL is copied: the site goes through [`SiteName`], its path through
//! [`SitePath`] and is encoded anew, and so is its query (T48).

use std::net::IpAddr;

use swarm_proto::limits::URL_LEN_MAX;
use swarm_proto::manifest::{SiteName, SitePath};
use swarm_proto::tracker::register::{HOME_MARKER, REDIRECT_PATH};

/// The page that a visitor asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) site: SiteName,
    /// `http` or `https`, where the URL said so.
    scheme: Option<&'static str>,
    /// `None`: no path that a site could publish. Only the site itself can answer that.
    pub(super) path: Option<SitePath>,
    /// As the visitor wrote it, encoded anew.
    encoded_path: String,
    /// As it came, decoded no further; not empty.
    query: Option<String>,
}

/// The URL names no page. The fault of whoever wrote the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoTarget;

impl Target {
    /// What follows a site's own name in a request that a site's visitors were sent here with.
    pub(super) fn hosted(site: SiteName, path: &str, query: Option<&str>) -> Self {
        Self {
            site,
            scheme: None,
            path: SitePath::parse(path).ok(),
            encoded_path: encoded(path),
            query: query.filter(|query| !query.is_empty()).map(str::to_owned),
        }
    }

    /// Whether the URL has a query, were it only our marker. No manifest lists pages with one yet,
    /// so that only the site itself can answer them.
    pub(super) const fn has_query(&self) -> bool {
        self.query.is_some()
    }

    /// Whether the query says anything but how often the visitor has been sent on.
    pub(super) fn asks(&self) -> bool {
        self.pairs()
            .any(|pair| pair != HOME_MARKER && !pair.is_empty())
    }

    /// How often the visitor has been sent on already, as told by the markers in his query.
    pub(super) fn bounces(&self) -> usize {
        self.pairs().filter(|pair| *pair == HOME_MARKER).count()
    }

    fn pairs(&self) -> impl Iterator<Item = &str> {
        self.query.iter().flat_map(|query| query.split('&'))
    }

    /// The page below `base`, with so many marks.
    pub(super) fn below(&self, base: &str, marks: usize) -> String {
        let mut url = format!("{base}{}?", self.encoded_path);
        for pair in self.pairs() {
            if pair != HOME_MARKER && !pair.is_empty() {
                encode_query_into(&mut url, pair);
                url.push('&');
            }
        }
        for mark in 0..marks {
            if mark > 0 {
                url.push('&');
            }
            url.push_str(HOME_MARKER);
        }
        url
    }

    /// The page at the site's public name, with the mark that keeps its gate from sending the
    /// visitor away again. `home` is what the site signed; it bears the same name, so only its
    /// scheme says anything new.
    pub(super) fn at_public_name(&self, home: Option<&str>) -> String {
        let signed = home.and_then(|home| scheme_of(home).map(|(scheme, _)| scheme));
        let scheme = signed.or(self.scheme).unwrap_or_else(|| {
            let host = self.site.host();
            let local = host == "localhost" || host.ends_with(".localhost");
            let address = host.starts_with('[') || host.parse::<IpAddr>().is_ok();
            if local || address { "http" } else { "https" }
        });
        self.below(&format!("{scheme}://{}", self.site), 1)
    }
}

/// A page's URL given as a value, decoded once already: `https://host/path` or `host/path`.
pub(super) fn from_url(url: &str) -> Result<Target, NoTarget> {
    if url.len() > URL_LEN_MAX {
        return Err(NoTarget);
    }
    let url = url.split('#').next().unwrap_or_default();
    match url.split_once('?') {
        None => split(url, None),
        Some((front, query)) => split(front, Some(query)),
    }
}

/// Takes apart what stands after `/r/`: `https://host/path`, the same percent-encoded as a
/// whole, or `host/path`.
pub(super) fn parse(path: &str, query: Option<&str>) -> Result<Target, NoTarget> {
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
    let path = SitePath::parse(path).map_err(|_| NoTarget)?;
    Ok(Target {
        site,
        scheme,
        encoded_path: path.to_url(),
        path: Some(path),
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

/// Keeps what a path may hold (RFC 3986, 3.3) and encodes the rest.
fn encoded(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        let kept = byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/%".contains(&byte);
        if kept {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
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
