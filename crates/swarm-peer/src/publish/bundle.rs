//! From files to hybrid torrents: who is in a bundle, hashing, and what need not be hashed again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use swarm_proto::geometry::BLOCK_LEN;
use swarm_proto::id::Digest;
use swarm_proto::manifest::{Encoding, SiteName};
use swarm_proto::metainfo::{FileHasher, FileHashes, Metainfo, MetainfoBuilder, piece_length_for};

use super::error::PublishError;
use super::seen::Seen;
use super::walk::SourceFile;

/// Bytes read at once.
const READ_LEN: usize = 256 * 1024;

/// A file of the site that was read, with its variants.
#[derive(Debug, Clone)]
pub(super) struct Content {
    pub(super) file: SourceFile,
    pub(super) digest: Digest,
    /// Bytes, as read.
    pub(super) length: u64,
    /// What was hashed on the way, see [`Member::hashes`].
    pub(super) hashes: Option<Arc<FileHashes>>,
    /// What the file was like before it was read.
    pub(super) seen: Seen,
    pub(super) media_type: String,
    pub(super) variants: Vec<MadeVariant>,
}

/// A compressed form that lies in the output folder.
#[derive(Debug, Clone)]
pub(super) struct MadeVariant {
    pub(super) encoding: Encoding,
    pub(super) disk: PathBuf,
    pub(super) length: u64,
    pub(super) digest: Digest,
    /// See [`Member::hashes`].
    pub(super) hashes: Option<Arc<FileHashes>>,
}

impl Content {
    /// Bytes it takes in a bundle: with its variants, each up to a whole number of blocks, since
    /// each begins on a piece boundary. Small files are mostly padding.
    pub(super) fn weight(&self) -> u64 {
        let block = u64::from(BLOCK_LEN);
        self.variants
            .iter()
            .map(|variant| variant.length)
            .chain([self.length])
            .map(|length| length.div_ceil(block).saturating_mul(block))
            .fold(0, u64::saturating_add)
    }
}

/// One file of a torrent to be.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) disk: PathBuf,
    pub(super) digest: Digest,
    pub(super) length: u64,
    /// Bears that it is a program.
    pub(super) executable: bool,
    /// Made of the same bytes as the digest, for the piece length that was forecast, if one was.
    pub(super) hashes: Option<Arc<FileHashes>>,
}

/// A bundle to be.
#[derive(Debug)]
pub(super) struct Plan {
    /// By path inside the torrent; this order is that of the torrent's files. Equal content is here
    /// once, under the first of its paths.
    pub(super) members: BTreeMap<Vec<String>, Member>,
    pub(super) piece_length: u32,
    /// Bytes of the members.
    pub(super) length: u64,
}

impl Plan {
    /// Gathers the files of a bundle, which come sorted by path.
    pub(super) fn new<'c>(contents: impl IntoIterator<Item = &'c Content>) -> Self {
        let mut seen = HashSet::new();
        let mut members = BTreeMap::new();
        let mut add = |path: Vec<String>, member: Member| {
            if seen.insert(member.digest) {
                members.insert(path, member);
            }
        };
        for content in contents {
            let below: Vec<String> = content.file.path.components().map(str::to_owned).collect();
            for variant in &content.variants {
                let mut path = vec![".swarm".to_owned(), variant.encoding.folder().to_owned()];
                path.extend(below.iter().cloned());
                add(
                    path,
                    Member {
                        disk: variant.disk.clone(),
                        digest: variant.digest,
                        length: variant.length,
                        executable: false,
                        hashes: variant.hashes.clone(),
                    },
                );
            }
            add(
                below,
                Member {
                    disk: content.file.disk.clone(),
                    digest: content.digest,
                    length: content.length,
                    executable: content.file.executable,
                    hashes: content.hashes.clone(),
                },
            );
        }
        let members = apart(members);
        let length = members.values().fold(0_u64, |sum, member: &Member| {
            sum.saturating_add(member.length)
        });
        Self {
            piece_length: piece_length_for(length),
            members,
            length,
        }
    }

    /// What decides the info hash, in one digest.
    pub(super) fn identity(&self, site: &SiteName) -> Digest {
        let mut hash = Sha256::new();
        let mut text = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        text(site.as_str().as_bytes());
        text(&self.piece_length.to_be_bytes());
        for (path, member) in &self.members {
            text(path.join("/").as_bytes());
            text(member.digest.as_bytes());
            text(&member.length.to_be_bytes());
            if member.executable {
                text(b"x");
            }
        }
        Digest::new(hash.finalize().into())
    }

    /// Makes the torrent out of the members' hashes, which come in the members' order.
    pub(super) fn build(
        &self,
        site: &SiteName,
        hashes: Vec<FileHashes>,
    ) -> Result<Metainfo, PublishError> {
        let mut builder = MetainfoBuilder::new(site.as_str(), self.piece_length);
        for ((path, member), hashes) in self.members.iter().zip(hashes) {
            match member.executable {
                true => builder.executable(path.clone(), hashes),
                false => builder.file(path.clone(), hashes),
            };
        }
        Ok(builder.build()?)
    }

    /// Which of the torrent's files, padding counted, holds which content.
    pub(super) fn file_indexes(&self, meta: &Metainfo) -> HashMap<Digest, u32> {
        let content: Vec<u32> = (0_u32..)
            .zip(meta.files())
            .filter(|(_, file)| !file.pad)
            .map(|(index, _)| index)
            .collect();
        self.members
            .values()
            .zip(content)
            .map(|(member, index)| (member.digest, index))
            .collect()
    }
}

/// On a site `/posts` and `/posts/first` can both be files; in a torrent `posts` is a file or a
/// folder. What is both becomes `posts/.page` there, a name that no path of a site ends with.
fn apart(members: BTreeMap<Vec<String>, Member>) -> BTreeMap<Vec<String>, Member> {
    let paths: Vec<&Vec<String>> = members.keys().collect();
    // Whatever lies below a path comes right behind it.
    let both: HashSet<Vec<String>> = paths
        .windows(2)
        .filter_map(|pair| match pair {
            [path, next] if next.starts_with(path) => Some((*path).clone()),
            _ => None,
        })
        .collect();
    if both.is_empty() {
        return members;
    }
    let renamed = members.into_iter().map(|(mut path, member)| {
        if both.contains(&path) {
            path.push(".page".to_owned());
        }
        (path, member)
    });
    renamed.collect()
}

/// A file that was read once.
pub(super) struct ReadOnce {
    pub(super) digest: Digest,
    /// Bytes.
    pub(super) length: u64,
    /// For the piece length asked for.
    pub(super) hashes: Option<Arc<FileHashes>>,
    /// What it was like before.
    pub(super) seen: Seen,
}

/// Reads a file, for its digest alone or for all hashes that a torrent of that piece length needs.
pub(super) fn read_once(
    path: &Path,
    piece_length: Option<u32>,
    mut read: impl FnMut(u64),
) -> Result<ReadOnce, PublishError> {
    let failed = PublishError::read(path);
    match piece_length {
        Some(piece_length) => {
            let mut hasher = FileHasher::new(piece_length);
            let seen = read_through(path, |bytes| {
                hasher.update(bytes);
                read(bytes.len() as u64);
            });
            let seen = seen.map_err(failed)?;
            let hashes = hasher.finish();
            Ok(ReadOnce {
                digest: hashes.digest,
                length: hashes.length,
                hashes: Some(Arc::new(hashes)),
                seen,
            })
        }
        None => {
            let mut hash = Sha256::new();
            let mut length = 0_u64;
            let seen = read_through(path, |bytes| {
                hash.update(bytes);
                length += bytes.len() as u64;
                read(bytes.len() as u64);
            });
            Ok(ReadOnce {
                seen: seen.map_err(failed)?,
                digest: Digest::new(hash.finalize().into()),
                length,
                hashes: None,
            })
        }
    }
}

/// Reads a file once, giving each part of it to `each`.
fn read_through(path: &Path, mut each: impl FnMut(&[u8])) -> io::Result<Seen> {
    let mut file = File::open(path)?;
    let seen = Seen::of(&file.metadata()?);
    let mut buffer = vec![0; READ_LEN];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(seen),
            Ok(len) => each(buffer.get(..len).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
