use super::*;

/// A simulated line: each step adds what was asked for in a quarter of a second.
struct Sim {
    now: Instant,
    start: Instant,
    sample: Sample,
    detector: OverloadDetector,
    moves: Vec<(f64, State)>,
}

const PLAN: u64 = 8_000_000;

impl Sim {
    fn new(config: OverloadConfig) -> Self {
        let now = Instant::now();
        let detector = OverloadDetector::new(config, PLAN, now);
        Self {
            now,
            start: now,
            sample: Sample::default(),
            detector,
            moves: Vec::new(),
        }
    }

    /// Runs `seconds` with visitors asking for `load` of the plan, `diverted` of that elsewhere,
    /// and the seed sending `swarm` of it.
    fn run(&mut self, seconds: f64, load: f64, diverted: f64, swarm: f64) -> State {
        let step = Duration::from_millis(250);
        let bytes = |share: f64| (share * PLAN as f64 / 8.0 * step.as_secs_f64()) as u64;
        for _ in 0..(seconds * 4.0).round() as u32 {
            self.now += step;
            self.sample.passed += bytes(load - diverted);
            self.sample.diverted += bytes(diverted);
            self.sample.swarm += bytes(swarm);
            let verdict = self.detector.observe(self.now, self.sample);
            assert!((0.0..=1.0).contains(&verdict.pressure));
            if verdict.from.is_some() {
                self.moves
                    .push(((self.now - self.start).as_secs_f64(), verdict.state));
            }
        }
        self.detector.state()
    }

    fn visited(&self) -> Vec<State> {
        self.moves.iter().map(|(_, state)| *state).collect()
    }
}

#[test]
fn steady_load_below_the_threshold_stays_calm() {
    for load in [0.0, 0.3, 0.5, 0.7] {
        let mut sim = Sim::new(OverloadConfig::default());
        assert_eq!(sim.run(600.0, load, 0.0, 0.0), State::Calm, "load {load}");
        assert!(sim.moves.is_empty());
    }
}

#[test]
fn a_cliff_of_visitors_is_a_spike_within_six_seconds() {
    let mut sim = Sim::new(OverloadConfig::default());
    sim.run(20.0, 0.2, 0.0, 0.0);
    assert_eq!(sim.run(6.0, 1.5, 0.0, 0.0), State::Spike);
    assert_eq!(sim.visited(), [State::Warming, State::Spike]);
}

#[test]
fn a_burst_shorter_than_the_dwell_time_is_no_wave() {
    let mut sim = Sim::new(OverloadConfig::default());
    for _ in 0..10 {
        sim.run(20.0, 0.1, 0.0, 0.0);
        sim.run(0.5, 2.0, 0.0, 0.0);
    }
    assert!(!sim.visited().contains(&State::Spike), "{:?}", sim.moves);
}

#[test]
fn load_just_over_the_warming_line_warms_but_does_not_divert() {
    let mut sim = Sim::new(OverloadConfig::default());
    assert_eq!(sim.run(120.0, 0.78, 0.0, 0.0), State::Warming);
    assert_eq!(sim.visited(), [State::Warming]);
    assert_eq!(sim.run(29.0, 0.3, 0.0, 0.0), State::Warming);
    assert_eq!(sim.run(5.0, 0.3, 0.0, 0.0), State::Calm);
}

#[test]
fn a_rising_load_warms_before_it_presses() {
    let mut sim = Sim::new(OverloadConfig::default());
    let mut load = 0.1;
    while sim.detector.state() == State::Calm && load < 0.9 {
        sim.run(1.0, load, 0.0, 0.0);
        load += 0.02;
    }
    assert!(load < 0.6, "warned only at {load}");
}

#[test]
fn a_forecast_alone_never_diverts() {
    let mut sim = Sim::new(OverloadConfig::default());
    // Saw teeth: steep, but never above 0.55 of the plan.
    for _ in 0..20 {
        for load in [0.05, 0.15, 0.25, 0.35, 0.45, 0.55] {
            sim.run(2.0, load, 0.0, 0.0);
        }
    }
    assert!(!sim.visited().contains(&State::Spike));
}

#[test]
fn diverting_does_not_end_the_spike() {
    let mut sim = Sim::new(OverloadConfig::default());
    sim.run(10.0, 3.0, 0.0, 0.0);
    assert_eq!(sim.detector.state(), State::Spike);
    // Nearly all of the wave is carried by others now, and the origin's own load is low.
    assert_eq!(sim.run(1800.0, 3.0, 2.9, 0.0), State::Spike);
    assert_eq!(sim.run(119.0, 0.2, 0.1, 0.0), State::Spike);
    assert_eq!(sim.run(5.0, 0.2, 0.1, 0.0), State::Cooling);
    assert_eq!(sim.run(241.0, 0.2, 0.0, 0.0), State::Calm);
}

#[test]
fn a_spike_lasts_at_least_its_least_time() {
    let mut sim = Sim::new(OverloadConfig::default());
    sim.run(8.0, 2.0, 0.0, 0.0);
    assert_eq!(sim.run(290.0, 0.0, 0.0, 0.0), State::Spike);
    assert_eq!(sim.run(15.0, 0.0, 0.0, 0.0), State::Cooling);
}

#[test]
fn a_second_wave_while_cooling_doubles_the_dwell_up_to_its_limit() {
    let config = OverloadConfig {
        end_after: Duration::from_secs(60),
        end_after_max: Duration::from_secs(200),
        spike_least: Duration::from_secs(10),
        ..OverloadConfig::default()
    };
    let mut sim = Sim::new(config);
    let mut dwell = Vec::new();
    for _ in 0..4 {
        sim.run(10.0, 2.0, 0.0, 0.0);
        assert_eq!(sim.detector.state(), State::Spike);
        dwell.push(sim.detector.end_after().as_secs());
        sim.run(210.0, 0.1, 0.0, 0.0);
        if sim.detector.state() == State::Calm {
            panic!("cooling is four minutes long");
        }
    }
    assert_eq!(dwell, [60, 120, 200, 200]);
    sim.run(600.0, 0.1, 0.0, 0.0);
    assert_eq!(sim.detector.state(), State::Calm);
    assert_eq!(sim.detector.end_after().as_secs(), 60);
}

#[test]
fn a_seed_that_fills_an_idle_line_is_no_pressure() {
    let mut sim = Sim::new(OverloadConfig::default());
    assert_eq!(sim.run(300.0, 0.05, 0.0, 0.95), State::Calm);
}

#[test]
fn visitors_squeezed_by_the_seed_still_count_as_a_wave() {
    let mut sim = Sim::new(OverloadConfig::default());
    sim.run(5.0, 1.0, 0.0, 0.0);
    assert_eq!(sim.run(20.0, 0.5, 0.0, 0.5), State::Spike);
}

#[test]
fn a_queue_keeps_the_spike_up_however_little_leaves() {
    let mut sim = Sim::new(OverloadConfig::default());
    sim.run(10.0, 1.2, 0.0, 0.0);
    assert_eq!(sim.detector.state(), State::Spike);
    sim.sample.queued = 5_000_000;
    assert_eq!(sim.run(900.0, 0.2, 0.0, 0.0), State::Spike);
    sim.sample.queued = 0;
    assert_eq!(sim.run(130.0, 0.2, 0.0, 0.0), State::Cooling);
}

#[test]
fn a_stalled_process_does_not_leap_over_dwell_times() {
    let mut sim = Sim::new(OverloadConfig::default());
    sim.run(8.0, 2.0, 0.0, 0.0);
    assert_eq!(sim.detector.state(), State::Spike);
    sim.now += Duration::from_secs(3600);
    assert_eq!(sim.run(1.0, 0.0, 0.0, 0.0), State::Spike);
}

#[test]
fn samples_that_go_back_are_no_load() {
    let mut sim = Sim::new(OverloadConfig::default());
    sim.run(5.0, 0.5, 0.0, 0.0);
    sim.sample = Sample::default();
    assert_eq!(sim.run(1.0, 0.0, 0.0, 0.0), State::Calm);
}

#[test]
fn memory_is_bounded_whatever_the_rate_of_samples() {
    let mut sim = Sim::new(OverloadConfig::default());
    for _ in 0..50_000 {
        sim.now += Duration::from_micros(10);
        sim.sample.passed += 1_000;
        sim.detector.observe(sim.now, sim.sample);
    }
    assert!(sim.detector.met.ticks.len() <= TICKS_MAX + 1);
}

#[test]
fn thresholds_that_cannot_work_are_refused() {
    assert_eq!(OverloadConfig::default().check(), Ok(()));
    let bad: [fn(&mut OverloadConfig); 7] = [
        |c| c.egress_hi = c.egress_lo,
        |c| c.warm_at = 1.5,
        |c| c.spike_at = f64::NAN,
        |c| c.end_below = c.warm_at,
        |c| c.sample_every = Duration::ZERO,
        |c| c.rate_window = Duration::from_millis(1),
        |c| c.spike_after = c.spike_within * 2,
    ];
    for change in bad {
        let mut config = OverloadConfig::default();
        change(&mut config);
        assert!(config.check().is_err(), "{config:?}");
    }
}
