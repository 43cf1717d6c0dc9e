//! The site's own web server: a folder over HTTP/1.1, as plain as they come.
//!
//! It knows nothing of gates and swarms. Files stream from disk; whether the line they leave by is
//! thin is the [`Uplink`]'s business.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use swarm_peer::publish::media_type;
use swarm_peer::uplink::{Shaped, Uplink};
use swarm_proto::manifest::SitePath;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::io::ReaderStream;
use tokio_util::sync::CancellationToken;

/// Connections served at once; more wait in the listener's backlog.
const CONNECTIONS_MAX: usize = 4096;

/// How long a client may take over its request's head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

type Body = BoxBody<Bytes, std::io::Error>;

/// Serves `root` on `listener` until `shutdown`; everything sent goes through `uplink`.
pub(super) async fn serve(
    listener: TcpListener,
    root: PathBuf,
    uplink: Uplink,
    shutdown: CancellationToken,
) {
    let root: Arc<Path> = root.into();
    let slots = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = async {
            let slot = slots.clone().acquire_owned().await.ok()?;
            Some((listener.accept().await, slot))
        };
        let (stream, slot) = tokio::select! {
            accepted = accepted => match accepted {
                Some((Ok((stream, _)), slot)) => (stream, slot),
                Some((Err(error), _)) => {
                    tracing::debug!(%error, "origin could not accept");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                }
                None => return,
            },
            () = shutdown.cancelled() => return,
        };
        let (root, uplink, shutdown) = (root.clone(), uplink.clone(), shutdown.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = connection(stream, root, uplink) => {}
                () = shutdown.cancelled() => {}
            }
            drop(slot);
        });
    }
}

async fn connection(stream: TcpStream, root: Arc<Path>, uplink: Uplink) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let root = root.clone();
        async move { Ok::<_, std::convert::Infallible>(respond(&root, request).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(Shaped::new(stream, uplink)), service)
        .await;
    if let Err(error) = served {
        tracing::trace!(%error, "visitor left the origin");
    }
}

async fn respond(root: &Path, request: Request<Incoming>) -> Response<Body> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "GET or HEAD\n");
    }
    let Ok(path) = SitePath::parse(request.uri().path()) else {
        return text(StatusCode::NOT_FOUND, "no such page\n");
    };
    let mut file = root.to_path_buf();
    file.extend(path.components());
    if !path.is_folder() && tokio::fs::metadata(&file).await.is_ok_and(|m| m.is_dir()) {
        let mut moved = text(StatusCode::MOVED_PERMANENTLY, "");
        if let Ok(to) = format!("{}/", request.uri().path()).parse() {
            moved.headers_mut().insert(header::LOCATION, to);
        }
        return moved;
    }
    if path.is_folder() {
        file.push("index.html");
    }
    let opened = async {
        let opened = tokio::fs::File::open(&file).await?;
        let meta = opened.metadata().await?;
        Ok::<_, std::io::Error>((opened, meta))
    };
    let Ok((opened, meta)) = opened.await else {
        return text(StatusCode::NOT_FOUND, "no such page\n");
    };
    if !meta.is_file() {
        return text(StatusCode::NOT_FOUND, "no such page\n");
    }
    let body = if request.method() == Method::HEAD {
        Empty::new().map_err(|never| match never {}).boxed()
    } else {
        StreamBody::new(ReaderStream::new(opened).map_ok(Frame::data)).boxed()
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, meta.len().into());
    headers.insert(
        header::CACHE_CONTROL,
        header::HeaderValue::from_static("public, max-age=600"),
    );
    if let Ok(kind) = media_type(&file).parse() {
        headers.insert(header::CONTENT_TYPE, kind);
    }
    response
}

fn text(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Full::from(text).map_err(|never| match never {}).boxed());
    *response.status_mut() = status;
    response
}
