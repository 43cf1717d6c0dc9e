//! What a web seed's answer is worth, told by its status and headers before a byte is taken.

use std::time::Duration;

/// Bytes of one file that are asked of a web seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WebRange {
    /// First byte, counted from the file's start.
    pub start: u64,
    /// First byte past the range; more than `start`.
    pub end: u64,
    /// Bytes of the whole file.
    pub file_len: u64,
}

impl WebRange {
    /// Bytes asked for.
    pub const fn len(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// Whether nothing is asked for; the planner makes no such range.
    pub const fn is_empty(&self) -> bool {
        self.end <= self.start
    }

    /// Whether the whole file is asked for.
    pub const fn is_whole(&self) -> bool {
        self.start == 0 && self.end == self.file_len
    }

    /// The value of a `Range` header (RFC 9110, 14.2).
    pub fn header(&self) -> String {
        format!("bytes={}-{}", self.start, self.end.saturating_sub(1))
    }
}

/// What a web seed said before the body, as found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WebHead {
    /// Status code of the last hop.
    pub status: u16,
    /// `Content-Length`, where it is a number.
    pub content_length: Option<u64>,
    /// `Content-Range`.
    pub content_range: Option<String>,
    /// `Content-Encoding`.
    pub content_encoding: Option<String>,
    /// `Retry-After`, from now.
    pub retry_after: Option<Duration>,
}

/// Why a request to a web seed brought nothing, or not all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WebFailure {
    /// It does not have this file, or not at this length. Says nothing about the others.
    #[error("it does not have the file (status {0})")]
    NoFile(u16),
    /// It has another file there.
    #[error("its file has another length")]
    OtherLength,
    /// It has too much to do, or something in it broke; comes with what it says of when to return.
    #[error("it is busy or broken (status {status})")]
    Busy {
        /// The status.
        status: u16,
        /// `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// It will not serve us.
    #[error("it refuses (status {0})")]
    Refused(u16),
    /// What came is no answer to a ranged request.
    #[error("its answer cannot be used: {0}")]
    Unusable(&'static str),
    /// No connection, or one that broke.
    #[error("connection failed")]
    Lost,
    /// Too little came for too long.
    #[error("it stalls")]
    Stalled,
    /// We may not go where its URL, or a redirect, leads.
    #[error("its address is refused")]
    Forbidden,
}

/// Whether the body that follows `head` is the one asked for: exactly [`WebRange::len`] bytes.
///
/// A `200` is taken where the whole file was asked for. A body in any encoding is refused: nothing
/// that comes from a stranger is ever decompressed (0009, T5).
///
/// # Errors
/// [`WebFailure`]: don't read the body.
pub fn judge(head: &WebHead, asked: &WebRange) -> Result<(), WebFailure> {
    match head.status {
        200 | 206 => {}
        404 | 410 | 416 => return Err(WebFailure::NoFile(head.status)),
        429 | 500..=599 => {
            return Err(WebFailure::Busy {
                status: head.status,
                retry_after: head.retry_after,
            });
        }
        400..=499 => return Err(WebFailure::Refused(head.status)),
        _ => return Err(WebFailure::Unusable("unexpected status")),
    }
    let encoding = head.content_encoding.as_deref().unwrap_or("identity");
    if !encoding.trim().eq_ignore_ascii_case("identity") {
        return Err(WebFailure::Unusable("it is encoded"));
    }
    if head.status == 200 {
        return match head.content_length {
            Some(len) if len != asked.file_len => Err(WebFailure::OtherLength),
            _ if asked.is_whole() => Ok(()),
            _ => Err(WebFailure::Unusable("the whole file instead of a range")),
        };
    }
    let range = head.content_range.as_deref().and_then(content_range);
    let Some((start, end, total)) = range else {
        return Err(WebFailure::Unusable("no Content-Range"));
    };
    if total.is_some_and(|total| total != asked.file_len) {
        return Err(WebFailure::OtherLength);
    }
    if (start, end) != (asked.start, asked.end) {
        return Err(WebFailure::Unusable("another range"));
    }
    match head.content_length {
        Some(len) if len != asked.len() => Err(WebFailure::Unusable("a body of another length")),
        _ => Ok(()),
    }
}

/// `bytes first-last/total` (RFC 9110, 14.4) as `first..last + 1` and the total, if that is known.
fn content_range(text: &str) -> Option<(u64, u64, Option<u64>)> {
    let (unit, rest) = text.trim().split_once(' ')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (range, total) = rest.trim().split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let end = number(last)?.checked_add(1)?;
    let total = match total.trim() {
        "*" => None,
        total => Some(number(total)?),
    };
    let start = number(first)?;
    (start < end && total.is_none_or(|total| end <= total)).then_some((start, end, total))
}

/// Digits only; `parse` alone would take a sign.
fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}
