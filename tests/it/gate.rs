//! A spike from its first hit to its end: the real gate before a real origin, with volunteers in
//! processes of their own, seen by a visitor who has only HTTP.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use swarm_e2e::http::{send, try_send};
use swarm_e2e::origin::Origin;
use swarm_e2e::{Proc, beside, get, small_site};

use crate::{SOON, text};

const HOST: &str = "spike.test";

/// Visitors who come until the wave is dropped.
struct Wave {
    stop: Arc<AtomicBool>,
    failed: Arc<AtomicUsize>,
    visitors: Vec<std::thread::JoinHandle<()>>,
}

impl Wave {
    fn start(gate: SocketAddr, targets: &[&str]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let failed = Arc::new(AtomicUsize::new(0));
        let visitors = targets
            .iter()
            .map(|target| {
                let (target, stop, failed) =
                    ((*target).to_owned(), Arc::clone(&stop), Arc::clone(&failed));
                std::thread::spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        match try_send(gate, "GET", HOST, &target, &[("Sec-Fetch-Dest", "image")]) {
                            Ok(reply) if matches!(reply.status, 200 | 302) => {}
                            _ => {
                                failed.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                        std::thread::sleep(Duration::from_millis(15));
                    }
                })
            })
            .collect();
        Self {
            stop,
            failed,
            visitors,
        }
    }

    fn end(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        for visitor in self.visitors {
            visitor.join().expect("visitors don't panic");
        }
        self.failed.load(Ordering::Relaxed)
    }
}

struct Site {
    scratch: tempfile::TempDir,
    origin: Origin,
    gate: Proc,
    addr: SocketAddr,
    tracker: String,
    key: String,
}

fn site() -> Site {
    let scratch = tempfile::tempdir().expect("scratch");
    let root = scratch.path().join("root");
    small_site(&root);
    let origin = Origin::start(&root);
    let config = beside("quick-spike.toml");
    let state = scratch.path().join("state");
    let args = [
        "run",
        "--json",
        "--config",
        text(&config),
        "--origin",
        &format!("http://{}", origin.addr),
        "--root",
        text(&root),
        "--site",
        &format!("http://{HOST}"),
        "--listen",
        "127.0.0.1:0",
        "--tracker-listen",
        "127.0.0.1:0",
        "--peer-listen",
        "127.0.0.1:0",
        "--bridge-listen",
        "off",
        "--plan-rate",
        "4Mbit",
        "--state",
        text(&state),
    ];
    let mut gate = Proc::start("spike-gate", args);
    let told = gate.event("listening", SOON);
    let word = |field: &str| {
        told[field]
            .as_str()
            .unwrap_or_else(|| panic!("no {field} in {told}"))
            .to_owned()
    };
    let addr = word("http").parse().expect("an address");
    Site {
        addr,
        tracker: word("tracker"),
        key: format!("{HOST}={}", word("root_key")),
        scratch,
        origin,
        gate,
    }
}

fn volunteer(site: &Site, name: &str) -> (Proc, SocketAddr) {
    let store = site.scratch.path().join(name);
    let args = [
        "run",
        "--json",
        "--volunteer",
        "--tracker",
        &site.tracker,
        "--site-key",
        &site.key,
        "--listen",
        "127.0.0.1:0",
        "--peer-listen",
        "127.0.0.1:0",
        "--domain",
        "localhost",
        "--store",
        text(&store),
    ];
    let mut bridge = Proc::start("webseed-bridge", args);
    let listening = bridge.event("listening", SOON);
    (
        bridge,
        listening["http"]
            .as_str()
            .expect("an address")
            .parse()
            .expect("an address"),
    )
}

/// Asks the gate until it answers so, and returns that answer.
fn until(
    gate: SocketAddr,
    target: &str,
    fields: &[(&str, &str)],
    wanted: impl Fn(&swarm_e2e::Reply) -> bool,
) -> swarm_e2e::Reply {
    let end = Instant::now() + SOON;
    loop {
        let reply = send(gate, "GET", HOST, target, fields);
        if wanted(&reply) {
            return reply;
        }
        assert!(
            Instant::now() < end,
            "{target} goes on being answered {} {:?}",
            reply.status,
            reply.headers
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn on_disk(site: &Site, path: &str) -> Vec<u8> {
    fs::read(site.scratch.path().join("root").join(path))
        .unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn a_wave_comes_is_carried_by_volunteers_and_leaves_nothing_behind() {
    let mut site = site();
    let volunteers = [volunteer(&site, "one"), volunteer(&site, "two")];
    in_calm_everything_is_the_origins(&site);

    let wave = Wave::start(
        site.addr,
        &["/img/1.bin", "/img/2.bin", "/img/3.bin", "/media/large.bin"],
    );
    site.gate
        .event_where("state", SOON, |told| told["to"] == "warming");
    site.gate
        .event_where("state", SOON, |told| told["to"] == "spike");
    images_leave_by_redirect(&site, &volunteers);
    pages_stay_and_are_rewritten(&site, &volunteers);
    what_only_the_origin_can_answer_stays(&site);
    assert_eq!(
        wave.end(),
        0,
        "a visitor got an error: {}",
        site.gate.said()
    );

    site.gate
        .event_where("state", SOON, |told| told["to"] == "cooling");
    site.gate
        .event_where("state", SOON, |told| told["to"] == "calm");
    in_calm_everything_is_the_origins(&site);
    visitors_are_handed_home(&site, volunteers[0].1);
}

fn in_calm_everything_is_the_origins(site: &Site) {
    for (target, path) in [
        ("/", "index.html"),
        ("/img/5.bin", "img/5.bin"),
        ("/pages/p2/", "pages/p2/index.html"),
    ] {
        let reply = send(
            site.addr,
            "GET",
            HOST,
            target,
            &[("Sec-Fetch-Dest", "image")],
        );
        assert_eq!(reply.status, 200, "{target}");
        assert!(
            reply.body == on_disk(site, path),
            "{target} is not what the origin has"
        );
    }
    assert_eq!(get(site.addr, HOST, "/.well-known/swarm/alarm").status, 204);
}

fn images_leave_by_redirect(site: &Site, volunteers: &[(Proc, SocketAddr); 2]) {
    let image = [("Sec-Fetch-Dest", "image")];
    let reply = until(site.addr, "/img/4.bin", &image, |reply| reply.status == 302);
    assert!(
        reply.header("cache-control").contains("no-store"),
        "{reply:?}"
    );
    let location = reply.header("location");
    let bridge = volunteers
        .iter()
        .map(|(_, addr)| *addr)
        .find(|addr| location == format!("http://spike-test.localhost:{}/img/4.bin", addr.port()))
        .unwrap_or_else(|| panic!("sent to nobody's bridge: {location}"));
    let served = get(
        bridge,
        &format!("spike-test.localhost:{}", bridge.port()),
        "/img/4.bin",
    );
    assert!(
        served.status == 200 && served.body == on_disk(site, "img/4.bin"),
        "{}",
        served.status
    );
    // The way home is not a loop: whoever was sent home is served there.
    let home = send(site.addr, "GET", HOST, "/img/4.bin?spikeswarm=home", &image);
    assert!(
        home.status == 200 && home.body == on_disk(site, "img/4.bin"),
        "{}",
        home.status
    );
}

fn pages_stay_and_are_rewritten(site: &Site, volunteers: &[(Proc, SocketAddr); 2]) {
    let reply = until(
        site.addr,
        "/pages/p2/",
        &[("Sec-Fetch-Dest", "document")],
        |reply| String::from_utf8_lossy(&reply.body).contains("integrity="),
    );
    assert_eq!(reply.status, 200);
    let html = String::from_utf8_lossy(&reply.body).into_owned();
    assert!(html.contains("<h1>Page 2</h1>"), "{html}");
    let ports: Vec<_> = volunteers
        .iter()
        .map(|(_, addr)| format!("spike-test.localhost:{}/", addr.port()))
        .collect();
    for asset in ["css/site.css", "js/site.js", "img/2.bin"] {
        assert!(
            ports
                .iter()
                .any(|port| html.contains(&format!("{port}{asset}"))),
            "{asset} stays: {html}"
        );
    }
    // By the tag, never by redirect.
    for script in ["/js/site.js", "/css/site.css"] {
        for dest in ["script", "style", "empty"] {
            assert_eq!(
                send(site.addr, "GET", HOST, script, &[("Sec-Fetch-Dest", dest)]).status,
                200,
                "{script} as {dest}"
            );
        }
    }
}

fn what_only_the_origin_can_answer_stays(site: &Site) {
    let before = site.origin.posts();
    for _ in 0..5 {
        assert_eq!(
            send(
                site.addr,
                "POST",
                HOST,
                "/form",
                &[("Content-Length", "0"), ("Cookie", "session=1")]
            )
            .status,
            200
        );
    }
    assert_eq!(
        site.origin.posts(),
        before + 5,
        "each POST arrives exactly once"
    );
    assert_eq!(
        send(
            site.addr,
            "GET",
            HOST,
            "/img/1.bin?version=2",
            &[("Sec-Fetch-Dest", "image")]
        )
        .status,
        200
    );
}

fn visitors_are_handed_home(site: &Site, bridge: SocketAddr) {
    let host = format!("spike-test.localhost:{}", bridge.port());
    let end = Instant::now() + SOON;
    let reply = loop {
        let reply = get(bridge, &host, "/img/4.bin");
        if reply.status == 302 {
            break reply;
        }
        assert!(
            Instant::now() < end,
            "the bridge goes on answering {}",
            reply.status
        );
        std::thread::sleep(Duration::from_millis(200));
    };
    assert_eq!(
        reply.header("location"),
        format!("http://{HOST}/img/4.bin?spikeswarm=home")
    );
    assert_eq!(
        send(site.addr, "GET", HOST, "/img/4.bin?spikeswarm=home", &[]).status,
        200
    );
}

#[test]
fn the_gate_fails_open() {
    let site = site();
    let (mut volunteer, bridge) = volunteer(&site, "one");
    let wave = Wave::start(site.addr, &["/img/1.bin", "/img/2.bin", "/media/large.bin"]);
    let image = [("Sec-Fetch-Dest", "image")];
    until(site.addr, "/img/4.bin", &image, |reply| reply.status == 302);
    // Every volunteer dies at once: soon nobody is sent there, and the site answers itself.
    volunteer.kill();
    let reply = until(site.addr, "/img/4.bin", &image, |reply| reply.status == 200);
    assert!(reply.body == on_disk(&site, "img/4.bin"));
    let page = send(
        site.addr,
        "GET",
        HOST,
        "/pages/p2/",
        &[("Sec-Fetch-Dest", "document")],
    );
    assert_eq!(page.status, 200);
    assert!(
        !String::from_utf8_lossy(&page.body).contains(&bridge.port().to_string()),
        "a page still points to the dead"
    );
    assert_eq!(wave.end(), 0);
}

#[test]
fn an_origin_that_is_gone_is_said_so() {
    let scratch = tempfile::tempdir().expect("scratch");
    let root = scratch.path().join("root");
    small_site(Path::new(&root));
    let nobody = swarm_e2e::free_addr();
    let state = scratch.path().join("state");
    let mut gate = Proc::start(
        "spike-gate",
        [
            "run",
            "--json",
            "--origin",
            &format!("http://{nobody}"),
            "--root",
            text(&root),
            "--site",
            "http://gone.test",
            "--listen",
            "127.0.0.1:0",
            "--tracker-listen",
            "127.0.0.1:0",
            "--peer-listen",
            "127.0.0.1:0",
            "--bridge-listen",
            "off",
            "--state",
            text(&state),
        ],
    );
    let addr = gate.event("listening", SOON)["http"]
        .as_str()
        .expect("an address")
        .parse()
        .expect("an address");
    assert_eq!(get(addr, "gone.test", "/").status, 502);
}
