//! [`Stream`]: a connection to a peer, by TCP or by uTP.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use librqbit_utp::UtpStream;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;

/// A connection before a session drives it.
pub(crate) enum Stream {
    Tcp(TcpStream),
    Utp(UtpStream),
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Utp(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}
