//! Foreign clients the other way round: what they make and seed, we fetch.

use std::fs;
use std::path::Path;
use std::process::Command;

use swarm_e2e::process::run_ok;
use swarm_e2e::{Proc, Tree, beside, small_site, tool};

use crate::{SOON, text, tracker};

#[test]
fn a_torrent_by_mktorrent_seeded_by_libtorrent_comes_whole() {
    let scratch = tempfile::tempdir().expect("scratch");
    let data = scratch.path().join("data");
    small_site(&data.join("site"));
    // Foreign torrents may hold what publishing would refuse.
    fs::remove_file(data.join("site/.secret")).expect("the site has one");
    let truth = Tree::of(&data.join("site"));
    let (_tracker, announce) = tracker(&["--open"]);
    let torrent = scratch.path().join("site.torrent");
    let output = Command::new(tool("mktorrent", "mktorrent"))
        .args([
            "-a",
            &announce,
            "-l",
            "15",
            "-o",
            text(&torrent),
            text(&data.join("site")),
        ])
        .output()
        .expect("mktorrent starts");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let script = beside("interop/lt.py");
    let args = [text(&script), "seed", text(&torrent), "--data", text(&data)];
    let mut seed = Proc::start_program("libtorrent", Path::new("/usr/bin/python3"), args);
    seed.event("complete", SOON);
    let out = scratch.path().join("by-torrent");
    run_ok("swarm-peer", ["fetch", text(&torrent), "--out", text(&out)]);
    truth.assert_within(&Tree::of(&out.join("site")));
    let told = run_ok("swarm-peer", ["inspect", "--json", text(&torrent)]).stdout;
    let told: serde_json::Value = serde_json::from_str(&told).expect("inspect prints JSON");
    let magnet = format!(
        "magnet:?xt=urn:btih:{}&tr={announce}",
        told["info_hash_v1"].as_str().expect("v1")
    );
    let out = scratch.path().join("by-magnet");
    run_ok("swarm-peer", ["fetch", &magnet, "--out", text(&out)]);
    truth.assert_within(&Tree::of(&out.join("site")));
}
