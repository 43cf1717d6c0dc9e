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
    let now = Instant::now();
    let mut budget = PieceBudget::new(10 * PIECE);
    assert_eq!(budget.ask(now, 1, need(0, 5 * PIECE)).bytes, 5 * PIECE);
    assert_eq!(budget.ask(now, 1, need(0, 50 * PIECE)).bytes, 10 * PIECE);
    assert_eq!(budget.ask(now, 1, need(0, 0)).bytes, 0);
    assert_eq!(budget.granted(), 0);
}

#[test]
fn a_piece_greater_than_all_there_is_is_had_by_one_at_a_time() {
    let now = Instant::now();
    let mut budget = PieceBudget::new(PIECE / 2);
    assert_eq!(budget.ask(now, 1, need(0, PIECE)).bytes, PIECE);
    let second = budget.ask(now, 2, need(0, PIECE));
    assert_eq!(second.bytes, 0);
    assert!(budget.ask(now, 1, need(PIECE, PIECE)).others_wait);
    // Done with its piece, the first goes behind.
    assert_eq!(budget.ask(now, 1, need(0, PIECE)).bytes, 0);
    assert_eq!(budget.next(), Some(2));
    assert_eq!(budget.ask(now, 2, need(0, PIECE)).bytes, PIECE);
    budget.leave(2);
    assert_eq!(budget.next(), Some(1));
    assert_eq!(budget.ask(now, 1, need(0, PIECE)).bytes, PIECE);
}

#[test]
fn who_has_more_than_its_share_gives_way_to_who_waits() {
    let now = Instant::now();
    let mut budget = PieceBudget::new(8 * PIECE);
    assert_eq!(budget.ask(now, 1, need(0, 100 * PIECE)).bytes, 8 * PIECE);
    assert_eq!(budget.ask(now, 2, need(0, 100 * PIECE)).bytes, 0);
    // Nothing is taken from the first, but it begins nothing new.
    for held in (5..8).rev() {
        let room = budget.ask(now, 1, need(held * PIECE, 100 * PIECE));
        assert_eq!((room.bytes, room.others_wait), (held * PIECE, true));
    }
    assert_eq!(budget.next(), Some(2));
    assert_eq!(budget.ask(now, 2, need(0, 100 * PIECE)).bytes, 3 * PIECE);
    // Whoever is not in need any more has what is left.
    assert_eq!(
        budget.ask(now, 1, need(2 * PIECE, 2 * PIECE)).bytes,
        2 * PIECE
    );
    assert_eq!(budget.ask(now, 2, need(0, 100 * PIECE)).bytes, 6 * PIECE);
}

/// Two hundred that begin, finish and lose interest at random: what is granted stays below the
/// total, and each finishes its share of pieces.
#[test]
fn f15_any_number_of_members_stay_below_the_total_and_all_get_on() {
    let now = Instant::now();
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
                let room = budget.ask(now, id, need(held[at], wish));
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
            budget.ask(now, id, need(0, 0));
        }
        assert_eq!(budget.granted(), 0);
        assert!(budget.members.is_empty() && budget.queue.is_empty());
        assert!(budget.granted_max() <= total);
    }
}

/// What a bundle does with its memory: pieces that take so many seconds each.
struct Fetcher {
    secs: f64,
    held: u64,
    /// Seconds that were spent on the pieces under way.
    spent: f64,
    done: u32,
    began: Option<u32>,
}

impl Fetcher {
    fn new(secs: f64) -> Self {
        Self {
            secs,
            held: 0,
            spent: 0.0,
            done: 0,
            began: None,
        }
    }
}

/// Asks every half a second for each, as long as `secs`.
fn run(budget: &mut PieceBudget, now: &mut Instant, fetchers: &mut [Fetcher], secs: u32) {
    for half in 0..secs * 2 {
        *now += Duration::from_millis(500);
        for (id, fetcher) in fetchers.iter_mut().enumerate() {
            if fetcher.held > 0 {
                fetcher.spent += 0.5;
            }
            if fetcher.spent >= fetcher.secs {
                fetcher.done += (fetcher.held / PIECE) as u32;
                (fetcher.held, fetcher.spent) = (0, 0.0);
            }
            for _ in 0..2 {
                let room = budget.ask(*now, id as u64, need(fetcher.held, 5 * PIECE));
                let fits = room.bytes / PIECE * PIECE;
                if fits == 0 {
                    fetcher.spent = 0.0;
                } else if fetcher.held == 0 {
                    fetcher.began.get_or_insert(half / 2);
                }
                fetcher.held = fits;
            }
        }
        let held: u64 = fetchers.iter().map(|fetcher| fetcher.held).sum();
        assert!(held <= budget.total, "{held} bytes");
    }
}

#[test]
fn f15_slow_pieces_of_one_bundle_keep_no_other_from_beginning() {
    let mut now = Instant::now();
    let mut budget = PieceBudget::new(2 * PIECE);
    let mut fetchers = [Fetcher::new(9000.0), Fetcher::new(1.0)];
    run(&mut budget, &mut now, &mut fetchers[..1], 1);
    assert_eq!(fetchers[0].held, 2 * PIECE);
    run(&mut budget, &mut now, &mut fetchers, 100);
    let [slow, fast] = &fetchers;
    // The slow one keeps its share, and what it has of that piece.
    assert_eq!(slow.held, PIECE);
    assert!(slow.spent > 100.0);
    assert!(fast.began.is_some_and(|at| at <= 11), "{:?}", fast.began);
    assert!(fast.done > 50, "{} pieces", fast.done);
}

#[test]
fn f15_slow_bundles_however_many_leave_a_fast_one_its_share_of_time() {
    let mut now = Instant::now();
    let mut budget = PieceBudget::new(2 * PIECE);
    let mut slow: Vec<_> = (0..2).map(|_| Fetcher::new(9000.0)).collect();
    run(&mut budget, &mut now, &mut slow, 30);
    assert!(slow.iter().all(|fetcher| fetcher.held == PIECE));
    let mut all = slow;
    all.push(Fetcher::new(1.0));
    run(&mut budget, &mut now, &mut all, 1800);
    let fast = &all[2];
    assert!(fast.began.is_some_and(|at| at <= 21), "{:?}", fast.began);
    // A third of the time of two places is two thirds of the time of one.
    assert!(fast.done > 900, "{} pieces", fast.done);
}

#[test]
fn f15_a_slow_line_gets_its_pieces_whole_though_others_wait() {
    let mut now = Instant::now();
    let mut budget = PieceBudget::new(2 * PIECE);
    let mut all: Vec<_> = (0..3).map(|_| Fetcher::new(150.0)).collect();
    run(&mut budget, &mut now, &mut all, 3600);
    let done: Vec<_> = all.iter().map(|fetcher| fetcher.done).collect();
    // 48 fit into that time.
    assert!(done.iter().sum::<u32>() >= 24, "{done:?}");
    assert!(done.iter().all(|done| *done >= 6), "{done:?}");
}
