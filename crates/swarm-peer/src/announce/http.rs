//! Announces over HTTP (BEP 3, 7, 23).

use std::time::Duration;

use swarm_proto::limits;
use swarm_proto::tracker::AnnounceRequest;
use swarm_proto::tracker::http::{ReplyError, announce_url, decode_reply};

use super::{AnnounceError, Answer};
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
