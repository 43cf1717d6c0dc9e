use bytes::BytesMut;

use super::*;
use crate::geometry::BlockRange;
use crate::id::{PeerId, SwarmId};
use crate::wire::{RawBlock, RawRequest};

mod allowed;
mod bad;
mod dht;
mod lost;
mod pex;

const V1: SwarmId = SwarmId::new([1; 20]);
const V2: SwarmId = SwarmId::new([2; 20]);

fn geometry() -> Geometry {
    Geometry::new(32_768, 10 * 32_768).unwrap()
}

fn block(index: u32, n: u32) -> BlockRange {
    geometry().block(index, n * 16_384, 16_384).unwrap()
}

fn raw(range: BlockRange) -> RawRequest {
    RawRequest {
        index: range.piece().get(),
        begin: range.begin(),
        len: range.len(),
    }
}

/// A session and a peer that is played by hand.
struct Table {
    session: PeerSession,
    now: Instant,
    reader: FrameDecoder,
}

impl Table {
    /// An open connection; the torrent is a hybrid of known size and we have everything.
    fn open(reserved: ReservedBits) -> Self {
        let mut table = Self::greeted(reserved);
        table.command(Command::SetGeometry(geometry()));
        table.command(Command::Bitfield(Bitfield::all(10)));
        table.events();
        table.sent();
        table
    }

    /// Handshakes are through, and nothing else is known.
    fn greeted(reserved: ReservedBits) -> Self {
        let config = SessionConfig::new(PeerId::new([8; 20]), vec![V1, V2], true);
        Self::greeted_by(config, reserved)
    }

    /// The same, with such a session.
    fn greeted_by(config: SessionConfig, reserved: ReservedBits) -> Self {
        let now = Instant::now();
        let session = PeerSession::new(config, now);
        let mut table = Self {
            session,
            now,
            reader: FrameDecoder::new(),
        };
        let peer = Handshake {
            reserved,
            swarm_id: V1,
            peer_id: PeerId::new([9; 20]),
        };
        table.session.handle_bytes(now, &peer.encode());
        let mut out = BytesMut::new();
        table.session.poll_transmit(&mut out);
        assert!(Handshake::decode(&out).unwrap().is_some());
        let rest = out.split_off(HANDSHAKE_LEN);
        table.reader.buffer().extend_from_slice(&rest);
        table
    }

    fn command(&mut self, command: Command) {
        self.session.handle_command(self.now, command);
    }

    fn say(&mut self, message: Message) {
        let mut bytes = BytesMut::new();
        message.encode(&mut bytes);
        self.session.handle_bytes(self.now, &bytes);
    }

    fn events(&mut self) -> Vec<SessionEvent> {
        std::iter::from_fn(|| self.session.poll_event()).collect()
    }

    fn sent(&mut self) -> Vec<Message> {
        loop {
            let before = self.reader.buffer().len();
            self.session.poll_transmit(self.reader.buffer());
            if self.reader.buffer().len() == before {
                break;
            }
        }
        std::iter::from_fn(|| self.reader.next_message().unwrap()).collect()
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.session.handle_timeout(self.now);
    }

    fn closed(&self) -> Option<CloseReason> {
        self.session.is_closed().cloned()
    }

    fn misbehaviour(&self) -> Option<Misbehaviour> {
        match self.closed() {
            Some(CloseReason::Misbehaved(misbehaviour)) => Some(misbehaviour),
            _ => None,
        }
    }
}

fn everything() -> ReservedBits {
    ReservedBits::OURS.with_v2()
}

#[test]
fn two_sessions_agree_on_the_v2_id_of_a_hybrid() {
    for dialled in [V1, V2] {
        let now = Instant::now();
        let mut config = SessionConfig::new(PeerId::new([1; 20]), vec![V1, V2], true);
        let mut b = PeerSession::new(
            SessionConfig {
                peer_id: PeerId::new([2; 20]),
                ..config.clone()
            },
            now,
        );
        config.dialled = Some(dialled);
        let mut a = PeerSession::new(config, now);
        let mut bytes = BytesMut::new();
        a.poll_transmit(&mut bytes);
        b.handle_bytes(now, &bytes.split());
        b.poll_transmit(&mut bytes);
        a.handle_bytes(now, &bytes);
        for (session, other) in [(&mut a, 2), (&mut b, 1)] {
            let reserved = everything();
            let peer_id = PeerId::new([other; 20]);
            let expected = SessionEvent::Established {
                peer_id,
                swarm_id: V2,
                reserved,
            };
            assert_eq!(session.poll_event(), Some(expected));
        }
    }
}

#[test]
fn handshakes_that_lead_nowhere_end_the_connection() {
    let hello = |swarm_id, id| Handshake {
        reserved: ReservedBits::NONE,
        swarm_id,
        peer_id: PeerId::new([id; 20]),
    };
    let cases = [
        (
            hello(SwarmId::new([7; 20]), 9).encode().to_vec(),
            CloseReason::UnknownSwarm,
        ),
        (hello(V1, 8).encode().to_vec(), CloseReason::Ourselves),
        (
            vec![0x9c; 96],
            CloseReason::Handshake(crate::wire::HandshakeError::Protocol),
        ),
    ];
    for dialled in [None, Some(V1)] {
        for (bytes, reason) in &cases {
            let now = Instant::now();
            let mut config = SessionConfig::new(PeerId::new([8; 20]), vec![V1, V2], true);
            config.dialled = dialled;
            let mut session = PeerSession::new(config, now);
            session.handle_bytes(now, bytes);
            assert_eq!(session.is_closed(), Some(reason));
            assert_eq!(
                session.poll_event(),
                Some(SessionEvent::Closed(reason.clone()))
            );
            assert_eq!((session.poll_event(), session.poll_timeout()), (None, None));
            assert_eq!(session.poll_transmit_bytes(), None);
        }
    }
}

#[test]
fn silence_has_its_limits() {
    let now = Instant::now();
    let config = SessionConfig::new(PeerId::new([8; 20]), vec![V1], false);
    let mut session = PeerSession::new(config, now);
    assert_eq!(session.poll_timeout(), Some(now + Duration::from_secs(10)));
    session.handle_timeout(now + Duration::from_secs(9));
    assert_eq!(session.is_closed(), None);
    session.handle_timeout(now + Duration::from_secs(10));
    assert_eq!(session.is_closed(), Some(&CloseReason::HandshakeTimeout));

    let mut table = Table::open(everything());
    table.wait(Duration::from_secs(50));
    assert_eq!(table.sent(), [Message::KeepAlive]);
    table.wait(Duration::from_secs(50));
    assert_eq!(table.sent(), [Message::KeepAlive]);
    table.say(Message::KeepAlive);
    table.wait(Duration::from_secs(119));
    assert_eq!(table.closed(), None);
    table.wait(Duration::from_secs(1));
    assert_eq!(table.closed(), Some(CloseReason::Idle));
}

#[test]
fn pieces_are_told_in_the_shortest_way() {
    let some = Bitfield::from_bytes(&[0x80, 0x40], 10).unwrap();
    let cases = [
        (everything(), Bitfield::all(10), vec![Message::HaveAll]),
        (everything(), Bitfield::none(10), vec![Message::HaveNone]),
        (everything(), Bitfield::none(0), vec![Message::HaveNone]),
        (
            everything(),
            some.clone(),
            vec![Message::Bitfield(Bytes::from_static(&[0x80, 0x40]))],
        ),
        (
            ReservedBits::NONE,
            Bitfield::all(10),
            vec![Message::Bitfield(Bytes::from_static(&[0xff, 0xc0]))],
        ),
        (ReservedBits::NONE, Bitfield::none(10), vec![]),
    ];
    for (reserved, pieces, expected) in cases {
        let mut table = Table::greeted(reserved);
        table.sent();
        table.command(Command::SetGeometry(geometry()));
        table.command(Command::Bitfield(pieces));
        assert_eq!(table.sent(), expected);
        table.command(Command::Have(geometry().piece(3).unwrap()));
        assert_eq!(table.sent(), [Message::Have(3)]);
    }
}

#[test]
fn pieces_named_before_the_size_is_known_count_later() {
    let mut table = Table::greeted(everything());
    table.events();
    table.say(Message::Bitfield(Bytes::from_static(&[0x80, 0])));
    table.say(Message::Have(9));
    assert_eq!(table.events(), []);
    table.command(Command::SetGeometry(geometry()));
    let expected = Bitfield::from_bytes(&[0x80, 0x40], 10).unwrap();
    assert_eq!(
        table.events(),
        [SessionEvent::PeerHas(PieceSet::Bits(expected))]
    );

    let mut table = Table::greeted(everything());
    table.say(Message::Have(10));
    table.command(Command::SetGeometry(geometry()));
    assert_eq!(table.misbehaviour(), Some(Misbehaviour::NoSuchPiece(10)));
}

#[test]
fn later_bitfields_add_to_earlier_ones() {
    let mut table = Table::open(everything());
    table.say(Message::HaveNone);
    table.say(Message::Have(0));
    table.say(Message::Bitfield(Bytes::from_static(&[0x40, 0])));
    let both = Bitfield::from_bytes(&[0xc0, 0], 10).unwrap();
    assert_eq!(
        table.events(),
        [
            SessionEvent::PeerHas(PieceSet::None),
            SessionEvent::PeerHas(PieceSet::One(geometry().piece(0).unwrap())),
            SessionEvent::PeerHas(PieceSet::Bits(both)),
        ]
    );
    table.say(Message::HaveAll);
    assert_eq!(table.events(), [SessionEvent::PeerHas(PieceSet::All)]);
}

#[test]
fn choke_rejects_what_is_open_where_the_fast_extension_says_so() {
    for fast in [true, false] {
        let mut table = Table::open(if fast {
            everything()
        } else {
            ReservedBits::NONE
        });
        table.say(Message::Request(raw(block(0, 0))));
        let refused = [Message::Reject(raw(block(0, 0)))];
        assert_eq!(
            table.sent(),
            refused[..usize::from(fast)],
            "choked from the start"
        );
        table.command(Command::Choke(false));
        assert_eq!(table.sent(), [Message::Unchoke]);
        table.say(Message::Request(raw(block(0, 0))));
        table.say(Message::Request(raw(block(0, 1))));
        assert_eq!(
            table.events(),
            [
                SessionEvent::Requested(block(0, 0)),
                SessionEvent::Requested(block(0, 1))
            ]
        );
        table.command(Command::SendBlock(block(0, 0), vec![1; 16_384].into()));
        table.command(Command::Choke(true));
        let rejects = [
            Message::Reject(raw(block(0, 0))),
            Message::Reject(raw(block(0, 1))),
        ];
        let mut expected = vec![Message::Choke];
        expected.extend(rejects.into_iter().filter(|_| fast));
        assert_eq!(table.sent(), expected);
        let off = [block(0, 0), block(0, 1)].map(SessionEvent::Cancelled);
        assert_eq!(table.events(), off);
        table.command(Command::SendBlock(block(0, 1), vec![1; 16_384].into()));
        assert_eq!(table.sent(), [], "nobody waits for it");
    }
}

#[test]
fn being_choked_drops_requests_unless_the_fast_extension_says_otherwise() {
    for fast in [true, false] {
        let mut table = Table::open(if fast {
            everything()
        } else {
            ReservedBits::NONE
        });
        table.command(Command::Request(block(0, 0)));
        assert_eq!(
            table.events(),
            [SessionEvent::Rejected(block(0, 0))],
            "choked"
        );
        table.say(Message::Unchoke);
        table.command(Command::Request(block(0, 0)));
        assert_eq!(table.sent(), [Message::Request(raw(block(0, 0)))]);
        assert_eq!(table.events(), [SessionEvent::Choked(false)]);
        table.say(Message::Choke);
        let mut expected = vec![SessionEvent::Choked(true)];
        if !fast {
            expected.push(SessionEvent::Rejected(block(0, 0)));
        }
        assert_eq!(table.events(), expected);
        if fast {
            table.say(Message::Reject(raw(block(0, 0))));
            assert_eq!(table.events(), [SessionEvent::Rejected(block(0, 0))]);
        }
    }
}

#[test]
fn cancelled_blocks_are_not_sent() {
    let mut table = Table::open(everything());
    table.command(Command::Choke(false));
    for n in 0..3 {
        table.say(Message::Request(raw(block(n, 0))));
    }
    assert_eq!(table.events().len(), 3);
    table.command(Command::SendBlock(block(0, 0), vec![0; 16_384].into()));
    table.say(Message::Cancel(raw(block(0, 0))));
    table.say(Message::Cancel(raw(block(1, 0))));
    let off = [block(0, 0), block(1, 0)].map(SessionEvent::Cancelled);
    assert_eq!(table.events(), off);
    table.command(Command::SendBlock(block(1, 0), vec![0; 16_384].into()));
    table.command(Command::SendBlock(block(2, 0), vec![2; 16_384].into()));
    let sent = table.sent();
    assert_eq!(
        sent[..3],
        [
            Message::Unchoke,
            Message::Reject(raw(block(0, 0))),
            Message::Reject(raw(block(1, 0))),
        ]
    );
    assert!(matches!(&sent[3..], [Message::Piece(sent)] if sent.index == 2));
}

#[test]
fn who_takes_blocks_may_cancel_as_many_and_who_takes_none_may_not() {
    for takes in [true, false] {
        let mut table = Table::open(everything());
        table.command(Command::Choke(false));
        for _ in 0..=limits::USELESS_MESSAGES_MAX {
            table.say(Message::Request(raw(block(0, 0))));
            table.say(Message::Request(raw(block(1, 0))));
            table.events();
            if takes {
                table.command(Command::SendBlock(block(0, 0), vec![0; 16_384].into()));
            } else {
                table.say(Message::Cancel(raw(block(0, 0))));
            }
            table.say(Message::Cancel(raw(block(1, 0))));
            table.sent();
        }
        let flood = (!takes).then_some(Misbehaviour::Flood);
        assert_eq!(table.misbehaviour(), flood);
    }
}

#[test]
fn rejects_that_answer_our_cancels_are_no_flood_and_others_are() {
    for cancelled in [true, false] {
        let mut table = Table::open(everything());
        table.say(Message::Unchoke);
        for _ in 0..=limits::USELESS_MESSAGES_MAX {
            if cancelled {
                table.command(Command::Request(block(0, 0)));
                table.command(Command::Cancel(block(0, 0)));
                table.sent();
            }
            table.say(Message::Reject(raw(block(0, 0))));
        }
        let flood = (!cancelled).then_some(Misbehaviour::Flood);
        assert_eq!(table.misbehaviour(), flood);
    }
}

#[test]
fn requests_are_passed_on_as_their_blocks_leave() {
    let mut table = Table::open(everything());
    table.command(Command::Choke(false));
    let ranges: Vec<_> = (0..10)
        .flat_map(|index| [block(index, 0), block(index, 1)])
        .collect();
    for range in &ranges {
        table.say(Message::Request(raw(*range)));
    }
    assert_eq!(table.events().len(), limits::REQUESTS_PASSED_MAX);
    assert_eq!(table.events(), []);
    table.command(Command::SendBlock(ranges[0], vec![0; 16_384].into()));
    assert_eq!(table.events(), [], "it is not on its way yet");
    table.sent();
    let next = ranges[limits::REQUESTS_PASSED_MAX];
    assert_eq!(table.events(), [SessionEvent::Requested(next)]);
    table.command(Command::RejectRequest(ranges[1]));
    assert_eq!(table.sent(), [Message::Reject(raw(ranges[1]))]);
    assert_eq!(table.events().len(), 1);
}

#[test]
fn unanswered_requests_are_given_back_and_late_blocks_taken() {
    let mut table = Table::open(everything());
    table.say(Message::Unchoke);
    table.command(Command::Request(block(0, 0)));
    table.events();
    assert_eq!(
        table.session.poll_timeout(),
        Some(table.now + Duration::from_secs(8))
    );
    table.wait(Duration::from_secs(8));
    assert_eq!(table.events(), [SessionEvent::TimedOut(block(0, 0))]);
    table.say(Message::Piece(RawBlock {
        index: 0,
        begin: 0,
        bytes: vec![5; 16_384].into(),
    }));
    assert!(
        matches!(&table.events()[..], [SessionEvent::Block(late)] if late.range() == block(0, 0))
    );
}

#[test]
fn requests_past_the_queue_are_refused() {
    let mut table = Table::open(everything());
    table.command(Command::Choke(false));
    table.sent();
    for _ in 0..limits::REQUESTS_IN_MAX + 10 {
        table.say(Message::Request(raw(block(0, 0))));
    }
    assert_eq!(table.sent(), vec![Message::Reject(raw(block(0, 0))); 10]);
    assert_eq!(table.closed(), None);
}
