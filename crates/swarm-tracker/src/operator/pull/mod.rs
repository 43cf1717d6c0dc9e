//! A site is copied: what it lets everybody keep, asked for once, slowly, and within a budget.

mod copy;
mod fetch;
mod frontier;
mod judge;
mod links;

use std::io;
use std::path::Path;
use std::time::Duration;

use swarm_peer::http::Lane;
use swarm_peer::uplink::Downlink;
use swarm_proto::manifest::{HomeUrl, SiteName, SitePath};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use url::Url;

use copy::SiteCopy;
use fetch::{Came, Errand};
use frontier::{Frontier, Wanted};
use links::Within;

use crate::config::PullConfig;

/// Paths that are remembered for each file that a copy may have: more are looked at than fit.
const REMEMBERED: usize = 4;
/// How long a site that cannot be reached is left alone, doubled each time.
const FAILED: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));

/// Copies one site.
pub(super) struct Puller {
    site: SiteName,
    home: HomeUrl,
    config: PullConfig,
    lane: Lane,
    line: Downlink,
    copy: SiteCopy,
    frontier: Frontier,
    under_way: JoinSet<(SitePath, std::path::PathBuf, Came)>,
    /// Errands begun, for the names of their files.
    begun: u64,
    /// When the next errand may begin: so many a second.
    next: Instant,
    /// The site is not asked for anything before this.
    resting: Option<Instant>,
    /// How long it is left alone after the next failure.
    pause: Duration,
}

impl Puller {
    /// Goes on with the copy in `dir`. Blocks on the disk.
    pub(super) fn open(
        dir: &Path,
        site: SiteName,
        home: HomeUrl,
        lane: Lane,
        config: PullConfig,
    ) -> io::Result<Self> {
        Ok(Self {
            copy: SiteCopy::open(dir)?,
            frontier: Frontier::new(config.files_max.saturating_mul(REMEMBERED)),
            line: Downlink::limited(Some(config.rate)),
            site,
            home,
            config,
            lane,
            under_way: JoinSet::new(),
            begun: 0,
            next: Instant::now(),
            resting: None,
            pause: FAILED.0,
        })
    }

    pub(super) const fn copy(&mut self) -> &mut SiteCopy {
        &mut self.copy
    }

    /// From now on the site is at home there.
    pub(super) fn set_home(&mut self, home: HomeUrl) {
        self.home = home;
    }

    /// A visitor came for what the copy has not got.
    pub(super) fn want(&mut self, unix: u64, path: &SitePath) {
        if self.copy.get(path).is_none() {
            self.frontier.want(unix, path, Wanted::Visited);
        }
    }

    /// Asks again for what the site said to hold no longer.
    pub(super) fn refresh(&mut self, unix: u64) {
        for path in self.copy.stale(unix) {
            self.frontier.want(unix, &path, Wanted::Part);
        }
    }

    /// Whether nothing is under way, and nothing waits but for a site that has enough.
    pub(super) fn is_idle(&self) -> bool {
        self.under_way.is_empty() && (self.frontier.is_empty() || self.rests())
    }

    fn rests(&self) -> bool {
        self.resting.is_some_and(|until| until > Instant::now())
    }

    /// Goes on until something has come, or for ever where nothing is to be done. May be dropped
    /// at any moment.
    pub(super) async fn go_on(&mut self, unix: u64) {
        let came = loop {
            let may = self.under_way.len() < self.config.at_once && !self.rests();
            let now = Instant::now();
            if may
                && self.next <= now
                && let Some(errand) = self.next_errand()
            {
                self.next = now + Duration::from_secs(1) / self.config.requests.max(1);
                self.under_way.spawn(errand.run());
                continue;
            }
            let waits = may && !self.frontier.is_empty();
            tokio::select! {
                Some(came) = self.under_way.join_next() => break came,
                () = sleep_until(self.next), if waits => {}
                else => std::future::pending().await,
            }
        };
        match came {
            Ok((path, part, came)) => self.take(unix, path, &part, came),
            Err(error) => tracing::error!(site = %self.site, %error, "errand failed"),
        }
    }

    fn next_errand(&mut self) -> Option<Errand> {
        loop {
            let path = self.frontier.next()?;
            let held = self.copy.get(&path).cloned();
            let room = self.config.bytes_max.saturating_sub(self.copy.bytes());
            let own = held.as_ref().map_or(0, |held| held.length);
            let files = self.copy.len() + self.under_way.len();
            let full = held.is_none() && files >= self.config.files_max;
            if full || room.saturating_add(own) == 0 {
                self.frontier.gave_up(&path);
                continue;
            }
            self.begun += 1;
            let scheme = "http";
            let known_as = Url::parse(&format!("{scheme}://{}{}", self.site, path.to_url()));
            let Ok(known_as) = known_as else {
                self.frontier.gave_up(&path);
                continue;
            };
            return Some(Errand {
                base: self.home.base().to_owned(),
                held,
                part: self.copy.part(self.begun),
                len_max: room.saturating_add(own).min(self.config.file_len_max),
                timeout: self.config.timeout,
                refresh_secs: self.config.refresh.as_secs(),
                within: Within {
                    names: [self.site.clone(), self.home.site().clone()],
                },
                known_as,
                lane: self.lane.clone(),
                line: self.line.clone(),
                path,
            });
        }
    }

    fn take(&mut self, unix: u64, path: SitePath, part: &Path, came: Came) {
        use frontier::Came as Then;
        if !matches!(came, Came::Busy(_) | Came::Failed(_)) {
            self.pause = FAILED.0;
        }
        let then = match came {
            Came::New(held, links) => {
                let fresh_until = held.fresh_until;
                // What came meanwhile may have taken the room.
                let own = self.copy.get(&path).map_or(0, |held| held.length);
                let bytes = (self.copy.bytes() - own).saturating_add(held.length);
                if bytes > self.config.bytes_max {
                    discard(part);
                    Then::Unfit
                } else {
                    for (paths, why) in [(links.parts, Wanted::Part), (links.pages, Wanted::Linked)]
                    {
                        for link in paths {
                            if self.copy.get(&link).is_none() {
                                self.frontier.want(unix, &link, why);
                            }
                        }
                    }
                    match self.copy.take(path.clone(), *held, part) {
                        Ok(()) => Then::Kept { fresh_until },
                        Err(error) => self.disk_failed(&error),
                    }
                }
            }
            Came::Same(held) => {
                let fresh_until = held.fresh_until;
                self.copy.note(path.clone(), *held);
                Then::Kept { fresh_until }
            }
            Came::Moved(to) => {
                self.copy.forget(&path);
                self.frontier.want(unix, &to, Wanted::Part);
                Then::Unfit
            }
            Came::Unfit(why) => {
                tracing::debug!(site = %self.site, %path, ?why, "not to be copied");
                discard(part);
                self.copy.forget(&path);
                Then::Unfit
            }
            Came::TooLong | Came::Gone => {
                discard(part);
                self.copy.forget(&path);
                Then::Unfit
            }
            Came::Busy(wait) => {
                self.rest(wait);
                self.frontier.gave_up(&path);
                self.frontier.want(unix, &path, Wanted::Visited);
                tracing::info!(site = %self.site, ?wait, "the site has enough");
                return;
            }
            Came::Failed(why) => {
                discard(part);
                tracing::info!(site = %self.site, %path, why, "not copied");
                self.rest(self.pause);
                self.pause = (self.pause * 2).min(FAILED.1);
                Then::Failed
            }
            Came::Disk(error) => {
                discard(part);
                self.disk_failed(&error)
            }
        };
        self.frontier.came(unix, path, then);
    }

    fn disk_failed(&mut self, error: &io::Error) -> frontier::Came {
        tracing::error!(site = %self.site, %error, "copy cannot be written");
        self.rest(FAILED.1);
        frontier::Came::Failed
    }

    fn rest(&mut self, wait: Duration) {
        let until = Instant::now() + wait;
        self.resting = Some(self.resting.map_or(until, |other| other.max(until)));
    }
}

/// Removes what came in vain, if anything did.
fn discard(part: &Path) {
    if let Err(error) = std::fs::remove_file(part)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(part = %part.display(), %error, "not removed");
    }
}

#[cfg(test)]
mod tests;
