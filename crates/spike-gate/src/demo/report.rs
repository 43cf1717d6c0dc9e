//! The verdict: in figures for machines, in a table for people.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use super::visitor::Counts;

/// With the gate at least this many times the pages must complete.
const TIMES_MORE: u64 = 10;

/// This share of all pages must complete with the gate.
const COMPLETE_LEAST: f64 = 0.99;

/// How the pages of one run went.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Pages {
    /// Loaded whole, in time and with the right bytes.
    pub pages_completed: u64,
    /// All others.
    pub pages_failed: u64,
    /// Median load time of completed pages.
    pub p50_ms: Option<u64>,
    /// 95th percentile of the same.
    pub p95_ms: Option<u64>,
}

impl Pages {
    /// Of the counts of a run that has ended.
    pub(super) fn of(counts: &Counts) -> Self {
        let mut times = counts.completed.clone();
        times.sort_unstable();
        Self {
            pages_completed: times.len() as u64,
            pages_failed: counts.failed,
            p50_ms: percentile(&times, 50),
            p95_ms: percentile(&times, 95),
        }
    }
}

/// Nearest rank, in milliseconds.
fn percentile(sorted: &[Duration], percent: usize) -> Option<u64> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    let time = sorted.get(rank - 1)?;
    Some(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

/// The second run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct WithGate {
    /// Its pages.
    #[serde(flatten)]
    pub pages: Pages,
    /// Bytes that left the site's host: pages, redirects, and what the volunteers fetched.
    pub origin_bytes: u64,
    /// Bytes that left the volunteers.
    pub volunteer_bytes: u64,
    /// From the gate's first overload to the first visitor it sent elsewhere.
    pub relief_ms: Option<u64>,
    /// Bytes a visitor got that are not what the manifest says.
    pub wrong_bytes: u64,
}

/// What `--json` prints.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Report {
    /// First run: the origin and its line.
    pub origin_alone: Pages,
    /// Second run: the same crowd at the gate.
    pub with_gate: WithGate,
    /// On the plateau, the rate of all hosts over the sum of their uplinks.
    pub uplinks_used: f64,
    /// Whether the second run did what was promised.
    pub verdict: Verdict,
}

/// Pass or fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    /// All was kept that was promised.
    Pass,
    /// Something was not; [`Report::shortfalls`] says what.
    Fail,
}

/// What only the table shows.
#[derive(Debug, Clone, Default)]
pub(super) struct Details {
    /// Bytes that left the site's host in the first run.
    pub alone_bytes: u64,
    /// Bytes of the site's host that went to peers, of those in `origin_bytes`.
    pub seeded_bytes: u64,
    /// Bytes that left each volunteer.
    pub volunteers: Vec<u64>,
    /// Rate of all hosts on the plateau, bits per second.
    pub plateau_rate: f64,
    /// Sum of the uplinks, bits per second.
    pub uplinks: f64,
    /// Why pages failed: alone, and with the gate.
    pub reasons: [Vec<(String, u64)>; 2],
}

impl Report {
    /// Puts the figures together and judges them.
    pub(super) fn new(origin_alone: Pages, with_gate: WithGate, uplinks_used: f64) -> Self {
        let mut report = Self {
            origin_alone,
            with_gate,
            uplinks_used: (uplinks_used.clamp(0.0, 1.0) * 1000.0).round() / 1000.0,
            verdict: Verdict::Pass,
        };
        if !report.shortfalls().is_empty() {
            report.verdict = Verdict::Fail;
        }
        report
    }

    /// What was promised and not kept.
    pub(super) fn shortfalls(&self) -> Vec<String> {
        let mut out = Vec::new();
        let alone = self.origin_alone.pages_completed;
        let pages = &self.with_gate.pages;
        if pages.pages_completed < alone.max(1) * TIMES_MORE {
            out.push(format!(
                "{} pages with the gate are less than {TIMES_MORE} times the {alone} without",
                pages.pages_completed
            ));
        }
        let all = pages.pages_completed + pages.pages_failed;
        if (pages.pages_completed as f64) < all as f64 * COMPLETE_LEAST {
            out.push(format!(
                "{} of {all} pages failed with the gate",
                pages.pages_failed
            ));
        }
        if self.with_gate.wrong_bytes > 0 {
            out.push(format!(
                "{} wrong bytes reached visitors",
                self.with_gate.wrong_bytes
            ));
        }
        out
    }

    /// The table.
    pub(super) fn table(&self, details: &Details) -> String {
        let mut out = String::new();
        let alone = &self.origin_alone;
        let gate = &self.with_gate;
        let ms = |value: Option<u64>| value.map_or("–".to_owned(), |ms| format!("{ms} ms"));
        let mut row = |name: &str, a: &str, b: &str| {
            let _ = writeln!(out, "  {name:<24}{a:>16}{b:>16}");
        };
        row("", "origin alone", "with the gate");
        let count = |n: u64| n.to_string();
        row(
            "pages completed",
            &count(alone.pages_completed),
            &count(gate.pages.pages_completed),
        );
        row(
            "pages failed",
            &count(alone.pages_failed),
            &count(gate.pages.pages_failed),
        );
        row(
            "load time, median",
            &ms(alone.p50_ms),
            &ms(gate.pages.p50_ms),
        );
        row("load time, 95 %", &ms(alone.p95_ms), &ms(gate.pages.p95_ms));
        row(
            "from the site's host",
            &megabytes(details.alone_bytes),
            &megabytes(gate.origin_bytes),
        );
        row(
            "  of that to volunteers",
            "",
            &megabytes(details.seeded_bytes),
        );
        for (i, bytes) in details.volunteers.iter().enumerate() {
            row(&format!("from volunteer {}", i + 1), "", &megabytes(*bytes));
        }
        row("wrong bytes", "", &count(gate.wrong_bytes));
        row("overload to relief", "", &ms(gate.relief_ms));
        let used = format!("{:.0} %", self.uplinks_used * 100.0);
        row("uplinks used on plateau", "", &used);
        let _ = writeln!(
            out,
            "  {:.0} of {:.0} Mbit/s left all hosts while the crowd was at its largest",
            details.plateau_rate / 1e6,
            details.uplinks / 1e6
        );
        for (name, reasons) in ["origin alone", "with the gate"]
            .iter()
            .zip(&details.reasons)
        {
            for (reason, times) in reasons {
                let _ = writeln!(out, "  {name}: {times} × {reason}");
            }
        }
        let _ = match self.verdict {
            Verdict::Pass => {
                let times = gate.pages.pages_completed / alone.pages_completed.max(1);
                writeln!(
                    out,
                    "\n  PASS: {times} times as many pages, every byte as signed"
                )
            }
            Verdict::Fail => writeln!(out, "\n  FAIL: {}", self.shortfalls().join("; ")),
        };
        out
    }
}

/// Bytes in decimal megabytes.
pub(super) fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(completed: u64, failed: u64) -> Pages {
        Pages {
            pages_completed: completed,
            pages_failed: failed,
            p50_ms: (completed > 0).then_some(100),
            p95_ms: (completed > 0).then_some(300),
        }
    }

    fn report(alone: u64, with: u64, failed: u64, wrong_bytes: u64) -> Report {
        let with_gate = WithGate {
            pages: pages(with, failed),
            origin_bytes: 1,
            volunteer_bytes: 2,
            relief_ms: Some(3),
            wrong_bytes,
        };
        Report::new(pages(alone, 400), with_gate, 0.51239)
    }

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let times: Vec<_> = (1..=20).map(Duration::from_millis).collect();
        assert_eq!(percentile(&times, 50), Some(10));
        assert_eq!(percentile(&times, 95), Some(19));
        assert_eq!(percentile(&times[..1], 95), Some(1));
        assert_eq!(percentile(&[], 50), None);
    }

    #[test]
    fn each_broken_promise_fails_the_verdict() {
        assert_eq!(report(40, 400, 4, 0).verdict, Verdict::Pass);
        assert_eq!(report(0, 400, 0, 0).verdict, Verdict::Pass);
        for (alone, with, failed, wrong) in [
            (41, 400, 0, 0),
            (40, 400, 5, 0),
            (40, 400, 0, 1),
            (0, 9, 0, 0),
            (0, 0, 0, 0),
        ] {
            let report = report(alone, with, failed, wrong);
            assert_eq!(report.verdict, Verdict::Fail, "{report:?}");
            assert!(report.table(&Details::default()).contains("FAIL"));
        }
    }

    #[test]
    fn the_json_has_the_fields_that_are_promised() {
        let json = serde_json::to_value(report(0, 400, 0, 0)).unwrap();
        let expected = serde_json::json!({
            "origin_alone": {"pages_completed": 0, "pages_failed": 400, "p50_ms": null, "p95_ms": null},
            "with_gate": {"pages_completed": 400, "pages_failed": 0, "p50_ms": 100, "p95_ms": 300,
                "origin_bytes": 1, "volunteer_bytes": 2, "relief_ms": 3, "wrong_bytes": 0},
            "uplinks_used": 0.512, "verdict": "pass"
        });
        assert_eq!(json, expected);
    }
}
