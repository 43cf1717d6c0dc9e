//! A volunteer: follows the tracker's list of sites in need, carries them while their alarm
//! stands, hands visitors home afterwards, and leaves when the lease is over.
//!
//! The list is a hint. What a volunteer acts on is the alarm within it, signed with the site's
//! alarm key, which the site's root key vouches for; a site that did not ask is never served.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use swarm_proto::manifest::{SignedAlarm, SiteName};
use swarm_proto::tracker::register::SiteInNeed;
use tokio_util::sync::CancellationToken;

use crate::bridge::{BridgeHandle, Carry};
use crate::config::LeaseConfig;
use crate::limits::SITES_MAX;
use crate::site::Standing;
use crate::site_source::{SiteSource, unix_now};

/// How long the tracker may hold a poll open.
const POLL_WAIT: Duration = Duration::from_secs(25);
/// First and longest pause after a failed poll.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// How often leases are looked at.
const TICK: Duration = Duration::from_secs(1);

/// Whether a lease is over.
///
/// `until`: end of the latest alarm; `now` in Unix seconds; `hits` and `bytes` as given so far.
pub fn lease_is_over(lease: &LeaseConfig, until: u64, now: u64, hits: u64, bytes: u64) -> bool {
    let spent = |limit: u64, used: u64| limit != 0 && used >= limit;
    now >= until.saturating_add(lease.linger.as_secs())
        || spent(lease.hits, hits)
        || spent(lease.bytes, bytes)
}

/// Follows the list of sites in need and obeys it.
pub struct Volunteer {
    bridge: BridgeHandle,
    source: SiteSource,
    lease: LeaseConfig,
    /// Empty: every site.
    only: HashSet<SiteName>,
    /// End of the latest alarm of each site carried; bounded by what the bridge carries.
    alarms: HashMap<SiteName, u64>,
    /// Of them, those whose alarm has ended: trackers were told to send nobody any more.
    lapsed: HashSet<SiteName>,
    /// Sites whose lease was used up while their alarm stood; not taken up again before it ends.
    spent: HashMap<SiteName, u64>,
}

impl Volunteer {
    /// A volunteer that lets `bridge` carry sites in need, those in `only` if any are named.
    pub fn new(
        bridge: BridgeHandle,
        source: SiteSource,
        lease: LeaseConfig,
        only: impl IntoIterator<Item = SiteName>,
    ) -> Self {
        Self {
            bridge,
            source,
            lease,
            only: only.into_iter().collect(),
            alarms: HashMap::new(),
            lapsed: HashSet::new(),
            spent: HashMap::new(),
        }
    }

    /// Runs until `shutdown`.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut since = 0;
        let mut pause = BACKOFF.0;
        loop {
            let source = self.source.clone();
            let poll = async move {
                let reply = source.sites_in_need(since, POLL_WAIT).await;
                if reply.is_err() {
                    tokio::time::sleep(pause).await;
                }
                reply
            };
            let mut poll = std::pin::pin!(poll);
            let reply = loop {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    reply = poll.as_mut() => break reply,
                    () = tokio::time::sleep(TICK) => self.end_leases(unix_now()).await,
                }
            };
            match reply {
                Ok(reply) => {
                    pause = BACKOFF.0;
                    since = reply.version;
                    self.lower_unlisted(&reply.sites);
                    for site in reply.sites {
                        if shutdown.is_cancelled() {
                            return;
                        }
                        self.help(&site).await;
                    }
                }
                Err(error) => {
                    pause = (pause * 2).min(BACKOFF.1);
                    since = 0;
                    tracing::warn!(%error, "list of sites in need not to be had");
                }
            }
            self.end_leases(unix_now()).await;
        }
    }

    /// A site takes its alarm back before its end by leaving the list. A tracker that lies about
    /// that only sends visitors home.
    fn lower_unlisted(&mut self, listed: &[SiteInNeed]) {
        let listed: HashSet<&SiteName> = listed.iter().map(|entry| &entry.site).collect();
        let now = unix_now();
        for (site, until) in &mut self.alarms {
            if *until > now && !listed.contains(site) {
                *until = now;
                let over = Standing::Alarmed { until: now };
                self.bridge.set_standing(site, over, None);
            }
        }
    }

    async fn help(&mut self, entry: &SiteInNeed) {
        let site = &entry.site;
        if !self.only.is_empty() && !self.only.contains(site) {
            return;
        }
        if self.spent.contains_key(site) {
            return;
        }
        if self.bridge.site(site).is_none() && self.alarms.len() >= SITES_MAX {
            return;
        }
        if let Err(error) = self.try_help(entry).await {
            tracing::warn!(%site, error = %swarm_peer::http::chain(error.as_ref()), "site not helped");
        }
    }

    async fn try_help(
        &mut self,
        entry: &SiteInNeed,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let site = &entry.site;
        let claimed = SignedAlarm::parse(&entry.alarm)?;
        let carried = self.bridge.site(site);
        let newest = carried.as_ref().is_some_and(|site| {
            let edition = site.edition();
            edition.manifest().sequence >= claimed.claimed().manifest_sequence
                && !edition.is_stale(unix_now().saturating_add(3600))
        });
        if !newest {
            // Whoever lists a site need not be believed, so the record is fetched before the
            // alarm can be judged; the source bounds what that costs.
            self.source.refresh(site).await?;
        }
        let opened = self.source.opened(site).ok_or("no record of the site")?;
        let alarm = claimed.verify(&opened.keys, unix_now())?;
        let standing = Standing::Alarmed { until: alarm.until };
        if !newest {
            let carry = Carry {
                manifest: opened.manifest.clone(),
                fresh_until: opened.fresh_until,
                standing,
                home: Some(alarm.home.clone()),
            };
            self.bridge.add_site(carry).await?;
        }
        self.bridge.set_standing(site, standing, Some(&alarm.home));
        if self.lapsed.remove(site) {
            self.bridge.offer_site(site, true);
        }
        if self.alarms.insert(site.clone(), alarm.until).is_none() {
            tracing::info!(%site, until = alarm.until, "helping");
        }
        Ok(())
    }

    async fn end_leases(&mut self, now: u64) {
        self.spent.retain(|_, until| now < *until);
        let mut over = Vec::new();
        for (site, until) in &self.alarms {
            let (hits, bytes) = match self.bridge.site(site) {
                Some(site) => (site.stats().hits(), site.stats().bytes()),
                None => (0, 0),
            };
            if lease_is_over(&self.lease, *until, now, hits, bytes) {
                over.push((site.clone(), *until));
            } else if now >= *until && self.lapsed.insert(site.clone()) {
                self.bridge.offer_site(site, false);
                tracing::info!(%site, "alarm over, visitors go home");
            }
        }
        for (site, until) in over {
            self.alarms.remove(&site);
            self.lapsed.remove(&site);
            if now < until {
                self.spent.insert(site.clone(), until);
            }
            tracing::info!(%site, "lease over");
            self.bridge.remove_site(&site).await;
            self.source.forget_manifest(&site);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_ends_by_time_hits_or_bytes() {
        let lease = LeaseConfig {
            linger: Duration::from_secs(60),
            hits: 10,
            bytes: 1000,
        };
        for (now, hits, bytes, over) in [
            (0, 0, 0, false),
            (159, 9, 999, false),
            (160, 0, 0, true),
            (0, 10, 0, true),
            (0, 0, 1000, true),
        ] {
            assert_eq!(
                lease_is_over(&lease, 100, now, hits, bytes),
                over,
                "{now} {hits} {bytes}"
            );
        }
        let unlimited = LeaseConfig {
            hits: 0,
            bytes: 0,
            ..lease
        };
        assert!(!lease_is_over(&unlimited, 100, 0, u64::MAX, u64::MAX));
        assert!(!lease_is_over(&unlimited, u64::MAX, 5, 0, 0));
    }
}
