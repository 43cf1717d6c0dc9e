//! When which name is asked for. Touches nothing: time and chance are told.
//!
//! What Let's Encrypt allows, and how far we stay below it:
//!
//! | its limit | ours |
//! | --- | --- |
//! | 300 orders an account in 3 hours | [`ORDERS_AN_HOUR`] |
//! | 50 new names of a registered domain in a week; renewals are free | [`FIRST_A_WEEK`] |
//! | 5 certificates of one name in a week | [`ISSUED_A_WEEK`], more only where they live for less than a week |
//! | 5 failures of one name in an hour, one more each 12 minutes | pauses from [`PAUSE`], doubled each time |

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::held::Validity;
use super::past::{Past, Record, WEEK, registered};
use crate::config::{ACME_NAMES_MAX, CertificateName};
use crate::registry::Moment;

/// Orders at a time: each holds a connection to the authority, and it looks for us.
pub(super) const ORDERS_AT_A_TIME: usize = 2;
/// Orders begun in an hour, for all names together.
const ORDERS_AN_HOUR: usize = 90;
/// Of them those that are not for names of sites.
const ORDERS_KEPT: usize = 20;
/// Names of one registered domain that are given their first certificate in a week.
const FIRST_A_WEEK: usize = 40;
/// Certificates of one name in a week.
const ISSUED_A_WEEK: usize = 4;
/// Pause after the first failure; doubled for each that follows.
const PAUSE: Duration = Duration::from_secs(60);
/// Longest of these pauses, and of those that an authority asks for.
const PAUSE_MAX: Duration = Duration::from_secs(86_400);
/// Pause that is not cut however soon the certificate ends: failures come as Let's Encrypt allows.
const PAUSE_URGENT: Duration = Duration::from_secs(15 * 60);
/// Pause after a success: one whose life is over at once is not asked for again at once.
const PAUSE_AFTER: Duration = Duration::from_secs(60);
/// Pause where a limit of ours is reached, or a file has a certificate for the name.
const PAUSE_FULL: Duration = Duration::from_secs(3600);
/// How often the authority is asked when it would like a certificate to be renewed (RFC 9773).
const NEWS_EVERY: Duration = Duration::from_secs(6 * 3600);
/// And where it does not say that.
const NEWS_NONE: Duration = Duration::from_secs(86_400);
/// Longest wait: the wall's clock may be set meanwhile.
const WAIT_MAX: Duration = Duration::from_secs(300);

/// Who wants a certificate for a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    /// The operator, by the configuration.
    Operator,
    /// Its site, which may take that back.
    Site,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// See whether there is one on disk.
    Look(CertificateName),
    /// Get one. Told back by [`Schedule::issued`] or [`Schedule::failed`].
    Order {
        name: CertificateName,
        /// It is in place of one that is held, and the authority may be told so.
        replaces: bool,
    },
    /// Ask when a certificate should be renewed. Told back by [`Schedule::news`].
    Ask(CertificateName),
    /// Nothing for so long.
    Wait(Duration),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The disk was not looked at.
    New,
    Idle,
    Ordering,
}

#[derive(Debug)]
struct Entry {
    operator: bool,
    site: bool,
    state: State,
    held: Option<Validity>,
    /// Not before this on the clock that never goes back ...
    due: Duration,
    /// ... and this on the wall's.
    renew: u64,
    /// When the authority is next asked for news.
    ask: Duration,
    error: Option<String>,
}

/// How a name stands, for the status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) name: CertificateName,
    pub(super) not_after: Option<u64>,
    pub(super) error: Option<String>,
}

/// More names than there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooMany;

/// All names.
#[derive(Debug)]
pub(super) struct Schedule {
    names: BTreeMap<CertificateName, Entry>,
    past: Past,
    ordering: usize,
    asking: bool,
    /// When orders were begun, in the last hour; seconds since 1970.
    begun: VecDeque<u64>,
}

impl Schedule {
    pub(super) fn new(past: Past) -> Self {
        let mut begun: Vec<u64> = past.0.values().map(|record| record.tried).collect();
        begun.sort_unstable();
        Self {
            names: BTreeMap::new(),
            past,
            ordering: 0,
            asking: false,
            begun: begun.into(),
        }
    }

    /// Has a name looked after from now on.
    pub(super) fn want(
        &mut self,
        name: &CertificateName,
        who: Who,
        now: Moment,
    ) -> Result<(), TooMany> {
        if !self.names.contains_key(name) {
            if self.names.len() >= ACME_NAMES_MAX {
                return Err(TooMany);
            }
            let due = now.elapsed
                + self
                    .past
                    .of(name)
                    .map_or(Duration::ZERO, |r| still(r, now.unix));
            let entry = Entry {
                operator: false,
                site: false,
                state: State::New,
                held: None,
                due,
                renew: 0,
                ask: now.elapsed,
                error: None,
            };
            self.names.insert(name.clone(), entry);
        }
        if let Some(entry) = self.names.get_mut(name) {
            match who {
                Who::Operator => entry.operator = true,
                Who::Site => entry.site = true,
            }
        }
        Ok(())
    }

    /// Whether nobody wants the name any more.
    pub(super) fn unwant(&mut self, name: &CertificateName, who: Who) -> bool {
        let Some(entry) = self.names.get_mut(name) else {
            return false;
        };
        match who {
            Who::Operator => entry.operator = false,
            Who::Site => entry.site = false,
        }
        if entry.operator || entry.site {
            return false;
        }
        self.names.remove(name);
        true
    }

    pub(super) fn wants(&self, name: &CertificateName) -> bool {
        self.names.contains_key(name)
    }

    /// A name for which the disk was not looked at; it counts as looked at then.
    pub(super) fn unread(&mut self) -> Option<CertificateName> {
        let new = self.names.iter_mut().find(|(_, e)| e.state == State::New);
        let (name, entry) = new?;
        entry.state = State::Idle;
        Some(name.clone())
    }

    /// What is to be done now. An order counts as begun.
    pub(super) fn next(&mut self, now: Moment) -> Step {
        if let Some(name) = self.unread() {
            return Step::Look(name);
        }
        // What lies ahead was written by a clock that has been set back.
        self.begun
            .retain(|at| *at <= now.unix && now.unix - at < 3600);
        if self.ordering < ORDERS_AT_A_TIME && self.begun.len() < ORDERS_AN_HOUR {
            while let Some(name) = self.most_due(now) {
                if !self.may_begin(&name) || self.is_full(&name, now.unix) {
                    self.put_off(&name, now);
                    continue;
                }
                return self.begin(name, now);
            }
        }
        if !self.asking {
            let due = self.names.iter().find(|(_, entry)| {
                entry.held.is_some() && entry.state == State::Idle && entry.ask <= now.elapsed
            });
            if let Some(name) = due.map(|(name, _)| name.clone()) {
                self.asking = true;
                return Step::Ask(name);
            }
        }
        Step::Wait(self.wait(now))
    }

    /// Of the names whose time has come, first the operator's, then those that did not fail, and of
    /// these those that have no certificate or whose ends soonest.
    fn most_due(&self, now: Moment) -> Option<CertificateName> {
        let due = self.names.iter().filter(|(_, entry)| {
            entry.state == State::Idle && entry.due <= now.elapsed && entry.renew <= now.unix
        });
        let first = due.min_by_key(|(name, entry)| {
            let failures = self.past.of(name).map_or(0, |record| record.failures);
            let held_until = entry.held.map_or(0, |held| held.not_after);
            // Strangers can have any number of names looked after.
            (!entry.operator, failures, held_until)
        });
        first.map(|(name, _)| name.clone())
    }

    /// Whether there is an order left in this hour: the last few are for the operator's own names.
    fn may_begin(&self, name: &CertificateName) -> bool {
        let own = self.names.get(name).is_some_and(|entry| entry.operator);
        own || self.begun.len() < ORDERS_AN_HOUR - ORDERS_KEPT
    }

    fn begin(&mut self, name: CertificateName, now: Moment) -> Step {
        let record = self.past.record(&name);
        record.tried = now.unix;
        let mut replaces = false;
        if let Some(entry) = self.names.get_mut(&name) {
            entry.state = State::Ordering;
            // An authority that knows nothing of the one before must not stand in the way of the next.
            replaces = entry.held.is_some() && record.failures == 0;
        }
        // Until it has come to a good end: we may be killed before any.
        record.failures = record.failures.saturating_add(1);
        self.ordering += 1;
        self.begun.push_back(now.unix);
        Step::Order { name, replaces }
    }

    /// Whether an order now would go past what an authority allows.
    fn is_full(&self, name: &CertificateName, now: u64) -> bool {
        let Some(entry) = self.names.get(name) else {
            return true;
        };
        let Some(held) = entry.held else {
            let domain = registered(name);
            let others = self.names.iter().filter(|(other, entry)| {
                entry.state == State::Ordering
                    && entry.held.is_none()
                    && registered(other) == domain
            });
            return self.past.first_of(domain, now) + others.count() >= FIRST_A_WEEK
                || self.past.issued(name, now) >= ISSUED_A_WEEK;
        };
        // Twice as many as are needed to have one all the time.
        let life = held.not_after.saturating_sub(held.not_before).max(1);
        let needed = usize::try_from(2 * WEEK / life).unwrap_or(usize::MAX);
        self.past.issued(name, now) >= needed.max(ISSUED_A_WEEK)
    }

    /// Comes back to a name in an hour.
    pub(super) fn put_off(&mut self, name: &CertificateName, now: Moment) {
        if let Some(entry) = self.names.get_mut(name) {
            entry.due = now.elapsed + PAUSE_FULL;
        }
    }

    /// An order that was not made after all.
    pub(super) fn spared(&mut self, name: &CertificateName, now: Moment) {
        self.end(name);
        self.begun.pop_back();
        let record = self.past.record(name);
        record.failures = record.failures.saturating_sub(1);
        self.put_off(name, now);
    }

    fn end(&mut self, name: &CertificateName) {
        self.ordering = self.ordering.saturating_sub(1);
        if let Some(entry) = self.names.get_mut(name) {
            entry.state = State::Idle;
        }
    }

    /// A certificate is there, from the disk. `chance` is from 0 to 1.
    pub(super) fn found(&mut self, name: &CertificateName, held: Validity, chance: f64) {
        if let Some(entry) = self.names.get_mut(name) {
            entry.held = Some(held);
            entry.renew = renewal(held, chance);
            // Not of all at once.
            entry.ask += NEWS_EVERY.mul_f64(chance);
        }
    }

    /// An order came to a good end.
    pub(super) fn issued(
        &mut self,
        name: &CertificateName,
        held: Validity,
        now: Moment,
        chance: f64,
    ) {
        self.end(name);
        let had = self
            .names
            .get(name)
            .is_some_and(|entry| entry.held.is_some());
        let record = self.past.record(name);
        record.failures = 0;
        record.issued.push(now.unix);
        if !had && record.first == 0 {
            record.first = now.unix;
        }
        self.found(name, held, chance);
        if let Some(entry) = self.names.get_mut(name) {
            entry.due = now.elapsed + PAUSE_AFTER;
            entry.ask = now.elapsed + NEWS_EVERY;
            entry.error = None;
        }
        self.forget(now.unix);
    }

    /// An order failed; gives the pause. What is held stays so. `at_least`: what the authority asks
    /// for.
    pub(super) fn failed(
        &mut self,
        name: &CertificateName,
        why: String,
        at_least: Option<Duration>,
        now: Moment,
        chance: f64,
    ) -> Duration {
        self.end(name);
        let mut pause = pause_after(self.past.record(name).failures);
        let Some(entry) = self.names.get_mut(name) else {
            return pause;
        };
        if let Some(held) = entry.held {
            let left = Duration::from_secs(held.not_after.saturating_sub(now.unix));
            pause = pause.min(PAUSE_URGENT.max(left / 4));
        }
        // So that many that failed together do not come back together.
        pause += pause.mul_f64(chance / 10.0);
        pause = pause.max(at_least.unwrap_or_default().min(PAUSE_MAX));
        entry.due = now.elapsed + pause;
        entry.error = Some(why);
        self.forget(now.unix);
        pause
    }

    /// What the authority says about when to renew: from when to when, in seconds since 1970.
    pub(super) fn news(
        &mut self,
        name: &CertificateName,
        window: Option<(u64, u64)>,
        now: Moment,
        chance: f64,
    ) {
        self.asking = false;
        if window.is_none() {
            // It says so of all.
            for entry in self.names.values_mut() {
                entry.ask = entry.ask.max(now.elapsed + NEWS_NONE);
            }
        }
        let Some(entry) = self.names.get_mut(name) else {
            return;
        };
        let (Some((start, end)), Some(held)) = (window, entry.held) else {
            return;
        };
        entry.ask = now.elapsed + NEWS_EVERY;
        let length = end.saturating_sub(start);
        let at = start.saturating_add((length as f64 * chance) as u64);
        // Nobody talks us into letting one end.
        let life = held.not_after.saturating_sub(held.not_before);
        entry.renew = at.min(held.not_after.saturating_sub(life / 10));
    }

    /// The authority could not be asked.
    pub(super) fn no_news(&mut self, name: &CertificateName, now: Moment) {
        self.asking = false;
        if let Some(entry) = self.names.get_mut(name) {
            entry.ask = now.elapsed + NEWS_EVERY;
        }
    }

    fn forget(&mut self, now: u64) {
        let names = &self.names;
        self.past.forget(now, |name| names.contains_key(name));
    }

    fn wait(&self, now: Moment) -> Duration {
        let steady = |at: Duration| at.saturating_sub(now.elapsed);
        let wall = |at: u64| Duration::from_secs(at.saturating_sub(now.unix));
        let mut wait = WAIT_MAX;
        let may_order = self.ordering < ORDERS_AT_A_TIME;
        let full = match self.begun.front() {
            Some(oldest) if self.begun.len() >= ORDERS_AN_HOUR => wall(oldest.saturating_add(3600)),
            _ => Duration::ZERO,
        };
        for entry in self.names.values().filter(|e| e.state == State::Idle) {
            if may_order {
                let due = steady(entry.due).max(wall(entry.renew)).max(full);
                wait = wait.min(due);
            }
            if entry.held.is_some() && !self.asking {
                wait = wait.min(steady(entry.ask));
            }
        }
        // What is due but not done waits for something else, which wakes us.
        wait.max(Duration::from_millis(100))
    }

    /// What is to be remembered.
    pub(super) const fn past(&self) -> &Past {
        &self.past
    }

    /// How all names stand, by name.
    pub(super) fn standings(&self) -> impl ExactSizeIterator<Item = Standing> {
        self.names.iter().map(|(name, entry)| Standing {
            name: name.clone(),
            not_after: entry.held.map(|held| held.not_after),
            error: entry.error.clone(),
        })
    }
}

/// When two thirds of its life are over, or a little before: those of one day are not renewed
/// together.
fn renewal(held: Validity, chance: f64) -> u64 {
    let life = held.not_after.saturating_sub(held.not_before);
    let early = (life as f64 * chance / 20.0) as u64;
    (held.not_before + life / 3 * 2).saturating_sub(early)
}

/// What is left, at `now`, of the pause after the last failure.
fn still(record: &Record, now: u64) -> Duration {
    let over = Duration::from_secs(now.saturating_sub(record.tried));
    match record.failures {
        0 => Duration::ZERO,
        failures => pause_after(failures).saturating_sub(over),
    }
}

fn pause_after(failures: u32) -> Duration {
    let doubled = 2_u32.saturating_pow(failures.saturating_sub(1).min(16));
    PAUSE.saturating_mul(doubled).min(PAUSE_MAX)
}

#[cfg(test)]
mod tests;
