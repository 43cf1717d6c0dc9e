//! `status`: asks the running gate, twice, so that rates can be told.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use spike_gate::admin::{Snapshot, ask, socket_path};

use crate::cli::Failure;

/// Between the two looks.
const SPAN: Duration = Duration::from_millis(500);

/// What is printed.
pub(crate) async fn status(state_dir: &Path, json: bool) -> Result<String, Failure> {
    let path = socket_path(state_dir);
    let look = async || {
        let asked = ask(&path).await;
        asked
            .with_context(|| format!("no gate answers at {}", path.display()))
            .map_err(Failure::unavailable)
    };
    let before = look().await?;
    tokio::time::sleep(SPAN).await;
    let now = look().await?;
    let rates = Rates::between(&before, &now);
    if json {
        let mut value = serde_json::to_value(&now).context("status cannot be shown")?;
        if let Some(object) = value.as_object_mut() {
            object.insert(
                "rates".into(),
                serde_json::json!({
                    "visitors_bits_per_s": rates.visitors,
                    "diverted_bits_per_s": rates.diverted,
                    "seed_bits_per_s": rates.seed,
                }),
            );
        }
        return Ok(format!("{value}\n"));
    }
    Ok(text(&now, &rates))
}

/// Bits per second.
struct Rates {
    visitors: u64,
    diverted: u64,
    seed: u64,
}

impl Rates {
    fn between(before: &Snapshot, now: &Snapshot) -> Self {
        let rate = |now: u64, before: u64| {
            (now.saturating_sub(before) as f64 * 8.0 / SPAN.as_secs_f64()) as u64
        };
        let (a, b) = (&before.bytes, &now.bytes);
        Self {
            visitors: rate(b.origin, a.origin),
            diverted: rate(b.redirected + b.rewritten, a.redirected + a.rewritten),
            seed: rate(b.seed, a.seed),
        }
    }
}

fn text(now: &Snapshot, rates: &Rates) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: String| {
        // Writing to a string does not fail.
        let _ = writeln!(out, "{name:<12} {value}");
    };
    line(
        "state",
        format!("{} (pressure {:.2})", now.state, now.pressure),
    );
    for (name, value, pressure) in &now.signals {
        line(
            "",
            format!("{name} {value:.2} of the plan, pressure {pressure:.2}"),
        );
    }
    line("site", format!("{} at http://{}", now.site, now.http));
    line("root key", now.root_key.clone());
    line("published", format!("{} files", now.files));
    line(
        "rates",
        format!(
            "visitors {}, diverted {}, seed {}, plan {}",
            bits(rates.visitors),
            bits(rates.diverted),
            bits(rates.seed),
            bits(now.plan_rate)
        ),
    );
    line(
        "requests",
        format!(
            "{}, redirected {}, pages rewritten {}, failed at the origin {}",
            now.requests, now.redirects, now.pages_rewritten, now.origin_failures
        ),
    );
    let b = &now.bytes;
    line(
        "bytes",
        format!(
            "origin {}, seed {}, redirected {}, rewritten {}",
            bytes(b.origin),
            bytes(b.seed),
            bytes(b.redirected),
            bytes(b.rewritten)
        ),
    );
    line("bridges", now.bridges.len().to_string());
    for bridge in &now.bridges {
        let sum = b
            .by_bridge
            .iter()
            .find(|(name, _)| name == bridge)
            .map_or(0, |(_, sum)| *sum);
        line("", format!("{bridge} redirected {}", bytes(sum)));
    }
    out
}

fn scaled(value: u64, unit: &str) -> String {
    let value = value as f64;
    let (scaled, prefix) = match value {
        v if v >= 1e9 => (v / 1e9, "G"),
        v if v >= 1e6 => (v / 1e6, "M"),
        v if v >= 1e3 => (v / 1e3, "k"),
        v => return format!("{v:.0} {unit}"),
    };
    format!("{scaled:.1} {prefix}{unit}")
}

fn bits(value: u64) -> String {
    scaled(value, "bit/s")
}

fn bytes(value: u64) -> String {
    scaled(value, "B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_at_a_glance() {
        assert_eq!(bits(0), "0 bit/s");
        assert_eq!(bits(8_000_000), "8.0 Mbit/s");
        assert_eq!(bytes(1_234_567_890), "1.2 GB");
        assert_eq!(bytes(999), "999 B");
    }
}
