//! `webseed-bridge run`: node, bridge and whoever tells it what to carry, until a signal.

use std::collections::HashMap;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use swarm_peer::connector::{AddressPolicy, IpNet};
use swarm_peer::dns::Dns;
use swarm_peer::uplink::{Uplink, parse_rate};
use swarm_peer::{Node, NodeConfig, NodeError};
use swarm_proto::manifest::{PublicKey, SiteName};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use webseed_bridge::config::{BridgeConfig, JoinConfig, Settings, parse_bytes};
use webseed_bridge::error::StartError;
use webseed_bridge::follow::{Named, carry_named};
use webseed_bridge::plain::{PlainError, carry_published, publish_folder};
use webseed_bridge::site_source::{SiteSource, SourceError};
use webseed_bridge::volunteer::Volunteer;
use webseed_bridge::{Bridge, BridgeHandle};

/// How long the first records may take before "listening" is said without them.
const FIRST_RECORDS: Duration = Duration::from_secs(5);

/// Why a bridge ends other than by a signal.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// The operator named nothing to carry.
    #[error("nothing to carry: give --root DIR, --site HOST or --volunteer")]
    Nothing,
    /// A setting that cannot be understood, or that does not go with another.
    #[error("{0}")]
    Setting(String),
    /// The HTTP side.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The BitTorrent side.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The folder.
    #[error(transparent)]
    Plain(#[from] PlainError),
    /// A record that the operator gave.
    #[error(transparent)]
    Record(#[from] SourceError),
    /// A file.
    #[error("{path}")]
    File {
        /// Which.
        path: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

impl RunError {
    pub(crate) fn is_listening(&self) -> bool {
        matches!(
            self,
            Self::Start(StartError::Listen { .. }) | Self::Node(NodeError::Listen { .. })
        )
    }

    pub(crate) fn is_integrity(&self) -> bool {
        matches!(self, Self::Record(SourceError::Refused { .. }))
    }
}

/// Settings understood.
pub(crate) struct Plan {
    uplink: Uplink,
    policy: AddressPolicy,
    disk_max: u64,
    pins: HashMap<SiteName, Vec<PublicKey>>,
    named: Vec<Named>,
    peer_listen: SocketAddr,
    store: Option<PathBuf>,
}

impl Plan {
    /// Understands settings.
    pub(crate) fn new(settings: &Settings) -> Result<Self, RunError> {
        let wrong = |what: &str, reason: &dyn std::fmt::Display| {
            RunError::Setting(format!("{what}: {reason}"))
        };
        let site = |text: &str| {
            let parsed = match text.contains("://") {
                true => SiteName::from_url(text),
                false => SiteName::parse(text),
            };
            parsed.map_err(|error| wrong(text, &error))
        };
        let mut pins = HashMap::new();
        for (host, keys) in &settings.site_keys {
            let keys = keys.split_whitespace().map(str::parse::<PublicKey>);
            let keys: Result<Vec<_>, _> = keys.collect();
            pins.insert(site(host)?, keys.map_err(|error| wrong(host, &error))?);
        }
        let mut records: HashMap<SiteName, PathBuf> = HashMap::new();
        for (host, file) in &settings.records {
            records.insert(site(host)?, file.clone());
        }
        let mut names = settings
            .sites
            .iter()
            .map(|host| site(host))
            .collect::<Result<Vec<_>, _>>()?;
        names.extend(records.keys().cloned());
        names.sort();
        names.dedup();
        let named = names.into_iter().map(|site| Named {
            record: records.remove(&site),
            site,
        });
        let named: Vec<_> = named.collect();
        let alone = settings.root.is_some();
        match (alone, settings.volunteer, named.is_empty()) {
            (false, false, true) => return Err(RunError::Nothing),
            (true, true, _) | (true, _, false) => {
                let reason = "a folder is served alone, without sites and volunteering";
                return Err(wrong("root", &reason));
            }
            _ => {}
        }
        let asks = settings.volunteer || named.iter().any(|named| named.record.is_none());
        if !alone && asks && settings.trackers.is_empty() {
            let what = "tracker";
            return Err(wrong(what, &"none is given to ask for records and alarms"));
        }
        let uplink = match settings.upload.as_str() {
            "" => Uplink::unlimited(),
            rate => Uplink::new(parse_rate(rate).map_err(|error| wrong("upload", &error))?),
        };
        let disk_max = match settings.disk.as_str() {
            "" => 0,
            size => parse_bytes(size).map_err(|error| wrong("disk", &error))?,
        };
        let allow_net = settings
            .allow_net
            .iter()
            .map(|net| net.parse::<IpNet>().map_err(|error| wrong(net, &error)))
            .collect::<Result<_, _>>()?;
        let anywhere = match alone {
            true => Ipv4Addr::LOCALHOST,
            false => Ipv4Addr::UNSPECIFIED,
        };
        Ok(Self {
            uplink,
            policy: AddressPolicy { allow_net },
            disk_max,
            pins,
            named,
            peer_listen: settings.peer_listen.unwrap_or((anywhere, 0).into()),
            store: settings.store.clone().or_else(default_store),
        })
    }
}

fn default_store() -> Option<PathBuf> {
    std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))
        .map(|dir| dir.join("webseed-bridge"))
}

/// Runs until a signal; a second one ends the process at once.
pub(crate) async fn run(settings: Settings, plan: Plan, json: bool) -> Result<(), RunError> {
    let shutdown = CancellationToken::new();
    let result = serve(&settings, plan, json, &shutdown).await;
    shutdown.cancel();
    result
}

async fn serve(
    settings: &Settings,
    plan: Plan,
    json: bool,
    shutdown: &CancellationToken,
) -> Result<(), RunError> {
    let node_config = NodeConfig {
        listen: plan.peer_listen,
        uplink: plan.uplink,
        policy: plan.policy,
        ..NodeConfig::default()
    };
    // Listeners close first, so that answers under way can still read.
    let node_shutdown = CancellationToken::new();
    let _ends_node = node_shutdown.clone().drop_guard();
    let node = Node::start(node_config, node_shutdown.clone()).await?;
    let bridge_config = BridgeConfig {
        listen: settings.listen,
        domain: settings.domain.clone(),
        any_host: settings.root.is_some(),
        http: settings.http,
        join: JoinConfig {
            store: plan.store.as_ref().map(|dir| dir.join("bundles")),
            trackers: settings.trackers.clone(),
            peers: settings.peers.clone(),
            offer: settings.root.is_none(),
            disk_max: plan.disk_max,
        },
    };
    let bridge = Bridge::start(bridge_config, node.clone(), shutdown.clone()).await?;
    let tasks = TaskTracker::new();
    let mut scratch = None;
    if let Some(root) = &settings.root {
        let work = match &settings.store {
            Some(dir) => dir.clone(),
            None => {
                let dir = tempfile::Builder::new().prefix("webseed-bridge-").tempdir();
                let dir = dir.map_err(|source| RunError::File {
                    path: std::env::temp_dir().display().to_string(),
                    source,
                })?;
                scratch.insert(dir).path().to_owned()
            }
        };
        carry_folder(&bridge, &node, root, &work).await?;
    } else {
        let dns = settings.dns.map_or_else(Dns::system, Dns::at);
        let dns = match (dns, settings.dns) {
            (Err(error), Some(_)) => return Err(RunError::Setting(error.to_string())),
            (Err(error), None) => {
                tracing::info!(%error, "sites are not asked in DNS whom they let carry them");
                None
            }
            (Ok(dns), _) => Some(dns),
        };
        let source = SiteSource::new(
            node.http().clone(),
            settings.trackers.clone(),
            plan.pins,
            plan.store.map(|dir| dir.join("trust")),
            dns,
        );
        if settings.volunteer {
            let only = plan.named.into_iter().map(|named| named.site);
            let volunteer = Volunteer::new(bridge.clone(), source, settings.lease, only);
            tasks.spawn(volunteer.run(shutdown.clone()));
        } else {
            carry_sites(&bridge, &source, plan.named, &tasks, shutdown).await?;
        }
    }
    say_listening(&bridge, &node, json);
    until_signal(shutdown).await;
    shutdown.cancel();
    bridge.join().await;
    tasks.close();
    tasks.wait().await;
    node_shutdown.cancel();
    // Trackers get a moment to hear that we leave.
    let _ = tokio::time::timeout(settings.http.drain, node.join()).await;
    drop(scratch);
    Ok(())
}

async fn carry_folder(
    bridge: &BridgeHandle,
    node: &Node,
    root: &Path,
    work: &Path,
) -> Result<(), RunError> {
    let site = SiteName::parse("localhost").expect("localhost is a host");
    let published = publish_folder(site, root, work).await?;
    Ok(carry_published(bridge, node, published).await?)
}

/// Carries the sites named, and goes on looking for newer records of them. A record that the
/// operator gave must be right at once; what a tracker has may come later.
async fn carry_sites(
    bridge: &BridgeHandle,
    source: &SiteSource,
    named: Vec<Named>,
    tasks: &TaskTracker,
    shutdown: &CancellationToken,
) -> Result<(), RunError> {
    let first = Arc::new(tokio::sync::Semaphore::new(0));
    let count = named.len();
    for named in named {
        if let Some(file) = &named.record {
            let bytes = std::fs::read(file).map_err(|source| RunError::File {
                path: file.display().to_string(),
                source,
            })?;
            source.accept(&named.site, &bytes)?;
        }
        let (bridge, source, first) = (bridge.clone(), source.clone(), first.clone());
        let shutdown = shutdown.clone();
        tasks.spawn(async move {
            carry_named(&bridge, &source, &named, shutdown, || first.add_permits(1)).await;
        });
    }
    let all = u32::try_from(count).unwrap_or(u32::MAX);
    tokio::select! {
        _ = first.acquire_many(all) => {}
        () = tokio::time::sleep(FIRST_RECORDS) => {}
        () = shutdown.cancelled() => {}
    }
    Ok(())
}

fn say_listening(bridge: &BridgeHandle, node: &Node, json: bool) {
    let (http, peer) = (bridge.addr(), node.listen_addr());
    let mut out = std::io::stdout().lock();
    // A reader that went away is no reason to stop serving.
    let _ = if json {
        let event = json!({ "event": "listening", "http": http, "peer": peer });
        writeln!(out, "{event}")
    } else {
        writeln!(out, "serving http://{http}/, peers at {peer}")
    };
    let _ = out.flush();
}

async fn until_signal(shutdown: &CancellationToken) {
    let signals = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    );
    let (Ok(mut interrupt), Ok(mut terminate)) = signals else {
        tracing::warn!("signals cannot be heard");
        return shutdown.cancelled().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    tracing::info!("stopping; a second signal stops at once");
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        std::process::exit(1);
    });
}
