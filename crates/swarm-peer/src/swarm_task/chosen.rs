//! A bundle of which some files were chosen, and all of them are there: it is no seed, and yet has
//! nothing to fetch.

use std::sync::{Arc, PoisonError};

use swarm_proto::download::{Download, Want};

use super::SwarmTask;
use super::jobs::Done;
use crate::swarm::SwarmState;

impl SwarmTask {
    /// Whether all that was chosen is there, and that is not everything.
    fn has_all_it_chose(&self, download: &Download) -> bool {
        let Some(content) = &self.content else {
            return false;
        };
        if download.is_complete() || !download.is_satisfied() {
            return false;
        }
        match &self.bundle.want {
            Want::All => false,
            // What readers will want nobody knows.
            Want::None => self.bundle.seed_only,
            // While room is set aside the download wants nothing yet.
            Want::Ranges(ranges) => {
                let have = self.shared.have.read();
                let have = have.unwrap_or_else(PoisonError::into_inner);
                let geometry = content.meta.geometry();
                let mut pieces = ranges.iter().flat_map(|range| geometry.pieces_of(range));
                pieces.all(|piece| have.contains(piece))
            }
        }
    }

    /// Has the chosen files finished once they are there, and takes the word back when more is
    /// wanted, or something was lost.
    pub(super) fn settle(&mut self, download: &Download) {
        let is_finished = *self.shared.state.borrow() == SwarmState::Finished;
        let is_settled = self.content.as_ref().is_some_and(|content| content.settled);
        if is_settled && download.is_satisfied() && !download.is_complete() {
            return;
        }
        let settles = self.has_all_it_chose(download);
        let Some(content) = &mut self.content else {
            return;
        };
        content.settled = settles;
        if settles {
            let store = Arc::clone(&content.store);
            let ranges = match &self.bundle.want {
                Want::Ranges(ranges) => ranges.clone(),
                Want::All | Want::None => Vec::new(),
            };
            self.jobs
                .spawn_blocking(move || Done::Settled(store.finish(Some(&ranges))));
        } else if is_finished && !download.is_complete() {
            self.shared.state.send_replace(SwarmState::Fetching);
        }
    }

    /// The chosen files are finished.
    pub(super) fn settled(&mut self, download: &Download) {
        // More may be wanted by now.
        if self.content.as_ref().is_some_and(|content| content.settled) && !download.is_complete() {
            self.publish_now(std::time::Instant::now(), download);
            self.shared.state.send_replace(SwarmState::Finished);
        }
    }
}

#[cfg(test)]
mod tests;
