//! A response body that is rewritten as it streams.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::Rewriter;

/// A page on its way through a [`Rewriter`]. Trailers are dropped: they belong to other bytes.
pub struct RewrittenBody<B> {
    inner: B,
    rewriter: Option<Rewriter>,
    started: bool,
    ended: bool,
}

impl<B> RewrittenBody<B> {
    /// Sends what `inner` brings through `rewriter`.
    pub fn new(inner: B, rewriter: Rewriter) -> Self {
        Self {
            inner,
            rewriter: Some(rewriter),
            started: false,
            ended: false,
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for RewrittenBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = &mut *self;
        loop {
            if this.ended {
                return Poll::Ready(None);
            }
            match ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else {
                        continue;
                    };
                    if !this.started && !data.is_empty() {
                        this.started = true;
                        // UTF-16 is no encoding to write ASCII tags into.
                        if data.starts_with(&[0xfe, 0xff]) || data.starts_with(&[0xff, 0xfe]) {
                            this.rewriter = None;
                        }
                    }
                    let out = match this.rewriter.as_mut() {
                        Some(rewriter) => rewriter.write(data),
                        None => data,
                    };
                    if !out.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(out))));
                    }
                }
                // The visitor's connection breaks as the origin's did; nothing is made up.
                Some(Err(error)) => {
                    this.ended = true;
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    this.ended = true;
                    let rest = this
                        .rewriter
                        .as_mut()
                        .map(Rewriter::end)
                        .unwrap_or_default();
                    if !rest.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(rest))));
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
