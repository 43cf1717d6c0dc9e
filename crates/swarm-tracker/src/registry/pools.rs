//! Sets of peers of any size, of which one can be found, added, taken out or chosen by chance at
//! the same cost.
//!
//! A small set is one chain of blocks, which is looked through. A large one has many chains, and
//! where a peer goes is decided by a keyed hash of its network, so that nobody can choose whose
//! chain he makes longer (T17). There are always so many chains as the peers need: they come and
//! go one at a time (linear hashing), so that no announce ever waits for a whole table.

use std::hash::{BuildHasher as _, Hash, RandomState};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use rand::{Rng, RngExt as _};

use super::age::{Expiry, Units};
use super::blocks::{Blocks, Chain, Entry, Move, Place};
use super::network::Network;

/// Peers beyond which a set has more chains than one. As many are looked through in the time that a
/// packet takes to be sent.
const CHAIN_MAX: usize = 128;

/// Peers to each chain of a large set, on the average.
const PER_CHAIN: usize = 32;

/// How often a place in a large set is chosen that may turn out not to be taken.
const TRIES: usize = 1000;

/// An address as it is stored: the bytes of compact peers (BEP 23 and 7).
pub(super) trait Packed: Copy + Eq + Hash {
    fn unpack(self) -> SocketAddr;
}

impl Packed for [u8; 6] {
    fn unpack(self) -> SocketAddr {
        let [a, b, c, d, high, low] = self;
        SocketAddr::new(
            Ipv4Addr::new(a, b, c, d).into(),
            u16::from_be_bytes([high, low]),
        )
    }
}

impl Packed for [u8; 18] {
    fn unpack(self) -> SocketAddr {
        let [ip @ .., high, low] = self;
        SocketAddr::new(Ipv6Addr::from(ip).into(), u16::from_be_bytes([high, low]))
    }
}

/// A set of peers; what is in it is in the [`Pools`] it belongs to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pool {
    Small(Chain),
    /// By the number of its table.
    Large(u32),
}

impl Default for Pool {
    fn default() -> Self {
        Self::Small(Chain::EMPTY)
    }
}

/// All sets of one address family.
#[derive(Debug)]
pub(super) struct Pools<A, const K: usize> {
    blocks: Blocks<A, K>,
    tables: Vec<Table>,
    /// Numbers of tables that are nobody's.
    free: Vec<u32>,
    keys: RandomState,
}

/// The chains of a large set.
#[derive(Debug, Default)]
struct Table {
    chains: Vec<Chain>,
    len: usize,
    /// No chain is longer.
    longest: usize,
}

/// Sets on their way to where they need less memory.
#[derive(Debug)]
pub(super) struct Tidy<'p, A, const K: usize> {
    moving: Move<'p, A, K>,
    tables: &'p mut Vec<Table>,
}

/// Where a peer is in a set.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    chain: usize,
    place: Place,
}

/// Where a walk through a set begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct Start {
    chain: usize,
    skip: usize,
}

impl<A, const K: usize> Default for Pools<A, K> {
    fn default() -> Self {
        Self {
            blocks: Blocks::default(),
            tables: Vec::new(),
            free: Vec::new(),
            keys: RandomState::new(),
        }
    }
}

/// The number of the chain among `count` on which peers of this hash are: the hash modulo the next
/// power of two, or modulo half of it where there is no such chain yet.
const fn chain_of(hash: u64, count: usize) -> usize {
    let whole = count.next_power_of_two();
    let at = hash as usize & (whole - 1);
    if at < count { at } else { at - whole / 2 }
}

impl<A: Packed, const K: usize> Pools<A, K> {
    fn table(&self, number: u32) -> Option<&Table> {
        self.tables.get(number as usize)
    }

    /// The chains of a set.
    fn chains<'s>(&'s self, pool: &'s Pool) -> &'s [Chain] {
        match pool {
            Pool::Small(chain) => std::slice::from_ref(chain),
            Pool::Large(number) => self
                .table(*number)
                .map_or(&[], |table| table.chains.as_slice()),
        }
    }

    /// The number of the chain on which a peer is, if it is in the set.
    fn chain_for(&self, pool: &Pool, peer: &A) -> usize {
        let count = match pool {
            Pool::Small(_) => return 0,
            Pool::Large(_) => self.chains(pool).len(),
        };
        chain_of(self.hash(peer), count)
    }

    /// Peers of one network are on one chain, as they are counted; those of none are anywhere.
    fn hash(&self, peer: &A) -> u64 {
        match Network::of(peer.unpack().ip()) {
            Some(network) => self.keys.hash_one(network),
            None => self.keys.hash_one(peer),
        }
    }

    fn chain(&self, pool: &Pool, number: usize) -> Chain {
        self.chains(pool)
            .get(number)
            .copied()
            .unwrap_or(Chain::EMPTY)
    }

    fn set_chain(&mut self, pool: &mut Pool, number: usize, chain: Chain) {
        match pool {
            Pool::Small(only) => *only = chain,
            Pool::Large(table) => {
                let table = self.tables.get_mut(*table as usize);
                if let Some(known) = table.and_then(|table| table.chains.get_mut(number)) {
                    *known = chain;
                }
            }
        }
    }

    /// How many peers.
    pub(super) fn len(&self, pool: &Pool) -> usize {
        match pool {
            Pool::Small(chain) => self.blocks.len(*chain),
            Pool::Large(number) => self.table(*number).map_or(0, |table| table.len),
        }
    }

    /// Where a peer is.
    pub(super) fn find(&self, pool: &Pool, peer: &A) -> Option<Found> {
        let chain = self.chain_for(pool, peer);
        let place = self.blocks.find(self.chain(pool, chain), peer)?;
        Some(Found { chain, place })
    }

    /// Until when a peer is in.
    pub(super) fn expiry_of(&self, pool: &Pool, peer: &A) -> Option<Expiry> {
        let chain = self.chain(pool, self.chain_for(pool, peer));
        let mut entries = self.blocks.entries(chain);
        let entry = entries.find(|entry| entry.peer == *peer)?;
        Some(entry.expires)
    }

    /// How many peers there are of this one's network; 0 where that is none.
    pub(super) fn count_network(&self, pool: &Pool, peer: &A) -> usize {
        let network = |peer: &A| Network::of(peer.unpack().ip());
        let Some(wanted) = network(peer) else {
            return 0;
        };
        let chain = self.chain(pool, self.chain_for(pool, peer));
        let entries = self.blocks.entries(chain);
        entries
            .filter(|entry| network(&entry.peer) == Some(wanted))
            .count()
    }

    /// Lets a peer live until `expires`.
    pub(super) fn renew(&mut self, found: Found, expires: Expiry) {
        if let Some(entry) = self.blocks.entry_mut(found.place) {
            entry.expires = expires;
        }
    }

    /// Puts in a peer that is not in.
    pub(super) fn insert(&mut self, pool: &mut Pool, entry: Entry<A>) {
        let number = self.chain_for(pool, &entry.peer);
        let chain = self.blocks.push(self.chain(pool, number), entry);
        self.set_chain(pool, number, chain);
        let len = self.blocks.len(chain);
        match pool {
            Pool::Small(_) if len > CHAIN_MAX => self.enlarge(pool, chain),
            Pool::Small(_) => {}
            Pool::Large(table) => {
                let table = *table;
                if let Some(table) = self.tables.get_mut(table as usize) {
                    table.len += 1;
                    table.longest = table.longest.max(len);
                }
                self.split(table);
            }
        }
    }

    /// Takes a peer out.
    pub(super) fn remove(&mut self, pool: &mut Pool, found: Found) {
        let chain = self.chain(pool, found.chain);
        let shorter = self.blocks.remove(chain, found.place);
        self.set_chain(pool, found.chain, shorter);
        if let Pool::Large(table) = *pool {
            if let Some(table) = self.tables.get_mut(table as usize) {
                table.len -= 1;
            }
            self.merge(pool, table);
        }
    }

    /// Makes a large set of a small one that has grown.
    fn enlarge(&mut self, pool: &mut Pool, chain: Chain) {
        let len = self.blocks.len(chain);
        let table = Table {
            chains: vec![Chain::EMPTY; len.div_ceil(PER_CHAIN)],
            len,
            longest: 0,
        };
        let number = match self.free.pop() {
            Some(number) => number,
            None => {
                self.tables.push(Table::default());
                // There are fewer of them than peers.
                self.tables.len() as u32 - 1
            }
        };
        if let Some(free) = self.tables.get_mut(number as usize) {
            *free = table;
        }
        *pool = Pool::Large(number);
        self.scatter(number, chain);
    }

    /// One chain more where there are too few: half of what is on another goes there.
    fn split(&mut self, number: u32) {
        let Some(table) = self.tables.get_mut(number as usize) else {
            return;
        };
        let count = table.chains.len();
        if table.len <= count * PER_CHAIN {
            return;
        }
        table.chains.push(Chain::EMPTY);
        // The chain on which those were that now belong on the new one.
        let old = chain_of(count as u64, count);
        let halved = table.chains.get_mut(old);
        if let Some(halved) = halved.map(|halved| std::mem::replace(halved, Chain::EMPTY)) {
            self.scatter(number, halved);
        }
    }

    /// Chains less where there are too many, or none but one.
    fn merge(&mut self, pool: &mut Pool, number: u32) {
        loop {
            let Some(table) = self.tables.get_mut(number as usize) else {
                return;
            };
            let count = table.chains.len();
            if table.len < CHAIN_MAX / 2 {
                return self.reduce(pool, number);
            }
            if count < 2 || table.len >= (count - 1) * (PER_CHAIN / 2) {
                return;
            }
            let Some(last) = table.chains.pop() else {
                return;
            };
            if table.chains.capacity() > count * 4 {
                table.chains.shrink_to(count * 2);
            }
            self.scatter(number, last);
        }
    }

    /// Makes a small set of a large one.
    fn reduce(&mut self, pool: &mut Pool, number: u32) {
        let table = self.tables.get_mut(number as usize);
        let table = table.map(std::mem::take).unwrap_or_default();
        self.free.push(number);
        let mut only = Chain::EMPTY;
        for chain in table.chains {
            let mut rest = chain;
            while let Some((entry, shorter)) = self.blocks.pop(rest) {
                only = self.blocks.push(only, entry);
                rest = shorter;
            }
        }
        *pool = Pool::Small(only);
    }

    /// Puts what is on a chain that is no longer its table's where it belongs.
    fn scatter(&mut self, number: u32, chain: Chain) {
        let mut rest = chain;
        while let Some((entry, shorter)) = self.blocks.pop(rest) {
            rest = shorter;
            let hash = self.hash(&entry.peer);
            let Some(table) = self.tables.get_mut(number as usize) else {
                return;
            };
            let at = chain_of(hash, table.chains.len());
            if let Some(chain) = table.chains.get_mut(at) {
                *chain = self.blocks.push(*chain, entry);
                table.longest = table.longest.max(self.blocks.len(*chain));
            }
        }
    }

    /// Takes out all whose time is over; returns how many.
    pub(super) fn sweep(&mut self, pool: &mut Pool, now: Units) -> usize {
        let (mut gone, mut longest) = (0, 0);
        for number in 0..self.chains(pool).len() {
            let (chain, over) = self.blocks.sweep(self.chain(pool, number), now);
            self.set_chain(pool, number, chain);
            gone += over;
            longest = longest.max(self.blocks.len(chain));
        }
        if let Pool::Large(table) = *pool {
            if let Some(table) = self.tables.get_mut(table as usize) {
                table.len -= gone;
                table.longest = longest;
            }
            self.merge(pool, table);
        }
        gone
    }

    /// Takes out all; returns how many.
    pub(super) fn clear(&mut self, pool: &mut Pool) -> usize {
        let mut gone = 0;
        for number in 0..self.chains(pool).len() {
            gone += self.blocks.clear(self.chain(pool, number));
        }
        if let Pool::Large(number) = *pool {
            if let Some(table) = self.tables.get_mut(number as usize) {
                *table = Table::default();
            }
            self.free.push(number);
        }
        *pool = Pool::default();
        gone
    }

    /// All peers.
    pub(super) fn entries<'s>(
        &'s self,
        pool: &'s Pool,
    ) -> impl Iterator<Item = &'s Entry<A>> + Clone {
        let chains = self.chains(pool).iter();
        chains.flat_map(|chain| self.blocks.entries(*chain))
    }

    /// A peer by chance, each as likely as any other; `None` where there is none.
    pub(super) fn start(&self, pool: &Pool, rng: &mut impl Rng) -> Option<Start> {
        let chains = self.chains(pool);
        let len = |chain: usize| chains.get(chain).map_or(0, |chain| self.blocks.len(*chain));
        let longest = match pool {
            Pool::Small(_) => len(0),
            Pool::Large(number) => self.table(*number)?.longest,
        };
        if longest == 0 {
            return None;
        }
        for _ in 0..TRIES {
            let start = Start {
                chain: rng.random_range(0..chains.len()),
                skip: rng.random_range(0..longest),
            };
            if start.skip < len(start.chain) {
                return Some(start);
            }
        }
        // So many chains are empty only where somebody owns many whole networks.
        let chain = (0..chains.len()).find(|chain| len(*chain) > 0)?;
        Some(Start { chain, skip: 0 })
    }

    /// The peers from a place on.
    pub(super) fn from<'s>(
        &'s self,
        pool: &'s Pool,
        start: Start,
    ) -> impl Iterator<Item = &'s Entry<A>> {
        let chains = self.chains(pool).get(start.chain..).unwrap_or_default();
        let (first, rest) = match chains.split_first() {
            Some((first, rest)) => (*first, rest),
            None => (Chain::EMPTY, chains),
        };
        let rest = rest.iter().flat_map(|chain| self.blocks.entries(*chain));
        self.blocks.entries_after(first, start.skip).chain(rest)
    }

    /// The peers up to a place.
    pub(super) fn until<'s>(
        &'s self,
        pool: &'s Pool,
        start: Start,
    ) -> impl Iterator<Item = &'s Entry<A>> {
        let chains = self.chains(pool).get(..start.chain).unwrap_or_default();
        let last = self.blocks.entries(self.chain(pool, start.chain));
        let before = chains.iter().flat_map(|chain| self.blocks.entries(*chain));
        before.chain(last.take(start.skip))
    }

    /// Begins to move all blocks together, where enough of them are free. Each set has to be
    /// [moved](Tidy::pool).
    pub(super) fn begin_tidy(&mut self) -> Option<Tidy<'_, A, K>> {
        if !self.blocks.is_sparse() {
            return None;
        }
        Some(Tidy {
            moving: self.blocks.begin_move(),
            tables: &mut self.tables,
        })
    }

    /// The peers on the longest chain.
    #[cfg(test)]
    pub(super) fn longest_chain(&self, pool: &Pool) -> Vec<A> {
        let chains = self.chains(pool).iter().copied();
        let longest = chains.max_by_key(|chain| self.blocks.len(*chain));
        let entries = self.blocks.entries(longest.unwrap_or(Chain::EMPTY));
        entries.map(|entry| entry.peer).collect()
    }

    /// Bytes of memory.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        let tables = self.tables.iter();
        let chains: usize = tables.map(|table| table.chains.capacity()).sum();
        self.blocks.bytes()
            + chains * size_of::<Chain>()
            + self.tables.capacity() * size_of::<Table>()
    }
}

impl<A: Packed, const K: usize> Tidy<'_, A, K> {
    /// Moves a set.
    pub(super) fn pool(&mut self, pool: &mut Pool) {
        match pool {
            Pool::Small(chain) => *chain = self.moving.chain(*chain),
            Pool::Large(number) => {
                let table = self.tables.get_mut(*number as usize);
                for chain in table.into_iter().flat_map(|table| &mut table.chains) {
                    *chain = self.moving.chain(*chain);
                }
            }
        }
    }

    /// Gives back what is free then.
    pub(super) fn end(self) {
        self.moving.end();
    }
}
