//! One site that is carried: copied, published, seeded, and in need while visitors come.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use swarm_peer::publish::{KeyStore, PublishConfig, PublishError, Published, publish};
use swarm_peer::{AddBundle, NodeError, Source, Storage, Trust};
use swarm_proto::id::SwarmId;
use swarm_proto::limits::{ALARM_LIFETIME_SECS_MAX, MANIFEST_LIFETIME_SECS_MAX};
use swarm_proto::manifest::{
    Alarm, HomeUrl, SignedAlarm, SignedManifest, SiteManifest, SiteName, SitePath, SiteRecord,
    TrustError,
};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::Operator;
use super::pull::Puller;
use crate::app::{AlarmRefused, App, RegisterRefused};
use crate::config::CertificateName;

/// Sites that do not consent are asked again after this at the latest, if a visitor comes.
pub(super) const ASK_AGAIN: Duration = Duration::from_secs(60);
/// The same of one that consents and for which there was no room.
pub(super) const NO_ROOM: Duration = Duration::from_secs(5);
/// The same where nobody could tell.
pub(super) const ASK_AGAIN_FAILED: Duration = Duration::from_secs(15);
/// How long the last word of a site holds where nobody can tell whether it still does (F19).
const CONSENT_KEPT: Duration = Duration::from_secs(24 * 3600);

/// Paths that visitors came for in vain and that are not looked at yet.
const MISSING_MAX: usize = 256;
/// How often it is looked whether something is due.
const TICK: Duration = Duration::from_millis(250);
/// From the first content to the first manifest, at most: volunteers are to begin soon.
const FIRST: Duration = Duration::from_secs(2);
/// Between two manifests while content comes, at first and at most; it doubles.
const BETWEEN: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(60));
/// How long an alarm stands; it is renewed after half of it.
const ALARM: Duration = Duration::from_secs(600);
/// How long bundles of a replaced manifest are still seeded.
const RETIRED: Duration = Duration::from_secs(3600);
/// Between two tries of what failed.
const RETRY: Duration = Duration::from_secs(10);
/// No visitor has come yet.
const NEVER: u64 = u64::MAX;

/// Why a site is not carried any further.
#[derive(Debug, thiserror::Error)]
enum CarryError {
    #[error("copy: {0}")]
    Disk(#[from] io::Error),
    #[error("not published: {0}")]
    Publish(#[from] PublishError),
    #[error("not registered: {0}")]
    Register(#[from] RegisterRefused),
    #[error("not seeded: {0}")]
    Seed(#[from] NodeError),
    #[error("alarm not signed: {0}")]
    Sign(#[from] TrustError),
    #[error(transparent)]
    Alarm(#[from] AlarmRefused),
}

/// A site, as its visitors see it.
#[derive(Debug)]
pub(super) struct Carried {
    site: SiteName,
    home: Mutex<HomeUrl>,
    /// Milliseconds from the tracker's start to the last visitor; [`NEVER`].
    last_visit: AtomicU64,
    missing: Mutex<BTreeSet<SitePath>>,
    /// Whether its name leads here: visitors have come by it.
    leads_here: AtomicBool,
    /// Others need its place.
    makes_way: AtomicBool,
    wake: Notify,
}

impl Carried {
    pub(super) fn new(site: SiteName, home: HomeUrl) -> Self {
        Self {
            site,
            home: Mutex::new(home),
            last_visit: AtomicU64::new(NEVER),
            missing: Mutex::default(),
            leads_here: AtomicBool::new(false),
            makes_way: AtomicBool::new(false),
            wake: Notify::new(),
        }
    }

    pub(super) fn home(&self) -> HomeUrl {
        self.home
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn visited(&self, now: Duration, missing: Option<&SitePath>, hosted: bool) {
        if hosted {
            self.leads_here.store(true, Ordering::Relaxed);
        }
        let now = u64::try_from(now.as_millis()).unwrap_or(NEVER - 1);
        let first = self.last_visit.swap(now, Ordering::Relaxed) == NEVER;
        if let Some(path) = missing {
            let mut all = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
            if all.len() < MISSING_MAX && all.insert(path.clone()) {
                self.wake.notify_one();
            }
        }
        if first {
            self.wake.notify_one();
        }
    }

    /// Since when nobody has come, if that is longer ago than `after`; time since the start.
    pub(super) fn quiet_since(&self, now: Duration, after: Duration) -> Option<Duration> {
        let last = match self.last_visit.load(Ordering::Relaxed) {
            NEVER => Duration::ZERO,
            last => Duration::from_millis(last),
        };
        (now.saturating_sub(last) >= after).then_some(last)
    }

    /// It is left, though it consents.
    pub(super) fn make_way(&self) {
        self.makes_way.store(true, Ordering::Relaxed);
    }

    fn take_missing(&self) -> BTreeSet<SitePath> {
        std::mem::take(&mut *self.missing.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The sites of which there are copies in `dir`.
pub(super) fn names_in(dir: &Path) -> io::Result<Vec<SiteName>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let name = match std::fs::read_to_string(entry?.path().join("site")) {
            Ok(name) => name,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => continue,
            Err(error) => return Err(error),
        };
        names.extend(SiteName::parse_canonical(name.trim()).ok());
    }
    Ok(names)
}

/// Carries a site until it consents no longer, or the tracker stops.
pub(super) async fn carry(
    operator: Arc<Operator>,
    app: Arc<App>,
    carried: Arc<Carried>,
    valid_for: Duration,
) {
    let site = carried.site.clone();
    let shutdown = app.shutdown.clone();
    match Carrying::begin(Arc::clone(&operator), app, carried, valid_for).await {
        Ok(carrying) => tokio::select! {
            () = carrying.run() => {}
            () = shutdown.cancelled() => return,
        },
        Err(error) => tracing::error!(%site, %error, "cannot be carried"),
    }
    operator.forget(&site);
}

/// A site, as it is worked for.
struct Carrying {
    operator: Arc<Operator>,
    app: Arc<App>,
    carried: Arc<Carried>,
    dir: PathBuf,
    puller: Puller,
    /// The last manifest, once there is one in force.
    sequence: Option<u64>,
    /// When the last one was published, or tried to be; and how long to wait for the next.
    published: Option<Instant>,
    between: Duration,
    /// Since when there has been something to publish.
    news: Option<Instant>,
    /// Bundles that are seeded, with their files.
    seeded: HashMap<SwarmId, Vec<PathBuf>>,
    /// Bundles of replaced manifests, and when they are left.
    retired: HashMap<SwarmId, Instant>,
    /// When the alarm that stands is to be renewed.
    renew: Option<Instant>,
    /// What failed is not tried before this.
    retry: Option<Instant>,
    /// When the manifest in force is to be signed anew though nothing has changed, Unix seconds.
    sign_again: u64,
    last_issued: u64,
    /// Whether a certificate for its name has been asked for.
    certified: bool,
    /// When the site is asked again whether it consents, and when its last word ends.
    ask: Instant,
    consents_until: Instant,
}

impl Carrying {
    async fn begin(
        operator: Arc<Operator>,
        app: Arc<App>,
        carried: Arc<Carried>,
        valid_for: Duration,
    ) -> Result<Self, CarryError> {
        let dir = operator.dir.join(carried.site.label());
        let lane = operator.node.0.http().lane(Trust::Stranger);
        let config = operator.config.pull.clone();
        let (site, home, at) = (carried.site.clone(), carried.home(), dir.clone());
        let key = operator.key.clone();
        let opened = tokio::task::spawn_blocking(move || {
            std::fs::create_dir_all(&at)?;
            swarm_peer::store::write_atomic(&at.join("site"), site.as_str().as_bytes())?;
            key.lend_to(&at.join("keys"))?;
            Puller::open(&at, site, home, lane, config)
        });
        let puller = opened
            .await
            .expect("opening a copy does not panic and is not cancelled")?;
        app.pin(carried.site.clone(), operator.key.public).await;
        Ok(Self {
            ask: Instant::now() + valid_for,
            consents_until: Instant::now() + CONSENT_KEPT,
            operator,
            app,
            carried,
            dir,
            puller,
            sequence: None,
            published: None,
            between: BETWEEN.0,
            news: None,
            seeded: HashMap::new(),
            retired: HashMap::new(),
            renew: None,
            retry: None,
            sign_again: u64::MAX,
            last_issued: 0,
            certified: false,
        })
    }

    async fn run(mut self) {
        if let Ok(root) = SitePath::parse("/") {
            self.puller.want(self.app.now().unix, &root);
        }
        loop {
            let unix = self.app.now().unix;
            tokio::select! {
                () = self.puller.go_on(unix) => {}
                () = self.carried.wake.notified() => {}
                () = sleep(TICK) => {}
            }
            for path in self.carried.take_missing() {
                self.puller.want(unix, &path);
            }
            if !self.still_consents().await {
                self.leave().await;
                return;
            }
            if self.in_need() {
                self.puller.refresh(unix);
            }
            if self.retry.is_some_and(|retry| retry > Instant::now()) {
                continue;
            }
            self.retry = None;
            if let Err(error) = self.upkeep().await {
                tracing::error!(site = %self.carried.site, %error, "not carried as it should be");
                self.retry = Some(Instant::now() + RETRY);
            }
        }
    }

    /// Whether visitors have come of late.
    fn in_need(&self) -> bool {
        let last = self.carried.last_visit.load(Ordering::Relaxed);
        let now = self.app.now().elapsed;
        last != NEVER
            && now.saturating_sub(Duration::from_millis(last)) < self.operator.config.quiet_after
    }

    async fn still_consents(&mut self) -> bool {
        let now = Instant::now();
        if self.carried.makes_way.load(Ordering::Relaxed) {
            return false;
        }
        if self.ask > now {
            return true;
        }
        match self.operator.consent_of(&self.carried.site).await {
            Ok((Some(consent), lasts)) => {
                self.ask = now + lasts;
                self.consents_until = now + CONSENT_KEPT;
                if consent.origin == self.carried.home() {
                    return true;
                }
                if !self.operator.may_move(&self.carried.site, &consent.origin) {
                    return false;
                }
                self.puller.set_home(consent.origin.clone());
                let home = self.carried.home.lock();
                *home.unwrap_or_else(PoisonError::into_inner) = consent.origin;
                true
            }
            Ok((None, _)) => false,
            Err(error) => {
                tracing::warn!(site = %self.carried.site, %error, "consent not known");
                self.ask = now + ASK_AGAIN_FAILED;
                self.consents_until > now
            }
        }
    }

    async fn upkeep(&mut self) -> Result<(), CarryError> {
        let now = Instant::now();
        let (held, changed) = (self.puller.copy().len(), self.puller.copy().has_changed());
        if changed && held == 0 && self.sequence.is_some() {
            self.take_back().await?;
        }
        if self.app.now().unix >= self.sign_again {
            self.sign_again = u64::MAX;
            self.puller.copy().not_published();
        }
        if self.puller.copy().has_changed() && held > 0 {
            let news = *self.news.get_or_insert(now);
            let due = match self.published {
                None => news + FIRST,
                Some(published) => published + self.between,
            };
            if due <= now || (self.published.is_none() && self.puller.is_idle()) {
                self.news = None;
                self.published = Some(now);
                self.between = (self.between * 2).min(BETWEEN.1);
                self.publish().await?;
            }
        } else if self.puller.is_idle() {
            self.between = BETWEEN.0;
        }
        self.certify();
        self.keep_alarm()?;
        let over = self.retired.iter().filter(|(_, until)| **until <= now);
        let over: Vec<SwarmId> = over.map(|(id, _)| *id).collect();
        for id in over {
            self.retired.remove(&id);
            self.seeded.remove(&id);
            self.operator.node.0.remove(&id);
        }
        Ok(())
    }

    /// Asks for a certificate once it is known that the name leads here: no authority would give one
    /// before.
    fn certify(&mut self) {
        if self.certified || !self.carried.leads_here.load(Ordering::Relaxed) {
            return;
        }
        self.certified = true;
        let site = &self.carried.site;
        let name = CertificateName::try_from(site);
        if let (Some(certificates), Ok(name)) = (&self.app.certificates, name)
            && let Err(why) = certificates.want(&name, self.app.now())
        {
            tracing::info!(%site, %why, "no certificate for its name");
        }
    }

    async fn publish(&mut self) -> Result<(), CarryError> {
        let listed = self.puller.copy().listed();
        let files = self.puller.copy().files();
        let mut config = PublishConfig::new(
            self.carried.site.clone(),
            files,
            self.dir.join("out"),
            self.dir.join("keys"),
            self.app.now().unix,
        );
        config.listed = Some(listed);
        config.trackers = vec![self.operator.config.announce.clone()];
        // Visitors are answered on the other cores.
        config.threads = 1;
        let publishing = tokio::task::spawn_blocking(move || publish(&config, &()));
        let published = publishing
            .await
            .expect("publishing does not panic and is not cancelled");
        let result = match published {
            Ok(published) => self.put_in_force(&published).await,
            Err(error) => Err(error.into()),
        };
        if result.is_err() {
            self.puller.copy().not_published();
        }
        result
    }

    async fn put_in_force(&mut self, published: &Published) -> Result<(), CarryError> {
        // First the register: it refuses peers of bundles that it has not heard of.
        let record = Bytes::from(published.record.to_bytes());
        self.app.register(record).await?;
        let mut now_seeded = BTreeSet::new();
        for bundle in &published.bundles {
            let Some(v2) = bundle.metainfo.info_hash_v2() else {
                continue;
            };
            let id = v2.swarm_id();
            now_seeded.insert(id);
            self.retired.remove(&id);
            let storage = Storage::Files {
                paths: bundle.files.clone(),
            };
            let mut add = AddBundle::new(Source::from(bundle.metainfo.clone()), storage);
            add.seed_only = true;
            add.trust = Trust::CommandLine;
            self.operator.node.0.add(add).await?;
            self.seeded.insert(id, bundle.files.clone());
        }
        let until = Instant::now() + RETIRED;
        for id in self.seeded.keys() {
            if !now_seeded.contains(id) {
                self.retired.entry(*id).or_insert(until);
            }
        }
        let kept = self.seeded.values().flatten().cloned().collect();
        let copy = self.puller.copy();
        copy.remove_stale(&kept)?;
        copy.save()?;
        tracing::info!(
            site = %self.carried.site, sequence = published.manifest.sequence,
            files = copy.len(), bytes = copy.bytes(), "published for a site that consents"
        );
        self.sequence = Some(published.manifest.sequence);
        let lasts = published.manifest.expires - published.manifest.created;
        self.sign_again = published.manifest.created + lasts / 2;
        // So that volunteers hear of it.
        self.renew = self.renew.map(|_| Instant::now());
        Ok(())
    }

    /// Raises, renews or lowers the alarm.
    fn keep_alarm(&mut self) -> Result<(), CarryError> {
        let now = Instant::now();
        // A site that has taken all of it back wants its visitors at home.
        let in_need = self.in_need() && self.puller.copy().len() > 0;
        let stands = match (in_need, self.renew) {
            (true, Some(renew)) if renew > now => return Ok(()),
            (false, None) => return Ok(()),
            (in_need, _) => in_need,
        };
        self.say_alarm(stands)
    }

    fn say_alarm(&mut self, stands: bool) -> Result<(), CarryError> {
        let Some(sequence) = self.sequence else {
            return Ok(());
        };
        let keys = KeyStore::open(
            &self.dir.join("keys"),
            &self.carried.site,
            self.app.now().unix,
        )?;
        let key = keys.alarm_key().ok_or(TrustError::NotAnchored)?;
        // Nothing older than the last is taken, and of the same second only what ends sooner.
        let issued = self.app.now().unix;
        let issued = issued.max(self.last_issued + u64::from(stands));
        let lasts = ALARM.as_secs().min(ALARM_LIFETIME_SECS_MAX);
        let alarm = Alarm {
            site: self.carried.site.clone(),
            issued,
            until: if stands { issued + lasts } else { issued },
            level: 1,
            home: format!("{}://{}/", self.operator.scheme, self.carried.site),
            manifest_sequence: sequence,
        };
        let signed = SignedAlarm::sign(&alarm, key)?.to_bytes();
        self.last_issued = issued;
        self.app.alarm(Bytes::from(signed))?;
        self.renew = stands.then(|| Instant::now() + ALARM / 2);
        Ok(())
    }

    /// The site has taken back all that was copied: nobody is to have it from us any more. What is
    /// newest counts, here, with other trackers and with volunteers: a manifest of nothing.
    async fn take_back(&mut self) -> Result<(), CarryError> {
        if self.renew.is_some() {
            self.say_alarm(false)?;
        }
        let keys = KeyStore::open(
            &self.dir.join("keys"),
            &self.carried.site,
            self.app.now().unix,
        )?;
        let created = self.app.now().unix;
        let sequence = keys.last_sequence()?.saturating_add(1);
        let manifest = SiteManifest {
            site: self.carried.site.clone(),
            sequence,
            created,
            expires: created.saturating_add(MANIFEST_LIFETIME_SECS_MAX),
            stamped: false,
            bundles: Vec::new(),
            files: BTreeMap::new(),
        };
        keys.remember_sequence(sequence)?;
        let record = SiteRecord {
            keys: keys.chain().clone(),
            manifest: SignedManifest::sign(&manifest, keys.publish_key())?,
            stamp: None,
        };
        self.app.register(Bytes::from(record.to_bytes())).await?;
        self.app
            .registry()
            .end_retired(self.app.now(), &self.carried.site);
        self.stop_seeding();
        (self.sequence, self.sign_again) = (None, u64::MAX);
        let copy = self.puller.copy();
        // Of nothing there is nothing to publish.
        copy.listed();
        copy.remove_stale(&BTreeSet::new())?;
        Ok(copy.save()?)
    }

    fn stop_seeding(&mut self) {
        for id in self.seeded.keys() {
            self.operator.node.0.remove(id);
        }
        self.seeded.clear();
        self.retired.clear();
    }

    /// Removes all of the copy but the keys, which know the last sequence.
    fn clear(&self) -> io::Result<()> {
        for entry in std::fs::read_dir(&self.dir)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                if entry.file_name() != "keys" {
                    std::fs::remove_dir_all(entry.path())?;
                }
            } else {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// The site no longer wants to be carried, or makes way.
    async fn leave(&mut self) {
        tracing::info!(site = %self.carried.site, "is left");
        if self.sequence.is_some()
            && let Err(error) = self.take_back().await
        {
            tracing::warn!(site = %self.carried.site, %error, "left as it was published");
        }
        self.stop_seeding();
        let name = CertificateName::try_from(&self.carried.site);
        if let (Some(certificates), Ok(name)) = (&self.app.certificates, name) {
            certificates.unwant(&name);
        }
        self.app.withdraw(&self.carried.site).await;
        if let Err(error) = self.clear() {
            tracing::warn!(dir = %self.dir.display(), %error, "copy not removed");
        }
    }
}
