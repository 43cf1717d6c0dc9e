//! Local service discovery (BEP 14): one multicast socket for all bundles.
//!
//! Off unless the operator asks for it; then whoever is heard may name itself, which is all that an
//! announce can do. Private torrents are neither announced nor listened for.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use swarm_proto::id::SwarmId;
use swarm_proto::limits;
use swarm_proto::wire::lsd::{LSD_GROUP, LsdAnnounce};
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

/// Announces and listens until the node shuts down. Where there is no such socket the node does
/// without.
pub(crate) async fn run(node: Node) {
    let socket = match open(node.listen_addr().ip()) {
        Ok(socket) => socket,
        Err(error) => return tracing::warn!("cannot look for peers on the local network: {error}"),
    };
    let cookie = format!("{:016x}", rand::random::<u64>());
    let mut announced = HashMap::new();
    let mut heard = 0;
    let mut look = tokio::time::interval(LOOK);
    let mut packet = vec![0; limits::LSD_PACKET_LEN_MAX];
    loop {
        tokio::select! {
            () = node.shutdown().cancelled() => return,
            _ = look.tick() => {
                heard = 0;
                announce(&node, &socket, &cookie, &mut announced).await;
            }
            received = socket.recv_from(&mut packet), if heard < HEARD_MAX => {
                heard += 1;
                match received {
                    Ok((len, from)) => {
                        let bytes = packet.get(..len).unwrap_or_default();
                        hear(&node, bytes, from.ip(), &cookie).await;
                    }
                    Err(error) => tracing::debug!("local network: {error}"),
                }
            }
        }
    }
}

/// A socket on the group's port, which others on this machine may share.
fn open(listen: IpAddr) -> io::Result<UdpSocket> {
    let own = match listen {
        IpAddr::V4(ip) => ip,
        IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
    };
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    // Bound to the group: nothing else that comes to the port is heard.
    socket.bind(&SocketAddr::V4(LSD_GROUP).into())?;
    socket.join_multicast_v4(LSD_GROUP.ip(), &own)?;
    socket.set_multicast_if_v4(&own)?;
    socket.set_multicast_ttl_v4(1)?;
    socket.set_multicast_loop_v4(true)?;
    UdpSocket::from_std(socket.into())
}

fn is_public(bundle: &SwarmHandle) -> bool {
    let private = bundle.try_metainfo().is_some_and(|meta| meta.is_private());
    // Whether it is private shows once it has been opened, or its metadata is here.
    !private && !matches!(bundle.state(), SwarmState::Checking)
}

async fn announce(
    node: &Node,
    socket: &UdpSocket,
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
        if let Err(error) = socket.send_to(&packet.encode(), LSD_GROUP).await {
            tracing::debug!("not announced on the local network: {error}");
        }
        announced.extend(ids.iter().map(|id| (*id, now)));
    }
}

async fn hear(node: &Node, packet: &[u8], from: IpAddr, cookie: &str) {
    let announce = match LsdAnnounce::decode(packet) {
        Ok(announce) => announce,
        Err(error) => return tracing::debug!(%from, %error, "announce ignored"),
    };
    if announce.cookie.as_deref() == Some(cookie) {
        return;
    }
    for id in &announce.swarm_ids {
        if let Some(bundle) = node.get(id).filter(is_public) {
            let addr = SocketAddr::new(from, announce.port);
            bundle.add_peers(vec![addr], Trust::Neighbour(from)).await;
        }
    }
}
