//! Small file helpers: atomic writes, reading within a limit, and work spread over all cores.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;

use super::error::PublishError;

static TEMPORARY: AtomicU64 = AtomicU64::new(0);

/// A name beside `path` that no published file has.
pub(super) fn temporary(path: &Path) -> PathBuf {
    let number = TEMPORARY.fetch_add(1, Ordering::Relaxed);
    path.with_file_name(format!(".tmp-{}-{number}", std::process::id()))
}

/// Writes `bytes` so that a reader, or the next start after a crash, finds the old file or the new
/// one whole: temporary file, fsync, rename, fsync of the folder.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8], mode: u32) -> Result<(), PublishError> {
    let temporary = temporary(path);
    let written = write_file(&temporary, bytes, mode)
        .and_then(|()| fs::rename(&temporary, path))
        .and_then(|()| sync_folder(path));
    written.map_err(|source| {
        let _ = fs::remove_file(&temporary);
        PublishError::Write {
            path: path.to_owned(),
            source,
        }
    })
}

fn write_file(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    #[cfg(not(unix))]
    let _ = mode;
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Makes renames in the folder of `path` survive a power loss.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if cfg!(unix) => File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}

/// Reads a whole file of at most `max` bytes.
///
/// # Errors
/// [`PublishError::Read`], also for a file that is larger.
pub fn read_limited(path: &Path, max: usize) -> Result<Vec<u8>, PublishError> {
    let read = || {
        let mut bytes = Vec::new();
        File::open(path)?
            .take(max as u64 + 1)
            .read_to_end(&mut bytes)?;
        if bytes.len() > max {
            return Err(io::Error::other("larger than such a file can be"));
        }
        Ok(bytes)
    };
    read().map_err(|source| PublishError::Read {
        path: path.to_owned(),
        source,
    })
}

/// Applies `work` to every item on `threads` threads; results come in the items' order. The first
/// error stops the rest.
pub(super) fn in_parallel<T: Sync, R: Send>(
    threads: usize,
    items: &[T],
    work: impl Fn(&T) -> Result<R, PublishError> + Sync,
) -> Result<Vec<R>, PublishError> {
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let done = Mutex::new(Vec::with_capacity(items.len()));
    let failed = Mutex::new(None);
    thread::scope(|scope| {
        for _ in 0..threads.clamp(1, items.len().max(1)) {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(index) else { break };
                    match work(item) {
                        Ok(result) => lock(&done).push((index, result)),
                        Err(error) => {
                            stop.store(true, Ordering::Relaxed);
                            lock(&failed).get_or_insert(error);
                        }
                    }
                }
            });
        }
    });
    if let Some(error) = lock(&failed).take() {
        return Err(error);
    }
    let mut done = std::mem::take(&mut *lock(&done));
    done.sort_unstable_by_key(|(index, _)| *index);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_and_the_first_error_ends_it() {
        let items: Vec<u32> = (0..1000).collect();
        let doubled = in_parallel(4, &items, |n| Ok(n * 2)).unwrap();
        assert!(doubled.iter().copied().eq((0..1000).map(|n| n * 2)));
        let failed = in_parallel(4, &items, |n| {
            if *n == 500 {
                Err(PublishError::EmptySite("here".into()))
            } else {
                Ok(())
            }
        });
        assert!(matches!(failed, Err(PublishError::EmptySite(_))));
    }

    #[test]
    fn an_atomic_write_replaces_and_leaves_nothing_beside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write_atomically(&path, b"one", 0o600).unwrap();
        write_atomically(&path, b"two", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(read_limited(&path, 3).is_ok());
        assert!(read_limited(&path, 2).is_err());
    }
}
