//! The messages: BEP 3, the fast extension (BEP 6), the extension protocol (BEP 10) and the hash
//! messages (BEP 52).

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::frame::FrameError;
use super::hashes::{HASH_REQUEST_LEN, HashRequest, RawHashes};

/// `index, begin, len` of a `request`, `cancel` or `reject` message; nothing is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawRequest {
    /// Piece.
    pub index: u32,
    /// First byte within the piece.
    pub begin: u32,
    /// Bytes.
    pub len: u32,
}

/// What a `piece` message carries: a block, of a piece that may not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawBlock {
    /// Piece.
    pub index: u32,
    /// First byte within the piece.
    pub begin: u32,
    /// The bytes; a slice of what was read from the socket, not a copy.
    pub bytes: Bytes,
}

/// One message, as it stands on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Message {
    /// A length of zero: says only that the sender lives.
    KeepAlive,
    /// Requests will not be answered from now on.
    Choke,
    /// Requests will be answered from now on.
    Unchoke,
    /// The sender would like to ask for pieces.
    Interested,
    /// The sender wants none of the receiver's pieces.
    NotInterested,
    /// The sender has this piece.
    Have(u32),
    /// The pieces the sender has, one bit each.
    Bitfield(Bytes),
    /// Asks for a block.
    Request(RawRequest),
    /// A block. BEP 3 calls the message `piece`.
    Piece(RawBlock),
    /// Takes a request back.
    Cancel(RawRequest),
    /// UDP port of the sender's DHT node (BEP 5).
    Port(u16),
    /// A piece that would be good to ask for (BEP 6).
    Suggest(u32),
    /// The sender has every piece (BEP 6).
    HaveAll,
    /// The sender has no piece (BEP 6).
    HaveNone,
    /// A request will not be answered (BEP 6).
    Reject(RawRequest),
    /// A piece that may be asked for while choked (BEP 6).
    AllowedFast(u32),
    /// A message of an extension (BEP 10); id 0 is the extended handshake.
    Extended {
        /// The number that the receiver of the message gave the extension.
        id: u8,
        /// Everything after the id.
        payload: Bytes,
    },
    /// Asks for hashes (BEP 52).
    HashRequest(HashRequest),
    /// Hashes (BEP 52).
    Hashes(RawHashes),
    /// A hash request will not be answered (BEP 52).
    HashReject(HashRequest),
    /// A message of no protocol we know; to be ignored.
    Unknown(u8),
}

/// Message ids, BEP 3 to 52.
mod id {
    pub(super) const CHOKE: u8 = 0;
    pub(super) const UNCHOKE: u8 = 1;
    pub(super) const INTERESTED: u8 = 2;
    pub(super) const NOT_INTERESTED: u8 = 3;
    pub(super) const HAVE: u8 = 4;
    pub(super) const BITFIELD: u8 = 5;
    pub(super) const REQUEST: u8 = 6;
    pub(super) const PIECE: u8 = 7;
    pub(super) const CANCEL: u8 = 8;
    pub(super) const PORT: u8 = 9;
    pub(super) const SUGGEST: u8 = 13;
    pub(super) const HAVE_ALL: u8 = 14;
    pub(super) const HAVE_NONE: u8 = 15;
    pub(super) const REJECT: u8 = 16;
    pub(super) const ALLOWED_FAST: u8 = 17;
    pub(super) const EXTENDED: u8 = 20;
    pub(super) const HASH_REQUEST: u8 = 21;
    pub(super) const HASHES: u8 = 22;
    pub(super) const HASH_REJECT: u8 = 23;
}

impl Message {
    /// Reads the inside of a frame, its length prefix taken off.
    ///
    /// # Errors
    /// [`FrameError::Payload`]: the payload's length is not one that the message can have.
    pub fn decode(mut frame: Bytes) -> Result<Self, FrameError> {
        if frame.is_empty() {
            return Ok(Message::KeepAlive);
        }
        let id = frame.get_u8();
        let len = frame.len();
        let expect = |expected: usize| match len == expected {
            true => Ok(()),
            false => Err(FrameError::Payload { id, len }),
        };
        Ok(match id {
            id::CHOKE | id::UNCHOKE | id::INTERESTED | id::NOT_INTERESTED => {
                expect(0)?;
                match id {
                    id::CHOKE => Message::Choke,
                    id::UNCHOKE => Message::Unchoke,
                    id::INTERESTED => Message::Interested,
                    _ => Message::NotInterested,
                }
            }
            id::HAVE_ALL => expect(0).map(|()| Message::HaveAll)?,
            id::HAVE_NONE => expect(0).map(|()| Message::HaveNone)?,
            id::HAVE | id::SUGGEST | id::ALLOWED_FAST => {
                expect(4)?;
                let piece = frame.get_u32();
                match id {
                    id::HAVE => Message::Have(piece),
                    id::SUGGEST => Message::Suggest(piece),
                    _ => Message::AllowedFast(piece),
                }
            }
            id::BITFIELD => Message::Bitfield(frame),
            id::REQUEST | id::CANCEL | id::REJECT => {
                expect(12)?;
                let request = RawRequest {
                    index: frame.get_u32(),
                    begin: frame.get_u32(),
                    len: frame.get_u32(),
                };
                match id {
                    id::REQUEST => Message::Request(request),
                    id::CANCEL => Message::Cancel(request),
                    _ => Message::Reject(request),
                }
            }
            id::PIECE => {
                if len < 8 {
                    return Err(FrameError::Payload { id, len });
                }
                Message::Piece(RawBlock {
                    index: frame.get_u32(),
                    begin: frame.get_u32(),
                    bytes: frame,
                })
            }
            id::PORT => {
                expect(2)?;
                Message::Port(frame.get_u16())
            }
            id::EXTENDED => {
                if len < 1 {
                    return Err(FrameError::Payload { id, len });
                }
                Message::Extended {
                    id: frame.get_u8(),
                    payload: frame,
                }
            }
            id::HASH_REQUEST | id::HASH_REJECT => {
                expect(HASH_REQUEST_LEN)?;
                match HashRequest::decode(&mut frame) {
                    Some(request) if id == id::HASH_REQUEST => Message::HashRequest(request),
                    Some(request) => Message::HashReject(request),
                    None => return Err(FrameError::Payload { id, len }),
                }
            }
            id::HASHES => match HashRequest::decode(&mut frame) {
                Some(request) if frame.len().is_multiple_of(32) => {
                    let (hashes, _) = frame.as_chunks::<32>();
                    Message::Hashes(RawHashes {
                        request,
                        hashes: hashes.to_vec(),
                    })
                }
                _ => return Err(FrameError::Payload { id, len }),
            },
            unknown => Message::Unknown(unknown),
        })
    }

    /// Appends the message with its length prefix.
    ///
    /// A [`Message::Unknown`] has nothing to say and becomes a keep-alive.
    pub fn encode(&self, out: &mut BytesMut) {
        let plain = |out: &mut BytesMut, id: u8| {
            out.put_u32(1);
            out.put_u8(id);
        };
        let number = |out: &mut BytesMut, id: u8, number: u32| {
            out.put_u32(5);
            out.put_u8(id);
            out.put_u32(number);
        };
        let request = |out: &mut BytesMut, id: u8, request: &RawRequest| {
            out.put_u32(13);
            out.put_u8(id);
            out.put_u32(request.index);
            out.put_u32(request.begin);
            out.put_u32(request.len);
        };
        match self {
            Message::KeepAlive | Message::Unknown(_) => out.put_u32(0),
            Message::Choke => plain(out, id::CHOKE),
            Message::Unchoke => plain(out, id::UNCHOKE),
            Message::Interested => plain(out, id::INTERESTED),
            Message::NotInterested => plain(out, id::NOT_INTERESTED),
            Message::HaveAll => plain(out, id::HAVE_ALL),
            Message::HaveNone => plain(out, id::HAVE_NONE),
            Message::Have(piece) => number(out, id::HAVE, *piece),
            Message::Suggest(piece) => number(out, id::SUGGEST, *piece),
            Message::AllowedFast(piece) => number(out, id::ALLOWED_FAST, *piece),
            Message::Request(asked) => request(out, id::REQUEST, asked),
            Message::Cancel(asked) => request(out, id::CANCEL, asked),
            Message::Reject(asked) => request(out, id::REJECT, asked),
            Message::Bitfield(bits) => {
                put_len(out, 1 + bits.len());
                out.put_u8(id::BITFIELD);
                out.put_slice(bits);
            }
            Message::Piece(block) => {
                encode_block_head(out, block.index, block.begin, block.bytes.len());
                out.put_slice(&block.bytes);
            }
            Message::Port(port) => {
                out.put_u32(3);
                out.put_u8(id::PORT);
                out.put_u16(*port);
            }
            Message::Extended { id, payload } => {
                put_len(out, 2 + payload.len());
                out.put_u8(id::EXTENDED);
                out.put_u8(*id);
                out.put_slice(payload);
            }
            Message::HashRequest(asked) | Message::HashReject(asked) => {
                put_len(out, 1 + HASH_REQUEST_LEN);
                out.put_u8(match self {
                    Message::HashRequest(_) => id::HASH_REQUEST,
                    _ => id::HASH_REJECT,
                });
                asked.encode(out);
            }
            Message::Hashes(answer) => {
                put_len(out, 1 + HASH_REQUEST_LEN + 32 * answer.hashes.len());
                out.put_u8(id::HASHES);
                answer.request.encode(out);
                for hash in &answer.hashes {
                    out.put_slice(hash);
                }
            }
        }
    }
}

/// Appends what stands before the bytes of a block, so that these need not be copied.
pub(crate) fn encode_block_head(out: &mut BytesMut, index: u32, begin: u32, len: usize) {
    put_len(out, 9 + len);
    out.put_u8(id::PIECE);
    out.put_u32(index);
    out.put_u32(begin);
}

fn put_len(out: &mut BytesMut, len: usize) {
    debug_assert!(
        len <= crate::limits::FRAME_LEN_MAX,
        "our own messages are bounded"
    );
    out.put_u32(u32::try_from(len).unwrap_or(u32::MAX));
}
