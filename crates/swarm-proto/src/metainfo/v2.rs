//! The v2 half of an info dictionary: the file tree of BEP 52.

use super::MetainfoError;
use super::list::{Attributes, Described, FileList, length};
use crate::bencode::{Dict, Value};
use crate::limits;
use crate::merkle::Hash;

/// Reads `file tree`, padding implied: every file begins on a piece boundary.
///
/// The tree is walked with a stack of its own, since its depth is a stranger's choice. A torrent
/// that is v2 only has its last piece padded as well, as libtorrent 2.0 lays it out.
pub(super) fn files<'a>(
    info: &Dict<'a>,
    piece_length: u32,
    tail_padding: bool,
) -> Result<FileList<'a>, MetainfoError> {
    let tree = info
        .get(b"file tree")
        .ok_or(MetainfoError::Missing("file tree"))?
        .as_dict()
        .ok_or(MetainfoError::WrongType("file tree"))?;
    let mut list = FileList::new(info.raw().len());
    list.single = is_single(tree);

    let mut path: Vec<&'a [u8]> = Vec::new();
    let mut stack: Vec<(&Dict<'a>, usize)> = vec![(tree, 0)];
    while let Some((directory, at)) = stack.last_mut() {
        let Some((name, node)) = directory.nth(*at) else {
            stack.pop();
            path.pop();
            continue;
        };
        if *at == 0 && !directory.is_sorted() {
            return Err(MetainfoError::TreeOrder);
        }
        *at += 1;
        let node = node
            .as_dict()
            .ok_or(MetainfoError::WrongType("file tree"))?;
        if name.is_empty() {
            return Err(MetainfoError::TreeNode);
        }
        path.push(name);
        match node.get(b"") {
            Some(file) if node.len() == 1 => {
                let file = one_file(file, &path)?;
                list.pad(piece_length)?;
                list.push(file)?;
                path.pop();
            }
            Some(_) => return Err(MetainfoError::TreeNode),
            None => {
                if stack.len() > limits::DIRECTORY_DEPTH_MAX {
                    return Err(MetainfoError::Path);
                }
                stack.push((node, 0));
            }
        }
    }
    if tail_padding {
        list.pad(piece_length)?;
    }
    Ok(list)
}

/// A tree with one file at its root is a single-file torrent.
fn is_single(tree: &Dict<'_>) -> bool {
    let only = tree.nth(0).and_then(|(_, node)| node.as_dict());
    tree.len() == 1 && only.is_some_and(|node| node.get(b"").is_some())
}

fn one_file<'a>(file: &Value<'a>, path: &[&'a [u8]]) -> Result<Described<'a>, MetainfoError> {
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
        symlink: attributes.symlink,
        root,
    })
}
