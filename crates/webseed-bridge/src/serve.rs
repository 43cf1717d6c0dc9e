//! The accept loop: hyper over TCP with every clock that a hostile visitor can push against.
//!
//! Heads have a deadline, connections are counted, and a visitor who does not read what he asked
//! for is dropped. What goes out is paced by the uplink that all of this host shares.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use swarm_peer::uplink::{Shaped, Uplink};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, Sleep, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::limits;
use crate::respond::Responder;

/// Bounds of the listener; see [`crate::config::HttpConfig`], which holds the same as text.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Connections open at once. Past it the oldest wait in the kernel's queue.
    pub connections_max: usize,
    /// From a connection's start, or the last answer's end, to a complete request head.
    pub head_timeout: Duration,
    /// How long a visitor may hold up writing; see [`SLOWEST_BYTES_PER_SECOND`].
    pub write_timeout: Duration,
    /// How long answers under way may take at shutdown.
    pub drain: Duration,
}

/// A visitor who reads slower than this over the write timeout is dropped.
pub const SLOWEST_BYTES_PER_SECOND: u64 = 240;

/// Waits after a failed accept, for instance when descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Number of connections open now.
#[derive(Debug, Clone, Default)]
pub struct OpenCount(Arc<AtomicU64>);

impl OpenCount {
    /// The number.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn hold(&self) -> Held {
        self.0.fetch_add(1, Ordering::Relaxed);
        Held(self.0.clone())
    }
}

struct Held(Arc<AtomicU64>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Serves until `shutdown`, then lets answers under way finish within [`Bounds::drain`].
pub async fn serve(
    listener: TcpListener,
    responder: Arc<Responder>,
    bounds: Bounds,
    uplink: Uplink,
    open: OpenCount,
    shutdown: CancellationToken,
) {
    let room = Arc::new(Semaphore::new(bounds.connections_max));
    let connections = TaskTracker::new();
    // Ends what still runs when the drain is over.
    let cut = CancellationToken::new();
    loop {
        let permit = tokio::select! {
            () = shutdown.cancelled() => break,
            permit = room.clone().acquire_owned() => permit.expect("the semaphore is never closed"),
        };
        let (stream, peer) = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        let held = open.hold();
        let (responder, uplink) = (responder.clone(), uplink.clone());
        let (shutdown, cut) = (shutdown.clone(), cut.clone());
        connections.spawn(async move {
            let _held = (permit, held);
            tokio::select! {
                () = cut.cancelled() => {}
                () = connection(stream, peer, responder, bounds, uplink, shutdown) => {}
            }
        });
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(bounds.drain, connections.wait())
        .await
        .is_err()
    {
        tracing::info!(open = open.get(), "connections cut after the drain");
        cut.cancel();
        connections.wait().await;
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    responder: Arc<Responder>,
    bounds: Bounds,
    uplink: Uplink,
    shutdown: CancellationToken,
) {
    let _ = stream.set_nodelay(true);
    // The deadline sits under the uplink: a full uplink is our doing, not the visitor's.
    let stream = Shaped::new(WriteDeadline::new(stream, bounds.write_timeout), uplink);
    let service = service_fn(move |request: Request<Incoming>| {
        let responder = responder.clone();
        async move {
            let (parts, _body) = request.into_parts();
            Ok::<_, std::convert::Infallible>(responder.respond(&parts).await)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.head_timeout)
        .max_headers(limits::HEADERS_MAX)
        .max_buf_size(limits::HEAD_LEN_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "connection ended badly");
    }
}

/// A stream whose writes fail when the other end takes too little for too long.
///
/// While the kernel refuses bytes, a window runs; it is met when at least
/// [`SLOWEST_BYTES_PER_SECOND`] on average go through before its end.
pub struct WriteDeadline<S> {
    inner: S,
    timeout: Duration,
    window: Option<Window>,
}

struct Window {
    ends: Pin<Box<Sleep>>,
    missing: u64,
}

impl<S> WriteDeadline<S> {
    /// Guards the writes to `inner`.
    pub fn new(inner: S, timeout: Duration) -> Self {
        Self {
            inner,
            timeout,
            window: None,
        }
    }

    /// Called with the outcome of each write of `offered` bytes.
    fn judge(
        &mut self,
        cx: &mut Context<'_>,
        offered: usize,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let enough = SLOWEST_BYTES_PER_SECOND.saturating_mul(self.timeout.as_secs().max(1));
        match written {
            Poll::Ready(Ok(count)) => {
                let met = self.window.as_mut().is_none_or(|window| {
                    window.missing = window.missing.saturating_sub(count as u64);
                    window.missing == 0
                });
                if met || count == offered {
                    self.window = None;
                }
                Poll::Ready(Ok(count))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                let timeout = self.timeout;
                let window = self.window.get_or_insert_with(|| Window {
                    ends: Box::pin(sleep_until(Instant::now() + timeout)),
                    missing: enough,
                });
                ready!(window.ends.as_mut().poll(cx));
                Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "visitor does not read",
                )))
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WriteDeadline<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WriteDeadline<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.judge(cx, buf.len(), written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let offered = bufs.iter().map(|buf| buf.len()).sum();
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.judge(cx, offered, written)
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
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    #[tokio::test(start_paused = true)]
    async fn a_visitor_who_never_reads_is_dropped() {
        let (ours, _theirs) = duplex(1024);
        let mut stream = WriteDeadline::new(ours, Duration::from_secs(60));
        let started = Instant::now();
        let error = stream.write_all(&[0; 4096]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(started.elapsed().as_secs(), 60);
    }

    #[tokio::test(start_paused = true)]
    async fn a_trickle_is_too_slow_and_a_slow_line_is_not() {
        for (bytes_per_second, fine) in [(10, false), (300, true)] {
            let (ours, mut theirs) = duplex(1024);
            let reader = tokio::spawn(async move {
                let mut buf = vec![0; bytes_per_second];
                while theirs.read_exact(&mut buf).await.is_ok() {
                    sleep(Duration::from_secs(1)).await;
                }
            });
            let mut stream = WriteDeadline::new(ours, Duration::from_secs(60));
            let written = stream.write_all(&[0; 60_000]).await;
            assert_eq!(written.is_ok(), fine, "{bytes_per_second} bytes a second");
            reader.abort();
        }
    }
}
