//! [`SiteManifest`]: the map of a site, from URL path to a file in a bundle (spec 0002, 5).

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use super::error::FormatError;
use super::fields::{Fields as _, decode_dict, field, int};
use super::name::SiteName;
use super::path::SitePath;
use crate::bencode::{Dict, Item, Value};
use crate::id::{Digest, InfoHashV1, InfoHashV2, SwarmId};
use crate::limits;
use crate::metainfo::is_tracker_url;

/// What a site publishes, at one sequence number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteManifest {
    /// The site it is for.
    pub site: SiteName,
    /// Rises with each manifest of the site.
    pub sequence: u64,
    /// Seconds since 1970.
    pub created: u64,
    /// Seconds since 1970; past it nothing is served from this manifest.
    pub expires: u64,
    /// Whether it is only good together with a fresh [`Stamp`](super::Stamp).
    pub stamped: bool,
    /// The torrents that hold the files.
    pub bundles: Vec<BundleEntry>,
    /// Every published path. No key names a folder.
    pub files: BTreeMap<SitePath, FileEntry>,
}

/// One bundle of a site: a hybrid torrent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleEntry {
    /// Its v1 info hash; only speaks to old clients.
    pub v1: InfoHashV1,
    /// Its v2 info hash, which decides.
    pub v2: InfoHashV2,
    /// The id under which aria2 looks for it ([`Metainfo::alias_id`]); a tracker must know it to
    /// send aria2 anywhere. Vouches for nothing.
    ///
    /// [`Metainfo::alias_id`]: crate::metainfo::Metainfo::alias_id
    pub alias: Option<SwarmId>,
    /// Bytes of its files, padding not counted.
    pub length: u64,
    /// Announce URLs, in order of preference.
    pub trackers: Vec<String>,
}

/// Where the bytes of one path are, and how to serve them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    /// Index into [`SiteManifest::bundles`].
    pub bundle: u32,
    /// Index into the files of the bundle's metainfo, pad files counted.
    pub file: u32,
    /// Bytes.
    pub length: u64,
    /// SHA-256 of the content.
    pub digest: Digest,
    /// For `Content-Type`, with its parameters.
    pub media_type: String,
    /// For `Cache-Control: max-age`.
    pub cache_secs: u32,
    /// Seconds since 1970, for `Last-Modified`.
    pub modified: u64,
    /// Compressed forms of the same content, in the same bundle. At most one of each encoding.
    pub variants: Vec<Variant>,
}

/// A compressed form of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    /// For `Content-Encoding`.
    pub encoding: Encoding,
    /// Index into the files of the bundle's metainfo, pad files counted.
    pub file: u32,
    /// Bytes as compressed.
    pub length: u64,
    /// SHA-256 of the compressed bytes.
    pub digest: Digest,
}

/// A content coding that bundles hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Encoding {
    /// Brotli (RFC 7932).
    Brotli,
    /// Zstandard (RFC 8878).
    Zstd,
}

impl Encoding {
    /// Every coding, the one that is usually smaller first.
    pub const ALL: [Encoding; 2] = [Encoding::Brotli, Encoding::Zstd];

    /// The token of `Content-Encoding` and `Accept-Encoding`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Encoding::Brotli => "br",
            Encoding::Zstd => "zstd",
        }
    }

    /// The folder under `.swarm` that holds such variants inside a bundle.
    pub const fn folder(self) -> &'static str {
        match self {
            Encoding::Brotli => "br",
            Encoding::Zstd => "zst",
        }
    }

    /// The coding of a token of `Content-Encoding`.
    pub fn from_token(token: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == token)
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a manifest says about a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup<'m> {
    /// This file; for a folder, its index page.
    File(&'m SitePath, &'m FileEntry),
    /// The path is a folder with an index page, written without its slash.
    RedirectSlash,
    /// Not published.
    Missing,
}

/// Pages that stand for their folder, in order of preference.
pub const INDEX_PAGES: [&str; 2] = ["index.html", "index.htm"];

impl SiteManifest {
    /// Finds the file for the path of a request.
    pub fn lookup(&self, path: &SitePath) -> Lookup<'_> {
        if path.is_folder() {
            return match self.index_of(path.as_str()) {
                Some((path, file)) => Lookup::File(path, file),
                None => Lookup::Missing,
            };
        }
        if let Some((path, file)) = self.files.get_key_value(path) {
            return Lookup::File(path, file);
        }
        match self.index_of(&format!("{path}/")) {
            Some(_) => Lookup::RedirectSlash,
            None => Lookup::Missing,
        }
    }

    fn index_of(&self, folder: &str) -> Option<(&SitePath, &FileEntry)> {
        INDEX_PAGES
            .iter()
            .find_map(|page| self.files.get_key_value(format!("{folder}{page}").as_str()))
    }

    /// The bundle that holds a file of this manifest.
    pub fn bundle_of(&self, file: &FileEntry) -> Option<&BundleEntry> {
        self.bundles.get(file.bundle as usize)
    }

    /// Checks all that decoding checks, so that nothing is signed that would be refused.
    pub(super) fn check(&self) -> Result<(), FormatError> {
        count("bundles", self.bundles.len(), limits::MANIFEST_BUNDLES_MAX)?;
        count("files", self.files.len(), limits::MANIFEST_FILES_MAX)?;
        let mut seen = HashSet::with_capacity(self.bundles.len());
        for bundle in &self.bundles {
            if !seen.insert(bundle.v2) {
                return Err(field("bundles", "a bundle is listed twice"));
            }
            count(
                "trackers",
                bundle.trackers.len(),
                limits::BUNDLE_TRACKERS_MAX,
            )?;
            if !bundle.trackers.iter().all(|url| is_tracker_url(url)) {
                return Err(field("trackers", "not a tracker's URL"));
            }
        }
        for (path, file) in &self.files {
            if path.is_folder() {
                return Err(field("files", "a path names a folder"));
            }
            if file.bundle as usize >= self.bundles.len() {
                return Err(field("bundle", "no such bundle"));
            }
            if !is_media_type(&file.media_type) {
                return Err(field("type", "not a media type"));
            }
            if !file
                .variants
                .is_sorted_by(|one, next| one.encoding < next.encoding)
            {
                return Err(field("variants", "encodings are not in order"));
            }
        }
        Ok(())
    }

    pub(super) fn body_to_bytes(&self) -> Result<Vec<u8>, FormatError> {
        self.check()?;
        let bundles = self
            .bundles
            .iter()
            .map(|bundle| {
                let alias = bundle.alias.map(|alias| ("alias", Item::bytes(alias)));
                let trackers = bundle.trackers.iter().map(Item::bytes);
                let entries = [
                    ("length", int("length", bundle.length)?),
                    ("trackers", Item::list(trackers)),
                    ("v1", Item::bytes(bundle.v1)),
                    ("v2", Item::bytes(bundle.v2)),
                ];
                Ok(Item::dict(alias.into_iter().chain(entries)))
            })
            .collect::<Result<Vec<_>, FormatError>>()?;
        let files = self
            .files
            .iter()
            .map(|(path, file)| Ok((path.as_str(), file.to_item()?)))
            .collect::<Result<Vec<_>, FormatError>>()?;
        let bytes = Item::dict([
            ("bundles", Item::List(bundles)),
            ("files", Item::dict(files)),
        ])
        .to_bytes();
        super::fields::check_len("manifest body", bytes.len(), limits::MANIFEST_BODY_LEN_MAX)?;
        Ok(bytes)
    }

    /// Reads `bundles` and `files` of a body; the rest comes from the signed head.
    pub(super) fn read_body(&mut self, bytes: &[u8]) -> Result<(), FormatError> {
        let dict = decode_dict(
            "manifest body",
            bytes,
            limits::MANIFEST_BODY_LEN_MAX,
            limits::MANIFEST_TOKENS_MAX,
        )?;
        self.bundles = dict
            .need_list("bundles", limits::MANIFEST_BUNDLES_MAX)?
            .iter()
            .map(BundleEntry::from_value)
            .collect::<Result<_, _>>()?;
        let files = dict
            .need("files")?
            .as_dict()
            .ok_or(field("files", "not a dictionary"))?;
        count("files", files.len(), limits::MANIFEST_FILES_MAX)?;
        self.files = files
            .iter()
            .map(|(path, value)| {
                let text = std::str::from_utf8(path).map_err(|_| field("files", "not UTF-8"))?;
                let path = SitePath::from_decoded(text).map_err(|source| FormatError::Path {
                    path: text.chars().take(80).collect(),
                    source,
                })?;
                let dict = value.as_dict().ok_or(field("files", "not a dictionary"))?;
                Ok((path, FileEntry::from_dict(dict)?))
            })
            .collect::<Result<_, FormatError>>()?;
        self.check()
    }
}

impl BundleEntry {
    fn from_value(value: Value<'_>) -> Result<Self, FormatError> {
        let dict = value
            .as_dict()
            .ok_or(field("bundles", "not a dictionary"))?;
        let trackers = dict
            .need_list("trackers", limits::BUNDLE_TRACKERS_MAX)?
            .iter()
            .map(|url| {
                url.as_str()
                    .map(str::to_owned)
                    .ok_or(field("trackers", "not a URL"))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            v1: InfoHashV1::new(dict.need_array("v1")?),
            v2: InfoHashV2::new(dict.need_array("v2")?),
            alias: match dict.get(b"alias") {
                Some(_) => Some(SwarmId::new(dict.need_array("alias")?)),
                None => None,
            },
            length: dict.need_u64("length")?,
            trackers,
        })
    }
}

impl FileEntry {
    fn to_item(&self) -> Result<Item, FormatError> {
        let mut entries = vec![
            ("bundle", Item::int(self.bundle.into())),
            ("cache", Item::int(self.cache_secs.into())),
            ("digest", Item::bytes(self.digest)),
            ("file", Item::int(self.file.into())),
            ("length", int("length", self.length)?),
            ("modified", int("modified", self.modified)?),
            ("type", Item::bytes(&self.media_type)),
        ];
        if !self.variants.is_empty() {
            let variants = self
                .variants
                .iter()
                .map(|variant| {
                    Ok(Item::dict([
                        ("digest", Item::bytes(variant.digest)),
                        ("encoding", Item::bytes(variant.encoding.as_str())),
                        ("file", Item::int(variant.file.into())),
                        ("length", int("length", variant.length)?),
                    ]))
                })
                .collect::<Result<_, FormatError>>()?;
            entries.push(("variants", Item::List(variants)));
        }
        Ok(Item::dict(entries))
    }

    fn from_dict(dict: Dict<'_>) -> Result<Self, FormatError> {
        let variants = match dict.get(b"variants") {
            None => Vec::new(),
            Some(_) => dict
                .need_list("variants", Encoding::ALL.len())?
                .iter()
                .map(Variant::from_value)
                .collect::<Result<_, _>>()?,
        };
        Ok(Self {
            bundle: dict.need_u32("bundle")?,
            file: dict.need_u32("file")?,
            length: dict.need_u64("length")?,
            digest: Digest::new(dict.need_array("digest")?),
            media_type: dict
                .need_str("type", limits::MEDIA_TYPE_LEN_MAX)?
                .to_owned(),
            cache_secs: dict.need_u32("cache")?,
            modified: dict.need_u64("modified")?,
            variants,
        })
    }
}

impl Variant {
    fn from_value(value: Value<'_>) -> Result<Self, FormatError> {
        let dict = value
            .as_dict()
            .ok_or(field("variants", "not a dictionary"))?;
        Ok(Self {
            encoding: Encoding::from_token(dict.need_str("encoding", 16)?)
                .ok_or(field("encoding", "unknown"))?,
            file: dict.need_u32("file")?,
            length: dict.need_u64("length")?,
            digest: Digest::new(dict.need_array("digest")?),
        })
    }
}

fn count(what: &'static str, len: usize, max: usize) -> Result<(), FormatError> {
    if len > max {
        return Err(FormatError::TooMany { what, max });
    }
    Ok(())
}

/// Whether a manifest can hold this media type: `type/subtype` with parameters, all of it fit for a
/// header line.
pub fn is_media_type(text: &str) -> bool {
    let printable = text.bytes().all(|b| matches!(b, b' '..=b'~'));
    let essence = text.split(';').next().unwrap_or_default();
    let token = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b))
    };
    let two_tokens = essence
        .split_once('/')
        .is_some_and(|(kind, subtype)| token(kind) && token(subtype));
    text.len() <= limits::MEDIA_TYPE_LEN_MAX && printable && two_tokens
}
