//! Hashes one file for a hybrid torrent in one pass over its bytes.

use sha1::{Digest as _, Sha1};
use sha2::Sha256;

use crate::geometry::BLOCK_LEN;
use crate::id::Digest;
use crate::merkle::{self, Hash};

/// What a hybrid torrent needs to know of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileHashes {
    /// Bytes per piece that the hashes were made for.
    pub piece_length: u32,
    /// Bytes.
    pub length: u64,
    /// SHA-256 of the whole content.
    pub digest: Digest,
    /// Root of the file's tree (BEP 52); zero for an empty file.
    pub pieces_root: Hash,
    /// Piece layer; empty unless the file is longer than one piece.
    pub layer: Vec<Hash>,
    /// SHA-1 of each piece of the file as if it began a torrent, the last one without padding.
    pub v1: Vec<[u8; 20]>,
    /// SHA-1 of the last piece filled up with zeros; the same as the last of `v1` where the file
    /// fills it. Zero for an empty file.
    pub v1_last_padded: [u8; 20],
}

/// Takes a file's bytes and makes its [`FileHashes`]. Holds the hashes of one piece's blocks and
/// one hash per piece, no content.
#[derive(Debug, Clone)]
pub struct FileHasher {
    piece_length: u32,
    length: u64,
    whole: Sha256,
    block: Sha256,
    piece: Sha1,
    /// Bytes in `block`, below [`BLOCK_LEN`].
    block_len: u32,
    /// Bytes in `piece`, below `piece_length`.
    piece_len: u32,
    leaves: Vec<Hash>,
    layer: Vec<Hash>,
    v1: Vec<[u8; 20]>,
}

impl FileHasher {
    /// For pieces of that many bytes.
    ///
    /// # Panics
    /// Unless `piece_length` is a power of two of at least 16 KiB, which the caller chooses, with
    /// [`piece_length_for`](super::piece_length_for) for instance.
    pub fn new(piece_length: u32) -> Self {
        assert!(
            piece_length.is_power_of_two() && piece_length >= BLOCK_LEN,
            "piece length of a v2 torrent"
        );
        Self {
            piece_length,
            length: 0,
            whole: Sha256::new(),
            block: Sha256::new(),
            piece: Sha1::new(),
            block_len: 0,
            piece_len: 0,
            leaves: Vec::new(),
            layer: Vec::new(),
            v1: Vec::new(),
        }
    }

    /// Takes the next bytes of the file.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            // Block by block, so that all three hashes find the bytes in the cache.
            let room = (BLOCK_LEN - self.block_len) as usize;
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            bytes = later;
            self.whole.update(now);
            self.block.update(now);
            self.piece.update(now);
            // Both stay below their bounds, which are multiples of one another.
            self.block_len += now.len() as u32;
            self.piece_len += now.len() as u32;
            self.length += now.len() as u64;
            if self.block_len == BLOCK_LEN {
                self.end_block();
                if self.piece_len == self.piece_length {
                    self.end_piece();
                }
            }
        }
    }

    fn end_block(&mut self) {
        self.leaves.push(self.block.finalize_reset().into());
        self.block_len = 0;
    }

    fn end_piece(&mut self) {
        self.v1.push(self.piece.finalize_reset().into());
        self.piece_len = 0;
        // The leaves of a first piece wait: if the file ends with it, its tree is only as high as
        // its blocks need.
        if self.length > u64::from(self.piece_length) {
            self.flush_leaves();
        }
    }

    /// Moves the collected leaves into the layer, piece by piece.
    fn flush_leaves(&mut self) {
        let level = merkle::piece_level(self.piece_length);
        self.layer.extend(merkle::piece_layer(&self.leaves, level));
        self.leaves.clear();
    }

    /// The file ends here.
    pub fn finish(mut self) -> FileHashes {
        if self.block_len > 0 {
            self.end_block();
        }
        let mut v1_last_padded = self.v1.last().copied().unwrap_or_default();
        if self.piece_len > 0 {
            let mut padded = self.piece.clone();
            let zeros = [0; 4096];
            let mut left = (self.piece_length - self.piece_len) as usize;
            while left > 0 {
                let now = left.min(zeros.len());
                padded.update(&zeros[..now]);
                left -= now;
            }
            v1_last_padded = padded.finalize().into();
            self.v1.push(self.piece.finalize_reset().into());
        }
        let pieces_root = if self.length == 0 {
            [0; 32]
        } else if self.length <= u64::from(self.piece_length) {
            merkle::root_of_leaves(&self.leaves)
        } else {
            self.flush_leaves();
            merkle::root_of_layer(&self.layer, merkle::piece_level(self.piece_length))
        };
        FileHashes {
            piece_length: self.piece_length,
            length: self.length,
            digest: Digest::new(self.whole.finalize().into()),
            pieces_root,
            layer: self.layer,
            v1: self.v1,
            v1_last_padded,
        }
    }
}
