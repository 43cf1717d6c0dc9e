//! How long to go on seeding.

use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;
use swarm_peer::config::parse_duration;

use super::output::rate;
use super::progress::{Job, Sum};
use super::units::show_size;
use super::{Output, Running};

/// Between words about what goes out.
const WORDS_EVERY: Duration = Duration::from_secs(10);

/// When seeding has been enough; whichever comes first.
#[derive(Debug, Args, Clone, Default)]
pub(super) struct Until {
    /// Seed until so many times the content was sent, then stop.
    #[arg(long, value_name = "RATIO", env = "SWARM_PEER_SEED_RATIO", value_parser = parse_ratio)]
    pub(super) seed_ratio: Option<f64>,
    /// Seed for so long, then stop.
    #[arg(
        long,
        visible_alias = "stop-after",
        value_name = "TIME",
        env = "SWARM_PEER_SEED_TIME",
        value_parser = parse_duration
    )]
    pub(super) seed_time: Option<Duration>,
}

fn parse_ratio(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(ratio) if ratio.is_finite() && ratio >= 0.0 => Ok(ratio),
        _ => Err(format!("{text:?} is no ratio: expected a number, as 1.5")),
    }
}

impl Until {
    /// Whether any end is set.
    pub(super) fn is_set(&self) -> bool {
        self.seed_ratio.is_some() || self.seed_time.is_some()
    }

    /// Why it is enough, if so.
    fn reached(&self, sum: &Sum, seeded: Duration) -> Option<&'static str> {
        let sent = |ratio: f64| sum.up_bytes as f64 >= ratio * sum.total_bytes as f64;
        if self.seed_ratio.is_some_and(sent) {
            return Some("ratio");
        }
        self.seed_time
            .is_some_and(|time| seeded >= time)
            .then_some("time")
    }
}

/// Serves until a signal or until it is enough, and says from time to time what goes out.
pub(super) async fn serve(running: &Running, output: &Output, jobs: &[Job], until: &Until) {
    let began = Instant::now();
    let mut tick = tokio::time::interval(Duration::from_millis(500));
    let mut said_at = began;
    let mut said = None;
    loop {
        tokio::select! {
            () = running.shutdown.cancelled() => return,
            _ = tick.tick() => {}
        }
        let sum = Sum::of(jobs);
        if let Some(reason) = until.reached(&sum, began.elapsed()) {
            let fields = json!({ "reason": reason, "up_bytes": sum.up_bytes });
            output.event("enough", fields);
            let sent = show_size(sum.up_bytes);
            return output.say(&format!("seeded enough ({reason}), {sent} sent"));
        }
        let now = (sum.peers, sum.up_bytes);
        if said.is_some() && (said_at.elapsed() < WORDS_EVERY || said == Some(now)) {
            continue;
        }
        said_at = Instant::now();
        if said.replace(now).is_some() {
            output.event(
                "serving",
                json!({
                    "peers": sum.peers,
                    "up_bytes": sum.up_bytes,
                    "up_rate": sum.up_rate.round(),
                }),
            );
            output.say(&format!(
                "{} peers, {} sent, {}",
                sum.peers,
                show_size(sum.up_bytes),
                rate(sum.up_rate)
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enough_is_what_comes_first() {
        let until = Until {
            seed_ratio: Some(1.5),
            seed_time: Some(Duration::from_secs(60)),
        };
        let sum = |up_bytes| Sum {
            up_bytes,
            total_bytes: 1000,
            ..Sum::default()
        };
        let early = Duration::from_secs(1);
        assert_eq!(until.reached(&sum(1499), early), None);
        assert_eq!(until.reached(&sum(1500), early), Some("ratio"));
        assert_eq!(until.reached(&sum(0), early * 60), Some("time"));
        assert_eq!(Until::default().reached(&sum(9999), early * 999), None);
        for wrong in ["", "-1", "NaN", "inf", "one"] {
            assert!(parse_ratio(wrong).is_err(), "{wrong}");
        }
    }
}
