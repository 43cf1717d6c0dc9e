//! What runs short: descriptors, and the patience with those who are no longer there.

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use swarm_e2e::lab::{End, Lab, OURS, Wire};
use swarm_e2e::process::run_ok;
use swarm_e2e::site::noise;
use swarm_e2e::{Proc, Tree, bin, small_site, tool};

use crate::{SOON, publish, text};

/// Processor time that a process has used, in clock ticks of 10 ms.
fn ticks(id: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).expect("the process lives");
    let after_name = stat.rsplit(')').next().expect("a name in brackets");
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let number = |at: usize| fields[at].parse::<u64>().expect("a number");
    number(11) + number(12)
}

#[test]
fn f14_a_crowd_takes_all_descriptors_and_the_peer_recovers() {
    let scratch = tempfile::tempdir().expect("scratch");
    let root = scratch.path().join("root");
    small_site(&root);
    let published = publish(scratch.path(), "http://crowd.test", &root, &[]);
    let torrent = &published.torrents()[0];
    let hash = published.told["bundles"][0]["info_hash_v1"].as_str();
    let hash = hash.expect("a hybrid has v1").to_owned();
    let prlimit = tool("prlimit", "util-linux");
    // The first leaves room for some peers; the second, not even for those that it reckons with.
    for limit in [64, 32] {
        let args = [
            format!("--nofile={limit}:{limit}"),
            text(&bin("swarm-peer")).to_owned(),
            "seed".to_owned(),
            "--json".to_owned(),
            text(&published.out).to_owned(),
            "--listen".to_owned(),
            "127.0.0.1:0".to_owned(),
            "--state".to_owned(),
            text(&scratch.path().join(format!("state{limit}"))).to_owned(),
        ];
        let mut seed = Proc::start_program("swarm-peer", &prlimit, args);
        let listening = seed.event("listening", SOON);
        let peer = listening["peer"].as_str().expect("an address").to_owned();
        seed.event("seeding", SOON);
        let mut crowd = Vec::new();
        for n in 0..300 {
            // Whom nobody accepts waits in the backlog, and beyond it for nothing.
            let addr = peer.parse().expect("an address");
            let Ok(mut stream) = TcpStream::connect_timeout(&addr, Duration::from_millis(50))
            else {
                continue;
            };
            // Every other one speaks, the rest only sit there.
            if n % 2 == 0 {
                let _ = stream.write_all(&handshake(&hash, n));
            }
            crowd.push(stream);
        }
        std::thread::sleep(Duration::from_secs(1));
        let before = ticks(seed.id());
        std::thread::sleep(Duration::from_secs(3));
        let spent = ticks(seed.id()) - before;
        assert!(
            spent < 50,
            "limit {limit}: {spent} ticks of 300 while nothing happens"
        );
        if limit == 32 {
            seed.says("cannot accept connections for now", SOON);
        }
        drop(crowd);
        let out = scratch.path().join(format!("out{limit}"));
        run_ok(
            "swarm-peer",
            ["fetch", text(torrent), "--out", text(&out), "--peer", &peer],
        );
        assert!(!Tree::of(&out).0.is_empty());
    }
}

/// A handshake of BEP 3 with a peer id of its own.
fn handshake(hash: &str, n: u32) -> Vec<u8> {
    let mut bytes = b"\x13BitTorrent protocol".to_vec();
    bytes.extend([0; 8]);
    let digits: Vec<char> = hash.chars().collect();
    for pair in digits.chunks(2) {
        let pair: String = pair.iter().collect();
        bytes.push(u8::from_str_radix(&pair, 16).expect("hexadecimal"));
    }
    bytes.extend(format!("-XX0000-{n:012}").bytes());
    bytes
}

#[test]
fn f10_a_connection_whose_other_half_is_gone_is_freed() {
    let scratch = tempfile::tempdir().expect("scratch");
    let root = scratch.path().join("root");
    fs::create_dir_all(&root).expect("a folder");
    fs::write(root.join("big.bin"), noise(10, 2_000_000)).expect("a file");
    let published = publish(scratch.path(), "http://half.test", &root, &[]);
    let config = scratch.path().join("peer.toml");
    fs::write(&config, "peer_timeout = '6s'\n").expect("a file");
    let lab = Lab::new("hal", Wire::Open);
    let state = |name: &str| text(&scratch.path().join(name)).to_owned();
    let call = format!("{OURS}:7001");
    let torrent = published.torrents().remove(0);
    let (out, leech_state) = (state("out"), state("leech"));
    let mut seed = lab.ours(
        "swarm-peer",
        [
            "--config",
            text(&config),
            "seed",
            "--json",
            text(&published.out),
            "--listen",
            &call,
            "--utp",
            "off",
            "--state",
            &state("seed"),
        ],
    );
    seed.event("seeding", SOON);
    let args = [
        "--config",
        text(&config),
        "fetch",
        text(&torrent),
        "--out",
        &out,
        "--peer",
        &call,
        "--download",
        "16kbit",
        "--utp",
        "off",
        "--state",
        &leech_state,
    ];
    let _leech = lab.start(End::Theirs, "swarm-peer", &bin("swarm-peer"), args);
    assert!(wait(SOON, || sockets(&lab) > 0), "they never met");
    // Silence alone is no reason: keep-alives tell that somebody is there.
    std::thread::sleep(Duration::from_secs(10));
    assert!(sockets(&lab) > 0, "a slow peer was given up");
    // From here on nothing gets through, not even the news that it does not.
    let nft = tool("nft", "nftables");
    let drop = "add table inet gone; \
        add chain inet gone in { type filter hook input priority -10; policy drop; }; \
        add chain inet gone out { type filter hook output priority -10; policy drop; }";
    lab.output(End::Theirs, &nft, &[drop]).expect("nft obeys");
    let began = Instant::now();
    assert!(
        wait(Duration::from_secs(20), || sockets(&lab) == 0),
        "still held after {:?}",
        began.elapsed()
    );
}

/// Connections to our port that our end takes for alive.
fn sockets(lab: &Lab) -> usize {
    let ss = tool("ss", "iproute2");
    let args = ["-Htn", "state", "established", "sport", "=", ":7001"];
    let listed = lab.output(End::Ours, Path::new(&ss), &args);
    listed.expect("ss lists sockets").lines().count()
}

fn wait(patience: Duration, mut until: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + patience;
    while Instant::now() < end {
        if until() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(250));
    }
    false
}

#[test]
fn f14_thousands_of_files_in_many_bundles_are_served_and_fetched_by_few_descriptors() {
    const HOST: &str = "many-files.test";
    let scratch = tempfile::tempdir().expect("scratch");
    let root = scratch.path().join("root");
    for number in 0..5000 {
        let folder = root.join(format!("d{}", number / 100));
        fs::create_dir_all(&folder).expect("a folder");
        let bytes = noise(number, 500 + number as usize % 700);
        fs::write(folder.join(format!("f{number}.bin")), bytes).expect("a file");
    }
    let site = format!("http://{HOST}");
    let published = publish(scratch.path(), &site, &root, &["--bundle-target", "12MiB"]);
    assert!(published.torrents().len() > 3, "several bundles");
    let prlimit = tool("prlimit", "util-linux");
    let limited = |args: &[&str]| {
        let mut all = vec!["--nofile=256:256".to_owned()];
        all.push(text(&bin("swarm-peer")).to_owned());
        all.extend(args.iter().map(|arg| (*arg).to_owned()));
        Proc::start_program("swarm-peer", &prlimit, all)
    };
    let listen = ["--listen", "127.0.0.1:0", "--json"];
    let mut seed = limited(&[&["seed", text(&published.out)], &listen[..]].concat());
    let told = seed.event("listening", SOON);
    let peer = told["peer"].as_str().expect("an address").to_owned();
    let served = seed.event("seeding", SOON);
    assert_eq!(served["have"], served["pieces"], "{served}");
    let key = format!("{HOST}={}", published.root_key());
    let out = scratch.path().join("out");
    let record = published.out.join("manifest");
    let mut fetch = limited(&[
        "fetch",
        text(&record),
        "--site-key",
        &key,
        "--out",
        text(&out),
        "--peer",
        &peer,
        "--json",
    ]);
    let mut most = [0, 0];
    let ended = wait(Duration::from_secs(120), || {
        for (most, proc) in most.iter_mut().zip([&seed, &fetch]) {
            let open = fs::read_dir(format!("/proc/{}/fd", proc.id()));
            *most = open.map_or(0, Iterator::count).max(*most);
        }
        fetch.last_event("complete").is_some()
    });
    assert!(ended, "{}", fetch.said());
    assert!(fetch.end(SOON).success(), "{}", fetch.said());
    let whole = Tree::of(&out.join(HOST));
    Tree::of(&root).assert_within(&whole);
    // Half of all is for connections.
    assert!(
        most.iter().all(|most| *most > 3 && *most <= 192),
        "{most:?}"
    );
}
