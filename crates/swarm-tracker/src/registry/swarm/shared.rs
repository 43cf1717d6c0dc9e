//! Peers as they are told to other trackers.

use std::net::{IpAddr, SocketAddr};

use super::{Family, Room, Standing, Swarm, pack_v4, pack_v6};
use crate::registry::age::Expiry;
use crate::registry::pools::{Packed, Pools};

impl Swarm {
    /// Until when a peer is remembered, if it is in.
    pub(in crate::registry) fn expiry_of(&self, room: &Room, peer: SocketAddr) -> Option<Expiry> {
        match peer.ip() {
            IpAddr::V4(ip) => self.v4.expiry_of(&room.v4, &pack_v4(ip, peer.port())),
            IpAddr::V6(ip) => self.v6.expiry_of(&room.v6, &pack_v6(ip, peer.port())),
        }
    }

    /// All peers.
    pub(in crate::registry) fn peers<'s>(
        &'s self,
        room: &'s Room,
    ) -> impl Iterator<Item = (SocketAddr, Standing, Expiry)> {
        self.v4.peers(&room.v4).chain(self.v6.peers(&room.v6))
    }
}

impl Family {
    fn expiry_of<A: Packed, const K: usize>(
        &self,
        pools: &Pools<A, K>,
        peer: &A,
    ) -> Option<Expiry> {
        let in_pool = |pool| pools.expiry_of(pool, peer);
        in_pool(&self.leeches).or_else(|| in_pool(&self.seeds))
    }

    fn peers<'s, A: Packed, const K: usize>(
        &'s self,
        pools: &'s Pools<A, K>,
    ) -> impl Iterator<Item = (SocketAddr, Standing, Expiry)> {
        let all = [
            (&self.leeches, Standing::Leech),
            (&self.seeds, Standing::Seed),
        ];
        all.into_iter().flat_map(|(pool, standing)| {
            let entries = pools.entries(pool);
            entries.map(move |entry| (entry.peer.unpack(), standing, entry.expires))
        })
    }
}
