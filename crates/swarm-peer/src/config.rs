//! What an operator may set, with units and defaults. `limits.rs` of swarm-proto is not here.

use std::collections::BTreeMap;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use swarm_proto::download::SuperSeed;
use swarm_proto::manifest::{PublicKey, SiteName};
use swarm_proto::session::Timeouts;

use crate::connector::{AddressPolicy, IpNet};
use crate::discovery::{DhtMode, Discovery};
use crate::link::port::Transport;
use crate::node::{MEMORY, NodeConfig};
use crate::uplink::{Downlink, Uplink, parse_rate};

const MIB: u64 = 1024 * 1024;

/// Everything about one peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PeerConfig {
    /// Where other peers may call; port 0 is any free port. Default: any free port, all addresses
    /// (`[::]:0`; where the system has no IPv6, those of IPv4).
    pub listen: SocketAddr,
    /// Whether peers are met by uTP besides TCP: `on`, `off`, or `only`. Default: on.
    pub utp: Transport,
    /// What may be sent, in bits per second (`20Mbit`). Default: no limit.
    #[serde(with = "rate")]
    pub upload: Option<u64>,
    /// What may be received from peers, in bits per second. Default: no limit.
    #[serde(with = "rate")]
    pub download: Option<u64>,
    /// What one bundle may send, in bits per second. Default: no limit but that of all.
    #[serde(with = "rate")]
    pub bundle_upload: Option<u64>,
    /// What one bundle may receive, in bits per second. Default: no limit but that of all.
    #[serde(with = "rate")]
    pub bundle_download: Option<u64>,
    /// Connections of all bundles together; each may cost 1 MiB at full speed. Default: 500.
    pub peers_max: usize,
    /// Mebibytes for pieces that are not on the disk yet and for buffers of connections, of all
    /// bundles together. Default: 64; less makes bundles and connections wait for each other.
    pub memory: u64,
    /// Connections of one bundle. Default: 80.
    pub peers_per_bundle_max: usize,
    /// Peers of one bundle served at a time; more divide a full uplink into thinner streams.
    /// Default: 8.
    pub upload_slots: usize,
    /// The same of a bundle that is whole, while more make better use of the uplink: for a thick one
    /// and many slow peers, 100. Default: 8; no more than `upload_slots` turns it off.
    pub upload_slots_max: usize,
    /// Whether a bundle's only seed shows its pieces one by one to clients that don't heed
    /// suggestions (BEP 16): `auto`, `never` or `always`. Default: auto, while it helps.
    #[serde(with = "super_seed")]
    pub super_seed: SuperSeed,
    /// How long a peer may say nothing, not even that it is still there, before its connection is
    /// given up. Default: 2 min, as peers speak every two minutes at least.
    #[serde(with = "duration")]
    pub peer_timeout: Duration,
    /// Networks (`10.0.0.0/8`) that even strangers may send us to. Default: none.
    #[serde(with = "nets")]
    pub allow_net: Vec<IpNet>,
    /// Trackers for every bundle, besides its own. Default: none.
    pub trackers: Vec<String>,
    /// The DHT (BEP 5): `on`, `off`, or `client`, which asks and answers nobody. Default: off, for
    /// it tells strangers all over the world what is fetched here.
    pub dht: DhtMode,
    /// Nodes (`HOST:PORT`) to enter the DHT by. Default: the well-known routers.
    pub dht_bootstrap: Vec<String>,
    /// Peers told by peers (BEP 11). Default: true.
    pub pex: bool,
    /// Search by multicast on the local network (BEP 14). Default: false.
    pub lsd: bool,
    /// Trackers over UDP (BEP 15) beside those over HTTP. Default: true.
    pub udp_trackers: bool,
    /// Name server to ask whom sites let carry them. Default: those of this machine.
    pub dns: Option<SocketAddr>,
    /// Where sites' keys, what was verified, and control sockets are kept. Default:
    /// `$XDG_STATE_HOME/spikeswarm`, or `~/.local/state/spikeswarm`.
    pub state: Option<PathBuf>,
    /// The control socket; a path of at most some 100 bytes. Default: `run/peer-PID.sock` in the
    /// state directory.
    pub control: Option<PathBuf>,
    /// Longest time to say goodbye to trackers and save states after the signal to stop.
    /// Default: 10 s.
    #[serde(with = "duration")]
    pub drain: Duration,
    /// Root keys of sites, by host; they need not be learnt from the site then. Default: none.
    #[serde(with = "site_keys")]
    pub site_keys: BTreeMap<SiteName, PublicKey>,
}

impl Default for PeerConfig {
    fn default() -> Self {
        let discovery = Discovery::default();
        Self {
            listen: SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
            utp: Transport::default(),
            upload: None,
            download: None,
            bundle_upload: None,
            bundle_download: None,
            peers_max: 500,
            memory: MEMORY / MIB,
            peers_per_bundle_max: 80,
            upload_slots: 8,
            upload_slots_max: 8,
            super_seed: SuperSeed::default(),
            peer_timeout: Timeouts::default().idle,
            allow_net: Vec::new(),
            trackers: Vec::new(),
            dht: discovery.dht,
            dht_bootstrap: discovery.dht_bootstrap,
            pex: discovery.pex,
            lsd: discovery.lsd,
            udp_trackers: discovery.udp_trackers,
            dns: None,
            state: None,
            control: None,
            drain: Duration::from_secs(10),
            site_keys: BTreeMap::new(),
        }
    }
}

/// Why a configuration, though readable, cannot be used. The operator's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A value of which at least one is needed.
    #[error("{0} must not be 0")]
    Zero(&'static str),
    /// A tracker of a kind that is not spoken.
    #[error("trackers: {0:?} is no http, https or udp URL")]
    Tracker(String),
}

impl PeerConfig {
    /// Checks what the types do not.
    ///
    /// # Errors
    /// [`ConfigError`], the first contradiction.
    pub fn check(&self) -> Result<(), ConfigError> {
        for (key, value) in [
            ("peers_max", self.peers_max),
            ("memory", usize::try_from(self.memory).unwrap_or(usize::MAX)),
            ("peers_per_bundle_max", self.peers_per_bundle_max),
            ("upload_slots", self.upload_slots),
        ] {
            if value == 0 {
                return Err(ConfigError::Zero(key));
            }
        }
        let strange = self.trackers.iter().find(|url| {
            let parsed = url::Url::parse(url);
            !parsed.is_ok_and(|url| matches!(url.scheme(), "http" | "https" | "udp"))
        });
        match strange {
            Some(url) => Err(ConfigError::Tracker(url.clone())),
            None => Ok(()),
        }
    }

    /// The state directory in force; `None` on a machine that has no place for one.
    pub fn state_dir(&self) -> Option<PathBuf> {
        let absolute = |name: &str| {
            let path = PathBuf::from(std::env::var_os(name)?);
            path.is_absolute().then_some(path)
        };
        self.state
            .clone()
            .or_else(|| Some(absolute("XDG_STATE_HOME")?.join("spikeswarm")))
            .or_else(|| Some(absolute("HOME")?.join(".local/state/spikeswarm")))
    }

    /// The node that this describes.
    pub fn node(&self) -> NodeConfig {
        NodeConfig {
            listen: self.listen,
            transport: self.utp,
            uplink: Uplink::limited(self.upload),
            downlink: Downlink::limited(self.download),
            bundle_upload: self.bundle_upload,
            bundle_download: self.bundle_download,
            peers_max: self.peers_max,
            memory: self.memory.saturating_mul(MIB),
            peers_per_swarm_max: self.peers_per_bundle_max,
            upload_slots: self.upload_slots,
            upload_slots_max: self.upload_slots_max,
            super_seed: self.super_seed,
            policy: AddressPolicy {
                allow_net: self.allow_net.clone(),
            },
            state_dir: self.state_dir().map(|dir| dir.join("resume")),
            discovery: Discovery {
                dht: self.dht,
                dht_bootstrap: self.dht_bootstrap.clone(),
                pex: self.pex,
                lsd: self.lsd,
                udp_trackers: self.udp_trackers,
            },
            timeouts: Timeouts {
                idle: self.peer_timeout,
                keep_alive: Timeouts::default()
                    .keep_alive
                    .min(self.peer_timeout * 2 / 5),
                ..Timeouts::default()
            },
            ..NodeConfig::default()
        }
    }
}

/// Reads a duration as people write it: `250ms`, `30s`, `5m`, `24h`, `7d`; a bare number is
/// seconds.
///
/// # Errors
/// What is wrong with it, in words.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: u64 = number
        .parse()
        .map_err(|_| format!("{text:?} is no duration: expected a number and a unit, as 30s"))?;
    let seconds = |factor: u64| number.checked_mul(factor).map(Duration::from_secs);
    match unit.trim() {
        "ms" => Some(Duration::from_millis(number)),
        "" | "s" => seconds(1),
        "m" | "min" => seconds(60),
        "h" => seconds(3600),
        "d" => seconds(86_400),
        _ => return Err(format!("{text:?} has no unit of time (ms, s, m, h, d)")),
    }
    .ok_or_else(|| format!("{text:?} is too long a time"))
}

/// Reads `HOST=KEY`.
///
/// # Errors
/// What is wrong with it, in words.
pub fn parse_site_key(text: &str) -> Result<(SiteName, PublicKey), String> {
    let (site, key) = text.rsplit_once('=').ok_or("expected HOST=KEY")?;
    let site = SiteName::parse(site).map_err(|error| format!("HOST: {error}"))?;
    let key = key.parse().map_err(|error| format!("KEY: {error}"))?;
    Ok((site, key))
}

mod duration {
    use std::time::Duration;

    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        let millis = value.as_millis();
        match millis.is_multiple_of(1000) {
            true => to.collect_str(&format_args!("{}s", value.as_secs())),
            false => to.collect_str(&format_args!("{millis}ms")),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(from)?;
        super::parse_duration(&text).map_err(D::Error::custom)
    }
}

mod super_seed {
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};
    use swarm_proto::download::SuperSeed;

    pub(super) fn serialize<S: Serializer>(value: &SuperSeed, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(value)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<SuperSeed, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

mod rate {
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &Option<u64>, to: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(bits) => to.collect_str(&format_args!("{bits}bit")),
            // TOML has no null.
            None => to.serialize_str("unlimited"),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
        match String::deserialize(from)?.as_str() {
            "unlimited" => Ok(None),
            text => super::parse_rate(text).map(Some).map_err(D::Error::custom),
        }
    }
}

mod nets {
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    use super::IpNet;

    pub(super) fn serialize<S: Serializer>(nets: &[IpNet], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(nets.iter().map(ToString::to_string))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<IpNet>, D::Error> {
        let texts = Vec::<String>::deserialize(from)?;
        let nets = texts.iter().map(|text| text.parse());
        nets.collect::<Result<_, _>>().map_err(D::Error::custom)
    }
}

mod site_keys {
    use std::collections::BTreeMap;

    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};
    use swarm_proto::manifest::{PublicKey, SiteName};

    pub(super) fn serialize<S: Serializer>(
        keys: &BTreeMap<SiteName, PublicKey>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        let texts = keys.iter();
        to.collect_map(texts.map(|(site, key)| (site.to_string(), key.to_string())))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<BTreeMap<SiteName, PublicKey>, D::Error> {
        let texts = BTreeMap::<String, String>::deserialize(from)?;
        let pairs = texts
            .iter()
            .map(|(site, key)| super::parse_site_key(&format!("{site}={key}")));
        pairs.collect::<Result<_, _>>().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use swarm_proto::manifest::SecretKey;

    use super::*;

    #[test]
    fn a_site_key_is_host_and_key() {
        let key = swarm_proto::manifest::SecretKey::new([1; 32]).public();
        let text = format!("Example.org:8080={key}");
        let (site, read) = parse_site_key(&text).expect("good");
        assert_eq!((site.as_str(), read), ("example.org:8080", key));
        for text in ["", "example.org", "a b=00", "example.org=00", "=x"] {
            assert!(parse_site_key(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_default_survives_a_round_trip() {
        let mut config = PeerConfig::default();
        for _ in 0..2 {
            assert_eq!(config.check(), Ok(()));
            let text = toml::to_string(&config).unwrap();
            assert_eq!(toml::from_str::<PeerConfig>(&text).as_ref(), Ok(&config));
            let site = SiteName::parse("example.org:8080").unwrap();
            config
                .site_keys
                .insert(site, SecretKey::new([1; 32]).public());
            config.upload = Some(20_000_001);
            config.utp = Transport::Utp;
            config.super_seed = SuperSeed::Always;
            config.allow_net = vec!["10.0.0.0/8".parse().unwrap()];
            config.state = Some("/var/lib/spikeswarm".into());
            config.drain = Duration::from_millis(1500);
        }
    }

    #[test]
    fn misspelt_keys_and_bad_values_are_refused() {
        for text in [
            "listne = '127.0.0.1:1'",
            "listen = 'localhost'",
            "utp = 'yes'",
            "super_seed = 'sometimes'",
            "upload = 'fast'",
            "upload = 8",
            "peers_max = -1",
            "allow_net = ['10.0.0.0/99']",
            "drain = '10 parsecs'",
            "[site_keys]\n'a b' = '00'",
        ] {
            assert!(toml::from_str::<PeerConfig>(text).is_err(), "{text}");
        }
        let zero = PeerConfig {
            upload_slots: 0,
            ..PeerConfig::default()
        };
        assert_eq!(zero.check(), Err(ConfigError::Zero("upload_slots")));
        let strange = PeerConfig {
            trackers: vec!["wss://x:1".into()],
            ..PeerConfig::default()
        };
        assert!(strange.check().is_err());
    }
}
