//! How far things are: bars on a terminal, lines where there is none, events with `--json`.

use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use swarm_peer::{SwarmHandle, SwarmState, SwarmStats};
use swarm_proto::geometry::ByteRange;

use super::output::{Output, bars, quiet, rate};
use super::units::{show_duration, show_size};

/// Between lines of progress where there is no terminal.
const LINES_EVERY: Duration = Duration::from_secs(5);

/// Bundles with a bar of their own; more are shown by the bar for all.
const BARS_MAX: usize = 8;

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
        }
            _ => false,
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
            checking,
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
    pub(crate) checking: bool,
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

    fn add(&mut self, one: &Self) {
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

    /// Seconds until all is here, at the rate of the moment.
    fn left(&self) -> Option<f64> {
        let bytes = self.total_bytes.saturating_sub(self.done_bytes) as f64;
        (self.down_rate >= 1.0 && !self.checking).then(|| bytes / self.down_rate)
    }

    fn in_words(&self) -> String {
        if self.checking {
            return "checking".into();
        }
        if self.pieces > 0 && self.done_bytes >= self.total_bytes {
            return "done".into();
        }
        let mut words = format!("↓ {}", rate(self.down_rate));
        if self.up_bytes > 0 {
            words.push_str(&format!(" ↑ {}", rate(self.up_rate)));
        }
        words.push_str(&match self.peers {
            1 => ", 1 peer".into(),
            peers => format!(", {peers} peers"),
        });
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
    /// One bar for each bundle, and the last for all if there are several; none off a terminal.
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
            self.draw(jobs, &all, &sums, &sum);
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

    fn draw(&mut self, jobs: &[Job], all: &[SwarmStats], sums: &[Sum], sum: &Sum) {
        let each = if sums.len() > BARS_MAX { 0 } else { sums.len() };
        let wanted = each + usize::from(each != 1);
        while self.bars.len() < wanted {
            self.bars.push(new_bar());
        }
        for (at, (bar, one)) in self.bars.iter().zip(sums).enumerate().take(each) {
            paint(bar, &label(jobs, all, at), one);
        }
        if each != 1
            && let Some(bar) = self.bars.last()
        {
            let done = sums
                .iter()
                .filter(|s| s.pieces > 0 && s.done_bytes == s.total_bytes);
            let name = format!("{} ({} of {})", self.what, done.count(), sums.len());
            paint(bar, &name, sum);
        }
    }

    /// Takes the bars away.
    pub(crate) fn finish(&mut self) {
        for bar in self.bars.drain(..) {
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

/// A bundle's name; with the first digits of its id where others bear the same, as all bundles of a
/// site do.
fn label(jobs: &[Job], all: &[SwarmStats], at: usize) -> String {
    let Some(stats) = all.get(at) else {
        return String::new();
    };
    let same = all.iter().filter(|other| other.name == stats.name).count();
    let id = jobs.get(at).and_then(|job| job.handle.swarm_ids().first());
    match id.filter(|_| same > 1) {
        Some(id) => {
            let mut id = id.to_string();
            id.truncate(6);
            format!("{id} {}", stats.name)
        }
        None => stats.name.clone(),
    }
}

fn new_bar() -> ProgressBar {
    let bar = bars().add(ProgressBar::new(0));
    let template =
        "{msg:20!} {percent:>3}% [{wide_bar}] {decimal_bytes}/{decimal_total_bytes} {prefix}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}

fn paint(bar: &ProgressBar, name: &str, sum: &Sum) {
    bar.set_length(sum.total_bytes);
    bar.set_position(sum.done_bytes);
    // A stranger may have chosen the name.
    let name: String = name.chars().filter(|c| !c.is_control()).collect();
    bar.set_message(name);
    bar.set_prefix(sum.in_words());
}
