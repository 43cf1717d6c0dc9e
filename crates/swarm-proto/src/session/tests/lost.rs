//! Pieces that are lost again (BEP 54), and what is said of wanting nothing (BEP 21).

use super::*;
use crate::wire::DontHave;
use crate::wire::extended::UT_METADATA_ID;
use crate::wire::lt_donthave::LT_DONTHAVE_ID;

/// What a peer that speaks lt_donthave as number 9 says of itself.
fn speaks() -> Message {
    let said = ExtendedHandshake {
        lt_donthave: Some(9),
        ..ExtendedHandshake::default()
    };
    let payload = said.encode().into();
    Message::Extended { id: 0, payload }
}

fn lost(id: u8, piece: u32) -> Message {
    let payload = DontHave { piece }.encode().to_vec().into();
    Message::Extended { id, payload }
}

fn piece(index: u32) -> crate::geometry::PieceIndex {
    geometry().piece(index).unwrap()
}

#[test]
fn a_piece_that_the_peer_lost_is_told_of_once_and_may_come_back() {
    let mut table = Table::open(everything());
    table.say(Message::HaveAll);
    table.say(lost(LT_DONTHAVE_ID, 3));
    table.say(lost(LT_DONTHAVE_ID, 3));
    table.say(Message::Have(3));
    let expected = [
        SessionEvent::PeerHas(PieceSet::All),
        SessionEvent::PeerLacks(piece(3)),
        SessionEvent::PeerHas(PieceSet::One(piece(3))),
    ];
    assert_eq!(table.events(), expected);
    assert_eq!(table.closed(), None);
}

/// BEP 10: what a further handshake doesn't name stays agreed upon.
#[test]
fn a_handshake_that_only_says_upload_only_takes_no_extension_back() {
    let mut table = Table::open(everything());
    table.say(speaks());
    let payload = Bytes::from_static(b"d11:upload_onlyi1ee");
    table.say(Message::Extended { id: 0, payload });
    table.events();
    table.command(Command::DontHave(piece(3)));
    assert_eq!(table.sent(), [lost(9, 3)]);
}

#[test]
fn a_piece_lost_before_the_size_is_known_is_not_had_when_it_is() {
    for early in [true, false] {
        let mut table = Table::greeted(everything());
        table.events();
        match early {
            true => [1, 3, 5].map(|index| table.say(Message::Have(index))),
            false => [(); 3].map(|()| table.say(Message::HaveAll)),
        };
        table.say(lost(LT_DONTHAVE_ID, 3));
        table.say(lost(LT_DONTHAVE_ID, 5));
        table.say(Message::Have(5));
        table.command(Command::SetGeometry(geometry()));
        let had = match &table.events()[..] {
            [SessionEvent::PeerHas(PieceSet::Bits(bits))] => bits.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!((had.bit(3), had.bit(5)), (false, true));
        assert_eq!(had.count(), if early { 2 } else { 9 });
    }
}

#[test]
fn lost_pieces_that_make_no_sense_end_the_connection() {
    let short = Bytes::from_static(&[0, 0, 1]);
    let cases = [
        (
            Message::Extended {
                id: LT_DONTHAVE_ID,
                payload: short,
            },
            "DontHave(Length(3))",
        ),
        (lost(LT_DONTHAVE_ID, 10), "NoSuchPiece(10)"),
        (lost(LT_DONTHAVE_ID, u32::MAX), "NoSuchPiece(4294967295)"),
    ];
    for (message, expected) in cases {
        let mut table = Table::open(everything());
        table.say(message);
        assert_eq!(format!("{:?}", table.misbehaviour().unwrap()), expected);
    }
    let mut table = Table::greeted(everything());
    table.say(lost(LT_DONTHAVE_ID, u32::MAX));
    assert_eq!(table.misbehaviour(), Some(Misbehaviour::TooManyPieces));
    // By turns, for ever.
    let mut table = Table::open(everything());
    for _ in 0..=limits::USELESS_MESSAGES_MAX {
        table.say(Message::Have(3));
        table.say(lost(LT_DONTHAVE_ID, 3));
    }
    assert_eq!(table.misbehaviour(), Some(Misbehaviour::Flood));
}

#[test]
fn peers_that_understand_it_are_told_what_we_lost() {
    let mut table = Table::open(everything());
    table.command(Command::DontHave(piece(2)));
    assert_eq!(table.sent(), [], "it does not speak lt_donthave");
    table.say(speaks());
    table.command(Command::DontHave(piece(2)));
    assert_eq!(table.sent(), [lost(9, 2)]);
    // What it was not told of it need not unlearn.
    table.command(Command::Have(piece(2)));
    table.command(Command::DontHave(piece(2)));
    assert_eq!(table.sent(), []);
    let mut table = Table::greeted(everything());
    table.sent();
    table.say(speaks());
    table.command(Command::DontHave(piece(2)));
    assert_eq!(table.sent(), []);
}

/// What was said of wanting nothing, with a number that each handshake has to repeat.
fn said_of_wants(table: &mut Table) -> Vec<(bool, Option<u8>)> {
    let sent = table.sent().into_iter();
    let said = sent.map(|message| match message {
        Message::Extended { id: 0, payload } => ExtendedHandshake::decode(&payload).unwrap(),
        other => panic!("{other:?}"),
    });
    said.map(|said| (said.upload_only, said.ut_metadata))
        .collect()
}

/// rqbit 9.1 asks for the metadata once for each extended handshake, and fails on a second one.
#[test]
fn who_wants_nothing_says_so_in_its_only_extended_handshake() {
    let mut config = SessionConfig::new(PeerId::new([8; 20]), vec![V1, V2], true);
    config.upload_only = true;
    config.metadata_size = Some(1000);
    let mut table = Table::greeted_by(config, everything());
    table.command(Command::SetMetadataSize(1000));
    table.command(Command::UploadOnly(true));
    let number = Some(UT_METADATA_ID);
    assert_eq!(said_of_wants(&mut table), [(true, number)]);
    table.command(Command::UploadOnly(false));
    assert_eq!(said_of_wants(&mut table), [(false, number)]);
}

#[test]
fn wanting_nothing_is_said_when_it_changes() {
    let mut table = Table::open(everything());
    let said = said_of_wants;
    let number = Some(UT_METADATA_ID);
    table.command(Command::UploadOnly(true));
    assert_eq!(said(&mut table), [(true, number)]);
    table.command(Command::UploadOnly(true));
    assert_eq!(said(&mut table), []);
    table.command(Command::UploadOnly(false));
    assert_eq!(said(&mut table), [(false, number)]);
}
