//! What a session takes and gives: its configuration, commands and events.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;

use super::error::CloseReason;
use super::ledger::Block;
use crate::bitfield::Bitfield;
use crate::geometry::{BlockRange, Geometry, PieceIndex};
use crate::id::{PeerId, SwarmId};
use crate::wire::{ExtendedHandshake, HashRequest, HolepunchMessage, PexMessage, ReservedBits};

/// Names a connection within one process. Chosen by the driver, never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// How long a session waits, each from the last sign of life of that kind.
#[derive(Debug, Clone)]
pub struct Timeouts {
    /// For the whole handshake. Default 10 s.
    pub handshake: Duration,
    /// For any byte at all. Default 120 s, as BEP 3's practice is a keep-alive every two minutes
    /// at most.
    pub idle: Duration,
    /// Of our own silence before a keep-alive is sent. Default 50 s.
    pub keep_alive: Duration,
    /// For the next block while some are asked for. Default 8 s; larger values leave a vanished
    /// peer's blocks unasked for longer.
    pub request: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            idle: Duration::from_secs(120),
            keep_alive: Duration::from_secs(50),
            request: Duration::from_secs(8),
        }
    }
}

/// What a session must know from the start.
#[derive(Debug, Clone)]
pub struct SessionConfig {
    /// What we call ourselves.
    pub peer_id: PeerId,
    /// The ids of this torrent's swarms: one, or for a hybrid v1, v2 and then any other that is to
    /// be answered to ([`Metainfo::alias_id`](crate::metainfo::Metainfo::alias_id)). A handshake
    /// may come with any of them.
    pub swarm_ids: Vec<SwarmId>,
    /// Whether the torrent has a v2 half (BEP 52).
    pub v2: bool,
    /// Some: we called, and send our handshake first, with this id. None: the peer called.
    pub dialled: Option<SwarmId>,
    /// TCP port at which we listen, told to the peer; 0 says nothing.
    pub listen_port: u16,
    /// Name and version of our client, told to the peer.
    pub client: String,
    /// Bytes of the raw info dictionary, if we have it.
    pub metadata_size: Option<u32>,
    /// We ask for nothing (BEP 21). Better said here than by a command: some clients mistake a
    /// second extended handshake. Default false.
    pub upload_only: bool,
    /// We can be called by uTP, and introduce others (BEP 55).
    pub holepunch: bool,
    /// Peers may be exchanged (BEP 11): never in a private torrent. Default false.
    pub pex: bool,
    /// We answer in the DHT, and nodes of it may be exchanged (BEP 5): never in a private torrent.
    /// Default false.
    pub dht: bool,
    /// The peer's address, told to it as `yourip`.
    pub peer_ip: Option<IpAddr>,
    /// How long to wait for what.
    pub timeouts: Timeouts,
}

impl SessionConfig {
    /// A session of the torrent with these swarm ids (v1 first), with defaults for the rest:
    /// the peer called, no metadata.
    pub fn new(peer_id: PeerId, swarm_ids: Vec<SwarmId>, v2: bool) -> Self {
        Self {
            peer_id,
            swarm_ids,
            v2,
            dialled: None,
            listen_port: 0,
            client: concat!("Spikeswarm ", env!("CARGO_PKG_VERSION")).into(),
            metadata_size: None,
            upload_only: false,
            holepunch: false,
            pex: false,
            dht: false,
            peer_ip: None,
            timeouts: Timeouts::default(),
        }
    }
}

/// Pieces that a peer has, as it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PieceSet {
    /// Every piece.
    All,
    /// No piece.
    None,
    /// These, and no others.
    Bits(Bitfield),
    /// One more.
    One(PieceIndex),
}

/// What the driver or the [`Download`](crate::download::Download) wants done.
///
/// A command that makes no sense (any more) is ignored: whoever gives it may lag behind the peer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Command {
    /// The torrent's size is known. What the peer said of its pieces before comes as
    /// [`SessionEvent::PeerHas`] now. Only the first counts.
    SetGeometry(Geometry),
    /// We can serve the info dictionary, which has that many bytes: tells the peer so.
    SetMetadataSize(u32),
    /// The pieces we have. The first is sent as one message, later ones as the pieces gained.
    Bitfield(Bitfield),
    /// We have one more piece.
    Have(PieceIndex),
    /// We no longer have the piece; said to peers that speak lt_donthave (BEP 54).
    DontHave(PieceIndex),
    /// Whether we ask for nothing from now on (BEP 21). At first: no.
    UploadOnly(bool),
    /// This piece would be a good one to ask us for (BEP 6).
    Suggest(PieceIndex),
    /// Whether we want pieces of the peer.
    Interested(bool),
    /// Whether the peer's requests are refused.
    Choke(bool),
    /// Ask for a block. What is not agreed to (choked, too many) comes back as
    /// [`SessionEvent::Rejected`].
    Request(BlockRange),
    /// How long the next block may take while some are asked for, where that is longer than
    /// [`Timeouts::request`]: blocks of many peers share a thin line.
    RequestPatience(Duration),
    /// Take a request back. A block that was under way comes all the same.
    Cancel(BlockRange),
    /// Answer to [`SessionEvent::Requested`].
    SendBlock(BlockRange, Bytes),
    /// Answer to [`SessionEvent::Requested`]: we can't.
    RejectRequest(BlockRange),
    /// Ask for a piece of the info dictionary.
    RequestMetadata(u32),
    /// Answer to [`SessionEvent::MetadataRequested`].
    SendMetadata {
        /// Number of the piece.
        piece: u32,
        /// The piece.
        bytes: Bytes,
        /// Bytes of the whole info dictionary.
        total: u32,
    },
    /// Answer to [`SessionEvent::MetadataRequested`]: we can't.
    RejectMetadata(u32),
    /// Ask for hashes of a file's tree.
    RequestHashes(HashRequest),
    /// Answer to [`SessionEvent::HashesRequested`].
    SendHashes(HashRequest, Vec<[u8; 32]>),
    /// Answer to [`SessionEvent::HashesRequested`]: we can't.
    RejectHashes(HashRequest),
    /// Introduce, be introduced, or say why not (BEP 55).
    Holepunch(HolepunchMessage),
    /// Tell the peer of others; ignored if either side does not exchange peers.
    SendPex(PexMessage),
    /// Tell the peer at which UDP port our node of the DHT is (BEP 5); ignored if either side has
    /// none.
    DhtPort(u16),
    /// End the connection.
    Close(CloseReason),
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionEvent {
    /// Both handshakes are through.
    Established {
        /// What the peer calls itself.
        peer_id: PeerId,
        /// The swarm that both sides agreed upon.
        swarm_id: SwarmId,
        /// What the peer can do.
        reserved: ReservedBits,
    },
    /// The peer said more of itself (BEP 10); may come again.
    ExtendedHandshake(ExtendedHandshake),
    /// Pieces the peer has.
    PeerHas(PieceSet),
    /// The peer lost a piece that it had (BEP 54).
    PeerLacks(PieceIndex),
    /// The peer would like to be asked for this piece (BEP 6).
    Suggested(PieceIndex),
    /// The peer may be asked for this piece though it chokes us (BEP 6).
    AllowedFast(PieceIndex),
    /// Whether the peer refuses our requests. On `true` every request it doesn't reject itself
    /// follows as [`Rejected`](Self::Rejected).
    Choked(bool),
    /// Whether the peer wants pieces of us.
    PeerInterested(bool),
    /// The peer asks for a block that exists, and is not choked.
    Requested(BlockRange),
    /// A request that was passed on is off, by the peer or by our choke, and nothing of its block
    /// was sent; an answer that still comes is dropped.
    Cancelled(BlockRange),
    /// A block that was asked for.
    Block(Block),
    /// A request will not be answered.
    Rejected(BlockRange),
    /// A request was not answered in time. If the block still comes it is passed on.
    TimedOut(BlockRange),
    /// The peer asks for a piece of the info dictionary.
    MetadataRequested(u32),
    /// A piece of the info dictionary that was asked for.
    MetadataPiece {
        /// Number of the piece.
        piece: u32,
        /// Bytes of the whole info dictionary.
        total: u32,
        /// The piece.
        bytes: Bytes,
    },
    /// The peer won't send that piece of the info dictionary.
    MetadataRejected(u32),
    /// The peer tells of others (BEP 11).
    Pex(PexMessage),
    /// The peer asks for hashes.
    HashesRequested(HashRequest),
    /// Hashes that were asked for, as many as were asked for, not yet checked.
    Hashes {
        /// What was asked for.
        request: HashRequest,
        /// The layer's hashes, then the uncles.
        hashes: Vec<[u8; 32]>,
    },
    /// The peer won't send those hashes.
    HashesRejected(HashRequest),
    /// The peer asks for an introduction, makes one, or refuses it (BEP 55).
    Holepunch(HolepunchMessage),
    /// The peer has a node of the DHT at this UDP port of its address, never 0 (BEP 5).
    DhtPort(u16),
    /// The connection ended; nothing follows.
    Closed(CloseReason),
}
