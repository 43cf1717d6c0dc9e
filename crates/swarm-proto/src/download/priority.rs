//! Whom to prefer where there are more peers than connections: canonical priority (BEP 40), network
//! prefixes, and which connection yields.

use std::net::{IpAddr, SocketAddr};

use super::host::is_shared;
use crate::session::ConnectionId;

/// The priority of a connection between two addresses (BEP 40): the same seen from both ends, and
/// as good as random to anybody who does not own both. Higher is better.
pub fn canonical_priority(a: SocketAddr, b: SocketAddr) -> u32 {
    let joined = match (a.ip().to_canonical(), b.ip().to_canonical()) {
        (a_ip, b_ip) if a_ip == b_ip => {
            let (low, high) = (a.port().min(b.port()), a.port().max(b.port()));
            [low.to_be_bytes(), high.to_be_bytes()].concat()
        }
        (IpAddr::V4(a), IpAddr::V4(b)) => masked(&a.octets(), &b.octets(), 2),
        (IpAddr::V6(a), IpAddr::V6(b)) => masked(&a.octets(), &b.octets(), 6),
        // Of no family in common: such a connection cannot be.
        (IpAddr::V4(a), IpAddr::V6(b)) | (IpAddr::V6(b), IpAddr::V4(a)) => {
            masked(&a.to_ipv6_mapped().octets(), &b.octets(), 6)
        }
    };
    crc32c::crc32c(&joined)
}

/// Both addresses, the lower first, with every other bit of what lies behind a common prefix left
/// out: of `whole` bytes, or as many more as they have in common and one.
fn masked(a: &[u8], b: &[u8], whole: usize) -> Vec<u8> {
    let common = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let whole = match common < whole {
        true => whole,
        false => common + 1,
    };
    let mask = |ip: &[u8]| -> Vec<u8> {
        let bytes = ip.iter().enumerate();
        let kept = bytes.map(|(at, byte)| if at < whole { *byte } else { byte & 0x55 });
        kept.collect()
    };
    let (a, b) = (mask(a), mask(b));
    match a <= b {
        true => [a, b].concat(),
        false => [b, a].concat(),
    }
}

/// A network that one owner may well have many addresses of: /16 of IPv4, /32 of IPv6. On loopback
/// and in private networks a peer is a network of its own, for there many peers are one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix([u8; 4], Option<SocketAddr>);

impl Prefix {
    /// The network of an address.
    pub fn of(addr: SocketAddr) -> Self {
        match addr.ip().to_canonical() {
            ip if is_shared(ip) => Self([0; 4], Some(addr)),
            IpAddr::V4(ip) => {
                let [a, b, _, _] = ip.octets();
                Self([a, b, 0, 0], None)
            }
            IpAddr::V6(ip) => {
                let [a, b, c, d, ..] = ip.octets();
                Self([a, b, c, d], None)
            }
        }
    }

    /// Whether it is a network of others: not a peer of a private network or this machine.
    pub const fn is_public(&self) -> bool {
        self.1.is_none()
    }
}

/// A connection that may have to yield.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Standing {
    /// Which one.
    pub conn: ConnectionId,
    /// Neither side wants a piece of the other.
    pub useless: bool,
    /// Nothing flows, and neither side lets the other ask.
    pub idle: bool,
    /// Its [`canonical_priority`].
    pub priority: u32,
}

/// Which of the connections yields to a peer of priority `waiting`: a useless one, else an idle one
/// of lower priority; of several that of the lowest.
pub fn who_yields(
    standings: impl IntoIterator<Item = Standing>,
    waiting: u32,
) -> Option<ConnectionId> {
    let may =
        |standing: &Standing| standing.useless || (standing.idle && standing.priority < waiting);
    let yielding = standings.into_iter().filter(may);
    let first = yielding.min_by_key(|standing| (!standing.useless, standing.priority));
    first.map(|standing| standing.conn)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn priorities_are_those_of_bep_40() {
        let of = |a, b| canonical_priority(addr(a), addr(b));
        assert_eq!(of("123.213.32.10:1", "98.76.54.32:2"), 0xec2d_7224);
        assert_eq!(of("98.76.54.32:2", "123.213.32.10:1"), 0xec2d_7224);
        assert_eq!(of("123.213.32.10:1", "123.213.32.234:2"), 0x9956_8189);
        // The same address: ports decide, whoever is asked.
        let same = of("192.0.2.1:2", "192.0.2.1:1");
        assert_eq!(same, crc32c::crc32c(&[0, 1, 0, 2]));
        assert_eq!(
            of("[2001:db8::1]:1", "[2001:db8::2]:1"),
            of("[2001:db8::2]:9", "[2001:db8::1]:9")
        );
        // One owner's addresses in a /16 do not get many tries at a good priority: every other bit
        // of the last two bytes is left out.
        let tries: std::collections::BTreeSet<_> = (0..=u16::MAX)
            .map(|n| SocketAddr::from(([9, 9, (n >> 8) as u8, n as u8], 1)))
            .map(|peer| canonical_priority(addr("98.76.54.32:2"), peer))
            .collect();
        assert_eq!(tries.len(), 256);
    }

    #[test]
    fn a_prefix_is_what_one_owner_may_have() {
        let same = |a, b| Prefix::of(addr(a)) == Prefix::of(addr(b));
        assert!(same("9.8.7.6:1", "9.8.1.1:2"));
        assert!(same("9.8.7.6:1", "[::ffff:9.8.1.1]:2"));
        assert!(!same("9.8.7.6:1", "9.9.7.6:1"));
        assert!(same("[2001:db8::1]:1", "[2001:db8:ffff::1]:1"));
        assert!(!same("127.0.0.1:1", "127.0.0.1:2"));
        assert!(!same("10.0.0.1:1", "10.0.0.2:1"));
        assert!(!same("[fd00::1]:1", "[fd00::1]:2"));
    }

    #[test]
    fn the_useless_yield_first_then_the_idle_to_their_betters() {
        let standing = |conn, useless, idle, priority| Standing {
            conn: ConnectionId(conn),
            useless,
            idle,
            priority,
        };
        let busy = standing(1, false, false, 0);
        let idle = standing(2, false, true, 5);
        let idler = standing(3, false, true, 4);
        let useless = standing(4, true, true, 9);
        let yields =
            |all: &[Standing], waiting| who_yields(all.iter().copied(), waiting).map(|conn| conn.0);
        assert_eq!(yields(&[busy, idle, idler, useless], 0), Some(4));
        assert_eq!(yields(&[busy, idle, idler], 6), Some(3));
        assert_eq!(yields(&[busy, idle, idler], 4), None);
        assert_eq!(yields(&[busy], u32::MAX), None);
    }
}
