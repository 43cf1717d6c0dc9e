//! Room for peers: blocks of a fixed size in one allocation, and chains of them.
//!
//! All blocks being alike, no room is lost between them, whatever comes and goes. The allocation
//! grows and shrinks in small steps; one of that size is pages of its own, which go back to the
//! system at once.

use super::age::{Expiry, Units};

/// The allocation grows by one part in so many.
const STEP: usize = 32;

/// Blocks that are always added together, so that a small allocation does not grow all the time.
const BLOCKS_MIN: usize = 64;

/// A peer of a swarm.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<A> {
    pub(super) peer: A,
    pub(super) expires: Expiry,
}

/// Entries at one place in memory. All of a chain's blocks are full but the first.
#[derive(Debug, Clone, Copy)]
struct Block<A, const K: usize> {
    next: Chain,
    /// Entries of the whole chain; kept in its first block only.
    len: u32,
    entries: [Entry<A>; K],
}

/// A chain of blocks, by its first one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chain(u32);

/// Where an entry is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    block: u32,
    slot: u32,
}

/// All blocks of one size.
#[derive(Debug)]
pub(super) struct Blocks<A, const K: usize> {
    blocks: Vec<Block<A, K>>,
    /// Blocks of nobody.
    free: Chain,
    free_count: usize,
}

impl Chain {
    /// Without blocks.
    pub(super) const EMPTY: Self = Self(u32::MAX);
}

impl<A, const K: usize> Default for Blocks<A, K> {
    fn default() -> Self {
        Self {
            blocks: Vec::new(),
            free: Chain::EMPTY,
            free_count: 0,
        }
    }
}

impl<A: Copy + Eq, const K: usize> Blocks<A, K> {
    fn block(&self, chain: Chain) -> Option<&Block<A, K>> {
        self.blocks.get(chain.0 as usize)
    }

    fn block_mut(&mut self, chain: Chain) -> Option<&mut Block<A, K>> {
        self.blocks.get_mut(chain.0 as usize)
    }

    /// How many entries a chain has.
    pub(super) fn len(&self, chain: Chain) -> usize {
        self.block(chain).map_or(0, |block| block.len as usize)
    }

    /// How many entries are in the first block of a chain of so many.
    const fn first_of(len: u32) -> usize {
        (len as usize).wrapping_sub(1) % K + 1
    }

    /// The entries of a chain, block by block.
    fn parts(&self, chain: Chain) -> impl Iterator<Item = (Chain, &[Entry<A>])> + Clone {
        let mut at = chain;
        let mut first = true;
        let next = move || {
            let block = self.block(at)?;
            let filled = if first { Self::first_of(block.len) } else { K };
            first = false;
            let here = std::mem::replace(&mut at, block.next);
            Some((here, block.entries.get(..filled)?))
        };
        Parts(next)
    }

    /// The entries of a chain.
    pub(super) fn entries(&self, chain: Chain) -> impl Iterator<Item = &Entry<A>> + Clone {
        self.parts(chain).flat_map(|(_, part)| part)
    }

    /// The entries of a chain but for the first `skip`.
    pub(super) fn entries_after(
        &self,
        chain: Chain,
        skip: usize,
    ) -> impl Iterator<Item = &Entry<A>> + Clone {
        let mut skip = skip;
        self.parts(chain).flat_map(move |(_, part)| {
            let skipped = skip.min(part.len());
            skip -= skipped;
            part.get(skipped..).unwrap_or_default()
        })
    }

    /// Where a peer is in a chain.
    pub(super) fn find(&self, chain: Chain, peer: &A) -> Option<Place> {
        self.parts(chain).find_map(|(block, part)| {
            let slot = part.iter().position(|entry| entry.peer == *peer)?;
            Some(Place {
                block: block.0,
                slot: slot as u32,
            })
        })
    }

    /// The entry at a place that [`find`](Self::find) has told, while nothing was removed.
    pub(super) fn entry_mut(&mut self, place: Place) -> Option<&mut Entry<A>> {
        let block = self.blocks.get_mut(place.block as usize)?;
        block.entries.get_mut(place.slot as usize)
    }

    /// Adds an entry; returns the chain as it is then.
    pub(super) fn push(&mut self, chain: Chain, entry: Entry<A>) -> Chain {
        let len = self.len(chain);
        let longer = len as u32 + 1;
        if len.is_multiple_of(K) {
            return self.take(Block {
                next: chain,
                len: longer,
                entries: [entry; K],
            });
        }
        if let Some(block) = self.block_mut(chain) {
            block.len = longer;
            if let Some(free) = block.entries.get_mut(len % K) {
                *free = entry;
            }
        }
        chain
    }

    /// Takes out the last entry of the first block; returns the chain as it is then.
    pub(super) fn pop(&mut self, chain: Chain) -> Option<(Entry<A>, Chain)> {
        let block = self.block_mut(chain)?;
        let last = Self::first_of(block.len) - 1;
        let entry = *block.entries.get(last)?;
        block.len -= 1;
        if last > 0 {
            return Some((entry, chain));
        }
        let (len, next) = (block.len, block.next);
        self.give_back(chain);
        if let Some(block) = self.block_mut(next) {
            block.len = len;
        }
        Some((entry, next))
    }

    /// Takes out the entry at a place of this chain; returns the chain as it is then.
    pub(super) fn remove(&mut self, chain: Chain, place: Place) -> Chain {
        let Some((last, shorter)) = self.pop(chain) else {
            return chain;
        };
        // Where that was the entry itself, its slot is nobody's now.
        if let Some(hole) = self.entry_mut(place) {
            *hole = last;
        }
        shorter
    }

    /// Takes out all whose time is over; returns the chain as it is then, and how many they were.
    pub(super) fn sweep(&mut self, chain: Chain, now: Units) -> (Chain, usize) {
        let (mut chain, mut gone) = (chain, 0);
        let (mut at, mut slot) = (chain, 0);
        while let Some(block) = self.block(at) {
            let filled = if at == chain {
                Self::first_of(block.len)
            } else {
                K
            };
            let next = block.next;
            match block.entries.get(slot) {
                Some(entry) if slot < filled => {
                    if !entry.expires.is_over(now) {
                        slot += 1;
                        continue;
                    }
                    let place = Place {
                        block: at.0,
                        slot: slot as u32,
                    };
                    let alone = at == chain && filled == 1;
                    chain = self.remove(chain, place);
                    gone += 1;
                    if alone {
                        (at, slot) = (chain, 0);
                    }
                }
                _ => (at, slot) = (next, 0),
            }
        }
        (chain, gone)
    }

    /// Gives all blocks of a chain back; returns how many entries they held.
    pub(super) fn clear(&mut self, chain: Chain) -> usize {
        let len = self.len(chain);
        let mut at = chain;
        while let Some(block) = self.block(at) {
            let next = block.next;
            self.give_back(at);
            at = next;
        }
        len
    }

    fn take(&mut self, block: Block<A, K>) -> Chain {
        let at = self.free;
        if let Some(free) = self.block_mut(at) {
            let next = std::mem::replace(free, block).next;
            self.free = next;
            self.free_count -= 1;
            return at;
        }
        let len = self.blocks.len();
        if len == self.blocks.capacity() {
            self.blocks.reserve_exact(BLOCKS_MIN.max(len / STEP));
        }
        self.blocks.push(block);
        // A registry's limit on peers is far below 2^32.
        Chain(len as u32)
    }

    fn give_back(&mut self, chain: Chain) {
        let free = self.free;
        if let Some(block) = self.block_mut(chain) {
            block.next = free;
            self.free = chain;
            self.free_count += 1;
        }
    }

    /// Whether so many blocks are nobody's that [`Move`] is worth its while.
    pub(super) fn is_sparse(&self) -> bool {
        self.free_count > BLOCKS_MIN + self.blocks.len() / 8
    }

    /// Begins to move all blocks to the front. Each chain then has to go through
    /// [`Move::chain`], and nothing else may happen before [`Move::end`].
    pub(super) fn begin_move(&mut self) -> Move<'_, A, K> {
        let kept = self.blocks.len() - self.free_count;
        let mut holes = Vec::new();
        let mut at = self.free;
        while let Some(block) = self.block(at) {
            if (at.0 as usize) < kept {
                holes.push(at);
            }
            at = block.next;
        }
        Move {
            blocks: self,
            kept,
            holes,
        }
    }

    /// Bytes of memory.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.blocks.capacity() * size_of::<Block<A, K>>()
    }
}

/// An iterator that can be begun anew from where it is.
#[derive(Clone)]
struct Parts<F>(F);

impl<T, F: FnMut() -> Option<T>> Iterator for Parts<F> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.0()
    }
}

/// Blocks on their way to the front of their allocation.
#[derive(Debug)]
pub(super) struct Move<'b, A, const K: usize> {
    blocks: &'b mut Blocks<A, K>,
    /// Blocks that remain.
    kept: usize,
    /// Free ones among those.
    holes: Vec<Chain>,
}

impl<A: Copy + Eq, const K: usize> Move<'_, A, K> {
    /// Moves the blocks of a chain; returns where it begins now.
    pub(super) fn chain(&mut self, chain: Chain) -> Chain {
        let begins = self.block(chain);
        let mut at = begins;
        while let Some(next) = self.blocks.block(at).map(|block| block.next) {
            let moved = self.block(next);
            if let Some(block) = self.blocks.block_mut(at) {
                block.next = moved;
            }
            at = moved;
        }
        begins
    }

    fn block(&mut self, from: Chain) -> Chain {
        if (from.0 as usize) < self.kept {
            return from;
        }
        let Some(block) = self.blocks.block(from).copied() else {
            return from;
        };
        let Some(hole) = self.holes.pop() else {
            return from;
        };
        if let Some(to) = self.blocks.block_mut(hole) {
            *to = block;
        }
        hole
    }

    /// Gives the rest back to the system.
    pub(super) fn end(self) {
        let blocks = &mut self.blocks.blocks;
        blocks.truncate(self.kept);
        // Never to nothing: an allocation that is pages of its own remains so while it shrinks, but
        // once one is freed the system's allocator takes those that follow from its heap.
        blocks.shrink_to(BLOCKS_MIN.max(self.kept + self.kept / STEP));
        self.blocks.free = Chain::EMPTY;
        self.blocks.free_count = 0;
    }
}
