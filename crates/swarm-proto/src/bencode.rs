//! Bencode (BEP 3): a borrowed reader for what strangers send, and owned items to write.
//!
//! The reader is ours since it must be lenient where real clients are careless (dictionaries with
//! unsorted keys) and strict where it matters: it doesn't recurse, bounds depth and tokens, refuses
//! duplicate keys and integers or lengths that are not in canonical form, and leaves no byte
//! unread. Each [`Dict`] keeps the exact bytes it was read from, since info hashes are taken over
//! them. Writing goes through `bendy`, which cannot write anything but canonical bencode.

use std::collections::BTreeMap;
use std::fmt;

use bendy::encoding::{Encoder, Error as BendyError, SingleItemEncoder, ToBencode};

use crate::limits;

mod parse;
#[cfg(test)]
mod tests;

pub use parse::{BencodeError, Rules, decode, decode_prefix};

/// A value as read; strings borrow from the input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value<'a> {
    /// `i42e`
    Int(i64),
    /// `4:spam`, not necessarily text.
    Bytes(&'a [u8]),
    /// `l…e`
    List(Vec<Value<'a>>),
    /// `d…e`
    Dict(Dict<'a>),
}

impl<'a> Value<'a> {
    /// The integer, if it is one.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Value::Int(int) => Some(*int),
            _ => None,
        }
    }

    /// The string's bytes, if it is one.
    pub fn as_bytes(&self) -> Option<&'a [u8]> {
        match self {
            Value::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The string, if it is one and UTF-8.
    pub fn as_str(&self) -> Option<&'a str> {
        self.as_bytes()
            .and_then(|bytes| std::str::from_utf8(bytes).ok())
    }

    /// The list's values, if it is one.
    pub fn as_list(&self) -> Option<&[Value<'a>]> {
        match self {
            Value::List(values) => Some(values),
            _ => None,
        }
    }

    /// The dictionary, if it is one.
    pub fn as_dict(&self) -> Option<&Dict<'a>> {
        match self {
            Value::Dict(dict) => Some(dict),
            _ => None,
        }
    }
}

/// A dictionary as read, with the bytes it was read from.
///
/// Boxed, so that a [`Value`] takes 24 bytes, and nothing at all where empty: a stranger chooses how
/// many there are.
#[derive(Clone, PartialEq, Eq)]
pub struct Dict<'a>(Option<Box<Entries<'a>>>);

#[derive(Clone, PartialEq, Eq)]
struct Entries<'a> {
    raw: &'a [u8],
    /// Sorted by key, whatever the order in `raw`.
    sorted: Vec<(&'a [u8], Value<'a>)>,
    /// Whether `raw` has them in this order too.
    as_found: bool,
}

impl<'a> Dict<'a> {
    /// The value of that key.
    pub fn get(&self, key: &[u8]) -> Option<&Value<'a>> {
        let sorted = self.entries();
        let at = sorted.binary_search_by(|(k, _)| (*k).cmp(key)).ok()?;
        sorted.get(at).map(|(_, value)| value)
    }

    /// The exact bytes, from `d` to `e`.
    pub fn raw(&self) -> &'a [u8] {
        self.0.as_ref().map_or(b"de", |entries| entries.raw)
    }

    fn entries(&self) -> &[(&'a [u8], Value<'a>)] {
        self.0.as_ref().map_or(&[], |entries| &entries.sorted)
    }

    /// Keys and values, sorted by key.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&'a [u8], &Value<'a>)> {
        self.entries().iter().map(|(key, value)| (*key, value))
    }

    /// The `n`th key and its value in the order of keys.
    pub fn nth(&self, n: usize) -> Option<(&'a [u8], &Value<'a>)> {
        self.entries().get(n).map(|(key, value)| (*key, value))
    }

    /// Whether the keys were sorted as found, as BEP 3 asks for.
    pub fn is_sorted(&self) -> bool {
        self.0.as_ref().is_none_or(|entries| entries.as_found)
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.entries().len()
    }

    /// Whether it is `de`.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

impl fmt::Debug for Dict<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(
                self.iter()
                    .map(|(key, value)| (key.escape_ascii().to_string(), value)),
            )
            .finish()
    }
}

/// An owned value, for writing.
///
/// Only our own code makes items, nested at most [`limits::ENCODE_DEPTH_MAX`] deep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// `i42e`
    Int(i64),
    /// `4:spam`
    Bytes(Vec<u8>),
    /// `l…e`
    List(Vec<Item>),
    /// `d…e`; the map keeps the keys in the order that BEP 3 asks for.
    Dict(BTreeMap<Vec<u8>, Item>),
}

impl Item {
    /// A string.
    pub fn bytes(bytes: impl AsRef<[u8]>) -> Item {
        Item::Bytes(bytes.as_ref().to_vec())
    }

    /// An integer.
    pub fn int(int: i64) -> Item {
        Item::Int(int)
    }

    /// A list.
    pub fn list(items: impl IntoIterator<Item = Item>) -> Item {
        Item::List(items.into_iter().collect())
    }

    /// A dictionary; of equal keys the last stays.
    pub fn dict<K: AsRef<[u8]>>(entries: impl IntoIterator<Item = (K, Item)>) -> Item {
        Item::Dict(
            entries
                .into_iter()
                .map(|(key, item)| (key.as_ref().to_vec(), item))
                .collect(),
        )
    }

    /// Canonical bencode.
    ///
    /// # Panics
    /// When nested deeper than [`limits::ENCODE_DEPTH_MAX`], which only a bug of ours can do:
    /// whatever [`decode`] accepts nests less.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut encoder = Encoder::new().with_max_depth(limits::ENCODE_DEPTH_MAX);
        encoder
            .emit_with(|e| self.encode(e))
            .and_then(|()| encoder.get_output())
            .expect("a map's keys are sorted and our items are shallow, so bendy has no complaint")
    }
}

impl ToBencode for Item {
    const MAX_DEPTH: usize = limits::ENCODE_DEPTH_MAX;

    fn encode(&self, encoder: SingleItemEncoder<'_>) -> Result<(), BendyError> {
        match self {
            Item::Int(int) => encoder.emit_int(*int),
            Item::Bytes(bytes) => encoder.emit_bytes(bytes),
            Item::List(items) => encoder.emit_list(|list| {
                items
                    .iter()
                    .try_for_each(|item| list.emit_with(|e| item.encode(e)))
            }),
            Item::Dict(entries) => encoder.emit_dict(|mut dict| {
                entries
                    .iter()
                    .try_for_each(|(key, item)| dict.emit_pair_with(key, |e| item.encode(e)))
            }),
        }
    }
}

impl From<&Value<'_>> for Item {
    fn from(value: &Value<'_>) -> Self {
        match value {
            Value::Int(int) => Item::Int(*int),
            Value::Bytes(bytes) => Item::bytes(bytes),
            Value::List(values) => Item::List(values.iter().map(Item::from).collect()),
            Value::Dict(dict) => Item::dict(dict.iter().map(|(key, value)| (key, value.into()))),
        }
    }
}
