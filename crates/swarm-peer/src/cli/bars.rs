//! What bars of progress look like: lines of text, made of figures alone.

use swarm_proto::metainfo::path::sanitise;
use unicode_width::UnicodeWidthChar as _;

use super::output::rate;
use super::progress::Sum;
use super::units::{show_duration, show_size};

/// Bundles with a bar of their own; more are shown by the bar for all.
const BARS_MAX: usize = 8;

/// Columns of a name, where there is room.
const NAME_WIDTH: usize = 20;

/// Columns within the brackets of a bar, at least: figures make way for it.
const BAR_WIDTH: usize = 8;

/// Marks of no width in a row, such as accents written apart: more would paint over other lines.
const MARKS_MAX: usize = 2;

/// One bundle as it is shown.
pub(super) struct Shown {
    /// As a stranger may have chosen it.
    pub(super) name: String,
    /// The beginning of its info hash, which tells it apart where others bear the same name, as
    /// all bundles of a site do.
    pub(super) id: String,
    pub(super) sum: Sum,
}

/// The lines to show, none wider than `width` columns: a bar for each bundle and, unless there is
/// exactly one, last a bar for all of `what`.
pub(super) fn lines(what: &str, bundles: &[Shown], width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    if bundles.len() <= BARS_MAX {
        lines.extend(bundles.iter().map(|one| {
            let same = bundles.iter().filter(|other| other.name == one.name);
            let label = match (same.count() > 1 || one.name.is_empty(), &one.name) {
                (false, name) => name.clone(),
                (true, name) => format!("{} {name}", one.id),
            };
            line(&label, &one.sum, width)
        }));
    }
    if bundles.len() != 1 {
        let mut all = Sum::default();
        bundles.iter().for_each(|one| all.add(&one.sum));
        let done = bundles.iter().filter(|one| one.sum.is_done()).count();
        // The count says more than the end of a long name.
        let count = format!(" ({done} of {})", bundles.len());
        let room = NAME_WIDTH.saturating_sub(count.len()).max(1);
        let label = format!("{}{count}", cut(&harmless(what), room));
        lines.push(line(&label, &all, width));
    }
    lines
}

/// `name  42% [=====>     ] 4.2 MB/10.0 MB ↓ 8.0 Mbit/s, 3 peers, 6 s left`, as much of it as there
/// is room for: what matters least goes first, then the bar.
fn line(label: &str, sum: &Sum, width: usize) -> String {
    let label = harmless(label);
    let percent = match percent(sum) {
        Some(percent) => format!("{percent:>3}%"),
        None => "  ?%".into(),
    };
    let name_width = NAME_WIDTH.min(width / 3);
    let name = cut(&label, name_width);
    let padding = " ".repeat(name_width.saturating_sub(columns(&name)));
    let head = format!("{name}{padding} {percent}");
    let figures = figures(sum);
    let room = |figures: &String| {
        let around = columns(&head) + " [] ".len() + columns(figures);
        width.checked_sub(around)
    };
    let fits = |figures: &&String| room(figures).is_some_and(|room| room >= BAR_WIDTH);
    let chosen = figures.iter().find(fits);
    let text = match chosen {
        Some(figures) => {
            let bar = bar(sum, room(figures).unwrap_or_default());
            format!("{head} [{bar}] {figures}")
        }
        None => head,
    };
    cut(text.trim_end(), width)
}

/// Percents done, rounded down, and 100 only when all is; none where it is not known of how much.
fn percent(sum: &Sum) -> Option<u64> {
    if sum.is_done() {
        return Some(100);
    }
    let done = u128::from(sum.done_bytes) * 100;
    let percent = done.checked_div(u128::from(sum.total_bytes))?;
    u64::try_from(percent).ok().map(|percent| percent.min(99))
}

fn bar(sum: &Sum, width: usize) -> String {
    let full = width as u128;
    let done = u128::from(sum.done_bytes) * full;
    let filled = match done.checked_div(u128::from(sum.total_bytes)) {
        _ if sum.is_done() => full,
        None => 0,
        // The last column is for what is done.
        Some(filled) => filled.min(full.saturating_sub(1)),
    };
    // Not more than `width`, which is a `usize`.
    let filled = usize::try_from(filled).unwrap_or(width);
    let mut bar = "=".repeat(filled);
    if filled < width {
        bar.push(if filled > 0 { '>' } else { ' ' });
    }
    bar.push_str(&" ".repeat(width.saturating_sub(filled + 1)));
    bar
}

/// Figures beside the bar, the fullest first.
fn figures(sum: &Sum) -> Vec<String> {
    let unknown = if sum.unknown > 0 { "+?" } else { "" };
    let size = match sum.total_bytes {
        0 => String::new(),
        total => format!(
            "{}/{}{unknown} ",
            show_size(sum.done_bytes),
            show_size(total)
        ),
    };
    let words = sum.in_words();
    if let Some(word) = sum.in_one_word() {
        return vec![format!("{size}{words}"), words, word.into(), String::new()];
    }
    let down = format!("↓ {}", rate(sum.down_rate));
    let left = sum
        .left()
        .map(|left| format!("{} left", show_duration(left)));
    let brief = left.clone().map(|left| format!("{down}, {left}"));
    [
        Some(format!("{size}{words}")),
        Some(words),
        brief,
        left,
        Some(down),
        Some(String::new()),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Text without anything that moves the cursor, hides text or turns it.
fn harmless(text: &str) -> String {
    let mut marks = 0;
    let keep = |c: &char| {
        marks = match c.width() {
            Some(0) => marks + 1,
            _ => 0,
        };
        marks <= MARKS_MAX
    };
    sanitise(text.as_bytes()).chars().filter(keep).collect()
}

fn columns(text: &str) -> usize {
    text.chars().filter_map(|c| c.width()).sum()
}

/// As much of the text as `width` columns hold; `…` for the rest.
fn cut(text: &str, width: usize) -> String {
    if columns(text) <= width {
        return text.to_owned();
    }
    let mut left = width.saturating_sub(1);
    let fits = |c: &char| {
        let columns = c.width().unwrap_or_default();
        let fits = columns <= left;
        left = left.saturating_sub(columns);
        fits
    };
    let mut short: String = text.chars().take_while(fits).collect();
    if width > 0 {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests;
