//! The DHT (BEP 5) as far as one bundle is concerned: looked up in it, and nodes told to peers.

use std::net::{IpAddr, SocketAddrV4};
use std::sync::Arc;

use swarm_proto::limits;
use swarm_proto::session::{Command, ConnectionId};

use super::SwarmTask;
use crate::discovery::{DhtMode, dht};
use crate::link::LinkCommand;
use crate::node::Source;

impl SwarmTask {
    pub(super) fn start_dht(&self) {
        if let (Some(ready), false) = (self.node.dht(), self.is_private()) {
            let port = self.node.listen_addr().port();
            let task = dht::run(ready, Arc::clone(&self.shared), port);
            self.node.tasks().spawn(self.life.track_future(task));
        }
    }

    /// Whether peers are told of our node, and tell of theirs: if it answers, and if the torrent is
    /// known not to be private. Of a link without metadata that is not known.
    pub(super) fn exchanges_nodes(&self) -> bool {
        let known = match (&self.content, &self.bundle.source) {
            (Some(_), _) | (None, Source::Metainfo(_)) => true,
            (None, Source::Magnet(_)) => false,
        };
        known && !self.is_private() && self.node.config().discovery.dht == DhtMode::On
    }

    /// Our node is at this port, from now on.
    pub(super) fn tell_dht_port(&mut self, port: u16) {
        self.dht_port = Some(port);
        for addr in std::mem::take(&mut self.early_nodes) {
            self.pass_on(addr);
        }
        let all: Vec<_> = self.links.keys().copied().collect();
        for conn in all {
            // Who has not shaken hands yet is told then; who has no node, or called before the
            // torrent was known to be public, not at all.
            self.send(conn, LinkCommand::Session(Command::DhtPort(port)));
        }
    }

    /// A peer has a node, at its own address.
    pub(super) fn told_of_node(&mut self, conn: ConnectionId, port: u16) {
        let Some(link) = self.links.get(&conn) else {
            return;
        };
        let IpAddr::V4(ip) = link.addr.ip().to_canonical() else {
            return tracing::debug!(addr = %link.addr, "node of the DHT over IPv6 left out");
        };
        let addr = SocketAddrV4::new(ip, port);
        match self.dht_port {
            Some(_) => self.pass_on(addr),
            None if self.early_nodes.len() < limits::DHT_NODES_HEARD_MAX => {
                self.early_nodes.push(addr);
            }
            None => {}
        }
    }

    fn pass_on(&self, addr: SocketAddrV4) {
        let dht = self.node.dht().and_then(|ready| ready.borrow().clone());
        if let (Some(dht), true) = (dht, self.exchanges_nodes()) {
            dht.heard_of(addr);
        }
    }
}
