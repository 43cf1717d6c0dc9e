//! Peers that answer for some pieces though they choke us (BEP 6).

use super::*;

fn allows(table: &mut Table, conn: u64, index: u32) -> PieceIndex {
    let piece = table.meta.geometry().piece(index).unwrap();
    table.event(conn, SessionEvent::AllowedFast(piece));
    piece
}

#[test]
fn who_chokes_us_is_asked_for_what_it_allows_and_nothing_else() {
    let mut table = Table::leech();
    table.join(1, table.meta.swarm_ids()[0]);
    table.event(1, SessionEvent::PeerHas(PieceSet::All));
    assert_eq!(table.requests(1), []);
    let piece = allows(&mut table, 1, 5);
    let asked = table.requests(1);
    let blocks: Vec<_> = table.meta.geometry().blocks(piece).collect();
    assert_eq!(asked, blocks);
    // Once it lets us ask, for others too.
    table.event(1, SessionEvent::Choked(false));
    assert!(table.requests(1).iter().any(|range| range.piece() != piece));
}

#[test]
fn what_a_peer_allows_and_refuses_is_not_asked_of_it_again() {
    let mut table = Table::leech();
    table.join(1, table.meta.swarm_ids()[0]);
    table.event(1, SessionEvent::PeerHas(PieceSet::All));
    allows(&mut table, 1, 5);
    for range in table.requests(1) {
        table.event(1, SessionEvent::Rejected(range));
    }
    table.wait(Duration::from_secs(1));
    assert_eq!(table.requests(1), []);
    // Of another that has it, it is.
    table.join_seed(2);
    table.wait(Duration::from_secs(1));
    assert!(
        table
            .requests(2)
            .iter()
            .any(|range| range.piece().get() == 5)
    );
}

#[test]
fn what_a_peer_allows_and_has_not_is_not_asked_of_it() {
    let mut table = Table::leech();
    table.join(1, table.meta.swarm_ids()[0]);
    let other = table.meta.geometry().piece(6).unwrap();
    table.event(1, SessionEvent::PeerHas(PieceSet::One(other)));
    allows(&mut table, 1, 5);
    assert_eq!(table.requests(1), []);
}
