//! `Range` to byte ranges of one representation (RFC 9110, section 14).
//!
//! One satisfiable range becomes a `206`, several a `multipart/byteranges`. What RFC 9110 calls
//! invalid is ignored, as if the field were absent, and so are sets made to hurt (section 17.15).

use http::header::RANGE;
use http::{HeaderMap, HeaderValue};
use swarm_proto::geometry::ByteRange;

/// Greatest number of ranges answered in one response. A longer set is answered whole: each part
/// costs a header and a seek, and no browser asks for more than a handful.
pub const RANGES_MAX: usize = 16;

/// Longest `Range` field read. Sixteen ranges of two twenty-digit numbers fit easily.
pub const RANGE_FIELD_LEN_MAX: usize = 1024;

/// What a `Range` field comes to for a representation of known length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RangeAnswer {
    /// No field, one that is invalid, or one not worth obeying: answer `200` with everything.
    Whole,
    /// One range: answer `206` with `Content-Range`.
    Single(ByteRange),
    /// At least two ranges that do not overlap, in the order asked: answer
    /// `multipart/byteranges`.
    Several(Vec<ByteRange>),
    /// A valid field none of whose ranges touches the representation: answer `416`.
    Unsatisfiable,
}

/// Reads the `Range` field of `headers` for a representation of `length` bytes.
///
/// Two field lines are invalid (the field is no list), hence ignored.
pub fn of_headers(headers: &HeaderMap, length: u64) -> RangeAnswer {
    let mut lines = headers.get_all(RANGE).iter();
    match (lines.next(), lines.next()) {
        (Some(line), None) => resolve(line.as_bytes(), length),
        _ => RangeAnswer::Whole,
    }
}

/// Resolves one `Range` field value against a representation of `length` bytes.
pub fn resolve(field: &[u8], length: u64) -> RangeAnswer {
    let Some(specs) = parse(field) else {
        return RangeAnswer::Whole;
    };
    let mut ranges = Vec::with_capacity(specs.len());
    for spec in specs {
        match spec.within(length) {
            Fit::Range(range) => ranges.push(range),
            Fit::Outside => {}
            // A suffix of an empty representation is satisfiable, but `Content-Range` cannot
            // express zero bytes.
            Fit::Nothing => return RangeAnswer::Whole,
        }
    }
    let Some(ranges) = coalesce(ranges, length) else {
        return RangeAnswer::Whole;
    };
    match <[ByteRange; 1]>::try_from(ranges) {
        Ok([range]) => RangeAnswer::Single(range),
        Err(ranges) if ranges.is_empty() => RangeAnswer::Unsatisfiable,
        Err(ranges) => RangeAnswer::Several(ranges),
    }
}

/// `Content-Range` of a part: `bytes 0-99/1000`.
pub fn content_range(range: &ByteRange, length: u64) -> HeaderValue {
    let last = range.end.saturating_sub(1);
    ascii(format!("bytes {}-{last}/{length}", range.start))
}

/// `Content-Range` of a `416`: `bytes */1000`.
pub fn content_range_unsatisfied(length: u64) -> HeaderValue {
    ascii(format!("bytes */{length}"))
}

fn ascii(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("digits and punctuation make a header value")
}

/// `first-pos "-" [ last-pos ]` or `"-" suffix-length`; numbers past `u64` are its greatest.
#[derive(Debug, Clone, Copy)]
enum Spec {
    From(u64),
    Span(u64, u64),
    Suffix(u64),
}

enum Fit {
    Range(ByteRange),
    Outside,
    Nothing,
}

impl Spec {
    fn within(self, length: u64) -> Fit {
        let (start, end) = match self {
            Spec::From(first) => (first, length),
            Spec::Span(first, last) => (first, last.saturating_add(1).min(length)),
            Spec::Suffix(0) => return Fit::Outside,
            Spec::Suffix(_) if length == 0 => return Fit::Nothing,
            Spec::Suffix(count) => (length.saturating_sub(count), length),
        };
        if start < end {
            Fit::Range(ByteRange { start, end })
        } else {
            Fit::Outside
        }
    }
}

/// `None` for anything but a valid set of byte ranges of bearable size.
fn parse(field: &[u8]) -> Option<Vec<Spec>> {
    if field.len() > RANGE_FIELD_LEN_MAX {
        return None;
    }
    let text = std::str::from_utf8(field).ok()?;
    let (unit, set) = text.split_once('=')?;
    // RFC 9110, 14.1: range units are case-insensitive.
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    let mut specs = Vec::new();
    for item in set.split(',') {
        let item = item.trim_matches([' ', '\t']);
        if item.is_empty() {
            continue; // RFC 9110, 5.6.1.2: empty list elements are ignored
        }
        if specs.len() == RANGES_MAX {
            return None;
        }
        specs.push(parse_spec(item)?);
    }
    (!specs.is_empty()).then_some(specs)
}

fn parse_spec(item: &str) -> Option<Spec> {
    let (first, last) = item.split_once('-')?;
    match (first, last) {
        ("", suffix) => Some(Spec::Suffix(digits(suffix)?)),
        (first, "") => Some(Spec::From(digits(first)?)),
        (first, last) => {
            let (first, last) = (digits(first)?, digits(last)?);
            (first <= last).then_some(Spec::Span(first, last))
        }
    }
}

/// `1*DIGIT`, saturating: a position past `u64` is past the end of any representation.
fn digits(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(u64::MAX))
}

/// Joins ranges that overlap or touch. `None` for a set with more than one overlap, or one that
/// asks for more bytes than there are: such sets serve attackers only.
fn coalesce(ranges: Vec<ByteRange>, length: u64) -> Option<Vec<ByteRange>> {
    let asked = ranges.iter().fold(0u64, |sum, r| {
        sum.saturating_add(r.end.saturating_sub(r.start))
    });
    if ranges.len() > 1 && asked > length {
        return None;
    }
    let mut overlaps = 0;
    let mut kept: Vec<ByteRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        let mut range = range;
        // The place of the earliest range it meets stays its place.
        while let Some(at) = kept
            .iter()
            .position(|k| k.start <= range.end && range.start <= k.end)
        {
            let met = kept.remove(at);
            if met.start < range.end && range.start < met.end {
                overlaps += 1;
            }
            range.start = range.start.min(met.start);
            range.end = range.end.max(met.end);
        }
        kept.push(range);
    }
    (overlaps <= 1).then_some(kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn r(start: u64, end: u64) -> ByteRange {
        ByteRange { start, end }
    }

    fn check(field: &str, length: u64, expected: RangeAnswer) {
        assert_eq!(
            resolve(field.as_bytes(), length),
            expected,
            "{field} of {length}"
        );
    }

    #[test]
    fn single_ranges_follow_rfc_9110() {
        use RangeAnswer::{Single, Unsatisfiable, Whole};
        for (field, length, expected) in [
            // The examples of RFC 9110, 14.1.2, for a representation of 10000 bytes.
            ("bytes=0-499", 10_000, Single(r(0, 500))),
            ("bytes=500-999", 10_000, Single(r(500, 1000))),
            ("bytes=-500", 10_000, Single(r(9_500, 10_000))),
            ("bytes=9500-", 10_000, Single(r(9_500, 10_000))),
            ("bytes=0-0", 10_000, Single(r(0, 1))),
            ("bytes=-1", 10_000, Single(r(9_999, 10_000))),
            // Clamped to what there is.
            ("bytes=0-", 10, Single(r(0, 10))),
            ("bytes=0-99", 10, Single(r(0, 10))),
            ("bytes=9-9", 10, Single(r(9, 10))),
            ("bytes=-99", 10, Single(r(0, 10))),
            ("bytes=5-99999999999999999999999", 10, Single(r(5, 10))),
            ("bytes=-99999999999999999999999", 10, Single(r(0, 10))),
            ("bytes=00000000000000000000005-6", 10, Single(r(5, 7))),
            ("BYTES=1-2", 10, Single(r(1, 3))),
            ("bytes= 1-2 ,", 10, Single(r(1, 3))),
            ("bytes=,,1-2", 10, Single(r(1, 3))),
            // Valid, but nothing is there.
            ("bytes=10-", 10, Unsatisfiable),
            ("bytes=10-20", 10, Unsatisfiable),
            ("bytes=-0", 10, Unsatisfiable),
            ("bytes=99999999999999999999999-", 10, Unsatisfiable),
            ("bytes=18446744073709551615-", u64::MAX, Unsatisfiable),
            ("bytes=0-0", 0, Unsatisfiable),
            ("bytes=0-", 0, Unsatisfiable),
            ("bytes=-5", 0, Whole),
            ("bytes=10-,20-", 10, Unsatisfiable),
        ] {
            check(field, length, expected);
        }
    }

    #[test]
    fn invalid_fields_are_ignored() {
        for field in [
            "",
            "bytes",
            "bytes=",
            "bytes=,",
            "bytes=-",
            "bytes=--1",
            "bytes=1--2",
            "bytes=a-b",
            "bytes=2-1",
            "bytes=1-2-3",
            "bytes=1",
            "bytes=+1-2",
            "bytes=1-+2",
            "bytes=0x1-2",
            "bytes=1 -2",
            "bytes=1- 2",
            "bytes =1-2",
            " bytes=1-2",
            "bytes=1-2;q=1",
            "bytes=1-2,x",
            "bytes=0-1,3-2",
            "items=0-1",
            "bits=0-1",
            "bytes:0-1",
            "bytes=\u{661}-2",
            "=0-1",
            "bytes==0-1",
            "bytes=0-1\n",
            "bytes=1.0-2",
        ] {
            check(field, 10, RangeAnswer::Whole);
        }
        assert_eq!(resolve(b"bytes=0-\xff", 10), RangeAnswer::Whole);
        assert_eq!(resolve(&vec![b'1'; 1 << 20], 10), RangeAnswer::Whole);
    }

    #[test]
    fn several_ranges_keep_their_order_and_join_when_they_meet() {
        use RangeAnswer::{Several, Single};
        check("bytes=0-9,20-29", 100, Several(vec![r(0, 10), r(20, 30)]));
        check("bytes=20-29,0-9", 100, Several(vec![r(20, 30), r(0, 10)]));
        check("bytes=0-0,-1", 100, Several(vec![r(0, 1), r(99, 100)]));
        check(
            "bytes=0-0, ,5-5\t,200-300",
            100,
            Several(vec![r(0, 1), r(5, 6)]),
        );
        // One satisfiable range of two is no multipart.
        check("bytes=0-9,200-300", 100, Single(r(0, 10)));
        // RFC 9110, 15.3.7.2: ranges that overlap or touch may be joined.
        check("bytes=500-600,601-999", 10_000, Single(r(500, 1000)));
        check("bytes=500-700,601-999", 10_000, Single(r(500, 1000)));
    }

    #[test]
    fn sets_made_to_hurt_are_answered_whole() {
        let many = |n: u64| {
            let items: Vec<_> = (0..n).map(|i| format!("{}-{}", i * 4, i * 4 + 1)).collect();
            format!("bytes={}", items.join(","))
        };
        assert!(
            matches!(resolve(many(16).as_bytes(), 1000), RangeAnswer::Several(v) if v.len() == 16)
        );
        check(&many(17), 1000, RangeAnswer::Whole);
        check("bytes=0-,0-,0-", 1000, RangeAnswer::Whole);
        check("bytes=0-10,5-15,12-20", 1000, RangeAnswer::Whole);
        check("bytes=0-599,500-", 1000, RangeAnswer::Whole);
        check("bytes=0-1,0-1,0-1", 1000, RangeAnswer::Whole);
    }

    #[test]
    fn a_repeated_field_is_ignored() {
        let mut headers = HeaderMap::new();
        assert_eq!(of_headers(&headers, 10), RangeAnswer::Whole);
        headers.append(RANGE, HeaderValue::from_static("bytes=0-1"));
        assert_eq!(of_headers(&headers, 10), RangeAnswer::Single(r(0, 2)));
        headers.append(RANGE, HeaderValue::from_static("bytes=0-1"));
        assert_eq!(of_headers(&headers, 10), RangeAnswer::Whole);
    }

    #[test]
    fn content_range_is_inclusive() {
        assert_eq!(content_range(&r(0, 500), 1000), "bytes 0-499/1000");
        assert_eq!(content_range_unsatisfied(1000), "bytes */1000");
    }

    proptest! {
        #[test]
        fn ranges_never_leave_the_representation(field in "bytes=[0-9,\\- ]{0,40}", length in 0u64..200) {
            let ranges = match resolve(field.as_bytes(), length) {
                RangeAnswer::Single(range) => vec![range],
                RangeAnswer::Several(ranges) => {
                    prop_assert!(ranges.len() > 1);
                    ranges
                }
                _ => vec![],
            };
            let mut seen = vec![false; length as usize];
            for range in ranges {
                prop_assert!(range.start < range.end && range.end <= length);
                for byte in &mut seen[range.start as usize..range.end as usize] {
                    prop_assert!(!*byte, "no byte twice");
                    *byte = true;
                }
            }
        }
    }
}
