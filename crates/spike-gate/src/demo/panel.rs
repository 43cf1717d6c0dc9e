//! Progress on standard error: a panel that redraws itself on a terminal, plain lines elsewhere.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::report::megabytes;
use super::timeline::Timeline;

/// Between two plain lines.
const LINE_PERIOD: Duration = Duration::from_secs(2);

/// Cells of a bar.
const BAR_LEN: usize = 28;

/// Shows how a run goes.
pub(super) struct Panel {
    bar: Option<ProgressBar>,
    colour: bool,
    last_line: Option<Duration>,
}

/// What stays the same during a run.
pub(super) struct Scene<'a> {
    /// `1/2 the origin alone` or such.
    pub title: &'a str,
    /// Expected length.
    pub length: Duration,
    /// Uplink of the site's host, bits per second.
    pub origin_uplink: f64,
    /// Uplink of each volunteer, bits per second.
    pub volunteer_uplink: f64,
}

impl Panel {
    /// Draws where standard error goes.
    pub(super) fn new() -> Self {
        let terminal = std::io::stderr().is_terminal();
        let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let bar = terminal.then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(8));
            if let Ok(style) = ProgressStyle::with_template("{msg}") {
                bar.set_style(style);
            }
            bar
        });
        Self {
            bar,
            colour,
            last_line: None,
        }
    }

    /// One line that stays.
    pub(super) fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => write_line(line),
        }
    }

    /// What is being done while no crowd is there.
    pub(super) fn doing(&self, what: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(format!("  {what} …")),
            None => write_line(&format!("  {what}")),
        }
    }

    /// The state of a run.
    pub(super) fn draw(&mut self, scene: &Scene<'_>, timeline: &Timeline) {
        let Some(bar) = &self.bar else {
            let at = timeline.last().map_or(Duration::ZERO, |sample| sample.at);
            if self
                .last_line
                .is_none_or(|last| at < last || at - last >= LINE_PERIOD)
            {
                self.last_line = Some(at);
                write_line(&line(scene, timeline));
            }
            return;
        };
        bar.set_message(self.frame(scene, timeline));
    }

    /// Wipes the panel at the end of a run and leaves its last line.
    pub(super) fn end(&mut self, scene: &Scene<'_>, timeline: &Timeline) {
        if let Some(bar) = &self.bar {
            bar.set_message("");
        }
        self.last_line = None;
        self.say(&line(scene, timeline));
    }

    /// Takes the panel off the terminal.
    pub(super) fn close(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    fn frame(&self, scene: &Scene<'_>, timeline: &Timeline) -> String {
        let Some(now) = timeline.last() else {
            return String::new();
        };
        let rates = timeline.now();
        let waiting = now.arrived.saturating_sub(now.completed + now.failed);
        let state = match now.state {
            "" => String::new(),
            "calm" => self.paint("32", "  gate: calm"),
            "spike" => self.paint("1;33", "  gate: spike"),
            other => self.paint("33", &format!("  gate: {other}")),
        };
        let mut lines = vec![
            format!(
                "  {}{state}   {:.0} of {:.0} s",
                self.paint("1", scene.title),
                now.at.as_secs_f64(),
                scene.length.as_secs_f64()
            ),
            format!(
                "  visitors     {:>5.1} a second   came {:<5} complete {} failed {} waiting {waiting}",
                rates.arrived,
                now.arrived,
                self.paint("32", &format!("{:<5}", now.completed)),
                self.paint(
                    if now.failed > 0 { "31" } else { "0" },
                    &format!("{:<5}", now.failed)
                ),
            ),
            self.source("site's host", rates.origin, scene.origin_uplink, now.origin),
        ];
        for (i, (rate, bytes)) in rates.volunteers.iter().zip(&now.volunteers).enumerate() {
            let name = format!("volunteer {}", i + 1);
            lines.push(self.source(&name, *rate, scene.volunteer_uplink, *bytes));
        }
        lines.join("\n")
    }

    fn source(&self, name: &str, rate: f64, uplink: f64, bytes: u64) -> String {
        let share = (rate / uplink).clamp(0.0, 1.0);
        let full = (share * BAR_LEN as f64).round() as usize;
        let bar = format!("{}{}", "█".repeat(full), "░".repeat(BAR_LEN - full));
        let colour = if share > 0.9 { "31" } else { "36" };
        format!(
            "  {name:<12} {} {:>5.1} of {:.0} Mbit/s  {:>9}",
            self.paint(colour, &bar),
            rate / 1e6,
            uplink / 1e6,
            megabytes(bytes)
        )
    }
}

/// The state of a run in one line.
fn line(scene: &Scene<'_>, timeline: &Timeline) -> String {
    let Some(now) = timeline.last() else {
        return format!("  {}", scene.title);
    };
    let rates = timeline.now();
    let state = if now.state.is_empty() { "" } else { " gate=" };
    let volunteers: u64 = now.volunteers.iter().sum();
    let mut text = format!(
        "  {} {:4.1} s{state}{} asked={:.0}/s came={} complete={} failed={} site={:.1}Mbit/s ({})",
        scene.title,
        now.at.as_secs_f64(),
        now.state,
        rates.arrived,
        now.arrived,
        now.completed,
        now.failed,
        rates.origin / 1e6,
        megabytes(now.origin),
    );
    if !now.volunteers.is_empty() {
        let rate: f64 = rates.volunteers.iter().sum();
        text.push_str(&format!(
            " volunteers={:.1}Mbit/s ({})",
            rate / 1e6,
            megabytes(volunteers)
        ));
    }
    text
}

fn write_line(line: &str) {
    // Nobody may be reading any more; that is no reason to stop.
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::super::timeline::Sample;
    use super::*;

    #[test]
    fn the_panel_has_a_bar_for_each_source() {
        let mut timeline = Timeline::default();
        for (at, origin) in [(0, 0), (1, 1_000_000)] {
            timeline.push(Sample {
                at: Duration::from_secs(at),
                arrived: 9 * at,
                completed: 4 * at,
                failed: at,
                origin,
                volunteers: vec![0, 2_500_000 * at],
                state: "spike",
            });
        }
        let scene = Scene {
            title: "with the gate",
            length: Duration::from_secs(30),
            origin_uplink: 8e6,
            volunteer_uplink: 40e6,
        };
        let panel = Panel {
            bar: None,
            colour: false,
            last_line: None,
        };
        let frame = panel.frame(&scene, &timeline);
        assert_eq!(frame.lines().count(), 5, "{frame}");
        assert!(frame.contains("waiting 4"), "{frame}");
        assert!(frame.contains("8.0 of 8 Mbit/s"), "{frame}");
        assert!(
            frame.lines().nth(4).unwrap().contains(&"█".repeat(14)),
            "{frame}"
        );
        assert!(
            line(&scene, &timeline).contains("gate=spike asked=9/s"),
            "{}",
            line(&scene, &timeline)
        );
    }
}
