use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU32};

use swarm_proto::bitfield::Bitfield;
use swarm_proto::metainfo::{FileHasher, MetainfoBuilder};
use swarm_proto::verify::{AssembledPiece, verify};

use super::*;

const PIECE: u32 = 16 * 1024;

/// Three files of a hybrid: one and a half pieces, nothing, and ten bytes; and the whole content
/// with its padding.
fn torrent() -> (Metainfo, Vec<u8>) {
    let files = [
        ("a/long", vec![1; 24 * 1024]),
        ("empty", Vec::new()),
        ("short", vec![2; 10]),
    ];
    let mut builder = MetainfoBuilder::new("name", PIECE);
    for (path, bytes) in &files {
        let mut hasher = FileHasher::new(PIECE);
        hasher.update(bytes);
        let path = path.split('/').map(str::to_owned).collect();
        builder.file(path, hasher.finish());
    }
    let meta = builder.build().unwrap();
    let total = usize::try_from(meta.geometry().total_length()).unwrap();
    let mut content = vec![0; total];
    for entry in meta.files().iter().filter(|entry| !entry.pad) {
        let (_, bytes) = files
            .iter()
            .find(|(path, _)| *path == entry.path.join("/"))
            .unwrap();
        let start = usize::try_from(entry.offset).unwrap();
        content[start..start + bytes.len()].copy_from_slice(bytes);
    }
    (meta, content)
}

fn fill(meta: &Metainfo, store: &dyn PieceStore, content: &[u8]) {
    for piece in meta.geometry().pieces() {
        let range = meta.geometry().piece_range(piece);
        let range = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
        let bytes = Bytes::copy_from_slice(&content[range]);
        let verified = verify(meta, AssembledPiece { piece, bytes }).unwrap();
        store.write(&verified).unwrap();
    }
}

fn checked(meta: &Metainfo, store: &dyn PieceStore, known: Option<&ResumeState>) -> Checked {
    let (done, stop) = (AtomicU32::new(0), AtomicBool::new(false));
    check(meta, store, known, &done, &stop)
}

#[test]
fn every_store_gives_back_what_was_written_padding_included() {
    let (meta, content) = torrent();
    let dir = tempfile::tempdir().unwrap();
    let folder = Storage::Folder {
        dir: dir.path().join("folder"),
    };
    let store = Storage::Store {
        dir: dir.path().join("store"),
    };
    for storage in [folder, store, Storage::Memory] {
        let store = storage.open(&meta).unwrap();
        let whole = ByteRange::new(0, content.len() as u64);
        assert!(store.read(&whole).is_err(), "{storage:?} is empty");
        fill(&meta, &*store, &content);
        store.sync().unwrap();
        store.finish(None).unwrap();
        assert!(store.read(&whole).unwrap() == content, "{storage:?}");
        for (start, end) in [(0, 1), (16_000, 17_000), (24_570, 24_580), (32_760, 32_778)] {
            let part = store.read(&ByteRange::new(start, end)).unwrap();
            let expected = &content[usize::try_from(start).unwrap()..usize::try_from(end).unwrap()];
            assert!(part == expected, "{storage:?} {start}..{end}");
        }
        let past = ByteRange::new(0, content.len() as u64 + 1);
        assert!(storage == Storage::Memory || store.read(&past).is_ok());
    }
    // As other clients lay it out: names, no pad files, empty files made.
    let top = dir.path().join("folder/name");
    assert_eq!(fs::read(top.join("a/long")).unwrap(), vec![1; 24 * 1024]);
    assert_eq!(fs::read(top.join("short")).unwrap(), vec![2; 10]);
    assert_eq!(fs::read(top.join("empty")).unwrap(), b"");
    assert_eq!(fs::read_dir(&top).unwrap().count(), 3);
    // By hash: no name of the torrent's.
    let names: Vec<_> = fs::read_dir(dir.path().join("store"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(names, [hash_name(&meta)]);
}

#[test]
fn a_check_finds_what_is_right_wrong_and_absent() {
    let (meta, content) = torrent();
    let dir = tempfile::tempdir().unwrap();
    let storage = Storage::Folder {
        dir: dir.path().to_owned(),
    };
    let store = storage.open(&meta).unwrap();
    assert_eq!(checked(&meta, &*store, None).have.count(), 0);
    fill(&meta, &*store, &content);
    assert!(checked(&meta, &*store, None).have.is_all());
    let long = dir.path().join("name/a/long");
    let mut bytes = fs::read(&long).unwrap();
    bytes[20_000] ^= 1;
    fs::write(&long, &bytes).unwrap();
    fs::remove_file(dir.path().join("name/short")).unwrap();
    let found = checked(&meta, &*store, None);
    assert_eq!(found.have.iter().collect::<Vec<_>>(), [0]);
    let wrong: Vec<u32> = found.wrong.iter().map(|piece| piece.get()).collect();
    assert_eq!(wrong, [1], "what is absent is not wrong");
}

#[test]
fn a_state_is_believed_only_while_files_are_as_they_were() {
    let (meta, content) = torrent();
    let dir = tempfile::tempdir().unwrap();
    let storage = Storage::Folder {
        dir: dir.path().to_owned(),
    };
    let store = storage.open(&meta).unwrap();
    fill(&meta, &*store, &content);
    let path = storage.state_path(&meta, None).unwrap();
    let state = ResumeState {
        bundle: hash_name(&meta),
        pieces: Bitfield::all(meta.geometry().piece_count()),
        stamps: store.stamps_to_record(),
    };
    state.save(&path).unwrap();
    let pieces = meta.geometry().piece_count();
    let load = || ResumeState::load(&path, &hash_name(&meta), pieces);
    assert_eq!(load(), Some(state.clone()));
    let found = checked(&meta, &*store, Some(&state));
    assert!(found.have.is_all() && found.hashed == 0);
    // The same length, another time of change: hashed again, and found out.
    std::thread::sleep(std::time::Duration::from_millis(20));
    fs::write(dir.path().join("name/short"), [3; 10]).unwrap();
    let found = checked(&meta, &*store, load().as_ref());
    assert_eq!(found.hashed, 1);
    assert_eq!(found.have.count(), pieces - 1);
    // Shorter: not even hashed.
    fs::write(dir.path().join("name/short"), [2; 9]).unwrap();
    let found = checked(&meta, &*store, load().as_ref());
    assert_eq!((found.hashed, found.have.count()), (0, pieces - 1));
    // Damaged at any byte it is nothing or still well-formed, and never a panic.
    let whole = fs::read(&path).unwrap();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        fs::write(&path, &bytes).unwrap();
        let _ = load();
        fs::write(&path, &whole[..at]).unwrap();
        assert_eq!(load(), None, "cut at {at}");
    }
    assert_eq!(ResumeState::load(&path, "another", pieces), None);
}

#[test]
fn a_published_file_that_changed_is_not_served() {
    let (meta, content) = torrent();
    let dir = tempfile::tempdir().unwrap();
    let folder = Storage::Folder {
        dir: dir.path().to_owned(),
    };
    let filled = folder.open(&meta).unwrap();
    fill(&meta, &*filled, &content);
    filled.finish(None).unwrap();
    let paths = folder_paths(&meta, dir.path());
    let published = Storage::Files {
        paths: paths.clone(),
    };
    let store = published.open(&meta).unwrap();
    let whole = ByteRange::new(0, content.len() as u64);
    assert!(store.read(&whole).unwrap() == content);
    let piece = meta.geometry().piece(0).unwrap();
    let bytes = store.read(&meta.geometry().piece_range(piece)).unwrap();
    let verified = verify(&meta, AssembledPiece { piece, bytes }).unwrap();
    assert!(matches!(store.write(&verified), Err(StoreError::ReadOnly)));
    std::thread::sleep(std::time::Duration::from_millis(20));
    let recorded = store.stamps_to_record();
    fs::write(&paths[0], vec![9; 24 * 1024]).unwrap();
    assert!(matches!(store.read(&whole), Err(StoreError::Changed(_))));
    assert_eq!(store.stamps_to_record(), recorded);
    let too_few = Storage::Files {
        paths: paths[1..].to_vec(),
    };
    assert!(matches!(
        too_few.open(&meta),
        Err(StoreError::PathCount { .. })
    ));
}

#[test]
fn what_is_left_of_an_older_longer_file_is_cut_off() {
    let (meta, content) = torrent();
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("name")).unwrap();
    fs::write(dir.path().join("name/short"), [7; 100]).unwrap();
    let storage = Storage::Folder {
        dir: dir.path().to_owned(),
    };
    let store = storage.open(&meta).unwrap();
    fill(&meta, &*store, &content);
    store.finish(None).unwrap();
    assert_eq!(fs::read(dir.path().join("name/short")).unwrap(), [2; 10]);
}

#[test]
fn t4_no_name_of_a_stranger_leads_out_of_the_folder() {
    use std::path::{Component, Path};
    use swarm_proto::bencode::Item;

    let evil: [&[&str]; 7] = [
        &["..", "..", "a"],
        &["../../b"],
        &["/etc/passwd"],
        &["..\\..\\c"],
        &["d", "..", "..", "e"],
        &[".."],
        &[".", "f\0g"],
    ];
    let files = evil.map(|path| {
        Item::dict([
            ("length", Item::int(1)),
            ("path", Item::list(path.iter().map(Item::bytes))),
        ])
    });
    for name in ["..", ".", "/tmp/x", "../..", "good"] {
        let common = [
            ("name", Item::bytes(name)),
            ("piece length", Item::int(PIECE.into())),
            ("pieces", Item::bytes([7; 20])),
        ];
        let many = common.clone().into_iter();
        let many = many.chain([("files", Item::list(files.clone()))]);
        let one = common.into_iter().chain([("length", Item::int(1))]);
        for info in [Item::dict(many), Item::dict(one)] {
            let meta = Metainfo::from_info(&info.to_bytes()).unwrap();
            let dir = Path::new("/srv/dir");
            let folder = FileStore::folder(&meta, dir);
            assert_eq!(folder.paths.len(), meta.files().len());
            for path in &folder.paths {
                let below = path.strip_prefix(dir).unwrap();
                let mut parts = below.components();
                assert!(
                    below != Path::new("")
                        && parts.all(|part| matches!(part, Component::Normal(_))),
                    "{path:?}"
                );
            }
            let dir = tempfile::tempdir().unwrap();
            let stored = hashed(&meta, dir.path()).unwrap();
            let home = dir.path().join(hash_name(&meta));
            assert_eq!(stored.paths, [home.join("data")]);
        }
    }
}

/// A store whose disk is broken in one place.
struct Broken {
    inner: std::sync::Arc<dyn PieceStore>,
    at: ByteRange,
}

impl Broken {
    fn error() -> StoreError {
        let source = std::io::Error::from_raw_os_error(5);
        StoreError::io("read", std::path::Path::new("data"), source)
    }
}

impl PieceStore for Broken {
    fn piece_length(&self) -> u64 {
        self.inner.piece_length()
    }

    fn write(&self, piece: &VerifiedBytes) -> Result<(), StoreError> {
        self.inner.write(piece)
    }

    fn read_into(&self, at: u64, out: &mut [u8]) -> Result<(), StoreError> {
        let end = at + out.len() as u64;
        if at < self.at.end && self.at.start < end {
            return Err(Self::error());
        }
        self.inner.read_into(at, out)
    }

    fn sync(&self) -> Result<(), StoreError> {
        Err(Self::error())
    }

    fn finish(&self, chosen: Option<&[ByteRange]>) -> Result<(), StoreError> {
        self.inner.finish(chosen)
    }

    fn stamps(&self) -> Vec<Option<Stamp>> {
        self.inner.stamps()
    }

    fn may_hold(&self, range: &ByteRange, stamps: &[Option<Stamp>]) -> bool {
        self.inner.may_hold(range, stamps)
    }

    fn files_of(&self, range: &ByteRange) -> Vec<usize> {
        self.inner.files_of(range)
    }
}

#[test]
fn f5_a_piece_that_cannot_be_read_counts_as_missing() {
    let (meta, content) = torrent();
    let dir = tempfile::tempdir().unwrap();
    let storage = Storage::Folder {
        dir: dir.path().to_owned(),
    };
    let inner = storage.open(&meta).unwrap();
    fill(&meta, &*inner, &content);
    let at = ByteRange::new(20_000, 20_001);
    let broken = Broken { inner, at };
    let all = Bitfield::all(meta.geometry().piece_count());
    let pieces: Vec<_> = meta.geometry().pieces().collect();
    assert_eq!(recheck(&meta, &broken, &pieces, &all), [pieces[1]]);
    let found = checked(&meta, &broken, None);
    assert_eq!(found.have.count(), meta.geometry().piece_count() - 1);
    assert!(!found.have.contains(pieces[1]));
}

#[test]
fn f6_all_of_a_file_that_somebody_wrote_to_is_looked_at_again() {
    let (meta, content) = torrent();
    let dir = tempfile::tempdir().unwrap();
    let storage = Storage::Folder {
        dir: dir.path().to_owned(),
    };
    let store = storage.open(&meta).unwrap();
    fill(&meta, &*store, &content);
    store.finish(None).unwrap();
    let whole = ByteRange::new(0, content.len() as u64);
    let all = Bitfield::all(meta.geometry().piece_count());
    let first = meta.geometry().piece(0).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(20));
    // Only touched: what is there is right, and served again once that is known.
    let long = dir.path().join("name/a/long");
    fs::write(&long, [1; 24 * 1024]).unwrap();
    assert!(matches!(store.read(&whole), Err(StoreError::Changed(_))));
    assert_eq!(recheck(&meta, &*store, &[first], &all), []);
    assert!(store.read(&whole).unwrap() == content);
    // Changed in its second piece: doubts about the first find that out, and until it is fetched
    // anew nobody reads it.
    std::thread::sleep(std::time::Duration::from_millis(20));
    let mut bytes = vec![1; 24 * 1024];
    bytes[20_000] = 0;
    fs::write(&long, &bytes).unwrap();
    let lost = recheck(&meta, &*store, &[first], &all);
    assert_eq!(lost.iter().map(|p| p.get()).collect::<Vec<_>>(), [1]);
    // Written to by us after somebody else did: still not ours.
    std::thread::sleep(std::time::Duration::from_millis(20));
    bytes[3] = 0;
    fs::write(&long, &bytes).unwrap();
    let range = meta.geometry().piece_range(lost[0]);
    let start = usize::try_from(range.start).unwrap();
    let bytes = Bytes::copy_from_slice(&content[start..start + PIECE as usize]);
    let piece = lost[0];
    let verified = verify(&meta, AssembledPiece { piece, bytes }).unwrap();
    store.write(&verified).unwrap();
    assert!(matches!(store.read(&whole), Err(StoreError::Changed(_))));
    assert_eq!(recheck(&meta, &*store, &[first], &all), [first]);
}

#[test]
fn f6_what_is_read_without_waiting_is_right_or_left_to_who_may_wait() {
    let (meta, content) = torrent();
    let dir = tempfile::tempdir().unwrap();
    let memory = Storage::Memory.open(&meta).unwrap();
    let storage = Storage::Store {
        dir: dir.path().to_owned(),
    };
    let files = storage.open(&meta).unwrap();
    let mut out = vec![0; content.len()];
    assert!(files.read_at_once(0, &mut out).is_none(), "nothing is open");
    for store in [&memory, &files] {
        fill(&meta, &**store, &content);
        out.fill(9);
        // Some file systems cannot tell what they have in memory.
        let read = store.read_at_once(0, &mut out);
        assert!(read.is_none() || out == content);
        assert!(read.is_none_or(|read| read.is_ok()));
        store.lose(&[meta.geometry().piece(1).unwrap()]);
    }
    assert!(matches!(memory.read_at_once(0, &mut out), Some(Ok(()))));
    assert!(!matches!(files.read_at_once(0, &mut out), Some(Ok(()))));
    std::thread::sleep(std::time::Duration::from_millis(20));
    fill(&meta, &*files, &content);
    let data = dir.path().join(hash_name(&meta)).join("data");
    fs::write(&data, &content).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(20));
    fs::write(&data, vec![7; content.len()]).unwrap();
    let read = files.read_at_once(0, &mut out);
    assert!(read.is_none(), "somebody else wrote to it");
    let whole = ByteRange::new(0, content.len() as u64);
    assert!(matches!(files.read(&whole), Err(StoreError::Changed(_))));
}

#[test]
fn f5_no_sync_succeeds_after_one_that_failed() {
    let (meta, content) = torrent();
    let dir = tempfile::tempdir().unwrap();
    let top = dir.path().join("name");
    fs::create_dir(&top).unwrap();
    // Takes what is written, and cannot sync.
    let short = top.join("short");
    std::os::unix::fs::symlink("/dev/null", &short).unwrap();
    let store = FileStore::folder(&meta, dir.path());
    fill(&meta, &store, &content);
    let failed = store.sync().unwrap_err();
    assert!(
        matches!(failed, StoreError::Io { doing: "sync", .. }),
        "{failed}"
    );
    // A file that can be synced.
    fs::remove_file(&short).unwrap();
    fs::write(&short, [2; 10]).unwrap();
    for file in 0..store.paths.len() {
        store.believe(file, None);
    }
    fill(&meta, &store, &content);
    assert!(matches!(store.sync(), Err(StoreError::Unsound)));
    // Who opens it anew hashes it anew, and may sync.
    let anew = FileStore::folder(&meta, dir.path());
    assert!(checked(&meta, &anew, None).have.is_all());
    fill(&meta, &anew, &content);
    anew.sync().unwrap();
}
