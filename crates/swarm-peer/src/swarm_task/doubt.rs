//! Pieces in doubt: they could not be read when somebody wanted them.

use std::sync::{Arc, PoisonError};
use std::time::Instant;

use swarm_proto::download::Download;
use swarm_proto::geometry::PieceIndex;

use super::SwarmTask;
use super::jobs::Done;
use crate::store::recheck;
use crate::swarm::SwarmState;

impl SwarmTask {
    /// Looks at pieces again that the store could not give, one job at a time.
    pub(super) fn doubt(&mut self, pieces: Vec<PieceIndex>) {
        let Some(content) = &mut self.content else {
            return;
        };
        content.doubted.extend(pieces);
        if content.doubting || content.doubted.is_empty() {
            return;
        }
        content.doubting = true;
        let pieces: Vec<_> = std::mem::take(&mut content.doubted).into_iter().collect();
        let (meta, store) = (Arc::clone(&content.meta), Arc::clone(&content.store));
        let had = self.shared.have.read();
        let had = had.unwrap_or_else(PoisonError::into_inner).clone();
        self.jobs
            .spawn_blocking(move || Done::Rechecked(recheck(&meta, &*store, &pieces, &had)));
    }

    /// Forgets what is not there any more; it is fetched again, if it is wanted.
    pub(super) fn rechecked(&mut self, download: &mut Download, lost: &[PieceIndex]) {
        let Some(content) = &mut self.content else {
            return;
        };
        content.doubting = false;
        self.doubt(Vec::new());
        let Some(content) = &mut self.content else {
            return;
        };
        let Some(first) = lost.first() else {
            return;
        };
        content.finished = false;
        content.unsaved = true;
        {
            let have = self.shared.have.write();
            let mut have = have.unwrap_or_else(PoisonError::into_inner);
            for &piece in lost {
                have.remove(piece);
            }
            let stats = self.shared.stats.lock();
            let mut stats = stats.unwrap_or_else(PoisonError::into_inner);
            stats.complete = false;
            stats.have = have.count();
        }
        // Of what was chosen, `settle` sees whether it is still there.
        let was_complete = |state: &mut SwarmState| {
            let seeded = *state == SwarmState::Seeding;
            if seeded {
                *state = SwarmState::Fetching;
            }
            seeded
        };
        self.shared.state.send_if_modified(was_complete);
        tracing::warn!(
            bundle = %self.name(),
            pieces = lost.len(),
            first = first.get(),
            "stored pieces are wrong or unreadable now, and not served"
        );
        for &piece in lost {
            download.piece_lost(Instant::now(), piece);
        }
    }
}
