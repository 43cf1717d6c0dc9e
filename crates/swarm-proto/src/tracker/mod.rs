//! What peers, volunteers, gates and trackers tell each other.
//!
//! [`AnnounceRequest`] and its reply follow BEP 3, 7 and 23, scrape follows BEP 48; their bytes
//! are in [`http`], those of BEP 15 in [`udp`], and those of WebTorrent in [`ws`]. The replies of
//! the register of sites in need (spec 0006) are in [`register`], and how a bridge proves itself is
//! in [`proof`]. When to announce is decided by [`AnnounceSchedule`], and to which tracker of
//! several (BEP 12) by [`AnnounceTiers`]. No transport here: a driver fetches the URL or holds the
//! socket.

pub mod http;
pub mod proof;
pub mod register;
mod schedule;
mod tiers;
pub mod udp;
pub mod ws;

use std::net::SocketAddr;

use crate::id::{PeerId, SwarmId};
use crate::manifest::PublicKey;

pub use register::{BridgeView, BridgesReply, SiteInNeed, SitesReply};
pub use schedule::AnnounceSchedule;
pub use tiers::{AnnounceTiers, TrackerNumber};

/// Why a peer announces (BEP 3, `event`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum AnnounceEvent {
    /// One of the regular announces: no `event` on the wire.
    #[default]
    Regular,
    /// The first announce of this peer.
    Started,
    /// The peer leaves; the tracker forgets it at once.
    Stopped,
    /// The download has just become complete; sent once, never by a peer that began as a seed.
    Completed,
}

impl AnnounceEvent {
    /// The word on the wire, or `None` where the key is left out.
    pub const fn as_str(self) -> Option<&'static str> {
        match self {
            Self::Regular => None,
            Self::Started => Some("started"),
            Self::Stopped => Some("stopped"),
            Self::Completed => Some("completed"),
        }
    }
}

/// A volunteer's promise to answer browsers over plain HTTP, sent along with an announce
/// (spec 0006, 3).
///
/// The address is always the one the announce came from: nobody can volunteer another host.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BridgeOffer {
    /// TCP port of the bridge's HTTP listener at the announcing address; never 0.
    pub port: u16,
    /// Domain under which each site has a name of its own, `<label>.<domain>`; lower case.
    /// `None`: the bridge is reached by address, `/<host>/<path>`.
    pub domain: Option<String>,
    /// End of the lease, in seconds of Unix time. `None`: until the announces stop.
    pub until: Option<u64>,
    /// How many more visitors the volunteer takes, counted from this announce; 0 takes the offer
    /// back. `None`: no such limit.
    pub hits: Option<u64>,
    /// What the volunteer gives, in bits per second. `None`: not said.
    pub rate: Option<u64>,
    /// The key with which the bridge answers when the tracker calls it back
    /// ([`proof`]). `None`: it will not be listed.
    pub key: Option<PublicKey>,
}

impl BridgeOffer {
    /// An offer of `port` at the announcing address, without domain or limits.
    pub const fn new(port: u16) -> Self {
        Self {
            port,
            domain: None,
            until: None,
            hits: None,
            rate: None,
            key: None,
        }
    }
}

/// What a peer tells the tracker about one swarm.
///
/// There is no address in it: a tracker believes the packet's source only (T14), and `ip`,
/// `ipv4` and `ipv6` in a query are ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnnounceRequest {
    /// The swarm, by either 20-byte id of a hybrid.
    pub swarm_id: SwarmId,
    /// The peer's own id.
    pub peer_id: PeerId,
    /// TCP port on which the peer accepts connections.
    pub port: u16,
    /// Bytes sent since `started`.
    pub uploaded: u64,
    /// Bytes received since `started`.
    pub downloaded: u64,
    /// Bytes still missing; 0 is a seed, `None` is "not known" (a magnet without metadata).
    pub left: Option<u64>,
    /// Why the peer announces.
    pub event: AnnounceEvent,
    /// Whether the reply may be compact (BEP 23, 7). On by default.
    pub compact: bool,
    /// Peers wanted at most; `None` leaves it to the tracker.
    pub numwant: Option<u32>,
    /// The same for the life of a peer, so that it may change its address unnoticed.
    pub key: Option<u32>,
    /// Offered by volunteers that also run a bridge.
    pub bridge: Option<BridgeOffer>,
}

impl AnnounceRequest {
    /// A regular announce with nothing transferred and nothing known to be missing.
    pub const fn new(swarm_id: SwarmId, peer_id: PeerId, port: u16) -> Self {
        Self {
            swarm_id,
            peer_id,
            port,
            uploaded: 0,
            downloaded: 0,
            left: None,
            event: AnnounceEvent::Regular,
            compact: true,
            numwant: None,
            key: None,
            bridge: None,
        }
    }
}

/// What the tracker answers to an announce.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AnnounceReply {
    /// Seconds until the next regular announce; never 0.
    pub interval: u32,
    /// Seconds before which an announce without event is unwelcome.
    pub min_interval: Option<u32>,
    /// Seeds in the swarm.
    pub complete: u32,
    /// Leeches in the swarm.
    pub incomplete: u32,
    /// Other peers of the swarm, IPv4 and IPv6 mixed.
    pub peers: Vec<SocketAddr>,
    /// Something for a human to read; the announce went well.
    pub warning: Option<String>,
}

/// Swarms whose figures are asked for (BEP 48).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ScrapeRequest {
    /// At least one and at most [`limits::SCRAPE_HASHES_MAX`](crate::limits::SCRAPE_HASHES_MAX).
    pub swarm_ids: Vec<SwarmId>,
}

/// The figures of one swarm (BEP 48).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ScrapeEntry {
    /// Seeds now.
    pub complete: u32,
    /// How often a download was completed, as far as the tracker remembers.
    pub downloaded: u32,
    /// Leeches now.
    pub incomplete: u32,
}

/// The tracker's answer to a scrape; swarms that it does not know are left out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ScrapeReply {
    /// In the order of the wire (sorted by id when we wrote it).
    pub files: Vec<(SwarmId, ScrapeEntry)>,
}
