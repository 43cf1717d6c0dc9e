//! Volunteers, honest and otherwise, in simulated time: what visitors are sent to.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use swarm_proto::id::{Digest, PeerId};
use swarm_proto::manifest::{SecretKey, SitePath};
use swarm_proto::tracker::{AnnounceEvent, AnnounceRequest, BridgeOffer};

use super::*;
use crate::config::{AnnounceConfig, VolunteerConfig};
use crate::registry::proof::NoAnswer;
use crate::registry::{RegistryConfig, Route, Shown, Via, check_alarm, check_record};
use crate::testing::{TestSite, v1};

const UNIX: u64 = 1_800_000_000;
const VISITOR: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 9));
const FILES: &[(&str, u8)] = &[
    ("/index.html", 1),
    ("/a.png", 1),
    ("/b.png", 1),
    ("/c.png", 1),
];

/// What a bridge does when it is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Honest,
    /// Answers rightly when it is asked for proof, and shows whatever it likes.
    Liar,
    /// Shows the files of this sequence of the manifest.
    Behind(&'static str),
    /// Proves itself, and shows nothing.
    Mute,
    /// Not there.
    Dead,
}

#[derive(Debug)]
struct Bridge {
    address: SocketAddr,
    key: SecretKey,
    manner: Manner,
}

struct Scene {
    registry: Registry,
    site: TestSite,
    bridges: Vec<Bridge>,
    evicted: usize,
    audits: usize,
    /// Tenths of a second.
    clock: u64,
}

impl Scene {
    fn new() -> Self {
        let config = RegistryConfig {
            open: false,
            announce: AnnounceConfig::default(),
            volunteers: VolunteerConfig::default(),
            bridge_domains: Vec::new(),
            seed: 12,
        };
        let start = Moment {
            elapsed: Duration::ZERO,
            unix: UNIX,
        };
        let site = TestSite::new("example.org", 1);
        let mut registry = Registry::new(config, start);
        registry.pin(start, site.name.clone(), site.root());
        let mut scene = Self {
            registry,
            site,
            bridges: Vec::new(),
            evicted: 0,
            audits: 0,
            clock: 0,
        };
        scene.publish(1, FILES);
        scene
    }

    fn now(&self) -> Moment {
        let elapsed = Duration::from_millis(self.clock * 100);
        Moment {
            elapsed,
            unix: UNIX + elapsed.as_secs(),
        }
    }

    fn publish(&mut self, sequence: u64, files: &[(&str, u8)]) {
        let record = self.site.record(sequence, self.now().unix, files);
        self.publish_record(record);
    }

    fn publish_record(&mut self, record: Vec<u8>) {
        let now = self.now();
        let (root, trust) = self.registry.anchor(&self.site.name).expect("pinned");
        let checked = check_record(
            root,
            &self.site.name,
            trust.as_ref(),
            record.into(),
            now.unix,
        );
        let checked = checked.expect("a good record");
        self.registry.install(now, checked).expect("free bundles");
    }

    /// The record of these files, each holding something else than at first.
    fn changed(&self, sequence: u64, content: &str) -> Vec<u8> {
        let mut manifest = self.site.manifest(sequence, self.now().unix, FILES);
        for (path, file) in &mut manifest.files {
            file.digest = Digest::of(format!("{content}{path}").as_bytes());
        }
        self.site.sign(&manifest)
    }

    fn add(&mut self, n: u8, port: u16, manner: Manner) {
        let seed = [n.wrapping_add(port as u8).wrapping_add(1); 32];
        self.bridges.push(Bridge {
            address: SocketAddr::from(([198, 51, 100, n], port)),
            key: SecretKey::new(seed),
            manner,
        });
        self.announce(self.bridges.len() - 1);
    }

    /// Returns the warning.
    fn announce(&mut self, n: usize) -> Option<String> {
        let (now, bridge) = (self.now(), &self.bridges[n]);
        let request = AnnounceRequest {
            left: Some(0),
            bridge: Some(BridgeOffer {
                key: Some(bridge.key.public()),
                // Room for all the visitors that a test has.
                rate: Some(1_000_000_000),
                ..BridgeOffer::new(bridge.address.port())
            }),
            ..AnnounceRequest::new(v1(1), PeerId::new([1; 20]), bridge.address.port() + 1000)
        };
        let (ip, via) = (bridge.address.ip(), Via::Http(Some("tracker.example")));
        let reply = self.registry.announce(now, ip, &request, via);
        reply.expect("accepted").warning
    }

    /// Takes the offer back.
    fn leave(&mut self, n: usize) {
        let (now, address) = (self.now(), self.bridges[n].address);
        let request = AnnounceRequest {
            event: AnnounceEvent::Stopped,
            ..AnnounceRequest::new(v1(1), PeerId::new([1; 20]), address.port() + 1000)
        };
        let via = Via::Http(None);
        let reply = self.registry.announce(now, address.ip(), &request, via);
        reply.expect("accepted");
    }

    fn bridge(&self, address: SocketAddr) -> &Bridge {
        let bridge = self.bridges.iter().find(|bridge| bridge.address == address);
        bridge.expect("one of ours")
    }

    /// A tenth of a second: calls are answered, audits made, announces renewed.
    fn step(&mut self) {
        self.clock += 1;
        let now = self.now();
        if self.clock.is_multiple_of(300) {
            for n in 0..self.bridges.len() {
                self.announce(n);
            }
        }
        if self.clock.is_multiple_of(20) {
            self.registry.sweep_bridges(now);
        }
        while let Some(call) = self.registry.next_call(now, [self.clock as u8; 32]) {
            let bridge = self.bridge(call.bridge);
            let answer = match bridge.manner {
                Manner::Dead => Err(NoAnswer::Refused),
                _ => Ok(call.sign(&bridge.key)),
            };
            self.registry.finish_call(now, &call, answer);
        }
        while let Some(audit) = self.registry.next_audit(now) {
            let (path, file) = audit
                .pick(1 << 20, &mut self.registry.rng.clone())
                .expect("a file");
            let shown = |content: String| {
                let shown = Shown {
                    digest: Digest::of(content.as_bytes()),
                    media_type: "text/html".into(),
                };
                match shown == Shown::of(file) {
                    true => Finding::Right,
                    false => Finding::Wrong(path.clone(), shown),
                }
            };
            let finding = match self.bridge(audit.address()).manner {
                Manner::Honest => Finding::Right,
                Manner::Liar => shown("a lie".into()),
                Manner::Behind(content) => shown(format!("{content}{path}")),
                Manner::Mute => Finding::Silent,
                Manner::Dead => Finding::Shut,
            };
            let verdict = self.registry.finish_audit(now, &audit, finding, 2000);
            self.audits += 1;
            self.evicted += usize::from(verdict == Verdict::Evicted);
        }
    }

    /// Where one visitor is sent.
    fn visit(&mut self) -> Option<SocketAddr> {
        let path = SitePath::from_decoded("/a.png").expect("a path");
        let (now, site) = (self.now(), self.site.name.clone());
        match self.registry.route(now, &site, Some(&path), VISITOR) {
            Route::Bridge { bridge, .. } => bridge.address(),
            _ => None,
        }
    }

    fn run(&mut self, secs: u64) {
        for _ in 0..secs * 10 {
            self.step();
        }
    }

    /// All that visitors are sent to in a second of many of them.
    fn seen(&mut self) -> HashSet<SocketAddr> {
        (0..100).filter_map(|_| self.visit()).collect()
    }
}

#[test]
fn t57_of_three_liars_in_ten_hardly_one_redirect_in_a_hundred_is_left_after_a_minute() {
    let mut scene = Scene::new();
    for n in 0..100 {
        let manner = if n % 10 < 3 {
            Manner::Liar
        } else {
            Manner::Honest
        };
        scene.add(n, 8080, manner);
    }
    let mut sent = [(0, 0); 12];
    for tenth in 0..1200 {
        scene.step();
        for _ in 0..5 {
            let Some(address) = scene.visit() else {
                continue;
            };
            let liar = scene.bridge(address).manner == Manner::Liar;
            let slot = &mut sent[tenth / 100];
            *slot = (slot.0 + u32::from(liar), slot.1 + 1);
        }
    }
    assert!(
        sent[0].0 * 10 > sent[0].1 * 2,
        "liars had visitors: {sent:?}"
    );
    for (liars, all) in &sent[6..] {
        assert!(*all >= 490 && liars * 100 < *all, "{sent:?}");
    }
    assert_eq!(scene.evicted, 30, "every liar and nobody else");
    assert_eq!(scene.registry.totals().bridges, 70);
    // Twenty seconds between two audits of a bridge, as the mean.
    assert!((300..=600).contains(&scene.audits), "{}", scene.audits);
}

#[test]
fn t57_a_bridge_that_begins_to_lie_under_load_is_gone_within_a_minute() {
    for seed in 0..20 {
        let mut scene = Scene::new();
        for n in 0..3 {
            scene.add(n, 8080, Manner::Honest);
        }
        // Nobody was sent there for a while, so it was looked at seldom.
        scene.run(200 + seed * 7);
        scene.bridges[1].manner = Manner::Liar;
        let began = scene.clock;
        while scene.seen().contains(&scene.bridges[1].address) {
            scene.step();
            assert!(scene.clock - began < 600, "a minute is over");
        }
        assert_eq!(scene.evicted, 1);
    }
}

#[test]
fn t57_a_gates_visitors_are_unseen_and_the_liar_is_found_nevertheless() {
    for calm in 0..20 {
        let mut scene = Scene::new();
        scene.add(1, 8080, Manner::Honest);
        scene.run(100 + calm * 7);
        scene.bridges[0].manner = Manner::Liar;
        let now = scene.now();
        let alarm = scene.site.alarm(now.unix, now.unix + 600);
        let keys = scene.registry.keys(&scene.site.name).expect("keys");
        let alarm = check_alarm(alarm.into(), &keys, now.unix).expect("good");
        scene.registry.take_alarm(now, alarm).expect("newer");
        scene.run(41);
        assert_eq!(scene.evicted, 1, "{calm}");
    }
}

#[test]
fn t57_an_evicted_liar_stays_out_by_key_by_address_and_by_another_port() {
    let mut scene = Scene::new();
    scene.add(1, 8080, Manner::Honest);
    scene.add(1, 8081, Manner::Liar);
    scene.run(125);
    assert_eq!(scene.evicted, 1);
    let out = "bridge not listed: wrong bytes came from there";
    assert_eq!(scene.announce(1).as_deref(), Some(out));
    // A new key at that address; a new port beside it; the old key elsewhere.
    scene.bridges[1].key = SecretKey::new([200; 32]);
    assert_eq!(scene.announce(1).as_deref(), Some(out));
    scene.bridges[1].address.set_port(8082);
    assert_eq!(scene.announce(1).as_deref(), Some(out));
    scene.add(9, 8080, Manner::Honest);
    assert_eq!(scene.announce(2), None);
    scene.bridges[1].manner = Manner::Honest;
    scene.run(5 * 3600);
    let honest = [0, 2].map(|n| scene.bridges[n].address);
    assert_eq!(scene.seen(), HashSet::from(honest), "its neighbour stays");
    scene.run(3600);
    assert_eq!(scene.announce(1), None, "six hours are over");
    scene.run(1);
    assert_eq!(scene.seen().len(), 3);
}

#[test]
fn a_bridge_that_is_behind_or_ahead_of_the_tracker_is_no_liar() {
    let mut scene = Scene::new();
    scene.add(1, 8080, Manner::Behind(""));
    scene.run(60);
    // A new manifest; the bridge still shows the old one.
    let newer = scene.changed(2, "new ");
    scene.publish_record(newer);
    scene.run(1800);
    assert_eq!((scene.evicted, scene.seen().len()), (0, 1));
    // It shows one that we have not heard of: out, and in again as soon as we have.
    scene.bridges[0].manner = Manner::Behind("newest ");
    scene.run(125);
    assert_eq!((scene.evicted, scene.seen().len()), (1, 0));
    let newest = scene.changed(3, "newest ");
    scene.publish_record(newest);
    assert_eq!(scene.announce(0), None);
    scene.run(60);
    assert_eq!((scene.evicted, scene.seen().len()), (1, 1));
    // What was replaced more than an hour ago is an excuse no longer.
    scene.bridges[0].manner = Manner::Behind("new ");
    scene.run(1800);
    assert_eq!(scene.evicted, 1);
    scene.run(2100);
    scene.registry.sweep_peers(scene.now());
    scene.run(125);
    assert_eq!(scene.evicted, 2);
}

#[test]
fn who_shows_nothing_gets_fewer_and_fewer_visitors_and_is_not_evicted() {
    let mut scene = Scene::new();
    scene.add(1, 8080, Manner::Honest);
    scene.add(2, 8080, Manner::Mute);
    scene.run(3600);
    let mute = scene.bridges[1].address;
    let listed = (0..36_000).filter(|_| {
        scene.step();
        scene.visit();
        let site = scene.site.name.clone();
        let listed = scene.registry.bridges(scene.now(), &site, VISITOR);
        listed.iter().any(|view| view.address() == Some(mute))
    });
    let listed = listed.count();
    assert!(listed < 36_000 / 10, "{listed}");
    assert_eq!(scene.evicted, 0);
    // Mended, it is believed again.
    scene.bridges[1].manner = Manner::Honest;
    scene.run(700);
    assert_eq!(scene.seen().len(), 2);
}

#[test]
fn a_bridge_that_died_is_found_by_its_audit_before_its_announces_have_aged() {
    let mut scene = Scene::new();
    scene.add(1, 8080, Manner::Honest);
    scene.add(2, 8080, Manner::Honest);
    scene.run(100);
    scene.bridges[1].manner = Manner::Dead;
    scene.visit();
    for _ in 0..410 {
        scene.step();
        scene.seen();
    }
    assert_eq!(scene.seen(), HashSet::from([scene.bridges[0].address]));
    assert_eq!(scene.evicted, 0);
}

#[test]
fn t57_a_liar_that_leaves_and_comes_back_puts_off_no_audit() {
    for first in 0..10 {
        let mut scene = Scene::new();
        for n in 0..first {
            scene.add(n, 8080, Manner::Honest);
        }
        scene.add(20, 8080, Manner::Liar);
        let liar = scene.bridges.len() - 1;
        for tenth in 0..600 {
            scene.step();
            scene.visit();
            if tenth % 30 == 0 {
                scene.leave(liar);
                scene.announce(liar);
            }
        }
        assert_eq!(scene.evicted, 1, "{first}");
    }
}
