//! What is known of who consented, and who may be asked about now. Time is an argument.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use swarm_proto::manifest::SiteName;

/// Sites that are known not to have consented; some 100 bytes each. Beyond, none is asked about
/// until one of them is forgotten.
const KNOWN_MAX: usize = 20_000;
/// Lookups a second, and at once: anybody can name any number of names.
const RATE: f64 = 20.0;
const BURST: f64 = 100.0;
/// Sites taken up in an hour: each leaves a file behind, and asks for a certificate.
const TAKEN_UP_AN_HOUR: usize = 60;
const HOUR: Duration = Duration::from_secs(3600);

/// Sites that have not consented, and the right to ask about others.
#[derive(Debug)]
pub(super) struct Consents {
    /// Until when they need not be asked about.
    refused: HashMap<SiteName, Duration>,
    tokens: f64,
    refilled: Duration,
    /// When sites were taken up in the last hour.
    taken_up: VecDeque<Duration>,
}

/// Whether a site may be asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum May {
    /// It may.
    Ask,
    /// It has not consented, or nobody can tell.
    Refused,
    /// Too many are asked about now.
    TooMany,
}

impl Consents {
    pub(super) fn new() -> Self {
        Self {
            refused: HashMap::new(),
            tokens: BURST,
            refilled: Duration::ZERO,
            taken_up: VecDeque::new(),
        }
    }

    /// Whether `site` is known not to have consented.
    pub(super) fn is_refused(&self, now: Duration, site: &SiteName) -> bool {
        self.refused.get(site).is_some_and(|until| *until > now)
    }

    /// Whether `site` may be asked about at `now`, time since the start; if so, it counts.
    pub(super) fn may_ask(&mut self, now: Duration, site: &SiteName) -> May {
        match self.refused.get(site) {
            Some(until) if *until > now => return May::Refused,
            _ => {}
        }
        let passed = now.saturating_sub(self.refilled);
        self.tokens = (self.tokens + passed.as_secs_f64() * RATE).min(BURST);
        self.refilled = now.max(self.refilled);
        if self.tokens < 1.0 {
            return May::TooMany;
        }
        if self.refused.len() >= KNOWN_MAX {
            self.refused.retain(|_, until| *until > now);
            if self.refused.len() >= KNOWN_MAX {
                return May::TooMany;
            }
        }
        self.tokens -= 1.0;
        May::Ask
    }

    /// Whether one more site may be taken up at `now`; if so, it counts.
    pub(super) fn may_take_up(&mut self, now: Duration) -> bool {
        while self.taken_up.front().is_some_and(|at| *at + HOUR <= now) {
            self.taken_up.pop_front();
        }
        let may = self.taken_up.len() < TAKEN_UP_AN_HOUR;
        if may {
            self.taken_up.push_back(now);
        }
        may
    }

    /// `site` has not consented, and need not be asked about for so long.
    pub(super) fn refuse(&mut self, now: Duration, site: SiteName, lasts: Duration) {
        self.refused.insert(site, now.saturating_add(lasts));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(n: usize) -> SiteName {
        SiteName::parse(&format!("s{n}.example")).unwrap()
    }

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn a_site_that_has_not_consented_is_asked_about_once_in_a_while() {
        let mut consents = Consents::new();
        assert_eq!(consents.may_ask(secs(0), &site(1)), May::Ask);
        consents.refuse(secs(0), site(1), secs(30));
        assert_eq!(consents.may_ask(secs(29), &site(1)), May::Refused);
        assert_eq!(consents.may_ask(secs(30), &site(1)), May::Ask);
    }

    #[test]
    fn whoever_names_a_thousand_names_has_few_of_them_asked_about() {
        let mut consents = Consents::new();
        let mut ask = |now, from: usize| {
            let all = (from..from + 1000).map(|n| consents.may_ask(now, &site(n)));
            all.filter(|may| *may == May::Ask).count()
        };
        assert_eq!(ask(secs(0), 0), 100);
        assert_eq!(ask(secs(1), 1000), 20);
        assert_eq!(ask(secs(1000), 2000), 100);
    }

    #[test]
    fn so_many_sites_are_taken_up_in_an_hour_and_no_more() {
        let mut consents = Consents::new();
        let mut taken_up = |now| {
            (0..1000)
                .filter(|_| consents.may_take_up(secs(now)))
                .count()
        };
        assert_eq!([taken_up(0), taken_up(3599), taken_up(3600)], [60, 0, 60]);
    }

    #[test]
    fn the_refused_are_bounded() {
        let mut consents = Consents::new();
        for n in 0..KNOWN_MAX {
            consents.refuse(secs(0), site(n), secs(300));
        }
        assert_eq!(consents.may_ask(secs(1), &site(KNOWN_MAX)), May::TooMany);
        assert_eq!(consents.may_ask(secs(300), &site(KNOWN_MAX)), May::Ask);
        assert!(consents.refused.is_empty());
    }
}
