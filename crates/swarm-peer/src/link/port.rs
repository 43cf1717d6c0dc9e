//! [`Port`]: the one number under which a node is met, by TCP and by uTP.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;

use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::tcp;
use super::utp::Utp;
use crate::node::NodeConfig;

/// Ports tried for one that is free for TCP and UDP, where any will do.
const PORTS_TRIED: usize = 8;

/// By what peers are met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Transport {
    /// TCP alone.
    #[serde(rename = "off")]
    Tcp,
    /// TCP, and uTP (BEP 29) on the UDP port of the same number: accepted, and tried where a call
    /// by TCP fails. Where that port is taken, TCP alone.
    #[default]
    #[serde(rename = "on")]
    Both,
    /// uTP alone, for networks that drop TCP.
    #[serde(rename = "only")]
    Utp,
}

impl FromStr for Transport {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "on" => Ok(Self::Both),
            "off" => Ok(Self::Tcp),
            "only" => Ok(Self::Utp),
            _ => Err(format!("{text:?} is none of on, off, only")),
        }
    }
}

/// The listening port, opened.
pub(crate) struct Port {
    pub(crate) addr: SocketAddr,
    pub(crate) tcp: Option<TcpListener>,
    pub(crate) utp: Option<Utp>,
}

/// A socket to be bound to that address. `::` is for both families, whatever the system's default.
///
/// # Errors
/// What the system said; it may not have that family.
pub(super) fn socket(addr: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), kind, Some(protocol))?;
    if addr.is_ipv6() && addr.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Where to listen instead, if `::` failed because the system has no IPv6.
fn without_ipv6(listen: SocketAddr, error: &io::Error) -> Option<SocketAddr> {
    let absent = [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL].map(|errno| Some(errno.raw_os_error()));
    let both = listen.is_ipv6() && listen.ip().is_unspecified();
    let instead = SocketAddr::from((Ipv4Addr::UNSPECIFIED, listen.port()));
    (both && absent.contains(&error.raw_os_error())).then_some(instead)
}

impl Port {
    /// Opens what the configuration asks for; `0.0.0.0` instead of `::` where there is no IPv6.
    ///
    /// # Errors
    /// What the system said; the address may be in use.
    pub(crate) async fn open(config: &NodeConfig, stop: &CancellationToken) -> io::Result<Self> {
        let error = match Self::open_at(config.listen, config, stop).await {
            Ok(port) => return Ok(port),
            Err(error) => error,
        };
        match without_ipv6(config.listen, &error) {
            Some(instead) => {
                tracing::info!(%error, "no IPv6 here: peers are met by IPv4 alone");
                Self::open_at(instead, config, stop).await
            }
            None => Err(error),
        }
    }

    async fn open_at(
        listen: SocketAddr,
        config: &NodeConfig,
        stop: &CancellationToken,
    ) -> io::Result<Self> {
        let streams_max = config.peers_max.saturating_add(config.handshakes_max);
        let utp = |addr| Utp::open(addr, streams_max, stop.clone());
        if config.transport == Transport::Utp {
            let utp = utp(listen).await?;
            return Ok(Self {
                addr: utp.addr(),
                tcp: None,
                utp: Some(utp),
            });
        }
        let mut tries = match listen.port() {
            0 => PORTS_TRIED,
            _ => 1,
        };
        loop {
            let listener = tcp::listen(listen)?;
            let addr = listener.local_addr()?;
            let mut port = Self {
                addr,
                tcp: Some(listener),
                utp: None,
            };
            if config.transport == Transport::Tcp {
                return Ok(port);
            }
            tries -= 1;
            match utp(addr).await {
                Ok(utp) => port.utp = Some(utp),
                Err(_) if tries > 0 => continue,
                Err(error) => tracing::warn!(%addr, %error, "no uTP: its port cannot be opened"),
            }
            return Ok(port);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_where_there_is_no_ipv6_and_no_address_was_named_is_ipv4_taken_instead() {
        let addr = |text: &str| text.parse::<SocketAddr>().unwrap();
        let instead = |listen: &str, errno: Errno| {
            let error = io::Error::from_raw_os_error(errno.raw_os_error());
            without_ipv6(addr(listen), &error)
        };
        let plain = Some(addr("0.0.0.0:6881"));
        assert_eq!(instead("[::]:6881", Errno::AFNOSUPPORT), plain);
        assert_eq!(instead("[::]:6881", Errno::ADDRNOTAVAIL), plain);
        assert_eq!(instead("[::]:6881", Errno::ADDRINUSE), None);
        assert_eq!(instead("[::1]:6881", Errno::ADDRNOTAVAIL), None);
        assert_eq!(instead("192.0.2.1:6881", Errno::ADDRNOTAVAIL), None);
    }
}
