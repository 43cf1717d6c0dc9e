//! The front door of a site: calm until the wave comes, then the crowd carries it.
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

pub mod admin;
pub mod assets;
pub mod bridges;
pub mod config;
pub mod csp;
pub mod decide;
pub mod demo;
pub mod divert;
pub mod facts;
pub mod front;
pub mod gate;
pub mod lane;
pub mod meter;
pub mod overload;
pub mod proxy;
mod pulse;
pub mod rewrite;
pub mod serve;
pub mod site;
pub mod tracker;
pub mod watch;
pub mod wellknown;

pub use gate::{Gate, GateConfig, GateError, GateEvent, GateHandle, Parts};
pub use meter::GateStats;
pub use overload::{OverloadConfig, State};
pub use tracker::TrackerLink;
