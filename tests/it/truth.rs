//! Content, a torrent of it, and seeds that are no program of ours.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use swarm_e2e::recorder::Recorder;
use swarm_e2e::site::noise;
use swarm_e2e::{Tree, beside};
use swarm_proto::metainfo::Metainfo;

use crate::text;

/// The torrent's name.
pub(crate) const TOP: &str = "content";

/// What is fetched, as whoever published it has it.
pub(crate) struct Truth {
    pub(crate) scratch: tempfile::TempDir,
    pub(crate) torrent: PathBuf,
    pub(crate) metainfo: Metainfo,
    pub(crate) space: Vec<u8>,
    pub(crate) tree: Tree,
}

impl Truth {
    /// Some files and a hybrid torrent of them.
    pub(crate) fn new() -> Self {
        let scratch = tempfile::tempdir().expect("scratch");
        let root = scratch.path().join(TOP);
        fs::create_dir(&root).expect("scratch");
        for (name, len) in [
            ("a.bin", 5_000_003),
            ("b.bin", 3_000_001),
            ("c.bin", 70_000),
        ] {
            fs::write(root.join(name), noise(len as u64, len)).expect("scratch");
        }
        let torrent = scratch.path().join("it.torrent");
        let script = beside("interop/make.py");
        let made = Command::new("/usr/bin/python3")
            .args([text(&script), "hybrid", text(&root), text(&torrent)])
            .status();
        assert!(made.is_ok_and(|status| status.success()), "make.py fails");
        let metainfo = Metainfo::parse(&fs::read(&torrent).expect("just made"));
        let metainfo = metainfo.expect("libtorrent makes good ones");
        let space = space(&metainfo, &root);
        Self {
            tree: Tree::of(&root),
            scratch,
            torrent,
            metainfo,
            space,
        }
    }

    /// A seed that answers at this rate and writes down what it is asked.
    pub(crate) fn seed(&self, bytes_per_second: f64) -> Recorder {
        let hash = self.metainfo.info_hash_v1().expect("a hybrid");
        let piece_length = self.metainfo.geometry().piece_length();
        let space = self.space.clone();
        Recorder::start(*hash.as_bytes(), piece_length, space, bytes_per_second)
    }
}

/// The bytes of all pieces in order, of what is there below `top`.
pub(crate) fn space(metainfo: &Metainfo, top: &Path) -> Vec<u8> {
    let size = |bytes: u64| usize::try_from(bytes).expect("small");
    let mut space = vec![0; size(metainfo.geometry().total_length())];
    for entry in metainfo.files().iter().filter(|entry| !entry.pad) {
        let Ok(bytes) = fs::read(top.join(entry.path.join("/"))) else {
            continue;
        };
        let start = size(entry.offset);
        space[start..start + bytes.len()].copy_from_slice(&bytes);
    }
    space
}
