//! Carries announces to trackers, and what they answer to the swarm.
//!
//! One task for each tracker of a swarm; when to announce is decided by
//! [`AnnounceSchedule`]. Both ids of a hybrid are announced. A tracker that cannot be reached is
//! not asked for the second id either.

mod http;
mod udp;

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use swarm_proto::id::{PeerId, SwarmId};
use swarm_proto::limits;
use swarm_proto::tracker::{AnnounceEvent, AnnounceReply, AnnounceRequest, AnnounceSchedule};

use crate::connector::{Connector, Trust};
use crate::http::{HttpClient, HttpError, chain};
use crate::report::{TrackerReport, shown_url};
use crate::swarm::{Message, Shared, SwarmState};

/// Peers asked for at a time.
const NUMWANT: u32 = 80;
/// Time for the last announce, while shutting down.
const DEADLINE_STOPPED: Duration = Duration::from_secs(3);

/// What all announcers of a node have in common.
#[derive(Clone)]
pub(crate) struct Announcing {
    pub(crate) http: HttpClient,
    pub(crate) connector: Connector,
    pub(crate) peer_id: PeerId,
    pub(crate) key: u32,
    /// Where peers may call us.
    pub(crate) listen: std::net::SocketAddr,
}

/// Announces one swarm to one tracker.
pub(crate) struct Announcer {
    pub(crate) node: Announcing,
    pub(crate) shared: Arc<Shared>,
    pub(crate) url: String,
    pub(crate) trust: Trust,
}

/// Why an announce brought nothing.
#[derive(Debug, thiserror::Error)]
enum AnnounceError {
    #[error("tracker cannot be reached: {0}")]
    Http(#[from] HttpError),
    #[error(transparent)]
    Udp(#[from] udp::UdpError),
    #[error("tracker is gone for good (410)")]
    Gone,
    #[error("tracker answered {0}")]
    Status(::http::StatusCode),
    /// About this swarm alone; another may be welcome.
    #[error("tracker refuses: {reason}")]
    Refused {
        reason: String,
        retry_in: Option<Duration>,
    },
    #[error("tracker answered rubbish: {0}")]
    Rubbish(swarm_proto::tracker::http::ReplyError),
}

/// A tracker's answer, and how far the peers in it may be trusted.
struct Answer {
    reply: AnnounceReply,
    trust: Trust,
}

/// The way to a tracker.
enum Transport {
    Http(http::HttpTracker),
    Udp(Box<udp::UdpTracker>),
}

impl Announcer {
    fn transport(&self) -> Transport {
        match self.url.starts_with("udp:") {
            true => Transport::Udp(Box::new(udp::UdpTracker::new(
                self.node.connector.clone(),
                self.node.listen.ip(),
                &self.url,
                self.trust,
            ))),
            false => Transport::Http(http::HttpTracker {
                http: self.node.http.clone(),
                url: self.url.clone(),
                trust: self.trust,
            }),
        }
    }

    /// Announces until the swarm stops, then says so.
    pub(crate) async fn run(self) {
        let mut transport = self.transport();
        let mut by_hand = self.shared.announce_now.subscribe();
        let mut state = self.shared.state.subscribe();
        let mut schedule = AnnounceSchedule::new(Instant::now(), self.is_complete());
        let stop = self.shared.stop.clone();
        while let Some(due) = schedule.due() {
            let sleep = tokio::time::sleep_until(due.into());
            tokio::select! {
                () = stop.cancelled() => break,
                () = sleep => {}
                _ = by_hand.changed() => {
                    schedule.asked_by_hand();
                    continue;
                }
                _ = state.changed() => {
                    if self.is_complete() {
                        schedule.completed(Instant::now());
                    }
                    continue;
                }
            }
            by_hand.mark_unchanged();
            let event = schedule.event(self.is_complete());
            let stopped = async {
                stop.cancelled().await;
                tokio::time::sleep(DEADLINE_STOPPED).await;
            };
            let result = tokio::select! {
                () = stopped => {
                    tracing::debug!(tracker = %self.name(), "last announce not answered");
                    break;
                }
                result = self.announce_all(&mut transport, event) => result,
            };
            let now = Instant::now();
            let report = match &result {
                Ok(reply) => TrackerReport::good(reply),
                Err(error) => TrackerReport::bad(chain(error)),
            };
            self.shared.tracker_said(&self.url, report);
            match result {
                Ok(reply) => schedule.succeeded(now, &reply, self.is_hungry(), rand::random()),
                Err(AnnounceError::Gone) => {
                    tracing::warn!(tracker = %self.name(), "tracker is gone for good (410)");
                    schedule.gone();
                }
                Err(error) => {
                    let retry_in = match &error {
                        AnnounceError::Refused { retry_in, .. } => *retry_in,
                        _ => None,
                    };
                    schedule.failed(now, retry_in, rand::random());
                    let failures = schedule.failures();
                    tracing::warn!(tracker = %self.name(), failures, "{}", chain(&error));
                }
            }
        }
        if schedule.is_listed() {
            self.say_stopped(&mut transport).await;
        }
    }

    fn is_complete(&self) -> bool {
        *self.shared.state.borrow() == SwarmState::Seeding
    }

    /// Whether there is something to fetch, and nobody to fetch it from.
    fn is_hungry(&self) -> bool {
        let stats = self.shared.stats.lock();
        let peers = stats.unwrap_or_else(PoisonError::into_inner).peers;
        peers == 0 && !self.is_complete()
    }

    /// Announces every id; good if one of them went well.
    async fn announce_all(
        &self,
        transport: &mut Transport,
        event: AnnounceEvent,
    ) -> Result<AnnounceReply, AnnounceError> {
        let mut best = None;
        let mut worst = None;
        for &swarm_id in &self.shared.swarm_ids {
            match self.announce(transport, swarm_id, event).await {
                Ok(Answer { reply, trust }) => {
                    if let Some(warning) = &reply.warning {
                        tracing::info!(tracker = %self.name(), warning, "tracker warns");
                    }
                    tracing::debug!(
                        tracker = %self.name(),
                        swarm = %swarm_id,
                        peers = reply.peers.len(),
                        interval = reply.interval,
                        "announced"
                    );
                    let mut addrs = reply.peers.clone();
                    addrs.truncate(limits::PEERS_PER_REPLY_MAX);
                    let peers = Message::Peers {
                        addrs,
                        swarm_id,
                        trust,
                    };
                    self.shared.tell(peers).await;
                    best = Some(reply);
                }
                Err(error @ AnnounceError::Refused { .. }) => worst = Some(error),
                Err(AnnounceError::Gone) => return Err(AnnounceError::Gone),
                Err(error) => {
                    worst = Some(error);
                    break;
                }
            }
        }
        transport.round_is_over();
        match (best, worst) {
            (Some(reply), _) => Ok(reply),
            (None, Some(error)) => Err(error),
            (None, None) => Err(AnnounceError::Gone),
        }
    }

    async fn say_stopped(&self, transport: &mut Transport) {
        let goodbyes = async {
            for &id in &self.shared.swarm_ids {
                let stopped = AnnounceEvent::Stopped;
                if let Err(error) = self.announce(transport, id, stopped).await {
                    tracing::debug!(tracker = %self.name(), "could not say goodbye: {error}");
                }
            }
        };
        if tokio::time::timeout(DEADLINE_STOPPED, goodbyes)
            .await
            .is_err()
        {
            tracing::debug!(tracker = %self.name(), "no time to say goodbye");
        }
    }

    async fn announce(
        &self,
        transport: &mut Transport,
        swarm_id: SwarmId,
        event: AnnounceEvent,
    ) -> Result<Answer, AnnounceError> {
        let port = self.node.listen.port();
        let mut request = AnnounceRequest::new(swarm_id, self.node.peer_id, port);
        request.event = event;
        request.key = Some(self.node.key);
        request.numwant = Some(match event {
            AnnounceEvent::Stopped => 0,
            _ => NUMWANT,
        });
        {
            let offered = self.shared.bridge.lock();
            request.bridge = offered.unwrap_or_else(PoisonError::into_inner).clone();
            let stats = self.shared.stats.lock();
            let stats = stats.unwrap_or_else(PoisonError::into_inner);
            request.uploaded = stats.up_bytes;
            request.downloaded = stats.down_bytes;
            request.left = (stats.pieces > 0).then(|| left(&stats));
        }
        match transport {
            Transport::Http(tracker) => tracker.announce(&request).await,
            Transport::Udp(tracker) => tracker.announce(request).await,
        }
    }

    /// The URL without what may be somebody's passkey.
    fn name(&self) -> String {
        shown_url(&self.url)
    }
}

impl Transport {
    /// Nothing will be asked for a while.
    fn round_is_over(&mut self) {
        match self {
            Self::Http(_) => {}
            Self::Udp(tracker) => tracker.hang_up(),
        }
    }
}

/// Bytes still missing, as trackers want them; exact to a piece.
fn left(stats: &crate::swarm::SwarmStats) -> u64 {
    if stats.complete {
        return 0;
    }
    let pieces = u64::from(stats.pieces.max(1));
    let missing = u64::from(stats.pieces.saturating_sub(stats.have));
    let each = stats.total_bytes.div_ceil(pieces);
    missing.saturating_mul(each).min(stats.total_bytes).max(1)
}

/// Whether this build can announce to the URL; over UDP only if `udp`.
pub(crate) fn is_supported(url: &str, udp: bool) -> bool {
    url.starts_with("http://") || url.starts_with("https://") || (udp && url.starts_with("udp://"))
}

#[cfg(test)]
mod tests;
