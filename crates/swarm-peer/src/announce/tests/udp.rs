//! Announces over UDP, to a small tracker of our own and to a real one.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use swarm_proto::tracker::udp::{ConnectionToken, Request, Response};
use tokio::net::UdpSocket;

use super::*;

/// What a tracker heard, with the path that came along.
type Heard = Arc<Mutex<Vec<(AnnounceRequest, String)>>>;

/// A tracker that names everybody who announced, and forgets who stops. It hears nothing of its
/// first `deaf` packets.
async fn tracker(on: &str, deaf: usize) -> (SocketAddr, Heard) {
    let socket = UdpSocket::bind(on).await.unwrap();
    let addr = socket.local_addr().unwrap();
    let heard = Heard::default();
    let told = Arc::clone(&heard);
    tokio::spawn(async move {
        let mut swarms = BTreeMap::<SwarmId, Vec<SocketAddr>>::new();
        let mut packet = [0; 2048];
        let mut ignored = 0;
        while let Ok((len, from)) = socket.recv_from(&mut packet).await {
            if ignored < deaf {
                ignored += 1;
                continue;
            }
            // As if from the address: another than it was given to has no use for it.
            let token = ConnectionToken(u64::from(from.port()));
            let response = match Request::decode(&packet[..len]).unwrap() {
                Request::Connect { transaction } => Response::Connect { transaction, token },
                Request::Announce {
                    token: shown,
                    transaction,
                    announce,
                    path,
                } => {
                    assert_eq!(shown, token);
                    let peers = swarms.entry(announce.swarm_id).or_default();
                    let peer = SocketAddr::new(from.ip(), announce.port);
                    peers.retain(|known| *known != peer);
                    let reply = AnnounceReply {
                        interval: 1,
                        peers: peers.clone(),
                        ..AnnounceReply::default()
                    };
                    if announce.event != AnnounceEvent::Stopped {
                        peers.push(peer);
                    }
                    told.lock().unwrap().push((announce, path));
                    Response::Announce { transaction, reply }
                }
                Request::Scrape {
                    token: shown,
                    transaction,
                    swarm_ids,
                } => {
                    assert_eq!(shown, token);
                    let count = |id| swarms.get(id).map_or(0, Vec::len);
                    let entry = |id| ScrapeEntry {
                        complete: count(id) as u32,
                        ..ScrapeEntry::default()
                    };
                    Response::Scrape {
                        transaction,
                        entries: swarm_ids.iter().map(entry).collect(),
                    }
                }
                request => Response::Error {
                    transaction: request.transaction(),
                    message: "not here".into(),
                },
            };
            socket.send_to(&response.encode(), from).await.unwrap();
        }
    });
    (addr, heard)
}

#[tokio::test]
async fn both_ids_are_announced_over_udp_from_start_to_stop() {
    let (addr, heard) = tracker("127.0.0.1:0", 0).await;
    let url = format!("udp://localhost:{}/x/announce?key=1", addr.port());
    let (shared, mut messages) = swarm(2);
    let mut first = announcer(&shared, &url, Trust::CommandLine);
    // `localhost` is two addresses; we listen on one of the families.
    first.node.listen = "127.0.0.1:1001".parse().unwrap();
    let first = tokio::spawn(first.run());
    tokio::spawn(async move { while messages.recv().await.is_some() {} });
    let events = |event| {
        let heard = heard.lock().unwrap();
        let with = heard.iter().filter(|(a, _)| a.event == event);
        let mut ids: Vec<_> = with.map(|(a, _)| a.swarm_id).collect();
        ids.sort();
        ids.dedup();
        ids.len()
    };
    until("started", || events(AnnounceEvent::Started) == 2).await;
    until("regular", || events(AnnounceEvent::Regular) == 2).await;
    shared.state.send_replace(SwarmState::Seeding);
    until("completed", || events(AnnounceEvent::Completed) == 2).await;
    {
        let heard = heard.lock().unwrap();
        let (announce, path) = &heard[0];
        assert_eq!(path, "/x/announce?key=1");
        assert_eq!((announce.key, announce.numwant), (Some(1), Some(NUMWANT)));
    }

    let (other, mut messages) = swarm(2);
    let second = announcer(&other, &url, Trust::CommandLine);
    let second = tokio::spawn(second.run());
    let found = loop {
        let Some(Message::Peers { addrs, trust, .. }) = messages.recv().await else {
            panic!("no peers");
        };
        if !addrs.is_empty() {
            break (addrs, trust);
        }
    };
    let near = Trust::Neighbour("127.0.0.1".parse().unwrap());
    assert_eq!(found, (vec!["127.0.0.1:1001".parse().unwrap()], near));
    tokio::spawn(async move { while messages.recv().await.is_some() {} });
    shared.stop.cancel();
    other.stop.cancel();
    first.await.unwrap();
    second.await.unwrap();
    assert_eq!(events(AnnounceEvent::Stopped), 2);
}

#[tokio::test]
async fn the_next_address_of_a_name_is_tried_where_one_is_dead() {
    // Nobody listens at the IPv4 address: the system says so at once.
    let (addr, heard) = tracker("[::1]:0", 0).await;
    let url = format!("udp://localhost:{}", addr.port());
    let (shared, _messages) = swarm(1);
    let mut announcer = announcer(&shared, &url, Trust::CommandLine);
    announcer.node.listen = "[::]:6881".parse().unwrap();
    let started = AnnounceEvent::Started;
    let first = announcer.announce_all(0, started).await;
    assert!(first.is_err());
    let second = announcer.announce_all(0, started).await;
    assert!(second.is_ok());
    assert_eq!(heard.lock().unwrap()[0].1, "", "nothing to say by BEP 41");
}

#[tokio::test]
async fn a_lost_packet_is_sent_again() {
    let (addr, heard) = tracker("127.0.0.1:0", 1).await;
    let (shared, _messages) = swarm(1);
    let mut announcer = announcer(&shared, &format!("udp://{addr}"), Trust::CommandLine);
    let began = Instant::now();
    let answered = announcer.announce_all(0, AnnounceEvent::Started);
    answered.await.unwrap();
    assert_eq!(heard.lock().unwrap().len(), 1);
    assert!(began.elapsed() >= Duration::from_secs(15));
}

#[tokio::test]
async fn t27_a_strangers_udp_tracker_inside_our_network_hears_nothing() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = socket.local_addr().unwrap().port();
    let (shared, _messages) = swarm(1);
    for host in [
        "127.0.0.1",
        "localhost",
        "[::ffff:127.0.0.1]",
        "0.0.0.0",
        "2130706433",
    ] {
        let url = format!("udp://{host}:{port}/announce");
        let mut announcer = announcer(&shared, &url, Trust::Stranger);
        let asked = announcer.announce_all(0, AnnounceEvent::Started);
        let asked = tokio::time::timeout(Duration::from_secs(5), asked).await;
        assert!(matches!(asked, Ok(Err(AnnounceError::Udp(_)))), "{host}");
    }
    let mut packet = [0; 16];
    assert!(socket.try_recv(&mut packet).is_err(), "a packet came");
}

#[tokio::test]
async fn a_udp_url_without_host_and_port_is_none() {
    let (shared, _messages) = swarm(1);
    for url in [
        "udp://127.0.0.1/announce",
        "udp:127.0.0.1:1",
        "udp://:1",
        "udp://[::1",
    ] {
        let mut announcer = announcer(&shared, url, Trust::CommandLine);
        let asked = announcer.announce_all(0, AnnounceEvent::Started);
        let asked = tokio::time::timeout(Duration::from_secs(5), asked).await;
        assert!(matches!(asked, Ok(Err(AnnounceError::Udp(_)))), "{url}");
    }
}

#[tokio::test]
async fn figures_come_over_udp_in_the_order_they_were_asked_for() {
    let (addr, heard) = tracker("127.0.0.1:0", 0).await;
    let (shared, _messages) = swarm(2);
    let url = format!("udp://{addr}");
    let mut announcer = announcer(&shared, &url, Trust::CommandLine);
    let figures = announcer.trackers[0].scrape(&shared.swarm_ids);
    let nobody: Vec<_> = shared.swarm_ids.iter().map(|id| (*id, 0)).collect();
    let seeds = |figures: Figures| -> Vec<_> {
        let each = figures.into_iter();
        each.map(|(id, entry)| (id, entry.complete)).collect()
    };
    assert_eq!(seeds(figures.await.unwrap()), nobody);
    let announced = announcer.announce_all(0, AnnounceEvent::Started).await;
    announced.unwrap();
    let figures = announcer.trackers[0].scrape(&shared.swarm_ids);
    let one: Vec<_> = shared.swarm_ids.iter().map(|id| (*id, 1)).collect();
    assert_eq!(seeds(figures.await.unwrap()), one);
    assert_eq!(heard.lock().unwrap().len(), 2, "only the two announces");
}

/// A tracker at one port of both families.
async fn tracker_of_both() -> (u16, [Heard; 2]) {
    loop {
        let (v4, heard_v4) = tracker("127.0.0.1:0", 0).await;
        let v6 = format!("[::1]:{}", v4.port());
        if UdpSocket::bind(&v6).await.is_ok() {
            let (_, heard_v6) = tracker(&v6, 0).await;
            return (v4.port(), [heard_v4, heard_v6]);
        }
    }
}

#[tokio::test]
async fn who_is_met_by_both_families_is_announced_over_both() {
    let (port, heard) = tracker_of_both().await;
    let url = format!("udp://localhost:{port}");
    for (listen, expected) in [
        ("[::]:6881", [1, 1]),
        ("0.0.0.0:6881", [1, 0]),
        ("[::1]:6881", [0, 1]),
    ] {
        let (shared, messages) = swarm(1);
        tokio::spawn(drain(messages));
        let mut announcer = listening_at(listen, &shared, &[&[&url]], Trust::CommandLine);
        let before = heard.each_ref().map(|heard| heard.lock().unwrap().len());
        let told = announcer.announce_all(0, AnnounceEvent::Started).await;
        told.unwrap();
        let after = heard.each_ref().map(|heard| heard.lock().unwrap().len());
        assert_eq!(
            [after[0] - before[0], after[1] - before[1]],
            expected,
            "{listen}"
        );
        announcer.say_stopped(vec![0]).await;
    }
    let events = |heard: &Heard, event| {
        let heard = heard.lock().unwrap();
        heard.iter().filter(|(told, _)| told.event == event).count()
    };
    let stopped = heard
        .each_ref()
        .map(|heard| events(heard, AnnounceEvent::Stopped));
    assert_eq!(stopped, [2, 2]);
}

async fn drain(mut messages: tokio::sync::mpsc::Receiver<Message>) {
    while messages.recv().await.is_some() {}
}

#[tokio::test]
async fn a_family_that_does_not_answer_holds_up_the_other_for_a_while_only() {
    // It hears nothing of all that comes by IPv6.
    let (v4, heard) = tracker("127.0.0.1:0", 0).await;
    let _mute = UdpSocket::bind(format!("[::1]:{}", v4.port()))
        .await
        .unwrap();
    let url = format!("udp://localhost:{}", v4.port());
    let (shared, messages) = swarm(1);
    tokio::spawn(drain(messages));
    let mut announcer = listening_at("[::]:6881", &shared, &[&[&url]], Trust::CommandLine);
    let began = Instant::now();
    let told = announcer.announce_all(0, AnnounceEvent::Started).await;
    told.unwrap();
    assert_eq!(heard.lock().unwrap().len(), 1);
    assert!(began.elapsed() < Duration::from_secs(12), "waited for both");
}
