//! Distinct pieces for each leech of a seed (BEP 6, suggest).
//!
//! Leeches that begin together pick alike: what another is about to get shows only once it has it,
//! and the seed sends the same piece many times. So a seed with several leeches suggests to each
//! pieces that no other has or was promised, and leeches of ours ask a seed that suggests for
//! nothing else: what one of them has they get from it. To others it shows the same pieces one by
//! one (`super_seed`).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::seq::SliceRandom;

use super::Download;
use super::peers::Peer;
use crate::geometry::{BlockRange, Geometry, PieceIndex};
use crate::limits;
use crate::session::{Command, ConnectionId};

/// What stands promised to all leeches together and is not yet on its way: at least so many bytes,
/// or so many seconds of what we send. Less, and the uplink runs dry; more, and pieces come to many
/// leeches slowly instead of to one after the other, so that nobody has anything to pass on.
const AHEAD_BYTES: f64 = 768.0 * 1024.0;
const AHEAD_SECS: f64 = 1.0;
/// Pieces looked at for the next suggestion.
const LOOKED_AT_MAX: usize = 4096;
/// A leech waits so long for its first suggestion, then it is served without.
const UNCHOKE_WITHIN: Duration = Duration::from_secs(1);
/// However much a leech has to pass on, it gets another piece after so long.
const GUIDE_EVERY: Duration = Duration::from_secs(8);
/// A peer that leaves a suggestion unheeded for so long gets no more of them.
const HEED_WITHIN: Duration = Duration::from_secs(30);

/// Every piece in an order of our own, and who has it or was promised it, seeds left out.
#[derive(Debug)]
pub(super) struct Handout {
    order: Vec<PieceIndex>,
    /// Where in `order` the search begins.
    next: usize,
    /// By piece.
    copies: Vec<u32>,
    /// Pieces without copies.
    unseen: usize,
    /// Who has the only copy.
    sole: BTreeMap<PieceIndex, ConnectionId>,
    /// Bytes of promised pieces that are not there yet.
    ahead: u64,
}

/// What one leech was suggested.
#[derive(Debug, Default)]
pub(super) struct Promised {
    /// What it was suggested or asked for and doesn't have yet.
    pieces: BTreeMap<PieceIndex, Promise>,
    /// Pieces of which it has the only copy.
    unshared: usize,
    /// Pieces suggested to it ever.
    given: usize,
    pub(super) ignored: bool,
    /// When it was last suggested a piece.
    at: Option<Instant>,
    /// When it was suggested all it lacked.
    all_at: Option<Instant>,
}

/// A piece that somebody is to get.
#[derive(Debug, Clone, Copy)]
struct Promise {
    len: u32,
    /// Bytes asked for, some perhaps twice.
    asked: u64,
    /// When it was last asked for, or suggested.
    since: Instant,
}

impl Promised {
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Whether there are pieces, and nothing of them was asked for.
    pub(super) fn is_unasked(&self) -> bool {
        !self.is_empty() && self.pieces.values().all(|promise| promise.asked == 0)
    }
}

impl Promise {
    /// Nothing comes of it: it was not asked for, or over and over again.
    fn is_vain(&self, now: Instant) -> bool {
        self.since + HEED_WITHIN <= now || self.asked > 2 * u64::from(self.len)
    }
}

impl Handout {
    fn new(geometry: &Geometry, rng: &mut SmallRng) -> Self {
        let mut order: Vec<_> = geometry.pieces().collect();
        order.shuffle(rng);
        Self {
            next: 0,
            copies: vec![0; order.len()],
            unseen: order.len(),
            order,
            sole: BTreeMap::new(),
            ahead: 0,
        }
    }

    /// A piece that fits and of which there is no copy.
    fn next(&mut self, fits: impl Fn(PieceIndex) -> bool) -> Option<PieceIndex> {
        if self.unseen == 0 {
            return None;
        }
        let len = self.order.len();
        let piece_at = |at: usize| self.order.get(at % len).copied();
        let is_unseen = |piece: PieceIndex| self.copies.get(piece.get() as usize) == Some(&0);
        // What has copies at the head of the list is passed over for good, until the list begins
        // anew.
        while !is_unseen(piece_at(self.next)?) {
            self.next = (self.next + 1) % len;
        }
        (self.next..self.next + len.min(LOOKED_AT_MAX))
            .filter_map(piece_at)
            .find(|piece| is_unseen(*piece) && fits(*piece))
    }

    /// One more has the piece or is promised it. Gives the peer that is no longer the only one.
    fn gained(&mut self, piece: PieceIndex, conn: ConnectionId) -> Option<ConnectionId> {
        let copies = self.copies.get_mut(piece.get() as usize)?;
        *copies = copies.saturating_add(1);
        if *copies > 1 {
            return self.sole.remove(&piece);
        }
        self.unseen -= 1;
        self.sole.insert(piece, conn);
        None
    }

    /// The peer will have the piece.
    fn promise(
        &mut self,
        conn: ConnectionId,
        peer: &mut Peer,
        (piece, len): (PieceIndex, u32),
        now: Instant,
    ) {
        let is_first = self.copies.get(piece.get() as usize) == Some(&0);
        self.gained(piece, conn);
        self.ahead += u64::from(len);
        peer.promised.unshared += usize::from(is_first);
        peer.promised.given += usize::from(is_first);
        let (asked, since) = (0, now);
        let promise = Promise { len, asked, since };
        peer.promised.pieces.insert(piece, promise);
    }

    fn take_back(&mut self, promised: &Promised) {
        for (piece, promise) in &promised.pieces {
            self.ahead = self.ahead.saturating_sub(promise.len.into());
            self.lost(*piece);
        }
    }

    /// How many have each piece or were promised it.
    #[cfg(test)]
    pub(super) fn copies(&self) -> &[u32] {
        &self.copies
    }

    fn lost(&mut self, piece: PieceIndex) {
        if let Some(copies) = self.copies.get_mut(piece.get() as usize)
            && *copies > 0
        {
            *copies -= 1;
            if *copies == 0 {
                self.unseen += 1;
                self.sole.remove(&piece);
            }
        }
    }
}

impl Peer {
    /// The pieces that it has.
    fn had(&self, geometry: &Geometry) -> Vec<PieceIndex> {
        let had = self.pieces.iter().flat_map(|pieces| pieces.iter());
        had.filter_map(|index| geometry.piece(index)).collect()
    }
}

impl Download {
    /// Suggests pieces to the leeches that are served, if there are several.
    pub(super) fn suggest_more(&mut self, now: Instant) {
        if !self.is_complete() {
            return;
        }
        let leeches = self.peers.values().filter(|peer| peer.is_leech()).count();
        let is_shown = |peer: &Peer| peer.shown.is_some();
        match leeches {
            // The next crowd gets the whole list again.
            0 => return self.handout = None,
            1 if self.handout.is_none() && !self.peers.values().any(is_shown) => return,
            _ => self.open_handout(),
        }
        while self.has_room_ahead() && self.suggest_one(now) {}
        self.suggest_the_rest(now);
    }

    /// Whether what stands promised would leave the uplink idle soon.
    fn has_room_ahead(&self) -> bool {
        let (Some(torrent), Some(handout)) = (&self.torrent, &self.handout) else {
            return false;
        };
        let piece_len = u64::from(torrent.meta.geometry().piece_length());
        let ahead = AHEAD_BYTES.max(self.totals.up.per_sec_at_best() * AHEAD_SECS);
        handout.unseen > 0 && handout.ahead < (ahead as u64).max(2 * piece_len)
    }

    /// Whether a leech that wants to be served should wait until there is a piece to suggest to
    /// it. It would ask for what others are about to get.
    pub(super) fn should_await_suggestion(&self, now: Instant, peer: &Peer) -> bool {
        self.handout
            .as_ref()
            .is_some_and(|handout| handout.unseen > 0)
            && !peer.is_seed()
            && now < peer.choke_since + UNCHOKE_WITHIN
    }

    /// Suggests one piece, to the leech that has the least to pass on. If it waits for a slot, it
    /// gets that too.
    fn suggest_one(&mut self, now: Instant) -> bool {
        let free = self.free_slots();
        let (Some(torrent), Some(handout)) = (&self.torrent, &mut self.handout) else {
            return false;
        };
        let takes = |peer: &Peer| {
            peer.is_leech()
                && !peer.ponders()
                && (!peer.we_choke || free.are_for(peer))
                && !peer.promised.ignored
                && peer.promised.pieces.len() < limits::SUGGESTIONS_MAX
        };
        // Whoever is left without for long takes what it likes.
        let is_guided = |peer: &Peer| peer.promised.at.is_some_and(|at| now < at + GUIDE_EVERY);
        let least = |(_, peer): &(_, &Peer)| {
            let promised = &peer.promised;
            (is_guided(peer), promised.unshared, promised.given)
        };
        let leeches = self.peers.iter().filter(|(_, peer)| takes(peer));
        let Some(conn) = leeches.min_by_key(least).map(|(conn, _)| *conn) else {
            return false;
        };
        let Some(peer) = self.peers.get_mut(&conn) else {
            return false;
        };
        let Some(piece) = handout.next(|piece| !peer.has(piece.get())) else {
            return false;
        };
        let len = torrent.meta.geometry().piece_len(piece);
        handout.promise(conn, peer, (piece, len), now);
        peer.promised.at = Some(now);
        // In this order: whoever is unchoked asks at once.
        self.offer(now, conn, piece);
        self.set_choke(now, conn, false);
        true
    }

    /// Suggests the piece, or shows it to who doesn't see all.
    fn offer(&mut self, now: Instant, conn: ConnectionId, piece: PieceIndex) {
        let command = match self.peers.get_mut(&conn).map(|peer| &mut peer.shown) {
            Some(Some(shown)) => {
                shown.at = Some(now);
                if !shown.pieces.insert(piece) {
                    return;
                }
                Command::Have(piece)
            }
            _ => Command::Suggest(piece),
        };
        self.command(conn, command);
    }

    /// Shows a piece to who sees none and is not to have it soon, so that it asks for a slot.
    pub(super) fn tempt(&mut self, now: Instant, conn: ConnectionId) {
        let (Some(handout), Some(peer)) = (&mut self.handout, self.peers.get(&conn)) else {
            return;
        };
        if let Some(piece) = handout.next(|piece| !peer.has(piece.get())) {
            self.offer(now, conn, piece);
        }
    }

    /// Once the last piece that nobody had is nearly out, leeches may ask for whatever they lack.
    fn suggest_the_rest(&mut self, now: Instant) {
        let (Some(torrent), Some(handout)) = (&self.torrent, &mut self.handout) else {
            return;
        };
        let geometry = torrent.meta.geometry();
        if handout.unseen > 0 || handout.ahead > 2 * u64::from(geometry.piece_length()) {
            return;
        }
        let all_out = !self.picker.has_unseen();
        let (mut suggestions, mut shown) = (Vec::new(), Vec::new());
        for (conn, peer) in &mut self.peers {
            if peer.shown.is_some() {
                // Those would ask for what others are about to pass on.
                if all_out {
                    shown.push(*conn);
                }
                continue;
            }
            if !peer.is_leech() || peer.we_choke || peer.promised.all_at.is_some() {
                continue;
            }
            peer.promised.all_at = Some(now);
            let lacking = handout.order.iter().filter(|piece| {
                !peer.has(piece.get()) && !peer.promised.pieces.contains_key(piece)
            });
            let mut lacking: Vec<_> = lacking.take(limits::SUGGESTIONS_MAX).copied().collect();
            lacking.sort_by_key(|piece| handout.copies.get(piece.get() as usize));
            suggestions.extend(lacking.into_iter().map(|piece| (*conn, piece)));
        }
        for (conn, piece) in suggestions {
            self.command(conn, Command::Suggest(piece));
        }
        shown.into_iter().for_each(|conn| self.show_all(conn));
    }

    /// The peer asks for a block: it will have that piece, suggested or not.
    pub(super) fn suggested_is_asked(
        &mut self,
        now: Instant,
        conn: ConnectionId,
        range: BlockRange,
    ) {
        let (Some(torrent), Some(peer)) = (&self.torrent, self.peers.get_mut(&conn)) else {
            return;
        };
        let piece = range.piece();
        if let Some(promise) = peer.promised.pieces.get_mut(&piece) {
            promise.asked += u64::from(range.len());
            promise.since = now;
        } else if !peer.has(piece.get())
            && !peer.promised.ignored
            && peer.promised.pieces.len() < limits::SUGGESTIONS_MAX
        {
            let len = torrent.meta.geometry().piece_len(piece);
            match &mut self.handout {
                Some(handout) => handout.promise(conn, peer, (piece, len), now),
                None => {
                    let (asked, since) = (range.len().into(), now);
                    let promise = Promise { len, asked, since };
                    peer.promised.pieces.insert(piece, promise);
                }
            }
        }
    }

    /// The peer has one piece more.
    pub(super) fn suggested_is_had(&mut self, now: Instant, conn: ConnectionId, piece: PieceIndex) {
        let Some(peer) = self.peers.get_mut(&conn) else {
            return;
        };
        let promised = peer.promised.pieces.remove(&piece);
        let Some(handout) = &mut self.handout else {
            return;
        };
        match promised {
            Some(promise) => handout.ahead = handout.ahead.saturating_sub(promise.len.into()),
            None => {
                if let Some(first) = handout.gained(piece, conn)
                    && let Some(first) = self.peers.get_mut(&first)
                {
                    first.promised.unshared = first.promised.unshared.saturating_sub(1);
                }
            }
        }
        self.suggest_more(now);
    }

    /// The peer has one piece less.
    pub(super) fn suggested_is_gone(&mut self, conn: ConnectionId, piece: PieceIndex) {
        let (Some(handout), Some(peer)) = (&mut self.handout, self.peers.get_mut(&conn)) else {
            return;
        };
        if handout.sole.get(&piece) == Some(&conn) {
            peer.promised.unshared = peer.promised.unshared.saturating_sub(1);
        }
        handout.lost(piece);
    }

    /// What the peer has is in the hand-out from now on.
    pub(super) fn list(&mut self, conn: ConnectionId) {
        let (Some(handout), Some(torrent)) = (&mut self.handout, &self.torrent) else {
            return;
        };
        let Some(peer) = self.peers.get_mut(&conn) else {
            return;
        };
        peer.listed = true;
        let had = peer.had(torrent.meta.geometry());
        for piece in had {
            if let Some(first) = handout.gained(piece, conn)
                && let Some(first) = self.peers.get_mut(&first)
            {
                first.promised.unshared = first.promised.unshared.saturating_sub(1);
            }
        }
    }

    /// What the peer had is not in the hand-out any more.
    pub(super) fn unlist(&mut self, conn: ConnectionId) {
        let (Some(handout), Some(torrent)) = (&mut self.handout, &self.torrent) else {
            return;
        };
        if let Some(peer) = self.peers.get_mut(&conn)
            && std::mem::take(&mut peer.listed)
        {
            let had = peer.had(torrent.meta.geometry());
            had.into_iter().for_each(|piece| handout.lost(piece));
        }
    }

    /// What this peer had and was promised went with it, unless it got everything here: then it
    /// serves others.
    pub(super) fn suggested_is_lost(&mut self, peer: &Peer) {
        let (Some(handout), Some(torrent)) = (&mut self.handout, &self.torrent) else {
            return;
        };
        if peer.listed && (!peer.is_seed() || peer.lost_some) {
            let had = peer.had(torrent.meta.geometry());
            had.into_iter().for_each(|piece| handout.lost(piece));
        }
        handout.take_back(&peer.promised);
    }

    /// What a peer was to get is suggested to others: it is choked.
    pub(super) fn forget_promises(&mut self, conn: ConnectionId) {
        if let Some(peer) = self.peers.get_mut(&conn) {
            if let Some(handout) = &mut self.handout {
                handout.take_back(&peer.promised);
            }
            peer.promised.pieces.clear();
            peer.promised.all_at = None;
        }
    }

    /// Gives what a peer doesn't heed to others.
    pub(super) fn take_unheeded(&mut self, now: Instant) {
        for peer in self.peers.values_mut() {
            let mut promises = peer.promised.pieces.values();
            if promises.any(|promise| promise.is_vain(now)) {
                if let Some(handout) = &mut self.handout {
                    handout.take_back(&peer.promised);
                }
                peer.promised = Promised {
                    ignored: true,
                    ..Promised::default()
                };
            }
        }
    }

    fn open_handout(&mut self) {
        let (None, Some(torrent)) = (&self.handout, &self.torrent) else {
            return;
        };
        let geometry = torrent.meta.geometry();
        let mut handout = Handout::new(geometry, &mut self.rng);
        for (conn, peer) in &mut self.peers {
            peer.listed = !peer.is_seed();
            if !peer.listed {
                continue;
            }
            for piece in peer.had(geometry) {
                handout.gained(piece, *conn);
            }
            let promised = std::mem::take(&mut peer.promised);
            for (piece, promise) in promised.pieces {
                handout.promise(*conn, peer, (piece, promise.len), promise.since);
            }
        }
        self.handout = Some(handout);
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::geometry::Geometry;

    #[test]
    fn every_piece_is_handed_out_once_and_again_when_it_is_lost() {
        let geometry = Geometry::new(16_384, 100 * 16_384).unwrap();
        let piece = |index| geometry.piece(index).unwrap();
        let mut handout = Handout::new(&geometry, &mut SmallRng::seed_from_u64(1));
        let (a, b) = (ConnectionId(1), ConnectionId(2));
        assert_eq!(handout.next(|_| false), None);
        assert_eq!(handout.next(|found| found == piece(7)), Some(piece(7)));
        assert_eq!(handout.gained(piece(7), a), None);
        assert_eq!(handout.next(|found| found == piece(7)), None);
        assert_eq!(handout.gained(piece(8), a), None);
        assert_eq!(
            handout.gained(piece(8), b),
            Some(a),
            "no longer the only one"
        );
        let mut round = Vec::new();
        while let Some(next) = handout.next(|_| true) {
            handout.gained(next, b);
            round.push(next);
        }
        assert_eq!(round.len(), 98);
        assert_ne!(round[..10], geometry.pieces().take(10).collect::<Vec<_>>());
        handout.lost(piece(8));
        assert_eq!(handout.next(|_| true), None, "the other still has it");
        handout.lost(piece(7));
        assert_eq!(handout.next(|_| true), Some(piece(7)), "wherever it is");
        round.extend([piece(7), piece(8)]);
        round.sort_unstable();
        assert_eq!(round, geometry.pieces().collect::<Vec<_>>());
    }
}
