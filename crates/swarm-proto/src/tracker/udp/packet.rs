//! The packets of BEP 15: fixed layouts, big endian.
//!
//! ```text
//! connect    protocol 8 | 0 | transaction          0 | transaction | token 8
//! announce   token 8 | 1 | transaction | swarm 20  1 | transaction | interval | leeches | seeds
//!            | peer id 20 | downloaded 8 | left 8    | (address 4 or 16 | port 2)*
//!            | uploaded 8 | event | address | key
//!            | wanted | port 2 | options (BEP 41)
//! scrape     token 8 | 2 | transaction | swarm 20* 2 | transaction | (seeds | completed | leeches)*
//! error                                            3 | transaction | text
//! ```
//! Whatever has no size has 4 bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::{Buf, BufMut};

use crate::id::{PeerId, SwarmId};
use crate::limits::{PEERS_PER_REPLY_MAX, SCRAPE_HASHES_MAX, URL_LEN_MAX};
use crate::tracker::http::one_line;
use crate::tracker::{AnnounceEvent, AnnounceReply, AnnounceRequest, ScrapeEntry};

/// What every connect request begins with.
const PROTOCOL: u64 = 0x0417_2710_1980;

const CONNECT: u32 = 0;
const ANNOUNCE: u32 = 1;
const SCRAPE: u32 = 2;
const ERROR: u32 = 3;

const OPTION_END: u8 = 0;
const OPTION_NOP: u8 = 1;
const OPTION_URL_DATA: u8 = 2;

/// What a tracker gives who asks, to be shown with each request: proof that the asker is where its
/// packets say. BEP 15's connection id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConnectionToken(pub u64);

/// What a client sends.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
#[expect(
    clippy::large_enum_variant,
    reason = "one at a time, and nearly all are announces"
)]
pub enum Request {
    /// Asks for a token.
    Connect {
        /// Chosen by the client, comes back with the answer.
        transaction: u32,
    },
    /// Announces a peer. Over UDP there is no bridge in it.
    Announce {
        /// The token of this client.
        token: ConnectionToken,
        /// Chosen by the client, comes back with the answer.
        transaction: u32,
        /// What it says.
        announce: AnnounceRequest,
        /// Path and query of the tracker's URL (BEP 41), which may hold a passkey.
        path: String,
    },
    /// Asks for figures.
    Scrape {
        /// The token of this client.
        token: ConnectionToken,
        /// Chosen by the client, comes back with the answer.
        transaction: u32,
        /// At least one and at most [`SCRAPE_HASHES_MAX`].
        swarm_ids: Vec<SwarmId>,
    },
}

/// What a tracker answers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Response {
    /// The token asked for.
    Connect {
        /// The request's.
        transaction: u32,
        /// Good for two minutes; a client uses it for one.
        token: ConnectionToken,
    },
    /// Peers.
    Announce {
        /// The request's.
        transaction: u32,
        /// What the tracker says; without minimal interval and warning, which UDP does not have.
        reply: AnnounceReply,
    },
    /// Figures, in the order in which they were asked for.
    Scrape {
        /// The request's.
        transaction: u32,
        /// One for each swarm.
        entries: Vec<ScrapeEntry>,
    },
    /// The tracker understood and refuses.
    Error {
        /// The request's.
        transaction: u32,
        /// Its words, cut to a line.
        message: String,
    },
}

/// Why bytes are no packet of BEP 15. The sender's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PacketError {
    /// Too short for what it says it is.
    #[error("packet of {0} bytes is cut off")]
    Cut(usize),
    /// A connect request that does not begin as BEP 15 says.
    #[error("not the UDP tracker protocol")]
    Protocol,
    /// An action that this side does not know.
    #[error("unknown action {0}")]
    Action(u32),
    /// A field that holds what it must not.
    #[error("invalid {0}")]
    Field(&'static str),
}

impl Request {
    /// The client's number for it.
    pub const fn transaction(&self) -> u32 {
        match self {
            Self::Connect { transaction }
            | Self::Announce { transaction, .. }
            | Self::Scrape { transaction, .. } => *transaction,
        }
    }

    /// Writes the packet. Unknown `left` and no `numwant` become -1, as BEP 15 says of the latter.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        match self {
            Self::Connect { transaction } => {
                out.put_u64(PROTOCOL);
                out.put_u32(CONNECT);
                out.put_u32(*transaction);
            }
            Self::Announce {
                token,
                transaction,
                announce,
                path,
            } => {
                out.put_u64(token.0);
                out.put_u32(ANNOUNCE);
                out.put_u32(*transaction);
                out.put_slice(announce.swarm_id.as_bytes());
                out.put_slice(announce.peer_id.as_bytes());
                out.put_u64(announce.downloaded);
                out.put_u64(announce.left.unwrap_or(u64::MAX));
                out.put_u64(announce.uploaded);
                out.put_u32(match announce.event {
                    AnnounceEvent::Regular => 0,
                    AnnounceEvent::Completed => 1,
                    AnnounceEvent::Started => 2,
                    AnnounceEvent::Stopped => 3,
                });
                // Our address: where the packet comes from.
                out.put_u32(0);
                out.put_u32(announce.key.unwrap_or(0));
                let wanted = announce.numwant.map(|n| n.min(i32::MAX as u32));
                out.put_u32(wanted.unwrap_or(u32::MAX));
                out.put_u16(announce.port);
                put_options(&mut out, path);
            }
            Self::Scrape {
                token,
                transaction,
                swarm_ids,
            } => {
                out.put_u64(token.0);
                out.put_u32(SCRAPE);
                out.put_u32(*transaction);
                for id in swarm_ids.iter().take(SCRAPE_HASHES_MAX) {
                    out.put_slice(id.as_bytes());
                }
            }
        }
        out
    }

    /// Reads a packet. What follows a connect request is ignored, and so are options that BEP 41
    /// does not name.
    ///
    /// # Errors
    /// [`PacketError`]. Nothing should be answered: the sender may be somebody else.
    pub fn decode(packet: &[u8]) -> Result<Self, PacketError> {
        let cut = || PacketError::Cut(packet.len());
        let mut rest = packet;
        let token = rest.try_get_u64().map_err(|_| cut())?;
        let action = rest.try_get_u32().map_err(|_| cut())?;
        let transaction = rest.try_get_u32().map_err(|_| cut())?;
        match action {
            CONNECT if token == PROTOCOL => Ok(Self::Connect { transaction }),
            CONNECT => Err(PacketError::Protocol),
            ANNOUNCE => {
                let (announce, options) = take_announce(rest).ok_or_else(cut)??;
                Ok(Self::Announce {
                    token: ConnectionToken(token),
                    transaction,
                    announce,
                    path: take_options(options)?,
                })
            }
            SCRAPE => {
                let (ids, cut_off) = rest.as_chunks::<20>();
                if ids.is_empty() || ids.len() > SCRAPE_HASHES_MAX || !cut_off.is_empty() {
                    return Err(PacketError::Field("number of swarms"));
                }
                Ok(Self::Scrape {
                    token: ConnectionToken(token),
                    transaction,
                    swarm_ids: ids.iter().copied().map(SwarmId::new).collect(),
                })
            }
            action => Err(PacketError::Action(action)),
        }
    }
}

/// The fixed part of an announce, and the options behind it; `None` if it is cut off.
fn take_announce(packet: &[u8]) -> Option<Result<(AnnounceRequest, &[u8]), PacketError>> {
    let (swarm_id, rest) = packet.split_first_chunk::<20>()?;
    let (peer_id, mut rest) = rest.split_first_chunk::<20>()?;
    let mut announce = AnnounceRequest::new(SwarmId::new(*swarm_id), PeerId::new(*peer_id), 0);
    announce.downloaded = rest.try_get_u64().ok()?;
    let left = rest.try_get_u64().ok()?;
    announce.left = i64::try_from(left).is_ok().then_some(left);
    announce.uploaded = rest.try_get_u64().ok()?;
    let event = rest.try_get_u32().ok()?;
    let _address = rest.try_get_u32().ok()?;
    announce.key = Some(rest.try_get_u32().ok()?);
    let wanted = rest.try_get_u32().ok()?;
    announce.numwant = i32::try_from(wanted).is_ok().then_some(wanted);
    announce.port = rest.try_get_u16().ok()?;
    announce.event = match event {
        0 => AnnounceEvent::Regular,
        1 => AnnounceEvent::Completed,
        2 => AnnounceEvent::Started,
        3 => AnnounceEvent::Stopped,
        _ => return Some(Err(PacketError::Field("event"))),
    };
    if announce.port == 0 {
        return Some(Err(PacketError::Field("port")));
    }
    Some(Ok((announce, rest)))
}

/// URL data in as many options as it takes; nothing at all for the bare `/announce` that trackers
/// without BEP 41 have.
fn put_options(out: &mut Vec<u8>, path: &str) {
    if path.is_empty() {
        return;
    }
    for part in path.as_bytes().chunks(usize::from(u8::MAX)) {
        out.put_u8(OPTION_URL_DATA);
        out.put_u8(part.len() as u8);
        out.put_slice(part);
    }
    out.put_u8(OPTION_END);
}

fn take_options(mut options: &[u8]) -> Result<String, PacketError> {
    let mut path = Vec::new();
    while let Some((&kind, rest)) = options.split_first() {
        options = rest;
        match kind {
            OPTION_END => break,
            OPTION_NOP => continue,
            _ => {}
        }
        let wrong = PacketError::Field("option");
        let (&len, rest) = options.split_first().ok_or(wrong)?;
        let (data, rest) = rest.split_at_checked(len.into()).ok_or(wrong)?;
        options = rest;
        if kind == OPTION_URL_DATA {
            path.extend_from_slice(data);
            if path.len() > URL_LEN_MAX {
                return Err(wrong);
            }
        }
    }
    String::from_utf8(path).map_err(|_| PacketError::Field("URL"))
}

impl Response {
    /// The number of the request that it answers.
    pub const fn transaction(&self) -> u32 {
        match self {
            Self::Connect { transaction, .. }
            | Self::Announce { transaction, .. }
            | Self::Scrape { transaction, .. }
            | Self::Error { transaction, .. } => *transaction,
        }
    }

    /// Writes the packet. Peers must be of the family over which the packet goes: where the first
    /// is IPv6, those of IPv4 are left out, and the other way round.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        self.encode_to(&mut out);
        out
    }

    /// Writes the packet, as [`encode`](Self::encode) does, behind what is in `out` already.
    pub fn encode_to(&self, out: &mut Vec<u8>) {
        match self {
            Self::Connect { transaction, token } => {
                out.put_u32(CONNECT);
                out.put_u32(*transaction);
                out.put_u64(token.0);
            }
            Self::Announce { transaction, reply } => {
                out.put_u32(ANNOUNCE);
                out.put_u32(*transaction);
                out.put_u32(reply.interval);
                out.put_u32(reply.incomplete);
                out.put_u32(reply.complete);
                let v6 = reply.peers.first().is_some_and(SocketAddr::is_ipv6);
                let peers = reply.peers.iter().filter(|peer| peer.is_ipv6() == v6);
                for peer in peers.take(PEERS_PER_REPLY_MAX) {
                    match peer.ip() {
                        IpAddr::V4(ip) => out.put_slice(&ip.octets()),
                        IpAddr::V6(ip) => out.put_slice(&ip.octets()),
                    }
                    out.put_u16(peer.port());
                }
            }
            Self::Scrape {
                transaction,
                entries,
            } => {
                out.put_u32(SCRAPE);
                out.put_u32(*transaction);
                for entry in entries {
                    out.put_u32(entry.complete);
                    out.put_u32(entry.downloaded);
                    out.put_u32(entry.incomplete);
                }
            }
            Self::Error {
                transaction,
                message,
            } => {
                out.put_u32(ERROR);
                out.put_u32(*transaction);
                out.put_slice(message.as_bytes());
            }
        }
    }

    /// Reads a packet that came over IPv6, if `v6`, else over IPv4: the packet does not say.
    ///
    /// Peers with port 0 are dropped, as are those past [`PEERS_PER_REPLY_MAX`], figures past
    /// [`SCRAPE_HASHES_MAX`], and what is left of an entry that is cut off.
    ///
    /// # Errors
    /// [`PacketError`]. Such a packet is to be ignored: it may come from anybody.
    pub fn decode(packet: &[u8], v6: bool) -> Result<Self, PacketError> {
        let cut = |_| PacketError::Cut(packet.len());
        let mut rest = packet;
        let action = rest.try_get_u32().map_err(cut)?;
        let transaction = rest.try_get_u32().map_err(cut)?;
        match action {
            CONNECT => Ok(Self::Connect {
                transaction,
                token: ConnectionToken(rest.try_get_u64().map_err(cut)?),
            }),
            ANNOUNCE => {
                let interval = rest.try_get_u32().map_err(cut)?;
                let incomplete = rest.try_get_u32().map_err(cut)?;
                let complete = rest.try_get_u32().map_err(cut)?;
                let reply = AnnounceReply {
                    interval: interval.max(1),
                    min_interval: None,
                    complete,
                    incomplete,
                    peers: take_peers(rest, v6),
                    warning: None,
                };
                Ok(Self::Announce { transaction, reply })
            }
            SCRAPE => {
                let (entries, _) = rest.as_chunks::<12>();
                let entries = entries.iter().take(SCRAPE_HASHES_MAX).map(|entry| {
                    let mut entry = &entry[..];
                    ScrapeEntry {
                        complete: entry.get_u32(),
                        downloaded: entry.get_u32(),
                        incomplete: entry.get_u32(),
                    }
                });
                Ok(Self::Scrape {
                    transaction,
                    entries: entries.collect(),
                })
            }
            ERROR => Ok(Self::Error {
                transaction,
                message: one_line(rest),
            }),
            action => Err(PacketError::Action(action)),
        }
    }
}

fn take_peers(bytes: &[u8], v6: bool) -> Vec<SocketAddr> {
    let peers: &mut dyn Iterator<Item = SocketAddr> = match v6 {
        false => &mut bytes.as_chunks::<6>().0.iter().map(|&[a, b, c, d, h, l]| {
            let ip = Ipv4Addr::new(a, b, c, d);
            SocketAddr::new(ip.into(), u16::from_be_bytes([h, l]))
        }),
        true => &mut bytes.as_chunks::<18>().0.iter().map(|entry| {
            let mut entry = &entry[..];
            let ip = Ipv6Addr::from(entry.get_u128()).to_canonical();
            SocketAddr::new(ip, entry.get_u16())
        }),
    };
    let peers = peers.filter(|peer| peer.port() != 0);
    peers.take(PEERS_PER_REPLY_MAX).collect()
}
