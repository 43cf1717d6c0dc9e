//! Why a connection ends, and whose fault that is.

use std::io;

use crate::bitfield::BitfieldError;
use crate::geometry::OutOfRange;
use crate::wire::extended::ExtendedError;
use crate::wire::holepunch::HolepunchError;
use crate::wire::lt_donthave::DontHaveError;
use crate::wire::{FrameError, HandshakeError};

/// Why a connection ended, or is to end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// Another protocol than BitTorrent, or an encrypted handshake. Clients that try encryption
    /// first come back in plain.
    #[error("no handshake")]
    Handshake(#[source] HandshakeError),
    /// The handshake names a swarm we are not in. Nobody's fault.
    #[error("swarm unknown here")]
    UnknownSwarm,
    /// We called ourselves. Nobody's fault.
    #[error("connected to ourselves")]
    Ourselves,
    /// The peer is connected already. Nobody's fault.
    #[error("connected already")]
    Duplicate,
    /// Bytes that are no message. The peer's fault.
    #[error("malformed message")]
    Malformed(#[source] FrameError),
    /// A good message at the wrong moment, or past a limit. The peer's fault.
    #[error("peer broke the protocol")]
    Misbehaved(#[source] Misbehaviour),
    /// No whole handshake in time.
    #[error("no handshake in time")]
    HandshakeTimeout,
    /// Nothing came for too long, not even a keep-alive.
    #[error("peer fell silent")]
    Idle,
    /// The peer closed the connection.
    #[error("closed by peer")]
    Eof,
    /// The socket failed. Says nothing about the peer's honesty.
    #[error("connection lost: {0}")]
    Io(io::ErrorKind),
    /// The peer was found to lie earlier.
    #[error("peer is banned")]
    Banned,
    /// Neither side can want anything of the other.
    #[error("neither side wants anything")]
    Useless,
    /// There are enough peers.
    #[error("too many peers")]
    TooManyPeers,
    /// We stop.
    #[error("shutting down")]
    Shutdown,
}

impl CloseReason {
    /// Whether the peer broke a rule, so that it should not be called again soon.
    pub fn is_peers_fault(&self) -> bool {
        matches!(
            self,
            Self::Malformed(_) | Self::Misbehaved(_) | Self::Banned
        )
    }
}

impl From<io::Error> for CloseReason {
    fn from(error: io::Error) -> Self {
        Self::Io(error.kind())
    }
}

/// A rule that a peer broke.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Misbehaviour {
    /// A message of the fast extension, which was not agreed upon (BEP 6).
    #[error("message of the fast extension, which was not agreed upon")]
    FastNotAgreed,
    /// An extended message, though the extension protocol was not agreed upon (BEP 10).
    #[error("extended message, though the extension protocol was not agreed upon")]
    ExtendedNotAgreed,
    /// An extended message with an id that we never gave out.
    #[error("extended message with id {0}, which was never given out")]
    UnknownExtension(u8),
    /// An extended message that can't be read.
    #[error("bad extended message")]
    Extended(#[source] ExtendedError),
    /// A hole punch message that can't be read.
    #[error("bad hole punch message")]
    Holepunch(#[source] HolepunchError),
    /// A lost piece that can't be read.
    #[error("bad lt_donthave message")]
    DontHave(#[source] DontHaveError),
    /// A bitfield that doesn't fit the torrent.
    #[error("bad bitfield")]
    Bitfield(#[source] BitfieldError),
    /// Pieces were named before the torrent's size was known here, and more than any has.
    #[error("too many pieces")]
    TooManyPieces,
    /// A piece that doesn't exist.
    #[error("no piece {0}")]
    NoSuchPiece(u32),
    /// A block or request outside the torrent.
    #[error("bytes outside the torrent")]
    OutOfRange(#[source] OutOfRange),
    /// Many blocks that were not asked for.
    #[error("blocks that were not asked for")]
    UnrequestedBlocks,
    /// Many requests while choked.
    #[error("too many requests while choked")]
    RequestsWhileChoked,
    /// Many requests past the queue that we announced.
    #[error("too many requests")]
    TooManyRequests,
    /// Many messages that change nothing.
    #[error("flood of useless messages")]
    Flood,
    /// Doesn't read what it asked for.
    #[error("asks much and reads nothing")]
    NotReading,
    /// Hash messages in a torrent without a v2 half, or past all bounds (BEP 52).
    #[error("bad hash request")]
    HashRequest,
    /// Hashes that were not asked for, or not as many as were asked for.
    #[error("hashes that were not asked for")]
    UnrequestedHashes,
    /// Hashes that don't lead to the file's root.
    #[error("false hashes")]
    FalseHashes,
    /// Metadata that was not asked for.
    #[error("metadata that was not asked for")]
    UnrequestedMetadata,
    /// Metadata that isn't what the info hash names.
    #[error("false metadata")]
    FalseMetadata,
    /// A block of this piece was not what the torrent says.
    #[error("false block in piece {0}")]
    FalseBlock(u32),
}
