//! Pieces that may be asked for while we are choked (BEP 6).

use super::*;

#[test]
fn what_the_peer_allows_may_be_asked_for_while_it_chokes_us_and_nothing_else() {
    let mut table = Table::open(everything());
    table.say(Message::AllowedFast(3));
    table.say(Message::AllowedFast(3));
    let piece = geometry().piece(3).unwrap();
    assert_eq!(table.events(), [SessionEvent::AllowedFast(piece)]);
    table.command(Command::Request(block(3, 1)));
    table.command(Command::Request(block(4, 1)));
    assert_eq!(table.sent(), [Message::Request(raw(block(3, 1)))]);
    assert_eq!(table.events(), [SessionEvent::Rejected(block(4, 1))]);
    table.say(Message::AllowedFast(10));
    assert_eq!(table.misbehaviour(), Some(Misbehaviour::NoSuchPiece(10)));
}

#[test]
fn a_peer_that_allows_many_pieces_is_believed_for_some() {
    let mut table = Table::greeted(everything());
    table.command(Command::SetGeometry(
        Geometry::new(32_768, 100 * 32_768).unwrap(),
    ));
    table.events();
    (0..100).for_each(|index| table.say(Message::AllowedFast(index)));
    assert_eq!(table.events().len(), limits::ALLOWED_FAST_MAX);
    assert_eq!(table.closed(), None);
}
