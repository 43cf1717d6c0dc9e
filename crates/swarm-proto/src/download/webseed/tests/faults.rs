use super::*;

#[test]
fn t8_a_web_seed_with_one_false_byte_is_banned_by_its_url_and_no_other() {
    for bad in [0_u64, 77_777, 40 * u64::from(PIECE) - 1] {
        let mut stage = Stage::new(&[40 * PIECE as usize]);
        stage.seed(1, "http://honest.example/");
        stage.seed(2, "http://liar.example/?key=secret");
        stage.seed(3, "http://also-honest.example/");
        // The liar's URL has a query, so its files lie behind it.
        let bytes = stage.files["a%20site/dir/f%200"].clone();
        let key = "?key=secret/a%20site/dir/f%200".to_owned();
        stage.files.insert(key, bytes);
        for _ in 0..400 {
            // Only the liar answers first, so that it has every piece to lie about.
            stage
                .open
                .sort_by_key(|fetch| fetch.seed != ConnectionId(2));
            let lie = |fetch: &WebFetch, body: &mut Vec<u8>| {
                let range = fetch.range.start..fetch.range.end;
                if fetch.seed == ConnectionId(2) && range.contains(&bad) {
                    body[(bad - range.start) as usize] ^= 1;
                }
            };
            if !stage.answer(5000, lie) {
                break;
            }
            stage.verify();
        }
        assert!(stage.download.is_complete());
        assert_eq!(stage.banned, ["http://liar.example/"], "byte {bad}");
        assert!(stage.banned_peers.is_empty());
        let again = "http://liar.example/?key=secret".to_owned();
        let now = stage.now;
        assert!(!stage.download.web_seed_joined(now, ConnectionId(4), again));
    }
}

#[test]
fn t8_of_a_piece_from_many_the_web_seed_is_named_only_if_the_false_block_was_its_own() {
    for liar_is_web_seed in [true, false] {
        let mut stage = Stage::new(&[PIECE as usize]);
        stage.peer(5, PieceSet::All);
        let asked = stage
            .commands
            .iter()
            .filter_map(|(_, command)| match command {
                Command::Request(range) => Some(*range),
                _ => None,
            });
        let asked: Vec<_> = asked.collect();
        assert_eq!(asked.len(), 2);
        // The peer sends one block and refuses the other, which goes to the web seed.
        let truth = stage.files["a%20site/dir/f%200"].clone();
        let block = |range: BlockRange, lies: bool| {
            let mut bytes = truth[range.begin() as usize..range.end() as usize].to_vec();
            bytes[9] ^= u8::from(lies);
            SessionEvent::Block(Block::of_web_seed(range, bytes.into()).unwrap())
        };
        let now = stage.now;
        let peer = ConnectionId(5);
        let event = block(asked[0], !liar_is_web_seed);
        stage.download.handle_event(now, peer, event);
        for event in [SessionEvent::Choked(true), SessionEvent::Rejected(asked[1])] {
            stage.download.handle_event(now, peer, event);
        }
        stage.seed(1, "http://w.example/");
        assert_eq!(stage.open.len(), 1);
        stage.answer(5000, |_, body| body[3] ^= u8::from(liar_is_web_seed));
        stage.verify();
        let unchoked = SessionEvent::Choked(false);
        stage.download.handle_event(now, peer, unchoked);
        stage.act();
        // Fetched again, from one alone: both are tried, the honest one ends it.
        for _ in 0..10 {
            stage.wait(Duration::from_secs(1));
            stage.answer(5000, |_, body| body[3] ^= u8::from(liar_is_web_seed));
            let asked = std::mem::take(&mut stage.commands);
            for (conn, command) in asked {
                if let Command::Request(range) = command {
                    let event = block(range, !liar_is_web_seed);
                    stage.download.handle_event(stage.now, conn, event);
                    stage.act();
                }
            }
            stage.verify();
        }
        let named = match liar_is_web_seed {
            true => (vec!["http://w.example/".to_owned()], 0),
            false => (vec![], 1),
        };
        assert_eq!((stage.banned.clone(), stage.banned_peers.len()), named);
        assert!(stage.download.is_complete(), "{liar_is_web_seed}");
    }
}

#[test]
fn a_file_that_is_not_there_is_only_that_file() {
    let mut stage = Stage::new(&[100_000; 12]);
    stage.seed(1, "http://w.example/");
    for _ in 0..100 {
        let Some(fetch) = stage.open.first() else {
            break;
        };
        match fetch.url.ends_with("f%203") || fetch.url.ends_with("f%205") {
            true => stage.fail(WebFailure::NoFile(404)),
            false => {
                stage.answer(1 << 20, |_, _| {});
            }
        }
        stage.verify();
    }
    assert!(stage.banned.is_empty());
    assert_eq!(stage.download.have().count(), 40, "4 pieces a file");
    let requests = stage.made.len();
    stage.wait(Duration::from_secs(30));
    assert_eq!(stage.made.len(), requests, "asked for the same file again");
    stage.seed(2, "http://mirror.example/");
    stage.run();
    assert!(stage.download.is_complete());
    let of_mirror = stage.made.iter().filter(|f| f.seed == ConnectionId(2));
    assert!(
        of_mirror.clone().count() > 0 && of_mirror.map(|f| f.range.len()).sum::<u64>() == 200_000
    );
}

#[test]
fn a_failing_web_seed_is_left_alone_for_a_while_and_its_blocks_go_to_others() {
    let mut stage = Stage::new(&[1 << 20]);
    stage.seed(1, "http://w.example/");
    stage.fail(WebFailure::Busy {
        status: 503,
        retry_after: Some(Duration::from_secs(60)),
    });
    assert!(stage.open.is_empty());
    stage.wait(Duration::from_secs(59));
    assert!(stage.open.is_empty(), "asked before Retry-After");
    stage.wait(Duration::from_secs(20));
    assert_eq!(stage.open.len(), 1);
    // It fails in the middle of a block: another goes on.
    let fetch = stage.open[0].clone();
    let part = stage.body(&fetch)[..20_000].to_vec();
    stage
        .download
        .web_bytes(stage.now, fetch.seed, fetch.request, part.into());
    stage.fail(WebFailure::Lost);
    stage.seed(2, "http://mirror.example/");
    stage.run();
    assert!(stage.download.is_complete());
    let again = stage.download.stats().downloaded - (1 << 20);
    assert_eq!(again, 20_000 - 16_384, "only the broken block comes twice");
}

#[test]
fn t6_a_web_seed_that_trickles_or_falls_silent_is_left() {
    for trickle in [0, 100] {
        let mut stage = Stage::new(&[1 << 20]);
        stage.seed(1, "http://w.example/");
        let fetch = stage.open[0].clone();
        for _ in 0..40 {
            if trickle > 0 {
                let bytes = Bytes::from(vec![0; trickle]);
                stage
                    .download
                    .web_bytes(stage.now, fetch.seed, fetch.request, bytes);
            }
            stage.wait(Duration::from_secs(1));
        }
        assert_eq!(stage.stopped, 1, "{trickle} bytes a second");
    }
}

#[test]
fn what_comes_from_elsewhere_is_asked_for_no_more() {
    let mut stage = Stage::new(&[64 * PIECE as usize]);
    stage.seed(1, "http://w.example/");
    for _ in 0..3 {
        stage.answer(1 << 20, |_, _| {});
        stage.verify();
    }
    let pieces: Vec<_> = stage.meta.geometry().pieces().collect();
    for piece in pieces {
        stage.download.piece_verified(stage.now, piece);
    }
    stage.wait(Duration::from_secs(1));
    assert!(stage.open.is_empty(), "{:?}", stage.open);
}

#[test]
fn a_reader_is_served_first() {
    let mut stage = Stage::new(&[400 * PIECE as usize]);
    stage.seed(1, "http://w.example/");
    stage.answer(1 << 20, |_, _| {});
    let piece = stage
        .meta
        .geometry()
        .pieces()
        .rev()
        .find(|piece| stage.download.picker.is_startable(*piece))
        .unwrap();
    let soon = stage.now + Duration::from_secs(1);
    stage.download.set_deadline(stage.now, piece, soon);
    stage.act();
    let before = stage.made.len();
    stage.answer(1 << 20, |_, _| {});
    let urgent = stage.made[before].range.start;
    assert_eq!(urgent, u64::from(piece.get()) * u64::from(PIECE));
}
