//! A whole spike on this machine, and a verdict: `spike-gate demo`.
//!
//! One process holds it all, on loopback: an origin whose line to the world carries 8 Mbit/s, gate
//! and tracker and seed on the same host and the same line, four volunteer bridges of 40 Mbit/s that
//! hold nothing at first, and a crowd of plain HTTP visitors. The crowd comes twice, the same both
//! times: to the origin alone, then to the gate.
//!
//! Deliberately absent: anything that a visitor, volunteer or the origin would not have on machines
//! of their own. They share a process, not knowledge.

mod assets;
mod crowd;
mod curve;
mod expect;
mod html;
mod origin;
mod page;
mod panel;
mod plot;
mod report;
mod site;
mod timeline;
mod visitor;

#[cfg(test)]
mod tests;
