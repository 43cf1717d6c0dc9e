mod again;

use std::collections::HashSet;
use std::net::SocketAddr;

use swarm_proto::id::PeerId;
use swarm_proto::manifest::{SecretKey, TrustError};
use swarm_proto::tracker::{
    AnnounceEvent, AnnounceReply, AnnounceRequest, BridgeOffer, ScrapeEntry, ScrapeRequest,
};

use super::*;
use crate::testing::{TestSite, v1, v2};

const UNIX: u64 = 1_800_000_000;
const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

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
        bridge_domains: vec!["bridges.example".into()],
        seed: 3,
    };
    Registry::new(config, at(0))
}

fn request(id: SwarmId, port: u16, left: u64) -> AnnounceRequest {
    AnnounceRequest {
        left: Some(left),
        ..AnnounceRequest::new(id, PeerId::new([1; 20]), port)
    }
}

fn with_event(id: SwarmId, port: u16, left: u64, event: AnnounceEvent) -> AnnounceRequest {
    AnnounceRequest {
        event,
        ..request(id, port, left)
    }
}

fn with_bridge(id: SwarmId, port: u16, left: u64, bridge: u16) -> AnnounceRequest {
    AnnounceRequest {
        bridge: Some(BridgeOffer {
            domain: Some("localhost".into()),
            key: Some(bridge_key().public()),
            ..BridgeOffer::new(bridge)
        }),
        ..request(id, port, left)
    }
}

pub(super) const TRACKER: Via<'_> = Via::Http(Some("tracker.example:6969"));

fn bridge_key() -> SecretKey {
    SecretKey::new([77; 32])
}

/// Announces; a bridge answers at once when it is called.
fn announce(registry: &mut Registry, secs: u64, request: &AnnounceRequest) -> AnnounceReply {
    let reply = registry.announce(at(secs), HERE, request, TRACKER);
    prove(registry, secs);
    reply.expect("accepted")
}

fn prove(registry: &mut Registry, secs: u64) {
    while let Some(call) = registry.next_call(at(secs), [9; 32]) {
        let proof = call.sign(&bridge_key());
        assert!(registry.finish_call(at(secs), &call, Ok(proof)));
    }
}

#[test]
fn who_starts_with_nothing_left_is_told_of_a_few_seeds_and_later_of_leeches_only() {
    let mut registry = registry(true);
    let id = v1(1);
    for port in 2001..2041 {
        announce(&mut registry, 0, &request(id, port, 0));
    }
    announce(&mut registry, 0, &request(id, 3000, 1));
    let started = with_event(id, 4000, 0, AnnounceEvent::Started);
    let told = announce(&mut registry, 0, &started).peers;
    let ports: HashSet<u16> = told.iter().map(SocketAddr::port).collect();
    assert_eq!((told.len(), ports.len()), (10, 10), "{told:?}");
    assert!(ports.contains(&3000) && !ports.contains(&4000), "{told:?}");
    let told = announce(&mut registry, 1, &request(id, 4000, 0)).peers;
    assert_eq!(told.len(), 1, "{told:?}");
}

fn register(
    registry: &mut Registry,
    site: &TestSite,
    secs: u64,
    record: Vec<u8>,
) -> Result<(), String> {
    let (root, trust) = registry.anchor(&site.name).ok_or("unknown site")?;
    let now = at(secs);
    let checked = check_record(root, &site.name, trust.as_ref(), record.into(), now.unix)
        .map_err(|error| error.to_string())?;
    registry
        .install(now, checked)
        .map_err(|error| error.to_string())
}

const FILES: &[(&str, u8)] = &[("/index.html", 1), ("/docs/index.html", 2), ("/a b.png", 1)];

/// A registry that works for one site with bundles 1 and 2.
fn with_site() -> (Registry, TestSite) {
    let (mut registry, site) = (registry(false), TestSite::new("example.org", 1));
    registry.pin(at(0), site.name.clone(), site.root());
    let record = site.record(1, UNIX, FILES);
    register(&mut registry, &site, 0, record).expect("a good record");
    (registry, site)
}

fn raise(
    registry: &mut Registry,
    site: &TestSite,
    secs: u64,
    alarm: Vec<u8>,
) -> Result<bool, String> {
    let keys = registry.keys(&site.name).ok_or("no keys")?;
    let checked = check_alarm(alarm.into(), &keys, at(secs).unix).map_err(|e| e.to_string())?;
    registry
        .take_alarm(at(secs), checked)
        .map_err(|error| error.to_string())
}

fn route(registry: &mut Registry, site: &TestSite, secs: u64, path: &str) -> Route {
    let path = SitePath::parse(path).expect("a path");
    registry.route(at(secs), &site.name, Some(&path), HERE)
}

#[test]
fn peers_find_each_other_until_they_stop_or_age() {
    let mut registry = registry(true);
    let first = announce(&mut registry, 0, &request(v1(9), 2001, 5));
    assert_eq!(
        (first.complete, first.incomplete, first.peers.len()),
        (0, 1, 0)
    );
    let second = announce(&mut registry, 10, &request(v1(9), 2002, 0));
    assert_eq!((second.complete, second.incomplete), (1, 1));
    assert_eq!(second.peers, [SocketAddr::new(HERE, 2001)]);
    let stop = with_event(v1(9), 2001, 5, AnnounceEvent::Stopped);
    let stopped = announce(&mut registry, 20, &stop);
    assert_eq!(
        (stopped.complete, stopped.incomplete, stopped.peers.len()),
        (1, 0, 0)
    );
    registry.sweep_peers(at(310));
    assert_eq!(registry.totals().peers, 1, "five minutes are not over");
    registry.sweep_peers(at(312));
    assert_eq!(
        registry.totals(),
        Totals::default(),
        "peer and swarm are gone"
    );
}

#[test]
fn completed_counts_once_for_each_download() {
    let mut registry = registry(true);
    announce(
        &mut registry,
        0,
        &with_event(v1(9), 2001, 5, AnnounceEvent::Started),
    );
    for _ in 0..3 {
        announce(
            &mut registry,
            1,
            &with_event(v1(9), 2001, 0, AnnounceEvent::Completed),
        );
    }
    let asked = ScrapeRequest {
        swarm_ids: vec![v1(9), v1(8)],
    };
    let entry = ScrapeEntry {
        complete: 1,
        downloaded: 1,
        incomplete: 0,
    };
    assert_eq!(registry.scrape(&asked).files, [(v1(9), entry)]);
}

#[test]
fn numwant_is_kept_within_bounds() {
    let mut registry = registry(true);
    for port in 2000..2400 {
        announce(&mut registry, 0, &request(v1(9), port, 1));
    }
    for (wanted, given) in [
        (None, 50),
        (Some(0), 0),
        (Some(7), 7),
        (Some(u32::MAX), 200),
    ] {
        let asked = AnnounceRequest {
            numwant: wanted,
            ..request(v1(9), 2000, 1)
        };
        let peers = announce(&mut registry, 1, &asked).peers;
        let distinct: HashSet<_> = peers.iter().collect();
        assert_eq!((peers.len(), distinct.len()), (given, given));
    }
}

#[test]
fn a_full_tracker_still_answers() {
    let mut config = RegistryConfig {
        open: true,
        announce: AnnounceConfig::default(),
        volunteers: VolunteerConfig::default(),
        bridge_domains: Vec::new(),
        seed: 3,
    };
    config.announce.peers_max = 2;
    let mut registry = Registry::new(config, at(0));
    announce(&mut registry, 0, &request(v1(9), 2001, 1));
    announce(&mut registry, 0, &request(v1(8), 2002, 1));
    let reply = announce(&mut registry, 0, &request(v1(9), 2003, 1));
    assert_eq!(reply.peers.len(), 1);
    assert!(reply.warning.is_some_and(|text| text.contains("full")));
    assert_eq!(registry.totals().peers, 2);
    let renewed = announce(&mut registry, 1, &request(v1(9), 2001, 0));
    assert_eq!((renewed.complete, renewed.warning), (1, None));
}

#[test]
fn intervals_differ_so_that_a_crowd_parts() {
    let mut registry = registry(true);
    let mut seen = HashSet::new();
    for port in 2000..2200 {
        let reply = announce(&mut registry, 0, &request(v1(9), port, 1));
        assert!((120..=127).contains(&reply.interval));
        assert_eq!(reply.min_interval, Some(15));
        seen.insert(reply.interval);
    }
    assert!(seen.len() > 4);
}

#[test]
fn only_registered_bundles_are_tracked_unless_open() {
    let (mut registry, _site) = with_site();
    let refused = registry.announce(at(0), HERE, &request(v1(9), 2001, 1), TRACKER);
    assert_eq!(refused, Err(AnnounceRefused::UnknownSwarm));
    let refused = registry.announce(at(0), HERE, &request(v1(1), 1023, 1), TRACKER);
    assert_eq!(refused, Err(AnnounceRefused::LowPort));
    assert_eq!(registry.totals().peers, 0);
    assert!(
        registry
            .announce(at(0), HERE, &request(v1(1), 1024, 1), TRACKER)
            .is_ok()
    );
}

#[test]
fn both_ids_of_a_hybrid_are_one_swarm() {
    let (mut registry, _site) = with_site();
    announce(&mut registry, 0, &request(v1(1), 2001, 0));
    let reply = announce(&mut registry, 0, &request(v2(1), 2002, 1));
    assert_eq!((reply.complete, reply.incomplete), (1, 1));
    assert_eq!(reply.peers, [SocketAddr::new(HERE, 2001)]);
    let asked = ScrapeRequest {
        swarm_ids: vec![v2(1), v1(1)],
    };
    let found = registry.scrape(&asked).files;
    assert_eq!(found.len(), 2, "each under the id it was asked by");
    assert_eq!(found[0].1, found[1].1);
}

#[test]
fn swarms_known_before_the_record_are_joined() {
    let (mut registry, site) = (registry(true), TestSite::new("example.org", 1));
    announce(&mut registry, 0, &request(v1(1), 2001, 0));
    announce(&mut registry, 0, &request(v2(1), 2001, 0));
    announce(&mut registry, 0, &request(v2(1), 2002, 1));
    assert_eq!(registry.totals().peers, 3);
    registry.pin(at(0), site.name.clone(), site.root());
    register(&mut registry, &site, 1, site.record(1, UNIX, FILES)).expect("good");
    let totals = registry.totals();
    assert_eq!((totals.peers, totals.swarms, totals.bundles), (2, 2, 2));
    let reply = announce(&mut registry, 2, &request(v2(1), 2003, 1));
    assert_eq!((reply.complete, reply.incomplete), (1, 2));
}

#[test]
fn an_older_record_is_refused() {
    let (mut registry, site) = with_site();
    let next = site.record(7, UNIX + 1, &[("/index.html", 3)]);
    register(&mut registry, &site, 1, next.clone()).expect("newer");
    let old = register(&mut registry, &site, 2, site.record(6, UNIX + 2, FILES));
    assert!(old.is_err_and(|why| why.contains("rolled back")));
    assert!(
        registry
            .record(&site.name)
            .is_some_and(|bytes| bytes == next)
    );
    register(&mut registry, &site, 3, next).expect("the same once more");
}

#[test]
fn records_of_strangers_are_refused() {
    let (mut registry, site) = with_site();
    let stranger = TestSite::new("example.net", 2);
    let record = stranger.record(1, UNIX, FILES);
    assert_eq!(
        register(&mut registry, &stranger, 1, record),
        Err("unknown site".into())
    );
    // The right name, the wrong keys.
    let thief = TestSite::new("example.org", 2);
    let forged = register(&mut registry, &site, 1, thief.record(9, UNIX, FILES));
    assert!(forged.is_err());
    // Every bit counts.
    let good = site.record(2, UNIX, FILES);
    for at_byte in (0..good.len()).step_by(7) {
        let mut bad = good.clone();
        bad[at_byte] ^= 1;
        assert!(
            register(&mut registry, &site, 1, bad).is_err(),
            "byte {at_byte}"
        );
    }
}

#[test]
fn another_sites_bundles_are_not_taken_over() {
    let (mut registry, _site) = with_site();
    let thief = TestSite::new("example.net", 2);
    registry.pin(at(0), thief.name.clone(), thief.root());
    let mut manifest = thief.manifest(1, UNIX, &[("/x", 1)]);
    manifest.bundles[0].v2 = swarm_proto::id::InfoHashV2::new([77; 32]);
    let pairs: Vec<_> = manifest.bundles.iter().map(Pair::of).collect();
    assert_eq!(registry.bundles.claim(&pairs), Err(BundleTaken(v1(1))));
    // The very same bundle on two sites is fine.
    let record = thief.record(1, UNIX, &[("/x", 1)]);
    register(&mut registry, &thief, 1, record).expect("shared");
    assert_eq!(registry.totals().bundles, 2);
}

#[test]
fn bundles_of_a_replaced_manifest_live_on_for_an_hour() {
    let (mut registry, site) = with_site();
    announce(&mut registry, 0, &request(v1(2), 2001, 0));
    let next = site.record(2, UNIX, &[("/index.html", 1), ("/new.html", 3)]);
    register(&mut registry, &site, 10, next).expect("newer");
    assert!(
        registry
            .announce(at(3000), HERE, &request(v2(2), 2001, 0), TRACKER)
            .is_ok()
    );
    registry.sweep_peers(at(3000));
    assert_eq!(registry.totals().bundles, 3);
    registry.sweep_peers(at(3610));
    assert_eq!(registry.totals().bundles, 2);
    assert_eq!(registry.totals().peers, 0);
    let gone = registry.announce(at(3611), HERE, &request(v1(2), 2001, 0), TRACKER);
    assert_eq!(gone, Err(AnnounceRefused::Withdrawn));
    assert!(
        registry
            .announce(at(3611), HERE, &request(v1(1), 2001, 0), TRACKER)
            .is_ok()
    );
}

#[test]
fn an_alarm_is_raised_renewed_and_lowered() {
    let (mut registry, site) = with_site();
    let version = registry.version();
    assert_eq!(
        raise(&mut registry, &site, 0, site.alarm(UNIX, UNIX + 60)),
        Ok(true)
    );
    let list = registry.sites_in_need();
    assert!(list.version > version);
    assert_eq!((list.sites.len(), &list.sites[0].site), (1, &site.name));
    assert_eq!(list.sites[0].bundles.len(), 2);
    assert_eq!(list.sites[0].alarm, site.alarm(UNIX, UNIX + 60));
    // The same again changes nothing, a renewal does.
    assert_eq!(
        raise(&mut registry, &site, 1, site.alarm(UNIX, UNIX + 60)),
        Ok(false)
    );
    assert_eq!(
        raise(&mut registry, &site, 2, site.alarm(UNIX + 2, UNIX + 90)),
        Ok(true)
    );
    // Until has come: the spike is over.
    assert_eq!(
        raise(&mut registry, &site, 5, site.alarm(UNIX + 4, UNIX + 5)),
        Ok(true)
    );
    assert!(registry.sites_in_need().sites.is_empty());
    // And no replay brings it back.
    for issued in [UNIX, UNIX + 2, UNIX + 4] {
        let replay = raise(&mut registry, &site, 6, site.alarm(issued, UNIX + 90));
        assert!(replay.is_err_and(|why| why.contains("older")), "{issued}");
    }
    assert_eq!(
        raise(&mut registry, &site, 7, site.alarm(UNIX + 7, UNIX + 90)),
        Ok(true)
    );
}

#[test]
fn an_alarm_lapses_by_itself() {
    let (mut registry, site) = with_site();
    raise(&mut registry, &site, 0, site.alarm(UNIX, UNIX + 60)).expect("good");
    assert!(!registry.expire_alarms(at(59)));
    let version = registry.version();
    // Set back, the clock does not make it last.
    let set_back = Moment {
        elapsed: Duration::from_secs(60),
        unix: 7,
    };
    assert!(registry.expire_alarms(set_back));
    assert!(registry.version() > version && registry.sites_in_need().sites.is_empty());
    assert!(!registry.expire_alarms(at(61)));
    assert_eq!(registry.totals().alarms, 0);
}

#[test]
fn forged_alarms_are_refused() {
    let (mut registry, site) = with_site();
    let keys = registry.keys(&site.name).expect("registered");
    let check = |bytes: Vec<u8>| check_alarm(bytes.into(), &keys, UNIX);
    assert!(matches!(
        check(site.forged_alarm(UNIX, UNIX + 60)),
        Err(TrustError::UnknownKey { .. })
    ));
    // A forged one is no better for being over.
    assert!(check(site.forged_alarm(UNIX - 60, UNIX - 1)).is_err());
    assert!(matches!(
        check(site.alarm(UNIX + 3600, UNIX + 3700)),
        Err(TrustError::NotYetValid { .. })
    ));
    let good = site.alarm(UNIX, UNIX + 60);
    for at_byte in 0..good.len() {
        let mut bad = good.clone();
        bad[at_byte] ^= 1;
        assert!(check(bad).is_err(), "byte {at_byte}");
    }
    let other = TestSite::new("example.net", 1);
    assert!(
        check(other.alarm(UNIX, UNIX + 60)).is_err(),
        "another site's"
    );
    assert!(raise(&mut registry, &site, 0, good).is_ok());
}

#[test]
fn visitors_go_to_a_bridge_that_holds_the_page() {
    let (mut registry, site) = with_site();
    assert_eq!(route(&mut registry, &site, 0, "/"), Route::Home(None));
    // Not yet whole; then whole.
    announce(&mut registry, 0, &with_bridge(v2(1), 2001, 5, 8081));
    assert_eq!(route(&mut registry, &site, 0, "/"), Route::Home(None));
    announce(&mut registry, 1, &with_bridge(v2(1), 2001, 0, 8081));
    let Route::Bridge { bridge, path, .. } = route(&mut registry, &site, 2, "/a%20b.png") else {
        panic!("a bridge");
    };
    let url = "http://example-org.localhost:8081/a%20b.png";
    assert_eq!(bridge.url_for(&site.name, &path), url);
    // Bundle 2 is held by nobody.
    assert_eq!(route(&mut registry, &site, 2, "/docs/"), Route::Home(None));
    assert_eq!(route(&mut registry, &site, 2, "/none"), Route::Home(None));
    announce(&mut registry, 3, &with_bridge(v1(2), 2001, 0, 8081));
    for (asked, given) in [("/docs", "/docs/"), ("/docs/", "/docs/"), ("/", "/")] {
        match route(&mut registry, &site, 4, asked) {
            Route::Bridge { path, .. } => assert_eq!(path.as_str(), given),
            other => panic!("{asked}: {other:?}"),
        }
    }
    // A query is for the site itself.
    assert_eq!(
        registry.route(at(4), &site.name, None, HERE),
        Route::Home(None)
    );
    // Stopped for one bundle, it still serves the other.
    announce(
        &mut registry,
        5,
        &with_event(v1(1), 2001, 0, AnnounceEvent::Stopped),
    );
    assert_eq!(route(&mut registry, &site, 5, "/"), Route::Home(None));
    assert!(matches!(
        route(&mut registry, &site, 5, "/docs/"),
        Route::Bridge { .. }
    ));
    // Silent for too long.
    assert_eq!(route(&mut registry, &site, 90, "/docs/"), Route::Home(None));
    registry.sweep_bridges(at(90));
    assert_eq!(registry.totals().bridges, 0);
}

#[test]
fn an_offer_is_taken_back_by_announcing_without_it() {
    let (mut registry, site) = with_site();
    announce(&mut registry, 0, &with_bridge(v1(1), 2001, 0, 8081));
    announce(&mut registry, 1, &request(v1(1), 2002, 0));
    assert_eq!(registry.bridges(at(1), &site.name, HERE).len(), 1);
    announce(&mut registry, 2, &request(v2(1), 2001, 0));
    assert!(registry.bridges(at(2), &site.name, HERE).is_empty());
}

#[test]
fn when_the_spike_is_over_visitors_go_home() {
    let (mut registry, site) = with_site();
    announce(&mut registry, 0, &with_bridge(v1(1), 2001, 0, 8081));
    raise(&mut registry, &site, 0, site.alarm(UNIX, UNIX + 20)).expect("good");
    assert!(matches!(
        route(&mut registry, &site, 1, "/"),
        Route::Bridge { .. }
    ));
    registry.expire_alarms(at(20));
    let home = Route::Home(Some("http://example.org/".into()));
    assert_eq!(route(&mut registry, &site, 20, "/"), home);
    raise(&mut registry, &site, 21, site.alarm(UNIX + 21, UNIX + 60)).expect("good");
    assert!(matches!(
        route(&mut registry, &site, 22, "/"),
        Route::Bridge { .. }
    ));
}

#[test]
fn an_expired_manifest_sends_nobody_anywhere_but_home() {
    let (mut registry, site) = with_site();
    announce(&mut registry, 86_399, &with_bridge(v1(1), 2001, 0, 8081));
    assert!(matches!(
        route(&mut registry, &site, 86_399, "/"),
        Route::Bridge { .. }
    ));
    assert_eq!(route(&mut registry, &site, 86_400, "/"), Route::Home(None));
}

#[test]
fn a_domain_must_be_allowed() {
    let (mut registry, site) = with_site();
    let far: IpAddr = "198.51.100.7".parse().expect("an address");
    let mut ask = |source: IpAddr, domain: &str| {
        let mut asked = with_bridge(v1(1), 2001, 0, 8081);
        asked.bridge.as_mut().expect("set").domain = Some(domain.into());
        let reply = registry.announce(at(0), source, &asked, TRACKER);
        let warned = reply.expect("accepted").warning.is_some();
        prove(&mut registry, 0);
        let domain = registry
            .bridges(at(0), &site.name, HERE)
            .pop()
            .and_then(|b| b.domain);
        registry.volunteers.forget(v1(1));
        (warned, domain)
    };
    let kept = |domain: &str| (false, Some(domain.to_owned()));
    assert_eq!(ask(HERE, "localhost"), kept("localhost"));
    assert_eq!(ask(far, "localhost"), (true, None));
    assert_eq!(ask(far, "bridges.example"), kept("bridges.example"));
    assert_eq!(ask(far, "v7.bridges.example"), kept("v7.bridges.example"));
    assert_eq!(ask(far, "evilbridges.example"), (true, None));
    assert_eq!(ask(HERE, "evil.example"), (true, None));
}

#[test]
fn another_root_ends_all_that_rested_on_the_first() {
    let (mut registry, site) = with_site();
    raise(&mut registry, &site, 0, site.alarm(UNIX, UNIX + 60)).expect("good");
    registry.pin(at(0), site.name.clone(), site.root());
    assert_eq!(registry.totals().alarms, 1, "the same root changes nothing");
    registry.pin(
        at(0),
        site.name.clone(),
        TestSite::new("example.org", 2).root(),
    );
    let totals = registry.totals();
    assert_eq!((totals.alarms, totals.bundles, totals.sites), (0, 0, 1));
    assert_eq!(route(&mut registry, &site, 1, "/"), Route::NoManifest);
}
