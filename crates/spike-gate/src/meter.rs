//! What left by which way: bytes on the wire to visitors, and bytes visitors were sent elsewhere
//! for.

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bridges counted one by one; what is sent to more of them counts in the sum only.
const BRIDGES_MAX: usize = 512;

/// The gate's counters. Totals since the start; they never go back.
#[derive(Debug, Default)]
pub struct Meter {
    passed: AtomicU64,
    redirected: AtomicU64,
    rewritten: AtomicU64,
    requests: AtomicU64,
    redirects: AtomicU64,
    waits: AtomicU64,
    queued: AtomicU64,
    pages: AtomicU64,
    files: AtomicU64,
    origin_failures: AtomicU64,
    by_bridge: Mutex<HashMap<String, u64>>,
    first_overload: OnceLock<Instant>,
    first_redirect: OnceLock<Instant>,
    first_rewrite: OnceLock<Instant>,
}

/// Somebody waits.
#[derive(Debug)]
pub struct Waiting {
    meter: Arc<Meter>,
    bytes: u64,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.meter.queued.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A reading of the [`Meter`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct GateStats {
    /// Bytes sent to visitors, heads and framing included.
    pub passed_bytes: u64,
    /// Bytes of files visitors were redirected for.
    pub redirected_bytes: u64,
    /// Bytes of files that rewritten pages name elsewhere, as far as the visitor's browser does
    /// not hold them already.
    pub rewritten_bytes: u64,
    /// Requests taken.
    pub requests: u64,
    /// Redirects given.
    pub redirects: u64,
    /// Requests that waited for their turn or a bridge.
    pub waits: u64,
    /// Pages rewritten to the end.
    pub pages_rewritten: u64,
    /// Files moved by rewriting.
    pub files_moved: u64,
    /// Requests the origin failed to answer.
    pub origin_failures: u64,
    /// Redirected bytes by bridge.
    pub redirected_by_bridge: Vec<(String, u64)>,
    /// When the measured load first met the spike threshold.
    #[serde(skip)]
    pub first_overload: Option<Instant>,
    /// When the first visitor was redirected.
    #[serde(skip)]
    pub first_redirect: Option<Instant>,
    /// When the first rewritten page was complete.
    #[serde(skip)]
    pub first_rewrite: Option<Instant>,
}

impl Meter {
    /// Bytes went out to a visitor.
    pub fn sent(&self, bytes: usize) {
        self.passed.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// A request came in.
    pub fn request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// The origin did not answer.
    pub fn origin_failed(&self) {
        self.origin_failures.fetch_add(1, Ordering::Relaxed);
    }

    /// A visitor was sent to `bridge` for `bytes`.
    pub fn redirected(&self, bridge: &str, bytes: u64) {
        self.first_redirect.get_or_init(Instant::now);
        self.redirects.fetch_add(1, Ordering::Relaxed);
        self.redirected.fetch_add(bytes, Ordering::Relaxed);
        let mut by_bridge = self
            .by_bridge
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(sum) = by_bridge.get_mut(bridge) {
            *sum = sum.saturating_add(bytes);
        } else if by_bridge.len() < BRIDGES_MAX {
            by_bridge.insert(bridge.to_owned(), bytes);
        }
    }

    /// A request for `bytes` waits for its turn or a bridge, until the guard is dropped.
    pub fn wait(self: &Arc<Self>, bytes: u64) -> Waiting {
        self.waits.fetch_add(1, Ordering::Relaxed);
        self.queued.fetch_add(bytes, Ordering::Relaxed);
        Waiting {
            meter: self.clone(),
            bytes,
        }
    }

    /// Bytes of what is waited for now.
    pub fn queued(&self) -> u64 {
        self.queued.load(Ordering::Relaxed)
    }

    /// A page names `files` elsewhere, for `bytes`.
    pub fn page_rewritten(&self, files: usize, bytes: u64) {
        self.first_rewrite.get_or_init(Instant::now);
        self.pages.fetch_add(1, Ordering::Relaxed);
        self.files.fetch_add(files as u64, Ordering::Relaxed);
        self.rewritten.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The measured load met the spike threshold.
    pub fn overloaded(&self, now: Instant) {
        self.first_overload.get_or_init(|| now);
    }

    /// Bytes sent to visitors so far.
    pub fn passed(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }

    /// Bytes visitors were sent elsewhere for so far.
    pub fn diverted(&self) -> u64 {
        let redirected = self.redirected.load(Ordering::Relaxed);
        redirected.saturating_add(self.rewritten.load(Ordering::Relaxed))
    }

    /// All counters.
    pub fn stats(&self) -> GateStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let by_bridge = self
            .by_bridge
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut redirected_by_bridge: Vec<_> = by_bridge
            .iter()
            .map(|(bridge, sum)| (bridge.clone(), *sum))
            .collect();
        redirected_by_bridge.sort();
        GateStats {
            passed_bytes: read(&self.passed),
            redirected_bytes: read(&self.redirected),
            rewritten_bytes: read(&self.rewritten),
            requests: read(&self.requests),
            redirects: read(&self.redirects),
            waits: read(&self.waits),
            pages_rewritten: read(&self.pages),
            files_moved: read(&self.files),
            origin_failures: read(&self.origin_failures),
            redirected_by_bridge,
            first_overload: self.first_overload.get().copied(),
            first_redirect: self.first_redirect.get().copied(),
            first_rewrite: self.first_rewrite.get().copied(),
        }
    }
}

/// A visitor's connection whose writes are counted.
#[derive(Debug)]
pub struct Metered<S> {
    inner: S,
    meter: Arc<Meter>,
}

impl<S> Metered<S> {
    /// Counts what is written to `inner`.
    pub fn new(inner: S, meter: Arc<Meter>) -> Self {
        Self { inner, meter }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, buf))?;
        self.meter.sent(written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write_vectored(cx, bufs))?;
        self.meter.sent(written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    #[tokio::test]
    async fn what_is_written_is_counted_once() {
        let meter = Arc::new(Meter::default());
        let (near, _far) = tokio::io::duplex(64);
        let mut metered = Metered::new(near, meter.clone());
        metered.write_all(b"twelve bytes").await.unwrap();
        assert_eq!(meter.passed(), 12);
        // A full pipe takes part of it only.
        let written = metered.write(&[0; 100]).await.unwrap();
        assert_eq!(meter.passed(), 12 + written as u64);
    }

    #[test]
    fn firsts_are_kept_and_sums_add_up() {
        let meter = Meter::default();
        assert_eq!(meter.stats().first_redirect, None);
        meter.redirected("http://a", 10);
        let first = meter.stats().first_redirect;
        meter.redirected("http://a", 5);
        meter.redirected("http://b", 1);
        meter.page_rewritten(3, 100);
        let stats = meter.stats();
        assert_eq!(stats.first_redirect, first);
        assert_eq!(meter.diverted(), 116);
        assert_eq!(
            stats.redirected_by_bridge,
            [("http://a".into(), 15), ("http://b".into(), 1)]
        );
        for i in 0..2 * BRIDGES_MAX {
            meter.redirected(&format!("http://{i}"), 1);
        }
        assert_eq!(meter.stats().redirected_by_bridge.len(), BRIDGES_MAX);
    }
}
