//! The program as somebody runs it: events, signals, exit codes.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

fn tracker() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_swarm-tracker"));
    for (key, _) in std::env::vars() {
        if key.starts_with("SWARM_TRACKER_") {
            command.env_remove(key);
        }
    }
    command
}

fn run(args: &[&str]) -> Output {
    tracker().args(args).output().expect("it runs")
}

fn error_line(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let lines: Vec<&str> = text
        .lines()
        .filter(|l| l.starts_with("swarm-tracker: "))
        .collect();
    assert_eq!(lines.len(), 1, "{text}");
    lines[0].to_owned()
}

/// A running tracker and the address it told.
fn listening(command: &mut Command) -> (Child, SocketAddr) {
    let mut child = command
        .args(["run", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("it runs");
    let mut line = String::new();
    let stdout = child.stdout.as_mut().expect("piped");
    BufReader::new(stdout)
        .read_line(&mut line)
        .expect("an event");
    let event: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(event["event"], "listening");
    let addr = event["http"].as_str().and_then(|addr| addr.parse().ok());
    (child, addr.expect("an address"))
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill")
        .args([name, &child.id().to_string()])
        .status();
    assert!(sent.is_ok_and(|status| status.success()));
}

fn ends_within(child: &mut Child, limit: Duration) -> Option<i32> {
    let from = Instant::now();
    while from.elapsed() < limit {
        if let Some(status) = child.try_wait().expect("it is ours") {
            return status.code();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = child.kill();
    panic!("still running after {limit:?}");
}

#[test]
fn the_environment_says_what_flags_do_not() {
    let (mut child, addr) = listening(
        tracker()
            .env("SWARM_TRACKER_HTTP", "127.0.0.1:0")
            .env("SWARM_TRACKER_OPEN", "true"),
    );
    let mut stream = TcpStream::connect(addr).expect("it listens");
    let id = "a".repeat(20);
    write!(
        stream,
        "GET /announce?info_hash={id}&peer_id={id}&port=2000 HTTP/1.0\r\n\r\n"
    )
    .expect("it listens");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("an answer");
    assert!(reply.contains("8:interval"), "{reply}");
    signal(&child, "-TERM");
    assert_eq!(ends_within(&mut child, Duration::from_secs(10)), Some(0));
}

#[test]
fn it_drains_on_the_first_signal_and_ends_at_once_on_the_second() {
    let (mut child, addr) = listening(
        tracker()
            .args(["--quiet"])
            .env("SWARM_TRACKER_HTTP", "127.0.0.1:0"),
    );
    // A body that never comes keeps a request unfinished.
    let mut stream = TcpStream::connect(addr).expect("it listens");
    stream
        .write_all(b"POST /swarm/alarm HTTP/1.1\r\nHost: t\r\nContent-Length: 9\r\n\r\n")
        .expect("it listens");
    std::thread::sleep(Duration::from_millis(300));
    signal(&child, "-TERM");
    std::thread::sleep(Duration::from_millis(500));
    assert!(child.try_wait().expect("it is ours").is_none(), "it drains");
    assert!(TcpStream::connect(addr).is_err(), "no new visitors");
    signal(&child, "-INT");
    assert_eq!(ends_within(&mut child, Duration::from_secs(3)), Some(1));
}

#[test]
fn certificates_are_got_once_the_terms_are_agreed_to() {
    let name = [
        "config",
        "show",
        "--state",
        "/s",
        "--acme-name",
        "T.example",
    ];
    let with = |more: &[&str]| run(&[&name, more].concat());
    let https = ["--https", "127.0.0.1:0"];
    let agreed = with(&[&https[..], &["--acme-agree-terms"]].concat());
    let shown = String::from_utf8_lossy(&agreed.stdout).into_owned();
    assert!(shown.contains("names = [\"t.example\"]"), "{shown}");
    assert!(shown.contains("directory = \"https://acme-v02.api.letsencrypt.org/directory\""));
    let unagreed = with(&https);
    assert_eq!(unagreed.status.code(), Some(78));
    let line = error_line(&unagreed);
    assert!(
        line.contains("acme: the terms of service of https://acme-v02"),
        "{line}"
    );
    assert!(line.contains("--acme-agree-terms"), "{line}");
    let plain = with(&["--acme-agree-terms"]);
    assert_eq!(plain.status.code(), Some(78));
    assert!(error_line(&plain).contains("https needs tls or acme"));
    for bad in [
        &["--acme-name", "*.example"][..],
        &["--acme-challenge", "dns-01"],
    ] {
        assert_eq!(with(bad).status.code(), Some(2), "{bad:?}");
    }
}

#[test]
fn mistakes_have_one_line_and_their_own_code() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = taken.local_addr().expect("bound").to_string();
    let in_use = run(&["run", "--http", &addr]);
    assert_eq!(in_use.status.code(), Some(69));
    assert!(error_line(&in_use).contains(&addr));

    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("bad.toml");
    std::fs::write(&path, "[announce]\ninterval = '2 moons'\n").expect("written");
    let file = path.to_str().expect("text");
    for args in [
        vec!["config", "check", file],
        vec!["--config", file, "config", "show"],
        vec!["run", "--config", file],
    ] {
        let bad = run(&args);
        assert_eq!(bad.status.code(), Some(78), "{args:?}");
        let line = error_line(&bad);
        assert!(line.contains("bad.toml: line 2, column 12"), "{line}");
    }
    let missing = run(&["config", "check", "/nowhere/at.all"]);
    assert_eq!(missing.status.code(), Some(78));
    assert!(error_line(&missing).contains("/nowhere/at.all"));
    let contradiction = run(&["run", "--interval", "0s"]);
    assert_eq!(contradiction.status.code(), Some(78));
    for args in [
        vec!["run", "--udp", "nowhere"],
        vec!["run", "--udp", "127.0.0.1:0", "--no-udp"],
        vec!["run", "--http", "nowhere"],
        vec!["run", "--site-key", "example.org"],
        vec!["run", "--site-key", "example.org=abc"],
        vec![],
    ] {
        assert_eq!(run(&args).status.code(), Some(2), "{args:?}");
    }
    // State that is no directory.
    let state = run(&["run", "--http", "127.0.0.1:0", "--state", file]);
    assert_eq!(state.status.code(), Some(1));
    assert!(error_line(&state).contains("bad.toml"));
}

#[test]
fn what_is_shown_is_what_would_run() {
    let shown = run(&[
        "config",
        "show",
        "--open",
        "--drain",
        "3s",
        "--http",
        "127.0.0.1:7070",
    ]);
    assert_eq!(shown.status.code(), Some(0));
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("shown.toml");
    std::fs::write(&path, &shown.stdout).expect("written");
    let file = path.to_str().expect("text");
    let again = run(&["--config", file, "config", "show"]);
    assert_eq!(again.stdout, shown.stdout);
    let text = String::from_utf8_lossy(&shown.stdout);
    assert!(
        text.contains("open = true") && text.contains("drain = \"3s\""),
        "{text}"
    );
    assert_eq!(run(&["config", "check", file]).status.code(), Some(0));
}

#[test]
fn completions_are_for_this_program() {
    for shell in ["bash", "zsh", "fish"] {
        let script = run(&["completions", shell]);
        assert!(script.status.success());
        assert!(String::from_utf8_lossy(&script.stdout).contains("swarm-tracker"));
    }
}

/// T59: at the loudest nothing of what was asked, by whom, or said by a proxy is in the log.
#[test]
fn t59_no_query_page_or_address_is_logged() {
    let log = tempfile::NamedTempFile::new().expect("a file");
    let mut child = tracker()
        .args([
            "run",
            "--json",
            "-vv",
            "--open",
            "--trusted-proxy",
            "127.0.0.0/8",
        ])
        .args(["--home", "canary-site.example=https://canary-home.example"])
        .env("SWARM_TRACKER_HTTP", "127.0.0.1:0")
        .stdout(Stdio::piped())
        .stderr(log.reopen().expect("the same file"))
        .spawn()
        .expect("it runs");
    let mut line = String::new();
    let stdout = child.stdout.as_mut().expect("piped");
    BufReader::new(stdout)
        .read_line(&mut line)
        .expect("an event");
    let event: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    let addr: SocketAddr = event["http"]
        .as_str()
        .and_then(|a| a.parse().ok())
        .expect("an address");
    let id = "a".repeat(20);
    let requests = [
        format!("/announce?info_hash={id}&peer_id={id}&port=2000&key=canary"),
        format!("/announce?info_hash={id}&passkey=canary"),
        "/scrape?info_hash=canary".into(),
        "/r/https://canary.example/canary?token=canary".into(),
        "/lookup?url=https://canary.example/canary".into(),
        "/canary?canary".into(),
        "/swarm/site/canary.example".into(),
        "/swarm/bridges?site=canary.example".into(),
    ];
    for target in &requests {
        for fields in [
            "Host: t\r\nX-Forwarded-For: 203.0.113.77",
            "Host: canary-site.example\r\nForwarded: for=203.0.113.77\r\nCookie: canary",
            "Host: t\r\nX-Forwarded-For: canary",
            "Host: t\r\nAuthorization: Basic canary",
        ] {
            let mut stream = TcpStream::connect(addr).expect("it listens");
            let request = format!("GET {target} HTTP/1.0\r\n{fields}\r\n\r\n");
            stream.write_all(request.as_bytes()).expect("it listens");
            let mut reply = Vec::new();
            stream.read_to_end(&mut reply).expect("an answer");
            assert!(reply.starts_with(b"HTTP/1."), "{target}");
        }
    }
    for body in ["canary", "d4:sitecanarye"] {
        let mut stream = TcpStream::connect(addr).expect("it listens");
        let len = body.len();
        let head =
            format!("POST /swarm/alarm HTTP/1.0\r\nHost: t\r\nContent-Length: {len}\r\n\r\n");
        stream
            .write_all(format!("{head}{body}").as_bytes())
            .expect("it listens");
        stream.read_to_end(&mut Vec::new()).expect("an answer");
    }
    signal(&child, "-TERM");
    assert_eq!(ends_within(&mut child, Duration::from_secs(10)), Some(0));
    let log = std::fs::read_to_string(log.path()).expect("text");
    assert!(log.contains("alarm refused"), "it logs: {log}");
    for secret in ["canary", "203.0.113.77", &id] {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
}
