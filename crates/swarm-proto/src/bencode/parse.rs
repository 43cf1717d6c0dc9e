//! The reader: one pass, an explicit stack, every bound checked before it is crossed.

use super::{Dict, Entries, Value};
use crate::limits;

/// How strict to be, and how much to take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Refuse dictionaries whose keys are not sorted. Everything else is in canonical form always.
    pub canonical: bool,
    /// Containers inside containers.
    pub depth_max: usize,
    /// Values and keys.
    pub tokens_max: usize,
}

impl Rules {
    /// Messages of peers and trackers.
    pub const NETWORK: Rules = Rules {
        canonical: false,
        depth_max: limits::BENCODE_DEPTH_MAX,
        tokens_max: limits::BENCODE_TOKENS_MAX,
    };

    /// .torrent files and info dictionaries.
    pub const METAINFO: Rules = Rules {
        canonical: false,
        depth_max: limits::METAINFO_DEPTH_MAX,
        tokens_max: limits::METAINFO_TOKENS_MAX,
    };

    /// What Spikeswarm signs: one meaning has one spelling.
    pub const SIGNED: Rules = Rules {
        canonical: true,
        depth_max: limits::BENCODE_DEPTH_MAX,
        tokens_max: limits::METAINFO_TOKENS_MAX,
    };
}

/// Why bytes are no bencode. The fault of whoever wrote them; `at` is the byte where it shows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BencodeError {
    /// The input ends inside a value.
    #[error("input ends early")]
    Truncated,
    /// No value begins with this byte.
    #[error("unexpected byte {byte:#04x} at {at}")]
    UnexpectedByte {
        /// Where.
        at: usize,
        /// The byte.
        byte: u8,
    },
    /// Not `i`, an optional minus, digits without leading zeros, `e`; or minus zero.
    #[error("malformed integer at {at}")]
    MalformedInt {
        /// Where the integer begins.
        at: usize,
    },
    /// Does not fit in 64 signed bits.
    #[error("integer at {at} is out of range")]
    IntRange {
        /// Where the integer begins.
        at: usize,
    },
    /// Not digits without leading zeros and a colon.
    #[error("malformed string length at {at}")]
    MalformedLength {
        /// Where the length begins.
        at: usize,
    },
    /// A string longer than the input.
    #[error("string at {at} leaves the input")]
    LengthRange {
        /// Where the length begins.
        at: usize,
    },
    /// A dictionary key that is no string.
    #[error("dictionary key at {at} is no string")]
    KeyType {
        /// Where the key begins.
        at: usize,
    },
    /// A dictionary ends after a key.
    #[error("dictionary key without a value at {at}")]
    MissingValue {
        /// Where the dictionary ends.
        at: usize,
    },
    /// A dictionary has a key twice.
    #[error("duplicate key in the dictionary at {at}")]
    DuplicateKey {
        /// Where the dictionary begins.
        at: usize,
    },
    /// A key sorts before the one before it, where canonical form is asked for.
    #[error("unsorted key in the dictionary at {at}")]
    UnsortedKey {
        /// Where the dictionary begins.
        at: usize,
    },
    /// Nested deeper than [`Rules::depth_max`].
    #[error("nested deeper than {max}")]
    Depth {
        /// The bound.
        max: usize,
    },
    /// More values and keys than [`Rules::tokens_max`].
    #[error("more than {max} tokens")]
    Tokens {
        /// The bound.
        max: usize,
    },
    /// Bytes after the value.
    #[error("bytes follow the value at {at}")]
    TrailingBytes {
        /// Where the value ends.
        at: usize,
    },
}

/// Reads one value that fills the whole input.
///
/// # Errors
/// [`BencodeError`], also when bytes follow the value.
pub fn decode<'a>(bytes: &'a [u8], rules: &Rules) -> Result<Value<'a>, BencodeError> {
    let (value, rest) = decode_prefix(bytes, rules)?;
    if rest.is_empty() {
        Ok(value)
    } else {
        Err(BencodeError::TrailingBytes {
            at: bytes.len() - rest.len(),
        })
    }
}

/// Reads one value from the front of the input; returns it and what follows (the data of a
/// `ut_metadata` message follows its dictionary, BEP 9).
///
/// # Errors
/// [`BencodeError`].
pub fn decode_prefix<'a>(
    bytes: &'a [u8],
    rules: &Rules,
) -> Result<(Value<'a>, &'a [u8]), BencodeError> {
    let mut reader = Reader { bytes, at: 0 };
    let value = reader.value(rules)?;
    Ok((value, bytes.get(reader.at..).unwrap_or_default()))
}

/// A container that is still open.
enum Open<'a> {
    List(Vec<Value<'a>>),
    Dict {
        start: usize,
        entries: Vec<(&'a [u8], Value<'a>)>,
        key: Option<&'a [u8]>,
        sorted: bool,
    },
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn value(&mut self, rules: &Rules) -> Result<Value<'a>, BencodeError> {
        let mut stack: Vec<Open<'a>> = Vec::new();
        let mut tokens = 0_usize;
        loop {
            let at = self.at;
            let byte = self.peek()?;
            if byte != b'e' {
                tokens += 1;
                if tokens > rules.tokens_max {
                    return Err(BencodeError::Tokens {
                        max: rules.tokens_max,
                    });
                }
            }

            if byte != b'e'
                && let Some(Open::Dict {
                    key: key @ None,
                    entries,
                    sorted,
                    start,
                }) = stack.last_mut()
            {
                if !byte.is_ascii_digit() {
                    return Err(BencodeError::KeyType { at });
                }
                let new = self.string()?;
                if let Some((last, _)) = entries.last()
                    && *last >= new
                {
                    if *last == new {
                        return Err(BencodeError::DuplicateKey { at: *start });
                    }
                    if rules.canonical {
                        return Err(BencodeError::UnsortedKey { at: *start });
                    }
                    *sorted = false;
                }
                *key = Some(new);
                continue;
            }

            let done = match byte {
                b'i' => Value::Int(self.int()?),
                b'0'..=b'9' => Value::Bytes(self.string()?),
                b'l' | b'd' => {
                    if stack.len() >= rules.depth_max {
                        return Err(BencodeError::Depth {
                            max: rules.depth_max,
                        });
                    }
                    self.at += 1;
                    stack.push(if byte == b'l' {
                        Open::List(Vec::new())
                    } else {
                        Open::Dict {
                            start: at,
                            entries: Vec::new(),
                            key: None,
                            sorted: true,
                        }
                    });
                    continue;
                }
                b'e' => match stack.pop() {
                    None => return Err(BencodeError::UnexpectedByte { at, byte }),
                    Some(open) => {
                        self.at += 1;
                        self.close(open)?
                    }
                },
                _ => return Err(BencodeError::UnexpectedByte { at, byte }),
            };

            match stack.last_mut() {
                None => return Ok(done),
                Some(Open::List(values)) => values.push(done),
                Some(Open::Dict { entries, key, .. }) => {
                    if let Some(key) = key.take() {
                        entries.push((key, done));
                    }
                }
            }
        }
    }

    /// Makes a value of a container whose `e` was just read.
    fn close(&self, open: Open<'a>) -> Result<Value<'a>, BencodeError> {
        match open {
            Open::List(mut values) => {
                values.shrink_to_fit();
                Ok(Value::List(values))
            }
            Open::Dict { key: Some(_), .. } => Err(BencodeError::MissingValue {
                at: self.at.saturating_sub(1),
            }),
            Open::Dict {
                start,
                mut entries,
                key: None,
                sorted,
            } => {
                if !sorted {
                    entries.sort_by(|a, b| a.0.cmp(b.0));
                    if entries
                        .windows(2)
                        .any(|pair| matches!(pair, [a, b] if a.0 == b.0))
                    {
                        return Err(BencodeError::DuplicateKey { at: start });
                    }
                }
                let raw = self.bytes.get(start..self.at).unwrap_or_default();
                if entries.is_empty() {
                    return Ok(Value::Dict(Dict(None)));
                }
                entries.shrink_to_fit();
                let entries = Entries {
                    raw,
                    sorted: entries,
                    as_found: sorted,
                };
                Ok(Value::Dict(Dict(Some(Box::new(entries)))))
            }
        }
    }

    fn peek(&self) -> Result<u8, BencodeError> {
        self.bytes
            .get(self.at)
            .copied()
            .ok_or(BencodeError::Truncated)
    }

    /// Reads `i…e`, the cursor at the `i`.
    fn int(&mut self) -> Result<i64, BencodeError> {
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
    fn string(&mut self) -> Result<&'a [u8], BencodeError> {
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
