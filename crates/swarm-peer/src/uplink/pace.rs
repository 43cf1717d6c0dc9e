//! When bytes may pass: the arithmetic alone, with time as an argument.

use std::time::Duration;

use tokio::time::Instant;

/// What an idle line may let pass ahead of its rate; covers the timer's granularity.
pub(super) const BURST: Duration = Duration::from_millis(20);

/// When a line is free again.
///
/// Turns follow each other without a gap as long as each begins where the last one ended, however
/// late the clock wakes whoever waits: so the rate holds to the byte. What an idle line saves up is
/// [`BURST`] at most.
#[derive(Debug, Default)]
pub(super) struct Pace {
    free_at: Option<Instant>,
}

/// From when to when some bytes have the line to themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) start: Instant,
    pub(super) end: Instant,
}

/// Time that `bytes` take; `rate` is in bytes a second, and not 0.
fn time(bytes: f64, rate: u64) -> Duration {
    Duration::try_from_secs_f64(bytes / rate.max(1) as f64).unwrap_or(Duration::MAX)
}

fn later(at: Instant, by: Duration) -> Instant {
    at.checked_add(by).unwrap_or(at)
}

impl Pace {
    /// Gives `bytes` the next turn.
    pub(super) fn turn(&mut self, now: Instant, bytes: usize, rate: u64) -> Turn {
        let idle_since = now.checked_sub(BURST).unwrap_or(now);
        let start = self.free_at.map_or(idle_since, |at| at.max(idle_since));
        let end = later(start, time(bytes as f64, rate));
        self.free_at = Some(end);
        Turn { start, end }
    }

    /// Takes the latest turn back: its bytes never passed.
    pub(super) fn undo(&mut self, turn: Turn) {
        let unused = turn.end.saturating_duration_since(turn.start);
        self.free_at = self.free_at.and_then(|at| at.checked_sub(unused));
    }

    /// Another rate in the midst of the latest turn: what is left of it goes at the new one, 0
    /// being no limit.
    pub(super) fn reprice(&mut self, now: Instant, turn: &mut Turn, old: u64, new: u64) {
        let left = turn.end.saturating_duration_since(now).as_secs_f64() * old as f64;
        turn.end = match new {
            0 => now,
            new => later(now, time(left, new)),
        };
        self.free_at = Some(turn.end);
    }

    /// Bytes that passed without a turn; who comes next waits for them.
    pub(super) fn charge(&mut self, now: Instant, bytes: usize, rate: u64) {
        if rate > 0 {
            self.turn(now, bytes, rate);
        }
    }

    #[cfg(test)]
    pub(super) fn free_at(&self) -> Option<Instant> {
        self.free_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn turns_add_up_to_the_rate_however_late_the_clock_wakes() {
        let mut pace = Pace::default();
        let began = Instant::now();
        let mut now = began;
        let mut bytes = 0_u64;
        // Each sleep ends up to 7 ms late.
        for n in 0..10_000_u32 {
            let turn = pace.turn(now, 1400, 1_000_000);
            now = now.max(turn.end + MS * (n % 8));
            bytes += 1400;
        }
        let secs = now.duration_since(began).as_secs_f64();
        let off = bytes as f64 / secs / 1_000_000.0 - 1.0;
        assert!(off.abs() < 0.005, "{off}");
    }

    #[test]
    fn an_idle_line_saves_up_a_burst_and_no_more() {
        let mut pace = Pace::default();
        let now = Instant::now();
        pace.turn(now, 1000, 1_000_000);
        let later = now + MS * 10_000;
        assert_eq!(pace.turn(later, 20_000, 1_000_000).end, later);
        assert_eq!(pace.turn(later, 1000, 1_000_000).end, later + MS);
    }

    #[test]
    fn another_rate_holds_from_that_moment_on() {
        let mut pace = Pace::default();
        let now = Instant::now();
        // A turn of 160 s, half of which is over.
        let mut turn = pace.turn(now, 16_000, 100);
        let half = turn.start + MS * 80_000;
        pace.reprice(half, &mut turn, 100, 8_000_000);
        assert_eq!(turn.end, half + MS);
        assert_eq!(pace.free_at(), Some(turn.end));
        pace.reprice(half, &mut turn, 8_000_000, 0);
        assert_eq!(turn.end, half);
    }

    #[test]
    fn what_never_passed_costs_nothing_and_what_slipped_through_is_paid() {
        let mut pace = Pace::default();
        let now = Instant::now();
        let first = pace.turn(now, 50_000, 1_000_000);
        let second = pace.turn(now, 50_000, 1_000_000);
        pace.undo(second);
        assert_eq!(pace.free_at(), Some(first.end));
        pace.charge(now, 50_000, 1_000_000);
        assert_eq!(pace.free_at(), Some(second.end));
        pace.charge(now, 50_000, 0);
        assert_eq!(pace.free_at(), Some(second.end));
    }
}
