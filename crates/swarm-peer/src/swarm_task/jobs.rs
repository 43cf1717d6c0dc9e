//! What runs beside the task: hashing, writing, syncing, calling.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::Instant;

use swarm_proto::download::{Download, Want};
use swarm_proto::geometry::PieceIndex;
use swarm_proto::id::SwarmId;
use swarm_proto::merkle::{self, Hash};
use swarm_proto::metainfo::Metainfo;
use swarm_proto::verify::{
    AssembledPiece, VerifiedBytes, VerifyError, is_sha1_decisive, verify, verify_two,
};

use super::open::Opened;
use super::{Content, FULL_DISK_PAUSE, SwarmTask};
use crate::connector::ConnectError;
use crate::http::chain;
use crate::link::Stream;
use crate::node::Source;
use crate::peers::Ending;
use crate::places::Place;
use crate::store::{PieceStore, ResumeState, StoreError, hash_name};
use crate::swarm::{SwarmError, SwarmState};

/// What a job brought.
pub(super) enum Done {
    /// Verified and written.
    Stored(PieceIndex),
    /// Two pieces that were verified together.
    Both(Box<[Done; 2]>),
    /// Not what the torrent says.
    False(VerifyError),
    /// Pieces in doubt that are not there any more.
    Rechecked(Vec<PieceIndex>),
    /// Leaf hashes of a stored piece; none if it can't be read.
    Leaves(PieceIndex, Option<Vec<Hash>>),
    /// Verified, and the disk would not have it.
    Unwritten(VerifiedBytes, StoreError),
    /// The state file is written, or not.
    Saved(Result<(), SaveError>),
    /// Empty files are made; every byte is in its file.
    Finished(Result<(), StoreError>),
    /// The same of the files that were chosen.
    Settled(Result<(), StoreError>),
    /// Room is set aside for what is wanted; or the file system cannot do that (`false`).
    RoomMade(Result<bool, StoreError>),
    /// The store for a magnet link's metadata.
    Opened(Box<Result<Opened, SwarmError>>),
    /// A call was answered, or not.
    Dialled {
        addr: SocketAddr,
        swarm_id: SwarmId,
        result: Result<Stream, ConnectError>,
        place: Place,
    },
}

/// Bytes read at a time to hash them; a multiple of a block.
const LEAVES_READ_LEN: u32 = 256 * 1024;

/// Pieces being verified and written at a time: enough to keep all cores and the disk busy.
fn parallel() -> usize {
    // The system reads several files to tell.
    static CORES: OnceLock<usize> = OnceLock::new();
    let cores = || std::thread::available_parallelism().map_or(2, usize::from);
    CORES.get_or_init(cores) + 1
}

impl SwarmTask {
    /// Starts verifying what waits, as far as there is room.
    ///
    /// Two pieces held against their SHA-1 cost little more than one, so while another is being
    /// verified a single one waits for company.
    pub(super) fn verify_more(&mut self) {
        let Some(content) = &self.content else {
            return;
        };
        let decided_by_sha1 = |next: &AssembledPiece| is_sha1_decisive(&content.meta, next.piece);
        while self.verifying < parallel()
            && let Some(first) = self.to_verify.pop_front()
        {
            let mut second = None;
            if decided_by_sha1(&first) {
                let next = self.to_verify.front();
                if next.is_none() && self.verifying > 0 {
                    return self.to_verify.push_front(first);
                }
                if next.is_some_and(decided_by_sha1) {
                    second = self.to_verify.pop_front();
                }
            }
            let meta = Arc::clone(&content.meta);
            let store = Arc::clone(&content.store);
            self.verifying += 1 + usize::from(second.is_some());
            let stored = move |result| match result {
                Ok(piece) => write(&*store, piece),
                Err(error) => Done::False(error),
            };
            self.jobs.spawn_blocking(move || match second {
                None => stored(verify(&meta, first)),
                Some(second) => {
                    Done::Both(Box::new(verify_two(&meta, [first, second]).map(stored)))
                }
            });
        }
    }

    /// Hashes the blocks of a stored piece, for a peer that asks for them.
    pub(super) fn hash_leaves(&mut self, download: &mut Download, piece: PieceIndex) {
        let Some(content) = &self.content else {
            return download.leaves_hashed(piece, None);
        };
        let meta = Arc::clone(&content.meta);
        let store = Arc::clone(&content.store);
        self.jobs.spawn_blocking(move || {
            let leaves = leaves(&meta, &*store, piece);
            let leaves = leaves.inspect_err(|error| {
                tracing::warn!(bundle = %meta.name(), piece = piece.get(), "cannot read: {}", chain(error));
            });
            Done::Leaves(piece, leaves.ok())
        });
    }

    /// Writes a piece that was verified before and found no room.
    pub(super) fn write_again(&mut self, piece: VerifiedBytes) {
        if let Some(content) = &self.content {
            self.verifying += 1;
            let store = Arc::clone(&content.store);
            self.jobs.spawn_blocking(move || write(&*store, piece));
        }
    }

    pub(super) fn done(&mut self, download: &mut Download, done: Done) -> Result<(), SwarmError> {
        let now = Instant::now();
        match done {
            Done::Stored(piece) => {
                self.verifying = self.verifying.saturating_sub(1);
                self.trouble = None;
                self.stored(piece);
                download.piece_verified(now, piece);
            }
            Done::Both(both) => {
                for done in *both {
                    self.done(download, done)?;
                }
            }
            Done::False(error) => {
                self.verifying = self.verifying.saturating_sub(1);
                tracing::debug!(bundle = %self.name(), %error, "piece refused");
                download.piece_failed(now, &error);
            }
            Done::Rechecked(lost) => self.rechecked(download, &lost),
            Done::Leaves(piece, leaves) => download.leaves_hashed(piece, leaves),
            Done::Unwritten(piece, error) => {
                self.verifying = self.verifying.saturating_sub(1);
                let text = chain(&error);
                if !error.may_pass() {
                    return Err(SwarmError::Storage(text));
                }
                if self.trouble.is_none() {
                    tracing::warn!(bundle = %self.name(), "cannot write, waiting: {text}");
                }
                self.trouble = Some(text);
                self.unwritten.push(piece);
                self.retry_at = Some(now + FULL_DISK_PAUSE);
            }
            Done::Saved(result) => {
                if let Some(content) = &mut self.content {
                    content.save_at = now;
                    content.saved(&result);
                    if let Err(error) = result {
                        tracing::warn!(bundle = %self.name(), "{error}");
                    }
                }
            }
            // What was found wrong meanwhile is fetched first.
            Done::Finished(Ok(())) if !download.is_complete() => {}
            Done::Finished(Ok(())) => {
                self.publish_now(now, download);
                {
                    let stats = self.shared.stats.lock();
                    let mut stats = stats.unwrap_or_else(PoisonError::into_inner);
                    stats.complete = true;
                    stats.have = stats.pieces;
                }
                self.shared.state.send_replace(SwarmState::Seeding);
                if self.content.as_ref().is_some_and(|content| !content.saving) {
                    self.save();
                }
            }
            Done::Settled(Ok(())) => self.settled(download),
            Done::Settled(Err(error)) | Done::Finished(Err(error)) => {
                return Err(SwarmError::Storage(chain(&error)));
            }
            Done::RoomMade(made) => self.room_made(download, made)?,
            Done::Opened(opened) => {
                let opened = match *opened {
                    Err(SwarmError::Stopped) => return Ok(()),
                    opened => opened?,
                };
                let meta = Arc::clone(&opened.meta);
                let have = opened.checked.have.clone();
                self.take_content(opened);
                let want = match (&self.bundle.source, self.bundle.want.clone()) {
                    // Everything, unless the link chooses (BEP 53).
                    (Source::Magnet(magnet), Want::All) => {
                        Want::selected(&meta, &magnet.select_only)
                    }
                    (_, want) => want,
                };
                self.want(download, want);
                download.metadata(now, meta, have);
                if download.is_complete() {
                    self.finish_soon();
                }
                self.follow_readers(download);
            }
            Done::Dialled {
                addr,
                swarm_id,
                result,
                place,
            } => {
                self.dialling = self.dialling.saturating_sub(1);
                match result {
                    Ok(stream) => self.called(download, stream, addr, swarm_id, place),
                    Err(error) => {
                        tracing::debug!(%addr, "cannot reach peer: {}", chain(&error));
                        self.book.ended(&addr, Ending::Failed, now);
                        download.unreachable(now, addr);
                    }
                }
            }
        }
        self.verify_more();
        Ok(())
    }

    fn stored(&mut self, piece: PieceIndex) {
        if let Some(content) = &mut self.content {
            content.unsaved = true;
        }
        let have = self.shared.have.write();
        have.unwrap_or_else(PoisonError::into_inner).insert(piece);
        self.shared.readers().stored(piece);
        self.shared.gained.send_modify(|count| *count += 1);
    }

    /// Every piece is there: what is left to do to the files is done, then the swarm is a seed.
    pub(super) fn finish_soon(&mut self) {
        if let Some(content) = &mut self.content
            && !content.finished
        {
            content.finished = true;
            let store = Arc::clone(&content.store);
            self.jobs
                .spawn_blocking(move || Done::Finished(store.finish(None)));
        }
    }

    /// Makes durable and records what is stored by now, beside everything else.
    pub(super) fn save(&mut self) {
        let have = self.shared.have.read();
        let have = have.unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(content) = &mut self.content {
            content.unsaved = false;
            let Some(save) = saving(content, have) else {
                return;
            };
            content.saving = true;
            self.jobs.spawn_blocking(move || Done::Saved(save()));
        }
    }

    /// Lets writes under way end, then saves once more.
    pub(super) async fn save_last(&mut self) {
        while let Some(done) = self.jobs.join_next().await {
            match done {
                Ok(Done::Stored(piece)) => self.stored(piece),
                Ok(Done::Both(both)) => {
                    for done in *both {
                        if let Done::Stored(piece) = done {
                            self.stored(piece);
                        }
                    }
                }
                Ok(Done::Saved(result)) => {
                    if let Some(content) = &mut self.content {
                        content.saved(&result);
                    }
                    if let Err(error) = result {
                        tracing::warn!(bundle = %self.name(), "{error}");
                    }
                }
                _ => {}
            }
        }
        let have = self.shared.have.read();
        let have = have.unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(content) = &self.content
            && content.unsaved
            && let Some(save) = saving(content, have)
            && let Ok(Err(error)) = tokio::task::spawn_blocking(save).await
        {
            tracing::warn!(bundle = %self.name(), "{error}");
        }
    }
}

impl Content {
    /// A save has ended.
    fn saved(&mut self, result: &Result<(), SaveError>) {
        self.saving = false;
        match result {
            Ok(()) => {}
            // The system may drop what it could not sync, and say so only once: from now on nothing
            // here is recorded, and the next start hashes it all.
            Err(SaveError::Sync(_)) => self.state_path = None,
            Err(SaveError::State(_)) => self.unsaved = true,
        }
    }
}

/// Why what is stored could not be recorded.
#[derive(Debug, thiserror::Error)]
pub(super) enum SaveError {
    #[error("cannot make pieces durable: {0}")]
    Sync(String),
    #[error("cannot save state: {0}")]
    State(std::io::Error),
}

/// The hash of each block of data in the piece, read a little at a time.
fn leaves(
    meta: &Metainfo,
    store: &dyn PieceStore,
    piece: PieceIndex,
) -> Result<Vec<Hash>, StoreError> {
    let data_len = meta.piece_tree(piece).map_or(0, |tree| tree.data_len);
    let mut leaves = Vec::new();
    for begin in (0..data_len).step_by(LEAVES_READ_LEN as usize) {
        let len = LEAVES_READ_LEN.min(data_len - begin);
        leaves.extend(merkle::leaves(&store.read_in_piece(piece, begin, len)?));
    }
    Ok(leaves)
}

fn write(store: &dyn PieceStore, piece: VerifiedBytes) -> Done {
    match store.write(&piece) {
        Ok(()) => Done::Stored(piece.piece()),
        Err(error) => Done::Unwritten(piece, error),
    }
}

/// The job that syncs first and records after: what is in the file is on the disk.
fn saving(
    content: &Content,
    pieces: swarm_proto::bitfield::Bitfield,
) -> Option<impl FnOnce() -> Result<(), SaveError> + Send + 'static> {
    let path = content.state_path.clone()?;
    let store = Arc::clone(&content.store);
    let bundle = hash_name(&content.meta);
    Some(move || {
        store
            .sync()
            .map_err(|error| SaveError::Sync(chain(&error)))?;
        let state = ResumeState {
            bundle,
            pieces,
            stamps: store.stamps_to_record(),
        };
        state.save(&path).map_err(SaveError::State)
    })
}

#[cfg(test)]
mod tests;
