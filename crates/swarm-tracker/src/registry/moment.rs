//! Time as the registry is told it.

use std::time::Duration;

/// Seconds since the registry was made: 136 years of them.
pub(super) type Tick = u32;

/// A point in time, both ways of telling it: what ages uses `elapsed`, which no one can set
/// back, and what others have signed or promised uses `unix`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Since the registry was made.
    pub elapsed: Duration,
    /// Seconds since 1970.
    pub unix: u64,
}

impl Moment {
    /// When, on the clock that never goes back, `unix` will have come.
    pub(super) fn deadline(self, unix: u64) -> Duration {
        let left = Duration::from_secs(unix.saturating_sub(self.unix));
        self.elapsed.saturating_add(left)
    }

    pub(super) fn tick(self) -> Tick {
        Tick::try_from(self.elapsed.as_secs()).unwrap_or(Tick::MAX)
    }

    pub(super) fn tick_after(self, age: Duration) -> Tick {
        let then = self.elapsed.saturating_add(age);
        // Rounded up, so that nothing is forgotten early.
        Tick::try_from(then.as_secs()).map_or(Tick::MAX, |tick| tick.saturating_add(1))
    }
}
