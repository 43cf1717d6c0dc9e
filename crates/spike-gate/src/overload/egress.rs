//! Egress, and where it is heading, against the plan's rate.
//!
//! The load judged is what visitors *ask for*: bytes sent to them, bytes they were sent elsewhere
//! for and bytes they are kept waiting for, so that neither diverting nor queueing ends the spike
//! that made it necessary. The room they
//! are judged against is the plan's rate less what this machine's seed sends at the same time,
//! but never less than half of it: a seed that fills an idle line is no pressure, one that feeds
//! volunteers while visitors queue is.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::{OverloadConfig, Reading, Sample, pressure};

/// Samples kept, whatever the configured windows say.
const SAMPLES_MAX: usize = 4096;

/// A forecast may warm the site up, but only what was measured may divert visitors.
const FORECAST_PRESSURE_MAX: f64 = 0.7;

/// Parts the trend window is cut into.
const QUARTERS: usize = 4;

/// The seed is judged to leave visitors at least this share of the plan.
const ROOM_LEAST: f64 = 0.5;

/// Rate and trend of the offered load.
#[derive(Debug)]
pub struct Egress {
    plan: f64,
    rate_window: Duration,
    trend_window: Duration,
    horizon: Duration,
    lo: f64,
    hi: f64,
    samples: VecDeque<(Instant, Sample)>,
    shares: VecDeque<(Instant, f64)>,
}

impl Egress {
    /// For a plan of `plan_rate` bits per second.
    pub fn new(config: &OverloadConfig, plan_rate: u64) -> Self {
        Self {
            plan: plan_rate.max(1) as f64,
            rate_window: config.rate_window,
            trend_window: config.trend_window,
            horizon: config.horizon,
            lo: config.egress_lo,
            hi: config.egress_hi,
            samples: VecDeque::new(),
            shares: VecDeque::new(),
        }
    }

    /// The load now and its forecast, each as a share of the room in the plan.
    pub fn observe(&mut self, now: Instant, sample: Sample) -> [Reading; 2] {
        self.samples.push_back((now, sample));
        // The newest sample that is at least one window old stays: rates are taken against it.
        while self.samples.len() > SAMPLES_MAX
            || self
                .samples
                .get(1)
                .is_some_and(|(at, _)| now.saturating_duration_since(*at) >= self.rate_window)
        {
            self.samples.pop_front();
        }
        let load = self.load(now, sample);
        self.shares.push_back((now, load));
        while self.shares.len() > SAMPLES_MAX
            || self
                .shares
                .front()
                .is_some_and(|(at, _)| now.saturating_duration_since(*at) > self.trend_window)
        {
            self.shares.pop_front();
        }
        let ahead = self.forecast(now, load);
        [
            Reading {
                signal: "egress",
                value: load,
                pressure: pressure(load, self.lo, self.hi),
            },
            Reading {
                signal: "egress_forecast",
                value: ahead,
                pressure: pressure(ahead, self.lo, self.hi).min(FORECAST_PRESSURE_MAX),
            },
        ]
    }

    fn load(&self, now: Instant, sample: Sample) -> f64 {
        let Some((at, old)) = self.samples.front() else {
            return 0.0;
        };
        // A rate over less than one window (at the start) is spread over the whole window, so
        // that the first visitor's burst is not taken for a wave.
        let span = now
            .saturating_duration_since(*at)
            .max(self.rate_window)
            .as_secs_f64();
        let bits = |new: u64, old: u64| new.saturating_sub(old) as f64 * 8.0 / span;
        let passed = bits(sample.passed, old.passed);
        let diverted = bits(sample.diverted, old.diverted);
        let swarm = bits(sample.swarm, old.swarm);
        let room = (self.plan - swarm).max(self.plan * ROOM_LEAST);
        // What waits was asked for too, and would be on its way were there room.
        let queued = sample.queued as f64 * 8.0 / self.rate_window.as_secs_f64();
        passed / room + (diverted + queued) / self.plan
    }

    /// The straight line through the last trend window, continued to the horizon.
    ///
    /// The window is cut in four, and the line rises as the *least* of the three steps between
    /// the quarters does: a crowd grows in each of them, one visitor's large download in one or
    /// two. Nothing is foretold before a whole window has been seen.
    fn forecast(&self, now: Instant, load: f64) -> f64 {
        let quarter = self.trend_window / QUARTERS as u32;
        let mut sums = [(0.0_f64, 0_u32); QUARTERS];
        for (at, share) in &self.shares {
            let age = now.saturating_duration_since(*at).as_secs_f64();
            let index = (age / quarter.as_secs_f64().max(f64::EPSILON)) as usize;
            if let Some((sum, count)) = sums.get_mut(index.min(QUARTERS - 1)) {
                *sum += share;
                *count += 1;
            }
        }
        let mut rise = f64::INFINITY;
        for pair in sums.windows(2) {
            let [(newer, n), (older, o)] = pair else {
                continue;
            };
            if *n == 0 || *o == 0 {
                return load;
            }
            rise = rise.min(newer / f64::from(*n) - older / f64::from(*o));
        }
        let seen = self
            .shares
            .front()
            .map_or(Duration::ZERO, |(at, _)| now.saturating_duration_since(*at));
        if rise <= 0.0 || seen + quarter / 2 < self.trend_window {
            return load;
        }
        load + rise / quarter.as_secs_f64() * self.horizon.as_secs_f64()
    }
}
