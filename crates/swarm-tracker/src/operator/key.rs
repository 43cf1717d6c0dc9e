//! The operator's key: the root of the keys of all sites that it carries.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use swarm_proto::manifest::{PublicKey, SecretKey};

/// Bytes of a file that is read: 64 digits and whatever an editor adds.
const FILE_LEN_MAX: u64 = 256;

/// A key that is there.
#[derive(Debug, Clone)]
pub(super) struct OperatorKey {
    pub(super) public: PublicKey,
    /// Where it lies, without `..` or links.
    file: PathBuf,
}

impl OperatorKey {
    /// Reads the key, or makes one.
    ///
    /// # Errors
    /// The system's, or the file holds no key: it is left as it is.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let damaged = || {
            let why = "not a key: expected 64 hexadecimal digits";
            io::Error::new(io::ErrorKind::InvalidData, why)
        };
        match fs::metadata(path) {
            Ok(there) if there.len() > FILE_LEN_MAX => return Err(damaged()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => make(path)?,
            Err(error) => return Err(error),
        }
        let text = fs::read_to_string(path)?;
        let seed = HEXLOWER_PERMISSIVE.decode(text.trim().as_bytes());
        let seed: Option<[u8; 32]> = seed.ok().and_then(|seed| seed.try_into().ok());
        Ok(Self {
            public: SecretKey::new(seed.ok_or_else(damaged)?).public(),
            file: fs::canonicalize(path)?,
        })
    }

    /// Makes it the root key of a site whose keys lie in `folder`; the secret is in one place only.
    pub(super) fn lend_to(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        let link = folder.join("root.key");
        match fs::read_link(&link) {
            Ok(there) if there == self.file => return Ok(()),
            Ok(_) => fs::remove_file(&link)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        symlink(&self.file, link)
    }
}

fn make(path: &Path) -> io::Result<()> {
    let seed: [u8; 32] = rand::random();
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut options = fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(HEXLOWER.encode(&seed).as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_lent_without_a_copy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("below/operator.key");
        let made = OperatorKey::open(&path).unwrap();
        assert_eq!(OperatorKey::open(&path).unwrap().public, made.public);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let folder = dir.path().join("keys");
        for _ in 0..2 {
            made.lend_to(&folder).unwrap();
        }
        assert!(
            fs::symlink_metadata(folder.join("root.key"))
                .unwrap()
                .is_symlink()
        );
        let site = swarm_proto::manifest::SiteName::parse("site.example").unwrap();
        let keys = swarm_peer::publish::KeyStore::open(&folder, &site, 1_800_000_000).unwrap();
        assert_eq!(keys.root(), Some(&made.public));
    }

    #[test]
    fn what_is_no_key_is_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        for text in ["", "00", &"zz".repeat(32), &"00".repeat(400)] {
            fs::write(&path, text).unwrap();
            assert!(OperatorKey::open(&path).is_err(), "{text}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }
}
