//! [`Shared`]: what the task of a swarm and its handles share, and the mailbox between them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use swarm_proto::bitfield::Bitfield;
use swarm_proto::download::{Want, WebSeedStats};
use swarm_proto::geometry::{ByteRange, Geometry, PieceIndex};
use swarm_proto::id::SwarmId;
use swarm_proto::metainfo::Metainfo;
use swarm_proto::tracker::{BridgeOffer, ScrapeEntry};
use swarm_proto::verify::VerifiedBlock;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::{SwarmError, SwarmState, SwarmStats};
use crate::connector::Trust;
use crate::link::accept::Incoming;
use crate::readers::Readers;
use crate::report::{PeerReport, TrackerReport, shown_url};
use crate::store::PieceStore;
use crate::uplink::{Downlink, Uplink};

/// Messages that may wait for one swarm task.
const MAILBOX_LEN: usize = 256;

/// What reaches a swarm task.
pub(crate) enum Message {
    Incoming(Incoming),
    Peers {
        addrs: Vec<SocketAddr>,
        swarm_id: SwarmId,
        trust: Trust,
    },
    Want(Want),
    /// Our node of the DHT is at this UDP port.
    DhtPort(u16),
    /// Pieces that a reader could not get from the store.
    Unread(Vec<PieceIndex>),
    Report(oneshot::Sender<Vec<PeerReport>>),
    WebSeeds(oneshot::Sender<Vec<WebSeedStats>>),
}

/// What the task and its handles share.
pub(crate) struct Shared {
    pub(crate) swarm_ids: Vec<SwarmId>,
    pub(crate) meta: watch::Sender<Option<Arc<Metainfo>>>,
    pub(crate) state: watch::Sender<SwarmState>,
    /// Bumped after each change of `have`.
    pub(crate) gained: watch::Sender<u64>,
    /// Bumped after each block kept for a reader.
    pub(crate) kept: watch::Sender<u64>,
    pub(crate) have: RwLock<Bitfield>,
    pub(crate) store: OnceLock<Arc<dyn PieceStore>>,
    pub(crate) stats: Mutex<SwarmStats>,
    pub(crate) bridge: Mutex<Option<BridgeOffer>>,
    pub(crate) uplink: Uplink,
    pub(crate) downlink: Downlink,
    /// Why nothing is fetched though something was asked for: the metadata, once here, had no such
    /// file.
    pub(crate) unmet: OnceLock<String>,
    /// By shown URL, so that no passkey leaves by a report. Bounded as the announcers are.
    pub(super) trackers: Mutex<BTreeMap<String, TrackerReport>>,
    readers: Mutex<Readers>,
    pub(crate) readers_changed: Notify,
    pub(crate) announce_now: watch::Sender<u64>,
    /// Bumped when somebody looks at what trackers say.
    pub(crate) looked: watch::Sender<u64>,
    pub(super) mailbox: mpsc::Sender<Message>,
    pub(crate) stop: CancellationToken,
    /// Whether it is to rest.
    pub(crate) paused: watch::Sender<bool>,
    /// What goes on only until it rests or stops.
    life: Mutex<CancellationToken>,
}

impl Shared {
    pub(crate) fn new(
        name: String,
        swarm_ids: Vec<SwarmId>,
        bridge: Option<BridgeOffer>,
        stop: CancellationToken,
    ) -> (Arc<Self>, mpsc::Receiver<Message>) {
        let (mailbox, messages) = mpsc::channel(MAILBOX_LEN);
        let shared = Self {
            swarm_ids,
            meta: watch::Sender::new(None),
            state: watch::Sender::new(SwarmState::Checking),
            gained: watch::Sender::new(0),
            kept: watch::Sender::new(0),
            have: RwLock::new(Bitfield::none(0)),
            store: OnceLock::new(),
            stats: Mutex::new(SwarmStats::new(name)),
            bridge: Mutex::new(bridge),
            uplink: Uplink::unlimited(),
            downlink: Downlink::unlimited(),
            unmet: OnceLock::new(),
            trackers: Mutex::default(),
            readers: Mutex::default(),
            readers_changed: Notify::new(),
            announce_now: watch::Sender::new(0),
            looked: watch::Sender::new(0),
            mailbox,
            paused: watch::Sender::new(false),
            life: Mutex::new(stop.child_token()),
            stop,
        };
        (Arc::new(shared), messages)
    }

    /// Cancelled when it rests or stops.
    pub(crate) fn life(&self) -> CancellationToken {
        self.life
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Begins anew after a rest.
    pub(crate) fn revive(&self) {
        let life = self.life.lock();
        *life.unwrap_or_else(PoisonError::into_inner) = self.stop.child_token();
    }

    pub(crate) fn has(&self, piece: PieceIndex) -> bool {
        let have = self.have.read().unwrap_or_else(PoisonError::into_inner);
        have.contains(piece)
    }

    /// Why nothing more will come, if so.
    pub(crate) fn ended(&self) -> Option<SwarmError> {
        match &*self.state.borrow() {
            SwarmState::Failed(error) => Some(error.clone()),
            SwarmState::Stopped => Some(SwarmError::Stopped),
            _ => None,
        }
    }

    /// Notes what a tracker said last.
    pub(crate) fn tracker_said(&self, url: &str, mut report: TrackerReport) {
        let trackers = self.trackers.lock();
        let mut trackers = trackers.unwrap_or_else(PoisonError::into_inner);
        let name = shown_url(url);
        report.completed = trackers.get(&name).and_then(|before| before.completed);
        trackers.insert(name, report);
    }

    /// Notes what a tracker counts.
    pub(crate) fn tracker_counts(&self, url: &str, figures: ScrapeEntry) {
        let trackers = self.trackers.lock();
        let mut trackers = trackers.unwrap_or_else(PoisonError::into_inner);
        if let Some(report) = trackers.get_mut(&shown_url(url)) {
            report.count(figures);
        }
    }

    pub(crate) async fn tell(&self, message: Message) {
        // An error means that the task has ended, and then nobody needs to know.
        let _ = self.mailbox.send(message).await;
    }

    pub(crate) fn readers(&self) -> MutexGuard<'_, Readers> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn reader_opened(&self, ahead: ByteRange, reads: bool) -> u64 {
        let id = self.readers().opened(ahead, reads);
        self.readers_changed.notify_one();
        id
    }

    pub(crate) fn reader_moved(&self, id: u64, ahead: ByteRange) {
        self.readers().moved(id, ahead);
        self.readers_changed.notify_one();
    }

    pub(crate) fn reader_closed(&self, id: u64) {
        self.readers().closed(id);
        self.readers_changed.notify_one();
    }

    /// Keeps a block for a reader that waits for it.
    pub(crate) fn keep(&self, geometry: &Geometry, block: &VerifiedBlock) {
        if self.readers().keep(geometry, block) {
            self.kept.send_modify(|count| *count += 1);
        }
    }
}
