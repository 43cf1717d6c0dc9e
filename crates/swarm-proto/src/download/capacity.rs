//! How many slots the line of a seed feeds.

use std::time::{Duration, Instant};

use super::Download;
use super::choke::Hosts;
use super::peers::Peer;
use crate::session::ConnectionId;

/// Another number of slots is judged by this part of the change that it would make on an empty
/// line. What is measured is as uneven as the peers' lines.
const PART: f64 = 0.5;

/// Rounds until another number is tried after one that was not kept.
const REST: u32 = 6;

/// Tries half as many slots again while hosts without one wait, and keeps them if at least
/// [`PART`] as much more was sent then; tries a third fewer by turns with that, and keeps those if
/// no more than that part less was sent.
///
/// Peers with thin lines leave most of a thick one idle; where the line is full, more slots only
/// divide it.
#[derive(Debug, Default)]
pub(super) struct Capacity {
    /// Slots beside those configured.
    more: usize,
    trial: Option<Trial>,
    /// Fewer are to be tried next.
    down: bool,
    rest: u32,
    /// Rounds in which some host waited, one after the other.
    full: u32,
    /// Bytes sent since the round began, less those of the round before that were not sent after
    /// all: who loses its slot loses what it was to be sent when the next round has begun.
    sent: i64,
    since: Option<Instant>,
}

/// What was before another number of slots was tried.
#[derive(Debug, Clone, Copy)]
struct Trial {
    more: usize,
    /// Bytes a second.
    rate: f64,
    /// Peers served when a round had passed since: those who lost their slots have no more under
    /// way then, and what is sent is measured.
    settled: Option<usize>,
}

/// How the slots were used when a round ended.
#[derive(Debug, Clone, Copy)]
struct Use {
    /// Peers that had one, and their hosts.
    served: usize,
    hosts: usize,
    /// Some host had none, though it waited for one.
    waits: bool,
}

/// Slots that nobody has.
#[derive(Debug)]
pub(super) struct FreeSlots {
    configured: bool,
    more: bool,
    pub(super) hosts: Hosts,
}

impl FreeSlots {
    pub(super) const fn any(&self) -> bool {
        self.configured || self.more
    }

    /// Whether this peer may have one: those beside the configured ones are for hosts that have
    /// none, in networks that have next to none. Connections are cheap, and addresses not dear.
    pub(super) fn are_for(&self, peer: &Peer) -> bool {
        self.configured || self.more && self.hosts.have_room_for(peer.info.addr.ip())
    }
}

/// Bounds of the number of slots.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    least: usize,
    most: usize,
}

impl Capacity {
    /// Bytes counted in this round.
    #[cfg(test)]
    pub(super) const fn sent(&self) -> i64 {
        self.sent
    }

    /// A round ends.
    fn round(&mut self, now: Instant, bounds: Bounds, used: Use) {
        let since = self.since.replace(now);
        let sent = std::mem::take(&mut self.sent);
        let elapsed = since.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        if elapsed.is_zero() {
            return;
        }
        let rate = sent.max(0) as f64 / elapsed.as_secs_f64();
        self.rest = self.rest.saturating_sub(1);
        if let Some(trial) = &mut self.trial {
            let Some(served) = trial.settled else {
                trial.settled = Some(used.served);
                self.full = if used.waits { self.full } else { 0 };
                return;
            };
            let before = *trial;
            self.trial = None;
            // Who left lately was sent something, too.
            self.judge(before, rate, bounds, served.max(used.served));
        }
        if !used.waits {
            // No more than there are hosts for.
            let hosts = used.hosts.saturating_sub(bounds.least);
            self.more = self.more.min(hosts);
            self.full = 0;
            return;
        }
        self.full = self.full.saturating_add(1);
        // A crowd that comes in the middle of a round is not to be taken for a gain.
        if self.full > 1 && self.rest == 0 && rate > 0.0 {
            self.try_other(rate, bounds);
        }
    }

    /// Keeps what was tried, or goes back to what was before.
    fn judge(&mut self, before: Trial, rate: f64, bounds: Bounds, served: usize) {
        let slots = (bounds.least + before.more).max(1) as f64;
        let change = served as f64 / slots - 1.0;
        let up = self.more > before.more;
        if up && change <= 0.0 {
            // They were not used, and so nothing was learnt.
            self.more = before.more;
        } else if rate < before.rate * (1.0 + PART * change) {
            self.more = before.more;
            self.down = up;
            self.rest = REST;
        } else if self.more == 0 {
            self.rest = REST;
        }
    }

    fn try_other(&mut self, rate: f64, bounds: Bounds) {
        let slots = bounds.least + self.more;
        let more = (slots + slots.div_ceil(2)).min(bounds.most);
        self.down = self.more > 0 && (self.down || more <= slots);
        let other = match self.down {
            true => (slots * 2).div_ceil(3).max(bounds.least),
            false => more,
        };
        if other != slots {
            self.trial = Some(Trial {
                more: self.more,
                rate,
                settled: None,
            });
            self.more = other.saturating_sub(bounds.least);
        }
    }
}

impl Download {
    /// Peers that are served at a time.
    pub(super) fn slots(&self) -> usize {
        self.config.upload_slots + self.capacity.more
    }

    /// Those of them that nobody has.
    pub(super) fn free_slots(&self) -> FreeSlots {
        let served = self.served();
        FreeSlots {
            configured: served < self.config.upload_slots,
            more: served < self.slots(),
            hosts: self.hosts_served(),
        }
    }

    /// A block of so many bytes is to be sent to a peer.
    pub(super) fn count_sent(&mut self, conn: ConnectionId, bytes: u32) {
        self.totals.uploaded += u64::from(bytes);
        self.totals.up.add(bytes);
        self.capacity.sent += i64::from(bytes);
        if let Some(peer) = self.peers.get_mut(&conn) {
            peer.up.add(bytes);
            peer.sent += u64::from(bytes);
        }
    }

    /// It was not sent after all: the peer took its request back, or was choked. What is told to
    /// trackers, and what the peer took, stays as it was counted: neither may shrink.
    pub(super) fn count_unsent(&mut self, bytes: u32) {
        self.capacity.sent -= i64::from(bytes);
    }

    /// A round ends: decides how many slots the next has.
    pub(super) fn measure_capacity(&mut self, now: Instant) {
        if !self.is_complete() {
            // What a leech sends is for those that give.
            self.capacity = Capacity::default();
            return;
        }
        let hosts = self.hosts_served();
        let waits = |peer: &Peer| {
            peer.is_waiting()
                && hosts.have_room_for(peer.info.addr.ip())
                && !self.should_await_suggestion(now, peer)
        };
        let used = Use {
            served: self.served(),
            hosts: hosts.count(),
            waits: self.peers.values().any(waits),
        };
        let bounds = Bounds {
            least: self.config.upload_slots,
            most: self.config.upload_slots_max.max(self.config.upload_slots),
        };
        self.capacity.round(now, bounds, used);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        least: 8,
        most: 100,
    };

    /// Rounds in which `peers`, a host each, that can take 100 KB/s are sent what a line of so many
    /// bytes a second gives; how many slots each had.
    fn rounds(
        capacity: &mut Capacity,
        now: &mut Instant,
        peers: usize,
        line: usize,
        rounds: u32,
    ) -> Vec<usize> {
        let round = |_| {
            let slots = BOUNDS.least + capacity.more;
            let served = slots.min(peers);
            capacity.sent += 10 * line.min(100_000 * served) as i64;
            *now += Duration::from_secs(10);
            let used = Use {
                served,
                hosts: served,
                waits: served < peers,
            };
            capacity.round(*now, BOUNDS, used);
            slots
        };
        (0..rounds).map(round).collect()
    }

    #[test]
    fn a_line_that_slow_peers_leave_idle_gets_more_slots_until_it_is_full() {
        let (mut capacity, mut now) = (Capacity::default(), Instant::now());
        let slots = rounds(&mut capacity, &mut now, 300, 2_500_000, 60);
        assert_eq!(&slots[..8], [8, 8, 8, 12, 12, 18, 18, 27], "{slots:?}");
        // Once a minute it is tried whether it were better otherwise.
        let others = slots.iter().skip(8).filter(|slots| **slots != 27).count();
        assert!((8..=15).contains(&others), "{slots:?}");
        // However much there is to be sent, there is a limit.
        let (mut capacity, mut now) = (Capacity::default(), Instant::now());
        let slots = rounds(&mut capacity, &mut now, 300, 100_000_000, 30);
        assert_eq!(slots.iter().max(), Some(&BOUNDS.most), "{slots:?}");
    }

    #[test]
    fn a_line_that_is_full_is_not_divided_further() {
        let (mut capacity, mut now) = (Capacity::default(), Instant::now());
        let slots = rounds(&mut capacity, &mut now, 300, 500_000, 100);
        let more = slots.iter().filter(|slots| **slots > BOUNDS.least).count();
        assert!((20..=30).contains(&more), "{slots:?}");
    }

    #[test]
    fn where_no_more_are_allowed_none_are_tried() {
        let (mut capacity, mut now) = (Capacity::default(), Instant::now());
        let bounds = Bounds { most: 8, ..BOUNDS };
        let used = Use {
            served: 8,
            hosts: 8,
            waits: true,
        };
        for _ in 0..30 {
            capacity.sent = 1_000_000;
            now += Duration::from_secs(10);
            capacity.round(now, bounds, used);
            assert_eq!(capacity.more, 0);
        }
    }

    #[test]
    fn slots_go_when_the_line_gets_thin() {
        let (mut capacity, mut now) = (Capacity::default(), Instant::now());
        rounds(&mut capacity, &mut now, 300, 2_500_000, 9);
        assert!(BOUNDS.least + capacity.more >= 27);
        let slots = rounds(&mut capacity, &mut now, 300, 600_000, 60);
        let more = slots.iter().skip(20).filter(|slots| **slots > BOUNDS.least);
        assert!(more.count() <= 12, "{slots:?}");
    }

    #[test]
    fn slots_go_when_the_line_gets_thin_though_there_are_as_many_as_may_be() {
        let (mut capacity, mut now) = (Capacity::default(), Instant::now());
        rounds(&mut capacity, &mut now, 300, 100_000_000, 30);
        assert!(BOUNDS.least + capacity.more > 60);
        let slots = rounds(&mut capacity, &mut now, 300, 600_000, 60);
        let more = slots.iter().skip(40).filter(|slots| **slots > 12);
        assert_eq!(more.count(), 0, "{slots:?}");
    }

    #[test]
    fn slots_that_were_used_until_lately_are_judged_as_used() {
        let (mut capacity, mut now) = (Capacity::default(), Instant::now());
        rounds(&mut capacity, &mut now, 300, 500_000, 3);
        assert_eq!(capacity.more, 4);
        for served in [12, 9] {
            now += Duration::from_secs(10);
            capacity.sent = 5_600_000;
            let used = Use {
                served,
                hosts: served,
                waits: true,
            };
            capacity.round(now, BOUNDS, used);
        }
        assert_eq!(capacity.more, 0, "a tenth more, of half as many again");
    }

    #[test]
    fn slots_go_when_nobody_waits_or_they_are_not_used() {
        let (mut capacity, mut now) = (Capacity::default(), Instant::now());
        rounds(&mut capacity, &mut now, 60, 100_000_000, 30);
        assert_eq!(BOUNDS.least + capacity.more, 60, "one for each");
        rounds(&mut capacity, &mut now, 20, 100_000_000, 1);
        assert_eq!(BOUNDS.least + capacity.more, 20);
        rounds(&mut capacity, &mut now, 0, 100_000_000, 1);
        assert_eq!(capacity.more, 0);
        // Those that were tried found nobody who would take them.
        rounds(&mut capacity, &mut now, 300, 100_000_000, 2);
        assert_eq!(capacity.more, 4);
        let used = Use {
            served: BOUNDS.least,
            hosts: BOUNDS.least,
            waits: true,
        };
        for more in [4, 0] {
            now += Duration::from_secs(10);
            capacity.sent = 100_000_000;
            capacity.rest = 2;
            capacity.round(now, BOUNDS, used);
            assert_eq!(capacity.more, more);
        }
    }
}
