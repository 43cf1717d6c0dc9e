//! Liars and sybils: the file is right, they are banned, nobody honest is, and the time it takes.

use std::net::SocketAddr;

use swarm_proto::bitfield::Bitfield;
use swarm_proto::download::{DownloadConfig, Source};

use super::*;
use crate::torrent::{large, large_v1};

/// One leech and twenty peers that have everything, every other one of that manner. Gives the time
/// it took.
fn twenty(seed: u64, torrent: &Torrent, manner: Manner) -> (Net, f64) {
    let mut net = Net::new(seed, CALM, torrent);
    let leech = net.leech(UPLINK);
    for index in 0..20 {
        let peer = net.seed(UPLINK / 10.0);
        if index % 2 == 0 {
            net.nodes[peer].manner = manner;
        }
        net.dial(Duration::from_millis(index), leech, peer);
    }
    let took = complete(&mut net, 900);
    assert_only_liars_banned(&net);
    (net, took)
}

/// How many of those that lie were found out by the first node.
fn banned(net: &Net) -> usize {
    let banned = |node: &&node::Node| net.nodes[0].banned.contains(&node.addr);
    net.nodes.iter().filter(banned).count()
}

#[test]
fn t7_ten_liars_of_twenty_are_all_banned_and_cost_at_most_twice_the_time() {
    let told = seeds(many(100), |seed| {
        let (_, clean) = twenty(seed, large(), Manner::Honest);
        let (net, took) = twenty(seed, large(), Manner::LiesOncePerPiece);
        assert_eq!(banned(&net), 10, "{}", state(&net));
        let wasted = net.nodes[0].download.stats().wasted as f64 / 16_384.0;
        // What the liars sent truly, seven blocks of each piece of eight, is kept.
        assert!(wasted <= 30.0, "{wasted} blocks wasted: {}", state(&net));
        let ratio = took / clean;
        assert!(ratio <= 2.0, "{took} s against {clean} s: {}", state(&net));
        (ratio, clean, wasted)
    });
    let ratios: Vec<_> = told.iter().map(|(ratio, ..)| *ratio).collect();
    let clean: Vec<_> = told.iter().map(|(_, clean, _)| *clean).collect();
    let wasted: Vec<_> = told.iter().map(|(.., wasted)| *wasted).collect();
    println!(
        "clean {:.1} s; with liars {:.2} of that, {:.2} at worst; {:.0} blocks wasted",
        mean(&clean),
        mean(&ratios),
        worst(&ratios),
        mean(&wasted)
    );
}

#[test]
fn t7_liars_of_a_v1_torrent_are_all_banned_without_leaf_hashes() {
    let ratios = seeds(many(100), |seed| {
        let (_, clean) = twenty(seed, large_v1(), Manner::Honest);
        let (net, took) = twenty(seed, large_v1(), Manner::LiesOncePerPiece);
        assert_eq!(banned(&net), 10, "{}", state(&net));
        took / clean
    });
    println!(
        "{:.2} of the clean time, {:.2} at worst",
        mean(&ratios),
        worst(&ratios)
    );
    // What a liar sent truly is thrown away with the rest of its piece here.
    assert!(worst(&ratios) < 2.5, "{}", worst(&ratios));
}

#[test]
fn t7_liars_that_mostly_tell_the_truth_harm_nobody_honest() {
    seeds(many(200), |seed| {
        let torrent = if seed % 2 == 0 { small() } else { small_v1() };
        twenty(seed, torrent, Manner::LiesOneIn(5));
    });
}

#[test]
fn t7_lying_leech_in_a_swarm_is_found_by_all_that_it_lied_to() {
    seeds(40, |seed| {
        let mut net = net(seed, CALM);
        net.seed(UPLINK);
        (0..5).for_each(|_| {
            net.leech(UPLINK);
        });
        net.nodes[3].manner = Manner::LiesOneIn(2);
        net.mesh();
        complete(&mut net, 120);
        assert_only_liars_banned(&net);
    });
}

/// One leech, five honest seeds and so many sybils in two networks, which call it over and over;
/// the leech takes fifty connections.
fn besieged(seed: u64, sybils: u32, manner: Manner) -> f64 {
    let mut net = Net::new(seed, CALM, large());
    let have = Bitfield::none_of(large().meta.geometry());
    let source = Source::Metainfo(large().meta.clone());
    let config = DownloadConfig {
        peers_max: 50,
        ..DownloadConfig::default()
    };
    let leech = net.node(source, have, UPLINK, config);
    let honest: Vec<_> = (0..5).map(|_| net.seed(UPLINK / 4.0)).collect();
    for n in 0..sybils {
        let sybil = net.seed(UPLINK);
        net.nodes[sybil].manner = manner;
        let [.., a, b] = n.to_be_bytes();
        net.nodes[sybil].addr = SocketAddr::from(([45, 9 + (n % 2) as u8, a, b], 6881));
        let after = Duration::from_millis(net.rng.random_range(0..500));
        net.dial(after, sybil, leech);
    }
    // They come when all slots are long taken.
    for peer in honest {
        let after = Duration::from_millis(net.rng.random_range(1000..2000));
        net.dial(after, peer, leech);
    }
    let done = |net: &Net| net.nodes[leech].download.is_complete();
    assert!(net.run(Duration::from_secs(600), done), "{}", state(&net));
    assert_only_liars_banned(&net);
    net.elapsed().as_secs_f64()
}

#[test]
fn t22_five_hundred_sybils_cost_at_most_twice_the_time() {
    for manner in [Manner::Mute, Manner::LiesOncePerPiece] {
        let ratios = seeds(many(20), |seed| {
            besieged(seed, 500, manner) / besieged(seed, 0, manner)
        });
        println!(
            "{manner:?}: {:.2} of the clean time, {:.2} at worst",
            mean(&ratios),
            worst(&ratios)
        );
        assert!(worst(&ratios) <= 2.0, "{manner:?}: {}", worst(&ratios));
    }
}
