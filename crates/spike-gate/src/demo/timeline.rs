//! What happened when: samples of one run, four a second.

use std::time::Duration;

/// Between two samples.
pub(super) const PERIOD: Duration = Duration::from_millis(250);

/// Counters at one moment; all grow only.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Sample {
    /// Since the start of the run.
    pub at: Duration,
    /// Pages asked for.
    pub arrived: u64,
    /// Pages complete.
    pub completed: u64,
    /// Pages given up.
    pub failed: u64,
    /// Bytes that left the site's own host.
    pub origin: u64,
    /// Bytes that left each volunteer.
    pub volunteers: Vec<u64>,
    /// Where the gate stands; empty without one.
    pub state: &'static str,
}

/// The samples of one run.
#[derive(Debug, Clone, Default)]
pub(super) struct Timeline {
    samples: Vec<Sample>,
}

/// Rates between two moments.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Rates {
    /// Pages asked for, per second.
    pub arrived: f64,
    /// Pages completed, per second.
    pub completed: f64,
    /// Bits per second from the site's host.
    pub origin: f64,
    /// Bits per second from each volunteer.
    pub volunteers: Vec<f64>,
}

impl Timeline {
    /// Adds a sample; they come in order.
    pub(super) fn push(&mut self, sample: Sample) {
        self.samples.push(sample);
    }

    /// The newest sample.
    pub(super) fn last(&self) -> Option<&Sample> {
        self.samples.last()
    }

    /// The last sample not after `at`.
    fn at(&self, at: Duration) -> Option<&Sample> {
        let after = self.samples.partition_point(|sample| sample.at <= at);
        self.samples.get(after.checked_sub(1)?)
    }

    /// Mean rates from `from` to `to`; zero where nothing was sampled.
    pub(super) fn rates(&self, from: Duration, to: Duration) -> Rates {
        let (Some(a), Some(b)) = (self.at(from).or(self.samples.first()), self.at(to)) else {
            return Rates::default();
        };
        let seconds = b.at.saturating_sub(a.at).as_secs_f64();
        if seconds <= 0.0 {
            return Rates {
                volunteers: vec![0.0; b.volunteers.len()],
                ..Rates::default()
            };
        }
        let per_second = |x: u64, y: u64| y.saturating_sub(x) as f64 / seconds;
        Rates {
            arrived: per_second(a.arrived, b.arrived),
            completed: per_second(a.completed, b.completed),
            origin: per_second(a.origin, b.origin) * 8.0,
            volunteers: a
                .volunteers
                .iter()
                .zip(&b.volunteers)
                .map(|(x, y)| per_second(*x, *y) * 8.0)
                .collect(),
        }
    }

    /// Rates over the last second.
    pub(super) fn now(&self) -> Rates {
        let Some(last) = self.last() else {
            return Rates::default();
        };
        self.rates(last.at.saturating_sub(Duration::from_secs(1)), last.at)
    }

    /// Stretches of time with one state of the gate.
    pub(super) fn states(&self) -> Vec<(Duration, Duration, &'static str)> {
        let mut out: Vec<(Duration, Duration, &'static str)> = Vec::new();
        for sample in &self.samples {
            match out.last_mut() {
                Some((_, end, state)) if *state == sample.state => *end = sample.at,
                Some((_, end, _)) => {
                    *end = sample.at;
                    out.push((sample.at, sample.at, sample.state));
                }
                None => out.push((sample.at, sample.at, sample.state)),
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeline() -> Timeline {
        let mut timeline = Timeline::default();
        for i in 0..=8_u64 {
            timeline.push(Sample {
                at: PERIOD * i as u32,
                arrived: i,
                completed: i / 2,
                origin: i * 1000,
                volunteers: vec![i * 500, 0],
                state: if i < 4 { "calm" } else { "spike" },
                ..Sample::default()
            });
        }
        timeline
    }

    #[test]
    fn rates_are_differences_over_time() {
        let rates = timeline().now();
        assert_eq!((rates.arrived, rates.completed), (4.0, 2.0));
        assert_eq!(
            (rates.origin, rates.volunteers),
            (32_000.0, vec![16_000.0, 0.0])
        );
        let whole = timeline().rates(Duration::ZERO, Duration::from_secs(60));
        assert_eq!(whole.arrived, 4.0);
        assert_eq!(Timeline::default().now(), Rates::default());
    }

    #[test]
    fn states_are_joined_to_stretches() {
        let ms = Duration::from_millis;
        assert_eq!(
            timeline().states(),
            [(ms(0), ms(1000), "calm"), (ms(1000), ms(2000), "spike")]
        );
    }
}
