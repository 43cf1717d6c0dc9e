//! `fetch`: a torrent, a magnet link, or a whole site.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use swarm_peer::config::{PeerConfig, parse_duration};
use swarm_peer::connector::Trust;
use swarm_peer::discovery::DhtMode;
use swarm_peer::pick::{self, Pick};
use swarm_peer::{AddBundle, Source, Storage, named_by_torrent};
use swarm_proto::download::Want;
use swarm_proto::limits;
use swarm_proto::magnet::Magnet;
use swarm_proto::manifest::SiteRecord;
use swarm_proto::metainfo::{Metainfo, is_web_seed_url};
use url::Url;

use super::fetch_site::{self, Record};
use super::progress::Job;
use super::select;
use super::until::{self, Until};
use super::wait::{Waiting, complete, lacks, nobody};
use super::{EXIT_FAILURE, EXIT_NOT_FOUND, Failure, NodeArgs, Output, Running, runtime};

/// Flags of `fetch`.
#[derive(Debug, Args)]
pub(super) struct FetchArgs {
    /// A torrent file or its URL, a magnet link, a site record (file or URL), or a site's URL.
    what: String,
    /// Where to put it: the directory that shall hold the torrent's top-level name.
    #[arg(long, value_name = "DIR", env = "SWARM_PEER_OUT")]
    pub(super) out: PathBuf,
    /// Go on seeding when complete.
    #[arg(long, env = "SWARM_PEER_SEED")]
    seed: bool,
    #[command(flatten)]
    pub(super) until: Until,
    /// Only the files of this name, path, pattern (`*.jpg`, `img/**`) or number; may be given more
    /// than once. Other files are not made, unless they share a piece with one of these: then
    /// they hold what that piece has of them.
    #[arg(long, value_name = "GLOB|INDEX")]
    pub(super) file: Vec<Pick>,
    /// Fetch in order, as who watches while it comes wants it; unkind to a swarm of leeches.
    #[arg(long, env = "SWARM_PEER_SEQUENTIAL")]
    pub(super) sequential: bool,
    /// Set room aside on the disk for all of it before fetching any: a disk too full is known at
    /// once, and files lie in few places. Without, files take room as they come.
    #[arg(long, env = "SWARM_PEER_PREALLOCATE")]
    pub(super) preallocate: bool,
    /// Give up when nothing has come for so long; 0s waits for ever. While it is paused no time
    /// passes, and after that all of it is given again.
    #[arg(
        long,
        value_name = "TIME",
        env = "SWARM_PEER_TIMEOUT",
        default_value = "10m",
        value_parser = parse_duration
    )]
    pub(super) timeout: Duration,
    /// A server that holds the files too, over http or https (BEP 19); may be given again.
    #[arg(long, value_name = "URL", env = "SWARM_PEER_WEB_SEED", value_delimiter = ',', value_parser = web_seed)]
    pub(super) web_seed: Vec<String>,
    #[command(flatten)]
    pub(super) node: NodeArgs,
}

impl FetchArgs {
    /// Whether to seed when complete: asked for, or implied by when to stop seeding.
    pub(super) fn seeds_on(&self) -> bool {
        self.seed || self.until.is_set()
    }

    /// What was asked for, as typed.
    pub(super) fn what(&self) -> &str {
        &self.what
    }
}

fn web_seed(url: &str) -> Result<String, String> {
    match is_web_seed_url(url) {
        true => Ok(url.to_owned()),
        false => Err("a web seed is an http or https URL without a user name".to_owned()),
    }
}

/// What `fetch` was asked for.
enum Wanted {
    Bundle(Source),
    /// A record on disk, and the folder it lies in.
    Record(Box<SiteRecord>, PathBuf),
    Url(Url),
}

pub(super) fn fetch(config: PeerConfig, args: FetchArgs) -> Result<(), Failure> {
    let wanted = wanted(&args.what)?;
    let output = Output::new(args.node.json);
    let runtime = runtime()?;
    let result = runtime.block_on(run(&config, &args, &output, wanted));
    runtime.shutdown_background();
    result
}

fn wanted(what: &str) -> Result<Wanted, Failure> {
    if what.starts_with("magnet:") {
        let magnet = Magnet::parse(what)
            .map_err(|error| anyhow::Error::from(error).context("bad magnet link"))?;
        return Ok(Wanted::Bundle(Source::from(magnet)));
    }
    if what.starts_with("http://") || what.starts_with("https://") {
        let url = Url::parse(what)
            .map_err(|error| anyhow::Error::from(error).context(format!("bad URL {what}")))?;
        return Ok(Wanted::Url(url));
    }
    let path = Path::new(what);
    let bytes = read(
        path,
        limits::SITE_RECORD_LEN_MAX.max(limits::METAINFO_LEN_MAX),
    )?;
    match Metainfo::parse(&bytes) {
        Ok(meta) => Ok(Wanted::Bundle(Source::from(meta))),
        Err(_) if !looks_like_torrent(path, &bytes) => {
            let record = SiteRecord::parse(&bytes)
                .map_err(|error| fetch_site::refused(&format!("{}", path.display()), error))?;
            let dir = path.parent().map(Path::to_owned).unwrap_or_default();
            Ok(Wanted::Record(Box::new(record), dir))
        }
        Err(error) => Err(anyhow::Error::from(error)
            .context(format!("{} is no torrent", path.display()))
            .into()),
    }
}

fn looks_like_torrent(path: &Path, bytes: &[u8]) -> bool {
    path.extension().is_some_and(|ext| ext == "torrent")
        || bytes.windows(6).take(4096).any(|part| part == b"4:info")
}

/// Reads a file that must not be larger than what it is said to be can be.
fn read(path: &Path, cap: usize) -> Result<Vec<u8>, Failure> {
    let failed = |error: std::io::Error| {
        let code = match error.kind() {
            std::io::ErrorKind::NotFound => EXIT_NOT_FOUND,
            _ => EXIT_FAILURE,
        };
        let shown = path.display();
        Failure::new(
            code,
            anyhow::Error::from(error).context(format!("cannot read {shown}")),
        )
    };
    let size = std::fs::metadata(path).map_err(failed)?.len();
    if size > cap as u64 {
        let text = format!("{} is too large ({size} bytes)", path.display());
        return Err(Failure::text(EXIT_FAILURE, text));
    }
    std::fs::read(path).map_err(failed)
}

/// Reads a `.torrent` file.
pub(super) fn read_torrent(path: &Path) -> Result<Metainfo, Failure> {
    let bytes = read(path, limits::METAINFO_LEN_MAX)?;
    let meta = Metainfo::parse(&bytes).map_err(anyhow::Error::from);
    meta.map_err(|error| {
        error
            .context(format!("{} is no torrent", path.display()))
            .into()
    })
}

/// Adds the operator's trackers, and vouches for those of a torrent that the operator handed us, as
/// far as [`AddBundle::tracker_trust`] goes.
pub(super) fn add_trackers(bundle: &mut AddBundle, config: &PeerConfig) {
    bundle.trackers.extend(config.trackers.iter().cloned());
    bundle.tracker_trust = Trust::CommandLine;
    let mut seen = std::collections::BTreeSet::new();
    bundle.trackers.retain(|url| seen.insert(url.clone()));
}

async fn run(
    config: &PeerConfig,
    args: &FetchArgs,
    output: &Output,
    wanted: Wanted,
) -> Result<(), Failure> {
    let running = Running::start(config, output).await?;
    let result = match wanted {
        Wanted::Bundle(source) => fetch_bundle(config, args, output, &running, source).await,
        Wanted::Record(record, dir) => {
            let record = Record::from_disk(*record, dir);
            fetch_site::fetch(config, args, output, &running, record).await
        }
        Wanted::Url(url) if url.path().ends_with(".torrent") => {
            match fetch_site::torrent_at(&running, &url).await {
                Ok(meta) => fetch_bundle(config, args, output, &running, Source::from(meta)).await,
                Err(failure) => Err(failure),
            }
        }
        Wanted::Url(url) => match Record::from_url(&running, &url).await {
            Ok(record) => fetch_site::fetch(config, args, output, &running, record).await,
            Err(failure) => Err(failure),
        },
    };
    running.stop().await;
    result
}

async fn fetch_bundle(
    config: &PeerConfig,
    args: &FetchArgs,
    output: &Output,
    running: &Running,
    source: Source,
) -> Result<(), Failure> {
    let storage = Storage::Folder {
        dir: args.out.clone(),
    };
    let mut bundle = AddBundle::new(source, storage);
    bundle.preallocate = args.preallocate;
    bundle.peers.clone_from(&args.node.peer);
    if let Source::Magnet(magnet) = &bundle.source {
        // Addresses in a link on the command line are on the command line.
        bundle.peers.extend(&magnet.peers);
    }
    bundle.web_seeds.clone_from(&args.web_seed);
    bundle.web_seed_trust = named_by_torrent(
        args.node.peer.iter().map(SocketAddr::ip),
        config.trackers.iter().map(String::as_str),
    );
    add_trackers(&mut bundle, config);
    let alone = is_alone(&bundle) && !others_may_come(config, args, output, running);
    let mut picks = args.file.clone();
    if let Source::Magnet(magnet) = &bundle.source
        && picks.is_empty()
    {
        // What was said on the command line beats what the link says.
        let chosen = magnet.select_only.iter().cloned();
        picks.extend(chosen.map(Pick::from));
    }
    if !picks.is_empty() {
        // Nothing, until it is known which files there are.
        bundle.want = Want::None;
    }
    let handle = running.node.add(bundle).await?;
    let mut jobs = [Job::from(handle)];
    let mut planned = false;
    let mut waiting = Waiting::new(output, args.timeout, "fetching");
    loop {
        if !waiting.step(running, &jobs).await? {
            return Ok(());
        }
        let [job] = &mut jobs;
        if !planned && let Some(meta) = job.handle.try_metainfo() {
            planned = true;
            plan(args, &picks, job, &meta).await?;
        }
        if planned && job.is_done() {
            break;
        }
        if alone && lacks(job) {
            return Err(nobody());
        }
    }
    waiting.finish(&jobs);
    let [job] = &jobs;
    let meta = job.handle.metainfo().await.map_err(anyhow::Error::from)?;
    let path = args.out.join(meta.name());
    complete(output, &jobs, meta.name(), &path);
    if args.seeds_on() {
        until::serve(running, output, &jobs, &args.until).await;
    }
    Ok(())
}

/// Decides what of a torrent is fetched, and in which order.
async fn plan(
    args: &FetchArgs,
    picks: &[Pick],
    job: &mut Job,
    meta: &Arc<Metainfo>,
) -> Result<(), Failure> {
    let wanted = pick::ranges(picks, meta).map_err(|error| select::none(&error))?;
    if let Some(wanted) = &wanted {
        job.handle.set_want(Want::Ranges(wanted.clone())).await;
    }
    if args.sequential {
        let all = || meta.files().iter().filter(|file| !file.pad);
        let ranges = wanted.clone();
        let ranges = ranges.unwrap_or_else(|| all().map(|file| file.range()).collect());
        let handle = job.handle.clone();
        tokio::spawn(async move { handle.fetch_in_order(&ranges).await });
    }
    job.wanted = wanted;
    Ok(())
}

/// Whether peers may come though none is named: by the DHT or the local network, or because they
/// call where the operator told us to listen.
pub(super) fn others_may_come(
    config: &PeerConfig,
    args: &FetchArgs,
    output: &Output,
    running: &Running,
) -> bool {
    if config.dht != DhtMode::Off || config.lsd {
        return true;
    }
    let listens = args.node.listens() || config.listen != PeerConfig::default().listen;
    if listens {
        let addr = running.node.listen_addr();
        output.event("waiting", json!({ "peer": addr.to_string() }));
        output.say(&format!("nobody to ask: waiting for callers at {addr}"));
    }
    listens
}

/// Whether no peer is named, and no tracker that could name one.
pub(super) fn is_alone(bundle: &AddBundle) -> bool {
    // A web seed needs the metadata, which a link does not have.
    let by_web = matches!(bundle.source, Source::Metainfo(_))
        && !(bundle.web_seeds.is_empty() && bundle.source.web_seeds().is_empty());
    bundle.peers.is_empty()
        && bundle.trackers.is_empty()
        && bundle.source.trackers().is_empty()
        && !by_web
}

/// A source for a bundle of which metainfo may be at hand.
pub(super) fn source_of(meta: Option<Metainfo>, magnet: Magnet) -> Source {
    match meta {
        Some(meta) => Source::Metainfo(Arc::new(meta)),
        None => Source::from(magnet),
    }
}

/// Who vouches for trackers in what came from there.
pub(super) fn vouched(came: Option<&swarm_peer::trust::Came>) -> Trust {
    came.map_or(Trust::Stranger, swarm_peer::trust::Came::trust_in_contents)
}
