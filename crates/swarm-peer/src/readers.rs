//! [`Readers`]: what readers of a bundle want next, and the verified blocks kept for them until
//! their pieces are stored.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use swarm_proto::geometry::{ByteRange, Geometry, PieceIndex};
use swarm_proto::verify::VerifiedBlock;

/// Bytes of blocks kept for readers of one bundle: as much as eight of them look ahead. Past that
/// a reader waits for whole pieces.
const KEPT_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Pieces that are fetched to their end though whoever read of them may be gone. What a visitor
/// left behind half-fetched would be fetched again for the next; more than so many are not worth
/// holding up others.
const BEGUN_MAX: usize = 64;

/// Whoever wants bytes of a bundle in order.
#[derive(Debug, Default)]
pub(crate) struct Readers {
    next_id: u64,
    readers: BTreeMap<u64, Reader>,
    /// By where they begin in the content.
    kept: BTreeMap<u64, Kept>,
    kept_bytes: u64,
    /// Pieces of which kept blocks were read, and that are not stored.
    begun: BTreeSet<PieceIndex>,
}

#[derive(Debug)]
struct Reader {
    /// What it wants next.
    ahead: ByteRange,
    /// Whether it takes bytes, or only wants them stored.
    reads: bool,
    /// What it was shown all proven blocks of.
    shown: ByteRange,
}

/// A verified block.
#[derive(Debug)]
struct Kept {
    piece: PieceIndex,
    /// Where the piece lies.
    within: ByteRange,
    /// Our own copy: the block as it came holds on to the whole buffer that it was read in.
    bytes: Bytes,
}

impl Readers {
    /// A reader wants `ahead` next; its id.
    pub(crate) fn opened(&mut self, ahead: ByteRange, reads: bool) -> u64 {
        self.next_id += 1;
        let shown = ByteRange::new(ahead.start, ahead.start);
        let reader = Reader {
            ahead,
            reads,
            shown,
        };
        self.readers.insert(self.next_id, reader);
        self.next_id
    }

    /// The reader wants something else now.
    pub(crate) fn moved(&mut self, id: u64, ahead: ByteRange) {
        if let Some(reader) = self.readers.get_mut(&id) {
            reader.ahead = ahead;
        }
        self.free();
    }

    /// The reader is gone.
    pub(crate) fn closed(&mut self, id: u64) {
        self.readers.remove(&id);
        self.free();
    }

    /// What each wants next.
    pub(crate) fn ahead(&self) -> Vec<ByteRange> {
        self.readers.values().map(|reader| reader.ahead).collect()
    }

    /// Pieces to go on with though no reader is in them any more.
    pub(crate) fn begun(&self) -> Vec<PieceIndex> {
        self.begun.iter().copied().collect()
    }

    /// What readers came to want since this was last asked: blocks that were proven there before
    /// are to be kept now.
    pub(crate) fn news(&mut self) -> Vec<ByteRange> {
        let of = |reader: &mut Reader| {
            let (ahead, shown) = (
                reader.ahead,
                std::mem::replace(&mut reader.shown, reader.ahead),
            );
            let goes_on = shown.start <= ahead.start && ahead.start <= shown.end;
            let start = if goes_on { shown.end } else { ahead.start };
            ByteRange::new(start, ahead.end)
        };
        let readers = self.readers.values_mut().filter(|reader| reader.reads);
        let news = readers.map(of).filter(|news| !news.is_empty());
        news.collect()
    }

    /// Whether the block that begins there in the content is kept.
    pub(crate) fn keeps(&self, start: u64) -> bool {
        self.kept.contains_key(&start)
    }

    /// Keeps a block, if a reader is in its piece and not past it, and there is room.
    pub(crate) fn keep(&mut self, geometry: &Geometry, block: &VerifiedBlock) -> bool {
        let piece = block.range().piece();
        let place = geometry.block_bytes(&block.range());
        let within = geometry.piece_range(piece);
        let len = block.bytes().len() as u64;
        let waited_for = self.is_waited_for(&within, place.start + len);
        let room = self.kept_bytes + len <= KEPT_BYTES_MAX;
        if !waited_for || !room || self.keeps(place.start) {
            return false;
        }
        let bytes = Bytes::copy_from_slice(block.bytes());
        self.kept_bytes += len;
        let kept = Kept {
            piece,
            within,
            bytes,
        };
        self.kept.insert(place.start, kept);
        true
    }

    /// The bytes from the start of `wanted` on, as far as blocks are kept; `None` if there is none.
    pub(crate) fn read(&mut self, wanted: &ByteRange) -> Option<Bytes> {
        let mut at = wanted.start;
        let mut parts = Vec::new();
        while at < wanted.end
            && let Some((start, kept)) = self.kept.range(..=at).next_back()
        {
            let skipped = usize::try_from(at - start).ok()?;
            let most = usize::try_from(wanted.end - at).unwrap_or(usize::MAX);
            let Some(rest) = kept.bytes.get(skipped..).filter(|rest| !rest.is_empty()) else {
                break;
            };
            let part = rest.get(..most).unwrap_or(rest);
            at += part.len() as u64;
            if self.begun.len() < BEGUN_MAX {
                self.begun.insert(kept.piece);
            }
            parts.push(kept.bytes.slice_ref(part));
        }
        match parts.len() {
            0 | 1 => parts.pop(),
            _ => Some(Bytes::from(parts.concat())),
        }
    }

    /// The piece is stored: its blocks are read from there.
    pub(crate) fn stored(&mut self, piece: PieceIndex) {
        self.begun.remove(&piece);
        self.kept.retain(|_, kept| kept.piece != piece);
        self.count();
    }

    /// Whether a reader is in the piece that lies `within`, and not past `end`.
    fn is_waited_for(&self, within: &ByteRange, end: u64) -> bool {
        let waits = |reader: &Reader| {
            reader.reads && !reader.ahead.intersect(within).is_empty() && reader.ahead.start < end
        };
        self.readers.values().any(waits)
    }

    /// Lets go of what nobody waits for.
    fn free(&mut self) {
        let mut all = std::mem::take(&mut self.kept);
        all.retain(|start, kept| self.is_waited_for(&kept.within, start + kept.bytes.len() as u64));
        self.kept = all;
        self.count();
    }

    fn count(&mut self) {
        let lens = self.kept.values().map(|kept| kept.bytes.len() as u64);
        self.kept_bytes = lens.sum();
    }
}

#[cfg(test)]
mod tests;
