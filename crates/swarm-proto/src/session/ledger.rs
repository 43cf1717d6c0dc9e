//! What was asked of the peer, until when.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::error::Misbehaviour;
use crate::geometry::{BlockRange, Geometry};
use crate::limits;
use crate::wire::RawBlock;

/// A block that was asked for: it exists, and has as many bytes as it should. Whether they are
/// true is another question. Made by the ledger only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    range: BlockRange,
    bytes: Bytes,
}

impl Block {
    /// Bytes of a web seed, which has no ledger: it was asked for whole ranges, in order.
    pub(crate) fn of_web_seed(range: BlockRange, bytes: Bytes) -> Option<Self> {
        (bytes.len() == range.len() as usize).then_some(Self { range, bytes })
    }

    /// The front of it that is `range`, and what is behind; `None` if that is not its front.
    pub(crate) fn cut(mut self, range: BlockRange) -> Option<(Self, Bytes)> {
        let is_front = range.piece() == self.range.piece()
            && range.begin() == self.range.begin()
            && range.len() <= self.range.len();
        let rest = is_front.then(|| self.bytes.split_off(range.len() as usize))?;
        self.range = range;
        Some((self, rest))
    }

    /// Where it lies.
    pub const fn range(&self) -> BlockRange {
        self.range
    }

    /// The bytes.
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The bytes.
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }
}

/// Where a request stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Counted on.
    Waiting,
    /// No more counted on (timed out, cancelled, or dropped by a choke), but its block may still
    /// be under way.
    Stray,
}

#[derive(Debug, Clone, Copy)]
struct Asked {
    at: Instant,
    standing: Standing,
}

/// What becomes of a request that is to be made.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// Send it.
    Send,
    /// The peer still has it from before: count on it again.
    Already,
    /// Too many are open.
    Refused,
}

/// The requests made to one peer.
///
/// A time-out is measured from the peer's last block, not from the request: a deep queue at a slow
/// peer is answered in order, and the last of it rightly waits.
#[derive(Debug)]
pub(super) struct RequestLedger {
    asked: HashMap<BlockRange, Asked>,
    waiting: usize,
    /// Strays in the order they became such, oldest first; may name requests that are gone.
    strays: VecDeque<BlockRange>,
    /// Last time the peer sent a block, or started to owe one.
    progress_at: Option<Instant>,
    unrequested: u32,
    /// Blocks that may still come though nothing in `asked` says so: of requests that were taken
    /// back and made again, which the peer may have answered twice, and of strays forgotten.
    /// Grows by our own doing only.
    excused: u32,
    timeout: Duration,
}

/// A stray request is sent anew after so long; until then the peer is taken to have it queued.
const ASK_AGAIN: Duration = Duration::from_secs(30);

impl RequestLedger {
    pub(super) fn new(timeout: Duration) -> Self {
        Self {
            asked: HashMap::new(),
            waiting: 0,
            strays: VecDeque::new(),
            progress_at: None,
            unrequested: 0,
            excused: 0,
            timeout,
        }
    }

    /// How long the next block may take from now on.
    pub(super) const fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    pub(super) fn ask(&mut self, now: Instant, range: BlockRange) -> Ask {
        if self.waiting >= limits::REQUESTS_OUT_MAX {
            return Ask::Refused;
        }
        let outcome = match self.asked.get_mut(&range) {
            Some(asked) if asked.standing == Standing::Waiting => return Ask::Already,
            Some(asked) if now.saturating_duration_since(asked.at) < ASK_AGAIN => {
                asked.standing = Standing::Waiting;
                Ask::Already
            }
            _ => {
                let before = self.asked.insert(
                    range,
                    Asked {
                        at: now,
                        standing: Standing::Waiting,
                    },
                );
                // A cancel and the block it was for may have crossed.
                self.excused = self.excused.saturating_add(u32::from(before.is_some()));
                Ask::Send
            }
        };
        if self.waiting == 0 {
            self.progress_at = Some(now);
        }
        self.waiting += 1;
        outcome
    }

    /// Takes a request back; whether the peer is to be told.
    pub(super) fn cancel(&mut self, range: BlockRange) -> bool {
        match self.asked.get(&range) {
            Some(asked) if asked.standing == Standing::Waiting => {
                self.stray(range);
                // A cancelled request is sent anew if wanted again: the peer forgets it.
                if let Some(asked) = self.asked.get_mut(&range)
                    && let Some(long_ago) = asked.at.checked_sub(ASK_AGAIN)
                {
                    asked.at = long_ago;
                }
                true
            }
            _ => false,
        }
    }

    /// The peer will not answer this one; whether it was counted on. `None` if it was not asked.
    pub(super) fn reject(&mut self, range: BlockRange) -> Option<bool> {
        let asked = self.asked.remove(&range)?;
        let waited = asked.standing == Standing::Waiting;
        self.waiting -= usize::from(waited);
        Some(waited)
    }

    /// The peer choked us and speaks no fast extension: it dropped everything.
    pub(super) fn drop_all(&mut self) -> Vec<BlockRange> {
        let dropped = self.waiting_ranges();
        for range in &dropped {
            self.cancel(*range);
        }
        dropped
    }

    /// Takes a block in. `None`: not wanted (any more), dropped.
    pub(super) fn block(
        &mut self,
        now: Instant,
        geometry: &Geometry,
        raw: RawBlock,
    ) -> Result<Option<Block>, Misbehaviour> {
        let len = u32::try_from(raw.bytes.len()).unwrap_or(u32::MAX);
        let range = geometry
            .block(raw.index, raw.begin, len)
            .map_err(Misbehaviour::OutOfRange)?;
        let Some(asked) = self.asked.remove(&range) else {
            if let Some(left) = self.excused.checked_sub(1) {
                self.excused = left;
                return Ok(None);
            }
            self.unrequested += 1;
            return match self.unrequested > limits::UNREQUESTED_BLOCKS_MAX {
                true => Err(Misbehaviour::UnrequestedBlocks),
                false => Ok(None),
            };
        };
        self.waiting -= usize::from(asked.standing == Standing::Waiting);
        self.progress_at = Some(now);
        Ok(Some(Block {
            range,
            bytes: raw.bytes,
        }))
    }

    /// Requests that waited too long; they become strays.
    pub(super) fn time_out(&mut self, now: Instant) -> Vec<BlockRange> {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return Vec::new();
        }
        let late = self.waiting_ranges();
        for range in &late {
            self.stray(*range);
        }
        late
    }

    /// When [`time_out`](Self::time_out) would find something.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.waiting {
            0 => None,
            _ => self.progress_at.map(|at| at + self.timeout),
        }
    }

    fn waiting_ranges(&self) -> Vec<BlockRange> {
        let mut ranges: Vec<_> = self
            .asked
            .iter()
            .filter(|(_, asked)| asked.standing == Standing::Waiting)
            .map(|(range, _)| *range)
            .collect();
        ranges.sort_unstable();
        ranges
    }

    fn stray(&mut self, range: BlockRange) {
        if let Some(asked) = self.asked.get_mut(&range)
            && asked.standing == Standing::Waiting
        {
            asked.standing = Standing::Stray;
            self.waiting -= 1;
            self.strays.push_back(range);
        }
        while self.strays.len() > limits::STRAY_REQUESTS_MAX {
            if let Some(oldest) = self.strays.pop_front()
                && self
                    .asked
                    .get(&oldest)
                    .is_some_and(|asked| asked.standing == Standing::Stray)
            {
                self.asked.remove(&oldest);
                self.excused = self.excused.saturating_add(1);
            }
        }
    }
}

/// A block as if it had been asked for.
#[cfg(test)]
pub(crate) fn block_for_tests(
    now: Instant,
    geometry: &Geometry,
    range: BlockRange,
    bytes: Bytes,
) -> Block {
    let mut ledger = RequestLedger::new(Duration::from_secs(1));
    ledger.ask(now, range);
    let raw = RawBlock {
        index: range.piece().get(),
        begin: range.begin(),
        bytes,
    };
    let block = ledger.block(now, geometry, raw);
    block.expect("it exists").expect("it was asked for")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(8);

    fn setup() -> (Geometry, RequestLedger, Instant) {
        let geometry = Geometry::new(32_768, 32_768 * 2_000).unwrap();
        (geometry, RequestLedger::new(TIMEOUT), Instant::now())
    }

    fn raw(range: BlockRange) -> RawBlock {
        RawBlock {
            index: range.piece().get(),
            begin: range.begin(),
            bytes: vec![0; range.len() as usize].into(),
        }
    }

    #[test]
    fn asked_blocks_come_once_and_unasked_ones_end_the_connection() {
        let (geometry, mut ledger, now) = setup();
        let range = geometry.block(1, 0, 16_384).unwrap();
        assert_eq!(ledger.ask(now, range), Ask::Send);
        assert_eq!(ledger.ask(now, range), Ask::Already);
        assert!(ledger.block(now, &geometry, raw(range)).unwrap().is_some());
        for _ in 0..limits::UNREQUESTED_BLOCKS_MAX {
            assert_eq!(ledger.block(now, &geometry, raw(range)), Ok(None));
        }
        let error = ledger.block(now, &geometry, raw(range));
        assert_eq!(error, Err(Misbehaviour::UnrequestedBlocks));
    }

    #[test]
    fn block_of_another_length_is_unrequested() {
        let (geometry, mut ledger, now) = setup();
        ledger.ask(now, geometry.block(1, 0, 16_384).unwrap());
        let short = geometry.block(1, 0, 16_383).unwrap();
        assert_eq!(ledger.block(now, &geometry, raw(short)), Ok(None));
        assert_eq!(ledger.unrequested, 1);
    }

    #[test]
    fn timed_out_blocks_are_still_taken_and_not_asked_twice() {
        let (geometry, mut ledger, now) = setup();
        let range = geometry.block(1, 0, 16_384).unwrap();
        ledger.ask(now, range);
        assert!(
            ledger
                .time_out(now + TIMEOUT - Duration::from_millis(1))
                .is_empty()
        );
        assert_eq!(ledger.time_out(now + TIMEOUT), [range]);
        assert_eq!(ledger.deadline(), None);
        assert_eq!(ledger.ask(now + TIMEOUT, range), Ask::Already);
        assert!(ledger.block(now, &geometry, raw(range)).unwrap().is_some());
        assert_eq!(ledger.waiting, 0);
        assert_eq!(ledger.ask(now + TIMEOUT, range), Ask::Send);
    }

    #[test]
    fn a_block_gives_the_rest_of_the_queue_more_time() {
        let (geometry, mut ledger, now) = setup();
        let (first, second) = (
            geometry.block(0, 0, 16_384).unwrap(),
            geometry.block(0, 16_384, 16_384).unwrap(),
        );
        ledger.ask(now, first);
        ledger.ask(now, second);
        let later = now + TIMEOUT / 2;
        ledger.block(later, &geometry, raw(first)).unwrap();
        assert!(ledger.time_out(now + TIMEOUT).is_empty());
        assert_eq!(ledger.time_out(later + TIMEOUT), [second]);
    }

    #[test]
    fn cancelled_requests_are_sent_anew_when_wanted_again() {
        let (geometry, mut ledger, now) = setup();
        let now = now + Duration::from_secs(3600);
        let range = geometry.block(1, 0, 16_384).unwrap();
        ledger.ask(now, range);
        assert!(ledger.cancel(range) && !ledger.cancel(range));
        assert_eq!(ledger.ask(now, range), Ask::Send);
        assert_eq!(ledger.waiting, 1);
    }

    #[test]
    fn a_peer_that_answers_what_was_cancelled_and_asked_again_is_honest() {
        let (geometry, mut ledger, now) = setup();
        let now = now + Duration::from_secs(3600);
        let rounds = limits::UNREQUESTED_BLOCKS_MAX + 10;
        for index in 0..rounds {
            let range = geometry.block(index, 0, 16_384).unwrap();
            assert_eq!(ledger.ask(now, range), Ask::Send);
            assert!(ledger.cancel(range));
            assert_eq!(ledger.ask(now, range), Ask::Send);
            // Sent before the cancel was read, and once more for the second request.
            assert!(ledger.block(now, &geometry, raw(range)).unwrap().is_some());
            assert_eq!(ledger.block(now, &geometry, raw(range)), Ok(None));
        }
        assert_eq!(ledger.unrequested, 0);
        // More than that is a flood as ever.
        let range = geometry.block(0, 0, 16_384).unwrap();
        for _ in 0..limits::UNREQUESTED_BLOCKS_MAX {
            assert_eq!(ledger.block(now, &geometry, raw(range)), Ok(None));
        }
        assert!(ledger.block(now, &geometry, raw(range)).is_err());
    }

    #[test]
    fn open_and_stray_requests_are_bounded() {
        let (geometry, mut ledger, now) = setup();
        for index in 0..2_000 {
            let range = geometry.block(index, 0, 16_384).unwrap();
            match ledger.ask(now, range) {
                Ask::Send => assert!((index as usize) < limits::REQUESTS_OUT_MAX),
                other => assert_eq!(other, Ask::Refused),
            }
        }
        for index in 0..2_000 {
            let range = geometry.block(index, 0, 16_384).unwrap();
            ledger.ask(now, range);
            ledger.cancel(range);
        }
        assert!(ledger.asked.len() <= limits::STRAY_REQUESTS_MAX + limits::REQUESTS_OUT_MAX);
        assert_eq!(ledger.waiting, 0);
    }
}
