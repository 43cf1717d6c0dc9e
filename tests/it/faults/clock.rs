//! A wall clock that jumps.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use swarm_e2e::{Proc, Tree};

use crate::truth::{TOP, Truth};
use crate::{SOON, text};

/// A wall clock that one program lives by; its steady clock is the machine's.
struct WallClock(PathBuf);

impl WallClock {
    fn new(dir: &Path) -> Self {
        let clock = Self(dir.join("clock"));
        clock.jump("+0");
        clock
    }

    /// To so much before or after the right time.
    fn jump(&self, to: &str) {
        // Whoever reads it in between must not find half of it.
        let beside = self.0.with_extension("new");
        fs::write(&beside, format!("{to}\n")).expect("scratch");
        fs::rename(beside, &self.0).expect("scratch");
    }

    fn peer(&self, args: &[&str]) -> Proc {
        let library = fs::read_dir("/usr/lib").expect("there is one").flatten();
        let library = library
            .map(|entry| entry.path().join("faketime/libfaketimeMT.so.1"))
            .find(|path| path.is_file())
            .expect("libfaketime is missing: apt-get install faketime");
        let set = [
            format!("LD_PRELOAD={}", library.display()),
            format!("FAKETIME_TIMESTAMP_FILE={}", self.0.display()),
            "FAKETIME_NO_CACHE=1".to_owned(),
            "DONT_FAKE_MONOTONIC=1".to_owned(),
            text(&swarm_e2e::bin("swarm-peer")).to_owned(),
        ];
        let all = set
            .into_iter()
            .chain(args.iter().map(|arg| (*arg).to_owned()));
        Proc::start_program("swarm-peer", Path::new("/usr/bin/env"), all)
    }
}

#[test]
fn f7_a_wall_clock_that_jumps_ten_years_either_way_disturbs_no_fetch() {
    let truth = Truth::new();
    let path = |name: &str| truth.scratch.path().join(name);
    let (out, state) = (path("out"), path("state"));
    let clock = WallClock::new(truth.scratch.path());
    let recorder = truth.seed(2_000_000.0);
    let peer = recorder.addr.to_string();
    let mut fetch = clock.peer(&[
        "fetch",
        text(&truth.torrent),
        "--out",
        text(&out),
        "--state",
        text(&state),
        "--json",
        "--listen",
        "127.0.0.1:0",
        "--peer",
        &peer,
        "--timeout",
        "20s",
    ]);
    for (pieces, jump) in [(10, "+3650d"), (40, "-3650d"), (70, "+0")] {
        fetch.event_where("progress", SOON, |told| {
            told["have"].as_u64() >= Some(pieces)
        });
        clock.jump(jump);
    }
    fetch.event("complete", SOON);
    assert!(fetch.end(SOON).success(), "{}", fetch.said());
    // No jump made a request look late, or a connection silent.
    let blocks = truth.metainfo.geometry().piece_length() as usize / 16_384;
    let mut asked = vec![0; truth.metainfo.geometry().piece_count() as usize];
    for piece in recorder.take_asked() {
        asked[piece as usize] += 1;
        assert!(
            asked[piece as usize] <= blocks,
            "piece {piece} was asked for again"
        );
    }
    truth.tree.assert_within(&Tree::of(&out.join(TOP)));
}

/// Says hello to a seed and nothing more. Returns how long it was listened to, and how often the
/// seed said that it is still there.
fn fall_silent(addr: &str, hash: &[u8; 20], then: impl FnOnce()) -> (Duration, usize) {
    let mut stream = TcpStream::connect(addr).expect("it listens");
    let hello = [
        b"\x13BitTorrent protocol".as_slice(),
        &[0; 8],
        hash,
        &[7; 20],
    ]
    .concat();
    let began = Instant::now();
    stream.write_all(&hello).expect("it listens");
    stream.read_exact(&mut [0; 68]).expect("it answers");
    std::thread::sleep(Duration::from_secs(1));
    then();
    stream.set_read_timeout(Some(SOON)).expect("a socket");
    let mut still_there = 0;
    loop {
        let mut length = [0; 4];
        let heard = stream.read_exact(&mut length);
        let length = u32::from_be_bytes(length) as usize;
        match heard.and_then(|()| stream.read_exact(&mut vec![0; length])) {
            Ok(()) => still_there += usize::from(length == 0),
            Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("it listens for ever"),
            Err(_) => return (began.elapsed(), still_there),
        }
    }
}

#[test]
fn f7_a_silent_peer_is_left_after_the_same_time_whatever_the_wall_clock_does() {
    let truth = Truth::new();
    let scratch = truth.scratch.path();
    let hash = *truth.metainfo.info_hash_v1().expect("a hybrid").as_bytes();
    let config = scratch.join("peer.toml");
    fs::write(&config, "peer_timeout = '5s'\n").expect("scratch");
    let state = scratch.join("state");
    let clock = WallClock::new(scratch);
    let mut seed = clock.peer(&[
        "--config",
        text(&config),
        "seed",
        text(&truth.torrent),
        "--data",
        text(scratch),
        "--state",
        text(&state),
        "--json",
        "--listen",
        "127.0.0.1:0",
    ]);
    let listening = seed.event("listening", SOON);
    let addr = listening["peer"].as_str().expect("an address");
    seed.event("seeding", SOON);
    for jump in ["+3650d", "-3650d"] {
        let (time, still_there) = fall_silent(addr, &hash, || clock.jump(jump));
        println!("{jump}: left after {time:?}, {still_there} keep-alives");
        // It has to hear nothing for so long, and may take its time on a busy machine.
        let due = Duration::from_secs(5);
        assert!(time >= due, "{jump}: left after {time:?}");
        assert!(time < due * 4, "{jump}: left after {time:?}");
        let most = time.as_secs() / 2 + 1;
        assert!(
            (1..=most).contains(&(still_there as u64)),
            "{jump}: {still_there}"
        );
    }
}
