//! The command line as somebody meets it who makes mistakes: one clear line, a documented code.

use std::fs;
use std::net::TcpListener;

use swarm_e2e::process::{run, run_ok};
use swarm_e2e::small_site;

use crate::{publish, text};

const ALL: [&str; 4] = [
    "swarm-peer",
    "swarm-tracker",
    "webseed-bridge",
    "spike-gate",
];

#[test]
fn every_binary_has_help_version_and_completions() {
    for name in ALL {
        let version = run_ok(name, ["--version"]).stdout;
        assert!(version.starts_with(name), "{version}");
        assert!(run_ok(name, ["--help"]).stdout.contains("Usage"), "{name}");
        assert!(
            run_ok(name, ["completions", "bash"]).stdout.contains(name),
            "{name}"
        );
    }
}

#[test]
fn a_wrong_flag_is_a_usage_error() {
    for name in ALL {
        let ended = run(name, ["run", "--no-such-flag"]);
        assert_eq!(ended.code, Some(2), "{name}: {}", ended.stderr);
        assert!(ended.stdout.is_empty(), "{name}: {}", ended.stdout);
    }
}

#[test]
fn a_port_in_use_is_one_line_and_69() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let addr = taken.local_addr().expect("bound").to_string();
    let scratch = tempfile::tempdir().expect("scratch");
    let root = scratch.path().join("root");
    small_site(&root);
    let state = scratch.path().join("state");
    for (name, args) in [
        ("swarm-tracker", vec!["run", "--http", &addr]),
        (
            "webseed-bridge",
            vec!["run", "--root", text(&root), "--listen", &addr],
        ),
        (
            "spike-gate",
            vec![
                "run",
                "--origin",
                "http://127.0.0.1:9",
                "--listen",
                &addr,
                "--state",
                text(&state),
            ],
        ),
    ] {
        let ended = run(name, args);
        assert_eq!(ended.code, Some(69), "{name}: {}", ended.stderr);
        one_line_about(name, &ended.stderr, &addr);
    }
}

fn one_line_about(name: &str, stderr: &str, what: &str) {
    let lines: Vec<_> = stderr
        .lines()
        .filter(|line| line.starts_with(&format!("{name}: ")))
        .collect();
    assert_eq!(lines.len(), 1, "{name}: {stderr}");
    assert!(
        lines[0].contains(what),
        "{name} does not say {what}: {stderr}"
    );
}

#[test]
fn a_folder_that_is_not_there_or_empty_is_named() {
    let scratch = tempfile::tempdir().expect("scratch");
    let missing = scratch.path().join("nowhere");
    let empty = scratch.path().join("empty");
    fs::create_dir(&empty).expect("scratch");
    let out = scratch.path().join("out");
    let keys = scratch.path().join("keys");
    for root in [&missing, &empty] {
        let ended = run(
            "swarm-peer",
            [
                "publish",
                "--site",
                "http://x.test",
                "--root",
                text(root),
                "--out",
                text(&out),
                "--keys",
                text(&keys),
            ],
        );
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        one_line_about("swarm-peer", &ended.stderr, text(root));
    }
}

#[test]
fn an_expired_record_is_refused_by_that_name() {
    let scratch = tempfile::tempdir().expect("scratch");
    let root = scratch.path().join("root");
    small_site(&root);
    let published = publish(
        scratch.path(),
        "http://old.test",
        &root,
        &["--expires-in", "1s"],
    );
    std::thread::sleep(std::time::Duration::from_secs(2));
    let key = format!("old.test={}", published.root_key());
    let out = scratch.path().join("fetched");
    let record = published.out.join("manifest");
    let ended = run(
        "swarm-peer",
        [
            "fetch",
            text(&record),
            "--site-key",
            &key,
            "--out",
            text(&out),
            "--timeout",
            "5s",
        ],
    );
    assert_eq!(ended.code, Some(4), "{}", ended.stderr);
    one_line_about("swarm-peer", &ended.stderr, "expired");
}

#[test]
fn a_misspelt_key_in_a_config_file_is_refused_with_its_line() {
    let scratch = tempfile::tempdir().expect("scratch");
    let config = scratch.path().join("config.toml");
    fs::write(&config, "no_such_key = 1\n").expect("scratch");
    for name in ALL {
        let ended = run(name, ["config", "check", text(&config)]);
        assert_eq!(ended.code, Some(78), "{name}: {}", ended.stderr);
        assert!(
            ended.stderr.contains("no_such_key"),
            "{name}: {}",
            ended.stderr
        );
        let shown = run_ok(name, ["config", "show"]).stdout;
        fs::write(&config, shown).expect("scratch");
        run_ok(name, ["config", "check", text(&config)]);
        fs::write(&config, "no_such_key = 1\n").expect("scratch");
    }
}

#[test]
fn rubbish_as_a_torrent_is_named_rubbish() {
    let scratch = tempfile::tempdir().expect("scratch");
    let rubbish = scratch.path().join("rubbish.torrent");
    fs::write(&rubbish, b"d4:infod4:name").expect("scratch");
    let out = scratch.path().join("out");
    for args in [
        vec!["inspect", text(&rubbish)],
        vec!["fetch", text(&rubbish), "--out", text(&out)],
        vec!["seed", text(&rubbish), "--data", text(scratch.path())],
        vec!["fetch", "magnet:?xt=urn:btih:zz", "--out", text(&out)],
        vec!["fetch", "/no/such/file.torrent", "--out", text(&out)],
    ] {
        let ended = run("swarm-peer", args.clone());
        assert!(
            matches!(ended.code, Some(1..=4)),
            "{args:?}: {:?} {}",
            ended.code,
            ended.stderr
        );
        assert_eq!(
            ended
                .stderr
                .lines()
                .filter(|line| line.starts_with("swarm-peer: "))
                .count(),
            1,
            "{args:?}: {}",
            ended.stderr
        );
        assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    }
}
