//! Which bytes of the content lie in which file.

use swarm_proto::geometry::ByteRange;
use swarm_proto::metainfo::Metainfo;

/// A run of content bytes in one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    /// First byte of the content.
    start: u64,
    /// First byte past the run.
    end: u64,
    /// Index into the store's files; `None` is padding.
    file: Option<usize>,
    /// Where the run begins in that file.
    at: u64,
}

/// Part of a run: where bytes asked for are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    /// Index into the store's files; `None` is padding.
    pub(super) file: Option<usize>,
    /// First byte in that file.
    pub(super) at: u64,
    /// Bytes.
    pub(super) len: u64,
}

/// All runs of a torrent, in order and without gaps.
#[derive(Debug)]
pub(super) struct Layout {
    runs: Vec<Run>,
    /// Lengths of the store's files.
    lengths: Vec<u64>,
}

impl Layout {
    /// One store file for each file of the torrent that is no padding.
    pub(super) fn by_file(meta: &Metainfo) -> Self {
        let mut runs = Vec::new();
        let mut lengths = Vec::new();
        for entry in meta.files() {
            let file = (!entry.pad).then_some(lengths.len());
            if file.is_some() {
                lengths.push(entry.length);
            }
            if entry.length > 0 {
                runs.push(Run {
                    start: entry.offset,
                    end: entry.offset.saturating_add(entry.length),
                    file,
                    at: 0,
                });
            }
        }
        Self { runs, lengths }
    }

    /// One store file for the whole content; padding stays a hole in it.
    pub(super) fn one_file(meta: &Metainfo) -> Self {
        let mut layout = Self::by_file(meta);
        let mut end = 0;
        for run in &mut layout.runs {
            if run.file.is_some() {
                run.file = Some(0);
                run.at = run.start;
                end = run.end;
            }
        }
        layout.lengths = vec![end];
        layout
    }

    pub(super) fn lengths(&self) -> &[u64] {
        &self.lengths
    }

    /// Where the bytes of `range` lie, in order. What lies in no file (a v2-only torrent has gaps
    /// between its files) is padding.
    pub(super) fn parts(&self, range: &ByteRange) -> Vec<Part> {
        let mut parts = Vec::new();
        let mut at = range.start;
        let first = self.runs.partition_point(|run| run.end <= range.start);
        for run in self.runs.get(first..).unwrap_or_default() {
            if at >= range.end {
                break;
            }
            if run.start > at {
                let end = run.start.min(range.end);
                parts.push(Part {
                    file: None,
                    at: 0,
                    len: end - at,
                });
                at = end;
            }
            let end = run.end.min(range.end);
            if at < end {
                parts.push(Part {
                    file: run.file,
                    at: run.at + (at - run.start),
                    len: end - at,
                });
                at = end;
            }
        }
        if at < range.end {
            parts.push(Part {
                file: None,
                at: 0,
                len: range.end - at,
            });
        }
        parts
    }
}
