//! Several trackers on loopback, some of which are dead.

use std::net::SocketAddr;

use swarm_proto::magnet::Magnet;

use super::*;
use crate::announce::groups;
use crate::node::AddBundle;
use crate::store::Storage;

/// A URL at which nobody listens, and its port for as long as the answer lives.
async fn dead() -> (String, tokio::net::TcpSocket) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}/announce", socket.local_addr().unwrap());
    (url, socket)
}

const PEER: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nd8:intervali60e5:peers6:\u{7f}\u{0}\u{0}\u{1}\u{1a}\u{0}e";

#[tokio::test]
async fn where_the_first_tracker_is_dead_the_second_names_peers_and_a_third_hears_nothing() {
    let ((first, _port), (second, asked), (third, spared)) =
        tokio::join!(dead(), scripted(&[PEER]), scripted(&[PEER]));
    let (shared, mut messages) = swarm(2);
    let tiers: &[&[&str]] = &[&[&first], &[&second], &[&third]];
    let announcer = in_tiers(&shared, tiers, Trust::CommandLine);
    let task = tokio::spawn(announcer.run());
    for _ in 0..2 {
        let Some(Message::Peers { addrs, .. }) = messages.recv().await else {
            panic!("no peers");
        };
        assert_eq!(addrs, ["127.0.0.1:6656".parse::<SocketAddr>().unwrap()]);
    }
    until("both reported", || shared_reports(&shared).len() == 2).await;
    let told = shared_reports(&shared);
    assert!(told[&first].error.is_some() && told[&second].error.is_none());
    shared.stop.cancel();
    task.await.unwrap();
    let events: Vec<_> = asked.lock().unwrap().iter().map(|(a, _)| a.event).collect();
    use AnnounceEvent::{Started, Stopped};
    assert_eq!(events, [Started, Started, Stopped, Stopped]);
    assert_eq!(spared.lock().unwrap().len(), 0);
}

fn shared_reports(shared: &Arc<Shared>) -> std::collections::BTreeMap<String, TrackerReport> {
    let shared = Arc::clone(shared);
    crate::swarm::SwarmHandle { shared }.trackers()
}

#[tokio::test]
async fn of_one_tier_one_tracker_hears_of_us_and_each_is_as_likely() {
    let ((one, first), (other, second)) = tokio::join!(scripted(&[PEER]), scripted(&[PEER]));
    for _ in 0..60 {
        let (shared, mut messages) = swarm(1);
        let tier: &[&[&str]] = &[&[&one, &other]];
        let task = tokio::spawn(in_tiers(&shared, tier, Trust::CommandLine).run());
        messages.recv().await.expect("peers");
        shared.stop.cancel();
        task.await.unwrap();
    }
    let started = |asked: &Asked| {
        let asked = asked.lock().unwrap();
        let started = asked
            .iter()
            .filter(|(a, _)| a.event == AnnounceEvent::Started);
        started.count()
    };
    let (first, second) = (started(&first), started(&second));
    assert_eq!(first + second, 60);
    // Five standard deviations: one run in two million is further off.
    assert!(first.abs_diff(30) < 20, "{first} and {second}");
}

/// A tracker that takes the call and says nothing.
async fn mute() -> (String, tokio::net::TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/announce", listener.local_addr().unwrap());
    (url, listener)
}

#[tokio::test]
async fn a_tracker_that_takes_calls_and_says_nothing_does_not_keep_us_from_the_next() {
    let ((first, _listener), (second, asked)) = tokio::join!(mute(), scripted(&[PEER]));
    let (shared, mut messages) = swarm(1);
    let tiers: &[&[&str]] = &[&[&first], &[&second]];
    let task = tokio::spawn(in_tiers(&shared, tiers, Trust::CommandLine).run());
    let came = tokio::time::timeout(Duration::from_secs(60), messages.recv()).await;
    assert!(matches!(came, Ok(Some(Message::Peers { .. }))));
    assert_eq!(asked.lock().unwrap().len(), 1);
    shared.stop.cancel();
    task.await.unwrap();
}

#[test]
fn each_tracker_of_the_operator_is_told_and_one_of_the_torrents() {
    let magnet = "magnet:?xt=urn:btih:0123456789012345678901234567890123456789\
        &tr=http://a.test/announce&tr=udp://b.test:1&tr=http://own.test/announce\
        &tr=wss://c.test/&tr=http://d.test/announce?key=1";
    let magnet = Magnet::parse(magnet).unwrap();
    let mut bundle = AddBundle::new(magnet.into(), Storage::Memory);
    for own in ["http://own.test/announce", "http://other.test/x"] {
        bundle.trackers.push(own.to_owned());
    }
    bundle.tracker_trust = Trust::CommandLine;
    let (ours, theirs) = (Trust::CommandLine, Trust::Stranger);
    let found = groups::groups(&bundle, true);
    let one = |url: &str, trust| vec![(url.to_owned(), trust)];
    let expected = [
        vec![one("http://own.test/announce", ours)],
        vec![one("http://other.test/x", ours)],
        vec![
            one("http://a.test/announce", ours),
            // Harmless is the path `/announce` alone.
            one("udp://b.test:1", theirs),
            one("http://d.test/announce?key=1", theirs),
        ],
    ];
    assert_eq!(found, expected);
    assert_eq!(groups::groups(&bundle, false)[2].len(), 2, "no UDP");
    // However many it names, a bounded number is asked.
    let many: String = (0..50).map(|n| format!("&tr=http://t{n}.test/")).collect();
    let link = format!("magnet:?xt=urn:btih:0123456789012345678901234567890123456789{many}");
    bundle.source = Magnet::parse(&link).unwrap().into();
    let found = groups::groups(&bundle, true);
    assert_eq!(found.iter().flatten().flatten().count(), 16);
}
