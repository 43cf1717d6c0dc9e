//! One torrent and the sessions of its peers: what to ask of whom, whom to serve, whom to believe.
//!
//! Pure: events and time go in, [`Action`]s come out. The driver owns the sessions, the store and
//! the hashing; it hands each session's events to [`Download::handle_event`] and, after every call,
//! drains [`Download::poll_action`].
//!
//! ```text
//! peer_joined ─▶ handle_event (any number) ─▶ peer_left
//!                      │
//!   Block ─▶ BlockAssembler ─▶ Action::Verify ─▶ piece_verified ─▶ Have to all
//!                                           └──▶ piece_failed ──▶ Ban, and fetch the false blocks
//!                                                                 again, or the piece of one peer
//! ```

mod ahead;
mod allowed;
mod api;
mod assemble;
mod bans;
mod budget;
mod capacity;
mod choke;
mod claims;
mod events;
mod fetching;
mod hash_server;
mod hashes;
mod host;
mod leaf_fetch;
mod metadata;
mod outcome;
mod peers;
mod pex;
mod picker;
mod priority;
mod proofs;
mod punch;
mod requests;
mod room;
mod slots;
mod suggest;
mod super_seed;
mod suspects;
mod takers;
mod upload_only;
mod view;
mod webseed;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::SeedableRng;
use rand::rngs::SmallRng;

pub use api::{Action, DownloadConfig, DownloadStats, PeerInfo, PeerStats, Want};
pub use budget::{MemberId, Need, PieceBudget, Room};
pub use host::host;
pub use pex::PexExchange;
pub use priority::{Prefix, Standing, canonical_priority, who_yields};
pub use super_seed::{NoSuchSuperSeed, SuperSeed};
pub use webseed::{
    WebFailure, WebFetch, WebHead, WebRange, WebRequestId, WebSeedState, WebSeedStats, judge,
};

use crate::bitfield::Bitfield;
use crate::geometry::{BLOCK_LEN, Geometry, PieceIndex};
use crate::id::{InfoHashV1, InfoHashV2, PeerId};
use crate::limits;
use crate::metainfo::Metainfo;
use crate::session::{CloseReason, Command, ConnectionId};
use assemble::{BlockAssembler, Senders};
use bans::BanList;
use capacity::Capacity;
use hash_server::HashServer;
use hashes::LayerFetch;
use metadata::MetadataFetch;
use peers::{Departed, Identity, Peer, Rate};
use picker::PiecePicker;
use proofs::Proofs;
use punch::Punches;
use suggest::Handout;
use suspects::Suspects;
use takers::Gone;

/// How often rates, interest and stalled requests are looked at.
const TICK: Duration = Duration::from_millis(500);

/// What a download begins with.
#[derive(Debug, Clone)]
pub enum Source {
    /// The metainfo.
    Metainfo(Arc<Metainfo>),
    /// Info hashes of a magnet link, one at least: the metainfo is fetched from peers.
    Magnet {
        /// SHA-1 of the info dictionary.
        v1: Option<InfoHashV1>,
        /// SHA-256 of the info dictionary.
        v2: Option<InfoHashV2>,
    },
}

/// One torrent, many sessions.
#[derive(Debug)]
pub struct Download {
    config: DownloadConfig,
    rng: SmallRng,
    actions: VecDeque<Action>,
    torrent: Option<Torrent>,
    fetch: Option<Fetch>,
    /// Connections, in an order that is the same in each run with the same seed.
    peers: BTreeMap<ConnectionId, Peer>,
    departed: Departed,
    bans: BanList,
    gone: Gone,
    capacity: Capacity,
    punches: Punches,
    have: Bitfield,
    /// What is to be fetched, had or not.
    wanted: Bitfield,
    /// Wanted or awaited by a reader, and not had.
    missing: Bitfield,
    want: Want,
    deadlines: BTreeMap<PieceIndex, Deadline>,
    picker: PiecePicker,
    assembler: BlockAssembler,
    /// Whole pieces that wait to be verified.
    verifying: HashMap<PieceIndex, (Bytes, Senders)>,
    verifying_bytes: u64,
    room: room::Allowed,
    ahead: ahead::Total,
    suspects: Suspects,
    proofs: Proofs,
    /// What peers were last told of whether we ask for anything.
    said_upload_only: bool,
    /// When a peer that had everything left.
    seed_left_at: Option<Instant>,
    /// What we suggest to leeches, once we have everything.
    handout: Option<Handout>,
    /// When a block last came from a peer that suggests nothing.
    crowd_at: Option<Instant>,
    /// Counts what may give an idle peer something to do.
    changes: u64,
    ticked_at: Option<Instant>,
    rechoke_at: Option<Instant>,
    completed: bool,
    totals: Totals,
    web: webseed::WebSeeds,
}

/// When a reader needs a piece, and the block that it needs first. The most urgent is the least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Deadline {
    at: Instant,
    first: usize,
}

/// The torrent, once it is known.
#[derive(Debug)]
struct Torrent {
    meta: Arc<Metainfo>,
    hashes: HashServer,
}

/// The way there from a magnet link.
#[derive(Debug)]
enum Fetch {
    Metadata(MetadataFetch),
    Layers(LayerFetch),
    /// Handed to the driver, which will call [`Download::metadata`].
    HandedOver,
}

#[derive(Debug, Default)]
struct Totals {
    downloaded: u64,
    uploaded: u64,
    wasted: u64,
    banned: usize,
    down: Rate,
    up: Rate,
}

impl Download {
    /// A download that has `have` already; for a magnet link that is given later, with
    /// [`metadata`](Self::metadata). `seed` makes its choices repeatable.
    pub fn new(source: Source, have: Bitfield, config: DownloadConfig, seed: u64) -> Self {
        let want = match config.seed_only {
            true => Want::None,
            false => Want::All,
        };
        let mut download = Self {
            config,
            rng: SmallRng::seed_from_u64(seed),
            actions: VecDeque::new(),
            torrent: None,
            fetch: None,
            peers: BTreeMap::new(),
            departed: Departed::default(),
            bans: BanList::default(),
            gone: Gone::default(),
            capacity: Capacity::default(),
            punches: Punches::default(),
            have: Bitfield::none(0),
            wanted: Bitfield::none(0),
            missing: Bitfield::none(0),
            want,
            deadlines: BTreeMap::new(),
            picker: PiecePicker::new(0),
            assembler: BlockAssembler::default(),
            verifying: HashMap::new(),
            verifying_bytes: 0,
            room: room::Allowed::default(),
            ahead: ahead::Total::default(),
            suspects: Suspects::default(),
            proofs: Proofs::default(),
            said_upload_only: false,
            seed_left_at: None,
            handout: None,
            crowd_at: None,
            changes: 0,
            ticked_at: None,
            rechoke_at: None,
            completed: false,
            totals: Totals::default(),
            web: webseed::WebSeeds::default(),
        };
        match source {
            Source::Metainfo(meta) => download.set_torrent(meta, have),
            Source::Magnet { v1, v2 } => {
                download.fetch = Some(Fetch::Metadata(MetadataFetch::new(v1, v2)));
            }
        }
        download
    }

    /// The metainfo that [`Action::Metadata`] gave is ready to be used, and `have` of it is there
    /// already.
    pub fn metadata(&mut self, now: Instant, meta: Arc<Metainfo>, have: Bitfield) {
        if self.torrent.is_some() {
            return;
        }
        self.set_torrent(meta, have);
        let conns: Vec<_> = self.peers.keys().copied().collect();
        for conn in conns {
            self.introduce(now, conn);
        }
        self.fill_all(now);
    }

    fn set_torrent(&mut self, meta: Arc<Metainfo>, have: Bitfield) {
        let count = meta.geometry().piece_count();
        // A bitfield of another torrent is a mistake of the driver; to have nothing is safe.
        self.have = if have.len() == count {
            have
        } else {
            Bitfield::none(count)
        };
        self.wanted = Bitfield::none(count);
        self.missing = Bitfield::none(count);
        self.picker = PiecePicker::new(count);
        self.completed = self.have.is_all();
        self.torrent = Some(Torrent {
            hashes: HashServer::new(&meta),
            meta,
        });
        self.fetch = None;
        self.apply_want();
        self.said_upload_only = self.wants_nothing();
    }

    fn geometry(&self) -> Option<&Geometry> {
        self.torrent.as_ref().map(|torrent| torrent.meta.geometry())
    }

    /// What the torrent is, once that is known.
    pub fn meta(&self) -> Option<&Arc<Metainfo>> {
        self.torrent.as_ref().map(|torrent| &torrent.meta)
    }

    /// Pieces had.
    pub fn have(&self) -> &Bitfield {
        &self.have
    }

    /// Whether every piece is had.
    pub fn is_complete(&self) -> bool {
        self.torrent.is_some() && self.have.is_all()
    }

    /// Whether all that is wanted is had.
    pub fn is_satisfied(&self) -> bool {
        self.torrent.is_some() && self.missing.is_none()
    }

    /// Whether such a peer was found to lie: don't call it, and close its connection.
    pub fn is_banned(&self, addr: SocketAddr, peer_id: Option<PeerId>) -> bool {
        self.bans.contains(addr, peer_id)
    }

    /// Figures to look at.
    pub fn stats(&self) -> DownloadStats {
        let peers = || self.peers.values().filter(|peer| peer.established);
        // Rates follow the time only while there is somebody.
        let rate = |rate: &Rate| match self.is_deserted() {
            true => 0.0,
            false => rate.per_sec(),
        };
        DownloadStats {
            peers: peers().count(),
            seeds: peers().filter(|peer| peer.is_seed()).count(),
            unchoked: peers().filter(|peer| !peer.we_choke).count(),
            have: self.have.count(),
            pieces: self.have.len(),
            downloaded: self.totals.downloaded,
            uploaded: self.totals.uploaded,
            wasted: self.totals.wasted,
            down_rate: rate(&self.totals.down),
            up_rate: rate(&self.totals.up),
            banned: self.totals.banned,
            web_seeds: self.web.usable(),
        }
    }

    /// Figures of one peer, once its handshake is through.
    pub fn peer_stats(&self, conn: ConnectionId) -> Option<PeerStats> {
        let peer = self.peers.get(&conn).filter(|peer| peer.established)?;
        Some(PeerStats {
            down_rate: peer.down.per_sec(),
            up_rate: peer.up.per_sec(),
            have: peer.pieces.as_ref().map_or(0, Bitfield::count),
            seed: peer.is_seed(),
            we_choke: peer.we_choke,
            chokes_us: peer.chokes_us,
            we_want: peer.we_want,
            wants: peer.wants,
            asked: peer.asked.len(),
            snubs: peer.snubs,
        })
    }

    /// What the driver is to do next.
    pub fn poll_action(&mut self) -> Option<Action> {
        if self.proofs.take_due() {
            self.want_leaves();
        }
        self.actions.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called, at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        // What is held is to be given up where others wait for its memory.
        match self.is_deserted() && self.held_of_room() == 0 {
            true => None,
            false => self.ticked_at.map(|at| at + TICK),
        }
    }

    /// Whether there is nobody to exchange anything with.
    fn is_deserted(&self) -> bool {
        let fetches = self.web.is_any_usable() && !self.missing.is_none();
        self.peers.is_empty() && !fetches
    }

    /// Changes what is to be fetched.
    pub fn set_want(&mut self, now: Instant, want: Want) {
        self.want = want;
        if self.torrent.is_some() {
            self.apply_want();
            self.update_interest();
            self.fill_all(now);
        }
    }

    fn apply_want(&mut self) {
        let Some(torrent) = &self.torrent else {
            return;
        };
        let geometry = torrent.meta.geometry().clone();
        let mut wanted = Bitfield::none_of(&geometry);
        match &self.want {
            Want::All => wanted = Bitfield::all(geometry.piece_count()),
            Want::Ranges(ranges) => {
                let pieces = ranges.iter().flat_map(|range| geometry.pieces_of(range));
                pieces.for_each(|piece| {
                    wanted.insert(piece);
                });
            }
            Want::None => {}
        }
        self.wanted = wanted;
        geometry.pieces().for_each(|piece| self.refresh(piece));
    }

    /// A reader waits for the piece: it is fetched before all others with a later deadline or
    /// none, wanted or not.
    pub fn set_deadline(&mut self, now: Instant, piece: PieceIndex, at: Instant) {
        self.set_deadline_from(now, piece, at, 0);
    }

    /// As [`set_deadline`](Self::set_deadline), for a reader that goes on from the byte `begin` of
    /// the piece: peers are asked for the block there first, and for those before it last.
    pub fn set_deadline_from(&mut self, now: Instant, piece: PieceIndex, at: Instant, begin: u32) {
        let room = self.deadlines.len() < limits::DEADLINES_MAX;
        if self.have.contains(piece) || !(room || self.deadlines.contains_key(&piece)) {
            return;
        }
        // A reader that moves on only changes the order, which the next request obeys.
        let first = (begin / BLOCK_LEN) as usize;
        let deadline = Deadline { at, first };
        if self.deadlines.insert(piece, deadline).is_some() {
            return;
        }
        self.refresh(piece);
        self.piece_started(piece);
        self.update_interest();
        self.make_room_for(piece);
        self.fill_all(now);
    }

    /// Nobody waits for the piece any more.
    pub fn clear_deadline(&mut self, piece: PieceIndex) {
        if self.deadlines.remove(&piece).is_some() {
            self.refresh(piece);
        }
    }

    /// Brings `missing` and the picker in line with what is wanted of the piece.
    fn refresh(&mut self, piece: PieceIndex) {
        let wanted = self.wanted.contains(piece) || self.deadlines.contains_key(&piece);
        let missing = wanted && !self.have.contains(piece);
        match missing {
            true => self.missing.insert(piece),
            false => self.missing.remove(piece),
        };
        let under_way = self.assembler.contains(piece)
            || self.verifying.contains_key(&piece)
            || self.proofs.rescues(piece);
        self.picker.set_startable(piece, missing && !under_way);
    }

    fn command(&mut self, conn: ConnectionId, command: Command) {
        self.actions.push_back(Action::Command(conn, command));
    }

    fn close(&mut self, conn: ConnectionId, reason: CloseReason) {
        self.actions.push_back(Action::Close(conn, reason));
    }

    fn identity(&self, conn: ConnectionId) -> Option<Identity> {
        match self.peers.get(&conn) {
            Some(peer) => Some(Identity {
                addr: peer.info.addr,
                peer_id: peer.peer_id,
            }),
            None => self.departed.get(conn),
        }
    }
}

#[cfg(test)]
mod tests;
