//! What `status` answers.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use swarm_proto::download::{WebSeedState, WebSeedStats};

use super::state_name;
use crate::report::{PeerReport, TrackerReport, shown_url};
use crate::swarm::SwarmHandle;
use crate::{Node, SwarmState, Transport};

/// All that a node tells of itself; with each connection if `peers`.
pub(super) async fn status(node: &Node, peers: bool) -> Value {
    let mut bundles = Vec::new();
    for handle in node.bundles() {
        bundles.push(bundle(&handle, peers).await);
    }
    let discovery = &node.config().discovery;
    json!({
        "pid": std::process::id(),
        "version": env!("CARGO_PKG_VERSION"),
        "peer": node.listen_addr().to_string(),
        "sent_bytes": node.uplink().sent_total(),
        "received_bytes": node.downlink().received_total(),
        "upload_limit": node.uplink().rate(),
        "download_limit": node.downlink().rate(),
        "memory_bytes": memory("RssAnon:"),
        "dht": discovery.dht.to_string(),
        "pex": discovery.pex,
        "lsd": discovery.lsd,
        "udp_trackers": discovery.udp_trackers,
        "utp": node.config().transport != Transport::Tcp,
        "bundles": bundles,
    })
}

async fn bundle(handle: &SwarmHandle, peers: bool) -> Value {
    let stats = handle.stats();
    let ids: Vec<String> = handle.swarm_ids().iter().map(ToString::to_string).collect();
    let meta = handle.try_metainfo();
    let meta = meta.as_deref();
    let seeds = handle.web_seeds().await;
    let seeds: Vec<Value> = seeds.iter().map(web_seed).collect();
    handle.ask_figures();
    let trackers = handle.trackers();
    let trackers: Vec<Value> = trackers
        .iter()
        .map(|(url, told)| tracker(url, told))
        .collect();
    let connected = match peers {
        true => Some(handle.peers().await.iter().map(peer).collect::<Vec<_>>()),
        false => None,
    };
    let error = match &stats.state {
        SwarmState::Failed(error) => Some(error.to_string()),
        _ => None,
    };
    let mut report = json!({
        "name": stats.name,
        "swarm_ids": ids,
        "info_hash_v1": meta.and_then(|m| m.info_hash_v1()).map(|hash| hash.to_string()),
        "info_hash_v2": meta.and_then(|m| m.info_hash_v2()).map(|hash| hash.to_string()),
        "private": meta.is_some_and(|meta| meta.is_private()),
        "state": state_name(&stats.state),
        "error": error,
        "trouble": stats.trouble,
        "have": stats.have,
        "pieces": stats.pieces,
        "checked": stats.checked,
        "total_bytes": stats.total_bytes,
        "peers": stats.peers,
        "seeds": stats.seeds,
        "known_peers": stats.known_peers,
        "down_bytes": stats.down_bytes,
        "up_bytes": stats.up_bytes,
        "wasted_bytes": stats.wasted_bytes,
        "down_rate": stats.down_rate.round(),
        "up_rate": stats.up_rate.round(),
        "upload_limit": handle.uplink().rate(),
        "download_limit": handle.downlink().rate(),
        "trackers": trackers,
        "web_seeds": seeds,
    });
    if let (Some(connected), Some(report)) = (connected, report.as_object_mut()) {
        report.insert("connected".into(), connected.into());
    }
    report
}

fn tracker(url: &str, told: &TrackerReport) -> Value {
    json!({
        "url": url,
        "at": seconds(told.at),
        "peers": told.peers,
        "seeds": told.seeds,
        "leeches": told.leeches,
        "completed": told.completed,
        "age": told.at.elapsed().map_or(0, |age| age.as_secs()),
        "error": told.error,
    })
}

fn web_seed(seed: &WebSeedStats) -> Value {
    let (state, wait) = match seed.state {
        WebSeedState::Ready => ("ready", None),
        WebSeedState::Asked => ("asked", None),
        WebSeedState::Waiting(wait) => ("waiting", Some(wait.as_secs())),
        WebSeedState::GivenUp => ("given up", None),
        WebSeedState::Banned => ("banned", None),
        _ => ("unknown", None),
    };
    json!({
        "url": shown_url(&seed.url),
        "state": state,
        "wait": wait,
        "requests": seed.requests,
        "down_rate": seed.down_rate.round(),
        "missing_files": seed.missing_files,
    })
}

fn peer(peer: &PeerReport) -> Value {
    let stats = &peer.stats;
    json!({
        "addr": peer.addr.to_string(),
        "outgoing": peer.outgoing,
        "transport": peer.transport,
        "client": peer.client,
        "down_rate": stats.down_rate.round(),
        "up_rate": stats.up_rate.round(),
        "have": stats.have,
        "seed": stats.seed,
        "we_choke": stats.we_choke,
        "chokes_us": stats.chokes_us,
        "we_want": stats.we_want,
        "wants": stats.wants,
        "asked": stats.asked,
        "snubs": stats.snubs,
    })
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// A figure in bytes of what the system says of this process; `None` where it says nothing.
fn memory(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}
