//! How web seeds do, for people and machines to look at.

use std::time::{Duration, Instant};

use crate::download::Download;

/// What is to be expected of a web seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum WebSeedState {
    /// It may be asked, and is not: peers serve, or nothing is wanted.
    Ready,
    /// Requests are under way.
    Asked,
    /// It failed, and is left alone for so long.
    Waiting(Duration),
    /// It can't be used, and is left alone for good.
    GivenUp,
    /// It sent what is not in the torrent, and is left alone for good.
    Banned,
}

/// Figures of one web seed.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct WebSeedStats {
    /// Its URL, as it was named.
    pub url: String,
    /// What is to be expected of it.
    pub state: WebSeedState,
    /// Requests under way.
    pub requests: usize,
    /// Bytes a second that come from it, over the last seconds.
    pub down_rate: f64,
    /// Files that it was found to lack.
    pub missing_files: usize,
}

impl Download {
    /// Figures of all web seeds, in the order in which they were named.
    pub fn web_seed_stats(&self, now: Instant) -> Vec<WebSeedStats> {
        let stats = self.web.seeds.values().map(|seed| WebSeedStats {
            url: seed.url.clone(),
            state: match seed.health.waits_until(now) {
                _ if seed.banned => WebSeedState::Banned,
                _ if seed.health.is_given_up() => WebSeedState::GivenUp,
                _ if !seed.requests.is_empty() => WebSeedState::Asked,
                Some(until) => WebSeedState::Waiting(until.saturating_duration_since(now)),
                None => WebSeedState::Ready,
            },
            requests: seed.requests.len(),
            down_rate: seed.rate.per_sec(),
            missing_files: seed.missing_files.len(),
        });
        stats.collect()
    }
}
