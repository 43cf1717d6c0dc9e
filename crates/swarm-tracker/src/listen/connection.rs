//! Bounds of a connection that hyper does not set: how many from one place, and how long a
//! client may leave a reply unread.

use std::collections::HashMap;
use std::future::Future as _;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use crate::budget::place_of;

/// How many connections each IPv4 address or IPv6 /64 has open (T55).
#[derive(Debug)]
pub(super) struct PerAddress {
    max: usize,
    /// Only places with a connection are in it, so it is bounded by those.
    open: Mutex<HashMap<IpAddr, usize>>,
}

/// One connection's share; given back when dropped.
#[derive(Debug)]
pub(super) struct PerAddressPermit {
    place: Option<(Arc<PerAddress>, IpAddr)>,
}

impl PerAddress {
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            open: Mutex::new(HashMap::new()),
        }
    }

    /// `None`: too many from there. This host itself is never counted.
    pub(super) fn enter(self: &Arc<Self>, source: IpAddr) -> Option<PerAddressPermit> {
        if source.is_loopback() {
            return Some(PerAddressPermit { place: None });
        }
        let place = place_of(source);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(place).or_default();
        if *count >= self.max {
            return None;
        }
        *count += 1;
        Some(PerAddressPermit {
            place: Some((Arc::clone(self), place)),
        })
    }
}

impl Drop for PerAddressPermit {
    fn drop(&mut self) {
        let Some((owner, place)) = self.place.take() else {
            return;
        };
        let mut open = owner.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&place) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                open.remove(&place);
            }
        }
    }
}

/// A stream of which something has been read already.
#[derive(Debug)]
pub(super) struct Rewound<S> {
    read: Vec<u8>,
    /// How much of that has been read once more.
    at: usize,
    stream: S,
}

impl<S> Rewound<S> {
    pub(super) const fn new(read: Vec<u8>, stream: S) -> Self {
        Self {
            read,
            at: 0,
            stream,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewound<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let rest = self.read.get(self.at..).unwrap_or_default();
        if rest.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let part = rest.get(..buf.remaining()).unwrap_or(rest);
        buf.put_slice(part);
        let read = part.len();
        self.at += read;
        if self.at == self.read.len() {
            (self.read, self.at) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewound<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A stream whose writes fail when the other side takes in nothing for too long.
#[derive(Debug)]
pub(super) struct WriteDeadline<S> {
    stream: S,
    timeout: Duration,
    /// Runs while a write is pending.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> WriteDeadline<S> {
    pub(super) fn new(stream: S, timeout: Duration) -> Self {
        Self {
            stream,
            timeout,
            stalled: None,
        }
    }

    fn watch<T>(
        &mut self,
        cx: &mut Context<'_>,
        result: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.stalled = None;
            return result;
        }
        let deadline = Instant::now() + self.timeout;
        let sleep = self
            .stalled
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        ready!(sleep.as_mut().poll(cx));
        self.stalled = None;
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WriteDeadline<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WriteDeadline<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.watch(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.watch(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.watch(cx, result)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[test]
    fn one_place_has_only_so_many_connections() {
        let per_address = Arc::new(PerAddress::new(2));
        let enter = |ip: &str| per_address.enter(ip.parse().expect("an address"));
        let first = enter("192.0.2.1");
        let second = enter("192.0.2.1");
        assert!(first.is_some() && second.is_some());
        assert!(enter("192.0.2.1").is_none());
        assert!(enter("192.0.2.2").is_some());
        drop(first);
        assert!(enter("192.0.2.1").is_some());
        let held = (enter("2001:db8::1"), enter("2001:db8::2"));
        assert!(held.0.is_some() && held.1.is_some());
        assert!(enter("2001:db8::ffff:1").is_none(), "the same /64");
        assert!(enter("2001:db8:0:1::1").is_some());
        let loopback: Vec<_> = (0..9).map(|_| enter("127.0.0.1")).collect();
        assert!(loopback.iter().all(Option::is_some));
    }

    #[test]
    fn places_without_connection_are_forgotten() {
        let per_address = Arc::new(PerAddress::new(2));
        drop(per_address.enter("192.0.2.1".parse().expect("an address")));
        assert!(per_address.open.lock().expect("not poisoned").is_empty());
    }

    #[tokio::test]
    async fn what_was_read_is_read_once_more() {
        let (near, mut far) = tokio::io::duplex(64);
        let mut stream = Rewound::new(b"what was read".to_vec(), near);
        far.write_all(b", and what follows").await.expect("room");
        far.shutdown().await.expect("open");
        let mut all = Vec::new();
        let mut part = [0; 5];
        loop {
            match stream.read(&mut part).await.expect("open") {
                0 => break,
                len => all.extend_from_slice(&part[..len]),
            }
        }
        assert_eq!(all, b"what was read, and what follows");
    }

    #[tokio::test]
    async fn a_client_that_reads_nothing_is_given_up() {
        let (near, mut far) = tokio::io::duplex(16);
        let mut stream = WriteDeadline::new(near, Duration::from_millis(500));
        let error = stream.write_all(&[0; 64]).await.expect_err("stalled");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        // One that reads slowly is not.
        let reader = tokio::spawn(async move {
            let mut buf = [0; 16];
            for _ in 0..5 {
                far.read_exact(&mut buf).await.expect("more");
                tokio::time::sleep(Duration::from_millis(150)).await;
            }
        });
        stream.write_all(&[0; 64]).await.expect("taken in slowly");
        reader.await.expect("all was read");
    }
}
