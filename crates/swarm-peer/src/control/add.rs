//! A bundle added to a running peer.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use swarm_proto::download::Want;
use swarm_proto::id::SwarmId;
use swarm_proto::limits::METAINFO_LEN_MAX;
use swarm_proto::magnet::Magnet;
use swarm_proto::metainfo::Metainfo;

use super::RequestError;
use crate::connector::Trust;
use crate::pick::{self, Pick, PickError};
use crate::{AddBundle, Node, Source, Storage, SwarmHandle};

/// What to fetch, and where to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Only these files, each a [`Pick`]; all where there is none, or what the link chooses. A pick
    /// that names no file of a torrent is refused; of a link's it is told as `trouble` as soon as
    /// the metadata is here, and nothing is fetched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    /// In the order of the bytes.
    #[serde(default, skip_serializing_if = "is_false")]
    pub sequential: bool,
    /// Rest until it is told to go on.
    #[serde(default, skip_serializing_if = "is_false")]
    pub paused: bool,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// Adds it; its ids, v1 first. A bundle that is here already takes the peers, and is refused where
/// more was asked for: what it fetches is not changed behind the back of who added it.
pub(super) async fn add(node: &Node, added: Added) -> Result<Value, RequestError> {
    let shown: String = added.what.chars().take(80).collect();
    let failed = |why: String| RequestError::What {
        what: shown.clone(),
        why,
    };
    if !added.out.is_absolute() {
        return Err(failed("out is no absolute path".into()));
    }
    let picks = added.files.iter().map(|text| text.parse());
    let mut picks: Vec<Pick> = picks
        .collect::<Result<_, PickError>>()
        .map_err(|error| failed(error.to_string()))?;
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
    let changes = !picks.is_empty() || added.sequential || added.paused;
    let here = source.swarm_ids().iter().any(|id| is_here(node, id));
    if changes && here {
        return Err(failed("it is here already".into()));
    }
    // What a link chooses is for a bundle that is new.
    if let Source::Magnet(magnet) = &source
        && picks.is_empty()
        && !here
    {
        picks.extend(magnet.select_only.iter().cloned().map(Pick::from));
    }
    let mut bundle = AddBundle::new(source, Storage::Folder { dir: added.out });
    bundle.trackers = added.trackers;
    bundle.tracker_trust = Trust::CommandLine;
    bundle.peers = added.peers;
    bundle.paused = added.paused;
    if !picks.is_empty() {
        bundle.want = match &bundle.source {
            Source::Metainfo(meta) => {
                let chosen = pick::ranges(&picks, meta);
                let chosen = chosen.map_err(|error| failed(error.to_string()))?;
                chosen.map_or(Want::All, Want::Ranges)
            }
            // Nothing, until it is known which files there are.
            Source::Magnet(_) => Want::None,
        };
    }
    let want = bundle.want.clone();
    let handle = node.add(bundle).await;
    let handle = handle.map_err(|error| failed(error.to_string()))?;
    let ids: Vec<String> = handle.swarm_ids().iter().map(ToString::to_string).collect();
    if want == Want::None || added.sequential {
        tokio::spawn(choose(handle, picks, added.sequential));
    }
    Ok(json!({ "done": true, "swarm_ids": ids }))
}

fn is_here(node: &Node, id: &SwarmId) -> bool {
    node.get(id)
        .is_some_and(|found| found.shared.ended().is_none())
}

/// Chooses among the files of a bundle as soon as they are known, and fetches them in order where
/// that was asked for. Ends when that is done, or the bundle has ended.
async fn choose(handle: SwarmHandle, picks: Vec<Pick>, sequential: bool) {
    let Ok(meta) = handle.metainfo().await else {
        return;
    };
    let chosen = match pick::ranges(&picks, &meta) {
        Ok(chosen) => chosen,
        Err(error) => {
            tracing::warn!(bundle = %meta.name(), "nothing is fetched: {error}");
            let _ = handle.shared.unmet.set(error.to_string());
            return;
        }
    };
    if let Some(chosen) = &chosen {
        handle.set_want(Want::Ranges(chosen.clone())).await;
    }
    if sequential {
        let all = || {
            let files = meta.files().iter().filter(|file| !file.pad);
            files.map(|file| file.range()).collect()
        };
        handle.fetch_in_order(&chosen.unwrap_or_else(all)).await;
    }
}

fn read(path: &Path) -> Result<Metainfo, String> {
    let found = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if !found.is_file() || found.len() > METAINFO_LEN_MAX as u64 {
        return Err("no file, or too long for a torrent".into());
    }
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    Metainfo::parse(&bytes).map_err(|error| error.to_string())
}
