//! Fuzz bodies of what finds peers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use crate::id::{PeerId, SwarmId};
use crate::limits;
use crate::tracker::AnnounceRequest;
use crate::tracker::udp::{
    Ask, ConnectionToken, Heard, Request, Response, UdpClient, UdpServer, peers_that_fit,
};
use crate::wire::PexMessage;
use crate::wire::lsd::LsdAnnounce;

/// Packets to our UDP tracker, with a token and without: nobody unproven is sent more than it
/// sent, and what is passed on is bounded. `now` is any time.
pub fn udp_server(now: Instant, data: &[u8]) {
    let server = UdpServer::new(now, [0x5a; 16]);
    let source = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    let elsewhere = IpAddr::V6(Ipv6Addr::LOCALHOST);
    for asking in [source, elsewhere] {
        match server.hear(asking, data) {
            Heard::Reply(reply @ Response::Connect { .. }) => {
                assert!(reply.encode().len() <= data.len());
            }
            Heard::Reply(reply) => {
                assert!(matches!(reply, Response::Error { .. }));
                assert_eq!(asking, source, "a token guessed");
                assert!(reply.encode().len() <= limits::UDP_REPLY_LEN_MAX);
            }
            Heard::Announce { announce, .. } => {
                assert!(announce.port != 0 && announce.numwant <= Some(peers_that_fit(asking)));
            }
            Heard::Scrape { swarm_ids, .. } => {
                assert!((1..=limits::SCRAPE_HASHES_MAX).contains(&swarm_ids.len()));
            }
            Heard::Ignored(_) => {}
        }
    }
    // The same behind the right token.
    let connect = Request::Connect { transaction: 1 }.encode();
    let Heard::Reply(Response::Connect { token, .. }) = server.hear(elsewhere, &connect) else {
        panic!("a connect request is answered");
    };
    if let Some((_, rest)) = data.split_first_chunk::<8>() {
        let packet = [&token.0.to_be_bytes(), rest].concat();
        if let Heard::Announce { announce, .. } = server.hear(elsewhere, &packet) {
            assert!(announce.port != 0 && announce.numwant <= Some(peers_that_fit(elsewhere)));
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
        assert_eq!(LsdAnnounce::decode(&announce.encode()), Ok(announce));
    }
}
