//! The swarm for ordinary browsers: HTTP answers made of verified bytes.
//!
//! The data path ends here: a request becomes a target, a target a file of a signed manifest, and
//! the file's bytes come out of a `VerifiedReader`. Nothing is proxied: what is not in a manifest
//! of a site that asked for help is not served, and no request of a visitor causes one elsewhere.
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

pub mod body;
pub mod bridge;
pub mod cache;
pub mod conditional;
pub mod config;
pub mod duration;
pub mod encoding;
pub mod error;
pub mod follow;
pub mod fuzzing;
pub mod introduction;
mod invitation;
pub mod join;
pub mod limits;
mod page;
pub mod plain;
pub mod range;
pub mod request;
pub mod respond;
pub mod serve;
pub mod site;
pub mod site_source;
pub mod sites;
pub mod stats;
pub mod volunteer;

pub use bridge::{Bridge, BridgeHandle, Carry};
pub use config::BridgeConfig;
pub use site::Standing;
pub use stats::{BridgeStats, SiteCount};
