//! A liar among the senders of a v1 piece, of which no block can be proved alone.

use sha1::{Digest as _, Sha1};

use super::*;
use crate::bencode::Item;
use crate::verify::verify;

/// Four blocks a piece.
const LONG_PIECE: u32 = 4 * BLOCK_LEN;

/// Eight pieces that have a SHA-1 each and no tree.
fn table() -> (Table, Vec<u8>) {
    let content: Vec<u8> = (0..8 * LONG_PIECE).map(|at| (at / 991) as u8).collect();
    let pieces = content.chunks(LONG_PIECE as usize).map(Sha1::digest);
    let info = Item::dict([
        ("length", Item::int((8 * LONG_PIECE).into())),
        ("name", Item::bytes("site")),
        ("piece length", Item::int(LONG_PIECE.into())),
        ("pieces", Item::bytes(pieces.flatten().collect::<Vec<u8>>())),
    ]);
    let meta = Arc::new(Metainfo::from_info(&info.to_bytes()).unwrap());
    let have = Bitfield::none_of(meta.geometry());
    let source = Source::Metainfo(meta.clone());
    let table = Table::new(source, have, DownloadConfig::default(), meta);
    (table, content)
}

#[test]
fn t7_who_lied_about_a_block_of_a_v1_piece_is_remembered_until_the_piece_is_had_from_another() {
    let (mut table, content) = table();
    let piece = table.meta.geometry().piece(5).unwrap();
    table.download.set_want(table.now, Want::None);
    table.join_seed(1);
    table.join_seed(2);
    table.actions();
    let range = table.meta.geometry().piece_range(piece);
    let want = Want::Ranges(vec![range]);
    table.download.set_want(table.now, want);
    let mut asked = Table::blocks(&table.actions());
    asked.sort_by_key(|(_, range)| *range);
    assert_eq!(asked.len(), 4, "{asked:?}");
    table.join_seed(3);
    table.actions();
    for (nth, (_, range)) in asked.iter().enumerate() {
        let from = if nth == 2 { 2 } else { 1 };
        table.send_block(from, *range, &content, nth == 2);
    }
    let verified = |table: &mut Table| {
        let assembled = table.actions().into_iter().find_map(|action| match action {
            Action::Verify(assembled) => Some(assembled),
            _ => None,
        });
        verify(&table.meta, assembled.expect("the piece is whole"))
    };
    let error = verified(&mut table).unwrap_err();
    table.download.piece_failed(table.now, &error);
    let actions = table.actions();
    assert_eq!(Table::bans(&actions), [], "nobody knows yet");
    // Once more, of the one that had no part in it.
    let again = Table::blocks(&actions);
    assert_eq!(again.len(), 4, "{again:?}");
    assert!(again.iter().all(|(conn, _)| *conn == 3), "{again:?}");
    for (_, range) in again {
        table.send_block(3, range, &content, false);
    }
    assert!(verified(&mut table).is_ok());
    table.download.piece_verified(table.now, piece);
    let bans = Table::bans(&table.actions());
    assert_eq!(bans, [(addr(2), "false block 2 of piece 5".to_owned())]);
}

#[test]
fn a_suspect_piece_that_who_chokes_us_allowed_and_refuses_is_had_of_others() {
    let (mut table, content) = table();
    let piece = table.meta.geometry().piece(5).unwrap();
    table.download.set_want(table.now, Want::None);
    table.join_seed(1);
    table.join_seed(2);
    table.join(0, table.meta.swarm_ids()[0]);
    table.event(0, SessionEvent::PeerHas(PieceSet::All));
    table.actions();
    let range = table.meta.geometry().piece_range(piece);
    table
        .download
        .set_want(table.now, Want::Ranges(vec![range]));
    let asked = Table::blocks(&table.actions());
    for (nth, (_, range)) in asked.iter().enumerate() {
        table.send_block(1 + nth as u64 / 2, *range, &content, nth == 2);
    }
    table.event(0, SessionEvent::AllowedFast(piece));
    let assembled = table.actions().into_iter().find_map(|action| match action {
        Action::Verify(assembled) => Some(assembled),
        _ => None,
    });
    let error = verify(&table.meta, assembled.unwrap()).unwrap_err();
    table.download.piece_failed(table.now, &error);
    let again = Table::blocks(&table.actions());
    assert_eq!(again.len(), 4, "{again:?}");
    assert!(again.iter().all(|(conn, _)| *conn == 0), "{again:?}");
    for (conn, range) in again {
        table.event(conn, SessionEvent::Rejected(range));
    }
    let others = Table::blocks(&table.actions());
    assert_eq!(others.len(), 4, "{others:?}");
    assert!(others.iter().all(|(conn, _)| *conn != 0), "{others:?}");
}
