//! [`publish`]: the steps from folder to signed manifest, in order.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use swarm_proto::id::Digest;
use swarm_proto::limits;
use swarm_proto::manifest::{
    BundleEntry, FileEntry, SignedManifest, SignedStamp, SiteManifest, SiteRecord, Stamp, Variant,
};
use swarm_proto::metainfo::Metainfo;
use swarm_proto::split::{SplitItem, split};

use super::bundle::{Content, Member, Plan, read_once};
use super::error::PublishError;
use super::files::{in_parallel, read_limited, write_atomically};
use super::forecast::forecast;
use super::keys::KeyStore;
use super::layout::{Laid, Layout, Place};
use super::media::media_type_of;
use super::variants::{add_variants, remove_stale};
use super::walk::{SourceFile, take, walk};
use super::{Phase, Progress, PublishConfig, Published, PublishedBundle};

/// Publishes a folder: see the [module](super) for what comes out.
///
/// The same folder and keys give the same info hashes; the manifest gets a higher sequence each
/// time. Takes a thread for each core and returns when all is on disk.
///
/// # Errors
/// [`PublishError`]; what was published before is still there, whole.
pub fn publish(config: &PublishConfig, progress: &dyn Progress) -> Result<Published, PublishError> {
    let root = fs::canonicalize(&config.root).map_err(PublishError::read(&config.root))?;
    outside(&config.out, &root)?;
    outside(&config.keys, &root)?;
    let variants_folder = config.out.join("variants");
    fs::create_dir_all(&variants_folder).map_err(PublishError::write(&variants_folder))?;
    let out = fs::canonicalize(&config.out).map_err(PublishError::read(&config.out))?;
    let variants_folder = out.join("variants");
    let _lock = lock(&out)?;

    let mut found = match &config.listed {
        None => walk(&config.root)?,
        Some(listed) => take(&root, listed)?,
    };
    for file in &mut found.files {
        file.executable &= config.executables;
    }
    let store = KeyStore::open(&config.keys, &config.site, config.now)?;

    // A damaged layout only costs time: all of it can be made again.
    let before = Layout::read(&out).unwrap_or_else(|error| {
        tracing::warn!(%error, "publishing everything anew");
        None
    });
    let mut before = before.unwrap_or_default();

    let signed_before = read_record(&out, config);
    let mut contents = read_all(found.files, config, signed_before.as_ref(), progress)?;
    if config.variants {
        add_variants(
            &mut contents,
            &variants_folder,
            &mut before.tried,
            config.threads,
            progress,
        )?;
    }

    let items: Vec<SplitItem<'_>> = contents
        .iter()
        .map(|content| SplitItem {
            path: content.file.path.as_str(),
            weight: content.weight(),
        })
        .collect();
    let mut plans: Vec<Plan> = Vec::new();
    let mut homes: Vec<Option<usize>> = vec![None; contents.len()];
    for group in split(&items, &config.split) {
        let plan = Plan::new(group.iter().filter_map(|at| contents.get(*at)));
        // A torrent has content. Empty files alone need none: see `manifest`.
        if plan.length == 0 {
            continue;
        }
        for at in group {
            if let Some(home) = homes.get_mut(at) {
                *home = Some(plans.len());
            }
        }
        plans.push(plan);
    }
    if plans.is_empty() {
        return Err(PublishError::EmptySite(config.root.clone()));
    }
    let bundles = build_all(&plans, config, &before, &out, progress)?;
    if let Some(changed) = contents
        .iter()
        .find(|content| !content.seen.is_still(&content.file.disk))
    {
        return Err(PublishError::Changed(changed.file.disk.clone()));
    }

    let sequence = next_sequence(&store, signed_before.as_ref())?;
    let manifest = manifest(
        config,
        sequence,
        contents.iter().zip(&homes),
        &plans,
        &bundles,
    )?;
    store.remember_sequence(sequence)?;
    let signed = SignedManifest::sign(&manifest, store.publish_key())?;
    let stamp = match store.alarm_key() {
        Some(key) if config.stamped => {
            let stamp = Stamp::of(&signed, config.now, limits::STAMP_LIFETIME_SECS_MAX);
            Some(SignedStamp::sign(&stamp, key)?)
        }
        _ => None,
    };
    let record = SiteRecord {
        keys: store.chain().clone(),
        manifest: signed,
        stamp,
    };
    let bundles = write_out(&out, &root, before, config, &plans, bundles, &record)?;
    Ok(Published {
        record,
        keys: store.keys().clone(),
        manifest,
        bundles,
        skipped: found.skipped,
    })
}

/// Refuses a folder of ours, which may not exist yet, that would be published itself. A hidden one
/// never is.
fn outside(folder: &Path, root: &Path) -> Result<(), PublishError> {
    let absolute = std::path::absolute(folder).map_err(PublishError::read(folder))?;
    let real = absolute.ancestors().find_map(|existing| {
        let below = absolute.strip_prefix(existing).ok()?;
        Some(fs::canonicalize(existing).ok()?.join(below))
    });
    let inside = real
        .unwrap_or(absolute)
        .strip_prefix(root)
        .is_ok_and(|below| {
            !below
                .iter()
                .any(|component| component.as_encoded_bytes().starts_with(b"."))
        });
    if inside {
        return Err(PublishError::Inside(folder.to_owned()));
    }
    Ok(())
}

/// Keeps two publishers out of one folder, for as long as the file is open.
fn lock(out: &Path) -> Result<File, PublishError> {
    let path = out.join(".lock");
    let file = File::create(&path).map_err(PublishError::write(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(PublishError::Write {
            path: out.to_owned(),
            source: io::Error::other("somebody else is publishing to it"),
        }),
        Err(TryLockError::Error(source)) => Err(PublishError::Write { path, source }),
    }
}

fn read_all(
    files: Vec<SourceFile>,
    config: &PublishConfig,
    before: Option<&SiteRecord>,
    progress: &dyn Progress,
) -> Result<Vec<Content>, PublishError> {
    progress.begin(Phase::Reading, files.iter().map(|file| file.length).sum());
    let before = before.and_then(|record| record.manifest.claimed_manifest().ok());
    let forecast = forecast(&files, config, before.as_ref());
    let tasks: Vec<(SourceFile, Option<u32>)> = files.into_iter().zip(forecast).collect();
    in_parallel(config.threads, &tasks, |(file, piece_length)| {
        let read = read_once(&file.disk, *piece_length, |bytes| progress.advance(bytes))?;
        Ok(Content {
            file: file.clone(),
            digest: read.digest,
            length: read.length,
            hashes: read.hashes,
            seen: read.seen,
            media_type: match &file.said {
                Some(said) => said.media_type.clone(),
                None => media_type_of(Path::new(file.path.as_str()), &file.disk),
            },
            variants: Vec::new(),
        })
    })
}

/// The torrent of each plan, and whether it was there before.
fn build_all(
    plans: &[Plan],
    config: &PublishConfig,
    before: &Layout,
    out: &Path,
    progress: &dyn Progress,
) -> Result<Vec<(Metainfo, bool)>, PublishError> {
    let known: BTreeMap<Digest, PathBuf> = before
        .bundles
        .iter()
        .map(|(v2, laid)| (laid.identity, torrent_path(out, v2)))
        .collect();
    let old: Vec<Option<Metainfo>> = plans
        .iter()
        .map(|plan| {
            let path = known.get(&plan.identity(&config.site))?;
            let bytes = read_limited(path, limits::METAINFO_LEN_MAX).ok()?;
            let meta = Metainfo::parse(&bytes).ok()?;
            (torrent_path(out, &meta.info_hash_v2()?) == *path).then_some(meta)
        })
        .collect();
    let tasks: Vec<(&Member, u32)> = plans
        .iter()
        .zip(&old)
        .filter(|(_, old)| old.is_none())
        .flat_map(|(plan, _)| {
            let members = plan.members.values();
            members.map(|member| (member, plan.piece_length))
        })
        .collect();
    let ready = |member: &Member, piece_length: u32| {
        let hashes = member.hashes.as_ref();
        hashes
            .filter(|hashes| hashes.piece_length == piece_length)
            .map(Arc::clone)
    };
    let left = tasks
        .iter()
        .filter(|(member, piece_length)| ready(member, *piece_length).is_none());
    progress.begin(Phase::Hashing, left.map(|(member, _)| member.length).sum());
    let hashes = in_parallel(config.threads, &tasks, |(member, piece_length)| {
        if let Some(hashes) = ready(member, *piece_length) {
            return Ok(hashes);
        }
        let advance = |bytes| progress.advance(bytes);
        let read = read_once(&member.disk, Some(*piece_length), advance)?;
        read.hashes
            .filter(|hashes| hashes.digest == member.digest)
            .ok_or_else(|| PublishError::Changed(member.disk.clone()))
    })?;
    let mut hashes = hashes.into_iter();
    plans
        .iter()
        .zip(old)
        .map(|(plan, old)| {
            let (meta, unchanged) = match old {
                Some(meta) => (meta, true),
                None => {
                    let own = hashes.by_ref().take(plan.members.len());
                    let own = own.map(Arc::unwrap_or_clone).collect();
                    (plan.build(&config.site, own)?, false)
                }
            };
            let meta = meta
                .set_trackers(config.trackers.iter().cloned())
                .set_web_seeds(config.web_seeds.iter().cloned());
            Ok((meta, unchanged))
        })
        .collect()
}

/// What was published before, as it claims to be.
fn read_record(out: &Path, config: &PublishConfig) -> Option<SiteRecord> {
    read_limited(&out.join("manifest"), limits::SITE_RECORD_LEN_MAX)
        .ok()
        .and_then(|bytes| SiteRecord::parse(&bytes).ok())
        .filter(|record| *record.claimed_site() == config.site)
}

/// One more than whatever was signed before, as far as this machine knows.
fn next_sequence(store: &KeyStore, before: Option<&SiteRecord>) -> Result<u64, PublishError> {
    let published = before.map_or(0, |record| record.manifest.claimed().sequence);
    Ok(store.last_sequence()?.max(published).saturating_add(1))
}

/// `contents` come with the plan that each is in; files of no length at all may be in none.
fn manifest<'c>(
    config: &PublishConfig,
    sequence: u64,
    contents: impl Iterator<Item = (&'c Content, &'c Option<usize>)>,
    plans: &[Plan],
    bundles: &[(Metainfo, bool)],
) -> Result<SiteManifest, PublishError> {
    let mut entries = Vec::with_capacity(bundles.len());
    let mut indexes = Vec::with_capacity(bundles.len());
    for (plan, (meta, _)) in plans.iter().zip(bundles) {
        let (Some(v1), Some(v2)) = (meta.info_hash_v1(), meta.info_hash_v2()) else {
            return Err(PublishError::damaged(&config.out, "a bundle is no hybrid"));
        };
        entries.push(BundleEntry {
            v1,
            v2,
            alias: meta.alias_id(),
            length: plan.length,
            trackers: config.trackers.clone(),
        });
        indexes.push(plan.file_indexes(meta));
    }
    let mut files = BTreeMap::new();
    for (content, home) in contents {
        let entry = match home {
            Some(home) => indexes
                .get(*home)
                .and_then(|indexes| file_entry(config, content, *home, indexes))
                .ok_or_else(|| PublishError::Changed(content.file.disk.clone()))?,
            // Readers ask no bundle for the bytes of an empty file.
            None => bare_entry(config, content, 0, 0),
        };
        files.insert(content.file.path.clone(), entry);
    }
    Ok(SiteManifest {
        site: config.site.clone(),
        sequence,
        created: config.now,
        expires: config.now.saturating_add(config.lifetime_secs),
        stamped: config.stamped,
        bundles: entries,
        files,
    })
}

fn file_entry(
    config: &PublishConfig,
    content: &Content,
    bundle: usize,
    indexes: &HashMap<Digest, u32>,
) -> Option<FileEntry> {
    let variants = content
        .variants
        .iter()
        .map(|variant| {
            Some(Variant {
                encoding: variant.encoding,
                file: *indexes.get(&variant.digest)?,
                length: variant.length,
                digest: variant.digest,
            })
        })
        .collect::<Option<_>>()?;
    let file = *indexes.get(&content.digest)?;
    Some(FileEntry {
        variants,
        ..bare_entry(config, content, u32::try_from(bundle).ok()?, file)
    })
}

fn bare_entry(config: &PublishConfig, content: &Content, bundle: u32, file: u32) -> FileEntry {
    FileEntry {
        bundle,
        file,
        length: content.length,
        digest: content.digest,
        cache_secs: match &content.file.said {
            Some(said) => said.cache_secs,
            None if content.media_type.starts_with("text/html") => config.page_cache_secs,
            None => config.cache_secs,
        },
        media_type: content.media_type.clone(),
        modified: content.file.modified,
        variants: Vec::new(),
    }
}

pub(super) fn torrent_path(out: &Path, v2: &swarm_proto::id::InfoHashV2) -> PathBuf {
    out.join(format!("{v2}.torrent"))
}

/// Torrents, layout, manifest, in this order; then what is no longer needed goes. At any moment
/// the manifest that is there has its torrents and its part of the layout.
fn write_out(
    out: &Path,
    root: &Path,
    before: Layout,
    config: &PublishConfig,
    plans: &[Plan],
    metas: Vec<(Metainfo, bool)>,
    record: &SiteRecord,
) -> Result<Vec<PublishedBundle>, PublishError> {
    let mut layout = Layout {
        root: root.to_owned(),
        bundles: BTreeMap::new(),
        tried: before.tried,
    };
    let mut bundles = Vec::with_capacity(metas.len());
    let mut kept = BTreeSet::new();
    for (plan, (meta, unchanged)) in plans.iter().zip(metas) {
        let Some(v2) = meta.info_hash_v2() else {
            continue;
        };
        let path = torrent_path(out, &v2);
        let bytes = meta.to_bytes();
        let same = read_limited(&path, limits::METAINFO_LEN_MAX).is_ok_and(|old| old == bytes);
        if !same {
            write_atomically(&path, &bytes, 0o644)?;
        }
        let files: Vec<PathBuf> = plan
            .members
            .values()
            .map(|member| member.disk.clone())
            .collect();
        let places = files.iter().map(|disk| place(disk, root, out));
        layout.bundles.insert(
            v2,
            Laid {
                identity: plan.identity(&config.site),
                files: places.collect::<Option<_>>().ok_or_else(|| {
                    PublishError::damaged(out, "a file is neither in the root nor here")
                })?,
            },
        );
        kept.insert(path);
        bundles.push(PublishedBundle {
            metainfo: meta,
            files,
            unchanged,
        });
    }
    let mut both = layout.clone();
    if before.root == layout.root {
        for (v2, laid) in before.bundles {
            both.bundles.entry(v2).or_insert(laid);
        }
    }
    both.write(out)?;
    write_atomically(&out.join("manifest"), &record.to_bytes(), 0o644)?;
    layout.write(out)?;
    for entry in fs::read_dir(out).map_err(PublishError::read(out))? {
        let path = entry.map_err(PublishError::read(out))?.path();
        if path.extension().is_some_and(|end| end == "torrent") && !kept.contains(&path) {
            fs::remove_file(&path).map_err(PublishError::write(&path))?;
        }
    }
    remove_stale(&out.join("variants"), &layout.tried)?;
    Ok(bundles)
}

fn place(disk: &Path, root: &Path, out: &Path) -> Option<Place> {
    // The output may lie in a hidden folder of the root: ask for it first.
    if let Ok(below) = disk.strip_prefix(out) {
        return Some(Place::Out(below.to_owned()));
    }
    Some(Place::Root(disk.strip_prefix(root).ok()?.to_owned()))
}
