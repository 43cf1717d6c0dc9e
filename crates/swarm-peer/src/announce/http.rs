//! Announces and scrapes over HTTP (BEP 3, 7, 23, 48).

use std::time::Duration;

use swarm_proto::id::SwarmId;
use swarm_proto::limits;
use swarm_proto::tracker::http::{
    ReplyError, announce_url, decode_reply, decode_scrape_reply, scrape_url,
};
use swarm_proto::tracker::{AnnounceRequest, ScrapeRequest};

use super::{AnnounceError, Answer, Figures};
use crate::connector::Trust;
use crate::http::HttpClient;

/// Time for one announce.
const DEADLINE: Duration = Duration::from_secs(15);

/// A tracker at a URL.
pub(super) struct HttpTracker {
    pub(super) http: HttpClient,
    pub(super) url: String,
    pub(super) trust: Trust,
}

impl HttpTracker {
    /// Asks for figures (BEP 48).
    pub(super) async fn scrape(&self, ids: &[SwarmId]) -> Result<Figures, AnnounceError> {
        let request = ScrapeRequest {
            swarm_ids: ids.to_vec(),
        };
        let url = scrape_url(&self.url, &request).ok_or(AnnounceError::NoScrape)?;
        let cap = limits::TRACKER_REPLY_LEN_MAX;
        let answer = self.http.get(&url, cap, DEADLINE, self.trust).await?;
        match decode_scrape_reply(&answer.body) {
            Ok(reply) => Ok(reply.files),
            Err(ReplyError::Failure { reason, .. }) => Err(AnnounceError::Refused {
                reason,
                retry_in: None,
            }),
            Err(_) if !answer.status.is_success() => Err(AnnounceError::Status(answer.status)),
            Err(error) => Err(AnnounceError::Rubbish(error)),
        }
    }

    pub(super) async fn announce(
        &self,
        request: &AnnounceRequest,
    ) -> Result<Answer, AnnounceError> {
        let url = announce_url(&self.url, request);
        let cap = limits::TRACKER_REPLY_LEN_MAX;
        let answer = self.http.get(&url, cap, DEADLINE, self.trust).await?;
        if answer.status == http::StatusCode::GONE {
            return Err(AnnounceError::Gone);
        }
        let trust = answer.trust_in_contents();
        match decode_reply(&answer.body) {
            Ok(reply) => Ok(Answer { reply, trust }),
            Err(ReplyError::Failure {
                reason,
                retry_in_minutes,
            }) => Err(AnnounceError::Refused {
                reason,
                retry_in: retry_in_minutes.map(|n| Duration::from_secs(60 * u64::from(n))),
            }),
            Err(_) if !answer.status.is_success() => Err(AnnounceError::Status(answer.status)),
            Err(error) => Err(AnnounceError::Rubbish(error)),
        }
    }
}
