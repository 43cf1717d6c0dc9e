use std::collections::HashMap;

use rand::SeedableRng as _;
use rand::rngs::SmallRng;

use super::*;
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

struct Book(VolunteerBook, SmallRng);

impl Book {
    fn new() -> Self {
        Self(VolunteerBook::default(), rng())
    }

    fn offer(&mut self, secs: u64, bundle: u8, peer: SocketAddr, offer: &BridgeOffer) -> bool {
        let expires = Duration::from_secs(secs + 75);
        self.0
            .offer(at(secs), v1(bundle), peer, offer, None, expires)
            .is_ok()
    }

    fn choose(&mut self, secs: u64, bundle: u8) -> Option<SocketAddr> {
        let chosen = self.0.choose(at(secs), v1(bundle), VISITOR, 1, &mut self.1);
        chosen.map(|(chosen, _)| chosen.address)
    }
}

#[test]
fn only_a_bridge_that_holds_the_bundle_is_chosen() {
    let mut book = Book::new();
    assert!(book.offer(0, 1, peer(1), &BridgeOffer::new(8000)));
    assert!(book.offer(0, 2, peer(2), &BridgeOffer::new(8000)));
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
    book.offer(0, 1, peer(1), &BridgeOffer::new(8000));
    book.offer(0, 2, peer(1), &BridgeOffer::new(8000));
    book.offer(60, 2, peer(1), &BridgeOffer::new(8000));
    assert!(book.choose(74, 1).is_some());
    assert!(book.choose(75, 1).is_none(), "even before the sweep");
    book.0.sweep(at(76));
    assert_eq!(book.0.len(), 1, "still holds bundle 2");
    book.0.sweep(at(135));
    assert_eq!(book.0.len(), 0);
    assert!(book.0.holders.is_empty() && book.0.per_address.is_empty());
}

#[test]
fn a_lease_ends_by_time_and_by_hits() {
    let mut book = Book::new();
    let lease = BridgeOffer {
        until: Some(1_000_010),
        hits: Some(3),
        ..BridgeOffer::new(8000)
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
        ..BridgeOffer::new(8000)
    };
    assert!(!book.offer(11, 1, peer(1), &none_left));
    assert_eq!(book.0.len(), 0);
}

#[test]
fn setting_the_clock_back_makes_no_lease_longer() {
    let mut book = Book::new();
    let lease = BridgeOffer {
        until: Some(1_000_010),
        ..BridgeOffer::new(8000)
    };
    book.offer(0, 1, peer(1), &lease);
    let later = Moment {
        elapsed: Duration::from_secs(11),
        unix: 5,
    };
    assert!(
        book.0
            .choose(later, v1(1), VISITOR, 1, &mut rng())
            .is_none()
    );
}

#[test]
fn visitors_are_spread_by_what_each_bridge_gives() {
    let mut book = Book::new();
    for n in 1..=10 {
        let rate = if n <= 5 { 10_000_000 } else { 40_000_000 };
        let offer = BridgeOffer {
            rate: Some(rate),
            ..BridgeOffer::new(8000)
        };
        book.offer(0, 1, peer(n), &offer);
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
        book.offer(0, 1, peer(n), &BridgeOffer::new(8000));
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
    book.offer(0, 1, near, &BridgeOffer::new(8000));
    assert_eq!(book.choose(1, 1), None);
    assert!(book.0.list(at(1), [v1(1)].into_iter(), VISITOR).is_empty());
    let neighbour = IpAddr::from([10, 0, 0, 2]);
    assert_eq!(book.0.list(at(1), [v1(1)].into_iter(), neighbour).len(), 1);
}

#[test]
fn one_address_has_only_so_many_bridges() {
    let mut book = Book::new();
    for port in 1..=100 {
        let taken = book.offer(0, 1, peer(1), &BridgeOffer::new(port));
        assert_eq!(
            taken,
            usize::from(port) <= BRIDGES_PER_ADDRESS_MAX,
            "{port}"
        );
    }
    assert!(book.offer(1, 1, peer(1), &BridgeOffer::new(1)), "renewed");
    assert!(book.offer(1, 1, peer(2), &BridgeOffer::new(1)), "another");
    assert_eq!(book.0.len(), BRIDGES_PER_ADDRESS_MAX + 1);
}

#[test]
fn the_list_names_what_each_bridge_holds() {
    let mut book = Book::new();
    book.offer(0, 1, peer(1), &BridgeOffer::new(8000));
    book.offer(0, 2, peer(1), &BridgeOffer::new(8000));
    book.offer(0, 3, peer(2), &BridgeOffer::new(8000));
    let list = book.0.list(at(1), [v1(1), v1(2)].into_iter(), VISITOR);
    assert_eq!(list.len(), 1);
    assert_eq!(list[0].base, "http://198.51.100.1:8000");
    assert_eq!(list[0].bundles, [v1(1), v1(2)]);
}
