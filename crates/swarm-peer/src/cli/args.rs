//! Flags of everything that joins swarms, and what they make of the configuration.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use swarm_peer::Transport;
use swarm_peer::config::{PeerConfig, parse_duration, parse_site_key};
use swarm_peer::connector::IpNet;
use swarm_peer::discovery::DhtMode;
use swarm_peer::uplink::parse_rate;
use swarm_proto::download::SuperSeed;
use swarm_proto::manifest::{PublicKey, SiteName};

use super::{EXIT_CONFIG, Failure};

/// Flags of everything that joins swarms.
#[derive(Debug, Args, Default, Clone)]
pub(crate) struct NodeArgs {
    /// Where other peers may call [default: [::]:0, both families]. Port 0: any free port.
    #[arg(long, value_name = "ADDR", env = "SWARM_PEER_LISTEN")]
    pub(super) listen: Option<SocketAddr>,
    /// Whether peers are met by uTP besides TCP: on, off, or only.
    #[arg(long, value_name = "on|off|only", env = "SWARM_PEER_UTP")]
    pub(super) utp: Option<Transport>,
    /// Whether a lone seed shows its pieces one by one to clients of other kinds (BEP 16): auto,
    /// never, or always.
    #[arg(long, value_name = "auto|never|always", env = "SWARM_PEER_SUPER_SEED")]
    pub(super) super_seed: Option<SuperSeed>,
    /// A peer to call; may be given more than once.
    #[arg(
        long,
        value_name = "ADDR",
        env = "SWARM_PEER_PEER",
        value_delimiter = ','
    )]
    pub(crate) peer: Vec<SocketAddr>,
    /// A tracker to announce to, besides those the torrent names; may be given more than once.
    #[arg(
        long,
        value_name = "URL",
        env = "SWARM_PEER_TRACKER",
        value_delimiter = ','
    )]
    pub(super) tracker: Vec<String>,
    /// What may be sent, as 20Mbit or 2.5MB/s.
    #[arg(
        long,
        visible_alias = "up",
        value_name = "RATE",
        env = "SWARM_PEER_UPLOAD",
        value_parser = parse_rate
    )]
    pub(super) upload: Option<u64>,
    /// What may be received.
    #[arg(
        long,
        visible_alias = "down",
        value_name = "RATE",
        env = "SWARM_PEER_DOWNLOAD",
        value_parser = parse_rate
    )]
    pub(super) download: Option<u64>,
    /// What each bundle may send.
    #[arg(
        long,
        visible_alias = "bundle-up",
        value_name = "RATE",
        env = "SWARM_PEER_BUNDLE_UPLOAD",
        value_parser = parse_rate
    )]
    pub(super) bundle_upload: Option<u64>,
    /// What each bundle may receive.
    #[arg(
        long,
        visible_alias = "bundle-down",
        value_name = "RATE",
        env = "SWARM_PEER_BUNDLE_DOWNLOAD",
        value_parser = parse_rate
    )]
    pub(super) bundle_download: Option<u64>,
    /// Mebibytes for pieces not on the disk yet and for buffers of connections, all in all.
    #[arg(long, value_name = "MIB", env = "SWARM_PEER_MEMORY")]
    pub(super) memory: Option<u64>,
    /// A private network that trackers and sites may send us to; may be given more than once.
    #[arg(
        long,
        value_name = "CIDR",
        env = "SWARM_PEER_ALLOW_NET",
        value_delimiter = ','
    )]
    pub(super) allow_net: Vec<IpNet>,
    /// Take part in the DHT: on, off, or client (asks and answers nobody).
    #[arg(long, value_name = "on|off|client", env = "SWARM_PEER_DHT")]
    pub(super) dht: Option<DhtMode>,
    /// A node to enter the DHT by; may be given more than once.
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "SWARM_PEER_DHT_BOOTSTRAP",
        value_delimiter = ','
    )]
    pub(super) dht_bootstrap: Vec<String>,
    /// Neither tell peers of peers nor be told.
    #[arg(long, env = "SWARM_PEER_NO_PEX")]
    pub(super) no_pex: bool,
    /// Look for peers on the local network by multicast.
    #[arg(long, env = "SWARM_PEER_LSD")]
    pub(super) lsd: bool,
    /// Announce to no tracker over UDP.
    #[arg(long, env = "SWARM_PEER_NO_UDP_TRACKERS")]
    pub(super) no_udp_trackers: bool,
    /// Name server to ask whom sites let carry them [default: those of this machine].
    #[arg(long, value_name = "ADDR", env = "SWARM_PEER_DNS")]
    pub(super) dns: Option<SocketAddr>,
    /// Where sites' keys and what was verified are kept.
    #[arg(long, value_name = "DIR", env = "SWARM_PEER_STATE")]
    pub(super) state: Option<PathBuf>,
    /// The control socket, which `status`, `limit`, `add` and others ask.
    #[arg(long, value_name = "PATH", env = "SWARM_PEER_CONTROL")]
    pub(super) control: Option<PathBuf>,
    /// A site's root key, so that it need not be learnt from the site; may be given more than once.
    #[arg(
        long,
        value_name = "HOST=KEY",
        env = "SWARM_PEER_SITE_KEY",
        value_delimiter = ',',
        value_parser = parse_site_key
    )]
    pub(super) site_key: Vec<(SiteName, PublicKey)>,
    /// Longest time to say goodbye after the signal to stop.
    #[arg(long, value_name = "TIME", env = "SWARM_PEER_DRAIN", value_parser = parse_duration)]
    pub(super) drain: Option<Duration>,
    /// Print events as lines of JSON on standard output.
    #[arg(long, env = "SWARM_PEER_JSON")]
    pub(crate) json: bool,
}

impl NodeArgs {
    /// Whether it was said where to listen.
    pub(crate) fn listens(&self) -> bool {
        self.listen.is_some()
    }
}

/// What is in force: flag, then environment, then file, then default.
pub(super) fn configure(file: Option<&Path>, args: &NodeArgs) -> Result<PeerConfig, Failure> {
    let found = file.map(Path::to_owned).or_else(default_config);
    let mut config = match &found {
        None => PeerConfig::default(),
        Some(path) => read_config(path).map_err(|error| Failure::new(EXIT_CONFIG, error))?,
    };
    config.listen = args.listen.unwrap_or(config.listen);
    config.utp = args.utp.unwrap_or(config.utp);
    config.super_seed = args.super_seed.unwrap_or(config.super_seed);
    config.upload = args.upload.or(config.upload);
    config.download = args.download.or(config.download);
    config.bundle_upload = args.bundle_upload.or(config.bundle_upload);
    config.bundle_download = args.bundle_download.or(config.bundle_download);
    config.memory = args.memory.unwrap_or(config.memory);
    config.dht = args.dht.unwrap_or(config.dht);
    config
        .dht_bootstrap
        .extend(args.dht_bootstrap.iter().cloned());
    config.pex &= !args.no_pex;
    config.lsd |= args.lsd;
    config.udp_trackers &= !args.no_udp_trackers;
    config.allow_net.extend(&args.allow_net);
    config.trackers.extend(args.tracker.iter().cloned());
    config.dns = args.dns.or(config.dns);
    config.state = args.state.clone().or(config.state);
    config.control = args.control.clone().or(config.control);
    config.site_keys.extend(args.site_key.iter().cloned());
    config.drain = args.drain.unwrap_or(config.drain);
    config
        .check()
        .map_err(|error| Failure::new(EXIT_CONFIG, error))?;
    Ok(config)
}

/// `$XDG_CONFIG_HOME/spikeswarm/swarm-peer.toml` and its kin, the first that is there.
fn default_config() -> Option<PathBuf> {
    let home = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let own = home("XDG_CONFIG_HOME").or_else(|| Some(home("HOME")?.join(".config")));
    let places = own.into_iter().chain([PathBuf::from("/etc")]);
    places
        .map(|dir| dir.join("spikeswarm/swarm-peer.toml"))
        .find(|path| path.is_file())
}

fn read_config(path: &Path) -> anyhow::Result<PeerConfig> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("configuration {shown}"))?;
    toml::from_str(&text).map_err(|error| {
        let place = error.span().map_or(String::new(), |span| {
            let before = text.get(..span.start).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            let column = before.chars().rev().take_while(|&c| c != '\n').count() + 1;
            format!("line {line}, column {column}: ")
        });
        anyhow::anyhow!("configuration {shown}: {place}{}", error.message())
    })
}
