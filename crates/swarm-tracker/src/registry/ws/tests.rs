use std::collections::{HashMap, HashSet};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use swarm_proto::tracker::ScrapeRequest;

use super::super::{RegistryConfig, Via, check_record};
use super::*;
use crate::config::{AnnounceConfig, VolunteerConfig};
use crate::testing::{TestSite, v1, v2};

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const UNIX: u64 = 1_800_000_000;

fn at(secs: u64) -> Moment {
    Moment {
        elapsed: Duration::from_secs(secs),
        unix: UNIX + secs,
    }
}

fn registry(open: bool) -> Registry {
    let config = RegistryConfig {
        open,
        announce: AnnounceConfig::default(),
        volunteers: VolunteerConfig::default(),
        bridge_domains: Vec::new(),
        seed: 3,
    };
    Registry::new(config, at(0))
}

fn peer(n: u32) -> PeerId {
    let mut id = [0; 20];
    id[..4].copy_from_slice(&n.to_be_bytes());
    PeerId::new(id)
}

/// A leech, or with `left` 0 a seed, with so many offers; their ids begin with its own.
fn announce(swarm: SwarmId, n: u32, left: u64, offers: u8) -> Announce {
    let offers = (0..offers).map(|offer| {
        let mut id = *peer(n).as_bytes();
        id[19] = offer;
        let sdp = format!("offer {offer} of {n}");
        Offer { id, sdp }
    });
    Announce {
        left: Some(left),
        offers: offers.collect(),
        ..Announce::new(swarm, peer(n))
    }
}

fn with_event(announce: Announce, event: AnnounceEvent) -> Announce {
    Announce { event, ..announce }
}

/// What is told of an announce and who gets its offers.
fn tell(
    registry: &mut Registry,
    secs: u64,
    socket: SocketId,
    announce: &Announce,
) -> (AnnounceReply, Vec<(SocketId, SwarmId, OfferId)>) {
    let taken = registry.announce_by_socket(at(secs), socket, announce);
    let (reply, passed) = taken.expect("accepted");
    let passed = passed.iter().map(|p| (p.to, p.swarm_id, p.offer.id));
    (reply, passed.collect())
}

/// A socket that is in a swarm.
fn join(registry: &mut Registry, swarm: SwarmId, n: u32, left: u64) -> SocketId {
    let socket = registry.open_socket(HERE);
    tell(registry, 0, socket, &announce(swarm, n, left, 0));
    socket
}

fn answer(swarm: SwarmId, from: u32, to: u32, offer: u8) -> Answer {
    let mut offer_id = *peer(to).as_bytes();
    offer_id[19] = offer;
    Answer {
        swarm_id: swarm,
        peer_id: peer(from),
        to_peer_id: peer(to),
        offer_id,
        sdp: "answer".into(),
    }
}

fn scraped(registry: &Registry, swarm: SwarmId) -> Option<(u32, u32, u32)> {
    let swarm_ids = vec![swarm];
    let reply = registry.scrape(&ScrapeRequest { swarm_ids });
    let entry = reply.files.first()?.1;
    Some((entry.complete, entry.incomplete, entry.downloaded))
}

#[test]
fn an_offer_goes_to_each_of_several_others_and_answers_come_back() {
    let mut registry = registry(true);
    let id = v1(1);
    let others: Vec<_> = (1..=3).map(|n| join(&mut registry, id, n, 1)).collect();
    let own = registry.open_socket(HERE);
    let (reply, passed) = tell(&mut registry, 0, own, &announce(id, 9, 1, 5));
    assert_eq!((reply.complete, reply.incomplete), (0, 4));
    assert!((120..=127).contains(&reply.interval));
    let to: HashSet<_> = passed.iter().map(|(to, ..)| *to).collect();
    assert_eq!(
        to,
        others.iter().copied().collect(),
        "each once, not itself"
    );
    for (to, swarm_id, offer) in passed {
        assert_eq!(swarm_id, id);
        let n = 1 + u32::try_from(others.iter().position(|o| *o == to).unwrap()).unwrap();
        let back = registry.answer_by_socket(at(1), to, &answer(id, n, 9, offer[19]));
        let expected = PassAnswer {
            to: own,
            swarm_id: id,
        };
        assert_eq!(back, Some(expected));
    }
}

#[test]
fn numwant_and_the_number_of_offers_bound_what_is_passed_on() {
    let mut registry = registry(true);
    let id = v1(1);
    for n in 1..=20 {
        join(&mut registry, id, n, 1);
    }
    let own = registry.open_socket(HERE);
    for (offers, numwant, expected) in [
        (10, None, 10),
        (3, Some(50), 3),
        (10, Some(2), 2),
        (10, Some(0), 0),
        (0, Some(5), 0),
    ] {
        let request = Announce {
            numwant,
            ..announce(id, 99, 1, offers)
        };
        let (_, passed) = tell(&mut registry, 0, own, &request);
        assert_eq!(passed.len(), expected, "{offers} {numwant:?}");
    }
    let last = with_event(announce(id, 99, 1, 5), AnnounceEvent::Stopped);
    assert_eq!(tell(&mut registry, 0, own, &last).1, [], "who leaves");
}

#[test]
fn seeds_are_offered_nothing_by_seeds() {
    let mut registry = registry(true);
    let id = v1(1);
    let seed = join(&mut registry, id, 1, 0);
    let leech = join(&mut registry, id, 2, 1);
    let other = registry.open_socket(HERE);
    let (_, passed) = tell(&mut registry, 0, other, &announce(id, 3, 0, 5));
    assert_eq!(passed.iter().map(|p| p.0).collect::<Vec<_>>(), [leech]);
    let (_, passed) = tell(&mut registry, 0, leech, &announce(id, 2, 1, 5));
    let to: HashSet<_> = passed.iter().map(|p| p.0).collect();
    assert_eq!(to, HashSet::from([seed, other]));
}

#[test]
fn every_peer_is_offered_equally_often() {
    let mut registry = registry(true);
    let id = v1(1);
    for n in 1..=40 {
        join(&mut registry, id, n, u64::from(n % 4));
    }
    let own = registry.open_socket(HERE);
    let mut seen = HashMap::new();
    for round in 0..4000 {
        // Offers age, or all would be full of them.
        let (_, passed) = tell(&mut registry, 100 * round, own, &announce(id, 99, 1, 5));
        assert_eq!(passed.len(), 5);
        for (to, ..) in passed {
            *seen.entry(to).or_insert(0) += 1;
        }
    }
    // 500 expected each; 5 standard deviations are some 110.
    assert_eq!(seen.len(), 40);
    assert!(seen.values().all(|n| (390..610).contains(n)), "{seen:?}");
}

#[test]
fn t19_an_answer_goes_to_who_offered_once_and_in_time_and_to_nobody_else() {
    let mut registry = registry(true);
    let (id, foreign) = (v1(1), v1(2));
    let bystander = join(&mut registry, foreign, 5, 1);
    let asked = join(&mut registry, id, 1, 1);
    let own = registry.open_socket(HERE);
    let offered = |registry: &mut Registry, secs| {
        let passed = tell(registry, secs, own, &announce(id, 9, 1, 1)).1;
        assert_eq!(passed.len(), 1, "to {asked:?} alone: {passed:?}");
        assert_eq!(passed[0].0, asked);
    };
    offered(&mut registry, 0);
    // Both are in another swarm, too.
    for (socket, n) in [(asked, 1), (own, 9)] {
        tell(&mut registry, 0, socket, &announce(foreign, n, 1, 0));
    }
    // Somebody of the swarm who was not asked.
    let other = join(&mut registry, id, 2, 1);
    let to_another = Answer {
        to_peer_id: peer(2),
        ..answer(id, 1, 9, 0)
    };
    for (socket, wrong) in [
        (other, answer(id, 2, 9, 0)),
        (other, answer(id, 1, 9, 0)),
        (bystander, answer(id, 5, 9, 0)),
        (bystander, answer(foreign, 5, 9, 0)),
        // The one who was, with a word wrong.
        (asked, answer(id, 2, 9, 0)),
        (asked, answer(id, 1, 2, 0)),
        (asked, answer(id, 1, 5, 0)),
        (asked, to_another),
        (asked, answer(id, 1, 9, 1)),
        (asked, answer(foreign, 1, 9, 0)),
    ] {
        let back = registry.answer_by_socket(at(1), socket, &wrong);
        assert_eq!(back, None, "{socket:?} {wrong:?}");
    }
    let right = answer(id, 1, 9, 0);
    assert!(registry.answer_by_socket(at(1), asked, &right).is_some());
    assert_eq!(
        registry.answer_by_socket(at(1), asked, &right),
        None,
        "twice"
    );
    registry.close_socket(other);
    // Too late.
    offered(&mut registry, 100);
    assert_eq!(registry.answer_by_socket(at(162), asked, &right), None);
    // Either of them has left.
    offered(&mut registry, 200);
    let leave = with_event(announce(id, 1, 1, 0), AnnounceEvent::Stopped);
    tell(&mut registry, 200, asked, &leave);
    assert_eq!(registry.answer_by_socket(at(200), asked, &right), None);
    tell(&mut registry, 200, asked, &announce(id, 1, 1, 0));
    offered(&mut registry, 200);
    registry.close_socket(own);
    assert_eq!(registry.answer_by_socket(at(200), asked, &right), None);
}

#[test]
fn who_becomes_a_seed_still_answers_what_it_was_offered() {
    let mut registry = registry(true);
    let id = v1(1);
    let asked = join(&mut registry, id, 1, 1);
    let own = registry.open_socket(HERE);
    tell(&mut registry, 0, own, &announce(id, 9, 1, 1));
    let done = with_event(announce(id, 1, 0, 0), AnnounceEvent::Completed);
    let (reply, _) = tell(&mut registry, 0, asked, &done);
    assert_eq!((reply.complete, reply.incomplete), (1, 1));
    assert!(
        registry
            .answer_by_socket(at(1), asked, &answer(id, 1, 9, 0))
            .is_some()
    );
    assert_eq!(scraped(&registry, id), Some((1, 1, 1)));
    tell(&mut registry, 1, asked, &done);
    assert_eq!(scraped(&registry, id), Some((1, 1, 1)), "counted once");
}

#[test]
fn t19_so_many_offers_wait_at_one_peer_and_of_one_network_an_eighth() {
    let waiting = |source: fn(u8) -> [u8; 4]| {
        let mut registry = registry(true);
        let id = v1(1);
        let asked = join(&mut registry, id, 1, 1);
        for n in 0..200 {
            let own = registry.open_socket(source(n).into());
            tell(
                &mut registry,
                0,
                own,
                &announce(id, 1000 + u32::from(n), 0, 10),
            );
        }
        let before = registry.web.sockets[&asked].offered.len();
        // A minute later there is room again.
        let own = registry.open_socket(source(0).into());
        let (_, passed) = tell(&mut registry, 62, own, &announce(id, 9, 0, 1));
        assert_eq!(passed.len(), 1);
        assert_eq!(registry.web.sockets[&asked].offered.len(), 1);
        before
    };
    assert_eq!(waiting(|n| [203, 0, n, 1]), OFFERS_WAITING_MAX);
    assert_eq!(waiting(|n| [203, 0, 113, n]), OFFERS_WAITING_MAX / 8);
    assert_eq!(
        waiting(|n| [10, 0, 0, n]),
        OFFERS_WAITING_MAX,
        "a private one is none"
    );
}

#[test]
fn t17_one_network_gets_an_eighth_of_the_offers_and_has_256_peers_of_a_swarm() {
    let mut registry = registry(true);
    let id = v1(1);
    let mut honest = HashSet::new();
    for n in 0..20 {
        let socket = registry.open_socket([198, 51, n, 1].into());
        tell(&mut registry, 0, socket, &announce(id, u32::from(n), 1, 0));
        honest.insert(socket);
    }
    let mut refused = 0;
    for n in 0..400_u32 {
        let socket = registry.open_socket([203, 0, 113, n as u8].into());
        let (reply, _) = tell(&mut registry, 0, socket, &announce(id, 1000 + n, 1, 0));
        refused += u32::from(reply.warning.is_some());
    }
    // 20 of other networks came first: none is counted before there are 256.
    assert_eq!(refused, 400 - 256);
    assert_eq!(registry.totals().peers, 20 + 256);
    let own = registry.open_socket([192, 0, 2, 1].into());
    for round in 0..100 {
        let (_, passed) = tell(&mut registry, 100 * round, own, &announce(id, 9, 1, 8));
        let fakes = passed.iter().filter(|p| !honest.contains(&p.0)).count();
        assert_eq!((passed.len(), fakes <= 1), (8, true), "{passed:?}");
    }
}

#[test]
fn all_transports_have_one_swarm_of_figures() {
    let mut registry = registry(true);
    let id = v1(1);
    let by_address = swarm_proto::tracker::AnnounceRequest::new(id, peer(1), 2001);
    registry
        .announce(at(0), HERE, &by_address, Via::Udp)
        .expect("open");
    let seed = join(&mut registry, id, 2, 0);
    let reply = registry
        .announce(at(0), HERE, &by_address, Via::Udp)
        .expect("open");
    assert_eq!((reply.complete, reply.incomplete), (1, 1));
    assert_eq!(reply.peers, [], "nobody can call a browser");
    assert_eq!(scraped(&registry, id), Some((1, 1, 0)));
    let totals = registry.totals();
    assert_eq!((totals.swarms, totals.peers, totals.web_peers), (1, 2, 1));
    registry.close_socket(seed);
    assert_eq!(scraped(&registry, id), Some((0, 1, 0)));
    assert_eq!(registry.totals().web_peers, 0);
}

#[test]
fn peers_go_by_stop_by_the_end_of_their_socket_and_by_silence() {
    let mut registry = registry(true);
    let (one, two) = (v1(1), v1(2));
    let socket = join(&mut registry, one, 1, 1);
    tell(&mut registry, 0, socket, &announce(two, 1, 0, 0));
    assert_eq!(registry.totals().swarms, 2);
    let stop = with_event(announce(one, 1, 1, 0), AnnounceEvent::Stopped);
    let (reply, _) = tell(&mut registry, 0, socket, &stop);
    assert_eq!((reply.complete, reply.incomplete), (0, 0));
    assert_eq!(scraped(&registry, one), None);
    registry.close_socket(socket);
    assert_eq!((registry.totals().swarms, registry.totals().peers), (0, 0));
    // Silence: as long as over HTTP.
    let socket = join(&mut registry, one, 1, 1);
    registry.sweep_peers(at(290));
    assert_eq!(scraped(&registry, one), Some((0, 1, 0)));
    tell(&mut registry, 290, socket, &announce(one, 1, 1, 0));
    registry.sweep_peers(at(580));
    assert_eq!(scraped(&registry, one), Some((0, 1, 0)));
    registry.sweep_peers(at(592));
    assert_eq!(scraped(&registry, one), None);
    assert_eq!(registry.totals().peers, 0);
    // The socket itself goes on.
    tell(&mut registry, 600, socket, &announce(one, 1, 1, 0));
    assert_eq!(scraped(&registry, one), Some((0, 1, 0)));
}

#[test]
fn t19_one_socket_is_in_so_many_swarms_and_the_tracker_has_so_many_peers() {
    let mut registry = registry(true);
    let swarm = |n: usize| {
        let mut id = [0; 20];
        id[..8].copy_from_slice(&n.to_be_bytes());
        SwarmId::new(id)
    };
    let socket = registry.open_socket(HERE);
    for n in 0..SWARMS_PER_SOCKET_MAX + 10 {
        let (reply, _) = tell(&mut registry, 0, socket, &announce(swarm(n), 1, 1, 0));
        assert_eq!(reply.warning.is_none(), n < SWARMS_PER_SOCKET_MAX, "{n}");
    }
    assert_eq!(registry.totals().swarms, SWARMS_PER_SOCKET_MAX);
    // Nothing is left of swarms that it is not in.
    registry.config.announce.peers_max = SWARMS_PER_SOCKET_MAX + 1;
    let another = join(&mut registry, swarm(0), 2, 1);
    let (reply, _) = tell(&mut registry, 0, another, &announce(swarm(1), 2, 1, 0));
    assert!(
        reply
            .warning
            .is_some_and(|warning| warning.contains("full"))
    );
    let by_address = swarm_proto::tracker::AnnounceRequest::new(swarm(0), peer(3), 2001);
    let reply = registry
        .announce(at(0), HERE, &by_address, Via::Udp)
        .expect("open");
    assert!(
        reply
            .warning
            .is_some_and(|warning| warning.contains("full"))
    );
}

#[test]
fn a_hybrid_is_one_swarm_and_each_peer_hears_of_it_by_its_own_id() {
    let mut registry = registry(false);
    let site = TestSite::new("example.org", 1);
    registry.pin(at(0), site.name.clone(), site.root());
    let record = site.record(1, UNIX, &[("/index.html", 1), ("/b.png", 2)]);
    let install = |registry: &mut Registry, record: Vec<u8>, secs| {
        let (root, trust) = registry.anchor(&site.name).expect("pinned");
        let checked = check_record(root, &site.name, trust.as_ref(), record.into(), UNIX + secs);
        let checked = checked.expect("a good record");
        registry.install(at(secs), checked).expect("free")
    };
    install(&mut registry, record, 0);
    let (first, second) = (v1(1), v2(1));
    let one = join(&mut registry, first, 1, 1);
    let two = registry.open_socket(HERE);
    let (reply, passed) = tell(&mut registry, 0, two, &announce(second, 2, 0, 1));
    assert_eq!((reply.complete, reply.incomplete), (1, 1));
    assert_eq!(passed.len(), 1);
    assert_eq!((passed[0].0, passed[0].1), (one, first));
    let back = registry.answer_by_socket(at(0), one, &answer(first, 1, 2, 0));
    let expected = PassAnswer {
        to: two,
        swarm_id: second,
    };
    assert_eq!(back, Some(expected));
    // Who announces both is one peer.
    let (reply, _) = tell(&mut registry, 0, two, &announce(first, 2, 0, 0));
    assert_eq!((reply.complete, reply.incomplete), (1, 1));
    // T18: nothing else is tracked, or passed on.
    let unknown = announce(v1(77), 1, 1, 5);
    let refused = registry.announce_by_socket(at(0), one, &unknown);
    assert_eq!(refused.unwrap_err(), AnnounceRefused::UnknownSwarm);
    assert_eq!(registry.totals().swarms, 2);
    // Taken back by its site, and an hour later by the tracker.
    install(
        &mut registry,
        site.record(2, UNIX + 10, &[("/b.png", 2)]),
        10,
    );
    registry.sweep_peers(at(20));
    tell(&mut registry, 3600, one, &announce(first, 1, 1, 0));
    registry.sweep_peers(at(3700));
    let late = announce(first, 1, 1, 0);
    let refused = registry.announce_by_socket(at(3700), one, &late);
    assert_eq!(refused.unwrap_err(), AnnounceRefused::Withdrawn);
    assert_eq!(registry.totals().peers, 0);
}

#[test]
fn what_an_open_tracker_knew_as_two_swarms_becomes_one() {
    let mut registry = registry(true);
    let site = TestSite::new("example.org", 1);
    registry.pin(at(0), site.name.clone(), site.root());
    let (first, second) = (v1(1), v2(1));
    let seed = join(&mut registry, second, 1, 0);
    join(&mut registry, first, 2, 1);
    let both = join(&mut registry, first, 3, 1);
    tell(&mut registry, 0, both, &announce(second, 3, 1, 0));
    assert_eq!(scraped(&registry, second), Some((1, 1, 0)));
    let record = site.record(1, UNIX, &[("/index.html", 1)]);
    let checked = check_record(site.root(), &site.name, None, record.into(), UNIX);
    registry
        .install(at(0), checked.expect("a good record"))
        .expect("free");
    for id in [first, second] {
        assert_eq!(scraped(&registry, id), Some((1, 2, 0)));
    }
    assert_eq!(registry.totals().peers, 3);
    let own = registry.open_socket(HERE);
    let (_, passed) = tell(&mut registry, 0, own, &announce(first, 9, 1, 9));
    let seeds: Vec<_> = passed.iter().filter(|p| p.0 == seed).map(|p| p.1).collect();
    assert_eq!((passed.len(), seeds), (3, vec![second]));
}

#[test]
fn places_in_swarms_survive_any_order_of_coming_and_going() {
    let mut rng = StdRng::seed_from_u64(5);
    let mut registry = registry(true);
    let mut model: HashMap<SocketId, HashMap<SwarmId, bool>> = HashMap::new();
    for step in 0..20_000_u64 {
        let swarm = v1(rng.random_range(1..=5));
        let sockets: Vec<_> = model.keys().copied().collect();
        let known = (!sockets.is_empty()).then(|| sockets[rng.random_range(0..sockets.len())]);
        match (rng.random_range(0..10), known) {
            (0, _) | (_, None) => drop(model.insert(registry.open_socket(HERE), HashMap::new())),
            (1, Some(socket)) => {
                registry.close_socket(socket);
                model.remove(&socket);
            }
            (2, Some(socket)) => {
                let stop = with_event(announce(swarm, 1, 1, 0), AnnounceEvent::Stopped);
                tell(&mut registry, step / 100, socket, &stop);
                model.get_mut(&socket).unwrap().remove(&swarm);
            }
            (_, Some(socket)) => {
                let seed: bool = rng.random();
                let request = announce(swarm, 1, u64::from(!seed), 2);
                let (reply, passed) = tell(&mut registry, step / 100, socket, &request);
                model.get_mut(&socket).unwrap().insert(swarm, seed);
                let all = model
                    .values()
                    .filter_map(|known| known.get(&swarm).copied());
                let (seeds, leeches): (Vec<bool>, Vec<bool>) = all.partition(|seed| *seed);
                assert_eq!(
                    (reply.complete as usize, reply.incomplete as usize),
                    (seeds.len(), leeches.len())
                );
                for (to, ..) in passed {
                    assert!(to != socket && model[&to].contains_key(&swarm));
                    assert!(!seed || !model[&to][&swarm], "a seed is told of a seed");
                }
            }
        }
        let peers: usize = model.values().map(HashMap::len).sum();
        assert_eq!(registry.totals().peers, peers);
    }
    let sockets: Vec<_> = model.keys().copied().collect();
    sockets
        .into_iter()
        .for_each(|socket| registry.close_socket(socket));
    assert_eq!(registry.totals(), Default::default());
    assert!(registry.web.sockets.is_empty() && registry.web.swarms.is_empty());
}
