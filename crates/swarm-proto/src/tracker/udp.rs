//! Trackers over UDP (BEP 15, with the URL's path by BEP 41): packets both ways, and both
//! sides of the conversation.
//!
//! Requests are read strictly: who sends them is known only once it has shown that it hears us.
//! Replies are read leniently, as real trackers cut the last peer off or add bytes.

mod client;
mod packet;
mod server;
mod token;

pub use client::{Answer, Ask, ClientError, UdpClient};
pub use packet::{ConnectionToken, PacketError, Request, Response};
pub use server::{Heard, Ignored, UdpServer, peers_that_fit};
pub use token::TokenMint;

#[cfg(test)]
mod tests;
