//! What an operator may set about the bridges of volunteers.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::duration;

/// How bridges of volunteers are proven (T15) and audited (T57).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VolunteerConfig {
    /// Least time between two calls to one address. Somebody may name a neighbour's port: this is
    /// how often that neighbour hears of it at first; later less. Default: 30 s.
    #[serde(with = "duration")]
    pub call_interval: Duration,
    /// Time after which a bridge must prove itself again, a quarter more or less. Default: 10 min.
    #[serde(with = "duration")]
    pub renew_interval: Duration,
    /// Time for a call and its answer. Default: 5 s.
    #[serde(with = "duration")]
    pub call_timeout: Duration,
    /// Calls under way at a time. Each is a connection and some 20 KiB. Default: 128.
    pub calls_max: usize,
    /// Longest time from a visitor sent to a bridge, or an audit of one whose site is in need, to
    /// the next audit; half of it on average. Default: 40 s.
    #[serde(with = "duration")]
    pub audit_interval: Duration,
    /// The same where nobody is sent to. Default: 2 min.
    #[serde(with = "duration")]
    pub audit_idle_interval: Duration,
    /// Time for an audit, whatever the bridge does. Default: 15 s.
    #[serde(with = "duration")]
    pub audit_timeout: Duration,
    /// Audits under way at a time. Default: 64.
    pub audits_max: usize,
    /// Longest file that is fetched in an audit, in bytes. A part of a file has no digest to be
    /// compared with, so longer ones are not audited. Default: 1 MiB.
    pub audit_len_max: u64,
    /// What audits may fetch on average, bytes per second; where that is not enough they come
    /// later than they should. Default: 2,000,000.
    pub audit_rate: u64,
    /// Addresses of this host from which audits come, one of them at random each time: best such
    /// that nobody knows as the tracker's. Default: whichever the system takes.
    pub audit_from: Vec<IpAddr>,
    /// How long no visitor is sent to a bridge that has shown a wrong byte. Default: 6 h.
    #[serde(with = "duration")]
    pub eviction: Duration,
}

impl Default for VolunteerConfig {
    fn default() -> Self {
        Self {
            call_interval: Duration::from_secs(30),
            renew_interval: Duration::from_secs(600),
            call_timeout: Duration::from_secs(5),
            calls_max: 128,
            audit_interval: Duration::from_secs(40),
            audit_idle_interval: Duration::from_secs(120),
            audit_timeout: Duration::from_secs(15),
            audits_max: 64,
            audit_len_max: 1 << 20,
            audit_rate: 2_000_000,
            audit_from: Vec::new(),
            eviction: Duration::from_secs(6 * 3600),
        }
    }
}
