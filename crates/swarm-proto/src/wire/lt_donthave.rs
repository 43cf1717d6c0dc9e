//! lt_donthave: a peer no longer has a piece (BEP 54).

/// Our number for lt_donthave, which peers put on the messages they send us.
pub const LT_DONTHAVE_ID: u8 = 7;

/// What is wrong with a message of lt_donthave. The peer's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DontHaveError {
    /// Not the four bytes of a piece's number.
    #[error("lt_donthave message of {0} bytes")]
    Length(usize),
}

/// The sender had this piece and lost it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DontHave {
    /// Number of the piece, not yet held against the torrent.
    pub piece: u32,
}

impl DontHave {
    /// Writes the payload of the extended message.
    pub const fn encode(self) -> [u8; 4] {
        self.piece.to_be_bytes()
    }

    /// Reads the payload of the extended message.
    ///
    /// # Errors
    /// [`DontHaveError`]: not four bytes.
    pub fn decode(payload: &[u8]) -> Result<Self, DontHaveError> {
        let bytes = payload.try_into();
        let bytes = bytes.map_err(|_| DontHaveError::Length(payload.len()))?;
        let piece = u32::from_be_bytes(bytes);
        Ok(Self { piece })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_the_number_of_a_piece() {
        let lost = DontHave { piece: 0x0102_0304 };
        assert_eq!(lost.encode(), [1, 2, 3, 4]);
        assert_eq!(DontHave::decode(&[1, 2, 3, 4]), Ok(lost));
    }

    #[test]
    fn payloads_of_another_length_are_refused() {
        let cases: &[&[u8]] = &[
            b"",
            b"\0",
            b"\0\0\0",
            b"\0\0\0\0\0",
            b"d5:piecei1ee",
            &[0; 400],
        ];
        for case in cases {
            let wrong = DontHaveError::Length(case.len());
            assert_eq!(DontHave::decode(case), Err(wrong), "{case:?}");
        }
    }
}
