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

#[test]
fn whoever_came_first_and_has_most_to_pass_on_is_suggested_something_all_the_same() {
    let mut table = Table::seed();
    table.download.config.super_seed = SuperSeed::Never;
    let suggested = |table: &mut Table| {
        let of = |action| match action {
            Action::Command(conn, Command::Suggest(_)) => Some(conn.0),
            _ => None,
        };
        let all: Vec<_> = table.actions().into_iter().filter_map(of).collect();
        all
    };
    // Alone it takes what it likes, much at once.
    table.join(1, table.meta.swarm_ids()[0]);
    table.event(1, SessionEvent::PeerInterested(true));
    let geometry = table.meta.geometry().clone();
    for piece in geometry.pieces().take(16) {
        let block = geometry.nth_block(piece, 0).unwrap();
        table.event(1, SessionEvent::Requested(block));
    }
    assert_eq!(suggested(&mut table), [] as [u64; 0]);
    for conn in 2..=4 {
        table.join(conn, table.meta.swarm_ids()[0]);
        table.event(conn, SessionEvent::PeerInterested(true));
    }
    let first = suggested(&mut table);
    assert!(first.contains(&1) && first.contains(&2), "{first:?}");
}

#[test]
fn what_was_begun_with_a_seed_before_it_suggests_is_finished_with_it() {
    let mut table = Table::leech();
    table.join_seed(1);
    let asked = table.requests(1);
    let begun: std::collections::BTreeSet<_> = asked.iter().map(|range| range.piece()).collect();
    let other = table.meta.geometry().piece(77).unwrap();
    assert!(!begun.contains(&other));
    // What it owes is refused, and so to be asked for again.
    table.event(1, SessionEvent::Suggested(other));
    for range in asked {
        table.event(1, SessionEvent::Rejected(range));
    }
    table.wait(Duration::from_millis(500));
    let again: Vec<_> = table
        .requests(1)
        .iter()
        .map(|range| range.piece())
        .collect();
    assert!(again.contains(&other), "{again:?}");
    let of_begun = again.iter().filter(|piece| begun.contains(piece));
    assert_eq!(of_begun.count(), 2, "{again:?}");
}

#[test]
fn while_others_send_a_peer_that_suggested_is_not_asked_for_more_for_longer() {
    let mut table = Table::leech();
    let geometry = table.meta.geometry().clone();
    table.join(2, table.meta.swarm_ids()[0]);
    table.event(2, SessionEvent::PeerHas(PieceSet::All));
    table.event(2, SessionEvent::Suggested(geometry.piece(77).unwrap()));
    table.event(2, SessionEvent::Choked(false));
    assert_eq!(table.requests(2).len(), 2);
    let others_send = |table: &mut Table, secs: u64| {
        for _ in 0..secs {
            table.download.crowd_at = Some(table.now);
            table.wait(Duration::from_secs(1));
        }
    };
    others_send(&mut table, 14);
    assert_eq!(table.requests(2), []);
    others_send(&mut table, 2);
    assert!(!table.requests(2).is_empty());
}

/// A seed with two leeches that were suggested something.
fn crowd() -> Table {
    let mut table = Table::seed();
    table.download.config.super_seed = SuperSeed::Never;
    for conn in 1..=2 {
        table.join(conn, table.meta.swarm_ids()[0]);
        table.event(conn, SessionEvent::PeerInterested(true));
    }
    table
}

fn copies(table: &Table) -> Vec<u32> {
    table.download.handout.as_ref().unwrap().copies().to_vec()
}

#[test]
fn a_stranger_that_comes_with_much_and_loses_it_takes_no_copy_of_others_with_it() {
    let mut table = crowd();
    let before = copies(&table);
    assert!(before.contains(&1) && before.contains(&0));
    let geometry = table.meta.geometry().clone();
    let promised = before.iter().position(|copies| *copies == 1).unwrap();
    let promised = geometry.piece(promised as u32).unwrap();
    let other = geometry.pieces().find(|piece| *piece != promised).unwrap();
    let mut some = Bitfield::none_of(&geometry);
    some.insert(promised);
    for (comes_with, again) in [
        (PieceSet::All, false),
        (PieceSet::All, true),
        (PieceSet::Bits(some), false),
    ] {
        table.join(9, table.meta.swarm_ids()[0]);
        let is_seed = comes_with == PieceSet::All;
        table.event(9, SessionEvent::PeerHas(comes_with));
        let all = before.iter().map(|copies| copies + 1).collect::<Vec<_>>();
        if is_seed {
            assert_eq!(copies(&table), before, "seeds are not counted");
            for piece in [promised, other] {
                table.event(9, SessionEvent::PeerLacks(piece));
                assert!(before[piece.get() as usize] == copies(&table)[piece.get() as usize]);
            }
            let gained = copies(&table)
                .iter()
                .zip(&all)
                .filter(|(a, b)| a == b)
                .count();
            assert_eq!(gained, all.len() - 2);
        }
        if again {
            for piece in [promised, other] {
                table.event(9, SessionEvent::PeerHas(PieceSet::One(piece)));
            }
            assert_eq!(copies(&table), all);
        }
        table.download.peer_left(table.now, ConnectionId(9));
        assert_eq!(copies(&table), before);
    }
}

#[test]
fn a_leech_that_got_everything_here_is_not_counted_twice_when_it_loses_a_piece() {
    let mut table = crowd();
    table.join(3, table.meta.swarm_ids()[0]);
    let before = copies(&table);
    for piece in table.meta.geometry().clone().pieces() {
        table.event(3, SessionEvent::PeerHas(PieceSet::One(piece)));
    }
    let lost = table.meta.geometry().piece(5).unwrap();
    let mut all = copies(&table);
    assert!(all.iter().zip(&before).all(|(now, before)| now > before));
    table.event(3, SessionEvent::PeerLacks(lost));
    all[5] -= 1;
    assert_eq!(copies(&table), all);
}
