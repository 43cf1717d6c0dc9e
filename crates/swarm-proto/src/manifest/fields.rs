//! Reading the fields of a dictionary, each with its own error. Unknown fields of a payload are left
//! alone: they are signed with the rest, and a newer version may know them.

use super::error::FormatError;
use super::key::PublicKey;
use super::name::SiteName;
use crate::bencode::{Dict, Item, List, Rules, Value, decode};
use crate::limits;

/// The dictionary that is the whole of `bytes`, canonical, within `len_max` and `tokens_max`.
pub(super) fn decode_dict<'a>(
    what: &'static str,
    bytes: &'a [u8],
    len_max: usize,
    tokens_max: usize,
) -> Result<Dict<'a>, FormatError> {
    check_len(what, bytes.len(), len_max)?;
    let rules = Rules {
        tokens_max,
        ..Rules::SIGNED
    };
    match decode(bytes, &rules)? {
        Value::Dict(dict) => Ok(dict),
        _ => Err(field(what, "not a dictionary")),
    }
}

pub(super) fn check_len(what: &'static str, len: usize, max: usize) -> Result<(), FormatError> {
    if len > max {
        return Err(FormatError::TooLong { what, len, max });
    }
    Ok(())
}

pub(super) fn field(field: &'static str, why: &'static str) -> FormatError {
    FormatError::Field { field, why }
}

/// Refuses fields beyond the `count` that were asked for. For what no signature covers.
pub(super) fn only(dict: Dict<'_>, count: usize) -> Result<(), FormatError> {
    if dict.len() > count {
        return Err(field("envelope", "unknown fields outside the signature"));
    }
    Ok(())
}

/// Typed access to a [`Dict`].
pub(super) trait Fields<'a> {
    fn need(&self, key: &'static str) -> Result<Value<'a>, FormatError>;

    fn need_u64(&self, key: &'static str) -> Result<u64, FormatError> {
        let int = self
            .need(key)?
            .as_int()
            .ok_or(field(key, "not an integer"))?;
        u64::try_from(int).map_err(|_| field(key, "below zero"))
    }

    fn need_u32(&self, key: &'static str) -> Result<u32, FormatError> {
        u32::try_from(self.need_u64(key)?).map_err(|_| field(key, "too large"))
    }

    fn need_bool(&self, key: &'static str) -> Result<bool, FormatError> {
        match self.need_u64(key)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(field(key, "neither 0 nor 1")),
        }
    }

    fn need_bytes(&self, key: &'static str) -> Result<&'a [u8], FormatError> {
        self.need(key)?.as_bytes().ok_or(field(key, "not a string"))
    }

    fn need_array<const N: usize>(&self, key: &'static str) -> Result<[u8; N], FormatError> {
        self.need_bytes(key)?
            .try_into()
            .map_err(|_| field(key, "wrong length"))
    }

    fn need_str(&self, key: &'static str, len_max: usize) -> Result<&'a str, FormatError> {
        let bytes = self.need_bytes(key)?;
        check_len(key, bytes.len(), len_max)?;
        std::str::from_utf8(bytes).map_err(|_| field(key, "not UTF-8"))
    }

    fn need_list(&self, key: &'static str, max: usize) -> Result<List<'a>, FormatError> {
        let list = self.need(key)?.as_list().ok_or(field(key, "not a list"))?;
        if list.len() > max {
            return Err(FormatError::TooMany { what: key, max });
        }
        Ok(list)
    }

    fn need_site(&self) -> Result<SiteName, FormatError> {
        let text = self.need_str("site", limits::SITE_NAME_LEN_MAX)?;
        Ok(SiteName::parse_canonical(text)?)
    }

    /// Keys in rising order, none twice: one set has one spelling.
    fn need_keys(&self, key: &'static str) -> Result<Vec<PublicKey>, FormatError> {
        let list = self.need_list(key, limits::ROLE_KEYS_MAX)?;
        let mut keys: Vec<PublicKey> = Vec::with_capacity(list.len());
        for value in list {
            let bytes = value.as_bytes().ok_or(field(key, "not a key"))?;
            let next = PublicKey::try_from(bytes)?;
            if keys.last().is_some_and(|last| *last >= next) {
                return Err(field(key, "keys are not in rising order"));
            }
            keys.push(next);
        }
        Ok(keys)
    }
}

impl<'a> Fields<'a> for Dict<'a> {
    fn need(&self, key: &'static str) -> Result<Value<'a>, FormatError> {
        self.get(key.as_bytes()).ok_or(FormatError::Missing(key))
    }
}

/// Bencode integers are signed: times, lengths and sequences stay below 2^63.
pub(super) fn int(name: &'static str, value: u64) -> Result<Item, FormatError> {
    i64::try_from(value)
        .map(Item::int)
        .map_err(|_| field(name, "too large"))
}

pub(super) fn keys_item(keys: &[PublicKey]) -> Item {
    Item::list(keys.iter().map(|key| Item::bytes(key.as_bytes())))
}
