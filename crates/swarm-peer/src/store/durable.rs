//! What a power loss must not take: a file's bytes stay once they are synced, its name once the
//! directory that holds it is, and that directory once the one above is.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Tells the temporary files of this process apart.
static TEMPORARY: AtomicU64 = AtomicU64::new(0);

/// A directory and those that lead to it, itself first.
pub(super) fn up_from(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let dir = match dir.as_os_str().is_empty() {
        true => Path::new("."),
        false => dir,
    };
    let whole = std::fs::canonicalize(dir)?;
    Ok(whole.ancestors().map(Path::to_owned).collect())
}

/// Makes the names in a directory durable. One that we may not read, or whose file system has no
/// such thing as a sync of it, is passed over.
pub(super) fn sync_dir(opened: io::Result<File>) -> io::Result<()> {
    match opened.and_then(|dir| dir.sync_all()) {
        Err(error) if is_unable(&error) => Ok(()),
        synced => synced,
    }
}

fn is_unable(error: &io::Error) -> bool {
    use ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::PermissionDenied | Kind::InvalidInput | Kind::Unsupported | Kind::ReadOnlyFilesystem
    )
}

/// Makes the name of a directory durable, and the names of those that lead to it.
pub(crate) fn sync_name_of(dir: &Path) -> io::Result<()> {
    let dirs = up_from(dir)?;
    dirs.iter()
        .skip(1)
        .try_for_each(|dir| sync_dir(File::open(dir)))
}

/// Writes a file, and the directories that lead to it, so that a crash or a power loss leaves
/// either the old one or the new one; the new one once this has returned.
///
/// # Errors
/// What the system said.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let path = std::path::absolute(path)?;
    let (Some(name), Some(parent)) = (path.file_name(), path.parent()) else {
        return Err(ErrorKind::InvalidFilename.into());
    };
    std::fs::create_dir_all(parent)?;
    // Before there is a file of that name: who finds one, even after a kill in the middle of this,
    // knows that it was done.
    if !path.exists() {
        sync_name_of(parent)?;
    }
    let (name, number) = (name.display(), TEMPORARY.fetch_add(1, Ordering::Relaxed));
    let temporary = parent.join(format!(".{name}.{}-{number}.tmp", std::process::id()));
    let written = (|| {
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, &path)?;
        sync_dir(File::open(parent))
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written
}
