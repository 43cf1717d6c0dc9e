//! Sockets in, answers out.
//!
//! The address of a connection is the only one that counts, unless it is that of a reverse proxy
//! which the operator has named ([`proxy`]).

mod connection;
mod direct;
mod head;
mod http;
mod lookup;
mod page;
pub(crate) mod proxy;
mod redirect;
mod register;
mod status;
mod target;
pub(crate) mod udp;
pub(crate) mod ws;

use std::error::Error;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, Interest};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::task::TaskTracker;

use crate::acme::ACME_ALPN;
use crate::app::App;
use connection::{PerAddress, PerAddressPermit, Rewound, WriteDeadline};
use direct::{End, Talk};

/// Bytes that are buffered of one connection: a request line with the longest query and its
/// headers fit.
const HEAD_LEN_MAX: usize = 16 * 1024;
/// Header fields of one request.
const HEADERS_MAX: usize = 64;
/// Tasks that accept on one listener at most.
const ACCEPTING_MAX: usize = 8;
/// Pause where the system has no descriptor left for a new connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where connections come in.
pub(crate) struct Listener {
    listener: TcpListener,
    /// Who comes speaks TLS.
    tls: Option<TlsAcceptor>,
}

impl Listener {
    pub(crate) const fn plain(listener: TcpListener) -> Self {
        Self {
            listener,
            tls: None,
        }
    }

    pub(crate) const fn secure(listener: TcpListener, tls: TlsAcceptor) -> Self {
        Self {
            listener,
            tls: Some(tls),
        }
    }
}

/// What hyper talks over, and WebSockets after it.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for S {}

/// A connection of HTTP, as hyper has it.
type Plain = WriteDeadline<Rewound<TcpStream>>;

/// A connection of HTTPS, as hyper has it. The deadline is below: TLS takes in what it cannot send.
type Secure = TlsStream<WriteDeadline<TcpStream>>;

/// What a client's TLS handshake counts for among what it may ask in a second: we sign in it.
const HANDSHAKE_ASKS: u32 = 10;

/// Bytes that TLS takes in for a client that does not take them.
const TLS_BUFFER_MAX: usize = 16 * 1024;

/// What lasts as long as a connection, whatever it becomes.
struct Link {
    app: Arc<App>,
    /// All connections.
    tasks: TaskTracker,
    _permits: (OwnedSemaphorePermit, Option<PerAddressPermit>),
}

impl Drop for Link {
    fn drop(&mut self) {
        self.app.metrics.connections_ended.add();
    }
}

/// Answers on all listeners until the shutdown, then finishes requests for `drain` at most.
pub(crate) async fn serve(listeners: Vec<Listener>, app: Arc<App>, drain: Duration) {
    let slots = Arc::new(Semaphore::new(app.connections.max));
    let per_address = Arc::new(PerAddress::new(app.connections.per_address_max));
    let tasks = TaskTracker::new();
    let mut accepting = JoinSet::new();
    for Listener { listener, tls } in listeners {
        for listener in for_each_core(listener) {
            let (app, slots) = (Arc::clone(&app), Arc::clone(&slots));
            let (per_address, tasks) = (Arc::clone(&per_address), tasks.clone());
            let tls = tls.clone();
            accepting.spawn(async move {
                tokio::select! {
                    () = accept(&listener, tls.as_ref(), &app, &slots, &per_address, &tasks) => {}
                    () = app.shutdown.cancelled() => {}
                }
            });
        }
    }
    while accepting.join_next().await.is_some() {}
    tasks.close();
    if tokio::time::timeout(drain, tasks.wait()).await.is_err() {
        tracing::warn!("requests still unfinished, closing anyway");
    }
}

/// The same listener for as many tasks as can run at a time: a task answers what new connections
/// bring along before it accepts the next.
fn for_each_core(listener: TcpListener) -> Vec<AsyncFd<std::net::TcpListener>> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let listener = match listener.into_std() {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "a listener is lost");
            return Vec::new();
        }
    };
    let more = (1..cores.min(ACCEPTING_MAX)).filter_map(|_| listener.try_clone().ok());
    let mut all: Vec<_> = more.collect();
    all.push(listener);
    // Registering fails where the system has no memory left.
    #[expect(
        deprecated,
        reason = "what replaces it is unsafe; a listener of std keeps its descriptor open"
    )]
    let all = all.into_iter().map(AsyncFd::new);
    all.filter_map(|listener| {
        listener
            .inspect_err(|error| tracing::error!(%error, "a listener is lost"))
            .ok()
    })
    .collect()
}

async fn accept(
    listener: &AsyncFd<std::net::TcpListener>,
    tls: Option<&TlsAcceptor>,
    app: &Arc<App>,
    slots: &Arc<Semaphore>,
    per_address: &Arc<PerAddress>,
    tasks: &TaskTracker,
) {
    let mut talk = Talk::default();
    loop {
        let Ok(slot) = Arc::clone(slots).acquire_owned().await else {
            return;
        };
        let accepted = listener.async_io(Interest::READABLE, std::net::TcpListener::accept);
        let (stream, source) = match accepted.await {
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
        if many || tls.is_some() {
            // Who asks stands in fields that only hyper reads; or nothing can be read yet.
            talk = Talk::of_others();
        } else if talk.begin(&stream, app, source) {
            app.metrics.connections_ended.add();
            continue;
        }
        let link = Arc::new(Link {
            app: Arc::clone(app),
            tasks: tasks.clone(),
            _permits: (slot, share),
        });
        let talk = std::mem::take(&mut talk);
        let tls = tls.cloned();
        tasks.spawn(async move {
            if let Err(error) = serve_one(stream, tls, talk, source, link).await {
                tracing::trace!(%error, "connection ended");
            }
        });
    }
}

async fn serve_one(
    stream: std::net::TcpStream,
    tls: Option<TlsAcceptor>,
    talk: Talk,
    source: IpAddr,
    link: Arc<Link>,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    // Replies are one write each; waiting to fill a segment would only delay them.
    let _ = stream.set_nodelay(true);
    stream.set_nonblocking(true)?;
    let mut stream = TcpStream::from_std(stream)?;
    let write_timeout = link.app.connections.write_timeout;
    if let Some(tls) = tls {
        let stream = WriteDeadline::new(stream, write_timeout);
        // In a box: what TLS holds would be a part of each connection's task, with or without it.
        return Box::pin(serve_secure(tls, stream, source, link)).await;
    }
    match talk.go_on(&mut stream, &link.app, source).await? {
        End::Closed => Ok(()),
        End::Other(read) => {
            let stream = WriteDeadline::new(Rewound::new(read, stream), write_timeout);
            drive(stream, source, link).await.map_err(Into::into)
        }
    }
}

async fn serve_secure(
    tls: TlsAcceptor,
    stream: WriteDeadline<TcpStream>,
    source: IpAddr,
    link: Arc<Link>,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    match shake(tls, stream, source, &link.app).await? {
        // An authority has seen all it came for.
        Some(mut stream) if stream.get_ref().1.alpn_protocol() == Some(ACME_ALPN) => {
            stream.shutdown().await.map_err(Into::into)
        }
        Some(stream) => drive(stream, source, link).await.map_err(Into::into),
        None => Ok(()),
    }
}

/// Takes a client's TLS handshake; `None`: it may not have one now.
///
/// # Errors
/// The connection's or the client's; or it took longer than a head may.
async fn shake(
    tls: TlsAcceptor,
    stream: WriteDeadline<TcpStream>,
    source: IpAddr,
    app: &App,
) -> io::Result<Option<Secure>> {
    let is_proxy = proxy::is_proxy(&app.proxies, source);
    if !is_proxy && !app.may_ask(app.now(), source, HANDSHAKE_ASKS) {
        return Ok(None);
    }
    let bounded = |connection: &mut rustls::ServerConnection| {
        connection.set_buffer_limit(Some(TLS_BUFFER_MAX));
    };
    let shaking = timeout(
        app.connections.head_timeout,
        tls.accept_with(stream, bounded),
    );
    tokio::select! {
        shaken = shaking => shaken?.map(Some),
        () = app.shutdown.cancelled() => Ok(None),
    }
}

async fn drive<S: Stream>(stream: S, source: IpAddr, link: Arc<Link>) -> hyper::Result<()> {
    let connections = &link.app.connections;
    let held = Arc::clone(&link);
    let service = service_fn(move |request| {
        http::answer(Arc::clone(&held.app), source, request, Arc::clone(&held))
    });
    let connection = http1::Builder::new()
        // Without a timer the header timeout would silently not be.
        .timer(TokioTimer::new())
        .header_read_timeout(connections.head_timeout)
        .max_buf_size(HEAD_LEN_MAX)
        .max_headers(HEADERS_MAX)
        .pipeline_flush(true)
        // libtorrent sends its `stopped` announces and shuts its side down.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => ended,
        () = link.app.shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    }
}
