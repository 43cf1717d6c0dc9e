//! Whom to serve.
//!
//! A slot that is free is given at once: a peer that waits for the next round to be unchoked loses
//! seconds in which nobody gains. While more peers want than there are slots, a seed passes half
//! of the slots on each round, to those that waited longest. A leech keeps those that give it
//! most, and one more by turns, so that a peer with nothing to give yet gets something.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::Download;
use super::host::{host, is_shared};
use super::peers::Peer;
use super::takers::Taking;
use crate::session::{Command, ConnectionId};

/// A quiet peer that waited so long gets a slot until the next round.
const QUIET_WAIT: Duration = Duration::from_secs(60);

/// How many slots each address and each network has.
#[derive(Debug, Default, Clone)]
pub(super) struct Hosts {
    addresses: HashMap<IpAddr, usize>,
    networks: HashMap<IpAddr, usize>,
}

impl Hosts {
    fn add(&mut self, ip: IpAddr) {
        *self.addresses.entry(host(ip)).or_default() += 1;
        *self.networks.entry(network(ip)).or_default() += 1;
    }

    /// Whether the address has none, and its network no more than one: a tenant has many addresses.
    /// On a private network there is no saying who has what.
    pub(super) fn have_room_for(&self, ip: IpAddr) -> bool {
        let (own, near) = self.crowding(ip);
        own == 0 && (near < 2 || is_shared(ip))
    }

    /// How many addresses have one.
    pub(super) fn count(&self) -> usize {
        self.addresses.len()
    }

    /// Slots of the address, and of its network: the fewer, the sooner the next.
    fn crowding(&self, ip: IpAddr) -> (usize, usize) {
        let of = |hosts: &HashMap<IpAddr, usize>, ip| hosts.get(&ip).copied().unwrap_or(0);
        (
            of(&self.addresses, host(ip)),
            of(&self.networks, network(ip)),
        )
    }
}

/// The /24 of an IPv4 address, the /48 of an IPv6 address: what one tenant is given.
fn network(ip: IpAddr) -> IpAddr {
    match host(ip) {
        IpAddr::V4(ip) => IpAddr::from((u32::from(ip) & 0xffff_ff00).to_be_bytes()),
        IpAddr::V6(ip) => IpAddr::from((u128::from(ip) & !((1 << 80) - 1)).to_be_bytes()),
    }
}

impl Download {
    /// Gives free slots away.
    pub(super) fn fill_slots(&mut self, now: Instant) {
        loop {
            if !self.free_slots().any() && !self.free_crowded_slot(now) {
                return;
            }
            let free = self.free_slots();
            let waiting = self.peers.iter().filter(|(_, peer)| {
                peer.wants && peer.we_choke && !self.should_await_suggestion(now, peer)
            });
            let allowed = self.slots_allowed();
            let Some(conn) = waiting
                .filter(|(_, peer)| peer.taking <= allowed && free.are_for(peer))
                .min_by_key(|(_, peer)| {
                    let hosts = free.hosts.crowding(peer.info.addr.ip());
                    (peer.taking, hosts, peer.choke_since)
                })
                .map(|(conn, _)| *conn)
            else {
                return;
            };
            self.set_choke(now, conn, false);
        }
    }

    /// Takes a slot from an address that has two or that tells nothing, if one that has none waits.
    /// Whether it did.
    fn free_crowded_slot(&mut self, now: Instant) -> bool {
        let hosts = self.hosts_served();
        let slots = |peer: &Peer| hosts.crowding(peer.info.addr.ip()).0;
        let waits = |peer: &Peer| {
            peer.is_waiting() && slots(peer) == 0 && !self.should_await_suggestion(now, peer)
        };
        if !self.peers.values().any(waits) {
            return false;
        }
        let served = self
            .peers
            .iter()
            .filter(|(_, peer)| !peer.we_choke && peer.wants);
        let rank = |peer: &Peer| {
            let is_quiet = peer.taking != Taking::Fairly && !peer.has_turn(now);
            (is_quiet, slots(peer))
        };
        let crowded = served.max_by_key(|(_, peer)| rank(peer));
        match crowded.map(|(conn, peer)| (*conn, rank(peer))) {
            Some((conn, (true, _) | (_, 2..))) => {
                self.set_choke(now, conn, true);
                true
            }
            _ => false,
        }
    }

    /// Gives a slot to the quiet peer that has waited longest, if it waited long and none has one
    /// in this way.
    fn give_turn(&mut self, now: Instant) {
        let mut peers = self.peers.values();
        if peers.any(|peer| peer.has_turn(now)) {
            return;
        }
        let waits = |peer: &Peer| {
            let quiet = peer.wants && peer.we_choke && peer.taking == Taking::Quietly;
            quiet && peer.choke_since + QUIET_WAIT <= now
        };
        let waiting = self.peers.iter().filter(|(_, peer)| waits(peer));
        let longest = waiting.min_by_key(|(_, peer)| peer.choke_since);
        if let Some(conn) = longest.map(|(conn, _)| *conn) {
            if let Some(peer) = self.peers.get_mut(&conn) {
                peer.turn_until = Some(now + self.config.rechoke);
            }
            self.set_choke(now, conn, false);
            // Of another quiet one, if there is one that has a slot.
            let quiet = self.peers.iter().filter(|(_, peer)| {
                !peer.we_choke && peer.taking == Taking::Quietly && !peer.has_turn(now)
            });
            let longest = quiet.min_by_key(|(_, peer)| peer.choke_since);
            if let Some(conn) = longest.map(|(conn, _)| *conn)
                && self.served() > self.slots()
            {
                self.set_choke(now, conn, true);
            }
        }
    }

    pub(super) fn hosts_served(&self) -> Hosts {
        let mut hosts = Hosts::default();
        let served = self
            .peers
            .values()
            .filter(|peer| !peer.we_choke && peer.wants);
        served.for_each(|peer| hosts.add(peer.info.addr.ip()));
        hosts
    }

    /// Slots in use.
    pub(super) fn served(&self) -> usize {
        let served = |peer: &&Peer| !peer.we_choke && peer.wants;
        self.peers.values().filter(served).count()
    }

    /// Gives the slots anew.
    pub(super) fn rechoke(&mut self, now: Instant) {
        self.measure_capacity(now);
        let slots = self.slots();
        self.give_turn(now);
        // Quiet ones have no slot passed on to them, only what is left free.
        let in_turns = match self.slots_allowed() {
            Taking::Only => Taking::Only,
            _ => Taking::Fairly,
        };
        let mut served: Vec<ConnectionId> = Vec::new();
        let mut waiting: Vec<ConnectionId> = Vec::new();
        for (conn, peer) in &self.peers {
            match (peer.wants, peer.we_choke) {
                (true, true) if peer.taking > in_turns => {}
                (true, false) if peer.has_turn(now) => {}
                (true, true) => waiting.push(*conn),
                (true, false) => served.push(*conn),
                _ => {}
            }
        }
        if served.len() + waiting.len() <= slots {
            return self.fill_slots(now);
        }
        let since = |conn: &ConnectionId| self.peers.get(conn).map(|peer| peer.choke_since);
        // Whose address or network has few slots waits for the least time, and whose has many
        // loses them first: connections are cheap, addresses less so.
        let ip = |conn: &ConnectionId| self.peers.get(conn).map(|peer| peer.info.addr.ip());
        let hosts = self.hosts_served();
        let crowding = |conn: &ConnectionId| ip(conn).map(|ip| hosts.crowding(ip));
        let taking = |conn: &ConnectionId| self.peers.get(conn).map(|peer| peer.taking);
        waiting.sort_by_key(|conn| (taking(conn), crowding(conn), since(conn)));
        served.sort_by_key(since);
        let mut twins = Vec::new();
        if slots > self.config.upload_slots {
            let mut then = hosts.clone();
            waiting.retain(|conn| {
                let Some(ip) = ip(conn) else {
                    return false;
                };
                let fits = then.have_room_for(ip);
                match fits {
                    true => then.add(ip),
                    false => twins.push(*conn),
                }
                fits
            });
        }
        let mut seen = Hosts::default();
        let mut ranks: HashMap<ConnectionId, (usize, usize)> = HashMap::new();
        for conn in &served {
            if let Some(ip) = ip(conn) {
                ranks.insert(*conn, seen.crowding(ip));
                seen.add(ip);
            }
        }
        if !self.is_complete() {
            // The best givers come last, and so keep their slots.
            let given = |conn: &ConnectionId| {
                self.peers
                    .get(conn)
                    .map_or(0, |peer| peer.down.per_sec() as u64)
            };
            served.sort_by_key(given);
            let worst_served = served.first().map_or(0, given);
            // Whoever waits and gives more than somebody served gets a slot, and one more by turns.
            let turns = waiting.first().copied();
            waiting.retain(|conn| given(conn) > worst_served || Some(*conn) == turns);
        }
        served.sort_by_key(|conn| Reverse((taking(conn), ranks.get(conn).copied())));
        let passed_on = waiting.len().min(slots.div_ceil(2)).min(served.len());
        let beyond = served.len().saturating_sub(slots);
        let lost = (passed_on + beyond).min(served.len());
        let losers: Vec<_> = served.drain(..lost).collect();
        // Who has no room takes over from another of its host, or, if that has none, of its network:
        // neither gets more by that.
        let mut swaps = Vec::new();
        let mut swapped = HashSet::new();
        for twin in twins {
            let Some(own) = ip(&twin) else {
                continue;
            };
            let of = match hosts.crowding(own) {
                (0, _) => network,
                _ => host,
            };
            let same = |other: &&ConnectionId| ip(other).map(of) == Some(of(own));
            if let Some(other) = served.iter().filter(same).min_by_key(|other| since(other))
                && swapped.insert(network(own))
            {
                swaps.push((*other, twin));
            }
        }
        for conn in losers {
            self.set_choke(now, conn, true);
        }
        for (from, to) in swaps {
            self.set_choke(now, from, true);
            self.set_choke(now, to, false);
        }
        for conn in waiting.into_iter().take(passed_on) {
            self.set_choke(now, conn, false);
        }
        self.fill_slots(now);
    }

    pub(super) fn set_choke(&mut self, now: Instant, conn: ConnectionId, choke: bool) {
        if let Some(peer) = self.peers.get_mut(&conn)
            && peer.we_choke != choke
        {
            peer.we_choke = choke;
            peer.choke_since = now;
            if choke {
                self.forget_promises(conn);
            }
            self.command(conn, Command::Choke(choke));
        }
    }
}
