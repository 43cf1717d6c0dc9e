//! Lengths of time as people write them: `250ms`, `2s`, `5min`, `1h`, `30d`.
//!
//! Used by serde (`#[serde(with = "duration")]`) and by the command line.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer};

const UNITS: [(&str, u64); 6] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("min", 60_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// Parses a whole number and its unit.
///
/// # Errors
/// One line that says what was expected.
pub fn parse(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = UNITS.iter().find(|(name, _)| *name == unit.trim());
    number
        .parse::<u64>()
        .ok()
        .zip(unit)
        .and_then(|(number, (_, ms))| number.checked_mul(*ms))
        .map(Duration::from_millis)
        .ok_or_else(|| format!("`{text}` is no length of time: write 250ms, 2s, 5min, 1h or 30d"))
}

/// The shortest form that [`parse`] reads back, to the millisecond.
pub fn format(duration: Duration) -> String {
    let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    match UNITS.iter().find(|(_, size)| ms != 0 && ms % size == 0) {
        Some((unit, size)) => format!("{}{unit}", ms / size),
        None => format!("{ms}ms"),
    }
}

/// For serde.
pub fn serialize<S: Serializer>(duration: &Duration, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_str(&format(*duration))
}

/// For serde.
pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Duration, D::Error> {
    parse(&String::deserialize(input)?).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for (text, ms) in [
            ("250ms", 250),
            ("2s", 2000),
            ("5min", 300_000),
            ("1h", 3_600_000),
            ("30d", 2_592_000_000),
            ("0ms", 0),
        ] {
            let duration = Duration::from_millis(ms);
            assert_eq!(parse(text), Ok(duration));
            assert_eq!(format(duration), text);
        }
        assert_eq!(parse(" 5m "), Ok(Duration::from_secs(300)));
    }

    #[test]
    fn bare_numbers_and_rubbish_are_refused() {
        for text in [
            "",
            "5",
            "s",
            "-1s",
            "1.5s",
            "1 fortnight",
            "18446744073709551615d",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
