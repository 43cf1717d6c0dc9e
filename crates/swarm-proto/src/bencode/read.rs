//! A cursor over bencode: the front of a value, one token at a time.

use super::{BencodeError, Dict, List, Value};

/// Where in the input the next token begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// All from the cursor on.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// The value at the cursor, and whether the cursor is behind it: it stays at the front of a list
    /// or dictionary, whose end is not looked for.
    pub(super) fn value(&mut self) -> Result<(Value<'a>, bool), BencodeError> {
        let at = self.at;
        match self.peek()? {
            b'i' => Ok((Value::Int(self.int()?), true)),
            b'0'..=b'9' => Ok((Value::Bytes(self.string()?), true)),
            b'l' => Ok((Value::List(List::at(self.rest())), false)),
            b'd' => Ok((Value::Dict(Dict::at(self.rest())), false)),
            byte => Err(BencodeError::UnexpectedByte { at, byte }),
        }
    }

    /// Goes behind the value at the cursor.
    pub(super) fn skip(&mut self) -> Result<(), BencodeError> {
        let mut open = 0_usize;
        loop {
            match self.peek()? {
                b'l' | b'd' => {
                    open += 1;
                    self.at += 1;
                }
                b'e' => {
                    open = open.saturating_sub(1);
                    self.at += 1;
                }
                b'i' => {
                    self.int()?;
                }
                _ => {
                    self.string()?;
                }
            }
            if open == 0 {
                return Ok(());
            }
        }
    }

    pub(super) fn peek(&self) -> Result<u8, BencodeError> {
        self.bytes
            .get(self.at)
            .copied()
            .ok_or(BencodeError::Truncated)
    }

    /// Reads `i…e`, the cursor at the `i`.
    pub(super) fn int(&mut self) -> Result<i64, BencodeError> {
        let at = self.at;
        self.at += 1;
        let negative = self.peek()? == b'-';
        if negative {
            self.at += 1;
        }
        let first = self.at;
        let mut int = Some(0_i64);
        loop {
            let byte = self.peek()?;
            self.at += 1;
            match byte {
                b'0'..=b'9' => {
                    let digit = i64::from(byte - b'0');
                    // Counted downwards for negatives: the least i64 has no positive twin.
                    int = int.and_then(|int| int.checked_mul(10)).and_then(|int| {
                        if negative {
                            int.checked_sub(digit)
                        } else {
                            int.checked_add(digit)
                        }
                    });
                }
                b'e' => break,
                _ => return Err(BencodeError::MalformedInt { at }),
            }
        }
        let digits = self
            .bytes
            .get(first..self.at.saturating_sub(1))
            .unwrap_or_default();
        match digits {
            [] | [b'0', _, ..] => Err(BencodeError::MalformedInt { at }),
            [b'0'] if negative => Err(BencodeError::MalformedInt { at }),
            _ => int.ok_or(BencodeError::IntRange { at }),
        }
    }

    /// Reads `length:bytes`, the cursor at a digit.
    pub(super) fn string(&mut self) -> Result<&'a [u8], BencodeError> {
        let at = self.at;
        let mut len = Some(0_usize);
        loop {
            let byte = self.peek()?;
            self.at += 1;
            match byte {
                b'0'..=b'9' => {
                    len = len
                        .and_then(|len| len.checked_mul(10))
                        .and_then(|len| len.checked_add(usize::from(byte - b'0')));
                }
                b':' => break,
                _ => return Err(BencodeError::MalformedLength { at }),
            }
        }
        let digits = self
            .bytes
            .get(at..self.at.saturating_sub(1))
            .unwrap_or_default();
        if matches!(digits, [] | [b'0', _, ..]) {
            return Err(BencodeError::MalformedLength { at });
        }
        let string = len
            .and_then(|len| self.at.checked_add(len))
            .and_then(|end| self.bytes.get(self.at..end))
            .ok_or(BencodeError::LengthRange { at })?;
        self.at += string.len();
        Ok(string)
    }
}
