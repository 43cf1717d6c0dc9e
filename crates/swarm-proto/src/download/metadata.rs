//! From a magnet link to the info dictionary (BEP 9).
//!
//! Each try is one peer's: the dictionary is taken whole from it and held against the info hash,
//! so a false one names its sender. Two peers are tried at a time, so a silent one costs little.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use crate::id::{InfoHashV1, InfoHashV2};
use crate::metainfo::{Metainfo, MetainfoError};
use crate::session::{Command, ConnectionId};
use crate::wire::extended::METADATA_PIECE_LEN;

/// Peers asked at a time.
const TRIES_MAX: usize = 2;
/// Pieces asked of a peer at a time.
const DEPTH: usize = 8;
/// A peer that sends no piece for so long makes room for another.
const PATIENCE: Duration = Duration::from_secs(5);

/// Fetches an info dictionary.
#[derive(Debug)]
pub(super) struct MetadataFetch {
    v1: Option<InfoHashV1>,
    v2: Option<InfoHashV2>,
    tries: BTreeMap<ConnectionId, Try>,
    /// Peers that could not or would not, and when to ask them again.
    failed: BTreeMap<ConnectionId, Instant>,
}

#[derive(Debug)]
struct Try {
    total: u32,
    pieces: Vec<Option<Bytes>>,
    asked: usize,
    missing: usize,
    progress_at: Instant,
}

/// What a piece of metadata leads to.
#[derive(Debug)]
pub(super) enum Fetched {
    /// More is to come.
    Pending,
    /// The dictionary, with the right hash.
    Whole(Box<Metainfo>),
    /// The peer's dictionary is not the one.
    False,
    /// The right dictionary, but no torrent that we take. The publisher's fault.
    Unusable(MetainfoError),
}

impl MetadataFetch {
    pub(super) fn new(v1: Option<InfoHashV1>, v2: Option<InfoHashV2>) -> Self {
        Self {
            v1,
            v2,
            tries: BTreeMap::new(),
            failed: BTreeMap::new(),
        }
    }

    /// The v2 half of what the magnet link names.
    pub(super) fn v2(&self) -> Option<InfoHashV2> {
        self.v2
    }

    /// Begins tries with peers that serve metadata; what to ask of whom.
    pub(super) fn advance(
        &mut self,
        now: Instant,
        peers: impl Iterator<Item = (ConnectionId, u32)>,
    ) -> Vec<(ConnectionId, Command)> {
        let silent: Vec<_> = self
            .tries
            .iter()
            .filter(|(_, tried)| tried.progress_at + PATIENCE <= now)
            .map(|(conn, _)| *conn)
            .collect();
        for conn in silent {
            self.tries.remove(&conn);
            self.failed.insert(conn, now + PATIENCE);
        }
        self.failed.retain(|_, until| *until > now);
        let mut commands = Vec::new();
        for (conn, total) in peers {
            if self.tries.len() >= TRIES_MAX {
                break;
            }
            if self.failed.contains_key(&conn) || self.tries.contains_key(&conn) {
                continue;
            }
            let count = total.div_ceil(METADATA_PIECE_LEN) as usize;
            let mut tried = Try {
                total,
                pieces: vec![None; count],
                asked: 0,
                missing: count,
                progress_at: now,
            };
            tried.ask(conn, &mut commands);
            self.tries.insert(conn, tried);
        }
        commands
    }

    /// A piece came.
    pub(super) fn piece(
        &mut self,
        now: Instant,
        conn: ConnectionId,
        (piece, total, bytes): (u32, u32, Bytes),
        commands: &mut Vec<(ConnectionId, Command)>,
    ) -> Fetched {
        let Some(tried) = self.tries.get_mut(&conn) else {
            return Fetched::Pending;
        };
        if total != tried.total {
            self.tries.remove(&conn);
            return Fetched::False;
        }
        if let Some(slot) = tried.pieces.get_mut(piece as usize)
            && slot.is_none()
        {
            *slot = Some(bytes);
            tried.missing -= 1;
            tried.progress_at = now;
        }
        if tried.missing > 0 {
            tried.ask(conn, commands);
            return Fetched::Pending;
        }
        let Some(tried) = self.tries.remove(&conn) else {
            return Fetched::Pending;
        };
        let mut raw_info = BytesMut::with_capacity(tried.total as usize);
        tried
            .pieces
            .iter()
            .flatten()
            .for_each(|bytes| raw_info.extend_from_slice(bytes));
        let is_right = self
            .v1
            .is_none_or(|v1| InfoHashV1::of_info(&raw_info) == v1)
            && self
                .v2
                .is_none_or(|v2| InfoHashV2::of_info(&raw_info) == v2);
        if !is_right {
            return Fetched::False;
        }
        match Metainfo::from_info(&raw_info) {
            Ok(meta) => Fetched::Whole(Box::new(meta)),
            Err(error) => Fetched::Unusable(error),
        }
    }

    /// The peer won't send a piece.
    pub(super) fn rejected(&mut self, now: Instant, conn: ConnectionId) {
        if self.tries.remove(&conn).is_some() {
            self.failed.insert(conn, now + PATIENCE);
        }
    }

    /// The peer is gone.
    pub(super) fn left(&mut self, conn: ConnectionId) {
        self.tries.remove(&conn);
        self.failed.remove(&conn);
    }
}

impl Try {
    fn ask(&mut self, conn: ConnectionId, commands: &mut Vec<(ConnectionId, Command)>) {
        let here = self.pieces.len() - self.missing;
        while self.asked < self.pieces.len() && self.asked < here + DEPTH {
            if let Ok(piece) = u32::try_from(self.asked) {
                commands.push((conn, Command::RequestMetadata(piece)));
            }
            self.asked += 1;
        }
    }
}
