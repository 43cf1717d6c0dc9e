//! Bodies on their way through, in either direction.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use tokio::time::{Sleep, sleep};

use crate::lane::Slot;

/// What a body fails with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Any body.
pub type AnyBody = UnsyncBoxBody<Bytes, BoxError>;

/// No bytes.
pub fn empty() -> AnyBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// These bytes.
pub fn full(bytes: impl Into<Bytes>) -> AnyBody {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// The other end sent nothing for too long.
#[derive(Debug, thiserror::Error)]
#[error("nothing came for {0:?}")]
pub struct Stalled(Duration);

/// A body that fails when its source falls silent. Time the reader takes does not count.
pub struct Patient<B> {
    inner: B,
    patience: Duration,
    silence: Option<Pin<Box<Sleep>>>,
}

impl<B> Patient<B> {
    /// Waits at most `patience` for each part of `inner`.
    pub fn new(inner: B, patience: Duration) -> Self {
        Self {
            inner,
            patience,
            silence: None,
        }
    }
}

impl<B> Body for Patient<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(cx) {
            this.silence = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let patience = this.patience;
        let silence = this
            .silence
            .get_or_insert_with(|| Box::pin(sleep(patience)));
        silence
            .as_mut()
            .poll(cx)
            .map(|()| Some(Err(Stalled(patience).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Marks an answer that goes out by the lane of large ones; an extension of the response.
#[derive(Debug, Clone, Copy)]
pub struct Large;

/// A body that holds a place in the queue of large answers until it is gone.
pub struct Holding<B> {
    inner: B,
    _slot: Slot,
}

impl<B> Holding<B> {
    /// Gives `slot` back when dropped.
    pub fn new(inner: B, slot: Slot) -> Self {
        Self { inner, _slot: slot }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Holding<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[tokio::test]
    async fn a_silent_source_ends_the_body() {
        let (sender, receiver) = tokio::sync::mpsc::channel::<Bytes>(1);
        let stream = futures_util::stream::unfold(receiver, |mut receiver| async {
            let bytes = receiver.recv().await?;
            Some((Ok::<_, BoxError>(Frame::data(bytes)), receiver))
        });
        let inner = http_body_util::StreamBody::new(Box::pin(stream));
        let mut body = Patient::new(inner, Duration::from_millis(200));
        sender.send(Bytes::from_static(b"x")).await.unwrap();
        assert!(body.frame().await.unwrap().is_ok());
        let error = body.frame().await.unwrap().unwrap_err();
        assert!(error.downcast_ref::<Stalled>().is_some());
    }
}
