//! The accept loop: hyper with every clock a hostile visitor can push against, and the uplink
//! that visitors share with the seed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use swarm_peer::uplink::{LaneSwitch, Shaped, Uplink};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use webseed_bridge::serve::WriteDeadline;

use crate::front::{Front, refusal};
use crate::meter::Metered;
use crate::proxy::body::Large;
use crate::proxy::check::Doubt;
use crate::proxy::framing::Scanned;

/// Fields of one request.
const HEADERS_MAX: usize = 128;
/// Bytes of one request's head.
const HEAD_LEN_MAX: usize = 64 * 1024;
/// Waits after a failed accept, for instance when descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Bounds of the listener.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Connections open at once. Past it the oldest wait in the kernel's queue.
    pub connections_max: usize,
    /// From a connection's start, or the last answer's end, to a complete request head.
    pub head_timeout: Duration,
    /// How long a visitor may hold up writing.
    pub write_timeout: Duration,
    /// How long answers under way may take at shutdown.
    pub drain: Duration,
}

/// The visitors' lanes of the line that all of this host shares.
#[derive(Debug, Clone)]
pub struct Lanes {
    /// Pages, redirects and whatever else is small.
    pub small: Uplink,
    /// Large answers.
    pub large: Uplink,
}

/// Serves until `shutdown`, then lets answers under way finish within [`Bounds::drain`].
pub async fn serve(
    listener: TcpListener,
    front: Arc<Front>,
    bounds: Bounds,
    lanes: Lanes,
    shutdown: CancellationToken,
) {
    let room = Arc::new(Semaphore::new(bounds.connections_max));
    let connections = TaskTracker::new();
    let cut = CancellationToken::new();
    loop {
        let permit = tokio::select! {
            () = shutdown.cancelled() => break,
            permit = room.clone().acquire_owned() => permit.expect("the semaphore is never closed"),
        };
        let (stream, peer) = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        let (front, lanes) = (front.clone(), lanes.clone());
        let (shutdown, cut) = (shutdown.clone(), cut.clone());
        connections.spawn(async move {
            let _permit = permit;
            tokio::select! {
                () = cut.cancelled() => {}
                () = connection(stream, peer, front, bounds, lanes, shutdown) => {}
            }
        });
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(bounds.drain, connections.wait())
        .await
        .is_err()
    {
        tracing::info!(open = connections.len(), "connections cut after the drain");
        cut.cancel();
        connections.wait().await;
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    front: Arc<Front>,
    bounds: Bounds,
    lanes: Lanes,
    shutdown: CancellationToken,
) {
    let _ = stream.set_nodelay(true);
    // The deadline sits under the uplink: a full uplink is our doing, not the visitor's.
    let stream = WriteDeadline::new(stream, bounds.write_timeout);
    let switch = LaneSwitch::default();
    let stream = Shaped::switched(stream, lanes.small, lanes.large, switch.clone());
    let stream = Metered::new(stream, front.shared.meter().clone());
    let (stream, doubted) = Scanned::new(stream);
    let number = AtomicU64::new(0);
    let service = service_fn(move |request: Request<Incoming>| {
        let (front, switch) = (front.clone(), switch.clone());
        number.fetch_add(1, Ordering::Relaxed);
        let doubtful = doubted.load(Ordering::Acquire) == number.load(Ordering::Relaxed);
        async move {
            let answer = if doubtful {
                refusal(Doubt::Framing)
            } else {
                front.answer(request, peer.ip()).await
            };
            switch.second(answer.extensions().get::<Large>().is_some());
            Ok::<_, std::convert::Infallible>(answer)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.head_timeout)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_LEN_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended badly");
    }
}
