//! How far things are: bars on a terminal, lines where there is none, events with `--json`.

use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use swarm_peer::{SwarmHandle, SwarmState, SwarmStats};
use swarm_proto::geometry::ByteRange;

use super::bars::{self, Shown};
use super::output::{Output, bars, quiet, rate};
use super::units::{show_duration, show_size};

/// Between lines of progress where there is no terminal.
const LINES_EVERY: Duration = Duration::from_secs(5);

/// Columns of a terminal that does not say how many it has.
const WIDTH: u16 = 80;

/// One bundle, and what is wanted of it.
pub(crate) struct Job {
    pub(crate) handle: SwarmHandle,
    /// Content ranges; everything if `None`.
    pub(crate) wanted: Option<Vec<ByteRange>>,
}

impl From<SwarmHandle> for Job {
    fn from(handle: SwarmHandle) -> Self {
        Self {
            handle,
            wanted: None,
        }
    }
}

impl Job {
    /// Whether all that is wanted is stored, and its files are finished.
    pub(crate) fn is_done(&self) -> bool {
        match (self.handle.state(), &self.wanted) {
            (SwarmState::Seeding, _) => true,
            // It may not have heard yet of what is wanted.
            (SwarmState::Finished, Some(wanted)) => {
                wanted.iter().all(|range| self.handle.holds(range))
            }
            _ => false,
        }
    }

    fn sum(&self, stats: &SwarmStats) -> Sum {
        let checking = stats.state == SwarmState::Checking;
        let (mut done, mut total) = match stats.pieces {
            0 => (0, stats.total_bytes),
            pieces => {
                let part = if checking { stats.checked } else { stats.have };
                let done = u128::from(stats.total_bytes) * u128::from(part) / u128::from(pieces);
                (u64::try_from(done).unwrap_or(u64::MAX), stats.total_bytes)
            }
        };
        if let Some(wanted) = self.wanted.as_ref().filter(|_| !checking) {
            done = self.handle.held_bytes(wanted);
            total = wanted.iter().map(ByteRange::len).sum();
        }
        Sum {
            have: stats.have.into(),
            pieces: stats.pieces.into(),
            done_bytes: done,
            total_bytes: total,
            unknown: usize::from(stats.pieces == 0),
            checking,
            paused: stats.state == SwarmState::Paused,
            checked: stats.checked.into(),
            peers: stats.peers,
            down_bytes: stats.down_bytes,
            up_bytes: stats.up_bytes,
            down_rate: stats.down_rate,
            up_rate: stats.up_rate,
        }
    }
}

/// One bundle's figures, or the sum of several.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Sum {
    pub(crate) have: u64,
    pub(crate) pieces: u64,
    /// Bytes had of those that are wanted, to a piece; while checking, those looked at.
    pub(crate) done_bytes: u64,
    /// Bytes wanted.
    pub(crate) total_bytes: u64,
    /// Bundles of which it is not known how much there is.
    pub(crate) unknown: usize,
    pub(crate) checking: bool,
    /// All of them rest.
    pub(crate) paused: bool,
    pub(crate) checked: u64,
    pub(crate) peers: usize,
    pub(crate) down_bytes: u64,
    pub(crate) up_bytes: u64,
    pub(crate) down_rate: f64,
    pub(crate) up_rate: f64,
}

impl Sum {
    pub(crate) fn of(jobs: &[Job]) -> Self {
        let mut all = Self::default();
        for job in jobs {
            all.add(&job.sum(&job.handle.stats()));
        }
        all
    }

    pub(super) fn add(&mut self, one: &Self) {
        let first = *self == Self::default();
        self.paused = one.paused && (self.paused || first);
        self.unknown += one.unknown;
        self.have += one.have;
        self.pieces += one.pieces;
        self.done_bytes = self.done_bytes.saturating_add(one.done_bytes);
        self.total_bytes = self.total_bytes.saturating_add(one.total_bytes);
        self.checking |= one.checking;
        self.checked += one.checked;
        self.peers += one.peers;
        self.down_bytes = self.down_bytes.saturating_add(one.down_bytes);
        self.up_bytes = self.up_bytes.saturating_add(one.up_bytes);
        self.down_rate += one.down_rate;
        self.up_rate += one.up_rate;
    }

    /// Whether all that is wanted is here.
    pub(super) fn is_done(&self) -> bool {
        !self.checking
            && self.unknown == 0
            && self.pieces > 0
            && self.done_bytes >= self.total_bytes
    }

    /// Seconds until all is here, at the rate of the moment.
    pub(super) fn left(&self) -> Option<f64> {
        let bytes = self.total_bytes.saturating_sub(self.done_bytes) as f64;
        let known = self.unknown == 0 && !self.checking;
        (known && self.down_rate >= 1.0).then(|| bytes / self.down_rate)
    }

    /// What it does, where that is all there is to say.
    pub(super) fn in_one_word(&self) -> Option<&'static str> {
        match self {
            sum if sum.checking => Some("checking"),
            sum if sum.is_done() => Some("done"),
            sum if sum.paused => Some("paused"),
            _ => None,
        }
    }

    pub(super) fn in_words(&self) -> String {
        if let Some(word) = self.in_one_word() {
            return word.into();
        }
        let peers = match self.peers {
            1 => "1 peer".into(),
            peers => format!("{peers} peers"),
        };
        // Nothing else can come before.
        if self.unknown > 0 && self.pieces == 0 {
            return format!("metadata, {peers}");
        }
        let mut words = format!("↓ {}", rate(self.down_rate));
        if self.up_bytes > 0 {
            words.push_str(&format!(" ↑ {}", rate(self.up_rate)));
        }
        words.push_str(&format!(", {peers}"));
        if let Some(left) = self.left() {
            words.push_str(&format!(", {} left", show_duration(left)));
        }
        words
    }
}

/// Progress of one command.
pub(crate) struct Progress<'a> {
    output: &'a Output,
    what: String,
    /// One for each line; none off a terminal.
    bars: Vec<ProgressBar>,
    on_terminal: bool,
    line_at: Instant,
    /// Pieces had when last told.
    told: Option<u64>,
}

impl<'a> Progress<'a> {
    /// Of the command or site that `what` names.
    pub(crate) fn new(output: &'a Output, what: &str) -> Self {
        Self {
            output,
            what: what.to_owned(),
            bars: Vec::new(),
            on_terminal: !output.is_json() && !quiet() && io::stderr().is_terminal(),
            line_at: Instant::now(),
            told: None,
        }
    }

    /// Shows how far things are, and returns it; call it some times a second.
    pub(crate) fn show(&mut self, jobs: &[Job]) -> Sum {
        let all: Vec<SwarmStats> = jobs.iter().map(|job| job.handle.stats()).collect();
        let sums: Vec<Sum> = jobs.iter().zip(&all).map(|(job, s)| job.sum(s)).collect();
        let mut sum = Sum::default();
        sums.iter().for_each(|one| sum.add(one));
        if self.on_terminal {
            let shown = jobs.iter().zip(all).zip(&sums);
            let shown: Vec<Shown> = shown
                .map(|((job, stats), sum)| Shown {
                    name: stats.name,
                    id: first_digits(job),
                    sum: *sum,
                })
                .collect();
            self.draw(&bars::lines(&self.what, &shown, width()));
        }
        if sum.checking {
            return sum;
        }
        if self.told != Some(sum.have) {
            self.told = Some(sum.have);
            let fields = json!({
                "have": sum.have,
                "pieces": sum.pieces,
                "bytes": sum.done_bytes,
                "total_bytes": sum.total_bytes,
                "peers": sum.peers,
                "down_bytes": sum.down_bytes,
                "down_rate": sum.down_rate.round(),
                "up_bytes": sum.up_bytes,
                "up_rate": sum.up_rate.round(),
                "seconds_left": sum.left().map(f64::round),
            });
            self.output.event("progress", fields);
        }
        if !self.on_terminal && self.line_at.elapsed() >= LINES_EVERY {
            self.line_at = Instant::now();
            let line = format!(
                "{}: {} of {}, {}",
                self.what,
                show_size(sum.done_bytes),
                show_size(sum.total_bytes),
                sum.in_words()
            );
            self.output.say(&line);
        }
        sum
    }

    fn draw(&mut self, lines: &[String]) {
        while self.bars.len() < lines.len() {
            self.bars.push(new_bar());
        }
        for (bar, line) in self.bars.iter().zip(lines) {
            bar.set_message(line.clone());
        }
    }

    /// Takes the bars away.
    pub(crate) fn finish(&mut self) {
        for bar in self.bars.drain(..) {
            // What was said last may have been too soon after what was said before.
            bar.force_draw();
            bar.finish_and_clear();
            bars().remove(&bar);
        }
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        self.finish();
    }
}

fn first_digits(job: &Job) -> String {
    let id = job.handle.swarm_ids().first();
    let mut id = id.map(ToString::to_string).unwrap_or_default();
    id.truncate(6);
    id
}

/// Columns of the terminal but the last one: what ends there makes some of them begin a new line.
fn width() -> usize {
    let size = rustix::termios::tcgetwinsize(io::stderr());
    let columns = size.map_or(0, |size| size.ws_col);
    usize::from(if columns == 0 { WIDTH } else { columns }) - 1
}

fn new_bar() -> ProgressBar {
    let bar = bars().add(ProgressBar::new(0));
    if let Ok(style) = ProgressStyle::with_template("{msg}") {
        bar.set_style(style);
    }
    bar
}
