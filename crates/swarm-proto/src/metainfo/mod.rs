//! Metainfo: v1 (BEP 3), v2 (BEP 52) or hybrid, already checked.
//!
//! To hold a [`Metainfo`] means: its lengths agree with each other and with [`limits`], its names
//! are harmless, its piece layers (those that are known) hash to their roots, and the two halves of
//! a hybrid describe the same files. The raw info dictionary is kept byte for byte, so keys that
//! this module doesn't know (`source`, say) survive and info hashes are those of the author.
//!
//! Deliberately absent: anything that resolves a URL or a name on a disk.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;

use crate::bencode::{self, Dict, Rules, Value};
use crate::geometry::{ByteRange, Geometry, PieceIndex};
use crate::id::{InfoHashV1, InfoHashV2, SwarmId};
use crate::limits;
use crate::merkle::{self, Hash};

mod alias;
mod build;
mod error;
mod hasher;
mod hybrid;
mod links;
mod list;
mod outer;
pub mod path;
mod v1;
mod v2;

#[cfg(test)]
mod tests;

pub use build::{BuildError, MetainfoBuilder, piece_length_for};
pub use error::{HybridMismatch, MetainfoError};
pub use hasher::{FileHasher, FileHashes};
pub use outer::{is_tracker_url, is_web_seed_url};

use list::FileList;

pub use crate::magnet::Magnet;

/// Which descriptions a torrent carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// BEP 3 only.
    V1,
    /// BEP 52 only.
    V2,
    /// Both, describing the same files.
    Hybrid,
}

/// One file of a torrent, or padding between files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    /// Harmless components below [`Metainfo::name`]; of a single-file torrent the file's name only.
    pub path: Vec<String>,
    /// First byte within the torrent's content.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
    /// Padding (BEP 47): zeros that no disk needs to hold.
    pub pad: bool,
    /// A program to be run (BEP 47, attribute `x`), as both halves of a hybrid say.
    pub executable: bool,
    /// A symlink (BEP 47, attribute `l`), without bytes and never to be made: where it leads is a
    /// stranger's choice. See [`Metainfo::symlink_targets`].
    pub symlink: bool,
    /// Root of the file's tree (BEP 52). `None` for v1 torrents, padding and empty files.
    pub pieces_root: Option<Hash>,
}

impl FileEntry {
    /// Its bytes within the torrent's content.
    pub fn range(&self) -> ByteRange {
        ByteRange {
            start: self.offset,
            end: self.offset.saturating_add(self.length),
        }
    }
}

/// A part of one file that lies in a given range of the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileSpan {
    /// Index into [`Metainfo::files`].
    pub file: usize,
    /// First byte within the file.
    pub offset: u64,
    /// Bytes, never zero.
    pub length: u64,
    /// Whether the file is padding.
    pub pad: bool,
}

/// What BEP 52 says of one piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PieceTree {
    /// Index into [`Metainfo::files`] of the only file with content in the piece.
    pub file: usize,
    /// Bytes of that file in the piece; what follows them is padding.
    pub data_len: u32,
    /// Levels from the blocks to `root`.
    pub height: u32,
    /// The expected root; `None` as long as the file's piece layer is missing.
    pub root: Option<Hash>,
}

/// A checked torrent description. Clones share the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metainfo {
    kind: Kind,
    info_hash_v1: Option<InfoHashV1>,
    info_hash_v2: Option<InfoHashV2>,
    alias_id: Option<SwarmId>,
    name: String,
    single: bool,
    private: bool,
    files: Vec<FileEntry>,
    geometry: Geometry,
    raw_info: Bytes,
    /// Where `pieces` lies in `raw_info`; empty for v2.
    v1_pieces: Range<usize>,
    /// Roots of all files longer than one piece, with their layers where known.
    layers: BTreeMap<Hash, Layer>,
    trackers: outer::Tiers,
    web_seeds: Vec<String>,
}

/// The piece layer of one root.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Layer {
    /// Length of the file.
    length: u64,
    /// Number of its pieces.
    pieces: u64,
    /// One hash per piece, checked against the root.
    hashes: Option<Bytes>,
}

impl Metainfo {
    /// Reads a .torrent file.
    ///
    /// Piece layers may be missing, as libtorrent allows: [`missing_layers`](Self::missing_layers)
    /// names them. Those that are there must be right.
    ///
    /// # Errors
    /// [`MetainfoError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, MetainfoError> {
        if bytes.len() > limits::METAINFO_LEN_MAX {
            return Err(MetainfoError::TooLong(bytes.len()));
        }
        let value = bencode::decode(bytes, &Rules::METAINFO)?;
        let torrent = value.as_dict().ok_or(MetainfoError::WrongType("torrent"))?;
        let info = torrent.get(b"info").ok_or(MetainfoError::Missing("info"))?;
        let info = info.as_dict().ok_or(MetainfoError::WrongType("info"))?;
        let mut meta = Self::of_dict(info, torrent.get(b"piece layers"))?;
        meta.trackers = outer::trackers(torrent);
        meta.web_seeds = outer::web_seeds(torrent);
        Ok(meta)
    }

    /// Reads the exact bytes of an info dictionary, as peers send it (BEP 9). It has no trackers,
    /// web seeds or piece layers yet.
    ///
    /// Whether it is the one that was asked for, its info hash tells; compare it.
    ///
    /// # Errors
    /// [`MetainfoError`].
    pub fn from_info(raw_info: &[u8]) -> Result<Self, MetainfoError> {
        if raw_info.len() > limits::INFO_LEN_MAX {
            return Err(MetainfoError::TooLong(raw_info.len()));
        }
        let value = bencode::decode(raw_info, &Rules::METAINFO)?;
        let info = value.as_dict().ok_or(MetainfoError::WrongType("info"))?;
        Self::of_dict(info, None)
    }

    /// All that can be wrong is found before anything is kept, so that what is refused costs less
    /// than twice its length (T3).
    fn of_dict(info: Dict<'_>, layers: Option<Value<'_>>) -> Result<Self, MetainfoError> {
        let raw = info.raw();
        let kind = kind_of(info)?;
        let piece_length = piece_length(info, kind)?;
        let name = list::text(info, "name.utf-8", "name")?
            .as_bytes()
            .ok_or(MetainfoError::WrongType("name"))?;
        let list = match kind {
            Kind::V1 => v1::files(info, raw.len(), name)?,
            Kind::V2 => v2::files(info, raw.len(), piece_length, true)?,
            Kind::Hybrid => {
                let v2 = v2::files(info, raw.len(), piece_length, false)?;
                hybrid::join(v1::files(info, raw.len(), name)?, &v2, piece_length)?
            }
        };
        if list.total == 0 {
            return Err(MetainfoError::Empty);
        }
        // BEP 52 calls `name` advisory; libtorrent lets a lone file at the root of the tree be named by
        // the tree.
        let single = list.is_single();
        let name = match list.files().next() {
            Some(file) if single => file.path.first().copied().unwrap_or(name),
            _ => name,
        };
        let geometry = Geometry::new(piece_length, list.total)?;
        let v1_pieces = match kind {
            Kind::V2 => 0..0,
            Kind::V1 | Kind::Hybrid => {
                let pieces = v1::pieces(info, geometry.piece_count())?;
                // `pieces` borrows from `raw`, so the difference is where it lies.
                let start = (pieces.as_ptr() as usize).saturating_sub(raw.as_ptr() as usize);
                start..start + pieces.len()
            }
        };
        let renames = list.renames(raw.len())?;
        let mut wanted = wanted_layers(&list, piece_length)?;
        if let Some(found) = layers.filter(|_| kind != Kind::V1) {
            let found = found
                .as_dict()
                .ok_or(MetainfoError::WrongType("piece layers"))?;
            read_layers(&mut wanted, found, merkle::piece_level(piece_length))?;
        }
        Ok(Self {
            kind,
            info_hash_v1: (kind != Kind::V2).then(|| InfoHashV1::of_info(raw)),
            info_hash_v2: (kind != Kind::V1).then(|| InfoHashV2::of_info(raw)),
            alias_id: (kind == Kind::Hybrid).then(|| alias::without_empty_keys(info)),
            name: path::sanitise(name),
            single,
            private: info.get(b"private").and_then(Value::as_int) == Some(1),
            files: list.into_entries(renames),
            geometry,
            raw_info: Bytes::copy_from_slice(raw),
            v1_pieces,
            layers: wanted,
            trackers: outer::Tiers::default(),
            web_seeds: Vec::new(),
        })
    }

    /// Adds the piece layer of every file with that root.
    ///
    /// # Errors
    /// [`MetainfoError::LayerUnknown`], [`MetainfoError::LayerLength`] or
    /// [`MetainfoError::LayerRoot`]: nothing was changed, and whoever sent the layer lied.
    pub fn set_piece_layer(&mut self, root: Hash, layer: Vec<Hash>) -> Result<(), MetainfoError> {
        let level = merkle::piece_level(self.geometry.piece_length());
        let wanted = self
            .layers
            .get_mut(&root)
            .ok_or(MetainfoError::LayerUnknown)?;
        let hashes = Bytes::from(layer.into_flattened());
        wanted.check(&root, level, &hashes)?;
        wanted.hashes = Some(hashes);
        Ok(())
    }

    /// Roots whose piece layer isn't known yet. Only files longer than one piece have a layer.
    pub fn missing_layers(&self) -> impl Iterator<Item = Hash> + '_ {
        self.layers
            .iter()
            .filter(|(_, layer)| layer.hashes.is_none())
            .map(|(root, _)| *root)
    }

    /// The piece layer of the files with that root: one hash per piece.
    pub fn piece_layer(&self, root: Hash) -> Option<&[Hash]> {
        let hashes = self.layers.get(&root)?.hashes.as_ref()?;
        Some(hashes.as_chunks().0)
    }

    /// Which descriptions it carries.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// SHA-1 of the info dictionary, unless it is v2 only.
    pub fn info_hash_v1(&self) -> Option<InfoHashV1> {
        self.info_hash_v1
    }

    /// The id under which aria2 looks for this torrent, if it is a hybrid: its own miscalculation
    /// of the v1 info hash, which a peer or tracker that is to be found by it must answer to.
    pub fn alias_id(&self) -> Option<SwarmId> {
        self.alias_id
    }

    /// SHA-256 of the info dictionary, unless it is v1 only.
    pub fn info_hash_v2(&self) -> Option<InfoHashV2> {
        self.info_hash_v2
    }

    /// The swarms it is found in, v1 first.
    pub fn swarm_ids(&self) -> Vec<SwarmId> {
        let v1 = self.info_hash_v1.map(|hash| hash.swarm_id());
        let v2 = self.info_hash_v2.map(|hash| hash.swarm_id());
        v1.into_iter().chain(v2).collect()
    }

    /// The torrent's name, harmless: the directory above its files.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is one file and no directory; then [`FileEntry::path`] is the
    /// [`name`](Self::name) itself, not below it.
    pub fn is_single_file(&self) -> bool {
        self.single
    }

    /// Files and padding, in the order of their bytes.
    pub fn files(&self) -> &[FileEntry] {
        &self.files
    }

    /// Where pieces lie.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// The exact bytes of the info dictionary.
    pub fn raw_info(&self) -> &Bytes {
        &self.raw_info
    }

    /// Tracker URLs, the first tier first, without duplicates.
    pub fn trackers(&self) -> &[String] {
        &self.trackers.urls
    }

    /// The same in tiers (BEP 12), none of them empty.
    pub fn tracker_tiers(&self) -> impl Iterator<Item = &[String]> {
        self.trackers.iter()
    }

    /// Web seed URLs (BEP 19).
    pub fn web_seeds(&self) -> &[String] {
        &self.web_seeds
    }

    /// Whether peers may come from its trackers only (BEP 27).
    pub fn is_private(&self) -> bool {
        self.private
    }

    /// Replaces the trackers; each becomes a tier of its own. The info hashes stay.
    #[must_use]
    pub fn set_trackers(mut self, trackers: impl IntoIterator<Item = String>) -> Self {
        self.trackers = outer::Tiers::in_turn(trackers);
        self
    }

    /// Replaces the web seeds. The info hashes stay.
    #[must_use]
    pub fn set_web_seeds(mut self, web_seeds: impl IntoIterator<Item = String>) -> Self {
        self.web_seeds = outer::bounded(web_seeds, limits::WEB_SEEDS_MAX);
        self
    }

    /// A link that names the torrent, its trackers and web seeds.
    pub fn magnet(&self) -> Magnet {
        Magnet {
            v1: self.info_hash_v1,
            v2: self.info_hash_v2,
            name: Some(self.name.clone()),
            trackers: self.trackers.urls.clone(),
            web_seeds: self.web_seeds.clone(),
            peers: Vec::new(),
            select_only: Vec::new(),
        }
    }

    /// A .torrent file: the info dictionary as it was found, with trackers, web seeds and layers.
    pub fn to_bytes(&self) -> Vec<u8> {
        outer::write(self)
    }

    /// SHA-1 of the piece, padding included; `None` for v2.
    pub fn v1_hash(&self, piece: PieceIndex) -> Option<[u8; 20]> {
        let pieces = self.raw_info.get(self.v1_pieces.clone())?;
        pieces.as_chunks().0.get(piece.get() as usize).copied()
    }

    /// Root of the piece's subtree; `None` for v1, and where the file's layer is missing. Its
    /// height is in [`piece_tree`](Self::piece_tree).
    pub fn v2_root(&self, piece: PieceIndex) -> Option<Hash> {
        self.piece_tree(piece)?.root
    }

    /// The only file with content in the piece, as an index into [`files`](Self::files); `None` for
    /// v1 torrents, whose pieces may span files.
    pub fn file_of(&self, piece: PieceIndex) -> Option<usize> {
        self.piece_tree(piece).map(|tree| tree.file)
    }

    /// What BEP 52 says of the piece; `None` for v1.
    pub fn piece_tree(&self, piece: PieceIndex) -> Option<PieceTree> {
        if self.kind == Kind::V1 {
            return None;
        }
        let range = self.geometry.piece_range(piece);
        let (index, file) = self
            .files
            .iter()
            .enumerate()
            .skip(self.first_file_past(range.start))
            .find(|(_, file)| file.length > 0)?;
        let root = file.pieces_root?;
        let piece_length = u64::from(self.geometry.piece_length());
        let data_len = u32::try_from(range.intersect(&file.range()).len()).ok()?;
        if file.length <= piece_length {
            let height = merkle::height(merkle::block_count(file.length));
            return Some(PieceTree {
                file: index,
                data_len,
                height,
                root: Some(root),
            });
        }
        // Files begin on piece boundaries, so this is exact.
        let nth = range.start.saturating_sub(file.offset) / piece_length;
        let layer = self.piece_layer(root);
        Some(PieceTree {
            file: index,
            data_len,
            height: merkle::piece_level(self.geometry.piece_length()),
            root: layer.and_then(|layer| layer.get(usize::try_from(nth).ok()?).copied()),
        })
    }

    /// The parts of files, padding among them, that make up a range; what lies past the end is
    /// ignored. Empty files have no part.
    pub fn spans(&self, range: &ByteRange) -> impl Iterator<Item = FileSpan> + '_ {
        let range = *range;
        self.files
            .iter()
            .enumerate()
            .skip(self.first_file_past(range.start))
            .take_while(move |(_, file)| file.offset < range.end)
            .filter_map(move |(index, file)| {
                let part = file.range().intersect(&range);
                (!part.is_empty()).then(|| FileSpan {
                    file: index,
                    offset: part.start - file.offset,
                    length: part.len(),
                    pad: file.pad,
                })
            })
    }

    /// Bytes of the range up to the last one that is not padding.
    pub fn content(&self, range: &ByteRange) -> u64 {
        let (mut end, mut content) = (0, 0);
        for span in self.spans(range) {
            end += span.length;
            if !span.pad {
                content = end;
            }
        }
        content
    }

    /// Whether the range has bytes and all of them are padding.
    pub fn is_pad(&self, range: &ByteRange) -> bool {
        let mut length = 0;
        for span in self.spans(range) {
            if !span.pad {
                return false;
            }
            length += span.length;
        }
        length > 0 && length == range.len()
    }

    /// The first file that ends past the byte.
    fn first_file_past(&self, offset: u64) -> usize {
        self.files
            .partition_point(|file| file.range().end <= offset)
    }
}

impl Layer {
    fn check(&self, root: &Hash, level: u32, hashes: &[u8]) -> Result<(), MetainfoError> {
        let (layer, rest) = hashes.as_chunks();
        if layer.len() as u64 != self.pieces || !rest.is_empty() {
            let expected = self.pieces.saturating_mul(size_of::<Hash>() as u64);
            return Err(MetainfoError::LayerLength {
                expected,
                got: hashes.len(),
            });
        }
        if merkle::root_of_layer(layer, level) != *root {
            return Err(MetainfoError::LayerRoot);
        }
        Ok(())
    }
}

/// Takes the layers of a .torrent's `piece layers`, once all of them are right. Those of unknown
/// roots are ignored.
fn read_layers(
    wanted: &mut BTreeMap<Hash, Layer>,
    found: Dict<'_>,
    level: u32,
) -> Result<(), MetainfoError> {
    for (root, value) in found.iter() {
        let Some((root, layer)) = wanted.get_key_value(root) else {
            continue;
        };
        let hashes = value
            .as_bytes()
            .ok_or(MetainfoError::WrongType("piece layers"))?;
        layer.check(root, level, hashes)?;
    }
    for (root, value) in found.iter() {
        if let Some(layer) = wanted.get_mut(root) {
            layer.hashes = value.as_bytes().map(Bytes::copy_from_slice);
        }
    }
    Ok(())
}

/// Tells the kind: `meta version` 2 makes it v2, any trace of a v1 description beside that hybrid.
fn kind_of(info: Dict<'_>) -> Result<Kind, MetainfoError> {
    let version = match info.get(b"meta version") {
        None => 1,
        Some(version) => version
            .as_int()
            .ok_or(MetainfoError::WrongType("meta version"))?,
    };
    match version {
        1 => Ok(Kind::V1),
        2 if v1::is_described(info) => Ok(Kind::Hybrid),
        2 => Ok(Kind::V2),
        _ => Err(MetainfoError::Version(version)),
    }
}

fn piece_length(info: Dict<'_>, kind: Kind) -> Result<u32, MetainfoError> {
    let length = list::int(info, "piece length")?;
    let min = match kind {
        Kind::V1 => limits::PIECE_LENGTH_MIN_V1,
        Kind::V2 | Kind::Hybrid => limits::PIECE_LENGTH_MIN_V2,
    };
    u32::try_from(length)
        .ok()
        .filter(|length| (min..=limits::PIECE_LENGTH_MAX).contains(length))
        .filter(|length| kind == Kind::V1 || length.is_power_of_two())
        .ok_or(MetainfoError::PieceLength(length))
}

/// The layers that a list of files needs.
fn wanted_layers(
    list: &FileList<'_>,
    piece_length: u32,
) -> Result<BTreeMap<Hash, Layer>, MetainfoError> {
    let piece_length = u64::from(piece_length);
    let long = list.files().filter(|file| file.length > piece_length);
    let mut roots: Vec<(Hash, u64)> = long
        .filter_map(|file| Some((file.root?, file.length)))
        .collect();
    roots.sort_unstable();
    roots.dedup();
    let reused = |pair: &[(Hash, u64)]| matches!(pair, [a, b] if a.0 == b.0);
    if roots.windows(2).any(reused) {
        return Err(MetainfoError::RootReused);
    }
    let layers = roots.into_iter().map(|(root, length)| {
        let layer = Layer {
            length,
            pieces: length.div_ceil(piece_length),
            hashes: None,
        };
        (root, layer)
    });
    Ok(layers.collect())
}
