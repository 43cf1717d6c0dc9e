//! Rates as people type them.

/// A rate that could not be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is no rate; write it as 20Mbit, 500kbit, 2MB/s or 512KiB/s")]
pub struct RateError(String);

/// Reads `8Mbit`, `500kbit`, `1.5Gbit`, `2MB/s` or a bare number of bits as bits per second.
///
/// Prefixes are decimal, as for network rates everywhere, unless they bear an `i` (`KiB/s`); `B`
/// means bytes, `bit` or `b` bits.
///
/// # Errors
/// [`RateError`]: no number, an unknown unit, or nothing above zero.
pub fn parse_rate(text: &str) -> Result<u64, RateError> {
    let wrong = || RateError(text.to_owned());
    let trimmed = text.trim();
    let split = trimmed
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(split);
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let unit = unit.trim().trim_end_matches("/s").trim_end_matches("ps");
    let (prefix, bits_each) = if let Some(prefix) = unit.strip_suffix("bit") {
        (prefix, 1.0)
    } else if let Some(prefix) = unit.strip_suffix('B') {
        (prefix, 8.0)
    } else {
        (unit.strip_suffix('b').unwrap_or(unit), 1.0)
    };
    let scale = match prefix {
        "" => 1.0,
        "k" | "K" => 1e3,
        "M" | "m" => 1e6,
        "G" | "g" => 1e9,
        "Ki" | "ki" => 1024.0,
        "Mi" => 1024.0 * 1024.0,
        "Gi" => 1024.0 * 1024.0 * 1024.0,
        _ => return Err(wrong()),
    };
    let bits = number * scale * bits_each;
    if !(1.0..=1e15).contains(&bits) {
        return Err(wrong());
    }
    Ok(bits as u64)
}
