//! How many slots the line of a seed feeds.

use std::time::{Duration, Instant};

use super::Download;
use super::peers::Peer;
use crate::limits;

/// More slots are kept if they bring this part of what they would on an empty line. What is
/// measured is as uneven as the peers' lines.
const GAIN_MIN: f64 = 0.5;

/// Rounds until more are tried again after they brought nothing.
const REST: u32 = 6;

/// Tries more slots while all are taken and somebody waits, and keeps them if more was sent then.
/// Peers with thin lines leave most of a thick one idle; where the line is full, more slots only
/// divide it.
#[derive(Debug, Default)]
pub(super) struct Capacity {
    /// Slots beside those configured.
    more: usize,
    /// What the round before brought in bytes a second with so many fewer, while more are tried.
    trial: Option<(usize, f64)>,
    /// What the configured ones brought before more were tried.
    at_first: f64,
    rest: u32,
    sent: u64,
    since: Option<Instant>,
}

impl Capacity {
    pub(super) fn sent(&mut self, bytes: u32) {
        self.sent += u64::from(bytes);
    }

    /// A round ends. `base` slots are configured, so many peers were `served` and others wait or
    /// not.
    fn round(&mut self, now: Instant, base: usize, served: usize, waits: bool) {
        let full = waits && served >= base + self.more;
        let since = self.since.replace(now);
        let sent = std::mem::take(&mut self.sent);
        let Some(elapsed) = since.map(|at| now.saturating_duration_since(at)) else {
            return;
        };
        if elapsed < Duration::from_secs(1) {
            return;
        }
        let rate = sent as f64 / elapsed.as_secs_f64();
        self.rest = self.rest.saturating_sub(1);
        if let Some((added, before)) = self.trial.take() {
            let slots = base + self.more - added;
            let share = served.saturating_sub(slots) as f64 / slots.max(1) as f64;
            if rate < before * (1.0 + GAIN_MIN * share) {
                self.more -= added;
                self.rest = REST;
                return;
            }
        } else if self.more > 0 && full && rate <= self.at_first {
            // The line is not what it was.
            (self.more, self.rest) = (0, REST);
            return;
        }
        if full && self.rest == 0 && rate > 0.0 {
            let slots = base + self.more;
            let most = limits::UPLOAD_SLOTS_MAX.saturating_sub(slots);
            let added = slots.div_ceil(2).min(most);
            if self.more == 0 {
                self.at_first = rate;
            }
            if added > 0 {
                self.more += added;
                self.trial = Some((added, rate));
            }
        }
    }
}

impl Download {
    /// Peers that are served at a time.
    pub(super) fn slots(&self) -> usize {
        let more = match self.is_complete() {
            true => self.capacity.more,
            // What a leech sends is for those that give.
            false => 0,
        };
        self.config.upload_slots + more
    }

    /// A round ends: decides how many slots the next has.
    pub(super) fn measure_capacity(&mut self, now: Instant) {
        if !self.is_complete() {
            return;
        }
        let (served, waits) = (self.served(), self.peers.values().any(Peer::is_waiting));
        self.capacity
            .round(now, self.config.upload_slots, served, waits);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: usize = 8;

    /// Rounds in which `peers` that can take 100 KB/s each are sent what a line of so many bytes a
    /// second gives; how many slots each had.
    fn rounds(capacity: &mut Capacity, now: &mut Instant, line: u32, rounds: u32) -> Vec<usize> {
        let peers = 60;
        let round = |_| {
            let slots = BASE + capacity.more;
            let rate = line.min(100_000 * slots.min(peers) as u32);
            capacity.sent(rate * 10);
            *now += Duration::from_secs(10);
            capacity.round(*now, BASE, slots.min(peers), slots < peers);
            slots
        };
        (0..rounds).map(round).collect()
    }

    #[test]
    fn a_line_that_slow_peers_leave_idle_gets_more_slots_until_it_is_full() {
        let (mut capacity, mut now) = (Capacity::default(), Instant::now());
        let slots = rounds(&mut capacity, &mut now, 2_500_000, 30);
        assert_eq!(&slots[..5], [8, 8, 12, 18, 27], "{slots:?}");
        let tried = slots.iter().filter(|slots| **slots > 27).count();
        assert!(slots.iter().skip(5).all(|slots| *slots >= 27), "{slots:?}");
        assert!(tried <= 5, "{slots:?}");
    }

    #[test]
    fn a_line_that_is_full_is_not_divided_further() {
        let (mut capacity, mut now) = (Capacity::default(), Instant::now());
        let slots = rounds(&mut capacity, &mut now, 500_000, 100);
        let more = slots.iter().filter(|slots| **slots > BASE).count();
        assert!((10..=17).contains(&more), "{slots:?}");
    }

    #[test]
    fn slots_go_when_the_line_gets_thin_and_when_nobody_waits() {
        let (mut capacity, mut now) = (Capacity::default(), Instant::now());
        rounds(&mut capacity, &mut now, 2_500_000, 5);
        assert!(capacity.more > 0);
        let slots = rounds(&mut capacity, &mut now, 500_000, 4);
        assert_eq!(slots[3], BASE, "{slots:?}");
        // All that want it have a slot; then there is nothing to try.
        let (mut capacity, mut now) = (Capacity::default(), Instant::now());
        rounds(&mut capacity, &mut now, 100_000_000, 30);
        assert!(BASE + capacity.more >= 60, "{capacity:?}");
        assert!(BASE + capacity.more <= limits::UPLOAD_SLOTS_MAX);
    }
}
