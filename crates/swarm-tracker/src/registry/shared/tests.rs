//! Two trackers that hear of each other, in simulated time.

mod bridges;
mod order;

use std::net::IpAddr;
use std::time::Duration;

use swarm_proto::id::PeerId;
use swarm_proto::manifest::SecretKey;
use swarm_proto::tracker::{AnnounceEvent, AnnounceRequest, ScrapeRequest};

use super::*;
use crate::config::{AnnounceConfig, VolunteerConfig};
use crate::registry::{
    Audit, Finding, Moment, NoAnswer, RegistryConfig, Route, Shown, Verdict, Via, check_record,
};
use crate::testing::{TestSite, v1};

const UNIX: u64 = 1_800_000_000;
const HOST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 9));
const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 7));
const FILES: &[(&str, u8)] = &[("/a.png", 1), ("/b.png", 2)];

fn at(secs: u64) -> Moment {
    Moment {
        elapsed: Duration::from_secs(secs),
        unix: UNIX + secs,
    }
}

fn tracker(change: impl FnOnce(&mut RegistryConfig)) -> Registry {
    let mut config = RegistryConfig {
        open: true,
        announce: AnnounceConfig::default(),
        volunteers: VolunteerConfig::default(),
        bridge_domains: vec!["bridges.example".into()],
        seed: 3,
    };
    change(&mut config);
    let mut registry = Registry::new(config, at(0));
    registry.share(true);
    registry
}

/// One that works for a site with a record.
fn sites_tracker() -> (Registry, TestSite) {
    sites_tracker_with(|_| {})
}

fn sites_tracker_with(change: impl FnOnce(&mut RegistryConfig)) -> (Registry, TestSite) {
    let mut registry = tracker(change);
    let site = TestSite::new("example.org", 1);
    registry.pin(at(0), site.name.clone(), site.root());
    let record = site.record(1, UNIX, FILES);
    let checked = check_record(site.root(), &site.name, None, record.into(), UNIX);
    registry
        .install(at(0), checked.expect("good"))
        .expect("free");
    (registry, site)
}

fn two() -> (Registry, Registry, TestSite) {
    let (one, site) = sites_tracker();
    (one, sites_tracker().0, site)
}

fn request(port: u16, left: u64, event: AnnounceEvent) -> AnnounceRequest {
    AnnounceRequest {
        left: Some(left),
        event,
        ..AnnounceRequest::new(v1(1), PeerId::new([1; 20]), port)
    }
}

fn announce(registry: &mut Registry, secs: u64, request: &AnnounceRequest) -> Vec<u16> {
    let reply = registry.announce(at(secs), HOST, request, Via::Udp);
    let peers = reply.expect("accepted").peers;
    peers.iter().map(SocketAddr::port).collect()
}

fn leech(registry: &mut Registry, secs: u64, port: u16) -> Vec<u16> {
    announce(registry, secs, &request(port, 1, AnnounceEvent::Regular))
}

fn seed(registry: &mut Registry, secs: u64, port: u16) -> Vec<u16> {
    announce(registry, secs, &request(port, 0, AnnounceEvent::Regular))
}

fn stop(registry: &mut Registry, secs: u64, port: u16) {
    announce(registry, secs, &request(port, 1, AnnounceEvent::Stopped));
}

/// Has one hear what the other has to tell, so much later.
fn hear(to: &mut Registry, secs: u64, ago: u64, changes: &Changes) {
    let ago = Duration::from_secs(ago);
    for peer in &changes.peers {
        to.apply_peer(at(secs), ago, peer);
    }
    for change in &changes.others {
        to.apply(at(secs), ago, change);
    }
}

fn pass(from: &mut Registry, to: &mut Registry, secs: u64) {
    let changes = from.take_changes();
    hear(to, secs, 0, &changes);
}

fn count(registry: &Registry) -> (u32, u32, u32) {
    let request = ScrapeRequest {
        swarm_ids: vec![v1(1)],
    };
    let reply = registry.scrape(&request);
    let entry = reply.files.first().map(|(_, entry)| entry);
    entry.map_or((0, 0, 0), |e| (e.complete, e.incomplete, e.downloaded))
}

#[test]
fn nothing_is_kept_where_nothing_is_shared() {
    let (mut one, site) = sites_tracker();
    one.share(false);
    leech(&mut one, 0, 2000);
    stop(&mut one, 0, 2000);
    offer(&mut one, 0, &bridge_at(8080), |_| {});
    one.tell_site(&site.name, Paper::Record);
    assert_eq!(one.take_changes(), Changes::default());
    assert_eq!(one.outbox.peers.capacity(), 0, "no memory either");
    one.share(true);
    leech(&mut one, 0, 2000);
    assert_eq!(one.take_changes().len(), 1);
    assert_eq!(one.take_changes(), Changes::default(), "told once");
}

#[test]
fn peers_are_found_through_the_other_and_leave_there_too() {
    let (mut one, mut two) = (tracker(|_| {}), tracker(|_| {}));
    leech(&mut one, 0, 2000);
    seed(&mut one, 0, 2001);
    assert!(leech(&mut two, 0, 3000).is_empty());
    pass(&mut one, &mut two, 0);
    let mut found = leech(&mut two, 0, 3000);
    found.sort_unstable();
    assert_eq!(found, [2000, 2001]);
    assert_eq!(count(&two), (1, 2, 0));
    assert_eq!(two.totals().peers, 3);

    let done = request(2000, 0, AnnounceEvent::Completed);
    announce(&mut one, 10, &done);
    announce(&mut one, 10, &done);
    stop(&mut one, 10, 2001);
    pass(&mut one, &mut two, 10);
    assert_eq!(count(&two), (1, 1, 1), "completed once, one left");
    assert_eq!(two.totals().peers, 2);
    // What was heard is not told again.
    let told = two.take_changes().peers;
    assert!(told.iter().all(|said| said.peer.port() == 3000), "{told:?}");
}

#[test]
fn a_peer_lives_as_long_as_where_it_announced() {
    let (mut one, mut two) = (tracker(|_| {}), tracker(|_| {}));
    leech(&mut one, 0, 2000);
    let changes = one.take_changes();
    // Read late, as at a start.
    hear(&mut two, 290, 290, &changes);
    assert_eq!(count(&two).1, 1);
    two.sweep_peers(at(310));
    assert_eq!(
        count(&two).1,
        0,
        "ten seconds were left of its five minutes"
    );
    hear(&mut two, 310, 310, &changes);
    assert_eq!(count(&two).1, 0, "long over");
}

#[test]
fn what_is_known_of_a_later_time_wins() {
    let (mut one, mut two) = (tracker(|_| {}), tracker(|_| {}));
    leech(&mut one, 0, 2000);
    stop(&mut one, 20, 2000);
    leech(&mut one, 30, 2001);
    let old = one.take_changes();
    // It has moved on to the second tracker meanwhile, where all that is read late.
    seed(&mut two, 100, 2000);
    leech(&mut two, 100, 2001);
    hear(&mut two, 101, 60, &old);
    assert_eq!(count(&two), (1, 1, 0));
    two.sweep_peers(at(200));
    two.sweep_peers(at(390));
    assert_eq!(count(&two), (1, 1, 0), "neither gone nor cut short");
    // A later word wins over an earlier one.
    stop(&mut one, 395, 2000);
    pass(&mut one, &mut two, 395);
    assert_eq!(count(&two), (0, 1, 0));
}

#[test]
fn the_bounds_of_a_tracker_hold_for_what_others_tell() {
    let mut one = tracker(|config| config.announce.port_min = 0);
    for port in [80, 2000, 2001, 2002, 2003] {
        leech(&mut one, 0, port);
    }
    let changes = one.take_changes();
    let mut full = tracker(|config| config.announce.peers_max = 3);
    hear(&mut full, 0, 0, &changes);
    assert_eq!((full.totals().peers, full.totals().swarms), (3, 1));
    let said = changes.peers.iter().find(|said| said.peer.port() == 80);
    assert!(!full.apply_peer(at(0), Duration::ZERO, said.expect("told")));
    let mut closed = tracker(|config| config.open = false);
    hear(&mut closed, 0, 0, &changes);
    assert_eq!((closed.totals().peers, closed.totals().swarms), (0, 0));
}

#[test]
fn changes_past_the_bound_are_counted_and_not_kept() {
    let mut one = tracker(|config| config.announce.peers_max = 10);
    for _ in 0..PEERS_MAX + 7 {
        leech(&mut one, 0, 2000);
    }
    let changes = one.take_changes();
    assert_eq!((changes.peers.len(), changes.dropped), (PEERS_MAX, 7));
    assert_eq!(one.take_changes().dropped, 0);
}

#[test]
fn all_that_is_known_can_be_told_again_and_lives_no_longer_for_it() {
    let (mut one, mut three, _) = two();
    for port in 2000..2500 {
        // At many addresses, or they would be too many of one network.
        let ip = IpAddr::from([10, (port % 250) as u8, 0, 1]);
        let said = match port % 3 {
            0 => request(port, 0, AnnounceEvent::Regular),
            _ => request(port, 1, AnnounceEvent::Regular),
        };
        let secs = u64::from(port - 2000) / 10;
        let reply = one.announce(at(secs), ip, &said, Via::Udp);
        reply.expect("accepted");
    }
    let bridge = bridge_at(8080);
    offer(&mut one, 50, &bridge, |offer| offer.hits = Some(9));
    prove(&mut one, 50, &bridge);
    one.swarms.get_mut(&v1(1)).expect("known").0.downloaded = 77;
    one.take_changes();

    let mut retelling = one.retell();
    let mut rounds = 0;
    let mut completed = Vec::new();
    loop {
        let told = one.retell_peers(at(60), &mut retelling, 64);
        assert!(told.peers.len() <= 64);
        if told.is_all() {
            break;
        }
        completed.extend(told.completed);
        let changes = Changes {
            peers: told.peers,
            ..Changes::default()
        };
        hear(&mut three, 60, 0, &changes);
        rounds += 1;
    }
    assert!(rounds >= 8, "in pages");
    assert_eq!(completed, [(v1(1), 77)]);
    three.learn_completed(v1(1), 77);
    assert_eq!(count(&three), count(&one));
    let others = Changes {
        others: one.retell_bridges(at(60)),
        ..Changes::default()
    };
    hear(&mut three, 60, 0, &others);
    assert_eq!(three.totals().bridges, 1);
    assert_eq!(visits_until_home(&mut three, 60), 9);
    for secs in [320, 345, 360] {
        one.sweep_peers(at(secs));
        three.sweep_peers(at(secs));
        let (here, there) = (count(&one), count(&three));
        assert!(
            there.0 <= here.0 && there.1 <= here.1,
            "{secs}: {here:?} {there:?}"
        );
    }
}

struct TestBridge {
    address: SocketAddr,
    key: SecretKey,
}

fn bridge_at(port: u16) -> TestBridge {
    let [_, low] = port.to_be_bytes();
    TestBridge {
        address: SocketAddr::new(HOST, port),
        key: SecretKey::new([low; 32]),
    }
}

impl TestBridge {
    fn id(&self) -> BridgeId {
        BridgeId {
            address: self.address,
            key: self.key.public(),
        }
    }
}

fn offer(
    registry: &mut Registry,
    secs: u64,
    bridge: &TestBridge,
    change: impl FnOnce(&mut BridgeOffer),
) -> Option<String> {
    let mut offer = BridgeOffer {
        key: Some(bridge.key.public()),
        ..BridgeOffer::new(bridge.address.port())
    };
    change(&mut offer);
    let said = AnnounceRequest {
        bridge: Some(offer),
        ..request(bridge.address.port(), 0, AnnounceEvent::Regular)
    };
    let via = Via::Http(Some("tracker.example"));
    let reply = registry.announce(at(secs), bridge.address.ip(), &said, via);
    reply.expect("accepted").warning
}

/// Answers all calls that are due; returns how many.
fn prove(registry: &mut Registry, secs: u64, bridge: &TestBridge) -> usize {
    let mut calls = 0;
    while let Some(call) = registry.next_call(at(secs), [9; 32]) {
        let proof = call.sign(&bridge.key);
        registry.finish_call(at(secs), &call, Ok(proof));
        calls += 1;
    }
    calls
}

/// Sends a visitor; returns the bridge that he was sent to.
fn visit(registry: &mut Registry, secs: u64) -> Option<SocketAddr> {
    let site = SiteName::parse("example.org").expect("a name");
    let path = SitePath::parse("/a.png").expect("a path");
    match registry.route(at(secs), &site, Some(&path), OTHER) {
        Route::Bridge { bridge, .. } => bridge.address(),
        _ => None,
    }
}

fn visits_until_home(registry: &mut Registry, secs: u64) -> usize {
    (0..100)
        .take_while(|_| visit(registry, secs).is_some())
        .count()
}

fn next_audit(registry: &mut Registry, from: u64) -> Option<(u64, Audit)> {
    (from..from + 200).find_map(|secs| Some((secs, registry.next_audit(at(secs))?)))
}
