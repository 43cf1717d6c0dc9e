//! Configuration: what a bridge listens on, how patient it is, what it carries.
//!
//! [`BridgeConfig`] is what the library takes. [`Settings`] is the same as a file and a command
//! line spell it, together with what only the binary knows.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::duration;

/// What [`crate::Bridge::start`] needs to know.
#[derive(Debug, Clone)]
pub struct BridgeConfig {
    /// Where to answer HTTP. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// What follows a site's label in hosts: `example-org.<domain>`.
    pub domain: String,
    /// Carry one site only, and mean it whatever the host: a plain web server.
    pub any_host: bool,
    /// Clocks and bounds of the listener.
    pub http: HttpConfig,
    /// How bundles are joined.
    pub join: JoinConfig,
}

impl Default for BridgeConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            domain: "localhost".into(),
            any_host: false,
            http: HttpConfig::default(),
            join: JoinConfig::default(),
        }
    }
}

/// How a bridge joins the swarms of the bundles it carries. Bundles that its node holds already
/// are used as they are.
#[derive(Debug, Clone, Default)]
pub struct JoinConfig {
    /// Where pieces are kept, by info hash; `None`: in memory.
    pub store: Option<PathBuf>,
    /// Announce URLs besides those that the manifest names.
    pub trackers: Vec<String>,
    /// Peers to try besides those that trackers name.
    pub peers: Vec<SocketAddr>,
    /// Tell trackers that visitors may be sent here.
    pub offer: bool,
    /// Most bytes of bundles held at once; a site that does not fit is not joined. 0: no limit.
    pub disk_max: u64,
}

/// Clocks and bounds of the HTTP listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// Connections open at once; past it newcomers wait in the kernel's queue. Each holds at most
    /// one chunk of a reader, 256 KiB, and hyper's buffers.
    pub connections_max: usize,
    /// Bytes of small files kept in memory. More saves reads where sites have many small files.
    pub cache_max: usize,
    /// From a connection's start, or the last answer's end, to a complete request head. Longer
    /// keeps idle browsers connected, and lets idle attackers hold slots.
    #[serde(with = "duration")]
    pub head_timeout: Duration,
    /// How long a visitor may hold up writing.
    #[serde(with = "duration")]
    pub write_timeout: Duration,
    /// How long a file's first byte may be waited for before the answer is a 504.
    #[serde(with = "duration")]
    pub first_byte_timeout: Duration,
    /// How long the swarm may pause within a file before the connection is broken.
    #[serde(with = "duration")]
    pub stall_timeout: Duration,
    /// How long answers under way may take at shutdown.
    #[serde(with = "duration")]
    pub drain: Duration,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            connections_max: 2048,
            cache_max: 32 * 1024 * 1024,
            head_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(60),
            first_byte_timeout: Duration::from_secs(20),
            stall_timeout: Duration::from_secs(60),
            drain: Duration::from_secs(10),
        }
    }
}

/// What a volunteer promises for each site, whichever ends first (spec 0001: lease).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LeaseConfig {
    /// How long a site is kept after its alarm has ended, to hand visitors home.
    #[serde(with = "duration")]
    pub linger: Duration,
    /// Most answers for one site; 0: no limit.
    pub hits: u64,
    /// Most bytes given to one site's visitors; 0: no limit.
    pub bytes: u64,
}

impl Default for LeaseConfig {
    fn default() -> Self {
        Self {
            linger: Duration::from_secs(600),
            hits: 0,
            bytes: 0,
        }
    }
}

/// The whole configuration of the binary, as its file holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where to answer HTTP.
    pub listen: SocketAddr,
    /// What follows a site's label in hosts.
    pub domain: String,
    /// A folder to serve as a plain web server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<PathBuf>,
    /// Announce URLs; the first that answers is asked for records and alarms.
    pub trackers: Vec<String>,
    /// Sites to carry; for a volunteer: the only ones it helps.
    pub sites: Vec<String>,
    /// Root keys of sites, by host; several are separated by spaces.
    pub site_keys: BTreeMap<String, String>,
    /// Files with site records, by host.
    pub records: BTreeMap<String, PathBuf>,
    /// Help the sites that trackers name as in need.
    pub volunteer: bool,
    /// Where to speak BitTorrent; absent: any free port, with `root` only on loopback.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_listen: Option<SocketAddr>,
    /// Where bundles and trust are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<PathBuf>,
    /// What may be sent in all, such as `20Mbit`; empty: no limit.
    pub upload: String,
    /// Most bytes of bundles held at once, such as `2GB`; empty: no limit.
    pub disk: String,
    /// Peers to try besides those that trackers name.
    pub peers: Vec<SocketAddr>,
    /// Private networks that strangers' addresses may lie in.
    pub allow_net: Vec<String>,
    /// Name server to ask whom sites let carry them; absent: those of this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns: Option<SocketAddr>,
    /// Clocks and bounds of the HTTP listener.
    pub http: HttpConfig,
    /// What a volunteer promises.
    pub lease: LeaseConfig,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            domain: "localhost".into(),
            root: None,
            trackers: Vec::new(),
            sites: Vec::new(),
            site_keys: BTreeMap::new(),
            records: BTreeMap::new(),
            volunteer: false,
            peer_listen: None,
            store: None,
            upload: String::new(),
            disk: String::new(),
            peers: Vec::new(),
            allow_net: Vec::new(),
            dns: None,
            http: HttpConfig::default(),
            lease: LeaseConfig::default(),
        }
    }
}

/// Bytes as people write them: `2GB`, `512MiB`, `1000000`.
///
/// # Errors
/// One line that says what was expected.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit: u64 = match unit.trim() {
        "" | "B" => 1,
        "kB" | "KB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => 0,
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(unit))
        .filter(|_| unit != 0)
        .ok_or_else(|| format!("`{text}` is no size: write 500MB, 2GiB or a number of bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_survives_a_round_trip() {
        let text = toml::to_string(&Settings::default()).unwrap();
        assert_eq!(
            toml::from_str::<Settings>(&text).unwrap(),
            Settings::default()
        );
        assert_eq!(toml::from_str::<Settings>("").unwrap(), Settings::default());
    }

    #[test]
    fn a_misspelt_key_is_refused() {
        for text in [
            "listne = '1'",
            "[http]\nhead_timeuot = '1s'",
            "[lease]\nhit = 3",
            "[x]",
        ] {
            assert!(toml::from_str::<Settings>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [
            ("0", 0),
            ("2GB", 2_000_000_000),
            ("1 MiB", 1 << 20),
            ("7B", 7),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes));
        }
        for text in ["", "GB", "2 lumps", "-1", "1.5GB", "99999999999TB"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }
}
