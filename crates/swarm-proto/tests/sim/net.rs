//! Downloads joined by a simulated network and clock.
//!
//! Everything that happens comes from one heap of events in the order of their time, and every
//! choice from one generator: a seed tells the whole story again. Connections are as TCP makes
//! them: what is lost comes later and holds up what was sent after it, and a peer that vanished is
//! only noticed by its silence.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use swarm_proto::bitfield::Bitfield;
use swarm_proto::download::{Download, DownloadConfig, PeerInfo, Source};
use swarm_proto::session::{ConnectionId, PeerSession, SessionConfig, SessionEvent};

use super::node::{Conn, Manner, Node, peer_id};
use super::torrent::Torrent;

/// Bytes of data in one packet.
const PACKET_LEN: usize = 1448;
/// The least time after which a lost packet is sent again when nothing follows it.
const RETRANSMIT_MIN: Duration = Duration::from_millis(200);

/// What a simulated network is like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weather {
    /// Least and greatest one-way delay of a connection.
    pub(crate) latency: (Duration, Duration),
    /// Mean time until a connection breaks; it is dialled again. Zero: never.
    pub(crate) drop_after: Duration,
    /// Share of packets that are lost, and so delayed by a round trip.
    pub(crate) loss: f64,
}

/// A connection: the two nodes, the caller first.
#[derive(Debug, Clone)]
struct Link {
    ends: [usize; 2],
    latency: Duration,
    up: bool,
    /// Nothing overtakes on a connection.
    arrives_at: [Instant; 2],
    /// What waits for the way to be open again, by its sender's end.
    held: [Vec<Bytes>; 2],
    /// When the first of it was sent in vain.
    held_since: [Option<Instant>; 2],
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Wake {
        node: usize,
    },
    WakeConn {
        node: usize,
        link: usize,
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
    Leave {
        node: usize,
    },
    Vanish {
        node: usize,
    },
    Return {
        node: usize,
    },
}

pub(crate) struct Net {
    pub(crate) now: Instant,
    pub(crate) start: Instant,
    pub(crate) nodes: Vec<Node>,
    links: Vec<Link>,
    /// Pairs that are connected, as far as both know; the smaller first.
    pairs: BTreeSet<(usize, usize)>,
    /// Ways that nothing passes, from and to.
    blocked: BTreeSet<(usize, usize)>,
    events: BinaryHeap<Reverse<(Instant, u64, Event)>>,
    count: u64,
    weather: Weather,
    pub(crate) rng: SmallRng,
    pub(crate) torrent: Torrent,
    /// Events so far.
    pub(crate) steps: u64,
}

impl Net {
    pub(crate) fn new(seed: u64, weather: Weather, torrent: &Torrent) -> Self {
        let now = Instant::now();
        Self {
            now,
            start: now,
            nodes: Vec::new(),
            links: Vec::new(),
            pairs: BTreeSet::new(),
            blocked: BTreeSet::new(),
            events: BinaryHeap::new(),
            count: 0,
            weather,
            rng: SmallRng::seed_from_u64(seed),
            torrent: torrent.clone(),
            steps: 0,
        }
    }

    /// Time since the beginning.
    pub(crate) fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// A node with settings and an address of its own; each next one is in another /16.
    pub(crate) fn node(
        &mut self,
        source: Source,
        have: Bitfield,
        uplink: f64,
        config: DownloadConfig,
    ) -> usize {
        let index = self.nodes.len();
        let number = u32::try_from(index).expect("not so many nodes");
        let [.., a, b] = (number + 1).to_be_bytes();
        let addr = SocketAddr::from(([60 + a, b, 100, 1], 6881 + (number % 1000) as u16));
        let config = DownloadConfig {
            peer_id: Some(peer_id(number)),
            ..config
        };
        let download = Download::new(source, have, config, self.rng.random());
        let torrent = self.torrent.clone();
        self.nodes
            .push(Node::new(download, number, addr, uplink, torrent, self.now));
        index
    }

    /// A peer that has everything; `uplink` in bytes a second.
    pub(crate) fn seed(&mut self, uplink: f64) -> usize {
        let have = Bitfield::all(self.torrent.meta.geometry().piece_count());
        let source = Source::Metainfo(self.torrent.meta.clone());
        self.node(source, have, uplink, DownloadConfig::default())
    }

    /// A peer that has nothing yet.
    pub(crate) fn leech(&mut self, uplink: f64) -> usize {
        let have = Bitfield::none_of(self.torrent.meta.geometry());
        let source = Source::Metainfo(self.torrent.meta.clone());
        self.node(source, have, uplink, DownloadConfig::default())
    }

    /// A peer that has only a magnet link.
    pub(crate) fn magnet(&mut self, uplink: f64, v1: bool, v2: bool) -> usize {
        let source = Source::Magnet {
            v1: self.torrent.meta.info_hash_v1().filter(|_| v1),
            v2: self.torrent.meta.info_hash_v2().filter(|_| v2),
        };
        self.node(source, Bitfield::none(0), uplink, DownloadConfig::default())
    }

    fn at(&mut self, at: Instant, event: Event) {
        self.count += 1;
        self.events.push(Reverse((at, self.count, event)));
    }

    /// `from` calls `to` at that time.
    pub(crate) fn dial(&mut self, after: Duration, from: usize, to: usize) {
        self.at(self.now + after, Event::Dial { from, to });
    }

    /// Every pair is connected, one way or the other, within a second.
    pub(crate) fn mesh(&mut self) {
        for b in 0..self.nodes.len() {
            for a in 0..b {
                self.dial_either(a, b);
            }
        }
    }

    /// Each node calls so many others, within a second.
    pub(crate) fn join_at_random(&mut self, calls: usize) {
        for a in 0..self.nodes.len() {
            for _ in 0..calls {
                let b = self.rng.random_range(0..self.nodes.len());
                if a != b {
                    self.dial_either(a, b);
                }
            }
        }
    }

    fn dial_either(&mut self, a: usize, b: usize) {
        let (from, to) = if self.rng.random() { (a, b) } else { (b, a) };
        let after = Duration::from_millis(self.rng.random_range(0..1000));
        self.dial(after, from, to);
    }

    /// The node goes, and comes back with what it had.
    pub(crate) fn churn(&mut self, node: usize, leave: Duration, back: Duration) {
        self.at(self.now + leave, Event::Leave { node });
        self.at(self.now + back, Event::Return { node });
    }

    /// The node falls silent without a word, as a cable that is cut; and comes back with what it
    /// had.
    pub(crate) fn vanish(&mut self, node: usize, leave: Duration, back: Duration) {
        self.at(self.now + leave, Event::Vanish { node });
        self.at(self.now + back, Event::Return { node });
    }

    /// From now on nothing comes from any of `from` to any of `to`.
    pub(crate) fn block(&mut self, from: &[usize], to: &[usize]) {
        for a in from {
            self.blocked.extend(to.iter().map(|b| (*a, *b)));
        }
    }

    /// Everything passes again. What was sent meanwhile comes when TCP tries next: after each
    /// attempt in vain it waits twice as long.
    pub(crate) fn heal(&mut self) {
        self.blocked.clear();
        for link in 0..self.links.len() {
            for end in 0..2 {
                let held = std::mem::take(&mut self.links[link].held[end]);
                let Some(since) = self.links[link].held_since[end].take() else {
                    continue;
                };
                let outage = self.now - since;
                let (mut at, mut wait) = (Duration::ZERO, self.retransmit(link));
                while at < outage {
                    at += wait;
                    wait *= 2;
                }
                let mut arrival = since + at + self.links[link].latency;
                for bytes in held {
                    arrival = arrival.max(self.links[link].arrives_at[end]);
                    self.links[link].arrives_at[end] = arrival;
                    let to = 1 - end;
                    self.at(arrival, Event::Deliver { link, to, bytes });
                }
            }
        }
    }

    fn retransmit(&self, link: usize) -> Duration {
        (self.links[link].latency * 2).max(RETRANSMIT_MIN)
    }

    /// Whether the other end of the connection is still there.
    pub(crate) fn is_answered(&self, id: ConnectionId) -> bool {
        let link = &self.links[id.0 as usize];
        let there = |node: &usize| self.nodes[*node].conns.contains_key(&id);
        link.ends.iter().all(there)
    }

    /// Lets time go on until `done` or `limit`; whether it was done.
    pub(crate) fn run(&mut self, limit: Duration, done: impl Fn(&Net) -> bool) -> bool {
        let end = self.now + limit;
        while !done(self) {
            let Some(Reverse((at, nth, event))) = self.events.pop() else {
                return false;
            };
            if at > end {
                self.events.push(Reverse((at, nth, event)));
                self.now = end;
                return done(self);
            }
            self.now = at;
            self.steps += 1;
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
            Event::WakeConn { node, link } => {
                if let Some(end) = self.nodes[node].conns.get_mut(&conn(link)) {
                    end.wake_at = None;
                    self.nodes[node].touched.push(conn(link));
                    self.pump(node);
                }
            }
            Event::Deliver { link, to, bytes } => self.deliver(link, to, &bytes),
            Event::Break { link } => self.break_link(link),
            Event::Dial { from, to } => self.connect(from, to),
            Event::Leave { node } => {
                self.nodes[node].online = false;
                let links: Vec<_> = self.nodes[node].conns.keys().copied().collect();
                links
                    .into_iter()
                    .for_each(|conn| self.break_link(conn.0 as usize));
            }
            Event::Vanish { node } => {
                self.nodes[node].online = false;
                let conns = std::mem::take(&mut self.nodes[node].conns);
                for conn in conns.into_keys() {
                    let [a, b] = self.links[conn.0 as usize].ends;
                    self.pairs.remove(&(a.min(b), a.max(b)));
                    self.nodes[node].download.peer_left(self.now, conn);
                }
                self.nodes[node].act_all(self.now);
            }
            Event::Return { node } => {
                self.nodes[node].online = true;
                for other in 0..self.nodes.len() {
                    if other != node {
                        self.connect(node, other);
                    }
                }
            }
        }
    }

    fn deliver(&mut self, link: usize, to: usize, bytes: &Bytes) {
        let Link { up, ends, .. } = self.links[link];
        let node = ends[to];
        if !up {
            return;
        }
        let Some(end) = self.nodes[node].conns.get_mut(&conn(link)) else {
            // Who came back knows nothing of the connection, and says so.
            if self.nodes[node].online {
                self.break_link(link);
            }
            return;
        };
        // However the bytes are cut.
        let cut = self.rng.random_range(0..=bytes.len());
        end.session.handle_bytes(self.now, &bytes[..cut]);
        end.session.handle_bytes(self.now, &bytes[cut..]);
        self.nodes[node].touched.push(conn(link));
        self.pump(node);
    }

    fn connect(&mut self, from: usize, to: usize) {
        let pair = (from.min(to), from.max(to));
        let (a, b) = (&self.nodes[from], &self.nodes[to]);
        let refused = a.download.is_banned(b.addr, None) || b.download.is_banned(a.addr, None);
        if refused || !a.online || !b.online || self.pairs.contains(&pair) {
            return;
        }
        if self.blocked.contains(&(from, to)) || self.blocked.contains(&(to, from)) {
            let after = Duration::from_millis(self.rng.random_range(1000..3000));
            return self.dial(after, from, to);
        }
        let (least, most) = self.weather.latency;
        let latency = least + (most - least).mul_f64(self.rng.random::<f64>());
        let link = self.links.len();
        self.pairs.insert(pair);
        self.links.push(Link {
            ends: [from, to],
            latency,
            up: true,
            arrives_at: [self.now; 2],
            held: [Vec::new(), Vec::new()],
            held_since: [None; 2],
        });
        for (end, index) in [from, to].into_iter().enumerate() {
            let other = self.nodes[[to, from][end]].addr;
            let info = PeerInfo {
                addr: other,
                outgoing: end == 0,
            };
            let known = |node: usize| match self.nodes[node].manner {
                Manner::Bep3 => 1,
                _ => self.torrent.meta.swarm_ids().len(),
            };
            let ids = self.torrent.meta.swarm_ids()[..known(index)].to_vec();
            let v2 = ids.len() > 1 || self.torrent.meta.info_hash_v1().is_none();
            let common = known(from).min(known(to));
            let mut config = SessionConfig::new(self.nodes[index].peer_id, ids.clone(), v2);
            // Either id of a hybrid leads to the same swarm.
            config.dialled = (end == 0).then(|| ids[self.rng.random_range(0..common)]);
            let node = &mut self.nodes[index];
            config.upload_only = node.download.begins_upload_only(self.now);
            let session = PeerSession::new(config, self.now);
            let ready = false;
            let opened = Conn {
                session,
                end,
                wake_at: None,
                ready,
            };
            node.conns.insert(conn(link), opened);
            node.download.peer_joined(self.now, conn(link), info);
            node.touched.push(conn(link));
        }
        if !self.weather.drop_after.is_zero() {
            let life = self.weather.drop_after;
            let after = life.mul_f64(self.rng.random::<f64>() * 2.0);
            self.at(self.now + after, Event::Break { link });
        }
        self.pump(from);
        self.pump(to);
    }

    fn break_link(&mut self, link: usize) {
        if !std::mem::replace(&mut self.links[link].up, false) {
            return;
        }
        let [a, b] = self.links[link].ends;
        self.pairs.remove(&(a.min(b), a.max(b)));
        self.links[link].held = [Vec::new(), Vec::new()];
        for node in [a, b] {
            if let Some(end) = self.nodes[node].conns.get_mut(&conn(link)) {
                end.session.handle_eof(self.now);
                self.nodes[node].touched.push(conn(link));
            }
            self.pump(node);
        }
        let after = Duration::from_millis(self.rng.random_range(100..3000));
        self.dial(after, a, b);
    }

    /// Does all that a node has to do now.
    fn pump(&mut self, index: usize) {
        let now = self.now;
        loop {
            let node = &mut self.nodes[index];
            let touched = std::mem::take(&mut node.touched);
            if touched.is_empty() && !self.turn(index) {
                break;
            }
            let node = &mut self.nodes[index];
            for id in touched {
                let Some(end) = node.conns.get_mut(&id) else {
                    continue;
                };
                if end.session.poll_timeout().is_some_and(|at| at <= now) {
                    end.session.handle_timeout(now);
                }
                while let Some(event) = end.session.poll_event() {
                    if let SessionEvent::Block(block) = &event {
                        node.asked.remove(&block.range());
                    }
                    node.download.handle_event(now, id, event);
                }
                if end.session.is_closed().is_some() {
                    node.conns.remove(&id);
                    node.download.peer_left(now, id);
                    let link = id.0 as usize;
                    self.count += 1;
                    let event = Event::Break { link };
                    self.events.push(Reverse((now, self.count, event)));
                } else {
                    if !std::mem::replace(&mut end.ready, true) {
                        node.ready.push_back(id);
                    }
                    if let Some(next) = end.session.poll_timeout()
                        && end.wake_at.is_none_or(|at| next < at)
                    {
                        end.wake_at = Some(next);
                        let link = id.0 as usize;
                        self.count += 1;
                        let event = Event::WakeConn { node: index, link };
                        self.events.push(Reverse((next, self.count, event)));
                    }
                }
            }
            if node.download.poll_timeout().is_some_and(|at| at <= now) {
                node.download.handle_timeout(now);
            }
            node.act_all(now);
        }
        self.schedule(index);
    }

    /// What is left to do once no connection was touched; whether that touched any.
    fn turn(&mut self, index: usize) -> bool {
        let now = self.now;
        let node = &mut self.nodes[index];
        if node.download.poll_timeout().is_some_and(|at| at <= now) {
            node.download.handle_timeout(now);
        }
        node.act_all(now);
        self.transmit(index);
        !self.nodes[index].touched.is_empty()
    }

    /// Sends from each connection in turn as long as the uplink is free.
    fn transmit(&mut self, index: usize) {
        while self.nodes[index].uplink_free_at <= self.now {
            let node = &mut self.nodes[index];
            let Some(id) = node.ready.pop_front() else {
                return;
            };
            let Some(end) = node.conns.get_mut(&id) else {
                continue;
            };
            end.ready = false;
            let Some(bytes) = end.session.poll_transmit_bytes() else {
                continue;
            };
            end.ready = true;
            node.ready.push_back(id);
            // A block that left makes room for the next request.
            node.touched.push(id);
            node.sent += bytes.len() as u64;
            node.uplink_free_at =
                self.now + Duration::from_secs_f64(bytes.len() as f64 / node.uplink);
            let (sent_at, end) = (node.uplink_free_at, end.end);
            self.send(id.0 as usize, end, sent_at, bytes);
        }
    }

    fn send(&mut self, link: usize, end: usize, sent_at: Instant, bytes: Bytes) {
        let [a, b] = self.links[link].ends;
        let way = if end == 0 { (a, b) } else { (b, a) };
        if self.blocked.contains(&way) {
            self.links[link].held_since[end].get_or_insert(self.now);
            self.links[link].held[end].push(bytes);
            return;
        }
        let mut lost = Duration::ZERO;
        if self.weather.loss > 0.0 {
            let packets = bytes.len().div_ceil(PACKET_LEN);
            let kept = (1.0 - self.weather.loss).powi(i32::try_from(packets).unwrap_or(i32::MAX));
            let mut odds = 1.0 - kept;
            // What is sent again may be lost again, alone now.
            while self.rng.random::<f64>() < odds {
                lost += self.retransmit(link);
                odds = self.weather.loss;
            }
        }
        let link_state = &mut self.links[link];
        let arrival = (sent_at + link_state.latency + lost).max(link_state.arrives_at[end]);
        link_state.arrives_at[end] = arrival;
        let to = 1 - end;
        self.at(arrival, Event::Deliver { link, to, bytes });
    }

    fn schedule(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        let busy = (node.uplink_free_at > self.now && !node.ready.is_empty())
            .then_some(node.uplink_free_at);
        let next = node.download.poll_timeout().into_iter().chain(busy).min();
        if let Some(next) = next
            && node.wake_at.is_none_or(|at| next < at)
        {
            node.wake_at = Some(next);
            self.at(next, Event::Wake { node: index });
        }
    }
}

fn conn(link: usize) -> ConnectionId {
    ConnectionId(link as u64)
}
