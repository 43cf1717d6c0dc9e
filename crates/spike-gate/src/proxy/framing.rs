//! Sees requests that have both `Transfer-Encoding` and `Content-Length`.
//!
//! hyper settles that doubt by itself (the length is dropped and the connection closed after the
//! answer), and so quietly that the service cannot tell. RFC 9112, 6.1 lets a server refuse; a
//! front door should. The scanner follows requests on the wire just far enough to know which one
//! it was. Where it loses its way, hyper's own reading stands.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes of a line that are looked at: the longest name, a colon, spaces, and a number.
const LINE_LEN_MAX: usize = 64;

/// The number of the first request in doubt on a connection, 1 for the first; 0: none.
pub type Doubted = Arc<AtomicU64>;

#[derive(Debug, Default)]
struct Scanner {
    place: Place,
    line: Vec<u8>,
    requests: u64,
    coded: bool,
    length: Option<u64>,
    doubted: u64,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before a request line; empty lines are skipped.
    #[default]
    Start,
    /// Within the head.
    Head,
    /// Within a body, so many bytes to go.
    Body(u64),
    /// In the line that tells a chunk's size.
    ChunkSize,
    /// In a chunk, so many bytes to go, its line end included.
    Chunk(u64),
    /// After the last chunk.
    Trailers,
    /// Lost, or no HTTP any more.
    Beyond,
}

impl Scanner {
    fn feed(&mut self, mut bytes: &[u8]) {
        while let Some(first) = bytes.first() {
            match self.place {
                Place::Beyond => return,
                Place::Body(left) | Place::Chunk(left) => {
                    let skip = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    bytes = bytes.get(skip..).unwrap_or_default();
                    let left = left - skip as u64;
                    self.place = match (self.place, left) {
                        (Place::Body(_), 0) => Place::Start,
                        (Place::Body(_), left) => Place::Body(left),
                        (_, 0) => Place::ChunkSize,
                        (_, left) => Place::Chunk(left),
                    };
                    continue;
                }
                _ => {}
            }
            if *first == b'\n' {
                let line = std::mem::take(&mut self.line);
                self.line_ended(line.strip_suffix(b"\r").unwrap_or(&line));
            } else if self.line.len() < LINE_LEN_MAX {
                self.line.push(*first);
            }
            bytes = bytes.get(1..).unwrap_or_default();
        }
    }

    fn line_ended(&mut self, line: &[u8]) {
        self.place = match self.place {
            Place::Start if line.is_empty() => Place::Start,
            Place::Start => {
                self.requests += 1;
                (self.coded, self.length) = (false, None);
                Place::Head
            }
            Place::Head if line.is_empty() => self.head_ended(),
            Place::Head => {
                if value(line, b"transfer-encoding").is_some() {
                    self.coded = true;
                } else if let Some(value) = value(line, b"content-length") {
                    let number = std::str::from_utf8(value).ok().map(str::trim);
                    self.length = Some(number.and_then(|n| n.parse().ok()).unwrap_or(u64::MAX));
                }
                Place::Head
            }
            Place::ChunkSize => {
                let digits: Vec<u8> = line
                    .iter()
                    .copied()
                    .take_while(u8::is_ascii_hexdigit)
                    .collect();
                let size = std::str::from_utf8(&digits).ok();
                match size.and_then(|size| u64::from_str_radix(size, 16).ok()) {
                    Some(0) => Place::Trailers,
                    Some(size) => Place::Chunk(size.saturating_add(2)),
                    None => Place::Beyond,
                }
            }
            Place::Trailers if line.is_empty() => Place::Start,
            same => same,
        };
    }

    fn head_ended(&mut self) -> Place {
        match (self.coded, self.length) {
            (true, Some(_)) => {
                self.doubted = self.requests;
                Place::Beyond
            }
            (true, None) => Place::ChunkSize,
            (false, Some(0) | None) => Place::Start,
            (false, Some(length)) => Place::Body(length),
        }
    }
}

/// The value of a header line, if it has this name.
fn value<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (start, rest) = line.split_at_checked(name.len())?;
    if !start.eq_ignore_ascii_case(name) {
        return None;
    }
    let at = rest.iter().position(|byte| !byte.is_ascii_whitespace())?;
    rest.get(at..)?.strip_prefix(b":")
}

/// A visitor's connection whose requests are scanned as they are read.
#[derive(Debug)]
pub struct Scanned<S> {
    inner: S,
    scanner: Scanner,
    doubted: Doubted,
}

impl<S> Scanned<S> {
    /// Scans what is read from `inner`; the number tells which request is in doubt.
    pub fn new(inner: S) -> (Self, Doubted) {
        let doubted = Doubted::default();
        let scanned = Self {
            inner,
            scanner: Scanner::default(),
            doubted: doubted.clone(),
        };
        (scanned, doubted)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Scanned<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
        if this.scanner.doubted == 0 {
            this.scanner
                .feed(buf.filled().get(before..).unwrap_or_default());
            if this.scanner.doubted != 0 {
                this.doubted.store(this.scanner.doubted, Ordering::Release);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Scanned<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn doubted(wire: &str, cut: usize) -> (u64, u64) {
        let mut scanner = Scanner::default();
        for part in wire.as_bytes().chunks(cut) {
            scanner.feed(part);
        }
        (scanner.requests, scanner.doubted)
    }

    #[test]
    fn the_request_in_doubt_is_found_among_others() {
        let both = "POST / HTTP/1.1\r\nContent-Length: 4\r\nX: y\r\ntransfer-Encoding:chunked\r\n\r\n0\r\n\r\n";
        let long = "x".repeat(5000);
        for (before, number) in [
            (String::new(), 1),
            ("\r\n\r\n".into(), 1),
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n".into(), 2),
            (format!("GET /{long} HTTP/1.1\r\nHost: {long}\r\n\r\n"), 2),
            ("GET / HTTP/1.1\nHost: a\n\n".into(), 2),
            ("POST / HTTP/1.1\r\nContent-Length: 12\r\n\r\nGET / x\r\n\r\n.".into(), 2),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nGET /\r\n0\r\nT: 1\r\n\r\n".into(), 2),
            ("POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\nPOST / HTTP/1.1\r\nContent-Length: 1\r\n\r\nx".into(), 3),
        ] {
            for cut in [1, 3, 100_000] {
                let found = doubted(&format!("{before}{both}"), cut);
                assert_eq!(found, (number, number), "{before:?} cut {cut}");
            }
        }
    }

    #[test]
    fn plain_requests_are_in_no_doubt() {
        for wire in [
            "GET / HTTP/1.1\r\nX-Content-Length: 1\r\nTransfer-Encoding-X: 1\r\n\r\n",
            "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nContent-Length: 1\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 60\r\n\r\nTransfer-Encoding: chunked\r\n\r\n",
            "\u{16}\u{3}\u{1} no http at all",
        ] {
            assert_eq!(doubted(wire, 7).1, 0, "{wire:?}");
        }
    }

    proptest! {
        #[test]
        fn however_the_wire_is_cut_the_finding_is_the_same(wire in "(GET|POST| |\r\n|\n|:|Content-Length|Transfer-Encoding|[0-9a-f]|chunked){0,60}", cut in 1..20_usize) {
            prop_assert_eq!(doubted(&wire, cut), doubted(&wire, usize::MAX));
        }
    }
}
