use std::collections::HashMap;

use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use swarm_proto::manifest::SecretKey;

use super::*;
use crate::registry::proof::NoAnswer;
use crate::testing::v1;

const VISITOR: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 9));

fn at(secs: u64) -> Moment {
    Moment {
        elapsed: Duration::from_secs(secs),
        unix: 1_000_000 + secs,
    }
}

/// Peer `n`, whose bridge is at port 8000 of the same address.
fn peer(n: u8) -> SocketAddr {
    SocketAddr::from(([198, 51, 100, n], 6881))
}

fn rng() -> SmallRng {
    SmallRng::seed_from_u64(5)
}

fn key() -> SecretKey {
    SecretKey::new([1; 32])
}

fn offer(port: u16) -> BridgeOffer {
    BridgeOffer {
        key: Some(key().public()),
        ..BridgeOffer::new(port)
    }
}

struct Book(VolunteerBook, SmallRng);

impl Book {
    fn new() -> Self {
        Self(VolunteerBook::new(VolunteerConfig::default()), rng())
    }

    /// An offer of a bridge that answers at once when it is called.
    fn offer(&mut self, secs: u64, bundle: u8, peer: SocketAddr, offer: &BridgeOffer) -> bool {
        let taken = self.try_offer(secs, bundle, peer, offer);
        while let Some(call) = self.0.next_call(at(secs), [9; 32]) {
            let proof = call.sign(&key());
            self.0.finish_call(at(secs), &call, Ok(proof), &mut self.1);
        }
        taken.is_ok()
    }

    fn try_offer(
        &mut self,
        secs: u64,
        bundle: u8,
        peer: SocketAddr,
        offer: &BridgeOffer,
    ) -> Result<(), OfferRefused> {
        let tracker = SiteName::parse("tracker.example:6969").expect("a host");
        let said = Announced {
            swarm: v1(bundle),
            peer,
            offer,
            domain: None,
            expires: Duration::from_secs(secs + 75),
            tracker: Some(&tracker),
        };
        self.0.offer(at(secs), said, &mut self.1)
    }

    fn choose(&mut self, secs: u64, bundle: u8) -> Option<SocketAddr> {
        let chosen = self
            .0
            .choose(at(secs), v1(bundle), VISITOR, 1, None, &mut self.1);
        chosen.map(|(chosen, _)| chosen.bridge.address)
    }
}

#[test]
fn only_a_bridge_that_holds_the_bundle_is_chosen() {
    let mut book = Book::new();
    assert!(book.offer(0, 1, peer(1), &offer(8000)));
    assert!(book.offer(0, 2, peer(2), &offer(8000)));
    for _ in 0..50 {
        assert_eq!(
            book.choose(1, 1),
            Some("198.51.100.1:8000".parse().expect("an address"))
        );
        assert_eq!(book.choose(1, 3), None);
    }
    book.0.withdraw(v1(1), peer(1));
    assert_eq!(book.choose(1, 1), None);
    assert_eq!(book.0.len(), 1, "gone with its last bundle");
}

#[test]
fn a_silent_bridge_is_no_longer_chosen_and_then_forgotten() {
    let mut book = Book::new();
    book.offer(0, 1, peer(1), &offer(8000));
    book.offer(0, 2, peer(1), &offer(8000));
    book.offer(60, 2, peer(1), &offer(8000));
    assert!(book.choose(74, 1).is_some());
    assert!(book.choose(75, 1).is_none(), "even before the sweep");
    book.0.sweep(at(76));
    assert_eq!(book.0.len(), 1, "still holds bundle 2");
    book.0.sweep(at(135));
    assert_eq!(book.0.len(), 0);
    assert!(book.0.holders.is_empty() && book.0.per_address.is_empty());
    book.0.sweep(at(300));
    assert!(book.0.doors.is_empty());
}

#[test]
fn a_lease_ends_by_time_and_by_hits() {
    let mut book = Book::new();
    let lease = BridgeOffer {
        until: Some(1_000_010),
        hits: Some(3),
        ..offer(8000)
    };
    assert!(book.offer(0, 1, peer(1), &lease));
    assert!((0..3).all(|_| book.choose(1, 1).is_some()));
    assert!(book.choose(1, 1).is_none(), "hits are used up");
    assert!(book.offer(5, 1, peer(1), &lease), "it takes three more");
    assert!(book.choose(9, 1).is_some());
    assert!(book.choose(10, 1).is_none(), "its time is over");
    book.0.sweep(at(10));
    assert_eq!(book.0.len(), 0);
    assert!(!book.offer(11, 1, peer(1), &lease));
    let none_left = BridgeOffer {
        hits: Some(0),
        ..offer(8000)
    };
    assert!(!book.offer(11, 1, peer(1), &none_left));
    assert_eq!(book.0.len(), 0);
}

#[test]
fn setting_the_clock_back_makes_no_lease_longer() {
    let mut book = Book::new();
    let lease = BridgeOffer {
        until: Some(1_000_010),
        ..offer(8000)
    };
    book.offer(0, 1, peer(1), &lease);
    let later = Moment {
        elapsed: Duration::from_secs(11),
        unix: 5,
    };
    assert!(
        book.0
            .choose(later, v1(1), VISITOR, 1, None, &mut rng())
            .is_none()
    );
}

#[test]
fn visitors_are_spread_by_what_each_bridge_gives() {
    let mut book = Book::new();
    for n in 1..=10 {
        let rate = if n <= 5 { 10_000_000 } else { 40_000_000 };
        let fast = BridgeOffer {
            rate: Some(rate),
            ..offer(8000)
        };
        book.offer(0, 1, peer(n), &fast);
    }
    let mut seen: HashMap<SocketAddr, u32> = HashMap::new();
    for _ in 0..2500 {
        let chosen = book.choose(1, 1).expect("one of ten");
        *seen.entry(chosen).or_default() += 1;
    }
    let small: Vec<u32> = (1..=5)
        .map(|n| seen[&SocketAddr::from(([198, 51, 100, n], 8000))])
        .collect();
    let large: Vec<u32> = (6..=10)
        .map(|n| seen[&SocketAddr::from(([198, 51, 100, n], 8000))])
        .collect();
    // 100 and 400 would be in proportion; two choices among ten come close, one would give 250.
    assert!(small.iter().all(|n| (90..=180).contains(n)), "{small:?}");
    assert!(large.iter().all(|n| (320..=420).contains(n)), "{large:?}");
}

#[test]
fn two_choices_keep_the_busiest_near_the_average() {
    let mut book = Book::new();
    for n in 0..100 {
        book.offer(0, 1, peer(n), &offer(8000));
    }
    let mut seen: HashMap<SocketAddr, u32> = HashMap::new();
    for _ in 0..10_000 {
        *seen.entry(book.choose(1, 1).expect("one")).or_default() += 1;
    }
    let busiest = seen.values().max().copied().unwrap_or(0);
    // One choice at random gives about 125 at best; two give 103 or so.
    assert!(seen.len() == 100 && busiest <= 108, "{busiest}");
}

#[test]
fn load_of_long_ago_weighs_nothing() {
    let mut load = Load::default();
    for _ in 0..100 {
        load.add(Duration::from_secs(1), 1_000_000);
    }
    let now = |secs| load.now(Duration::from_secs(secs)) / 1e6;
    assert!((now(1) - 100.0).abs() < 1e-9);
    assert!((now(11) - 50.0).abs() < 1e-9);
    assert!(now(201) < 1e-3);
}

#[test]
fn visitors_from_outside_get_no_bridge_of_our_own_network() {
    let mut book = Book::new();
    let near = SocketAddr::from(([10, 0, 0, 1], 6881));
    book.offer(0, 1, near, &offer(8000));
    assert_eq!(book.choose(1, 1), None);
    assert!(book.0.list(at(1), [v1(1)].into_iter(), VISITOR).is_empty());
    let neighbour = IpAddr::from([10, 0, 0, 2]);
    assert_eq!(book.0.list(at(1), [v1(1)].into_iter(), neighbour).len(), 1);
}

#[test]
fn one_address_has_only_so_many_bridges() {
    let mut book = Book::new();
    // A place causes a call in five seconds.
    for n in 0..100_u16 {
        let secs = u64::from(n) * 5;
        let taken = book.offer(secs, 1, peer(1), &offer(8000 + n));
        assert_eq!(taken, usize::from(n) < BRIDGES_PER_ADDRESS_MAX, "{n}");
    }
    assert!(book.offer(501, 1, peer(1), &offer(8000)), "renewed");
    assert!(book.offer(501, 1, peer(2), &offer(8000)), "another");
    assert_eq!(book.0.len(), BRIDGES_PER_ADDRESS_MAX + 1);
}

#[test]
fn the_list_names_what_each_bridge_holds() {
    let mut book = Book::new();
    book.offer(0, 1, peer(1), &offer(8000));
    book.offer(0, 2, peer(1), &offer(8000));
    book.offer(0, 3, peer(2), &offer(8000));
    let list = book.0.list(at(1), [v1(1), v1(2)].into_iter(), VISITOR);
    assert_eq!(list.len(), 1);
    assert_eq!(list[0].base, "http://198.51.100.1:8000");
    assert_eq!(list[0].bundles, [v1(1), v1(2)]);
}

#[test]
fn t15_only_who_has_answered_is_listed_and_for_all_that_it_announced() {
    let mut book = Book::new();
    let here = peer(1);
    for bundle in [1, 2, 3] {
        assert_eq!(book.try_offer(0, bundle, here, &offer(8000)), Ok(()));
    }
    let all = || [v1(1), v1(2), v1(3)].into_iter();
    assert_eq!(book.choose(0, 1), None);
    assert!(book.0.list(at(0), all(), VISITOR).is_empty());
    assert_eq!(book.0.len(), 0);
    let call = book.0.next_call(at(0), [9; 32]).expect("at once");
    assert_eq!(book.0.next_call(at(0), [9; 32]), None, "one for all three");
    let proof = call.sign(&key());
    assert!(book.0.finish_call(at(0), &call, Ok(proof), &mut rng()));
    assert!(book.choose(0, 1).is_some() && book.choose(0, 3).is_some());
    assert_eq!(book.0.list(at(0), all(), VISITOR)[0].bundles.len(), 3);
    // A bundle more needs no other call.
    assert_eq!(book.try_offer(1, 4, here, &offer(8000)), Ok(()));
    assert!(book.choose(1, 4).is_some());
    assert_eq!(book.0.next_call(at(1), [9; 32]), None);
}

#[test]
fn t15_who_does_not_answer_is_forgotten_and_told_so() {
    let mut book = Book::new();
    let wanted = offer(8000);
    assert_eq!(book.try_offer(0, 1, peer(1), &wanted), Ok(()));
    let call = book.0.next_call(at(0), [9; 32]).expect("at once");
    let proof = Err(NoAnswer::Refused);
    assert!(!book.0.finish_call(at(0), &call, proof, &mut rng()));
    assert!(book.0.bridges.is_empty() && book.0.holders.is_empty());
    // Renewed within the announce interval it waits for the next call, and no call comes before.
    assert_eq!(book.try_offer(10, 1, peer(1), &wanted), Ok(()));
    assert_eq!(book.0.next_call(at(29), [8; 32]), None);
    let call = book
        .0
        .next_call(at(34), [8; 32])
        .expect("after the interval");
    book.0.finish_call(at(34), &call, proof, &mut rng());
    let refused = book.try_offer(35, 1, peer(1), &wanted);
    assert!(
        matches!(refused, Err(OfferRefused::Unanswered(_))),
        "{refused:?}"
    );
    for (bad, why) in [
        (BridgeOffer::new(8000), OfferRefused::NoKey),
        (offer(25), OfferRefused::BlockedPort),
    ] {
        assert_eq!(book.try_offer(200, 1, peer(2), &bad), Err(why));
    }
}

#[test]
fn blocked_ports_are_those_of_the_standard() {
    assert!(BLOCKED_PORTS.is_sorted());
    for open in [80, 443, 6969, 8000, 8080, 8081, 8443, 51413] {
        assert!(!BLOCKED_PORTS.contains(&open), "{open}");
    }
}
