//! One cell: a client, a torrent, a transport, a direction.

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use swarm_e2e::foreign::{Client, Job};
use swarm_e2e::lab::{Lab, OURS, SERVICE_PORTS, THEIRS};
use swarm_e2e::{Proc, Tree};

use super::{Kind, Outcome, Stage, Torrent, caught};
use crate::{SOON, text};

/// Who gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    OursSeeds,
    OursFetches,
}

/// What the leech is given to start from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    Torrent,
    Magnet,
}

/// One cell of the matrix.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cell {
    pub(super) client: Client,
    pub(super) kind: Kind,
    pub(super) by: By,
    pub(super) utp: bool,
    pub(super) direction: Direction,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} {} by {:?} over {}, {:?}",
            self.client,
            self.kind.name(),
            self.by,
            if self.utp { "uTP" } else { "TCP" },
            self.direction
        )
    }
}

/// The room one exchange has to itself: folders and ports.
pub(super) struct Room<'a> {
    pub(super) lab: &'a Lab,
    pub(super) home: PathBuf,
    pub(super) tracker_port: u16,
    pub(super) port: u16,
    /// Of our peer's `--utp`.
    utp: &'static str,
}

impl<'a> Room<'a> {
    pub(super) fn new(stage: &'a Stage, utp: bool, name: &str, at: usize) -> Self {
        let home = stage.scratch.path().join(name.replace([' ', ','], "-"));
        fs::create_dir_all(home.join("out")).expect("scratch");
        let at = u16::try_from(at).expect("few cells");
        Self {
            lab: if utp { &stage.udp_only } else { &stage.open },
            home,
            tracker_port: SERVICE_PORTS.start + at,
            port: 20_000 + 10 * at,
            utp: if utp { "only" } else { "off" },
        }
    }

    pub(super) fn out(&self) -> PathBuf {
        self.home.join("out")
    }

    /// A tracker at our end, and its announce URL.
    pub(super) fn tracker(&self) -> (Proc, String) {
        let http = format!("{OURS}:{}", self.tracker_port);
        let args = [
            "run",
            "--json",
            "--open",
            "--interval",
            "5s",
            "--http",
            &http,
        ];
        let mut tracker = self.lab.ours("swarm-tracker", args);
        tracker.event("listening", SOON);
        (tracker, format!("http://{http}/announce"))
    }

    /// Our peer: `seed` or `fetch` with what follows it.
    pub(super) fn peer(&self, args: &[&str]) -> Proc {
        let listen = format!("{OURS}:{}", self.port);
        let state = self.home.join("state");
        let mut all = args.to_vec();
        all.extend(["--json", "--listen", &listen, "--state", text(&state)]);
        all.extend(["--utp", self.utp]);
        self.lab.ours("swarm-peer", all)
    }

    /// Where our peer listens.
    pub(super) fn our_addr(&self) -> String {
        format!("{OURS}:{}", self.port)
    }

    /// Where the foreign client listens.
    pub(super) fn their_addr(&self) -> String {
        format!("{THEIRS}:{}", self.port)
    }

    pub(super) fn check(&self, truth: &Tree) {
        truth.assert_within(&Tree::of(&self.out().join("content")));
    }
}

impl Cell {
    /// Why there can be no such exchange.
    fn cannot(&self) -> Option<&'static str> {
        match (self.client, self.kind) {
            (Client::Aria2, _) if self.utp => Some("client has no uTP"),
            (Client::Transmission | Client::Aria2, Kind::V2) => Some("client knows no v2"),
            // Its issue 1339: no empty keys in dictionaries, so no `file tree`.
            (Client::Transmission, Kind::Hybrid) => Some("client reads hybrids from 4.0 on only"),
            // `swarm_proto::metainfo` knows that hash (`alias`), a magnet link cannot.
            (Client::Aria2, Kind::Hybrid)
                if self.by == By::Magnet && self.direction == Direction::OursFetches =>
            {
                Some("client seeds hybrids under a hash of its own")
            }
            _ => None,
        }
    }

    pub(super) fn outcome(&self, stage: &Stage, torrent: &Torrent, at: usize) -> Outcome {
        match self.cannot() {
            Some(why) => Outcome::Cannot(why),
            None => caught(|| self.run(stage, torrent, at)),
        }
    }

    fn run(&self, stage: &Stage, torrent: &Torrent, at: usize) {
        let room = Room::new(stage, self.utp, &self.to_string(), at);
        let (_tracker, announce) = room.tracker();
        let file = torrent.announced(&room.home.join("it.torrent"), &announce);
        let magnet = torrent.magnet(Some(&announce));
        let leech_gets = match self.by {
            By::Torrent => text(&file),
            By::Magnet => magnet.as_str(),
        };
        let data = stage.data();
        let out = room.out();
        let our_addr = room.our_addr();
        let job = |what, data, peers| Job {
            lab: room.lab,
            what,
            data,
            home: &room.home,
            port: room.port,
            utp: self.utp,
            peers,
            patience: SOON,
        };
        match self.direction {
            Direction::OursSeeds => {
                let mut seed = room.peer(&["seed", text(&file), "--data", text(&data)]);
                seed.event("seeding", SOON);
                // Whoever is told of peers by the tracker alone must find us there.
                std::thread::sleep(Duration::from_millis(300));
                let peers = [our_addr];
                self.client.fetch(&job(leech_gets, &out, &peers));
            }
            Direction::OursFetches => {
                let _seed = self.client.seed(&job(text(&file), &data, &[]));
                let peer = room.their_addr();
                let mut fetch =
                    room.peer(&["fetch", leech_gets, "--out", text(&out), "--peer", &peer]);
                fetch.event("complete", SOON);
                assert!(fetch.end(SOON).success(), "{}", fetch.said());
            }
        }
        let mut truth = stage.truth.clone();
        if self.client == Client::Transmission && self.direction == Direction::OursSeeds {
            // Transmission makes no file for an empty one.
            truth.0.retain(|path, _| path != "b/empty");
        }
        room.check(&truth);
    }
}
