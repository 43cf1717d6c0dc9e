//! A fetch that is killed at any moment: what was synced is never asked for again, and the files
//! are right in the end.
//!
//! `SWARM_KILLS` says how often (default 50), `SWARM_KILLS_SEED` repeats a run.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use swarm_e2e::process::Proc;
use swarm_e2e::recorder::Recorder;
use swarm_e2e::{Tree, tool};
use swarm_proto::bencode::{self, Rules};

use crate::truth::{TOP, Truth, space};
use crate::{SOON, text};

/// Fetches side by side: each spends most of its time asleep.
const ABREAST: u64 = 4;

/// One fetch from its beginning to its end, with the kills between.
struct Life<'a> {
    truth: &'a Truth,
    seed: &'a Recorder,
    home: PathBuf,
    /// Pieces that the state on disk called verified and synced when it was last killed.
    synced: Vec<u32>,
}

impl<'a> Life<'a> {
    fn new(truth: &'a Truth, seed: &'a Recorder, name: &str) -> Self {
        let home = truth.scratch.path().join(name);
        fs::create_dir(&home).expect("scratch");
        seed.take_asked();
        Self {
            truth,
            seed,
            home,
            synced: Vec::new(),
        }
    }

    fn args(&self) -> Vec<String> {
        let path = |name: &str| self.home.join(name).to_str().expect("UTF-8").to_owned();
        let peer = self.seed.addr.to_string();
        let torrent = text(&self.truth.torrent).to_owned();
        let fixed = ["fetch", "--json", "--listen", "127.0.0.1:0", "--peer"].map(str::to_owned);
        let mut args = fixed.to_vec();
        args.extend([
            peer,
            torrent,
            "--out".into(),
            path("out"),
            "--state".into(),
            path("state"),
        ]);
        args
    }

    /// Killed: nothing that had been synced was asked for, and what is called synced is right.
    fn judge(&mut self, when: &str) {
        let asked = self.seed.take_asked();
        let again: Vec<_> = asked
            .iter()
            .filter(|piece| self.synced.contains(piece))
            .collect();
        assert!(
            again.is_empty(),
            "{when}: asked again for synced pieces {again:?}"
        );
        self.synced = self.recorded();
        let there = space(&self.truth.metainfo, &self.home.join("out").join(TOP));
        let length = self.truth.metainfo.geometry().piece_length() as usize;
        for &piece in &self.synced {
            let start = piece as usize * length;
            let end = (start + length).min(there.len());
            let right = there[start..end] == self.truth.space[start..end];
            assert!(right, "{when}: piece {piece} is called synced and is wrong");
        }
    }

    /// The pieces of the state file.
    fn recorded(&self) -> Vec<u32> {
        let dir = self.home.join("state/resume");
        let files = fs::read_dir(dir).into_iter().flatten().flatten();
        let states: Vec<_> = files
            .map(|file| file.path())
            .filter(|path| {
                !path
                    .file_name()
                    .is_some_and(|name| name.to_string_lossy().starts_with('.'))
            })
            .collect();
        let Some(path) = states.first() else {
            return Vec::new();
        };
        let bytes = fs::read(path).expect("it was just listed");
        // A checksum follows.
        let body = &bytes[..bytes.len() - 32];
        let value = bencode::decode(body, &Rules::METAINFO).expect("written as a whole");
        let dict = value.as_dict().expect("a dictionary");
        let bits = dict.get(b"pieces").and_then(|value| value.as_bytes());
        let bits = bits.expect("pieces").to_vec();
        (0..self.truth.metainfo.geometry().piece_count())
            .filter(|piece| bits[*piece as usize / 8] & (0x80 >> (piece % 8)) != 0)
            .collect()
    }

    /// Lets it run to its end.
    fn finish(&mut self) {
        let mut fetch = Proc::start("swarm-peer", self.args());
        fetch.event("complete", SOON);
        assert!(fetch.end(SOON).success(), "{}", fetch.said());
        self.judge("at the end");
        self.check();
        fs::remove_dir_all(&self.home).expect("scratch");
    }

    fn check(&self) {
        let out = self.home.join("out").join(TOP);
        self.truth.tree.assert_within(&Tree::of(&out));
    }
}

/// A number from a seed, for moments.
fn mix(seed: u64) -> u64 {
    let mut state = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

#[test]
fn f1_a_fetch_killed_at_random_moments_asks_for_nothing_synced_again() {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .map(|text| text.parse().expect(name))
    };
    let kills: u64 = number("SWARM_KILLS").unwrap_or(50);
    let seed: u64 = number("SWARM_KILLS_SEED").unwrap_or_else(|| std::process::id().into());
    println!("SWARM_KILLS_SEED={seed}");
    let truth = Truth::new();
    let (done, kept) = (AtomicU64::new(0), AtomicU64::new(0));
    let finished = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for lane in 0..ABREAST {
            let (truth, done, kept, finished) = (&truth, &done, &kept, &finished);
            scope.spawn(move || {
                // About five seconds from beginning to end: two or three saves.
                let recorder = truth.seed(1_600_000.0);
                let mut life = Life::new(truth, &recorder, &format!("{lane}-0"));
                loop {
                    let nth = done.fetch_add(1, Ordering::SeqCst);
                    if nth >= kills {
                        break;
                    }
                    let mut fetch = Proc::start("swarm-peer", life.args());
                    // From before the files are opened to after the first save.
                    let moment = Duration::from_millis(20 + mix(seed ^ nth) % 2800);
                    std::thread::sleep(moment);
                    fetch.kill();
                    life.judge(&format!("kill {nth} (seed {seed}) after {moment:?}"));
                    kept.fetch_add(life.synced.len() as u64, Ordering::SeqCst);
                    let pieces = truth.metainfo.geometry().piece_count() as usize;
                    if life.synced.len() == pieces {
                        life.finish();
                        let round = finished.fetch_add(1, Ordering::SeqCst);
                        life = Life::new(truth, &recorder, &format!("{lane}-{}", round + 1));
                    }
                }
                life.finish();
                finished.fetch_add(1, Ordering::SeqCst);
            });
        }
    });
    let (kept, finished) = (kept.into_inner(), finished.into_inner());
    println!(
        "{kills} kills, {kept} synced pieces found after them, none asked for again, {finished} fetches whole"
    );
    assert!(
        kept > 0,
        "no kill found anything synced: the moments are wrong"
    );
}

#[test]
fn f1_a_fetch_killed_at_each_step_of_writing_and_saving_goes_on_right() {
    let truth = Truth::new();
    let strace = tool("strace", "strace");
    let recorder = truth.seed(4_000_000.0);
    let log = truth.scratch.path().join("strace.log");
    // strace counts the calls of each thread by itself, and with --seccomp-bpf none of them.
    for (step, calls, moments) in [
        ("write", "pwrite64,pwritev,pwritev2", &[5, 10][..]),
        ("sync", "fsync,fdatasync", &[1, 2]),
        ("rename", "rename,renameat,renameat2", &[1]),
    ] {
        for nth in moments {
            let mut life = Life::new(&truth, &recorder, &format!("{step}-{nth}"));
            let inject = format!("inject={calls}:signal=SIGKILL:when={nth}");
            let trace = format!("trace={calls}");
            let peer = swarm_e2e::bin("swarm-peer");
            let mut args = vec!["-f", "-o", text(&log), "-e", &trace, "-e", &inject];
            args.push(text(&peer));
            let own = life.args();
            args.extend(own.iter().map(String::as_str));
            let mut fetch = Proc::start_program("strace", &strace, args);
            assert!(
                !fetch.end(SOON).success(),
                "{step} {nth}: it was not killed"
            );
            let told = fs::read_to_string(&log).expect("strace wrote it");
            assert!(
                told.contains("killed by SIGKILL"),
                "{step} {nth}: {}",
                fetch.said()
            );
            life.judge(&format!("killed at {step} {nth}"));
            life.finish();
        }
    }
}
