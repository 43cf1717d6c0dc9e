//! What a running gate tells its operator: one line of JSON over a Unix socket in the state
//! directory, which nobody but its owner can open.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use crate::gate::GateHandle;

/// A snapshot is shorter.
const SNAPSHOT_LEN_MAX: u64 = 4 << 20;
/// Time for one exchange.
const DEADLINE: Duration = Duration::from_secs(5);

/// What `status` shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// calm, warming, spike or cooling.
    pub state: String,
    /// The greatest pressure, 0 to 1.
    pub pressure: f64,
    /// Each signal: name, value, pressure.
    pub signals: Vec<(String, f64, f64)>,
    /// The site.
    pub site: String,
    /// Where visitors are answered.
    pub http: String,
    /// The key that trackers and volunteers pin.
    pub root_key: String,
    /// What the site's line carries, bits per second.
    pub plan_rate: u64,
    /// Files published; 0 before the first publish.
    pub files: usize,
    /// Bridges that visitors may be sent to.
    pub bridges: Vec<String>,
    /// Requests taken.
    pub requests: u64,
    /// Redirects given.
    pub redirects: u64,
    /// Pages rewritten.
    pub pages_rewritten: u64,
    /// Requests the origin failed to answer.
    pub origin_failures: u64,
    /// Bytes by way.
    pub bytes: Bytes,
}

/// Bytes since the start, by way.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Bytes {
    /// To visitors, by the origin through this gate.
    pub origin: u64,
    /// To volunteers, by the seed.
    pub seed: u64,
    /// For which visitors were redirected.
    pub redirected: u64,
    /// That rewritten pages name elsewhere.
    pub rewritten: u64,
    /// Redirected, by bridge.
    pub by_bridge: Vec<(String, u64)>,
}

impl Snapshot {
    /// Of a running gate.
    pub fn of(gate: &GateHandle, plan_rate: u64) -> Self {
        let stats = gate.stats();
        let verdict = gate.verdict();
        Self {
            state: verdict.state.to_string(),
            pressure: verdict.pressure,
            signals: verdict
                .readings
                .iter()
                .map(|r| (r.signal.to_owned(), r.value, r.pressure))
                .collect(),
            site: gate.site().to_string(),
            http: gate.addr().to_string(),
            root_key: gate.root_key().to_string(),
            plan_rate,
            files: gate.files(),
            bridges: gate.bridges(),
            requests: stats.requests,
            redirects: stats.redirects,
            pages_rewritten: stats.pages_rewritten,
            origin_failures: stats.origin_failures,
            bytes: Bytes {
                origin: stats.passed_bytes,
                seed: gate.swarm_bytes(),
                redirected: stats.redirected_bytes,
                rewritten: stats.rewritten_bytes,
                by_bridge: stats.redirected_by_bridge,
            },
        }
    }
}

/// The socket of the gate whose state is kept in `state_dir`.
pub fn socket_path(state_dir: &Path) -> PathBuf {
    state_dir.join("admin.sock")
}

/// Opens the socket; one left behind by a gate that is gone makes way.
///
/// # Errors
/// `AddrInUse` if another gate answers there, or what the system says.
pub async fn open(path: &Path) -> io::Result<UnixListener> {
    if path.exists() {
        if UnixStream::connect(path).await.is_ok() {
            return Err(io::Error::new(
                io::ErrorKind::AddrInUse,
                "another gate runs with this state directory",
            ));
        }
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers until dropped.
pub async fn serve(listener: UnixListener, gate: GateHandle, plan_rate: u64) {
    loop {
        let Ok((mut stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let snapshot = Snapshot::of(&gate, plan_rate);
        // Whoever hung up needs no answer.
        let _ = timeout(DEADLINE, async {
            let mut line = serde_json::to_vec(&snapshot)?;
            line.push(b'\n');
            stream.write_all(&line).await?;
            stream.shutdown().await
        })
        .await;
    }
}

/// Asks the gate at `path`.
///
/// # Errors
/// `NotFound` or `ConnectionRefused`: no gate runs there.
pub async fn ask(path: &Path) -> io::Result<Snapshot> {
    let asked = async {
        let stream = UnixStream::connect(path).await?;
        let mut line = Vec::new();
        stream.take(SNAPSHOT_LEN_MAX).read_to_end(&mut line).await?;
        serde_json::from_slice(&line)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    };
    timeout(DEADLINE, asked)
        .await
        .unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)))
}
