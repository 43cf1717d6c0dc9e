//! `fetch`: a torrent, a magnet link, or a whole site.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;
use swarm_peer::config::{PeerConfig, parse_duration};
use swarm_peer::connector::Trust;
use swarm_peer::webseed::named_by_torrent;
use swarm_peer::{AddBundle, Source, Storage, SwarmHandle, SwarmState};
use swarm_proto::geometry::ByteRange;
use swarm_proto::limits;
use swarm_proto::magnet::Magnet;
use swarm_proto::manifest::SiteRecord;
use swarm_proto::metainfo::{Metainfo, is_web_seed_url};
use url::Url;

use super::fetch_site::{self, Record};
use super::output::Sum;
use super::seed::serve_on;
use super::{
    EXIT_FAILURE, EXIT_NOT_FOUND, EXIT_TIMEOUT, Failure, NodeArgs, Output, Running, runtime,
};

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
    pub(super) seed: bool,
    /// Give up when nothing has come for so long; 0s waits for ever.
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
    web_seed: Vec<String>,
    #[command(flatten)]
    pub(super) node: NodeArgs,
}

impl FetchArgs {
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

/// Adds the operator's trackers, and those of a torrent that the operator handed us.
///
/// A torrent that a stranger made may name a tracker inside our network, and asking it is a
/// request to an address of the stranger's choice. As libtorrent does, only the path `/announce`
/// without a query is asked there: harmless whoever listens.
pub(super) fn add_trackers(bundle: &mut AddBundle, config: &PeerConfig) {
    bundle.trackers.extend(config.trackers.iter().cloned());
    let harmless = |url: &&String| {
        let url = Url::parse(url);
        url.is_ok_and(|url| url.path() == "/announce" && url.query().is_none())
    };
    let named: Vec<String> = bundle.source.trackers().to_vec();
    bundle
        .trackers
        .extend(named.iter().filter(harmless).cloned());
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
    let alone = is_alone(&bundle);
    let handle = running.node.add(bundle).await?;
    let handles = [handle];
    let mut waiting = Waiting::new(output, args.timeout, "fetching");
    loop {
        if !waiting.step(running, &handles).await? {
            return Ok(());
        }
        if handles.iter().all(|h| h.state() == SwarmState::Seeding) {
            break;
        }
        if alone && handles.iter().any(|handle| lacks(handle, None)) {
            return Err(nobody());
        }
    }
    waiting.finish(&handles);
    let stats = handles.iter().map(SwarmHandle::stats).next();
    let name = stats.as_ref().map(|s| s.name.clone()).unwrap_or_default();
    let path = args.out.join(&name);
    complete(output, &handles, &name, &path);
    if args.seed {
        serve_on(running, output, &handles).await;
    }
    Ok(())
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

/// Whether something must come from others: the wanted ranges, or everything.
pub(super) fn lacks(handle: &SwarmHandle, wanted: Option<&[ByteRange]>) -> bool {
    match (handle.state(), handle.try_metainfo()) {
        (SwarmState::Metadata, _) => true,
        (SwarmState::Fetching, Some(meta)) => match wanted {
            Some(wanted) => !wanted.iter().all(|range| handle.holds(range)),
            None => !meta.files().iter().all(|file| handle.holds(&file.range())),
        },
        _ => false,
    }
}

pub(super) fn nobody() -> Failure {
    Failure::text(
        EXIT_NOT_FOUND,
        "nobody to ask: give --tracker, --peer or --web-seed (or a torrent or link that names them)",
    )
}

/// Says that every byte is in its file.
pub(super) fn complete(output: &Output, handles: &[SwarmHandle], name: &str, path: &Path) {
    let all: Vec<_> = handles.iter().map(SwarmHandle::stats).collect();
    let sum = Sum::of(&all);
    let seconds = output.seconds();
    output.event(
        "complete",
        json!({
            "name": name,
            "path": path.display().to_string(),
            "total_bytes": sum.total_bytes,
            "down_bytes": sum.down_bytes,
            "seconds": (seconds * 1000.0).round() / 1000.0,
        }),
    );
    output.say(&format!("complete: {} in {seconds:.1} s", path.display()));
}

/// Waiting for swarms, with progress and patience.
pub(super) struct Waiting<'a> {
    output: &'a Output,
    progress: super::output::Progress<'a>,
    timeout: Duration,
    resumed: bool,
    peers_seen: bool,
    /// What had come, and since when nothing more has.
    state: (u64, u64),
    since: Instant,
}

impl<'a> Waiting<'a> {
    pub(super) fn new(output: &'a Output, timeout: Duration, what: &str) -> Self {
        Self {
            output,
            progress: output.progress(what),
            timeout,
            resumed: false,
            peers_seen: false,
            state: (0, 0),
            since: Instant::now(),
        }
    }

    /// Waits a moment. False if a signal ended it.
    ///
    /// # Errors
    /// A swarm failed, or patience is at its end.
    pub(super) async fn step(
        &mut self,
        running: &Running,
        handles: &[SwarmHandle],
    ) -> Result<bool, Failure> {
        let changed = handles.iter().map(SwarmHandle::state_changed);
        let changed: Vec<_> = changed.map(Box::pin).collect();
        tokio::select! {
            () = running.shutdown.cancelled() => return Ok(false),
            () = tokio::time::sleep(Duration::from_millis(200)) => {}
            _ = futures_util::future::select_all(changed), if !handles.is_empty() => {}
        }
        let all: Vec<_> = handles.iter().map(SwarmHandle::stats).collect();
        for stats in &all {
            if let SwarmState::Failed(error) = &stats.state {
                return Err(anyhow::Error::from(error.clone()).into());
            }
        }
        let sum = Sum::of(&all);
        if !sum.checking && !std::mem::replace(&mut self.resumed, true) && sum.have > 0 {
            let fields = json!({ "have": sum.have, "pieces": sum.pieces });
            self.output.event("resumed", fields);
            self.output.say(&format!(
                "{} of {} pieces are here already",
                sum.have, sum.pieces
            ));
        }
        self.progress.show(&sum);
        self.peers_seen |= sum.peers > 0;
        let state = (sum.down_bytes + sum.checked, sum.have);
        if state != self.state || sum.checking {
            self.state = state;
            self.since = Instant::now();
        }
        if !self.timeout.is_zero() && self.since.elapsed() >= self.timeout {
            let waited = self.timeout;
            return Err(match self.peers_seen {
                false => Failure::text(EXIT_NOT_FOUND, format!("no peers within {waited:?}")),
                true => Failure::text(EXIT_TIMEOUT, format!("nothing has come for {waited:?}")),
            });
        }
        Ok(true)
    }

    /// Shows the last state and takes the bar away.
    pub(super) fn finish(mut self, handles: &[SwarmHandle]) {
        let all: Vec<_> = handles.iter().map(SwarmHandle::stats).collect();
        self.progress.show(&Sum::of(&all));
        self.progress.finish();
    }
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
