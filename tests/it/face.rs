//! The peer's face: limits, choice, order, control, exit codes, as a user meets them.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use swarm_e2e::Proc;
use swarm_e2e::process::{run, run_ok};

use crate::{SOON, publish, seed, text};

/// A published site of a few bundles, and the directory of everything.
struct Site {
    scratch: tempfile::TempDir,
    published: crate::Published,
}

impl Site {
    fn new() -> Self {
        let scratch = tempfile::tempdir().expect("scratch");
        let root = scratch.path().join("root");
        for (path, len) in [
            ("index.html", 2000),
            ("big/film.bin", 3_000_000),
            ("img/a.jpg", 70_000),
            ("img/b.jpg", 50_000),
            ("img/notes.txt", 900),
            ("empty.css", 0),
        ] {
            let path = root.join(path);
            fs::create_dir_all(path.parent().expect("below the root")).expect("scratch");
            fs::write(path, swarm_e2e::site::noise(len as u64, len)).expect("scratch");
        }
        // One bundle, so that choice is among files and not among bundles.
        let more = ["--bundle-target", "64MiB"];
        let published = publish(scratch.path(), "http://face.test", &root, &more);
        Self { scratch, published }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// The torrent that holds a file, and the file's index in it.
    fn torrent_with(&self, path: &str) -> (PathBuf, u64) {
        for torrent in self.published.torrents() {
            let told = run_ok(
                "swarm-peer",
                ["inspect", "--json", "--files", text(&torrent)],
            );
            let told: Value = serde_json::from_str(&told.stdout).expect("JSON");
            let files = told["files"].as_array().expect("a list");
            if let Some(file) = files.iter().find(|file| file["path"] == path) {
                return (torrent, file["index"].as_u64().expect("a number"));
            }
        }
        panic!("no torrent holds {path}");
    }

    /// Runs `fetch` to its end.
    fn fetch(
        &self,
        what: &Path,
        out: &str,
        peer: &str,
        more: &[&str],
    ) -> swarm_e2e::process::Ended {
        let (out, state) = (self.path(out), self.path("fetch-state"));
        let mut args = vec!["fetch", text(what), "--json", "--out", text(&out)];
        args.extend(["--peer", peer, "--state", text(&state)]);
        args.extend(more);
        run("swarm-peer", args)
    }

    fn seed(&self, more: &[&str]) -> (Proc, String) {
        seed(&[text(&self.published.out)], more)
    }
}

fn names(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        match entry.path().is_dir() {
            true => found.extend(names(&entry.path()).iter().map(|n| format!("{name}/{n}"))),
            false => found.push(name),
        }
    }
    found.sort();
    found
}

#[test]
fn only_the_chosen_files_are_made_and_they_are_whole() {
    let site = Site::new();
    let (_seed, peer) = site.seed(&[]);
    let root = site.path("root");
    let (torrent, index) = site.torrent_with("img/a.jpg");
    for (out, picks, wanted) in [
        (
            "by-number",
            vec!["--file", &index.to_string()],
            vec!["img/a.jpg"],
        ),
        (
            "by-name",
            vec!["--file", "*.jpg"],
            vec!["img/a.jpg", "img/b.jpg"],
        ),
    ] {
        let ended = site.fetch(&torrent, out, &peer, &picks);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let top = site.path(out).join("face.test");
        assert_eq!(names(&top), wanted, "{picks:?}");
        for name in wanted {
            let (got, sent) = (fs::read(top.join(name)), fs::read(root.join(name)));
            assert!(got.expect("made") == sent.expect("published"), "{name}");
        }
    }
    let ended = site.fetch(&torrent, "none", &peer, &["--file", "no/such*"]);
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    assert!(ended.stderr.contains("no/such*"), "{}", ended.stderr);
    // The same of a site, by path.
    let key = format!("face.test={}", site.published.root_key());
    let record = site.published.out.join("manifest");
    let more = ["--site-key", &key, "--file", "img/*", "--file", "empty.css"];
    let ended = site.fetch(&record, "site", &peer, &more);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let wanted = ["empty.css", "img/a.jpg", "img/b.jpg", "img/notes.txt"];
    assert_eq!(names(&site.path("site").join("face.test")), wanted);
}

#[test]
fn in_order_means_that_the_first_bytes_come_first() {
    let site = Site::new();
    let (_seed, peer) = site.seed(&["--upload", "8Mbit"]);
    let (torrent, _) = site.torrent_with("big/film.bin");
    let (out, state) = (site.path("order"), site.path("order-state"));
    let mut args = vec!["fetch", text(&torrent), "--json", "--out", text(&out)];
    args.extend(["--peer", &peer, "--state", text(&state), "--sequential"]);
    args.extend(["--file", "big/film.bin"]);
    let mut fetch = Proc::start("swarm-peer", args);
    let told = fetch.event_where("progress", SOON, |told| {
        told["bytes"].as_u64() > Some(700_000)
    });
    let had = told["bytes"].as_u64().expect("a number") as usize;
    let film = fs::read(site.path("root/big/film.bin")).expect("published");
    let got = fs::read(out.join("face.test/big/film.bin")).expect("begun");
    let same = film.iter().zip(&got).take_while(|(a, b)| a == b).count();
    // Requests under way reach further than what has come, so holes are few and near the end.
    assert!(same * 10 >= had * 6, "{same} of {had} bytes from the start");
    fetch.event("complete", SOON);
    assert!(fetch.end(SOON).success());
    assert!(fs::read(out.join("face.test/big/film.bin")).expect("made") == film);
}

#[test]
fn a_running_peer_tells_what_it_does_and_obeys() {
    let site = Site::new();
    let (socket, state) = (site.path("seed.sock"), site.path("seed-state"));
    let more = ["--control", text(&socket), "--state", text(&state)];
    let (mut seed, peer) = site.seed(&[&more[..], &["--upload", "4Mbit"]].concat());
    seed.event("seeding", SOON);
    let (torrent, _) = site.torrent_with("big/film.bin");
    let mut fetch = {
        let (out, state) = (site.path("out"), site.path("fetch-state"));
        let args = [
            "fetch",
            text(&torrent),
            "--json",
            "--out",
            text(&out),
            "--peer",
            &peer,
        ];
        let more = ["--state", text(&state), "--seed-ratio", "0"];
        Proc::start("swarm-peer", [&args[..], &more[..]].concat())
    };
    fetch.event_where("progress", SOON, |told| told["have"].as_u64() > Some(0));
    let ask = ["status", "--json", "--peers", "--control", text(&socket)];
    let told: Value = serde_json::from_str(&run_ok("swarm-peer", ask).stdout).expect("JSON");
    assert_eq!(told["upload_limit"], 4_000_000);
    let bundles = told["bundles"].as_array().expect("a list");
    let connected = bundles.iter().find_map(|b| b["connected"][0].as_object());
    let connected = connected.expect("the fetching peer is connected");
    assert_eq!(connected["outgoing"], false);
    assert_eq!(connected["wants"], true);
    let client = connected["client"].as_str().expect("it says what it is");
    assert!(client.starts_with("Spikeswarm"), "{client}");
    let words = run_ok(
        "swarm-peer",
        ["status", "--peers", "--control", text(&socket)],
    )
    .stdout;
    for part in [
        "limit 4.0 Mbit/s",
        "info hash v2",
        "face.test",
        "Spikeswarm",
        "pex on",
    ] {
        assert!(words.contains(part), "{part:?} is not in {words}");
    }
    let limit = ["limit", "--upload", "unlimited", "--control", text(&socket)];
    run_ok("swarm-peer", limit);
    fetch.event("complete", SOON);
    // A ratio of nought is reached at once.
    assert_eq!(fetch.event("enough", SOON)["reason"], "ratio");
    assert!(fetch.end(SOON).success());
    run_ok("swarm-peer", ["stop", "--control", text(&socket)]);
    assert!(seed.end(SOON).success());
    assert!(!socket.exists());
    assert!(UnixStream::connect(&socket).is_err());
    let ended = run("swarm-peer", ["stop", "--control", text(&socket)]);
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
}

#[test]
fn who_is_told_where_to_listen_waits_for_callers() {
    let site = Site::new();
    let (torrent, _) = site.torrent_with("img/a.jpg");
    let (out, state) = (site.path("out"), site.path("state"));
    let begin = [
        "fetch",
        text(&torrent),
        "--json",
        "--out",
        text(&out),
        "--state",
        text(&state),
    ];
    let ended = run("swarm-peer", begin);
    assert_eq!(ended.code, Some(3), "nobody to ask: {}", ended.stderr);
    let began = Instant::now();
    let listen = ["--listen", "127.0.0.1:0", "--timeout", "2s"];
    let ended = run("swarm-peer", [&begin[..], &listen[..]].concat());
    assert_eq!(ended.code, Some(3), "nobody came: {}", ended.stderr);
    assert!(began.elapsed() >= Duration::from_secs(2));
    let mut fetch = Proc::start(
        "swarm-peer",
        [&begin[..], &["--listen", "127.0.0.1:0"]].concat(),
    );
    let waiting = fetch.event("waiting", SOON);
    let addr = waiting["peer"].as_str().expect("an address").to_owned();
    // The seed calls.
    let (_seed, _) = site.seed(&["--peer", &addr]);
    fetch.event("complete", SOON);
}

#[test]
fn the_codes_that_help_names_are_the_codes_there_are() {
    let site = Site::new();
    let help = run_ok("swarm-peer", ["--help"]).stdout;
    let (out, scratch) = (site.path("out"), site.path("scratch"));
    fs::create_dir(&scratch).expect("scratch");
    let (torrent, _) = site.torrent_with("img/a.jpg");
    let rubbish = scratch.join("x.torrent");
    fs::write(&rubbish, "rubbish").expect("scratch");
    let bad = scratch.join("bad.toml");
    fs::write(&bad, "upload = 'fast'\n").expect("scratch");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = taken.local_addr().expect("bound").to_string();
    let out = text(&out);
    let cases: [(i32, &str, Vec<&str>); 6] = [
        (1, "failure", vec!["fetch", text(&rubbish), "--out", out]),
        (
            2,
            "usage",
            vec!["fetch", text(&torrent), "--out", out, "--upload", "fast"],
        ),
        (
            3,
            "not found",
            vec!["fetch", "no-such.torrent", "--out", out],
        ),
        (
            4,
            "integrity",
            vec!["verify", text(&torrent), "--data", text(&scratch)],
        ),
        (
            69,
            "unavailable",
            vec![
                "fetch",
                text(&torrent),
                "--out",
                out,
                "--utp",
                "off",
                "--listen",
                &taken,
            ],
        ),
        (78, "bad configuration", vec!["config", "check", text(&bad)]),
    ];
    for (code, name, args) in cases {
        let ended = run("swarm-peer", &args);
        assert_eq!(ended.code, Some(code), "{args:?}: {}", ended.stderr);
        assert!(
            help.contains(&format!("{code} {name}")),
            "{code} {name}: {help}"
        );
    }
}

#[test]
fn man_pages_and_completions_know_every_verb() {
    for verb in [
        "publish", "seed", "fetch", "status", "limit", "pause", "resume", "add", "remove", "stop",
        "inspect", "verify",
    ] {
        let page = run_ok("swarm-peer", ["man", verb]).stdout;
        assert!(page.contains(".TH"), "{page}");
        assert!(page.contains(verb), "{verb}");
        let script = run_ok("swarm-peer", ["completions", "bash"]).stdout;
        assert!(script.contains(verb), "{verb}");
    }
}

#[test]
fn t59_no_passkey_of_a_tracker_is_logged_or_told() {
    let site = Site::new();
    let (_tracker, announce) = crate::tracker(&["--open"]);
    let (torrent, _) = site.torrent_with("img/a.jpg");
    let (socket, out) = (site.path("control.sock"), site.path("out"));
    let secret = format!("{announce}?passkey=CANARY1");
    // Nobody listens at port 9; what is said of it must name no more than the host.
    let dead = "http://127.0.0.1:9/CANARY2/announce?CANARY3";
    let args = [
        "fetch",
        text(&torrent),
        "--json",
        "--out",
        text(&out),
        "--tracker",
        &secret,
    ];
    let more = ["--tracker", dead, "--control", text(&socket)];
    let mut fetch = Proc::start("swarm-peer", [&args[..], &more[..]].concat());
    fetch.says("tracker cannot be reached", SOON);
    let ask = ["status", "--json", "--control", text(&socket)];
    let began = Instant::now();
    let told = loop {
        let told = run_ok("swarm-peer", ask).stdout;
        let value: Value = serde_json::from_str(&told).expect("JSON");
        if value["bundles"][0]["trackers"].as_array().map(Vec::len) == Some(2) {
            break told;
        }
        assert!(
            began.elapsed() < SOON,
            "both trackers never answered: {told}"
        );
        std::thread::sleep(Duration::from_millis(100));
    };
    assert!(told.contains("/announce"), "{told}");
    for said in [told, fetch.said()] {
        assert!(!said.contains("CANARY"), "{said}");
    }
}

#[test]
fn a_peer_that_has_nothing_to_give_is_a_time_out() {
    let site = Site::new();
    let (torrent, _) = site.torrent_with("img/a.jpg");
    let (out, state) = (site.path("first"), site.path("first-state"));
    let args = [
        "fetch",
        text(&torrent),
        "--json",
        "--out",
        text(&out),
        "--state",
        text(&state),
    ];
    let mut first = Proc::start(
        "swarm-peer",
        [&args[..], &["--listen", "127.0.0.1:0"]].concat(),
    );
    let waiting = first.event("waiting", SOON);
    let addr = waiting["peer"].as_str().expect("an address").to_owned();
    let ended = site.fetch(&torrent, "second", &addr, &["--timeout", "4s"]);
    assert_eq!(ended.code, Some(5), "{}", ended.stderr);
    assert!(
        run_ok("swarm-peer", ["--help"])
            .stdout
            .contains("5 timeout")
    );
}

#[test]
fn rot_that_no_date_betrays_is_found_and_repaired() {
    let site = Site::new();
    let (_seed, peer) = site.seed(&[]);
    let (torrent, _) = site.torrent_with("big/film.bin");
    let ended = site.fetch(&torrent, "out", &peer, &[]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let (out, state) = (site.path("out"), site.path("fetch-state"));
    let film = out.join("face.test/big/film.bin");
    let whole = fs::read(&film).expect("fetched");
    let changed = fs::metadata(&film)
        .and_then(|m| m.modified())
        .expect("a date");
    let mut rotten = whole.clone();
    rotten[1_000_000] ^= 1;
    fs::write(&film, &rotten).expect("ours");
    let file = fs::File::options().write(true).open(&film).expect("ours");
    file.set_modified(changed).expect("ours");
    // By its dates nothing happened, so the record is believed and the rot stays.
    let ended = site.fetch(&torrent, "out", &peer, &[]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(fs::read(&film).expect("there") == rotten);
    let args = [
        "verify",
        text(&torrent),
        "--data",
        text(&out),
        "--state",
        text(&state),
    ];
    let ended = run("swarm-peer", [&args[..], &["--json", "--repair"]].concat());
    assert_eq!(ended.code, Some(4), "{}", ended.stderr);
    let told: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    assert_eq!(told["bad"][0], text(&film));
    assert_eq!(told["bad_pieces"].as_array().map(Vec::len), Some(1));
    assert_eq!(told["forgotten"], 1);
    let ended = site.fetch(&torrent, "out", &peer, &[]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(fs::read(&film).expect("there") == whole);
    run_ok("swarm-peer", args);
}
