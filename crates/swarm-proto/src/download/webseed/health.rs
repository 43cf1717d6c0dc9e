//! When a web seed may be asked again.

use std::time::{Duration, Instant};

use rand::{Rng, RngExt};

use super::judge::WebFailure;

/// First pause after a failure; doubled each time.
const PAUSE_MIN: Duration = Duration::from_secs(2);
/// First pause after a refusal or an unusable answer, which seldom pass by themselves.
const PAUSE_REFUSED: Duration = Duration::from_secs(60);
/// Longest pause of our own choice.
const PAUSE_MAX: Duration = Duration::from_secs(600);
/// Longest pause that a server may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);
/// Unusable answers in a row after which a web seed is left alone for good.
const UNUSABLE_MAX: u32 = 5;

/// How a web seed did of late.
#[derive(Debug, Default)]
pub(super) struct Health {
    failures: u32,
    unusable: u32,
    until: Option<Instant>,
    given_up: bool,
    /// A request of it was answered in full, and none failed since.
    proven: bool,
}

impl Health {
    /// Whether it may be asked now.
    pub(super) fn is_ready(&self, now: Instant) -> bool {
        !self.given_up && self.until.is_none_or(|until| until <= now)
    }

    /// Until when it is left alone, if it is.
    pub(super) fn waits_until(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| now < *until)
    }

    /// Whether it will never be asked again.
    pub(super) fn is_given_up(&self) -> bool {
        self.given_up
    }

    pub(super) fn is_proven(&self) -> bool {
        self.proven
    }

    pub(super) fn give_up(&mut self) {
        self.given_up = true;
    }

    /// A request was answered in full.
    pub(super) fn succeeded(&mut self) {
        *self = Self {
            given_up: self.given_up,
            proven: true,
            ..Self::default()
        };
    }

    /// A request failed: a pause, longer each time. What the server asks for is added to by
    /// chance and never shortened, lest a crowd that was sent away together returns together.
    pub(super) fn failed(&mut self, now: Instant, failure: &WebFailure, rng: &mut impl Rng) {
        self.proven = false;
        let first = match failure {
            WebFailure::Forbidden => return self.give_up(),
            WebFailure::Refused(_) => PAUSE_REFUSED,
            WebFailure::Unusable(_) | WebFailure::OtherLength | WebFailure::NoFile(_) => {
                self.unusable += 1;
                if self.unusable >= UNUSABLE_MAX {
                    return self.give_up();
                }
                PAUSE_REFUSED
            }
            _ => PAUSE_MIN,
        };
        let doubled = first.saturating_mul(1 << self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        let own = doubled.min(PAUSE_MAX).mul_f64(rng.random_range(0.75..1.25));
        let theirs = match failure {
            WebFailure::Busy {
                retry_after: Some(after),
                ..
            } => (*after)
                .min(RETRY_AFTER_MAX)
                .mul_f64(rng.random_range(1.0..1.25)),
            _ => Duration::ZERO,
        };
        let until = now + own.max(theirs);
        self.until = Some(self.until.map_or(until, |known| known.max(until)));
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    fn pause(health: &Health, now: Instant) -> f64 {
        health
            .until
            .map_or(0.0, |until| (until - now).as_secs_f64())
    }

    #[test]
    fn pauses_grow_with_jitter_and_end_with_a_success() {
        let (now, mut rng) = (Instant::now(), SmallRng::seed_from_u64(1));
        let mut health = Health::default();
        assert!(health.is_ready(now) && !health.is_proven());
        let mut seen = Vec::new();
        for n in 0..12 {
            health.failed(now, &WebFailure::Lost, &mut rng);
            let nominal = (2.0 * 2_f64.powi(n)).min(600.0);
            let got = pause(&health, now);
            assert!(!health.is_ready(now), "{n}");
            assert!(got >= 0.75 * nominal && got <= 1.25 * 600.0, "{n}: {got}");
            seen.push(got);
        }
        assert!(seen.windows(2).all(|two| two[0] <= two[1]), "{seen:?}");
        health.succeeded();
        assert!(health.is_ready(now) && health.is_proven());
    }

    #[test]
    fn retry_after_is_never_shortened_and_is_bounded() {
        let (now, mut rng) = (Instant::now(), SmallRng::seed_from_u64(2));
        let mut different = std::collections::BTreeSet::new();
        for (asked, min, max) in [(120, 120.0, 150.0), (1_000_000, 3600.0, 4500.0)] {
            for _ in 0..50 {
                let mut health = Health::default();
                let busy = WebFailure::Busy {
                    status: 503,
                    retry_after: Some(Duration::from_secs(asked)),
                };
                health.failed(now, &busy, &mut rng);
                let got = pause(&health, now);
                assert!(got >= min && got <= max, "{asked}: {got}");
                different.insert((got * 1000.0) as u64);
            }
        }
        assert!(different.len() > 90, "a crowd would return together");
    }

    #[test]
    fn what_never_works_is_given_up() {
        let (now, mut rng) = (Instant::now(), SmallRng::seed_from_u64(3));
        let mut health = Health::default();
        health.failed(now, &WebFailure::Forbidden, &mut rng);
        assert!(health.is_given_up());
        let mut health = Health::default();
        for _ in 0..UNUSABLE_MAX {
            assert!(!health.is_given_up());
            health.failed(now, &WebFailure::Unusable("x"), &mut rng);
        }
        assert!(health.is_given_up() && !health.is_ready(now + RETRY_AFTER_MAX));
    }
}
