//! Magnet links: `urn:btih` (BEP 9), `urn:btmh` (BEP 52), web seeds, peers, and the files that are
//! wanted (BEP 53).

use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;

use data_encoding::{BASE32, HEXLOWER_PERMISSIVE};

use crate::id::{InfoHashV1, InfoHashV2, SwarmId};
use crate::limits;
use crate::metainfo::{is_tracker_url, is_web_seed_url};

/// What a magnet link says. Everything but the info hashes is a hint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Magnet {
    /// `xt=urn:btih:`
    pub v1: Option<InfoHashV1>,
    /// `xt=urn:btmh:` with a SHA-256.
    pub v2: Option<InfoHashV2>,
    /// `dn`: what to show until the metainfo is here. Not harmless as a file name.
    pub name: Option<String>,
    /// `tr`
    pub trackers: Vec<String>,
    /// `ws` (BEP 19 in magnets)
    pub web_seeds: Vec<String>,
    /// `x.pe`, where it is an IP address and port.
    pub peers: Vec<SocketAddr>,
    /// `so` (BEP 53): the files to fetch, by their numbers in
    /// [`Metainfo::files`](crate::metainfo::Metainfo::files); empty: all.
    pub select_only: Vec<RangeInclusive<u32>>,
}

/// Why text is no magnet link that we take. The fault of whoever wrote it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MagnetError {
    /// Longer than [`limits::MAGNET_LEN_MAX`].
    #[error("magnet link of {0} bytes is too long")]
    TooLong(usize),
    /// Does not begin with `magnet:?`.
    #[error("not a magnet link")]
    Scheme,
    /// `%` without two hexadecimal digits, or not UTF-8 once decoded.
    #[error("malformed escape in `{0}`")]
    Escape(String),
    /// An info hash of the wrong length or alphabet.
    #[error("malformed info hash")]
    InfoHash,
    /// Two different info hashes of one version.
    #[error("two different info hashes")]
    Ambiguous,
    /// No info hash that we know.
    #[error("no info hash")]
    NoInfoHash,
}

impl Magnet {
    /// Reads a link. Parameters we don't know are ignored, and so are URLs we could not use and
    /// peers that are host names.
    ///
    /// # Errors
    /// [`MagnetError`].
    pub fn parse(link: &str) -> Result<Self, MagnetError> {
        if link.len() > limits::MAGNET_LEN_MAX {
            return Err(MagnetError::TooLong(link.len()));
        }
        let query = match link.split_at_checked("magnet:?".len()) {
            Some((scheme, query)) if scheme.eq_ignore_ascii_case("magnet:?") => query,
            _ => return Err(MagnetError::Scheme),
        };
        let mut magnet = Magnet::default();
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let value = unescape(value)
                .ok_or_else(|| MagnetError::Escape(key.chars().take(16).collect()))?;
            // `tr.1`, `tr.2`, … number what is given more than once; `x.pe` is no such name.
            let key = match key.rsplit_once('.') {
                Some((name, n)) if !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()) => name,
                _ => key,
            };
            magnet.take(&key.to_ascii_lowercase(), value)?;
        }
        if magnet.v1.is_none() && magnet.v2.is_none() {
            return Err(MagnetError::NoInfoHash);
        }
        Ok(magnet)
    }

    fn take(&mut self, key: &str, value: String) -> Result<(), MagnetError> {
        match key {
            "xt" => self.take_topic(&value)?,
            "dn" if self.name.is_none() => self.name = Some(value),
            "tr" if is_tracker_url(&value) => {
                push_new(&mut self.trackers, value, limits::TRACKERS_MAX);
            }
            "ws" if is_web_seed_url(&value) => {
                push_new(&mut self.web_seeds, value, limits::WEB_SEEDS_MAX);
            }
            "x.pe" => {
                if let Ok(peer) = value.parse() {
                    push_new(&mut self.peers, peer, limits::MAGNET_PEERS_MAX);
                }
            }
            "so" => {
                for part in value.split(',') {
                    if let Some(range) = file_range(part) {
                        push_new(&mut self.select_only, range, limits::MAGNET_SELECTED_MAX);
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn take_topic(&mut self, topic: &str) -> Result<(), MagnetError> {
        if let Some(hash) = strip_prefix_ignore_case(topic, "urn:btih:") {
            let bytes = match hash.len() {
                40 => HEXLOWER_PERMISSIVE.decode(hash.as_bytes()).ok(),
                32 => BASE32.decode(hash.to_ascii_uppercase().as_bytes()).ok(),
                _ => None,
            };
            let hash = bytes.and_then(|bytes| InfoHashV1::try_from(bytes.as_slice()).ok());
            set_once(&mut self.v1, hash.ok_or(MagnetError::InfoHash)?)
        } else if let Some(hash) = strip_prefix_ignore_case(topic, "urn:btmh:") {
            // A multihash: 0x12 is SHA-256, 0x20 its length.
            let hash = hash.strip_prefix("1220").and_then(|hash| hash.parse().ok());
            set_once(&mut self.v2, hash.ok_or(MagnetError::InfoHash)?)
        } else {
            Ok(())
        }
    }

    /// The swarms to look in, v1 first.
    pub fn swarm_ids(&self) -> Vec<SwarmId> {
        let v1 = self.v1.map(|hash| hash.swarm_id());
        let v2 = self.v2.map(|hash| hash.swarm_id());
        v1.into_iter().chain(v2).collect()
    }
}

/// `3` or `3-5`.
fn file_range(text: &str) -> Option<RangeInclusive<u32>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| match text.bytes().all(|b| b.is_ascii_digit()) {
        true => text.parse::<u32>().ok(),
        false => None,
    };
    let range = number(first)?..=number(last)?;
    (!range.is_empty()).then_some(range)
}

fn set_once<T: PartialEq>(slot: &mut Option<T>, value: T) -> Result<(), MagnetError> {
    match slot {
        Some(old) if *old != value => Err(MagnetError::Ambiguous),
        _ => {
            *slot = Some(value);
            Ok(())
        }
    }
}

fn push_new<T: PartialEq>(list: &mut Vec<T>, value: T, max: usize) {
    if list.len() < max && !list.contains(&value) {
        list.push(value);
    }
}

fn strip_prefix_ignore_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (front, rest) = text.split_at_checked(prefix.len())?;
    front.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// Undoes percent-encoding; a plus is a blank, as in forms.
fn unescape(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                let decoded = HEXLOWER_PERMISSIVE.decode(&digits).ok()?;
                *decoded.first()?
            }
            b'+' => b' ',
            _ => byte,
        });
    }
    String::from_utf8(out).ok()
}

/// Writes a value so that nothing in it ends it.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                    write!(f, "{}", char::from(byte))?;
                }
                _ => write!(f, "%{byte:02X}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Magnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("magnet:?")?;
        let mut and = "";
        let mut put = |f: &mut fmt::Formatter<'_>, parameter: fmt::Arguments<'_>| {
            write!(f, "{and}{parameter}")?;
            and = "&";
            Ok(())
        };
        if let Some(hash) = self.v1 {
            put(f, format_args!("xt=urn:btih:{hash}"))?;
        }
        if let Some(hash) = self.v2 {
            put(f, format_args!("xt=urn:btmh:1220{hash}"))?;
        }
        if let Some(name) = &self.name {
            put(f, format_args!("dn={}", Escaped(name)))?;
        }
        for url in &self.trackers {
            put(f, format_args!("tr={}", Escaped(url)))?;
        }
        for url in &self.web_seeds {
            put(f, format_args!("ws={}", Escaped(url)))?;
        }
        for peer in &self.peers {
            put(f, format_args!("x.pe={peer}"))?;
        }
        if !self.select_only.is_empty() {
            let parts = self
                .select_only
                .iter()
                .map(|range| match range.start() == range.end() {
                    true => range.start().to_string(),
                    false => format!("{}-{}", range.start(), range.end()),
                });
            let parts: Vec<_> = parts.collect();
            put(f, format_args!("so={}", parts.join(",")))?;
        }
        Ok(())
    }
}

impl FromStr for Magnet {
    type Err = MagnetError;

    fn from_str(link: &str) -> Result<Self, MagnetError> {
        Self::parse(link)
    }
}

#[cfg(test)]
mod tests;
