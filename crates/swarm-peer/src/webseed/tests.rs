use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use swarm_proto::geometry::ByteRange;
use swarm_proto::metainfo::{FileHasher, Metainfo, MetainfoBuilder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::{AddBundle, Node, NodeConfig, Source, Storage, SwarmHandle};

const PIECE: u32 = 64 * 1024;

/// What a server of the test does with one request: the file's bytes and the range asked for.
type Answer = dyn Fn(&[u8], ByteRange) -> Vec<u8> + Send + Sync;

#[derive(Default)]
struct Log {
    connections: AtomicUsize,
    requests: AtomicUsize,
    /// Answers that the client did not hear to their end.
    broken_off: AtomicUsize,
    heads: Mutex<Vec<String>>,
}

fn content() -> Vec<(&'static str, Vec<u8>)> {
    let bytes = |len: usize, by: usize| (0..len).map(|at| (at / by) as u8).collect();
    vec![
        ("a b.txt", bytes(100, 1)),
        ("big", bytes(3_000_000, 5)),
        ("ü", bytes(70_000, 3)),
    ]
}

fn torrent() -> Metainfo {
    let mut builder = MetainfoBuilder::new("site", PIECE);
    for (name, bytes) in content() {
        let mut hasher = FileHasher::new(PIECE);
        hasher.update(&bytes);
        builder.file(vec![name.to_owned()], hasher.finish());
    }
    builder.build().unwrap()
}

/// Serves the torrent's files; what goes over the wire is made by `answer`.
async fn serve(
    answer: impl Fn(&[u8], ByteRange) -> Vec<u8> + Send + Sync + 'static,
) -> (String, Arc<Log>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (log, answer): (Arc<Log>, Arc<Answer>) = (Arc::default(), Arc::new(answer));
    let seen = Arc::clone(&log);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            seen.connections.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(talk(stream, Arc::clone(&seen), Arc::clone(&answer)));
        }
    });
    (format!("http://{addr}/"), log)
}

async fn talk(mut stream: TcpStream, log: Arc<Log>, answer: Arc<Answer>) -> Option<()> {
    let files: HashMap<_, _> = content().into_iter().collect();
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.ok()?);
        }
        let head = String::from_utf8(head).ok()?;
        log.requests.fetch_add(1, Ordering::Relaxed);
        let path = head.split(' ').nth(1)?;
        let file = match path {
            "/site/a%20b.txt" => &files["a b.txt"],
            "/site/big" => &files["big"],
            "/site/%C3%BC" => &files["ü"],
            _ => return None,
        };
        let range = head.split("bytes=").nth(1)?.split("\r\n").next()?;
        let (first, last) = range.split_once('-')?;
        let range = ByteRange::new(first.parse().ok()?, last.parse::<u64>().ok()? + 1);
        log.heads.lock().unwrap().push(head.clone());
        if stream.write_all(&answer(file, range)).await.is_err() {
            log.broken_off.fetch_add(1, Ordering::Relaxed);
            return None;
        }
    }
}

fn within(file: &[u8], range: ByteRange) -> &[u8] {
    &file[range.start as usize..range.end as usize]
}

/// As a good server answers, with one more header.
fn fine(file: &[u8], range: ByteRange, more: &str) -> Vec<u8> {
    let (first, last, total) = (range.start, range.end - 1, file.len());
    let mut bytes = format!(
        "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {first}-{last}/{total}\r\n\
         {more}Content-Length: {}\r\n\r\n",
        range.len()
    )
    .into_bytes();
    bytes.extend(within(file, range));
    bytes
}

async fn node() -> Node {
    let config = NodeConfig {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        ..NodeConfig::default()
    };
    Node::start(config, CancellationToken::new()).await.unwrap()
}

async fn add(node: &Node, urls: &[&String]) -> SwarmHandle {
    let bundle = AddBundle {
        web_seeds: urls.iter().map(|url| (*url).clone()).collect(),
        ..AddBundle::new(Source::from(torrent()), Storage::Memory)
    };
    node.add(bundle).await.unwrap()
}

async fn is_complete_and_right(handle: &SwarmHandle) {
    let done = tokio::time::timeout(Duration::from_secs(60), handle.wait_complete());
    done.await.expect("it never completed").unwrap();
    let meta = handle.try_metainfo().unwrap();
    for (name, bytes) in content() {
        let mut files = meta.files().iter();
        let index = files
            .position(|file| !file.pad && file.path == [name])
            .unwrap();
        let whole = ByteRange::new(0, bytes.len() as u64);
        let mut reader = handle.file_reader(index, whole).unwrap();
        let mut got = Vec::new();
        reader.read_to_end(&mut got).await.unwrap();
        assert!(got == bytes, "{name} differs");
    }
}

#[tokio::test]
async fn a_web_seed_alone_brings_everything_over_few_connections() {
    let (url, log) = serve(|file, range| fine(file, range, "")).await;
    let node = node().await;
    let handle = add(&node, &[&url]).await;
    is_complete_and_right(&handle).await;
    let (connections, requests) = (&log.connections, &log.requests);
    assert!(connections.load(Ordering::Relaxed) <= 2, "{connections:?}");
    assert!(requests.load(Ordering::Relaxed) < 20, "{requests:?}");
    let heads = log.heads.lock().unwrap();
    assert!(
        heads
            .iter()
            .all(|head| head.contains("accept-encoding: identity\r\n"))
    );
    assert_eq!(handle.stats().wasted_bytes, 0);
}

#[tokio::test]
async fn a_torrent_s_own_web_seed_is_asked_only_where_it_may_lead() {
    let (url, log) = serve(|file, range| fine(file, range, "")).await;
    let node = node().await;
    let bundle = |web_seed_trust| AddBundle {
        web_seed_trust,
        ..AddBundle::new(
            Source::from(torrent().set_web_seeds([url.clone()])),
            Storage::Memory,
        )
    };
    let refused = node.add(bundle(Trust::Stranger)).await.unwrap();
    let waited = tokio::time::timeout(Duration::from_secs(1), refused.wait_complete()).await;
    assert!(waited.is_err() && log.connections.load(Ordering::Relaxed) == 0);
    assert!(node.remove(&refused.swarm_ids()[0]));
    refused.wait_complete().await.unwrap_err();
    let near = named_by_torrent([], ["http://127.0.0.1:1/announce"]);
    let handle = node.add(bundle(near)).await.unwrap();
    is_complete_and_right(&handle).await;
}

#[test]
fn a_torrent_leads_no_nearer_than_what_the_operator_named_beside_it() {
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    for (peers, trackers, expected) in [
        (vec![], vec![], Trust::Stranger),
        (
            vec!["8.8.8.8"],
            vec!["http://9.9.9.9/announce"],
            Trust::Stranger,
        ),
        (vec!["10.0.0.1"], vec![], Trust::Neighbour(ip("10.0.0.1"))),
        (
            vec![],
            vec!["udp://[fd00::1]:80"],
            Trust::Neighbour(ip("fd00::1")),
        ),
        (
            vec!["10.0.0.1"],
            vec!["http://localhost:1/announce"],
            Trust::Neighbour(ip("127.0.0.1")),
        ),
        (
            vec![],
            vec!["http://tracker.example/", "x"],
            Trust::Stranger,
        ),
    ] {
        let got = named_by_torrent(peers.into_iter().map(ip), trackers);
        assert_eq!(got, expected);
    }
    let near = Trust::Neighbour(ip("10.0.0.1"));
    for (url, trust, harmless) in [
        ("http://10.0.0.1/files/", near, true),
        ("http://10.0.0.1/reboot?now=1", near, false),
        ("http://localhost/reboot?now=1", near, false),
        ("http://10.0.0.1/get?f=1", Trust::CommandLine, true),
        ("http://w.example/get?f=1", Trust::Stranger, true),
        ("x", Trust::CommandLine, false),
    ] {
        assert_eq!(is_harmless(url, trust), harmless, "{url}");
    }
}

#[tokio::test]
async fn t8_a_lying_web_seed_is_left_for_an_honest_one() {
    let (liar, lies) = serve(|file, range| {
        let mut answer = fine(file, range, "");
        let last = answer.len() - 1;
        answer[last] ^= 1;
        answer
    })
    .await;
    let node = node().await;
    let handle = add(&node, &[&liar]).await;
    while handle.stats().wasted_bytes == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // What was on its way when the lie was found.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let asked = lies.requests.load(Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(
        lies.requests.load(Ordering::Relaxed),
        asked,
        "asked after a lie"
    );
    assert!(node.remove(&handle.swarm_ids()[0]));
    let (honest, _) = serve(|file, range| fine(file, range, "")).await;
    let handle = loop {
        // The old swarm may take a moment to end.
        let handle = add(&node, &[&liar, &honest]).await;
        if handle.state() != crate::SwarmState::Stopped {
            break handle;
        }
    };
    is_complete_and_right(&handle).await;
}

/// Ten megabytes that would become gigabytes, thrice packed.
fn bomb(encoding: &str) -> Vec<u8> {
    let mut bytes = vec![0; 10_000_000];
    for _ in 0..3 {
        bytes = match encoding {
            "br" => {
                let mut packed = Vec::new();
                let params = brotli::enc::BrotliEncoderParams {
                    quality: 1,
                    ..Default::default()
                };
                brotli::BrotliCompress(&mut &bytes[..], &mut packed, &params).unwrap();
                packed
            }
            _ => zstd::bulk::compress(&bytes, 1).unwrap(),
        };
    }
    bytes
}

#[tokio::test]
async fn t5_compressed_answers_are_refused_before_a_byte_is_taken() {
    for encoding in ["br", "zstd", "gzip", "deflate", "zstd, zstd, zstd"] {
        let packed = bomb(encoding);
        let (url, log) = serve(move |file, range| {
            let (first, last, total) = (range.start, range.end - 1, file.len());
            let mut bytes = format!(
                "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {first}-{last}/{total}\r\n\
                 Content-Encoding: {encoding}\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n",
                packed.len()
            )
            .into_bytes();
            bytes.extend(&packed);
            bytes.extend(b"\r\n0\r\n\r\n");
            bytes
        })
        .await;
        let node = node().await;
        let handle = add(&node, &[&url]).await;
        while log.requests.load(Ordering::Relaxed) == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::time::sleep(Duration::from_millis(600)).await;
        let stats = handle.stats();
        assert_eq!((stats.down_bytes, stats.have), (0, 0), "{encoding}");
        assert_eq!(
            log.requests.load(Ordering::Relaxed),
            1,
            "asked again at once"
        );
    }
}

#[tokio::test]
async fn t6_a_body_without_end_is_cut_at_what_was_asked_for() {
    for chunked in [false, true] {
        let (url, log) = serve(move |file, range| {
            let (first, last, total) = (range.start, range.end - 1, file.len());
            let length = match chunked {
                true => "Transfer-Encoding: chunked\r\n",
                false => "",
            };
            let mut bytes = format!(
                "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {first}-{last}/{total}\r\n{length}\r\n"
            )
            .into_bytes();
            if chunked {
                bytes.extend(b"4000000\r\n");
            }
            bytes.extend(within(file, range));
            bytes.resize(bytes.len() + (64 << 20), 7);
            bytes
        })
        .await;
        let node = node().await;
        let handle = add(&node, &[&url]).await;
        let cut = async {
            while log.broken_off.load(Ordering::Relaxed) == 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let cut = tokio::time::timeout(Duration::from_secs(30), cut).await;
        cut.expect("the body was heard to its end");
        tokio::time::sleep(Duration::from_secs(2)).await;
        let requests = log.requests.load(Ordering::Relaxed);
        assert_eq!(requests, 1, "it is asked on as if nothing were wrong");
        assert!(handle.stats().down_bytes <= u64::from(PIECE));
    }
}

#[tokio::test]
async fn a_server_without_ranges_is_not_asked_over_and_over() {
    let (url, log) = serve(|file, _| {
        let mut bytes =
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", file.len()).into_bytes();
        bytes.extend(file);
        bytes
    })
    .await;
    let node = node().await;
    let handle = add(&node, &[&url]).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let stats = handle.stats();
    assert_eq!(stats.wasted_bytes, 0);
    let asked = log.requests.load(Ordering::Relaxed);
    assert!(asked <= 4, "{asked} requests: it does not step back");
}
