//! How much is asked ahead of what came: of one peer, and of all together.
//!
//! Of a peer as much is asked as keeps it sending: its rate times the time in which it answers
//! (BEP 3: "it's important to always have a few requests queued"). Of all together no more than
//! our own line carries in some seconds: what is asked beyond that only waits in their queues,
//! and everything that is asked later waits behind it.

use std::time::{Duration, Instant};

use super::Download;
use super::api::DownloadConfig;
use super::peers::{Peer, Rate};
use crate::geometry::BLOCK_LEN;
use crate::limits;
use crate::session::{Command, ConnectionId};

/// Requests that a peer is taken to queue if it doesn't say how many (`reqq`, BEP 10): what
/// libtorrent takes it to be.
const QUEUE_DEFAULT: u32 = 250;
/// A peer of which more is asked than [`DownloadConfig::depth_max`] since it is far away owes so
/// many times what is on the way: all of it, and some to let the rate rise.
const FAR_GAIN: f64 = 1.5;
/// The same while the rate still rises: it doubles with each round trip.
const FAR_RISE: f64 = 2.0;

/// No peer is farther than this, whatever it makes us wait: a round trip by satellite, and more.
const FAR_MAX: Duration = Duration::from_secs(1);

/// Whether a rate rises is told by so many bytes.
const RISE_BYTES: u64 = 4 * BLOCK_LEN as u64;

/// Blocks asked of all together before one came, after which each peer is asked for one only.
const TOTAL_FIRST: usize = 12;
/// Blocks asked of all together at least, however thin the line is.
const TOTAL_MIN: usize = 4;
/// Where even the block that came soonest took longer, what is asked for waits for our own line, or
/// for peers that are all thin: no more than [`TOTAL_SECS`] are asked for.
const LATE: Duration = Duration::from_secs(2);
/// Seconds of the line's rate that are asked of all together at most. A peer that sends a block in
/// less is worth to be asked.
const TOTAL_SECS: f64 = 8.0;

/// What blocks take on a line is told by its rate over so many seconds.
const SLOW_SECS: f64 = 10.0;
/// What comes less fast than this, in bytes a second, tells nothing of how long a block takes.
const RATE_MIN: f64 = 1024.0;
/// A block is given up only after so many times what blocks take on this line at present.
const PATIENCE: f64 = 3.0;
/// A peer is taken to be silent after so long at least, or twice what a block takes.
const SILENT_MIN: Duration = Duration::from_secs(1);
/// However thin the line is.
const PATIENCE_MAX: Duration = Duration::from_secs(60);

/// Whether more comes since more was asked for: told by what came in two spans of time. The average
/// rate would lag behind, and let queues grow.
#[derive(Debug, Clone, Copy)]
struct Rise {
    rising: bool,
    /// Bytes that came in this span, and its seconds.
    came: u64,
    secs: f64,
    /// Bytes a second of the span before.
    before: f64,
}

impl Rise {
    const fn new() -> Self {
        Self {
            rising: true,
            came: 0,
            secs: 0.0,
            before: 0.0,
        }
    }

    /// So many bytes came since the last tick.
    fn tick(&mut self, came: u64, elapsed: Duration) {
        self.came += came;
        self.secs += elapsed.as_secs_f64();
        // On a thin line blocks come so seldom that a tick tells nothing.
        if self.came >= RISE_BYTES {
            let rate = self.came as f64 / self.secs;
            self.rising &= rate >= self.before * 1.25;
            (self.before, self.came, self.secs) = (rate, 0, 0.0);
        }
    }
}

/// How many blocks one peer is asked for at a time.
#[derive(Debug)]
pub(super) struct Depth {
    blocks: usize,
    rise: Rise,
    /// The least time that a block took to come: a round trip, as long as nothing waits in queues.
    answers_in: Option<Duration>,
}

impl Depth {
    pub(super) const fn new(config: &DownloadConfig) -> Self {
        Self {
            blocks: config.depth_min,
            rise: Rise::new(),
            answers_in: None,
        }
    }

    /// How many, of a peer that says to queue so many.
    pub(super) fn blocks(&self, queues: Option<u32>) -> usize {
        let queues = usize::try_from(queues.unwrap_or(QUEUE_DEFAULT)).unwrap_or(usize::MAX);
        self.blocks.min(queues)
    }

    /// A block came that was asked for so long ago. As long as the rate rises, more is asked ahead.
    pub(super) fn block_came(&mut self, waited: Duration, rate: &Rate, config: &DownloadConfig) {
        let least = self.answers_in.get_or_insert(waited);
        *least = (*least).min(waited);
        // What waits for so long waits in a queue, and more would only lengthen it.
        let queued = 2.0 * (config.depth_secs + least.as_secs_f64());
        self.rise.rising &= waited.as_secs_f64() < queued;
        if self.rise.rising {
            self.blocks = (self.blocks + 1).min(self.most(FAR_RISE, rate, config));
        }
    }

    /// It sends again after it had fallen silent.
    pub(super) const fn woke(&mut self, config: &DownloadConfig) {
        self.blocks = config.depth_min;
    }

    /// Requests went unanswered: from now on one at a time.
    pub(super) const fn timed_out(&mut self) {
        self.rise.rising = false;
        self.blocks = 1;
    }

    /// Time went by, in which so many bytes came.
    pub(super) fn tick(
        &mut self,
        (came, elapsed): (u64, Duration),
        rate: &Rate,
        snubs: bool,
        config: &DownloadConfig,
    ) {
        self.rise.tick(came, elapsed);
        if !self.rise.rising && !snubs {
            let secs = config.depth_secs.max(2.0 * self.round_trip());
            let blocks = (rate.per_sec() * secs / f64::from(BLOCK_LEN)) as usize + 2;
            let most = self.most(FAR_GAIN, rate, config);
            self.blocks = blocks.clamp(config.depth_min, most);
        }
    }

    /// The most that may be asked: enough for a near peer, and for a far one what is on the way.
    fn most(&self, gain: f64, rate: &Rate, config: &DownloadConfig) -> usize {
        let on_the_way = rate.per_sec_at_best() * self.round_trip();
        let far = (gain * on_the_way / f64::from(BLOCK_LEN)) as usize;
        far.max(config.depth_max).min(limits::REQUESTS_OUT_MAX)
    }

    fn round_trip(&self) -> f64 {
        self.answers_in
            .unwrap_or_default()
            .min(FAR_MAX)
            .as_secs_f64()
    }
}

/// What all peers together are asked for.
#[derive(Debug)]
pub(super) struct Total {
    /// Blocks that are asked for and did not come.
    owed: usize,
    /// Those of them, at the last tick, whose peers have fallen silent: they take nothing of the
    /// line.
    silent: usize,
    /// Nothing came of what is asked for.
    blank: bool,
    /// The least time that a block took of those that came since the last tick.
    least_wait: Option<Duration>,
    /// No block comes soon, whoever sends it.
    is_late: bool,
    /// Blocks that may be owed then.
    most: usize,
    /// Bytes a second over some ten seconds: blocks of a thin line come seconds apart.
    per_sec: f64,
    /// How long a block may take.
    patience: Duration,
    /// Bytes of pieces under way that far peers need, beyond what is usual.
    far_bytes: u64,
}

impl Default for Total {
    fn default() -> Self {
        Self {
            owed: 0,
            silent: 0,
            blank: true,
            least_wait: None,
            is_late: false,
            most: TOTAL_MIN,
            per_sec: 0.0,
            patience: Duration::ZERO,
            far_bytes: 0,
        }
    }
}

impl Total {
    pub(super) fn asked(&mut self) {
        self.owed += 1;
    }

    pub(super) fn settled(&mut self, blocks: usize) {
        self.owed = self.owed.saturating_sub(blocks);
    }

    /// A block came that took so long.
    pub(super) fn block_came(&mut self, waited: Duration) {
        self.blank = false;
        self.least_wait = Some(self.least_wait.map_or(waited, |least| least.min(waited)));
    }

    /// Whether nothing more is to be asked of anybody.
    pub(super) const fn is_full(&self) -> bool {
        self.is_late && self.awaited() >= self.most
    }

    /// Whether each peer is asked for one block only, so that there is one for each.
    pub(super) const fn is_scarce(&self) -> bool {
        match self.blank {
            true => self.owed >= TOTAL_FIRST,
            false => self.is_late && self.awaited() * 4 >= self.most * 3,
        }
    }

    /// Whether what is asked of all is bounded, since no block comes soon.
    pub(super) const fn is_late(&self) -> bool {
        self.is_late
    }

    const fn awaited(&self) -> usize {
        self.owed.saturating_sub(self.silent)
    }

    /// After what time a peer that owes something is silent.
    fn silent_after(&self) -> Duration {
        SILENT_MIN.max(self.patience.mul_f64(2.0 / PATIENCE))
    }

    pub(super) const fn far_bytes(&self) -> u64 {
        self.far_bytes
    }

    fn tick(&mut self, came: u64, elapsed: Duration, rate: &Rate) {
        let now = came as f64 / elapsed.as_secs_f64();
        let weight = (elapsed.as_secs_f64() / SLOW_SECS).min(1.0);
        self.per_sec += (now - self.per_sec) * weight;
        if let Some(least) = self.least_wait.take() {
            self.is_late = least > LATE;
        }
        if self.owed == 0 {
            // Whatever held before, nothing of it is known now.
            (self.blank, self.is_late) = (true, false);
        }
        // Blocks of many thin peers come in gusts.
        let rate = rate.per_sec_at_best().max(self.per_sec);
        let blocks = (rate * TOTAL_SECS / f64::from(BLOCK_LEN)) as usize;
        self.most = blocks.max(TOTAL_MIN);
        self.patience = match self.per_sec < RATE_MIN {
            true => Duration::ZERO,
            false => {
                let owed = self.awaited() as f64 * f64::from(BLOCK_LEN);
                let secs = (PATIENCE * owed / self.per_sec).min(PATIENCE_MAX.as_secs_f64());
                // In steps, so that sessions are not told of each change.
                Duration::from_secs((secs / 4.0) as u64 * 4)
            }
        };
    }
}

impl Download {
    /// Time went by, in which so many bytes came; the rates have been brought up to date.
    pub(super) fn tick_ahead(&mut self, now: Instant, came: u64, elapsed: Duration) {
        let silent_after = self.ahead.silent_after();
        let silent = |peer: &&Peer| peer.is_silent(now, silent_after);
        let silent = self.peers.values().filter(silent);
        self.ahead.silent = silent.map(|peer| peer.asked.len()).sum();
        self.ahead.tick(came, elapsed, &self.totals.down);
        let depths = self.peers.values().map(Peer::depth);
        let far = depths.filter(|depth| *depth > self.config.depth_max);
        let far: u64 = far.map(|depth| depth as u64 * u64::from(BLOCK_LEN)).sum();
        // Blocks of one peer follow each other, so that few pieces are begun and not all asked for.
        self.ahead.far_bytes = match far {
            0 => 0,
            _ => far.saturating_add(self.config.pending_bytes_max),
        };
        let owes = |(conn, peer): (&ConnectionId, &Peer)| (!peer.asked.is_empty()).then_some(*conn);
        let owing: Vec<_> = self.peers.iter().filter_map(owes).collect();
        for conn in owing {
            self.tell_patience(conn);
        }
    }

    /// Whether this peer is asked for a block though all owe enough: it might send sooner than they
    /// do. One such at a time, for as long as a block should take.
    pub(super) fn may_try(&self, now: Instant, conn: ConnectionId) -> bool {
        let is_tried = |peer: &Peer| {
            let asked_at = peer.asked.values().min();
            !peer.has_sent() && asked_at.is_some_and(|at| now < *at + LATE)
        };
        let is_new = |peer: &Peer| !peer.has_sent() && peer.asked.is_empty();
        self.peers.get(&conn).is_some_and(is_new) && !self.peers.values().any(is_tried)
    }

    /// Tells the peer's session how long a block may take.
    pub(super) fn tell_patience(&mut self, conn: ConnectionId) {
        let patience = self.ahead.patience;
        if let Some(peer) = self.peers.get_mut(&conn)
            && std::mem::replace(&mut peer.patience, patience) != patience
        {
            self.command(conn, Command::RequestPatience(patience));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(500);
    const NEAR: Duration = Duration::from_millis(10);

    /// Blocks of a peer come at that rate for so long.
    fn flow(depth: &mut Depth, rate: &mut Rate, per_tick: u32, ticks: u32, waited: Duration) {
        let config = DownloadConfig::default();
        for _ in 0..ticks {
            for _ in 0..per_tick {
                rate.add(BLOCK_LEN);
                depth.block_came(waited, rate, &config);
            }
            let came = rate.tick(TICK);
            depth.tick((came, TICK), rate, false, &config);
        }
    }

    #[test]
    fn depth_follows_the_rate() {
        let config = DownloadConfig::default();
        let (mut depth, mut rate) = (Depth::new(&config), Rate::default());
        for _ in 0..200 {
            depth.block_came(NEAR, &rate, &config);
        }
        assert_eq!(depth.blocks, config.depth_max, "doubled each round trip");
        flow(&mut depth, &mut rate, 10, 20, NEAR);
        assert!((10..=14).contains(&depth.blocks), "{depth:?}");
        depth.timed_out();
        depth.tick((0, TICK), &rate, true, &config);
        assert_eq!(depth.blocks, 1);
        depth.woke(&config);
        assert_eq!(depth.blocks, config.depth_min);
    }

    #[test]
    fn of_a_far_peer_more_is_asked_than_of_a_near_one_as_fast() {
        let config = DownloadConfig::default();
        let depths = [NEAR, Duration::from_millis(200)].map(|waited| {
            let (mut depth, mut rate) = (Depth::new(&config), Rate::default());
            // 100 MB/s.
            flow(&mut depth, &mut rate, 3052, 20, waited);
            depth.blocks(Some(u32::MAX))
        });
        let on_the_way = (100e6 * 0.2 / 16_384.0) as usize;
        assert_eq!(depths[0], config.depth_max);
        assert!(
            (on_the_way..2 * on_the_way).contains(&depths[1]),
            "{depths:?}"
        );
    }

    #[test]
    fn no_peer_is_asked_for_more_than_it_queues() {
        let config = DownloadConfig::default();
        let (mut depth, mut rate) = (Depth::new(&config), Rate::default());
        flow(&mut depth, &mut rate, 3052, 20, Duration::from_millis(200));
        assert_eq!(depth.blocks(Some(7)), 7);
        assert_eq!(depth.blocks(None), QUEUE_DEFAULT as usize);
        assert!(depth.blocks(Some(u32::MAX)) <= limits::REQUESTS_OUT_MAX);
    }

    #[test]
    fn a_queue_that_only_grows_is_not_made_longer() {
        let config = DownloadConfig::default();
        let (mut depth, rate) = (Depth::new(&config), Rate::default());
        for nth in 1..100 {
            depth.block_came(Duration::from_secs(nth), &rate, &config);
        }
        assert!(depth.blocks < 10, "{depth:?}");
    }

    /// Blocks come that each took so long.
    fn arrive(total: &mut Total, rate: &mut Rate, blocks: u32, waited: Duration) {
        for _ in 0..blocks {
            rate.add(BLOCK_LEN);
            total.block_came(waited);
        }
        let came = rate.tick(TICK);
        total.tick(came, TICK, rate);
    }

    #[test]
    fn all_together_owe_some_seconds_of_a_thin_line() {
        let (mut total, mut rate) = (Total::default(), Rate::default());
        total.owed = 20;
        // A block each two seconds: 8 KiB/s.
        for tick in 0..200 {
            let blocks = u32::from(tick % 4 == 0);
            arrive(&mut total, &mut rate, blocks, Duration::from_secs(40));
        }
        assert!((TOTAL_MIN..=16).contains(&total.most), "{total:?}");
        assert!(total.is_full() && total.is_scarce());
        // What is under way takes half a minute, and is not given up.
        assert_eq!(total.patience, PATIENCE_MAX);
        // As soon as blocks come quickly there is no bound.
        arrive(&mut total, &mut rate, 10, Duration::from_secs(1));
        assert!(!total.is_full() && !total.is_scarce());
        // Peers that owe all of it and are silent keep nobody from being asked.
        arrive(&mut total, &mut rate, 10, Duration::from_secs(40));
        total.owed = 1000;
        assert!(total.is_full());
        total.silent = 999;
        assert!(!total.is_full());
    }

    #[test]
    fn before_a_block_came_each_of_many_peers_is_asked_for_one() {
        let (mut total, mut rate) = (Total::default(), Rate::default());
        (0..TOTAL_FIRST).for_each(|_| total.asked());
        assert!(total.is_scarce() && !total.is_full());
        arrive(&mut total, &mut rate, 1, NEAR);
        assert!(!total.is_scarce());
        // Later, when nothing is under way, nothing is known.
        total.settled(TOTAL_FIRST);
        arrive(&mut total, &mut rate, 0, NEAR);
        (0..TOTAL_FIRST).for_each(|_| total.asked());
        assert!(total.is_scarce());
    }
}
