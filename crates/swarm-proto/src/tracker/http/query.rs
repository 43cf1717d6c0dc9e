//! Announce and scrape as query strings, both ways; the URLs they go into.

use std::borrow::Cow;

use crate::id::{PeerId, SwarmId};
use crate::limits::{ANNOUNCE_QUERY_LEN_MAX, SCRAPE_HASHES_MAX};
use crate::manifest::PublicKey;
use crate::tracker::{AnnounceEvent, AnnounceRequest, BridgeOffer, ScrapeRequest};

/// Why a query is no announce or scrape. The client's fault; its `Display` goes back to it as
/// the failure reason, so it names the key and never the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// Longer than [`ANNOUNCE_QUERY_LEN_MAX`].
    #[error("query is too long")]
    TooLong,
    /// A `%` that is not followed by two hex digits.
    #[error("broken percent-encoding")]
    BadEscape,
    /// A key that must be there is not.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A key that may be there once is there twice.
    #[error("{0} is given twice")]
    Twice(&'static str),
    /// An id that is not 20 bytes long.
    #[error("{0} must be 20 bytes")]
    BadLength(&'static str),
    /// Not a number, or one that does not fit.
    #[error("{0} is not a valid number")]
    BadNumber(&'static str),
    /// Port 0, or one past 65535.
    #[error("{0} is not a valid port")]
    BadPort(&'static str),
    /// `bridge_domain` that is no domain name.
    #[error("bridge_domain is not a valid domain name")]
    BadDomain,
    /// `bridge_key` that is no ed25519 public key.
    #[error("bridge_key is not a valid public key")]
    BadKey,
    /// More than [`SCRAPE_HASHES_MAX`] swarms in one scrape.
    #[error("too many info hashes in one scrape")]
    TooMany,
}

/// Reads the query of an announce, the part after `?`.
///
/// `+` is a space, as form encoders write it. A negative `left` or `numwant` counts as not
/// given; an unknown `event` as none. The source address is not in here, see
/// [`AnnounceRequest`].
///
/// # Errors
/// [`RequestError`], to be sent back with [`encode_failure`](super::encode_failure).
pub fn parse_announce(query: &str) -> Result<AnnounceRequest, RequestError> {
    let mut fields = AnnounceFields::default();
    for pair in pairs(query)? {
        let (key, value) = pair?;
        fields.set(&key, &value)?;
    }
    fields.finish()
}

/// The keys of an announce as they come in, any order.
#[derive(Default)]
struct AnnounceFields {
    swarm_id: Option<SwarmId>,
    peer_id: Option<PeerId>,
    port: Option<u16>,
    uploaded: u64,
    downloaded: u64,
    left: Option<u64>,
    event: AnnounceEvent,
    not_compact: bool,
    numwant: Option<u32>,
    key: Option<u32>,
    bridge: Option<u16>,
    bridge_domain: Option<String>,
    bridge_until: Option<u64>,
    bridge_hits: Option<u64>,
    bridge_rate: Option<u64>,
    bridge_key: Option<PublicKey>,
}

impl AnnounceFields {
    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), RequestError> {
        match key {
            b"info_hash" => once(&mut self.swarm_id, "info_hash", swarm_id(value)?),
            b"peer_id" => {
                let id = PeerId::try_from(value).map_err(|_| RequestError::BadLength("peer_id"))?;
                once(&mut self.peer_id, "peer_id", id)
            }
            b"port" => once(&mut self.port, "port", port("port", value)?),
            b"uploaded" => {
                self.uploaded = counter("uploaded", value)?.unwrap_or(0);
                Ok(())
            }
            b"downloaded" => {
                self.downloaded = counter("downloaded", value)?.unwrap_or(0);
                Ok(())
            }
            b"left" => {
                self.left = counter("left", value)?;
                Ok(())
            }
            b"event" => {
                self.event = match value {
                    b"started" => AnnounceEvent::Started,
                    b"stopped" => AnnounceEvent::Stopped,
                    b"completed" => AnnounceEvent::Completed,
                    _ => AnnounceEvent::Regular,
                };
                Ok(())
            }
            b"compact" => {
                self.not_compact = value == b"0";
                Ok(())
            }
            b"numwant" => {
                self.numwant = counter("numwant", value)?
                    .map(|wanted| u32::try_from(wanted).unwrap_or(u32::MAX));
                Ok(())
            }
            b"key" => {
                self.key = text(value).and_then(|key| u32::from_str_radix(key, 16).ok());
                Ok(())
            }
            b"bridge" => once(&mut self.bridge, "bridge", port("bridge", value)?),
            b"bridge_domain" => {
                let domain = text(value)
                    .and_then(domain_name)
                    .ok_or(RequestError::BadDomain)?;
                once(&mut self.bridge_domain, "bridge_domain", domain)
            }
            b"bridge_until" => {
                self.bridge_until = counter("bridge_until", value)?;
                Ok(())
            }
            b"bridge_hits" => {
                self.bridge_hits = counter("bridge_hits", value)?;
                Ok(())
            }
            b"bridge_rate" => {
                self.bridge_rate = counter("bridge_rate", value)?;
                Ok(())
            }
            b"bridge_key" => {
                let key = text(value).and_then(|key| key.parse().ok());
                let key = key.ok_or(RequestError::BadKey)?;
                once(&mut self.bridge_key, "bridge_key", key)
            }
            _ => Ok(()),
        }
    }

    fn finish(self) -> Result<AnnounceRequest, RequestError> {
        Ok(AnnounceRequest {
            swarm_id: self.swarm_id.ok_or(RequestError::Missing("info_hash"))?,
            peer_id: self.peer_id.ok_or(RequestError::Missing("peer_id"))?,
            port: self.port.ok_or(RequestError::Missing("port"))?,
            uploaded: self.uploaded,
            downloaded: self.downloaded,
            left: self.left,
            event: self.event,
            compact: !self.not_compact,
            numwant: self.numwant,
            key: self.key,
            bridge: self.bridge.map(|port| BridgeOffer {
                port,
                domain: self.bridge_domain,
                until: self.bridge_until,
                hits: self.bridge_hits,
                rate: self.bridge_rate,
                key: self.bridge_key,
            }),
        })
    }
}

/// Writes the query of an announce, without `?`; [`parse_announce`] undoes it.
pub fn encode_query(request: &AnnounceRequest) -> String {
    let mut query = String::with_capacity(256);
    query.push_str("info_hash=");
    escape_into(&mut query, request.swarm_id.as_bytes());
    query.push_str("&peer_id=");
    escape_into(&mut query, request.peer_id.as_bytes());
    let mut put = |key: &str, value: u64| {
        query.push('&');
        query.push_str(key);
        query.push('=');
        query.push_str(&value.to_string());
    };
    put("port", request.port.into());
    put("uploaded", request.uploaded);
    put("downloaded", request.downloaded);
    if let Some(left) = request.left {
        put("left", left);
    }
    put("compact", request.compact.into());
    if let Some(numwant) = request.numwant {
        put("numwant", numwant.into());
    }
    if let Some(bridge) = &request.bridge {
        put("bridge", bridge.port.into());
        for (key, value) in [
            ("bridge_until", bridge.until),
            ("bridge_hits", bridge.hits),
            ("bridge_rate", bridge.rate),
        ] {
            if let Some(value) = value {
                put(key, value);
            }
        }
    }
    if let Some(key) = request.key {
        query.push_str(&format!("&key={key:08x}"));
    }
    if let Some(event) = request.event.as_str() {
        query.push_str("&event=");
        query.push_str(event);
    }
    if let Some(domain) = request.bridge.as_ref().and_then(|b| b.domain.as_deref()) {
        query.push_str("&bridge_domain=");
        escape_into(&mut query, domain.as_bytes());
    }
    if let Some(key) = request.bridge.as_ref().and_then(|b| b.key) {
        query.push_str(&format!("&bridge_key={key}"));
    }
    query
}

/// The URL to fetch for an announce: `base` is the tracker's announce URL, which may carry a
/// query of its own (a pass key); a fragment is cut off.
pub fn announce_url(base: &str, request: &AnnounceRequest) -> String {
    join_query(base, &encode_query(request))
}

/// The URL to fetch for a scrape, or `None` where the announce URL has no scrape to it: its
/// last path component must begin with `announce` (BEP 48).
pub fn scrape_url(announce: &str, request: &ScrapeRequest) -> Option<String> {
    let base = announce.split('#').next().unwrap_or(announce);
    let path_end = base.find('?').unwrap_or(base.len());
    let (path, query) = base.split_at(path_end);
    let (before, last) = path.rsplit_once('/')?;
    let rest = last.strip_prefix("announce")?;
    Some(join_query(
        &format!("{before}/scrape{rest}{query}"),
        &encode_scrape_query(request),
    ))
}

fn join_query(base: &str, query: &str) -> String {
    let base = base.split('#').next().unwrap_or(base);
    let joint = match base.find('?') {
        None => "?",
        Some(at) if at + 1 == base.len() => "",
        Some(_) => "&",
    };
    format!("{base}{joint}{query}")
}

/// Reads the query of a scrape: `info_hash`, once for each swarm.
///
/// # Errors
/// [`RequestError`]; a scrape of everything (no `info_hash`) is refused as
/// [`RequestError::Missing`].
pub fn parse_scrape(query: &str) -> Result<ScrapeRequest, RequestError> {
    let mut swarm_ids = Vec::new();
    for pair in pairs(query)? {
        let (key, value) = pair?;
        if *key == *b"info_hash" {
            if swarm_ids.len() >= SCRAPE_HASHES_MAX {
                return Err(RequestError::TooMany);
            }
            swarm_ids.push(swarm_id(&value)?);
        }
    }
    if swarm_ids.is_empty() {
        return Err(RequestError::Missing("info_hash"));
    }
    Ok(ScrapeRequest { swarm_ids })
}

/// Writes the query of a scrape, without `?`.
pub fn encode_scrape_query(request: &ScrapeRequest) -> String {
    let mut query = String::with_capacity(request.swarm_ids.len() * 72);
    for id in &request.swarm_ids {
        if !query.is_empty() {
            query.push('&');
        }
        query.push_str("info_hash=");
        escape_into(&mut query, id.as_bytes());
    }
    query
}

type Pair<'q> = Result<(Cow<'q, [u8]>, Cow<'q, [u8]>), RequestError>;

fn pairs(query: &str) -> Result<impl Iterator<Item = Pair<'_>>, RequestError> {
    if query.len() > ANNOUNCE_QUERY_LEN_MAX {
        return Err(RequestError::TooLong);
    }
    // Byte by byte: keys and values are too short for anything cleverer.
    let pairs = query.as_bytes().split(|byte| *byte == b'&');
    Ok(pairs.filter(|pair| !pair.is_empty()).map(|pair| {
        let equals = pair.iter().position(|byte| *byte == b'=');
        let (key, value) = match equals.and_then(|at| pair.split_at_checked(at)) {
            Some((key, value)) => (key, value.get(1..).unwrap_or_default()),
            None => (pair, &[][..]),
        };
        Ok((unescape(key)?, unescape(value)?))
    }))
}

/// Undoes percent-encoding, where there is any; the caller has bounded the length.
fn unescape(text: &[u8]) -> Result<Cow<'_, [u8]>, RequestError> {
    let escaped = |byte: &u8| *byte == b'%' || *byte == b'+';
    let Some(plain) = text.iter().position(escaped) else {
        return Ok(Cow::Borrowed(text));
    };
    let (plain, rest) = text.split_at(plain);
    let mut out = Vec::with_capacity(text.len());
    out.extend_from_slice(plain);
    let mut bytes = rest.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let high = bytes.next().and_then(hex).ok_or(RequestError::BadEscape)?;
                let low = bytes.next().and_then(hex).ok_or(RequestError::BadEscape)?;
                out.push(high << 4 | low);
            }
            b'+' => out.push(b' '),
            other => out.push(other),
        }
    }
    Ok(Cow::Owned(out))
}

const fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// Percent-encodes all but RFC 3986's unreserved bytes.
fn escape_into(out: &mut String, bytes: &[u8]) {
    const HEX: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F',
    ];
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(HEX[usize::from(byte >> 4)]);
            out.push(HEX[usize::from(byte & 15)]);
        }
    }
}

fn once<T>(slot: &mut Option<T>, key: &'static str, value: T) -> Result<(), RequestError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(RequestError::Twice(key)),
    }
}

fn swarm_id(value: &[u8]) -> Result<SwarmId, RequestError> {
    SwarmId::try_from(value).map_err(|_| RequestError::BadLength("info_hash"))
}

fn text(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value).ok()
}

fn port(key: &'static str, value: &[u8]) -> Result<u16, RequestError> {
    match digits(value).and_then(|value| u16::try_from(value).ok()) {
        None | Some(0) => Err(RequestError::BadPort(key)),
        Some(port) => Ok(port),
    }
}

/// A count that may be missing: empty or negative is `None`.
fn counter(key: &'static str, value: &[u8]) -> Result<Option<u64>, RequestError> {
    match value.split_first() {
        None => Ok(None),
        Some((b'-', rest)) if digits(rest).is_some() => Ok(None),
        Some(_) => digits(value).map(Some).ok_or(RequestError::BadNumber(key)),
    }
}

/// Decimal digits only: no sign, no space, no overflow.
fn digits(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    text(value)?.parse().ok()
}

/// A domain name in lower case that leaves room for a site's label in front of it.
pub(crate) fn domain_name(name: &str) -> Option<String> {
    let label_ok = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let fits = name.len() <= 253 - 64;
    (fits && name.split('.').all(label_ok)).then(|| name.to_ascii_lowercase())
}
