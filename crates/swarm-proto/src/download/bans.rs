//! Who lied, and stays away.

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::host::{host, is_shared};
use super::peers::Identity;
use crate::id::PeerId;
use crate::limits;

/// Peers that lied.
///
/// A public host is banned whole. On loopback and private networks many peers share one address
/// (tests, a household behind one router, a proxy), so there the port and the peer id are banned.
#[derive(Debug, Default)]
pub(super) struct BanList {
    entries: VecDeque<Identity>,
}

impl BanList {
    pub(super) fn insert(&mut self, mut identity: Identity) {
        identity.addr.set_ip(identity.addr.ip().to_canonical());
        self.entries.push_back(identity);
        while self.entries.len() > limits::BANS_MAX {
            self.entries.pop_front();
        }
    }

    /// Whether this very peer is on the list.
    pub(super) fn contains_exactly(&self, identity: &Identity) -> bool {
        self.entries.contains(identity)
    }

    pub(super) fn contains(&self, addr: SocketAddr, peer_id: Option<PeerId>) -> bool {
        let addr = SocketAddr::new(addr.ip().to_canonical(), addr.port());
        self.entries
            .iter()
            .any(|banned| match is_shared(banned.addr.ip()) {
                false => host(banned.addr.ip()) == host(addr.ip()),
                true => {
                    banned.addr == addr
                        || (banned.addr.ip() == addr.ip()
                            && peer_id.is_some()
                            && banned.peer_id == peer_id)
                }
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn bans_cover_public_addresses_and_single_peers_of_shared_ones() {
        let liar = PeerId::new([1; 20]);
        let mut bans = BanList::default();
        bans.insert(Identity {
            addr: addr("192.0.2.1:1000"),
            peer_id: Some(liar),
        });
        bans.insert(Identity {
            addr: addr("127.0.0.1:1000"),
            peer_id: Some(liar),
        });
        bans.insert(Identity {
            addr: addr("[2001:db8:0:1::1]:1000"),
            peer_id: Some(liar),
        });
        let other = Some(PeerId::new([2; 20]));
        assert!(bans.contains(addr("192.0.2.1:2000"), other));
        assert!(!bans.contains(addr("192.0.2.2:1000"), Some(liar)));
        assert!(bans.contains(addr("[2001:db8:0:1:ffff::2]:1"), other));
        assert!(!bans.contains(addr("[2001:db8:0:2::1]:1000"), Some(liar)));
        assert!(bans.contains(addr("127.0.0.1:1000"), None));
        assert!(bans.contains(addr("127.0.0.1:2000"), Some(liar)));
        assert!(!bans.contains(addr("127.0.0.1:2000"), other));
        assert!(!bans.contains(addr("127.0.0.1:2000"), None));
    }

    #[test]
    fn they_are_bounded() {
        let mut bans = BanList::default();
        for n in 0..20_000_u32 {
            bans.insert(Identity {
                addr: (n.to_be_bytes(), 1).into(),
                peer_id: None,
            });
        }
        assert_eq!(bans.entries.len(), limits::BANS_MAX);
    }
}
