//! Files that a crash leaves whole.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// Writes a file so that a crash leaves either the old one or the new one.
///
/// # Errors
/// What the system said.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.{}.tmp", std::process::id()));
    let written = (|| {
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        match path.parent().map(File::open) {
            Some(Ok(parent)) => parent.sync_all(),
            _ => Ok(()),
        }
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written
}
