//! Which info hashes are registered, and which two of them are one bundle.

use std::collections::HashMap;

use swarm_proto::id::SwarmId;
use swarm_proto::manifest::BundleEntry;

use super::moment::Tick;

/// Seconds for which peers of a withdrawn bundle are told so: a week, in which every client that
/// still runs has asked.
const WITHDRAWN_FOR: Tick = 7 * 24 * 3600;

/// Withdrawn ids remembered, some 50 bytes each. Only sites that the operator knows make any; those
/// beyond are like ids never heard of.
const WITHDRAWN_MAX: usize = 100_000;

/// Both ids of a hybrid, the one that swarms are kept under first, and the one that aria2 makes of
/// it. The pair alone says which bundle it is: a manifest may leave the alias out.
#[derive(Debug, Clone, Copy, Eq)]
pub(super) struct Pair {
    /// The v1 info hash.
    pub(super) id: SwarmId,
    /// The front of the v2 info hash.
    pub(super) other: SwarmId,
    /// Where aria2 looks.
    pub(super) alias: Option<SwarmId>,
}

impl PartialEq for Pair {
    fn eq(&self, other: &Self) -> bool {
        (self.id, self.other) == (other.id, other.other)
    }
}

impl Pair {
    pub(super) fn of(bundle: &BundleEntry) -> Self {
        Self {
            id: bundle.v1.swarm_id(),
            other: bundle.v2.swarm_id(),
            alias: bundle.alias,
        }
    }

    fn ids(&self) -> impl Iterator<Item = SwarmId> + use<> {
        [self.id, self.other].into_iter().chain(self.alias)
    }
}

/// An info hash belongs to another bundle already: one of the two manifests lies, and the first
/// is believed, or a site could draw the peers of another's bundle into its own swarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("info hash {0} belongs to another registered bundle")]
pub struct BundleTaken(pub SwarmId);

/// The bundles of all registered manifests, by either id.
#[derive(Debug, Default)]
pub(super) struct Bundles {
    by_id: HashMap<SwarmId, Claim>,
    /// Ids that no manifest lists any more, and until when that is known.
    withdrawn: HashMap<SwarmId, Tick>,
}

#[derive(Debug)]
struct Claim {
    pair: Pair,
    /// How many manifests list it, retired ones included.
    manifests: u32,
}

impl Bundles {
    /// The id that the swarm of `id` is kept under; `None` if no manifest lists it.
    pub(super) fn canonical(&self, id: &SwarmId) -> Option<SwarmId> {
        self.by_id.get(id).map(|claim| claim.pair.id)
    }

    /// Whether all bundles of a manifest could be registered.
    pub(super) fn check(&self, pairs: &[Pair]) -> Result<(), BundleTaken> {
        let mut listed: HashMap<SwarmId, Pair> = HashMap::new();
        for pair in pairs {
            for id in pair.ids() {
                let known = self.by_id.get(&id).map(|claim| claim.pair);
                let listed = listed.insert(id, *pair);
                if known.or(listed).is_some_and(|partner| partner != *pair) {
                    return Err(BundleTaken(id));
                }
            }
        }
        Ok(())
    }

    /// Registers all bundles of a manifest, or none.
    pub(super) fn claim(&mut self, pairs: &[Pair]) -> Result<(), BundleTaken> {
        self.check(pairs)?;
        for pair in pairs {
            for id in pair.ids() {
                let fresh = Claim {
                    pair: *pair,
                    manifests: 0,
                };
                self.by_id.entry(id).or_insert(fresh).manifests += 1;
                self.withdrawn.remove(&id);
            }
        }
        Ok(())
    }

    /// Whether a manifest listed it and none does any more.
    pub(super) fn is_withdrawn(&self, id: &SwarmId, now: Tick) -> bool {
        self.withdrawn.get(id).is_some_and(|until| *until > now)
    }

    /// One manifest less for each; returns the bundles that no manifest lists any more.
    pub(super) fn release<'p>(
        &mut self,
        now: Tick,
        pairs: impl Iterator<Item = &'p Pair>,
    ) -> Vec<Pair> {
        let mut gone = Vec::new();
        for pair in pairs {
            for id in pair.ids() {
                let Some(claim) = self.by_id.get_mut(&id) else {
                    continue;
                };
                claim.manifests = claim.manifests.saturating_sub(1);
                if claim.manifests == 0 {
                    self.by_id.remove(&id);
                    if self.withdrawn.len() >= WITHDRAWN_MAX {
                        self.withdrawn.retain(|_, until| *until > now);
                    }
                    if self.withdrawn.len() < WITHDRAWN_MAX {
                        let until = now.saturating_add(WITHDRAWN_FOR);
                        self.withdrawn.insert(id, until);
                    }
                    if id == pair.id {
                        gone.push(*pair);
                    }
                }
            }
        }
        gone
    }

    /// How many bundles.
    pub(super) fn len(&self) -> usize {
        let first = |(id, claim): &(&SwarmId, &Claim)| claim.pair.id == **id;
        self.by_id.iter().filter(first).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> SwarmId {
        SwarmId::new([n; 20])
    }

    fn pair(one: u8, other: u8) -> Pair {
        Pair {
            id: id(one),
            other: id(other),
            alias: None,
        }
    }

    #[test]
    fn both_ids_lead_to_one_swarm() {
        let mut bundles = Bundles::default();
        bundles.claim(&[pair(1, 2), pair(3, 4)]).expect("free");
        assert_eq!(bundles.canonical(&id(1)), Some(id(1)));
        assert_eq!(bundles.canonical(&id(2)), Some(id(1)));
        assert_eq!(bundles.canonical(&id(5)), None);
        assert_eq!(bundles.len(), 2);
    }

    #[test]
    fn alias_leads_to_the_same_swarm_and_may_come_later() {
        let mut bundles = Bundles::default();
        let named = Pair {
            alias: Some(id(5)),
            ..pair(1, 2)
        };
        bundles.claim(&[pair(1, 2)]).expect("free");
        bundles.claim(&[named]).expect("the same bundle");
        assert_eq!(bundles.canonical(&id(5)), Some(id(1)));
        assert_eq!(bundles.len(), 1);
        assert_eq!(bundles.claim(&[pair(5, 6)]), Err(BundleTaken(id(5))));
        assert!(bundles.release(0, [pair(1, 2)].iter()).is_empty());
        assert_eq!(bundles.release(0, [named].iter()), [named]);
        assert_eq!(bundles.canonical(&id(5)), None);
    }

    #[test]
    fn a_bundle_lives_as_long_as_a_manifest_lists_it() {
        let mut bundles = Bundles::default();
        bundles.claim(&[pair(1, 2), pair(3, 4)]).expect("free");
        bundles.claim(&[pair(1, 2)]).expect("the same bundle");
        assert_eq!(
            bundles.release(0, [pair(1, 2), pair(3, 4)].iter()),
            [pair(3, 4)]
        );
        assert_eq!(bundles.canonical(&id(2)), Some(id(1)));
        assert_eq!(bundles.release(5, [pair(1, 2)].iter()), [pair(1, 2)]);
        assert_eq!(bundles.len(), 0);
        // For a week that is remembered, or until it comes back.
        for gone in [id(1), id(2)] {
            assert!(bundles.is_withdrawn(&gone, 5 + WITHDRAWN_FOR - 1));
            assert!(!bundles.is_withdrawn(&gone, 5 + WITHDRAWN_FOR));
        }
        assert!(!bundles.is_withdrawn(&id(9), 5), "never heard of");
        bundles.claim(&[pair(1, 2)]).expect("free again");
        assert!(!bundles.is_withdrawn(&id(1), 5));
        assert_eq!(bundles.withdrawn.len(), 2, "of the other bundle");
    }

    #[test]
    fn no_site_takes_over_another_ones_swarm() {
        let mut bundles = Bundles::default();
        bundles.claim(&[pair(1, 2)]).expect("free");
        for (thief, named) in [(pair(1, 9), 1), (pair(9, 2), 2), (pair(2, 1), 2)] {
            let refused = bundles.claim(&[pair(7, 8), thief]);
            assert_eq!(refused, Err(BundleTaken(id(named))));
            assert_eq!(bundles.len(), 1, "nothing half claimed");
        }
        // Nor twice within one manifest.
        assert!(bundles.claim(&[pair(5, 6), pair(5, 7)]).is_err());
        assert_eq!(bundles.canonical(&id(5)), None);
    }
}
