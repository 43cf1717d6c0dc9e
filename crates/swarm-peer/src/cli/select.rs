//! Which files of a torrent or site are wanted.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use globset::{GlobBuilder, GlobMatcher};
use swarm_proto::geometry::ByteRange;
use swarm_proto::metainfo::Metainfo;

use super::{EXIT_NOT_FOUND, EXIT_USAGE, Failure};

/// One `--file`: a number as `inspect --files` lists them, or a pattern.
#[derive(Debug, Clone)]
pub(super) enum Pick {
    /// Index among all files of the torrent, padding counted, from 0 (as `so=` in magnet links).
    Index(usize),
    /// What `so=` of a magnet link says (BEP 53): such indexes.
    Numbers(RangeInclusive<u32>),
    /// `*` and `?` within a name, `**` across directories, `[ab]`, `{a,b}`. Without a slash it
    /// is the name that must match, wherever the file lies.
    Pattern { text: String, glob: GlobMatcher },
}

impl Pick {
    /// Reads a number or a pattern.
    ///
    /// # Errors
    /// What is wrong with the pattern, for clap to show.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if let Ok(index) = text.parse() {
            return Ok(Self::Index(index));
        }
        let glob = GlobBuilder::new(text.trim_start_matches('/'))
            .literal_separator(true)
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self::Pattern {
            text: text.to_owned(),
            glob: glob.compile_matcher(),
        })
    }

    fn takes(&self, index: Option<usize>, path: &str) -> bool {
        match self {
            Self::Index(wanted) => index == Some(*wanted),
            Self::Numbers(range) => {
                index.is_some_and(|index| u32::try_from(index).is_ok_and(|n| range.contains(&n)))
            }
            Self::Pattern { text, glob } => {
                let name = path.rsplit('/').next().unwrap_or(path);
                glob.is_match(path) || (!text.contains('/') && glob.is_match(name))
            }
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Index(index) => index.to_string(),
            Self::Numbers(range) => format!("{}-{}", range.start(), range.end()),
            Self::Pattern { text, .. } => text.clone(),
        }
    }
}

/// The files of a torrent that the picks name; `None` without picks, which is all of them.
///
/// # Errors
/// A pick that names no file.
pub(super) fn files(picks: &[Pick], meta: &Metainfo) -> Result<Option<BTreeSet<usize>>, Failure> {
    if picks.is_empty() {
        return Ok(None);
    }
    let mut chosen = BTreeSet::new();
    for pick in picks {
        let entries = meta.files().iter().enumerate();
        let before = chosen.len();
        let mut any = false;
        for (index, _) in entries
            .filter(|(index, file)| !file.pad && pick.takes(Some(*index), &file.path.join("/")))
        {
            any = true;
            chosen.insert(index);
        }
        if !any && chosen.len() == before {
            return Err(none(pick));
        }
    }
    Ok(Some(chosen))
}

fn none(pick: &Pick) -> Failure {
    let text = format!(
        "--file {}: no such file (inspect --files lists them)",
        pick.text()
    );
    Failure::text(EXIT_NOT_FOUND, text)
}

/// Where the chosen files lie in the content.
pub(super) fn ranges(meta: &Metainfo, chosen: &BTreeSet<usize>) -> Vec<ByteRange> {
    let files = chosen.iter().filter_map(|&index| meta.files().get(index));
    files.map(|file| file.range()).collect()
}

/// Whether a path of a site is wanted.
pub(super) fn takes_path(picks: &[Pick], path: &str) -> bool {
    let path = path.trim_start_matches('/');
    picks.is_empty() || picks.iter().any(|pick| pick.takes(None, path))
}

/// Checks picks against the paths of a site.
///
/// # Errors
/// A pick by number, for files of a site have none; one that names no file.
pub(super) fn check_paths<'a>(
    picks: &[Pick],
    paths: impl Iterator<Item = &'a str> + Clone,
) -> Result<(), Failure> {
    for pick in picks {
        if let Pick::Index(index) = pick {
            let text = format!("--file {index}: files of a site are named by path");
            return Err(Failure::text(EXIT_USAGE, text));
        }
        let one = std::slice::from_ref(pick);
        if !paths.clone().any(|path| takes_path(one, path)) {
            return Err(none(pick));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_and_numbers_name_files() {
        for (pick, index, path, takes) in [
            ("3", 3, "a", true),
            ("3", 4, "3", false),
            ("*.jpg", 0, "a.jpg", true),
            ("*.jpg", 0, "deep/er/a.jpg", true),
            ("*.jpg", 0, "a.jpg.txt", false),
            ("img/*", 0, "img/a", true),
            ("img/*", 0, "img/b/a", false),
            ("img/**", 0, "img/b/a", true),
            ("/img/?", 0, "img/a", true),
            ("{a,b}.txt", 0, "x/b.txt", true),
        ] {
            let parsed = Pick::parse(pick).unwrap();
            assert_eq!(parsed.takes(Some(index), path), takes, "{pick} {path}");
        }
        assert!(Pick::parse("[").is_err());
    }
}
