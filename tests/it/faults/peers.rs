//! Peers that vanish, leave in the middle of a block or crawl, and a tracker that forgets.

use std::time::Duration;

use swarm_e2e::{Proc, Tree, free_addr};

use crate::truth::{TOP, Truth};
use crate::{SOON, seed, text};

/// A fetch of all of it from these peers; more flags may follow.
fn fetch(truth: &Truth, name: &str, peers: &[String], more: &[&str]) -> Proc {
    let out = truth.scratch.path().join(name);
    let state = truth.scratch.path().join(format!("{name}-state"));
    let mut args = vec!["fetch", text(&truth.torrent), "--out", text(&out)];
    args.extend(["--state", text(&state), "--json", "--listen", "127.0.0.1:0"]);
    for peer in peers {
        args.extend(["--peer", peer]);
    }
    args.extend(more);
    Proc::start("swarm-peer", args)
}

fn ends_right(truth: &Truth, name: &str, mut fetch: Proc) {
    fetch.event("complete", SOON);
    assert!(fetch.end(SOON).success(), "{}", fetch.said());
    let out = truth.scratch.path().join(name);
    truth.tree.assert_within(&Tree::of(&out.join(TOP)));
}

fn half(truth: &Truth) -> u64 {
    u64::from(truth.metainfo.geometry().piece_count()) / 2
}

#[test]
fn f8_a_fetch_goes_on_when_half_of_its_peers_are_killed() {
    let truth = Truth::new();
    let data = truth.scratch.path();
    let what = [text(&truth.torrent), "--data", text(data)];
    let mut seeds: Vec<_> = (0..4)
        .map(|_| seed(&what, &["--upload", "6Mbit"]))
        .collect();
    let peers: Vec<_> = seeds.iter().map(|(_, addr)| addr.clone()).collect();
    let mut fetch = fetch(&truth, "out", &peers, &[]);
    fetch.event_where("progress", SOON, |told| told["have"].as_u64() >= Some(10));
    for (seed, _) in &mut seeds[..2] {
        seed.kill();
    }
    ends_right(&truth, "out", fetch);
}

#[test]
fn f9_a_tracker_that_starts_again_empty_knows_everybody_within_an_interval() {
    let truth = Truth::new();
    let data = truth.scratch.path();
    let http = free_addr().to_string();
    let announce = format!("http://{http}/announce");
    let tracker = || {
        let args = [
            "run",
            "--json",
            "--open",
            "--interval",
            "3s",
            "--http",
            &http,
        ];
        let mut tracker = Proc::start("swarm-tracker", args);
        tracker.event("listening", SOON);
        tracker
    };
    let mut first = tracker();
    let what = [text(&truth.torrent), "--data", text(data)];
    let (_seed, _) = seed(&what, &["--tracker", &announce, "--upload", "8Mbit"]);
    let mut early = fetch(&truth, "early", &[], &["--tracker", &announce]);
    early.event_where("progress", SOON, |told| told["have"].as_u64() > Some(5));
    first.kill();
    // The swarm goes on without it.
    let half = half(&truth);
    early.event_where("progress", SOON, |told| told["have"].as_u64() >= Some(half));
    let _second = tracker();
    let late = fetch(&truth, "late", &[], &["--tracker", &announce]);
    ends_right(&truth, "early", early);
    ends_right(&truth, "late", late);
}

#[test]
fn f11_a_peer_of_a_few_bytes_a_second_holds_up_nothing_but_its_own_block() {
    let truth = Truth::new();
    let slow = truth.seed(1.0);
    let good = truth.seed(3_000_000.0);
    // The slow one is alone at first, so that blocks are surely asked of it.
    let mut fetch = fetch(&truth, "out", &[slow.addr.to_string()], &[]);
    let listening = fetch.event("listening", SOON);
    let end = std::time::Instant::now() + SOON;
    let mut asked = Vec::new();
    while asked.is_empty() {
        assert!(std::time::Instant::now() < end, "nothing was asked of it");
        std::thread::sleep(Duration::from_millis(50));
        asked = slow.take_asked();
    }
    let addr = listening["peer"].as_str().expect("an address").parse();
    good.call(addr.expect("an address"));
    ends_right(&truth, "out", fetch);
    println!(
        "asked of the slow peer: {} blocks",
        asked.len() + slow.take_asked().len()
    );
}

#[test]
fn f17_a_peer_that_leaves_in_the_middle_of_a_block_costs_no_more_than_that() {
    let truth = Truth::new();
    let leaver = truth.seed(2_000_000.0);
    leaver.leave_after(40);
    let stayer = truth.seed(2_000_000.0);
    let peers = [leaver.addr.to_string(), stayer.addr.to_string()];
    let fetch = fetch(&truth, "out", &peers, &[]);
    ends_right(&truth, "out", fetch);
    let from_leaver = leaver.take_asked().len();
    assert!(
        from_leaver > 40,
        "it was asked for {from_leaver} blocks only"
    );
}
