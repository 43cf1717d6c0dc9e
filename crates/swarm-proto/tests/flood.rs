//! A million messages of each kind, well formed and not: memory stays flat, and who floods is
//! dropped (T11).
//!
//! One test in a binary of its own, since it counts every byte that the process allocates.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use peak_alloc::PeakAlloc;
use swarm_proto::bitfield::Bitfield;
use swarm_proto::download::{Action, Download, DownloadConfig, PeerInfo, Source};
use swarm_proto::geometry::BLOCK_LEN;
use swarm_proto::id::PeerId;
use swarm_proto::metainfo::{FileHasher, Metainfo, MetainfoBuilder};
use swarm_proto::session::{Command, ConnectionId, PeerSession, SessionConfig};
use swarm_proto::wire::lt_donthave::LT_DONTHAVE_ID;
use swarm_proto::wire::{
    DontHave, ExtendedHandshake, Handshake, HashRequest, Message, MetadataMessage, RawBlock,
    RawHashes, RawRequest, ReservedBits,
};
use swarm_proto::{limits, merkle};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

const PIECE_LENGTH: u32 = 65_536;
const PIECES: u32 = 64;
/// Messages that come at once.
const BATCH: u32 = 64;

/// What one peer may cost: queues, a frame, what we say to it.
const STATE_LEN: usize = 256 * 1024;
/// And the blocks in hand for it.
const BLOCKS_LEN: usize = limits::REQUESTS_PASSED_MAX * BLOCK_LEN as usize;

/// A download with one peer that does as it likes.
struct Victim {
    meta: Arc<Metainfo>,
    download: Download,
    session: PeerSession,
    conn: ConnectionId,
    now: Instant,
    dropped: u32,
    /// Whether the peer reads what it is sent.
    reads: bool,
    sink: BytesMut,
}

fn meta() -> Arc<Metainfo> {
    let bytes = vec![7; (PIECE_LENGTH * PIECES) as usize];
    let mut hasher = FileHasher::new(PIECE_LENGTH);
    hasher.update(&bytes);
    let mut builder = MetainfoBuilder::new("flooded", PIECE_LENGTH);
    builder.file(vec!["a".to_owned()], hasher.finish());
    Arc::new(builder.build().unwrap())
}

fn session(meta: &Metainfo, now: Instant) -> PeerSession {
    let config = SessionConfig::new(PeerId::new([1; 20]), meta.swarm_ids(), true);
    PeerSession::new(config, now)
}

impl Victim {
    fn new(meta: &Arc<Metainfo>, seeds: bool, reads: bool) -> Self {
        let have = match seeds {
            true => Bitfield::all(meta.geometry().piece_count()),
            false => Bitfield::none_of(meta.geometry()),
        };
        let source = Source::Metainfo(Arc::clone(meta));
        let now = Instant::now();
        let mut victim = Self {
            meta: Arc::clone(meta),
            download: Download::new(source, have, DownloadConfig::default(), 1),
            session: session(meta, now),
            conn: ConnectionId(0),
            now,
            dropped: 0,
            reads,
            sink: BytesMut::with_capacity(2 * limits::OUTPUT_LEN_MAX),
        };
        victim.meet();
        victim
    }

    /// The peer calls (again), from another address each time.
    fn meet(&mut self) {
        self.conn = ConnectionId(self.conn.0 + 1);
        self.session = session(&self.meta, self.now);
        let [.., a, b, c] = self.conn.0.to_be_bytes();
        let info = PeerInfo {
            addr: SocketAddr::from(([60, a, b, c], 6881)),
            outgoing: false,
        };
        self.download.peer_joined(self.now, self.conn, info);
        let handshake = Handshake {
            reserved: ReservedBits::OURS.with_v2(),
            swarm_id: self.meta.swarm_ids()[1],
            peer_id: PeerId::new([2; 20]),
        };
        let mut hello = BytesMut::from(&handshake.encode()[..]);
        let said = ExtendedHandshake {
            ut_metadata: Some(2),
            metadata_size: Some(1000),
            ..ExtendedHandshake::default()
        };
        let payload = said.encode().into();
        Message::Extended { id: 0, payload }.encode(&mut hello);
        Message::HaveAll.encode(&mut hello);
        Message::Unchoke.encode(&mut hello);
        Message::Interested.encode(&mut hello);
        self.send(&hello);
    }

    /// Bytes come from the peer; the driver does its part.
    fn send(&mut self, bytes: &[u8]) {
        self.session.handle_bytes(self.now, bytes);
        loop {
            if self.reads {
                self.session.poll_transmit(&mut self.sink);
                self.sink.clear();
            }
            let mut idle = true;
            while let Some(event) = self.session.poll_event() {
                self.download.handle_event(self.now, self.conn, event);
                idle = false;
            }
            while let Some(action) = self.download.poll_action() {
                self.act(action);
                idle = false;
            }
            if idle {
                break;
            }
        }
    }

    fn act(&mut self, action: Action) {
        let command = match action {
            Action::Command(conn, command) if conn == self.conn => command,
            Action::Close(conn, reason) if conn == self.conn => Command::Close(reason),
            Action::ReadBlock { range, .. } => {
                Command::SendBlock(range, vec![7; range.len() as usize].into())
            }
            Action::HashLeaves(piece) => {
                let leaves = merkle::leaves(&[7; PIECE_LENGTH as usize]);
                return self.download.leaves_hashed(piece, Some(leaves));
            }
            _ => return,
        };
        self.session.handle_command(self.now, command);
    }

    /// So many messages, a hundred thousand a second. Who is dropped calls again.
    fn flood(&mut self, batch: &[u8], count: u32) {
        for _ in 0..count.div_ceil(BATCH) {
            self.send(batch);
            self.now += Duration::from_micros(10) * BATCH;
            if self
                .download
                .poll_timeout()
                .is_some_and(|at| at <= self.now)
            {
                self.download.handle_timeout(self.now);
            }
            if self.session.is_closed().is_some() {
                self.download.peer_left(self.now, self.conn);
                self.dropped += 1;
                self.meet();
            }
        }
    }
}

/// A batch of messages that differ by their number.
fn batch(message: impl Fn(u32) -> Message) -> Bytes {
    let mut bytes = BytesMut::new();
    (0..BATCH).for_each(|n| message(n).encode(&mut bytes));
    bytes.freeze()
}

/// A batch of frames with that id and payload.
fn frames(id: u8, payload: &[u8]) -> Bytes {
    let mut bytes = BytesMut::new();
    for _ in 0..BATCH {
        let len = u32::try_from(payload.len() + 1).unwrap();
        bytes.extend_from_slice(&len.to_be_bytes());
        bytes.extend_from_slice(&[id]);
        bytes.extend_from_slice(payload);
    }
    bytes.freeze()
}

fn request(n: u32) -> RawRequest {
    RawRequest {
        index: n % PIECES,
        begin: 0,
        len: BLOCK_LEN,
    }
}

/// Name, messages, and whether an honest peer might send so many.
fn well_formed(meta: &Metainfo) -> Vec<(&'static str, Bytes, bool)> {
    let root = meta.files()[0].pieces_root.unwrap();
    let hashes = |base_layer| {
        move |n: u32| HashRequest {
            pieces_root: root,
            base_layer,
            index: n % 16 * 4,
            length: 4,
            proof_layers: 0,
        }
    };
    let extended = |id, bytes: Vec<u8>| {
        batch(move |_| Message::Extended {
            id,
            payload: bytes.clone().into(),
        })
    };
    let by_turns =
        |a: Message, b: Message| batch(move |n| if n % 2 == 0 { a.clone() } else { b.clone() });
    let block = |n| RawBlock {
        index: n % PIECES,
        begin: 32_768,
        bytes: Bytes::from_static(&[7; BLOCK_LEN as usize]),
    };
    let data = MetadataMessage::Data {
        piece: 0,
        total: 1000,
        bytes: Bytes::from_static(&[7; 1000]),
    };
    let bits = Bytes::from(vec![0xff; PIECES as usize / 8]);
    let said = ExtendedHandshake {
        client: Some("x".repeat(60)),
        ..ExtendedHandshake::default()
    };
    vec![
        ("keep-alive", batch(|_| Message::KeepAlive), false),
        (
            "choke, unchoke",
            by_turns(Message::Choke, Message::Unchoke),
            false,
        ),
        (
            "interested, not interested",
            by_turns(Message::NotInterested, Message::Interested),
            false,
        ),
        ("have", batch(|n| Message::Have(n % PIECES)), false),
        (
            "bitfield",
            batch(move |_| Message::Bitfield(bits.clone())),
            false,
        ),
        ("request", batch(|n| Message::Request(request(n))), true),
        ("cancel", batch(|n| Message::Cancel(request(n))), false),
        (
            "request, cancel",
            {
                batch(|n| match n % 2 {
                    0 => Message::Request(request(n)),
                    _ => Message::Cancel(request(n - 1)),
                })
            },
            false,
        ),
        ("piece", batch(move |n| Message::Piece(block(n))), false),
        ("port", batch(|_| Message::Port(6881)), false),
        ("suggest", batch(|n| Message::Suggest(n % PIECES)), false),
        ("have all", batch(|_| Message::HaveAll), false),
        ("have none", batch(|_| Message::HaveNone), false),
        ("reject", batch(|n| Message::Reject(request(n))), false),
        (
            "allowed fast",
            batch(|n| Message::AllowedFast(n % PIECES)),
            false,
        ),
        ("unknown", batch(|_| Message::Unknown(99)), false),
        ("extended handshake", extended(0, said.encode()), false),
        (
            "metadata request",
            extended(2, MetadataMessage::Request { piece: 0 }.encode()),
            false,
        ),
        (
            "metadata reject",
            extended(2, MetadataMessage::Reject { piece: 0 }.encode()),
            false,
        ),
        ("metadata", extended(2, data.encode()), false),
        (
            "lost piece",
            batch(|n| Message::Extended {
                id: LT_DONTHAVE_ID,
                payload: DontHave { piece: n % PIECES }.encode().to_vec().into(),
            }),
            false,
        ),
        (
            "have, lost piece",
            batch(|n| match n % 2 {
                0 => Message::Have(0),
                _ => Message::Extended {
                    id: LT_DONTHAVE_ID,
                    payload: DontHave { piece: 0 }.encode().to_vec().into(),
                },
            }),
            false,
        ),
        (
            "hash request",
            batch(move |n| Message::HashRequest(hashes(2)(n))),
            false,
        ),
        (
            "leaf hash request",
            batch(move |n| Message::HashRequest(hashes(0)(n))),
            false,
        ),
        (
            "hash reject",
            batch(move |n| Message::HashReject(hashes(0)(n))),
            false,
        ),
        (
            "hashes",
            batch(move |n| {
                let (request, hashes) = (hashes(0)(n), vec![[7; 32]; 4]);
                Message::Hashes(RawHashes { request, hashes })
            }),
            false,
        ),
    ]
}

/// Frames that say nothing that can be meant.
fn malformed() -> Vec<(String, Bytes)> {
    let mut all = Vec::new();
    for id in (0..=9).chain([13, 14, 15, 16, 17, 20, 21, 22, 23]) {
        all.push((format!("id {id}, cut short"), frames(id, &[0xff; 3])));
        all.push((format!("id {id}, ones"), frames(id, &[0xff; 60])));
        all.push((format!("id {id}, zeros"), frames(id, &[0; 60])));
    }
    let nested = [&[0][..], &[b'l'; 5000][..]].concat();
    all.push(("nested lists".to_owned(), frames(20, &nested)));
    let huge = u32::MAX.to_be_bytes();
    all.push((
        "endless frame".to_owned(),
        huge.repeat(BATCH as usize).into(),
    ));
    // The longest frames that are waited for, and one that is not: they end but with the next.
    for len in [limits::MESSAGE_LEN_MAX, limits::FRAME_LEN_MAX] {
        let prefix = u32::try_from(len).unwrap().to_be_bytes();
        for id in [5, 20, 99] {
            let long = [&prefix[..], &[id], &[0xff; 4000]].concat();
            all.push((format!("id {id}, {len} bytes long"), long.into()));
        }
    }
    all
}

#[test]
fn t11_a_million_messages_of_each_kind_leave_memory_flat_and_floods_end_the_connection() {
    let count = if cfg!(debug_assertions) {
        60_000
    } else {
        1_000_000
    };
    let meta = meta();
    let mut kinds: Vec<(String, Bytes, bool)> = Vec::new();
    for (name, bytes, is_honest) in well_formed(&meta) {
        kinds.push((name.to_owned(), bytes, is_honest));
    }
    kinds.extend(
        malformed()
            .into_iter()
            .map(|(name, bytes)| (name, bytes, false)),
    );
    let mut most = (0, String::new());
    for (name, bytes, is_honest) in &kinds {
        for (seeds, reads) in [(true, true), (false, true), (true, false), (false, false)] {
            let base = ALLOCATOR.current_usage();
            let mut victim = Victim::new(&meta, seeds, reads);
            ALLOCATOR.reset_peak_usage();
            victim.flood(bytes, count / 4);
            let peak = ALLOCATOR.peak_usage().saturating_sub(base + bytes.len());
            let unread = if reads {
                0
            } else {
                2 * limits::CONTROL_LEN_MAX
            };
            let bound = STATE_LEN + BLOCKS_LEN + unread + victim.sink.capacity();
            assert!(
                peak <= bound,
                "{name}, seeding {seeds}, reading {reads}: {peak} bytes"
            );
            if peak > most.0 {
                most = (peak, format!("{name}, seeding {seeds}, reading {reads}"));
            }
            // Who asks and reads does no harm; nor does one whose requests wait for it to read.
            if !is_honest {
                assert!(
                    victim.dropped > 0,
                    "{name}, seeding {seeds}, reading {reads}: never dropped"
                );
            }
        }
    }
    println!(
        "{} kinds, at most {} KiB: {}",
        kinds.len(),
        most.0 / 1024,
        most.1
    );
}
