//! The second way in: a site that has installed nothing names us in DNS, and we copy, publish and
//! seed it for as long as visitors come (spec 0006, 10).
//!
//! ```text
//! visitor of an unknown site ─▶ consents, DNS ─▶ Carried ─┬─▶ pull ─▶ publish ─▶ seed, register
//!                                                         └─▶ alarm, while visitors come
//! ```

mod carried;
mod consents;
mod key;
mod pull;

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use swarm_peer::connector::AddressPolicy;
use swarm_peer::dns::{Dns, DnsError};
use swarm_peer::{Node, NodeConfig, NodeError};
use swarm_proto::manifest::{Consent, HomeUrl, PublicKey, SiteName, SitePath, consent_name};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::App;
use crate::config::OperatorConfig;
use crate::registry::{Moment, is_blocked_port};
use carried::Carried;
use consents::{Consents, May};
use key::OperatorKey;

/// Questions under way at a time.
const LOOKUPS_MAX: usize = 32;
/// Questions a second that visitors from one place can have us ask.
const LOOKUPS_PER_ADDRESS: u32 = 4;

/// Why sites cannot be carried.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OperatorError {
    /// The file of the key is of no use. The operator's fault, or this machine's.
    #[error("operator's key {}: {source}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: io::Error,
    },
    /// The announce URL is none.
    #[error("operator.announce: {0:?} is no http or https URL")]
    Announce(String),
    /// Nobody to ask for sites' records.
    #[error(transparent)]
    Dns(#[from] DnsError),
    /// The seed does not start.
    #[error("seed of the copies: {0}")]
    Node(#[from] NodeError),
    /// The folder of the copies cannot be used.
    #[error("copies in {}: {source}", path.display())]
    Dir {
        /// The folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

/// Carries sites.
#[derive(Debug)]
pub(crate) struct Operator {
    config: OperatorConfig,
    key: OperatorKey,
    /// Where the copies are.
    dir: PathBuf,
    /// By which volunteers know this tracker.
    own: SiteName,
    /// How visitors come to the public names: `http` or `https`.
    scheme: &'static str,
    dns: Dns,
    node: NodeOf,
    consents: Mutex<Consents>,
    lookups: Semaphore,
    carried: RwLock<HashMap<SiteName, Arc<Carried>>>,
    tasks: TaskTracker,
}

/// Sites that may be at home at one place: with and without `www`. Whoever names somebody else's
/// server as his own has it asked for no more than that.
const HOMES_MAX: usize = 2;

/// Whether a site may be at home there while others are at home where they are.
fn may_be_home(home: &HomeUrl, others: impl Iterator<Item = HomeUrl>) -> bool {
    let blocked = home.site().port().is_some_and(is_blocked_port);
    let same = others.filter(|other| other.site().host() == home.site().host());
    !blocked && same.count() < HOMES_MAX
}

/// A node has nothing to show.
struct NodeOf(Node);

impl std::fmt::Debug for NodeOf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Node").field(&self.0.listen_addr()).finish()
    }
}

impl Operator {
    /// Opens key and folder, and listens for peers.
    ///
    /// # Errors
    /// [`OperatorError`]; nothing is left running then.
    pub(crate) async fn start(
        config: OperatorConfig,
        state: &Path,
        secure: bool,
        shutdown: CancellationToken,
    ) -> Result<Self, OperatorError> {
        let own = SiteName::from_url(&config.announce)
            .map_err(|_| OperatorError::Announce(config.announce.clone()))?;
        let key_file = config.key.clone();
        let opened = tokio::task::spawn_blocking(move || OperatorKey::open(&key_file));
        let key = opened
            .await
            .expect("reading a key does not panic and is not cancelled")
            .map_err(|source| OperatorError::Key {
                path: config.key.clone(),
                source,
            })?;
        // Another key's copies are another operator's.
        let name = key.public.to_string();
        let dir = state.join("operator").join(name.get(..16).unwrap_or(&name));
        // Files are found again below their folder: no link or `..` may be in its name.
        let made = std::fs::create_dir_all(&dir).and_then(|()| std::fs::canonicalize(&dir));
        let dir = made.map_err(|source| OperatorError::Dir { path: dir, source })?;
        let dns = config.dns.map_or_else(Dns::system, Dns::at)?;
        let nets = config.allow_net.iter().map(|net| net.to_string().parse());
        let nets: Result<_, _> = nets.collect();
        let node = NodeConfig {
            listen: config.listen,
            policy: AddressPolicy {
                allow_net: nets.expect("a network that was read is written as it is read"),
            },
            state_dir: Some(dir.join("seed")),
            ..NodeConfig::default()
        };
        let node = Node::start(node, shutdown).await?;
        tracing::info!(operator = %key.public, peers = %node.listen_addr(), "carrying sites that name this operator in DNS");
        Ok(Self {
            config,
            key,
            dir,
            own,
            scheme: if secure { "https" } else { "http" },
            dns,
            node: NodeOf(node),
            consents: Mutex::new(Consents::new()),
            lookups: Semaphore::new(LOOKUPS_MAX),
            carried: RwLock::default(),
            tasks: TaskTracker::new(),
        })
    }

    /// By which sites name us.
    pub(crate) const fn public_key(&self) -> &PublicKey {
        &self.key.public
    }

    /// How many sites are carried.
    pub(crate) fn len(&self) -> usize {
        self.carried().len()
    }

    /// Takes up the sites that were carried before a restart, those of them that still consent.
    pub(crate) async fn resume(self: &Arc<Self>, app: &Arc<App>) {
        let names = match carried::names_in(&self.dir) {
            Ok(names) => names,
            Err(error) => {
                tracing::error!(dir = %self.dir.display(), %error, "copies cannot be read");
                return;
            }
        };
        for site in names {
            if app.registry().anchor(&site).is_none() {
                match self.consent_of(&site).await {
                    Ok((Some(consent), lasts)) => self.adopt(app, site, consent, lasts, true),
                    Ok((None, _)) => {
                        tracing::info!(%site, "consents no longer, its copy is left alone")
                    }
                    // Its first visitor asks again.
                    Err(error) => tracing::warn!(%site, %error, "not taken up"),
                }
            }
        }
    }

    /// Whether a site is carried, or is from now on because it consents.
    pub(crate) async fn hear(
        self: &Arc<Self>,
        app: &Arc<App>,
        site: &SiteName,
        visitor: IpAddr,
    ) -> bool {
        if self.carried().contains_key(site) {
            return true;
        }
        // One record is for all ports of its host; they are not as many sites.
        if self.is_own_name(site) || site.port().is_some() {
            return false;
        }
        let now = app.now();
        let cost = (app.per_address_rate / LOOKUPS_PER_ADDRESS).max(1);
        if self.consents().is_refused(now.elapsed, site) || !app.may_ask(now, visitor, cost) {
            return false;
        }
        match self.consents().may_ask(now.elapsed, site) {
            May::Ask => {}
            May::Refused => return false,
            May::TooMany => {
                app.metrics.consents_over_rate.add();
                return false;
            }
        }
        let Ok(_permit) = self.lookups.try_acquire() else {
            app.metrics.consents_over_rate.add();
            return false;
        };
        app.metrics.consents_asked.add();
        let refused_for = match self.consent_of(site).await {
            Ok((Some(consent), lasts)) => {
                self.adopt(app, site.clone(), consent, lasts, false);
                if self.carried().contains_key(site) {
                    return true;
                }
                carried::NO_ROOM
            }
            Ok((None, lasts)) => lasts.min(carried::ASK_AGAIN),
            Err(error) => {
                tracing::info!(%site, %error, "consent not known");
                carried::ASK_AGAIN_FAILED
            }
        };
        self.consents()
            .refuse(app.now().elapsed, site.clone(), refused_for);
        false
    }

    /// Whether a name can only be this tracker's: none that a site could have consented for.
    pub(crate) fn is_own_name(&self, name: &SiteName) -> bool {
        *name == self.own || consent_name(name).is_none()
    }

    /// Where a site that is carried is at home.
    pub(crate) fn home(&self, site: &SiteName) -> Option<HomeUrl> {
        self.carried().get(site).map(|carried| carried.home())
    }

    /// A visitor of a site has come, in vain for `missing`; by the site's own name if `hosted`.
    pub(crate) fn visited(
        &self,
        now: Moment,
        site: &SiteName,
        missing: Option<&SitePath>,
        hosted: bool,
    ) {
        if let Some(carried) = self.carried().get(site) {
            carried.visited(now.elapsed, missing, hosted);
        }
    }

    /// Waits until all that is under way has ended after the shutdown.
    pub(crate) async fn join(&self) {
        self.tasks.close();
        self.tasks.wait().await;
        self.node.0.join().await;
    }

    /// Whether a site that is carried may be at home there from now on.
    fn may_move(&self, site: &SiteName, home: &HomeUrl) -> bool {
        let carried = self.carried();
        let others = carried.iter().filter(|(other, _)| *other != site);
        may_be_home(home, others.map(|(_, carried)| carried.home()))
    }

    /// What a site says of us, and for how long that may be taken for true.
    async fn consent_of(&self, site: &SiteName) -> Result<(Option<Consent>, Duration), DnsError> {
        let answer = self.dns.consents(site).await?;
        let mut list = answer.list.into_iter();
        let ours = list.find(|one| one.operator == self.key.public);
        Ok((ours, answer.valid_for))
    }

    fn adopt(
        self: &Arc<Self>,
        app: &Arc<App>,
        site: SiteName,
        consent: Consent,
        valid_for: Duration,
        resumed: bool,
    ) {
        let mut carried = self.carried.write().unwrap_or_else(PoisonError::into_inner);
        if carried.contains_key(&site) {
            return;
        }
        if carried.len() >= self.config.sites_max {
            // When it is asked about again, there may be room.
            let quiet = carried.values().filter_map(|one| {
                let since = one.quiet_since(app.now().elapsed, self.config.quiet_after)?;
                Some((since, one))
            });
            if let Some((_, longest)) = quiet.min_by_key(|(since, _)| *since) {
                longest.make_way();
            }
            tracing::warn!(%site, "consents, but as many sites are carried as may be");
            return;
        }
        let homes = carried.values().map(|carried| carried.home());
        if !may_be_home(&consent.origin, homes) {
            tracing::warn!(%site, origin = %consent.origin, "consents, but cannot be at home there");
            return;
        }
        if !resumed && !self.consents().may_take_up(app.now().elapsed) {
            tracing::warn!(%site, "consents, but as many sites were taken up in this hour as may be");
            return;
        }
        tracing::info!(%site, origin = %consent.origin, "consents, and is carried from now on");
        let one = Arc::new(Carried::new(site.clone(), consent.origin));
        carried.insert(site, Arc::clone(&one));
        let (operator, app) = (Arc::clone(self), Arc::clone(app));
        self.tasks
            .spawn(carried::carry(operator, app, one, valid_for));
    }

    fn forget(&self, site: &SiteName) {
        let mut carried = self.carried.write().unwrap_or_else(PoisonError::into_inner);
        carried.remove(site);
    }

    fn carried(&self) -> std::sync::RwLockReadGuard<'_, HashMap<SiteName, Arc<Carried>>> {
        self.carried.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn consents(&self) -> std::sync::MutexGuard<'_, Consents> {
        self.consents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_has_a_strangers_server_asked_by_many_names_or_at_an_odd_port() {
        let home = |url: &str| url.parse::<HomeUrl>().unwrap();
        let may =
            |url, others: &[&str]| may_be_home(&home(url), others.iter().map(|url| home(url)));
        assert!(may("https://o.example", &[]));
        assert!(may(
            "https://o.example",
            &["https://o.example", "https://x.example"]
        ));
        let two = ["https://o.example", "http://o.example:8080"];
        for url in [
            "https://o.example",
            "http://o.example",
            "http://o.example:9999",
        ] {
            assert!(!may(url, &two), "{url}");
        }
        for port in [25, 6667, 22] {
            let url = format!("http://o.example:{port}");
            assert!(!may_be_home(&home(&url), std::iter::empty()), "{port}");
        }
    }
}
