//! Heads of the requests that are most of what comes, and of the replies to them: announces and
//! scrapes, of which nothing counts but the query.

use std::cell::RefCell;
use std::mem::MaybeUninit;
use std::time::{Duration, UNIX_EPOCH};

use hyper::StatusCode;

use super::HEADERS_MAX;

/// What bytes of a client begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Head<'b> {
    /// The front of something.
    Partial,
    /// A whole head that asks for peers or figures.
    Query(Query<'b>),
    /// Anything else, good or bad.
    Other,
}

/// A request whose target says all, but for the name by which the client knows us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Query<'b> {
    /// For figures, not for peers.
    pub(super) scrape: bool,
    /// What follows `?`.
    pub(super) query: &'b str,
    /// The host as the client names it.
    pub(super) host: Option<&'b str>,
    /// How its reply is to be framed.
    pub(super) frame: Frame,
    /// Bytes of the head; there is no body.
    pub(super) len: usize,
}

/// What decides how a reply begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    /// HTTP/1.1, not 1.0.
    pub(super) new: bool,
    /// Whether the client wants to ask more on this connection.
    pub(super) keep: bool,
}

const ANNOUNCE: &[u8] = b"GET /announce?";
const SCRAPE: &[u8] = b"GET /scrape?";

impl<'b> Head<'b> {
    /// Reads what has come. The first `looked` bytes are known to hold no end of a head.
    pub(super) fn read(bytes: &'b [u8], looked: usize) -> Self {
        let fits = |front: &[u8]| bytes.starts_with(front) || front.starts_with(bytes);
        if !fits(ANNOUNCE) && !fits(SCRAPE) {
            return Self::Other;
        }
        // Most heads come whole. One that does not is parsed once more only when its end is there:
        // it may come byte by byte.
        if looked > 0 && !has_end(bytes, looked) {
            return Self::Partial;
        }
        parse(bytes)
    }
}

/// Whether there is an empty line.
fn has_end(bytes: &[u8], looked: usize) -> bool {
    let from = looked.saturating_sub(3);
    let new = bytes.get(from..).unwrap_or_default();
    let mut rest = new;
    while let Some(at) = rest.iter().position(|byte| *byte == b'\n') {
        rest = rest.get(at + 1..).unwrap_or_default();
        if rest.starts_with(b"\n") || rest.starts_with(b"\r\n") {
            return true;
        }
    }
    false
}

fn parse(bytes: &[u8]) -> Head<'_> {
    let mut fields = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(bytes, &mut fields) {
        Ok(httparse::Status::Complete(len)) => {
            plain_query(&request, len).map_or(Head::Other, Head::Query)
        }
        Ok(httparse::Status::Partial) => Head::Partial,
        Err(_) => Head::Other,
    }
}

/// The query of a request that is nothing else.
fn plain_query<'b>(request: &httparse::Request<'_, 'b>, len: usize) -> Option<Query<'b>> {
    let new = request.version? == 1;
    let (path, query) = request.path?.split_once('?')?;
    // Without an id it may be a page of a site whose name leads here.
    if query.contains('#') || !query.contains("info_hash=") {
        return None;
    }
    let (mut keep, mut host) = (new, None);
    for field in request.headers.iter() {
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        if is("connection") {
            for option in field.value.split(|byte| *byte == b',') {
                let option = option.trim_ascii();
                if option.eq_ignore_ascii_case(b"close") {
                    keep = false;
                } else if option.eq_ignore_ascii_case(b"keep-alive") {
                    keep |= !new;
                }
            }
        } else if is("host") {
            host = host.or(Some(field.value));
        } else if is("content-length") && field.value.trim_ascii() != b"0"
            || is("transfer-encoding")
            || is("expect")
            || is("upgrade")
        {
            // A body, or another protocol.
            return None;
        }
    }
    Some(Query {
        scrape: match path {
            "/announce" => false,
            "/scrape" => true,
            _ => return None,
        },
        query,
        host: host.and_then(|host| std::str::from_utf8(host).ok()),
        frame: Frame { new, keep },
        len,
    })
}

/// Writes a whole reply. `unix` is the time, for its date.
pub(super) fn write_reply(
    out: &mut Vec<u8>,
    frame: Frame,
    status: StatusCode,
    unix: u64,
    body: &[u8],
) {
    out.reserve(192 + body.len());
    out.extend_from_slice(if frame.new {
        b"HTTP/1.1 "
    } else {
        b"HTTP/1.0 "
    });
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    let reason = status.canonical_reason().unwrap_or_default();
    out.extend_from_slice(reason.as_bytes());
    out.extend_from_slice(b"\r\ncontent-type: text/plain\r\ncontent-length: ");
    let mut digits = itoa::Buffer::new();
    out.extend_from_slice(digits.format(body.len()).as_bytes());
    out.extend_from_slice(match (frame.new, frame.keep) {
        (true, true) | (false, false) => b"\r\ndate: ".as_slice(),
        (true, false) => b"\r\nconnection: close\r\ndate: ",
        (false, true) => b"\r\nconnection: keep-alive\r\ndate: ",
    });
    put_date(out, unix);
    out.extend_from_slice(b"\r\n\r\n");
    out.extend_from_slice(body);
}

/// Writes a date, made anew once a second.
fn put_date(out: &mut Vec<u8>, unix: u64) {
    thread_local! {
        static LAST: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
    }
    LAST.with_borrow_mut(|(second, text)| {
        if *second != unix || text.is_empty() {
            *second = unix;
            *text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(unix));
        }
        out.extend_from_slice(text.as_bytes());
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "GET /announce?info_hash=b&c HTTP/1.1\r\nHost: t\r\n\r\n";

    fn good(host: Option<&'static str>, frame: Frame, len: usize) -> Head<'static> {
        Head::Query(Query {
            scrape: false,
            query: "info_hash=b&c",
            host,
            frame,
            len,
        })
    }

    #[test]
    fn heads_are_read_as_soon_as_they_are_whole() {
        let whole = Frame {
            new: true,
            keep: true,
        };
        for looked in 0..GOOD.len() {
            assert_eq!(Head::read(&GOOD.as_bytes()[..looked], 0), Head::Partial);
            let read = Head::read(GOOD.as_bytes(), looked);
            assert_eq!(read, good(Some("t"), whole, GOOD.len()), "{looked}");
        }
        let two = [GOOD, GOOD].concat();
        assert_eq!(
            Head::read(two.as_bytes(), 0),
            good(Some("t"), whole, GOOD.len())
        );
        let bare = GOOD.replace('\r', "");
        assert_eq!(
            Head::read(bare.as_bytes(), 0),
            good(Some("t"), whole, bare.len())
        );
        let named = GOOD.replace("Host: t", "A: b\r\nhOST: t\r\nHost: other");
        let found = good(Some("t"), whole, named.len());
        assert_eq!(Head::read(named.as_bytes(), 0), found);
        let scrape = "GET /scrape?info_hash=x HTTP/1.0\r\n\r\n";
        assert!(matches!(
            Head::read(scrape.as_bytes(), 0),
            Head::Query(Query {
                scrape: true,
                query: "info_hash=x",
                ..
            })
        ));
    }

    #[test]
    fn who_wants_to_ask_more_is_known() {
        for (version, field, keep) in [
            ("1.1", "", true),
            ("1.1", "Connection: close\r\n", false),
            ("1.1", "connection: x , CLOSE\r\n", false),
            ("1.1", "Connection: keep-alive\r\n", true),
            (
                "1.1",
                "Connection: close\r\nConnection: keep-alive\r\n",
                false,
            ),
            ("1.0", "", false),
            ("1.0", "Connection: Keep-Alive\r\n", true),
            ("1.0", "Connection: close\r\n", false),
        ] {
            let text = format!("GET /announce?info_hash=b&c HTTP/{version}\r\n{field}\r\n");
            let frame = Frame {
                new: version == "1.1",
                keep,
            };
            let len = text.len();
            assert_eq!(
                Head::read(text.as_bytes(), 0),
                good(None, frame, len),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_plain_query_is_for_others() {
        for text in [
            "HEAD /announce?a HTTP/1.1\r\n\r\n".to_owned(),
            "GET /announce HTTP/1.1\r\n\r\n".to_owned(),
            "GET /announced?a HTTP/1.1\r\n\r\n".to_owned(),
            "GET /r/x?a HTTP/1.1\r\n\r\n".to_owned(),
            "GET /announce?a#b HTTP/1.1\r\n\r\n".to_owned(),
            "GET /announce?a HTTP/2.0\r\n\r\n".to_owned(),
            "GET /announce?a HTTP/1.1\r\nNo field\r\n\r\n".to_owned(),
            "GET /announce?a\0 HTTP/1.1\r\n\r\n".to_owned(),
            GOOD.replace("Host: t", "Content-Length: 5"),
            GOOD.replace("Host: t", "Transfer-Encoding: chunked"),
            GOOD.replace("Host: t", "Expect: 100-continue"),
            GOOD.replace("Host: t", "Connection: Upgrade\r\nUpgrade: websocket"),
            GOOD.replace("Host: t", &"A: b\r\n".repeat(HEADERS_MAX + 1)),
        ] {
            assert_eq!(Head::read(text.as_bytes(), 0), Head::Other, "{text:?}");
        }
        let empty = GOOD.replace("Host: t", "Content-Length: 0");
        assert!(matches!(Head::read(empty.as_bytes(), 0), Head::Query(_)));
    }

    #[test]
    fn replies_say_what_their_frame_needs() {
        for (new, keep, begins, contains) in [
            (
                true,
                true,
                "HTTP/1.1 410 Gone\r\n",
                "length: 3\r\ndate: Thu, 01 Jan 1970 00:00:09 GMT\r\n\r\nabc",
            ),
            (
                true,
                false,
                "HTTP/1.1 410 Gone\r\n",
                "\r\nconnection: close\r\n",
            ),
            (
                false,
                true,
                "HTTP/1.0 410 Gone\r\n",
                "\r\nconnection: keep-alive\r\n",
            ),
            (false, false, "HTTP/1.0 410 Gone\r\n", "length: 3\r\ndate: "),
        ] {
            let mut out = Vec::new();
            write_reply(&mut out, Frame { new, keep }, StatusCode::GONE, 9, b"abc");
            let text = String::from_utf8(out).expect("text");
            assert!(
                text.starts_with(begins) && text.contains(contains),
                "{text}"
            );
        }
    }
}
