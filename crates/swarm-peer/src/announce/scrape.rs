//! Figures of swarms that we are not in (BEP 48): asked once, without joining.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use swarm_proto::id::SwarmId;
use swarm_proto::limits;
use swarm_proto::tracker::ScrapeEntry;

use super::routes::{Route, Tracker, routes};
use super::{AnnounceError, groups};
use crate::connector::{AddressPolicy, Connector, Trust};
use crate::http::{HttpClient, HttpError};
use crate::node::AddBundle;

/// Time for one tracker: a packet of UDP is sent once more within it.
const DEADLINE: Duration = Duration::from_secs(20);

/// Time for one call.
const DIAL_MAX: Duration = Duration::from_secs(5);

/// Asks trackers how many hold a bundle.
#[derive(Clone)]
pub struct Scraper {
    routes: Arc<[Route]>,
    from: IpAddr,
}

impl std::fmt::Debug for Scraper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scraper").finish_non_exhaustive()
    }
}

/// What one tracker said.
#[derive(Debug)]
pub struct Scraped {
    /// Its URL; see [`shown_url`](crate::report::shown_url) before it is shown.
    pub url: String,
    /// Figures by swarm, those left out that it does not know; or why there are none.
    pub said: Result<Vec<(SwarmId, ScrapeEntry)>, AnnounceError>,
}

impl Scraper {
    /// Asks from the address `from`, whatever that may be if it is unspecified, where `policy`
    /// lets strangers send us.
    ///
    /// # Errors
    /// [`HttpError`]: TLS is not available.
    pub fn new(policy: AddressPolicy, from: IpAddr) -> Result<Self, HttpError> {
        let http = HttpClient::from_address(policy.clone(), from)?;
        let connector = Connector::new(policy, DIAL_MAX).with_source(from);
        Ok(Self {
            routes: routes(&http, &connector, from),
            from,
        })
    }

    /// Asks each tracker of a bundle once, all at a time, as announces would be sent to it; over
    /// UDP only if `udp`.
    pub async fn ask(&self, bundle: &AddBundle, udp: bool) -> Vec<Scraped> {
        let ids = bundle.source.swarm_ids();
        let ids = ids.get(..limits::SCRAPE_HASHES_MAX).unwrap_or(&ids);
        let trackers = groups(bundle, udp).into_iter().flatten().flatten();
        let asked = trackers.map(|(url, trust)| async move {
            let said = self.ask_one(&url, trust, ids).await;
            Scraped { url, said }
        });
        join_all(asked).await
    }

    async fn ask_one(
        &self,
        url: &str,
        trust: Trust,
        ids: &[SwarmId],
    ) -> Result<Vec<(SwarmId, ScrapeEntry)>, AnnounceError> {
        let mut tracker = Tracker::new(&self.routes, self.from, url.to_owned(), trust);
        let asked = tokio::time::timeout(DEADLINE, tracker.scrape(ids));
        asked.await.unwrap_or(Err(AnnounceError::Slow))
    }
}
