//! What a swarm is doing, and its figures.

/// What a swarm is doing.
///
/// ```text
/// Checking ─┬───────────────────────────▶ Fetching ◀─▶ Finished or Seeding
///           └─▶ Metadata, if by magnet ───▲
/// any of these ─▶ Paused, once a check is over ─▶ Fetching, or Metadata where it is not known
/// any of them ─▶ Failed or Stopped, for good
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SwarmState {
    /// Looking at what is stored, and hashing it where its state is not known.
    Checking,
    /// Asking peers for the info dictionary of a magnet link.
    Metadata,
    /// Fetching what is wanted, and serving what is there.
    Fetching,
    /// All that was chosen is there, in its files, and nothing else of the bundle is wanted; only
    /// serving. Of a bundle that is never fetched ([`AddBundle::seed_only`](crate::AddBundle)):
    /// what is there is served, and more is to come from nowhere.
    Finished,
    /// Everything is there; only serving.
    Seeding,
    /// Told to rest: no connection, no announce, and nothing fetched or served.
    Paused,
    /// Given up.
    Failed(SwarmError),
    /// Removed, or the node shut down.
    Stopped,
}

impl SwarmState {
    /// Whether all that is wanted is there.
    pub(crate) const fn fetches_nothing(&self) -> bool {
        matches!(self, Self::Finished | Self::Seeding)
    }
}

/// Why a swarm has ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SwarmError {
    /// Removed, or the node shut down.
    #[error("the bundle is no longer served here")]
    Stopped,
    /// The disk does not do what is needed.
    #[error("storage failed: {0}")]
    Storage(String),
    /// What was asked for needs the metadata, and that is not known yet. The caller's fault: it
    /// did not wait for [`SwarmHandle::metainfo`](super::SwarmHandle::metainfo).
    #[error("the bundle's metadata is not known yet")]
    NoMetadata,
    /// No such file or range in the bundle. The caller's fault.
    #[error("no such bytes in the bundle")]
    OutOfRange,
}

/// Figures of one swarm. Byte counts are of blocks, without protocol overhead.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SwarmStats {
    /// The torrent's name, or the magnet link's.
    pub name: String,
    /// What it is doing.
    pub state: SwarmState,
    /// Peers connected.
    pub peers: usize,
    /// Of them, those that have everything.
    pub seeds: usize,
    /// Peer addresses known, connected or not.
    pub known_peers: usize,
    /// Bytes received.
    pub down_bytes: u64,
    /// Bytes sent.
    pub up_bytes: u64,
    /// Bytes received for nothing: false or twice.
    pub wasted_bytes: u64,
    /// Bytes a second received.
    pub down_rate: f64,
    /// Bytes a second sent.
    pub up_rate: f64,
    /// Pieces stored.
    pub have: u32,
    /// Pieces of the bundle; 0 while the metadata is unknown.
    pub pieces: u32,
    /// Pieces dealt with by the check at the start.
    pub checked: u32,
    /// Pieces whose bytes on disk were wrong at the start.
    pub wrong: Vec<u32>,
    /// Bytes of content, padding included; 0 while the metadata is unknown.
    pub total_bytes: u64,
    /// Everything is stored.
    pub complete: bool,
    /// What keeps it from going on at the moment, as a line to read.
    pub trouble: Option<String>,
}

impl SwarmStats {
    pub(super) fn new(name: String) -> Self {
        Self {
            name,
            state: SwarmState::Checking,
            peers: 0,
            seeds: 0,
            known_peers: 0,
            down_bytes: 0,
            up_bytes: 0,
            wasted_bytes: 0,
            down_rate: 0.0,
            up_rate: 0.0,
            have: 0,
            pieces: 0,
            checked: 0,
            wrong: Vec::new(),
            total_bytes: 0,
            complete: false,
            trouble: None,
        }
    }
}
