//! What of a folder is published: regular files with names a URL can have, and nothing that hides
//! or lies elsewhere.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use swarm_proto::limits;
use swarm_proto::manifest::{PathError, SitePath};

use super::ListedFile;
use super::error::PublishError;

/// A file to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SourceFile {
    /// Where it stands on the site.
    pub path: SitePath,
    /// Where it lies on this disk.
    pub disk: PathBuf,
    /// Bytes, when it was found.
    pub length: u64,
    /// Last change, seconds since 1970.
    pub modified: u64,
    /// Its owner may run it.
    pub executable: bool,
    /// What is known of it other than by its name.
    pub said: Option<Said>,
}

/// What a site said of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    pub media_type: String,
    /// Seconds.
    pub cache_secs: u32,
}

/// A file or folder that was left out, with the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Path below the root.
    pub path: PathBuf,
    /// Why.
    pub reason: SkipReason,
}

/// Why a file or folder is never published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SkipReason {
    /// Its name begins with a dot, or it is a symlink to such a file.
    Hidden,
    /// A symlink that leaves the root.
    LeavesRoot,
    /// A symlink to nothing.
    Dangling,
    /// A symlink to a folder it lies in.
    Loop,
    /// A device, a socket or a pipe.
    NotRegular,
    /// The name is not UTF-8.
    NotUtf8,
    /// The name is none that a manifest may hold.
    Name(PathError),
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hidden => f.write_str("dotfile"),
            Self::LeavesRoot => f.write_str("symlink that leaves the root"),
            Self::Dangling => f.write_str("symlink to nothing"),
            Self::Loop => f.write_str("symlink to a folder around it"),
            Self::NotRegular => f.write_str("not a regular file"),
            Self::NotUtf8 => f.write_str("name is not UTF-8"),
            Self::Name(error) => error.fmt(f),
        }
    }
}

/// What a walk found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Sorted by path.
    pub files: Vec<SourceFile>,
    /// In the order met.
    pub skipped: Vec<Skipped>,
}

/// Lists what may be published below `root`.
///
/// Symlinks are followed as long as they stay inside the root and lead to nothing hidden.
///
/// # Errors
/// [`PublishError::Read`] for what cannot be read, [`PublishError::NotAFolder`],
/// [`PublishError::EmptySite`], [`PublishError::TooManyFiles`].
pub(super) fn walk(root: &Path) -> Result<Found, PublishError> {
    let real = fs::canonicalize(root).map_err(PublishError::read(root))?;
    if !real.is_dir() {
        return Err(PublishError::NotAFolder(root.to_owned()));
    }
    let mut walk = Walk {
        root: real.clone(),
        found: Found::default(),
    };
    walk.folder(&real, Path::new(""), &mut vec![real.clone()])?;
    let mut found = walk.found;
    if found.files.is_empty() {
        return Err(PublishError::EmptySite(root.to_owned()));
    }
    found
        .files
        .sort_unstable_by(|one, other| one.path.cmp(&other.path));
    Ok(found)
}

struct Walk {
    /// Canonical.
    root: PathBuf,
    found: Found,
}

impl Walk {
    /// `disk` is canonical; `around` holds it and the folders above it, canonical, as walked.
    fn folder(
        &mut self,
        disk: &Path,
        below: &Path,
        around: &mut Vec<PathBuf>,
    ) -> Result<(), PublishError> {
        let mut names = Vec::new();
        for entry in fs::read_dir(disk).map_err(PublishError::read(disk))? {
            names.push(entry.map_err(PublishError::read(disk))?.file_name());
        }
        names.sort_unstable();
        for name in names {
            let path = below.join(&name);
            if name.as_encoded_bytes().starts_with(b".") {
                self.skip(path, SkipReason::Hidden);
                continue;
            }
            self.entry(disk.join(&name), path, around)?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        disk: PathBuf,
        path: PathBuf,
        around: &mut Vec<PathBuf>,
    ) -> Result<(), PublishError> {
        let mut metadata = fs::symlink_metadata(&disk).map_err(PublishError::read(&disk))?;
        let mut real = disk;
        if metadata.is_symlink() {
            real = match fs::canonicalize(&real) {
                Ok(target) => target,
                Err(_) => {
                    self.skip(path, SkipReason::Dangling);
                    return Ok(());
                }
            };
            let Ok(inside) = real.strip_prefix(&self.root) else {
                self.skip(path, SkipReason::LeavesRoot);
                return Ok(());
            };
            let hidden = inside
                .iter()
                .any(|component| component.as_encoded_bytes().starts_with(b"."));
            if hidden {
                self.skip(path, SkipReason::Hidden);
                return Ok(());
            }
            if around.contains(&real) {
                self.skip(path, SkipReason::Loop);
                return Ok(());
            }
            metadata = fs::metadata(&real).map_err(PublishError::read(&real))?;
        }
        if metadata.is_dir() {
            around.push(real.clone());
            self.folder(&real, &path, around)?;
            around.pop();
            return Ok(());
        }
        if !metadata.is_file() {
            self.skip(path, SkipReason::NotRegular);
            return Ok(());
        }
        let components: Option<Vec<&str>> =
            path.iter().map(|component| component.to_str()).collect();
        let Some(components) = components else {
            self.skip(path, SkipReason::NotUtf8);
            return Ok(());
        };
        match SitePath::from_components(components) {
            Ok(site_path) => self.found.files.push(SourceFile {
                path: site_path,
                disk: real,
                length: metadata.len(),
                modified: metadata
                    .modified()
                    .ok()
                    .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
                    .map_or(0, |since| since.as_secs()),
                executable: metadata.permissions().mode() & 0o100 != 0,
                said: None,
            }),
            Err(error) => self.skip(path, SkipReason::Name(error)),
        }
        if self.found.files.len() > limits::MANIFEST_FILES_MAX {
            return Err(PublishError::TooManyFiles {
                path: self.root.clone(),
                max: limits::MANIFEST_FILES_MAX,
            });
        }
        Ok(())
    }

    fn skip(&mut self, path: PathBuf, reason: SkipReason) {
        self.found.skipped.push(Skipped { path, reason });
    }
}

/// Takes files as they are listed, sorted by path as a walk would find them.
pub(super) fn take(root: &Path, listed: &[ListedFile]) -> Result<Found, PublishError> {
    if listed.len() > limits::MANIFEST_FILES_MAX {
        return Err(PublishError::TooManyFiles {
            path: root.to_owned(),
            max: limits::MANIFEST_FILES_MAX,
        });
    }
    let mut files = BTreeMap::new();
    for file in listed {
        let metadata = fs::metadata(&file.disk).map_err(PublishError::read(&file.disk))?;
        let source = SourceFile {
            path: file.path.clone(),
            disk: file.disk.clone(),
            length: metadata.len(),
            modified: file.modified,
            executable: false,
            said: Some(Said {
                media_type: file.media_type.clone(),
                cache_secs: file.cache_secs,
            }),
        };
        files.insert(&file.path, source);
    }
    Ok(Found {
        files: files.into_values().collect(),
        skipped: Vec::new(),
    })
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::symlink;

    use super::*;

    fn write(root: &Path, path: impl AsRef<Path>) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    }

    #[test]
    fn hidden_foreign_and_odd_files_are_never_published() {
        let outside = tempfile::tempdir().unwrap();
        write(outside.path(), "secret.txt");
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        write(root, "index.html");
        write(root, "docs/a b.html");
        write(root, ".htpasswd");
        write(root, ".git/config");
        write(root, "back\\slash");
        write(root, std::ffi::OsStr::from_bytes(b"not-utf8-\xff"));
        symlink("docs/a b.html", root.join("inside.html")).unwrap();
        symlink("docs", root.join("docs2")).unwrap();
        symlink(outside.path().join("secret.txt"), root.join("leak.txt")).unwrap();
        symlink(outside.path(), root.join("leak")).unwrap();
        symlink("../../../../../../etc/passwd", root.join("docs/passwd")).unwrap();
        symlink(".git/config", root.join("config.txt")).unwrap();
        symlink("nowhere", root.join("dangling")).unwrap();
        symlink("..", root.join("docs/up")).unwrap();
        std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();

        let found = walk(root).unwrap();
        let files: Vec<&str> = found.files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(
            files,
            [
                "/docs/a b.html",
                "/docs2/a b.html",
                "/index.html",
                "/inside.html"
            ]
        );
        let reason = |path: &str| {
            let skipped = found.skipped.iter().find(|one| one.path == Path::new(path));
            skipped.unwrap_or_else(|| panic!("{path}")).reason
        };
        assert_eq!(reason(".htpasswd"), SkipReason::Hidden);
        assert_eq!(reason(".git"), SkipReason::Hidden);
        assert_eq!(reason("config.txt"), SkipReason::Hidden);
        assert_eq!(reason("leak.txt"), SkipReason::LeavesRoot);
        assert_eq!(reason("leak"), SkipReason::LeavesRoot);
        assert_eq!(reason("docs/passwd"), SkipReason::LeavesRoot);
        assert_eq!(reason("dangling"), SkipReason::Dangling);
        assert_eq!(reason("docs/up"), SkipReason::Loop);
        assert_eq!(reason("socket"), SkipReason::NotRegular);
        assert_eq!(
            reason("back\\slash"),
            SkipReason::Name(PathError::Character)
        );
        assert!(
            found
                .skipped
                .iter()
                .any(|s| s.reason == SkipReason::NotUtf8)
        );
    }

    #[test]
    fn a_missing_or_empty_root_is_named() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(
            walk(folder.path()),
            Err(PublishError::EmptySite(path)) if path == folder.path()
        ));
        write(folder.path(), ".hidden");
        assert!(matches!(
            walk(folder.path()),
            Err(PublishError::EmptySite(_))
        ));
        let missing = folder.path().join("missing");
        assert!(matches!(walk(&missing), Err(PublishError::Read { path, .. }) if path == missing));
        write(folder.path(), "file");
        let file = folder.path().join("file");
        assert!(matches!(walk(&file), Err(PublishError::NotAFolder(path)) if path == file));
    }
}
