//! Tiers in simulated time: trackers that are up or down, and who hears of us when.

use super::*;

const HOUR: Duration = Duration::from_secs(3600);
const INTERVAL: Duration = Duration::from_secs(1800);

fn reply() -> AnnounceReply {
    AnnounceReply {
        interval: 1800,
        ..AnnounceReply::default()
    }
}

/// A list, its clock, and who was asked when, since the start.
struct Sim {
    began: Instant,
    now: Instant,
    tiers: AnnounceTiers,
    asked: Vec<(TrackerNumber, Duration)>,
}

impl Sim {
    fn new(tiers: &[usize], seed: u64) -> Self {
        let began = Instant::now();
        Self {
            began,
            now: began,
            tiers: AnnounceTiers::new(began, tiers.iter().copied(), false, seed),
            asked: Vec::new(),
        }
    }

    /// Announces until `end`, to trackers of which `up` says whether they answer then.
    fn run(&mut self, end: Duration, up: impl Fn(TrackerNumber, Duration) -> bool) {
        while let Some(due) = self.tiers.due()
            && due < self.began + end
        {
            self.now = self.now.max(due);
            let since = self.now.duration_since(self.began);
            let number = self.tiers.next(self.now).expect("due, so somebody is");
            self.asked.push((number, since));
            assert!(self.asked.len() < 100_000, "no pause at all");
            match up(number, since) {
                true => self.tiers.succeeded(number, self.now, &reply(), false, 0),
                false => self.tiers.failed(number, self.now, None, 0),
            }
        }
    }

    fn asked_of(&self, number: TrackerNumber) -> usize {
        let asked = self.asked.iter();
        asked.filter(|(one, _)| *one == number).count()
    }

    fn order(&self) -> Vec<TrackerNumber> {
        self.asked.iter().map(|(number, _)| *number).collect()
    }
}

#[test]
fn tiers_are_shuffled_within_and_never_among_each_other() {
    let mut first = [0_u32; 4];
    for seed in 0..4000 {
        let mut sim = Sim::new(&[4, 0, 2], seed);
        sim.run(Duration::from_secs(1), |_, _| false);
        let order = sim.order();
        assert_eq!(order.len(), 6, "{order:?}");
        first[order[0]] += 1;
        assert!(order[..4].iter().all(|number| *number < 4), "{order:?}");
        // The same seed, the same order.
        let mut again = Sim::new(&[4, 0, 2], seed);
        again.run(Duration::from_secs(1), |_, _| false);
        assert_eq!(again.order(), order);
    }
    // Eight standard deviations of 27 around 1000.
    for count in first {
        assert!(count.abs_diff(1000) < 220, "{first:?}");
    }
}

#[test]
fn who_answers_is_moved_to_the_front_of_its_tier_and_no_other_is_asked() {
    for seed in 0..100 {
        let mut sim = Sim::new(&[5, 3], seed);
        let only = 3;
        sim.run(HOUR, |number, _| number == only);
        let order = sim.order();
        let at = order.iter().position(|number| *number == only).unwrap();
        assert!(order[..at].iter().all(|number| *number < 5), "{order:?}");
        assert_eq!(order[at..], [only; 2], "those passed over wait: {order:?}");
        // All are well again: it stays with whom it has.
        sim.run(24 * HOUR, |_, _| true);
        assert!(sim.order()[at..].iter().all(|number| *number == only));
        assert_eq!(sim.asked_of(only), 48);
    }
}

#[test]
fn the_next_tier_is_asked_only_when_all_of_one_failed() {
    let mut sim = Sim::new(&[2, 2, 1], 5);
    sim.run(HOUR, |number, _| number >= 2);
    let order = sim.order();
    let mut first = order[..2].to_vec();
    first.sort_unstable();
    assert_eq!(first, [0, 1]);
    assert!([2, 3].contains(&order[2]), "{order:?}");
    assert_eq!(sim.asked_of(4), 0, "{order:?}");
    // Within the same moment: nobody waits for the back-off of a tracker that is down.
    assert!(sim.asked[..3].iter().all(|(_, at)| at.is_zero()));
}

#[test]
fn the_first_tier_is_tried_again_at_each_announce_as_its_failures_allow() {
    let mut sim = Sim::new(&[1, 1], 1);
    sim.run(48 * HOUR, |number, since| number == 1 || since > 24 * HOUR);
    let day: Vec<_> = sim.asked.iter().filter(|(_, at)| *at < 24 * HOUR).collect();
    let dead = day.iter().filter(|(number, _)| *number == 0).count();
    assert!(
        (10..=24).contains(&dead),
        "{dead} to a tracker that is down"
    );
    assert_eq!(day.len() - dead, 48, "the other is asked at its interval");
    // Once the first is back, the second is left alone.
    let back = sim.asked.iter().find(|(n, at)| *n == 0 && *at > 24 * HOUR);
    let (_, back) = back.unwrap();
    assert!(*back < 24 * HOUR + 2 * HOUR + INTERVAL, "{back:?}");
    let later = sim.asked.iter().filter(|(_, at)| at > back);
    assert!(later.clone().count() > 40);
    assert!(later.clone().all(|(number, _)| *number == 0));
    let listed: Vec<_> = sim.tiers.listed().collect();
    assert_eq!(listed, [0, 1], "both know us");
}

#[test]
fn t16_a_list_of_trackers_that_are_none_hears_from_us_24_times_a_day_each() {
    let mut sim = Sim::new(&[3, 2, 5], 9);
    sim.run(24 * HOUR, |_, _| false);
    for number in 0..10 {
        let asked = sim.asked_of(number);
        assert!((10..=24).contains(&asked), "{number}: {asked}");
    }
}

#[test]
fn trackers_that_are_gone_for_good_leave_the_list() {
    let mut sim = Sim::new(&[1, 1], 0);
    for expected in [0, 1] {
        assert_eq!(sim.tiers.next(sim.now), Some(expected));
        sim.tiers.gone(expected);
    }
    assert_eq!(sim.tiers.due(), None);
    assert_eq!(sim.tiers.next(sim.now + HOUR), None);
    assert_eq!(sim.tiers.listed().count(), 0);
    let mut none = Sim::new(&[], 0);
    none.run(HOUR, |_, _| true);
    assert_eq!(none.asked, []);
    // Numbers of nobody change nothing.
    none.tiers.succeeded(7, none.now, &reply(), true, 0);
    none.tiers.failed(7, none.now, None, 0);
    assert_eq!(none.tiers.due(), None);
}

#[test]
fn patience_ends_where_another_can_be_asked() {
    let mut sim = Sim::new(&[1, 1], 0);
    assert_eq!(sim.tiers.patience(0, sim.now), Some(PATIENCE));
    sim.tiers.failed(0, sim.now, None, 0);
    assert_eq!(sim.tiers.patience(1, sim.now), None, "there is nobody else");
    sim.tiers.succeeded(1, sim.now, &reply(), false, 0);
    let next = sim.tiers.due().unwrap();
    assert_eq!(next, sim.now + INTERVAL);
    assert_eq!(sim.tiers.next(next), Some(0), "its back-off is over");
    assert_eq!(sim.tiers.patience(0, next), Some(PATIENCE));
}

#[test]
fn each_tracker_hears_started_first_and_completed_once() {
    let mut sim = Sim::new(&[1, 1], 0);
    let now = sim.now;
    assert_eq!(sim.tiers.event(0, false), AnnounceEvent::Started);
    sim.tiers.succeeded(0, now, &reply(), false, 0);
    sim.tiers.completed(now);
    assert_eq!(sim.tiers.due(), Some(now));
    assert_eq!(sim.tiers.event(0, true), AnnounceEvent::Completed);
    sim.tiers.failed(0, now, None, 0);
    // The other has not heard of us yet, and so of no download that ended.
    assert_eq!(sim.tiers.next(now), Some(1));
    assert_eq!(sim.tiers.event(1, true), AnnounceEvent::Started);
    sim.tiers.succeeded(1, now, &reply(), false, 0);
    sim.tiers.asked_by_hand();
    let due = sim.tiers.due().unwrap();
    assert!(due <= now + Duration::from_secs(1), "a hand hastens");
}

#[test]
fn figures_are_asked_for_no_more_often_than_announces_are_made() {
    let mut sim = Sim::new(&[1, 1], 0);
    assert_eq!(sim.tiers.scrape(sim.now), None, "nobody answered yet");
    sim.tiers.failed(0, sim.now, None, 0);
    sim.tiers.succeeded(1, sim.now, &reply(), false, 0);
    assert_eq!(sim.tiers.scrape(sim.now), Some(1));
    // However often somebody looks.
    let looks = (0..1800).map(|s| sim.tiers.scrape(sim.now + Duration::from_secs(s)));
    assert_eq!(looks.flatten().count(), 0);
    // A hungry peer announces every five seconds.
    let mut scrapes = 0;
    for second in (1800..2400).step_by(5) {
        let now = sim.now + Duration::from_secs(second);
        sim.tiers.succeeded(1, now, &reply(), true, 0);
        scrapes += sim.tiers.scrape(now).iter().count();
    }
    assert_eq!(scrapes, 10, "once a minute");
    sim.tiers.failed(1, sim.now + HOUR, None, 0);
    assert_eq!(sim.tiers.scrape(sim.now + HOUR), None);
}
