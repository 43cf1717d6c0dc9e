//! Web seeds (BEP 19): carries the ranged GETs that the download decides on.
//!
//! Which pieces, how many requests, when to return and whom to ban is decided in
//! `swarm_proto::download`; here are connections, headers and deadlines.

mod fetch;

use std::collections::HashMap;
use std::net::IpAddr;

use bytes::Bytes;
use swarm_proto::download::{WebFailure, WebFetch, WebRequestId};
use swarm_proto::session::ConnectionId;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use url::{Host, Url};

use crate::connector::{Scope, Trust, scope_of};
use crate::http::{HttpClient, Lane};
use crate::uplink::Downlink;

/// Chunks that may wait for the swarm task; each is at most some 400 KiB.
const EVENTS_LEN: usize = 4;

/// What a request brings.
#[derive(Debug)]
pub(crate) struct WebEvent {
    pub(crate) seed: ConnectionId,
    pub(crate) request: WebRequestId,
    pub(crate) what: WebNews,
}

/// Bytes, in order, then the end.
#[derive(Debug)]
pub(crate) enum WebNews {
    Bytes(Bytes),
    Ended(Result<(), WebFailure>),
}

/// The web seeds of one swarm. Dropping it ends their requests.
pub(crate) struct WebSeeds {
    lanes: HashMap<ConnectionId, Lane>,
    /// Requests under way; dropping one's guard ends it.
    requests: HashMap<(ConnectionId, WebRequestId), DropGuard>,
    /// Of the host and of the bundle.
    downlinks: [Downlink; 2],
    events_in: mpsc::Sender<WebEvent>,
    pub(crate) events: mpsc::Receiver<WebEvent>,
}

impl WebSeeds {
    pub(crate) fn new(downlinks: [Downlink; 2]) -> Self {
        let (events_in, events) = mpsc::channel(EVENTS_LEN);
        Self {
            lanes: HashMap::new(),
            requests: HashMap::new(),
            downlinks,
            events_in,
            events,
        }
    }

    /// Makes a web seed known that `trust` named.
    pub(crate) fn add(&mut self, conn: ConnectionId, http: &HttpClient, trust: Trust) {
        self.lanes.insert(conn, http.lane(trust));
    }

    pub(crate) fn fetch(&mut self, tasks: &TaskTracker, fetch: WebFetch) {
        let Some(lane) = self.lanes.get(&fetch.seed).cloned() else {
            return;
        };
        let stop = CancellationToken::new();
        let key = (fetch.seed, fetch.request);
        self.requests.insert(key, stop.clone().drop_guard());
        let events = self.events_in.clone();
        let downlinks = self.downlinks.clone();
        tasks.spawn(async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = fetch::run(lane, fetch, downlinks, events) => {}
            }
        });
    }

    pub(crate) fn stop(&mut self, seed: ConnectionId, request: WebRequestId) {
        self.requests.remove(&(seed, request));
    }
}

/// Whether the URL of a web seed that `trust` named may be asked at all.
///
/// Names are vetted when they are resolved; this is about what a GET may do on a private network,
/// where a query can be a command. As libtorrent does, none is sent there on a stranger's word.
pub(crate) fn is_harmless(url: &str, trust: Trust) -> bool {
    let Ok(url) = Url::parse(url) else {
        return false;
    };
    match trust {
        Trust::CommandLine => true,
        Trust::Stranger | Trust::Neighbour(_) => url.query().is_none() || !is_near(&url),
    }
}

/// Whether a URL leads to an address that is not public, by what it says itself.
fn is_near(url: &Url) -> bool {
    address(url).map_or_else(|| is_local_name(url), |ip| scope_of(ip) != Scope::Global)
}

fn is_local_name(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_end_matches('.');
    host == "localhost" || host.ends_with(".localhost")
}

fn address(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        Host::Ipv4(ip) => Some(ip.into()),
        Host::Ipv6(ip) => Some(ip.into()),
        Host::Domain(_) => None,
    }
}

/// Who vouches for web seeds that a torrent names which the operator gave, together with peers
/// and trackers of their own.
///
/// A torrent is a stranger's work, and may name an address inside our network. But whoever names a
/// private peer or tracker beside it says that the swarm is at home there: then what the torrent
/// names may be as near as that.
pub fn named_by_torrent<'a>(
    peers: impl IntoIterator<Item = IpAddr>,
    trackers: impl IntoIterator<Item = &'a str>,
) -> Trust {
    let trackers = trackers.into_iter().filter_map(|url| {
        let url = Url::parse(url).ok()?;
        // A `udp` URL's host is not parsed as an address.
        let bare = url.host_str()?.trim_matches(['[', ']']);
        let local = is_local_name(&url).then_some(IpAddr::from([127, 0, 0, 1]));
        bare.parse().ok().or(local)
    });
    let named = peers.into_iter().chain(trackers);
    let near = named.filter(|ip| matches!(scope_of(*ip), Scope::Private | Scope::Loopback));
    near.max_by_key(|ip| scope_of(*ip))
        .map_or(Trust::Stranger, Trust::Neighbour)
}

#[cfg(test)]
mod tests;
