//! Peers over uTP (BEP 29), by `librqbit-utp`: one UDP socket on the listening port's number.
//!
//! What the library sends goes through [`Guarded`], which lets nobody with a forged address use us
//! as an amplifier (T24), and keeps errors of single packets from ending the socket.

mod transport;

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::select_ok;
use librqbit_utp::{SocketOpts, UtpSocket, UtpSocketUdp, UtpStream};
use socket2::{Protocol, Type};
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;

use super::Stream;
use super::accept::{Lobby, greet};
use crate::node::Node;
use transport::Guarded;

/// Packets that open a connection, at most, and the pause before each further one: the library
/// sends one and no more. Five would be the bound of T25.
const SYNS_MAX: u32 = 3;
const SYN_PAUSE: Duration = Duration::from_millis(1200);

/// Bytes buffered for one connection in each direction: 20 Mbit/s at 200 ms.
const BUFFER_LEN: NonZeroUsize = NonZeroUsize::new(512 * 1024).unwrap();

/// How long the other side may leave what it must answer unanswered.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Names the library's environment (its clock), which it does not export.
trait Parts {
    type Environment;
}

impl<T, E> Parts for UtpSocket<T, E> {
    type Environment = E;
}

type Socket = UtpSocket<Guarded, <UtpSocketUdp as Parts>::Environment>;

/// The uTP side of a node. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Utp {
    socket: Arc<Socket>,
}

impl Utp {
    /// Opens the socket; it ends when `shutdown` is cancelled. `streams_max` are connections at a
    /// time, pending ones included.
    ///
    /// # Errors
    /// What the system said; the port may be in use.
    pub(crate) async fn open(
        addr: SocketAddr,
        streams_max: usize,
        shutdown: CancellationToken,
    ) -> io::Result<Self> {
        let socket = super::port::socket(addr, Type::DGRAM, Protocol::UDP)?;
        socket.bind(&addr.into())?;
        let guarded = Guarded::new(UdpSocket::from_std(socket.into())?)?;
        let options = SocketOpts {
            vsock_rx_bufsize_bytes: Some(BUFFER_LEN),
            vsock_tx_bufsize_bytes_max: Some(BUFFER_LEN),
            remote_inactivity_timeout: Some(SILENCE_MAX),
            max_live_vsocks: NonZeroUsize::new(streams_max),
            // Our messages are complete when they are written; waiting only delays them.
            disable_nagle: true,
            dont_wait_for_lastack: true,
            cancellation_token: shutdown,
            ..SocketOpts::default()
        };
        let socket = UtpSocket::new_with_opts(guarded, Default::default(), options);
        let socket = socket.map_err(io::Error::other)?;
        Ok(Self { socket })
    }

    /// Where it is called.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.socket.bind_addr()
    }

    /// Calls `addr`; the caller bounds the time.
    ///
    /// # Errors
    /// What the system or the library said.
    pub(crate) async fn dial(&self, addr: SocketAddr) -> io::Result<UtpStream> {
        let tries = (0..SYNS_MAX).map(|n| {
            async move {
                tokio::time::sleep(SYN_PAUSE * n).await;
                self.socket.connect(addr).await
            }
            .boxed()
        });
        match select_ok(tries).await {
            Ok((stream, _)) => Ok(stream),
            Err(error) => Err(io::Error::other(error)),
        }
    }
}

/// Accepts until the node shuts down.
pub(crate) async fn accept(utp: Utp, node: Node, lobby: Arc<Lobby>) {
    let shutdown = node.shutdown().clone();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = utp.socket.accept() => accepted,
        };
        match accepted {
            Ok(stream) => {
                let addr = stream.remote_addr();
                let seat = lobby.enter(addr.ip());
                tokio::spawn(greet(node.clone(), Stream::Utp(stream), addr, seat));
            }
            // The library hears of the end at the same time, and may be the first.
            Err(_) if shutdown.is_cancelled() => return,
            Err(error) => {
                return tracing::warn!(%error, "uTP ended; peers may still call by TCP");
            }
        }
    }
}
