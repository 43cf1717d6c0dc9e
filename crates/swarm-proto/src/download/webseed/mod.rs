//! Web seeds (BEP 19): servers that hold the files, treated as peers that never choke.
//!
//! A web seed is asked for runs of neighbouring pieces, as ranged GETs of one file each. Its bytes
//! become blocks that pass through the same assembler and the same door of verification as those
//! of peers, with the web seed named as their sender; one that lies is banned by its URL. Which
//! pieces are asked of it, and when it steps back for the swarm, says `choose`.

mod choose;
mod gather;
mod health;
mod judge;
mod plan;
mod stats;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::RngExt as _;

pub use judge::{WebFailure, WebHead, WebRange, judge};
pub use stats::{WebSeedState, WebSeedStats};

use super::peers::Rate;
use super::{Action, Download};
use crate::geometry::{BLOCK_LEN, BlockRange, ByteRange, PieceIndex};
use crate::limits;
use crate::session::{Block, ConnectionId};
use choose::Crowd;
use gather::Gather;
use health::Health;
use plan::{Part, RANGE_LEN_MAX, file_url, parts};

/// Requests under way at one web seed: the second hides the round trip of the first.
const REQUESTS_MAX: usize = 2;
/// A request that brought nothing for so long has failed.
const SILENCE_MAX: Duration = Duration::from_secs(20);
/// So has one that after this time brought less than [`TRICKLE`] bytes a second.
const TRICKLE_AFTER: Duration = Duration::from_secs(30);
const TRICKLE: u64 = 1024;
/// A run is worth so much time of a web seed's rate: longer ones commit to it for too long.
const RUN_TIME: Duration = Duration::from_secs(2);
/// Files that a web seed lacks are asked for again after this time; it may be a mirror that lags.
const MISSING_FOR: Duration = Duration::from_secs(600);
/// Files that a web seed may lack before it has brought anything.
const MISSING_FILES_MAX: usize = 8;
/// Bytes that wait to be verified before no more are taken in from web seeds.
const UNVERIFIED_MAX: u64 = 4 * 1024 * 1024;

/// Names a request to a web seed; never used twice in a download.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WebRequestId(pub u64);

/// One ranged GET to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebFetch {
    /// The web seed.
    pub seed: ConnectionId,
    /// Names the request in what follows.
    pub request: WebRequestId,
    /// The file's URL.
    pub url: String,
    /// The bytes of it.
    pub range: WebRange,
}

/// One GET under way.
#[derive(Debug)]
struct Request {
    part: Part,
    /// First byte of the content that has not come.
    at: u64,
    /// Where to stop; before the end of `part` if not all of it is wanted any more.
    end: u64,
    since: Instant,
    came_at: Instant,
}

/// One web seed.
#[derive(Debug)]
struct WebSeed {
    url: String,
    banned: bool,
    health: Health,
    rate: Rate,
    requests: BTreeMap<WebRequestId, Request>,
    /// Parts of a run that are still to be asked for.
    queue: VecDeque<Part>,
    /// Blocks that it was asked for, or will be as the queue shortens.
    asked: BTreeSet<BlockRange>,
    gather: Gather,
    missing_files: BTreeSet<usize>,
    missing_since: Option<Instant>,
    /// Bytes of the next run at most.
    run_len: u64,
    /// Where the last run ended.
    next: u32,
    /// When the last request ended.
    idle_since: Instant,
    /// Nothing was found to ask for; look again then.
    look_at: Option<Instant>,
}

/// All web seeds of a download.
#[derive(Debug, Default)]
pub(super) struct WebSeeds {
    seeds: BTreeMap<ConnectionId, WebSeed>,
    crowd: Crowd,
    requests: u64,
}

impl WebSeeds {
    /// Bytes a second of a web seed; zero for anybody else.
    pub(super) fn rate(&self, conn: ConnectionId) -> f64 {
        self.seeds
            .get(&conn)
            .map_or(0.0, |seed| seed.rate.per_sec())
    }

    /// Whether some web seed may yet be asked.
    pub(super) fn is_any_usable(&self) -> bool {
        let usable = |seed: &WebSeed| !seed.banned && !seed.health.is_given_up();
        self.seeds.values().any(usable)
    }

    /// How many may yet be asked.
    pub(super) fn usable(&self) -> usize {
        let usable = |seed: &&WebSeed| !seed.banned && !seed.health.is_given_up();
        self.seeds.values().filter(usable).count()
    }

    /// The block came from elsewhere.
    pub(super) fn cancelled(&mut self, conn: ConnectionId, range: &BlockRange) {
        if let Some(seed) = self.seeds.get_mut(&conn) {
            seed.asked.remove(range);
            seed.gather.forget(range);
        }
    }
}

impl Download {
    /// A web seed may be asked from now on. Whether it is taken: not twice, not one that was
    /// banned, and no more than [`limits::WEB_SEEDS_MAX`] in all. `conn` is a fresh number, as of
    /// a connection.
    pub fn web_seed_joined(&mut self, now: Instant, conn: ConnectionId, url: String) -> bool {
        let known = self.web.seeds.values().any(|seed| seed.url == url);
        if known || self.web.seeds.len() >= limits::WEB_SEEDS_MAX || self.config.seed_only {
            return false;
        }
        self.ticked_at.get_or_insert(now);
        self.rechoke_at.get_or_insert(now + self.config.rechoke);
        let seed = WebSeed {
            url,
            banned: false,
            health: Health::default(),
            rate: Rate::default(),
            requests: BTreeMap::new(),
            queue: VecDeque::new(),
            asked: BTreeSet::new(),
            gather: Gather::default(),
            missing_files: BTreeSet::new(),
            missing_since: None,
            run_len: 0,
            next: self.rng.random(),
            idle_since: now,
            look_at: None,
        };
        self.web.seeds.insert(conn, seed);
        self.fill_all(now);
        true
    }

    /// Whether there is room for bytes of web seeds. While there is not, the driver lets them wait
    /// where they are, and TCP tells the server.
    pub fn has_web_room(&self) -> bool {
        self.verifying_bytes < UNVERIFIED_MAX.max(2 * self.piece_len_max())
    }

    fn piece_len_max(&self) -> u64 {
        self.geometry()
            .map_or(0, |geometry| geometry.piece_length().into())
    }

    /// Bytes of a request's body came, in order.
    pub fn web_bytes(
        &mut self,
        now: Instant,
        conn: ConnectionId,
        request: WebRequestId,
        mut bytes: Bytes,
    ) {
        let Some(meta) = self.meta().cloned() else {
            return;
        };
        loop {
            let Some(seed) = self.web.seeds.get_mut(&conn) else {
                return;
            };
            let Some(under_way) = seed.requests.get_mut(&request) else {
                return;
            };
            under_way.came_at = now;
            if under_way.at >= under_way.end {
                break;
            }
            if bytes.is_empty() {
                return;
            }
            let geometry = meta.geometry();
            let at = under_way.at;
            let aligned = geometry.piece_at(at).and_then(|piece| {
                let within = u32::try_from(at - geometry.piece_offset(piece)).ok()?;
                geometry.nth_block(piece, within / BLOCK_LEN)
            });
            let Some(whole) = aligned else {
                return;
            };
            let block = asked_in(&seed.asked, &whole);
            let range = geometry.block_bytes(&block.unwrap_or(whole));
            let end = range.end.min(under_way.end);
            let len = usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX);
            if len == 0 {
                // Past what was asked of the block: padding that a server should not have.
                under_way.at = under_way.at.saturating_add(1).max(end);
                continue;
            }
            let taken = bytes.split_to(len.min(bytes.len()));
            under_way.at += taken.len() as u64;
            let count = u32::try_from(taken.len()).unwrap_or(u32::MAX);
            seed.rate.add(count);
            self.totals.down.add(count);
            self.totals.downloaded += u64::from(count);
            self.room.moved_at = Some(now);
            let Some(block) = block else {
                self.totals.wasted += u64::from(count);
                continue;
            };
            let offset = usize::try_from(at - range.start).unwrap_or(usize::MAX);
            if let Some(whole) = seed.gather.add(&meta, block, offset, taken) {
                seed.asked.remove(&block);
                if let Some(block) = Block::of_web_seed(block, whole) {
                    self.place(now, conn, block);
                }
            }
        }
        // All that is wanted of it is here.
        let cut = self.web.seeds.get(&conn).and_then(|seed| {
            let under_way = seed.requests.get(&request)?;
            Some(under_way.end < under_way.part.bytes.end)
        });
        if cut == Some(true) {
            self.actions.push_back(Action::StopFetch(conn, request));
            self.web_ended(now, conn, request, Ok(()));
        }
    }

    /// A request is over: all its bytes came, or it failed. May be called for one that was stopped.
    pub fn web_ended(
        &mut self,
        now: Instant,
        conn: ConnectionId,
        request: WebRequestId,
        result: Result<(), WebFailure>,
    ) {
        let Some(seed) = self.web.seeds.get_mut(&conn) else {
            return;
        };
        let Some(ended) = seed.requests.remove(&request) else {
            return;
        };
        seed.idle_since = now;
        let result = match result {
            Ok(()) if ended.at < ended.end => Err(WebFailure::Unusable("it ended early")),
            result => result,
        };
        match result {
            Ok(()) => {
                seed.health.succeeded();
                let took = now.saturating_duration_since(ended.since);
                let len = ended.at.saturating_sub(ended.part.bytes.start);
                let rate = len as f64 / took.as_secs_f64().max(0.001);
                let worth = rate.max(seed.rate.per_sec()) * RUN_TIME.as_secs_f64();
                // Doubled at most, lest one lucky answer commit us to a long run.
                seed.run_len = (worth as u64).min(2 * seed.run_len).min(RANGE_LEN_MAX);
            }
            Err(failure) => self.web_failed(now, conn, &ended, &failure),
        }
        self.fill_all(now);
    }

    fn web_failed(
        &mut self,
        now: Instant,
        conn: ConnectionId,
        ended: &Request,
        failure: &WebFailure,
    ) {
        let Some(meta) = self.meta().cloned() else {
            return;
        };
        let Some(seed) = self.web.seeds.get_mut(&conn) else {
            return;
        };
        tracing::debug!(url = %shown(&seed.url), %failure, "web seed failed");
        seed.run_len = 0;
        let lost = match failure {
            WebFailure::NoFile(_) | WebFailure::OtherLength => {
                seed.missing_files.insert(ended.part.file);
                seed.missing_since.get_or_insert(now);
                let files = meta.files().iter();
                let real = files.filter(|file| !file.pad && file.length > 0).count();
                let lacking = seed.missing_files.len();
                if lacking >= real || (!seed.health.is_proven() && lacking >= MISSING_FILES_MAX) {
                    seed.health.failed(now, failure, &mut self.rng);
                }
                // Whole pieces: what touches the file can't be finished by this web seed.
                meta.files().get(ended.part.file).map(|file| file.range())
            }
            _ => {
                seed.health.failed(now, failure, &mut self.rng);
                for part in std::mem::take(&mut seed.queue) {
                    self.web_release(conn, &part.bytes);
                }
                Some(ByteRange::new(ended.at, ended.part.bytes.end))
            }
        };
        if let Some(range) = lost {
            self.web_release(conn, &range);
        }
    }

    /// Gives blocks that touch the range back, to be asked of anybody.
    fn web_release(&mut self, conn: ConnectionId, range: &ByteRange) {
        let Some(geometry) = self.geometry().cloned() else {
            return;
        };
        let Some(seed) = self.web.seeds.get_mut(&conn) else {
            return;
        };
        let touched: Vec<_> = seed
            .asked
            .iter()
            .filter(|block| !geometry.block_bytes(block).intersect(range).is_empty())
            .copied()
            .collect();
        let mut pieces = BTreeSet::new();
        for block in touched {
            seed.asked.remove(&block);
            seed.gather.forget(&block);
            self.assembler.released(block, conn);
            pieces.insert(block.piece());
        }
        for piece in pieces {
            let is_ours_alone = self.assembler.owner(piece) == Some(conn);
            if is_ours_alone || self.assembler.is_untouched(piece) {
                self.abandon(piece);
                if let Some(seed) = self.web.seeds.get_mut(&conn) {
                    seed.asked.retain(|block| block.piece() != piece);
                }
                self.refresh(piece);
            }
        }
    }

    /// Asks the web seeds for as much as they may be asked for.
    pub(super) fn fill_web(&mut self, now: Instant) {
        if self.web.seeds.is_empty() || self.missing.is_none() {
            return;
        }
        self.look_at_crowd(now);
        let conns: Vec<_> = self.web.seeds.keys().copied().collect();
        for conn in conns {
            while self.has_free_request(now, conn) && self.next_request(now, conn) {}
        }
    }

    fn has_free_request(&self, now: Instant, conn: ConnectionId) -> bool {
        let Some(seed) = self.web.seeds.get(&conn) else {
            return false;
        };
        let most = match seed.health.is_proven() {
            true => REQUESTS_MAX,
            false => 1,
        };
        !seed.banned && seed.requests.len() < most && seed.health.is_ready(now)
    }

    /// Makes one more request; false if there is nothing to ask for.
    fn next_request(&mut self, now: Instant, conn: ConnectionId) -> bool {
        let Some(meta) = self.meta().cloned() else {
            return false;
        };
        if self.web.seeds.get(&conn).is_none_or(|s| s.queue.is_empty()) {
            let blocks = self.choose_run(now, conn);
            let Some(seed) = self.web.seeds.get_mut(&conn) else {
                return false;
            };
            seed.queue = parts(&meta, &blocks).into();
            seed.asked.extend(blocks);
        }
        let Some(seed) = self.web.seeds.get_mut(&conn) else {
            return false;
        };
        let Some(part) = seed.queue.pop_front() else {
            return false;
        };
        let file = meta.files().get(part.file);
        let (Some(file), Some(url)) = (file, file_url(&seed.url, &meta, part.file)) else {
            return false;
        };
        self.web.requests += 1;
        let request = WebRequestId(self.web.requests);
        seed.requests.insert(
            request,
            Request {
                part,
                at: part.bytes.start,
                end: part.bytes.end,
                since: now,
                came_at: now,
            },
        );
        self.actions.push_back(Action::FetchRange(WebFetch {
            seed: conn,
            request,
            url,
            range: WebRange {
                start: part.bytes.start.saturating_sub(file.offset),
                end: part.bytes.end.saturating_sub(file.offset),
                file_len: file.length,
            },
        }));
        true
    }

    /// Time went by: rates, silent requests, requests for what is no longer wanted.
    pub(super) fn tick_web(&mut self, now: Instant, elapsed: Duration) {
        let has_room = self.has_web_room();
        let mut stop = Vec::new();
        for (conn, seed) in &mut self.web.seeds {
            seed.rate.tick(elapsed);
            if seed
                .missing_since
                .is_some_and(|since| since + MISSING_FOR <= now)
            {
                seed.missing_since = None;
                seed.missing_files.clear();
            }
            let assembler = &self.assembler;
            seed.asked.retain(|block| assembler.contains(block.piece()));
            for (request, under_way) in &mut seed.requests {
                if !has_room {
                    // The wait is ours.
                    under_way.came_at = now;
                    under_way.since += elapsed;
                    continue;
                }
                let age = now.saturating_duration_since(under_way.since);
                let came = under_way.at.saturating_sub(under_way.part.bytes.start);
                let trickles = age >= TRICKLE_AFTER && came < TRICKLE * age.as_secs();
                let is_silent = under_way.came_at + SILENCE_MAX <= now;
                let owes = ByteRange::new(under_way.at, under_way.end);
                let geometry = self.torrent.as_ref().map(|t| t.meta.geometry());
                let is_wanted = geometry.is_some_and(|geometry| {
                    let mut asked = seed.asked.iter();
                    asked.any(|block| !geometry.block_bytes(block).intersect(&owes).is_empty())
                });
                if is_silent || trickles {
                    stop.push((*conn, *request, Err(WebFailure::Stalled)));
                } else if !is_wanted {
                    under_way.end = under_way.at;
                    stop.push((*conn, *request, Ok(())));
                }
            }
        }
        for (conn, request, result) in stop {
            self.actions.push_back(Action::StopFetch(conn, request));
            self.web_ended(now, conn, request, result);
        }
    }

    /// Stops what is under way at a web seed, and gives back what it owes.
    fn stop_web(&mut self, conn: ConnectionId) {
        let Some(seed) = self.web.seeds.get_mut(&conn) else {
            return;
        };
        seed.queue.clear();
        for request in std::mem::take(&mut seed.requests).into_keys() {
            self.actions.push_back(Action::StopFetch(conn, request));
        }
        self.web_release(conn, &ByteRange::new(0, u64::MAX));
    }

    /// Bans a web seed that lied about a piece; false if `conn` is none.
    pub(super) fn ban_web_seed(
        &mut self,
        now: Instant,
        conn: ConnectionId,
        piece: PieceIndex,
        what: &str,
    ) -> bool {
        let Some(seed) = self.web.seeds.get_mut(&conn) else {
            return false;
        };
        if std::mem::replace(&mut seed.banned, true) {
            return true;
        }
        let url = shown(&seed.url).to_owned();
        tracing::info!(url, piece = piece.get(), "false block, web seed banned");
        self.totals.banned += 1;
        self.assembler.forget(conn);
        self.stop_web(conn);
        self.actions.push_back(Action::BanWebSeed {
            seed: conn,
            url,
            reason: what.to_owned(),
        });
        self.fill_all(now);
        true
    }
}

/// The asked block that begins where `whole` does; it is shorter where padding follows.
fn asked_in(asked: &BTreeSet<BlockRange>, whole: &BlockRange) -> Option<BlockRange> {
    let mut up_to = asked.range(..=*whole).rev();
    let found = up_to.next().copied()?;
    (found.piece() == whole.piece() && found.begin() == whole.begin()).then_some(found)
}

/// A URL as logs may show it: a query may hold what they should not.
fn shown(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or_default()
}

#[cfg(test)]
mod tests;
