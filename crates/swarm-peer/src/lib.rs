//! The BitTorrent engine of Spikeswarm: publish, seed, fetch, volunteer.
//!
//! Decisions are made in `swarm-proto`; here are the sockets, files and clocks they need.
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

mod announce;
pub mod config;
pub mod connector;
pub mod control;
mod descriptors;
pub mod discovery;
pub mod http;
mod link;
pub mod node;
mod peers;
pub mod publish;
pub mod reader;
pub mod report;
pub mod store;
pub mod swarm;
mod swarm_task;
pub mod trust;
pub mod uplink;
pub mod webseed;

pub use link::port::Transport;
pub use node::{AddBundle, Node, NodeConfig, NodeError, Source};
pub use reader::VerifiedReader;
pub use store::Storage;
pub use swarm::{SwarmError, SwarmHandle, SwarmState, SwarmStats};
