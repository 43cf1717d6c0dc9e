//! Blocks read from the store for a peer: many by one system call, into buffers used again.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use swarm_proto::geometry::{BlockRange, PieceIndex};
use swarm_proto::limits::{BLOCK_LEN_MAX, REQUESTS_PASSED_MAX};

use crate::http::chain;
use crate::memory::{LinkMemory, LinkShare};
use crate::store::{PieceStore, StoreError};

/// Bytes of a buffer that is used again: all blocks that a session passes on at a time.
const BUFFER_LEN: usize = REQUESTS_PASSED_MAX * BLOCK_LEN_MAX as usize;

/// Buffers kept by the process while nobody needs them: 2 MiB. Kept by each link they would cost
/// that much a peer, and given back to the allocator they would be page faults and zeroing anew.
const SPARE_MAX: usize = 8;

static SPARE: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// A block that a peer asked for, and the store that has it.
pub(super) type Wanted = (BlockRange, Arc<dyn PieceStore>);

/// What came of reading.
#[derive(Default)]
pub(super) struct Served {
    /// Each block asked for; `None` if it can't be read.
    pub(super) blocks: Vec<(BlockRange, Option<Bytes>)>,
    /// Pieces that the store could not give.
    pub(super) unread: Vec<PieceIndex>,
}

/// What a link holds of the memory for blocks to send: its least, one block, always, and more
/// while there is some left.
pub(super) struct Serving {
    memory: Arc<LinkMemory>,
    /// Cloned for each buffer whose blocks are not all sent.
    held: Arc<()>,
}

/// Memory for one buffer; given back with the last clone.
#[derive(Clone)]
pub(super) struct Lease {
    _share: Arc<LinkShare>,
    _held: Arc<()>,
}

impl Serving {
    pub(super) fn new(memory: Arc<LinkMemory>) -> Self {
        Self {
            memory,
            held: Arc::new(()),
        }
    }

    /// Takes out what may be read now, with the memory for it. What is left waits until something
    /// was sent.
    pub(super) fn take(&self, wanted: &mut VecDeque<Wanted>) -> Option<(Vec<Wanted>, Lease)> {
        let mut count = wanted.len();
        let share = loop {
            let len: usize = wanted
                .iter()
                .take(count)
                .map(|(r, _)| r.len() as usize)
                .sum();
            let bytes = buffer_len(len) as u64;
            if count == 0 {
                return None;
            }
            if let Some(share) = self.memory.try_take(bytes) {
                break share;
            }
            if count == 1 && Arc::strong_count(&self.held) == 1 {
                break self.memory.take(bytes);
            }
            count /= 2;
        };
        let lease = Lease {
            _share: Arc::new(share),
            _held: Arc::clone(&self.held),
        };
        Some((wanted.drain(..count).collect(), lease))
    }
}

/// Bytes of the buffer for so many bytes of blocks. A few blocks must not hold a whole buffer for
/// as long as a slow peer takes.
fn buffer_len(len: usize) -> usize {
    match len <= BUFFER_LEN / 4 || len > BUFFER_LEN {
        true => len,
        false => BUFFER_LEN,
    }
}

/// Bytes that go back where they came from once the last block of them is sent.
struct Buffer(
    Vec<u8>,
    #[expect(dead_code, reason = "given back when dropped")] Lease,
);

impl Buffer {
    fn of(len: usize, lease: Lease) -> Self {
        let len = buffer_len(len);
        if len != BUFFER_LEN {
            return Self(vec![0; len], lease);
        }
        let spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Self(spare.unwrap_or_else(|| vec![0; BUFFER_LEN]), lease)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.0.len() == BUFFER_LEN {
            let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
            if spare.len() < SPARE_MAX {
                spare.push(std::mem::take(&mut self.0));
            }
        }
    }
}

/// Reads blocks; neighbours within a piece by one system call. Blocks.
pub(super) fn read_blocks(wanted: &[Wanted], lease: Lease) -> Served {
    let served = read_with(wanted, lease, |store, at, out| {
        Some(store.read_into(at, out))
    });
    served.unwrap_or_default()
}

/// [`read_blocks`] if all of it is in memory, so that nobody waits: on its own thread every few
/// blocks cost two switches, which is more than reading them.
pub(super) fn read_blocks_at_once(wanted: &[Wanted], lease: Lease) -> Option<Served> {
    read_with(wanted, lease, |store, at, out| store.read_at_once(at, out))
}

fn read_with(
    wanted: &[Wanted],
    lease: Lease,
    read: impl Fn(&dyn PieceStore, u64, &mut [u8]) -> Option<Result<(), StoreError>>,
) -> Option<Served> {
    let total: usize = wanted.iter().map(|(range, _)| range.len() as usize).sum();
    let mut buffer = Buffer::of(total, lease);
    let mut served = Served::default();
    let mut is_read = Vec::with_capacity(wanted.len());
    let mut rest = wanted;
    let mut at = 0;
    while let Some(((first, store), _)) = rest.split_first() {
        let mut end = first.end();
        let mut run = 1;
        while let Some((next, _)) = rest.get(run)
            && next.piece() == first.piece()
            && next.begin() == end
        {
            end = next.end();
            run += 1;
        }
        rest = rest.get(run..).unwrap_or_default();
        let len = (end - first.begin()) as usize;
        let piece = first.piece();
        let start = u64::from(piece.get()) * store.piece_length() + u64::from(first.begin());
        let place = buffer.0.get_mut(at..at + len).unwrap_or_default();
        let result = read(&**store, start, place)?;
        if let Err(error) = &result {
            let error = chain(error);
            tracing::warn!(
                piece = piece.get(),
                "cannot read what is to be sent: {error}"
            );
            served.unread.push(piece);
        }
        is_read.extend(std::iter::repeat_n(result.is_ok(), run));
        at += len;
    }
    let bytes = Bytes::from_owner(buffer);
    let mut at = 0;
    for ((range, _), is_read) in wanted.iter().zip(is_read) {
        let end = at + range.len() as usize;
        let block = (is_read && end <= bytes.len()).then(|| bytes.slice(at..end));
        served.blocks.push((*range, block));
        at = end;
    }
    Some(served)
}
