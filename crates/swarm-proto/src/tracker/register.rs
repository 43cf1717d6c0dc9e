//! Replies of the register of sites in need and volunteer bridges (spec 0006).
//!
//! Bencoded; written canonically, read leniently. What a reply says is a hint: an alarm proves
//! itself by its signature, a bridge's bytes by the manifest. What a site *is* stands in its
//! record, not here.

use std::net::{IpAddr, SocketAddr};

use crate::bencode::{self, BencodeError, Dict, Item, List, Rules, Value};
use crate::id::{InfoHashV2, SwarmId};
use crate::limits::{
    BRIDGES_PER_REPLY_MAX, ENVELOPE_LEN_MAX, MANIFEST_BUNDLES_MAX, SITES_PER_REPLY_MAX,
};
use crate::manifest::{SiteName, SitePath};
use crate::tracker::http::domain_name;

/// `POST`: a signed alarm.
pub const ALARM_PATH: &str = "/swarm/alarm";
/// `PUT`: a site record; `GET` with `/<site>` appended: the record of that site.
pub const SITE_PATH: &str = "/swarm/site";
/// `GET`: [`SitesReply`], at once or, with `since` and `wait`, when it changes.
pub const SITES_PATH: &str = "/swarm/sites";
/// `GET` with `?site=`: [`BridgesReply`].
pub const BRIDGES_PATH: &str = "/swarm/bridges";
/// `GET` with `/<url>` appended: 302 to a bridge or home.
pub const REDIRECT_PATH: &str = "/r";
/// `GET` with `?url=`: whether the swarm has that page, as JSON.
pub const LOOKUP_PATH: &str = "/lookup";

/// Key and value that mark a visitor whom a tracker or bridge sent home; a gate never sends
/// such a request away again and strips the marker before the origin sees it.
pub const HOME_MARKER: &str = "spikeswarm=home";

/// Why bytes are no reply of a register. The tracker's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// Not bencode at all.
    #[error("register's reply is not bencode")]
    NotBencode(#[source] BencodeError),
    /// Bencode, but not the dictionary that was asked for.
    #[error("register's reply lacks a valid {0}")]
    WrongShape(&'static str),
}

/// The URL of `path` on the tracker whose announce URL is given: same scheme and authority,
/// nothing else of it. `None` where `tracker` is no http or https URL.
pub fn register_url(tracker: &str, path: &str) -> Option<String> {
    let (scheme, rest) = tracker.split_once("://")?;
    if !matches!(scheme, "http" | "https") {
        return None;
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    (!authority.is_empty()).then(|| format!("{scheme}://{authority}{path}"))
}

/// One site whose alarm stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteInNeed {
    /// The site.
    pub site: SiteName,
    /// The bytes of its `SignedAlarm`, as the site's gate sent them.
    pub alarm: Vec<u8>,
    /// The bundles of its newest registered manifest, in manifest order.
    pub bundles: Vec<InfoHashV2>,
}

/// All sites whose alarm stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SitesReply {
    /// Rises with each change; goes back to `since` of the next long poll.
    pub version: u64,
    /// Sorted by site.
    pub sites: Vec<SiteInNeed>,
}

impl SitesReply {
    /// Canonical bytes of the reply.
    pub fn to_bytes(&self) -> Vec<u8> {
        let sites = self.sites.iter().map(|entry| {
            Item::dict([
                ("alarm", Item::bytes(&entry.alarm)),
                (
                    "bundles",
                    Item::list(entry.bundles.iter().map(|id| Item::bytes(id.as_bytes()))),
                ),
                ("site", Item::bytes(entry.site.as_str())),
            ])
        });
        Item::dict([
            ("sites", Item::list(sites)),
            (
                "version",
                Item::int(i64::try_from(self.version).unwrap_or(i64::MAX)),
            ),
        ])
        .to_bytes()
    }

    /// Reads a reply; entries that are no site are left out, and so is what is past the limits.
    ///
    /// # Errors
    /// [`RegisterError`] where the whole is no such reply.
    pub fn decode(bytes: &[u8]) -> Result<Self, RegisterError> {
        let value = decode(bytes)?;
        let dict = value
            .as_dict()
            .ok_or(RegisterError::WrongShape("dictionary"))?;
        let version = dict
            .get(b"version")
            .and_then(Value::as_int)
            .and_then(|version| u64::try_from(version).ok())
            .ok_or(RegisterError::WrongShape("version"))?;
        let sites = list(dict, "sites")?
            .iter()
            .take(SITES_PER_REPLY_MAX)
            .filter_map(|entry| {
                let entry = entry.as_dict()?;
                let alarm = entry.get(b"alarm")?.as_bytes()?;
                Some(SiteInNeed {
                    site: SiteName::parse(entry.get(b"site")?.as_str()?).ok()?,
                    alarm: (alarm.len() <= ENVELOPE_LEN_MAX).then(|| alarm.to_vec())?,
                    bundles: ids(entry.get(b"bundles")?),
                })
            })
            .collect();
        Ok(Self { version, sites })
    }
}

/// One bridge as visitors reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeView {
    /// `http://<address>:<port>`, without a slash at the end. Never a name: the address is the
    /// one the volunteer announced from.
    pub base: String,
    /// Domain under which each site has its own name; `None`: `/<host>/<path>` on the address.
    pub domain: Option<String>,
    /// Bundles that the bridge holds whole, by the id the manifest lists first (v1).
    pub bundles: Vec<SwarmId>,
}

impl BridgeView {
    /// A bridge at `address`; a domain that is none is dropped.
    pub fn new(address: SocketAddr, domain: Option<&str>, bundles: Vec<SwarmId>) -> Self {
        Self {
            base: format!("http://{}", canonical(address)),
            domain: domain.and_then(domain_name),
            bundles,
        }
    }

    /// Whether a visitor at this address can be expected to reach the bridge; see [`reaches`].
    pub fn reachable_from(&self, visitor: IpAddr) -> bool {
        self.address()
            .is_some_and(|address| reaches(visitor.to_canonical(), address.ip()))
    }

    /// Where the bridge answers, read back from [`base`](Self::base).
    pub fn address(&self) -> Option<SocketAddr> {
        self.base.strip_prefix("http://")?.parse().ok()
    }

    /// The URL of a site's path on this bridge. Everything in it is re-encoded, so that no path
    /// can name another host (T48).
    pub fn url_for(&self, site: &SiteName, path: &SitePath) -> String {
        match (&self.domain, self.address()) {
            (Some(domain), Some(address)) => format!(
                "http://{}.{domain}:{}{}",
                site.label(),
                address.port(),
                path.to_url()
            ),
            _ => format!("{}/{}{}", self.base, site.as_str(), path.to_url()),
        }
    }
}

/// The bridges that hold bundles of one site.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BridgesReply {
    /// In no order that means anything.
    pub bridges: Vec<BridgeView>,
}

impl BridgesReply {
    /// Canonical bytes of the reply.
    pub fn to_bytes(&self) -> Vec<u8> {
        let bridges = self.bridges.iter().map(|bridge| {
            let mut fields = vec![
                ("base", Item::bytes(&bridge.base)),
                (
                    "bundles",
                    Item::list(bridge.bundles.iter().map(|id| Item::bytes(id.as_bytes()))),
                ),
            ];
            if let Some(domain) = &bridge.domain {
                fields.push(("domain", Item::bytes(domain)));
            }
            Item::dict(fields)
        });
        Item::dict([("bridges", Item::list(bridges))]).to_bytes()
    }

    /// Reads a reply; a bridge whose base is not exactly `http://<address>:<port>`, or whose
    /// domain is no domain, is left out, for visitors are sent there.
    ///
    /// # Errors
    /// [`RegisterError`] where the whole is no such reply.
    pub fn decode(bytes: &[u8]) -> Result<Self, RegisterError> {
        let value = decode(bytes)?;
        let dict = value
            .as_dict()
            .ok_or(RegisterError::WrongShape("dictionary"))?;
        let bridges = list(dict, "bridges")?
            .iter()
            .take(BRIDGES_PER_REPLY_MAX)
            .filter_map(|entry| {
                let entry = entry.as_dict()?;
                let base = entry.get(b"base")?.as_str()?;
                let address: SocketAddr = base.strip_prefix("http://")?.parse().ok()?;
                let domain = match entry.get(b"domain") {
                    None => None,
                    Some(name) => Some(domain_name(name.as_str()?)?),
                };
                let bundles = ids(entry.get(b"bundles")?);
                (address.port() != 0).then(|| BridgeView::new(address, domain.as_deref(), bundles))
            })
            .collect();
        Ok(Self { bridges })
    }
}

/// How far an address is visible: 2 everywhere, 1 in its private network, 0 on its own host.
fn scope(ip: IpAddr) -> u8 {
    match ip {
        ip if ip.is_loopback() => 0,
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            let shared = a == 100 && (64..128).contains(&b);
            u8::from(!(ip.is_private() || ip.is_link_local() || shared)) + 1
        }
        IpAddr::V6(ip) => u8::from(!(ip.is_unique_local() || ip.is_unicast_link_local())) + 1,
    }
}

/// Whether a visitor at one address can be expected to reach a bridge at another: nobody is sent to a host of his own
/// network because a volunteer announced from ours, and nobody without IPv6 to IPv6.
pub fn reaches(visitor: IpAddr, bridge: IpAddr) -> bool {
    scope(bridge) >= scope(visitor)
        && (bridge.is_ipv4() || visitor.is_ipv6() || visitor.is_loopback())
}

fn canonical(address: SocketAddr) -> SocketAddr {
    // A flow label or scope would not survive being read back.
    SocketAddr::new(IpAddr::to_canonical(&address.ip()), address.port())
}

fn decode(bytes: &[u8]) -> Result<Value<'_>, RegisterError> {
    bencode::decode(bytes, &Rules::NETWORK).map_err(RegisterError::NotBencode)
}

fn list<'a>(dict: Dict<'a>, key: &'static str) -> Result<List<'a>, RegisterError> {
    dict.get(key.as_bytes())
        .and_then(Value::as_list)
        .ok_or(RegisterError::WrongShape(key))
}

/// The ids in a list, those of the right length.
fn ids<T: for<'b> TryFrom<&'b [u8]>>(value: Value<'_>) -> Vec<T> {
    value
        .as_list()
        .unwrap_or_default()
        .iter()
        .take(MANIFEST_BUNDLES_MAX)
        .filter_map(|id| T::try_from(id.as_bytes()?).ok())
        .collect()
}

#[cfg(test)]
mod tests;
