//! [`Port`]: the one number under which a node is met, by TCP and by uTP.

use std::io;
use std::net::SocketAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
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

impl Port {
    /// Opens what the configuration asks for.
    ///
    /// # Errors
    /// What the system said; the address may be in use.
    pub(crate) async fn open(config: &NodeConfig, stop: &CancellationToken) -> io::Result<Self> {
        let streams_max = config.peers_max.saturating_add(config.handshakes_max);
        let utp = |addr| Utp::open(addr, streams_max, stop.clone());
        if config.transport == Transport::Utp {
            let utp = utp(config.listen).await?;
            return Ok(Self {
                addr: utp.addr(),
                tcp: None,
                utp: Some(utp),
            });
        }
        let mut tries = match config.listen.port() {
            0 => PORTS_TRIED,
            _ => 1,
        };
        loop {
            let listener = tcp::listen(config.listen)?;
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
