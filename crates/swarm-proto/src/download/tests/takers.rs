//! Leeches that tell a seed nothing of what they get.

use std::net::IpAddr;

use super::*;
use crate::download::takers::{Gone, HALF_FORGOTTEN};

const COPY: u32 = 702;

/// A seed whose slots are all wanted by peers that pass on what they get, with a peer that says
/// nothing of the pieces it took.
fn crowded(taken: u32) -> Table {
    let mut table = Table::seed();
    for conn in 0..9 {
        table.join(conn, table.meta.swarm_ids()[0]);
        table.event(conn, SessionEvent::PeerHas(PieceSet::None));
        table.event(conn, SessionEvent::PeerInterested(true));
        if conn == 0 {
            take(&mut table, 0, taken);
        }
    }
    table.wait(TICK);
    table
}

fn take(table: &mut Table, conn: u64, pieces: u32) {
    let geometry = table.meta.geometry().clone();
    for nth in 0..pieces {
        let piece = geometry.piece(nth % geometry.piece_count()).unwrap();
        for range in geometry.blocks(piece) {
            table.event(conn, SessionEvent::Requested(range));
        }
    }
    table.wait(TICK);
}

fn is_choked(table: &Table, conn: u64) -> bool {
    table
        .download
        .peer_stats(ConnectionId(conn))
        .unwrap()
        .we_choke
}

/// Seconds within so many in which the peer had a slot, as the others tell of what they get.
fn secs_served(table: &mut Table, conn: u64, secs: u32) -> u32 {
    (0..secs)
        .filter(|_| {
            table.wait(Duration::from_secs(1));
            !is_choked(table, conn)
        })
        .count() as u32
}

#[test]
fn who_tells_nothing_has_a_free_slot_until_it_took_a_copy() {
    let mut table = crowded(20);
    assert!(is_choked(&table, 0), "eight others want the slots");
    // One of them is gone.
    table.event(1, SessionEvent::PeerInterested(false));
    table.wait(Duration::from_secs(5));
    assert!(!is_choked(&table, 0));
    take(&mut table, 0, COPY);
    assert!(is_choked(&table, 0), "it took a copy, and more");
}

#[test]
fn who_tells_something_is_held_to_it() {
    let mut table = crowded(20);
    table.event(1, SessionEvent::PeerInterested(false));
    let piece = table.meta.geometry().piece(0).unwrap();
    table.event(0, SessionEvent::PeerHas(PieceSet::One(piece)));
    table.wait(Duration::from_secs(5));
    assert!(is_choked(&table, 0), "it says to have one piece of twenty");
}

#[test]
fn who_tells_nothing_and_waits_long_has_a_turn() {
    let mut table = crowded(20);
    assert_eq!(secs_served(&mut table, 0, 55), 0);
    let served = secs_served(&mut table, 0, 350);
    assert!(
        (30..=75).contains(&served),
        "a slot one part in seven: {served} s of 350"
    );
    // And who took a copy has none.
    let mut table = crowded(COPY + 20);
    assert_eq!(secs_served(&mut table, 0, 350), 0);
}

#[test]
fn no_slot_is_passed_on_from_who_tells_to_who_tells_nothing() {
    let mut table = Table::seed();
    for conn in 1..=16 {
        table.join(conn, table.meta.swarm_ids()[0]);
        table.event(conn, SessionEvent::PeerHas(PieceSet::None));
        table.event(conn, SessionEvent::PeerInterested(true));
        take(&mut table, conn, 20);
    }
    table.join(17, table.meta.swarm_ids()[0]);
    table.event(17, SessionEvent::PeerHas(PieceSet::None));
    table.event(17, SessionEvent::PeerInterested(true));
    table.wait(Duration::from_secs(2));
    assert_eq!(secs_served(&mut table, 17, 100), 100);
    // The others have what is left.
    let served = (1..=16).filter(|conn| !is_choked(&table, *conn)).count();
    assert!((6..=8).contains(&served), "{served}");
}

/// The peer goes, and comes back from such an address with what it says to have.
fn call_again(table: &mut Table, addr: &str, has: PieceSet) {
    table.event(0, SessionEvent::Closed(CloseReason::Eof));
    table.join_from(0, addr.parse().unwrap(), table.meta.swarm_ids()[0]);
    table.event(0, SessionEvent::PeerHas(has));
    table.event(0, SessionEvent::PeerInterested(true));
    table.wait(TICK);
}

const HOME: &str = "[2001:db8:9:9::1]:1000";

/// The same at an address of its own, when one of the eight others is gone: there is a slot that
/// is free for who takes no more than a copy.
fn at_home() -> Table {
    let mut table = crowded(0);
    table.event(1, SessionEvent::PeerInterested(false));
    call_again(&mut table, HOME, PieceSet::None);
    table.wait(Duration::from_secs(5));
    table
}

#[test]
fn t23_who_took_a_copy_and_calls_again_is_known() {
    let mut table = at_home();
    for nth in 0..5 {
        assert!(!is_choked(&table, 0));
        take(&mut table, 0, COPY / 4);
        // From anywhere in its network.
        call_again(
            &mut table,
            &format!("[2001:db8:9:9::{nth}]:1000"),
            PieceSet::None,
        );
    }
    assert!(is_choked(&table, 0), "it took more than a copy");
    assert_eq!(secs_served(&mut table, 0, 60), 0);
    // It is forgotten by and by.
    table.wait(HALF_FORGOTTEN);
    table.wait(TICK);
    assert!(!is_choked(&table, 0));
}

#[test]
fn who_took_and_told_is_not_held_to_what_it_took_when_it_calls_again() {
    let mut table = at_home();
    take(&mut table, 0, 20);
    let piece = |table: &Table, nth| table.meta.geometry().piece(nth).unwrap();
    for nth in 0..20 {
        let has = PieceSet::One(piece(&table, nth));
        table.event(0, SessionEvent::PeerHas(has));
    }
    call_again(&mut table, HOME, PieceSet::None);
    take(&mut table, 0, 1);
    let has = PieceSet::One(piece(&table, 0));
    table.event(0, SessionEvent::PeerHas(has));
    table.wait(Duration::from_secs(5));
    assert!(!is_choked(&table, 0));
}

#[test]
fn who_tells_nothing_and_calls_again_with_what_it_took_gets_the_rest() {
    let mut table = at_home();
    take(&mut table, 0, COPY * 6 / 10);
    let mut bits = Bitfield::none(table.meta.geometry().piece_count());
    for piece in 0..COPY * 6 / 10 {
        bits.insert(table.meta.geometry().piece(piece).unwrap());
    }
    call_again(&mut table, HOME, PieceSet::Bits(bits));
    take(&mut table, 0, COPY * 4 / 10);
    table.wait(Duration::from_secs(5));
    assert!(!is_choked(&table, 0), "it takes the rest of one copy");
}

#[test]
fn who_tells_is_not_to_blame_for_who_had_its_address_before() {
    let mut table = at_home();
    take(&mut table, 0, 2 * COPY);
    call_again(&mut table, HOME, PieceSet::None);
    table.wait(Duration::from_secs(5));
    assert!(is_choked(&table, 0), "it says nothing yet");
    let piece = table.meta.geometry().piece(0).unwrap();
    table.event(0, SessionEvent::PeerHas(PieceSet::One(piece)));
    table.wait(Duration::from_secs(5));
    assert!(!is_choked(&table, 0));
}

#[test]
fn what_is_remembered_of_takers_is_bounded_and_the_least_is_forgotten_first() {
    let (mut gone, now) = (Gone::default(), Instant::now());
    let at = |nth: u32| IpAddr::from(nth.to_be_bytes());
    for nth in 0..3000 {
        gone.add(now, at(nth), u64::from(3000 - nth));
    }
    let known = (0..3000).filter(|nth| gone.of(now, at(*nth)) > 0).count();
    assert_eq!(known, limits::TAKERS_MAX);
    assert_eq!(gone.of(now, at(0)), 3000);
}

#[test]
fn t23_one_host_has_one_slot_however_many_of_its_ipv6_addresses_call() {
    let mut table = Table::seed();
    let calls = |table: &mut Table, conn: u64, addr: String| {
        let addr = addr.parse().unwrap();
        table.join_from(conn, addr, table.meta.swarm_ids()[0]);
        table.event(conn, SessionEvent::PeerHas(PieceSet::None));
        table.event(conn, SessionEvent::PeerInterested(true));
    };
    for conn in 0..16 {
        calls(&mut table, conn, format!("[2001:db8:0:1::{conn:x}]:6881"));
    }
    table.wait(Duration::from_secs(2));
    // Eight others come: each takes one of the slots that one host has, until that has one left.
    for conn in 16..24 {
        calls(&mut table, conn, format!("[2001:db8:{conn:x}::1]:6881"));
    }
    table.wait(Duration::from_secs(2));
    let others = (16..24).filter(|conn| !is_choked(&table, *conn)).count();
    assert_eq!(others, 7);
}
