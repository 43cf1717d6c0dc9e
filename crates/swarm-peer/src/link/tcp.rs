//! Peers over TCP: one listener for all bundles.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use socket2::{Protocol, Type};
use tokio::net::TcpListener;

use super::Stream;
use super::accept::{ACCEPT_PAUSE, Lobby, greet};
use crate::node::Node;

/// Connections waiting to be accepted.
const BACKLOG: i32 = 256;

/// Opens the listener.
///
/// # Errors
/// What the system said; the address may be in use.
pub(crate) fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = super::port::socket(addr, Type::STREAM, Protocol::TCP)?;
    // A restart must not wait for the old connections' last minute.
    socket.set_reuse_address(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Accepts until the node shuts down.
pub(crate) async fn accept(listener: TcpListener, node: Node, lobby: Arc<Lobby>) {
    let shutdown = node.shutdown().clone();
    let mut failing = false;
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, addr)) => {
                failing = false;
                let _ = stream.set_nodelay(true);
                let seat = lobby.enter(addr.ip());
                tokio::spawn(greet(node.clone(), Stream::Tcp(stream), addr, seat));
            }
            Err(error) => {
                // Out of descriptors, most likely: wait for some to come back instead of spinning.
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, "cannot accept connections for now");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
