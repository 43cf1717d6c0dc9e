//! Pieces in memory, for small sites and tests.

use std::sync::{PoisonError, RwLock};

use bytes::Bytes;
use swarm_proto::geometry::ByteRange;
use swarm_proto::metainfo::Metainfo;
use swarm_proto::verify::VerifiedBytes;

use super::{PieceStore, Stamp, StoreError};

/// One slot a piece; verified bytes are kept as they came.
pub(super) struct MemoryStore {
    piece_length: u64,
    pieces: RwLock<Vec<Option<Bytes>>>,
}

impl MemoryStore {
    /// An empty store.
    pub(super) fn new(meta: &Metainfo) -> Self {
        let geometry = meta.geometry();
        Self {
            piece_length: geometry.piece_length().into(),
            pieces: RwLock::new(vec![None; geometry.piece_count() as usize]),
        }
    }
}

impl PieceStore for MemoryStore {
    fn piece_length(&self) -> u64 {
        self.piece_length
    }

    fn write(&self, piece: &VerifiedBytes) -> Result<(), StoreError> {
        let mut pieces = self.pieces.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = pieces.get_mut(piece.piece().get() as usize) {
            *slot = Some(piece.bytes().clone());
        }
        Ok(())
    }

    fn read_into(&self, at: u64, out: &mut [u8]) -> Result<(), StoreError> {
        let end = at.saturating_add(out.len() as u64);
        let missing = || StoreError::Missing { start: at, end };
        let pieces = self.pieces.read().unwrap_or_else(PoisonError::into_inner);
        let mut at = at;
        let mut rest = out;
        while !rest.is_empty() {
            let index = usize::try_from(at / self.piece_length).map_err(|_| missing())?;
            let within = usize::try_from(at % self.piece_length).map_err(|_| missing())?;
            let piece = pieces.get(index).and_then(Option::as_ref);
            let source = piece.and_then(|p| p.get(within..)).ok_or_else(missing)?;
            let len = source.len().min(rest.len());
            if len == 0 {
                return Err(missing());
            }
            let (head, tail) = rest.split_at_mut(len);
            head.copy_from_slice(source.get(..len).ok_or_else(missing)?);
            rest = tail;
            at += len as u64;
        }
        Ok(())
    }

    fn read_at_once(&self, at: u64, out: &mut [u8]) -> Option<Result<(), StoreError>> {
        Some(self.read_into(at, out))
    }

    fn sync(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn finish(&self, _: Option<&[ByteRange]>) -> Result<(), StoreError> {
        Ok(())
    }

    fn stamps(&self) -> Vec<Option<Stamp>> {
        Vec::new()
    }

    fn may_hold(&self, _: &ByteRange, _: &[Option<Stamp>]) -> bool {
        false
    }

    fn files_of(&self, _: &ByteRange) -> Vec<usize> {
        Vec::new()
    }
}
