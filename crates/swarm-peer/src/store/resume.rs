//! What was verified before: written only once the bytes are durable, believed only while the
//! files are as they were.

use std::fs::Metadata;
use std::io;
use std::path::Path;
use std::time::UNIX_EPOCH;

use swarm_proto::bencode::{self, Item, Rules, Value};
use swarm_proto::bitfield::Bitfield;

use super::durable::write_atomic;
use super::sealed::{seal, unseal};

/// Length and time of last change of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Bytes.
    pub length: u64,
    /// Nanoseconds since 1970.
    pub changed: i64,
}

impl Stamp {
    /// The stamp of the regular file at `path`, if there is one.
    pub fn of(path: &Path) -> Option<Self> {
        Self::of_metadata(&std::fs::metadata(path).ok()?)
    }

    /// The stamp in what the system says of a regular file.
    pub fn of_metadata(found: &Metadata) -> Option<Self> {
        if !found.is_file() {
            return None;
        }
        let since = found.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        Some(Self {
            length: found.len(),
            changed: i64::try_from(since.as_nanos()).ok()?,
        })
    }
}

/// Pieces that were verified and made durable, and the files' stamps at that moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResumeState {
    /// Which bundle, as hex.
    pub bundle: String,
    /// The pieces.
    pub pieces: Bitfield,
    /// One for each file of the store; `None` was not there.
    pub stamps: Vec<Option<Stamp>>,
}

impl ResumeState {
    /// Reads the state of `bundle`, if it is there and whole. Anything odd means "nothing known",
    /// and costs no more than hashing the files again.
    pub fn load(path: &Path, bundle: &str, piece_count: u32) -> Option<Self> {
        let sealed = std::fs::read(path).ok()?;
        let value = bencode::decode(unseal(&sealed)?, &Rules::METAINFO).ok()?;
        let dict = value.as_dict()?;
        if dict.get(b"bundle")?.as_str()? != bundle {
            return None;
        }
        let pieces = dict.get(b"pieces")?.as_bytes()?;
        let pieces = Bitfield::from_bytes(pieces, piece_count).ok()?;
        let stamps = dict.get(b"stamps")?.as_list()?;
        let stamps = stamps.iter().map(read_stamp).collect::<Option<Vec<_>>>()?;
        Some(Self {
            bundle: bundle.to_owned(),
            pieces,
            stamps,
        })
    }

    /// Replaces the file at `path` as a whole.
    ///
    /// # Errors
    /// What the system said; the old file is still there then.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let stamps = self.stamps.iter().map(|stamp| match stamp {
            None => Item::list([]),
            Some(stamp) => Item::list([
                Item::int(i64::try_from(stamp.length).unwrap_or(i64::MAX)),
                Item::int(stamp.changed),
            ]),
        });
        let item = Item::dict([
            ("bundle", Item::bytes(&self.bundle)),
            ("pieces", Item::bytes(self.pieces.as_bytes())),
            ("stamps", Item::list(stamps)),
        ]);
        write_atomic(path, &seal(item.to_bytes()))
    }
}

fn read_stamp(value: Value<'_>) -> Option<Option<Stamp>> {
    let parts: Vec<_> = value.as_list()?.iter().take(3).collect();
    match parts[..] {
        [] => Some(None),
        [length, changed] => Some(Some(Stamp {
            length: u64::try_from(length.as_int()?).ok()?,
            changed: changed.as_int()?,
        })),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sealed::damaged;

    #[test]
    fn f18_a_damaged_resume_state_is_no_state() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let pieces = Bitfield::from_bytes(&[0x10, 0, 0], 20).unwrap();
        let state = ResumeState {
            bundle: "ab".into(),
            pieces,
            stamps: vec![
                None,
                Some(Stamp {
                    length: 7,
                    changed: 1_800_000_000,
                }),
            ],
        };
        state.save(&path).unwrap();
        let load = || ResumeState::load(&path, "ab", 20);
        assert_eq!(load(), Some(state));
        let whole = std::fs::read(&path).unwrap();
        for bytes in damaged(&whole) {
            std::fs::write(&path, &bytes).unwrap();
            assert_eq!(load(), None, "{}", bytes.escape_ascii());
        }
        std::fs::write(&path, &whole).unwrap();
        assert!(load().is_some());
    }
}
