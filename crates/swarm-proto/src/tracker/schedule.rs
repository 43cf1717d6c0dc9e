//! When to announce to one tracker, and as what.

use std::time::{Duration, Instant};

use super::{AnnounceEvent, AnnounceReply};

/// Between announces while there is nobody to fetch from, unless the tracker wants more.
const HUNGRY: Duration = Duration::from_secs(5);
/// Announces in a row that hunger may hasten so; from then on the pause doubles.
const HUNGRY_MAX: u32 = 4;
/// Bounds on what a tracker may say.
const INTERVAL_MIN: Duration = Duration::from_secs(1);
const INTERVAL_MAX: Duration = Duration::from_secs(2 * 3600);
/// First pause after a failure, tripled each time. A tracker's name may have gone to a stranger
/// who never asked for this: in a day it hears from each of us 20 times.
const BACKOFF_MIN: Duration = Duration::from_secs(5);
const BACKOFF_MAX: Duration = Duration::from_secs(2 * 3600);
/// Between announces asked for by hand.
const BY_HAND_MIN: Duration = Duration::from_secs(1);

/// When to announce to one tracker, and as what. Takes the time, does nothing by itself.
#[derive(Debug, Clone)]
pub struct AnnounceSchedule {
    event: AnnounceEvent,
    /// In a row.
    failures: u32,
    /// Answers in a row after which nobody was there to fetch from.
    hungry: u32,
    listed: bool,
    /// Not complete when it began, so that `completed` is to be said once.
    completed_due: bool,
    due: Option<Instant>,
    /// The earliest next announce, if asked for by hand.
    soonest: Instant,
}

impl AnnounceSchedule {
    /// The first announce is due at once. `complete`: everything is had already.
    pub fn new(now: Instant, complete: bool) -> Self {
        Self {
            event: AnnounceEvent::Started,
            failures: 0,
            hungry: 0,
            listed: false,
            completed_due: !complete,
            due: Some(now),
            soonest: now,
        }
    }

    /// When the next announce is due; `None`: never again.
    pub const fn due(&self) -> Option<Instant> {
        self.due
    }

    /// What the next announce is to say. `started` until the tracker has heard it.
    pub fn event(&mut self, complete: bool) -> AnnounceEvent {
        if complete && self.completed_due && self.listed {
            self.event = AnnounceEvent::Completed;
            self.completed_due = false;
        }
        self.event
    }

    /// The tracker knows us: it is to hear `stopped` in the end.
    pub const fn is_listed(&self) -> bool {
        self.listed
    }

    /// Announces in vain since the last that went well.
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    /// Everything is had from now on: said at once, if it is news to the tracker.
    pub fn completed(&mut self, now: Instant) {
        if self.completed_due && self.listed && self.due.is_some() {
            self.due = Some(now);
        }
    }

    /// The tracker answered. `hungry`: still nobody to fetch from. `jitter` is random and makes the
    /// pause up to a tenth longer, so that peers that began together do not stay together.
    pub fn succeeded(&mut self, now: Instant, reply: &AnnounceReply, hungry: bool, jitter: u32) {
        self.failures = 0;
        self.listed = true;
        self.event = AnnounceEvent::Regular;
        let interval = Duration::from_secs(reply.interval.into());
        let interval = interval.clamp(INTERVAL_MIN, INTERVAL_MAX);
        let least = Duration::from_secs(reply.min_interval.unwrap_or(0).into());
        let least = least.clamp(BY_HAND_MIN, INTERVAL_MAX);
        self.hungry = match hungry {
            true => self.hungry.saturating_add(1),
            false => 0,
        };
        let pause = match self.hungry {
            0 => interval,
            n => {
                let doubled = 1 << n.saturating_sub(HUNGRY_MAX).min(12);
                interval.min((HUNGRY * doubled).max(least))
            }
        };
        self.soonest = now + least;
        self.due = Some(now + jittered(pause, jitter));
    }

    /// No answer, or rubbish, or a refusal; `retry_in` is what a refusal asks for (BEP 31).
    pub fn failed(&mut self, now: Instant, retry_in: Option<Duration>, jitter: u32) {
        let tripled = BACKOFF_MIN.saturating_mul(3u32.saturating_pow(self.failures));
        let pause = tripled.max(retry_in.unwrap_or_default()).min(BACKOFF_MAX);
        self.failures = self.failures.saturating_add(1);
        self.soonest = now + BY_HAND_MIN;
        self.due = Some(now + jittered(pause, jitter));
    }

    /// The tracker is gone for good (`410 Gone`).
    pub const fn gone(&mut self) {
        self.due = None;
        self.listed = false;
    }

    /// Somebody would like to know at once.
    pub fn asked_by_hand(&mut self) {
        self.due = self.due.map(|due| due.min(self.soonest));
    }
}

fn jittered(pause: Duration, jitter: u32) -> Duration {
    pause + (pause / 10).mul_f64(f64::from(jitter) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn reply(interval: u32, min_interval: Option<u32>) -> AnnounceReply {
        AnnounceReply {
            interval,
            min_interval,
            ..AnnounceReply::default()
        }
    }

    /// Requests within a day of a client whose every announce ends with `end`.
    fn asked_in_a_day(mut end: impl FnMut(&mut AnnounceSchedule, Instant)) -> usize {
        let began = Instant::now();
        let mut schedule = AnnounceSchedule::new(began, false);
        let mut asked = 0;
        while let Some(due) = schedule.due()
            && due < began + DAY
        {
            asked += 1;
            assert!(asked < 100_000, "no pause at all");
            end(&mut schedule, due);
        }
        asked
    }

    #[test]
    fn t16_a_tracker_that_is_none_hears_from_us_24_times_a_day_and_one_that_is_gone_once() {
        for peer in 0..1000_u32 {
            let jitter = peer.wrapping_mul(0x9e37_79b9);
            let rubbish = asked_in_a_day(|schedule, now| schedule.failed(now, None, jitter));
            assert!((2..=24).contains(&rubbish), "{rubbish}");
            let gone = asked_in_a_day(|schedule, _| schedule.gone());
            assert_eq!(gone, 1);
        }
    }

    #[test]
    fn intervals_are_honoured_within_reason() {
        let every = |interval, min_interval| {
            asked_in_a_day(|schedule, now| {
                schedule.succeeded(now, &reply(interval, min_interval), false, 0);
            })
        };
        assert_eq!(every(1800, None), 48);
        assert_eq!(every(0, None), 86_400);
        assert_eq!(every(u32::MAX, Some(u32::MAX)), 12);
    }

    #[test]
    fn hunger_hastens_and_then_learns_patience() {
        let now = Instant::now();
        let mut schedule = AnnounceSchedule::new(now, false);
        let mut pauses = Vec::new();
        for _ in 0..9 {
            schedule.succeeded(now, &reply(60, None), true, 0);
            pauses.push((schedule.due().unwrap() - now).as_secs());
        }
        assert_eq!(pauses, [5, 5, 5, 5, 10, 20, 40, 60, 60]);
        schedule.succeeded(now, &reply(60, Some(30)), false, 0);
        schedule.succeeded(now, &reply(60, Some(30)), true, 0);
        assert_eq!(schedule.due(), Some(now + Duration::from_secs(30)));
    }

    #[test]
    fn started_is_said_until_heard_and_completed_once() {
        let now = Instant::now();
        let mut schedule = AnnounceSchedule::new(now, false);
        assert_eq!(schedule.event(true), AnnounceEvent::Started);
        schedule.failed(now, Some(Duration::from_secs(600)), 0);
        assert_eq!(schedule.due(), Some(now + Duration::from_secs(600)));
        assert!(!schedule.is_listed());
        assert_eq!(schedule.event(true), AnnounceEvent::Started);
        schedule.succeeded(now, &reply(1800, None), false, 0);
        schedule.completed(now);
        assert_eq!(schedule.due(), Some(now));
        assert_eq!(schedule.event(true), AnnounceEvent::Completed);
        schedule.failed(now, None, 0);
        assert_eq!(schedule.event(true), AnnounceEvent::Completed, "not heard");
        schedule.succeeded(now, &reply(1800, None), false, 0);
        assert_eq!(schedule.event(true), AnnounceEvent::Regular);
        schedule.completed(now);
        assert_ne!(schedule.due(), Some(now));
        let mut seed = AnnounceSchedule::new(now, true);
        seed.succeeded(now, &reply(1800, None), false, 0);
        assert_eq!(seed.event(true), AnnounceEvent::Regular);
    }

    #[test]
    fn a_hand_hastens_but_not_past_what_the_tracker_allows() {
        let now = Instant::now();
        let mut schedule = AnnounceSchedule::new(now, true);
        schedule.succeeded(now, &reply(1800, Some(60)), false, u32::MAX);
        assert_eq!(schedule.due(), Some(now + Duration::from_secs(1980)));
        schedule.asked_by_hand();
        assert_eq!(schedule.due(), Some(now + Duration::from_secs(60)));
        schedule.gone();
        schedule.asked_by_hand();
        assert_eq!(schedule.due(), None);
    }
}
