//! The live bridges as the gate sees them, and how requests are spread over them.
//!
//! The view comes from the tracker, embedded or polled; it is replaced whole. An empty view means
//! that nothing is diverted: the gate fails open.

use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::time::{Duration, Instant};

use swarm_proto::id::SwarmId;

use crate::assets::{Asset, Reach};

/// Bridges kept of what a tracker lists.
pub const BRIDGES_MAX: usize = 512;

/// Assigned bytes are forgotten by half in this time.
const HALF_LIFE: Duration = Duration::from_secs(10);

/// A bridge may be this much above the average before the next in line is taken.
const SLACK: f64 = 1.03;

/// …and this many bytes, so that small files do not wander while little is sent.
const SLACK_BYTES: f64 = 256.0 * 1024.0;

/// One bridge that answers for the site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveBridge {
    /// What is put before a file's URL path: `http://<label>.<domain>:8080`, or
    /// `http://192.0.2.1:8080/<site>`.
    pub prefix: String,
    /// The host of `prefix`, without port.
    pub host: String,
    /// Whether `prefix` is https.
    pub secure: bool,
    /// Whether the site has a host of its own on this bridge.
    pub own_host: bool,
    /// Swarms held whole.
    pub swarms: HashSet<SwarmId>,
}

impl LiveBridge {
    /// Reads a prefix; `None` if it is no http or https address without user, query and fragment.
    pub fn new(prefix: &str, swarms: impl IntoIterator<Item = SwarmId>) -> Option<Self> {
        let url = url::Url::parse(prefix).ok()?;
        let secure = match url.scheme() {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let plain = url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        let host = url
            .host_str()
            .filter(|host| !host.is_empty() && plain)?
            .to_owned();
        // The parser's own spelling: nothing of a stranger's text reaches a header or a page.
        let prefix = url.as_str().trim_end_matches('/').to_owned();
        let safe = |b: u8| b.is_ascii_graphic() && !matches!(b, b'"' | b'\'' | b'<' | b'>' | b'\\');
        prefix.bytes().all(safe).then_some(Self {
            own_host: url.path() == "/",
            prefix,
            host,
            secure,
            swarms: swarms.into_iter().collect(),
        })
    }

    /// Whether this bridge can serve `asset` now.
    pub fn serves(&self, asset: &Asset) -> bool {
        match asset.reach {
            Reach::Home => return false,
            Reach::OwnHost if !self.own_host => return false,
            _ => {}
        }
        !asset.swarms.is_empty() && asset.swarms.iter().all(|swarm| self.swarms.contains(swarm))
    }

    /// The address of `asset` here.
    pub fn url_of(&self, asset: &Asset) -> String {
        format!("{}{}", self.prefix, asset.url_path)
    }
}

/// Which bridge gets which file: rendezvous hashing with bounded loads.
///
/// Each file has a stable order of bridges, so browsers find it in their cache; a bridge that was
/// given more than its share of recent bytes is passed over, so one popular film does not sink
/// one volunteer.
#[derive(Debug, Default)]
pub struct Spread {
    given: HashMap<String, Given>,
}

#[derive(Debug, Clone, Copy)]
struct Given {
    bytes: f64,
    at: Instant,
}

impl Given {
    fn now(&self, now: Instant) -> f64 {
        let age = now.saturating_duration_since(self.at).as_secs_f64();
        self.bytes * 0.5_f64.powf(age / HALF_LIFE.as_secs_f64())
    }
}

impl Spread {
    /// Chooses one of `candidates` for `asset` and books `bytes` on it.
    pub fn choose<'a>(
        &mut self,
        now: Instant,
        asset: &Asset,
        bytes: u64,
        candidates: &[&'a LiveBridge],
    ) -> Option<&'a LiveBridge> {
        let mut order: Vec<(u64, f64, &'a LiveBridge)> = candidates
            .iter()
            .map(|bridge| {
                let given = self
                    .given
                    .get(&bridge.prefix)
                    .map_or(0.0, |given| given.now(now));
                (score(&asset.url_path, &bridge.prefix), given, *bridge)
            })
            .collect();
        order.sort_by_key(|(score, _, bridge)| (std::cmp::Reverse(*score), &bridge.prefix));
        let sum: f64 = order.iter().map(|(_, given, _)| given).sum();
        let most = (sum + bytes as f64) / order.len().max(1) as f64 * SLACK + SLACK_BYTES;
        let (_, given, bridge) = order
            .iter()
            .find(|(_, given, _)| given + bytes as f64 <= most)
            .or_else(|| order.iter().min_by(|a, b| a.1.total_cmp(&b.1)))?;
        let given = Given {
            bytes: given + bytes as f64,
            at: now,
        };
        if self.given.len() < BRIDGES_MAX * 2 || self.given.contains_key(&bridge.prefix) {
            self.given.insert(bridge.prefix.clone(), given);
        }
        Some(bridge)
    }

    /// Forgets bridges that are gone.
    pub fn retain(&mut self, live: &[LiveBridge]) {
        let live: HashSet<&str> = live.iter().map(|bridge| bridge.prefix.as_str()).collect();
        self.given
            .retain(|prefix, _| live.contains(prefix.as_str()));
    }
}

/// FNV-1a over both names, mixed once more: the same in every process and release.
fn score(path: &str, bridge: &str) -> u64 {
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    path.hash(&mut hasher);
    bridge.hash(&mut hasher);
    let mut x = hasher.finish();
    x = (x ^ (x >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    x = (x ^ (x >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ (x >> 33)
}

struct Fnv(u64);

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assets::Kind;
    use swarm_proto::id::Digest;

    fn swarm(n: u8) -> SwarmId {
        SwarmId::new([n; 20])
    }

    fn asset(path: &str, length: u64) -> Asset {
        Asset {
            url_path: path.into(),
            length,
            digest: Digest::of(path.as_bytes()),
            kind: Kind::Image,
            reach: Reach::Anywhere,
            swarms: vec![swarm(1)],
        }
    }

    fn bridges(n: usize) -> Vec<LiveBridge> {
        (0..n)
            .map(|i| LiveBridge::new(&format!("http://a.b{i}.test:8080"), [swarm(1)]).unwrap())
            .collect()
    }

    #[test]
    fn prefixes_are_respelt_and_odd_ones_refused() {
        let bridge = LiveBridge::new("http://127.0.0.1:8081/site.example:80/", []).unwrap();
        assert_eq!(bridge.prefix, "http://127.0.0.1:8081/site.example:80");
        assert!(!bridge.own_host && !bridge.secure);
        let bridge = LiveBridge::new("https://Example-org.Bridge.Example/", []).unwrap();
        assert_eq!(bridge.prefix, "https://example-org.bridge.example");
        assert!(bridge.own_host && bridge.secure);
        for bad in [
            "",
            "//a",
            "ftp://a/",
            "javascript:alert(1)",
            "http://u@a/",
            "http://a/?q",
            "http://a/#f",
            "http://",
            "data:text/html,x",
        ] {
            assert_eq!(LiveBridge::new(bad, []), None, "{bad}");
        }
        let quoted = LiveBridge::new("http://a/\"onload=\r\nx:y", []);
        assert!(quoted.is_none_or(|bridge| !bridge.prefix.contains(['"', '\r', '\n'])));
    }

    #[test]
    fn a_bridge_serves_only_what_it_holds() {
        let mut sheet = asset("/a.css", 1);
        let bridge = LiveBridge::new("http://a.test", [swarm(1)]).unwrap();
        let by_path = LiveBridge::new("http://a.test/site", [swarm(1)]).unwrap();
        assert!(bridge.serves(&sheet) && by_path.serves(&sheet));
        sheet.reach = Reach::OwnHost;
        assert!(bridge.serves(&sheet) && !by_path.serves(&sheet));
        sheet.swarms.push(swarm(2));
        assert!(!bridge.serves(&sheet));
        sheet.swarms.clear();
        assert!(!bridge.serves(&sheet));
        sheet.reach = Reach::Home;
        assert!(!bridge.serves(&sheet));
    }

    #[test]
    fn a_file_keeps_its_bridge_while_loads_are_even() {
        let bridges = bridges(4);
        let candidates: Vec<_> = bridges.iter().collect();
        let mut spread = Spread::default();
        let now = Instant::now();
        let file = asset("/a.png", 10);
        let first = spread.choose(now, &file, 10, &candidates).unwrap();
        for _ in 0..100 {
            assert_eq!(spread.choose(now, &file, 10, &candidates).unwrap(), first);
        }
        // Another bridge going away moves nothing.
        let fewer: Vec<_> = candidates
            .iter()
            .copied()
            .filter(|b| *b != first)
            .skip(1)
            .collect();
        let mut with_first = fewer.clone();
        with_first.push(first);
        assert_eq!(spread.choose(now, &file, 10, &with_first).unwrap(), first);
    }

    #[test]
    fn one_popular_film_is_shared_by_all_bridges() {
        let bridges = bridges(4);
        let candidates: Vec<_> = bridges.iter().collect();
        let mut spread = Spread::default();
        let now = Instant::now();
        let film = asset("/film.mp4", 5_000_000);
        let mut sums = HashMap::new();
        for i in 0..400 {
            let at = now + Duration::from_millis(i * 20);
            let bridge = spread.choose(at, &film, film.length, &candidates).unwrap();
            *sums.entry(&bridge.prefix).or_insert(0_u64) += 1;
        }
        assert_eq!(sums.len(), 4);
        let (least, most) = (sums.values().min().unwrap(), sums.values().max().unwrap());
        assert!(*most * 10 <= *least * 13, "{sums:?}");
    }

    #[test]
    fn many_files_are_spread_evenly_by_bytes() {
        let bridges = bridges(5);
        let candidates: Vec<_> = bridges.iter().collect();
        let mut spread = Spread::default();
        let now = Instant::now();
        let mut sums: HashMap<&str, u64> = HashMap::new();
        for i in 0..3000_u64 {
            let file = asset(&format!("/f{}.png", i % 60), 10_000 + (i % 60).pow(2) * 500);
            let at = now + Duration::from_millis(i * 5);
            let bridge = spread.choose(at, &file, file.length, &candidates).unwrap();
            *sums.entry(&bridge.prefix).or_default() += file.length;
        }
        let (least, most) = (sums.values().min().unwrap(), sums.values().max().unwrap());
        assert!(sums.len() == 5 && *most * 10 <= *least * 15, "{sums:?}");
    }

    #[test]
    fn no_candidate_means_no_bridge() {
        let mut spread = Spread::default();
        assert_eq!(spread.choose(Instant::now(), &asset("/a", 1), 1, &[]), None);
    }

    #[test]
    fn bridges_that_are_gone_are_forgotten() {
        let bridges = bridges(3);
        let candidates: Vec<_> = bridges.iter().collect();
        let mut spread = Spread::default();
        for i in 0..100 {
            spread.choose(
                Instant::now(),
                &asset(&format!("/{i}"), 1_000_000),
                1_000_000,
                &candidates,
            );
        }
        assert_eq!(spread.given.len(), 3);
        spread.retain(&bridges[..1]);
        assert_eq!(spread.given.len(), 1);
    }
}
