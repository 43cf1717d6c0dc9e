//! Calls that the tracker makes to bridges: which is next, and what it brought (spec 0006, 3.2 and
//! 3.3).

use rand::RngExt as _;
use swarm_proto::id::SwarmId;
use swarm_proto::tracker::proof::ProofRequest;

use super::audit::{Audit, Finding, Verdict};
use super::eviction::Lie;
use super::proof::Answer;
use super::{Moment, Registry};

/// Bridges looked through in one go for one that has something to be audited.
const SKIPPED_MAX: usize = 64;

impl Registry {
    /// The next bridge to be asked for proof, if one is due; `nonce` is from the system's
    /// generator. [`finish_call`](Self::finish_call) follows.
    pub fn next_call(&mut self, now: Moment, nonce: [u8; 32]) -> Option<ProofRequest> {
        self.volunteers.next_call(now, nonce)
    }

    /// Takes the answer to a call. Returns whether a bridge is proven by it.
    pub fn finish_call(&mut self, now: Moment, request: &ProofRequest, answer: Answer) -> bool {
        let rng = &mut self.rng;
        self.volunteers.finish_call(now, request, answer, rng)
    }

    /// The next bridge to be looked at, if one is due; [`finish_audit`](Self::finish_audit)
    /// follows.
    pub fn next_audit(&mut self, now: Moment) -> Option<Audit> {
        for _ in 0..SKIPPED_MAX {
            let (bridge, holds) = self.volunteers.next_audit(now)?;
            // One of the sites for which it may have visitors, each equally likely.
            let mut count = 0;
            let mut found = None;
            for (name, site) in &self.sites {
                if !site.lends_visitors(now) {
                    continue;
                }
                let bundles = site.bundles_among(holds);
                if bundles.is_empty() {
                    continue;
                }
                count += 1;
                if self.rng.random_range(0..count) == 0 {
                    found = Some((name, site, bundles));
                }
            }
            let found = found.and_then(|(name, site, bundles)| {
                let record = site.record.as_ref()?;
                Some((name.clone(), record.manifest.clone(), bundles))
            });
            let Some((site, manifest, bundles)) = found else {
                self.volunteers.skip_audit(now, bridge, &mut self.rng);
                continue;
            };
            let (domain, visited) = self.volunteers.begin_audit(bridge);
            return Some(Audit {
                bridge,
                domain,
                visited: visited.and_then(|(of, path)| (of == site).then_some(path)),
                site,
                manifest,
                bundles,
            });
        }
        None
    }

    /// Takes what an audit found, after `bytes` of an answer.
    pub fn finish_audit(
        &mut self,
        now: Moment,
        audit: &Audit,
        finding: Finding,
        bytes: u64,
    ) -> Verdict {
        let site = self.sites.get(&audit.site);
        let (finding, lie) = match finding {
            // Of a manifest that was replaced of late: behind, but no liar.
            Finding::Wrong(path, shown)
                if site.is_some_and(|site| site.vouches_for(&path, &shown)) =>
            {
                (Finding::Right, None)
            }
            Finding::Wrong(path, shown) => {
                let lie = Lie {
                    site: audit.site.clone(),
                    path: path.clone(),
                    shown: shown.clone(),
                };
                (Finding::Wrong(path, shown), Some(lie))
            }
            other => (other, None),
        };
        let in_need = site.is_some_and(|site| site.standing_alarm().is_some());
        self.volunteers.finish_audit(
            now,
            audit.bridge,
            (finding, lie),
            bytes,
            in_need,
            &mut self.rng,
        )
    }

    /// Has the bridges of a site looked at soon.
    pub(super) fn hasten_audits(&mut self, now: Moment, swarms: &[SwarmId]) {
        for swarm in swarms {
            self.volunteers.hasten_audits(now, *swarm, &mut self.rng);
        }
    }
}

#[cfg(test)]
mod tests;
