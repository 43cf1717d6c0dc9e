//! One connection to one peer, as a state machine.
//!
//! Bytes, time and commands go in; bytes, events and a time-out come out. After each `handle_*`
//! the driver drains [`PeerSession::poll_transmit`] and [`PeerSession::poll_event`], and calls
//! [`PeerSession::handle_timeout`] no later than [`PeerSession::poll_timeout`] says.
//!
//! The session knows the protocol and the size of the torrent. It doesn't know what others have,
//! what should be asked for, or whether bytes are true: see [`download`](crate::download).

mod api;
mod commands;
mod error;
mod incoming;
mod ledger;
mod outgoing;
mod state;
mod uploads;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

pub use api::{Command, ConnectionId, PieceSet, SessionConfig, SessionEvent, Timeouts};
pub use error::{CloseReason, Misbehaviour};
pub use ledger::Block;
#[cfg(test)]
pub(crate) use ledger::block_for_tests;

use crate::bitfield::Bitfield;
use crate::geometry::{Geometry, PieceIndex};
use crate::limits;
use crate::wire::handshake::HANDSHAKE_LEN;
use crate::wire::holepunch::UT_HOLEPUNCH_ID;
use crate::wire::lt_donthave::LT_DONTHAVE_ID;
use crate::wire::pex::UT_PEX_ID;
use crate::wire::{
    ExtendedHandshake, FrameDecoder, Handshake, HashRequest, Message, ReservedBits, extended,
};
use incoming::PeerPieces;
use ledger::RequestLedger;
use outgoing::Outgoing;
use state::{Flow, Phase};
use uploads::Uploads;

/// One connection to one peer.
#[derive(Debug)]
pub struct PeerSession {
    config: SessionConfig,
    phase: Phase,
    flow: Flow,
    closed: Option<CloseReason>,
    input: FrameDecoder,
    out: Outgoing,
    events: VecDeque<SessionEvent>,
    geometry: Option<Geometry>,
    ledger: RequestLedger,
    uploads: Uploads,
    peer_pieces: PeerPieces,
    /// Pieces that the peer suggested, each of which counts once.
    suggested: Option<Bitfield>,
    /// Pieces that the peer answers for though it chokes us.
    allowed: Vec<PieceIndex>,
    /// What we have, until the peer is told: a bitfield can only be the first message.
    unsaid_pieces: Option<Bitfield>,
    said_pieces: bool,
    /// What the peer said of itself, its numbers for extensions among it.
    peer: ExtendedHandshake,
    metadata_asked: Vec<u32>,
    hashes_asked: Vec<HashRequest>,
    useless: u32,
    /// Messages of ut_pex in the same window.
    pex_said: u32,
    useless_since: Instant,
    received_at: Instant,
    sent_at: Instant,
    /// The latest time that the driver told.
    clock: Instant,
}

/// The window over which useless messages are counted.
const USELESS_WINDOW: Duration = Duration::from_secs(60);

impl PeerSession {
    /// Opens the session; if [`SessionConfig::dialled`] is set, our handshake is ready to be sent.
    pub fn new(config: SessionConfig, now: Instant) -> Self {
        let mut session = Self {
            phase: Phase::Greeting {
                until: now + config.timeouts.handshake,
            },
            flow: Flow::default(),
            closed: None,
            input: FrameDecoder::new(),
            out: Outgoing::default(),
            events: VecDeque::new(),
            geometry: None,
            ledger: RequestLedger::new(config.timeouts.request),
            uploads: Uploads::default(),
            peer_pieces: PeerPieces::default(),
            suggested: None,
            allowed: Vec::new(),
            unsaid_pieces: None,
            said_pieces: false,
            peer: ExtendedHandshake::default(),
            metadata_asked: Vec::new(),
            hashes_asked: Vec::new(),
            useless: 0,
            pex_said: 0,
            useless_since: now,
            received_at: now,
            sent_at: now,
            clock: now,
            config,
        };
        if let Some(swarm_id) = session.config.dialled {
            session.send_handshake(swarm_id);
        }
        session
    }

    /// Takes bytes that came from the peer. Copies them once; [`input`](Self::input) does not.
    pub fn handle_bytes(&mut self, now: Instant, bytes: &[u8]) {
        self.input.buffer().extend_from_slice(bytes);
        self.handle_input(now);
    }

    /// Where the driver may append what it reads, to call [`handle_input`](Self::handle_input)
    /// afterwards. Blocks are handed on as slices of this buffer.
    pub fn input(&mut self) -> &mut BytesMut {
        self.input.buffer()
    }

    /// Takes what was appended to [`input`](Self::input).
    pub fn handle_input(&mut self, now: Instant) {
        self.see_clock(now);
        self.received_at = now;
        if self.closed.is_none() && !self.phase.is_open() {
            self.greet();
        }
        while self.closed.is_none() && self.phase.is_open() {
            match self.input.next_message() {
                Ok(Some(message)) => {
                    if let Err(misbehaviour) = self.handle_message(now, message) {
                        self.close(CloseReason::Misbehaved(misbehaviour));
                    } else if self.out.is_over_limit() {
                        self.close(CloseReason::Misbehaved(Misbehaviour::NotReading));
                    }
                }
                Ok(None) => break,
                Err(error) => self.close(CloseReason::Malformed(error)),
            }
        }
    }

    /// The peer closed its side.
    pub fn handle_eof(&mut self, now: Instant) {
        self.see_clock(now);
        self.close(CloseReason::Eof);
    }

    /// Time went by.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.see_clock(now);
        if self.closed.is_some() {
            return;
        }
        match self.phase {
            Phase::Greeting { until } if until <= now => self.close(CloseReason::HandshakeTimeout),
            Phase::Greeting { .. } => {}
            Phase::Open { .. } => {
                if self.received_at + self.config.timeouts.idle <= now {
                    return self.close(CloseReason::Idle);
                }
                if self.sent_at + self.config.timeouts.keep_alive <= now {
                    if self.out.is_empty() {
                        self.out.push(&Message::KeepAlive);
                    }
                    self.sent_at = now;
                }
                for range in self.ledger.time_out(now) {
                    self.events.push_back(SessionEvent::TimedOut(range));
                }
            }
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called, at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.closed.is_some() {
            return None;
        }
        match self.phase {
            Phase::Greeting { until } => Some(until),
            Phase::Open { .. } => {
                let idle = self.received_at + self.config.timeouts.idle;
                let keep_alive = self.sent_at + self.config.timeouts.keep_alive;
                let next = idle.min(keep_alive);
                Some(
                    self.ledger
                        .deadline()
                        .map_or(next, |deadline| deadline.min(next)),
                )
            }
        }
    }

    /// Appends bytes for the peer to `out`, as long as that holds less than
    /// [`limits::OUTPUT_LEN_MAX`].
    pub fn poll_transmit(&mut self, out: &mut BytesMut) {
        while out.len() < limits::OUTPUT_LEN_MAX
            && let Some(bytes) = self.poll_transmit_bytes()
        {
            out.extend_from_slice(&bytes);
        }
    }

    /// The next bytes for the peer, without copying blocks: for drivers that write many slices at
    /// once. They must be sent in order, and none left out.
    pub fn poll_transmit_bytes(&mut self) -> Option<Bytes> {
        if self.closed.is_some() {
            return None;
        }
        let bytes = self.out.next()?;
        self.sent_at = self.clock;
        for range in self.out.departed() {
            self.uploads.departed(range);
            self.useless = self.useless.saturating_sub(limits::USELESS_PER_BLOCK);
        }
        Some(bytes)
    }

    /// What happened next.
    ///
    /// Sending makes room for more requests of the peer: call this after
    /// [`poll_transmit`](Self::poll_transmit).
    pub fn poll_event(&mut self) -> Option<SessionEvent> {
        if self.events.is_empty() && self.closed.is_none() {
            while let Some(range) = self.uploads.pass_on() {
                self.events.push_back(SessionEvent::Requested(range));
            }
        }
        self.events.pop_front()
    }

    /// Why the connection ended, if it did. Events may still wait.
    pub fn is_closed(&self) -> Option<&CloseReason> {
        self.closed.as_ref()
    }

    /// Ends the connection: nothing is sent or read any more.
    fn close(&mut self, reason: CloseReason) {
        if self.closed.is_some() {
            return;
        }
        self.out.clear();
        self.uploads = Uploads::default();
        self.events.push_back(SessionEvent::Closed(reason.clone()));
        self.closed = Some(reason);
    }

    fn see_clock(&mut self, now: Instant) {
        self.clock = self.clock.max(now);
        if self.useless_since + USELESS_WINDOW <= now {
            self.useless = 0;
            self.pex_said = 0;
            self.useless_since = now;
        }
    }

    fn our_bits(&self) -> ReservedBits {
        let mut bits = ReservedBits::OURS;
        if self.config.v2 {
            bits = bits.with_v2();
        }
        if self.config.dht {
            bits = bits.with_dht();
        }
        bits
    }

    fn send_handshake(&mut self, swarm_id: crate::id::SwarmId) {
        let handshake = Handshake {
            reserved: self.our_bits(),
            swarm_id,
            peer_id: self.config.peer_id,
        };
        self.out.push_bytes(&handshake.encode());
    }

    /// Waits for the peer's handshake and answers it.
    fn greet(&mut self) {
        let peer = match Handshake::decode(self.input.buffer()) {
            Ok(Some(peer)) => peer,
            Ok(None) => return,
            Err(error) => return self.close(CloseReason::Handshake(error)),
        };
        let _ = self.input.buffer().split_to(HANDSHAKE_LEN);
        if !self.config.swarm_ids.contains(&peer.swarm_id) {
            return self.close(CloseReason::UnknownSwarm);
        }
        if peer.peer_id == self.config.peer_id {
            return self.close(CloseReason::Ourselves);
        }
        let mut swarm_id = peer.swarm_id;
        if self.config.dialled.is_none() {
            // BEP 52: who calls with the v1 hash of a hybrid and sets the bit is answered with
            // the v2 hash, and both speak v2 from then on.
            if let [v1, v2, ..] = self.config.swarm_ids[..]
                && swarm_id == v1
                && peer.reserved.v2()
            {
                swarm_id = v2;
            }
            self.send_handshake(swarm_id);
        }
        let agreed = self.our_bits().and(&peer.reserved);
        self.phase = Phase::Open { agreed };
        self.events.push_back(SessionEvent::Established {
            peer_id: peer.peer_id,
            swarm_id,
            reserved: peer.reserved,
        });
        self.send_extended_handshake();
        self.say_pieces();
        if self.flow.we_want {
            self.out.push(&Message::Interested);
        }
        if !self.flow.we_choke {
            self.out.push(&Message::Unchoke);
        }
    }

    fn send_extended_handshake(&mut self) {
        if !self.phase.agreed().extended() {
            return;
        }
        let ours = ExtendedHandshake {
            ut_metadata: Some(extended::UT_METADATA_ID),
            ut_holepunch: self.config.holepunch.then_some(UT_HOLEPUNCH_ID),
            lt_donthave: Some(LT_DONTHAVE_ID),
            ut_pex: self.config.pex.then_some(UT_PEX_ID),
            metadata_size: self.config.metadata_size,
            listen_port: Some(self.config.listen_port).filter(|port| *port != 0),
            client: Some(self.config.client.clone()),
            request_queue: u32::try_from(limits::REQUESTS_IN_MAX).ok(),
            your_ip: self.config.peer_ip,
            upload_only: self.config.upload_only,
        };
        self.out.push(&Message::Extended {
            id: 0,
            payload: ours.encode().into(),
        });
    }

    /// Tells the peer what we have, if that is known and it is connected.
    fn say_pieces(&mut self) {
        if !self.phase.is_open() {
            return;
        }
        let Some(pieces) = self.unsaid_pieces.take() else {
            return;
        };
        self.said_pieces = true;
        match self.phase.agreed().fast() {
            // Without the fast extension silence says that we have nothing.
            false if pieces.is_none() => {}
            true if pieces.is_none() => self.out.push(&Message::HaveNone),
            true if pieces.is_all() => self.out.push(&Message::HaveAll),
            _ => {
                let bits = Bytes::copy_from_slice(pieces.as_bytes());
                self.out.push(&Message::Bitfield(bits));
            }
        }
    }
}

#[cfg(test)]
mod tests;
