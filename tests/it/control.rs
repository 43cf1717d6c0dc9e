//! A running peer told what to do by its control socket.

use std::time::{Duration, Instant};

use serde_json::Value;
use swarm_e2e::process::{run, run_ok};
use swarm_e2e::{Proc, Tree, get, small_site};

use crate::{SOON, publish, seed, text, tracker};

/// The bundles of the peer at that socket.
fn bundles(control: &str) -> Vec<Value> {
    let told = run_ok("swarm-peer", ["status", "--json", "--control", control]);
    let told: Value = serde_json::from_str(&told.stdout).expect("status prints JSON");
    let bundles = told["bundles"].as_array().cloned();
    bundles.expect("a list of bundles")
}

fn until(what: &str, wanted: impl Fn() -> bool) {
    let end = Instant::now() + SOON;
    while !wanted() {
        assert!(Instant::now() < end, "never {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_running_peer_takes_a_torrent_rests_and_goes_on() {
    let scratch = tempfile::tempdir().expect("scratch");
    let root = scratch.path().join("root");
    small_site(&root);
    let (_tracker, announce) = tracker(&["--open"]);
    let more = ["--tracker", &announce, "--bundle-target", "64MiB"];
    let published = publish(scratch.path(), "http://told.test", &root, &more);
    let (_seed, peer) = seed(&[text(&published.out)], &[]);
    let torrents = published.torrents();
    let torrent = text(&torrents[0]).to_owned();
    // A peer that serves another site, and is given this one too.
    let other_root = scratch.path().join("other-root");
    std::fs::create_dir_all(&other_root).expect("a folder");
    std::fs::write(other_root.join("a"), "another").expect("a file");
    let other_scratch = scratch.path().join("other");
    std::fs::create_dir_all(&other_scratch).expect("a folder");
    let other = publish(&other_scratch, "http://other.test", &other_root, &[]);
    let control = scratch.path().join("peer.sock");
    let control = text(&control).to_owned();
    let args = [
        "seed",
        text(&other.out),
        "--json",
        "--listen",
        "127.0.0.1:0",
    ];
    let mut running = Proc::start("swarm-peer", [&args[..], &["--control", &control]].concat());
    running.event("seeding", SOON);
    assert_eq!(bundles(&control).len(), 1);
    let out = scratch.path().join("added");
    let tell = |verb: &str, args: &[&str]| {
        let all = [&[verb][..], args, &["--control", &control]].concat();
        run_ok("swarm-peer", all)
    };
    tell("add", &[&torrent, "--out", text(&out), "--peer", &peer]);
    let of = |what: &str| -> Value {
        let bundles = bundles(&control);
        let name = |bundle: &&Value| bundle["name"] == "told.test";
        let found = bundles.iter().find(name);
        found.map_or(Value::Null, |bundle| bundle[what].clone())
    };
    until("whole", || of("state") == "seeding");
    Tree::of(&out.join("told.test")).assert_within(&Tree::of(&root));
    let hash = of("info_hash_v1").as_str().expect("a hybrid").to_owned();
    let seeds = || {
        let id: String = hash
            .as_bytes()
            .chunks(2)
            .map(|pair| format!("%{}", String::from_utf8_lossy(pair)))
            .collect();
        let host = announce
            .trim_start_matches("http://")
            .trim_end_matches("/announce");
        let addr = host.parse().expect("an address");
        let told = get(addr, host, &format!("/scrape?info_hash={id}"));
        let said = String::from_utf8_lossy(&told.body).into_owned();
        let after = said.split("8:completei").nth(1).expect("a scrape");
        after.split('e').next().and_then(|n| n.parse::<u32>().ok())
    };
    until("two seeds", || seeds() == Some(2));
    tell("pause", &[&hash[..10]]);
    until("paused", || of("state") == "paused");
    // The tracker sends nobody to who does not answer.
    until("one seed", || seeds() == Some(1));
    assert_eq!(
        bundles(&control)
            .iter()
            .filter(|b| b["state"] == "seeding")
            .count(),
        1
    );
    tell("resume", &[]);
    until("seeding again", || of("state") == "seeding");
    until("two seeds again", || seeds() == Some(2));
    tell("remove", &[&hash]);
    assert_eq!(of("state"), Value::Null);
    until("one seed left", || seeds() == Some(1));
    let gone = run("swarm-peer", ["pause", &hash, "--control", &control]);
    assert_eq!(gone.code, Some(1), "{}", gone.stderr);
}

#[test]
fn files_are_chosen_of_what_a_running_peer_is_given() {
    let scratch = tempfile::tempdir().expect("scratch");
    let root = scratch.path().join("root");
    std::fs::create_dir_all(&root).expect("a folder");
    for name in ["a.jpg", "b.txt", "c.jpg"] {
        std::fs::write(root.join(name), name.repeat(20_000)).expect("a file");
    }
    let more = ["--no-variants", "--bundle-target", "64MiB"];
    let published = publish(scratch.path(), "http://chosen.test", &root, &more);
    let (_seed, peer) = seed(&[text(&published.out)], &[]);
    let torrents = published.torrents();
    let torrent = text(&torrents[0]).to_owned();
    let control = scratch.path().join("peer.sock");
    let control = text(&control).to_owned();
    let other = scratch.path().join("other");
    std::fs::create_dir_all(&other).expect("a folder");
    let other = publish(&other, "http://other.test", &root, &[]);
    let args = ["seed", text(&other.out), "--json", "--control", &control];
    let mut running = Proc::start("swarm-peer", args);
    running.event("seeding", SOON);
    let out = scratch.path().join("out");
    let add = |more: &[&str]| {
        let args = ["add", &torrent, "--out", text(&out), "--control", &control];
        run("swarm-peer", [&args[..], &["--peer", &peer], more].concat())
    };
    // What cannot be is said in one line.
    for (pick, code, why) in [
        ("*.png", 1, "*.png: no such file"),
        ("99", 1, "99: no such file"),
        ("[", 2, "bad pattern ["),
    ] {
        let refused = add(&["--file", pick]);
        assert_eq!(refused.code, Some(code), "{}", refused.stderr);
        assert!(refused.stderr.contains(why), "{}", refused.stderr);
    }
    assert_eq!(bundles(&control).len(), 1);
    let added = add(&["--file", "*.jpg", "--sequential", "--paused"]);
    assert_eq!(added.code, Some(0), "{}", added.stderr);
    let of = |what: &str| {
        let bundles = bundles(&control);
        let found = bundles.iter().find(|one| one["name"] == "chosen.test");
        found.map_or(Value::Null, |one| one[what].clone())
    };
    until("paused", || of("state") == "paused");
    assert_eq!(of("down_bytes"), 0);
    let again = add(&["--file", "b.txt"]);
    assert_eq!(again.code, Some(1), "{}", again.stderr);
    assert!(
        again.stderr.contains("it is here already"),
        "{}",
        again.stderr
    );
    run_ok("swarm-peer", ["resume", "--control", &control]);
    until("finished", || of("state") == "finished");
    let shown = run_ok("swarm-peer", ["status", "--control", &control]).stdout;
    assert!(shown.contains("chosen.test: finished "), "{shown}");
    let top = out.join("chosen.test");
    for name in ["a.jpg", "c.jpg"] {
        let found = std::fs::read_to_string(top.join(name)).expect("chosen");
        assert!(found == name.repeat(20_000), "{name}");
    }
    assert!(!top.join("b.txt").exists());
}

#[test]
fn a_fetch_that_somebody_paused_waits_longer_than_its_patience() {
    let scratch = tempfile::tempdir().expect("scratch");
    let root = scratch.path().join("root");
    small_site(&root);
    let published = publish(scratch.path(), "http://rest.test", &root, &[]);
    let (_seed, peer) = seed(&[text(&published.out)], &[]);
    let torrents = published.torrents();
    let control = scratch.path().join("peer.sock");
    let control = text(&control).to_owned();
    let out = scratch.path().join("out");
    // So slow that it is paused long before it is done.
    let mut args = vec!["fetch", text(&torrents[0]), "--out", text(&out), "--json"];
    args.extend(["--peer", &peer, "--control", &control]);
    args.extend(["--timeout", "4s", "--down", "300kbit"]);
    let began = Instant::now();
    let mut fetching = Proc::start("swarm-peer", args);
    fetching.event_where("progress", SOON, |told| {
        told["down_bytes"].as_u64() > Some(0)
    });
    run_ok("swarm-peer", ["pause", "--control", &control]);
    until("paused", || bundles(&control)[0]["state"] == "paused");
    // Three times its patience.
    std::thread::sleep(Duration::from_secs(12));
    assert_eq!(
        bundles(&control)[0]["state"],
        "paused",
        "{}",
        fetching.said()
    );
    assert!(
        fetching.last_event("complete").is_none(),
        "{}",
        fetching.said()
    );
    let lift = ["limit", "--down", "unlimited", "--control", &control];
    run_ok("swarm-peer", lift);
    run_ok("swarm-peer", ["resume", "--control", &control]);
    let ended = fetching.end(SOON);
    assert_eq!(ended.code(), Some(0), "{}", fetching.said());
    assert!(began.elapsed() > Duration::from_secs(12));
    Tree::of(&out.join("rest.test")).assert_within(&Tree::of(&root));
    // Patience is what it was where nobody pauses.
    let out = scratch.path().join("stalled");
    let mut args = vec!["fetch", text(&torrents[0]), "--out", text(&out)];
    args.extend(["--peer", "127.0.0.1:9", "--timeout", "3s"]);
    assert_eq!(run("swarm-peer", args).code, Some(3));
}
