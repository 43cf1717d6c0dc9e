use bytes::Bytes;

use super::*;
use crate::wire::{HashRequest, RawBlock, RawHashes, RawRequest};

fn decode(bytes: &[u8]) -> Result<Option<Message>, FrameError> {
    let mut decoder = FrameDecoder::new();
    decoder.buffer().extend_from_slice(bytes);
    decoder.next_message()
}

fn framed(payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap();
    [&len.to_be_bytes()[..], payload].concat()
}

#[test]
fn messages_are_as_the_beps_write_them() {
    let request = RawRequest {
        index: 1,
        begin: 0x4000,
        len: 0x4000,
    };
    let fields = [0, 0, 0, 1, 0, 0, 0x40, 0, 0, 0, 0x40, 0];
    let hashes = HashRequest {
        pieces_root: [9; 32],
        base_layer: 1,
        index: 2,
        length: 2,
        proof_layers: 3,
    };
    let hash_fields = [
        &[9; 32][..],
        &[0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 3],
    ]
    .concat();
    let cases: Vec<(Message, Vec<u8>)> = vec![
        (Message::KeepAlive, vec![]),
        (Message::Choke, vec![0]),
        (Message::Unchoke, vec![1]),
        (Message::Interested, vec![2]),
        (Message::NotInterested, vec![3]),
        (Message::Have(258), vec![4, 0, 0, 1, 2]),
        (
            Message::Bitfield(Bytes::from_static(&[0xa0])),
            vec![5, 0xa0],
        ),
        (Message::Request(request), [&[6][..], &fields].concat()),
        (
            Message::Piece(RawBlock {
                index: 1,
                begin: 2,
                bytes: Bytes::from_static(b"xyz"),
            }),
            vec![7, 0, 0, 0, 1, 0, 0, 0, 2, b'x', b'y', b'z'],
        ),
        (Message::Cancel(request), [&[8][..], &fields].concat()),
        (Message::Port(6881), vec![9, 0x1a, 0xe1]),
        (Message::Suggest(1), vec![13, 0, 0, 0, 1]),
        (Message::HaveAll, vec![14]),
        (Message::HaveNone, vec![15]),
        (Message::Reject(request), [&[16][..], &fields].concat()),
        (Message::AllowedFast(1), vec![17, 0, 0, 0, 1]),
        (
            Message::Extended {
                id: 3,
                payload: Bytes::from_static(b"de"),
            },
            vec![20, 3, b'd', b'e'],
        ),
        (
            Message::HashRequest(hashes),
            [&[21][..], &hash_fields].concat(),
        ),
        (
            Message::Hashes(RawHashes {
                request: hashes,
                hashes: vec![[8; 32]; 2],
            }),
            [&[22][..], &hash_fields, &[8; 64]].concat(),
        ),
        (
            Message::HashReject(hashes),
            [&[23][..], &hash_fields].concat(),
        ),
    ];
    for (message, payload) in cases {
        let bytes = framed(&payload);
        let mut written = BytesMut::new();
        message.encode(&mut written);
        assert_eq!(written, bytes, "{message:?}");
        assert_eq!(decode(&bytes), Ok(Some(message)));
    }
}

#[test]
fn payloads_of_impossible_lengths_are_refused() {
    let lengths: &[(u8, &[usize])] = &[
        (0, &[1, 4]),
        (1, &[1]),
        (2, &[1]),
        (3, &[5]),
        (4, &[0, 3, 5]),
        (6, &[0, 11, 13]),
        (7, &[0, 7]),
        (8, &[0, 11, 13]),
        (9, &[0, 1, 3]),
        (13, &[0, 3, 5]),
        (14, &[1]),
        (15, &[1]),
        (16, &[0, 11, 13]),
        (17, &[0, 3, 5]),
        (20, &[0]),
        (21, &[0, 47, 49]),
        (22, &[0, 47, 49, 79]),
        (23, &[0, 47, 49]),
    ];
    for (id, lengths) in lengths {
        for len in *lengths {
            let payload = [&[*id][..], &vec![0; *len]].concat();
            let expected = Err(FrameError::Payload { id: *id, len: *len });
            assert_eq!(
                decode(&framed(&payload)),
                expected,
                "message {id} with {len} bytes"
            );
        }
    }
}

#[test]
fn lengths_past_the_limit_are_refused_before_anything_is_kept() {
    let max = u32::try_from(limits::FRAME_LEN_MAX).unwrap();
    for len in [max + 1, 1 << 24, u32::MAX] {
        let mut decoder = FrameDecoder::new();
        decoder.buffer().extend_from_slice(&len.to_be_bytes());
        assert_eq!(decoder.next_message(), Err(FrameError::TooLong { len }));
        assert!(decoder.buffer().capacity() < 1024);
    }
    assert_eq!(decode(&max.to_be_bytes()), Ok(None));
}

#[test]
fn unknown_messages_are_passed_over() {
    for id in [10, 11, 12, 18, 19, 24, 255] {
        assert_eq!(
            decode(&framed(&[id, 1, 2, 3])),
            Ok(Some(Message::Unknown(id)))
        );
    }
}

#[test]
fn blocks_are_slices_of_what_was_read() {
    let mut decoder = FrameDecoder::new();
    let block = RawBlock {
        index: 0,
        begin: 0,
        bytes: vec![3; 16_384].into(),
    };
    Message::Piece(block).encode(decoder.buffer());
    let place = decoder.buffer().as_ptr() as usize + 13;
    match decoder.next_message() {
        Ok(Some(Message::Piece(block))) => assert_eq!(block.bytes.as_ptr() as usize, place),
        other => panic!("{other:?}"),
    }
}

#[test]
fn t11_no_long_frame_is_waited_for_once_the_torrent_is_known_to_be_small() {
    for (pieces, max) in [(10, limits::MESSAGE_LEN_MAX), (1_000_000, 125_001)] {
        for (len, is_taken) in [(max, true), (max + 1, false)] {
            let mut decoder = FrameDecoder::new();
            decoder.expect_pieces(pieces);
            let prefix = u32::try_from(len).unwrap().to_be_bytes();
            decoder.buffer().extend_from_slice(&prefix);
            assert_eq!(decoder.next_message().is_ok(), is_taken, "{pieces} {len}");
        }
    }
}
