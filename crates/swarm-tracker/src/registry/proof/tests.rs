use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use swarm_proto::manifest::SecretKey;

use super::*;

fn at(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn key(n: u8) -> SecretKey {
    SecretKey::new([n; 32])
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// Doors with what they need to be asked.
struct Street {
    doors: Doors,
    config: VolunteerConfig,
    rng: SmallRng,
    nonces: u8,
}

impl Street {
    fn new() -> Self {
        Self {
            doors: Doors::default(),
            config: VolunteerConfig::default(),
            rng: SmallRng::seed_from_u64(4),
            nonces: 0,
        }
    }

    fn claim(&mut self, secs: u64, address: SocketAddr, key: &SecretKey) -> Claim {
        let tracker = SiteName::parse("tracker.example").expect("a host");
        let (now, key) = (at(secs), key.public());
        self.doors.claim(now, &self.config, address, key, &tracker)
    }

    fn next(&mut self, secs: u64) -> Option<ProofRequest> {
        self.nonces = self.nonces.wrapping_add(1);
        let nonce = [self.nonces; 32];
        self.doors.next(at(secs), &self.config, nonce)
    }

    /// How many keys are proven, and how many are not.
    fn finish(&mut self, secs: u64, request: &ProofRequest, answer: Answer) -> (usize, usize) {
        let (now, rng) = (at(secs), &mut self.rng);
        let (proven, unproven) = self.doors.finish(now, &self.config, request, answer, rng);
        (proven.len(), unproven.len())
    }

    /// Answers the next call with `key`.
    fn answer(&mut self, secs: u64, key: &SecretKey) -> (usize, usize) {
        let request = self.next(secs).expect("a call is due");
        let proof = request.sign(key);
        self.finish(secs, &request, Ok(proof))
    }
}

const HERE: &str = "192.0.2.1:8080";

#[test]
fn t15_only_an_answer_signed_with_the_key_of_the_announce_proves() {
    let mut street = Street::new();
    for (n, forger) in [(1, key(2)), (3, key(4))] {
        let door = address(&format!("192.0.2.{n}:8080"));
        assert_eq!(street.claim(0, door, &key(n)), Claim::Waiting);
        assert_eq!(street.answer(0, &forger), (0, 1));
    }
    let door = address("192.0.2.5:8080");
    street.claim(0, door, &key(5));
    let request = street.next(0).expect("due");
    let mut proof = request.sign(&key(5));
    proof[7] ^= 1;
    assert_eq!(street.finish(0, &request, Ok(proof)), (0, 1));
    assert_eq!(street.claim(10, address(HERE), &key(1)), Claim::Waiting);
    for secs in [40, 120, 300] {
        street.claim(secs, address(HERE), &key(1));
    }
    assert_eq!(street.answer(300, &key(1)), (1, 0));
    assert_eq!(street.claim(301, address(HERE), &key(1)), Claim::Proven);
}

#[test]
fn t15_an_answer_given_before_is_no_answer_to_another_call() {
    let mut street = Street::new();
    let door = address(HERE);
    street.claim(0, door, &key(1));
    let first = street.next(0).expect("due");
    let proof = first.sign(&key(1));
    assert_eq!(street.finish(0, &first, Ok(proof)), (1, 0));
    // The same once more, without a call.
    assert_eq!(street.finish(1, &first, Ok(proof)), (0, 0));
    // And as the answer to the next.
    let second = street.next(800).expect("renewed");
    assert_ne!(first, second);
    assert_eq!(street.finish(800, &second, Ok(proof)), (0, 1));
    assert_eq!(street.claim(810, door, &key(1)), Claim::Waiting);
}

#[test]
fn t15_a_proof_at_one_address_proves_nothing_at_another() {
    let mut street = Street::new();
    street.claim(0, address(HERE), &key(1));
    assert_eq!(street.answer(0, &key(1)), (1, 0));
    for other in ["192.0.2.1:8081", "192.0.2.2:8080", "[2001:db8::1]:8080"] {
        assert_eq!(street.claim(1, address(other), &key(1)), Claim::Waiting);
    }
    assert_eq!(
        street.claim(1, address(HERE), &key(2)),
        Claim::Waiting,
        "nor for another key"
    );
}

#[test]
fn t14_an_address_named_by_others_is_called_once_and_then_ever_more_seldom() {
    let mut street = Street::new();
    let (victim, mut calls) = (address(HERE), Vec::new());
    for secs in 0..7200 {
        // A new key each time; with or without having gone away in between.
        let junk = key((secs % 200) as u8);
        street.claim(secs, victim, &junk);
        if let Some(request) = street.next(secs) {
            assert_eq!(request.bridge, victim);
            calls.push(secs);
            let no = match secs % 2 {
                0 => NoAnswer::Refused,
                _ => NoAnswer::TimedOut,
            };
            street.finish(secs, &request, Err(no));
        }
        if secs % 3 == 0 {
            street.doors.release(victim, &junk.public(), None);
            street.doors.sweep(at(secs), &street.config);
        }
    }
    let gaps: Vec<u64> = calls.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.iter().all(|gap| *gap >= 30), "{calls:?}");
    assert!((10..=20).contains(&calls.len()), "{calls:?}");
}

#[test]
fn t14_one_place_causes_only_so_many_calls() {
    let mut street = Street::new();
    let mut called = 0;
    for secs in 0..60 {
        for n in 0..50_u16 {
            let port = 1000 + secs as u16 * 50 + n;
            street.claim(secs, SocketAddr::from(([192, 0, 2, 1], port)), &key(1));
        }
        while let Some(request) = street.next(secs) {
            called += 1;
            street.finish(secs, &request, Err(NoAnswer::Refused));
        }
    }
    assert!((16..=29).contains(&called), "{called}");
    // Another place is not affected.
    assert_eq!(
        street.claim(60, address("192.0.2.2:80"), &key(1)),
        Claim::Waiting
    );
    street.doors.sweep(at(3000), &street.config);
    assert_eq!(street.doors.doors.len(), 1);
}

#[test]
fn only_so_many_calls_are_under_way() {
    let mut street = Street::new();
    street.config.calls_max = 3;
    for n in 1..=5 {
        street.claim(0, address(&format!("192.0.2.{n}:80")), &key(n));
    }
    let calls: Vec<ProofRequest> = std::iter::from_fn(|| street.next(0)).collect();
    assert_eq!(calls.len(), 3);
    street.finish(1, &calls[0], Err(NoAnswer::TimedOut));
    assert!(street.next(1).is_some());
    assert!(street.next(1).is_none());
}

#[test]
fn whoever_names_a_bridges_port_first_does_not_keep_it_out() {
    let mut street = Street::new();
    let door = address(HERE);
    for n in 10..30 {
        street.claim(0, door, &key(n));
    }
    // The bridge itself was called, and has answered, before it announced.
    assert_eq!(street.answer(0, &key(1)), (0, CLAIMS_PER_DOOR_MAX));
    assert_eq!(street.claim(3, door, &key(1)), Claim::Proven);
    // Nor does anybody push it out afterwards.
    for n in 10..30 {
        street.claim(40, door, &key(n));
    }
    assert_eq!(street.claim(41, door, &key(1)), Claim::Proven);
    let (proven, _) = street.answer(41, &key(1));
    assert_eq!(proven, 1);
}

#[test]
fn a_bridge_that_starts_anew_is_called_at_once() {
    let mut street = Street::new();
    let door = address(HERE);
    street.claim(0, door, &key(1));
    assert_eq!(street.answer(0, &key(1)), (1, 0));
    assert!(street.next(200).is_none(), "the proof holds");
    assert_eq!(street.claim(200, door, &key(2)), Claim::Waiting);
    assert_eq!(
        street.answer(200, &key(2)),
        (1, 1),
        "and the old key is gone"
    );
    assert_eq!(street.claim(201, door, &key(2)), Claim::Proven);
}

#[test]
fn proofs_are_renewed_and_one_time_out_takes_none_away() {
    let mut street = Street::new();
    let door = address(HERE);
    street.claim(0, door, &key(1));
    street.answer(0, &key(1));
    let due = (0..2000).find(|secs| {
        street
            .doors
            .due
            .first()
            .is_some_and(|(t, _)| *t <= at(*secs))
    });
    let due = due.expect("renewed");
    assert!((450..=750).contains(&due), "{due}");
    let request = street.next(due).expect("due");
    let lost = Err(NoAnswer::TimedOut);
    assert_eq!(street.finish(due, &request, lost), (1, 0));
    assert!(street.next(due + 29).is_none());
    let request = street.next(due + 31).expect("again");
    assert_eq!(street.finish(due + 31, &request, lost), (0, 1));
    // Answered meanwhile it counts anew; a refusal is believed at once.
    let mut street = Street::new();
    street.claim(0, door, &key(1));
    street.answer(0, &key(1));
    let request = street.next(800).expect("due");
    street.finish(800, &request, lost);
    assert_eq!(street.answer(840, &key(1)), (1, 0));
    let request = street.next(1640).expect("due");
    assert_eq!(street.finish(1640, &request, lost), (1, 0));
    let request = street.next(1680).expect("due");
    assert_eq!(
        street.finish(1680, &request, Err(NoAnswer::Refused)),
        (0, 1)
    );
}

#[test]
fn who_is_distrusted_proves_itself_again_and_later_each_time() {
    let mut street = Street::new();
    let door = address(HERE);
    street.claim(0, door, &key(1));
    street.answer(0, &key(1));
    let mut now = 0;
    for least in [30, 60, 120, 240, 480, 600, 600] {
        let rng = &mut street.rng;
        street.doors.distrust(at(now), &street.config, door, rng);
        assert_ne!(street.claim(now, door, &key(1)), Claim::Proven);
        let again = (now..).find(|secs| {
            street
                .doors
                .due
                .first()
                .is_some_and(|(t, _)| *t <= at(*secs))
        });
        let again = again.expect("called again");
        assert!(
            (least..=least + least / 8 + 1).contains(&(again - now)),
            "{least} {again} {now}"
        );
        assert_eq!(street.answer(again, &key(1)), (1, 0));
        now = again;
    }
    street.doors.trust(door);
    street
        .doors
        .distrust(at(now), &street.config, door, &mut street.rng);
    assert!(street.next(now + 35).is_some());
}

#[test]
fn doors_that_nobody_claims_are_forgotten() {
    let mut street = Street::new();
    for n in 1..=100 {
        street.claim(0, address(&format!("192.0.2.{n}:80")), &key(n));
    }
    while let Some(request) = street.next(0) {
        let n = request.bridge.to_string();
        let answered = n.contains('7');
        let proof = answered.then(|| request.sign(&key(7)));
        street.finish(0, &request, proof.ok_or(NoAnswer::Refused));
    }
    for n in 1..=100 {
        let door = address(&format!("192.0.2.{n}:80"));
        street.doors.release(door, &key(n).public(), None);
    }
    street.doors.sweep(at(20), &street.config);
    assert_eq!(street.doors.doors.len(), 100, "not called again so soon");
    street.doors.sweep(at(200), &street.config);
    assert!(street.doors.is_empty());
}
