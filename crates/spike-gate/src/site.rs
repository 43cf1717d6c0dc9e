//! The site's own part in the swarm: publish its folder, seed it, register it, keep stamp and
//! alarm fresh.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use swarm_peer::connector::Trust;
use swarm_peer::http::chain;
use swarm_peer::publish::{self, KeyStore, PublishConfig, PublishError, Published};
use swarm_peer::{AddBundle, Node, NodeError, Source, Storage};
use swarm_proto::id::SwarmId;
use swarm_proto::limits;
use swarm_proto::manifest::{
    Alarm, SecretKey, SignedAlarm, SignedStamp, SiteManifest, SiteName, SitePath, SiteRecord,
    Stamp, TrustError,
};
use tokio::sync::watch;
use tokio::time::sleep;
use url::Url;

use crate::assets::{Asset, Assets, Kind, Reach, reach};
use crate::divert::Shared;
use crate::overload::State;
use crate::tracker::{TrackerError, TrackerLink};
use crate::wellknown::WellKnown;

/// Scripts and sheets that are longer stay home unread.
const SCAN_LEN_MAX: u64 = 4 << 20;
/// Between two tries with a tracker that does not answer.
const RETRY: Duration = Duration::from_secs(2);

/// Why the site is not in the swarm.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SiteError {
    /// The folder or the keys.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The seed.
    #[error("cannot seed")]
    Node(#[from] NodeError),
    /// The tracker.
    #[error(transparent)]
    Tracker(#[from] TrackerError),
    /// Something cannot be signed.
    #[error("cannot sign")]
    Sign(#[from] TrustError),
    /// The alarm key is kept elsewhere.
    #[error("the alarm key is not on this machine")]
    NoAlarmKey,
}

/// A site and what it needs.
pub struct Site {
    /// Its name in everything signed.
    pub name: SiteName,
    /// Its address.
    pub url: Url,
    /// The folder, and where keys and results are kept.
    pub folders: Folders,
    /// The keys.
    pub keys: KeyStore,
    /// The seed.
    pub node: Node,
    /// The tracker.
    pub tracker: TrackerLink,
    /// What visitors may ask about it.
    pub known: Arc<WellKnown>,
    /// What the gate decides by.
    pub shared: Arc<Shared>,
    /// How long one alarm holds; renewed at half of it.
    pub alarm_for: Duration,
}

/// The folders of a site.
#[derive(Debug, Clone)]
pub struct Folders {
    /// What is published.
    pub root: PathBuf,
    /// Torrents, variants, the manifest.
    pub out: PathBuf,
    /// Keys, private.
    pub keys: PathBuf,
}

/// Seconds since 1970.
pub fn unix_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |now| now.as_secs())
}

impl Site {
    /// Publishes the folder, seeds it and registers it. Returns the manifest.
    ///
    /// # Errors
    /// [`SiteError`]. A tracker that does not answer is no error: it is asked again with the
    /// next alarm or stamp.
    pub async fn publish(&self) -> Result<SiteManifest, SiteError> {
        let mut config = PublishConfig::new(
            self.name.clone(),
            &self.folders.root,
            &self.folders.out,
            &self.folders.keys,
            unix_now(),
        );
        config.trackers = vec![self.tracker.announce_url()];
        config.stamped = self.keys.alarm_key().is_some();
        let (root, url) = (self.folders.root.clone(), self.url.clone());
        let published = tokio::task::spawn_blocking(move || {
            let published = publish::publish(&config, &())?;
            let assets = assets_of(&published.manifest, &root, &url);
            Ok::<_, PublishError>((published, assets))
        });
        let (published, assets) = published
            .await
            .expect("publishing does not panic and is not cancelled")?;
        for skipped in &published.skipped {
            tracing::info!(?skipped, "left out");
        }
        self.say(&published);
        // First the register: a tracker refuses peers of bundles it has not heard of.
        if let Err(error) = self.register(&published.record).await {
            tracing::warn!(error = %chain(&error), "not registered");
        }
        self.seed(&published).await?;
        tracing::info!(files = assets.len(), bytes = assets.bytes(), "published");
        self.shared.set_assets(assets);
        Ok(published.manifest)
    }

    async fn seed(&self, published: &Published) -> Result<(), SiteError> {
        for bundle in &published.bundles {
            let storage = Storage::Files {
                paths: bundle.files.clone(),
            };
            let mut add = AddBundle::new(Source::from(bundle.metainfo.clone()), storage);
            add.seed_only = true;
            add.trust = Trust::CommandLine;
            self.node.add(add).await?;
        }
        Ok(())
    }

    fn say(&self, published: &Published) {
        let torrents = published.bundles.iter().filter_map(|bundle| {
            let hash = bundle.metainfo.info_hash_v2()?.to_string();
            Some((hash, Bytes::from(bundle.metainfo.to_bytes())))
        });
        let torrents = torrents.collect();
        let record = Bytes::from(published.record.to_bytes());
        self.known.change(|said| {
            said.record = Some(record);
            said.torrents = torrents;
        });
    }

    async fn register(&self, record: &SiteRecord) -> Result<(), TrackerError> {
        let bytes = Bytes::from(record.to_bytes());
        self.tracker.register(self.node.http(), bytes).await
    }

    /// Registers what is served as the site's record now.
    async fn register_again(&self) -> Result<(), TrackerError> {
        match self.known.record() {
            Some(record) => self.tracker.register(self.node.http(), record).await,
            None => Ok(()),
        }
    }

    /// Renews the stamp, well before it ends, for as long as it is polled.
    pub async fn keep_stamped(&self) {
        let lifetime = limits::STAMP_LIFETIME_SECS_MAX;
        let Some(key) = self.keys.alarm_key() else {
            return;
        };
        loop {
            sleep(Duration::from_secs(lifetime / 4)).await;
            if let Err(error) = self.stamp(key, lifetime).await {
                tracing::error!(error = %chain(&error), "stamp not renewed");
            }
        }
    }

    async fn stamp(&self, key: &SecretKey, lifetime: u64) -> Result<(), SiteError> {
        let Some(bytes) = self.known.record() else {
            return Ok(());
        };
        let mut record = SiteRecord::parse(&bytes)?;
        let stamp = Stamp::of(&record.manifest, unix_now(), lifetime);
        record.stamp = Some(SignedStamp::sign(&stamp, key)?);
        let bytes = Bytes::from(record.to_bytes());
        self.known.change(|said| said.record = Some(bytes));
        Ok(self.register(&record).await?)
    }

    /// Raises the alarm when the state says so, renews it, and lowers it in the end.
    pub async fn keep_alarm(&self, mut state: watch::Receiver<State>, manifest_sequence: u64) {
        let mut stands = false;
        let mut last_issued = 0;
        loop {
            let now = *state.borrow_and_update();
            let wait = if now.in_need() || stands {
                // A tracker takes nothing older than what it has, and of the same second only
                // what ends sooner.
                let least = last_issued + u64::from(now.in_need());
                let issued = unix_now().max(least);
                last_issued = issued;
                let raised = self.alarm(now, issued, manifest_sequence).await;
                match raised {
                    Ok(()) => {
                        tracing::info!(state = %now, "alarm {}", if now.in_need() { "stands" } else { "lowered" });
                        stands = now.in_need();
                        self.alarm_for / 2
                    }
                    Err(error) => {
                        tracing::warn!(error = %chain(&error), "alarm not heard");
                        stands = true;
                        if let Err(error) = self.register_again().await {
                            tracing::debug!(error = %chain(&error), "not registered");
                        }
                        RETRY
                    }
                }
            } else {
                Duration::from_secs(3600)
            };
            tokio::select! {
                changed = state.changed() => if changed.is_err() { return },
                () = sleep(wait) => {}
            }
        }
    }

    async fn alarm(&self, state: State, issued: u64, sequence: u64) -> Result<(), SiteError> {
        let key = self.keys.alarm_key().ok_or(SiteError::NoAlarmKey)?;
        let lasts = self
            .alarm_for
            .as_secs()
            .min(limits::ALARM_LIFETIME_SECS_MAX);
        let alarm = Alarm {
            site: self.name.clone(),
            issued,
            // One that ends as it is issued takes the alarm back.
            until: if state.in_need() {
                issued.saturating_add(lasts)
            } else {
                issued
            },
            level: u8::from(state == State::Spike),
            home: self.url.to_string(),
            manifest_sequence: sequence,
        };
        let bytes = Bytes::from(SignedAlarm::sign(&alarm, key)?.to_bytes());
        self.known.change(|said| {
            said.alarm = state.in_need().then(|| bytes.clone());
        });
        Ok(self.tracker.alarm(self.node.http(), bytes).await?)
    }
}

/// What decisions need of each published file.
fn assets_of(manifest: &SiteManifest, root: &Path, url: &Url) -> Assets {
    let swarm_of = |path: &str| -> Option<SwarmId> {
        let path = SitePath::from_decoded(path).ok()?;
        let entry = manifest.files.get(&path)?;
        Some(manifest.bundle_of(entry)?.v1.swarm_id())
    };
    let known = |url_path: &str| -> Option<String> {
        let path = SitePath::parse(url_path).ok()?;
        manifest
            .files
            .contains_key(&path)
            .then(|| path.as_str().to_owned())
    };
    let mut assets = Vec::with_capacity(manifest.files.len());
    for (path, entry) in &manifest.files {
        let Some(bundle) = manifest.bundle_of(entry) else {
            continue;
        };
        let kind = Kind::of(&entry.media_type);
        let mut swarms = vec![bundle.v1.swarm_id()];
        let url_path = path.to_url();
        let text = matches!(kind, Kind::Script | Kind::Style)
            .then(|| read_text(root, path, entry.length))
            .flatten();
        let reach = match (kind, text) {
            (Kind::Page, _) => Reach::Home,
            (Kind::Script, Some(text)) => reach::of_script(&text),
            (Kind::Style, Some(text)) => match url.join(&url_path) {
                Ok(url) => {
                    let sheet = reach::of_sheet(&text, &url, known);
                    let drawn: HashSet<SwarmId> = sheet
                        .draws
                        .iter()
                        .filter_map(|path| swarm_of(path))
                        .collect();
                    swarms.extend(
                        drawn
                            .into_iter()
                            .filter(|swarm| *swarm != bundle.v1.swarm_id()),
                    );
                    sheet.reach
                }
                Err(_) => Reach::Home,
            },
            (Kind::Script | Kind::Style, None) => Reach::Home,
            _ => Reach::Anywhere,
        };
        let asset = Asset {
            url_path,
            length: entry.length,
            digest: entry.digest,
            kind,
            reach,
            swarms,
        };
        assets.push((path.as_str().to_owned(), asset));
    }
    assets.into_iter().collect()
}

fn read_text(root: &Path, path: &SitePath, length: u64) -> Option<String> {
    if length > SCAN_LEN_MAX {
        return None;
    }
    let mut file = root.to_owned();
    file.extend(path.components());
    String::from_utf8(std::fs::read(file).ok()?).ok()
}
