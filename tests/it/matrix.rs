//! The interop matrix: every way to exchange a torrent with every foreign client, and the table of
//! results in `tests/interop/README.md`.
//!
//! A cell that cannot be says why, and is not tried. Any other must pass.

mod cell;
mod extras;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use swarm_e2e::foreign::Client;
use swarm_e2e::lab::{Lab, Wire};
use swarm_e2e::site::noise;
use swarm_e2e::{Tree, beside};
use swarm_proto::metainfo::Metainfo;

use crate::text;
use cell::{By, Cell, Direction};

/// Cells at a time. Most of a cell is waiting for a client to start or to announce.
const ABREAST: usize = 8;

/// What kind of torrent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    V1,
    V2,
    Hybrid,
}

impl Kind {
    const ALL: [Self; 3] = [Self::V1, Self::V2, Self::Hybrid];

    fn name(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
            Self::Hybrid => "hybrid",
        }
    }
}

/// Content, and torrents of it of every kind.
struct Stage {
    scratch: tempfile::TempDir,
    truth: Tree,
    open: Lab,
    udp_only: Lab,
}

/// A torrent file and its info hashes as hex.
#[derive(Clone)]
struct Torrent {
    path: PathBuf,
    v1: Option<String>,
    v2: Option<String>,
}

impl Stage {
    fn new() -> Self {
        let scratch = tempfile::tempdir().expect("scratch");
        let content = scratch.path().join("data/content");
        // Sizes around blocks and pieces; v1 without padding runs pieces across files.
        for (path, len) in [
            ("a.bin", 1_000_003),
            ("b/one", 1),
            ("b/empty", 0),
            ("c.bin", 16_384),
            ("d.bin", 700_001),
            ("e/f/g.bin", 3 * 32_768),
            ("z.bin", 1_300_007),
        ] {
            let path = content.join(path);
            fs::create_dir_all(path.parent().expect("in a folder")).expect("scratch");
            fs::write(path, noise(len as u64 + 1, len)).expect("scratch");
        }
        Self {
            truth: Tree::of(&content),
            scratch,
            open: Lab::new("mo", Wire::Open),
            udp_only: Lab::new("mu", Wire::UdpOnly),
        }
    }

    fn data(&self) -> PathBuf {
        self.scratch.path().join("data")
    }

    /// Makes a torrent of the content; `more` goes to `make.py`.
    fn torrent(&self, kind: Kind, name: &str, more: &[&str]) -> Torrent {
        let path = self.scratch.path().join(format!("{name}.torrent"));
        let script = beside("interop/make.py");
        let content = self.data().join("content");
        let mut args = vec![text(&script), kind.name(), text(&content), text(&path)];
        args.extend(more);
        let done = Command::new("/usr/bin/python3").args(args).output();
        let done = done.expect("python3 starts");
        assert!(done.status.success(), "make.py: {done:?}");
        let told: serde_json::Value = serde_json::from_slice(&done.stdout).expect("JSON");
        let hash = |key: &str| told[key].as_str().map(str::to_owned);
        self.lay_padding(&path);
        Torrent {
            v1: hash("v1"),
            v2: hash("v2"),
            path,
        }
    }
}

impl Stage {
    /// Puts the padding of a torrent beside the content, where clients that know no BEP 47 want it.
    fn lay_padding(&self, torrent: &Path) {
        let bytes = fs::read(torrent).expect("just made");
        let metainfo = Metainfo::parse(&bytes).expect("libtorrent makes good ones");
        for file in metainfo.files().iter().filter(|file| file.pad) {
            let path = self.data().join("content").join(file.path.join("/"));
            fs::create_dir_all(path.parent().expect("in a folder")).expect("scratch");
            let len = usize::try_from(file.length).expect("less than a piece");
            fs::write(path, vec![0; len]).expect("scratch");
        }
    }
}

impl Torrent {
    /// The same torrent with this tracker, as another file.
    fn announced(&self, at: &Path, announce: &str) -> PathBuf {
        let bytes = fs::read(&self.path).expect("just made");
        // "announce" sorts before every key that libtorrent writes here.
        let head = format!("d8:announce{}:{announce}", announce.len());
        fs::write(at, [head.as_bytes(), &bytes[1..]].concat()).expect("scratch");
        at.to_owned()
    }

    fn magnet(&self, announce: Option<&str>) -> String {
        let v1 = self.v1.iter().map(|hash| format!("xt=urn:btih:{hash}"));
        let v2 = self.v2.iter().map(|hash| format!("xt=urn:btmh:1220{hash}"));
        let tracker = announce.iter().map(|url| format!("tr={url}"));
        let parts: Vec<_> = v1.chain(v2).chain(tracker).collect();
        format!("magnet:?{}", parts.join("&"))
    }
}

/// What became of a cell.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    Pass,
    /// And why.
    Cannot(&'static str),
    Fail(String),
}

#[test]
fn every_foreign_client_exchanges_every_torrent_it_knows_both_ways() {
    let stage = Stage::new();
    let mut cells = Vec::new();
    for client in [Client::Libtorrent, Client::Transmission, Client::Aria2] {
        for kind in Kind::ALL {
            for by in [By::Torrent, By::Magnet] {
                for utp in [false, true] {
                    for direction in [Direction::OursSeeds, Direction::OursFetches] {
                        cells.push(Cell {
                            client,
                            kind,
                            by,
                            utp,
                            direction,
                        });
                    }
                }
            }
        }
    }
    let torrents = Kind::ALL.map(|kind| stage.torrent(kind, kind.name(), &[]));
    let outcomes = abreast(cells.len(), |at| {
        let cell = &cells[at];
        cell.outcome(&stage, &torrents[cell.kind as usize], at)
    });
    let extras = extras::all();
    let extra_outcomes = abreast(extras.len(), |at| extras[at].outcome(&stage, at));
    let results: Vec<_> = cells.into_iter().zip(outcomes).collect();
    let more: Vec<_> = extras.into_iter().zip(extra_outcomes).collect();
    table::write(&results, &more);
    let failed: Vec<String> = results
        .iter()
        .map(|(cell, outcome)| (cell.to_string(), outcome))
        .chain(
            more.iter()
                .map(|(extra, outcome)| (extra.to_string(), outcome)),
        )
        .filter_map(|(name, outcome)| match outcome {
            Outcome::Fail(why) => Some(format!("{name}: {why}")),
            _ => None,
        })
        .collect();
    assert!(
        failed.is_empty(),
        "{} cells failed:\n{}",
        failed.len(),
        failed.join("\n")
    );
}

/// Does `count` things, [`ABREAST`] at a time.
fn abreast(count: usize, each: impl Fn(usize) -> Outcome + Sync) -> Vec<Outcome> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(vec![None; count]);
    std::thread::scope(|scope| {
        for _ in 0..ABREAST {
            scope.spawn(|| {
                while let at = next.fetch_add(1, Ordering::Relaxed)
                    && at < count
                {
                    let outcome = each(at);
                    done.lock().expect("no holder panics")[at] = Some(outcome);
                }
            });
        }
    });
    let done = done.into_inner().expect("no holder panics");
    done.into_iter()
        .map(|one| one.expect("each was done"))
        .collect()
}

/// Runs one cell; a panic in it is its failure.
fn caught(run: impl FnOnce()) -> Outcome {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)) {
        Ok(()) => Outcome::Pass,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Outcome::Fail(text.unwrap_or_else(|| "panicked".to_owned()))
        }
    }
}
