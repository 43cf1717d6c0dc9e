//! Streams that wait for their turn.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::line::{Paid, Ticket};
use super::{Downlink, Uplink};

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
    /// A narrower line that the bytes pass as well.
    part: Option<Uplink>,
    /// Bytes bought and not yet written.
    granted: usize,
    buying: usize,
    waiting: Option<Ticket>,
    waiting_part: Option<Ticket>,
}

impl<S> Shaped<S> {
    /// Wraps `inner`.
    pub fn new(inner: S, uplink: Uplink) -> Self {
        Self {
            inner,
            uplink,
            second: None,
            part: None,
            granted: 0,
            buying: 0,
            waiting: None,
            waiting_part: None,
        }
    }

    /// Wraps `inner`; the switch decides by which of two lanes of one line its bytes go.
    pub fn switched(inner: S, first: Uplink, second: Uplink, switch: LaneSwitch) -> Self {
        Self {
            second: Some((second, switch)),
            ..Self::new(inner, first)
        }
    }

    /// Counts and paces by another line as well: that of the bundle, besides that of the host.
    pub fn within(mut self, part: Uplink) -> Self {
        self.part = Some(part);
        self
    }

    /// The stream within.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    fn limited(&self) -> bool {
        self.uplink.rate().is_some() || self.part.as_ref().is_some_and(|part| part.rate().is_some())
    }

    fn count(&self, bytes: usize) {
        self.uplink.count(bytes);
        if let Some(part) = &self.part {
            part.count(bytes);
        }
    }

    /// Ready once `granted` bytes may be written; buys up to `wanted` if none are. It stands in
    /// both queues at once, so that the narrower line alone sets the pace.
    fn poll_grant(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<()> {
        if self.granted > 0 {
            return Poll::Ready(());
        }
        if self.buying == 0 {
            let lane = match &self.second {
                Some((second, switch)) if switch.0.load(Ordering::Relaxed) => second,
                _ => &self.uplink,
            };
            let part = self.part.as_ref().filter(|part| part.rate().is_some());
            let quantum = lane.quantum().min(part.map_or(usize::MAX, Uplink::quantum));
            self.buying = wanted.min(quantum);
            self.waiting = lane.rate().map(|_| lane.ticket(self.buying, Paid::Before));
            self.waiting_part = part.map(|part| part.ticket(self.buying, Paid::Before));
        }
        ready!(poll_ticket(&mut self.waiting, cx));
        ready!(poll_ticket(&mut self.waiting_part, cx));
        self.granted = std::mem::take(&mut self.buying);
        Poll::Ready(())
    }
}

/// Ready once the ticket, if there is one, has been served.
fn poll_ticket(waiting: &mut Option<Ticket>, cx: &mut Context<'_>) -> Poll<()> {
    if let Some(ticket) = waiting {
        ready!(ticket.poll(cx));
        *waiting = None;
    }
    Poll::Ready(())
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
        if !this.limited() {
            let written = ready!(Pin::new(&mut this.inner).poll_write(cx, buf))?;
            this.count(written);
            return Poll::Ready(Ok(written));
        }
        ready!(this.poll_grant(cx, buf.len()));
        let allowed = buf.get(..this.granted.min(buf.len())).unwrap_or(buf);
        let written = ready!(Pin::new(&mut this.inner).poll_write(cx, allowed))?;
        this.granted = this.granted.saturating_sub(written);
        this.count(written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if !self.limited() {
            let written = ready!(Pin::new(&mut self.inner).poll_write_vectored(cx, bufs))?;
            self.count(written);
            return Poll::Ready(Ok(written));
        }
        let first = bufs.iter().find(|b| !b.is_empty()).map_or(&[][..], |b| b);
        self.poll_write(cx, first)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored() && !self.limited()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// A stream whose reads are paced and counted by two [`Downlink`]s, that of the host and that of
/// the bundle.
///
/// Nobody knows before a read what it will bring, so it is paid for afterwards: each read is a
/// quantum at most, and the next one waits until the lines have let its bytes pass. A stream that
/// brings nothing thus holds nothing, and what is not read makes the sender wait (TCP's and uTP's
/// windows fill).
pub struct ShapedReader<R> {
    inner: R,
    downlinks: [Downlink; 2],
    debts: [Option<Ticket>; 2],
}

impl<R> ShapedReader<R> {
    /// Wraps `inner`.
    pub fn new(inner: R, host: Downlink, bundle: Downlink) -> Self {
        Self {
            inner,
            downlinks: [host, bundle],
            debts: [None, None],
        }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for ShapedReader<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        for debt in &mut this.debts {
            ready!(poll_ticket(debt, cx));
        }
        let limited = this.downlinks.iter().filter(|link| link.rate().is_some());
        let quantum = limited.map(Downlink::quantum).min();
        let read = match quantum {
            None => {
                let before = buf.filled().len();
                ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
                buf.filled().len().saturating_sub(before)
            }
            Some(quantum) => {
                let room = quantum.min(buf.remaining());
                let mut part = ReadBuf::new(buf.initialize_unfilled_to(room));
                ready!(Pin::new(&mut this.inner).poll_read(cx, &mut part))?;
                let read = part.filled().len();
                buf.advance(read);
                read
            }
        };
        for (link, debt) in this.downlinks.iter().zip(&mut this.debts) {
            link.count(read);
            if read > 0 && link.rate().is_some() {
                *debt = Some(link.ticket(read));
            }
        }
        Poll::Ready(Ok(()))
    }
}
