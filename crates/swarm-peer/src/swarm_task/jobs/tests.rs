//! What is recorded of a store whose disk fails to sync, and when a bundle is whole.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use swarm_proto::bitfield::Bitfield;
use swarm_proto::geometry::ByteRange;
use swarm_proto::metainfo::{FileHasher, MetainfoBuilder};
use swarm_proto::verify::AssembledPiece;

use super::*;
use crate::node::{AddBundle, Node};
use crate::store::{FileStore, Stamp, check};
use crate::swarm::Shared;
use crate::{NodeConfig, Storage};

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

    fn finish(&self, chosen: Option<&[ByteRange]>) -> Result<(), StoreError> {
        self.files.finish(chosen)
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
            settled: false,
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

/// A piece may be found wrong while the last things are done to the files of a whole bundle.
#[tokio::test]
async fn a_bundle_that_lost_a_piece_while_it_was_finished_is_not_called_whole() {
    let mut hasher = FileHasher::new(16 * 1024);
    hasher.update(&[7; 40_000]);
    let mut builder = MetainfoBuilder::new("name", 16 * 1024);
    builder.file(vec!["a".into()], hasher.finish());
    let meta = Arc::new(builder.build().unwrap());
    let config = NodeConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        ..NodeConfig::default()
    };
    let node = Node::start(config, Default::default()).await.unwrap();
    let source = swarm_proto::download::Source::Metainfo(Arc::clone(&meta));
    let all = Bitfield::all(meta.geometry().piece_count());
    let mut download = Download::new(source, all, Default::default(), 1);
    let bundle = AddBundle::new(Source::Metainfo(Arc::clone(&meta)), Storage::Memory);
    let ids = bundle.source.swarm_ids();
    let (shared, messages) = Shared::new("name".into(), ids, None, Default::default());
    let mut task = SwarmTask::new(node, Arc::clone(&shared), bundle, messages);
    download.piece_lost(Instant::now(), meta.geometry().piece(1).unwrap());
    task.done(&mut download, Done::Finished(Ok(()))).unwrap();
    assert_ne!(*shared.state.borrow(), SwarmState::Seeding);
    assert!(!shared.stats.lock().unwrap().complete);
    download.piece_verified(Instant::now(), meta.geometry().piece(1).unwrap());
    task.done(&mut download, Done::Finished(Ok(()))).unwrap();
    assert_eq!(*shared.state.borrow(), SwarmState::Seeding);
}
