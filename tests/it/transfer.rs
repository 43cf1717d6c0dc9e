//! Our own peers among themselves: every way to name what is wanted, and a kill in the middle.

use std::fs;
use std::time::Duration;

use serde_json::Value;
use swarm_e2e::origin::Origin;
use swarm_e2e::process::{run, run_ok};
use swarm_e2e::{Proc, Tree, small_site};

use crate::{SOON, publish, seed, text, tracker};

/// Publishes the small site, seeds it, and hands over what a test needs.
struct Seeded {
    scratch: tempfile::TempDir,
    published: crate::Published,
    truth: Tree,
    announce: String,
    _tracker: Proc,
    _seed: Proc,
    peer: String,
}

fn seeded(host: &str, more: &[&str]) -> Seeded {
    let scratch = tempfile::tempdir().expect("scratch");
    let root = scratch.path().join("root");
    small_site(&root);
    let (tracker, announce) = tracker(&["--open"]);
    let site = format!("http://{host}");
    let published = publish(
        scratch.path(),
        &site,
        &root,
        &["--tracker", &announce, "--bundle-target", "2MiB"],
    );
    let (seed, peer) = seed(&[text(&published.out)], more);
    Seeded {
        truth: Tree::of(&root),
        scratch,
        published,
        announce,
        _tracker: tracker,
        _seed: seed,
        peer,
    }
}

#[test]
fn every_bundle_comes_by_its_torrent_over_the_tracker() {
    let seeded = seeded("torrent.test", &[]);
    let out = seeded.scratch.path().join("fetched");
    for torrent in seeded.published.torrents() {
        run_ok("swarm-peer", ["fetch", text(&torrent), "--out", text(&out)]);
    }
    // Equal content is stored once in a bundle: foreign clients see one name, the site record both.
    let got = Tree::of(&out.join("torrent.test"));
    let missing: Vec<_> = seeded
        .truth
        .0
        .iter()
        .filter(|(path, digest)| got.0.get(*path) != Some(*digest))
        .collect();
    assert!(
        missing.iter().all(|(path, _)| path.starts_with("copies/")) && missing.len() < 2,
        "{missing:?}"
    );
}

#[test]
fn a_magnet_needs_nothing_but_the_tracker() {
    let seeded = seeded("magnet.test", &[]);
    let torrent = &seeded.published.torrents()[0];
    let told: Value =
        serde_json::from_str(&run_ok("swarm-peer", ["inspect", "--json", text(torrent)]).stdout)
            .expect("inspect prints JSON");
    for (name, urn) in [
        (
            "v1",
            format!(
                "urn:btih:{}",
                told["info_hash_v1"].as_str().expect("a hybrid has v1")
            ),
        ),
        (
            "v2",
            format!(
                "urn:btmh:1220{}",
                told["info_hash_v2"].as_str().expect("a hybrid has v2")
            ),
        ),
    ] {
        let magnet = format!("magnet:?xt={urn}&tr={}", seeded.announce);
        let out = seeded.scratch.path().join(name);
        run_ok("swarm-peer", ["fetch", &magnet, "--out", text(&out)]);
        let got = Tree::of(&out.join("magnet.test"));
        assert!(!got.0.is_empty());
        got.assert_within(&seeded.truth);
    }
}

#[test]
fn the_site_record_brings_the_whole_site() {
    let seeded = seeded("record.test", &[]);
    let out = seeded.scratch.path().join("fetched");
    let key = format!("record.test={}", seeded.published.root_key());
    let record = seeded.published.out.join("manifest");
    run_ok(
        "swarm-peer",
        [
            "fetch",
            text(&record),
            "--site-key",
            &key,
            "--out",
            text(&out),
            "--peer",
            &seeded.peer,
        ],
    );
    seeded
        .truth
        .assert_within(&Tree::of(&out.join("record.test")));
}

#[test]
fn the_tracker_tells_how_many_hold_a_torrent_to_who_only_asks() {
    let seeded = seeded("scrape.test", &[]);
    let torrent = largest(&seeded.published.torrents());
    // Seeds and leeches, by each id of the torrent.
    let asked = || -> Vec<(u64, u64)> {
        let told = run_ok(
            "swarm-peer",
            ["inspect", "--scrape", "--json", text(&torrent)],
        );
        let told: Value = serde_json::from_str(&told.stdout).expect("inspect prints JSON");
        let rows = told["scrape"].as_array().expect("figures").iter();
        let figure = |row: &Value, name: &str| row[name].as_u64().unwrap_or(99);
        let row = |row| (figure(row, "seeds"), figure(row, "leeches"));
        rows.map(row).collect()
    };
    let one_seed = |rows: Vec<(u64, u64)>| rows.len() >= 2 && rows.iter().all(|r| *r == (1, 0));
    let began = std::time::Instant::now();
    // Until the seed is listed.
    while !one_seed(asked()) {
        assert!(began.elapsed() < SOON, "{:?}", asked());
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(one_seed(asked()), "who asks is nobody");
}

/// A mirror holds the site's files, but none of the compressed variants that were published beside
/// them: who wants those too is told by `status` what the mirror lacks.
#[test]
fn a_whole_site_comes_from_a_web_seed_alone_and_status_tells_how_that_does() {
    let scratch = tempfile::tempdir().expect("scratch");
    let root = scratch.path().join("mirror/web.test");
    small_site(&root);
    let origin = Origin::start(&scratch.path().join("mirror"));
    let mirror = format!("http://{}/", origin.addr);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let dead = format!("http://{}/", nobody.local_addr().expect("bound"));
    drop(nobody);
    let site = "http://web.test";
    let published = publish(scratch.path(), site, &root, &["--bundle-target", "2MiB"]);
    let key = format!("web.test={}", published.root_key());
    let (out, state) = (scratch.path().join("fetched"), scratch.path().join("state"));
    let record = published.out.join("manifest");
    let (record, state) = (text(&record), text(&state));
    let mut args = vec!["fetch", record, "--site-key", &key, "--state", state];
    args.extend([
        "--web-seed",
        &mirror,
        "--web-seed",
        &dead,
        "--json",
        "--out",
    ]);
    run_ok("swarm-peer", [&args[..], &[text(&out)]].concat());
    Tree::of(&root).assert_within(&Tree::of(&out.join("web.test")));

    let again = scratch.path().join("again");
    let all = [&args[..], &[text(&again), "--seed"]].concat();
    let _fetch = Proc::start("swarm-peer", all);
    let began = std::time::Instant::now();
    loop {
        let told = run("swarm-peer", ["status", "--json", "--state", state]).stdout;
        let told: Value = serde_json::from_str(&told).unwrap_or_default();
        let bundles = told["bundles"].as_array().into_iter().flatten();
        let seeds: Vec<_> = bundles.map(|bundle| &bundle["web_seeds"]).collect();
        let urls = |seeds: &&&Value| seeds[0]["url"] == *mirror && seeds[1]["url"] == *dead;
        assert_eq!(seeds.iter().filter(urls).count(), seeds.len(), "{told}");
        let lacks = |seeds: &&Value| seeds[0]["missing_files"].as_u64() > Some(0);
        let waits = |seeds: &&Value| seeds[1]["state"] == "waiting" && seeds[1]["wait"].is_u64();
        if seeds.iter().any(lacks) && seeds.iter().any(waits) {
            break;
        }
        assert!(began.elapsed() < SOON, "{told}");
        std::thread::sleep(Duration::from_millis(200));
    }
    let words = run_ok("swarm-peer", ["status", "--state", state]).stdout;
    assert!(words.contains(&format!("  web seed {mirror}: ")), "{words}");
}

#[test]
fn a_fetch_that_was_killed_goes_on_where_it_was() {
    let seeded = seeded("killed.test", &["--upload", "8Mbit"]);
    let torrent = largest(&seeded.published.torrents());
    let out = seeded.scratch.path().join("fetched");
    let args = ["fetch", text(&torrent), "--out", text(&out), "--json"];
    let mut fetch = Proc::start("swarm-peer", args);
    fetch.event_where("progress", SOON, |told| told["have"].as_u64() > Some(20));
    // What is synced is recorded within a second or so; give it that.
    std::thread::sleep(Duration::from_millis(1500));
    fetch.kill();
    let mut again = Proc::start("swarm-peer", args);
    let resumed = again.event("resumed", SOON);
    assert!(
        resumed["have"].as_u64() > Some(0),
        "nothing was kept: {resumed}"
    );
    again.event("complete", SOON);
    assert!(again.end(SOON).success());
    let got = Tree::of(&out.join("killed.test"));
    assert!(got.0.contains_key("media/large.bin"), "{:?}", got.0.keys());
    got.assert_within(&seeded.truth);
}

fn largest(torrents: &[std::path::PathBuf]) -> std::path::PathBuf {
    let size = |path: &std::path::PathBuf| {
        let told: Value =
            serde_json::from_str(&run_ok("swarm-peer", ["inspect", "--json", text(path)]).stdout)
                .expect("inspect prints JSON");
        told["length"].as_u64().expect("a torrent has a length")
    };
    torrents
        .iter()
        .max_by_key(|path| size(path))
        .expect("some bundle")
        .clone()
}

#[test]
fn verify_names_the_file_that_rotted() {
    let scratch = tempfile::tempdir().expect("scratch");
    let root = scratch.path().join("root");
    small_site(&root);
    let published = publish(scratch.path(), "http://rot.test", &root, &[]);
    run_ok("swarm-peer", ["verify", text(&published.out)]);
    let victim = root.join("media/large.bin");
    let mut bytes = fs::read(&victim).expect("it was published");
    bytes[1_000_000] ^= 1;
    fs::write(&victim, bytes).expect("scratch");
    let ended = run("swarm-peer", ["verify", text(&published.out)]);
    assert_eq!(ended.code, Some(4), "{}", ended.stderr);
    assert!(format!("{}{}", ended.stdout, ended.stderr).contains("media/large.bin"));
}
