//! Announces to a tracker as fast as it answers, each answer checked: a good reply, with peers, all
//! of which have announced to that very swarm. `bench/tracker` measures trackers with it.
//!
//! All peers are on this host and differ by port. Which swarm and port a peer has follows from its
//! number, and so an answer can be checked without a memory of what was sent.

use std::cell::RefCell;
use std::error::Error;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::rc::Rc;
use std::str::FromStr;
use std::time::{Duration, Instant};

use clap::Parser;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use swarm_proto::id::{PeerId, SwarmId};
use swarm_proto::tracker::http::{decode_reply, encode_query};
use swarm_proto::tracker::udp::{ConnectionToken, Request, Response};
use swarm_proto::tracker::{AnnounceReply, AnnounceRequest};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

/// Announces under way at a time over UDP. A tracker that takes many at once has some to take.
const WINDOW: usize = 64;

/// How long an answer over UDP may take.
const PATIENCE: Duration = Duration::from_millis(500);

/// How old a connection token may grow (BEP 15: a minute).
const TOKEN_AGE: Duration = Duration::from_secs(50);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Udp,
    /// HTTP, many announces on each connection.
    Keep,
    /// HTTP, a connection for each announce.
    Close,
}

impl FromStr for Mode {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "udp" => Ok(Self::Udp),
            "keep" => Ok(Self::Keep),
            "close" => Ok(Self::Close),
            _ => Err("udp, keep or close"),
        }
    }
}

/// Prints announces a second, announces a second of the tracker's CPU time, and how many peers an
/// answer had.
#[derive(Debug, Parser)]
struct Args {
    /// udp, keep (HTTP), or close (HTTP, a connection for each).
    mode: Mode,
    addr: SocketAddr,
    #[arg(long, default_value_t = 10_000)]
    swarms: u32,
    #[arg(long, default_value_t = 100_000)]
    peers: u32,
    #[arg(long, default_value_t = 50)]
    wanted: u32,
    /// Announce each peer once, in place of any for so long.
    #[arg(long)]
    fill: bool,
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Connections at a time over HTTP.
    #[arg(long, default_value_t = 64)]
    connections: u32,
    /// The tracker's process.
    #[arg(long)]
    pid: Option<u32>,
    /// The answers are those of a program that only looks like a tracker.
    #[arg(long)]
    blind: bool,
    /// Print the info hashes of all swarms instead, for trackers with a list.
    #[arg(long)]
    hashes: bool,
}

impl Args {
    fn swarm(&self, peer: u32) -> SwarmId {
        let mut id = [0x5a; 20];
        let mixed = u64::from(peer % self.swarms).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        id[..8].copy_from_slice(&mixed.to_be_bytes());
        SwarmId::new(id)
    }

    fn port(&self, peer: u32) -> u16 {
        1024 + (peer / self.swarms) as u16
    }

    fn request(&self, peer: u32) -> AnnounceRequest {
        let mut id = *b"-LO0100-000000000000";
        id[12..].copy_from_slice(format!("{peer:08x}").as_bytes());
        let port = self.port(peer);
        let mut request = AnnounceRequest::new(self.swarm(peer), PeerId::new(id), port);
        // Three of ten are seeds.
        request.left = Some(u64::from(peer / self.swarms % 10 >= 3) << 20);
        request.numwant = Some(self.wanted);
        request
    }

    fn check(&self, peer: u32, reply: &AnnounceReply) -> Result<usize, Box<dyn Error>> {
        let mates =
            self.peers / self.swarms + u32::from(peer % self.swarms < self.peers % self.swarms);
        let stranger = reply.peers.iter().find(|other| {
            !other.ip().is_loopback() || u32::from(other.port().wrapping_sub(1024)) >= mates
        });
        if let Some(stranger) = stranger {
            return Err(format!("{stranger} never announced to that swarm").into());
        }
        if reply.peers.is_empty() && !self.fill && mates > 10 && self.wanted > 0 {
            return Err("no peers".into());
        }
        Ok(reply.peers.len())
    }
}

/// Which peer comes next, and what has come of those before.
struct Work {
    args: Args,
    rng: SmallRng,
    next: u32,
    until: Instant,
    answered: u64,
    told: u64,
}

impl Work {
    fn next(&mut self) -> Option<u32> {
        if !self.args.fill {
            return (Instant::now() < self.until)
                .then(|| self.rng.random_range(0..self.args.peers));
        }
        self.next += 1;
        (self.next <= self.args.peers).then(|| self.next - 1)
    }

    fn done(&mut self, peer: u32, reply: &AnnounceReply) -> Result<(), Box<dyn Error>> {
        self.told += self.args.check(peer, reply)? as u64;
        self.answered += 1;
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    if args.hashes {
        for swarm in 0..args.swarms {
            println!("{}", args.swarm(swarm));
        }
        return Ok(());
    }
    let (mode, pid, connections) = (args.mode, args.pid, args.connections);
    let began = Instant::now();
    let mut work = Work {
        rng: SmallRng::seed_from_u64(1),
        next: 0,
        until: began + Duration::from_secs_f64(args.seconds),
        answered: 0,
        told: 0,
        args,
    };
    let before = cpu(pid)?;
    match mode {
        Mode::Udp => udp(&mut work)?,
        Mode::Keep | Mode::Close => work = http(work, connections)?,
    }
    let seconds = began.elapsed().as_secs_f64();
    let answered = work.answered as f64;
    let of_cpu = match cpu(pid)? - before {
        used if used > 0.0 => answered / used,
        _ => 0.0,
    };
    let told = work.told as f64 / answered;
    println!("{:.0} {of_cpu:.0} {told:.1}", answered / seconds);
    Ok(())
}

/// Seconds of CPU that a process has used, with what the system did for it.
fn cpu(pid: Option<u32>) -> Result<f64, Box<dyn Error>> {
    let Some(pid) = pid else {
        return Ok(0.0);
    };
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in brackets, may hold anything.
    let (_, fields) = stat.rsplit_once(')').ok_or("no process")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok());
    let (user, system) = (
        ticks(11).ok_or("no CPU time")?,
        ticks(12).ok_or("no CPU time")?,
    );
    // A hundred ticks a second, whatever the system counts in itself.
    Ok((user + system) / 100.0)
}

fn udp(work: &mut Work) -> Result<(), Box<dyn Error>> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(work.args.addr)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut buf = [0; 2048];
    let mut token = (connect(&socket, &mut buf)?, Instant::now());
    let mut waiting: Vec<Option<u32>> = vec![None; WINDOW];
    let mut lost = 0_u32;
    // A transaction is its place among those under way, and which one it is there.
    let mut turn = 0_u32;
    loop {
        turn += 1;
        let mut under_way = 0;
        for (slot, peer) in (0..).zip(&mut waiting) {
            *peer = peer.or_else(|| work.next());
            if let Some(peer) = *peer {
                let request = Request::Announce {
                    token: token.0,
                    transaction: turn << 8 | slot,
                    announce: work.args.request(peer),
                    path: String::new(),
                };
                socket.send(&request.encode())?;
                under_way += 1;
            }
        }
        if under_way == 0 {
            return Ok(());
        }
        while under_way > 0 {
            let len = match socket.recv(&mut buf) {
                Ok(len) => len,
                // Sent anew.
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                    ) =>
                {
                    lost += under_way;
                    if lost > 10_000 {
                        return Err("the tracker does not answer".into());
                    }
                    break;
                }
                Err(error) => return Err(error.into()),
            };
            match Response::decode(buf.get(..len).unwrap_or_default(), false)? {
                Response::Announce { transaction, reply } if transaction >> 8 == turn => {
                    let slot = waiting.get_mut((transaction & 0xff) as usize);
                    if let Some(peer) = slot.and_then(Option::take) {
                        work.done(peer, &reply)?;
                        under_way -= 1;
                    }
                }
                Response::Announce { .. } => {}
                other => return Err(format!("{other:?}").into()),
            }
        }
        if token.1.elapsed() > TOKEN_AGE {
            token = (connect(&socket, &mut buf)?, Instant::now());
        }
    }
}

fn connect(socket: &UdpSocket, buf: &mut [u8]) -> Result<ConnectionToken, Box<dyn Error>> {
    socket.send(&Request::Connect { transaction: 7 }.encode())?;
    loop {
        let len = socket.recv(buf)?;
        match Response::decode(buf.get(..len).unwrap_or_default(), false)? {
            Response::Connect {
                token,
                transaction: 7,
            } => return Ok(token),
            // Of before.
            Response::Announce { .. } => {}
            other => return Err(format!("{other:?}").into()),
        }
    }
}

fn http(work: Work, connections: u32) -> Result<Work, Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let work = Rc::new(RefCell::new(work));
    let all = LocalSet::new();
    let tasks: Vec<_> = (0..connections)
        .map(|_| all.spawn_local(ask(Rc::clone(&work))))
        .collect();
    runtime.block_on(all.run_until(async {
        for task in tasks {
            task.await.map_err(|error| error.to_string())??;
        }
        Ok::<_, String>(())
    }))?;
    drop(all);
    let work = Rc::into_inner(work).ok_or("somebody still works")?;
    Ok(work.into_inner())
}

/// One connection after the other, or one for all.
async fn ask(work: Rc<RefCell<Work>>) -> Result<(), String> {
    let (addr, mode, blind) = {
        let work = work.borrow();
        (work.args.addr, work.args.mode, work.args.blind)
    };
    let closing = if mode == Mode::Close {
        "close"
    } else {
        "keep-alive"
    };
    let mut open: Option<TcpStream> = None;
    let mut reply = Vec::new();
    loop {
        let Some(peer) = work.borrow_mut().next() else {
            return Ok(());
        };
        let query = encode_query(&work.borrow().args.request(peer));
        let request = format!(
            "GET /announce?{query} HTTP/1.1\r\nHost: {addr}\r\nUser-Agent: announce_load\r\nAccept-Encoding: gzip\r\nConnection: {closing}\r\n\r\n"
        );
        let mut stream = match open.take() {
            Some(stream) => stream,
            None => TcpStream::connect(addr)
                .await
                .map_err(|error| error.to_string())?,
        };
        let body = exchange(
            &mut stream,
            request.as_bytes(),
            &mut reply,
            mode == Mode::Close,
        )
        .await;
        let body = body.map_err(|error| error.to_string())?;
        let mut work = work.borrow_mut();
        if blind {
            work.answered += 1;
        } else {
            let reply = decode_reply(reply.get(body..).unwrap_or_default());
            let reply = reply.map_err(|error| error.to_string())?;
            work.done(peer, &reply).map_err(|error| error.to_string())?;
        }
        if mode == Mode::Keep {
            open = Some(stream);
        }
    }
}

/// Sends a request and reads its reply; returns where the body begins.
async fn exchange(
    stream: &mut TcpStream,
    request: &[u8],
    reply: &mut Vec<u8>,
    to_the_end: bool,
) -> io::Result<usize> {
    stream.write_all(request).await?;
    reply.clear();
    let mut whole = None;
    loop {
        let ended = stream.read_buf(reply).await? == 0;
        if whole.is_none() {
            whole = lengths(reply);
        }
        match whole {
            Some((head, body)) if reply.len() >= head + body && (ended || !to_the_end) => {
                return Ok(head);
            }
            _ if ended => return Err(io::ErrorKind::UnexpectedEof.into()),
            _ => {}
        }
    }
}

/// Bytes of the head and of the body, where the head is whole.
fn lengths(reply: &[u8]) -> Option<(usize, usize)> {
    let head = reply.windows(4).position(|end| end == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(reply.get(..head)?).ok()?;
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse().ok())?
    });
    Some((head, length?))
}
