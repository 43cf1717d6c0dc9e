//! The power fails at any moment (F2). The real program runs under strace; from what it wrote and
//! synced many disks are made as a power loss could have left them, and the program's own start is
//! run on each.
//!
//! `POWER_LOSS_SEEDS` says how many disks (default 500 of each kind), `POWER_LOSS_SEED` makes a
//! single one, and `POWER_LOSS_KEPT` does so from the logs of a run that failed, which says where
//! it left them.

mod chance;
mod disk;
mod trace;

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::time::{Duration, Instant, UNIX_EPOCH};

use swarm_peer::store::{ResumeState, Storage, check, hash_name};
use swarm_peer::trust::{RecordError, TrustStore, Voucher, now};
use swarm_peer::uplink::Uplink;
use swarm_peer::{AddBundle, Node, NodeConfig, Source};
use swarm_proto::manifest::{
    KeySet, SecretKey, SignedKeySet, SignedManifest, SiteManifest, SiteName, SiteRecord, TrustError,
};
use swarm_proto::metainfo::{FileHasher, Metainfo, MetainfoBuilder};
use tokio_util::sync::CancellationToken;

use chance::Chance;
use disk::{Disk, Renamed, Tree};
use trace::{Call, Event};

const PIECE: u32 = 16 * 1024;
const SOON: Duration = Duration::from_secs(60);

/// What the seed sends, in bits a second: two saves before the kill, and two after it.
const RATE: u64 = 900_000;

/// Where it all happens; kept when a test fails.
struct Place {
    scratch: Option<tempfile::TempDir>,
    dir: PathBuf,
}

impl Place {
    /// `name` tells the kinds apart.
    fn new(name: &str) -> Self {
        if let Some(kept) = std::env::var_os("POWER_LOSS_KEPT") {
            let dir = PathBuf::from(kept);
            return Self { scratch: None, dir };
        }
        let scratch = tempfile::Builder::new().prefix(name).tempdir().unwrap();
        let dir = scratch.path().to_owned();
        fs::create_dir(dir.join("disk")).unwrap();
        let scratch = Some(scratch);
        Self { scratch, dir }
    }

    fn is_kept(&self) -> bool {
        self.scratch.is_none()
    }

    /// What loses its power.
    fn disk(&self) -> PathBuf {
        self.dir.join("disk")
    }

    fn log(&self, nth: usize) -> PathBuf {
        self.dir.join(format!("{nth}.log"))
    }

    fn logs(&self) -> Vec<PathBuf> {
        let all = (0..).map(|nth| self.log(nth));
        all.take_while(|log| log.exists()).collect()
    }

    /// The arguments of a fetch onto the disk.
    fn fetch(&self, what: &Path, peer: Option<SocketAddr>) -> Vec<String> {
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let mut args: Vec<String> = vec!["fetch".into(), "--json".into(), text(what)];
        args.extend(["--listen".into(), "127.0.0.1:0".into()]);
        args.extend(["--out".into(), text(&self.disk().join("out"))]);
        args.extend(["--state".into(), text(&self.disk().join("state"))]);
        args.extend(["--timeout".into(), "30s".into()]);
        if let Some(peer) = peer {
            args.extend(["--peer".into(), peer.to_string()]);
        }
        args
    }

    /// Puts on the disk what a power loss left.
    fn lay(&self, tree: &Tree) {
        fs::remove_dir_all(self.disk()).unwrap();
        for (path, bytes) in tree {
            let path = self.disk().join(path);
            match bytes {
                None => fs::create_dir(path).unwrap(),
                Some(bytes) => fs::write(path, bytes).unwrap(),
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(scratch) = self.scratch.take()
        {
            eprintln!("POWER_LOSS_KEPT={}", scratch.keep().display());
        }
    }
}

/// Says which disk it was that a test failed at.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("POWER_LOSS_SEED={}", self.0);
        }
    }
}

fn seeds() -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().unwrap());
    match number("POWER_LOSS_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("POWER_LOSS_SEEDS").unwrap_or(500),
    }
}

/// A line of the log at which something was begun, or done.
fn moment(events: &[Event], chance: &mut Chance) -> usize {
    let event = &events[chance.below(events.len())];
    [event.began, event.ended][chance.below(2)]
}

fn peer() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_swarm-peer"))
}

fn wait(mut program: Child) -> bool {
    let end = Instant::now() + SOON;
    loop {
        if let Some(status) = program.try_wait().unwrap() {
            return status.success();
        }
        assert!(Instant::now() < end, "it does not end");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Bytes that differ from place to place, the same each time.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut chance = Chance::new(seed);
    (0..len).map(|_| chance.below(256) as u8).collect()
}

/// What is fetched.
struct Site {
    meta: Arc<Metainfo>,
    files: Vec<(&'static str, Vec<u8>)>,
}

impl Site {
    fn new() -> Self {
        let files = vec![
            ("a/deep/long", noise(500_001, 1)),
            ("a/middle", noise(120_000, 2)),
            ("empty", Vec::new()),
            ("short", noise(10, 3)),
        ];
        let mut builder = MetainfoBuilder::new("site", PIECE);
        for (path, bytes) in &files {
            let mut hasher = FileHasher::new(PIECE);
            hasher.update(bytes);
            let path = path.split('/').map(str::to_owned).collect();
            builder.file(path, hasher.finish());
        }
        let meta = Arc::new(builder.build().unwrap());
        Self { meta, files }
    }

    fn write(&self, dir: &Path) {
        for (path, bytes) in &self.files {
            let path = dir.join("site").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
    }

    /// The content as its pieces have it, of the files below `dir`.
    fn content(&self, dir: &Path) -> Vec<u8> {
        let length = usize::try_from(self.meta.geometry().total_length()).unwrap();
        let mut content = vec![0; length];
        for entry in self.meta.files().iter().filter(|entry| !entry.pad) {
            let start = usize::try_from(entry.offset).unwrap();
            let path = dir.join("site").join(entry.path.join("/"));
            let bytes = fs::read(path).unwrap_or_default();
            let len = bytes.len().min(usize::try_from(entry.length).unwrap());
            content[start..start + len].copy_from_slice(&bytes[..len]);
        }
        content
    }

    async fn seed(&self, dir: &Path, shutdown: &CancellationToken, rate: Option<u64>) -> Node {
        let config = NodeConfig {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            uplink: Uplink::limited(rate),
            ..NodeConfig::default()
        };
        let node = Node::start(config, shutdown.clone()).await.unwrap();
        let dir = dir.to_owned();
        let source = Source::Metainfo(Arc::clone(&self.meta));
        let mut bundle = AddBundle::new(source, Storage::Folder { dir });
        bundle.seed_only = true;
        let seeding = node.add(bundle).await.unwrap();
        seeding.wait_complete().await.unwrap();
        node
    }
}

/// A state that was saved.
struct Saved {
    state: ResumeState,
    written: usize,
    safe: Option<usize>,
}

/// A fetch that was recorded, and what its start is to be judged by.
struct Fetched<'a> {
    place: &'a Place,
    site: &'a Site,
    storage: Storage,
    state_path: PathBuf,
    truth: Vec<u8>,
    saved: Vec<Saved>,
}

/// What became of one disk.
#[derive(Default)]
struct Found {
    /// Pieces that the state vouched for.
    believed: u32,
    /// Pieces whose bytes were there and wrong, and found out.
    wrong: usize,
    /// Pieces that had to be there.
    owed: u32,
}

impl<'a> Fetched<'a> {
    fn new(place: &'a Place, site: &'a Site, renamed: Vec<Renamed>) -> Self {
        let dir = place.disk().join("out");
        let storage = Storage::Folder { dir };
        let state_dir = place.disk().join("state/resume");
        let state_path = storage.state_path(&site.meta, Some(&state_dir)).unwrap();
        let probe = place.dir.join("probe");
        let states = renamed.into_iter().filter(|file| file.path == state_path);
        let saved = states
            .map(|file| {
                fs::write(&probe, file.bytes).unwrap();
                Saved {
                    state: load(&site.meta, &probe).expect("it was written as a whole"),
                    written: file.written,
                    safe: file.safe,
                }
            })
            .collect();
        Self {
            truth: site.content(&place.dir.join("data")),
            place,
            site,
            storage,
            state_path,
            saved,
        }
    }

    /// Times of change that the files may have: the disk writes them down when it likes.
    fn set_times(&self, after: usize, chance: &mut Chance) {
        let store = self.storage.open(&self.site.meta).unwrap();
        let states: Vec<&Saved> = self.saved.iter().filter(|s| s.written <= after).collect();
        let newest = states.len().saturating_sub(1);
        let other = chance.below(newest + 1);
        let path_of =
            swarm_peer::store::folder_paths(&self.site.meta, &self.place.disk().join("out"));
        for (file, path) in path_of.iter().enumerate() {
            if store.stamps()[file].is_none() {
                continue;
            }
            let state = match chance.below(10) {
                0 => None,
                1..4 => states.get(other),
                _ => states.get(newest),
            };
            let Some(stamp) = state.and_then(|saved| saved.state.stamps[file]) else {
                continue;
            };
            let since = Duration::from_nanos(u64::try_from(stamp.changed).unwrap());
            let opened = fs::File::options().write(true).open(path).unwrap();
            opened.set_modified(UNIX_EPOCH + since).unwrap();
        }
    }

    /// What a start finds on the disk as it is.
    fn judge(&self, after: usize) -> Found {
        let loaded = load(&self.site.meta, &self.state_path);
        let safe = self
            .saved
            .iter()
            .rposition(|s| s.safe.is_some_and(|at| at <= after));
        let owed = safe.map(|nth| &self.saved[nth].state);
        match &loaded {
            None => assert!(owed.is_none(), "the state that was saved is gone"),
            Some(loaded) => {
                let newer = &self.saved[safe.unwrap_or(0)..];
                let known = newer.iter().any(|saved| saved.state == *loaded);
                assert!(known, "the state is older than the one that was saved");
            }
        }
        let store = self.storage.open(&self.site.meta).unwrap();
        let (done, stop) = (AtomicU32::new(0), AtomicBool::new(false));
        let checked = check(&self.site.meta, &*store, loaded.as_ref(), &done, &stop);
        let there = self.site.content(&self.place.disk().join("out"));
        let geometry = self.site.meta.geometry();
        for piece in geometry.pieces().filter(|p| checked.have.contains(*p)) {
            let range = geometry.piece_range(piece);
            let range = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
            let right = there[range.clone()] == self.truth[range];
            assert!(
                right,
                "piece {} is taken for verified and is wrong",
                piece.get()
            );
        }
        let is_owed = |piece| owed.is_some_and(|state| state.pieces.contains(piece));
        for piece in geometry.pieces().filter(|piece| is_owed(*piece)) {
            let kept = checked.have.contains(piece);
            assert!(
                kept,
                "piece {} was synced and recorded, and is lost",
                piece.get()
            );
        }
        let right = checked.have.count() + u32::try_from(checked.wrong.len()).unwrap();
        Found {
            believed: right.saturating_sub(checked.hashed),
            wrong: checked.wrong.len(),
            owed: owed.map_or(0, |state| state.pieces.count()),
        }
    }
}

fn load(meta: &Metainfo, path: &Path) -> Option<ResumeState> {
    ResumeState::load(path, &hash_name(meta), meta.geometry().piece_count())
}

/// A fetch that is killed with pieces written and not synced, and goes on after that.
fn fetch_with_a_kill(place: &Place, torrent: &Path, seed: SocketAddr) {
    let args = place.fetch(torrent, Some(seed));
    let mut first = trace::start(&place.log(0), peer(), &args);
    let end = Instant::now() + SOON;
    let saved = || {
        let states = fs::read_dir(place.disk().join("state/resume")).into_iter();
        let mut names = states.flatten().flatten().map(|entry| entry.file_name());
        names.any(|name| !name.to_string_lossy().starts_with('.'))
    };
    while !saved() {
        assert!(Instant::now() < end, "no state was saved");
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(900));
    let log = fs::read_to_string(place.log(0)).unwrap();
    let pid = log.split(' ').next().unwrap();
    let killed = Command::new("kill").args(["-KILL", pid]).status().unwrap();
    assert!(killed.success() && !first.wait().unwrap().success());
    let second = trace::start(&place.log(1), peer(), &args);
    assert!(wait(second), "the fetch fails");
}

#[tokio::test(flavor = "multi_thread")]
async fn f2_a_fetch_whose_power_fails_keeps_what_it_recorded_and_believes_nothing_else() {
    let place = Place::new("fetch");
    let site = Site::new();
    let (data, torrent) = (place.dir.join("data"), place.dir.join("torrent"));
    site.write(&data);
    fs::write(&torrent, site.meta.to_bytes()).unwrap();
    let shutdown = CancellationToken::new();
    if !place.is_kept() {
        let slow = site.seed(&data, &shutdown, Some(RATE)).await;
        fetch_with_a_kill(&place, &torrent, slow.listen_addr());
    }
    let events = trace::read(&place.logs(), &place.disk());
    let (disk, renamed) = Disk::new(&events, &place.disk());
    let fetched = Fetched::new(&place, &site, renamed);
    let safe = fetched.saved.iter().filter(|s| s.safe.is_some()).count();
    assert!(safe >= 2, "{safe} states were saved");
    let mut all = Found::default();
    let mut restarts = 0;
    let quick = site.seed(&data, &shutdown, None).await;
    for seed in seeds() {
        let named = Named(seed);
        let mut chance = Chance::new(seed);
        let after = moment(&events, &mut chance);
        place.lay(&disk.lose_power(after, &mut chance));
        fetched.set_times(after, &mut chance);
        let found = fetched.judge(after);
        all.believed += found.believed;
        all.wrong += found.wrong;
        all.owed += found.owed;
        if seed % 100 == 0 {
            // All the way, by the program itself.
            let args = place.fetch(&torrent, Some(quick.listen_addr()));
            let again = Command::new(peer()).args(args).output().unwrap();
            assert!(again.status.success(), "{again:?}");
            let there = site.content(&place.disk().join("out"));
            assert!(there == fetched.truth, "the files are wrong in the end");
            restarts += 1;
        }
        drop(named);
    }
    println!(
        "{} calls, {safe} states saved; {:?}: {} pieces believed, {} torn ones found out, {} kept that had to be; {restarts} fetched to the end",
        events.len(),
        seeds(),
        all.believed,
        all.wrong,
        all.owed
    );
    let shown = all.believed > 0 && all.wrong > 0 && all.owed > 0;
    assert!(shown || seeds().count() == 1, "it shows nothing");
    shutdown.cancel();
}

/// A record of an empty site with this number.
fn record(sequence: u64, now: u64) -> SiteRecord {
    let site = SiteName::parse("site.test").unwrap();
    let key = |n| SecretKey::new([n; 32]);
    let set = KeySet {
        site: site.clone(),
        sequence: 1,
        expires: now + 100_000,
        root: vec![key(1).public()],
        threshold: 1,
        publish: vec![key(2).public()],
        alarm: vec![key(3).public()],
    };
    let manifest = SiteManifest {
        site,
        sequence,
        created: now - 10,
        expires: now + 10_000,
        stamped: false,
        bundles: Vec::new(),
        files: Default::default(),
    };
    SiteRecord {
        keys: SignedKeySet::first(&set, &[&key(1)]).unwrap(),
        manifest: SignedManifest::sign(&manifest, &key(2)).unwrap(),
        stamp: None,
    }
}

#[test]
fn f2_the_highest_manifest_version_that_was_believed_is_known_after_a_power_loss() {
    const VERSIONS: u64 = 6;
    let place = Place::new("trust");
    let site = SiteName::parse("site.test").unwrap();
    let pin = format!("site.test={}", SecretKey::new([1; 32]).public());
    let date = place.dir.join("date");
    if !place.is_kept() {
        fs::write(&date, now().to_string()).unwrap();
    }
    let now = fs::read_to_string(date).unwrap().parse().unwrap();
    if !place.is_kept() {
        for version in 1..=VERSIONS {
            let path = place.dir.join("record");
            fs::write(&path, record(version, now).to_bytes()).unwrap();
            let mut args = place.fetch(&path, None);
            args.extend(["--site-key".into(), pin.clone()]);
            let nth = usize::try_from(version).unwrap() - 1;
            assert!(wait(trace::start(&place.log(nth), peer(), &args)));
        }
    }
    let events = trace::read(&place.logs(), &place.disk());
    let (disk, _) = Disk::new(&events, &place.disk());
    let told: Vec<usize> = events
        .iter()
        .filter(|event| matches!(&event.call, Call::Said(text) if text.contains("\"event\":\"complete\"")))
        .map(|event| event.ended)
        .collect();
    assert_eq!(told.len() as u64, VERSIONS, "what was believed is told");
    let mut known = BTreeSet::new();
    for seed in seeds() {
        let named = Named(seed);
        let mut chance = Chance::new(seed);
        let after = moment(&events, &mut chance);
        place.lay(&disk.lose_power(after, &mut chance));
        let believed = told.iter().filter(|&&told| told <= after).count() as u64;
        known.insert(believed);
        let judge = |version| {
            let store = TrustStore::new(Some(place.disk().join("state/trust")));
            let pin = Voucher::Pinned(SecretKey::new([1; 32]).public());
            store.judge(&record(version, now), &site, pin, now)
        };
        if believed > 1 {
            let older = judge(believed - 1);
            let refused = matches!(
                older,
                Err(RecordError::Refused(TrustError::Rollback { .. }))
            );
            assert!(
                refused,
                "{believed} was believed, then the older: {older:?}"
            );
        }
        let newer = judge(VERSIONS + 1);
        assert!(newer.is_ok(), "{newer:?}");
        drop(named);
    }
    println!("{:?}: versions {known:?} were to be known", seeds());
    assert!(known.len() > 4 || seeds().count() == 1, "it shows nothing");
}
