//! `swarm-peer verify`: hashes what lies on disk again.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use anyhow::Context as _;
use bytes::Bytes;
use serde_json::json;
use swarm_proto::geometry::{ByteRange, PieceIndex};
use swarm_proto::limits;
use swarm_proto::metainfo::Metainfo;
use swarm_proto::verify::{AssembledPiece, verify};

use swarm_peer::Storage;
use swarm_peer::config::PeerConfig;
use swarm_peer::publish::{load, read_limited};
use swarm_peer::store::hash_name;

use super::units::show_size;
use super::{EXIT_FAILURE, EXIT_INTEGRITY, EXIT_NOT_FOUND, EXIT_USAGE, Failure, Output};

/// Check that files on disk are what a torrent or a manifest says.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct VerifyArgs {
    /// A published folder, or a .torrent file
    #[arg(value_name = "FOLDER|TORRENT")]
    what: PathBuf,
    /// The directory that holds the torrent's top-level name
    #[arg(long, value_name = "DIR", env = "SWARM_PEER_DATA")]
    data: Option<PathBuf>,
    /// Where what was verified is remembered
    #[arg(long, value_name = "DIR", env = "SWARM_PEER_STATE")]
    pub(super) state: Option<PathBuf>,
    /// Forget what was verified where something is bad, so that the next fetch hashes it all and
    /// fetches what is wrong
    #[arg(long)]
    repair: bool,
    /// Print one object of JSON
    #[arg(long, env = "SWARM_PEER_JSON")]
    json: bool,
}

/// Bad pieces listed for each torrent.
const PIECES_SHOWN_MAX: usize = 10_000;

/// A torrent with the place of each of its files that is no padding.
struct Target {
    meta: Metainfo,
    files: Vec<PathBuf>,
}

/// Hashes everything, on all cores; ends with 4 and the names of the files when something differs
/// or is missing.
pub(super) fn run(config: &PeerConfig, args: &VerifyArgs) -> Result<(), Failure> {
    let targets = targets(args)?;
    let mut bad = BTreeSet::new();
    let mut bad_pieces = Vec::new();
    let mut forgotten = 0_usize;
    let mut bytes = 0_u64;
    let mut files = 0_usize;
    for target in &targets {
        bytes = bytes.saturating_add(target.content_len());
        files += target.files.len();
        let (wrong, pieces) = target.bad_files();
        if args.repair && !wrong.is_empty() {
            forgotten += usize::from(target.forget(config, args)?);
        }
        let bundle = hash_name(&target.meta);
        let pieces = pieces.iter().take(PIECES_SHOWN_MAX);
        bad_pieces.extend(pieces.map(|piece| json!({ "bundle": bundle, "piece": piece })));
        bad.extend(wrong);
    }
    let output = Output::new(args.json);
    let names: Vec<_> = bad.iter().map(|path| path.to_string_lossy()).collect();
    output.event(
        "verified",
        json!({"torrents": targets.len(), "files": files, "bytes": bytes, "bad": names, "bad_pieces": bad_pieces, "forgotten": forgotten}),
    );
    for path in &bad {
        output.say(&format!("bad          {path:?}"));
    }
    if bad.is_empty() {
        output.say(&format!(
            "verified     {files} files of {} torrents, {}: all as they should be",
            targets.len(),
            show_size(bytes)
        ));
        return Ok(());
    }
    output.say(&format!("bad pieces   {}", bad_pieces.len()));
    if args.repair {
        output.say(&format!(
            "forgotten    {forgotten} records of what was verified"
        ));
    }
    let mut names: Vec<String> = bad
        .iter()
        .take(3)
        .map(|path| path.display().to_string())
        .collect();
    if bad.len() > names.len() {
        names.push("…".into());
    }
    Err(Failure::text(
        EXIT_INTEGRITY,
        format!(
            "{} of {files} files are missing or not what was published: {}",
            bad.len(),
            names.join(", ")
        ),
    ))
}

fn targets(args: &VerifyArgs) -> Result<Vec<Target>, Failure> {
    if args.what.is_dir() {
        if args.data.is_some() {
            return Err(Failure::text(
                EXIT_USAGE,
                "--data goes with a .torrent file; a published folder knows where its files are",
            ));
        }
        let published = load(&args.what).map_err(|error| Failure::new(EXIT_FAILURE, error))?;
        let targets = published.bundles.into_iter().map(|bundle| Target {
            meta: bundle.metainfo,
            files: bundle.files,
        });
        return Ok(targets.collect());
    }
    let data = args
        .data
        .as_ref()
        .ok_or_else(|| Failure::text(EXIT_USAGE, "verifying a .torrent file needs --data DIR"))?;
    let bytes = read_limited(&args.what, limits::METAINFO_LEN_MAX)
        .map_err(|error| Failure::new(EXIT_NOT_FOUND, error))?;
    let meta = Metainfo::parse(&bytes)
        .with_context(|| format!("{} is no torrent", args.what.display()))?;
    let top = data.join(meta.name());
    let files = meta
        .files()
        .iter()
        .filter(|file| !file.pad)
        .map(|file| match meta.is_single_file() {
            true => top.clone(),
            false => file
                .path
                .iter()
                .fold(top.clone(), |path, name| path.join(name)),
        })
        .collect();
    Ok(vec![Target { meta, files }])
}

impl Target {
    fn content_len(&self) -> u64 {
        let content = self.meta.files().iter().filter(|file| !file.pad);
        content.map(|file| file.length).sum()
    }

    /// Where the torrent's file of that index lies; padding lies nowhere.
    fn places(&self) -> Vec<Option<&Path>> {
        let mut files = self.files.iter();
        let place = |file: &swarm_proto::metainfo::FileEntry| {
            (!file.pad)
                .then(|| files.next().map(PathBuf::as_path))
                .flatten()
        };
        self.meta.files().iter().map(place).collect()
    }

    /// Takes away the record of what was verified; whether there was one.
    fn forget(&self, config: &PeerConfig, args: &VerifyArgs) -> Result<bool, Failure> {
        let Some(dir) = args.data.clone() else {
            // Published files are never written to by a fetch.
            return Ok(false);
        };
        let state_dir = config.state_dir().map(|dir| dir.join("resume"));
        let path = Storage::Folder { dir }.state_path(&self.meta, state_dir.as_deref());
        let Some(path) = path else {
            return Ok(false);
        };
        match std::fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Failure::new(
                EXIT_FAILURE,
                anyhow::Error::from(error).context(format!("cannot forget {}", path.display())),
            )),
        }
    }

    /// Files that are missing or wrong, and the pieces that are.
    fn bad_files(&self) -> (BTreeSet<PathBuf>, BTreeSet<u32>) {
        let places = self.places();
        let mut bad: BTreeSet<PathBuf> = BTreeSet::new();
        // Lengths first: pieces neither see a longer file nor an empty one that is missing.
        for (entry, place) in self.meta.files().iter().zip(&places) {
            // Links are never made.
            if let Some(path) = place.filter(|_| !entry.symlink) {
                let found = std::fs::metadata(path).map(|found| found.len());
                if found.ok() != Some(entry.length) {
                    bad.insert((*path).to_owned());
                }
            }
        }
        let next = AtomicU32::new(0);
        let out_of_pieces = AtomicBool::new(false);
        let found = Mutex::new((BTreeSet::new(), BTreeSet::new()));
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    while !out_of_pieces.load(Ordering::Relaxed) {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        let Some(piece) = self.meta.geometry().piece(index) else {
                            out_of_pieces.store(true, Ordering::Relaxed);
                            break;
                        };
                        if let Err(paths) = self.check_piece(piece, &places) {
                            let mut found = found.lock().unwrap_or_else(|p| p.into_inner());
                            found.0.extend(paths);
                            found.1.insert(index);
                        }
                    }
                });
            }
        });
        let (wrong, pieces) = found.into_inner().unwrap_or_else(|p| p.into_inner());
        bad.extend(wrong);
        (bad, pieces)
    }

    /// The files of a piece that does not hold.
    fn check_piece(&self, piece: PieceIndex, places: &[Option<&Path>]) -> Result<(), Vec<PathBuf>> {
        let geometry = self.meta.geometry();
        let start = geometry.piece_offset(piece);
        let len = u64::from(geometry.piece_len(piece));
        let range = ByteRange {
            start,
            end: start.saturating_add(len),
        };
        let mut bytes = Vec::with_capacity(usize::try_from(len).unwrap_or(0));
        let mut paths = Vec::new();
        let mut unreadable = Vec::new();
        for span in self.meta.spans(&range) {
            let filled = bytes.len() + usize::try_from(span.length).unwrap_or(0);
            if let Some(path) = places.get(span.file).copied().flatten() {
                paths.push(path.to_owned());
                if append(path, span.offset, span.length, &mut bytes).is_err() {
                    unreadable.push(path.to_owned());
                }
            }
            bytes.resize(filled, 0);
        }
        if !unreadable.is_empty() {
            return Err(unreadable);
        }
        bytes.resize(usize::try_from(len).unwrap_or(0), 0);
        let piece = AssembledPiece {
            piece,
            bytes: Bytes::from(bytes),
        };
        verify(&self.meta, piece).map(drop).map_err(|_| paths)
    }
}

fn append(path: &Path, offset: u64, len: u64, bytes: &mut Vec<u8>) -> io::Result<()> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let read = file.take(len).read_to_end(bytes)?;
    if read as u64 == len {
        Ok(())
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}
