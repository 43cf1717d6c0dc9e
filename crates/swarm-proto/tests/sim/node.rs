//! One simulated peer: a download, its sessions, and what it does to others.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use swarm_proto::bitfield::Bitfield;
use swarm_proto::download::{Action, Download};
use swarm_proto::geometry::BlockRange;
use swarm_proto::id::PeerId;
use swarm_proto::merkle;
use swarm_proto::metainfo::Metainfo;
use swarm_proto::session::{Command, ConnectionId, PeerSession};
use swarm_proto::verify::verify;

use super::torrent::Torrent;

/// What a node does to what it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Sends the truth.
    Honest,
    /// Flips a bit in one of so many blocks.
    LiesOneIn(u32),
    /// Flips one bit of each piece, and always the same one.
    LiesOncePerPiece,
    /// Takes requests and answers none.
    Mute,
    /// Knows no BEP 52 and counts padding: a request for a part of a block is an offence.
    Bep3,
}

impl Manner {
    pub(crate) fn is_liar(self) -> bool {
        matches!(self, Manner::LiesOneIn(_) | Manner::LiesOncePerPiece)
    }
}

/// One end of a connection.
pub(crate) struct Conn {
    pub(crate) session: PeerSession,
    /// Which end of its link it is.
    pub(crate) end: usize,
    /// When its time-out is due to be looked at.
    pub(crate) wake_at: Option<Instant>,
    /// Whether it stands in [`Node::ready`].
    pub(crate) ready: bool,
}

pub(crate) struct Node {
    pub(crate) download: Download,
    pub(crate) addr: SocketAddr,
    pub(crate) peer_id: PeerId,
    /// Bytes a second that it can send.
    pub(crate) uplink: f64,
    pub(crate) uplink_free_at: Instant,
    pub(crate) manner: Manner,
    sent_blocks: u32,
    pub(crate) torrent: Torrent,
    /// What it knows of the torrent; of a magnet link's, layers may be missing.
    meta: Option<Arc<Metainfo>>,
    pub(crate) conns: BTreeMap<ConnectionId, Conn>,
    /// Connections that something happened to.
    pub(crate) touched: Vec<ConnectionId>,
    /// Connections that may have something to send, in the order of their turns.
    pub(crate) ready: VecDeque<ConnectionId>,
    pub(crate) wake_at: Option<Instant>,
    pub(crate) online: bool,
    pub(crate) completed_at: Option<Instant>,
    pub(crate) banned: Vec<SocketAddr>,
    /// Why each of them was banned.
    pub(crate) reasons: Vec<String>,
    pub(crate) sent: u64,
    /// When it last gained a piece.
    pub(crate) gained_at: Instant,
    /// The peers that owe a block, and since when.
    pub(crate) asked: BTreeMap<BlockRange, (ConnectionId, Instant)>,
}

impl Node {
    pub(crate) fn new(
        download: Download,
        number: u32,
        addr: SocketAddr,
        uplink: f64,
        torrent: Torrent,
        now: Instant,
    ) -> Self {
        let meta = download.meta().cloned();
        Self {
            download,
            addr,
            peer_id: peer_id(number),
            uplink,
            uplink_free_at: now,
            manner: Manner::Honest,
            sent_blocks: 0,
            torrent,
            meta,
            conns: BTreeMap::new(),
            touched: Vec::new(),
            ready: VecDeque::new(),
            wake_at: None,
            online: true,
            completed_at: None,
            banned: Vec::new(),
            reasons: Vec::new(),
            sent: 0,
            gained_at: now,
            asked: BTreeMap::new(),
        }
    }

    /// Lets the download do all that it wants; whether it did anything.
    pub(crate) fn act_all(&mut self, now: Instant) -> bool {
        let mut acted = false;
        while let Some(action) = self.download.poll_action() {
            self.act(now, action);
            acted = true;
        }
        acted
    }

    fn act(&mut self, now: Instant, action: Action) {
        match action {
            Action::Command(conn, command) => self.command(now, conn, command),
            Action::Verify(piece) => match verify(self.known(), piece) {
                Ok(verified) => {
                    let geometry = self.torrent.meta.geometry();
                    let start = geometry.piece_offset(verified.piece()) as usize;
                    let truth = self
                        .torrent
                        .content
                        .get(start..start + verified.bytes().len());
                    assert_eq!(truth, Some(&verified.bytes()[..]), "a lie was stored");
                    self.gained_at = now;
                    self.download.piece_verified(now, verified.piece());
                }
                Err(error) => self.download.piece_failed(now, &error),
            },
            Action::ReadBlock { .. } if self.manner == Manner::Mute => {}
            Action::ReadBlock { conn, range } => {
                if self.manner == Manner::Bep3 {
                    let geometry = self.torrent.meta.geometry();
                    let whole = geometry.nth_block(range.piece(), range.begin() / 16_384);
                    assert_eq!(whole, Some(range), "a part of a block");
                }
                let bytes = self.block(&range);
                self.command(now, conn, Command::SendBlock(range, bytes));
            }
            Action::HashLeaves(piece) => {
                let meta = &self.torrent.meta;
                let tree = meta.piece_tree(piece).expect("asked of v2 torrents only");
                let start = meta.geometry().piece_offset(piece) as usize;
                let data = self
                    .torrent
                    .content
                    .slice(start..start + tree.data_len as usize);
                self.download
                    .leaves_hashed(piece, Some(merkle::leaves(&data)));
            }
            Action::BlockVerified(block) => {
                let place = self.torrent.meta.geometry().block_bytes(&block.range());
                let truth = &self.torrent.content[place.start as usize..place.end as usize];
                assert_eq!(truth, &block.bytes()[..], "a lie was shown");
            }
            Action::Metadata(meta) => {
                assert_eq!(meta.raw_info(), self.torrent.meta.raw_info());
                let have = Bitfield::none_of(meta.geometry());
                let meta = Arc::new(*meta);
                self.meta = Some(Arc::clone(&meta));
                self.download.metadata(now, meta, have);
            }
            Action::Close(conn, reason) => self.command(now, conn, Command::Close(reason)),
            Action::Ban { addr, reason, .. } => {
                self.banned.push(addr);
                self.reasons.push(reason);
            }
            Action::Completed => {
                self.completed_at.get_or_insert(now);
            }
            // What a simulated network has no use for.
            _ => {}
        }
    }

    fn known(&self) -> &Metainfo {
        let meta = self.meta.as_ref();
        meta.expect("pieces come after the metadata")
    }

    /// What it sends when asked for the block.
    fn block(&mut self, range: &BlockRange) -> Bytes {
        let geometry = self.torrent.meta.geometry();
        let place = geometry.block_bytes(range);
        let truth = self
            .torrent
            .content
            .slice(place.start as usize..place.end as usize);
        self.sent_blocks += 1;
        let lies = match self.manner {
            Manner::LiesOneIn(count) => self.sent_blocks.is_multiple_of(count),
            Manner::LiesOncePerPiece => {
                let piece = range.piece();
                let blocks = geometry.block_count(piece);
                let chosen = piece.get().wrapping_mul(2_654_435_761) ^ u32::from(self.addr.port());
                let data = self.torrent.meta.content(&geometry.piece_range(piece));
                let blocks = blocks.min(u32::try_from(data.div_ceil(16_384)).unwrap_or(1));
                range.begin() / 16_384 == chosen % blocks.max(1)
            }
            Manner::Honest | Manner::Mute | Manner::Bep3 => false,
        };
        if !lies {
            return truth;
        }
        let mut lie = BytesMut::from(&truth[..]);
        lie[0] ^= 1;
        lie.freeze()
    }

    fn command(&mut self, now: Instant, conn: ConnectionId, command: Command) {
        if let Command::Request(range) = &command {
            self.asked.insert(*range, (conn, now));
        }
        if let Some(end) = self.conns.get_mut(&conn) {
            end.session.handle_command(now, command);
            self.touched.push(conn);
        }
    }
}

/// What the node of that number calls itself.
pub(crate) fn peer_id(number: u32) -> PeerId {
    let mut peer_id = *b"-SW0000-............";
    peer_id[16..].copy_from_slice(&number.to_be_bytes());
    PeerId::new(peer_id)
}
