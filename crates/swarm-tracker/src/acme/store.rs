//! What is kept on disk: the account, a file for each name with key and chain, and when what was
//! asked for. For this program's eyes only.
//!
//! All of it is below a directory of each authority, so that who tries one out first takes nothing
//! of it along. Files are replaced as a whole: written aside, synced, renamed, and the directory
//! synced.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use sha2::{Digest as _, Sha256};
use url::Url;

use super::error::AcmeError;
use super::held::Held;
use super::past::Past;
use crate::config::CertificateName;

/// Bytes of any of the files; the largest, when all names fail for a week, has a third of that.
const FILE_LEN_MAX: u64 = 4 << 20;
const SUFFIX: &str = "pem";
/// What our files begin with, before the digest of what follows: a chain that is cut between two
/// certificates looks whole. Programs that read PEM skip it.
const SEAL: &[u8] = b"sha256 ";

/// The directory of one authority.
#[derive(Debug)]
pub(super) struct Store {
    dir: PathBuf,
    names: PathBuf,
    provider: Arc<CryptoProvider>,
}

impl Store {
    /// Opens it, making it if there is none.
    pub(super) fn open(
        base: &Path,
        directory: &str,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, AcmeError> {
        let dir = base.join(label(directory));
        let names = dir.join("names");
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&names)
            .map_err(failed(&names, "cannot be made"))?;
        Ok(Self {
            dir,
            names,
            provider,
        })
    }

    /// The certificate of a name, if it is here. One that is damaged is named in the log, and is as
    /// good as none.
    pub(super) fn load(&self, name: &CertificateName) -> Option<Held> {
        let path = self.path(name);
        let sealed = read(&path)?;
        match self.unseal(&sealed, name) {
            Ok(held) => Some(held),
            Err(why) => {
                tracing::warn!(path = %path.display(), why, "damaged, will be got anew");
                None
            }
        }
    }

    /// Keeps a certificate; when it returns, a crash no longer loses it.
    pub(super) fn save(&self, name: &CertificateName, pem: &[u8]) -> Result<(), AcmeError> {
        let sealed = [SEAL, digest_of(pem).as_bytes(), b"\n", pem].concat();
        replace(&self.names, &self.path(name), &sealed)
    }

    /// Reads a file. Without our first line it is one that the operator has put there.
    fn unseal(&self, sealed: &[u8], name: &CertificateName) -> Result<Held, String> {
        let pem = match sealed.strip_prefix(SEAL) {
            None => sealed,
            Some(rest) => {
                let end = rest
                    .iter()
                    .position(|byte| *byte == b'\n')
                    .unwrap_or(rest.len());
                let (digest, pem) = rest.split_at(end);
                let pem = pem.strip_prefix(b"\n").unwrap_or(pem);
                if digest != digest_of(pem).as_bytes() {
                    return Err("its digest does not match".to_owned());
                }
                pem
            }
        };
        Held::read(pem, name, &self.provider)
    }

    /// Removes those that have ended and that nobody wants: of names that came and went.
    pub(super) fn sweep(&self, now: u64, wanted: impl Fn(&CertificateName) -> bool) {
        let Ok(entries) = fs::read_dir(&self.names) else {
            return;
        };
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            if path.extension().is_none_or(|suffix| suffix != SUFFIX) {
                continue;
            }
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            let Some(name) = stem.and_then(|stem| stem.parse::<CertificateName>().ok()) else {
                continue;
            };
            if wanted(&name) {
                continue;
            }
            let held = self.unseal(&read(&path).unwrap_or_default(), &name);
            if held.is_ok_and(|held| held.validity.not_after < now)
                && let Err(error) = fs::remove_file(&path)
            {
                tracing::debug!(path = %path.display(), %error, "not removed");
            }
        }
    }

    /// The account as it was last kept.
    pub(super) fn load_account(&self) -> Option<Vec<u8>> {
        read(&self.account_path())
    }

    pub(super) fn save_account(&self, account: &[u8]) -> Result<(), AcmeError> {
        replace(&self.dir, &self.account_path(), account)
    }

    pub(super) fn account_path(&self) -> PathBuf {
        self.dir.join("account.json")
    }

    /// What was asked for before; nothing of it where it cannot be read.
    pub(super) fn load_past(&self) -> Past {
        let path = self.dir.join("past.json");
        let Some(bytes) = read(&path) else {
            return Past::default();
        };
        serde_json::from_slice(&bytes).unwrap_or_else(|error| {
            tracing::warn!(path = %path.display(), %error, "damaged, begun anew");
            Past::default()
        })
    }

    pub(super) fn save_past(&self, past: &Past) -> Result<(), AcmeError> {
        let path = self.dir.join("past.json");
        let bytes = serde_json::to_vec(past)
            .map_err(io::Error::from)
            .map_err(failed(&path, "cannot be written"))?;
        replace(&self.dir, &path, &bytes)
    }

    /// A name is one path component: it has letters, digits, `-` and `.`, and no empty label.
    fn path(&self, name: &CertificateName) -> PathBuf {
        self.names.join(format!("{name}.{SUFFIX}"))
    }
}

/// The host of an authority for people, and a digest, as one host may have several.
fn label(directory: &str) -> String {
    let digest = Sha256::digest(directory.as_bytes());
    let short = data_encoding::HEXLOWER.encode(digest.get(..4).unwrap_or_default());
    let url = Url::parse(directory).ok();
    let host = url.as_ref().and_then(Url::host_str).unwrap_or_default();
    let is_plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    let host: String = host.chars().filter(is_plain).collect();
    format!("{host}-{short}")
}

fn digest_of(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(&Sha256::digest(bytes))
}

/// `None`: there is none. One that cannot be read is named in the log.
fn read(path: &Path) -> Option<Vec<u8>> {
    let opened = File::open(path).and_then(|file| {
        let mut bytes = Vec::new();
        file.take(FILE_LEN_MAX).read_to_end(&mut bytes)?;
        Ok(bytes)
    });
    match opened {
        Ok(bytes) => Some(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "cannot be read");
            None
        }
    }
}

fn replace(dir: &Path, path: &Path, bytes: &[u8]) -> Result<(), AcmeError> {
    let aside = path.with_extension("new");
    // One of before might have been made by somebody else, for more eyes.
    match fs::remove_file(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed(&aside, "cannot be removed")(error));
        }
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&aside)
        .map_err(failed(&aside, "cannot be made"))?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(failed(&aside, "cannot be written"))?;
    drop(file);
    fs::rename(&aside, path).map_err(failed(path, "cannot be replaced"))?;
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(failed(dir, "cannot be synced"))
}

fn failed(path: &Path, what: &'static str) -> impl FnOnce(io::Error) -> AcmeError {
    let path = path.to_owned();
    move |source| AcmeError::File { path, what, source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use rustls::crypto::aws_lc_rs;

    use super::*;
    use crate::acme::tests::made;

    #[test]
    fn what_is_kept_is_found_again_and_for_nobody_else() {
        let dir = tempfile::tempdir().expect("a directory");
        let provider = Arc::new(aws_lc_rs::default_provider());
        let open = |ca| Store::open(dir.path(), ca, Arc::clone(&provider)).expect("opened");
        let store = open("https://ca.example/dir");
        let name: CertificateName = "t.example".parse().expect("a name");
        assert!(store.load(&name).is_none());
        store
            .save(&name, made(&name, 0, 2_000_000_000).as_bytes())
            .expect("kept");
        let held = open("https://ca.example/dir").load(&name).expect("there");
        assert_eq!(held.validity.not_after, 2_000_000_000);
        // Another authority's, or another's name, is not this.
        assert!(open("https://ca.example/staging").load(&name).is_none());
        assert!(store.load(&"u.example".parse().expect("a name")).is_none());
        for path in [store.path(&name), store.names.clone()] {
            let mode = fs::metadata(&path).expect("there").permissions().mode();
            assert_eq!(mode & 0o077, 0, "{}", path.display());
        }
        // Cut, even after a whole certificate; changed, of another name, empty: each is as good as
        // none.
        let other = made(&"u.example".parse().expect("a name"), 0, 2_000_000_000);
        let chain = [made(&name, 0, 2_000_000_000), other.clone()].concat();
        store.save(&name, chain.as_bytes()).expect("kept");
        assert!(store.load(&name).is_some());
        let good = fs::read(store.path(&name)).expect("there");
        let whole = good.len() - other.len();
        let mut changed = good.clone();
        *changed.last_mut().expect("some") = b' ';
        for bad in [
            &good[..good.len() / 2],
            &good[..whole],
            &changed,
            other.as_bytes(),
            b"",
        ] {
            fs::write(store.path(&name), bad).expect("written");
            assert!(store.load(&name).is_none());
        }
        // What the operator has put there is taken as it is.
        fs::write(store.path(&name), chain).expect("written");
        assert!(store.load(&name).is_some());
    }

    #[test]
    fn only_what_has_ended_and_is_not_wanted_is_swept() {
        let dir = tempfile::tempdir().expect("a directory");
        let provider = Arc::new(aws_lc_rs::default_provider());
        let store = Store::open(dir.path(), "https://ca.example/dir", provider).expect("opened");
        let names = ["old.example", "wanted.example", "new.example"];
        let names = names.map(|name| name.parse::<CertificateName>().expect("a name"));
        for (name, end) in names.iter().zip([1000, 1000, 3000]) {
            store
                .save(name, made(name, 0, end).as_bytes())
                .expect("kept");
        }
        store.sweep(2000, |name| name == &names[1]);
        let left = names.map(|name| store.load(&name).is_some());
        assert_eq!(left, [false, true, true]);
    }
}
