//! The two runs as a picture: what was asked, what was completed, and who sent it.

use std::fmt::Write as _;
use std::time::Duration;

use super::timeline::{Rates, Timeline};

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 452.0;
const TOP: f64 = 84.0;
const UPPER: f64 = 150.0;
const GAP: f64 = 44.0;
const LOWER: f64 = 118.0;
const PLOT_WIDTH: f64 = 380.0;
const LEFT: [f64; 2] = [56.0, 496.0];

const ASKED: &str = "#9aa5b1";
const DONE: &str = "#2f855a";
const ORIGIN: &str = "#c05621";
const VOLUNTEERS: [&str; 4] = ["#2b6cb0", "#4a90cf", "#7ab0de", "#a9cdec"];

/// Between two points of a line.
const STEP: Duration = Duration::from_millis(500);

/// Draws both runs to the same scale.
pub(super) fn svg(
    alone: &Timeline,
    gate: &Timeline,
    length: Duration,
    summary: [&str; 2],
) -> String {
    let runs = [alone, gate];
    let rates = runs.map(|timeline| smooth(timeline, length));
    let most = |of: &dyn Fn(&Rates) -> f64| {
        rates
            .iter()
            .flatten()
            .map(|(_, rates)| of(rates))
            .fold(0.0, f64::max)
    };
    let pages = ceiling(most(&|r| r.arrived.max(r.completed)));
    let bits = ceiling(most(&|r| r.origin + r.volunteers.iter().sum::<f64>()) / 1e6);
    let mut out = String::new();
    let _ = write!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\" font-family=\"system-ui,sans-serif\" font-size=\"12\" \
         fill=\"#334155\"><title>The same crowd at the origin alone and with the gate</title>\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"8\" fill=\"#ffffff\"/>"
    );
    for (i, name) in ["The origin alone", "With the gate"].iter().enumerate() {
        let left = LEFT[i];
        let _ = write!(
            out,
            "<text x=\"{left}\" y=\"32\" font-size=\"17\" font-weight=\"600\" fill=\"#0f172a\">{name}</text>\
             <text x=\"{left}\" y=\"52\">{}</text>",
            summary[i]
        );
        states(&mut out, runs[i], left, length);
        let upper = Frame {
            left,
            top: TOP,
            height: UPPER,
            most: pages,
            length,
        };
        let lower = Frame {
            left,
            top: TOP + UPPER + GAP,
            height: LOWER,
            most: bits,
            length,
        };
        upper.axes(&mut out, "pages a second", false);
        lower.axes(&mut out, "Mbit/s sent", true);
        let asked: Vec<_> = rates[i]
            .iter()
            .map(|(at, r)| (*at, 0.0, r.arrived))
            .collect();
        let done: Vec<_> = rates[i]
            .iter()
            .map(|(at, r)| (*at, 0.0, r.completed))
            .collect();
        upper.area(&mut out, &done, DONE, 0.85);
        upper.line(&mut out, &asked, ASKED);
        let mut floor: Vec<f64> = vec![0.0; rates[i].len()];
        let sources = rates[i]
            .iter()
            .map(|(_, r)| r.volunteers.len())
            .max()
            .unwrap_or(0);
        for source in 0..=sources {
            let band: Vec<_> = rates[i]
                .iter()
                .zip(&mut floor)
                .map(|((at, r), floor)| {
                    let rate = match source.checked_sub(1) {
                        None => r.origin,
                        Some(i) => r.volunteers.get(i).copied().unwrap_or(0.0),
                    };
                    let low = *floor;
                    *floor += rate / 1e6;
                    (*at, low, *floor)
                })
                .collect();
            let colour = match source.checked_sub(1) {
                None => ORIGIN,
                Some(i) => VOLUNTEERS[i % VOLUNTEERS.len()],
            };
            lower.area(&mut out, &band, colour, 0.95);
        }
    }
    legend(&mut out);
    out.push_str("</svg>\n");
    out
}

/// Rates at each step, each over the last second.
fn smooth(timeline: &Timeline, length: Duration) -> Vec<(Duration, Rates)> {
    let steps = (length.as_millis() / STEP.as_millis().max(1)) as u32;
    (0..=steps)
        .map(|i| {
            let at = STEP * i;
            (
                at,
                timeline.rates(at.saturating_sub(Duration::from_secs(1)), at),
            )
        })
        .collect()
}

/// A round number not below `value`.
fn ceiling(value: f64) -> f64 {
    let value = value.max(1.0);
    let scale = 10f64.powf(value.log10().floor());
    [1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0]
        .iter()
        .map(|step| step * scale)
        .find(|step| *step >= value)
        .unwrap_or(value)
}

struct Frame {
    left: f64,
    top: f64,
    height: f64,
    most: f64,
    length: Duration,
}

impl Frame {
    fn x(&self, at: Duration) -> f64 {
        x(self.left, at, self.length)
    }

    fn y(&self, value: f64) -> f64 {
        self.top + self.height * (1.0 - (value / self.most).clamp(0.0, 1.0))
    }

    fn axes(&self, out: &mut String, name: &str, time: bool) {
        for part in 0..=2 {
            let value = self.most * f64::from(part) / 2.0;
            let y = self.y(value);
            let _ = write!(
                out,
                "<path stroke=\"#e2e8f0\" d=\"M{} {y:.1}h{PLOT_WIDTH}\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\" font-size=\"11\">{}</text>",
                self.left,
                self.left - 7.0,
                y + 4.0,
                if value.fract() == 0.0 {
                    format!("{value:.0}")
                } else {
                    format!("{value:.1}")
                }
            );
        }
        let _ = write!(
            out,
            "<text x=\"{}\" y=\"{:.1}\" font-size=\"11\" fill=\"#64748b\">{name}</text>",
            self.left,
            self.top - 7.0
        );
        if time {
            let end = self.length.as_secs();
            for second in (0..=end).step_by(5) {
                let x = self.x(Duration::from_secs(second));
                let unit = if second == 0 { " s" } else { "" };
                let _ = write!(
                    out,
                    "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\" font-size=\"11\">{second}{unit}</text>",
                    self.top + self.height + 16.0
                );
            }
        }
    }

    fn area(&self, out: &mut String, band: &[(Duration, f64, f64)], colour: &str, opacity: f64) {
        if band.iter().all(|(_, low, high)| high <= low) {
            return;
        }
        let mut path = String::new();
        for (at, _, high) in band {
            let _ = write!(
                path,
                "{}{:.1} {:.1}",
                if path.is_empty() { 'M' } else { 'L' },
                self.x(*at),
                self.y(*high)
            );
        }
        for (at, low, _) in band.iter().rev() {
            let _ = write!(path, "L{:.1} {:.1}", self.x(*at), self.y(*low));
        }
        let _ = write!(
            out,
            "<path fill=\"{colour}\" fill-opacity=\"{opacity}\" d=\"{path}Z\"/>"
        );
    }

    fn line(&self, out: &mut String, band: &[(Duration, f64, f64)], colour: &str) {
        let mut path = String::new();
        for (at, _, value) in band {
            let _ = write!(
                path,
                "{}{:.1} {:.1}",
                if path.is_empty() { 'M' } else { 'L' },
                self.x(*at),
                self.y(*value)
            );
        }
        let _ = write!(
            out,
            "<path fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"5 3\" d=\"{path}\"/>"
        );
    }
}

fn x(left: f64, at: Duration, length: Duration) -> f64 {
    let share = at.as_secs_f64() / length.as_secs_f64().max(0.001);
    left + PLOT_WIDTH * share.clamp(0.0, 1.0)
}

/// Bands behind both plots, one for each state of the gate.
fn states(out: &mut String, timeline: &Timeline, left: f64, length: Duration) {
    for (from, to, state) in timeline.states() {
        let fill = match state {
            "" => continue,
            "calm" => "#f0fdf4",
            "warming" => "#fefce8",
            "spike" => "#fff1e6",
            _ => "#eff6ff",
        };
        let (a, b) = (x(left, from, length), x(left, to, length));
        let bottom = UPPER + GAP + LOWER;
        let _ = write!(
            out,
            "<rect x=\"{a:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{bottom}\" fill=\"{fill}\"/>",
            (b - a).max(0.0)
        );
        if b - a > 24.0 {
            let _ = write!(
                out,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" font-size=\"11\" fill=\"#92400e\">{state}</text>",
                (a + b) / 2.0,
                TOP + UPPER + 16.0
            );
        }
    }
}

fn legend(out: &mut String) {
    let y = HEIGHT - 16.0;
    let mut x = LEFT[0];
    let mut entry = |mark: String, name: &str, width: f64| {
        let _ = write!(
            out,
            "<g transform=\"translate({x} {y})\">{mark}<text x=\"26\" y=\"4\">{name}</text></g>"
        );
        x += width;
    };
    let square = |colour: &str| {
        format!("<rect x=\"6\" y=\"-6\" width=\"14\" height=\"12\" rx=\"2\" fill=\"{colour}\"/>")
    };
    entry(
        format!(
            "<path stroke=\"{ASKED}\" stroke-width=\"2\" stroke-dasharray=\"5 3\" d=\"M0 0h20\"/>"
        ),
        "pages asked for",
        140.0,
    );
    entry(square(DONE), "pages completed", 146.0);
    entry(square(ORIGIN), "sent by the site\u{2019}s own host", 206.0);
    let four: String = VOLUNTEERS
        .iter()
        .enumerate()
        .map(|(i, colour)| {
            format!(
                "<rect x=\"{}\" y=\"-6\" width=\"7\" height=\"12\" fill=\"{colour}\"/>",
                -6 + 7 * i as i32
            )
        })
        .collect();
    entry(four, "sent by the four volunteers", 200.0);
}

#[cfg(test)]
mod tests {
    use super::super::timeline::Sample;
    use super::*;

    #[test]
    fn scales_end_in_round_numbers() {
        for (value, top) in [
            (0.0, 1.0),
            (1.0, 1.0),
            (7.2, 8.0),
            (41.0, 50.0),
            (84.0, 100.0),
            (101.0, 150.0),
        ] {
            assert_eq!(ceiling(value), top);
        }
    }

    #[test]
    fn the_picture_is_well_formed_even_of_nothing() {
        let mut gate = Timeline::default();
        for i in 0..40_u64 {
            gate.push(Sample {
                at: Duration::from_millis(250 * i),
                arrived: i * i,
                completed: i * i / 2,
                origin: i * 200_000,
                volunteers: vec![i * i * 10_000; 4],
                state: if i < 20 { "calm" } else { "spike" },
                ..Sample::default()
            });
        }
        for timelines in [
            (&Timeline::default(), &gate),
            (&Timeline::default(), &Timeline::default()),
        ] {
            let svg = svg(
                timelines.0,
                timelines.1,
                Duration::from_secs(10),
                ["a", "b"],
            );
            let tokens = super::super::html::tokens(&svg);
            let opened = svg.matches('<').count() - svg.matches("</").count();
            assert_eq!(
                opened,
                svg.matches("/>").count() + svg.matches("</").count()
            );
            assert!(tokens.len() > 20 && !svg.contains("NaN") && !svg.contains("inf"));
        }
    }
}
