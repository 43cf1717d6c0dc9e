//! When visitors come: a calm, a climb, a plateau. Fixed, so that both runs see the same crowd.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// Arrivals over time.
///
/// The climb is exponential, as a link that is passed on: each visitor sends the next ones.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Curve {
    /// Pages per second in the calm.
    pub calm_rate: f64,
    /// Length of the calm.
    pub calm: Duration,
    /// Length of the climb.
    pub climb: Duration,
    /// Pages per second on the plateau.
    pub plateau_rate: f64,
    /// Length of the plateau.
    pub plateau: Duration,
}

impl Curve {
    /// From the first to the last arrival.
    pub(super) fn length(&self) -> Duration {
        self.calm + self.climb + self.plateau
    }

    /// Pages per second asked for at `at`.
    pub(super) fn rate(&self, at: Duration) -> f64 {
        if at < self.calm {
            return self.calm_rate;
        }
        let into = (at - self.calm).as_secs_f64();
        let climb = self.climb.as_secs_f64();
        if into >= climb {
            return self.plateau_rate;
        }
        self.calm_rate * (self.plateau_rate / self.calm_rate).powf(into / climb)
    }

    /// The crowd: who comes when, and for which of the site's pages.
    ///
    /// Page 0, the front page, gets the share `front`; the others share the rest evenly.
    pub(super) fn arrivals(&self, pages: usize, front: f64, seed: u64) -> Vec<Arrival> {
        const STEP: Duration = Duration::from_millis(5);
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut out = Vec::new();
        let mut due = 0.0;
        let mut at = Duration::ZERO;
        while at < self.length() {
            due += self.rate(at) * STEP.as_secs_f64();
            while due >= 1.0 {
                due -= 1.0;
                let page = match pages {
                    0 | 1 => 0,
                    _ if rng.random_bool(front) => 0,
                    _ => rng.random_range(1..pages),
                };
                out.push(Arrival { at, page });
            }
            at += STEP;
        }
        out
    }
}

/// One visitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Arrival {
    /// After the start of the run.
    pub at: Duration,
    /// Index into the site's pages.
    pub page: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    const CURVE: Curve = Curve {
        calm_rate: 2.0,
        calm: Duration::from_secs(3),
        climb: Duration::from_secs(10),
        plateau_rate: 40.0,
        plateau: Duration::from_secs(5),
    };

    #[test]
    fn the_rate_climbs_from_calm_to_plateau() {
        assert_eq!(CURVE.rate(Duration::from_secs(1)), 2.0);
        assert_eq!(CURVE.rate(Duration::from_secs(14)), 40.0);
        let middle = CURVE.rate(Duration::from_secs(8));
        assert!((middle - 80.0_f64.sqrt()).abs() < 1e-9, "{middle}");
    }

    #[test]
    fn the_same_seed_is_the_same_crowd() {
        let crowd = CURVE.arrivals(20, 0.3, 7);
        assert_eq!(crowd, CURVE.arrivals(20, 0.3, 7));
        assert_ne!(crowd, CURVE.arrivals(20, 0.3, 8));
        assert!(crowd.is_sorted_by_key(|arrival| arrival.at));
        assert!(crowd.iter().all(|arrival| arrival.page < 20));
    }

    #[test]
    fn as_many_come_as_the_curve_says() {
        let crowd = CURVE.arrivals(20, 0.3, 7);
        let calm = crowd.iter().filter(|a| a.at < CURVE.calm).count();
        let plateau = crowd
            .iter()
            .filter(|a| a.at >= CURVE.calm + CURVE.climb)
            .count();
        assert!((5..=6).contains(&calm), "{calm}");
        assert!((198..=201).contains(&plateau), "{plateau}");
        let front = crowd.iter().filter(|a| a.page == 0).count();
        let share = front as f64 / crowd.len() as f64;
        assert!((0.22..0.38).contains(&share), "{share}");
    }

    #[test]
    fn a_site_of_one_page_has_a_crowd_too() {
        assert!(
            CURVE
                .arrivals(1, 0.5, 1)
                .iter()
                .all(|arrival| arrival.page == 0)
        );
    }
}
