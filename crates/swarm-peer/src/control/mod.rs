//! The control socket: how other programs of the same user ask a running peer what it does, and
//! tell it what to do.
//!
//! A Unix socket of mode 0600, never a TCP port: no web page can reach it, whatever name it rebinds
//! to us. A caller writes one line of JSON, a [`Request`]; the peer answers with one line and
//! closes. The answer is an object, `{"error":"…"}` if nothing was done.
//!
//! ```text
//! {"do":"status","peers":true}                       what it does, with each connection
//! {"do":"limit","upload":"20Mbit","download":"unlimited"}    of all bundles together
//! {"do":"limit","bundle":"<info hash>","upload":"1MB/s"}     of one
//! {"do":"pause","bundle":"<info hash>"}              one, or all where none is named
//! {"do":"resume"}                                    the same
//! {"do":"add","what":"magnet:?xt=…","out":"/dir"}    or the path of a .torrent
//! {"do":"add","what":"/a.torrent","out":"/dir","files":["*.jpg"],"sequential":true,"paused":true}
//! {"do":"remove","bundle":"<info hash>"}             its files stay
//! {"do":"announce"}                                  asks all trackers anew
//! {"do":"stop"}                                      as the first SIGTERM
//! ```

mod add;
mod client;
mod report;
mod server;

use serde::{Deserialize, Serialize};
use swarm_proto::id::SwarmId;
use swarm_proto::limits::MAGNET_LEN_MAX;

use crate::swarm::SwarmHandle;
use crate::uplink::parse_rate;
use crate::{Node, SwarmState};

pub use add::Added;
pub use client::{AskError, ask};
use report::status;
pub use server::{Control, OpenError};

/// Bytes of one request; the longest there is has a magnet link.
const REQUEST_LEN_MAX: usize = MAGNET_LEN_MAX + 16 * 1024;

/// What a caller wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase", deny_unknown_fields)]
#[non_exhaustive]
pub enum Request {
    /// What the peer does.
    Status {
        /// With each connection.
        #[serde(default)]
        peers: bool,
    },
    /// Other limits from now on; what is left out stays.
    Limit {
        /// An info hash, v1 or v2, or as many of its first digits as tell it apart. All bundles
        /// together if left out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bundle: Option<String>,
        /// A rate as [`parse_rate`] reads it, or `unlimited`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        upload: Option<String>,
        /// The same for what comes in.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        download: Option<String>,
    },
    /// Leaves peers and trackers, and rests.
    Pause {
        /// As for `limit`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bundle: Option<String>,
    },
    /// Goes on.
    Resume {
        /// As for `limit`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bundle: Option<String>,
    },
    /// Fetches and serves another bundle.
    Add(Added),
    /// Is done with a bundle; its files stay.
    Remove {
        /// An info hash, or as many of its first digits as tell it apart.
        bundle: String,
    },
    /// Asks all trackers anew, as soon as they allow it.
    Announce,
    /// Ends the peer in good order.
    Stop,
}

/// Why a request was not done. The caller's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// No line of JSON that we know, or a line too long.
    #[error("not a request: {0}")]
    Malformed(String),
    /// No rate.
    #[error("{0}")]
    Rate(String),
    /// No bundle here has this info hash.
    #[error("no bundle {0} here")]
    NoBundle(String),
    /// What was to be added is no torrent and no magnet link, or can't be read.
    #[error("cannot add {what}: {why}")]
    What {
        /// The path, or the beginning of the link.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// More than one bundle begins with these digits.
    #[error("{0} is not one bundle but several")]
    Ambiguous(String),
}

impl Request {
    /// Reads one line, without its end.
    ///
    /// # Errors
    /// [`RequestError::Malformed`].
    pub fn parse(line: &[u8]) -> Result<Self, RequestError> {
        if line.len() > REQUEST_LEN_MAX {
            let text = format!("{} bytes are too many", line.len());
            return Err(RequestError::Malformed(text));
        }
        serde_json::from_slice(line).map_err(|error| RequestError::Malformed(error.to_string()))
    }
}

/// A rate, or `unlimited`, in bits a second.
fn rate(text: &str) -> Result<Option<u64>, RequestError> {
    match text {
        "unlimited" => Ok(None),
        text => parse_rate(text)
            .map(Some)
            .map_err(|error| RequestError::Rate(error.to_string())),
    }
}

/// The bundle whose info hash begins with these digits.
fn find(node: &Node, digits: &str) -> Result<SwarmHandle, RequestError> {
    let wanted = digits.to_ascii_lowercase();
    let matches = |handle: &SwarmHandle| {
        let ids = handle.swarm_ids().iter().map(SwarmId::to_string);
        let meta = handle.try_metainfo();
        let v2 = meta.and_then(|meta| meta.info_hash_v2());
        ids.chain(v2.map(|hash| hash.to_string()))
            .any(|id| id.starts_with(&wanted))
    };
    let mut found = node.bundles().into_iter().filter(matches);
    match (found.next(), found.next()) {
        (Some(one), None) if !wanted.is_empty() => Ok(one),
        (None, _) => Err(RequestError::NoBundle(digits.to_owned())),
        _ => Err(RequestError::Ambiguous(digits.to_owned())),
    }
}

/// One bundle, or all where none is named.
fn named(node: &Node, bundle: Option<&str>) -> Result<Vec<SwarmHandle>, RequestError> {
    match bundle {
        Some(digits) => Ok(vec![find(node, digits)?]),
        None => Ok(node.bundles()),
    }
}

/// Sets limits; all of them are read before any is set.
fn limit(
    node: &Node,
    bundle: Option<&str>,
    upload: Option<&str>,
    download: Option<&str>,
) -> Result<(), RequestError> {
    let (upload, download) = (
        upload.map(rate).transpose()?,
        download.map(rate).transpose()?,
    );
    let one = bundle.map(|digits| find(node, digits)).transpose()?;
    let (uplink, downlink) = match &one {
        Some(handle) => (handle.uplink(), handle.downlink()),
        None => (node.uplink(), node.downlink()),
    };
    if let Some(upload) = upload {
        uplink.set_rate(upload);
    }
    if let Some(download) = download {
        downlink.set_rate(download);
    }
    tracing::info!(
        bundle,
        upload = uplink.rate(),
        download = downlink.rate(),
        "limits changed"
    );
    Ok(())
}

/// The word for a state, the same in every report.
fn state_name(state: &SwarmState) -> &'static str {
    match state {
        SwarmState::Checking => "checking",
        SwarmState::Metadata => "metadata",
        SwarmState::Fetching => "fetching",
        SwarmState::Finished => "finished",
        SwarmState::Seeding => "seeding",
        SwarmState::Paused => "paused",
        SwarmState::Failed(_) => "failed",
        SwarmState::Stopped => "stopped",
    }
}

#[cfg(test)]
mod tests;
