//! Bytes become changes, or are refused.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use swarm_proto::id::{Digest, SwarmId};
use swarm_proto::limits::{MEDIA_TYPE_LEN_MAX, SITE_NAME_LEN_MAX, SITE_PATH_LEN_MAX};
use swarm_proto::manifest::{PublicKey, SiteName, SitePath};
use swarm_proto::tracker::BridgeOffer;

use super::{Damaged, ENTRY_LEN_MAX, Entry, VERSION, flag, kind};
use crate::registry::Shown;
use crate::registry::shared::{
    Barred, Barring, BridgeId, Change, Lie, PeerChange, PeerState, SharedOffer, Visits,
};

/// Bytes of a bridge's domain: with a label and a dot it is a name.
const DOMAIN_LEN_MAX: usize = 189;

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
            kind::ALARM => Change::Alarm(self.site()?),
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
