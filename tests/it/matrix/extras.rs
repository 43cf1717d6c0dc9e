//! What is exercised once with a foreign client rather than in every cell.

use std::fmt;
use std::fs;
use std::path::Path;

use swarm_e2e::foreign::{Client, Job, libtorrent};
use swarm_e2e::lab::{End, SERVICE_PORTS, THEIRS};
use swarm_e2e::{Proc, Tree, tool};

use super::cell::Room;
use super::{Kind, Outcome, Stage, caught};
use crate::{SOON, publish, text};

/// One exchange beside the matrix.
pub(super) struct Extra {
    /// What is shown, for the table.
    pub(super) name: &'static str,
    /// With whom.
    pub(super) client: &'static str,
    run: fn(&Stage, &Room<'_>),
}

impl fmt::Display for Extra {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.client)
    }
}

impl Extra {
    pub(super) fn outcome(&self, stage: &Stage, at: usize) -> Outcome {
        caught(|| {
            let room = Room::new(stage, false, &format!("extra {at}"), 500 + at);
            (self.run)(stage, &room);
        })
    }
}

/// All of them.
pub(super) fn all() -> Vec<Extra> {
    let extra = |name, client, run| Extra { name, client, run };
    vec![
        extra(
            "ours fetches a v1 torrent from a web seed alone",
            "nginx",
            |stage, room| {
                from_web_seed(stage, room, Kind::V1);
            },
        ),
        extra(
            "ours fetches a v2 torrent from a web seed alone",
            "nginx",
            |stage, room| {
                from_web_seed(stage, room, Kind::V2);
            },
        ),
        extra(
            "ours fetches a hybrid from a web seed alone",
            "nginx",
            |stage, room| {
                from_web_seed(stage, room, Kind::Hybrid);
            },
        ),
        extra(
            "ours fetches from a web seed that the torrent names",
            "nginx",
            by_url_list,
        ),
        extra(
            "ours fetches from a web seed and a peer",
            "nginx, libtorrent",
            web_seed_beside_peer,
        ),
        extra(
            "ours hears of the seed from theirs by PEX",
            "libtorrent",
            pex_from_theirs,
        ),
        extra(
            "theirs hears of the seed from ours by PEX",
            "libtorrent",
            pex_from_ours,
        ),
        extra(
            "ours finds theirs by the DHT alone",
            "libtorrent",
            dht_to_theirs,
        ),
        extra(
            "theirs finds ours by the DHT alone",
            "libtorrent",
            dht_to_ours,
        ),
        extra(
            "ours publishes, theirs fetches all bundles",
            "libtorrent",
            |stage, room| {
                published(stage, room, Client::Libtorrent);
            },
        ),
        extra(
            "ours publishes, theirs fetches all bundles",
            "aria2",
            |stage, room| {
                published(stage, room, Client::Aria2);
            },
        ),
    ]
}

/// nginx with the content at their end, and its URL.
fn nginx(stage: &Stage, room: &Room<'_>) -> (Proc, String) {
    let home = room.home.display();
    let port = SERVICE_PORTS.start + 700 + room.port % 100 / 10;
    let config = format!(
        "daemon off; user root; worker_processes 1; pid {home}/nginx.pid; error_log stderr; \
         events {{ worker_connections 64; }} \
         http {{ access_log off; client_body_temp_path {home}/t; proxy_temp_path {home}/t; \
         fastcgi_temp_path {home}/t; uwsgi_temp_path {home}/t; scgi_temp_path {home}/t; \
         server {{ listen {THEIRS}:{port}; root {}; }} }}",
        stage.data().display()
    );
    let path = room.home.join("nginx.conf");
    fs::write(&path, config).expect("scratch");
    let program = tool("nginx", "nginx-light");
    let args = ["-c", text(&path), "-e", "stderr"];
    let proc = room.lab.start(End::Theirs, "nginx", &program, args);
    let pid = room.home.join("nginx.pid");
    for _ in 0..200 {
        if pid.exists() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    (proc, format!("http://{THEIRS}:{port}/"))
}

fn fetch(room: &Room<'_>, args: &[&str]) {
    let out = room.out();
    let all = [&["fetch", "--out", text(&out)], args].concat();
    let mut fetch = room.peer(&all);
    fetch.event("complete", SOON);
    assert!(fetch.end(SOON).success(), "{}", fetch.said());
}

fn from_web_seed(stage: &Stage, room: &Room<'_>, kind: Kind) {
    let torrent = stage.torrent(kind, &format!("web-{}", kind.name()), &[]);
    let (_nginx, url) = nginx(stage, room);
    fetch(room, &[text(&torrent.path), "--web-seed", &url]);
    room.check(&stage.truth);
}

fn by_url_list(stage: &Stage, room: &Room<'_>) {
    let (_nginx, url) = nginx(stage, room);
    let torrent = stage.torrent(Kind::V1, "url-list", &["--web-seed", &url]);
    // What a stranger's torrent names may lead nowhere private unless the operator says so.
    fetch(room, &[text(&torrent.path), "--allow-net", "10.99.0.0/24"]);
    room.check(&stage.truth);
}

fn web_seed_beside_peer(stage: &Stage, room: &Room<'_>) {
    let (_nginx, url) = nginx(stage, room);
    let torrent = stage.torrent(Kind::Hybrid, "beside", &[]);
    let data = stage.data();
    let job = job(room, text(&torrent.path), &data, 0, &[]);
    let _seed = Client::Libtorrent.seed(&job);
    let peer = room.their_addr();
    fetch(
        room,
        &[text(&torrent.path), "--web-seed", &url, "--peer", &peer],
    );
    room.check(&stage.truth);
}

/// A foreign job of this room at `port` past the room's own, with its data in `data`.
fn job<'a>(
    room: &'a Room<'_>,
    what: &'a str,
    data: &'a Path,
    past: u16,
    peers: &'a [String],
) -> Job<'a> {
    Job {
        lab: room.lab,
        what,
        data,
        home: &room.home,
        port: room.port + past,
        utp: false,
        peers,
        patience: SOON,
    }
}

/// Theirs is so slow that ours can only be whole because it has heard of the seed.
fn pex_from_theirs(stage: &Stage, room: &Room<'_>) {
    let torrent = stage.torrent(Kind::V1, "pex-theirs", &[]);
    let (data, nothing) = (stage.data(), room.home.join("nothing"));
    let what = text(&torrent.path);
    let _seed = Client::Libtorrent.seed(&job(room, what, &data, 0, &[]));
    let seed = [room.their_addr()];
    let mut hub = libtorrent(&job(room, what, &nothing, 1, &seed), "fetch", &["--slow"]);
    let listening = hub.event("listening", SOON);
    let hub_addr = listening["peer"].as_str().expect("an address");
    fetch(
        room,
        &[what, "--peer", hub_addr, "--allow-net", "10.99.0.0/24"],
    );
    assert!(
        hub.last_event("complete").is_none(),
        "theirs was not slow enough to show it"
    );
    room.check(&stage.truth);
}

/// Ours is so slow that theirs can only be whole because it has heard of the seed from us.
fn pex_from_ours(stage: &Stage, room: &Room<'_>) {
    let torrent = stage.torrent(Kind::V1, "pex-ours", &[]);
    let (data, slow_out, out) = (stage.data(), room.home.join("slow"), room.out());
    let what = text(&torrent.path);
    let _seed = Client::Libtorrent.seed(&job(room, what, &data, 0, &[]));
    let seed = room.their_addr();
    let args = [
        "fetch",
        what,
        "--out",
        text(&slow_out),
        "--peer",
        &seed,
        "--download",
        "200kbit",
    ];
    let mut ours = room.peer(&args);
    ours.event_where("progress", SOON, |told| told["peers"].as_u64() > Some(0));
    let us = [room.our_addr()];
    Client::Libtorrent.fetch(&job(room, what, &out, 2, &us));
    assert!(
        ours.last_event("complete").is_none(),
        "ours was not slow enough to show it"
    );
    room.check(&stage.truth);
}

/// A node of a DHT that nobody else knows, and its address.
fn dht_node(stage: &Stage, room: &Room<'_>) -> (Proc, String) {
    let torrent = stage.torrent(
        Kind::V1,
        &format!("node-{}", room.port),
        &["--web-seed", "http://node.test/"],
    );
    let nothing = room.home.join("node");
    let at = job(room, text(&torrent.path), &nothing, 5, &[]);
    let addr = format!("{THEIRS}:{}", room.port + 5);
    let mut node = libtorrent(&at, "fetch", &["--idle", "--dht", &addr]);
    node.event("listening", SOON);
    (node, addr)
}

fn dht_to_theirs(stage: &Stage, room: &Room<'_>) {
    let (_node, entry) = dht_node(stage, room);
    let torrent = stage.torrent(Kind::V2, "dht-theirs", &[]);
    let data = stage.data();
    let what = text(&torrent.path);
    let mut seed = libtorrent(&job(room, what, &data, 0, &[]), "seed", &["--dht", &entry]);
    seed.event("complete", SOON);
    let more = [
        "--dht",
        "on",
        "--dht-bootstrap",
        &entry,
        "--allow-net",
        "10.99.0.0/24",
    ];
    fetch(room, &[&[what], &more[..]].concat());
    room.check(&stage.truth);
}

fn dht_to_ours(stage: &Stage, room: &Room<'_>) {
    let (_node, entry) = dht_node(stage, room);
    let torrent = stage.torrent(Kind::V2, "dht-ours", &[]);
    let (data, out) = (stage.data(), room.out());
    let what = text(&torrent.path);
    let args = [
        "seed",
        what,
        "--data",
        text(&data),
        "--dht",
        "on",
        "--dht-bootstrap",
        &entry,
    ];
    let mut seed = room.peer(&[&args[..], &["--allow-net", "10.99.0.0/24"]].concat());
    seed.event("seeding", SOON);
    let mut leech = libtorrent(&job(room, what, &out, 1, &[]), "fetch", &["--dht", &entry]);
    leech.event("complete", SOON);
    room.check(&stage.truth);
}

/// A site's folder as `publish` makes it, fetched bundle by bundle.
fn published(stage: &Stage, room: &Room<'_>, client: Client) {
    let (_tracker, announce) = room.tracker();
    let root = stage.scratch.path().join("data/content");
    let site = "http://content";
    let more = ["--tracker", announce.as_str(), "--bundle-target", "1MiB"];
    let published = publish(&room.home, site, &root, &more);
    let mut seed = room.peer(&["seed", text(&published.out)]);
    seed.event("seeding", SOON);
    let peers = [room.our_addr()];
    let out = room.out();
    for torrent in published.torrents() {
        client.fetch(&Job {
            lab: room.lab,
            what: text(&torrent),
            data: Path::new(&out),
            home: &room.home,
            port: room.port,
            utp: false,
            peers: &peers,
            patience: SOON,
        });
    }
    let got = Tree::of(&out.join("content"));
    stage.truth.assert_within(&got);
}
