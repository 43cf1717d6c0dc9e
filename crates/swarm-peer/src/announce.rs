//! Carries announces to trackers, and what they answer to the swarm.
//!
//! A torrent's trackers share one task, which tells one of them at a time (BEP 12); each tracker that
//! the operator names has a task of its own, so that it hears of us whatever else answers. Whom to
//! tell and when is decided by [`AnnounceTiers`]. Both ids of a hybrid are announced. A tracker that cannot be reached is
//! not asked for the second id either.

mod groups;
mod http;
mod routes;
mod scrape;
mod udp;

pub(crate) use groups::groups;
pub(crate) use routes::{Route, routes};
pub use scrape::{Scraped, Scraper};
pub use udp::UdpError;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use swarm_proto::id::{PeerId, SwarmId};
use swarm_proto::limits;
use swarm_proto::tracker::{
    AnnounceEvent, AnnounceReply, AnnounceRequest, AnnounceTiers, ScrapeEntry, TrackerNumber,
};

use crate::connector::Trust;
use crate::http::{HttpError, chain};
use crate::report::{TrackerReport, shown_url};
use crate::swarm::{Message, Shared, SwarmState};
use routes::Tracker;

/// Peers asked for at a time.
const NUMWANT: u32 = 80;
/// Time for the last announce, while shutting down.
const DEADLINE_STOPPED: Duration = Duration::from_secs(3);

/// What all announcers of a node have in common.
#[derive(Clone)]
pub(crate) struct Announcing {
    pub(crate) routes: Arc<[Route]>,
    pub(crate) peer_id: PeerId,
    pub(crate) key: u32,
    /// Where peers may call us.
    pub(crate) listen: SocketAddr,
}

/// Announces one swarm to trackers in tiers (BEP 12): one of them at a time.
pub(crate) struct Announcer {
    node: Announcing,
    shared: Arc<Shared>,
    /// How many of them each tier has.
    tiers: Vec<usize>,
    trackers: Vec<Tracker>,
    /// Bytes sent and received before its time: trackers count from `started` on.
    before: (u64, u64),
}

/// Why an announce brought nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AnnounceError {
    /// No answer over HTTP.
    #[error("tracker cannot be reached: {0}")]
    Http(#[from] HttpError),
    /// No answer over UDP.
    #[error(transparent)]
    Udp(#[from] udp::UdpError),
    /// It says so.
    #[error("tracker is gone for good (410)")]
    Gone,
    /// A status that is no success, and no reason with it.
    #[error("tracker answered {0}")]
    Status(::http::StatusCode),
    /// Its URL names no place to ask for figures (BEP 48).
    #[error("tracker has no scrape to its URL")]
    NoScrape,
    /// And another may.
    #[error("tracker does not answer in time")]
    Slow,
    /// About this swarm alone; another may be welcome.
    #[error("tracker refuses: {reason}")]
    Refused {
        /// In its words.
        reason: String,
        /// When to come back (BEP 31), if it says so.
        retry_in: Option<Duration>,
    },
    /// No reply of a tracker.
    #[error("tracker answered rubbish: {0}")]
    Rubbish(swarm_proto::tracker::http::ReplyError),
}

/// Figures of swarms, as far as a tracker knows them.
type Figures = Vec<(SwarmId, ScrapeEntry)>;

/// Time for figures, while announces wait.
const SCRAPE_MAX: Duration = Duration::from_secs(5);

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
    /// Trackers in tiers, each with whoever vouches for it.
    pub(crate) fn new(
        node: Announcing,
        shared: Arc<Shared>,
        tiers: Vec<Vec<(String, Trust)>>,
    ) -> Self {
        let lens = tiers.iter().map(Vec::len).collect();
        let trackers = tiers.into_iter().flatten();
        let trackers =
            trackers.map(|(url, trust)| Tracker::new(&node.routes, node.listen.ip(), url, trust));
        let before = {
            let stats = shared.stats.lock();
            let stats = stats.unwrap_or_else(PoisonError::into_inner);
            (stats.up_bytes, stats.down_bytes)
        };
        Self {
            before,
            trackers: trackers.collect(),
            tiers: lens,
            node,
            shared,
        }
    }

    /// Announces until the swarm stops, then says so.
    pub(crate) async fn run(mut self) {
        let mut by_hand = self.shared.announce_now.subscribe();
        let mut state = self.shared.state.subscribe();
        let mut looked = self.shared.looked.subscribe();
        let lens = self.tiers.iter().copied();
        let (now, complete) = (Instant::now(), self.is_complete());
        let mut tiers = AnnounceTiers::new(now, lens, complete, rand::random());
        let stop = self.shared.life();
        while let Some(due) = tiers.due() {
            let sleep = tokio::time::sleep_until(due.into());
            tokio::select! {
                () = stop.cancelled() => break,
                () = sleep => {}
                _ = by_hand.changed() => {
                    tiers.asked_by_hand();
                    continue;
                }
                _ = looked.changed() => {
                    if let Some(number) = tiers.scrape(Instant::now()) {
                        self.scrape(number).await;
                    }
                    continue;
                }
                _ = state.changed() => {
                    if self.is_complete() {
                        tiers.completed(Instant::now());
                    }
                    continue;
                }
            }
            by_hand.mark_unchanged();
            let Some(number) = tiers.next(Instant::now()) else {
                continue;
            };
            let event = tiers.event(number, self.is_complete());
            let patience = tiers.patience(number, Instant::now());
            let stopped = async {
                stop.cancelled().await;
                tokio::time::sleep(DEADLINE_STOPPED).await;
            };
            let result = tokio::select! {
                () = stopped => {
                    tracing::debug!(tracker = %self.name(number), "last announce not answered");
                    break;
                }
                () = wait(patience) => {
                    self.give_up(number);
                    Err(AnnounceError::Slow)
                }
                result = self.announce_all(number, event) => result,
            };
            self.conclude(&mut tiers, number, result);
        }
        self.say_stopped(tiers.listed().collect()).await;
    }

    /// Notes what came of an announce, and says so where it can be seen.
    fn conclude(
        &self,
        tiers: &mut AnnounceTiers,
        number: TrackerNumber,
        result: Result<AnnounceReply, AnnounceError>,
    ) {
        let now = Instant::now();
        let tracker = self.name(number);
        let report = match &result {
            Ok(reply) => TrackerReport::good(reply),
            Err(error) => TrackerReport::bad(chain(error)),
        };
        if let Some(tracker) = self.trackers.get(number) {
            self.shared.tracker_said(&tracker.url, report);
        }
        match result {
            Ok(reply) => {
                tiers.succeeded(number, now, &reply, self.is_hungry(), rand::random());
            }
            Err(AnnounceError::Gone) => {
                tracing::warn!(%tracker, "tracker is gone for good (410)");
                tiers.gone(number);
            }
            Err(error) => {
                let retry_in = match &error {
                    AnnounceError::Refused { retry_in, .. } => *retry_in,
                    _ => None,
                };
                tiers.failed(number, now, retry_in, rand::random());
                let failures = tiers.failures(number);
                tracing::warn!(%tracker, failures, "{}", chain(&error));
            }
        }
    }

    /// Asks a tracker for figures, since somebody looks at them.
    async fn scrape(&mut self, number: TrackerNumber) {
        let (name, shared) = (self.name(number), Arc::clone(&self.shared));
        let Some(tracker) = self.trackers.get_mut(number) else {
            return;
        };
        let asked = tracker.scrape(&shared.swarm_ids);
        let life = shared.life();
        let said = tokio::select! {
            said = tokio::time::timeout(SCRAPE_MAX, asked) => said.unwrap_or(Err(AnnounceError::Slow)),
            () = life.cancelled() => Err(AnnounceError::Slow),
        };
        tracker.round_is_over();
        match said {
            Ok(figures) => {
                // Of a hybrid's ids some trackers know one swarm, others one each.
                let all = figures.iter().map(|(_, figures)| *figures);
                let most = all.reduce(|a, b| ScrapeEntry {
                    complete: a.complete.max(b.complete),
                    downloaded: a.downloaded.max(b.downloaded),
                    incomplete: a.incomplete.max(b.incomplete),
                });
                if let Some(most) = most {
                    shared.tracker_counts(&tracker.url, most);
                }
            }
            Err(error) => tracing::debug!(tracker = name, "no figures: {}", chain(&error)),
        }
    }

    /// Drops a question that was not answered in time.
    fn give_up(&mut self, number: TrackerNumber) {
        if let Some(tracker) = self.trackers.get_mut(number) {
            tracker.give_up();
        }
    }

    fn is_complete(&self) -> bool {
        *self.shared.state.borrow() == SwarmState::Seeding
    }

    /// Whether there is something to fetch, and nobody to fetch it from.
    fn is_hungry(&self) -> bool {
        let stats = self.shared.stats.lock();
        let peers = stats.unwrap_or_else(PoisonError::into_inner).peers;
        peers == 0 && !self.shared.state.borrow().fetches_nothing()
    }

    /// Announces every id to one tracker; good if one of them went well.
    async fn announce_all(
        &mut self,
        number: TrackerNumber,
        event: AnnounceEvent,
    ) -> Result<AnnounceReply, AnnounceError> {
        let (node, shared, before) = (&self.node, &self.shared, &self.before);
        let Some(tracker) = self.trackers.get_mut(number) else {
            return Err(AnnounceError::Gone);
        };
        let name = shown_url(&tracker.url);
        let round = Round {
            node,
            shared,
            before: *before,
            event,
            tracker: &name,
        };
        tracker.tell(&round).await
    }

    /// Says goodbye to all that know us, at once.
    async fn say_stopped(&mut self, listed: Vec<TrackerNumber>) {
        let (node, shared, before) = (&self.node, &self.shared, &self.before);
        let listed = self.trackers.iter_mut().enumerate().filter_map(|(n, one)| {
            let known = listed.contains(&n);
            known.then_some(one)
        });
        let ways = listed.flat_map(|tracker| {
            let url = &tracker.url;
            tracker.transports.iter_mut().map(move |way| (url, way))
        });
        let goodbyes = ways.map(|(url, transport)| async move {
            for &id in &shared.swarm_ids {
                let stopped = request(node, shared, *before, id, AnnounceEvent::Stopped);
                if let Err(error) = transport.announce(stopped).await {
                    let tracker = shown_url(url);
                    tracing::debug!(tracker, "could not say goodbye: {error}");
                }
            }
        });
        let goodbyes = futures_util::future::join_all(goodbyes);
        if tokio::time::timeout(DEADLINE_STOPPED, goodbyes)
            .await
            .is_err()
        {
            tracing::debug!("no time to say goodbye");
        }
    }

    /// The tracker's URL without what may be somebody's passkey.
    fn name(&self, number: TrackerNumber) -> String {
        let tracker = self.trackers.get(number);
        tracker.map_or_else(String::new, |tracker| shown_url(&tracker.url))
    }
}

/// What one tracker is to be told.
struct Round<'a> {
    node: &'a Announcing,
    shared: &'a Shared,
    before: (u64, u64),
    event: AnnounceEvent,
    /// Its name, for messages.
    tracker: &'a str,
}

impl Round<'_> {
    /// Announces every id by that transport; good if one of them went well.
    async fn by(&self, transport: &mut Transport) -> Result<AnnounceReply, AnnounceError> {
        let mut best = None;
        let mut worst = None;
        for &swarm_id in &self.shared.swarm_ids {
            let request = request(self.node, self.shared, self.before, swarm_id, self.event);
            match transport.announce(request).await {
                Ok(answer) => {
                    best = Some(answer.reply.clone());
                    self.take(answer, swarm_id).await;
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

    /// Passes on the peers that the tracker names.
    async fn take(&self, answer: Answer, swarm_id: SwarmId) {
        let (tracker, Answer { reply, trust }) = (self.tracker, answer);
        if let Some(warning) = &reply.warning {
            tracing::info!(tracker, warning, "tracker warns");
        }
        tracing::debug!(
            tracker,
            swarm = %swarm_id,
            peers = reply.peers.len(),
            interval = reply.interval,
            "announced"
        );
        let mut addrs = reply.peers;
        addrs.truncate(limits::PEERS_PER_REPLY_MAX);
        let peers = Message::Peers {
            addrs,
            swarm_id,
            trust,
        };
        self.shared.tell(peers).await;
    }
}

/// What is told of one id.
fn request(
    node: &Announcing,
    shared: &Shared,
    (up_before, down_before): (u64, u64),
    swarm_id: SwarmId,
    event: AnnounceEvent,
) -> AnnounceRequest {
    let mut request = AnnounceRequest::new(swarm_id, node.peer_id, node.listen.port());
    request.event = event;
    request.key = Some(node.key);
    request.numwant = Some(match event {
        AnnounceEvent::Stopped => 0,
        _ => NUMWANT,
    });
    let offered = shared.bridge.lock();
    request.bridge = offered.unwrap_or_else(PoisonError::into_inner).clone();
    let stats = shared.stats.lock();
    let stats = stats.unwrap_or_else(PoisonError::into_inner);
    request.uploaded = stats.up_bytes.saturating_sub(up_before);
    request.downloaded = stats.down_bytes.saturating_sub(down_before);
    request.left = (stats.pieces > 0).then(|| left(&stats));
    request
}

/// For ever, if there is nothing to wait for.
async fn wait(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}

impl Transport {
    fn new(route: &Route, listen: IpAddr, url: &str, trust: Trust) -> Self {
        match url.starts_with("udp:") {
            true => Self::Udp(Box::new(udp::UdpTracker::new(
                route.connector.clone(),
                listen,
                url,
                trust,
            ))),
            false => Self::Http(http::HttpTracker {
                http: route.http.clone(),
                url: url.to_owned(),
                trust,
            }),
        }
    }

    async fn announce(&mut self, request: AnnounceRequest) -> Result<Answer, AnnounceError> {
        match self {
            Self::Http(tracker) => tracker.announce(&request).await,
            Self::Udp(tracker) => tracker.announce(request).await,
        }
    }

    async fn scrape(&mut self, ids: &[SwarmId]) -> Result<Figures, AnnounceError> {
        match self {
            Self::Http(tracker) => tracker.scrape(ids).await,
            Self::Udp(tracker) => tracker.scrape(ids).await,
        }
    }

    /// It did not answer in time.
    fn give_up(&mut self) {
        match self {
            Self::Http(_) => {}
            Self::Udp(tracker) => tracker.give_up(),
        }
    }

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

#[cfg(test)]
mod tests;
