//! Pieces under way: blocks come from many peers and make one piece.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use bytes::{Bytes, BytesMut};

use crate::geometry::{BLOCK_LEN, BlockRange, Geometry, PieceIndex};
use crate::session::{Block, ConnectionId};
use crate::verify::{PieceLeaves, VerifiedBlock, VerifyFault, verify_block};

/// Peers that one block is asked of at a time.
const ASKERS_MAX: usize = 2;

/// Where a block stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BlockState {
    Unasked,
    Asked {
        of: [Option<ConnectionId>; ASKERS_MAX],
        since: Instant,
    },
    /// Came from that peer; from nobody if it is padding.
    Here(Option<ConnectionId>),
    /// Came from that peer, and is true.
    Proven(Option<ConnectionId>),
}

/// One piece under way.
#[derive(Debug)]
struct Partial {
    /// The piece's bytes, made when the first block comes.
    buffer: BytesMut,
    blocks: Vec<BlockState>,
    /// Bytes of each block that are not padding at its end: what is asked for. The rest are zeros.
    lens: Vec<u32>,
    unasked: usize,
    missing: usize,
    /// The peer that was asked for the first block.
    starter: ConnectionId,
    /// Only this peer is asked: one of the senders of an earlier try lied, and a piece from a
    /// single peer tells who.
    owner: Option<ConnectionId>,
}

/// Who sent each block of a piece; nobody for padding.
pub(super) type Senders = Vec<Option<ConnectionId>>;

/// What a block completes.
#[derive(Debug)]
pub(super) enum Placed {
    /// The piece lacks more.
    Kept,
    /// The block was there already, or the piece is not under way.
    Useless,
    /// The whole piece.
    Piece(Bytes, Senders),
}

/// Puts blocks together.
#[derive(Debug, Default)]
pub(super) struct BlockAssembler {
    partials: BTreeMap<PieceIndex, Partial>,
    /// Pieces with blocks that nobody was asked for.
    open: BTreeSet<PieceIndex>,
    bytes: u64,
    /// Empty buffers of pieces that are done with.
    spare: Vec<BytesMut>,
}

impl Partial {
    /// Copies a block to its place. Blocks mostly come in order, and are appended then.
    fn copy_in(&mut self, range: BlockRange, bytes: &[u8]) {
        let (begin, end) = (range.begin() as usize, range.end() as usize);
        if begin == self.buffer.len() {
            return self.buffer.extend_from_slice(bytes);
        }
        if self.buffer.len() < end {
            self.buffer.resize(end, 0);
        }
        if let Some(place) = self.buffer.get_mut(begin..end) {
            place.copy_from_slice(bytes);
        }
    }

    /// The first block for which `fits` holds, from `first` on and around the end.
    fn find(&self, first: usize, fits: impl Fn(&BlockState) -> bool) -> Option<usize> {
        let blocks = || self.blocks.iter().enumerate();
        let from = blocks().skip(first).find(|(_, state)| fits(state));
        let found = from.or_else(|| blocks().take(first).find(|(_, state)| fits(state)));
        found.map(|(at, _)| at)
    }

    /// What is asked of the block at `at`.
    fn range(&self, geometry: &Geometry, piece: PieceIndex, at: usize) -> Option<BlockRange> {
        let begin = u32::try_from(at).ok()?.checked_mul(BLOCK_LEN)?;
        let len = *self.lens.get(at)?;
        geometry.block(piece.get(), begin, len).ok()
    }
}

impl BlockAssembler {
    /// Bytes of the pieces under way.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn contains(&self, piece: PieceIndex) -> bool {
        self.partials.contains_key(&piece)
    }

    /// Whether some block of some piece was asked of nobody.
    pub(super) fn has_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// Pieces with blocks that nobody was asked for.
    pub(super) fn open(&self) -> impl Iterator<Item = PieceIndex> + '_ {
        self.open.iter().copied()
    }

    /// Pieces under way.
    pub(super) fn pieces(&self) -> impl Iterator<Item = PieceIndex> + '_ {
        self.partials.keys().copied()
    }

    /// How many blocks of the piece are here.
    pub(super) fn blocks_here(&self, piece: PieceIndex) -> usize {
        let blocks = self.partials.get(&piece).map(|partial| &partial.blocks);
        let here = |state: &&BlockState| matches!(state, BlockState::Here(_));
        blocks.map_or(0, |blocks| blocks.iter().filter(here).count())
    }

    /// The peer that was the first to be asked for a block of the piece.
    pub(super) fn starter(&self, piece: PieceIndex) -> Option<ConnectionId> {
        self.partials.get(&piece).map(|partial| partial.starter)
    }

    /// Begins a piece with that peer, as its only one if `alone`. Of each block so many bytes are
    /// asked for as `content` says, from its first on: the rest is padding, zeros. Gives the piece
    /// back at once if it is padding altogether.
    pub(super) fn start(
        &mut self,
        geometry: &Geometry,
        piece: PieceIndex,
        starter: ConnectionId,
        alone: bool,
        content: impl Fn(&BlockRange) -> u32,
    ) -> Option<(Bytes, Senders)> {
        let lens: Vec<_> = geometry
            .blocks(piece)
            .map(|range| content(&range))
            .collect();
        let blocks: Vec<_> = lens
            .iter()
            .map(|len| match len {
                0 => BlockState::Here(None),
                _ => BlockState::Unasked,
            })
            .collect();
        let unasked = blocks
            .iter()
            .filter(|state| **state == BlockState::Unasked)
            .count();
        let len = geometry.piece_len(piece);
        if unasked == 0 {
            return Some((
                BytesMut::zeroed(len as usize).freeze(),
                vec![None; blocks.len()],
            ));
        }
        let partial = Partial {
            buffer: BytesMut::new(),
            blocks,
            lens,
            unasked,
            missing: unasked,
            starter,
            owner: alone.then_some(starter),
        };
        if self.partials.insert(piece, partial).is_none() {
            self.bytes += u64::from(len);
        }
        self.open.insert(piece);
        None
    }

    /// Takes back the bytes of a piece that is done with, if nobody else looks at them: they are
    /// kept for pieces to come, as long as all that is kept has no more than `room` bytes.
    pub(super) fn recycle(&mut self, bytes: Bytes, room: u64) {
        if self.partials.is_empty() {
            return self.spare.clear();
        }
        let kept: usize = self.spare.iter().map(BytesMut::capacity).sum();
        let kept = (kept + bytes.len()) as u64;
        if kept + self.bytes <= room
            && let Ok(mut buffer) = bytes.try_into_mut()
        {
            buffer.clear();
            self.spare.push(buffer);
        }
    }

    /// Throws empty buffers away until all that is kept has no more than `room` bytes.
    pub(super) fn trim(&mut self, room: u64) {
        let mut kept: u64 = self.spare.iter().map(|b| b.capacity() as u64).sum();
        while kept + self.bytes > room
            && let Some(buffer) = self.spare.pop()
        {
            kept -= buffer.capacity() as u64;
        }
    }

    /// Gives a piece up; its blocks are forgotten.
    pub(super) fn abandon(&mut self, geometry: &Geometry, piece: PieceIndex) {
        if self.partials.remove(&piece).is_some() {
            self.bytes -= u64::from(geometry.piece_len(piece));
            self.open.remove(&piece);
        }
    }

    /// Whether the piece is under way, and no block of it is here or asked for.
    pub(super) fn is_untouched(&self, piece: PieceIndex) -> bool {
        let untouched =
            |state: &BlockState| matches!(state, BlockState::Unasked | BlockState::Here(None));
        let partial = self.partials.get(&piece);
        partial.is_some_and(|partial| partial.blocks.iter().all(untouched))
    }

    /// The only peer that is to be asked for the piece, if there is one.
    pub(super) fn owner(&self, piece: PieceIndex) -> Option<ConnectionId> {
        self.partials.get(&piece)?.owner
    }

    /// The pieces that only this peer is to be asked for.
    pub(super) fn owned_by(&self, conn: ConnectionId) -> Vec<PieceIndex> {
        let owned = |entry: &(&PieceIndex, &Partial)| entry.1.owner == Some(conn);
        self.partials
            .iter()
            .filter(owned)
            .map(|(piece, _)| *piece)
            .collect()
    }

    /// Throws away what this peer sent and is not proven; the blocks are to be asked for again.
    pub(super) fn forget(&mut self, conn: ConnectionId) {
        for (piece, partial) in &mut self.partials {
            for state in &mut partial.blocks {
                if *state == BlockState::Here(Some(conn)) {
                    *state = BlockState::Unasked;
                    partial.unasked += 1;
                    partial.missing += 1;
                    self.open.insert(*piece);
                }
            }
        }
    }

    /// A block of the piece that nobody was asked for: the first from the block `first` on, around
    /// the end.
    pub(super) fn unasked(
        &self,
        geometry: &Geometry,
        piece: PieceIndex,
        first: usize,
    ) -> Option<BlockRange> {
        let partial = self.partials.get(&piece)?;
        let at = partial.find(first, |state| *state == BlockState::Unasked)?;
        partial.range(geometry, piece, at)
    }

    /// A block of the piece that one other peer was asked for, and for which `slow` holds, given
    /// that peer and the time since when: the first from the block `first` on, around the end.
    pub(super) fn asked_once(
        &self,
        geometry: &Geometry,
        (piece, first): (PieceIndex, usize),
        conn: ConnectionId,
        slow: impl Fn(ConnectionId, Instant) -> bool,
    ) -> Option<BlockRange> {
        let partial = self
            .partials
            .get(&piece)
            .filter(|partial| partial.owner.is_none())?;
        let at = partial.find(first, |state| match state {
            BlockState::Asked {
                of: [Some(other), None],
                since,
            } => *other != conn && slow(*other, *since),
            _ => false,
        })?;
        partial.range(geometry, piece, at)
    }

    /// The peer is asked for the block.
    pub(super) fn asked(&mut self, range: BlockRange, conn: ConnectionId, now: Instant) {
        let Some(partial) = self.partials.get_mut(&range.piece()) else {
            return;
        };
        let Some(state) = partial.blocks.get_mut((range.begin() / BLOCK_LEN) as usize) else {
            return;
        };
        match state {
            BlockState::Unasked => {
                let mut of = [None; ASKERS_MAX];
                of[0] = Some(conn);
                *state = BlockState::Asked { of, since: now };
                partial.unasked -= 1;
                if partial.unasked == 0 {
                    self.open.remove(&range.piece());
                }
            }
            BlockState::Asked { of, .. } => {
                if let Some(free) = of.iter_mut().find(|slot| slot.is_none()) {
                    *free = Some(conn);
                }
            }
            BlockState::Here(_) | BlockState::Proven(_) => {}
        }
    }

    /// Whether the block is one that the piece is made of, and not here.
    pub(super) fn lacks(&self, range: &BlockRange) -> bool {
        let partial = self.partials.get(&range.piece());
        partial
            .and_then(|partial| partial.blocks.get((range.begin() / BLOCK_LEN) as usize))
            .is_some_and(|state| matches!(state, BlockState::Unasked | BlockState::Asked { .. }))
    }

    /// Blocks of the piece are checked one by one now: any peer may send them.
    pub(super) fn share(&mut self, piece: PieceIndex) {
        if let Some(partial) = self.partials.get_mut(&piece) {
            partial.owner = None;
        }
    }

    /// Puts blocks of an earlier try into a piece that was just begun, those for which `is_true`
    /// holds.
    pub(super) fn keep(
        &mut self,
        piece: PieceIndex,
        bytes: Bytes,
        senders: &Senders,
        is_true: impl Fn(usize) -> bool,
    ) {
        let Some(partial) = self.partials.get_mut(&piece) else {
            return;
        };
        partial.buffer = bytes.into();
        let blocks = partial.blocks.iter_mut().zip(senders).enumerate();
        for (_, (state, sender)) in blocks.filter(|(nth, _)| is_true(*nth)) {
            if *state == BlockState::Unasked {
                *state = BlockState::Here(*sender);
                partial.unasked -= 1;
                partial.missing -= 1;
            }
        }
    }

    /// Holds the blocks that are here against the leaves of their piece: those that are true, and
    /// those that are not, which are to be asked for again, with their senders.
    pub(super) fn prove(
        &mut self,
        geometry: &Geometry,
        leaves: &PieceLeaves,
    ) -> (Vec<VerifiedBlock>, Vec<(BlockRange, ConnectionId)>) {
        let (mut proven, mut lies) = (Vec::new(), Vec::new());
        let piece = leaves.piece();
        let Some(partial) = self.partials.get_mut(&piece) else {
            return (proven, lies);
        };
        for at in 0..partial.blocks.len() {
            let Some(BlockState::Here(Some(sender))) = partial.blocks.get(at).copied() else {
                continue;
            };
            let Some(range) = partial.range(geometry, piece, at) else {
                continue;
            };
            let place = range.begin() as usize..range.end() as usize;
            let bytes = partial.buffer.get(place).unwrap_or_default();
            let state = match verify_block(leaves, range, Bytes::copy_from_slice(bytes)) {
                Ok(block) => {
                    proven.push(block);
                    BlockState::Proven(Some(sender))
                }
                Err(error) if error.fault == VerifyFault::Unknown => continue,
                Err(_) => {
                    lies.push((range, sender));
                    partial.unasked += 1;
                    partial.missing += 1;
                    self.open.insert(piece);
                    BlockState::Unasked
                }
            };
            if let Some(slot) = partial.blocks.get_mut(at) {
                *slot = state;
            }
        }
        (proven, lies)
    }

    /// The blocks of the piece that are here, with their bytes.
    pub(super) fn here(
        &self,
        geometry: &Geometry,
        piece: PieceIndex,
    ) -> impl Iterator<Item = (BlockRange, &[u8])> {
        let partial = self.partials.get(&piece);
        let blocks = partial.map_or(&[][..], |partial| &partial.blocks);
        let is_here = |(_, state): &(usize, &BlockState)| {
            matches!(state, BlockState::Here(Some(_)) | BlockState::Proven(_))
        };
        let here = blocks.iter().enumerate().filter(is_here);
        here.filter_map(move |(at, _)| {
            let range = partial?.range(geometry, piece, at)?;
            let place = range.begin() as usize..range.end() as usize;
            Some((range, partial?.buffer.get(place)?))
        })
    }

    /// The peer will not send the block; whether nobody else is asked for it.
    pub(super) fn released(&mut self, range: BlockRange, conn: ConnectionId) -> bool {
        let Some(partial) = self.partials.get_mut(&range.piece()) else {
            return false;
        };
        let Some(state) = partial.blocks.get_mut((range.begin() / BLOCK_LEN) as usize) else {
            return false;
        };
        let BlockState::Asked { of, .. } = state else {
            return false;
        };
        of.iter_mut()
            .filter(|slot| **slot == Some(conn))
            .for_each(|slot| *slot = None);
        if of[0].is_none() {
            of.swap(0, 1);
        }
        if of[0].is_some() {
            return false;
        }
        *state = BlockState::Unasked;
        partial.unasked += 1;
        self.open.insert(range.piece());
        true
    }

    /// A block came, and whether it is proven. Also gives the other peers that were asked for it.
    pub(super) fn place(
        &mut self,
        geometry: &Geometry,
        (block, proven): (Block, bool),
        conn: ConnectionId,
    ) -> (Placed, Vec<ConnectionId>) {
        let range = block.range();
        let piece = range.piece();
        let Some(partial) = self.partials.get_mut(&piece) else {
            return (Placed::Useless, Vec::new());
        };
        if partial.owner.is_some_and(|owner| owner != conn) {
            return (Placed::Useless, Vec::new());
        }
        let at = (range.begin() / BLOCK_LEN) as usize;
        let aligned = partial.range(geometry, piece, at) == Some(range);
        let state = partial.blocks.get_mut((range.begin() / BLOCK_LEN) as usize);
        let (true, Some(state)) = (aligned, state) else {
            return (Placed::Useless, Vec::new());
        };
        let others = match *state {
            BlockState::Here(_) | BlockState::Proven(_) => return (Placed::Useless, Vec::new()),
            BlockState::Asked { of, .. } => of
                .into_iter()
                .flatten()
                .filter(|other| *other != conn)
                .collect(),
            // It had timed out, and came all the same.
            BlockState::Unasked => {
                partial.unasked -= 1;
                if partial.unasked == 0 {
                    self.open.remove(&piece);
                }
                Vec::new()
            }
        };
        *state = match proven {
            true => BlockState::Proven(Some(conn)),
            false => BlockState::Here(Some(conn)),
        };
        partial.missing -= 1;
        let piece_len = geometry.piece_len(piece);
        let whole = range.len() == piece_len;
        let bytes = block.into_bytes();
        if !whole {
            if partial.buffer.capacity() == 0 {
                let spare = self.spare.pop();
                let spare = spare.filter(|spare| spare.capacity() >= piece_len as usize);
                partial.buffer =
                    spare.unwrap_or_else(|| BytesMut::with_capacity(piece_len as usize));
            }
            partial.copy_in(range, &bytes);
        }
        if partial.missing > 0 {
            return (Placed::Kept, others);
        }
        if !whole {
            // What is left is padding at the end.
            partial.buffer.resize(piece_len as usize, 0);
        }
        let Some(partial) = self.partials.remove(&piece) else {
            return (Placed::Useless, others);
        };
        self.open.remove(&piece);
        self.bytes -= u64::from(piece_len);
        let senders = partial.blocks.iter().map(|state| match state {
            BlockState::Here(sender) | BlockState::Proven(sender) => *sender,
            _ => None,
        });
        // A piece of one block is passed on as it came.
        let whole_bytes = if whole {
            bytes
        } else {
            partial.buffer.freeze()
        };
        (Placed::Piece(whole_bytes, senders.collect()), others)
    }
}
