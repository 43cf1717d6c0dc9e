//! Files in, hybrid .torrent out.
//!
//! The result is byte for byte what libtorrent makes of the same files with
//! `canonical_files_no_tail_padding`: v2 tree order, every file with content on a piece boundary, a
//! pad file before it where needed (BEP 47), no padding at the end.

use std::collections::BTreeMap;

use super::{FileHashes, Metainfo, MetainfoError, path};
use crate::bencode::Item;
use crate::limits;

/// Why files make no torrent. The fault of the caller, or of the names on its disk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// Not a power of two from 16 KiB to 64 MiB, or a file was hashed for another one.
    #[error("piece length {0} is no power of two from 16 KiB on, or not that of the files")]
    PieceLength(u32),
    /// A name that no reader would take as it is.
    #[error("{0:?} cannot be a name in a torrent")]
    Name(String),
    /// A path was given twice, or is the directory of another one.
    #[error("{0:?} is named twice, or is a directory too")]
    Duplicate(String),
    /// Whatever else a reader would refuse: no content, too many pieces, too many files.
    #[error("these files make no torrent")]
    Refused(#[from] MetainfoError),
}

/// A file of the torrent to be.
#[derive(Debug, Clone)]
struct BuildFile {
    path: Vec<String>,
    hashes: FileHashes,
    executable: bool,
}

impl BuildFile {
    fn attributes(&self) -> Option<(&'static str, Item)> {
        self.executable.then(|| ("attr", Item::bytes("x")))
    }
}

/// Collects files, then makes a hybrid torrent of them.
#[derive(Debug, Clone)]
pub struct MetainfoBuilder {
    name: String,
    piece_length: u32,
    files: Vec<BuildFile>,
    trackers: Vec<String>,
    web_seeds: Vec<String>,
}

impl MetainfoBuilder {
    /// `name` is the directory above the files; `piece_length` is that of their hashes.
    pub fn new(name: impl Into<String>, piece_length: u32) -> Self {
        Self {
            name: name.into(),
            piece_length,
            files: Vec::new(),
            trackers: Vec::new(),
            web_seeds: Vec::new(),
        }
    }

    /// Adds a file; the order of calls doesn't matter.
    pub fn file(&mut self, path: Vec<String>, hashes: FileHashes) -> &mut Self {
        self.files.push(BuildFile {
            path,
            hashes,
            executable: false,
        });
        self
    }

    /// [`Self::file`] for a program: it gets the attribute `x` (BEP 47), so that clients who heed
    /// it make it executable. It is a part of the info hashes.
    pub fn executable(&mut self, path: Vec<String>, hashes: FileHashes) -> &mut Self {
        self.files.push(BuildFile {
            path,
            hashes,
            executable: true,
        });
        self
    }

    /// Adds a tracker.
    pub fn tracker(&mut self, url: impl Into<String>) -> &mut Self {
        self.trackers.push(url.into());
        self
    }

    /// Adds a web seed (BEP 19).
    pub fn web_seed(&mut self, url: impl Into<String>) -> &mut Self {
        self.web_seeds.push(url.into());
        self
    }

    /// Makes the torrent.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn build(&self) -> Result<Metainfo, BuildError> {
        let lengths = limits::PIECE_LENGTH_MIN_V2..=limits::PIECE_LENGTH_MAX;
        if !self.piece_length.is_power_of_two() || !lengths.contains(&self.piece_length) {
            return Err(BuildError::PieceLength(self.piece_length));
        }
        check_name(&self.name)?;

        // Order of components, not of whole paths: that of the file tree.
        let mut files: BTreeMap<&[String], &BuildFile> = BTreeMap::new();
        for file in &self.files {
            let BuildFile { path, hashes, .. } = file;
            if hashes.piece_length != self.piece_length {
                return Err(BuildError::PieceLength(hashes.piece_length));
            }
            path.iter()
                .try_for_each(|component| check_name(component))?;
            if path.is_empty() || files.insert(path, file).is_some() {
                return Err(BuildError::Duplicate(path.join("/")));
            }
        }
        for (path, next) in files.keys().zip(files.keys().skip(1)) {
            // A directory sorts right behind a file of its name.
            if next.starts_with(path) {
                return Err(BuildError::Duplicate(path.join("/")));
            }
        }

        let (list, pieces) = self.v1_list(&files);
        let info = Item::dict([
            ("file tree", tree(&files)),
            ("files", list),
            ("meta version", Item::int(2)),
            ("name", Item::bytes(&self.name)),
            ("piece length", Item::int(self.piece_length.into())),
            ("pieces", Item::bytes(pieces.as_flattened())),
        ]);
        let mut meta = Metainfo::from_info(&info.to_bytes())?
            .set_trackers(self.trackers.iter().cloned())
            .set_web_seeds(self.web_seeds.iter().cloned());
        let hashed = files.values().map(|file| &file.hashes);
        for hashes in hashed.filter(|hashes| !hashes.layer.is_empty()) {
            meta.set_piece_layer(hashes.pieces_root, hashes.layer.clone())?;
        }
        let len = meta.to_bytes().len();
        if len > limits::METAINFO_LEN_MAX {
            return Err(MetainfoError::TooLong(len).into());
        }
        Ok(meta)
    }

    /// The v1 `files`, pad files among them, and `pieces`.
    fn v1_list(&self, files: &BTreeMap<&[String], &BuildFile>) -> (Item, Vec<[u8; 20]>) {
        let piece_length = u64::from(self.piece_length);
        let mut list = Vec::new();
        let mut pieces: Vec<[u8; 20]> = Vec::new();
        let mut last: Option<&FileHashes> = None;
        let mut total = 0_u64;
        for (path, file) in files {
            let hashes = &file.hashes;
            let padding = total.next_multiple_of(piece_length) - total;
            // An empty file needs no boundary.
            if padding > 0 && hashes.length > 0 {
                list.push(Item::dict([
                    ("attr", Item::bytes("p")),
                    ("length", length_item(padding)),
                    (
                        "path",
                        Item::list([Item::bytes(".pad"), Item::bytes(padding.to_string())]),
                    ),
                ]));
                if let (Some(piece), Some(hashes)) = (pieces.last_mut(), last) {
                    *piece = hashes.v1_last_padded;
                }
                total += padding;
            }
            let mut entry = vec![
                ("length", length_item(hashes.length)),
                ("path", Item::list(path.iter().map(Item::bytes))),
            ];
            entry.extend(file.attributes());
            list.push(Item::dict(entry));
            total = total.saturating_add(hashes.length);
            pieces.extend_from_slice(&hashes.v1);
            if hashes.length > 0 {
                last = Some(hashes);
            }
        }
        (Item::list(list), pieces)
    }
}

/// The v2 `file tree`.
fn tree(files: &BTreeMap<&[String], &BuildFile>) -> Item {
    let mut root = BTreeMap::new();
    for (path, described) in files {
        let hashes = &described.hashes;
        let mut file = vec![("length", length_item(hashes.length))];
        if hashes.length > 0 {
            file.push(("pieces root", Item::bytes(hashes.pieces_root)));
        }
        file.extend(described.attributes());
        let mut directory = &mut root;
        for component in *path {
            let node = directory
                .entry(component.as_bytes().to_vec())
                .or_insert_with(|| Item::Dict(BTreeMap::new()));
            match node {
                Item::Dict(below) => directory = below,
                Item::Int(_) | Item::Bytes(_) | Item::List(_) => {
                    return Item::dict([("", Item::int(0))]);
                }
            }
        }
        directory.insert(Vec::new(), Item::dict(file));
    }
    Item::Dict(root)
}

/// Lengths of real files fit; one that doesn't is refused when the result is read back.
fn length_item(length: u64) -> Item {
    Item::int(i64::try_from(length).unwrap_or(-1))
}

/// Device names of Windows are let through: a site may well have a page `aux.html`, and readers
/// rename it where they must.
fn check_name(name: &str) -> Result<(), BuildError> {
    let sane = path::sanitise(name.as_bytes());
    let is_device = !name.is_empty() && sane.strip_prefix('_') == Some(name);
    if sane == name || is_device {
        Ok(())
    } else {
        Err(BuildError::Name(name.to_owned()))
    }
}

/// The piece length for so many bytes: a power of two from 16 KiB to 16 MiB that makes at most
/// 2,048 pieces, as far as 16 MiB allows. Small pieces reach other peers sooner.
pub fn piece_length_for(total: u64) -> u32 {
    const PIECES_WANTED: u64 = 2048;
    const LENGTH_MAX: u32 = 16 << 20;
    let wanted = total.div_ceil(PIECES_WANTED).next_power_of_two();
    u32::try_from(wanted)
        .unwrap_or(LENGTH_MAX)
        .clamp(limits::PIECE_LENGTH_MIN_V2, LENGTH_MAX)
}
