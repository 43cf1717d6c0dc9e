//! What one host may send: a token bucket shared by everything that writes to the network.
//!
//! Peers, the bridge's HTTP answers and the gate's own seed all draw on one [`Uplink`], so that the
//! limit its owner gave holds for their sum. Writers stand in one queue, and each turn is a quantum
//! of at most [`QUANTUM`] bytes, less on a slow line: a busy connection cannot starve the others,
//! and who has little to send waits for one round only. Who leaves the queue has spent nothing, so
//! that a crowd that gives up does not keep the line idle for those who wait on.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
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

/// What an idle uplink may send ahead of its rate; covers the timer's granularity.
const BURST: Duration = Duration::from_millis(20);

/// A shared limit on bytes sent, and their count. Cheap to clone; clones share both.
#[derive(Clone)]
pub struct Uplink {
    shared: Arc<Shared>,
}

struct Shared {
    /// Bytes per second; 0 is unlimited.
    rate: AtomicU64,
    sent: AtomicU64,
    line: Mutex<Line>,
}

#[derive(Default)]
struct Line {
    /// When the line is free again.
    free_at: Option<Instant>,
    /// Who waits, by ticket number; the head is being served. One entry for each writer, so
    /// bounded as connections are.
    queue: BTreeMap<u64, Waiter>,
    next: u64,
    /// Whether [`Shared::serve`] runs.
    served: bool,
}

struct Waiter {
    bytes: usize,
    waker: Option<Waker>,
}

impl Shared {
    fn line(&self) -> std::sync::MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves the queue until it is empty. Turns end by the clock alone: a writer that does not
    /// come for its turn wastes that turn and holds up nobody.
    async fn serve(self: Arc<Self>) {
        loop {
            let (number, start, end) = {
                let rate = self.rate.load(Ordering::Relaxed);
                let mut line = self.line();
                if rate == 0 {
                    for waiter in std::mem::take(&mut line.queue).into_values() {
                        waiter.go();
                    }
                }
                let Some((number, waiter)) = line.queue.first_key_value() else {
                    line.served = false;
                    return;
                };
                let (number, bytes) = (*number, waiter.bytes);
                let now = Instant::now();
                let idle_since = now.checked_sub(BURST).unwrap_or(now);
                let start = line.free_at.map_or(idle_since, |at| at.max(idle_since));
                let end = start + Duration::from_secs_f64(bytes as f64 / rate as f64);
                line.free_at = Some(end);
                (number, start, end)
            };
            if end > Instant::now() {
                sleep_until(end).await;
            }
            let mut line = self.line();
            match line.queue.remove(&number) {
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

/// A place in the queue; gives up its turn when dropped.
struct Ticket {
    shared: Arc<Shared>,
    number: u64,
    bytes: usize,
}

impl Ticket {
    fn new(shared: &Arc<Shared>, bytes: usize) -> Self {
        let mut line = shared.line();
        let number = line.next;
        line.next = line.next.wrapping_add(1);
        line.queue.insert(number, Waiter { bytes, waker: None });
        if !line.served {
            line.served = true;
            tokio::spawn(shared.clone().serve());
        }
        Self {
            shared: shared.clone(),
            number,
            bytes,
        }
    }

    /// Ready once the bytes may be sent.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.shared.line().queue.get_mut(&self.number) {
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
        self.shared.line().queue.remove(&self.number);
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
                line: Mutex::default(),
            }),
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
                let mut ticket = Ticket::new(&self.shared, quantum);
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

/// A stream whose writes are paced and counted by an [`Uplink`]; reads pass through.
pub struct Shaped<S> {
    inner: S,
    uplink: Uplink,
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
            granted: 0,
            waiting: None,
        }
    }

    /// The stream within.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Ready once `granted` bytes may be written; buys up to `wanted` if none are.
    fn poll_grant(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<()> {
        if self.granted == 0 {
            let ticket = self.waiting.get_or_insert_with(|| {
                Ticket::new(&self.uplink.shared, wanted.min(self.uplink.quantum()))
            });
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
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[test]
    fn rates_are_read_in_their_usual_spellings() {
        for (text, bits) in [
            ("8Mbit", 8_000_000),
            ("500kbit", 500_000),
            ("1.5Gbit", 1_500_000_000),
            ("2MB/s", 16_000_000),
            ("20 Mbit/s", 20_000_000),
            ("20Mbps", 20_000_000),
            ("1000", 1000),
        ] {
            assert_eq!(parse_rate(text), Ok(bits), "{text}");
        }
        for text in ["", "fast", "8Qbit", "-1Mbit", "0", "1..2Mbit", "1e99Gbit"] {
            assert!(parse_rate(text).is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn writers_share_the_rate_fairly() {
        let uplink = Uplink::new(8_000_000);
        let started = Instant::now();
        let send = |uplink: Uplink| async move {
            let (near, mut far) = tokio::io::duplex(64 * 1024);
            let mut shaped = Shaped::new(near, uplink);
            let reader = tokio::spawn(async move {
                let mut all = Vec::new();
                far.read_to_end(&mut all).await.map(|_| all.len())
            });
            shaped.write_all(&vec![7; 250_000]).await.unwrap();
            drop(shaped);
            (reader.await.unwrap().unwrap(), started.elapsed())
        };
        let ((a, a_took), (b, b_took)) = tokio::join!(send(uplink.clone()), send(uplink.clone()));
        assert_eq!((a, b), (250_000, 250_000));
        assert_eq!(uplink.sent_total(), 500_000);
        let took = a_took.max(b_took).as_secs_f64();
        assert!(
            (0.45..0.8).contains(&took),
            "half a megabyte at 1 MB/s took {took}"
        );
        let apart = (a_took.as_secs_f64() - b_took.as_secs_f64()).abs();
        assert!(apart < 0.15, "one writer ended {apart} s after the other");
    }

    #[tokio::test]
    async fn who_gives_up_waiting_leaves_the_line_to_others() {
        let uplink = Uplink::new(8_000_000);
        let started = Instant::now();
        let crowd: Vec<_> = (0..500)
            .map(|_| {
                let uplink = uplink.clone();
                tokio::spawn(async move { uplink.take(16_000).await })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(100)).await;
        for visitor in crowd {
            visitor.abort();
        }
        tokio::time::timeout(Duration::from_secs(2), uplink.take(100_000))
            .await
            .expect("the line is free again");
        let rate = uplink.sent_total() as f64 / started.elapsed().as_secs_f64();
        assert!(
            (800_000.0..1_250_000.0).contains(&rate),
            "{rate} bytes a second"
        );
        assert!(uplink.shared.line().queue.is_empty());
    }

    #[tokio::test]
    async fn a_writer_that_forgets_its_turn_holds_up_nobody() {
        let uplink = Uplink::new(8_000_000);
        let (near, _far) = tokio::io::duplex(1024);
        let mut forgetful = Shaped::new(near, uplink.clone());
        let once = std::future::poll_fn(|cx| {
            let _ = Pin::new(&mut forgetful).poll_write(cx, &[0; 5000]);
            Poll::Ready(())
        });
        once.await;
        tokio::time::timeout(Duration::from_secs(1), uplink.take(10_000))
            .await
            .expect("others are served");
        uplink.set_rate(None);
        tokio::time::timeout(Duration::from_millis(50), uplink.take(1_000_000))
            .await
            .expect("no limit, no wait");
        uplink.set_rate(Some(8_000_000));
        tokio::time::timeout(Duration::from_secs(1), uplink.take(10_000))
            .await
            .expect("served again");
    }

    #[tokio::test]
    async fn lifting_the_limit_lets_all_go() {
        let uplink = Uplink::new(80_000);
        let waiting: Vec<_> = (0..50)
            .map(|_| {
                let uplink = uplink.clone();
                tokio::spawn(async move { uplink.take(10_000).await })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(20)).await;
        uplink.set_rate(None);
        for writer in waiting {
            tokio::time::timeout(Duration::from_secs(1), writer)
                .await
                .expect("goes at once")
                .expect("does not panic");
        }
    }

    #[tokio::test]
    async fn a_short_answer_waits_for_one_round_only() {
        let uplink = Uplink::new(8_000_000);
        for _ in 0..20 {
            let uplink = uplink.clone();
            tokio::spawn(async move { uplink.take(1_000_000).await });
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        let started = Instant::now();
        uplink.take(300).await;
        let took = started.elapsed();
        assert!(took < Duration::from_millis(120), "took {took:?}");
    }

    #[tokio::test]
    async fn an_idle_uplink_saves_up_no_more_than_its_burst() {
        let uplink = Uplink::new(800_000);
        uplink.take(1000).await;
        tokio::time::sleep(Duration::from_millis(400)).await;
        let started = Instant::now();
        uplink.take(30_000).await;
        let took = started.elapsed();
        assert!(took > Duration::from_millis(270), "took {took:?}");
    }
}
