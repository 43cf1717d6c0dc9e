//! Figures asked for (BEP 48), of trackers that have them and of others.

use swarm_proto::metainfo::Magnet;

use super::*;
use crate::announce::Scraper;
use crate::node::AddBundle;
use crate::store::Storage;

type Lines = Arc<Mutex<Vec<String>>>;

/// A tracker that lists us, and answers what is no announce with `figures`; the first lines of
/// what it was asked.
async fn tracker(path: &str, figures: Vec<u8>) -> (String, Lines) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}{path}", listener.local_addr().unwrap());
    let lines = Lines::default();
    let seen = Arc::clone(&lines);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let head = head(&mut stream).await;
            let line = head.lines().next().unwrap_or_default().to_owned();
            let answer = match line.starts_with("GET /announce") {
                true => EMPTY.as_bytes(),
                false => &figures[..],
            };
            seen.lock().unwrap().push(line);
            let _ = stream.write_all(answer).await;
        }
    });
    (url, lines)
}

fn ok(body: &[u8]) -> Vec<u8> {
    [b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", body].concat()
}

/// Figures of the swarm of twenty zeros, and of one that nobody asked for.
fn figures() -> Vec<u8> {
    let entry = "d8:completei5e10:downloadedi50e10:incompletei7ee";
    let zeros = "\0".repeat(20);
    let others = "\u{1}".repeat(20);
    ok(format!("d5:filesd20:{zeros}{entry}20:{others}{entry}ee").as_bytes())
}

fn scrapes(lines: &Lines) -> usize {
    let lines = lines.lock().unwrap();
    lines
        .iter()
        .filter(|line| line.starts_with("GET /scrape?"))
        .count()
}

async fn asked(url: &str, trust: Trust) -> Result<Vec<(SwarmId, ScrapeEntry)>, AnnounceError> {
    let link = format!("magnet:?xt=urn:btih:{}", "0".repeat(40));
    let mut bundle = AddBundle::new(Magnet::parse(&link).unwrap().into(), Storage::Memory);
    match trust {
        Trust::CommandLine => bundle.trackers.push(url.to_owned()),
        _ => bundle.source = Magnet::parse(&format!("{link}&tr={url}")).unwrap().into(),
    }
    let scraper = Scraper::new(AddressPolicy::default(), "127.0.0.1".parse().unwrap()).unwrap();
    let [said] = <[_; 1]>::try_from(scraper.ask(&bundle, true).await).unwrap();
    assert_eq!(said.url, url);
    said.said
}

#[tokio::test]
async fn figures_come_without_an_announce() {
    let (url, lines) = tracker("/announce", figures()).await;
    let said = asked(&url, Trust::CommandLine).await.unwrap();
    let expected = ScrapeEntry {
        complete: 5,
        downloaded: 50,
        incomplete: 7,
    };
    assert!(said.contains(&(SwarmId::new([0; 20]), expected)));
    assert_eq!((scrapes(&lines), lines.lock().unwrap().len()), (1, 1));
}

#[tokio::test]
async fn what_is_no_answer_is_told_apart() {
    let refused = ok(b"d14:failure reason3:no!e");
    let error = asked(&tracker("/announce", refused).await.0, Trust::CommandLine).await;
    assert!(matches!(error, Err(AnnounceError::Refused { reason, .. }) if reason == "no!"));
    for rubbish in [&b"<html>"[..], b"de", b"", b"d5:filesi1ee"] {
        let (url, _) = tracker("/announce", ok(rubbish)).await;
        let error = asked(&url, Trust::CommandLine).await;
        assert!(
            matches!(error, Err(AnnounceError::Rubbish(_))),
            "{rubbish:?} {error:?}"
        );
    }
    let missing = b"HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n".to_vec();
    let error = asked(&tracker("/announce", missing).await.0, Trust::CommandLine).await;
    assert!(matches!(error, Err(AnnounceError::Status(status)) if status == 404));
    // BEP 48: where the last part of the path is not `announce`, there is nothing to ask.
    let (url, lines) = tracker("/x", figures()).await;
    let error = asked(&url, Trust::CommandLine).await;
    assert!(matches!(error, Err(AnnounceError::NoScrape)));
    assert_eq!(lines.lock().unwrap().len(), 0);
}

#[tokio::test]
async fn t27_a_strangers_tracker_inside_our_network_is_not_asked_for_figures() {
    let (url, lines) = tracker("/announce", figures()).await;
    let error = asked(&url, Trust::Stranger).await;
    assert!(matches!(error, Err(AnnounceError::Http(_))), "{error:?}");
    assert_eq!(lines.lock().unwrap().len(), 0);
}

#[tokio::test]
async fn whoever_looks_sees_figures_soon_and_the_tracker_is_asked_once() {
    let (url, lines) = tracker("/announce", figures()).await;
    let (shared, mut messages) = swarm(1);
    let handle = crate::swarm::SwarmHandle {
        shared: Arc::clone(&shared),
    };
    let task = tokio::spawn(announcer(&shared, &url, Trust::CommandLine).run());
    tokio::spawn(async move { while messages.recv().await.is_some() {} });
    let report = || handle.trackers().remove(&url);
    until("listed", || report().is_some()).await;
    assert_eq!(report().unwrap().completed, None, "nobody looked");
    assert_eq!(scrapes(&lines), 0);
    until("figures", || {
        handle.ask_figures();
        report().unwrap().completed == Some(50)
    })
    .await;
    // The tracker wants to hear of us each second; figures are asked for once a minute at most,
    // and last from one announce to the next.
    for _ in 0..25 {
        handle.ask_figures();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(report().unwrap().completed, Some(50));
    assert_eq!(scrapes(&lines), 1);
    assert!(lines.lock().unwrap().len() >= 3, "announces went on");
    shared.stop.cancel();
    task.await.unwrap();
}
