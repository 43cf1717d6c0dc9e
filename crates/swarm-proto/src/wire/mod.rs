//! What peers say to each other: BEP 3, 6, 9, 10, 52, 54 and 55, as bytes and as values.
//!
//! Plain integers as the wire carries them: nothing here knows which pieces exist, or what is
//! allowed when. That is the business of [`session`](crate::session).

pub mod core;
pub mod extended;
pub mod frame;
pub mod handshake;
pub mod hashes;
pub mod holepunch;
pub mod lsd;
pub mod lt_donthave;
pub mod pex;

pub use self::core::{Message, RawBlock, RawRequest};
pub use extended::{ExtendedHandshake, MetadataMessage};
pub use frame::{FrameDecoder, FrameError};
pub use handshake::{Handshake, HandshakeError, ReservedBits};
pub use hashes::{HashRequest, RawHashes};
pub use holepunch::HolepunchMessage;
pub use lt_donthave::DontHave;
pub use pex::{PexMessage, PexPeer};
