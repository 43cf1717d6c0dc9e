//! Who waits for a line, in which lane, and whose turn it is.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::pace::{Pace, Turn};

/// The most bytes of one turn; one block of a piece.
const QUANTUM: usize = 16 * 1024;

/// The least bytes of one turn, however slow the line; about one packet.
const QUANTUM_MIN: usize = 1400;

/// How long one turn may keep the line, in seconds.
const TURN: f64 = 0.002;

/// The least weight of a lane.
const WEIGHT_MIN: f64 = 0.001;

/// One line, its limit, and all who wait for it.
pub(super) struct Shared {
    /// Bytes per second; 0 is unlimited.
    rate: AtomicU64,
    passed: AtomicU64,
    line: Mutex<Line>,
    repriced: Notify,
}

struct Line {
    pace: Pace,
    /// Never empty, and never shrinks.
    lanes: Vec<Lane>,
    /// The tag of the lane served last.
    tag: f64,
    next: u64,
    /// Whether [`Shared::serve`] runs.
    served: bool,
}

struct Lane {
    weight: f64,
    /// Bytes served over weight; the lane with the least is next.
    tag: f64,
    /// Who waits, by ticket number; the head is next. One entry for each stream, so bounded as
    /// connections are.
    queue: BTreeMap<u64, Waiter>,
}

/// A turn under way.
#[derive(Debug, Clone, Copy)]
struct Serving {
    lane: usize,
    number: u64,
    turn: Turn,
}

struct Waiter {
    bytes: usize,
    waker: Option<Waker>,
}

impl Waiter {
    fn go(self) {
        if let Some(waker) = self.waker {
            waker.wake();
        }
    }
}

impl Lane {
    fn new(weight: f64) -> Self {
        Self {
            weight: weight.max(WEIGHT_MIN),
            tag: 0.0,
            queue: BTreeMap::new(),
        }
    }
}

impl Line {
    /// Stands somebody in a lane's queue; the ticket's number.
    fn join(&mut self, lane: usize, bytes: usize) -> u64 {
        let (number, tag) = (self.next, self.tag);
        self.next = self.next.wrapping_add(1);
        if let Some(lane) = self.lanes.get_mut(lane) {
            if lane.queue.is_empty() {
                // What a lane did not use while it had nothing to send is gone.
                lane.tag = lane.tag.max(tag);
            }
            lane.queue.insert(number, Waiter { bytes, waker: None });
        }
        number
    }

    /// Whose turn it is, and until when. The lane is charged for it.
    fn begin(&mut self, now: Instant, rate: u64) -> Option<Serving> {
        let waiting = self.lanes.iter_mut().enumerate();
        let (index, lane) = waiting
            .filter(|(_, lane)| !lane.queue.is_empty())
            .min_by(|(_, a), (_, b)| a.tag.total_cmp(&b.tag))?;
        let (number, waiter) = lane.queue.first_key_value()?;
        let (number, bytes) = (*number, waiter.bytes);
        self.tag = lane.tag;
        lane.tag += bytes as f64 / lane.weight;
        Some(Serving {
            lane: index,
            number,
            turn: self.pace.turn(now, bytes, rate),
        })
    }

    /// The turn is over: who had it, unless they left, and then the time is given back.
    fn end(&mut self, serving: &Serving) -> Option<Waiter> {
        let queue = self.queue(serving.lane);
        let served = queue.and_then(|queue| queue.remove(&serving.number));
        if served.is_none() {
            self.pace.undo(serving.turn);
        }
        served
    }

    /// Somebody leaves the queue.
    fn leave(&mut self, lane: usize, number: u64, paid: Paid, now: Instant, rate: u64) {
        let left = self.queue(lane).and_then(|queue| queue.remove(&number));
        if let (Some(left), Paid::After) = (left, paid) {
            self.pace.charge(now, left.bytes, rate);
        }
    }

    /// Empties all queues.
    fn release(&mut self) -> Vec<Waiter> {
        let queues = self.lanes.iter_mut().map(|lane| &mut lane.queue);
        queues
            .flat_map(|queue| std::mem::take(queue).into_values())
            .collect()
    }

    fn queue(&mut self, lane: usize) -> Option<&mut BTreeMap<u64, Waiter>> {
        self.lanes.get_mut(lane).map(|lane| &mut lane.queue)
    }
}

impl Shared {
    /// A line of so many bytes a second, with one lane of weight 1; 0 is unlimited.
    pub(super) fn new(rate: u64) -> Arc<Self> {
        Arc::new(Self {
            rate: AtomicU64::new(rate),
            passed: AtomicU64::new(0),
            line: Mutex::new(Line {
                pace: Pace::default(),
                lanes: vec![Lane::new(1.0)],
                tag: 0.0,
                next: 0,
                served: false,
            }),
            repriced: Notify::new(),
        })
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn rate(&self) -> u64 {
        self.rate.load(Ordering::Relaxed)
    }

    pub(super) fn set_rate(&self, rate: u64) {
        if self.rate.swap(rate, Ordering::Relaxed) != rate {
            self.repriced.notify_one();
        }
    }

    pub(super) fn count(&self, bytes: usize) {
        self.passed.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn passed(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }

    /// Bytes of one turn.
    pub(super) fn quantum(&self) -> usize {
        match self.rate() {
            0 => QUANTUM,
            rate => ((rate as f64 * TURN) as usize).clamp(QUANTUM_MIN, QUANTUM),
        }
    }

    /// The number of a new lane.
    pub(super) fn add_lane(&self, weight: f64) -> usize {
        let mut line = self.line();
        line.lanes.push(Lane::new(weight));
        line.lanes.len() - 1
    }

    pub(super) fn set_weight(&self, lane: usize, weight: f64) {
        if let Some(lane) = self.line().lanes.get_mut(lane) {
            lane.weight = weight.max(WEIGHT_MIN);
        }
    }

    /// How many wait.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        let line = self.line();
        line.lanes.iter().map(|lane| lane.queue.len()).sum()
    }

    /// Serves the lanes until all are empty. Turns end by the clock alone: a stream that does not
    /// come for its turn wastes that turn and holds up nobody.
    async fn serve(self: Arc<Self>) {
        loop {
            let mut rate = self.rate();
            let mut serving = {
                let mut line = self.line();
                if rate == 0 {
                    line.release().into_iter().for_each(Waiter::go);
                }
                let Some(serving) = line.begin(Instant::now(), rate) else {
                    line.served = false;
                    return;
                };
                serving
            };
            while serving.turn.end > Instant::now() {
                tokio::select! {
                    () = sleep_until(serving.turn.end) => {}
                    () = self.repriced.notified() => {
                        let (now, new) = (Instant::now(), self.rate());
                        self.line().pace.reprice(now, &mut serving.turn, rate, new);
                        rate = new;
                    }
                }
            }
            if let Some(served) = self.line().end(&serving) {
                served.go();
            }
        }
    }
}

/// Whether bytes pass before their ticket is served, or after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Paid {
    /// A ticket that is given up has cost nothing.
    Before,
    /// A ticket that is given up is a debt of the line.
    After,
}

/// A place in a lane's queue; gives up its turn when dropped.
pub(super) struct Ticket {
    shared: Arc<Shared>,
    lane: usize,
    number: u64,
    paid: Paid,
}

impl Ticket {
    pub(super) fn new(shared: &Arc<Shared>, lane: usize, bytes: usize, paid: Paid) -> Self {
        let mut line = shared.line();
        let number = line.join(lane, bytes);
        if !line.served {
            line.served = true;
            tokio::spawn(Arc::clone(shared).serve());
        }
        drop(line);
        Self {
            shared: Arc::clone(shared),
            lane,
            number,
            paid,
        }
    }

    /// Ready once its turn is over.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut line = self.shared.line();
        let queue = line.queue(self.lane);
        match queue.and_then(|queue| queue.get_mut(&self.number)) {
            Some(waiter) => {
                waiter.waker = Some(cx.waker().clone());
                Poll::Pending
            }
            None => Poll::Ready(()),
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let (now, rate) = (Instant::now(), self.shared.rate());
        let mut line = self.shared.line();
        line.leave(self.lane, self.number, self.paid, now, rate);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn line() -> Line {
        Line {
            pace: Pace::default(),
            lanes: vec![Lane::new(1.0)],
            tag: 0.0,
            next: 0,
            served: false,
        }
    }

    /// Streams that always want a turn, on a clock that wakes up to 5 ms late; bytes of each.
    fn busy(line: &mut Line, streams: usize, from: Instant, secs: u64, rate: u64) -> Vec<u64> {
        let quantum = ((rate as f64 * TURN) as usize).clamp(QUANTUM_MIN, QUANTUM);
        let mut tickets: Vec<u64> = (0..streams).map(|_| line.join(0, quantum)).collect();
        let mut passed = vec![0; streams];
        let mut now = from;
        for late in (0..6).cycle() {
            let serving = line.begin(now, rate).expect("all want a turn");
            now = now.max(serving.turn.end + Duration::from_millis(late));
            if now >= from + Duration::from_secs(secs) {
                break;
            }
            line.end(&serving).expect("nobody leaves");
            let at = tickets.iter().position(|ticket| *ticket == serving.number);
            let at = at.expect("somebody was served");
            passed[at] += quantum as u64;
            tickets[at] = line.join(0, quantum);
        }
        line.release();
        passed
    }

    #[test]
    fn any_number_of_streams_get_the_rate_to_a_hundredth_and_equal_shares() {
        for rate in [12_500, 125_000, 1_250_000, 12_500_000] {
            for streams in [1, 2, 40] {
                let passed = busy(&mut line(), streams, Instant::now(), 10, rate);
                let sum: u64 = passed.iter().sum();
                let off = sum as f64 / (rate * 10) as f64 - 1.0;
                assert!(off.abs() < 0.02, "{streams} at {rate} bytes/s: {off}");
                let (least, most) = (passed.iter().min(), passed.iter().max());
                let apart = most.unwrap() - least.unwrap();
                assert!(apart <= QUANTUM as u64, "{streams} at {rate}: {apart}");
            }
        }
    }

    #[test]
    fn another_rate_is_held_from_then_on() {
        let mut line = line();
        let mut now = Instant::now();
        for rate in [1_000_000, 100_000, 5_000_000, 20_000] {
            let sum: u64 = busy(&mut line, 3, now, 10, rate).iter().sum();
            let off = sum as f64 / (rate * 10) as f64 - 1.0;
            assert!(off.abs() < 0.02, "at {rate} bytes/s: {off}");
            now += Duration::from_secs(10);
        }
    }

    #[test]
    fn who_leaves_pays_only_for_what_came_already() {
        let mut line = line();
        let now = Instant::now();
        let begun = |line: &mut Line| {
            line.join(0, 1000);
            let serving = line.begin(now, 1_000_000).expect("one waits");
            line.end(&serving);
            serving.turn.end
        };
        let first = begun(&mut line);
        let gone = line.join(0, 50_000);
        line.leave(0, gone, Paid::Before, now, 1_000_000);
        assert_eq!(begun(&mut line), first + Duration::from_millis(1));
        let gone = line.join(0, 50_000);
        line.leave(0, gone, Paid::After, now, 1_000_000);
        assert_eq!(begun(&mut line), first + Duration::from_millis(52));
    }
}
