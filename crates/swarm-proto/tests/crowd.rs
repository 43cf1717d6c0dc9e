//! Crowds that come at once to a seed with a thin uplink, in simulated time.
//!
//! Links are as in a home: 20 Mbit/s up, 100 down, queues of a tenth of a second. The measure is the
//! fluid bound, the time in which the uplinks could carry it all if bytes were water:
//! max(F/u_s, F/d, N·F/(u_s+Σu_i)). `SIM_SEED=n` runs that seed alone.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};
use swarm_proto::download::SuperSeed;
use swarm_proto::metainfo::{FileHasher, Metainfo, MetainfoBuilder};

#[path = "crowd/net.rs"]
mod net;

use net::{Net, Weather};

const PIECE: u32 = 256 * 1024;
const LEN: usize = 32 * 1024 * 1024;

type Torrent = (Arc<Metainfo>, Arc<Vec<u8>>);

fn torrent() -> &'static Torrent {
    static TORRENT: OnceLock<Torrent> = OnceLock::new();
    TORRENT.get_or_init(|| build(LEN, PIECE))
}

fn build(len: usize, piece: u32) -> Torrent {
    let mut bytes = vec![0; len];
    SmallRng::seed_from_u64(7).fill_bytes(&mut bytes);
    let mut hasher = FileHasher::new(piece);
    hasher.update(&bytes);
    let mut builder = MetainfoBuilder::new("crowd", piece);
    builder.file(vec!["film".to_owned()], hasher.finish());
    (Arc::new(builder.build().unwrap()), Arc::new(bytes))
}

/// Bytes a second of so many megabits.
const fn mbit(rate: f64) -> f64 {
    rate * 1e6 / 8.0
}

const LAN: Weather = Weather {
    latency: (Duration::from_micros(200), Duration::from_millis(2)),
};

/// What came of a crowd.
#[derive(Debug, Clone, Copy)]
struct Outcome {
    /// Seconds until the last has everything, over the fluid bound.
    ratio: f64,
    /// Bytes that the seed sent, over those of the torrent.
    seed_copies: f64,
}

/// Who comes, and to what kind of seed.
#[derive(Debug, Clone, Copy)]
struct Crowd {
    leeches: usize,
    /// So many of them ignore suggestions.
    deaf: usize,
    /// All come within this time.
    arrival: Duration,
    super_seed: SuperSeed,
}

impl Crowd {
    fn of(leeches: usize) -> Self {
        Self {
            leeches,
            deaf: 0,
            arrival: Duration::ZERO,
            super_seed: SuperSeed::Auto,
        }
    }
}

/// A seed and its leeches.
fn crowd(seed: u64, crowd: Crowd) -> Outcome {
    let Crowd {
        leeches, arrival, ..
    } = crowd;
    let (meta, content) = torrent();
    let mut net = Net::new(seed, LAN, meta, content);
    net.super_seed = crowd.super_seed;
    net.queue = Duration::from_millis(150);
    // A packet of 1,514 bytes carries 1,448, and every second one is acknowledged.
    net.overhead = (0.046, 0.023);
    let up = mbit(20.0);
    net.seed(up);
    let mut rng = SmallRng::seed_from_u64(seed);
    for n in 0..leeches {
        let node = match n < crowd.deaf {
            true => net.deaf_leech(up),
            false => net.leech(up),
        };
        net.nodes[node].downlink = mbit(100.0);
    }
    net.nodes[0].downlink = mbit(100.0);
    let mut at = vec![Duration::ZERO; leeches + 1];
    for at in at.iter_mut().skip(2) {
        *at = arrival.mul_f64(rng.random::<f64>());
    }
    for b in 1..=leeches {
        for a in 0..b {
            let start = at[a].max(at[b]);
            // Tracker, then connecting.
            let after = start + Duration::from_millis(rng.random_range(30..120));
            net.dial(after, b, a);
        }
    }
    let all = |net: &Net| net.nodes.iter().all(|node| node.download.is_complete());
    let ended = net.run(Duration::from_secs(600), all);
    let took = (net.now - net.start).as_secs_f64();
    assert!(ended, "unfinished after {took} s");
    let (f, n) = (LEN as f64, leeches as f64);
    let bound = (f / up).max(n * f / (up + n * up)) + arrival.as_secs_f64();
    Outcome {
        ratio: took / bound,
        seed_copies: net.nodes[0].sent as f64 * 1.046 / f,
    }
}

/// The worst of several seeds.
fn worst(count: u64, who: Crowd) -> Outcome {
    let chosen = std::env::var("SIM_SEED").ok().and_then(|s| s.parse().ok());
    let mut worst = Outcome {
        ratio: 0.0,
        seed_copies: 0.0,
    };
    for seed in chosen.map_or(0..count, |seed: u64| seed..seed + 1) {
        let one = crowd(seed, who);
        println!("{who:?}, seed {seed}: {one:.3?}");
        worst.ratio = worst.ratio.max(one.ratio);
        worst.seed_copies = worst.seed_copies.max(one.seed_copies);
    }
    worst
}

#[test]
fn eight_that_come_at_once_are_done_soon_after_one_copy_left_the_seed() {
    let worst = worst(3, Crowd::of(8));
    assert!(worst.ratio < 1.16, "{worst:?}");
    assert!(worst.seed_copies < 1.14, "{worst:?}");
}

#[test]
fn leeches_that_ignore_suggestions_are_done_sooner_when_shown_one_piece_after_the_other() {
    let row = |super_seed| Crowd {
        deaf: 8,
        super_seed,
        ..Crowd::of(8)
    };
    let shown = worst(2, row(SuperSeed::Always));
    assert!(shown.ratio < 1.35, "{shown:?}");
    assert!(shown.seed_copies < 1.30, "{shown:?}");
    // Who comes first sees everything.
    let shown = worst(2, row(SuperSeed::Auto));
    assert!(shown.ratio < 1.45, "{shown:?}");
    assert!(shown.seed_copies < 1.40, "{shown:?}");
    let seen = worst(1, row(SuperSeed::Never));
    assert!(seen.seed_copies > 1.5, "so it helps: {seen:?}");
}

#[test]
fn one_leech_that_ignores_suggestions_is_served_as_fast_as_the_uplink_goes() {
    for (super_seed, most) in [(SuperSeed::Auto, 1.07), (SuperSeed::Always, 1.14)] {
        let row = Crowd {
            deaf: 1,
            super_seed,
            ..Crowd::of(1)
        };
        let alone = worst(1, row);
        assert!(alone.ratio < most, "{super_seed}: {alone:?}");
    }
}

/// Seconds until 29 honest leeches have everything, each in a network of its own, beside so many
/// greedy hosts of eight connections each, that fetch without end and give nothing.
fn beside_greedy(seed: u64, hosts: u8) -> f64 {
    const HONEST: usize = 29;
    let (meta, content) = build(12 << 20, 64 << 10);
    let mut net = Net::new(seed, LAN, &meta, &content);
    net.queue = Duration::from_millis(150);
    net.seed(mbit(20.0));
    for honest in 1..=HONEST {
        let node = net.leech(mbit(20.0));
        net.nodes[node].addr = ([10 + honest as u8, 1, 1, 1], 6881).into();
    }
    for connection in 0..hosts * 8 {
        let node = net.leech(mbit(20.0));
        net.nodes[node].addr = (
            [90 + connection % hosts, 1, 1, 1],
            7000 + u16::from(connection),
        )
            .into();
        net.nodes[node].greedy = true;
        net.nodes[node].mute = true;
    }
    let mut rng = SmallRng::seed_from_u64(seed);
    for b in 1..net.nodes.len() {
        for a in 0..b.min(HONEST + 1) {
            // The greedy are there first.
            let after = if b > HONEST { 0..20 } else { 20..200 };
            net.dial(Duration::from_millis(rng.random_range(after)), b, a);
        }
    }
    let done = |net: &Net| {
        let honest = &net.nodes[1..=HONEST];
        honest.iter().all(|node| node.download.is_complete())
    };
    assert!(net.run(Duration::from_secs(600), done), "unfinished");
    (net.now - net.start).as_secs_f64()
}

#[test]
fn t23_three_greedy_hosts_slow_honest_leeches_by_less_than_a_third() {
    let (clean, beside) = (beside_greedy(1, 0), beside_greedy(1, 3));
    println!("{clean:.1} s alone, {beside:.1} s beside the greedy");
    assert!(beside < 1.3 * clean, "{beside} s against {clean} s");
}

/// Seconds until so many leeches of ours have everything, and the share of it that a deaf one has
/// then which tells nobody of what it gets.
fn beside_quiet(leeches: usize, super_seed: SuperSeed) -> (f64, f64) {
    let (meta, content) = build(12 << 20, 64 << 10);
    let mut net = Net::new(1, LAN, &meta, &content);
    net.super_seed = super_seed;
    net.queue = Duration::from_millis(150);
    net.seed(mbit(20.0));
    let quiet = leeches + 1;
    for leech in 1..=quiet {
        let node = match leech == quiet {
            true => net.deaf_leech(mbit(20.0)),
            false => net.leech(mbit(20.0)),
        };
        net.nodes[node].addr = ([10 + leech as u8, 1, 1, 1], 6881).into();
    }
    net.nodes[quiet].quiet = true;
    net.nodes[quiet].mute = true;
    let mut rng = SmallRng::seed_from_u64(1);
    for b in 1..=quiet {
        // The quiet one knows of the seed alone.
        for a in 0..if b == quiet { 1 } else { b } {
            net.dial(Duration::from_millis(rng.random_range(20..200)), b, a);
        }
    }
    let done = |net: &Net| {
        let ours = &net.nodes[1..=leeches];
        ours.iter().all(|node| node.download.is_complete())
    };
    assert!(net.run(Duration::from_secs(120), done), "unfinished");
    let has = net.nodes[quiet].download.have();
    let share = f64::from(has.count()) / f64::from(has.len());
    ((net.now - net.start).as_secs_f64(), share)
}

#[test]
fn a_leech_that_tells_nothing_of_what_it_gets_has_a_slot_that_is_free() {
    let rows = [
        // It has its share of the uplink, and more: it asks further ahead.
        (4, SuperSeed::Never, 12.0, 0.2..1.01),
        // It is shown little, since it never says to have what it was shown.
        (4, SuperSeed::Auto, 7.0, 0.04..0.5),
        // All slots are needed: who says nothing may well throw away what it takes.
        (20, SuperSeed::Never, 8.0, 0.0..0.15),
    ];
    for (leeches, super_seed, most, shares) in rows {
        let (took, share) = beside_quiet(leeches, super_seed);
        println!("{leeches} in {took:.1} s, the quiet one has {share:.2} then, {super_seed}");
        assert!(took < most && shares.contains(&share), "{took} s, {share}");
    }
}

/// Mean ratio over so many seeds of each crowd, printed: `cargo test --release --test crowd means
/// -- --ignored --nocapture`, with `SIM_SEEDS=n` for other than 20 each.
#[test]
#[ignore = "measures; asserts nothing that other tests do not"]
fn means() {
    let seeds = std::env::var("SIM_SEEDS").ok().and_then(|s| s.parse().ok());
    let seeds: u64 = seeds.unwrap_or(20);
    let minute = Duration::from_secs(60);
    let mut rows = vec![
        ("8 of ours", Crowd::of(8)),
        ("30 of ours", Crowd::of(30)),
        (
            "30 of ours in a minute",
            Crowd {
                arrival: minute,
                ..Crowd::of(30)
            },
        ),
    ];
    for super_seed in [SuperSeed::Never, SuperSeed::Auto, SuperSeed::Always] {
        for (name, leeches, deaf, arrival) in [
            ("8 deaf", 8, 8, Duration::ZERO),
            ("8, half of them deaf", 8, 4, Duration::ZERO),
            ("1 deaf", 1, 1, Duration::ZERO),
            ("8 deaf in half a minute", 8, 8, minute / 2),
            ("30 deaf", 30, 30, Duration::ZERO),
        ] {
            let row = Crowd {
                leeches,
                deaf,
                arrival,
                super_seed,
            };
            rows.push((name, row));
        }
    }
    for (name, row) in rows {
        let outcomes: Vec<_> = (0..seeds).map(|seed| crowd(seed, row)).collect();
        let mean = |of: fn(&Outcome) -> f64| outcomes.iter().map(of).sum::<f64>() / seeds as f64;
        let worst = outcomes.iter().map(|one| one.ratio).fold(0.0, f64::max);
        println!(
            "{name:>24}, {:>6}: ratio {:.4}, worst {worst:.4}, copies {:.3}",
            row.super_seed.to_string(),
            mean(|one| one.ratio),
            mean(|one| one.seed_copies),
        );
    }
}

/// What came of a fetch through a thin or a long line.
#[derive(Debug)]
struct Line {
    /// Seconds, over those in which the line could carry it.
    ratio: f64,
    /// Bytes that came for nothing, over those of the torrent.
    wasted: f64,
    mbit: f64,
}

/// One leech whose downlink carries so much, beside so many seeds with that much up each.
fn fetch(len: usize, seeds: usize, (down, up): (f64, f64), latency: Duration) -> Line {
    let (meta, content) = build(len, PIECE);
    let weather = Weather {
        latency: (latency, latency),
    };
    let mut net = Net::new(1, weather, &meta, &content);
    net.queue = Duration::from_millis(150);
    let leech = net.leech(mbit(20.0));
    net.nodes[leech].downlink = down;
    for n in 0..seeds {
        let seed = net.seed(up);
        net.nodes[seed].addr = ([10 + n as u8, 1, 1, 1], 6881).into();
        net.dial(Duration::from_millis(20 * n as u64), leech, seed);
    }
    let done = |net: &Net| net.nodes[0].download.is_complete();
    assert!(net.run(Duration::from_secs(3600), done), "unfinished");
    let took = (net.now - net.start).as_secs_f64();
    let line = down.min(up * seeds as f64);
    let outcome = Line {
        ratio: took * line / len as f64,
        wasted: net.nodes[0].download.stats().wasted as f64 / len as f64,
        mbit: len as f64 / took * 8e-6,
    };
    println!("{seeds} seeds with {up:.0} B/s, {down:.0} B/s down, {latency:?}: {outcome:.3?}");
    outcome
}

#[test]
fn a_thin_line_beside_many_seeds_carries_nothing_twice() {
    let near = Duration::from_millis(20);
    for (down, seeds) in [(30e3, 20), (30e3, 60), (10e3, 20), (120e3, 40)] {
        let line = fetch(2 << 20, seeds, (down, mbit(20.0)), near);
        assert!(line.ratio < 1.1, "{line:?}");
        assert!(line.wasted < 0.02, "{line:?}");
    }
}

#[test]
fn many_thin_seeds_are_all_asked() {
    let near = Duration::from_millis(20);
    for (up, seeds) in [(5e3, 20), (5e3, 60), (20e3, 40)] {
        let line = fetch(16 << 20, seeds, (mbit(100.0), up), near);
        assert!(line.ratio < 1.3, "{line:?}");
        assert!(line.wasted < 0.10, "{line:?}");
    }
}

#[test]
fn a_fast_seed_that_comes_late_is_asked_though_thin_ones_owe_much() {
    let near = Duration::from_millis(20);
    let (meta, content) = build(4 << 20, PIECE);
    let latency = (near, near);
    let mut net = Net::new(1, Weather { latency }, &meta, &content);
    let leech = net.leech(mbit(20.0));
    // A block each forty seconds.
    for n in 0..20 {
        let seed = net.seed(400.0);
        net.nodes[seed].addr = ([10 + n as u8, 1, 1, 1], 6881).into();
        net.dial(Duration::from_millis(1500 * n as u64), leech, seed);
    }
    let fast = net.seed(mbit(20.0));
    net.nodes[fast].addr = ([60, 1, 1, 1], 6881).into();
    net.dial(Duration::from_secs(120), leech, fast);
    let done = |net: &Net| net.nodes[0].download.is_complete();
    assert!(net.run(Duration::from_secs(600), done), "unfinished");
    let took = (net.now - net.start).as_secs_f64() - 120.0;
    println!("{took:.1} s after the fast one came");
    assert!(took < 15.0, "{took} s");
}

#[test]
fn a_far_seed_is_asked_for_as_much_as_is_on_the_way() {
    for (one_way, least) in [(50, 500.0), (100, 350.0)] {
        let line = (mbit(1000.0), mbit(1000.0));
        let line = fetch(384 << 20, 1, line, Duration::from_millis(one_way));
        assert!(line.mbit > least, "{line:?}");
    }
}
