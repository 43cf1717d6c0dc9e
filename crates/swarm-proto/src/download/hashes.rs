//! Piece layers of BEP 52, fetched after joining by a magnet link.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::hash_server::span;
use crate::limits;
use crate::merkle::{self, Hash, HashSpan};
use crate::metainfo::Metainfo;
use crate::session::{Command, ConnectionId};
use crate::wire::HashRequest;

/// Height of the tree of a file of that length.
fn tree_height(length: u64) -> u32 {
    let blocks = length.div_ceil(crate::geometry::BLOCK_LEN.into()).max(1);
    blocks.next_power_of_two().trailing_zeros()
}

/// A peer that doesn't answer for so long is asked no more, and another is.
const PATIENCE: Duration = Duration::from_secs(5);
/// Requests at one peer at a time.
const DEPTH: usize = 8;

/// Fetches the piece layers that an info dictionary doesn't carry.
#[derive(Debug)]
pub(super) struct LayerFetch {
    meta: Box<Metainfo>,
    since: Instant,
    may_meet_v2: bool,
    /// Requests that nobody was asked for.
    open: VecDeque<HashRequest>,
    asked: BTreeMap<ConnectionId, Vec<(HashRequest, Instant)>>,
    /// Layers under way: parts by the index of their first hash.
    parts: HashMap<Hash, Layer>,
    /// Peers that rejected or fell silent, and when to ask them again.
    failed: BTreeMap<ConnectionId, Instant>,
}

#[derive(Debug)]
struct Layer {
    pieces: usize,
    height: u32,
    missing: usize,
    hashes: Vec<Hash>,
}

impl LayerFetch {
    /// `may_meet_v2`: our sessions know the v2 swarm id.
    pub(super) fn new(now: Instant, meta: Box<Metainfo>, may_meet_v2: bool) -> Self {
        let level = merkle::piece_level(meta.geometry().piece_length());
        let piece_length = u64::from(meta.geometry().piece_length());
        let lengths: HashMap<Hash, u64> = meta
            .files()
            .iter()
            .filter_map(|f| Some((f.pieces_root?, f.length)))
            .collect();
        let mut open = VecDeque::new();
        let mut parts = HashMap::new();
        for root in meta.missing_layers() {
            let Some(length) = lengths.get(&root) else {
                continue;
            };
            let Ok(pieces) = u32::try_from(length.div_ceil(piece_length)) else {
                continue;
            };
            let height = tree_height(*length);
            let padded = pieces.next_power_of_two().max(2);
            let length = padded.min(limits::HASHES_PER_REQUEST_MAX);
            let proof_layers = match length == padded {
                true => 0,
                false => HashSpan::proof_layers_to_root(level, height),
            };
            let before = open.len();
            for index in (0..pieces).step_by(length as usize) {
                open.push_back(HashRequest {
                    pieces_root: root,
                    base_layer: level,
                    index,
                    length,
                    proof_layers,
                });
            }
            let layer = Layer {
                pieces: pieces as usize,
                height,
                missing: open.len() - before,
                hashes: Vec::new(),
            };
            parts.insert(root, layer);
        }
        Self {
            meta,
            since: now,
            may_meet_v2,
            open,
            asked: BTreeMap::new(),
            parts,
            failed: BTreeMap::new(),
        }
    }

    /// When the fetch began.
    pub(super) fn since(&self) -> Instant {
        self.since
    }

    pub(super) fn may_meet_v2(&self) -> bool {
        self.may_meet_v2
    }

    pub(super) fn meta(&self) -> &Metainfo {
        &self.meta
    }

    /// Whether every layer is here.
    pub(super) fn is_done(&self) -> bool {
        self.parts.is_empty()
    }

    /// Whether no peer is left that could answer, this time round.
    pub(super) fn is_stuck(&self) -> bool {
        self.asked.is_empty()
    }

    pub(super) fn into_meta(self) -> Box<Metainfo> {
        self.meta
    }

    /// What to ask of whom.
    pub(super) fn advance(
        &mut self,
        now: Instant,
        peers: impl Iterator<Item = ConnectionId>,
    ) -> Vec<(ConnectionId, Command)> {
        let silent: Vec<_> = self
            .asked
            .iter()
            .filter(|(_, asked)| asked.iter().any(|(_, since)| *since + PATIENCE <= now))
            .map(|(conn, _)| *conn)
            .collect();
        for conn in silent {
            self.release(conn);
            self.failed.insert(conn, now + PATIENCE);
        }
        self.failed.retain(|_, until| *until > now);
        let mut commands = Vec::new();
        for conn in peers {
            if self.failed.contains_key(&conn) {
                continue;
            }
            while !self.open.is_empty() && self.asked.get(&conn).map_or(0, Vec::len) < DEPTH {
                let Some(request) = self.open.pop_front() else {
                    break;
                };
                self.asked.entry(conn).or_default().push((request, now));
                commands.push((conn, Command::RequestHashes(request)));
            }
        }
        commands
    }

    /// Hashes came; `false` if they are not the file's.
    pub(super) fn hashes(
        &mut self,
        now: Instant,
        conn: ConnectionId,
        request: &HashRequest,
        hashes: &[Hash],
    ) -> bool {
        if !self.take(conn, request) {
            return true;
        }
        if let Some(asked) = self.asked.get_mut(&conn) {
            // It answers in order: the rest of its queue has more time.
            asked.iter_mut().for_each(|(_, since)| *since = now);
        }
        let Some(layer) = self.parts.get_mut(&request.pieces_root) else {
            return true;
        };
        if !merkle::check(&request.pieces_root, layer.height, &span(request), hashes) {
            self.open.push_front(*request);
            return false;
        }
        let own = hashes.iter().take(request.length as usize);
        // What a torrent claims to have is only paid for as proven hashes come.
        let end = (request.index as usize + request.length as usize).min(layer.pieces);
        if layer.hashes.len() < end {
            layer.hashes.resize(end, [0; 32]);
        }
        for (slot, hash) in layer
            .hashes
            .iter_mut()
            .skip(request.index as usize)
            .zip(own)
        {
            *slot = *hash;
        }
        layer.missing -= 1;
        if layer.missing == 0
            && let Some(layer) = self.parts.remove(&request.pieces_root)
        {
            debug_assert_eq!(layer.hashes.len(), layer.pieces);
            if let Err(error) = self.meta.set_piece_layer(request.pieces_root, layer.hashes) {
                // Each part led to the root, so only an inconsistent torrent comes here.
                tracing::warn!(%error, "piece layer refused");
            }
        }
        true
    }

    /// The peer won't answer.
    pub(super) fn rejected(&mut self, now: Instant, conn: ConnectionId, request: &HashRequest) {
        if self.take(conn, request) {
            self.open.push_back(*request);
            self.failed.insert(conn, now + PATIENCE);
        }
    }

    /// The peer is gone.
    pub(super) fn left(&mut self, conn: ConnectionId) {
        self.release(conn);
        self.failed.remove(&conn);
    }

    fn release(&mut self, conn: ConnectionId) {
        for (request, _) in self.asked.remove(&conn).unwrap_or_default() {
            self.open.push_back(request);
        }
    }

    fn take(&mut self, conn: ConnectionId, request: &HashRequest) -> bool {
        let Some(asked) = self.asked.get_mut(&conn) else {
            return false;
        };
        let Some(at) = asked.iter().position(|(open, _)| open == request) else {
            return false;
        };
        asked.swap_remove(at);
        if asked.is_empty() {
            self.asked.remove(&conn);
        }
        true
    }
}
