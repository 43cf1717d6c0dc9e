//! Peers that speak WebSocket, on the listener of HTTP (spec 0005, 2.7).
//!
//! A task for each socket carries messages both ways. What is answered, and what of one peer is
//! passed on to which other, is decided by the registry.

mod outbox;
mod sips;

use std::collections::HashMap;
use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header;
use hyper::upgrade::{Parts, Upgraded};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use swarm_proto::limits::WS_MESSAGE_LEN_MAX;
use swarm_proto::tracker::ws::{self as codec, Announce, Answer, Response};
use swarm_proto::tracker::{ScrapeReply, ScrapeRequest};
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::Error;
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role, WebSocketConfig};

use super::http::{Reply, text};
use super::{Link, Plain, Secure, Stream};
use crate::app::App;
use crate::registry::SocketId;
use outbox::Outbox;
use sips::Sips;

/// Bytes of the buffer that a socket begins with, and that are read at a time. The codec never
/// falls back to less, but for such as begin below a kilobyte.
const READ_BUFFER: usize = 1000;

/// Bytes of frames that are made and not taken in yet: one message and what the protocol itself
/// adds. What waits before that is in the [`Outbox`].
const WRITE_BUFFER_MAX: usize = 4 * WS_MESSAGE_LEN_MAX;

/// Time to say that a socket is closed, and why.
const GOODBYE: Duration = Duration::from_secs(1);

type Socket<S> = WebSocketStream<Sips<S>>;

/// What waits to be sent on each socket.
#[derive(Debug, Default)]
pub(crate) struct Sockets(Mutex<HashMap<SocketId, Arc<Outbox>>>);

impl Sockets {
    fn with<T>(&self, f: impl FnOnce(&mut HashMap<SocketId, Arc<Outbox>>) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn put(&self, to: SocketId, text: String) {
        // Gone in this very moment, if it is not there.
        if let Some(outbox) = self.with(|all| all.get(&to).cloned()) {
            outbox.put(text);
        }
    }
}

/// Whether a request asks for a WebSocket.
pub(super) fn is_asked_for<B>(request: &Request<B>) -> bool {
    let upgrade = request.headers().get(header::UPGRADE);
    *request.method() == Method::GET
        && upgrade.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// Answers such a request, and talks with the client once it is a socket.
pub(super) fn upgrade(
    app: &Arc<App>,
    source: IpAddr,
    mut request: Request<Incoming>,
    link: &Arc<Link>,
) -> Reply {
    let reply = match create_response_with_body(&request, Full::default) {
        Ok(reply) => reply,
        Err(error) => return text(StatusCode::BAD_REQUEST, format!("{error}\n")),
    };
    let upgrade = hyper::upgrade::on(&mut request);
    let (app, held) = (Arc::clone(app), Arc::clone(link));
    link.tasks.spawn(async move {
        match upgrade.await {
            Ok(upgraded) => serve(&app, source, upgraded).await,
            Err(error) => tracing::trace!(%error, "no upgrade"),
        }
        drop(held);
    });
    reply
}

/// Talks over whatever [`listen`](super) gave to hyper.
async fn serve(app: &App, source: IpAddr, upgraded: Upgraded) {
    match upgraded.downcast::<TokioIo<Plain>>() {
        Ok(parts) => serve_on(app, source, parts).await,
        Err(upgraded) => match upgraded.downcast::<TokioIo<Secure>>() {
            // In a box, as it is larger than the other.
            Ok(parts) => Box::pin(serve_on(app, source, parts)).await,
            Err(_) => tracing::error!("a WebSocket over neither TCP nor TLS"),
        },
    }
}

async fn serve_on<S: Stream>(app: &App, source: IpAddr, parts: Parts<TokioIo<S>>) {
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_write_buffer_size(WRITE_BUFFER_MAX)
        .max_message_size(Some(WS_MESSAGE_LEN_MAX))
        .max_frame_size(Some(WS_MESSAGE_LEN_MAX));
    let (stream, read) = (Sips::new(parts.io.into_inner()), parts.read_buf.to_vec());
    drop(parts.read_buf);
    let mut stream =
        WebSocketStream::from_partially_read(stream, read, Role::Server, Some(config)).await;
    let seat = Seat::take(app, source);
    let end = converse(app, source, &seat, &mut stream).await;
    drop(seat);
    if let End::Close(code, reason) = end {
        let frame = CloseFrame {
            code,
            reason: reason.into(),
        };
        let _ = tokio::time::timeout(GOODBYE, stream.close(Some(frame))).await;
    }
}

/// A socket that others can reach; given up when dropped.
struct Seat<'a> {
    app: &'a App,
    id: SocketId,
    outbox: Arc<Outbox>,
}

impl<'a> Seat<'a> {
    fn take(app: &'a App, source: IpAddr) -> Self {
        let outbox = Arc::<Outbox>::default();
        let id = app.registry().open_socket(source);
        app.sockets.with(|all| all.insert(id, Arc::clone(&outbox)));
        Self { app, id, outbox }
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.app.sockets.with(|all| all.remove(&self.id));
        self.app.registry().close_socket(self.id);
    }
}

/// Why a conversation is over.
enum End {
    /// The other side has closed, broken or left its connection.
    Gone,
    /// We close it.
    Close(CloseCode, &'static str),
}

/// Hears and answers a peer until either side ends it.
async fn converse<S: Stream>(
    app: &App,
    source: IpAddr,
    seat: &Seat<'_>,
    stream: &mut Socket<S>,
) -> End {
    let (idle, patience) = (app.connections.websocket_idle, app.peer_age);
    let mut heard = Instant::now();
    let (mut asked, mut pinged) = (heard, false);
    // The last message; see `next`.
    let mut held = None;
    let timer = tokio::time::sleep_until(heard + idle / 2);
    tokio::pin!(timer);
    loop {
        let message = tokio::select! {
            biased;
            () = app.shutdown.cancelled() => return End::Close(CloseCode::Away, "tracker ends"),
            waiting = seat.outbox.next() => {
                let Some(waiting) = waiting else {
                    return overflow(app);
                };
                if let Some(end) = send(app, seat, stream, Message::text(waiting)).await {
                    return end;
                }
                continue;
            }
            message = next(stream, &mut held) => message,
            () = timer.as_mut() => {
                let now = Instant::now();
                if now >= heard + idle || now >= asked + patience {
                    return End::Close(CloseCode::Policy, "nothing heard");
                }
                if !pinged && now >= heard + idle / 2 {
                    pinged = true;
                    let ping = Message::Ping(Default::default());
                    if let Some(end) = send(app, seat, stream, ping).await {
                        return end;
                    }
                }
                let silence = if pinged { idle } else { idle / 2 };
                timer.as_mut().reset((heard + silence).min(asked + patience));
                continue;
            }
        };
        let message = match message {
            Some(Ok(message)) => message,
            Some(Err(Error::Capacity(_))) => {
                return End::Close(CloseCode::Size, "message is too long");
            }
            Some(Err(error)) => {
                tracing::trace!(%error, "socket ended");
                return End::Gone;
            }
            None => return End::Gone,
        };
        // All that is whole counts, be it a request or a sign of life.
        (heard, pinged) = (Instant::now(), false);
        match &message {
            Message::Text(text) => {
                if request(app, source, seat, text.as_bytes()) {
                    asked = heard;
                }
            }
            Message::Binary(bytes) => {
                if request(app, source, seat, bytes) {
                    asked = heard;
                }
            }
            Message::Close(_) => return End::Close(CloseCode::Normal, ""),
            // A pong to each is on its way already.
            Message::Ping(_) if !app.may_ask(app.now(), source, 1) => {
                return End::Close(CloseCode::Policy, "too many pings from your network");
            }
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
        }
        held = Some(message);
    }
}

/// The next message. The one before is `held` until this socket has nothing more to read: the
/// codec would otherwise take its memory back and keep as much as the longest message ever had.
async fn next<S: Stream>(
    stream: &mut Socket<S>,
    held: &mut Option<Message>,
) -> Option<Result<Message, Error>> {
    poll_fn(|cx| {
        let polled = stream.poll_next_unpin(cx);
        match polled {
            Poll::Ready(_) => stream.get_mut().expect_head(),
            Poll::Pending => *held = None,
        }
        polled
    })
    .await
}

/// Sends one message, unless more than may wait comes in meanwhile.
async fn send<S: Stream>(
    app: &App,
    seat: &Seat<'_>,
    stream: &mut Socket<S>,
    message: Message,
) -> Option<End> {
    tokio::select! {
        biased;
        sent = stream.send(message) => sent.err().map(|_| End::Gone),
        () = seat.outbox.overflow() => Some(overflow(app)),
        () = app.shutdown.cancelled() => Some(End::Gone),
    }
}

fn overflow(app: &App) -> End {
    app.metrics.ws_overflows.add();
    End::Close(CloseCode::Policy, "too slow a reader")
}

/// Answers a message. Returns whether it was a request that may be made.
fn request(app: &App, source: IpAddr, seat: &Seat<'_>, message: &[u8]) -> bool {
    if !app.may_ask(app.now(), source, 1) {
        return false;
    }
    match codec::Request::decode(message) {
        Ok(codec::Request::Announce(request)) => announce(app, source, seat, &request),
        Ok(codec::Request::Answer(request)) => answer(app, seat, &request),
        Ok(codec::Request::Scrape(request)) => scrape(app, source, seat, &request),
        Err(error) => {
            app.metrics.ws_malformed.add();
            let reason = error.to_string();
            seat.outbox.put(Response::Failure(None, &reason).encode());
            false
        }
    }
}

fn announce(app: &App, source: IpAddr, seat: &Seat<'_>, request: &Announce) -> bool {
    let now = app.now();
    let offers = u32::try_from(request.offers.len()).unwrap_or(u32::MAX);
    if !app.may_ask(now, source, offers) {
        return false;
    }
    let swarm_id = request.swarm_id;
    let outcome = app.registry().announce_by_socket(now, seat.id, request);
    match outcome {
        Ok((reply, passed)) => {
            app.metrics.announces.add();
            seat.outbox
                .put(Response::Announce(swarm_id, &reply).encode());
            for pass in passed {
                app.metrics.offers.add();
                let offer = Response::Offer(pass.swarm_id, request.peer_id, pass.offer);
                app.sockets.put(pass.to, offer.encode());
            }
            true
        }
        Err(refused) => {
            app.metrics.announces_refused.add();
            let reason = refused.to_string();
            let failure = Response::Failure(Some(swarm_id), &reason);
            seat.outbox.put(failure.encode());
            false
        }
    }
}

fn answer(app: &App, seat: &Seat<'_>, request: &Answer) -> bool {
    let pass = app.registry().answer_by_socket(app.now(), seat.id, request);
    // One that comes too late is nobody's fault, and nobody waits for a word about it.
    let Some(pass) = pass else {
        return false;
    };
    app.metrics.answers.add();
    let Answer { offer_id, sdp, .. } = request;
    let answer = Response::Answer(pass.swarm_id, request.peer_id, offer_id, sdp);
    app.sockets.put(pass.to, answer.encode());
    true
}

fn scrape(app: &App, source: IpAddr, seat: &Seat<'_>, request: &ScrapeRequest) -> bool {
    // The message itself is paid for.
    let cost = App::scrape_cost(request.swarm_ids.len()) - 1;
    if !app.may_ask(app.now(), source, cost) {
        return false;
    }
    app.metrics.scrapes.add();
    let files = {
        let registry = app.registry();
        let files = registry.figures(request);
        // Clients take an answer without figures for a broken one.
        files
            .map(|(asked, entry)| (asked, entry.unwrap_or_default()))
            .collect()
    };
    let reply = ScrapeReply { files };
    seat.outbox.put(Response::Scrape(&reply).encode());
    true
}
