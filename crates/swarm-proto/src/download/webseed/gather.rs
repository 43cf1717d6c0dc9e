//! Bytes of bodies become blocks.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};

use crate::geometry::BlockRange;
use crate::metainfo::Metainfo;

/// A block of which not all bytes are here: it spans chunks, or files.
#[derive(Debug)]
struct Partial {
    bytes: BytesMut,
    missing: u64,
}

/// Blocks under way. There are at most two for each request under way, at its ends.
#[derive(Debug, Default)]
pub(super) struct Gather {
    partials: BTreeMap<BlockRange, Partial>,
}

impl Gather {
    /// Adds bytes that begin `offset` bytes into the block; gives the block once it is whole.
    ///
    /// Padding between files is never sent and counts as here: zeros.
    pub(super) fn add(
        &mut self,
        meta: &Metainfo,
        block: BlockRange,
        offset: usize,
        bytes: Bytes,
    ) -> Option<Bytes> {
        let len = block.len() as usize;
        if offset == 0 && bytes.len() == len {
            return Some(bytes);
        }
        let partial = self.partials.entry(block).or_insert_with(|| {
            let range = meta.geometry().block_bytes(&block);
            Partial {
                bytes: BytesMut::zeroed(len),
                missing: meta
                    .spans(&range)
                    .filter(|span| !span.pad)
                    .map(|span| span.length)
                    .sum(),
            }
        });
        let place = offset..offset.checked_add(bytes.len())?;
        partial.bytes.get_mut(place)?.copy_from_slice(&bytes);
        partial.missing = partial.missing.saturating_sub(bytes.len() as u64);
        match partial.missing {
            0 => self
                .partials
                .remove(&block)
                .map(|partial| partial.bytes.freeze()),
            _ => None,
        }
    }

    /// The block is no longer under way.
    pub(super) fn forget(&mut self, block: &BlockRange) {
        self.partials.remove(block);
    }
}
