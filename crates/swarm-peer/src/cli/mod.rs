//! Flags, environment and file become a configuration; outcomes become exit codes.
//!
//! Priority: flag, then environment, then file, then default. Exit codes: 0 fine, 1 failure,
//! 2 wrong usage, 3 not found or no peers, 4 integrity, 5 timeout, 69 address not available,
//! 78 bad configuration.

mod control;
mod fetch;
mod fetch_site;
mod inspect;
mod output;
mod progress;
mod publish;
mod seed;
mod select;
mod status;
mod units;
mod until;
mod verify;
mod wait;

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use swarm_peer::config::{PeerConfig, parse_duration, parse_site_key};
use swarm_peer::connector::IpNet;
use swarm_peer::control::Control;
use swarm_peer::discovery::DhtMode;
use swarm_peer::uplink::parse_rate;
use swarm_peer::{Node, NodeError, Transport};
use swarm_proto::manifest::{PublicKey, SiteName};
use tokio_util::sync::CancellationToken;

pub(crate) use output::Output;

/// Publishes, seeds and fetches bundles: real torrents, and sites signed by their owners.
#[derive(Debug, Parser)]
#[command(name = "swarm-peer", version, max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 ok, 1 failure, 2 usage, 3 not found or no peers, 4 integrity, 5 timeout, 69 unavailable, 78 bad configuration"
)]
struct Cli {
    /// Configuration file (TOML); unknown keys are refused.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "SWARM_PEER_CONFIG",
        hide_env_values = true
    )]
    config: Option<PathBuf>,
    /// Less in the log; twice for errors only.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    quiet: u8,
    /// More in the log; RUST_LOG, where set, decides instead.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Publish(publish::PublishArgs),
    /// Serve a published folder, or the files of a torrent.
    Seed(seed::SeedArgs),
    /// Fetch a torrent, a magnet link, or a whole site by its record.
    Fetch(fetch::FetchArgs),
    /// Show what running peers do.
    Status(status::StatusArgs),
    /// Change the limits of a running peer.
    Limit(control::LimitArgs),
    /// Stop a running peer in good order.
    Stop(control::TargetArgs),
    Inspect(inspect::InspectArgs),
    Verify(verify::VerifyArgs),
    /// Check or show the configuration.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Print the manual page, in roff, of the program or of one of its verbs.
    Man {
        /// Which verb.
        verb: Option<String>,
    },
    /// Print completions for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Exit 0 if the file is good, 78 with the place if not.
    Check {
        /// The file; --config or the defaults if left out.
        file: Option<PathBuf>,
    },
    /// Print what would be in force, as TOML.
    Show(Box<NodeArgs>),
}

/// Flags of everything that joins swarms.
#[derive(Debug, Args, Default, Clone)]
pub(crate) struct NodeArgs {
    /// Where other peers may call. Port 0: any free port.
    #[arg(long, value_name = "ADDR", env = "SWARM_PEER_LISTEN")]
    listen: Option<SocketAddr>,
    /// Whether peers are met by uTP besides TCP: on, off, or only.
    #[arg(long, value_name = "on|off|only", env = "SWARM_PEER_UTP")]
    utp: Option<Transport>,
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
    tracker: Vec<String>,
    /// What may be sent, as 20Mbit or 2.5MB/s.
    #[arg(
        long,
        visible_alias = "up",
        value_name = "RATE",
        env = "SWARM_PEER_UPLOAD",
        value_parser = parse_rate
    )]
    upload: Option<u64>,
    /// What may be received.
    #[arg(
        long,
        visible_alias = "down",
        value_name = "RATE",
        env = "SWARM_PEER_DOWNLOAD",
        value_parser = parse_rate
    )]
    download: Option<u64>,
    /// What each bundle may send.
    #[arg(
        long,
        visible_alias = "bundle-up",
        value_name = "RATE",
        env = "SWARM_PEER_BUNDLE_UPLOAD",
        value_parser = parse_rate
    )]
    bundle_upload: Option<u64>,
    /// What each bundle may receive.
    #[arg(
        long,
        visible_alias = "bundle-down",
        value_name = "RATE",
        env = "SWARM_PEER_BUNDLE_DOWNLOAD",
        value_parser = parse_rate
    )]
    bundle_download: Option<u64>,
    /// A private network that trackers and sites may send us to; may be given more than once.
    #[arg(
        long,
        value_name = "CIDR",
        env = "SWARM_PEER_ALLOW_NET",
        value_delimiter = ','
    )]
    allow_net: Vec<IpNet>,
    /// Take part in the DHT: on, off, or client (asks and answers nobody).
    #[arg(long, value_name = "on|off|client", env = "SWARM_PEER_DHT")]
    dht: Option<DhtMode>,
    /// A node to enter the DHT by; may be given more than once.
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "SWARM_PEER_DHT_BOOTSTRAP",
        value_delimiter = ','
    )]
    dht_bootstrap: Vec<String>,
    /// Neither tell peers of peers nor be told.
    #[arg(long, env = "SWARM_PEER_NO_PEX")]
    no_pex: bool,
    /// Look for peers on the local network by multicast.
    #[arg(long, env = "SWARM_PEER_LSD")]
    lsd: bool,
    /// Announce to no tracker over UDP.
    #[arg(long, env = "SWARM_PEER_NO_UDP_TRACKERS")]
    no_udp_trackers: bool,
    /// Where sites' keys and what was verified are kept.
    #[arg(long, value_name = "DIR", env = "SWARM_PEER_STATE")]
    state: Option<PathBuf>,
    /// The control socket, which `status`, `limit` and `stop` ask.
    #[arg(long, value_name = "PATH", env = "SWARM_PEER_CONTROL")]
    control: Option<PathBuf>,
    /// A site's root key, so that it need not be learnt from the site; may be given more than once.
    #[arg(
        long,
        value_name = "HOST=KEY",
        env = "SWARM_PEER_SITE_KEY",
        value_delimiter = ',',
        value_parser = parse_site_key
    )]
    site_key: Vec<(SiteName, PublicKey)>,
    /// Longest time to say goodbye after the signal to stop.
    #[arg(long, value_name = "TIME", env = "SWARM_PEER_DRAIN", value_parser = parse_duration)]
    drain: Option<Duration>,
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

pub(crate) const EXIT_FAILURE: u8 = 1;
pub(crate) const EXIT_USAGE: u8 = 2;
pub(crate) const EXIT_NOT_FOUND: u8 = 3;
pub(crate) const EXIT_INTEGRITY: u8 = 4;
pub(crate) const EXIT_TIMEOUT: u8 = 5;
pub(crate) const EXIT_UNAVAILABLE: u8 = 69;
pub(crate) const EXIT_CONFIG: u8 = 78;

/// Why the program ends otherwise than well.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    error: anyhow::Error,
}

impl Failure {
    /// With this exit code.
    pub(crate) fn new(code: u8, error: impl Into<anyhow::Error>) -> Self {
        Self {
            code,
            error: error.into(),
        }
    }

    /// With this exit code and these words.
    pub(crate) fn text(code: u8, text: impl Into<String>) -> Self {
        Self::new(code, anyhow::Error::msg(text.into()))
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::new(EXIT_FAILURE, error)
    }
}

impl From<NodeError> for Failure {
    fn from(error: NodeError) -> Self {
        let code = match &error {
            NodeError::Listen { .. } => EXIT_UNAVAILABLE,
            _ => EXIT_FAILURE,
        };
        Self::new(code, error)
    }
}

/// Runs the program.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    output::log(cli.quiet, cli.verbose);
    match perform(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let line = one_line(&failure.error);
            // Nothing is left to be done where even standard error is closed.
            let _ = writeln!(io::stderr(), "swarm-peer: {line}");
            ExitCode::from(failure.code)
        }
    }
}

/// The chain of an error as one line. Our enums may name their source themselves, so a level that
/// the one above ends with is not repeated.
fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for level in error.chain() {
        let text = level.to_string();
        if line.ends_with(&text) {
            continue;
        }
        if !line.is_empty() {
            line.push_str(": ");
        }
        line.push_str(&text);
    }
    let words: Vec<&str> = line.split_whitespace().collect();
    words.join(" ")
}

fn perform(cli: Cli) -> Result<(), Failure> {
    let file = cli.config.as_deref();
    match cli.command {
        Command::Publish(args) => publish::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Verify(args) => {
            let named = NodeArgs {
                state: args.state.clone(),
                ..NodeArgs::default()
            };
            verify::run(&configure(file, &named)?, &args)
        }
        Command::Man { verb } => man(verb.as_deref()),
        Command::Seed(args) => seed::seed(configure(file, &args.node)?, args),
        Command::Fetch(args) => fetch::fetch(configure(file, &args.node)?, args),
        Command::Status(args) => status::status(&configure(file, &args.target.node())?, &args),
        Command::Limit(args) => control::limit(&configure(file, &args.target.node())?, &args),
        Command::Stop(args) => control::stop(&configure(file, &args.node())?),
        Command::Config { command } => match command {
            ConfigCommand::Check { file: named } => {
                configure(named.as_deref().or(file), &NodeArgs::default())?;
                Ok(())
            }
            ConfigCommand::Show(args) => {
                let config = configure(file, &args)?;
                let text = toml::to_string(&config).context("configuration cannot be shown")?;
                print(&text)
            }
        },
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "swarm-peer", &mut script);
            print(&String::from_utf8_lossy(&script))
        }
    }
}

/// Prints a manual page: `swarm-peer man fetch | man -l -`.
fn man(verb: Option<&str>) -> Result<(), Failure> {
    let mut command = Cli::command();
    command.build();
    let page = match verb {
        None => command,
        Some(verb) => {
            let found = command.find_subcommand(verb).cloned();
            found.ok_or_else(|| Failure::text(EXIT_USAGE, format!("no verb {verb}")))?
        }
    };
    let mut text = Vec::new();
    let title = verb.map_or("swarm-peer".into(), |verb| format!("swarm-peer-{verb}"));
    clap_mangen::Man::new(page)
        .title(title)
        .render(&mut text)
        .context("manual page")?;
    print(&String::from_utf8_lossy(&text))
}

/// Prints, and is content if nobody wants to read on.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(anyhow::Error::from(error).context("standard output").into())
        }
        _ => Ok(()),
    }
}

fn configure(file: Option<&Path>, args: &NodeArgs) -> Result<PeerConfig, Failure> {
    let found = file.map(Path::to_owned).or_else(default_config);
    let mut config = match &found {
        None => PeerConfig::default(),
        Some(path) => read_config(path).map_err(|error| Failure::new(EXIT_CONFIG, error))?,
    };
    config.listen = args.listen.unwrap_or(config.listen);
    config.utp = args.utp.unwrap_or(config.utp);
    config.upload = args.upload.or(config.upload);
    config.download = args.download.or(config.download);
    config.bundle_upload = args.bundle_upload.or(config.bundle_upload);
    config.bundle_download = args.bundle_download.or(config.bundle_download);
    config.dht = args.dht.unwrap_or(config.dht);
    config
        .dht_bootstrap
        .extend(args.dht_bootstrap.iter().cloned());
    config.pex &= !args.no_pex;
    config.lsd |= args.lsd;
    config.udp_trackers &= !args.no_udp_trackers;
    config.allow_net.extend(&args.allow_net);
    config.trackers.extend(args.tracker.iter().cloned());
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

/// A node that runs until a signal, with what every command does about it.
pub(crate) struct Running {
    pub(crate) node: Node,
    pub(crate) shutdown: CancellationToken,
    _control: Option<Control>,
    drain: Duration,
}

impl Running {
    /// Starts the node, says where it listens, and minds signals: the first stops it in good
    /// order, the second at once.
    pub(crate) async fn start(config: &PeerConfig, output: &Output) -> Result<Self, Failure> {
        let shutdown = CancellationToken::new();
        let node = Node::start(config.node(), shutdown.clone()).await?;
        let addr = node.listen_addr();
        output.event("listening", serde_json::json!({ "peer": addr.to_string() }));
        tracing::info!(peer = %addr, "listening");
        let control = control::open(config, &node, &shutdown)?;
        mind_signals(shutdown.clone())?;
        Ok(Self {
            node,
            shutdown,
            _control: control,
            drain: config.drain,
        })
    }

    /// Ends in good order: trackers are told, states saved.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        if tokio::time::timeout(self.drain, self.node.join())
            .await
            .is_err()
        {
            tracing::warn!("not everything could be finished in time");
        }
    }
}

fn mind_signals(shutdown: CancellationToken) -> Result<(), Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for signals")?;
    tokio::spawn(async move {
        for nth in 0.. {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if nth > 0 {
                std::process::exit(i32::from(EXIT_FAILURE));
            }
            tracing::info!("stopping, a second signal stops at once");
            shutdown.cancel();
        }
    });
    Ok(())
}

/// The runtime of a command.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start threads")
        .map_err(Failure::from)
}

#[cfg(test)]
mod tests;
