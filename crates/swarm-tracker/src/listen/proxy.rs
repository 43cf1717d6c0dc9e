//! Who asks, where a reverse proxy of the operator's asks in his place (RFC 7239, spec 0005, 2.8).
//!
//! The address of the connection is the only one that counts (T14), unless the operator has named
//! it as one of his proxies. Then the header that the proxy wrote is read from its end: what
//! stands further to the front came from whoever asked the proxy, and is believed only as far as
//! proxies of the operator's wrote it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use hyper::header::{HeaderMap, HeaderName};
use ipnet::IpNet;

/// Proxies of the operator's in a row, at most. A chain that is longer is a loop.
const HOPS_MAX: usize = 16;

const FORWARDED: HeaderName = hyper::header::FORWARDED;
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Why a proxy's word is not taken. The operator's fault, or that of a client which sends such
/// headers through a proxy that neither drops nor completes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadForward {
    /// Not the syntax, no address, or an address that nobody can ask from.
    #[error("the proxy in front of this tracker does not say from which address you ask")]
    NoAddress,
    /// Two headers, of which the proxy can have written only one.
    #[error("Forwarded and X-Forwarded-For name different addresses")]
    Disagree,
}

/// Whether what this address says about others is believed.
pub(crate) fn is_proxy(proxies: &[IpNet], address: IpAddr) -> bool {
    proxies.iter().any(|net| net.contains(&address))
}

/// The address that asks. A proxy that says nothing asks for itself, as health checks do.
///
/// # Errors
/// [`BadForward`], of connections from proxies only: what anybody else sends is not looked at.
pub(super) fn source_of(
    proxies: &[IpNet],
    connection: IpAddr,
    headers: &HeaderMap,
) -> Result<IpAddr, BadForward> {
    if !is_proxy(proxies, connection) {
        return Ok(connection);
    }
    let near = connection.is_loopback();
    let forwarded = nearest(proxies, near, headers, &FORWARDED, forwarded_nodes)?;
    let listed = nearest(proxies, near, headers, &X_FORWARDED_FOR, listed_nodes)?;
    match (forwarded, listed) {
        (None, None) => Ok(connection),
        (Some(address), None) | (None, Some(address)) => Ok(address),
        (Some(one), Some(other)) if one == other => Ok(one),
        // A proxy that writes one of them may hand on the other as a client made it up.
        _ => Err(BadForward::Disagree),
    }
}

/// The right-most address that is no proxy of the operator's, or the left-most of all.
fn nearest(
    proxies: &[IpNet],
    near: bool,
    headers: &HeaderMap,
    name: &HeaderName,
    nodes: impl Fn(&str) -> Option<Vec<&str>>,
) -> Result<Option<IpAddr>, BadForward> {
    let mut found = None;
    let mut hops = 0;
    for line in headers.get_all(name).iter().rev() {
        let line = line.to_str().map_err(|_| BadForward::NoAddress)?;
        for node in nodes(line).ok_or(BadForward::NoAddress)?.iter().rev() {
            let address = address(node, near).ok_or(BadForward::NoAddress)?;
            hops += 1;
            if hops > HOPS_MAX {
                return Err(BadForward::NoAddress);
            }
            found = Some(address);
            if !is_proxy(proxies, address) {
                return Ok(found);
            }
        }
    }
    Ok(found)
}

/// `X-Forwarded-For`: addresses in a list.
fn listed_nodes(line: &str) -> Option<Vec<&str>> {
    let nodes = line.split(',').map(str::trim);
    Some(nodes.filter(|node| !node.is_empty()).collect())
}

/// `Forwarded`: the `for` of each element, empty where an element has none. `None`: not the
/// syntax of RFC 7239, 4.
fn forwarded_nodes(line: &str) -> Option<Vec<&str>> {
    let mut nodes = Vec::new();
    let mut rest = line;
    loop {
        let (mut node, mut pairs) = (None, 0);
        loop {
            rest = rest.trim_start();
            if rest.is_empty() || rest.starts_with([',', ';']) {
                // An empty element or pair.
            } else {
                let (name, after) = rest.split_once('=')?;
                let value;
                (value, rest) = match after.strip_prefix('"') {
                    // No address has a character that would have to be escaped.
                    Some(quoted) => quoted.split_once('"')?,
                    None => after.split_at(after.find([',', ';']).unwrap_or(after.len())),
                };
                if value.contains(['\\', '"']) {
                    return None;
                }
                if name.trim_end().eq_ignore_ascii_case("for")
                    && node.replace(value.trim_end()).is_some()
                {
                    return None;
                }
                pairs += 1;
                rest = rest.trim_start();
            }
            match rest.strip_prefix(';') {
                Some(after) => rest = after,
                None => break,
            }
        }
        if pairs > 0 {
            nodes.push(node.unwrap_or_default());
        }
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None => return rest.is_empty().then_some(nodes),
        }
    }
}

/// An address with or without port, IPv6 with or without brackets. `None` for `unknown`, for an
/// obfuscated name, and for what nobody asks from: a proxy elsewhere knows nobody at loopback.
fn address(node: &str, near: bool) -> Option<IpAddr> {
    let bare = || node.parse::<IpAddr>().ok();
    let bracketed = || {
        let inner = node.strip_prefix('[')?.strip_suffix(']')?;
        inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
    };
    let with_port = || node.parse::<SocketAddr>().ok().map(|socket| socket.ip());
    let address = bare().or_else(bracketed).or_else(with_port)?.to_canonical();
    let broadcast = address == IpAddr::V4(Ipv4Addr::BROADCAST);
    let nobody = address.is_unspecified() || address.is_multicast() || broadcast;
    (!nobody && (near || !address.is_loopback())).then_some(address)
}

#[cfg(test)]
mod tests;
