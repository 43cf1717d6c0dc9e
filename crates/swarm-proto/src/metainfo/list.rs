//! A torrent's files as described, before names are made harmless: what v1 lists and v2 trees share.

use super::{FileEntry, MetainfoError, path};
use crate::bencode::{Dict, Value};
use crate::limits;
use crate::merkle::Hash;

/// One file as described.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Described<'a> {
    /// Components below the torrent's name; `.pad/<length>` for implied padding.
    pub(super) path: Vec<&'a [u8]>,
    pub(super) length: u64,
    pub(super) pad: bool,
    pub(super) symlink: bool,
    pub(super) root: Option<Hash>,
}

/// The files of one description, in order.
#[derive(Debug)]
pub(super) struct FileList<'a> {
    pub(super) files: Vec<Described<'a>>,
    /// The torrent is one file, not a directory.
    pub(super) single: bool,
    pub(super) total: u64,
    /// Room taken by paths; see [`FileList::push`].
    paths_len: usize,
    paths_len_max: usize,
}

/// `attr` of BEP 47, as far as it matters here.
pub(super) struct Attributes {
    pub(super) pad: bool,
    pub(super) symlink: bool,
}

impl Attributes {
    pub(super) fn of(file: &Dict<'_>) -> Self {
        let attr = file
            .get(b"attr")
            .and_then(Value::as_bytes)
            .unwrap_or_default();
        Self {
            pad: attr.contains(&b'p'),
            symlink: attr.contains(&b'l'),
        }
    }
}

impl<'a> FileList<'a> {
    /// `info_len` is the length of the info dictionary in bytes, which bounds the room for paths.
    pub(super) fn new(info_len: usize) -> Self {
        Self {
            files: Vec::new(),
            single: false,
            total: 0,
            paths_len: 0,
            // A path costs its bytes and some 32 per component. Honest trees stay below three
            // times the length of their description.
            paths_len_max: info_len.saturating_mul(8).saturating_add(1 << 16),
        }
    }

    /// Adds a file behind the others.
    pub(super) fn push(&mut self, file: Described<'a>) -> Result<(), MetainfoError> {
        if self.files.len() >= limits::FILES_MAX {
            return Err(MetainfoError::FileCount);
        }
        let len: usize = file.path.iter().map(|component| component.len() + 1).sum();
        if file.path.is_empty()
            || file.path.len() > limits::DIRECTORY_DEPTH_MAX + 1
            || len > limits::PATH_LEN_MAX
        {
            return Err(MetainfoError::Path);
        }
        self.paths_len += len + 32 * file.path.len();
        if self.paths_len > self.paths_len_max {
            return Err(MetainfoError::PathsLength);
        }
        self.total = self
            .total
            .checked_add(file.length)
            .filter(|total| i64::try_from(*total).is_ok())
            .ok_or(MetainfoError::FileLength(i64::MAX))?;
        self.files.push(file);
        Ok(())
    }

    /// Adds padding up to the next multiple of the piece length, if any is needed.
    pub(super) fn pad(&mut self, piece_length: u32) -> Result<(), MetainfoError> {
        let piece_length = u64::from(piece_length.max(1));
        let length = self.total.next_multiple_of(piece_length) - self.total;
        if length == 0 {
            return Ok(());
        }
        // The path is filled in by `into_entries`, which knows the length of every pad file.
        self.push(Described {
            path: vec![b".pad", b""],
            length,
            pad: true,
            symlink: false,
            root: None,
        })
    }

    /// Makes names harmless and gives every file its place.
    pub(super) fn into_entries(self) -> Result<Vec<FileEntry>, MetainfoError> {
        let mut offset = 0_u64;
        let mut entries: Vec<FileEntry> = Vec::with_capacity(self.files.len());
        for file in self.files {
            let path = if file.pad {
                vec![".pad".to_owned(), file.length.to_string()]
            } else {
                file.path
                    .iter()
                    .map(|component| path::sanitise(component))
                    .collect()
            };
            entries.push(FileEntry {
                path,
                offset,
                length: file.length,
                pad: file.pad,
                pieces_root: file.root,
            });
            offset = offset.saturating_add(file.length);
        }
        path::tell_apart(entries.iter_mut().filter(|e| !e.pad).map(|e| &mut e.path))?;
        Ok(entries)
    }
}

/// The integer at `key`; an absent key is an error.
pub(super) fn int(dict: &Dict<'_>, key: &'static str) -> Result<i64, MetainfoError> {
    dict.get(key.as_bytes())
        .ok_or(MetainfoError::Missing(key))?
        .as_int()
        .ok_or(MetainfoError::WrongType(key))
}

/// A file length: not negative.
pub(super) fn length(dict: &Dict<'_>) -> Result<u64, MetainfoError> {
    let length = int(dict, "length")?;
    u64::try_from(length).map_err(|_| MetainfoError::FileLength(length))
}

/// The string at `key.utf-8`, else at `key`; an absent key is an error.
pub(super) fn text<'v, 'a>(
    dict: &'v Dict<'a>,
    key_utf8: &'static str,
    key: &'static str,
) -> Result<&'v Value<'a>, MetainfoError> {
    dict.get(key_utf8.as_bytes())
        .or_else(|| dict.get(key.as_bytes()))
        .ok_or(MetainfoError::Missing(key))
}
