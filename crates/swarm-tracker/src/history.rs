//! What the tracker's figures were in the last hour, for the status page.

use std::collections::VecDeque;
use std::time::Duration;

/// Time between two samples.
pub(crate) const STEP: Duration = Duration::from_secs(10);

/// Samples kept: an hour of them.
const SAMPLES_MAX: usize = 361;

/// How the figures stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sample {
    /// Since the start.
    pub(crate) at: Duration,
    pub(crate) bridges: usize,
    pub(crate) peers: usize,
    /// Since the start.
    pub(crate) announces: u64,
    /// Since the start.
    pub(crate) redirects: u64,
}

/// Samples, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct History(VecDeque<Sample>);

impl History {
    /// Adds one, and forgets the oldest of too many.
    pub(crate) fn push(&mut self, sample: Sample) {
        if self.0.len() == SAMPLES_MAX {
            self.0.pop_front();
        }
        self.0.push_back(sample);
    }

    pub(crate) fn samples(&self) -> impl DoubleEndedIterator<Item = &Sample> + ExactSizeIterator {
        self.0.iter()
    }

    /// The youngest that is old enough to tell a rate by.
    pub(crate) fn before(&self, now: Duration) -> Option<&Sample> {
        let old_enough = |sample: &&Sample| now.saturating_sub(sample.at) >= STEP / 2;
        self.0.iter().rev().find(old_enough)
    }

    /// So many a second, between each sample and the one before.
    pub(crate) fn rates(&self, count: impl Fn(&Sample) -> u64) -> Vec<f64> {
        let pairs = self.0.iter().zip(self.0.iter().skip(1));
        pairs
            .map(|(before, after)| {
                rate(
                    count(after).saturating_sub(count(before)),
                    after.at.saturating_sub(before.at),
                )
            })
            .collect()
    }
}

/// So many a second, to a tenth.
pub(crate) fn rate(count: u64, time: Duration) -> f64 {
    if time.is_zero() {
        return 0.0;
    }
    (count as f64 / time.as_secs_f64() * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(secs: u64, announces: u64) -> Sample {
        Sample {
            at: Duration::from_secs(secs),
            bridges: 0,
            peers: 0,
            announces,
            redirects: 0,
        }
    }

    #[test]
    fn rates_are_told_between_samples() {
        let mut history = History::default();
        assert!(history.rates(|sample| sample.announces).is_empty());
        for (secs, announces) in [(0, 0), (10, 5), (20, 105), (40, 105), (40, 107)] {
            history.push(sample(secs, announces));
        }
        let rates = history.rates(|sample| sample.announces);
        assert_eq!(rates, [0.5, 10.0, 0.0, 0.0]);
        let before = |secs| history.before(Duration::from_secs(secs)).map(|s| s.at);
        assert_eq!(before(44), Some(Duration::from_secs(20)));
        assert_eq!(before(45), Some(Duration::from_secs(40)));
        assert_eq!(before(4), None);
    }

    #[test]
    fn an_hour_is_kept() {
        let mut history = History::default();
        for n in 0..1000 {
            history.push(sample(n * 10, 0));
        }
        let ages: Vec<_> = history.samples().map(|sample| sample.at).collect();
        assert_eq!(ages.len(), 361);
        assert_eq!(ages[360] - ages[0], Duration::from_secs(3600));
        assert_eq!(ages[360], Duration::from_secs(9990));
    }
}
