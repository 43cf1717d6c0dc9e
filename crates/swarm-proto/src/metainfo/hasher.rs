//! Hashes one file for a hybrid torrent in one pass over its bytes.

use crate::geometry::BLOCK_LEN;
use crate::id::Digest;
use crate::lanes::{STEP_LEN, Sha1Lane, Sha256Lane, Step};
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
///
/// The three hashes go side by side, step by step: blocks and pieces begin where steps do.
#[derive(Debug, Clone)]
pub struct FileHasher {
    piece_length: u32,
    /// Bytes taken; `tail` comes on top of all four figures.
    length: u64,
    whole: Sha256Lane,
    block: Sha256Lane,
    piece: Sha1Lane,
    /// Bytes in `block`, below [`BLOCK_LEN`].
    block_len: u32,
    /// Bytes in `piece`, below `piece_length`.
    piece_len: u32,
    /// The beginning of a step.
    tail: Step,
    /// Bytes in `tail`, below [`STEP_LEN`].
    tail_len: usize,
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
            whole: Sha256Lane::new(),
            block: Sha256Lane::new(),
            piece: Sha1Lane::new(),
            block_len: 0,
            piece_len: 0,
            tail: [0; STEP_LEN],
            tail_len: 0,
            leaves: Vec::new(),
            layer: Vec::new(),
            v1: Vec::new(),
        }
    }

    /// Takes the next bytes of the file.
    pub fn update(&mut self, mut bytes: &[u8]) {
        if self.tail_len > 0 {
            bytes = self.fill_tail(bytes);
            if self.tail_len < STEP_LEN {
                return;
            }
            self.tail_len = 0;
            self.take(&[self.tail]);
        }
        let (steps, rest) = bytes.as_chunks();
        self.take(steps);
        self.fill_tail(rest);
    }

    /// Puts as many bytes as there is room for behind the tail; gives the others back.
    fn fill_tail<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let room = self.tail.get_mut(self.tail_len..).unwrap_or_default();
        let (now, later) = bytes.split_at(room.len().min(bytes.len()));
        for (place, byte) in room.iter_mut().zip(now) {
            *place = *byte;
        }
        self.tail_len += now.len();
        later
    }

    fn take(&mut self, mut steps: &[Step]) {
        while !steps.is_empty() {
            let room = (BLOCK_LEN - self.block_len) as usize / STEP_LEN;
            let (now, later) = steps.split_at(room.min(steps.len()));
            steps = later;
            for step in now {
                self.piece.step(step);
                self.block.step(step);
                self.whole.step(step);
            }
            // Both stay below their bounds, which are multiples of one another.
            let len = (now.len() * STEP_LEN) as u32;
            self.block_len += len;
            self.piece_len += len;
            self.length += u64::from(len);
            if self.block_len == BLOCK_LEN {
                self.end_block();
                if self.piece_len == self.piece_length {
                    self.end_piece();
                }
            }
        }
    }

    fn tail(&self) -> &[u8] {
        self.tail.get(..self.tail_len).unwrap_or_default()
    }

    fn end_block(&mut self) {
        let block = std::mem::replace(&mut self.block, Sha256Lane::new());
        let length = u64::from(self.block_len) + self.tail_len as u64;
        self.leaves.push(block.end(self.tail(), length));
        self.block_len = 0;
    }

    fn end_piece(&mut self) {
        self.hash_piece();
        // The leaves of a first piece wait: if the file ends with it, its tree is only as high as
        // its blocks need.
        if self.length > u64::from(self.piece_length) {
            self.flush_leaves();
        }
    }

    fn hash_piece(&mut self) {
        let piece = std::mem::replace(&mut self.piece, Sha1Lane::new());
        let length = u64::from(self.piece_len) + self.tail_len as u64;
        self.v1.push(piece.end(self.tail(), length));
        self.piece_len = 0;
    }

    /// The SHA-1 of the piece under way if zeros followed up to its end.
    fn padded(&self) -> [u8; 20] {
        let mut padded = self.piece.clone();
        let mut taken = self.piece_len;
        if self.tail_len > 0 {
            let mut step = [0; STEP_LEN];
            for (place, byte) in step.iter_mut().zip(self.tail()) {
                *place = *byte;
            }
            padded.step(&step);
            taken += STEP_LEN as u32;
        }
        for _ in 0..(self.piece_length - taken) as usize / STEP_LEN {
            padded.step(&[0; STEP_LEN]);
        }
        padded.end(&[], self.piece_length.into())
    }

    /// Moves the collected leaves into the layer, piece by piece.
    fn flush_leaves(&mut self) {
        let level = merkle::piece_level(self.piece_length);
        self.layer.extend(merkle::piece_layer(&self.leaves, level));
        self.leaves.clear();
    }

    /// The file ends here.
    pub fn finish(mut self) -> FileHashes {
        let length = self.length + self.tail_len as u64;
        let digest = Digest::new(self.whole.clone().end(self.tail(), length));
        if self.block_len > 0 || self.tail_len > 0 {
            self.end_block();
        }
        let mut v1_last_padded = self.v1.last().copied().unwrap_or_default();
        if self.piece_len > 0 || self.tail_len > 0 {
            v1_last_padded = self.padded();
            self.hash_piece();
        }
        let pieces_root = if length == 0 {
            [0; 32]
        } else if length <= u64::from(self.piece_length) {
            merkle::root_of_leaves(&self.leaves)
        } else {
            self.flush_leaves();
            merkle::root_of_layer(&self.layer, merkle::piece_level(self.piece_length))
        };
        FileHashes {
            piece_length: self.piece_length,
            length,
            digest,
            pieces_root,
            layer: self.layer,
            v1: self.v1,
            v1_last_padded,
        }
    }
}
