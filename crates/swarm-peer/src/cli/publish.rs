//! `swarm-peer publish`: a folder into bundles and a signed manifest.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use swarm_proto::manifest::SiteName;
use url::Url;

use swarm_peer::config::parse_duration;
use swarm_peer::connector::{AddressPolicy, Trust};
use swarm_peer::http::HttpClient;
use swarm_peer::publish::{KeyStore, Phase, Progress, PublishConfig, Published, publish};

use super::units::{parse_size, show_size, show_time};
use super::{EXIT_FAILURE, EXIT_UNAVAILABLE, EXIT_USAGE, Failure, Output, print, runtime};

/// Time for a tracker to take a site record.
const REGISTER_DEADLINE: Duration = Duration::from_secs(30);

/// Bytes read of what a tracker answers to a registration.
const REGISTER_ANSWER_MAX: usize = 4096;

/// Skipped files listed to people; `--json` lists them all.
const SKIPPED_SHOWN: usize = 10;

/// Make bundles and a signed manifest of a folder.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct PublishArgs {
    /// The site that the folder is, as http://HOST[:PORT] or https://HOST[:PORT]
    #[arg(long, value_name = "URL", env = "SWARM_PEER_SITE", value_parser = parse_site)]
    site: SiteName,
    /// The folder to publish. Dotfiles, and symlinks that leave it, never are
    #[arg(long, value_name = "DIR", env = "SWARM_PEER_ROOT")]
    root: PathBuf,
    /// Where torrents, manifest and compressed variants go
    #[arg(long, value_name = "DIR", env = "SWARM_PEER_OUT")]
    out: PathBuf,
    /// The site's keys, made if absent [default: $XDG_STATE_HOME/swarm-peer/keys/<label>]
    #[arg(long, value_name = "DIR", env = "SWARM_PEER_KEYS")]
    keys: Option<PathBuf>,
    /// Announce URL of a tracker; may be repeated
    #[arg(
        long,
        value_name = "URL",
        env = "SWARM_PEER_TRACKER",
        value_delimiter = ','
    )]
    tracker: Vec<String>,
    /// URL of a gate or bridge that serves the bundles (BEP 19); may be repeated
    #[arg(
        long,
        value_name = "URL",
        env = "SWARM_PEER_WEB_SEED",
        value_delimiter = ','
    )]
    web_seed: Vec<String>,
    /// Give the manifest to each tracker
    #[arg(long, requires = "tracker")]
    register: bool,
    /// Bytes that a bundle is aimed at
    #[arg(long, value_name = "SIZE", env = "SWARM_PEER_BUNDLE_TARGET", default_value = "32MiB", value_parser = parse_target)]
    bundle_target: u64,
    /// How long the manifest holds, at most 30 days
    #[arg(long, value_name = "TIME", env = "SWARM_PEER_EXPIRES_IN", default_value = "30d", value_parser = parse_lifetime)]
    expires_in: Duration,
    /// The manifest needs a fresh stamp every day: only for sites with a gate to renew it
    #[arg(long)]
    stamped: bool,
    /// Store no compressed variants of text
    #[arg(long)]
    no_variants: bool,
    /// Mark what may be run as such (BEP 47), for who fetches the folder with a BitTorrent client. A
    /// chmod makes another bundle then
    #[arg(long)]
    executables: bool,
    /// Threads that hash and compress [default: one for each core]
    #[arg(long, value_name = "N", env = "SWARM_PEER_THREADS")]
    threads: Option<usize>,
    /// Print events as lines of JSON
    #[arg(long, env = "SWARM_PEER_JSON")]
    json: bool,
}

/// Where the suggested commands meet if there is no tracker.
const HINT_ADDR: &str = "127.0.0.1:6881";

fn parse_site(text: &str) -> Result<SiteName, String> {
    let name = if text.contains("://") {
        SiteName::from_url(text)
    } else {
        SiteName::parse(text)
    };
    name.map_err(|error| error.to_string())
}

fn parse_target(text: &str) -> Result<u64, String> {
    let bytes = parse_size(text)?;
    // A block is 16 KiB, and files of a sixteenth of the target stand alone.
    if !(256 * 1024..=16 << 30).contains(&bytes) {
        return Err("not between 256 KiB and 16 GiB".into());
    }
    Ok(bytes)
}

fn parse_lifetime(text: &str) -> Result<Duration, String> {
    let time = parse_duration(text)?;
    if !(1..=30 * 86_400).contains(&time.as_secs()) {
        return Err("not between a second and 30 days".into());
    }
    Ok(time)
}

/// Publishes, prints what came out, and registers it if asked to.
pub(super) fn run(args: &PublishArgs) -> Result<(), Failure> {
    let keys = args
        .keys
        .clone()
        .or_else(|| KeyStore::default_folder(&args.site))
        .ok_or_else(|| Failure::text(EXIT_USAGE, "no home for the keys: give --keys DIR"))?;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let mut config = PublishConfig::new(args.site.clone(), &args.root, &args.out, keys, now);
    config.trackers.clone_from(&args.tracker);
    config.web_seeds.clone_from(&args.web_seed);
    config.split.target = args.bundle_target;
    config.lifetime_secs = args.expires_in.as_secs();
    config.stamped = args.stamped;
    config.variants = !args.no_variants;
    config.executables = args.executables;
    config.threads = args.threads.unwrap_or(config.threads).max(1);
    let bar = Bar::new(args.json || !std::io::stderr().is_terminal());
    let published = publish(&config, &bar);
    bar.finish();
    let published = published.map_err(|error| Failure::new(EXIT_FAILURE, error))?;
    let output = Output::new(args.json);
    output.event("published", told(&config, &published));
    if !args.json {
        print(&shown(&config, &published))?;
    }
    if args.register {
        runtime()?.block_on(register(args, &published, &output))?;
    }
    Ok(())
}

async fn register(
    args: &PublishArgs,
    published: &Published,
    output: &Output,
) -> Result<(), Failure> {
    let unavailable = |error| Failure::new(EXIT_UNAVAILABLE, anyhow::Error::from(error));
    let client = HttpClient::new(AddressPolicy::default()).map_err(unavailable)?;
    let record = Bytes::from(published.record.to_bytes());
    for tracker in &args.tracker {
        let url = Url::parse(tracker)
            .and_then(|announce| announce.join("swarm/site"))
            .map_err(|error| Failure::text(EXIT_USAGE, format!("tracker {tracker}: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            tracing::warn!(%tracker, "only HTTP trackers take registrations");
            continue;
        }
        let answer = client
            .put(
                url.as_str(),
                record.clone(),
                REGISTER_ANSWER_MAX,
                REGISTER_DEADLINE,
                Trust::CommandLine,
            )
            .await
            .map_err(unavailable)?;
        if !answer.status.is_success() {
            let said = String::from_utf8_lossy(&answer.body);
            return Err(Failure::text(
                EXIT_FAILURE,
                format!(
                    "{url} refused the site: {} {}",
                    answer.status,
                    printable(&said)
                ),
            ));
        }
        output.event("registered", json!({"tracker": tracker}));
        output.say(&format!("registered   {tracker}"));
    }
    Ok(())
}

/// What a server said, fit for a terminal.
fn printable(text: &str) -> String {
    let text = text.trim().chars();
    text.map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn root_key(published: &Published) -> String {
    let root = published.keys.root.first();
    root.map(ToString::to_string).unwrap_or_default()
}

fn told(config: &PublishConfig, published: &Published) -> serde_json::Value {
    let manifest = &published.manifest;
    let bundles: Vec<_> = manifest
        .bundles
        .iter()
        .zip(&published.bundles)
        .map(|(entry, bundle)| {
            json!({
                "info_hash_v1": entry.v1.to_string(),
                "info_hash_v2": entry.v2.to_string(),
                "length": entry.length,
                "files": bundle.files.len(),
                "unchanged": bundle.unchanged,
                "torrent": config.out.join(format!("{}.torrent", entry.v2)),
            })
        })
        .collect();
    let skipped: Vec<_> = published
        .skipped
        .iter()
        .map(|one| json!({"path": one.path.to_string_lossy(), "reason": one.reason.to_string()}))
        .collect();
    json!({
        "site": manifest.site.as_str(),
        "root_key": root_key(published),
        "sequence": manifest.sequence,
        "created": manifest.created,
        "expires": manifest.expires,
        "stamped": manifest.stamped,
        "files": manifest.files.len(),
        "bundles": bundles,
        "skipped": skipped,
        "manifest": config.out.join("manifest"),
        "keys": config.keys,
    })
}

/// What came out, for people.
fn shown(config: &PublishConfig, published: &Published) -> String {
    let mut lines = Vec::new();
    let manifest = &published.manifest;
    let bytes = |of: fn(&swarm_proto::manifest::FileEntry) -> u64| -> u64 {
        manifest.files.values().map(of).sum()
    };
    let whole = bytes(|file| file.length);
    let smallest = bytes(|file| {
        let variants = file.variants.iter().map(|variant| variant.length);
        variants.min().unwrap_or(file.length)
    });
    let new = published.bundles.iter().filter(|b| !b.unchanged).count();
    lines.push(format!(
        "published    {} as manifest {}, good until {}",
        manifest.site,
        manifest.sequence,
        show_time(manifest.expires)
    ));
    lines.push(format!(
        "files        {} of {}; {} for a browser that takes brotli or zstd",
        manifest.files.len(),
        show_size(whole),
        show_size(smallest)
    ));
    lines.push(format!(
        "bundles      {}, {new} of them new",
        manifest.bundles.len()
    ));
    for (entry, bundle) in manifest.bundles.iter().zip(&published.bundles) {
        let mark = if bundle.unchanged { "" } else { "  new" };
        lines.push(format!(
            "  {}  {:>9}  {} files{mark}",
            entry.v2,
            show_size(entry.length),
            bundle.files.len()
        ));
    }
    if !published.skipped.is_empty() {
        lines.push(format!("left out     {}", published.skipped.len()));
        for one in published.skipped.iter().take(SKIPPED_SHOWN) {
            lines.push(format!("  {:?}: {}", one.path, one.reason));
        }
        if published.skipped.len() > SKIPPED_SHOWN {
            lines.push(format!(
                "  and {} more (--json lists all)",
                published.skipped.len() - SKIPPED_SHOWN
            ));
        }
    }
    let root = root_key(published);
    lines.push(format!("root key     {root}"));
    lines.push(format!("keys         {}", config.keys.display()));
    lines.push("\nnext, for instance:".to_owned());
    let tracker = config.trackers.first();
    match tracker {
        Some(url) => lines.push(format!(
            "  swarm-peer seed {} --tracker {url}",
            config.out.display()
        )),
        None => lines.push(format!(
            "  swarm-peer seed {} --listen {HINT_ADDR}",
            config.out.display()
        )),
    }
    let peer = match tracker {
        Some(_) => String::new(),
        None => format!(" --peer {HINT_ADDR}"),
    };
    lines.push(format!(
        "  swarm-peer fetch {} --site-key {}={root} --out copy{peer}",
        config.out.join("manifest").display(),
        manifest.site
    ));
    lines.push(format!(
        "  swarm-tracker run --site-key {}={root}",
        manifest.site
    ));
    lines.push(String::new());
    lines.join("\n")
}

/// A progress bar on a terminal, nothing elsewhere.
struct Bar(Mutex<ProgressBar>, bool);

impl Bar {
    fn new(quiet: bool) -> Self {
        Self(Mutex::new(ProgressBar::hidden()), quiet)
    }

    fn with(&self, work: impl FnOnce(&mut ProgressBar)) {
        let mut bar = self
            .0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        work(&mut bar);
    }

    fn finish(&self) {
        self.with(|bar| bar.finish_and_clear());
    }
}

impl Progress for Bar {
    fn begin(&self, phase: Phase, bytes: u64) {
        if self.1 {
            return;
        }
        let name = match phase {
            Phase::Reading => "reading",
            Phase::Compressing => "compressing",
            Phase::Hashing => "hashing",
        };
        self.with(|bar| {
            bar.finish_and_clear();
            *bar = ProgressBar::new(bytes).with_message(name);
            let template = "{msg:12} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
        });
    }

    fn advance(&self, bytes: u64) {
        if !self.1 {
            self.with(|bar| bar.inc(bytes));
        }
    }
}
