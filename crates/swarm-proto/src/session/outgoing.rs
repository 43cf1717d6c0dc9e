//! What waits to be sent to the peer.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::geometry::{BlockRange, PieceIndex};
use crate::limits;
use crate::wire::Message;
use crate::wire::core::encode_block_head;

/// Messages wait as bytes, blocks as blocks: so a cancelled block is never sent, small messages
/// overtake blocks, and a block's bytes are not copied before the socket's buffer.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    control: BytesMut,
    /// Pieces gained: 4 bytes each while a peer doesn't read, and at most one for each piece.
    haves: VecDeque<PieceIndex>,
    blocks: VecDeque<(BlockRange, Bytes)>,
    /// Bytes of the block whose head was handed out.
    payload: Option<Bytes>,
    /// Blocks handed out since last asked.
    departed: Vec<BlockRange>,
}

impl Outgoing {
    pub(super) fn push(&mut self, message: &Message) {
        message.encode(&mut self.control);
    }

    pub(super) fn push_bytes(&mut self, bytes: &[u8]) {
        self.control.extend_from_slice(bytes);
    }

    pub(super) fn push_have(&mut self, piece: PieceIndex) {
        self.haves.push_back(piece);
    }

    /// Takes back pieces gained that the peer was not told of yet; whether there was one.
    pub(super) fn remove_have(&mut self, piece: PieceIndex) -> bool {
        let before = self.haves.len();
        self.haves.retain(|waiting| *waiting != piece);
        self.haves.len() < before
    }

    pub(super) fn push_block(&mut self, range: BlockRange, bytes: Bytes) {
        self.blocks.push_back((range, bytes));
    }

    /// Takes back a block that is not yet handed out.
    pub(super) fn remove_block(&mut self, range: BlockRange) -> bool {
        match self.blocks.iter().position(|(queued, _)| *queued == range) {
            Some(at) => self.blocks.remove(at).is_some(),
            None => false,
        }
    }

    /// Whether more waits than an honest peer leaves unread.
    pub(super) fn is_over_limit(&self) -> bool {
        self.control.len() > limits::CONTROL_LEN_MAX
    }

    pub(super) fn is_empty(&self) -> bool {
        self.payload.is_none()
            && self.control.is_empty()
            && self.haves.is_empty()
            && self.blocks.is_empty()
    }

    /// The next bytes to send.
    pub(super) fn next(&mut self) -> Option<Bytes> {
        if let Some(payload) = self.payload.take() {
            return Some(payload);
        }
        while self.control.len() < limits::OUTPUT_LEN_MAX
            && let Some(piece) = self.haves.pop_front()
        {
            Message::Have(piece.get()).encode(&mut self.control);
        }
        if let Some((range, bytes)) = self.blocks.pop_front() {
            // Whatever waits in `control` goes first, and the block's head with it.
            encode_block_head(
                &mut self.control,
                range.piece().get(),
                range.begin(),
                bytes.len(),
            );
            self.payload = Some(bytes);
            self.departed.push(range);
        }
        match self.control.is_empty() {
            true => None,
            false => Some(self.control.split().freeze()),
        }
    }

    /// Blocks handed out since the last call.
    pub(super) fn departed(&mut self) -> Vec<BlockRange> {
        std::mem::take(&mut self.departed)
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}
