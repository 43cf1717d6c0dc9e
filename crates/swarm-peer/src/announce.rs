//! When to announce, to which tracker, and what to believe of the answer.
//!
//! One task for each tracker of a swarm. Both ids of a hybrid are announced. The tracker's interval
//! is honoured; only while a download has nobody to fetch from is it asked sooner, never before its
//! `min interval`. Failures are tried again ever more slowly, down to once an hour (a tracker's
//! name may have gone to a stranger), and a `410 Gone` ends it for good.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use swarm_proto::id::{PeerId, SwarmId};
use swarm_proto::limits;
use swarm_proto::tracker::http::{ReplyError, announce_url, decode_reply};
use swarm_proto::tracker::{AnnounceEvent, AnnounceReply, AnnounceRequest};

use crate::connector::Trust;
use crate::http::{HttpClient, HttpError, chain};
use crate::report::{TrackerReport, shown_url};
use crate::swarm::{Message, Shared, SwarmState};

/// Peers asked for at a time.
const NUMWANT: u32 = 80;
/// Time for one announce.
const DEADLINE: Duration = Duration::from_secs(15);
/// Time for the last one, while shutting down.
const DEADLINE_STOPPED: Duration = Duration::from_secs(3);
/// Between announces while there is nobody to fetch from, unless `min interval` says more.
const HUNGRY: Duration = Duration::from_secs(5);
/// Bounds on what a tracker may say.
const INTERVAL_MIN: Duration = Duration::from_secs(1);
const INTERVAL_MAX: Duration = Duration::from_secs(2 * 3600);
/// First pause after a failure, tripled each time.
const BACKOFF_MIN: Duration = Duration::from_secs(5);
const BACKOFF_MAX: Duration = Duration::from_secs(3600);
/// Between announces asked for by hand.
const BY_HAND_MIN: Duration = Duration::from_secs(1);

/// What all announcers of a node have in common.
#[derive(Clone)]
pub(crate) struct Announcing {
    pub(crate) http: HttpClient,
    pub(crate) peer_id: PeerId,
    pub(crate) key: u32,
    pub(crate) port: u16,
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
    #[error("tracker is gone for good (410)")]
    Gone,
    #[error("tracker answered {0}")]
    Status(http::StatusCode),
    #[error("{0}")]
    Refused(ReplyError),
    #[error("tracker answered rubbish: {0}")]
    Rubbish(ReplyError),
}

/// A tracker's answer, and how far the peers in it may be trusted.
struct Answer {
    reply: AnnounceReply,
    trust: Trust,
}

impl Announcer {
    /// Announces until the swarm stops, then says so.
    pub(crate) async fn run(self) {
        let mut event = AnnounceEvent::Started;
        let mut failures = 0;
        let mut listed = false;
        let mut by_hand = self.shared.announce_now.subscribe();
        let mut state = self.shared.state.subscribe();
        // Sent only by who was not complete when it came.
        let mut completed_due = !self.is_complete();
        loop {
            if completed_due && self.is_complete() && listed {
                event = AnnounceEvent::Completed;
                completed_due = false;
            }
            by_hand.mark_unchanged();
            let pause = match self.announce_all(event).await {
                Ok(reply) => {
                    self.shared
                        .tracker_said(&self.url, TrackerReport::good(&reply));
                    failures = 0;
                    listed = true;
                    event = AnnounceEvent::Regular;
                    self.pause_after(&reply)
                }
                Err(error @ AnnounceError::Gone) => {
                    let report = TrackerReport::bad(error.to_string());
                    self.shared.tracker_said(&self.url, report);
                    tracing::warn!(tracker = %self.name(), "tracker is gone for good (410)");
                    return;
                }
                Err(error) => {
                    failures += 1;
                    let report = TrackerReport::bad(chain(&error));
                    self.shared.tracker_said(&self.url, report);
                    tracing::warn!(tracker = %self.name(), failures, "{}", chain(&error));
                    let doubled = BACKOFF_MIN.saturating_mul(3u32.saturating_pow(failures - 1));
                    (doubled.min(BACKOFF_MAX), BY_HAND_MIN)
                }
            };
            let (pause, least) = pause;
            let sleep = tokio::time::sleep(jittered(pause));
            tokio::pin!(sleep);
            let least = tokio::time::Instant::now() + least;
            loop {
                tokio::select! {
                    () = self.shared.stop.cancelled() => {
                        if listed {
                            self.say_stopped().await;
                        }
                        return;
                    }
                    () = &mut sleep => break,
                    _ = by_hand.changed() => sleep.as_mut().reset(least),
                    _ = state.changed() => {
                        if completed_due && listed && self.is_complete() {
                            break;
                        }
                    }
                }
            }
        }
    }

    fn is_complete(&self) -> bool {
        *self.shared.state.borrow() == SwarmState::Seeding
    }

    /// When to announce again, and the soonest that is allowed if asked to by hand.
    fn pause_after(&self, reply: &AnnounceReply) -> (Duration, Duration) {
        let interval = Duration::from_secs(reply.interval.into());
        let interval = interval.clamp(INTERVAL_MIN, INTERVAL_MAX);
        let least = Duration::from_secs(reply.min_interval.unwrap_or(0).into());
        let least = least.clamp(BY_HAND_MIN, INTERVAL_MAX);
        let peers = {
            let stats = self.shared.stats.lock();
            stats.unwrap_or_else(PoisonError::into_inner).peers
        };
        let hungry = peers == 0 && !self.is_complete();
        match hungry {
            true => (interval.min(HUNGRY.max(least)), least),
            false => (interval, least),
        }
    }

    /// Announces every id; good if one of them went well.
    async fn announce_all(&self, event: AnnounceEvent) -> Result<AnnounceReply, AnnounceError> {
        let mut best = None;
        let mut worst = None;
        for &swarm_id in &self.shared.swarm_ids {
            match self.announce(swarm_id, event, DEADLINE).await {
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
                Err(AnnounceError::Gone) => return Err(AnnounceError::Gone),
                Err(error) => worst = Some(error),
            }
        }
        match (best, worst) {
            (Some(reply), _) => Ok(reply),
            (None, Some(error)) => Err(error),
            (None, None) => Err(AnnounceError::Gone),
        }
    }

    async fn say_stopped(&self) {
        let ids = self.shared.swarm_ids.iter();
        let all = ids.map(|&id| self.announce(id, AnnounceEvent::Stopped, DEADLINE_STOPPED));
        for result in futures_util::future::join_all(all).await {
            if let Err(error) = result {
                tracing::debug!(tracker = %self.name(), "could not say goodbye: {error}");
            }
        }
    }

    async fn announce(
        &self,
        swarm_id: SwarmId,
        event: AnnounceEvent,
        deadline: Duration,
    ) -> Result<Answer, AnnounceError> {
        let mut request = AnnounceRequest::new(swarm_id, self.node.peer_id, self.node.port);
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
        let url = announce_url(&self.url, &request);
        let cap = limits::TRACKER_REPLY_LEN_MAX;
        let answer = self.node.http.get(&url, cap, deadline, self.trust).await?;
        if answer.status == http::StatusCode::GONE {
            return Err(AnnounceError::Gone);
        }
        let trust = answer.trust_in_contents();
        match decode_reply(&answer.body) {
            Ok(reply) => Ok(Answer { reply, trust }),
            Err(error @ ReplyError::Failure { .. }) => Err(AnnounceError::Refused(error)),
            Err(_) if !answer.status.is_success() => Err(AnnounceError::Status(answer.status)),
            Err(error) => Err(AnnounceError::Rubbish(error)),
        }
    }

    /// The URL without what may be somebody's passkey.
    fn name(&self) -> String {
        shown_url(&self.url)
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

/// Up to a tenth more, so that peers that began together do not stay together.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(1.0 + rand::random::<f64>() / 10.0)
}

/// Whether this build can announce to the URL.
pub(crate) fn is_supported(url: &str) -> bool {
    url.starts_with("http://") || url.starts_with("https://")
}

#[cfg(test)]
mod tests;
