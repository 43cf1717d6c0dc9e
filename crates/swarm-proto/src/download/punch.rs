//! Hole punching (BEP 55): who introduces whom, and who may be called because of it.
//!
//! As relay: only two peers that are both connected here and both announced ut_holepunch. As the
//! one who is introduced: a few calls, for whoever introduces us may have made the address up.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::{Action, Download};
use crate::limits;
use crate::session::{Command, ConnectionId};
use crate::wire::HolepunchMessage;
use crate::wire::extended::ExtendedHandshake;
use crate::wire::holepunch::{HolepunchKind, HolepunchRefusal};

/// The window over which introductions are counted.
const WINDOW: Duration = Duration::from_secs(60);

/// How long an address that could not be reached is not asked for again.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// Relays asked for one address: who does not know it says so at once.
const RELAYS_MAX: usize = 3;

/// Ports below are services of the system's, and no peer's.
const PORT_MIN: u16 = 1024;

/// What hole punching has to know.
#[derive(Debug, Default)]
pub(super) struct Punches {
    sides: BTreeMap<ConnectionId, Side>,
    /// Addresses that could not be reached, and who was asked for an introduction.
    wanted: BTreeMap<SocketAddr, Wanted>,
    /// Calls that we were asked for without having asked.
    unasked: Budget,
}

/// One peer.
#[derive(Debug)]
struct Side {
    addr: SocketAddr,
    outgoing: bool,
    by_utp: bool,
    listen_port: Option<u16>,
    speaks: bool,
    asks: Budget,
}

#[derive(Debug)]
struct Wanted {
    since: Instant,
    asked: Vec<ConnectionId>,
}

/// Counts within a window.
#[derive(Debug, Default)]
struct Budget {
    since: Option<Instant>,
    spent: u32,
}

impl Budget {
    fn spend(&mut self, now: Instant, max: u32) -> bool {
        if self.since.is_none_or(|since| since + WINDOW <= now) {
            *self = Self {
                since: Some(now),
                spent: 0,
            };
        }
        self.spent = self.spent.saturating_add(1);
        self.spent <= max
    }
}

impl Side {
    /// Where others call it: by uTP what its router made of its port, else where it listens.
    fn contact(&self) -> SocketAddr {
        match self.listen_port {
            Some(port) if !self.by_utp && !self.outgoing => SocketAddr::new(self.addr.ip(), port),
            _ => self.addr,
        }
    }

    fn is_at(&self, addr: SocketAddr) -> bool {
        self.addr == addr || self.contact() == addr
    }
}

/// What follows from a message or a call in vain.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Say(ConnectionId, HolepunchMessage),
    Call(SocketAddr),
}

impl Punches {
    pub(super) fn joined(&mut self, conn: ConnectionId, addr: SocketAddr, outgoing: bool) {
        let side = Side {
            addr,
            outgoing,
            by_utp: false,
            listen_port: None,
            speaks: false,
            asks: Budget::default(),
        };
        self.sides.insert(conn, side);
    }

    pub(super) fn left(&mut self, conn: ConnectionId) {
        self.sides.remove(&conn);
    }

    pub(super) fn said(&mut self, conn: ConnectionId, said: &ExtendedHandshake) {
        if let Some(side) = self.sides.get_mut(&conn) {
            side.speaks = said.ut_holepunch.is_some();
            side.listen_port = said.listen_port.or(side.listen_port);
        }
    }

    /// An address could not be called: whom to ask for an introduction.
    fn unreachable(&mut self, now: Instant, addr: SocketAddr) -> Option<Outcome> {
        self.wanted
            .retain(|_, wanted| wanted.since + ASK_AGAIN_AFTER > now);
        if self.wanted.contains_key(&addr) || self.wanted.len() >= limits::PUNCHES_MAX {
            return None;
        }
        let asked = Vec::new();
        self.wanted.insert(addr, Wanted { since: now, asked });
        self.ask_next(addr)
    }

    fn ask_next(&mut self, addr: SocketAddr) -> Option<Outcome> {
        let wanted = self.wanted.get_mut(&addr)?;
        if wanted.asked.len() >= RELAYS_MAX {
            return None;
        }
        let mut relays = self.sides.iter().filter(|(conn, side)| {
            side.speaks && !side.is_at(addr) && !wanted.asked.contains(conn)
        });
        let conn = *relays.next()?.0;
        wanted.asked.push(conn);
        Some(Outcome::Say(conn, HolepunchMessage::rendezvous(addr)))
    }

    fn heard(
        &mut self,
        now: Instant,
        conn: ConnectionId,
        message: HolepunchMessage,
    ) -> Vec<Outcome> {
        let addr = message.addr;
        match message.kind {
            HolepunchKind::Rendezvous => self.introduce(now, conn, addr),
            HolepunchKind::Connect => self.introduced(now, conn, addr).into_iter().collect(),
            HolepunchKind::Error(_) => {
                let ours = self.wanted.get(&addr);
                match ours.is_some_and(|wanted| wanted.asked.last() == Some(&conn)) {
                    true => self.ask_next(addr).into_iter().collect(),
                    false => Vec::new(),
                }
            }
        }
    }

    /// A peer asks us to introduce it to `addr`.
    fn introduce(&mut self, now: Instant, conn: ConnectionId, addr: SocketAddr) -> Vec<Outcome> {
        let Some(asker) = self.sides.get_mut(&conn) else {
            return Vec::new();
        };
        // Whom we can't answer we don't serve, and who asks too much is not worth an answer.
        if !asker.speaks || !asker.asks.spend(now, limits::INTRODUCTIONS_PER_MINUTE_MAX) {
            return Vec::new();
        }
        let refuse = |refusal| vec![Outcome::Say(conn, HolepunchMessage::error(addr, refusal))];
        if asker.is_at(addr) {
            return refuse(HolepunchRefusal::NoSelf);
        }
        if !is_callable(addr) {
            return refuse(HolepunchRefusal::NoSuchPeer);
        }
        let from = asker.contact();
        let target = self.sides.iter().find(|(_, side)| side.is_at(addr));
        let Some((target_conn, target)) = target else {
            return refuse(HolepunchRefusal::NotConnected);
        };
        if !target.speaks {
            return refuse(HolepunchRefusal::NoSupport);
        }
        vec![
            Outcome::Say(*target_conn, HolepunchMessage::connect(from)),
            Outcome::Say(conn, HolepunchMessage::connect(target.contact())),
        ]
    }

    /// A peer says: call `addr` now.
    fn introduced(
        &mut self,
        now: Instant,
        conn: ConnectionId,
        addr: SocketAddr,
    ) -> Option<Outcome> {
        let wanted = self.wanted.get_mut(&addr);
        let asked = wanted.is_some_and(|wanted| {
            let at = wanted.asked.iter().position(|relay| *relay == conn);
            at.map(|at| wanted.asked.swap_remove(at)).is_some()
        });
        let speaks = self.sides.get(&conn).is_some_and(|side| side.speaks);
        let connected = self.sides.values().any(|side| side.is_at(addr));
        if !speaks || connected || !is_callable(addr) {
            return None;
        }
        let free = asked
            || self
                .unasked
                .spend(now, limits::UNASKED_PUNCHES_PER_MINUTE_MAX);
        free.then_some(Outcome::Call(addr))
    }
}

/// Whether there can be a peer at all; which networks may be called is the driver's to know.
fn is_callable(addr: SocketAddr) -> bool {
    let ip = addr.ip().to_canonical();
    let nobody = match ip {
        IpAddr::V4(ip) => ip.is_unspecified() || ip.is_broadcast() || ip.is_multicast(),
        IpAddr::V6(ip) => ip.is_unspecified() || ip.is_multicast(),
    };
    !nobody && addr.port() >= PORT_MIN
}

impl Download {
    /// The connection is one of uTP: others reach the peer where we do.
    pub fn peer_by_utp(&mut self, conn: ConnectionId) {
        if let Some(side) = self.punches.sides.get_mut(&conn) {
            side.by_utp = true;
        }
    }

    /// A call to `addr` came to nothing; somebody may know it, and introduce us.
    pub fn unreachable(&mut self, now: Instant, addr: SocketAddr) {
        let outcome = self.punches.unreachable(now, addr);
        self.punch(outcome);
    }

    pub(super) fn holepunch(
        &mut self,
        now: Instant,
        conn: ConnectionId,
        message: HolepunchMessage,
    ) {
        let outcome = self.punches.heard(now, conn, message);
        self.punch(outcome);
    }

    fn punch(&mut self, outcome: impl IntoIterator<Item = Outcome>) {
        for outcome in outcome {
            match outcome {
                Outcome::Say(conn, message) => self.command(conn, Command::Holepunch(message)),
                Outcome::Call(addr) if self.is_banned(addr, None) => {}
                Outcome::Call(addr) => self.actions.push_back(Action::Punch(addr)),
            }
        }
    }
}

#[cfg(test)]
mod tests;
