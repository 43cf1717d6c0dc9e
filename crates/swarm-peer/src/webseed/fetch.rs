//! One ranged GET.

use std::time::{Duration, SystemTime};

use http::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, HeaderMap, HeaderName,
    HeaderValue, RANGE, RETRY_AFTER,
};
use swarm_proto::download::{WebFailure, WebFetch, WebHead, judge};
use tokio::sync::mpsc;

use super::{WebEvent, WebNews};
use crate::connector::ConnectError;
use crate::http::{HttpError, Lane, Streaming, chain};
use crate::uplink::Downlink;

/// Time until the headers are here, connecting and redirects included.
const HEAD_DEADLINE: Duration = Duration::from_secs(20);
/// Time for a body: this, and a second for each [`SLOWEST`] bytes. The download gives up a slow
/// one much sooner; this bounds what it forgot.
const BODY_DEADLINE: Duration = Duration::from_secs(60);
const SLOWEST: u64 = 1024;

/// Makes the request, and tells what becomes of it.
pub(super) async fn run(
    lane: Lane,
    fetch: WebFetch,
    downlinks: [Downlink; 2],
    events: mpsc::Sender<WebEvent>,
) {
    let what = WebNews::Ended(ask(&lane, &fetch, &downlinks, &events).await);
    let _ = events.send(event(&fetch, what)).await;
}

fn event(fetch: &WebFetch, what: WebNews) -> WebEvent {
    WebEvent {
        seed: fetch.seed,
        request: fetch.request,
        what,
    }
}

async fn ask(
    lane: &Lane,
    fetch: &WebFetch,
    downlinks: &[Downlink; 2],
    events: &mpsc::Sender<WebEvent>,
) -> Result<(), WebFailure> {
    let mut headers = HeaderMap::new();
    let range = HeaderValue::try_from(fetch.range.header());
    headers.insert(RANGE, range.map_err(|_| WebFailure::Forbidden)?);
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let mut answer = lane
        .get(&fetch.url, headers, HEAD_DEADLINE)
        .await
        .map_err(|error| failure(&error))?;
    judge(&head(&answer), &fetch.range)?;
    let deadline = BODY_DEADLINE + Duration::from_secs(fetch.range.len() / SLOWEST);
    match tokio::time::timeout(deadline, body(&mut answer, fetch, downlinks, events)).await {
        Ok(result) => result,
        Err(_) => Err(WebFailure::Stalled),
    }
}

/// Passes on exactly as many bytes as were asked for.
async fn body(
    answer: &mut Streaming,
    fetch: &WebFetch,
    [host, bundle]: &[Downlink; 2],
    events: &mpsc::Sender<WebEvent>,
) -> Result<(), WebFailure> {
    let mut left = fetch.range.len();
    while let Some(chunk) = answer.chunk().await {
        let chunk = chunk.map_err(|error| failure(&error))?;
        let read = chunk.len();
        let len = read as u64;
        if len > left {
            return Err(WebFailure::Unusable("more than was asked for"));
        }
        left -= len;
        let bytes = event(fetch, WebNews::Bytes(chunk));
        events.send(bytes).await.map_err(|_| WebFailure::Lost)?;
        tokio::join!(host.pay(read), bundle.pay(read));
    }
    match left {
        0 => Ok(()),
        _ => Err(WebFailure::Lost),
    }
}

fn head(answer: &Streaming) -> WebHead {
    let text = |name: HeaderName| {
        let value = answer.headers.get(name)?;
        // What is no text is no value that we know.
        Some(value.to_str().unwrap_or("?").to_owned())
    };
    WebHead {
        status: answer.status.as_u16(),
        content_length: text(CONTENT_LENGTH).and_then(|len| len.parse().ok()),
        content_range: text(CONTENT_RANGE),
        content_encoding: text(CONTENT_ENCODING),
        retry_after: text(RETRY_AFTER).and_then(|after| until(&after)),
    }
}

/// `Retry-After` is seconds, or a date (RFC 9110, 10.2.3).
fn until(text: &str) -> Option<Duration> {
    let text = text.trim();
    if let Ok(secs) = text.parse() {
        return Some(Duration::from_secs(secs));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(
        date.duration_since(SystemTime::now())
            .unwrap_or(Duration::ZERO),
    )
}

fn failure(error: &HttpError) -> WebFailure {
    tracing::debug!("web seed failed: {}", chain(error));
    match error {
        HttpError::BadUrl(_) | HttpError::Connect(ConnectError::Refused(_)) => {
            WebFailure::Forbidden
        }
        HttpError::RedirectLoop(_) => WebFailure::Unusable("it redirects in circles"),
        HttpError::TimedOut { .. } => WebFailure::Stalled,
        _ => WebFailure::Lost,
    }
}
