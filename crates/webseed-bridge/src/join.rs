//! Bundles to swarms: how a site's manifest becomes files that can be read.

use std::sync::Arc;

use crate::body::Source;

/// The files of one bundle, wherever its bytes come from.
pub trait BundleFiles: Send + Sync {
    /// The file at `index` of the bundle's metainfo.
    fn file(&self, index: u32) -> Arc<dyn Source>;
}

/// A bundle of an edition.
pub type Bundle = Arc<dyn BundleFiles>;
