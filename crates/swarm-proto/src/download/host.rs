//! What one host has of the address space.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The well-known prefix of NAT64 (RFC 6052): the last 32 bits are an IPv4 address.
const NAT64: u128 = 0x0064_ff9b << 96;
/// Teredo (RFC 4380): the last 32 bits are an IPv4 address, inverted.
const TEREDO: u128 = 0x2001_0000 << 96;

/// What one host has: an IPv4 address, or the /64 of an IPv6 address. On a private network each
/// address is a host; IPv4 in the guise of IPv6 is IPv4.
pub fn host(ip: IpAddr) -> IpAddr {
    let ip = match ip.to_canonical() {
        IpAddr::V6(ip) if !is_shared(ip.into()) => ip,
        other => return other,
    };
    let bits = ip.to_bits();
    let last = bits as u32;
    let prefix = bits >> 32 << 32;
    if prefix == NAT64 {
        Ipv4Addr::from_bits(last).into()
    } else if prefix >> 96 << 96 == TEREDO {
        Ipv4Addr::from_bits(!last).into()
    } else {
        Ipv6Addr::from_bits(bits >> 64 << 64).into()
    }
}

/// Whether many peers may well share the address.
pub(super) fn is_shared(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_an_ipv4_address_or_a_64() {
        for (ip, of) in [
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("64:ff9b::192.0.2.1", "192.0.2.1"),
            ("2001:0:4136:e378:8000:63bf:3fff:fdfe", "192.0.2.1"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("2001:1::1", "2001:1::"),
            ("fe80::1:2", "fe80::1:2"),
            ("fd00::1:2", "fd00::1:2"),
            ("::1", "::1"),
        ] {
            let [ip, of]: [IpAddr; 2] = [ip, of].map(|ip| ip.parse().unwrap());
            assert_eq!(host(ip), of);
        }
    }
}
