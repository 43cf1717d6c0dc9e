//! Padding, of peers that count it and of those that don't.

use super::proofs::table;
use super::*;
use crate::verify::verify;

/// Bytes of the last block of file `a` that is not padding altogether.
const SHORT: u32 = 20_000 - BLOCK_LEN;

/// How a peer greets: the id that is agreed on, and whether it sets the bit of BEP 52.
type Greeting = (usize, bool);
const KNOWS_V1: Greeting = (0, false);
const CALLS_BY_V1: Greeting = (0, true);
const SPEAKS_V2: Greeting = (1, false);

impl Table {
    /// A seed that greets like this and lets us ask.
    fn join_as(&mut self, conn: u64, (id, bit): Greeting) {
        let info = PeerInfo {
            addr: addr(conn),
            outgoing: true,
        };
        let conn_id = ConnectionId(conn);
        self.download.peer_joined(self.now, conn_id, info);
        let reserved = match bit {
            true => ReservedBits::OURS.with_v2(),
            false => ReservedBits::OURS,
        };
        let established = SessionEvent::Established {
            peer_id: PeerId::new([conn as u8; 20]),
            swarm_id: self.meta.swarm_ids()[id],
            reserved,
        };
        self.event(conn, established);
        self.event(conn, SessionEvent::PeerHas(PieceSet::All));
        self.event(conn, SessionEvent::Choked(false));
    }

    /// The last piece of file `a` and nothing else is wanted: a whole block, a short one, and two
    /// of padding.
    fn want_last_of_a(&mut self) -> PieceIndex {
        let piece = self.meta.geometry().piece(10).unwrap();
        self.download.set_want(self.now, Want::None);
        self.download.set_deadline(self.now, piece, self.now);
        piece
    }
}

fn spans(requests: &[BlockRange]) -> Vec<(u32, u32)> {
    requests.iter().map(|r| (r.begin(), r.len())).collect()
}

fn requests(actions: &[Action], conn: u64) -> Vec<BlockRange> {
    let blocks = Table::blocks(actions).into_iter();
    blocks.filter(|b| b.0 == conn).map(|b| b.1).collect()
}

fn cancels(actions: &[Action]) -> Vec<(u64, u32, u32)> {
    let of = |action: &Action| match action {
        Action::Command(conn, Command::Cancel(range)) => Some((conn.0, range.begin(), range.len())),
        _ => None,
    };
    actions.iter().filter_map(of).collect()
}

#[test]
fn who_knows_bep_3_alone_is_asked_for_whole_blocks_and_others_for_no_padding() {
    for (greeting, len) in [
        (KNOWS_V1, BLOCK_LEN),
        (CALLS_BY_V1, SHORT),
        (SPEAKS_V2, SHORT),
    ] {
        let (mut table, content) = table(false);
        let piece = table.want_last_of_a();
        table.join_as(1, greeting);
        let asked = table.requests(1);
        assert_eq!(spans(&asked), [(0, BLOCK_LEN), (BLOCK_LEN, len)]);
        for range in asked {
            table.send_block(1, range, &content, false);
        }
        let mut actions = table.actions();
        let Some(Action::Verify(claim)) = actions.pop() else {
            panic!("{greeting:?}: {actions:?}");
        };
        assert_eq!(claim.piece, piece);
        assert_eq!(claim.bytes, content[10 * 65_536..11 * 65_536]);
        assert!(verify(&table.meta, claim).is_ok());
        let stats = table.download.stats();
        let came = u64::from(BLOCK_LEN + len);
        assert_eq!((stats.downloaded, stats.wasted), (came, 0));
    }
}

#[test]
fn peers_of_both_sorts_send_the_same_block_and_the_slower_gets_a_cancel_it_knows() {
    for (first, second, cancelled) in [
        (KNOWS_V1, SPEAKS_V2, BLOCK_LEN),
        (SPEAKS_V2, KNOWS_V1, SHORT),
    ] {
        let (mut table, content) = table(false);
        table.want_last_of_a();
        table.join_as(1, first);
        assert_eq!(table.requests(1).len(), 2);
        table.join_as(2, second);
        assert_eq!(table.requests(2), []);
        table.wait(Duration::from_secs(2));
        let asked = requests(&table.actions(), 2);
        assert_eq!(asked.len(), 2, "the first owes them for long");
        table.send_block(2, asked[1], &content, false);
        let actions = table.actions();
        assert_eq!(cancels(&actions), [(1, BLOCK_LEN, cancelled)]);
        table.send_block(2, asked[0], &content, false);
        assert!(matches!(table.actions().last(), Some(Action::Verify(_))));
    }
}

#[test]
fn whole_blocks_that_are_refused_or_late_are_asked_of_others() {
    for late in [false, true] {
        let (mut table, content) = table(false);
        let piece = table.want_last_of_a();
        table.join_as(1, KNOWS_V1);
        let asked = table.requests(1);
        table.event(
            1,
            match late {
                true => SessionEvent::TimedOut(asked[1]),
                false => SessionEvent::Rejected(asked[1]),
            },
        );
        table.join_as(2, SPEAKS_V2);
        let again = requests(&table.actions(), 2);
        assert_eq!(spans(&again), [(BLOCK_LEN, SHORT)]);
        // What comes after all is taken, and nobody else asked for it any more.
        table.send_block(1, asked[1], &content, false);
        assert_eq!(cancels(&table.actions()), [(2, BLOCK_LEN, SHORT)]);
        table.send_block(1, asked[0], &content, false);
        let actions = table.actions();
        assert!(
            matches!(actions.last(), Some(Action::Verify(claim)) if claim.piece == piece),
            "{actions:?}"
        );
    }
}

#[test]
fn what_is_given_up_is_cancelled_as_the_peer_was_asked() {
    for lost in [false, true] {
        let (mut table, _) = table(false);
        let piece = table.want_last_of_a();
        table.join_as(1, KNOWS_V1);
        assert_eq!(table.requests(1).len(), 2);
        match lost {
            true => table.event(1, SessionEvent::PeerLacks(piece)),
            // It came from elsewhere.
            false => table.download.piece_verified(table.now, piece),
        }
        let told = cancels(&table.actions());
        assert_eq!(told, [(1, 0, BLOCK_LEN), (1, BLOCK_LEN, BLOCK_LEN)]);
    }
}

#[test]
fn padding_that_is_not_zero_names_the_liar_at_once() {
    let (mut table, content) = table(false);
    table.want_last_of_a();
    table.join_as(1, KNOWS_V1);
    let asked = table.requests(1);
    let mut lie = content.clone();
    lie[11 * 65_536 - 2 * BLOCK_LEN as usize - 1] ^= 1;
    table.send_block(1, asked[0], &lie, false);
    assert_eq!(Table::bans(&table.actions()), []);
    table.send_block(1, asked[1], &lie, false);
    let bans = Table::bans(&table.actions());
    assert_eq!(bans, [(addr(1), "false block 1 of piece 10".to_owned())]);
    // All of it is asked of another.
    table.join_as(2, SPEAKS_V2);
    let again = requests(&table.actions(), 2);
    assert_eq!(spans(&again), [(0, BLOCK_LEN), (BLOCK_LEN, SHORT)]);
}

#[test]
fn whole_blocks_are_proven_one_by_one_like_any_others() {
    let (mut table, content) = table(false);
    table.want_last_of_a();
    table.join_as(1, KNOWS_V1);
    let asked = requests(&table.actions(), 1);
    table.join_as(2, SPEAKS_V2);
    table.wait(Duration::from_millis(500));
    let actions = table.actions();
    let [(2, request)] = Table::hash_requests(&actions)[..] else {
        panic!("{actions:?}");
    };
    let hashes = table.truth(&content, &request);
    table.event(2, SessionEvent::Hashes { request, hashes });
    table.send_block(1, asked[1], &content, false);
    let shown: Vec<_> = table
        .actions()
        .into_iter()
        .filter_map(|action| match action {
            Action::BlockVerified(block) => Some(block.range()),
            _ => None,
        })
        .collect();
    assert_eq!(spans(&shown), [(BLOCK_LEN, SHORT)]);
    // A lie in it has a name at once, though the other block is not here.
    table.send_block(1, asked[0], &content, true);
    let bans = Table::bans(&table.actions());
    assert_eq!(bans, [(addr(1), "false block 0 of piece 10".to_owned())]);
}

#[test]
fn a_block_with_padding_is_served_to_whoever_counts_it() {
    let (mut table, _) = table(true);
    table.join_as(1, KNOWS_V1);
    table.actions();
    let range = table.meta.geometry().block(10, BLOCK_LEN, BLOCK_LEN);
    let range = range.unwrap();
    table.event(1, SessionEvent::Requested(range));
    let read = table.actions();
    assert!(
        matches!(read[..], [Action::ReadBlock { range: read, .. }] if read == range),
        "{read:?}"
    );
}
