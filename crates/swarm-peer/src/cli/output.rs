//! What people and machines see: events, progress, log.

use std::io::{self, IsTerminal as _, Write};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use swarm_peer::{SwarmState, SwarmStats};

/// Between lines of progress where there is no terminal.
const LINES_EVERY: Duration = Duration::from_secs(5);

/// Bars that the log must not write across.
fn bars() -> &'static MultiProgress {
    static BARS: OnceLock<MultiProgress> = OnceLock::new();
    BARS.get_or_init(MultiProgress::new)
}

/// Sets the log up: to standard error, coloured on a terminal only.
pub(super) fn log(quiet: u8, verbose: u8) {
    let level = match (quiet, verbose) {
        (0, 0) => "info",
        (0, 1) => "debug",
        (0, _) => "trace",
        (1, _) => "warn",
        _ => "error",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
    let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| AroundBars)
        .with_ansi(colour)
        .init();
}

struct AroundBars;

impl Write for AroundBars {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        bars().suspend(|| io::stderr().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Events as JSON, or words for people.
pub(crate) struct Output {
    json: bool,
    began: Instant,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self {
            json,
            began: Instant::now(),
        }
    }

    /// One line of JSON, `event` first; nothing without `--json`.
    pub(crate) fn event(&self, event: &str, fields: Value) {
        if !self.json {
            return;
        }
        let mut text = format!("{{\"event\":{}", json!(event));
        if let Value::Object(fields) = fields {
            for (key, value) in fields {
                text.push_str(&format!(",{}:{value}", json!(key)));
            }
        }
        text.push_str("}\n");
        let mut out = io::stdout().lock();
        // Whoever closed the pipe does not want to know.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }

    /// A line for people; nothing with `--json`.
    pub(crate) fn say(&self, text: &str) {
        if !self.json {
            let _ = bars().suspend(|| writeln!(io::stdout(), "{text}"));
        }
    }

    /// Seconds since the start.
    pub(crate) fn seconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// A view of progress: a bar on a terminal, else lines or events.
    pub(crate) fn progress(&self, what: &str) -> Progress<'_> {
        let bar = (!self.json && io::stderr().is_terminal()).then(|| {
            let bar = bars().add(ProgressBar::new(0));
            let template = "{msg} {wide_bar} {bytes}/{total_bytes} {prefix} {eta}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar.set_message(what.to_owned());
            bar
        });
        Progress {
            output: self,
            what: what.to_owned(),
            bar,
            line_at: Instant::now(),
            told: None,
        }
    }
}

/// Progress of one command.
pub(crate) struct Progress<'a> {
    output: &'a Output,
    what: String,
    bar: Option<ProgressBar>,
    line_at: Instant,
    /// Pieces had when last told.
    told: Option<u64>,
}

/// The sum of several swarms.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Sum {
    pub(crate) have: u64,
    pub(crate) pieces: u64,
    pub(crate) total_bytes: u64,
    pub(crate) checking: bool,
    pub(crate) checked: u64,
    pub(crate) peers: usize,
    pub(crate) down_bytes: u64,
    pub(crate) up_bytes: u64,
    pub(crate) down_rate: f64,
    pub(crate) up_rate: f64,
}

impl Sum {
    pub(crate) fn of(all: &[SwarmStats]) -> Self {
        let mut sum = Self::default();
        for stats in all {
            sum.have += u64::from(stats.have);
            sum.pieces += u64::from(stats.pieces);
            sum.total_bytes += stats.total_bytes;
            sum.checking |= stats.state == SwarmState::Checking;
            sum.checked += u64::from(stats.checked);
            sum.peers += stats.peers;
            sum.down_bytes += stats.down_bytes;
            sum.up_bytes += stats.up_bytes;
            sum.down_rate += stats.down_rate;
            sum.up_rate += stats.up_rate;
        }
        sum
    }

    /// Bytes had, to a piece.
    fn done_bytes(&self) -> u64 {
        let done = if self.checking {
            self.checked
        } else {
            self.have
        };
        match self.pieces {
            0 => 0,
            pieces => (u128::from(self.total_bytes) * u128::from(done) / u128::from(pieces))
                .try_into()
                .unwrap_or(u64::MAX),
        }
    }
}

impl Progress<'_> {
    /// Shows how far things are; call it twice a second.
    pub(crate) fn show(&mut self, sum: &Sum) {
        if let Some(bar) = &self.bar {
            bar.set_length(sum.total_bytes);
            bar.set_position(sum.done_bytes());
            let doing = match sum.checking {
                true => String::from("checking"),
                false => format!("{}, {} peers", rate(sum.down_rate), sum.peers),
            };
            bar.set_prefix(doing);
        }
        if sum.checking {
            return;
        }
        if self.output.json && self.told != Some(sum.have) {
            self.told = Some(sum.have);
            let fields = json!({
                "have": sum.have,
                "pieces": sum.pieces,
                "bytes": sum.done_bytes(),
                "total_bytes": sum.total_bytes,
                "peers": sum.peers,
                "down_bytes": sum.down_bytes,
                "down_rate": sum.down_rate.round(),
            });
            self.output.event("progress", fields);
        }
        if !self.output.json && self.bar.is_none() && self.line_at.elapsed() >= LINES_EVERY {
            self.line_at = Instant::now();
            let line = format!(
                "{}: {} of {} pieces, {}, {} peers",
                self.what,
                sum.have,
                sum.pieces,
                rate(sum.down_rate),
                sum.peers
            );
            self.output.say(&line);
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Bytes a second for people.
pub(crate) fn rate(bytes: f64) -> String {
    match bytes * 8.0 {
        bits if bits >= 1e9 => format!("{:.2} Gbit/s", bits / 1e9),
        bits if bits >= 1e6 => format!("{:.1} Mbit/s", bits / 1e6),
        bits => format!("{:.0} kbit/s", bits / 1e3),
    }
}
