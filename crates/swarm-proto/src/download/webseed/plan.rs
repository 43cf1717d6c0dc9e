//! Wanted blocks become ranged GETs: which URL, which bytes of which file.

use crate::geometry::{BlockRange, ByteRange};
use crate::metainfo::Metainfo;

/// Bytes of one request at most, of neighbouring pieces together: what libtorrent asks for. Larger
/// ones save no round trips worth having, and commit to one server for longer.
pub(super) const RANGE_LEN_MAX: u64 = 16 * 1024 * 1024;

/// One GET: bytes of one file, by their place in the torrent's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    /// Index into [`Metainfo::files`].
    pub(super) file: usize,
    pub(super) bytes: ByteRange,
}

/// The GETs that bring these blocks, which are in order. Padding is in none of them, and what lies
/// side by side in one file is asked for at once.
pub(super) fn parts(meta: &Metainfo, blocks: &[BlockRange]) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for block in blocks {
        let range = meta.geometry().block_bytes(block);
        let mut at = range.start;
        for span in meta.spans(&range) {
            let bytes = ByteRange::new(at, at + span.length);
            at = bytes.end;
            if span.pad {
                continue;
            }
            match parts.last_mut() {
                Some(last)
                    if last.file == span.file
                        && last.bytes.end == bytes.start
                        && last.bytes.len() + bytes.len() <= RANGE_LEN_MAX =>
                {
                    last.bytes.end = bytes.end;
                }
                _ => parts.push(Part {
                    file: span.file,
                    bytes,
                }),
            }
        }
    }
    parts
}

/// The URL of a file at a web seed (BEP 19): a directory with the torrent's name and the path
/// appended, each component percent-encoded. The URL of a single file is taken as it is, unless it
/// ends in a slash.
pub(super) fn file_url(base: &str, meta: &Metainfo, file: usize) -> Option<String> {
    let entry = meta.files().get(file)?;
    let mut url = base.split('#').next().unwrap_or_default().to_owned();
    if meta.is_single_file() {
        if url.ends_with('/') {
            encode_into(&mut url, meta.name());
        }
        return Some(url);
    }
    if !url.ends_with('/') {
        url.push('/');
    }
    encode_into(&mut url, meta.name());
    for component in &entry.path {
        url.push('/');
        encode_into(&mut url, component);
    }
    Some(url)
}

/// Percent-encodes all but the unreserved characters of RFC 3986.
fn encode_into(url: &mut String, component: &str) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |nibble: u8| {
        HEX.get(usize::from(nibble))
            .map_or('0', |hex| char::from(*hex))
    };
    for byte in component.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            url.push(char::from(byte));
        } else {
            url.push('%');
            url.push(digit(byte >> 4));
            url.push(digit(byte & 15));
        }
    }
}
