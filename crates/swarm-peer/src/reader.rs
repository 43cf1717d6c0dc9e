//! Reading out of the swarm: [`VerifiedReader`] over a range of bytes.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use futures_util::Stream;
use swarm_proto::geometry::ByteRange;
use swarm_proto::metainfo::Metainfo;
use tokio::io::{AsyncRead, ReadBuf};

use crate::swarm::{Message, Shared, SwarmError};

/// Bytes past the reading position whose pieces are asked for ahead of all others. More keeps a
/// fast reader from waiting, and delays the first bytes of other readers.
const LOOK_AHEAD: u64 = 1024 * 1024;

/// The same while nothing is read yet: a piece or two. Whoever waits for a first byte needs no
/// other piece to compete with its own.
const FIRST_AHEAD: u64 = 64 * 1024;

/// Bytes read from the store at once.
const CHUNK: u64 = 256 * 1024;

type Reading = Pin<Box<dyn Future<Output = io::Result<Bytes>> + Send>>;

/// Yields the bytes of a range in order, as they arrive and are verified: piece by piece, or block
/// by block where that can be done.
///
/// It is an [`AsyncRead`] and a [`Stream`] of chunks (256 KiB at most). While it lives, the
/// megabyte ahead of it is fetched before all else; dropping it ends that. To seek, drop it and
/// make another. Any number may read the same bundle.
///
/// It ends with an error if the swarm does: `ConnectionAborted` around a
/// [`SwarmError`](crate::SwarmError); or with the store's error if what is stored cannot be read,
/// and then the piece is fetched anew. A reader whose bytes nobody has waits for ever: put a
/// time-out around it.
///
/// ```
/// # use swarm_proto::metainfo::{FileHasher, MetainfoBuilder};
/// use swarm_peer::{AddBundle, Node, NodeConfig, Source, Storage};
/// use swarm_proto::download::Want;
/// use swarm_proto::geometry::ByteRange;
/// use tokio::io::AsyncReadExt as _;
/// use tokio_util::sync::CancellationToken;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let shutdown = CancellationToken::new();
/// # let config = || NodeConfig { listen: ([127, 0, 0, 1], 0).into(), ..NodeConfig::default() };
/// # let dir = tempfile::tempdir()?;
/// # let bytes: Vec<u8> = (0..1_000_000_u32).map(|at| (at / 100) as u8).collect();
/// # std::fs::create_dir(dir.path().join("films"))?;
/// # std::fs::write(dir.path().join("films/night.mkv"), &bytes)?;
/// # let mut hasher = FileHasher::new(262_144);
/// # hasher.update(&bytes);
/// # let mut builder = MetainfoBuilder::new("films", 262_144);
/// # builder.file(vec!["night.mkv".to_owned()], hasher.finish());
/// # let torrent = builder.build()?;
/// # let other = Node::start(config(), shutdown.clone()).await?;
/// # let here = Storage::Folder { dir: dir.path().to_owned() };
/// # other.add(AddBundle::new(Source::from(torrent.clone()), here)).await?.wait_complete().await?;
/// # let node = Node::start(config(), shutdown.clone()).await?;
/// let mut bundle = AddBundle::new(Source::from(torrent), Storage::Memory);
/// bundle.want = Want::None; // but what is read
/// bundle.peers = vec![other.listen_addr()];
/// let films = node.add(bundle).await?;
/// films.metainfo().await?;
///
/// // A thousand bytes in the middle of the first file.
/// let mut reader = films.file_reader(0, ByteRange::new(500_000, 501_000))?;
/// let mut scene = Vec::new();
/// reader.read_to_end(&mut scene).await?;
/// assert!(scene == bytes[500_000..501_000]);
/// # shutdown.cancel();
/// # Ok(())
/// # }
/// ```
pub struct VerifiedReader {
    shared: Arc<Shared>,
    meta: Arc<Metainfo>,
    /// What is not yet taken from the swarm.
    left: ByteRange,
    id: u64,
    reading: Option<Reading>,
    /// Taken from the swarm and not yet by the caller.
    chunk: Bytes,
}

impl VerifiedReader {
    pub(crate) fn new(shared: Arc<Shared>, meta: Arc<Metainfo>, range: ByteRange) -> Self {
        let id = shared.reader_opened(ahead(&range, FIRST_AHEAD), true);
        Self {
            shared,
            meta,
            left: range,
            id,
            reading: None,
            chunk: Bytes::new(),
        }
    }

    /// Bytes that are still to come; 0 at the end, and after an error.
    pub fn remaining(&self) -> u64 {
        self.left.len() + self.chunk.len() as u64
    }

    /// The next chunk; `None` at the end.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if !self.chunk.is_empty() {
            return Poll::Ready(Some(Ok(std::mem::take(&mut self.chunk))));
        }
        if self.left.is_empty() {
            return Poll::Ready(None);
        }
        let (shared, meta, left) = (&self.shared, &self.meta, self.left);
        let reading = self.reading.get_or_insert_with(|| {
            Box::pin(next_chunk(Arc::clone(shared), Arc::clone(meta), left))
        });
        let result = ready!(reading.as_mut().poll(cx));
        self.reading = None;
        match &result {
            Ok(bytes) => {
                self.left.start += bytes.len() as u64;
                self.shared
                    .reader_moved(self.id, ahead(&self.left, LOOK_AHEAD));
            }
            Err(_) => self.left.start = self.left.end,
        }
        Poll::Ready(Some(result))
    }
}

impl Drop for VerifiedReader {
    fn drop(&mut self) {
        self.shared.reader_closed(self.id);
    }
}

impl Stream for VerifiedReader {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_chunk(cx)
    }
}

impl AsyncRead for VerifiedReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match ready!(self.poll_chunk(cx)) {
            None => Poll::Ready(Ok(())),
            Some(Err(error)) => Poll::Ready(Err(error)),
            Some(Ok(mut bytes)) => {
                let len = bytes.len().min(buf.remaining());
                bytes.copy_to_slice(buf.initialize_unfilled_to(len));
                buf.advance(len);
                self.chunk = bytes;
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl std::fmt::Debug for VerifiedReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VerifiedReader")
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

fn ahead(left: &ByteRange, most: u64) -> ByteRange {
    let end = left.end.min(left.start.saturating_add(most));
    ByteRange::new(left.start, end)
}

/// Waits for the first byte of `left`, then reads what is there in one go: from the store, or from
/// blocks whose piece is not whole yet.
async fn next_chunk(
    shared: Arc<Shared>,
    meta: Arc<Metainfo>,
    left: ByteRange,
) -> io::Result<Bytes> {
    let geometry = meta.geometry();
    let wanted = ByteRange::new(left.start, left.end.min(left.start.saturating_add(CHUNK)));
    let mut gained = shared.gained.subscribe();
    let mut kept = shared.kept.subscribe();
    let mut state = shared.state.subscribe();
    let end = loop {
        gained.mark_unchanged();
        kept.mark_unchanged();
        state.mark_unchanged();
        let mut end = wanted.start;
        for piece in geometry.pieces_of(&wanted) {
            if !shared.has(piece) {
                break;
            }
            end = geometry.piece_range(piece).end.min(wanted.end);
        }
        if end > wanted.start {
            break end;
        }
        // A piece that is stored in between says so by `gained`.
        if let Some(bytes) = shared.readers().read(&wanted) {
            return Ok(bytes);
        }
        if let Some(error) = shared.ended() {
            return Err(broken(error));
        }
        // The senders live in `shared`.
        tokio::select! {
            _ = gained.changed() => {}
            _ = kept.changed() => {}
            _ = state.changed() => {}
        }
    };
    let store = shared.store.get().cloned();
    let store = store.ok_or_else(|| broken(SwarmError::Stopped))?;
    let range = ByteRange::new(wanted.start, end);
    let read = tokio::task::spawn_blocking(move || store.read(&range));
    match read.await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) => {
            let unread = geometry.pieces_of(&range).collect();
            shared.tell(Message::Unread(unread)).await;
            Err(io::Error::other(error))
        }
        Err(_) => Err(broken(SwarmError::Stopped)),
    }
}

fn broken(error: SwarmError) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, error)
}
