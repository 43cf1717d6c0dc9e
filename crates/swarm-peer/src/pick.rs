//! [`Pick`]: which files of a torrent are wanted, as people name them.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;

use globset::{GlobBuilder, GlobMatcher};
use swarm_proto::geometry::ByteRange;
use swarm_proto::metainfo::Metainfo;

/// Files by number, name or pattern; what `--file` takes, and `files` of the control socket.
///
/// ```
/// use swarm_peer::pick::Pick;
///
/// let pick: Pick = "*.jpg".parse()?;
/// assert!(pick.takes_path("holiday/beach.jpg"));
/// assert!("[".parse::<Pick>().is_err());
/// # Ok::<(), swarm_peer::pick::PickError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Pick(Kind);

#[derive(Debug, Clone)]
enum Kind {
    /// Index among all files of the torrent, padding counted, from 0 (as `so=` in magnet links).
    Index(usize),
    /// What `so=` of a magnet link says (BEP 53): such indexes.
    Numbers(RangeInclusive<u32>),
    /// `*` and `?` within a name, `**` across directories, `[ab]`, `{a,b}`. Without a slash it
    /// is the name that must match, wherever the file lies.
    Pattern { text: String, glob: GlobMatcher },
}

/// Why a pick chooses nothing. The fault of who picked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PickError {
    /// No pattern.
    #[error("bad pattern {text}: {why}")]
    Pattern {
        /// As it was given.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// It names no file of this torrent.
    #[error("{0}: no such file (inspect --files lists them)")]
    NoFile(String),
}

impl std::str::FromStr for Pick {
    type Err = PickError;

    /// Reads a number or a pattern.
    fn from_str(text: &str) -> Result<Self, PickError> {
        if let Ok(index) = text.parse() {
            return Ok(Self(Kind::Index(index)));
        }
        let glob = GlobBuilder::new(text.trim_start_matches('/'))
            .literal_separator(true)
            .build()
            .map_err(|error| PickError::Pattern {
                text: text.to_owned(),
                why: error.kind().to_string(),
            })?;
        Ok(Self(Kind::Pattern {
            text: text.to_owned(),
            glob: glob.compile_matcher(),
        }))
    }
}

impl fmt::Display for Pick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Index(index) => write!(f, "{index}"),
            Kind::Numbers(range) => write!(f, "{}-{}", range.start(), range.end()),
            Kind::Pattern { text, .. } => f.write_str(text),
        }
    }
}

impl From<RangeInclusive<u32>> for Pick {
    /// Files by their numbers, as a magnet link chooses them (BEP 53).
    fn from(numbers: RangeInclusive<u32>) -> Self {
        Self(Kind::Numbers(numbers))
    }
}

impl Pick {
    /// Whether it names files by number.
    pub fn is_number(&self) -> bool {
        !matches!(self.0, Kind::Pattern { .. })
    }

    /// Whether it names this path, which has no number.
    pub fn takes_path(&self, path: &str) -> bool {
        self.takes(None, path)
    }

    fn takes(&self, index: Option<usize>, path: &str) -> bool {
        match &self.0 {
            Kind::Index(wanted) => index == Some(*wanted),
            Kind::Numbers(range) => {
                index.is_some_and(|index| u32::try_from(index).is_ok_and(|n| range.contains(&n)))
            }
            Kind::Pattern { text, glob } => {
                let name = path.rsplit('/').next().unwrap_or(path);
                glob.is_match(path) || (!text.contains('/') && glob.is_match(name))
            }
        }
    }
}

/// Where the files that the picks name lie in the content, for `Want::Ranges`; `None` without
/// picks, which is all of them.
///
/// # Errors
/// [`PickError::NoFile`]: a pick names no file, or only padding.
pub fn ranges(picks: &[Pick], meta: &Metainfo) -> Result<Option<Vec<ByteRange>>, PickError> {
    if picks.is_empty() {
        return Ok(None);
    }
    let mut chosen = BTreeSet::new();
    for pick in picks {
        let files = meta.files().iter().enumerate();
        let named = files
            .filter(|(index, file)| !file.pad && pick.takes(Some(*index), &file.path.join("/")));
        let mut named = named.map(|(index, _)| index).peekable();
        if named.peek().is_none() {
            return Err(PickError::NoFile(pick.to_string()));
        }
        chosen.extend(named);
    }
    let files = chosen.iter().filter_map(|&index| meta.files().get(index));
    Ok(Some(files.map(|file| file.range()).collect()))
}

#[cfg(test)]
mod tests {
    use swarm_proto::metainfo::{FileHasher, MetainfoBuilder};

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
            let parsed: Pick = pick.parse().unwrap();
            assert_eq!(parsed.takes(Some(index), path), takes, "{pick} {path}");
        }
        assert!("[".parse::<Pick>().is_err());
    }

    #[test]
    fn picks_are_ranges_of_files_and_padding_is_none() {
        let mut builder = MetainfoBuilder::new("pictures", 16_384);
        for (name, len) in [("a.jpg", 100), ("b.txt", 0), ("c.jpg", 5)] {
            let mut hasher = FileHasher::new(16_384);
            hasher.update(&vec![1; len]);
            builder.file(vec![name.into()], hasher.finish());
        }
        let meta = builder.build().unwrap();
        let of = |picks: &[&str]| {
            let picks: Vec<Pick> = picks.iter().map(|pick| pick.parse().unwrap()).collect();
            ranges(&picks, &meta)
        };
        let file = |path: &str| {
            let found = meta.files().iter().find(|file| file.path == [path]);
            found.unwrap().range()
        };
        assert_eq!(of(&[]), Ok(None));
        let both = vec![file("a.jpg"), file("c.jpg")];
        assert_eq!(of(&["*.jpg"]), Ok(Some(both.clone())));
        // Twice named is named once, in the order of the torrent.
        assert_eq!(of(&["c.jpg", "*.jpg"]), Ok(Some(both)));
        assert_eq!(of(&["b.txt"]), Ok(Some(vec![file("b.txt")])));
        let pad = meta.files().iter().position(|file| file.pad).unwrap();
        for nothing in ["*.png", "99", &pad.to_string(), ".pad/*"] {
            let refused = of(&["a.jpg", nothing]);
            assert_eq!(refused, Err(PickError::NoFile(nothing.to_owned())));
        }
        let so = |range| ranges(&[Pick::from(range)], &meta);
        assert_eq!(so(0..=0), Ok(Some(vec![file("a.jpg")])));
        assert_eq!(so(7..=9), Err(PickError::NoFile("7-9".into())));
    }
}
