//! Fuzz body of a whole download: several sessions, fed by strangers, and one `Download` over them.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use crate::bitfield::Bitfield;
use crate::download::{Action, Download, DownloadConfig, PeerInfo, Source, Want};
use crate::geometry::BlockRange;
use crate::id::PeerId;
use crate::limits;
use crate::merkle;
use crate::metainfo::{FileHasher, Metainfo, MetainfoBuilder};
use crate::session::{Command, ConnectionId, PeerSession, SessionConfig, SessionEvent};
use crate::verify::verify;
use crate::wire::{Handshake, Message, RawBlock, ReservedBits};

const PIECE: u32 = 32_768;
/// Strangers at a time.
const CONNS: u64 = 4;
/// Actions that one happening may lead to: far more than any should.
const ACTIONS_MAX: usize = 20_000;

/// A hybrid of three pieces, and its bytes.
fn torrent() -> &'static (Arc<Metainfo>, Vec<u8>) {
    static TORRENT: OnceLock<(Arc<Metainfo>, Vec<u8>)> = OnceLock::new();
    TORRENT.get_or_init(|| {
        let mut builder = MetainfoBuilder::new("site", PIECE);
        let mut space = Vec::new();
        for (name, len) in [("long", 2 * PIECE as usize + 5), ("short", 100)] {
            let bytes: Vec<u8> = (0..len).map(|at| (at / 7) as u8).collect();
            let mut hasher = FileHasher::new(PIECE);
            hasher.update(&bytes);
            builder.file(vec![name.to_owned()], hasher.finish());
            space.resize(space.len().next_multiple_of(PIECE as usize), 0);
            space.extend_from_slice(&bytes);
        }
        let Ok(meta) = builder.build() else {
            unreachable!("two files make a torrent");
        };
        let total = usize::try_from(meta.geometry().total_length()).unwrap_or_default();
        space.resize(total, 0);
        (Arc::new(meta), space)
    })
}

/// A download whose peers do what the bytes say: they send anything, come, go, answer requests
/// truly or with a flipped bit, and time passes. Nothing false is verified, nothing grows past
/// its bound, and nothing panics.
///
/// The first byte chooses how the download stands; then each byte is an order, and the next its
/// argument. `now` is any time: it only has to be somebody's.
pub fn download(now: Instant, data: &[u8]) {
    let [mode, orders @ ..] = data else {
        return;
    };
    let mut table = Table::new(now, *mode);
    let mut orders = orders.iter().copied();
    while let (Some(order), Some(argument)) = (orders.next(), orders.next()) {
        let id = u64::from(order) % CONNS;
        match order / 32 {
            0 | 1 => {
                let bytes: Vec<u8> = orders.by_ref().take(argument.into()).collect();
                table.feed(id, &bytes);
            }
            2 => table.answer(id, argument.into(), false),
            3 => table.answer(id, 1, true),
            4 => table.wait(Duration::from_millis(u64::from(argument) * 100)),
            5 => table.replace(id),
            6 => table.feed(id, &[0, 0, 0, 1, argument % 24]),
            _ => table.want(argument),
        }
    }
}

struct Table {
    now: Instant,
    download: Download,
    have_v2: bool,
    sessions: BTreeMap<u64, PeerSession>,
    /// The connection that plays each part, and how many there were.
    playing: [u64; CONNS as usize],
    joined: u64,
    /// What was asked of each connection and not answered.
    asked: BTreeMap<u64, VecDeque<BlockRange>>,
}

impl Table {
    fn new(now: Instant, mode: u8) -> Self {
        let (meta, _) = torrent();
        let source = match mode & 1 {
            0 => Source::Metainfo(Arc::clone(meta)),
            _ => Source::Magnet {
                v1: meta.info_hash_v1().filter(|_| mode & 2 == 0),
                v2: meta.info_hash_v2(),
            },
        };
        let have = match mode & 5 {
            4 => Bitfield::all(meta.geometry().piece_count()),
            0 => Bitfield::none_of(meta.geometry()),
            _ => Bitfield::none(0),
        };
        let config = DownloadConfig::default();
        let mut table = Self {
            now,
            download: Download::new(source, have, config, mode.into()),
            have_v2: mode & 8 == 0,
            sessions: BTreeMap::new(),
            playing: [0; CONNS as usize],
            joined: 0,
            asked: BTreeMap::new(),
        };
        for id in 0..CONNS {
            table.replace(id);
        }
        table
    }

    /// One stranger goes, another comes.
    fn replace(&mut self, id: u64) {
        let Some(playing) = self.playing.get_mut(id as usize) else {
            return;
        };
        let gone = std::mem::replace(playing, self.joined + 1);
        if self.sessions.remove(&gone).is_some() {
            self.asked.remove(&gone);
            self.download.peer_left(self.now, ConnectionId(gone));
        }
        self.joined += 1;
        let conn = self.joined;
        let ids = torrent().0.swarm_ids();
        let Some(&swarm_id) = ids.first() else {
            return;
        };
        let mut config = SessionConfig::new(PeerId::new([3; 20]), ids, self.have_v2);
        config.dialled = conn.is_multiple_of(2).then_some(swarm_id);
        let mut session = PeerSession::new(config, self.now);
        let mut peer_id = [4; 20];
        peer_id[..8].copy_from_slice(&conn.to_be_bytes());
        let hello = Handshake {
            reserved: match self.have_v2 {
                true => ReservedBits::OURS.with_v2(),
                false => ReservedBits::OURS,
            },
            swarm_id,
            peer_id: PeerId::new(peer_id),
        };
        session.handle_bytes(self.now, &hello.encode());
        self.sessions.insert(conn, session);
        let [.., high, low] = conn.to_be_bytes();
        let info = PeerInfo {
            addr: SocketAddr::from(([198, 51, high, low], 6881)),
            outgoing: conn.is_multiple_of(2),
        };
        let conn = ConnectionId(conn);
        self.download.peer_joined(self.now, conn, info);
        self.settle();
    }

    fn playing(&self, id: u64) -> u64 {
        self.playing.get(id as usize).copied().unwrap_or_default()
    }

    fn feed(&mut self, id: u64, bytes: &[u8]) {
        let conn = self.playing(id);
        if let Some(session) = self.sessions.get_mut(&conn) {
            session.handle_bytes(self.now, bytes);
        }
        self.settle();
    }

    /// Answers requests, truly or with a flipped bit.
    fn answer(&mut self, id: u64, count: usize, lies: bool) {
        let conn = self.playing(id);
        for _ in 0..count {
            let Some(range) = self.asked.get_mut(&conn).and_then(VecDeque::pop_front) else {
                return;
            };
            let mut bytes = BytesMut::from(&truth(&range)[..]);
            if let Some(byte) = bytes.first_mut().filter(|_| lies) {
                *byte ^= 1;
            }
            let block = Message::Piece(RawBlock {
                index: range.piece().get(),
                begin: range.begin(),
                bytes: bytes.freeze(),
            });
            let mut wire = BytesMut::new();
            block.encode(&mut wire);
            self.feed(id, &wire);
        }
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        for session in self.sessions.values_mut() {
            session.handle_timeout(self.now);
        }
        self.download.handle_timeout(self.now);
        self.settle();
    }

    fn want(&mut self, argument: u8) {
        let want = match argument % 3 {
            0 => Want::All,
            _ => Want::None,
        };
        self.download.set_want(self.now, want);
        let geometry = torrent().0.geometry();
        if let Some(piece) = geometry.piece(u32::from(argument) / 3 % 4) {
            match argument & 128 {
                0 => self.download.set_deadline(self.now, piece, self.now),
                _ => self.download.clear_deadline(piece),
            }
        }
        self.settle();
    }

    /// Carries events and actions until there are none.
    fn settle(&mut self) {
        let mut acts = 0;
        loop {
            let mut quiet = true;
            let conns: Vec<u64> = self.sessions.keys().copied().collect();
            for conn in conns {
                let mut closed = false;
                while let Some(event) = self.sessions.get_mut(&conn).and_then(|s| s.poll_event()) {
                    quiet = false;
                    closed = matches!(event, SessionEvent::Closed(_));
                    let id = ConnectionId(conn);
                    self.download.handle_event(self.now, id, event);
                }
                if closed {
                    self.sessions.remove(&conn);
                    self.asked.remove(&conn);
                    self.download.peer_left(self.now, ConnectionId(conn));
                }
            }
            while let Some(action) = self.download.poll_action() {
                quiet = false;
                acts += 1;
                assert!(acts < ACTIONS_MAX, "it never ends");
                self.act(action);
            }
            if quiet {
                break;
            }
        }
        for session in self.sessions.values_mut() {
            let mut out = BytesMut::new();
            session.poll_transmit(&mut out);
            assert!(out.len() <= limits::OUTPUT_LEN_MAX + limits::CONTROL_LEN_MAX);
        }
    }

    fn command(&mut self, conn: ConnectionId, command: Command) {
        let number = conn.0;
        if let Command::Request(range) = &command {
            let asked = self.asked.entry(number).or_default();
            asked.push_back(*range);
            assert!(asked.len() <= 4096, "no end of requests");
        }
        if let Some(session) = self.sessions.get_mut(&number) {
            session.handle_command(self.now, command);
        }
    }

    fn act(&mut self, action: Action) {
        let (meta, space) = torrent();
        match action {
            Action::Command(conn, command) => self.command(conn, command),
            Action::Verify(piece) => match verify(meta, piece) {
                Ok(verified) => {
                    let start = meta.geometry().piece_offset(verified.piece());
                    let start = usize::try_from(start).unwrap_or(usize::MAX);
                    let end = start.saturating_add(verified.bytes().len());
                    assert_eq!(space.get(start..end), Some(&verified.bytes()[..]));
                    self.download.piece_verified(self.now, verified.piece());
                }
                Err(error) => self.download.piece_failed(self.now, &error),
            },
            Action::ReadBlock { conn, range } => {
                let bytes = Bytes::copy_from_slice(&truth(&range));
                self.command(conn, Command::SendBlock(range, bytes));
            }
            Action::HashLeaves(piece) => {
                let leaves = meta.piece_tree(piece).and_then(|tree| {
                    let start = usize::try_from(meta.geometry().piece_offset(piece)).ok()?;
                    let end = start.checked_add(usize::try_from(tree.data_len).ok()?)?;
                    Some(merkle::leaves(space.get(start..end)?))
                });
                self.download.leaves_hashed(piece, leaves);
            }
            Action::BlockVerified(block) => {
                assert_eq!(truth(&block.range()), block.bytes()[..], "a lie was shown");
            }
            Action::Metadata(found) => {
                assert_eq!(found.raw_info(), meta.raw_info());
                let have = Bitfield::none_of(found.geometry());
                self.download.metadata(self.now, Arc::new(*found), have);
            }
            Action::Close(conn, reason) => self.command(conn, Command::Close(reason)),
            Action::Ban { .. } | Action::Completed => {}
            // No web seeds here, and nobody to call.
            _ => {}
        }
    }
}

/// The bytes of a block.
fn truth(range: &BlockRange) -> Vec<u8> {
    let (meta, space) = torrent();
    let place = meta.geometry().block_bytes(range);
    let at = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX);
    let bytes = space.get(at(place.start)..at(place.end));
    bytes.map(<[u8]>::to_vec).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::tests::hammer;
    use super::*;

    /// Peers that say what they have, unchoke and answer.
    fn corpus() -> Vec<Vec<u8>> {
        let honest = |mode: u8| {
            let mut orders = vec![mode];
            for conn in 0..4 {
                // Have all, unchoke.
                orders.extend([192 + conn, 14, 192 + conn, 1]);
            }
            for _ in 0..6 {
                for conn in 0..4 {
                    orders.extend([64 + conn, 3]);
                }
                orders.extend([96, 0, 128, 20]);
            }
            orders.extend([224, 0, 160, 0, 192, 2, 0, 5, 0, 0, 0, 1, 15]);
            orders
        };
        (0..16).map(honest).collect()
    }

    #[test]
    fn any_orders_hold_every_promise() {
        hammer(&corpus(), 21, 2000, |data| download(Instant::now(), data));
    }

    #[test]
    fn honest_answers_bring_every_piece() {
        let mut table = Table::new(Instant::now(), 0);
        for id in 0..CONNS {
            table.feed(id, &[0, 0, 0, 1, 14, 0, 0, 0, 1, 1]);
        }
        for _ in 0..50 {
            (0..CONNS).for_each(|id| table.answer(id, 9, false));
            table.wait(Duration::from_secs(1));
        }
        assert!(table.download.is_complete());
    }
}
