//! A line over time as an SVG that stretches with its place.

use std::fmt::Write as _;

use super::{decimal, short, span};

/// The least time that the width stands for: in the first minutes a line grows from the right.
const STEPS_MIN: usize = 30;

/// Figures over time, the newest last.
#[derive(Debug)]
pub(super) struct Plot<'a> {
    pub(super) title: &'static str,
    pub(super) values: &'a [f64],
    pub(super) step_secs: u64,
}

impl Plot<'_> {
    /// A `figure`. Its numbers go along for a script that shows one under the pointer.
    pub(super) fn to_html(&self) -> String {
        let Some(now) = self.values.last() else {
            return format!(
                "<figure class=plot><figcaption>{}</figcaption>\
                 <p class=empty>The first figures come in twenty seconds.</p></figure>",
                self.title
            );
        };
        let greatest = self.values.iter().copied().fold(0.0, f64::max);
        let top = round_up(greatest);
        let steps = self.values.len().max(STEPS_MIN) - 1;
        let ago = span(steps as u64 * self.step_secs);
        let line = self.line(steps, top);
        let first = 100.0 - (self.values.len() - 1) as f64 * 100.0 / steps as f64;
        let listed: Vec<String> = self.values.iter().map(ToString::to_string).collect();
        format!(
            "<figure class=plot data-step={step} data-steps={steps} data-values=\"{listed}\">\
             <figcaption>{title} <output>{now}</output></figcaption>\
             <div class=chart><svg viewBox=\"0 0 100 100\" preserveAspectRatio=none role=img \
             aria-label=\"{title}: {now} now, {most} at most in the last {ago}\">\
             <path class=grid d=\"M0 0H100M0 50H100M0 100H100\"/>\
             <path class=area d=\"M{first:.2} 100L{line}V100Z\"/><path class=line d=\"M{line}\"/></svg>\
             <span class=top>{top}</span><span class=half>{half}</span></div>\
             <p class=times><span>{ago} ago</span><span>now</span></p></figure>",
            step = self.step_secs,
            listed = listed.join(","),
            title = self.title,
            now = decimal(*now),
            most = decimal(greatest),
            top = short(top),
            half = short(top / 2.0),
        )
    }

    /// Points from left to right; the last one stands at the right edge.
    fn line(&self, steps: usize, top: f64) -> String {
        let mut points = String::with_capacity(self.values.len() * 12);
        let missing = steps + 1 - self.values.len();
        for (at, value) in self.values.iter().enumerate() {
            let x = (missing + at) as f64 * 100.0 / steps as f64;
            let y = 100.0 - value * 100.0 / top;
            let gap = if at == 0 { "" } else { " " };
            // Writing to a String does not fail.
            let _ = write!(points, "{gap}{x:.2} {y:.2}");
        }
        points
    }
}

/// The next of 2, 4, 10, 20, 40, 100 …, halves of which are easy to read.
fn round_up(value: f64) -> f64 {
    let mut power = 1.0;
    // A rate is far below 10^15.
    while power < 1e15 {
        for step in [2.0, 4.0, 10.0] {
            if value <= step * power {
                return step * power;
            }
        }
        power *= 10.0;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_figure_stands_at_the_right_edge_and_the_greatest_below_the_top() {
        let plot = Plot {
            title: "Peers",
            values: &[0.0, 5.0, 2.5],
            step_secs: 10,
        };
        let html = plot.to_html();
        assert!(
            html.contains("d=\"M93.10 100.00 96.55 50.00 100.00 75.00\""),
            "{html}"
        );
        assert!(html.contains("<output>2.5</output>"), "{html}");
        assert!(
            html.contains("2.5 now, 5 at most in the last 4 min"),
            "{html}"
        );
        assert!(html.contains("<span class=top>10</span><span class=half>5</span>"));
        assert!(html.contains("data-values=\"0,5,2.5\""));
        let nothing = Plot {
            values: &[],
            ..plot
        };
        assert!(!nothing.to_html().contains("svg"));
    }

    #[test]
    fn an_hour_fills_the_width() {
        let values: Vec<f64> = (0..360).map(f64::from).collect();
        let plot = Plot {
            title: "Peers",
            values: &values,
            step_secs: 10,
        };
        let html = plot.to_html();
        assert!(html.contains("class=line d=\"M0.00 100.00 "), "{html}");
        assert!(html.contains(" 100.00 10.25\"/>"), "{html}");
        assert!(html.contains("<span>59 min ago</span>"), "{html}");
    }

    #[test]
    fn scales_end_in_round_numbers() {
        for (value, top) in [
            (0.0, 2.0),
            (2.0, 2.0),
            (2.1, 4.0),
            (4.5, 10.0),
            (11.0, 20.0),
            (399.0, 400.0),
            (401.0, 1000.0),
            (1_000_001.0, 2_000_000.0),
        ] {
            assert!((round_up(value) - top).abs() < 1e-9, "{value}");
        }
    }
}
