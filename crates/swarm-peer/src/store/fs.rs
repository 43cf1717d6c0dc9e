//! Pieces in files, read and written at offsets.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, IoSliceMut};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rustix::io::{ReadWriteFlags, preadv2};

use swarm_proto::geometry::{ByteRange, PieceIndex};
use swarm_proto::metainfo::Metainfo;
use swarm_proto::verify::VerifiedBytes;

use super::attributes::{Attributes, Chosen, make_runnable};
use super::durable::{sync_dir, up_from};
use super::layout::Layout;
use super::open_files::{Opened, StoreFiles};
use super::{PieceStore, Stamp, StoreError};

/// Locks for writing, shared by the files of a store.
const TURNS: usize = 16;

/// Bytes given to one write. Longer ones make the page cache allocate large folios, which come
/// from memory that nobody touched lately: in a virtual machine, where such memory is given back to
/// the host, a gigabyte cost 2.2 s of CPU in writes of 256 KiB and more, and 0.3 s in these.
const WRITE_LEN: usize = 64 * 1024;

/// A store whose bytes lie in one or many files.
pub(crate) struct FileStore {
    pub(super) layout: Layout,
    pub(super) paths: Vec<PathBuf>,
    /// Of files that bear the torrent's own names; else empty.
    attributes: Vec<Attributes>,
    /// Files that somebody published, and may go on editing: never written to.
    pub(super) read_only: bool,
    /// What each file was like after our last write to it, or before it was checked. What somebody
    /// else wrote since must go nowhere. `None`: not known, there is nothing of ours in it.
    known: Mutex<Vec<Option<Stamp>>>,
    piece_length: u64,
    lost: Mutex<Lost>,
    open: StoreFiles,
    /// Whose turn it is to write to a file: the file system takes one writer at a time and has the
    /// others spin; and who is in doubt about a stamp waits for the write that it belongs to.
    turns: [Mutex<()>; TURNS],
    dirty: Mutex<Dirty>,
    /// A sync failed: the system may have dropped what was written, and the next sync would not
    /// tell.
    unsound: AtomicBool,
}

/// Files that the next sync is to make durable.
#[derive(Default)]
struct Dirty {
    /// Written to since the last one.
    written: BTreeSet<usize>,
    /// New: their names may be lost, and the directories that lead to them.
    named: BTreeSet<usize>,
}

/// Pieces that turned out not to be there, and were not written since.
#[derive(Default)]
struct Lost {
    pieces: BTreeSet<u64>,
    /// How often some were found out.
    times: u64,
}

impl FileStore {
    /// Files by the torrent's own names below `dir`.
    pub(crate) fn folder(meta: &Metainfo, dir: &Path) -> Self {
        let paths = folder_paths(meta, dir);
        Self {
            attributes: Attributes::of(meta),
            ..Self::new(meta, Layout::by_file(meta), paths)
        }
    }

    /// Files that somebody published, at the paths given; read only.
    ///
    /// # Errors
    /// [`StoreError::PathCount`]: not one path a file.
    pub(crate) fn published(meta: &Metainfo, paths: &[PathBuf]) -> Result<Self, StoreError> {
        let layout = Layout::by_file(meta);
        let files = layout.lengths().len();
        if files != paths.len() {
            let paths = paths.len();
            return Err(StoreError::PathCount { paths, files });
        }
        let mut store = Self::new(meta, layout, paths.to_vec());
        store.read_only = true;
        store.known = Mutex::new(store.stamps());
        Ok(store)
    }

    /// All content in the one file at `path`.
    pub(super) fn single(meta: &Metainfo, path: PathBuf) -> Self {
        Self::new(meta, Layout::one_file(meta), vec![path])
    }

    fn new(meta: &Metainfo, layout: Layout, paths: Vec<PathBuf>) -> Self {
        let files = paths.len();
        Self {
            layout,
            paths,
            attributes: Vec::new(),
            read_only: false,
            known: Mutex::new(vec![None; files]),
            piece_length: meta.geometry().piece_length().into(),
            lost: Mutex::default(),
            open: StoreFiles::of_process(),
            turns: Default::default(),
            dirty: Mutex::default(),
            unsound: AtomicBool::new(false),
        }
    }

    pub(super) fn path(&self, index: usize) -> &Path {
        self.paths
            .get(index)
            .map_or(Path::new(""), PathBuf::as_path)
    }

    pub(super) fn handle(&self, index: usize, write: bool) -> Result<Arc<Opened>, StoreError> {
        let open = || self.open_file(index, write);
        self.open.get(index, write, open, StoreError::fault)
    }

    pub(super) fn turn(&self, index: usize) -> MutexGuard<'_, ()> {
        let [first, ..] = &self.turns;
        let turn = self.turns.get(index % TURNS).unwrap_or(first);
        turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self) -> MutexGuard<'_, Vec<Option<Stamp>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn dirty(&self) -> MutexGuard<'_, Dirty> {
        self.dirty.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lost(&self) -> MutexGuard<'_, Lost> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known_of(&self, index: usize) -> Option<Stamp> {
        self.known().get(index).copied().flatten()
    }

    pub(super) fn note(&self, index: usize, stamp: Option<Stamp>) {
        if let Some(known) = self.known().get_mut(index) {
            *known = stamp;
        }
    }

    fn read_file(&self, index: usize, at: u64, out: &mut [u8]) -> Result<(), StoreError> {
        let failed = |source| StoreError::io("read", self.path(index), source);
        let opened = self.handle(index, false)?;
        opened.file.read_exact_at(out, at).map_err(failed)?;
        // Looked at after the read, so that no change can slip in between.
        if self.is_ours(index, &opened)? {
            return Ok(());
        }
        // A write of ours may be under way, and its stamp not noted yet.
        let _turn = self.turn(index);
        match self.is_ours(index, &opened)? {
            true => Ok(()),
            false => Err(StoreError::Changed(self.path(index).to_owned())),
        }
    }

    /// [`Self::read_file`] of what is open and in memory. Whatever else there is to say is left to
    /// that one, as [`ErrorKind::WouldBlock`].
    fn read_cached(&self, index: usize, at: u64, out: &mut [u8]) -> Result<(), StoreError> {
        let later = || StoreError::io("read", self.path(index), ErrorKind::WouldBlock.into());
        let opened = self.open.at_hand(index).ok_or_else(later)?;
        let mut slices = [IoSliceMut::new(out)];
        let read = preadv2(&opened.file, &mut slices, at, ReadWriteFlags::NOWAIT);
        match read.is_ok_and(|read| read == out.len()) && self.is_ours(index, &opened)? {
            true => Ok(()),
            false => Err(later()),
        }
    }

    /// Whether nobody else wrote to the file.
    fn is_ours(&self, index: usize, opened: &Opened) -> Result<bool, StoreError> {
        let known = self.known_of(index);
        let found = opened.stamp();
        let found = found.map_err(|source| StoreError::io("read", self.path(index), source))?;
        Ok(known.is_none() || known == found)
    }

    /// Writes to a file, and notes what it is like then, unless somebody else was there before.
    fn write_file(&self, index: usize, at: u64, bytes: &[u8]) -> Result<(), StoreError> {
        let failed = |source| StoreError::io("write", self.path(index), source);
        let opened = self.handle(index, true)?;
        let _turn = self.turn(index);
        let stamp = || opened.stamp().map_err(failed);
        let known = self.known_of(index);
        let is_ours = known.is_none() || known == stamp()?;
        let mut at = at;
        for chunk in bytes.chunks(WRITE_LEN) {
            opened.file.write_all_at(chunk, at).map_err(failed)?;
            at += chunk.len() as u64;
        }
        if is_ours {
            self.note(index, stamp()?);
        }
        Ok(())
    }

    fn shorten(&self, index: usize, length: u64) -> Result<(), StoreError> {
        let failed = |source| StoreError::io("shorten", self.path(index), source);
        let opened = self.handle(index, true)?;
        let _turn = self.turn(index);
        let stamp = || opened.stamp().map_err(failed);
        let is_ours = self.is_untouched(index, stamp()?);
        opened.file.set_len(length).map_err(failed)?;
        if is_ours {
            self.note(index, stamp()?);
        }
        Ok(())
    }

    fn read_with(
        &self,
        at: u64,
        out: &mut [u8],
        read: impl Fn(usize, u64, &mut [u8]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let range = ByteRange::new(at, at.saturating_add(out.len() as u64));
        let mut rest = out;
        for part in self.layout.parts(&range) {
            let len = usize::try_from(part.len).unwrap_or(usize::MAX);
            let (bytes, after) = rest.split_at_mut(len.min(rest.len()));
            rest = after;
            match part.file {
                None => bytes.fill(0),
                Some(index) => read(index, part.at, bytes)?,
            }
        }
        Ok(())
    }

    /// [`Self::read_with`], and nothing of what was found to be wrong.
    fn read_sound(
        &self,
        at: u64,
        out: &mut [u8],
        read: impl Fn(usize, u64, &mut [u8]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let end = at.saturating_add(out.len() as u64);
        let pieces = at / self.piece_length..end.div_ceil(self.piece_length);
        let losses = self.lost().times;
        self.read_with(at, out, read)?;
        // Asked after the read: what was read may be what was found to be wrong meanwhile.
        let lost = self.lost();
        match lost.times != losses || lost.pieces.range(pieces).next().is_some() {
            true => Err(StoreError::Missing { start: at, end }),
            false => Ok(()),
        }
    }

    fn open_file(&self, index: usize, write: bool) -> Result<File, StoreError> {
        let path = self.path(index);
        if !write {
            return File::open(path).map_err(|source| StoreError::io("open", path, source));
        }
        if self.read_only {
            return Err(StoreError::ReadOnly);
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        match options.open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            opened => return opened.map_err(|source| StoreError::io("open", path, source)),
        }
        // Held until it is noted: who finds the file may have written to it by then, and the sync
        // of what was written must find its name.
        let mut dirty = self.dirty();
        let opened = match options.create(true).truncate(false).open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                if let Some(parent) = path.parent() {
                    std::fs::create_dir_all(parent)
                        .map_err(|source| StoreError::io("create", parent, source))?;
                }
                options.open(path)
            }
            opened => opened,
        };
        let opened = opened.map_err(|source| StoreError::io("create", path, source))?;
        dirty.named.insert(index);
        Ok(opened)
    }
}

impl FileStore {
    /// Bytes first, then names.
    fn sync_files(&self, dirty: &Dirty) -> Result<(), StoreError> {
        for &index in &dirty.written {
            let failed = |source| StoreError::io("sync", self.path(index), source);
            let opened = self.handle(index, false)?;
            opened.file.sync_data().map_err(failed)?;
        }
        let holders = dirty.named.iter().map(|index| self.path(*index).parent());
        let holders: BTreeSet<&Path> = holders.flatten().collect();
        let mut dirs = BTreeSet::new();
        for holder in holders {
            let found = up_from(holder);
            dirs.extend(found.map_err(|source| StoreError::io("sync", holder, source))?);
        }
        for dir in dirs {
            let opened = self.open.anew(|| File::open(&dir), own);
            sync_dir(opened).map_err(|source| StoreError::io("sync", &dir, source))?;
        }
        Ok(())
    }
}

fn own(error: &std::io::Error) -> Option<&std::io::Error> {
    Some(error)
}

impl PieceStore for FileStore {
    fn piece_length(&self) -> u64 {
        self.piece_length
    }

    fn write(&self, piece: &VerifiedBytes) -> Result<(), StoreError> {
        let start = u64::from(piece.piece().get()) * self.piece_length;
        let mut rest: &[u8] = piece.bytes();
        let range = ByteRange::new(start, start + rest.len() as u64);
        for part in self.layout.parts(&range) {
            let len = usize::try_from(part.len).unwrap_or(usize::MAX);
            let (bytes, after) = rest.split_at(len.min(rest.len()));
            rest = after;
            let Some(index) = part.file else {
                continue;
            };
            self.write_file(index, part.at, bytes)?;
            self.dirty().written.insert(index);
        }
        self.lost().pieces.remove(&u64::from(piece.piece().get()));
        Ok(())
    }

    fn read_into(&self, at: u64, out: &mut [u8]) -> Result<(), StoreError> {
        self.read_sound(at, out, |index, at, out| self.read_file(index, at, out))
    }

    fn read_at_once(&self, at: u64, out: &mut [u8]) -> Option<Result<(), StoreError>> {
        let read = self.read_sound(at, out, |index, at, out| self.read_cached(index, at, out));
        match read {
            Err(StoreError::Io { source, .. }) if source.kind() == ErrorKind::WouldBlock => None,
            read => Some(read),
        }
    }

    fn read_doubted(&self, range: &ByteRange) -> Result<Bytes, StoreError> {
        let len = usize::try_from(range.len()).map_err(|_| StoreError::Missing {
            start: range.start,
            end: range.end,
        })?;
        let mut bytes = vec![0; len];
        self.read_with(range.start, &mut bytes, |index, at, out| {
            // Opened anew: the file that is held open may have lost its name to another.
            let open = || self.open_file(index, false);
            let file = self.open.anew(open, StoreError::fault)?;
            let read = file.read_exact_at(out, at);
            read.map_err(|source| StoreError::io("read", self.path(index), source))
        })?;
        Ok(bytes.into())
    }

    fn is_untouched(&self, file: usize, stamp: Option<Stamp>) -> bool {
        let known = self.known_of(file);
        known.is_none() || known == stamp
    }

    fn lose(&self, pieces: &[PieceIndex]) {
        let mut lost = self.lost();
        lost.times += u64::from(!pieces.is_empty());
        let pieces = pieces.iter().map(|piece| u64::from(piece.get()));
        lost.pieces.extend(pieces);
    }

    fn believe(&self, file: usize, stamp: Option<Stamp>) {
        // It may be another file by now that has the name.
        self.open.forget(file);
        self.note(file, stamp);
    }

    fn unsynced(&self, file: usize) {
        let mut dirty = self.dirty();
        dirty.written.insert(file);
        dirty.named.insert(file);
    }

    fn sync(&self) -> Result<(), StoreError> {
        if self.unsound.load(Ordering::Relaxed) {
            return Err(StoreError::Unsound);
        }
        let taken = std::mem::take(&mut *self.dirty());
        let synced = self.sync_files(&taken);
        synced.inspect_err(|_| self.unsound.store(true, Ordering::Relaxed))
    }

    fn preallocate(&self, ranges: &[ByteRange]) -> Result<bool, StoreError> {
        self.set_aside(ranges)
    }

    fn finish(&self, chosen: Option<&[ByteRange]>) -> Result<(), StoreError> {
        if self.read_only {
            return Ok(());
        }
        let chosen = chosen.map(Chosen::new);
        for (index, &length) in self.layout.lengths().iter().enumerate() {
            let attributes = self.attributes.get(index);
            let left_out = match (&chosen, attributes) {
                (_, Some(file)) if file.symlink => true,
                (Some(chosen), file) => !file.is_some_and(|file| chosen.has(file)),
                (None, _) => false,
            };
            if left_out {
                continue;
            }
            let stamp = Stamp::of(self.path(index));
            match stamp {
                None if length == 0 => drop(self.handle(index, true)?),
                // Left over from an older file of the same name.
                Some(stamp) if stamp.length > length => self.shorten(index, length)?,
                _ => {}
            }
            let is_there = length == 0 || stamp.is_some();
            if is_there && attributes.is_some_and(|file| file.executable) {
                let opened = self.handle(index, false)?;
                if let Err(error) = make_runnable(&opened.file) {
                    // As where the file was there before, and is another user's.
                    let path = self.path(index).display();
                    tracing::warn!(%path, %error, "cannot make it executable");
                }
            }
        }
        Ok(())
    }

    fn stamps(&self) -> Vec<Option<Stamp>> {
        self.paths.iter().map(|path| Stamp::of(path)).collect()
    }

    fn stamps_to_record(&self) -> Vec<Option<Stamp>> {
        self.known().clone()
    }

    fn may_hold(&self, range: &ByteRange, stamps: &[Option<Stamp>]) -> bool {
        self.layout.parts(range).iter().all(|part| match part.file {
            None => true,
            Some(index) => matches!(
                stamps.get(index),
                Some(Some(stamp)) if stamp.length >= part.at.saturating_add(part.len)
            ),
        })
    }

    fn files_of(&self, range: &ByteRange) -> Vec<usize> {
        let parts = self.layout.parts(range);
        parts.iter().filter_map(|part| part.file).collect()
    }
}

/// Where a torrent's files lie below `dir`, pad files left out: `dir/name` for a torrent of a
/// single file, else `dir/name/path`.
pub fn folder_paths(meta: &Metainfo, dir: &Path) -> Vec<PathBuf> {
    let top = dir.join(meta.name());
    let files = meta.files().iter().filter(|entry| !entry.pad);
    files
        .map(|entry| {
            if meta.is_single_file() {
                top.clone()
            } else {
                entry
                    .path
                    .iter()
                    .fold(top.clone(), |path, part| path.join(part))
            }
        })
        .collect()
}
