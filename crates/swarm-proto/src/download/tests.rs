use std::net::SocketAddr;

use super::hash_server::Answer;
use super::*;
use crate::geometry::BlockRange;
use crate::id::SwarmId;
use crate::metainfo::{FileHasher, MetainfoBuilder};
use crate::session::{Misbehaviour, PieceSet, SessionEvent};
use crate::wire::{ExtendedHandshake, HashRequest, ReservedBits};

const PIECE: u32 = 32_768;

/// A hybrid of one long file and one short one.
fn meta() -> Metainfo {
    static META: std::sync::OnceLock<Metainfo> = std::sync::OnceLock::new();
    META.get_or_init(build).clone()
}

fn build() -> Metainfo {
    let mut builder = MetainfoBuilder::new("site", PIECE);
    for (name, len) in [("long", 700 * PIECE as usize + 5), ("short", 100)] {
        let mut hasher = FileHasher::new(PIECE);
        let mut bytes = vec![7; len];
        bytes[0] = 1;
        hasher.update(&bytes);
        builder.file(vec![name.to_owned()], hasher.finish());
    }
    builder.build().unwrap()
}

fn addr(n: u64) -> SocketAddr {
    SocketAddr::from(([198, 51, 100, n as u8], 6881))
}

/// A download whose peers are played by hand.
struct Table {
    download: Download,
    now: Instant,
    meta: Arc<Metainfo>,
}

impl Table {
    fn new(source: Source, have: Bitfield, config: DownloadConfig, meta: Arc<Metainfo>) -> Self {
        Self {
            download: Download::new(source, have, config, 1),
            now: Instant::now(),
            meta,
        }
    }

    fn leech() -> Self {
        let meta = Arc::new(meta());
        let have = Bitfield::none_of(meta.geometry());
        Self::new(
            Source::Metainfo(meta.clone()),
            have,
            DownloadConfig::default(),
            meta,
        )
    }

    fn seed() -> Self {
        let meta = Arc::new(meta());
        let have = Bitfield::all(meta.geometry().piece_count());
        Self::new(
            Source::Metainfo(meta.clone()),
            have,
            DownloadConfig::default(),
            meta,
        )
    }

    fn magnet() -> Self {
        let meta = Arc::new(meta());
        let (v1, v2) = (meta.info_hash_v1(), meta.info_hash_v2());
        let source = Source::Magnet { v1, v2 };
        Self::new(source, Bitfield::none(0), DownloadConfig::default(), meta)
    }

    fn join(&mut self, conn: u64, swarm_id: SwarmId) {
        self.join_from(conn, addr(conn), swarm_id);
    }

    fn join_from(&mut self, conn: u64, addr: SocketAddr, swarm_id: SwarmId) {
        let info = PeerInfo {
            addr,
            outgoing: true,
        };
        self.download
            .peer_joined(self.now, ConnectionId(conn), info);
        let peer_id = PeerId::new([conn as u8; 20]);
        let reserved = ReservedBits::OURS.with_v2();
        self.event(
            conn,
            SessionEvent::Established {
                peer_id,
                swarm_id,
                reserved,
            },
        );
    }

    /// A peer that has everything and lets us ask.
    fn join_seed(&mut self, conn: u64) {
        self.join(conn, self.meta.swarm_ids()[0]);
        self.event(conn, SessionEvent::PeerHas(PieceSet::All));
        self.event(conn, SessionEvent::Choked(false));
    }

    fn event(&mut self, conn: u64, event: SessionEvent) {
        self.download
            .handle_event(self.now, ConnectionId(conn), event);
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.download.handle_timeout(self.now);
    }

    fn actions(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.download.poll_action()).collect()
    }

    /// The commands to one session, and no others.
    fn commands(&mut self, conn: u64) -> Vec<Command> {
        let of = |action| match action {
            Action::Command(to, command) if to == ConnectionId(conn) => Some(command),
            _ => None,
        };
        self.actions().into_iter().filter_map(of).collect()
    }

    fn requests(&mut self, conn: u64) -> Vec<BlockRange> {
        let of = |command| match command {
            Command::Request(range) => Some(range),
            _ => None,
        };
        self.commands(conn).into_iter().filter_map(of).collect()
    }

    fn closes(&mut self) -> Vec<(u64, CloseReason)> {
        let of = |action| match action {
            Action::Close(conn, reason) => Some((conn.0, reason)),
            _ => None,
        };
        self.actions().into_iter().filter_map(of).collect()
    }
}

#[test]
fn piece_with_a_deadline_is_asked_for_before_all_others() {
    let mut table = Table::leech();
    let piece = table.meta.geometry().piece(123).unwrap();
    table.download.set_deadline(table.now, piece, table.now);
    table.join_seed(1);
    let first: Vec<_> = table
        .requests(1)
        .iter()
        .map(|range| range.piece().get())
        .collect();
    assert_eq!(first[..2], [123, 123]);
}

#[test]
fn block_that_a_reader_is_at_is_asked_for_first() {
    let mut table = Table::leech();
    let piece = table.meta.geometry().piece(123).unwrap();
    table
        .download
        .set_deadline_from(table.now, piece, table.now, BLOCK_LEN + 1);
    table.join_seed(1);
    let first: Vec<_> = table
        .requests(1)
        .iter()
        .map(|range| (range.piece().get(), range.begin()))
        .collect();
    assert_eq!(first[..2], [(123, BLOCK_LEN), (123, 0)]);
}

#[test]
fn full_queue_makes_room_for_a_deadline() {
    let mut table = Table::leech();
    table.join_seed(1);
    assert_eq!(table.requests(1).len(), DownloadConfig::default().depth_min);
    let piece = table.meta.geometry().piece(123).unwrap();
    table.download.set_deadline(table.now, piece, table.now);
    let commands = table.commands(1);
    let cancels = commands
        .iter()
        .filter(|c| matches!(c, Command::Cancel(_)))
        .count();
    let urgent = commands
        .iter()
        .filter(|c| matches!(c, Command::Request(range) if range.piece() == piece))
        .count();
    assert_eq!((cancels, urgent), (2, 2));
}

/// `reqq` of BEP 10.
#[test]
fn no_more_is_asked_of_a_peer_than_it_says_to_queue() {
    let mut table = Table::leech();
    table.join(1, table.meta.swarm_ids()[0]);
    let said = ExtendedHandshake {
        request_queue: Some(3),
        ..ExtendedHandshake::default()
    };
    table.event(1, SessionEvent::ExtendedHandshake(said));
    table.event(1, SessionEvent::PeerHas(PieceSet::All));
    table.event(1, SessionEvent::Choked(false));
    assert_eq!(table.requests(1).len(), 3);
}

#[test]
fn nothing_but_deadlines_is_fetched_where_nothing_is_wanted() {
    let mut table = Table::leech();
    table.download.set_want(table.now, Want::None);
    table.join_seed(1);
    assert_eq!(table.requests(1), []);
    let piece = table.meta.geometry().piece(5).unwrap();
    table.download.set_deadline(table.now, piece, table.now);
    let commands = table.commands(1);
    assert!(commands.contains(&Command::Interested(true)));
    assert!(
        commands
            .iter()
            .any(|c| matches!(c, Command::Request(range) if range.piece() == piece))
    );
}

#[test]
fn blocks_of_a_silent_peer_are_asked_of_another() {
    let mut table = Table::leech();
    table.join_seed(1);
    let asked = table.requests(1);
    for range in &asked {
        table.event(1, SessionEvent::TimedOut(*range));
    }
    table.join_seed(2);
    let again = table.requests(2);
    assert!(!asked.is_empty() && asked.iter().any(|range| again.contains(range)));
    // And those of one that is gone.
    table.download.peer_left(table.now, ConnectionId(2));
    table.join_seed(3);
    let again = table.requests(3);
    assert!(asked.iter().any(|range| again.contains(range)));
}

#[test]
fn false_metadata_ends_the_connection_by_name() {
    let mut table = Table::magnet();
    let total = u32::try_from(table.meta.raw_info().len()).unwrap();
    let said = ExtendedHandshake {
        ut_metadata: Some(2),
        metadata_size: Some(total),
        ..ExtendedHandshake::default()
    };
    for conn in [1, 2] {
        table.join(conn, table.meta.swarm_ids()[1]);
        table.event(conn, SessionEvent::ExtendedHandshake(said.clone()));
    }
    let asked = |commands: &[Command]| {
        commands
            .iter()
            .filter(|c| matches!(c, Command::RequestMetadata(_)))
            .count()
    };
    assert!(asked(&table.commands(1)) > 0);
    let raw = table.meta.raw_info().clone();
    for (conn, flip) in [(1, 1), (2, 0)] {
        for (piece, chunk) in (0..).zip(raw.chunks(16_384)) {
            let mut bytes = chunk.to_vec();
            bytes[0] ^= flip;
            let bytes = bytes.into();
            table.event(
                conn,
                SessionEvent::MetadataPiece {
                    piece,
                    total,
                    bytes,
                },
            );
        }
        if conn == 1 {
            let lie = CloseReason::Misbehaved(Misbehaviour::FalseMetadata);
            assert_eq!(table.closes(), [(1, lie)]);
        }
    }
    // The second told the truth: now the layer of the long file is asked for.
    let of = |command| match command {
        Command::RequestHashes(request) => Some(request),
        _ => None,
    };
    let requests: Vec<HashRequest> = table.commands(2).into_iter().filter_map(of).collect();
    assert_eq!(requests.len(), 2, "701 pieces are two requests of 512");
    table.join(3, table.meta.swarm_ids()[1]);
    let server = HashServer::new(&table.meta);
    let answer = |request| match server.answer(&table.meta, request) {
        Answer::Hashes(hashes) => hashes,
        other => panic!("{other:?}"),
    };
    let mut hashes = answer(&requests[0]);
    let rest = answer(&requests[1]);
    let truth = hashes.clone();
    hashes[7][0] ^= 1;
    table.event(
        2,
        SessionEvent::Hashes {
            request: requests[0],
            hashes,
        },
    );
    let lie = CloseReason::Misbehaved(Misbehaviour::FalseHashes);
    let actions = table.actions();
    assert!(
        actions
            .iter()
            .any(|a| matches!(a, Action::Close(ConnectionId(2), r) if *r == lie)),
        "{actions:?}"
    );
    table.event(
        3,
        SessionEvent::Hashes {
            request: requests[0],
            hashes: truth,
        },
    );
    table.event(
        3,
        SessionEvent::Hashes {
            request: requests[1],
            hashes: rest,
        },
    );
    let actions = table.actions();
    match &actions[..] {
        [Action::Metadata(meta)] => assert_eq!(meta.missing_layers().count(), 0),
        other => panic!("{other:?}"),
    }
}

#[test]
fn two_that_call_each_other_give_up_the_same_connection() {
    let (small, great) = (PeerId::new([1; 20]), PeerId::new([2; 20]));
    // Connection 1 was opened by the small one, 2 by the great one.
    for (ours, theirs) in [(small, great), (great, small)] {
        for order in [[1, 2], [2, 1]] {
            let meta = Arc::new(meta());
            let config = DownloadConfig {
                peer_id: Some(ours),
                ..DownloadConfig::default()
            };
            let have = Bitfield::none_of(meta.geometry());
            let mut table = Table::new(Source::Metainfo(meta.clone()), have, config, meta);
            for conn in order {
                let outgoing = (conn == 1) == (ours == small);
                let info = PeerInfo {
                    addr: addr(9),
                    outgoing,
                };
                table
                    .download
                    .peer_joined(table.now, ConnectionId(conn), info);
                let (swarm_id, reserved) = (table.meta.swarm_ids()[0], ReservedBits::OURS);
                let peer_id = theirs;
                table.event(
                    conn,
                    SessionEvent::Established {
                        peer_id,
                        swarm_id,
                        reserved,
                    },
                );
            }
            assert_eq!(table.closes(), [(2, CloseReason::Duplicate)]);
        }
    }
}

#[test]
fn free_slots_are_given_within_a_second_and_then_by_turns() {
    let mut table = Table::seed();
    let slots = DownloadConfig::default().upload_slots as u64;
    for conn in 1..=slots + 2 {
        table.join(conn, table.meta.swarm_ids()[0]);
        table.event(conn, SessionEvent::PeerInterested(true));
        table.now += Duration::from_millis(1);
    }
    // Those that wait for a suggestion wait no longer than that, and the first not at all.
    assert!(table.commands(1).contains(&Command::Choke(false)));
    table.wait(Duration::from_millis(1010));
    assert_eq!(table.download.stats().unchoked, slots as usize);
    table.actions();
    table.event(1, SessionEvent::PeerInterested(false));
    assert!(table.commands(slots + 1).contains(&Command::Choke(false)));
    let mut served = std::collections::BTreeSet::new();
    for _ in 0..10 {
        table.wait(Duration::from_secs(5));
        for action in table.actions() {
            if let Action::Command(conn, Command::Choke(false)) = action {
                served.insert(conn.0);
            }
        }
        assert!(table.download.stats().unchoked <= slots as usize);
    }
    assert!(served.contains(&(slots + 2)), "{served:?}");
}

#[test]
fn requests_for_what_we_lack_are_rejected_and_padding_needs_no_store() {
    let mut table = Table::leech();
    table.join(1, table.meta.swarm_ids()[0]);
    let range = table.meta.geometry().block(0, 0, 16_384).unwrap();
    table.event(1, SessionEvent::Requested(range));
    assert!(table.commands(1).contains(&Command::RejectRequest(range)));

    let mut table = Table::seed();
    table.join(1, table.meta.swarm_ids()[0]);
    table.actions();
    table.event(1, SessionEvent::Requested(range));
    assert!(
        matches!(table.actions()[..], [Action::ReadBlock { range: read, .. }] if read == range)
    );
    let padding = table.meta.geometry().block(700, 16_384, 16_384).unwrap();
    table.event(1, SessionEvent::Requested(padding));
    assert_eq!(
        table.commands(1),
        [Command::SendBlock(padding, vec![0; 16_384].into())]
    );
}

#[test]
fn two_that_have_everything_part() {
    let mut table = Table::seed();
    table.join(1, table.meta.swarm_ids()[0]);
    table.event(1, SessionEvent::PeerHas(PieceSet::All));
    table.wait(Duration::from_secs(5));
    assert_eq!(table.closes(), []);
    table.wait(Duration::from_secs(6));
    assert_eq!(table.closes(), [(1, CloseReason::Useless)]);
}

mod allowed;
mod capacity;
mod crowd;
mod lost;
mod padding;
mod proofs;
mod readers;
mod room;
mod super_seed;
mod takers;
mod upload_only;
mod v1_liars;
