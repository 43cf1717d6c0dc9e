//! Pieces shown one by one (BEP 16).

use std::collections::BTreeSet;

use super::*;
use crate::geometry::PieceIndex;

/// A seed that shows its pieces in that way.
fn seed(super_seed: SuperSeed) -> Table {
    let config = DownloadConfig {
        super_seed,
        ..DownloadConfig::default()
    };
    let meta = Arc::new(meta());
    let have = Bitfield::all(meta.geometry().piece_count());
    Table::new(Source::Metainfo(meta.clone()), have, config, meta)
}

/// What each of three leeches sees, and the one that came before them.
#[derive(Default)]
struct Seen {
    /// All at once, and after which pieces one by one.
    all: [bool; 4],
    pieces: [BTreeSet<PieceIndex>; 4],
    upload_only: [bool; 4],
}

impl Seen {
    fn look(&mut self, table: &mut Table) {
        for action in table.actions() {
            let Action::Command(ConnectionId(conn), command) = action else {
                continue;
            };
            let conn = conn as usize;
            match command {
                Command::Bitfield(bits) if !bits.is_none() => self.all[conn] = true,
                Command::Have(piece) => {
                    self.pieces[conn].insert(piece);
                }
                Command::UploadOnly(only) => self.upload_only[conn] = only,
                _ => {}
            }
        }
    }
}

fn three(super_seed: SuperSeed) -> (Table, Seen) {
    let mut table = seed(super_seed);
    for conn in 0..=3 {
        table.join(conn, table.meta.swarm_ids()[0]);
        table.event(conn, SessionEvent::PeerHas(PieceSet::None));
    }
    let mut seen = Seen::default();
    seen.look(&mut table);
    (table, seen)
}

#[test]
fn leeches_of_other_kinds_see_different_pieces_one_by_one_and_in_the_end_all() {
    let (mut table, mut seen) = three(SuperSeed::Auto);
    // But for who came first and found nobody else.
    assert_eq!(seen.all, [true, false, false, false]);
    assert_eq!(seen.upload_only[1..], [false; 3], "libtorrent would leave");
    let first: usize = seen.pieces.iter().map(BTreeSet::len).sum();
    let distinct: BTreeSet<_> = seen.pieces.iter().flatten().collect();
    assert_eq!(distinct.len(), first);
    assert!(
        seen.pieces[1..].iter().all(|pieces| pieces.len() == 1),
        "{:?}",
        seen.pieces
    );
    // Who says that it wants its piece, and then has it, is shown the next.
    for conn in 1..=3 {
        table.event(conn, SessionEvent::PeerInterested(true));
    }
    let count = table.meta.geometry().piece_count() as usize;
    let mut had = BTreeSet::new();
    let mut rounds = 0;
    while had.len() < count {
        rounds += 1;
        assert!(rounds <= 2 * count, "stuck at {} of {count}", had.len());
        seen.look(&mut table);
        let next = (1..=3).find_map(|conn| {
            let piece = seen.pieces[conn].iter().find(|piece| !had.contains(*piece));
            piece.map(|piece| (conn as u64, *piece))
        });
        let (conn, piece) = next.expect("a piece that was shown");
        assert_eq!(
            seen.all[1..],
            [false; 3],
            "with {} of {count} handed out",
            had.len()
        );
        had.insert(piece);
        table.event(conn, SessionEvent::PeerHas(PieceSet::One(piece)));
    }
    table.wait(Duration::from_millis(500));
    seen.look(&mut table);
    assert_eq!(seen.all[1..], [true; 3]);
    assert_eq!(seen.upload_only[1..], [true; 3]);
}

#[test]
fn sessions_begin_by_saying_what_their_peer_will_be_told() {
    let begins = |table: &Table| table.download.begins_upload_only(table.now);
    assert!(!begins(&Table::leech()));
    assert!(begins(&three(SuperSeed::Never).0));
    // Who may be shown pieces one by one is not told; nor is it told by a second handshake if it is
    // alone and sees that there is everything.
    assert!(!begins(&seed(SuperSeed::Always)));
    let mut table = seed(SuperSeed::Auto);
    assert!(!begins(&table));
    table.join(1, table.meta.swarm_ids()[0]);
    let mut seen = Seen::default();
    seen.look(&mut table);
    assert_eq!((seen.all[1], seen.upload_only[1]), (true, false));
    // It is taken back if the other seed left meanwhile.
    let mut table = seed(SuperSeed::Always);
    let mut seen = Seen {
        upload_only: [true; 4],
        ..Seen::default()
    };
    table.join(1, table.meta.swarm_ids()[0]);
    seen.look(&mut table);
    assert_eq!((seen.all[1], seen.upload_only[1]), (false, false));
}

#[test]
fn everything_is_shown_where_hiding_helps_nobody() {
    // Nobody is to hide anything.
    assert_eq!(three(SuperSeed::Never).1.all[1..], [true; 3]);
    // One is a seed, and so nobody needs us.
    let (mut table, mut seen) = three(SuperSeed::Auto);
    table.event(3, SessionEvent::PeerHas(PieceSet::All));
    table.wait(Duration::from_millis(500));
    seen.look(&mut table);
    assert_eq!(seen.all[1..], [true; 3]);
    // The others left.
    let (mut table, mut seen) = three(SuperSeed::Auto);
    for conn in [0, 2, 3] {
        table.event(conn, SessionEvent::Closed(CloseReason::Eof));
    }
    table.event(1, SessionEvent::PeerInterested(true));
    table.wait(Duration::from_secs(1));
    seen.look(&mut table);
    assert!(!seen.all[1]);
    table.wait(Duration::from_secs(2));
    seen.look(&mut table);
    assert!(seen.all[1]);
    // One wants other pieces, or says that it is of ours.
    let (mut table, mut seen) = three(SuperSeed::Always);
    for conn in 1..=2 {
        table.event(conn, SessionEvent::PeerInterested(true));
    }
    let said = ExtendedHandshake {
        client: Some("Spikeswarm 9".into()),
        ..ExtendedHandshake::default()
    };
    table.event(2, SessionEvent::ExtendedHandshake(said));
    seen.look(&mut table);
    let shown = *seen.pieces[1].first().unwrap();
    let block = table.meta.geometry().blocks(shown).next().unwrap();
    table.event(1, SessionEvent::Requested(block));
    for _ in 0..12 {
        table.wait(Duration::from_millis(500));
    }
    seen.look(&mut table);
    assert_eq!(seen.all[1..], [false, true, true]);
    // We lost a piece.
    let lost = table.meta.geometry().piece(1).unwrap();
    table.download.piece_lost(table.now, lost);
    table.wait(Duration::from_millis(500));
    seen.look(&mut table);
    assert!(seen.all[1]);
}

#[test]
fn who_comes_first_or_looks_too_seldom_is_shown_everything() {
    let (mut table, mut seen) = three(SuperSeed::Auto);
    assert_eq!(seen.all, [true, false, false, false]);
    for conn in 1..=2 {
        table.event(conn, SessionEvent::PeerInterested(true));
    }
    seen.look(&mut table);
    let shown = *seen.pieces[1].first().unwrap();
    let block = table.meta.geometry().blocks(shown).next().unwrap();
    table.event(1, SessionEvent::Requested(block));
    for _ in 0..8 {
        table.wait(Duration::from_millis(500));
    }
    seen.look(&mut table);
    assert_eq!(seen.all[..3], [true, false, true]);
}

#[test]
fn leeches_of_ours_see_everything() {
    let meta = Arc::new(meta());
    let have = Bitfield::all(meta.geometry().piece_count());
    let config = DownloadConfig {
        super_seed: SuperSeed::Always,
        peer_id: Some(PeerId::new([2; 20])),
        ..DownloadConfig::default()
    };
    let mut table = Table::new(Source::Metainfo(meta.clone()), have, config, meta);
    let mut seen = Seen::default();
    for conn in 1..=3 {
        table.join(conn, table.meta.swarm_ids()[0]);
    }
    seen.look(&mut table);
    assert_eq!(seen.all[1..], [false, true, false]);
}

#[test]
fn all_that_come_are_shown_a_piece_though_the_slots_are_taken() {
    let mut table = seed(SuperSeed::Always);
    for conn in 1..=30 {
        table.join(conn, table.meta.swarm_ids()[0]);
    }
    let mut seen = BTreeSet::new();
    for _ in 0..4 {
        table.wait(Duration::from_millis(500));
        for action in table.actions() {
            if let Action::Command(conn, Command::Have(_)) = action {
                seen.insert(conn);
            }
        }
    }
    assert_eq!(seen.len(), 30);
}
