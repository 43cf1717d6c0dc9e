//! Names that a disk would mix up are told apart.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::shorten;
use crate::limits;
use crate::metainfo::MetainfoError;

/// What file systems that fold case, or drop trailing dots and blanks, take a name for.
pub(super) fn fold(component: &str) -> String {
    component.trim_end_matches(['.', ' ']).to_lowercase()
}

/// Stands for a folded path. Eight bytes instead of all of them, since a stranger chooses how many
/// there are: who makes two paths meet in one number has one of his files renamed.
type Folded = u64;

/// Stands for what is above a torrent's files.
const TOP: Folded = 0;

fn below(directory: Folded, component: &str) -> Folded {
    let mut hasher = DefaultHasher::new();
    directory.hash(&mut hasher);
    fold(component).hash(&mut hasher);
    hasher.finish()
}

/// Gives files new names so that no two are alike and none is named as a directory, by a number
/// before the extension (`a.1.txt`), as libtorrent does. Only the last component of a path changes.
///
/// `paths` gives the `count` paths of the files, once for each time it is called; what comes back
/// are new last components by the number of the path.
///
/// # Errors
/// [`MetainfoError::DuplicateNames`]: more than [`limits::DUPLICATE_NAMES_MAX`] files had to be
/// renamed. [`MetainfoError::PathsLength`]: more than `directories_max` directories.
pub(in crate::metainfo) fn tell_apart<P: IntoIterator<Item = Vec<String>>>(
    paths: impl Fn() -> P,
    count: usize,
    directories_max: usize,
) -> Result<BTreeMap<usize, String>, MetainfoError> {
    let mut directories = Directories::new(directories_max);
    let mut above = Above::default();
    for path in paths() {
        let new = above.go_to(&path);
        for directory in above.folded.iter().skip(new) {
            directories.push(*directory)?;
        }
    }
    directories.sort();
    if directories.all.len() > directories_max {
        return Err(MetainfoError::PathsLength);
    }

    let mut files: HashSet<Folded> = HashSet::with_capacity(count);
    let mut counters: HashMap<Folded, u32> = HashMap::new();
    let mut renames = BTreeMap::new();
    for (nth, path) in paths().into_iter().enumerate() {
        let Some(name) = path.last() else {
            return Err(MetainfoError::Path);
        };
        above.go_to(&path);
        let parent = above.folded.last().copied().unwrap_or(TOP);
        let key = below(parent, name);
        if !directories.contains(key) && files.insert(key) {
            continue;
        }
        if renames.len() >= limits::DUPLICATE_NAMES_MAX {
            return Err(MetainfoError::DuplicateNames);
        }
        // The counter goes on where the last file of this name stopped; each number that is taken
        // already belongs to a file that is in the list, so the loop ends.
        let counter = counters.entry(key).or_default();
        loop {
            *counter += 1;
            let candidate = shorten(name, &format!(".{counter}"));
            let key = below(parent, &candidate);
            if !directories.contains(key) && files.insert(key) {
                renames.insert(nth, candidate);
                break;
            }
        }
    }
    Ok(renames)
}

/// The directories above the last path, from the top.
#[derive(Default)]
struct Above {
    names: Vec<String>,
    folded: Vec<Folded>,
}

impl Above {
    /// Goes to those of another path; returns how many are the same as before.
    fn go_to(&mut self, path: &[String]) -> usize {
        let parents = path.split_last().map_or(path, |(_, parents)| parents);
        let both = self.names.iter().zip(parents);
        let same = both.take_while(|(before, now)| before == now).count();
        self.names.truncate(same);
        self.folded.truncate(same);
        for name in parents.iter().skip(same) {
            let above = self.folded.last().copied().unwrap_or(TOP);
            self.folded.push(below(above, name));
            self.names.push(name.clone());
        }
        same
    }
}

/// The directories of all paths.
struct Directories {
    all: Vec<Folded>,
    max: usize,
}

impl Directories {
    fn new(max: usize) -> Self {
        Self {
            all: Vec::new(),
            max,
        }
    }

    fn push(&mut self, directory: Folded) -> Result<(), MetainfoError> {
        if self.all.len() == self.all.capacity() && !self.all.is_empty() {
            self.sort();
            if self.all.len() > self.max {
                return Err(MetainfoError::PathsLength);
            }
        }
        if self.all.len() == self.all.capacity() {
            self.all.reserve_exact((self.all.len() / 4).max(64));
        }
        self.all.push(directory);
        Ok(())
    }

    /// Each once, in order.
    fn sort(&mut self) {
        self.all.sort_unstable();
        self.all.dedup();
    }

    fn contains(&self, path: Folded) -> bool {
        self.all.binary_search(&path).is_ok()
    }
}
