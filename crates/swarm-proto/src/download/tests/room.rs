//! Bounds from outside on what is under way.

use super::*;

fn room(pieces: u32, others_wait: bool) -> Room {
    Room {
        bytes: (pieces * PIECE).into(),
        others_wait,
    }
}

fn pieces(asked: &[BlockRange]) -> usize {
    let all: std::collections::BTreeSet<_> = asked.iter().map(BlockRange::piece).collect();
    all.len()
}

#[test]
fn f15_no_piece_is_begun_without_room_for_all_of_it() {
    let mut table = Table::leech();
    table.download.set_room(table.now, room(0, true));
    table.join_seed(1);
    assert_eq!(table.requests(1), []);
    let need = table.download.need();
    assert!(need.held == 0 && need.wish >= need.piece);
    // Readers have no more room than others.
    let piece = table.meta.geometry().piece(9).unwrap();
    table.download.set_deadline(table.now, piece, table.now);
    assert_eq!(table.requests(1), []);
    let one_short = Room {
        bytes: u64::from(2 * PIECE) - 1,
        others_wait: true,
    };
    table.download.set_room(table.now, one_short);
    let asked = table.requests(1);
    assert!(
        asked.iter().all(|range| range.piece() == piece),
        "{asked:?}"
    );
    assert_eq!(table.download.need().held, u64::from(PIECE));
    // A depth of four blocks is two pieces.
    table.download.set_room(table.now, room(5, false));
    assert_eq!(pieces(&table.requests(1)), 1);
}

#[test]
fn f15_pieces_that_stand_still_are_given_up_where_others_wait() {
    let mut table = Table::leech();
    table.join_seed(1);
    assert!(!table.requests(1).is_empty());
    let held = table.download.need().held;
    table.now += Duration::from_secs(9);
    table.download.set_room(table.now, room(2, true));
    assert_eq!(table.download.need().held, held);
    table.now += Duration::from_secs(2);
    table.download.set_room(table.now, room(2, false));
    assert_eq!(table.download.need().held, held);
    table.download.set_room(table.now, room(0, true));
    assert_eq!(table.download.need().held, 0);
    let commands = table.commands(1);
    assert!(commands.iter().any(|c| matches!(c, Command::Cancel(_))));
    // Their turn comes again.
    table.download.set_room(table.now, room(2, false));
    assert!(!table.requests(1).is_empty());
}

#[test]
fn f15_what_is_held_beyond_the_room_is_given_up_the_least_of_it_first() {
    let (mut table, content) = super::proofs::table(false);
    table.join_seed(1);
    let asked = table.requests(1);
    let [first, .., last] = asked[..] else {
        panic!("{asked:?}");
    };
    let length = u64::from(table.meta.geometry().piece_length());
    table.download.set_room(
        table.now,
        Room {
            bytes: 2 * length,
            others_wait: false,
        },
    );
    // One block of each of two pieces, then another of the second.
    table.send_block(1, first, &content, false);
    let more = table.requests(1);
    let all = || asked.iter().chain(&more).copied();
    let other = all().find(|range| range.piece() != first.piece());
    let other = other.unwrap_or(last);
    assert_ne!(other.piece(), first.piece());
    let of_other: Vec<_> = all().filter(|r| r.piece() == other.piece()).collect();
    for range in &of_other[..2] {
        table.send_block(1, *range, &content, false);
    }
    table.commands(1);
    assert_eq!(table.download.need().held, 2 * length);
    table.download.set_room(
        table.now,
        Room {
            bytes: length,
            others_wait: true,
        },
    );
    assert_eq!(table.download.need().held, length);
    let cancelled: Vec<_> = table
        .commands(1)
        .into_iter()
        .filter_map(|c| match c {
            Command::Cancel(range) => Some(range.piece()),
            _ => None,
        })
        .collect();
    assert!(!cancelled.contains(&other.piece()), "{cancelled:?}");
}

#[test]
fn f15_who_holds_pieces_without_anybody_to_finish_them_looks_up_until_they_are_given_up() {
    let mut table = Table::leech();
    table.join_seed(1);
    table.event(1, SessionEvent::Choked(true));
    let need = table.download.need();
    assert!(need.held > 0 && need.wish == 0, "{need:?}");
    table.download.peer_left(table.now, ConnectionId(1));
    assert!(table.download.need().held > 0);
    assert!(table.download.poll_timeout().is_some());
    table.now += Duration::from_secs(11);
    table.download.set_room(table.now, room(0, true));
    assert_eq!(table.download.need().held, 0);
    assert_eq!(table.download.poll_timeout(), None);
}

#[test]
fn whoever_is_alone_sends_at_no_rate() {
    let mut table = Table::seed();
    table.join(1, table.meta.swarm_ids()[0]);
    table.event(1, SessionEvent::PeerInterested(true));
    let range = table.meta.geometry().block(0, 0, BLOCK_LEN).unwrap();
    table.event(1, SessionEvent::Requested(range));
    table.wait(Duration::from_secs(1));
    assert!(table.download.stats().up_rate > 0.0);
    table.download.peer_left(table.now, ConnectionId(1));
    assert_eq!(table.download.poll_timeout(), None);
    assert_eq!(table.download.stats().up_rate, 0.0);
}
