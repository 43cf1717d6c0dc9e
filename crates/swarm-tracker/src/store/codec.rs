//! Changes as bytes: what an entry of the shared log holds (spec 0006, 9.2).
//!
//! It is the operator's own store, but others may write to it, or another version of this program:
//! what is not as we would write it is refused as a whole, and nothing is allocated by a number
//! that was read.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use swarm_proto::id::{Digest, SwarmId};
use swarm_proto::limits::{MEDIA_TYPE_LEN_MAX, SITE_NAME_LEN_MAX, SITE_PATH_LEN_MAX};
use swarm_proto::manifest::{PublicKey, SiteName, SitePath};
use swarm_proto::tracker::BridgeOffer;

use crate::registry::Shown;
use crate::registry::shared::{
    Barred, Barring, BridgeId, Change, Lie, PeerChange, PeerState, SharedOffer, Visits,
};

/// Bytes of an entry that we write; one change more may go into it.
const ENTRY_LEN: usize = 256 * 1024;
/// Bytes of an entry that is read.
pub(crate) const ENTRY_LEN_MAX: usize = 2 * ENTRY_LEN;
/// Bytes of a bridge's domain: with a label and a dot it is a name.
const DOMAIN_LEN_MAX: usize = 189;

/// Of this form of entries.
const VERSION: u8 = 1;

mod kind {
    pub(super) const PEERS: u8 = 1;
    pub(super) const OFFER: u8 = 2;
    pub(super) const WITHDRAWN: u8 = 3;
    pub(super) const PROVEN: u8 = 4;
    pub(super) const UNPROVEN: u8 = 5;
    pub(super) const DOUBTED: u8 = 6;
    pub(super) const BARRED: u8 = 7;
    pub(super) const VISITS: u8 = 8;
    pub(super) const SITE: u8 = 9;
}

mod flag {
    pub(super) const SEED: u8 = 1;
    pub(super) const GONE: u8 = 2;
    pub(super) const COMPLETED: u8 = 4;
    pub(super) const BRIDGE: u8 = 8;
    pub(super) const V6: u8 = 16;
    pub(super) const AGED: u8 = 32;
    pub(super) const PEER: u8 = 63;

    pub(super) const PROVEN: u8 = 1;
    pub(super) const UNTIL: u8 = 2;
    pub(super) const HITS: u8 = 4;
    pub(super) const RATE: u8 = 8;
    pub(super) const DOMAIN: u8 = 16;
    pub(super) const OFFER: u8 = 31;
}

/// Who wrote an entry: 16 bytes by chance, new at each start.
pub(crate) type Writer = [u8; 16];

/// Why an entry is not read: nobody who runs this program has written it, or a later version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Damaged {
    #[error("longer than {ENTRY_LEN_MAX} bytes")]
    TooLong,
    #[error("of another version")]
    Version,
    #[error("cut off")]
    CutOff,
    #[error("bad {0}")]
    Bad(&'static str),
}

/// What an entry holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) writer: Writer,
    pub(crate) peers: Vec<PeerChange>,
    pub(crate) others: Vec<Change>,
}

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

/// Reads an entry.
pub(crate) fn decode(bytes: &[u8]) -> Result<Entry, Damaged> {
    let mut from = Reader::new(bytes)?;
    let mut entry = Entry {
        writer: from.array()?,
        peers: Vec::new(),
        others: Vec::new(),
    };
    while !from.0.is_empty() {
        match from.byte()? {
            kind::PEERS => from.peers(&mut entry.peers)?,
            kind => entry.others.push(from.change(kind)?),
        }
    }
    Ok(entry)
}

/// Reads what [`encode_barring`] wrote; `left`: seconds for which it goes on.
pub(crate) fn decode_barring(bytes: &[u8], left: u32) -> Result<Barring, Damaged> {
    let mut from = Reader::new(bytes)?;
    let kind = from.byte()?;
    match from.change(kind)? {
        Change::Barred(barring) if from.0.is_empty() => Ok(Barring { left, ..*barring }),
        _ => Err(Damaged::Bad("kind")),
    }
}

/// What is left to be read.
struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    fn new(bytes: &'b [u8]) -> Result<Self, Damaged> {
        if bytes.len() > ENTRY_LEN_MAX {
            return Err(Damaged::TooLong);
        }
        let mut from = Self(bytes);
        match from.byte()? {
            VERSION => Ok(from),
            _ => Err(Damaged::Version),
        }
    }

    fn take(&mut self, len: usize) -> Result<&'b [u8], Damaged> {
        let (front, rest) = self.0.split_at_checked(len).ok_or(Damaged::CutOff)?;
        self.0 = rest;
        Ok(front)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Damaged> {
        let (front, rest) = self.0.split_first_chunk().ok_or(Damaged::CutOff)?;
        self.0 = rest;
        Ok(*front)
    }

    fn byte(&mut self) -> Result<u8, Damaged> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn swarm(&mut self) -> Result<SwarmId, Damaged> {
        self.array().map(SwarmId::new)
    }

    fn key(&mut self) -> Result<PublicKey, Damaged> {
        PublicKey::from_bytes(&self.array()?).map_err(|_| Damaged::Bad("key"))
    }

    /// Never one that has two spellings.
    fn ip(&mut self, v6: bool) -> Result<IpAddr, Damaged> {
        let ip: IpAddr = match v6 {
            false => Ipv4Addr::from(self.array::<4>()?).into(),
            true => Ipv6Addr::from(self.array::<16>()?).into(),
        };
        match ip.to_canonical() == ip && !ip.is_unspecified() {
            true => Ok(ip),
            false => Err(Damaged::Bad("address")),
        }
    }

    fn family(&mut self) -> Result<bool, Damaged> {
        match self.byte()? {
            4 => Ok(false),
            6 => Ok(true),
            _ => Err(Damaged::Bad("family")),
        }
    }

    fn port(&mut self) -> Result<u16, Damaged> {
        match u16::from_be_bytes(self.array()?) {
            0 => Err(Damaged::Bad("port")),
            port => Ok(port),
        }
    }

    fn address(&mut self) -> Result<SocketAddr, Damaged> {
        let v6 = self.family()?;
        Ok(SocketAddr::new(self.ip(v6)?, self.port()?))
    }

    fn bridge(&mut self) -> Result<BridgeId, Damaged> {
        Ok(BridgeId {
            address: self.address()?,
            key: self.key()?,
        })
    }

    fn text(&mut self, max: usize) -> Result<&'b str, Damaged> {
        let len = usize::from(u16::from_be_bytes(self.array()?));
        if len > max {
            return Err(Damaged::Bad("text"));
        }
        std::str::from_utf8(self.take(len)?).map_err(|_| Damaged::Bad("text"))
    }

    fn site(&mut self) -> Result<SiteName, Damaged> {
        let text = self.text(SITE_NAME_LEN_MAX)?;
        SiteName::parse_canonical(text).map_err(|_| Damaged::Bad("site"))
    }

    fn path(&mut self) -> Result<SitePath, Damaged> {
        let text = self.text(SITE_PATH_LEN_MAX)?;
        let path = SitePath::from_decoded(text).map_err(|_| Damaged::Bad("path"))?;
        match path.as_str() == text {
            true => Ok(path),
            false => Err(Damaged::Bad("path")),
        }
    }

    /// It goes into URLs.
    fn domain(&mut self) -> Result<String, Damaged> {
        let text = self.text(DOMAIN_LEN_MAX)?;
        let spelt = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let good = |label: &str| !label.is_empty() && label.bytes().all(spelt);
        match text.split('.').all(good) {
            true => Ok(text.to_owned()),
            false => Err(Damaged::Bad("domain")),
        }
    }

    fn peers(&mut self, into: &mut Vec<PeerChange>) -> Result<(), Damaged> {
        let swarm = self.swarm()?;
        let count = u16::from_be_bytes(self.array()?);
        if count == 0 {
            return Err(Damaged::Bad("count"));
        }
        for _ in 0..count {
            let flags = self.byte()?;
            let is = |bit: u8| flags & bit != 0;
            let state = match (is(flag::SEED), is(flag::GONE)) {
                (true, false) => PeerState::Seed,
                (false, true) => PeerState::Gone,
                (false, false) => PeerState::Leech,
                (true, true) => return Err(Damaged::Bad("flags")),
            };
            if flags & !flag::PEER != 0 {
                return Err(Damaged::Bad("flags"));
            }
            let age = match is(flag::AGED) {
                false => 0,
                true => match u32::from_be_bytes(self.array()?) {
                    0 => return Err(Damaged::Bad("age")),
                    age => age,
                },
            };
            let ip = self.ip(is(flag::V6))?;
            into.push(PeerChange {
                swarm,
                peer: SocketAddr::new(ip, self.port()?),
                state,
                bridge: is(flag::BRIDGE),
                completed: is(flag::COMPLETED),
                age,
            });
        }
        Ok(())
    }

    fn change(&mut self, kind: u8) -> Result<Change, Damaged> {
        Ok(match kind {
            kind::OFFER => Change::Offer(Box::new(self.offer()?)),
            kind::WITHDRAWN => Change::Withdrawn {
                swarm: self.swarm()?,
                peer: self.address()?,
            },
            kind::PROVEN => Change::Proven(self.bridge()?),
            kind::UNPROVEN => Change::Unproven(self.bridge()?),
            kind::DOUBTED => Change::Doubted(self.bridge()?),
            kind::BARRED => Change::Barred(Box::new(self.barring()?)),
            kind::VISITS => Change::Visits(Box::new(Visits {
                bridge: self.bridge()?,
                count: u32::from_be_bytes(self.array()?),
                bits: u64::from_be_bytes(self.array()?),
                page: (self.site()?, self.path()?),
            })),
            kind::SITE => Change::Site(self.site()?),
            _ => return Err(Damaged::Bad("kind")),
        })
    }

    fn offer(&mut self) -> Result<SharedOffer, Damaged> {
        let swarm = self.swarm()?;
        let peer = self.address()?;
        let port = self.port()?;
        let key = self.key()?;
        let age = u32::from_be_bytes(self.array()?);
        let flags = self.byte()?;
        if flags & !flag::OFFER != 0 {
            return Err(Damaged::Bad("flags"));
        }
        let mut number = |bit: u8| match flags & bit {
            0 => Ok(None),
            _ => self.array().map(u64::from_be_bytes).map(Some),
        };
        let (until, hits, rate) = (
            number(flag::UNTIL)?,
            number(flag::HITS)?,
            number(flag::RATE)?,
        );
        let domain = match flags & flag::DOMAIN {
            0 => None,
            _ => Some(self.domain()?),
        };
        Ok(SharedOffer {
            swarm,
            peer,
            offer: BridgeOffer {
                domain,
                until,
                hits,
                rate,
                key: Some(key),
                ..BridgeOffer::new(port)
            },
            proven: flags & flag::PROVEN != 0,
            age,
        })
    }

    fn barring(&mut self) -> Result<Barring, Damaged> {
        let barred = match self.byte()? {
            1 => Barred::Door(self.address()?),
            2 => Barred::Key(self.key()?),
            3 => {
                let v6 = self.family()?;
                Barred::Place(self.ip(v6)?)
            }
            _ => return Err(Damaged::Bad("barring")),
        };
        let left = u32::from_be_bytes(self.array()?);
        let lie = match self.byte()? {
            0 => None,
            1 => Some(Lie {
                site: self.site()?,
                path: self.path()?,
                shown: Shown {
                    digest: Digest::new(self.array()?),
                    media_type: self.text(MEDIA_TYPE_LEN_MAX)?.to_owned(),
                },
            }),
            _ => return Err(Damaged::Bad("lie")),
        };
        Ok(Barring { barred, lie, left })
    }
}

#[cfg(test)]
mod tests;
