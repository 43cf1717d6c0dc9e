//! What each byte of the site must be, by its signed manifest.
//!
//! This is the demo's judge. Visitors fetch as any browser would and know nothing of the swarm;
//! what they got is held against the manifest here.

use std::collections::HashMap;
use std::path::Path;

use data_encoding::BASE64;
use sha2::{Digest as _, Sha256, Sha384, Sha512};
use swarm_proto::id::Digest;
use swarm_proto::manifest::{Lookup, SiteManifest, SiteName, SitePath};
use url::Url;

use super::page::{self, Difference};

/// Where the gate answers for the swarm itself; not part of the site.
const WELL_KNOWN: &str = "/.well-known/swarm/";

/// The signed manifest, and the pages it vouches for.
pub(super) struct Expected {
    /// Names of the site; the first is the signed one.
    names: Vec<SiteName>,
    label: String,
    manifest: SiteManifest,
    /// HTML files by their path, read from the folder and matching the manifest.
    pages: HashMap<SitePath, String>,
}

/// Why a body is not what the manifest says.
#[derive(Debug, thiserror::Error)]
pub(super) enum Wrong {
    /// Neither the site's address nor a bridge's way to write it.
    #[error("{0} is no address of the site")]
    Elsewhere(Url),
    /// The manifest has no such file, yet something answered with one.
    #[error("{0} is not in the manifest")]
    Unlisted(String),
    /// The bytes are others.
    #[error("{path}: SHA-256 {got} instead of {want}")]
    Digest {
        /// The file.
        path: String,
        /// What came.
        got: Digest,
        /// What the manifest says.
        want: Digest,
    },
    /// A page that is not the manifest's page, even with what the gate may change undone.
    #[error("{path}: {difference}")]
    Page {
        /// The file.
        path: String,
        /// Where they part.
        difference: Difference,
    },
    /// The page asked for other bytes (`integrity=`).
    #[error("{0} does not match integrity={1:?}")]
    Integrity(Url, String),
}

/// A folder whose pages do not match its manifest.
#[derive(Debug, thiserror::Error)]
#[error("page {0} on disk is not the one that was published")]
pub struct Unpublished(String);

impl Expected {
    /// Reads the pages of `root` that `manifest` lists.
    ///
    /// # Errors
    /// [`Unpublished`]: a page changed since, or cannot be read.
    pub(super) fn new(manifest: SiteManifest, root: &Path) -> Result<Self, Unpublished> {
        let mut pages = HashMap::new();
        for (path, entry) in &manifest.files {
            if !entry.media_type.starts_with("text/html") {
                continue;
            }
            let unpublished = || Unpublished(path.as_str().to_owned());
            let mut file = root.to_path_buf();
            file.extend(path.components());
            let bytes = std::fs::read(&file).map_err(|_| unpublished())?;
            if Digest::of(&bytes) != entry.digest {
                return Err(unpublished());
            }
            // A page that is no UTF-8 is compared by its digest alone.
            if let Ok(text) = String::from_utf8(bytes) {
                pages.insert(path.clone(), text);
            }
        }
        Ok(Self {
            label: manifest.site.label(),
            names: vec![manifest.site.clone()],
            manifest,
            pages,
        })
    }

    /// The same files are also served at another address.
    #[must_use]
    pub(super) fn also_at(mut self, home: &Url) -> Self {
        self.names.extend(SiteName::of(home));
        self
    }

    /// The file of the site that an address names, wherever it is served.
    ///
    /// `http://<site>/path`, `http://<label>.<any domain>/path` or `http://<any>/<site>/path`.
    pub(super) fn path_of(&self, url: &Url) -> Option<SitePath> {
        let host = url.host_str()?;
        let own = SiteName::of(url).is_ok_and(|name| self.names.contains(&name));
        let labelled = host
            .split_once('.')
            .is_some_and(|(first, _)| first.eq_ignore_ascii_case(&self.label));
        if own || labelled {
            return SitePath::parse(url.path()).ok();
        }
        let rest = url
            .path()
            .strip_prefix('/')?
            .strip_prefix(self.manifest.site.as_str())?;
        SitePath::parse(rest).ok()
    }

    /// The manifest's file for what was asked.
    fn lookup(&self, path: &SitePath) -> Option<(&SitePath, Digest)> {
        match self.manifest.lookup(path) {
            Lookup::File(path, entry) => Some((path, entry.digest)),
            _ => None,
        }
    }

    /// Judges the body that answered a request for `asked` with 200.
    ///
    /// # Errors
    /// [`Wrong`]: what is wrong with it.
    pub(super) fn judge(
        &self,
        asked: &Url,
        integrity: Option<&str>,
        body: &[u8],
    ) -> Result<(), Wrong> {
        if let Some(demanded) = integrity
            && !satisfies(demanded, body)
        {
            return Err(Wrong::Integrity(asked.clone(), demanded.to_owned()));
        }
        let asked_path = self
            .path_of(asked)
            .ok_or_else(|| Wrong::Elsewhere(asked.clone()))?;
        let Some((path, want)) = self.lookup(&asked_path) else {
            if asked.path().starts_with(WELL_KNOWN) {
                return Ok(());
            }
            return Err(Wrong::Unlisted(asked_path.as_str().to_owned()));
        };
        let got = Digest::of(body);
        if got == want {
            return Ok(());
        }
        let name = || path.as_str().to_owned();
        match (self.pages.get(path), std::str::from_utf8(body)) {
            (Some(page), Ok(received)) => {
                page::compare(page, received, &|address| self.address(asked, address)).map_err(
                    |difference| Wrong::Page {
                        path: name(),
                        difference,
                    },
                )
            }
            _ => Err(Wrong::Digest {
                path: name(),
                got,
                want,
            }),
        }
    }

    /// What an address in a page stands for: a file of the site, or itself.
    fn address(&self, base: &Url, address: &str) -> String {
        let Ok(url) = base.join(address.trim()) else {
            return address.to_owned();
        };
        match self.path_of(&url) {
            Some(path) => {
                let query = url.query().map(|q| format!("?{q}")).unwrap_or_default();
                let fragment = url.fragment().map(|f| format!("#{f}")).unwrap_or_default();
                format!("{}{query}{fragment}", path.as_str())
            }
            None => url.to_string(),
        }
    }
}

/// Whether `body` has one of the digests of an `integrity` attribute; only the strongest
/// algorithm that is named counts, and an attribute without any known one demands nothing.
fn satisfies(integrity: &str, body: &[u8]) -> bool {
    for (algorithm, digest) in [
        ("sha512-", BASE64.encode(&Sha512::digest(body))),
        ("sha384-", BASE64.encode(&Sha384::digest(body))),
        ("sha256-", BASE64.encode(&Sha256::digest(body))),
    ] {
        let mut named = integrity
            .split_ascii_whitespace()
            .filter_map(|one| one.strip_prefix(algorithm))
            .map(|one| one.split('?').next().unwrap_or_default())
            .peekable();
        if named.peek().is_some() {
            return named.any(|one| one == digest);
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integrity_is_judged_by_its_strongest_digest() {
        let good = format!("sha256-{}", BASE64.encode(&Sha256::digest(b"x")));
        let strong = format!("sha384-{}", BASE64.encode(&Sha384::digest(b"x")));
        assert!(satisfies(&good, b"x"));
        assert!(!satisfies(&good, b"y"));
        assert!(satisfies(&format!("sha256-AAAA {strong}"), b"x"));
        assert!(!satisfies(&format!("{good} sha384-AAAA"), b"x"));
        assert!(satisfies("md5-AAAA", b"x"));
    }
}
