//! The handshake: 68 bytes that open a connection (BEP 3).

use crate::id::{PeerId, SwarmId};

/// Bytes of a handshake.
pub const HANDSHAKE_LEN: usize = 68;

/// The 19 that counts the name, and the name.
const PROTOCOL: &[u8; 20] = b"\x13BitTorrent protocol";

/// Eight bytes in which a peer says what it can do beyond BEP 3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReservedBits([u8; 8]);

impl ReservedBits {
    /// Nothing beyond BEP 3.
    pub const NONE: Self = Self([0; 8]);

    /// What a Spikeswarm peer can do: the extension protocol and the fast extension.
    pub const OURS: Self = Self([0, 0, 0, 0, 0, 0x10, 0, 0x04]);

    /// Takes the bytes as they are.
    pub const fn new(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }

    /// Extension protocol (BEP 10).
    pub const fn extended(&self) -> bool {
        self.0[5] & 0x10 != 0
    }

    /// Fast extension (BEP 6).
    pub const fn fast(&self) -> bool {
        self.0[7] & 0x04 != 0
    }

    /// Takes part in the DHT (BEP 5).
    pub const fn dht(&self) -> bool {
        self.0[7] & 0x01 != 0
    }

    /// Can speak v2 of a hybrid torrent (BEP 52).
    pub const fn v2(&self) -> bool {
        self.0[7] & 0x10 != 0
    }

    /// The same bits, and that of v2 (BEP 52).
    pub const fn with_v2(mut self) -> Self {
        self.0[7] |= 0x10;
        self
    }

    /// The same bits, and that of the DHT (BEP 5).
    pub const fn with_dht(mut self) -> Self {
        self.0[7] |= 0x01;
        self
    }

    /// What both can do.
    pub const fn and(&self, other: &Self) -> Self {
        let (a, b) = (u64::from_be_bytes(self.0), u64::from_be_bytes(other.0));
        Self((a & b).to_be_bytes())
    }
}

/// Who is calling, and for which swarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handshake {
    /// What the peer can do.
    pub reserved: ReservedBits,
    /// The swarm: a v1 info hash, or the front of a v2 one.
    pub swarm_id: SwarmId,
    /// What the peer calls itself.
    pub peer_id: PeerId,
}

/// Bytes that open no BitTorrent connection. The peer's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// Another protocol; among them the encrypted handshake that some clients try first, and
    /// which they follow with a plain one once refused.
    #[error("not the BitTorrent protocol")]
    Protocol,
}

impl Handshake {
    /// Writes the 68 bytes.
    pub fn encode(&self) -> [u8; HANDSHAKE_LEN] {
        let mut bytes = [0; HANDSHAKE_LEN];
        bytes[..20].copy_from_slice(PROTOCOL);
        bytes[20..28].copy_from_slice(self.reserved.as_bytes());
        bytes[28..48].copy_from_slice(self.swarm_id.as_bytes());
        bytes[48..].copy_from_slice(self.peer_id.as_bytes());
        bytes
    }

    /// Reads a handshake from the front of `bytes`; `None` until all 68 are there.
    ///
    /// Refuses as soon as a byte is wrong: a client that tried encryption first waits for the
    /// connection to close before it tries again in plain.
    ///
    /// # Errors
    /// [`HandshakeError`]: another protocol.
    pub fn decode(bytes: &[u8]) -> Result<Option<Self>, HandshakeError> {
        if bytes
            .iter()
            .zip(PROTOCOL)
            .any(|(got, expected)| got != expected)
        {
            return Err(HandshakeError::Protocol);
        }
        let Some(rest) = bytes.get(PROTOCOL.len()..HANDSHAKE_LEN) else {
            return Ok(None);
        };
        let mut handshake = Self {
            reserved: ReservedBits::NONE,
            swarm_id: SwarmId::new([0; 20]),
            peer_id: PeerId::new([0; 20]),
        };
        if let Some((reserved, rest)) = rest.split_first_chunk::<8>()
            && let Some((swarm_id, rest)) = rest.split_first_chunk::<20>()
            && let Some((peer_id, _)) = rest.split_first_chunk::<20>()
        {
            handshake.reserved = ReservedBits::new(*reserved);
            handshake.swarm_id = SwarmId::new(*swarm_id);
            handshake.peer_id = PeerId::new(*peer_id);
        }
        Ok(Some(handshake))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handshake() -> Handshake {
        Handshake {
            reserved: ReservedBits::OURS.with_v2(),
            swarm_id: SwarmId::new([7; 20]),
            peer_id: PeerId::new(*b"-SW0001-abcdefghijkl"),
        }
    }

    #[test]
    fn decode_undoes_encode() {
        let bytes = handshake().encode();
        assert_eq!(Handshake::decode(&bytes), Ok(Some(handshake())));
        let mut longer = bytes.to_vec();
        longer.extend_from_slice(b"more");
        assert_eq!(Handshake::decode(&longer), Ok(Some(handshake())));
    }

    #[test]
    fn every_front_of_a_handshake_waits_for_more() {
        let bytes = handshake().encode();
        for end in 0..HANDSHAKE_LEN {
            assert_eq!(Handshake::decode(&bytes[..end]), Ok(None), "{end}");
        }
    }

    #[test]
    fn other_protocols_are_refused_at_the_first_wrong_byte() {
        let good = handshake().encode();
        for at in 0..20 {
            let mut bad = good;
            bad[at] ^= 0x20;
            assert_eq!(
                Handshake::decode(&bad[..=at]),
                Err(HandshakeError::Protocol),
                "{at}"
            );
            assert_eq!(
                Handshake::decode(&bad),
                Err(HandshakeError::Protocol),
                "{at}"
            );
        }
        for other in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"\x00",
            b"\x16\x03\x01",
            b"\x14BitTorrent",
        ] {
            assert_eq!(Handshake::decode(other), Err(HandshakeError::Protocol));
        }
    }

    #[test]
    fn bits_are_where_the_beps_put_them() {
        let mut bytes = [0; 8];
        bytes[5] = 0x10;
        assert!(ReservedBits::new(bytes).extended());
        for (bit, name) in [(0x01, "dht"), (0x04, "fast"), (0x10, "v2")] {
            let mut bytes = [0; 8];
            bytes[7] = bit;
            let bits = ReservedBits::new(bytes);
            assert_eq!(
                (bits.dht(), bits.fast(), bits.v2()),
                (name == "dht", name == "fast", name == "v2")
            );
        }
        assert!(ReservedBits::OURS.fast() && ReservedBits::OURS.extended());
        assert!(!ReservedBits::OURS.v2() && ReservedBits::OURS.with_v2().v2());
        assert!(ReservedBits::OURS.and(&ReservedBits::NONE) == ReservedBits::NONE);
    }
}
