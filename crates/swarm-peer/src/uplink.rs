//! What one host may send: a token bucket shared by everything that writes to the network.
//!
//! Peers, the bridge's HTTP answers and the gate's own seed all draw on one [`Uplink`], so that the
//! limit its owner gave holds for their sum. Writers stand in a queue, and each turn is a quantum
//! of at most [`QUANTUM`] bytes, less on a slow line: a busy connection cannot starve the others,
//! and who has little to send waits for one round only. Who leaves the queue has spent nothing, so
//! that a crowd that gives up does not keep the line idle for those who wait on.
//!
//! An uplink may have several lanes, each with a queue of its own. Lanes that have something to
//! send share the line by their weights; what one leaves, the others use (start-time fair queueing,
//! Goyal, Vin and Cheng 1996).

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, sleep_until};

/// The most bytes of one turn; one block of a piece.
pub const QUANTUM: usize = 16 * 1024;

/// The least bytes of one turn, however slow the line; about one packet.
const QUANTUM_MIN: usize = 1400;

/// How long one turn may keep the line, in seconds.
const TURN: f64 = 0.002;

/// The least weight of a lane.
const WEIGHT_MIN: f64 = 0.001;

/// What an idle uplink may send ahead of its rate; covers the timer's granularity.
const BURST: Duration = Duration::from_millis(20);

/// A shared limit on bytes sent, and their count. Cheap to clone; clones share both, and the lane.
#[derive(Clone)]
pub struct Uplink {
    shared: Arc<Shared>,
    lane: usize,
}

struct Shared {
    /// Bytes per second; 0 is unlimited.
    rate: AtomicU64,
    sent: AtomicU64,
    line: Mutex<Line>,
}

struct Line {
    /// When the line is free again.
    free_at: Option<Instant>,
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
    /// Who waits, by ticket number; the head is next. One entry for each writer, so bounded as
    /// connections are.
    queue: BTreeMap<u64, Waiter>,
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
    fn new() -> Self {
        Self {
            free_at: None,
            lanes: vec![Lane::new(1.0)],
            tag: 0.0,
            next: 0,
            served: false,
        }
    }

    /// Whose turn it is: lane, ticket and bytes. The lane is charged for them.
    fn turn(&mut self) -> Option<(usize, u64, usize)> {
        let waiting = self.lanes.iter_mut().enumerate();
        let (index, lane) = waiting
            .filter(|(_, lane)| !lane.queue.is_empty())
            .min_by(|(_, a), (_, b)| a.tag.total_cmp(&b.tag))?;
        let (number, waiter) = lane.queue.first_key_value()?;
        let (number, bytes) = (*number, waiter.bytes);
        self.tag = lane.tag;
        lane.tag += bytes as f64 / lane.weight;
        Some((index, number, bytes))
    }

    fn queue(&mut self, lane: usize) -> Option<&mut BTreeMap<u64, Waiter>> {
        self.lanes.get_mut(lane).map(|lane| &mut lane.queue)
    }
}

struct Waiter {
    bytes: usize,
    waker: Option<Waker>,
}

impl Shared {
    fn line(&self) -> std::sync::MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves the lanes until all are empty. Turns end by the clock alone: a writer that does not
    /// come for its turn wastes that turn and holds up nobody.
    async fn serve(self: Arc<Self>) {
        loop {
            let (lane, number, start, end) = {
                let rate = self.rate.load(Ordering::Relaxed);
                let mut line = self.line();
                if rate == 0 {
                    for lane in &mut line.lanes {
                        for waiter in std::mem::take(&mut lane.queue).into_values() {
                            waiter.go();
                        }
                    }
                }
                let Some((lane, number, bytes)) = line.turn() else {
                    line.served = false;
                    return;
                };
                let now = Instant::now();
                let idle_since = now.checked_sub(BURST).unwrap_or(now);
                let start = line.free_at.map_or(idle_since, |at| at.max(idle_since));
                let end = start + Duration::from_secs_f64(bytes as f64 / rate as f64);
                line.free_at = Some(end);
                (lane, number, start, end)
            };
            if end > Instant::now() {
                sleep_until(end).await;
            }
            let mut line = self.line();
            match line.queue(lane).and_then(|queue| queue.remove(&number)) {
                Some(waiter) => waiter.go(),
                None => line.free_at = Some(start),
            }
        }
    }
}

impl Waiter {
    fn go(self) {
        if let Some(waker) = self.waker {
            waker.wake();
        }
    }
}

/// A place in a lane's queue; gives up its turn when dropped.
struct Ticket {
    shared: Arc<Shared>,
    lane: usize,
    number: u64,
    bytes: usize,
}

impl Ticket {
    fn new(uplink: &Uplink, bytes: usize) -> Self {
        let (shared, lane) = (uplink.shared.clone(), uplink.lane);
        let mut line = shared.line();
        let (number, tag) = (line.next, line.tag);
        line.next = line.next.wrapping_add(1);
        if let Some(lane) = line.lanes.get_mut(lane) {
            if lane.queue.is_empty() {
                // What a lane did not use while it had nothing to send is gone.
                lane.tag = lane.tag.max(tag);
            }
            lane.queue.insert(number, Waiter { bytes, waker: None });
        }
        if !line.served {
            line.served = true;
            tokio::spawn(shared.clone().serve());
        }
        drop(line);
        Self {
            shared,
            lane,
            number,
            bytes,
        }
    }

    /// Ready once the bytes may be sent.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
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
        if let Some(queue) = self.shared.line().queue(self.lane) {
            queue.remove(&self.number);
        }
    }
}

impl Uplink {
    /// An uplink that only counts.
    pub fn unlimited() -> Self {
        Self::with_bytes_per_second(0)
    }

    /// An uplink of `bits_per_second`. Anything below one byte a second counts as one.
    pub fn new(bits_per_second: u64) -> Self {
        Self::with_bytes_per_second((bits_per_second / 8).max(1))
    }

    fn with_bytes_per_second(rate: u64) -> Self {
        Self {
            shared: Arc::new(Shared {
                rate: AtomicU64::new(rate),
                sent: AtomicU64::new(0),
                line: Mutex::new(Line::new()),
            }),
            lane: 0,
        }
    }

    /// Another lane of the same line, with this weight; an uplink starts with one lane of weight 1.
    /// Lanes are never taken away, so they are for the parts of a program, not for connections.
    pub fn lane(&self, weight: f64) -> Self {
        let mut line = self.shared.line();
        line.lanes.push(Lane::new(weight));
        Self {
            shared: self.shared.clone(),
            lane: line.lanes.len() - 1,
        }
    }

    /// Gives this lane another weight.
    pub fn set_weight(&self, weight: f64) {
        if let Some(lane) = self.shared.line().lanes.get_mut(self.lane) {
            lane.weight = weight.max(WEIGHT_MIN);
        }
    }

    /// Sets another limit, in bits per second, or none. The turn under way stands.
    pub fn set_rate(&self, bits_per_second: Option<u64>) {
        let bytes = bits_per_second.map_or(0, |bits| (bits / 8).max(1));
        self.shared.rate.store(bytes, Ordering::Relaxed);
    }

    /// The limit in bits per second, if there is one.
    pub fn rate(&self) -> Option<u64> {
        match self.shared.rate.load(Ordering::Relaxed) {
            0 => None,
            bytes => Some(bytes.saturating_mul(8)),
        }
    }

    /// Bytes sent so far through this uplink and its clones.
    pub fn sent_total(&self) -> u64 {
        self.shared.sent.load(Ordering::Relaxed)
    }

    /// Waits until `bytes` may be sent, and counts them as sent.
    ///
    /// A caller that drops the future has used the line for what was counted so far.
    pub async fn take(&self, bytes: usize) {
        let mut left = bytes;
        while left > 0 {
            let quantum = left.min(self.quantum());
            if self.rate().is_some() {
                let mut ticket = Ticket::new(self, quantum);
                std::future::poll_fn(|cx| ticket.poll(cx)).await;
            }
            self.count(quantum);
            left -= quantum;
        }
    }

    fn count(&self, bytes: usize) {
        self.shared.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Bytes of one turn.
    fn quantum(&self) -> usize {
        match self.shared.rate.load(Ordering::Relaxed) {
            0 => QUANTUM,
            rate => ((rate as f64 * TURN) as usize).clamp(QUANTUM_MIN, QUANTUM),
        }
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

/// Chooses the lane of a [`Shaped`] stream while it is in use. Cheap to clone; clones are the same.
#[derive(Debug, Clone, Default)]
pub struct LaneSwitch(Arc<AtomicBool>);

impl LaneSwitch {
    /// What is written from now on goes by the second lane, or by the first.
    pub fn second(&self, second: bool) {
        self.0.store(second, Ordering::Relaxed);
    }
}

/// A stream whose writes are paced and counted by an [`Uplink`]; reads pass through.
pub struct Shaped<S> {
    inner: S,
    uplink: Uplink,
    second: Option<(Uplink, LaneSwitch)>,
    /// Bytes bought and not yet written.
    granted: usize,
    waiting: Option<Ticket>,
}

impl<S> Shaped<S> {
    /// Wraps `inner`.
    pub fn new(inner: S, uplink: Uplink) -> Self {
        Self {
            inner,
            uplink,
            second: None,
            granted: 0,
            waiting: None,
        }
    }

    /// Wraps `inner`; the switch decides by which of two lanes of one line its bytes go.
    pub fn switched(inner: S, first: Uplink, second: Uplink, switch: LaneSwitch) -> Self {
        Self {
            second: Some((second, switch)),
            ..Self::new(inner, first)
        }
    }

    /// The stream within.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Ready once `granted` bytes may be written; buys up to `wanted` if none are.
    fn poll_grant(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<()> {
        if self.granted == 0 {
            let lane = match &self.second {
                Some((second, switch)) if switch.0.load(Ordering::Relaxed) => second,
                _ => &self.uplink,
            };
            let ticket = self
                .waiting
                .get_or_insert_with(|| Ticket::new(lane, wanted.min(lane.quantum())));
            ready!(ticket.poll(cx));
            self.granted = ticket.bytes;
            self.waiting = None;
        }
        Poll::Ready(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Shaped<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Shaped<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if buf.is_empty() {
            return Pin::new(&mut this.inner).poll_write(cx, buf);
        }
        if this.uplink.rate().is_none() {
            let written = ready!(Pin::new(&mut this.inner).poll_write(cx, buf))?;
            this.uplink.count(written);
            return Poll::Ready(Ok(written));
        }
        ready!(this.poll_grant(cx, buf.len()));
        let allowed = buf.get(..this.granted.min(buf.len())).unwrap_or(buf);
        let written = ready!(Pin::new(&mut this.inner).poll_write(cx, allowed))?;
        this.granted = this.granted.saturating_sub(written);
        this.uplink.count(written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.uplink.rate().is_none() {
            let written = ready!(Pin::new(&mut self.inner).poll_write_vectored(cx, bufs))?;
            self.uplink.count(written);
            return Poll::Ready(Ok(written));
        }
        let first = bufs.iter().find(|b| !b.is_empty()).map_or(&[][..], |b| b);
        self.poll_write(cx, first)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored() && self.uplink.rate().is_none()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// A rate that could not be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is no rate; write it as 20Mbit, 500kbit or 1Gbit")]
pub struct RateError(String);

/// Reads `8Mbit`, `500kbit`, `1.5Gbit`, `2MB/s` or a bare number of bits as bits per second.
///
/// Prefixes are decimal, as for network rates everywhere; `B` means bytes, `bit` or `b` bits.
///
/// # Errors
/// [`RateError`]: no number, an unknown unit, or nothing above zero.
pub fn parse_rate(text: &str) -> Result<u64, RateError> {
    let wrong = || RateError(text.to_owned());
    let trimmed = text.trim();
    let split = trimmed
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(split);
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let unit = unit.trim().trim_end_matches("/s").trim_end_matches("ps");
    let (prefix, bits_each) = if let Some(prefix) = unit.strip_suffix("bit") {
        (prefix, 1.0)
    } else if let Some(prefix) = unit.strip_suffix('B') {
        (prefix, 8.0)
    } else {
        (unit.strip_suffix('b').unwrap_or(unit), 1.0)
    };
    let scale = match prefix {
        "" => 1.0,
        "k" | "K" => 1e3,
        "M" | "m" => 1e6,
        "G" | "g" => 1e9,
        _ => return Err(wrong()),
    };
    let bits = number * scale * bits_each;
    if !(1.0..=1e15).contains(&bits) {
        return Err(wrong());
    }
    Ok(bits as u64)
}

#[cfg(test)]
mod tests;
