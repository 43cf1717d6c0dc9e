use super::*;
use crate::bitfield::Bitfield;

#[test]
fn in_a_crowd_with_a_seed_the_web_seed_is_left_alone_until_the_swarm_stands_still() {
    let mut stage = Stage::new(&[400 * PIECE as usize]);
    stage.peer(5, PieceSet::All);
    stage.peer(6, PieceSet::None);
    stage.seed(1, "http://w.example/");
    stage.wait(Duration::from_secs(4));
    assert!(stage.open.is_empty(), "the swarm had no time to serve");
    stage.wait(Duration::from_secs(3));
    assert!(!stage.open.is_empty(), "the swarm stands still");
}

#[test]
fn a_run_under_way_ends_with_its_piece_when_a_crowd_comes() {
    let mut stage = Stage::new(&[400 * PIECE as usize]);
    stage.seed(1, "http://w.example/");
    for _ in 0..4 {
        stage.answer(1 << 20, |_, _| {});
        stage.verify();
    }
    assert!(stage.open.iter().any(|f| f.range.len() > u64::from(PIECE)));
    let fetch = stage.open[0].clone();
    let some = stage.body(&fetch)[..100].to_vec();
    stage
        .download
        .web_bytes(stage.now, fetch.seed, fetch.request, some.into());
    stage.peer(5, PieceSet::All);
    stage.peer(6, PieceSet::None);
    stage.wait(Duration::from_secs(1));
    assert_eq!(stage.open.len(), 1, "only what had begun goes on");
    let rest = stage.body(&fetch)[100..].to_vec();
    stage
        .download
        .web_bytes(stage.now, fetch.seed, fetch.request, rest.into());
    stage.act();
    assert!(stage.open.is_empty(), "it goes on past its piece");
}

#[test]
fn leeches_share_a_web_seed_without_asking_twice() {
    let lens = [256 * PIECE as usize];
    let mut asked: HashMap<u64, usize> = HashMap::new();
    let ids = [5_u64, 6, 7, 8];
    for us in ids {
        let mut stage = Stage::new(&lens);
        stage.download.config.peer_id = Some(PeerId::new([us as u8; 20]));
        for other in ids.iter().filter(|other| **other != us) {
            stage.peer(*other, PieceSet::None);
        }
        stage.seed(1, "http://w.example/");
        stage.run();
        assert!(!stage.download.is_complete());
        for fetch in &stage.made {
            for piece in
                fetch.range.start / u64::from(PIECE)..fetch.range.end.div_ceil(PIECE.into())
            {
                *asked.entry(piece).or_default() += 1;
            }
        }
        assert!(stage.made.len() > 3);
        // Nobody comes for the others' shares: after a while they are taken too.
        let before = stage.made.len();
        stage.wait(Duration::from_secs(2));
        assert_eq!(stage.made.len(), before);
        stage.wait(Duration::from_secs(2));
        assert!(stage.made.len() > before);
    }
    assert_eq!(asked.len(), 256, "together they ask for everything");
    assert!(asked.values().all(|times| *times == 1), "{asked:?}");
}

#[test]
fn what_another_has_is_not_asked_of_a_web_seed() {
    let mut stage = Stage::new(&[64 * PIECE as usize]);
    let mut has = Bitfield::none_of(stage.meta.geometry());
    for piece in stage.meta.geometry().pieces().take(60) {
        has.insert(piece);
    }
    stage.peer(5, PieceSet::Bits(has));
    stage.seed(1, "http://w.example/");
    stage.run();
    let first = stage.made.iter().map(|fetch| fetch.range.start).min();
    assert!(
        first.is_none_or(|first| first >= 60 * u64::from(PIECE)),
        "{first:?}"
    );
}
