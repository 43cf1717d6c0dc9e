//! Values as read: places in the input that were checked and are read when they are asked.

use std::fmt;

use super::read::Reader;

/// A value as read; all of it borrows from the input, which was checked as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// `i42e`
    Int(i64),
    /// `4:spam`, not necessarily text.
    Bytes(&'a [u8]),
    /// `l…e`
    List(List<'a>),
    /// `d…e`
    Dict(Dict<'a>),
}

impl<'a> Value<'a> {
    /// The integer, if it is one.
    pub fn as_int(self) -> Option<i64> {
        match self {
            Value::Int(int) => Some(int),
            _ => None,
        }
    }

    /// The string's bytes, if it is one.
    pub fn as_bytes(self) -> Option<&'a [u8]> {
        match self {
            Value::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The string, if it is one and UTF-8.
    pub fn as_str(self) -> Option<&'a str> {
        self.as_bytes()
            .and_then(|bytes| std::str::from_utf8(bytes).ok())
    }

    /// The list, if it is one.
    pub fn as_list(self) -> Option<List<'a>> {
        match self {
            Value::List(values) => Some(values),
            _ => None,
        }
    }

    /// The dictionary, if it is one.
    pub fn as_dict(self) -> Option<Dict<'a>> {
        match self {
            Value::Dict(dict) => Some(dict),
            _ => None,
        }
    }
}

/// A list as read. Whatever asks it reads it, so a walk over it beats many questions.
#[derive(Clone, Copy)]
pub struct List<'a>(&'a [u8]);

/// A dictionary as read, with the bytes it was read from. Whatever asks it reads it.
#[derive(Clone, Copy)]
pub struct Dict<'a>(&'a [u8]);

/// The value that these checked bytes begin with.
fn front(bytes: &[u8]) -> &[u8] {
    let mut reader = Reader::new(bytes);
    match reader.skip() {
        Ok(()) => bytes.get(..reader.at).unwrap_or_default(),
        Err(_) => bytes,
    }
}

impl<'a> List<'a> {
    /// The one that begins these bytes; more may follow.
    pub(super) fn at(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The exact bytes, from `l` to `e`.
    pub fn raw(self) -> &'a [u8] {
        front(self.0)
    }

    /// Its values, in order.
    pub fn iter(self) -> Values<'a> {
        Values(Walk::into(self.0))
    }

    /// Number of values; counts them.
    pub fn len(self) -> usize {
        self.iter().count()
    }

    /// Whether it is `le`.
    pub fn is_empty(self) -> bool {
        self.iter().next().is_none()
    }
}

impl Default for List<'_> {
    fn default() -> Self {
        Self(b"le")
    }
}

impl<'a> IntoIterator for List<'a> {
    type Item = Value<'a>;
    type IntoIter = Values<'a>;

    fn into_iter(self) -> Values<'a> {
        self.iter()
    }
}

impl<'a> Dict<'a> {
    /// The one that begins these bytes; more may follow.
    pub(super) fn at(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The value of that key.
    pub fn get(self, key: &[u8]) -> Option<Value<'a>> {
        self.iter()
            .find(|(found, _)| *found == key)
            .map(|(_, value)| value)
    }

    /// The exact bytes, from `d` to `e`.
    pub fn raw(self) -> &'a [u8] {
        front(self.0)
    }

    /// Keys and values, in the order found.
    pub fn iter(self) -> Entries<'a> {
        Entries(Walk::into(self.0))
    }

    /// Whether the keys are sorted, as BEP 3 asks for.
    pub fn is_sorted(self) -> bool {
        self.iter().map(|(key, _)| key).is_sorted()
    }

    /// Number of keys; counts them.
    pub fn len(self) -> usize {
        self.iter().count()
    }

    /// Whether it is `de`.
    pub fn is_empty(self) -> bool {
        self.iter().next().is_none()
    }
}

/// Two are the same if their bytes are.
impl PartialEq for List<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.raw() == other.raw()
    }
}

impl Eq for List<'_> {}

/// Two are the same if their bytes are.
impl PartialEq for Dict<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.raw() == other.raw()
    }
}

impl Eq for Dict<'_> {}

impl fmt::Debug for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl fmt::Debug for Dict<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = self.iter();
        f.debug_map()
            .entries(entries.map(|(key, value)| (key.escape_ascii().to_string(), value)))
            .finish()
    }
}

/// The values of a [`List`].
#[derive(Debug, Clone)]
pub struct Values<'a>(Walk<'a>);

impl<'a> Iterator for Values<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        self.0.settle()?;
        self.0.value()
    }
}

/// Keys and values of a [`Dict`].
#[derive(Debug, Clone)]
pub struct Entries<'a>(Walk<'a>);

impl<'a> Iterator for Entries<'a> {
    type Item = (&'a [u8], Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.settle()?;
        let key = self.0.reader.string().ok()?;
        Some((key, self.0.value()?))
    }
}

impl<'a> Values<'a> {
    /// What follows the list in the input, once its end has been reached.
    pub fn behind(&self) -> Option<&'a [u8]> {
        self.0.behind()
    }

    /// Goes on at `behind`, which [`behind`](Self::behind) of the value given out last has named:
    /// without this it would read that value again to find its end, and a walk through nested values
    /// would read the innermost once for each level.
    pub fn resume(&mut self, behind: &'a [u8]) {
        self.0.resume(behind);
    }
}

impl<'a> Entries<'a> {
    /// What follows the dictionary in the input, once its end has been reached.
    pub fn behind(&self) -> Option<&'a [u8]> {
        self.0.behind()
    }

    /// As [`Values::resume`].
    pub fn resume(&mut self, behind: &'a [u8]) {
        self.0.resume(behind);
    }
}

/// A place between two values of a list or dictionary.
#[derive(Debug, Clone)]
struct Walk<'a> {
    reader: Reader<'a>,
    /// The cursor is at the front of a list or dictionary that was given out.
    within: bool,
}

impl<'a> Walk<'a> {
    /// Before the first value of the container that these bytes begin with.
    fn into(bytes: &'a [u8]) -> Self {
        let reader = Reader { bytes, at: 1 };
        let within = false;
        Self { reader, within }
    }

    /// Goes to the front of the next value; none at the end. The bytes were checked, so that an
    /// error cannot come; it would end the walk.
    fn settle(&mut self) -> Option<()> {
        if self.within {
            self.reader.skip().ok()?;
            self.within = false;
        }
        self.reader.peek().ok().filter(|byte| *byte != b'e')?;
        Some(())
    }

    fn value(&mut self) -> Option<Value<'a>> {
        let (value, behind) = self.reader.value().ok()?;
        self.within = !behind;
        Some(value)
    }

    fn behind(&self) -> Option<&'a [u8]> {
        let ends = !self.within && self.reader.peek() == Ok(b'e');
        ends.then(|| self.reader.rest().get(1..).unwrap_or_default())
    }

    /// All parts of an input share its end, so what is left of it says where one is.
    fn resume(&mut self, behind: &[u8]) {
        let at = self.reader.bytes.len().saturating_sub(behind.len());
        if self.within && at > self.reader.at {
            self.reader.at = at;
            self.within = false;
        }
    }
}
