//! Room for what a peer sends.
//!
//! Blocks are handed on as slices of the buffer they were read into, so a buffer is free again only
//! when its last block was looked at. Meanwhile another one is read into.

use std::sync::Arc;

use bytes::BytesMut;

use crate::memory::{LinkMemory, LinkShare};

/// Bytes read at once: at least this much room is made, which an idle peer costs, and up to the
/// second figure for peers that fill it.
const READ_MIN: usize = 4 * 1024;
const READ_MAX: usize = 128 * 1024;

/// Buffers of a busy peer besides the one that is read into.
const USED_MAX: usize = 2;

/// What the buffers of a busy peer have together.
const BUSY_LEN: u64 = ((1 + USED_MAX) * READ_MAX) as u64;

/// The buffers of one link.
pub(super) struct Room {
    read_len: usize,
    used: Vec<BytesMut>,
    memory: Arc<LinkMemory>,
    /// What a busy peer has beyond the least.
    share: Option<LinkShare>,
}

impl Room {
    pub(super) fn new(memory: Arc<LinkMemory>) -> Self {
        Self {
            read_len: READ_MIN,
            used: Vec::new(),
            memory,
            share: None,
        }
    }

    /// Makes room for one read. What a peer needed that has become idle is given back.
    pub(super) fn make(&mut self, input: &mut BytesMut) {
        if self.read_len == READ_MIN {
            self.used.clear();
            self.share = None;
            if input.is_empty() && input.capacity() > 4 * READ_MIN {
                *input = BytesMut::new();
            }
            return input.reserve(READ_MIN);
        }
        let room = self.read_len;
        if input.try_reclaim(room) {
            return;
        }
        let needed = input.len() + room;
        let free = self.used.iter_mut().position(|b| b.try_reclaim(needed));
        let mut next = match free {
            Some(at) => self.used.swap_remove(at),
            None => BytesMut::with_capacity(needed.max(READ_MAX)),
        };
        next.extend_from_slice(input);
        let mut before = std::mem::replace(input, next);
        before.clear();
        if self.used.len() < USED_MAX {
            self.used.push(before);
        }
    }

    /// One read brought that many bytes.
    pub(super) fn filled(&mut self, len: usize) {
        self.read_len = match len {
            len if len >= self.read_len => (self.read_len * 2).min(READ_MAX),
            len if len < self.read_len / 4 => (self.read_len / 2).max(READ_MIN),
            _ => self.read_len,
        };
        if self.read_len > READ_MIN && self.share.is_none() {
            self.share = self.memory.try_take(BUSY_LEN);
            if self.share.is_none() {
                self.read_len = READ_MIN;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Memory;

    #[test]
    fn buffers_are_used_again_once_their_blocks_are_gone() {
        let mut room = Room::new(Arc::clone(Memory::new(1 << 20).links()));
        let mut input = BytesMut::new();
        let mut seen = std::collections::BTreeSet::new();
        let mut blocks = std::collections::VecDeque::new();
        for turn in 0..1000 {
            room.make(&mut input);
            let len = input.capacity() - input.len();
            assert!(len >= READ_MIN);
            let len = len.min(READ_MAX);
            if turn > 20 {
                seen.insert(input.as_ptr() as usize & !0xfff);
            }
            input.resize(input.len() + len, turn as u8);
            room.filled(len);
            // A partial block stays behind, whatever is read.
            let whole = input.len() - 1000;
            let block = input.split_to(whole).freeze();
            assert!(block.last() == Some(&(turn as u8)));
            blocks.push_back(block);
            if blocks.len() > 2 {
                blocks.pop_front();
            }
        }
        assert!(seen.len() < 20, "{} places in memory", seen.len());
    }

    #[test]
    fn a_peer_that_became_idle_costs_little() {
        let mut room = Room::new(Arc::clone(Memory::new(1 << 20).links()));
        let mut input = BytesMut::new();
        for _ in 0..10 {
            room.make(&mut input);
            let len = input.capacity();
            input.resize(len, 0);
            room.filled(len);
            input.clear();
        }
        assert!(input.capacity() >= READ_MAX);
        for _ in 0..10 {
            room.make(&mut input);
            room.filled(5);
        }
        room.make(&mut input);
        assert!(input.capacity() <= 2 * READ_MIN && room.used.is_empty());
    }

    #[test]
    fn f15_where_memory_is_short_a_peer_reads_no_more_at_once_than_an_idle_one() {
        let memory = Memory::new(2 * BUSY_LEN);
        let mut rooms = [0, 1].map(|_| Room::new(Arc::clone(memory.links())));
        let mut inputs = [BytesMut::new(), BytesMut::new()];
        for _ in 0..10 {
            for (room, input) in rooms.iter_mut().zip(&mut inputs) {
                room.make(input);
                let len = input.capacity().min(READ_MAX);
                room.filled(len);
            }
        }
        assert!(inputs[0].capacity() >= READ_MAX && inputs[1].capacity() <= 2 * READ_MIN);
        drop(rooms);
        assert_eq!(memory.report().links, 0);
    }
}
