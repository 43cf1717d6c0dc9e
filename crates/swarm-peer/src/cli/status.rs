//! `status`, and the control socket it asks: a Unix socket that answers each caller with one line
//! of JSON.

use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use swarm_peer::config::PeerConfig;
use swarm_peer::{Node, SwarmHandle, SwarmState};
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

use super::output::rate;
use super::{EXIT_NOT_FOUND, Failure, NodeArgs, print};

/// Bytes taken of one answer.
const ANSWER_LEN_MAX: u64 = 16 * 1024 * 1024;
/// Time given to one caller, and to one peer asked.
const PATIENCE: Duration = Duration::from_secs(5);

/// Flags of `status`.
#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// Where the running peers keep their state.
    #[arg(long, value_name = "DIR", env = "SWARM_PEER_STATE")]
    state: Option<PathBuf>,
    /// One line of JSON a peer.
    #[arg(long, env = "SWARM_PEER_JSON")]
    json: bool,
}

impl StatusArgs {
    pub(super) fn node(&self) -> NodeArgs {
        NodeArgs {
            state: self.state.clone(),
            ..NodeArgs::default()
        }
    }
}

/// The control socket of this process; gone when dropped.
pub(crate) struct Control {
    path: PathBuf,
}

fn run_dir(state: &Path) -> PathBuf {
    state.join("run")
}

impl Control {
    /// Opens the socket. Without one the peer works as well, so failing is only logged.
    pub(crate) fn open(state: &Path, node: Node, shutdown: &CancellationToken) -> Option<Self> {
        let dir = run_dir(state);
        let path = dir.join(format!("peer-{}.sock", std::process::id()));
        let opened = std::fs::create_dir_all(&dir).and_then(|()| {
            // A process of this id that was killed may have left one.
            let _ = std::fs::remove_file(&path);
            let listener = UnixListener::bind(&path)?;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
            Ok(listener)
        });
        match opened {
            Ok(listener) => {
                tokio::spawn(answer(listener, node, shutdown.clone()));
                Some(Self { path })
            }
            Err(error) => {
                tracing::debug!(path = %path.display(), %error, "no control socket");
                None
            }
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn answer(listener: UnixListener, node: Node, shutdown: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((mut stream, _)) => {
                let mut line = report(&node).to_string();
                line.push('\n');
                let sent = async {
                    stream.write_all(line.as_bytes()).await?;
                    stream.shutdown().await
                };
                // One caller at a time; a slow one is left.
                let _ = tokio::time::timeout(PATIENCE, sent).await;
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}

fn report(node: &Node) -> Value {
    let bundles: Vec<Value> = node.bundles().iter().map(bundle_report).collect();
    json!({
        "pid": std::process::id(),
        "peer": node.listen_addr().to_string(),
        "sent_bytes": node.uplink().sent_total(),
        "upload_limit": node.uplink().rate(),
        "bundles": bundles,
    })
}

fn bundle_report(handle: &SwarmHandle) -> Value {
    let stats = handle.stats();
    let ids: Vec<String> = handle.swarm_ids().iter().map(ToString::to_string).collect();
    json!({
        "name": stats.name,
        "swarm_ids": ids,
        "state": state_name(&stats.state),
        "have": stats.have,
        "pieces": stats.pieces,
        "total_bytes": stats.total_bytes,
        "peers": stats.peers,
        "seeds": stats.seeds,
        "known_peers": stats.known_peers,
        "down_bytes": stats.down_bytes,
        "up_bytes": stats.up_bytes,
        "wasted_bytes": stats.wasted_bytes,
        "down_rate": stats.down_rate.round(),
        "up_rate": stats.up_rate.round(),
        "trouble": stats.trouble,
    })
}

fn state_name(state: &SwarmState) -> &'static str {
    match state {
        SwarmState::Checking => "checking",
        SwarmState::Metadata => "metadata",
        SwarmState::Fetching => "fetching",
        SwarmState::Seeding => "seeding",
        SwarmState::Failed(_) => "failed",
        SwarmState::Stopped => "stopped",
    }
}

pub(super) fn status(config: &PeerConfig, args: &StatusArgs) -> Result<(), Failure> {
    let mut any = false;
    if let Some(state) = config.state_dir() {
        for path in sockets(&run_dir(&state)) {
            let Some(line) = ask(&path) else {
                continue;
            };
            any = true;
            match args.json {
                true => print(&format!("{line}\n"))?,
                false => print(&in_words(&line))?,
            }
        }
    }
    match any {
        true => Ok(()),
        false => Err(Failure::text(EXIT_NOT_FOUND, "no peer is running here")),
    }
}

fn sockets(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "sock"))
        .collect();
    found.sort();
    found
}

fn ask(path: &Path) -> Option<Value> {
    let stream = match UnixStream::connect(path) {
        Ok(stream) => stream,
        Err(error) => {
            if error.kind() == io::ErrorKind::ConnectionRefused {
                // Left behind by a peer that was killed.
                let _ = std::fs::remove_file(path);
            }
            return None;
        }
    };
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let mut text = String::new();
    stream.take(ANSWER_LEN_MAX).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

fn in_words(report: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let mut out = format!(
        "peer {} (process {}), {} bytes sent\n",
        text(&report["peer"]),
        number(&report["pid"]),
        number(&report["sent_bytes"])
    );
    for bundle in report["bundles"].as_array().into_iter().flatten() {
        out.push_str(&format!(
            "  {}: {}, {} of {} pieces, {} peers, down {}, up {}\n",
            text(&bundle["name"]),
            text(&bundle["state"]),
            number(&bundle["have"]),
            number(&bundle["pieces"]),
            number(&bundle["peers"]),
            rate(bundle["down_rate"].as_f64().unwrap_or(0.0)),
            rate(bundle["up_rate"].as_f64().unwrap_or(0.0)),
        ));
    }
    out
}
