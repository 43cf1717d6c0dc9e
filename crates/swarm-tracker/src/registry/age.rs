//! How long a peer is remembered, in one byte of it.

use std::time::Duration;

use super::Moment;

/// Units that an age may have at most. Half of what a byte tells apart less a few: a peer whose
/// time is over stays recognizable until the next sweep.
const UNITS: u64 = 120;

/// Counts time in units of which the longest age has 120: an age is kept to a hundredth.
#[derive(Debug)]
pub(super) struct AgeClock {
    /// Seconds.
    unit: u64,
    longest: Duration,
}

/// The unit in which a peer is forgotten, but for what does not fit into a byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Expiry(u8);

/// Units since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Units(u64);

impl AgeClock {
    /// For ages no longer than `longest`.
    pub(super) fn new(longest: Duration) -> Self {
        Self {
            unit: longest.as_secs().div_ceil(UNITS).max(1),
            longest,
        }
    }

    pub(super) fn units(&self, now: Moment) -> Units {
        Units(now.elapsed.as_secs() / self.unit)
    }

    /// When somebody heard of now is forgotten: not before `age` is over, and at most a unit later.
    pub(super) fn expiry(&self, now: Moment, age: Duration) -> Expiry {
        let then = now.elapsed.saturating_add(age.min(self.longest));
        Expiry((then.as_secs() / self.unit + 1) as u8)
    }
}

impl Expiry {
    /// Whether that time has come. Right for 128 units after it has.
    pub(super) const fn is_over(self, now: Units) -> bool {
        (now.0 as u8).wrapping_sub(self.0) < 128
    }

    /// Units until that time; of two the later one has more.
    pub(super) const fn left(self, now: Units) -> i8 {
        self.0.wrapping_sub(now.0 as u8).cast_signed()
    }
}

impl AgeClock {
    /// The time that so many units last at least, the first of which has begun.
    pub(super) fn at_least(&self, left: i8) -> Duration {
        let whole = u64::try_from(left.saturating_sub(1)).unwrap_or(0);
        Duration::from_secs(whole.saturating_mul(self.unit))
    }
}

impl Units {
    /// Whether whoever was known at `self` is over by `now`, whatever their [`Expiry`] seems to say.
    pub(super) const fn is_age_before(self, now: Self) -> bool {
        now.0.saturating_sub(self.0) > UNITS + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Moment {
        Moment {
            elapsed: Duration::from_secs(secs),
            unix: 0,
        }
    }

    #[test]
    fn nobody_is_forgotten_early_nor_much_too_late() {
        for longest in [1, 75, 119, 120, 121, 300, 4500, 200_000, 10_000_000] {
            let clock = AgeClock::new(Duration::from_secs(longest));
            for age in [1, longest / 4, longest].map(Duration::from_secs) {
                for began in [0, 1, 299, 77_777, 12_345_678] {
                    let expiry = clock.expiry(at(began), age);
                    let over = |secs| expiry.is_over(clock.units(at(secs)));
                    let due = began + age.as_secs();
                    let late = longest / 100 + 2;
                    assert!(!over(began) && !over(due), "{longest} {age:?} {began}");
                    assert!(over(due + late), "{longest} {age:?} {began}");
                    // As long as it may take until somebody looks.
                    assert!(over(due + late + longest), "{longest} {age:?} {began}");
                }
            }
        }
    }

    #[test]
    fn who_was_known_an_age_ago_is_over() {
        let clock = AgeClock::new(Duration::from_secs(300));
        let (then, expiry) = (clock.units(at(50)), clock.expiry(at(50), clock.longest));
        for secs in 50..5000 {
            let now = clock.units(at(secs));
            if then.is_age_before(now) {
                assert!(secs > 350);
            } else {
                assert!(secs < 420);
                assert_eq!(expiry.is_over(now), secs >= 351, "{secs}");
            }
        }
    }
}
