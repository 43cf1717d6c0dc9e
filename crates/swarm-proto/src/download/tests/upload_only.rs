//! Peers that ask for nothing (BEP 21).

use super::*;

fn says(table: &mut Table, conn: u64, upload_only: bool) {
    let said = ExtendedHandshake {
        upload_only,
        ..ExtendedHandshake::default()
    };
    table.event(conn, SessionEvent::ExtendedHandshake(said));
}

/// What was said last of asking for nothing.
fn said(table: &mut Table, conn: u64) -> Option<bool> {
    let of = |command| match command {
        Command::UploadOnly(only) => Some(only),
        _ => None,
    };
    table.commands(conn).into_iter().filter_map(of).next_back()
}

fn useless(table: &mut Table) -> Vec<u64> {
    let is_useless = |(conn, reason)| (reason == CloseReason::Useless).then_some(conn);
    table.closes().into_iter().filter_map(is_useless).collect()
}

#[test]
fn a_leech_says_that_it_asks_for_nothing_once_it_has_what_it_chose() {
    let mut table = Table::leech();
    let short = table.meta.files().last().unwrap().range();
    let piece = table.meta.geometry().piece_at(short.start).unwrap();
    table.join(1, table.meta.swarm_ids()[0]);
    assert_eq!(said(&mut table, 1), Some(false));
    let want = Want::Ranges(vec![short]);
    table.download.set_want(table.now, want);
    assert_eq!(said(&mut table, 1), None);
    table.download.piece_verified(table.now, piece);
    assert_eq!(said(&mut table, 1), Some(true));
    // Before the handshake is through: it says so.
    table.join(2, table.meta.swarm_ids()[0]);
    assert_eq!(said(&mut table, 2), Some(true));
    table.download.set_want(table.now, Want::All);
    assert_eq!(said(&mut table, 1), Some(false));
}

#[test]
fn who_waits_for_readers_does_not_say_so() {
    let mut table = Table::leech();
    table.download.set_want(table.now, Want::None);
    table.join(1, table.meta.swarm_ids()[0]);
    assert_eq!(said(&mut table, 1), Some(false));
    // But who only ever serves does.
    let config = DownloadConfig {
        seed_only: true,
        ..DownloadConfig::default()
    };
    let meta = Arc::clone(&table.meta);
    let source = Source::Metainfo(Arc::clone(&meta));
    let mut table = Table::new(source, Bitfield::none_of(meta.geometry()), config, meta);
    table.join(1, table.meta.swarm_ids()[0]);
    assert_eq!(said(&mut table, 1), Some(true));
}

#[test]
fn two_that_ask_for_nothing_part() {
    for ours_is_whole in [true, false] {
        let mut table = match ours_is_whole {
            true => Table::seed(),
            false => Table::leech(),
        };
        let first = table.meta.geometry().piece(0).unwrap();
        if !ours_is_whole {
            let want = Want::Ranges(vec![table.meta.geometry().piece_range(first)]);
            table.download.set_want(table.now, want);
        }
        for conn in 1..=4 {
            table.join(conn, table.meta.swarm_ids()[0]);
            table.event(conn, SessionEvent::PeerHas(PieceSet::One(first)));
        }
        // 1 asks for nothing; 2 says so and asks; 3 may ask yet; 4 has everything.
        says(&mut table, 1, true);
        says(&mut table, 2, true);
        table.event(2, SessionEvent::PeerInterested(true));
        says(&mut table, 3, false);
        table.event(4, SessionEvent::PeerHas(PieceSet::All));
        table.wait(Duration::from_secs(9));
        assert_eq!(useless(&mut table), [] as [u64; 0]);
        if !ours_is_whole {
            table.wait(Duration::from_secs(2));
            assert_eq!(useless(&mut table), [] as [u64; 0], "we want something");
            table.download.piece_verified(table.now, first);
        }
        table.wait(Duration::from_secs(2));
        assert_eq!(useless(&mut table), [1, 4], "whole: {ours_is_whole}");
        table.event(2, SessionEvent::PeerInterested(false));
        table.wait(Duration::from_secs(1));
        assert_eq!(useless(&mut table), [2]);
    }
}
