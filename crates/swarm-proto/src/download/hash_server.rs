//! Answers hash requests of BEP 52: at once from piece layers, and below those from leaf hashes,
//! for which the driver hashes stored pieces one by one.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::bitfield::Bitfield;
use crate::geometry::PieceIndex;
use crate::limits;
use crate::merkle::{self, Hash, HashSpan};
use crate::metainfo::Metainfo;
use crate::session::{Command, ConnectionId};
use crate::verify::PieceLeaves;
use crate::wire::HashRequest;

/// The hashes that a request names.
pub(super) fn span(request: &HashRequest) -> HashSpan {
    HashSpan {
        base: request.base_layer,
        index: request.index,
        length: request.length,
        proof_layers: request.proof_layers,
    }
}

/// Over which time the bytes hashed for one peer are counted.
const SPENDING_WINDOW: Duration = Duration::from_secs(1);

/// A file that has a tree.
#[derive(Debug, Clone, Copy)]
struct Tree {
    /// Levels from the leaves to the root.
    height: u32,
    /// Levels from the leaves to a piece's root; to the file's, if that is not longer than a piece.
    piece_level: u32,
    /// Number of its first piece in the torrent.
    first: u32,
    pieces: u32,
}

/// What becomes of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// These hashes, uncles last.
    Hashes(Vec<Hash>),
    /// The leaves of these pieces must be known first.
    Needs(Vec<PieceIndex>),
    /// No such hashes, or more than we hash for anybody.
    Refused,
}

/// Answers hash requests.
#[derive(Debug)]
pub(super) struct HashServer {
    trees: HashMap<Hash, Tree>,
    /// Leaves of pieces hashed lately, at most [`limits::LEAVES_CACHED_MAX`] hashes.
    leaves: BTreeMap<PieceIndex, PieceLeaves>,
    order: VecDeque<PieceIndex>,
    /// Requests that wait for leaves, at most [`limits::HASH_REQUESTS_MAX`] of each peer.
    waiting: VecDeque<(ConnectionId, HashRequest)>,
    /// The piece that the driver is hashing.
    hashing: Option<PieceIndex>,
    /// Bytes hashed for each peer since `spent_since`.
    spent: HashMap<ConnectionId, u64>,
    spent_since: Option<Instant>,
}

impl HashServer {
    pub(super) fn new(meta: &Metainfo) -> Self {
        let piece_length = u64::from(meta.geometry().piece_length());
        let tree = |length: u64, offset: u64| {
            let height = merkle::height(merkle::block_count(length));
            Some(Tree {
                height,
                piece_level: height.min(merkle::piece_level(meta.geometry().piece_length())),
                first: u32::try_from(offset / piece_length).ok()?,
                pieces: u32::try_from(length.div_ceil(piece_length)).ok()?,
            })
        };
        let files = meta.files().iter();
        Self {
            trees: files
                .filter_map(|f| Some((f.pieces_root?, tree(f.length, f.offset)?)))
                .collect(),
            leaves: BTreeMap::new(),
            order: VecDeque::new(),
            waiting: VecDeque::new(),
            hashing: None,
            spent: HashMap::new(),
            spent_since: None,
        }
    }

    /// The hashes asked for, or what is missing to compute them.
    pub(super) fn answer(&self, meta: &Metainfo, request: &HashRequest) -> Answer {
        let Some(tree) = self.trees.get(&request.pieces_root) else {
            return Answer::Refused;
        };
        let span = span(request);
        // A root of one leaf is in the metainfo: nobody need ask, and nothing lies below.
        if !span.is_within(tree.height) {
            return Answer::Refused;
        }
        if let Some(below) = tree.piece_level.checked_sub(span.base).filter(|n| *n > 0) {
            let last = (span.index + (span.length - 1)) >> below;
            let nodes = span.index >> below..=last.min(tree.pieces.saturating_sub(1));
            let piece_length = u64::from(meta.geometry().piece_length());
            let bytes = piece_length.saturating_mul(nodes.clone().count() as u64);
            if bytes > piece_length.max(limits::HASHED_PER_REQUEST_MAX) {
                return Answer::Refused;
            }
            let unknown: Vec<PieceIndex> = nodes
                .filter_map(|nth| meta.geometry().piece(tree.first.checked_add(nth)?))
                .filter(|piece| !self.leaves.contains_key(piece))
                .collect();
            if !unknown.is_empty() {
                return Answer::Needs(unknown);
            }
        }
        match self.prove(meta, tree, request.pieces_root, &span) {
            Some(hashes) => Answer::Hashes(hashes),
            None => Answer::Refused,
        }
    }

    fn prove(
        &self,
        meta: &Metainfo,
        tree: &Tree,
        root: Hash,
        span: &HashSpan,
    ) -> Option<Vec<Hash>> {
        let layer = match tree.pieces {
            0 | 1 => &[],
            _ => meta.piece_layer(root)?,
        };
        let node = |level, nth| self.node(meta, tree, layer, level, nth);
        let mut hashes = (span.index..=span.index + (span.length - 1))
            .map(|nth| node(span.base, nth))
            .collect::<Option<Vec<_>>>()?;
        let own = span.length.trailing_zeros();
        let mut nth = span.index.checked_shr(own)?;
        for level in span.base + own..span.base + own + span.uncle_count() {
            hashes.push(node(level, nth ^ 1)?);
            nth >>= 1;
        }
        Some(hashes)
    }

    /// The `nth` node of a level of the file's tree.
    fn node(
        &self,
        meta: &Metainfo,
        tree: &Tree,
        layer: &[Hash],
        level: u32,
        nth: u32,
    ) -> Option<Hash> {
        if let Some(above) = level.checked_sub(tree.piece_level)
            && tree.pieces > 1
        {
            let start = usize::try_from(u64::from(nth).checked_shl(above)?).ok()?;
            let nodes = layer.get(start..).unwrap_or_default();
            return Some(merkle::root_above(nodes, tree.piece_level, above));
        }
        let below = tree.piece_level.checked_sub(level)?;
        let piece = nth.checked_shr(below)?;
        if piece >= tree.pieces {
            return Some(merkle::pad(level));
        }
        let piece = meta.geometry().piece(tree.first.checked_add(piece)?)?;
        let leaves = self.leaves.get(&piece)?.hashes();
        let within = nth & ((1_u32.checked_shl(below)?) - 1);
        let start = usize::try_from(u64::from(within).checked_shl(level)?).ok()?;
        let nodes = leaves.get(start..).unwrap_or_default();
        Some(merkle::root_above(nodes, 0, level))
    }

    /// A peer asks; the answer comes from [`next`](Self::next) if not at once.
    pub(super) fn requested(
        &mut self,
        meta: &Metainfo,
        have: &Bitfield,
        conn: ConnectionId,
        request: HashRequest,
    ) -> Option<Command> {
        let cost = match self.answer(meta, &request) {
            Answer::Hashes(hashes) => return Some(Command::SendHashes(request, hashes)),
            Answer::Needs(pieces) if pieces.iter().all(|piece| have.contains(*piece)) => {
                u64::from(meta.geometry().piece_length()).saturating_mul(pieces.len() as u64)
            }
            _ => return Some(Command::RejectHashes(request)),
        };
        let spent = self.spent.get(&conn).copied().unwrap_or_default();
        let queued = self.waiting.iter().filter(|(of, _)| *of == conn).count();
        if spent.saturating_add(cost) > limits::HASHED_PER_PEER_MAX
            || queued >= limits::HASH_REQUESTS_MAX
        {
            return Some(Command::RejectHashes(request));
        }
        self.spent.insert(conn, spent.saturating_add(cost));
        self.waiting.push_back((conn, request));
        None
    }

    /// Goes on with what waits: answers that are ready, and the piece that is to be hashed now.
    pub(super) fn next(
        &mut self,
        meta: &Metainfo,
        have: &Bitfield,
    ) -> (Vec<(ConnectionId, Command)>, Option<PieceIndex>) {
        let mut answers = Vec::new();
        while self.hashing.is_none()
            && let Some((conn, request)) = self.waiting.front().copied()
        {
            let command = match self.answer(meta, &request) {
                Answer::Hashes(hashes) => Command::SendHashes(request, hashes),
                Answer::Needs(pieces) => match pieces.first() {
                    Some(piece) if have.contains(*piece) => {
                        self.hashing = Some(*piece);
                        return (answers, self.hashing);
                    }
                    _ => Command::RejectHashes(request),
                },
                Answer::Refused => Command::RejectHashes(request),
            };
            self.waiting.pop_front();
            answers.push((conn, command));
        }
        (answers, None)
    }

    /// The driver hashed the piece, or could not. What was asked of it and can't be answered is
    /// given back.
    pub(super) fn hashed(
        &mut self,
        meta: &Metainfo,
        piece: PieceIndex,
        leaves: Option<&[Hash]>,
    ) -> Option<(ConnectionId, HashRequest)> {
        if self.hashing != Some(piece) {
            return None;
        }
        self.hashing = None;
        match leaves.and_then(|leaves| PieceLeaves::prove(meta, piece, leaves)) {
            Some(proven) => {
                self.leaves.insert(piece, proven);
                self.order.push_back(piece);
                self.trim(piece);
                None
            }
            // Whoever waits for this piece is told; those behind try anew.
            None => {
                let (_, request) = self.waiting.front()?;
                match self.answer(meta, request) {
                    Answer::Needs(pieces) if pieces.contains(&piece) => self.waiting.pop_front(),
                    _ => None,
                }
            }
        }
    }

    fn trim(&mut self, keep: PieceIndex) {
        let mut held: usize = self.leaves.values().map(|l| l.hashes().len()).sum();
        while held > limits::LEAVES_CACHED_MAX
            && let Some(oldest) = self.order.pop_front()
            && oldest != keep
        {
            held -= self
                .leaves
                .remove(&oldest)
                .map_or(0, |leaves| leaves.hashes().len());
        }
    }

    /// The piece is not had any more.
    pub(super) fn lost(&mut self, piece: PieceIndex) {
        self.leaves.remove(&piece);
        self.order.retain(|listed| *listed != piece);
    }

    /// The peer is gone.
    pub(super) fn left(&mut self, conn: ConnectionId) {
        self.waiting.retain(|(of, _)| *of != conn);
        self.spent.remove(&conn);
    }

    /// Time went by.
    pub(super) fn tick(&mut self, now: Instant) {
        let since = *self.spent_since.get_or_insert(now);
        if since + SPENDING_WINDOW <= now {
            self.spent.clear();
            self.spent_since = Some(now);
        }
    }
}
