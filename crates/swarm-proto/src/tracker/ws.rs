//! WebTorrent's signalling: how peers in browsers meet, in JSON over a WebSocket (spec 0005, 2.7).
//!
//! A browser cannot be called, so a peer hands the tracker offers of connections (WebRTC session
//! descriptions), the tracker passes each on to another peer of the swarm, and that one's answer back. Ids are
//! strings whose characters are bytes (Latin-1), as WebTorrent writes them. Nobody has specified
//! this; what `bittorrent-tracker` for Node does is the measure.
//!
//! Requests are read strictly where a wrong guess would put a wrong peer into a swarm or pass on
//! what nobody has looked at, and leniently elsewhere.

mod request;
mod response;

pub use request::{Announce, Answer, MessageError, Offer, OfferId, Request};
pub use response::Response;

/// Bytes as the characters of a string.
fn latin1(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

#[cfg(test)]
mod tests;
