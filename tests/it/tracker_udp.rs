//! Foreign clients and our peer, that know each other by our tracker over UDP alone (BEP 15).
//!
//! Exchange of peers, the DHT and local discovery are off, so whoever finds somebody was told of
//! him by the tracker.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use swarm_e2e::foreign::{Client, Job, aria2, libtorrent};
use swarm_e2e::lab::{End, Lab, OURS, Wire};
use swarm_e2e::site::noise;
use swarm_e2e::{Proc, Tree, beside, tool};

use crate::{SOON, text};

/// The port of the tracker, by UDP and HTTP.
const TRACKER: &str = "10.99.0.1:2900";

/// A torrent of one folder that names the tracker by UDP.
fn torrent(scratch: &Path) -> PathBuf {
    let content = scratch.join("data/content");
    fs::create_dir_all(&content).expect("scratch");
    for (name, len) in [("a.bin", 700_003), ("b.bin", 50_001)] {
        fs::write(content.join(name), noise(len as u64, len)).expect("scratch");
    }
    let bare = scratch.join("bare.torrent");
    let script = beside("interop/make.py");
    let done = Command::new("/usr/bin/python3")
        .args([text(&script), "v1", text(&content), text(&bare)])
        .output()
        .expect("python3 starts");
    assert!(done.status.success(), "make.py: {done:?}");
    let bytes = fs::read(&bare).expect("just made");
    let announce = format!("udp://{TRACKER}/announce");
    // "announce" sorts before every key that libtorrent writes here.
    let head = format!("d8:announce{}:{announce}", announce.len());
    let named = scratch.join("it.torrent");
    fs::write(&named, [head.as_bytes(), &bytes[1..]].concat()).expect("scratch");
    named
}

/// aria2 asks trackers over UDP only where it may have a node of the DHT; this one knows none.
fn aria2_over_udp(job: &Job<'_>, more: &[&str]) -> Proc {
    let table = format!("--dht-file-path={}", job.home.join("dht.dat").display());
    let port = format!("--dht-listen-port={}", job.port + 5);
    let udp = ["--enable-dht=true", "--enable-peer-exchange=false"];
    aria2(job, &[&udp, &[&table[..], &port][..], more].concat())
}

fn figure(lab: &Lab, name: &str) -> u64 {
    let curl = tool("curl", "curl");
    let url = format!("http://{TRACKER}/metrics");
    let figures = lab.output(End::Ours, &curl, &["-s", &url]);
    let figures = figures.expect("the tracker tells its figures");
    let line = figures.lines().find_map(|line| line.strip_prefix(name));
    let value = line.and_then(|value| value.trim().parse().ok());
    value.unwrap_or_else(|| panic!("{name}: {figures}"))
}

#[test]
fn foreign_clients_find_others_by_our_tracker_over_udp() {
    let scratch = tempfile::tempdir().expect("scratch");
    let lab = Lab::new("tu", Wire::Open);
    let torrent = torrent(scratch.path());
    let data = scratch.path().join("data");
    let truth = Tree::of(&data.join("content"));
    let args = [
        "run",
        "--json",
        "--open",
        "--interval",
        "5s",
        "--http",
        TRACKER,
    ];
    let mut tracker = lab.ours("swarm-tracker", args);
    let told = tracker.event("listening", SOON);
    assert_eq!(told["udp"], TRACKER, "where HTTP is");

    for (at, client) in [Client::Libtorrent, Client::Transmission, Client::Aria2]
        .into_iter()
        .enumerate()
    {
        let home = scratch.path().join(format!("{client:?}"));
        let (out, back) = (home.join("out"), home.join("back"));
        fs::create_dir_all(&out).expect("scratch");
        fs::create_dir_all(&back).expect("scratch");
        let port = 21_000 + 10 * u16::try_from(at).expect("few");
        let job = |data| Job {
            lab: &lab,
            what: text(&torrent),
            data,
            home: &home,
            port,
            utp: false,
            peers: &[],
            patience: SOON,
        };
        let ours = |args: &[&str]| {
            let listen = format!("{OURS}:{}", port + 1);
            let state = home.join("state");
            let more = ["--json", "--listen", &listen, "--state", text(&state)];
            let quiet = ["--utp", "off"];
            lab.ours("swarm-peer", [args, &more, &quiet].concat())
        };
        // It seeds, and our peer is told of it.
        {
            let _seed = match client {
                Client::Libtorrent => {
                    let mut seed = libtorrent(&job(&data), "seed", &["--no-pex"]);
                    seed.event("complete", SOON);
                    seed
                }
                Client::Transmission => client.seed(&job(&data)),
                Client::Aria2 => {
                    let more = ["--seed-ratio=0.0", "--check-integrity=true"];
                    aria2_over_udp(&job(&data), &more)
                }
            };
            let mut fetch = ours(&["fetch", text(&torrent), "--out", text(&out)]);
            fetch.event("complete", SOON);
            assert!(fetch.end(SOON).success(), "{}", fetch.said());
            truth.assert_within(&Tree::of(&out.join("content")));
        }
        // And the other way round.
        let mut seed = ours(&["seed", text(&torrent), "--data", text(&data)]);
        seed.event("seeding", SOON);
        std::thread::sleep(Duration::from_millis(300));
        match client {
            Client::Aria2 => {
                let mut fetch = aria2_over_udp(&job(&back), &["--seed-time=0"]);
                assert!(fetch.end(SOON).success(), "{}", fetch.said());
            }
            _ => client.fetch(&job(&back)),
        }
        truth.assert_within(&Tree::of(&back.join("content")));
    }
    assert!(figure(&lab, "swarm_tracker_announces_total ") >= 12);
    assert!(figure(&lab, "swarm_tracker_udp_connects_total ") >= 6);
    assert_eq!(figure(&lab, "swarm_tracker_udp_malformed_total "), 0);
}
