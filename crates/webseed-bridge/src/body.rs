//! [`VerifiedBody`]: the last link of the data path, verified bytes as an HTTP body.
//!
//! The bytes come from [`Source::open`], which yields only what `verify` let through. This body
//! adds what a bundle's hashes cannot say: that a whole file has the digest that the manifest
//! gives it. Where it has not, or where the swarm stalls, the body fails and hyper breaks the
//! connection; a visitor's browser then shows a broken transfer, never a wrong file.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use http_body::{Body, Frame, SizeHint};
use sha2::{Digest as _, Sha256};
use swarm_proto::geometry::ByteRange;
use swarm_proto::id::Digest;
use tokio::time::{Instant, Sleep, sleep};

use crate::stats::SiteStats;

/// Verified bytes in order, as they arrive.
pub type ByteStream = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// One file of a bundle.
pub trait Source: Send + Sync {
    /// Streams `range` of the file, waiting for pieces that are missing.
    fn open(&self, range: ByteRange) -> ByteStream;
    /// Whether all of `range` is held already.
    fn holds(&self, range: ByteRange) -> bool;
}

/// What this process knows about one file's digest.
#[derive(Debug, Default)]
pub struct FileState(AtomicU8);

const CHECKED: u8 = 1;
const WRONG: u8 = 2;

impl FileState {
    /// The file was read whole once and had its digest.
    pub fn is_checked(&self) -> bool {
        self.0.load(Ordering::Relaxed) == CHECKED
    }

    /// The file was read whole and had another digest than the manifest says.
    pub fn is_wrong(&self) -> bool {
        self.0.load(Ordering::Relaxed) == WRONG
    }

    fn set(&self, state: u8) {
        self.0.store(state, Ordering::Relaxed);
    }
}

/// Compares what is read from a whole file with its digest.
pub(crate) struct DigestCheck {
    hasher: Sha256,
    expected: Digest,
    state: Arc<FileState>,
}

impl DigestCheck {
    pub(crate) fn new(expected: Digest, state: Arc<FileState>) -> Self {
        Self {
            hasher: Sha256::new(),
            expected,
            state,
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
    }

    /// # Errors
    /// The file is not what the manifest says; the publisher contradicts itself.
    pub(crate) fn finish(self) -> io::Result<()> {
        if self.hasher.finalize().as_slice() == self.expected.as_bytes() {
            self.state.set(CHECKED);
            Ok(())
        } else {
            self.state.set(WRONG);
            let found = format!("file has not the digest {}", self.expected);
            Err(io::Error::new(io::ErrorKind::InvalidData, found))
        }
    }
}

/// A run of bytes within a body.
pub(crate) enum Segment {
    /// Ready bytes: a small file, a page of ours, the head of a part.
    Ready(Bytes),
    /// A range of the source, opened when its turn comes.
    Range(ByteRange),
    /// A range already opened; what was read of it ahead, then the rest of that many bytes.
    Opened(ByteStream, u64),
}

impl Segment {
    /// Bytes that it will give.
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Ready(bytes) => bytes.len() as u64,
            Self::Range(range) => range.end.saturating_sub(range.start),
            Self::Opened(_, len) => *len,
        }
    }

    /// The same bytes out of the whole file.
    pub(crate) fn cut(&self, file: &Bytes) -> Option<Bytes> {
        match self {
            Self::Ready(bytes) => Some(bytes.clone()),
            Self::Range(range) => {
                let start = usize::try_from(range.start).ok()?;
                let end = usize::try_from(range.end).ok()?;
                (start <= end && end <= file.len()).then(|| file.slice(start..end))
            }
            Self::Opened(..) => None,
        }
    }
}

/// The body of a response.
pub struct VerifiedBody {
    source: Option<Arc<dyn Source>>,
    segments: VecDeque<Segment>,
    current: Option<(ByteStream, u64)>,
    left: u64,
    check: Option<DigestCheck>,
    stats: Option<Arc<SiteStats>>,
    stall: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl VerifiedBody {
    /// No bytes.
    pub fn empty() -> Self {
        Self {
            source: None,
            segments: VecDeque::new(),
            current: None,
            left: 0,
            check: None,
            stats: None,
            stall: Duration::MAX,
            stalled: None,
        }
    }

    /// Bytes at hand.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let mut body = Self::empty();
        body.left = bytes.len() as u64;
        if !bytes.is_empty() {
            body.segments.push_back(Segment::Ready(bytes));
        }
        body
    }

    /// Bytes at hand, in parts.
    pub(crate) fn of_parts(parts: impl Iterator<Item = Bytes>) -> Self {
        let mut body = Self::empty();
        for part in parts.filter(|part| !part.is_empty()) {
            body.left = body.left.saturating_add(part.len() as u64);
            body.segments.push_back(Segment::Ready(part));
        }
        body
    }

    /// The whole body, where it is at hand in one part.
    pub(crate) fn ready(&self) -> Option<Bytes> {
        match self.segments.front() {
            Some(Segment::Ready(bytes)) if bytes.len() as u64 == self.left => Some(bytes.clone()),
            _ => None,
        }
    }

    /// Segments of which `left` bytes will come; a pause of `stall` without a byte fails it.
    pub(crate) fn of_segments(
        source: Arc<dyn Source>,
        segments: VecDeque<Segment>,
        left: u64,
        stall: Duration,
    ) -> Self {
        Self {
            source: Some(source),
            segments,
            left,
            stall,
            ..Self::empty()
        }
    }

    /// Checks the bytes of the body, which must be a whole file, against a digest.
    pub(crate) fn checked(mut self, check: Option<DigestCheck>) -> Self {
        self.check = check;
        self
    }

    /// Counts bytes as they leave.
    pub(crate) fn counted(mut self, stats: Arc<SiteStats>) -> Self {
        self.stats = Some(stats);
        self
    }

    /// Bytes still to come.
    pub(crate) fn len(&self) -> u64 {
        self.left
    }

    /// Reads and checks all of a small body; what comes back cannot fail any more.
    pub(crate) async fn read_ahead(mut self) -> io::Result<Self> {
        let stats = self.stats.take();
        let mut bytes = BytesMut::new();
        while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut self).poll_frame(cx)).await
        {
            if let Ok(data) = frame?.into_data() {
                bytes.extend_from_slice(&data);
            }
        }
        let mut body = Self::full(bytes.freeze());
        body.stats = stats;
        Ok(body)
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        loop {
            if let Some((stream, left)) = &mut self.current {
                let chunk = match stream.as_mut().poll_next(cx) {
                    Poll::Ready(Some(Ok(chunk))) if chunk.is_empty() => continue,
                    Poll::Ready(Some(Ok(chunk))) => chunk,
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                    Poll::Ready(None) => {
                        return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into())));
                    }
                    Poll::Pending => return self.poll_stalled(cx),
                };
                self.stalled = None;
                let Some(rest) = left.checked_sub(chunk.len() as u64) else {
                    let error = io::Error::other("source gave more than was asked");
                    return Poll::Ready(Some(Err(error)));
                };
                *left = rest;
                if rest == 0 {
                    self.current = None;
                }
                return Poll::Ready(Some(Ok(chunk)));
            }
            match self.segments.pop_front() {
                None => return Poll::Ready(None),
                Some(Segment::Ready(bytes)) => return Poll::Ready(Some(Ok(bytes))),
                Some(Segment::Opened(stream, len)) => self.current = Some((stream, len)),
                Some(Segment::Range(range)) => {
                    let Some(source) = &self.source else {
                        return Poll::Ready(Some(Err(io::Error::other("no source"))));
                    };
                    let len = range.end.saturating_sub(range.start);
                    self.current = (len > 0).then(|| (source.open(range), len));
                }
            }
        }
    }

    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if Instant::now().checked_add(self.stall).is_none() {
            return Poll::Pending;
        }
        let stall = self.stall;
        let timer = self.stalled.get_or_insert_with(|| Box::pin(sleep(stall)));
        match timer.as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => Poll::Ready(Some(Err(io::ErrorKind::TimedOut.into()))),
        }
    }
}

impl Body for VerifiedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let body = self.get_mut();
        if body.left == 0 {
            return Poll::Ready(None);
        }
        let result = match std::task::ready!(body.poll_chunk(cx)) {
            None => Err(io::ErrorKind::UnexpectedEof.into()),
            Some(Err(error)) => Err(error),
            Some(Ok(chunk)) => {
                body.left = body.left.saturating_sub(chunk.len() as u64);
                if let Some(check) = &mut body.check {
                    check.update(&chunk);
                }
                // The digest is judged before the last bytes leave, so that a wrong file is
                // never complete.
                let verdict = match body.check.take() {
                    Some(check) if body.left == 0 => check.finish(),
                    check => {
                        body.check = check;
                        Ok(())
                    }
                };
                verdict.map(|()| chunk)
            }
        };
        match result {
            Ok(chunk) => {
                if let Some(stats) = &body.stats {
                    stats.sent(chunk.len() as u64);
                }
                Poll::Ready(Some(Ok(Frame::data(chunk))))
            }
            Err(error) => {
                tracing::warn!(%error, left = body.left, "response broken off");
                body.left = 0;
                body.current = None;
                body.segments.clear();
                Poll::Ready(Some(Err(error)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

impl std::fmt::Debug for VerifiedBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VerifiedBody")
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use http_body_util::BodyExt;

    /// Gives its bytes in chunks of three; `stop` ends the stream early, without an error.
    struct Memory {
        bytes: Vec<u8>,
        stop: Option<usize>,
        hang: bool,
    }

    impl Source for Memory {
        fn open(&self, range: ByteRange) -> ByteStream {
            let range = range.start as usize..range.end as usize;
            let chunks: Vec<_> = self.bytes[range]
                .chunks(3)
                .map(|c| Ok(Bytes::copy_from_slice(c)))
                .collect();
            let chunks = stream::iter(chunks.into_iter().take(self.stop.unwrap_or(usize::MAX)));
            if self.hang {
                return Box::pin(futures_util::StreamExt::chain(chunks, stream::pending()));
            }
            Box::pin(chunks)
        }

        fn holds(&self, _: ByteRange) -> bool {
            true
        }
    }

    fn memory(bytes: &[u8]) -> Memory {
        Memory {
            bytes: bytes.to_vec(),
            stop: None,
            hang: false,
        }
    }

    fn whole(source: Memory, check: Option<DigestCheck>) -> VerifiedBody {
        let end = source.bytes.len() as u64;
        let range = Segment::Range(ByteRange { start: 0, end });
        VerifiedBody::of_segments(
            Arc::new(source),
            [range].into(),
            end,
            Duration::from_secs(5),
        )
        .checked(check)
    }

    #[tokio::test]
    async fn a_whole_file_is_checked_once() {
        let state = Arc::new(FileState::default());
        let check = DigestCheck::new(Digest::of(b"hello world"), state.clone());
        let body = whole(memory(b"hello world"), Some(check));
        assert_eq!(body.size_hint().exact(), Some(11));
        assert_eq!(body.collect().await.unwrap().to_bytes(), "hello world");
        assert!(state.is_checked());
    }

    #[tokio::test]
    async fn a_wrong_file_never_ends_well() {
        let state = Arc::new(FileState::default());
        let check = DigestCheck::new(Digest::of(b"hello there"), state.clone());
        let mut body = whole(memory(b"hello world"), Some(check));
        let mut got = 0;
        let error = loop {
            match body.frame().await.expect("an error comes before the end") {
                Ok(frame) => got += frame.into_data().unwrap().len(),
                Err(error) => break error,
            }
        };
        assert!(got < 11);
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(state.is_wrong());
        assert!(body.frame().await.is_none());
    }

    #[tokio::test]
    async fn a_short_source_breaks_the_body() {
        let source = Memory {
            stop: Some(2),
            ..memory(b"hello world")
        };
        let error = whole(source, None).collect().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stalled_source_breaks_the_body() {
        let source = Memory {
            stop: Some(2),
            hang: true,
            ..memory(b"hello world")
        };
        let started = Instant::now();
        let error = whole(source, None).collect().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(started.elapsed().as_secs(), 5);
    }

    #[tokio::test]
    async fn parts_come_in_order() {
        let range = |start, end| Segment::Range(ByteRange { start, end });
        let ready = |text: &'static str| Segment::Ready(Bytes::from_static(text.as_bytes()));
        let segments = [
            ready("<"),
            range(6, 11),
            ready("|"),
            range(0, 5),
            ready(">"),
        ]
        .into();
        let source = Arc::new(memory(b"hello world"));
        let stats = Arc::new(SiteStats::default());
        let body =
            VerifiedBody::of_segments(source, segments, 13, Duration::MAX).counted(stats.clone());
        assert_eq!(body.collect().await.unwrap().to_bytes(), "<world|hello>");
        assert_eq!(stats.bytes(), 13);
    }
}
