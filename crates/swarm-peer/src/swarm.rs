//! What the rest of the process sees of one bundle: [`SwarmHandle`], the mailbox of its task.

mod shared;
mod stats;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};

use swarm_proto::download::Want;
use swarm_proto::geometry::ByteRange;
use swarm_proto::id::SwarmId;
use swarm_proto::metainfo::{FileEntry, Metainfo};
use swarm_proto::tracker::BridgeOffer;
use tokio::sync::oneshot;

use crate::connector::Trust;
use crate::link::accept::Incoming;
use crate::reader::VerifiedReader;
use crate::report::{PeerReport, TrackerReport};
use crate::uplink::{Downlink, Uplink};

pub(crate) use shared::{Message, Shared};
pub use stats::{SwarmError, SwarmState, SwarmStats};

/// One bundle in a node. Cheap to clone; dropping it changes nothing (see `Node::remove`).
#[derive(Clone)]
pub struct SwarmHandle {
    pub(crate) shared: Arc<Shared>,
}

impl SwarmHandle {
    /// The ids under which peers and trackers know it, v1 first.
    pub fn swarm_ids(&self) -> &[SwarmId] {
        &self.shared.swarm_ids
    }

    /// The metainfo; waits for it where the bundle was added by magnet link.
    ///
    /// # Errors
    /// [`SwarmError`]: the swarm ended before it came.
    pub async fn metainfo(&self) -> Result<Arc<Metainfo>, SwarmError> {
        let mut meta = self.shared.meta.subscribe();
        let mut state = self.shared.state.subscribe();
        loop {
            if let Some(meta) = &*meta.borrow_and_update() {
                return Ok(Arc::clone(meta));
            }
            if let Some(error) = self.shared.ended() {
                return Err(error);
            }
            // Both senders live as long as `self`.
            tokio::select! {
                _ = meta.changed() => {}
                _ = state.changed() => {}
            }
        }
    }

    /// The metainfo, if it is known by now.
    pub fn try_metainfo(&self) -> Option<Arc<Metainfo>> {
        self.shared.meta.borrow().clone()
    }

    /// What it is doing.
    pub fn state(&self) -> SwarmState {
        self.shared.state.borrow().clone()
    }

    /// Figures, at most half a second old.
    pub fn stats(&self) -> SwarmStats {
        let stats = self.shared.stats.lock();
        let mut stats = stats.unwrap_or_else(PoisonError::into_inner).clone();
        stats.state = self.state();
        stats
    }

    /// The peers connected at this moment.
    pub async fn peers(&self) -> Vec<PeerReport> {
        let (to, from) = oneshot::channel();
        self.shared.tell(Message::Report(to)).await;
        from.await.unwrap_or_default()
    }

    /// What each tracker said last, by its URL without what may be secret in it.
    pub fn trackers(&self) -> BTreeMap<String, TrackerReport> {
        let trackers = self.shared.trackers.lock();
        trackers.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until the check at the start is over.
    ///
    /// # Errors
    /// [`SwarmError`]: the swarm ended before.
    pub async fn wait_checked(&self) -> Result<(), SwarmError> {
        let checking = |state: &SwarmState| *state == SwarmState::Checking;
        let mut state = self.shared.state.subscribe();
        let _ = state.wait_for(|state| !checking(state)).await;
        self.shared.ended().map_or(Ok(()), Err)
    }

    /// Waits until every piece is stored.
    ///
    /// # Errors
    /// [`SwarmError`]: the swarm ended before.
    pub async fn wait_complete(&self) -> Result<(), SwarmError> {
        let mut state = self.shared.state.subscribe();
        loop {
            if *state.borrow_and_update() == SwarmState::Seeding {
                return Ok(());
            }
            if let Some(error) = self.shared.ended() {
                return Err(error);
            }
            let _ = state.changed().await;
        }
    }

    /// Waits for the next change of [`Self::state`].
    pub async fn state_changed(&self) {
        let _ = self.shared.state.subscribe().changed().await;
    }

    /// Changes what is fetched.
    pub async fn set_want(&self, want: Want) {
        self.shared.tell(Message::Want(want)).await;
    }

    /// Peers to try, and who named them.
    pub async fn add_peers(&self, addrs: Vec<SocketAddr>, trust: Trust) {
        if let Some(&swarm_id) = self.shared.swarm_ids.first() {
            let peers = Message::Peers {
                addrs,
                swarm_id,
                trust,
            };
            self.shared.tell(peers).await;
        }
    }

    /// Changes what is offered to visitors, told to trackers with the next announce.
    pub fn set_bridge(&self, bridge: Option<BridgeOffer>) {
        let offered = self.shared.bridge.lock();
        *offered.unwrap_or_else(PoisonError::into_inner) = bridge;
    }

    /// What this bundle may send, beside the node's limit for all.
    pub fn uplink(&self) -> &Uplink {
        &self.shared.uplink
    }

    /// What this bundle may receive, beside the node's limit for all.
    pub fn downlink(&self) -> &Downlink {
        &self.shared.downlink
    }

    /// Asks all trackers anew, as soon as they allow it.
    pub fn announce_now(&self) {
        self.shared.announce_now.send_modify(|count| *count += 1);
    }

    /// Whether every byte of the content range lies in a stored piece: one that was verified whole
    /// and handed to the store, though perhaps not synced to the disk. What is held stays so until
    /// the store turns out to have lost the piece, as when somebody changes a file.
    ///
    /// Blocks that readers may have before their piece is whole don't count. Nothing is held while
    /// the metadata is unknown or the check at the start goes on, nor what reaches past the end of
    /// the content. An empty range within it is held.
    pub fn holds(&self, range: &ByteRange) -> bool {
        let Some(meta) = self.try_metainfo() else {
            return false;
        };
        let have = self.shared.have.read();
        let have = have.unwrap_or_else(PoisonError::into_inner);
        range.end <= meta.geometry().total_length()
            && meta.geometry().pieces_of(range).all(|p| have.contains(p))
    }

    /// How many bytes of these content ranges lie in stored pieces.
    pub fn held_bytes(&self, ranges: &[ByteRange]) -> u64 {
        let Some(meta) = self.try_metainfo() else {
            return 0;
        };
        let have = self.shared.have.read();
        let have = have.unwrap_or_else(PoisonError::into_inner);
        let geometry = meta.geometry();
        let within = |range: &ByteRange| {
            let pieces = geometry.pieces_of(range).filter(|p| have.contains(*p));
            let parts = pieces.map(|piece| {
                let piece = geometry.piece_range(piece);
                let end = piece.end.min(range.end);
                end.saturating_sub(piece.start.max(range.start))
            });
            parts.sum::<u64>()
        };
        ranges.iter().map(within).sum()
    }

    /// From the first byte of these content ranges that is not stored to the end of its range.
    pub fn first_missing(&self, ranges: &[ByteRange]) -> Option<ByteRange> {
        let meta = self.try_metainfo()?;
        let geometry = meta.geometry();
        let have = self.shared.have.read();
        let have = have.unwrap_or_else(PoisonError::into_inner);
        ranges.iter().find_map(|range| {
            let piece = geometry.pieces_of(range).find(|p| !have.contains(*p))?;
            let start = geometry.piece_offset(piece).max(range.start);
            Some(ByteRange::new(start, range.end))
        })
    }

    /// Waits until a piece more is stored.
    pub async fn gained(&self) {
        // The sender lives as long as `self`.
        let _ = self.shared.gained.subscribe().changed().await;
    }

    /// Asks for a range ahead of all else that is wanted, in order, for as long as the answer
    /// lives; see [`Hurry::move_to`]. As [`Self::reader`] does, without reading.
    pub fn hurry(&self, range: ByteRange) -> Hurry {
        Hurry {
            id: self.shared.reader_opened(range, false),
            shared: Arc::clone(&self.shared),
        }
    }

    /// Whether the whole file is stored.
    pub fn holds_file(&self, index: usize) -> bool {
        self.try_metainfo()
            .and_then(|meta| meta.files().get(index).map(FileEntry::range))
            .is_some_and(|range| self.holds(&range))
    }

    /// Reads content bytes, waiting for those that are not there yet and asking for them ahead of
    /// all others. Only verified bytes come out: of whole pieces, or of single blocks where the
    /// torrent has a v2 half and peers tell the blocks' hashes.
    ///
    /// # Errors
    /// [`SwarmError`]: the swarm has ended, its metadata is not known yet, or the range leaves it.
    pub fn reader(&self, range: ByteRange) -> Result<VerifiedReader, SwarmError> {
        if let Some(error) = self.shared.ended() {
            return Err(error);
        }
        let meta = self.try_metainfo().ok_or(SwarmError::OutOfRange)?;
        if range.start > range.end || range.end > meta.geometry().total_length() {
            return Err(SwarmError::OutOfRange);
        }
        Ok(VerifiedReader::new(Arc::clone(&self.shared), meta, range))
    }

    /// [`Self::reader`] for bytes within one file, counted from its start; `index` is that of
    /// `Metainfo::files`.
    ///
    /// # Errors
    /// As there.
    pub fn file_reader(
        &self,
        index: usize,
        within: ByteRange,
    ) -> Result<VerifiedReader, SwarmError> {
        let meta = self.try_metainfo().ok_or(SwarmError::OutOfRange)?;
        let file = meta.files().get(index).ok_or(SwarmError::OutOfRange)?;
        if within.end > file.length || within.start > within.end {
            return Err(SwarmError::OutOfRange);
        }
        let start = file.offset + within.start;
        self.reader(ByteRange::new(start, start + within.len()))
    }

    /// Passes a caller on; it is dropped if the task is swamped.
    pub(crate) fn incoming(&self, incoming: Incoming) {
        let _ = self.shared.mailbox.try_send(Message::Incoming(incoming));
    }
}

/// A range that is asked for ahead of all else; see [`SwarmHandle::hurry`].
pub struct Hurry {
    shared: Arc<Shared>,
    id: u64,
}

impl Hurry {
    /// Another range from now on.
    pub fn move_to(&self, range: ByteRange) {
        self.shared.reader_moved(self.id, range);
    }
}

impl Drop for Hurry {
    fn drop(&mut self) {
        self.shared.reader_closed(self.id);
    }
}

impl std::fmt::Debug for Hurry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hurry").field("id", &self.id).finish()
    }
}

impl std::fmt::Debug for SwarmHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SwarmHandle")
            .field("swarm_ids", &self.shared.swarm_ids)
            .field("state", &self.state())
            .finish()
    }
}
