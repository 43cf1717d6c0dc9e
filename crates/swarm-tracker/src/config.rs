//! What an operator may set, with units and defaults. `limits.rs` of swarm-proto is not here.

use std::collections::BTreeMap;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use swarm_proto::manifest::{HomeUrl, PublicKey, SiteName};

mod acme;
mod by_site;
mod operator;
mod store;
mod tls;
mod volunteer;

pub(crate) use acme::NAMES_MAX as ACME_NAMES_MAX;
pub use acme::{AcmeConfig, AcmeConfigError, BadCertificateName, CertificateName, ChallengeKind};
pub use operator::{OperatorConfig, PullConfig};
pub use store::{RedisUrl, StoreConfig};
pub use swarm_peer::config::parse_duration;
pub use tls::TlsConfig;
pub use volunteer::VolunteerConfig;

/// Everything about one tracker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrackerConfig {
    /// Addresses to listen on for HTTP. Default: port 6969 of every address, IPv6 and IPv4.
    pub http: Vec<SocketAddr>,
    /// Addresses to listen on for HTTPS, with the certificate of `tls` or those of `acme`. Default:
    /// none.
    pub https: Vec<SocketAddr>,
    /// Certificate and key for `https`. Default: none.
    pub tls: Option<TlsConfig>,
    /// Certificates for `https` that the tracker gets itself. Default: none.
    pub acme: Option<AcmeConfig>,
    /// Addresses to listen on for UDP (BEP 15). An empty list: none. Default: those of `http`.
    pub udp: Option<Vec<SocketAddr>>,
    /// Sockets for each UDP address, each with a thread; the system shares packets out among them
    /// by sender. Default: 1.
    pub udp_sockets: usize,
    /// Take any info hash, not only bundles of registered sites. Default: no.
    pub open: bool,
    /// Where what must survive a restart is kept: the newest record of each site. Default:
    /// nowhere, so that a restarted tracker can be told an older record (T33).
    pub state: Option<PathBuf>,
    /// What is shared with other trackers: `memory` for nothing, or `redis://HOST[:PORT][/DB]`, where
    /// all trackers of a fleet name the same. Default: `memory`.
    pub store: StoreConfig,
    /// Longest time to finish requests after the signal to stop. Default: 10 s.
    #[serde(with = "duration")]
    pub drain: Duration,
    /// Domains under which volunteers from elsewhere may have names for their bridges. Default:
    /// none; from this host `localhost` is always accepted.
    pub bridge_domains: Vec<String>,
    /// Networks of reverse proxies in front of this tracker: only what these say in `Forwarded` or
    /// `X-Forwarded-For` about who asks is believed (T14). Default: none.
    pub trusted_proxies: Vec<IpNet>,
    /// Announces.
    pub announce: AnnounceConfig,
    /// Sites that install nothing and name this operator in DNS. Default: none is carried.
    pub operator: Option<OperatorConfig>,
    /// How bridges of volunteers are proven and audited.
    pub volunteers: VolunteerConfig,
    /// Connections.
    pub connections: ConnectionConfig,
    /// The sites this tracker works for: root key by host. Default: none.
    #[serde(with = "by_site::site_keys")]
    pub site_keys: BTreeMap<SiteName, PublicKey>,
    /// Where a site itself still answers when its public name leads to this tracker: base URL by
    /// host. Default: none, so that visitors whom no bridge can serve are told so.
    #[serde(with = "by_site::homes")]
    pub homes: BTreeMap<SiteName, HomeUrl>,
}

impl Default for TrackerConfig {
    fn default() -> Self {
        Self {
            http: vec![SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 6969)],
            https: Vec::new(),
            tls: None,
            acme: None,
            udp: None,
            udp_sockets: 1,
            open: false,
            state: None,
            store: StoreConfig::Memory,
            drain: Duration::from_secs(10),
            bridge_domains: Vec::new(),
            trusted_proxies: Vec::new(),
            announce: AnnounceConfig::default(),
            operator: None,
            volunteers: VolunteerConfig::default(),
            connections: ConnectionConfig::default(),
            site_keys: BTreeMap::new(),
            homes: BTreeMap::new(),
        }
    }
}

/// How often peers announce and how long they are remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AnnounceConfig {
    /// Time between two announces of a peer. Shorter: fresher peers, more requests; a crowd
    /// turns over in minutes. Default: 2 min.
    #[serde(with = "duration")]
    pub interval: Duration,
    /// Time before which an unprompted announce is unwelcome. Default: 15 s.
    #[serde(with = "duration")]
    pub min_interval: Duration,
    /// Time after which a silent peer is forgotten. Must exceed the interval. Default: 5 min.
    #[serde(with = "duration")]
    pub peer_age: Duration,
    /// Time between two announces of a volunteer's bridge. Default: 30 s.
    #[serde(with = "duration")]
    pub bridge_interval: Duration,
    /// Time after which visitors are no longer sent to a silent bridge. Default: 75 s.
    #[serde(with = "duration")]
    pub bridge_age: Duration,
    /// Peers in a reply to those who name no number. Default: 50.
    pub peers_per_reply: usize,
    /// Peers in a reply at most; 1000 is the limit of the protocol. Default: 200.
    pub peers_per_reply_max: usize,
    /// Announces, scrapes, visitors and lookups a second that one IPv4 address or IPv6 /64 is
    /// answered (T20, T55); a scrape counts for one, and one more for each eight swarms. More are
    /// refused over HTTP and not answered over UDP. This host itself is not counted. Default: 1000.
    pub per_address_rate: u32,
    /// Least port a peer may announce (T14). Default: 1024.
    pub port_min: u16,
    /// Peers remembered in all swarms together; some 10 bytes each, 23 with
    /// IPv6. Default: 2,000,000.
    pub peers_max: usize,
}

impl Default for AnnounceConfig {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(120),
            min_interval: Duration::from_secs(15),
            peer_age: Duration::from_secs(300),
            bridge_interval: Duration::from_secs(30),
            bridge_age: Duration::from_secs(75),
            peers_per_reply: 50,
            peers_per_reply_max: 200,
            per_address_rate: 1000,
            port_min: 1024,
            peers_max: 2_000_000,
        }
    }
}

/// How much of this machine strangers can hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConnectionConfig {
    /// Connections at a time; more wait to be accepted. Some 20 KiB each. Default: 8192.
    pub max: usize,
    /// Connections at a time from one IPv4 address or IPv6 /64; more are closed at once. This
    /// host itself is not counted. Default: 256.
    pub per_address_max: usize,
    /// Time for a request's head to arrive, from the end of the request before: it is the time
    /// a connection may idle, too. Default: 10 s.
    #[serde(with = "duration")]
    pub head_timeout: Duration,
    /// Time for a request's body to arrive. Default: 30 s.
    #[serde(with = "duration")]
    pub body_timeout: Duration,
    /// Time in which a client must take in something of a reply. Default: 20 s.
    #[serde(with = "duration")]
    pub write_timeout: Duration,
    /// Time in which a peer that speaks WebSocket must send something whole, an answer to our
    /// ping at least, which it gets at half of it (T19). Default: 3 min.
    #[serde(with = "duration")]
    pub websocket_idle: Duration,
    /// Longest time the list of sites in need is held back until it changes. Default: 30 s.
    #[serde(with = "duration")]
    pub poll_max: Duration,
}

impl Default for ConnectionConfig {
    fn default() -> Self {
        Self {
            max: 8192,
            per_address_max: 256,
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(20),
            websocket_idle: Duration::from_secs(180),
            poll_max: Duration::from_secs(30),
        }
    }
}

/// Why a configuration, though readable, cannot be used. The operator's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Nothing to listen on.
    #[error("http: no address to listen on")]
    NoAddress,
    /// Two durations that contradict each other.
    #[error("announce.{shorter} must be shorter than announce.{longer}")]
    Order {
        /// The key whose value is too long.
        shorter: &'static str,
        /// The key whose value is too short.
        longer: &'static str,
    },
    /// A value of which at least one is needed.
    #[error("{0} must not be 0")]
    Zero(&'static str),
    /// HTTPS without a certificate, or a certificate for nothing.
    #[error("https needs tls or acme, and each of them needs https")]
    HalfTls,
    /// A copy has to be kept somewhere.
    #[error("operator: needs a state directory")]
    OperatorWithoutState,
    /// What the tracker is told about getting certificates does not do.
    #[error("acme{0}")]
    Acme(#[from] AcmeConfigError),
    /// A visitor sent home would come back to the tracker.
    #[error("homes: {0} cannot be at home at its own public name, which may lead to this tracker")]
    HomeIsPublic(SiteName),
}

impl TrackerConfig {
    /// Checks what the types do not.
    ///
    /// # Errors
    /// [`ConfigError`], the first contradiction.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.http.is_empty() {
            return Err(ConfigError::NoAddress);
        }
        if self.https.is_empty() != (self.tls.is_none() && self.acme.is_none()) {
            return Err(ConfigError::HalfTls);
        }
        if self.operator.is_some() && self.state.is_none() {
            return Err(ConfigError::OperatorWithoutState);
        }
        if let Some(acme) = &self.acme {
            acme.check(self.state.is_some())?;
        }
        let announce = &self.announce;
        let order = |shorter, longer, ok| match ok {
            true => Ok(()),
            false => Err(ConfigError::Order { shorter, longer }),
        };
        order(
            "interval",
            "peer_age",
            announce.interval < announce.peer_age,
        )?;
        order(
            "bridge_interval",
            "bridge_age",
            announce.bridge_interval < announce.bridge_age,
        )?;
        for (key, value) in [
            ("announce.peers_max", announce.peers_max),
            (
                "announce.per_address_rate",
                announce.per_address_rate as usize,
            ),
            ("udp_sockets", self.udp_sockets),
            ("volunteers.calls_max", self.volunteers.calls_max),
            ("volunteers.audits_max", self.volunteers.audits_max),
            (
                "volunteers.audit_rate",
                usize::try_from(self.volunteers.audit_rate).unwrap_or(usize::MAX),
            ),
            ("connections.max", self.connections.max),
            (
                "connections.per_address_max",
                self.connections.per_address_max,
            ),
        ] {
            if value == 0 {
                return Err(ConfigError::Zero(key));
            }
        }
        for (key, value) in [
            ("announce.interval", announce.interval),
            ("announce.bridge_interval", announce.bridge_interval),
            ("volunteers.call_interval", self.volunteers.call_interval),
            ("volunteers.call_timeout", self.volunteers.call_timeout),
            ("volunteers.audit_timeout", self.volunteers.audit_timeout),
            ("connections.head_timeout", self.connections.head_timeout),
            ("connections.body_timeout", self.connections.body_timeout),
            ("connections.write_timeout", self.connections.write_timeout),
            (
                "connections.websocket_idle",
                self.connections.websocket_idle,
            ),
        ] {
            if value.is_zero() {
                return Err(ConfigError::Zero(key));
            }
        }
        match self.homes.iter().find(|(site, home)| home.site() == *site) {
            Some((site, _)) => Err(ConfigError::HomeIsPublic(site.clone())),
            None => Ok(()),
        }
    }
}

/// Writes a duration so that [`parse_duration`] reads it back.
pub fn show_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    if !millis.is_multiple_of(1000) {
        return format!("{millis}ms");
    }
    match duration.as_secs() {
        0 => "0s".to_owned(),
        secs if secs.is_multiple_of(3600) => format!("{}h", secs / 3600),
        secs if secs.is_multiple_of(60) => format!("{}m", secs / 60),
        secs => format!("{secs}s"),
    }
}

mod duration {
    use std::time::Duration;

    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&super::show_duration(*value))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(from)?;
        super::parse_duration(&text).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use swarm_proto::manifest::SecretKey;

    use super::*;

    fn files() -> TlsConfig {
        TlsConfig {
            certificate: "/etc/cert.pem".into(),
            key: "/etc/key.pem".into(),
        }
    }

    #[test]
    fn the_default_survives_a_round_trip() {
        let mut config = TrackerConfig::default();
        assert_eq!(config.check(), Ok(()));
        for _ in 0..2 {
            let text = toml::to_string(&config).expect("writable");
            assert_eq!(toml::from_str::<TrackerConfig>(&text).as_ref(), Ok(&config));
            config.site_keys.insert(
                SiteName::parse("example.org:8080").expect("a site"),
                SecretKey::new([1; 32]).public(),
            );
            config.homes.insert(
                SiteName::parse("example.org:8080").expect("a site"),
                "https://origin.example.org:8443".parse().expect("a home"),
            );
            config.trusted_proxies = vec!["10.0.0.0/8".parse().expect("a network")];
            config.state = Some("/var/lib/swarm-tracker".into());
            config.udp = Some(Vec::new());
            config.https.clone_from(&config.http);
            config.tls = Some(files());
            config.acme = Some(AcmeConfig {
                names: vec!["tracker.example.org".parse().expect("a name")],
                challenge: Some(ChallengeKind::TlsAlpn01),
                ..AcmeConfig::default()
            });
            config.drain = Duration::from_millis(1500);
        }
    }

    #[test]
    fn misspelt_keys_and_bad_values_are_refused() {
        for text in [
            "htpp = []",
            "[announce]\nintervall = '2m'",
            "[connections]\nmax = -1",
            "drain = 10",
            "drain = '10 parsecs'",
            "drain = '-1s'",
            "drain = '99999999999999999999s'",
            "http = ['localhost']",
            "[site_keys]\n'a b' = '00'",
            "[site_keys]\n'example.org' = '00'",
            "[homes]\n'example.org' = 'example.org'",
            "trusted_proxies = ['10.0.0.1']",
            "trusted_proxies = ['10.0.0.0/33']",
        ] {
            assert!(toml::from_str::<TrackerConfig>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn contradictions_are_named() {
        let check = |change: fn(&mut TrackerConfig)| {
            let mut config = TrackerConfig::default();
            change(&mut config);
            config.check().map_err(|error| error.to_string())
        };
        let refused = |text: &str| Err(text.to_owned());
        assert_eq!(
            check(|c| c.http.clear()),
            refused("http: no address to listen on")
        );
        let half = refused("https needs tls or acme, and each of them needs https");
        assert_eq!(check(|c| c.https.clone_from(&c.http)), half);
        assert_eq!(check(|c| c.tls = Some(files())), half);
        assert_eq!(check(|c| c.acme = Some(AcmeConfig::default())), half);
        assert_eq!(
            check(|c| c.announce.peer_age = Duration::from_secs(60)),
            refused("announce.interval must be shorter than announce.peer_age")
        );
        assert_eq!(
            check(|c| c.udp_sockets = 0),
            refused("udp_sockets must not be 0")
        );
        assert_eq!(
            check(|c| c.connections.max = 0),
            refused("connections.max must not be 0")
        );
        let at_home = check(|c| {
            let site = SiteName::parse("example.org").expect("a site");
            let home = "http://EXAMPLE.org:80/".parse().expect("a home");
            c.homes.insert(site, home);
        });
        assert!(at_home.is_err_and(|why| why.contains("example.org cannot be at home")));
    }

    #[test]
    fn a_home_is_scheme_host_and_port() {
        for (text, base) in [
            ("https://origin.example.org", "https://origin.example.org"),
            (
                "https://Origin.example.org:443/",
                "https://origin.example.org",
            ),
            ("http://[::1]:8080", "http://[::1]:8080"),
        ] {
            let home: HomeUrl = text.parse().expect(text);
            assert_eq!(home.base(), base);
            assert_eq!(home.to_string().parse(), Ok(home));
        }
        for text in [
            "",
            "origin.example.org",
            "//origin.example.org",
            "ftp://origin.example.org",
            "javascript:alert(1)",
            "https://",
            "https://user@origin.example.org",
            "https://:secret@origin.example.org",
            "https://origin.example.org/base",
            "https://origin.example.org/?x",
            "https://origin.example.org/#x",
        ] {
            assert!(text.parse::<HomeUrl>().is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_read_as_written() {
        for (text, expected) in [
            ("250ms", Duration::from_millis(250)),
            ("30s", Duration::from_secs(30)),
            ("30", Duration::from_secs(30)),
            (" 2 min ", Duration::from_secs(120)),
            ("24h", Duration::from_secs(86_400)),
            ("1d", Duration::from_secs(86_400)),
        ] {
            assert_eq!(parse_duration(text), Ok(expected));
            assert_eq!(parse_duration(&show_duration(expected)), Ok(expected));
        }
        for text in ["", "s", "1.5s", "1x", "-1s", "999999999999999999h"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
