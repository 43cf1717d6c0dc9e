//! Hash requests below the pieces, both ways, and what they settle.

use super::*;
use crate::merkle::{self, Hash, HashSpan};
use crate::verify::{PieceLeaves, verify};

/// Four blocks a piece.
const LONG_PIECE: u32 = 65_536;

/// A hybrid of three files with pieces of four blocks: eleven pieces, one, and less than one.
fn torrent() -> (Arc<Metainfo>, Vec<u8>) {
    let mut builder = MetainfoBuilder::new("site", LONG_PIECE);
    let mut content = Vec::new();
    for (name, len) in [
        ("a", 10 * LONG_PIECE as usize + 20_000),
        ("b", 65_536),
        ("c", 40_000),
    ] {
        let bytes: Vec<u8> = (0..len).map(|at| (at / 997 * 31 + len) as u8).collect();
        let mut hasher = FileHasher::new(LONG_PIECE);
        hasher.update(&bytes);
        builder.file(vec![name.to_owned()], hasher.finish());
        content.extend(bytes);
        content.resize(content.len().next_multiple_of(LONG_PIECE as usize), 0);
    }
    let meta = builder.build().unwrap();
    content.truncate(meta.geometry().total_length() as usize);
    (Arc::new(meta), content)
}

pub(super) fn table(have: bool) -> (Table, Vec<u8>) {
    let (meta, content) = torrent();
    let have = match have {
        true => Bitfield::all(meta.geometry().piece_count()),
        false => Bitfield::none_of(meta.geometry()),
    };
    let source = Source::Metainfo(meta.clone());
    (
        Table::new(source, have, DownloadConfig::default(), meta),
        content,
    )
}

impl Table {
    fn stored(&self, content: &[u8], piece: PieceIndex) -> Vec<u8> {
        let range = self.meta.geometry().piece_range(piece);
        content[range.start as usize..range.end as usize].to_vec()
    }

    /// The peer asks for hashes; the driver hashes what it is told to.
    fn ask_for_hashes(&mut self, content: &[u8], request: HashRequest) -> Option<Vec<Hash>> {
        self.event(1, SessionEvent::HashesRequested(request));
        let mut hashed = std::collections::BTreeSet::new();
        loop {
            for action in self.actions() {
                match action {
                    Action::HashLeaves(piece) => {
                        assert!(hashed.insert(piece), "hashed twice");
                        let data = self.meta.piece_tree(piece).unwrap().data_len;
                        let leaves = merkle::leaves(&self.stored(content, piece)[..data as usize]);
                        self.download.leaves_hashed(piece, Some(leaves));
                    }
                    Action::Command(_, Command::SendHashes(answered, hashes)) => {
                        assert_eq!(answered, request);
                        return Some(hashes);
                    }
                    Action::Command(_, Command::RejectHashes(answered)) => {
                        assert_eq!(answered, request);
                        return None;
                    }
                    _ => {}
                }
            }
        }
    }

    pub(super) fn hash_requests(actions: &[Action]) -> Vec<(u64, HashRequest)> {
        let of = |action: &Action| match action {
            Action::Command(conn, Command::RequestHashes(request)) => Some((conn.0, *request)),
            _ => None,
        };
        actions.iter().filter_map(of).collect()
    }

    /// Every block asked of anyone in these actions.
    pub(super) fn blocks(actions: &[Action]) -> Vec<(u64, BlockRange)> {
        let of = |action: &Action| match action {
            Action::Command(conn, Command::Request(range)) => Some((conn.0, *range)),
            _ => None,
        };
        actions.iter().filter_map(of).collect()
    }

    pub(super) fn send_block(&mut self, conn: u64, range: BlockRange, content: &[u8], lie: bool) {
        let place = self.meta.geometry().block_bytes(&range);
        let mut bytes = content[place.start as usize..place.end as usize].to_vec();
        bytes[5] ^= u8::from(lie);
        let geometry = self.meta.geometry().clone();
        let block = crate::session::block_for_tests(self.now, &geometry, range, bytes.into());
        self.event(conn, SessionEvent::Block(block));
    }

    pub(super) fn truth(&self, content: &[u8], request: &HashRequest) -> Vec<Hash> {
        let file = self
            .meta
            .files()
            .iter()
            .find(|f| f.pieces_root == Some(request.pieces_root));
        let file = file.unwrap();
        let bytes = &content[file.offset as usize..(file.offset + file.length) as usize];
        let height = merkle::height(merkle::block_count(file.length));
        merkle::prove(&merkle::leaves(bytes), height, &hash_server::span(request)).unwrap()
    }

    pub(super) fn bans(actions: &[Action]) -> Vec<(SocketAddr, String)> {
        let of = |action: &Action| match action {
            Action::Ban { addr, reason, .. } => Some((*addr, reason.clone())),
            _ => None,
        };
        actions.iter().filter_map(of).collect()
    }
}

#[test]
fn every_hash_of_every_layer_is_served_with_its_proof() {
    let (mut table, content) = table(true);
    table.join(1, table.meta.swarm_ids()[1]);
    table.actions();
    let files: Vec<_> = table
        .meta
        .files()
        .iter()
        .filter(|f| !f.pad)
        .cloned()
        .collect();
    let mut answered = 0;
    for file in files {
        let root = file.pieces_root.unwrap();
        let bytes = &content[file.offset as usize..(file.offset + file.length) as usize];
        let leaves = merkle::leaves(bytes);
        let height = merkle::height(leaves.len() as u64);
        for base_layer in 0..=height {
            for (length, index) in [2, 4, 8, 16, 64]
                .into_iter()
                .flat_map(|l| (0..4).map(move |n| (l, n * l)))
            {
                let proof_layers = HashSpan::proof_layers_to_root(base_layer, height);
                let request = HashRequest {
                    pieces_root: root,
                    base_layer,
                    index,
                    length,
                    proof_layers,
                };
                let span = hash_server::span(&request);
                table.wait(Duration::from_secs(1));
                let answer = table.ask_for_hashes(&content, request);
                assert_eq!(answer.is_some(), span.is_within(height), "{request:?}");
                if let Some(hashes) = answer {
                    answered += 1;
                    assert_eq!(hashes.len(), request.answer_len() as usize);
                    assert!(merkle::check(&root, height, &span, &hashes), "{request:?}");
                    let layer: Vec<_> = leaves
                        .chunks(1 << base_layer)
                        .map(|nodes| merkle::root_above(nodes, 0, base_layer))
                        .collect();
                    assert_eq!(hashes, merkle::prove(&layer, height, &span).unwrap());
                }
            }
        }
    }
    assert!(answered > 40, "{answered}");
}

#[test]
fn impossible_hash_requests_are_refused() {
    let (mut table, content) = table(true);
    table.join(1, table.meta.swarm_ids()[1]);
    table.actions();
    let root = |n: usize| {
        let files = table.meta.files().iter().filter_map(|f| f.pieces_root);
        files.collect::<Vec<_>>()[n]
    };
    let good = HashRequest {
        pieces_root: root(0),
        base_layer: 0,
        index: 0,
        length: 4,
        proof_layers: 0,
    };
    let small = root(2);
    let bad = [
        HashRequest {
            pieces_root: [0; 32],
            ..good
        },
        HashRequest {
            base_layer: 6,
            ..good
        },
        HashRequest {
            base_layer: u32::MAX,
            ..good
        },
        HashRequest { index: 64, ..good },
        HashRequest { index: 2, ..good },
        HashRequest {
            index: u32::MAX - 3,
            ..good
        },
        HashRequest {
            proof_layers: 6,
            ..good
        },
        HashRequest { length: 3, ..good },
        HashRequest { length: 0, ..good },
        HashRequest {
            pieces_root: small,
            length: 8,
            ..good
        },
        HashRequest {
            pieces_root: small,
            base_layer: 2,
            length: 2,
            ..good
        },
    ];
    for request in bad {
        assert_eq!(table.ask_for_hashes(&content, request), None, "{request:?}");
    }
    assert!(table.ask_for_hashes(&content, good).is_some());
}

#[test]
fn t11_nobody_makes_us_hash_more_than_a_piece_a_second() {
    let (mut table, _) = table(true);
    table.join(1, table.meta.swarm_ids()[1]);
    table.actions();
    let root = table.meta.files()[0].pieces_root.unwrap();
    let (mut hashing, mut refused) = (0, 0);
    for n in 0..10_000_u32 {
        let request = HashRequest {
            pieces_root: root,
            base_layer: 0,
            index: n % 10 * 4,
            length: 4,
            proof_layers: 0,
        };
        table.event(1, SessionEvent::HashesRequested(request));
        for action in table.actions() {
            match action {
                // The driver is slow: nothing more is to be given to it meanwhile.
                Action::HashLeaves(_) => hashing += 1,
                Action::Command(_, Command::RejectHashes(_)) => refused += 1,
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!((hashing, refused), (1, 10_000 - limits::HASH_REQUESTS_MAX));
}

#[test]
fn f6_rotten_bytes_are_never_proven_and_what_cannot_be_read_is_refused() {
    let (mut table, content) = table(true);
    table.join(1, table.meta.swarm_ids()[1]);
    table.actions();
    let root = table.meta.files()[0].pieces_root.unwrap();
    let request = |index| HashRequest {
        pieces_root: root,
        base_layer: 0,
        index,
        length: 4,
        proof_layers: 0,
    };
    let mut rotten = content.clone();
    rotten[100] ^= 1;
    assert_eq!(table.ask_for_hashes(&rotten, request(0)), None);
    assert!(table.ask_for_hashes(&rotten, request(4)).is_some());
    table.event(1, SessionEvent::HashesRequested(request(8)));
    table.event(1, SessionEvent::HashesRequested(request(12)));
    let first = table.meta.geometry().piece(2).unwrap();
    assert!(matches!(table.actions()[..], [Action::HashLeaves(piece)] if piece == first));
    table.download.leaves_hashed(first, None);
    let actions = table.actions();
    let rejected = Command::RejectHashes(request(8));
    assert!(
        matches!(&actions[..], [Action::Command(_, command), Action::HashLeaves(_)] if *command == rejected),
        "{actions:?}"
    );
}

#[test]
fn reader_has_a_block_before_its_piece_is_whole() {
    let (mut table, content) = table(false);
    let piece = table.meta.geometry().piece(3).unwrap();
    table.download.set_deadline(table.now, piece, table.now);
    table.join_seed_v2(1);
    let actions = table.actions();
    let blocks = Table::blocks(&actions);
    let [(1, request)] = Table::hash_requests(&actions)[..] else {
        panic!("{actions:?}");
    };
    assert_eq!(
        (request.index, request.length, request.proof_layers),
        (12, 4, 0)
    );
    // One block came before the proof, one comes after.
    table.send_block(1, blocks[0].1, &content, false);
    let early = table.actions();
    assert!(
        !early.iter().any(|a| matches!(a, Action::BlockVerified(_))),
        "{early:?}"
    );
    let hashes = table.truth(&content, &request);
    table.event(1, SessionEvent::Hashes { request, hashes });
    table.send_block(1, blocks[1].1, &content, false);
    let of = |action| match action {
        Action::BlockVerified(block) => Some(block),
        _ => None,
    };
    let verified: Vec<_> = table.actions().into_iter().filter_map(of).collect();
    assert_eq!(verified.len(), 2);
    for (block, (_, range)) in verified.iter().zip(&blocks) {
        assert_eq!(block.range(), *range);
        let place = table.meta.geometry().block_bytes(range);
        assert_eq!(
            block.bytes()[..],
            content[place.start as usize..place.end as usize]
        );
    }
}

impl Table {
    fn join_seed_v2(&mut self, conn: u64) {
        self.join(conn, self.meta.swarm_ids()[1]);
        self.event(conn, SessionEvent::PeerHas(PieceSet::All));
        self.event(conn, SessionEvent::Choked(false));
    }
}

#[test]
fn t7_liar_is_named_at_its_first_false_block_once_leaves_are_known() {
    let (mut table, content) = table(false);
    let piece = table.meta.geometry().piece(3).unwrap();
    table.download.set_want(table.now, Want::None);
    table.download.set_deadline(table.now, piece, table.now);
    table.join_seed_v2(1);
    table.join_seed_v2(2);
    let actions = table.actions();
    let (asked, request) = Table::hash_requests(&actions)[0];
    let hashes = table.truth(&content, &request);
    table.event(asked, SessionEvent::Hashes { request, hashes });
    let blocks: Vec<_> = Table::blocks(&actions);
    let (liar, range) = *blocks
        .iter()
        .find(|(_, range)| range.piece() == piece)
        .unwrap();
    table.send_block(liar, range, &content, true);
    let actions = table.actions();
    let bans = Table::bans(&actions);
    assert_eq!(bans, [(addr(liar), "false block 0 of piece 3".to_owned())]);
    assert!(
        !actions
            .iter()
            .any(|a| matches!(a, Action::BlockVerified(_)))
    );
    // The other is asked for it at once.
    let again = Table::blocks(&actions);
    assert!(
        again.iter().any(|(conn, r)| *conn != liar && *r == range),
        "{again:?}"
    );
}

#[test]
fn t7_peer_that_did_not_agree_on_v2_is_asked_for_no_hashes() {
    let (mut table, _) = table(false);
    let piece = table.meta.geometry().piece(3).unwrap();
    table.download.set_deadline(table.now, piece, table.now);
    table.join_seed(1);
    assert_eq!(Table::hash_requests(&table.actions()), []);
    table.join_seed_v2(2);
    let requests = Table::hash_requests(&table.actions());
    assert!(requests.iter().all(|(conn, _)| *conn == 2), "{requests:?}");
    table.wait(Duration::from_secs(1));
    let later = Table::hash_requests(&table.actions());
    assert_eq!(requests.len() + later.len(), 1);
}

#[test]
fn t7_false_leaves_cost_the_sender_its_connection_and_harm_nobody() {
    let (mut table, content) = table(false);
    let piece = table.meta.geometry().piece(3).unwrap();
    table.download.set_deadline(table.now, piece, table.now);
    table.join_seed_v2(1);
    let actions = table.actions();
    let (_, request) = Table::hash_requests(&actions)[0];
    let mut hashes = table.truth(&content, &request);
    hashes[2][9] ^= 1;
    table.event(1, SessionEvent::Hashes { request, hashes });
    let lie = CloseReason::Misbehaved(Misbehaviour::FalseHashes);
    assert_eq!(table.closes(), [(1, lie)]);
    // Another is asked.
    table.join_seed_v2(2);
    table.wait(Duration::from_secs(1));
    assert_eq!(Table::hash_requests(&table.actions()), [(2, request)]);
}

#[test]
fn t7_true_blocks_of_a_false_piece_are_kept_and_only_its_liar_is_banned() {
    let (mut table, content) = table(false);
    table.download.set_want(table.now, Want::None);
    let piece = table.meta.geometry().piece(5).unwrap();
    table.join_seed_v2(1);
    table.join_seed_v2(2);
    table.actions();
    let range = table.meta.geometry().piece_range(piece);
    table
        .download
        .set_want(table.now, Want::Ranges(vec![range]));
    // Two send two blocks each, and the second lies in one.
    let mut asked = Table::blocks(&table.actions());
    asked.sort_by_key(|(_, range)| *range);
    assert_eq!(asked.len(), 4, "{asked:?}");
    let honest = asked[0].0;
    let liar = 3 - honest;
    for (nth, (_, range)) in asked.iter().enumerate() {
        // Whoever it was asked of: what is late is taken from anybody.
        let from = if nth == 2 { liar } else { honest };
        table.send_block(from, *range, &content, nth == 2);
    }
    let actions = table.actions();
    let Some(Action::Verify(assembled)) = actions
        .into_iter()
        .find(|action| matches!(action, Action::Verify(_)))
    else {
        panic!("the piece is whole");
    };
    let error = verify(&table.meta, assembled).unwrap_err();
    table.download.piece_failed(table.now, &error);
    let actions = table.actions();
    assert_eq!(Table::bans(&actions), []);
    assert_eq!(Table::blocks(&actions), [], "nothing is fetched again yet");
    let (asked, request) = Table::hash_requests(&actions)[0];
    let hashes = table.truth(&content, &request);
    table.event(asked, SessionEvent::Hashes { request, hashes });
    let actions = table.actions();
    let bans = Table::bans(&actions);
    assert_eq!(bans, [(addr(liar), "false block 2 of piece 5".to_owned())]);
    let again = Table::blocks(&actions);
    let false_block = table.meta.geometry().nth_block(piece, 2).unwrap();
    assert_eq!(again, [(honest, false_block)]);
    table.send_block(honest, false_block, &content, false);
    let verified = table.actions().into_iter().find_map(|action| match action {
        Action::Verify(assembled) => Some(verify(&table.meta, assembled)),
        _ => None,
    });
    assert!(verified.unwrap().is_ok());
    table.download.piece_verified(table.now, piece);
    assert_eq!(table.download.stats().wasted, 16_384);
}

#[test]
fn t7_without_leaves_senders_are_on_parole_until_a_piece_of_one_of_them_is_true() {
    let (mut table, content) = table(false);
    let piece = table.meta.geometry().piece(5).unwrap();
    table.download.set_want(table.now, Want::None);
    // Neither agreed on v2: no leaves are to be had.
    table.join_seed(1);
    table.join_seed(2);
    table.actions();
    let range = table.meta.geometry().piece_range(piece);
    table
        .download
        .set_want(table.now, Want::Ranges(vec![range]));
    let mut asked = Table::blocks(&table.actions());
    asked.sort_by_key(|(_, range)| *range);
    let honest = asked[0].0;
    let liar = 3 - honest;
    for (nth, (_, range)) in asked.iter().enumerate() {
        let from = if nth == 2 { liar } else { honest };
        table.send_block(from, *range, &content, nth == 2);
    }
    let failed = |table: &mut Table| {
        let action = table.actions().into_iter().find_map(|action| match action {
            Action::Verify(assembled) => Some(assembled),
            _ => None,
        });
        verify(&table.meta, action.expect("the piece is whole"))
    };
    let error = failed(&mut table).unwrap_err();
    table.download.piece_failed(table.now, &error);
    // Again from one alone: all four blocks of one of them.
    let again = Table::blocks(&table.actions());
    let alone = again[0].0;
    assert_eq!(again.len(), 4, "{again:?}");
    assert!(again.iter().all(|(conn, _)| *conn == alone), "{again:?}");
    for (_, range) in &again {
        table.send_block(alone, *range, &content, alone == liar);
    }
    match failed(&mut table) {
        Ok(_) => table.download.piece_verified(table.now, piece),
        Err(error) => table.download.piece_failed(table.now, &error),
    }
    let bans = Table::bans(&table.actions());
    assert_eq!(
        bans.iter().map(|(addr, _)| *addr).collect::<Vec<_>>(),
        [addr(liar)]
    );
}

#[test]
fn t7_leaves_of_a_long_piece_come_in_parts_each_checked() {
    let piece_length = 16_384 * 1024;
    let mut builder = MetainfoBuilder::new("site", piece_length);
    let bytes: Vec<u8> = (0..3 * piece_length as usize / 2)
        .map(|at| (at / 16_384 % 251) as u8)
        .collect();
    let mut hasher = FileHasher::new(piece_length);
    hasher.update(&bytes);
    builder.file(vec!["a".to_owned()], hasher.finish());
    let meta = Arc::new(builder.build().unwrap());
    let have = Bitfield::none_of(meta.geometry());
    let source = Source::Metainfo(meta.clone());
    let mut table = Table::new(source, have, DownloadConfig::default(), meta);
    for index in [0, 1] {
        let piece = table.meta.geometry().piece(index).unwrap();
        table.download.set_deadline(table.now, piece, table.now);
    }
    (1..=4).for_each(|conn| table.join_seed_v2(conn));
    let mut requests = Table::hash_requests(&table.actions());
    table.wait(Duration::from_secs(1));
    requests.extend(Table::hash_requests(&table.actions()));
    let names: Vec<_> = requests
        .iter()
        .map(|(_, r)| (r.index, r.length, r.proof_layers))
        .collect();
    assert!(
        names.contains(&(0, 512, 9)) && names.contains(&(512, 512, 9)),
        "{names:?}"
    );
    // A false part names its sender before the others are there.
    let (liar, lied) = requests.swap_remove(0);
    let mut hashes = table.truth(&bytes, &lied);
    hashes[7][0] ^= 1;
    let request = lied;
    table.event(liar, SessionEvent::Hashes { request, hashes });
    let actions = table.actions();
    let closed = |a: &Action| matches!(a, Action::Close(ConnectionId(conn), _) if *conn == liar);
    assert!(actions.iter().any(closed), "{actions:?}");
    requests.retain(|(conn, _)| *conn != liar);
    requests.extend(Table::hash_requests(&actions));
    table.wait(Duration::from_secs(1));
    requests.extend(Table::hash_requests(&table.actions()));
    for (conn, request) in requests {
        let hashes = table.truth(&bytes, &request);
        table.event(conn, SessionEvent::Hashes { request, hashes });
    }
    assert_eq!(table.closes(), []);
    let first = table.meta.geometry().piece(0).unwrap();
    assert!(table.download.proofs.knows(first));
    let right = merkle::leaves(&bytes[..piece_length as usize]);
    assert!(PieceLeaves::prove(&table.meta, first, &right).is_some());
}

#[test]
fn t7_liar_that_came_back_before_it_was_found_out_is_closed_too() {
    let (mut table, content) = table(false);
    table.download.set_want(table.now, Want::None);
    table.join_seed_v2(1);
    table.actions();
    let piece = table.meta.geometry().piece(5).unwrap();
    let range = table.meta.geometry().piece_range(piece);
    table
        .download
        .set_want(table.now, Want::Ranges(vec![range]));
    for (_, range) in Table::blocks(&table.actions()) {
        table.send_block(1, range, &content, true);
    }
    let action = table.actions().into_iter().find_map(|action| match action {
        Action::Verify(assembled) => Some(verify(&table.meta, assembled)),
        _ => None,
    });
    // While the piece is being hashed the connection breaks, and it calls again.
    table.download.peer_left(table.now, ConnectionId(1));
    let info = PeerInfo {
        addr: addr(1),
        outgoing: false,
    };
    table.download.peer_joined(table.now, ConnectionId(2), info);
    table.actions();
    table
        .download
        .piece_failed(table.now, &action.unwrap().unwrap_err());
    let lie = CloseReason::Misbehaved(Misbehaviour::FalseBlock(5));
    assert_eq!(table.closes(), [(2, lie)]);
}
