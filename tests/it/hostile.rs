//! Strangers that lie: each is refused by name in the log, and nobody gets a wrong byte.

use std::fs;
use std::path::Path;

use swarm_e2e::liar::{LyingSeed, parrot};
use swarm_e2e::process::{run, run_ok};
use swarm_e2e::{Proc, Tree, get, small_site};
use swarm_proto::metainfo::Metainfo;

use crate::{Published, SOON, publish, seed, text};

const HOST: &str = "hostile.test";

fn published(scratch: &Path) -> (Published, Tree) {
    let root = scratch.join("root");
    small_site(&root);
    let published = publish(
        scratch,
        &format!("http://{HOST}"),
        &root,
        &["--bundle-target", "2MiB"],
    );
    (published, Tree::of(&root))
}

/// The bundle that holds `file`, and all its pieces' bytes in order, padding included.
fn space_with(published: &Published, scratch: &Path, file: &str) -> (Metainfo, Vec<u8>, usize) {
    let out = scratch.join("truth");
    let (_seed, peer) = seed(&[text(&published.out)], &[]);
    for torrent in published.torrents() {
        let metainfo = Metainfo::parse(&fs::read(&torrent).expect("publish made it"))
            .expect("publish made it");
        let Some(wanted) = metainfo
            .files()
            .iter()
            .find(|entry| entry.path.join("/") == file)
        else {
            continue;
        };
        let at = usize::try_from(wanted.offset).expect("small");
        run_ok(
            "swarm-peer",
            [
                "fetch",
                text(&torrent),
                "--out",
                text(&out),
                "--peer",
                &peer,
            ],
        );
        let mut space =
            vec![0; usize::try_from(metainfo.geometry().total_length()).expect("small")];
        for entry in metainfo.files().iter().filter(|entry| !entry.pad) {
            let bytes = fs::read(out.join(metainfo.name()).join(entry.path.join("/")))
                .expect("just fetched");
            let start = usize::try_from(entry.offset).expect("small");
            space[start..start + bytes.len()].copy_from_slice(&bytes);
        }
        return (metainfo, space, at);
    }
    panic!("no bundle holds {file}");
}

#[test]
fn a_peer_that_lies_about_one_block_is_named_and_the_bytes_are_right() {
    let scratch = tempfile::tempdir().expect("scratch");
    let (published, truth) = published(scratch.path());
    let (metainfo, space, at) = space_with(&published, scratch.path(), "media/large.bin");
    let v1 = metainfo.info_hash_v1().expect("a hybrid");
    let liar = LyingSeed::start(
        *v1.as_bytes(),
        metainfo.geometry().piece_length(),
        space,
        at + 500_000,
    );
    let torrent = published.out.join(format!(
        "{}.torrent",
        metainfo.info_hash_v2().expect("a hybrid")
    ));
    let out = scratch.path().join("fetched");
    let liar_addr = liar.addr.to_string();
    // At first the liar is alone, so that the lie is surely heard; then an honest seed comes.
    let mut fetch = Proc::start(
        "swarm-peer",
        [
            "fetch",
            text(&torrent),
            "--out",
            text(&out),
            "--json",
            "--listen",
            "127.0.0.1:0",
            "--peer",
            &liar_addr,
        ],
    );
    let listening = fetch.event("listening", SOON);
    let line = fetch.says(&liar_addr, SOON);
    fetch.says("banned", SOON);
    println!("{line}");
    let (_seed, _) = seed(
        &[text(&published.out)],
        &["--peer", listening["peer"].as_str().expect("an address")],
    );
    fetch.event("complete", SOON);
    assert!(fetch.end(SOON).success(), "{}", fetch.said());
    assert!(liar.lies() > 0);
    Tree::of(&out.join(HOST)).assert_within(&truth);
}

#[test]
fn a_bridge_beside_a_liar_hands_on_right_bytes_only() {
    let scratch = tempfile::tempdir().expect("scratch");
    let (published, _) = published(scratch.path());
    let (metainfo, space, at) = space_with(&published, scratch.path(), "media/large.bin");
    let v1 = metainfo.info_hash_v1().expect("a hybrid");
    let liar = LyingSeed::start(
        *v1.as_bytes(),
        metainfo.geometry().piece_length(),
        space,
        at + 1_234_567,
    );
    let (_seed, honest) = seed(&[text(&published.out)], &["--upload", "40Mbit"]);
    let key = format!("{HOST}={}", published.root_key());
    let record = format!("{HOST}={}", text(&published.out.join("manifest")));
    let store = scratch.path().join("store");
    let args = [
        "run",
        "--json",
        "--listen",
        "127.0.0.1:0",
        "--peer-listen",
        "127.0.0.1:0",
        "--domain",
        "localhost",
        "--site",
        HOST,
        "--site-key",
        &key,
        "--record",
        &record,
        "--store",
        text(&store),
        "--peer",
        &liar.addr.to_string(),
        "--peer",
        &honest,
    ];
    let mut bridge = Proc::start("webseed-bridge", args);
    let listening = bridge.event("listening", SOON);
    let http = listening["http"]
        .as_str()
        .expect("an address")
        .parse()
        .expect("an address");
    let reply = get(http, "hostile-test.localhost", "/media/large.bin");
    assert_eq!(reply.status, 200, "{}", bridge.said());
    let right = fs::read(scratch.path().join("root/media/large.bin")).expect("it was published");
    assert!(
        reply.body == right,
        "{} bytes, some wrong",
        reply.body.len()
    );
}

#[test]
fn a_tracker_that_answers_rubbish_is_named_and_the_fetch_goes_on() {
    let scratch = tempfile::tempdir().expect("scratch");
    let (published, truth) = published(scratch.path());
    let (_seed, peer) = seed(&[text(&published.out)], &[]);
    for (name, answer) in [
        ("no-http", &b"\x00\x01\x02 rubbish"[..]),
        ("no-bencode", b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n<html>It works!</html>"),
        ("nested", b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllll"),
        ("huge", b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nd5:peers99999999999999:"),
    ] {
        let rubbish = format!("http://{}/announce", parrot(answer));
        let torrent = &published.torrents()[0];
        let out = scratch.path().join(name);
        let mut fetch = Proc::start("swarm-peer", ["fetch", text(torrent), "--out", text(&out), "--json", "--tracker", &rubbish, "--peer", &peer]);
        fetch.event("complete", SOON);
        let line = fetch.says(&rubbish, SOON);
        println!("{line}");
        assert!(fetch.end(SOON).success(), "{}", fetch.said());
        Tree::of(&out.join(HOST)).assert_within(&truth);
    }
}

#[test]
fn a_site_record_with_one_flipped_bit_is_refused_wherever_the_bit_is() {
    let scratch = tempfile::tempdir().expect("scratch");
    let (published, _) = published(scratch.path());
    let key = format!("{HOST}={}", published.root_key());
    let whole = fs::read(published.out.join("manifest")).expect("publish made it");
    let flipped = scratch.path().join("flipped");
    let step = whole.len() / 40;
    for at in (0..whole.len()).step_by(step.max(1)) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(&flipped, &bytes).expect("scratch");
        let out = scratch.path().join("never");
        let ended = run(
            "swarm-peer",
            [
                "fetch",
                text(&flipped),
                "--site-key",
                &key,
                "--out",
                text(&out),
                "--timeout",
                "5s",
            ],
        );
        assert_eq!(ended.code, Some(4), "bit {at}: {}", ended.stderr);
        assert!(!out.join(HOST).exists(), "bit {at}: something was written");
    }
}

#[test]
fn a_site_record_by_another_key_is_refused() {
    let scratch = tempfile::tempdir().expect("scratch");
    let (published, _) = published(scratch.path());
    let other = "1".repeat(64);
    let out = scratch.path().join("never");
    let record = published.out.join("manifest");
    let ended = run(
        "swarm-peer",
        [
            "fetch",
            text(&record),
            "--site-key",
            &format!("{HOST}={other}"),
            "--out",
            text(&out),
            "--timeout",
            "5s",
        ],
    );
    assert_ne!(ended.code, Some(0));
    assert!(!out.join(HOST).exists());
}
