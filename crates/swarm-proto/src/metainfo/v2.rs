//! The v2 half of an info dictionary: the file tree of BEP 52.

use super::MetainfoError;
use super::list::{Attributes, Described, FileList, Source, length, target};
use crate::bencode::{Dict, Entries, Value};
use crate::limits;
use crate::merkle::Hash;

/// `file tree`, padding implied: every file begins on a piece boundary.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tree<'a> {
    root: Dict<'a>,
    piece_length: u32,
    tail_padding: bool,
}

/// Reads `file tree`. A torrent that is v2 only has its last piece padded as well, as libtorrent
/// 2.0 lays it out.
pub(super) fn files<'a>(
    info: Dict<'a>,
    info_len: usize,
    piece_length: u32,
    tail_padding: bool,
) -> Result<FileList<'a>, MetainfoError> {
    let root = info
        .get(b"file tree")
        .ok_or(MetainfoError::Missing("file tree"))?
        .as_dict()
        .ok_or(MetainfoError::WrongType("file tree"))?;
    let tree = Tree {
        root,
        piece_length,
        tail_padding,
    };
    FileList::new(Source::Tree(tree), info_len)
}

impl<'a> Tree<'a> {
    /// A tree with one file at its root is a single-file torrent.
    pub(super) fn is_single(self) -> bool {
        let mut entries = self.root.iter();
        let only = entries.next().and_then(|(_, node)| node.as_dict());
        only.is_some_and(|node| node.get(b"").is_some()) && entries.next().is_none()
    }

    pub(super) fn walk(self) -> TreeWalk<'a> {
        TreeWalk {
            levels: vec![Level {
                entries: self.root.iter(),
                last: None,
            }],
            path: Vec::new(),
            piece_length: self.piece_length.max(1).into(),
            tail_padding: self.tail_padding,
            total: 0,
            waits: None,
        }
    }
}

/// A walk through a tree with a stack of its own, since its depth is a stranger's choice.
pub(super) struct TreeWalk<'a> {
    levels: Vec<Level<'a>>,
    path: Vec<&'a [u8]>,
    piece_length: u64,
    tail_padding: bool,
    total: u64,
    /// The file behind the padding that came last.
    waits: Option<Described<'a>>,
}

/// A directory on the way.
struct Level<'a> {
    entries: Entries<'a>,
    last: Option<&'a [u8]>,
}

impl<'a> Iterator for TreeWalk<'a> {
    type Item = Result<Described<'a>, MetainfoError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = match self.waits.take() {
            Some(file) => file,
            None => match self.file() {
                Ok(Some(file)) => match self.padding() {
                    Some(pad) => {
                        self.waits = Some(file);
                        pad
                    }
                    None => file,
                },
                Ok(None) if self.tail_padding => self.padding()?,
                Ok(None) => return None,
                Err(error) => return Some(Err(error)),
            },
        };
        self.total = self.total.saturating_add(next.length);
        Some(Ok(next))
    }
}

impl<'a> TreeWalk<'a> {
    /// The next file of the tree.
    fn file(&mut self) -> Result<Option<Described<'a>>, MetainfoError> {
        while let Some(level) = self.levels.last_mut() {
            let Some((name, node)) = level.entries.next() else {
                let behind = level.entries.behind().unwrap_or_default();
                self.levels.pop();
                self.path.pop();
                if let Some(above) = self.levels.last_mut() {
                    above.entries.resume(behind);
                }
                continue;
            };
            let node = node
                .as_dict()
                .ok_or(MetainfoError::WrongType("file tree"))?;
            if name.is_empty() {
                return Err(MetainfoError::TreeNode);
            }
            if level.last.is_some_and(|last| last >= name) {
                return Err(MetainfoError::TreeOrder);
            }
            level.last = Some(name);
            self.path.push(name);
            let mut inside = node.iter();
            if let Some((b"", file)) = inside.next() {
                if inside.next().is_some() {
                    return Err(MetainfoError::TreeNode);
                }
                level.entries.resume(inside.behind().unwrap_or_default());
                let file = one_file(file, &self.path)?;
                self.path.pop();
                return Ok(Some(file));
            }
            if self.levels.len() > limits::DIRECTORY_DEPTH_MAX {
                return Err(MetainfoError::Path);
            }
            self.levels.push(Level {
                entries: node.iter(),
                last: None,
            });
        }
        Ok(None)
    }

    /// Padding up to the next multiple of the piece length, if any is needed.
    fn padding(&self) -> Option<Described<'a>> {
        let end = self.total.checked_next_multiple_of(self.piece_length)?;
        let length = end.checked_sub(self.total).filter(|length| *length > 0)?;
        Some(Described {
            path: vec![b".pad", b""],
            length,
            pad: true,
            executable: false,
            symlink: false,
            target: None,
            root: None,
        })
    }
}

fn one_file<'a>(file: Value<'a>, path: &[&'a [u8]]) -> Result<Described<'a>, MetainfoError> {
    let file = file
        .as_dict()
        .ok_or(MetainfoError::WrongType("file tree"))?;
    let attributes = Attributes::of(file);
    if attributes.pad {
        return Err(MetainfoError::TreePad);
    }
    let length = match length(file) {
        Err(MetainfoError::Missing(_)) if attributes.symlink => 0,
        length => length?,
    };
    if attributes.symlink && length > 0 {
        return Err(MetainfoError::SymlinkContent);
    }
    let root = match file.get(b"pieces root") {
        None if length == 0 => None,
        None => return Err(MetainfoError::PiecesRoot),
        Some(root) => Some(
            root.as_bytes()
                .and_then(|root| Hash::try_from(root).ok())
                .filter(|root| length > 0 && *root != [0; 32])
                .ok_or(MetainfoError::PiecesRoot)?,
        ),
    };
    Ok(Described {
        path: path.to_vec(),
        length,
        pad: false,
        executable: attributes.executable,
        symlink: attributes.symlink,
        target: target(file),
        root,
    })
}
