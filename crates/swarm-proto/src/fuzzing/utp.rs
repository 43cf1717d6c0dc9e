//! Fuzz bodies of uTP's path proof and of ut_holepunch.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::limits;
use crate::utp::{PacketHeader, PacketKind, Paths};
use crate::wire::HolepunchMessage;

/// uTP packets of an address that never proves itself: what leaves is at most three times what
/// came, in any order and with any headers.
///
/// Each 24 bytes are one packet: its direction, its length, and a header.
pub fn utp(now: Instant, data: &[u8]) {
    let mut paths = Paths::default();
    let addr = SocketAddr::from(([192, 0, 2, 1], 1));
    let (mut came, mut left) = (0, 0);
    for (packet, step) in data.chunks(24).zip(0..) {
        let [direction, len, header @ ..] = packet else {
            return;
        };
        let now = now + Duration::from_millis(step);
        let len = header.len() + usize::from(*len);
        let decoded = PacketHeader::decode(header);
        if direction & 1 == 0 {
            // Acknowledging is what proves a path; a forger can't.
            let forged = decoded.is_none_or(|header| {
                matches!(
                    header.kind,
                    PacketKind::Syn | PacketKind::Fin | PacketKind::Reset
                )
            });
            let mut whole = header.to_vec();
            whole.resize(len, 0);
            if forged && paths.received(now, addr, &whole) {
                came += len as u64;
            }
        } else if decoded.is_some_and(|header| header.kind != PacketKind::Syn) {
            let known = paths.len();
            if paths.may_send(now, addr, header, len) && known > 0 && doubted(data, header) {
                left += len as u64;
            }
        }
        assert!(left <= came * limits::UTP_REPLY_FACTOR_MAX);
        assert!(paths.len() <= limits::UTP_UNPROVEN_MAX);
    }
}

/// Whether the connection of an outgoing packet is one that a SYN in `data` may have opened. Others
/// are our own.
fn doubted(data: &[u8], outgoing: &[u8]) -> bool {
    let Some(outgoing) = PacketHeader::decode(outgoing) else {
        return false;
    };
    let mut opened = data.chunks(24).filter_map(|packet| {
        let [direction, _, header @ ..] = packet else {
            return None;
        };
        PacketHeader::decode(header).filter(|_| direction & 1 == 0)
    });
    opened.all(|header| {
        header.kind != PacketKind::Syn || header.connection_id == outgoing.connection_id
    })
}

/// ut_holepunch: writing undoes reading, and nothing is read from what lacks a byte.
pub fn holepunch(data: &[u8]) {
    let Ok(message) = HolepunchMessage::decode(data) else {
        return;
    };
    let written = message.encode();
    assert_eq!(HolepunchMessage::decode(&written), Ok(message));
    assert!(data.len() <= written.len());
    assert!(written.starts_with(data) || written.len() == data.len());
}

#[cfg(test)]
mod tests {
    use super::super::tests::hammer;
    use super::*;

    #[test]
    fn utp_paths_survive_changed_inputs() {
        let packet = |direction: u8, first: u8, ack: u8| {
            let mut bytes = vec![direction, 40, first, 0, 0, 9];
            bytes.extend([0; 16]);
            bytes.extend([0, ack]);
            bytes
        };
        let corpus = [
            [packet(0, 0x41, 0), packet(1, 0x21, 1), packet(1, 0x01, 1)].concat(),
            [packet(0, 0x41, 0), packet(0, 0x11, 0), packet(1, 0x21, 3)].concat(),
            [packet(0, 0x41, 0), packet(0, 0x41, 0), packet(1, 0x11, 3)].concat(),
        ];
        let now = Instant::now();
        hammer(&corpus, 21, 30_000, |data| utp(now, data));
    }

    #[test]
    fn holepunch_survives_changed_inputs() {
        let v4 = [&[0, 0, 192, 0, 2, 1, 0x1a, 0xe1][..], &[0; 4]].concat();
        let v6 = [&[2, 1][..], &[0x20; 16], &[0x1a, 0xe1, 0, 0, 0, 2]].concat();
        hammer(&[v4, v6], 22, 30_000, holepunch);
    }
}
