//! Bencode (BEP 3): a borrowed reader for what strangers send, and owned items to write.
//!
//! The reader is ours since it must be lenient where real clients are careless (dictionaries with
//! unsorted keys) and strict where it matters: it doesn't recurse, bounds depth and tokens, refuses
//! duplicate keys and integers or lengths that are not in canonical form, and leaves no byte
//! unread. It checks everything once and builds nothing: a [`List`] or [`Dict`] is a place in the
//! input and is read when it is asked, so that a stranger's input costs no more memory than it has
//! bytes (T3). Each [`Dict`] knows the exact bytes it was read from, since info hashes are taken
//! over them. Writing goes through `bendy`, which cannot write anything but canonical bencode.

use std::collections::BTreeMap;

use bendy::encoding::{Encoder, Error as BendyError, SingleItemEncoder, ToBencode};

use crate::limits;

mod parse;
mod read;
#[cfg(test)]
mod tests;
mod value;

pub use parse::{BencodeError, Rules, decode, decode_prefix};
pub use value::{Dict, Entries, List, Value, Values};

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

impl From<Value<'_>> for Item {
    fn from(value: Value<'_>) -> Self {
        match value {
            Value::Int(int) => Item::Int(int),
            Value::Bytes(bytes) => Item::bytes(bytes),
            Value::List(values) => Item::List(values.iter().map(Item::from).collect()),
            Value::Dict(dict) => Item::dict(dict.iter().map(|(key, value)| (key, value.into()))),
        }
    }
}

impl From<&Value<'_>> for Item {
    fn from(value: &Value<'_>) -> Self {
        Item::from(*value)
    }
}
