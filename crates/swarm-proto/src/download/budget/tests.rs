use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::*;

const PIECE: u64 = 256;

fn need(held: u64, wish: u64) -> Need {
    Need {
        held,
        wish,
        piece: PIECE,
    }
}

#[test]
fn one_alone_has_what_it_wishes() {
    let mut budget = PieceBudget::new(10 * PIECE);
    assert_eq!(budget.ask(1, need(0, 5 * PIECE)).bytes, 5 * PIECE);
    assert_eq!(budget.ask(1, need(0, 50 * PIECE)).bytes, 10 * PIECE);
    assert_eq!(budget.ask(1, need(0, 0)).bytes, 0);
    assert_eq!(budget.granted(), 0);
}

#[test]
fn a_piece_greater_than_all_there_is_is_had_by_one_at_a_time() {
    let mut budget = PieceBudget::new(PIECE / 2);
    assert_eq!(budget.ask(1, need(0, PIECE)).bytes, PIECE);
    let second = budget.ask(2, need(0, PIECE));
    assert_eq!(second.bytes, 0);
    assert!(budget.ask(1, need(PIECE, PIECE)).others_wait);
    // Done with its piece, the first goes behind.
    assert_eq!(budget.ask(1, need(0, PIECE)).bytes, 0);
    assert_eq!(budget.next(), Some(2));
    assert_eq!(budget.ask(2, need(0, PIECE)).bytes, PIECE);
    budget.leave(2);
    assert_eq!(budget.next(), Some(1));
    assert_eq!(budget.ask(1, need(0, PIECE)).bytes, PIECE);
}

#[test]
fn who_has_more_than_its_share_gives_way_to_who_waits() {
    let mut budget = PieceBudget::new(8 * PIECE);
    assert_eq!(budget.ask(1, need(0, 100 * PIECE)).bytes, 8 * PIECE);
    assert_eq!(budget.ask(2, need(0, 100 * PIECE)).bytes, 0);
    // Nothing is taken from the first, but it begins nothing new.
    for held in (5..8).rev() {
        let room = budget.ask(1, need(held * PIECE, 100 * PIECE));
        assert_eq!((room.bytes, room.others_wait), (held * PIECE, true));
    }
    assert_eq!(budget.next(), Some(2));
    assert_eq!(budget.ask(2, need(0, 100 * PIECE)).bytes, 3 * PIECE);
    // Whoever is not in need any more has what is left.
    assert_eq!(budget.ask(1, need(2 * PIECE, 2 * PIECE)).bytes, 2 * PIECE);
    assert_eq!(budget.ask(2, need(0, 100 * PIECE)).bytes, 6 * PIECE);
}

/// Two hundred that begin, finish and lose interest at random: what is granted stays below the
/// total, and each finishes its share of pieces.
#[test]
fn f15_any_number_of_members_stay_below_the_total_and_all_get_on() {
    for seed in 0..20 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let total = rng.random_range(1..60) * PIECE + rng.random_range(0..PIECE);
        let members = rng.random_range(2..200_u64);
        let mut budget = PieceBudget::new(total);
        let mut held = vec![0_u64; members as usize];
        let mut done = vec![0_u32; members as usize];
        for _ in 0..members * 400 {
            let id = rng.random_range(0..members);
            let at = id as usize;
            // Pieces end at random, and new ones begin as far as there is room.
            if held[at] > 0 && rng.random_bool(0.5) {
                held[at] -= PIECE;
                done[at] += 1;
            }
            let wish = 5 * PIECE;
            let mut ids = vec![id];
            ids.extend(budget.next());
            for id in ids {
                let at = id as usize;
                let room = budget.ask(id, need(held[at], wish));
                assert!(room.bytes >= held[at]);
                while held[at] + PIECE <= room.bytes {
                    held[at] += PIECE;
                }
            }
            assert!(held.iter().sum::<u64>() <= total, "seed {seed}");
        }
        let least = done.iter().min().unwrap();
        let most = done.iter().max().unwrap();
        assert!(*least * 4 > *most, "seed {seed}: {least} to {most}");
        for id in 0..members {
            budget.ask(id, need(0, 0));
        }
        assert_eq!(budget.granted(), 0);
        assert!(budget.members.is_empty() && budget.queue.is_empty());
        assert!(budget.granted_max() <= total);
    }
}
