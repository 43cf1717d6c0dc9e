//! Every bound that a visitor, a tracker or a site can push against, with its reason.

/// Longest path plus query read. hyper refuses whole heads past [`HEAD_LEN_MAX`] with a 431; a
/// target this long is no page of any site.
pub const TARGET_LEN_MAX: usize = 8 * 1024;

/// Longest request head, in bytes: what browsers send stays below 4 KiB when no cookies are set.
pub const HEAD_LEN_MAX: usize = 16 * 1024;

/// Most header fields in a request.
pub const HEADERS_MAX: usize = 64;

/// Most sites that one bridge carries: each costs a manifest in memory.
pub const SITES_MAX: usize = 256;

/// Sites whose keys are kept in memory; those carried and those that were listed and failed.
pub const SITES_KNOWN_MAX: usize = 1024;

/// Trackers that may call a bridge back: those it was told of, and those that manifests name.
pub const INVITED_TRACKERS_MAX: usize = 1024;

/// Largest reply to the long-poll for sites in need.
pub const SITES_REPLY_LEN_MAX: usize = 4 * 1024 * 1024;

/// Files up to this many bytes are read whole and checked before the status line is sent.
pub const SMALL_FILE_LEN: u64 = 64 * 1024;
