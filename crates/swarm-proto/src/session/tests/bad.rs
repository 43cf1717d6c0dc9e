//! What peers must not do, and the messages that come with the most rules.

use super::*;
use crate::wire::{HashRequest, MetadataMessage, RawHashes};

#[test]
fn broken_rules_have_names() {
    let span = HashRequest {
        pieces_root: [0; 32],
        base_layer: 1,
        index: 0,
        length: 2,
        proof_layers: 0,
    };
    let nowhere = RawRequest {
        index: 10,
        begin: 0,
        len: 16_384,
    };
    let outside = Misbehaviour::OutOfRange(crate::geometry::OutOfRange {
        index: 10,
        begin: 0,
        len: 16_384,
    });
    let data = MetadataMessage::Data {
        piece: 0,
        total: 1,
        bytes: Bytes::from_static(b"x"),
    };
    let all = everything();
    let extended = |id, payload: &'static [u8]| Message::Extended {
        id,
        payload: Bytes::from_static(payload),
    };
    let cases = [
        (
            ReservedBits::NONE,
            Message::HaveAll,
            Misbehaviour::FastNotAgreed,
        ),
        (
            ReservedBits::NONE,
            Message::HaveNone,
            Misbehaviour::FastNotAgreed,
        ),
        (
            ReservedBits::NONE,
            Message::Suggest(0),
            Misbehaviour::FastNotAgreed,
        ),
        (
            ReservedBits::NONE,
            Message::AllowedFast(0),
            Misbehaviour::FastNotAgreed,
        ),
        (
            ReservedBits::NONE,
            Message::Reject(raw(block(0, 0))),
            Misbehaviour::FastNotAgreed,
        ),
        (
            ReservedBits::NONE,
            extended(0, b"de"),
            Misbehaviour::ExtendedNotAgreed,
        ),
        (all, extended(1, b"de"), Misbehaviour::UnknownExtension(1)),
        (all, Message::Have(10), Misbehaviour::NoSuchPiece(10)),
        (all, Message::Request(nowhere), outside.clone()),
        (all, Message::Cancel(nowhere), outside.clone()),
        (all, Message::Reject(nowhere), outside.clone()),
        (
            all,
            Message::Piece(RawBlock {
                index: 10,
                begin: 0,
                bytes: vec![0; 16_384].into(),
            }),
            outside,
        ),
        (
            all,
            Message::Extended {
                id: 2,
                payload: data.encode().into(),
            },
            Misbehaviour::UnrequestedMetadata,
        ),
        (
            all,
            Message::Hashes(RawHashes {
                request: span,
                hashes: vec![[0; 32]; 2],
            }),
            Misbehaviour::UnrequestedHashes,
        ),
    ];
    for (reserved, message, expected) in cases {
        let mut table = Table::open(reserved);
        table.say(message.clone());
        assert_eq!(table.misbehaviour(), Some(expected), "{message:?}");
    }
    for bits in [&[0xff][..], &[0xff, 0xff], &[0xff, 0xc0, 0]] {
        let mut table = Table::open(all);
        table.say(Message::Bitfield(Bytes::copy_from_slice(bits)));
        assert!(
            matches!(table.misbehaviour(), Some(Misbehaviour::Bitfield(_))),
            "{bits:?}"
        );
    }
    for payload in [&b"i1e"[..], b"", b"d8:msg_typei0ee"] {
        let mut table = Table::open(all);
        table.say(Message::Extended {
            id: 2,
            payload: Bytes::copy_from_slice(payload),
        });
        assert!(
            matches!(table.misbehaviour(), Some(Misbehaviour::Extended(_))),
            "{payload:?}"
        );
    }
}

#[test]
fn floods_end_the_connection_and_memory_stays_bounded() {
    let deaf = |table: &mut Table| {
        // Events are taken, output is not: the peer doesn't read.
        table.events();
    };
    let span = HashRequest {
        pieces_root: [0; 32],
        base_layer: 1,
        index: 0,
        length: 3,
        proof_layers: 0,
    };
    let request = MetadataMessage::Request { piece: 0 };
    let floods = [
        Message::KeepAlive,
        Message::Unknown(99),
        Message::Have(1),
        Message::HaveAll,
        Message::Bitfield(Bytes::from_static(&[0xff, 0xc0])),
        Message::Interested,
        Message::Choke,
        Message::Port(1),
        Message::Suggest(1),
        Message::AllowedFast(1),
        Message::Request(raw(block(0, 0))),
        Message::Cancel(raw(block(0, 0))),
        Message::Reject(raw(block(0, 0))),
        Message::Piece(RawBlock {
            index: 0,
            begin: 0,
            bytes: vec![0; 16_384].into(),
        }),
        Message::Extended {
            id: 0,
            payload: Bytes::from_static(b"de"),
        },
        Message::Extended {
            id: 2,
            payload: request.encode().into(),
        },
        Message::HashRequest(span),
        Message::HashReject(span),
    ];
    for choked in [true, false] {
        for message in &floods {
            let mut table = Table::open(everything());
            table.command(Command::Choke(choked));
            let mut count = 0;
            while table.closed().is_none() {
                table.say(message.clone());
                deaf(&mut table);
                count += 1;
                assert!(count <= 10_000, "{message:?} goes on for ever");
            }
            assert!(table.misbehaviour().is_some(), "{message:?}");
        }
    }
}

#[test]
fn metadata_goes_both_ways() {
    let mut table = Table::open(everything());
    table.command(Command::RequestMetadata(0));
    assert_eq!(
        table.events(),
        [SessionEvent::MetadataRejected(0)],
        "not spoken there"
    );
    let said = ExtendedHandshake {
        ut_metadata: Some(7),
        ..ExtendedHandshake::default()
    };
    table.say(Message::Extended {
        id: 0,
        payload: said.encode().into(),
    });
    assert_eq!(table.events(), [SessionEvent::ExtendedHandshake(said)]);
    table.command(Command::RequestMetadata(0));
    let request = MetadataMessage::Request { piece: 0 }.encode();
    assert_eq!(
        table.sent(),
        [Message::Extended {
            id: 7,
            payload: request.clone().into()
        }]
    );
    let bytes = Bytes::from_static(b"x");
    let data = MetadataMessage::Data {
        piece: 0,
        total: 1,
        bytes: bytes.clone(),
    };
    table.say(Message::Extended {
        id: 2,
        payload: data.encode().into(),
    });
    assert_eq!(
        table.events(),
        [SessionEvent::MetadataPiece {
            piece: 0,
            total: 1,
            bytes
        }]
    );
    table.say(Message::Extended {
        id: 2,
        payload: request.into(),
    });
    assert_eq!(table.events(), [SessionEvent::MetadataRequested(0)]);
    table.command(Command::RejectMetadata(0));
    let reject = MetadataMessage::Reject { piece: 0 }.encode();
    assert_eq!(
        table.sent(),
        [Message::Extended {
            id: 7,
            payload: reject.into()
        }]
    );
}

#[test]
fn hash_requests_go_both_ways_and_bad_ones_are_rejected() {
    let good = HashRequest {
        pieces_root: [3; 32],
        base_layer: 1,
        index: 4,
        length: 4,
        proof_layers: 2,
    };
    let mut table = Table::open(everything());
    table.say(Message::HashRequest(good));
    assert_eq!(table.events(), [SessionEvent::HashesRequested(good)]);
    let bad = [
        HashRequest { length: 0, ..good },
        HashRequest { length: 1, ..good },
        HashRequest {
            length: 3,
            index: 3,
            ..good
        },
        HashRequest {
            length: 1024,
            index: 0,
            ..good
        },
        HashRequest {
            length: u32::MAX,
            ..good
        },
        HashRequest { index: 2, ..good },
        HashRequest {
            base_layer: u32::MAX,
            ..good
        },
        HashRequest {
            proof_layers: u32::MAX,
            ..good
        },
    ];
    for request in bad {
        table.say(Message::HashRequest(request));
        assert_eq!(table.events(), [], "{request:?}");
        assert_eq!(table.sent(), [Message::HashReject(request)]);
    }
    table.command(Command::RequestHashes(good));
    assert_eq!(table.sent(), [Message::HashRequest(good)]);
    let hashes = vec![[1; 32]; good.answer_len() as usize];
    table.say(Message::Hashes(RawHashes {
        request: good,
        hashes: hashes.clone(),
    }));
    assert_eq!(
        table.events(),
        [SessionEvent::Hashes {
            request: good,
            hashes
        }]
    );
    table.command(Command::RequestHashes(good));
    table.say(Message::Hashes(RawHashes {
        request: good,
        hashes: vec![[1; 32]; 4],
    }));
    assert_eq!(table.misbehaviour(), Some(Misbehaviour::UnrequestedHashes));
}

#[test]
fn hash_messages_in_a_v1_torrent_end_the_connection() {
    let now = Instant::now();
    let config = SessionConfig::new(PeerId::new([8; 20]), vec![V1], false);
    let session = PeerSession::new(config, now);
    let mut table = Table {
        session,
        now,
        reader: FrameDecoder::new(),
    };
    let peer = Handshake {
        reserved: everything(),
        swarm_id: V1,
        peer_id: PeerId::new([9; 20]),
    };
    table.session.handle_bytes(now, &peer.encode());
    let request = HashRequest {
        pieces_root: [3; 32],
        base_layer: 1,
        index: 0,
        length: 2,
        proof_layers: 0,
    };
    table.say(Message::HashRequest(request));
    assert_eq!(table.misbehaviour(), Some(Misbehaviour::HashRequest));
}
