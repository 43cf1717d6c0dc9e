//! Nodes of the DHT told to each other (BEP 5).

use super::*;

/// An open connection to a peer with these bits; ours is `dht`.
fn table(dht: bool, reserved: ReservedBits) -> (Table, ReservedBits) {
    let now = Instant::now();
    let mut config = SessionConfig::new(PeerId::new([8; 20]), vec![V1], false);
    config.dht = dht;
    let mut session = PeerSession::new(config, now);
    let peer = Handshake {
        reserved,
        swarm_id: V1,
        peer_id: PeerId::new([9; 20]),
    };
    session.handle_bytes(now, &peer.encode());
    let mut out = BytesMut::new();
    session.poll_transmit(&mut out);
    let ours = Handshake::decode(&out).unwrap().unwrap().reserved;
    let mut table = Table {
        session,
        now,
        reader: FrameDecoder::new(),
    };
    table.events();
    (table, ours)
}

#[test]
fn nodes_are_told_where_both_sides_have_one_and_nowhere_else() {
    for ours in [false, true] {
        for theirs in [ReservedBits::OURS, ReservedBits::OURS.with_dht()] {
            let (mut table, said) = table(ours, theirs);
            assert_eq!(said.dht(), ours);
            let both = ours && theirs.dht();
            table.command(Command::DhtPort(6881));
            let told = table.sent().contains(&Message::Port(6881));
            assert_eq!(told, both, "{ours} {theirs:?}");
            table.say(Message::Port(7000));
            table.say(Message::Port(0));
            let expected: &[_] = match both {
                true => &[SessionEvent::DhtPort(7000)],
                false => &[],
            };
            assert_eq!(table.events(), expected, "{ours} {theirs:?}");
        }
    }
}

#[test]
fn a_flood_of_nodes_ends_the_connection() {
    let (mut table, _) = table(true, ReservedBits::OURS.with_dht());
    for n in 0..=limits::USELESS_MESSAGES_MAX {
        assert_eq!(table.closed(), None, "{n}");
        table.say(Message::Port(7000));
    }
    assert_eq!(table.misbehaviour(), Some(Misbehaviour::Flood));
}
