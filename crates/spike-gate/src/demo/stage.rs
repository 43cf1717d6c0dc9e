//! All hosts of the demo: the site's own with origin, gate, tracker and seed on one line, and the
//! volunteers, each with a line of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use swarm_peer::uplink::Uplink;
use swarm_peer::{Node, NodeConfig, NodeError};
use swarm_proto::manifest::SiteManifest;
use swarm_tracker::{Tracker, TrackerConfig, TrackerError};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::crowd::Hosts;
use super::origin;
use super::relay::relay;
use super::volunteers::{Volunteer, VolunteerError, policy};
use crate::gate::{Gate, GateConfig, GateError, GateHandle, Parts};
use crate::tracker::TrackerLink;

/// The line of the site's own host, bits per second.
pub(super) const ORIGIN_UPLINK: u64 = 8_000_000;

/// The line of each volunteer, bits per second.
pub(super) const VOLUNTEER_UPLINK: u64 = 40_000_000;

/// Share of the site's line that the seed gets while volunteers fetch.
const SEED_SHARE: f64 = 0.6;

/// Volunteer bridges.
pub(super) const VOLUNTEERS: usize = 4;

/// Why the demo cannot be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StageError {
    /// No free port on loopback.
    #[error("no port on loopback")]
    Port(#[from] std::io::Error),
    /// The tracker.
    #[error(transparent)]
    Tracker(#[from] TrackerError),
    /// The seed.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The gate.
    #[error(transparent)]
    Gate(#[from] GateError),
    /// An address that is none.
    #[error(transparent)]
    Url(#[from] url::ParseError),
    /// The folder could not be published; the log says why.
    #[error("{} could not be published", .0.display())]
    Publish(PathBuf),
    /// A volunteer.
    #[error(transparent)]
    Volunteer(#[from] VolunteerError),
}

/// Everything that runs.
pub(super) struct Stage {
    gate: GateHandle,
    manifest: Arc<SiteManifest>,
    uplink: Uplink,
    tracker: SocketAddr,
    root: PathBuf,
    host: String,
    volunteers: Vec<Volunteer>,
    shutdown: CancellationToken,
}

/// The origin with nothing before it.
pub(super) struct Bare {
    /// Its front page.
    pub home: Url,
    /// Its line.
    pub uplink: Uplink,
    stop: CancellationToken,
}

async fn bind() -> std::io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let addr = listener.local_addr()?;
    Ok((listener, addr))
}

impl Stage {
    /// Starts the site's host, publishes `root` as `host`, and starts the volunteers.
    ///
    /// # Errors
    /// [`StageError`].
    pub(super) async fn open(
        root: &Path,
        host: &str,
        temp: &Path,
        shutdown: CancellationToken,
    ) -> Result<Self, StageError> {
        let uplink = Uplink::new(ORIGIN_UPLINK);
        // Gate and origin share a machine: what passes between them is on no line.
        let (inner, inner_addr) = bind().await?;
        let unlimited = Uplink::unlimited();
        tokio::spawn(origin::serve(
            inner,
            root.to_owned(),
            unlimited,
            shutdown.clone(),
        ));

        let config = TrackerConfig {
            http: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))],
            udp: Some(Vec::new()),
            ..TrackerConfig::default()
        };
        let handle = Tracker::start(config, shutdown.clone()).await?;
        let (outer, tracker) = bind().await?;
        let lane = uplink.lane(1.0);
        tokio::spawn(relay(outer, handle.http_addr(), lane, shutdown.clone()));
        let announce = format!("http://{tracker}/announce");

        let node = NodeConfig {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            uplink: uplink.clone(),
            policy: policy(),
            ..NodeConfig::default()
        };
        let node = Node::start(node, shutdown.clone()).await?;
        let (listener, addr) = bind().await?;
        let origin = Url::parse(&format!("http://{inner_addr}/"))?;
        let mut config = GateConfig::new(origin, temp.join("gate"), ORIGIN_UPLINK);
        config.site = Some(Url::parse(&format!("http://{host}:{}/", addr.port()))?);
        config.root = Some(root.to_owned());
        // A wave of minutes in half a minute: the gate decides sooner than it would elsewhere.
        config.overload.warm_after = Duration::from_secs(1);
        config.overload.spike_after = Duration::from_secs(2);
        config.overload.spike_within = Duration::from_secs(4);
        config.seed_share = SEED_SHARE;
        let parts = Parts {
            node,
            tracker: TrackerLink::Embedded {
                handle,
                announce: announce.clone(),
            },
            listener: Some(listener),
        };
        let gate = Gate::start(config, parts, shutdown.clone()).await?;
        let published = gate.published().await;
        let manifest = published.ok_or_else(|| StageError::Publish(root.to_owned()))?;

        let mut volunteers = Vec::with_capacity(VOLUNTEERS);
        for number in 1..=VOLUNTEERS {
            let dir = temp.join(format!("volunteer-{number}"));
            let line = Uplink::new(VOLUNTEER_UPLINK);
            let site = (gate.site().clone(), gate.root_key());
            let (tracker, stop) = (announce.clone(), shutdown.clone());
            volunteers.push(Volunteer::start(site, tracker, &dir, line, stop).await?);
        }
        Ok(Self {
            gate,
            manifest,
            uplink,
            tracker,
            root: root.to_owned(),
            host: host.to_owned(),
            volunteers,
            shutdown,
        })
    }

    /// What was signed.
    pub(super) fn manifest(&self) -> &SiteManifest {
        &self.manifest
    }

    /// The front page, behind the gate.
    pub(super) fn home(&self) -> &Url {
        self.gate.url()
    }

    /// The gate.
    pub(super) fn gate(&self) -> &GateHandle {
        &self.gate
    }

    /// The origin alone, on a line like the site's and with nothing else on it.
    ///
    /// # Errors
    /// [`StageError::Port`].
    pub(super) async fn bare(&self) -> Result<Bare, StageError> {
        let (listener, addr) = bind().await?;
        let uplink = Uplink::new(ORIGIN_UPLINK);
        let stop = self.shutdown.child_token();
        tokio::spawn(origin::serve(
            listener,
            self.root.clone(),
            uplink.clone(),
            stop.clone(),
        ));
        Ok(Bare {
            home: Url::parse(&format!("http://{}:{}/", self.host, addr.port()))?,
            uplink,
            stop,
        })
    }

    /// The lines to watch.
    pub(super) fn hosts(&self) -> Hosts {
        let gate = self.gate.clone();
        Hosts {
            origin: self.uplink.clone(),
            volunteers: self
                .volunteers
                .iter()
                .map(|one| one.uplink.clone())
                .collect(),
            state: Box::new(move || gate.state().as_str()),
        }
    }

    /// Bytes the site's host sent to other peers, the tracker's answers included.
    pub(super) fn seeded_bytes(&self) -> u64 {
        self.gate.swarm_bytes()
    }

    /// One line about what was published.
    pub(super) fn summary(&self) -> String {
        let files = self.manifest.files.len();
        let bytes: u64 = self
            .manifest
            .bundles
            .iter()
            .map(|bundle| bundle.length)
            .sum();
        format!(
            "{files} files, {} bundles of {:.1} MB in all, signed by {}",
            self.manifest.bundles.len(),
            bytes as f64 / 1e6,
            self.gate.root_key()
        )
    }

    /// What can be opened in a browser.
    pub(super) fn addresses(&self) -> Vec<String> {
        let mut lines = vec![
            format!("the site, through its gate   {}", self.gate.url()),
            format!("the tracker's own page       http://{}/", self.tracker),
        ];
        for (number, volunteer) in self.volunteers.iter().enumerate() {
            let url = volunteer.url(self.gate.site());
            lines.push(format!("the site, from volunteer {}   {url}", number + 1));
        }
        lines
    }

    /// Ends all of it.
    pub(super) async fn close(self) {
        self.shutdown.cancel();
    }
}

impl Bare {
    /// Ends it.
    pub(super) fn close(self) {
        self.stop.cancel();
    }
}
