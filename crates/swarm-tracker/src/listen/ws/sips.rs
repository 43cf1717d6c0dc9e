//! A stream of which the head of a frame is read first, and alone.
//!
//! The codec reads into what room its buffer has, and makes room for a frame once it has seen its
//! head. What it had read of the frame by then stays as room behind it, and with that room all the
//! memory of that frame, for as long as nothing else comes. After a head alone hardly any is left,
//! and the next frame begins in a buffer of its own.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes of the longest head (RFC 6455, 5.2).
const HEAD_LEN_MAX: usize = 14;

#[derive(Debug)]
pub(super) struct Sips<S> {
    stream: S,
    at_head: bool,
}

impl<S> Sips<S> {
    pub(super) const fn new(stream: S) -> Self {
        Self {
            stream,
            at_head: true,
        }
    }

    /// A message has come to its end.
    pub(super) const fn expect_head(&mut self) {
        self.at_head = true;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Sips<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.at_head || buf.remaining() < HEAD_LEN_MAX {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let mut head = [0; HEAD_LEN_MAX];
        let mut sip = ReadBuf::new(&mut head);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut sip))?;
        buf.put_slice(sip.filled());
        self.at_head = false;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Sips<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
