//! A page's own Content-Security-Policy: what the page could not load is not moved.
//!
//! Only what decides about bridges is read. Doubt means home: an unknown source expression
//! allows nothing.

use std::collections::HashMap;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, header};

use crate::assets::Kind;
use crate::bridges::LiveBridge;

/// Pages whose policies are remembered for the requests that name them as referrer.
const PAGES_MAX: usize = 1024;

/// Policies read off one page; more are taken as "nothing may move".
const POLICIES_MAX: usize = 16;

/// Every policy of one page; a source must please all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    policies: Vec<Vec<(String, Vec<String>)>>,
    nothing: bool,
}

impl Policy {
    /// Reads the headers of a page's response.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut policy = Self::default();
        for value in headers.get_all(header::CONTENT_SECURITY_POLICY) {
            match value.to_str() {
                Ok(text) => text.split(',').for_each(|one| policy.add(one)),
                Err(_) => policy.nothing = true,
            }
        }
        // Under cross-origin isolation a bridge's answer would have to opt in.
        let embedder = headers.get(HeaderName::from_static("cross-origin-embedder-policy"));
        policy.nothing |= embedder.is_some_and(|value| value.as_bytes() != b"unsafe-none");
        policy
    }

    /// Adds one more policy, as a `<meta http-equiv>` does.
    pub fn add(&mut self, text: &str) {
        let directives: Vec<_> = text
            .split(';')
            .filter_map(|directive| {
                let mut words = directive
                    .split_ascii_whitespace()
                    .map(str::to_ascii_lowercase);
                Some((words.next()?, words.collect()))
            })
            .collect();
        if directives.is_empty() {
            return;
        }
        if self.policies.len() >= POLICIES_MAX {
            self.nothing = true;
            return;
        }
        self.policies.push(directives);
    }

    /// Whether the page has no policy at all.
    pub fn is_open(&self) -> bool {
        self.policies.is_empty() && !self.nothing
    }

    /// Whether this is `head` and what its page added.
    fn extends(&self, head: &Self) -> bool {
        self.policies.starts_with(&head.policies) && (self.nothing || !head.nothing)
    }

    /// Whether the page may load a file of this kind from this bridge. `nonced`: the tag has a
    /// nonce.
    pub fn allows(&self, kind: Kind, bridge: &LiveBridge, nonced: bool) -> bool {
        !self.nothing
            && self
                .policies
                .iter()
                .all(|policy| allows(policy, kind, bridge, nonced))
    }

    /// Whether an inline `style` attribute takes effect.
    pub fn allows_inline_style(&self) -> bool {
        self.policies.iter().all(|policy| {
            governing(policy, &["style-src-attr", "style-src", "default-src"]).is_none_or(
                |sources| {
                    // A nonce or hash beside it switches 'unsafe-inline' off.
                    sources.iter().any(|source| source == "'unsafe-inline'")
                        && !sources
                            .iter()
                            .any(|s| s.starts_with("'nonce-") || s.starts_with("'sha"))
                },
            )
        })
    }
}

type Directives = [(String, Vec<String>)];

fn governing<'a>(policy: &'a Directives, names: &[&str]) -> Option<&'a [String]> {
    names
        .iter()
        .find_map(|name| policy.iter().find(|(directive, _)| directive == name))
        .map(|(_, sources)| sources.as_slice())
}

fn allows(policy: &Directives, kind: Kind, bridge: &LiveBridge, nonced: bool) -> bool {
    let upgrades = governing(policy, &["upgrade-insecure-requests"]).is_some();
    if upgrades && !bridge.secure {
        return false;
    }
    let names: &[&str] = match kind {
        Kind::Image => &["img-src", "default-src"],
        Kind::Font => &["font-src", "default-src"],
        Kind::Media => &["media-src", "default-src"],
        Kind::Style => &["style-src-elem", "style-src", "default-src"],
        Kind::Script => &["script-src-elem", "script-src", "default-src"],
        // A navigation is nobody's subresource.
        Kind::Download => return true,
        Kind::Page => return false,
    };
    let Some(sources) = governing(policy, names) else {
        return true;
    };
    let by_nonce = nonced && sources.iter().any(|source| source.starts_with("'nonce-"));
    if kind == Kind::Script && sources.iter().any(|source| source == "'strict-dynamic'") {
        return by_nonce;
    }
    by_nonce || sources.iter().any(|source| source_matches(source, bridge))
}

fn source_matches(source: &str, bridge: &LiveBridge) -> bool {
    let scheme = if bridge.secure { "https" } else { "http" };
    if source == "*" {
        return true;
    }
    if source.starts_with('\'') {
        return false;
    }
    if let Some(named) = source.strip_suffix(':') {
        // `http:` allows https as well.
        return named == scheme || (named == "http" && bridge.secure);
    }
    let rest = match source.split_once("://") {
        Some((named, rest)) if named == scheme || (named == "http" && bridge.secure) => rest,
        Some(_) => return false,
        // Without a scheme the page's own is meant: our pages and bridges share it, or the
        // bridge is the more secure one.
        None => source,
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    if !path.is_empty() {
        return false;
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let own_port = bridge
        .prefix
        .split("://")
        .nth(1)
        .and_then(|rest| rest.split('/').next())
        .and_then(|authority| authority.strip_prefix(bridge.host.as_str()))
        .and_then(|port| port.strip_prefix(':'));
    let port_fits = match port {
        Some("*") => true,
        Some(port) => own_port == Some(port) || own_port.is_none() && port == default_port(scheme),
        None => own_port.is_none(),
    };
    let host_fits = match host.strip_prefix("*.") {
        Some(suffix) => bridge
            .host
            .strip_suffix(suffix)
            .is_some_and(|front| front.len() > 1 && front.ends_with('.')),
        None => host == bridge.host,
    };
    host_fits && port_fits
}

fn default_port(scheme: &str) -> &'static str {
    if scheme == "https" { "443" } else { "80" }
}

/// Policies of pages that have one, by path, for requests whose `Referer` names the page.
#[derive(Debug, Default)]
pub struct PolicyBook {
    pages: HashMap<String, Arc<Policy>>,
}

impl PolicyBook {
    /// Notes the policy of a page that went out.
    pub fn note(&mut self, path: &str, policy: Policy) {
        if policy.is_open() {
            self.pages.remove(path);
            return;
        }
        if self.pages.len() >= PAGES_MAX && !self.pages.contains_key(path) {
            let Some(victim) = self.pages.keys().next().cloned() else {
                return;
            };
            self.pages.remove(&victim);
        }
        self.pages.insert(path.to_owned(), Arc::new(policy));
    }

    /// Notes the policy in the headers of a page whose markup is still to be read. What is known
    /// of that markup holds until then.
    pub fn note_head(&mut self, path: &str, policy: Policy) {
        if !self
            .pages
            .get(path)
            .is_some_and(|known| known.extends(&policy))
        {
            self.note(path, policy);
        }
    }

    /// Whether the page at `referer` may be answered by a redirect to this bridge. A request that
    /// does not say who asks is sent away only if every page we know would allow it.
    pub fn allows(&self, referer: Option<&str>, kind: Kind, bridge: &LiveBridge) -> bool {
        match referer {
            Some(path) => self
                .pages
                .get(path)
                .is_none_or(|policy| policy.allows(kind, bridge, false)),
            None => self
                .pages
                .values()
                .all(|policy| policy.allows(kind, bridge, false)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(text: &str) -> Policy {
        let mut policy = Policy::default();
        policy.add(text);
        policy
    }

    #[test]
    fn pages_load_what_their_policy_allows() {
        let bridge = LiveBridge::new("http://site.b.example:8080", []).unwrap();
        for (text, image, script) in [
            ("", true, true),
            ("frame-ancestors 'none'", true, true),
            ("default-src 'self'", false, false),
            ("default-src *", true, true),
            ("default-src 'self'; img-src *", true, false),
            ("default-src http:", true, true),
            ("default-src https:", false, false),
            ("default-src 'self' http://site.b.example:8080", true, true),
            ("default-src *.b.example:*", true, true),
            ("default-src *.b.example", false, false),
            ("default-src *.example:8080", true, true),
            ("default-src *.site.b.example:8080", false, false),
            ("default-src site.b.example:8080/only/this", false, false),
            ("default-src 'none'; IMG-SRC HTTP:", true, false),
            ("script-src 'strict-dynamic' *", true, false),
            ("img-src", false, true),
            ("upgrade-insecure-requests", false, false),
        ] {
            let policy = policy(text);
            assert_eq!(policy.allows(Kind::Image, &bridge, false), image, "{text}");
            assert_eq!(
                policy.allows(Kind::Script, &bridge, false),
                script,
                "{text}"
            );
        }
        assert!(policy("script-src 'nonce-abc' 'strict-dynamic'").allows(
            Kind::Script,
            &bridge,
            true
        ));
        assert!(!policy("script-src 'self'").allows(Kind::Script, &bridge, true));
    }

    #[test]
    fn all_policies_of_a_page_must_agree() {
        let bridge = LiveBridge::new("https://b.example", []).unwrap();
        let mut headers = HeaderMap::new();
        headers.append(
            "content-security-policy",
            "img-src *, img-src 'self'".parse().unwrap(),
        );
        assert!(!Policy::of(&headers).allows(Kind::Image, &bridge, false));
        let mut headers = HeaderMap::new();
        headers.append("content-security-policy", "img-src *".parse().unwrap());
        headers.append("content-security-policy", "img-src https:".parse().unwrap());
        assert!(Policy::of(&headers).allows(Kind::Image, &bridge, false));
        headers.append(
            "cross-origin-embedder-policy",
            "require-corp".parse().unwrap(),
        );
        assert!(!Policy::of(&headers).allows(Kind::Image, &bridge, false));
    }

    #[test]
    fn inline_style_needs_leave() {
        assert!(policy("img-src 'self'").allows_inline_style());
        assert!(policy("style-src 'self' 'unsafe-inline'").allows_inline_style());
        assert!(!policy("default-src 'self'").allows_inline_style());
        assert!(!policy("style-src 'unsafe-inline' 'nonce-x'").allows_inline_style());
    }

    #[test]
    fn the_book_answers_for_the_page_that_asks_and_is_bounded() {
        let bridge = LiveBridge::new("http://b.example", []).unwrap();
        let mut book = PolicyBook::default();
        assert!(book.allows(None, Kind::Image, &bridge));
        book.note("/strict", policy("img-src 'self'"));
        assert!(!book.allows(Some("/strict"), Kind::Image, &bridge));
        assert!(book.allows(Some("/open"), Kind::Image, &bridge));
        assert!(!book.allows(None, Kind::Image, &bridge));
        assert!(book.allows(None, Kind::Font, &bridge));
        book.note("/strict", Policy::default());
        assert!(book.allows(None, Kind::Image, &bridge));
        for i in 0..3 * PAGES_MAX {
            book.note(&format!("/{i}"), policy("img-src 'self'"));
        }
        assert_eq!(book.pages.len(), PAGES_MAX);
    }

    #[test]
    fn a_page_with_endless_policies_moves_nothing() {
        let bridge = LiveBridge::new("http://b.example", []).unwrap();
        let mut policy = Policy::default();
        for _ in 0..100 {
            policy.add("img-src *");
        }
        assert!(!policy.allows(Kind::Image, &bridge, false));
        assert!(policy.policies.len() <= POLICIES_MAX);
    }
}
