//! Calls to peers: by TCP, which is faster wherever it passes, and by uTP where it does not.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::Stream;
use super::port::Transport;
use crate::connector::{ConnectError, Trust};
use crate::node::Node;

/// How long uTP is tried where TCP was refused: somebody is there, near enough to have said so,
/// and most likely speaks neither.
const UTP_AFTER_REFUSAL: Duration = Duration::from_secs(1);

/// By what a peer is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// TCP, then uTP.
    Any,
    /// uTP alone.
    Utp,
}

/// Calls a peer.
///
/// # Errors
/// [`ConnectError`] of TCP: refused by policy, unreachable, or too slow; and uTP did no better.
pub(crate) async fn dial(
    node: &Node,
    addr: SocketAddr,
    trust: Trust,
    by: By,
) -> Result<Stream, ConnectError> {
    let by = match node.config().transport {
        Transport::Tcp => By::Any,
        Transport::Both => by,
        Transport::Utp => By::Utp,
    };
    if by == By::Utp {
        node.connector().check(addr, trust)?;
        let stream = by_utp(node, addr, node.config().dial_timeout).await;
        return stream.ok_or(ConnectError::TimedOut(addr));
    }
    let error = match node.connector().dial(addr, trust).await {
        Ok(stream) => return Ok(Stream::Tcp(stream)),
        Err(error) => error,
    };
    let patience = match &error {
        ConnectError::Refused(_) => return Err(error),
        ConnectError::Io { source, .. } if source.kind() == io::ErrorKind::ConnectionRefused => {
            UTP_AFTER_REFUSAL.min(node.config().dial_timeout)
        }
        _ => node.config().dial_timeout,
    };
    match by_utp(node, addr, patience).await {
        Some(stream) => Ok(stream),
        None => Err(error),
    }
}

async fn by_utp(node: &Node, addr: SocketAddr, patience: Duration) -> Option<Stream> {
    let utp = node.utp()?;
    let to = match (utp.addr().ip(), addr.ip()) {
        // A socket of both families calls IPv4 in the guise of IPv6.
        (IpAddr::V6(own), IpAddr::V4(ip)) if own.is_unspecified() => {
            SocketAddr::new(ip.to_ipv6_mapped().into(), addr.port())
        }
        (own, ip) if own.is_ipv4() == ip.is_ipv4() => addr,
        _ => return None,
    };
    match tokio::time::timeout(patience, utp.dial(to)).await {
        Ok(Ok(stream)) => Some(Stream::Utp(stream)),
        Ok(Err(error)) => {
            tracing::debug!(%addr, %error, "no connection by uTP either");
            None
        }
        Err(_) => None,
    }
}
