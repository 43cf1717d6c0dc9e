//! The only way out: every outbound connection is vetted here.
//!
//! A stranger (tracker, manifest, redirect) may name any address, ours and our neighbours'
//! included. So an address learnt from one is refused where it is not a public one, and a name is
//! resolved once, vetted, and the vetted address is what gets dialled (no second look-up that could
//! answer otherwise).

#[cfg(test)]
pub(crate) mod fake;
mod net;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;

pub(crate) use net::Network;

/// Who named an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// The operator: command line or configuration. Anything goes.
    CommandLine,
    /// A tracker or site at this address, which the operator let us reach. What it names may be as
    /// near to us as it is itself: a tracker on loopback may name loopback, one in a private
    /// network may name that network, a public one may name public addresses only.
    Neighbour(IpAddr),
    /// Anybody.
    Stranger,
}

/// How near an address is; nearer ones are the more dangerous to be sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Reachable from everywhere.
    Global,
    /// Private, link-local or carrier-grade NAT.
    Private,
    /// This machine.
    Loopback,
    /// Multicast, broadcast, reserved: no peer lives there.
    Reserved,
}

/// Tells the [`Scope`] of an address; embedded IPv4 addresses count as what they embed.
pub fn scope_of(ip: IpAddr) -> Scope {
    match ip {
        IpAddr::V4(v4) => scope_of_v4(v4),
        IpAddr::V6(v6) => scope_of_v6(v6),
    }
}

fn scope_of_v4(ip: Ipv4Addr) -> Scope {
    let [a, b, c, _] = ip.octets();
    match (a, b, c) {
        (0 | 127, _, _) => Scope::Loopback,
        (10, _, _) | (192, 168, _) | (169, 254, _) => Scope::Private,
        (172, 16..=31, _) | (100, 64..=127, _) => Scope::Private,
        (192, 0, 0 | 2) | (198, 18 | 19, _) | (198, 51, 100) | (203, 0, 113) => Scope::Reserved,
        (224.., _, _) => Scope::Reserved,
        _ => Scope::Global,
    }
}

fn scope_of_v6(ip: Ipv6Addr) -> Scope {
    let [a, b, c, d, e, f, g, h] = ip.segments();
    let embedded = |high: u16, low: u16| {
        let [w, x] = high.to_be_bytes();
        let [y, z] = low.to_be_bytes();
        scope_of_v4(Ipv4Addr::new(w, x, y, z))
    };
    match (a, b, c, d, e, f) {
        (0, 0, 0, 0, 0, 0) if g == 0 && h <= 1 => Scope::Loopback,
        // IPv4-compatible, -mapped, -translated, NAT64, 6to4.
        (0, 0, 0, 0, 0, 0 | 0xffff) | (0, 0, 0, 0, 0xffff, 0) => embedded(g, h),
        (0x64, 0xff9b, 0, 0, 0, 0) => embedded(g, h),
        (0x2002, ..) => embedded(b, c),
        (0xfc00..=0xfdff | 0xfe80..=0xfeff, ..) => Scope::Private,
        // NAT64 of the local network, whose prefix we don't know (RFC 8215).
        (0x64, 0xff9b, 1, ..) => Scope::Private,
        // Teredo, benchmarks, ORCHID and documentation: no server lives there.
        (0x2001, 0 | 2 | 0x10..=0x2f | 0xdb8, ..) | (0x3fff, 0..=0xfff, ..) => Scope::Reserved,
        // ISATAP within a global prefix.
        (0x2000..=0x3fff, _, _, _, 0 | 0x200, 0x5efe) => embedded(g, h),
        (0x2000..=0x3fff, ..) => Scope::Global,
        _ => Scope::Reserved,
    }
}

/// A block of addresses, `10.0.0.0/8` or `fd00::/8`; a bare address is a block of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IpNet {
    base: IpAddr,
    prefix: u8,
}

impl IpNet {
    /// Whether `ip` lies within.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let same = |a: &[u8], b: &[u8]| {
            a.iter().zip(b).enumerate().all(|(at, (x, y))| {
                let bits = usize::from(self.prefix).saturating_sub(at * 8).min(8);
                let mask = !(0xffu16 >> bits) as u8;
                x & mask == y & mask
            })
        };
        match (self.base, ip) {
            (IpAddr::V4(base), IpAddr::V4(ip)) => same(&base.octets(), &ip.octets()),
            (IpAddr::V6(base), IpAddr::V6(ip)) => same(&base.octets(), &ip.octets()),
            _ => false,
        }
    }
}

/// A text that is no `ADDRESS/PREFIX`.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is no network; write it as 192.168.0.0/16")]
pub struct IpNetError(String);

impl FromStr for IpNet {
    type Err = IpNetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || IpNetError(text.to_owned());
        let (base, prefix) = match text.split_once('/') {
            Some((base, prefix)) => (base, Some(prefix.parse::<u8>().map_err(|_| wrong())?)),
            None => (text, None),
        };
        let base: IpAddr = base.parse().map_err(|_| wrong())?;
        let longest = if base.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.unwrap_or(longest);
        if prefix > longest {
            return Err(wrong());
        }
        Ok(Self { base, prefix })
    }
}

impl std::fmt::Display for IpNet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

/// Which addresses may be dialled, by who named them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddressPolicy {
    /// Networks that even strangers may send us to (`--allow-net`). Default: none.
    pub allow_net: Vec<IpNet>,
}

impl AddressPolicy {
    /// Whether `ip`, named by `trust`, may be dialled.
    pub fn permits(&self, ip: IpAddr, trust: Trust) -> bool {
        if self.allow_net.iter().any(|net| net.contains(ip)) {
            return true;
        }
        match trust {
            Trust::CommandLine => true,
            Trust::Neighbour(by) => {
                let scope = scope_of(ip);
                scope != Scope::Reserved && scope <= scope_of(by)
            }
            Trust::Stranger => scope_of(ip) == Scope::Global,
        }
    }
}

/// Why no connection came about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The policy forbids this address; nothing was sent.
    #[error("address {0} is refused: a stranger may not send us there (see --allow-net)")]
    Refused(IpAddr),
    /// The name does not resolve.
    #[error("cannot resolve {host}")]
    Resolve {
        /// The name asked for.
        host: String,
        /// What the resolver said.
        #[source]
        source: io::Error,
    },
    /// The name has addresses, but none of the family to be called by.
    #[error("{host} has no address of this family")]
    Family {
        /// The name asked for.
        host: String,
    },
    /// The other side or the network said no.
    #[error("cannot connect to {addr}")]
    Io {
        /// The address dialled.
        addr: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Nobody answered in time.
    #[error("no answer from {0} in time")]
    TimedOut(SocketAddr),
}

/// Dials, within the policy and a time limit.
#[derive(Debug, Clone)]
pub struct Connector {
    policy: AddressPolicy,
    timeout: Duration,
    source: Option<IpAddr>,
    /// Names are called by this family first.
    family: Option<Family>,
    /// And by no other.
    only: bool,
    network: Arc<dyn Network>,
}

/// A family of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    const fn has(self, ip: IpAddr) -> bool {
        matches!(
            (self, ip),
            (Self::V4, IpAddr::V4(_)) | (Self::V6, IpAddr::V6(_))
        )
    }
}

/// An address as all of us know it: a socket of both families shows IPv4 in the guise of IPv6, and
/// strangers may name it so. The interface of a link-local address stays with it.
pub(crate) fn canonical(addr: SocketAddr) -> SocketAddr {
    match addr.ip().to_canonical() {
        ip @ IpAddr::V4(_) => SocketAddr::new(ip, addr.port()),
        IpAddr::V6(_) => addr,
    }
}

impl Connector {
    /// A connector that gives each attempt `timeout`.
    pub fn new(policy: AddressPolicy, timeout: Duration) -> Self {
        Self {
            policy,
            timeout,
            source: None,
            family: None,
            only: false,
            network: Arc::new(net::System),
        }
    }

    /// Calls from `ip` from now on, if it is one of ours at all (0.0.0.0 and :: are not).
    ///
    /// Who listens on one address only is to be known by that one: a tracker takes a peer's address
    /// from the connection it announces by. Addresses of the other family, and those that can't be
    /// reached from `ip` because it is loopback, are dialled from where the system sees fit.
    ///
    /// For the same reason a name is called by an address of the family of `ip` first, where it has
    /// one: by the other we would be known where nobody is met. `::` is of both.
    pub fn with_source(mut self, ip: IpAddr) -> Self {
        self.source = Some(ip).filter(|ip| !ip.is_unspecified());
        self.family = match ip {
            IpAddr::V4(_) => Some(Family::V4),
            IpAddr::V6(ip) if ip.is_unspecified() => None,
            IpAddr::V6(_) => Some(Family::V6),
        };
        self
    }

    /// Calls names by this family only.
    pub(crate) const fn only_by(mut self, family: Family) -> Self {
        (self.family, self.only) = (Some(family), true);
        self
    }

    async fn connect(&self, addr: SocketAddr) -> io::Result<TcpStream> {
        let fits = |source: &IpAddr| {
            source.is_ipv4() == addr.is_ipv4() && (!source.is_loopback() || addr.ip().is_loopback())
        };
        self.network.connect(addr, self.source.filter(fits)).await
    }

    /// Calls over another network than the system's.
    #[cfg(test)]
    pub(crate) fn over(mut self, network: Arc<dyn Network>) -> Self {
        self.network = network;
        self
    }

    /// The policy in force.
    pub fn policy(&self) -> &AddressPolicy {
        &self.policy
    }

    /// Holds an address against the policy.
    ///
    /// # Errors
    /// [`ConnectError::Refused`].
    pub fn check(&self, addr: SocketAddr, trust: Trust) -> Result<(), ConnectError> {
        match self.policy.permits(addr.ip(), trust) {
            true => Ok(()),
            false => Err(ConnectError::Refused(addr.ip())),
        }
    }

    /// Connects to an address.
    ///
    /// # Errors
    /// [`ConnectError`]: refused by policy, unreachable, or too slow.
    pub async fn dial(&self, addr: SocketAddr, trust: Trust) -> Result<TcpStream, ConnectError> {
        self.check(addr, trust)?;
        match tokio::time::timeout(self.timeout, self.connect(addr)).await {
            Ok(Ok(stream)) => {
                // Small control messages must not wait for large ones; failing that is harmless.
                let _ = stream.set_nodelay(true);
                Ok(stream)
            }
            Ok(Err(source)) => Err(ConnectError::Io { addr, source }),
            Err(_) => Err(ConnectError::TimedOut(addr)),
        }
    }

    /// Resolves a name once and keeps the addresses that may be dialled.
    ///
    /// `localhost` and all names below it are this machine (RFC 6761), whatever a resolver says.
    ///
    /// # Errors
    /// [`ConnectError`]: no such name, or none of its addresses is permitted.
    pub async fn resolve(
        &self,
        host: &str,
        port: u16,
        trust: Trust,
    ) -> Result<Vec<SocketAddr>, ConnectError> {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let found: Vec<SocketAddr> = if let Ok(ip) = bare.parse::<IpAddr>() {
            vec![SocketAddr::new(ip, port)]
        } else if is_localhost(bare) {
            vec![
                SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port),
                SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port),
            ]
        } else {
            let lookup = self.network.lookup(bare, port);
            match tokio::time::timeout(self.timeout, lookup).await {
                Ok(Ok(found)) => found,
                Ok(Err(source)) => {
                    let host = bare.to_owned();
                    return Err(ConnectError::Resolve { host, source });
                }
                Err(_) => {
                    return Err(ConnectError::Resolve {
                        host: bare.to_owned(),
                        source: io::ErrorKind::TimedOut.into(),
                    });
                }
            }
        };
        let mut refused = None;
        let mut allowed = Vec::new();
        for addr in found {
            if self.policy.permits(addr.ip(), trust) {
                allowed.push(addr);
            } else {
                refused = Some(addr.ip());
            }
        }
        if let Some(family) = self.family {
            // Otherwise in the order of the resolver.
            allowed.sort_by_key(|addr| !family.has(addr.ip()));
            let all = allowed.len();
            allowed.retain(|addr| !self.only || family.has(addr.ip()));
            if all > 0 && allowed.is_empty() {
                return Err(ConnectError::Family {
                    host: bare.to_owned(),
                });
            }
        }
        match (allowed.is_empty(), refused) {
            (false, _) => Ok(allowed),
            (true, Some(ip)) => Err(ConnectError::Refused(ip)),
            (true, None) => Err(ConnectError::Resolve {
                host: bare.to_owned(),
                source: io::ErrorKind::NotFound.into(),
            }),
        }
    }

    /// Resolves and connects, trying the permitted addresses in turn.
    ///
    /// # Errors
    /// [`ConnectError`] of the last address tried.
    pub async fn dial_host(
        &self,
        host: &str,
        port: u16,
        trust: Trust,
    ) -> Result<(TcpStream, SocketAddr), ConnectError> {
        let mut last = None;
        for addr in self.resolve(host, port, trust).await? {
            match self.dial(addr, trust).await {
                Ok(stream) => return Ok((stream, addr)),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| ConnectError::Resolve {
            host: host.to_owned(),
            source: io::ErrorKind::NotFound.into(),
        }))
    }
}

fn is_localhost(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    host == "localhost" || host.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn strangers_cannot_send_us_inside() {
        let policy = AddressPolicy::default();
        for inside in [
            "127.0.0.1",
            "0.0.0.0",
            "10.1.2.3",
            "172.31.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "fd00::1",
            "fe80::1",
            "ff02::1",
        ] {
            assert!(!policy.permits(ip(inside), Trust::Stranger), "{inside}");
        }
        for outside in ["8.8.8.8", "172.32.0.1", "2a00:1450::1", "::ffff:8.8.8.8"] {
            assert!(policy.permits(ip(outside), Trust::Stranger), "{outside}");
        }
    }

    #[test]
    fn a_neighbour_names_only_what_is_as_near_as_itself() {
        let policy = AddressPolicy::default();
        let by = |who: &str, what: &str| policy.permits(ip(what), Trust::Neighbour(ip(who)));
        assert!(by("127.0.0.1", "127.0.0.1"));
        assert!(by("127.0.0.1", "10.0.0.1"));
        assert!(by("10.0.0.1", "192.168.0.1"));
        assert!(!by("10.0.0.1", "127.0.0.1"));
        assert!(!by("8.8.8.8", "10.0.0.1"));
        assert!(by("8.8.8.8", "9.9.9.9"));
        assert!(!by("127.0.0.1", "224.0.0.1"));
    }

    #[test]
    fn networks_are_matched_by_their_prefix() {
        let policy = AddressPolicy {
            allow_net: vec!["10.98.0.0/15".parse().unwrap(), "fd00::/8".parse().unwrap()],
        };
        assert!(policy.permits(ip("10.99.255.255"), Trust::Stranger));
        assert!(!policy.permits(ip("10.100.0.0"), Trust::Stranger));
        assert!(policy.permits(ip("fdff::1"), Trust::Stranger));
        assert!(!policy.permits(ip("fc00::1"), Trust::Stranger));
        let everything: IpNet = "0.0.0.0/0".parse().unwrap();
        assert!(everything.contains(ip("127.0.0.1")));
        for wrong in [
            "",
            "10.0.0.0/33",
            "10.0.0/8",
            "fd00::/129",
            "x/8",
            "10.0.0.0/-1",
        ] {
            assert!(wrong.parse::<IpNet>().is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn a_refused_address_is_never_dialled() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let connector = Connector::new(AddressPolicy::default(), Duration::from_secs(2));
        let refused = connector
            .dial_host("localhost", addr.port(), Trust::Stranger)
            .await;
        assert!(
            matches!(refused, Err(ConnectError::Refused(_))),
            "{refused:?}"
        );
        let accepted = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
        assert!(accepted.is_err(), "a connection came in");
        assert!(connector.dial(addr, Trust::CommandLine).await.is_ok());
        let (_, dialled) = connector
            .dial_host("some.site.localhost", addr.port(), Trust::CommandLine)
            .await
            .unwrap();
        assert_eq!(dialled, addr);
    }

    #[tokio::test]
    async fn a_name_is_called_by_the_family_that_is_listened_on_first() {
        let network = Arc::new(fake::FakeNet::default());
        let both = ["2001:db8::1", "192.0.2.1", "2001:db8::2"];
        network.name("tracker.test", &[&both[..]]);
        for (listen, first) in [
            ("0.0.0.0", "192.0.2.1"),
            ("198.51.100.1", "192.0.2.1"),
            ("::", "2001:db8::1"),
            ("2001:db8::7", "2001:db8::1"),
        ] {
            let connector = Connector::new(AddressPolicy::default(), Duration::from_secs(2))
                .with_source(ip(listen))
                .over(network.clone());
            let found = connector.resolve("tracker.test", 80, Trust::CommandLine);
            let found = found.await.unwrap();
            assert_eq!((found[0].ip(), found.len()), (ip(first), 3), "{listen}");
        }
    }

    #[tokio::test]
    async fn calls_leave_from_the_address_that_is_listened_on() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        for (source, seen) in [
            ("127.0.0.7", "127.0.0.7"),
            ("0.0.0.0", "127.0.0.1"),
            ("::1", "127.0.0.1"),
        ] {
            let connector = Connector::new(AddressPolicy::default(), Duration::from_secs(2))
                .with_source(ip(source));
            let stream = connector.dial(addr, Trust::CommandLine).await.unwrap();
            assert_eq!(stream.local_addr().unwrap().ip(), ip(seen), "{source}");
        }
    }
}
