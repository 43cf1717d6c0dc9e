//! What is recorded of a store whose disk fails to sync.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use swarm_proto::bitfield::Bitfield;
use swarm_proto::geometry::ByteRange;
use swarm_proto::metainfo::{FileHasher, MetainfoBuilder};
use swarm_proto::verify::AssembledPiece;

use super::*;
use crate::store::{FileStore, Stamp, check};

/// Files whose first sync fails, and no other: the system tells once.
struct FailsOnce {
    files: FileStore,
    failed: AtomicBool,
}

impl PieceStore for FailsOnce {
    fn piece_length(&self) -> u64 {
        self.files.piece_length()
    }

    fn write(&self, piece: &VerifiedBytes) -> Result<(), StoreError> {
        self.files.write(piece)
    }

    fn read_into(&self, at: u64, out: &mut [u8]) -> Result<(), StoreError> {
        self.files.read_into(at, out)
    }

    fn sync(&self) -> Result<(), StoreError> {
        if !self.failed.swap(true, Ordering::Relaxed) {
            let error = std::io::Error::other("I/O error");
            return Err(StoreError::io("sync", Path::new("a"), error));
        }
        self.files.sync()
    }

    fn finish(&self) -> Result<(), StoreError> {
        self.files.finish()
    }

    fn stamps(&self) -> Vec<Option<Stamp>> {
        self.files.stamps()
    }

    fn may_hold(&self, range: &ByteRange, stamps: &[Option<Stamp>]) -> bool {
        self.files.may_hold(range, stamps)
    }

    fn files_of(&self, range: &ByteRange) -> Vec<usize> {
        self.files.files_of(range)
    }
}

#[test]
fn f5_what_a_failed_sync_left_open_is_hashed_again_though_the_next_sync_succeeds() {
    const PIECE: u32 = 16 * 1024;
    let bytes = vec![7; 3 * PIECE as usize];
    let mut hasher = FileHasher::new(PIECE);
    hasher.update(&bytes);
    let mut builder = MetainfoBuilder::new("name", PIECE);
    builder.file(vec!["a".into()], hasher.finish());
    let meta = Arc::new(builder.build().unwrap());
    let pieces = meta.geometry().piece_count();
    // The second time the disk is sound, and the save shows what the first one lacked.
    for sound in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(FailsOnce {
            files: FileStore::folder(&meta, dir.path()),
            failed: AtomicBool::new(sound),
        });
        for piece in meta.geometry().pieces() {
            let range = meta.geometry().piece_range(piece);
            let part = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
            let bytes = bytes::Bytes::copy_from_slice(&bytes[part]);
            let verified = verify(&meta, AssembledPiece { piece, bytes }).unwrap();
            store.write(&verified).unwrap();
        }
        let path = dir.path().join("state");
        let mut content = Content {
            meta: Arc::clone(&meta),
            store,
            state_path: Some(path.clone()),
            unsaved: true,
            saving: true,
            save_at: Instant::now(),
            finished: false,
            doubted: BTreeSet::new(),
            doubting: false,
        };
        for _ in 0..3 {
            if let Some(save) = saving(&content, Bitfield::all(pieces)) {
                content.saved(&save());
            }
        }
        let (done, stop) = (AtomicU32::new(0), AtomicBool::new(false));
        let known = ResumeState::load(&path, &hash_name(&meta), pieces);
        assert_eq!(known.is_some(), sound);
        let found = check(&meta, &*content.store, known.as_ref(), &done, &stop);
        assert!(found.have.is_all());
        assert_eq!(found.hashed, if sound { 0 } else { pieces });
    }
}
