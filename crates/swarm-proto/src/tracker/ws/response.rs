//! What a tracker says to a peer.

use std::collections::BTreeMap;

use serde::Serialize;

use super::latin1;
use super::request::{ANSWER, Description, OFFER, Offer, OfferId};
use crate::id::{PeerId, SwarmId};
use crate::tracker::{AnnounceReply, ScrapeReply};

/// What a tracker tells one peer. Of each swarm it speaks by the id that this very peer announced:
/// clients ignore what bears another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Response<'a> {
    /// To an announce. Its peers are not told: they come by themselves, as offers and answers.
    Announce(SwarmId, &'a AnnounceReply),
    /// Somebody offers a connection.
    Offer(SwarmId, PeerId, &'a Offer),
    /// Somebody takes this peer's offer: swarm, who, which, and the session description.
    Answer(SwarmId, PeerId, &'a OfferId, &'a str),
    /// To a scrape.
    Scrape(&'a ScrapeReply),
    /// A refusal, of an announce where a swarm is named.
    Failure(Option<SwarmId>, &'a str),
}

impl Response<'_> {
    /// The message as it is sent.
    pub fn encode(&self) -> String {
        let raw = match self {
            Self::Announce(swarm_id, reply) => Raw {
                complete: Some(reply.complete),
                incomplete: Some(reply.incomplete),
                interval: Some(reply.interval),
                min_interval: reply.min_interval,
                warning: reply.warning.as_deref(),
                ..Raw::about(swarm_id)
            },
            Self::Offer(swarm_id, peer_id, offer) => Raw {
                peer_id: Some(latin1(peer_id.as_ref())),
                offer_id: Some(latin1(&offer.id)),
                offer: Some(Description::new(OFFER, &offer.sdp)),
                ..Raw::about(swarm_id)
            },
            Self::Answer(swarm_id, peer_id, offer_id, sdp) => Raw {
                peer_id: Some(latin1(peer_id.as_ref())),
                offer_id: Some(latin1(&offer_id[..])),
                answer: Some(Description::new(ANSWER, sdp)),
                ..Raw::about(swarm_id)
            },
            Self::Scrape(reply) => Raw {
                action: Some("scrape"),
                files: Some(
                    reply
                        .files
                        .iter()
                        .map(|(swarm_id, entry)| {
                            let figures = Figures {
                                complete: entry.complete,
                                downloaded: entry.downloaded,
                                incomplete: entry.incomplete,
                            };
                            (latin1(swarm_id.as_ref()), figures)
                        })
                        .collect(),
                ),
                ..Raw::default()
            },
            Self::Failure(swarm_id, reason) => Raw {
                failure: Some(reason),
                ..swarm_id.as_ref().map(Raw::about).unwrap_or_default()
            },
        };
        // Strings, numbers and maps by strings: nothing that JSON cannot hold.
        serde_json::to_string(&raw).unwrap_or_default()
    }
}

#[derive(Debug, Default, Serialize)]
struct Raw<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    info_hash: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    complete: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    incomplete: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interval: Option<u32>,
    #[serde(rename = "min interval", skip_serializing_if = "Option::is_none")]
    min_interval: Option<u32>,
    #[serde(rename = "warning message", skip_serializing_if = "Option::is_none")]
    warning: Option<&'a str>,
    #[serde(rename = "failure reason", skip_serializing_if = "Option::is_none")]
    failure: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offer_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offer: Option<Description>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<Description>,
    #[serde(skip_serializing_if = "Option::is_none")]
    files: Option<BTreeMap<String, Figures>>,
}

#[derive(Debug, Serialize)]
struct Figures {
    complete: u32,
    downloaded: u32,
    incomplete: u32,
}

impl Raw<'_> {
    fn about(swarm_id: &SwarmId) -> Self {
        Self {
            action: Some("announce"),
            info_hash: Some(latin1(swarm_id.as_ref())),
            ..Self::default()
        }
    }
}
