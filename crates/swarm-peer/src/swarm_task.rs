//! [`SwarmTask`] owns one `Download` and does what it decides: hands commands to links, verifies
//! and stores pieces on blocking threads, calls peers.
//!
//! The task never awaits a link or a disk: both answer by channel.

mod chosen;
mod dht;
mod doubt;
mod jobs;
mod links;
mod open;
mod pex;
mod reading;
mod rest;
mod room;
mod slots;
mod web;

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::net::{SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use swarm_proto::bitfield::Bitfield;
use swarm_proto::download::{self, Action, Download, DownloadConfig, PexExchange, Want};
use swarm_proto::geometry::PieceIndex;
use swarm_proto::metainfo::Metainfo;
use swarm_proto::session::ConnectionId;
use swarm_proto::verify::{AssembledPiece, VerifiedBytes};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;

use crate::announce::{self, Announcer};
use crate::connector::{Trust, canonical};
use crate::link::{LinkCommand, LinkEvents};
use crate::memory::PieceShare;
use crate::node::{AddBundle, Node, Source};
use crate::peers::AddressBook;
use crate::store::PieceStore;
use crate::swarm::{Message, Shared, SwarmError, SwarmState};
use crate::webseed::WebSeeds;

use jobs::Done;
use links::Link;
use open::Opened;

/// Batches of events that may wait for the task, each at most what one read brings.
const EVENTS_LEN: usize = 16;
/// Events taken in one turn before other things get theirs.
const EVENTS_PER_TURN: usize = 16;
/// How often figures are published.
const STATS_EVERY: Duration = Duration::from_millis(500);
/// Nothing that a clock brings about is later than this.
const SLEEP_MAX: Duration = Duration::from_secs(3600);
/// How often newly verified pieces are made durable and recorded.
const SAVE_EVERY: Duration = Duration::from_secs(2);
/// Between attempts to write where there was no room.
const FULL_DISK_PAUSE: Duration = Duration::from_secs(5);

/// One bundle being served and fetched.
pub(crate) struct SwarmTask {
    node: Node,
    shared: Arc<Shared>,
    bundle: AddBundle,
    messages: mpsc::Receiver<Message>,
    events_in: mpsc::Sender<LinkEvents>,
    events: mpsc::Receiver<LinkEvents>,
    web: WebSeeds,
    links: HashMap<ConnectionId, Link>,
    memory: PieceShare,
    /// Tasks that end when it rests.
    life: TaskTracker,
    book: AddressBook,
    pex: PexExchange,
    /// Where our node of the DHT is, once it is somewhere.
    dht_port: Option<u16>,
    /// Nodes that peers told of before ours was anywhere.
    early_nodes: Vec<SocketAddrV4>,
    /// When a connection last had to yield.
    yielded_at: Instant,
    dialling: usize,
    /// Where a call by TCP came to nothing though it was taken: libtorrent with TCP turned off
    /// listens all the same.
    mute_by_tcp: HashSet<SocketAddr>,
    jobs: JoinSet<Done>,
    /// Pieces to verify and store, behind those that are being dealt with. The download bounds how
    /// many there can be.
    to_verify: VecDeque<AssembledPiece>,
    verifying: usize,
    /// Verified pieces that the disk had no room for.
    unwritten: Vec<VerifiedBytes>,
    retry_at: Option<Instant>,
    content: Option<Content>,
    deadlines: BTreeSet<PieceIndex>,
    trouble: Option<String>,
    stats_at: Instant,
    /// Counted before the last rest.
    earlier: Earlier,
    /// Nothing happened since the figures were told.
    told: bool,
}

/// Bytes counted by downloads that ended with a rest.
#[derive(Default)]
struct Earlier {
    downloaded: u64,
    uploaded: u64,
    wasted: u64,
}

/// What is known once the metadata is.
struct Content {
    meta: Arc<Metainfo>,
    store: Arc<dyn PieceStore>,
    state_path: Option<PathBuf>,
    /// Pieces stored since the last save began.
    unsaved: bool,
    saving: bool,
    save_at: Instant,
    finished: bool,
    /// The files of what was chosen are being finished, or are.
    settled: bool,
    /// Pieces to be looked at again, and whether some are just now.
    doubted: BTreeSet<PieceIndex>,
    doubting: bool,
}

impl SwarmTask {
    pub(crate) fn new(
        node: Node,
        shared: Arc<Shared>,
        bundle: AddBundle,
        messages: mpsc::Receiver<Message>,
    ) -> Self {
        let (events_in, events) = mpsc::channel(EVENTS_LEN);
        let downlinks = [node.downlink().clone(), shared.downlink.clone()];
        let book = AddressBook::new(slots::own_address(&node));
        let memory = PieceShare::of(node.shared_memory());
        Self {
            node,
            memory,
            life: TaskTracker::new(),
            shared,
            bundle,
            messages,
            events_in,
            events,
            web: WebSeeds::new(downlinks),
            links: HashMap::new(),
            book,
            pex: PexExchange::default(),
            dht_port: None,
            early_nodes: Vec::new(),
            yielded_at: Instant::now(),
            dialling: 0,
            mute_by_tcp: HashSet::new(),
            jobs: JoinSet::new(),
            to_verify: VecDeque::new(),
            verifying: 0,
            unwritten: Vec::new(),
            retry_at: None,
            content: None,
            deadlines: BTreeSet::new(),
            trouble: None,
            stats_at: Instant::now(),
            earlier: Earlier::default(),
            told: false,
        }
    }

    /// Runs until the swarm is stopped or its storage fails.
    pub(crate) async fn run(mut self) {
        let ended = loop {
            match self.live().await {
                Ok(()) if self.shared.stop.is_cancelled() => break SwarmState::Stopped,
                Ok(()) => {
                    self.rest().await;
                    if self.shared.stop.is_cancelled() {
                        break SwarmState::Stopped;
                    }
                }
                Err(error) => {
                    tracing::error!(bundle = %self.name(), "{error}");
                    break SwarmState::Failed(error);
                }
            }
        };
        self.shared.stop.cancel();
        self.links.clear();
        self.save_last().await;
        self.shared.state.send_replace(ended);
    }

    async fn live(&mut self) -> Result<(), SwarmError> {
        let now = Instant::now();
        self.note_operators_peers(now);
        let mut want = std::mem::replace(&mut self.bundle.want, Want::None);
        let opened = match (self.rested(), self.bundle.source.clone()) {
            (Some(rested), _) => Some(rested),
            (None, Source::Metainfo(meta)) => match self.open(meta, &mut want).await? {
                Some(opened) => Some(opened),
                None => return Ok(()),
            },
            (None, Source::Magnet(_)) => None,
        };
        let (source, have) = match (&opened, &self.bundle.source) {
            (Some(opened), _) => (
                download::Source::Metainfo(Arc::clone(&opened.meta)),
                opened.checked.have.clone(),
            ),
            (None, Source::Magnet(magnet)) => {
                let (v1, v2) = (magnet.v1, magnet.v2);
                (download::Source::Magnet { v1, v2 }, Bitfield::none(0))
            }
            (None, Source::Metainfo(_)) => return Ok(()),
        };
        let config = DownloadConfig {
            upload_slots: self.node.config().upload_slots,
            upload_slots_max: self.node.config().upload_slots_max,
            super_seed: self.node.config().super_seed,
            // The rest of the node's is for newcomers, among whom the download chooses.
            peers_max: (self.node.config().peers_max / 5 * 4).max(1),
            seed_only: self.bundle.seed_only,
            peer_id: Some(self.node.peer_id()),
            ..DownloadConfig::default()
        };
        let mut download = Download::new(source, have, config, rand::random());
        match opened {
            Some(opened) => self.take_content(opened),
            None => {
                self.shared.state.send_replace(SwarmState::Metadata);
            }
        }
        self.want(&mut download, want);
        if *self.shared.paused.borrow() {
            return Ok(());
        }
        if download.is_complete() {
            self.finish_soon();
        }
        // Before anybody is there to be asked: until then there is no bound.
        self.memory.regulate(Instant::now(), &mut download);
        self.join_web_seeds(&mut download);
        self.start_announcers();
        self.start_dht();
        // Who read on through a rest waits still.
        self.follow_readers(&mut download);
        let ended = self.drive(&mut download).await;
        // Trackers are told what was published, and are left next.
        self.publish_now(Instant::now(), &download);
        let figures = download.stats();
        self.earlier.downloaded += figures.downloaded;
        self.earlier.uploaded += figures.uploaded;
        self.earlier.wasted += figures.wasted;
        ended
    }

    async fn drive(&mut self, download: &mut Download) -> Result<(), SwarmError> {
        let shared = Arc::clone(&self.shared);
        let turn = self.memory.turn();
        let mut paused = shared.paused.subscribe();
        loop {
            if *paused.borrow_and_update() {
                return Ok(());
            }
            self.act(download);
            if self.memory.regulate(Instant::now(), download) {
                self.act(download);
            }
            self.settle(download);
            self.call_peers(Instant::now(), download);
            self.publish(Instant::now(), download);
            let wake = self.next_wake(download);
            let told = std::mem::take(&mut self.told);
            tokio::select! {
                () = shared.stop.cancelled() => return Ok(()),
                _ = paused.changed() => {}
                Some(events) = self.events.recv() => {
                    self.hear(download, events);
                    for _ in 0..EVENTS_PER_TURN {
                        match self.events.try_recv() {
                            Ok(events) => self.hear(download, events),
                            Err(_) => break,
                        }
                    }
                }
                Some(event) = self.web.events.recv(), if download.has_web_room() => {
                    self.hear_web(download, event);
                }
                Some(message) = self.messages.recv() => self.take(download, message),
                Some(done) = self.jobs.join_next() => match done {
                    Ok(done) => self.done(download, done)?,
                    Err(error) => return Err(SwarmError::Storage(error.to_string())),
                },
                () = turn.notified() => {}
                () = shared.readers_changed.notified() => self.follow_readers(download),
                () = tokio::time::sleep_until(wake.into()) => {
                    self.told = told;
                    self.tick(download);
                }
            }
        }
    }

    /// A bundle that nobody asks for and that wants nothing sleeps on.
    fn next_wake(&self, download: &Download) -> Instant {
        let mut wake = Instant::now() + SLEEP_MAX;
        let figures = !self.told || download.poll_timeout().is_some();
        let unsaved = self
            .content
            .as_ref()
            .filter(|content| content.unsaved && !content.saving);
        let book = match self.may_call() {
            true => self.book.next_due(),
            false => None,
        };
        for at in [
            download.poll_timeout(),
            self.retry_at,
            book,
            self.pex.poll_timeout(),
            figures.then(|| self.stats_at + STATS_EVERY),
            unsaved.map(|content| content.save_at + SAVE_EVERY),
        ] {
            wake = at.map_or(wake, |at| at.min(wake));
        }
        wake
    }

    fn tick(&mut self, download: &mut Download) {
        let now = Instant::now();
        if download.poll_timeout().is_some_and(|at| at <= now) {
            download.handle_timeout(now);
        }
        self.exchange_peers(now);
        self.make_room(now, download);
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
            for piece in std::mem::take(&mut self.unwritten) {
                self.write_again(piece);
            }
        }
        let due = |content: &Content| {
            content.unsaved && !content.saving && content.save_at + SAVE_EVERY <= now
        };
        if self.content.as_ref().is_some_and(due) {
            self.save();
        }
    }

    /// Does what the download decided.
    fn act(&mut self, download: &mut Download) {
        while let Some(action) = download.poll_action() {
            match action {
                Action::Command(conn, command) => {
                    self.send(conn, LinkCommand::Session(command));
                }
                Action::ReadBlock { conn, range } => {
                    if let Some(content) = &self.content {
                        let store = Arc::clone(&content.store);
                        self.send(conn, LinkCommand::Serve(range, store));
                    }
                }
                Action::Verify(assembled) => {
                    self.to_verify.push_back(assembled);
                    self.verify_more();
                }
                Action::BlockVerified(block) => self.keep(&block),
                Action::HashLeaves(piece) => self.hash_leaves(download, piece),
                Action::Metadata(meta) => self.open_later(Arc::new(*meta)),
                Action::Close(conn, reason) => self.hang_up(conn, reason),
                Action::Ban {
                    addr,
                    peer_id,
                    reason,
                } => self.ban(addr, peer_id, &reason),
                Action::Punch(addr) => self.punch(addr, download),
                Action::Completed => self.finish_soon(),
                Action::UnusableMetadata(error) => {
                    tracing::error!(bundle = %self.name(), %error, "unusable metadata");
                    self.trouble = Some(format!("unusable metadata: {error}"));
                }
                action => self.act_web(action),
            }
        }
    }

    fn take(&mut self, download: &mut Download, message: Message) {
        let now = Instant::now();
        match message {
            Message::Incoming(incoming) => self.answer(download, incoming),
            Message::Want(want) => self.want(download, want),
            Message::DhtPort(port) => self.tell_dht_port(port),
            Message::Unread(pieces) => self.doubt(pieces),
            Message::Report(to) => {
                // Whoever asked may have gone.
                let _ = to.send(self.peer_reports(download));
            }
            Message::WebSeeds(to) => {
                let _ = to.send(download.web_seed_stats(now));
            }
            peers @ Message::Peers { .. } => self.note_peers(peers, now),
        }
    }

    fn note_peers(&mut self, message: Message, now: Instant) {
        let Message::Peers {
            addrs,
            swarm_id,
            trust,
        } = message
        else {
            return;
        };
        let policy = self.node.connector().policy();
        for addr in addrs.into_iter().map(canonical) {
            if !self.book.add(addr, swarm_id, trust, policy, now) {
                tracing::debug!(%addr, "peer address refused: a stranger may not send us there");
            } else if trust == Trust::CommandLine && !self.bundle.peers.contains(&addr) {
                // The book does not outlast a rest.
                self.bundle.peers.push(addr);
            }
        }
    }

    fn note_operators_peers(&mut self, now: Instant) {
        let Some(&swarm_id) = self.shared.swarm_ids.first() else {
            return;
        };
        for &addr in &self.bundle.peers {
            let policy = self.node.connector().policy();
            let trust = Trust::CommandLine;
            self.book.add(addr, swarm_id, trust, policy, now);
        }
        if let Source::Magnet(magnet) = &self.bundle.source {
            let named = Message::Peers {
                addrs: magnet.peers.clone(),
                swarm_id,
                trust: self.bundle.trust,
            };
            self.note_peers(named, now);
        }
    }

    fn start_announcers(&self) {
        for tiers in announce::groups(&self.bundle, self.node.config().discovery.udp_trackers) {
            let (node, shared) = (self.node.announcing(), Arc::clone(&self.shared));
            let announcer = Announcer::new(node, shared, tiers);
            self.node
                .tasks()
                .spawn(self.life.track_future(announcer.run()));
        }
    }

    /// Makes the content known to handles and readers.
    fn take_content(&mut self, opened: Opened) {
        let Opened {
            meta,
            store,
            state_path,
            checked,
        } = opened;
        tracing::info!(
            bundle = %meta.name(),
            pieces = checked.have.len(),
            have = checked.have.count(),
            hashed = checked.hashed,
            "checked"
        );
        for piece in checked.wrong.iter().take(20) {
            tracing::warn!(
                bundle = %meta.name(),
                piece = piece.get(),
                "piece on disk is wrong, and not served"
            );
        }
        {
            let stats = self.shared.stats.lock();
            let mut stats = stats.unwrap_or_else(PoisonError::into_inner);
            stats.name = meta.name().to_owned();
            stats.pieces = meta.geometry().piece_count();
            stats.total_bytes = meta.geometry().total_length();
            stats.have = checked.have.count();
            if self.content.is_none() {
                stats.wrong = checked.wrong.iter().map(|piece| piece.get()).collect();
            }
            stats.checked = stats.pieces;
        }
        let unsaved = checked.hashed > 0;
        let have = self.shared.have.write();
        *have.unwrap_or_else(PoisonError::into_inner) = checked.have;
        let _ = self.shared.store.set(Arc::clone(&store));
        self.content = Some(Content {
            meta: Arc::clone(&meta),
            store,
            state_path,
            unsaved,
            saving: false,
            save_at: Instant::now(),
            finished: false,
            settled: false,
            doubted: BTreeSet::new(),
            doubting: false,
        });
        self.shared.meta.send_replace(Some(meta));
        self.shared.state.send_replace(SwarmState::Fetching);
        self.shared.gained.send_modify(|count| *count += 1);
    }

    fn publish(&mut self, now: Instant, download: &Download) {
        if self.stats_at + STATS_EVERY <= now {
            self.publish_now(now, download);
            self.told = true;
        }
    }

    fn publish_now(&mut self, now: Instant, download: &Download) {
        self.stats_at = now;
        self.tell_worth(download);
        let figures = download.stats();
        let stats = self.shared.stats.lock();
        let mut stats = stats.unwrap_or_else(PoisonError::into_inner);
        stats.peers = figures.peers;
        stats.seeds = figures.seeds;
        stats.known_peers = self.book.len();
        stats.down_bytes = self.earlier.downloaded + figures.downloaded;
        stats.up_bytes = self.earlier.uploaded + figures.uploaded;
        stats.wasted_bytes = self.earlier.wasted + figures.wasted;
        stats.down_rate = figures.down_rate;
        stats.up_rate = figures.up_rate;
        stats.have = figures.have;
        stats.trouble.clone_from(&self.trouble);
    }

    fn name(&self) -> String {
        let stats = self.shared.stats.lock();
        stats.unwrap_or_else(PoisonError::into_inner).name.clone()
    }
}
