//! The start: store opened, what is on disk checked.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use swarm_proto::bitfield::Bitfield;
use swarm_proto::download::Want;
use swarm_proto::metainfo::Metainfo;

use super::SwarmTask;
use super::jobs::Done;
use crate::store::{Checked, PieceStore, ResumeState, Storage, check, hash_name};
use crate::swarm::{Message, SwarmError};

/// A store and what it holds.
pub(super) struct Opened {
    pub(super) meta: Arc<Metainfo>,
    pub(super) store: Arc<dyn PieceStore>,
    pub(super) state_path: Option<PathBuf>,
    pub(super) checked: Checked,
}

/// Everything a blocking thread needs to open a store.
struct Opening {
    meta: Arc<Metainfo>,
    storage: Storage,
    state_dir: Option<PathBuf>,
    done: Arc<AtomicU32>,
    stop: Arc<AtomicBool>,
}

impl Opening {
    async fn run_beside(self) -> Result<Opened, SwarmError> {
        let done = tokio::task::spawn_blocking(move || self.run()).await;
        done.unwrap_or_else(|error| Err(SwarmError::Storage(error.to_string())))
    }

    fn run(self) -> Result<Opened, SwarmError> {
        let meta = &*self.meta;
        let failed = |error: &dyn std::error::Error| {
            let mut text = error.to_string();
            if let Some(source) = error.source() {
                text = format!("{text}: {source}");
            }
            SwarmError::Storage(text)
        };
        let store = self.storage.open(meta).map_err(|error| failed(&error))?;
        let state_path = self.storage.state_path(meta, self.state_dir.as_deref());
        let checked = if self.storage == Storage::Memory {
            Checked {
                have: Bitfield::none_of(meta.geometry()),
                wrong: Vec::new(),
                hashed: 0,
            }
        } else {
            let pieces = meta.geometry().piece_count();
            let known = state_path
                .as_ref()
                .and_then(|path| ResumeState::load(path, &hash_name(meta), pieces));
            check(meta, &*store, known.as_ref(), &self.done, &self.stop)
        };
        Ok(Opened {
            meta: self.meta,
            store,
            state_path,
            checked,
        })
    }
}

impl SwarmTask {
    fn opening(&self, meta: Arc<Metainfo>) -> Opening {
        let own = self.bundle.state_dir.as_ref();
        Opening {
            meta,
            storage: self.bundle.storage.clone(),
            state_dir: own.or(self.node.config().state_dir.as_ref()).cloned(),
            done: Arc::default(),
            stop: Arc::default(),
        }
    }

    /// Opens the store, noting what is asked meanwhile; callers are dropped and come back. `None`
    /// if the swarm was stopped.
    pub(super) async fn open(
        &mut self,
        meta: Arc<Metainfo>,
        want: &mut Want,
    ) -> Result<Option<Opened>, SwarmError> {
        {
            let stats = self.shared.stats.lock();
            let mut stats = stats.unwrap_or_else(PoisonError::into_inner);
            stats.pieces = meta.geometry().piece_count();
            stats.total_bytes = meta.geometry().total_length();
        }
        let opening = self.opening(meta);
        let (done, stop) = (Arc::clone(&opening.done), Arc::clone(&opening.stop));
        let node = self.node.clone();
        let mut job = tokio::spawn(async move {
            let _permit = node.check_permit().await;
            opening.run_beside().await
        });
        let mut tick = tokio::time::interval(Duration::from_millis(200));
        let shared = Arc::clone(&self.shared);
        loop {
            tokio::select! {
                opened = &mut job => return match opened {
                    Ok(opened) => opened.map(Some),
                    Err(error) => Err(SwarmError::Storage(error.to_string())),
                },
                () = shared.stop.cancelled() => {
                    stop.store(true, Ordering::Relaxed);
                    let _ = job.await;
                    return Ok(None);
                }
                Some(message) = self.messages.recv() => match message {
                    // Dropping the sender of a report says that there are no peers yet.
                    Message::Incoming(_)
                    | Message::Report(_)
                    | Message::WebSeeds(_)
                    | Message::Unread(_) => {}
                    Message::Want(new) => *want = new,
                    Message::DhtPort(port) => self.tell_dht_port(port),
                    peers @ Message::Peers { .. } => self.note_peers(peers, Instant::now()),
                },
                _ = tick.tick() => {
                    let stats = shared.stats.lock();
                    let mut stats = stats.unwrap_or_else(PoisonError::into_inner);
                    stats.checked = done.load(Ordering::Relaxed);
                }
            }
        }
    }

    /// Opens the store for metadata that just came, beside everything else.
    pub(super) fn open_later(&mut self, meta: Arc<Metainfo>) {
        tracing::info!(bundle = %meta.name(), "metadata is here");
        let opening = self.opening(meta);
        let (node, life) = (self.node.clone(), self.shared.life());
        self.jobs.spawn(async move {
            // What rests or stops meanwhile waits for no check.
            let _permit = tokio::select! {
                permit = node.check_permit() => permit,
                () = life.cancelled() => return Done::Opened(Box::new(Err(SwarmError::Stopped))),
            };
            let stop = Arc::clone(&opening.stop);
            let mut opened = std::pin::pin!(opening.run_beside());
            let opened = tokio::select! {
                opened = &mut opened => opened,
                () = life.cancelled() => {
                    stop.store(true, Ordering::Relaxed);
                    opened.await
                }
            };
            Done::Opened(Box::new(opened))
        });
    }
}
