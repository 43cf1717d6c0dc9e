use super::*;

#[test]
fn handshake_is_read_as_written() {
    let said = ExtendedHandshake {
        ut_metadata: Some(2),
        ut_holepunch: Some(4),
        lt_donthave: Some(7),
        ut_pex: Some(1),
        metadata_size: Some(31_235),
        listen_port: Some(6881),
        client: Some("Spikeswarm 1".into()),
        request_queue: Some(250),
        your_ip: Some([192, 0, 2, 1].into()),
        upload_only: true,
    };
    assert_eq!(ExtendedHandshake::decode(&said.encode()), Ok(said.clone()));
    let six = ExtendedHandshake {
        your_ip: Some([7; 16].into()),
        ..said
    };
    assert_eq!(ExtendedHandshake::decode(&six.encode()), Ok(six));
    let silent = ExtendedHandshake::default();
    assert_eq!(silent.encode(), b"d1:mdee");
    assert_eq!(ExtendedHandshake::decode(b"de"), Ok(silent));
}

#[test]
fn example_of_bep_10_is_read() {
    let said = b"d1:md11:LT_metadatai1e6:\xb5T_PEXi2ee1:pi6881e1:v13:\xc2\xb5Torrent 1.2e";
    let said = ExtendedHandshake::decode(said).unwrap();
    assert_eq!(said.listen_port, Some(6881));
    assert_eq!(said.client.as_deref(), Some("µTorrent 1.2"));
    assert_eq!(said.ut_metadata, None);
}

#[test]
fn fields_out_of_bounds_are_ignored() {
    let cases: &[&[u8]] = &[
        b"d1:md11:ut_metadatai0eee",
        b"d1:md11:ut_metadatai256eee",
        b"d1:md11:ut_metadatai-1eee",
        b"d1:md11:ut_metadata1:2ee",
        b"d1:md11:lt_donthavei0eee",
        b"d1:md11:lt_donthavei256eee",
        b"d1:m1:xe",
        b"d13:metadata_sizei0ee",
        b"d13:metadata_sizei-5ee",
        b"d13:metadata_sizei10000001ee",
        b"d13:metadata_sizei9223372036854775807ee",
        b"d1:pi0ee",
        b"d1:pi65536ee",
        b"d4:reqqi0ee",
        b"d4:reqqi4294967296ee",
        b"d6:yourip3:abce",
        b"d11:upload_only1:1e",
        b"d1:vi5ee",
    ];
    for case in cases {
        let name = String::from_utf8_lossy(case);
        assert_eq!(
            ExtendedHandshake::decode(case),
            Ok(ExtendedHandshake::default()),
            "{name}"
        );
    }
}

#[test]
fn a_further_handshake_changes_what_it_names_and_nothing_else() {
    let first = b"d1:md11:lt_donthavei7e11:ut_metadatai2e6:ut_pexi1ee13:metadata_sizei300e\
        1:pi6881e4:reqqi250e11:upload_onlyi1e1:v4:some6:yourip4:abcde";
    let before = ExtendedHandshake::decode(first).unwrap();
    let after = |said: &[u8]| ExtendedHandshake::decode_after(&before, said);
    let not_upload_only = ExtendedHandshake {
        upload_only: false,
        ..before.clone()
    };
    for said in [&b"de"[..], b"d1:mdee"] {
        assert_eq!(after(said), Ok(not_upload_only.clone()));
    }
    let said = b"d1:md12:ut_holepunchi4e6:ut_pexi0ee13:metadata_sizei400ee";
    let expected = ExtendedHandshake {
        ut_holepunch: Some(4),
        ut_pex: None,
        metadata_size: Some(400),
        ..not_upload_only
    };
    assert_eq!(after(said), Ok(expected));
}

#[test]
fn what_is_no_dictionary_is_refused() {
    let deep = [&b"d1:a".repeat(100)[..], b"0:", &b"e".repeat(100)].concat();
    let cases: &[&[u8]] = &[
        b"",
        b"e",
        b"i1e",
        b"le",
        b"d",
        b"d1:a",
        b"d1:ae",
        b"di1e1:ae",
        b"d1:a1:b1:a1:ce",
        &deep,
    ];
    for case in cases {
        let name = String::from_utf8_lossy(case);
        assert!(ExtendedHandshake::decode(case).is_err(), "{name}");
        assert!(
            MetadataMessage::decode(&Bytes::copy_from_slice(case)).is_err(),
            "{name}"
        );
    }
}

#[test]
fn client_names_are_cut_and_cleaned() {
    let long = "é\u{1b}[31m".repeat(100);
    let said = ExtendedHandshake {
        client: Some(long),
        ..ExtendedHandshake::default()
    };
    let client = ExtendedHandshake::decode(&said.encode())
        .unwrap()
        .client
        .unwrap();
    assert_eq!(client.chars().count(), 64);
    assert!(!client.contains('\u{1b}'));
}

#[test]
fn metadata_messages_are_as_bep_9_writes_them() {
    let data = Bytes::from(vec![b'x'; 0x4000]);
    let cases = [
        (
            MetadataMessage::Request { piece: 0 },
            b"d8:msg_typei0e5:piecei0ee".to_vec(),
        ),
        (
            MetadataMessage::Data {
                piece: 0,
                total: 34_256,
                bytes: data.clone(),
            },
            [&b"d8:msg_typei1e5:piecei0e10:total_sizei34256ee"[..], &data].concat(),
        ),
        (
            MetadataMessage::Reject { piece: 0 },
            b"d8:msg_typei2e5:piecei0ee".to_vec(),
        ),
    ];
    for (message, bytes) in cases {
        assert_eq!(message.encode(), bytes);
        assert_eq!(MetadataMessage::decode(&bytes.into()), Ok(message));
    }
}

#[test]
fn bad_metadata_messages_are_refused() {
    let cases: &[&[u8]] = &[
        b"de",
        b"d5:piecei0ee",
        b"d8:msg_typei0ee",
        b"d8:msg_type1:05:piecei0ee",
        b"d8:msg_typei0e5:piecei-1ee",
        b"d8:msg_typei0e5:piecei611ee",
        b"d8:msg_typei0e5:piecei4294967296ee",
        b"d8:msg_typei1e5:piecei0eeX",
        b"d8:msg_typei1e5:piecei0e10:total_sizei0ee",
        b"d8:msg_typei1e5:piecei0e10:total_sizei2eeX",
        b"d8:msg_typei1e5:piecei0e10:total_sizei1eeXX",
        b"d8:msg_typei1e5:piecei1e10:total_sizei16384eeX",
        b"d8:msg_typei1e5:piecei0e10:total_sizei10000001eeX",
        b"d8:msg_typei1e5:piecei0e10:total_sizei-1eeX",
    ];
    for case in cases {
        let name = String::from_utf8_lossy(case);
        assert!(
            MetadataMessage::decode(&Bytes::copy_from_slice(case)).is_err(),
            "{name}"
        );
    }
    let unknown = Bytes::from_static(b"d8:msg_typei3ee");
    assert_eq!(
        MetadataMessage::decode(&unknown),
        Ok(MetadataMessage::Unknown)
    );
}
