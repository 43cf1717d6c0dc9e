//! A bundle added to a running peer.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use swarm_proto::limits::METAINFO_LEN_MAX;
use swarm_proto::magnet::Magnet;
use swarm_proto::metainfo::Metainfo;

use super::RequestError;
use crate::connector::Trust;
use crate::{AddBundle, Node, Source, Storage};

/// What to fetch, and where to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Added {
    /// A magnet link, or the absolute path of a torrent.
    pub what: String,
    /// The directory that holds the torrent's top-level name; absolute.
    pub out: PathBuf,
    /// Trackers besides those that it names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trackers: Vec<String>,
    /// Peers to call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<SocketAddr>,
}

/// Adds it; its ids, v1 first.
pub(super) async fn add(node: &Node, added: Added) -> Result<Value, RequestError> {
    let shown: String = added.what.chars().take(80).collect();
    let failed = |why: String| RequestError::What {
        what: shown.clone(),
        why,
    };
    if !added.out.is_absolute() {
        return Err(failed("out is no absolute path".into()));
    }
    let source = if added.what.starts_with("magnet:") {
        let magnet = Magnet::parse(&added.what);
        Source::from(magnet.map_err(|error| failed(error.to_string()))?)
    } else {
        let path = PathBuf::from(&added.what);
        if !path.is_absolute() {
            return Err(failed("neither a magnet link nor an absolute path".into()));
        }
        let read = tokio::task::spawn_blocking(move || read(&path)).await;
        let meta = read.unwrap_or_else(|error| Err(error.to_string()));
        Source::Metainfo(Arc::new(meta.map_err(&failed)?))
    };
    let mut bundle = AddBundle::new(source, Storage::Folder { dir: added.out });
    bundle.trackers = added.trackers;
    bundle.tracker_trust = Trust::CommandLine;
    bundle.peers = added.peers;
    let handle = node.add(bundle).await;
    let handle = handle.map_err(|error| failed(error.to_string()))?;
    let ids: Vec<String> = handle.swarm_ids().iter().map(ToString::to_string).collect();
    Ok(json!({ "done": true, "swarm_ids": ids }))
}

fn read(path: &Path) -> Result<Metainfo, String> {
    let found = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if !found.is_file() || found.len() > METAINFO_LEN_MAX as u64 {
        return Err("no file, or too long for a torrent".into());
    }
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    Metainfo::parse(&bytes).map_err(|error| error.to_string())
}
