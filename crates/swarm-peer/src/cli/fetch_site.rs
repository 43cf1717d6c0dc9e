//! Fetching a whole site: its record believed, its bundles fetched, its tree laid out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use swarm_peer::config::PeerConfig;
use swarm_peer::connector::Trust;
use swarm_peer::dns::Dns;
use swarm_peer::pick::Pick;
use swarm_peer::store::{folder_paths, write_atomic};
use swarm_peer::trust::{Came, RecordError, TrustStore, Voucher, fetch_record, now};
use swarm_peer::{AddBundle, Storage, named_by_torrent};
use swarm_proto::download::Want;
use swarm_proto::geometry::ByteRange;
use swarm_proto::id::Digest;
use swarm_proto::limits;
use swarm_proto::magnet::Magnet;
use swarm_proto::manifest::{BundleEntry, SiteManifest, SiteName, SiteRecord, TrustError};
use swarm_proto::metainfo::Metainfo;
use url::Url;

use super::fetch::{FetchArgs, is_alone, others_may_come, source_of, vouched};
use super::progress::Job;
use super::select::{self, takes_path};
use super::until;
use super::wait::{Waiting, complete, lacks, nobody};
use super::{EXIT_FAILURE, EXIT_INTEGRITY, EXIT_NOT_FOUND, Failure, Output, Running};

/// Time to fetch one torrent file.
const TORRENT_DEADLINE: Duration = Duration::from_secs(30);

/// A record, and where it came from.
pub(super) struct Record {
    record: SiteRecord,
    /// The site that was asked for, where that is known apart from the record's own claim.
    asked: Option<SiteName>,
    came: Option<Came>,
    /// The folder beside a record on disk, where torrents may lie.
    dir: Option<PathBuf>,
}

impl Record {
    pub(super) fn from_disk(record: SiteRecord, dir: PathBuf) -> Self {
        Self {
            record,
            asked: None,
            came: None,
            dir: Some(dir),
        }
    }

    pub(super) async fn from_url(running: &Running, url: &Url) -> Result<Self, Failure> {
        let fetched = fetch_record(running.node.http(), url, Trust::CommandLine).await;
        let (record, came) = fetched.map_err(|error| failure(url.as_str(), error))?;
        let asked = match url.path().ends_with("/manifest") {
            true => None,
            false => SiteName::of(url).ok(),
        };
        Ok(Self {
            record,
            asked,
            came: Some(came),
            dir: None,
        })
    }
}

/// A record that was refused, as an exit.
pub(super) fn refused(what: &str, error: TrustError) -> Failure {
    failure(what, RecordError::from(error))
}

fn failure(what: &str, error: RecordError) -> Failure {
    let code = match &error {
        error if error.is_refusal() => EXIT_INTEGRITY,
        RecordError::Status { .. } | RecordError::Http(_) => EXIT_NOT_FOUND,
        _ => EXIT_FAILURE,
    };
    Failure::new(code, anyhow::Error::from(error).context(what.to_owned()))
}

/// Fetches a torrent file.
pub(super) async fn torrent_at(running: &Running, url: &Url) -> Result<Metainfo, Failure> {
    let cap = limits::METAINFO_LEN_MAX;
    let http = running.node.http();
    let answer = http
        .get(url.as_str(), cap, TORRENT_DEADLINE, Trust::CommandLine)
        .await
        .map_err(|error| Failure::new(EXIT_NOT_FOUND, error))?;
    if !answer.status.is_success() {
        let text = format!("{url} answered {}", answer.status);
        return Err(Failure::text(EXIT_NOT_FOUND, text));
    }
    let meta = Metainfo::parse(&answer.body).map_err(anyhow::Error::from);
    meta.map_err(|error| error.context(format!("{url} is no torrent")).into())
}

pub(super) async fn fetch(
    config: &PeerConfig,
    args: &FetchArgs,
    output: &Output,
    running: &Running,
    record: Record,
) -> Result<(), Failure> {
    let manifest = believe(config, running, &record, args.what()).await?;
    tracing::info!(
        site = %manifest.site,
        sequence = manifest.sequence,
        bundles = manifest.bundles.len(),
        files = manifest.files.len(),
        "site record believed"
    );
    let manifest = Arc::new(manifest);
    let paths = manifest.files.keys().map(|path| path.as_str());
    select::check_paths(&args.file, paths)?;
    let (mut jobs, alone) = add_bundles(config, args, running, &record, &manifest).await?;
    let alone = alone && !others_may_come(config, args, output, running);
    // Who seeds on holds everything, unless only some files were asked for.
    let whole = args.seeds_on() && args.file.is_empty();
    let mut planned = vec![false; jobs.len()];
    let mut waiting = Waiting::new(output, args.timeout, manifest.site.as_str());
    loop {
        if !waiting.step(running, &jobs).await? {
            return Ok(());
        }
        for (index, (job, planned)) in jobs.iter_mut().zip(&mut planned).enumerate() {
            if let Some(meta) = job.handle.try_metainfo().filter(|_| !*planned) {
                *planned = true;
                let wanted = wanted_ranges(&manifest, &args.file, index, &meta)?;
                if args.sequential {
                    let (handle, ranges) = (job.handle.clone(), wanted.clone());
                    tokio::spawn(async move { handle.fetch_in_order(&ranges).await });
                }
                if !whole {
                    job.handle.set_want(Want::Ranges(wanted.clone())).await;
                    job.wanted = Some(wanted);
                }
            }
        }
        if planned.iter().all(|planned| *planned) && jobs.iter().all(Job::is_done) {
            break;
        }
        if alone && jobs.iter().any(lacks) {
            return Err(nobody());
        }
    }
    waiting.finish(&jobs);
    let metas = jobs.iter().filter_map(|job| job.handle.try_metainfo());
    let metas: Vec<Arc<Metainfo>> = metas.collect();
    let (out, laid, picks) = (args.out.clone(), Arc::clone(&manifest), args.file.clone());
    let path = tokio::task::spawn_blocking(move || lay_out(&out, &laid, &picks, &metas))
        .await
        .map_err(anyhow::Error::from)??;
    complete(output, &jobs, manifest.site.as_str(), &path);
    if args.seeds_on() {
        until::serve(running, output, &jobs, &args.until).await;
    }
    Ok(())
}

/// Judges the record by pinned keys, by memory, by its channel, or by the site's keys over TLS.
async fn believe(
    config: &PeerConfig,
    running: &Running,
    record: &Record,
    what: &str,
) -> Result<SiteManifest, Failure> {
    let claimed = record.record.claimed_site();
    let site = match (&record.asked, config.site_keys.contains_key(claimed)) {
        (Some(asked), false) => asked.clone(),
        _ => claimed.clone(),
    };
    let store = TrustStore::new(config.state_dir().map(|dir| dir.join("trust")));
    let voucher = match config.site_keys.get(&site) {
        Some(key) => Voucher::Pinned(*key),
        None => {
            let http = running.node.http();
            let came = record.came.as_ref();
            let dns = config.dns.map_or_else(Dns::system, Dns::at);
            let dns = dns
                .inspect_err(|error| tracing::info!(%error, "DNS is not asked"))
                .ok();
            let record = &record.record;
            let found = store.voucher(http, dns.as_ref(), record, &site, came).await;
            found.map_err(|error| failure(what, error))?
        }
    };
    let signed = record.record.clone();
    let judged = tokio::task::spawn_blocking(move || store.judge(&signed, &site, voucher, now()));
    let believed = judged.await.map_err(anyhow::Error::from)?;
    let believed = believed.map_err(|error| {
        tracing::warn!("site record refused: {error}");
        failure(what, error)
    })?;
    Ok(believed.manifest)
}

/// Adds all bundles; true with them if nobody is known who could have them.
async fn add_bundles(
    config: &PeerConfig,
    args: &FetchArgs,
    running: &Running,
    record: &Record,
    manifest: &SiteManifest,
) -> Result<(Vec<Job>, bool), Failure> {
    let mut jobs = Vec::new();
    let mut alone = true;
    let mut served = true;
    for entry in &manifest.bundles {
        let mut meta = record.dir.as_ref().and_then(|dir| beside(dir, entry));
        if meta.is_none()
            && served
            && let Some(came) = &record.came
        {
            meta = at_site(running, came, entry).await;
            // Who does not serve the first will not serve the others.
            served = meta.is_some();
        }
        let magnet = Magnet {
            v1: Some(entry.v1),
            v2: Some(entry.v2),
            name: Some(manifest.site.to_string()),
            trackers: entry.trackers.clone(),
            web_seeds: Vec::new(),
            peers: Vec::new(),
            select_only: Vec::new(),
        };
        let storage = Storage::Folder {
            dir: args.out.clone(),
        };
        let mut bundle = AddBundle::new(source_of(meta, magnet), storage);
        bundle.preallocate = args.preallocate;
        bundle.trust = vouched(record.came.as_ref());
        bundle.peers.clone_from(&args.node.peer);
        bundle.web_seeds.clone_from(&args.web_seed);
        // Those in a torrent that the site served are as near as the site.
        bundle.web_seed_trust = match &record.came {
            Some(came) => came.trust_in_contents(),
            None => named_by_torrent(
                args.node.peer.iter().map(SocketAddr::ip),
                config.trackers.iter().map(String::as_str),
            ),
        };
        match &record.came {
            // A record in a file is the operator's as a torrent is.
            None => {
                bundle.trackers.clone_from(&config.trackers);
                super::fetch::add_trackers(&mut bundle, config);
            }
            Some(_) => bundle.trackers.clone_from(&config.trackers),
        }
        if !(args.seeds_on() && args.file.is_empty()) {
            bundle.want = Want::None;
        }
        alone &= is_alone(&bundle);
        jobs.push(running.node.add(bundle).await?.into());
    }
    Ok((jobs, alone))
}

/// Whether this is the metainfo that the manifest names.
fn is_of(meta: &Metainfo, entry: &BundleEntry) -> bool {
    meta.info_hash_v1() == Some(entry.v1) && meta.info_hash_v2() == Some(entry.v2)
}

/// A torrent beside the record.
fn beside(dir: &Path, entry: &BundleEntry) -> Option<Metainfo> {
    let path = dir.join(format!("{}.torrent", entry.v2));
    let size = std::fs::metadata(&path).ok()?.len();
    let small = usize::try_from(size).is_ok_and(|size| size <= limits::METAINFO_LEN_MAX);
    let bytes = small.then(|| std::fs::read(&path).ok()).flatten()?;
    let meta = Metainfo::parse(&bytes).ok();
    meta.filter(|meta| is_of(meta, entry))
}

/// A torrent served by whoever served the record.
async fn at_site(running: &Running, came: &Came, entry: &BundleEntry) -> Option<Metainfo> {
    let path = format!("/.well-known/swarm/bundle/{}.torrent", entry.v2);
    let url = came.url.join(&path).ok()?;
    let cap = limits::METAINFO_LEN_MAX;
    let trust = came.trust_in_contents();
    let http = running.node.http();
    let answer = http.get(url.as_str(), cap, TORRENT_DEADLINE, trust).await;
    let answer = answer.ok().filter(|answer| answer.status.is_success())?;
    let meta = Metainfo::parse(&answer.body).ok();
    meta.filter(|meta| is_of(meta, entry))
}

/// Where the manifest's files lie in the bundle; compressed variants are left out.
fn wanted_ranges(
    manifest: &SiteManifest,
    picks: &[Pick],
    index: usize,
    meta: &Metainfo,
) -> Result<Vec<ByteRange>, Failure> {
    let mut files = BTreeSet::new();
    for (path, entry) in &manifest.files {
        if usize::try_from(entry.bundle) != Ok(index) || !takes_path(picks, path.as_str()) {
            continue;
        }
        let file = usize::try_from(entry.file).ok();
        let found = file.and_then(|file| meta.files().get(file));
        if found.is_none_or(|found| found.pad || found.length != entry.length) {
            let text = format!("{path}: the manifest and its bundle do not agree");
            return Err(Failure::text(EXIT_INTEGRITY, text));
        }
        files.extend(file);
    }
    let ranges = files.iter().filter_map(|&file| meta.files().get(file));
    Ok(ranges.map(|file| file.range()).collect())
}

/// Sees to it that every path of the site is a file with the right bytes. Blocks.
fn lay_out(
    out: &Path,
    manifest: &SiteManifest,
    picks: &[Pick],
    metas: &[Arc<Metainfo>],
) -> Result<PathBuf, Failure> {
    let top = match metas.first() {
        Some(meta) => out.join(meta.name()),
        None => out.join(manifest.site.as_str()),
    };
    let mut checked: BTreeMap<(u32, u32), PathBuf> = BTreeMap::new();
    let chosen = manifest.files.iter();
    for (path, entry) in chosen.filter(|(path, _)| takes_path(picks, path.as_str())) {
        let target = path
            .components()
            .fold(top.clone(), |target, part| target.join(part));
        let key = (entry.bundle, entry.file);
        let source = match checked.get(&key) {
            Some(source) => source.clone(),
            None => {
                let source = stored_at(out, metas, key).ok_or_else(|| {
                    Failure::text(EXIT_INTEGRITY, format!("{path} is in no bundle"))
                })?;
                check_file(&source, entry.length, &entry.digest)?;
                checked.insert(key, source.clone());
                source
            }
        };
        if target != source && digest_of(&target).ok() != Some(entry.digest) {
            // A copy and no link: the next version of the site may change one and not the other.
            copy(&source, &target).map_err(|error| {
                let shown = target.display();
                anyhow::Error::from(error).context(format!("cannot write {shown}"))
            })?;
        }
    }
    Ok(top)
}

/// Where the folder store keeps a file of a bundle.
fn stored_at(out: &Path, metas: &[Arc<Metainfo>], (bundle, file): (u32, u32)) -> Option<PathBuf> {
    let meta = metas.get(usize::try_from(bundle).ok()?)?;
    let file = usize::try_from(file).ok()?;
    let before = meta.files().get(..file)?;
    let index = before.iter().filter(|entry| !entry.pad).count();
    folder_paths(meta, out).into_iter().nth(index)
}

fn check_file(path: &Path, length: u64, digest: &Digest) -> Result<(), Failure> {
    let shown = path.display();
    if length == 0 && !path.exists() {
        write_atomic(path, b"").map_err(anyhow::Error::from)?;
    }
    let size = std::fs::metadata(path).map_err(anyhow::Error::from)?.len();
    if size > length {
        // Left over from an older version of the site.
        let file = File::options().write(true).open(path);
        file.and_then(|file| file.set_len(length))
            .map_err(anyhow::Error::from)?;
    }
    match digest_of(path) {
        Ok(found) if found == *digest => Ok(()),
        Ok(_) => Err(Failure::text(
            EXIT_INTEGRITY,
            format!("{shown} is not what the manifest says"),
        )),
        Err(error) => Err(anyhow::Error::from(error)
            .context(format!("cannot read {shown}"))
            .into()),
    }
}

fn digest_of(path: &Path) -> std::io::Result<Digest> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(Digest::new(hasher.finalize().into()));
        }
        hasher.update(buffer.get(..read).unwrap_or_default());
    }
}

fn copy(source: &Path, target: &Path) -> std::io::Result<()> {
    if let Some(parent) = target.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let temporary = target.with_file_name(format!(".{name}.{}.tmp", std::process::id()));
    let copied =
        std::fs::copy(source, &temporary).and_then(|_| std::fs::rename(&temporary, target));
    if copied.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    copied
}
