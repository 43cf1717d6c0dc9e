use serde_json::{Value, json};

use super::*;
use crate::fuzzing::{self, tests::hammer};
use crate::id::{PeerId, SwarmId};
use crate::limits::{SCRAPE_HASHES_MAX, WS_MESSAGE_LEN_MAX, WS_OFFERS_MAX, WS_SDP_LEN_MAX};
use crate::tracker::{AnnounceEvent, AnnounceReply, ScrapeEntry, ScrapeReply, ScrapeRequest};

/// Every kind of byte: text, control characters, above ASCII, what JSON escapes.
const HASH: [u8; 20] = *b"\x00\x01\x1f \"\\/az\x7f\x80\x9f\xa0\xc3\xa9\xfe\xff\r\n\t";
const PEER: [u8; 20] = *b"-WW0201-\xff\xfe\xfd\xfc4567890a";
const OTHER: [u8; 20] = *b"-WW0201-bbbbbbbbbbbb";

fn decode(text: &str) -> Result<Request, MessageError> {
    Request::decode(text.as_bytes())
}

fn sample() -> Announce {
    Announce {
        uploaded: 1,
        downloaded: u64::MAX,
        left: Some(3),
        event: AnnounceEvent::Completed,
        numwant: Some(5),
        offers: vec![
            Offer {
                id: HASH,
                sdp: "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\n".into(),
            },
            Offer {
                id: [0xff; 20],
                sdp: "\u{1}\u{20ac}\u{1f600}\"\\".into(),
            },
        ],
        ..Announce::new(SwarmId::new(HASH), PeerId::new(PEER))
    }
}

fn answer() -> Answer {
    Answer {
        swarm_id: SwarmId::new(HASH),
        peer_id: PeerId::new(PEER),
        to_peer_id: PeerId::new(OTHER),
        offer_id: [7; 20],
        sdp: "v=0\r\n".into(),
    }
}

#[test]
fn what_webtorrent_sends_is_read() {
    // As bittorrent-tracker 11 sends it, unknown keys and `Infinity` and all.
    let text = r#"{"numwant":5,"uploaded":0,"downloaded":0,"left":null,"event":"started",
        "action":"announce","info_hash":"\u0001é23456789abcdefghij","peer_id":"-WW0201-bbbbbbbbbbbb",
        "trackerid":"x","new":[{"a":[1,2]}],
        "offers":[{"offer":{"type":"offer","sdp":"v=0\r\n","more":1},"offer_id":"aaaaaaaaaaaaaaaaaaaa"}]}"#;
    let expected = Announce {
        event: AnnounceEvent::Started,
        numwant: Some(5),
        offers: vec![Offer {
            id: [b'a'; 20],
            sdp: "v=0\r\n".into(),
        }],
        ..Announce::new(
            SwarmId::new(*b"\x01\xe923456789abcdefghij"),
            PeerId::new(OTHER),
        )
    };
    assert_eq!(decode(text), Ok(Request::Announce(expected)));
    let text = r#"{"action":"scrape","info_hash":"aaaaaaaaaaaaaaaaaaaa"}"#;
    let swarm_ids = vec![SwarmId::new([b'a'; 20])];
    assert_eq!(
        decode(text),
        Ok(Request::Scrape(ScrapeRequest { swarm_ids }))
    );
}

#[test]
fn decode_undoes_encode() {
    for request in [
        Request::Announce(sample()),
        Request::Announce(Announce::new(SwarmId::new([0; 20]), PeerId::new([255; 20]))),
        Request::Answer(answer()),
        Request::Scrape(ScrapeRequest {
            swarm_ids: vec![SwarmId::new(HASH); SCRAPE_HASHES_MAX],
        }),
    ] {
        assert_eq!(decode(&request.encode()), Ok(request));
    }
}

#[test]
fn numbers_that_are_none_count_as_not_given() {
    for (left, expected) in [
        ("0", Some(0)),
        ("18446744073709551615", Some(u64::MAX)),
        ("18446744073709551616", None),
        ("1e300", None),
        ("0.5", None),
        ("-1", None),
        ("-0", None),
        ("null", None),
    ] {
        let text = Request::Announce(sample()).encode();
        let text = text.replace("\"left\":3", &format!("\"left\":{left}"));
        match decode(&text) {
            Ok(Request::Announce(announce)) => assert_eq!(announce.left, expected, "{left}"),
            other => panic!("{left}: {other:?}"),
        }
    }
    let text = Request::Announce(sample()).encode();
    let text = text.replace("\"numwant\":5", "\"numwant\":4294967296");
    let text = text.replace("\"completed\"", "\"paused\"");
    match decode(&text) {
        Ok(Request::Announce(announce)) => {
            assert_eq!(announce.numwant, Some(u32::MAX));
            assert_eq!(announce.event, AnnounceEvent::Regular);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn t19_offers_past_the_bound_are_not_read() {
    let mut announce = sample();
    let one = Offer {
        id: [b'a'; 20],
        sdp: String::new(),
    };
    announce.offers = vec![one; 500];
    match decode(&Request::Announce(announce).encode()) {
        Ok(Request::Announce(announce)) => assert_eq!(announce.offers.len(), WS_OFFERS_MAX),
        other => panic!("{other:?}"),
    }
}

#[test]
fn bad_messages_are_refused_by_name() {
    use MessageError::*;
    let id = "aaaaaaaaaaaaaaaaaaaa";
    let announce = |more: Value| {
        let mut message = json!({"action": "announce", "info_hash": id, "peer_id": id});
        let all = message.as_object_mut().expect("an object");
        for (key, value) in more.as_object().expect("an object") {
            all.insert(key.clone(), value.clone());
        }
        message.to_string()
    };
    let offer = |offer: Value| announce(json!({"offers": [offer]}));
    let answer = |more: Value| {
        let mut message =
            json!({"to_peer_id": id, "offer_id": id, "answer": {"type": "answer", "sdp": "v"}});
        let all = message.as_object_mut().expect("an object");
        for (key, value) in more.as_object().expect("an object") {
            all.insert(key.clone(), value.clone());
        }
        announce(message)
    };
    let padded = |len: usize| {
        let empty = announce(json!({"x": ""})).len();
        announce(json!({"x": "a".repeat(len - empty)}))
    };
    assert!(decode(&padded(WS_MESSAGE_LEN_MAX)).is_ok());
    assert!(
        decode(&offer(
            json!({"offer_id": id, "offer": {"type": "offer", "sdp": "a".repeat(WS_SDP_LEN_MAX)}})
        ))
        .is_ok()
    );
    let hashes = |n: usize| json!({"action": "scrape", "info_hash": vec![id; n]}).to_string();
    let doubled = announce(json!({})).replacen('{', "{\"peer_id\":null,", 1);
    let bomb = |open: &str| format!("{{\"x\":{}", open.repeat(60_000 / open.len()));
    let table: &[(String, MessageError)] = &[
        // No JSON, or not whole.
        (String::new(), NotJson),
        ("rubbish".into(), NotJson),
        ("{".into(), NotJson),
        (announce(json!({})) + "}", NotJson),
        (announce(json!({})).replace(':', ""), NotJson),
        (
            announce(json!({"left": 1})).replace(":1", ":1e999"),
            NotJson,
        ),
        (announce(json!({"left": 1})).replace(":1", ":01"), NotJson),
        (announce(json!({"left": 1})).replace(":1", ":NaN"), NotJson),
        (
            announce(json!({"event": 1})).replace(":1", ":\"\\ud800\""),
            NotJson,
        ),
        (announce(json!({"x": 1})).replace(":1", ":\"\n\""), NotJson),
        // Nesting bombs.
        (bomb("["), NotJson),
        (bomb("{\"x\":"), NotJson),
        (bomb("{\"offers\":["), NotJson),
        ("[".repeat(60_000), WrongShape),
        (
            announce(json!({"offers": 1})).replace(":1", &format!(":{}", "[".repeat(60_000))),
            WrongShape,
        ),
        // Another shape.
        ("null".into(), WrongShape),
        ("5".into(), WrongShape),
        ("[]".into(), WrongShape),
        (json!(["announce", id, id]).to_string(), WrongShape),
        (
            offer(json!([id, {"type": "offer", "sdp": "v"}])),
            WrongShape,
        ),
        (answer(json!({"answer": ["answer", "v"]})), WrongShape),
        ("\"announce\"".into(), WrongShape),
        (announce(json!({"action": 1})), WrongShape),
        (announce(json!({"action": ["announce"]})), WrongShape),
        (announce(json!({"info_hash": 7})), WrongShape),
        (announce(json!({"info_hash": {}})), WrongShape),
        (announce(json!({"info_hash": [7]})), WrongShape),
        (announce(json!({"peer_id": [id]})), WrongShape),
        (announce(json!({"left": "5"})), WrongShape),
        (announce(json!({"left": true})), WrongShape),
        (announce(json!({"uploaded": []})), WrongShape),
        (announce(json!({"numwant": {}})), WrongShape),
        (announce(json!({"event": 1})), WrongShape),
        (announce(json!({"offers": {}})), WrongShape),
        (announce(json!({"offers": "x"})), WrongShape),
        (announce(json!({"offers": [null]})), WrongShape),
        (announce(json!({"offers": [[]]})), WrongShape),
        (offer(json!({"offer_id": id, "offer": "v=0"})), WrongShape),
        (
            offer(json!({"offer_id": id, "offer": {"type": 1, "sdp": "v"}})),
            WrongShape,
        ),
        (answer(json!({"answer": "v=0"})), WrongShape),
        // Keys given twice.
        (doubled, WrongShape),
        (
            announce(json!({"offers": []})).replacen('{', "{\"offers\":[],", 1),
            WrongShape,
        ),
        (
            offer(json!({"offer_id": id, "offer": {"type": "offer", "sdp": "v"}}))
                .replace("\"sdp\":", "\"sdp\":\"\",\"sdp\":"),
            WrongShape,
        ),
        // Keys not given.
        ("{}".into(), Missing("action")),
        (announce(json!({"action": null})), Missing("action")),
        (announce(json!({"info_hash": null})), Missing("info_hash")),
        (announce(json!({"peer_id": null})), Missing("peer_id")),
        (
            offer(json!({"offer": {"type": "offer", "sdp": "v"}})),
            Missing("offer_id"),
        ),
        (offer(json!({"offer_id": id})), Missing("offer")),
        (
            offer(json!({"offer_id": id, "offer": {"type": "offer"}})),
            Missing("sdp"),
        ),
        (answer(json!({"to_peer_id": null})), Missing("to_peer_id")),
        (answer(json!({"offer_id": null})), Missing("offer_id")),
        (
            answer(json!({"answer": {"type": "answer"}})),
            Missing("sdp"),
        ),
        ("{\"action\":\"scrape\"}".into(), Missing("info_hash")),
        // Actions and types that are others.
        (announce(json!({"action": "Announce"})), UnknownAction),
        (announce(json!({"action": ""})), UnknownAction),
        (
            offer(json!({"offer_id": id, "offer": {"type": "answer", "sdp": "v"}})),
            BadType("offer"),
        ),
        (
            offer(json!({"offer_id": id, "offer": {"sdp": "v"}})),
            BadType("offer"),
        ),
        (
            answer(json!({"answer": {"type": "offer", "sdp": "v"}})),
            BadType("answer"),
        ),
        // Ids of another length, or of characters that are no bytes.
        (announce(json!({"info_hash": ""})), BadId("info_hash")),
        (announce(json!({"info_hash": &id[1..]})), BadId("info_hash")),
        (announce(json!({"info_hash": [id]})), BadId("info_hash")),
        (
            announce(json!({"info_hash": format!("{id}a")})),
            BadId("info_hash"),
        ),
        (
            announce(json!({"info_hash": "61".repeat(20)})),
            BadId("info_hash"),
        ),
        (
            announce(json!({"info_hash": "\u{100}".repeat(20)})),
            BadId("info_hash"),
        ),
        (
            announce(json!({"info_hash": "\u{1f600}".repeat(20)})),
            BadId("info_hash"),
        ),
        (
            announce(json!({"peer_id": "\u{ff}".repeat(10)})),
            BadId("peer_id"),
        ),
        (
            announce(json!({"peer_id": "\u{20ac}".repeat(20)})),
            BadId("peer_id"),
        ),
        (answer(json!({"to_peer_id": "a"})), BadId("to_peer_id")),
        (answer(json!({"offer_id": "a"})), BadId("offer_id")),
        (
            offer(json!({"offer_id": "a", "offer": {"type": "offer", "sdp": "v"}})),
            BadId("offer_id"),
        ),
        (
            json!({"action": "scrape", "info_hash": "a"}).to_string(),
            BadId("info_hash"),
        ),
        (
            json!({"action": "scrape", "info_hash": [id, "a"]}).to_string(),
            BadId("info_hash"),
        ),
        // Too much.
        (padded(WS_MESSAGE_LEN_MAX + 1), TooLong),
        (
            offer(
                json!({"offer_id": id, "offer": {"type": "offer", "sdp": "a".repeat(WS_SDP_LEN_MAX + 1)}}),
            ),
            SdpTooLong,
        ),
        (
            answer(
                json!({"answer": {"type": "answer", "sdp": "\u{e9}".repeat(WS_SDP_LEN_MAX / 2 + 1)}}),
            ),
            SdpTooLong,
        ),
        (hashes(0), BadScrape),
        (hashes(SCRAPE_HASHES_MAX + 1), BadScrape),
    ];
    for (text, expected) in table {
        let shown: String = text.chars().take(200).collect();
        assert_eq!(decode(text), Err(*expected), "{shown}");
    }
    assert_eq!(Request::decode(b"{\"action\":\"\xff\"}"), Err(NotJson));
    assert_eq!(Request::decode(b"\x00\x01\x02"), Err(NotJson));
}

fn read(response: &Response<'_>) -> Value {
    serde_json::from_str(&response.encode()).expect("JSON")
}

#[test]
fn responses_are_what_webtorrent_expects() {
    let (swarm, peer) = (SwarmId::new(HASH), PeerId::new(PEER));
    let (swarm_text, peer_text) = (latin1(&HASH), latin1(&PEER));
    let offer = &sample().offers[1];
    let reply = AnnounceReply {
        interval: 120,
        complete: 2,
        incomplete: 3,
        ..AnnounceReply::default()
    };
    assert_eq!(
        read(&Response::Announce(swarm, &reply)),
        json!({"action": "announce", "info_hash": swarm_text, "interval": 120, "complete": 2, "incomplete": 3})
    );
    let warned = AnnounceReply {
        min_interval: Some(15),
        warning: Some("full".into()),
        ..reply
    };
    let told = read(&Response::Announce(swarm, &warned));
    assert_eq!(
        (&told["min interval"], &told["warning message"]),
        (&json!(15), &json!("full"))
    );
    assert_eq!(
        read(&Response::Offer(swarm, peer, offer)),
        json!({"action": "announce", "info_hash": swarm_text, "peer_id": peer_text,
            "offer_id": latin1(&[0xff; 20]), "offer": {"type": "offer", "sdp": offer.sdp}})
    );
    assert_eq!(
        read(&Response::Answer(swarm, peer, &HASH, "v=0\r\n")),
        json!({"action": "announce", "info_hash": swarm_text, "peer_id": peer_text,
            "offer_id": swarm_text, "answer": {"type": "answer", "sdp": "v=0\r\n"}})
    );
    let entry = ScrapeEntry {
        complete: 1,
        downloaded: 2,
        incomplete: 3,
    };
    let reply = ScrapeReply {
        files: vec![(swarm, entry)],
    };
    assert_eq!(
        read(&Response::Scrape(&reply)),
        json!({"action": "scrape", "files": {swarm_text.clone(): {"complete": 1, "downloaded": 2, "incomplete": 3}}})
    );
    assert_eq!(
        read(&Response::Failure(Some(swarm), "no")),
        json!({"action": "announce", "info_hash": swarm_text, "failure reason": "no"})
    );
    assert_eq!(
        read(&Response::Failure(None, "no")),
        json!({"failure reason": "no"})
    );
}

#[test]
fn messages_survive_changed_input() {
    let corpus = [
        Request::Announce(sample()),
        Request::Answer(answer()),
        Request::Scrape(ScrapeRequest {
            swarm_ids: vec![SwarmId::new(HASH), SwarmId::new(PEER)],
        }),
    ];
    let mut corpus: Vec<_> = corpus.iter().map(|r| r.encode().into_bytes()).collect();
    corpus.extend(
        [
            "null",
            "\"\\u0000\\u00ff\\ud83d\\ude00\"",
            ",\"left\":-1e-5",
            "[[],{}]",
        ]
        .map(|t| t.into()),
    );
    hammer(&corpus, 19, 60_000, fuzzing::ws_message);
}
