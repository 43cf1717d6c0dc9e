//! Small files in memory: a page's icons and styles are asked for by every visitor, and reading
//! each through the node costs more than sending it.
//!
//! The key is the SHA-256 of the bytes, checked before they come here, so a hit needs no check.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use swarm_proto::id::Digest;

/// What an entry costs besides its bytes, about.
const ENTRY_LEN: usize = 128;

/// A bounded map of small files; what was not asked for since the last look is dropped first.
#[derive(Debug)]
pub struct SmallFiles {
    bytes_max: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    files: HashMap<Digest, File>,
    /// Oldest first; every key of `files` once.
    order: VecDeque<Digest>,
    bytes: usize,
}

#[derive(Debug)]
struct File {
    bytes: Bytes,
    /// Asked for since it was last looked at.
    used: bool,
}

impl SmallFiles {
    /// Holds at most `bytes_max` bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            held: Mutex::default(),
        }
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bytes with this digest.
    pub fn get(&self, digest: &Digest) -> Option<Bytes> {
        let mut held = self.held();
        let file = held.files.get_mut(digest)?;
        file.used = true;
        Some(file.bytes.clone())
    }

    /// Keeps bytes that were checked against their digest.
    pub fn insert(&self, digest: Digest, bytes: Bytes) {
        let cost = bytes.len().saturating_add(ENTRY_LEN);
        if cost > self.bytes_max {
            return;
        }
        let mut held = self.held();
        if held.files.contains_key(&digest) {
            return;
        }
        while held.bytes.saturating_add(cost) > self.bytes_max {
            let Some(oldest) = held.order.pop_front() else {
                break;
            };
            match held.files.get_mut(&oldest) {
                Some(file) if file.used => {
                    file.used = false;
                    held.order.push_back(oldest);
                }
                _ => held.drop_file(&oldest),
            }
        }
        held.bytes = held.bytes.saturating_add(cost);
        held.order.push_back(digest);
        held.files.insert(digest, File { bytes, used: false });
    }
}

impl Held {
    fn drop_file(&mut self, digest: &Digest) {
        if let Some(file) = self.files.remove(digest) {
            let cost = file.bytes.len().saturating_add(ENTRY_LEN);
            self.bytes = self.bytes.saturating_sub(cost);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(n: u32) -> (Digest, Bytes) {
        let bytes = Bytes::from(vec![n as u8; 1000 - ENTRY_LEN]);
        (Digest::of(&n.to_be_bytes()), bytes)
    }

    #[test]
    fn it_never_holds_more_than_it_may() {
        let cache = SmallFiles::new(10_000);
        for n in 0..1000 {
            let (digest, bytes) = file(n);
            cache.insert(digest, bytes.clone());
            cache.insert(digest, bytes.clone());
            assert_eq!(cache.get(&digest), Some(bytes));
            let held = cache.held();
            assert!(held.bytes <= 10_000 && held.files.len() <= 10);
            assert_eq!(held.order.len(), held.files.len());
        }
        cache.insert(Digest::of(b"large"), Bytes::from(vec![0; 10_000]));
        assert_eq!(cache.get(&Digest::of(b"large")), None);
    }

    #[test]
    fn what_is_asked_for_stays() {
        let cache = SmallFiles::new(10_000);
        let (hot, bytes) = file(0);
        cache.insert(hot, bytes.clone());
        for n in 1..100 {
            let (digest, other) = file(n);
            cache.insert(digest, other);
            assert!(cache.get(&hot).is_some(), "after {n}");
        }
        assert!(cache.get(&file(1).0).is_none());
    }
}
