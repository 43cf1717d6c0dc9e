//! Slots of a seed, by what its line gives.

use super::*;

const PEERS: u64 = 40;

/// Most peers served at a time in each ten seconds, while those that are take a piece a second,
/// and all together no more than `line`.
fn served(line: usize, rounds: usize) -> Vec<usize> {
    let mut table = Table::seed();
    for conn in 0..PEERS {
        table.join(conn, table.meta.swarm_ids()[0]);
        table.event(conn, SessionEvent::PeerHas(PieceSet::None));
        table.event(conn, SessionEvent::PeerInterested(true));
    }
    let geometry = table.meta.geometry().clone();
    let mut had = [0; PEERS as usize];
    let round = |_| {
        let mut most = 0;
        for second in 0..10 {
            let served: Vec<_> = (0..PEERS).filter(|conn| has_slot(&table, *conn)).collect();
            most = most.max(served.len());
            for nth in 0..line.min(served.len()) {
                let conn = served[(nth + second) % served.len()];
                let piece = geometry.piece(had[conn as usize]).unwrap();
                for range in geometry.blocks(piece) {
                    table.event(conn, SessionEvent::Requested(range));
                }
                table.event(conn, SessionEvent::PeerHas(PieceSet::One(piece)));
                had[conn as usize] += 1;
            }
            table.wait(Duration::from_secs(1));
        }
        most
    };
    (0..rounds).map(round).collect()
}

fn has_slot(table: &Table, conn: u64) -> bool {
    let stats = table.download.peer_stats(ConnectionId(conn)).unwrap();
    !stats.we_choke
}

#[test]
fn a_seed_serves_more_slow_peers_than_its_slots_and_on_a_full_line_no_more() {
    let slow = served(1000, 12);
    assert!(slow.ends_with(&[PEERS as usize; 3]), "{slow:?}");
    let full = served(8, 40);
    let more = full.iter().filter(|served| **served > 8).count();
    assert!((2..=8).contains(&more), "{full:?}");
    assert!(full.iter().all(|served| *served <= 12), "{full:?}");
}
