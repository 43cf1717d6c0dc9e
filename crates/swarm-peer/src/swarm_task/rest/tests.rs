use std::net::SocketAddr;
use std::time::Duration;

use swarm_proto::download::{Download, DownloadConfig};
use swarm_proto::metainfo::{FileHasher, MetainfoBuilder};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::connector::Trust;
use crate::node::{AddBundle, Node, Source};
use crate::places::Way;
use crate::swarm::Shared;
use crate::{NodeConfig, Storage};

const NEVER: SocketAddr = SocketAddr::new(
    std::net::IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 1)),
    9,
);

async fn node(peers_max: usize) -> Node {
    let config = NodeConfig {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        peers_max,
        ..NodeConfig::default()
    };
    Node::start(config, CancellationToken::new()).await.unwrap()
}

fn bundle() -> AddBundle {
    let mut hasher = FileHasher::new(16_384);
    hasher.update(b"hello");
    let mut builder = MetainfoBuilder::new("rest.test", 16_384);
    builder.file(vec!["a".into()], hasher.finish());
    AddBundle::new(Source::from(builder.build().unwrap()), Storage::Memory)
}

/// A task that nothing runs but the test.
fn task(node: &Node, bundle: AddBundle) -> SwarmTask {
    let ids = bundle.source.swarm_ids();
    let stop = CancellationToken::new();
    let (shared, messages) = Shared::new("rest.test".into(), ids, None, stop);
    SwarmTask::new(node.clone(), shared, bundle, messages)
}

fn peers(task: &SwarmTask, addr: SocketAddr, trust: Trust) -> Message {
    Message::Peers {
        addrs: vec![addr],
        swarm_id: task.shared.swarm_ids[0],
        trust,
    }
}

#[tokio::test]
async fn without_a_free_connection_of_the_node_a_bundle_sleeps() {
    let node = node(1).await;
    let mut task = task(&node, bundle());
    let Source::Metainfo(meta) = task.bundle.source.clone() else {
        unreachable!("made of metainfo");
    };
    let have = swarm_proto::bitfield::Bitfield::none_of(meta.geometry());
    let source = swarm_proto::download::Source::Metainfo(meta);
    let download = Download::new(source, have, DownloadConfig::default(), 1);
    let taken = node.places().enter(NEVER, Way::In).unwrap();
    let now = Instant::now();
    task.told = true;
    task.note_peers(peers(&task, NEVER, Trust::CommandLine), now);
    task.call_peers(now, &download);
    assert_eq!(task.dialling, 0);
    assert!(task.next_wake(&download) > now + Duration::from_secs(1));
    // And it calls when there is one again.
    drop(taken);
    task.call_peers(now + Duration::from_secs(60), &download);
    assert_eq!(task.dialling, 1);
}

#[tokio::test]
async fn a_paused_bundle_that_is_removed_does_not_begin_again() {
    let node = node(10).await;
    let handle = node.add(bundle()).await.unwrap();
    handle.wait_checked().await.unwrap();
    handle.set_paused(true);
    while handle.state() != SwarmState::Paused {
        handle.state_after(&handle.state()).await;
    }
    let begun = *handle.shared.gained.borrow();
    assert!(node.remove(&handle.swarm_ids()[0]));
    while handle.state() != SwarmState::Stopped {
        handle.state_after(&handle.state()).await;
    }
    assert_eq!(*handle.shared.gained.borrow(), begun);
}

#[tokio::test]
async fn peers_named_by_hand_before_and_during_a_rest_are_known_after_it() {
    let node = node(10).await;
    let mut task = task(&node, bundle());
    let later = SocketAddr::new(NEVER.ip(), 10);
    task.note_peers(peers(&task, NEVER, Trust::CommandLine), Instant::now());
    let (shared, named) = (
        Arc::clone(&task.shared),
        peers(&task, later, Trust::CommandLine),
    );
    shared.paused.send_replace(true);
    let resume = tokio::spawn(async move {
        shared.tell(named).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        shared.paused.send_replace(false);
    });
    task.rest().await;
    resume.await.unwrap();
    task.note_operators_peers(Instant::now());
    for addr in [NEVER, later] {
        let trust = task.book.trust_of(&addr);
        assert_eq!(trust, Some(Trust::CommandLine), "{addr}");
    }
}

#[tokio::test]
async fn whoever_still_has_much_to_tell_does_not_keep_a_bundle_from_resting() {
    let node = node(10).await;
    let mut task = task(&node, bundle());
    let shared = Arc::clone(&task.shared);
    shared.paused.send_replace(true);
    task.life.spawn(async move {
        for port in 1..1000 {
            shared.tell(Message::DhtPort(port)).await;
        }
        shared.paused.send_replace(false);
    });
    let rest = tokio::time::timeout(Duration::from_secs(20), task.rest());
    rest.await.expect("both wait for each other");
}

#[tokio::test]
async fn a_bundle_paused_while_it_is_checked_announces_to_nobody() {
    let node = node(10).await;
    let mut bundle = bundle();
    bundle.trackers = vec!["http://127.0.0.1:9/announce".into()];
    let mut task = task(&node, bundle);
    task.shared.paused.send_replace(true);
    task.live().await.unwrap();
    assert!(task.content.is_some());
    assert!(task.life.is_empty(), "{} announcers", task.life.len());
    // And does when it goes on.
    task.shared.paused.send_replace(false);
    let lives = tokio::time::timeout(Duration::from_millis(200), task.live());
    assert!(lives.await.is_err(), "it goes on");
    assert_eq!(task.life.len(), 1);
}

#[tokio::test]
async fn what_was_wrong_at_the_start_is_told_after_a_rest_as_well() {
    let node = node(10).await;
    let dir = tempfile::tempdir().unwrap();
    let mut bundle = bundle();
    bundle.storage = Storage::Folder {
        dir: dir.path().to_owned(),
    };
    std::fs::create_dir(dir.path().join("rest.test")).unwrap();
    std::fs::write(dir.path().join("rest.test/a"), b"jello").unwrap();
    let mut task = task(&node, bundle);
    task.shared.paused.send_replace(true);
    for life in ["first", "second"] {
        task.live().await.unwrap();
        let stats = task.shared.stats.lock().unwrap().clone();
        assert_eq!(stats.wrong, [0], "{life}");
    }
}

/// Whether a rest that ends as soon as it may does so within a while.
async fn rests_soon(task: &mut SwarmTask) -> bool {
    let shared = Arc::clone(&task.shared);
    shared.paused.send_replace(true);
    let resume = tokio::spawn(async move {
        shared.life().cancelled().await;
        shared.paused.send_replace(false);
    });
    let rest = tokio::time::timeout(Duration::from_secs(3), task.rest()).await;
    resume.abort();
    rest.is_ok()
}

#[tokio::test]
async fn a_call_that_nobody_answers_does_not_keep_a_bundle_from_resting() {
    let node = node(10).await;
    let mut task = task(&node, bundle());
    let Source::Metainfo(meta) = task.bundle.source.clone() else {
        unreachable!("made of metainfo");
    };
    let have = swarm_proto::bitfield::Bitfield::none_of(meta.geometry());
    let source = swarm_proto::download::Source::Metainfo(meta);
    let download = Download::new(source, have, DownloadConfig::default(), 1);
    // A listener that takes nobody, with as many at its door as fit: the system answers no others.
    let deaf = tokio::net::TcpSocket::new_v4().unwrap();
    deaf.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let deaf = deaf.listen(1).unwrap();
    let addr = deaf.local_addr().unwrap();
    let mut door = Vec::new();
    while let Ok(stream) = tokio::time::timeout(
        Duration::from_millis(300),
        tokio::net::TcpStream::connect(addr),
    )
    .await
    {
        door.push(stream.unwrap());
        assert!(door.len() < 100, "everybody fits");
    }
    let now = Instant::now();
    task.note_peers(peers(&task, addr, Trust::CommandLine), now);
    task.call_peers(now, &download);
    assert_eq!(task.dialling, 1);
    assert!(rests_soon(&mut task).await, "it waits for an answer");
}

#[tokio::test]
async fn a_check_that_waits_for_others_does_not_keep_a_bundle_from_resting() {
    let node = node(10).await;
    let mut task = task(&node, bundle());
    let Source::Metainfo(meta) = task.bundle.source.clone() else {
        unreachable!("made of metainfo");
    };
    let others = [node.check_permit().await, node.check_permit().await];
    assert!(others.iter().all(Option::is_some));
    task.open_later(meta);
    assert!(rests_soon(&mut task).await, "it waits for its turn");
}

#[tokio::test]
async fn a_link_without_metadata_knows_its_bound_of_memory_after_a_rest_as_well() {
    let node = node(10).await;
    let mut bundle = bundle();
    let Source::Metainfo(meta) = &bundle.source else {
        unreachable!("made of metainfo");
    };
    let (v1, v2) = (meta.info_hash_v1(), meta.info_hash_v2());
    bundle.source = Source::from(meta.magnet());
    let mut task = task(&node, bundle);
    for life in ["first", "second"] {
        let source = swarm_proto::download::Source::Magnet { v1, v2 };
        let have = swarm_proto::bitfield::Bitfield::none(0);
        let mut download = Download::new(source, have, DownloadConfig::default(), 1);
        assert!(
            task.memory.regulate(Instant::now(), &mut download),
            "{life}"
        );
        assert!(rests_soon(&mut task).await);
    }
}
