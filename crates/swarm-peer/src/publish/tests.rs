//! Publishing real folders: what comes out, what stays the same, what is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, Ordering};

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use swarm_proto::id::{Digest, InfoHashV2};
use swarm_proto::manifest::{Anchor, Encoding, Lookup, SitePath};

use super::*;

const NOW: u64 = 1_800_000_000;

struct Folder {
    temporary: tempfile::TempDir,
    config: PublishConfig,
}

impl Folder {
    fn new() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let at = |name: &str| temporary.path().join(name);
        fs::create_dir(at("root")).unwrap();
        let site = SiteName::parse("example.org").unwrap();
        let mut config = PublishConfig::new(site, at("root"), at("out"), at("keys"), NOW);
        config.split.target = 1024 * 1024;
        Self { temporary, config }
    }

    fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.config.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn publish(&self) -> Published {
        publish(&self.config, &()).unwrap()
    }

    fn out(&self, name: &str) -> PathBuf {
        self.config.out.join(name)
    }
}

fn page(seed: u64, len: usize) -> String {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut text = String::new();
    while text.len() < len {
        text.push_str(&format!("<p>Line {:x}.\n", rng.random_range(0..5000_u32)));
    }
    text
}

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    rand::Rng::fill_bytes(&mut SmallRng::seed_from_u64(seed), &mut bytes);
    bytes
}

fn hashes(published: &Published) -> BTreeSet<InfoHashV2> {
    published.manifest.bundles.iter().map(|b| b.v2).collect()
}

fn lookup<'p>(published: &'p Published, path: &str) -> &'p swarm_proto::manifest::FileEntry {
    match published.manifest.lookup(&SitePath::parse(path).unwrap()) {
        Lookup::File(_, file) => file,
        other => panic!("{path}: {other:?}"),
    }
}

/// Every byte a manifest speaks of is where it says, under the digest it says.
fn check_against_disk(published: &Published) {
    for (path, entry) in &published.manifest.files {
        if entry.length == 0 {
            continue;
        }
        let bundle = &published.bundles[entry.bundle as usize];
        let forms = entry
            .variants
            .iter()
            .map(|v| (v.file, v.length, v.digest))
            .chain([(entry.file, entry.length, entry.digest)]);
        for (file, length, digest) in forms {
            let files = bundle.metainfo.files();
            assert_eq!(files[file as usize].length, length, "{path}");
            let nth = files[..file as usize].iter().filter(|f| !f.pad).count();
            let bytes = fs::read(&bundle.files[nth]).unwrap();
            assert_eq!(Digest::of(&bytes), digest, "{path}");
        }
    }
}

#[test]
fn a_folder_becomes_bundles_and_a_manifest_that_a_stranger_believes() {
    let folder = Folder::new();
    folder.write("index.html", page(1, 20_000));
    folder.write("docs/index.html", page(2, 5_000));
    folder.write("docs/a b.html", page(2, 5_000));
    folder.write("img/photo.jpg", noise(3, 200_000));
    folder.write("img/big.mp4", noise(4, 900_000));
    folder.write("empty.css", "");
    let published = folder.publish();
    check_against_disk(&published);

    let root = published.keys.root[0];
    let site = &folder.config.site;
    let bytes = fs::read(folder.out("manifest")).unwrap();
    let (keys, manifest) = SiteRecord::parse(&bytes)
        .unwrap()
        .open(&root, site, NOW)
        .unwrap();
    assert_eq!((&keys, &manifest), (&published.keys, &published.manifest));
    assert_eq!(manifest.sequence, 1);
    assert!(!manifest.stamped);

    let home = lookup(&published, "/");
    assert_eq!(home.media_type, "text/html;charset=utf-8");
    let encodings: Vec<Encoding> = home.variants.iter().map(|v| v.encoding).collect();
    assert_eq!(encodings, [Encoding::Brotli, Encoding::Zstd]);
    assert!(lookup(&published, "/img/photo.jpg").variants.is_empty());
    assert_eq!(lookup(&published, "/empty.css").length, 0);
    let twin = lookup(&published, "/docs/a%20b.html");
    assert_eq!(
        twin,
        &FileEntryOf(lookup(&published, "/docs/")).with_modified(twin.modified)
    );
    assert_eq!(
        published
            .manifest
            .lookup(&SitePath::parse("/docs").unwrap()),
        Lookup::RedirectSlash
    );

    let loaded = load(&folder.config.out).unwrap();
    assert_eq!(loaded.manifest, published.manifest);
    for (one, other) in loaded.bundles.iter().zip(&published.bundles) {
        assert_eq!(one.files, other.files);
        assert_eq!(one.metainfo.to_bytes(), other.metainfo.to_bytes());
    }
}

/// Equal content in one bundle has one place.
struct FileEntryOf<'e>(&'e swarm_proto::manifest::FileEntry);

impl FileEntryOf<'_> {
    fn with_modified(&self, modified: u64) -> swarm_proto::manifest::FileEntry {
        swarm_proto::manifest::FileEntry {
            modified,
            ..self.0.clone()
        }
    }
}

#[test]
fn the_same_folder_and_keys_give_the_same_bundles() {
    let folder = Folder::new();
    for n in 0..40 {
        folder.write(&format!("d{}/{n}.html", n % 3), page(n, 3_000));
    }
    let first = folder.publish();
    let again = folder.publish();
    assert_eq!(hashes(&first), hashes(&again));
    assert!(again.bundles.iter().all(|bundle| bundle.unchanged));
    assert_eq!(again.manifest.sequence, 2);
    fs::remove_dir_all(&folder.config.out).unwrap();
    let anew = folder.publish();
    assert_eq!(hashes(&first), hashes(&anew));
    assert_eq!(anew.manifest.sequence, 3, "kept beside the keys");
    fs::remove_file(folder.config.keys.join("sequence")).unwrap();
    assert_eq!(folder.publish().manifest.sequence, 4, "kept in the output");
}

#[test]
fn a_changed_file_changes_at_most_two_bundles_and_leaves_the_other_torrents_alone() {
    let folder = Folder::new();
    for n in 0..120 {
        folder.write(&format!("d{}/{n}.bin", n % 7), noise(n, 40_000));
    }
    let mut before = folder.publish();
    assert!(before.bundles.len() >= 5, "{}", before.bundles.len());
    for edit in 0..12 {
        let path = format!("d{}/{}.bin", edit % 7, edit * 10);
        match edit % 3 {
            0 => folder.write(&path, noise(1000 + edit, 50_000)),
            1 => folder.write(&format!("new/{edit}.bin"), noise(2000 + edit, 30_000)),
            _ => {
                let _ = fs::remove_file(folder.config.root.join(&path));
            }
        }
        let torrents = |of: &BTreeSet<InfoHashV2>| -> Vec<Vec<u8>> {
            of.iter()
                .filter_map(|v2| fs::read(folder.out(&format!("{v2}.torrent"))).ok())
                .collect()
        };
        let old = hashes(&before);
        let kept_before = torrents(&old);
        let after = folder.publish();
        check_against_disk(&after);
        let new = hashes(&after);
        assert!(new.difference(&old).count() <= 2, "edit {edit}");
        let common: BTreeSet<InfoHashV2> = new.intersection(&old).copied().collect();
        assert!(torrents(&common).iter().all(|t| kept_before.contains(t)));
        let on_disk = fs::read_dir(&folder.config.out)
            .unwrap()
            .filter(|e| {
                e.as_ref()
                    .unwrap()
                    .path()
                    .extension()
                    .is_some_and(|x| x == "torrent")
            })
            .count();
        assert_eq!(on_disk, after.bundles.len(), "stale torrents are gone");
        before = after;
    }
}

#[test]
fn stale_variants_go_and_damaged_ones_are_made_again() {
    let folder = Folder::new();
    folder.write("a.html", page(1, 10_000));
    folder.write("b.html", page(2, 10_000));
    let first = folder.publish();
    let variants = folder.out("variants");
    assert_eq!(fs::read_dir(&variants).unwrap().count(), 4);
    for entry in fs::read_dir(&variants).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).unwrap();
    }
    let again = folder.publish();
    assert_eq!(hashes(&first), hashes(&again));
    check_against_disk(&again);
    fs::remove_file(folder.config.root.join("b.html")).unwrap();
    folder.publish();
    assert_eq!(fs::read_dir(&variants).unwrap().count(), 2);
}

#[test]
fn what_cannot_be_published_is_refused_by_name() {
    let folder = Folder::new();
    let refused = publish(&folder.config, &()).unwrap_err();
    assert!(matches!(refused, PublishError::EmptySite(_)), "{refused}");
    folder.write("empty.html", "");
    let refused = publish(&folder.config, &()).unwrap_err();
    assert!(matches!(refused, PublishError::EmptySite(_)), "{refused}");
    folder.write("a.html", "a");
    for (out, keys) in [("root/out", "keys"), ("out", "root/keys")] {
        let config = PublishConfig {
            out: folder.temporary.path().join(out),
            keys: folder.temporary.path().join(keys),
            ..folder.config.clone()
        };
        let refused = publish(&config, &()).unwrap_err();
        assert!(matches!(refused, PublishError::Inside(_)), "{refused}");
        assert_eq!(fs::read_dir(&folder.config.root).unwrap().count(), 2);
    }
    let missing = PublishConfig {
        root: "/no/such/folder".into(),
        ..folder.config.clone()
    };
    let refused = publish(&missing, &()).unwrap_err();
    assert_eq!(refused.to_string(), "cannot read /no/such/folder");
    assert!(matches!(
        load(Path::new("/no/such")),
        Err(PublishError::Read { .. })
    ));
}

#[test]
fn a_stamped_site_is_stale_without_its_stamp() {
    let mut folder = Folder::new();
    folder.config.stamped = true;
    folder.write("a.html", "a");
    let published = folder.publish();
    let site = &folder.config.site;
    let mut record = published.record.clone();
    assert!(
        record
            .open_from(Anchor::Introduced, site, NOW + 3600)
            .is_ok()
    );
    record.stamp = None;
    let refused = record.open_from(Anchor::Introduced, site, NOW).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "stale: no freshness stamp for this manifest"
    );
}

#[test]
fn a_failure_before_the_manifest_leaves_the_old_site_whole() {
    let folder = Folder::new();
    folder.write("a.bin", noise(1, 300_000));
    folder.write("b.bin", noise(2, 300_000));
    let first = folder.publish();
    folder.write("b.bin", noise(3, 300_000));
    // A folder in the manifest's place: everything before it is written, then publishing fails.
    let (manifest, aside) = (folder.out("manifest"), folder.out("aside"));
    fs::rename(&manifest, &aside).unwrap();
    fs::create_dir(&manifest).unwrap();
    let failed = publish(&folder.config, &()).unwrap_err();
    assert!(matches!(&failed, PublishError::Write { path, .. } if path.ends_with("manifest")));
    // Whichever manifest is there after a crash, this layout has its bundles.
    let layout = layout::Layout::read(&folder.config.out).unwrap().unwrap();
    assert!(
        hashes(&first)
            .iter()
            .all(|v2| layout.bundles.contains_key(v2))
    );
    assert!(layout.bundles.len() > first.bundles.len());
    fs::remove_dir(&manifest).unwrap();
    fs::rename(&aside, &manifest).unwrap();
    let loaded = load(&folder.config.out).unwrap();
    assert_eq!(loaded.manifest, first.manifest);
    assert_eq!(loaded.bundles.len(), first.bundles.len());
    // The number that was given away is not used again.
    assert_eq!(folder.publish().manifest.sequence, 3);
}

/// Counts bytes by phase, and does something when a phase begins or a first part is read.
#[derive(Default)]
struct Watch<'d> {
    read: Mutex<BTreeMap<u8, u64>>,
    phase: AtomicU8,
    at_begin: Option<(Phase, &'d (dyn Fn() + Sync))>,
    at_first_part: Option<&'d (dyn Fn() + Sync)>,
    parts: AtomicU8,
}

impl Progress for Watch<'_> {
    fn begin(&self, phase: Phase, _: u64) {
        self.phase.store(phase as u8, Ordering::Relaxed);
        if let Some((when, act)) = self.at_begin
            && when == phase
        {
            act();
        }
    }

    fn advance(&self, bytes: u64) {
        let phase = self.phase.load(Ordering::Relaxed);
        *self.read.lock().unwrap().entry(phase).or_default() += bytes;
        if self.parts.fetch_add(1, Ordering::Relaxed) == 0
            && let Some(act) = self.at_first_part
        {
            act();
        }
    }
}

impl Watch<'_> {
    fn read(&self, phase: Phase) -> u64 {
        let read = self.read.lock().unwrap();
        read.get(&(phase as u8)).copied().unwrap_or(0)
    }
}

#[test]
fn one_reading_gives_all_hashes_and_the_same_as_two() {
    let folder = Folder::new();
    for n in 0..60 {
        folder.write(&format!("d{}/{n}.bin", n % 7), noise(n, 40_000));
    }
    let total = 60 * 40_000;
    let first = Watch::default();
    let published = publish(&folder.config, &first).unwrap();
    assert_eq!(
        (first.read(Phase::Reading), first.read(Phase::Hashing)),
        (total, 0)
    );
    check_against_disk(&published);
    // Nothing changed: digests alone.
    let again = Watch::default();
    let same = publish(&folder.config, &again).unwrap();
    assert_eq!(
        (again.read(Phase::Reading), again.read(Phase::Hashing)),
        (total, 0)
    );
    assert!(same.bundles.iter().all(|bundle| bundle.unchanged));
    // Torrents that are gone though the manifest says that nothing changed: read twice, and made
    // of those readings as they were of one.
    let texts = |of: &Published| -> BTreeMap<InfoHashV2, Vec<u8>> {
        let bundles = of.bundles.iter();
        bundles
            .map(|b| (b.metainfo.info_hash_v2().unwrap(), b.metainfo.to_bytes()))
            .collect()
    };
    for v2 in hashes(&published) {
        fs::remove_file(folder.out(&format!("{v2}.torrent"))).unwrap();
    }
    let twice = Watch::default();
    let made = publish(&folder.config, &twice).unwrap();
    assert_eq!(
        (twice.read(Phase::Reading), twice.read(Phase::Hashing)),
        (total, total)
    );
    assert_eq!(texts(&made), texts(&published));
    check_against_disk(&load(&folder.config.out).unwrap());
}

#[test]
fn a_forecast_that_twins_prove_wrong_costs_a_reading_and_changes_nothing() {
    let mut folder = Folder::new();
    folder.config.split.target = 1 << 30;
    // Forty megabytes at first sight, and twenty at the second: another piece length.
    for n in 0..20 {
        folder.write(&format!("a/{n}.bin"), noise(n, 1 << 20));
        folder.write(&format!("b/{n}.bin"), noise(n, 1 << 20));
    }
    let watch = Watch::default();
    let published = publish(&folder.config, &watch).unwrap();
    assert_eq!(watch.read(Phase::Hashing), 20 << 20);
    assert_eq!(published.bundles.len(), 1);
    let meta = &published.bundles[0].metainfo;
    assert_eq!(meta.geometry().piece_length(), 16 * 1024);
    check_against_disk(&published);
}

#[test]
fn a_file_that_changes_while_it_is_published_is_reported_and_nothing_is_published() {
    let folder = Folder::new();
    folder.write("a.bin", noise(1, 900_000));
    let first = folder.publish();
    let manifest = fs::read(folder.out("manifest")).unwrap();
    // Of the same length, and said to be as old as before.
    let path = folder.config.root.join("a.bin");
    let seed = AtomicU8::new(2);
    let change = || {
        let old = fs::metadata(&path).unwrap().modified().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
        let seed = seed.fetch_add(1, Ordering::Relaxed);
        fs::write(&path, noise(seed.into(), 900_000)).unwrap();
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(old).unwrap();
    };
    let replace = || {
        let beside = folder.config.root.join("beside");
        fs::copy(&path, &beside).unwrap();
        fs::rename(&beside, &path).unwrap();
    };
    let at = |phase| Watch {
        at_begin: Some((phase, &change)),
        ..Watch::default()
    };
    let while_read = Watch {
        at_first_part: Some(&change),
        ..Watch::default()
    };
    let replaced = Watch {
        at_begin: Some((Phase::Hashing, &replace)),
        ..Watch::default()
    };
    for (case, watch) in [
        at(Phase::Compressing),
        at(Phase::Hashing),
        while_read,
        replaced,
    ]
    .into_iter()
    .enumerate()
    {
        let failed = publish(&folder.config, &watch).map(|_| "published");
        assert!(
            matches!(&failed, Err(PublishError::Changed(changed)) if changed.ends_with("a.bin")),
            "case {case}: {failed:?}"
        );
        assert_eq!(fs::read(folder.out("manifest")).unwrap(), manifest);
    }
    assert_eq!(load(&folder.config.out).unwrap().manifest, first.manifest);
    check_against_disk(&folder.publish());
}

#[test]
fn programs_are_marked_only_where_that_is_asked_for() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut folder = Folder::new();
    folder.write("run.sh", "echo");
    folder.write("text.txt", "text");
    let mode = |mode| {
        let path = folder.config.root.join("run.sh");
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let programs = |published: &Published| -> Vec<String> {
        let files = published
            .bundles
            .iter()
            .flat_map(|one| one.metainfo.files());
        let programs = files.filter(|file| file.executable);
        programs.map(|file| file.path.join("/")).collect()
    };
    mode(0o644);
    let plain = folder.publish();
    mode(0o755);
    // A mode changes no bundle ...
    let again = folder.publish();
    assert_eq!(hashes(&again), hashes(&plain));
    assert!(programs(&again).is_empty());
    // ... unless it is a part of it.
    folder.config.executables = true;
    let marked = folder.publish();
    assert_ne!(hashes(&marked), hashes(&plain));
    assert_eq!(programs(&marked), ["run.sh"]);
    assert_eq!(hashes(&folder.publish()), hashes(&marked));
    let loaded = load(&folder.config.out).unwrap();
    assert_eq!(programs(&loaded), ["run.sh"]);
    folder.config.executables = false;
    assert_eq!(hashes(&folder.publish()), hashes(&plain));
}

#[test]
fn listed_files_stand_where_they_are_said_to_even_below_each_other() {
    let folder = Folder::new();
    let said = [
        ("/posts", "text/html", page(1, 3000)),
        ("/posts/first", "text/html", page(2, 3000)),
        ("/posts/first/a.png", "image/png", "not text".to_owned()),
        ("/posts-old", "application/json", page(3, 3000)),
        ("/index.html", "text/html;charset=iso-8859-1", page(4, 3000)),
    ];
    let listed = said
        .iter()
        .enumerate()
        .map(|(at, (path, media_type, text))| {
            folder.write(&at.to_string(), text);
            ListedFile {
                path: SitePath::parse(path).unwrap(),
                disk: folder.config.root.join(at.to_string()),
                modified: NOW - 5,
                media_type: (*media_type).to_owned(),
                cache_secs: 7,
            }
        });
    let listed = Some(listed.collect());
    let config = PublishConfig {
        listed,
        ..folder.config.clone()
    };
    let published = publish(&config, &()).unwrap();
    assert_eq!(published.manifest.files.len(), said.len());
    for (path, media_type, text) in &said {
        let entry = lookup(&published, path);
        assert_eq!(entry.digest, Digest::of(text.as_bytes()), "{path}");
        assert_eq!(
            (entry.media_type.as_str(), entry.cache_secs),
            (*media_type, 7)
        );
        assert_eq!(entry.modified, NOW - 5);
    }
    check_against_disk(&published);
    // Again the same, and readable as any other.
    let again = publish(&config, &()).unwrap();
    assert_eq!(hashes(&again), hashes(&published));
    assert!(again.bundles.iter().all(|bundle| bundle.unchanged));
    check_against_disk(&load(&config.out).unwrap());
}
