//! Many leeches of one seed.

use super::*;

#[test]
fn leeches_that_come_together_are_suggested_different_pieces_and_then_the_rest() {
    // Also to those of other kinds, if they see everything.
    let mut table = Table::seed();
    table.download.config.super_seed = SuperSeed::Never;
    let mut suggested = std::collections::BTreeMap::new();
    let mut take = |table: &mut Table| {
        for action in table.actions() {
            if let Action::Command(conn, Command::Suggest(piece)) = action {
                suggested.entry(piece).or_insert_with(Vec::new).push(conn.0);
            }
        }
        suggested.clone()
    };
    for conn in 1..=3 {
        table.join(conn, table.meta.swarm_ids()[0]);
        table.event(conn, SessionEvent::PeerInterested(true));
    }
    let first = take(&mut table);
    assert!(first.len() > 10 && first.values().all(|to| to.len() == 1));
    // Who has what it was suggested is suggested more, until nothing is left that nobody had.
    let count = table.meta.geometry().piece_count() as usize;
    let mut had = std::collections::BTreeSet::new();
    for _ in 0..2 * count {
        let now = take(&mut table);
        let Some((piece, to)) = now.iter().find(|(piece, _)| !had.contains(*piece)) else {
            break;
        };
        had.insert(*piece);
        if now.len() < count - 24 {
            assert!(now.values().all(|to| to.len() == 1), "{now:?}");
        }
        let to = to[0];
        table.event(to, SessionEvent::PeerHas(PieceSet::One(*piece)));
    }
    assert_eq!(had.len(), count);
    // By then all may ask for anything.
    assert!(take(&mut table).values().any(|to| to.len() > 1));
}

#[test]
fn a_peer_that_suggests_is_asked_for_nothing_else() {
    let mut table = Table::leech();
    table.join(1, table.meta.swarm_ids()[0]);
    table.event(1, SessionEvent::PeerHas(PieceSet::All));
    let piece = table.meta.geometry().piece(77).unwrap();
    table.event(1, SessionEvent::Suggested(piece));
    table.event(1, SessionEvent::Choked(false));
    let asked = table.requests(1);
    assert_eq!(asked.len(), 2, "the blocks of one piece");
    assert!(asked.iter().all(|range| range.piece() == piece));
    table.wait(Duration::from_secs(2));
    assert_eq!(table.requests(1), []);
    // It says no more: from now on anything will do.
    table.wait(Duration::from_secs(3));
    assert!(!table.requests(1).is_empty());
}

#[test]
fn f8_what_a_silent_peer_owes_is_asked_at_once_of_a_seed_that_suggests_other_pieces() {
    let mut table = Table::leech();
    let piece = |table: &Table, n| table.meta.geometry().piece(n).unwrap();
    table.join(1, table.meta.swarm_ids()[0]);
    table.event(1, SessionEvent::PeerHas(PieceSet::All));
    let suggested = piece(&table, 77);
    table.event(1, SessionEvent::Suggested(suggested));
    let begun = piece(&table, 5);
    for conn in [2, 3] {
        table.join(conn, table.meta.swarm_ids()[0]);
        table.event(conn, SessionEvent::PeerHas(PieceSet::One(begun)));
    }
    table.event(2, SessionEvent::Choked(false));
    let owed = table.requests(2);
    assert!(!owed.is_empty() && owed.iter().all(|range| range.piece() == begun));
    table.event(1, SessionEvent::Choked(false));
    assert!(table.requests(1).iter().all(|r| r.piece() == suggested));
    let asked_again = |table: &mut Table| {
        let asked = table.requests(1);
        owed.iter().all(|range| asked.contains(range))
    };
    // There is another that has it, and may let us ask yet.
    for range in &owed {
        table.event(2, SessionEvent::TimedOut(*range));
    }
    assert!(!asked_again(&mut table));
    table.download.peer_left(table.now, ConnectionId(3));
    assert!(asked_again(&mut table));
}
