//! Formats, wire and decisions of Spikeswarm.
//!
//! This crate knows no socket, disk, clock, random source or runtime: bytes, time and seeds are
//! arguments, and what is to be done comes back as values.
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

pub mod bencode;
pub mod bitfield;
pub mod download;
pub mod fuzzing;
pub mod geometry;
pub mod id;
pub mod limits;
pub mod magnet;
pub mod manifest;
pub mod merkle;
pub mod metainfo;
pub mod session;
pub mod split;
pub mod tracker;
pub mod verify;
pub mod wire;
