//! ut_holepunch: one peer introduces two others that can't call each other (BEP 55).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Our number for ut_holepunch, which peers put on the messages they send us.
pub const UT_HOLEPUNCH_ID: u8 = 4;

/// What is wrong with a message of ut_holepunch. The peer's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HolepunchError {
    /// Too short, or too long, for what it says it is.
    #[error("hole punch message of {0} bytes")]
    Length(usize),
    /// A type that BEP 55 doesn't know.
    #[error("hole punch message of type {0}")]
    Kind(u8),
    /// A kind of address that BEP 55 doesn't know.
    #[error("hole punch address of type {0}")]
    Address(u8),
}

/// Why an introduction fails (BEP 55).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum HolepunchRefusal {
    /// The address is none.
    NoSuchPeer,
    /// The relay is not connected to the target.
    NotConnected,
    /// The target doesn't speak the extension.
    NoSupport,
    /// The target is the one who asks.
    NoSelf,
    /// Any other number.
    Other(u32),
}

impl HolepunchRefusal {
    const fn code(self) -> u32 {
        match self {
            Self::NoSuchPeer => 1,
            Self::NotConnected => 2,
            Self::NoSupport => 3,
            Self::NoSelf => 4,
            Self::Other(code) => code,
        }
    }

    const fn from_code(code: u32) -> Self {
        match code {
            1 => Self::NoSuchPeer,
            2 => Self::NotConnected,
            3 => Self::NoSupport,
            4 => Self::NoSelf,
            code => Self::Other(code),
        }
    }
}

/// What a message of ut_holepunch is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HolepunchKind {
    /// To the relay: introduce me to the peer at this address.
    Rendezvous,
    /// From the relay: call this address by uTP now; it calls you.
    Connect,
    /// From the relay: it won't introduce us to this address.
    Error(HolepunchRefusal),
}

/// A message of ut_holepunch.
///
/// ```text
/// 0  type: 0 rendezvous, 1 connect, 2 error     1  address: 0 IPv4, 1 IPv6
/// 2  address: 4 or 16, port: 2, error: 4
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HolepunchMessage {
    /// What it is about.
    pub kind: HolepunchKind,
    /// The third one's address.
    pub addr: SocketAddr,
}

impl HolepunchMessage {
    /// Asks a relay for an introduction.
    pub const fn rendezvous(addr: SocketAddr) -> Self {
        let kind = HolepunchKind::Rendezvous;
        Self { kind, addr }
    }

    /// Introduces the receiver to `addr`.
    pub const fn connect(addr: SocketAddr) -> Self {
        let kind = HolepunchKind::Connect;
        Self { kind, addr }
    }

    /// Refuses an introduction to `addr`.
    pub const fn error(addr: SocketAddr, refusal: HolepunchRefusal) -> Self {
        let kind = HolepunchKind::Error(refusal);
        Self { kind, addr }
    }

    /// Writes the payload of the extended message.
    pub fn encode(&self) -> Vec<u8> {
        let (kind, code) = match self.kind {
            HolepunchKind::Rendezvous => (0, 0),
            HolepunchKind::Connect => (1, 0),
            HolepunchKind::Error(refusal) => (2, refusal.code()),
        };
        let mut out = vec![kind];
        match self.addr.ip() {
            IpAddr::V4(ip) => {
                out.push(0);
                out.extend(ip.octets());
            }
            IpAddr::V6(ip) => {
                out.push(1);
                out.extend(ip.octets());
            }
        }
        out.extend(self.addr.port().to_be_bytes());
        out.extend(code.to_be_bytes());
        out
    }

    /// Reads the payload of the extended message. The number of an error may be absent where there
    /// is none, as libtorrent leaves it out.
    ///
    /// # Errors
    /// [`HolepunchError`]: nothing that BEP 55 describes.
    pub fn decode(payload: &[u8]) -> Result<Self, HolepunchError> {
        let wrong_length = HolepunchError::Length(payload.len());
        let [kind, family, rest @ ..] = payload else {
            return Err(wrong_length);
        };
        let (ip, rest) = match family {
            0 => {
                let (ip, rest) = rest.split_first_chunk::<4>().ok_or(wrong_length)?;
                (IpAddr::V4(Ipv4Addr::from(*ip)), rest)
            }
            1 => {
                let (ip, rest) = rest.split_first_chunk::<16>().ok_or(wrong_length)?;
                (IpAddr::V6(Ipv6Addr::from(*ip)), rest)
            }
            other => return Err(HolepunchError::Address(*other)),
        };
        let (port, code) = rest.split_first_chunk::<2>().ok_or(wrong_length)?;
        let code = match (code, kind) {
            (&[a, b, c, d], _) => Some(u32::from_be_bytes([a, b, c, d])),
            ([], 0 | 1) => None,
            _ => return Err(wrong_length),
        };
        let kind = match (kind, code) {
            (0, _) => HolepunchKind::Rendezvous,
            (1, _) => HolepunchKind::Connect,
            (2, Some(code)) => HolepunchKind::Error(HolepunchRefusal::from_code(code)),
            (other, _) => return Err(HolepunchError::Kind(*other)),
        };
        Ok(Self {
            kind,
            addr: SocketAddr::new(ip, u16::from_be_bytes(*port)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_what_bep_55_says() {
        let v4: SocketAddr = "192.0.2.1:6881".parse().unwrap();
        let v6: SocketAddr = "[2001:db8::1]:6881".parse().unwrap();
        for (message, start, len) in [
            (HolepunchMessage::rendezvous(v4), [0, 0], 12),
            (HolepunchMessage::connect(v6), [1, 1], 24),
            (
                HolepunchMessage::error(v4, HolepunchRefusal::NotConnected),
                [2, 0],
                12,
            ),
        ] {
            let bytes = message.encode();
            assert_eq!((&bytes[..2], bytes.len()), (&start[..], len));
            assert_eq!(HolepunchMessage::decode(&bytes), Ok(message));
        }
        let bytes = HolepunchMessage::error(v4, HolepunchRefusal::NoSelf).encode();
        assert_eq!(bytes, [2, 0, 192, 0, 2, 1, 0x1a, 0xe1, 0, 0, 0, 4]);
        let short = [1, 0, 192, 0, 2, 1, 0x1a, 0xe1];
        assert_eq!(
            HolepunchMessage::decode(&short),
            Ok(HolepunchMessage::connect(v4))
        );
    }

    #[test]
    fn bad_messages_are_refused_by_name() {
        let good = HolepunchMessage::connect("[::1]:1".parse().unwrap()).encode();
        for len in (0..good.len()).filter(|len| *len != good.len() - 4) {
            let cut = HolepunchMessage::decode(&good[..len]);
            assert_eq!(cut, Err(HolepunchError::Length(len)), "{len} bytes");
        }
        for (bytes, error) in [
            (vec![0, 2, 0, 0], HolepunchError::Address(2)),
            (
                vec![3, 0, 1, 2, 3, 4, 0, 1, 0, 0, 0, 0],
                HolepunchError::Kind(3),
            ),
            // An error without its number, and bytes too many.
            (vec![2, 0, 1, 2, 3, 4, 0, 1], HolepunchError::Length(8)),
            (
                [good.clone(), vec![0]].concat(),
                HolepunchError::Length(good.len() + 1),
            ),
        ] {
            assert_eq!(HolepunchMessage::decode(&bytes), Err(error), "{bytes:?}");
        }
    }
}
