//! Which media type a file has, and whether compressing it is worth a try.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// What `mime_guess` does not know, or takes for something a web site does not mean.
const OVERRIDES: &[(&str, &str)] = &[
    ("atom", "application/atom+xml"),
    ("avif", "image/avif"),
    ("cjs", "text/javascript"),
    ("geojson", "application/geo+json"),
    ("glb", "model/gltf-binary"),
    ("gltf", "model/gltf+json"),
    ("ico", "image/x-icon"),
    ("inv", "application/octet-stream"),
    ("js", "text/javascript"),
    ("jsonld", "application/ld+json"),
    ("jxl", "image/jxl"),
    ("map", "application/json"),
    ("md", "text/markdown"),
    ("mjs", "text/javascript"),
    ("mts", "text/javascript"),
    ("opus", "audio/ogg"),
    ("otf", "font/otf"),
    ("rss", "application/rss+xml"),
    ("ts", "text/javascript"),
    ("ttf", "font/ttf"),
    ("tsx", "text/javascript"),
    ("jsx", "text/javascript"),
    ("wasm", "application/wasm"),
    ("webmanifest", "application/manifest+json"),
    ("wgsl", "text/wgsl"),
    ("woff", "font/woff"),
    ("woff2", "font/woff2"),
    ("xhtml", "application/xhtml+xml"),
    ("xml", "application/xml"),
];

/// Types outside `text/` that are text all the same.
const TEXT_SUBTYPES: &[&str] = &[
    "application/javascript",
    "application/json",
    "application/x-sh",
    "application/xml",
    "image/svg+xml",
];

/// Types that are no text and get smaller all the same.
const COMPRESSIBLE: &[&str] = &[
    "application/wasm",
    "application/vnd.ms-fontobject",
    "font/otf",
    "font/ttf",
    "image/bmp",
    "image/x-icon",
    "model/gltf-binary",
];

/// The media type of a file by its name, with `charset=utf-8` where it is text.
pub fn media_type(path: &Path) -> String {
    let extension = path
        .extension()
        .and_then(|extension| extension.to_str())
        .map(str::to_ascii_lowercase)
        .unwrap_or_default();
    let essence = match OVERRIDES.iter().find(|(name, _)| *name == extension) {
        Some((_, essence)) => (*essence).to_owned(),
        None => mime_guess::from_ext(&extension)
            .first_raw()
            .unwrap_or("application/octet-stream")
            .to_owned(),
    };
    if is_text(&essence) {
        format!("{essence};charset=utf-8")
    } else {
        essence
    }
}

/// As [`media_type`], with a look into files whose name means two things: `.ts` is TypeScript or
/// an MPEG transport stream, which has a sync byte every 188 bytes.
pub(super) fn media_type_of(path: &Path, disk: &Path) -> String {
    let is_ts = |ext: &std::ffi::OsStr| ext.eq_ignore_ascii_case("ts");
    if path.extension().is_some_and(is_ts) && is_transport_stream(disk) {
        return "video/mp2t".to_owned();
    }
    media_type(path)
}

fn is_transport_stream(disk: &Path) -> bool {
    let mut start = [0; 377];
    let read = File::open(disk).and_then(|mut file| file.read_exact(&mut start));
    read.is_ok() && start.iter().step_by(188).all(|&byte| byte == 0x47)
}

fn is_text(essence: &str) -> bool {
    essence.starts_with("text/")
        || TEXT_SUBTYPES.contains(&essence)
        || essence.ends_with("+xml")
        || essence.ends_with("+json")
}

/// Whether files of this type are tried with brotli and zstd.
pub fn is_compressible(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default();
    is_text(essence) || COMPRESSIBLE.contains(&essence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn web_files_have_the_types_that_browsers_insist_on() {
        for (name, expected) in [
            ("index.html", "text/html;charset=utf-8"),
            ("a.HTM", "text/html;charset=utf-8"),
            ("a.css", "text/css;charset=utf-8"),
            ("a.js", "text/javascript;charset=utf-8"),
            ("a.mjs", "text/javascript;charset=utf-8"),
            ("a.ts", "text/javascript;charset=utf-8"),
            ("a.js.map", "application/json;charset=utf-8"),
            ("a.wgsl", "text/wgsl;charset=utf-8"),
            ("a.svg", "image/svg+xml;charset=utf-8"),
            ("a.webmanifest", "application/manifest+json;charset=utf-8"),
            ("a.txt", "text/plain;charset=utf-8"),
            ("feed.rss", "application/rss+xml;charset=utf-8"),
            ("a.wasm", "application/wasm"),
            ("a.woff2", "font/woff2"),
            ("a.png", "image/png"),
            ("a.jpg", "image/jpeg"),
            ("a.webp", "image/webp"),
            ("a.mp4", "video/mp4"),
            ("a.pdf", "application/pdf"),
            ("a.tar.gz", "application/gzip"),
            ("LICENSE", "application/octet-stream"),
            ("a.unheard-of", "application/octet-stream"),
        ] {
            assert_eq!(media_type(Path::new(name)), expected, "{name}");
        }
    }

    #[test]
    fn a_transport_stream_is_no_script() {
        let dir = tempfile::tempdir().unwrap();
        let disk = dir.path().join("a.ts");
        let mut stream = vec![0; 3 * 188];
        for at in [0, 188, 376] {
            stream[at] = 0x47;
        }
        let script = "text/javascript;charset=utf-8";
        let mut off = stream.clone();
        off[188] = 0;
        for (bytes, name, expected) in [
            (&stream[..], "a.ts", "video/mp2t"),
            (&stream[..], "a.TS", "video/mp2t"),
            (&stream[..], "a.mts", script),
            (&stream[..376], "a.ts", script),
            (&off[..], "a.ts", script),
            (b"G", "a.ts", script),
            (b"", "a.ts", script),
        ] {
            std::fs::write(&disk, bytes).unwrap();
            let found = media_type_of(Path::new(name), &disk);
            assert_eq!(found, expected, "{name}, {} bytes", bytes.len());
        }
    }

    #[test]
    fn only_what_gets_smaller_is_tried() {
        for name in ["a.html", "a.svg", "a.json", "a.wasm", "a.ttf", "a.ico"] {
            assert!(is_compressible(&media_type(Path::new(name))), "{name}");
        }
        for name in ["a.png", "a.woff2", "a.mp4", "a.zip", "a.br", "LICENSE"] {
            assert!(!is_compressible(&media_type(Path::new(name))), "{name}");
        }
    }
}
