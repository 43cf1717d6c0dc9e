//! One tracker: the registry behind its lock, with clock, disk and metrics around it.
//!
//! What the HTTP listener does and what an embedding process does by [`crate::TrackerHandle`]
//! meet here.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use ipnet::IpNet;
use rand::Rng as _;
use swarm_proto::limits::{ENVELOPE_LEN_MAX, SITE_RECORD_LEN_MAX};
use swarm_proto::manifest::{HomeUrl, PublicKey, SignedAlarm, SiteName, SiteRecord, TrustError};
use swarm_proto::tracker::{BridgeView, SitesReply};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::acme::Certificates;
use crate::budget::Budgets;
use crate::config::{ConnectionConfig, TrackerConfig, VolunteerConfig};
use crate::history::{History, STEP, Sample};
use crate::listen::ws::Sockets;
use crate::metrics::Metrics;
use crate::operator::Operator;
use crate::registry::shared::Paper;
use crate::registry::{
    AlarmSuperseded, BundleTaken, CheckedRecord, Moment, Registry, RegistryConfig, Totals,
    check_alarm, check_record,
};
use crate::state::{StateDir, StateError, StoredSite};
use crate::status::StatusCache;
use crate::store::Store;

/// Records that may be on their way in at a time: each takes up to its limit of memory.
const UPLOADS_MAX: usize = 8;

/// How long the housekeeping may take for a round before the tracker says that it is not well.
const BEAT_MAX: Duration = Duration::from_secs(10);
/// Pause between two rounds of housekeeping.
const ROUND: Duration = Duration::from_millis(250);

/// Why a site record is not registered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterRefused {
    /// No root key is pinned for the site. The operator's choice.
    #[error("site {0} is not known to this tracker")]
    UnknownSite(SiteName),
    /// Longer than a record may be.
    #[error("site record is longer than {SITE_RECORD_LEN_MAX} bytes")]
    TooLong,
    /// Malformed, badly signed, expired, rolled back. The sender's fault.
    #[error("site record refused: {0}")]
    Trust(#[source] TrustError),
    /// One of its bundles belongs to another site. One of the two sites' fault.
    #[error("site record refused: {0}")]
    BundleTaken(#[source] BundleTaken),
    /// It is good but could not be stored, and so is not used. This machine's fault.
    #[error("site record not kept: the tracker cannot store it")]
    State(#[source] StateError),
}

/// Why an alarm is not raised.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AlarmRefused {
    /// No root key is pinned for the site. The operator's choice.
    #[error("site {0} is not known to this tracker")]
    UnknownSite(SiteName),
    /// No record of the site yet, so its alarm keys are not known.
    #[error("site {0} has no record at this tracker yet")]
    NoRecord(SiteName),
    /// Longer than an alarm may be.
    #[error("alarm is longer than {ENVELOPE_LEN_MAX} bytes")]
    TooLong,
    /// Malformed or badly signed. The sender's fault.
    #[error("alarm refused: {0}")]
    Trust(#[source] TrustError),
    /// A newer one is known.
    #[error("alarm refused: {0}")]
    Superseded(#[source] AlarmSuperseded),
}

/// Everything that listeners share.
#[derive(Debug)]
pub(crate) struct App {
    registry: Mutex<Registry>,
    budgets: Mutex<Budgets>,
    started: Instant,
    /// Seconds since 1970.
    pub(crate) started_unix: u64,
    /// The version of the list of sites in need, for those who wait for it.
    changed: watch::Sender<u64>,
    /// Held while a record is checked, stored and installed: one at a time, so that none is
    /// stored over a newer one.
    register: tokio::sync::Mutex<Stored>,
    /// Records being sent to us.
    pub(crate) uploads: Semaphore,
    pub(crate) metrics: Metrics,
    pub(crate) connections: ConnectionConfig,
    pub(crate) volunteers: VolunteerConfig,
    /// Requests a second of one place that are answered.
    pub(crate) per_address_rate: u32,
    /// To who names no number.
    pub(crate) peers_per_reply: u32,
    /// Whose word about who asks is believed.
    pub(crate) proxies: Vec<IpNet>,
    /// Where sites are at home whose public name leads here.
    pub(crate) homes: BTreeMap<SiteName, HomeUrl>,
    /// Who carries sites that have installed nothing.
    pub(crate) operator: OnceLock<Arc<Operator>>,
    /// Whether any info hash may be announced.
    pub(crate) open: bool,
    /// What the figures were.
    pub(crate) history: Mutex<History>,
    pub(crate) shown: StatusCache,
    pub(crate) store: Store,
    /// Milliseconds from the start to the last round of housekeeping.
    beat: AtomicU64,
    /// Time after which a silent peer is forgotten.
    pub(crate) peer_age: Duration,
    pub(crate) sockets: Sockets,
    /// Those that the tracker gets itself.
    pub(crate) certificates: Option<Arc<Certificates>>,
    pub(crate) shutdown: CancellationToken,
}

/// What is on disk, and what of it belongs to sites that nobody has pinned yet.
#[derive(Debug, Default)]
struct Stored {
    dir: Option<Arc<StateDir>>,
    waiting: HashMap<SiteName, StoredSite>,
}

impl App {
    /// Reads the state directory and pins the configured sites. Blocks on the disk.
    pub(crate) fn open(
        config: &TrackerConfig,
        shutdown: CancellationToken,
    ) -> Result<Self, StateError> {
        let (dir, stored) = match &config.state {
            None => (None, Vec::new()),
            Some(dir) => {
                let (dir, stored) = StateDir::open(dir)?;
                (Some(Arc::new(dir)), stored)
            }
        };
        let started = Instant::now();
        let registry = Registry::new(
            RegistryConfig {
                open: config.open,
                announce: config.announce.clone(),
                volunteers: config.volunteers.clone(),
                bridge_domains: config.bridge_domains.clone(),
                seed: rand::rng().next_u64(),
            },
            moment(started),
        );
        let version = registry.version();
        let mut waiting: HashMap<_, _> = stored
            .into_iter()
            .map(|stored| (stored.site.clone(), stored))
            .collect();
        let app = Self {
            registry: Mutex::new(registry),
            budgets: Mutex::new(Budgets::new(
                config.announce.per_address_rate,
                rand::random(),
            )),
            started,
            started_unix: moment(started).unix,
            changed: watch::Sender::new(version),
            register: tokio::sync::Mutex::default(),
            uploads: Semaphore::new(UPLOADS_MAX),
            metrics: Metrics::default(),
            connections: config.connections.clone(),
            volunteers: config.volunteers.clone(),
            per_address_rate: config.announce.per_address_rate,
            peers_per_reply: u32::try_from(config.announce.peers_per_reply).unwrap_or(u32::MAX),
            proxies: config.trusted_proxies.clone(),
            homes: config.homes.clone(),
            operator: OnceLock::new(),
            open: config.open,
            history: Mutex::default(),
            shown: StatusCache::default(),
            store: Store::new(&config.store),
            beat: AtomicU64::new(0),
            peer_age: config.announce.peer_age,
            sockets: Sockets::default(),
            certificates: None,
            shutdown,
        };
        for (site, root) in &config.site_keys {
            app.pin_now(site.clone(), *root, waiting.remove(site));
        }
        for site in waiting.keys() {
            tracing::warn!(%site, "stored site has no pinned key, kept but not served");
        }
        Ok(Self {
            register: tokio::sync::Mutex::new(Stored { dir, waiting }),
            ..app
        })
    }

    pub(crate) fn now(&self) -> Moment {
        moment(self.started)
    }

    /// Why the tracker should be given no work now; `None`: it is well.
    pub(crate) fn unready(&self) -> Option<&'static str> {
        self.unready_at(self.started.elapsed())
    }

    /// The same so long after the start.
    pub(crate) fn unready_at(&self, elapsed: Duration) -> Option<&'static str> {
        let beat = Duration::from_millis(self.beat.load(Ordering::Relaxed));
        if self.shutdown.is_cancelled() {
            Some("stopping")
        } else if elapsed.saturating_sub(beat) > BEAT_MAX {
            Some("housekeeping has stalled")
        } else {
            None
        }
    }

    /// Visitors sent on, since the start.
    pub(crate) fn redirects(&self) -> u64 {
        self.metrics.redirects_bridge.get() + self.metrics.redirects_home.get()
    }

    /// Notes how the figures stand.
    fn sample(&self, now: Moment, totals: &Totals) {
        let sample = Sample {
            at: now.elapsed,
            bridges: totals.bridges,
            peers: totals.peers,
            announces: self.metrics.announces.get(),
            redirects: self.redirects(),
        };
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        history.push(sample);
    }

    /// The registry. Whoever holds it neither blocks nor awaits.
    pub(crate) fn registry(&self) -> MutexGuard<'_, Registry> {
        // A panic under the lock is a bug, but no reason to stop answering: each method leaves
        // the registry usable at every step.
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether whoever is at `source` may ask for something of this cost in this second.
    pub(crate) fn may_ask(&self, now: Moment, source: IpAddr, cost: u32) -> bool {
        let mut budgets = self.budgets.lock().unwrap_or_else(PoisonError::into_inner);
        let may = budgets.take(now.elapsed.as_secs() as u32, source, cost);
        if !may {
            self.metrics.over_rate.add();
        }
        may
    }

    /// What a scrape of so many swarms costs: looking eight up is as much work as an announce.
    pub(crate) fn scrape_cost(swarms: usize) -> u32 {
        1 + u32::try_from(swarms / 8).unwrap_or(u32::MAX / 2)
    }

    /// Tells those who wait if the list of sites in need has changed.
    fn publish(&self, version: u64) {
        self.changed.send_if_modified(|known| {
            let new = *known != version;
            *known = version;
            new
        });
    }

    pub(crate) async fn pin(&self, site: SiteName, root: PublicKey) {
        let mut stored = self.register.lock().await;
        let found = stored.waiting.remove(&site);
        self.pin_now(site.clone(), root, found);
        self.registry().tell_site(&site, Paper::Record);
    }

    /// Forgets a site that is no longer ours to carry. Should it come back, nothing older than what
    /// was known of it is accepted.
    pub(crate) async fn withdraw(&self, site: &SiteName) {
        let mut stored = self.register.lock().await;
        let now = self.now();
        let mut registry = self.registry();
        let known = registry.withdraw(now, site);
        self.publish(registry.version());
        if let Some((root, Some(trust))) = known {
            // The record itself is on the disk, if anybody wants it.
            let known = StoredSite {
                site: site.clone(),
                root,
                trust,
                record: Bytes::new(),
            };
            stored.waiting.insert(site.clone(), known);
        }
    }

    /// Where a site is at home whose public name leads here.
    pub(crate) fn home(&self, site: &SiteName) -> Option<HomeUrl> {
        match self.homes.get(site) {
            Some(home) => Some(home.clone()),
            None => self.operator.get()?.home(site),
        }
    }

    /// How many sites are carried that have installed nothing.
    pub(crate) fn carried(&self) -> usize {
        self.operator.get().map_or(0, |operator| operator.len())
    }

    /// Whether visitors of a site may be sent on from here: it is known, or it consents just now.
    pub(crate) async fn carries(self: &Arc<Self>, site: &SiteName, visitor: IpAddr) -> bool {
        if self.homes.contains_key(site) || self.registry().knows(site) {
            return true;
        }
        match self.operator.get() {
            Some(operator) => operator.hear(self, site, visitor).await,
            None => false,
        }
    }

    /// Pins a site and puts in force what the disk has of it, if it rests on the same root.
    fn pin_now(&self, site: SiteName, root: PublicKey, stored: Option<StoredSite>) {
        let now = self.now();
        let mut registry = self.registry();
        registry.pin(now, site.clone(), root);
        let Some(stored) = stored else {
            return self.publish(registry.version());
        };
        if stored.root != root {
            tracing::warn!(%site, "stored record rests on another root key, not used");
            return;
        }
        let trust = stored.trust;
        match check_record(root, &site, Some(&trust), stored.record, now.unix) {
            Ok(checked) => {
                if let Err(error) = registry.install(now, checked) {
                    tracing::warn!(%site, %error, "stored record not used");
                }
            }
            Err(error) => {
                // Expired meanwhile, most likely; what it says about rollback still counts.
                tracing::warn!(%site, %error, "stored record not used");
                registry.remember(&site, trust);
            }
        }
        self.publish(registry.version());
    }

    /// Checks a record, stores it, and only then puts it in force.
    pub(crate) async fn register(self: &Arc<Self>, bytes: Bytes) -> Result<(), RegisterRefused> {
        let result = self.register_here(bytes).await;
        match &result {
            Ok(site) => {
                self.metrics.records.add();
                self.registry().tell_site(site, Paper::Record);
            }
            Err(error) => {
                self.metrics.records_refused.add();
                tracing::info!(%error, "site record refused");
            }
        }
        result.map(drop)
    }

    /// The same, without a word to other trackers.
    pub(crate) async fn register_here(
        self: &Arc<Self>,
        bytes: Bytes,
    ) -> Result<SiteName, RegisterRefused> {
        if bytes.len() > SITE_RECORD_LEN_MAX {
            return Err(RegisterRefused::TooLong);
        }
        let app = Arc::clone(self);
        let stored = app.register.lock().await;
        let dir = stored.dir.clone();
        let blocking = Arc::clone(self);
        // Parsing, signatures and the disk take their time.
        let checked = tokio::task::spawn_blocking(move || blocking.check_and_store(bytes, dir))
            .await
            .expect("checking a record does not panic and is not cancelled")?;
        let mut registry = self.registry();
        let site = checked.manifest.site.clone();
        let sequence = checked.manifest.sequence;
        registry
            .install(self.now(), checked)
            .map_err(RegisterRefused::BundleTaken)?;
        self.publish(registry.version());
        tracing::info!(%site, sequence, "site record registered");
        Ok(site)
    }

    fn check_and_store(
        &self,
        bytes: Bytes,
        dir: Option<Arc<StateDir>>,
    ) -> Result<CheckedRecord, RegisterRefused> {
        let record = SiteRecord::parse(&bytes).map_err(RegisterRefused::Trust)?;
        let site = record.claimed_site();
        let (root, trust) = self
            .registry()
            .anchor(site)
            .ok_or_else(|| RegisterRefused::UnknownSite(site.clone()))?;
        let checked = check_record(root, site, trust.as_ref(), bytes, self.now().unix)
            .map_err(RegisterRefused::Trust)?;
        self.registry()
            .check_bundles(&checked)
            .map_err(RegisterRefused::BundleTaken)?;
        if let Some(dir) = dir {
            let stored = StoredSite {
                site: site.clone(),
                root,
                trust: checked.trust.clone(),
                record: checked.bytes.clone(),
            };
            dir.save(&stored).map_err(|error| {
                tracing::error!(%site, %error, "site record cannot be stored");
                RegisterRefused::State(error)
            })?;
        }
        Ok(checked)
    }

    /// Checks an alarm and raises, renews or lowers it.
    pub(crate) fn alarm(&self, bytes: Bytes) -> Result<(), AlarmRefused> {
        let result = self.alarm_here(bytes);
        match &result {
            Ok(site) => {
                self.metrics.alarms.add();
                self.registry().tell_site(site, Paper::Alarm);
            }
            Err(error) => {
                self.metrics.alarms_refused.add();
                tracing::info!(%error, "alarm refused");
            }
        }
        result.map(drop)
    }

    /// The same, without a word to other trackers.
    pub(crate) fn alarm_here(&self, bytes: Bytes) -> Result<SiteName, AlarmRefused> {
        if bytes.len() > ENVELOPE_LEN_MAX {
            return Err(AlarmRefused::TooLong);
        }
        let claimed = SignedAlarm::parse(&bytes).map_err(AlarmRefused::Trust)?;
        let site = claimed.claimed().site.clone();
        let keys = {
            let registry = self.registry();
            match registry.keys(&site) {
                Some(keys) => keys,
                None if registry.anchor(&site).is_none() => {
                    return Err(AlarmRefused::UnknownSite(site));
                }
                None => return Err(AlarmRefused::NoRecord(site)),
            }
        };
        let now = self.now();
        let checked = check_alarm(bytes, &keys, now.unix).map_err(AlarmRefused::Trust)?;
        let lowers = checked.lowers;
        let mut registry = self.registry();
        let changed = registry
            .take_alarm(now, checked)
            .map_err(AlarmRefused::Superseded)?;
        self.publish(registry.version());
        if changed {
            tracing::info!(%site, lowers, "alarm taken");
        }
        Ok(site)
    }

    /// The list of sites in need, as soon as it is another than `since`, or after `wait`.
    pub(crate) async fn sites(&self, since: Option<u64>, wait: Duration) -> SitesReply {
        let mut changed = self.changed.subscribe();
        let wait = wait.min(self.connections.poll_max);
        let ready = async {
            if let Some(since) = since {
                // Only fails where the sender is gone, and `self` holds it.
                let _ = changed.wait_for(|version| *version != since).await;
            }
        };
        tokio::select! {
            () = ready => {}
            () = tokio::time::sleep(wait) => {}
            () = self.shutdown.cancelled() => {}
        }
        self.registry().sites_in_need()
    }

    pub(crate) fn bridges(&self, site: &SiteName, visitor: IpAddr) -> Vec<BridgeView> {
        self.registry().bridges(self.now(), site, visitor)
    }

    /// Ends alarms, forgets what has aged; until the shutdown.
    pub(crate) async fn keep_house(&self) {
        let mut tick = tokio::time::interval(ROUND);
        let rounds = |pause: Duration| pause.as_millis() / ROUND.as_millis();
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for round in 0_u128.. {
            tokio::select! {
                _ = tick.tick() => {}
                () = self.shutdown.cancelled() => return,
            }
            let now = self.now();
            let mut registry = self.registry();
            if registry.expire_alarms(now) {
                self.publish(registry.version());
            }
            if round % 8 == 0 {
                registry.sweep_bridges(now);
            }
            if round % 80 == 0 {
                registry.sweep_peers(now);
            }
            if round % rounds(STEP) == 0 {
                let totals = registry.totals();
                drop(registry);
                self.sample(now, &totals);
            }
            let beat = u64::try_from(now.elapsed.as_millis()).unwrap_or(u64::MAX);
            self.beat.store(beat, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
impl App {
    /// Lists a bridge on this host that holds bundle `bundle` of a test's site, and has proven
    /// itself.
    pub(crate) fn list_bridge(&self, bundle: u8, port: u16, domain: Option<&str>) {
        use crate::registry::Via;
        use swarm_proto::id::PeerId;
        use swarm_proto::manifest::SecretKey;
        use swarm_proto::tracker::{AnnounceRequest, BridgeOffer};
        let [_, low] = port.to_be_bytes();
        let key = SecretKey::new([low; 32]);
        let request = AnnounceRequest {
            left: Some(0),
            bridge: Some(BridgeOffer {
                key: Some(key.public()),
                domain: domain.map(str::to_owned),
                ..BridgeOffer::new(port)
            }),
            ..AnnounceRequest::new(
                crate::testing::v1(bundle),
                PeerId::new([bundle; 20]),
                port.wrapping_add(20_000),
            )
        };
        let here = std::net::Ipv4Addr::LOCALHOST.into();
        let (now, mut registry) = (self.now(), self.registry());
        let via = Via::Http(Some("tracker.example"));
        let reply = registry.announce(now, here, &request, via);
        assert_eq!(reply.expect("accepted").warning, None);
        let call = registry.next_call(now, [low; 32]).expect("due at once");
        let proof = call.sign(&key);
        assert!(registry.finish_call(now, &call, Ok(proof)));
    }
}

fn moment(started: Instant) -> Moment {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH);
    Moment {
        elapsed: started.elapsed(),
        // A clock before 1970 makes everything signed look as if it came from the future.
        unix: unix.map_or(0, |since| since.as_secs()),
    }
}
