//! What is known of each peer.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::ahead::Depth;
use super::api::{DownloadConfig, PeerInfo};
use super::suggest::Promised;
use super::super_seed::Shown;
use super::takers::Taking;
use crate::bitfield::Bitfield;
use crate::geometry::{BlockRange, PieceIndex};
use crate::id::{PeerId, SwarmId};
use crate::limits;
use crate::session::ConnectionId;

/// Bytes a second, over the last few seconds.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rate {
    since_tick: u64,
    latest: f64,
    per_sec: f64,
}

impl Rate {
    pub(super) fn add(&mut self, bytes: u32) {
        self.since_tick += u64::from(bytes);
    }

    /// Time went by; gives the bytes that were added in it.
    pub(super) fn tick(&mut self, elapsed: Duration) -> u64 {
        let secs = elapsed.as_secs_f64();
        let came = self.since_tick;
        if secs > 0.0 {
            // Half of what was known is forgotten in about a second.
            let weight = (secs / 1.5).min(1.0);
            let now = self.since_tick as f64 / secs;
            self.per_sec += (now - self.per_sec) * weight;
            self.latest = now;
            self.since_tick = 0;
        }
        came
    }

    pub(super) const fn per_sec(&self) -> f64 {
        self.per_sec
    }

    /// The same, without the delay with which an average follows a rise.
    pub(super) const fn per_sec_at_best(&self) -> f64 {
        self.per_sec.max(self.latest)
    }
}

/// A peer that suggests is taken to go on so long after the last time, if it never paused longer.
const GUIDED_MIN: Duration = Duration::from_secs(4);
const GUIDED_MAX: Duration = Duration::from_secs(8);
/// As long as others send something, it may be that those have more to pass on: then so long.
const GUIDED_IN_CROWD: Duration = Duration::from_secs(15);

/// One connected peer.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) info: PeerInfo,
    pub(super) peer_id: Option<PeerId>,
    pub(super) joined_at: Instant,
    /// The handshake is through.
    pub(super) established: bool,
    /// The swarm id that both sides agreed on; that of v2 means that it answers hash requests.
    pub(super) swarm_id: Option<SwarmId>,
    /// It says that it knows v2 torrents (BEP 52), whatever the id that was agreed on.
    pub(super) knows_v2: bool,
    /// It says that it asks for nothing (BEP 21).
    pub(super) upload_only: bool,
    /// Bytes of the info dictionary it serves.
    pub(super) metadata_size: Option<u32>,
    /// What it has; `None` while it said nothing or the torrent's size is unknown.
    pub(super) pieces: Option<Bitfield>,
    /// Each of its pieces counts in the picker; those of a seed do not.
    pub(super) counted: bool,
    /// It lost a piece that it had.
    pub(super) lost_some: bool,
    /// It refuses our requests.
    pub(super) chokes_us: bool,
    pub(super) we_want: bool,
    pub(super) wants: bool,
    pub(super) we_choke: bool,
    /// Since when it has been choked, or unchoked.
    pub(super) choke_since: Instant,
    /// Bytes that it asked for and that were handed out to be sent.
    pub(super) sent: u64,
    /// It said to have got a piece since it said what it has.
    pub(super) tells: bool,
    /// What its address was sent, beside what it says to have.
    pub(super) taking: Taking,
    /// A slot that is its own until then, whoever waits.
    pub(super) turn_until: Option<Instant>,
    /// It was told what we have, or begins to see it.
    pub(super) told: bool,
    /// What it sees of us, if it is shown our pieces one by one.
    pub(super) shown: Option<Shown>,
    /// What we suggested to it.
    pub(super) promised: Promised,
    /// Whether what it has is in the hand-out, if there is one. Only seeds are left out.
    pub(super) listed: bool,
    /// What it suggested to us and we don't have, latest last.
    pub(super) suggestions: VecDeque<PieceIndex>,
    /// When it last suggested something, or was asked for what it suggested; and the longest time
    /// between.
    guided_at: Option<Instant>,
    guided_every: Duration,
    /// Pieces that it may be asked for though it chokes us (BEP 6).
    pub(super) allowed: Vec<PieceIndex>,
    /// What it was asked for and owes, and since when.
    pub(super) asked: BTreeMap<BlockRange, Instant>,
    depth: Depth,
    /// When a block last came.
    came_at: Option<Instant>,
    /// How long its session was told that a block may take.
    pub(super) patience: Duration,
    /// How many it says to queue (`reqq`, BEP 10): what is beyond it may drop.
    pub(super) queues: Option<u32>,
    /// A request timed out, and nothing came since.
    pub(super) snubs: bool,
    pub(super) down: Rate,
    pub(super) up: Rate,
    /// Nothing could be asked of it, when [`Download`](super::Download)'s counter of changes
    /// stood there.
    pub(super) idle_at: Option<u64>,
}

impl Peer {
    pub(super) fn new(info: PeerInfo, now: Instant, config: &DownloadConfig) -> Self {
        Self {
            info,
            peer_id: None,
            joined_at: now,
            established: false,
            swarm_id: None,
            knows_v2: false,
            upload_only: false,
            metadata_size: None,
            pieces: None,
            counted: false,
            lost_some: false,
            chokes_us: true,
            we_want: false,
            wants: false,
            we_choke: true,
            choke_since: now,
            sent: 0,
            tells: false,
            taking: Taking::Fairly,
            turn_until: None,
            told: false,
            shown: None,
            promised: Promised::default(),
            listed: true,
            suggestions: VecDeque::new(),
            guided_at: None,
            guided_every: Duration::ZERO,
            allowed: Vec::new(),
            asked: BTreeMap::new(),
            depth: Depth::new(config),
            came_at: None,
            patience: Duration::ZERO,
            queues: None,
            snubs: false,
            down: Rate::default(),
            up: Rate::default(),
            idle_at: None,
        }
    }

    pub(super) fn is_seed(&self) -> bool {
        self.pieces.as_ref().is_some_and(Bitfield::is_all)
    }

    pub(super) fn has(&self, piece: u32) -> bool {
        self.pieces.as_ref().is_some_and(|pieces| pieces.bit(piece))
    }

    /// It suggests something, or is asked for what it suggested.
    pub(super) fn guided(&mut self, now: Instant) {
        if let Some(before) = self.guided_at.replace(now) {
            self.guided_every = self.guided_every.max(now.saturating_duration_since(before));
        }
    }

    /// Whether the slot that it has was given to it by turns, and is its own yet.
    pub(super) fn has_turn(&self, now: Instant) -> bool {
        self.turn_until.is_some_and(|until| now < until)
    }

    /// Whether it has something for us, and may be asked for it.
    pub(super) fn serves_us(&self) -> bool {
        let answers = !self.chokes_us || !self.allowed.is_empty();
        self.established && self.we_want && answers
    }

    /// How many blocks it is asked for at a time.
    pub(super) fn depth(&self) -> usize {
        self.depth.blocks(self.queues)
    }

    /// Whether it suggested something lately.
    pub(super) fn guided_lately(&self, now: Instant) -> bool {
        self.guided_at.is_some_and(|at| now < at + GUIDED_IN_CROWD)
    }

    /// Whether it is asked for nothing but what it suggests, if nobody else sends anything.
    pub(super) fn guides(&self, now: Instant) -> bool {
        let patience = (self.guided_every * 2).clamp(GUIDED_MIN, GUIDED_MAX);
        self.guided_at.is_some_and(|at| now < at + patience)
    }

    /// What it owes of the piece; it is no more waited for.
    pub(super) fn take_asked_of(&mut self, piece: PieceIndex) -> Vec<BlockRange> {
        let of_piece = |range: &&BlockRange| range.piece() == piece;
        let asked: Vec<_> = self.asked.keys().filter(of_piece).copied().collect();
        self.asked.retain(|range, _| range.piece() != piece);
        asked
    }

    /// A block came, which was asked for then, unless it was not waited for any more.
    pub(super) fn block_came(
        &mut self,
        now: Instant,
        len: u32,
        asked_at: Option<Instant>,
        config: &DownloadConfig,
    ) {
        self.down.add(len);
        self.came_at = Some(now);
        if std::mem::take(&mut self.snubs) {
            self.depth.woke(config);
        }
        if let Some(asked_at) = asked_at {
            let waited = now.saturating_duration_since(asked_at);
            self.depth.block_came(waited, &self.down, config);
        }
    }

    /// Whether a block ever came from it.
    pub(super) const fn has_sent(&self) -> bool {
        self.came_at.is_some()
    }

    /// Whether it owes something and sent nothing for so long.
    pub(super) fn is_silent(&self, now: Instant, patience: Duration) -> bool {
        let owes_since = self.asked.values().min().copied();
        owes_since.is_some_and(|since| Some(since).max(self.came_at) <= now.checked_sub(patience))
    }

    /// Requests went unanswered.
    pub(super) fn timed_out(&mut self) {
        self.snubs = true;
        self.depth.timed_out();
    }

    pub(super) fn tick(&mut self, elapsed: Duration, config: &DownloadConfig) {
        let came = self.down.tick(elapsed);
        self.up.tick(elapsed);
        self.depth
            .tick((came, elapsed), &self.down, self.snubs, config);
    }
}

/// Who a connection led to; outlives the connection, since a lie may show later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) addr: SocketAddr,
    pub(super) peer_id: Option<PeerId>,
}

/// Who connections that are gone led to, the latest of them.
#[derive(Debug, Default)]
pub(super) struct Departed {
    known: HashMap<ConnectionId, Identity>,
    order: VecDeque<ConnectionId>,
}

impl Departed {
    pub(super) fn insert(&mut self, conn: ConnectionId, identity: Identity) {
        if self.known.insert(conn, identity).is_none() {
            self.order.push_back(conn);
        }
        while self.order.len() > limits::DEPARTED_PEERS_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.known.remove(&oldest);
            }
        }
    }

    pub(super) fn get(&self, conn: ConnectionId) -> Option<Identity> {
        self.known.get(&conn).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn departed_peers_are_bounded() {
        let mut departed = Departed::default();
        for n in 0..20_000_u32 {
            let identity = Identity {
                addr: (n.to_be_bytes(), 1).into(),
                peer_id: None,
            };
            departed.insert(ConnectionId(n.into()), identity);
        }
        assert_eq!(departed.known.len(), limits::DEPARTED_PEERS_MAX);
        assert!(departed.get(ConnectionId(19_999)).is_some());
    }
}
