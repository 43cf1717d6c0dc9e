//! A torrent's files as described, before names are made harmless: what v1 lists and v2 trees share.

use std::collections::BTreeMap;

use super::v2::{Tree, TreeWalk};
use super::{FileEntry, MetainfoError, path, v1};
use crate::bencode::{Dict, List, Value, Values};
use crate::limits;
use crate::merkle::Hash;

/// One file as described.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Described<'a> {
    /// Components below the torrent's name; those of padding don't matter.
    pub(super) path: Vec<&'a [u8]>,
    pub(super) length: u64,
    pub(super) pad: bool,
    pub(super) executable: bool,
    pub(super) symlink: bool,
    /// Where a symlink leads, as it stands there.
    pub(super) target: Option<List<'a>>,
    pub(super) root: Option<Hash>,
}

/// The files of one description, checked and not held: whoever asks reads them off the input, since
/// a stranger chooses how many there are.
#[derive(Debug, Clone, Copy)]
pub(super) struct FileList<'a> {
    source: Source<'a>,
    /// The other half of a hybrid, whose roots these files have.
    tree: Option<Tree<'a>>,
    /// Entries, padding included.
    pub(super) count: usize,
    /// Entries without padding.
    pub(super) content_count: usize,
    pub(super) total: u64,
}

/// Where files are described.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source<'a> {
    /// `length` beside this name: the torrent is one file, not a directory. Last, whether it is
    /// executable.
    Single(&'a [u8], u64, bool),
    /// `files`.
    List(List<'a>),
    /// `file tree`.
    Tree(Tree<'a>),
}

enum Walk<'a> {
    Single(Option<Described<'a>>),
    List(Values<'a>),
    Tree(TreeWalk<'a>),
}

impl<'a> Source<'a> {
    fn walk(self) -> Walk<'a> {
        match self {
            Source::Single(name, length, executable) => Walk::Single(Some(Described {
                path: vec![name],
                length,
                pad: false,
                executable,
                symlink: false,
                target: None,
                root: None,
            })),
            Source::List(files) => Walk::List(files.iter()),
            Source::Tree(tree) => Walk::Tree(tree.walk()),
        }
    }
}

impl<'a> Iterator for Walk<'a> {
    type Item = Result<Described<'a>, MetainfoError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Walk::Single(file) => file.take().map(Ok),
            Walk::List(files) => files.next().map(v1::one_file),
            Walk::Tree(walk) => walk.next(),
        }
    }
}

/// `attr` of BEP 47, as far as it matters here: whether a file is hidden (`h`) its name says.
pub(super) struct Attributes {
    pub(super) pad: bool,
    pub(super) executable: bool,
    pub(super) symlink: bool,
}

impl Attributes {
    pub(super) fn of(file: Dict<'_>) -> Self {
        let attr = file
            .get(b"attr")
            .and_then(Value::as_bytes)
            .unwrap_or_default();
        Self {
            pad: attr.contains(&b'p'),
            executable: attr.contains(&b'x'),
            symlink: attr.contains(&b'l'),
        }
    }
}

impl<'a> FileList<'a> {
    /// Reads all of it once. `info_len` is the length of the info dictionary in bytes, which bounds
    /// the room for paths.
    pub(super) fn new(source: Source<'a>, info_len: usize) -> Result<Self, MetainfoError> {
        let mut list = Self {
            source,
            tree: None,
            count: 0,
            content_count: 0,
            total: 0,
        };
        // A path costs its bytes and some 32 per component. Honest trees stay below three
        // times the length of their description.
        let paths_len_max = info_len.saturating_mul(8).saturating_add(1 << 16);
        let mut paths_len = 0_usize;
        for file in source.walk() {
            let file = file?;
            if list.count >= limits::FILES_MAX {
                return Err(MetainfoError::FileCount);
            }
            let len: usize = file.path.iter().map(|component| component.len() + 1).sum();
            if file.path.is_empty()
                || file.path.len() > limits::DIRECTORY_DEPTH_MAX + 1
                || len > limits::PATH_LEN_MAX
            {
                return Err(MetainfoError::Path);
            }
            paths_len += len + 32 * file.path.len();
            if paths_len > paths_len_max {
                return Err(MetainfoError::PathsLength);
            }
            list.total = list
                .total
                .checked_add(file.length)
                .filter(|total| i64::try_from(*total).is_ok())
                .ok_or(MetainfoError::FileLength(i64::MAX))?;
            list.count += 1;
            list.content_count += usize::from(!file.pad);
        }
        Ok(list)
    }

    /// The same files with the roots of `tree`, which describes them too. Executable is what both
    /// halves call so: clients of either kind are to find the same.
    pub(super) fn joined_with(self, other: &Self) -> Self {
        let tree = match other.source {
            Source::Tree(tree) => Some(tree),
            _ => None,
        };
        Self { tree, ..self }
    }

    /// The torrent is one file, not a directory.
    pub(super) fn is_single(&self) -> bool {
        match self.source {
            Source::Single(..) => true,
            Source::List(_) => false,
            Source::Tree(tree) => tree.is_single(),
        }
    }

    /// The files in order, padding among them.
    pub(super) fn files(&self) -> impl Iterator<Item = Described<'a>> + use<'a> {
        // They were read once without an error, so none can come.
        let tree = self.tree.map(|tree| tree.walk().map_while(Result::ok));
        let mut twins = tree.map(|files| files.filter(|file| !file.pad));
        let files = self.source.walk().map_while(Result::ok);
        files.map(move |mut file| {
            if let Some(twins) = &mut twins
                && !file.pad
            {
                let twin = twins.next();
                file.root = twin.as_ref().and_then(|twin| twin.root);
                file.executable &= twin.is_some_and(|twin| twin.executable);
            }
            file
        })
    }

    /// New names for files that a disk would mix up, by their number among those that are no
    /// padding.
    pub(super) fn renames(
        &self,
        info_len: usize,
    ) -> Result<BTreeMap<usize, String>, MetainfoError> {
        let paths = || {
            let content = self.files().filter(|file| !file.pad);
            content.map(|file| harmless(&file))
        };
        let directories_max = 1000 + info_len / limits::INFO_LEN_PER_DIRECTORY_MIN;
        path::tell_apart(paths, self.content_count, directories_max)
    }

    /// Makes names harmless and gives every file its place.
    pub(super) fn into_entries(self, mut renames: BTreeMap<usize, String>) -> Vec<FileEntry> {
        let mut offset = 0_u64;
        let mut number = 0;
        let mut entries: Vec<FileEntry> = Vec::with_capacity(self.count);
        entries.extend(self.files().map(|file| {
            let mut path = harmless(&file);
            if !file.pad {
                if let (Some(name), Some(last)) = (renames.remove(&number), path.last_mut()) {
                    *last = name;
                }
                number += 1;
            }
            let entry = FileEntry {
                path,
                offset,
                length: file.length,
                pad: file.pad,
                // Neither padding nor a link is run.
                executable: file.executable && !file.pad && !file.symlink,
                symlink: file.symlink && !file.pad,
                pieces_root: file.root,
            };
            offset = offset.saturating_add(file.length);
            entry
        }));
        entries
    }
}

fn harmless(file: &Described<'_>) -> Vec<String> {
    if file.pad {
        return vec![".pad".to_owned(), file.length.to_string()];
    }
    let path = file.path.iter();
    path.map(|component| path::sanitise(component)).collect()
}

/// The integer at `key`; an absent key is an error.
pub(super) fn int(dict: Dict<'_>, key: &'static str) -> Result<i64, MetainfoError> {
    dict.get(key.as_bytes())
        .ok_or(MetainfoError::Missing(key))?
        .as_int()
        .ok_or(MetainfoError::WrongType(key))
}

/// A file length: not negative.
pub(super) fn length(dict: Dict<'_>) -> Result<u64, MetainfoError> {
    let length = int(dict, "length")?;
    u64::try_from(length).map_err(|_| MetainfoError::FileLength(length))
}

/// `symlink path` of BEP 47.
pub(super) fn target(file: Dict<'_>) -> Option<List<'_>> {
    file.get(b"symlink path")?.as_list()
}

/// The string at `key.utf-8`, else at `key`; an absent key is an error.
pub(super) fn text<'a>(
    dict: Dict<'a>,
    key_utf8: &'static str,
    key: &'static str,
) -> Result<Value<'a>, MetainfoError> {
    dict.get(key_utf8.as_bytes())
        .or_else(|| dict.get(key.as_bytes()))
        .ok_or(MetainfoError::Missing(key))
}
