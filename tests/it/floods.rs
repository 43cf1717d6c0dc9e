//! T11: a million messages of each kind, well formed and not, and memory stays flat.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use swarm_e2e::flood::{Kind, Memory, OwnIds, Target, kinds};
use swarm_e2e::process::run_ok;
use swarm_e2e::{Proc, Tree, small_site};
use swarm_proto::metainfo::Metainfo;

use crate::{SOON, publish, seed, text};

/// Messages of each kind.
const MESSAGES: usize = 1_000_000;
/// Of each kind, before memory is looked at first: what the runtime, the allocator and the page of
/// each code path take once.
const WARM_UP: usize = 20_000;
/// How much more anonymous memory there may be after the floods than before, in KiB. The queues of
/// one connection hold at most a few MiB, and the allocator keeps some of what it is given back.
const GROWTH_MAX: u64 = 16 * 1024;
/// How far memory may rise meanwhile, in KiB.
const PEAK_MAX: u64 = 32 * 1024;

struct Site {
    scratch: tempfile::TempDir,
    published: crate::Published,
    torrent: PathBuf,
    metainfo: Metainfo,
    truth: Tree,
}

impl Site {
    fn new(host: &str) -> Self {
        let scratch = tempfile::tempdir().expect("scratch");
        let root = scratch.path().join("root");
        small_site(&root);
        let site = format!("http://{host}");
        let published = publish(scratch.path(), &site, &root, &["--bundle-target", "2MiB"]);
        let read = |path: &PathBuf| Metainfo::parse(&fs::read(path).expect("publish made it"));
        let largest = published.torrents().into_iter().max_by_key(|path| {
            let meta = read(path).expect("publish made it");
            meta.geometry().total_length()
        });
        let torrent = largest.expect("some bundle");
        let metainfo = read(&torrent).expect("publish made it");
        Self {
            truth: Tree::of(&root),
            scratch,
            published,
            torrent,
            metainfo,
        }
    }

    fn target(&self, addr: &str) -> Target {
        Target {
            addr: addr.parse::<SocketAddr>().expect("an address"),
            info_hash: *self.metainfo.info_hash_v1().expect("a hybrid").as_bytes(),
        }
    }

    fn kinds(&self, target: &Target) -> Vec<Kind> {
        let file = self
            .metainfo
            .files()
            .iter()
            .find_map(|file| file.pieces_root);
        let root = file.map_or([0; 32], |root| root);
        let pieces = self.metainfo.geometry().piece_count();
        kinds(pieces, &root, &OwnIds::of(target))
    }

    fn whole(&self, out: &Path, host: &str) {
        Tree::of(&out.join(host)).assert_within(&self.truth);
    }
}

/// Floods a peer with every kind and holds its memory to the bounds.
fn flood(proc: &Proc, target: &Target, kinds: &[Kind]) {
    for (nth, kind) in kinds.iter().enumerate() {
        target.flood(nth, kind, WARM_UP);
    }
    std::thread::sleep(std::time::Duration::from_secs(1));
    let pid = proc.pid();
    let before = Memory::of(pid);
    Memory::reset_peak(pid);
    for (nth, kind) in kinds.iter().enumerate() {
        let began = std::time::Instant::now();
        let sent = target.flood(100 + nth, kind, MESSAGES);
        let now = Memory::of(pid);
        println!(
            "{:32} {:9} messages {:5} connections {:6.2} s, {} KiB",
            kind.name,
            sent.messages,
            sent.connections,
            began.elapsed().as_secs_f64(),
            now.anon
        );
        assert!(
            now.anon < before.anon + GROWTH_MAX,
            "{}: {before:?} has become {now:?}",
            kind.name
        );
    }
    let after = Memory::of(pid);
    println!("{before:?}, after all {after:?}");
    assert!(
        after.peak < before.peak + PEAK_MAX,
        "{before:?}, then {after:?}"
    );
}

#[test]
fn t11_a_seed_stays_small_under_a_million_messages_of_each_kind_and_serves_on() {
    let host = "flooded-seed.test";
    let site = Site::new(host);
    let (mut seed, addr) = seed(&[text(&site.published.out)], &[]);
    seed.event("seeding", SOON);
    let target = site.target(&addr);
    flood(&seed, &target, &site.kinds(&target));
    let out = site.scratch.path().join("out");
    let torrent = text(&site.torrent);
    run_ok(
        "swarm-peer",
        ["fetch", torrent, "--out", text(&out), "--peer", &addr],
    );
    site.whole(&out, host);
}

#[test]
fn t11_a_leech_stays_small_under_a_million_messages_of_each_kind_and_ends_right() {
    let host = "flooded-leech.test";
    let site = Site::new(host);
    let out = site.scratch.path().join("out");
    let nobody = swarm_e2e::free_addr().to_string();
    let args = ["fetch", text(&site.torrent), "--out", text(&out), "--json"];
    let more = ["--listen", "127.0.0.1:0", "--peer", &nobody];
    let mut fetch = Proc::start("swarm-peer", args.into_iter().chain(more));
    let listening = fetch.event("listening", SOON);
    let addr = listening["peer"].as_str().expect("an address").to_owned();
    fetch.event("progress", SOON);
    let target = site.target(&addr);
    flood(&fetch, &target, &site.kinds(&target));
    let (_seed, _) = seed(&[text(&site.published.out)], &["--peer", &addr]);
    fetch.event("complete", SOON);
    assert!(fetch.end(SOON).success(), "{}", fetch.said());
    site.whole(&out, host);
}
