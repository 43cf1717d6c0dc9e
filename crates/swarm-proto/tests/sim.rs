//! Whole swarms in simulated time: delay, narrow uplinks, broken connections, churn and lies.
//!
//! Each test runs many seeds and names the one that fails; `SIM_SEED=n` runs that one alone.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};
use swarm_proto::metainfo::{FileHasher, Metainfo, MetainfoBuilder};

#[path = "sim/net.rs"]
mod net;

use net::{Net, Weather};

/// A hybrid of some files, and its content with padding.
fn torrent() -> &'static (Arc<Metainfo>, Arc<Vec<u8>>) {
    static TORRENT: OnceLock<(Arc<Metainfo>, Arc<Vec<u8>>)> = OnceLock::new();
    TORRENT.get_or_init(|| {
        let mut rng = SmallRng::seed_from_u64(7);
        let mut builder = MetainfoBuilder::new("site", 65_536);
        let mut files = Vec::new();
        for (name, len) in [
            ("a", 300_000),
            ("b", 70_000),
            ("c", 10),
            ("d", 900_000),
            ("e", 20_000),
        ] {
            let mut bytes = vec![0; len];
            rng.fill_bytes(&mut bytes);
            let mut hasher = FileHasher::new(65_536);
            hasher.update(&bytes);
            builder.file(vec![name.to_owned()], hasher.finish());
            files.push((name, bytes));
        }
        let meta = builder.build().unwrap();
        let mut content = vec![0; meta.geometry().total_length() as usize];
        for file in meta.files().iter().filter(|file| !file.pad) {
            let (_, bytes) = files
                .iter()
                .find(|(name, _)| [*name] == file.path[..])
                .unwrap();
            content[file.offset as usize..][..bytes.len()].copy_from_slice(bytes);
        }
        (Arc::new(meta), Arc::new(content))
    })
}

const CALM: Weather = Weather {
    latency: (Duration::from_millis(2), Duration::from_millis(60)),
    drop_after: Duration::ZERO,
};

const ROUGH: Weather = Weather {
    latency: (Duration::from_millis(5), Duration::from_millis(300)),
    drop_after: Duration::from_secs(4),
};

/// Bytes a second.
const UPLINK: f64 = 400_000.0;

/// Runs the story with each seed, and says which one fails.
fn seeds(count: u64, story: impl Fn(u64) + std::panic::RefUnwindSafe) {
    let chosen = std::env::var("SIM_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    for seed in chosen.map_or(0..count, |seed| seed..seed + 1) {
        if std::panic::catch_unwind(|| story(seed)).is_err() {
            panic!("failed with SIM_SEED={seed}");
        }
    }
}

fn net(seed: u64, weather: Weather) -> Net {
    let (meta, content) = torrent();
    Net::new(seed, weather, meta, content)
}

/// Whether every honest node has everything.
fn all_complete(net: &Net) -> bool {
    net.nodes
        .iter()
        .all(|node| node.lies > 0 || node.download.is_complete())
}

fn assert_content(net: &Net) {
    for (index, node) in net.nodes.iter().enumerate() {
        if node.lies == 0 {
            assert!(
                node.content == **torrent().1,
                "content of node {index} differs"
            );
        }
    }
}

fn state(net: &Net) -> String {
    let stats = net
        .nodes
        .iter()
        .map(|node| format!("{:?}\n", node.download.stats()));
    format!(
        "after {:?}:\n{}",
        net.now - net.start,
        stats.collect::<String>()
    )
}

#[test]
fn one_seed_feeds_five_leeches() {
    let total = std::sync::Mutex::new(0.0);
    seeds(60, |seed| {
        let mut net = net(seed, CALM);
        net.seed(UPLINK);
        (0..5).for_each(|_| {
            net.leech(UPLINK);
        });
        net.mesh();
        assert!(
            net.run(Duration::from_secs(60), all_complete),
            "{}",
            state(&net)
        );
        assert_content(&net);
        // Five copies through one uplink would take this long; sharing must do far better.
        let alone = 5.0 * torrent().1.len() as f64 / UPLINK;
        let took = (net.now - net.start).as_secs_f64();
        *total.lock().unwrap() += took / alone;
        assert!(took < 0.6 * alone, "{took} s of {alone} s");
    });
    let mean = *total.lock().unwrap() / 60.0;
    println!("mean: {mean:.2} of the time without sharing");
    assert!(mean < 0.4, "{mean}");
}

#[test]
fn padding_is_never_sent() {
    let mut net = net(3, CALM);
    net.seed(UPLINK);
    net.leech(UPLINK);
    net.mesh();
    assert!(
        net.run(Duration::from_secs(60), all_complete),
        "{}",
        state(&net)
    );
    assert_content(&net);
    let files = torrent().0.files().iter().filter(|file| !file.pad);
    let bytes: u64 = files.map(|file| file.length).sum();
    assert_eq!(net.nodes[1].download.stats().downloaded, bytes);
}

#[test]
fn swarms_outlive_broken_connections_and_churn() {
    seeds(60, |seed| {
        let mut net = net(seed, ROUGH);
        net.seed(UPLINK);
        (0..5).for_each(|_| {
            net.leech(UPLINK);
        });
        net.mesh();
        let mut rng = SmallRng::seed_from_u64(seed);
        for node in 1..5 {
            let leave = Duration::from_millis(rng.random_range(500..5000));
            let back = leave + Duration::from_millis(rng.random_range(100..8000));
            net.churn(node, leave, back);
        }
        assert!(
            net.run(Duration::from_secs(120), all_complete),
            "{}",
            state(&net)
        );
        assert_content(&net);
        assert!(net.nodes.iter().all(|node| node.banned.is_empty()));
    });
}

#[test]
fn silent_peers_cost_seconds_and_not_the_file() {
    seeds(40, |seed| {
        let mut net = net(seed, CALM);
        let leech = net.leech(UPLINK);
        for index in 0..6 {
            let peer = net.seed(UPLINK);
            net.nodes[peer].mute = index % 2 == 0;
            net.dial(Duration::from_millis(index * 10), leech, peer);
        }
        let done = |net: &Net| net.nodes[leech].download.is_complete();
        assert!(net.run(Duration::from_secs(20), done), "{}", state(&net));
        assert!(net.nodes[leech].banned.is_empty());
        // What they owe is asked of others within ten seconds, whatever else goes on.
        let took = net.now - net.start;
        assert!(took < Duration::from_secs(12), "{took:?}");
    });
}

/// Ten of twenty peers flip a bit in one of so many blocks.
fn liars(seed: u64, one_in: u32) -> Duration {
    let mut net = net(seed, CALM);
    let leech = net.leech(UPLINK);
    for index in 0..20 {
        let peer = net.seed(UPLINK / 10.0);
        if index % 2 == 0 {
            net.nodes[peer].lies = one_in;
        }
        net.dial(Duration::from_millis(index), leech, peer);
    }
    assert!(
        net.run(Duration::from_secs(300), all_complete),
        "{}",
        state(&net)
    );
    assert_content(&net);
    let node = &net.nodes[leech];
    for peer in &net.nodes[1..] {
        let banned = node.banned.contains(&peer.addr);
        assert!(
            !banned || peer.lies > 0,
            "honest {} was banned: {}",
            peer.addr,
            state(&net)
        );
        // A liar that was never caught in the act did no harm.
        assert!(
            banned || peer.lies != 1,
            "liar {} got away: {}",
            peer.addr,
            state(&net)
        );
    }
    net.now - net.start
}

#[test]
fn all_liars_are_banned_and_nobody_else() {
    let clean: f64 = {
        let mut net = net(0, CALM);
        let leech = net.leech(UPLINK);
        for index in 0..20 {
            let peer = net.seed(UPLINK / 10.0);
            net.dial(Duration::from_millis(index), leech, peer);
        }
        assert!(net.run(Duration::from_secs(300), all_complete));
        (net.now - net.start).as_secs_f64()
    };
    let worst = std::sync::Mutex::new(0.0_f64);
    seeds(40, |seed| {
        let took = liars(seed, 1).as_secs_f64();
        let mut worst = worst.lock().unwrap();
        *worst = worst.max(took);
    });
    let worst = *worst.lock().unwrap();
    println!("clean {clean:.1} s, with liars at worst {worst:.1} s");
    // Half of the senders are lost, and what they sent is fetched again.
    assert!(worst < 5.0 * clean, "{worst} s against {clean} s");
}

#[test]
fn liars_that_mostly_tell_the_truth_harm_nobody_honest() {
    seeds(40, |seed| {
        liars(seed, 5);
    });
}

#[test]
fn lying_leech_in_a_swarm_is_found_by_all_that_it_lied_to() {
    seeds(40, |seed| {
        let mut net = net(seed, CALM);
        net.seed(UPLINK);
        (0..5).for_each(|_| {
            net.leech(UPLINK);
        });
        net.nodes[3].lies = 2;
        net.mesh();
        assert!(
            net.run(Duration::from_secs(120), all_complete),
            "{}",
            state(&net)
        );
        assert_content(&net);
        let liar = net.nodes[3].addr;
        assert!(
            net.nodes
                .iter()
                .all(|node| node.banned.iter().all(|banned| *banned == liar))
        );
    });
}

#[test]
fn magnet_links_lead_to_the_whole_torrent() {
    seeds(40, |seed| {
        let mut net = net(seed, CALM);
        net.seed(UPLINK);
        net.magnet(UPLINK, true, true);
        net.magnet(UPLINK, false, true);
        net.magnet(UPLINK, true, false);
        net.mesh();
        assert!(
            net.run(Duration::from_secs(60), all_complete),
            "{}",
            state(&net)
        );
        assert_content(&net);
    });
}

#[test]
fn same_seed_tells_the_same_story() {
    let run = |seed| {
        let mut net = net(seed, ROUGH);
        net.seed(UPLINK);
        (0..4).for_each(|_| {
            net.leech(UPLINK);
        });
        net.mesh();
        assert!(net.run(Duration::from_secs(120), all_complete));
        let sent: Vec<u64> = net.nodes.iter().map(|node| node.sent).collect();
        (net.now - net.start, sent)
    };
    assert_eq!(run(11), run(11));
    assert_ne!(run(11), run(12));
}
