//! Disks that are full, have no inodes left, or fail to read and to sync.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use swarm_e2e::{Proc, Tree, tool};

use crate::truth::{TOP, Truth};
use crate::{SOON, seed, text};

/// A file system in memory; unmounted when dropped.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn mount(at: PathBuf, options: &str) -> Self {
        fs::create_dir_all(&at).expect("scratch");
        let done = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "none", text(&at)])
            .status();
        let done = done.expect("mount is part of every Debian");
        assert!(done.success(), "tmpfs needs root");
        Self(at)
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily: a process that has not ended yet may hold it.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Fetches onto `disk`, which cannot take it all until `relief` has come.
fn fetch_onto_a_full_disk(truth: &Truth, disk: &Path, relief: impl FnOnce()) {
    let seed_dir = truth.scratch.path();
    let (_seed, addr) = seed(&[text(&truth.torrent), "--data", text(seed_dir)], &[]);
    let out = disk.join("out");
    let state = truth.scratch.path().join("state");
    let torrent = text(&truth.torrent);
    let args = [
        "fetch",
        torrent,
        "--out",
        text(&out),
        "--state",
        text(&state),
        "--json",
    ];
    let more = ["--listen", "127.0.0.1:0", "--peer", &addr, "--seed"];
    let mut fetch = Proc::start("swarm-peer", args.into_iter().chain(more));
    let listening = fetch.event("listening", SOON);
    fetch.says("cannot write, waiting", SOON);
    // It hands on what it has.
    let had = |fetch: &mut Proc| {
        let last = fetch.last_event("progress");
        last.map_or(0, |told| told["have"].as_u64().unwrap_or(0))
    };
    fetch.event_where("progress", SOON, |told| told["have"].as_u64() > Some(0));
    std::thread::sleep(std::time::Duration::from_millis(600));
    let stuck_at = had(&mut fetch);
    assert!(stuck_at > 0, "{}", fetch.said());
    let other_out = truth.scratch.path().join("other");
    let other_state = truth.scratch.path().join("other-state");
    let full = listening["peer"].as_str().expect("an address");
    let args = [
        "fetch",
        torrent,
        "--out",
        text(&other_out),
        "--state",
        text(&other_state),
    ];
    let more = ["--json", "--listen", "127.0.0.1:0", "--peer", full];
    let mut other = Proc::start("swarm-peer", args.into_iter().chain(more));
    let enough = |told: &Value| told["have"].as_u64() >= Some(stuck_at.min(20));
    other.event_where("progress", SOON, enough);
    let now = had(&mut fetch);
    assert!(
        now <= stuck_at + 2,
        "{stuck_at}, then {now}: it went on writing"
    );
    relief();
    fetch.event("complete", SOON);
    other.event("complete", SOON);
    truth.tree.assert_within(&Tree::of(&out.join(TOP)));
    truth.tree.assert_within(&Tree::of(&other_out.join(TOP)));
}

#[test]
fn f3_a_full_disk_stops_fetching_and_not_serving_until_there_is_room() {
    let truth = Truth::new();
    let disk = Tmpfs::mount(truth.scratch.path().join("disk"), "size=16m");
    let ballast = disk.0.join("ballast");
    fs::write(&ballast, vec![1; 11 << 20]).expect("it fits");
    fetch_onto_a_full_disk(&truth, &disk.0, || {
        fs::remove_file(&ballast).expect("it is there")
    });
}

#[test]
fn f4_a_disk_without_inodes_stops_fetching_until_there_are_some() {
    let truth = Truth::new();
    // The root, `out`, the torrent's folder and two of its three files have room.
    let disk = Tmpfs::mount(truth.scratch.path().join("disk"), "size=32m,nr_inodes=12");
    let ballast: Vec<_> = (0..7).map(|n| disk.0.join(format!("ballast{n}"))).collect();
    for path in &ballast {
        fs::write(path, []).expect("there is one inode for it");
    }
    fetch_onto_a_full_disk(&truth, &disk.0, || {
        for path in &ballast {
            fs::remove_file(path).expect("it is there");
        }
    });
}

/// `swarm-peer` with errors put into its system calls.
fn with_errors(inject: &str, log: &Path, args: &[&str]) -> Proc {
    let strace = tool("strace", "strace");
    let peer = swarm_e2e::bin("swarm-peer");
    let calls = inject.split(':').next().unwrap_or_default();
    let trace = format!("trace={calls}");
    let inject = format!("inject={inject}");
    let mut all = vec![
        "-f",
        "--seccomp-bpf",
        "-o",
        text(log),
        "-e",
        &trace,
        "-e",
        &inject,
    ];
    all.push(text(&peer));
    all.extend(args);
    Proc::start_program("swarm-peer under strace", &strace, all)
}

#[test]
fn f5_what_could_not_be_synced_is_never_recorded_as_done() {
    let truth = Truth::new();
    let recorder = truth.seed(3_000_000.0);
    let path = |name: &str| truth.scratch.path().join(name);
    let (out, state, log) = (path("out"), path("state"), path("strace.log"));
    let peer = recorder.addr.to_string();
    let args = [
        "fetch",
        text(&truth.torrent),
        "--out",
        text(&out),
        "--state",
        text(&state),
    ];
    let args = [
        &args[..],
        &["--json", "--listen", "127.0.0.1:0", "--peer", &peer],
    ]
    .concat();
    let mut fetch = with_errors("fsync,fdatasync:error=EIO", &log, &args);
    fetch.event("complete", SOON);
    fetch.says("cannot make pieces durable", SOON);
    assert!(fetch.end(SOON).success(), "{}", fetch.said());
    let told = fs::read_to_string(&log).expect("strace wrote it");
    assert!(told.contains("EIO"), "no sync was tried: {told}");
    let states = fs::read_dir(state.join("resume"))
        .into_iter()
        .flatten()
        .flatten();
    let states: Vec<_> = states.map(|entry| entry.path()).collect();
    assert!(
        states.is_empty(),
        "recorded after a failed sync: {states:?}"
    );
    truth.tree.assert_within(&Tree::of(&out.join(TOP)));
}

#[test]
fn f5_a_seed_that_cannot_read_some_blocks_hands_out_no_others_for_them() {
    let truth = Truth::new();
    let path = |name: &str| truth.scratch.path().join(name);
    let (out, state, log) = (path("out"), path("state"), path("strace.log"));
    let data = truth.scratch.path();
    let seed_state = path("seed-state");
    let args = [
        "seed",
        text(&truth.torrent),
        "--data",
        text(data),
        "--state",
        text(&seed_state),
    ];
    let args = [&args[..], &["--json", "--listen", "127.0.0.1:0"]].concat();
    // strace counts for each thread: some pieces count as missing from the check on, others later.
    let inject = "pread64,preadv,preadv2:error=EIO:when=10+9".to_owned();
    let mut bad = with_errors(&inject, &log, &args);
    let listening = bad.event("listening", SOON);
    bad.event("seeding", SOON);
    let good = truth.seed(400_000.0);
    let (bad_addr, good_addr) = (
        listening["peer"].as_str().expect("an address"),
        good.addr.to_string(),
    );
    let args = [
        "fetch",
        text(&truth.torrent),
        "--out",
        text(&out),
        "--state",
        text(&state),
    ];
    let more = [
        "--json",
        "--listen",
        "127.0.0.1:0",
        "--peer",
        bad_addr,
        "--peer",
        &good_addr,
    ];
    let mut fetch = Proc::start("swarm-peer", args.into_iter().chain(more));
    fetch.event("complete", SOON);
    assert!(fetch.end(SOON).success(), "{}", fetch.said());
    let told = fs::read_to_string(&log).expect("strace wrote it");
    assert!(told.contains("EIO"), "no read failed");
    assert!(!fetch.log().contains("banned"), "{}", fetch.said());
    truth.tree.assert_within(&Tree::of(&out.join(TOP)));
}
