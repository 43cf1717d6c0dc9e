//! A stranger that sends one kind of message a million times, from hand-written bytes.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpStream};
use std::time::{Duration, Instant};

/// One kind of message, well formed or not.
pub struct Kind {
    /// What it is called.
    pub name: &'static str,
    /// Some messages of this kind, one after the other.
    pub bytes: Vec<u8>,
    /// How many messages `bytes` holds.
    pub count: usize,
    /// How many plain messages one of these is worth.
    pub weight: usize,
}

fn kind(name: &'static str, messages: impl IntoIterator<Item = Vec<u8>>) -> Kind {
    let messages: Vec<_> = messages.into_iter().collect();
    Kind {
        name,
        count: messages.len(),
        weight: 1,
        bytes: messages.concat(),
    }
}

/// A message of this id.
fn message(id: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 1).expect("short");
    [&length.to_be_bytes()[..], &[id], body].concat()
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// An extended message (BEP 10).
fn extended(id: u8, body: &[u8]) -> Vec<u8> {
    message(20, &[&[id], body].concat())
}

/// Every kind of message that a peer may be sent, for a torrent of `pieces` pieces with this v2
/// root of its first file; `wrong` names the malformed and the senseless among them.
///
/// Extended ids are those that this project's peers give out: see `own_ids`.
pub fn kinds(pieces: u32, root: &[u8; 32], own_ids: &OwnIds) -> Vec<Kind> {
    let bits = vec![0xff_u8; pieces.div_ceil(8) as usize];
    let some = |make: &dyn Fn(u32) -> Vec<u8>| (0..64).map(make).collect::<Vec<_>>();
    let block = |piece: u32| words(&[piece % pieces, 0, 16_384]);
    let hashes = |base: u32, index: u32, length: u32, layers: u32| {
        [&root[..], &words(&[base, index, length, layers])].concat()
    };
    let peers = |count: u32| {
        let compact: Vec<u8> = (0..count)
            .flat_map(|n| [9, 9, (n >> 8) as u8, n as u8, 26, 225])
            .collect();
        let head = format!("d5:added{}:", compact.len());
        [head.as_bytes(), &compact, b"7:added.f0:7:dropped0:e"].concat()
    };
    let hello = b"d1:md11:ut_metadatai3e6:ut_pexi1ee1:pi6881e4:reqqi250e1:v4:evile".to_vec();
    vec![
        kind("keep-alive", [vec![0; 4]]),
        kind("choke", [message(0, &[])]),
        kind("unchoke", [message(1, &[])]),
        kind(
            "choke and unchoke in turn",
            [message(0, &[]), message(1, &[])],
        ),
        kind("interested", [message(2, &[])]),
        kind("not interested", [message(3, &[])]),
        kind(
            "interested or not, in turn",
            [message(2, &[]), message(3, &[])],
        ),
        kind("have", some(&|n| message(4, &words(&[n % pieces])))),
        kind(
            "have of no such piece",
            some(&|n| message(4, &words(&[pieces + n]))),
        ),
        kind("have of no length", [message(4, &[])]),
        kind("bitfield", [message(5, &bits)]),
        kind("bitfield of another length", [message(5, &[0xff; 200])]),
        kind("request", some(&|n| message(6, &block(n)))),
        kind(
            "request of 1 byte",
            some(&|n| message(6, &words(&[n % pieces, n, 1]))),
        ),
        kind(
            "request past the end",
            some(&|n| message(6, &words(&[n % pieces, u32::MAX, 16_384]))),
        ),
        kind(
            "request of 4 GiB",
            some(&|n| message(6, &words(&[n % pieces, 0, u32::MAX]))),
        ),
        kind(
            "piece nobody asked for",
            some(&|n| message(7, &[words(&[n % pieces, 0]), vec![n as u8; 32]].concat())),
        ),
        kind(
            "piece of no bytes",
            some(&|n| message(7, &words(&[n % pieces, 0]))),
        ),
        kind("piece of no length", [message(7, &[])]),
        kind("cancel", some(&|n| message(8, &block(n)))),
        kind(
            "cancel of nonsense",
            some(&|_| message(8, &words(&[u32::MAX; 3]))),
        ),
        kind("port", some(&|n| message(9, &(n as u16 + 1).to_be_bytes()))),
        kind("port of no length", [message(9, &[])]),
        kind("suggest", some(&|n| message(13, &words(&[n % pieces])))),
        kind(
            "suggest of no such piece",
            some(&|n| message(13, &words(&[pieces + n]))),
        ),
        kind("have all", [message(14, &[])]),
        kind("have none", [message(15, &[])]),
        kind("reject", some(&|n| message(16, &block(n)))),
        kind(
            "reject of nonsense",
            some(&|_| message(16, &words(&[u32::MAX; 3]))),
        ),
        kind(
            "allowed fast",
            some(&|n| message(17, &words(&[n % pieces]))),
        ),
        kind(
            "allowed fast of no such piece",
            some(&|n| message(17, &words(&[pieces + n]))),
        ),
        kind("extended handshake", [extended(0, &hello)]),
        kind(
            "extended handshake that is no bencode",
            [extended(0, b"d1:mi-0e")],
        ),
        kind(
            "extended handshake of nested lists",
            [extended(0, &[b'l'; 300])],
        ),
        kind(
            "extended of unknown id",
            some(&|n| extended(100 + n as u8, b"de")),
        ),
        kind(
            "ut_metadata request",
            some(&|n| {
                extended(
                    own_ids.metadata,
                    format!("d8:msg_typei0e5:piecei{n}ee").as_bytes(),
                )
            }),
        ),
        kind(
            "ut_metadata data",
            some(&|n| {
                extended(
                    own_ids.metadata,
                    format!("d8:msg_typei1e5:piecei{n}e10:total_sizei999999eexxxx").as_bytes(),
                )
            }),
        ),
        kind(
            "ut_metadata reject",
            some(&|n| {
                extended(
                    own_ids.metadata,
                    format!("d8:msg_typei2e5:piecei{n}ee").as_bytes(),
                )
            }),
        ),
        kind(
            "ut_metadata nonsense",
            [extended(own_ids.metadata, b"d8:msg_typei99e5:piecei-1ee")],
        ),
        kind("ut_pex", [extended(own_ids.pex, &peers(5))]),
        Kind {
            weight: 40,
            ..kind("ut_pex of 201 peers", [extended(own_ids.pex, &peers(201))])
        },
        kind(
            "ut_pex nonsense",
            [extended(own_ids.pex, b"d5:added5:xxxxxe")],
        ),
        kind(
            "ut_holepunch",
            [extended(own_ids.holepunch, &[0, 0, 9, 9, 9, 9, 26, 225])],
        ),
        kind(
            "lt_donthave",
            some(&|n| extended(own_ids.dont_have, &words(&[n % pieces]))),
        ),
        kind(
            "lt_donthave of no such piece",
            some(&|n| extended(own_ids.dont_have, &words(&[pieces + n]))),
        ),
        kind(
            "lt_donthave of no length",
            [extended(own_ids.dont_have, &[])],
        ),
        kind(
            "hash request",
            [
                message(21, &hashes(0, 0, 512, 8)),
                message(21, &hashes(1, 0, 2, 1)),
            ],
        ),
        kind(
            "hash request of nonsense",
            [message(
                21,
                &[[7; 32].to_vec(), words(&[u32::MAX; 4])].concat(),
            )],
        ),
        kind(
            "hashes nobody asked for",
            [message(22, &[hashes(0, 0, 2, 0), vec![9; 64]].concat())],
        ),
        kind("hashes of no length", [message(22, &[])]),
        kind("hash reject", [message(23, &hashes(0, 0, 512, 8))]),
        kind(
            "unknown id",
            some(&|n| message(100 + n as u8, &[n as u8; 20])),
        ),
        kind("length of 4 GiB", [vec![0xff; 4]]),
        kind(
            "length just too great",
            [[&(1_u32 << 20).to_be_bytes()[..], &[7]].concat()],
        ),
    ]
}

/// The ids that a peer of ours gave its extensions.
pub struct OwnIds {
    /// `ut_metadata`.
    pub metadata: u8,
    /// `ut_pex`.
    pub pex: u8,
    /// `ut_holepunch`.
    pub holepunch: u8,
    /// `lt_donthave`.
    pub dont_have: u8,
}

impl OwnIds {
    /// Asks a peer, by an extended handshake; an extension that it lacks gets an id of no meaning.
    pub fn of(target: &Target) -> Self {
        let mut stream = target.connect(Ipv4Addr::LOCALHOST, 0);
        let hello = extended(0, b"d1:md11:ut_metadatai3e6:ut_pexi1eee");
        stream.write_all(&hello).expect("the peer listens");
        let mut heard = Vec::new();
        let wait = Some(Duration::from_millis(1000));
        stream.set_read_timeout(wait).expect("not zero");
        let mut part = [0; 4096];
        while let Ok(len @ 1..) = stream.read(&mut part) {
            heard.extend_from_slice(&part[..len]);
        }
        let id = |name: &str, fallback: u8| {
            let at = heard
                .windows(name.len())
                .position(|window| window == name.as_bytes());
            let digits = at.and_then(|at| heard.get(at + name.len()..));
            let digits = digits.and_then(|rest| rest.split(|byte| *byte == b'e').next());
            let text = digits.and_then(|digits| std::str::from_utf8(digits).ok());
            text.and_then(|text| text.parse().ok()).unwrap_or(fallback)
        };
        assert!(heard.len() > 68, "the peer said nothing: {heard:?}");
        Self {
            metadata: id("11:ut_metadatai", 90),
            pex: id("6:ut_pexi", 91),
            holepunch: id("12:ut_holepunchi", 92),
            dont_have: id("11:lt_donthavei", 93),
        }
    }
}

/// A peer under attack.
pub struct Target {
    /// Where it listens.
    pub addr: SocketAddr,
    /// The swarm that the attacker claims to be of.
    pub info_hash: [u8; 20],
}

/// What an attack came to.
#[derive(Debug, Default, Clone, Copy)]
pub struct Sent {
    /// Messages that the system took for the peer.
    pub messages: usize,
    /// Connections it took.
    pub connections: usize,
}

impl Target {
    /// Sends `messages` of one kind, or as many fewer as it is heavier, from a new address whenever the peer hangs up or reads no
    /// more; every other connection reads what comes back, the others let it pile up.
    ///
    /// # Panics
    /// When the peer takes no connection any more.
    pub fn flood(&self, nth: usize, kind: &Kind, messages: usize) -> Sent {
        let messages = messages / kind.weight;
        let repeats = (65_536 / kind.bytes.len()).max(1);
        let batch = kind.bytes.repeat(repeats);
        let mut sent = Sent::default();
        while sent.messages < messages {
            sent.connections += 1;
            let from = Ipv4Addr::new(
                127,
                1 + nth as u8,
                (sent.connections >> 8) as u8,
                sent.connections as u8,
            );
            let mut stream = self.connect(from, nth as u64 * 1000 + sent.connections as u64);
            let reads = sent.connections % 2 == 0;
            loop {
                // What was written into a connection that is gone was sent, too.
                sent.messages += repeats * kind.count;
                if !write_on(&mut stream, &batch, reads) {
                    break;
                }
                if sent.messages >= messages {
                    hear_out(&mut stream);
                    break;
                }
            }
        }
        sent
    }

    fn connect(&self, from: Ipv4Addr, id: u64) -> TcpStream {
        let end = Instant::now() + Duration::from_secs(30);
        let mut stream = loop {
            match bound(from, self.addr) {
                Ok(stream) => break stream,
                Err(error) => {
                    assert!(Instant::now() < end, "the peer answers nobody: {error}");
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
        };
        let mut hello = vec![19];
        hello.extend_from_slice(b"BitTorrent protocol");
        hello.extend_from_slice(&[0, 0, 0, 0, 0, 0x10, 0, 0x14]);
        hello.extend_from_slice(&self.info_hash);
        hello.extend_from_slice(format!("-EV0001-{id:012}").as_bytes());
        // A peer that hangs up at once is the loop's matter.
        let _ = stream.write_all(&hello);
        stream
    }
}

/// Writes all of it; false when the peer hangs up, or takes nothing for half a second.
fn write_on(stream: &mut TcpStream, batch: &[u8], reads: bool) -> bool {
    let mut rest = batch;
    let mut stuck = Instant::now();
    let mut bin = vec![0; 65_536];
    if stream.set_nonblocking(true).is_err() {
        return false;
    }
    while !rest.is_empty() {
        if reads {
            match stream.read(&mut bin) {
                Ok(0) => return false,
                Ok(_) => stuck = Instant::now(),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return false,
            }
        }
        match stream.write(rest) {
            Ok(taken) => {
                rest = &rest[taken..];
                stuck = Instant::now();
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if stuck.elapsed() > Duration::from_millis(500) {
                    return false;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(_) => return false,
        }
    }
    true
}

/// Waits until the peer has read it all, and hangs up.
fn hear_out(stream: &mut TcpStream) {
    let patience = Some(Duration::from_secs(10));
    let done = stream.shutdown(Shutdown::Write);
    let done = done.and_then(|()| stream.set_nonblocking(false));
    let done = done.and_then(|()| stream.set_read_timeout(patience));
    let mut bin = vec![0; 65_536];
    while done.is_ok() && matches!(stream.read(&mut bin), Ok(1..)) {}
}

/// A connection from one of loopback's many addresses.
fn bound(from: Ipv4Addr, to: SocketAddr) -> std::io::Result<TcpStream> {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    // Little is sent that nobody reads.
    socket.set_send_buffer_size(32 * 1024)?;
    socket.bind(&SocketAddr::from(SocketAddrV4::new(from, 0)).into())?;
    socket.connect_timeout(&to.into(), Duration::from_secs(2))?;
    Ok(socket.into())
}

/// Anonymous memory that a process holds, and the most that it has held since `reset_peak`.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// `RssAnon`, in KiB.
    pub anon: u64,
    /// `VmHWM`, in KiB.
    pub peak: u64,
}

impl Memory {
    /// Looks at `/proc`.
    pub fn of(pid: u32) -> Self {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name));
            let number = line.and_then(|line| line.split_whitespace().nth(1));
            number.and_then(|number| number.parse().ok()).expect("KiB")
        };
        Self {
            anon: field("RssAnon:"),
            peak: field("VmHWM:"),
        }
    }

    /// Forgets the peak so far.
    pub fn reset_peak(pid: u32) {
        std::fs::write(format!("/proc/{pid}/clear_refs"), "5").expect("our own child");
    }
}
