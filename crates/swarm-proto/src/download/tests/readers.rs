//! Blocks for readers that come late.

use super::proofs::table;
use super::*;

#[test]
fn a_reader_that_comes_late_is_shown_what_is_proven_and_no_lie() {
    let (mut table, content) = table(false);
    let piece = table.meta.geometry().piece(3).unwrap();
    let all = |_: &BlockRange| true;
    table.download.set_deadline(table.now, piece, table.now);
    table.join(1, table.meta.swarm_ids()[1]);
    table.event(1, SessionEvent::PeerHas(PieceSet::All));
    table.event(1, SessionEvent::Choked(false));
    let actions = table.actions();
    let blocks: Vec<_> = Table::blocks(&actions).iter().map(|b| b.1).collect();
    let [(1, request)] = Table::hash_requests(&actions)[..] else {
        panic!("{actions:?}");
    };
    table.send_block(1, blocks[0], &content, false);
    assert_eq!(
        table.download.proven(piece, all),
        [],
        "leaves are not known"
    );
    let hashes = table.truth(&content, &request);
    table.event(1, SessionEvent::Hashes { request, hashes });
    // Nobody reads any more when the next comes.
    table.download.clear_deadline(piece);
    table.send_block(1, blocks[1], &content, false);
    let shown = |table: &Table| {
        let proven = table.download.proven(piece, all);
        for block in &proven {
            let place = table.meta.geometry().block_bytes(&block.range());
            let truth = &content[place.start as usize..place.end as usize];
            assert_eq!(&block.bytes()[..], truth);
        }
        proven.iter().map(|block| block.range()).collect::<Vec<_>>()
    };
    assert_eq!(shown(&table), blocks[..2]);
    let second = |block: &BlockRange| block.begin() == BLOCK_LEN;
    assert_eq!(table.download.proven(piece, second).len(), 1);
    // All are there, and wait to be hashed once more.
    table.send_block(1, blocks[2], &content, false);
    table.send_block(1, blocks[3], &content, false);
    let whole = |action: &Action| matches!(action, Action::Verify(_));
    assert!(table.actions().iter().any(whole));
    assert_eq!(shown(&table), blocks);
    // Stored: it is read from there.
    table.download.piece_verified(table.now, piece);
    assert_eq!(shown(&table), []);
}
