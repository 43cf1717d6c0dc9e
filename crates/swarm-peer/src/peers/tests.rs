use std::net::IpAddr;

use super::*;
use crate::connector::{Scope, scope_of};

const ID: SwarmId = SwarmId::new([1; 20]);
/// As many connections as a swarm may have.
const ALL: usize = 80;

fn book() -> AddressBook {
    AddressBook::new("98.76.54.32:6881".parse().unwrap())
}

fn addr(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn open() -> AddressPolicy {
    let allow_net = vec!["127.0.0.0/8".parse().unwrap()];
    AddressPolicy { allow_net }
}

fn add(book: &mut AddressBook, addr: SocketAddr, trust: Trust, now: Instant) {
    assert!(book.add(addr, ID, trust, &open(), now));
}

#[test]
fn an_address_is_called_once_and_again_after_a_pause() {
    let mut book = book();
    let now = Instant::now();
    add(&mut book, addr(1), Trust::Stranger, now);
    assert_eq!(book.next_due(), Some(now));
    let taken = book.take_due(now, ALL, ALL, |_| true);
    assert_eq!(taken, Some((addr(1), ID, Trust::Stranger)));
    assert_eq!(book.take_due(now, ALL, ALL, |_| true), None);
    assert_eq!(book.next_due(), None);
    book.ended(&addr(1), Ending::Failed, now);
    assert_eq!(book.take_due(now, ALL, ALL, |_| true), None);
    let later = now + Duration::from_secs(6);
    assert!(book.take_due(later, ALL, ALL, |_| true).is_some());
}

#[test]
fn the_operators_peers_come_first_and_are_never_forgotten() {
    let mut book = book();
    let mut now = Instant::now();
    add(&mut book, addr(1), Trust::Stranger, now);
    add(&mut book, addr(2), Trust::CommandLine, now);
    let first = book.take_due(now, ALL, ALL, |_| true);
    assert_eq!(first, Some((addr(2), ID, Trust::CommandLine)));
    assert!(book.take_due(now, ALL, ALL, |_| true).is_some());
    for _ in 0..20 {
        book.ended(&addr(1), Ending::Failed, now);
        book.ended(&addr(2), Ending::Failed, now);
        now += Duration::from_secs(3600);
        while book.take_due(now, ALL, ALL, |_| true).is_some() {}
    }
    assert_eq!(
        (book.len(), book.queue.len(), book.prefixes.len()),
        (1, 0, 1)
    );
    assert_eq!(book.prefixes_busy, 1);
}

#[test]
fn a_flood_of_addresses_stops_at_the_bound() {
    let mut book = book();
    let now = Instant::now();
    for n in 0..100_000_u32 {
        let [_, a, b, c] = n.to_be_bytes();
        add(
            &mut book,
            SocketAddr::from(([9, a, b, c], 1)),
            Trust::Stranger,
            now,
        );
    }
    add(&mut book, addr(0), Trust::Stranger, now);
    // Two networks, of which each has its share.
    assert_eq!(book.len(), 2 * ADDRESSES_PER_PREFIX_MAX);
    add(&mut book, addr(1), Trust::CommandLine, now);
    assert_eq!(book.trust_of(&addr(1)), Some(Trust::CommandLine));
}

#[test]
fn t21_of_a_million_addresses_the_book_keeps_its_bound_and_calls_none_inside() {
    let mut book = book();
    let policy = AddressPolicy::default();
    let now = Instant::now();
    let mut state = 1_u32;
    let mut refused = 0;
    for n in 0..1_000_000_u32 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let [_, b, c, d] = state.to_be_bytes();
        let ip = match n % 5 {
            0 => [10, b, c, d],
            1 => [127, b, c, d],
            2 => [192, 168, c, d],
            3 => [169, 254, 169, 254],
            _ => state.to_be_bytes(),
        };
        let addr = SocketAddr::from((ip, 6881));
        refused += u32::from(!book.add(addr, ID, Trust::Stranger, &policy, now));
        assert!(book.len() <= ADDRESSES_MAX);
    }
    assert!(refused >= 800_000, "{refused}");
    assert_eq!(book.len(), ADDRESSES_MAX, "and not a tenth of it");
    for _ in 0..300 {
        let Some((addr, ..)) = book.take_due(now, ALL, ALL, |_| true) else {
            panic!("nobody to call");
        };
        assert_eq!(scope_of(addr.ip()), Scope::Global, "{addr}");
        book.ended(&addr, Ending::Failed, now);
    }
}

#[test]
fn t22_sybils_of_two_networks_leave_connections_to_others() {
    let now = Instant::now();
    let mut book = book();
    for n in 0..500_u16 {
        let [c, d] = n.to_be_bytes();
        let net = [(9, 8), (9, 9)][usize::from(n % 2)];
        add(
            &mut book,
            SocketAddr::from(([net.0, net.1, c, d], 1)),
            Trust::Stranger,
            now,
        );
    }
    // They come first, and all of them answer.
    let mut connected = 0;
    while let Some((addr, ..)) = book.take_due(now, ALL - connected, ALL, |_| true) {
        book.reached(&addr);
        connected += 1;
    }
    assert_eq!(connected, ALL - (RESERVED - 2));
    assert_eq!(
        book.next_due(),
        Some(now + HELD),
        "and nobody looks in vain all the time"
    );
    // Those that call us find no room either.
    assert_eq!(book.reserved(ALL), RESERVED - 2);
    let honest: Vec<SocketAddr> = (1..=5)
        .map(|n| SocketAddr::from(([20 + n, 1, 1, 1], 1)))
        .collect();
    for &addr in &honest {
        add(&mut book, addr, Trust::Stranger, now);
    }
    assert_eq!(book.next_due(), Some(now));
    let mut met = Vec::new();
    while connected < ALL
        && let Some((addr, ..)) = book.take_due(now, ALL - connected, ALL, |_| true)
    {
        connected += 1;
        met.push(addr);
    }
    assert_eq!(met.len(), 2);
    assert!(met.iter().all(|addr| honest.contains(addr)));
    // As sybils leave, the other honest ones are called before any sybil is.
    for (addr, known) in &book.known {
        assert!(known.due.is_some() || met.contains(addr) || Prefix::of(*addr).is_public());
    }
    let sybil = book
        .known
        .iter()
        .find(|(addr, known)| known.due.is_none() && !met.contains(addr));
    let sybil = *sybil.unwrap().0;
    book.ended(&sybil, Ending::Left, now);
    let (next, ..) = book.take_due(now, 1, ALL, |_| true).unwrap();
    assert!(honest.contains(&next), "{next}");
}

#[test]
fn a_small_swarm_keeps_nothing_back() {
    let now = Instant::now();
    let mut book = book();
    for n in 0..3 {
        add(
            &mut book,
            SocketAddr::from(([9, 9, 9, n], 1)),
            Trust::Stranger,
            now,
        );
    }
    assert!((0..3_usize).all(|n| book.take_due(now, 3 - n, 3, |_| true).is_some()));
}

#[test]
fn among_equals_priority_decides() {
    let now = Instant::now();
    let mut book = book();
    let addrs: Vec<SocketAddr> = (0..20)
        .map(|n| SocketAddr::from(([50 + n, 1, 1, 1], 1)))
        .collect();
    for &addr in &addrs {
        add(&mut book, addr, Trust::Stranger, now);
    }
    let best = addrs
        .iter()
        .max_by_key(|addr| book.priority(**addr))
        .copied();
    assert_eq!(book.best_waiting(now), best.map(|addr| book.priority(addr)));
    assert_eq!(
        book.take_due(now, ALL, ALL, |_| true).map(|taken| taken.0),
        best
    );
}

#[test]
fn ipv4_in_the_guise_of_ipv6_is_the_same_address() {
    let mut book = book();
    let now = Instant::now();
    let plain = addr(1);
    let IpAddr::V4(ip) = plain.ip() else {
        unreachable!("{plain}");
    };
    let guise = SocketAddr::new(ip.to_ipv6_mapped().into(), 1);
    add(&mut book, guise, Trust::Stranger, now);
    add(&mut book, plain, Trust::Stranger, now);
    assert_eq!(book.len(), 1);
    let taken = book.take_due(now, ALL, ALL, |_| true);
    assert_eq!(taken, Some((plain, ID, Trust::Stranger)));
}
