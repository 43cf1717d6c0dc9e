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
