//! What people and machines see: events, words, log.

use std::io::{self, IsTerminal as _, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use indicatif::MultiProgress;
use serde_json::{Value, json};

static QUIET: AtomicBool = AtomicBool::new(false);

/// Whether people asked for as little as possible: no bars, and no words but results and errors.
pub(super) fn quiet() -> bool {
    QUIET.load(Ordering::Relaxed)
}

/// Bars that the log must not write across.
pub(super) fn bars() -> &'static MultiProgress {
    static BARS: OnceLock<MultiProgress> = OnceLock::new();
    BARS.get_or_init(MultiProgress::new)
}

/// Sets the log up: to standard error, coloured on a terminal only.
pub(super) fn log(quiet: u8, verbose: u8) {
    QUIET.store(quiet > 0, Ordering::Relaxed);
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

    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// A line for people; nothing with `--json` or `--quiet`.
    pub(crate) fn say(&self, text: &str) {
        if !self.json && !quiet() {
            let _ = bars().suspend(|| writeln!(io::stdout(), "{text}"));
        }
    }

    /// Seconds since the start.
    pub(crate) fn seconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
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
