//! Lengths of time as people write them: `250ms`, `2s`, `5min`, `1h`, `30d`.
//!
//! Used by serde (`#[serde(with = "duration")]`) and by the command line.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer};

/// Parses a whole number followed by `ms`, `s`, `min` (or `m`), `h` or `d`.
///
/// # Errors
/// One line that says what was expected.
pub fn parse(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let bad = || format!("`{text}` is no length of time: write 250ms, 2s, 5min, 1h or 30d");
    let number: u64 = number.parse().map_err(|_| bad())?;
    let seconds = match unit.trim() {
        "ms" => return Ok(Duration::from_millis(number)),
        "s" => 1,
        "m" | "min" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(bad()),
    };
    number
        .checked_mul(seconds)
        .map(Duration::from_secs)
        .ok_or_else(bad)
}

/// The shortest form that [`parse`] reads back, to the millisecond.
pub fn format(duration: Duration) -> String {
    let ms = duration.as_millis();
    for (unit, size) in [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("min", 60_000),
        ("s", 1000),
    ] {
        if ms != 0 && ms.is_multiple_of(size) {
            return format!("{}{unit}", ms / size);
        }
    }
    format!("{ms}ms")
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
        assert_eq!(parse("5m"), Ok(Duration::from_secs(300)));
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
            "99999999999999999999s",
            "18446744073709551615d",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
