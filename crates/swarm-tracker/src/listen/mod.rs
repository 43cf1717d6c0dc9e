//! Sockets in, answers out.
//!
//! The address of a connection is the only one that counts, unless it is that of a reverse proxy
//! which the operator has named ([`proxy`]).

mod connection;
mod http;
mod lookup;
mod page;
pub(crate) mod proxy;
mod redirect;
mod register;
mod status;
mod target;
pub(crate) mod udp;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use crate::app::App;
use connection::{PerAddress, PerAddressPermit, WriteDeadline};

/// Bytes that hyper buffers of one connection: a request line with the longest query and its
/// headers fit.
const HEAD_LEN_MAX: usize = 16 * 1024;
/// Header fields of one request.
const HEADERS_MAX: usize = 64;
/// Pause where the system has no descriptor left for a new connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Answers on all listeners until the shutdown, then finishes requests for `drain` at most.
pub(crate) async fn serve(listeners: Vec<TcpListener>, app: Arc<App>, drain: Duration) {
    let slots = Arc::new(Semaphore::new(app.connections.max));
    let per_address = Arc::new(PerAddress::new(app.connections.per_address_max));
    let graceful = Arc::new(GracefulShutdown::new());
    let mut accepting = JoinSet::new();
    for listener in listeners {
        let (app, slots) = (Arc::clone(&app), Arc::clone(&slots));
        let (per_address, graceful) = (Arc::clone(&per_address), Arc::clone(&graceful));
        accepting.spawn(async move {
            tokio::select! {
                () = accept(listener, &app, &slots, &per_address, &graceful) => {}
                () = app.shutdown.cancelled() => {}
            }
        });
    }
    while accepting.join_next().await.is_some() {}
    let Some(graceful) = Arc::into_inner(graceful) else {
        return;
    };
    if tokio::time::timeout(drain, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("requests still unfinished, closing anyway");
    }
}

async fn accept(
    listener: TcpListener,
    app: &Arc<App>,
    slots: &Arc<Semaphore>,
    per_address: &Arc<PerAddress>,
    graceful: &GracefulShutdown,
) {
    loop {
        let Ok(slot) = Arc::clone(slots).acquire_owned().await else {
            return;
        };
        let (stream, source) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, or a connection that was gone again: neither is a reason
                // to stop, the first one to wait.
                tracing::debug!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let source = source.ip().to_canonical();
        // A proxy of the operator's has connections of many.
        let many = proxy::is_proxy(&app.proxies, source);
        let share = match many {
            true => None,
            false => per_address.enter(source),
        };
        if share.is_none() && !many {
            app.metrics.connections_refused.add();
            continue;
        }
        app.metrics.connections.add();
        drive(stream, source, app, graceful, (slot, share));
    }
}

fn drive(
    stream: TcpStream,
    source: IpAddr,
    app: &Arc<App>,
    graceful: &GracefulShutdown,
    permits: (OwnedSemaphorePermit, Option<PerAddressPermit>),
) {
    // Replies are one write each; waiting to fill a segment would only delay them.
    let _ = stream.set_nodelay(true);
    let stream = WriteDeadline::new(stream, app.connections.write_timeout);
    let (shared, ended) = (Arc::clone(app), Arc::clone(app));
    let service = service_fn(move |request| http::answer(Arc::clone(&shared), source, request));
    let connection = http1::Builder::new()
        // Without a timer the header timeout would silently not be.
        .timer(TokioTimer::new())
        .header_read_timeout(app.connections.head_timeout)
        .max_buf_size(HEAD_LEN_MAX)
        .max_headers(HEADERS_MAX)
        .pipeline_flush(true)
        // libtorrent sends its `stopped` announces and shuts its side down.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service);
    let connection = graceful.watch(connection);
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::trace!(%error, "connection ended");
        }
        ended.metrics.connections_ended.add();
        drop(permits);
    });
}
