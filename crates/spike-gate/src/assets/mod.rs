//! What the manifest lets the gate move: one [`Asset`] for each published file, with everything a
//! decision or a rewritten tag needs, computed once.

pub mod reach;

use std::collections::HashMap;

use swarm_proto::id::{Digest, SwarmId};

pub use reach::Reach;

/// What a file is to a browser, from its media type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A classic or module script.
    Script,
    /// A style sheet.
    Style,
    /// A picture.
    Image,
    /// A web font.
    Font,
    /// Sound or film.
    Media,
    /// An archive, a document or anything a browser saves rather than shows.
    Download,
    /// A page, data for scripts, or anything else that stays home.
    Page,
}

impl Kind {
    /// The kind of a media type, with or without parameters. Unknown types stay home.
    pub fn of(media_type: &str) -> Self {
        let essence = media_type
            .split(';')
            .next()
            .unwrap_or("")
            .trim()
            .to_ascii_lowercase();
        let Some((top, sub)) = essence.split_once('/') else {
            return Self::Page;
        };
        match (top, sub) {
            ("text", "css") => Self::Style,
            ("text" | "application", "javascript" | "ecmascript" | "x-javascript") => Self::Script,
            ("image", _) => Self::Image,
            ("font", _) | ("application", "font-woff" | "font-woff2" | "vnd.ms-fontobject") => {
                Self::Font
            }
            // Playlists name other files; a player resolves them against where they came from.
            (
                "audio" | "application",
                "mpegurl" | "x-mpegurl" | "vnd.apple.mpegurl" | "dash+xml",
            ) => Self::Page,
            ("audio" | "video", _) => Self::Media,
            ("application", sub) if is_download(sub) => Self::Download,
            _ => Self::Page,
        }
    }
}

fn is_download(sub: &str) -> bool {
    matches!(
        sub,
        "octet-stream"
            | "pdf"
            | "zip"
            | "gzip"
            | "x-gzip"
            | "zstd"
            | "x-tar"
            | "x-bzip"
            | "x-bzip2"
            | "x-xz"
            | "x-lzma"
            | "x-7z-compressed"
            | "x-rar-compressed"
            | "vnd.rar"
            | "epub+zip"
            | "java-archive"
            | "msword"
            | "rtf"
            | "x-iso9660-image"
            | "x-apple-diskimage"
            | "x-debian-package"
            | "x-rpm"
            | "x-msdownload"
            | "x-bittorrent"
            | "x-msi"
    ) || sub.starts_with("vnd.openxmlformats-officedocument.")
        || sub.starts_with("vnd.oasis.opendocument.")
        || sub.starts_with("vnd.debian.")
}

/// One published file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asset {
    /// The URL path, percent-encoded, as it is appended to a bridge's address.
    pub url_path: String,
    /// Bytes of the file itself, uncompressed.
    pub length: u64,
    /// SHA-256 of the file.
    pub digest: Digest,
    /// What it is to a browser.
    pub kind: Kind,
    /// Where its bytes may come from.
    pub reach: Reach,
    /// The swarms (by v1 hash) a bridge must hold to serve it, and what a style sheet draws in.
    pub swarms: Vec<SwarmId>,
}

impl Asset {
    /// The value of an `integrity` attribute.
    pub fn integrity(&self) -> String {
        format!(
            "sha256-{}",
            data_encoding::BASE64.encode(self.digest.as_bytes())
        )
    }
}

/// All published files of the site, by their decoded path (`/docs/a b.png`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Assets {
    by_path: HashMap<String, Asset>,
}

impl Assets {
    /// The file at exactly this decoded path. A folder is not its index file.
    pub fn get(&self, path: &str) -> Option<&Asset> {
        self.by_path.get(path)
    }

    /// Files known.
    pub fn len(&self) -> usize {
        self.by_path.len()
    }

    /// Whether nothing is published.
    pub fn is_empty(&self) -> bool {
        self.by_path.is_empty()
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.by_path
            .values()
            .fold(0, |sum, asset| sum.saturating_add(asset.length))
    }
}

impl FromIterator<(String, Asset)> for Assets {
    fn from_iter<I: IntoIterator<Item = (String, Asset)>>(files: I) -> Self {
        Self {
            by_path: files.into_iter().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_have_their_kind_and_unknown_ones_stay_home() {
        for (media_type, kind) in [
            ("text/css; charset=utf-8", Kind::Style),
            ("text/javascript", Kind::Script),
            ("application/javascript", Kind::Script),
            ("IMAGE/PNG", Kind::Image),
            ("image/svg+xml", Kind::Image),
            ("font/woff2", Kind::Font),
            ("application/vnd.ms-fontobject", Kind::Font),
            ("video/mp4", Kind::Media),
            ("audio/ogg", Kind::Media),
            ("audio/mpegurl", Kind::Page),
            ("application/zip", Kind::Download),
            ("application/pdf", Kind::Download),
            ("application/vnd.oasis.opendocument.text", Kind::Download),
            ("text/html", Kind::Page),
            ("application/xhtml+xml", Kind::Page),
            ("application/json", Kind::Page),
            ("application/wasm", Kind::Page),
            ("text/plain", Kind::Page),
            ("application/manifest+json", Kind::Page),
            ("", Kind::Page),
            ("nonsense", Kind::Page),
        ] {
            assert_eq!(Kind::of(media_type), kind, "{media_type}");
        }
    }

    #[test]
    fn integrity_is_what_browsers_compute() {
        let asset = Asset {
            url_path: "/a.js".into(),
            length: 20,
            digest: Digest::of(b"alert('Hello, world.');"),
            kind: Kind::Script,
            reach: Reach::Anywhere,
            swarms: Vec::new(),
        };
        // openssl dgst -sha256 -binary | base64
        assert_eq!(
            asset.integrity(),
            "sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng="
        );
    }
}
