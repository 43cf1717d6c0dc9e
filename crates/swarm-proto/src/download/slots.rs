//! Which connections to keep when there are as many as may be: no network holds more than its
//! share, so that hundreds of peers of one owner don't shut the others out (T22).

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Instant;

use super::Download;
use super::priority::Prefix;
use crate::session::{CloseReason, ConnectionId};

impl Download {
    /// Makes room for a connection to that address; `false` if there is none for it.
    pub(super) fn make_slot(&mut self, now: Instant, addr: SocketAddr) -> bool {
        self.admits(now, addr, self.config.peers_max)
    }

    /// Whether a peer at that address may come where there may be `max` connections. For a driver
    /// that has fewer for some than [`DownloadConfig::peers_max`](super::DownloadConfig::peers_max).
    ///
    /// Where all are taken, the network that holds most of them gives one up to a network that
    /// would still hold fewer, and of its peers the one that gave us least.
    pub fn admits(&mut self, now: Instant, addr: SocketAddr, max: usize) -> bool {
        if self.peers.len() < max {
            return true;
        }
        let mut held: HashMap<Prefix, usize> = HashMap::new();
        for peer in self.peers.values() {
            *held.entry(Prefix::of(peer.info.addr)).or_default() += 1;
        }
        let share = |addr| held.get(&Prefix::of(addr)).copied().unwrap_or_default();
        let ours = share(addr);
        let most = held.values().copied().max().unwrap_or_default();
        if most <= ours + 1 {
            return false;
        }
        let candidates = self
            .peers
            .iter()
            .filter(|(_, peer)| share(peer.info.addr) == most);
        let worth = |conn: &ConnectionId| {
            let peer = self.peers.get(conn);
            peer.map(|peer| {
                (
                    peer.down.per_sec() as u64,
                    std::cmp::Reverse(peer.joined_at),
                )
            })
        };
        let loser = candidates.map(|(conn, _)| *conn).min_by_key(worth);
        match loser {
            Some(loser) => {
                self.close(loser, CloseReason::TooManyPeers);
                self.peer_left(now, loser);
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::bitfield::Bitfield;
    use crate::download::{Action, DownloadConfig, PeerInfo, Source};
    use crate::metainfo::{FileHasher, MetainfoBuilder};

    fn download(peers_max: usize) -> Download {
        let mut builder = MetainfoBuilder::new("site", 16_384);
        let mut hasher = FileHasher::new(16_384);
        hasher.update(&[1; 50_000]);
        builder.file(vec!["a".to_owned()], hasher.finish());
        let meta = Arc::new(builder.build().unwrap());
        let have = Bitfield::none_of(meta.geometry());
        let config = DownloadConfig {
            peers_max,
            ..DownloadConfig::default()
        };
        Download::new(Source::Metainfo(meta), have, config, 1)
    }

    /// Joins one after the other; gives those that were let go.
    fn join(download: &mut Download, addrs: impl IntoIterator<Item = String>) -> Vec<u64> {
        let first = download.peers.keys().last().map_or(0, |conn| conn.0 + 1);
        for (addr, conn) in addrs.into_iter().zip(first..) {
            let addr = addr.parse().unwrap();
            let info = PeerInfo {
                addr,
                outgoing: false,
            };
            download.peer_joined(Instant::now(), ConnectionId(conn), info);
        }
        let closed = |action| match action {
            Action::Close(conn, CloseReason::TooManyPeers) => Some(conn.0),
            _ => None,
        };
        std::iter::from_fn(|| download.poll_action())
            .filter_map(closed)
            .collect()
    }

    #[test]
    fn t22_no_network_keeps_others_out() {
        let mut download = download(20);
        let sybils = (0..500).map(|n| format!("198.18.{}.{}:1", n / 250, n % 250));
        let closed = join(&mut download, sybils);
        assert_eq!((download.peers.len(), closed.len()), (20, 480));
        // Each of ten others finds a place, and so does an eleventh of their networks.
        let others = (0..10).map(|n| format!("60.{n}.1.1:1"));
        assert_eq!(join(&mut download, others).len(), 10);
        let kept = |download: &Download, net: &str| {
            let addrs = download
                .peers
                .values()
                .map(|peer| peer.info.addr.to_string());
            addrs.filter(|addr| addr.starts_with(net)).count()
        };
        assert_eq!(kept(&download, "60."), 10);
        assert_eq!(kept(&download, "198.18."), 10);
        // More of the same come in vain.
        let more = (0..50).map(|n| format!("198.18.7.{n}:1"));
        assert_eq!(join(&mut download, more).len(), 50);
        assert_eq!(kept(&download, "60."), 10);
    }

    #[test]
    fn peers_of_a_home_network_are_no_crowd() {
        let mut download = download(20);
        let home = (0..30).map(|n| format!("192.168.1.{n}:1"));
        assert_eq!(join(&mut download, home).len(), 10);
        assert_eq!(join(&mut download, ["60.1.1.1:1".to_owned()]).len(), 1);
    }
}
