//! The connections of one swarm: called, answered, heard, ended.

use std::net::SocketAddr;
use std::time::Instant;

use swarm_proto::download::{Download, PeerInfo};
use swarm_proto::id::{PeerId, SwarmId};
use swarm_proto::session::{
    CloseReason, Command, ConnectionId, PeerSession, SessionConfig, SessionEvent,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use super::SwarmTask;
use super::jobs::Done;
use crate::connector::{ConnectError, Trust, canonical};
use crate::http::chain;
use crate::link::accept::Incoming;
use crate::link::{
    COMMANDS_MAX, LinkCommand, LinkEvents, Mailboxes, Stream,
    dial::{By, dial},
    drive,
};
use crate::node::Source;
use crate::peers::Ending;
use crate::places::{Place, Way};
use crate::report::{PeerReport, ShownAddr};
use crate::uplink::{Shaped, ShapedReader};

/// Addresses remembered that take calls by TCP and then say nothing: 32 bytes each.
const MUTE_MAX: usize = 1000;

/// The task's end of a connection. Dropping it ends the connection.
pub(super) struct Link {
    commands: mpsc::Sender<LinkCommand>,
    pub(super) addr: SocketAddr,
    pub(super) outgoing: bool,
    pub(super) by_utp: bool,
    /// It speaks ut_holepunch (BEP 55).
    pub(super) punches: bool,
    pub(super) peer_id: Option<PeerId>,
    /// What it calls its program.
    client: Option<String>,
    /// Where others may call it, if that is known.
    pub(super) contact: Option<SocketAddr>,
    /// It asks for nothing.
    pub(super) seed: bool,
    pub(super) joined_at: Instant,
    /// Who named it, if we called; else nobody did.
    pub(super) trust: Trust,
    /// Among the node's connections.
    pub(super) place: Place,
}

impl SwarmTask {
    /// Whether there is room for another call.
    pub(super) fn may_call(&self) -> bool {
        let config = self.node.config();
        self.dialling < config.dials_max
            && self.links.len() + self.dialling < config.peers_per_swarm_max
    }

    pub(super) fn call_peers(&mut self, now: Instant, download: &Download) {
        while self.may_call() && self.book.next_due().is_some_and(|due| due <= now) {
            let census = self.node.places().census();
            let all = self.node.config().peers_per_swarm_max;
            let free = all.saturating_sub(self.links.len() + self.dialling);
            let admits = |addr| census.admits(addr, Way::Out);
            let Some((addr, swarm_id, trust)) = self.book.take_due(now, free, all, admits) else {
                return;
            };
            if download.is_banned(addr, None) {
                self.book.ended(&addr, Ending::Never, now);
                continue;
            }
            if self.links.values().any(|link| link.addr == addr) {
                self.book.ended(&addr, Ending::Needless, now);
                continue;
            }
            // Where TCP was answered by silence once, uTP is next, and then TCP again.
            let by = match self.mute_by_tcp.remove(&addr) {
                true => By::Utp,
                false => By::Any,
            };
            let Some(place) = self.node.places().enter(addr, Way::Out) else {
                // Another bundle was faster.
                self.book.ended(&addr, Ending::Needless, now);
                continue;
            };
            self.call(addr, swarm_id, trust, by, place);
        }
    }

    /// Calls an address, until we rest or stop: neither is to wait for somebody who does not answer.
    fn call(&mut self, addr: SocketAddr, swarm_id: SwarmId, trust: Trust, by: By, place: Place) {
        self.dialling += 1;
        if trust == Trust::CommandLine {
            place.keep();
        }
        let (node, life, lost) = (self.node.clone(), self.shared.life(), place.lost());
        self.jobs.spawn(async move {
            let result = tokio::select! {
                result = dial(&node, addr, trust, by) => result,
                () = life.cancelled() => Err(ConnectError::TimedOut(addr)),
                () = lost.cancelled() => Err(ConnectError::TimedOut(addr)),
            };
            Done::Dialled {
                addr,
                swarm_id,
                result,
                place,
            }
        });
    }

    /// Calls by uTP whom a peer introduced (BEP 55), while that one calls us.
    pub(super) fn punch(&mut self, addr: SocketAddr, download: &Download) {
        let addr = canonical(addr);
        let known = self.links.values().any(|link| link.addr == addr);
        let Some(&swarm_id) = self.shared.swarm_ids.first() else {
            return;
        };
        let mute = self.node.utp().is_none();
        if known || download.is_banned(addr, None) || !self.may_call() || mute {
            return;
        }
        let Some(place) = self.node.places().enter(addr, Way::Out) else {
            return;
        };
        // Whoever introduces is a stranger, and may name no more than one, unless we knew before.
        let trust = self.book.trust_of(&addr).unwrap_or(Trust::Stranger);
        self.call(addr, swarm_id, trust, By::Utp, place);
    }

    /// A call was answered.
    pub(super) fn called(
        &mut self,
        download: &mut Download,
        stream: Stream,
        addr: SocketAddr,
        swarm_id: SwarmId,
        place: Place,
    ) {
        let mut config = self.session_config(download, addr);
        config.dialled = Some(swarm_id);
        let session = PeerSession::new(config, Instant::now());
        self.join(download, session, stream, addr, true, place);
    }

    /// Somebody called.
    pub(super) fn answer(&mut self, download: &mut Download, incoming: Incoming) {
        let Incoming {
            stream,
            addr,
            bytes,
            place,
        } = incoming;
        if download.is_banned(addr, None) {
            return tracing::debug!(%addr, "connection refused: peer is banned");
        }
        let now = Instant::now();
        if !download.admits(now, addr, self.places_for_callers()) {
            return tracing::debug!(%addr, "connection refused: too many for this bundle");
        }
        let mut session = PeerSession::new(self.session_config(download, addr), now);
        session.handle_bytes(now, &bytes);
        self.join(download, session, stream, addr, false, place);
    }

    fn session_config(&self, download: &Download, addr: SocketAddr) -> SessionConfig {
        let v2 = match (&self.content, &self.bundle.source) {
            (Some(content), _) => content.meta.info_hash_v2().is_some(),
            (None, Source::Metainfo(meta)) => meta.info_hash_v2().is_some(),
            (None, Source::Magnet(magnet)) => magnet.v2.is_some(),
        };
        let ids = self.shared.swarm_ids.clone();
        let mut config = SessionConfig::new(self.node.peer_id(), ids, v2);
        config.listen_port = self.node.listen_addr().port();
        config.metadata_size = self
            .content
            .as_ref()
            .and_then(|content| u32::try_from(content.meta.raw_info().len()).ok());
        config.upload_only = download.begins_upload_only(Instant::now());
        config.peer_ip = Some(addr.ip());
        config.holepunch = self.node.utp().is_some();
        config.pex = self.exchanges_peers();
        config.dht = self.exchanges_nodes();
        config.timeouts = self.node.config().timeouts.clone();
        config
    }

    fn join(
        &mut self,
        download: &mut Download,
        session: PeerSession,
        stream: Stream,
        addr: SocketAddr,
        outgoing: bool,
        place: Place,
    ) {
        let conn = self.node.next_connection();
        let (commands, receiver) = mpsc::channel(COMMANDS_MAX);
        let mail = Mailboxes {
            conn,
            commands: receiver,
            events: self.events_in.clone(),
            memory: self.node.shared_memory().links().clone(),
            lost: place.lost(),
            uplinks: [self.node.uplink().clone(), self.shared.uplink.clone()],
        };
        let by_utp = matches!(stream, Stream::Utp(_));
        match stream {
            Stream::Tcp(stream) => {
                let (reader, writer) = stream.into_split();
                self.start_link(session, reader, writer, mail);
            }
            Stream::Utp(stream) => {
                let (reader, writer) = stream.split();
                self.start_link(session, reader, writer, mail);
            }
        }
        let link = Link {
            commands,
            addr,
            outgoing,
            by_utp,
            punches: false,
            peer_id: None,
            client: None,
            contact: (outgoing || by_utp).then_some(addr),
            seed: false,
            joined_at: Instant::now(),
            trust: match outgoing {
                true => self.book.trust_of(&addr).unwrap_or(Trust::Stranger),
                false => Trust::Stranger,
            },
            place,
        };
        self.links.insert(conn, link);
        download.peer_joined(Instant::now(), conn, PeerInfo { addr, outgoing });
        if by_utp {
            download.peer_by_utp(conn);
        }
    }

    /// Drives a session within the limits of node and bundle.
    fn start_link<R, W>(&self, session: PeerSession, reader: R, writer: W, mail: Mailboxes)
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Send + Unpin + 'static,
    {
        let downlink = self.node.downlink().clone();
        let reader = ShapedReader::new(reader, downlink, self.shared.downlink.clone());
        let uplink = self.node.uplink().clone();
        let writer = Shaped::new(writer, uplink).within(self.shared.uplink.clone());
        self.node
            .tasks()
            .spawn(drive(session, reader, writer, mail));
    }

    /// Hands a command to a link. One that does not take its commands is given up.
    pub(super) fn send(&mut self, conn: ConnectionId, command: LinkCommand) {
        if let Some(link) = self.links.get(&conn)
            && let Err(mpsc::error::TrySendError::Full(_)) = link.commands.try_send(command)
        {
            tracing::debug!(addr = %link.addr, "connection is stuck");
            // The link sees its mailbox closed, and says `Closed` as its last word.
            if let Some(link) = self.links.get_mut(&conn) {
                link.commands = mpsc::channel(1).0;
            }
        }
    }

    /// Passes a link's events on.
    pub(super) fn hear(&mut self, download: &mut Download, heard: LinkEvents) {
        let LinkEvents {
            conn,
            events,
            unread,
        } = heard;
        let now = Instant::now();
        self.doubt(unread);
        for event in events {
            match &event {
                SessionEvent::Established { peer_id, .. } => {
                    if let Some(link) = self.links.get_mut(&conn) {
                        link.peer_id = Some(*peer_id);
                        self.book.reached(&link.addr);
                    }
                    if let Some(port) = self.dht_port {
                        self.send(conn, LinkCommand::Session(Command::DhtPort(port)));
                    }
                }
                SessionEvent::DhtPort(port) => self.told_of_node(conn, *port),
                SessionEvent::ExtendedHandshake(said) => {
                    if let Some(link) = self.links.get_mut(&conn) {
                        link.client.clone_from(&said.client);
                    }
                    self.introduced(now, conn, said);
                }
                SessionEvent::Pex(message) => {
                    self.told_of_peers(now, conn, message.clone());
                    continue;
                }
                SessionEvent::Closed(reason) => {
                    let reason = reason.clone();
                    download.handle_event(now, conn, event);
                    self.left(conn, &reason, now);
                    return;
                }
                _ => {}
            }
            let established = matches!(event, SessionEvent::Established { .. });
            download.handle_event(now, conn, event);
            if established {
                self.seat(conn, download);
            }
        }
    }

    fn left(&mut self, conn: ConnectionId, reason: &CloseReason, now: Instant) {
        let Some(link) = self.links.remove(&conn) else {
            return;
        };
        self.pex.left(conn);
        if reason.is_peers_fault() {
            tracing::warn!(peer = %ShownAddr(link.addr), "peer refused: {}", chain(reason));
        } else {
            tracing::debug!(peer = %link.addr, "connection ended: {}", chain(reason));
        }
        if !link.outgoing {
            return;
        }
        if link.peer_id.is_none() && !link.by_utp && self.mute_by_tcp.len() < MUTE_MAX {
            self.mute_by_tcp.insert(link.addr);
        }
        let ending = match reason {
            CloseReason::Ourselves => Ending::Never,
            reason if reason.is_peers_fault() => Ending::Never,
            CloseReason::Useless | CloseReason::Duplicate | CloseReason::TooManyPeers => {
                Ending::Needless
            }
            _ if link.peer_id.is_some() => Ending::Left,
            _ => Ending::Failed,
        };
        self.book.ended(&link.addr, ending, now);
    }

    /// What is known of each peer.
    pub(super) fn peer_reports(&self, download: &Download) -> Vec<PeerReport> {
        let known = self.links.iter().filter_map(|(conn, link)| {
            Some(PeerReport {
                addr: link.addr,
                outgoing: link.outgoing,
                transport: if link.by_utp { "utp" } else { "tcp" },
                client: link.client.clone(),
                stats: download.peer_stats(*conn)?,
            })
        });
        let mut all: Vec<_> = known.collect();
        all.sort_unstable_by_key(|peer| peer.addr);
        all
    }

    pub(super) fn ban(&mut self, addr: SocketAddr, peer_id: Option<PeerId>, reason: &str) {
        tracing::warn!(
            bundle = %self.name(),
            peer = %ShownAddr(addr),
            peer_id = peer_id.map(|id| id.to_string()),
            "peer banned: {reason}"
        );
        self.book.ended(&addr, Ending::Never, Instant::now());
    }

    /// Ends a connection as soon as its link takes notice.
    pub(super) fn hang_up(&mut self, conn: ConnectionId, reason: CloseReason) {
        self.send(conn, LinkCommand::Session(Command::Close(reason)));
    }
}
