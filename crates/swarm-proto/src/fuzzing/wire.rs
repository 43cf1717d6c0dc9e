//! Fuzz bodies of the peer wire and the session.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::bitfield::Bitfield;
use crate::geometry::Geometry;
use crate::id::{PeerId, SwarmId};
use crate::limits;
use crate::session::{CloseReason, Command, PeerSession, SessionConfig, SessionEvent};
use crate::wire::handshake::HANDSHAKE_LEN;
use crate::wire::{
    DontHave, ExtendedHandshake, FrameDecoder, FrameError, Handshake, Message, MetadataMessage,
    ReservedBits,
};

/// Frames: the same messages however the bytes are cut, and writing undoes reading.
pub fn frame(data: &[u8]) {
    let (whole, end) = messages([data]);
    let (cut, cut_end) = messages(data.chunks(1));
    assert_eq!(whole, cut);
    assert_eq!(end, cut_end);
    for message in whole {
        let mut bytes = BytesMut::new();
        message.encode(&mut bytes);
        let (again, end) = messages([&bytes[..]]);
        assert_eq!(end, None);
        match message {
            Message::Unknown(_) => assert_eq!(again, [Message::KeepAlive]),
            message => assert_eq!(again, [message]),
        }
    }
}

fn messages<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Message>, Option<FrameError>) {
    let mut decoder = FrameDecoder::new();
    let mut messages = Vec::new();
    for part in parts {
        decoder.buffer().extend_from_slice(part);
        loop {
            match decoder.next_message() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => return (messages, Some(error)),
            }
        }
    }
    (messages, None)
}

/// Handshakes, plain and extended, and ut_metadata: writing undoes reading.
pub fn handshake(data: &[u8]) {
    match Handshake::decode(data) {
        Ok(Some(handshake)) => assert_eq!(handshake.encode()[..], data[..HANDSHAKE_LEN]),
        Ok(None) => assert!(data.len() < HANDSHAKE_LEN),
        Err(_) => assert!((1..=data.len()).any(|end| Handshake::decode(&data[..end]).is_err())),
    }
    if let Ok(said) = ExtendedHandshake::decode(data) {
        assert_eq!(ExtendedHandshake::decode(&said.encode()), Ok(said));
    }
    if let Ok(lost) = DontHave::decode(data) {
        assert_eq!(lost.encode(), *data);
    }
    if let Ok(message) = MetadataMessage::decode(&Bytes::copy_from_slice(data)) {
        assert_eq!(
            MetadataMessage::decode(&message.encode().into()),
            Ok(message)
        );
    }
}

/// A session: the same events, output and end however the bytes are cut, and bounded output.
///
/// The first byte chooses how the session stands, the second how the bytes are cut. `now` is any
/// time: it only has to be somebody's.
pub fn session(now: Instant, data: &[u8]) {
    let [mode, cut, bytes @ ..] = data else {
        return;
    };
    let whole = run(now, *mode, [bytes]);
    let mut rng = SmallRng::seed_from_u64(u64::from(*cut));
    let mut parts = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (part, after) = rest.split_at(rng.random_range(0..=rest.len().min(64)));
        parts.push(part);
        rest = after;
    }
    assert_eq!(whole, run(now, *mode, parts));
}

/// What a session made of the bytes.
type Story = (Vec<SessionEvent>, BytesMut, Option<CloseReason>);

fn run<'a>(now: Instant, mode: u8, parts: impl IntoIterator<Item = &'a [u8]>) -> Story {
    let ids = vec![SwarmId::new([1; 20]), SwarmId::new([2; 20])];
    let mut config = SessionConfig::new(PeerId::new([3; 20]), ids.clone(), mode & 1 == 0);
    config.dialled = (mode & 2 == 0).then_some(ids[0]);
    (config.pex, config.dht) = (mode & 64 != 0, mode & 64 != 0);
    let mut session = PeerSession::new(config, now);
    let mut events = Vec::new();
    if mode & 4 == 0 {
        let reserved = match mode & 8 == 0 {
            true => ReservedBits::OURS.with_dht(),
            false => ReservedBits::NONE,
        };
        let handshake = Handshake {
            reserved,
            swarm_id: ids[0],
            peer_id: PeerId::new([4; 20]),
        };
        session.handle_bytes(now, &handshake.encode());
    }
    if mode & 16 == 0
        && let Ok(geometry) = Geometry::new(32_768, 100_000)
    {
        let blocks: Vec<_> = geometry
            .pieces()
            .filter_map(|p| geometry.nth_block(p, 0))
            .collect();
        session.handle_command(now, Command::SetGeometry(geometry));
        session.handle_command(now, Command::Bitfield(Bitfield::all(4)));
        session.handle_command(now, Command::Choke(mode & 32 != 0));
        session.handle_command(now, Command::Interested(true));
        if mode & 64 == 0 {
            session.handle_bytes(now, &[0, 0, 0, 1, 1]);
            for block in blocks {
                session.handle_command(now, Command::Request(block));
            }
        }
    }
    session.handle_command(now, Command::RequestMetadata(0));
    for part in parts {
        session.handle_bytes(now, part);
    }
    while let Some(event) = session.poll_event() {
        events.push(event);
    }
    let closed = session.is_closed().cloned();
    assert_eq!(
        closed.is_some(),
        matches!(events.last(), Some(SessionEvent::Closed(_))),
        "the end is the last event"
    );
    let mut out = BytesMut::new();
    session.poll_transmit(&mut out);
    assert!(out.len() <= limits::OUTPUT_LEN_MAX + limits::CONTROL_LEN_MAX);
    (events, out, closed)
}

#[cfg(test)]
mod tests {
    use super::super::tests::hammer;
    use super::*;
    use crate::wire::lt_donthave::LT_DONTHAVE_ID;
    use crate::wire::{HashRequest, RawBlock, RawHashes, RawRequest};

    fn corpus() -> Vec<Vec<u8>> {
        let request = RawRequest {
            index: 1,
            begin: 0,
            len: 16_384,
        };
        let hashes = HashRequest {
            pieces_root: [5; 32],
            base_layer: 1,
            index: 0,
            length: 2,
            proof_layers: 0,
        };
        let said = ExtendedHandshake {
            ut_metadata: Some(3),
            lt_donthave: Some(9),
            metadata_size: Some(100),
            ..ExtendedHandshake::default()
        };
        let data = MetadataMessage::Data {
            piece: 0,
            total: 5,
            bytes: Bytes::from_static(b"12345"),
        };
        let list = [
            Message::KeepAlive,
            Message::Choke,
            Message::Unchoke,
            Message::Interested,
            Message::NotInterested,
            Message::Have(3),
            Message::Bitfield(Bytes::from_static(&[0xf0])),
            Message::Request(request),
            Message::Piece(RawBlock {
                index: 1,
                begin: 0,
                bytes: vec![7; 16_384].into(),
            }),
            Message::Cancel(request),
            Message::Port(6881),
            Message::Suggest(1),
            Message::HaveAll,
            Message::HaveNone,
            Message::Reject(request),
            Message::AllowedFast(2),
            Message::Extended {
                id: 0,
                payload: said.encode().into(),
            },
            Message::Extended {
                id: 2,
                payload: data.encode().into(),
            },
            Message::Extended {
                id: LT_DONTHAVE_ID,
                payload: DontHave { piece: 3 }.encode().to_vec().into(),
            },
            Message::HashRequest(hashes),
            Message::Hashes(RawHashes {
                request: hashes,
                hashes: vec![[1; 32]; 2],
            }),
            Message::HashReject(hashes),
        ];
        let one = |message: &Message| {
            let mut bytes = BytesMut::new();
            message.encode(&mut bytes);
            bytes.to_vec()
        };
        let mut corpus: Vec<Vec<u8>> = list.iter().map(one).collect();
        corpus.push(list.iter().flat_map(one).collect());
        let handshake = Handshake {
            reserved: ReservedBits::OURS.with_v2(),
            swarm_id: SwarmId::new([1; 20]),
            peer_id: PeerId::new([9; 20]),
        };
        corpus.push(handshake.encode().to_vec());
        corpus.push(said.encode());
        corpus.push(data.encode());
        corpus
    }

    #[test]
    fn frames_survive_changed_inputs() {
        hammer(&corpus(), 1, 2_000, frame);
    }

    #[test]
    fn handshakes_survive_changed_inputs() {
        hammer(&corpus(), 2, 10_000, handshake);
    }

    #[test]
    fn sessions_survive_changed_inputs() {
        let corpus: Vec<Vec<u8>> = (0..=255_u8)
            .step_by(3)
            .flat_map(|mode| {
                corpus()
                    .into_iter()
                    .map(move |bytes| [&[mode, mode ^ 7][..], &bytes].concat())
            })
            .collect();
        let now = Instant::now();
        hammer(&corpus, 3, 4_000, |data| session(now, data));
    }
}
