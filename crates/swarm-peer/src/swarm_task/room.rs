//! Room on the disk, set aside before anything is fetched into it.

use std::sync::Arc;
use std::time::Instant;

use swarm_proto::download::{Download, Want};
use swarm_proto::geometry::ByteRange;

use super::SwarmTask;
use super::jobs::Done;
use crate::http::chain;
use crate::store::StoreError;
use crate::swarm::SwarmError;

impl SwarmTask {
    /// From now on this is wanted; where room is to be set aside for it, as soon as that is done.
    pub(super) fn want(&mut self, download: &mut Download, want: Want) {
        let now = Instant::now();
        let want = match self.bundle.seed_only {
            true => Want::None,
            false => want,
        };
        let waits = self.bundle.preallocate;
        self.bundle.want = want.clone();
        if let Some(content) = &mut self.content {
            content.settled = false;
        }
        let Some(content) = self.content.as_ref().filter(|_| waits) else {
            return download.set_want(now, want);
        };
        download.set_want(now, Want::None);
        let ranges = match want {
            Want::All => vec![ByteRange::new(0, content.meta.geometry().total_length())],
            Want::Ranges(ranges) => ranges,
            Want::None => return,
        };
        let store = Arc::clone(&content.store);
        self.jobs
            .spawn_blocking(move || Done::RoomMade(store.preallocate(&ranges)));
    }

    pub(super) fn room_made(
        &mut self,
        download: &mut Download,
        made: Result<bool, StoreError>,
    ) -> Result<(), SwarmError> {
        match made {
            Ok(true) => {
                // Stamps may have moved.
                if let Some(content) = &mut self.content {
                    content.unsaved = true;
                }
            }
            Ok(false) => tracing::warn!(
                bundle = %self.name(),
                "this file system cannot set room aside; files take it as they come"
            ),
            Err(error) => return Err(SwarmError::Storage(chain(&error))),
        }
        download.set_want(Instant::now(), self.bundle.want.clone());
        Ok(())
    }
}
