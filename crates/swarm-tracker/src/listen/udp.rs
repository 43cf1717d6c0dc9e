//! Announce and scrape over UDP (BEP 15, spec 0005, 2.6).
//!
//! A thread for each socket waits for datagrams, takes as many as are there, asks the registry
//! under one lock, and sends all answers at once. What may be answered is decided by
//! [`UdpServer`].

mod batch;

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use rand::Rng as _;
use socket2::{Domain, Protocol, Socket, Type};
use swarm_proto::tracker::ScrapeRequest;
use swarm_proto::tracker::udp::{Heard, Ignored, Response, UdpServer, peers_that_fit};
use tokio::sync::oneshot;

use crate::app::App;
use crate::registry::{Moment, Registry, Via};
use batch::{Inbox, Outbox};

/// How long a thread waits for datagrams before it looks whether it is to end.
const LOOK_UP: Duration = Duration::from_millis(200);

/// Bytes of datagrams that wait in the system, if it allows so many: some 5,000 announces.
const RECEIVE_BUFFER: usize = 4 << 20;

/// The sockets of one address.
#[derive(Debug)]
pub(crate) struct UdpListener {
    addr: SocketAddr,
    sockets: Vec<Socket>,
}

impl UdpListener {
    /// Listens with `count` sockets, among which the system shares senders out.
    pub(crate) fn bind(addr: SocketAddr, count: usize) -> io::Result<Self> {
        let mut listener = Self {
            addr,
            sockets: Vec::with_capacity(count),
        };
        for _ in 0..count.max(1) {
            let socket = open(listener.addr, count > 1)?;
            // With the port that the system chose.
            if let Some(addr) = socket.local_addr()?.as_socket() {
                listener.addr = addr;
            }
            listener.sockets.push(socket);
        }
        Ok(listener)
    }

    /// Listens with a socket that somebody else has bound.
    pub(crate) fn adopt(socket: UdpSocket) -> io::Result<Self> {
        let addr = socket.local_addr()?;
        let socket = Socket::from(socket);
        socket.set_nonblocking(false)?;
        prepare(&socket)?;
        Ok(Self {
            addr,
            sockets: vec![socket],
        })
    }

    /// Where it listens.
    pub(crate) const fn addr(&self) -> SocketAddr {
        self.addr
    }
}

fn open(addr: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    if addr.is_ipv6() && addr.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_port(shared)?;
    prepare(&socket)?;
    socket.bind(&addr.into())?;
    Ok(socket)
}

fn prepare(socket: &Socket) -> io::Result<()> {
    // As much as the system allows.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    socket.set_read_timeout(Some(LOOK_UP))?;
    socket.set_write_timeout(Some(LOOK_UP))
}

/// Answers on all sockets until the shutdown.
pub(crate) async fn serve(listeners: Vec<UdpListener>, app: Arc<App>) {
    let server = UdpServer::new(Instant::now(), rand::random());
    let server = Arc::new(RwLock::new(server));
    // Also where this future is dropped with its runtime.
    let stop = StopOnDrop(Arc::new(AtomicBool::new(false)));
    let mut threads = Vec::new();
    for listener in listeners {
        let addr = listener.addr;
        for socket in listener.sockets {
            let (done, ended) = oneshot::channel::<()>();
            let (app, server, stop) = (Arc::clone(&app), Arc::clone(&server), Arc::clone(&stop.0));
            let started = std::thread::Builder::new()
                .name("udp".to_owned())
                .spawn(move || {
                    // In this order: whoever hears that we are done may want the port.
                    let _done = done;
                    let socket = socket;
                    while !stop.load(Ordering::Relaxed) && !app.shutdown.is_cancelled() {
                        turn(&socket, &app, &server, &stop);
                    }
                });
            match started {
                Ok(_) => threads.push(ended),
                Err(error) => tracing::error!(%addr, %error, "no thread for a UDP socket"),
            }
        }
    }
    for ended in threads {
        // Its sender is dropped at the end, whatever that is.
        let _ = ended.await;
    }
}

struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Works until the socket fails or it is to end.
fn turn(socket: &Socket, app: &App, server: &RwLock<UdpServer>, stop: &AtomicBool) {
    let (mut inbox, mut outbox) = (Inbox::new(), Outbox::new());
    while !stop.load(Ordering::Relaxed) && !app.shutdown.is_cancelled() {
        change_key(server);
        match inbox.receive(socket) {
            Ok(()) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                continue;
            }
            Err(error) => {
                // A refusal of an answer may come back here; nothing else is known to.
                tracing::debug!(%error, "receiving failed");
                std::thread::sleep(Duration::from_millis(10));
                continue;
            }
        }
        let now = app.now();
        {
            let server = server.read().unwrap_or_else(PoisonError::into_inner);
            let mut registry = app.registry();
            for (raw, from, packet) in inbox.packets() {
                if let Some(reply) = answer(app, &server, &mut registry, now, from, packet) {
                    outbox.put(raw, |out| reply.encode_to(out));
                }
            }
        }
        if let (_, Some(error)) = outbox.send(socket) {
            tracing::debug!(%error, "answer not sent");
        }
    }
}

fn change_key(server: &RwLock<UdpServer>) {
    let now = Instant::now();
    let due = |server: &UdpServer| server.poll_timeout() <= now;
    if due(&server.read().unwrap_or_else(PoisonError::into_inner)) {
        let mut server = server.write().unwrap_or_else(PoisonError::into_inner);
        let mut seed = [0; 16];
        rand::rng().fill_bytes(&mut seed);
        server.handle_timeout(now, seed);
    }
}

/// What goes back to the sender of a datagram, if anything may.
fn answer(
    app: &App,
    server: &UdpServer,
    registry: &mut Registry,
    now: Moment,
    from: SocketAddr,
    packet: &[u8],
) -> Option<Response> {
    let source = from.ip().to_canonical();
    match server.hear(source, packet) {
        Heard::Reply(reply) => {
            app.metrics.udp_connects.add();
            Some(reply)
        }
        Heard::Ignored(Ignored::BadToken) => {
            app.metrics.udp_forged.add();
            None
        }
        Heard::Ignored(Ignored::Malformed) => {
            app.metrics.udp_malformed.add();
            None
        }
        Heard::Announce {
            transaction,
            mut announce,
        } => {
            if !app.may_ask(now, source, 1) {
                return None;
            }
            let room = peers_that_fit(source);
            let wanted = announce.numwant.unwrap_or(app.peers_per_reply);
            announce.numwant = Some(wanted.min(room));
            let reply = registry.announce(now, source, &announce, Via::Udp);
            Some(match reply {
                Ok(reply) => {
                    app.metrics.announces.add();
                    Response::Announce { transaction, reply }
                }
                Err(refused) => {
                    app.metrics.announces_refused.add();
                    Response::Error {
                        transaction,
                        message: refused.to_string(),
                    }
                }
            })
        }
        Heard::Scrape {
            transaction,
            swarm_ids,
        } => {
            if !app.may_ask(now, source, App::scrape_cost(swarm_ids.len())) {
                return None;
            }
            app.metrics.scrapes.add();
            let request = ScrapeRequest { swarm_ids };
            let entries = registry.figures(&request);
            let entries = entries.map(|(_, entry)| entry.unwrap_or_default());
            Some(Response::Scrape {
                transaction,
                entries: entries.collect(),
            })
        }
    }
}
