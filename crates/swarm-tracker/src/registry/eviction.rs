//! Who has shown wrong bytes, and how long no visitor is sent there (spec 0006, 3.3; T57).

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use swarm_proto::manifest::{PublicKey, SiteName, SitePath};

use super::audit::Shown;
use super::shared::Barring;
use super::volunteer::BridgeId;
use crate::budget::place_of;

/// Evictions remembered, three for each liar, some 200 bytes each. Past it the next to end makes
/// way.
const EVICTIONS_MAX: usize = 65_536;

/// What is barred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Barred {
    Door(SocketAddr),
    Key(PublicKey),
    /// New bridges of an address or /64, or the liar would only take another port. Those that
    /// are there already are its neighbours perhaps, and are looked at themselves.
    Place(IpAddr),
}

/// What was seen, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lie {
    pub(crate) site: SiteName,
    pub(crate) path: SitePath,
    pub(crate) shown: Shown,
}

#[derive(Debug)]
struct Eviction {
    until: Duration,
    /// `None`: nothing can excuse it.
    lie: Option<Lie>,
}

/// All evictions that are in force.
#[derive(Debug, Default)]
pub(super) struct Evictions(HashMap<Barred, Eviction>);

impl Evictions {
    /// Bars a bridge; returns what that means.
    pub(super) fn evict(
        &mut self,
        now: Duration,
        lasts: Duration,
        bridge: BridgeId,
        lie: Option<&Lie>,
    ) -> impl Iterator<Item = Barring> {
        let until = now.saturating_add(lasts);
        let names = names(bridge).into_iter().flatten();
        let barrings: Vec<Barring> = names
            .map(|barred| {
                self.bar(now, barred, until, lie.cloned());
                barring(barred, lie, lasts)
            })
            .collect();
        barrings.into_iter()
    }

    /// Bars one thing.
    pub(super) fn bar(&mut self, now: Duration, barred: Barred, until: Duration, lie: Option<Lie>) {
        if self.0.len() >= EVICTIONS_MAX {
            self.make_room(now);
        }
        let known = self.0.get(&barred).filter(|known| known.until > now);
        // One that nothing excuses is not excused by another, nor is a long one made short.
        let new = match known {
            None => Eviction { until, lie },
            Some(known) => Eviction {
                until: known.until.max(until),
                lie: lie.filter(|_| known.lie.is_some()),
            },
        };
        self.0.insert(barred, new);
    }

    /// All that is barred.
    pub(super) fn all(&self, now: Duration) -> impl Iterator<Item = Barring> {
        let going_on = self.0.iter().filter(move |(_, e)| e.until > now);
        going_on.map(move |(barred, eviction)| {
            let left = eviction.until.saturating_sub(now);
            barring(*barred, eviction.lie.as_ref(), left)
        })
    }

    fn make_room(&mut self, now: Duration) {
        self.sweep(now);
        if self.0.len() >= EVICTIONS_MAX {
            let next = self.0.iter().min_by_key(|(_, eviction)| eviction.until);
            if let Some(barred) = next.map(|(barred, _)| *barred) {
                self.0.remove(&barred);
            }
        }
    }

    /// Whether a bridge is barred, and what would excuse it if it turned out to be true.
    /// `known`: it was there before.
    pub(super) fn bars(&self, now: Duration, bridge: BridgeId, known: bool) -> Option<Option<Lie>> {
        let names = names(bridge).into_iter().flatten();
        names
            .filter(|barred| !known || !matches!(barred, Barred::Place(_)))
            .filter_map(|barred| self.0.get(&barred))
            .find(|eviction| eviction.until > now)
            .map(|eviction| eviction.lie.clone())
    }

    /// Takes back all that was barred for a lie that was none.
    pub(super) fn excuse(&mut self, lie: &Lie) {
        self.0
            .retain(|_, eviction| eviction.lie.as_ref() != Some(lie));
    }

    /// Forgets those that have ended.
    pub(super) fn sweep(&mut self, now: Duration) {
        self.0.retain(|_, eviction| eviction.until > now);
    }
}

fn barring(barred: Barred, lie: Option<&Lie>, left: Duration) -> Barring {
    Barring {
        barred,
        lie: lie.cloned(),
        left: u32::try_from(left.as_secs()).unwrap_or(u32::MAX),
    }
}

/// This host itself is not barred as a place: it is no stranger's.
fn names(bridge: BridgeId) -> [Option<Barred>; 3] {
    let ip = bridge.address.ip();
    [
        Some(Barred::Door(bridge.address)),
        Some(Barred::Key(bridge.key)),
        (!ip.is_loopback()).then(|| Barred::Place(place_of(ip))),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_eviction_is_made_weaker_by_another() {
        let mut evictions = Evictions::default();
        let barred = Barred::Door(([192, 0, 2, 1], 8080).into());
        let lie = Lie {
            site: SiteName::parse("example.org").expect("a name"),
            path: SitePath::parse("/a").expect("a path"),
            shown: Shown {
                digest: swarm_proto::id::Digest::of(b"x"),
                media_type: "text/html".into(),
            },
        };
        let secs = Duration::from_secs;
        let left = |evictions: &Evictions, now| {
            let all = evictions.all(secs(now)).next();
            all.map(|barring| barring.left)
        };
        evictions.bar(secs(0), barred, secs(100), None);
        evictions.bar(secs(1), barred, secs(50), Some(lie.clone()));
        assert_eq!(left(&evictions, 1), Some(99));
        evictions.excuse(&lie);
        assert!(left(&evictions, 1).is_some(), "nothing excuses the first");
        // One that is over counts for nothing.
        evictions.bar(secs(100), barred, secs(150), Some(lie.clone()));
        evictions.excuse(&lie);
        assert_eq!(left(&evictions, 101), None);
    }
}
