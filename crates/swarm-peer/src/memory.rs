//! Memory that all bundles and connections of a node share ([`NodeConfig::memory`](crate::NodeConfig)).
//!
//! One half is for pieces between the first block and the disk; who may have how much of it is
//! [`PieceBudget`]'s decision. The other half is for the buffers of connections. Each connection
//! may always have its least, a block to send and a small buffer to read into, so that none ever
//! waits for another; more it has only while there is some left.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use swarm_proto::download::{Download, MemberId, Need, PieceBudget, Room};
use tokio::sync::Notify;

/// What a node holds of its memory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryReport {
    /// What the operator allows.
    pub limit: u64,
    /// Pieces under way, or on their way to the disk.
    pub pieces: u64,
    /// The most there ever was.
    pub pieces_max: u64,
    /// Buffers of connections.
    pub links: u64,
    /// The most there ever was.
    pub links_max: u64,
}

/// The memory of one node.
#[derive(Debug)]
pub(crate) struct Memory {
    limit: u64,
    pieces: Mutex<Pieces>,
    /// Somebody waits for memory for a piece.
    short: AtomicBool,
    held: AtomicU64,
    held_max: AtomicU64,
    links: Arc<LinkMemory>,
}

#[derive(Debug)]
struct Pieces {
    budget: PieceBudget,
    next_id: MemberId,
    /// Whom to wake when it is their turn.
    turns: HashMap<MemberId, Arc<Notify>>,
}

impl Memory {
    pub(crate) fn new(limit: u64) -> Arc<Self> {
        let pieces = Pieces {
            budget: PieceBudget::new(limit / 2),
            next_id: 0,
            turns: HashMap::new(),
        };
        let links = LinkMemory {
            limit: limit / 2,
            ..LinkMemory::default()
        };
        Arc::new(Self {
            limit,
            pieces: Mutex::new(pieces),
            short: AtomicBool::new(false),
            held: AtomicU64::new(0),
            held_max: AtomicU64::new(0),
            links: Arc::new(links),
        })
    }

    pub(crate) fn links(&self) -> &Arc<LinkMemory> {
        &self.links
    }

    pub(crate) fn report(&self) -> MemoryReport {
        MemoryReport {
            limit: self.limit,
            pieces: self.held.load(Ordering::Relaxed),
            pieces_max: self.held_max.load(Ordering::Relaxed),
            links: self.links.used.load(Ordering::Relaxed),
            links_max: self.links.most.load(Ordering::Relaxed),
        }
    }

    fn pieces(&self) -> MutexGuard<'_, Pieces> {
        self.pieces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pieces {
    fn wake_next(&self, but: MemberId) {
        let next = self.budget.next().filter(|next| *next != but);
        if let Some(turn) = next.and_then(|next| self.turns.get(&next)) {
            turn.notify_one();
        }
    }
}

/// One bundle's part of the memory for pieces; given back when this is dropped.
#[derive(Debug)]
pub(crate) struct PieceShare {
    memory: Arc<Memory>,
    id: MemberId,
    turn: Arc<Notify>,
    held: u64,
    last: Option<(Need, Room)>,
}

impl PieceShare {
    pub(crate) fn of(memory: &Arc<Memory>) -> Self {
        let turn = Arc::new(Notify::new());
        let mut pieces = memory.pieces();
        pieces.next_id += 1;
        let id = pieces.next_id;
        pieces.turns.insert(id, Arc::clone(&turn));
        drop(pieces);
        Self {
            memory: Arc::clone(memory),
            id,
            turn,
            held: 0,
            last: None,
        }
    }

    fn note(&mut self, held: u64) {
        let order = Ordering::Relaxed;
        if held > self.held {
            let more = held - self.held;
            let before = self.memory.held.fetch_add(more, order);
            self.memory.held_max.fetch_max(before + more, order);
        } else {
            self.memory.held.fetch_sub(self.held - held, order);
        }
        self.held = held;
    }

    /// Notified when it may be worth asking again.
    pub(crate) fn turn(&self) -> Arc<Notify> {
        Arc::clone(&self.turn)
    }

    /// Tells what the download holds and wishes, and it what it may hold; whether it was told, and
    /// so may have something to do.
    pub(crate) fn regulate(&mut self, now: Instant, download: &mut Download) -> bool {
        let Some(room) = self.settle(now, download.need()) else {
            return false;
        };
        let before = self.held;
        download.set_room(now, room);
        let need = download.need();
        // What it gave up is for others at once: it may not be awake again for long.
        if need.held < before
            && let Some(room) = self.settle(now, need)
        {
            download.set_room(now, room);
        }
        true
    }

    /// Tells what is held and wished; what may be held, if that is to be looked at.
    pub(crate) fn settle(&mut self, now: Instant, need: Need) -> Option<Room> {
        self.note(need.held);
        if let Some((last, room)) = self.last {
            let is_content = need.wish > 0 && need.wish == last.wish && room.bytes >= need.wish;
            // Only where somebody waits is it of use to tell of each piece, or that pieces stand
            // still.
            let short = self.memory.short.load(Ordering::Relaxed);
            let is_idle = need == last && need.wish == 0 && (need.held == 0 || !short);
            if is_idle || (is_content && !short) {
                return None;
            }
        }
        let mut pieces = self.memory.pieces();
        let room = pieces.budget.ask(now, self.id, need);
        pieces.wake_next(self.id);
        let short = pieces.budget.next().is_some();
        self.memory.short.store(short, Ordering::Relaxed);
        drop(pieces);
        self.last = Some((need, room));
        Some(room)
    }
}

impl Drop for PieceShare {
    fn drop(&mut self) {
        self.note(0);
        let mut pieces = self.memory.pieces();
        pieces.budget.leave(self.id);
        pieces.turns.remove(&self.id);
        pieces.wake_next(self.id);
    }
}

/// What the buffers of all connections have together.
#[derive(Debug, Default)]
pub(crate) struct LinkMemory {
    limit: u64,
    used: AtomicU64,
    most: AtomicU64,
}

/// Bytes of a connection's buffers; given back when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct LinkShare {
    of: Option<Arc<LinkMemory>>,
    bytes: u64,
}

impl LinkMemory {
    /// So many bytes, if there are as many left.
    pub(crate) fn try_take(self: &Arc<Self>, bytes: u64) -> Option<LinkShare> {
        let take = |used: u64| used.checked_add(bytes).filter(|all| *all <= self.limit);
        let order = Ordering::Relaxed;
        let before = self.used.fetch_update(order, order, take).ok()?;
        Some(self.taken(before, bytes))
    }

    /// So many bytes, come what may: the least of a connection.
    pub(crate) fn take(self: &Arc<Self>, bytes: u64) -> LinkShare {
        let before = self.used.fetch_add(bytes, Ordering::Relaxed);
        self.taken(before, bytes)
    }

    fn taken(self: &Arc<Self>, before: u64, bytes: u64) -> LinkShare {
        let all = before.saturating_add(bytes);
        self.most.fetch_max(all, Ordering::Relaxed);
        LinkShare {
            of: Some(Arc::clone(self)),
            bytes,
        }
    }
}

impl Drop for LinkShare {
    fn drop(&mut self) {
        if let Some(of) = &self.of {
            of.used.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use swarm_proto::bitfield::Bitfield;
    use swarm_proto::download::{self, Action, DownloadConfig, PeerInfo};
    use swarm_proto::id::PeerId;
    use swarm_proto::metainfo::{FileHasher, Metainfo, MetainfoBuilder};
    use swarm_proto::session::{ConnectionId, PieceSet, SessionEvent};
    use swarm_proto::wire::ReservedBits;

    use super::*;

    #[test]
    fn f15_buffers_of_connections_stay_below_their_half_but_for_the_least_of_each() {
        let memory = Memory::new(2000);
        let links = memory.links();
        let first = links.try_take(600).unwrap();
        assert!(links.try_take(500).is_none());
        let second = links.try_take(400).unwrap();
        let least = links.take(16);
        assert!(links.try_take(1).is_none());
        assert_eq!(memory.report().links, 1016);
        drop((first, least));
        assert!(links.try_take(600).is_some());
        drop(second);
        assert_eq!(
            (memory.report().links, memory.report().links_max),
            (0, 1016)
        );
    }

    #[tokio::test]
    async fn who_waits_for_memory_is_woken_when_it_is_there() {
        let memory = Memory::new(2 * 256);
        let need = |held, wish| Need {
            held,
            wish,
            piece: 256,
        };
        let (mut one, mut two) = (PieceShare::of(&memory), PieceShare::of(&memory));
        let now = Instant::now();
        assert_eq!(one.settle(now, need(0, 1024)).unwrap().bytes, 256);
        assert_eq!(two.settle(now, need(0, 1024)).unwrap().bytes, 0);
        assert!(one.settle(now, need(256, 1024)).unwrap().others_wait);
        assert_eq!(one.settle(now, need(0, 1024)).unwrap().bytes, 0);
        two.turn().notified().await;
        assert_eq!(two.settle(now, need(0, 1024)).unwrap().bytes, 256);
        drop(two);
        one.turn().notified().await;
        assert_eq!(one.settle(now, need(0, 1024)).unwrap().bytes, 256);
        drop(one);
        assert_eq!(memory.report().pieces, 0);
    }

    const PIECE: u32 = 16_384;

    fn torrent(content: &[u8]) -> Arc<Metainfo> {
        torrent_of(content, PIECE)
    }

    fn torrent_of(content: &[u8], piece: u32) -> Arc<Metainfo> {
        let mut builder = MetainfoBuilder::new("site", piece);
        let mut hasher = FileHasher::new(piece);
        hasher.update(content);
        builder.file(vec!["file".to_owned()], hasher.finish());
        Arc::new(builder.build().unwrap())
    }

    fn leech(meta: &Arc<Metainfo>) -> Download {
        let have = Bitfield::none_of(meta.geometry());
        let source = download::Source::Metainfo(Arc::clone(meta));
        Download::new(source, have, DownloadConfig::default(), 1)
    }

    /// One turn of the driver; ranges that are asked for come at once.
    fn turn(download: &mut Download, share: &mut PieceShare, now: Instant, content: &[u8]) {
        loop {
            while let Some(action) = download.poll_action() {
                match action {
                    Action::FetchRange(fetch) => {
                        let range = fetch.range.start as usize..fetch.range.end as usize;
                        let bytes = Bytes::copy_from_slice(&content[range]);
                        download.web_bytes(now, fetch.seed, fetch.request, bytes);
                        download.web_ended(now, fetch.seed, fetch.request, Ok(()));
                    }
                    Action::Verify(piece) => download.piece_verified(now, piece.piece),
                    _ => {}
                }
            }
            let held = download.need();
            let told = share.regulate(now, download);
            if !told || download.need() == held {
                return;
            }
        }
    }

    #[test]
    fn f15_a_bundle_whose_last_seed_left_gives_its_memory_to_one_that_can_go_on() {
        let content: Vec<u8> = (0..20 * PIECE).map(|at| (at / 77) as u8).collect();
        let meta = torrent(&content);
        let memory = Memory::new(2 * 4 * u64::from(PIECE));
        let (mut one, mut two) = (leech(&meta), leech(&meta));
        let (mut ones, mut twos) = (PieceShare::of(&memory), PieceShare::of(&memory));
        let mut now = Instant::now();
        turn(&mut one, &mut ones, now, &content);
        let info = PeerInfo {
            addr: "198.51.100.1:6881".parse().unwrap(),
            outgoing: true,
        };
        let conn = ConnectionId(1);
        one.peer_joined(now, conn, info);
        for event in [
            SessionEvent::Established {
                peer_id: PeerId::new([1; 20]),
                swarm_id: meta.swarm_ids()[0],
                reserved: ReservedBits::OURS,
            },
            SessionEvent::PeerHas(PieceSet::All),
            SessionEvent::Choked(false),
        ] {
            one.handle_event(now, conn, event);
        }
        turn(&mut one, &mut ones, now, &content);
        assert_eq!(one.need().held, memory.report().limit / 2);
        one.peer_left(now, conn);
        turn(&mut one, &mut ones, now, &content);
        turn(&mut two, &mut twos, now, &content);
        two.web_seed_joined(now, ConnectionId(2), "http://198.51.100.2/".to_owned());
        turn(&mut two, &mut twos, now, &content);
        assert!(two.need().wish > 0 && two.need().held == 0);
        let start = now;
        while !two.is_complete() && now < start + Duration::from_secs(60) {
            now += Duration::from_millis(500);
            // That one is awake only when it asked to be.
            if one.poll_timeout().is_some_and(|at| at <= now) {
                one.handle_timeout(now);
                turn(&mut one, &mut ones, now, &content);
            }
            two.handle_timeout(now);
            turn(&mut two, &mut twos, now, &content);
        }
        assert!(two.is_complete(), "{:?} {:?}", one.need(), two.need());
        assert_eq!(one.need().held, 0);
    }

    /// A block every five seconds keeps a piece from standing still.
    #[test]
    fn f15_a_bundle_whose_web_seed_trickles_gives_its_memory_to_one_that_is_fast() {
        const LONG: u32 = 64 * PIECE;
        let content: Vec<u8> = (0..4 * LONG).map(|at| (at / 77) as u8).collect();
        let meta = torrent_of(&content, LONG);
        let memory = Memory::new(2 * u64::from(LONG));
        let (mut slow, mut fast) = (leech(&meta), leech(&meta));
        let (mut slows, mut fasts) = (PieceShare::of(&memory), PieceShare::of(&memory));
        let start = Instant::now();
        slow.web_seed_joined(start, ConnectionId(1), "http://198.51.100.1/".to_owned());
        slows.regulate(start, &mut slow);
        let mut asked = Vec::new();
        let mut done = None;
        for second in 0..120 {
            let now = start + Duration::from_secs(second);
            slow.handle_timeout(now);
            slows.regulate(now, &mut slow);
            while let Some(action) = slow.poll_action() {
                if let Action::FetchRange(fetch) = action {
                    asked.push((fetch.seed, fetch.request, fetch.range.start as usize));
                }
            }
            if second % 5 == 0 {
                for (seed, request, at) in &mut asked {
                    let bytes = Bytes::copy_from_slice(&content[*at..*at + PIECE as usize]);
                    *at += PIECE as usize;
                    slow.web_bytes(now, *seed, *request, bytes);
                }
                slows.regulate(now, &mut slow);
            }
            if second == 10 {
                assert_eq!(slow.need().held, u64::from(LONG), "all there is");
                fast.web_seed_joined(now, ConnectionId(2), "http://198.51.100.2/".to_owned());
            }
            fast.handle_timeout(now);
            turn(&mut fast, &mut fasts, now, &content);
            if fast.is_complete() {
                done.get_or_insert(second);
            }
        }
        assert!(done.is_some_and(|at| (25..40).contains(&at)), "{done:?}");
        assert!(memory.report().pieces_max <= u64::from(LONG));
    }
}
