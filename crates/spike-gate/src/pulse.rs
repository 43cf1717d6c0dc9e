//! The gate's pulse: reads the meters, asks the detector, moves the state, and parts the line
//! between visitors and seed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use swarm_peer::uplink::Uplink;
use tokio::sync::{broadcast, watch};
use tokio::time::{MissedTickBehavior, interval};

use crate::divert::Shared;
use crate::gate::{GateConfig, GateEvent};
use crate::overload::{OverloadDetector, Sample, State, Verdict};

/// Reads the meters, moves the state, and gives the seed room while it is needed.
pub(crate) struct Sampler {
    pub(crate) detector: OverloadDetector,
    pub(crate) shared: Arc<Shared>,
    pub(crate) uplink: Uplink,
    pub(crate) visitors: Uplink,
    pub(crate) heavy: Uplink,
    pub(crate) config: GateConfig,
    pub(crate) events: broadcast::Sender<GateEvent>,
    pub(crate) verdict: watch::Sender<Verdict>,
    pub(crate) state: watch::Sender<State>,
}

/// How long the seed's room is kept free after warming began, before anybody has asked for a
/// piece.
const FEED_LEAD: Duration = Duration::from_secs(5);
/// The seed is at work while it sends more than this share of the uplink.
const FEED_LEAST: f64 = 0.02;
/// Visitors' share of the line at most. The rest keeps the line's own queue short.
const VISITORS_MOST: f64 = 0.97;
/// Of that, the share of large answers in a spike.
const HEAVY_MOST: f64 = 0.6;

impl Sampler {
    /// Until dropped.
    pub(crate) async fn run(mut self) {
        let mut tick = interval(self.config.overload.sample_every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut in_need_since: Option<Instant> = None;
        let mut last = (Instant::now(), 0_u64);
        let mut last_passed = 0;
        let mut seed_rate = 0.0_f64;
        loop {
            tick.tick().await;
            let now = Instant::now();
            let meter = self.shared.meter();
            let passed = meter.passed();
            let swarm = self.uplink.sent_total().saturating_sub(passed);
            let sample = Sample {
                passed,
                diverted: meter.diverted(),
                swarm,
                queued: meter.queued(),
            };
            let verdict = self.detector.observe(now, sample);
            if verdict.pressure >= self.config.overload.spike_at {
                meter.overloaded(now);
            }
            let span = (now - last.0).as_secs_f64().max(0.001);
            let rate = swarm.saturating_sub(last.1) as f64 * 8.0 / span;
            last = (now, swarm);
            seed_rate += (rate - seed_rate) * 0.25;
            if let Some(from) = verdict.from {
                self.moved(from, &verdict);
                in_need_since = verdict
                    .state
                    .in_need()
                    .then(|| in_need_since.unwrap_or(now));
            }
            let sent = passed.saturating_sub(last_passed) as f64 * 8.0 / span;
            last_passed = passed;
            self.shared.lane().adapt(sent >= self.full_at());
            self.make_room(in_need_since.map(|since| now - since), seed_rate);
            self.verdict.send_replace(verdict);
        }
    }

    /// The visitors' rate at which the line counts as full.
    fn full_at(&self) -> f64 {
        match self.heavy.rate().or(self.visitors.rate()) {
            Some(part) => part as f64 * 0.8,
            None => self.config.plan_rate as f64 * 0.95,
        }
    }

    fn moved(&self, from: State, verdict: &Verdict) {
        tracing::info!(%from, to = %verdict.state, pressure = verdict.pressure, "state");
        self.shared.set_state(verdict.state);
        self.state.send_replace(verdict.state);
        let _ = self.events.send(GateEvent::State {
            from,
            to: verdict.state,
            pressure: verdict.pressure,
            why: verdict.readings.clone(),
        });
    }

    /// Parts the line. Visitors queue before it, not on it, so that what the seed and the tracker
    /// say is not held up by pictures; while volunteers fetch, the seed has a share of its own;
    /// and in a spike large answers leave room for pages and redirects.
    fn make_room(&self, in_need: Option<Duration>, seed_rate: f64) {
        let Some(line) = self.uplink.rate().map(|rate| rate as f64) else {
            return;
        };
        let feeding =
            in_need.is_some_and(|since| since < FEED_LEAD || seed_rate > line * FEED_LEAST);
        let state = self.detector.state();
        let seed = match state {
            _ if !feeding => 0.0,
            State::Spike => f64::midpoint(self.config.seed_share, 1.0),
            _ => self.config.seed_share,
        };
        let visitors = line * VISITORS_MOST * (1.0 - seed);
        self.visitors.set_rate(Some(visitors as u64));
        let heavy = (state == State::Spike).then_some((visitors * HEAVY_MOST) as u64);
        self.heavy.set_rate(heavy);
    }
}
