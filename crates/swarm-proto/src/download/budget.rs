//! Memory for pieces under way, shared by the downloads of one process: who may have how much.
//!
//! Pure: each download asks with what it holds and what it could use, and is told how much it may
//! hold. What all are allowed together never exceeds the total, but for one piece of a single
//! download where no piece fits otherwise. There is no dead-lock: who waits stands in a queue, who
//! is ahead of it takes no more than an equal share, and who holds pieces that don't move gives
//! them up ([`Download::set_room`](super::Download::set_room)), for which it is called as long as it
//! holds any, with peers or without ([`Download::poll_timeout`](super::Download::poll_timeout)).
//!
//! Pieces that move, but slowly, are no way to keep others out either. While somebody waits it is
//! counted who holds how many bytes for how long. The next in the queue is who had the least of
//! that, and who had more of it than the next in the queue by a piece for 20 s gives up
//! what is beyond its share, or all where the other has no room otherwise. Each time it loses
//! pieces so, it may hold the next ones twice as long, so that a slow line gets a piece whole in
//! the end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// How long one piece may be held, beyond what the next in the queue had, where others wait.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often that is doubled: up to 21 minutes. On a thin line a piece may take as long, and whoever
/// is made to begin it again and again has none in the end.
const DOUBLED_MAX: u32 = 6;

/// What was held is counted in such steps of time.
const STEP: Duration = Duration::from_millis(1);

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
    /// Bytes; where it holds more, it is to give pieces up.
    pub bytes: u64,
    /// Somebody waits for what it holds.
    pub others_wait: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Member {
    /// At least what it holds.
    granted: u64,
    held: u64,
    piece: u64,
    wishes: bool,
    /// When it last asked.
    asked_at: Option<Instant>,
    /// Bytes held times milliseconds, while somebody waited.
    used: u64,
    /// Its number in the queue, while it may not hold a piece.
    waits: Option<u64>,
    /// It was told to give pieces up, and holds them still.
    yields: bool,
    /// How often its patience is doubled.
    doubled: u32,
}

/// A place in the queue: what the member has used, its number there, and who it is.
type Waiting = (u64, u64, MemberId);

/// Bytes shared by downloads.
#[derive(Debug)]
pub struct PieceBudget {
    total: u64,
    granted: u64,
    granted_max: u64,
    wishing: u64,
    members: BTreeMap<MemberId, Member>,
    /// Those that may not hold a piece yet; first who used least, of equals who asked first.
    queue: BTreeSet<Waiting>,
    next_number: u64,
    /// Since when somebody waits.
    waited_since: Option<Instant>,
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
            queue: BTreeSet::new(),
            next_number: 0,
            waited_since: None,
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
        self.queue.first().map(|(_, _, id)| *id)
    }

    /// What the member may hold from now on.
    pub fn ask(&mut self, now: Instant, id: MemberId, need: Need) -> Room {
        let before = self.take_out(id);
        let mut member = Member {
            held: need.held,
            piece: need.piece,
            wishes: need.wish > 0,
            // Time that does not count yet is not forgotten.
            asked_at: before.asked_at.filter(|at| now < *at + STEP).or(Some(now)),
            used: self.used(now, &before),
            ..before
        };
        if need.held < before.held && !std::mem::take(&mut member.yields) {
            member.doubled = before.doubled.saturating_sub(1);
        }
        if member.wishes && !before.wishes {
            // What it did not use while it wanted nothing is gone.
            let others = self.members.values().filter(|other| other.wishes);
            let least = others.map(|other| other.used).min();
            member.used = member.used.max(least.unwrap_or_default());
        }
        self.wishing += u64::from(member.wishes);
        let number = before.waits.unwrap_or(self.next_number);
        let place = (member.used, number, id);
        let ahead = self.queue.first().filter(|head| **head < place).copied();
        let free = self.total.saturating_sub(self.granted);
        let mut bytes = self.fair(&before, ahead, need).min(free).max(need.held);
        if self.granted == 0 && ahead.is_none() && member.wishes {
            bytes = bytes.max(need.piece);
        }
        let waits = member.wishes && bytes < need.piece;
        if waits {
            bytes = need.held;
        }
        if let Some(kept) = self.kept(&member, ahead) {
            member.doubled += u32::from(!member.yields && member.doubled < DOUBLED_MAX);
            member.yields = true;
            bytes = kept;
        }
        member.granted = bytes.max(need.held);
        member.waits = waits.then_some(number);
        self.next_number += u64::from(waits && before.waits.is_none());
        self.put_in(now, id, member, place);
        Room {
            bytes,
            others_wait: self.queue.iter().take(2).any(|(_, _, other)| *other != id),
        }
    }

    /// The member is gone.
    pub fn leave(&mut self, id: MemberId) {
        self.take_out(id);
        self.members.remove(&id);
        self.look_whether_anybody_waits();
    }

    /// The member as it was, counted no more.
    fn take_out(&mut self, id: MemberId) -> Member {
        let member = self.members.get(&id).copied().unwrap_or_default();
        self.granted -= member.granted;
        self.wishing -= u64::from(member.wishes);
        if let Some(number) = member.waits {
            self.queue.remove(&(member.used, number, id));
        }
        if let Some(member) = self.members.get_mut(&id) {
            (member.granted, member.wishes, member.waits) = (0, false, None);
        }
        member
    }

    fn put_in(&mut self, now: Instant, id: MemberId, member: Member, place: Waiting) {
        self.granted += member.granted;
        self.granted_max = self.granted_max.max(self.granted);
        if member.waits.is_some() {
            self.queue.insert(place);
            self.waited_since.get_or_insert(now);
        }
        // While somebody waits it is remembered what the idle used.
        if member.is_idle() && self.queue.is_empty() {
            self.members.remove(&id);
        } else {
            self.members.insert(id, member);
        }
        self.look_whether_anybody_waits();
    }

    /// Once nobody waits any more, nothing is owed.
    fn look_whether_anybody_waits(&mut self) {
        if self.queue.is_empty() && self.waited_since.take().is_some() {
            self.members.retain(|_, member| !member.is_idle());
            for member in self.members.values_mut() {
                member.used = 0;
            }
        }
    }

    /// What the member has used by now.
    fn used(&self, now: Instant, member: &Member) -> u64 {
        let since = self.waited_since.zip(member.asked_at);
        let held_for =
            since.map(|(waited, asked)| now.saturating_duration_since(waited.max(asked)));
        let held_for = held_for.map_or(0, millis);
        let more = member.held.saturating_mul(held_for);
        member.used.saturating_add(more)
    }

    /// What the member may have at most, if it is free; `ahead` is who comes before it.
    fn fair(&self, before: &Member, ahead: Option<Waiting>, need: Need) -> u64 {
        if self.queue.is_empty() && before.waits.is_none() {
            return need.wish;
        }
        let share = self.share();
        let head = ahead.and_then(|(_, _, id)| self.members.get(&id));
        match head {
            None => need.wish.min(share.max(need.piece)),
            // Equal shares fit side by side. Where the first in the queue needs more than its
            // share, all that becomes free is for it.
            Some(head) if head.piece > share => 0,
            Some(_) => need.wish.min(share),
        }
    }

    /// What the member may keep, if it held more than others for so long that it has to give
    /// pieces up.
    fn kept(&self, member: &Member, ahead: Option<Waiting>) -> Option<u64> {
        let (used_ahead, _, id) = ahead?;
        let head = self.members.get(&id)?;
        let share = self.share();
        let kept = match head.piece <= share {
            true => share,
            false => 0,
        };
        let free = self.total.saturating_sub(self.granted + member.held);
        let patience = member
            .piece
            .saturating_mul(millis(PATIENCE * (1 << member.doubled)));
        let patient = member.used < used_ahead.saturating_add(patience);
        (member.held > kept && free < head.piece && !patient).then_some(kept)
    }

    fn share(&self) -> u64 {
        self.total / self.wishing.max(1)
    }
}

impl Member {
    const fn is_idle(&self) -> bool {
        !self.wishes && self.granted == 0
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
