//! A folder in, hybrid torrents and a signed manifest out.
//!
//! ```text
//! walk ─▶ read, hash ─▶ variants (br, zstd) ─▶ split ─▶ hash the rest ─▶ sign ─▶ out/
//!
//! out/manifest           the site record: chain of keys, signed manifest, stamp if any
//! out/<v2 hash>.torrent  one for each bundle
//! out/variants/          compressed forms, by digest of the content
//! out/layout             where the files of each bundle lie, for seeding and for the next time
//! ```
//!
//! Publishing again makes again only what changed; see [`split`](swarm_proto::split) for why a
//! changed file changes one bundle or two. One reading gives all hashes where the piece length can
//! be told in advance; a file that changes meanwhile is noticed. Every write is atomic, and the manifest comes last: a
//! crash leaves what was published before, whole.

mod bundle;
mod compress;
mod error;
mod files;
mod forecast;
mod keys;
mod layout;
mod load;
mod media;
mod run;
mod seen;
mod variants;
mod walk;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use swarm_proto::manifest::{KeySet, SiteManifest, SiteName, SitePath, SiteRecord};
use swarm_proto::metainfo::Metainfo;
use swarm_proto::split::SplitConfig;

pub use error::PublishError;
pub use files::read_limited;
pub use keys::KeyStore;
pub use load::load;
pub use media::{is_compressible, media_type};
pub use run::publish;
pub use walk::{SkipReason, Skipped};

/// What to publish, and how.
#[derive(Debug, Clone)]
pub struct PublishConfig {
    /// The site the folder is.
    pub site: SiteName,
    /// The folder.
    pub root: PathBuf,
    /// What of the folder stands where on the site; default `None`: each file at its own path, but
    /// for those that hide or lie elsewhere.
    pub listed: Option<Vec<ListedFile>>,
    /// Where the results go. Made if absent.
    pub out: PathBuf,
    /// The site's keys, see [`KeyStore`]. Made if absent.
    pub keys: PathBuf,
    /// Announce URLs for the torrents and the manifest.
    pub trackers: Vec<String>,
    /// Gates and bridges that serve the bundles over HTTP (BEP 19).
    pub web_seeds: Vec<String>,
    /// Sizes of bundles; default 32 MiB. A larger target makes fewer bundles, and a change moves
    /// more bytes.
    pub split: SplitConfig,
    /// Whether text is stored compressed too; default true. It takes most of the time of a first
    /// publish.
    pub variants: bool,
    /// Whether what the owner of a file may run bears that in the bundle (BEP 47, attribute `x`);
    /// default false. A site has no use for it, and a mere `chmod` makes another bundle then.
    pub executables: bool,
    /// Whether the manifest is only good together with a stamp not older than a day; default false.
    /// Only for sites with a gate, or somebody else who renews it.
    pub stamped: bool,
    /// How long the manifest holds, seconds; default 30 days, which is the most.
    pub lifetime_secs: u64,
    /// How long browsers may keep a page, seconds; default 60.
    pub page_cache_secs: u32,
    /// How long browsers may keep anything else, seconds; default an hour.
    pub cache_secs: u32,
    /// Threads that hash and compress; default one for each core.
    pub threads: usize,
    /// The time, seconds since 1970.
    pub now: u64,
}

impl PublishConfig {
    /// The defaults, with what has none.
    pub fn new(
        site: SiteName,
        root: impl Into<PathBuf>,
        out: impl Into<PathBuf>,
        keys: impl Into<PathBuf>,
        now: u64,
    ) -> Self {
        Self {
            site,
            root: root.into(),
            listed: None,
            out: out.into(),
            keys: keys.into(),
            trackers: Vec::new(),
            web_seeds: Vec::new(),
            split: SplitConfig::default(),
            variants: true,
            executables: false,
            stamped: false,
            lifetime_secs: 30 * 86_400,
            page_cache_secs: 60,
            cache_secs: 3600,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            now,
        }
    }
}

/// A file that stands on the site at another path than in the folder: one that was fetched from
/// the site, with what the site said of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedFile {
    /// Where it stands on the site.
    pub path: SitePath,
    /// Where it lies, below [`PublishConfig::root`].
    pub disk: PathBuf,
    /// Last change, seconds since 1970; 0: not known.
    pub modified: u64,
    /// Its media type.
    pub media_type: String,
    /// How long browsers may keep it, seconds.
    pub cache_secs: u32,
}

/// What publishing is busy with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Reading every file once, for its digest and, where it seems new, all its hashes.
    Reading,
    /// Making compressed forms that are not there yet.
    Compressing,
    /// Hashing what is left of the bundles that changed.
    Hashing,
}

/// Hears how far publishing is. Called from several threads.
pub trait Progress: Sync {
    /// A phase of so many bytes begins.
    fn begin(&self, phase: Phase, bytes: u64);
    /// So many more bytes of it are done.
    fn advance(&self, bytes: u64);
}

/// For who does not want to know.
impl Progress for () {
    fn begin(&self, _: Phase, _: u64) {}
    fn advance(&self, _: u64) {}
}

/// A published site: all that is needed to seed and to serve it.
#[derive(Debug, Clone)]
pub struct Published {
    /// Keys, manifest and stamp, as `out/manifest` holds them.
    pub record: SiteRecord,
    /// The newest set of the record's keys.
    pub keys: KeySet,
    /// The record's manifest, opened.
    pub manifest: SiteManifest,
    /// In the manifest's order.
    pub bundles: Vec<PublishedBundle>,
    /// What of the folder was left out; empty when loaded rather than published.
    pub skipped: Vec<Skipped>,
}

/// A bundle with where its files lie.
#[derive(Debug, Clone)]
pub struct PublishedBundle {
    /// The torrent.
    pub metainfo: Metainfo,
    /// One path for each of the torrent's files that is no padding, in their order.
    pub files: Vec<PathBuf>,
    /// Whether an earlier publish had the same bundle.
    pub unchanged: bool,
}
