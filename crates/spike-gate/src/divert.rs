//! What the gate knows and shares between requests: what is published, who answers for it, how
//! much was sent away. [`Divert`] is one request's view of it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Instant;

use tokio::sync::watch;
use url::Url;

use crate::assets::{Asset, Assets};
use crate::bridges::{LiveBridge, Spread};
use crate::csp::{Policy, PolicyBook};
use crate::decide::{Decision, View, decide};
use crate::facts::Facts;
use crate::lane::Lane;
use crate::meter::Meter;
use crate::overload::State;

/// Pages whose files are remembered, to know what a visitor's browser holds already.
const PAGES_MAX: usize = 1024;

/// Files remembered over all those pages.
const FILES_MAX: usize = 256 * 1024;

/// What does not change while the gate runs.
#[derive(Debug, Clone)]
pub struct Frontage {
    /// The site's own address, as visitors see it.
    pub site: Url,
    /// Path prefixes that stay home.
    pub keep: Vec<String>,
    /// The page the banner links to; `None`: no banner.
    pub invitation: Option<String>,
}

/// Shared by all requests.
#[derive(Debug)]
pub struct Shared {
    frontage: Frontage,
    held: RwLock<Held>,
    spread: Mutex<Spread>,
    policies: Mutex<PolicyBook>,
    seen: Mutex<SeenBook>,
    meter: Arc<Meter>,
    lane: Lane,
    changes: watch::Sender<()>,
}

#[derive(Debug, Clone)]
struct Held {
    state: State,
    assets: Arc<Assets>,
    bridges: Arc<Vec<LiveBridge>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Calm, with nothing published and nobody to send to.
    pub fn new(frontage: Frontage, meter: Arc<Meter>) -> Self {
        Self {
            frontage,
            held: RwLock::new(Held {
                state: State::Calm,
                assets: Arc::default(),
                bridges: Arc::default(),
            }),
            spread: Mutex::default(),
            policies: Mutex::default(),
            seen: Mutex::default(),
            meter,
            lane: Lane::default(),
            changes: watch::channel(()).0,
        }
    }

    /// Moves the state.
    pub fn set_state(&self, state: State) {
        self.change(|held| held.state = state);
    }

    /// Replaces what is published.
    pub fn set_assets(&self, assets: Assets) {
        let assets = Arc::new(assets);
        self.change(|held| held.assets = assets);
    }

    /// Replaces the bridges.
    pub fn set_bridges(&self, bridges: Vec<LiveBridge>) {
        lock(&self.spread).retain(&bridges);
        let bridges = Arc::new(bridges);
        self.change(|held| held.bridges = bridges);
    }

    fn change(&self, change: impl FnOnce(&mut Held)) {
        change(&mut self.held.write().unwrap_or_else(PoisonError::into_inner));
        self.changes.send_replace(());
    }

    /// Tells whoever waits that it is worth deciding again.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Where large answers wait for their turn.
    pub fn lane(&self) -> &Lane {
        &self.lane
    }

    fn held(&self) -> Held {
        self.held
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The state now.
    pub fn state(&self) -> State {
        self.held
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .state
    }

    /// The bridges now.
    pub fn bridges(&self) -> Arc<Vec<LiveBridge>> {
        self.held().bridges
    }

    /// What is published now.
    pub fn assets(&self) -> Arc<Assets> {
        self.held().assets
    }

    /// Notes the policy of a page that goes out.
    pub fn note_policy(&self, path: &str, policy: Policy) {
        lock(&self.policies).note(path, policy);
    }

    /// Notes the policy in the headers of a page that is going to be rewritten.
    pub fn note_head_policy(&self, path: &str, policy: Policy) {
        lock(&self.policies).note_head(path, policy);
    }

    /// The counters.
    pub fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// What does not change.
    pub fn frontage(&self) -> &Frontage {
        &self.frontage
    }
}

/// One request's view.
#[derive(Debug)]
pub struct Divert {
    shared: Arc<Shared>,
    state: State,
    /// What is published.
    pub assets: Arc<Assets>,
    bridges: Arc<Vec<LiveBridge>>,
}

impl Divert {
    /// The view at this moment.
    pub fn now(shared: &Arc<Shared>) -> Self {
        let Held {
            state,
            assets,
            bridges,
        } = shared.held();
        Self {
            shared: shared.clone(),
            state,
            assets,
            bridges,
        }
    }

    /// The state this request is judged by.
    pub fn state(&self) -> State {
        self.state
    }

    /// What the gate knows.
    pub fn view(&self) -> View<'_> {
        View {
            state: self.state,
            assets: &self.assets,
            bridges: &self.bridges,
            secure: self.shared.frontage.site.scheme() == "https",
            host: self.shared.frontage.site.host_str().unwrap_or_default(),
            keep: &self.shared.frontage.keep,
        }
    }

    /// Decides, and books what is sent away.
    pub fn decide(&self, facts: &Facts, now: Instant) -> Decision {
        if !self.state.in_need() {
            return Decision::Pass;
        }
        let policies = lock(&self.shared.policies);
        let mut spread = lock(&self.shared.spread);
        decide(facts, &self.view(), &policies, &mut spread, now)
    }

    /// Chooses a bridge and books `bytes` on it.
    pub fn choose<'a>(
        &self,
        now: Instant,
        asset: &Asset,
        bytes: u64,
        candidates: &[&'a LiveBridge],
    ) -> Option<&'a LiveBridge> {
        lock(&self.shared.spread).choose(now, asset, bytes, candidates)
    }

    /// Whether a URL is of the site.
    pub fn is_ours(&self, url: &Url) -> bool {
        url.origin() == self.shared.frontage.site.origin()
    }

    /// The invitation's link.
    pub fn invitation(&self) -> Option<&str> {
        self.shared.frontage.invitation.as_deref()
    }

    /// Whether the page the visitor comes from had this file, so that the browser has it.
    pub fn was_on(&self, referer: Option<&str>, file: &str) -> bool {
        referer.is_some_and(|page| lock(&self.shared.seen).has(page, file))
    }

    /// Notes the policy of a page, as far as its markup was read.
    pub fn note_policy(&self, page: &str, policy: Policy) {
        self.shared.note_policy(page, policy);
    }

    /// A page is rewritten: `files` of it were moved, and `bytes` need not leave here.
    pub fn page_done(&self, page: &str, files: HashSet<String>, bytes: u64) {
        self.shared.meter.page_rewritten(files.len(), bytes);
        lock(&self.shared.seen).note(page, files);
    }
}

/// Which files were on which page.
#[derive(Debug, Default)]
struct SeenBook {
    pages: HashMap<String, HashSet<String>>,
    files: usize,
}

impl SeenBook {
    fn note(&mut self, page: &str, files: HashSet<String>) {
        if let Some(old) = self.pages.remove(page) {
            self.files -= old.len();
        }
        while self.pages.len() >= PAGES_MAX || self.files + files.len() > FILES_MAX {
            let Some(victim) = self.pages.keys().next().cloned() else {
                return;
            };
            let old = self.pages.remove(&victim).unwrap_or_default();
            self.files -= old.len();
        }
        self.files += files.len();
        self.pages.insert(page.to_owned(), files);
    }

    fn has(&self, page: &str, file: &str) -> bool {
        self.pages
            .get(page)
            .is_some_and(|files| files.contains(file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_book_of_pages_is_bounded() {
        let mut book = SeenBook::default();
        for page in 0..2 * PAGES_MAX {
            let files = (0..200).map(|file| format!("/{page}/{file}")).collect();
            book.note(&format!("/{page}"), files);
        }
        assert!(book.pages.len() <= PAGES_MAX && book.files <= FILES_MAX);
        assert_eq!(
            book.files,
            book.pages.values().map(HashSet::len).sum::<usize>()
        );
        book.note("/a", HashSet::from(["/x".to_owned()]));
        assert!(book.has("/a", "/x") && !book.has("/a", "/y") && !book.has("/b", "/x"));
        book.note("/a", HashSet::new());
        assert!(!book.has("/a", "/x"));
    }
}
