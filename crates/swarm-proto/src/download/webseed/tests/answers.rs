use super::*;
use crate::download::judge;

fn check(head: WebHead, asked: (u64, u64, u64), expected: Result<(), WebFailure>) {
    let range = WebRange {
        start: asked.0,
        end: asked.1,
        file_len: asked.2,
    };
    assert_eq!(judge(&head, &range), expected, "{head:?}");
}

fn head(status: u16, range: &str, len: Option<u64>) -> WebHead {
    WebHead {
        status,
        content_length: len,
        content_range: (!range.is_empty()).then(|| range.to_owned()),
        ..WebHead::default()
    }
}

#[test]
fn a_range_is_taken_only_if_it_is_the_one_asked_for() {
    let other = |what| Err(WebFailure::Unusable(what));
    for (range, len, expected) in [
        ("bytes 10-19/100", Some(10), Ok(())),
        ("bytes 10-19/*", None, Ok(())),
        ("BYTES 10-19/100", Some(10), Ok(())),
        (
            "bytes 10-19/100",
            Some(11),
            other("a body of another length"),
        ),
        ("bytes 10-19/101", Some(10), Err(WebFailure::OtherLength)),
        ("bytes 10-18/100", Some(9), other("another range")),
        ("bytes 0-99/100", Some(100), other("another range")),
        ("", Some(10), other("no Content-Range")),
        ("bytes 10-19", Some(10), other("no Content-Range")),
        ("bytes +10-19/100", None, other("no Content-Range")),
        ("bytes 10-/100", None, other("no Content-Range")),
        ("bytes */100", None, other("no Content-Range")),
        ("items 10-19/100", None, other("no Content-Range")),
        ("bytes 19-10/100", None, other("no Content-Range")),
        (
            "bytes 10-18446744073709551615/*",
            None,
            other("no Content-Range"),
        ),
        (
            "bytes 10-99999999999999999999/*",
            None,
            other("no Content-Range"),
        ),
        ("bytes 10-19/15", None, other("no Content-Range")),
    ] {
        check(head(206, range, len), (10, 20, 100), expected);
    }
}

#[test]
fn a_whole_file_is_taken_where_it_was_asked_for() {
    check(head(200, "", Some(100)), (0, 100, 100), Ok(()));
    check(head(200, "", None), (0, 100, 100), Ok(()));
    let longer = Err(WebFailure::OtherLength);
    check(head(200, "", Some(101)), (0, 100, 100), longer.clone());
    check(head(200, "", Some(99)), (10, 20, 100), longer);
    let whole = Err(WebFailure::Unusable("the whole file instead of a range"));
    check(head(200, "", Some(100)), (10, 20, 100), whole);
}

#[test]
fn t5_an_encoded_body_is_refused_before_a_byte_of_it_is_read() {
    for encoding in ["gzip", "br", "zstd", "deflate", "GZIP", "gzip, br", "x", ""] {
        for status in [200, 206] {
            let mut encoded = head(status, "bytes 0-99/100", None);
            encoded.content_encoding = Some(encoding.to_owned());
            check(
                encoded,
                (0, 100, 100),
                Err(WebFailure::Unusable("it is encoded")),
            );
        }
    }
    let mut plain = head(206, "bytes 0-99/100", None);
    plain.content_encoding = Some(" Identity ".to_owned());
    check(plain, (0, 100, 100), Ok(()));
}

#[test]
fn statuses_say_what_failed() {
    let busy = |status| WebFailure::Busy {
        status,
        retry_after: Some(Duration::from_secs(7)),
    };
    for (status, expected) in [
        (404, WebFailure::NoFile(404)),
        (410, WebFailure::NoFile(410)),
        (416, WebFailure::NoFile(416)),
        (401, WebFailure::Refused(401)),
        (403, WebFailure::Refused(403)),
        (429, busy(429)),
        (500, busy(500)),
        (503, busy(503)),
        (304, WebFailure::Unusable("unexpected status")),
        (204, WebFailure::Unusable("unexpected status")),
        (999, WebFailure::Unusable("unexpected status")),
    ] {
        let mut answer = head(status, "bytes 0-99/100", Some(100));
        answer.retry_after = Some(Duration::from_secs(7));
        check(answer, (0, 100, 100), Err(expected));
    }
}
