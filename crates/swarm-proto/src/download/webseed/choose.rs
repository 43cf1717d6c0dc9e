//! Which pieces are asked of a web seed, and when it steps back.
//!
//! Alone, or beside seeds only, a web seed is asked for whatever nobody began. In a crowd of
//! leeches it is spared, for what each of them took from it would leave the same uplink many times:
//!
//! - While a source (a seed, or a peer that only uploads) is in the swarm and the swarm moves, it
//!   is not asked at all.
//! - Without one, each leech asks it only for pieces that nobody in sight has, and of these only
//!   for its share: pieces are dealt out by a hash of piece and peer id, which all compute alike.
//!   Whose share is done waits a while before it takes what others leave lying.

use std::time::{Duration, Instant};

use rand::RngExt;

use super::super::Download;
use super::super::peers::Peer;
use super::plan::RANGE_LEN_MAX;
use crate::geometry::{BLOCK_LEN, BlockRange, ByteRange, PieceIndex};
use crate::id::PeerId;
use crate::session::ConnectionId;

/// Bytes dealt out together in a crowd, where pieces are smaller.
const SHARE: u64 = 256 * 1024;
/// How long a crowd with a source is given to get going, and to come back to its pace.
const CROWD_PATIENCE: Duration = Duration::from_secs(5);
/// How long a web seed is idle before others' shares are taken.
const THEFT_AFTER: Duration = Duration::from_secs(3);
/// Between looks for something to ask for, in a crowd.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Bytes asked for at once when a reader waits.
const URGENT_LEN: u64 = 1024 * 1024;

/// What else is in the swarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Mode {
    /// No other leech.
    #[default]
    Alone,
    /// Leeches, and nobody who has everything; or the swarm hardly moves.
    Share,
    /// The swarm serves.
    StepBack,
}

/// What is known of the crowd.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    mode: Mode,
    /// When the swarm last moved, or was given time to.
    moved_at: Option<Instant>,
}

impl Download {
    /// Sees who is there, and steps back from what is under way if others came.
    pub(super) fn look_at_crowd(&mut self, now: Instant) {
        let (mut leeches, mut sources, mut rate) = (0_usize, 0_usize, 0.0);
        for peer in self.peers.values().filter(|peer| peer.established) {
            match peer.wants_nothing() {
                true => sources += 1,
                false => leeches += 1,
            }
            rate += peer.down.per_sec();
        }
        let before = self.web.crowd.mode;
        if leeches == 0 {
            self.web.crowd.mode = Mode::Alone;
            self.web.crowd.moved_at = None;
            return;
        }
        if rate >= self.config.web_seed_floor {
            self.web.crowd.moved_at = Some(now);
        }
        let moved_at = *self.web.crowd.moved_at.get_or_insert(now);
        let mode = match sources > 0 && now < moved_at + CROWD_PATIENCE {
            true => Mode::StepBack,
            false => Mode::Share,
        };
        self.web.crowd.mode = mode;
        if mode != before && (before == Mode::Alone || mode == Mode::StepBack) {
            let conns: Vec<_> = self.web.seeds.keys().copied().collect();
            for conn in conns {
                self.cut_short(conn, mode);
            }
        }
    }

    /// Ends requests with the piece they are at; those of which nothing came end now if the swarm
    /// serves.
    fn cut_short(&mut self, conn: ConnectionId, mode: Mode) {
        let Some(geometry) = self.geometry().cloned() else {
            return;
        };
        let Some(seed) = self.web.seeds.get_mut(&conn) else {
            return;
        };
        seed.run_len = 0;
        let mut released: Vec<ByteRange> = seed.queue.drain(..).map(|part| part.bytes).collect();
        for request in seed.requests.values_mut() {
            let begun = request.at > request.part.bytes.start;
            let end = match geometry.piece_at(request.at) {
                Some(piece) if begun || mode != Mode::StepBack => geometry.piece_range(piece).end,
                _ => request.at,
            };
            if end < request.end {
                released.push(ByteRange::new(end, request.end));
                request.end = end;
            }
        }
        for range in released {
            self.web_release(conn, &range);
        }
    }

    /// The blocks of the next run, in order; none if nothing is to be asked of this web seed now.
    pub(super) fn choose_run(&mut self, now: Instant, conn: ConnectionId) -> Vec<BlockRange> {
        let room = self.pending_max().saturating_sub(self.held_bytes());
        let room = room.min(self.web_share());
        let looks = self.web.seeds.get(&conn).and_then(|seed| seed.look_at);
        if room == 0 || looks.is_some_and(|at| now < at) {
            return Vec::new();
        }
        let Some((first, len_max)) = self.first_of_run(now, conn) else {
            if self.web.crowd.mode != Mode::Alone
                && let Some(seed) = self.web.seeds.get_mut(&conn)
            {
                seed.look_at = Some(now + LOOK_EVERY);
            }
            return Vec::new();
        };
        if self.picker.is_startable(first) && !self.has_room_for(first) {
            return Vec::new();
        }
        let mut blocks = self.take_piece(now, first, conn);
        let Some(geometry) = self.geometry().cloned() else {
            return blocks;
        };
        let len_max = len_max.min(room);
        let mut len = u64::from(geometry.piece_len(first));
        let mut next = first.get().saturating_add(1);
        while let Some(piece) = geometry.piece(next) {
            len += u64::from(geometry.piece_len(piece));
            if len > len_max || !self.may_ask(piece, conn) || !self.has_room_for(piece) {
                break;
            }
            blocks.extend(self.take_piece(now, piece, conn));
            next += 1;
        }
        if let Some(seed) = self.web.seeds.get_mut(&conn) {
            seed.next = next;
            seed.look_at = None;
            seed.run_len = seed.run_len.max(geometry.piece_length().into());
        }
        blocks
    }

    /// Bytes that web seeds may be asked for: half of what may be under way where peers serve us
    /// too, since a run is begun long before its last bytes come.
    fn web_share(&self) -> u64 {
        let mut peers = self.peers.values();
        let is_alone = !peers.any(|peer| peer.established && !peer.chokes_us && peer.we_want);
        let asked = self.web.seeds.values().map(|seed| seed.asked.len() as u64);
        let asked = asked.sum::<u64>().saturating_mul(BLOCK_LEN.into());
        let most = match is_alone {
            true => self.pending_max(),
            false => self.pending_max() / 2,
        };
        most.saturating_sub(asked)
    }

    /// Where a run begins, and how many bytes it may have.
    fn first_of_run(&mut self, now: Instant, conn: ConnectionId) -> Option<(PieceIndex, u64)> {
        let run_len = self.web.seeds.get(&conn)?.run_len;
        let mut urgent: Vec<_> = self.deadlines.iter().map(|(p, at)| (*at, *p)).collect();
        urgent.sort_unstable();
        let urgent = urgent.into_iter().map(|(_, piece)| piece);
        if let Some(piece) = urgent
            .filter(|piece| self.serves(*piece, conn))
            .find(|piece| self.is_to_be_had(*piece, conn))
        {
            return Some((piece, URGENT_LEN.min(run_len)));
        }
        if self.web.crowd.mode == Mode::StepBack {
            return None;
        }
        let suspect = self.suspects.pieces().find(|piece| {
            self.serves(*piece, conn)
                && self.picker.is_startable(*piece)
                && self.may_start(*piece, conn)
        });
        if let Some(piece) = suspect {
            return Some((piece, 0));
        }
        let left =
            |piece: &PieceIndex| self.serves(*piece, conn) && self.is_left_lying(*piece, conn);
        if let Some(piece) = self.assembler.open().find(left) {
            return Some((piece, 0));
        }
        match self.web.crowd.mode {
            Mode::Alone => {
                let found = self.first_startable(self.web.seeds.get(&conn)?.next, conn);
                if let Some(piece) = found {
                    return Some((piece, run_len.min(RANGE_LEN_MAX)));
                }
                // Nothing to begin: help with what others began.
                let helps = |piece: &PieceIndex| {
                    self.serves(*piece, conn) && self.assembler.owner(*piece).is_none()
                };
                Some((self.assembler.open().find(helps)?, 0))
            }
            Mode::Share => {
                let from = self.web.seeds.get(&conn)?.next;
                if let Some(piece) = self.first_startable(from, conn) {
                    return Some((piece, SHARE));
                }
                let idle = self.web.seeds.get(&conn).is_some_and(|seed| {
                    seed.requests.is_empty() && seed.idle_since + THEFT_AFTER <= now
                });
                if !idle {
                    return None;
                }
                let from = self.rng.random();
                let fits = |piece| self.is_scarce(piece) && self.may_begin(piece, conn);
                Some((self.scan(from, fits)?, 0))
            }
            Mode::StepBack => None,
        }
    }

    /// The first piece at or behind `from`, around the end, that may be begun.
    fn first_startable(&self, from: u32, conn: ConnectionId) -> Option<PieceIndex> {
        self.scan(from, |piece| self.may_ask(piece, conn))
    }

    fn scan(&self, from: u32, fits: impl Fn(PieceIndex) -> bool) -> Option<PieceIndex> {
        if self.picker.startable() == 0 {
            return None;
        }
        let geometry = self.geometry()?;
        let count = geometry.piece_count();
        let from = from.checked_rem(count)?;
        (from..count)
            .chain(0..from)
            .filter_map(|index| geometry.piece(index))
            .find(|piece| fits(*piece))
    }

    /// Whether the piece may be part of a run now.
    fn may_ask(&self, piece: PieceIndex, conn: ConnectionId) -> bool {
        let fits = match self.web.crowd.mode {
            Mode::Alone => true,
            Mode::Share => self.is_ours(piece) && self.is_scarce(piece),
            Mode::StepBack => false,
        };
        fits && self.may_begin(piece, conn)
    }

    fn may_begin(&self, piece: PieceIndex, conn: ConnectionId) -> bool {
        self.picker.is_startable(piece)
            && !self.suspects.contains(piece)
            && self.serves(piece, conn)
    }

    /// Whether blocks of the piece can be asked for at all.
    fn is_to_be_had(&self, piece: PieceIndex, conn: ConnectionId) -> bool {
        if self.picker.is_startable(piece) {
            return self.may_start(piece, conn);
        }
        let owner = self.assembler.owner(piece);
        owner.is_none_or(|owner| owner == conn)
            && self
                .geometry()
                .is_some_and(|geometry| self.assembler.unasked(geometry, piece, 0).is_some())
    }

    /// Whether whoever began the piece goes on with it no more.
    fn is_left_lying(&self, piece: PieceIndex, conn: ConnectionId) -> bool {
        if self
            .assembler
            .owner(piece)
            .is_some_and(|owner| owner != conn)
        {
            return false;
        }
        let Some(starter) = self.assembler.starter(piece) else {
            return true;
        };
        match self.peers.get(&starter) {
            Some(peer) => peer.snubs || peer.chokes_us,
            None => {
                let other = self.web.seeds.get(&starter);
                starter == conn || other.is_none_or(|seed| seed.requests.is_empty())
            }
        }
    }

    /// Whether nobody in the swarm could send the piece; while the swarm hardly moves, none could.
    fn is_scarce(&self, piece: PieceIndex) -> bool {
        let mut peers = self.peers.values();
        let has_source = || self.peers.values().any(Peer::wants_nothing);
        !peers.any(|peer| peer.has(piece.get())) || has_source()
    }

    /// Whether the piece is in our share: of all leeches in sight, we have the greatest hash.
    fn is_ours(&self, piece: PieceIndex) -> bool {
        let Some(our_id) = self.config.peer_id else {
            return true;
        };
        let len = self.geometry().map_or(1, |g| g.piece_length()).max(1);
        let share = u64::from(piece.get()) / (SHARE / u64::from(len)).max(1);
        let ours = weight(share, &our_id);
        let leeches = self.peers.values().filter(|peer| !peer.wants_nothing());
        leeches
            .filter_map(|peer| peer.peer_id)
            .all(|id| weight(share, &id) <= ours)
    }

    /// Whether the web seed has all files of the piece, as far as is known.
    fn serves(&self, piece: PieceIndex, conn: ConnectionId) -> bool {
        let (Some(seed), Some(torrent)) = (self.web.seeds.get(&conn), &self.torrent) else {
            return false;
        };
        if seed.missing_files.is_empty() {
            return true;
        }
        let range = torrent.meta.geometry().piece_range(piece);
        let mut spans = torrent.meta.spans(&range);
        !spans.any(|span| seed.missing_files.contains(&span.file))
    }

    /// Takes all blocks of the piece that nobody was asked for.
    fn take_piece(
        &mut self,
        now: Instant,
        piece: PieceIndex,
        conn: ConnectionId,
    ) -> Vec<BlockRange> {
        if self.picker.is_startable(piece) {
            self.start(piece, conn);
        }
        let mut blocks = Vec::new();
        let Some(torrent) = &self.torrent else {
            return blocks;
        };
        let geometry = torrent.meta.geometry();
        while let Some(range) = self.assembler.unasked(geometry, piece, 0) {
            self.assembler.asked(range, conn, now);
            blocks.push(range);
        }
        blocks
    }
}

/// A hash of share and peer id, as every peer of ours computes it (0004).
fn weight(share: u64, id: &PeerId) -> u64 {
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    let hash = id.as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, fold);
    // The finaliser of SplitMix64: each bit of the input turns half of the output.
    let mut mixed = hash ^ share.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
