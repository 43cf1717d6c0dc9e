//! What the peer asked of us.

use std::collections::VecDeque;

use crate::geometry::BlockRange;
use crate::limits;

/// Requests of the peer that are not yet answered.
///
/// Only so many are passed on at a time, so that a peer that asks for much and reads little costs
/// twelve bytes a request and not a block.
#[derive(Debug, Default)]
pub(super) struct Uploads {
    /// Not yet passed on.
    queue: VecDeque<BlockRange>,
    /// Passed on; `true` once the block is in hand and waits to be sent.
    passed: Vec<(BlockRange, bool)>,
    /// Requests refused, since the peer was last unchoked.
    pub(super) refused: u32,
}

/// Where a request was when it was taken back.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Removed {
    /// Nobody heard of it yet.
    Queued,
    /// The driver is about to answer it.
    Passed,
    /// Its block waits to be sent.
    Answered,
}

impl Uploads {
    /// Queues a request; `false` if there are too many.
    pub(super) fn push(&mut self, range: BlockRange) -> bool {
        let room = self.queue.len() + self.passed.len() < limits::REQUESTS_IN_MAX;
        if room {
            self.queue.push_back(range);
        }
        room
    }

    /// The next request that should be passed on, if there is room for its block.
    pub(super) fn pass_on(&mut self) -> Option<BlockRange> {
        if self.passed.len() >= limits::REQUESTS_PASSED_MAX {
            return None;
        }
        let range = self.queue.pop_front()?;
        self.passed.push((range, false));
        Some(range)
    }

    /// The driver has the block; `false` if nobody waits for it any more.
    pub(super) fn answered(&mut self, range: BlockRange) -> bool {
        match self
            .passed
            .iter_mut()
            .find(|entry| **entry == (range, false))
        {
            Some((_, answered)) => {
                *answered = true;
                true
            }
            None => false,
        }
    }

    /// The driver can't answer; `false` if nobody waits any more.
    pub(super) fn failed(&mut self, range: BlockRange) -> bool {
        self.take_passed((range, false))
    }

    /// The block is on its way.
    pub(super) fn departed(&mut self, range: BlockRange) {
        self.take_passed((range, true));
    }

    /// The peer takes a request back.
    pub(super) fn remove(&mut self, range: BlockRange) -> Option<Removed> {
        if let Some(at) = self.queue.iter().position(|queued| *queued == range) {
            self.queue.remove(at);
            return Some(Removed::Queued);
        }
        if self.take_passed((range, false)) {
            return Some(Removed::Passed);
        }
        self.take_passed((range, true)).then_some(Removed::Answered)
    }

    /// Takes every request out, in the order they came.
    pub(super) fn drain(&mut self) -> Vec<(BlockRange, Removed)> {
        let passed = self
            .passed
            .drain(..)
            .map(|(range, answered)| match answered {
                true => (range, Removed::Answered),
                false => (range, Removed::Passed),
            });
        passed
            .chain(self.queue.drain(..).map(|range| (range, Removed::Queued)))
            .collect()
    }

    fn take_passed(&mut self, entry: (BlockRange, bool)) -> bool {
        match self.passed.iter().position(|passed| *passed == entry) {
            Some(at) => {
                self.passed.remove(at);
                true
            }
            None => false,
        }
    }
}
