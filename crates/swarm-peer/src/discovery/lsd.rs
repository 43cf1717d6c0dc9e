//! Local service discovery (BEP 14): a multicast group of each family, for all bundles.
//!
//! Off unless the operator asks for it; then whoever is heard may name itself, which is all that an
//! announce can do. Private torrents are neither announced nor listened for.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use socket2::{Domain, Protocol, Socket, Type};
use swarm_proto::id::SwarmId;
use swarm_proto::limits;
use swarm_proto::wire::lsd::{LSD_GROUP, LSD_GROUP_V6, LsdAnnounce};
use tokio::net::UdpSocket;

use crate::connector::Trust;
use crate::node::Node;
use crate::swarm::{SwarmHandle, SwarmState};

/// Between announces of one swarm (BEP 14).
const EVERY: Duration = Duration::from_secs(5 * 60);
/// How often it is looked which swarms are due.
const LOOK: Duration = Duration::from_secs(2);
/// Announces heard within [`LOOK`]; a hundred neighbours send a few.
const HEARD_MAX: usize = 200;

/// A group of the local network, joined.
struct Group {
    hears: Arc<UdpSocket>,
    says: Arc<UdpSocket>,
    to: SocketAddr,
}

/// Announces and listens until the node shuts down, over each family that it listens on. Where
/// there is no such socket the node does without.
pub(crate) async fn run(node: Node) {
    let cookie = format!("{:016x}", rand::random::<u64>());
    let (v4, v6) = match node.listen_addr().ip() {
        IpAddr::V4(ip) => (Some(join_v4(ip)), None),
        IpAddr::V6(ip) if ip.is_unspecified() => {
            (Some(join_v4(Ipv4Addr::UNSPECIFIED)), Some(join_v6(ip)))
        }
        IpAddr::V6(ip) => (None, Some(join_v6(ip))),
    };
    let mut groups = Vec::new();
    let mut missing = Vec::new();
    for joined in v4.into_iter().chain(v6) {
        match joined {
            Ok(group) => groups.push(group),
            Err(error) => missing.push(error),
        }
    }
    for error in missing {
        match groups.is_empty() {
            true => tracing::warn!("cannot look for peers on the local network: {error}"),
            false => tracing::debug!("local network by one family alone: {error}"),
        }
    }
    let met = groups.into_iter().map(|group| meet(&node, group, &cookie));
    join_all(met).await;
}

/// Announces to a group and listens to it.
async fn meet(node: &Node, group: Group, cookie: &str) {
    let mut announced = HashMap::new();
    let mut heard = 0;
    let mut look = tokio::time::interval(LOOK);
    let mut packet = vec![0; limits::LSD_PACKET_LEN_MAX];
    loop {
        tokio::select! {
            () = node.shutdown().cancelled() => return,
            _ = look.tick() => {
                heard = 0;
                announce(node, &group, cookie, &mut announced).await;
            }
            received = group.hears.recv_from(&mut packet), if heard < HEARD_MAX => {
                heard += 1;
                match received {
                    Ok((len, from)) => {
                        let bytes = packet.get(..len).unwrap_or_default();
                        hear(node, bytes, from, cookie).await;
                    }
                    Err(error) => tracing::debug!("local network: {error}"),
                }
            }
        }
    }
}

/// A socket on the group's port, which others on this machine may share, to be joined to it.
fn at_port(group: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(group), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    // Bound to the group: nothing else that comes to the port is heard.
    socket.bind(&group.into())?;
    Ok(socket)
}

fn join_v4(own: Ipv4Addr) -> io::Result<Group> {
    let to = SocketAddr::V4(LSD_GROUP);
    let socket = at_port(to)?;
    socket.join_multicast_v4(LSD_GROUP.ip(), &own)?;
    socket.set_multicast_if_v4(&own)?;
    socket.set_multicast_ttl_v4(1)?;
    socket.set_multicast_loop_v4(true)?;
    let hears = Arc::new(UdpSocket::from_std(socket.into())?);
    let says = Arc::clone(&hears);
    Ok(Group { hears, says, to })
}

/// On the interface that the system takes for this group.
fn join_v6(own: Ipv6Addr) -> io::Result<Group> {
    let to = SocketAddr::V6(LSD_GROUP_V6);
    let hears = at_port(to)?;
    hears.join_multicast_v6(LSD_GROUP_V6.ip(), 0)?;
    // Bound to our address, so that others hear that one.
    let says = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))?;
    says.set_nonblocking(true)?;
    says.set_multicast_hops_v6(1)?;
    says.set_multicast_loop_v6(true)?;
    says.bind(&SocketAddr::from((own, 0)).into())?;
    Ok(Group {
        hears: Arc::new(UdpSocket::from_std(hears.into())?),
        says: Arc::new(UdpSocket::from_std(says.into())?),
        to,
    })
}

fn is_public(bundle: &SwarmHandle) -> bool {
    let private = bundle.try_metainfo().is_some_and(|meta| meta.is_private());
    // Whether it is private shows once it has been opened, or its metadata is here.
    !private && !matches!(bundle.state(), SwarmState::Checking)
}

async fn announce(
    node: &Node,
    group: &Group,
    cookie: &str,
    announced: &mut HashMap<SwarmId, Instant>,
) {
    let now = Instant::now();
    announced.retain(|_, at| now < *at + EVERY);
    let bundles = node.bundles().into_iter().filter(is_public);
    let ids = bundles.flat_map(|bundle| bundle.swarm_ids().to_vec());
    let due: Vec<_> = ids.filter(|id| !announced.contains_key(id)).collect();
    for ids in due.chunks(limits::LSD_SWARMS_MAX) {
        let packet = LsdAnnounce {
            port: node.listen_addr().port(),
            swarm_ids: ids.to_vec(),
            cookie: Some(cookie.to_owned()),
        };
        if let Err(error) = group.says.send_to(&packet.encode(group.to), group.to).await {
            tracing::debug!("not announced on the local network: {error}");
        }
        announced.extend(ids.iter().map(|id| (*id, now)));
    }
}

async fn hear(node: &Node, packet: &[u8], from: SocketAddr, cookie: &str) {
    let announce = match LsdAnnounce::decode(packet) {
        Ok(announce) => announce,
        Err(error) => return tracing::debug!(%from, %error, "announce ignored"),
    };
    if announce.cookie.as_deref() == Some(cookie) {
        return;
    }
    for id in &announce.swarm_ids {
        if let Some(bundle) = node.get(id).filter(is_public) {
            // With the interface by which a link-local address is met.
            let mut addr = from;
            addr.set_port(announce.port);
            bundle
                .add_peers(vec![addr], Trust::Neighbour(from.ip()))
                .await;
        }
    }
}

#[cfg(test)]
mod tests {
    use swarm_proto::download::Want;
    use swarm_proto::metainfo::{FileHasher, MetainfoBuilder};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::node::{AddBundle, Source};
    use crate::{NodeConfig, Storage};

    /// Over the interface that this machine takes for IPv6 multicast; there has to be one.
    #[tokio::test]
    async fn neighbours_meet_by_multicast_over_ipv6_alone() {
        let shutdown = CancellationToken::new();
        let mut handles = Vec::new();
        for cookie in ["one", "two"] {
            let node = Node::start(NodeConfig::default(), shutdown.clone());
            let node = node.await.unwrap();
            let mut hasher = FileHasher::new(16_384);
            hasher.update(b"hello");
            let mut builder = MetainfoBuilder::new("near.test", 16_384);
            builder.file(vec!["a".into()], hasher.finish());
            let source = Source::from(builder.build().unwrap());
            let mut bundle = AddBundle::new(source, Storage::Memory);
            bundle.want = Want::None;
            let handle = node.add(bundle).await.unwrap();
            handle.wait_checked().await.unwrap();
            handles.push(handle);
            let group = join_v6(Ipv6Addr::UNSPECIFIED).unwrap();
            tokio::spawn(async move { meet(&node, group, cookie).await });
        }
        let met = async {
            loop {
                for handle in &handles {
                    if let Some(peer) = handle.peers().await.first() {
                        return peer.addr;
                    }
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let met = tokio::time::timeout(Duration::from_secs(20), met).await;
        assert!(met.expect("they meet").is_ipv6());
        shutdown.cancel();
    }
}
