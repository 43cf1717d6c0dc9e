//! Peers over TCP: one listener for all bundles, connections sorted by their handshake.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use swarm_proto::wire::Handshake;
use swarm_proto::wire::handshake::HANDSHAKE_LEN;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::OwnedSemaphorePermit;

use crate::node::Node;

/// How long a caller may take to say which swarm it wants.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections waiting to be accepted.
const BACKLOG: u32 = 256;

/// Somebody who called, with the bytes read so far (the handshake, perhaps more).
pub(crate) struct Incoming {
    pub(crate) stream: TcpStream,
    pub(crate) addr: SocketAddr,
    pub(crate) bytes: BytesMut,
    pub(crate) permit: OwnedSemaphorePermit,
}

/// Opens the listener.
///
/// # Errors
/// What the system said; the address may be in use.
pub(crate) fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = match addr {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // A restart must not wait for the old connections' last minute.
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}

/// Accepts until the node shuts down.
pub(crate) async fn accept(listener: TcpListener, node: Node) {
    let shutdown = node.shutdown().clone();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, addr)) => {
                let Some(permit) = node.connection_permit() else {
                    tracing::debug!(%addr, "connection refused: too many");
                    continue;
                };
                let node = node.clone();
                tokio::spawn(async move { route(node, stream, addr, permit).await });
            }
            Err(error) => {
                // Out of descriptors, most likely: wait for some to come back instead of spinning.
                tracing::warn!(%error, "cannot accept connections for now");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

async fn route(node: Node, mut stream: TcpStream, addr: SocketAddr, permit: OwnedSemaphorePermit) {
    let _ = stream.set_nodelay(true);
    let mut bytes = BytesMut::with_capacity(4 * HANDSHAKE_LEN);
    let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, async {
        loop {
            match Handshake::decode(&bytes) {
                Ok(Some(handshake)) => return Ok(handshake),
                Ok(None) => {}
                Err(error) => return Err(error.to_string()),
            }
            match stream.read_buf(&mut bytes).await {
                Ok(0) => return Err(String::from("closed by peer")),
                Ok(_) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
    })
    .await;
    let handshake = match handshake {
        Ok(Ok(handshake)) => handshake,
        Ok(Err(reason)) => return tracing::debug!(%addr, reason, "no handshake"),
        Err(_) => return tracing::debug!(%addr, "no handshake in time"),
    };
    let Some(swarm) = node.get(&handshake.swarm_id) else {
        return tracing::debug!(%addr, swarm = %handshake.swarm_id, "swarm unknown here");
    };
    swarm.incoming(Incoming {
        stream,
        addr,
        bytes,
        permit,
    });
}
