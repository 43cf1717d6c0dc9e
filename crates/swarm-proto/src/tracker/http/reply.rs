//! Replies of a tracker as bencode, both ways.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::bencode::{self, BencodeError, Dict, Item, Rules, Value};
use crate::id::SwarmId;
use crate::limits::{PEERS_PER_REPLY_MAX, SCRAPE_HASHES_MAX, TRACKER_REASON_LEN_MAX};
use crate::tracker::{AnnounceReply, ScrapeEntry, ScrapeReply};

/// What a client does where a tracker names no interval, in seconds (libtorrent's default).
pub(super) const INTERVAL_DEFAULT: u32 = 1800;

/// Why bytes are no tracker's reply. The tracker's fault, or of whatever answers in its place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplyError {
    /// The tracker understood and refuses; `reason` is its own text, cut to a line.
    #[error("tracker refuses: {reason}")]
    Failure {
        /// The tracker's words, without control characters.
        reason: String,
        /// Minutes to wait before the next try (BEP 31); `None` where it does not say.
        retry_in_minutes: Option<u32>,
    },
    /// Not bencode at all: a web page, an empty body.
    #[error("reply is not bencode")]
    NotBencode(#[source] BencodeError),
    /// Bencode, but neither peers nor interval nor failure.
    #[error("reply is no {0} reply")]
    WrongShape(&'static str),
    /// `peers` or `peers6` of a length that is no multiple of an entry.
    #[error("compact peers are cut off")]
    CutPeers,
}

/// Bytes of an announce reply. `compact` gives `peers` and `peers6` as strings (BEP 23, 7),
/// otherwise one list of dictionaries without peer ids (as with BEP 23's `no_peer_id`).
pub fn encode_reply(reply: &AnnounceReply, compact: bool) -> Vec<u8> {
    let v4 = reply.peers.iter().filter(|peer| peer.is_ipv4()).count();
    let v6 = reply.peers.len() - v4;
    let mut out = Vec::with_capacity(128 + v4 * 6 + v6 * 18);
    out.push(b'd');
    put_int(&mut out, "complete", reply.complete);
    put_int(&mut out, "incomplete", reply.incomplete);
    put_int(&mut out, "interval", reply.interval);
    if let Some(min_interval) = reply.min_interval {
        put_int(&mut out, "min interval", min_interval);
    }
    if compact {
        put_string(&mut out, b"peers");
        put_len(&mut out, v4 * 6);
        for peer in &reply.peers {
            if let IpAddr::V4(ip) = peer.ip() {
                out.extend_from_slice(&ip.octets());
                out.extend_from_slice(&peer.port().to_be_bytes());
            }
        }
        if v6 > 0 {
            put_string(&mut out, b"peers6");
            put_len(&mut out, v6 * 18);
        }
        for peer in &reply.peers {
            if let IpAddr::V6(ip) = peer.ip() {
                out.extend_from_slice(&ip.octets());
                out.extend_from_slice(&peer.port().to_be_bytes());
            }
        }
    } else {
        put_string(&mut out, b"peers");
        out.push(b'l');
        for peer in &reply.peers {
            out.push(b'd');
            put_bytes(&mut out, "ip", peer.ip().to_string().as_bytes());
            put_int(&mut out, "port", peer.port().into());
            out.push(b'e');
        }
        out.push(b'e');
    }
    if let Some(warning) = &reply.warning {
        put_bytes(&mut out, "warning message", warning.as_bytes());
    }
    out.push(b'e');
    out
}

/// Bytes of a refusal (BEP 3 `failure reason`).
pub fn encode_failure(reason: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(32 + reason.len());
    out.push(b'd');
    put_bytes(&mut out, "failure reason", reason.as_bytes());
    out.push(b'e');
    out
}

/// Reads what a tracker answered to an announce, compact or not, whatever was asked for.
///
/// An absent, negative or zero interval becomes half an hour; peers past
/// [`PEERS_PER_REPLY_MAX`], with port 0, or named by DNS are dropped.
///
/// # Errors
/// [`ReplyError::Failure`] where the tracker refuses, else what is wrong with the bytes.
pub fn decode_reply(bytes: &[u8]) -> Result<AnnounceReply, ReplyError> {
    let value = decode_lenient(bytes)?;
    let dict = reply_dict(value, "announce")?;
    if dict.get(b"interval").is_none()
        && dict.get(b"peers").is_none()
        && dict.get(b"peers6").is_none()
    {
        return Err(ReplyError::WrongShape("announce"));
    }
    let mut reply = AnnounceReply {
        interval: seconds(dict, b"interval").unwrap_or(INTERVAL_DEFAULT),
        min_interval: seconds(dict, b"min interval"),
        complete: count(dict, b"complete"),
        incomplete: count(dict, b"incomplete"),
        peers: Vec::new(),
        warning: dict
            .get(b"warning message")
            .and_then(Value::as_bytes)
            .map(one_line),
    };
    match dict.get(b"peers") {
        None => {}
        Some(Value::Bytes(compact)) => {
            let (entries, rest) = compact.as_chunks::<6>();
            if !rest.is_empty() {
                return Err(ReplyError::CutPeers);
            }
            for [a, b, c, d, high, low] in entries {
                let ip = Ipv4Addr::new(*a, *b, *c, *d);
                push_peer(
                    &mut reply.peers,
                    ip.into(),
                    u16::from_be_bytes([*high, *low]),
                );
            }
        }
        Some(Value::List(list)) => {
            for peer in list.iter().filter_map(Value::as_dict) {
                let ip = peer
                    .get(b"ip")
                    .and_then(Value::as_str)
                    .and_then(|ip| ip.parse::<IpAddr>().ok());
                let port = peer
                    .get(b"port")
                    .and_then(Value::as_int)
                    .and_then(|port| u16::try_from(port).ok());
                if let (Some(ip), Some(port)) = (ip, port) {
                    push_peer(&mut reply.peers, ip, port);
                }
            }
        }
        Some(_) => return Err(ReplyError::WrongShape("announce")),
    }
    if let Some(compact) = dict.get(b"peers6") {
        let compact = compact
            .as_bytes()
            .ok_or(ReplyError::WrongShape("announce"))?;
        let (entries, rest) = compact.as_chunks::<18>();
        if !rest.is_empty() {
            return Err(ReplyError::CutPeers);
        }
        for entry in entries {
            let (ip, port) = entry.split_at(16);
            if let (Ok(ip), Ok(port)) = (<[u8; 16]>::try_from(ip), <[u8; 2]>::try_from(port)) {
                push_peer(
                    &mut reply.peers,
                    Ipv6Addr::from(ip).into(),
                    u16::from_be_bytes(port),
                );
            }
        }
    }
    Ok(reply)
}

/// Bytes of a scrape reply; a swarm that is in twice is written once.
pub fn encode_scrape_reply(reply: &ScrapeReply) -> Vec<u8> {
    let files = reply.files.iter().map(|(id, entry)| {
        let entry = Item::dict([
            ("complete", Item::int(entry.complete.into())),
            ("downloaded", Item::int(entry.downloaded.into())),
            ("incomplete", Item::int(entry.incomplete.into())),
        ]);
        (*id.as_bytes(), entry)
    });
    Item::dict([("files", Item::dict(files))]).to_bytes()
}

/// Reads what a tracker answered to a scrape; entries of another shape are left out.
///
/// # Errors
/// As [`decode_reply`].
pub fn decode_scrape_reply(bytes: &[u8]) -> Result<ScrapeReply, ReplyError> {
    let value = decode_lenient(bytes)?;
    let dict = reply_dict(value, "scrape")?;
    let files = dict
        .get(b"files")
        .and_then(Value::as_dict)
        .ok_or(ReplyError::WrongShape("scrape"))?;
    let files = files
        .iter()
        .filter_map(|(id, entry)| {
            let entry = entry.as_dict()?;
            let entry = ScrapeEntry {
                complete: count(entry, b"complete"),
                downloaded: count(entry, b"downloaded"),
                incomplete: count(entry, b"incomplete"),
            };
            Some((SwarmId::try_from(id).ok()?, entry))
        })
        .take(SCRAPE_HASHES_MAX)
        .collect();
    Ok(ScrapeReply { files })
}

fn push_peer(peers: &mut Vec<SocketAddr>, ip: IpAddr, port: u16) {
    if port != 0 && peers.len() < PEERS_PER_REPLY_MAX {
        peers.push(SocketAddr::new(ip.to_canonical(), port));
    }
}

fn decode_lenient(bytes: &[u8]) -> Result<Value<'_>, ReplyError> {
    // Some trackers end their body with a newline, as scripts do.
    let bytes = bytes.trim_ascii_end();
    bencode::decode(bytes, &Rules::NETWORK).map_err(ReplyError::NotBencode)
}

fn reply_dict<'a>(value: Value<'a>, what: &'static str) -> Result<Dict<'a>, ReplyError> {
    let dict = value.as_dict().ok_or(ReplyError::WrongShape(what))?;
    match dict.get(b"failure reason") {
        None => Ok(dict),
        Some(reason) => Err(ReplyError::Failure {
            reason: one_line(reason.as_bytes().unwrap_or_default()),
            retry_in_minutes: dict
                .get(b"retry in")
                .and_then(Value::as_int)
                .and_then(|minutes| u32::try_from(minutes).ok()),
        }),
    }
}

/// A tracker's text as one short line that cannot garble a terminal.
pub(in crate::tracker) fn one_line(bytes: &[u8]) -> String {
    let cut = bytes.get(..TRACKER_REASON_LEN_MAX).unwrap_or(bytes);
    let mut line = String::with_capacity(cut.len());
    for c in String::from_utf8_lossy(cut).chars() {
        if line.len() + c.len_utf8() > TRACKER_REASON_LEN_MAX {
            break;
        }
        line.push(if c.is_control() { ' ' } else { c });
    }
    line
}

fn seconds(dict: Dict<'_>, key: &[u8]) -> Option<u32> {
    let value = dict.get(key)?.as_int()?;
    (value > 0).then(|| u32::try_from(value).unwrap_or(u32::MAX))
}

fn count(dict: Dict<'_>, key: &[u8]) -> u32 {
    let value = dict.get(key).and_then(Value::as_int).unwrap_or(0);
    u32::try_from(value.max(0)).unwrap_or(u32::MAX)
}

fn put_string(out: &mut Vec<u8>, bytes: &[u8]) {
    put_len(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// What begins a string of so many bytes.
fn put_len(out: &mut Vec<u8>, len: usize) {
    out.extend_from_slice(itoa::Buffer::new().format(len).as_bytes());
    out.push(b':');
}

fn put_bytes(out: &mut Vec<u8>, key: &str, value: &[u8]) {
    put_string(out, key.as_bytes());
    put_string(out, value);
}

fn put_int(out: &mut Vec<u8>, key: &str, value: u32) {
    put_string(out, key.as_bytes());
    out.push(b'i');
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    out.push(b'e');
}
