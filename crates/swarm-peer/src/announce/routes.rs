//! The ways to one tracker: where we are met by both families it hears of us by each that its name
//! has (BEP 7), for it knows a peer by the address that an announce comes from.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use swarm_proto::id::SwarmId;
use swarm_proto::tracker::AnnounceReply;

use super::{AnnounceError, Figures, Round, Transport, UdpError};
use crate::connector::{ConnectError, Connector, Family, Trust};
use crate::http::{HttpClient, HttpError};

/// How long an answer by one family waits for that by the other.
const GRACE: Duration = Duration::from_secs(5);

/// How trackers are called: by which family, or by whatever the system sees fit.
pub(crate) struct Route {
    pub(super) http: HttpClient,
    pub(super) connector: Connector,
}

/// The routes of who listens there: one for each family, where that is both.
pub(crate) fn routes(http: &HttpClient, connector: &Connector, listen: IpAddr) -> Arc<[Route]> {
    let by = |family| Route {
        http: http.only_by(family),
        connector: connector.clone().only_by(family),
    };
    match listen {
        IpAddr::V6(ip) if ip.is_unspecified() => Arc::new([by(Family::V4), by(Family::V6)]),
        _ => Arc::new([Route {
            http: http.clone(),
            connector: connector.clone(),
        }]),
    }
}

/// A tracker, and how we get to it.
pub(super) struct Tracker {
    pub(super) url: String,
    pub(super) transports: Vec<Transport>,
}

impl Tracker {
    pub(super) fn new(routes: &[Route], listen: IpAddr, url: String, trust: Trust) -> Self {
        let transports = routes.iter();
        let transports = transports.map(|route| Transport::new(route, listen, &url, trust));
        Self {
            transports: transports.collect(),
            url,
        }
    }

    /// Tells it by each transport at once; good if one of them went well. Who has answered waits
    /// for the others for a while, no longer.
    pub(super) async fn tell(&mut self, round: &Round<'_>) -> Result<AnnounceReply, AnnounceError> {
        let told = self.transports.iter_mut().enumerate();
        let told = told.map(|(at, transport)| async move { (at, round.by(transport).await) });
        let mut under_way: FuturesUnordered<_> = told.collect();
        let mut silent: BTreeSet<usize> = (0..under_way.len()).collect();
        let mut best: Option<AnnounceReply> = None;
        let mut errors = Vec::new();
        let grace = tokio::time::sleep(GRACE);
        tokio::pin!(grace);
        loop {
            tokio::select! {
                answer = under_way.next() => {
                    let Some((at, answer)) = answer else { break };
                    silent.remove(&at);
                    match answer {
                        Ok(reply) => {
                            grace.as_mut().reset(tokio::time::Instant::now() + GRACE);
                            best = Some(match best {
                                Some(best) => both(best, reply),
                                None => reply,
                            });
                        }
                        Err(error) => errors.push(error),
                    }
                }
                () = &mut grace, if best.is_some() => break,
            }
        }
        drop(under_way);
        for at in silent {
            if let Some(transport) = self.transports.get_mut(at) {
                transport.give_up();
            }
        }
        match best {
            Some(reply) => {
                for error in errors.iter().filter(|error| !is_absent(error)) {
                    tracing::debug!(tracker = round.tracker, "by another family: {error}");
                }
                Ok(reply)
            }
            None => Err(worst(errors)),
        }
    }

    /// It did not answer in time.
    pub(super) fn give_up(&mut self) {
        self.transports.iter_mut().for_each(Transport::give_up);
    }

    /// Nothing will be asked for a while.
    pub(super) fn round_is_over(&mut self) {
        self.transports
            .iter_mut()
            .for_each(Transport::round_is_over);
    }

    /// Asks for figures by the first transport that brings some.
    pub(super) async fn scrape(&mut self, ids: &[SwarmId]) -> Result<Figures, AnnounceError> {
        let mut said = Err(AnnounceError::NoScrape);
        for transport in &mut self.transports {
            let next = transport.scrape(ids).await;
            let absent = next.as_ref().is_err_and(is_absent);
            if !absent || matches!(said, Err(AnnounceError::NoScrape)) {
                said = next;
            }
            if said.is_ok() {
                break;
            }
        }
        said
    }
}

/// What two answers of one tracker say together: it is asked again when both allow it.
fn both(a: AnnounceReply, b: AnnounceReply) -> AnnounceReply {
    let mut peers = a.peers;
    peers.extend(b.peers);
    AnnounceReply {
        interval: a.interval.max(b.interval),
        min_interval: a.min_interval.max(b.min_interval),
        complete: a.complete.max(b.complete),
        incomplete: a.incomplete.max(b.incomplete),
        warning: a.warning.or(b.warning),
        peers,
    }
}

/// What is to be said where nothing went well: that it is gone for good, else any cause that is
/// the tracker's.
fn worst(errors: Vec<AnnounceError>) -> AnnounceError {
    let rank = |error: &AnnounceError| (!matches!(error, AnnounceError::Gone), is_absent(error));
    let worst = errors.into_iter().min_by_key(rank);
    worst.unwrap_or(AnnounceError::Gone)
}

/// Whether the tracker's name just has no address of that family.
fn is_absent(error: &AnnounceError) -> bool {
    matches!(
        error,
        AnnounceError::Http(HttpError::Connect(ConnectError::Family { .. }))
            | AnnounceError::Udp(UdpError::Connect(ConnectError::Family { .. }))
    )
}
