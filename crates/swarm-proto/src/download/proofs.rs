//! Proofs of single blocks: whose leaf hashes are fetched, and what they settle.
//!
//! Leaves cost a request for each piece here, and hashing at the peer, so they are fetched only
//! where they are worth it: for the pieces that a reader waits for next, for a piece that turned
//! out false, and for every piece under way while liars are about.
//!
//! ```text
//! piece false ─▶ held (rescue) ─▶ leaves come ─▶ true blocks kept, senders of the others banned
//!                     └─ nobody serves leaves ─▶ suspects: fetched again from one peer alone
//! leaves known ─▶ each block checked as it comes ─▶ BlockVerified, or a ban at once
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::assemble::Senders;
use super::leaf_fetch::{Arrived, LeafFetch};
use super::view::content_len;
use super::{Action, Download};
use crate::geometry::{BLOCK_LEN, BlockRange, PieceIndex};
use crate::limits;
use crate::merkle::Hash;
use crate::metainfo::Kind;
use crate::session::{Block, CloseReason, ConnectionId, Misbehaviour};
use crate::verify::{PieceLeaves, VerifiedBlock, VerifyFault, verify_block};
use crate::wire::HashRequest;

/// Pieces that a reader waits for whose leaves are fetched.
const AHEAD: usize = 4;
/// How long after a lie leaves are fetched for every piece.
const ALARM: Duration = Duration::from_secs(60);
/// How long a false piece waits for its leaves.
const RESCUE_PATIENCE: Duration = Duration::from_secs(4);

/// A false piece that waits for its leaves.
#[derive(Debug)]
struct Rescue {
    bytes: Bytes,
    senders: Senders,
    hashes: Vec<Hash>,
    until: Instant,
}

/// Leaves known and wanted.
#[derive(Debug, Default)]
pub(super) struct Proofs {
    fetch: LeafFetch,
    /// Of pieces under way, being verified or held.
    known: BTreeMap<PieceIndex, PieceLeaves>,
    rescues: BTreeMap<PieceIndex, Rescue>,
    alarm_until: Option<Instant>,
    /// What is wanted may have changed.
    due: bool,
}

impl Proofs {
    /// Whether to look at what is wanted, now that the caller is done.
    pub(super) fn take_due(&mut self) -> bool {
        std::mem::take(&mut self.due)
    }

    /// Whether each block of the piece is checked as it comes.
    pub(super) fn knows(&self, piece: PieceIndex) -> bool {
        self.known.contains_key(&piece)
    }

    /// Whether a false try of the piece waits for its leaves.
    pub(super) fn rescues(&self, piece: PieceIndex) -> bool {
        self.rescues.contains_key(&piece)
    }

    /// Bytes held until leaves come.
    pub(super) fn held(&self) -> usize {
        self.rescues.values().map(|rescue| rescue.bytes.len()).sum()
    }

    /// The piece is had, or given up.
    pub(super) fn forget(&mut self, piece: PieceIndex) {
        self.known.remove(&piece);
        self.fetch.end(piece);
        self.rescues.remove(&piece);
    }

    /// The peer is gone.
    pub(super) fn left(&mut self, conn: ConnectionId) {
        self.fetch.left(conn);
    }
}

impl Download {
    /// Somebody lied: from now on for a while every block is to be checked as it comes.
    pub(super) fn raise_alarm(&mut self, now: Instant) {
        self.proofs.alarm_until = Some(now + ALARM);
        self.proofs.due = true;
    }

    /// A piece came under way.
    pub(super) fn piece_started(&mut self, piece: PieceIndex) {
        let alarmed = self.proofs.alarm_until.is_some();
        self.proofs.due |=
            alarmed || self.suspects.contains(piece) || self.deadlines.contains_key(&piece);
    }

    /// Whether the peer is on parole and the piece's blocks can't be checked one by one: it is
    /// asked for none of them unless for all.
    pub(super) fn is_kept_alone(&self, piece: PieceIndex, conn: ConnectionId) -> bool {
        self.suspects.is_on_parole(conn) && !self.proofs.knows(piece)
    }

    /// Asks for the leaves that are worth it.
    pub(super) fn want_leaves(&mut self) {
        let Some(now) = self.ticked_at else {
            return;
        };
        let Some(torrent) = &self.torrent else {
            return;
        };
        if torrent.meta.kind() == Kind::V1 {
            return;
        }
        let mut pieces: BTreeSet<PieceIndex> = self.suspects.pieces().collect();
        if self.proofs.alarm_until.is_some() {
            pieces.extend(self.assembler.pieces());
        } else if !self.deadlines.is_empty() {
            let mut urgent: Vec<_> = self.deadlines.iter().map(|(p, at)| (*at, *p)).collect();
            urgent.sort_unstable();
            let next = urgent.into_iter().map(|(_, piece)| piece).take(AHEAD);
            pieces.extend(next.filter(|piece| self.assembler.contains(*piece)));
        }
        let meta = torrent.meta.clone();
        let mut at_once = Vec::new();
        for piece in pieces {
            if !self.proofs.knows(piece) && !self.proofs.fetch.contains(piece) {
                at_once.extend(self.proofs.fetch.begin(&meta, piece));
            }
        }
        for leaves in at_once {
            self.leaves_known(now, leaves);
        }
        self.ask_for_leaves(now);
    }

    fn ask_for_leaves(&mut self, now: Instant) {
        if self.proofs.fetch.is_idle() {
            return;
        }
        // libtorrent closes a connection that asks for hashes without having agreed on the v2 id,
        // whatever the reserved bits say.
        let v2_id = self.v2_id();
        let peers: Vec<_> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.established && v2_id.is_some() && peer.swarm_id == v2_id)
            .map(|(conn, _)| *conn)
            .collect();
        let has = |conn, piece: PieceIndex| {
            let peer = self.peers.get(&conn);
            peer.is_some_and(|peer| peer.has(piece.get()))
        };
        for (conn, command) in self.proofs.fetch.advance(now, &peers, has) {
            self.command(conn, command);
        }
    }

    /// Time went by.
    pub(super) fn advance_proofs(&mut self, now: Instant) {
        if self.proofs.alarm_until.is_some_and(|until| until <= now) {
            self.proofs.alarm_until = None;
        }
        self.want_leaves();
        if self.give_up_rescues(|rescue, is_asked| rescue.until <= now || !is_asked) > 0 {
            self.fill_all(now);
        }
    }

    /// Leaves of all false pieces are waited for no longer: whoever sent those is suspected. Gives
    /// how many they were.
    pub(super) fn give_up_all_rescues(&mut self) -> usize {
        self.give_up_rescues(|_, _| true)
    }

    fn give_up_rescues(&mut self, is_hopeless: impl Fn(&Rescue, bool) -> bool) -> usize {
        let fetch = &self.proofs.fetch;
        let hopeless =
            |piece: &PieceIndex, rescue: &mut Rescue| is_hopeless(rescue, fetch.is_asked(*piece));
        let given_up: Vec<_> = self.proofs.rescues.extract_if(.., hopeless).collect();
        let count = given_up.len();
        for (piece, rescue) in given_up {
            self.totals.wasted += rescue.bytes.len() as u64;
            self.suspect(piece, &rescue.senders, rescue.hashes);
            self.refresh(piece);
        }
        count
    }

    /// Leaf hashes came; `false` if they are a lie.
    pub(super) fn leaf_hashes(
        &mut self,
        now: Instant,
        conn: ConnectionId,
        request: &HashRequest,
        hashes: &[Hash],
    ) -> bool {
        let Some(meta) = self.meta().cloned() else {
            return true;
        };
        match self.proofs.fetch.hashes(&meta, conn, request, hashes) {
            Arrived::Unwanted | Arrived::Pending => true,
            Arrived::False => false,
            Arrived::Whole(leaves) => {
                self.leaves_known(now, leaves);
                self.fill_all(now);
                true
            }
        }
    }

    /// A peer won't send leaf hashes.
    pub(super) fn leaves_rejected(
        &mut self,
        now: Instant,
        conn: ConnectionId,
        request: &HashRequest,
    ) {
        if self.proofs.fetch.rejected(now, conn, request) {
            self.advance_proofs(now);
        }
    }

    /// The leaves of a piece are known: settles what is held of it, and earlier tries.
    fn leaves_known(&mut self, now: Instant, leaves: PieceLeaves) {
        let piece = leaves.piece();
        let liars = self.suspects.settle(piece, leaves.hashes());
        self.proofs.known.insert(piece, leaves.clone());
        if let Some(rescue) = self.proofs.rescues.remove(&piece) {
            self.resume(now, &leaves, rescue.bytes, &rescue.senders, &rescue.hashes);
        } else {
            self.assembler.share(piece);
            self.check_kept(now, &leaves);
        }
        self.ban_all(now, piece, liars);
    }

    /// Checks the blocks that came before the leaves.
    fn check_kept(&mut self, now: Instant, leaves: &PieceLeaves) {
        let piece = leaves.piece();
        let Some(geometry) = self.geometry().cloned() else {
            return;
        };
        let (proven, lies) = self.assembler.prove(&geometry, leaves);
        for block in proven {
            self.tell_reader(block);
        }
        let mut liars: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for (range, sender) in lies {
            self.totals.wasted += u64::from(range.len());
            let nth = (range.begin() / BLOCK_LEN) as usize;
            liars.entry(sender).or_default().insert(nth);
        }
        self.ban_all(now, piece, liars);
    }

    fn tell_reader(&mut self, block: VerifiedBlock) {
        if self.deadlines.contains_key(&block.range().piece()) {
            self.actions.push_back(Action::BlockVerified(block));
        }
    }

    /// The blocks of a piece that isn't stored yet that can be proven now, of those that `wants`
    /// holds for. [`Action::BlockVerified`] tells each but once, and only while a reader waits for
    /// the piece: this is for one that comes later.
    pub fn proven(
        &self,
        piece: PieceIndex,
        wants: impl Fn(&BlockRange) -> bool,
    ) -> Vec<VerifiedBlock> {
        let (Some(leaves), Some(geometry)) = (self.proofs.known.get(&piece), self.geometry())
        else {
            return Vec::new();
        };
        let prove = |range, bytes: Bytes| verify_block(leaves, range, bytes).ok();
        if let Some((bytes, _)) = self.verifying.get(&piece) {
            let cut = |range: BlockRange| {
                let (begin, end) = (range.begin() as usize, range.end() as usize);
                prove(range, bytes.get(begin..end).map(Bytes::copy_from_slice)?)
            };
            let blocks = geometry
                .blocks(piece)
                .filter_map(|range| self.without_padding(range));
            return blocks.filter(wants).filter_map(cut).collect();
        }
        let here = self.assembler.here(geometry, piece);
        here.filter(|(range, _)| wants(range))
            .filter_map(|(range, bytes)| prove(range, Bytes::copy_from_slice(bytes)))
            .collect()
    }

    /// Checks a block as it comes, where that can be done: `None` if it is a lie and its sender
    /// gone. Otherwise the block, and whether it is proven.
    pub(super) fn check_block(
        &mut self,
        now: Instant,
        conn: ConnectionId,
        block: Block,
    ) -> Option<(Block, bool)> {
        let range = block.range();
        let piece = range.piece();
        let leaves = match self.proofs.known.get(&piece) {
            Some(leaves) if self.assembler.lacks(&range) => leaves,
            _ => return Some((block, false)),
        };
        match verify_block(leaves, range, block.bytes().clone()) {
            Ok(verified) => {
                self.tell_reader(verified);
                Some((block, true))
            }
            Err(error) if error.fault == VerifyFault::Unknown => Some((block, false)),
            Err(error) => {
                tracing::debug!(%error, "false block");
                self.false_block(now, conn, range);
                None
            }
        }
    }

    /// The peer sent a block that is false beyond doubt.
    pub(super) fn false_block(&mut self, now: Instant, conn: ConnectionId, range: BlockRange) {
        self.totals.wasted += u64::from(range.len());
        self.assembler.released(range, conn);
        self.raise_alarm(now);
        let nth = (range.begin() / BLOCK_LEN) as usize;
        let liar = BTreeMap::from([(conn, BTreeSet::from([nth]))]);
        self.ban_all(now, range.piece(), liar);
        self.fill_all(now);
    }

    /// A piece is false and its blocks' hashes are known: finds out which are, now or once leaves
    /// come; `false` if that can't be.
    pub(super) fn rescue(
        &mut self,
        now: Instant,
        piece: PieceIndex,
        bytes: &Bytes,
        senders: &Senders,
        hashes: &[Hash],
    ) -> bool {
        let Some(meta) = self.meta().cloned() else {
            return false;
        };
        if meta.v2_root(piece).is_none() {
            return false;
        }
        if let Some(leaves) = self.proofs.known.get(&piece).cloned() {
            self.resume(now, &leaves, bytes.clone(), senders, hashes);
            return true;
        }
        let held = self.proofs.held();
        if held > 0 && held + bytes.len() > limits::RESCUED_LEN_MAX {
            return false;
        }
        let at_once = self.proofs.fetch.begin(&meta, piece);
        let rescue = Rescue {
            bytes: bytes.clone(),
            senders: senders.clone(),
            hashes: hashes.to_vec(),
            until: now + RESCUE_PATIENCE,
        };
        self.proofs.rescues.insert(piece, rescue);
        match at_once {
            Some(leaves) => {
                self.leaves_known(now, leaves);
                true
            }
            None => {
                self.ask_for_leaves(now);
                if !self.proofs.fetch.is_asked(piece) {
                    self.proofs.rescues.remove(&piece);
                }
                self.proofs.rescues(piece)
            }
        }
    }

    /// Goes on with a false piece from its true blocks.
    fn resume(
        &mut self,
        now: Instant,
        leaves: &PieceLeaves,
        bytes: Bytes,
        senders: &Senders,
        hashes: &[Hash],
    ) {
        let piece = leaves.piece();
        let Some(torrent) = self.torrent.as_ref() else {
            return;
        };
        let meta = torrent.meta.clone();
        let truth = leaves.hashes();
        let is_true = |nth: usize| hashes.get(nth) == truth.get(nth);
        let false_ones = (0..senders.len()).filter(|nth| !is_true(*nth));
        let mut liars: BTreeMap<ConnectionId, BTreeSet<usize>> = BTreeMap::new();
        for nth in false_ones {
            self.totals.wasted += u64::from(BLOCK_LEN);
            if let Some(sender) = senders.get(nth).copied().flatten() {
                liars.entry(sender).or_default().insert(nth);
            }
        }
        if liars.is_empty() {
            // No block differs, so what is false is padding of our own making.
            tracing::error!(piece = piece.get(), "false piece of true blocks");
            return self.refresh(piece);
        }
        self.picker.set_startable(piece, false);
        let geometry = meta.geometry();
        let content = |range: &_| content_len(&meta, range);
        // Begun by nobody in particular: whoever is free goes on with it.
        let nobody = ConnectionId(u64::MAX);
        self.assembler
            .start(geometry, piece, nobody, false, content);
        self.assembler.keep(piece, bytes, senders, is_true);
        let proven = self.assembler.prove(geometry, leaves).0;
        for block in proven {
            self.tell_reader(block);
        }
        self.ban_all(now, piece, liars);
    }

    /// Bans those that sent these blocks of the piece.
    pub(super) fn ban_all(
        &mut self,
        now: Instant,
        piece: PieceIndex,
        liars: BTreeMap<ConnectionId, BTreeSet<usize>>,
    ) {
        if liars.is_empty() {
            return;
        }
        self.raise_alarm(now);
        for (liar, blocks) in liars {
            let blocks: Vec<_> = blocks.iter().map(ToString::to_string).collect();
            let what = format!("false block {} of piece {}", blocks.join(", "), piece.get());
            self.ban(now, liar, piece, what);
        }
    }

    /// The peer answered a hash request with hashes that don't lead to the root.
    pub(super) fn false_hashes(&mut self, now: Instant, conn: ConnectionId) {
        self.close(conn, CloseReason::Misbehaved(Misbehaviour::FalseHashes));
        self.peer_left(now, conn);
    }
}
