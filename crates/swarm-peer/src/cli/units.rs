//! Sizes and times as people type and read them.

/// Reads `32MiB`, `2GB`, `500k` or bare bytes: `KiB` is 1024 bytes, `kB` and `k` are 1000.
///
/// # Errors
/// What is wrong, for clap to show.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let (number, unit) = number_and_unit(text)?;
    let scale: f64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kb" => 1e3,
        "m" | "mb" => 1e6,
        "g" | "gb" => 1e9,
        "t" | "tb" => 1e12,
        "kib" => 1024.0,
        "mib" => 1024.0 * 1024.0,
        "gib" => 1024.0 * 1024.0 * 1024.0,
        "tib" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => return Err(format!("{unit:?} is no unit of size: kB, KiB, MB, MiB, …")),
    };
    let bytes = number * scale;
    if bytes > 1e18 {
        return Err("too large".into());
    }
    // Below 10^18, so it fits.
    Ok(bytes as u64)
}

fn number_and_unit(text: &str) -> Result<(f64, &str), String> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: f64 = number
        .parse()
        .map_err(|_| format!("{text:?} does not begin with a number"))?;
    Ok((number, unit.trim()))
}

/// `1.5 MB`, for people.
pub(crate) fn show_size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64;
    let mut name = "B";
    for unit in UNITS {
        if value < 999.95 {
            break;
        }
        value /= 1000.0;
        name = unit;
    }
    format!("{value:.1} {name}")
}

/// `45 s`, `3 min 20 s`, `2 h 05 min`, `9 d` for seconds.
pub(crate) fn show_duration(secs: f64) -> String {
    if !(0.0..8_640_000.0).contains(&secs) {
        return "ages".into();
    }
    match secs.ceil() as u64 {
        secs @ 0..60 => format!("{secs} s"),
        secs @ 60..3600 => format!("{} min {:02} s", secs / 60, secs % 60),
        secs @ 3600..172_800 => format!("{} h {:02} min", secs / 3600, secs / 60 % 60),
        secs => format!("{} d", secs / 86_400),
    }
}

/// `2026-11-22 14:39:00 UTC` for seconds since 1970.
pub(crate) fn show_time(secs: u64) -> String {
    // Civil from days, after Howard Hinnant's algorithm; years stay far below what overflows.
    let days = (secs / 86_400).min(3_000_000) as i64 + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (secs / 3600 % 24, secs / 60 % 60, secs % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_units() {
        for (text, bytes) in [
            ("0", 0),
            ("32MiB", 32 << 20),
            ("2GB", 2_000_000_000),
            ("1.5 kB", 1500),
            ("7k", 7000),
            ("16 KiB", 16 << 10),
        ] {
            assert_eq!(parse_size(text), Ok(bytes));
        }
        for text in ["", "MB", "-1MB", "1XB", "99999999999GB"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_and_times_are_shown_for_people() {
        assert_eq!(show_size(999), "999 B");
        assert_eq!(show_size(1500), "1.5 kB");
        assert_eq!(show_size(999_999), "1.0 MB");
        assert_eq!(show_size(67_200_000), "67.2 MB");
        for (secs, text) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_827_696, "2000-02-29 12:34:56 UTC"),
            (1_800_000_000, "2027-01-15 08:00:00 UTC"),
            (4_102_444_799, "2099-12-31 23:59:59 UTC"),
        ] {
            assert_eq!(show_time(secs), text);
        }
        assert!(show_time(u64::MAX).ends_with("UTC"));
        for (secs, text) in [
            (0.0, "0 s"),
            (59.2, "1 min 00 s"),
            (200.0, "3 min 20 s"),
            (7500.0, "2 h 05 min"),
            (800_000.0, "9 d"),
            (f64::INFINITY, "ages"),
            (f64::NAN, "ages"),
        ] {
            assert_eq!(show_duration(secs), text);
        }
    }
}
