//! Fetching in the order of the bytes.

use swarm_proto::geometry::ByteRange;

use super::SwarmHandle;

/// Bytes asked for ahead of all else.
const LOOK_AHEAD: u64 = 16 * 1024 * 1024;

impl SwarmHandle {
    /// Asks for these content ranges in their order, a stretch ahead of the first byte that is
    /// missing, until all of them are stored or the swarm has ended. What else is wanted is fetched
    /// only where that leaves room. As who watches while it comes wants it; unkind to a swarm of
    /// leeches, whose pieces are all the same then.
    pub async fn fetch_in_order(&self, ranges: &[ByteRange]) {
        let Some(mut missing) = self.first_missing(ranges) else {
            return;
        };
        let hurry = self.hurry(ahead(missing));
        loop {
            let first = ByteRange::new(missing.start, missing.start.saturating_add(1));
            if self.wait_held(first).await.is_err() {
                return;
            }
            let Some(first) = self.first_missing(ranges) else {
                return;
            };
            if first != missing {
                missing = first;
                hurry.move_to(ahead(missing));
            }
        }
    }
}

fn ahead(range: ByteRange) -> ByteRange {
    let end = range.end.min(range.start.saturating_add(LOOK_AHEAD));
    ByteRange::new(range.start, end)
}
