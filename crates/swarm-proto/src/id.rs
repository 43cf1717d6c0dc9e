//! Identities: info hashes, what a handshake carries, peers, and digests of file content.
//!
//! An info hash and a swarm id are different types on purpose: a [`SwarmId`] is the 20 bytes that
//! handshakes and trackers carry, which is a whole v1 info hash or the front of a v2 one.

use std::fmt;
use std::str::FromStr;

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

/// Why bytes or text are no identity. The fault of whoever wrote them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdError {
    /// The wrong number of bytes, or of hexadecimal digits.
    #[error("expected {expected} bytes, got {got}")]
    Length {
        /// Bytes of this kind of identity.
        expected: usize,
        /// Bytes that were given.
        got: usize,
    },
    /// Not hexadecimal.
    #[error("not hexadecimal")]
    Hex,
}

macro_rules! identity {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;

            /// Takes the bytes as they are.
            pub const fn new(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }

            /// The bytes.
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }
        }

        impl From<[u8; $len]> for $name {
            fn from(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = IdError;

            fn try_from(bytes: &[u8]) -> Result<Self, IdError> {
                match bytes.try_into() {
                    Ok(bytes) => Ok(Self(bytes)),
                    Err(_) => Err(IdError::Length { expected: $len, got: bytes.len() }),
                }
            }
        }

        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            /// Reads hexadecimal of either case.
            fn from_str(text: &str) -> Result<Self, IdError> {
                if text.len() != $len * 2 {
                    return Err(IdError::Length { expected: $len, got: text.len() / 2 });
                }
                let bytes = HEXLOWER_PERMISSIVE
                    .decode(text.as_bytes())
                    .map_err(|_| IdError::Hex)?;
                Self::try_from(bytes.as_slice())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&HEXLOWER.encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    };
}

identity! {
    /// SHA-1 of a raw info dictionary (BEP 3).
    InfoHashV1, 20
}
identity! {
    /// SHA-256 of a raw info dictionary (BEP 52).
    InfoHashV2, 32
}
identity! {
    /// What handshakes and trackers carry: a v1 info hash, or the first 20 bytes of a v2 one.
    SwarmId, 20
}
identity! {
    /// What a peer calls itself (BEP 3, BEP 20). Chosen by the peer, so it proves nothing.
    PeerId, 20
}
identity! {
    /// SHA-256 of a whole file's content.
    Digest, 32
}

impl InfoHashV1 {
    /// Hashes the exact bytes of an info dictionary.
    pub fn of_info(raw_info: &[u8]) -> Self {
        Self(Sha1::digest(raw_info).into())
    }

    /// The swarm that peers of this torrent meet in.
    pub const fn swarm_id(&self) -> SwarmId {
        SwarmId(self.0)
    }
}

impl InfoHashV2 {
    /// Hashes the exact bytes of an info dictionary.
    pub fn of_info(raw_info: &[u8]) -> Self {
        Self(Sha256::digest(raw_info).into())
    }

    /// The swarm that v2 peers of this torrent meet in: the hash cut to 20 bytes (BEP 52).
    pub fn swarm_id(&self) -> SwarmId {
        let mut front = [0; 20];
        front.copy_from_slice(&self.0[..20]);
        SwarmId(front)
    }
}

impl Digest {
    /// Hashes content that lies whole in memory.
    pub fn of(content: &[u8]) -> Self {
        Self(Sha256::digest(content).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_and_from_str_are_inverse() {
        let id = InfoHashV1::new([0xab; 20]);
        assert_eq!(id.to_string(), "ab".repeat(20));
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!("AB".repeat(20).parse(), Ok(id));
        assert_eq!(format!("{id:?}"), format!("InfoHashV1({id})"));
    }

    #[test]
    fn wrong_lengths_and_digits_are_refused() {
        assert_eq!(
            SwarmId::try_from(&[0; 19][..]),
            Err(IdError::Length {
                expected: 20,
                got: 19
            })
        );
        assert!(matches!(
            "ab".parse::<Digest>(),
            Err(IdError::Length { .. })
        ));
        assert_eq!("zz".repeat(32).parse::<Digest>(), Err(IdError::Hex));
        assert_eq!("é".repeat(20).parse::<SwarmId>(), Err(IdError::Hex));
    }

    #[test]
    fn v2_swarm_id_is_the_front_of_the_hash() {
        let hash = InfoHashV2::of_info(b"d4:name1:ae");
        assert_eq!(hash.swarm_id().as_bytes()[..], hash.as_bytes()[..20]);
    }

    #[test]
    fn digest_of_abc_is_the_one_of_fips_180() {
        assert_eq!(
            Digest::of(b"abc").to_string(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(
            InfoHashV1::of_info(b"abc").to_string(),
            "a9993e364706816aba3e25717850c26c9cd0d89d"
        );
    }
}
