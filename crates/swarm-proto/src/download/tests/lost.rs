//! Pieces that peers or we lose again (BEP 54).

use super::*;

#[test]
fn a_peer_that_lost_a_piece_owes_none_of_it_and_others_are_asked() {
    let mut table = Table::leech();
    table.join_seed(1);
    let asked = table.requests(1);
    let piece = asked[0].piece();
    let of_it: Vec<_> = asked
        .iter()
        .filter(|range| range.piece() == piece)
        .collect();
    table.event(1, SessionEvent::PeerLacks(piece));
    let commands = table.commands(1);
    for range in of_it {
        assert!(commands.contains(&Command::Cancel(*range)), "{commands:?}");
    }
    let again = |command: &Command| matches!(command, Command::Request(r) if r.piece() == piece);
    assert!(!commands.iter().any(again));
    assert!(!table.download.peers[&ConnectionId(1)].is_seed());
    // Who has it is asked.
    table.join(2, table.meta.swarm_ids()[0]);
    table.event(2, SessionEvent::PeerHas(PieceSet::One(piece)));
    table.event(2, SessionEvent::Choked(false));
    assert!(table.requests(2).iter().any(|range| range.piece() == piece));
}

#[test]
fn a_peer_that_lost_all_that_we_want_is_of_no_more_interest() {
    let mut table = Table::leech();
    table.join(1, table.meta.swarm_ids()[0]);
    let piece = table.meta.geometry().piece(5).unwrap();
    table.event(1, SessionEvent::PeerHas(PieceSet::One(piece)));
    assert!(table.commands(1).contains(&Command::Interested(true)));
    table.event(1, SessionEvent::PeerLacks(piece));
    assert!(table.commands(1).contains(&Command::Interested(false)));
    table.event(1, SessionEvent::PeerHas(PieceSet::One(piece)));
    assert!(table.commands(1).contains(&Command::Interested(true)));
}

#[test]
fn what_comes_and_goes_is_counted_as_often_as_it_is_there() {
    let mut table = Table::leech();
    let geometry = table.meta.geometry().clone();
    let mut piece = geometry.pieces();
    let (a, b) = (piece.next().unwrap(), piece.next().unwrap());
    for conn in 1..=3 {
        table.join(conn, table.meta.swarm_ids()[0]);
    }
    table.event(1, SessionEvent::PeerHas(PieceSet::All));
    table.event(2, SessionEvent::PeerHas(PieceSet::One(a)));
    for _ in 0..3 {
        table.event(1, SessionEvent::PeerLacks(a));
        table.event(1, SessionEvent::PeerHas(PieceSet::One(a)));
        table.event(2, SessionEvent::PeerLacks(a));
        table.event(2, SessionEvent::PeerLacks(b));
        table.event(2, SessionEvent::PeerHas(PieceSet::One(a)));
    }
    // Who once lost something is counted though it has everything.
    let counts = |table: &Table| {
        table
            .download
            .picker
            .availability(a)
            .zip(table.download.picker.availability(b))
    };
    assert_eq!(counts(&table), Some((2, 1)));
    for conn in 1..=2 {
        table.event(conn, SessionEvent::Closed(CloseReason::Eof));
    }
    assert_eq!(counts(&table), Some((0, 0)));
}

#[test]
fn peers_hear_of_a_piece_that_failed_its_recheck() {
    let mut table = Table::seed();
    table.join(1, table.meta.swarm_ids()[0]);
    table.actions();
    let piece = table.meta.geometry().piece(9).unwrap();
    table.download.piece_lost(table.now, piece);
    assert!(table.commands(1).contains(&Command::DontHave(piece)));
    table.download.piece_lost(table.now, piece);
    assert!(!table.commands(1).contains(&Command::DontHave(piece)));
    table.download.piece_verified(table.now, piece);
    assert!(table.commands(1).contains(&Command::Have(piece)));
}
