//! Files that rot or are tampered with, and names that want out.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use swarm_e2e::leech::RawLeech;
use swarm_e2e::process::run;
use swarm_e2e::{Proc, Tree, beside, tool};
use swarm_proto::metainfo::Metainfo;

use crate::truth::{TOP, Truth, space};
use crate::{SOON, publish, seed, text};

/// Asks a seed for every block over a plain connection: each that comes must be right. Returns
/// how many came, and of how many.
fn served_right(metainfo: &Metainfo, space: &[u8], addr: &str) -> (usize, usize) {
    let stream = TcpStream::connect(addr).expect("it listens");
    let hash = metainfo.info_hash_v1().expect("a hybrid");
    let mut leech = RawLeech::start(stream, *hash.as_bytes()).expect("it answers");
    let length = metainfo.geometry().piece_length() as usize;
    let blocks: Vec<_> = (0..space.len()).step_by(16_384).collect();
    for &at in &blocks {
        let len = (space.len() - at).min(16_384).min(length - at % length);
        leech.ask((at / length) as u32, (at % length) as u32, len as u32);
    }
    let mut came = 0;
    // Silence is an answer, too: what cannot be read is not sent.
    while let Some((piece, begin, bytes)) = leech.next_block(Duration::from_secs(3)) {
        let at = piece as usize * length + begin as usize;
        assert!(
            space[at..at + bytes.len()] == bytes,
            "piece {piece} at {begin} is wrong"
        );
        came += 1;
    }
    (came, blocks.len())
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).expect("it is there");
    bytes[at] ^= 1;
    // In place, as rot and careless editors do it.
    fs::write(path, bytes).expect("scratch");
}

#[test]
fn f6_a_bit_that_flips_in_a_published_file_while_seeding_is_never_served() {
    let truth = Truth::new();
    let root = truth.scratch.path().join(TOP);
    let published = publish(truth.scratch.path(), "http://rot.test", &root, &[]);
    let (mut seed, addr) = seed(&[text(&published.out)], &[]);
    seed.event("seeding", SOON);
    let bundles: Vec<_> = published
        .torrents()
        .iter()
        .map(|path| {
            let bytes = fs::read(path).expect("publish made it");
            let metainfo = Metainfo::parse(&bytes).expect("publish made it");
            let space = space(&metainfo, &root);
            (metainfo, space)
        })
        .collect();
    for (metainfo, space) in &bundles {
        let (came, all) = served_right(metainfo, space, &addr);
        assert_eq!(came, all, "whole, it serves everything");
    }
    for (name, at) in [("a.bin", 1_234_567), ("b.bin", 0), ("c.bin", 69_999)] {
        flip(&root.join(name), at);
    }
    for (metainfo, space) in &bundles {
        let (came, all) = served_right(metainfo, space, &addr);
        println!("{came} of {all} blocks served from files with a flipped bit");
        assert!(came < all);
    }
}

#[test]
fn f6_a_bit_that_flips_in_any_file_of_a_folder_while_seeding_is_never_served() {
    let truth = Truth::new();
    let data = truth.scratch.path();
    let what = [text(&truth.torrent), "--data", text(data)];
    let state = data.join("state");
    let (mut seed, addr) = seed(&what, &["--state", text(&state)]);
    seed.event("seeding", SOON);
    let (came, all) = served_right(&truth.metainfo, &truth.space, &addr);
    assert_eq!(came, all, "whole, it serves everything");
    for (name, at) in [("a.bin", 1_234_567), ("b.bin", 0), ("c.bin", 69_999)] {
        flip(&data.join(TOP).join(name), at);
    }
    let (came, all) = served_right(&truth.metainfo, &truth.space, &addr);
    println!("{came} of {all} blocks served from files with a flipped bit");
    assert!(came < all);
}

/// Fetches a part, is stopped, and leaves a state file; returns folder, state folder, state file.
fn half_fetched(truth: &Truth) -> (PathBuf, PathBuf, PathBuf) {
    let recorder = truth.seed(2_000_000.0);
    let path = |name: &str| truth.scratch.path().join(name);
    let (out, state) = (path("out"), path("state"));
    let peer = recorder.addr.to_string();
    let args = [
        "fetch",
        text(&truth.torrent),
        "--out",
        text(&out),
        "--state",
        text(&state),
    ];
    let more = ["--json", "--listen", "127.0.0.1:0", "--peer", &peer];
    let mut fetch = Proc::start("swarm-peer", args.into_iter().chain(more));
    let half = u64::from(truth.metainfo.geometry().piece_count()) / 2;
    fetch.event_where("progress", SOON, |told| told["have"].as_u64() >= Some(half));
    fetch.terminate();
    fetch.end(SOON);
    let files = fs::read_dir(state.join("resume"))
        .expect("it saved its state")
        .flatten();
    let file = files
        .map(|entry| entry.path())
        .next()
        .expect("a state file");
    (out, state, file)
}

#[test]
fn f18_a_state_file_cut_or_flipped_anywhere_is_rebuilt_and_never_believed() {
    let truth = Truth::new();
    let (out, state, file) = half_fetched(&truth);
    let whole = fs::read(&file).expect("just found");
    let (_seed, addr) = seed(
        &[text(&truth.torrent), "--data", text(truth.scratch.path())],
        &[],
    );
    // As it was for each try, with its times: the state is believed only of files that have not
    // changed, in that folder.
    let kept = truth.scratch.path().join("kept");
    fs::rename(&out, &kept).expect("scratch");
    let mut tries: Vec<Vec<u8>> = (0..whole.len())
        .step_by(9)
        .map(|len| whole[..len].to_vec())
        .collect();
    for at in (0..whole.len()).step_by(2) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        tries.push(bytes);
    }
    let began = Instant::now();
    for (nth, bytes) in tries.iter().enumerate() {
        let _ = fs::remove_dir_all(&out);
        let status = Command::new("cp")
            .args(["-a", text(&kept), text(&out)])
            .status();
        assert!(status.is_ok_and(|status| status.success()));
        fs::write(&file, bytes).expect("scratch");
        let torrent = text(&truth.torrent);
        let args = [
            "fetch",
            torrent,
            "--out",
            text(&out),
            "--state",
            text(&state),
        ];
        let more = [
            "--listen",
            "127.0.0.1:0",
            "--peer",
            &addr,
            "--timeout",
            "20s",
        ];
        let ended = run("swarm-peer", args.into_iter().chain(more));
        assert_eq!(ended.code, Some(0), "try {nth}: {}", ended.stderr);
        let got = Tree::of(&out.join(TOP));
        let wrong = truth
            .tree
            .0
            .iter()
            .find(|(path, digest)| got.0.get(*path) != Some(*digest));
        assert!(
            wrong.is_none(),
            "try {nth}: {wrong:?} is wrong, from a state file {bytes:?}"
        );
    }
    println!(
        "{} damaged state files in {:?}",
        tries.len(),
        began.elapsed()
    );
}

#[test]
fn t4_a_torrent_of_hostile_names_opens_nothing_for_writing_outside_its_folder() {
    let scratch = tempfile::tempdir().expect("scratch");
    let path = |name: &str| scratch.path().join(name);
    let (torrent, out, state, log) = (
        path("evil.torrent"),
        path("in/out"),
        path("state"),
        path("log"),
    );
    let made = Command::new("/usr/bin/python3")
        .args([text(&beside("interop/evil.py")), text(&torrent)])
        .output();
    let made = made.expect("python3 starts");
    assert!(made.status.success(), "evil.py: {made:?}");
    let space = made.stdout;
    let bytes = fs::read(&torrent).expect("just made");
    let metainfo = Metainfo::parse(&bytes).expect("names are made harmless");
    let hash = *metainfo.info_hash_v1().expect("v1").as_bytes();
    let piece_length = metainfo.geometry().piece_length();
    let recorder = swarm_e2e::recorder::Recorder::start(hash, piece_length, space, 5e7);
    let peer = recorder.addr.to_string();
    let strace = tool("strace", "strace");
    let own = swarm_e2e::bin("swarm-peer");
    let args = [
        "-f",
        "--seccomp-bpf",
        "-y",
        "-s",
        "500",
        "-o",
        text(&log),
        "-e",
        "trace=%file",
        text(&own),
    ];
    let fetch = [
        "fetch",
        text(&torrent),
        "--out",
        text(&out),
        "--state",
        text(&state),
        "--json",
    ];
    let more = ["--listen", "127.0.0.1:0", "--peer", &peer];
    let all = args.into_iter().chain(fetch).chain(more);
    let mut fetch = Proc::start_program("strace", &strace, all);
    fetch.event("complete", SOON);
    assert!(fetch.end(SOON).success(), "{}", fetch.said());
    let told = fs::read_to_string(&log).expect("strace wrote it");
    let writes = [
        "O_WRONLY", "O_RDWR", "O_CREAT", "mkdir", "rename", "unlink", " link(", "symlink",
        "linkat", "chmod", "mknod",
    ];
    let mut inside = 0;
    for line in told
        .lines()
        .filter(|line| writes.iter().any(|word| line.contains(word)))
    {
        let names = line.split('"').skip(1).step_by(2);
        for name in names {
            let ours = Path::new(name).starts_with(&out)
                || Path::new(name).starts_with(&state)
                || out.starts_with(name) && line.contains("mkdir");
            let system = ["/dev/null", "/dev/tty", "/proc/self"]
                .iter()
                .any(|known| name.starts_with(known));
            assert!(ours || system, "opened outside: {line}");
            let dots = Path::new(name)
                .components()
                .any(|part| part.as_os_str() == "..");
            assert!(!dots, "dots reach the system: {line}");
            inside += usize::from(ours);
        }
    }
    assert!(inside > 10, "strace saw too little:\n{told}");
    assert!(!path("evil").exists() && !path("in/evil").exists());
}
