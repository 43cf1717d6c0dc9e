//! Site keys: ed25519, one role each.

use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE32_NOPAD, HEXLOWER_PERMISSIVE};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};

/// What a site key may sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Names the other keys and its own successors. Kept offline where the site wants it.
    Root,
    /// Signs manifests.
    Publish,
    /// Signs alarms and freshness stamps. The gate holds it.
    Alarm,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Root => "root",
            Role::Publish => "publish",
            Role::Alarm => "alarm",
        })
    }
}

/// Why 32 bytes, or a text, are no public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Neither 64 hexadecimal digits nor 52 of base32.
    #[error("a public key is 64 hexadecimal digits or 52 letters of base32")]
    Text,
    /// No point of the curve, or not the one encoding a point has.
    #[error("not an ed25519 public key")]
    NotAPoint,
    /// A point of small order: some signatures hold under it for any message.
    #[error("weak ed25519 public key")]
    Weak,
}

/// An ed25519 public key: 32 bytes that are a canonical point of large order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Checks 32 bytes.
    ///
    /// # Errors
    /// [`KeyError::NotAPoint`] or [`KeyError::Weak`].
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, KeyError> {
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| KeyError::NotAPoint)?;
        if key.to_edwards().compress().as_bytes() != bytes {
            return Err(KeyError::NotAPoint);
        }
        if key.is_weak() {
            return Err(KeyError::Weak);
        }
        Ok(Self(*bytes))
    }

    /// The 32 bytes, as signed formats hold them.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether `signature` is this key's over `message`, by the strict rules: `S` below the
    /// group order, `R` canonical and of large order.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        VerifyingKey::from_bytes(&self.0).is_ok_and(|key| {
            key.verify_strict(message, &Signature::from_bytes(signature))
                .is_ok()
        })
    }
}

impl TryFrom<&[u8]> for PublicKey {
    type Error = KeyError;

    fn try_from(bytes: &[u8]) -> Result<Self, KeyError> {
        let bytes: &[u8; 32] = bytes.try_into().map_err(|_| KeyError::NotAPoint)?;
        Self::from_bytes(bytes)
    }
}

/// Lower-case hexadecimal, 64 digits.
impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let bytes = match text.len() {
            64 => HEXLOWER_PERMISSIVE.decode(text.as_bytes()),
            52 => BASE32_NOPAD.decode(text.to_ascii_uppercase().as_bytes()),
            _ => return Err(KeyError::Text),
        };
        Self::try_from(bytes.map_err(|_| KeyError::Text)?.as_slice())
    }
}

/// An ed25519 secret key. Wiped from memory when dropped; never printed.
#[derive(Clone)]
pub struct SecretKey(SigningKey);

impl SecretKey {
    /// The key of a 32-byte seed, which the caller took from the system's random source.
    pub fn new(seed: [u8; 32]) -> Self {
        Self(SigningKey::from_bytes(&seed))
    }

    /// The seed, to be kept where nobody else reads it.
    pub fn seed(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(of {})", self.public())
    }
}
