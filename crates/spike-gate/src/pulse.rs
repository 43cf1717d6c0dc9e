//! The gate's pulse: reads the meters, asks the detector, moves the state, and parts the line
//! between visitors and seed.

use std::sync::Arc;
use std::time::Instant;

use swarm_peer::uplink::Uplink;
use tokio::sync::{broadcast, watch};
use tokio::time::{MissedTickBehavior, interval};

use crate::divert::Shared;
use crate::gate::{GateConfig, GateEvent};
use crate::overload::{OverloadDetector, Sample, State, Verdict};
use crate::serve::Lanes;

/// Reads the meters, moves the state, and gives the seed room while it is needed.
pub(crate) struct Sampler {
    pub(crate) detector: OverloadDetector,
    pub(crate) shared: Arc<Shared>,
    pub(crate) uplink: Uplink,
    pub(crate) lanes: Lanes,
    pub(crate) config: GateConfig,
    pub(crate) events: broadcast::Sender<GateEvent>,
    pub(crate) verdict: watch::Sender<Verdict>,
    pub(crate) state: watch::Sender<State>,
}

/// The seed's weight on the line in calm and cooling, where visitors have 1.
const SEED_IDLE: f64 = 0.05;
/// The visitors' weight goes to large answers in this part.
const LARGE_PART: f64 = 0.6;
/// A line that is used to this part is full.
const FULL: f64 = 0.9;

impl Sampler {
    /// Until dropped.
    pub(crate) async fn run(mut self) {
        let mut tick = interval(self.config.overload.sample_every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = (Instant::now(), 0_u64);
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
            // A line of ours is full by all that is sent, one of others by what visitors get.
            let (sent, most) = match self.uplink.rate() {
                Some(rate) => (passed + swarm, rate),
                None => (passed, self.config.plan_rate),
            };
            let span = (now - last.0).as_secs_f64().max(0.001);
            let rate = sent.saturating_sub(last.1) as f64 * 8.0 / span;
            last = (now, sent);
            self.shared.lane().adapt(rate >= most as f64 * FULL);
            if let Some(from) = verdict.from {
                self.moved(from, &verdict);
            }
            self.share_line(verdict.state);
            self.verdict.send_replace(verdict);
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

    /// Weighs the lanes of the line; who has nothing to send leaves its share to the others.
    /// What the seed sends is what brings relief, the more so before the first bridge is there.
    fn share_line(&self, state: State) {
        let share = self.config.seed_share;
        let share = match state {
            State::Calm | State::Cooling => 0.0,
            State::Warming => share,
            State::Spike if self.shared.bridges().is_empty() => f64::midpoint(share, 1.0),
            State::Spike => share / 2.0,
        };
        self.uplink
            .set_weight((share / (1.0 - share)).max(SEED_IDLE));
        self.lanes.small.set_weight(1.0 - LARGE_PART);
        self.lanes.large.set_weight(LARGE_PART);
    }
}
