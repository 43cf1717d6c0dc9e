//! Configuration as a file spells it. Flags and environment go over it; see the binary's `--help`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use swarm_peer::connector::IpNet;
use swarm_peer::uplink::parse_rate;
use url::Url;

use crate::gate::{GateConfig, UpstreamConfig};
use crate::overload::OverloadConfig;
use crate::serve::Bounds;
use webseed_bridge::duration;

/// The ports that the embedded parts take beside the gate's own, unless told otherwise.
const TRACKER_PORT: u16 = 6969;
const PEER_PORT: u16 = 51413;
const BRIDGE_PORT: u16 = 8081;

/// Everything about one gate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The site's own server, `http://HOST:PORT`. No default.
    pub origin: String,
    /// The folder that the origin serves; without one nothing can be carried by others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<PathBuf>,
    /// Where visitors are answered.
    pub listen: SocketAddr,
    /// The site's address as visitors see it; empty: `http://` and the listening address.
    pub site: String,
    /// What the site's line carries, such as `10Mbit`. Empty: what `upload` says, or 100Mbit.
    pub plan_rate: String,
    /// What may be sent in all, such as `10Mbit`; empty: no limit of ours.
    pub upload: String,
    /// `embedded`, or the announce URL of another tracker.
    pub tracker: String,
    /// Where the embedded tracker answers. Default: port 6969 beside `listen`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tracker_listen: Option<SocketAddr>,
    /// Where the seed speaks BitTorrent. Default: port 51413 beside `listen`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_listen: Option<SocketAddr>,
    /// Where the embedded bridge answers, or `off`. Default: port 8081 beside `listen`.
    pub bridge_listen: String,
    /// What follows a site's label in the embedded bridge's hosts.
    pub bridge_domain: String,
    /// Where keys, torrents and compressed variants are kept. Default:
    /// `$XDG_STATE_HOME/spike-gate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<PathBuf>,
    /// Only log what would be diverted.
    pub shadow: bool,
    /// Whether rewritten pages carry the invitation.
    pub banner: bool,
    /// Path prefixes whose files stay home.
    pub keep: Vec<String>,
    /// Share of `upload` that is the seed's in warming, as far as it needs it, 0 to below 1.
    pub seed_share: f64,
    /// How long a request for something large waits, on a full line, for its turn or a bridge.
    #[serde(with = "duration")]
    pub patience: Duration,
    /// How long one alarm holds; renewed at half of it, an hour at most.
    #[serde(with = "duration")]
    pub alarm_for: Duration,
    /// Private networks that strangers' addresses may lie in.
    pub allow_net: Vec<String>,
    /// When a spike begins and ends.
    pub overload: OverloadConfig,
    /// Patience with the origin.
    pub proxy: ProxySettings,
    /// Bounds of the listener.
    pub http: HttpSettings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            origin: String::new(),
            root: None,
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8000)),
            site: String::new(),
            plan_rate: String::new(),
            upload: String::new(),
            tracker: "embedded".into(),
            tracker_listen: None,
            peer_listen: None,
            bridge_listen: String::new(),
            bridge_domain: "localhost".into(),
            state: None,
            shadow: false,
            banner: true,
            keep: Vec::new(),
            seed_share: 0.5,
            patience: Duration::from_secs(8),
            alarm_for: Duration::from_secs(600),
            allow_net: Vec::new(),
            overload: OverloadConfig::default(),
            proxy: ProxySettings::default(),
            http: HttpSettings::default(),
        }
    }
}

/// `[proxy]`: patience with the origin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProxySettings {
    /// To a connection. Default 5 s.
    #[serde(with = "duration")]
    pub connect_timeout: Duration,
    /// To the head of an answer. Default 60 s.
    #[serde(with = "duration")]
    pub head_timeout: Duration,
    /// Between two parts of a body, in either direction. Default 60 s.
    #[serde(with = "duration")]
    pub idle_timeout: Duration,
    /// Idle connections kept. Default 64.
    pub idle_max: usize,
    /// Believe `X-Forwarded-…` of whoever connects: another proxy stands before the gate.
    pub trust_forwarded: bool,
}

impl Default for ProxySettings {
    fn default() -> Self {
        let UpstreamConfig {
            connect_timeout,
            head_timeout,
            idle_timeout,
            idle_max,
            trust_forwarded,
        } = UpstreamConfig::default();
        Self {
            connect_timeout,
            head_timeout,
            idle_timeout,
            idle_max,
            trust_forwarded,
        }
    }
}

/// `[http]`: bounds of the listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpSettings {
    /// Connections open at once. Default 8192; each takes some 30 KiB.
    pub connections_max: usize,
    /// To a complete request head; also how long a connection may idle. Default 10 s.
    #[serde(with = "duration")]
    pub head_timeout: Duration,
    /// How long a visitor may hold up writing. Default 60 s.
    #[serde(with = "duration")]
    pub write_timeout: Duration,
    /// How long answers under way may take at shutdown. Default 10 s.
    #[serde(with = "duration")]
    pub drain: Duration,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            connections_max: 8192,
            head_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(60),
            drain: Duration::from_secs(10),
        }
    }
}

/// Settings that were found good.
#[derive(Debug, Clone)]
pub struct Plan {
    /// For [`crate::Gate::start`].
    pub gate: GateConfig,
    /// What may be sent in all, bits per second.
    pub upload: Option<u64>,
    /// The announce URL of another tracker; `None`: embedded.
    pub tracker: Option<String>,
    /// Where the embedded tracker answers.
    pub tracker_listen: SocketAddr,
    /// Where the seed speaks BitTorrent.
    pub peer_listen: SocketAddr,
    /// Where the embedded bridge answers.
    pub bridge_listen: Option<SocketAddr>,
    /// What follows a site's label in the embedded bridge's hosts.
    pub bridge_domain: String,
    /// Private networks that strangers' addresses may lie in.
    pub allow_net: Vec<IpNet>,
}

impl Settings {
    /// Checks all of it and fills in what follows from something else.
    ///
    /// # Errors
    /// One line that names the key.
    pub fn plan(&self) -> Result<Plan, String> {
        let rate = |key: &str, text: &str| {
            let parsed = (!text.is_empty()).then(|| parse_rate(text)).transpose();
            parsed.map_err(|error| format!("{key}: {error}"))
        };
        let url = |key: &str, text: &str| {
            let parsed = Url::parse(text).map_err(|error| format!("{key}: {text:?}: {error}"))?;
            match parsed.scheme() {
                "http" | "https" if parsed.has_host() => Ok(parsed),
                _ => Err(format!("{key}: {text:?} is no http or https URL")),
            }
        };
        if self.origin.is_empty() {
            return Err("origin: the site's own server must be named".into());
        }
        let upload = rate("upload", &self.upload)?;
        let plan_rate = rate("plan_rate", &self.plan_rate)?
            .or(upload)
            .unwrap_or(100_000_000);
        let state = match &self.state {
            Some(state) => state.clone(),
            None => default_state().ok_or("state: no home directory; name one")?,
        };
        let beside = |port| SocketAddr::new(self.listen.ip(), port);
        let bridge_listen = match self.bridge_listen.as_str() {
            "off" => None,
            "" => Some(beside(BRIDGE_PORT)),
            addr => Some(
                addr.parse()
                    .map_err(|_| format!("bridge_listen: {addr:?} is no ADDR:PORT"))?,
            ),
        };
        let tracker = match self.tracker.as_str() {
            "embedded" | "" => None,
            text => Some(url("tracker", text)?.to_string()),
        };
        let mut gate = GateConfig::new(url("origin", &self.origin)?, state, plan_rate);
        gate.listen = self.listen;
        gate.site = (!self.site.is_empty())
            .then(|| site_url(&self.site, &url))
            .transpose()?;
        gate.root = self.root.clone();
        gate.shadow = self.shadow;
        gate.banner = self.banner;
        for prefix in &self.keep {
            if !prefix.starts_with('/') {
                return Err(format!("keep: {prefix:?} does not begin with a slash"));
            }
        }
        gate.keep = self.keep.clone();
        if !(0.0..1.0).contains(&self.seed_share) {
            return Err("seed_share must be at least 0 and below 1".into());
        }
        gate.seed_share = self.seed_share;
        if self.alarm_for < Duration::from_secs(10) || self.alarm_for > Duration::from_secs(3600) {
            return Err("alarm_for must be between 10s and 1h".into());
        }
        gate.alarm_for = self.alarm_for;
        gate.patience = self.patience;
        self.overload.check()?;
        gate.overload = self.overload.clone();
        gate.upstream = UpstreamConfig {
            connect_timeout: self.proxy.connect_timeout,
            head_timeout: self.proxy.head_timeout,
            idle_timeout: self.proxy.idle_timeout,
            idle_max: self.proxy.idle_max,
            trust_forwarded: self.proxy.trust_forwarded,
        };
        if self.http.connections_max == 0 {
            return Err("http.connections_max must be at least 1".into());
        }
        gate.bounds = Bounds {
            connections_max: self.http.connections_max,
            head_timeout: self.http.head_timeout,
            write_timeout: self.http.write_timeout,
            drain: self.http.drain,
        };
        let allow_net = self
            .allow_net
            .iter()
            .map(|net| net.parse().map_err(|error| format!("allow_net: {error}")));
        Ok(Plan {
            gate,
            upload,
            tracker,
            tracker_listen: self.tracker_listen.unwrap_or_else(|| beside(TRACKER_PORT)),
            peer_listen: self.peer_listen.unwrap_or_else(|| beside(PEER_PORT)),
            bridge_listen,
            bridge_domain: self.bridge_domain.clone(),
            allow_net: allow_net.collect::<Result<_, String>>()?,
        })
    }
}

/// The site's own address has no path.
fn site_url(text: &str, url: &impl Fn(&str, &str) -> Result<Url, String>) -> Result<Url, String> {
    let mut site = url("site", text)?;
    if site.path() != "/" || site.query().is_some() || site.fragment().is_some() {
        return Err(format!("site: {text:?}: a site is a host, without path"));
    }
    site.set_path("/");
    Ok(site)
}

fn default_state() -> Option<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/state")))?;
    Some(state.join("spike-gate"))
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
            "orgin = 'http://x'",
            "[overload]\nwarm_aftr = '1s'",
            "[proxy]\nidle = '1s'",
            "[http]\ndrian = '1s'",
            "[extra]",
            "alarm_for = 600",
        ] {
            assert!(toml::from_str::<Settings>(text).is_err(), "{text}");
        }
    }

    fn with(change: impl FnOnce(&mut Settings)) -> Result<Plan, String> {
        let mut settings = Settings {
            origin: "http://127.0.0.1:3000".into(),
            state: Some("/tmp/x".into()),
            ..Settings::default()
        };
        change(&mut settings);
        settings.plan()
    }

    #[test]
    fn what_follows_from_something_else_is_filled_in() {
        let plan = with(|_| {}).unwrap();
        assert_eq!(plan.tracker_listen.to_string(), "127.0.0.1:6969");
        assert_eq!(plan.bridge_listen.unwrap().to_string(), "127.0.0.1:8081");
        assert_eq!((plan.gate.plan_rate, plan.upload), (100_000_000, None));
        let plan = with(|s| s.upload = "8Mbit".into()).unwrap();
        assert_eq!(
            (plan.gate.plan_rate, plan.upload),
            (8_000_000, Some(8_000_000))
        );
        let plan = with(|s| s.bridge_listen = "off".into()).unwrap();
        assert_eq!(plan.bridge_listen, None);
        let plan = with(|s| s.site = "https://example.org".into()).unwrap();
        assert_eq!(plan.gate.site.unwrap().as_str(), "https://example.org/");
    }

    #[test]
    fn what_cannot_work_is_named() {
        type Change = fn(&mut Settings);
        let bad: [(Change, &str); 11] = [
            (|s| s.origin.clear(), "origin"),
            (|s| s.origin = "127.0.0.1:3000".into(), "origin"),
            (|s| s.origin = "ftp://x/".into(), "origin"),
            (|s| s.site = "http://x/path".into(), "site"),
            (|s| s.plan_rate = "fast".into(), "plan_rate"),
            (|s| s.upload = "0".into(), "upload"),
            (|s| s.tracker = "somewhere".into(), "tracker"),
            (|s| s.bridge_listen = "8081".into(), "bridge_listen"),
            (|s| s.keep = vec!["private".into()], "keep"),
            (|s| s.seed_share = 1.0, "seed_share"),
            (|s| s.overload.warm_at = 2.0, "overload.warm_at"),
        ];
        for (change, key) in bad {
            let error = with(change).unwrap_err();
            assert!(error.starts_with(key), "{key}: {error}");
        }
    }
}
