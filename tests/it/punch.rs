//! Peers behind routers that let nobody in, introduced by one that both can reach (BEP 55).

use std::fs;
use std::path::Path;
use std::time::Duration;

use swarm_e2e::nats::{Nats, OUTSIDE, PUBLIC};
use swarm_e2e::site::noise;
use swarm_e2e::{Proc, Tree};

use crate::{SOON, publish, text};

const LEN: usize = 3_000_000;

/// A seed behind one router, a leech behind the other, and between them a relay that has next to
/// nothing and takes next to nothing, so that what arrives came through the hole.
struct Scene {
    nats: Nats,
    _relay: Proc,
    _seed: Proc,
    torrent: std::path::PathBuf,
    truth: Tree,
    scratch: tempfile::TempDir,
}

fn scene(name: &str, relay_utp: &str) -> Scene {
    let scratch = tempfile::tempdir().expect("scratch");
    let root = scratch.path().join("root");
    fs::create_dir_all(&root).expect("a folder");
    let bytes = noise(55, LEN);
    fs::write(root.join("big.bin"), &bytes).expect("a file");
    let published = publish(scratch.path(), "http://punch.test", &root, &[]);
    let torrent = published.torrents().remove(0);
    let part = scratch.path().join("part");
    fs::create_dir_all(part.join("punch.test")).expect("a folder");
    let mut rest = bytes;
    rest[100_000..].fill(0);
    fs::write(part.join("punch.test/big.bin"), rest).expect("a file");

    let nats = Nats::new(name);
    let state = |name: &str| scratch.path().join(name);
    let mut relay = nats.start(
        &nats.public(),
        "swarm-peer",
        [
            "seed",
            "--json",
            text(&torrent),
            "--data",
            text(&part),
            "--listen",
            &format!("{PUBLIC}:7001"),
            "--download",
            "16kbit",
            // Told of each other they would call at the same time, and might meet by luck.
            "--no-pex",
            "--utp",
            relay_utp,
            "--state",
            text(&state("relay")),
        ],
    );
    relay.event("listening", SOON);
    let mut seed = nats.start(
        &nats.home(0),
        "swarm-peer",
        [
            "seed",
            "--json",
            text(&published.out),
            "--listen",
            "0.0.0.0:7002",
            "--peer",
            &format!("{PUBLIC}:7001"),
            "--state",
            text(&state("seed")),
        ],
    );
    seed.event("listening", SOON);
    Scene {
        truth: Tree::of(&root),
        nats,
        _relay: relay,
        _seed: seed,
        torrent,
        scratch,
    }
}

fn fetch(scene: &Scene, out: &Path) -> Proc {
    scene.nats.start(
        &scene.nats.home(1),
        "swarm-peer",
        [
            "fetch",
            "--json",
            text(&scene.torrent),
            "--out",
            text(out),
            "--listen",
            "0.0.0.0:7003",
            "--peer",
            &format!("{PUBLIC}:7001"),
            "--peer",
            &format!("{}:7002", OUTSIDE[0]),
            "--state",
            text(&scene.scratch.path().join("leech")),
        ],
    )
}

#[test]
fn two_behind_routers_meet_through_a_relay() {
    let scene = scene("pun", "on");
    let out = scene.scratch.path().join("out");
    let mut leech = fetch(&scene, &out);
    leech.event("complete", SOON);
    assert!(leech.end(SOON).success());
    Tree::of(&out.join("punch.test")).assert_within(&scene.truth);
}

/// The same without anybody to introduce them: the routers are as closed as they should be.
#[test]
fn two_behind_routers_do_not_meet_where_nobody_introduces_them() {
    let scene = scene("nop", "off");
    let out = scene.scratch.path().join("out");
    let mut leech = fetch(&scene, &out);
    leech.event("listening", SOON);
    std::thread::sleep(Duration::from_secs(20));
    assert!(
        !leech.said().contains("\"complete\""),
        "came all the same: {}",
        leech.said()
    );
    leech.terminate();
}
