//! Answers of web seeds.

use crate::download::{WebHead, WebRange, judge};

/// The head of an answer: a `206` that is taken names exactly the bytes asked for, a `200` is taken
/// for whole files only, and nothing encoded ever is.
pub fn web_answer(data: &[u8]) {
    let [status, start, len, more, length, text @ ..] = data else {
        return;
    };
    let start = u64::from(*start);
    let end = start + u64::from(*len).max(1);
    let asked = WebRange {
        start,
        end,
        file_len: end + u64::from(*more),
    };
    let text = String::from_utf8_lossy(text);
    let (range, encoding) = text.split_once('\n').unwrap_or((&text, ""));
    let head = WebHead {
        status: [200, 206, 404, 503, 301][usize::from(*status) % 5],
        content_length: (*length > 0).then_some(u64::from(*length)),
        content_range: Some(range.to_owned()),
        content_encoding: (!encoding.is_empty()).then(|| encoding.to_owned()),
        retry_after: None,
    };
    if judge(&head, &asked).is_err() {
        return;
    }
    assert!(encoding.is_empty() || encoding.trim().eq_ignore_ascii_case("identity"));
    if head.status == 200 {
        assert!(asked.is_whole());
        return assert!(head.content_length.is_none_or(|len| len == asked.file_len));
    }
    assert_eq!(head.status, 206);
    assert!(head.content_length.is_none_or(|len| len == asked.len()));
    let mut numbers = range
        .split(|c: char| !c.is_ascii_digit())
        .filter(|digits| !digits.is_empty())
        .map(|digits| digits.parse());
    assert_eq!(numbers.next(), Some(Ok(asked.start)), "{range}");
    assert_eq!(numbers.next(), Some(Ok(asked.end - 1)), "{range}");
    assert!(numbers.all(|total| total == Ok(asked.file_len)), "{range}");
}
