//! Who takes and passes nothing on.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Instant;

use super::Download;
use super::host::host;

/// Bytes sent to an address beyond those of the pieces it says to have: pieces under way.
const TAKEN_MIN: u64 = 256 * 1024;

/// What an address does with what it is sent, as far as it says. The best is the least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Taking {
    /// It says to have what it was sent.
    Fairly,
    /// It never said that it got anything, and was sent no more than it lacks.
    Quietly,
    /// It was sent far more than it says to have.
    Only,
}

/// What was sent to an address.
#[derive(Debug, Default)]
struct Sent {
    taken: u64,
    /// Bytes of what it says to have.
    had: u64,
    tells: bool,
}

impl Download {
    /// Who may have a slot: those that take fairly; quiet ones while the others don't need all;
    /// and who only takes while nobody else wants anything.
    pub(super) fn slots_allowed(&self) -> Taking {
        let want = |taking| {
            let peers = self.peers.values();
            peers.filter(|p| p.wants && p.taking == taking).count()
        };
        match (want(Taking::Fairly), want(Taking::Quietly)) {
            (0, 0) => Taking::Only,
            (fair, _) if fair < self.config.upload_slots => Taking::Quietly,
            _ => Taking::Fairly,
        }
    }

    /// Finds the addresses that were sent far more than they say to have, and chokes them while
    /// others want something: they pass nothing on.
    ///
    /// There are clients that tell a seed nothing of what they get (rqbit 9). An address that never
    /// told of anything is not judged before it took all that it lacks; until then it has the slots
    /// that are free, and after a long wait one by turns.
    pub(super) fn choke_takers(&mut self, now: Instant) {
        let Some(geometry) = self.geometry() else {
            return;
        };
        let piece_len = u64::from(geometry.piece_length());
        let slack = TAKEN_MIN.max(2 * piece_len);
        let copy = u64::from(geometry.piece_count()) * piece_len;
        let mut sent: HashMap<IpAddr, Sent> = HashMap::new();
        for peer in self.peers.values() {
            let said = peer
                .pieces
                .as_ref()
                .map_or(0, |pieces| u64::from(pieces.count()));
            let sent = sent.entry(host(peer.info.addr.ip())).or_default();
            sent.taken += peer.sent;
            sent.had += said * piece_len;
            sent.tells |= peer.tells;
        }
        for peer in self.peers.values_mut() {
            let sent = sent.get(&host(peer.info.addr.ip()));
            peer.taking = match sent {
                Some(sent) if sent.taken <= sent.had + slack => Taking::Fairly,
                Some(sent)
                    if !sent.tells && sent.taken <= copy.saturating_sub(sent.had) + slack =>
                {
                    Taking::Quietly
                }
                _ => Taking::Only,
            };
        }
        let allowed = self.slots_allowed();
        let served = self.peers.iter().filter(|(_, peer)| !peer.we_choke);
        let takers = served.filter(|(_, peer)| peer.taking > allowed && !peer.has_turn(now));
        let takers: Vec<_> = takers.map(|(conn, _)| *conn).collect();
        for conn in takers {
            self.set_choke(now, conn, true);
        }
    }
}
