//! Formats, wire and decisions of Spikeswarm.
//!
//! This crate knows no socket, disk, clock, random source or runtime: bytes, time and seeds are
//! arguments, and what is to be done comes back as values. A driver (`swarm-peer`, a test, a
//! simulation) moves the bytes.
//!
//! # The five types to know
//! - [`Metainfo`]: a torrent, checked. Where its files and pieces lie is its [`Geometry`].
//! - [`SiteManifest`](manifest::SiteManifest): what a site signed: which URL path is which file of
//!   which torrent.
//! - [`PeerSession`](session::PeerSession): one connection to a peer, as a state machine.
//! - [`Download`](download::Download): one torrent over many sessions.
//! - [`VerifiedBytes`]: a piece that was compared with its hash. [`verify`](verify::verify) is the
//!   only way to get one, and nothing else may be stored, served or shown.
//!
//! # The data path
//! ```text
//! socket bytes ─▶ Frame ─▶ Message ─▶ Block ─▶ AssembledPiece ─▶ VerifiedBytes ─▶ store, reader, HTTP
//! ```
//!
//! Every bound that a stranger can push against stands in [`limits`].
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

pub mod bencode;
pub mod bitfield;
pub mod download;
pub mod fuzzing;
pub mod geometry;
pub mod id;
mod lanes;
pub mod limits;
pub mod magnet;
pub mod manifest;
pub mod merkle;
pub mod metainfo;
pub mod session;
pub mod split;
pub mod tracker;
pub mod utp;
pub mod verify;
pub mod wire;

pub use geometry::Geometry;
pub use metainfo::Metainfo;
pub use verify::VerifiedBytes;
