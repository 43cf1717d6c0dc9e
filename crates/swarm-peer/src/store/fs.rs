//! Pieces in files, read and written at offsets.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use swarm_proto::geometry::ByteRange;
use swarm_proto::metainfo::Metainfo;
use swarm_proto::verify::VerifiedBytes;

use super::layout::Layout;
use super::{PieceStore, Stamp, StoreError};

/// Files that one store keeps open. A host holds hundreds of bundles, so this is small; sequential
/// access needs one.
const OPEN_FILES_MAX: usize = 16;

/// Bytes given to one write. Longer ones make the page cache allocate large folios, which come
/// from memory that nobody touched lately: in a virtual machine, where such memory is given back to
/// the host, a gigabyte cost 2.2 s of CPU in writes of 256 KiB and more, and 0.3 s in these.
const WRITE_LEN: usize = 64 * 1024;

/// A store whose bytes lie in one or many files.
pub struct FileStore {
    layout: Layout,
    paths: Vec<PathBuf>,
    /// Of a read-only store: what its files were like when it was opened, before they were checked.
    /// Whoever published them goes on editing, and bytes that changed must go nowhere.
    read_only: Option<Vec<Option<Stamp>>>,
    piece_length: u64,
    open: Mutex<Handles>,
    /// Files written to since the last sync.
    dirty: Mutex<BTreeSet<usize>>,
}

#[derive(Default)]
struct Handles {
    by_index: BTreeMap<usize, Handle>,
    clock: u64,
}

struct Handle {
    file: Arc<Opened>,
    writable: bool,
    used: u64,
}

/// A file, and whose turn it is to write to it: the file system takes one writer at a time and has
/// the others spin.
struct Opened {
    file: File,
    writing: Mutex<()>,
}

impl Opened {
    fn write(&self, bytes: &[u8], mut at: u64) -> io::Result<()> {
        let _turn = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        for chunk in bytes.chunks(WRITE_LEN) {
            self.file.write_all_at(chunk, at)?;
            at += chunk.len() as u64;
        }
        Ok(())
    }
}

impl FileStore {
    /// Files by the torrent's own names below `dir`.
    pub fn folder(meta: &Metainfo, dir: &Path) -> Self {
        let paths = folder_paths(meta, dir);
        Self::new(meta, Layout::by_file(meta), paths)
    }

    /// Files that somebody published, at the paths given; read only.
    ///
    /// # Errors
    /// [`StoreError::PathCount`]: not one path a file.
    pub fn published(meta: &Metainfo, paths: &[PathBuf]) -> Result<Self, StoreError> {
        let layout = Layout::by_file(meta);
        let files = layout.lengths().len();
        if files != paths.len() {
            let paths = paths.len();
            return Err(StoreError::PathCount { paths, files });
        }
        let mut store = Self::new(meta, layout, paths.to_vec());
        store.read_only = Some(store.stamps());
        Ok(store)
    }

    /// All content in the one file at `path`.
    pub(super) fn single(meta: &Metainfo, path: PathBuf) -> Self {
        Self::new(meta, Layout::one_file(meta), vec![path])
    }

    fn new(meta: &Metainfo, layout: Layout, paths: Vec<PathBuf>) -> Self {
        Self {
            layout,
            paths,
            read_only: None,
            piece_length: meta.geometry().piece_length().into(),
            open: Mutex::default(),
            dirty: Mutex::default(),
        }
    }

    /// The files, pad files left out.
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    fn path(&self, index: usize) -> &Path {
        self.paths
            .get(index)
            .map_or(Path::new(""), PathBuf::as_path)
    }

    fn handle(&self, index: usize, write: bool) -> Result<Arc<Opened>, StoreError> {
        let mut handles = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        handles.clock += 1;
        let used = handles.clock;
        if let Some(handle) = handles.by_index.get_mut(&index)
            && (handle.writable || !write)
        {
            handle.used = used;
            return Ok(Arc::clone(&handle.file));
        }
        let file = Arc::new(Opened {
            file: self.open_file(index, write)?,
            writing: Mutex::default(),
        });
        if handles.by_index.len() >= OPEN_FILES_MAX {
            let oldest = handles.by_index.iter().min_by_key(|(_, h)| h.used);
            if let Some((&oldest, _)) = oldest {
                handles.by_index.remove(&oldest);
            }
        }
        let handle = Handle {
            file: Arc::clone(&file),
            writable: write,
            used,
        };
        handles.by_index.insert(index, handle);
        Ok(file)
    }

    fn read_file(&self, index: usize, at: u64, out: &mut [u8]) -> Result<(), StoreError> {
        let failed = |source| StoreError::io("read", self.path(index), source);
        let opened = self.handle(index, false)?;
        let file = &opened.file;
        file.read_exact_at(out, at).map_err(failed)?;
        if let Some(stamps) = &self.read_only {
            // Looked at after the read, so that no change can slip in between.
            let found = Stamp::of_metadata(&file.metadata().map_err(failed)?);
            if stamps.get(index) != Some(&found) {
                return Err(StoreError::Changed(self.path(index).to_owned()));
            }
        }
        Ok(())
    }

    fn open_file(&self, index: usize, write: bool) -> Result<File, StoreError> {
        let path = self.path(index);
        if !write {
            return File::open(path).map_err(|source| StoreError::io("open", path, source));
        }
        if self.read_only.is_some() {
            return Err(StoreError::ReadOnly);
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let opened = match options.open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                if let Some(parent) = path.parent() {
                    std::fs::create_dir_all(parent)
                        .map_err(|source| StoreError::io("create", parent, source))?;
                }
                options.open(path)
            }
            opened => opened,
        };
        opened.map_err(|source| StoreError::io("create", path, source))
    }
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
            let file = self.handle(index, true)?;
            file.write(bytes, part.at)
                .map_err(|source| StoreError::io("write", self.path(index), source))?;
            let mut dirty = self.dirty.lock().unwrap_or_else(PoisonError::into_inner);
            dirty.insert(index);
        }
        Ok(())
    }

    fn read_into(&self, at: u64, out: &mut [u8]) -> Result<(), StoreError> {
        let range = ByteRange::new(at, at.saturating_add(out.len() as u64));
        let mut rest = out;
        for part in self.layout.parts(&range) {
            let len = usize::try_from(part.len).unwrap_or(usize::MAX);
            let (bytes, after) = rest.split_at_mut(len.min(rest.len()));
            rest = after;
            match part.file {
                None => bytes.fill(0),
                Some(index) => self.read_file(index, part.at, bytes)?,
            }
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), StoreError> {
        let taken = {
            let mut dirty = self.dirty.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *dirty)
        };
        let mut result = Ok(());
        for &index in &taken {
            let synced = self.handle(index, true).and_then(|opened| {
                opened
                    .file
                    .sync_data()
                    .map_err(|source| StoreError::io("sync", self.path(index), source))
            });
            if let Err(error) = synced {
                result = Err(error);
                break;
            }
        }
        if result.is_err() {
            let mut dirty = self.dirty.lock().unwrap_or_else(PoisonError::into_inner);
            dirty.extend(taken);
        }
        result
    }

    fn finish(&self) -> Result<(), StoreError> {
        if self.read_only.is_some() {
            return Ok(());
        }
        let mut stamps = self.stamps().into_iter();
        for (index, &length) in self.layout.lengths().iter().enumerate() {
            match stamps.next().flatten() {
                None if length == 0 => drop(self.handle(index, true)?),
                // Left over from an older file of the same name.
                Some(stamp) if stamp.length > length => self
                    .handle(index, true)?
                    .file
                    .set_len(length)
                    .map_err(|source| StoreError::io("shorten", self.path(index), source))?,
                _ => {}
            }
        }
        Ok(())
    }

    fn stamps(&self) -> Vec<Option<Stamp>> {
        self.paths.iter().map(|path| Stamp::of(path)).collect()
    }

    fn stamps_to_record(&self) -> Vec<Option<Stamp>> {
        self.read_only.clone().unwrap_or_else(|| self.stamps())
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
