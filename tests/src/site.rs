//! Sites to publish, and trees to compare.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use sha2::{Digest, Sha256};

/// SHA-256 of every regular file below a folder, by its path relative to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree(pub BTreeMap<String, [u8; 32]>);

impl Tree {
    /// Reads a folder. Dotfiles and symlinks are left out, as publishing leaves them out.
    pub fn of(root: &Path) -> Self {
        let mut files = BTreeMap::new();
        let mut folders = vec![root.to_owned()];
        while let Some(folder) = folders.pop() {
            let entries = fs::read_dir(&folder)
                .unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
            for entry in entries {
                let path = entry.expect("readable entry").path();
                let meta = fs::symlink_metadata(&path).expect("it was just listed");
                let hidden = path
                    .file_name()
                    .is_some_and(|name| name.to_string_lossy().starts_with('.'));
                if hidden || meta.is_symlink() {
                    continue;
                }
                if meta.is_dir() {
                    folders.push(path);
                } else {
                    let name = path
                        .strip_prefix(root)
                        .expect("below root")
                        .to_string_lossy()
                        .into_owned();
                    files.insert(
                        name,
                        Sha256::digest(fs::read(&path).expect("readable file")).into(),
                    );
                }
            }
        }
        Self(files)
    }

    /// Panics with the first differences unless `other` has every file of this tree, equal.
    pub fn assert_within(&self, other: &Tree) {
        let wrong: Vec<_> = self
            .0
            .iter()
            .filter(|(path, digest)| other.0.get(*path) != Some(*digest))
            .map(|(path, _)| (path, other.0.contains_key(path)))
            .take(10)
            .collect();
        assert!(
            wrong.is_empty(),
            "missing (false) or different (true), of {}: {wrong:?}",
            self.0.len()
        );
    }
}

/// A site of some 40 files in several folders: pages, styles, scripts, pictures that no compressor
/// shrinks, an empty file, two equal ones, names that need escaping in URLs, and one larger file.
pub fn small_site(root: &Path) {
    let put = |path: &str, bytes: &[u8]| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("a file has a folder")).expect("scratch folder");
        fs::write(path, bytes).expect("scratch file");
    };
    let words = "The lighthouse keeper wrote down every ship that passed. ".repeat(60);
    for number in 0..12 {
        let page = format!(
            "<!doctype html><html lang=en><head><title>Page {number}</title>\
             <link rel=stylesheet href=/css/site.css><script src=/js/site.js defer></script></head>\
             <body><h1>Page {number}</h1><img src=/img/{number}.bin alt=''><p>{words}</p></body></html>"
        );
        let name = if number == 0 {
            "index.html".to_owned()
        } else {
            format!("pages/p{number}/index.html")
        };
        put(&name, page.as_bytes());
        put(
            &format!("img/{number}.bin"),
            &noise(number, 40_000 + 3_000 * number as usize),
        );
    }
    put(
        "css/site.css",
        format!("body{{margin:2em}}/*{words}*/").as_bytes(),
    );
    put(
        "js/site.js",
        format!("document.title += '!';/*{words}*/").as_bytes(),
    );
    put("empty.txt", b"");
    put("copies/a.bin", &noise(99, 30_000));
    put("copies/b.bin", &noise(99, 30_000));
    put("names/with space & ampersand.txt", b"spaces");
    put("names/\u{fc}ml\u{e4}ut.txt", "\u{fc}\u{e4}".as_bytes());
    put("names/100%.txt", b"percent");
    put("media/large.bin", &noise(7, 3_000_000));
    put(".secret", b"never published");
}

/// Bytes that look random and are the same every time.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5555_5555_5555_5555;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 24) as u8
        })
        .collect()
}

/// Copies the HTML tree of Debian's python3-doc, some 500 pages of a real site, to `to`.
///
/// Debian shares scripts between packages by symlinks, which publishing rightly leaves out when
/// they leave the root; the copy holds what they point to, as the site's own server would serve it.
///
/// # Panics
/// When it is not installed.
pub fn python_docs(to: &Path) {
    let html = fs::read_dir("/usr/share/doc")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("python3."))
        })
        .map(|path| path.join("html"))
        .find(|path| path.join("index.html").is_file())
        .expect("the Python documentation is missing: apt-get install python3-doc");
    let status = Command::new("cp")
        .arg("-rL")
        .arg(&html)
        .arg(to)
        .status()
        .expect("cp is part of every Debian");
    assert!(status.success(), "cp -rL {}: {status}", html.display());
}
