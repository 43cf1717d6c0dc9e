//! Programs among the files (BEP 47, attribute `x`), and links.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;

use swarm_proto::geometry::ByteRange;
use swarm_proto::metainfo::Metainfo;

/// What a torrent says of a file beside its bytes.
pub(super) struct Attributes {
    range: ByteRange,
    pub(super) executable: bool,
    /// Never made: a link that a stranger names could lead anywhere, now or once others are made.
    /// Nor is what it leads to copied, for a thousand links to one large file would fill the disk.
    pub(super) symlink: bool,
}

impl Attributes {
    /// Of all files but padding.
    pub(super) fn of(meta: &Metainfo) -> Vec<Self> {
        let files = meta.files().iter().filter(|file| !file.pad);
        let attributes = files.map(|file| Self {
            range: file.range(),
            executable: file.executable,
            symlink: file.symlink,
        });
        attributes.collect()
    }
}

/// What of a torrent was chosen.
pub(super) struct Chosen {
    ranges: BTreeSet<(u64, u64)>,
    /// The same without overlaps and seams: end by start.
    joined: BTreeMap<u64, u64>,
}

impl Chosen {
    pub(super) fn new(ranges: &[ByteRange]) -> Self {
        let ranges: BTreeSet<_> = ranges.iter().map(|r| (r.start, r.end)).collect();
        let mut joined: BTreeMap<u64, u64> = BTreeMap::new();
        for &(start, end) in &ranges {
            match joined.last_entry() {
                Some(mut last) if *last.get() >= start => {
                    let end = end.max(*last.get());
                    last.insert(end);
                }
                _ => {
                    joined.insert(start, end);
                }
            }
        }
        Self { ranges, joined }
    }

    /// Whether all of the file was; an empty one only by itself, for it lies at the edge of others.
    pub(super) fn has(&self, file: &Attributes) -> bool {
        let (start, end) = (file.range.start, file.range.end);
        if start == end {
            return self.ranges.contains(&(start, end));
        }
        let around = self.joined.range(..=start).next_back();
        around.is_some_and(|(_, last)| end <= *last)
    }
}

/// Lets whoever may read the file run it, as far as the umask of this process goes.
pub(super) fn make_runnable(file: &File) -> io::Result<()> {
    let mode = file.metadata()?.permissions().mode() & 0o7777;
    let wanted = runnable(mode, umask());
    match wanted == mode {
        true => Ok(()),
        false => file.set_permissions(Permissions::from_mode(wanted)),
    }
}

fn runnable(mode: u32, umask: u32) -> u32 {
    mode | ((mode & 0o444) >> 2) & !umask
}

/// The umask; where the system does not tell, one that leaves the owner alone. To ask for it by
/// changing it, as umask(2) has it, would change it for other threads meanwhile.
fn umask() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    line.and_then(|digits| u32::from_str_radix(digits.trim(), 8).ok())
        .unwrap_or(0o077)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chosen_files_are_those_that_lie_in_the_ranges() {
        let chosen = |ranges: &[(u64, u64)]| {
            let ranges: Vec<_> = ranges.iter().map(|&(a, b)| ByteRange::new(a, b)).collect();
            Chosen::new(&ranges)
        };
        let file = |start, end| Attributes {
            range: ByteRange::new(start, end),
            executable: false,
            symlink: false,
        };
        let some = chosen(&[(30, 30), (10, 20), (40, 50), (15, 18), (50, 60)]);
        for (start, end) in [(10, 20), (10, 11), (19, 20), (40, 60), (45, 55), (30, 30)] {
            assert!(some.has(&file(start, end)), "{start}..{end}");
        }
        for (start, end) in [
            (9, 20),
            (10, 21),
            (0, 5),
            (20, 40),
            (59, 61),
            (60, 70),
            (10, 10),
            (20, 20),
        ] {
            assert!(!some.has(&file(start, end)), "{start}..{end}");
        }
        assert!(!chosen(&[]).has(&file(0, 0)) && !chosen(&[]).has(&file(0, 1)));
    }

    #[test]
    fn who_may_read_a_program_may_run_it_if_the_umask_lets_them() {
        for (mode, umask, wanted) in [
            (0o644, 0o022, 0o755),
            (0o640, 0o027, 0o750),
            (0o600, 0o022, 0o700),
            (0o644, 0o077, 0o744),
            (0o644, 0o133, 0o644),
            (0o755, 0o022, 0o755),
            (0o4600, 0o022, 0o4700),
            (0o000, 0o000, 0o000),
        ] {
            assert_eq!(runnable(mode, umask), wanted, "{mode:o} {umask:o}");
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file()
            .set_permissions(Permissions::from_mode(0o600))
            .unwrap();
        make_runnable(file.as_file()).unwrap();
        let mode = file.as_file().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600 | 0o100 & !umask());
    }
}
