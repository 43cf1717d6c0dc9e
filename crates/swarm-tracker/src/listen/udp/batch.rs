//! Many datagrams in one system call: `recvmmsg` and `sendmmsg`.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;

use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg};
use socket2::Socket;

/// Datagrams taken at a time. More gain nothing that can be measured, and wait for each other.
const BATCH: usize = 32;

/// Bytes of a datagram that are read: a scrape of 70 swarms has 1416, an announce with a long URL
/// (BEP 41) some hundreds. What is longer is cut, and then refused.
const PACKET_LEN_MAX: usize = 2048;

/// Datagrams that have come.
pub(super) struct Inbox {
    headers: MultiHeaders<SockaddrStorage>,
    buffers: Box<[[u8; PACKET_LEN_MAX]; BATCH]>,
    /// Sender and length of each that came last.
    came: Vec<(SockaddrStorage, usize)>,
}

impl Inbox {
    pub(super) fn new() -> Self {
        Self {
            headers: MultiHeaders::preallocate(BATCH, None),
            buffers: Box::new([[0; PACKET_LEN_MAX]; BATCH]),
            came: Vec::with_capacity(BATCH),
        }
    }

    /// Waits for a datagram and takes what came with it, in place of those before.
    pub(super) fn receive(&mut self, socket: &Socket) -> io::Result<()> {
        self.came.clear();
        let mut slices = self.buffers.each_mut().map(|buf| [IoSliceMut::new(buf)]);
        let came = recvmmsg(
            socket.as_raw_fd(),
            &mut self.headers,
            slices.iter_mut(),
            MsgFlags::MSG_WAITFORONE,
            None,
        )?;
        self.came
            .extend(came.filter_map(|one| Some((one.address?, one.bytes))));
        Ok(())
    }

    /// What came last: sender, as this system writes it and as we do, and bytes.
    pub(super) fn packets(&self) -> impl Iterator<Item = (SockaddrStorage, SocketAddr, &[u8])> {
        self.came
            .iter()
            .zip(&self.buffers[..])
            .filter_map(|((from, len), buf)| Some((*from, readable(from)?, buf.get(..*len)?)))
    }
}

fn readable(from: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = from.as_sockaddr_in() {
        return Some(SocketAddr::new(v4.ip().into(), v4.port()));
    }
    let v6 = from.as_sockaddr_in6()?;
    Some(SocketAddr::new(v6.ip().into(), v6.port()))
}

/// Datagrams to be sent.
pub(super) struct Outbox {
    headers: MultiHeaders<SockaddrStorage>,
    to: Vec<Option<SockaddrStorage>>,
    /// Longer than `to` once it has been used: buffers are kept.
    packets: Vec<Vec<u8>>,
}

impl Outbox {
    pub(super) fn new() -> Self {
        Self {
            headers: MultiHeaders::preallocate(BATCH, None),
            to: Vec::with_capacity(BATCH),
            packets: Vec::with_capacity(BATCH),
        }
    }

    /// Puts in what `write` writes.
    pub(super) fn put(&mut self, to: SockaddrStorage, write: impl FnOnce(&mut Vec<u8>)) {
        let at = self.to.len();
        if self.packets.len() <= at {
            self.packets.push(Vec::new());
        }
        if let Some(packet) = self.packets.get_mut(at) {
            packet.clear();
            write(packet);
            self.to.push(Some(to));
        }
    }

    /// Sends all. A datagram that the system refuses is lost, as any may be; its error comes back
    /// with the number that went.
    pub(super) fn send(&mut self, socket: &Socket) -> (usize, Option<io::Error>) {
        let (mut at, mut sent, mut refused) = (0, 0, None);
        while let (Some(to), Some(packets)) = (self.to.get(at..), self.packets.get(at..))
            && !to.is_empty()
        {
            let slices: Vec<[IoSlice<'_>; 1]> = packets
                .iter()
                .take(to.len())
                .map(|packet| [IoSlice::new(packet)])
                .collect();
            let gone = sendmmsg(
                socket.as_raw_fd(),
                &mut self.headers,
                &slices,
                to,
                [],
                MsgFlags::empty(),
            );
            match gone {
                Ok(gone) => {
                    // Short where the next one fails; the call after says how.
                    let gone = gone.count();
                    sent += gone;
                    at += gone.max(1);
                }
                Err(nix::errno::Errno::EINTR) => {}
                Err(error) => {
                    refused = Some(error.into());
                    at += 1;
                }
            }
        }
        self.to.clear();
        (sent, refused)
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::time::Duration;

    use super::*;

    fn sockets(addr: &str) -> (UdpSocket, Socket) {
        let addr: SocketAddr = addr.parse().expect("an address");
        let near = UdpSocket::bind(addr).expect("loopback");
        let far = UdpSocket::bind(addr).expect("loopback");
        let soon = Some(Duration::from_secs(5));
        near.set_read_timeout(soon).expect("settable");
        far.set_read_timeout(soon).expect("settable");
        (near, far.into())
    }

    #[test]
    fn every_datagram_comes_with_its_sender_and_goes_back_to_it() {
        for addr in ["127.0.0.1:0", "[::1]:0"] {
            let (near, far) = sockets(addr);
            let to = far.local_addr().expect("bound").as_socket().expect("IP");
            let (mut inbox, mut outbox) = (Inbox::new(), Outbox::new());
            // More than a batch, again and again, of every length.
            for round in 0..3_usize {
                let sent: Vec<Vec<u8>> = (0..BATCH + 9)
                    .map(|n| vec![n as u8; (n * 53 + round) % 1400])
                    .collect();
                for packet in &sent {
                    near.send_to(packet, to).expect("sent");
                }
                let mut heard = 0;
                while heard < sent.len() {
                    inbox.receive(&far).expect("something came");
                    for (raw, from, packet) in inbox.packets() {
                        assert_eq!(from, near.local_addr().expect("bound"));
                        assert_eq!(packet, sent[heard]);
                        heard += 1;
                        outbox.put(raw, |out| out.extend_from_slice(packet));
                    }
                    let (gone, refused) = outbox.send(&far);
                    assert!(refused.is_none() && gone > 0, "{refused:?}");
                }
                let mut buf = [0; 4096];
                for packet in &sent {
                    let (len, from) = near.recv_from(&mut buf).expect("it came back");
                    assert_eq!((from, &buf[..len]), (to, &packet[..]));
                }
            }
        }
    }

    #[test]
    fn a_long_datagram_is_cut_and_one_that_cannot_be_sent_keeps_no_other_back() {
        let (near, far) = sockets("127.0.0.1:0");
        let to = far.local_addr().expect("bound").as_socket().expect("IP");
        let (mut inbox, mut outbox) = (Inbox::new(), Outbox::new());
        near.send_to(&[7; 5000], to).expect("sent");
        inbox.receive(&far).expect("it came");
        let (back, _, packet) = inbox.packets().next().expect("it came");
        assert_eq!(packet, [7; PACKET_LEN_MAX]);
        let other_family: SocketAddr = "[::1]:9".parse().expect("an address");
        outbox.put(back, |out| out.push(1));
        outbox.put(other_family.into(), |out| out.push(2));
        outbox.put(back, |out| out.push(3));
        let (gone, refused) = outbox.send(&far);
        assert!(gone == 2 && refused.is_some(), "{gone} {refused:?}");
        let mut buf = [0; 9];
        for expected in [1, 3] {
            assert_eq!(near.recv(&mut buf).expect("it came"), 1);
            assert_eq!(buf[0], expected);
        }
    }
}
