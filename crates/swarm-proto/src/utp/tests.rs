use super::*;

fn addr(port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], port))
}

/// A packet of these fields and `payload` bytes.
fn packet(first: u8, id: u16, seq: u16, ack: u16, payload: usize) -> Vec<u8> {
    let mut bytes = vec![first, 0];
    bytes.extend(id.to_be_bytes());
    bytes.extend([0; 12]);
    bytes.extend(seq.to_be_bytes());
    bytes.extend(ack.to_be_bytes());
    bytes.resize(HEADER_LEN + payload, 7);
    bytes
}

const DATA: u8 = 0x01;
const FIN: u8 = 0x11;
const STATE: u8 = 0x21;
const SYN: u8 = 0x41;

#[test]
fn what_is_no_utp_does_not_pass() {
    let mut paths = Paths::default();
    let now = Instant::now();
    let good = packet(SYN, 1, 1, 0, 0);
    for len in 0..HEADER_LEN {
        assert!(!paths.received(now, addr(1), &good[..len]), "{len} bytes");
    }
    for first in 0..=255 {
        let known = matches!(first, 0x01 | 0x11 | 0x21 | 0x31 | 0x41);
        let bytes = packet(first, 1, 1, 0, 0);
        assert_eq!(PacketHeader::decode(&bytes).is_some(), known, "{first:#x}");
    }
}

/// Sends `packet` as long as that is allowed, and tells how many bytes left.
fn send_all(paths: &mut Paths, now: Instant, packet: &[u8]) -> usize {
    let mut sent = 0;
    for _ in 0..1000 {
        if paths.may_send(now, addr(1), packet, packet.len()) {
            sent += packet.len();
        }
    }
    sent
}

#[test]
fn t24_at_most_three_bytes_leave_for_each_of_an_unproven_sender() {
    let mut paths = Paths::default();
    let now = Instant::now();
    let syn = packet(SYN, 100, 5, 0, 0);
    assert!(paths.received(now, addr(1), &syn));
    let answer = packet(STATE, 100, 777, 5, 0);
    assert_eq!(send_all(&mut paths, now, &answer), 3 * syn.len());
    // Whoever never saw our answer can't name its number, and gets no more than he pays for.
    for (kind, ack) in [(DATA, 0), (DATA, 778), (STATE, 775), (FIN, 777)] {
        let guess = packet(kind, 101, 6, ack, 100);
        assert!(paths.received(now, addr(1), &guess));
        let data = packet(DATA, 100, 778, 6, 40);
        let sent = send_all(&mut paths, now, &data);
        assert!(sent <= 3 * guess.len(), "{sent} bytes for {}", guess.len());
    }
    for ack in [776, 777] {
        let mut paths = Paths::default();
        paths.received(now, addr(1), &syn);
        assert!(paths.may_send(now, addr(1), &answer, answer.len()));
        assert!(paths.received(now, addr(1), &packet(DATA, 101, 6, ack, 68)));
        let data = packet(DATA, 100, 778, 6, 1000);
        assert_eq!(send_all(&mut paths, now, &data), 1000 * data.len());
    }
}

#[test]
fn a_forged_syn_does_not_disturb_a_live_connection() {
    let mut paths = Paths::default();
    let now = Instant::now();
    let syn = packet(SYN, 100, 5, 0, 0);
    let data = packet(DATA, 100, 778, 6, 1000);
    paths.received(now, addr(1), &syn);
    paths.may_send(now, addr(1), &packet(STATE, 100, 777, 5, 0), HEADER_LEN);
    paths.received(now, addr(1), &packet(DATA, 101, 6, 776, 68));
    let later = now + Duration::from_secs(100);
    paths.received(later, addr(1), &syn);
    assert!(paths.may_send(later, addr(1), &data, data.len()));
    // Connections that we opened are not in question.
    assert!(paths.may_send(now, addr(9), &packet(SYN, 3, 1, 0, 0), HEADER_LEN));
    assert!(paths.received(now, addr(9), &packet(STATE, 3, 1, 1, 0)));
    assert!(paths.may_send(now, addr(9), &packet(DATA, 4, 2, 1, 500), 520));
    assert_eq!(paths.len(), 1);
}

#[test]
fn t24_a_flood_of_opening_packets_is_bounded_and_forgotten() {
    let mut paths = Paths::default();
    let now = Instant::now();
    let taken = (0..60_000_u16)
        .filter(|id| paths.received(now, addr(*id), &packet(SYN, *id, 1, 0, 0)))
        .count();
    assert_eq!(taken, limits::UTP_UNPROVEN_MAX);
    assert_eq!(paths.len(), limits::UTP_UNPROVEN_MAX);
    let later = now + UNPROVEN_FOR;
    assert!(paths.received(later, addr(1), &packet(SYN, 7000, 1, 0, 0)));
    assert_eq!(paths.len(), 1);
}
