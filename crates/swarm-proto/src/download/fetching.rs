//! Metadata and hashes: served to peers, and fetched from them after a magnet link.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::hashes::LayerFetch;
use super::metadata::Fetched;
use super::{Action, Download, Fetch, Torrent};
use crate::geometry::PieceIndex;
use crate::metainfo::{Kind, Metainfo};
use crate::session::{CloseReason, Command, ConnectionId, Misbehaviour};
use crate::wire::HashRequest;
use crate::wire::extended::METADATA_PIECE_LEN;

/// A hybrid whose layers nobody serves is fetched by its v1 hashes after so long.
const LAYERS_PATIENCE: Duration = Duration::from_secs(6);

impl Download {
    pub(super) fn metadata_requested(&mut self, conn: ConnectionId, piece: u32) {
        let raw_info = match &self.torrent {
            // BEP 27: who has the metainfo of a private torrent got it from its tracker's site.
            Some(torrent) if !torrent.meta.is_private() => torrent.meta.raw_info().clone(),
            _ => return self.command(conn, Command::RejectMetadata(piece)),
        };
        let start = piece as usize * METADATA_PIECE_LEN as usize;
        let end = raw_info.len().min(start + METADATA_PIECE_LEN as usize);
        self.command(
            conn,
            match u32::try_from(raw_info.len()) {
                Ok(total) if start < end => Command::SendMetadata {
                    piece,
                    bytes: raw_info.slice(start..end),
                    total,
                },
                _ => Command::RejectMetadata(piece),
            },
        );
    }

    pub(super) fn metadata_piece(
        &mut self,
        now: Instant,
        conn: ConnectionId,
        piece: (u32, u32, Bytes),
    ) {
        let Some(Fetch::Metadata(fetch)) = &mut self.fetch else {
            return;
        };
        let by_v2 = fetch.v2().is_some();
        let mut commands = Vec::new();
        let fetched = fetch.piece(now, conn, piece, &mut commands);
        for (conn, command) in commands {
            self.command(conn, command);
        }
        match fetched {
            Fetched::Pending => {}
            Fetched::False => {
                self.close(conn, CloseReason::Misbehaved(Misbehaviour::FalseMetadata));
                self.peer_left(now, conn);
            }
            Fetched::Unusable(error) => {
                tracing::error!(%error, "the magnet link names a torrent that can't be used");
                self.fetch = Some(Fetch::HandedOver);
                self.actions.push_back(Action::UnusableMetadata(error));
            }
            Fetched::Whole(meta) => self.have_info(now, meta, by_v2),
        }
    }

    fn have_info(&mut self, now: Instant, meta: Box<Metainfo>, v2: bool) {
        if meta.missing_layers().next().is_some() {
            self.fetch = Some(Fetch::Layers(LayerFetch::new(now, meta, v2)));
            return self.advance_fetch(now);
        }
        self.fetch = Some(Fetch::HandedOver);
        self.actions.push_back(Action::Metadata(meta));
    }

    pub(super) fn hashes_requested(&mut self, conn: ConnectionId, request: HashRequest) {
        let command = match &mut self.torrent {
            Some(torrent) => {
                let Torrent { hashes, meta } = torrent;
                hashes.requested(meta, &self.have, conn, request)
            }
            None => Some(Command::RejectHashes(request)),
        };
        if let Some(command) = command {
            self.command(conn, command);
        }
        self.serve_hashes();
    }

    /// Goes on with hash requests that wait for a piece to be hashed.
    fn serve_hashes(&mut self) {
        let Some(Torrent { hashes, meta }) = &mut self.torrent else {
            return;
        };
        let (answers, piece) = hashes.next(meta, &self.have);
        for (conn, command) in answers {
            self.command(conn, command);
        }
        if let Some(piece) = piece {
            self.actions.push_back(Action::HashLeaves(piece));
        }
    }

    /// The driver did [`Action::HashLeaves`]; `None` if it could not.
    pub fn leaves_hashed(&mut self, piece: PieceIndex, leaves: Option<Vec<[u8; 32]>>) {
        let Some(Torrent { hashes, meta }) = &mut self.torrent else {
            return;
        };
        let refused = hashes.hashed(meta, piece, leaves.as_deref());
        if let Some((conn, request)) = refused {
            self.command(conn, Command::RejectHashes(request));
        }
        self.serve_hashes();
    }

    pub(super) fn hashes(
        &mut self,
        now: Instant,
        conn: ConnectionId,
        request: &HashRequest,
        hashes: &[[u8; 32]],
    ) {
        let is_true = match &mut self.fetch {
            Some(Fetch::Layers(fetch)) => fetch.hashes(now, conn, request, hashes),
            _ => self.leaf_hashes(now, conn, request, hashes),
        };
        if !is_true {
            return self.false_hashes(now, conn);
        }
        self.advance_fetch(now);
    }

    pub(super) fn hashes_rejected(
        &mut self,
        now: Instant,
        conn: ConnectionId,
        request: &HashRequest,
    ) {
        if let Some(Fetch::Layers(fetch)) = &mut self.fetch {
            fetch.rejected(now, conn, request);
            return self.advance_fetch(now);
        }
        self.leaves_rejected(now, conn, request);
    }

    /// Goes on with the way from the magnet link to the metainfo.
    pub(super) fn advance_fetch(&mut self, now: Instant) {
        let peers = self.peers.iter().filter(|(_, peer)| peer.established);
        let commands = match &mut self.fetch {
            Some(Fetch::Metadata(fetch)) => {
                let sizes = peers.filter_map(|(conn, peer)| Some((*conn, peer.metadata_size?)));
                fetch.advance(now, sizes)
            }
            Some(Fetch::Layers(fetch)) => {
                // libtorrent closes a connection that asks for hashes without having agreed on
                // the v2 id, whatever the reserved bits say.
                let v2_id = fetch.meta().info_hash_v2().map(|hash| hash.swarm_id());
                let mut v2 = peers
                    .filter(|(_, peer)| v2_id.is_some() && peer.swarm_id == v2_id)
                    .map(|(conn, _)| *conn)
                    .peekable();
                // By a v1 magnet link nobody can be met under the v2 id: no use in waiting.
                let hopeless = v2.peek().is_none() && !fetch.may_meet_v2();
                let commands = fetch.advance(now, v2);
                let by_v1 = fetch.meta().kind() == Kind::Hybrid
                    && fetch.is_stuck()
                    && (hopeless || fetch.since() + LAYERS_PATIENCE <= now);
                if (fetch.is_done() || by_v1)
                    && let Some(Fetch::Layers(fetch)) = self.fetch.replace(Fetch::HandedOver)
                {
                    self.actions.push_back(Action::Metadata(fetch.into_meta()));
                }
                commands
            }
            _ => return,
        };
        for (conn, command) in commands {
            self.command(conn, command);
        }
    }
}
