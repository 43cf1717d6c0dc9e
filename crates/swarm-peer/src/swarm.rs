//! What the rest of the process sees of one bundle: [`SwarmHandle`], the mailbox of its task.

mod in_order;
mod shared;
mod stats;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};

use swarm_proto::download::{Want, WebSeedStats};
use swarm_proto::geometry::ByteRange;
use swarm_proto::id::SwarmId;
use swarm_proto::metainfo::Metainfo;
use swarm_proto::tracker::BridgeOffer;
use tokio::sync::oneshot;

use crate::connector::Trust;
use crate::link::accept::Incoming;
use crate::reader::VerifiedReader;
use crate::report::{PeerReport, TrackerReport};
use crate::uplink::{Downlink, Uplink};

pub(crate) use shared::{Message, Shared};
pub use stats::{SwarmError, SwarmState, SwarmStats};

/// One bundle in a node: how it goes, what is fetched of it, and its bytes.
///
/// Cheap to clone; dropping it changes nothing, the bundle stays until
/// [`Node::remove`](crate::Node::remove). Byte ranges are of the torrent's content: its files one
/// after the other, padding included, as [`Metainfo::files`] says where each lies. Rates are in
/// bytes a second, limits in bits.
///
/// ```
/// # use swarm_proto::metainfo::{FileHasher, MetainfoBuilder};
/// use swarm_peer::{AddBundle, Node, NodeConfig, Source, Storage, Trust};
/// use swarm_proto::download::Want;
/// use tokio_util::sync::CancellationToken;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let shutdown = CancellationToken::new();
/// # let config = || NodeConfig { listen: ([127, 0, 0, 1], 0).into(), ..NodeConfig::default() };
/// # let dir = tempfile::tempdir()?;
/// # std::fs::create_dir(dir.path().join("films"))?;
/// # let mut builder = MetainfoBuilder::new("films", 65_536);
/// # for (name, len) in [("a", 300_000), ("b", 200_000)] {
/// #     std::fs::write(dir.path().join("films").join(name), vec![7; len])?;
/// #     let mut hasher = FileHasher::new(65_536);
/// #     hasher.update(&vec![7; len]);
/// #     builder.file(vec![name.to_owned()], hasher.finish());
/// # }
/// # let torrent = builder.build()?;
/// # let other = Node::start(config(), shutdown.clone()).await?;
/// # let here = Storage::Folder { dir: dir.path().to_owned() };
/// # other.add(AddBundle::new(Source::from(torrent.clone()), here)).await?.wait_complete().await?;
/// # let node = Node::start(config(), shutdown.clone()).await?;
/// # let seed = other.listen_addr();
/// let mut bundle = AddBundle::new(Source::from(torrent), Storage::Memory);
/// bundle.want = Want::None; // for now
/// let films = node.add(bundle).await?;
/// films.add_peers(vec![seed], Trust::CommandLine).await;
///
/// // The second film, and nothing else.
/// let meta = films.metainfo().await?;
/// let film = meta.files().iter().find(|file| file.path == ["b"]).ok_or("no such film")?;
/// films.set_want(Want::Ranges(vec![film.range()])).await;
/// films.wait_held(film.range()).await?;
/// assert_eq!(films.held_bytes(&[film.range()]), 200_000);
/// assert!(!films.stats().complete);
/// # shutdown.cancel();
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct SwarmHandle {
    pub(crate) shared: Arc<Shared>,
}

impl SwarmHandle {
    /// The ids under which peers and trackers know it, v1 first.
    pub fn swarm_ids(&self) -> &[SwarmId] {
        &self.shared.swarm_ids
    }

    /// The metainfo; waits for it where the bundle was added by magnet link, and as long as it
    /// takes to find somebody who has it.
    ///
    /// # Errors
    /// [`SwarmError::Stopped`] or [`SwarmError::Storage`]: the swarm ended before it came.
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
        if let Some(why) = self.shared.unmet.get().filter(|_| stats.trouble.is_none()) {
            stats.trouble = Some(why.clone());
        }
        stats
    }

    /// The peers connected at this moment; none if the swarm has ended.
    pub async fn peers(&self) -> Vec<PeerReport> {
        let (to, from) = oneshot::channel();
        self.shared.tell(Message::Report(to)).await;
        from.await.unwrap_or_default()
    }

    /// How the web seeds do; those of which none may be asked are left out.
    pub async fn web_seeds(&self) -> Vec<WebSeedStats> {
        let (to, from) = oneshot::channel();
        self.shared.tell(Message::WebSeeds(to)).await;
        from.await.unwrap_or_default()
    }

    /// Has the trackers asked for figures (BEP 48), as far as that is polite: they show in
    /// [`Self::trackers`] as soon as they are here.
    pub fn ask_figures(&self) {
        self.shared.looked.send_modify(|count| *count += 1);
    }

    /// What each tracker said last, by its URL without what may be secret in it.
    pub fn trackers(&self) -> BTreeMap<String, TrackerReport> {
        let trackers = self.shared.trackers.lock();
        trackers.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until the check at the start is over: of a magnet link there is none before its
    /// metadata, see [`Self::metainfo`].
    ///
    /// # Errors
    /// [`SwarmError`]: the swarm ended before.
    pub async fn wait_checked(&self) -> Result<(), SwarmError> {
        let checking = |state: &SwarmState| *state == SwarmState::Checking;
        let mut state = self.shared.state.subscribe();
        let _ = state.wait_for(|state| !checking(state)).await;
        self.shared.ended().map_or(Ok(()), Err)
    }

    /// Waits until every piece is stored and in its file. Where not everything is wanted that may
    /// be never: see [`Self::wait_held`].
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

    /// Waits until the state is another than `seen`, and gives it: no change is missed, though of
    /// several in a row it may show the last alone.
    pub async fn state_after(&self, seen: &SwarmState) -> SwarmState {
        let mut state = self.shared.state.subscribe();
        // The sender lives as long as `self`.
        let changed = state.wait_for(|state| state != seen).await;
        changed.map_or(SwarmState::Stopped, |state| state.clone())
    }

    /// Has it rest, or go on. A bundle that rests leaves its peers and tells its trackers that it
    /// stopped; what is stored stays, and can be read.
    pub fn set_paused(&self, paused: bool) {
        self.shared
            .paused
            .send_if_modified(|now| std::mem::replace(now, paused) != paused);
    }

    /// Changes what is fetched. What is stored already stays, wanted or not.
    pub async fn set_want(&self, want: Want) {
        self.shared.tell(Message::Want(want)).await;
    }

    /// Peers to try, and who named them: where strangers may send us says
    /// [`NodeConfig::policy`](crate::NodeConfig::policy).
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

    /// Waits until the content range is held, as [`Self::holds`] has it. This asks for nothing:
    /// what is not wanted by [`Self::set_want`], a [`Hurry`] or a reader never comes.
    ///
    /// # Errors
    /// [`SwarmError`]: the swarm ended before, or the range leaves the bundle.
    pub async fn wait_held(&self, range: ByteRange) -> Result<(), SwarmError> {
        let meta = self.metainfo().await?;
        if range.end > meta.geometry().total_length() {
            return Err(SwarmError::OutOfRange);
        }
        let mut gained = self.shared.gained.subscribe();
        let mut state = self.shared.state.subscribe();
        while !self.holds(&range) {
            if let Some(error) = self.shared.ended() {
                return Err(error);
            }
            // Both senders live as long as `self`, and remember what happened since they were
            // last asked.
            tokio::select! {
                _ = gained.changed() => {}
                _ = state.changed() => {}
            }
        }
        Ok(())
    }

    /// Asks for a range ahead of all else that is wanted, in order, for as long as the answer
    /// lives; see [`Hurry::move_to`]. As [`Self::reader`] does, without reading.
    pub fn hurry(&self, range: ByteRange) -> Hurry {
        Hurry {
            id: self.shared.reader_opened(range, false),
            shared: Arc::clone(&self.shared),
        }
    }

    /// Reads content bytes, waiting for those that are not there yet and asking for them ahead of
    /// all others. Only verified bytes come out: of whole pieces, or of single blocks where the
    /// torrent has a v2 half and peers tell the blocks' hashes.
    ///
    /// # Errors
    /// [`SwarmError`]: the swarm has ended, its metadata is not known yet (see [`Self::metainfo`]),
    /// or the range leaves the content.
    pub fn reader(&self, range: ByteRange) -> Result<VerifiedReader, SwarmError> {
        if let Some(error) = self.shared.ended() {
            return Err(error);
        }
        let meta = self.try_metainfo().ok_or(SwarmError::NoMetadata)?;
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
        let meta = self.try_metainfo().ok_or(SwarmError::NoMetadata)?;
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
    /// Asks for another range instead, from now on.
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
