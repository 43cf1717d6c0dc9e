//! A puller against an origin on loopback that says what it is told to.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use swarm_peer::Trust;
use swarm_peer::connector::AddressPolicy;
use swarm_peer::http::HttpClient;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::*;

const NOW: u64 = 1_800_000_000;

/// Path, then status line and headers, then body.
type Says = BTreeMap<&'static str, (String, Vec<u8>)>;

#[derive(Clone, Default)]
struct Origin {
    says: Arc<Mutex<Says>>,
    /// Request lines and conditions, in order.
    heard: Arc<Mutex<Vec<String>>>,
    /// Requests under way, and the most at a time.
    busy: Arc<Mutex<(usize, usize)>>,
}

impl Origin {
    async fn start() -> (Self, HomeUrl) {
        let origin = Self::default();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let home = format!("http://{}", listener.local_addr().unwrap());
        let served = origin.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let served = served.clone();
                tokio::spawn(async move { served.serve(stream).await });
            }
        });
        (origin, home.parse().unwrap())
    }

    async fn serve(&self, stream: TcpStream) -> Option<()> {
        let mut stream = BufReader::new(stream);
        loop {
            let mut head = Vec::new();
            loop {
                let mut line = String::new();
                if stream.read_line(&mut line).await.ok()? == 0 {
                    return None;
                }
                if line.trim().is_empty() {
                    break;
                }
                head.push(line.trim().to_owned());
            }
            let conditions = head.iter().filter(|line| line.starts_with("if-"));
            let heard = std::iter::once(&head[0]).chain(conditions);
            let heard: Vec<&str> = heard.map(String::as_str).collect();
            self.heard.lock().unwrap().push(heard.join("|"));
            assert!(!head.iter().any(|line| line.starts_with("cookie")));
            {
                let mut busy = self.busy.lock().unwrap();
                busy.0 += 1;
                busy.1 = busy.1.max(busy.0);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
            self.busy.lock().unwrap().0 -= 1;
            let target = head[0].split(' ').nth(1).unwrap().to_owned();
            let said = self.says.lock().unwrap().get(target.as_str()).cloned();
            let not_found = || ("404 Not Found".to_owned(), b"no".to_vec());
            let (head, body) = said.unwrap_or_else(not_found);
            let length = match head.contains("content-length") || head.starts_with("304") {
                true => String::new(),
                false => format!("\r\ncontent-length: {}", body.len()),
            };
            let head = format!("HTTP/1.1 {head}{length}\r\n\r\n");
            stream.write_all(head.as_bytes()).await.ok()?;
            stream.write_all(&body).await.ok()?;
        }
    }

    fn say(&self, path: &'static str, head: &str, body: impl AsRef<[u8]>) {
        let said = (head.to_owned(), body.as_ref().to_vec());
        self.says.lock().unwrap().insert(path, said);
    }

    /// A page that may be kept for an hour.
    fn page(&self, path: &'static str, html: &str) {
        let head = "200 OK\r\ncontent-type: text/html\r\ncache-control: max-age=3600";
        self.say(path, head, html);
    }

    fn take_heard(&self) -> Vec<String> {
        std::mem::take(&mut *self.heard.lock().unwrap())
    }

    /// Paths asked for since the last time, sorted.
    fn asked(&self) -> Vec<String> {
        let heard = self.take_heard().into_iter();
        let mut paths: Vec<String> = heard
            .map(|line| line.split(' ').nth(1).unwrap().to_owned())
            .collect();
        paths.sort();
        paths
    }
}

struct Rig {
    dir: tempfile::TempDir,
    origin: Origin,
    puller: Puller,
}

fn site() -> SiteName {
    SiteName::parse("site.example").unwrap()
}

fn path(text: &str) -> SitePath {
    SitePath::parse(text).unwrap()
}

fn puller(dir: &Path, home: &HomeUrl, config: PullConfig) -> Puller {
    let policy = AddressPolicy {
        allow_net: vec!["127.0.0.0/8".parse().unwrap()],
    };
    let lane = HttpClient::new(policy).unwrap().lane(Trust::Stranger);
    Puller::open(dir, site(), home.clone(), lane, config).unwrap()
}

async fn rig(config: PullConfig) -> Rig {
    let dir = tempfile::tempdir().unwrap();
    let (origin, home) = Origin::start().await;
    let puller = puller(dir.path(), &home, config);
    Rig {
        dir,
        origin,
        puller,
    }
}

impl Rig {
    /// Wants a path and goes on until there is nothing left to do.
    async fn pull(&mut self, unix: u64, wanted: &str) {
        self.puller.want(unix, &path(wanted));
        self.finish(unix).await;
    }

    async fn finish(&mut self, unix: u64) {
        let all = async {
            loop {
                let going = self.puller.go_on(unix);
                if tokio::time::timeout(Duration::from_millis(100), going)
                    .await
                    .is_err()
                    && self.puller.is_idle()
                {
                    return;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), all)
            .await
            .expect("in time");
    }

    fn held(&mut self) -> Vec<String> {
        let listed = self.puller.copy().listed();
        let paths = listed.iter().map(|file| file.path.as_str().to_owned());
        let mut paths: Vec<String> = paths.collect();
        paths.sort();
        paths
    }
}

#[tokio::test]
async fn a_site_is_copied_from_its_front_page_on_each_thing_once() {
    let mut rig = rig(PullConfig::default()).await;
    let origin = rig.origin.clone();
    origin.page(
        "/",
        "<link rel=stylesheet href=s.css><a href=/posts>p</a><a href=/gone>g</a>",
    );
    origin.page(
        "/posts",
        "<a href=/posts/one>1</a><a href=/>home</a><a href=/?q>q</a>",
    );
    origin.page(
        "/posts/one",
        "<img src=/pic.png><a href=http://else.example/x>x</a>",
    );
    origin.say(
        "/s.css",
        "200 OK\r\ncontent-type: text/css\r\ncache-control: max-age=60",
        "a{b:url(bg.png)}",
    );
    for picture in ["/bg.png", "/pic.png"] {
        origin.say(
            picture,
            "200 OK\r\ncontent-type: image/png\r\ncache-control: max-age=60",
            picture,
        );
    }
    rig.pull(NOW, "/").await;
    assert_eq!(
        rig.held(),
        [
            "/bg.png",
            "/index.html",
            "/pic.png",
            "/posts",
            "/posts/one",
            "/s.css"
        ]
    );
    assert_eq!(
        origin.asked(),
        [
            "/",
            "/bg.png",
            "/gone",
            "/pic.png",
            "/posts",
            "/posts/one",
            "/s.css"
        ]
    );
    assert!(origin.busy.lock().unwrap().1 <= 2, "two at a time");
    rig.pull(NOW + 1, "/posts").await;
    assert_eq!(origin.asked(), Vec::<String>::new());
}

#[tokio::test]
async fn t47_what_is_personal_is_asked_for_once_and_never_held() {
    let mut rig = rig(PullConfig::default()).await;
    let origin = rig.origin.clone();
    origin.page(
        "/",
        "<a href=/login>l</a><a href=/private>p</a><a href=/varies>v</a><a href=/moved>m</a>",
    );
    let page = "content-type: text/html\r\ncache-control: max-age=3600";
    origin.say(
        "/login",
        &format!("200 OK\r\n{page}\r\nset-cookie: s=1"),
        "hello you",
    );
    origin.say(
        "/private",
        "200 OK\r\ncache-control: private, max-age=60",
        "yours",
    );
    origin.say(
        "/varies",
        &format!("200 OK\r\n{page}\r\nvary: Cookie"),
        "yours",
    );
    origin.say("/moved", "301 Moved\r\nlocation: /there/", "");
    origin.page("/there/", "<a href=//else.example/>x</a>");
    rig.pull(NOW, "/").await;
    assert_eq!(rig.held(), ["/index.html", "/there/index.html"]);
    for _ in 0..2 {
        rig.pull(NOW + 60, "/login").await;
    }
    let asked = origin.asked();
    assert_eq!(
        asked.iter().filter(|path| *path == "/login").count(),
        1,
        "{asked:?}"
    );
    let files = std::fs::read_dir(rig.dir.path().join("files"))
        .unwrap()
        .count();
    assert_eq!(files, 2, "nothing of the others is left on the disk");
    let parts = std::fs::read_dir(rig.dir.path()).unwrap().flatten();
    let parts = parts.filter(|entry| entry.file_name().to_string_lossy().starts_with("part-"));
    assert_eq!(parts.count(), 0);
}

#[tokio::test]
async fn a_copy_stays_within_its_budget_whatever_the_lengths_say() {
    let config = PullConfig {
        bytes_max: 10_000,
        file_len_max: 4_000,
        files_max: 6,
        ..PullConfig::default()
    };
    let mut rig = rig(config).await;
    let origin = rig.origin.clone();
    let links: String = (0..9).map(|n| format!("<img src=/{n}.png>")).collect();
    origin.page("/", &links);
    let image = "200 OK\r\ncontent-type: image/png\r\ncache-control: max-age=60";
    origin.say("/0.png", image, vec![0; 4_001]);
    origin.say(
        "/1.png",
        &format!("{image}\r\ncontent-length: 99999999999"),
        vec![0; 10],
    );
    // Without any length, chunk after chunk.
    let chunks = format!("{image}\r\ntransfer-encoding: chunked\r\nx: content-length");
    origin.say(
        "/2.png",
        &chunks,
        "fff\r\n".to_owned() + &"x".repeat(4095) + "\r\n0\r\n\r\n",
    );
    for name in ["/3.png", "/4.png", "/5.png"] {
        origin.say(name, image, name.repeat(500));
    }
    for name in ["/6.png", "/7.png", "/8.png"] {
        origin.say(name, image, name);
    }
    rig.pull(NOW, "/").await;
    let held = rig.held();
    assert!(held.len() <= 6, "{held:?}");
    assert!(rig.puller.copy().bytes() <= 10_000);
    for out in ["/0.png", "/1.png", "/2.png"] {
        assert!(!held.iter().any(|path| path == out), "{held:?}");
    }
    assert!(held.len() >= 5, "the rest has room: {held:?}");
}

#[tokio::test]
async fn what_holds_no_longer_is_asked_for_by_its_version() {
    let mut rig = rig(PullConfig::default()).await;
    let origin = rig.origin.clone();
    let head = |version: &str| {
        format!(
            "200 OK\r\ncontent-type: text/html\r\ncache-control: max-age=400\r\netag: \"{version}\""
        )
    };
    origin.say("/", &head("one"), "first");
    rig.pull(NOW, "/").await;
    rig.held();
    origin.take_heard();
    // Times in answers are the wall clock's; so is what is stale.
    let now = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap()
        .as_secs();
    rig.puller.refresh(now + 300);
    rig.finish(now + 300).await;
    assert_eq!(origin.take_heard(), Vec::<String>::new(), "it holds still");
    origin.say("/", "304 Not Modified\r\ncache-control: max-age=500", "");
    rig.puller.refresh(now + 410);
    rig.finish(now + 410).await;
    assert_eq!(
        origin.take_heard(),
        ["GET / HTTP/1.1|if-none-match: \"one\""]
    );
    assert!(!rig.puller.copy().has_changed(), "nothing new to publish");
    origin.say("/", &head("two"), "second");
    rig.puller.refresh(now + 1000);
    rig.finish(now + 1000).await;
    assert_eq!(
        origin.take_heard(),
        ["GET / HTTP/1.1|if-none-match: \"one\""]
    );
    assert!(rig.puller.copy().has_changed());
    assert_eq!(rig.held(), ["/index.html"]);
    // The site takes it back.
    origin.say("/", "200 OK\r\ncache-control: no-store", "third");
    rig.puller.refresh(now + 3000);
    rig.finish(now + 3000).await;
    assert_eq!(rig.held(), Vec::<String>::new());
}

#[tokio::test]
async fn t66_a_site_that_has_enough_is_left_alone_for_as_long_as_it_says() {
    for (status, wait) in [
        ("503 Busy\r\nretry-after: 7", 7),
        ("429 Many", 60),
        ("509 Limit", 60),
    ] {
        let mut rig = rig(PullConfig::default()).await;
        let origin = rig.origin.clone();
        origin.page("/", "<img src=/1.png><img src=/2.png><img src=/3.png>");
        for picture in ["/1.png", "/2.png", "/3.png"] {
            origin.say(picture, status, "");
        }
        rig.puller.want(NOW, &path("/"));
        let before = Instant::now();
        rig.finish(NOW).await;
        let asked = origin.asked();
        // The two that were under way at once, at most.
        assert!(asked.len() <= 3, "{status}: {asked:?}");
        let until = rig.puller.resting.expect("it rests");
        let waits = until - before;
        assert!(waits >= Duration::from_secs(wait), "{status}: {waits:?}");
        assert!(waits < Duration::from_secs(wait + 3), "{status}: {waits:?}");
        rig.puller.want(NOW, &path("/4.png"));
        rig.finish(NOW).await;
        assert_eq!(origin.asked(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn t66_a_site_is_asked_so_often_a_second_and_no_more() {
    let config = PullConfig {
        requests: 20,
        ..PullConfig::default()
    };
    let mut rig = rig(config).await;
    // Nothing of it is there.
    let began = Instant::now();
    for n in 0..30 {
        rig.puller.want(NOW, &path(&format!("/{n}")));
    }
    rig.finish(NOW).await;
    assert_eq!(rig.origin.asked().len(), 30);
    assert!(began.elapsed() >= Duration::from_millis(29 * 50));
}

#[tokio::test]
async fn t27_a_site_cannot_send_us_inside() {
    let (origin, home) = Origin::start().await;
    origin.page("/", "secret");
    let dir = tempfile::tempdir().unwrap();
    let lane = HttpClient::new(AddressPolicy::default())
        .unwrap()
        .lane(Trust::Stranger);
    let mut puller = Puller::open(dir.path(), site(), home, lane, PullConfig::default()).unwrap();
    puller.want(NOW, &path("/"));
    puller.go_on(NOW).await;
    assert_eq!(origin.asked(), Vec::<String>::new());
    assert_eq!(puller.copy().len(), 0);
    assert!(puller.rests());
}

#[tokio::test]
async fn a_copy_goes_on_after_a_restart_without_asking_again() {
    let mut rig = rig(PullConfig::default()).await;
    let origin = rig.origin.clone();
    origin.page("/", "<img src=/1.png>");
    origin.say(
        "/1.png",
        "200 OK\r\ncontent-type: image/png\r\ncache-control: max-age=60",
        "one",
    );
    rig.pull(NOW, "/").await;
    rig.puller.copy().save().unwrap();
    std::fs::write(rig.dir.path().join("part-9"), "half").unwrap();
    let home = rig.puller.home.clone();
    rig.puller = puller(rig.dir.path(), &home, PullConfig::default());
    assert!(!rig.dir.path().join("part-9").exists());
    origin.take_heard();
    assert_eq!(rig.held(), ["/1.png", "/index.html"]);
    rig.pull(NOW, "/").await;
    assert_eq!(origin.asked(), Vec::<String>::new());
}
