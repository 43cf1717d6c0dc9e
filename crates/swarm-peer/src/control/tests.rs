use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use serde_json::Value;
use swarm_proto::metainfo::{FileHasher, MetainfoBuilder};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{AddBundle, NodeConfig, Source, Storage};

/// A node with one bundle, and its control socket.
async fn controlled(path: &Path) -> (Node, CancellationToken, Control) {
    let shutdown = CancellationToken::new();
    let config = NodeConfig {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        ..NodeConfig::default()
    };
    let node = Node::start(config, shutdown.clone()).await.unwrap();
    let mut hasher = FileHasher::new(16_384);
    hasher.update(b"hello");
    let mut builder = MetainfoBuilder::new("site.test", 16_384);
    builder.file(vec!["a".into()], hasher.finish());
    let meta = builder.build().unwrap();
    let bundle = AddBundle::new(Source::from(meta), Storage::Memory);
    let handle = node.add(bundle).await.unwrap();
    handle.wait_checked().await.unwrap();
    let control = Control::open(path, node.clone(), shutdown.clone()).unwrap();
    (node, shutdown, control)
}

async fn asked(path: &Path, request: Request) -> Result<Value, AskError> {
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || ask(&path, &request))
        .await
        .unwrap()
}

/// What a caller who writes these bytes and then nothing more gets.
async fn raw(path: &Path, bytes: Vec<u8>) -> String {
    let path: PathBuf = path.to_owned();
    let said = tokio::task::spawn_blocking(move || {
        let mut stream = UnixStream::connect(path).unwrap();
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut said = String::new();
        let _ = stream.read_to_string(&mut said);
        said
    });
    said.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_change_while_it_runs() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run/peer.sock");
    let (node, shutdown, _control) = controlled(&path).await;
    let told = asked(&path, Request::Status { peers: true }).await.unwrap();
    let bundle = &told["bundles"][0];
    assert_eq!(bundle["name"], "site.test");
    assert_eq!(bundle["connected"], serde_json::json!([]));
    assert_eq!(told["upload_limit"], Value::Null);
    let v2 = bundle["info_hash_v2"].as_str().unwrap();
    let limit =
        |bundle: Option<&str>, upload: Option<&str>, download: Option<&str>| Request::Limit {
            bundle: bundle.map(str::to_owned),
            upload: upload.map(str::to_owned),
            download: download.map(str::to_owned),
        };
    asked(&path, limit(None, Some("8Mbit"), None))
        .await
        .unwrap();
    asked(&path, limit(Some(&v2[..8]), None, Some("1MB/s")))
        .await
        .unwrap();
    let one = node.bundles().remove(0);
    assert_eq!(node.uplink().rate(), Some(8_000_000));
    assert_eq!(node.downlink().rate(), None);
    assert_eq!(one.uplink().rate(), None);
    assert_eq!(one.downlink().rate(), Some(8_000_000));
    // One bad rate, and nothing of the request is done.
    for bad in [
        limit(None, Some("unlimited"), Some("fast")),
        limit(Some("ffffffff"), Some("unlimited"), None),
        limit(Some(""), Some("unlimited"), None),
    ] {
        let refused = asked(&path, bad).await;
        assert!(matches!(refused, Err(AskError::Refused(_))), "{refused:?}");
    }
    assert_eq!(node.uplink().rate(), Some(8_000_000));
    asked(&path, limit(None, Some("unlimited"), None))
        .await
        .unwrap();
    assert_eq!(node.uplink().rate(), None);
    asked(&path, Request::Stop).await.unwrap();
    shutdown.cancelled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t29_what_a_browser_could_send_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("peer.sock");
    let (node, shutdown, control) = controlled(&path).await;
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let http = "POST / HTTP/1.1\r\nHost: rebound.test\r\nContent-Length: 13\r\n\r\n";
    let stop = "{\"do\":\"stop\"}";
    for bytes in [
        format!("{http}{stop}\n").into_bytes(),
        b"".to_vec(),
        b"\n{\"do\":\"stop\"}\n".to_vec(),
        b"null\n".to_vec(),
        b"{\"do\":\"halt\"}\n".to_vec(),
        b"{\"do\":\"status\",\"peers\":true,\"and\":\"stop\"}\n".to_vec(),
        b"{\"do\":\"limit\",\"upload\":8}\n".to_vec(),
        b"\xff\xfe\n".to_vec(),
        [b"{\"do\":\"stop\"}".as_slice(), &[b' '; REQUEST_LEN_MAX]].concat(),
        vec![b'['; 1 << 20],
    ] {
        let said = raw(&path, bytes.clone()).await;
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
        // Who wrote far too much may see the connection reset before the answer.
        assert!(
            said.starts_with("{\"error\":") || (said.is_empty() && bytes.len() > 1 << 19),
            "{shown}: {said}"
        );
    }
    assert!(!shutdown.is_cancelled());
    assert_eq!(node.uplink().rate(), None);
    drop(control);
    assert!(!path.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn t29_only_a_socket_at_which_nobody_answers_makes_way() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("peer.sock");
    // Left behind: the listener is gone, its file is not.
    drop(UnixListener::bind(&path).unwrap());
    let (node, shutdown, _control) = controlled(&path).await;
    let again = Control::open(&path, node.clone(), shutdown.clone());
    assert!(matches!(again, Err(OpenError::Taken(_))), "{again:?}");
    assert!(asked(&path, Request::Announce).await.is_ok());
    let file = dir.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    let refused = Control::open(&file, node, shutdown);
    assert!(matches!(refused, Err(OpenError::NoSocket(_))));
    assert_eq!(std::fs::read(&file).unwrap(), b"precious");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_says_nothing_keeps_nobody_else_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("peer.sock");
    let (_node, _shutdown, _control) = controlled(&path).await;
    let silent: Vec<_> = (0..CALLERS)
        .map(|_| UnixStream::connect(&path).unwrap())
        .collect();
    assert!(asked(&path, Request::Announce).await.is_ok());
    drop(silent);
}

/// One fewer than are served at a time.
const CALLERS: usize = 7;

/// Waits until `status` says of the first bundle what is wanted.
async fn until(path: &Path, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..600 {
        let told = asked(path, Request::Status { peers: true }).await.unwrap();
        let bundle = told["bundles"][0].clone();
        if wanted(&bundle) {
            return bundle;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("never {what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_is_added_paused_resumed_and_removed_while_it_runs() {
    let dir = tempfile::tempdir().unwrap();
    let bytes: Vec<u8> = (0..600_000_u32)
        .map(|n| (n.wrapping_mul(n) >> 7) as u8)
        .collect();
    let mut hasher = FileHasher::new(16_384);
    hasher.update(&bytes);
    let mut builder = MetainfoBuilder::new("more.test", 16_384);
    builder.file(vec!["a".into()], hasher.finish());
    let meta = builder.build().unwrap();
    let torrent = dir.path().join("a.torrent");
    std::fs::write(&torrent, meta.to_bytes()).unwrap();
    std::fs::create_dir_all(dir.path().join("seed/more.test")).unwrap();
    std::fs::write(dir.path().join("seed/more.test/a"), &bytes).unwrap();
    // Both are asked by their sockets; one has all of it.
    let add = |out: &str, peers: Vec<SocketAddr>| {
        Request::Add(Added {
            what: torrent.to_str().unwrap().into(),
            out: dir.path().join(out),
            peers,
            ..Added::default()
        })
    };
    let (seed_at, leech_at) = (dir.path().join("seed.sock"), dir.path().join("leech.sock"));
    let (seed, _stop_seed, _seed_control) = controlled(&seed_at).await;
    let (leech, _stop_leech, _leech_control) = controlled(&leech_at).await;
    for (node, path) in [(&seed, &seed_at), (&leech, &leech_at)] {
        let first = node.bundles().remove(0).swarm_ids()[0].to_string();
        asked(path, Request::Remove { bundle: first })
            .await
            .unwrap();
        assert!(node.bundles().is_empty());
    }
    asked(&seed_at, add("seed", Vec::new())).await.unwrap();
    until(&seed_at, "a seed", |bundle| bundle["state"] == "seeding").await;
    // Slow enough to be paused in the middle.
    leech.downlink().set_rate(Some(800_000));
    asked(&leech_at, add("leech", vec![seed.listen_addr()]))
        .await
        .unwrap();
    until(&leech_at, "begun", |bundle| {
        bundle["have"].as_u64() > Some(3)
    })
    .await;
    let pause = Request::Pause { bundle: None };
    asked(&leech_at, pause).await.unwrap();
    let paused = until(&leech_at, "paused", |bundle| bundle["state"] == "paused").await;
    assert_eq!(
        (&paused["peers"], &paused["connected"]),
        (&0.into(), &serde_json::json!([]))
    );
    until(&seed_at, "alone", |bundle| bundle["peers"] == 0).await;
    let have = leech.bundles().remove(0).stats().have;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let rested = leech.bundles().remove(0).stats();
    assert!(
        rested.have == have && rested.have < rested.pieces,
        "{rested:?}"
    );
    // A paused bundle answers nobody who calls.
    let handle = seed.bundles().remove(0);
    handle
        .add_peers(
            vec![leech.listen_addr()],
            crate::connector::Trust::CommandLine,
        )
        .await;
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert!(leech.bundles().remove(0).peers().await.is_empty());
    leech.downlink().set_rate(None);
    asked(&leech_at, Request::Resume { bundle: None })
        .await
        .unwrap();
    let whole = until(&leech_at, "whole", |bundle| bundle["state"] == "seeding").await;
    assert_eq!(
        std::fs::read(dir.path().join("leech/more.test/a")).unwrap(),
        bytes
    );
    // What was there before the pause is counted on, and was not fetched again.
    let all = whole["down_bytes"].as_u64().unwrap();
    assert!(
        all >= bytes.len() as u64 && rested.down_bytes > 0,
        "{all} after {}",
        rested.down_bytes
    );
    let again = all - rested.down_bytes;
    assert!(
        again <= u64::from(rested.pieces - have + 1) * 16_384,
        "{again}"
    );
    // A seed that rested seeds on.
    asked(&leech_at, Request::Pause { bundle: None })
        .await
        .unwrap();
    until(&leech_at, "paused", |bundle| bundle["state"] == "paused").await;
    asked(&leech_at, Request::Resume { bundle: None })
        .await
        .unwrap();
    until(&leech_at, "seeding", |bundle| bundle["state"] == "seeding").await;
    let id = whole["info_hash_v1"].as_str().unwrap().to_owned();
    asked(&leech_at, Request::Remove { bundle: id })
        .await
        .unwrap();
    assert!(leech.bundles().is_empty());
    assert!(dir.path().join("leech/more.test/a").exists());
    for bad in [
        "relative.torrent",
        "/nonexistent/x.torrent",
        "magnet:?xt=urn:btih:zz",
    ] {
        let added = Added {
            what: bad.into(),
            out: dir.path().to_owned(),
            ..Added::default()
        };
        let refused = asked(&leech_at, Request::Add(added)).await;
        assert!(
            matches!(refused, Err(AskError::Refused(_))),
            "{bad}: {refused:?}"
        );
    }
}

mod added;
