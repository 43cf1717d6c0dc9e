//! Peers told of at any rate (BEP 11).

use super::*;
use crate::wire::{PexMessage, PexPeer};

fn table() -> Table {
    let mut table = Table::open(everything());
    table.session.config.pex = true;
    table
}

fn message(n: u32) -> Message {
    let peer = PexPeer {
        addr: (n.to_be_bytes(), 1).into(),
        flags: Default::default(),
    };
    let message = PexMessage {
        added: vec![peer; 50],
        dropped: Vec::new(),
    };
    Message::Extended {
        id: UT_PEX_ID,
        payload: message.encode().into(),
    }
}

/// Dictionaries that can't be read: to find that out is to read them.
fn rubbish() -> Message {
    Message::Extended {
        id: UT_PEX_ID,
        payload: Bytes::from_static(b"d5:addedi1ee"),
    }
}

#[test]
fn one_message_a_minute_is_read_for_ever() {
    let mut table = table();
    for minute in 0..60 {
        table.say(message(1 + minute));
        let told = table.events();
        assert!(matches!(told[..], [SessionEvent::Pex(_)]), "{told:?}");
        // A minute by a clock that runs two seconds fast; the connection is kept alive.
        table.wait(Duration::from_secs(58));
        table.say(Message::KeepAlive);
    }
    assert_eq!(table.closed(), None);
}

#[test]
fn t21_messages_faster_than_two_a_minute_are_not_read_and_a_flood_ends_the_connection() {
    let mut table = table();
    table.say(message(1));
    table.say(message(2));
    assert_eq!(table.events().len(), 2);
    for _ in 2..limits::PEX_FLOOD_PER_MINUTE {
        table.say(rubbish());
    }
    assert_eq!(table.closed(), None, "not read, so not known for rubbish");
    assert_eq!(table.events(), []);
    table.say(message(3));
    assert_eq!(table.misbehaviour(), Some(Misbehaviour::Flood));
    let told = table.events();
    assert!(matches!(told[..], [SessionEvent::Closed(_)]), "{told:?}");
}

#[test]
fn t21_of_a_million_messages_at_once_two_are_read() {
    let mut table = table();
    let mut bytes = BytesMut::new();
    message(1).encode(&mut bytes);
    let mut read = 0;
    for _ in 0..1000 {
        table.session.handle_bytes(table.now, &bytes.repeat(1000));
        let events = table.events();
        read += events
            .iter()
            .filter(|event| matches!(event, SessionEvent::Pex(_)))
            .count();
    }
    assert_eq!(read, 2);
    assert_eq!(table.misbehaviour(), Some(Misbehaviour::Flood));
}
