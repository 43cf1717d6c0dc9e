//! Bodies on their way through, in either direction.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use swarm_peer::uplink::Uplink;
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

/// A body that may go out only as fast as its share of the line allows. Costs nothing while that
/// share is unlimited.
pub struct Paced<B> {
    inner: B,
    share: Uplink,
    waiting: Option<Waiting>,
    _slot: Option<Slot>,
}

struct Waiting {
    bought: Pin<Box<dyn Future<Output = ()> + Send>>,
    frame: Option<Frame<Bytes>>,
}

impl<B> Paced<B> {
    /// Paces `inner` by `share`, which all bodies of its kind draw on, and gives `slot` back in
    /// the end.
    pub fn new(inner: B, share: Uplink, slot: Option<Slot>) -> Self {
        Self {
            inner,
            share,
            waiting: None,
            _slot: slot,
        }
    }
}

impl<B> Body for Paced<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = &mut *self;
        if this.waiting.is_none() {
            let frame = match ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                other => return Poll::Ready(other),
            };
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            if bytes == 0 || this.share.rate().is_none() {
                return Poll::Ready(Some(Ok(frame)));
            }
            let share = this.share.clone();
            let bought = Box::pin(async move { share.take(bytes).await });
            this.waiting = Some(Waiting {
                bought,
                frame: Some(frame),
            });
        }
        let Some(waiting) = this.waiting.as_mut() else {
            return Poll::Ready(None);
        };
        ready!(waiting.bought.as_mut().poll(cx));
        let frame = waiting.frame.take();
        this.waiting = None;
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.waiting.is_none() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.inner.size_hint();
        let held = self
            .waiting
            .as_ref()
            .and_then(|w| w.frame.as_ref()?.data_ref());
        let held = held.map_or(0, Bytes::len) as u64;
        if held > 0 {
            let exact = hint.exact();
            match exact {
                Some(exact) => hint.set_exact(exact + held),
                None => hint.set_lower(hint.lower() + held),
            }
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[tokio::test]
    async fn a_paced_body_keeps_its_bytes_and_its_pace() {
        let share = Uplink::new(8_000_000);
        let started = Instant::now();
        let body = Paced::new(full(vec![7_u8; 200_000]), share.clone(), None);
        assert_eq!(body.size_hint().exact(), Some(200_000));
        let bytes = body.collect().await.unwrap().to_bytes();
        assert_eq!(bytes.len(), 200_000);
        assert!(
            started.elapsed() > Duration::from_millis(150),
            "{:?}",
            started.elapsed()
        );
        share.set_rate(None);
        let started = Instant::now();
        let body = Paced::new(full(vec![7_u8; 20_000_000]), share, None);
        assert_eq!(body.collect().await.unwrap().to_bytes().len(), 20_000_000);
        assert!(started.elapsed() < Duration::from_secs(5));
    }

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
