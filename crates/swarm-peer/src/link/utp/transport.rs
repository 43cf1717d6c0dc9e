//! [`Guarded`]: the UDP socket below the library, which drops what must not be sent.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use dontfrag::UdpSocketExt as _;
use librqbit_dualstack_sockets::PollSendToVectored;
use librqbit_utp::Transport;
use swarm_proto::utp::{HEADER_LEN, Paths};
use tokio::net::UdpSocket;

/// Bytes the system may hold for us: a burst of all connections between two turns of the library.
const RECEIVE_BUFFER_LEN: usize = 2 * 1024 * 1024;

/// Pause after the socket failed, lest a failure that stays makes us spin.
const ERROR_PAUSE: Duration = Duration::from_millis(100);

pub(super) struct Guarded {
    socket: UdpSocket,
    addr: SocketAddr,
    paths: Mutex<Paths>,
}

impl Guarded {
    pub(super) fn new(socket: UdpSocket) -> io::Result<Self> {
        let addr = socket.local_addr()?;
        // The library finds the longest packet that passes by trying; where the system won't say
        // that one was too long, it only takes longer. The same goes for the buffer.
        let _ = match addr {
            SocketAddr::V4(_) => socket.set_dontfrag_v4(true),
            SocketAddr::V6(_) => socket.set_dontfrag_v6(true),
        };
        let _ = socket2::SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER_LEN);
        Ok(Self {
            socket,
            addr,
            paths: Mutex::default(),
        })
    }

    fn paths(&self) -> std::sync::MutexGuard<'_, Paths> {
        self.paths.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the packet must be dropped instead of sent.
    fn is_held(&self, to: SocketAddr, packet: &[u8], len: usize) -> bool {
        let held = !self.paths().may_send(Instant::now(), to, packet, len);
        if held {
            tracing::trace!(%to, len, "uTP packet held back: its receiver is not proven");
        }
        held
    }
}

/// A packet that could not be sent is a packet lost, which the protocol makes good; only that one
/// is too long must be told.
fn lost(sent: io::Result<usize>, len: usize) -> io::Result<usize> {
    let too_long = Some(rustix::io::Errno::MSGSIZE.raw_os_error());
    match sent {
        Err(error) if error.raw_os_error() != too_long => {
            tracing::trace!(%error, "uTP packet not sent");
            Ok(len)
        }
        sent => sent,
    }
}

impl PollSendToVectored for Guarded {
    fn poll_send_to_vectored(
        &self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
        target: SocketAddr,
    ) -> Poll<io::Result<usize>> {
        let len = bufs.iter().map(|buf| buf.len()).sum();
        let mut header = [0; HEADER_LEN];
        let bytes = bufs.iter().flat_map(|buf| buf.iter());
        for (to, from) in header.iter_mut().zip(bytes) {
            *to = *from;
        }
        if self.is_held(target, &header, len) {
            return Poll::Ready(Ok(len));
        }
        let sent = self.socket.poll_send_to_vectored(cx, bufs, target);
        sent.map(|sent| lost(sent, len))
    }
}

impl Transport for Guarded {
    async fn recv_from<'a>(&'a self, buf: &'a mut [u8]) -> io::Result<(usize, SocketAddr)> {
        loop {
            match self.socket.recv_from(buf).await {
                Ok((len, from)) => {
                    let packet = buf.get(..len).unwrap_or_default();
                    if self.paths().received(Instant::now(), from, packet) {
                        return Ok((len, from));
                    }
                }
                Err(error) => {
                    // An error would end the library's socket. None says that ours is done for.
                    tracing::debug!(%error, "cannot receive uTP packets for now");
                    tokio::time::sleep(ERROR_PAUSE).await;
                }
            }
        }
    }

    async fn send_to<'a>(&'a self, buf: &'a [u8], target: SocketAddr) -> io::Result<usize> {
        if self.is_held(target, buf, buf.len()) {
            return Ok(buf.len());
        }
        // Only openings and refusals go this way; whoever calls an address that can't be reached
        // is to know.
        self.socket.send_to(buf, target).await
    }

    fn poll_send_to(
        &self,
        cx: &mut Context<'_>,
        buf: &[u8],
        target: SocketAddr,
    ) -> Poll<io::Result<usize>> {
        if self.is_held(target, buf, buf.len()) {
            return Poll::Ready(Ok(buf.len()));
        }
        let sent = self.socket.poll_send_to(cx, buf, target);
        sent.map(|sent| lost(sent, buf.len()))
    }

    fn bind_addr(&self) -> SocketAddr {
        self.addr
    }
}
