//! What one host may send and receive: lines shared by everything that draws on them.
//!
//! Peers, the bridge's HTTP answers and the gate's own seed all draw on one [`Uplink`], so that the
//! limit its owner gave holds for their sum. Writers stand in a queue, and each turn is a quantum
//! of at most 16 KiB, less on a slow line: a busy connection cannot starve the others,
//! and who has little to send waits for one round only. Who leaves the queue has spent nothing, so
//! that a crowd that gives up does not keep the line idle for those who wait on.
//!
//! An uplink may have several lanes, each with a queue of its own. Lanes that have something to
//! send share the line by their weights; what one leaves, the others use (start-time fair queueing,
//! Goyal, Vin and Cheng 1996).
//!
//! A [`Downlink`] is the same for what comes in, paid after instead of before. Both count every
//! byte of the streams they pace, protocol and all, and hold their rate to a part in a hundred over
//! any few seconds.

mod line;
mod pace;
mod rate;
mod shaped;

use std::sync::Arc;

use line::{Paid, Shared, Ticket};
pub use rate::{RateError, parse_rate};
pub use shaped::{LaneSwitch, Shaped, ShapedReader};

/// Bits a second of a caller to bytes a second of a line; none is 0, and less than a byte is one.
fn bytes_per_second(bits: Option<u64>) -> u64 {
    bits.map_or(0, |bits| (bits / 8).max(1))
}

/// Bytes a second of a line to bits a second of a caller.
fn bits_per_second(bytes: u64) -> Option<u64> {
    (bytes > 0).then(|| bytes.saturating_mul(8))
}

/// Stands in the queue for `bytes`, a quantum at a time, and counts them.
async fn pass(shared: &Arc<Shared>, lane: usize, bytes: usize, paid: Paid) {
    let mut left = bytes;
    while left > 0 {
        let quantum = left.min(shared.quantum());
        if shared.rate() > 0 {
            let mut ticket = Ticket::new(shared, lane, quantum, paid);
            std::future::poll_fn(|cx| ticket.poll(cx)).await;
        }
        shared.count(quantum);
        left -= quantum;
    }
}

/// A shared limit on bytes sent, and their count. Cheap to clone; clones share both, and the lane.
#[derive(Clone)]
pub struct Uplink {
    shared: Arc<Shared>,
    lane: usize,
}

impl Uplink {
    /// An uplink that only counts.
    pub fn unlimited() -> Self {
        Self::limited(None)
    }

    /// An uplink of `bits_per_second`. Anything below one byte a second counts as one.
    pub fn new(bits_per_second: u64) -> Self {
        Self::limited(Some(bits_per_second))
    }

    /// An uplink of so many bits a second, or without a limit.
    pub fn limited(bits_per_second: Option<u64>) -> Self {
        Self {
            shared: Shared::new(bytes_per_second(bits_per_second)),
            lane: 0,
        }
    }

    /// Another lane of the same line, with this weight; an uplink starts with one lane of weight 1.
    /// Lanes are never taken away, so they are for the parts of a program, not for connections.
    pub fn lane(&self, weight: f64) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            lane: self.shared.add_lane(weight),
        }
    }

    /// Gives this lane another weight.
    pub fn set_weight(&self, weight: f64) {
        self.shared.set_weight(self.lane, weight);
    }

    /// Sets another limit, in bits per second, or none. It holds from this moment on, for those
    /// too who wait already.
    pub fn set_rate(&self, bits_per_second: Option<u64>) {
        self.shared.set_rate(bytes_per_second(bits_per_second));
    }

    /// The limit in bits per second, if there is one.
    pub fn rate(&self) -> Option<u64> {
        bits_per_second(self.shared.rate())
    }

    /// Bytes sent so far through this uplink and its clones.
    pub fn sent_total(&self) -> u64 {
        self.shared.passed()
    }

    /// Waits until `bytes` may be sent, and counts them as sent.
    ///
    /// A caller that drops the future has used the line for what was counted so far.
    pub async fn take(&self, bytes: usize) {
        pass(&self.shared, self.lane, bytes, Paid::Before).await;
    }

    fn ticket(&self, bytes: usize, paid: Paid) -> Ticket {
        Ticket::new(&self.shared, self.lane, bytes, paid)
    }

    fn count(&self, bytes: usize) {
        self.shared.count(bytes);
    }

    fn quantum(&self) -> usize {
        self.shared.quantum()
    }
}

impl std::fmt::Debug for Uplink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Uplink")
            .field("rate", &self.rate())
            .field("sent", &self.sent_total())
            .finish()
    }
}

/// A shared limit on bytes received, and their count. Cheap to clone; clones share both.
#[derive(Clone)]
pub struct Downlink {
    shared: Arc<Shared>,
}

impl Downlink {
    /// A downlink that only counts.
    pub fn unlimited() -> Self {
        Self::limited(None)
    }

    /// A downlink of so many bits a second, or without a limit.
    pub fn limited(bits_per_second: Option<u64>) -> Self {
        Self {
            shared: Shared::new(bytes_per_second(bits_per_second)),
        }
    }

    /// Sets another limit, in bits per second, or none. It holds from this moment on, for those
    /// too who wait already.
    pub fn set_rate(&self, bits_per_second: Option<u64>) {
        self.shared.set_rate(bytes_per_second(bits_per_second));
    }

    /// The limit in bits per second, if there is one.
    pub fn rate(&self) -> Option<u64> {
        bits_per_second(self.shared.rate())
    }

    /// Bytes received so far through this downlink and its clones.
    pub fn received_total(&self) -> u64 {
        self.shared.passed()
    }

    /// Counts `bytes` that came, and waits until the line has let them pass: call it before asking
    /// for more. A caller that drops the future is forgiven what it has not paid yet.
    pub async fn pay(&self, bytes: usize) {
        pass(&self.shared, 0, bytes, Paid::After).await;
    }

    fn ticket(&self, bytes: usize) -> Ticket {
        Ticket::new(&self.shared, 0, bytes, Paid::After)
    }

    fn count(&self, bytes: usize) {
        self.shared.count(bytes);
    }

    fn quantum(&self) -> usize {
        self.shared.quantum()
    }
}

impl std::fmt::Debug for Downlink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Downlink")
            .field("rate", &self.rate())
            .field("received", &self.received_total())
            .finish()
    }
}

#[cfg(test)]
mod tests;
