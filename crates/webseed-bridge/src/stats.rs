//! What a bridge counts: answers and bytes, by site.

use std::sync::atomic::{AtomicU64, Ordering};

use swarm_proto::manifest::SiteName;

/// Counters of one site.
#[derive(Debug, Default)]
pub struct SiteStats {
    hits: AtomicU64,
    bytes: AtomicU64,
    sent_home: AtomicU64,
}

impl SiteStats {
    pub(crate) fn hit(&self) {
        self.hits.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn sent(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn home(&self) {
        self.sent_home.fetch_add(1, Ordering::Relaxed);
    }

    /// Requests answered with a file or a part of one.
    pub fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    /// Bytes of files handed to visitors' connections, without heads.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Visitors sent back to the site.
    pub fn sent_home(&self) -> u64 {
        self.sent_home.load(Ordering::Relaxed)
    }
}

/// Counts of one site at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteCount {
    /// The site.
    pub site: SiteName,
    /// As [`SiteStats::hits`].
    pub hits: u64,
    /// As [`SiteStats::bytes`].
    pub bytes: u64,
    /// As [`SiteStats::sent_home`].
    pub sent_home: u64,
}

/// Counts of a bridge at one moment. Sites it has left are in the sums, not in the list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BridgeStats {
    /// Requests answered with a file or a part of one.
    pub hits: u64,
    /// Bytes of files handed to visitors' connections, without heads.
    pub bytes_served: u64,
    /// Connections open now.
    pub connections: u64,
    /// The sites carried now, by name.
    pub sites: Vec<SiteCount>,
}
