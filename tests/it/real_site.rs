//! A real site of 500 pages, Debian's Python documentation: published once, fetched whole by our
//! peer, by aria2 and by libtorrent (by the v1 and by the v2 hash), every file compared.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use swarm_e2e::process::{Proc, run_ok};
use swarm_e2e::{Tree, beside, site, tool};

use crate::{Published, publish, seed, text, tracker};

const PATIENCE: Duration = Duration::from_secs(300);

/// Everything but what publishing stored once under another name must be there.
fn assert_site(truth: &Tree, got: &Tree) {
    let digests: BTreeSet<_> = got.0.values().collect();
    let missing: Vec<_> = truth
        .0
        .iter()
        .filter(|(path, digest)| match got.0.get(*path) {
            Some(other) => other != *digest,
            None => !digests.contains(digest),
        })
        .map(|(path, _)| path)
        .collect();
    assert!(
        missing.is_empty(),
        "{} of {} wrong: {missing:?}",
        missing.len(),
        truth.0.len()
    );
}

fn inspect(torrent: &Path) -> Value {
    serde_json::from_str(&run_ok("swarm-peer", ["inspect", "--json", text(torrent)]).stdout)
        .expect("inspect prints JSON")
}

#[test]
fn python_docs_reach_every_client_whole() {
    let scratch = tempfile::tempdir().expect("scratch");
    let root = scratch.path().join("root");
    site::python_docs(&root);
    let truth = Tree::of(&root);
    let pages = truth
        .0
        .keys()
        .filter(|path| path.ends_with(".html"))
        .count();
    assert!(pages >= 450, "only {pages} pages in {}", root.display());
    let (_tracker, announce) = tracker(&["--open"]);
    let published = publish(
        scratch.path(),
        "http://docs.test",
        &root,
        &["--tracker", &announce, "--bundle-target", "16MiB"],
    );
    let (_seed, peer) = seed(&[text(&published.out)], &[]);
    let torrents = published.torrents();
    println!(
        "{pages} pages, {} files, {} bundles",
        truth.0.len(),
        torrents.len()
    );

    ours(&scratch.path().join("ours"), &published, &peer, &truth);
    aria2(&scratch.path().join("aria2"), &published, &truth);
    let hashes: Vec<_> = torrents.iter().map(|path| inspect(path)).collect();
    let v1 = hashes
        .iter()
        .map(|told| format!("urn:btih:{}", told["info_hash_v1"].as_str().expect("v1")));
    libtorrent(&scratch.path().join("lt1"), v1, &announce, &peer, &truth);
    let v2 = hashes.iter().map(|told| {
        format!(
            "urn:btmh:1220{}",
            told["info_hash_v2"].as_str().expect("v2")
        )
    });
    libtorrent(&scratch.path().join("lt2"), v2, &announce, &peer, &truth);
    libtorrent_files(&scratch.path().join("lt-files"), &torrents, &truth);
    one_change_moves_one_bundle(scratch.path(), &root, &announce);
}

fn ours(out: &Path, published: &Published, peer: &str, truth: &Tree) {
    let key = format!("docs.test={}", published.root_key());
    let record = published.out.join("manifest");
    run_ok(
        "swarm-peer",
        [
            "fetch",
            text(&record),
            "--site-key",
            &key,
            "--out",
            text(out),
            "--peer",
            peer,
        ],
    );
    truth.assert_within(&Tree::of(&out.join("docs.test")));
}

fn aria2(out: &Path, published: &Published, truth: &Tree) {
    let aria2c = tool("aria2c", "aria2");
    let torrents = published.torrents();
    for torrent in &torrents {
        let output = Command::new(&aria2c)
            .args([
                "--seed-time=0",
                "--enable-dht=false",
                "--enable-dht6=false",
                "--bt-enable-lpd=false",
                "--enable-peer-exchange=false",
            ])
            .args([
                "--listen-port=16881-16999",
                "--summary-interval=0",
                "--console-log-level=warn",
                "--file-allocation=none",
                "--allow-overwrite=true",
            ])
            .arg(format!("--dir={}", out.display()))
            .arg(torrent)
            .output()
            .expect("aria2c starts");
        assert!(
            output.status.success(),
            "aria2: {}",
            String::from_utf8_lossy(&output.stdout)
        );
    }
    assert_site(truth, &Tree::of(&out.join("docs.test")));
}

fn lt(args: &[String]) {
    let python = tool("python3", "python3");
    let system = Path::new("/usr/bin/python3");
    let mut all = vec![text(&beside("interop/lt.py")).to_owned()];
    all.extend_from_slice(args);
    let program = if system.is_file() { system } else { &python };
    let mut client = Proc::start_program("libtorrent", program, &all);
    let status = client.end(PATIENCE);
    assert!(status.success(), "libtorrent: {}", client.said());
}

fn libtorrent(
    out: &Path,
    urns: impl Iterator<Item = String>,
    announce: &str,
    peer: &str,
    truth: &Tree,
) {
    let mut args = vec!["fetch".to_owned()];
    args.extend(urns.map(|urn| format!("magnet:?xt={urn}&tr={announce}&x.pe={peer}")));
    args.extend([
        "--out".into(),
        text(out).into(),
        "--peer".into(),
        peer.into(),
        "--seconds".into(),
        "240".into(),
    ]);
    lt(&args);
    assert_site(truth, &Tree::of(&out.join("docs.test")));
}

fn libtorrent_files(out: &Path, torrents: &[std::path::PathBuf], truth: &Tree) {
    let mut args = vec!["fetch".to_owned()];
    args.extend(torrents.iter().map(|path| text(path).to_owned()));
    args.extend([
        "--out".into(),
        text(out).into(),
        "--seconds".into(),
        "240".into(),
    ]);
    lt(&args);
    assert_site(truth, &Tree::of(&out.join("docs.test")));
}

/// Publishes the same site again with one file changed, then added, then removed.
fn one_change_moves_one_bundle(scratch: &Path, root: &Path, announce: &str) {
    let again = || {
        let published = publish(
            scratch,
            "http://docs.test",
            root,
            &["--tracker", announce, "--bundle-target", "16MiB"],
        );
        published
            .torrents()
            .into_iter()
            .map(|path| path.file_name().expect("a file").to_owned())
            .collect::<BTreeSet<_>>()
    };
    let before = again();
    assert!(before.len() >= 5, "{} bundles", before.len());
    let page = root.join("library/asyncio.html");
    let mut html = fs::read(&page).expect("a page of the site");
    html.extend_from_slice(b"<!-- changed -->\n");
    fs::write(&page, html).expect("scratch");
    let changed = again();
    fs::write(
        root.join("library/brand-new.html"),
        "<!doctype html><title>new</title>",
    )
    .expect("scratch");
    let added = again();
    fs::remove_file(root.join("library/zipapp.html")).expect("a page of the site");
    let removed = again();
    for (what, from, to) in [
        ("changed", &before, &changed),
        ("added", &changed, &added),
        ("removed", &added, &removed),
    ] {
        let new = to.difference(from).count();
        println!("one file {what}: {new} of {} bundles new", to.len());
        assert!((1..=2).contains(&new), "one file {what}: {new} bundles new");
    }
}
