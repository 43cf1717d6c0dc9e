//! `layout`: where on this disk the files of each bundle lie, and what publishing again need not do
//! again. Only this machine reads it; nothing in it is signed or sent.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use swarm_proto::bencode::{Dict, Item, Rules, decode};
use swarm_proto::id::{Digest, InfoHashV2};
use swarm_proto::manifest::Encoding;

use super::error::PublishError;
use super::files::{read_limited, write_atomically};

/// Bytes of a layout file: 100,000 files with two variants each take a third of it.
const LAYOUT_LEN_MAX: usize = 256 * 1024 * 1024;

/// Where a file lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// Below the folder that is published.
    Root(PathBuf),
    /// Below the output folder.
    Out(PathBuf),
}

/// A bundle that was built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Laid {
    /// Digest over names, digests and piece length: the same identity gives the same info hash.
    pub(super) identity: Digest,
    /// One for each file of the torrent that is no padding, in its order.
    pub(super) files: Vec<Place>,
}

/// Lengths of the variants that were tried for some content; 0 for one that was not worth it.
pub(super) type Tried = BTreeMap<Encoding, u64>;

/// The whole file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Layout {
    /// The folder that was published, canonical.
    pub(super) root: PathBuf,
    pub(super) bundles: BTreeMap<InfoHashV2, Laid>,
    /// By digest of the content.
    pub(super) tried: BTreeMap<Digest, Tried>,
}

impl Layout {
    pub(super) fn path(out: &Path) -> PathBuf {
        out.join("layout")
    }

    /// Reads the layout in `out`; `None` when nothing was published there yet.
    pub(super) fn read(out: &Path) -> Result<Option<Self>, PublishError> {
        let path = Self::path(out);
        if !path.exists() {
            return Ok(None);
        }
        let bytes = read_limited(&path, LAYOUT_LEN_MAX)?;
        match Self::decode(&bytes) {
            Some(layout) => Ok(Some(layout)),
            None => Err(PublishError::damaged(&path, "not a layout")),
        }
    }

    pub(super) fn write(&self, out: &Path) -> Result<(), PublishError> {
        write_atomically(&Self::path(out), &self.encode(), 0o644)
    }

    /// The file of a place.
    pub(super) fn disk(&self, out: &Path, place: &Place) -> PathBuf {
        match place {
            Place::Root(below) => self.root.join(below),
            Place::Out(below) => out.join(below),
        }
    }

    fn encode(&self) -> Vec<u8> {
        let bundles = self.bundles.iter().map(|(v2, laid)| {
            let files = laid.files.iter().map(|place| {
                let (under, path) = match place {
                    Place::Root(path) => ("root", path),
                    Place::Out(path) => ("out", path),
                };
                Item::dict([(under, Item::bytes(path.as_os_str().as_encoded_bytes()))])
            });
            let entry = Item::dict([
                ("files", Item::list(files)),
                ("identity", Item::bytes(laid.identity)),
            ]);
            (v2.as_bytes().to_vec(), entry)
        });
        let tried = self.tried.iter().map(|(digest, lengths)| {
            let lengths = lengths.iter().map(|(encoding, length)| {
                let length = i64::try_from(*length).unwrap_or(i64::MAX);
                (encoding.as_str(), Item::int(length))
            });
            (digest.as_bytes().to_vec(), Item::dict(lengths))
        });
        Item::dict([
            ("bundles", Item::dict(bundles)),
            (
                "root",
                Item::bytes(self.root.as_os_str().as_encoded_bytes()),
            ),
            ("tried", Item::dict(tried)),
        ])
        .to_bytes()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let value = decode(bytes, &Rules::METAINFO).ok()?;
        let dict = value.as_dict()?;
        let mut layout = Self {
            root: path_of(dict.get(b"root")?.as_bytes()?)?,
            ..Self::default()
        };
        for (v2, value) in dict.get(b"bundles")?.as_dict()?.iter() {
            layout
                .bundles
                .insert(InfoHashV2::try_from(v2).ok()?, laid(value.as_dict()?)?);
        }
        for (digest, value) in dict.get(b"tried")?.as_dict()?.iter() {
            let lengths = value
                .as_dict()?
                .iter()
                .map(|(encoding, length)| {
                    let encoding = Encoding::from_token(std::str::from_utf8(encoding).ok()?)?;
                    Some((encoding, u64::try_from(length.as_int()?).ok()?))
                })
                .collect::<Option<Tried>>()?;
            layout.tried.insert(Digest::try_from(digest).ok()?, lengths);
        }
        Some(layout)
    }
}

fn laid(dict: Dict<'_>) -> Option<Laid> {
    let files = dict
        .get(b"files")?
        .as_list()?
        .iter()
        .map(|value| {
            let dict = value.as_dict()?;
            if let Some(path) = dict.get(b"root") {
                return Some(Place::Root(path_of(path.as_bytes()?)?));
            }
            Some(Place::Out(path_of(dict.get(b"out")?.as_bytes()?)?))
        })
        .collect::<Option<_>>()?;
    Some(Laid {
        identity: Digest::try_from(dict.get(b"identity")?.as_bytes()?).ok()?,
        files,
    })
}

#[cfg(unix)]
fn path_of(bytes: &[u8]) -> Option<PathBuf> {
    let text: &OsStr = std::os::unix::ffi::OsStrExt::from_bytes(bytes);
    Some(text.into())
}

#[cfg(not(unix))]
fn path_of(bytes: &[u8]) -> Option<PathBuf> {
    let text: &OsStr = std::str::from_utf8(bytes).ok()?.as_ref();
    Some(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layout_survives_the_disk_and_damage_is_named() {
        let out = tempfile::tempdir().unwrap();
        assert_eq!(Layout::read(out.path()).unwrap(), None);
        let layout = Layout {
            root: "/srv/www".into(),
            bundles: BTreeMap::from([(
                InfoHashV2::new([1; 32]),
                Laid {
                    identity: Digest::of(b"identity"),
                    files: vec![
                        Place::Root("a/b".into()),
                        Place::Out("variants/c.br".into()),
                    ],
                },
            )]),
            tried: BTreeMap::from([(
                Digest::of(b"content"),
                Tried::from([(Encoding::Brotli, 17), (Encoding::Zstd, 0)]),
            )]),
        };
        layout.write(out.path()).unwrap();
        assert_eq!(Layout::read(out.path()).unwrap(), Some(layout));
        std::fs::write(Layout::path(out.path()), b"de").unwrap();
        assert!(matches!(
            Layout::read(out.path()),
            Err(PublishError::Damaged { .. })
        ));
    }
}
