//! Peers that speak WebSocket: who is in which swarm, and whose offers and answers go to whom
//! (spec 0005, 2.7).
//!
//! Pure, as all of the registry: a socket is a number here, and what is to be sent on is a value.
//! Nobody can call such a peer, so it has no place among addresses; it counts in the figures of
//! its swarms, and is met through offers alone.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use rand::{Rng, RngExt as _};
use swarm_proto::id::{PeerId, SwarmId};
use swarm_proto::tracker::ws::{Announce, Answer, Offer, OfferId};
use swarm_proto::tracker::{AnnounceEvent, AnnounceReply};

use super::moment::Tick;
use super::network::{Crowds, Network, PER_SWARM_MAX, SCAN_MAX, Spread};
use super::swarm::Standing;
use super::{AnnounceRefused, Moment, Registry};

/// Swarms that one socket may be in, 80 bytes each. More than the torrents of a page or of a
/// player; who seeds thousands takes a socket for each hundred.
const SWARMS_PER_SOCKET_MAX: usize = 128;

/// Offers that one socket has been given and not answered, 72 bytes each. Whoever has so many is
/// passed over: its browser has better to do than to hold more connections ready.
const OFFERS_WAITING_MAX: usize = 64;

/// Those of them that one network may have made: an eighth (T17).
const OFFERS_WAITING_OF_NETWORK_MAX: usize = OFFERS_WAITING_MAX / 8;

/// How long an offer may be answered. WebTorrent drops its own after 50 s.
const OFFER_AGE: Duration = Duration::from_secs(60);

/// One connection of a peer that speaks WebSocket; never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId(u64);

/// An offer that is to be passed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassOffer<'a> {
    /// To whom.
    pub to: SocketId,
    /// The swarm as that peer calls it.
    pub swarm_id: SwarmId,
    /// What.
    pub offer: &'a Offer,
}

/// An answer that is to be passed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassAnswer {
    /// To whom.
    pub to: SocketId,
    /// The swarm as that peer calls it.
    pub swarm_id: SwarmId,
}

/// All sockets and their swarms.
#[derive(Debug, Default)]
pub(super) struct WebPeers {
    sockets: HashMap<SocketId, Socket>,
    swarms: HashMap<SwarmId, WebSwarm>,
    /// In all swarms together.
    peers: usize,
    opened: u64,
}

#[derive(Debug)]
struct Socket {
    source: IpAddr,
    joined: Vec<Joined>,
    /// Offers that were passed on to it, the oldest first.
    offered: Vec<Offered>,
}

/// A socket's place in one swarm.
#[derive(Debug)]
struct Joined {
    /// The id that the swarm is kept under.
    swarm: SwarmId,
    /// The id that the peer announced.
    asked: SwarmId,
    peer_id: PeerId,
    standing: Standing,
    /// Index among the seeds or leeches.
    at: u32,
    expires: Tick,
}

#[derive(Debug)]
struct Offered {
    swarm: SwarmId,
    from: SocketId,
    id: OfferId,
    until: Tick,
    network: Option<Network>,
}

#[derive(Debug, Default)]
struct WebSwarm {
    seeds: Vec<SocketId>,
    leeches: Vec<SocketId>,
    /// Kept from the size on that makes a difference.
    crowds: Option<Box<Crowds>>,
}

impl WebSwarm {
    fn of(&mut self, standing: Standing) -> &mut Vec<SocketId> {
        match standing {
            Standing::Seed => &mut self.seeds,
            Standing::Leech => &mut self.leeches,
        }
    }

    fn len(&self) -> usize {
        self.seeds.len() + self.leeches.len()
    }
}

impl Registry {
    /// A peer has connected from `source`.
    pub fn open_socket(&mut self, source: IpAddr) -> SocketId {
        self.web.open(source.to_canonical())
    }

    /// It has gone, and with it its peers and what was offered to them.
    pub fn close_socket(&mut self, socket: SocketId) {
        for swarm in self.web.close(socket) {
            self.drop_if_idle(swarm);
        }
    }

    /// Takes an announce, and says to whom its offers go: to peers chosen by chance of the same
    /// swarm that speak WebSocket too, leeches only if the asker is a seed, one offer each.
    ///
    /// # Errors
    /// [`AnnounceRefused`]; nothing is stored or passed on then.
    pub fn announce_by_socket<'a>(
        &mut self,
        now: Moment,
        socket: SocketId,
        announce: &'a Announce,
    ) -> Result<(AnnounceReply, Vec<PassOffer<'a>>), AnnounceRefused> {
        let (id, _) = self.admit(now, &announce.swarm_id)?;
        let mut reply = self.reply(false);
        let mut passed = Vec::new();
        if announce.event == AnnounceEvent::Stopped {
            if self.web.leave(socket, id) {
                self.drop_if_idle(id);
            }
        } else {
            let config = &self.config.announce;
            let full = self.peers + self.web.len() >= config.peers_max;
            let expires = now.tick_after(config.peer_age);
            match self.web.join(socket, id, announce, expires, full) {
                Ok(before) => {
                    // Where its completions are counted, and figures looked up.
                    let (swarm, _) = self.swarms.open(id);
                    if announce.event == AnnounceEvent::Completed && before != Some(Standing::Seed)
                    {
                        swarm.downloaded = swarm.downloaded.saturating_add(1);
                    }
                    passed = self.web.offer(now, socket, id, announce, &mut self.rng);
                }
                Err(warning) => reply.warning = Some(warning.to_owned()),
            }
        }
        (reply.complete, reply.incomplete) = self.present(&id);
        Ok((reply, passed))
    }

    /// Says to whom an answer goes: to whoever made the offer, if this very peer was given it in
    /// the last minute, has not answered it yet, and both are still in the swarm.
    pub fn answer_by_socket(
        &mut self,
        now: Moment,
        socket: SocketId,
        answer: &Answer,
    ) -> Option<PassAnswer> {
        let (id, _) = self.admit(now, &answer.swarm_id).ok()?;
        self.web.answer(now, socket, id, answer)
    }
}

impl WebPeers {
    fn open(&mut self, source: IpAddr) -> SocketId {
        let socket = SocketId(self.opened);
        self.opened += 1;
        let fresh = Socket {
            source,
            joined: Vec::new(),
            offered: Vec::new(),
        };
        self.sockets.insert(socket, fresh);
        socket
    }

    /// Returns the swarms it was in.
    fn close(&mut self, socket: SocketId) -> Vec<SwarmId> {
        let joined = self.sockets.get(&socket).map(|known| &known.joined);
        let swarms: Vec<_> = joined.into_iter().flatten().map(|j| j.swarm).collect();
        for swarm in &swarms {
            self.leave(socket, *swarm);
        }
        self.sockets.remove(&socket);
        swarms
    }

    /// How many peers, in all swarms together.
    pub(super) const fn len(&self) -> usize {
        self.peers
    }

    /// Whether a swarm has any.
    pub(super) fn has(&self, swarm: &SwarmId) -> bool {
        self.swarms.contains_key(swarm)
    }

    /// Seeds and leeches of one swarm.
    pub(super) fn present(&self, swarm: &SwarmId) -> (usize, usize) {
        let known = self.swarms.get(swarm);
        known.map_or((0, 0), |swarm| (swarm.seeds.len(), swarm.leeches.len()))
    }

    /// Puts a peer into a swarm, or renews it. Returns what it was there before, or why it is
    /// not kept.
    fn join(
        &mut self,
        socket: SocketId,
        swarm: SwarmId,
        announce: &Announce,
        expires: Tick,
        full: bool,
    ) -> Result<Option<Standing>, &'static str> {
        let Some(known) = self.sockets.get_mut(&socket) else {
            return Err("connection is closing");
        };
        let standing = match announce.left {
            Some(0) => Standing::Seed,
            _ => Standing::Leech,
        };
        let mut fresh = Joined {
            swarm,
            asked: announce.swarm_id,
            peer_id: announce.peer_id,
            standing,
            at: 0,
            expires,
        };
        let crowded = known.joined.len() >= SWARMS_PER_SOCKET_MAX;
        let before = known.joined.iter_mut().find(|j| j.swarm == swarm);
        let before = match before {
            Some(joined) if joined.standing == standing => {
                fresh.at = joined.at;
                *joined = fresh;
                return Ok(Some(standing));
            }
            Some(joined) => {
                let before = joined.standing;
                self.leave(socket, swarm);
                Some(before)
            }
            None if full => return Err("tracker is full: you are not listed"),
            None if crowded => {
                return Err("enough swarms on one connection: you are not listed");
            }
            None => None,
        };
        if !self.has_room(socket, swarm) {
            return Err("enough peers of your network are listed: you are not");
        }
        let peers = self.swarms.entry(swarm).or_default();
        let list = peers.of(standing);
        // The registry's own limit on peers is far below 2^32.
        fresh.at = u32::try_from(list.len()).unwrap_or(u32::MAX);
        list.push(socket);
        if let Some(known) = self.sockets.get_mut(&socket) {
            if let Some(crowds) = &mut peers.crowds {
                crowds.add(known.source);
            }
            known.joined.push(fresh);
        }
        self.peers += 1;
        Ok(before)
    }

    /// Whether one more peer of this one's network may be in a swarm (T17).
    fn has_room(&mut self, socket: SocketId, swarm: SwarmId) -> bool {
        let (sockets, swarms) = (&self.sockets, &mut self.swarms);
        let Some(peers) = swarms.get_mut(&swarm) else {
            return true;
        };
        if peers.crowds.is_none() && peers.len() >= PER_SWARM_MAX {
            let all = peers.seeds.iter().chain(&peers.leeches);
            let sources = all.filter_map(|socket| Some(sockets.get(socket)?.source));
            peers.crowds = Some(Box::new(Crowds::of(sources)));
        }
        match (&peers.crowds, sockets.get(&socket)) {
            (Some(crowds), Some(known)) => !crowds.is_full(known.source),
            _ => true,
        }
    }

    /// Takes a peer out of a swarm. Returns whether it was in.
    fn leave(&mut self, socket: SocketId, swarm: SwarmId) -> bool {
        let Some(known) = self.sockets.get_mut(&socket) else {
            return false;
        };
        let Some(place) = known.joined.iter().position(|j| j.swarm == swarm) else {
            return false;
        };
        let joined = known.joined.swap_remove(place);
        let source = known.source;
        self.peers -= 1;
        let Some(peers) = self.swarms.get_mut(&swarm) else {
            return true;
        };
        if let Some(crowds) = &mut peers.crowds {
            crowds.remove(source);
        }
        let list = peers.of(joined.standing);
        list.swap_remove(joined.at as usize);
        let moved = list.get(joined.at as usize).copied();
        if list.capacity() / 4 > list.len() {
            list.shrink_to(list.len() * 2);
        }
        if let Some(moved) = moved.and_then(|moved| self.sockets.get_mut(&moved))
            && let Some(moved) = moved.joined.iter_mut().find(|j| j.swarm == swarm)
        {
            moved.at = joined.at;
        }
        if peers.len() == 0 {
            self.swarms.remove(&swarm);
        }
        true
    }

    /// Shares the offers of a peer out among others of its swarm: a window at a random place in
    /// the ring of leeches, then seeds, of each network an eighth while others are there (T17).
    fn offer<'a>(
        &mut self,
        now: Moment,
        socket: SocketId,
        swarm: SwarmId,
        announce: &'a Announce,
        rng: &mut impl Rng,
    ) -> Vec<PassOffer<'a>> {
        let wanted = announce.numwant.map_or(usize::MAX, |n| n as usize);
        let wanted = wanted.min(announce.offers.len());
        let tick = now.tick();
        let until = now.tick_after(OFFER_AGE);
        let asking = self.sockets.get(&socket);
        let network = asking.and_then(|known| Network::of(known.source));
        let standing = self.joined(socket, swarm).map(|joined| joined.standing);
        let seeds_too = standing == Some(Standing::Leech);
        let Some(peers) = self.swarms.get(&swarm) else {
            return Vec::new();
        };
        let total = peers.leeches.len() + if seeds_too { peers.seeds.len() } else { 0 };
        if wanted == 0 || total == 0 {
            return Vec::new();
        }
        let start = rng.random_range(0..total);
        let ring = peers.leeches.iter().chain(&peers.seeds).take(total);
        let ring = ring.clone().skip(start).chain(ring.take(start));
        let mut spread = Spread::new(wanted);
        let (mut chosen, mut crowded) = (Vec::with_capacity(wanted), Vec::new());
        for other in ring.take(SCAN_MAX) {
            if chosen.len() >= wanted {
                break;
            }
            let Some(known) = self.sockets.get_mut(other) else {
                continue;
            };
            if *other == socket || !known.has_room_for_an_offer(tick, network) {
                continue;
            }
            if spread.take(known.source) {
                chosen.push(*other);
            } else if crowded.len() < wanted {
                crowded.push(*other);
            }
        }
        chosen.extend(crowded.into_iter().take(wanted - chosen.len()));
        let mut passed = Vec::with_capacity(chosen.len());
        for (to, offer) in chosen.into_iter().zip(&announce.offers) {
            let Some(known) = self.sockets.get_mut(&to) else {
                continue;
            };
            let Some(joined) = known.joined.iter().find(|j| j.swarm == swarm) else {
                continue;
            };
            let swarm_id = joined.asked;
            known.offered.push(Offered {
                swarm,
                from: socket,
                id: offer.id,
                until,
                network,
            });
            passed.push(PassOffer {
                to,
                swarm_id,
                offer,
            });
        }
        passed
    }

    fn joined(&self, socket: SocketId, swarm: SwarmId) -> Option<&Joined> {
        let known = self.sockets.get(&socket)?;
        known.joined.iter().find(|j| j.swarm == swarm)
    }

    fn answer(
        &mut self,
        now: Moment,
        socket: SocketId,
        swarm: SwarmId,
        answer: &Answer,
    ) -> Option<PassAnswer> {
        let own = self.joined(socket, swarm)?;
        if own.peer_id != answer.peer_id {
            return None;
        }
        self.sockets.get_mut(&socket)?.forget_offers(now.tick());
        let offers = self.sockets.get(&socket)?.offered.iter().enumerate();
        let mut offers = offers.filter(|(_, o)| o.swarm == swarm && o.id == answer.offer_id);
        // Two peers may have given their offers one name.
        let (place, to) = offers.find_map(|(place, offered)| {
            let maker = self.joined(offered.from, swarm)?;
            let named = maker.peer_id == answer.to_peer_id;
            named.then_some((
                place,
                PassAnswer {
                    to: offered.from,
                    swarm_id: maker.asked,
                },
            ))
        })?;
        self.sockets.get_mut(&socket)?.offered.remove(place);
        Some(to)
    }

    /// Takes out all peers whose tick has come.
    pub(super) fn sweep(&mut self, now: Tick) {
        let aged: Vec<_> = self
            .sockets
            .iter()
            .flat_map(|(socket, known)| known.joined.iter().map(move |j| (*socket, j)))
            .filter(|(_, joined)| joined.expires <= now)
            .map(|(socket, joined)| (socket, joined.swarm))
            .collect();
        for (socket, swarm) in aged {
            self.leave(socket, swarm);
        }
        for known in self.sockets.values_mut() {
            known.forget_offers(now);
        }
    }

    /// Empties a swarm.
    pub(super) fn forget(&mut self, swarm: SwarmId) {
        for socket in self.all_of(swarm) {
            self.leave(socket, swarm);
        }
    }

    /// Moves all peers of a swarm to another: the two are one.
    pub(super) fn rename(&mut self, from: SwarmId, to: SwarmId) {
        for socket in self.all_of(from) {
            let Some(joined) = self.joined(socket, from) else {
                continue;
            };
            let again = Announce {
                left: (joined.standing == Standing::Seed).then_some(0),
                ..Announce::new(joined.asked, joined.peer_id)
            };
            let expires = joined.expires;
            self.leave(socket, from);
            // One that is in both stays what it is there; one too many of its network goes.
            if self.joined(socket, to).is_none() {
                let _ = self.join(socket, to, &again, expires, false);
            }
        }
    }

    fn all_of(&self, swarm: SwarmId) -> Vec<SocketId> {
        let peers = self.swarms.get(&swarm).into_iter();
        peers
            .flat_map(|peers| peers.seeds.iter().chain(&peers.leeches))
            .copied()
            .collect()
    }
}

impl Socket {
    fn forget_offers(&mut self, now: Tick) {
        self.offered.retain(|offered| offered.until > now);
        if self.offered.is_empty() {
            self.offered = Vec::new();
        }
    }

    /// Whether one more may wait here that somebody of this network made.
    fn has_room_for_an_offer(&mut self, now: Tick, network: Option<Network>) -> bool {
        self.forget_offers(now);
        let same = |offered: &&Offered| offered.network == network;
        let crowded = network.is_some()
            && self.offered.iter().filter(same).count() >= OFFERS_WAITING_OF_NETWORK_MAX;
        self.offered.len() < OFFERS_WAITING_MAX && !crowded
    }
}

#[cfg(test)]
mod tests;
