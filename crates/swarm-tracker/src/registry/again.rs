//! Who asks again for what he was just sent away for.
//!
//! A visitor who comes back within seconds has most likely met a bridge that is gone, or shows
//! rubbish: he is sent to another one. A browser tells us no more than that.

use std::hash::{Hash as _, Hasher as _};
use std::net::IpAddr;
use std::time::Duration;

use siphasher::sip::SipHasher13;
use swarm_proto::manifest::{SiteName, SitePath};

use super::volunteer::BridgeId;

/// Visits remembered, some 100 bytes each. One takes the place of another by chance: then somebody
/// is sent as if he had not been here.
const SLOTS: usize = 4096;
/// Who comes again within this comes back.
const SOON: Duration = Duration::from_secs(10);

/// The last visits.
#[derive(Debug)]
pub(super) struct Visits {
    slots: Vec<Option<Visit>>,
    /// Of the hash, so that nobody can choose whose place he takes.
    seed: (u64, u64),
}

#[derive(Debug, Clone, Copy)]
struct Visit {
    tag: u64,
    at: Duration,
    bridge: BridgeId,
}

impl Visits {
    pub(super) fn new(seed: (u64, u64)) -> Self {
        Self {
            slots: vec![None; SLOTS],
            seed,
        }
    }

    /// The bridge to which the visitor at `from` was sent for this page a moment ago.
    pub(super) fn last(
        &self,
        now: Duration,
        from: IpAddr,
        page: (&SiteName, &SitePath),
    ) -> Option<BridgeId> {
        let tag = self.tag(from, page);
        let visit = self.slots.get(slot(tag))?.as_ref()?;
        let fresh = now.saturating_sub(visit.at) < SOON;
        (visit.tag == tag && fresh).then_some(visit.bridge)
    }

    /// He is sent there now.
    pub(super) fn sent(
        &mut self,
        now: Duration,
        from: IpAddr,
        page: (&SiteName, &SitePath),
        bridge: BridgeId,
    ) {
        let tag = self.tag(from, page);
        if let Some(place) = self.slots.get_mut(slot(tag)) {
            *place = Some(Visit {
                tag,
                at: now,
                bridge,
            });
        }
    }

    fn tag(&self, from: IpAddr, (site, path): (&SiteName, &SitePath)) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.seed.0, self.seed.1);
        from.hash(&mut hasher);
        site.as_str().hash(&mut hasher);
        path.as_str().hash(&mut hasher);
        hasher.finish()
    }
}

const fn slot(tag: u64) -> usize {
    (tag % SLOTS as u64) as usize
}

#[cfg(test)]
mod tests {
    use swarm_proto::manifest::SecretKey;

    use super::*;

    fn bridge(n: u8) -> BridgeId {
        BridgeId {
            address: ([192, 0, 2, n], 8000).into(),
            key: SecretKey::new([n; 32]).public(),
        }
    }

    #[test]
    fn a_visit_is_remembered_for_a_moment_and_by_visitor_and_page() {
        let mut visits = Visits::new((1, 2));
        let site = SiteName::parse("site.example").unwrap();
        let path = |text: &str| SitePath::parse(text).unwrap();
        let (front, other) = (path("/"), path("/other"));
        let from: IpAddr = [198, 51, 100, 1].into();
        let secs = Duration::from_secs;
        visits.sent(secs(100), from, (&site, &front), bridge(1));
        let last = |visits: &Visits, now, from, path| visits.last(secs(now), from, (&site, path));
        assert_eq!(last(&visits, 109, from, &front), Some(bridge(1)));
        assert_eq!(last(&visits, 110, from, &front), None);
        assert_eq!(last(&visits, 101, from, &other), None);
        assert_eq!(last(&visits, 101, [198, 51, 100, 2].into(), &front), None);
        visits.sent(secs(105), from, (&site, &front), bridge(2));
        assert_eq!(last(&visits, 106, from, &front), Some(bridge(2)));
    }

    #[test]
    fn a_crowd_takes_no_more_room() {
        let mut visits = Visits::new((1, 2));
        let site = SiteName::parse("site.example").unwrap();
        let path = SitePath::parse("/").unwrap();
        for n in 0..20_000_u32 {
            let from = std::net::Ipv4Addr::from(n).into();
            visits.sent(Duration::ZERO, from, (&site, &path), bridge(1));
        }
        assert_eq!(visits.slots.len(), SLOTS);
    }
}
