//! Changes become bytes.

use std::net::{IpAddr, SocketAddr};

use swarm_proto::limits::MEDIA_TYPE_LEN_MAX;
use swarm_proto::manifest::{SiteName, SitePath};

use super::{ENTRY_LEN, VERSION, Writer, flag, kind};
use crate::registry::shared::{
    Barred, Barring, BridgeId, Change, Lie, PeerChange, PeerState, SharedOffer,
};

/// Writes changes as entries.
pub(crate) fn encode(
    writer: &Writer,
    peers: &mut Vec<PeerChange>,
    others: &[Change],
) -> Vec<Vec<u8>> {
    let mut out = Entries {
        writer,
        done: Vec::new(),
        current: Vec::new(),
    };
    // What no reader takes would have the whole entry refused.
    peers.retain(|change| change.peer.port() != 0 && !change.peer.ip().is_unspecified());
    // Stable: of one peer the last word stays the last.
    peers.sort_by_key(|change| change.swarm);
    for swarm in peers.chunk_by(|one, other| one.swarm == other.swarm) {
        for some in swarm.chunks(usize::from(u16::MAX)) {
            out.peers(some);
        }
    }
    for change in others {
        put_change(out.room(), change);
    }
    out.finish()
}

struct Entries<'w> {
    writer: &'w Writer,
    done: Vec<Vec<u8>>,
    current: Vec<u8>,
}

impl Entries<'_> {
    /// An entry into which something fits.
    fn room(&mut self) -> &mut Vec<u8> {
        if self.current.len() >= ENTRY_LEN {
            self.done.push(std::mem::take(&mut self.current));
        }
        if self.current.is_empty() {
            self.current.push(VERSION);
            self.current.extend_from_slice(self.writer);
        }
        &mut self.current
    }

    /// Peers of one swarm.
    fn peers(&mut self, mut peers: &[PeerChange]) {
        while let Some(first) = peers.first() {
            let out = self.room();
            out.push(kind::PEERS);
            out.extend_from_slice(first.swarm.as_bytes());
            let count_at = out.len();
            out.extend_from_slice(&[0, 0]);
            let mut count: u16 = 0;
            for peer in peers {
                if out.len() >= ENTRY_LEN && count > 0 {
                    break;
                }
                put_peer(out, peer);
                count += 1;
            }
            if let Some(place) = out.get_mut(count_at..count_at + 2) {
                place.copy_from_slice(&count.to_be_bytes());
            }
            peers = peers.get(usize::from(count)..).unwrap_or_default();
        }
    }

    fn finish(mut self) -> Vec<Vec<u8>> {
        if !self.current.is_empty() {
            self.done.push(self.current);
        }
        self.done
    }
}

fn put_peer(out: &mut Vec<u8>, said: &PeerChange) {
    let set = |on: bool, bit: u8| if on { bit } else { 0 };
    let flags = set(said.state == PeerState::Seed, flag::SEED)
        | set(said.state == PeerState::Gone, flag::GONE)
        | set(said.completed, flag::COMPLETED)
        | set(said.bridge, flag::BRIDGE)
        | set(said.peer.is_ipv6(), flag::V6)
        | set(said.age > 0, flag::AGED);
    out.push(flags);
    if said.age > 0 {
        out.extend_from_slice(&said.age.to_be_bytes());
    }
    put_ip(out, said.peer.ip());
    out.extend_from_slice(&said.peer.port().to_be_bytes());
}

fn put_ip(out: &mut Vec<u8>, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
        IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
    }
}

fn put_address(out: &mut Vec<u8>, address: SocketAddr) {
    out.push(if address.is_ipv4() { 4 } else { 6 });
    put_ip(out, address.ip());
    out.extend_from_slice(&address.port().to_be_bytes());
}

fn put_bridge(out: &mut Vec<u8>, bridge: BridgeId) {
    put_address(out, bridge.address);
    out.extend_from_slice(bridge.key.as_bytes());
}

/// `text` is no longer than its kind may be, which is less than 2^16.
fn put_text(out: &mut Vec<u8>, text: &str) {
    let len = u16::try_from(text.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(&text.as_bytes()[..usize::from(len)]);
}

fn put_page(out: &mut Vec<u8>, site: &SiteName, path: &SitePath) {
    put_text(out, site.as_str());
    put_text(out, path.as_str());
}

fn put_change(out: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Offer(said) => put_offer(out, said),
        Change::Withdrawn { swarm, peer } => {
            out.push(kind::WITHDRAWN);
            out.extend_from_slice(swarm.as_bytes());
            put_address(out, *peer);
        }
        Change::Proven(bridge) => {
            out.push(kind::PROVEN);
            put_bridge(out, *bridge);
        }
        Change::Unproven(bridge) => {
            out.push(kind::UNPROVEN);
            put_bridge(out, *bridge);
        }
        Change::Doubted(bridge) => {
            out.push(kind::DOUBTED);
            put_bridge(out, *bridge);
        }
        Change::Barred(barring) => put_barring(out, barring),
        Change::Visits(visits) => {
            out.push(kind::VISITS);
            put_bridge(out, visits.bridge);
            out.extend_from_slice(&visits.count.to_be_bytes());
            out.extend_from_slice(&visits.bits.to_be_bytes());
            put_page(out, &visits.page.0, &visits.page.1);
        }
        Change::Site(site) => {
            out.push(kind::SITE);
            put_text(out, site.as_str());
        }
        Change::Alarm(site) => {
            out.push(kind::ALARM);
            put_text(out, site.as_str());
        }
    }
}

fn put_offer(out: &mut Vec<u8>, said: &SharedOffer) {
    let offer = &said.offer;
    // Offers without a key are never told.
    let Some(key) = &offer.key else {
        return;
    };
    let set = |on: bool, bit: u8| if on { bit } else { 0 };
    out.push(kind::OFFER);
    out.extend_from_slice(said.swarm.as_bytes());
    put_address(out, said.peer);
    out.extend_from_slice(&offer.port.to_be_bytes());
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(&said.age.to_be_bytes());
    out.push(
        set(said.proven, flag::PROVEN)
            | set(offer.until.is_some(), flag::UNTIL)
            | set(offer.hits.is_some(), flag::HITS)
            | set(offer.rate.is_some(), flag::RATE)
            | set(offer.domain.is_some(), flag::DOMAIN),
    );
    for number in [offer.until, offer.hits, offer.rate].into_iter().flatten() {
        out.extend_from_slice(&number.to_be_bytes());
    }
    if let Some(domain) = &offer.domain {
        put_text(out, domain);
    }
}

/// One thing that is barred, as it is kept for as long as it is: without the time left.
pub(crate) fn encode_barring(barring: &Barring) -> Vec<u8> {
    let mut out = vec![VERSION];
    let timeless = Barring {
        left: 0,
        ..barring.clone()
    };
    put_barring(&mut out, &timeless);
    out
}

fn put_barring(out: &mut Vec<u8>, barring: &Barring) {
    out.push(kind::BARRED);
    match barring.barred {
        Barred::Door(address) => {
            out.push(1);
            put_address(out, address);
        }
        Barred::Key(key) => {
            out.push(2);
            out.extend_from_slice(key.as_bytes());
        }
        Barred::Place(ip) => {
            out.push(3);
            out.push(if ip.is_ipv4() { 4 } else { 6 });
            put_ip(out, ip);
        }
    }
    out.extend_from_slice(&barring.left.to_be_bytes());
    // No manifest says what is longer than a manifest may say.
    let excusable = |lie: &&Lie| lie.shown.media_type.len() <= MEDIA_TYPE_LEN_MAX;
    match barring.lie.as_ref().filter(excusable) {
        None => out.push(0),
        Some(lie) => {
            out.push(1);
            put_page(out, &lie.site, &lie.path);
            out.extend_from_slice(lie.shown.digest.as_bytes());
            put_text(out, &lie.shown.media_type);
        }
    }
}
