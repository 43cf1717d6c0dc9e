use swarm_proto::geometry::BLOCK_LEN;
use swarm_proto::merkle;
use swarm_proto::metainfo::{FileHasher, Metainfo, MetainfoBuilder};
use swarm_proto::verify::{PieceLeaves, verify_block};

use super::*;

const PIECE: u32 = 4 * BLOCK_LEN;
const BLOCK: u64 = BLOCK_LEN as u64;

struct Content {
    meta: Metainfo,
    bytes: Vec<u8>,
}

fn content(len: u32) -> Content {
    let bytes: Vec<u8> = (0..len).map(|at| (at / 7) as u8).collect();
    let mut hasher = FileHasher::new(PIECE);
    hasher.update(&bytes);
    let mut builder = MetainfoBuilder::new("one", PIECE);
    builder.file(vec!["one".to_owned()], hasher.finish());
    let meta = builder.build().unwrap();
    Content { meta, bytes }
}

impl Content {
    fn block(&self, nth: u64) -> VerifiedBlock {
        let geometry = self.meta.geometry();
        let piece = geometry.piece_at(nth * BLOCK).unwrap();
        let place = geometry.piece_range(piece);
        let data = &self.bytes[place.start as usize..place.end as usize];
        let leaves = PieceLeaves::prove(&self.meta, piece, &merkle::leaves(data)).unwrap();
        let begin = u32::try_from(nth * BLOCK - place.start).unwrap();
        let range = geometry.block(piece.get(), begin, BLOCK_LEN).unwrap();
        let bytes = &data[begin as usize..][..BLOCK_LEN as usize];
        verify_block(&leaves, range, Bytes::copy_from_slice(bytes)).unwrap()
    }

    fn keep(&self, readers: &mut Readers, nth: u64) -> bool {
        readers.keep(self.meta.geometry(), &self.block(nth))
    }
}

fn bytes(from: u64, to: u64) -> ByteRange {
    ByteRange::new(from, to)
}

#[test]
fn blocks_side_by_side_are_read_as_one_and_a_gap_ends_them() {
    let content = content(4 * PIECE);
    let mut readers = Readers::default();
    let end = u64::from(4 * PIECE);
    readers.opened(bytes(2 * BLOCK + 5, end), true);
    assert_eq!(readers.read(&bytes(2 * BLOCK + 5, end)), None);
    for nth in [2, 3, 4, 6] {
        assert!(content.keep(&mut readers, nth), "block {nth}");
    }
    assert!(!content.keep(&mut readers, 4), "twice");
    let got = readers.read(&bytes(2 * BLOCK + 5, end)).unwrap();
    assert!(got == content.bytes[2 * BLOCK as usize + 5..5 * BLOCK as usize]);
    let few = readers.read(&bytes(3 * BLOCK - 1, 3 * BLOCK + 1)).unwrap();
    assert!(few == content.bytes[3 * BLOCK as usize - 1..3 * BLOCK as usize + 1]);
    assert_eq!(readers.read(&bytes(5 * BLOCK, end)), None);
    let begun: Vec<_> = readers.begun().iter().map(|piece| piece.get()).collect();
    assert_eq!(begun, [0, 1]);
}

#[test]
fn block_is_kept_only_as_long_as_a_reader_waits_and_its_piece_is_not_stored() {
    let content = content(4 * PIECE);
    let mut readers = Readers::default();
    // One that wants bytes stored and reads none has no use for blocks.
    readers.opened(bytes(0, u64::from(4 * PIECE)), false);
    assert!(!content.keep(&mut readers, 0));
    let id = readers.opened(bytes(BLOCK, 3 * BLOCK), true);
    assert!(!content.keep(&mut readers, 0), "behind the reader");
    assert!(!content.keep(&mut readers, 4), "another piece");
    assert!(content.keep(&mut readers, 1));
    assert!(content.keep(&mut readers, 3), "the reader will come there");
    assert_eq!(readers.kept_bytes, 2 * BLOCK);
    readers.moved(id, bytes(2 * BLOCK, 5 * BLOCK));
    assert_eq!(readers.kept_bytes, BLOCK);
    assert!(content.keep(&mut readers, 4));
    let first = content.meta.geometry().piece(0).unwrap();
    readers.stored(first);
    assert_eq!((readers.kept_bytes, readers.kept.len()), (BLOCK, 1));
    readers.closed(id);
    assert_eq!((readers.kept_bytes, readers.kept.len()), (0, 0));
}

#[test]
fn kept_blocks_have_a_bound() {
    let most = KEPT_BYTES_MAX / BLOCK;
    let content = content((KEPT_BYTES_MAX as u32) + PIECE);
    let mut readers = Readers::default();
    readers.opened(bytes(0, u64::from(u32::MAX)), true);
    let kept = (0..most + 4).filter(|nth| content.keep(&mut readers, *nth));
    assert_eq!(kept.count() as u64, most);
    assert_eq!(readers.kept_bytes, KEPT_BYTES_MAX);
}

#[test]
fn what_a_reader_comes_to_want_is_news_once() {
    let mut readers = Readers::default();
    readers.opened(bytes(0, 1000), false);
    assert_eq!(readers.news(), [], "it reads none");
    let id = readers.opened(bytes(10, 20), true);
    assert_eq!(readers.news(), [bytes(10, 20)]);
    assert_eq!(readers.news(), []);
    readers.moved(id, bytes(15, 40));
    readers.opened(bytes(12, 18), true);
    assert_eq!(readers.news(), [bytes(20, 40), bytes(12, 18)]);
    readers.moved(id, bytes(100, 120));
    assert_eq!(readers.news(), [bytes(100, 120)]);
    readers.moved(id, bytes(90, 110));
    assert_eq!(readers.news(), [bytes(90, 110)]);
    readers.moved(id, bytes(95, 95));
    assert_eq!(readers.news(), []);
}
