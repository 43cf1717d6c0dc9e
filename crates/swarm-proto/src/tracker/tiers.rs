//! Which of several trackers to announce to (BEP 12).
//!
//! One at a time: the first that answers, tier by tier. Whoever answered is asked first in its tier
//! from then on. As libtorrent does by default, a torrent's trackers are not all told: whoever wants
//! to be heard by several announces to each by a list of its own.

use std::time::{Duration, Instant};

use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom as _;

use super::{AnnounceEvent, AnnounceReply, AnnounceSchedule};

/// Time for one tracker while another could be asked instead: a lost packet of UDP and its like are
/// sent again within it (BEP 15: after 15 s).
const PATIENCE: Duration = Duration::from_secs(20);

/// Between questions for figures.
const SCRAPE_EVERY: Duration = Duration::from_secs(60);

/// A tracker of the list, by its place in the list as it was given.
pub type TrackerNumber = usize;

/// When to announce, and to which tracker of a list in tiers. Takes the time, does nothing by
/// itself.
///
/// The driver waits until [`due`](Self::due), asks whom [`next`](Self::next) names, and says what
/// came of it.
#[derive(Debug, Clone)]
pub struct AnnounceTiers {
    /// In the order in which they are asked.
    tiers: Vec<Vec<TrackerNumber>>,
    /// By number.
    schedules: Vec<AnnounceSchedule>,
    /// The one that answered last, and not failed since.
    current: Option<TrackerNumber>,
    /// It answered since it was last asked for figures.
    news: bool,
    scraped_at: Option<Instant>,
}

impl AnnounceTiers {
    /// Trackers numbered from 0 on, so many in each tier; the first announce is due at once.
    /// Each tier is shuffled, as BEP 12 has it, by `seed`. `complete`: everything is had already.
    pub fn new(
        now: Instant,
        tiers: impl IntoIterator<Item = usize>,
        complete: bool,
        seed: u64,
    ) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut count = 0_usize;
        let tiers = tiers.into_iter().map(|len| {
            let first = count;
            count = count.saturating_add(len);
            let mut tier: Vec<_> = (first..count).collect();
            tier.shuffle(&mut rng);
            tier
        });
        let tiers: Vec<_> = tiers.filter(|tier| !tier.is_empty()).collect();
        Self {
            tiers,
            schedules: vec![AnnounceSchedule::new(now, complete); count],
            current: None,
            news: false,
            scraped_at: None,
        }
    }

    fn in_order(&self) -> impl Iterator<Item = TrackerNumber> {
        self.tiers.iter().flatten().copied()
    }

    /// When somebody is to be asked; `None`: never again.
    pub fn due(&self) -> Option<Instant> {
        match self.current {
            // The others are looked at when this one is due.
            Some(current) => self.schedule(current)?.due(),
            None => self.schedules.iter().filter_map(|one| one.due()).min(),
        }
    }

    /// Whom to ask now. Whoever stands before the one that answered last and failed is tried again,
    /// as rarely as its failures demand.
    pub fn next(&self, now: Instant) -> Option<TrackerNumber> {
        if self.due().is_none_or(|due| now < due) {
            return None;
        }
        self.in_order().find(|number| self.is_due(*number, now))
    }

    fn is_due(&self, number: TrackerNumber, now: Instant) -> bool {
        let due = self.schedule(number).and_then(AnnounceSchedule::due);
        due.is_some_and(|due| due <= now)
    }

    fn schedule(&self, number: TrackerNumber) -> Option<&AnnounceSchedule> {
        self.schedules.get(number)
    }

    /// How long to wait for its answer; `None`: as long as its transport does, since there is nobody
    /// else to ask.
    pub fn patience(&self, number: TrackerNumber, now: Instant) -> Option<Duration> {
        let mut others = self.in_order().filter(|other| *other != number);
        let any = others.any(|other| self.is_due(other, now));
        any.then_some(PATIENCE)
    }

    /// What the announce to it is to say, see [`AnnounceSchedule::event`].
    pub fn event(&mut self, number: TrackerNumber, complete: bool) -> AnnounceEvent {
        let schedule = self.schedules.get_mut(number);
        schedule.map_or(AnnounceEvent::Regular, |one| one.event(complete))
    }

    /// Announces to it in vain since the last that went well.
    pub fn failures(&self, number: TrackerNumber) -> u32 {
        self.schedule(number).map_or(0, AnnounceSchedule::failures)
    }

    /// The trackers that know us, and are to hear `stopped` in the end.
    pub fn listed(&self) -> impl Iterator<Item = TrackerNumber> {
        let listed = |number: &TrackerNumber| {
            let schedule = self.schedule(*number);
            schedule.is_some_and(AnnounceSchedule::is_listed)
        };
        self.in_order().filter(listed)
    }

    /// Everything is had from now on, see [`AnnounceSchedule::completed`].
    pub fn completed(&mut self, now: Instant) {
        if let Some(schedule) = self.current.and_then(|n| self.schedules.get_mut(n)) {
            schedule.completed(now);
        }
    }

    /// It answered, see [`AnnounceSchedule::succeeded`]: it is asked first in its tier from now on.
    pub fn succeeded(
        &mut self,
        number: TrackerNumber,
        now: Instant,
        reply: &AnnounceReply,
        hungry: bool,
        jitter: u32,
    ) {
        let Some(schedule) = self.schedules.get_mut(number) else {
            return;
        };
        schedule.succeeded(now, reply, hungry, jitter);
        self.current = Some(number);
        self.news = true;
        for tier in &mut self.tiers {
            if let Some(at) = tier.iter().position(|one| *one == number)
                && let Some(front) = tier.get_mut(..=at)
            {
                front.rotate_right(1);
            }
        }
    }

    /// It did not answer, or refused, see [`AnnounceSchedule::failed`]: the next is asked.
    pub fn failed(
        &mut self,
        number: TrackerNumber,
        now: Instant,
        retry_in: Option<Duration>,
        jitter: u32,
    ) {
        if let Some(schedule) = self.schedules.get_mut(number) {
            schedule.failed(now, retry_in, jitter);
        }
        self.leave(number);
    }

    /// It is gone for good (`410 Gone`).
    pub fn gone(&mut self, number: TrackerNumber) {
        if let Some(schedule) = self.schedules.get_mut(number) {
            schedule.gone();
        }
        self.leave(number);
    }

    fn leave(&mut self, number: TrackerNumber) {
        if self.current == Some(number) {
            self.current = None;
        }
    }

    /// Somebody looks at the figures: whom to ask for them (BEP 48), if anybody. Never more often
    /// than there are announces, and at most once a minute.
    pub fn scrape(&mut self, now: Instant) -> Option<TrackerNumber> {
        let early = self.scraped_at.is_some_and(|at| now < at + SCRAPE_EVERY);
        let current = self.current.filter(|_| self.news && !early)?;
        self.news = false;
        self.scraped_at = Some(now);
        Some(current)
    }

    /// Somebody would like to know at once.
    pub fn asked_by_hand(&mut self) {
        match self.current.and_then(|n| self.schedules.get_mut(n)) {
            Some(schedule) => schedule.asked_by_hand(),
            None => {
                let all = self.schedules.iter_mut();
                all.for_each(AnnounceSchedule::asked_by_hand);
            }
        }
    }
}

#[cfg(test)]
mod tests;
