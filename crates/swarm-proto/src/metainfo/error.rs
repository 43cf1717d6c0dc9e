//! What can be wrong with a metainfo file. Always the fault of whoever made it.

use crate::bencode::BencodeError;
use crate::geometry::GeometryError;

/// Why bytes are no metainfo that we take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetainfoError {
    /// Longer than [`METAINFO_LEN_MAX`](crate::limits::METAINFO_LEN_MAX).
    #[error("metainfo of {0} bytes is too long")]
    TooLong(usize),
    /// No bencode.
    #[error("metainfo is no bencode")]
    Bencode(#[from] BencodeError),
    /// A required key is not there.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// A key's value has another type than its BEP says.
    #[error("`{0}` has the wrong type")]
    WrongType(&'static str),
    /// A `meta version` that is neither 1 nor 2.
    #[error("meta version {0} is unknown")]
    Version(i64),
    /// A piece length out of bounds; of a v2 torrent also one that is no power of two.
    #[error("piece length of {0} bytes is out of bounds")]
    PieceLength(i64),
    /// Too many pieces.
    #[error(transparent)]
    Geometry(#[from] GeometryError),
    /// A v1 description has both `length` and `files`, or neither.
    #[error("a torrent has either `length` or `files`")]
    LengthOrFiles,
    /// A negative file length, or a total beyond 63 bits.
    #[error("file length {0} is out of bounds")]
    FileLength(i64),
    /// No file, or no byte in any.
    #[error("torrent without content")]
    Empty,
    /// More than [`FILES_MAX`](crate::limits::FILES_MAX) entries.
    #[error("too many files")]
    FileCount,
    /// A path of no component, longer than a path may be, or deeper than
    /// [`DIRECTORY_DEPTH_MAX`](crate::limits::DIRECTORY_DEPTH_MAX).
    #[error("a path is empty, too long or too deep")]
    Path,
    /// All paths together are far longer than the metainfo: a deep directory named once is shared
    /// by many files.
    #[error("paths take too much room")]
    PathsLength,
    /// More than [`DUPLICATE_NAMES_MAX`](crate::limits::DUPLICATE_NAMES_MAX) equal names.
    #[error("too many duplicate file names")]
    DuplicateNames,
    /// A symlink (BEP 47) that claims to have content.
    #[error("a symlink has content")]
    SymlinkContent,
    /// `pieces` does not hold one SHA-1 per piece.
    #[error("`pieces` has {got} bytes instead of {expected}")]
    PiecesLength {
        /// 20 bytes per piece.
        expected: u64,
        /// As found.
        got: usize,
    },
    /// A file tree whose keys are not sorted: piece numbers would depend on the reader.
    #[error("file tree is not sorted")]
    TreeOrder,
    /// A node of the file tree that is file and directory at once, or a file without a name.
    #[error("file tree is malformed")]
    TreeNode,
    /// A pad file in a file tree, where padding is implied.
    #[error("file tree has a pad file")]
    TreePad,
    /// A `pieces root` that is not 32 bytes, or zero, or absent, or that an empty file has.
    #[error("`pieces root` is malformed")]
    PiecesRoot,
    /// Two files of different length claim the same root.
    #[error("files of different length have one `pieces root`")]
    RootReused,
    /// A piece layer that does not hold one SHA-256 per piece of its file.
    #[error("piece layer has {got} bytes instead of {expected}")]
    LayerLength {
        /// 32 bytes per piece.
        expected: u64,
        /// As found.
        got: usize,
    },
    /// A piece layer that does not hash to the root it is filed under.
    #[error("piece layer does not belong to its root")]
    LayerRoot,
    /// A piece layer for a root that no file longer than one piece has.
    #[error("no file needs this piece layer")]
    LayerUnknown,
    /// A hybrid whose two descriptions differ.
    #[error("v1 and v2 descriptions differ")]
    Hybrid(#[from] HybridMismatch),
}

/// How the two descriptions of a hybrid differ.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HybridMismatch {
    /// One of them has more files.
    #[error("v1 lists {v1} files, v2 lists {v2}")]
    FileCount {
        /// Files of the v1 list, pad files not counted.
        v1: usize,
        /// Files of the v2 tree.
        v2: usize,
    },
    /// Names or order differ.
    #[error("file {0} has another path")]
    Path(usize),
    /// Lengths differ.
    #[error("file {0} has another length")]
    Length(usize),
    /// One of them says symlink.
    #[error("file {0} is a symlink in one of them")]
    Symlink(usize),
    /// A v1 file that doesn't begin where the v2 layout has it.
    #[error("file {0} is not padded to its piece")]
    Alignment(usize),
    /// Padding after the last file that is not up to the end of its piece.
    #[error("padding at the end is off")]
    TailPadding,
}
