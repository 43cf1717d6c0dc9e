//! What readers wait for: deadlines, and blocks before their pieces are whole.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use swarm_proto::download::Download;
use swarm_proto::geometry::BlockRange;
use swarm_proto::verify::VerifiedBlock;

use super::SwarmTask;

/// Deadline of the piece `n` pieces ahead of a reader: `n` times this from now.
const DEADLINE_STEP: Duration = Duration::from_millis(50);
/// Deadline of a piece that was read of and that no reader is in any more: behind all that readers
/// are ahead of.
const BEGUN_DEADLINE: Duration = Duration::from_secs(60);

impl SwarmTask {
    /// Gives the pieces just ahead of readers a deadline, and takes back what is no longer ahead.
    pub(super) fn follow_readers(&mut self, download: &mut Download) {
        let Some(content) = &self.content else {
            return;
        };
        let now = Instant::now();
        let geometry = content.meta.geometry();
        let (readers, begun) = {
            let readers = self.shared.readers();
            (readers.ahead(), readers.begun())
        };
        // When each piece is needed, and from which byte of it on.
        let mut ahead = BTreeMap::new();
        for range in readers {
            let missing = geometry.pieces_of(&range).filter(|&p| !self.shared.has(p));
            for (rank, piece) in (0u32..).zip(missing) {
                let begin = range.start.saturating_sub(geometry.piece_offset(piece));
                let needed = (
                    now + DEADLINE_STEP * rank,
                    u32::try_from(begin).unwrap_or_default(),
                );
                ahead
                    .entry(piece)
                    .and_modify(|known: &mut (Instant, u32)| *known = needed.min(*known))
                    .or_insert(needed);
            }
        }
        for piece in begun {
            ahead.entry(piece).or_insert((now + BEGUN_DEADLINE, 0));
        }
        for piece in std::mem::take(&mut self.deadlines) {
            if !ahead.contains_key(&piece) {
                download.clear_deadline(piece);
            }
        }
        for (piece, (at, begin)) in ahead {
            download.set_deadline_from(now, piece, at, begin);
            self.deadlines.insert(piece);
        }
        self.show_proven(download);
    }

    /// Keeps what was proven before a reader came that wants it: it need not wait for the whole
    /// piece.
    fn show_proven(&self, download: &Download) {
        let Some(content) = &self.content else {
            return;
        };
        let geometry = content.meta.geometry();
        let news = self.shared.readers().news();
        for range in news {
            for piece in geometry.pieces_of(&range) {
                let lacks = |block: &BlockRange| {
                    let place = geometry.block_bytes(block);
                    let is_in = !place.intersect(&range).is_empty();
                    is_in && !self.shared.readers().keeps(place.start)
                };
                for block in download.proven(piece, lacks) {
                    self.keep(&block);
                }
            }
        }
    }

    /// Keeps a block for the reader that waits for it.
    pub(super) fn keep(&self, block: &VerifiedBlock) {
        if let Some(content) = &self.content {
            self.shared.keep(content.meta.geometry(), block);
        }
    }
}
