use std::sync::Mutex;
use std::time::Instant;

use swarm_proto::tracker::http::parse_announce;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::connector::{AddressPolicy, Connector};
use crate::http::HttpClient;

mod scrape;
mod tiers;
mod udp;

/// The head of a request, or what came of it.
async fn head(stream: &mut TcpStream) -> String {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
            break;
        }
    }
    String::from_utf8_lossy(&request).into_owned()
}

type Asked = Arc<Mutex<Vec<(AnnounceRequest, Instant)>>>;

/// A tracker that answers each announce with the next of its answers, the last one for ever.
async fn scripted(answers: &'static [&'static str]) -> (String, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    scripted_at(listener, answers)
}

fn scripted_at(listener: TcpListener, answers: &'static [&'static str]) -> (String, Asked) {
    let url = format!("http://{}/announce", listener.local_addr().unwrap());
    let asked = Asked::default();
    let heard = Arc::clone(&asked);
    tokio::spawn(async move {
        let mut answers = answers.iter().peekable();
        while let Ok((mut stream, _)) = listener.accept().await {
            let head = head(&mut stream).await;
            let query = head.split([' ', '?']).nth(2).unwrap_or_default();
            let announce = parse_announce(query).expect("an announce");
            heard.lock().unwrap().push((announce, Instant::now()));
            let answer = match answers.len() {
                1 => answers.peek().copied(),
                _ => answers.next(),
            };
            let _ = stream.write_all(answer.unwrap().as_bytes()).await;
        }
    });
    (url, asked)
}

fn swarm(ids: usize) -> (Arc<Shared>, tokio::sync::mpsc::Receiver<Message>) {
    let ids = (0..ids).map(|n| SwarmId::new([n as u8; 20])).collect();
    Shared::new("test".into(), ids, None, CancellationToken::new())
}

fn announcer(shared: &Arc<Shared>, url: &str, trust: Trust) -> Announcer {
    in_tiers(shared, &[&[url]], trust)
}

fn in_tiers(shared: &Arc<Shared>, tiers: &[&[&str]], trust: Trust) -> Announcer {
    listening_at("127.0.0.1:6881", shared, tiers, trust)
}

fn listening_at(listen: &str, shared: &Arc<Shared>, tiers: &[&[&str]], trust: Trust) -> Announcer {
    let listen: SocketAddr = listen.parse().unwrap();
    let http = HttpClient::from_address(AddressPolicy::default(), listen.ip()).unwrap();
    let connector = Connector::new(AddressPolicy::default(), Duration::from_secs(5));
    let connector = connector.with_source(listen.ip());
    let node = Announcing {
        routes: routes(&http, &connector, listen.ip()),
        peer_id: PeerId::new([7; 20]),
        key: 1,
        listen,
    };
    let named = |tier: &&[&str]| {
        let urls = tier.iter();
        urls.map(|url| ((*url).to_owned(), trust)).collect()
    };
    Announcer::new(node, Arc::clone(shared), tiers.iter().map(named).collect())
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_secs(20), "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

const EMPTY: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nd8:intervali1e5:peers0:e";

#[tokio::test]
async fn both_ids_are_announced_from_start_to_stop() {
    let (url, asked) = scripted(&[EMPTY]).await;
    let (shared, mut messages) = swarm(2);
    let task = tokio::spawn(announcer(&shared, &url, Trust::CommandLine).run());
    tokio::spawn(async move { while messages.recv().await.is_some() {} });
    let events = |event| {
        let asked = asked.lock().unwrap();
        let with = asked.iter().filter(|(a, _)| a.event == event);
        let mut ids: Vec<_> = with.map(|(a, _)| a.swarm_id).collect();
        ids.sort();
        ids.dedup();
        ids.len()
    };
    until("started", || events(AnnounceEvent::Started) == 2).await;
    // The interval of a second is honoured.
    until("regular", || events(AnnounceEvent::Regular) == 2).await;
    shared.state.send_replace(SwarmState::Seeding);
    until("completed", || events(AnnounceEvent::Completed) == 2).await;
    shared.stop.cancel();
    task.await.unwrap();
    assert_eq!(events(AnnounceEvent::Stopped), 2);
    let asked = asked.lock().unwrap();
    let completed = asked
        .iter()
        .filter(|(a, _)| a.event == AnnounceEvent::Completed);
    assert_eq!(completed.count(), 2, "completed is said once");
    let (first, then) = (&asked[0].1, &asked[2].1);
    assert!(then.duration_since(*first) >= Duration::from_millis(950));
}

#[tokio::test]
async fn rubbish_is_no_answer_and_is_asked_less_often() {
    for rubbish in [
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n<html>It works!</html>",
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\ni5e",
        "HTTP/1.1 500 No\r\nConnection: close\r\n\r\n",
        "\u{1}\u{2} rubbish",
    ] {
        let answers: &'static [&'static str] = Box::leak(Box::new([rubbish]));
        let (url, asked) = scripted(answers).await;
        let (shared, _messages) = swarm(1);
        let mut announcer = announcer(&shared, &url, Trust::CommandLine);
        let started = AnnounceEvent::Started;
        let failed = announcer.announce_all(0, started).await;
        assert!(failed.is_err(), "{rubbish}");
        let task = tokio::spawn(announcer.run());
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert_eq!(asked.lock().unwrap().len(), 2, "{rubbish}");
        shared.stop.cancel();
        task.await.unwrap();
        // Who was never listed has nothing to take back.
        assert_eq!(asked.lock().unwrap().len(), 2, "{rubbish}");
    }
}

#[tokio::test]
async fn trackers_hear_what_was_moved_since_started_alone() {
    let (url, asked) = scripted(&[EMPTY]).await;
    let (shared, _messages) = swarm(1);
    // Of a life before a pause.
    shared.stats.lock().unwrap().up_bytes = 70;
    shared.stats.lock().unwrap().down_bytes = 100;
    let mut announcer = announcer(&shared, &url, Trust::CommandLine);
    let started = AnnounceEvent::Started;
    announcer.announce_all(0, started).await.unwrap();
    shared.stats.lock().unwrap().down_bytes = 105;
    announcer.announce_all(0, started).await.unwrap();
    let asked = asked.lock().unwrap();
    let moved: Vec<_> = asked
        .iter()
        .map(|(a, _)| (a.uploaded, a.downloaded))
        .collect();
    assert_eq!(moved, [(0, 0), (0, 5)]);
}

#[tokio::test]
async fn gone_is_gone() {
    let (url, asked) = scripted(&["HTTP/1.1 410 Gone\r\nConnection: close\r\n\r\n"]).await;
    let (shared, _messages) = swarm(2);
    let run = announcer(&shared, &url, Trust::CommandLine).run();
    tokio::time::timeout(Duration::from_secs(5), run)
        .await
        .expect("it ends by itself");
    assert_eq!(asked.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_strangers_tracker_inside_our_network_is_never_asked() {
    let (url, asked) = scripted(&[EMPTY]).await;
    let (shared, _messages) = swarm(1);
    let mut announcer = announcer(&shared, &url, Trust::Stranger);
    let started = AnnounceEvent::Started;
    let refused = announcer.announce_all(0, started).await;
    assert!(matches!(refused, Err(AnnounceError::Http(_))));
    assert_eq!(asked.lock().unwrap().len(), 0);
}

#[tokio::test]
async fn peers_come_with_the_trust_of_their_tracker() {
    let (url, _) = scripted(&[
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nd8:intervali60e5:peers6:\u{7f}\u{0}\u{0}\u{1}\u{1a}\u{0}e",
    ])
    .await;
    let (shared, mut messages) = swarm(1);
    let mut announcer = announcer(&shared, &url, Trust::CommandLine);
    let started = AnnounceEvent::Started;
    let answered = announcer.announce_all(0, started).await;
    answered.unwrap();
    let Some(Message::Peers { addrs, trust, .. }) = messages.recv().await else {
        panic!("no peers");
    };
    assert_eq!(addrs, ["127.0.0.1:6656".parse().unwrap()]);
    assert_eq!(trust, Trust::Neighbour("127.0.0.1".parse().unwrap()));
}

/// As over UDP, with a name that has one family alone besides.
#[tokio::test]
async fn over_http_too_each_family_hears_of_who_is_met_by_both() {
    let (v4, v6) = loop {
        let v4 = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = ("::1", v4.local_addr().unwrap().port());
        if let Ok(v6) = TcpListener::bind(at).await {
            break (v4, v6);
        }
    };
    let port = v4.local_addr().unwrap().port();
    let asked = [v4, v6].map(|listener| scripted_at(listener, &[EMPTY]).1);
    let heard = || asked.each_ref().map(|asked| asked.lock().unwrap().len());
    let mut before = heard();
    for (host, more) in [
        ("localhost", [1, 1]),
        ("127.0.0.1", [1, 0]),
        ("[::1]", [0, 1]),
    ] {
        let url = format!("http://{host}:{port}/announce");
        let (shared, _messages) = swarm(1);
        let mut announcer = listening_at("[::]:6881", &shared, &[&[&url]], Trust::CommandLine);
        let told = announcer.announce_all(0, AnnounceEvent::Started).await;
        told.unwrap();
        let now = heard();
        assert_eq!([now[0] - before[0], now[1] - before[1]], more, "{host}");
        before = now;
    }
}
