//! What a running peer tells of itself: of its peers and trackers, and what of it may be shown.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::SystemTime;

use swarm_proto::download::PeerStats;
use swarm_proto::tracker::{AnnounceReply, ScrapeEntry};
use url::Url;

use crate::connector::{Scope, scope_of};

/// One connection.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerReport {
    /// The other end.
    pub addr: SocketAddr,
    /// Whether we called.
    pub outgoing: bool,
    /// What the connection runs over: `tcp` or `utp`.
    pub transport: &'static str,
    /// Name and version of its program, by its own word.
    pub client: Option<String>,
    /// Rates and flags.
    pub stats: PeerStats,
}

/// What a tracker said last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackerReport {
    /// When.
    pub at: SystemTime,
    /// Peers it named.
    pub peers: usize,
    /// Seeds it counts.
    pub seeds: u32,
    /// Leeches it counts.
    pub leeches: u32,
    /// Downloads that were completed, as far as it counts and was asked (BEP 48).
    pub completed: Option<u32>,
    /// Why it was of no use.
    pub error: Option<String>,
}

impl TrackerReport {
    pub(crate) fn good(reply: &AnnounceReply) -> Self {
        Self {
            at: SystemTime::now(),
            peers: reply.peers.len(),
            seeds: reply.complete,
            leeches: reply.incomplete,
            completed: None,
            error: None,
        }
    }

    pub(crate) fn bad(error: String) -> Self {
        Self {
            at: SystemTime::now(),
            peers: 0,
            seeds: 0,
            leeches: 0,
            completed: None,
            error: Some(error),
        }
    }

    /// Notes what the tracker counts now.
    pub(crate) fn count(&mut self, figures: ScrapeEntry) {
        self.at = SystemTime::now();
        self.seeds = figures.complete;
        self.leeches = figures.incomplete;
        self.completed = Some(figures.downloaded);
    }
}

/// A tracker's or web seed's URL as it may stand in logs and reports: without user, query and
/// fragment, and without a path that may hold somebody's passkey.
pub fn shown_url(url: &str) -> String {
    let Ok(url) = Url::parse(url) else {
        return String::from("a malformed URL");
    };
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}"));
    let path = match url.path() {
        path @ ("" | "/" | "/announce") => path,
        _ => "/…",
    };
    let port = port.unwrap_or_default();
    format!("{}://{host}{port}{path}", url.scheme())
}

/// A stranger's address as it may stand in logs: the network only, where the address is a public
/// one. Whoever looks for a fault asks for the debug level, which has all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShownAddr(pub SocketAddr);

impl fmt::Display for ShownAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(addr) = self;
        if scope_of(addr.ip()) != Scope::Global {
            return addr.fmt(f);
        }
        match addr.ip().to_canonical() {
            IpAddr::V4(ip) => {
                let [a, b, c, _] = ip.octets();
                write!(f, "{a}.{b}.{c}.x")
            }
            IpAddr::V6(ip) => {
                let [a, b, c, ..] = ip.segments();
                write!(f, "{a:x}:{b:x}:{c:x}::x")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t59_no_part_of_a_url_that_may_be_secret_is_shown() {
        for (url, shown) in [
            ("http://t.test/announce", "http://t.test/announce"),
            (
                "https://t.test:8443/announce?passkey=s3cret",
                "https://t.test:8443/announce",
            ),
            (
                "http://user:s3cret@t.test/announce",
                "http://t.test/announce",
            ),
            ("http://t.test/s3cret/announce", "http://t.test/…"),
            ("http://t.test/announce/s3cret", "http://t.test/…"),
            ("udp://t.test:6969", "udp://t.test:6969"),
            ("udp://t.test:6969/s3cret", "udp://t.test:6969/…"),
            ("http://t.test/#s3cret", "http://t.test/"),
            ("s3cret", "a malformed URL"),
        ] {
            assert_eq!(shown_url(url), shown);
        }
    }

    #[test]
    fn t26_public_addresses_are_cut_and_near_ones_are_not() {
        for (addr, shown) in [
            ("198.41.0.4:6881", "198.41.0.x"),
            ("[2001:500:9f::42]:6881", "2001:500:9f::x"),
            ("[::ffff:198.41.0.4]:6881", "198.41.0.x"),
            ("127.0.0.1:6881", "127.0.0.1:6881"),
            ("192.168.1.7:6881", "192.168.1.7:6881"),
        ] {
            assert_eq!(ShownAddr(addr.parse().unwrap()).to_string(), shown);
        }
    }
}
