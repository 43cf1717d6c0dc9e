//! Callers of one network, where a bundle has fewer places than they want.

use std::sync::Arc;

use bytes::BytesMut;
use swarm_proto::bitfield::Bitfield;
use swarm_proto::metainfo::{FileHasher, MetainfoBuilder};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::link::Stream;
use crate::link::accept::Incoming;
use crate::node::{AddBundle, Source};
use crate::places::Way;
use crate::swarm::Shared;
use crate::swarm::SwarmState;
use crate::{NodeConfig, Storage};

#[tokio::test]
async fn t22_callers_of_one_network_leave_places_of_a_seed_to_others() {
    let config = NodeConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        peers_per_swarm_max: 8,
        ..NodeConfig::default()
    };
    let node = Node::start(config, Default::default()).await.unwrap();
    let mut hasher = FileHasher::new(16_384);
    hasher.update(b"hello");
    let mut builder = MetainfoBuilder::new("slots.test", 16_384);
    builder.file(vec!["a".into()], hasher.finish());
    let meta = Arc::new(builder.build().unwrap());
    let bundle = AddBundle::new(Source::Metainfo(Arc::clone(&meta)), Storage::Memory);
    let ids = bundle.source.swarm_ids();
    let (shared, messages) = Shared::new("slots.test".into(), ids, None, Default::default());
    shared.state.send_replace(SwarmState::Seeding);
    let mut task = SwarmTask::new(node.clone(), shared, bundle, messages);
    let have = Bitfield::all(meta.geometry().piece_count());
    let source = swarm_proto::download::Source::Metainfo(meta);
    let mut download = Download::new(source, have, Default::default(), 1);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut callers = Vec::new();
    let mut call = async |task: &mut SwarmTask, addr: String| {
        let caller = TcpStream::connect(listener.local_addr().unwrap());
        callers.push(caller.await.unwrap());
        let (stream, _) = listener.accept().await.unwrap();
        let addr = addr.parse().unwrap();
        let incoming = Incoming {
            stream: Stream::Tcp(stream),
            addr,
            bytes: BytesMut::new(),
            place: node.places().enter(addr, Way::In).unwrap(),
        };
        task.answer(&mut download, incoming);
        task.act(&mut download);
    };
    for n in 0..100 {
        call(&mut task, format!("9.8.{n}.1:1")).await;
    }
    for n in 0..4 {
        call(&mut task, format!("60.{n}.1.1:1")).await;
    }
    let of = |net: &str| {
        let addrs = task.links.values().map(|link| link.addr.to_string());
        addrs.filter(|addr| addr.starts_with(net)).count()
    };
    assert_eq!(of("60."), 4, "all places are taken");
    // More of the first network change nothing.
    for n in 0..20 {
        call(&mut task, format!("9.8.200.{n}:1")).await;
    }
    let of = |net: &str| {
        let addrs = task.links.values().map(|link| link.addr.to_string());
        addrs.filter(|addr| addr.starts_with(net)).count()
    };
    assert_eq!((of("60."), of("9.8.200.")), (4, 0));
}
