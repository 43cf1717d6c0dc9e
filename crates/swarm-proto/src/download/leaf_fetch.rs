//! Leaf hashes of pieces under way, fetched from any peer that speaks v2: they are held against
//! the piece's root, so it need not be an honest one.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::geometry::PieceIndex;
use crate::limits;
use crate::merkle::{self, Hash, HashSpan};
use crate::metainfo::Metainfo;
use crate::session::{Command, ConnectionId};
use crate::verify::PieceLeaves;
use crate::wire::HashRequest;

/// A peer that doesn't answer for so long is passed over, and another is asked.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a peer that did not answer is passed over.
const PASSED_OVER: Duration = Duration::from_secs(10);
/// Requests at one peer at a time.
const DEPTH: usize = 4;

/// One hash request, for all leaves of a piece or the part of them that one request may name.
#[derive(Debug)]
struct Part {
    request: HashRequest,
    asked: Option<(ConnectionId, Instant)>,
    done: bool,
}

/// The leaves of one piece, on their way.
#[derive(Debug)]
struct Fetching {
    /// The piece's root and its level.
    root: Hash,
    height: u32,
    /// Number of the piece's first leaf in its file.
    first_leaf: u32,
    parts: Vec<Part>,
    leaves: Vec<Hash>,
}

/// What hashes lead to.
#[derive(Debug)]
pub(super) enum Arrived {
    /// Nobody waits for them here.
    Unwanted,
    /// More is to come.
    Pending,
    /// They don't lead to the piece's root: a lie.
    False,
    /// All leaves of the piece, proven.
    Whole(PieceLeaves),
}

/// Fetches leaf hashes.
#[derive(Debug, Default)]
pub(super) struct LeafFetch {
    fetching: BTreeMap<PieceIndex, Fetching>,
    /// Peers that rejected or fell silent, and when to ask them again.
    failed: BTreeMap<ConnectionId, Instant>,
}

impl LeafFetch {
    /// Whether the piece's leaves are being fetched.
    pub(super) fn contains(&self, piece: PieceIndex) -> bool {
        self.fetching.contains_key(&piece)
    }

    /// Whether somebody was asked for leaves of the piece and may still answer.
    pub(super) fn is_asked(&self, piece: PieceIndex) -> bool {
        self.fetching
            .get(&piece)
            .is_some_and(|fetching| fetching.parts.iter().any(|part| part.asked.is_some()))
    }

    /// Begins to fetch the leaves of a piece. Gives them at once where the piece is one block, and
    /// so its root is its leaf.
    pub(super) fn begin(&mut self, meta: &Metainfo, piece: PieceIndex) -> Option<PieceLeaves> {
        let tree = meta.piece_tree(piece)?;
        let root = tree.root?;
        if tree.height == 0 {
            return PieceLeaves::prove(meta, piece, &[root]);
        }
        if self.contains(piece) || self.fetching.len() >= limits::LEAF_FETCHES_MAX {
            return None;
        }
        let file = meta.files().get(tree.file)?;
        let offset = meta
            .geometry()
            .piece_offset(piece)
            .checked_sub(file.offset)?;
        let first_leaf = u32::try_from(merkle::block_count(offset)).ok()?;
        let count = 1_u32.checked_shl(tree.height)?;
        let length = count.min(limits::HASHES_PER_REQUEST_MAX);
        // The piece's root is known here, so uncles are asked for up to there only.
        let proof_layers = match length == count {
            true => 0,
            false => HashSpan::proof_layers_to_root(0, tree.height),
        };
        let used = u32::try_from(merkle::block_count(tree.data_len.into())).ok()?;
        let parts = (0..used).step_by(length as usize).map(|at| Part {
            request: HashRequest {
                pieces_root: file.pieces_root.unwrap_or_default(),
                base_layer: 0,
                index: first_leaf.saturating_add(at),
                length,
                proof_layers,
            },
            asked: None,
            done: false,
        });
        let fetching = Fetching {
            root,
            height: tree.height,
            first_leaf,
            parts: parts.collect(),
            leaves: vec![[0; 32]; used as usize],
        };
        self.fetching.insert(piece, fetching);
        None
    }

    /// Nobody needs the leaves of the piece any more.
    pub(super) fn end(&mut self, piece: PieceIndex) {
        self.fetching.remove(&piece);
    }

    /// Whether there is anything to ask for.
    pub(super) fn is_idle(&self) -> bool {
        self.fetching.is_empty()
    }

    /// What to ask of whom; `peers` are those that agreed on v2, `has` tells whether one has the
    /// piece.
    pub(super) fn advance(
        &mut self,
        now: Instant,
        peers: &[ConnectionId],
        has: impl Fn(ConnectionId, PieceIndex) -> bool,
    ) -> Vec<(ConnectionId, Command)> {
        self.failed.retain(|_, until| *until > now);
        let mut load: BTreeMap<ConnectionId, usize> = BTreeMap::new();
        for part in self.fetching.values_mut().flat_map(|f| &mut f.parts) {
            match part.asked {
                Some((conn, since)) if since + PATIENCE <= now => {
                    part.asked = None;
                    self.failed.insert(conn, now + PASSED_OVER);
                }
                Some((conn, _)) => *load.entry(conn).or_default() += 1,
                None => {}
            }
        }
        let mut commands = Vec::new();
        for (piece, fetching) in &mut self.fetching {
            let open = |part: &&mut Part| part.asked.is_none() && !part.done;
            for part in fetching.parts.iter_mut().filter(open) {
                let loaded = |conn: &ConnectionId| load.get(conn).copied().unwrap_or_default();
                let could = |conn: &&ConnectionId| {
                    loaded(conn) < DEPTH && !self.failed.contains_key(conn) && has(**conn, *piece)
                };
                // Equally loaded ones by turns.
                let turn = |conn: &ConnectionId| conn.0.wrapping_add(piece.get().into()) % 61;
                let least = peers.iter().filter(could);
                let Some(conn) = least.min_by_key(|conn| (loaded(conn), turn(conn))).copied()
                else {
                    break;
                };
                part.asked = Some((conn, now));
                *load.entry(conn).or_default() += 1;
                commands.push((conn, Command::RequestHashes(part.request)));
            }
        }
        commands
    }

    fn asked_of(
        &mut self,
        conn: ConnectionId,
        request: &HashRequest,
    ) -> Option<(PieceIndex, usize)> {
        self.fetching.iter_mut().find_map(|(piece, fetching)| {
            let at = fetching.parts.iter().position(|part| {
                part.request == *request && part.asked.is_some_and(|(of, _)| of == conn)
            })?;
            Some((*piece, at))
        })
    }

    /// Hashes came.
    pub(super) fn hashes(
        &mut self,
        meta: &Metainfo,
        conn: ConnectionId,
        request: &HashRequest,
        hashes: &[Hash],
    ) -> Arrived {
        let Some((piece, at)) = self.asked_of(conn, request) else {
            return Arrived::Unwanted;
        };
        let Some(fetching) = self.fetching.get_mut(&piece) else {
            return Arrived::Unwanted;
        };
        let Some(part) = fetching.parts.get_mut(at) else {
            return Arrived::Unwanted;
        };
        part.asked = None;
        let from = request.index.saturating_sub(fetching.first_leaf);
        // Seen from the piece's root, the piece is a whole tree.
        let within = HashSpan {
            base: 0,
            index: from,
            length: request.length,
            proof_layers: request.proof_layers,
        };
        if !merkle::check(&fetching.root, fetching.height, &within, hashes) {
            return Arrived::False;
        }
        part.done = true;
        let slots = fetching.leaves.iter_mut().skip(from as usize);
        let own = hashes.iter().take(request.length as usize);
        slots.zip(own).for_each(|(slot, hash)| *slot = *hash);
        if fetching.parts.iter().any(|part| !part.done) {
            return Arrived::Pending;
        }
        let whole = self.fetching.remove(&piece).map(|done| done.leaves);
        match whole.and_then(|leaves| PieceLeaves::prove(meta, piece, &leaves)) {
            Some(proven) => Arrived::Whole(proven),
            // Each part led to the root, and so would the whole, but for filling that is not zero.
            None => Arrived::False,
        }
    }

    /// The peer won't answer; whether that was asked for here.
    pub(super) fn rejected(
        &mut self,
        now: Instant,
        conn: ConnectionId,
        request: &HashRequest,
    ) -> bool {
        let Some((piece, at)) = self.asked_of(conn, request) else {
            return false;
        };
        if let Some(fetching) = self.fetching.get_mut(&piece)
            && let Some(part) = fetching.parts.get_mut(at)
        {
            part.asked = None;
        }
        self.failed.insert(conn, now + PASSED_OVER);
        true
    }

    /// The peer is gone.
    pub(super) fn left(&mut self, conn: ConnectionId) {
        self.failed.remove(&conn);
        for part in self.fetching.values_mut().flat_map(|f| &mut f.parts) {
            if part.asked.is_some_and(|(of, _)| of == conn) {
                part.asked = None;
            }
        }
    }
}
