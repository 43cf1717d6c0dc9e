//! Blocks as a peer counts them.
//!
//! To us, and to whoever knows BEP 52, a block ends at its last byte that is not padding (BEP 47):
//! what is behind it is zeros that nobody needs to send. To a client that knows BEP 3 alone
//! padding is bytes like any others, and there are such that hang up on a request that ends
//! anywhere but at a block's or a piece's end (rqbit 9). So of those whole blocks are asked for,
//! and the padding is cut off as it comes.
//!
//! ```text
//! assembler, peer.asked, endgame, proofs:   our blocks
//!          │ ask, cancel        ▲ our_range, our_block
//!          ▼                    │
//! sessions of BEP 3 peers:           whole blocks
//! ```

use std::time::Instant;

use super::Download;
use crate::geometry::{BLOCK_LEN, BlockRange};
use crate::id::SwarmId;
use crate::metainfo::Metainfo;
use crate::session::{Block, Command, ConnectionId};

/// Bytes of the block up to its last one that is not padding.
pub(super) fn content_len(meta: &Metainfo, block: &BlockRange) -> u32 {
    let content = meta.content(&meta.geometry().block_bytes(block));
    u32::try_from(content).map_or(block.len(), |len| len.min(block.len()))
}

impl Download {
    /// The id of the torrent's v2 half.
    pub(super) fn v2_id(&self) -> Option<SwarmId> {
        let hash = self.meta()?.info_hash_v2()?;
        Some(hash.swarm_id())
    }

    /// Whether padding is a part of what the peer is asked for.
    fn counts_padding(&self, conn: ConnectionId) -> bool {
        let by_v1 = |id: Option<SwarmId>| id.is_none() || id != self.v2_id();
        let peer = self.peers.get(&conn);
        peer.is_some_and(|peer| !peer.knows_v2 && by_v1(peer.swarm_id))
    }

    /// Asks the peer for a block of ours.
    pub(super) fn ask(&mut self, conn: ConnectionId, range: BlockRange) {
        let range = self.their_range(conn, range);
        self.command(conn, Command::Request(range));
    }

    /// Takes back that the peer was asked for a block of ours.
    pub(super) fn cancel(&mut self, conn: ConnectionId, range: BlockRange) {
        let range = self.their_range(conn, range);
        self.command(conn, Command::Cancel(range));
    }

    /// What the peer is asked for, to get a block of ours.
    fn their_range(&self, conn: ConnectionId, range: BlockRange) -> BlockRange {
        let nth = range.begin() / BLOCK_LEN;
        match self.geometry() {
            Some(geometry) if self.counts_padding(conn) => {
                geometry.nth_block(range.piece(), nth).unwrap_or(range)
            }
            _ => range,
        }
    }

    /// Our block, of what the peer was asked for.
    pub(super) fn our_range(&self, conn: ConnectionId, range: BlockRange) -> BlockRange {
        match self.counts_padding(conn) {
            true => self.without_padding(range).unwrap_or(range),
            false => range,
        }
    }

    /// The block up to its last byte that is not padding; `None` if it is padding altogether.
    pub(super) fn without_padding(&self, range: BlockRange) -> Option<BlockRange> {
        let meta = self.meta()?;
        let len = content_len(meta, &range);
        let cut = meta
            .geometry()
            .block(range.piece().get(), range.begin(), len);
        cut.ok()
    }

    /// The block without the padding that the peer sent with it; `None` if that is not zeros and
    /// the peer, as a liar, gone: the SHA-1 of a piece covers its padding.
    pub(super) fn our_block(
        &mut self,
        now: Instant,
        conn: ConnectionId,
        block: Block,
    ) -> Option<Block> {
        let range = self.our_range(conn, block.range());
        let (block, padding) = block.cut(range)?;
        if padding.iter().all(|byte| *byte == 0) {
            return Some(block);
        }
        self.false_block(now, conn, range);
        None
    }
}
