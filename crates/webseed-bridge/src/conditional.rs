//! Conditional requests (RFC 9110, section 13): what the validators say before a body is sent.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{
    HeaderName, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE,
};
use http::{HeaderMap, HeaderValue};
use swarm_proto::id::Digest;

use crate::encoding::Coding;

/// Greatest number of entity tags compared in one field; what comes after is not looked at.
const TAGS_MAX: usize = 64;

/// The validators of one representation.
#[derive(Debug, Clone)]
pub struct Validators {
    /// Strong entity tag, quoted.
    pub etag: String,
    /// Unix seconds; `None` if the publisher knew no date.
    pub modified: Option<u64>,
}

impl Validators {
    /// Validators of the representation of a file in one coding.
    ///
    /// The tag is strong: it is the digest of the file and the coding's name, so that two
    /// representations of one file never share it (RFC 9110, 8.8.3.3). A date in the future is
    /// replaced by `now` (8.8.2.1).
    pub fn new(digest: &Digest, coding: Coding, modified: u64, now: SystemTime) -> Self {
        let digest = digest.to_string();
        // 128 bits tell files apart; the digest itself stands in the manifest.
        let short = digest.get(..32).unwrap_or(&digest);
        let etag = match coding {
            Coding::Identity => format!("\"{short}\""),
            coding => format!("\"{short}-{}\"", coding.name()),
        };
        let modified = (modified != 0).then(|| modified.min(unix(now)));
        Self { etag, modified }
    }

    /// `ETag` as a header value.
    pub fn etag_value(&self) -> HeaderValue {
        HeaderValue::try_from(self.etag.as_str()).expect("hex digits and quotes")
    }

    /// `Last-Modified` as a header value.
    pub fn modified_value(&self) -> Option<HeaderValue> {
        let date = httpdate::fmt_http_date(at(self.modified?)?);
        HeaderValue::try_from(date).ok()
    }
}

/// Outcome of the preconditions of a GET or HEAD.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precondition {
    /// Answer as if no condition had been made.
    Proceed,
    /// The client's copy is current: `304`.
    NotModified,
    /// The client insisted on another representation: `412`.
    Failed,
}

/// Evaluates the preconditions of a GET or HEAD in the order of RFC 9110, 13.2.2.
pub fn evaluate(headers: &HeaderMap, validators: &Validators) -> Precondition {
    if headers.contains_key(IF_MATCH) {
        if !tags_match(headers, IF_MATCH, &validators.etag, Comparison::Strong) {
            return Precondition::Failed;
        }
    } else if let (Some(date), Some(modified)) = (
        single_date(headers, IF_UNMODIFIED_SINCE),
        validators.modified,
    ) && modified > date
    {
        return Precondition::Failed;
    }
    if headers.contains_key(IF_NONE_MATCH) {
        if tags_match(headers, IF_NONE_MATCH, &validators.etag, Comparison::Weak) {
            return Precondition::NotModified;
        }
    } else if let (Some(date), Some(modified)) =
        (single_date(headers, IF_MODIFIED_SINCE), validators.modified)
        && modified <= date
    {
        return Precondition::NotModified;
    }
    Precondition::Proceed
}

/// Whether `Range` may be obeyed: there is no `If-Range`, or it names this representation
/// (RFC 9110, 13.1.5). A date counts only if it is exact and older than the clock's second.
pub fn if_range_holds(headers: &HeaderMap, validators: &Validators, now: SystemTime) -> bool {
    let mut lines = headers.get_all(IF_RANGE).iter();
    let Some(line) = lines.next() else {
        return true;
    };
    if lines.next().is_some() {
        return false;
    }
    let field = line.as_bytes().trim_ascii();
    if field.starts_with(b"\"") || field.starts_with(b"W/") {
        return field == validators.etag.as_bytes();
    }
    match (date(line), validators.modified) {
        (Some(date), Some(modified)) => date == modified && modified < unix(now),
        _ => false,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Strong,
    Weak,
}

/// Whether the list of entity tags in all lines of `name` holds `*` or `etag`.
fn tags_match(headers: &HeaderMap, name: HeaderName, etag: &str, how: Comparison) -> bool {
    let mut left = TAGS_MAX;
    for line in headers.get_all(name) {
        let mut rest = line.as_bytes().trim_ascii();
        if rest == b"*" {
            return true;
        }
        while let Some((weak, tag, after)) = next_tag(rest) {
            if tag == etag.as_bytes() && !(weak && how == Comparison::Strong) {
                return true;
            }
            left = left.saturating_sub(1);
            if left == 0 {
                return false;
            }
            rest = after;
        }
    }
    false
}

/// Splits the next entity tag off a list: is it weak, the quoted tag, the rest. Commas may stand
/// inside a tag. `None` at the end and at the first thing that is no tag.
fn next_tag(mut rest: &[u8]) -> Option<(bool, &[u8], &[u8])> {
    while let [b',' | b' ' | b'\t', after @ ..] = rest {
        rest = after;
    }
    let weak = rest.starts_with(b"W/");
    if weak {
        rest = rest.get(2..)?;
    }
    let opaque = rest.strip_prefix(b"\"")?;
    let end = opaque.iter().position(|&b| b == b'"')?;
    let etagc = |b: &u8| matches!(b, 0x21 | 0x23..=0x7e | 0x80..=0xff);
    if !opaque.get(..end)?.iter().all(etagc) {
        return None;
    }
    let (tag, after) = rest.split_at_checked(end.checked_add(2)?)?;
    Some((weak, tag, after))
}

/// Unix seconds of a date field; `None` if absent, repeated or no date (RFC 9110, 13.1.3).
fn single_date(headers: &HeaderMap, name: HeaderName) -> Option<u64> {
    let mut lines = headers.get_all(name).iter();
    match (lines.next(), lines.next()) {
        (Some(line), None) => date(line),
        _ => None,
    }
}

fn date(line: &HeaderValue) -> Option<u64> {
    let date = httpdate::parse_http_date(line.to_str().ok()?.trim()).ok()?;
    Some(unix(date))
}

fn unix(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// `None` past the year 9999, which no HTTP date can say.
fn at(unix: u64) -> Option<SystemTime> {
    const YEAR_10000: u64 = 253_402_300_800;
    (unix < YEAR_10000).then(|| UNIX_EPOCH + Duration::from_secs(unix))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODIFIED: u64 = 1_700_000_000; // Tue, 14 Nov 2023 22:13:20 GMT
    const SAME: &str = "Tue, 14 Nov 2023 22:13:20 GMT";
    const EARLIER: &str = "Tue, 14 Nov 2023 22:13:19 GMT";
    const LATER: &str = "Wed, 15 Nov 2023 22:13:20 GMT";

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn validators() -> Validators {
        Validators {
            etag: "\"abc\"".into(),
            modified: Some(MODIFIED),
        }
    }

    fn headers(lines: &[(HeaderName, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn check(lines: &[(HeaderName, &str)], expected: Precondition) {
        assert_eq!(
            evaluate(&headers(lines), &validators()),
            expected,
            "{lines:?}"
        );
    }

    #[test]
    fn if_none_match_compares_weakly() {
        use Precondition::{NotModified, Proceed};
        for (value, expected) in [
            ("\"abc\"", NotModified),
            ("W/\"abc\"", NotModified),
            ("*", NotModified),
            ("\"x\", \"abc\"", NotModified),
            ("\"x\",\"y,z\" ,W/\"abc\"", NotModified),
            (", ,\"abc\"", NotModified),
            ("\"x\"", Proceed),
            ("\"ABC\"", Proceed),
            ("abc", Proceed),
            ("\"abc", Proceed),
            ("w/\"abc\"", Proceed),
            ("\"x,\"abc\"", Proceed),
            ("", Proceed),
            ("\"a bc\", \"abc\"", Proceed),
            ("\"*\"", Proceed),
        ] {
            check(&[(IF_NONE_MATCH, value)], expected);
        }
        check(
            &[(IF_NONE_MATCH, "\"x\""), (IF_NONE_MATCH, "\"abc\"")],
            NotModified,
        );
    }

    #[test]
    fn if_modified_since_counts_only_without_if_none_match() {
        use Precondition::{NotModified, Proceed};
        check(&[(IF_MODIFIED_SINCE, SAME)], NotModified);
        check(&[(IF_MODIFIED_SINCE, LATER)], NotModified);
        check(&[(IF_MODIFIED_SINCE, EARLIER)], Proceed);
        // The obsolete forms of RFC 9110, 5.6.7.
        check(
            &[(IF_MODIFIED_SINCE, "Tuesday, 14-Nov-23 22:13:20 GMT")],
            NotModified,
        );
        check(
            &[(IF_MODIFIED_SINCE, "Tue Nov 14 22:13:20 2023")],
            NotModified,
        );
        for bad in [
            "",
            "0",
            "yesterday",
            "1700000000",
            "Tue, 14 Nov 2023 22:13:20 CET",
        ] {
            check(&[(IF_MODIFIED_SINCE, bad)], Proceed);
        }
        check(
            &[(IF_MODIFIED_SINCE, SAME), (IF_MODIFIED_SINCE, SAME)],
            Proceed,
        );
        check(
            &[(IF_NONE_MATCH, "\"x\""), (IF_MODIFIED_SINCE, LATER)],
            Proceed,
        );
        check(
            &[(IF_NONE_MATCH, "\"abc\""), (IF_MODIFIED_SINCE, EARLIER)],
            NotModified,
        );
    }

    #[test]
    fn if_match_is_strong_and_comes_first() {
        use Precondition::{Failed, NotModified, Proceed};
        check(&[(IF_MATCH, "\"abc\"")], Proceed);
        check(&[(IF_MATCH, "*")], Proceed);
        check(&[(IF_MATCH, "W/\"abc\"")], Failed);
        check(&[(IF_MATCH, "\"x\"")], Failed);
        check(
            &[(IF_MATCH, "\"abc\""), (IF_UNMODIFIED_SINCE, EARLIER)],
            Proceed,
        );
        check(
            &[(IF_MATCH, "\"abc\""), (IF_NONE_MATCH, "\"abc\"")],
            NotModified,
        );
        check(&[(IF_UNMODIFIED_SINCE, EARLIER)], Failed);
        check(&[(IF_UNMODIFIED_SINCE, SAME)], Proceed);
        check(&[(IF_UNMODIFIED_SINCE, "rubbish")], Proceed);
    }

    #[test]
    fn if_range_wants_a_strong_validator() {
        for (value, holds) in [
            ("\"abc\"", true),
            ("W/\"abc\"", false),
            ("\"x\"", false),
            ("*", false),
            ("\"abc\", \"x\"", false),
            (SAME, true),
            (EARLIER, false),
            (LATER, false),
            ("rubbish", false),
        ] {
            let headers = headers(&[(IF_RANGE, value)]);
            assert_eq!(
                if_range_holds(&headers, &validators(), now()),
                holds,
                "{value}"
            );
        }
        assert!(if_range_holds(&HeaderMap::new(), &validators(), now()));
        // Modified within the clock's own second: the date is no strong validator.
        let just_now = UNIX_EPOCH + Duration::from_secs(MODIFIED);
        assert!(!if_range_holds(
            &headers(&[(IF_RANGE, SAME)]),
            &validators(),
            just_now
        ));
    }

    #[test]
    fn without_a_date_dates_are_ignored() {
        let validators = Validators {
            modified: None,
            ..validators()
        };
        for name in [IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE] {
            assert_eq!(
                evaluate(&headers(&[(name, SAME)]), &validators),
                Precondition::Proceed
            );
        }
        assert!(!if_range_holds(
            &headers(&[(IF_RANGE, SAME)]),
            &validators,
            now()
        ));
        assert_eq!(validators.modified_value(), None);
    }

    #[test]
    fn each_coding_has_its_own_tag_and_dates_never_lie_ahead() {
        let digest = Digest::of(b"x");
        let plain = Validators::new(&digest, Coding::Identity, MODIFIED, now());
        let br = Validators::new(&digest, Coding::Br, MODIFIED, now());
        assert_ne!(plain.etag, br.etag);
        assert!(br.etag.ends_with("-br\""));
        assert_eq!(plain.modified_value().unwrap(), SAME);
        let ahead = Validators::new(&digest, Coding::Identity, u64::MAX, now());
        assert_eq!(ahead.modified, Some(1_800_000_000));
    }
}
