use super::reply::INTERVAL_DEFAULT;
use super::*;
use crate::bencode::{self, Rules};
use crate::id::{PeerId, SwarmId};
use crate::limits::TRACKER_REASON_LEN_MAX;
use crate::limits::{ANNOUNCE_QUERY_LEN_MAX, PEERS_PER_REPLY_MAX, SCRAPE_HASHES_MAX};
use crate::tracker::{
    AnnounceEvent, AnnounceReply, AnnounceRequest, BridgeOffer, ScrapeEntry, ScrapeReply,
    ScrapeRequest,
};

const HASH: &str = "info_hash=%124Vx%9A%BC%DE%F1%23Eg%89%AB%CD%EF%124Vx%9A";
const REST: &str = "peer_id=-SW0100-abcdefghijkl&port=6881";

fn ok(extra: &str) -> AnnounceRequest {
    parse_announce(&format!("{HASH}&{REST}{extra}")).expect("a good announce")
}

fn sample() -> AnnounceRequest {
    AnnounceRequest {
        uploaded: 1,
        downloaded: u64::MAX,
        left: Some(3),
        event: AnnounceEvent::Completed,
        compact: false,
        numwant: Some(0),
        key: Some(0xdead_beef),
        bridge: Some(BridgeOffer {
            port: 8081,
            domain: Some("bridge.example".into()),
            until: Some(1_800_000_000),
            hits: Some(1000),
            rate: Some(20_000_000),
            key: Some(crate::manifest::SecretKey::new([3; 32]).public()),
        }),
        ..AnnounceRequest::new(
            SwarmId::new(*b"\x12\x34\x56\x78\x9a\xbc\xde\xf1\x23\x45\x67\x89\xab\xcd\xef\x12\x34\x56\x78\x9a"),
            PeerId::new(*b"-SW0100-\x00\xff&=%+# ?/;x"),
            6881,
        )
    }
}

#[test]
fn query_of_bep_3_is_read() {
    let request = ok("&uploaded=1&downloaded=2&left=3&event=started&compact=1&numwant=80");
    assert_eq!(request.swarm_id, sample().swarm_id);
    assert_eq!(request.peer_id.as_bytes(), b"-SW0100-abcdefghijkl");
    assert_eq!((request.port, request.left), (6881, Some(3)));
    assert_eq!((request.uploaded, request.downloaded), (1, 2));
    assert_eq!(request.event, AnnounceEvent::Started);
    assert_eq!(request.numwant, Some(80));
    assert!(request.compact);
    assert_eq!(request.bridge, None);
}

#[test]
fn decode_undoes_encode() {
    for request in [
        sample(),
        AnnounceRequest::new(SwarmId::new([0; 20]), PeerId::new([255; 20]), 1),
    ] {
        assert_eq!(parse_announce(&encode_query(&request)), Ok(request));
    }
}

#[test]
fn address_in_the_query_changes_nothing() {
    assert_eq!(
        ok("&ip=203.0.113.7&ipv4=203.0.113.7&ipv6=2001:db8::1"),
        ok("")
    );
}

#[test]
fn unknown_counts_are_unknown() {
    assert_eq!(ok("&left=").left, None);
    assert_eq!(ok("&left=-1").left, None);
    assert_eq!(ok("&numwant=-1").numwant, None);
    assert_eq!(ok("&numwant=4294967296").numwant, Some(u32::MAX));
    assert_eq!(ok("&event=paused").event, AnnounceEvent::Regular);
    assert_eq!(ok("&key=not-hex").key, None);
    assert_eq!(ok("&&nonsense&=&x=%00").left, None);
}

#[test]
fn bad_announces_are_refused_by_name() {
    use RequestError::*;
    let long = format!("{HASH}&{REST}&x={}", "a".repeat(ANNOUNCE_QUERY_LEN_MAX));
    let escapes = "%61".repeat(20);
    let key = crate::manifest::SecretKey::new([3; 32]).public();
    let table: &[(String, RequestError)] = &[
        (String::new(), Missing("info_hash")),
        (REST.into(), Missing("info_hash")),
        (format!("{HASH}&port=6881"), Missing("peer_id")),
        (format!("{HASH}&peer_id={escapes}"), Missing("port")),
        (format!("info_hash=&{REST}"), BadLength("info_hash")),
        (format!("info_hash&{REST}"), BadLength("info_hash")),
        (format!("info_hash=abc&{REST}"), BadLength("info_hash")),
        (
            format!("info_hash={escapes}a&{REST}"),
            BadLength("info_hash"),
        ),
        (
            format!("info_hash={}&{REST}", "61".repeat(20)),
            BadLength("info_hash"),
        ),
        (format!("{HASH}&{HASH}&{REST}"), Twice("info_hash")),
        (format!("{HASH}&peer_id=abc&port=1"), BadLength("peer_id")),
        (format!("{HASH}&{REST}&peer_id={escapes}"), Twice("peer_id")),
        (format!("{HASH}&{REST}&port=6882"), Twice("port")),
        (format!("{HASH}&peer_id={escapes}&port=0"), BadPort("port")),
        (
            format!("{HASH}&peer_id={escapes}&port=65536"),
            BadPort("port"),
        ),
        (format!("{HASH}&peer_id={escapes}&port=-1"), BadPort("port")),
        (
            format!("{HASH}&peer_id={escapes}&port=+6881"),
            BadPort("port"),
        ),
        (
            format!("{HASH}&peer_id={escapes}&port=0x50"),
            BadPort("port"),
        ),
        (
            format!("{HASH}&peer_id={escapes}&port=6881%20"),
            BadPort("port"),
        ),
        (format!("{HASH}&peer_id={escapes}&port="), BadPort("port")),
        (format!("{HASH}&{REST}&left=1e9"), BadNumber("left")),
        (format!("{HASH}&{REST}&left=--1"), BadNumber("left")),
        (format!("{HASH}&{REST}&left=-"), BadNumber("left")),
        (
            format!("{HASH}&{REST}&left=18446744073709551616"),
            BadNumber("left"),
        ),
        (
            format!("{HASH}&{REST}&uploaded=many"),
            BadNumber("uploaded"),
        ),
        (
            format!("{HASH}&{REST}&downloaded=%FF"),
            BadNumber("downloaded"),
        ),
        (format!("{HASH}&{REST}&numwant=ten"), BadNumber("numwant")),
        (format!("{HASH}&{REST}&x=%"), BadEscape),
        (format!("{HASH}&{REST}&x=%2"), BadEscape),
        (format!("{HASH}&{REST}&x=%zz"), BadEscape),
        (format!("{HASH}&{REST}&x=%+1"), BadEscape),
        (format!("{HASH}&{REST}&x=%e\u{e9}"), BadEscape),
        (format!("{HASH}&{REST}&bridge=0"), BadPort("bridge")),
        (format!("{HASH}&{REST}&bridge=host:80"), BadPort("bridge")),
        (
            format!("{HASH}&{REST}&bridge=80&bridge_domain=a..b"),
            BadDomain,
        ),
        (
            format!("{HASH}&{REST}&bridge=80&bridge_domain=evil.example/x"),
            BadDomain,
        ),
        (
            format!("{HASH}&{REST}&bridge=80&bridge_domain=evil.example%0d%0a"),
            BadDomain,
        ),
        (
            format!("{HASH}&{REST}&bridge=80&bridge_domain=user@evil.example"),
            BadDomain,
        ),
        (
            format!("{HASH}&{REST}&bridge=80&bridge_domain=evil.example:8080"),
            BadDomain,
        ),
        (
            format!("{HASH}&{REST}&bridge=80&bridge_domain=-a.example"),
            BadDomain,
        ),
        (
            format!("{HASH}&{REST}&bridge=80&bridge_domain={}", "a.".repeat(120)),
            BadDomain,
        ),
        (
            format!("{HASH}&{REST}&bridge=80&bridge_domain=%ff"),
            BadDomain,
        ),
        (
            format!("{HASH}&{REST}&bridge=80&bridge_until=soon"),
            BadNumber("bridge_until"),
        ),
        (format!("{HASH}&{REST}&bridge=80&bridge_key="), BadKey),
        (format!("{HASH}&{REST}&bridge=80&bridge_key=00"), BadKey),
        (
            // A point of small order.
            format!("{HASH}&{REST}&bridge=80&bridge_key=01{}", "00".repeat(31)),
            BadKey,
        ),
        (
            format!(
                "{HASH}&{REST}&bridge=80{}",
                format!("&bridge_key={key}").repeat(2)
            ),
            Twice("bridge_key"),
        ),
        (long, TooLong),
    ];
    for (query, expected) in table {
        assert_eq!(parse_announce(query).as_ref(), Err(expected), "{query}");
    }
}

fn reply(peers: &[&str]) -> AnnounceReply {
    AnnounceReply {
        interval: 120,
        min_interval: Some(15),
        complete: 3,
        incomplete: 4,
        peers: peers
            .iter()
            .map(|peer| peer.parse().expect("an address"))
            .collect(),
        warning: None,
    }
}

#[test]
fn compact_reply_has_the_bytes_of_bep_23_and_7() {
    let reply = reply(&["127.0.0.1:6881", "[2001:db8::1]:256"]);
    let expected = [
        &b"d8:completei3e10:incompletei4e8:intervali120e12:min intervali15e"[..],
        b"5:peers6:\x7f\0\0\x01\x1a\xe1",
        b"6:peers618:\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x01\x00e",
    ]
    .concat();
    assert_eq!(encode_reply(&reply, true), expected);
    assert_eq!(decode_reply(&expected), Ok(reply));
}

#[test]
fn listed_reply_survives_a_round_trip_and_is_canonical() {
    let mut reply = reply(&["127.0.0.1:6881", "[2001:db8::1]:256"]);
    reply.warning = Some("port is closed".into());
    for compact in [false, true] {
        let bytes = encode_reply(&reply, compact);
        assert!(bencode::decode(&bytes, &Rules::SIGNED).is_ok(), "canonical");
        assert_eq!(decode_reply(&bytes), Ok(reply.clone()));
    }
}

#[test]
fn lenient_where_real_trackers_differ() {
    // Unsorted keys, a newline, an unknown key, no interval.
    let found = decode_reply(b"d5:peers6:\x01\x02\x03\x04\x00\x505:extrai1e8:completei-5ee\n")
        .expect("accepted");
    assert_eq!((found.interval, found.complete), (INTERVAL_DEFAULT, 0));
    assert_eq!(found.peers, ["1.2.3.4:80".parse().expect("an address")]);
    // Port 0 and DNS names are dropped, the rest kept.
    let found = decode_reply(
        b"d8:intervali9e5:peersld2:ip9:localhost4:porti1eed2:ip7:1.2.3.44:porti0eed2:ip3:::14:porti7eeee",
    )
    .expect("accepted");
    assert_eq!(found.peers, ["[::1]:7".parse().expect("an address")]);
}

#[test]
fn peers_past_the_limit_are_dropped() {
    let mut bytes = b"d8:intervali1e5:peers12000:".to_vec();
    bytes.extend([1, 2, 3, 4, 5, 6].repeat(2000));
    bytes.push(b'e');
    let found = decode_reply(&bytes).expect("accepted");
    assert_eq!(found.peers.len(), PEERS_PER_REPLY_MAX);
}

#[test]
fn failure_reason_is_one_short_line() {
    let mut reason = b"no\r\n\x1b[31mway".to_vec();
    reason.resize(1000, b'x');
    let bytes = [&b"d14:failure reason1000:"[..], &reason, b"8:retry ini5ee"].concat();
    let Err(ReplyError::Failure {
        reason,
        retry_in_minutes,
    }) = decode_reply(&bytes)
    else {
        panic!("a failure");
    };
    assert!(reason.starts_with("no   [31mway") && reason.len() == TRACKER_REASON_LEN_MAX);
    assert_eq!(retry_in_minutes, Some(5));
    let bytes = encode_failure("unknown swarm");
    assert_eq!(
        decode_reply(&bytes),
        Err(ReplyError::Failure {
            reason: "unknown swarm".into(),
            retry_in_minutes: None
        })
    );
}

#[test]
fn rubbish_replies_are_refused() {
    let not_bencode: &[&[u8]] = &[
        b"",
        b"<html>404</html>",
        b"d",
        b"d8:interval",
        b"d8:intervali1e5:peers99999999999999999999:e",
        b"d8:intervali1ee<!-- trailing -->",
        b"d8:intervali1e8:intervali2ee",
        &[b'l'; 10_000],
    ];
    for bytes in not_bencode {
        let found = decode_reply(bytes);
        assert!(matches!(found, Err(ReplyError::NotBencode(_))), "{found:?}");
        assert!(matches!(
            decode_scrape_reply(bytes),
            Err(ReplyError::NotBencode(_))
        ));
    }
    let wrong: &[&[u8]] = &[
        b"le",
        b"i1e",
        b"de",
        b"d8:intervali1e5:peersi1ee",
        b"d6:peers6i1ee",
    ];
    for bytes in wrong {
        assert_eq!(decode_reply(bytes), Err(ReplyError::WrongShape("announce")));
    }
    assert_eq!(decode_reply(b"d5:peers5:abcdee"), Err(ReplyError::CutPeers));
    assert_eq!(
        decode_reply(b"d6:peers617:aaaaaaaaaaaaaaaaae"),
        Err(ReplyError::CutPeers)
    );
}

#[test]
fn scrape_survives_a_round_trip() {
    let ids = [SwarmId::new([0; 20]), SwarmId::new([200; 20])];
    let request = ScrapeRequest {
        swarm_ids: ids.to_vec(),
    };
    assert_eq!(parse_scrape(&encode_scrape_query(&request)), Ok(request));
    let entry = ScrapeEntry {
        complete: 1,
        downloaded: 2,
        incomplete: 3,
    };
    let reply = ScrapeReply {
        files: ids.map(|id| (id, entry)).to_vec(),
    };
    let bytes = encode_scrape_reply(&reply);
    assert!(bytes.starts_with(b"d5:filesd20:\0\0"));
    assert_eq!(decode_scrape_reply(&bytes), Ok(reply));
}

#[test]
fn bad_scrapes_are_refused() {
    assert_eq!(parse_scrape(""), Err(RequestError::Missing("info_hash")));
    assert_eq!(
        parse_scrape("info_hash=abc"),
        Err(RequestError::BadLength("info_hash"))
    );
    let full = vec![HASH; SCRAPE_HASHES_MAX].join("&");
    assert_eq!(
        parse_scrape(&full).map(|r| r.swarm_ids.len()),
        Ok(SCRAPE_HASHES_MAX)
    );
    assert_eq!(
        parse_scrape(&format!("{full}&{HASH}")),
        Err(RequestError::TooMany)
    );
    assert_eq!(
        decode_scrape_reply(b"d5:filesi1ee"),
        Err(ReplyError::WrongShape("scrape"))
    );
    let odd = decode_scrape_reply(b"d5:filesd3:abcde20:aaaaaaaaaaaaaaaaaaaai1eee");
    assert_eq!(odd, Ok(ScrapeReply::default()));
}

#[test]
fn urls_are_joined_as_bep_48_says() {
    let request = AnnounceRequest::new(SwarmId::new([b'a'; 20]), PeerId::new([b'b'; 20]), 1);
    let query = encode_query(&request);
    for (base, joint) in [
        ("http://t.example/announce", "http://t.example/announce?"),
        (
            "http://t.example/announce#frag",
            "http://t.example/announce?",
        ),
        ("http://t.example/announce?", "http://t.example/announce?"),
        (
            "http://t.example/announce?key=1",
            "http://t.example/announce?key=1&",
        ),
    ] {
        assert_eq!(announce_url(base, &request), format!("{joint}{query}"));
    }
    let request = ScrapeRequest {
        swarm_ids: vec![SwarmId::new([b'a'; 20])],
    };
    let scrape = |base| scrape_url(base, &request);
    let hash = format!("info_hash={}", "a".repeat(20));
    assert_eq!(
        scrape("http://t/x/announce"),
        Some(format!("http://t/x/scrape?{hash}"))
    );
    assert_eq!(
        scrape("http://t/announce.php?k=/a"),
        Some(format!("http://t/scrape.php?k=/a&{hash}"))
    );
    assert_eq!(scrape("http://t/a"), None);
    assert_eq!(scrape("announce"), None);
}

#[test]
fn whatever_is_accepted_survives_a_round_trip() {
    use rand::{RngExt as _, SeedableRng as _};
    let mut rng = rand::rngs::SmallRng::seed_from_u64(7);
    let seeds: [Vec<u8>; 3] = [
        encode_query(&sample()).into_bytes(),
        encode_reply(&reply(&["127.0.0.1:6881", "[2001:db8::1]:256"]), true),
        [
            &b"d8:intervali1e15:warning message300:"[..],
            &[0xff; 300],
            b"e",
        ]
        .concat(),
    ];
    for round in 0..30_000 {
        let mut data = seeds[round % seeds.len()].clone();
        for _ in 0..rng.random_range(0..4) {
            let at = rng.random_range(0..data.len());
            match rng.random_range(0..3) {
                0 => data[at] = rng.random(),
                1 => data.truncate(at + 1),
                _ => data.insert(at, b"&=%019ide:"[rng.random_range(0..10)]),
            }
        }
        crate::fuzzing::announce(&data);
    }
}
