//! The second way in: a site with nothing installed sends all its visitors to a tracker, and each
//! sees the right page whatever becomes of the volunteers.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use swarm_e2e::dns::NameServer;
use swarm_e2e::http::{Reply, try_send};
use swarm_e2e::lying_bridge::LyingBridge;
use swarm_e2e::origin::Origin;
use swarm_e2e::{Proc, Tree, free_addr, get, small_site, tool};

use crate::{SOON, publish, seed, text};

/// How long it may take until a lie is found out.
const FOUND_OUT: Duration = Duration::from_secs(60);

/// A site, its tracker, and whoever helps.
struct Scene {
    site: &'static str,
    root: PathBuf,
    truth: Tree,
    tracker: Proc,
    tracker_addr: SocketAddr,
    /// Where the site itself can be reached.
    home: Option<SocketAddr>,
}

/// What a visitor saw in the end.
struct Seen {
    status: u16,
    body: Vec<u8>,
    /// Who answered.
    by: SocketAddr,
}

impl Scene {
    /// Asks for a page at the site's own name, as a browser would: through redirects.
    fn visit(&self, target: &str) -> std::io::Result<Seen> {
        let (mut by, mut host) = (self.tracker_addr, self.site.to_owned());
        let mut target = target.to_owned();
        for _ in 0..6 {
            let reply = try_send(by, "GET", &host, &target, &[])?;
            if !(300..400).contains(&reply.status) {
                let Reply { status, body, .. } = reply;
                return Ok(Seen { status, body, by });
            }
            let location = reply.header("location").to_owned();
            let Some(rest) = location.strip_prefix("http://") else {
                panic!("{target} at {host} leads to {location:?}");
            };
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            by = match authority.rsplit_once(':') {
                _ if authority == self.site => self.tracker_addr,
                // `*.localhost` is this machine (RFC 6761).
                Some((_, port)) => SocketAddr::new(
                    [127, 0, 0, 1].into(),
                    port.parse().unwrap_or_else(|_| panic!("{location}")),
                ),
                None => panic!("{target} at {host} leads to {location:?}"),
            };
            (host, target) = (authority.to_owned(), path.to_owned());
        }
        panic!("{target} goes round in circles");
    }

    /// All pages of the site, and what they hold. No scripts and sheets: what a stranger sends would
    /// run or be applied, so they stay home, but for those that a page at a bridge asks for there.
    fn pages(&self) -> Vec<(String, Vec<u8>)> {
        let paths = self.truth.0.keys();
        let paths = paths.filter(|path| !path.ends_with(".css") && !path.ends_with(".js"));
        let pages = paths.map(|path| {
            let right = fs::read(self.root.join(path)).expect("it is there");
            let url = path.bytes().fold(String::from("/"), |mut url, byte| {
                if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
                    url.push(char::from(byte));
                } else {
                    url.push_str(&format!("%{byte:02X}"));
                }
                url
            });
            let url = match url.strip_suffix("index.html") {
                Some(folder) => folder.to_owned(),
                None => url,
            };
            (url, right)
        });
        pages.collect()
    }

    /// Visits every page until each has come from a bridge; none may ever be wrong.
    fn until_bridges_have_all(&self) {
        let began = Instant::now();
        let mut left = self.pages();
        while !left.is_empty() {
            left.retain(|(url, right)| {
                let seen = self
                    .visit(url)
                    .unwrap_or_else(|error| panic!("{url}: {error}"));
                let home = Some(seen.by) == self.home;
                if seen.status == 503 && !home {
                    return true;
                }
                assert_eq!(seen.status, 200, "{url} by {}", seen.by);
                assert!(seen.body == *right, "{url} by {}: wrong", seen.by);
                home || seen.by == self.tracker_addr
            });
            assert!(
                began.elapsed() < 2 * SOON,
                "not from bridges: {left:?}\n{}",
                self.tracker.said(),
                left = left.iter().map(|(url, _)| url).collect::<Vec<_>>()
            );
            std::thread::sleep(Duration::from_millis(300));
        }
    }

    /// Visits every page once. A visitor whose bridge is gone asks again, as people do, and says
    /// how often he had to.
    fn all_right(&self, lied: &LyingBridge) -> usize {
        let mut again = 0;
        for (url, right) in self.pages() {
            let began = Instant::now();
            loop {
                let seen = self.visit(&url);
                assert!(began.elapsed() < SOON / 2, "{url}: no bridge answers");
                match seen {
                    Ok(seen) if seen.status == 200 && seen.by == lied.addr => {
                        // Judged by whoever looks for the liar.
                        break;
                    }
                    Ok(seen) if seen.status == 200 => {
                        assert!(seen.body == right, "{url} by {}: wrong", seen.by);
                        break;
                    }
                    // All are busy.
                    Ok(seen) => assert!(seen.status == 503, "{url}: {}", seen.status),
                    // He was sent to one that is gone.
                    Err(_) => again += 1,
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        again
    }

    /// Waits until so many bridges are proven.
    fn wait_for_bridges(&self, n: u64) {
        let began = Instant::now();
        while self.metric("swarm_tracker_bridges") < n {
            assert!(began.elapsed() < SOON, "{}", self.tracker.said());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn metric(&self, name: &str) -> u64 {
        let reply = get(
            self.tracker_addr,
            &self.tracker_addr.to_string(),
            "/metrics",
        );
        let text = String::from_utf8_lossy(&reply.body).into_owned();
        let line = text
            .lines()
            .find(|line| line.starts_with(&format!("{name} ")));
        let value = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
        value.unwrap_or_else(|| panic!("no {name} in {text}"))
    }

    /// Two bridges die, one lies, one has promised little: visitors go on seeing right pages, and
    /// the liar is found out.
    fn troubles(&self, mut bridges: Vec<(Proc, SocketAddr)>) {
        let honest = bridges.last().expect("there are some").1;
        let liar = LyingBridge::start(self.tracker_addr, honest, self.site);
        let began = Instant::now();
        let mut by: BTreeSet<SocketAddr> = BTreeSet::new();
        while !by.contains(&liar.addr) {
            assert!(
                began.elapsed() < SOON,
                "nobody is sent to the fifth bridge: {by:?}"
            );
            by.extend(self.visit("/").ok().map(|seen| seen.by));
        }
        for _ in 0..2 {
            drop(bridges.remove(0));
        }
        liar.lie();
        let lies_since = Instant::now();
        let (mut again, mut rounds) = (0, 0);
        while self.metric("swarm_tracker_evictions_total") == 0 {
            assert!(lies_since.elapsed() < FOUND_OUT, "the liar is not evicted");
            again += self.all_right(&liar);
            rounds += 1;
        }
        let found_out = lies_since.elapsed();
        let told = liar.told();
        eprintln!(
            "{}: the liar is evicted after {found_out:.1?} and {told} lies; {again} of {} visits had to ask again",
            self.site,
            rounds * self.truth.0.len(),
        );
        assert!(told > 0, "it had its chance");
        for _ in 0..3 {
            again = self.all_right(&liar);
        }
        assert_eq!(liar.told(), told, "nobody is sent to the liar any more");
        // By now the dead are known, too.
        let since = Instant::now();
        while again > 0 {
            assert!(since.elapsed() < SOON, "visitors are sent to the dead");
            again = self.all_right(&liar);
        }
    }

    /// A browser that knows nothing but the site's name.
    fn in_chromium(&self, scratch: &Path) {
        let shot = scratch.join("page.png");
        let chromium = Command::new(tool("chromium", "chromium"))
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"])
            .args([
                "--virtual-time-budget=10000",
                "--disable-background-networking",
            ])
            .arg(format!(
                "--user-data-dir={}",
                text(&scratch.join("chromium"))
            ))
            .arg(format!(
                "--host-resolver-rules=MAP {} {}",
                self.site, self.tracker_addr
            ))
            .arg(format!("--screenshot={}", text(&shot)))
            .arg(format!("http://{}/pages/p3/", self.site))
            .output()
            .expect("chromium starts");
        let dom = String::from_utf8_lossy(&chromium.stdout);
        // The script has run as well.
        assert!(
            dom.contains("<h1>Page 3</h1>") && dom.contains("<title>Page 3!</title>"),
            "{dom}\n{}",
            String::from_utf8_lossy(&chromium.stderr)
        );
    }
}

/// A volunteer's bridge, and where visitors find it.
fn bridge(announce: &str, scratch: &Path, n: usize, more: &[&str]) -> (Proc, SocketAddr) {
    let store = scratch.join(format!("store-{n}"));
    let mut args = vec!["run", "--json", "--tracker", announce];
    args.extend(["--listen", "127.0.0.1:0", "--peer-listen", "127.0.0.1:0"]);
    args.extend(["--domain", "localhost", "--store", text(&store)]);
    args.extend(["--upload", "100Mbit"]);
    args.extend(more);
    let mut bridge = Proc::start("webseed-bridge", args);
    let listening = bridge.event("listening", SOON);
    let addr = listening["http"].as_str().expect("an address");
    let addr = addr.parse().expect("an address");
    (bridge, addr)
}

/// A tracker whose announce URL is known before it starts.
fn tracker_at(addr: SocketAddr, more: &[&str]) -> (Proc, serde_json::Value) {
    let http = addr.to_string();
    let mut args = vec!["run", "--json", "--http", &http];
    args.extend(more);
    let mut tracker = Proc::start("swarm-tracker", args);
    let listening = tracker.event("listening", SOON);
    (tracker, listening)
}

#[test]
fn a_site_that_was_published_once_is_seen_with_its_origin_off() {
    const SITE: &str = "offline.test";
    let scratch = tempfile::tempdir().expect("scratch");
    let root = scratch.path().join("root");
    small_site(&root);
    let addr = free_addr();
    let announce = format!("http://{addr}/announce");
    let url = format!("http://{SITE}");
    let args = ["--bundle-target", "2MiB", "--tracker", &announce];
    let published = publish(scratch.path(), &url, &root, &args);
    let key = format!("{SITE}={}", published.root_key());
    let (tracker, _) = tracker_at(addr, &["--site-key", &key]);
    // Once more, now that there is somebody to register with.
    let args = [
        "--bundle-target",
        "2MiB",
        "--tracker",
        &announce,
        "--register",
    ];
    let published = publish(scratch.path(), &url, &root, &args);
    let (seed, _) = seed(&[text(&published.out)], &[]);
    let more = ["--site", SITE, "--site-key", &key];
    let mut bridges: Vec<_> = (0..4)
        .map(|n| bridge(&announce, scratch.path(), n, &more))
        .collect();
    let scene = Scene {
        site: SITE,
        truth: Tree::of(&root),
        root,
        tracker,
        tracker_addr: addr,
        home: None,
    };
    for (bridge, addr) in &bridges {
        let began = Instant::now();
        for (url, right) in scene.pages() {
            let host = "offline-test.localhost";
            let mut body = get(*addr, host, &url).body;
            while body != right {
                assert!(began.elapsed() < SOON, "{url}: {}", bridge.said());
                std::thread::sleep(Duration::from_millis(100));
                body = get(*addr, host, &url).body;
            }
        }
    }
    // The site and its seed are gone for good.
    drop(seed);
    scene.wait_for_bridges(4);
    scene.until_bridges_have_all();
    scene.in_chromium(scratch.path());
    // One that promises ten answers and no more.
    let few = ["--site", SITE, "--site-key", &key, "--hits", "10"];
    bridges.insert(0, bridge(&announce, scratch.path(), 4, &few));
    let spent = bridges.remove(0);
    scene.troubles(bridges);
    drop(spent);
}

#[test]
fn a_site_that_only_set_two_dns_records_is_seen_over_a_thin_line() {
    const SITE: &str = "slow.test";
    let scratch = tempfile::tempdir().expect("scratch");
    let root = scratch.path().join("root");
    small_site(&root);
    let old = SystemTime::now() - Duration::from_secs(30 * 86_400);
    for path in Tree::of(&root).0.keys() {
        let file = fs::File::options().write(true).open(root.join(path));
        file.and_then(|file| file.set_modified(old))
            .expect("scratch");
    }
    let says = "Cache-Control: public, max-age=600\r\n";
    let origin = Origin::start_on_line(&root, 1_000_000, says);
    let names = NameServer::start();
    let addr = free_addr();
    let announce = format!("http://{addr}/announce");
    let dns = names.addr.to_string();
    let key = scratch.path().join("operator.key");
    let state = scratch.path().join("state");
    let (tracker, listening) = tracker_at(
        addr,
        &[
            "--operator-key",
            text(&key),
            "--announce-url",
            &announce,
            "--state",
            text(&state),
            "--dns",
            &dns,
            "--allow-net",
            "127.0.0.0/8",
            "--peer-listen",
            "127.0.0.1:0",
        ],
    );
    let operator = listening["operator"].as_str().expect("a key");
    let scene = Scene {
        site: SITE,
        truth: Tree::of(&root),
        root,
        tracker,
        tracker_addr: addr,
        home: Some(origin.addr),
    };
    // Without the record there is only an honest page.
    let before = get(addr, SITE, "/");
    assert_eq!(before.status, 404, "{before:?}");
    let honest = String::from_utf8_lossy(&before.body).into_owned();
    assert!(
        honest.contains("nor agreed to be served from here"),
        "{honest}"
    );
    let record = format!("v=1; origin=http://{}; operator={operator}", origin.addr);
    names.set(&format!("_spikeswarm.{SITE}"), &["v=spf1 -all", &record]);
    let more = ["--volunteer", "--dns", &dns];
    let few = ["--volunteer", "--dns", &dns, "--hits", "40"];
    let mut bridges = vec![bridge(&announce, scratch.path(), 0, &few)];
    bridges.extend((1..5).map(|n| bridge(&announce, scratch.path(), n, &more)));
    // Asked for too early, it was known not to consent for a minute at most.
    let began = Instant::now();
    let mut first = scene.visit("/").expect("the tracker answers");
    while first.status == 404 {
        assert!(began.elapsed() < 2 * SOON, "{}", scene.tracker.said());
        std::thread::sleep(Duration::from_millis(500));
        first = scene.visit("/").expect("the tracker answers");
    }
    assert_eq!(
        (first.status, first.by),
        (200, origin.addr),
        "at first at home"
    );
    scene.until_bridges_have_all();
    scene.in_chromium(scratch.path());
    let size: u64 = scene
        .pages()
        .iter()
        .map(|(_, right)| right.len() as u64)
        .sum();
    let before = origin.sent();
    assert!(
        before < 4 * size,
        "each page once, and to the first visitors: {before} of {size}"
    );
    let spent = bridges.remove(0);
    scene.troubles(bridges);
    let meanwhile = origin.sent() - before;
    eprintln!("origin sent {before} bytes of {size} until all was copied, {meanwhile} since");
    drop(spent);
    // It takes the record back: nobody is sent to volunteers any more.
    names.set(&format!("_spikeswarm.{SITE}"), &[]);
    let since = Instant::now();
    while get(addr, SITE, "/").status != 404 {
        assert!(since.elapsed() < 2 * SOON, "{}", scene.tracker.said());
        std::thread::sleep(Duration::from_millis(500));
    }
}
