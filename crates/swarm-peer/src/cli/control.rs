//! The control socket: where it is, and the verbs that only tell the peer behind it something.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use swarm_peer::Node;
use swarm_peer::config::PeerConfig;
use swarm_peer::control::{Added, AskError, Control, Request, ask};
use swarm_peer::pick::Pick;
use swarm_peer::uplink::parse_rate;
use tokio_util::sync::CancellationToken;

use super::{EXIT_FAILURE, EXIT_NOT_FOUND, EXIT_UNAVAILABLE, EXIT_USAGE, Failure, NodeArgs};

/// Which running peer is meant.
#[derive(Debug, Args, Clone)]
pub(super) struct TargetArgs {
    /// The peer's control socket; all below the state directory if left out.
    #[arg(long, value_name = "PATH", env = "SWARM_PEER_CONTROL")]
    control: Option<PathBuf>,
    /// Where the running peers keep their state.
    #[arg(long, value_name = "DIR", env = "SWARM_PEER_STATE")]
    state: Option<PathBuf>,
}

impl TargetArgs {
    pub(super) fn node(&self) -> NodeArgs {
        NodeArgs {
            control: self.control.clone(),
            state: self.state.clone(),
            ..NodeArgs::default()
        }
    }
}

/// Flags of `limit`.
#[derive(Debug, Args)]
pub(super) struct LimitArgs {
    /// Of this bundle only: its info hash, or the first digits of it. Else of all together.
    #[arg(long, value_name = "HASH")]
    bundle: Option<String>,
    /// What may be sent, as 20Mbit or 2.5MB/s, or `unlimited`.
    #[arg(long, visible_alias = "up", value_name = "RATE", value_parser = rate)]
    upload: Option<String>,
    /// What may be received.
    #[arg(long, visible_alias = "down", value_name = "RATE", value_parser = rate)]
    download: Option<String>,
    #[command(flatten)]
    pub(super) target: TargetArgs,
}

/// Flags of `pause` and `resume`.
#[derive(Debug, Args)]
pub(super) struct BundleArgs {
    /// Only this bundle: its info hash, or the first digits of it.
    #[arg(value_name = "HASH")]
    bundle: Option<String>,
    #[command(flatten)]
    pub(super) target: TargetArgs,
}

/// Flags of `remove`.
#[derive(Debug, Args)]
pub(super) struct RemoveArgs {
    /// Its info hash, or the first digits of it.
    #[arg(value_name = "HASH")]
    bundle: String,
    #[command(flatten)]
    pub(super) target: TargetArgs,
}

/// Flags of `add`.
#[derive(Debug, Args)]
pub(super) struct AddArgs {
    /// A torrent, or a magnet link.
    what: String,
    /// The directory that holds the torrent's top-level name.
    #[arg(long, value_name = "DIR", env = "SWARM_PEER_OUT")]
    out: PathBuf,
    /// A peer to call; may be given more than once.
    #[arg(long, value_name = "ADDR", value_delimiter = ',')]
    peer: Vec<SocketAddr>,
    /// A tracker besides those that it names; may be given more than once.
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    tracker: Vec<String>,
    /// Only the files of this name, path, pattern (`*.jpg`, `img/**`) or number, as of `fetch`; may
    /// be given more than once.
    #[arg(long, value_name = "GLOB|INDEX")]
    file: Vec<Pick>,
    /// Fetch in order, as of `fetch`.
    #[arg(long)]
    sequential: bool,
    /// Have it rest until `resume`, once what is there is checked.
    #[arg(long)]
    paused: bool,
    #[command(flatten)]
    pub(super) target: TargetArgs,
}

fn rate(text: &str) -> Result<String, String> {
    match text {
        "unlimited" => Ok(text.to_owned()),
        text => parse_rate(text)
            .map(|_| text.to_owned())
            .map_err(|error| format!("{error}, or `unlimited`")),
    }
}

fn run_dir(state: &Path) -> PathBuf {
    state.join("run")
}

/// Opens this process's socket. One that was not asked for by name may fail: the peer works as
/// well without.
pub(super) fn open(
    config: &PeerConfig,
    node: &Node,
    shutdown: &CancellationToken,
) -> Result<Option<Control>, Failure> {
    let open = |path: &Path| Control::open(path, node.clone(), shutdown.clone());
    if let Some(path) = &config.control {
        return match open(path) {
            Ok(control) => Ok(Some(control)),
            Err(error) => Err(Failure::new(EXIT_UNAVAILABLE, error)),
        };
    }
    let Some(state) = config.state_dir() else {
        return Ok(None);
    };
    let name = format!("peer-{}.sock", std::process::id());
    match open(&run_dir(&state).join(name)) {
        Ok(control) => Ok(Some(control)),
        Err(error) => {
            tracing::info!("{error}");
            Ok(None)
        }
    }
}

/// The sockets that may be meant.
pub(super) fn sockets(config: &PeerConfig) -> Vec<PathBuf> {
    if let Some(path) = &config.control {
        return vec![path.clone()];
    }
    let dir = config.state_dir().map(|state| run_dir(&state));
    let entries = dir.and_then(|dir| std::fs::read_dir(dir).ok());
    let mut found: Vec<PathBuf> = entries
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "sock"))
        .collect();
    found.sort();
    found
}

pub(super) fn no_peer() -> Failure {
    Failure::text(EXIT_NOT_FOUND, "no peer is running here")
}

/// The one peer that is meant.
fn the_one(config: &PeerConfig) -> Result<PathBuf, Failure> {
    let answers = |path: &PathBuf| ask(path, &Request::Status { peers: false }).is_ok();
    let mut alive: Vec<PathBuf> = sockets(config).into_iter().filter(answers).collect();
    match (alive.pop(), alive.is_empty()) {
        (None, _) => Err(no_peer()),
        (Some(one), true) => Ok(one),
        (Some(_), false) => Err(Failure::text(
            EXIT_USAGE,
            "several peers are running: say which by --control PATH (status names them)",
        )),
    }
}

fn told(path: &Path, request: &Request) -> Result<(), Failure> {
    match ask(path, request) {
        Ok(_) => Ok(()),
        Err(AskError::Nobody) => Err(no_peer()),
        Err(error) => Err(Failure::new(EXIT_FAILURE, error)),
    }
}

pub(super) fn limit(config: &PeerConfig, args: &LimitArgs) -> Result<(), Failure> {
    if args.upload.is_none() && args.download.is_none() {
        let text = "nothing to change: give --upload or --download";
        return Err(Failure::text(EXIT_USAGE, text));
    }
    let request = Request::Limit {
        bundle: args.bundle.clone(),
        upload: args.upload.clone(),
        download: args.download.clone(),
    };
    told(&the_one(config)?, &request)
}

pub(super) fn pause(config: &PeerConfig, args: &BundleArgs) -> Result<(), Failure> {
    let bundle = args.bundle.clone();
    told(&the_one(config)?, &Request::Pause { bundle })
}

pub(super) fn resume(config: &PeerConfig, args: &BundleArgs) -> Result<(), Failure> {
    let bundle = args.bundle.clone();
    told(&the_one(config)?, &Request::Resume { bundle })
}

pub(super) fn remove(config: &PeerConfig, args: &RemoveArgs) -> Result<(), Failure> {
    let bundle = args.bundle.clone();
    told(&the_one(config)?, &Request::Remove { bundle })
}

pub(super) fn add(config: &PeerConfig, args: &AddArgs) -> Result<(), Failure> {
    // The running peer has a directory of its own.
    let absolute =
        |path: &Path| std::path::absolute(path).map_err(|error| Failure::new(EXIT_USAGE, error));
    let what = match args.what.starts_with("magnet:") {
        true => args.what.clone(),
        false => absolute(Path::new(&args.what))?
            .to_string_lossy()
            .into_owned(),
    };
    let trackers = args.tracker.iter().chain(&config.trackers);
    let added = Added {
        what,
        out: absolute(&args.out)?,
        trackers: trackers.cloned().collect(),
        peers: args.peer.clone(),
        files: args.file.iter().map(ToString::to_string).collect(),
        sequential: args.sequential,
        paused: args.paused,
    };
    told(&the_one(config)?, &Request::Add(added))
}

pub(super) fn stop(config: &PeerConfig) -> Result<(), Failure> {
    told(&the_one(config)?, &Request::Stop)
}
