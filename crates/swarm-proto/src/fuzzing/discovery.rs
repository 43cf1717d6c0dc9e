//! Fuzz bodies of what finds peers.

use std::time::Instant;

use crate::id::{PeerId, SwarmId};
use crate::limits;
use crate::tracker::AnnounceRequest;
use crate::tracker::udp::{Ask, ConnectionToken, Request, Response, UdpClient};
use crate::wire::PexMessage;
use crate::wire::lsd::LsdAnnounce;

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
