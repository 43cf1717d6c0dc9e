//! What the connector stands on: a resolver and a dialler. The system's, or in tests one that
//! remembers what it was asked.

use std::fmt::Debug;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;

use tokio::net::{TcpSocket, TcpStream};

type Answer<'a, T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send + 'a>>;

/// Resolves names and opens connections, without any judgement.
pub(crate) trait Network: Debug + Send + Sync {
    /// The addresses of a name. Asked once for a connection.
    fn lookup<'a>(&'a self, host: &'a str, port: u16) -> Answer<'a, Vec<SocketAddr>>;

    /// Connects, from `source` if that is given.
    fn connect(&self, addr: SocketAddr, source: Option<IpAddr>) -> Answer<'_, TcpStream>;
}

/// The operating system.
#[derive(Debug)]
pub(super) struct System;

/// Addresses taken of one name.
const ADDRESSES_MAX: usize = 16;

impl Network for System {
    fn lookup<'a>(&'a self, host: &'a str, port: u16) -> Answer<'a, Vec<SocketAddr>> {
        Box::pin(async move {
            let found = tokio::net::lookup_host((host, port)).await?;
            Ok(found.take(ADDRESSES_MAX).collect())
        })
    }

    fn connect(&self, addr: SocketAddr, source: Option<IpAddr>) -> Answer<'_, TcpStream> {
        Box::pin(async move {
            let Some(source) = source else {
                return TcpStream::connect(addr).await;
            };
            let socket = match addr {
                SocketAddr::V4(_) => TcpSocket::new_v4()?,
                SocketAddr::V6(_) => TcpSocket::new_v6()?,
            };
            socket.bind(SocketAddr::new(source, 0))?;
            socket.connect(addr).await
        })
    }
}
