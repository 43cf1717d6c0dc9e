use std::collections::HashSet;

use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use swarm_proto::manifest::SecretKey;

use super::*;
use crate::testing::{TestSite, v1};

fn at(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn rng() -> SmallRng {
    SmallRng::seed_from_u64(11)
}

fn id(n: u8) -> BridgeId {
    BridgeId {
        address: SocketAddr::from(([192, 0, 2, n], 8080)),
        key: SecretKey::new([n; 32]).public(),
    }
}

fn audit(files: &[(&str, u8)], bundles: &[u8], visited: Option<&str>) -> Audit {
    let site = TestSite::new("example.org", 1);
    Audit {
        bridge: id(1),
        domain: Some("bridges.example".into()),
        manifest: Arc::new(site.manifest(1, 0, files)),
        site: site.name,
        bundles: bundles.iter().map(|n| v1(*n)).collect(),
        visited: visited.map(|path| SitePath::from_decoded(path).expect("a path")),
    }
}

#[test]
fn any_file_of_the_bundles_held_may_be_asked_for_and_no_other() {
    let files = [
        ("/a", 1),
        ("/b", 1),
        ("/c", 2),
        ("/d", 3),
        ("/index.html", 3),
    ];
    let audit = audit(&files, &[1, 3], None);
    let mut rng = rng();
    let picked: HashSet<String> = (0..200)
        .filter_map(|_| audit.pick(10, &mut rng))
        .map(|(path, _)| path.to_string())
        .collect();
    let expected = ["/a", "/b", "/d", "/index.html"].map(str::to_owned);
    assert_eq!(picked, HashSet::from(expected));
    assert_eq!(
        audit.url_for(&SitePath::from_decoded("/a b").expect("a path")),
        "http://example-org.bridges.example:8080/a%20b"
    );
}

#[test]
fn files_that_are_too_long_or_empty_are_not_asked_for() {
    let mut audit = audit(
        &[("/short", 1), ("/long", 1), ("/empty", 1)],
        &[1],
        Some("/long"),
    );
    let mut manifest = SiteManifest::clone(&audit.manifest);
    for (path, file) in &mut manifest.files {
        file.length = match path.as_str() {
            "/long" => 11,
            "/short" => 10,
            _ => 0,
        };
    }
    audit.manifest = Arc::new(manifest);
    let mut rng = rng();
    for _ in 0..50 {
        let (path, file) = audit.pick(10, &mut rng).expect("one");
        assert_eq!((path.as_str(), file.length), ("/short", 10));
    }
    assert!(audit.pick(9, &mut rng).is_none());
}

#[test]
fn a_page_that_visitors_were_sent_to_is_asked_for_as_often_as_not() {
    let names: Vec<String> = (0..100).map(|n| format!("/{n}")).collect();
    let mut files: Vec<(&str, u8)> = names.iter().map(|name| (name.as_str(), 1)).collect();
    files.push(("/docs/index.html", 1));
    let audit = audit(&files, &[1], Some("/docs/"));
    let mut rng = rng();
    let visited = (0..400)
        .filter_map(|_| audit.pick(10, &mut rng))
        .filter(|(path, file)| {
            // As the visitor asked, and with the file that stands for the folder.
            path.as_str() == "/docs/" && file.digest == Digest::of(b"/docs/index.html")
        })
        .count();
    assert!((150..=250).contains(&visited), "{visited}");
}

/// Some bridges under audit.
struct Round {
    audits: Audits,
    watches: Vec<Watch>,
    config: VolunteerConfig,
    rng: SmallRng,
}

impl Round {
    fn new(bridges: u8) -> Self {
        let mut round = Self {
            audits: Audits::default(),
            watches: (0..bridges).map(|_| Watch::default()).collect(),
            config: VolunteerConfig::default(),
            rng: rng(),
        };
        for n in 0..bridges {
            round.plan(0, n, round.config.audit_interval);
        }
        round
    }

    fn plan(&mut self, secs: u64, n: u8, interval: Duration) {
        let watch = &mut self.watches[usize::from(n)];
        self.audits
            .plan(at(secs), interval, id(n), watch, &mut self.rng);
    }

    fn next(&mut self, secs: u64) -> Option<u8> {
        let found = self.audits.next(at(secs), &self.config)?;
        let SocketAddr::V4(address) = found.address else {
            panic!("IPv4");
        };
        let n = address.ip().octets()[3];
        self.audits.begin(&mut self.watches[usize::from(n)]);
        Some(n)
    }

    fn end(&mut self, secs: u64, n: u8, bytes: u64, finding: &Finding) -> Verdict {
        let watch = Some(&mut self.watches[usize::from(n)]);
        self.audits
            .end(at(secs), &self.config, bytes, watch, finding)
    }
}

#[test]
fn a_bridge_that_never_ends_holds_up_nobody_elses_audit() {
    let mut round = Round::new(20);
    let slow = (0..40)
        .find_map(|secs| round.next(secs))
        .expect("one of them");
    let mut seen = HashSet::new();
    for secs in 0..200 {
        while let Some(n) = round.next(secs) {
            seen.insert(n);
            assert_eq!(round.end(secs, n, 1000, &Finding::Right), Verdict::Passed);
            round.plan(secs, n, round.config.audit_interval);
        }
    }
    assert!(!seen.contains(&slow), "one audit of a bridge at a time");
    assert_eq!(seen.len(), 19);
    assert_eq!(round.audits.under_way, 1);
}

#[test]
fn audits_take_no_more_than_their_rate_and_their_number() {
    let mut round = Round::new(100);
    round.config.audits_max = 7;
    assert_eq!(std::iter::from_fn(|| round.next(40)).count(), 7);
    let mut round = Round::new(100);
    round.config.audit_rate = 1000;
    let mut bytes = 0;
    for secs in 40..140 {
        while let Some(n) = round.next(secs) {
            bytes += 5000;
            round.end(secs, n, 5000, &Finding::Right);
        }
    }
    // 1000 a second for 100 s, and the first in advance.
    assert!((100_000..=105_000).contains(&bytes), "{bytes}");
}

#[test]
fn the_first_visitor_after_an_audit_brings_the_next_one_near() {
    let page = (
        SiteName::parse("example.org").expect("a site"),
        SitePath::from_decoded("/a").expect("a path"),
    );
    let mut waits = Vec::new();
    for _ in 0..200 {
        let mut round = Round::new(1);
        let idle = at(100_000);
        round.plan(0, 0, idle);
        let (id, watch) = (id(0), &mut round.watches[0]);
        let visit = (&page.0, &page.1);
        let (audits, rng) = (&mut round.audits, &mut round.rng);
        for _ in 0..3 {
            audits.visit(at(10), &round.config, id, watch, visit, rng);
        }
        round.rng = SmallRng::seed_from_u64(waits.len() as u64);
        let due = (10..).find(|secs| round.next(*secs).is_some());
        waits.push(due.expect("audited") - 10);
        assert_eq!(round.watches[0].visited(), Some(&page));
        assert!(!round.watches[0].is_visited(), "counted anew");
    }
    assert!(waits.iter().all(|wait| *wait <= 40), "{waits:?}");
}

#[test]
fn moments_of_audits_are_spread_over_all_of_the_interval() {
    let mut round = Round::new(200);
    let mut tenths = [0_u32; 10];
    for secs in 0..=40 {
        while round.next(secs).is_some() {
            tenths[(secs as usize).min(39) / 4] += 1;
            round.audits.under_way = 0;
        }
    }
    assert_eq!(tenths.iter().sum::<u32>(), 200);
    assert!(
        tenths.iter().all(|count| (8..=35).contains(count)),
        "{tenths:?}"
    );
}

#[test]
fn two_misses_in_a_row_unlist_and_a_lie_evicts_at_once() {
    let mut round = Round::new(1);
    let mut end = |finding: &Finding| {
        round.watches[0].under_way = true;
        round.end(1, 0, 0, finding)
    };
    assert_eq!(end(&Finding::Silent), Verdict::Missed);
    assert_eq!(end(&Finding::Right), Verdict::Passed);
    assert_eq!(end(&Finding::Away), Verdict::Missed);
    assert_eq!(end(&Finding::Unasked), Verdict::Passed);
    assert_eq!(end(&Finding::Silent), Verdict::Unlisted);
    assert_eq!(end(&Finding::Right), Verdict::Passed);
    assert_eq!(end(&Finding::Shut), Verdict::Unlisted);
    assert_eq!(end(&Finding::Forged("x")), Verdict::Evicted);
    // Who has left meanwhile has missed nothing, but has lied.
    let (config, audits) = (VolunteerConfig::default(), &mut Audits::default());
    let gone = |audits: &mut Audits, finding| audits.end(at(1), &config, 0, None, &finding);
    assert_eq!(gone(audits, Finding::Shut), Verdict::Passed);
    assert_eq!(gone(audits, Finding::Forged("x")), Verdict::Evicted);
}
