//! A bundle told to rest: no connection, no announce, no timer; what is stored stays.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use swarm_proto::download::PexExchange;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::open::Opened;
use super::{EVENTS_LEN, SwarmTask, slots};
use crate::memory::PieceShare;
use crate::peers::AddressBook;
use crate::store::Checked;
use crate::swarm::{Message, SwarmState};
use crate::webseed::WebSeeds;

impl SwarmTask {
    /// Leaves peers, web seeds and trackers, and waits until it is to go on or to stop. Trackers
    /// hear `stopped`, for nobody is answered here any more; `paused` (BEP 21) says that of a peer
    /// that goes on uploading.
    pub(super) async fn rest(&mut self) {
        self.shared.life().cancel();
        self.links.clear();
        let downlinks = [self.node.downlink().clone(), self.shared.downlink.clone()];
        self.web = WebSeeds::new(downlinks);
        (self.events_in, self.events) = mpsc::channel(EVENTS_LEN);
        self.save_last().await;
        self.to_verify = VecDeque::new();
        self.verifying = 0;
        self.unwritten.clear();
        self.retry_at = None;
        self.trouble = None;
        self.dialling = 0;
        self.deadlines = BTreeSet::new();
        self.mute_by_tcp.clear();
        self.pex = PexExchange::default();
        self.book = AddressBook::new(slots::own_address(&self.node));
        // The next download is to be told what it may hold, whatever it needs.
        self.memory = PieceShare::of(self.node.shared_memory());
        if let Some(content) = &mut self.content {
            content.finished = false;
            content.settled = false;
            content.saving = false;
            content.doubting = false;
        }
        self.note_rest();
        self.shared.state.send_replace(SwarmState::Paused);
        tracing::info!(bundle = %self.name(), "paused");
        // What is said last must not come after what is said first.
        let life = std::mem::replace(&mut self.life, TaskTracker::new());
        life.close();
        loop {
            tokio::select! {
                () = life.wait() => break,
                // Who is about to end may have to be rid of a message first.
                Some(message) = self.messages.recv() => self.take_resting(message),
            }
        }
        let shared = Arc::clone(&self.shared);
        let mut paused = shared.paused.subscribe();
        while *paused.borrow_and_update() {
            tokio::select! {
                () = shared.stop.cancelled() => return,
                _ = paused.changed() => {}
                Some(message) = self.messages.recv() => self.take_resting(message),
            }
        }
        tracing::info!(bundle = %self.name(), "goes on");
        shared.revive();
    }

    fn take_resting(&mut self, message: Message) {
        match message {
            Message::Want(want) => self.bundle.want = want,
            peers @ Message::Peers { .. } => self.note_peers(peers, Instant::now()),
            Message::DhtPort(port) => self.tell_dht_port(port),
            // Dropping a caller hangs up, dropping the sender of a report says that there are no
            // peers.
            Message::Incoming(_)
            | Message::Report(_)
            | Message::WebSeeds(_)
            | Message::Unread(_) => {}
        }
    }

    fn note_rest(&self) {
        let stats = self.shared.stats.lock();
        let mut stats = stats.unwrap_or_else(PoisonError::into_inner);
        stats.peers = 0;
        stats.seeds = 0;
        stats.known_peers = 0;
        stats.down_rate = 0.0;
        stats.up_rate = 0.0;
        stats.trouble = None;
    }

    /// What is known from before a rest.
    pub(super) fn rested(&self) -> Option<Opened> {
        let content = self.content.as_ref()?;
        let have = self.shared.have.read();
        let have = have.unwrap_or_else(PoisonError::into_inner).clone();
        let wrong = Vec::new();
        Some(Opened {
            meta: Arc::clone(&content.meta),
            store: Arc::clone(&content.store),
            state_path: content.state_path.clone(),
            checked: Checked {
                have,
                wrong,
                hashed: u32::from(content.unsaved),
            },
        })
    }
}

#[cfg(test)]
mod tests;
