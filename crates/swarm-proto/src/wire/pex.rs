//! ut_pex: peers tell each other whom else they know (BEP 11).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::{Buf, BufMut};

use super::extended::ExtendedError;
use crate::bencode::{self, Dict, Item, Rules};
use crate::limits::PEX_PEERS_PER_MESSAGE_MAX;

/// Our number for ut_pex, which peers put on the messages they send us.
pub const UT_PEX_ID: u8 = 1;

/// What is said of a peer: one bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PexFlags(pub u8);

impl PexFlags {
    /// It is a seed, or otherwise asks for nothing.
    pub const SEED: Self = Self(0x02);
    /// It speaks uTP.
    pub const UTP: Self = Self(0x04);
    /// It speaks ut_holepunch (BEP 55).
    pub const HOLEPUNCH: Self = Self(0x08);
    /// The sender called it: it can be reached.
    pub const REACHABLE: Self = Self(0x10);

    /// Both.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` is said.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// A peer, as another tells of it: a hint and no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PexPeer {
    /// Where it listens.
    pub addr: SocketAddr,
    /// What is said of it.
    pub flags: PexFlags,
}

/// A message of ut_pex: what changed since the sender's last.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PexMessage {
    /// Peers that the sender is connected to now. IPv4 first once written.
    pub added: Vec<PexPeer>,
    /// Peers that it is connected to no longer.
    pub dropped: Vec<SocketAddr>,
}

impl PexMessage {
    /// Writes the payload of the extended message.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Compact::default();
        let mut flags = (Vec::new(), Vec::new());
        for peer in &self.added {
            out.push(peer.addr);
            match peer.addr {
                SocketAddr::V4(_) => flags.0.push(peer.flags.0),
                SocketAddr::V6(_) => flags.1.push(peer.flags.0),
            }
        }
        let mut gone = Compact::default();
        self.dropped.iter().for_each(|addr| gone.push(*addr));
        Item::dict([
            ("added", Item::Bytes(out.v4)),
            ("added.f", Item::Bytes(flags.0)),
            ("added6", Item::Bytes(out.v6)),
            ("added6.f", Item::Bytes(flags.1)),
            ("dropped", Item::Bytes(gone.v4)),
            ("dropped6", Item::Bytes(gone.v6)),
        ])
        .to_bytes()
    }

    /// Reads the payload of the extended message. Keys that are absent are empty, and so are flags;
    /// peers with port 0, those past [`PEX_PEERS_PER_MESSAGE_MAX`] of each kind, and what is left
    /// of one that is cut off are dropped.
    ///
    /// # Errors
    /// [`ExtendedError`]: no bencoded dictionary, or one whose peers are no strings.
    pub fn decode(payload: &[u8]) -> Result<Self, ExtendedError> {
        let (value, _) = bencode::decode_prefix(payload, &Rules::NETWORK)?;
        let dict = value.as_dict().ok_or(ExtendedError::Field("dictionary"))?;
        let mut message = Self::default();
        for (peers, flags, v6) in [("added", "added.f", false), ("added6", "added6.f", true)] {
            let flags = string(dict, flags)?;
            let flags = flags.iter().copied().map(PexFlags);
            let flags = flags.chain(std::iter::repeat(PexFlags::default()));
            let peers = addresses(string(dict, peers)?, v6).zip(flags);
            let peers = peers.filter(|(addr, _)| addr.port() != 0);
            let room = PEX_PEERS_PER_MESSAGE_MAX.saturating_sub(message.added.len());
            let peers = peers.map(|(addr, flags)| PexPeer { addr, flags });
            message.added.extend(peers.take(room));
        }
        for (peers, v6) in [("dropped", false), ("dropped6", true)] {
            let peers = addresses(string(dict, peers)?, v6).filter(|addr| addr.port() != 0);
            let room = PEX_PEERS_PER_MESSAGE_MAX.saturating_sub(message.dropped.len());
            message.dropped.extend(peers.take(room));
        }
        Ok(message)
    }
}

fn string<'a>(dict: Dict<'a>, key: &'static str) -> Result<&'a [u8], ExtendedError> {
    match dict.get(key.as_bytes()) {
        None => Ok(b""),
        Some(value) => value.as_bytes().ok_or(ExtendedError::Field(key)),
    }
}

fn addresses(bytes: &[u8], v6: bool) -> impl Iterator<Item = SocketAddr> {
    let len = if v6 { 18 } else { 6 };
    bytes.chunks_exact(len).filter_map(move |mut entry| {
        let ip: IpAddr = match v6 {
            false => Ipv4Addr::from(entry.try_get_u32().ok()?).into(),
            true => Ipv6Addr::from(entry.try_get_u128().ok()?).into(),
        };
        Some(SocketAddr::new(ip, entry.try_get_u16().ok()?))
    })
}

/// Compact addresses, by family.
#[derive(Default)]
struct Compact {
    v4: Vec<u8>,
    v6: Vec<u8>,
}

impl Compact {
    fn push(&mut self, addr: SocketAddr) {
        let out = match addr.ip() {
            IpAddr::V4(ip) => {
                self.v4.put_slice(&ip.octets());
                &mut self.v4
            }
            IpAddr::V6(ip) => {
                self.v6.put_slice(&ip.octets());
                &mut self.v6
            }
        };
        out.put_u16(addr.port());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn message() -> PexMessage {
        let peer = |text, flags| PexPeer {
            addr: addr(text),
            flags,
        };
        PexMessage {
            added: vec![
                peer("192.0.2.1:6881", PexFlags::SEED.with(PexFlags::REACHABLE)),
                peer("192.0.2.2:1", PexFlags::default()),
                peer("[2001:db8::1]:2", PexFlags::UTP),
            ],
            dropped: vec![addr("192.0.2.3:3"), addr("[::1]:4")],
        }
    }

    #[test]
    fn messages_are_what_bep_11_says() {
        let bytes = message().encode();
        let start = b"d5:added12:\xc0\0\x02\x01\x1a\xe1\xc0\0\x02\x02\0\x017:added.f2:\x12\0";
        assert_eq!(bytes[..start.len()], start[..]);
        assert_eq!(PexMessage::decode(&bytes), Ok(message()));
        assert_eq!(PexMessage::decode(b"de"), Ok(PexMessage::default()));
    }

    #[test]
    fn bad_messages_are_refused_and_long_ones_cut() {
        for bad in [&b""[..], b"le", b"i1e", b"d5:addedi1ee", b"d8:added6.fle"] {
            assert!(PexMessage::decode(bad).is_err(), "{bad:?}");
        }
        // Port 0, no flags, a peer cut off.
        let odd =
            PexMessage::decode(b"d5:added14:\x01\x02\x03\x04\0\0\x01\x02\x03\x04\0\x05\x06\x07e");
        assert_eq!(odd.unwrap().added.len(), 1);
        let flood = PexMessage {
            added: (1..=5000_u32)
                .map(|n| PexPeer {
                    addr: (n.to_be_bytes(), 1).into(),
                    flags: PexFlags::default(),
                })
                .collect(),
            dropped: (1..=5000_u32)
                .map(|n| (n.to_be_bytes(), 1).into())
                .collect(),
        };
        let read = PexMessage::decode(&flood.encode()).unwrap();
        assert_eq!(read.added.len(), PEX_PEERS_PER_MESSAGE_MAX);
        assert_eq!(read.dropped.len(), PEX_PEERS_PER_MESSAGE_MAX);
    }

    #[test]
    fn messages_survive_changed_input() {
        let corpus = [
            message().encode(),
            b"d5:added0:7:added.f0:7:dropped0:e".to_vec(),
        ];
        crate::fuzzing::tests::hammer(&corpus, 11, 20_000, crate::fuzzing::pex);
    }
}
