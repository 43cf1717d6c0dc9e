//! Which uTP packets may pass (BEP 29), so that our socket is nobody's amplifier.
//!
//! A uTP connection is opened by one packet from an address that may be forged. Until a packet
//! shows that its sender saw our answer, the path is not proven, and [`Paths`] lets at most
//! [`limits::UTP_REPLY_FACTOR_MAX`] bytes leave for each that came. The protocol itself (windows,
//! retransmissions) is a library's business; only the fixed header is read here.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::limits;

/// Bytes of the fixed header.
pub const HEADER_LEN: usize = 20;

/// How long an unproven path is remembered; longer than a handshake may take.
const UNPROVEN_FOR: Duration = Duration::from_secs(30);

/// How long a proven path without packets is remembered; longer than a silent session lives.
const PROVEN_FOR: Duration = Duration::from_secs(180);

/// How often forgotten paths are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(10);

/// What a packet is (BEP 29).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PacketKind {
    /// Carries bytes of the stream.
    Data,
    /// The last of the stream.
    Fin,
    /// Only acknowledges.
    State,
    /// Ends the connection by force.
    Reset,
    /// Opens a connection.
    Syn,
}

/// The parts of the fixed header that tell which connection a packet is of, and what it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketHeader {
    /// What it is.
    pub kind: PacketKind,
    /// Whose it is: with the address, names the connection at the receiver. In a SYN, one less.
    pub connection_id: u16,
    /// Its number.
    pub seq_nr: u16,
    /// The number of the latest packet that its sender received in order.
    pub ack_nr: u16,
}

impl PacketHeader {
    /// Reads the header; `None` if that is no uTP packet of version 1.
    ///
    /// ```text
    /// 0  type and version: 4 bits each    1  first extension    2  connection id: 2
    /// 4  timestamp: 4   8  difference: 4   12 window: 4          16 seq_nr: 2    18 ack_nr: 2
    /// ```
    pub fn decode(packet: &[u8]) -> Option<Self> {
        let [
            first,
            _,
            c0,
            c1,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            s0,
            s1,
            a0,
            a1,
            ..,
        ] = *packet
        else {
            return None;
        };
        let kind = match first {
            0x01 => PacketKind::Data,
            0x11 => PacketKind::Fin,
            0x21 => PacketKind::State,
            0x31 => PacketKind::Reset,
            0x41 => PacketKind::Syn,
            _ => return None,
        };
        Some(Self {
            kind,
            connection_id: u16::from_be_bytes([c0, c1]),
            seq_nr: u16::from_be_bytes([s0, s1]),
            ack_nr: u16::from_be_bytes([a0, a1]),
        })
    }
}

/// The connections that others opened, and which of them are proven to come from where they say.
#[derive(Debug, Default)]
pub struct Paths {
    /// By remote address and the connection id on packets to us.
    open: HashMap<(SocketAddr, u16), Path>,
    unproven: usize,
    swept_at: Option<Instant>,
}

#[derive(Debug)]
struct Path {
    seen_at: Instant,
    /// `None` once it is proven.
    doubt: Option<Doubt>,
}

#[derive(Debug)]
struct Doubt {
    bytes_in: u64,
    bytes_out: u64,
    /// The number of our answer to the SYN.
    answer: Option<u16>,
}

impl Doubt {
    /// Whether `packet` could only be sent by somebody who saw our answer. Its number is chosen at
    /// random; an answer takes no number of its own, so most clients acknowledge the one before.
    fn is_answered_by(&self, packet: &PacketHeader) -> bool {
        matches!(packet.kind, PacketKind::Data | PacketKind::State)
            && self.answer.is_some_and(|answer| {
                packet.ack_nr == answer || packet.ack_nr == answer.wrapping_sub(1)
            })
    }
}

impl Paths {
    /// Takes note of a packet that came in. Whether to pass it on: not if it is no uTP, or opens
    /// one connection too many.
    pub fn received(&mut self, now: Instant, from: SocketAddr, packet: &[u8]) -> bool {
        let Some(header) = PacketHeader::decode(packet) else {
            return false;
        };
        let opens = header.kind == PacketKind::Syn;
        let id = header.connection_id.wrapping_add(opens.into());
        if opens && !self.open.contains_key(&(from, id)) && !self.make_room(now) {
            return false;
        }
        let known = match opens {
            true => {
                let unproven = &mut self.unproven;
                Some(self.open.entry((from, id)).or_insert_with(|| {
                    *unproven += 1;
                    Path {
                        seen_at: now,
                        doubt: Some(Doubt {
                            bytes_in: 0,
                            bytes_out: 0,
                            answer: None,
                        }),
                    }
                }))
            }
            false => self.open.get_mut(&(from, id)),
        };
        let Some(path) = known else {
            // An answer to our own SYN, or of a connection long gone: the library knows.
            return true;
        };
        match &mut path.doubt {
            Some(doubt) if doubt.is_answered_by(&header) => {
                path.doubt = None;
                path.seen_at = now;
                self.unproven = self.unproven.saturating_sub(1);
            }
            Some(doubt) => doubt.bytes_in = doubt.bytes_in.saturating_add(packet.len() as u64),
            None => path.seen_at = now,
        }
        true
    }

    /// Whether a packet of `len` bytes that begins with `packet` may be sent. If so it counts as
    /// sent.
    pub fn may_send(&mut self, now: Instant, to: SocketAddr, packet: &[u8], len: usize) -> bool {
        let Some(header) = PacketHeader::decode(packet) else {
            return false;
        };
        if header.kind == PacketKind::Syn {
            return true;
        }
        let id = header.connection_id.wrapping_add(1);
        let Some(path) = self.open.get_mut(&(to, id)) else {
            return true;
        };
        let Some(doubt) = &mut path.doubt else {
            path.seen_at = now;
            return true;
        };
        let after = doubt.bytes_out.saturating_add(len as u64);
        if after > doubt.bytes_in.saturating_mul(limits::UTP_REPLY_FACTOR_MAX) {
            return false;
        }
        doubt.bytes_out = after;
        if header.kind == PacketKind::State && doubt.answer.is_none() {
            doubt.answer = Some(header.seq_nr);
        }
        true
    }

    /// Connections remembered.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether no connection is remembered.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    fn make_room(&mut self, now: Instant) -> bool {
        if self.swept_at.is_none_or(|at| at + SWEEP_EVERY <= now) {
            self.swept_at = Some(now);
            self.open.retain(|_, path| {
                let keep = match path.doubt {
                    Some(_) => UNPROVEN_FOR,
                    None => PROVEN_FOR,
                };
                path.seen_at + keep > now
            });
            self.unproven = self.open.values().filter(|p| p.doubt.is_some()).count();
        }
        self.unproven < limits::UTP_UNPROVEN_MAX && self.open.len() < limits::UTP_PATHS_MAX
    }
}

#[cfg(test)]
mod tests;
