//! Whole swarms in simulated time: delay, loss, narrow uplinks, broken connections, churn and lies.
//!
//! Each test runs many seeds on all cores and names the one that fails; `SIM_SEED=n` runs that one
//! alone, `SIM_SEEDS=n` the first `n` of each test.

#[path = "sim/faults.rs"]
mod faults;
#[path = "sim/liars.rs"]
mod liars;
#[path = "sim/net.rs"]
mod net;
#[path = "sim/node.rs"]
mod node;
#[path = "sim/torrent.rs"]
mod torrent;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use net::{Net, Weather};
use node::Manner;
use torrent::{Torrent, small, small_v1};

const CALM: Weather = Weather {
    latency: (Duration::from_millis(2), Duration::from_millis(60)),
    drop_after: Duration::ZERO,
    loss: 0.0,
};

const ROUGH: Weather = Weather {
    latency: (Duration::from_millis(5), Duration::from_millis(300)),
    drop_after: Duration::from_secs(4),
    loss: 0.0,
};

/// Bytes a second.
const UPLINK: f64 = 400_000.0;

fn env(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// Runs the story with each seed on all cores, and says which one fails. Gives what each told, in
/// no order.
fn seeds<T: Send>(count: u64, story: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let range = match env("SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..env("SIM_SEEDS").unwrap_or(count),
    };
    let (next, failed) = (AtomicU64::new(range.start), Mutex::new(None));
    let told = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= range.end || failed.lock().unwrap().is_some() {
                        return;
                    }
                    match catch_unwind(AssertUnwindSafe(|| story(seed))) {
                        Ok(tale) => told.lock().unwrap().push(tale),
                        Err(_) => *failed.lock().unwrap() = Some(seed),
                    }
                }
            });
        }
    });
    if let Some(seed) = failed.into_inner().unwrap() {
        panic!("failed with SIM_SEED={seed}");
    }
    let told = told.into_inner().unwrap();
    println!(
        "{} seeds in {:.1} s",
        told.len(),
        began.elapsed().as_secs_f64()
    );
    told
}

/// As many seeds as a build of this kind gets through in seconds.
fn many(release: u64) -> u64 {
    match cfg!(debug_assertions) {
        true => release.div_ceil(20),
        false => release,
    }
}

fn net(seed: u64, weather: Weather) -> Net {
    Net::new(seed, weather, small())
}

/// Whether every honest node has everything.
fn all_complete(net: &Net) -> bool {
    net.nodes
        .iter()
        .all(|node| node.manner != Manner::Honest || node.download.is_complete())
}

/// Runs until every honest node has everything.
fn complete(net: &mut Net, limit: u64) -> f64 {
    let done = net.run(Duration::from_secs(limit), all_complete);
    assert!(done, "{}", state(net));
    net.elapsed().as_secs_f64()
}

fn assert_nobody_banned(net: &Net) {
    assert!(
        net.nodes.iter().all(|node| node.banned.is_empty()),
        "{}",
        state(net)
    );
}

/// Nobody banned anybody but liars.
fn assert_only_liars_banned(net: &Net) {
    for banned in net.nodes.iter().flat_map(|node| &node.banned) {
        let node = net.nodes.iter().find(|node| node.addr == *banned);
        assert!(
            node.is_some_and(|node| node.manner.is_liar()),
            "honest {banned} was banned: {}",
            state(net)
        );
    }
}

fn state(net: &Net) -> String {
    let stats = net.nodes.iter().take(30).map(|node| {
        let (stats, banned) = (node.download.stats(), node.banned.iter().zip(&node.reasons));
        format!(
            "{:?} {stats:?} {:?}\n",
            node.manner,
            banned.collect::<Vec<_>>()
        )
    });
    format!("after {:?}:\n{}", net.elapsed(), stats.collect::<String>())
}

fn mean(of: &[f64]) -> f64 {
    of.iter().sum::<f64>() / of.len().max(1) as f64
}

fn worst(of: &[f64]) -> f64 {
    of.iter().copied().fold(0.0, f64::max)
}

#[test]
fn one_seed_feeds_five_leeches() {
    let took = seeds(60, |seed| {
        let mut net = net(seed, CALM);
        net.seed(UPLINK);
        (0..5).for_each(|_| {
            net.leech(UPLINK);
        });
        net.mesh();
        // Five copies through one uplink would take this long; sharing must do far better.
        let alone = 5.0 * small().content.len() as f64 / UPLINK;
        let took = complete(&mut net, 60);
        assert!(took < 0.6 * alone, "{took} s of {alone} s");
        took / alone
    });
    let mean = mean(&took);
    println!("mean: {mean:.2} of the time without sharing");
    assert!(mean < 0.4, "{mean}");
}

/// Five peers, and whatever chance has in store for them.
fn any_weather(seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed ^ 0x5eed);
    let far = Duration::from_millis(rng.random_range(5..400));
    let weather = Weather {
        latency: (far / 4, far),
        drop_after: match rng.random_range(0..3) {
            0 => Duration::from_millis(rng.random_range(3000..15_000)),
            _ => Duration::ZERO,
        },
        loss: match rng.random() {
            true => rng.random_range(0.0..0.05),
            false => 0.0,
        },
    };
    let torrent: &Torrent = match rng.random_range(0..4) {
        0 => small_v1(),
        _ => small(),
    };
    let mut net = Net::new(seed, weather, torrent);
    net.seed(rng.random_range(50_000.0..UPLINK));
    let has_v2 = torrent.meta.info_hash_v2().is_some();
    for _ in 0..4 {
        let uplink = rng.random_range(20_000.0..UPLINK);
        match rng.random_range(0..6) {
            0 => net.magnet(uplink, true, has_v2),
            _ => net.leech(uplink),
        };
    }
    net.mesh();
    for node in 1..5 {
        match rng.random_range(0..8) {
            0 => net.nodes[node].manner = Manner::LiesOneIn(rng.random_range(1..20)),
            1 => net.nodes[node].manner = Manner::LiesOncePerPiece,
            2 => net.nodes[node].manner = Manner::Mute,
            3 | 4 => {
                let leave = Duration::from_millis(rng.random_range(500..8000));
                let back = leave + Duration::from_millis(rng.random_range(100..20_000));
                match rng.random() {
                    true => net.churn(node, leave, back),
                    false => net.vanish(node, leave, back),
                }
            }
            _ => {}
        }
    }
    complete(&mut net, 600);
    assert_only_liars_banned(&net);
}

#[test]
fn five_peers_get_everything_in_any_weather() {
    seeds(many(1000), any_weather);
}

#[test]
fn padding_is_never_sent() {
    let mut net = net(3, CALM);
    net.seed(UPLINK);
    net.leech(UPLINK);
    net.mesh();
    complete(&mut net, 60);
    let files = small().meta.files().iter().filter(|file| !file.pad);
    let bytes: u64 = files.map(|file| file.length).sum();
    assert_eq!(net.nodes[1].download.stats().downloaded, bytes);
}

#[test]
fn hybrids_come_from_clients_that_count_padding_too() {
    seeds(60, |seed| {
        let mut net = net(seed, ROUGH);
        for _ in 0..2 {
            let old = net.seed(UPLINK);
            net.nodes[old].manner = Manner::Bep3;
        }
        // Some leeches meet one that knows better.
        if seed % 2 == 0 {
            net.seed(UPLINK);
        }
        (0..4).for_each(|_| {
            net.leech(UPLINK);
        });
        net.mesh();
        complete(&mut net, 120);
        assert_nobody_banned(&net);
    });
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
        complete(&mut net, 120);
        assert_nobody_banned(&net);
    });
}

#[test]
fn five_hundred_peers_serve_each_other() {
    let took = seeds(2, |seed| {
        let mut net = net(seed, CALM);
        (0..5).for_each(|_| {
            net.seed(UPLINK);
        });
        (0..495).for_each(|_| {
            net.leech(UPLINK);
        });
        net.join_at_random(10);
        let took = complete(&mut net, 300);
        assert_nobody_banned(&net);
        took
    });
    println!("mean {:.1} s, worst {:.1} s", mean(&took), worst(&took));
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
        complete(&mut net, 60);
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
        complete(&mut net, 120);
        let sent: Vec<u64> = net.nodes.iter().map(|node| node.sent).collect();
        (net.elapsed(), sent)
    };
    assert_eq!(run(11), run(11));
    assert_ne!(run(11), run(12));
}
