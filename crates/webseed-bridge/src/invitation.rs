//! What a bridge answers when a tracker calls it back: that it wants that tracker's visitors
//! (spec 0006, 3.2).

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{PoisonError, RwLock};

use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Method, Response};
use swarm_proto::manifest::{PublicKey, SecretKey, SiteManifest, SiteName};
use swarm_proto::tracker::proof::ProofRequest;

use crate::body::VerifiedBody;
use crate::error::BridgeError;
use crate::limits::INVITED_TRACKERS_MAX;
use crate::request::Host;

/// The key of this run, and the trackers that know it from our announces.
pub struct Invitation {
    key: SecretKey,
    trackers: RwLock<HashSet<SiteName>>,
}

impl Invitation {
    /// A fresh key; `trackers` are announce URLs.
    pub(crate) fn new<'a>(trackers: impl IntoIterator<Item = &'a String>) -> Self {
        let invitation = Self {
            key: SecretKey::new(rand::random()),
            trackers: RwLock::default(),
        };
        invitation.extend(trackers);
        invitation
    }

    /// What the announces name.
    pub(crate) fn key(&self) -> PublicKey {
        self.key.public()
    }

    /// The bundles of `manifest` are announced to its trackers too.
    pub(crate) fn extend_by(&self, manifest: &SiteManifest) {
        self.extend(manifest.bundles.iter().flat_map(|entry| &entry.trackers));
    }

    fn extend<'a>(&self, trackers: impl IntoIterator<Item = &'a String>) {
        let mut known = self
            .trackers
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        // A UDP tracker hears of no bridge, and so it is no name either.
        let names = trackers
            .into_iter()
            .filter_map(|url| SiteName::from_url(url).ok());
        for name in names {
            if known.len() < INVITED_TRACKERS_MAX {
                known.insert(name);
            }
        }
    }

    /// Answers a call that came to `host`. A tracker that we do not announce to gets no answer:
    /// visitors are wanted from those only whom we asked for them.
    ///
    /// # Errors
    /// [`BridgeError::NotFound`]: the call is malformed, or of another tracker.
    pub(crate) fn answer(
        &self,
        method: &Method,
        host: &Host,
        query: Option<&str>,
    ) -> Result<Response<VerifiedBody>, BridgeError> {
        let Host::Address(ip, port) = host else {
            return Err(BridgeError::NotFound);
        };
        let called = SocketAddr::new(*ip, port.unwrap_or(80));
        let request = query
            .and_then(|query| ProofRequest::parse(query, called))
            .filter(|request| *method == Method::GET && self.invites(&request.tracker))
            .ok_or(BridgeError::NotFound)?;
        let proof = request.sign(&self.key);
        let mut response = Response::new(VerifiedBody::full(proof.to_vec()));
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/octet-stream"),
        );
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Ok(response)
    }

    fn invites(&self, tracker: &SiteName) -> bool {
        let known = self.trackers.read().unwrap_or_else(PoisonError::into_inner);
        known.contains(tracker)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: &str = "5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a";

    fn invitation() -> Invitation {
        let trackers = [
            "http://tracker.example:6969/announce",
            "https://tls.example/announce?key=1",
            "udp://udp.example:6969/announce",
        ];
        Invitation::new(&trackers.map(str::to_owned))
    }

    fn ask(invitation: &Invitation, host: &str, query: &str) -> Option<(SocketAddr, VerifiedBody)> {
        let host = Host::parse(host).expect("a host");
        let answer = invitation.answer(&Method::GET, &host, Some(query)).ok()?;
        let Host::Address(ip, port) = host else {
            panic!("a name has been answered");
        };
        Some((SocketAddr::new(ip, port.unwrap_or(80)), answer.into_body()))
    }

    #[test]
    fn t15_a_tracker_we_announce_to_gets_a_proof_for_the_address_it_called() {
        let invitation = invitation();
        for tracker in ["tracker.example:6969", "tls.example"] {
            for host in ["192.0.2.1:8080", "192.0.2.1", "[2001:db8::1]:8080"] {
                let query = format!("nonce={NONCE}&tracker={tracker}");
                let (called, body) = ask(&invitation, host, &query).expect("an answer");
                let proof = body.ready().expect("at hand");
                let request = ProofRequest::parse(&query, called).expect("a call");
                let proof = <[u8; 64]>::try_from(&proof[..]).expect("a signature");
                assert!(
                    request.proves(&invitation.key(), &proof),
                    "{tracker} {host}"
                );
                let elsewhere = SocketAddr::new(called.ip(), 81);
                let elsewhere = ProofRequest::parse(&query, elsewhere).expect("a call");
                assert!(!elsewhere.proves(&invitation.key(), &proof));
            }
        }
    }

    #[test]
    fn t15_nobody_else_gets_one() {
        let invitation = invitation();
        let good = format!("nonce={NONCE}&tracker=tls.example");
        assert!(ask(&invitation, "192.0.2.1:8080", &good).is_some());
        for query in [
            "",
            "nonce=00&tracker=tls.example",
            &format!("nonce={NONCE}&tracker=tracker.example"),
            &format!("nonce={NONCE}&tracker=other.example"),
            &format!("nonce={NONCE}&tracker=udp.example:6969"),
        ] {
            assert!(
                ask(&invitation, "192.0.2.1:8080", query).is_none(),
                "{query}"
            );
        }
        assert!(
            ask(&invitation, "example-org.localhost", &good).is_none(),
            "by name"
        );
        let host = Host::parse("192.0.2.1:8080").expect("a host");
        for method in [Method::HEAD, Method::POST] {
            assert!(invitation.answer(&method, &host, Some(&good)).is_err());
        }
    }

    #[test]
    fn trackers_that_manifests_name_are_invited_too_and_only_so_many() {
        let invitation = invitation();
        let urls: Vec<String> = (0..2000)
            .map(|n| format!("http://t{n}.example/announce"))
            .collect();
        invitation.extend(&urls);
        let query = |n: u32| format!("nonce={NONCE}&tracker=t{n}.example");
        assert!(ask(&invitation, "192.0.2.1", &query(0)).is_some());
        assert!(ask(&invitation, "192.0.2.1", &query(1999)).is_none());
        let known = invitation.trackers.read().expect("not poisoned").len();
        assert_eq!(known, INVITED_TRACKERS_MAX);
    }

    #[test]
    fn t60_each_run_has_a_key_of_its_own() {
        assert_ne!(invitation().key(), invitation().key());
    }
}
