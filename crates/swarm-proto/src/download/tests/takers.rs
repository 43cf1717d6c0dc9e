//! Leeches that tell a seed nothing of what they get.

use super::*;

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

#[test]
fn t23_who_took_a_copy_and_calls_again_is_known() {
    let call_again = |table: &mut Table| {
        table.event(0, SessionEvent::Closed(CloseReason::Eof));
        table.join(0, table.meta.swarm_ids()[0]);
        table.event(0, SessionEvent::PeerHas(PieceSet::None));
        table.event(0, SessionEvent::PeerInterested(true));
        table.wait(TICK);
    };
    // One of the eight others is gone, and so a slot is free for who takes no more than a copy.
    let mut table = crowded(0);
    table.event(1, SessionEvent::PeerInterested(false));
    table.wait(Duration::from_secs(5));
    for _ in 0..5 {
        assert!(!is_choked(&table, 0));
        take(&mut table, 0, COPY / 4);
        call_again(&mut table);
    }
    assert!(is_choked(&table, 0), "it took more than a copy");
    assert_eq!(secs_served(&mut table, 0, 500), 0);
    // But not for ever: the household next to it may have got its address.
    table.wait(Duration::from_secs(100));
    table.wait(TICK);
    assert!(!is_choked(&table, 0));
}

#[test]
fn who_took_and_told_is_not_held_to_what_it_took_when_it_calls_again() {
    let mut table = crowded(20);
    let piece = |table: &Table, nth| table.meta.geometry().piece(nth).unwrap();
    for nth in 0..20 {
        let has = PieceSet::One(piece(&table, nth));
        table.event(0, SessionEvent::PeerHas(has));
    }
    table.event(0, SessionEvent::Closed(CloseReason::Eof));
    table.event(1, SessionEvent::PeerInterested(false));
    table.join(0, table.meta.swarm_ids()[0]);
    table.event(0, SessionEvent::PeerHas(PieceSet::None));
    table.event(0, SessionEvent::PeerInterested(true));
    table.event(0, SessionEvent::PeerHas(PieceSet::One(piece(&table, 0))));
    table.wait(Duration::from_secs(5));
    assert!(!is_choked(&table, 0));
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
