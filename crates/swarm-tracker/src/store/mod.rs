//! A fleet of trackers shares what it knows by a Redis server (spec 0006, 9).
//!
//! Each answers from its own memory, as if it were alone. One task writes here what has changed
//! here since it last did, one reads what others have written; the registry judges what of it is
//! of use. Where the server is away the tracker goes on, and all it knows is told again when the
//! server is back.

mod codec;
mod link;
mod sites;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::RedisError;
use swarm_proto::manifest::SiteName;
use tokio::sync::watch;

use crate::app::App;
use crate::config::{RedisUrl, StoreConfig};
use crate::registry::shared::{Change, Paper, Retelling};
use codec::Writer;
use link::{EntryId, Link, Read};
use sites::Source;

/// Pause between two writes: what happens here is known elsewhere that much later, and a round trip.
const PAUSE: Duration = Duration::from_millis(100);
/// Writes between two looks at whether the server still has what we wrote, and what its clock says.
const LOOK_EVERY: u32 = 50;
/// Peers that are told again with a write: 80,000 a second.
const RETOLD: usize = 8192;
/// Changes taken up at a time; announces wait meanwhile.
const AT_ONCE: usize = 1024;
/// Pauses between two attempts to reach the server.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3));
/// How long a start waits for what others know.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the last words at the end may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// Why the store cannot be used for now.
#[derive(Debug, thiserror::Error)]
enum Lost {
    /// It cannot be reached, does not answer, or refuses. The network's fault, or the operator's.
    #[error("{0}")]
    Redis(#[from] RedisError),
    /// It is another than before, or was emptied.
    #[error("it was emptied")]
    Emptied,
}

/// How this tracker stands with the store.
#[derive(Debug)]
pub(crate) struct Store {
    url: Option<RedisUrl>,
    connected: AtomicBool,
    /// Whether what others know has been read once, or cannot be.
    tried: watch::Sender<bool>,
}

impl Store {
    pub(crate) fn new(config: &StoreConfig) -> Self {
        let url = match config {
            StoreConfig::Memory => None,
            StoreConfig::Redis(url) => Some(url.clone()),
        };
        Self {
            tried: watch::Sender::new(url.is_none()),
            connected: AtomicBool::new(false),
            url,
        }
    }

    /// `memory`: nothing is to be shared. `shared`: all is. `alone`: it was to be.
    pub(crate) fn word(&self) -> &'static str {
        match (&self.url, self.connected.load(Ordering::Relaxed)) {
            (None, _) => "memory",
            (Some(_), true) => "shared",
            (Some(_), false) => "alone",
        }
    }

    /// For Prometheus; nothing where nothing is to be shared.
    pub(crate) fn render(&self) -> String {
        const NAME: &str = "swarm_tracker_store_connected";
        if self.url.is_none() {
            return String::new();
        }
        let value = u8::from(self.connected.load(Ordering::Relaxed));
        format!(
            "# HELP {NAME} Whether what others know is shared.\n# TYPE {NAME} gauge\n{NAME} {value}\n"
        )
    }

    /// Waits, not for long, until this tracker knows what others do.
    pub(crate) async fn wait(&self) {
        let mut tried = self.tried.subscribe();
        // Fails only where the sender is gone, and `self` holds it.
        let _ = tokio::time::timeout(PATIENCE, tried.wait_for(|tried| *tried)).await;
    }
}

/// Shares until the shutdown.
pub(crate) async fn keep(app: Arc<App>) {
    let Some(url) = app.store.url.clone() else {
        return;
    };
    let mut keeper = Keeper {
        writer: rand::random(),
        known: None,
        unseen: BTreeMap::new(),
        app,
    };
    keeper.run(&url).await;
}

struct Keeper {
    app: Arc<App>,
    writer: Writer,
    /// Which server's life we know, and how far we have read.
    known: Option<(Vec<u8>, EntryId)>,
    /// Sites of which others have said something new that was not looked at yet.
    unseen: BTreeMap<SiteName, Paper>,
}

impl Keeper {
    async fn run(&mut self, url: &RedisUrl) {
        let app = Arc::clone(&self.app);
        let place = url.place();
        let mut pause = RETRY.0;
        let mut told = false;
        loop {
            let session = self.session(url);
            let lost = tokio::select! {
                ended = session => match ended {
                    Ok(()) => return,
                    Err(lost) => lost,
                },
                () = farewell(&app) => return,
            };
            app.registry().share(false);
            let was_connected = app.store.connected.swap(false, Ordering::Relaxed);
            app.store.tried.send_replace(true);
            if was_connected {
                app.metrics.store_lost.add();
                pause = RETRY.0;
            }
            if was_connected || !told {
                told = true;
                tracing::warn!(%place, error = %lost, "store lost, going on alone");
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = app.shutdown.cancelled() => return,
            }
            pause = (pause * 2).min(RETRY.1);
        }
    }

    /// Shares for as long as the server answers, or until the shutdown.
    async fn session(&mut self, url: &RedisUrl) -> Result<(), Lost> {
        let app = Arc::clone(&self.app);
        let link = Link::open(url, app.clone()).await?;
        let epoch = link.epoch().await?;
        let mut last = match &self.known {
            Some((known, last)) if *known == epoch => *last,
            _ => link.since(app.peer_age),
        };
        self.known = Some((epoch.clone(), last));
        {
            // What a site sends from now on is told, were it looked at already.
            let mut registry = app.registry();
            registry.share(true);
            let sites = registry.site_names().into_iter();
            self.unseen.extend(sites.map(|site| (site, Paper::Record)));
        }
        self.look(&link).await?;
        let retelling = app.registry().retell();
        self.take_barrings(&link).await?;
        loop {
            let read = link.read(last, None).await?;
            // Others go on writing: who waited for the very end might wait long.
            let caught_up = read.len() < link::READ;
            self.take(read, &mut last, &link).await;
            if caught_up {
                break;
            }
        }
        self.look(&link).await?;
        self.take_completed(&link).await?;
        let place = url.place();
        tracing::info!(%place, "store reached, sharing what is known");
        app.store.connected.store(true, Ordering::Relaxed);
        app.store.tried.send_replace(true);
        let writer = self.writer;
        let mut writing = Box::pin(write(&app, &writer, &link, &epoch, retelling));
        loop {
            // A read that is given up has lost nothing: the next begins where the last one ended.
            tokio::select! {
                ended = &mut writing => return ended,
                read = link.read(last, Some(Duration::from_secs(1))) => {
                    let read = read?;
                    let take = async {
                        self.take(read, &mut last, &link).await;
                        self.look(&link).await
                    };
                    tokio::select! {
                        ended = &mut writing => return ended,
                        taken = take => taken?,
                    }
                }
            }
        }
    }

    /// Takes up what others have written, and notes of which sites something is new.
    async fn take(&mut self, read: Vec<Read>, last: &mut EntryId, link: &Link) {
        let app = Arc::clone(&self.app);
        for Read { id, payload } in read {
            let decoded = payload
                .ok_or(codec::Damaged::Bad("fields"))
                .and_then(|payload| codec::decode(&payload));
            let entry = match decoded {
                Ok(entry) => entry,
                Err(error) => {
                    app.metrics.store_refused.add();
                    tracing::warn!(%error, %id, "entry of the store not read");
                    self.have_read(last, id);
                    continue;
                }
            };
            if entry.writer != self.writer {
                let ago = link.ago(id);
                let mut taken = 0;
                for peers in entry.peers.chunks(AT_ONCE) {
                    {
                        let now = app.now();
                        let mut registry = app.registry();
                        let used = peers.iter().filter(|p| registry.apply_peer(now, ago, p));
                        taken += used.count();
                    }
                    tokio::task::yield_now().await;
                }
                for change in entry.others {
                    let (site, paper) = match change {
                        Change::Site(site) => (site, Paper::Record),
                        Change::Alarm(site) => (site, Paper::Alarm),
                        other => {
                            let now = app.now();
                            taken += usize::from(app.registry().apply(now, ago, &other));
                            continue;
                        }
                    };
                    let known = self.unseen.entry(site).or_insert(paper);
                    *known = paper.max(*known);
                    taken += 1;
                }
                app.metrics.store_read.add_many(taken as u64);
            }
            self.have_read(last, id);
        }
    }

    /// An entry that has taken effect is not read again, whatever becomes of this session: its
    /// visits would count twice.
    fn have_read(&mut self, last: &mut EntryId, id: EntryId) {
        *last = id;
        if let Some((_, known)) = &mut self.known {
            *known = id;
        }
    }

    /// Looks at sites of which something is new.
    async fn look(&mut self, link: &Link) -> Result<(), Lost> {
        while let Some((site, paper)) = self.unseen.first_key_value() {
            let (site, paper) = (site.clone(), *paper);
            sites::agree(&self.app, &self.writer, link, &site, paper, Source::There).await?;
            self.unseen.remove(&site);
        }
        Ok(())
    }

    /// Takes up who is barred.
    async fn take_barrings(&self, link: &Link) -> Result<(), Lost> {
        for (bytes, left) in link.barrings().await? {
            let left_secs = u32::try_from(left.as_secs()).unwrap_or(u32::MAX);
            match codec::decode_barring(&bytes, left_secs) {
                Ok(barring) => {
                    let change = Change::Barred(Box::new(barring));
                    let now = self.app.now();
                    self.app.registry().apply(now, Duration::ZERO, &change);
                }
                Err(error) => {
                    self.app.metrics.store_refused.add();
                    tracing::warn!(%error, "eviction in the store not read");
                }
            }
        }
        Ok(())
    }

    /// Takes up how many downloads were completed of the swarms that are known.
    async fn take_completed(&self, link: &Link) -> Result<(), Lost> {
        let mut cursor = 0;
        loop {
            let (next, some) = link.completed(cursor).await?;
            let mut registry = self.app.registry();
            for (swarm, count) in some {
                registry.learn_completed(swarm, count);
            }
            cursor = next;
            if cursor == 0 {
                return Ok(());
            }
        }
    }
}

/// A little longer than until the shutdown: the last words are to be written.
async fn farewell(app: &App) {
    app.shutdown.cancelled().await;
    tokio::time::sleep(FAREWELL).await;
}

/// Writes what has changed, until the shutdown.
async fn write(
    app: &Arc<App>,
    writer: &Writer,
    link: &Link,
    epoch: &[u8],
    retelling: Retelling,
) -> Result<(), Lost> {
    let mut tick = tokio::time::interval(PAUSE);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut retelling = Some(retelling);
    let mut bridges = true;
    for round in 0_u32.. {
        let last = tokio::select! {
            _ = tick.tick() => false,
            () = app.shutdown.cancelled() => true,
        };
        if round % LOOK_EVERY == LOOK_EVERY - 1 && link.epoch().await? != epoch {
            return Err(Lost::Emptied);
        }
        let (mut changes, completed) = {
            let now = app.now();
            let mut registry = app.registry();
            let mut changes = registry.take_changes();
            let mut completed = Vec::new();
            if changes.dropped > 0 {
                retelling = Some(registry.retell());
                // Evictions may be among what was dropped.
                bridges = true;
            }
            if std::mem::take(&mut bridges) {
                changes.others.extend(registry.retell_bridges(now));
            }
            if let Some(some) = &mut retelling {
                let told = registry.retell_peers(now, some, RETOLD);
                if told.is_all() {
                    retelling = None;
                }
                completed = told.completed;
                changes.peers.extend(told.peers);
            }
            (changes, completed)
        };
        app.metrics.store_dropped.add_many(changes.dropped);
        let mut kept = Vec::with_capacity(changes.others.len());
        for change in std::mem::take(&mut changes.others) {
            let (site, paper) = match change {
                Change::Site(site) => (site, Paper::Record),
                Change::Alarm(site) => (site, Paper::Alarm),
                other => {
                    kept.push(other);
                    continue;
                }
            };
            // Told once it is in the store.
            sites::agree(app, writer, link, &site, paper, Source::Here).await?;
        }
        changes.others = kept;
        let count = changes.len() as u64;
        link.write(writer, changes, &completed).await?;
        app.metrics.store_written.add_many(count);
        if last {
            return Ok(());
        }
    }
    Ok(())
}
