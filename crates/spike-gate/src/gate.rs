//! [`Gate`]: listener, detector, site and bridges put together.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Serialize;
use swarm_peer::Node;
use swarm_peer::http::chain;
use swarm_peer::publish::{KeyStore, PublishError};
use swarm_proto::manifest::{PublicKey, SiteManifest, SiteName};
use tokio::net::TcpListener;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;

use crate::divert::{Frontage, Shared};
use crate::front::Front;
use crate::meter::{GateStats, Meter};
use crate::overload::{OverloadConfig, OverloadDetector, State, Verdict};
use crate::proxy::{Proxy, Upstream};
use crate::pulse::Sampler;
use crate::serve::{Bounds, Lanes, serve};
use crate::site::{Folders, Site, unix_now};
use crate::tracker::TrackerLink;
use crate::watch::{Pace, watch as watch_bridges};
use crate::wellknown::{WellKnown, join_page};

/// What a gate needs to know.
#[derive(Debug, Clone)]
pub struct GateConfig {
    /// Where visitors are answered. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// The site's own server.
    pub origin: Url,
    /// The site's address as visitors see it; `None`: `http://` and the listening address.
    pub site: Option<Url>,
    /// The folder that the origin serves. Without one nothing can be carried by others.
    pub root: Option<PathBuf>,
    /// Where keys, torrents and compressed variants are kept.
    pub state_dir: PathBuf,
    /// What the site's line carries, in bits per second.
    pub plan_rate: u64,
    /// Only log what would be diverted.
    pub shadow: bool,
    /// Whether rewritten pages carry the invitation.
    pub banner: bool,
    /// Path prefixes (percent-encoded, `/private/`) whose files stay home.
    pub keep: Vec<String>,
    /// Share of the line that is the seed's, as far as it needs it, while volunteers fetch in
    /// warming, 0 to below 1; more in a spike without bridges, less with them. Default 0.5: more brings
    /// relief sooner, and makes visitors wait longer until then.
    pub seed_share: f64,
    /// How long a request for something large waits, while the line is full, for its turn or a
    /// bridge before it is served all the same. Default 8 s.
    pub patience: Duration,
    /// How long one alarm holds; it is renewed at half of it. Default 10 min.
    pub alarm_for: Duration,
    /// When a spike begins and ends.
    pub overload: OverloadConfig,
    /// Patience with the origin.
    pub upstream: UpstreamConfig,
    /// Bounds of the listener.
    pub bounds: Bounds,
    /// How often to look after bridges.
    pub pace: Pace,
}

/// Patience with the origin; see [`Upstream`].
#[derive(Debug, Clone, Copy)]
pub struct UpstreamConfig {
    /// To a connection. Default 5 s.
    pub connect_timeout: Duration,
    /// To the head of an answer. Default 60 s.
    pub head_timeout: Duration,
    /// Between two parts of a body. Default 60 s.
    pub idle_timeout: Duration,
    /// Idle connections kept. Default 64.
    pub idle_max: usize,
    /// Believe `X-Forwarded-…` of whoever connects: another proxy stands before the gate.
    pub trust_forwarded: bool,
}

impl Default for UpstreamConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            head_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(60),
            idle_max: 64,
            trust_forwarded: false,
        }
    }
}

impl GateConfig {
    /// The defaults, with what has none.
    pub fn new(origin: Url, state_dir: impl Into<PathBuf>, plan_rate: u64) -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            origin,
            site: None,
            root: None,
            state_dir: state_dir.into(),
            plan_rate,
            shadow: false,
            banner: true,
            keep: Vec::new(),
            seed_share: 0.5,
            patience: Duration::from_secs(8),
            alarm_for: Duration::from_secs(600),
            overload: OverloadConfig::default(),
            upstream: UpstreamConfig::default(),
            bounds: Bounds {
                connections_max: 8192,
                head_timeout: Duration::from_secs(10),
                write_timeout: Duration::from_secs(60),
                drain: Duration::from_secs(10),
            },
            pace: Pace {
                ask_every: Duration::from_secs(2),
                knock_every: Duration::from_secs(1),
            },
        }
    }
}

/// What a gate works with.
pub struct Parts {
    /// The seed. Visitors are answered over its uplink, so that one limit holds for both.
    pub node: Node,
    /// Where the site is registered and bridges are learnt of.
    pub tracker: TrackerLink,
    /// A listener for visitors, where one is open already; else [`GateConfig::listen`] is opened.
    pub listener: Option<TcpListener>,
}

/// Why a gate does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GateError {
    /// The address is taken, or not ours.
    #[error("cannot listen on {addr}: {source}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The configuration contradicts itself.
    #[error("{0}")]
    Config(String),
    /// The folder to publish cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Root {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The site's keys cannot be used.
    #[error(transparent)]
    Keys(#[from] PublishError),
}

/// What happens to a gate.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum GateEvent {
    /// The state moved.
    State {
        /// From where.
        from: State,
        /// To where.
        to: State,
        /// The greatest pressure.
        pressure: f64,
        /// The signals' readings.
        why: Vec<crate::overload::Reading>,
    },
    /// The folder is published, seeded and registered.
    Published {
        /// Sequence of the manifest.
        sequence: u64,
        /// Files in it.
        files: usize,
        /// Bundles in it.
        bundles: usize,
    },
    /// The folder could not be published; the gate passes everything to the origin.
    PublishFailed {
        /// Why.
        error: String,
    },
}

/// Starts gates.
#[derive(Debug)]
pub struct Gate;

/// A running gate. Cheap to clone; it runs until the token given at its start is cancelled.
#[derive(Clone)]
pub struct GateHandle {
    inner: Arc<Inner>,
}

struct Inner {
    addr: SocketAddr,
    url: Url,
    name: SiteName,
    root_key: PublicKey,
    shared: Arc<Shared>,
    node: Node,
    verdict: watch::Receiver<Verdict>,
    manifest: watch::Receiver<Option<Arc<SiteManifest>>>,
    events: broadcast::Sender<GateEvent>,
    tasks: TaskTracker,
    known: Arc<WellKnown>,
}

impl Gate {
    /// Listens at once and passes everything on; publishes, seeds and registers behind that. See
    /// [`GateHandle::published`].
    ///
    /// # Errors
    /// [`GateError`]; nothing is left running then.
    pub async fn start(
        config: GateConfig,
        parts: Parts,
        shutdown: CancellationToken,
    ) -> Result<GateHandle, GateError> {
        config.overload.check().map_err(GateError::Config)?;
        if !(0.0..1.0).contains(&config.seed_share) {
            return Err(GateError::Config(
                "seed_share must be at least 0 and below 1".into(),
            ));
        }
        if let Some(root) = &config.root {
            std::fs::read_dir(root).map_err(|source| GateError::Root {
                path: root.clone(),
                source,
            })?;
        }
        let Parts {
            node,
            tracker,
            listener,
        } = parts;
        let (listener, addr) = listen(listener, config.listen).await?;
        let url = match &config.site {
            Some(url) => url.clone(),
            None => Url::parse(&format!("http://{addr}/"))
                .map_err(|error| GateError::Config(error.to_string()))?,
        };
        let name = SiteName::of(&url).map_err(|error| GateError::Config(error.to_string()))?;
        let folders = Folders {
            root: config.root.clone().unwrap_or_default(),
            out: config.state_dir.join("published").join(name.label()),
            keys: config.state_dir.join("keys").join(name.label()),
        };
        let keys = KeyStore::open(&folders.keys, &name, unix_now())?;
        let root_key = *keys
            .root()
            .ok_or_else(|| GateError::Config("the site has no root key".into()))?;
        let upstream = Upstream {
            origin: config.origin.clone(),
            connect_timeout: config.upstream.connect_timeout,
            head_timeout: config.upstream.head_timeout,
            idle_timeout: config.upstream.idle_timeout,
            idle_max: config.upstream.idle_max,
            trust_forwarded: config.upstream.trust_forwarded,
        };
        let proxy = Proxy::new(upstream).map_err(GateError::Config)?;
        let invitation = url.join("/.well-known/swarm/join").ok();
        let frontage = Frontage {
            site: url.clone(),
            keep: config.keep.clone(),
            invitation: invitation.map(String::from).filter(|_| config.banner),
        };
        let shared = Arc::new(Shared::new(frontage, Arc::new(Meter::default())));
        let known = Arc::new(WellKnown::default());
        known.change(|said| {
            said.keys = Some(Bytes::from(keys.chain().to_bytes()));
            let announce = tracker.announce_url();
            said.join = Some(join_page(name.as_str(), &announce, &root_key.to_string()));
        });
        let front = Arc::new(Front {
            proxy,
            shared: shared.clone(),
            known: known.clone(),
            shadow: config.shadow,
            patience: config.patience,
        });
        tracker.pin(&name, &root_key).await;

        let (events, _) = broadcast::channel(64);
        let tasks = TaskTracker::new();
        let lanes = Lanes {
            small: node.uplink().lane(1.0),
            large: node.uplink().lane(1.0),
        };
        tasks.spawn(serve(
            listener,
            front,
            config.bounds,
            lanes.clone(),
            shutdown.clone(),
        ));
        let detector =
            OverloadDetector::new(config.overload.clone(), config.plan_rate, Instant::now());
        let calm = Verdict {
            state: State::Calm,
            from: None,
            pressure: 0.0,
            readings: Vec::new(),
        };
        let (verdict, verdicts) = watch::channel(calm);
        let (state, states) = watch::channel(State::Calm);
        let sampler = Sampler {
            detector,
            shared: shared.clone(),
            uplink: node.uplink().clone(),
            lanes,
            config: config.clone(),
            events: events.clone(),
            verdict,
            state,
        };
        until(&tasks, &shutdown, sampler.run());
        let bridges = watch_bridges(
            shared.clone(),
            tracker.clone(),
            node.http().clone(),
            name.clone(),
            config.pace,
        );
        until(&tasks, &shutdown, bridges);
        let (manifest, manifests) = watch::channel(None);
        if config.root.is_some() {
            let site = Site {
                name: name.clone(),
                url: url.clone(),
                folders,
                keys,
                node: node.clone(),
                tracker,
                known: known.clone(),
                shared: shared.clone(),
                alarm_for: config.alarm_for,
            };
            until(
                &tasks,
                &shutdown,
                carry(site, states, manifest, events.clone()),
            );
        }
        tasks.close();
        let inner = Inner {
            addr,
            url,
            name,
            root_key,
            shared,
            node,
            verdict: verdicts,
            manifest: manifests,
            events,
            tasks,
            known,
        };
        Ok(GateHandle {
            inner: Arc::new(inner),
        })
    }
}

async fn listen(
    listener: Option<TcpListener>,
    addr: SocketAddr,
) -> Result<(TcpListener, SocketAddr), GateError> {
    let failed = |source| GateError::Listen { addr, source };
    let listener = match listener {
        Some(listener) => listener,
        None => TcpListener::bind(addr).await.map_err(failed)?,
    };
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

fn until(
    tasks: &TaskTracker,
    shutdown: &CancellationToken,
    work: impl Future<Output = ()> + Send + 'static,
) {
    let shutdown = shutdown.clone();
    tasks.spawn(async move {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = work => {}
        }
    });
}

/// Publishes, then keeps stamp and alarm.
async fn carry(
    site: Site,
    states: watch::Receiver<State>,
    manifest: watch::Sender<Option<Arc<SiteManifest>>>,
    events: broadcast::Sender<GateEvent>,
) {
    let published = match site.publish().await {
        Ok(published) => Arc::new(published),
        Err(error) => {
            let error = chain(&error);
            tracing::error!(%error, "not published; everything goes to the origin");
            // Nobody listening is no error.
            let _ = events.send(GateEvent::PublishFailed { error });
            return;
        }
    };
    let _ = events.send(GateEvent::Published {
        sequence: published.sequence,
        files: published.files.len(),
        bundles: published.bundles.len(),
    });
    let sequence = published.sequence;
    manifest.send_replace(Some(published));
    tokio::join!(site.keep_stamped(), site.keep_alarm(states, sequence));
}

impl GateHandle {
    /// Where visitors are answered.
    pub fn addr(&self) -> SocketAddr {
        self.inner.addr
    }

    /// The site's address.
    pub fn url(&self) -> &Url {
        &self.inner.url
    }

    /// The site's name.
    pub fn site(&self) -> &SiteName {
        &self.inner.name
    }

    /// The site's root key, which trackers and volunteers pin.
    pub fn root_key(&self) -> PublicKey {
        self.inner.root_key
    }

    /// The seed.
    pub fn node(&self) -> &Node {
        &self.inner.node
    }

    /// Where the gate stands.
    pub fn state(&self) -> State {
        self.inner.shared.state()
    }

    /// The detector's last word, with its reasons.
    pub fn verdict(&self) -> Verdict {
        self.inner.verdict.borrow().clone()
    }

    /// What left by which way.
    pub fn stats(&self) -> GateStats {
        self.inner.shared.meter().stats()
    }

    /// Bytes the seed and everything else on the uplink sent, visitors apart.
    pub fn swarm_bytes(&self) -> u64 {
        let sent = self.inner.node.uplink().sent_total();
        sent.saturating_sub(self.inner.shared.meter().passed())
    }

    /// Files published; 0 before the first publish.
    pub fn files(&self) -> usize {
        self.inner.shared.assets().len()
    }

    /// Bridges that visitors may be sent to, by their address.
    pub fn bridges(&self) -> Vec<String> {
        self.inner
            .shared
            .bridges()
            .iter()
            .map(|bridge| bridge.prefix.clone())
            .collect()
    }

    /// Waits until the folder is published, seeded and registered. `None` if that failed, or
    /// there is no folder.
    pub async fn published(&self) -> Option<Arc<SiteManifest>> {
        let mut manifest = self.inner.manifest.clone();
        manifest.wait_for(Option::is_some).await.ok()?.clone()
    }

    /// The site record as it is served now: keys, manifest and the newest stamp.
    pub fn record(&self) -> Option<Bytes> {
        self.inner.known.record()
    }

    /// What happens from now on.
    pub fn events(&self) -> broadcast::Receiver<GateEvent> {
        self.inner.events.subscribe()
    }

    /// Waits, after the shutdown token was cancelled, until the last answer has ended.
    pub async fn join(&self) {
        self.inner.tasks.wait().await;
    }
}

impl std::fmt::Debug for GateHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GateHandle")
            .field("addr", &self.addr())
            .finish_non_exhaustive()
    }
}
