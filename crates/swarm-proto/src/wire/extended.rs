//! The extension protocol (BEP 10) and ut_metadata (BEP 9).

use std::net::IpAddr;

use bytes::Bytes;

use crate::bencode::{self, BencodeError, Item, Rules};
use crate::limits;

/// Our number for ut_metadata, which peers put on the messages they send us.
pub const UT_METADATA_ID: u8 = 2;

/// Bytes of one piece of metadata (BEP 9); only the last may be shorter.
pub const METADATA_PIECE_LEN: u32 = 16 * 1024;

/// Payload of an extension that is none. The peer's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExtendedError {
    /// Not bencode.
    #[error("extension message is not bencode")]
    Bencode(#[from] BencodeError),
    /// Not a dictionary, or it lacks what it must have, or that is out of bounds.
    #[error("extension message without a valid {0}")]
    Field(&'static str),
}

/// What a peer says of itself once the extension protocol is agreed upon (BEP 10).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExtendedHandshake {
    /// The peer's number for ut_metadata; `None`: it doesn't speak it, or no more.
    pub ut_metadata: Option<u8>,
    /// The peer's number for ut_holepunch (BEP 55).
    pub ut_holepunch: Option<u8>,
    /// The peer's number for lt_donthave (BEP 54).
    pub lt_donthave: Option<u8>,
    /// The peer's number for ut_pex (BEP 11); `None`: it doesn't speak it, or no more.
    pub ut_pex: Option<u8>,
    /// Bytes of the info dictionary that the peer can serve (BEP 9).
    pub metadata_size: Option<u32>,
    /// TCP port at which the peer listens.
    pub listen_port: Option<u16>,
    /// Name and version of the client, cut to 64 characters.
    pub client: Option<String>,
    /// Requests that the peer queues before it drops some.
    pub request_queue: Option<u32>,
    /// The receiver's address, as the sender sees it.
    pub your_ip: Option<IpAddr>,
    /// The peer asks for nothing, all or part of the torrent being there (BEP 21).
    pub upload_only: bool,
}

impl ExtendedHandshake {
    /// Writes the payload of extended message 0.
    pub fn encode(&self) -> Vec<u8> {
        let mut names: Vec<(&str, Item)> = Vec::new();
        if let Some(id) = self.ut_metadata {
            names.push(("ut_metadata", Item::int(id.into())));
        }
        if let Some(id) = self.ut_holepunch {
            names.push(("ut_holepunch", Item::int(id.into())));
        }
        if let Some(id) = self.lt_donthave {
            names.push(("lt_donthave", Item::int(id.into())));
        }
        if let Some(id) = self.ut_pex {
            names.push(("ut_pex", Item::int(id.into())));
        }
        let mut fields = vec![("m", Item::dict(names))];
        if let Some(size) = self.metadata_size {
            fields.push(("metadata_size", Item::int(size.into())));
        }
        if let Some(port) = self.listen_port {
            fields.push(("p", Item::int(port.into())));
        }
        if let Some(client) = &self.client {
            fields.push(("v", Item::bytes(client)));
        }
        if let Some(queue) = self.request_queue {
            fields.push(("reqq", Item::int(queue.into())));
        }
        match self.your_ip {
            Some(IpAddr::V4(ip)) => fields.push(("yourip", Item::bytes(ip.octets()))),
            Some(IpAddr::V6(ip)) => fields.push(("yourip", Item::bytes(ip.octets()))),
            None => {}
        }
        if self.upload_only {
            fields.push(("upload_only", Item::int(1)));
        }
        Item::dict(fields).to_bytes()
    }

    /// Reads the payload of extended message 0.
    ///
    /// As libtorrent, ignores a field of a wrong type or out of bounds: each is only a hint.
    ///
    /// # Errors
    /// [`ExtendedError`]: no bencoded dictionary.
    pub fn decode(payload: &[u8]) -> Result<Self, ExtendedError> {
        Self::decode_after(&Self::default(), payload)
    }

    /// Reads one that follows `before` on the same connection: what it does not name stays as it
    /// was (BEP 10: `m` is additive, and 0 takes an extension back), but for `upload_only`, which
    /// is taken back by leaving it out.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    pub fn decode_after(before: &Self, payload: &[u8]) -> Result<Self, ExtendedError> {
        // Some clients append bytes, which BEP 10 doesn't forbid.
        let (value, _) = bencode::decode_prefix(payload, &Rules::NETWORK)?;
        let dict = value.as_dict().ok_or(ExtendedError::Field("dictionary"))?;
        let int = |key: &[u8]| dict.get(key).and_then(|value| value.as_int());
        let names = dict.get(b"m").and_then(|value| value.as_dict());
        let extension = |name: &[u8], before: Option<u8>| {
            let named = names.and_then(|names| names.get(name)?.as_int());
            match named.and_then(|id| u8::try_from(id).ok()) {
                Some(0) => None,
                Some(id) => Some(id),
                None => before,
            }
        };
        Ok(Self {
            ut_metadata: extension(b"ut_metadata", before.ut_metadata),
            ut_holepunch: extension(b"ut_holepunch", before.ut_holepunch),
            lt_donthave: extension(b"lt_donthave", before.lt_donthave),
            ut_pex: extension(b"ut_pex", before.ut_pex),
            metadata_size: int(b"metadata_size")
                .and_then(|size| u32::try_from(size).ok())
                .filter(|size| (1..=limits::INFO_LEN_MAX).contains(&(*size as usize)))
                .or(before.metadata_size),
            listen_port: int(b"p")
                .and_then(|p| u16::try_from(p).ok())
                .filter(|p| *p != 0)
                .or(before.listen_port),
            client: dict
                .get(b"v")
                .and_then(|value| value.as_bytes())
                .map(|name| {
                    let name = String::from_utf8_lossy(name);
                    name.chars().filter(|c| !c.is_control()).take(64).collect()
                })
                .or_else(|| before.client.clone()),
            request_queue: int(b"reqq")
                .and_then(|n| u32::try_from(n).ok())
                .filter(|n| *n > 0)
                .or(before.request_queue),
            your_ip: dict
                .get(b"yourip")
                .and_then(|value| value.as_bytes())
                .and_then(|ip| match ip.len() {
                    4 => <[u8; 4]>::try_from(ip).ok().map(IpAddr::from),
                    _ => <[u8; 16]>::try_from(ip).ok().map(IpAddr::from),
                })
                .or(before.your_ip),
            upload_only: int(b"upload_only").is_some_and(|flag| flag != 0),
        })
    }
}

/// A message of ut_metadata (BEP 9).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum MetadataMessage {
    /// Asks for a piece of the info dictionary.
    Request {
        /// Number of the piece.
        piece: u32,
    },
    /// A piece of the info dictionary.
    Data {
        /// Number of the piece.
        piece: u32,
        /// Bytes of the whole info dictionary.
        total: u32,
        /// The piece.
        bytes: Bytes,
    },
    /// The sender doesn't have the info dictionary, or was asked too often.
    Reject {
        /// Number of the piece.
        piece: u32,
    },
    /// A type that BEP 9 doesn't name and asks to ignore.
    Unknown,
}

impl MetadataMessage {
    /// Writes the payload of the extended message.
    pub fn encode(&self) -> Vec<u8> {
        let head = |kind: i64, piece: u32, total: Option<u32>| {
            let mut fields = vec![
                ("msg_type", Item::int(kind)),
                ("piece", Item::int(piece.into())),
            ];
            if let Some(total) = total {
                fields.push(("total_size", Item::int(total.into())));
            }
            Item::dict(fields).to_bytes()
        };
        match self {
            MetadataMessage::Request { piece } => head(0, *piece, None),
            MetadataMessage::Data {
                piece,
                total,
                bytes,
            } => {
                let mut payload = head(1, *piece, Some(*total));
                payload.extend_from_slice(bytes);
                payload
            }
            MetadataMessage::Reject { piece } => head(2, *piece, None),
            MetadataMessage::Unknown => head(255, 0, None),
        }
    }

    /// Reads the payload of the extended message.
    ///
    /// # Errors
    /// [`ExtendedError`]: no bencoded dictionary, or one without `msg_type` and `piece`, or sizes
    /// that BEP 9 or [`limits::INFO_LEN_MAX`] don't allow.
    pub fn decode(payload: &Bytes) -> Result<Self, ExtendedError> {
        let (value, rest) = bencode::decode_prefix(payload, &Rules::NETWORK)?;
        let dict = value.as_dict().ok_or(ExtendedError::Field("dictionary"))?;
        let int = |key: &'static [u8], name| {
            dict.get(key)
                .and_then(|value| value.as_int())
                .ok_or(ExtendedError::Field(name))
        };
        let kind = int(b"msg_type", "msg_type")?;
        if !(0..=2).contains(&kind) {
            return Ok(MetadataMessage::Unknown);
        }
        let pieces_max = limits::INFO_LEN_MAX.div_ceil(METADATA_PIECE_LEN as usize);
        let piece = u32::try_from(int(b"piece", "piece")?)
            .ok()
            .filter(|piece| (*piece as usize) < pieces_max)
            .ok_or(ExtendedError::Field("piece"))?;
        match kind {
            0 => Ok(MetadataMessage::Request { piece }),
            1 => {
                let total = u32::try_from(int(b"total_size", "total_size")?)
                    .ok()
                    .filter(|total| (1..=limits::INFO_LEN_MAX).contains(&(*total as usize)))
                    .ok_or(ExtendedError::Field("total_size"))?;
                let begin = piece * METADATA_PIECE_LEN;
                let expected = total.saturating_sub(begin).min(METADATA_PIECE_LEN);
                if expected == 0 || rest.len() != expected as usize {
                    return Err(ExtendedError::Field("piece of that length"));
                }
                Ok(MetadataMessage::Data {
                    piece,
                    total,
                    bytes: payload.slice_ref(rest),
                })
            }
            _ => Ok(MetadataMessage::Reject { piece }),
        }
    }
}

#[cfg(test)]
mod tests;
