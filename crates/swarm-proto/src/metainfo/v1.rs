//! The v1 half of an info dictionary (BEP 3), with the attributes of BEP 47.

use super::MetainfoError;
use super::list::{Attributes, Described, FileList, Source, length, target, text};
use crate::bencode::{Dict, Value};

/// Bytes of a SHA-1 in `pieces`.
pub(super) const HASH_LEN: usize = 20;

/// Whether the dictionary describes files in the v1 way at all.
pub(super) fn is_described(info: Dict<'_>) -> bool {
    [&b"pieces"[..], b"files", b"length"]
        .iter()
        .any(|key| info.get(key).is_some())
}

/// Reads `length` or `files`.
///
/// A symlink (attribute `l`) has no length, and its target is not read: a link made by a stranger is
/// nothing that we follow or create. Pad files of the old style, ordinary files named
/// `_____padding_file…`, stay ordinary files.
pub(super) fn files<'a>(
    info: Dict<'a>,
    info_len: usize,
    name: &'a [u8],
) -> Result<FileList<'a>, MetainfoError> {
    let source = match (info.get(b"length"), info.get(b"files")) {
        (Some(_), None) => Source::Single(name, length(info)?, Attributes::of(info).executable),
        (None, Some(files)) => {
            Source::List(files.as_list().ok_or(MetainfoError::WrongType("files"))?)
        }
        _ => return Err(MetainfoError::LengthOrFiles),
    };
    FileList::new(source, info_len)
}

pub(super) fn one_file<'a>(file: Value<'a>) -> Result<Described<'a>, MetainfoError> {
    let file = file.as_dict().ok_or(MetainfoError::WrongType("files"))?;
    let attributes = Attributes::of(file);
    let length = match length(file) {
        // BEP 47 leaves a symlink without a length.
        Err(MetainfoError::Missing(_)) if attributes.symlink => 0,
        length => length?,
    };
    if attributes.symlink && length > 0 {
        return Err(MetainfoError::SymlinkContent);
    }
    let path = match text(file, "path.utf-8", "path") {
        // BEP 47: the path of a pad file may be anything, so it may be absent.
        Err(MetainfoError::Missing(_)) if attributes.pad => vec![&b".pad"[..]],
        path => path?
            .as_list()
            .ok_or(MetainfoError::WrongType("path"))?
            .iter()
            .map(|component| component.as_bytes().ok_or(MetainfoError::WrongType("path")))
            .collect::<Result<_, _>>()?,
    };
    Ok(Described {
        path,
        length,
        pad: attributes.pad,
        executable: attributes.executable,
        symlink: attributes.symlink,
        target: target(file),
        root: None,
    })
}

/// Reads `pieces`, whose length must be that of `piece_count` hashes.
pub(super) fn pieces<'a>(info: Dict<'a>, piece_count: u32) -> Result<&'a [u8], MetainfoError> {
    let pieces = info
        .get(b"pieces")
        .ok_or(MetainfoError::Missing("pieces"))?
        .as_bytes()
        .ok_or(MetainfoError::WrongType("pieces"))?;
    let expected = u64::from(piece_count) * HASH_LEN as u64;
    if pieces.len() as u64 != expected {
        return Err(MetainfoError::PiecesLength {
            expected,
            got: pieces.len(),
        });
    }
    Ok(pieces)
}
