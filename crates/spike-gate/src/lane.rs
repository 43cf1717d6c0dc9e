//! Who may be sent something large from home while the line is full.
//!
//! Outside calm, requests for files that a bridge could serve, were there one, stand in a lane: a
//! few are served at a time, in order, and all the others are sent to a bridge the moment one is
//! there. Shared out among everybody at once, a full line would finish for nobody.
//!
//! How many are "a few" follows from the line: while it is not full the number grows.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Served at a time on a full line.
const SLOTS_MIN: usize = 8;
/// Served at a time on a line that is never full.
const SLOTS_MAX: usize = 4096;
/// At the start.
const SLOTS_FIRST: usize = 16;

/// The lane.
#[derive(Debug)]
pub struct Lane {
    slots: Arc<Semaphore>,
    total: AtomicUsize,
}

impl Default for Lane {
    fn default() -> Self {
        Self {
            slots: Arc::new(Semaphore::new(SLOTS_FIRST)),
            total: AtomicUsize::new(SLOTS_FIRST),
        }
    }
}

/// A place in the lane, held until the answer has gone out.
pub type Slot = OwnedSemaphorePermit;

impl Lane {
    /// Waits for a place; first come, first served.
    pub async fn enter(&self) -> Option<Slot> {
        // Never closed; if it were, nobody should be kept waiting.
        self.slots.clone().acquire_owned().await.ok()
    }

    /// Places in all.
    pub fn slots(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }

    /// To be told at each sample whether the line is full.
    pub fn adapt(&self, full: bool) {
        let now = self.slots();
        if full {
            let fewer = (now / 10).max(1).min(now.saturating_sub(SLOTS_MIN));
            // Only free places can be taken away; the others go when they are given back.
            let gone = self.slots.forget_permits(fewer);
            self.total.fetch_sub(gone, Ordering::Relaxed);
        } else if self.slots.available_permits() == 0 {
            let more = (now / 4).max(1).min(SLOTS_MAX.saturating_sub(now));
            self.slots.add_permits(more);
            self.total.fetch_add(more, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_line_with_room_admits_more_and_a_full_one_fewer() {
        let lane = Lane::default();
        let mut held = Vec::new();
        for _ in 0..40 {
            while lane.slots.available_permits() > 0 {
                held.push(lane.enter().await.unwrap());
            }
            lane.adapt(false);
        }
        assert_eq!(lane.slots(), SLOTS_MAX);
        held.clear();
        for _ in 0..200 {
            lane.adapt(true);
        }
        assert_eq!(lane.slots(), SLOTS_MIN);
        assert_eq!(lane.slots.available_permits(), SLOTS_MIN);
        for _ in 0..100 {
            lane.adapt(false);
        }
        assert_eq!(
            lane.slots(),
            SLOTS_MIN,
            "nobody waits, so no more are needed"
        );
    }
}
