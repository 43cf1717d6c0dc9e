//! Peers told by other peers, and telling them (BEP 11).

use std::net::SocketAddr;
use std::time::Instant;

use swarm_proto::session::{Command, ConnectionId};
use swarm_proto::wire::pex::PexFlags;
use swarm_proto::wire::{ExtendedHandshake, PexMessage, PexPeer};

use super::SwarmTask;
use crate::connector::{Trust, scope_of};
use crate::link::LinkCommand;
use crate::node::Source;
use crate::swarm::Message;

impl SwarmTask {
    /// Whether the torrent is known to be for its trackers' peers only (BEP 27).
    pub(super) fn is_private(&self) -> bool {
        match (&self.content, &self.bundle.source) {
            (Some(content), _) => content.meta.is_private(),
            (None, Source::Metainfo(meta)) => meta.is_private(),
            (None, Source::Magnet(_)) => false,
        }
    }

    pub(super) fn exchanges_peers(&self) -> bool {
        self.node.config().discovery.pex && !self.is_private()
    }

    /// The peer said of itself where it listens, and whether it exchanges peers.
    pub(super) fn introduced(
        &mut self,
        now: Instant,
        conn: ConnectionId,
        said: &ExtendedHandshake,
    ) {
        if let Some(link) = self.links.get_mut(&conn) {
            link.seed = said.upload_only;
            link.punches = said.ut_holepunch.is_some();
            // Who called by uTP is met where it called from: routers keep that port open.
            if let (false, Some(port)) = (link.outgoing || link.by_utp, said.listen_port) {
                let mut contact = link.addr;
                contact.set_port(port);
                link.contact = Some(contact);
            }
        }
        match said.ut_pex {
            Some(_) if self.exchanges_peers() => self.pex.joined(now, conn),
            _ => self.pex.left(conn),
        }
    }

    /// The peer tells of others. They are hints: whoever we called because the operator or somebody
    /// near to us named it may name what is as near as itself, all others public addresses only.
    pub(super) fn told_of_peers(&mut self, now: Instant, conn: ConnectionId, message: PexMessage) {
        let (Some(link), Some(&swarm_id)) = (self.links.get(&conn), self.shared.swarm_ids.first())
        else {
            return;
        };
        let trust = match link.trust {
            Trust::Stranger => Trust::Stranger,
            _ => Trust::Neighbour(link.addr.ip()),
        };
        if !self.exchanges_peers() {
            return;
        }
        let seeding = self.shared.state.borrow().fetches_nothing();
        let peers = self.pex.take(now, conn, message).into_iter();
        // A seed has no use for another.
        let peers = peers.filter(|peer| !(seeding && peer.flags.has(PexFlags::SEED)));
        let addrs = peers.map(|peer| peer.addr).collect();
        let peers = Message::Peers {
            addrs,
            swarm_id,
            trust,
        };
        self.note_peers(peers, now);
    }

    /// Tells peers of each other, where that is due.
    pub(super) fn exchange_peers(&mut self, now: Instant) {
        if self.pex.poll_timeout().is_none_or(|at| now < at) {
            return;
        }
        let connected = self.links.values().filter_map(|link| {
            link.peer_id?;
            let mut flags = PexFlags::default();
            if link.seed {
                flags = flags.with(PexFlags::SEED);
            }
            if link.outgoing {
                flags = flags.with(PexFlags::REACHABLE);
            }
            if link.by_utp || link.punches {
                flags = flags.with(PexFlags::UTP);
            }
            if link.punches {
                flags = flags.with(PexFlags::HOLEPUNCH);
            }
            let addr = link.contact?;
            Some(PexPeer { addr, flags })
        });
        let connected: Vec<_> = match self.exchanges_peers() {
            true => connected.collect(),
            false => Vec::new(),
        };
        let links = &self.links;
        // Nobody is told of who is nearer to us than it is itself, nor of itself.
        let may_tell = |conn: ConnectionId, addr: SocketAddr| {
            links.get(&conn).is_some_and(|link| {
                link.contact != Some(addr) && scope_of(addr.ip()) <= scope_of(link.addr.ip())
            })
        };
        for (conn, message) in self.pex.messages(now, &connected, may_tell) {
            self.send(conn, LinkCommand::Session(Command::SendPex(message)));
        }
    }
}
