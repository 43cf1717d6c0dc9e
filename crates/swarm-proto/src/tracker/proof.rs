//! How a bridge proves to a tracker that it answers at an address and wants visitors there
//! (spec 0006, 3.2).
//!
//! The tracker calls the bridge at its address with a number nobody could foresee; the bridge
//! signs number, tracker and address with the key that its announces name. Whoever merely happens
//! to have a web server there cannot.

use std::fmt::Write as _;
use std::net::SocketAddr;

use data_encoding::HEXLOWER;
use url::form_urlencoded;

use crate::bencode::Item;
use crate::limits::PROOF_QUERY_LEN_MAX;
use crate::manifest::{PublicKey, SecretKey, SiteName};

/// Where a bridge is called: `GET` with `?nonce=<64 hexadecimal digits>&tracker=<host[:port]>`.
/// The answer is 200 with [`PROOF_LEN`] bytes of signature and nothing else; 404 where no visitor
/// of that tracker is wanted.
pub const PROOF_PATH: &str = "/.well-known/swarm/volunteer";

/// Bytes of an ed25519 signature, and of the answer.
pub const PROOF_LEN: usize = 64;

/// What is signed: asked of one bridge, by one tracker, once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProofRequest {
    /// From the system's generator, new for each call.
    pub nonce: [u8; 32],
    /// The tracker, by the host of the announce URL that the bridge used; the scheme's own port
    /// left out, as in a site's name.
    pub tracker: SiteName,
    /// Where the bridge was called, which is its `Host`. It may not know that of itself.
    pub bridge: SocketAddr,
}

impl ProofRequest {
    /// The target of the call, path and query.
    pub fn target(&self) -> String {
        let mut target = format!("{PROOF_PATH}?nonce={}", HEXLOWER.encode(&self.nonce));
        // Writing to a String does not fail.
        let _ = write!(target, "&tracker=");
        target.extend(form_urlencoded::byte_serialize(
            self.tracker.as_str().as_bytes(),
        ));
        target
    }

    /// Reads the query of a call that came to `bridge`. `None`: it is none.
    pub fn parse(query: &str, bridge: SocketAddr) -> Option<Self> {
        if query.len() > PROOF_QUERY_LEN_MAX {
            return None;
        }
        let (mut nonce, mut tracker) = (None, None);
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            let twice = match &*key {
                "nonce" => {
                    let bytes = HEXLOWER.decode(value.as_bytes()).ok()?;
                    nonce.replace(bytes.try_into().ok()?).is_some()
                }
                "tracker" => {
                    let name = SiteName::parse_canonical(&value).ok()?;
                    tracker.replace(name).is_some()
                }
                _ => false,
            };
            if twice {
                return None;
            }
        }
        Some(Self {
            nonce: nonce?,
            tracker: tracker?,
            bridge,
        })
    }

    /// `"spikeswarm bridge" NUL` and canonical bencode: a signature of this kind passes for no
    /// other (spec 0002, 3).
    fn message(&self) -> Vec<u8> {
        let payload = Item::dict([
            ("bridge", Item::bytes(self.bridge.to_string())),
            ("nonce", Item::bytes(self.nonce)),
            ("tracker", Item::bytes(self.tracker.as_str())),
        ]);
        [b"spikeswarm bridge\0".as_slice(), &payload.to_bytes()].concat()
    }

    /// The bridge's answer.
    pub fn sign(&self, key: &SecretKey) -> [u8; PROOF_LEN] {
        key.sign(&self.message())
    }

    /// Whether `proof` was made by the owner of `key`, for this very call.
    pub fn proves(&self, key: &PublicKey, proof: &[u8; PROOF_LEN]) -> bool {
        key.verifies(&self.message(), proof)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(nonce: u8, tracker: &str, bridge: &str) -> ProofRequest {
        ProofRequest {
            nonce: [nonce; 32],
            tracker: SiteName::parse(tracker).expect("a host"),
            bridge: bridge.parse().expect("an address"),
        }
    }

    fn query(request: &ProofRequest) -> String {
        let target = request.target();
        let (path, query) = target.split_once('?').expect("a query");
        assert_eq!(path, PROOF_PATH);
        query.to_owned()
    }

    #[test]
    fn a_call_is_read_as_it_was_written() {
        for (tracker, bridge) in [
            ("tracker.example:6969", "192.0.2.1:8080"),
            ("[2001:db8::1]:6969", "[2001:db8::2]:80"),
            ("tracker.example", "192.0.2.1:80"),
        ] {
            let request = request(7, tracker, bridge);
            let read = ProofRequest::parse(&query(&request), request.bridge);
            assert_eq!(read, Some(request));
        }
    }

    #[test]
    fn what_is_no_call_is_not_read() {
        let bridge = "192.0.2.1:80".parse().expect("an address");
        let nonce = "ab".repeat(32);
        let good = format!("nonce={nonce}&tracker=t.example");
        assert!(ProofRequest::parse(&good, bridge).is_some());
        for bad in [
            String::new(),
            "nonce=&tracker=t.example".into(),
            format!("nonce={nonce}"),
            format!("nonce={}&tracker=t.example", &nonce[2..]),
            format!("nonce={nonce}ab&tracker=t.example"),
            format!("nonce={}&tracker=t.example", nonce.to_uppercase()),
            format!("nonce={nonce}&tracker="),
            format!("nonce={nonce}&tracker=T.example"),
            format!("nonce={nonce}&tracker=a/b"),
            format!("nonce={nonce}&tracker=a%0d%0ab"),
            format!("{good}&tracker=u.example"),
            format!("{good}&nonce={nonce}"),
            format!("{good}&x={}", "y".repeat(PROOF_QUERY_LEN_MAX)),
        ] {
            assert_eq!(ProofRequest::parse(&bad, bridge), None, "{bad}");
        }
    }

    #[test]
    fn t15_a_proof_holds_for_one_key_one_nonce_one_tracker_and_one_address() {
        let key = SecretKey::new([5; 32]);
        let asked = request(1, "tracker.example:6969", "192.0.2.1:8080");
        let proof = asked.sign(&key);
        assert!(asked.proves(&key.public(), &proof));
        assert!(!asked.proves(&SecretKey::new([6; 32]).public(), &proof));
        for other in [
            request(2, "tracker.example:6969", "192.0.2.1:8080"),
            request(1, "tracker.example:6970", "192.0.2.1:8080"),
            request(1, "other.example:6969", "192.0.2.1:8080"),
            request(1, "tracker.example:6969", "192.0.2.1:8081"),
            request(1, "tracker.example:6969", "192.0.2.2:8080"),
        ] {
            assert!(!other.proves(&key.public(), &proof), "{other:?}");
        }
        for at in 0..PROOF_LEN {
            let mut bad = proof;
            bad[at] ^= 1;
            assert!(!asked.proves(&key.public(), &bad), "byte {at}");
        }
    }

    #[test]
    fn calls_survive_being_changed_at_random() {
        let corpus: Vec<Vec<u8>> = [
            query(&request(7, "tracker.example:6969", "192.0.2.1:80")),
            query(&request(8, "[2001:db8::1]:6969", "192.0.2.1:80")),
            "tracker=%5B%3A%3A1%5D&nonce=00&x=1".into(),
        ]
        .map(String::into_bytes)
        .to_vec();
        crate::fuzzing::tests::hammer(&corpus, 25, 20_000, crate::fuzzing::proof);
    }
}
