//! Announces over UDP (BEP 15): the socket under `swarm_proto`'s [`UdpClient`].
//!
//! The tracker's name is resolved anew for each round of announces, and what it resolves to is
//! vetted; where the last address did not answer the next is tried. Between rounds no socket is
//! held: bundles that idle cost none.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Instant;

use swarm_proto::id::SwarmId;
use swarm_proto::limits;
use swarm_proto::tracker::AnnounceRequest;
use swarm_proto::tracker::udp::{Answer as Said, Ask, ClientError, UdpClient};
use tokio::net::UdpSocket;
use url::Url;

use super::{AnnounceError, Answer, Figures};
use crate::connector::{ConnectError, Connector, Trust};

/// Why a question over UDP brought nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UdpError {
    /// Not `udp://HOST:PORT`.
    #[error("{0:?} is no URL of a UDP tracker")]
    Url(String),
    /// No such name, or one we may not talk to.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// All its addresses are of a family that the listening address is not of.
    #[error("tracker has no address that {0} can talk to")]
    Family(IpAddr),
    /// The system refuses to send, or the tracker's host to receive.
    #[error("cannot talk to tracker")]
    Io(#[source] io::Error),
    /// It does not answer.
    #[error(transparent)]
    Client(ClientError),
}

/// A tracker at a `udp://` URL.
pub(super) struct UdpTracker {
    connector: Connector,
    /// What we listen on, and so what we talk from.
    bind: IpAddr,
    url: String,
    trust: Trust,
    client: UdpClient,
    /// The socket, and whom it is connected to.
    line: Option<(UdpSocket, SocketAddr)>,
    /// Addresses tried in vain since one answered.
    failed: usize,
}

impl UdpTracker {
    pub(super) fn new(connector: Connector, bind: IpAddr, url: &str, trust: Trust) -> Self {
        Self {
            connector,
            bind,
            url: url.to_owned(),
            trust,
            client: UdpClient::default(),
            line: None,
            failed: 0,
        }
    }

    /// Lets go of the socket, and the token that is good for it alone.
    pub(super) fn hang_up(&mut self) {
        self.line = None;
        self.client.forget_token();
    }

    /// Drops the question; the next address is tried next time.
    pub(super) fn give_up(&mut self) {
        self.failed = self.failed.wrapping_add(1);
        self.hang_up();
    }

    pub(super) async fn announce(
        &mut self,
        request: AnnounceRequest,
    ) -> Result<Answer, AnnounceError> {
        let (host, port, path) = self.parts()?;
        let asked = self.ask(&host, port, Ask::Announce(request, path)).await;
        match asked {
            Ok((Said::Announce(reply), by)) => {
                self.failed = 0;
                // Who was trusted with our asking is trusted with what is as near as itself.
                let trust = match self.trust {
                    Trust::Stranger => Trust::Stranger,
                    _ => Trust::Neighbour(by.ip()),
                };
                Ok(Answer { reply, trust })
            }
            Ok((Said::Scrape(_), _)) => Err(UdpError::Client(ClientError::NoAnswer).into()),
            Err(UdpError::Client(ClientError::Refused(reason))) => {
                self.failed = 0;
                Err(AnnounceError::Refused {
                    reason,
                    retry_in: None,
                })
            }
            Err(error) => {
                self.give_up();
                Err(error.into())
            }
        }
    }

    /// Asks for figures.
    pub(super) async fn scrape(&mut self, ids: &[SwarmId]) -> Result<Figures, AnnounceError> {
        let (host, port, _) = self.parts()?;
        match self.ask(&host, port, Ask::Scrape(ids.to_vec())).await {
            Ok((Said::Scrape(figures), _)) => Ok(figures),
            Ok((Said::Announce(_), _)) => Err(UdpError::Client(ClientError::NoAnswer).into()),
            Err(UdpError::Client(ClientError::Refused(reason))) => Err(AnnounceError::Refused {
                reason,
                retry_in: None,
            }),
            Err(error) => Err(error.into()),
        }
    }

    /// Host, port, and what BEP 41 has told to the tracker: nothing for the path that all have.
    fn parts(&self) -> Result<(String, u16, String), UdpError> {
        let wrong = || UdpError::Url(self.url.clone());
        let url = Url::parse(&self.url).map_err(|_| wrong())?;
        let (host, port) = url.host_str().zip(url.port()).ok_or_else(wrong)?;
        let path = match (url.path(), url.query()) {
            ("" | "/" | "/announce", None) => String::new(),
            (path, None) => path.to_owned(),
            (path, Some(query)) => format!("{path}?{query}"),
        };
        Ok((host.to_owned(), port, path))
    }

    async fn ask(
        &mut self,
        host: &str,
        port: u16,
        ask: Ask,
    ) -> Result<(Said, SocketAddr), UdpError> {
        if self.line.is_none() {
            self.line = Some(self.connect(host, port).await?);
        }
        let Some((socket, addr)) = &self.line else {
            return Err(UdpError::Family(self.bind));
        };
        let mut packet = vec![0; limits::UDP_TRACKER_PACKET_LEN_MAX];
        self.client.set_v6(addr.is_ipv6());
        self.client.ask(Instant::now(), ask, rand::random());
        loop {
            while let Some(bytes) = self.client.poll_transmit() {
                socket.send(&bytes).await.map_err(UdpError::Io)?;
            }
            if let Some(outcome) = self.client.poll_outcome() {
                return outcome.map(|said| (said, *addr)).map_err(UdpError::Client);
            }
            let Some(due) = self.client.poll_timeout() else {
                return Err(UdpError::Client(ClientError::NoAnswer));
            };
            tokio::select! {
                received = socket.recv(&mut packet) => {
                    let len = received.map_err(UdpError::Io)?;
                    let bytes = packet.get(..len).unwrap_or_default();
                    self.client.handle_packet(Instant::now(), bytes, rand::random());
                }
                () = tokio::time::sleep_until(due.into()) => {
                    self.client.handle_timeout(Instant::now(), rand::random());
                }
            }
        }
    }

    /// Resolves, vets, and opens a socket to one of the addresses.
    async fn connect(&self, host: &str, port: u16) -> Result<(UdpSocket, SocketAddr), UdpError> {
        let found = self.connector.resolve(host, port, self.trust).await?;
        let usable: Vec<_> = found
            .into_iter()
            .filter_map(|addr| Some((local_for(self.bind, addr.ip())?, addr)))
            .collect();
        let at = self.failed.checked_rem(usable.len()).unwrap_or(0);
        let (local, addr) = *usable.get(at).ok_or(UdpError::Family(self.bind))?;
        let socket = UdpSocket::bind((local, 0)).await.map_err(UdpError::Io)?;
        // From now on the system drops what comes from anybody else.
        socket.connect(addr).await.map_err(UdpError::Io)?;
        Ok((socket, addr))
    }
}

/// The address to talk from to `to` for who listens on `bind`, as TCP calls go out
/// ([`Connector::with_source`]); `None` if that cannot be.
fn local_for(bind: IpAddr, to: IpAddr) -> Option<IpAddr> {
    let fits = bind.is_ipv4() == to.is_ipv4() && (!bind.is_loopback() || to.is_loopback());
    match (bind.is_unspecified(), to) {
        (false, _) if fits => Some(bind),
        (false, _) if !bind.is_loopback() => None,
        (_, IpAddr::V4(_)) => Some(Ipv4Addr::UNSPECIFIED.into()),
        (_, IpAddr::V6(_)) => Some(Ipv6Addr::UNSPECIFIED.into()),
    }
}
