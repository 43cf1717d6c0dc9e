//! What calls to bridges bring: who is listed, and who no longer (spec 0006, 3.2 and 3.3).

use std::time::Duration;

use rand::Rng;
use swarm_proto::id::SwarmId;
use swarm_proto::manifest::{SiteName, SitePath};
use swarm_proto::tracker::proof::ProofRequest;

use super::{BridgeId, VolunteerBook, weight_of};
use crate::registry::Moment;
use crate::registry::audit::{Audits, Finding, Verdict};
use crate::registry::eviction::Lie;
use crate::registry::proof::Answer;
use crate::registry::shared::Change;

impl VolunteerBook {
    /// Sends visitors to a bridge from now on.
    pub(super) fn list_bridge(&mut self, now: Duration, id: BridgeId, rng: &mut impl Rng) {
        let Some(bridge) = self.bridges.get_mut(&id) else {
            return;
        };
        if !bridge.listed {
            bridge.listed = true;
        }
        // Those that announce to another tracker are its to look at.
        if bridge.here_until > now && !bridge.watch.is_planned() {
            let (audits, interval) = (&mut self.audits, self.config.audit_interval);
            audits.plan(now, interval, id, &mut bridge.watch, rng);
            if let Some(latest) = self.doors.take_audit_due(id.address) {
                audits.advance(latest, id, &mut bridge.watch);
            }
        }
    }

    /// Sends no visitor there until it has proven itself again.
    pub(super) fn unlist(&mut self, now: Duration, id: BridgeId, rng: &mut impl Rng) {
        let Some(bridge) = self.bridges.get_mut(&id) else {
            return;
        };
        bridge.listed = false;
        self.audits.drop(id, &mut bridge.watch);
        self.doors.distrust(now, &self.config, id.address, rng);
    }

    /// The next call to be made to a bridge; `nonce` is from the system's generator.
    pub(in crate::registry) fn next_call(
        &mut self,
        now: Moment,
        nonce: [u8; 32],
    ) -> Option<ProofRequest> {
        self.doors.next(now.elapsed, &self.config, nonce)
    }

    /// Takes what a call brought; returns whether any bridge is proven by it.
    pub(in crate::registry) fn finish_call(
        &mut self,
        now: Moment,
        request: &ProofRequest,
        answer: Answer,
        rng: &mut impl Rng,
    ) -> bool {
        let (proven, unproven) = self
            .doors
            .finish(now.elapsed, &self.config, request, answer, rng);
        let at_door = |key| BridgeId {
            address: request.bridge,
            key,
        };
        for id in unproven.into_iter().map(at_door) {
            if self.bridges.get(&id).is_some_and(|bridge| bridge.listed) {
                self.news.tell(|| Change::Unproven(id));
            }
            self.remove(id);
        }
        for id in proven.iter().copied().map(at_door) {
            self.list_bridge(now.elapsed, id, rng);
            if let Some(bridge) = self.bridges.get_mut(&id) {
                bridge.proven_at = now.elapsed;
            }
            self.news.tell(|| Change::Proven(id));
        }
        !proven.is_empty()
    }

    /// The next bridge to be audited, and what it holds; to be followed by
    /// [`begin_audit`](Self::begin_audit) or [`skip_audit`](Self::skip_audit).
    pub(in crate::registry) fn next_audit(
        &mut self,
        now: Moment,
    ) -> Option<(BridgeId, &[SwarmId])> {
        let id = self.audits.next(now.elapsed, &self.config)?;
        let bridge = self.bridges.get(&id)?;
        Some((id, &bridge.holds))
    }

    /// Begins the audit; returns the bridge's domain, and a page that a visitor was sent to.
    pub(in crate::registry) fn begin_audit(
        &mut self,
        id: BridgeId,
    ) -> (Option<String>, Option<(SiteName, SitePath)>) {
        let Some(bridge) = self.bridges.get_mut(&id) else {
            return (None, None);
        };
        self.audits.begin(&mut bridge.watch);
        (bridge.domain.clone(), bridge.watch.visited().cloned())
    }

    /// There is nothing at this bridge to be looked at now.
    pub(in crate::registry) fn skip_audit(
        &mut self,
        now: Moment,
        id: BridgeId,
        rng: &mut impl Rng,
    ) {
        if let Some(bridge) = self.bridges.get_mut(&id) {
            let interval = self.config.audit_idle_interval;
            self.audits
                .plan(now.elapsed, interval, id, &mut bridge.watch, rng);
        }
    }

    /// Takes what an audit found; `in_need`: whether a site asks for help whose bundles the
    /// bridge holds.
    pub(in crate::registry) fn finish_audit(
        &mut self,
        now: Moment,
        id: BridgeId,
        found: (Finding, Option<Lie>),
        bytes: u64,
        in_need: bool,
        rng: &mut impl Rng,
    ) -> Verdict {
        let (finding, lie) = found;
        let now = now.elapsed;
        let watch = self.bridges.get_mut(&id).map(|bridge| &mut bridge.watch);
        let verdict = self.audits.end(now, &self.config, bytes, watch, &finding);
        match verdict {
            Verdict::Evicted => {
                let lasts = self.config.eviction;
                for barring in self.evictions.evict(now, lasts, id, lie.as_ref()) {
                    self.news.tell(|| Change::Barred(Box::new(barring)));
                }
                self.doors.distrust(now, &self.config, id.address, rng);
                self.remove(id);
            }
            Verdict::Unlisted => {
                self.unlist(now, id, rng);
                self.news.tell(|| Change::Doubted(id));
            }
            Verdict::Passed | Verdict::Missed => {
                if finding == Finding::Right {
                    self.doors.trust(id.address);
                }
                if let Some(bridge) = self.bridges.get_mut(&id)
                    && bridge.listed
                    && bridge.here_until > now
                {
                    let in_use = in_need || bridge.watch.is_visited();
                    let interval = Audits::interval(&self.config, verdict, in_use);
                    self.audits.plan(now, interval, id, &mut bridge.watch, rng);
                }
            }
        }
        verdict
    }

    /// Has other trackers hear of a visitor of a file of `length` bytes.
    pub(in crate::registry) fn tell_visit(
        &mut self,
        id: BridgeId,
        length: u64,
        page: (&SiteName, &SitePath),
    ) {
        let weight = weight_of(length.saturating_mul(8));
        self.news.visit(id, weight, page);
    }

    /// Takes note that a visitor was sent to a page at this bridge.
    pub(in crate::registry) fn visit(
        &mut self,
        now: Moment,
        id: BridgeId,
        page: (&SiteName, &SitePath),
        rng: &mut impl Rng,
    ) {
        if let Some(bridge) = self.bridges.get_mut(&id) {
            let (audits, watch) = (&mut self.audits, &mut bridge.watch);
            audits.visit(now.elapsed, &self.config, id, watch, page, rng);
        }
    }

    /// A site asks for help: its bridges are looked at soon, for its gate may send visitors there
    /// without a word to us.
    pub(in crate::registry) fn hasten_audits(
        &mut self,
        now: Moment,
        swarm: SwarmId,
        rng: &mut impl Rng,
    ) {
        for hold in self.holders.get(&swarm).into_iter().flatten() {
            if let Some(bridge) = self.bridges.get_mut(&hold.bridge) {
                let (audits, watch) = (&mut self.audits, &mut bridge.watch);
                audits.hasten(now.elapsed, &self.config, hold.bridge, watch, rng);
            }
        }
    }
}
