//! [`Bridge`]: the listener, the sites and their swarms put together.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use swarm_peer::Node;
use swarm_proto::manifest::{SiteManifest, SiteName, SiteRecord};
use swarm_proto::tracker::BridgeOffer;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::BridgeConfig;
use crate::error::StartError;
use crate::invitation::Invitation;
use crate::join::Joiner;
use crate::respond::{Patience, Responder};
use crate::serve::{Bounds, OpenCount, serve};
use crate::site::{Edition, Site, Standing};
use crate::sites::Sites;
use crate::stats::{BridgeStats, SiteCount};

/// Starts bridges.
#[derive(Debug)]
pub struct Bridge;

/// A site to carry: a manifest that somebody verified, and on what terms.
#[derive(Debug, Clone)]
pub struct Carry {
    /// The manifest. This is where trust ends: whoever fills it in has checked its signatures.
    pub manifest: SiteManifest,
    /// When the record that vouches for it ends, in Unix seconds.
    pub fresh_until: u64,
    /// Whether visitors are served.
    pub standing: Standing,
    /// A URL of the site itself, where visitors are sent home to.
    pub home: Option<String>,
}

impl Carry {
    /// A site that the operator named, from a record and what opening it gave.
    pub fn named(record: &SiteRecord, manifest: SiteManifest, home: Option<String>) -> Self {
        Self {
            fresh_until: fresh_until(record, &manifest),
            manifest,
            standing: Standing::Named,
            home,
        }
    }
}

/// When what a record says ends: with the manifest or, where it needs one, with the stamp.
pub fn fresh_until(record: &SiteRecord, manifest: &SiteManifest) -> u64 {
    match &record.stamp {
        Some(stamp) if manifest.stamped => manifest.expires.min(stamp.claimed().expires),
        _ => manifest.expires,
    }
}

/// A running bridge. Cheap to clone; it runs until the token given at its start is cancelled.
#[derive(Clone)]
pub struct BridgeHandle {
    shared: Arc<Shared>,
}

struct Shared {
    addr: SocketAddr,
    sites: Arc<Sites>,
    joiner: Joiner,
    invitation: Option<Arc<Invitation>>,
    open: OpenCount,
    tasks: TaskTracker,
    /// Of sites that were left.
    past_hits: AtomicU64,
    past_bytes: AtomicU64,
    /// One change of what is carried at a time.
    changing: tokio::sync::Mutex<()>,
    linger: std::time::Duration,
}

impl Bridge {
    /// Listens, and serves what [`BridgeHandle::add_site`] adds until `shutdown`. HTTP answers
    /// draw on the node's uplink, so that one limit holds for both.
    ///
    /// # Errors
    /// [`StartError::Listen`].
    pub async fn start(
        config: BridgeConfig,
        node: Node,
        shutdown: CancellationToken,
    ) -> Result<BridgeHandle, StartError> {
        Self::starting(config, node, shutdown).await
    }

    /// In a box, so that all of a bridge is compiled here, and not once more in each program that
    /// starts one.
    fn starting(
        config: BridgeConfig,
        node: Node,
        shutdown: CancellationToken,
    ) -> Pin<Box<dyn Future<Output = Result<BridgeHandle, StartError>> + Send>> {
        Box::pin(Self::listen(config, node, shutdown))
    }

    async fn listen(
        config: BridgeConfig,
        node: Node,
        shutdown: CancellationToken,
    ) -> Result<BridgeHandle, StartError> {
        let failed = |source| StartError::Listen {
            addr: config.listen,
            source,
        };
        let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
        let addr = listener.local_addr().map_err(failed)?;
        let invitation = config
            .join
            .offer
            .then(|| Arc::new(Invitation::new(&config.join.trackers)));
        let offer = invitation.as_ref().map(|invitation| BridgeOffer {
            domain: (!config.domain.is_empty()).then(|| config.domain.clone()),
            key: Some(invitation.key()),
            ..BridgeOffer::new(addr.port())
        });
        let sites = Arc::new(Sites::new(&config.domain, config.any_host));
        let patience = Patience {
            first_byte: config.http.first_byte_timeout,
            stall: config.http.stall_timeout,
        };
        let bounds = Bounds {
            connections_max: config.http.connections_max,
            head_timeout: config.http.head_timeout,
            write_timeout: config.http.write_timeout,
            drain: config.http.drain,
        };
        let responder = Arc::new(Responder::new(
            sites.clone(),
            patience,
            config.http.cache_max,
            invitation.clone(),
        ));
        let uplink = node.uplink().clone();
        let open = OpenCount::default();
        let tasks = TaskTracker::new();
        tasks.spawn(serve(
            listener,
            responder,
            bounds,
            uplink,
            open.clone(),
            shutdown,
        ));
        Ok(BridgeHandle {
            shared: Arc::new(Shared {
                addr,
                sites,
                joiner: Joiner::new(node, config.join, offer),
                invitation,
                open,
                tasks,
                past_hits: AtomicU64::new(0),
                past_bytes: AtomicU64::new(0),
                changing: tokio::sync::Mutex::default(),
                linger: config.http.stall_timeout,
            }),
        })
    }
}

impl BridgeHandle {
    /// Where it answers.
    pub fn addr(&self) -> SocketAddr {
        self.shared.addr
    }

    /// The site, if it is carried.
    pub fn site(&self, name: &SiteName) -> Option<Arc<Site>> {
        self.shared.sites.get(name)
    }

    /// Carries a site, or a newer manifest of one that is carried: joins its bundles and serves
    /// it at once. Bundles that only the older manifest had are left once answers under way had
    /// time to end.
    ///
    /// # Errors
    /// [`StartError::SitesFull`], [`StartError::Older`], [`StartError::Join`]. Nothing has
    /// changed then.
    pub async fn add_site(&self, carry: Carry) -> Result<(), StartError> {
        let shared = &self.shared;
        let _changing = shared.changing.lock().await;
        let manifest = carry.manifest;
        let known = shared.sites.get(&manifest.site);
        if let Some(site) = &known {
            let held = site.edition().manifest().sequence;
            if manifest.sequence < held {
                return Err(StartError::Older {
                    site: manifest.site.to_string(),
                    held,
                    got: manifest.sequence,
                });
            }
        } else if !shared.sites.has_room() {
            return Err(StartError::SitesFull);
        }
        if let Some(invitation) = &shared.invitation {
            invitation.extend_by(&manifest);
        }
        let bundles = shared.joiner.join(&manifest).await?;
        let edition = Edition::new(manifest, bundles, carry.fresh_until);
        match known {
            Some(site) => {
                site.set_standing(carry.standing, carry.home.as_deref());
                let old = site.replace_edition(edition);
                let (shared, linger) = (shared.clone(), shared.linger);
                // Dropped with the runtime at shutdown; the node leaves all swarms itself then.
                tokio::spawn(async move {
                    tokio::time::sleep(linger).await;
                    shared.joiner.leave(old.manifest());
                });
                Ok(())
            }
            None => {
                let site = Site::new(edition, carry.standing, carry.home.as_deref());
                shared.sites.insert(Arc::new(site))
            }
        }
    }

    /// Takes note of a site's alarm or its end. `home` is a URL of the site; another's is not
    /// taken.
    pub fn set_standing(&self, name: &SiteName, standing: Standing, home: Option<&str>) {
        if let Some(site) = self.site(name) {
            site.set_standing(standing, home);
        }
    }

    /// Tells trackers that visitors of a site may be sent here, which is so from the start where
    /// [`crate::config::JoinConfig::offer`] says so, or no longer.
    pub fn offer_site(&self, name: &SiteName, offered: bool) {
        if let Some(site) = self.site(name) {
            let edition = site.edition();
            self.shared.joiner.offer(edition.manifest(), offered);
        }
    }

    /// Stops serving a site and leaves its swarms.
    pub async fn remove_site(&self, name: &SiteName) {
        let shared = &self.shared;
        let _changing = shared.changing.lock().await;
        if let Some(site) = shared.sites.remove(name) {
            shared
                .past_hits
                .fetch_add(site.stats().hits(), Ordering::Relaxed);
            shared
                .past_bytes
                .fetch_add(site.stats().bytes(), Ordering::Relaxed);
            shared.joiner.leave(site.edition().manifest());
        }
    }

    /// What was given so far.
    pub fn stats(&self) -> BridgeStats {
        let shared = &self.shared;
        let count = |site: &Arc<Site>| SiteCount {
            site: site.name().clone(),
            hits: site.stats().hits(),
            bytes: site.stats().bytes(),
            sent_home: site.stats().sent_home(),
        };
        let sites: Vec<_> = shared.sites.all().iter().map(count).collect();
        BridgeStats {
            hits: sites.iter().map(|site| site.hits).sum::<u64>()
                + shared.past_hits.load(Ordering::Relaxed),
            bytes_served: sites.iter().map(|site| site.bytes).sum::<u64>()
                + shared.past_bytes.load(Ordering::Relaxed),
            connections: shared.open.get(),
            sites,
        }
    }

    /// Waits until the listener has closed and the last answer has ended.
    pub async fn join(&self) {
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }
}

impl std::fmt::Debug for BridgeHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BridgeHandle")
            .field("addr", &self.addr())
            .finish_non_exhaustive()
    }
}
