//! End-to-end tests: the real binaries, on loopback, as a user would run them.

mod cli;
mod control;
mod face;
mod faults;
mod floods;
mod gate;
mod hostile;
mod interop;
mod kills;
mod matrix;
mod punch;
mod real_site;
mod scarce;
mod second_way;
mod terminal;
mod tracker_udp;
mod tracker_ws;
mod transfer;
mod truth;
mod utp;
mod visitor;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use swarm_e2e::Proc;
use swarm_e2e::process::run_ok;

/// How long anything that should be quick may take on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// A folder that has been published: what a site's owner has on disk afterwards.
pub(crate) struct Published {
    /// `--out`.
    pub(crate) out: PathBuf,
    /// The object printed by `publish --json`.
    pub(crate) told: Value,
}

impl Published {
    /// The site's root key, for `--site-key HOST=KEY`.
    pub(crate) fn root_key(&self) -> &str {
        self.told["root_key"]
            .as_str()
            .expect("publish prints the root key")
    }

    /// The paths of all bundles' `.torrent` files.
    pub(crate) fn torrents(&self) -> Vec<PathBuf> {
        let mut found: Vec<_> = std::fs::read_dir(&self.out)
            .expect("publish made it")
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|ext| ext == "torrent"))
            .collect();
        found.sort();
        found
    }
}

/// Publishes `root` as `site` into `scratch`.
pub(crate) fn publish(scratch: &Path, site: &str, root: &Path, more: &[&str]) -> Published {
    let out = scratch.join("published");
    let keys = scratch.join("keys");
    let mut args = vec!["publish", "--json", "--site", site, "--root"];
    args.extend([text(root), "--out", text(&out), "--keys", text(&keys)]);
    args.extend(more);
    let ended = run_ok("swarm-peer", args);
    let told = ended
        .stdout
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find(|value| value["event"] == "published")
        .unwrap_or_else(|| panic!("publish told nothing: {}", ended.stdout));
    Published { out, told }
}

/// A tracker on a free port, and its announce URL.
pub(crate) fn tracker(more: &[&str]) -> (Proc, String) {
    let mut args = vec!["run", "--json", "--http", "127.0.0.1:0"];
    args.extend(more);
    let mut tracker = Proc::start("swarm-tracker", args);
    let listening = tracker.event("listening", SOON);
    let addr = listening["http"].as_str().expect("an address").to_owned();
    (tracker, format!("http://{addr}/announce"))
}

/// A seed of a published folder or of `TORRENT --data DIR`, and its peer address.
pub(crate) fn seed(what: &[&str], more: &[&str]) -> (Proc, String) {
    let mut args = vec!["seed"];
    args.extend(what);
    args.extend(["--json", "--listen", "127.0.0.1:0"]);
    args.extend(more);
    let mut seed = Proc::start("swarm-peer", args);
    let listening = seed.event("listening", SOON);
    let addr = listening["peer"].as_str().expect("an address").to_owned();
    (seed, addr)
}

/// A path as an argument.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("scratch paths are UTF-8")
}
