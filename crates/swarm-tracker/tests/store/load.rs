//! Visitors in a loop, two trackers, five volunteers; one tracker is killed and replaced.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::bridges::honest;
use crate::common::bridge::FakeBridge;
use crate::common::redis::Redis;
use crate::common::send;
use crate::common::site::TestSite;
use crate::{FILES, SECOND, unix, until};

const VISITORS: usize = 8;
const BRIDGES: usize = 5;

/// The program itself, killed on drop.
pub(crate) struct Program {
    child: Child,
    pub(crate) addr: SocketAddr,
}

impl Program {
    fn start(redis: &Redis, site: &TestSite, http: SocketAddr) -> Self {
        let key = format!("{}={}", site.name, site.root());
        Self::run(&redis.url(), http, &["--site-key", &key], &[])
    }

    /// With more arguments, and variables of its environment.
    pub(crate) fn run(
        store: &str,
        http: SocketAddr,
        args: &[&str],
        environment: &[(&str, &Path)],
    ) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_swarm-tracker"));
        for (key, _) in std::env::vars() {
            if key.starts_with("SWARM_TRACKER_") {
                command.env_remove(key);
            }
        }
        let mut child = command
            .args(["run", "--json", "--no-udp", "--http", &http.to_string()])
            .args(["--store", store])
            .args(args)
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("it runs");
        let mut line = String::new();
        let stdout = child.stdout.as_mut().expect("piped");
        BufReader::new(stdout)
            .read_line(&mut line)
            .expect("an event");
        let event: serde_json::Value = serde_json::from_str(&line).expect("it listens");
        let addr = event["http"].as_str().and_then(|addr| addr.parse().ok());
        Self {
            child,
            addr: addr.expect("an address"),
        }
    }

    fn kill(&mut self) {
        self.child.kill().expect("it is ours");
        self.child.wait().expect("it is ours");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One request on a connection of its own; `None` where there is no whole head in time.
async fn head(addr: SocketAddr, target: &str) -> Option<String> {
    let ask = async {
        let mut stream = TcpStream::connect(addr).await.ok()?;
        let request = format!("GET {target} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.ok()?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        answer.contains("\r\n\r\n").then_some(answer)
    };
    tokio::time::timeout(2 * SECOND, ask).await.ok()?
}

/// What visitors met with.
#[derive(Default)]
struct Tally {
    /// By the tracker that they asked first.
    sent: [AtomicUsize; 2],
    failed: AtomicUsize,
    unmended: AtomicUsize,
    by_bridge: [AtomicUsize; BRIDGES],
}

/// Where a visitor of one page is sent; `None`: to no bridge.
async fn visit(tracker: SocketAddr, bridges: &[SocketAddr]) -> Option<usize> {
    let answer = head(tracker, "/r/http://example.org/a.png").await?;
    let line = answer
        .lines()
        .find_map(|line| line.strip_prefix("location: "));
    let location = line?;
    bridges.iter().position(|bridge| {
        location == format!("http://example-org.localhost:{}/a.png", bridge.port())
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tracker_killed_under_load_costs_no_visitor_more_than_a_retry() {
    let redis = Redis::start();
    let site = TestSite::new("example.org", 1);
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut first = Program::start(&redis, &site, anywhere);
    let second = Program::start(&redis, &site, anywhere);
    let trackers = [first.addr, second.addr];
    let record = site.record(1, unix(), FILES);
    let put = send(first.addr, "PUT", "/swarm/site", &record).await;
    assert_eq!(put.status, 204);
    let alarm = site.alarm(unix(), unix() + 600);
    let raised = send(second.addr, "POST", "/swarm/alarm", &alarm).await;
    assert!([204, 409].contains(&raised.status), "{raised:?}");

    // Volunteers announce to one, and to the other when that one is gone.
    let over = Arc::new(AtomicBool::new(false));
    let mut tasks = tokio::task::JoinSet::new();
    let mut bridges = Vec::new();
    for n in 0..BRIDGES {
        let bridge = FakeBridge::start(n as u8 + 1, honest).await;
        bridges.push(bridge.addr);
        let over = Arc::clone(&over);
        tasks.spawn(async move {
            let target = format!("/announce?{}&bridge_rate=1000000000", bridge.announce(1));
            let mut at = n % 2;
            while !over.load(Ordering::Relaxed) {
                if head(trackers[at], &target).await.is_none() {
                    at = 1 - at;
                    continue;
                }
                tokio::time::sleep(SECOND / 2).await;
            }
        });
    }
    let bridges: Arc<[SocketAddr]> = bridges.into();
    for tracker in trackers {
        let seen = std::sync::Mutex::new(std::collections::HashSet::new());
        until("all five at both", 5 * SECOND, async || {
            let sent_to = visit(tracker, &bridges).await;
            let mut seen = seen.lock().expect("not poisoned");
            seen.extend(sent_to);
            seen.len() == BRIDGES
        })
        .await;
    }

    let tally = Arc::new(Tally::default());
    for n in 0..VISITORS {
        let (tally, over) = (Arc::clone(&tally), Arc::clone(&over));
        let bridges = Arc::clone(&bridges);
        tasks.spawn(async move {
            for round in n.. {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                let at = round % 2;
                let mut sent_to = visit(trackers[at], &bridges).await;
                if sent_to.is_some() {
                    tally.sent[at].fetch_add(1, Ordering::Relaxed);
                } else {
                    tally.failed.fetch_add(1, Ordering::Relaxed);
                    sent_to = visit(trackers[1 - at], &bridges).await;
                }
                match sent_to {
                    Some(bridge) => &tally.by_bridge[bridge],
                    None => &tally.unmended,
                }
                .fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
    }
    let counts = |of: &[AtomicUsize]| -> Vec<usize> {
        of.iter().map(|n| n.load(Ordering::Relaxed)).collect()
    };
    tokio::time::sleep(2 * SECOND).await;
    let before = counts(&tally.by_bridge);
    assert_eq!(tally.failed.load(Ordering::Relaxed), 0, "both are well");
    first.kill();
    tokio::time::sleep(2 * SECOND).await;
    let between = counts(&tally.by_bridge);
    let failed = tally.failed.load(Ordering::Relaxed);
    let sent_by_first = tally.sent[0].load(Ordering::Relaxed);
    first = Program::start(&redis, &site, trackers[0]);
    tokio::time::sleep(2 * SECOND).await;
    over.store(true, Ordering::Relaxed);
    while tasks.join_next().await.is_some() {}
    let after = counts(&tally.by_bridge);

    assert_eq!(
        tally.unmended.load(Ordering::Relaxed),
        0,
        "of {failed} that failed"
    );
    assert!(
        failed > 20,
        "visitors asked the one that was killed: {failed}"
    );
    let sent = counts(&tally.sent);
    assert!(sent.iter().sum::<usize>() > 300, "{sent:?}");
    assert!(
        sent[0] > sent_by_first + 20,
        "its successor sends visitors: {sent:?}"
    );
    for n in 0..BRIDGES {
        assert!(before[n] > 0, "{before:?}");
        assert!(
            between[n] > before[n],
            "those of the one that was killed, too"
        );
        assert!(after[n] > between[n], "{after:?}");
    }
    drop(first);
}
