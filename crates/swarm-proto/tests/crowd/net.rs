//! Downloads joined by links with narrow ends and queues, in simulated time.
//!
//! Everything that happens comes from one heap of events in the order of their time, and every
//! choice from one generator: a seed tells the whole story again.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use swarm_proto::bitfield::Bitfield;
use swarm_proto::download::{Action, Download, DownloadConfig, PeerInfo, Source, SuperSeed};
use swarm_proto::id::PeerId;
use swarm_proto::merkle;
use swarm_proto::metainfo::Metainfo;
use swarm_proto::session::{Command, ConnectionId, PeerSession, SessionConfig, SessionEvent};
use swarm_proto::verify::verify;

/// What a simulated network is like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weather {
    /// Least and greatest one-way delay of a connection.
    pub(crate) latency: (Duration, Duration),
}

pub(crate) struct Node {
    pub(crate) download: Download,
    pub(crate) addr: SocketAddr,
    peer_id: PeerId,
    /// Bytes a second that it can send.
    uplink: f64,
    uplink_free_at: Instant,
    /// Bytes a second that it can take in; without end, if nothing else is said.
    pub(crate) downlink: f64,
    downlink_free_at: Instant,
    /// It throws away what it fetched and fetches it again, for ever.
    pub(crate) greedy: bool,
    /// Of another kind: it ignores suggestions.
    deaf: bool,
    /// It tells nobody of the pieces that it got.
    pub(crate) quiet: bool,
    /// It answers no request.
    pub(crate) mute: bool,
    meta: Option<Arc<Metainfo>>,
    pub(crate) content: Vec<u8>,
    sessions: BTreeMap<ConnectionId, (PeerSession, usize)>,
    turn: u64,
    wake_at: Option<Instant>,
    pub(crate) online: bool,
    pub(crate) completed_at: Option<Instant>,
    pub(crate) sent: u64,
}

/// A connection: the two nodes, the caller first.
#[derive(Debug, Clone)]
struct Link {
    ends: [usize; 2],
    latency: Duration,
    up: bool,
    /// Nothing overtakes on a connection.
    arrives_at: [Instant; 2],
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Wake {
        node: usize,
    },
    /// At the narrow end of a downlink.
    Arrive {
        link: usize,
        to: usize,
        bytes: Bytes,
    },
    Deliver {
        link: usize,
        to: usize,
        bytes: Bytes,
    },
    Break {
        link: usize,
    },
    Dial {
        from: usize,
        to: usize,
    },
}

pub(crate) struct Net {
    pub(crate) now: Instant,
    pub(crate) start: Instant,
    pub(crate) nodes: Vec<Node>,
    links: Vec<Link>,
    events: BinaryHeap<Reverse<(Instant, u64, Event)>>,
    count: u64,
    weather: Weather,
    /// What an uplink takes in ahead of what it has sent: the queues of socket and router.
    pub(crate) queue: Duration,
    /// What headers add to each byte, and what a byte costs its receiver in acknowledgements.
    pub(crate) overhead: (f64, f64),
    /// What seeds show to leeches of other kinds.
    pub(crate) super_seed: SuperSeed,
    rng: SmallRng,
    meta: Arc<Metainfo>,
    content: Arc<Vec<u8>>,
}

impl Net {
    pub(crate) fn new(
        seed: u64,
        weather: Weather,
        meta: &Arc<Metainfo>,
        content: &Arc<Vec<u8>>,
    ) -> Self {
        let now = Instant::now();
        Self {
            now,
            start: now,
            nodes: Vec::new(),
            links: Vec::new(),
            events: BinaryHeap::new(),
            count: 0,
            weather,
            queue: Duration::ZERO,
            overhead: (0.0, 0.0),
            super_seed: SuperSeed::default(),
            rng: SmallRng::seed_from_u64(seed),
            meta: Arc::clone(meta),
            content: Arc::clone(content),
        }
    }

    fn node(&mut self, source: Source, have: Bitfield, content: Vec<u8>, uplink: f64) -> usize {
        let index = self.nodes.len();
        let mut peer_id = *b"-SW0000-............";
        peer_id[19] = index as u8;
        let peer_id = PeerId::new(peer_id);
        let config = DownloadConfig {
            peer_id: Some(peer_id),
            super_seed: self.super_seed,
            ..DownloadConfig::default()
        };
        let meta = match &source {
            Source::Metainfo(meta) => Some(Arc::clone(meta)),
            Source::Magnet { .. } => None,
        };
        self.nodes.push(Node {
            download: Download::new(source, have, config, self.rng.random()),
            addr: SocketAddr::from(([198, 51, 100, index as u8], 6881)),
            peer_id,
            uplink,
            uplink_free_at: self.now,
            downlink: f64::INFINITY,
            downlink_free_at: self.now,
            greedy: false,
            deaf: false,
            quiet: false,
            mute: false,
            meta,
            content,
            sessions: BTreeMap::new(),
            turn: 0,
            wake_at: None,
            online: true,
            completed_at: None,
            sent: 0,
        });
        index
    }

    /// A peer that has everything; `uplink` in bytes a second.
    pub(crate) fn seed(&mut self, uplink: f64) -> usize {
        let have = Bitfield::all(self.meta.geometry().piece_count());
        let content = self.content.to_vec();
        self.node(
            Source::Metainfo(Arc::clone(&self.meta)),
            have,
            content,
            uplink,
        )
    }

    /// A peer that has nothing yet.
    pub(crate) fn leech(&mut self, uplink: f64) -> usize {
        let have = Bitfield::none_of(self.meta.geometry());
        let content = vec![0; self.content.len()];
        self.node(
            Source::Metainfo(Arc::clone(&self.meta)),
            have,
            content,
            uplink,
        )
    }

    /// A leech that takes what it likes: it ignores suggestions, and asks far ahead.
    pub(crate) fn deaf_leech(&mut self, uplink: f64) -> usize {
        let index = self.leech(uplink);
        let mut peer_id = *b"-XX0000-............";
        peer_id[19] = index as u8;
        let config = DownloadConfig {
            depth_secs: 3.0,
            depth_max: 250,
            ..DownloadConfig::default()
        };
        let have = Bitfield::none_of(self.meta.geometry());
        let source = Source::Metainfo(Arc::clone(&self.meta));
        let node = &mut self.nodes[index];
        node.deaf = true;
        node.peer_id = PeerId::new(peer_id);
        node.download = Download::new(source, have, config, self.rng.random());
        index
    }

    fn at(&mut self, at: Instant, event: Event) {
        self.count += 1;
        self.events.push(Reverse((at, self.count, event)));
    }

    /// `from` calls `to` at that time.
    pub(crate) fn dial(&mut self, after: Duration, from: usize, to: usize) {
        self.at(self.now + after, Event::Dial { from, to });
    }

    /// Lets time go on until `done` or `limit`; whether it was done.
    pub(crate) fn run(&mut self, limit: Duration, done: impl Fn(&Net) -> bool) -> bool {
        let end = self.now + limit;
        while !done(self) {
            let Some(Reverse((at, order, event))) = self.events.pop() else {
                return false;
            };
            if at > end {
                self.now = end;
                self.events.push(Reverse((at, order, event)));
                return false;
            }
            self.now = at;
            self.happen(event);
        }
        true
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Wake { node } => {
                if self.nodes[node].wake_at.is_some_and(|at| at <= self.now) {
                    self.nodes[node].wake_at = None;
                }
                self.pump(node);
            }
            Event::Arrive { link, to, bytes } => {
                let node = &mut self.nodes[self.links[link].ends[to]];
                let len = bytes.len() as f64 * (1.0 + self.overhead.0);
                let free_at = node.downlink_free_at.max(self.now);
                node.downlink_free_at = free_at + Duration::from_secs_f64(len / node.downlink);
                let at = node.downlink_free_at;
                self.at(at, Event::Deliver { link, to, bytes });
            }
            Event::Deliver { link, to, bytes } => {
                let Link { up, ends, .. } = self.links[link];
                let node = ends[to];
                if up && let Some((session, _)) = self.nodes[node].sessions.get_mut(&conn(link)) {
                    // However the bytes are cut.
                    let cut = self.rng.random_range(0..=bytes.len());
                    session.handle_bytes(self.now, &bytes[..cut]);
                    session.handle_bytes(self.now, &bytes[cut..]);
                    self.pump(node);
                }
            }
            Event::Break { link } => self.break_link(link),
            Event::Dial { from, to } => self.connect(from, to),
        }
    }

    fn connect(&mut self, from: usize, to: usize) {
        let is_up = |link: &Link| link.up && (link.ends == [from, to] || link.ends == [to, from]);
        let (a, b) = (&self.nodes[from], &self.nodes[to]);
        let refused = a.download.is_banned(b.addr, None) || b.download.is_banned(a.addr, None);
        if refused || !a.online || !b.online || self.links.iter().any(is_up) {
            return;
        }
        let (least, most) = self.weather.latency;
        let latency = least + (most - least).mul_f64(self.rng.random::<f64>());
        let link = self.links.len();
        let arrives_at = [self.now; 2];
        self.links.push(Link {
            ends: [from, to],
            latency,
            up: true,
            arrives_at,
        });
        for (end, node) in [from, to].into_iter().enumerate() {
            let other = self.nodes[[to, from][end]].addr;
            let info = PeerInfo {
                addr: other,
                outgoing: end == 0,
            };
            let node = &mut self.nodes[node];
            let ids = match &node.meta {
                Some(meta) => meta.swarm_ids(),
                None => self.meta.swarm_ids(),
            };
            let mut config = SessionConfig::new(node.peer_id, ids.clone(), true);
            // Either id of a hybrid leads to the same swarm.
            if node.deaf {
                config.client = "another".to_owned();
            }
            config.dialled = (end == 0).then(|| ids[self.rng.random_range(0..ids.len())]);
            config.upload_only = node.download.begins_upload_only(self.now);
            node.download.peer_joined(self.now, conn(link), info);
            node.sessions
                .insert(conn(link), (PeerSession::new(config, self.now), end));
        }
        self.pump(from);
        self.pump(to);
    }

    fn break_link(&mut self, link: usize) {
        if !std::mem::replace(&mut self.links[link].up, false) {
            return;
        }
        let ends = self.links[link].ends;
        for node in ends {
            if let Some((session, _)) = self.nodes[node].sessions.get_mut(&conn(link)) {
                session.handle_eof(self.now);
            }
            self.pump(node);
        }
    }

    /// Does all that a node has to do now.
    fn pump(&mut self, index: usize) {
        let now = self.now;
        let node = &mut self.nodes[index];
        let mut closed = Vec::new();
        loop {
            let mut idle = true;
            for (conn, (session, _)) in &mut node.sessions {
                if session.poll_timeout().is_some_and(|at| at <= now) {
                    session.handle_timeout(now);
                }
                while let Some(event) = session.poll_event() {
                    if node.deaf && matches!(event, SessionEvent::Suggested(_)) {
                        continue;
                    }
                    node.download.handle_event(now, *conn, event);
                    idle = false;
                }
                if session.is_closed().is_some() {
                    closed.push(*conn);
                }
            }
            for conn in closed.drain(..) {
                node.sessions.remove(&conn);
                node.download.peer_left(now, conn);
                self.events.push(Reverse((
                    now,
                    0,
                    Event::Break {
                        link: conn.0 as usize,
                    },
                )));
            }
            if node.download.poll_timeout().is_some_and(|at| at <= now) {
                node.download.handle_timeout(now);
            }
            while let Some(action) = node.download.poll_action() {
                node.act(now, action);
                idle = false;
            }
            if idle {
                break;
            }
        }
        self.transmit(index);
        self.schedule(index);
    }

    /// Sends from each connection in turn as long as the uplink is free.
    fn transmit(&mut self, index: usize) {
        loop {
            let node = &mut self.nodes[index];
            if node.uplink_free_at > self.now + self.queue {
                return;
            }
            let after: Vec<_> = node.sessions.keys().copied().collect();
            let first = after.partition_point(|conn| conn.0 <= node.turn);
            let order = after[first..].iter().chain(&after[..first]);
            let next = order.copied().find_map(|conn| {
                let (session, end) = node.sessions.get_mut(&conn)?;
                Some((conn, *end, session.poll_transmit_bytes()?))
            });
            let Some((conn, end, bytes)) = next else {
                return;
            };
            node.turn = conn.0;
            node.sent += bytes.len() as u64;
            let len = bytes.len() as f64 * (1.0 + self.overhead.0);
            let free_at = node.uplink_free_at.max(self.now);
            node.uplink_free_at = free_at + Duration::from_secs_f64(len / node.uplink);
            let link = &mut self.links[conn.0 as usize];
            let arrival = (node.uplink_free_at + link.latency).max(link.arrives_at[end]);
            let to = &mut self.nodes[link.ends[1 - end]];
            let acks = bytes.len() as f64 * self.overhead.1 / to.uplink;
            if acks > 0.0 {
                to.uplink_free_at = to.uplink_free_at.max(self.now) + Duration::from_secs_f64(acks);
            }
            link.arrives_at[end] = arrival;
            let queued = to.downlink.is_finite();
            let (link, to) = (conn.0 as usize, 1 - end);
            let event = match queued {
                true => Event::Arrive { link, to, bytes },
                false => Event::Deliver { link, to, bytes },
            };
            self.at(arrival, event);
        }
    }

    fn schedule(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        let sessions = node
            .sessions
            .values()
            .filter_map(|(session, _)| session.poll_timeout());
        let busy = node.uplink_free_at.checked_sub(self.queue);
        let busy = busy.filter(|at| *at > self.now);
        let next = sessions
            .chain(node.download.poll_timeout())
            .chain(busy)
            .min();
        if let Some(next) = next
            && node.wake_at.is_none_or(|at| next < at)
        {
            node.wake_at = Some(next);
            self.at(next, Event::Wake { node: index });
        }
    }
}

impl Node {
    fn act(&mut self, now: Instant, action: Action) {
        match action {
            Action::Command(conn, command) => self.command(now, conn, command),
            Action::Verify(piece) => {
                let meta = self
                    .meta
                    .clone()
                    .expect("verified after the metadata is known");
                match verify(&meta, piece) {
                    Ok(verified) if self.greedy => {
                        self.download.piece_lost(now, verified.piece());
                    }
                    Ok(verified) => {
                        let start = meta.geometry().piece_offset(verified.piece()) as usize;
                        let place = &mut self.content[start..][..verified.bytes().len()];
                        place.copy_from_slice(verified.bytes());
                        self.download.piece_verified(now, verified.piece());
                    }
                    Err(error) => self.download.piece_failed(now, &error),
                }
            }
            Action::ReadBlock { .. } if self.mute => {}
            Action::ReadBlock { conn, range } => {
                let meta = self
                    .meta
                    .as_ref()
                    .expect("asked after the metadata is known");
                let place = meta.geometry().block_bytes(&range);
                let bytes = self.content[place.start as usize..place.end as usize].to_vec();
                self.command(now, conn, Command::SendBlock(range, bytes.into()));
            }
            Action::HashLeaves(piece) => {
                let meta = self
                    .meta
                    .as_ref()
                    .expect("asked after the metadata is known");
                let tree = meta.piece_tree(piece).expect("asked of v2 torrents only");
                let start = meta.geometry().piece_offset(piece) as usize;
                let leaves = merkle::leaves(&self.content[start..][..tree.data_len as usize]);
                self.download.leaves_hashed(piece, Some(leaves));
            }
            Action::BlockVerified(_) => {}
            Action::Close(conn, reason) => self.command(now, conn, Command::Close(reason)),
            Action::Completed => {
                self.completed_at.get_or_insert(now);
            }
            other => panic!("unforeseen action {other:?}"),
        }
    }

    fn command(&mut self, now: Instant, conn: ConnectionId, command: Command) {
        if self.quiet && matches!(command, Command::Have(_)) {
            return;
        }
        if let Some((session, _)) = self.sessions.get_mut(&conn) {
            session.handle_command(now, command);
        }
    }
}

fn conn(link: usize) -> ConnectionId {
    ConnectionId(link as u64)
}
