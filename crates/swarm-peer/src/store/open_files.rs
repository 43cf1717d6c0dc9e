//! Files kept open, the least recently used given up first: one cache for all stores of a process,
//! whose size follows the system's limit on open files.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Stamp;
use crate::descriptors;

/// How often a file is tried again that no descriptor was left for, and the pause between: what
/// holds them, reads of other files and short connections, is done soon.
const TRIES_MAX: u32 = 50;
const PAUSE: Duration = Duration::from_millis(20);

/// The files of all stores of this process.
static PROCESS: LazyLock<Arc<OpenFiles>> =
    LazyLock::new(|| Arc::new(OpenFiles::new(descriptors::files)));

/// A store, and which of its files.
type Key = (u64, usize);

/// A file kept open.
pub(super) struct Opened {
    pub(super) file: File,
}

impl Opened {
    /// What the file is like; `None` if nothing has its name any more.
    pub(super) fn stamp(&self) -> io::Result<Option<Stamp>> {
        let found = self.file.metadata()?;
        Ok(Stamp::of_metadata(&found).filter(|_| found.nlink() > 0))
    }
}

/// A cache of open files.
pub(super) struct OpenFiles {
    /// How many may be open; asked whenever one is opened.
    max: fn() -> usize,
    next_store: AtomicU64,
    cache: Mutex<Cache>,
}

#[derive(Default)]
struct Cache {
    by_key: BTreeMap<Key, Handle>,
    /// The keys by when they were used last.
    by_use: BTreeMap<u64, Key>,
    clock: u64,
}

struct Handle {
    file: Arc<Opened>,
    writable: bool,
    used: u64,
}

/// The part of a cache that one store has; its files are closed when this is dropped.
pub(super) struct StoreFiles {
    files: Arc<OpenFiles>,
    store: u64,
}

impl OpenFiles {
    pub(super) fn new(max: fn() -> usize) -> Self {
        Self {
            max,
            next_store: AtomicU64::new(0),
            cache: Mutex::default(),
        }
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lacks_descriptors(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let found = error.raw_os_error();
    [Errno::MFILE, Errno::NFILE]
        .iter()
        .any(|errno| found == Some(errno.raw_os_error()))
}

impl Cache {
    fn used(&mut self, key: Key, write: bool) -> Option<Arc<Opened>> {
        let handle = self.by_key.get_mut(&key)?;
        if write && !handle.writable {
            return None;
        }
        self.clock += 1;
        self.by_use.remove(&handle.used);
        self.by_use.insert(self.clock, key);
        handle.used = self.clock;
        Some(Arc::clone(&handle.file))
    }

    fn insert(&mut self, key: Key, file: Arc<Opened>, writable: bool) -> Option<Arc<Opened>> {
        let before = self.remove(key);
        self.clock += 1;
        let used = self.clock;
        self.by_use.insert(used, key);
        let handle = Handle {
            file,
            writable,
            used,
        };
        self.by_key.insert(key, handle);
        before
    }

    fn remove(&mut self, key: Key) -> Option<Arc<Opened>> {
        let handle = self.by_key.remove(&key)?;
        self.by_use.remove(&handle.used);
        Some(handle.file)
    }

    /// Takes out files until so many are left, but none that is in use. Whoever drops them closes
    /// them.
    fn shrink(&mut self, max: usize) -> Vec<Arc<Opened>> {
        let surplus = self.by_key.len().saturating_sub(max);
        let idle = |key: &&Key| {
            let handle = self.by_key.get(key);
            handle.is_some_and(|handle| Arc::strong_count(&handle.file) == 1)
        };
        let keys: Vec<Key> = self
            .by_use
            .values()
            .filter(idle)
            .take(surplus)
            .copied()
            .collect();
        keys.into_iter()
            .filter_map(|key| self.remove(key))
            .collect()
    }
}

impl StoreFiles {
    /// A part of the process's cache.
    pub(super) fn of_process() -> Self {
        Self::of(&PROCESS)
    }

    pub(super) fn of(files: &Arc<OpenFiles>) -> Self {
        Self {
            files: Arc::clone(files),
            store: files.next_store.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// The file, for writing too if `write`; `open` opens it where it is not open.
    pub(super) fn get<E>(
        &self,
        index: usize,
        write: bool,
        open: impl Fn() -> Result<File, E>,
        fault: impl Fn(&E) -> Option<&io::Error>,
    ) -> Result<Arc<Opened>, E> {
        let key = (self.store, index);
        if let Some(file) = self.files.cache().used(key, write) {
            return Ok(file);
        }
        let file = self.anew(open, fault)?;
        let file = Arc::new(Opened { file });
        let max = (self.files.max)();
        let mut cache = self.files.cache();
        let before = cache.insert(key, Arc::clone(&file), write);
        let closed = cache.shrink(max);
        // Closing may take its time.
        drop(cache);
        drop((before, closed));
        Ok(file)
    }

    /// A file opened and not kept.
    pub(super) fn anew<E>(
        &self,
        open: impl Fn() -> Result<File, E>,
        fault: impl Fn(&E) -> Option<&io::Error>,
    ) -> Result<File, E> {
        for _ in 0..TRIES_MAX {
            match open() {
                Err(error) if fault(&error).is_some_and(lacks_descriptors) => {
                    if self.files.cache().shrink(0).is_empty() {
                        std::thread::sleep(PAUSE);
                    }
                }
                done => return done,
            }
        }
        open()
    }

    /// The file, if it is open.
    pub(super) fn at_hand(&self, index: usize) -> Option<Arc<Opened>> {
        self.files.cache().used((self.store, index), false)
    }

    /// The file is another one by now.
    pub(super) fn forget(&self, index: usize) {
        let closed = self.files.cache().remove((self.store, index));
        drop(closed);
    }
}

impl Drop for StoreFiles {
    fn drop(&mut self) {
        let mut cache = self.files.cache();
        let range = (self.store, 0)..=(self.store, usize::MAX);
        let keys: Vec<Key> = cache.by_key.range(range).map(|(key, _)| *key).collect();
        let closed: Vec<_> = keys.into_iter().map(|key| cache.remove(key)).collect();
        drop(cache);
        drop(closed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(max: fn() -> usize) -> (tempfile::TempDir, Arc<OpenFiles>) {
        let dir = tempfile::tempdir().unwrap();
        for name in 0..20 {
            std::fs::write(dir.path().join(name.to_string()), "x").unwrap();
        }
        (dir, Arc::new(OpenFiles::new(max)))
    }

    fn own(error: &io::Error) -> Option<&io::Error> {
        Some(error)
    }

    fn get(store: &StoreFiles, dir: &tempfile::TempDir, index: usize) -> Arc<Opened> {
        let path = dir.path().join(index.to_string());
        store.get(index, false, || File::open(&path), own).unwrap()
    }

    #[test]
    fn f14_all_stores_together_keep_no_more_open_than_allowed_and_the_last_used() {
        let (dir, files) = files(|| 4);
        let (a, b) = (StoreFiles::of(&files), StoreFiles::of(&files));
        for index in 0..20 {
            get(&a, &dir, index);
            get(&b, &dir, index);
            get(&a, &dir, 0);
            assert!(files.cache().by_key.len() <= 4);
        }
        assert!(a.at_hand(0).is_some() && b.at_hand(19).is_some());
        assert!(a.at_hand(5).is_none() && b.at_hand(5).is_none());
        drop(a);
        assert!(files.cache().by_key.keys().all(|key| key.0 == b.store));
        drop(b);
        let cache = files.cache();
        assert!(cache.by_key.is_empty() && cache.by_use.is_empty());
    }

    #[test]
    fn what_is_in_use_stays_open() {
        let (dir, files) = files(|| 2);
        let store = StoreFiles::of(&files);
        let used: Vec<_> = (0..3).map(|index| get(&store, &dir, index)).collect();
        get(&store, &dir, 3);
        for (index, file) in used.iter().enumerate() {
            assert!(Arc::ptr_eq(file, &store.at_hand(index).unwrap()));
        }
        drop(used);
        get(&store, &dir, 4);
        assert_eq!(files.cache().by_key.len(), 2);
    }

    #[test]
    fn f14_a_file_that_no_descriptor_is_left_for_waits_until_one_is() {
        let (dir, files) = files(|| 10);
        let store = StoreFiles::of(&files);
        get(&store, &dir, 0);
        let tries = std::cell::Cell::new(0);
        let path = dir.path().join("1");
        let open = || {
            tries.set(tries.get() + 1);
            match tries.get() {
                ..4 => Err(io::Error::from_raw_os_error(24)),
                _ => File::open(&path),
            }
        };
        store.get(1, false, open, own).unwrap();
        // What nobody used made way.
        assert!(store.at_hand(0).is_none() && tries.get() == 4);
        let gone = store.get(2, false, || File::open("/nonexistent"), own);
        assert_eq!(gone.err().unwrap().kind(), io::ErrorKind::NotFound);
    }
}
