//! Which bridge answers at an address, and when that address may be called again (spec 0006, 3.2;
//! T14, T15).
//!
//! A bridge is listed once the tracker has called it at its address and got a fresh number back,
//! signed with the key of its announces. Ports are free for anybody to name, so the address that
//! is called may be a neighbour's: it is called once in an announce interval at most, more and
//! more seldom where nobody answers, and whoever named it cannot make it answer.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rand::{Rng, RngExt as _};
use swarm_proto::manifest::{PublicKey, SiteName};
use swarm_proto::tracker::proof::{PROOF_LEN, ProofRequest};

use crate::budget::place_of;
use crate::config::VolunteerConfig;

/// Keys that are compared with one answer, 50 µs each. A second one is a bridge that has started
/// anew; more are somebody's who names a neighbour's port.
const CLAIMS_PER_DOOR_MAX: usize = 4;
/// Addresses remembered, some 300 bytes each.
const DOORS_MAX: usize = 65_536;
/// Calls that one place can cause at once; this host itself is not counted.
const CALLS_PER_PLACE: u32 = 16;
/// Time in which a place may cause one more. Renewals of a proof are not counted.
const CALL_EVERY: Duration = Duration::from_secs(5);
/// Longest time until an address that does not answer is called again.
const BACKOFF_MAX: Duration = Duration::from_secs(600);

/// The answer to a call, or why there is none.
pub type Answer = Result<[u8; PROOF_LEN], NoAnswer>;

/// Why a call brought no proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoAnswer {
    /// Nothing in time. A full line loses a packet now and then.
    TimedOut,
    /// Nobody listens, or whoever does says something else.
    Refused,
}

/// What is known of who claims to be at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    /// It has answered there.
    Proven,
    /// It is to be called.
    Waiting,
    /// It was called in vain, or too much was called for its place; not again before that.
    Refused(Duration),
}

/// All addresses where bridges are said to be.
#[derive(Debug, Default)]
pub(super) struct Doors {
    doors: HashMap<SocketAddr, Door>,
    /// When to call, each address once.
    due: BTreeSet<(Duration, SocketAddr)>,
    under_way: usize,
    /// When a place will have all of its allowance again.
    spent: HashMap<IpAddr, Duration>,
}

#[derive(Debug)]
struct Door {
    /// Who says to be here; no more than [`CLAIMS_PER_DOOR_MAX`].
    claims: Vec<PublicKey>,
    /// The name under which the last of them announced to us.
    tracker: SiteName,
    call: Call,
    /// What was answered last, so that who comes now need not cause another call.
    answer: Option<(ProofRequest, [u8; PROOF_LEN])>,
    /// No call before.
    not_before: Duration,
    /// In a row; audits that fail count as well.
    failures: u32,
    /// Whether the last call timed out that was made to renew a proof.
    missed: bool,
    /// When who left here was to be audited: to leave and come back puts nothing off.
    audit_due: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    None,
    Due(Duration),
    UnderWay([u8; 32]),
}

impl Doors {
    /// Takes note that `key` says to be at `address` and knows us as `tracker`.
    pub(super) fn claim(
        &mut self,
        now: Duration,
        config: &VolunteerConfig,
        address: SocketAddr,
        key: PublicKey,
        tracker: &SiteName,
    ) -> Claim {
        let full = self.doors.len() >= DOORS_MAX;
        let again = now.saturating_add(BACKOFF_MAX);
        if !self.doors.contains_key(&address) {
            if full || !self.may_cause(now, address.ip()) {
                return Claim::Refused(again);
            }
            self.doors.insert(address, Door::new(now, tracker));
        }
        let may_cause = self.may_cause(now, address.ip());
        let Some(door) = self.doors.get_mut(&address) else {
            return Claim::Refused(again);
        };
        let proves = |(asked, proof): &(ProofRequest, _)| asked.proves(&key, proof);
        if door.answer.as_ref().is_some_and(proves) {
            door.admit(key);
            if door.call == Call::None {
                self.schedule(address, now.saturating_add(config.renew_interval));
            }
            return Claim::Proven;
        }
        let soonest = door.not_before.max(now);
        match door.call {
            Call::Due(at) if at > soonest => {}
            Call::None => {}
            Call::Due(_) | Call::UnderWay(_) => {
                door.admit(key);
                return Claim::Waiting;
            }
        }
        if soonest > now.saturating_add(config.call_interval) {
            return Claim::Refused(soonest);
        }
        if !may_cause {
            return Claim::Refused(now.saturating_add(CALL_EVERY));
        }
        door.admit(key);
        door.tracker = tracker.clone();
        self.schedule(address, soonest);
        self.cause(now, address.ip());
        Claim::Waiting
    }

    /// `key`, which another tracker has found to be at `address`, announces to us from now on: it
    /// is called before long, and then as often as those that we have found ourselves.
    pub(super) fn adopt(
        &mut self,
        now: Duration,
        config: &VolunteerConfig,
        address: SocketAddr,
        key: PublicKey,
        tracker: &SiteName,
        rng: &mut impl Rng,
    ) {
        if self.doors.len() >= DOORS_MAX && !self.doors.contains_key(&address) {
            return;
        }
        let door = self
            .doors
            .entry(address)
            .or_insert_with(|| Door::new(now, tracker));
        if door.claims.contains(&key) {
            return;
        }
        door.admit(key);
        door.tracker = tracker.clone();
        if door.call == Call::None {
            let spread = config.renew_interval.mul_f64(rng.random_range(0.0..1.0));
            let at = now.saturating_add(spread.max(config.call_interval));
            self.schedule(address, at);
        }
    }

    /// Whether we have reason to doubt who is at `address`.
    pub(super) fn doubts(&self, address: SocketAddr) -> bool {
        let door = self.doors.get(&address);
        door.is_some_and(|door| door.failures > 0 && door.answer.is_none())
    }

    /// `key` is no longer said to be at `address`. `audit_due`: when it was to be audited.
    pub(super) fn release(
        &mut self,
        address: SocketAddr,
        key: &PublicKey,
        audit_due: Option<Duration>,
    ) {
        if let Some(door) = self.doors.get_mut(&address) {
            door.claims.retain(|claim| claim != key);
            door.audit_due = [door.audit_due, audit_due].into_iter().flatten().min();
        }
    }

    /// When somebody who left this address was to be audited; told once.
    pub(super) fn take_audit_due(&mut self, address: SocketAddr) -> Option<Duration> {
        self.doors.get_mut(&address)?.audit_due.take()
    }

    /// The next call to be made; `nonce` is from the system's generator.
    pub(super) fn next(
        &mut self,
        now: Duration,
        config: &VolunteerConfig,
        nonce: [u8; 32],
    ) -> Option<ProofRequest> {
        while self.under_way < config.calls_max {
            let (at, address) = self.due.first().copied().filter(|(at, _)| *at <= now)?;
            self.due.remove(&(at, address));
            let Some(door) = self.doors.get_mut(&address) else {
                continue;
            };
            door.call = Call::None;
            if door.claims.is_empty() {
                continue;
            }
            door.call = Call::UnderWay(nonce);
            self.under_way += 1;
            return Some(ProofRequest {
                nonce,
                tracker: door.tracker.clone(),
                bridge: address,
            });
        }
        None
    }

    /// Takes what a call brought. Returns the keys that are proven to be there, and those that
    /// are not.
    pub(super) fn finish(
        &mut self,
        now: Duration,
        config: &VolunteerConfig,
        request: &ProofRequest,
        answer: Answer,
        rng: &mut impl Rng,
    ) -> (Vec<PublicKey>, Vec<PublicKey>) {
        let address = request.bridge;
        let door = self.doors.get_mut(&address);
        let Some(door) = door.filter(|door| door.call == Call::UnderWay(request.nonce)) else {
            return (Vec::new(), Vec::new());
        };
        self.under_way = self.under_way.saturating_sub(1);
        door.call = Call::None;
        door.not_before = now.saturating_add(config.call_interval);
        let lost = answer == Err(NoAnswer::TimedOut);
        if lost && door.answer.is_some() && !door.missed {
            // One time-out takes no proof away.
            door.missed = true;
            let answer = door.answer.as_ref();
            let proves = |key: &&PublicKey| answer.is_some_and(|(asked, p)| asked.proves(key, p));
            let proven = door.claims.iter().filter(proves).copied().collect();
            let at = door.not_before;
            self.schedule(address, at);
            return (proven, Vec::new());
        }
        door.missed = false;
        door.answer = answer.ok().map(|proof| (request.clone(), proof));
        let claims = std::mem::take(&mut door.claims);
        let answer = door.answer.as_ref();
        let proves =
            |key: &PublicKey| answer.is_some_and(|(asked, proof)| asked.proves(key, proof));
        let (proven, unproven): (Vec<_>, Vec<_>) = claims.into_iter().partition(proves);
        door.claims.clone_from(&proven);
        if proven.is_empty() {
            door.put_off(now, config, rng);
        } else {
            let spread = config.renew_interval.mul_f64(rng.random_range(0.75..1.25));
            let at = now.saturating_add(spread.max(config.call_interval));
            self.schedule(address, at);
        }
        (proven, unproven)
    }

    /// Who is at `address` did not do as it should: it has to prove itself again, later each time.
    pub(super) fn distrust(
        &mut self,
        now: Duration,
        config: &VolunteerConfig,
        address: SocketAddr,
        rng: &mut impl Rng,
    ) {
        let Some(door) = self.doors.get_mut(&address) else {
            return;
        };
        door.answer = None;
        door.put_off(now, config, rng);
        let at = door.not_before;
        if !matches!(door.call, Call::UnderWay(_)) {
            self.schedule(address, at);
        }
    }

    /// Who is at `address` has done as it should.
    pub(super) fn trust(&mut self, address: SocketAddr) {
        if let Some(door) = self.doors.get_mut(&address) {
            door.failures = 0;
        }
    }

    fn schedule(&mut self, address: SocketAddr, at: Duration) {
        if let Some(door) = self.doors.get_mut(&address) {
            if let Call::Due(before) = door.call {
                self.due.remove(&(before, address));
            }
            door.call = Call::Due(at);
            self.due.insert((at, address));
        }
    }

    /// Forgets addresses that nobody claims and that may be called as if never heard of.
    pub(super) fn sweep(&mut self, now: Duration, config: &VolunteerConfig) {
        self.spent.retain(|_, whole_at| *whole_at > now);
        let due = &mut self.due;
        self.doors.retain(|address, door| {
            // As long again as it was to be left alone, or its failures would be forgotten.
            let pause = backoff(door.failures, config.call_interval);
            let memory = door.not_before.saturating_add(pause);
            let memory = door.audit_due.map_or(memory, |due| due.max(memory));
            let under_way = matches!(door.call, Call::UnderWay(_));
            let kept = !door.claims.is_empty() || under_way || memory > now;
            if let (false, Call::Due(at)) = (kept, door.call) {
                due.remove(&(at, *address));
            }
            kept
        });
    }

    fn may_cause(&self, now: Duration, source: IpAddr) -> bool {
        let allowance = CALL_EVERY.saturating_mul(CALLS_PER_PLACE - 1);
        let spent = self.spent.get(&place_of(source));
        source.is_loopback()
            || spent.is_none_or(|whole_at| *whole_at <= now.saturating_add(allowance))
    }

    fn cause(&mut self, now: Duration, source: IpAddr) {
        if !source.is_loopback() {
            let whole_at = self.spent.entry(place_of(source)).or_default();
            *whole_at = (*whole_at).max(now).saturating_add(CALL_EVERY);
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.doors.is_empty() && self.due.is_empty() && self.spent.is_empty()
    }
}

impl Door {
    fn new(now: Duration, tracker: &SiteName) -> Self {
        Self {
            claims: Vec::new(),
            tracker: tracker.clone(),
            call: Call::None,
            answer: None,
            not_before: now,
            failures: 0,
            missed: false,
            audit_due: None,
        }
    }

    fn admit(&mut self, key: PublicKey) {
        if self.claims.contains(&key) {
            return;
        }
        if self.claims.len() >= CLAIMS_PER_DOOR_MAX {
            let answer = self.answer.as_ref();
            let proven = |key: &PublicKey| answer.is_some_and(|(asked, p)| asked.proves(key, p));
            let oldest = self.claims.iter().position(|claim| !proven(claim));
            self.claims.remove(oldest.unwrap_or(0));
        }
        self.claims.push(key);
    }

    fn put_off(&mut self, now: Duration, config: &VolunteerConfig, rng: &mut impl Rng) {
        self.failures = self.failures.saturating_add(1);
        let pause = backoff(self.failures, config.call_interval);
        let spread = pause.mul_f64(rng.random_range(1.0..1.125));
        self.not_before = self.not_before.max(now.saturating_add(spread));
    }
}

/// Twice as long after each failure.
fn backoff(failures: u32, least: Duration) -> Duration {
    let doubled = least.saturating_mul(1 << failures.saturating_sub(1).min(10));
    doubled.min(BACKOFF_MAX.max(least))
}

#[cfg(test)]
mod tests;
