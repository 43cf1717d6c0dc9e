use std::time::{Duration, Instant};

use super::*;
use crate::id::{PeerId, SwarmId};
use crate::limits::{PEERS_PER_REPLY_MAX, TRACKER_REASON_LEN_MAX};
use crate::tracker::{AnnounceEvent, AnnounceReply, AnnounceRequest, ScrapeEntry};

const TOKEN: ConnectionToken = ConnectionToken(0x0102_0304_0506_0708);

fn announce() -> AnnounceRequest {
    let mut announce = AnnounceRequest::new(SwarmId::new([1; 20]), PeerId::new([2; 20]), 6881);
    announce.downloaded = 3;
    announce.left = Some(4);
    announce.uploaded = 5;
    announce.event = AnnounceEvent::Started;
    announce.key = Some(6);
    announce.numwant = Some(7);
    announce
}

fn reply() -> AnnounceReply {
    AnnounceReply {
        interval: 1800,
        min_interval: None,
        complete: 2,
        incomplete: 3,
        peers: vec!["192.0.2.1:6881".parse().unwrap()],
        warning: None,
    }
}

#[test]
fn packets_are_laid_out_as_bep_15_says() {
    let connect = Request::Connect { transaction: 9 }.encode();
    assert_eq!(connect, b"\0\0\x04\x17\x27\x10\x19\x80\0\0\0\0\0\0\0\x09");
    let packet = Request::Announce {
        token: TOKEN,
        transaction: 9,
        announce: announce(),
        path: String::new(),
    };
    let bytes = packet.encode();
    assert_eq!(bytes.len(), 98);
    assert_eq!(
        bytes[..16],
        *b"\x01\x02\x03\x04\x05\x06\x07\x08\0\0\0\x01\0\0\0\x09"
    );
    assert_eq!(bytes[16..36], [1; 20]);
    assert_eq!(bytes[36..56], [2; 20]);
    assert_eq!(
        bytes[56..],
        *b"\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\0\x05\
           \0\0\0\x02\0\0\0\0\0\0\0\x06\0\0\0\x07\x1a\xe1"
    );
    let answer = Response::Announce {
        transaction: 9,
        reply: reply(),
    };
    assert_eq!(
        answer.encode(),
        b"\0\0\0\x01\0\0\0\x09\0\0\x07\x08\0\0\0\x03\0\0\0\x02\xc0\0\x02\x01\x1a\xe1"
    );
    let scrape = Request::Scrape {
        token: TOKEN,
        transaction: 9,
        swarm_ids: vec![SwarmId::new([8; 20]); 2],
    };
    assert_eq!(scrape.encode().len(), 16 + 40);
}

#[test]
fn packets_survive_both_ways() {
    let mut unknown = announce();
    unknown.left = None;
    unknown.numwant = None;
    unknown.event = AnnounceEvent::Completed;
    // BEP 41: a path longer than one option holds.
    let long = format!("/{}/announce?passkey=x", "a".repeat(600));
    for (announce, path) in [(announce(), String::new()), (unknown, long)] {
        let request = Request::Announce {
            token: TOKEN,
            transaction: 1,
            announce,
            path,
        };
        assert_eq!(Request::decode(&request.encode()), Ok(request));
    }
    let request = Request::Scrape {
        token: TOKEN,
        transaction: 1,
        swarm_ids: vec![SwarmId::new([8; 20]); 70],
    };
    assert_eq!(Request::decode(&request.encode()), Ok(request));
    let mut v6 = reply();
    v6.peers = vec![
        "[2001:db8::1]:1".parse().unwrap(),
        "[::1]:2".parse().unwrap(),
    ];
    let entry = ScrapeEntry {
        complete: 1,
        downloaded: 2,
        incomplete: 3,
    };
    for (response, is_v6) in [
        (
            Response::Announce {
                transaction: 1,
                reply: reply(),
            },
            false,
        ),
        (
            Response::Announce {
                transaction: 1,
                reply: v6,
            },
            true,
        ),
        (
            Response::Connect {
                transaction: 2,
                token: TOKEN,
            },
            false,
        ),
        (
            Response::Scrape {
                transaction: 3,
                entries: vec![entry; 2],
            },
            true,
        ),
        (
            Response::Error {
                transaction: 4,
                message: "no".into(),
            },
            false,
        ),
    ] {
        assert_eq!(Response::decode(&response.encode(), is_v6), Ok(response));
    }
}

#[test]
fn bad_requests_are_refused_by_name() {
    let good = Request::Announce {
        token: TOKEN,
        transaction: 1,
        announce: announce(),
        path: String::new(),
    }
    .encode();
    let changed = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    let with = |options: &[u8]| [&good, options].concat();
    for (what, packet, expected) in [
        ("nothing", vec![], PacketError::Cut(0)),
        ("half a head", vec![0; 15], PacketError::Cut(15)),
        ("cut", good[..97].to_vec(), PacketError::Cut(97)),
        (
            "connect of another protocol",
            vec![0; 16],
            PacketError::Protocol,
        ),
        ("action", changed(11, 4), PacketError::Action(4)),
        ("event", changed(83, 4), PacketError::Field("event")),
        (
            "port",
            [&good[..96], &[0, 0]].concat(),
            PacketError::Field("port"),
        ),
        (
            "option without length",
            with(&[2]),
            PacketError::Field("option"),
        ),
        (
            "option cut off",
            with(&[2, 3, b'a']),
            PacketError::Field("option"),
        ),
        (
            "option of no text",
            with(&[2, 1, 0xff]),
            PacketError::Field("URL"),
        ),
        (
            "endless URL",
            with(&[&[2, 255][..], &[b'a'; 255]].concat().repeat(9)),
            PacketError::Field("option"),
        ),
        (
            "scrape of nothing",
            [&good[..8], &[0, 0, 0, 2, 0, 0, 0, 1]].concat(),
            PacketError::Field("number of swarms"),
        ),
        (
            "scrape of too many",
            [&good[..8], &[0, 0, 0, 2, 0, 0, 0, 1], &[0; 20 * 71]].concat(),
            PacketError::Field("number of swarms"),
        ),
        (
            "scrape cut off",
            [&good[..8], &[0, 0, 0, 2, 0, 0, 0, 1], &[0; 21]].concat(),
            PacketError::Field("number of swarms"),
        ),
    ] {
        assert_eq!(Request::decode(&packet), Err(expected), "{what}");
    }
    let unknown = with(&[1, 1, 9, 2, 7, 7, 0, 2]);
    assert!(
        Request::decode(&unknown).is_ok(),
        "unknown options, NOPs, and what follows the end"
    );
}

#[test]
fn bad_responses_are_refused_and_long_ones_cut() {
    for packet in [
        &b""[..],
        &[0; 7],
        &[0; 15],
        &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1],
        &[0, 0, 0, 4, 0, 0, 0, 0],
    ] {
        assert!(Response::decode(packet, false).is_err(), "{packet:?}");
    }
    let mut flood = reply();
    flood.peers = (0..3000_u32)
        .map(|n| (n.to_be_bytes(), if n % 3 == 0 { 0 } else { 1 }).into())
        .collect();
    let head = Response::Announce {
        transaction: 1,
        reply: reply(),
    }
    .encode();
    let peers = flood.peers.iter().flat_map(|peer: &std::net::SocketAddr| {
        let std::net::IpAddr::V4(ip) = peer.ip() else {
            panic!()
        };
        ip.octets().into_iter().chain(peer.port().to_be_bytes())
    });
    // Five bytes more: a peer that is cut off.
    let packet: Vec<u8> = head[..20]
        .iter()
        .copied()
        .chain(peers)
        .chain([9; 5])
        .collect();
    let Ok(Response::Announce { reply, .. }) = Response::decode(&packet, false) else {
        panic!("refused");
    };
    assert_eq!(reply.peers.len(), PEERS_PER_REPLY_MAX);
    assert!(reply.peers.iter().all(|peer| peer.port() != 0));
    let error = [
        &[0, 0, 0, 3, 0, 0, 0, 1][..],
        "\u{e9}\n".repeat(5000).as_bytes(),
    ]
    .concat();
    let Ok(Response::Error { message, .. }) = Response::decode(&error, false) else {
        panic!("refused");
    };
    assert!(message.len() <= TRACKER_REASON_LEN_MAX && message.starts_with("\u{e9} \u{e9}"));
}

fn at(began: Instant, secs: u64) -> Instant {
    began + Duration::from_secs(secs)
}

fn sent(client: &mut UdpClient) -> Option<Request> {
    let packet = client.poll_transmit()?;
    assert_eq!(client.poll_transmit(), None, "each packet once");
    Some(Request::decode(&packet).unwrap())
}

#[test]
fn a_client_connects_then_asks_and_uses_its_token_for_a_minute() {
    let began = Instant::now();
    let mut client = UdpClient::default();
    let ask = Ask::Announce(announce(), "/x".into());
    client.ask(began, ask.clone(), 1);
    assert_eq!(sent(&mut client), Some(Request::Connect { transaction: 1 }));
    let token = Response::Connect {
        transaction: 1,
        token: TOKEN,
    }
    .encode();
    client.handle_packet(began, &token, 2);
    let asked = Request::Announce {
        token: TOKEN,
        transaction: 2,
        announce: announce(),
        path: "/x".into(),
    };
    assert_eq!(sent(&mut client), Some(asked));
    // The token again, another transaction, the wrong kind, rubbish: none is an answer.
    let other = Response::Announce {
        transaction: 3,
        reply: reply(),
    }
    .encode();
    let wrong = Response::Scrape {
        transaction: 2,
        entries: vec![],
    }
    .encode();
    for packet in [token, other, wrong, b"rubbish that is long enough".to_vec()] {
        client.handle_packet(began, &packet, 9);
        assert_eq!(client.poll_outcome(), None);
    }
    let answer = Response::Announce {
        transaction: 2,
        reply: reply(),
    };
    client.handle_packet(began, &answer.encode(), 9);
    assert_eq!(client.poll_outcome(), Some(Ok(Answer::Announce(reply()))));
    assert_eq!((client.poll_outcome(), client.poll_timeout()), (None, None));

    let ids = vec![SwarmId::new([1; 20]), SwarmId::new([2; 20])];
    client.ask(at(began, 59), Ask::Scrape(ids.clone()), 4);
    let asked = Request::Scrape {
        token: TOKEN,
        transaction: 4,
        swarm_ids: ids.clone(),
    };
    assert_eq!(sent(&mut client), Some(asked));
    let entry = ScrapeEntry {
        complete: 7,
        ..ScrapeEntry::default()
    };
    let answer = Response::Scrape {
        transaction: 4,
        entries: vec![entry; 3],
    };
    client.handle_packet(at(began, 59), &answer.encode(), 9);
    let figures = vec![(ids[0], entry), (ids[1], entry)];
    assert_eq!(client.poll_outcome(), Some(Ok(Answer::Scrape(figures))));

    client.ask(at(began, 60), ask, 5);
    assert_eq!(
        sent(&mut client),
        Some(Request::Connect { transaction: 5 }),
        "too old"
    );
}

#[test]
fn silence_is_met_with_ever_longer_waits_and_then_given_up() {
    let began = Instant::now();
    let mut client = UdpClient::default();
    client.ask(began, Ask::Announce(announce(), String::new()), 1);
    let mut sent_at = Vec::new();
    let mut now = began;
    while let Some(due) = client.poll_timeout() {
        if sent(&mut client).is_some() {
            sent_at.push((now - began).as_secs());
        }
        client.handle_timeout(due - Duration::from_millis(1), 7);
        assert_eq!(client.poll_transmit(), None, "not yet");
        now = due;
        client.handle_timeout(now, 7);
    }
    assert_eq!(sent_at, [0, 15, 45, 105]);
    assert_eq!(now, at(began, 225));
    assert_eq!(client.poll_outcome(), Some(Err(ClientError::NoAnswer)));
    // From then on one packet for each question, until somebody answers.
    client.ask(now, Ask::Announce(announce(), String::new()), 8);
    assert!(sent(&mut client).is_some());
    let due = client.poll_timeout().unwrap();
    assert_eq!(due, now + Duration::from_secs(120));
    client.handle_timeout(due, 9);
    assert_eq!(client.poll_transmit(), None);
    assert_eq!(client.poll_outcome(), Some(Err(ClientError::NoAnswer)));
    client.ask(due, Ask::Announce(announce(), String::new()), 1);
    assert!(sent(&mut client).is_some());
    client.handle_packet(
        due,
        &Response::Connect {
            transaction: 1,
            token: TOKEN,
        }
        .encode(),
        2,
    );
    assert_eq!(client.poll_timeout(), Some(due + Duration::from_secs(15)));
}

#[test]
fn a_token_that_is_too_old_by_now_is_asked_for_again() {
    let began = Instant::now();
    let mut client = UdpClient::default();
    client.ask(began, Ask::Announce(announce(), String::new()), 1);
    let connect = Response::Connect {
        transaction: 1,
        token: TOKEN,
    };
    sent(&mut client);
    client.handle_packet(began, &connect.encode(), 2);
    sent(&mut client);
    client.handle_timeout(at(began, 15), 3);
    assert!(matches!(
        sent(&mut client),
        Some(Request::Announce { transaction: 3, .. })
    ));
    client.handle_timeout(at(began, 45), 4);
    assert!(matches!(sent(&mut client), Some(Request::Announce { .. })));
    client.handle_timeout(at(began, 105), 5);
    assert_eq!(sent(&mut client), Some(Request::Connect { transaction: 5 }));
}

#[test]
fn a_refusal_ends_the_question_and_the_token() {
    let now = Instant::now();
    let mut client = UdpClient::default();
    client.ask(now, Ask::Announce(announce(), String::new()), 1);
    sent(&mut client);
    let connect = Response::Connect {
        transaction: 1,
        token: TOKEN,
    };
    client.handle_packet(now, &connect.encode(), 2);
    sent(&mut client);
    let error = Response::Error {
        transaction: 2,
        message: "no".into(),
    };
    client.handle_packet(now, &error.encode(), 3);
    assert_eq!(
        client.poll_outcome(),
        Some(Err(ClientError::Refused("no".into())))
    );
    client.ask(now, Ask::Announce(announce(), String::new()), 4);
    assert_eq!(sent(&mut client), Some(Request::Connect { transaction: 4 }));
}

#[test]
fn packets_survive_changed_input() {
    let mut v6 = reply();
    v6.peers = vec!["[2001:db8::1]:1".parse().unwrap()];
    let corpus = [
        Request::Connect { transaction: 9 }.encode(),
        Request::Announce {
            token: TOKEN,
            transaction: 9,
            announce: announce(),
            path: "/a?b=c".into(),
        }
        .encode(),
        Request::Scrape {
            token: TOKEN,
            transaction: 9,
            swarm_ids: vec![SwarmId::new([8; 20]); 2],
        }
        .encode(),
        Response::Connect {
            transaction: 1,
            token: TOKEN,
        }
        .encode(),
        Response::Announce {
            transaction: 1,
            reply: reply(),
        }
        .encode(),
        Response::Announce {
            transaction: 1,
            reply: v6,
        }
        .encode(),
        Response::Scrape {
            transaction: 1,
            entries: vec![ScrapeEntry::default(); 2],
        }
        .encode(),
        Response::Error {
            transaction: 1,
            message: "no".into(),
        }
        .encode(),
    ];
    let now = Instant::now();
    crate::fuzzing::tests::hammer(&corpus, 15, 30_000, |data| {
        crate::fuzzing::udp_packet(now, data)
    });
}
