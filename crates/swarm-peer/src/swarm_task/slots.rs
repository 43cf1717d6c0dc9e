//! Connections where there are fewer than peers: who may call, and who yields.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use swarm_proto::download::{Download, Standing, who_yields};
use swarm_proto::session::{CloseReason, ConnectionId};

use super::SwarmTask;
use crate::connector::Trust;
use crate::node::Node;

/// Between two connections that yield: peers get time to show what they are good for.
const YIELD_EVERY: Duration = Duration::from_secs(30);
/// Age from which a connection may have to yield.
const GRACE: Duration = Duration::from_secs(60);
/// Bytes a second below which nothing flows.
const TRICKLE: f64 = 16.0;

/// The address that priorities are reckoned from. Who listens everywhere does not know by which
/// address others know it, and takes one by chance.
pub(super) fn own_address(node: &Node) -> SocketAddr {
    let listen = node.listen_addr();
    match listen.ip().is_unspecified() {
        false => listen,
        true => SocketAddr::new(
            IpAddr::V4(Ipv4Addr::from(rand::random::<u32>())),
            listen.port(),
        ),
    }
}

impl SwarmTask {
    /// Connections that callers may fill: all, but for those that we keep for our own calls while
    /// we fetch (T22).
    pub(super) fn places_for_callers(&self) -> usize {
        let all = self.node.config().peers_per_swarm_max;
        match self.shared.state.borrow().fetches_nothing() {
            true => all,
            false => all.saturating_sub(self.book.reserved(all)),
        }
    }

    /// A peer has said who it is, and is none that we have: from now on its connection counts among
    /// the node's, and if need be another's ends for it.
    pub(super) fn seat(&mut self, conn: ConnectionId, download: &Download) {
        let place = self.links.get(&conn).map(|link| &link.place);
        if download.peer_stats(conn).is_some() && place.is_some_and(|place| !place.settle()) {
            self.hang_up(conn, CloseReason::TooManyPeers);
        }
    }

    /// What each peer is worth where the node has to choose.
    pub(super) fn tell_worth(&self, download: &Download) {
        for (conn, link) in &self.links {
            if let Some(stats) = download.peer_stats(*conn) {
                link.place.brings(stats.down_rate);
            }
        }
    }

    /// Where all connections are taken and somebody better waits, one has to go.
    pub(super) fn make_room(&mut self, now: Instant, download: &Download) {
        let all = self.node.config().peers_per_swarm_max;
        if self.links.len() + self.dialling < all || now < self.yielded_at + YIELD_EVERY {
            return;
        }
        let Some(waiting) = self.book.best_waiting(now) else {
            return;
        };
        let old = self
            .links
            .iter()
            .filter(|(_, link)| link.trust != Trust::CommandLine && link.joined_at + GRACE <= now);
        let standings = old.filter_map(|(conn, link)| {
            let stats = download.peer_stats(*conn)?;
            Some(Standing {
                conn: *conn,
                useless: !stats.we_want && !stats.wants,
                idle: stats.we_choke
                    && stats.chokes_us
                    && stats.down_rate < TRICKLE
                    && stats.up_rate < TRICKLE,
                priority: self.book.priority(link.contact.unwrap_or(link.addr)),
            })
        });
        if let Some(conn) = who_yields(standings, waiting) {
            self.yielded_at = now;
            self.hang_up(conn, CloseReason::TooManyPeers);
        }
    }
}

#[cfg(test)]
mod tests;
