//! The site that is stormed: our own, out of the binary, or any folder.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};

use url::Url;

use super::assets::{self, Want};

/// The files of `demo-site/`, by path.
static SHIPPED: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/demo_site.rs"));

/// Pages of a site that the crowd visits; a larger site's others are left alone.
const PAGES_MAX: usize = 2000;

/// Why a folder cannot be stormed.
#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    /// The folder or a file in it cannot be read.
    #[error("cannot read {}", .0.display())]
    Unreadable(PathBuf, #[source] io::Error),
    /// The shipped site cannot be unpacked.
    #[error("cannot unpack the demo site to {}", .0.display())]
    Unpack(PathBuf, #[source] io::Error),
    /// Nothing to visit.
    #[error("{} has no .html page", .0.display())]
    NoPages(PathBuf),
}

/// Writes the shipped site under `root`.
///
/// # Errors
/// [`SiteError::Unpack`].
pub(super) fn unpack(root: &Path) -> Result<(), SiteError> {
    for (name, bytes) in SHIPPED {
        let file = root.join(name);
        let written = file
            .parent()
            .map_or(Ok(()), std::fs::create_dir_all)
            .and_then(|()| std::fs::write(&file, bytes));
        written.map_err(|error| SiteError::Unpack(file, error))?;
    }
    Ok(())
}

/// One page to visit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Page {
    /// Percent-encoded URL path; a folder's index goes by the folder's.
    pub url_path: String,
    /// Bytes of the page and of all that a browser loads with it.
    pub weight: u64,
}

/// The pages of a folder, the front page first; each with its weight.
///
/// # Errors
/// [`SiteError`]: unreadable, or no page at all.
pub(super) fn pages(root: &Path) -> Result<Vec<Page>, SiteError> {
    let mut found = Vec::new();
    walk(root, root, &mut found)?;
    // The front page, then by depth and name; error pages are not what people come for.
    found.retain(|path| !path.ends_with("/404.html"));
    found.sort_by_key(|path| (path != "/", path.matches('/').count(), path.clone()));
    found.truncate(PAGES_MAX);
    if found.is_empty() {
        return Err(SiteError::NoPages(root.to_owned()));
    }
    let mut scale = Scale::default();
    Ok(found
        .into_iter()
        .map(|url_path| Page {
            weight: scale.weigh(root, &url_path),
            url_path,
        })
        .collect())
}

fn walk(root: &Path, folder: &Path, found: &mut Vec<String>) -> Result<(), SiteError> {
    let unreadable = |error| SiteError::Unreadable(folder.to_owned(), error);
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else {
            continue;
        };
        let path = entry.path();
        let kind = entry.file_type().map_err(unreadable)?;
        if kind.is_dir() {
            walk(root, &path, found)?;
        } else if kind.is_file() && name.ends_with(".html") {
            let below = path.strip_prefix(root).unwrap_or(&path);
            let parts: Vec<String> = below
                .iter()
                .map(|part| encode(&part.to_string_lossy()))
                .collect();
            let url = format!("/{}", parts.join("/"));
            found.push(
                url.strip_suffix("index.html")
                    .map_or(url.clone(), str::to_owned),
            );
        }
    }
    Ok(())
}

/// Percent-encodes one path component.
fn encode(part: &str) -> String {
    let mut out = String::with_capacity(part.len());
    for byte in part.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Weighs pages as a browser with an empty cache would load them.
#[derive(Default)]
struct Scale {
    /// Length of a file, and what a style sheet names.
    files: HashMap<String, (u64, Vec<assets::Asset>)>,
}

impl Scale {
    fn weigh(&mut self, root: &Path, url_path: &str) -> u64 {
        let Ok(url) = Url::parse("http://site.invalid").and_then(|home| home.join(url_path)) else {
            return 0;
        };
        let Some(html) = read(root, &url) else {
            return 0;
        };
        let mut weight = html.len() as u64;
        let mut todo = assets::of_page(&url, &String::from_utf8_lossy(&html));
        let mut seen = HashSet::new();
        while let Some(asset) = todo.pop() {
            if asset.url.host_str() != url.host_str() || !seen.insert(asset.url.path().to_owned()) {
                continue;
            }
            let known = self.files.entry(asset.url.path().to_owned());
            let (length, names) = known.or_insert_with(|| {
                let body = read(root, &asset.url).unwrap_or_default();
                let names = match asset.want {
                    Want::Style => assets::of_sheet(&asset.url, &String::from_utf8_lossy(&body)),
                    _ => Vec::new(),
                };
                (body.len() as u64, names)
            });
            weight += *length;
            todo.extend(names.iter().cloned());
        }
        weight
    }
}

fn read(root: &Path, url: &Url) -> Option<Vec<u8>> {
    let path = swarm_proto::manifest::SitePath::parse(url.path()).ok()?;
    let mut file = root.to_path_buf();
    file.extend(path.components());
    if path.is_folder() {
        file.push("index.html");
    }
    std::fs::read(file).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_site_has_pages_of_the_weight_the_demo_counts_on() {
        let folder = tempfile::tempdir().unwrap();
        unpack(folder.path()).unwrap();
        let pages = pages(folder.path()).unwrap();
        assert_eq!(pages[0].url_path, "/");
        assert!(pages.len() >= 15, "{pages:?}");
        for page in &pages {
            assert!((100_000..450_000).contains(&page.weight), "{page:?}");
            let html = read(
                folder.path(),
                &Url::parse("http://x")
                    .unwrap()
                    .join(&page.url_path)
                    .unwrap(),
            );
            assert!(html.unwrap().len() <= 8 * 1024, "{page:?}");
        }
    }

    #[test]
    fn pages_of_a_folder_are_found_and_spelt_as_addresses() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "b/c d.html",
            "b/index.html",
            ".git/x.html",
            "404.html",
            "a.txt",
            "é.html",
        ] {
            let file = folder.path().join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, "<p>").unwrap();
        }
        let found: Vec<_> = pages(folder.path())
            .unwrap()
            .into_iter()
            .map(|p| p.url_path)
            .collect();
        assert_eq!(found, ["/%C3%A9.html", "/b/", "/b/c%20d.html"]);
    }

    #[test]
    fn a_folder_without_pages_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(pages(folder.path()), Err(SiteError::NoPages(_))));
        assert!(matches!(
            pages(&folder.path().join("no")),
            Err(SiteError::Unreadable(..))
        ));
    }
}
