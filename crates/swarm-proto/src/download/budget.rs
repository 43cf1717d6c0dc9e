//! Memory for pieces under way, shared by the downloads of one process: who may have how much.
//!
//! Pure: each download asks with what it holds and what it could use, and is told how much it may
//! hold. What all are allowed together never exceeds the total, but for one piece of a single
//! download where no piece fits otherwise. There is no dead-lock: who waits stands in a queue, who
//! is ahead of it takes no more than an equal share, and who holds pieces that don't move gives
//! them up ([`Download::set_room`](super::Download::set_room)), for which it is called as long as it
//! holds any, with peers or without ([`Download::poll_timeout`](super::Download::poll_timeout)).

use std::collections::{BTreeMap, VecDeque};

/// One of those that share; the number means nothing.
pub type MemberId = u64;

/// What a download holds and could use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Need {
    /// Bytes of pieces that are under way or wait to be verified and stored.
    pub held: u64,
    /// Bytes that it would hold if nobody else were there; 0 while there is nothing to fetch, or
    /// nobody to fetch it from.
    pub wish: u64,
    /// Bytes of one piece: less than that is of no use.
    pub piece: u64,
}

/// What a download may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Bytes; never less than it holds.
    pub bytes: u64,
    /// Somebody waits for what it holds.
    pub others_wait: bool,
}

#[derive(Debug, Default)]
struct Member {
    /// At least what it holds.
    granted: u64,
    piece: u64,
    wishes: bool,
}

/// Bytes shared by downloads.
#[derive(Debug)]
pub struct PieceBudget {
    total: u64,
    granted: u64,
    granted_max: u64,
    wishing: u64,
    members: BTreeMap<MemberId, Member>,
    /// Those that may not hold a piece yet, in the order in which they asked.
    queue: VecDeque<MemberId>,
}

impl PieceBudget {
    /// A budget of so many bytes.
    pub fn new(total: u64) -> Self {
        Self {
            total,
            granted: 0,
            granted_max: 0,
            wishing: 0,
            members: BTreeMap::new(),
            queue: VecDeque::new(),
        }
    }

    /// Bytes that members may hold at this moment.
    pub const fn granted(&self) -> u64 {
        self.granted
    }

    /// The most that they ever might.
    pub const fn granted_max(&self) -> u64 {
        self.granted_max
    }

    /// Who is to ask again, once somebody else was given less than before or has left.
    pub fn next(&self) -> Option<MemberId> {
        self.queue.front().copied()
    }

    /// What the member may hold from now on.
    pub fn ask(&mut self, id: MemberId, need: Need) -> Room {
        let before = std::mem::take(self.members.entry(id).or_default());
        self.granted -= before.granted;
        self.wishing -= u64::from(before.wishes);
        let wishes = need.wish > 0;
        self.wishing += u64::from(wishes);
        let free = self.total.saturating_sub(self.granted);
        let mut bytes = self.fair(id, need).min(free).max(need.held);
        let is_next = self.queue.front().is_none_or(|head| *head == id);
        if self.granted == 0 && is_next && wishes {
            bytes = bytes.max(need.piece);
        }
        let waits = wishes && bytes < need.piece;
        if waits {
            bytes = need.held;
        }
        match (waits, self.queue.contains(&id)) {
            (true, false) => self.queue.push_back(id),
            (false, true) => self.queue.retain(|waiting| *waiting != id),
            _ => {}
        }
        self.granted += bytes;
        self.granted_max = self.granted_max.max(self.granted);
        if !wishes && bytes == 0 {
            self.members.remove(&id);
        } else {
            let member = Member {
                granted: bytes,
                piece: need.piece,
                wishes,
            };
            self.members.insert(id, member);
        }
        Room {
            bytes,
            others_wait: self.queue.iter().any(|waiting| *waiting != id),
        }
    }

    /// The member is gone.
    pub fn leave(&mut self, id: MemberId) {
        if let Some(member) = self.members.remove(&id) {
            self.granted -= member.granted;
            self.wishing -= u64::from(member.wishes);
        }
        self.queue.retain(|waiting| *waiting != id);
    }

    /// What the member may have at most, if it is free.
    fn fair(&self, id: MemberId, need: Need) -> u64 {
        let Some(head) = self.queue.front() else {
            return need.wish;
        };
        let share = self.total / self.wishing.max(1);
        if *head == id {
            return need.wish.min(share.max(need.piece));
        }
        // Equal shares fit side by side. Where the first in the queue needs more than its share,
        // all that becomes free is for it.
        match self.members.get(head) {
            Some(member) if member.piece > share => 0,
            _ => need.wish.min(share),
        }
    }
}

#[cfg(test)]
mod tests;
