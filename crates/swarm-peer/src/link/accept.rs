//! Whoever calls: sorted by handshake, and kept waiting in a bounded [`Lobby`] until it is there.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use swarm_proto::download::host;
use swarm_proto::wire::Handshake;
use swarm_proto::wire::handshake::HANDSHAKE_LEN;
use tokio::io::AsyncReadExt as _;
use tokio::sync::oneshot;

use super::Stream;
use crate::connector::canonical;
use crate::node::Node;
use crate::places::{Place, Way};

/// Somebody who called, with the bytes read so far (the handshake, perhaps more).
pub(crate) struct Incoming {
    pub(crate) stream: Stream,
    pub(crate) addr: SocketAddr,
    pub(crate) bytes: BytesMut,
    pub(crate) place: Place,
}

/// Callers that have not yet said which swarm they want (T22).
///
/// When it is full, whoever has waited longest among those from the host with most seats makes
/// way: an honest caller needs one for a round trip only.
pub(crate) struct Lobby {
    seats_max: usize,
    seated: Mutex<Seated>,
}

#[derive(Default)]
struct Seated {
    next: u64,
    queue: VecDeque<(u64, IpAddr, oneshot::Sender<()>)>,
}

/// A place in the lobby; free again when dropped.
pub(crate) struct Seat {
    lobby: Arc<Lobby>,
    number: u64,
    /// Resolves when somebody else needs it more.
    taken: oneshot::Receiver<()>,
}

impl Lobby {
    pub(crate) fn new(seats_max: usize) -> Arc<Self> {
        Arc::new(Self {
            seats_max: seats_max.max(1),
            seated: Mutex::default(),
        })
    }

    pub(crate) fn enter(self: &Arc<Self>, ip: IpAddr) -> Seat {
        let ip = host(ip);
        let mut seated = self.seated();
        if seated.queue.len() >= self.seats_max {
            seated.make_way();
        }
        let (sender, taken) = oneshot::channel();
        let number = seated.next;
        seated.next += 1;
        seated.queue.push_back((number, ip, sender));
        Seat {
            lobby: Arc::clone(self),
            number,
            taken,
        }
    }

    fn seated(&self) -> MutexGuard<'_, Seated> {
        self.seated.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seated {
    fn make_way(&mut self) {
        let mut counts: HashMap<IpAddr, usize> = HashMap::new();
        for (_, ip, _) in &self.queue {
            *counts.entry(*ip).or_default() += 1;
        }
        let Some(most) = counts.values().copied().max() else {
            return;
        };
        let crowd = |ip: &IpAddr| counts.get(ip) == Some(&most);
        if let Some(at) = self.queue.iter().position(|(_, ip, _)| crowd(ip)) {
            self.queue.remove(at);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let number = self.number;
        let mut seated = self.lobby.seated();
        seated.queue.retain(|(other, ..)| *other != number);
    }
}

/// Waits for the caller's handshake and hands it to its swarm.
pub(crate) async fn greet(node: Node, mut stream: Stream, addr: SocketAddr, mut seat: Seat) {
    let timeout = node.config().timeouts.handshake;
    let mut bytes = BytesMut::with_capacity(4 * HANDSHAKE_LEN);
    let handshake = tokio::select! {
        read = tokio::time::timeout(timeout, read_handshake(&mut stream, &mut bytes)) => {
            read.unwrap_or_else(|_| Err(format!("none within {timeout:?}")))
        }
        _ = &mut seat.taken => Err(String::from("too many callers wait")),
        () = node.shutdown().cancelled() => return,
    };
    let handshake = match handshake {
        Ok(handshake) => handshake,
        Err(reason) => return tracing::debug!(%addr, reason, "no handshake"),
    };
    drop(seat);
    let Some(swarm) = node.get(&handshake.swarm_id) else {
        return tracing::debug!(%addr, swarm = %handshake.swarm_id, "swarm unknown here");
    };
    let addr = canonical(addr);
    let Some(place) = node.places().enter(addr, Way::In) else {
        return tracing::debug!(%addr, "connection refused: too many");
    };
    swarm.incoming(Incoming {
        stream,
        addr,
        bytes,
        place,
    });
}

async fn read_handshake(stream: &mut Stream, bytes: &mut BytesMut) -> Result<Handshake, String> {
    loop {
        match Handshake::decode(bytes) {
            Ok(Some(handshake)) => return Ok(handshake),
            Ok(None) => {}
            Err(error) => return Err(error.to_string()),
        }
        match stream.read_buf(bytes).await {
            Ok(0) => return Err(String::from("closed by peer")),
            Ok(_) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// How long an accept loop waits when the system has no descriptor to give (F14).
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    /// Three seats of four are taken by a crowd that goes on calling; the fourth is an honest one's.
    fn crowded(crowd: impl Fn(u64) -> IpAddr) {
        let lobby = Lobby::new(4);
        let mut honest = lobby.enter(ip(1));
        let mut crowd: Vec<_> = (0..1003).map(|nth| lobby.enter(crowd(nth))).collect();
        assert_eq!(lobby.seated().queue.len(), 4);
        assert!(honest.taken.try_recv() == Err(oneshot::error::TryRecvError::Empty));
        let waiting = crowd
            .iter_mut()
            .map(|seat| seat.taken.try_recv() == Err(oneshot::error::TryRecvError::Empty));
        let waiting: Vec<_> = waiting.collect();
        assert_eq!(waiting.iter().filter(|waits| **waits).count(), 3);
        assert!(waiting.ends_with(&[true; 3]));
        drop(crowd);
        drop(honest);
        assert!(lobby.seated().queue.is_empty());
    }

    #[test]
    fn t22_a_full_lobby_turns_out_whoever_waited_longest_of_the_largest_crowd() {
        crowded(|_| ip(2));
        // One host has a /64 of addresses.
        let net: u128 = 0x2001_0db8_0000_0001 << 64;
        crowded(|nth| IpAddr::from((net + u128::from(nth)).to_be_bytes()));
    }
}
