use super::*;

const RELAY: ConnectionId = ConnectionId(9);

fn conn(n: u64) -> ConnectionId {
    ConnectionId(n)
}

fn addr(n: u64) -> SocketAddr {
    SocketAddr::from(([198, 51, 100, n as u8], 6881))
}

fn speaks(port: Option<u16>) -> ExtendedHandshake {
    ExtendedHandshake {
        ut_holepunch: Some(7),
        listen_port: port,
        ..ExtendedHandshake::default()
    }
}

/// Peers 1 to `count`, each at its own address, all speaking ut_holepunch.
fn table(count: u64) -> Punches {
    let mut punches = Punches::default();
    for n in 1..=count {
        punches.joined(conn(n), addr(n), true);
        punches.said(conn(n), &speaks(None));
    }
    punches
}

fn refusals(outcome: &[Outcome]) -> Vec<HolepunchRefusal> {
    let of = |outcome: &Outcome| match outcome {
        Outcome::Say(_, message) => match message.kind {
            HolepunchKind::Error(refusal) => Some(refusal),
            _ => None,
        },
        Outcome::Call(_) => None,
    };
    outcome.iter().filter_map(of).collect()
}

#[test]
fn a_relay_introduces_two_that_are_connected_and_both_speak_it() {
    let mut punches = table(2);
    let now = Instant::now();
    let told = punches.heard(now, conn(1), HolepunchMessage::rendezvous(addr(2)));
    assert_eq!(
        told,
        [
            Outcome::Say(conn(2), HolepunchMessage::connect(addr(1))),
            Outcome::Say(conn(1), HolepunchMessage::connect(addr(2))),
        ]
    );
}

#[test]
fn t25_a_relay_sends_nothing_to_strangers_and_says_why() {
    let mut punches = table(2);
    punches.joined(conn(3), addr(3), true);
    let now = Instant::now();
    for (to, refusal) in [
        (addr(77), HolepunchRefusal::NotConnected),
        (addr(3), HolepunchRefusal::NoSupport),
        (addr(1), HolepunchRefusal::NoSelf),
        (
            "198.51.100.2:53".parse().unwrap(),
            HolepunchRefusal::NoSuchPeer,
        ),
        (
            "0.0.0.0:6881".parse().unwrap(),
            HolepunchRefusal::NoSuchPeer,
        ),
        (
            "[ff02::1]:6881".parse().unwrap(),
            HolepunchRefusal::NoSuchPeer,
        ),
    ] {
        let told = punches.heard(now, conn(1), HolepunchMessage::rendezvous(to));
        assert_eq!(
            told,
            [Outcome::Say(conn(1), HolepunchMessage::error(to, refusal))]
        );
    }
    // Who does not speak it is not even answered, nor who left, nor who never came.
    punches.left(conn(2));
    for who in [2, 3, 4] {
        assert_eq!(
            punches.heard(now, conn(who), HolepunchMessage::rendezvous(addr(1))),
            []
        );
    }
    let told = punches.heard(now, conn(1), HolepunchMessage::rendezvous(addr(2)));
    assert_eq!(refusals(&told), [HolepunchRefusal::NotConnected]);
}

#[test]
fn t25_a_relay_gets_tired_of_who_asks_too_much() {
    let mut punches = table(2);
    let mut now = Instant::now();
    let mut ask = |now| {
        let told = punches.heard(now, conn(1), HolepunchMessage::rendezvous(addr(2)));
        told.len()
    };
    let told: usize = (0..1000).map(|_| ask(now)).sum();
    assert_eq!(told, 2 * limits::INTRODUCTIONS_PER_MINUTE_MAX as usize);
    now += WINDOW;
    assert_eq!(ask(now), 2);
}

#[test]
fn who_cannot_be_reached_is_asked_for_at_one_relay_after_another() {
    let mut punches = table(5);
    let now = Instant::now();
    let ask = |n| Outcome::Say(conn(n), HolepunchMessage::rendezvous(addr(50)));
    assert_eq!(punches.unreachable(now, addr(50)), Some(ask(1)));
    assert_eq!(punches.unreachable(now, addr(50)), None, "asked already");
    let refused = HolepunchMessage::error(addr(50), HolepunchRefusal::NotConnected);
    assert_eq!(punches.heard(now, conn(5), refused), [], "was not asked");
    assert_eq!(punches.heard(now, conn(1), refused), [ask(2)]);
    assert_eq!(punches.heard(now, conn(2), refused), [ask(3)]);
    assert_eq!(punches.heard(now, conn(3), refused), []);
    let later = now + ASK_AGAIN_AFTER;
    assert_eq!(punches.unreachable(later, addr(50)), Some(ask(1)));
    let introduced = punches.heard(later, conn(1), HolepunchMessage::connect(addr(50)));
    assert_eq!(introduced, [Outcome::Call(addr(50))]);
    for n in 0..1000_u32 {
        let ip = std::net::Ipv4Addr::from(0x0a00_0000 + n);
        punches.unreachable(later, SocketAddr::from((ip, 6881)));
    }
    assert_eq!(punches.wanted.len(), limits::PUNCHES_MAX);
}

#[test]
fn t25_whoever_is_introduced_without_having_asked_makes_few_calls() {
    let mut punches = table(1);
    punches.joined(conn(2), addr(2), true);
    let now = Instant::now();
    let mut calls = |from: u64, to: SocketAddr| {
        punches
            .heard(now, conn(from), HolepunchMessage::connect(to))
            .len()
    };
    // Nobody's address, a service, one that is connected already, and a peer that never agreed.
    assert_eq!(calls(1, "198.51.100.7:443".parse().unwrap()), 0);
    assert_eq!(calls(1, "224.0.0.1:6881".parse().unwrap()), 0);
    assert_eq!(calls(1, addr(2)), 0);
    assert_eq!(calls(2, addr(60)), 0);
    let sum: usize = (10..250).map(|n| calls(1, addr(n))).sum();
    assert_eq!(sum, limits::UNASKED_PUNCHES_PER_MINUTE_MAX as usize);
    // What we asked for is not counted among them, and an introduction is good for one call.
    assert!(punches.unreachable(now, addr(5)).is_some());
    let connect = HolepunchMessage::connect(addr(5));
    assert_eq!(
        punches.heard(now, conn(1), connect),
        [Outcome::Call(addr(5))]
    );
    assert_eq!(punches.heard(now, conn(1), connect), []);
}

#[test]
fn a_peer_is_found_where_it_listens_and_by_utp_where_it_is() {
    let mut punches = table(1);
    let ephemeral: SocketAddr = "198.51.100.9:50000".parse().unwrap();
    punches.joined(RELAY, ephemeral, false);
    punches.said(RELAY, &speaks(Some(7001)));
    let now = Instant::now();
    let told = punches.heard(now, RELAY, HolepunchMessage::rendezvous(addr(1)));
    let contact: SocketAddr = "198.51.100.9:7001".parse().unwrap();
    assert_eq!(
        told[0],
        Outcome::Say(conn(1), HolepunchMessage::connect(contact))
    );
    punches.sides.get_mut(&RELAY).unwrap().by_utp = true;
    let told = punches.heard(now, RELAY, HolepunchMessage::rendezvous(addr(1)));
    assert_eq!(
        told[0],
        Outcome::Say(conn(1), HolepunchMessage::connect(ephemeral))
    );
}
