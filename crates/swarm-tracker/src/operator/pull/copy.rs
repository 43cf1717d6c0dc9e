//! The copy of a site on the disk: what was fetched, by digest, and where on the site it stands.
//!
//! ```text
//! files/<sha256>   content; a name is never the site's
//! copy.json        where each stands, and what the site said of it
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use swarm_peer::publish::ListedFile;
use swarm_peer::store::write_atomic;
use swarm_proto::id::Digest;
use swarm_proto::manifest::{INDEX_PAGES, SitePath};

use super::frontier::REST_SECS_MAX;

/// What the copy holds of one path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::operator) struct Held {
    /// SHA-256 of the content, in hexadecimal digits: its file's name.
    pub(in crate::operator) file: String,
    /// Bytes.
    pub(in crate::operator) length: u64,
    pub(in crate::operator) media_type: String,
    /// Seconds for which a browser may keep it.
    pub(in crate::operator) cache_secs: u32,
    /// Last change, seconds since 1970; 0: not said.
    pub(in crate::operator) modified: u64,
    /// Seconds since 1970 until which the site need not be asked again.
    pub(in crate::operator) fresh_until: u64,
    /// What the site named this version.
    pub(in crate::operator) etag: Option<String>,
    /// As the site said it.
    pub(in crate::operator) last_modified: Option<String>,
}

/// The copy of one site.
#[derive(Debug)]
pub(in crate::operator) struct SiteCopy {
    dir: PathBuf,
    held: BTreeMap<SitePath, Held>,
    /// Of all files, those that are the same counted once for each path.
    bytes: u64,
    /// Whether what is held is other than what was taken up last by [`listed`](Self::listed).
    changed: bool,
}

impl SiteCopy {
    /// Reads the copy in `dir`, which is made if absent, and all of its files. What is damaged or
    /// gone is fetched anew: it is a copy.
    pub(in crate::operator) fn open(dir: &Path) -> io::Result<Self> {
        let files = dir.join("files");
        fs::create_dir_all(&files)?;
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            // What was coming when we were killed.
            if entry.file_name().as_encoded_bytes().starts_with(b"part-") {
                fs::remove_file(entry.path())?;
            }
        }
        let read: BTreeMap<String, Held> = match fs::read(dir.join("copy.json")) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::warn!(dir = %dir.display(), %error, "copy is damaged, fetched anew");
                BTreeMap::new()
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error),
        };
        let held = read.into_iter().filter_map(|(path, held)| {
            let path = SitePath::from_decoded(&path).ok()?;
            // Whoever wrote the list names nothing outside.
            let name: Digest = held.file.parse().ok()?;
            let content = fs::read(files.join(name.to_string())).ok()?;
            (Digest::of(&content) == name).then_some((path, held))
        });
        let held: BTreeMap<_, _> = held.collect();
        Ok(Self {
            dir: dir.to_owned(),
            bytes: held.values().map(|held: &Held| held.length).sum(),
            changed: !held.is_empty(),
            held,
        })
    }

    /// Where a file that is coming is written before its digest is known; `n` tells those that come
    /// at a time apart.
    pub(in crate::operator) fn part(&self, n: u64) -> PathBuf {
        self.dir.join(format!("part-{n}"))
    }

    /// The folder of the files.
    pub(in crate::operator) fn files(&self) -> PathBuf {
        self.dir.join("files")
    }

    pub(in crate::operator) fn get(&self, path: &SitePath) -> Option<&Held> {
        self.held.get(path)
    }

    /// The file with the content of `held`.
    pub(in crate::operator) fn file(&self, held: &Held) -> PathBuf {
        self.files().join(&held.file)
    }

    pub(in crate::operator) fn len(&self) -> usize {
        self.held.len()
    }

    pub(in crate::operator) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes a file that came to `part`, in place of what was held of `path`.
    pub(in crate::operator) fn take(
        &mut self,
        path: SitePath,
        held: Held,
        part: &Path,
    ) -> io::Result<()> {
        fs::rename(part, self.file(&held))?;
        self.note(path, held);
        Ok(())
    }

    /// Takes note of something new about a file that is held.
    pub(in crate::operator) fn note(&mut self, path: SitePath, held: Held) {
        let length = held.length;
        let shown = |held: &Held| {
            // Not how long it may be kept, which is another each time where the site says nothing.
            let what = (held.file.clone(), held.media_type.clone());
            (what, held.modified)
        };
        let new = shown(&held);
        let old = self.held.insert(path, held);
        self.changed |= old.as_ref().map(shown) != Some(new);
        let gone = old.map_or(0, |old| old.length);
        self.bytes = self.bytes.saturating_sub(gone).saturating_add(length);
    }

    /// Forgets a path.
    pub(in crate::operator) fn forget(&mut self, path: &SitePath) {
        if let Some(old) = self.held.remove(path) {
            self.bytes = self.bytes.saturating_sub(old.length);
            self.changed = true;
        }
    }

    /// The paths that the site is to be asked for again.
    pub(in crate::operator) fn stale(&self, now: u64) -> Vec<SitePath> {
        // By a clock that was ahead it would hold for longer than anything does (F7).
        let fresh = now..=now.saturating_add(REST_SECS_MAX);
        let stale = self
            .held
            .iter()
            .filter(|(_, held)| held.fresh_until == now || !fresh.contains(&held.fresh_until));
        stale.map(|(path, _)| path.clone()).collect()
    }

    /// Whether there is something that was not taken up yet.
    pub(in crate::operator) const fn has_changed(&self) -> bool {
        self.changed
    }

    /// All of it, to be published; what changes from now on is new.
    pub(in crate::operator) fn listed(&mut self) -> Vec<ListedFile> {
        self.changed = false;
        let listed = self.held.iter().map(|(path, held)| ListedFile {
            path: stands_at(path),
            disk: self.file(held),
            modified: held.modified,
            media_type: held.media_type.clone(),
            cache_secs: held.cache_secs,
        });
        listed.collect()
    }

    /// Says that what was taken up was not put to use.
    pub(in crate::operator) const fn not_published(&mut self) {
        self.changed = true;
    }

    /// Writes down what is held.
    pub(in crate::operator) fn save(&self) -> io::Result<()> {
        let held: BTreeMap<&str, &Held> = self
            .held
            .iter()
            .map(|(path, held)| (path.as_str(), held))
            .collect();
        let bytes = serde_json::to_vec(&held).map_err(io::Error::other)?;
        write_atomic(&self.dir.join("copy.json"), &bytes)
    }

    /// Removes files that nothing stands for any more and that nobody seeds: those in neither
    /// `held` nor `kept`.
    pub(in crate::operator) fn remove_stale(&self, kept: &BTreeSet<PathBuf>) -> io::Result<()> {
        let held: BTreeSet<&str> = self.held.values().map(|held| held.file.as_str()).collect();
        for entry in fs::read_dir(self.files())? {
            let entry = entry?;
            let name = entry.file_name();
            let is_held = name.to_str().is_some_and(|name| held.contains(name));
            if !is_held && !kept.contains(&entry.path()) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

/// A folder's page stands in a manifest as its index.
fn stands_at(path: &SitePath) -> SitePath {
    let index = INDEX_PAGES.first().filter(|_| path.is_folder());
    let index = index.and_then(|index| SitePath::from_decoded(&format!("{path}{index}")).ok());
    index.unwrap_or_else(|| path.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> SitePath {
        SitePath::parse(text).unwrap()
    }

    fn held(content: &str, fresh_until: u64) -> Held {
        Held {
            file: Digest::of(content.as_bytes()).to_string(),
            length: content.len() as u64,
            media_type: "text/plain".into(),
            cache_secs: 5,
            modified: 0,
            fresh_until,
            etag: None,
            last_modified: None,
        }
    }

    fn put(copy: &mut SiteCopy, at: &str, content: &str, fresh_until: u64) {
        let part = copy.part(1);
        fs::write(&part, content).unwrap();
        copy.take(path(at), held(content, fresh_until), &part)
            .unwrap();
    }

    #[test]
    fn a_copy_survives_a_restart_and_names_nothing_by_the_sites_word() {
        let dir = tempfile::tempdir().unwrap();
        let mut copy = SiteCopy::open(dir.path()).unwrap();
        put(&mut copy, "/a", "one", 10);
        put(&mut copy, "/a/b", "two", 20);
        put(&mut copy, "/c", "one", 30);
        assert_eq!((copy.len(), copy.bytes()), (3, 9));
        assert_eq!(fs::read_dir(copy.files()).unwrap().count(), 2);
        copy.save().unwrap();
        let mut again = SiteCopy::open(dir.path()).unwrap();
        assert_eq!(again.held, copy.held);
        assert!(again.has_changed(), "after a restart it is published again");
        assert_eq!(again.listed(), copy.listed());
        assert_eq!(again.stale(20), [path("/a"), path("/a/b")]);
        let (none, all) = (again.stale(9), again.stale(30).len());
        assert_eq!((none, all), (vec![], 3));

        fs::remove_file(copy.file(copy.get(&path("/a/b")).unwrap())).unwrap();
        assert_eq!(SiteCopy::open(dir.path()).unwrap().len(), 2);
        // F6: a flipped bit is not signed for as if it were the site's.
        fs::write(copy.file(copy.get(&path("/c")).unwrap()), "onf").unwrap();
        assert_eq!(SiteCopy::open(dir.path()).unwrap().len(), 0);
        fs::write(dir.path().join("copy.json"), "{\"/x\": 3").unwrap();
        assert_eq!(SiteCopy::open(dir.path()).unwrap().len(), 0);
        let outside = serde_json::json!({"/x": {
            "file": "../../etc/passwd", "length": 1, "media_type": "a/b", "cache_secs": 0,
            "modified": 0, "fresh_until": 0, "etag": null, "last_modified": null,
        }});
        fs::write(dir.path().join("copy.json"), outside.to_string()).unwrap();
        assert_eq!(SiteCopy::open(dir.path()).unwrap().len(), 0);
    }

    #[test]
    fn only_what_visitors_would_see_is_a_change() {
        let dir = tempfile::tempdir().unwrap();
        let mut copy = SiteCopy::open(dir.path()).unwrap();
        put(&mut copy, "/a", "one", 10);
        assert!(copy.has_changed());
        copy.listed();
        copy.note(path("/a"), held("one", 99));
        assert!(!copy.has_changed(), "asked again, nothing new");
        put(&mut copy, "/a", "other", 99);
        assert!(copy.has_changed());
        copy.listed();
        copy.forget(&path("/nothing"));
        assert!(!copy.has_changed());
        copy.forget(&path("/a"));
        assert!(copy.has_changed());
        assert_eq!((copy.len(), copy.bytes()), (0, 0));
    }

    #[test]
    fn files_go_when_neither_copy_nor_seed_needs_them() {
        let dir = tempfile::tempdir().unwrap();
        let mut copy = SiteCopy::open(dir.path()).unwrap();
        put(&mut copy, "/a", "old", 10);
        let old = copy.file(copy.get(&path("/a")).unwrap());
        put(&mut copy, "/a", "new", 10);
        copy.remove_stale(&BTreeSet::from([old.clone()])).unwrap();
        assert!(old.exists());
        copy.remove_stale(&BTreeSet::new()).unwrap();
        assert!(!old.exists());
        assert!(copy.file(copy.get(&path("/a")).unwrap()).exists());
    }
}
