//! The front door of a site: calm until the wave comes, then the crowd carries it.
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

pub mod assets;
pub mod bridges;
pub mod csp;
pub mod decide;
pub mod demo;
pub mod divert;
pub mod duration;
pub mod facts;
pub mod front;
pub mod meter;
pub mod overload;
pub mod proxy;
pub mod rewrite;
pub mod serve;
pub mod wellknown;
