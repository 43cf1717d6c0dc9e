use super::*;

const DAY: u64 = 86_400;
const START: u64 = 1_800_000_000;

/// So many seconds after the start.
fn at(secs: u64) -> Moment {
    Moment {
        elapsed: Duration::from_secs(secs),
        unix: START + secs,
    }
}

fn name(text: &str) -> CertificateName {
    text.parse().expect("a name")
}

/// That lives for so long from so long after the start.
fn life(from: u64, secs: u64) -> Validity {
    Validity {
        not_before: START + from,
        not_after: START + from + secs,
    }
}

/// With these names, none of which is on disk.
fn wanting(names: &[&str]) -> Schedule {
    let mut schedule = Schedule::new(Past::default());
    for text in names {
        schedule
            .want(&name(text), Who::Operator, at(0))
            .expect("room");
    }
    while schedule.unread().is_some() {}
    schedule
}

/// The name for which one is asked at this time, if any.
fn ordered(schedule: &mut Schedule, secs: u64) -> Option<String> {
    loop {
        match schedule.next(at(secs)) {
            Step::Order { name, .. } => return Some(name.into()),
            Step::Wait(_) => return None,
            Step::Look(_) => {}
            Step::Ask(name) => schedule.news(&name, None, at(secs), 0.5),
        }
    }
}

/// The second of the next order, when time goes on as the schedule says.
fn next_order(schedule: &mut Schedule, mut secs: u64, limit: u64) -> Option<(u64, String)> {
    while secs < limit {
        match schedule.next(at(secs)) {
            Step::Order { name, .. } => return Some((secs, name.into())),
            Step::Wait(wait) => secs += wait.as_secs().max(1),
            Step::Look(_) => {}
            Step::Ask(name) => schedule.news(&name, None, at(secs), 0.5),
        }
    }
    None
}

#[test]
fn names_are_asked_for_at_once_but_two_at_a_time() {
    let mut schedule = wanting(&["a.example", "b.example", "c.example"]);
    let first = ordered(&mut schedule, 0).expect("one");
    assert!(ordered(&mut schedule, 0).is_some());
    assert_eq!(ordered(&mut schedule, 0), None);
    schedule.issued(&name(&first), life(0, 90 * DAY), at(5), 0.0);
    assert!(ordered(&mut schedule, 5).is_some());
    assert_eq!(ordered(&mut schedule, 5), None);
}

#[test]
fn the_disk_is_looked_at_first_and_spares_an_order() {
    let mut schedule = Schedule::new(Past::default());
    let a = name("a.example");
    schedule.want(&a, Who::Operator, at(0)).expect("room");
    assert_eq!(schedule.next(at(0)), Step::Look(a.clone()));
    schedule.found(&a, life(0, 90 * DAY), 0.0);
    assert_eq!(next_order(&mut schedule, 0, 60 * DAY - 1), None);
    let then = next_order(&mut schedule, 60 * DAY - 1, 61 * DAY);
    assert_eq!(then, Some((60 * DAY, "a.example".to_owned())));
}

#[test]
fn it_is_renewed_at_two_thirds_of_its_life_or_a_little_before() {
    for (chance, day) in [(0.0, 60.0), (0.5, 57.75), (1.0, 55.5)] {
        let renew = renewal(life(0, 90 * DAY), chance) - START;
        assert_eq!(renew as f64 / DAY as f64, day, "{chance}");
    }
    // What has ended, or was never good, is due at once.
    assert!(renewal(life(0, 0), 1.0) <= START);
    let upside_down = Validity {
        not_before: START,
        not_after: START - 5,
    };
    assert_eq!(renewal(upside_down, 1.0), START);
}

#[test]
fn failures_pause_for_a_minute_doubled_up_to_a_day() {
    let mut schedule = wanting(&["a.example"]);
    let (mut secs, mut pauses) = (0, Vec::new());
    for _ in 0..14 {
        assert!(ordered(&mut schedule, secs).is_some(), "{secs}");
        let why = "no".to_owned();
        let pause = schedule
            .failed(&name("a.example"), why, None, at(secs), 0.0)
            .as_secs();
        pauses.push(pause / 60);
        assert_eq!(ordered(&mut schedule, secs + pause - 1), None);
        secs += pause;
    }
    let expected = [
        1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 1440, 1440, 1440,
    ];
    assert_eq!(pauses, expected);
    // Those that failed together come back one after the other.
    let mut schedule = wanting(&["a.example"]);
    ordered(&mut schedule, 0);
    let spread = schedule.failed(&name("a.example"), String::new(), None, at(0), 1.0);
    assert_eq!(spread.as_secs(), 66);
}

#[test]
fn what_the_authority_asks_for_is_waited_but_no_longer_than_a_day() {
    for (asked, waited) in [(30, 60), (7200, 7200), (900_000, DAY)] {
        let mut schedule = wanting(&["a.example"]);
        ordered(&mut schedule, 0);
        let asked = Some(Duration::from_secs(asked));
        let pause = schedule.failed(&name("a.example"), String::new(), asked, at(0), 0.0);
        assert_eq!(pause.as_secs(), waited);
    }
}

#[test]
fn a_name_that_fails_lets_others_by_and_keeps_what_it_has() {
    let mut schedule = wanting(&["a.example", "b.example", "c.example"]);
    for text in ["a.example", "b.example"] {
        assert_eq!(ordered(&mut schedule, 0).as_deref(), Some(text));
    }
    schedule.failed(&name("a.example"), "refused".into(), None, at(0), 0.0);
    schedule.failed(&name("b.example"), "refused".into(), None, at(0), 0.0);
    // Both are due again, and yet it is the third's turn.
    assert_eq!(ordered(&mut schedule, 61).as_deref(), Some("c.example"));
    let held = life(0, 90 * DAY);
    schedule.issued(&name("c.example"), held, at(61), 0.0);
    assert_eq!(
        next_order(&mut schedule, 61, 62).map(|(_, n)| n).as_deref(),
        Some("a.example")
    );
    schedule.issued(&name("a.example"), held, at(62), 0.0);
    // One that is to be renewed and is not goes on with what it has.
    assert_eq!(
        ordered(&mut schedule, 60 * DAY).as_deref(),
        Some("a.example")
    );
    schedule.failed(&name("a.example"), "down".into(), None, at(60 * DAY), 0.0);
    let a = schedule.standings().next().expect("one");
    assert_eq!(
        (a.not_after, a.error.as_deref()),
        (Some(held.not_after), Some("down"))
    );
}

#[test]
fn who_is_about_to_end_is_not_made_to_wait_for_a_day() {
    let mut schedule = wanting(&["a.example"]);
    schedule.found(&name("a.example"), life(0, DAY), 0.0);
    let (mut secs, mut pauses) = (16 * 3600, Vec::new());
    while secs < DAY {
        assert!(ordered(&mut schedule, secs).is_some(), "{secs}");
        let pause = schedule.failed(&name("a.example"), String::new(), None, at(secs), 0.0);
        pauses.push(pause.as_secs() / 60);
        secs += pause.as_secs() + 1;
    }
    // Never more than a quarter of what is left, never faster than Let's Encrypt takes it.
    assert_eq!(pauses[..8], [1, 2, 4, 8, 16, 32, 64, 88]);
    assert_eq!(pauses.last(), Some(&15));
}

#[test]
fn a_restart_does_not_shorten_a_pause() {
    let mut schedule = wanting(&["a.example"]);
    let mut secs = 0;
    for _ in 0..6 {
        assert!(ordered(&mut schedule, secs).is_some());
        let pause = schedule.failed(&name("a.example"), String::new(), None, at(secs), 0.0);
        secs += pause.as_secs();
    }
    let text = serde_json::to_string(schedule.past()).expect("JSON");
    let past: Past = serde_json::from_str(&text).expect("readable");
    assert_eq!(&past, schedule.past());
    // One that ended in the middle of an order is as if that had failed.
    let mut killed = wanting(&["a.example"]);
    assert!(ordered(&mut killed, 0).is_some());
    let mut killed = Schedule::new(killed.past().clone());
    killed
        .want(&name("a.example"), Who::Operator, at(0))
        .expect("room");
    assert_eq!(ordered(&mut killed, 59), None);
    assert!(ordered(&mut killed, 60).is_some());
    // 32 minutes were the last pause; ten of them are over.
    let tried = secs - 32 * 60;
    let restarted = Moment {
        elapsed: Duration::ZERO,
        unix: START + tried + 600,
    };
    let later = |more: u64| Moment {
        elapsed: Duration::from_secs(more),
        unix: restarted.unix + more,
    };
    let mut schedule = Schedule::new(past);
    schedule
        .want(&name("a.example"), Who::Operator, restarted)
        .expect("room");
    assert!(schedule.unread().is_some());
    assert!(matches!(schedule.next(later(22 * 60 - 1)), Step::Wait(_)));
    assert!(matches!(schedule.next(later(22 * 60)), Step::Order { .. }));
}

#[test]
fn one_that_runs_into_a_loop_stops_at_four_a_week() {
    let mut schedule = wanting(&["a.example"]);
    let (mut secs, mut given) = (0, Vec::new());
    while let Some((then, _)) = next_order(&mut schedule, secs, 8 * DAY) {
        given.push(then);
        // As if it were damaged each time.
        schedule.issued(&name("a.example"), life(then, 90 * DAY), at(then), 0.0);
        schedule
            .names
            .get_mut(&name("a.example"))
            .expect("there")
            .renew = 0;
        secs = then + 1;
    }
    assert_eq!(
        given.iter().filter(|then| **then < 7 * DAY).count(),
        4,
        "{given:?}"
    );
    assert!(given.len() > 4, "and goes on after the week: {given:?}");
}

#[test]
fn those_that_live_for_a_day_are_renewed_each_day_all_the_same() {
    let mut schedule = wanting(&["a.example"]);
    let (mut secs, mut ends) = (0, 0);
    while let Some((then, _)) = next_order(&mut schedule, secs, 14 * DAY) {
        assert!(then <= ends, "none in force from {ends} to {then}");
        schedule.issued(&name("a.example"), life(then, DAY), at(then), 0.0);
        (secs, ends) = (then + 1, then + DAY);
    }
    assert!(ends >= 14 * DAY, "{ends}");
}

#[test]
fn names_of_one_domain_come_forty_a_week_and_those_of_others_are_not_held_up() {
    let names: Vec<String> = (0..60).map(|n| format!("a{n}.example.co.uk")).collect();
    let mut all: Vec<&str> = names.iter().map(String::as_str).collect();
    all.extend(["www.other.co.uk", "other.org"]);
    let mut schedule = wanting(&all);
    let mut secs = 0;
    let mut given = Vec::new();
    while let Some((then, asked)) = next_order(&mut schedule, secs, 6 * DAY) {
        schedule.issued(&name(&asked), life(then, 90 * DAY), at(then), 0.0);
        given.push(asked);
        secs = then;
    }
    let of_one = given
        .iter()
        .filter(|n| n.ends_with(".example.co.uk"))
        .count();
    assert_eq!((of_one, given.len()), (40, 42));
    // They count from the day of each, and renewals do not.
    let more = next_order(&mut schedule, 7 * DAY + 3600, 9 * DAY);
    assert!(more.is_some_and(|(_, n)| n.ends_with(".example.co.uk")));
}

#[test]
fn no_more_than_ninety_orders_an_hour_even_when_all_fail() {
    let names: Vec<String> = (0..300).map(|n| format!("a{n}.example")).collect();
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut schedule = wanting(&all);
    let (mut secs, mut begun) = (0, Vec::new());
    while let Some((then, asked)) = next_order(&mut schedule, secs, 3 * 3600) {
        begun.push(then);
        schedule.failed(&name(&asked), String::new(), None, at(then), 0.5);
        secs = then;
    }
    for from in (0..3 * 3600).step_by(60) {
        let within = begun
            .iter()
            .filter(|then| (from..from + 3600).contains(*then));
        assert!(within.count() <= 90);
    }
    assert_eq!(begun.len(), 270);
    // Nor after a restart.
    let mut again = Schedule::new(schedule.past().clone());
    again
        .want(&name("new.example"), Who::Operator, at(secs))
        .expect("room");
    while again.unread().is_some() {}
    assert!(matches!(again.next(at(secs)), Step::Wait(_)));
}

#[test]
fn a_thousand_names_and_no_more() {
    let mut schedule = Schedule::new(Past::default());
    for n in 0..ACME_NAMES_MAX {
        let name = name(&format!("a{n}.example"));
        schedule.want(&name, Who::Site, at(0)).expect("room");
    }
    let one = name("one-more.example");
    assert_eq!(schedule.want(&one, Who::Operator, at(0)), Err(TooMany));
    assert_eq!(
        schedule.want(&name("a7.example"), Who::Operator, at(0)),
        Ok(())
    );
    assert!(
        !schedule.unwant(&name("a7.example"), Who::Site),
        "the operator wants it"
    );
    assert!(schedule.unwant(&name("a8.example"), Who::Site));
    assert_eq!(schedule.want(&one, Who::Site, at(0)), Ok(()));
}

#[test]
fn the_authority_says_when_but_talks_nobody_into_letting_one_end() {
    let a = name("a.example");
    let renews = |window: Option<(u64, u64)>, chance: f64| {
        let mut schedule = wanting(&["a.example"]);
        schedule.found(&a, life(0, 90 * DAY), 0.0);
        assert_eq!(schedule.next(at(0)), Step::Ask(a.clone()));
        // One at a time.
        assert!(matches!(schedule.next(at(0)), Step::Wait(_)));
        schedule.news(&a, window, at(0), chance);
        schedule.names[&a].renew.saturating_sub(START) / DAY
    };
    let days = |from: u64, until: u64| Some((START + from * DAY, START + until * DAY));
    assert_eq!(renews(None, 0.5), 60);
    assert_eq!(renews(days(20, 30), 0.5), 25);
    assert_eq!(renews(days(20, 30), 0.0), 20);
    assert_eq!(renews(Some((0, 1)), 0.5), 0, "at once");
    assert_eq!(renews(days(200, 300), 0.5), 81);
    assert_eq!(renews(Some((u64::MAX, u64::MAX)), 1.0), 81);
    assert_eq!(renews(days(30, 20), 0.5), 30);
    // One that cannot be asked is asked again, one that does not say such things a day later.
    let mut schedule = wanting(&["a.example"]);
    schedule.found(&a, life(0, 90 * DAY), 0.0);
    assert_eq!(schedule.next(at(0)), Step::Ask(a.clone()));
    schedule.no_news(&a, at(0));
    assert!(matches!(schedule.next(at(6 * 3600 - 1)), Step::Wait(_)));
    assert_eq!(schedule.next(at(6 * 3600)), Step::Ask(a.clone()));
    schedule.news(&a, None, at(6 * 3600), 0.5);
    assert!(matches!(schedule.next(at(29 * 3600)), Step::Wait(_)));
    assert_eq!(schedule.next(at(30 * 3600)), Step::Ask(a));
}

#[test]
fn the_one_before_is_named_once_and_not_after_a_failure() {
    let mut schedule = wanting(&["a.example"]);
    let a = name("a.example");
    schedule.found(&a, life(0, 90 * DAY), 0.0);
    let then = at(60 * DAY);
    schedule.news(&a, None, then, 0.5);
    let order = |replaces| Step::Order {
        name: name("a.example"),
        replaces,
    };
    assert_eq!(schedule.next(then), order(true));
    schedule.failed(&a, String::new(), None, then, 0.0);
    assert_eq!(schedule.next(at(60 * DAY + 60)), order(false));
}

#[test]
fn a_clock_that_is_set_back_holds_nothing_up() {
    let mut past = Past::default();
    for n in 0..200 {
        let record = past.record(&name(&format!("a{n}.example")));
        record.tried = START + 30 * DAY;
        record.first = START + 30 * DAY;
        record.issued = vec![START + 30 * DAY; 4];
    }
    let mut schedule = Schedule::new(past);
    schedule
        .want(&name("a7.example"), Who::Operator, at(0))
        .expect("room");
    assert!(schedule.unread().is_some());
    assert!(matches!(schedule.next(at(0)), Step::Order { .. }));
}

#[test]
fn names_of_sites_leave_room_for_the_operators_own() {
    let mut schedule = wanting(&["own.example"]);
    schedule.found(&name("own.example"), life(0, 90 * DAY), 0.0);
    let now = 61 * DAY;
    for n in 0..200 {
        let site = name(&format!("h{n}.s{n}.example"));
        schedule.want(&site, Who::Site, at(now)).expect("room");
    }
    while schedule.unread().is_some() {}
    assert_eq!(ordered(&mut schedule, now).as_deref(), Some("own.example"));
    schedule.failed(&name("own.example"), "down".into(), None, at(now), 0.0);
    let mut sites = 0;
    while let Some(one) = ordered(&mut schedule, now) {
        schedule.failed(&name(&one), "not here".into(), None, at(now), 0.0);
        sites += 1;
    }
    assert_eq!(sites, ORDERS_AN_HOUR - ORDERS_KEPT - 1);
    let again = ordered(&mut schedule, now + 120);
    assert_eq!(again.as_deref(), Some("own.example"));
}
