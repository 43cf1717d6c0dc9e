//! What an operator may set about sites that install nothing and let him carry them.

use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::duration;

/// How sites are carried that name this operator in DNS (spec 0006, 10). Needs a state directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatorConfig {
    /// File with the operator's secret key, made if absent: 64 hexadecimal digits. Whoever has it
    /// can say anything in the name of the sites carried.
    pub key: PathBuf,
    /// Announce URL of this tracker, as volunteers reach it: `http://tracker.example:6969/announce`.
    pub announce: String,
    /// Where peers may call for the copies. Default: any port of every address.
    #[serde(default = "anywhere")]
    pub listen: SocketAddr,
    /// Name server to ask for sites' records. Default: those of this machine.
    #[serde(default)]
    pub dns: Option<SocketAddr>,
    /// Private networks in which sites may say to be at home (T27): any site, so that what lies
    /// there for everybody to read may be copied for the world. Default: none.
    #[serde(default)]
    pub allow_net: Vec<IpNet>,
    /// Sites carried at a time. Default: 100.
    #[serde(default = "sites_max")]
    pub sites_max: usize,
    /// Time after the last visitor at which volunteers are let go. Default: 10 min.
    #[serde(with = "duration", default = "quiet_after")]
    pub quiet_after: Duration,
    /// How much of a site is copied, and how fast.
    #[serde(default)]
    pub pull: PullConfig,
}

impl OperatorConfig {
    /// The defaults, with what has none.
    pub fn new(key: PathBuf, announce: String) -> Self {
        Self {
            key,
            announce,
            listen: anywhere(),
            dns: None,
            allow_net: Vec::new(),
            sites_max: sites_max(),
            quiet_after: quiet_after(),
            pull: PullConfig::default(),
        }
    }
}

const fn anywhere() -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0)
}

const fn sites_max() -> usize {
    100
}

const fn quiet_after() -> Duration {
    Duration::from_secs(600)
}

/// What a site is asked for its copy: it is asked because it has little to give.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PullConfig {
    /// Bytes of one site's copy. Default: 256 MiB.
    pub bytes_max: u64,
    /// Bytes of one file; longer ones stay home. Default: 64 MiB.
    pub file_len_max: u64,
    /// Files of one site's copy. Default: 5000.
    pub files_max: usize,
    /// Requests to one site at a time. Default: 2.
    pub at_once: usize,
    /// Requests a second to one site. Whoever asks for what is not there has it asked for, too.
    /// Default: 10.
    pub requests: u32,
    /// Bits per second from one site. Default: 10 Mbit/s.
    pub rate: u64,
    /// Least time before something is asked for again, whatever the site says. Default: 5 min.
    #[serde(with = "duration")]
    pub refresh: Duration,
    /// Time for the head of an answer, and between two parts of its body. Default: 20 s.
    #[serde(with = "duration")]
    pub timeout: Duration,
}

impl Default for PullConfig {
    fn default() -> Self {
        Self {
            bytes_max: 256 << 20,
            file_len_max: 64 << 20,
            files_max: 5000,
            at_once: 2,
            requests: 10,
            rate: 10_000_000,
            refresh: Duration::from_secs(300),
            timeout: Duration::from_secs(20),
        }
    }
}
