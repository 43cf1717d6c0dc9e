//! Length-prefixed frames: bytes as they come from a socket, cut into messages.

use bytes::{Buf, BytesMut};

use super::core::Message;
use crate::limits;

/// Bytes that are no message. The peer's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// A length prefix above [`limits::FRAME_LEN_MAX`], or what this torrent's messages need.
    #[error("frame of {len} bytes is too long")]
    TooLong {
        /// Bytes that the prefix announced.
        len: u32,
    },
    /// A payload of a length that the message can't have.
    #[error("message {id} can't carry {len} bytes")]
    Payload {
        /// Message id.
        id: u8,
        /// Bytes of payload.
        len: usize,
    },
}

/// Cuts a stream of bytes into messages.
///
/// The driver reads from the socket into [`buffer`](Self::buffer), so that a block is not copied
/// on its way: what [`Message::Piece`] carries is a slice of that buffer.
#[derive(Debug)]
pub struct FrameDecoder {
    buffer: BytesMut,
    len_max: usize,
}

impl Default for FrameDecoder {
    fn default() -> Self {
        Self {
            buffer: BytesMut::new(),
            len_max: limits::FRAME_LEN_MAX,
        }
    }
}

impl FrameDecoder {
    /// Starts at the border of a frame.
    pub fn new() -> Self {
        Self::default()
    }

    /// The torrent has so many pieces: from now on no frame is waited for that is longer than its
    /// bitfield and than [`limits::MESSAGE_LEN_MAX`].
    pub fn expect_pieces(&mut self, count: u32) {
        let bitfield = 1 + count.div_ceil(8) as usize;
        self.len_max = limits::MESSAGE_LEN_MAX.max(bitfield);
    }

    /// Where bytes of the stream are to be appended.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Takes the next message out; `None` until more bytes come.
    ///
    /// # Errors
    /// [`FrameError`]: the stream is broken there, and stays so.
    pub fn next_message(&mut self) -> Result<Option<Message>, FrameError> {
        let Some(prefix) = self.buffer.first_chunk::<4>() else {
            return Ok(None);
        };
        let prefix = u32::from_be_bytes(*prefix);
        let len = match usize::try_from(prefix) {
            Ok(len) if len <= self.len_max => len,
            _ => return Err(FrameError::TooLong { len: prefix }),
        };
        if self.buffer.len() < 4 + len {
            return Ok(None);
        }
        self.buffer.advance(4);
        Message::decode(self.buffer.split_to(len).freeze()).map(Some)
    }
}

#[cfg(test)]
mod tests;
