//! What one host is given of the address space.

use std::net::IpAddr;

/// An IPv4 address, or the /64 of an IPv6 address: what one host is given.
pub fn host(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.into(),
        IpAddr::V6(ip) => IpAddr::from((u128::from(ip) & !u128::from(u64::MAX)).to_be_bytes()),
    }
}
