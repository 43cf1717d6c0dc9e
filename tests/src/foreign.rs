//! Foreign BitTorrent clients, as Debian has them, at the foreign end of a [`Lab`].

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::lab::{End, Lab, THEIRS};
use crate::{Proc, beside, tool};

/// A client that others wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// `python3-libtorrent`, by `interop/lt.py`.
    Libtorrent,
    /// `transmission-daemon`.
    Transmission,
    /// `aria2c`.
    Aria2,
}

/// What a foreign client is to do.
pub struct Job<'a> {
    /// Where.
    pub lab: &'a Lab,
    /// A torrent file, or (to fetch) a magnet link.
    pub what: &'a str,
    /// The folder that holds, or shall hold, the torrent's top-level name.
    pub data: &'a Path,
    /// A folder for the client's own things.
    pub home: &'a Path,
    /// Where it listens at [`THEIRS`].
    pub port: u16,
    /// Whether it shall speak uTP, besides or instead of TCP.
    pub utp: bool,
    /// Peers it is told of, by clients that can be.
    pub peers: &'a [String],
    /// How long it may take.
    pub patience: Duration,
}

impl Client {
    /// Name and version, as the client tells them.
    pub fn version(self) -> String {
        let said = |program: &Path, args: &[&str]| {
            let done = Command::new(program).args(args).output();
            let done = done.unwrap_or_else(|error| panic!("{}: {error}", program.display()));
            let text = [done.stdout, done.stderr].concat();
            let text = String::from_utf8_lossy(&text).into_owned();
            text.lines().next().unwrap_or_default().trim().to_owned()
        };
        match self {
            Self::Libtorrent => {
                let script = "import libtorrent; print(libtorrent.version)";
                let version = said(Path::new("/usr/bin/python3"), &["-c", script]);
                format!("libtorrent {version}")
            }
            Self::Transmission => {
                let daemon = tool("transmission-daemon", "transmission-daemon");
                let line = said(&daemon, &["--version"]);
                let words: Vec<_> = line.split_whitespace().take(2).collect();
                words.join(" ").replace("-daemon", "")
            }
            Self::Aria2 => said(&tool("aria2c", "aria2"), &["--version"]).replace("version ", ""),
        }
    }

    /// Starts seeding; returns when the client has all of it.
    pub fn seed(self, job: &Job<'_>) -> Proc {
        match self {
            Self::Libtorrent => {
                let mut proc = libtorrent(job, "seed", &[]);
                proc.event("complete", job.patience);
                proc
            }
            Self::Transmission => transmission(job),
            Self::Aria2 => {
                let mut proc = aria2(job, &["--seed-ratio=0.0", "--check-integrity=true"]);
                proc.says("Verification finished successfully", job.patience);
                proc
            }
        }
    }

    /// Fetches to the end; the files are there when it returns.
    pub fn fetch(self, job: &Job<'_>) {
        match self {
            Self::Libtorrent => {
                let mut proc = libtorrent(job, "fetch", &[]);
                proc.event("complete", job.patience);
                assert!(proc.end(job.patience).success(), "{}", proc.said());
            }
            Self::Transmission => drop(transmission(job)),
            Self::Aria2 => {
                let mut proc = aria2(job, &["--seed-time=0"]);
                assert!(proc.end(job.patience).success(), "{}", proc.said());
            }
        }
    }
}

/// Starts `interop/lt.py` with more arguments.
pub fn libtorrent(job: &Job<'_>, role: &str, more: &[&str]) -> Proc {
    let script = beside("interop/lt.py");
    let listen = format!("{THEIRS}:{}", job.port);
    let transport = if job.utp { "utp" } else { "tcp" };
    let script = script.to_str().expect("UTF-8");
    let data = job.data.to_str().expect("UTF-8");
    let seconds = job.patience.as_secs().to_string();
    let mut args = vec![script, role, job.what, "--data", data, "--listen", &listen];
    args.extend(["--seconds", &seconds]);
    if !more.contains(&"--transport") {
        args.extend(["--transport", transport]);
    }
    for peer in job.peers {
        args.extend(["--peer", peer]);
    }
    args.extend(more);
    let python = Path::new("/usr/bin/python3");
    job.lab.start(End::Theirs, "libtorrent", python, args)
}

/// Starts aria2 with more arguments.
pub fn aria2(job: &Job<'_>, more: &[&str]) -> Proc {
    let mut args = vec![
        format!("--listen-port={}", job.port),
        format!("--interface={THEIRS}"),
        format!("--dir={}", job.data.display()),
        // Sockets of the two families fight for the port.
        "--disable-ipv6=true".to_owned(),
        "--no-conf=true".to_owned(),
        "--enable-dht=false".to_owned(),
        "--enable-dht6=false".to_owned(),
        "--bt-enable-lpd=false".to_owned(),
        "--enable-peer-exchange=true".to_owned(),
        "--file-allocation=none".to_owned(),
        "--bt-tracker-interval=2".to_owned(),
        "--console-log-level=notice".to_owned(),
    ];
    args.extend(more.iter().map(|arg| (*arg).to_owned()));
    args.push(job.what.to_owned());
    let program = tool("aria2c", "aria2");
    job.lab.start(End::Theirs, "aria2", &program, args)
}

/// A daemon with one torrent; returns when it has all of it. Its port for control is `port + 1`.
fn transmission(job: &Job<'_>) -> Proc {
    let home = job.home.join("transmission");
    fs::create_dir_all(&home).expect("scratch");
    let settings = json!({
        "download-dir": job.data,
        "incomplete-dir-enabled": false,
        "bind-address-ipv4": THEIRS,
        "peer-port": job.port,
        "port-forwarding-enabled": false,
        "rpc-port": job.port + 1,
        "rpc-bind-address": "127.0.0.1",
        "dht-enabled": false,
        "lpd-enabled": false,
        "pex-enabled": true,
        "utp-enabled": job.utp,
        "watch-dir-enabled": false,
    });
    fs::write(home.join("settings.json"), settings.to_string()).expect("scratch");
    let daemon = tool("transmission-daemon", "transmission-daemon");
    let remote = tool("transmission-remote", "transmission-cli");
    let args = ["--foreground", "--log-debug", "--config-dir"].map(Into::into);
    let args = args.into_iter().chain([home.clone().into_os_string()]);
    let proc = job.lab.start(End::Theirs, "transmission", &daemon, args);
    let control = format!("127.0.0.1:{}", job.port + 1);
    let ask = |args: &[&str]| {
        let all = [&[control.as_str()], args].concat();
        job.lab.output(End::Theirs, &remote, &all)
    };
    let end = Instant::now() + job.patience;
    let until = |what: &str, done: &dyn Fn() -> bool| {
        while !done() {
            let said = proc.said();
            assert!(
                Instant::now() < end,
                "transmission: not {what} in time\n{said}"
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    };
    until("reachable", &|| ask(&["-a", job.what]).is_some());
    until("complete", &|| {
        ask(&["-t", "all", "-i"]).is_some_and(|told| {
            told.contains("Percent Done: 100%") && !told.contains("State: Verifying")
        })
    });
    proc
}
