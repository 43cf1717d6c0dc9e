//! Fuzz bodies of what finds peers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use sha1::{Digest, Sha1};

use crate::id::{PeerId, SwarmId};
use crate::limits;
use crate::tracker::udp::{
    Ask, ConnectionToken, Heard, Request, Response, UdpClient, UdpServer, peers_that_fit,
};
use crate::tracker::{AnnounceRequest, ws};
use crate::wire::PexMessage;
use crate::wire::lsd::{LSD_GROUP, LsdAnnounce};

/// Packets to our UDP tracker, with a token and without: nobody unproven is sent more than it
/// sent, and what is passed on is bounded. `now` is any time.
///
/// The key comes from the packet's own hash: with the same key each time, a fuzzer that watches
/// comparisons reads the token there and shows it in its next packet, as no stranger can.
pub fn udp_server(now: Instant, data: &[u8]) {
    let [seed @ .., _, _, _, _] = <[u8; 20]>::from(Sha1::digest(data));
    let server = UdpServer::new(now, seed);
    for source in [
        IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        IpAddr::V6(Ipv6Addr::LOCALHOST),
    ] {
        match server.hear(source, data) {
            Heard::Reply(reply @ Response::Connect { .. }) => {
                assert!(reply.encode().len() <= data.len());
            }
            Heard::Ignored(_) => {}
            heard => panic!("a token guessed: {heard:?}"),
        }
        // The same behind the right token.
        let connect = Request::Connect { transaction: 1 }.encode();
        let Heard::Reply(Response::Connect { token, .. }) = server.hear(source, &connect) else {
            panic!("a connect request is answered");
        };
        let Some((_, rest)) = data.split_first_chunk::<8>() else {
            continue;
        };
        let packet = [&token.0.to_be_bytes(), rest].concat();
        match server.hear(source, &packet) {
            Heard::Reply(reply) => {
                assert!(matches!(reply, Response::Error { .. }));
                assert!(reply.encode().len() <= limits::UDP_REPLY_LEN_MAX);
            }
            Heard::Announce { announce, .. } => {
                assert!(announce.port != 0 && announce.numwant <= Some(peers_that_fit(source)));
            }
            Heard::Scrape { swarm_ids, .. } => {
                assert!((1..=limits::SCRAPE_HASHES_MAX).contains(&swarm_ids.len()));
            }
            Heard::Ignored(_) => assert!(packet.len() < 16),
        }
    }
}

/// Packets of a UDP tracker and its client: writing undoes reading, bounds hold, and only an answer
/// to what was asked is an outcome. `now` is any time.
pub fn udp_packet(now: Instant, data: &[u8]) {
    if let Ok(request) = Request::decode(data) {
        assert_eq!(Request::decode(&request.encode()), Ok(request));
    }
    for v6 in [false, true] {
        let Ok(response) = Response::decode(data, v6) else {
            continue;
        };
        match &response {
            Response::Announce { reply, .. } => {
                assert!(reply.peers.len() <= limits::PEERS_PER_REPLY_MAX);
                assert!(reply.peers.iter().all(|peer| peer.port() != 0));
                // IPv4 in IPv6's clothes is written as what it is.
                let plain = reply.peers.iter().all(|peer| peer.is_ipv6() == v6);
                if plain {
                    assert_eq!(Response::decode(&response.encode(), v6), Ok(response));
                }
            }
            _ => assert_eq!(Response::decode(&response.encode(), v6), Ok(response)),
        }
    }

    let mut client = UdpClient::default();
    let announce = AnnounceRequest::new(SwarmId::new([1; 20]), PeerId::new([2; 20]), 1);
    client.ask(now, Ask::Announce(announce, String::new()), 1);
    client.handle_packet(now, data, 2);
    let known = matches!(
        Response::decode(data, false),
        Ok(Response::Error { transaction: 1, .. })
    );
    assert_eq!(
        client.poll_outcome().is_some(),
        known,
        "a token comes first"
    );
    let token = ConnectionToken(7);
    let connected = Response::Connect {
        transaction: 1,
        token,
    };
    client.handle_packet(now, &connected.encode(), 2);
    client.handle_packet(now, data, 3);
    let known = matches!(
        Response::decode(data, false),
        Ok(Response::Announce { transaction: 2, .. } | Response::Error { transaction: 2, .. })
    );
    assert_eq!(client.poll_outcome().is_some(), known);
}

/// Messages of peers that speak WebSocket: writing undoes reading, bounds hold, and what is passed
/// on is hardly longer than what came.
pub fn ws_message(data: &[u8]) {
    let Ok(request) = ws::Request::decode(data) else {
        return;
    };
    let passed_on = match &request {
        ws::Request::Announce(announce) => {
            assert!(announce.offers.len() <= limits::WS_OFFERS_MAX);
            let (swarm_id, peer_id) = (announce.swarm_id, announce.peer_id);
            let offers = announce.offers.iter();
            let offers = offers.map(|offer| ws::Response::Offer(swarm_id, peer_id, offer).encode());
            offers.collect()
        }
        ws::Request::Answer(answer) => {
            let ws::Answer { offer_id, sdp, .. } = answer;
            vec![ws::Response::Answer(answer.swarm_id, answer.peer_id, offer_id, sdp).encode()]
        }
        ws::Request::Scrape(scrape) => {
            assert!((1..=limits::SCRAPE_HASHES_MAX).contains(&scrape.swarm_ids.len()));
            Vec::new()
        }
    };
    assert!(passed_on.iter().all(|text| text.len() <= data.len() + 64));
    let written = request.encode();
    if written.len() <= limits::WS_MESSAGE_LEN_MAX {
        assert_eq!(ws::Request::decode(written.as_bytes()), Ok(request));
    }
}

/// ut_pex: writing undoes reading, and bounds hold.
pub fn pex(data: &[u8]) {
    let Ok(message) = PexMessage::decode(data) else {
        return;
    };
    let len_max = limits::PEX_PEERS_PER_MESSAGE_MAX;
    assert!(message.added.len() <= len_max && message.dropped.len() <= len_max);
    assert!(message.added.iter().all(|peer| peer.addr.port() != 0));
    assert_eq!(PexMessage::decode(&message.encode()), Ok(message));
}

/// Announces on the local network: writing undoes reading, and bounds hold.
pub fn lsd(data: &[u8]) {
    if let Ok(announce) = LsdAnnounce::decode(data) {
        assert!((1..=limits::LSD_SWARMS_MAX).contains(&announce.swarm_ids.len()));
        assert_eq!(
            LsdAnnounce::decode(&announce.encode(LSD_GROUP.into())),
            Ok(announce)
        );
    }
}
