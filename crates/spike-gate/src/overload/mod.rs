//! When a spike begins and when it ends: a pure function of samples and `now` (spec 0008).
//!
//! Each signal turns what was measured into a *pressure* between 0 and 1; the greatest one moves
//! the state. There is one signal so far, [`egress`]; another one is a module beside it and a
//! line in [`OverloadDetector::observe`]. Nothing here reads a clock, and nothing here diverts:
//! the caller samples every [`OverloadConfig::sample_every`] and asks for the state.
//!
//! ```text
//!            P >= 0.5 for 2 s          P >= 0.75 for 3 of 5 s
//!   Calm ───────────────────▶ Warming ─────────────────────▶ Spike ◀─────────────┐
//!    ▲ ▲                         │                             │ P < 0.4 for 120 s │ P >= 0.6: dwell
//!    │ └─────── P < 0.4 for 30 s ┘                             │ and 5 min in spike│ doubles
//!    └──────────────── after 4 min ───────────── Cooling ◀─────┴──────────────────┘
//! ```

pub mod egress;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use webseed_bridge::duration;

/// One interval between samples counts at most this much, so that a stalled process does not
/// jump a dwell time on the strength of one sample.
const CREDIT_MAX: Duration = Duration::from_secs(1);

/// Where the gate stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Everything passes to the origin; the gate only measures.
    Calm,
    /// The limit will be met: the alarm is raised, volunteers fetch, visitors notice nothing.
    Warming,
    /// Pages are rewritten, heavy files are redirected to bridges.
    Spike,
    /// Nothing is diverted any more; the alarm is lowered.
    Cooling,
}

impl State {
    /// The lower-case name used in events, logs and `status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Warming => "warming",
            Self::Spike => "spike",
            Self::Cooling => "cooling",
        }
    }

    /// Whether volunteers are to hold the site's bundles: the alarm stands.
    pub fn in_need(self) -> bool {
        matches!(self, Self::Warming | Self::Spike)
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Thresholds and dwell times (`[overload]` in the configuration file).
///
/// Pressures are 0 to 1. Shorter dwell times react faster and flap more; a larger `horizon` warns
/// earlier and more often in vain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OverloadConfig {
    /// Time between samples. Default 250 ms.
    #[serde(with = "duration")]
    pub sample_every: Duration,
    /// Span over which a rate is measured. Default 2 s.
    #[serde(with = "duration")]
    pub rate_window: Duration,
    /// Span of past rates the forecast is made from; four times `rate_window` at least, or a step
    /// looks like a slope. Default 10 s.
    #[serde(with = "duration")]
    pub trend_window: Duration,
    /// How far ahead the forecast looks. Default 30 s.
    #[serde(with = "duration")]
    pub horizon: Duration,
    /// Share of the plan's rate at which egress begins to press. Default 0.6.
    pub egress_lo: f64,
    /// Share of the plan's rate at which the pressure is 1. Default 0.9.
    pub egress_hi: f64,
    /// Calm turns to warming at this pressure. Default 0.5.
    pub warm_at: f64,
    /// …held this long without a break. Default 2 s.
    #[serde(with = "duration")]
    pub warm_after: Duration,
    /// Warming turns to spike at this pressure. Default 0.75.
    pub spike_at: f64,
    /// …met for this long in all. Default 3 s.
    #[serde(with = "duration")]
    pub spike_after: Duration,
    /// …within this span. Default 5 s.
    #[serde(with = "duration")]
    pub spike_within: Duration,
    /// Below this pressure of the offered load the wave is over. Default 0.4.
    pub end_below: f64,
    /// Warming falls back to calm after so long below `end_below`. Default 30 s.
    #[serde(with = "duration")]
    pub relax_after: Duration,
    /// Spike turns to cooling after so long below `end_below`. Default 120 s.
    #[serde(with = "duration")]
    pub end_after: Duration,
    /// A spike lasts at least this long. Default 5 min.
    #[serde(with = "duration")]
    pub spike_least: Duration,
    /// Cooling turns to calm after so long. Default 4 min.
    #[serde(with = "duration")]
    pub cooling_for: Duration,
    /// Cooling turns back to spike at this pressure, and `end_after` doubles. Default 0.6.
    pub abort_at: f64,
    /// What `end_after` may grow to by doubling. Default 1 h.
    #[serde(with = "duration")]
    pub end_after_max: Duration,
}

impl Default for OverloadConfig {
    fn default() -> Self {
        Self {
            sample_every: Duration::from_millis(250),
            rate_window: Duration::from_secs(2),
            trend_window: Duration::from_secs(10),
            horizon: Duration::from_secs(30),
            egress_lo: 0.6,
            egress_hi: 0.9,
            warm_at: 0.5,
            warm_after: Duration::from_secs(2),
            spike_at: 0.75,
            spike_after: Duration::from_secs(3),
            spike_within: Duration::from_secs(5),
            end_below: 0.4,
            relax_after: Duration::from_secs(30),
            end_after: Duration::from_secs(120),
            spike_least: Duration::from_secs(300),
            cooling_for: Duration::from_secs(240),
            abort_at: 0.6,
            end_after_max: Duration::from_secs(3600),
        }
    }
}

impl OverloadConfig {
    /// Refuses thresholds that can never be met, or that would make the state flap at once.
    ///
    /// # Errors
    /// One line that names the key.
    pub fn check(&self) -> Result<(), String> {
        let share = |name: &str, value: f64| {
            if value.is_finite() && value > 0.0 && value <= 1.0 {
                Ok(())
            } else {
                Err(format!("overload.{name} must be above 0 and at most 1"))
            }
        };
        share("egress_lo", self.egress_lo)?;
        share("warm_at", self.warm_at)?;
        share("spike_at", self.spike_at)?;
        share("end_below", self.end_below)?;
        share("abort_at", self.abort_at)?;
        if !self.egress_hi.is_finite() || self.egress_hi <= self.egress_lo {
            return Err("overload.egress_hi must be above overload.egress_lo".into());
        }
        if self.end_below >= self.warm_at {
            return Err("overload.end_below must be below overload.warm_at".into());
        }
        if self.end_below >= self.abort_at {
            return Err("overload.end_below must be below overload.abort_at".into());
        }
        if self.sample_every < Duration::from_millis(10) {
            return Err("overload.sample_every must be at least 10ms".into());
        }
        if self.rate_window < self.sample_every {
            return Err("overload.rate_window must be at least overload.sample_every".into());
        }
        if self.trend_window < self.rate_window * 4 {
            return Err(
                "overload.trend_window must be at least 4 times overload.rate_window".into(),
            );
        }
        if self.spike_after > self.spike_within {
            return Err("overload.spike_after must not be above overload.spike_within".into());
        }
        Ok(())
    }
}

/// Read at one moment. All but `queued` are totals since the gate started and never go back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sample {
    /// Bytes sent to visitors.
    pub passed: u64,
    /// Bytes visitors were sent elsewhere for.
    pub diverted: u64,
    /// Bytes of what visitors are kept waiting for at this moment.
    pub queued: u64,
    /// Bytes sent to the swarm by this machine over the same uplink.
    pub swarm: u64,
}

/// What one signal says.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Reading {
    /// The signal's name.
    pub signal: &'static str,
    /// What was measured, in the unit of the signal's thresholds.
    pub value: f64,
    /// 0 to 1.
    pub pressure: f64,
}

/// The detector's answer to one sample.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    /// The state from now on.
    pub state: State,
    /// The state left by this sample, when it moved.
    pub from: Option<State>,
    /// The greatest pressure.
    pub pressure: f64,
    /// Every signal's reading: the reason.
    pub readings: Vec<Reading>,
}

/// `p = clamp((x - lo) / (hi - lo), 0, 1)`.
pub fn pressure(x: f64, lo: f64, hi: f64) -> f64 {
    ((x - lo) / (hi - lo)).clamp(0.0, 1.0)
}

/// Samples in, state out.
#[derive(Debug)]
pub struct OverloadDetector {
    config: OverloadConfig,
    egress: egress::Egress,
    state: State,
    entered: Instant,
    last: Instant,
    hot: Held,
    low: Held,
    met: MetWithin,
    end_after: Duration,
}

impl OverloadDetector {
    /// A calm detector for a plan of `plan_rate` bits per second.
    pub fn new(config: OverloadConfig, plan_rate: u64, now: Instant) -> Self {
        Self {
            egress: egress::Egress::new(&config, plan_rate),
            state: State::Calm,
            entered: now,
            last: now,
            hot: Held::default(),
            low: Held::default(),
            met: MetWithin::default(),
            end_after: config.end_after,
            config,
        }
    }

    /// The state as of the last sample.
    pub fn state(&self) -> State {
        self.state
    }

    /// How long the load must stay low before this spike ends; grows when cooling is aborted.
    pub fn end_after(&self) -> Duration {
        self.end_after
    }

    /// Takes one sample and says where the gate stands.
    pub fn observe(&mut self, now: Instant, sample: Sample) -> Verdict {
        let readings: Vec<Reading> = self.egress.observe(now, sample).into();
        let greatest = readings.iter().fold(0.0_f64, |p, r| p.max(r.pressure));
        let from = self.step(now, greatest);
        Verdict {
            state: self.state,
            from,
            pressure: greatest,
            readings,
        }
    }

    fn step(&mut self, now: Instant, pressure: f64) -> Option<State> {
        let passed = now.saturating_duration_since(self.last).min(CREDIT_MAX);
        self.last = now;
        let c = &self.config;
        let hot_at = if self.state == State::Cooling {
            c.abort_at
        } else {
            c.warm_at
        };
        let hot = self.hot.add(passed, pressure >= hot_at);
        let low = self.low.add(passed, pressure < c.end_below);
        let met = self
            .met
            .add(now, passed, pressure >= c.spike_at, c.spike_within);
        let in_state = now.saturating_duration_since(self.entered);

        let next = match self.state {
            State::Calm if hot >= c.warm_after && pressure >= hot_at => State::Warming,
            State::Warming if met >= c.spike_after && pressure >= c.spike_at => State::Spike,
            State::Warming if low >= c.relax_after && pressure < c.end_below => State::Calm,
            State::Spike
                if low >= self.end_after && pressure < c.end_below && in_state >= c.spike_least =>
            {
                State::Cooling
            }
            State::Cooling if hot >= c.warm_after && pressure >= hot_at => {
                self.end_after = (self.end_after * 2).min(c.end_after_max.max(c.end_after));
                State::Spike
            }
            State::Cooling if in_state >= c.cooling_for => {
                self.end_after = c.end_after;
                State::Calm
            }
            same => same,
        };
        if next == self.state {
            return None;
        }
        self.hot = Held::default();
        self.low = Held::default();
        // What was met in warming has been spent; what was met before calm turned to warming
        // counts on, or a cliff of visitors would wait for both dwell times one after the other.
        if next != State::Warming {
            self.met = MetWithin::default();
        }
        self.entered = now;
        Some(std::mem::replace(&mut self.state, next))
    }
}

/// How long a condition has held without a break.
#[derive(Debug, Default)]
struct Held {
    held: Duration,
}

impl Held {
    fn add(&mut self, passed: Duration, holds: bool) -> Duration {
        self.held = if holds {
            self.held.saturating_add(passed)
        } else {
            Duration::ZERO
        };
        self.held
    }
}

/// How much of the recent past a condition has held.
#[derive(Debug, Default)]
struct MetWithin {
    ticks: VecDeque<(Instant, Duration)>,
    sum: Duration,
}

impl MetWithin {
    fn add(&mut self, now: Instant, passed: Duration, holds: bool, within: Duration) -> Duration {
        if holds && !passed.is_zero() {
            self.ticks.push_back((now, passed));
            self.sum = self.sum.saturating_add(passed);
        }
        while let Some((at, credit)) = self.ticks.front().copied() {
            if now.saturating_duration_since(at) < within && self.ticks.len() <= TICKS_MAX {
                break;
            }
            self.ticks.pop_front();
            self.sum = self.sum.saturating_sub(credit);
        }
        self.sum
    }
}

/// Ticks kept: a minute of the shortest sampling interval.
const TICKS_MAX: usize = 6000;

#[cfg(test)]
mod tests;
