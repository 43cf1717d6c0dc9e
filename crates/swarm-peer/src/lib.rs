//! The BitTorrent engine of Spikeswarm: publish, seed, fetch, volunteer.
//!
//! Decisions are made in `swarm-proto`; here are the sockets, files and clocks they need.
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

pub mod connector;
pub mod http;
pub mod publish;
pub mod uplink;
