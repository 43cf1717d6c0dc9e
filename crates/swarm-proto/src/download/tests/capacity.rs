//! Slots of a seed, by what its line gives.

use super::*;

const PEERS: u64 = 40;
const COPY: u32 = 702;

/// Most peers served at a time in each ten seconds, while those that are take three pieces a
/// second, and all together no more than `line`. Each comes from such an address.
fn served(line: usize, rounds: usize, addr: impl Fn(u64) -> [u8; 4]) -> Vec<usize> {
    crowd(line, rounds, addr).1
}

fn crowd(line: usize, rounds: usize, addr: impl Fn(u64) -> [u8; 4]) -> (Table, Vec<usize>) {
    let mut table = Table::seed();
    for conn in 0..PEERS {
        let addr = (addr(conn), 1000 + conn as u16).into();
        table.join_from(conn, addr, table.meta.swarm_ids()[0]);
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
            for nth in 0..line.min(3 * served.len()) {
                let conn = served[(nth + second) % served.len()];
                let piece = geometry.piece(had[conn as usize] % COPY).unwrap();
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
    let served = (0..rounds).map(round).collect();
    (table, served)
}

fn has_slot(table: &Table, conn: u64) -> bool {
    let stats = table.download.peer_stats(ConnectionId(conn)).unwrap();
    !stats.we_choke
}

fn apart(conn: u64) -> [u8; 4] {
    [81, 2, conn as u8, 1]
}

#[test]
fn a_seed_serves_more_slow_peers_than_its_slots_and_on_a_full_line_no_more() {
    let slow = served(1000, 20, apart);
    assert!(slow.ends_with(&[PEERS as usize; 3]), "{slow:?}");
    let full = served(24, 40, apart);
    let more = full.iter().filter(|served| **served > 8).count();
    assert!((4..=12).contains(&more), "{full:?}");
    assert!(full.iter().all(|served| *served <= 12), "{full:?}");
}

#[test]
fn t23_a_host_gets_none_of_the_slots_that_a_seed_adds_however_often_it_calls() {
    let one = served(1000, 20, |_| [81, 2, 1, 1]);
    assert!(one.iter().all(|served| *served <= 8), "{one:?}");
    // Nor do three that share what others leave.
    let three = served(1000, 20, |conn| [81, 2, (conn % 3) as u8, 1]);
    assert!(three.iter().all(|served| *served <= 8), "{three:?}");
    // Nor the slots of others that are gone.
    let (mut table, served) = crowd(1000, 20, |conn| match conn {
        0..20 => apart(conn),
        _ => [81, 2, 99, 1],
    });
    assert_eq!(served.last(), Some(&21), "{served:?}");
    for conn in 0..20 {
        table.event(conn, SessionEvent::PeerInterested(false));
    }
    for _ in 0..12 {
        table.wait(Duration::from_secs(1));
        let left = (20..PEERS).filter(|conn| has_slot(&table, *conn)).count();
        assert!(left <= 8, "{left}");
    }
}

#[test]
fn what_is_handed_out_at_once_to_whoever_gets_a_slot_and_not_sent_is_no_gain() {
    let mut table = Table::seed();
    let joins = |table: &mut Table, conn: u64| {
        let addr = (apart(conn), 1000).into();
        table.join_from(conn, addr, table.meta.swarm_ids()[0]);
        table.event(conn, SessionEvent::PeerHas(PieceSet::None));
        table.event(conn, SessionEvent::PeerInterested(true));
    };
    (0..PEERS).for_each(|conn| joins(&mut table, conn));
    let ranges: Vec<_> = {
        let geometry = table.meta.geometry();
        let pieces = (0..geometry.piece_count()).map(|nth| geometry.piece(nth).unwrap());
        let blocks = pieces.flat_map(|piece| geometry.blocks(piece).collect::<Vec<_>>());
        blocks.take(limits::REQUESTS_PASSED_MAX).collect()
    };
    let piece = table.meta.geometry().piece(0).unwrap();
    let mut had = [false; PEERS as usize];
    let mut most = Vec::new();
    for second in 0..300 {
        // Each asks at once for as much as its session takes, and loses it with its slot; the line
        // sends a block a second, whoever has the slots.
        for action in table.actions() {
            let Action::Command(conn, Command::Choke(choke)) = action else {
                continue;
            };
            for range in &ranges {
                match choke {
                    false => table.event(conn.0, SessionEvent::Requested(*range)),
                    true => table.event(conn.0, SessionEvent::Cancelled(*range)),
                }
            }
            if !choke && !std::mem::replace(&mut had[conn.0 as usize], true) {
                table.event(conn.0, SessionEvent::PeerHas(PieceSet::One(piece)));
            }
        }
        if let Some(conn) = (0..PEERS).find(|conn| has_slot(&table, *conn)) {
            table.event(conn, SessionEvent::Requested(ranges[0]));
        }
        if second % 10 == 9 {
            most.push(table.download.slots());
        }
        table.wait(Duration::from_secs(1));
    }
    assert!(most.contains(&12), "{most:?}");
    assert!(most.iter().all(|slots| *slots <= 12), "{most:?}");
}

#[test]
fn a_seed_that_lost_a_piece_has_its_own_slots_again() {
    let (mut table, _) = crowd(1000, 20, apart);
    assert_eq!(table.download.slots(), PEERS as usize);
    let lost = table.meta.geometry().piece(1).unwrap();
    table.download.piece_lost(table.now, lost);
    table.wait(Duration::from_secs(10));
    assert_eq!(table.download.slots(), 8);
}

#[test]
fn t23_a_tenant_gets_next_to_none_of_the_slots_that_a_seed_adds() {
    let (table, served) = crowd(1000, 20, |conn| match conn {
        0..12 => apart(conn),
        _ => [81, 3, 1, conn as u8],
    });
    assert!(served.iter().all(|served| *served <= 14), "{served:?}");
    let tenant = (12..PEERS).filter(|conn| has_slot(&table, *conn)).count();
    assert!((1..=2).contains(&tenant), "{tenant}");
}

/// Seconds of the last 120 of 220 in which each peer had a slot of a seed that added some, where
/// all tell of what they take.
fn secs_served(addrs: &[[u8; 4]]) -> Vec<u32> {
    let mut table = Table::seed();
    for (conn, addr) in (0..).zip(addrs) {
        table.join_from(
            conn,
            (*addr, 1000 + conn as u16).into(),
            table.meta.swarm_ids()[0],
        );
        table.event(conn, SessionEvent::PeerHas(PieceSet::None));
        table.event(conn, SessionEvent::PeerInterested(true));
    }
    let mut served = vec![0; addrs.len()];
    for second in 0..220 {
        let conns = 0..addrs.len() as u64;
        for conn in conns
            .filter(|conn| has_slot(&table, *conn))
            .collect::<Vec<_>>()
        {
            for nth in 3 * second..3 * second + 3 {
                let piece = table.meta.geometry().piece(nth % COPY).unwrap();
                for range in table.meta.geometry().blocks(piece).collect::<Vec<_>>() {
                    table.event(conn, SessionEvent::Requested(range));
                }
                table.event(conn, SessionEvent::PeerHas(PieceSet::One(piece)));
            }
            served[conn as usize] += u32::from(second >= 100);
        }
        table.wait(Duration::from_secs(1));
    }
    assert!(table.download.slots() > 8);
    served
}

#[test]
fn peers_of_one_host_and_of_one_network_take_turns_where_a_seed_added_slots() {
    // Eleven hosts, and two peers behind one more.
    let mut addrs: Vec<_> = (0..12).map(apart).collect();
    addrs.push(apart(11));
    let served = secs_served(&addrs);
    assert!(served[11..].iter().all(|secs| *secs >= 40), "{served:?}");
    // The same, and three hosts of one network.
    let mut addrs: Vec<_> = (0..10).map(apart).collect();
    addrs.extend((1..=3).map(|last| [81, 3, 1, last]));
    let served = secs_served(&addrs);
    assert!(served[10..].iter().all(|secs| *secs >= 40), "{served:?}");
}

#[test]
fn a_host_without_a_slot_has_its_turn_though_all_others_have_a_second_peer_that_waits() {
    let mut addrs: Vec<_> = (0..120).map(|conn| apart(conn / 2)).collect();
    addrs.push([81, 9, 9, 9]);
    let served = secs_served(&addrs);
    assert!(served.iter().all(|secs| *secs >= 10), "{served:?}");
}

#[test]
fn requests_that_are_taken_back_were_not_sent() {
    let mut table = Table::seed();
    table.join(1, table.meta.swarm_ids()[0]);
    table.event(1, SessionEvent::PeerInterested(true));
    let piece = table.meta.geometry().piece(0).unwrap();
    let range = table.meta.geometry().blocks(piece).next().unwrap();
    for _ in 0..100 {
        table.event(1, SessionEvent::Requested(range));
        table.event(1, SessionEvent::Cancelled(range));
    }
    assert_eq!(table.download.capacity.sent(), 0);
    table.event(1, SessionEvent::Requested(range));
    assert_eq!(table.download.capacity.sent(), i64::from(range.len()));
}
