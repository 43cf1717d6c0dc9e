//! What survives a restart: of each site the newest record and the memory that keeps an older
//! one from being accepted (T33).
//!
//! One file a site, replaced as a whole: written aside, synced, renamed, and the directory
//! synced. A damaged file stops the start (F18): to go on without it would open the door to
//! rollback without a word.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use swarm_proto::bencode::{self, Item, Rules, Value};
use swarm_proto::id::Digest;
use swarm_proto::limits::{SITE_RECORD_LEN_MAX, TRUST_STATE_LEN_MAX};
use swarm_proto::manifest::{PublicKey, SiteName, SiteTrust};

const SUFFIX: &str = "site";

/// Why the state cannot be read or kept. This machine's fault, or of who edits its files.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The operating system refuses.
    #[error("state {path}: {what}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was being done.
        what: &'static str,
        /// Its reason.
        source: io::Error,
    },
    /// A file that is not as we wrote it.
    #[error(
        "state {path} is damaged ({why}); restore it, or remove it to accept any record of that site"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// What is stored of one site.
#[derive(Debug, Clone)]
pub(crate) struct StoredSite {
    pub(crate) site: SiteName,
    pub(crate) root: PublicKey,
    pub(crate) trust: SiteTrust,
    pub(crate) record: Bytes,
}

/// The directory of `--state`.
#[derive(Debug)]
pub(crate) struct StateDir {
    dir: PathBuf,
}

impl StateDir {
    /// Opens the directory, making it if there is none, and reads what is in it.
    pub(crate) fn open(dir: &Path) -> Result<(Self, Vec<StoredSite>), StateError> {
        let dir = dir.join("sites");
        fs::create_dir_all(&dir).map_err(io_error(&dir, "cannot be made"))?;
        let mut stored = Vec::new();
        let entries = fs::read_dir(&dir).map_err(io_error(&dir, "cannot be read"))?;
        for entry in entries {
            let path = entry.map_err(io_error(&dir, "cannot be read"))?.path();
            if path.extension().is_some_and(|suffix| suffix == SUFFIX) {
                stored.push(read(&path)?);
            }
        }
        Ok((Self { dir }, stored))
    }

    /// Stores a site; when it returns, a crash no longer loses it.
    pub(crate) fn save(&self, stored: &StoredSite) -> Result<(), StateError> {
        let path = self.path(&stored.site);
        let aside = path.with_extension("new");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&aside)
            .map_err(io_error(&aside, "cannot be opened"))?;
        file.write_all(&encode(stored))
            .and_then(|()| file.sync_all())
            .map_err(io_error(&aside, "cannot be written"))?;
        drop(file);
        fs::rename(&aside, &path).map_err(io_error(&path, "cannot be replaced"))?;
        File::open(&self.dir)
            .and_then(|dir| dir.sync_all())
            .map_err(io_error(&self.dir, "cannot be synced"))
    }

    /// A site's label is one path component, and no two sites share it.
    fn path(&self, site: &SiteName) -> PathBuf {
        self.dir.join(format!("{}.{SUFFIX}", site.label()))
    }
}

fn io_error(path: &Path, what: &'static str) -> impl FnOnce(io::Error) -> StateError {
    let path = path.to_owned();
    move |source| StateError::Io { path, what, source }
}

/// The fields, without the digest that goes over them.
fn fields(stored: &StoredSite) -> Vec<(&'static str, Item)> {
    vec![
        ("record", Item::bytes(&stored.record)),
        ("root", Item::bytes(stored.root.as_bytes())),
        ("site", Item::bytes(stored.site.as_str())),
        ("trust", Item::bytes(stored.trust.to_bytes())),
    ]
}

fn encode(stored: &StoredSite) -> Vec<u8> {
    let mut fields = fields(stored);
    let digest = Digest::of(&Item::dict(fields.clone()).to_bytes());
    fields.push(("digest", Item::bytes(digest.as_bytes())));
    Item::dict(fields).to_bytes()
}

fn read(path: &Path) -> Result<StoredSite, StateError> {
    let damaged = |why| StateError::Damaged {
        path: path.to_owned(),
        why,
    };
    let len = fs::metadata(path)
        .map_err(io_error(path, "cannot be read"))?
        .len();
    if len > (SITE_RECORD_LEN_MAX + TRUST_STATE_LEN_MAX + 4096) as u64 {
        return Err(damaged("too large"));
    }
    let bytes = fs::read(path).map_err(io_error(path, "cannot be read"))?;
    decode(&bytes).map_err(damaged)
}

fn decode(bytes: &[u8]) -> Result<StoredSite, &'static str> {
    let value = bencode::decode(bytes, &Rules::SIGNED).map_err(|_| "not bencode")?;
    let dict = value.as_dict().ok_or("no dictionary")?;
    let field = |key: &str| {
        dict.get(key.as_bytes())
            .and_then(Value::as_bytes)
            .ok_or("a field is missing")
    };
    let site = std::str::from_utf8(field("site")?).map_err(|_| "site is no text")?;
    let root: &[u8; 32] = field("root")?.try_into().map_err(|_| "root is no key")?;
    let stored = StoredSite {
        site: SiteName::parse_canonical(site).map_err(|_| "site is no site name")?,
        root: PublicKey::from_bytes(root).map_err(|_| "root is no key")?,
        trust: SiteTrust::from_bytes(field("trust")?).map_err(|_| "trust is unreadable")?,
        record: Bytes::copy_from_slice(field("record")?),
    };
    let digest = Digest::of(&Item::dict(fields(&stored)).to_bytes());
    if field("digest")? != digest.as_bytes() {
        return Err("digest does not match");
    }
    Ok(stored)
}
