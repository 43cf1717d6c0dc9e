//! The check of all that is read: one pass, an explicit stack, every bound checked before it is
//! crossed. Nothing of the input is copied; a key takes four bytes as long as its dictionary is open.

use super::Value;
use super::read::Reader;
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
    /// 4 GiB or more.
    #[error("{len} bytes are too many")]
    TooLong {
        /// Bytes of the input.
        len: usize,
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
    if u32::try_from(bytes.len()).is_err() {
        return Err(BencodeError::TooLong { len: bytes.len() });
    }
    let mut check = Check {
        reader: Reader::new(bytes),
        open: Vec::new(),
        keys: Vec::new(),
        tokens: 0,
    };
    check.value(rules)?;
    let (value, _) = Reader::new(bytes).value()?;
    Ok((value, check.reader.rest()))
}

/// A container that is still open.
enum Open<'a> {
    List,
    Dict(OpenDict<'a>),
}

struct OpenDict<'a> {
    start: usize,
    /// How many of [`Check::keys`] were there before its own.
    keys_from: usize,
    last: Option<&'a [u8]>,
    /// Whether a key waits for its value.
    waits: bool,
    sorted: bool,
}

struct Check<'a> {
    reader: Reader<'a>,
    open: Vec<Open<'a>>,
    /// Where the keys of the open dictionaries begin, those of the innermost last. A stranger
    /// chooses how many there are, and each has five bytes of input at least.
    keys: Vec<u32>,
    tokens: usize,
}

impl<'a> Check<'a> {
    /// Goes behind one value that is all it should be.
    fn value(&mut self, rules: &Rules) -> Result<(), BencodeError> {
        loop {
            let at = self.reader.at;
            let byte = self.reader.peek()?;
            if byte != b'e' {
                self.tokens += 1;
                if self.tokens > rules.tokens_max {
                    return Err(BencodeError::Tokens {
                        max: rules.tokens_max,
                    });
                }
                if let Some(Open::Dict(dict)) = self.open.last_mut()
                    && !dict.waits
                {
                    if !byte.is_ascii_digit() {
                        return Err(BencodeError::KeyType { at });
                    }
                    dict.key(self.reader.string()?, rules)?;
                    remember(&mut self.keys, at);
                    continue;
                }
            }
            match byte {
                b'i' => {
                    self.reader.int()?;
                }
                b'0'..=b'9' => {
                    self.reader.string()?;
                }
                b'l' | b'd' => {
                    if self.open.len() >= rules.depth_max {
                        return Err(BencodeError::Depth {
                            max: rules.depth_max,
                        });
                    }
                    self.reader.at += 1;
                    self.open.push(match byte {
                        b'l' => Open::List,
                        _ => Open::Dict(OpenDict {
                            start: at,
                            keys_from: self.keys.len(),
                            last: None,
                            waits: false,
                            sorted: true,
                        }),
                    });
                    continue;
                }
                b'e' => {
                    match self.open.pop() {
                        None => return Err(BencodeError::UnexpectedByte { at, byte }),
                        Some(Open::List) => {}
                        Some(Open::Dict(dict)) => self.close(&dict)?,
                    }
                    self.reader.at += 1;
                }
                _ => return Err(BencodeError::UnexpectedByte { at, byte }),
            }
            match self.open.last_mut() {
                None => return Ok(()),
                Some(Open::List) => {}
                Some(Open::Dict(dict)) => dict.waits = false,
            }
        }
    }

    /// A dictionary's `e` is at the cursor.
    fn close(&mut self, dict: &OpenDict<'a>) -> Result<(), BencodeError> {
        if dict.waits {
            return Err(BencodeError::MissingValue { at: self.reader.at });
        }
        let keys = self.keys.get_mut(dict.keys_from..).unwrap_or_default();
        if !dict.sorted {
            let bytes = self.reader.bytes;
            let key = |at: &u32| {
                let at = *at as usize;
                Reader { bytes, at }.string().unwrap_or_default()
            };
            keys.sort_unstable_by(|a, b| key(a).cmp(key(b)));
            let twice = |pair: &[u32]| matches!(pair, [a, b] if key(a) == key(b));
            if keys.windows(2).any(twice) {
                return Err(BencodeError::DuplicateKey { at: dict.start });
            }
        }
        self.keys.truncate(dict.keys_from);
        Ok(())
    }
}

impl<'a> OpenDict<'a> {
    fn key(&mut self, new: &'a [u8], rules: &Rules) -> Result<(), BencodeError> {
        if let Some(last) = self.last
            && last >= new
        {
            if last == new {
                return Err(BencodeError::DuplicateKey { at: self.start });
            }
            if rules.canonical {
                return Err(BencodeError::UnsortedKey { at: self.start });
            }
            self.sorted = false;
        }
        self.last = Some(new);
        self.waits = true;
        Ok(())
    }
}

/// Grows by a quarter rather than twofold, so that what is kept stays below the input's length even
/// while it moves.
fn remember(keys: &mut Vec<u32>, at: usize) {
    if keys.len() == keys.capacity() {
        keys.reserve_exact((keys.len() / 4).max(16));
    }
    keys.extend(u32::try_from(at));
}
